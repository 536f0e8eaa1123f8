import Runtime

/// The directory that names were last looked up in, from one loop: requests in one directory follow each other, and each has to
/// know who may look there. It holds for as long as nothing in the file system has changed.
final class DirectoryGlance: Sendable {
    private struct Last {
        var file: Attributes
        var newest: UInt64
    }

    private let last = Guarded<Last?>(nil)

    /// `newest`: the number of the newest change, from before anything else is asked.
    func look(_ directory: FileID, _ newest: UInt64) -> Attributes? {
        last.withLock { last in
            guard let last, last.newest == newest, last.file.file == directory else { return nil }
            return last.file
        }
    }

    func keep(_ directory: Attributes, _ newest: UInt64) {
        last.withLock { $0 = Last(file: directory, newest: newest) }
    }
}

import Runtime

/// The directory that names were last looked up in, from one loop: requests in one directory follow each other, and each has to
/// know who may look there. It holds for as long as nothing in the file system has changed. Directories with lists are looked at anew.
final class DirectoryGlance: Sendable {
    private struct Last {
        var file: FileID
        var newest: UInt64
        var security: FileSecurity
    }

    private let last = Guarded<Last?>(nil)

    /// `newest`: the number of the newest change, from before anything else is asked.
    @inline(__always)
    func look(_ directory: FileID, _ newest: UInt64) -> FileSecurity? {
        last.withLock { last in
            guard let last, last.newest == newest, last.file == directory else { return nil }
            return last.security
        }
    }

    func keep(_ directory: FileID, _ security: FileSecurity, _ newest: UInt64) {
        last.withLock { $0 = Last(file: directory, newest: newest, security: security) }
    }
}

import Runtime

/// Who says that he has mounted what. Clients tell it, few of them tell the end, and nothing depends on it but what
/// `showmount` shows.
final class MountTable: Sendable {
    static let entriesMax = 4096

    struct Entry: Hashable {
        var host: String
        var path: String
    }

    /// The oldest first.
    private let entries = Guarded<[Entry]>([])

    var all: [Entry] { entries.withLock { $0 } }

    func add(_ entry: Entry) {
        entries.withLock { entries in
            if let index = entries.firstIndex(of: entry) { entries.remove(at: index) }
            if entries.count == Self.entriesMax { entries.removeFirst() }
            entries.append(entry)
        }
    }

    func remove(_ entry: Entry) { entries.withLock { $0.removeAll { $0 == entry } } }
    func removeAll(of host: String) { entries.withLock { $0.removeAll { $0.host == host } } }
}

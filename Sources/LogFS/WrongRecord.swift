/// A record that this program can not have written: somebody else's making, or a newer program's. Checksums show what a disk or
/// a network did to it, and nothing of who wrote it.
struct WrongRecord: Error, Equatable {
    /// Of its key.
    var id: UInt64
    var kind: KeyLayout.Kind

    init(_ id: UInt64, _ kind: KeyLayout.Kind) {
        self.id = id
        self.kind = kind
    }

    var text: String {
        let number = id & (KeyLayout.forkNumbers - 1)
        let owner =
            id == 0
            ? "the subvolume"
            : id & KeyLayout.forkSpace != 0
                ? "fork \(id & ~KeyLayout.forkSpace)"
                : id & KeyLayout.directorySpace != 0 ? "directory \(number)" : "inode \(number)"
        return "\(owner): its record \"\(kind)\" is not one that this program writes"
    }
}

extension Halt {
    static func wrong(_ id: UInt64, _ kind: KeyLayout.Kind) -> Halt { .damaged(WrongRecord(id, kind)) }
}

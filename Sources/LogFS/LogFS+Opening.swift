import Headhunter
import Runtime

/// What goes on in the background. On the volume's loop.
struct Housekeeping {
    var timer: LoopTimer?
    var isClosing = false
    /// Whose results are looked at next.
    var tokenClient: UInt64 = 0
}

extension LogFS {
    /// Makes an empty subvolume in the tree `subvolume`, if there is none, and opens it.
    public static func open(
        _ headhunter: Headhunter, world: World, subvolume: UInt32, options: LogFSOptions = LogFSOptions()
    ) async throws(Failure) -> LogFS {
        precondition(subvolume > 0, "the tree 0 is the engine's")
        let now = world.clock.wall()
        let key = (world.random.next(), world.random.next())
        let scratch = Scratch()
        defer { scratch.deallocate() }
        let record: SubvolumeRecord
        let root: FileID
        do throws(VolumeError) {
            let writer = Writer(foldedHash: FoldedHash(key), changeFloor: Inode.floor(ofEpoch: headhunter.epoch))
            ((record, root), _) = try await headhunter.change { (change) throws(Missing) -> (SubvolumeRecord, FileID) in
                let edit = Editing(bare: change, tree: subvolume, scratch: scratch, writer: writer)
                if let value = try change.get(subvolume, scratch.key(0, .subvolume)) {
                    let record = SubvolumeRecord(value)
                    guard let root = try change.get(subvolume, scratch.key(LogFS.root, .inode)) else {
                        preconditionFailure("a subvolume without a root directory")
                    }
                    // An earlier program's directories knew nothing of streams.
                    guard root.count >= Inode.directorySize else { return (record, FileID(inode: 0, generation: 0)) }
                    return (record, Inode(LogFS.root, root).id)
                }
                let record = SubvolumeRecord(foldKey: key)
                var inode = Inode()
                inode.number = LogFS.root
                inode.type = .directory
                inode.mode = 0o1777
                inode.links = 2
                inode.accessed = now
                inode.modified = now
                inode.changed = now
                inode.born = now
                inode.change = Inode.floor(ofEpoch: headhunter.epoch)
                inode.generation = headhunter.epoch
                inode.parent = LogFS.root
                inode.nextCookie = LogFS.firstCookie
                inode.nextInode = LogFS.root + 1
                inode.inodesEnd = LogFS.root + Limits.inodeRange
                edit.store(record)
                edit.store(inode)
                return (record, inode.id)
            }
        } catch { throw .volume(error) }
        guard root.inode == LogFS.root else {
            throw .volume(
                .unknownFormat("its directories were written by an earlier program, which this one does not read"))
        }
        guard record.foldVersion == FoldTable.version else {
            throw .volume(
                .unknownFormat(
                    "names were folded with table \(record.foldVersion), this program has \(FoldTable.version)"))
        }
        let files = LogFS(
            headhunter: headhunter, clock: world.clock, subvolume: subvolume, record: record, root: root,
            loops: world.loops.count,
            options: options)
        try await files.recover()
        return files
    }

    private func recover() async throws(Failure) {
        try await recoverTotals()
        try await finishTails()
        try await collectOrphans()
    }

    private static let recoverySlice = 64

    /// Finds again what was on its way up when the last owner stopped.
    private func recoverTotals() async throws(Failure) {
        var next: UInt64 = 0
        var more = true
        while more {
            let from = next
            let marked = try await run { reader in
                self.read(reader) { (records) throws(Halt) in
                    try records.numbers(.unsettled, from: from, limit: Self.recoverySlice)
                }
            }.value
            for directory in marked {
                try await run { reader in
                    self.readWithWriter(reader) { (records, writer) throws(Halt) in
                        guard let inode = try records.inode(directory), inode.links > 0 else { return }
                        let slot = try records.slot(directory, writer)
                        let sums = try records.sums(directory)
                        guard !writer.totals[slot].isUnsettled else { return }
                        writer.totals.settle(slot, true)
                        writer.totals.addAbove(slot, inode.own + sums.below - sums.told)
                    }
                }
            }
            more = marked.count == Self.recoverySlice
            if let last = marked.last { next = last + 1 }
        }
    }
}

extension Records {
    /// The sub-keys of one of the subvolume's lists.
    func numbers(_ kind: KeyLayout.Kind, from start: UInt64, limit: Int) throws(Halt) -> [UInt64] {
        var numbers: [UInt64] = []
        try scan(from: scratch.key(0, kind, start), budget: limit) { key, _ in
            guard key.isKey(0, kind) else { return false }
            numbers.append(key.keyNumber())
            return true
        }
        return numbers
    }
}

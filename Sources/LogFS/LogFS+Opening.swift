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
        let scratch = Scratch()
        defer { scratch.deallocate() }
        let found: (record: SubvolumeRecord, root: FileID)
        do throws(VolumeError) {
            if let there = try await find(headhunter, subvolume, scratch) {
                found = there
            } else {
                found = try await make(headhunter, subvolume, scratch, world)
            }
        } catch { throw .volume(error) }
        let (record, root) = found
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

    /// Nil: the tree is empty.
    private static func find(
        _ headhunter: Headhunter, _ subvolume: UInt32, _ scratch: Scratch
    ) async throws(VolumeError) -> (SubvolumeRecord, FileID)? {
        var isEarlier = false
        let found = try await headhunter.read { (view) throws(Missing) -> (SubvolumeRecord?, FileID?)? in
            guard let value = try view.get(subvolume, scratch.key(0, .subvolume)) else { return nil }
            let record = SubvolumeRecord(value)
            let root = try view.get(subvolume, scratch.key(LogFS.root, .inode))
            // An earlier program's directories knew nothing of streams.
            isEarlier = root.map { $0.isRecord(of: Inode.earlierDirectorySize) } ?? false
            let inode = root.flatMap { Inode(LogFS.root, $0) }
            return (record, inode.flatMap { $0.isDirectory ? $0.id : nil })
        }
        guard let found else { return nil }
        guard !isEarlier else {
            throw .unknownFormat("its directories were written by an earlier program, which this one does not read")
        }
        guard let record = found.0, let root = found.1 else {
            throw .damaged("the subvolume \(subvolume) or its root directory makes no sense")
        }
        return (record, root)
    }

    private static func make(
        _ headhunter: Headhunter, _ subvolume: UInt32, _ scratch: Scratch, _ world: World
    ) async throws(VolumeError) -> (SubvolumeRecord, FileID) {
        let now = world.clock.wall()
        let record = SubvolumeRecord(foldKey: (world.random.next(), world.random.next()))
        let writer = Writer(
            foldedHash: FoldedHash(record.foldKey), changeFloor: Inode.floor(ofEpoch: headhunter.epoch))
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
        let root = inode
        _ = try await headhunter.change { (change) throws(Missing) in
            let edit = Editing(bare: change, tree: subvolume, scratch: scratch, writer: writer)
            edit.store(record)
            edit.store(root)
        }
        return (record, root.id)
    }

    private func recover() async throws(Failure) {
        try await recoverTotals()
        // Who only reads leaves what is half done as it is.
        guard !headhunter.isReadOnly else { return }
        try await finishTails()
        try await collectOrphans()
    }

    /// The trees are those of another state now: what was on its way up is found again. Of a volume that is only read.
    public func moved() async {
        withWriter { writer in
            writer.totals = TotalsTable()
            _ = writer.totals.insert(Self.root, parent: TotalsTable.none)
        }
        // Who asks for sums meets what is wrong himself.
        try? await recoverTotals()
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
                // What is damaged there keeps nobody from the others.
                try await unlessDamaged { () async throws(Failure) in
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
            }
            more = marked.count == Self.recoverySlice
            guard let last = marked.last, last < .max else { return }
            next = last + 1
        }
    }

    /// Damage of one file is met again by whoever uses it.
    func unlessDamaged<Value>(_ body: () async throws(Failure) -> Value) async throws(Failure) {
        do throws(Failure) { _ = try await body() } catch {
            guard case .volume(.damaged) = error else { throw error }
        }
    }
}

extension Records {
    /// The sub-keys of one of the subvolume's lists.
    func numbers(_ kind: KeyLayout.Kind, from start: UInt64, limit: Int) throws(Halt) -> [UInt64] {
        var numbers: [UInt64] = []
        try scan(from: scratch.key(0, kind, start), budget: limit) { (key, _) throws(Halt) in
            guard key.isKey(0, kind) else { return false }
            guard let number = key.subKeyNumber else { throw .wrong(0, kind) }
            numbers.append(number)
            return true
        }
        return numbers
    }
}

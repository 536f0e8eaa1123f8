import Headhunter

extension LogFS {
    /// Directories settled in one change: each costs four keys.
    static let settleBatch = 12

    /// All files, directories and bytes below a directory, exact.
    public func totals(_ request: Request, _ id: FileID) -> Attempt<Totals> {
        readWithWriter(request.reader) { (records, writer) throws(Halt) in
            let inode = try records.directory(id)
            let slot = try records.slot(inode.number, writer)
            return inode.own + (try records.sums(inode.number)).below + writer.totals[slot].pending
        }
    }

    /// Lets some directories tell their parents what happened in them. Answers whether there may be more.
    public func settle(_ request: Request) -> Attempt<Bool> {
        change(request.reader) { (edit) throws(Halt) in try edit.settleSome() }
    }
}

extension Records {
    /// The directory's slot; its ancestors get theirs on the way.
    func slot(_ directory: UInt64, _ writer: Writer) throws(Halt) -> Int32 {
        if let slot = writer.totals.slot(directory) { return slot }
        var chain = [directory]
        // The way up may lead round in a circle, in records of somebody else's making.
        var mark = directory
        while true {
            guard let last = chain.last, let inode = try inode(last) else { throw .refused(.stale) }
            guard inode.parent != mark else { throw .wrong(directory, .inode) }
            if chain.count & (chain.count - 1) == 0 { mark = last }
            if let slot = writer.totals.slot(inode.parent) {
                var parent = slot
                for number in chain.reversed() { parent = writer.totals.insert(number, parent: parent) }
                return parent
            }
            chain.append(inode.parent)
        }
    }
}

extension Editing {
    func slot(_ directory: UInt64) throws(Halt) -> Int32 { try slot(directory, writer) }

    /// Counts what changes in a directory, in its own record and for all above it. The caller stores the record.
    func count(_ directory: inout Inode, _ slot: Int32, _ delta: Totals) {
        guard !delta.isZero else { return }
        directory.own += delta
        writer.effects.append(.counted(directory: slot, delta))
        unsettle(directory.number, slot)
    }

    func unsettle(_ directory: UInt64, _ slot: Int32) {
        guard directory != LogFS.root, !writer.totals[slot].isUnsettled else { return }
        mark(scratch.key(0, .unsettled, directory))
        writer.effects.append(.unsettled(slot))
    }

    /// What came to a file, or went: its bytes count where its first name is, those of a stream where its file's do.
    func countBytes(_ inode: Inode, _ delta: Int64) throws(Halt) {
        guard delta != 0 else { return }
        if inode.isStream {
            guard var owner = try self.inode(inode.cookie) else { return }
            try countStreams(&owner, delta)
            return store(owner)
        }
        try count(in: inode.parent, Totals(bytes: delta))
    }

    /// What came to the streams of a file, or went. The caller stores its record.
    func countStreams(_ owner: inout Inode, _ delta: Int64) throws(Halt) {
        // Sums count on beyond the largest number, as those of directories do: what goes takes away what came.
        owner.streamBytes = owner.streamBytes &+ UInt64(bitPattern: delta)
        let totals = Totals(streams: delta)
        guard owner.isDirectory else { return try count(in: owner.parent, totals) }
        // One that is gone and open has no place any more.
        if owner.links > 0 { count(&owner, try slot(owner.number), totals) }
    }

    func count(in directory: UInt64, _ delta: Totals) throws(Halt) {
        guard !delta.isZero, directory != 0, var home = try inode(directory) else { return }
        count(&home, try slot(directory), delta)
        store(home)
    }

    /// Answers whether there was one.
    func settleSome() throws(Halt) -> Bool {
        let some = writer.totals.unsettled(limit: LogFS.settleBatch, from: writer.nextSettling)
        // The deepest first: what one tells its parent is news of the parent's.
        let ordered = some.found.map { (slot: $0, depth: writer.totals.depth($0)) }.sorted { $0.depth > $1.depth }
        // Also when one of them is damaged: it must not keep the others.
        writer.nextSettling = some.next
        for next in ordered { try settle(next.slot) }
        return !some.found.isEmpty
    }

    func settle(_ slot: Int32) throws(Halt) {
        let node = writer.totals[slot]
        guard node.parent != TotalsTable.none, let inode = try inode(node.inode) else { return }
        let parent = writer.totals[node.parent].inode
        var sums = try sums(inode.number)
        let news = inode.own + sums.below - sums.told
        delete(scratch.key(0, .unsettled, inode.number))
        if !news.isZero {
            sums.told += news
            store(sums, of: inode.number)
            var above = try self.sums(parent)
            above.below += news
            store(above, of: parent)
            unsettle(parent, node.parent)
        }
        writer.effects.append(.settled(slot, news))
    }
}

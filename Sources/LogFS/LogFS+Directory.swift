import Headhunter

/// An entry of a directory as `list` shows it. The name is valid inside the closure that got it.
public struct Listed {
    public var entry: Entry
    /// Only if it was asked for.
    public var inode: Inode?
}

extension LogFS {
    /// Also `.` and `..`; the parent of the root is the root.
    public func lookup(_ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Inode> {
        var found = Inode()
        let attempt = lookup(request, in: directory, name) { found = $0 }
        return attempt.with(found)
    }

    /// The same for who needs something else of it: shown where it stands, as a record that was just read is slow to copy. What was
    /// shown last counts.
    public func lookup(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ show: (Inode) -> Void
    ) -> Attempt<Void> {
        let glance = glance
        let attempt = read(request.reader) { (records) throws(Halt) -> FileID? in
            let inode = try records.find(directory, name)
            show(inode)
            return inode.type == .file ? inode.id : nil
        }
        guard glance.isDirty, case .done(let file?, _) = attempt else { return attempt.with(()) }
        return showOverlaid(request.reader, file, since: glance, show) ?? attempt.with(())
    }

    /// Whatever the case of `name`; a name in the very same case wins. `found` gets the entry's true name.
    public func lookupFolded(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void = { _ in }
    ) -> Attempt<Inode> {
        let glance = glance
        let attempt = read(request.reader) { (records) throws(Halt) -> Inode in
            guard name.count <= Limits.nameBytesMax else { throw .refused(.nameTooLong) }
            let home = try records.directory(directory)
            guard let entry = try records.folded(home.number, name, foldedHash, found: found),
                let inode = try records.inode(entry.inode)
            else { throw .refused(.noEntry) }
            return inode
        }
        return complete(attempt, since: glance, request.reader)
    }

    /// Shows entries behind `cookie` (0: from the first on), in the order of their cookies, until `visit` answers
    /// false or `limit` were shown. Answers whether there are more.
    ///
    /// Attributes are fetched in runs: the inodes of a directory lie side by side. The names are copied once.
    public func list(
        _ request: Request, _ directory: FileID, after cookie: UInt64, limit: Int = Limits.listingMax,
        attributes: Bool = false, _ visit: (Listed, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        let limit = min(limit, Limits.listingMax)
        let batch = Batch()
        let glance = glance
        let attempt = read(request.reader) { (records) throws(Halt) -> Bool in
            batch.reset()
            let home = try records.directory(directory)
            guard cookie < .max else { return false }
            let id = home.number | KeyLayout.directorySpace
            let more = try records.scan(from: records.scratch.key(id, .cookie, cookie + 1), budget: limit) {
                (key, value) throws(Halt) in
                guard key.isKey(id, .cookie) else { return false }
                guard let cookie = key.subKeyNumber, let entry = Entry(cookie: cookie, value) else {
                    throw .wrong(id, .cookie)
                }
                batch.append(entry, Entry.name(value))
                return true
            }
            if attributes { try records.fill(batch) }
            return more
        }
        guard case .done(let more, _) = attempt else { return attempt }
        for index in batch.entries.indices {
            var inode = attributes ? batch.inodes[index] : nil
            if let record = inode, glance.isDirty {
                switch complete(record, since: glance, request.reader) {
                case .done(let whole, _): inode = whole
                case .refused: inode = nil
                case let other: return other.with(true)
                }
            }
            let goOn = batch.withName(index) { visit(Listed(entry: batch.entries[index], inode: inode), $0) }
            if !goOn { return .done(true, number: 0) }
        }
        return .done(more, number: 0)
    }
}

/// Entries of a directory with their names, copied out so that `visit` runs outside of the gate.
final class Batch {
    private(set) var entries: [Entry] = []
    var inodes: [Inode?] = []
    private var names: [UInt8] = []
    private var ends: [Int] = []

    func reset() {
        entries.removeAll(keepingCapacity: true)
        names.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
        inodes.removeAll(keepingCapacity: true)
    }

    func append(_ entry: Entry, _ name: UnsafeRawBufferPointer) {
        entries.append(entry)
        names.append(contentsOf: name)
        ends.append(names.count)
    }

    func withName<Result>(_ index: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        let start = index == 0 ? 0 : ends[index - 1]
        return names.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start..<ends[index]])) }
    }
}

extension Records {
    /// Inodes that lie this close are read in one run.
    private var runGapMax: UInt64 { 8 }
    /// Records that a run may meet between its inodes: a file of many names has as many, and a writer waits meanwhile.
    private var runExtraMax: Int { 64 }

    func fill(_ batch: Batch) throws(Halt) {
        batch.inodes = Array(repeating: nil, count: batch.entries.count)
        let order = batch.entries.indices.sorted { batch.entries[$0].inode < batch.entries[$1].inode }
        var place = 0
        while place < order.count {
            var end = place + 1
            while end < order.count,
                batch.entries[order[end]].inode - batch.entries[order[end - 1]].inode <= runGapMax
            { end += 1 }
            let last = batch.entries[order[end - 1]].inode
            let first = batch.entries[order[place]].inode
            var next = place
            let budget = Int(clamping: last - first) + 1 + runExtraMax
            let isCut = try scan(from: scratch.key(first, .inode), budget: budget) { (key, value) throws(Halt) in
                let number = key.keyNumber(at: 0)
                guard number <= last else { return false }
                guard key[8] == KeyLayout.Kind.inode.rawValue else { return true }
                while next < end, batch.entries[order[next]].inode < number { next += 1 }
                while next < end, batch.entries[order[next]].inode == number {
                    // Not left out: who mirrors this directory elsewhere would take the file for removed.
                    guard let inode = Inode(number, value) else { throw .wrong(number, .inode) }
                    batch.inodes[order[next]] = inode
                    next += 1
                }
                return next < end
            }
            if isCut {
                while next < end {
                    batch.inodes[order[next]] = try inode(batch.entries[order[next]].inode)
                    next += 1
                }
            }
            place = end
        }
    }
}

extension Reading {
    /// What the name leads to, also `.` and `..`.
    @inline(__always)
    fileprivate func find(_ directory: FileID, _ name: UnsafeRawBufferPointer) throws(Halt) -> Inode {
        if name.count <= 2, name.count > 0, name[0] == 0x2e, name.count == 1 || name[1] == 0x2e {
            let home = try self.directory(directory)
            guard name.count == 2 else { return home }
            guard let parent = try inode(home.parent) else { throw .refused(.stale) }
            return parent
        }
        guard name.count <= Limits.nameBytesMax else { throw .refused(.nameTooLong) }
        try expectDirectory(directory, name)
        guard let entry = try entry(directory.inode, name), let inode = try inode(entry.inode) else {
            throw .refused(.noEntry)
        }
        return inode
    }
}

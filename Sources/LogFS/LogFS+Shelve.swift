import Headhunter

/// Where a file goes on that gives its name up to another one, or to nobody. The name is read until the call returns.
public struct Shelf {
    public var directory: FileID
    public var name: UnsafeRawBufferPointer

    public init(directory: FileID, name: UnsafeRawBufferPointer) {
        self.directory = directory
        self.name = name
    }
}

/// Older versions of files: a file leaves its name and gets another one in the same change, so that there is no moment,
/// and no crash, at which it has none or the name leads to nothing.
extension LogFS {
    /// An extended attribute of this name locks a file: no change of its data is made, and `detach` lets it go by no name. Who may
    /// end the lock removes the attribute, or the name with it (`Expected.judged`).
    static let lockName = Array("proxyfs.lock".utf8)

    /// Makes a change from which on nobody may write to the file: with nothing written that is not in the tree, and nobody at
    /// work on it.
    func stopping<Value>(_ reader: Int, _ inode: UInt64, _ change: () -> Attempt<Value>) -> Attempt<Value> {
        let attempt = files.locked(inode) { state -> Attempt<Value>? in
            guard state.map({ $0.pieces.isEmpty && !$0.isBusy }) ?? true else { return nil }
            let attempt = change()
            // A write that found the file free before this goes in nowhere after it.
            if case .done = attempt { files.stop() }
            return attempt
        }
        return attempt ?? busy(reader, inode)
    }

    /// The same of a file with its streams. One that is made meanwhile moves the file's counter, which `change` looks at.
    func stoppingAll<Value>(_ reader: Int, _ id: FileID, _ change: () -> Attempt<Value>) -> Attempt<Value> {
        let streams: [UInt64]
        switch streamNumbers(reader, id) {
        case .done(let found, _): streams = found
        case .refused(let error): return .refused(error)
        case .missing: return .missing
        case .full: return .full
        case .busy: return .busy
        case .failed(let error): return .failed(error)
        }
        for stream in streams { files.claim(stream) }
        defer { for stream in streams { files.unclaim(stream) } }
        for stream in streams where files.isDirty(stream) { return busy(reader, stream) }
        return stopping(reader, id.inode, change)
    }

    private func streamNumbers(_ reader: Int, _ id: FileID) -> Attempt<[UInt64]> {
        read(reader) { (records) throws(Halt) -> [UInt64] in
            let file = try records.inode(id)
            guard file.streams > 0, file.extras != 0 else { return [] }
            var found: [UInt64] = []
            let first = UnsafeRawBufferPointer(start: nil, count: 0)
            _ = try records.names(file.extras, .stream, after: first, limit: Limits.streamsMax) {
                (_, value) throws(Halt) in
                guard let number = value.recordNumber else { throw .wrong(file.extras | KeyLayout.forkSpace, .stream) }
                found.append(number)
            }
            return found
        }
    }

    /// The same of a change by which a file goes to a shelf.
    func shelving<Value>(
        _ reader: Int, _ shelf: Shelf?, _ expected: Expected, _ change: () -> Attempt<Value>
    ) -> Attempt<Value> {
        guard shelf != nil, let compared = expected.compared else { return change() }
        return stoppingAll(reader, compared.id, change)
    }

    /// Takes a name away from a file that is expected there; it goes to the shelf if there is one and the file is a regular
    /// one. `marker`: an empty file that the same change makes, in the directory of the shelf if there is one.
    public func withdraw(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, expected: Expected,
        to shelf: Shelf?, leaving marker: ShelfMarker?
    ) -> Attempt<Removed> {
        let epoch = headhunter.epoch
        let attempt = shelving(request.reader, shelf, expected) {
            change(request.reader) { (edit) throws(Halt) -> Removed in
                var home = try edit.directory(directory)
                try LogFS.check(name)
                guard expected != .nothing else { throw .refused(.exists) }
                guard let entry = try edit.entry(home.number, name), var inode = try edit.inode(entry.inode) else {
                    throw .refused(.noEntry)
                }
                try expected.check(inode)
                guard !inode.isDirectory else { throw .refused(.isDirectory) }
                if marker != nil { try needSpace() }
                let slot = try edit.slot(home.number)
                var elsewhere: UInt64?
                var leaves: Totals
                if let shelf, inode.type == .file {
                    leaves = -(try edit.shelve(&inode, entry, from: home.number, to: shelf, marker, epoch, request.now))
                } else {
                    if let marker { try edit.leave(marker, besides: home.number, epoch, request.now) }
                    let away = try edit.detach(
                        &inode, from: home.number, entry, request.now, endsLock: expected.endsLock)
                    (leaves, elsewhere) = (away.here, away.elsewhere)
                }
                edit.deleteEntry(home.number, name, entry)
                home.modified = request.now
                edit.touch(&home, request.now)
                edit.count(&home, slot, leaves)
                edit.store(home)
                if let elsewhere { try edit.count(in: elsewhere, inode.load) }
                return Removed(inode: inode, directory: home)
            }
        }
        if case .done(let removed, _) = attempt { forget(removed.inode) }
        return attempt
    }
}

/// An empty file that says that from then on there was none. The name is read until the call returns.
public struct ShelfMarker {
    public var directory: FileID
    public var name: UnsafeRawBufferPointer
    public var file: NewFile

    public init(directory: FileID, name: UnsafeRawBufferPointer, file: NewFile) {
        self.directory = directory
        self.name = name
        self.file = file
    }
}

extension Editing {
    /// Gives a file that has the name `entry` in the directory `home` one on the shelf instead. Answers what it counted for
    /// at home; the entry there and the directory's record are the caller's.
    func shelve(
        _ inode: inout Inode, _ entry: Entry, from home: UInt64, to shelf: Shelf,
        _ marker: ShelfMarker?, _ epoch: UInt64, _ now: Int64
    ) throws(Halt) -> Totals {
        var target = try directory(shelf.directory)
        guard target.links > 0 else { throw .refused(.stale) }
        guard target.number != home else { throw .refused(.invalid) }
        let slot = try slot(target.number)
        let cookie = try enter(inode, shelf.name, &target)
        let isHome = inode.parent == home && inode.cookie == entry.cookie
        if inode.has(Inode.hasLinkRecords) {
            delete(scratch.key(inode.number, .link, home, entry.cookie))
            mark(scratch.key(inode.number, .link, target.number, cookie))
        }
        if isHome { (inode.parent, inode.cookie) = (target.number, cookie) }
        // By another name file clients go on writing to it.
        if inode.links == 1 { inode.flags |= Inode.isShelved }
        touch(&inode, now)
        store(inode)
        let share = Totals(files: 1) + (isHome ? inode.load : Totals())
        var comes = share
        if let marker {
            guard marker.directory == shelf.directory else { throw .refused(.invalid) }
            try enter(marker, &target, epoch, now)
            comes += Totals(files: 1)
        }
        target.modified = now
        touch(&target, now)
        count(&target, slot, comes)
        store(target)
        return share
    }

    /// The same without a file that goes there.
    func leave(_ marker: ShelfMarker, besides home: UInt64, _ epoch: UInt64, _ now: Int64) throws(Halt) {
        var target = try directory(marker.directory)
        guard target.links > 0 else { throw .refused(.stale) }
        guard target.number != home else { throw .refused(.invalid) }
        let slot = try slot(target.number)
        try enter(marker, &target, epoch, now)
        target.modified = now
        touch(&target, now)
        count(&target, slot, Totals(files: 1))
        store(target)
    }

    private func enter(
        _ marker: ShelfMarker, _ target: inout Inode, _ epoch: UInt64, _ now: Int64
    ) throws(Halt) {
        var mark = Inode()
        mark.number = try number(&target)
        mark.generation = epoch
        mark.begin(marker.file, now)
        mark.links = 1
        mark.parent = target.number
        mark.cookie = try enter(mark, marker.name, &target)
        store(mark)
    }

    private func enter(
        _ inode: Inode, _ name: UnsafeRawBufferPointer, _ directory: inout Inode
    ) throws(Halt) -> UInt64 {
        try LogFS.check(name)
        guard try entry(directory.number, name) == nil else { throw .refused(.exists) }
        let cookie = cookie(&directory)
        putEntry(directory.number, name, Entry(inode: inode.number, cookie: cookie, type: inode.type))
        return cookie
    }
}

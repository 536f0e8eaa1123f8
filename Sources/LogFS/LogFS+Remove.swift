import Headhunter

/// What `remove` did.
public struct Removed: Sendable {
    /// The file as it is without the name; `links` is 0 when that was its last one. Its number is 0 when this is the
    /// answer to a repeated request and the file is gone.
    public var inode: Inode
    public var directory: Inode
}

extension LogFS {
    /// Takes a name away from anything that is no directory.
    public func unlink(_ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Removed> {
        remove(request, directory, name, isDirectory: false)
    }

    /// Removes an empty directory.
    public func rmdir(_ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Removed> {
        remove(request, directory, name, isDirectory: true)
    }

    private func remove(
        _ request: Request, _ directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        let glance = glance
        let attempt = change(request.reader) { (edit) throws(Halt) -> Removed in
            edit.expectNames(directory, name)
            if let answer = try edit.answer(request) {
                return Removed(inode: try edit.inode(answer) ?? Inode(), directory: try edit.directory(directory))
            }
            var home = try edit.directory(directory)
            try LogFS.check(name)
            guard let entry = try edit.entry(home.number, name), var inode = try edit.inode(entry.inode) else {
                throw .refused(.noEntry)
            }
            guard isDirectory == inode.isDirectory else { throw .refused(isDirectory ? .notDirectory : .isDirectory) }
            let slot = try edit.slot(home.number)
            let away = try edit.detach(&inode, from: home.number, entry, request.now)
            edit.deleteEntry(home.number, name, entry)
            home.modified = request.now
            edit.touch(&home, request.now)
            if isDirectory { try home.loseLink() }
            edit.count(&home, slot, away.here)
            edit.store(home)
            if let elsewhere = away.elsewhere { try edit.count(in: elsewhere, inode.load) }
            try edit.remember(request, inode.number)
            return Removed(inode: inode, directory: home)
        }
        guard case .done(var removed, let number) = attempt else { return attempt }
        forget(removed.inode)
        if removed.inode.links > 0 { removed.inode = completed(removed.inode, since: glance, request.reader) }
        return .done(removed, number: number)
    }

    /// Data of a file without a name that nobody has open is of no use to anybody.
    func forget(_ inode: Inode) {
        guard inode.links == 0, inode.type == .file, files.hasDirty else { return }
        if withWriter({ !$0.isOpen(inode.number) }) { files.drop(inode.number, headhunter) }
    }
}

extension Inode {
    /// One name less, or one directory less in it.
    mutating func loseLink() throws(Halt) {
        guard links > 0 else { throw .wrong(number, .inode) }
        links -= 1
    }
}

/// What a name that goes means for the totals.
struct Detached {
    /// For the directory that the name was in.
    var here: Totals
    /// The directory that the file's bytes count in from now on, if they did count in the first one.
    var elsewhere: UInt64?
}

extension Editing {
    /// Takes one name from a file: the file goes with the last one, at once or when it is closed. The keys of the
    /// entry and the directory's record are the caller's. `endsLock`: a lock that it has is in nobody's way.
    func detach(
        _ inode: inout Inode, from directory: UInt64, _ entry: Entry, _ now: Int64, endsLock: Bool = false
    ) throws(Halt) -> Detached {
        touch(&inode, now)
        if inode.isDirectory {
            guard inode.entries == 0 else { throw .refused(.notEmpty) }
            let slot = try slot(inode.number)
            let told = try sums(inode.number).told
            // Nothing lies in it; its streams go with it.
            if !inode.own.isZero { writer.effects.append(.counted(directory: slot, -inode.own)) }
            inode.own = Totals()
            if writer.totals[slot].isUnsettled { delete(scratch.key(0, .unsettled, inode.number)) }
            delete(scratch.key(inode.number | KeyLayout.directorySpace, .sums))
            if !told.isZero {
                var above = try sums(directory)
                above.below -= told
                store(above, of: directory)
            }
            writer.effects.append(.removed(inode.number, told: told))
            inode.links = 0
            end(&inode)
            return Detached(here: Totals(directories: -1), elsewhere: nil)
        }
        guard endsLock || !inode.has(Inode.isLocked) else { throw .refused(.locked) }
        try inode.loseLink()
        let isHome = inode.parent == directory && inode.cookie == entry.cookie
        if inode.has(Inode.hasLinkRecords) {
            delete(scratch.key(inode.number, .link, directory, entry.cookie))
        }
        let leaving = -inode.load - Totals(files: 1)
        if inode.links == 0 {
            end(&inode)
            return Detached(here: leaving, elsewhere: nil)
        }
        guard isHome else {
            store(inode)
            return Detached(here: Totals(files: -1), elsewhere: nil)
        }
        var home: (directory: UInt64, cookie: UInt64)?
        let number = inode.number
        try scan(from: scratch.key(number, .link, 0, 0), budget: 3) { (key, _) throws(Halt) in
            guard key.isKey(number, .link) else { return false }
            guard let found = LinkKey(key) else { throw .wrong(number, .link) }
            // This one is going; the tree does not know it yet.
            if found.directory == directory, found.cookie == entry.cookie { return true }
            home = (found.directory, found.cookie)
            return false
        }
        // It has other names and does not know them.
        guard let home else { throw .wrong(number, .link) }
        inode.parent = home.directory
        inode.cookie = home.cookie
        store(inode)
        return Detached(here: leaving, elsewhere: home.directory)
    }

    /// The last name is gone.
    func end(_ inode: inout Inode) {
        inode.links = 0
        inode.parent = 0
        inode.flags &= ~Inode.isStream
        guard writer.isOpen(inode.number) else {
            erase(inode)
            return
        }
        store(inode)
        mark(scratch.key(0, .orphan, inode.number))
    }

    /// Takes a file out of the tree. What may be long is left to be reclaimed.
    func erase(_ inode: Inode) {
        delete(scratch.key(inode.number, .inode))
        if inode.type == .symlink { deleteTarget(inode) }
        abandon(inode)
        if inode.extras != 0 { mark(scratch.key(0, .reclaim, inode.extras)) }
    }

    /// The data fork is nobody's any more.
    func abandon(_ inode: Inode) {
        if inode.has(Inode.isInline) { delete(scratch.key(inode.fork | KeyLayout.forkSpace, .inline)) }
        if inode.has(Inode.hasExtents) { mark(scratch.key(0, .reclaim, inode.fork)) }
    }
}

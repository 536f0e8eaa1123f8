import Headhunter

public enum RenameMode: Sendable {
    /// What has the new name goes.
    case replace
    case refuseIfThere
    /// Both names stay, and lead to what the other one led to.
    case exchange
}

/// What `rename` did.
public struct Renamed: Sendable {
    /// Its number is 0 when this is the answer to a repeated request and the file is gone.
    public var inode: Inode
    /// What had the new name, as it is now.
    public var other: Inode?
    public var source: Inode
    public var target: Inode

    fileprivate static var nothing: Renamed { Renamed(inode: Inode(), other: nil, source: Inode(), target: Inode()) }
}

extension LogFS {
    /// A file that comes for another one brings its data along: `.busy` while it has some that is not flushed. `expected`: of
    /// what has the new name. `movesLocked`: a lock keeps no name, as of what comes back from a shelf.
    public func rename(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode = .replace, expected: Expected = .anything,
        movesLocked: Bool = false
    ) -> Attempt<Renamed> {
        let glance = glance
        if glance.isDirty, mode == .replace {
            let coming = read(request.reader) { (records) throws(Halt) -> UInt64? in
                guard name.count <= Limits.nameBytesMax, newName.count <= Limits.nameBytesMax,
                    let entry = try records.entry(source.inode, name), entry.type == .file,
                    try records.entry(target.inode, newName) != nil
                else { return nil }
                return entry.inode
            }
            guard case .done(let inode, _) = coming else { return coming.with(Renamed.nothing) }
            if let inode, files.isDirty(inode) { return busy(request.reader, inode) }
        }
        let attempt = change(request.reader) { (edit) throws(Halt) -> Renamed in
            if let answer = try edit.answer(request) {
                return Renamed(
                    inode: try edit.inode(answer) ?? Inode(), source: try edit.directory(source),
                    target: try edit.directory(target))
            }
            var move = try Move(edit, source, name, target, newName)
            try move.check(edit, mode, movesLocked: movesLocked)
            try expected.check(move.other)
            // Two names of one file: nothing happens.
            if let there = move.there, there.inode == move.entry.inode {
                return Renamed(inode: move.inode, other: move.inode, source: move.source, target: move.target)
            }
            if mode == .exchange {
                try move.exchange(edit, request.now)
            } else {
                try move.go(edit, request.now, endsLock: expected.endsLock)
            }
            try edit.remember(request, move.inode.number)
            return Renamed(inode: move.inode, other: move.other, source: move.source, target: move.target)
        }
        guard case .done(var renamed, let number) = attempt else { return attempt }
        if mode == .replace, let other = renamed.other { forget(other) }
        renamed.inode = completed(renamed.inode, since: glance, request.reader)
        return .done(renamed, number: number)
    }
}

/// A rename being planned. When both names are in one directory, `source` is its record and `target` a copy of it.
private struct Move {
    var source: Inode
    var target: Inode
    let isSame: Bool
    let name: UnsafeRawBufferPointer
    let newName: UnsafeRawBufferPointer
    let entry: Entry
    var inode: Inode
    let there: Entry?
    var other: Inode?
    let sourceSlot: Int32
    let targetSlot: Int32

    init(
        _ edit: Editing, _ source: FileID, _ name: UnsafeRawBufferPointer, _ target: FileID,
        _ newName: UnsafeRawBufferPointer
    ) throws(Halt) {
        self.source = try edit.directory(source)
        self.target = try edit.directory(target)
        try LogFS.check(name)
        try LogFS.check(newName)
        isSame = source == target
        self.name = name
        self.newName = newName
        guard let entry = try edit.entry(source.inode, name), let inode = try edit.inode(entry.inode) else {
            throw .refused(.noEntry)
        }
        self.entry = entry
        self.inode = inode
        there = try edit.entry(target.inode, newName)
        other = nil
        if let there { other = try edit.inode(there.inode) }
        sourceSlot = try edit.slot(source.inode)
        targetSlot = try edit.slot(target.inode)
    }

    func check(_ edit: Editing, _ mode: RenameMode, movesLocked: Bool) throws(Halt) {
        guard source.links > 0, target.links > 0 else { throw .refused(.stale) }
        // Whoever asked whether it has one may have asked before it came.
        guard movesLocked || !inode.has(Inode.isLocked) else { throw .refused(.locked) }
        if mode == .exchange, let other, other.has(Inode.isLocked) { throw .refused(.locked) }
        switch mode {
        case .refuseIfThere: guard there == nil else { throw .refused(.exists) }
        case .exchange: guard there != nil else { throw .refused(.noEntry) }
        case .replace: break
        }
        if inode.isDirectory, !isSame { try checkPlace(edit, inode, targetSlot) }
        guard let other, other.number != inode.number else { return }
        if mode == .exchange {
            if other.isDirectory, !isSame { try checkPlace(edit, other, sourceSlot) }
        } else {
            guard inode.isDirectory || !other.isDirectory else { throw .refused(.isDirectory) }
            guard !inode.isDirectory || other.isDirectory else { throw .refused(.notDirectory) }
            guard !other.isDirectory || other.entries == 0 else { throw .refused(.notEmpty) }
        }
    }

    private func checkPlace(_ edit: Editing, _ directory: Inode, _ place: Int32) throws(Halt) {
        let slot = try edit.slot(directory.number)
        guard !edit.writer.totals.isAncestor(slot, of: place) else { throw .refused(.loop) }
        guard edit.writer.totals.depth(place) < Limits.depthMax else { throw .refused(.tooDeep) }
    }

    mutating func go(_ edit: Editing, _ now: Int64, endsLock: Bool) throws(Halt) {
        var elsewhere: UInt64?
        var leaves = Totals()
        if let there, var other {
            let away = try edit.detach(&other, from: target.number, there, now, endsLock: endsLock)
            edit.deleteEntry(target.number, newName, there)
            if other.isDirectory { try target.loseLink() }
            leaves = away.here
            elsewhere = away.elsewhere
            self.other = other
        }
        edit.deleteEntry(source.number, name, entry)
        // Inside one directory the place stays: a listing under way meets the file once.
        let cookie = isSame ? entry.cookie : edit.cookie(&target)
        edit.putEntry(target.number, newName, Entry(inode: inode.number, cookie: cookie, type: inode.type))
        let share = try relocate(edit, &inode, (source, entry.cookie), (target, cookie), now)
        edit.store(inode)
        if isSame {
            target.modified = now
            edit.touch(&target, now)
            edit.count(&target, targetSlot, leaves)
            edit.store(target)
            source = target
        } else {
            if inode.isDirectory {
                try source.loseLink()
                target.links += 1
            }
            try finish(edit, now, -share, share + leaves)
        }
        if let elsewhere, let other { try edit.count(in: elsewhere, other.load) }
    }

    mutating func exchange(_ edit: Editing, _ now: Int64) throws(Halt) {
        guard let there, var other else { throw .refused(.noEntry) }
        edit.putEntry(source.number, name, Entry(inode: other.number, cookie: entry.cookie, type: other.type))
        edit.putEntry(target.number, newName, Entry(inode: inode.number, cookie: there.cookie, type: inode.type))
        let share = try relocate(edit, &inode, (source, entry.cookie), (target, there.cookie), now)
        let otherShare = try relocate(edit, &other, (target, there.cookie), (source, entry.cookie), now)
        edit.store(inode)
        edit.store(other)
        self.other = other
        if isSame {
            target.modified = now
            edit.touch(&target, now)
            edit.store(target)
            source = target
            return
        }
        if inode.isDirectory != other.isDirectory {
            if inode.isDirectory { try source.loseLink() } else { source.links += 1 }
            if inode.isDirectory { target.links += 1 } else { try target.loseLink() }
        }
        try finish(edit, now, otherShare - share, share - otherShare)
    }

    private mutating func finish(
        _ edit: Editing, _ now: Int64, _ atSource: Totals, _ atTarget: Totals
    ) throws(Halt) {
        source.modified = now
        edit.touch(&source, now)
        target.modified = now
        edit.touch(&target, now)
        edit.count(&source, sourceSlot, atSource)
        edit.count(&target, targetSlot, atTarget)
        edit.store(source)
        edit.store(target)
    }

    /// Brings a file's own record to its new place. Answers what it counts for in a directory.
    private func relocate(
        _ edit: Editing, _ file: inout Inode, _ from: (directory: Inode, cookie: UInt64),
        _ to: (directory: Inode, cookie: UInt64), _ now: Int64
    ) throws(Halt) -> Totals {
        let isHome = file.parent == from.directory.number && file.cookie == from.cookie
        if file.has(Inode.hasLinkRecords), from.directory.number != to.directory.number || from.cookie != to.cookie {
            edit.delete(edit.scratch.key(file.number, .link, from.directory.number, from.cookie))
            edit.mark(edit.scratch.key(file.number, .link, to.directory.number, to.cookie))
        }
        if file.isDirectory, from.directory.number != to.directory.number {
            let slot = try edit.slot(file.number)
            let sums = try edit.sums(file.number)
            let all = file.own + sums.below + edit.writer.totals[slot].pending
            if !sums.told.isZero {
                var above = try edit.sums(from.directory.number)
                above.below -= sums.told
                edit.store(above, of: from.directory.number)
                above = try edit.sums(to.directory.number)
                above.below += sums.told
                edit.store(above, of: to.directory.number)
            }
            // Also where one directory comes for another, and the directory itself counts the same as before.
            let target = try edit.slot(to.directory.number)
            edit.unsettle(from.directory.number, try edit.slot(from.directory.number))
            edit.unsettle(to.directory.number, target)
            edit.writer.effects.append(
                .moved(file.number, to: target, told: sums.told, all: all))
        }
        if isHome {
            file.parent = to.directory.number
            file.cookie = to.cookie
        }
        // Where it goes now it is the file of its name.
        file.flags &= ~Inode.isShelved
        edit.touch(&file, now)
        if file.isDirectory { return Totals(directories: 1) }
        return Totals(files: 1) + (isHome ? file.load : Totals())
    }
}

import Glibc
import Headhunter

/// What `place` did.
public struct Placed: Sendable {
    public var inode: Inode
    public var directory: Inode
    /// What had the name before, as it is now.
    public var other: Inode?
}

/// Files that appear under their name complete, in one change: whoever looks sees the old content or the new one.
extension LogFS {
    /// Longest content that `place` takes in one call.
    public static let placeBytesMax = 256 << 10
    /// Attributes of one `place`, and their bytes: with all else they stay within one change.
    public static let placeAttributesMax = 12
    public static let placeAttributeBytesMax = 16 << 10

    /// Makes a file with this content under a name, in the place of the file that has it now, which goes to the shelf if there
    /// is one.
    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, attributes: [Attribute] = [], seal: Seal? = nil, expected: Expected = .anything,
        shelf: Shelf? = nil
    ) -> Attempt<Placed> {
        guard content.count <= Self.placeBytesMax else { return .refused(.fileTooBig) }
        guard attributes.count <= Self.placeAttributesMax,
            attributes.reduce(0, { $0 + $1.value.count }) <= Self.placeAttributeBytesMax
        else { return .refused(.tooManyAttributes) }
        guard !headhunter.isShortOfSpace else { return .refused(.noSpace) }
        var range: SegmentRange?
        if content.count > Limits.inlineBytesMax {
            range = appended(content, request.reader) ?? headhunter.append(content, heat: .small)
            guard range != nil else { return .full }
        }
        let epoch = headhunter.epoch
        let attempt = shelving(request.reader, shelf, expected) {
            change(request.reader) { (edit) throws(Halt) -> Placed in
                try needSpace()
                var home = try edit.directory(directory)
                try LogFS.check(name)
                guard home.links > 0 else { throw .refused(.stale) }
                var inode = Inode()
                inode.number = try edit.number(&home)
                inode.generation = epoch
                inode.begin(new, request.now)
                try edit.putContent(&inode, content, range)
                try edit.putAttributes(&inode, attributes)
                inode.seal = seal
                return try edit.place(&inode, &home, name, expected, shelf, request.now)
            }
        }
        guard case .done(let placed, _) = attempt else {
            switch attempt {
            // The same call comes again: its content need not be stored once more.
            case .missing, .full, .busy: memos[request.reader].appended = range
            default: if let range { headhunter.discard(range) }
            }
            return attempt
        }
        if let other = placed.other { forget(other) }
        return attempt
    }

    /// Where this very content was appended by the reader's last call, if that came to nothing. Anything else that was is given up.
    private func appended(_ content: UnsafeRawBufferPointer, _ reader: Int) -> SegmentRange? {
        guard let range = memos[reader].appended else { return nil }
        memos[reader].appended = nil
        let isSame =
            Int(range.length) == content.count
            && withUnsafeTemporaryAllocation(byteCount: content.count, alignment: 16) { memory -> Bool in
                guard headhunter.tryReadData(segment: range.segment, offset: range.offset, into: memory),
                    let one = memory.baseAddress, let other = content.baseAddress
                else { return false }
                return memcmp(one, other, content.count) == 0
            }
        if isSame { return range }
        headhunter.discard(range)
        return nil
    }

    /// Makes a file without a name, open once for the caller: it goes with the last `close` unless it was placed, and
    /// with a crash. Its record lies near those of `directory`.
    public func createNameless(_ request: Request, near directory: FileID, _ new: NewFile) -> Attempt<Inode> {
        let epoch = headhunter.epoch
        return change(request.reader) { (edit) throws(Halt) -> Inode in
            try needSpace()
            var home = try edit.directory(directory)
            guard home.links > 0 else { throw .refused(.stale) }
            var inode = Inode()
            inode.number = try edit.number(&home)
            inode.generation = epoch
            inode.begin(new, request.now)
            edit.store(inode)
            edit.store(home)
            edit.mark(edit.scratch.key(0, .orphan, inode.number))
            edit.writer.effects.append(.opened(inode.number))
            return inode
        }
    }

    /// Gives a file that was made without a name one, in the place of the file that has it now. `.busy` while it has
    /// data that is not flushed.
    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: Seal? = nil,
        expected: Expected = .anything, shelf: Shelf? = nil
    ) -> Attempt<Placed> {
        if files.isDirty(file.inode) { return busy(request.reader, file.inode) }
        let attempt = shelving(request.reader, shelf, expected) {
            change(request.reader) { (edit) throws(Halt) -> Placed in
                var home = try edit.directory(directory)
                try LogFS.check(name)
                guard home.links > 0 else { throw .refused(.stale) }
                var inode = try edit.regularFile(file)
                guard inode.links == 0 else { throw .refused(.exists) }
                edit.delete(edit.scratch.key(0, .orphan, inode.number))
                inode.modified = request.now
                edit.touch(&inode, request.now)
                inode.seal = seal
                return try edit.place(&inode, &home, name, expected, shelf, request.now)
            }
        }
        if case .done(let placed, _) = attempt, let other = placed.other { forget(other) }
        return attempt
    }

    /// Says of a directory whether it is there only for what lies in it.
    public func setImplied(_ request: Request, _ id: FileID, _ isImplied: Bool) -> Attempt<Inode> {
        change(request.reader) { (edit) throws(Halt) -> Inode in
            var inode = try edit.directory(id)
            if isImplied { inode.flags |= Inode.isImplied } else { inode.flags &= ~Inode.isImplied }
            edit.touch(&inode, request.now)
            edit.store(inode)
            return inode
        }
    }
}

extension Inode {
    mutating func begin(_ new: NewFile, _ now: Int64) {
        type = .file
        mode = new.mode & 0o7777
        uid = new.uid
        gid = new.gid
        attributes = new.attributes
        born = now
        accessed = new.accessed ?? now
        modified = new.modified ?? now
        changed = now
        change = 1
        fork = number
    }
}

extension Editing {
    /// Content of a file that has none: in the tree, or where it was appended.
    fileprivate func putContent(
        _ inode: inout Inode, _ content: UnsafeRawBufferPointer, _ range: SegmentRange?
    ) throws(Halt) {
        inode.size = UInt64(content.count)
        if let range {
            var fork = ForkEdit(self, inode.fork)
            try reference(range, live: UInt64(range.length))
            try fork.insert(
                Extent(start: 0, end: UInt64(range.length), segment: range.segment, offset: range.offset))
            try fork.finish(&inode)
        } else if let source = content.baseAddress, content.count > 0 {
            try withInline(inode, size: content.count) { memcpy($0, source, content.count) }
            inode.flags |= Inode.isInline
            inode.allocated = inode.size
        }
    }

    /// Attributes of a file that has none of these names.
    func putAttributes(_ inode: inout Inode, _ attributes: [Attribute]) throws(Halt) {
        guard !attributes.isEmpty else { return }
        if inode.extras == 0 { inode.extras = try fork() }
        for attribute in attributes {
            guard attribute.value.count <= Limits.xattrValueBytesMax else { throw .refused(.attributeTooBig) }
            let result = attribute.name.withUnsafeBytes { name in
                Result { () throws(Halt) in
                    try LogFS.checkAttribute(name)
                    attribute.value.withUnsafeBytes { putAttribute(inode.extras | KeyLayout.forkSpace, name, $0) }
                }
            }
            try result.get()
            inode.xattrBytes += UInt32(attribute.name.count + attribute.value.count)
            if attribute.name == LogFS.lockName { inode.flags |= Inode.isLocked }
        }
    }

    /// Enters a file that has no name, and takes away the one that has its name now.
    fileprivate func place(
        _ inode: inout Inode, _ home: inout Inode, _ name: UnsafeRawBufferPointer, _ expected: Expected,
        _ shelf: Shelf?, _ now: Int64
    ) throws(Halt) -> Placed {
        let slot = try slot(home.number)
        var away = Detached(here: Totals(), elsewhere: nil)
        var other: Inode?
        let there = try entry(home.number, name)
        if let there {
            guard var old = try self.inode(there.inode) else { throw .refused(.stale) }
            try expected.check(old)
            guard !old.isDirectory else { throw .refused(.isDirectory) }
            if let shelf, old.type == .file {
                away.here = -(try shelve(&old, there, from: home.number, to: shelf, nil, 0, now))
            } else {
                away = try detach(&old, from: home.number, there, now, endsLock: expected.endsLock)
            }
            deleteEntry(home.number, name, there)
            other = old
        } else {
            try expected.check(nil)
        }
        inode.links = 1
        inode.parent = home.number
        // A listing under way meets the name once.
        inode.cookie = there?.cookie ?? cookie(&home)
        putEntry(home.number, name, Entry(inode: inode.number, cookie: inode.cookie, type: inode.type))
        store(inode)
        home.modified = now
        touch(&home, now)
        count(&home, slot, Totals(files: 1) + inode.load + away.here)
        store(home)
        if let elsewhere = away.elsewhere, let other { try count(in: elsewhere, other.load) }
        return Placed(inode: inode, directory: home, other: other)
    }
}

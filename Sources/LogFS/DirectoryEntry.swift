import Glibc
import Headhunter

extension LogFS {
    /// The first cookie of an entry: those below are for what front ends list before them (`.` and `..`).
    public static let firstCookie: UInt64 = 16

    /// Whether `name` can name an entry; says what is wrong with it.
    @inline(__always)
    static func check(_ name: UnsafeRawBufferPointer) throws(Halt) {
        guard name.count <= Limits.nameBytesMax else { throw .refused(.nameTooLong) }
        guard let base = name.baseAddress, name.count > 0 else { throw .refused(.badName) }
        if name[0] == 0x2e, name.count == 1 || (name.count == 2 && name[1] == 0x2e) { throw .refused(.badName) }
        if memchr(base, 0x2f, name.count) != nil || memchr(base, 0, name.count) != nil { throw .refused(.badName) }
    }
}

extension Records {
    @inline(__always)
    func entry(_ directory: UInt64, _ name: UnsafeRawBufferPointer) throws(Halt) -> Entry? {
        let id = directory | KeyLayout.directorySpace
        guard let value = try get(scratch.key(id, .name, name)) else { return nil }
        guard let entry = Entry(name: value) else { throw .wrong(id, .name) }
        return entry
    }

    /// The entry of this name in whatever case; one in the very same case comes first. `found` gets its true name.
    func folded(
        _ directory: UInt64, _ name: UnsafeRawBufferPointer, _ hash: FoldedHash, found: (UnsafeRawBufferPointer) -> Void
    ) throws(Halt) -> Entry? {
        if let exact = try entry(directory, name) {
            found(name)
            return exact
        }
        return try foldedOnly(directory, name, hash, found: found)
    }

    /// The same where there is none in the very same case.
    func foldedOnly(
        _ directory: UInt64, _ name: UnsafeRawBufferPointer, _ hash: FoldedHash, found: (UnsafeRawBufferPointer) -> Void
    ) throws(Halt) -> Entry? {
        try FoldTable.withFolded(name) { (folded) throws(Halt) -> Entry? in
            // A name that is its own folded form is found by it, and has no key of its own among the folded ones.
            var best: Entry?
            if folded.count <= Limits.nameBytesMax, !folded.elementsEqual(name), FoldTable.isFolded(folded) {
                best = try entry(directory, folded)
            }
            if let other = try differing(directory, folded, hash, below: best?.cookie ?? .max, found: found) {
                return other
            }
            if best != nil { found(folded) }
            return best
        }
    }

    /// The first entry with this folded form that is written otherwise, if it is older than `cookie`.
    private func differing(
        _ directory: UInt64, _ folded: UnsafeRawBufferPointer, _ hash: FoldedHash, below cookie: UInt64,
        found: (UnsafeRawBufferPointer) -> Void
    ) throws(Halt) -> Entry? {
        let id = directory | KeyLayout.directorySpace
        let sum = hash.ofFolded(folded)
        var cookies: [UInt64] = []
        try scan(from: scratch.key(id, .folded, sum, 0), budget: View.scanBudget) { key, _ in
            guard key.isKey(id, .folded), let fold = LinkKey(key), fold.directory == sum, fold.cookie < cookie else {
                return false
            }
            cookies.append(fold.cookie)
            return true
        }
        for cookie in cookies {
            guard let value = try get(scratch.key(id, .cookie, cookie)) else { continue }
            guard let entry = Entry(cookie: cookie, value) else { throw .wrong(id, .cookie) }
            let other = Entry.name(value)
            guard FoldTable.areEqual(other, folded) else { continue }
            found(other)
            return entry
        }
        return nil
    }
}

extension Editing {
    /// Writes the keys of an entry: three if its name is written otherwise than folded, else two.
    func putEntry(_ directory: UInt64, _ name: UnsafeRawBufferPointer, _ entry: Entry) {
        let id = directory | KeyLayout.directorySpace
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(entry.inode, at: 1)
        memory.put(entry.cookie, at: 9)
        memory.put(entry.type.rawValue, at: 17)
        put(scratch.key(id, .name, name), UnsafeRawBufferPointer(start: memory, count: 18))
        memory.put(entry.type.rawValue, at: 9)
        if let source = name.baseAddress { memcpy(memory + 10, source, name.count) }
        put(scratch.key(id, .cookie, entry.cookie), UnsafeRawBufferPointer(start: memory, count: 10 + name.count))
        if !FoldTable.isFolded(name) { mark(scratch.key(id, .folded, writer.foldedHash(name), entry.cookie)) }
    }

    func deleteEntry(_ directory: UInt64, _ name: UnsafeRawBufferPointer, _ entry: Entry) {
        let id = directory | KeyLayout.directorySpace
        delete(scratch.key(id, .name, name))
        delete(scratch.key(id, .cookie, entry.cookie))
        if !FoldTable.isFolded(name) { delete(scratch.key(id, .folded, writer.foldedHash(name), entry.cookie)) }
    }

    /// The next cookie of a directory.
    func cookie(_ directory: inout Inode) -> UInt64 {
        defer { directory.nextCookie += 1 }
        return directory.nextCookie
    }

    /// The next inode number of a directory; takes another range when its last one is used up.
    func number(_ directory: inout Inode) throws(Halt) -> UInt64 {
        if directory.nextInode == directory.inodesEnd {
            var record = try subvolume()
            directory.nextInode = record.nextInode
            directory.inodesEnd = record.nextInode + Limits.inodeRange
            record.nextInode = directory.inodesEnd
            store(record)
        }
        defer { directory.nextInode += 1 }
        return directory.nextInode
    }

    /// A fork number that was never used.
    func fork() throws(Halt) -> UInt64 {
        var record = try subvolume()
        defer {
            record.nextFork += 1
            store(record)
        }
        return record.nextFork | KeyLayout.forkNumbers
    }
}

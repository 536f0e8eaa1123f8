import Headhunter

/// Reads the records of a subvolume: as they are, or as a change under way will have left them.
protocol Records {
    var scratch: Scratch { get }
    /// The value is valid until the next put or delete.
    func get(_ key: UnsafeRawBufferPointer) throws(Halt) -> UnsafeRawBufferPointer?
    /// Entries from `start` on, without what a change under way has collected. Answers whether there may be more.
    @discardableResult
    func scan(
        from start: UnsafeRawBufferPointer, budget: Int,
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Halt) -> Bool
    ) throws(Halt) -> Bool
}

/// The records as they are.
struct Reading: Records {
    let view: View
    let tree: UInt32
    let scratch: Scratch

    @inline(__always)
    func get(_ key: UnsafeRawBufferPointer) throws(Halt) -> UnsafeRawBufferPointer? {
        do throws(Missing) { return try view.get(tree, key) } catch { throw .missing(error) }
    }

    @discardableResult
    func scan(
        from start: UnsafeRawBufferPointer, budget: Int,
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Halt) -> Bool
    ) throws(Halt) -> Bool {
        try scanAll(view, tree, start, budget, visit)
    }
}

/// One scan of the engine may show fewer entries than its budget though there are more: those that a recovered log has
/// deleted count there. Here fewer mean that there are no more.
private func scanAll(
    _ view: View, _ tree: UInt32, _ start: UnsafeRawBufferPointer, _ budget: Int,
    _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Halt) -> Bool
) throws(Halt) -> Bool {
    var left = budget
    var halt: Halt?
    func counting(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        left -= 1
        do throws(Halt) {
            guard key.count >= KeyLayout.prefixCount else { throw .wrong(0, .subvolume) }
            return try visit(key, value)
        } catch {
            halt = error
            return false
        }
    }
    var resume: [UInt8] = []
    var more: Bool
    do throws(Missing) {
        more = try view.scan(tree, from: start, budget: budget, resume: &resume, counting)
        while more, left > 0 {
            let next = resume
            more = try scanOn(view, tree, next, left, &resume, counting)
        }
    } catch { throw .missing(error) }
    if let halt { throw halt }
    return more
}

private func scanOn(
    _ view: View, _ tree: UInt32, _ start: [UInt8], _ budget: Int, _ resume: inout [UInt8],
    _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
) throws(Missing) -> Bool {
    var rest: [UInt8] = []
    defer { resume = rest }
    let result = start.withUnsafeBytes { start in
        Result { () throws(Missing) -> Bool in
            try view.scan(tree, from: start, budget: budget, resume: &rest, visit)
        }
    }
    return try result.get()
}

/// A change under way. What it does beyond the tree is collected in the writer's effects and happens when the change
/// has been applied.
struct Editing: Records {
    let bare: Change
    let tree: UInt32
    let scratch: Scratch
    unowned(unsafe) let writer: Writer

    @inline(__always)
    func get(_ key: UnsafeRawBufferPointer) throws(Halt) -> UnsafeRawBufferPointer? {
        do throws(Missing) { return try bare.get(tree, key) } catch { throw .missing(error) }
    }

    @discardableResult
    func scan(
        from start: UnsafeRawBufferPointer, budget: Int,
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Halt) -> Bool
    ) throws(Halt) -> Bool {
        try scanAll(bare.view, tree, start, budget, visit)
    }

    /// What most changes of a directory's names look at.
    func expectNames(_ directory: FileID, _ name: UnsafeRawBufferPointer) {
        guard name.count <= Limits.nameBytesMax else { return }
        let names = directory.inode | KeyLayout.directorySpace
        bare.expect(tree, scratch.key(directory.inode, .inode))
        bare.expect(tree, scratch.key(names, .name, name))
        bare.expect(tree, scratch.key(names, .cookie, 0))
    }

    @inline(__always) func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        bare.put(tree, key, value)
    }
    @inline(__always) func delete(_ key: UnsafeRawBufferPointer) { bare.delete(tree, key) }

    /// A record that says nothing but that it is there.
    func mark(_ key: UnsafeRawBufferPointer) {
        scratch.value.put(KeyLayout.version, at: 0)
        put(key, UnsafeRawBufferPointer(start: scratch.value, count: 1))
    }

    /// See `Inode.touch`.
    @inline(__always) func touch(_ inode: inout Inode, _ now: Int64, writes: UInt64 = 1) {
        inode.touch(now, writes: writes, floor: writer.changeFloor)
    }

    func store(_ inode: Inode) {
        put(scratch.key(inode.number, .inode), inode.store(scratch.value))
    }
}

extension Records {
    @inline(__always)
    func inode(_ number: UInt64) throws(Halt) -> Inode? {
        // Ids with one of the high bits are other records' keys; whoever asks for one has made it up.
        guard number != 0, number < KeyLayout.forkNumbers, let value = try get(scratch.key(number, .inode)) else {
            return nil
        }
        guard let inode = Inode(number, value) else { throw .wrong(number, .inode) }
        return inode
    }

    /// The file, if it is still the one that was meant.
    @inline(__always)
    func inode(_ id: FileID) throws(Halt) -> Inode {
        guard let inode = try inode(id.inode), inode.generation == id.generation else { throw .refused(.stale) }
        return inode
    }

    func directory(_ id: FileID) throws(Halt) -> Inode {
        let inode = try inode(id)
        guard inode.type == .directory else { throw .refused(.notDirectory) }
        // It lives on while it is open, but nothing can be made in it any more.
        return inode
    }
}

extension Reading {
    /// Whether this is a directory, for who needs no more of it. Look-ups in one directory follow each other: the last answer is
    /// kept for as long as nothing changes.
    /// `name` is what will be looked for in it.
    @inline(__always)
    func expectDirectory(_ id: FileID, _ name: UnsafeRawBufferPointer) throws(Halt) {
        if scratch.remembers(id, at: view.changes) { return }
        view.expect(tree, scratch.key(id.inode | KeyLayout.directorySpace, .name, name))
        guard id.inode != 0, id.inode < KeyLayout.forkNumbers, let value = try get(scratch.key(id.inode, .inode)) else {
            throw .refused(.stale)
        }
        guard let (type, generation) = Inode.outline(value) else { throw .wrong(id.inode, .inode) }
        guard generation == id.generation else { throw .refused(.stale) }
        guard type == .directory else { throw .refused(.notDirectory) }
        scratch.remember(id, at: view.changes)
    }
}

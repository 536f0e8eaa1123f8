/// What a subvolume knows of itself.
struct SubvolumeRecord {
    var nextInode: UInt64
    var nextFork: UInt64
    var foldKey: (UInt64, UInt64)
    var foldVersion: UInt32

    static let size = 37

    init(foldKey: (UInt64, UInt64)) {
        nextInode = LogFS.root + Limits.inodeRange
        nextFork = 1
        self.foldKey = foldKey
        foldVersion = FoldTable.version
    }

    init(_ bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.size && bytes[0] == KeyLayout.version, "a subvolume of another program")
        nextInode = bytes.u64(1)
        nextFork = bytes.u64(9)
        foldKey = (bytes.u64(17), bytes.u64(25))
        foldVersion = bytes.u32(33)
    }
}

extension Records {
    func subvolume() throws(Halt) -> SubvolumeRecord {
        guard let value = try get(scratch.key(0, .subvolume)) else { throw .refused(.stale) }
        return SubvolumeRecord(value)
    }
}

extension Editing {
    func store(_ record: SubvolumeRecord) {
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(record.nextInode, at: 1)
        memory.put(record.nextFork, at: 9)
        memory.put(record.foldKey.0, at: 17)
        memory.put(record.foldKey.1, at: 25)
        memory.put(record.foldVersion, at: 33)
        put(scratch.key(0, .subvolume), UnsafeRawBufferPointer(start: memory, count: SubvolumeRecord.size))
    }
}

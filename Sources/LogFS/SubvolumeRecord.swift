import Headhunter

extension SubvolumeRecord {
    /// Of a subvolume that is new.
    init(foldKey: (UInt64, UInt64)) {
        self.init(
            nextInode: LogFS.root + Limits.inodeRange, nextFork: 1, foldKey: foldKey, foldVersion: FoldTable.version)
    }
}

extension Records {
    func subvolume() throws(Halt) -> SubvolumeRecord {
        guard let value = try get(scratch.key(0, .subvolume)), let record = SubvolumeRecord(value) else {
            throw .wrong(0, .subvolume)
        }
        return record
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

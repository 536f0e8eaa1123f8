import Glibc
import Headhunter

/// Values of which the long ones lie in parts behind their record: extended attributes and settings.
extension Records {
    /// The whole value of a record that is there and says that it has so many bytes.
    func longValue(
        _ id: UInt64, _ kind: KeyLayout.Kind, _ partKind: KeyLayout.Kind, _ name: UnsafeRawBufferPointer, _ length: Int
    ) throws(Halt) -> [UInt8] {
        guard let record = try get(scratch.key(id, kind, name)), let value = LongValue(record, max: length) else {
            throw .wrong(id, kind)
        }
        var bytes = Array(value.head)
        bytes.reserveCapacity(length)
        for index in 0..<value.parts {
            guard let found = try get(scratch.key(id, partKind, name, index: UInt8(index))),
                let part = value.part(index, found)
            else { throw .wrong(id, partKind) }
            bytes.append(contentsOf: part)
        }
        return bytes
    }
}

extension Editing {
    func putLongValue(
        _ id: UInt64, _ kind: KeyLayout.Kind, _ partKind: KeyLayout.Kind, _ name: UnsafeRawBufferPointer,
        _ value: UnsafeRawBufferPointer
    ) {
        let memory = scratch.value
        let parts = LongValue.parts(value.count)
        memory.put(KeyLayout.version, at: 0)
        memory.put(UInt32(value.count), at: 1)
        if parts == 0, let source = value.baseAddress { memcpy(memory + 5, source, value.count) }
        let key = scratch.key(id, kind, name)
        put(key, UnsafeRawBufferPointer(start: memory, count: 5 + (parts == 0 ? value.count : 0)))
        for index in 0..<parts {
            let start = index * LongValue.partBytes
            let part = UnsafeRawBufferPointer(rebasing: value[start..<min(start + LongValue.partBytes, value.count)])
            memory.put(KeyLayout.version, at: 0)
            if let source = part.baseAddress { memcpy(memory + 1, source, part.count) }
            let key = scratch.key(id, partKind, name, index: UInt8(index))
            put(key, UnsafeRawBufferPointer(start: memory, count: 1 + part.count))
        }
    }
}

import Glibc

/// What one change does to the volume's trees: puts and deletes, collected before anything is touched.
///
/// A change is planned first (reads only, which may meet nodes that are not in memory), then prepared (every node
/// it needs is resident), then applied, which can not fail. The bytes kept here are the very bytes of the change's
/// log record, so logging is one copy. A set is reused from change to change and keeps its memory.
public final class WriteSet {
    /// Operations of one change. A change that needs more works in steps.
    public static let operationsMax = 64
    /// Bytes of one change, keys and values.
    public static let bytesMax = 256 << 10

    /// Of one key: an overlay puts the tree's number before it.
    package static let keyBytesMax = Page.keyBytesMax - 4
    /// Of a key and its value together.
    package static let entryBytesMax = Page.cellBytesMax - 8

    package struct Operation {
        package var tree: UInt32
        package var isDelete: Bool
        /// Replaced by a later operation on the same key.
        package var isDead: Bool
        package var keyOffset: Int
        package var keyCount: Int
        package var valueCount: Int
    }

    /// Bytes of segments that the change names.
    @exclusivity(unchecked) package private(set) var ranges: [SegmentRange] = []
    @exclusivity(unchecked) package private(set) var operations: [Operation] = []
    @exclusivity(unchecked) private var memory: UnsafeMutableRawPointer
    @exclusivity(unchecked) private var capacity: Int
    @exclusivity(unchecked) package private(set) var byteCount = 0

    public init() {
        capacity = 4096
        memory = .allocate(byteCount: capacity, alignment: 16)
        operations.reserveCapacity(Self.operationsMax)
    }

    deinit { memory.deallocate() }

    public func reset() {
        operations.removeAll(keepingCapacity: true)
        ranges.removeAll(keepingCapacity: true)
        byteCount = 0
    }

    public var isEmpty: Bool { operations.isEmpty }
    /// Whether `count` more operations with `bytes` bytes of keys and values fit.
    public func hasRoom(operations count: Int, bytes: Int) -> Bool {
        operations.count + count <= Self.operationsMax && byteCount + bytes + count * 24 <= Self.bytesMax
    }

    public func put(tree: UInt32, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        add(tree: tree, isDelete: false, key: key, value: value)
    }

    public func delete(tree: UInt32, key: UnsafeRawBufferPointer) {
        add(tree: tree, isDelete: true, key: key, value: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    private func add(tree: UInt32, isDelete: Bool, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        precondition(operations.count < Self.operationsMax, "too many operations in one change")
        precondition(key.count > 0 && key.count <= Self.keyBytesMax, "key length")
        precondition(key.count + value.count <= Self.entryBytesMax, "entry length")
        if let earlier = position(tree: tree, key: key) { operations[earlier].isDead = true }
        reserve(key.count + value.count + 24)
        // LogRecord reads what is written here.
        memory.storeBytes(of: isDelete ? LogRecord.delete : LogRecord.put, toByteOffset: byteCount, as: UInt8.self)
        byteCount += 1
        writeVarint(UInt64(tree))
        writeVarint(UInt64(key.count))
        if !isDelete { writeVarint(UInt64(value.count)) }
        let keyOffset = byteCount
        if let source = key.baseAddress { memcpy(memory + byteCount, source, key.count) }
        byteCount += key.count
        if let source = value.baseAddress { memcpy(memory + byteCount, source, value.count) }
        byteCount += value.count
        operations.append(
            Operation(
                tree: tree, isDelete: isDelete, isDead: false, keyOffset: keyOffset, keyCount: key.count,
                valueCount: value.count))
    }

    /// Goes into the log only: these bytes of a segment are named by this change.
    package func note(_ range: SegmentRange) {
        reserve(40)
        ranges.append(range)
        memory.storeBytes(of: LogRecord.range, toByteOffset: byteCount, as: UInt8.self)
        byteCount += 1
        writeVarint(range.segment)
        writeVarint(UInt64(range.offset))
        writeVarint(UInt64(range.length))
        memory.storeBytes(of: range.checksum.littleEndian, toByteOffset: byteCount, as: UInt32.self)
        byteCount += 4
    }

    private func writeVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            memory.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: byteCount, as: UInt8.self)
            byteCount += 1
            rest >>= 7
        }
        memory.storeBytes(of: UInt8(truncatingIfNeeded: rest), toByteOffset: byteCount, as: UInt8.self)
        byteCount += 1
    }

    private func reserve(_ more: Int) {
        precondition(byteCount + more <= Self.bytesMax + 4096, "too many bytes in one change")
        guard byteCount + more > capacity else { return }
        while byteCount + more > capacity { capacity *= 2 }
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        memcpy(larger, memory, byteCount)
        memory.deallocate()
        memory = larger
    }

    private func position(tree: UInt32, key: UnsafeRawBufferPointer) -> Int? {
        guard let wanted = key.baseAddress else { return nil }
        var index = operations.count
        while index > 0 {
            index -= 1
            let operation = operations[index]
            if operation.tree == tree, operation.keyCount == key.count, !operation.isDead,
                memcmp(memory + operation.keyOffset, wanted, key.count) == 0
            {
                return index
            }
        }
        return nil
    }

    /// What this set says of a key: the planner reads its own changes first.
    public enum Pending {
        case untouched
        case put(UnsafeRawBufferPointer)
        case deleted
    }

    public func pending(tree: UInt32, key: UnsafeRawBufferPointer) -> Pending {
        guard let index = position(tree: tree, key: key) else { return .untouched }
        return operations[index].isDelete ? .deleted : .put(value(operations[index]))
    }

    package func key(_ operation: Operation) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: memory + operation.keyOffset, count: operation.keyCount)
    }
    package func value(_ operation: Operation) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: memory + operation.keyOffset + operation.keyCount, count: operation.valueCount)
    }
    /// The operations as a log record carries them.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: byteCount) }
}

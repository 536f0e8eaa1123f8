import Bytes
import Glibc

/// A run of records that are written, and become durable, together.
final class LogBatch: @unchecked Sendable {
    /// Room for the header, then the records; padded by `LogFormat.finish`.
    fileprivate(set) var block: Block
    let first: UInt64
    fileprivate(set) var count: UInt32 = 0
    /// Where the records end, once the batch has been padded.
    fileprivate var recordsEnd: Int?
    /// The writer begins a new file with this batch.
    fileprivate(set) var beginsFile: Bool
    var last: UInt64 { first - 1 + UInt64(count) }

    fileprivate init(block: Block, first: UInt64, beginsFile: Bool) {
        self.block = block
        self.first = first
        self.beginsFile = beginsFile
        block.count = LogFormat.batchHeaderSize
    }
}

/// Numbers records and gathers them into batches. A plain struct: the writer's lock is around it.
struct LogAssembler {
    /// Blocks have five lengths, each twice the one before. What is longer is one record's alone, and not kept.
    private static let smallBytes = 16 << 10
    private static let lengths = 5
    private static let largeBytes = smallBytes << (lengths - 1)
    /// Blocks kept for the next batches, as many as wait for one sync at the most: fresh memory costs more than what is written to it.
    static let spareMax = 1024
    private static let spareBytesMax = 24 << 20

    private(set) var next: UInt64
    private var open: LogBatch?
    private var closed: [LogBatch] = []
    private var rotate = true
    private var spare: [[Block]] = Array(repeating: [], count: lengths)
    private var spareCount = 0
    private var spareBytes = 0
    /// What the batch before came to: the next one is likely as long.
    private var usual = 0
    /// Bytes that nobody has taken yet: the volume's writers wait at a limit of it.
    private(set) var pendingBytes = 0

    /// The first batch begins a file.
    init(next: UInt64) { self.next = next }

    var isEmpty: Bool { open == nil && closed.isEmpty }

    /// Appends one record; answers its number.
    mutating func append(_ record: UnsafeRawBufferPointer) -> UInt64 {
        let need = record.count + 10
        precondition(need <= LogFormat.batchBytesMax / 2)
        if let open, open.block.count + need + LogFormat.alignment > Self.largeBytes { close() }
        let batch: LogBatch
        if let open {
            batch = open
            let bytes = batch.block.count + need + LogFormat.alignment
            if bytes > batch.block.capacity {
                let small = batch.block
                batch.block = block(bytes)
                batch.block.append(small.bytes)
                keep(small)
            }
        } else {
            let bytes = LogFormat.batchHeaderSize + need + LogFormat.alignment
            batch = LogBatch(block: block(max(bytes, usual)), first: next, beginsFile: rotate)
            rotate = false
            open = batch
        }
        let block = batch.block
        var rest = record.count
        while rest >= 0x80 {
            block.base.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: block.count, as: UInt8.self)
            block.count += 1
            rest >>= 7
        }
        block.base.storeBytes(of: UInt8(rest), toByteOffset: block.count, as: UInt8.self)
        block.count += 1
        block.append(record)
        batch.count += 1
        pendingBytes += need
        let number = next
        next += 1
        return number
    }

    /// The shortest length that has room for so many bytes.
    private static func length(_ bytes: Int) -> Int {
        bytes <= smallBytes ? 0 : Int.bitWidth - ((bytes - 1) / smallBytes).leadingZeroBitCount
    }

    /// With room for so many bytes.
    private mutating func block(_ bytes: Int) -> Block {
        let length = Self.length(bytes)
        guard length < Self.lengths else { return Block(capacity: bytes) }
        guard let block = spare[length].popLast() else { return Block(capacity: Self.smallBytes << length) }
        spareCount -= 1
        spareBytes -= block.capacity
        return block
    }

    private mutating func keep(_ block: Block) {
        guard block.capacity <= Self.largeBytes, spareCount < Self.spareMax,
            spareBytes + block.capacity <= Self.spareBytesMax
        else { return }
        spareCount += 1
        spareBytes += block.capacity
        block.count = 0
        spare[Self.length(block.capacity)].append(block)
    }

    private mutating func close() {
        guard let open else { return }
        usual = min(open.block.count + LogFormat.alignment, Self.largeBytes)
        closed.append(open)
        self.open = nil
    }

    /// Later records go to another file.
    mutating func beginFile() {
        close()
        rotate = true
    }

    /// A batch without records: it only says what has become durable. Nil while there are records to say it with, and
    /// at the begin of a file, whose header says as much.
    mutating func mark() -> LogBatch? {
        guard isEmpty, !rotate else { return nil }
        return LogBatch(block: block(LogFormat.batchHeaderSize), first: next, beginsFile: false)
    }

    /// Whether there is a batch, or can be a mark, to say something with.
    var canSay: Bool { !isEmpty || !rotate }

    /// Hands over all there is, in order.
    mutating func take() -> [LogBatch] {
        close()
        pendingBytes = 0
        let batches = closed
        closed.removeAll(keepingCapacity: true)
        return batches
    }

    /// A batch is durable: its memory serves another one.
    mutating func recycle(_ batch: LogBatch) { keep(batch.block) }
}

extension LogFormat {
    /// Fills in the header and pads; answers the checksum, which the next batch's header carries as its chain.
    static func finish(
        _ batch: LogBatch, durable: UInt64, epoch: UInt64, sequence: UInt64, chain: UInt32
    ) -> UInt32 {
        let block = batch.block
        // A batch whose write failed is finished again for another file.
        if let end = batch.recordsEnd { block.count = end }
        batch.recordsEnd = block.count
        let length = block.count - batchHeaderSize
        let base = block.base
        memset(base, 0, batchHeaderSize)
        base.storeBytes(of: batchMagic, as: UInt32.self)
        base.storeBytes(of: version, toByteOffset: 4, as: UInt16.self)
        base.storeBytes(of: UInt32(length), toByteOffset: 8, as: UInt32.self)
        base.storeBytes(of: batch.count, toByteOffset: 12, as: UInt32.self)
        base.storeBytes(of: batch.first, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: durable, toByteOffset: 24, as: UInt64.self)
        base.storeBytes(of: epoch, toByteOffset: 32, as: UInt64.self)
        base.storeBytes(of: sequence, toByteOffset: 40, as: UInt64.self)
        base.storeBytes(of: chain, toByteOffset: 48, as: UInt32.self)
        let checksum = batchChecksum(base, length: length)
        base.storeBytes(of: checksum, toByteOffset: 52, as: UInt32.self)
        let padded = (block.count + alignment - 1) / alignment * alignment
        memset(base + block.count, 0, padded - block.count)
        block.count = padded
        return checksum
    }

    /// Of the header but for its own field, and of the records.
    static func batchChecksum(_ base: UnsafeRawPointer, length: Int) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(UnsafeRawBufferPointer(start: base, count: 52))
        checksum.update(UnsafeRawBufferPointer(start: base + batchHeaderSize, count: length))
        return checksum.value
    }
}

import Bytes
import Glibc

/// One object of the replay log in the store: a run of records, or a fence. Little-endian:
/// ```
/// 0  magic    u32 "PXSL"   4 version u16   6 kind u16   0: records, 1: a fence
/// 8  number   u64          the slot's; over all owners a number is given once, by create-if-absent
/// 16 epoch    u64          the owner that made it
/// 24 first    u64          number of the first record; of a fence: random, so that no two are alike
/// 32 stored   u64          every record up to this one, and the data it names, was in the store before this was sent
/// 40 count    u32          records
/// 44 length   u32          their bytes
/// 48 volume   16 bytes
/// 64 records               as in `LogFormat`: each behind its length (varint)
///    checksum u32          CRC32C of all before
/// ```
/// Several slots are on their way at once, so a crash may leave a later one without an earlier one. An owner answers for
/// a record only when all slots up to it are there.
///
/// A fence ends what earlier owners can answer for: it takes the first free number, and what was still free among the
/// numbers before it that they may have had on their way. A slot of an earlier epoch that comes after a fence counts for
/// nothing. Fences stay for good: an owner that slept, however long, can not get past one. The owner that made the fence goes on `gap` numbers behind it, where no slot of the owner before can be.
struct Slot {
    static let magic: UInt32 = 0x4C53_5850
    static let version: UInt16 = 1
    static let headerSize = 64
    /// Slots of one owner that are on their way at the same time.
    static let inFlightMax = 8
    static let gap: UInt64 = 1024
    /// No slot of records is as short.
    static let fenceSize = headerSize + 4

    enum Kind: UInt16, Sendable {
        case records = 0
        case fence = 1
    }

    enum Malformed: Error, Equatable, Sendable {
        case notASlot
        case checksum
        case version(UInt16)
    }

    var kind: Kind
    var number: UInt64
    var epoch: UInt64
    var first: UInt64
    var stored: UInt64
    var count: UInt32
    var length: Int
    var volume: VolumeIdentity

    /// The number behind the last record.
    var end: UInt64 { first + UInt64(count) }

    init(
        kind: Kind, number: UInt64, epoch: UInt64, first: UInt64, stored: UInt64, count: UInt32, length: Int,
        volume: VolumeIdentity
    ) {
        self.kind = kind
        self.number = number
        self.epoch = epoch
        self.first = first
        self.stored = stored
        self.count = count
        self.length = length
        self.volume = volume
    }

    static func fence(_ number: UInt64, epoch: UInt64, random: UInt64, volume: VolumeIdentity) -> Block {
        let slot = Slot(
            kind: .fence, number: number, epoch: epoch, first: random, stored: 0, count: 0, length: 0, volume: volume)
        let block = Block(capacity: fenceSize)
        block.count = headerSize
        slot.finish(block)
        return block
    }

    /// Fills in the header and appends the checksum; the block has room for both, and the records between.
    func finish(_ block: Block) {
        precondition(block.count == Self.headerSize + length && block.capacity >= block.count + 4)
        let base = block.base
        memset(base, 0, Self.headerSize)
        func put<Number: FixedWidthInteger>(_ value: Number, _ offset: Int) {
            base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Number.self)
        }
        put(Self.magic, 0)
        put(Self.version, 4)
        put(kind.rawValue, 6)
        put(number, 8)
        put(epoch, 16)
        put(first, 24)
        put(stored, 32)
        put(count, 40)
        put(UInt32(length), 44)
        put(volume.high, 48)
        put(volume.low, 56)
        put(CRC32C.of(block.bytes), block.count)
        block.count += 4
    }

    init(reading bytes: UnsafeRawBufferPointer) throws(Malformed) {
        guard bytes.count >= Self.headerSize + 4, let base = bytes.baseAddress else { throw .notASlot }
        func get<Number: FixedWidthInteger>(_ offset: Int, _ type: Number.Type) -> Number {
            Number(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: type))
        }
        guard get(0, UInt32.self) == Self.magic else { throw .notASlot }
        guard get(4, UInt16.self) == Self.version else { throw .version(get(4, UInt16.self)) }
        let sum = CRC32C.of(UnsafeRawBufferPointer(start: base, count: bytes.count - 4))
        guard get(bytes.count - 4, UInt32.self) == sum else { throw .checksum }
        guard let kind = Kind(rawValue: get(6, UInt16.self)) else { throw .notASlot }
        self.kind = kind
        number = get(8, UInt64.self)
        epoch = get(16, UInt64.self)
        first = get(24, UInt64.self)
        stored = get(32, UInt64.self)
        count = get(40, UInt32.self)
        length = Int(get(44, UInt32.self))
        volume = VolumeIdentity(high: get(48, UInt64.self), low: get(56, UInt64.self))
        guard length == bytes.count - Self.headerSize - 4, !first.addingReportingOverflow(UInt64(count)).overflow else {
            throw .notASlot
        }
    }

    /// Calls `visit` for each record of a slot; false when the bytes hold something else.
    func forEach(_ bytes: UnsafeRawBufferPointer, _ visit: (UInt64, UnsafeRawBufferPointer) -> Bool) -> Bool {
        var reader = Reader(UnsafeRawBufferPointer(rebasing: bytes[Self.headerSize..<(Self.headerSize + length)]))
        do throws(BytesError) {
            for index in 0..<count {
                let size = try reader.varint(limit: LogFormat.batchBytesMax)
                let start = Self.headerSize + reader.position
                try reader.skip(size)
                let record = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + size)])
                guard visit(first + UInt64(index), record) else { return false }
            }
            return reader.isAtEnd
        } catch { return false }
    }
}

import Bytes
import Glibc

/// A part of a segment: where stored bytes lie, and the checksum of exactly these bytes.
public struct SegmentRange: Hashable, Sendable {
    public var segment: UInt64
    public var offset: UInt32
    public var length: UInt32
    public var checksum: UInt32

    public init(segment: UInt64, offset: UInt32, length: UInt32, checksum: UInt32) {
        self.segment = segment
        self.offset = offset
        self.length = length
        self.checksum = checksum
    }
}

/// What kind of data lies together: it is overwritten and deleted together, too.
public enum Heat: UInt8, CaseIterable, Sendable {
    /// Parts of small files, random writes.
    case small
    /// Large sequential writes.
    case large
    /// What cleaning has moved: it has proved to stay.
    case cleaned
}

/// A segment object: 64 bytes of header, then the bytes of files, back to back; extents count from the object's start.
/// ```
/// 0 magic u32 "PXSG" | 4 version u16 | 6 heat u8 | 7 zero u8 | 8 number u64 | 16 epoch u64 | 24 volume 16 bytes
/// 40 checksum u32 of the 40 bytes before | 44 zeros
/// ```
/// The CRC32C of each 32 KiB of the object, the header included, is kept in the segment table.
enum SegmentFormat {
    static let magic: UInt32 = 0x4753_5850
    static let version: UInt16 = 1
    static let headerSize = 64
    static let blockSize = 32 << 10
    /// Bytes that one `append` takes.
    static let appendBytesMax = 1 << 20
    /// Offsets are 32 bits wide.
    static let sizeMax = 1 << 30

    static func writeHeader(
        _ target: UnsafeMutableRawPointer, number: UInt64, heat: Heat, epoch: UInt64, volume: VolumeIdentity
    ) {
        memset(target, 0, headerSize)
        target.storeBytes(of: magic.littleEndian, as: UInt32.self)
        target.storeBytes(of: version.littleEndian, toByteOffset: 4, as: UInt16.self)
        target.storeBytes(of: heat.rawValue, toByteOffset: 6, as: UInt8.self)
        target.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
        target.storeBytes(of: epoch.littleEndian, toByteOffset: 16, as: UInt64.self)
        target.storeBytes(of: volume.high.littleEndian, toByteOffset: 24, as: UInt64.self)
        target.storeBytes(of: volume.low.littleEndian, toByteOffset: 32, as: UInt64.self)
        let checksum = CRC32C.of(UnsafeRawBufferPointer(start: target, count: 40))
        target.storeBytes(of: checksum.littleEndian, toByteOffset: 40, as: UInt32.self)
    }

    /// Whether the bytes begin like the segment with this number and volume.
    static func isHeader(_ bytes: UnsafeRawBufferPointer, number: UInt64, volume: VolumeIdentity) -> Bool {
        guard bytes.count >= headerSize, let base = bytes.baseAddress else { return false }
        func load<Number: FixedWidthInteger>(_ offset: Int, _ type: Number.Type) -> Number {
            Number(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: type))
        }
        return load(0, UInt32.self) == magic && load(4, UInt16.self) == version && load(8, UInt64.self) == number
            && load(24, UInt64.self) == volume.high && load(32, UInt64.self) == volume.low
            && load(40, UInt32.self) == CRC32C.of(UnsafeRawBufferPointer(start: base, count: 40))
    }
}

/// The checksums of a segment's blocks, computed as its bytes go by, in order.
struct BlockChecksums: Sendable {
    private(set) var complete: [UInt32] = []
    private var open = CRC32C()
    private var openCount = 0
    private var whole: UInt32 = 0

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while !rest.isEmpty {
            let count = min(rest.count, room)
            add(UnsafeRawBufferPointer(rebasing: rest[..<count]))
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// What is left of the block that has begun.
    var room: Int { SegmentFormat.blockSize - openCount }

    /// The next bytes, `room` at most, which go to `sum` as well: a whole block is gone through once for both.
    mutating func add(_ part: UnsafeRawBufferPointer, to sum: inout CRC32C) {
        let isWhole = part.count == SegmentFormat.blockSize
        if !isWhole { sum.update(part) }
        add(part)
        if isWhole, let block = complete.last {
            sum = CRC32C(CRC32C.combine(sum.value, block, lengthB: part.count))
        }
    }

    private mutating func add(_ part: UnsafeRawBufferPointer) {
        open.update(part)
        openCount += part.count
        guard openCount == SegmentFormat.blockSize else { return }
        complete.append(open.value)
        whole = CRC32C.combine(whole, open.value, lengthB: SegmentFormat.blockSize)
        open = CRC32C()
        openCount = 0
    }

    /// One checksum for a whole segment.
    static func sum(_ checksums: [UInt32]) -> UInt32 {
        var sum = CRC32C()
        for checksum in checksums { withUnsafeBytes(of: checksum.littleEndian) { sum.update($0) } }
        return sum.value
    }

    /// Of all bytes as one.
    var total: UInt32 { CRC32C.combine(whole, open.value, lengthB: openCount) }

    /// With the last, shorter block.
    var all: [UInt32] { openCount == 0 ? complete : complete + [open.value] }

    /// Of some blocks, the last, shorter one among them.
    subscript(_ blocks: Range<Int>) -> [UInt32] {
        blocks.map { $0 < complete.count ? complete[$0] : open.value }
    }
}

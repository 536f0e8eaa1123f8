import Bytes
import Glibc

/// A node as it is stored. Little-endian; lengths of keys and values are varints.
///
/// ```
/// 0  level   u8
/// 1  flags   u8    bit 0: there is a high fence
/// 2  count   u16
/// 4  tree    u32
/// 8  low fence:  length, bytes
///    high fence: length, bytes              (when flagged)
///    count entries: length of the suffix, length of the value, suffix, value
/// ```
/// A suffix is a key without the fences' common prefix. A child's value is its address: object u64, offset u32,
/// length u32, checksum u32, birth u64. The checksum over all of it is in the parent's address of the node; the fences
/// and the tree's number make a node that was found by itself tell where it belongs.
enum NodeCodec {
    static let addressSize = 28
    /// A page never needs more: each entry's lengths take less than its slot and cell header do.
    static let sizeMax = Page.size

    /// Writes the node into `target`, which has room for `sizeMax` bytes; answers its size. `address` tells where a
    /// child was stored that the page still names by frame.
    static func encode(
        _ page: Page, tree: UInt32, into target: UnsafeMutableRawPointer, address: (UInt32) -> NodeAddress
    ) -> Int {
        target.storeBytes(of: UInt8(page.level), as: UInt8.self)
        target.storeBytes(of: page.high == nil ? 0 : 1, toByteOffset: 1, as: UInt8.self)
        target.storeBytes(of: UInt16(page.count).littleEndian, toByteOffset: 2, as: UInt16.self)
        target.storeBytes(of: tree.littleEndian, toByteOffset: 4, as: UInt32.self)
        var place = 8
        func length(_ value: Int) {
            var rest = value
            while rest >= 0x80 {
                target.storeBytes(of: UInt8(rest & 0x7F | 0x80), toByteOffset: place, as: UInt8.self)
                place += 1
                rest >>= 7
            }
            target.storeBytes(of: UInt8(rest), toByteOffset: place, as: UInt8.self)
            place += 1
        }
        func bytes(_ value: UnsafeRawBufferPointer) {
            if let source = value.baseAddress { memcpy(target + place, source, value.count) }
            place += value.count
        }
        length(page.low.count)
        bytes(page.low)
        if let high = page.high {
            length(high.count)
            bytes(high)
        }
        for index in 0..<page.count {
            let suffix = page.suffix(index)
            if page.isLeaf {
                let value = UnsafeRawBufferPointer(page.value(index))
                length(suffix.count)
                length(value.count)
                bytes(suffix)
                bytes(value)
            } else {
                length(suffix.count)
                length(addressSize)
                bytes(suffix)
                let child = page.child(index)
                store(child.isStored ? child.address : address(child.frame), to: target + place)
                place += addressSize
            }
        }
        return place
    }

    static func store(_ address: NodeAddress, to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: address.object.littleEndian, as: UInt64.self)
        target.storeBytes(of: address.offset.littleEndian, toByteOffset: 8, as: UInt32.self)
        target.storeBytes(of: address.length.littleEndian, toByteOffset: 12, as: UInt32.self)
        target.storeBytes(of: address.checksum.littleEndian, toByteOffset: 16, as: UInt32.self)
        target.storeBytes(of: address.birth.littleEndian, toByteOffset: 20, as: UInt64.self)
    }

    static func loadAddress(_ source: UnsafeRawPointer) -> NodeAddress {
        NodeAddress(
            object: UInt64(littleEndian: source.loadUnaligned(as: UInt64.self)),
            offset: UInt32(littleEndian: source.loadUnaligned(fromByteOffset: 8, as: UInt32.self)),
            length: UInt32(littleEndian: source.loadUnaligned(fromByteOffset: 12, as: UInt32.self)),
            checksum: UInt32(littleEndian: source.loadUnaligned(fromByteOffset: 16, as: UInt32.self)),
            birth: UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 20, as: UInt64.self)))
    }

    /// What is wrong with bytes that should be a node. Their checksum was right, so this is a defect of the writer or
    /// somebody's forgery, not of a disk.
    enum Malformed: Error { case node }

    /// Where a node belongs, and how many bytes it takes of those that begin with it.
    struct Outline {
        var tree: UInt32
        var level: Int
        /// Where in its bytes the low fence lies.
        var low: Range<Int>
        var size: Int
    }

    /// Nil when no node begins here.
    static func outline(_ source: UnsafeRawBufferPointer) -> Outline? {
        var reader = Reader(source)
        do throws(BytesError) {
            let level = Int(try reader.u8())
            let flags = try reader.u8()
            let count = try reader.u16LE()
            let tree = try reader.u32LE()
            let lowCount = try reader.varint(limit: Page.keyBytesMax)
            let low = reader.position..<(reader.position + lowCount)
            try reader.skip(lowCount)
            if flags & 1 != 0 { try reader.skip(try reader.varint(limit: Page.keyBytesMax)) }
            for _ in 0..<count {
                let suffix = try reader.varint(limit: Page.keyBytesMax)
                let value = try reader.varint(limit: sizeMax)
                try reader.skip(suffix + value)
            }
            guard reader.position <= sizeMax else { return nil }
            return Outline(tree: tree, level: level, low: low, size: reader.position)
        } catch { return nil }
    }

    /// Reads a node into an uninitialised page and checks everything that the page's own code relies on.
    static func decode(_ source: UnsafeRawBufferPointer, into page: Page) throws(Malformed) -> UInt32 {
        guard source.count >= 8, source.count <= sizeMax, let base = source.baseAddress else { throw .node }
        let level = Int(base.load(as: UInt8.self))
        let flags = base.load(fromByteOffset: 1, as: UInt8.self)
        let count = Int(UInt16(littleEndian: base.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
        let tree = UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard level < Tree.depthMax, flags & ~1 == 0 else { throw .node }
        var place = 8
        func length() throws(Malformed) -> Int {
            var value = 0
            var shift = 0
            while true {
                guard place < source.count, shift < 21 else { throw .node }
                let byte = Int(base.load(fromByteOffset: place, as: UInt8.self))
                place += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 { return value }
            }
        }
        func bytes(_ count: Int) throws(Malformed) -> UnsafeRawBufferPointer {
            guard count <= source.count - place else { throw .node }
            defer { place += count }
            return UnsafeRawBufferPointer(start: base + place, count: count)
        }
        let low = try bytes(try length())
        let high = flags & 1 == 0 ? nil : try bytes(try length())
        guard low.count <= Page.keyBytesMax, (high?.count ?? 0) <= Page.keyBytesMax else { throw .node }
        if let high, compareBytes(low, high) >= 0 { throw .node }
        page.initialize(level: level, low: low, high: high)
        var earlier = UnsafeRawBufferPointer(start: nil, count: 0)
        for index in 0..<count {
            let suffixCount = try length()
            let valueCount = try length()
            let suffix = try bytes(suffixCount)
            let value = try bytes(valueCount)
            guard page.prefixLength + suffixCount <= Page.keyBytesMax else { throw .node }
            // Order is what every search relies on; the fences bound the first and the last key.
            if index > 0, compareBytes(earlier, suffix) >= 0 { throw .node }
            earlier = suffix
            if level == 0 {
                guard page.prefixLength + suffixCount + valueCount <= Page.cellBytesMax + Page.keyBytesMax,
                    page.appendDecoded(suffix: suffix, value: value)
                else { throw .node }
            } else {
                guard valueCount == addressSize, let source = value.baseAddress else { throw .node }
                let address = loadAddress(source)
                guard address.object != 0, address.length <= UInt32(sizeMax) else { throw .node }
                let fits = withUnsafeTemporaryAllocation(byteCount: ChildReference.size, alignment: 8) { child in
                    guard let childBase = child.baseAddress else { return false }
                    ChildReference.stored(address).store(to: childBase)
                    return page.appendDecoded(suffix: suffix, value: UnsafeRawBufferPointer(child))
                }
                guard fits else { throw .node }
            }
        }
        guard place == source.count, level == 0 || count > 0 else { throw .node }
        page.finishDecoded()
        if count > 0 {
            // With the prefix cut off: the first key is not below the low fence, the last one below the high fence.
            let skip = page.prefixLength
            let first = page.suffix(0)
            let rest = UnsafeRawBufferPointer(start: low.baseAddress.map { $0 + skip }, count: low.count - skip)
            guard level == 0 ? compareBytes(first, rest) >= 0 : compareBytes(first, rest) == 0 else { throw .node }
            if let high {
                let bound = UnsafeRawBufferPointer(start: high.baseAddress.map { $0 + skip }, count: high.count - skip)
                guard compareBytes(page.suffix(count - 1), bound) < 0 else { throw .node }
            }
        }
        return tree
    }
}

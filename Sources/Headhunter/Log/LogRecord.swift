import Bytes

/// Reads back the bytes of a `WriteSet`.
enum LogRecord {
    /// Calls `visit` for each operation and `note` for each range of a segment that the change named; false when the
    /// bytes are not what a write set makes, or one of the two said false.
    static func forEach(
        _ record: UnsafeRawBufferPointer, note: (SegmentRange) -> Bool = { _ in true },
        _ visit: (_ tree: UInt32, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Bool
    ) -> Bool {
        var reader = Reader(record)
        do throws(BytesError) {
            while !reader.isAtEnd {
                let kind = try reader.u8()
                switch kind {
                case put, delete:
                    let tree = try reader.varint(limit: CheckpointHeader.treesMax - 1)
                    let keyCount = try reader.varint(limit: WriteSet.keyBytesMax)
                    let valueCount = kind == put ? try reader.varint(limit: WriteSet.entryBytesMax - keyCount) : 0
                    guard keyCount > 0 else { return false }
                    let start = reader.position
                    try reader.skip(keyCount + valueCount)
                    let key = UnsafeRawBufferPointer(rebasing: record[start..<(start + keyCount)])
                    let value = UnsafeRawBufferPointer(rebasing: record[(start + keyCount)..<reader.position])
                    guard visit(UInt32(tree), key, kind == put ? value : nil) else { return false }
                case range:
                    let segment = try reader.varint()
                    let offset = try reader.varint(limit: SegmentFormat.sizeMax)
                    let length = try reader.varint(limit: SegmentFormat.sizeMax)
                    guard offset + length <= SegmentFormat.sizeMax else { return false }
                    let named = SegmentRange(
                        segment: segment, offset: UInt32(offset), length: UInt32(length),
                        checksum: try reader.u32LE())
                    guard note(named) else { return false }
                default: return false
                }
            }
            return true
        } catch {
            return false
        }
    }

    static let put: UInt8 = 0
    static let delete: UInt8 = 1
    static let range: UInt8 = 2
}

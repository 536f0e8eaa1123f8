import Bytes

/// Reads back the bytes of a `WriteSet`.
enum LogRecord {
    /// Calls `visit` for each operation; false when the bytes are not what a write set makes, or `visit` said false.
    static func forEach(
        _ record: UnsafeRawBufferPointer,
        _ visit: (_ tree: UInt32, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Bool
    ) -> Bool {
        guard let base = record.baseAddress else { return record.count == 0 }
        var place = 0
        func number() -> Int? {
            var value = 0
            var shift = 0
            while place < record.count, shift < 35 {
                let byte = Int(base.load(fromByteOffset: place, as: UInt8.self))
                place += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 { return value }
            }
            return nil
        }
        while place < record.count {
            let kind = base.load(fromByteOffset: place, as: UInt8.self)
            place += 1
            guard kind <= 1, let tree = number(), tree <= Int(UInt32.max), let keyCount = number(), keyCount > 0,
                keyCount <= WriteSet.keyBytesMax
            else { return false }
            var valueCount = 0
            if kind == 0 {
                guard let count = number(), count + keyCount <= WriteSet.entryBytesMax else { return false }
                valueCount = count
            }
            guard keyCount + valueCount <= record.count - place else { return false }
            let key = UnsafeRawBufferPointer(start: base + place, count: keyCount)
            let value = UnsafeRawBufferPointer(start: base + place + keyCount, count: valueCount)
            place += keyCount + valueCount
            guard visit(UInt32(tree), key, kind == 0 ? value : nil) else { return false }
        }
        return true
    }
}

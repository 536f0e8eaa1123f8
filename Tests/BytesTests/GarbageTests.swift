import Bytes
import Testing

/// Whatever the bytes and the order of calls, a reader answers or throws, and stays within its memory.
@Suite struct GarbageTests {
    @Test(arguments: 0..<20) func randomCallsOnRandomBytes(_ seed: UInt64) {
        var random = SeededRandom(seed)
        for _ in 0..<500 {
            let bytes = random.bytes(Int(random.next() % 64))
            bytes.withUnsafeBytes { buffer in
                var reader = Reader(buffer)
                for _ in 0..<20 {
                    _ = try? step(&reader, &random)
                    let inside = reader.position >= 0 && reader.position + reader.remaining == bytes.count
                    #expect(inside, "seed \(seed)")
                }
            }
        }
    }

    private func step(_ reader: inout Reader, _ random: inout SeededRandom) throws(BytesError) {
        // Small, huge and negative numbers alike.
        let number = Int(truncatingIfNeeded: random.next()) >> Int(random.next() % 64)
        switch random.next() % 14 {
        case 0: _ = try reader.u8()
        case 1: _ = try reader.u16()
        case 2: _ = try reader.u32LE()
        case 3: _ = try reader.u64()
        case 4: _ = try reader.bool()
        case 5: _ = try reader.opaque(limit: number)
        case 6: _ = try reader.opaque(fixed: number)
        case 7: _ = try reader.bytes(number)
        case 8: try reader.skip(number)
        case 9: try reader.align(to: 1 << Int(random.next() % 12))
        case 10: _ = try reader.varint(limit: number)
        case 11: try reader.seek(to: number)
        case 12: _ = try reader.sub(at: number, count: Int(truncatingIfNeeded: random.next()))
        default:
            var inner = try reader.sub(number)
            _ = try inner.u32()
        }
    }
}

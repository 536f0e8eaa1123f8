import Bytes
import CShim
import Testing

@Suite struct ChecksumTests {
    /// The polynomial division itself, bit by bit.
    static func reference(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var crc: UInt32 = .max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
        }
        return ~crc
    }

    static func byTable(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { shim_crc32c_table(0, $0.baseAddress, $0.count) }
    }

    /// RFC 3720, B.4.
    static let vectors: [([UInt8], UInt32)] = [
        ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
        ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
        ((0..<32).map { UInt8($0) }, 0x46dd_794e),
        ((0..<32).map { UInt8(31 - $0) }, 0x113f_db5c),
        (
            [0x01, 0xc0] + [UInt8](repeating: 0, count: 14) + [0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18]
                + [0x28, 0, 0, 0, 0, 0, 0, 0, 0x02] + [UInt8](repeating: 0, count: 7), 0xd996_3a56
        ),
        (Array("123456789".utf8), 0xe306_9283),
        ([], 0),
    ]

    @Test func publishedVectors() {
        for (bytes, crc) in Self.vectors {
            #expect(CRC32C.of(bytes.span.bytes) == crc)
            #expect(Self.byTable(bytes) == crc)
            #expect(Self.reference(bytes[...]) == crc)
        }
    }

    /// Lengths around the borders of the interleaved rounds, at every alignment.
    @Test func allWaysAgree() {
        var random = SeededRandom(3)
        let bytes = random.bytes(40_000)
        let lengths = [0, 1, 7, 8, 9, 63, 64, 191, 192, 193, 384, 8159, 8160, 8161, 8352, 16_320, 32_768, 32_769]
        for length in lengths {
            for start in [0, 1, 3, 8, 13] {
                let slice = Array(bytes[start..<start + length])
                let expected = Self.reference(slice[...])
                bytes.withUnsafeBytes { all in
                    #expect(CRC32C.of(UnsafeRawBufferPointer(rebasing: all[start..<start + length])) == expected)
                }
                #expect(Self.byTable(slice) == expected)
            }
        }
        for _ in 0..<300 {
            let length = Int(random.next() % 3000)
            let start = Int(random.next() % 64)
            let slice = bytes[start..<start + length]
            let expected = Self.reference(slice)
            bytes.withUnsafeBytes { all in
                #expect(CRC32C.of(UnsafeRawBufferPointer(rebasing: all[start..<start + length])) == expected)
            }
        }
    }

    @Test func piecesAndCombinations() {
        var random = SeededRandom(4)
        for _ in 0..<300 {
            let bytes = random.bytes(Int(random.next() % 20_000))
            let cut = Int(random.next() % UInt64(bytes.count + 1))
            let head = Array(bytes[..<cut]), tail = Array(bytes[cut...])
            let whole = CRC32C.of(bytes.span.bytes)
            var pieces = CRC32C()
            pieces.update(head.span.bytes)
            let a = pieces.value
            pieces.update(tail.span.bytes)
            #expect(pieces.value == whole)
            #expect(CRC32C(a).value == a)
            let b = CRC32C.of(tail.span.bytes)
            #expect(CRC32C.combine(a, b, lengthB: bytes.count - cut) == whole)
        }
    }

    /// A length no test could checksum: combining in one step and in many must agree.
    @Test func combinationOfHugeLengths() {
        let step = 1 << 40
        var crc: UInt32 = 0x1234_5678
        for _ in 0..<1024 { crc = CRC32C.combine(crc, 0, lengthB: step) }
        #expect(crc == CRC32C.combine(0x1234_5678, 0, lengthB: step * 1024))
        #expect(CRC32C.combine(7, 9, lengthB: 0) == 7 ^ 9)
    }
}

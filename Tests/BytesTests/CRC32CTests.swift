import Bytes
import CShim
import Testing

struct CRC32CTests {
    private func sum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { CRC32C.update(0, $0) } }

    /// RFC 3720, appendix B.4.
    @Test func publishedVectors() {
        #expect(sum(Array(repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(sum(Array(repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(sum(Array(0..<32)) == 0x46DD_794E)
        #expect(sum(Array((0..<32).reversed())) == 0x113F_DB5C)
        #expect(sum(Array("123456789".utf8)) == 0xE306_9283)
        #expect(sum([]) == 0)
    }

    @Test func agreesWithTheDefinitionAtEveryLengthAndAlignment() {
        var state: UInt64 = 99
        let bytes = (0..<40_000).map { _ -> UInt8 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 56)
        }
        func slow(_ range: Range<Int>) -> UInt32 {
            var crc: UInt32 = ~0
            for byte in bytes[range] {
                crc ^= UInt32(byte)
                for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
            }
            return ~crc
        }
        for length in [0, 1, 7, 8, 9, 63, 255, 256, 767, 768, 769, 2_000, 12_287, 12_288, 12_289, 39_000] {
            for start in [0, 1, 3, 8, 13] {
                let range = start..<(start + length)
                bytes.withUnsafeBytes { all in
                    let part = UnsafeRawBufferPointer(rebasing: all[range])
                    let expected = slow(range)
                    #expect(CRC32C.update(0, part) == expected)
                    #expect(part.baseAddress.map { shim_crc32c_by_table(0, $0, part.count) } == expected)
                    let middle = length / 3
                    let a = CRC32C.update(0, UnsafeRawBufferPointer(rebasing: part[..<middle]))
                    let rest = UnsafeRawBufferPointer(rebasing: part[middle...])
                    #expect(CRC32C.update(a, rest) == expected)
                    #expect(CRC32C.combine(a, CRC32C.update(0, rest), lengthOfB: UInt64(rest.count)) == expected)
                }
            }
        }
    }
}

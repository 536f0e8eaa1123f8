/// A cyclic checksum of up to 64 bits whose bits are taken lowest first, with all ones before and behind: CRC-32 of
/// ISO 3309 and CRC-64/NVME.
public struct ReflectedCRC: Sendable {
    public static let crc32 = ReflectedCRC(polynomial: 0xEDB8_8320, bits: 32)
    public static let crc32c = ReflectedCRC(polynomial: 0x82F6_3B78, bits: 32)
    public static let crc64NVME = ReflectedCRC(polynomial: 0x9A6C_9329_AC4B_C9B5, bits: 64)

    public let bits: Int
    private let polynomial: UInt64
    private let mask: UInt64
    /// Eight tables of 256: what a byte does, seen from so many bytes ahead.
    private let tables: [UInt64]
    /// x to the power of 8 * 2^n.
    private let powers: [UInt64]

    init(polynomial: UInt64, bits: Int) {
        self.bits = bits
        self.polynomial = polynomial
        mask = bits == 64 ? .max : 1 << UInt64(bits) - 1
        var tables = [UInt64](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt64(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ polynomial : value >> 1 }
            tables[byte] = value
        }
        for ahead in 1..<8 {
            for byte in 0..<256 {
                let before = tables[(ahead - 1) * 256 + byte]
                tables[ahead * 256 + byte] = before >> 8 ^ tables[Int(before & 0xff)]
            }
        }
        self.tables = tables
        let one: UInt64 = 1 << UInt64(bits - 1)
        var power = one >> 8
        var powers: [UInt64] = []
        for _ in 0..<64 {
            powers.append(power)
            power = Self.product(power, power, polynomial, bits)
        }
        self.powers = powers
    }

    /// Goes on from the checksum of what came before; 0 is that of nothing.
    public func update(_ checksum: UInt64, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var value = ~checksum & mask
        tables.withUnsafeBufferPointer { table in
            var place = 0
            while bytes.count - place >= 8 {
                let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)) ^ value
                value =
                    table[7 * 256 + Int(word & 0xff)] ^ table[6 * 256 + Int(word >> 8 & 0xff)]
                    ^ table[5 * 256 + Int(word >> 16 & 0xff)] ^ table[4 * 256 + Int(word >> 24 & 0xff)]
                value ^=
                    table[3 * 256 + Int(word >> 32 & 0xff)] ^ table[2 * 256 + Int(word >> 40 & 0xff)]
                    ^ table[256 + Int(word >> 48 & 0xff)] ^ table[Int(word >> 56)]
                place += 8
            }
            while place < bytes.count {
                value = value >> 8 ^ table[Int((value ^ UInt64(bytes[place])) & 0xff)]
                place += 1
            }
        }
        return ~value & mask
    }

    /// The checksum of A followed by B, from the checksums of both and B's length.
    public func combine(_ a: UInt64, _ b: UInt64, lengthB: UInt64) -> UInt64 {
        var moved = a
        var rest = lengthB
        var index = 0
        while rest > 0 {
            if rest & 1 == 1 { moved = Self.product(moved, powers[index], polynomial, bits) }
            rest >>= 1
            index += 1
        }
        return moved ^ b
    }

    /// Of two polynomials, modulo the third; the highest bit is that of x to the power of 0.
    private static func product(_ a: UInt64, _ b: UInt64, _ polynomial: UInt64, _ bits: Int) -> UInt64 {
        var result: UInt64 = 0
        var a = a
        var bit = UInt64(1) << UInt64(bits - 1)
        while bit > 0 {
            if b & bit != 0 { result ^= a }
            a = a & 1 == 1 ? a >> 1 ^ polynomial : a >> 1
            bit >>= 1
        }
        return result
    }
}

import Runtime

/// A seeded stream of numbers: xoshiro256**, by Blackman and Vigna, seeded by splitmix64.
///
/// Each user of chance has a stream of its own, derived from the run's seed and a name, so that one draw more in one
/// place does not change all others.
public struct Generator: RandomNumberGenerator, Sendable {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    public init(seed: UInt64, stream: StaticString = "") {
        var mix = seed
        stream.withUTF8Buffer { for byte in $0 { mix = (mix ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 } }
        func next() -> UInt64 {
            mix &+= 0x9E37_79B9_7F4A_7C15
            var z = mix
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
        state = (next(), next(), next(), next())
    }

    public mutating func next() -> UInt64 {
        func rotated(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }
        let result = rotated(state.1 &* 5, 7) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = rotated(state.3, 45)
        return result
    }

    /// Below `bound`, which is not 0. The bias is far below what a test could notice.
    public mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }
    public mutating func below(_ bound: Int) -> Int { Int(below(UInt64(bound))) }
    /// True once in `odds` draws; never for 0.
    public mutating func once(in odds: Int) -> Bool { odds > 0 && below(UInt64(odds)) == 0 }
}

/// A stream of numbers as a source of randomness, for parts of a test that ask for one.
public final class SeededRandom: RandomSource, @unchecked Sendable {
    private var generator: Generator

    public init(seed: UInt64, stream: StaticString = "") { generator = Generator(seed: seed, stream: stream) }

    public func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: generator.next() >> 32) }
    }
}

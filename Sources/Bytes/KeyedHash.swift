/// A 64-bit hash of bytes under a secret key (SipHash-1-3): clients choose the names that go into our hash tables,
/// and without the key they can not choose names that collide.
public struct KeyedHash: Sendable {
    private let key0: UInt64
    private let key1: UInt64

    public init(_ key0: UInt64, _ key1: UInt64) {
        self.key0 = key0
        self.key1 = key1
    }

    public func callAsFunction(_ span: RawSpan) -> UInt64 { span.withUnsafeBytes { self($0) } }

    public func callAsFunction(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        hash(bytes, compressions: 1, finalizations: 3)
    }

    /// The family's members differ in their numbers of rounds; published vectors exist for 2-4.
    @inline(__always)
    package func hash(_ bytes: UnsafeRawBufferPointer, compressions: Int, finalizations: Int) -> UInt64 {
        var state = SipState(key0, key1)
        let whole = bytes.count & ~7
        var offset = 0
        while offset < whole {
            let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            state.absorb(UInt64(littleEndian: word), compressions)
            offset += 8
        }
        // The last word: what is left, and the length's lowest byte on top.
        var last = UInt64(truncatingIfNeeded: bytes.count) << 56
        var shift: UInt64 = 0
        while offset < bytes.count {
            last |= UInt64(bytes[offset]) &<< shift
            shift += 8
            offset += 1
        }
        state.absorb(last, compressions)
        return state.finish(finalizations)
    }
}

private struct SipState {
    var v0, v1, v2, v3: UInt64

    @inline(__always)
    init(_ key0: UInt64, _ key1: UInt64) {
        // "somepseudorandomlygeneratedbytes", from the specification.
        v0 = key0 ^ 0x736f_6d65_7073_6575
        v1 = key1 ^ 0x646f_7261_6e64_6f6d
        v2 = key0 ^ 0x6c79_6765_6e65_7261
        v3 = key1 ^ 0x7465_6462_7974_6573
    }

    @inline(__always)
    mutating func round() {
        v0 &+= v1
        v1 = rotate(v1, 13) ^ v0
        v0 = rotate(v0, 32)
        v2 &+= v3
        v3 = rotate(v3, 16) ^ v2
        v0 &+= v3
        v3 = rotate(v3, 21) ^ v0
        v2 &+= v1
        v1 = rotate(v1, 17) ^ v2
        v2 = rotate(v2, 32)
    }

    @inline(__always)
    mutating func absorb(_ word: UInt64, _ rounds: Int) {
        v3 ^= word
        for _ in 0..<rounds { round() }
        v0 ^= word
    }

    @inline(__always)
    mutating func finish(_ rounds: Int) -> UInt64 {
        v2 ^= 0xff
        for _ in 0..<rounds { round() }
        return v0 ^ v1 ^ v2 ^ v3
    }

    @inline(__always)
    private func rotate(_ value: UInt64, _ bits: UInt64) -> UInt64 { (value &<< bits) | (value &>> (64 - bits)) }
}

import Bytes
import Testing

@Suite struct KeyedHashTests {
    static let specified = KeyedHash(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)

    /// The specification's own example is of SipHash-2-4; ours differs in its numbers of rounds only.
    @Test func specificationVector() {
        let message = (0..<15).map { UInt8($0) }
        let hash = message.withUnsafeBytes { Self.specified.hash($0, compressions: 2, finalizations: 4) }
        #expect(hash == 0xa129_ca61_49be_45e5)
    }

    @Test func everyByteAndTheKeyCount() {
        var seen = Set<UInt64>()
        var expected = 0
        for length in 0...40 {
            let zeros = [UInt8](repeating: 0, count: length)
            seen.insert(Self.specified(zeros.span.bytes))
            seen.insert(KeyedHash(1, 2)(zeros.span.bytes))
            expected += 2
            for position in 0..<length {
                var changed = zeros
                changed[position] = 1
                seen.insert(Self.specified(changed.span.bytes))
                expected += 1
            }
        }
        #expect(seen.count == expected)
    }
}

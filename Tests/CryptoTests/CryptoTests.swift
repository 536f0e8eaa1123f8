import Bytes
import Crypto
import Testing

@Suite struct CryptoTests {
    private func digest(_ algorithm: Digest.Algorithm, _ text: String) -> String {
        Hexadecimal.encode(Digest.of(algorithm, Array(text.utf8)))
    }

    @Test func digestsOfKnownTexts() {
        #expect(digest(.md5, "") == "d41d8cd98f00b204e9800998ecf8427e")
        #expect(digest(.md5, "abc") == "900150983cd24fb0d6963f7d28e17f72")
        #expect(digest(.sha1, "abc") == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(digest(.sha256, "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    @Test func piecesMakeTheWhole() {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        for algorithm in [Digest.Algorithm.md5, .sha1, .sha256] {
            let digest = Digest(algorithm)
            for start in stride(from: 0, to: 1000, by: 37) {
                digest.update(Array(bytes[start..<min(start + 37, 1000)]))
            }
            #expect(digest.finish() == Digest.of(algorithm, bytes))
            digest.reset()
            #expect(digest.finish() == Digest.of(algorithm, []))
        }
    }

    /// RFC 4231, cases 1, 2 and 6.
    @Test func keyedHashes() {
        let first = HMAC.of(.sha256, key: [UInt8](repeating: 0x0b, count: 20), "Hi There")
        #expect(Hexadecimal.encode(first) == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        let second = HMAC.of(.sha256, key: Array("Jefe".utf8), "what do ya want for nothing?")
        #expect(Hexadecimal.encode(second) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        let long = HMAC.of(
            .sha256, key: [UInt8](repeating: 0xaa, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First"
        )
        #expect(Hexadecimal.encode(long) == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
        // RFC 2202, case 2.
        let old = HMAC.of(.sha1, key: Array("Jefe".utf8), "what do ya want for nothing?")
        #expect(Hexadecimal.encode(old) == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
    }

    @Test func checksumsOfTheCheckText() {
        let text = Array("123456789".utf8)
        let expected: [ChecksumAlgorithm: String] = [
            .crc32: "cbf43926", .crc32c: "e3069283", .crc64nvme: "ae8b14860a799888",
            .sha1: "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            .sha256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ]
        for algorithm in ChecksumAlgorithm.allCases {
            let value = text.withUnsafeBytes { Checksum.of(algorithm, $0) }
            #expect(Hexadecimal.encode(value) == expected[algorithm])
            #expect(value.count == algorithm.count)
        }
    }

    @Test func checksumsOfPartsGiveThatOfTheWhole() {
        let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        for algorithm in [ChecksumAlgorithm.crc32, .crc32c, .crc64nvme] {
            var parts: [(value: [UInt8], length: UInt64)] = []
            for (start, end) in [(0, 1), (1, 8), (8, 8), (8, 4099), (4099, 5000)] {
                let value = Array(bytes[start..<end]).withUnsafeBytes { Checksum.of(algorithm, $0) }
                parts.append((value, UInt64(end - start)))
            }
            #expect(Checksum.combine(algorithm, parts) == bytes.withUnsafeBytes { Checksum.of(algorithm, $0) })
        }
        #expect(Checksum.combine(.sha256, []) == nil)
    }

    @Test func textForms() {
        #expect(Hexadecimal.decode(Array("00fFa1".utf8)) == [0, 255, 0xa1])
        #expect(Hexadecimal.decode(Array("0".utf8)) == nil)
        #expect(Hexadecimal.decode(Array("0g".utf8)) == nil)
        for (bytes, text) in [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"),
        ] {
            #expect(Base64.encode(Array(bytes.utf8)) == text)
            #expect(Base64.decode(text) == Array(bytes.utf8))
        }
        for bad in ["Zg=", "Zg", "Zh==", "Zm9=", "=Zg=", "Z===", "Zg==Zg==", "Zm9*"] {
            #expect(Base64.decode(bad) == nil)
        }
        #expect(Base64.encode([0xfb, 0xff]) == "+/8=")
    }

    @Test func comparesWhole() {
        #expect(isEqualInConstantTime([1, 2], [1, 2]))
        #expect(!isEqualInConstantTime([1, 2], [1, 3]))
        #expect(!isEqualInConstantTime([1, 2], [1]))
    }
}

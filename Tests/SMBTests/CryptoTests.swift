import Bytes
import Crypto
import SMB
import Testing

private func bytes(_ hex: String) -> [UInt8] {
    var result: [UInt8] = []
    var rest = hex[...]
    while rest.count >= 2 {
        result.append(UInt8(rest.prefix(2), radix: 16) ?? 0)
        rest = rest.dropFirst(2)
    }
    return result
}

@Suite struct CryptoTests {
    /// RFC 4493 4, examples 1 to 3.
    @Test func cmac() {
        let code = MessageCode(.aesCMAC, key: bytes("2b7e151628aed2a6abf7158809cf4f3c"))
        #expect(code.code([]) == bytes("bb1d6929e95937287fa37d129b756746"))
        #expect(code.code(bytes("6bc1bee22e409f96e93d7e117393172a")) == bytes("070a16b46b4d4144f79bdd9dd04a287c"))
        #expect(code.code([]) == bytes("bb1d6929e95937287fa37d129b756746"))
    }

    /// RFC 4231 4.3 and RFC 2202 2.
    @Test func hmac() {
        let data = Array("what do ya want for nothing?".utf8)
        let key = Array("Jefe".utf8)
        #expect(
            MessageCode(.hmacSHA256, key: key).code(data)
                == bytes("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
        #expect(MessageCode.hmacMD5(key, data) == bytes("750c783e6ab0b503eaa86e310a5db738"))
    }

    @Test func rc4() {
        var cipher = RC4(key: Array("Key".utf8))
        #expect(cipher.apply(Array("Plaintext".utf8)) == bytes("bbf316e8d940af0ad3"))
    }

    @Test func digests() {
        #expect(ChainedDigest.md5(Array("abc".utf8)) == bytes("900150983cd24fb0d6963f7d28e17f72"))
        let whole = Array("abc".utf8)
        let split = whole[1...].withUnsafeBytes { ChainedDigest.sha512([whole[0]], $0) }
        #expect(split.prefix(8) == bytes("ddaf35a193617aba")[...])
    }

    /// Of the dialect 3.0: derived once by another implementation of SP 800-108.
    @Test func keysAreDerived() {
        let key = KeyDerivation.counter(
            bytes("7cd451825d0450d235424e44ba6e78cc"), label: Array("SMB2AESCMAC\0".utf8),
            context: Array("SmbSign\0".utf8), count: 16)
        #expect(key == bytes("0b7e9c5cac36c0f6ea9ab275298cedce"))
    }

    @Test(arguments: [
        AuthenticatedCipher.Algorithm.aes128CCM, .aes128GCM, .aes256CCM, .aes256GCM,
    ])
    func whatIsSealedOpensAndNothingElse(algorithm: AuthenticatedCipher.Algorithm) {
        let key = [UInt8](repeating: 7, count: algorithm.keyBytes)
        let count = algorithm.isCCM ? 11 : 12
        let sealer = AuthenticatedCipher(algorithm, key: key, nonceBytes: count, encrypts: true)
        let opener = AuthenticatedCipher(algorithm, key: key, nonceBytes: count, encrypts: false)
        for round in 0..<3 {
            let nonce = [UInt8](repeating: UInt8(round), count: count)
            let plain = (0..<1000).map { UInt8(truncatingIfNeeded: $0 + round) }
            let associated = [UInt8](repeating: 9, count: 32)
            var text = plain
            var tag = [UInt8](repeating: 0, count: 16)
            text.withUnsafeMutableBytes { text in
                nonce.withUnsafeBytes { nonce in
                    associated.withUnsafeBytes { associated in
                        tag.withUnsafeMutableBytes { sealer.seal(text, nonce: nonce, associated: associated, tag: $0) }
                    }
                }
            }
            #expect(text != plain)
            func opens(_ text: [UInt8], _ tag: [UInt8], _ associated: [UInt8]) -> [UInt8]? {
                var text = text
                let isGood = text.withUnsafeMutableBytes { text in
                    nonce.withUnsafeBytes { nonce in
                        associated.withUnsafeBytes { associated in
                            tag.withUnsafeBytes { opener.open(text, nonce: nonce, associated: associated, tag: $0) }
                        }
                    }
                }
                return isGood ? text : nil
            }
            #expect(opens(text, tag, associated) == plain)
            var changed = text
            changed[500] ^= 1
            #expect(opens(changed, tag, associated) == nil)
            var other = tag
            other[0] ^= 1
            #expect(opens(text, other, associated) == nil)
            #expect(opens(text, tag, [UInt8](repeating: 8, count: 32)) == nil)
            #expect(opens(text, tag, associated) == plain)
        }
    }
}

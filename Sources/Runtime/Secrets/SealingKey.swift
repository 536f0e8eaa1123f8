import CShim

/// Keeps small secrets from who reads what they are stored in: AES-256-GCM under a key of this server's, which lies in
/// a file that its user alone can read.
///
/// Sealed: nonce (12 bytes), the secret encrypted, tag (16 bytes). Nonces are random: 2^32 secrets may be sealed
/// before that is too few.
public struct SealingKey: Sendable {
    public static let file = "secrets.key"
    public static let overhead = Int(SHIM_SEAL_NONCE + SHIM_SEAL_TAG)
    private static let bytes = Int(SHIM_SEAL_KEY)
    private static let nonceBytes = Int(SHIM_SEAL_NONCE)

    private let key: [UInt8]
    private let random: any RandomSource

    /// Blocks: on a thread that may.
    public static func load(_ disk: any Disk, _ random: any RandomSource) throws(SecretFile.Problem) -> SealingKey {
        let text = Array(try SecretFile.load(file, bytes: bytes, disk, random).utf8)
        let key = stride(from: 0, to: text.count, by: 2).map { index -> UInt8 in
            func digit(_ byte: UInt8) -> UInt8 { byte < 0x3a ? byte &- 0x30 : byte &- 0x57 }
            return digit(text[index]) << 4 | digit(text[index + 1])
        }
        return SealingKey(key: key, random: random)
    }

    package init(key: [UInt8], random: any RandomSource) {
        precondition(key.count == Self.bytes, "a key of AES-256 has 32 bytes")
        self.key = key
        self.random = random
    }

    public func seal(_ plain: [UInt8]) -> [UInt8] {
        var nonce = [UInt8](repeating: 0, count: Self.nonceBytes)
        nonce.withUnsafeMutableBytes { random.fill($0) }
        var sealed = [UInt8](repeating: 0, count: plain.count + Int(SHIM_SEAL_TAG))
        let result = shim_seal(key, nonce, plain, plain.count, &sealed)
        precondition(result == 0, "OpenSSL does not encrypt")
        return nonce + sealed
    }

    /// Nil: it was sealed under another key, or changed since.
    public func open(_ sealed: [UInt8]) -> [UInt8]? {
        guard sealed.count >= Self.overhead else { return nil }
        let count = sealed.count - Self.overhead
        // One more, so that there is memory for an empty secret too.
        var plain = [UInt8](repeating: 0, count: count + 1)
        let nonce = Array(sealed.prefix(Self.nonceBytes))
        guard shim_unseal(key, nonce, Array(sealed.dropFirst(Self.nonceBytes)), count, &plain) == 0 else { return nil }
        return Array(plain.prefix(count))
    }
}

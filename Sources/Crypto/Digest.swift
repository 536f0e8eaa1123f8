import COpenSSL

/// A hash of bytes that come in pieces, by OpenSSL. One allocation for all; none for an update.
///
/// Confined to whoever made it: it may travel between threads, not be used by two.
public final class Digest: @unchecked Sendable {
    public enum Algorithm: Sendable {
        case md5, sha1, sha256

        public var count: Int {
            switch self {
            case .md5: 16
            case .sha1: 20
            case .sha256: 32
            }
        }

        fileprivate var implementation: OpaquePointer {
            switch self {
            case .md5: Self.fetchedMD5.pointer
            case .sha1: Self.fetchedSHA1.pointer
            case .sha256: Self.fetchedSHA256.pointer
            }
        }

        /// Looked up once: OpenSSL would search its providers at each use.
        private struct Fetched: @unchecked Sendable {
            let pointer: OpaquePointer
            init(_ name: String) {
                guard let found = EVP_MD_fetch(nil, name, nil) else {
                    preconditionFailure("OpenSSL has no \(name)")
                }
                pointer = found
            }
        }
        private static let fetchedMD5 = Fetched("MD5")
        private static let fetchedSHA1 = Fetched("SHA1")
        private static let fetchedSHA256 = Fetched("SHA256")
    }

    public let algorithm: Algorithm
    private let context: OpaquePointer

    public init(_ algorithm: Algorithm) {
        self.algorithm = algorithm
        guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a digest") }
        self.context = context
        reset()
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Begins anew.
    public func reset() {
        let result = EVP_DigestInit_ex2(context, algorithm.implementation, nil)
        precondition(result == 1, "a digest can not begin")
    }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0 else { return }
        let result = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
        precondition(result == 1, "a digest that has ended takes no bytes")
    }

    public func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

    /// The hash. Only `reset` may follow.
    public func finish() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: algorithm.count) { buffer, count in
            let result = EVP_DigestFinal_ex(context, buffer.baseAddress, nil)
            precondition(result == 1, "a digest ends once")
            count = algorithm.count
        }
    }

    public static func of(_ algorithm: Algorithm, _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        let digest = Digest(algorithm)
        digest.update(bytes)
        return digest.finish()
    }

    public static func of(_ algorithm: Algorithm, _ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { of(algorithm, $0) }
    }
}

/// A keyed hash (RFC 2104).
public enum HMAC {
    private static let blockBytes = 64

    public static func of(_ algorithm: Digest.Algorithm, key: [UInt8], _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        let key = key.count > blockBytes ? Digest.of(algorithm, key) : key
        var pad = [UInt8](repeating: 0x36, count: blockBytes)
        for index in key.indices { pad[index] ^= key[index] }
        let digest = Digest(algorithm)
        digest.update(pad)
        digest.update(bytes)
        let inner = digest.finish()
        for index in pad.indices { pad[index] ^= 0x36 ^ 0x5c }
        digest.reset()
        digest.update(pad)
        digest.update(inner)
        return digest.finish()
    }

    public static func of(_ algorithm: Digest.Algorithm, key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { of(algorithm, key: key, $0) }
    }

    public static func of(_ algorithm: Digest.Algorithm, key: [UInt8], _ text: String) -> [UInt8] {
        of(algorithm, key: key, Array(text.utf8))
    }
}

/// Whether two byte strings are equal, in a time that does not tell where they differ.
public func isEqualInConstantTime(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    guard a.count == b.count else { return false }
    return CRYPTO_memcmp(a, b, a.count) == 0
}

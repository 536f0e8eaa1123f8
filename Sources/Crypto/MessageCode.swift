import COpenSSL

/// A message authentication code under one key. The context of OpenSSL is made once and kept: a code over the next
/// message sets up nothing but its own state. Belongs to one thread at a time.
public final class MessageCode {
    public enum Algorithm: Sendable {
        case hmacSHA256
        case hmacMD5
        /// RFC 4493.
        case aesCMAC
    }

    private let context: OpaquePointer
    /// How many bytes a code has.
    public let count: Int

    public init(_ algorithm: Algorithm, key: some Sequence<UInt8>) {
        let key = Array(key)
        let (name, parameter, value, count) =
            switch algorithm {
            case .hmacSHA256: ("HMAC", "digest", "SHA256", 32)
            case .hmacMD5: ("HMAC", "digest", "MD5", 16)
            case .aesCMAC: ("CMAC", "cipher", "AES-128-CBC", 16)
            }
        guard let mac = EVP_MAC_fetch(nil, name, nil), let context = EVP_MAC_CTX_new(mac) else {
            preconditionFailure("OpenSSL has no \(name)")
        }
        EVP_MAC_free(mac)
        self.context = context
        self.count = count
        var isGood = false
        // Both texts are pointed at until the code is set up: what is made of a string for one call alone would be gone by then.
        parameter.withCString { parameter in
            value.withCString { text in
                var parameters = [
                    OSSL_PARAM_construct_utf8_string(parameter, UnsafeMutablePointer(mutating: text), 0),
                    OSSL_PARAM_construct_end(),
                ]
                // An empty key would mean "the key there is".
                isGood =
                    key.isEmpty
                    ? EVP_MAC_init(context, [0], 0, &parameters) == 1
                    : EVP_MAC_init(context, key, key.count, &parameters) == 1
            }
        }
        precondition(isGood, "OpenSSL refuses the key of a code")
    }

    deinit { EVP_MAC_CTX_free(context) }

    public func begin() { precondition(EVP_MAC_init(context, nil, 0, nil) == 1, "a code begins again") }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        precondition(
            EVP_MAC_update(context, base.assumingMemoryBound(to: UInt8.self), bytes.count) == 1, "a code goes on")
    }

    /// Writes `count` bytes.
    public func finish(into code: UnsafeMutableRawBufferPointer) {
        precondition(code.count >= count, "room for the code")
        var written = 0
        let base = code.baseAddress?.assumingMemoryBound(to: UInt8.self)
        precondition(EVP_MAC_final(context, base, &written, code.count) == 1 && written == count, "a code ends")
    }

    public func code(_ parts: UnsafeRawBufferPointer...) -> [UInt8] {
        begin()
        for part in parts { update(part) }
        var code = [UInt8](repeating: 0, count: count)
        code.withUnsafeMutableBytes { finish(into: $0) }
        return code
    }

    public func code(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { code($0) } }

    public static func hmacMD5(_ key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        MessageCode(.hmacMD5, key: key).code(bytes)
    }
}

/// Whether both are the same, in a time that does not tell where they differ.
public func equalsInConstantTime(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
    guard a.count == b.count else { return false }
    var difference: UInt8 = 0
    for index in 0..<a.count { difference |= a[index] ^ b[index] }
    return difference == 0
}

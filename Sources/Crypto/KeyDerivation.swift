/// The counter mode of NIST SP 800-108 with HMAC-SHA256.
public enum KeyDerivation {
    /// At most as many bytes as the code has, so there is one block.
    public static func counter(_ key: [UInt8], label: [UInt8], context: [UInt8], count: Int) -> [UInt8] {
        precondition(count > 0 && count <= 32, "one block of keys")
        let bits = UInt32(count * 8)
        let message =
            [0, 0, 0, 1] + label + [0] + context
            + [
                UInt8(truncatingIfNeeded: bits >> 24), UInt8(truncatingIfNeeded: bits >> 16),
                UInt8(truncatingIfNeeded: bits >> 8), UInt8(truncatingIfNeeded: bits),
            ]
        return Array(MessageCode(.hmacSHA256, key: key).code(message).prefix(count))
    }
}

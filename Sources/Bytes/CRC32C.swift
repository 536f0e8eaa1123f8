import CShim

/// The checksum of everything that ProxyFS stores: CRC32C, by the processor's instruction where it has one.
public enum CRC32C {
    /// The checksum of the bytes behind `crc` followed by `bytes`; 0 is the checksum of nothing.
    @inlinable
    public static func update(_ crc: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
        guard let base = bytes.baseAddress else { return crc }
        return shim_crc32c(crc, base, bytes.count)
    }

    /// The checksum of A followed by B.
    public static func combine(_ a: UInt32, _ b: UInt32, lengthOfB: UInt64) -> UInt32 {
        shim_crc32c_combine(a, b, lengthOfB)
    }

    public static var isHardware: Bool { shim_crc32c_is_hardware() != 0 }
}

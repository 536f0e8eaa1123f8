import CShim

/// The checksum of everything that we store (Castagnoli's polynomial, RFC 3720).
///
///     var crc = CRC32C()
///     crc.update(header)
///     crc.update(body)
///     record.checksum = crc.value
public struct CRC32C: Equatable, Sendable {
    public private(set) var value: UInt32

    /// Continues from the checksum of what came before, or begins.
    public init(_ value: UInt32 = 0) { self.value = value }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        value = shim_crc32c(value, bytes.baseAddress, bytes.count)
    }

    public mutating func update(_ span: RawSpan) { span.withUnsafeBytes { update($0) } }

    public static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        shim_crc32c(0, bytes.baseAddress, bytes.count)
    }

    public static func of(_ span: RawSpan) -> UInt32 { span.withUnsafeBytes { of($0) } }

    /// The checksum of A followed by B, from the checksums of both and B's length, without their bytes.
    public static func combine(_ a: UInt32, _ b: UInt32, lengthB: Int) -> UInt32 {
        precondition(lengthB >= 0)
        return shim_crc32c_combine(a, b, UInt64(lengthB))
    }

    /// Whether the processor computes it.
    public static var isHardware: Bool { shim_crc32c_is_hardware() != 0 }
}

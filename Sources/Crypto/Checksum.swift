import Bytes

/// The checksums that S3 knows beside MD5.
public enum ChecksumAlgorithm: UInt8, CaseIterable, Sendable {
    case crc32 = 1
    case crc32c, crc64nvme, sha1, sha256

    public var count: Int {
        switch self {
        case .crc32, .crc32c: 4
        case .crc64nvme: 8
        case .sha1: 20
        case .sha256: 32
        }
    }
}

/// One of them over bytes that come in pieces.
public struct Checksum: Sendable {
    public let algorithm: ChecksumAlgorithm
    private var crc: UInt64 = 0
    private var crc32c = CRC32C()
    private let digest: Digest?

    public init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        digest =
            switch algorithm {
            case .sha1: Digest(.sha1)
            case .sha256: Digest(.sha256)
            case .crc32, .crc32c, .crc64nvme: nil
            }
    }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        switch algorithm {
        case .crc32: crc = ReflectedCRC.crc32.update(crc, bytes)
        case .crc32c: crc32c.update(bytes)
        case .crc64nvme: crc = ReflectedCRC.crc64NVME.update(crc, bytes)
        case .sha1, .sha256: digest?.update(bytes)
        }
    }

    /// The value, its highest byte first. Nothing may follow.
    public func finish() -> [UInt8] {
        switch algorithm {
        case .crc32: Self.bytes(crc, 4)
        case .crc32c: Self.bytes(UInt64(crc32c.value), 4)
        case .crc64nvme: Self.bytes(crc, 8)
        case .sha1, .sha256: digest?.finish() ?? []
        }
    }

    private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
    }

    public static func of(_ algorithm: ChecksumAlgorithm, _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var checksum = Checksum(algorithm)
        checksum.update(bytes)
        return checksum.finish()
    }

    /// Of a whole from its parts' values and lengths; nil for hashes, which can not be put together.
    public static func combine(_ algorithm: ChecksumAlgorithm, _ parts: [(value: [UInt8], length: UInt64)]) -> [UInt8]?
    {
        let crc: ReflectedCRC
        switch algorithm {
        case .crc32: crc = .crc32
        case .crc32c: crc = .crc32c
        case .crc64nvme: crc = .crc64NVME
        case .sha1, .sha256: return nil
        }
        let all = parts.reduce(0 as UInt64) { all, part in
            crc.combine(all, part.value.reduce(0) { $0 << 8 | UInt64($1) }, lengthB: part.length)
        }
        return bytes(all, algorithm.count)
    }
}

import Runtime
import Transfer

/// A bucket, and how to reach it.
public struct S3Options: Sendable, Equatable {
    public enum Addressing: String, Sendable, CaseIterable {
        /// `https://HOST/BUCKET/NAME`
        case path
        /// `https://BUCKET.HOST/NAME`
        case virtual
    }

    public var bucket: String
    /// In front of all names, with a slash between; may be empty.
    public var prefix = ""
    public var endpoint: Endpoint
    public var region = "us-east-1"
    public var addressing = Addressing.path
    /// The store decides `If-None-Match: *` in one step, as `proxyfs store check` proved.
    public var createsIfAbsent = true
    /// A listing shows what was stored before it began.
    public var listsConsistently = true
    /// The store takes `x-amz-checksum-crc32c`, or at least does not mind it.
    public var hasChecksums = true
    /// A body beyond this goes in parts, each held in memory while it is sent.
    public var partBytes: UInt64 = 64 << 20

    /// Of S3: fewer are refused but for the last part.
    public static let partBytesMin: UInt64 = 5 << 20
    public static let partsMax: UInt64 = 10_000
    /// What one PUT may carry.
    public static let putBytesMax: UInt64 = 5 << 30
    public static let objectBytesMax: UInt64 = 1 << 40

    /// Nil: that is no bucket's name.
    public init?(bucket: String, endpoint: Endpoint) {
        guard Self.isBucket(bucket) else { return nil }
        self.bucket = bucket
        self.endpoint = endpoint
    }

    private static func isBucket(_ name: String) -> Bool {
        (3...63).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    /// The public store of a region.
    public static func publicEndpoint(region: String) -> Endpoint? {
        guard region.utf8.allSatisfy({ $0 > 0x2c && $0 < 0x7f && $0 != UInt8(ascii: "/") }) else { return nil }
        return Endpoint("https://s3.\(region).amazonaws.com")
    }
}

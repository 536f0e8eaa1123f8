import HTTP
import Logging
import Namespace
import Runtime

/// What an operator, or a test, may set.
public struct S3Limits: Sendable {
    /// One PUT, one part.
    public var putBytesMax: UInt64 = 5 << 30
    /// All parts of an object together.
    public var objectBytesMax: UInt64 = 5 << 40
    /// Of all parts but the last.
    public var partBytesMin: UInt64 = 5 << 20
    public var partsMax = 10_000
    /// Names and values of `x-amz-meta-` fields together.
    public var metadataBytesMax = 2 << 10
    /// Entries of one listing.
    public var keysMax = 1000
    /// Documents that clients send: lists of keys, of parts, policies.
    public var documentBytesMax = 4 << 20
    public var bucketsMax = 10_000
    /// Uploads in parts of a bucket that are under way at a time.
    public var uploadsMax = 10_000
    /// Bodies and answers that are in memory, of all requests together, beyond 16 KiB of each.
    public var transferBytesMax = 256 << 20
    /// Documents that are read whole, of all requests together, with what is made of them. Beyond: 503.
    public var documentShareBytesMax = 256 << 20
    /// A document comes within this time, or not at all.
    public var documentNanoseconds: UInt64 = 60_000_000_000
    /// How often the buckets' rules are looked at.
    public var sweepNanoseconds: UInt64 = 3600 * 1_000_000_000

    public init() {}
}

/// S3 over the volumes of a server: buckets are top-level directories, keys are paths.
///
/// A request is parsed and its signature checked where its head arrives; then a task on the connection's loop answers
/// it. Bodies are taken in as the file system takes them, and never kept whole.
public final class S3Service: RequestHandler {
    let volumes: Volumes
    let credentials: any CredentialSource
    let region: String
    let domains: [String]
    let clock: any WorldClock
    let random: any RandomSource
    let logger: Logger
    public let limits: S3Limits
    private let keys: [SigningKeys]
    package let transfers: TransferShare
    package let documents: TransferShare
    /// Of those who do not say who they are.
    package let documentsOfNobody: TransferShare
    /// Held while an object's record is read, changed and stored: it is one attribute of many things.
    let records = Guarded(())
    /// Uploads that are becoming objects: of two requests at a time only one does it.
    let completing = Guarded<Set<FileID>>([])

    /// The volume that requests without a signature are for.
    static let anonymousVolume = "default"

    public init(
        _ volumes: Volumes, credentials: any CredentialSource, region: String = "us-east-1",
        domains: [String] = [], world: World, logger: Logger, limits: S3Limits = S3Limits()
    ) {
        self.volumes = volumes
        self.credentials = credentials
        self.region = region
        self.domains = domains.map { $0.lowercased() } + ["localhost"]
        clock = world.clock
        random = world.random
        self.logger = logger
        self.limits = limits
        transfers = TransferShare(bytesMax: limits.transferBytesMax)
        documents = TransferShare(bytesMax: limits.documentShareBytesMax)
        documentsOfNobody = TransferShare(bytesMax: max(limits.documentShareBytesMax / 8, 1))
        keys = world.loops.map { _ in SigningKeys() }
    }

    /// Whether a directory of this name in a volume's root is shown as a bucket.
    public static func isBucket(_ name: [UInt8]) -> Bool { Bucket.isShown(name) }

    /// Whether a bucket may be made with this name.
    public static func mayMakeBucket(_ name: String) -> Bool { (try? Bucket.check(name)) != nil }

    /// Whether whoever sent this meant S3 and nothing else.
    public static func isMeant(_ head: RequestHead) -> Bool { S3Request.isSigned(head) }

    public func begin(_ exchange: Exchange) -> (any ExchangeHandler)? {
        let call = S3Call(self, exchange)
        call.start()
        // Refused at once: nobody takes the body in.
        return exchange.hasBegun ? nil : call
    }

    func authenticator(on loop: EventLoop, now: Int64) -> Authenticator {
        Authenticator(
            source: credentials, region: region, keys: keys[loop.index], now: now / 1_000_000_000)
    }
}

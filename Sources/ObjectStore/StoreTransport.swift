import Bytes

/// The seam: one request goes down, one reply comes back, as a store's server would answer it. Retries, conflicts
/// and lost replies are the business of `ObjectStore` above; the simulator and the fault injector sit here.
public protocol StoreTransport: AnyObject, Sendable {
    var capabilities: StoreCapabilities { get }
    /// Answers what the store answered, whatever that is; `.failed` when no answer came, in which case the
    /// request may have been applied or not.
    func perform(_ request: StoreRequest) async -> StoreReply
    /// The answer, if it is at hand and nothing has to be waited for.
    func now(_ request: StoreRequest) -> StoreReply?
    /// Requests as they went to the server; nil: one for each that comes down. From any thread.
    var sent: ObjectStore.Sent? { get }
}

extension StoreTransport {
    public func now(_ request: StoreRequest) -> StoreReply? { nil }
    public var sent: ObjectStore.Sent? { nil }
}

/// What a store really does; `proxyfs store check` proves it, a transport declares it.
public struct StoreCapabilities: Sendable, Equatable {
    /// A PUT with `.absent` is decided by the store in one step: exactly one of many concurrent creators wins.
    public var createIfAbsent: Bool
    /// A file of the local disk can become an object without a copy (same file system).
    public var adoptsFiles: Bool
    /// The largest object that one PUT can make.
    public var objectBytesMax: UInt64
    /// A listing shows every object whose PUT was answered before the listing began.
    public var listsConsistently: Bool
    /// Of several servers that want one thing it can tell which one has it.
    public var decides: Bool { createIfAbsent && listsConsistently }

    public init(createIfAbsent: Bool, adoptsFiles: Bool, objectBytesMax: UInt64, listsConsistently: Bool) {
        self.createIfAbsent = createIfAbsent
        self.adoptsFiles = adoptsFiles
        self.objectBytesMax = objectBytesMax
        self.listsConsistently = listsConsistently
    }
}

/// An object's name: `/`-separated parts of `A-Z a-z 0-9 . _ -`, none of them `.` or `..`, at most 255 bytes in all.
public struct ObjectName: Hashable, Comparable, Sendable, CustomStringConvertible {
    public static let lengthMax = 255
    public let text: String

    /// Nil when the text is not a valid name.
    public init?(_ text: String) {
        guard !text.isEmpty, text.utf8.count <= Self.lengthMax else { return nil }
        for part in text.split(separator: "/", omittingEmptySubsequences: false) {
            guard !part.isEmpty, part != ".", part != ".." else { return nil }
            for byte in part.utf8 {
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    continue
                default: return nil
                }
            }
        }
        self.text = text
    }

    /// Byte order, the order of listings.
    public static func < (a: ObjectName, b: ObjectName) -> Bool { a.text.utf8.lexicographicallyPrecedes(b.text.utf8) }
    public var description: String { text }
}

public struct StoreRequest: Sendable {
    public enum Verb: Sendable {
        case put(ObjectBody, PutCondition)
        /// Nil: the whole object.
        case get(Range<UInt64>?)
        case head
        case delete
    }

    /// A listing names no object: it has a form of its own.
    public enum Kind: Sendable {
        case object(ObjectName, Verb)
        /// At most `limit` names that begin with `prefix` and come after `marker`, in byte order.
        case list(prefix: String, after: String?, limit: Int)
    }

    public var kind: Kind
    /// Nobody waits for an answer beyond this: a transport gives up what it has begun. A task that is canceled ends sooner.
    public var limitNanoseconds: UInt64 = .max
    public init(_ kind: Kind) { self.kind = kind }
}

public enum PutCondition: Sendable, Equatable {
    case always
    /// Only when no object has this name: 412 otherwise. Of many that try at once, one alone wins where the store's
    /// `createIfAbsent` says so; elsewhere it tells a mistake from a success, and what keeps others out is a lease.
    case absent
}

/// Where a PUT's bytes come from. A body can be sent more than once, because a PUT may be retried.
public enum ObjectBody: Sendable {
    case blocks([Block])
    /// A file of `World.disk`, complete, synced by who wrote it, and no longer written to. A store that adopts files
    /// gives it the object's name as a second one, and `ObjectStore` removes the first after the answer, so that a PUT
    /// that was applied without an answer can be sent again; any other store reads it and leaves it to the caller.
    case file(path: String, size: UInt64)
    /// Bytes that are produced while they are sent; `size` of them in all.
    case stream(any BodySource, size: UInt64)

    public var size: UInt64 {
        switch self {
        case .blocks(let blocks): blocks.reduce(0) { $0 + UInt64($1.count) }
        case .file(_, let size), .stream(_, let size): size
        }
    }
}

/// Keeps no place: an attempt that was given up may still draw from it while the next one does.
public protocol BodySource: AnyObject, Sendable {
    /// The piece that begins there, nil at the end.
    func piece(at offset: UInt64) async throws(StoreError) -> Block?
    /// CRC32C of all of it, where it is known without reading it.
    var checksum: UInt32? { get }
}

extension BodySource {
    public var checksum: UInt32? { nil }
}

public struct StoreReply: Sendable {
    /// An HTTP status, as S3 and Swift use them: 200, 201, 204, 206, 404, 409, 412, 416, 429, 500, 503, 507 ...
    public var status: Int
    /// Of a GET.
    public var body: Block?
    /// Of a GET or HEAD: the whole object's size. Nil when unknown.
    public var size: UInt64?
    /// Of a listing.
    public var entries: [ListEntry] = []
    /// Of a listing: there may be more behind the last entry.
    public var truncated = false
    /// What the store asked us to wait before the next try.
    public var retryAfterNanoseconds: UInt64?
    /// What went wrong, for people.
    public var reason: String = ""

    /// Set above the seam: no answer came in time, and the request may still be under way.
    var isTimeout = false

    public init(status: Int) { self.status = status }

    /// No answer came: a connection broke, a deadline passed.
    public static let noAnswer = 0
    /// The process is stopping.
    public static let canceled = -1
}

public struct ListEntry: Sendable, Equatable {
    public var name: ObjectName
    public var size: UInt64
    public init(name: ObjectName, size: UInt64) {
        self.name = name
        self.size = size
    }
}

/// What an operation on a store can end with, retries included.
public enum StoreError: Error, Equatable, Sendable {
    case notFound
    /// A conditional PUT met an object that is not ours.
    case exists
    case badRange
    case noSpace
    /// The store refuses us: credentials, permissions.
    case denied(String)
    /// It did not answer, or answered with errors, until the deadline.
    case unavailable(String)
    /// Bytes do not have the checksum that they were stored with, or an answer makes no sense.
    case corrupt(String)
    /// The caller gave up or the process is stopping.
    case canceled
}

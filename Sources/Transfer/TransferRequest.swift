import Bytes
import Runtime

/// One request of HTTP, as it goes to a store's server.
public struct TransferRequest: Sendable {
    public enum Method: String, Sendable {
        case get = "GET", head = "HEAD", put = "PUT", post = "POST", delete = "DELETE"
    }

    public var method: Method
    /// `http://` or `https://`, without a user's name.
    public var url: String
    /// Sent in this order. Values have no line ends; `perform` answers a failure otherwise.
    public var headers: [(name: String, value: String)] = []
    public var body = TransferBody.none
    /// Bytes of an answer's body that are taken; one that has more ends with `.tooLarge`.
    public var answerBytesMax = TransferRequest.answerBytesStandard
    /// Nothing is waited for beyond this.
    public var limitNanoseconds: UInt64 = 30_000_000_000
    /// False: what is asked is of this host alone, and a proxy would answer for its own.
    public var usesProxy = true
    /// As what it is counted.
    public var purpose = Purpose.object

    public enum Purpose: Sendable {
        case object
        case listing
        /// A token, credentials.
        case access
    }

    public static let answerBytesStandard = 8 << 20

    public init(_ method: Method, _ url: String) {
        self.method = method
        self.url = url
    }
}

/// What is printed of a request has no secrets: headers hold tokens and signatures, queries may.
extension TransferRequest: CustomStringConvertible, CustomReflectable {
    public var description: String { "\(method.rawValue) \(url.prefix { $0 != "?" })" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Where the bytes of a request come from.
public enum TransferBody: Sendable {
    /// No body, and no length.
    case none
    case blocks([Block])
    /// Handed over while they are sent.
    case queue(PieceQueue, size: UInt64)
}

public struct TransferReply: Sendable {
    /// 0: there is no answer, and `failure` says why.
    public var status = 0
    public var headers = AnswerFields()
    /// Nil: the answer had none.
    public var body: Block?
    public var failure: TransferFailure?
    /// Connections that were made for it.
    public var connections = 0

    public init() {}

    public var bodyBytes: [UInt8] {
        guard let body else { return [] }
        defer { extendLifetime(body) }
        return Array(body.bytes)
    }
}

/// Why there is no answer.
public struct TransferFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// The name has no address, or nobody listens there.
        case unreachable
        /// The other side could not prove who it is, or speaks no TLS.
        case tls
        case timeout
        /// It broke off on the way.
        case broken
        /// The answer is larger than what is taken.
        case tooLarge
        /// Whoever asked gave it up.
        case canceled
        /// It can not be sent: a bad URL or header, or this pool has stopped.
        case refused
    }

    public let kind: Kind
    public let reason: String

    public init(_ kind: Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    public var description: String { reason }
}

/// The fields of an answer's head.
public struct AnswerFields: Sendable {
    /// Of all of them together; what is beyond is dropped, and the transfer with it.
    public static let bytesMax = 128 << 10
    private var fields: [(name: String, value: String)] = []

    public init() {}

    public subscript(name: String) -> String? { fields.last { Self.equals($0.name, name) }?.value }

    /// Whether the name of any of them begins so.
    public func has(prefix: String) -> Bool {
        fields.contains { field in
            field.name.utf8.count >= prefix.utf8.count
                && zip(field.name.utf8, prefix.utf8).allSatisfy { Self.lower($0) == Self.lower($1) }
        }
    }

    /// Of a 206: which bytes of the object came, and how many it has; nil for those: nobody said.
    public var contentRange: (bytes: Range<UInt64>, size: UInt64?)? {
        guard let text = self["Content-Range"], text.lowercased().hasPrefix("bytes ") else { return nil }
        let sides = text.dropFirst("bytes ".count).split(separator: "/", omittingEmptySubsequences: false)
        guard sides.count == 2 else { return nil }
        let ends = sides[0].split(separator: "-", omittingEmptySubsequences: false).map { UInt64($0) }
        guard ends.count == 2, let first = ends[0], let last = ends[1], first <= last, last < .max else { return nil }
        if sides[1] == "*" { return (first..<(last + 1), nil) }
        guard let size = UInt64(sides[1]), last < size else { return nil }
        return (first..<(last + 1), size)
    }

    /// Names compare without case, of ASCII alone.
    private static func equals(_ a: String, _ b: String) -> Bool {
        a.utf8.count == b.utf8.count && zip(a.utf8, b.utf8).allSatisfy { lower($0) == lower($1) }
    }

    private static func lower(_ byte: UInt8) -> UInt8 { byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte }

    /// A line as it came; whatever is no field is left out.
    mutating func add(line: UnsafeRawBufferPointer) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else { return }
        fields.append((Self.text(line[..<colon]), Self.text(line[(colon + 1)...])))
    }

    private static func text(_ bytes: Slice<UnsafeRawBufferPointer>) -> String {
        func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 9 || byte == 13 || byte == 10 }
        guard let first = bytes.firstIndex(where: { !isSpace($0) }), let last = bytes.lastIndex(where: { !isSpace($0) })
        else { return "" }
        return String(decoding: bytes[first...last], as: UTF8.self)
    }

    mutating func removeAll() { fields.removeAll() }

    /// What the server asked us to wait: seconds; a date says less than the back-off does, and is not read.
    public var retryAfterNanoseconds: UInt64? {
        guard let text = self["Retry-After"], let seconds = UInt64(text) else { return nil }
        return min(seconds, 3600) * 1_000_000_000
    }
}

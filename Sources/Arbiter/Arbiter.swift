/// Decides, for servers that a store can not keep apart, which of them made a name. Every answer is of one moment: what was true when
/// the question had come in, and before the answer went out.
public protocol Arbiter: Sendable {
    /// Gives the name this value if it has none. Answers the value that it has then.
    func claim(_ name: String, _ value: String) async throws(ArbiterFailure) -> String
    /// Gives the name this value, whatever it has.
    func set(_ name: String, _ value: String) async throws(ArbiterFailure)
    func value(of name: String) async throws(ArbiterFailure) -> String?
    /// Names that begin with `prefix` and come after `marker`, in byte order.
    func values(
        prefix: String, after marker: String?, limit: Int
    ) async throws(ArbiterFailure) -> (entries: [(name: String, value: String)], isTruncated: Bool)
    /// Unless it has another value by now.
    func remove(_ name: String, _ value: String) async throws(ArbiterFailure)
}

/// It did not answer, or not with what was asked; a change may have been made all the same.
public struct ArbiterFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public let reason: String
    /// It refuses us for good: credentials.
    public let isDenied: Bool

    public init(_ reason: String, isDenied: Bool = false) { (self.reason, self.isDenied) = (reason, isDenied) }
    public var description: String { reason }
}

import Bytes

/// What a server does with the bytes of one connection. All calls come on the connection's loop, never nested:
/// a handler that writes, pauses, closes this or another connection inside a call is not called back before it
/// returns.
///
/// The connection keeps its handler until `closed` has returned, so a handler may keep its connection too.
public protocol ConnectionHandler: AnyObject {
    /// The connection may be written to: accepted, or connected; after the TLS handshake where there is one.
    func opened(_ connection: Connection)

    /// Bytes that the handler has not consumed yet, the oldest first; answers how many it consumes now. Called at
    /// most once per readable event: take all complete messages. The view is valid during the call only.
    /// Bytes left over are shown again, with those that follow them, once `Connection.require` is met.
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int

    /// The block of `Connection.fill` has all its bytes.
    func filled(_ block: Block, on connection: Connection)

    /// The peer will send no more; bytes not consumed by now will never be completed. It may still read.
    func ended(_ connection: Connection)

    /// Output that had grown above `outputHigh` has fallen below a quarter of it.
    func drained(_ connection: Connection)

    /// Nothing was sent or received for `idleTimeout`. True: close. False: wait for another `idleTimeout`, as a
    /// handler does that owes the peer an answer.
    func idle(_ connection: Connection) -> Bool

    /// The listener is being drained: close the connection once what has been asked for is answered.
    func draining(_ connection: Connection)

    /// The last call. Output that had not been sent is gone.
    func closed(_ connection: Connection, _ reason: CloseReason)
}

extension ConnectionHandler {
    public func opened(_ connection: Connection) {}
    public func filled(_ block: Block, on connection: Connection) {}
    public func ended(_ connection: Connection) { connection.close() }
    public func drained(_ connection: Connection) {}
    public func idle(_ connection: Connection) -> Bool { true }
    public func draining(_ connection: Connection) { connection.close() }
    public func closed(_ connection: Connection, _ reason: CloseReason) {}
}

/// Why a connection is no more.
public enum CloseReason: Hashable, Sendable {
    /// `close` or `abort` was called.
    case local
    /// Both sides had finished.
    case finished
    /// The operating system's word: reset, refused, unreachable.
    case failed(Errno)
    /// Not open in time: `connectTimeout`, or `handshakeTimeout` for TLS.
    case openTimeout
    case idleTimeout
    /// A message was begun and not completed within `messageTimeout`.
    case messageTimeout
    /// The peer took no byte of the output for `writeTimeout`.
    case writeTimeout
    /// A message needs more than `inputMax`.
    case inputOverflow
    /// The handler wrote on although more than `outputMax` was pending.
    case outputOverflow
    /// The drain's deadline passed.
    case drainDeadline
    /// The peer's TLS is not ours: no handshake, no common version, a certificate that we do not trust.
    case tls(TLSFailure)
}

/// Limits of a connection; each has a default that suits a file server on a local network. Times in nanoseconds.
public struct ConnectionLimits: Sendable {
    /// Bytes that may wait for the handler: the longest message. Memory is taken only as bytes arrive.
    public var inputMax = 1 << 20
    /// Above this many pending output bytes nothing more is read, until a quarter of it is left.
    public var outputHigh = 1 << 20
    /// A connection with more pending than this is closed: its handler does not heed `isOutputFull`.
    public var outputMax = 64 << 20
    /// Bytes read in one go before other connections have their turn.
    public var readBudget = 256 << 10
    /// Zero: never.
    public var idleTimeout: UInt64 = 0
    public var messageTimeout: UInt64 = 60_000_000_000
    public var writeTimeout: UInt64 = 60_000_000_000
    public var connectTimeout: UInt64 = 10_000_000_000
    public var handshakeTimeout: UInt64 = 10_000_000_000
    /// How long a closed connection takes in what the peer still sends. Without it the kernel answers such bytes
    /// with a reset, which can destroy the last reply on its way.
    public var lingerTimeout: UInt64 = 1_000_000_000
    /// ... and for how long in all, from a peer that never stops.
    public var lingerMax: UInt64 = 30_000_000_000

    public init() {}

    func check() {
        precondition(inputMax > 0 && readBudget > 0, "a connection must be able to read")
        precondition(outputHigh > 0 && outputMax >= outputHigh, "outputMax below outputHigh")
    }
}

import CShim

/// What moves the bytes of one `Connection`: a socket, a simulated link, TLS over either. One virtual call per
/// readable event or flush. On the loop only.
///
/// Readiness is level triggered: while there is read interest and input, the owner is called in every round.
open class Transport {
    /// The connection, or the TLS layer above. Strong, and nil after `close`: the loop keeps a transport alive, the
    /// transport its owner, and closing breaks the cycle.
    @exclusivity(unchecked) public final var owner: (any TransportOwner)?

    public init() {}

    /// Called once, when the owner is set. Answers false when `transportOpened` will follow later.
    open func start() -> Bool { abstract() }
    open func read(into buffer: UnsafeMutableRawBufferPointer) -> TransportResult { abstract() }
    open func write(_ bytes: UnsafeRawBufferPointer) -> TransportResult { abstract() }
    /// Writes the vectors in order. At most `vectorsMax` of them.
    open func write(_ vectors: UnsafeBufferPointer<iovec>) -> TransportResult { abstract() }
    /// The owner wants to hear of readability and writability.
    open func setInterest(read: Bool, write: Bool) { abstract() }
    /// Input that was taken from below already, of which no readiness will tell.
    open var hasBufferedInput: Bool { false }
    /// Output that was taken and that the other end does not have yet, as far as that is known.
    open var unreadOutput: Int { 0 }
    /// No more output follows: the peer reads an end.
    open func finishWriting() { abstract() }
    /// Ends both directions at once. Idempotent.
    open func close() { abstract() }
    /// Whether the peer is known to be who it is by a certificate, and who runs it on a Unix socket.
    open var identity: PeerIdentity { PeerIdentity() }

    /// Vectors in one `write`: enough for 32 replies of header and data.
    public static let vectorsMax = 64

    private func abstract() -> Never { preconditionFailure("Transport is abstract") }
}

public enum TransportResult {
    /// So many bytes, at least one. When reading, `more` tells that another read may give more at once; when
    /// writing, that all was taken.
    case bytes(Int, more: Bool)
    case wouldBlock
    /// Reading only: the peer has finished.
    case end
    case failed(CloseReason)
}

public protocol TransportOwner: AnyObject {
    func transportOpened()
    func transportReadable()
    func transportWritable()
    func transportFailed(_ reason: CloseReason)
}

/// What is known of the other end.
public struct PeerIdentity: Sendable, Equatable {
    /// The process that connected to a Unix socket.
    public var credentials: PeerCredentials?
    /// The protocol agreed on by ALPN.
    public var applicationProtocol: String?
    /// The name that the client asked for (SNI).
    public var serverName: String?
    /// The subject of the certificate that the peer showed and that was verified.
    public var certificateSubject: String?
    public var tlsVersion: String?

    public init() {}
}

public struct PeerCredentials: Sendable, Equatable {
    public var process: Int32
    public var user: UInt32
    public var group: UInt32

    public init(process: Int32, user: UInt32, group: UInt32) {
        self.process = process
        self.user = user
        self.group = group
    }
}

/// Listeners, outgoing connections and datagrams, real or simulated.
public protocol Network: AnyObject, Sendable {
    /// Accepts connections from now on and spreads them over `loops`. `accept` is called on the loop of the new
    /// connection and makes its handler; with nil the connection is closed. A port of 0 takes any free one:
    /// `Listener.address` has it. On the loop or off it; does not wait.
    func listen(
        on address: SocketAddress, _ options: ListenerOptions, loops: [EventLoop],
        accept: @escaping @Sendable (Connection) -> (any ConnectionHandler)?
    ) throws(Errno) -> Listener

    /// Begins to connect; `opened` or `closed` of the handler tells how it went. On `loop` only.
    func connect(
        to address: SocketAddress, _ options: ConnectOptions, on loop: EventLoop, handler: any ConnectionHandler
    ) -> Connection

    /// Binds a socket for datagrams, whose handler is called on `loop`. On `loop` only.
    func datagrams(on address: SocketAddress, loop: EventLoop, handler: any DatagramHandler) throws(Errno)
        -> DatagramSocket
}

public struct ListenerOptions: Sendable {
    public var limits = ConnectionLimits()
    /// Connections above this are closed at once and counted.
    public var connectionsMax = 16_384
    /// Connections that the kernel has completed and nobody has accepted yet.
    public var backlog: Int32 = 1024
    /// Permission bits of a Unix socket's name.
    public var unixMode: UInt32 = 0o600
    public var tls: TLSServer?

    public init() {}
}

public struct ConnectOptions: Sendable {
    public var limits = ConnectionLimits()
    public var tls: TLSClient?
    /// Binds to a port below 1024 first, as some NFS peers ask of callbacks; needs the capability.
    public var privilegedPort = false

    public init() {}
}

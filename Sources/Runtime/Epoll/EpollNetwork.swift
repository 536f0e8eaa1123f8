import CShim

/// The machine's network. All loops given to it must be `EpollLoop`s.
public final class EpollNetwork: Network {
    public init() {}

    public func listen(
        on address: SocketAddress, _ options: ListenerOptions, loops: [EventLoop],
        accept: @escaping @Sendable (Connection) -> (any ConnectionHandler)?
    ) throws(Errno) -> Listener {
        var raw = try address.raw()
        let fd = shim_listen(&raw, options.backlog, options.unixMode)
        guard fd >= 0 else { throw Errno(-fd) }
        let listener = Listener(
            address: Self.localAddress(fd) ?? address, options: options, loops: loops, accept: accept)
        let acceptor = SocketAcceptor(loop: Self.epoll(loops[0]), fd: fd, listener: listener)
        listener.start(acceptor)
        acceptor.start()
        return listener
    }

    public func connect(
        to address: SocketAddress, _ options: ConnectOptions, on loop: EventLoop, handler: any ConnectionHandler
    ) -> Connection {
        precondition(loop.isCurrent, "a connection is made on its loop")
        let lower: Transport
        var local = address
        do throws(Errno) {
            var raw = try address.raw()
            var inProgress: Int32 = 0
            let fd = shim_connect(&raw, options.privilegedPort ? 1 : 0, &inProgress)
            guard fd >= 0 else { throw Errno(-fd) }
            local = Self.localAddress(fd) ?? address
            lower = Self.transport(Self.epoll(loop), fd, address, isConnecting: inProgress != 0)
        } catch {
            lower = FailedTransport(loop: loop, error)
        }
        let connection = Connection(
            loop: loop, transport: options.tls.map { TLSTransport(client: $0, over: lower, loop: loop) } ?? lower,
            settings: ConnectionSettings(options.limits, isTLS: options.tls != nil), local: local, remote: address,
            outgoing: true)
        connection.begin(handler)
        return connection
    }

    public func datagrams(
        on address: SocketAddress, loop: EventLoop, handler: any DatagramHandler
    ) throws(Errno) -> DatagramSocket {
        precondition(loop.isCurrent, "a socket is made on its loop")
        var raw = try address.raw()
        let fd = shim_datagram_socket(&raw)
        guard fd >= 0 else { throw Errno(-fd) }
        return try EpollDatagramSocket(
            loop: Self.epoll(loop), fd: fd, localAddress: Self.localAddress(fd) ?? address, handler: handler)
    }

    static func epoll(_ loop: EventLoop) -> EpollLoop {
        guard let loop = loop as? EpollLoop else { preconditionFailure("the machine's network needs its own loops") }
        return loop
    }

    static func localAddress(_ fd: Int32) -> SocketAddress? {
        var raw = shim_address()
        return shim_local_address(fd, &raw) == 0 ? SocketAddress(raw) : nil
    }

    static func transport(_ loop: EpollLoop, _ fd: Int32, _ remote: SocketAddress, isConnecting: Bool) -> Transport {
        var credentials: PeerCredentials?
        if case .unix = remote {
            var (process, user, group) = (Int32(0), UInt32(0), UInt32(0))
            if shim_peer_credentials(fd, &process, &user, &group) == 0 {
                credentials = PeerCredentials(process: process, user: user, group: group)
            }
        } else {
            shim_tune_tcp(fd)
        }
        return SocketTransport(loop: loop, fd: fd, isConnecting: isConnecting, credentials: credentials)
    }
}

extension SocketAddress {
    fileprivate func raw() throws(Errno) -> shim_address {
        var raw = shim_address()
        guard store(into: &raw) else { throw .invalid }
        return raw
    }
}

/// Stands for a connection that failed before there was a socket, so that all failures are told in one way: later.
private final class FailedTransport: Transport {
    private let loop: EventLoop
    private let error: Errno
    init(loop: EventLoop, _ error: Errno) {
        self.loop = loop
        self.error = error
    }
    override func start() -> Bool {
        _ = loop.schedule(after: 0) { [self] in owner?.transportFailed(.failed(error)) }
        return false
    }
    override func setInterest(read: Bool, write: Bool) {}
    override func close() { owner = nil }
}

import CShim

/// A listening socket on one loop, which hands what it accepts to the `Listener`.
final class SocketAcceptor: Acceptor, @unchecked Sendable {
    /// Accepted in one go before others have their turn.
    private static let batchMax = 64
    /// How long nothing is accepted after the process ran out of descriptors or memory: the peers wait in the
    /// kernel's queue, and connections that end meanwhile make room.
    private static let pause: UInt64 = 100_000_000

    private let loop: EpollLoop
    private let listener: Listener
    // Confined to the loop.
    private var fd: Int32
    private var isWatched = false
    private lazy var watch = Watch(self)

    private final class Watch: EventSource {
        private unowned let acceptor: SocketAcceptor
        init(_ acceptor: SocketAcceptor) { self.acceptor = acceptor }
        override func ready(_ events: UInt32) { acceptor.acceptAll() }
        override func loopEnds() { acceptor.close() }
    }

    init(loop: EpollLoop, fd: Int32, listener: Listener) {
        self.loop = loop
        self.fd = fd
        self.listener = listener
    }

    func start() { onLoop { $0.listen() } }

    override func stop() { onLoop { $0.close() } }

    private func onLoop(_ work: @escaping @Sendable (SocketAcceptor) -> Void) {
        if loop.isCurrent { work(self) } else { loop.execute { work(self) } }
    }

    private func listen() {
        guard fd >= 0, !isWatched else { return }
        isWatched = loop.add(watch, fd: fd, interest: UInt32(SHIM_READABLE)) == 0
        if !isWatched { rest() }
    }

    private func close() {
        guard fd >= 0 else { return }
        if isWatched { loop.remove(fd: fd) }
        isWatched = false
        shim_close(fd)
        fd = -1
        if case .unix(let path) = listener.address { shim_unlink(path) }
    }

    private func rest() {
        if isWatched { loop.remove(fd: fd) }
        isWatched = false
        _ = loop.schedule(after: Self.pause) { [weak self] in self?.listen() }
    }

    private func acceptAll() {
        for _ in 0..<Self.batchMax where fd >= 0 {
            var raw = shim_address()
            let accepted = shim_accept(fd, &raw)
            if accepted >= 0 {
                take(accepted, SocketAddress(raw) ?? .unix(""))
                continue
            }
            switch -accepted {
            case EAGAIN: return
            case EMFILE, ENFILE, ENOMEM, ENOBUFS: return rest()
            // The peer gave up before we came, or its network did: the next one may be well.
            default: continue
            }
        }
    }

    private func take(_ accepted: Int32, _ remote: SocketAddress) {
        let local = EpollNetwork.localAddress(accepted) ?? listener.address
        let admitted = listener.admit(
            local: local, remote: remote,
            transport: { EpollNetwork.transport(EpollNetwork.epoll($0), accepted, remote, isConnecting: false) },
            discard: { shim_close(accepted) })
        if !admitted { shim_close(accepted) }
    }
}

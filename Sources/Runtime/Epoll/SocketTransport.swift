import CShim

/// A connected TCP or Unix socket on an `EpollLoop`.
final class SocketTransport: Transport {
    private let loop: EpollLoop
    @exclusivity(unchecked) private var fd: Int32
    private let credentials: PeerCredentials?
    @exclusivity(unchecked) private var isConnecting: Bool
    /// What the owner wants to hear of.
    @exclusivity(unchecked) private var wanted: UInt32 = 0
    /// What epoll watches for: all of that, and what was wanted before until it comes. Who reads one request at a time has mostly
    /// answered it before there is more, and then pays for no change.
    @exclusivity(unchecked) private var watched: UInt32 = 0
    private lazy var watch = Watch(self)

    /// The loop's view of the socket. Apart from the transport because a class has one superclass.
    private final class Watch: EventSource {
        /// The transport removes the watch before it goes.
        private unowned(unsafe) let transport: SocketTransport
        init(_ transport: SocketTransport) { self.transport = transport }
        override func ready(_ events: UInt32) {
            let transport = transport
            withExtendedLifetime(transport) { transport.ready(events) }
        }
        override func loopEnds() { transport.owner?.transportFailed(.local) }
    }

    /// Owns `fd` from now on.
    init(loop: EpollLoop, fd: Int32, isConnecting: Bool, credentials: PeerCredentials?) {
        self.loop = loop
        self.fd = fd
        self.isConnecting = isConnecting
        self.credentials = credentials
    }

    deinit {
        precondition(watched == 0, "a watched socket was dropped without being closed")
        if fd >= 0 { shim_close(fd) }
    }

    override func start() -> Bool {
        if isConnecting { setInterest(read: false, write: true) }
        return !isConnecting
    }

    private func ready(_ events: UInt32) {
        // The owner may close us, and so drop the last reference, in any of these calls.
        guard let owner else { return }
        if isConnecting { return connected(owner) }
        let broken = events & UInt32(SHIM_BROKEN) != 0
        // It would be told again and again.
        if broken ? wanted == 0 : events & watched & ~wanted != 0 { watch(for: wanted) }
        // A broken socket is told to whoever waits: the next call finds out what is wrong with it.
        if wanted & UInt32(SHIM_READABLE) != 0, broken || events & UInt32(SHIM_READABLE) != 0 {
            owner.transportReadable()
        }
        guard fd >= 0, wanted & UInt32(SHIM_WRITABLE) != 0 else { return }
        if broken || events & UInt32(SHIM_WRITABLE) != 0 { owner.transportWritable() }
    }

    private func connected(_ owner: any TransportOwner) {
        isConnecting = false
        let error = shim_socket_error(fd)
        guard error == 0 else { return owner.transportFailed(.failed(Errno(error))) }
        setInterest(read: false, write: false)
        owner.transportOpened()
    }

    override func read(into buffer: UnsafeMutableRawBufferPointer) -> TransportResult {
        let count = shim_receive(fd, buffer.baseAddress, buffer.count)
        if count > 0 { return .bytes(count, more: count == buffer.count) }
        return count == 0 ? .end : Self.failure(count)
    }

    override func write(_ bytes: UnsafeRawBufferPointer) -> TransportResult {
        let count = shim_send(fd, bytes.baseAddress, bytes.count)
        return count >= 0 ? .bytes(count, more: count == bytes.count) : Self.failure(count)
    }

    override func write(_ vectors: UnsafeBufferPointer<iovec>) -> TransportResult {
        var total = 0
        for vector in vectors { total += vector.iov_len }
        let count = shim_send_vectors(fd, vectors.baseAddress, Int32(vectors.count))
        return count >= 0 ? .bytes(count, more: count == total) : Self.failure(count)
    }

    private static func failure(_ result: Int) -> TransportResult {
        let error = Errno(Int32(-result))
        return error == .wouldBlock ? .wouldBlock : .failed(.failed(error))
    }

    override func setInterest(read: Bool, write: Bool) {
        let wanted = (read ? UInt32(SHIM_READABLE) : 0) | (write ? UInt32(SHIM_WRITABLE) : 0)
        guard fd >= 0 else { return }
        self.wanted = wanted
        if wanted & ~watched != 0 { watch(for: wanted) }
    }

    /// A socket of which nothing is wanted and something came is not in epoll at all: a broken one would be reported for ever.
    private func watch(for wanted: UInt32) {
        if wanted == 0 {
            loop.remove(fd: fd)
        } else if watched != 0 {
            loop.change(fd: fd, interest: wanted)
        } else if loop.add(watch, fd: fd, interest: wanted) != 0 {
            self.wanted = 0
            owner?.transportFailed(.failed(Errno(ENOMEM)))
            return
        }
        watched = wanted
    }

    override var unreadOutput: Int { fd >= 0 ? Int(shim_unread(fd)) : 0 }

    override func finishWriting() { if fd >= 0 { _ = shim_shutdown_write(fd) } }

    override func close() {
        owner = nil
        guard fd >= 0 else { return }
        if watched != 0 { loop.remove(fd: fd) }
        (wanted, watched) = (0, 0)
        shim_close(fd)
        fd = -1
    }

    override var identity: PeerIdentity {
        var identity = PeerIdentity()
        identity.credentials = credentials
        return identity
    }
}

import CShim

/// A UDP socket on an `EpollLoop`. Its buffers are there for its whole life: a program has few such sockets.
final class EpollDatagramSocket: DatagramSocket, @unchecked Sendable {
    private static let count = DatagramSocket.batchMax
    /// One byte more than the longest, so that a longer one shows as cut.
    private static let capacity = DatagramSocket.bytesMax + 1
    /// Batches received in one go before others have their turn.
    private static let batchesPerEvent = 8

    private let epollLoop: EpollLoop
    private var fd: Int32
    private var handler: (any DatagramHandler)?
    private let memory: UnsafeMutableRawPointer
    private let received: UnsafeMutablePointer<shim_datagram>
    private let queued: UnsafeMutablePointer<shim_datagram>
    private var queuedCount = 0
    private var isBusy = false
    private var isFlushScheduled = false
    private lazy var watch = Watch(self)

    private final class Watch: EventSource {
        private unowned let socket: EpollDatagramSocket
        init(_ socket: EpollDatagramSocket) { self.socket = socket }
        override func ready(_ events: UInt32) { socket.receiveAll() }
        override func loopEnds() { socket.close() }
    }

    init(
        loop: EpollLoop, fd: Int32, localAddress: SocketAddress, handler: any DatagramHandler
    ) throws(Errno) {
        epollLoop = loop
        self.fd = fd
        self.handler = handler
        memory = .allocate(byteCount: 2 * Self.count * Self.capacity, alignment: 4096)
        received = .allocate(capacity: Self.count)
        queued = .allocate(capacity: Self.count)
        received.initialize(repeating: shim_datagram(), count: Self.count)
        queued.initialize(repeating: shim_datagram(), count: Self.count)
        for index in 0..<Self.count {
            received[index].bytes = memory + index * Self.capacity
            queued[index].bytes = memory + (Self.count + index) * Self.capacity
        }
        super.init(loop: loop, localAddress: localAddress)
        let added = loop.add(watch, fd: fd, interest: UInt32(SHIM_READABLE))
        guard added == 0 else { throw Errno(-added) }
    }

    deinit {
        if fd >= 0 { shim_close(fd) }
        memory.deallocate()
        received.deallocate()
        queued.deallocate()
    }

    override func reserve() -> UnsafeMutableRawBufferPointer {
        if queuedCount == Self.count { flush() }
        return UnsafeMutableRawBufferPointer(start: queued[queuedCount].bytes, count: Self.bytesMax)
    }

    override func send(_ count: Int, to peer: DatagramPeer) {
        precondition(count >= 0 && count <= Self.bytesMax, "more than was reserved")
        guard fd >= 0, peer.remote.store(into: &queued[queuedCount].remote) else { return drop(1) }
        if peer.local?.store(into: &queued[queuedCount].local) != true { queued[queuedCount].local = shim_address() }
        queued[queuedCount].count = UInt32(count)
        queuedCount += 1
        guard !isBusy, !isFlushScheduled else { return }
        isFlushScheduled = true
        loop.execute { [self] in
            isFlushScheduled = false
            flush()
        }
    }

    private func drop(_ count: Int) { loop.counters.datagramsDropped.add(UInt64(count)) }

    private func flush() {
        var first = 0
        while first < queuedCount, fd >= 0 {
            let sent = shim_send_datagrams(fd, queued + first, UInt32(queuedCount - first))
            if sent > 0 {
                loop.counters.datagramsOut.add(UInt64(sent))
                first += Int(sent)
            } else {
                // The kernel refuses the first one (no route, no room, too long for the path): it is lost as on the
                // wire. The others may be well.
                drop(1)
                first += 1
            }
        }
        queuedCount = 0
    }

    private func receiveAll() {
        isBusy = true
        for _ in 0..<Self.batchesPerEvent where fd >= 0 {
            let count = shim_receive_datagrams(fd, received, UInt32(Self.count), UInt32(Self.capacity))
            // Errors that are told here (an earlier datagram found nobody) concern nobody.
            guard count > 0 else { break }
            loop.counters.datagramsIn.add(UInt64(count))
            for index in 0..<Int(count) { deliver(received[index]) }
            if count < Self.count { break }
        }
        isBusy = false
        flush()
    }

    private func deliver(_ datagram: shim_datagram) {
        guard let handler, datagram.truncated == 0, datagram.count <= Self.bytesMax,
            let remote = SocketAddress(datagram.remote)
        else { return drop(1) }
        let peer = DatagramPeer(remote: remote, local: SocketAddress(datagram.local))
        handler.received(
            UnsafeRawBufferPointer(start: datagram.bytes, count: Int(datagram.count)), from: peer, on: self)
    }

    override func close() {
        handler = nil
        guard fd >= 0 else { return }
        if queuedCount > 0 { flush() }
        epollLoop.remove(fd: fd)
        shim_close(fd)
        fd = -1
    }
}

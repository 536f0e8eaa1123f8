import Runtime

/// The network as one host sees it. Addresses of loopback and "all" stand for the host itself.
final class SimulatedNetwork: Network, @unchecked Sendable {
    private let fabric: SimulatedFabric
    private let host: UInt32

    init(_ fabric: SimulatedFabric, host: UInt32) {
        self.fabric = fabric
        self.host = host
    }

    func listen(
        on address: SocketAddress, _ options: ListenerOptions, loops: [EventLoop],
        accept: @escaping @Sendable (Connection) -> (any ConnectionHandler)?
    ) throws(Errno) -> Listener {
        let place = try fabric.claim(address, on: host, .stream)
        let listener = Listener(
            address: fabric.shown(place, address), options: options, loops: loops, accept: accept)
        let acceptor = SimulatedAcceptor(fabric, place, listener)
        fabric.acceptors[place] = acceptor
        listener.start(acceptor)
        return listener
    }

    func connect(
        to address: SocketAddress, _ options: ConnectOptions, on loop: EventLoop, handler: any ConnectionHandler
    ) -> Connection {
        let transport = SimulatedTransport(fabric, host: host)
        let remote = fabric.place(of: address, seenFrom: host, .stream)
        let local = SimulatedFabric.address(host, fabric.ephemeralPort(host))
        let connection = Connection(
            loop: loop, transport: options.tls?.transport(over: transport, loop: loop) ?? transport,
            settings: ConnectionSettings(options.limits, isTLS: options.tls != nil), local: local, remote: address,
            outgoing: true)
        transport.connect(to: remote, from: local)
        connection.begin(handler)
        return connection
    }

    func datagrams(
        on address: SocketAddress, loop: EventLoop, handler: any DatagramHandler
    ) throws(Errno) -> DatagramSocket {
        let place = try fabric.claim(address, on: host, .datagram)
        let socket = SimulatedDatagramSocket(
            fabric, place, loop: loop, localAddress: fabric.shown(place, address), handler: handler)
        fabric.sockets[place] = socket
        return socket
    }
}

final class SimulatedAcceptor: Acceptor, @unchecked Sendable {
    private let fabric: SimulatedFabric
    private let place: SimulatedFabric.Place
    let listener: Listener

    init(_ fabric: SimulatedFabric, _ place: SimulatedFabric.Place, _ listener: Listener) {
        self.fabric = fabric
        self.place = place
        self.listener = listener
    }

    override func stop() { fabric.acceptors[place] = nil }
}

/// Datagrams of one host and port. What goes wrong with them goes wrong on the way: here all are taken.
final class SimulatedDatagramSocket: DatagramSocket, @unchecked Sendable {
    private let fabric: SimulatedFabric
    private let place: SimulatedFabric.Place
    private var handler: (any DatagramHandler)?
    private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: DatagramSocket.bytesMax, alignment: 64)

    init(
        _ fabric: SimulatedFabric, _ place: SimulatedFabric.Place, loop: EventLoop, localAddress: SocketAddress,
        handler: any DatagramHandler
    ) {
        self.fabric = fabric
        self.place = place
        self.handler = handler
        super.init(loop: loop, localAddress: localAddress)
    }

    deinit { memory.deallocate() }

    override func reserve() -> UnsafeMutableRawBufferPointer { memory }

    override func send(_ count: Int, to peer: DatagramPeer) {
        precondition(count >= 0 && count <= Self.bytesMax, "more than was reserved")
        guard handler != nil else { return }
        loop.counters.datagramsOut.add(1)
        fabric.carry(Array(memory.prefix(count)), from: place, to: peer.remote)
    }

    func receive(_ bytes: [UInt8], from remote: SocketAddress) {
        guard let handler else { return }
        loop.counters.datagramsIn.add(1)
        let local = SimulatedFabric.address(place.host, 0)
        bytes.withUnsafeBytes { handler.received($0, from: DatagramPeer(remote: remote, local: local), on: self) }
    }

    override func close() {
        handler = nil
        fabric.sockets[place] = nil
    }
}

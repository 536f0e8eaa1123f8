import Runtime

/// What lies between the hosts of one incarnation: who listens where, who can not reach whom, how long things take.
final class SimulatedFabric: @unchecked Sendable {
    enum Kind: Hashable { case stream, datagram }

    struct Place: Hashable {
        var host: UInt32
        var port: UInt16
        /// Of a Unix socket, whose host is 0.
        var path = ""
        var kind: Kind
    }

    struct Pair: Hashable {
        let low: UInt32
        let high: UInt32
        init(_ a: UInt32, _ b: UInt32) { (low, high) = (min(a, b), max(a, b)) }
    }

    static let latencyMin: UInt64 = 20_000
    static let latencySpread: UInt64 = 200_000
    static let slowMax: UInt64 = 300_000_000
    /// How long a sender waits before it sends again what nobody has acknowledged.
    static let retryInterval: UInt64 = 200_000_000
    static let partitionMax: UInt64 = 5_000_000_000
    private static let firstEphemeral: UInt16 = 32_768

    private weak var simulation: Simulation?
    private var incarnation = 0

    var acceptors: [Place: SimulatedAcceptor] = [:]
    var sockets: [Place: SimulatedDatagramSocket] = [:]
    /// Open ends, by number, so that they are visited in the order in which they were made.
    private var ends: [UInt64: SimulatedTransport] = [:]
    private var lastEnd: UInt64 = 0
    private var hosts: [String: UInt32] = [:]
    private var partitions: [Pair: UInt64] = [:]
    private var nextPorts: [UInt32: UInt16] = [:]

    func bind(_ simulation: Simulation, _ incarnation: Int) {
        self.simulation = simulation
        self.incarnation = incarnation
    }

    // MARK: Hosts and addresses

    func host(_ name: String) -> UInt32 {
        if let known = hosts[name] { return known }
        let host = 0x0a00_0001 + UInt32(hosts.count)
        hosts[name] = host
        return host
    }

    static func address(_ host: UInt32, _ port: UInt16) -> SocketAddress { .ipv4(host, port: port) }

    /// Where `address` leads to; IPv6 hosts are told by their low bits.
    func place(of address: SocketAddress, seenFrom host: UInt32, _ kind: Kind) -> Place {
        switch address {
        case .unix(let path): return Place(host: 0, port: 0, path: path, kind: kind)
        case .ipv4(let number, let port):
            return Place(host: address.isLoopback || number == 0 ? host : number, port: port, kind: kind)
        case .ipv6(_, let low, let port, _):
            let isSelf = address.isLoopback || low == 0
            return Place(host: isSelf ? host : UInt32(truncatingIfNeeded: low), port: port, kind: kind)
        }
    }

    func claim(_ address: SocketAddress, on host: UInt32, _ kind: Kind) throws(Errno) -> Place {
        var place = place(of: address, seenFrom: host, kind)
        guard place.host == host || place.host == 0 else { throw .invalid }
        if place.port == 0, place.path.isEmpty { place.port = ephemeralPort(host) }
        guard acceptors[place] == nil, sockets[place] == nil else { throw .addressInUse }
        return place
    }

    func shown(_ place: Place, _ address: SocketAddress) -> SocketAddress { address.with(port: place.port) }

    func ephemeralPort(_ host: UInt32) -> UInt16 {
        let port = nextPorts[host] ?? Self.firstEphemeral
        nextPorts[host] = port == .max ? Self.firstEphemeral : port + 1
        return port
    }

    // MARK: Time and chance

    func after(_ nanoseconds: UInt64, _ work: @escaping () -> Void) {
        simulation?.schedule(after: nanoseconds, incarnation: incarnation, .closure(work))
    }

    var now: UInt64 { simulation?.now ?? 0 }

    func latency() -> UInt64 {
        guard let simulation else { return Self.latencyMin }
        return Self.latencyMin + simulation.traffic.below(Self.latencySpread)
    }

    /// Draws, and counts what was drawn.
    func happens(_ odds: KeyPath<FaultMix, Int>, _ count: WritableKeyPath<FaultCounts, Int>) -> Bool {
        guard let simulation, simulation.traffic.once(in: simulation.faults[keyPath: odds]) else { return false }
        simulation.counts[keyPath: count] += 1
        return true
    }

    func below(_ bound: Int) -> Int { simulation?.traffic.below(bound) ?? 0 }

    func trace(_ a: UInt64, _ b: UInt64) { simulation?.trace(3, a, b) }

    // MARK: Partitions

    func partition(_ a: UInt32, _ b: UInt32, until time: UInt64) { if a != b { partitions[Pair(a, b)] = time } }
    func heal(_ a: UInt32, _ b: UInt32) { partitions[Pair(a, b)] = nil }
    func isCut(_ a: UInt32, _ b: UInt32) -> Bool { (partitions[Pair(a, b)] ?? 0) > now }

    /// By chance two hosts lose each other; a host does not lose itself.
    func mayPartition(_ a: UInt32, _ b: UInt32) {
        guard a != b, !isCut(a, b), happens(\.partition, \.partitions) else { return }
        partition(a, b, until: now + UInt64(below(Int(Self.partitionMax))))
    }

    // MARK: Connections

    func register(_ end: SimulatedTransport) -> UInt64 {
        lastEnd += 1
        ends[lastEnd] = end
        return lastEnd
    }

    func forget(_ number: UInt64) { ends[number] = nil }

    /// The program ends: so do its connections, that their owners may go.
    func breakAll() {
        for number in ends.keys.sorted() { ends[number]?.breakNow() }
        acceptors = [:]
        for socket in sockets.values { socket.close() }
    }

    // MARK: Datagrams

    func carry(_ bytes: [UInt8], from source: Place, to address: SocketAddress) {
        let target = place(of: address, seenFrom: source.host, .datagram)
        mayPartition(source.host, target.host)
        if isCut(source.host, target.host) || happens(\.lostDatagram, \.lostDatagrams) { return }
        let copies = happens(\.duplicatedDatagram, \.duplicatedDatagrams) ? 2 : 1
        for _ in 0..<copies {
            var delay = latency()
            // Behind those that are sent after it.
            if happens(\.reorderedDatagram, \.reorderedDatagrams) { delay += 10 * Self.latencySpread }
            after(delay) { [self] in
                guard let socket = sockets[target] else { return }
                trace(UInt64(bytes.count), UInt64(source.port))
                socket.receive(bytes, from: Self.address(source.host, source.port))
            }
        }
    }
}

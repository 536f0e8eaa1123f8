import Runtime
import Simulator
import Testing

private let second: UInt64 = 1_000_000_000

private final class Echo: ConnectionHandler {
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        connection.write(bytes)
        return bytes.count
    }
}

/// Sends `total` bytes and compares what comes back.
private final class Client: ConnectionHandler {
    let total: Int
    var opened = false
    var sent = 0
    var received = 0
    var isRight = true
    var reason: CloseReason?

    init(_ total: Int) { self.total = total }

    static func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: index &* 31 ^ index >> 8) }

    func opened(_ connection: Connection) {
        opened = true
        send(connection)
    }
    func drained(_ connection: Connection) { send(connection) }

    private func send(_ connection: Connection) {
        while sent < total, !connection.isOutputFull {
            let bytes = (sent..<min(total, sent + 10_000)).map(Self.byte)
            bytes.withUnsafeBytes { connection.write($0) }
            sent += bytes.count
        }
    }

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        for byte in bytes {
            if byte != Self.byte(received) { isRight = false }
            received += 1
        }
        if received == total { connection.close() }
        return bytes.count
    }
    func closed(_ connection: Connection, _ reason: CloseReason) { self.reason = reason }
}

private func listen(_ simulation: Simulation, _ change: (inout ListenerOptions) -> Void = { _ in }) throws -> Listener {
    var options = ListenerOptions()
    change(&options)
    let world = simulation.world
    return try world.network.listen(on: .ipv4(0, port: 7), options, loops: world.loops) { _ in Echo() }
}

private func connect(
    _ simulation: Simulation, _ client: Client, from host: String = "client", port: UInt16 = 7,
    _ change: (inout ConnectOptions) -> Void = { _ in }
) -> Connection {
    var options = ConnectOptions()
    change(&options)
    return simulation.network(of: host).connect(
        to: simulation.address(of: "server", port: port), options, on: simulation.loop, handler: client)
}

@Suite struct SimulatedNetworkTests {
    @Test func echoesAcrossHosts() throws {
        let simulation = Simulation(seed: 1)
        let listener = try listen(simulation)
        let client = Client(1_000_000)
        _ = connect(simulation, client)
        #expect(simulation.run(for: 60 * second) { client.reason != nil })
        #expect(client.received == 1_000_000 && client.isRight && client.reason == .local)
        #expect(simulation.run(for: 60 * second) { listener.active == 0 })
    }

    /// Ten clients and some datagrams over a network of the default mix.
    static func trace(_ seed: UInt64) throws -> (UInt64, FaultCounts) {
        let simulation = Simulation(seed: seed, faults: .default)
        let listener = try listen(simulation) { $0.limits.writeTimeout = 30 * second }
        let clients = (0..<10).map { _ in Client(200_000) }
        for client in clients { _ = connect(simulation, client) { $0.limits.idleTimeout = 30 * second } }
        simulation.run(for: 600 * second) { clients.allSatisfy { $0.reason != nil } }
        for client in clients {
            #expect(client.reason != nil, "seed \(seed)")
            // Whatever happens to a connection, what arrives is right.
            #expect(client.isRight, "seed \(seed)")
        }
        _ = listener
        _ = try datagrams(simulation, 100)
        return (simulation.trace, simulation.counts)
    }

    @Test func theSameSeedGivesTheSameRun() throws {
        let first = try Self.trace(5), again = try Self.trace(5), other = try Self.trace(6)
        #expect(first.0 == again.0 && first.1 == again.1)
        #expect(first.0 != other.0)
    }

    @Test func aPartitionTimesOutAndHealsForOthers() throws {
        let simulation = Simulation(seed: 2)
        let listener = try listen(simulation)
        let client = Client(1_000_000)
        _ = connect(simulation, client) { $0.limits.idleTimeout = 20 * second }
        #expect(simulation.run(for: second) { client.received > 0 })
        simulation.partition("client", "server")
        let late = Client(10), elsewhere = Client(10)
        _ = connect(simulation, late) { $0.limits.connectTimeout = 5 * second }
        _ = connect(simulation, elsewhere, from: "third")
        let cut = client.received
        #expect(simulation.run(for: 100 * second) { client.reason != nil && late.reason != nil })
        #expect(client.reason == .idleTimeout || client.reason == .writeTimeout)
        #expect(client.received < 1_000_000 && client.received - cut <= 256 << 10)
        #expect(late.reason == .openTimeout && !late.opened)
        #expect(elsewhere.received == 10)
        simulation.heal("client", "server")
        let healed = Client(10)
        _ = connect(simulation, healed)
        #expect(simulation.run(for: 10 * second) { healed.received == 10 })
        _ = listener
    }

    @Test func aShortPartitionDelaysAndLosesNothing() throws {
        let simulation = Simulation(seed: 3)
        let listener = try listen(simulation)
        let client = Client(1_000_000)
        _ = connect(simulation, client)
        #expect(simulation.run(for: second) { client.received > 0 })
        simulation.partition("client", "server")
        simulation.run(for: 3 * second)
        #expect(client.reason == nil && client.received < 1_000_000)
        simulation.heal("client", "server")
        #expect(simulation.run(for: 10 * second) { client.reason != nil })
        #expect(client.received == 1_000_000 && client.isRight)
        _ = listener
    }

    @Test func nobodyThereIsARefusalAndATakenPortAnError() throws {
        let simulation = Simulation(seed: 4)
        let listener = try listen(simulation)
        let client = Client(1)
        _ = connect(simulation, client, port: 8)
        #expect(simulation.run(for: second) { client.reason == .failed(.connectionRefused) })
        #expect(throws: Errno.addressInUse) { try listen(simulation) }
        listener.stopAccepting()
        _ = try listen(simulation)
    }

    @Test func aPeerThatNeverReadsHoldsTheWriterBack() throws {
        let simulation = Simulation(seed: 7)
        let world = simulation.world
        final class Deaf: ConnectionHandler {
            func opened(_ connection: Connection) { connection.pauseReading() }
            func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int { bytes.count }
        }
        let listener = try world.network.listen(on: .ipv4(0, port: 7), ListenerOptions(), loops: world.loops) { _ in
            Deaf()
        }
        let client = Client(100 << 20)
        _ = connect(simulation, client)
        #expect(simulation.run(for: 200 * second) { client.reason != nil })
        #expect(client.reason == .writeTimeout)
        #expect(client.sent < 4 << 20)
        _ = listener
    }

    @Test func aCrashEndsAllConnections() throws {
        let simulation = Simulation(seed: 8)
        let listener = try listen(simulation)
        let client = Client(1_000_000)
        _ = connect(simulation, client)
        #expect(simulation.run(for: second) { client.received > 0 })
        #expect(client.reason == nil)
        simulation.crash()
        simulation.restart()
        #expect(client.reason != nil)
        _ = listener
        let fresh = try listen(simulation)
        let next = Client(100)
        _ = connect(simulation, next)
        #expect(simulation.run(for: second) { next.received == 100 })
        _ = fresh
    }

    private final class Numbers: DatagramHandler {
        var seen: [UInt8] = []
        func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
            seen += bytes
        }
    }

    private static func datagrams(_ simulation: Simulation, _ count: Int) throws -> [UInt8] {
        let numbers = Numbers()
        let loop = simulation.loop
        let server = try simulation.world.network.datagrams(on: .ipv4(0, port: 9), loop: loop, handler: numbers)
        let client = try simulation.network(of: "client").datagrams(
            on: .ipv4(0, port: 0), loop: loop, handler: Numbers())
        for index in 0..<count {
            withUnsafeBytes(of: UInt8(truncatingIfNeeded: index)) {
                client.send($0, to: DatagramPeer(remote: simulation.address(of: "server", port: 9)))
            }
            simulation.run(for: 1_000_000)
        }
        simulation.run(for: second)
        server.close()
        client.close()
        return numbers.seen
    }

    @Test func datagramsAreLostDoubledAndOutOfOrderByTheMix() throws {
        #expect(try Self.datagrams(Simulation(seed: 9), 200) == (0..<200).map { UInt8($0) })
        var faults = FaultMix.none
        (faults.lostDatagram, faults.duplicatedDatagram, faults.reorderedDatagram) = (20, 50, 20)
        let simulation = Simulation(seed: 9, faults: faults)
        let seen = try Self.datagrams(simulation, 200)
        #expect(simulation.counts.lostDatagrams > 0 && simulation.counts.duplicatedDatagrams > 0)
        #expect(simulation.counts.reorderedDatagrams > 0 && zip(seen, seen.dropFirst()).contains { $0 > $1 })
        #expect(seen.count == 200 - simulation.counts.lostDatagrams + simulation.counts.duplicatedDatagrams)
        #expect(Set(seen).count == 200 - simulation.counts.lostDatagrams)
    }
}

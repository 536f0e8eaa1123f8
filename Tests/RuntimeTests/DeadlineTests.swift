import Runtime
import Simulator
import Testing

/// Every time-out of a connection to the nanosecond, on a clock that is ours: at the limit it ends, one nanosecond
/// before it does not.
struct DeadlineTests {
    private static let limit = 7 * second + 1

    /// A server and a client on one simulated network.
    private final class Rig: @unchecked Sendable {
        let simulation = Simulation(seed: 1)
        let server: Script
        let client = Script { $0.onEnded = { _ in } }
        private(set) var listener: Listener?
        private(set) var accepted: Connection?
        private(set) var connection: Connection?
        private(set) var closedAt: UInt64?

        init(_ server: Script) {
            self.server = server
            let onClosed = server.onClosed
            server.onClosed = { [unowned self] connection in
                closedAt = now
                onClosed(connection)
            }
        }

        var now: UInt64 { simulation.world.clock.monotonic() }

        func listen(_ change: (inout ListenerOptions) -> Void) throws {
            var options = ListenerOptions()
            change(&options)
            listener = try simulation.world.network.listen(
                on: .ipv4(0, port: 7), options, loops: simulation.world.loops
            ) { [self] connection in
                accepted = connection
                return server
            }
        }

        func connect(_ change: (inout ConnectOptions) -> Void = { _ in }) {
            var options = ConnectOptions()
            change(&options)
            connection = simulation.network(of: "client").connect(
                to: simulation.address(of: "server", port: 7), options, on: simulation.loop, handler: client)
        }

        /// Nothing has ended one nanosecond before `deadline`; at it the server's end closes for `reason`.
        func expectEnd(at deadline: UInt64, _ reason: CloseReason) {
            #expect(closedAt == nil && now < deadline)
            simulation.run(for: deadline - now - 1)
            #expect(closedAt == nil, "too early: \(deadline - (closedAt ?? deadline)) ns before")
            simulation.run(for: 1)
            #expect(closedAt == deadline && server.reason == reason, "\(String(describing: server.reason))")
        }
    }

    @Test func idle() throws {
        let rig = Rig(Script())
        try rig.listen { $0.limits.idleTimeout = Self.limit }
        rig.connect()
        #expect(rig.simulation.run(for: second) { rig.server.log.opened == 1 })
        // A byte, just in time, moves the deadline.
        rig.simulation.run(for: Self.limit - second)
        let connection = try #require(rig.connection)
        [UInt8(1)].withUnsafeBytes { connection.write($0) }
        #expect(rig.simulation.run(for: second) { rig.server.log.calls == 1 })
        rig.simulation.run(for: Self.limit - 1)
        #expect(rig.server.log.idle == 0)
        rig.simulation.run(for: 1)
        #expect(rig.server.log.idle == 1)
        // The client does not end its direction: that has a limit of its own, one second.
        rig.expectEnd(at: rig.now + ConnectionLimits().lingerTimeout, .idleTimeout)
    }

    @Test func message() throws {
        let rig = Rig(Script { $0.onReceived = { _, _ in 0 } })
        try rig.listen { $0.limits.messageTimeout = Self.limit }
        rig.connect()
        #expect(rig.simulation.run(for: second) { rig.client.log.opened == 1 })
        let connection = try #require(rig.connection)
        [UInt8(1)].withUnsafeBytes { connection.write($0) }
        #expect(rig.simulation.run(for: second) { rig.server.log.calls == 1 })
        let begun = rig.now
        // More of the same message does not help.
        rig.simulation.run(for: second)
        [UInt8(2)].withUnsafeBytes { connection.write($0) }
        rig.expectEnd(at: begun + Self.limit, .messageTimeout)
        #expect(rig.server.log.calls == 2)
    }

    @Test func handshake() throws {
        let rig = Rig(Script())
        let certificate = try TLSTests.first.get()
        try rig.listen {
            $0.limits.handshakeTimeout = Self.limit
            $0.tls = try? TLSServer(TLSServerOptions(certificates: [certificate]))
        }
        rig.connect()
        #expect(rig.simulation.run(for: second) { rig.accepted != nil })
        rig.expectEnd(at: rig.now + Self.limit, .openTimeout)
        #expect(rig.server.log.opened == 0)
    }

    @Test func connect() throws {
        let rig = Rig(Script())
        try rig.listen { _ in }
        rig.simulation.partition("client", "server")
        let begun = rig.now
        rig.connect { $0.limits.connectTimeout = Self.limit }
        rig.simulation.run(for: Self.limit - 1)
        #expect(rig.client.reason == nil)
        rig.simulation.run(for: 1)
        #expect(rig.client.reason == .openTimeout && rig.now == begun + Self.limit)
    }

    @Test func write() throws {
        let rig = Rig(
            Script { script in
                script.onOpened = { connection in
                    [UInt8](repeating: 0, count: 1 << 20).withUnsafeBytes { connection.write($0) }
                }
            })
        try rig.listen { $0.limits.writeTimeout = Self.limit }
        rig.client.onOpened = { $0.pauseReading() }
        rig.connect()
        // When the peer last took a byte.
        var progress: (count: UInt64, at: UInt64) = (0, 0)
        rig.simulation.run(for: 3 * second) {
            let count = rig.accepted?.counters.bytesOut ?? 0
            if count != progress.count { progress = (count, rig.now) }
            return false
        }
        #expect(progress.count > 0 && progress.count < 1 << 20)
        rig.expectEnd(at: progress.at + Self.limit, .writeTimeout)
    }

    @Test func linger() throws {
        let rig = Rig(Script())
        try rig.listen { $0.limits.lingerTimeout = Self.limit }
        rig.connect()
        #expect(rig.simulation.run(for: second) { rig.server.log.opened == 1 && rig.client.log.opened == 1 })
        let accepted = try #require(rig.accepted)
        let closed = rig.now
        rig.simulation.loop.execute { accepted.close() }
        rig.simulation.run(for: second)
        #expect(rig.client.log.ended == 1)
        rig.expectEnd(at: closed + Self.limit, .local)
    }

    /// A peer that never stops sending keeps a closed connection for so long, and no longer.
    @Test func lingerBesideAPeerThatGoesOn() throws {
        let rig = Rig(Script())
        try rig.listen {
            $0.limits.lingerTimeout = second
            $0.limits.lingerMax = Self.limit
        }
        rig.connect()
        #expect(rig.simulation.run(for: second) { rig.server.log.opened == 1 && rig.client.log.opened == 1 })
        let accepted = try #require(rig.accepted)
        let connection = try #require(rig.connection)
        let closed = rig.now
        rig.simulation.loop.execute { accepted.close() }
        while rig.now + 400 * millisecond < closed + Self.limit {
            rig.simulation.loop.execute { [1, 2, 3].withUnsafeBytes { connection.write($0) } }
            rig.simulation.run(for: 400 * millisecond)
        }
        rig.expectEnd(at: closed + Self.limit, .local)
    }

    @Test func drain() throws {
        let rig = Rig(Script { $0.onDraining = { _ in } })
        try rig.listen { _ in }
        rig.connect()
        #expect(rig.simulation.run(for: second) { rig.server.log.opened == 1 })
        let listener = try #require(rig.listener)
        let begun = rig.now
        listener.drain(within: Self.limit) {}
        rig.expectEnd(at: begun + Self.limit, .drainDeadline)
    }

    /// Peers that are gone without a word, the kernel's keep-alive aside: each is given up by the first clock that
    /// runs for it, its memory comes back, and the others notice nothing.
    @Test func halfOpenPeers() throws {
        let simulation = Simulation(seed: 3)
        let count = 500
        let partial = Script { $0.onReceived = { _, _ in 0 } }
        let scripts = (0..<count).map { index in index % 2 == 0 ? Script() : partial }
        let waiting = Guarded(Array(scripts.reversed()))
        var options = ListenerOptions()
        options.limits.idleTimeout = 20 * second
        options.limits.messageTimeout = 10 * second
        let world = simulation.world
        let listener = try world.network.listen(on: .ipv4(0, port: 7), options, loops: world.loops) { _ in
            waiting.withLock { $0.popLast() } ?? Script.echo()
        }
        func connect(from host: String) -> (Script, Connection) {
            let script = Script()
            return (
                script,
                simulation.network(of: host).connect(
                    to: simulation.address(of: "server", port: 7), ConnectOptions(), on: simulation.loop,
                    handler: script)
            )
        }
        let gone = (0..<count).map { _ in connect(from: "gone") }
        #expect(simulation.run(for: second) { listener.active == count })
        for (_, connection) in gone { [UInt8](repeating: 1, count: 100).withUnsafeBytes { connection.write($0) } }
        simulation.run(for: second)
        let (good, connection) = connect(from: "here")
        simulation.run(for: second)
        simulation.partition("gone", "server")
        // Those with the beginning of a message hold a small buffer each, the others nothing. (Clients count too.)
        #expect(simulation.loop.io.pool.inUse <= count / 2 * BufferPool.small)
        for round in 1...30 {
            [UInt8(1)].withUnsafeBytes { connection.write($0) }
            simulation.run(for: second)
            #expect(good.log.received.count == round && good.reason == nil)
        }
        #expect(listener.active == 1 && good.reason == nil)
        #expect(partial.log.closed.allSatisfy { $0 == .messageTimeout } && partial.log.closed.count == count / 2)
        for index in stride(from: 0, to: count, by: 2) { #expect(scripts[index].reason == .idleTimeout) }
        #expect(simulation.loop.io.pool.inUse == 0)
        _ = gone
    }
}

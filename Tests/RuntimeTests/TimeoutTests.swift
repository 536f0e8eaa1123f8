import CShim
import Runtime
import Synchronization
import Testing

@Suite(.serialized) struct TimeoutTests {
    @Test func anIdlePeerIsClosedUnlessTheHandlerOwesIt() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let patience = Atomic(3)
        let patient = Script { $0.onIdle = { _ in patience.wrappingSubtract(1, ordering: .relaxed).newValue == 0 } }
        let strict = Script()
        for script in [patient, strict] {
            let listener = try rig.listen(.loopback(port: 0), { $0.limits.idleTimeout = 50 * millisecond }) { _ in
                script
            }
            let started = shim_clock_monotonic()
            let peer = try Peer(listener.address)
            #expect(peer.readsEnd() == 0)
            let times: UInt64 = script === patient ? 3 : 1
            #expect(shim_clock_monotonic() - started >= times * 50 * millisecond)
            peer.close()
            #expect(await eventually { script.reason == .idleTimeout })
            #expect(script.log.idle == Int(times))
        }
    }

    @Test func bytesKeepAnIdleConnectionAlive() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let script = Script()
        let listener = try rig.listen(.loopback(port: 0), { $0.limits.idleTimeout = 2_000 * millisecond }) { _ in script
        }
        let peer = try Peer(listener.address)
        // Long pauses for the sake of busy machines, and longer in all than the limit.
        for _ in 0..<10 {
            peer.send([1])
            try await Task.sleep(nanoseconds: 250_000_000)
        }
        #expect(script.reason == nil)
        #expect(peer.readsEnd() == 0)
    }

    /// A message that trickles in byte by byte is never idle, but it is late.
    @Test(arguments: [0, 200 * millisecond])
    func aSlowLorisIsClosed(_ idleTimeout: UInt64) async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let script = Script { $0.onReceived = { bytes, _ in bytes.count < 1000 ? 0 : bytes.count } }
        let listener = try rig.listen(
            .loopback(port: 0),
            {
                $0.limits.idleTimeout = idleTimeout
                $0.limits.messageTimeout = 300 * millisecond
            }
        ) { _ in script }
        let slow = try Peer(listener.address)
        let good = try Peer(listener.address)
        good.send(pattern(1000))
        for _ in 0..<100 where script.reason == nil {
            slow.send([1])
            good.send(pattern(1000))
            try await Task.sleep(nanoseconds: 10_000_000)
        }
        #expect(script.log.closed == [.messageTimeout])
        #expect(listener.active == 1)
    }

    @Test func aRefusedConnectionIsToldOnceAndLater() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let listener = try rig.listen { _ in nil }
        listener.stopAccepting()
        await rig.loop.perform {}
        for address in [listener.address, .unix("/nowhere/at/all"), .unix(String(repeating: "x", count: 108))] {
            let script = Script()
            _ = await rig.connect(address, ConnectOptions(), script)
            #expect(await eventually { script.log.closed.count == 1 })
            #expect(script.log.opened == 0)
        }
    }

    @Test func aConnectionThatIsNotAnsweredTimesOut() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        // Nobody accepts here, and the queue has room for one: later handshakes are not answered.
        var raw = shim_address()
        #expect(SocketAddress.loopback(port: 0).store(into: &raw))
        let fd = shim_listen(&raw, 0, 0)
        try #require(fd >= 0)
        defer { shim_close(fd) }
        shim_local_address(fd, &raw)
        let address = try #require(SocketAddress(raw))
        let filler = try Peer(address)
        var options = ConnectOptions()
        options.limits.connectTimeout = 200 * millisecond
        let scripts = (0..<3).map { _ in Script() }
        for script in scripts { _ = await rig.connect(address, options, script) }
        #expect(await eventually { scripts.contains { $0.reason == .openTimeout } })
        filler.close()
    }

    @Test func aPeerThatDoesNotEndAfterCloseIsGivenUp() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let script = Script { $0.onOpened = { $0.close() } }
        let listener = try rig.listen(.loopback(port: 0), { $0.limits.lingerTimeout = 100 * millisecond }) { _ in script
        }
        let started = shim_clock_monotonic()
        let peer = try Peer(listener.address)
        #expect(peer.readsEnd() == 0)
        #expect(await eventually { script.reason == .local })
        #expect(shim_clock_monotonic() - started >= 100 * millisecond)
    }

    @Test func anIdlePeerThatDoesNotEndAfterItsCloseIsGivenUp() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let script = Script()
        let listener = try rig.listen(
            .loopback(port: 0),
            {
                $0.limits.idleTimeout = 50 * millisecond
                $0.limits.lingerTimeout = 100 * millisecond
            }
        ) { _ in script }
        let peer = try Peer(listener.address)
        #expect(peer.readsEnd() == 0)
        #expect(await eventually(within: 2) { script.reason == .idleTimeout })
        #expect(script.log.idle == 1)
    }
}

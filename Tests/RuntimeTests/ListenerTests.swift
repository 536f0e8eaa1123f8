import CShim
import Glibc
import Runtime
import Synchronization
import Testing

@Suite(.serialized) struct ListenerTests {
    @Test func theConnectionBeyondTheLimitIsClosedAndCounted() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let listener = try rig.listen(.loopback(port: 0), { $0.connectionsMax = 5 }) { _ in Script.echo() }
        var peers = try (0..<5).map { _ in try Peer(listener.address) }
        for peer in peers {
            peer.send([1])
            #expect(peer.receive(1) == [1])
        }
        #expect(listener.refused == 0)
        let excess = try Peer(listener.address)
        #expect(excess.readsEnd() <= 0)
        #expect(listener.refused == 1 && listener.active == 5)
        peers.removeLast().close()
        #expect(await eventually { listener.active == 4 })
        let next = try Peer(listener.address)
        next.send([2])
        #expect(next.receive(1) == [2])
        #expect(listener.accepted == 6)
    }

    @Test func connectionsAreSpreadEvenlyOverLoops() async throws {
        let rig = try Rig(loops: 3)
        defer { rig.stop() }
        let perLoop = Guarded([0, 0, 0])
        let listener = try rig.listen { connection in
            perLoop.withLock { $0[connection.loop.index] += 1 }
            return Script.echo()
        }
        let peers = try (0..<30).map { _ in try Peer(listener.address) }
        #expect(await eventually { perLoop.withLock { $0 } == [10, 10, 10] })
        for peer in peers { peer.close() }
    }

    @Test func drainingLetsHandlersFinishAndThenAborts() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let quick = Script()
        let busy = Script { script in
            script.onDraining = { connection in
                _ = connection.loop.schedule(after: 50 * millisecond) {
                    pattern(100).withUnsafeBytes { connection.write($0) }
                    connection.close()
                }
            }
        }
        let stubborn = Script { $0.onDraining = { _ in } }
        let scripts = Guarded([quick, busy, stubborn])
        let listener = try rig.listen { _ in scripts.withLock { $0.removeFirst() } }
        var peers: [Peer] = []
        for script in [quick, busy, stubborn] {
            peers.append(try Peer(listener.address))
            #expect(await eventually { script.log.opened == 1 })
        }
        let started = shim_clock_monotonic()
        async let drained: Void = listener.drain(within: 400 * millisecond)
        #expect(peers[0].readsEnd() == 0)
        peers[0].close()
        #expect(peers[1].receive(101) == pattern(100))
        peers[1].close()
        await drained
        #expect(shim_clock_monotonic() - started >= 400 * millisecond)
        #expect(quick.log.closed == [.local] && busy.log.closed == [.local])
        #expect(stubborn.log.closed == [.drainDeadline])
        #expect(listener.active == 0)
        let late = Script()
        _ = await rig.connect(listener.address, ConnectOptions(), late)
        #expect(await eventually { late.reason == .failed(.connectionRefused) })
    }

    @Test func drainingNobodyEndsAtOnce() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let listener = try rig.listen { _ in Script() }
        await listener.drain(within: 10 * second)
    }

    @Test func aUnixSocketHasItsModeAndKnowsItsPeer() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let path = "/tmp/proxyfs-test-\(getpid())-\(SystemRandom().next()).sock"
        for mode: UInt32 in [0o600, 0o666] {
            let script = Script.echo()
            let listener = try rig.listen(.unix(path), { $0.unixMode = mode }) { _ in script }
            var status = stat()
            #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == mode)
            let peer = try Peer(.unix(path))
            peer.send([1, 2])
            #expect(peer.receive(2) == [1, 2])
            let expected = PeerCredentials(process: getpid(), user: getuid(), group: getgid())
            #expect(script.log.identity?.credentials == expected)
            #expect(throws: Errno.addressInUse) { try rig.listen(.unix(path)) { _ in nil } }
            listener.stopAccepting()
            await rig.loop.perform {}
            #expect(stat(path, &status) != 0)
        }
    }

    @Test func theNameOfAKilledServerIsTakenOver() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let path = "/tmp/proxyfs-test-\(getpid())-\(SystemRandom().next()).sock"
        var raw = shim_address()
        #expect(SocketAddress.unix(path).store(into: &raw))
        shim_close(shim_listen(&raw, 1, 0o600))
        let listener = try rig.listen(.unix(path)) { _ in Script.echo() }
        let peer = try Peer(.unix(path))
        peer.send([5])
        #expect(peer.receive(1) == [5])
        listener.stopAccepting()
        await rig.loop.perform {}
    }

    @Test func addressesReadAndWrite() throws {
        #expect(SocketAddress(numeric: "127.0.0.1", port: 80)?.description == "127.0.0.1:80")
        #expect(SocketAddress(numeric: "2001:db8::1", port: 9)?.description == "[2001:db8::1]:9")
        #expect(SocketAddress(numeric: "::1", port: 1)?.isLoopback == true)
        #expect(SocketAddress(numeric: "::ffff:127.0.0.1", port: 1)?.isLoopback == true)
        #expect(SocketAddress(numeric: "10.0.0.1", port: 1)?.isLoopback == false)
        for wrong in ["", "localhost", "1.2.3", "::g", "1.2.3.4.5", "fe80::1%", String(repeating: "1", count: 500)] {
            #expect(SocketAddress(numeric: wrong, port: 1) == nil)
        }
        var raw = shim_address()
        #expect(SocketAddress.unix(String(repeating: "x", count: 107)).store(into: &raw))
        #expect(SocketAddress(raw) == .unix(String(repeating: "x", count: 107)))
        #expect(!SocketAddress.unix(String(repeating: "x", count: 108)).store(into: &raw))
        #expect(!SocketAddress.unix("").store(into: &raw) && !SocketAddress.unix("a\0b").store(into: &raw))
    }

    @Test func listensOnIPv6() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let listener = try rig.listen(.ipv6(0, 1, port: 0)) { _ in Script.echo() }
        let peer = try Peer(listener.address)
        peer.send([6])
        #expect(peer.receive(1) == [6])
    }
}

import CShim
import Glibc
import Runtime
import Synchronization
import Testing

/// Peers whose TLS is old, broken, cut or never comes: each ends alone, with its reason and its memory.
@Suite(.serialized) struct TLSAbuseTests {
    private static func server(_ certificate: TLSCertificate) throws -> TLSServer {
        try TLSServer(TLSServerOptions(certificates: [certificate]))
    }

    /// What a client says first that knows nothing beyond `version` (3.1 is TLS 1.0).
    private static func hello(_ version: [UInt8]) -> [UInt8] {
        // A cipher that all these versions know, and renegotiation info, without extensions.
        let body = version + pattern(32) + [0, 0, 6, 0x00, 0x2f, 0xc0, 0x14, 0x00, 0xff, 1, 0]
        let message = [1, 0, UInt8(body.count >> 8), UInt8(body.count & 255)] + body
        return [22, 3, 1, UInt8(message.count >> 8), UInt8(message.count & 255)] + message
    }

    @Test(arguments: [[3, 0], [3, 1], [3, 2]] as [[UInt8]]) func oldVersionsAreTurnedAway(_ version: [UInt8])
        async throws
    {
        let rig = try Rig()
        defer { rig.stop() }
        let tls = try Self.server(try TLSTests.first.get())
        let script = Script.echo()
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in script }
        let peer = try Peer(listener.address)
        peer.send(Self.hello(version))
        // An alert: fatal, protocol version; to SSL 3 a handshake failure.
        let answer = peer.receive(7)
        #expect(answer.first == 21 && answer.suffix(2) == [2, version == [3, 0] ? 40 : 70], "\(answer)")
        #expect(peer.readsEnd() <= 0)
        #expect(await eventually { script.log.closed.count == 1 })
        guard case .tls(.handshake)? = script.reason else {
            Issue.record("\(String(describing: script.reason))")
            return
        }
        #expect(script.log.opened == 0)
    }

    /// Between a client and a server of ours: passes on what it reads, until it is told otherwise.
    private final class Relay: @unchecked Sendable {
        let front: Int32
        let address: SocketAddress
        private var client: Peer?
        private var server: Peer?

        init() throws {
            var raw = shim_address()
            try #require(SocketAddress.loopback(port: 0).store(into: &raw))
            front = shim_listen(&raw, 8, 0)
            try #require(front >= 0)
            shim_local_address(front, &raw)
            address = try #require(SocketAddress(raw))
        }

        deinit { shim_close(front) }

        func accept(for server: SocketAddress) async throws {
            var raw = shim_address()
            var fd: Int32 = -1
            #expect(
                await eventually {
                    fd = shim_accept(front, &raw)
                    return fd >= 0
                })
            client = Peer(fd: fd)
            self.server = try Peer(server)
        }

        /// Passes on all there is, changed by `change`; answers how many bytes.
        @discardableResult
        func pass(toServer: Bool, _ change: ([UInt8]) -> [UInt8] = { $0 }) -> Int {
            guard let from = toServer ? client : server, let to = toServer ? server : client else { return 0 }
            let bytes = from.receive(1 << 16, within: 0.01)
            if !bytes.isEmpty { to.send(change(bytes)) }
            return bytes.count
        }

        func passBoth() {
            pass(toServer: true)
            pass(toServer: false)
        }

        /// Ends both connections below TLS.
        func cut() {
            client?.finish()
            server?.finish()
        }
    }

    private struct Pair {
        let serving: Script
        let calling: Script
        let connection: Connection
        let listener: Listener
    }

    /// A client and a server that have shaken hands through the relay.
    private func connect(_ rig: Rig, _ relay: Relay) async throws -> Pair {
        let certificate = try TLSTests.first.get()
        let tls = try Self.server(certificate)
        let serving = Script()
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in serving }
        var client = TLSClientOptions(serverName: "one.test")
        client.authorities = certificate.chain
        var options = ConnectOptions()
        options.tls = try TLSClient(client)
        let calling = Script()
        let connection = await rig.connect(relay.address, options, calling)
        try await relay.accept(for: listener.address)
        #expect(
            await eventually {
                relay.passBoth()
                return calling.log.opened == 1 && serving.log.opened == 1
            })
        return Pair(serving: serving, calling: calling, connection: connection, listener: listener)
    }

    /// An end of the stream that TLS has not announced may be somebody else's doing.
    @Test func aCutStreamIsToldFromAnEnd() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let relay = try Relay()
        let pair = try await connect(rig, relay)
        await rig.loop.perform { pattern(100).withUnsafeBytes { pair.connection.write($0) } }
        #expect(
            await eventually {
                relay.passBoth()
                return pair.serving.log.received.count == 100
            })
        relay.cut()
        #expect(await eventually { pair.serving.reason != nil && pair.calling.reason != nil })
        #expect(pair.serving.reason == .tls(.truncated) && pair.calling.reason == .tls(.truncated))
        #expect(pair.serving.log.ended == 0 && pair.calling.log.ended == 0)
        #expect(await eventually { await rig.loop.perform { rig.loop.io.pool.inUse } == 0 })
    }

    @Test func aDamagedRecordEndsTheConnection() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let relay = try Relay()
        let pair = try await connect(rig, relay)
        while relay.pass(toServer: false) > 0 {}
        await rig.loop.perform { pattern(1000).withUnsafeBytes { pair.connection.write($0) } }
        #expect(
            await eventually {
                relay.pass(toServer: true) { bytes in
                    var bytes = bytes
                    bytes[bytes.count / 2] ^= 1
                    return bytes
                } > 0
            })
        #expect(await eventually { pair.serving.reason != nil })
        guard case .tls(.record)? = pair.serving.reason else {
            Issue.record("\(String(describing: pair.serving.reason))")
            return
        }
        #expect(pair.serving.log.received.isEmpty, "nothing of a damaged record is shown")
    }

    /// Records hold 16 KiB of plain text: around that, around the buffers, and through a peer that takes little.
    @Test func everyLengthAroundTheRecordsPasses() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let certificate = try TLSTests.first.get()
        let tls = try Self.server(certificate)
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in Script.echo() }
        var client = TLSClientOptions(serverName: "one.test")
        client.authorities = certificate.chain
        var options = ConnectOptions()
        options.tls = try TLSClient(client)
        let script = Script()
        let connection = await rig.connect(listener.address, options, script)
        #expect(await eventually { script.log.opened == 1 })
        var total = 0
        for record in [16_384, 32_768, 49_152, 65_536] {
            for size in [record - 1, record, record + 1] {
                let bytes = pattern(size, seed: UInt64(size))
                await rig.loop.perform { bytes.withUnsafeBytes { connection.write($0) } }
                total += size
                #expect(await eventually { script.log.received.count == total })
                #expect(script.log.received.suffix(size).elementsEqual(bytes), "\(size)")
            }
        }
    }

    /// A crowd that begins a handshake and goes no further holds little, and goes when its time is over.
    @Test func aCrowdOfUnfinishedHandshakes() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let certificate = try TLSTests.first.get()
        let tls = try Self.server(certificate)
        let listener = try rig.listen(
            .loopback(port: 0),
            {
                $0.tls = tls
                $0.limits.handshakeTimeout = 1500 * millisecond
            }
        ) { _ in Script.echo() }
        var client = TLSClientOptions(serverName: "one.test")
        client.authorities = certificate.chain
        var options = ConnectOptions()
        options.tls = try TLSClient(client)
        let good = Script()
        let connection = await rig.connect(listener.address, options, good)
        #expect(await eventually { good.log.opened == 1 })
        let crowd = try (0..<300).map { _ in try Peer(listener.address) }
        for (index, peer) in crowd.enumerated() {
            // Nothing, the beginning of a hello, a record that never ends, noise behind a good header.
            switch index % 4 {
            case 0: break
            case 1: peer.send(Array(Self.hello([3, 3]).prefix(20)))
            case 2: peer.send([22, 3, 1, 0x40, 0] + pattern(500))
            default: peer.send([23, 3, 3, 0, 100] + pattern(100))
            }
        }
        let inUse = await rig.loop.perform { rig.loop.io.pool.inUse }
        #expect(inUse <= 4 * (64 << 10), "\(inUse) bytes of buffers")
        for round in 1...20 {
            await rig.loop.perform { [UInt8(7)].withUnsafeBytes { connection.write($0) } }
            #expect(await eventually { good.log.received.count == round })
        }
        #expect(await eventually { listener.active == 1 })
        #expect(good.reason == nil)
    }

    /// Certificates change while clients come and go: each finds a whole one, old or new, and nobody is turned away.
    @Test func reloadUnderLoad() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let certificates = try ["a", "b"].map { try TLSCertificate.selfSigned(names: [$0 + ".test", "one.test"]) }
        let tls = try Self.server(certificates[0])
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in Script.echo() }
        var client = TLSClientOptions(serverName: "one.test")
        client.authorities = certificates[0].chain + certificates[1].chain
        var options = ConnectOptions()
        options.tls = try TLSClient(client)
        // One that lives through all of it.
        let living = Script()
        let connection = await rig.connect(listener.address, options, living)
        #expect(await eventually { living.log.opened == 1 })
        let isDone = Atomic(false)
        let pool = try ThreadPool(threads: 1)
        defer { pool.stop() }
        let reloads = Atomic(0)
        pool.submit(
            {
                while !isDone.load(ordering: .relaxed) {
                    let index = reloads.wrappingAdd(1, ordering: .relaxed).newValue & 1
                    try? tls.reload(TLSServerOptions(certificates: [certificates[index]]))
                    usleep(500)
                }
            }, then: {}, on: rig.loop)
        for _ in 0..<25 {
            let scripts = (0..<8).map { _ in
                Script { script in
                    script.onOpened = { connection in pattern(50).withUnsafeBytes { connection.write($0) } }
                    script.onReceived = { bytes, connection in
                        if bytes.count == 50 { connection.close() }
                        return bytes.count == 50 ? 50 : 0
                    }
                }
            }
            for script in scripts { _ = await rig.connect(listener.address, options, script) }
            #expect(await eventually { scripts.allSatisfy { $0.reason != nil } })
            for script in scripts {
                #expect(
                    script.log.received.count == 50 && script.reason == .local, "\(String(describing: script.reason))")
            }
        }
        isDone.store(true, ordering: .relaxed)
        let count = reloads.load(ordering: .relaxed)
        #expect(count > 20)
        await rig.loop.perform { pattern(10).withUnsafeBytes { connection.write($0) } }
        #expect(await eventually { living.log.received.count == 10 })
        #expect(listener.refused == 0)
    }
}

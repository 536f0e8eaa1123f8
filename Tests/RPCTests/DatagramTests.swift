import Bytes
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

@Suite(.serialized) struct DatagramTests {
    private final class Collector: DatagramHandler, Sendable {
        let replies = Mutex<[RPCReply]>([])
        func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
            guard let reply = RPCReply(Array(bytes)) else { return }
            replies.withLock { $0.append(reply) }
        }
    }

    @Test func callsAreAnsweredByDatagrams() async throws {
        let rig = try Rig()
        let loop = rig.loops[0]
        let network = EpollNetwork()
        let collector = Collector()
        let sockets = await withUnsafeContinuation { continuation in
            loop.execute {
                let server = try? rig.server.datagrams(on: .loopback(port: 0), network: network, loop: loop)
                let client = try? network.datagrams(on: .loopback(port: 0), loop: loop, handler: collector)
                continuation.resume(returning: (server, client))
            }
        }
        let server = try #require(sockets.0), client = try #require(sockets.1)
        defer {
            loop.execute {
                server.close()
                client.close()
            }
        }
        func send(_ call: RPCMessage) {
            let bytes = call.bytes
            loop.execute {
                bytes.withUnsafeBytes { client.send($0, to: DatagramPeer(remote: server.localAddress)) }
            }
        }
        func reply(_ xid: UInt32) async -> RPCReply? {
            var found: RPCReply?
            _ = await eventually(within: 5) {
                found = collector.replies.withLock { $0.first { $0.xid == xid } }
                return found != nil
            }
            return found
        }
        send(message(TestProgram.Procedure.null, xid: 1))
        #expect(await reply(1)?.status == .success)
        for (xid, count) in [(UInt32(2), 0), (3, 1000), (4, 60_000)] {
            let payload = opaque([UInt8](repeating: 7, count: count))
            send(message(TestProgram.Procedure.echo, xid: xid, payload))
            #expect(await reply(xid)?.results == payload)
        }
        send(message(TestProgram.Procedure.later, xid: 5, opaque([20])))
        #expect(await reply(5)?.results == opaque([20]))
        send(RPCMessage(99, 1, 0, xid: 6))
        #expect(await reply(6)?.status == .programUnavailable)
        // Of calls that wait there are so many; the client sends the others again.
        rig.program.isHeld.store(true, ordering: .relaxed)
        let before = rig.server.calls
        for xid in UInt32(1000)..<1300 {
            send(message(TestProgram.Procedure.hold, xid: xid))
            // No more at once than the sockets' buffers hold.
            if xid % 50 == 49 { #expect(await eventually { rig.server.calls == before + UInt64(xid) - 999 }) }
        }
        #expect(await eventually { rig.server.dropped == 300 - 256 })
        rig.program.isHeld.store(false, ordering: .relaxed)
        #expect(await eventually { collector.replies.withLock { $0.count } == 6 + 256 })
        var garbage = SeededRandom(1)
        for count in 0..<200 {
            let bytes = garbage.bytes(count)
            loop.execute {
                bytes.withUnsafeBytes { client.send($0, to: DatagramPeer(remote: server.localAddress)) }
            }
        }
        send(message(TestProgram.Procedure.null, xid: 7))
        #expect(await reply(7)?.status == .success)
    }
}

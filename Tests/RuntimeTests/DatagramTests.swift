import CShim
import Runtime
import Synchronization
import Testing

@Suite(.serialized) struct DatagramTests {
    final class Echo: DatagramHandler, @unchecked Sendable {
        let peers = Guarded<[DatagramPeer]>([])
        func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
            peers.withLock { $0.append(peer) }
            socket.send(bytes, to: peer)
        }
    }

    final class Collector: DatagramHandler, @unchecked Sendable {
        let received = Guarded<[(DatagramPeer, [UInt8])]>([])
        func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
            received.withLock { $0.append((peer, Array(bytes))) }
        }
    }

    private func bind(_ rig: Rig, _ address: SocketAddress, _ handler: any DatagramHandler & Sendable) async throws
        -> DatagramSocket
    {
        let result = await rig.loop.perform { () -> Result<DatagramSocket, Errno> in
            Result { () throws(Errno) in try rig.network.datagrams(on: address, loop: rig.loop, handler: handler) }
        }
        return try result.get()
    }

    @Test func echoesManyFromAWildcardAddressWithTheAddressThatWasAsked() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let echo = Echo()
        let collector = Collector()
        let server = try await bind(rig, .ipv4(0, port: 0), echo)
        let client = try await bind(rig, .ipv4(0x7f00_0001, port: 0), collector)
        let port = try #require(server.localAddress.port)
        // Another loopback address than the one the kernel would answer from by itself.
        let asked = SocketAddress.ipv4(0x7f00_0005, port: port)
        let count = 100
        await rig.loop.perform {
            for index in 0..<count {
                pattern(index + 1, seed: UInt64(index)).withUnsafeBytes {
                    client.send($0, to: DatagramPeer(remote: asked))
                }
            }
        }
        #expect(await eventually { collector.received.withLock { $0.count } == count })
        for (index, (peer, bytes)) in collector.received.withLock({ $0 }).enumerated() {
            #expect(bytes == pattern(index + 1, seed: UInt64(index)))
            #expect(peer.remote == asked)
        }
        #expect(rig.loop.counters.datagramsOut.value == UInt64(2 * count))
        await rig.loop.perform {
            server.close()
            client.close()
            client.close()
        }
    }

    @Test func theLongestDatagramPassesAndAnEmptyOneToo() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let collector = Collector()
        let server = try await bind(rig, .loopback(port: 0), Echo())
        let client = try await bind(rig, .loopback(port: 0), collector)
        let sizes = [DatagramSocket.bytesMax, 0, 1]
        for (index, size) in sizes.enumerated() {
            await rig.loop.perform {
                pattern(size).withUnsafeBytes { client.send($0, to: DatagramPeer(remote: server.localAddress)) }
            }
            #expect(await eventually { collector.received.withLock { $0.count } == index + 1 })
            #expect(collector.received.withLock { $0[index].1 } == pattern(size))
        }
        await rig.loop.perform {
            server.close()
            client.close()
        }
    }
}

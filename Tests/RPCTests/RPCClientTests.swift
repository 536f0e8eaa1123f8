import Bytes
import Logging
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

/// Our own calls, to a server of ours that loses some, and to an rpcbind that a test made.
@Suite(.serialized) struct RPCClientTests {
    /// Drops calls, answers others, and counts them all; as rpcbind it says what it is told.
    private final class Host: RPCProgram, Sendable {
        let number: UInt32
        let versions: ClosedRange<UInt32>
        let calls = Atomic(0)
        /// Calls that are dropped first.
        let drops = Atomic(0)
        let port = Atomic<UInt32>(0)

        init(_ number: UInt32, _ versions: ClosedRange<UInt32>) {
            self.number = number
            self.versions = versions
        }

        func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
            calls.wrappingAdd(1, ordering: .relaxed)
            if drops.load(ordering: .relaxed) > 0 {
                drops.wrappingSubtract(1, ordering: .relaxed)
                return .dropped
            }
            if number == 100_000 {
                results.writer.u32(port.load(ordering: .relaxed))
                return .done
            }
            guard call.procedure == 1 else { return .refused(.procedureUnavailable) }
            results.writer.bytes(call.arguments)
            return .done
        }
    }

    private final class Setting: Sendable {
        let loop: EventLoop
        let echo = Host(0x2000_0005, 1...1)
        let rpcbind = Host(100_000, 2...2)
        let listener: Listener
        let datagrams: DatagramSocket
        let client: RPCClient
        let target: RPCTarget

        init() async throws {
            loop = try EpollLoop(index: 0)
            let network = EpollNetwork()
            let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
            let server = RPCServer(programs: [echo, rpcbind], on: [loop], logger: logger)
            listener = try server.listen(on: .loopback(port: 0), network: network)
            let address = listener.address
            client = RPCClient(
                network: network, loop: loop, random: SystemRandom(), rpcbindPort: try #require(address.port))
            target = RPCTarget(address, program: 0x2000_0005, version: 1)
            let loop = loop
            let datagrams = await withUnsafeContinuation { continuation in
                loop.execute {
                    continuation.resume(returning: try? server.datagrams(on: address, network: network, loop: loop))
                }
            }
            self.datagrams = try #require(datagrams)
        }

        deinit { (loop as? EpollLoop)?.stop() }

        func call(
            _ transport: Rpcbind.Transport, _ arguments: [UInt8], procedure: UInt32 = 1, tries: Int = 3,
            wait: UInt64 = 200_000_000, to other: RPCTarget? = nil
        ) async -> Result<[UInt8], RPCClientError> {
            let (client, target) = (client, other ?? target)
            return await loop.task { () async -> Result<[UInt8], RPCClientError> in
                do throws(RPCClientError) {
                    return .success(
                        try await client.call(target, procedure, over: transport, arguments, tries: tries, wait: wait))
                } catch { return .failure(error) }
            }.value
        }

        func port(_ transport: Rpcbind.Transport, asking: Rpcbind.Transport) async -> Result<UInt16, RPCClientError> {
            let (client, target) = (client, target)
            return await loop.task { () async -> Result<UInt16, RPCClientError> in
                do throws(RPCClientError) {
                    return .success(try await client.port(of: target, over: transport, asking: asking))
                } catch { return .failure(error) }
            }.value
        }
    }

    @Test func callsAreAnsweredOverBothTransports() async throws {
        let setting = try await Setting()
        for count in [0, 4, 1000, 8000] {
            let payload = [UInt8](repeating: 3, count: count)
            #expect(await setting.call(.udp, payload) == .success(payload))
            #expect(await setting.call(.tcp, payload) == .success(payload))
        }
        for transport in [Rpcbind.Transport.udp, .tcp] {
            #expect(await setting.call(transport, [], procedure: 9) == .failure(.refused(.procedureUnavailable)))
        }
    }

    @Test func lostCallsAreRepeatedAndThenGivenUp() async throws {
        let setting = try await Setting()
        setting.echo.drops.store(2, ordering: .relaxed)
        #expect(await setting.call(.udp, [1, 2, 3, 4]) == .success([1, 2, 3, 4]))
        #expect(setting.echo.calls.load(ordering: .relaxed) == 3)
        setting.echo.drops.store(2, ordering: .relaxed)
        #expect(await setting.call(.udp, [], tries: 2) == .failure(.unreachable))
        #expect(setting.echo.calls.load(ordering: .relaxed) == 5)
        setting.echo.drops.store(1, ordering: .relaxed)
        #expect(await setting.call(.tcp, [], tries: 1) == .failure(.unreachable))
        // Nobody there.
        let nowhere = RPCTarget(.loopback(port: 1), program: 1, version: 1)
        for transport in [Rpcbind.Transport.udp, .tcp] {
            #expect(await setting.call(transport, [], tries: 1, to: nowhere) == .failure(.unreachable))
        }
    }

    @Test func rpcbindSaysWhereAProgramIs() async throws {
        let setting = try await Setting()
        for asking in [Rpcbind.Transport.udp, .tcp] {
            setting.rpcbind.port.store(0, ordering: .relaxed)
            #expect(await setting.port(.udp, asking: asking) == .failure(.notRegistered))
            setting.rpcbind.port.store(4045, ordering: .relaxed)
            #expect(await setting.port(.tcp, asking: asking) == .success(4045))
            // What can be no port is none.
            setting.rpcbind.port.store(70_000, ordering: .relaxed)
            #expect(await setting.port(.tcp, asking: asking) == .failure(.notRegistered))
        }
    }

    @Test func mappedAddressesAreWhatTheyStandFor() {
        let mapped = SocketAddress.ipv6(0, 0xffff_0a00_0001, port: 7)
        #expect(mapped.unmapped == .ipv4(0x0a00_0001, port: 7))
        #expect(mapped.unmapped.host == "10.0.0.1")
        #expect(SocketAddress.ipv6(0, 1, port: 7).unmapped.host == "::1")
        #expect(SocketAddress.loopback(port: 5).host == "127.0.0.1")
    }
}

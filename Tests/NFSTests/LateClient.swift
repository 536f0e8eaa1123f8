import NFS
import Namespace
import RPC
import Runtime
import Simulator
import TestSupport
import Testing

/// A client of a server in a simulated world, whose messages can be sent again.
final class LateClient: @unchecked Sendable {
    let simulation: Simulation
    let server: SimulatedServer
    let host: SimulatedHost
    private(set) var root: [UInt8] = []
    private var xid: UInt32 = 0

    private init(_ simulation: Simulation, _ server: SimulatedServer, _ host: SimulatedHost) {
        (self.simulation, self.server, self.host) = (simulation, server, host)
    }

    static func run(
        _ body: @escaping @Sendable (LateClient) async throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let simulation = Simulation(seed: 7)
        let host = SimulatedHost(simulation, "client", isStream: true)
        let done = simulation.perform { world -> Bool in
            do {
                _ = try await begin(simulation, world, host, body)
            } catch { Issue.record("\(error)", sourceLocation: sourceLocation) }
            return true
        }
        #expect(done == true, "the program did not come to an end", sourceLocation: sourceLocation)
    }

    /// With a server that begins now, in a world of the simulation.
    static func begin<Value>(
        _ simulation: Simulation, _ world: World, _ host: SimulatedHost,
        _ body: (LateClient) async throws -> Value
    ) async throws -> (LateClient, Value) {
        let client = LateClient(simulation, try await SimulatedServer(world), host)
        client.root = try #require(try await host.root(xid: client.next()))
        return (client, try await body(client))
    }

    private func next() -> UInt32 {
        xid += 1
        return xid
    }

    /// As the server itself.
    var caller: Caller { Caller(.root, Request(reader: host.loop.index, now: 1)) }

    func handle(_ bytes: [UInt8]) -> NFS3Handle { NFS3Handle(host.keep(bytes)) }
    func name(_ name: String) -> NFS3Name { host.name(root, name) }

    func message(_ procedure: NFS3Procedure, _ request: NFS3Request) -> RPCMessage {
        host.message(procedure, request, xid: next())
    }

    func create(_ name: String, _ how: NFS3CreateHow) -> RPCMessage {
        message(.create, .create(NFS3CreateArguments(place: self.name(name), how: how)))
    }

    func setting(
        _ file: [UInt8], _ attributes: NFS3SetAttributes, _ guardTime: NFS3Time? = nil
    ) -> NFS3SetAttributesArguments {
        NFS3SetAttributesArguments(object: handle(file), attributes: attributes, guardTime: guardTime)
    }

    func call<Result: XDRMessage>(_ message: RPCMessage, _ type: Result.Type) async throws -> Result {
        try host.results(try #require(await host.exchange(message)), type)
    }

    func attributes(_ handle: [UInt8]) async throws -> NFS3Attributes {
        let message = message(.getAttributes, .getAttributes(self.handle(handle)))
        return try #require(try await call(message, NFS3Results.GetAttributes.self).success)
    }

    /// Of any procedure's results.
    func status(_ message: RPCMessage) async throws -> NFS3Status? {
        let reply = try #require(await host.exchange(message))
        return NFS3Status(rawValue: reply.results.prefix(4).reduce(0) { $0 << 8 | UInt32($1) })
    }

    func made(_ message: RPCMessage) async throws -> [UInt8] {
        Array(try #require(try await call(message, NFS3Results.Create.self).success?.object).bytes)
    }

    func write(_ file: [UInt8], _ text: String) async throws {
        let arguments = NFS3WriteArguments(
            file: handle(file), offset: 0, count: UInt32(text.utf8.count), stability: .fileSync,
            data: host.keep(Array(text.utf8)))
        #expect(try await status(message(.write, .write(arguments))) == .ok)
    }

    func content(_ file: [UInt8]) async throws -> String {
        let arguments = NFS3ReadArguments(file: handle(file), offset: 0, count: 100)
        let read = try await call(message(.read, .read(arguments)), NFS3Results.Read.self)
        return String(decoding: try #require(read.success).data, as: UTF8.self)
    }

    /// What the volume knows the file by.
    func file(_ name: String) throws -> FileID {
        let volume = server.volume
        let found = Array(name.utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        guard case .done(let attributes, _) = found else { throw NFS3Status.noEntry }
        return attributes.file
    }
}

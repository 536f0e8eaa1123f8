import Bytes
import Logging
import NFS
import Namespace
import RPC
import Runtime
import Simulator
import TestSupport
import Testing

/// A server of one volume of the engine in a simulated world, until that world ends.
final class SimulatedServer: Sendable {
    static let port: UInt16 = 2049
    let hosted: HostedVolume
    let context: NFSContext
    private let monitor: HostMonitor
    private let server: RPCServer
    private let listener: Listener
    private let datagrams: DatagramSocket

    var volume: Volume { hosted.volume }

    /// On the world's loop.
    init(
        _ world: World, graceNanoseconds: UInt64 = 45_000_000_000, key: HandleKey = HandleKey(1, 2),
        _ change: (inout Export.Client) -> Void = { _ in }
    ) async throws {
        let loop = world.loops[0]
        let volumes = Volumes(locks: ServerLocks(clock: world.clock))
        hosted = try await HostedVolume.open(
            "default", folder: "volume", durability: .log, world: world, loop: loop, locks: volumes.locks)
        _ = volumes.add(hosted.volume)
        let exports = ExportTable()
        context = NFSContext(volumes: volumes, exports: exports, clock: world.clock, key: key)
        var client = Export.Client(.all)
        client.needsPrivilegedPort = false
        client.squash = .none
        change(&client)
        let volume = hosted.volume
        var export = Export(id: 5, path: "/default", volume: volume.identity, root: volume.root, clients: [client])
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        monitor = HostMonitor(
            context, client: RPCClient(network: world.network, loop: loop, random: world.random),
            random: world.random, logger: logger, name: "server", graceNanoseconds: graceNanoseconds)
        server = RPCServer(
            programs: [
                NFSService(context), MountService(context), LockService(context, monitor, logger: logger),
                MonitorService(monitor, logger: logger),
            ], on: world.loops, logger: logger)
        let address = SocketAddress.ipv4(0, port: Self.port)
        listener = try server.listen(on: address, network: world.network)
        datagrams = try server.datagrams(on: address, network: world.network, loop: loop)
        await monitor.attach(volumes.all)
        export.key = monitor.key(of: volume.identity)
        _ = exports.replace([export])
    }
}

/// Another host of a simulated world, which calls the server as kernels do: a call is sent again, under its number, until
/// it is answered.
final class SimulatedHost: DatagramHandler, @unchecked Sendable {
    private static let firstPause: UInt64 = 300_000_000
    private static let pauseMax: UInt64 = 5_000_000_000

    let name: String
    let loop: EventLoop
    let network: any Network
    /// The world ends: nobody waits for anything any more.
    var isOver = false
    /// Times that a call was sent again.
    private(set) var repeats = 0
    private let server: SocketAddress
    private let isStream: Bool
    private var waiting: [UInt32: (RPCReply?) -> Void] = [:]
    private var socket: DatagramSocket?
    private var stream: Connection?
    private var unread: [UInt8] = []
    private var memory: [UnsafeMutableRawBufferPointer] = []

    init(_ simulation: Simulation, _ name: String, isStream: Bool) {
        self.name = name
        self.isStream = isStream
        loop = simulation.loop
        network = simulation.network(of: name)
        server = simulation.address(of: "server", port: SimulatedServer.port)
    }

    deinit { for piece in memory { piece.deallocate() } }

    // MARK: Calls

    /// The answer; nil: the world has ended.
    func exchange(_ message: RPCMessage) async -> RPCReply? {
        var pause = Self.firstPause
        let bytes = message.bytes
        while !isOver {
            transmit(bytes)
            // What a dying world answers, nobody hears.
            if let reply = await answer(to: message.xid, within: pause) { return isOver ? nil : reply }
            repeats += 1
            pause = min(pause * 2, Self.pauseMax)
            if isStream { hangUp() }
        }
        return nil
    }

    private func answer(to xid: UInt32, within pause: UInt64) async -> RPCReply? {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<RPCReply?, Never>) in
            let timer = loop.schedule(after: pause) { [self] in waiting.removeValue(forKey: xid)?(nil) }
            waiting[xid] = { [loop] reply in
                loop.cancel(timer)
                continuation.resume(returning: reply)
            }
        }
    }

    private func transmit(_ bytes: [UInt8]) {
        guard isStream else {
            if socket == nil { socket = try? network.datagrams(on: .ipv4(0, port: 0), loop: loop, handler: self) }
            bytes.withUnsafeBytes { socket?.send($0, to: DatagramPeer(remote: server)) }
            return
        }
        if stream == nil { stream = network.connect(to: server, ConnectOptions(), on: loop, handler: self) }
        RPCMessage.record(bytes).withUnsafeBytes { stream?.write($0) }
    }

    private func take(_ record: [UInt8]) {
        guard let reply = RPCReply(record) else { return }
        waiting.removeValue(forKey: reply.xid)?(reply)
    }

    func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
        take(Array(bytes))
    }

    /// What is on its way does not count any more.
    private func hangUp() {
        stream?.abort()
        stream = nil
        unread = []
    }

    // MARK: NFS

    func keep(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
        copy.copyBytes(from: bytes)
        memory.append(copy)
        return UnsafeRawBufferPointer(copy)
    }

    func message(_ procedure: NFS3Procedure, _ request: NFS3Request, xid: UInt32, uid: UInt32 = 0) -> RPCMessage {
        var message = RPCMessage(
            NFS3.program, 3, procedure.rawValue, xid: xid, encoded { request.write(into: &$0) })
        message.sign(uid: uid, gid: uid, machine: name)
        return message
    }

    func results<Result: XDRMessage>(_ reply: RPCReply, _ type: Result.Type) throws -> Result {
        try #require(reply.status == .success)
        var reader = Reader(keep(reply.results))
        let result = try Result(reading: &reader)
        #expect(reader.remaining == 0, "bytes behind the results")
        return result
    }

    /// The handle of the export's root.
    func root(xid: UInt32) async throws -> [UInt8]? {
        let arguments = encoded { MountPath(path: keep(Array("/default".utf8))).write(into: &$0) }
        var message = RPCMessage(Mount.program, 3, MountProcedure.mount.rawValue, xid: xid, arguments)
        message.sign(uid: 0, gid: 0, machine: name)
        guard let reply = await exchange(message) else { return nil }
        guard case .ok(let handle, _) = try results(reply, MountResult.self) else { throw NFS3Status.access }
        return Array(handle)
    }

    func name(_ directory: [UInt8], _ name: String) -> NFS3Name {
        NFS3Name(directory: NFS3Handle(keep(directory)), name: keep(Array(name.utf8)))
    }
}

extension SimulatedHost: ConnectionHandler {
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        guard connection === stream else { return bytes.count }
        unread += bytes
        while unread.count >= RecordMark.bytes {
            let length = unread[..<4].reduce(0) { $0 << 8 | Int($1) } & 0x7fff_ffff
            guard unread.count >= 4 + length else { break }
            let record = Array(unread[4..<(4 + length)])
            unread.removeFirst(4 + length)
            take(record)
        }
        return bytes.count
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        guard connection === stream else { return }
        stream = nil
        unread = []
    }
}

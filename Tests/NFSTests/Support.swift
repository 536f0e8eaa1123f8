import Bytes
import Logging
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

final class TestClock: WorldClock {
    func monotonic() -> UInt64 { 1 }
    func wall() -> Int64 { 1_700_000_000_123_456_789 }
}

/// A volume in memory behind NFS on a real socket.
final class Rig: Sendable {
    static let volume: UInt64 = 0x1122_3344_5566_7788
    let loops: [EventLoop]
    let files = MemoryFileSystem()
    let context: NFSContext
    let listener: Listener

    init(
        groups: (any GroupSource)? = nil, _ change: (inout Export.Client) -> Void = { _ in },
        export changeExport: (inout Export) -> Void = { _ in }
    ) throws {
        loops = [try EpollLoop(index: 0)]
        let volumes = Volumes()
        #expect(volumes.add(Volume("default", identity: Self.volume, files)))
        var client = Export.Client(.loopback)
        client.needsPrivilegedPort = false
        client.squash = .none
        change(&client)
        let exports = ExportTable()
        context = NFSContext(
            volumes: volumes, exports: exports, clock: TestClock(), key: HandleKey(1, 2), groups: groups)
        var export = Export(id: 5, path: "/default", volume: Self.volume, root: files.root, clients: [client])
        changeExport(&export)
        #expect(exports.replace([export]))
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        let server = RPCServer(
            programs: [NFSService(context), MountService(context)], on: loops, logger: logger)
        listener = try server.listen(on: .loopback(port: 0), network: EpollNetwork())
    }

    deinit { for loop in loops { (loop as? EpollLoop)?.stop() } }

    func client(uid: UInt32 = 0, gid: UInt32 = 0, groups: [UInt32] = []) throws -> NFSClient {
        NFSClient(try RPCPeer(listener.address), uid: uid, gid: gid, groups: groups)
    }
}

/// Calls NFS and MOUNT, and keeps the memory that the results lie in.
final class NFSClient: @unchecked Sendable {
    let peer: RPCPeer
    let uid: UInt32
    let gid: UInt32
    let groups: [UInt32]
    var xid: UInt32 = 100
    /// Before each call.
    var before: () -> Void = {}
    private var memory: [UnsafeMutableRawBufferPointer] = []

    init(_ peer: RPCPeer, uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.peer = peer
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }

    deinit { for piece in memory { piece.deallocate() } }

    func keep(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
        copy.copyBytes(from: bytes)
        memory.append(copy)
        return UnsafeRawBufferPointer(copy)
    }

    func keepBytes(_ bytes: [UInt8]) -> UnsafeRawBufferPointer { keep(bytes) }
    func keep(_ text: String) -> UnsafeRawBufferPointer { keep(Array(text.utf8)) }
    func handle(_ bytes: UnsafeRawBufferPointer) -> NFS3Handle { NFS3Handle(keep(Array(bytes))) }

    func message(_ program: UInt32, _ version: UInt32, _ procedure: UInt32, _ arguments: [UInt8]) -> RPCMessage {
        before()
        xid += 1
        var message = RPCMessage(program, version, procedure, xid: xid, arguments)
        message.sign(uid: uid, gid: gid, groups: groups)
        return message
    }

    /// The results of a call that RPC let through; all their bytes must be read.
    func results<Result: XDRMessage>(_ reply: RPCReply?, _ type: Result.Type) throws -> Result {
        let reply = try #require(reply)
        try #require(reply.status == .success)
        var reader = Reader(keep(reply.results))
        let result = try Result(reading: &reader)
        let rest = reader.remaining
        #expect(rest == 0, "bytes behind the results")
        return result
    }

    func call<Result: XDRMessage>(
        _ procedure: NFS3Procedure, _ request: NFS3Request, _ type: Result.Type
    ) throws -> Result {
        let arguments = encoded { request.write(into: &$0) }
        return try results(peer.call(message(NFS3.program, 3, procedure.rawValue, arguments)), type)
    }

    func mount(_ path: String = "/default") throws -> MountResult {
        let arguments = encoded { MountPath(path: keep(path)).write(into: &$0) }
        return try results(
            peer.call(message(Mount.program, 3, MountProcedure.mount.rawValue, arguments)), MountResult.self)
    }

    func root(_ path: String = "/default") throws -> NFS3Handle {
        guard case .ok(let bytes, let flavors) = try mount(path) else { throw NFS3Status.access }
        #expect(flavors == [MountFlavor(1)])
        return handle(bytes)
    }

    func name(_ directory: NFS3Handle, _ name: String) -> NFS3Name {
        NFS3Name(directory: directory, name: keep(name))
    }

    // MARK: Procedures

    func attributes(_ file: NFS3Handle) throws -> NFS3Results.GetAttributes {
        try call(.getAttributes, .getAttributes(file), NFS3Results.GetAttributes.self)
    }

    func lookup(_ directory: NFS3Handle, _ name: String) throws -> NFS3Results.Lookup {
        try call(.lookup, .lookup(self.name(directory, name)), NFS3Results.Lookup.self)
    }

    func create(
        _ directory: NFS3Handle, _ name: String, _ how: NFS3CreateHow = .unchecked(NFS3SetAttributes(mode: 0o644))
    ) throws -> NFS3Results.Create {
        let arguments = NFS3CreateArguments(place: self.name(directory, name), how: how)
        return try call(.create, .create(arguments), NFS3Results.Create.self)
    }

    func makeDirectory(_ directory: NFS3Handle, _ name: String) throws -> NFS3Results.Create {
        let arguments = NFS3MakeDirectoryArguments(
            place: self.name(directory, name), attributes: NFS3SetAttributes(mode: 0o755))
        return try call(.makeDirectory, .makeDirectory(arguments), NFS3Results.Create.self)
    }

    func write(
        _ file: NFS3Handle, _ offset: UInt64, _ data: [UInt8], _ stability: NFS3Stability = .unstable,
        count: UInt32? = nil
    ) throws -> NFS3Results.Write {
        let arguments = NFS3WriteArguments(
            file: file, offset: offset, count: count ?? UInt32(data.count), stability: stability, data: keep(data))
        return try call(.write, .write(arguments), NFS3Results.Write.self)
    }

    func read(_ file: NFS3Handle, _ offset: UInt64, _ count: UInt32) throws -> NFS3Results.Read {
        let arguments = NFS3ReadArguments(file: file, offset: offset, count: count)
        return try call(.read, .read(arguments), NFS3Results.Read.self)
    }

    func set(
        _ file: NFS3Handle, _ attributes: NFS3SetAttributes, guardTime: NFS3Time? = nil
    ) throws -> NFS3Results.SetAttributes {
        let arguments = NFS3SetAttributesArguments(object: file, attributes: attributes, guardTime: guardTime)
        return try call(.setAttributes, .setAttributes(arguments), NFS3Results.SetAttributes.self)
    }

    func made(_ result: NFS3Results.Create) throws -> NFS3Handle {
        handle(try #require(result.success?.object).bytes)
    }
}

import Bytes
import NFS
import RPC
import Runtime
import TestSupport
import Testing

/// NFS, MOUNT and NLM as a client speaks them with the program.
final class NFSCalls {
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    private let exchange: (RPCMessage) -> RPCReply?
    private var xid: UInt32
    private var memory: [UnsafeMutableRawBufferPointer] = []

    /// `xid`: calls have the numbers behind it, which no two clients of one address share.
    init(xid: UInt32 = 0, _ exchange: @escaping (RPCMessage) -> RPCReply?) {
        self.xid = xid
        self.exchange = exchange
    }

    convenience init(_ peer: RPCPeer, xid: UInt32 = 0) { self.init(xid: xid) { peer.call($0) } }

    deinit { for piece in memory { piece.deallocate() } }

    func keep(_ bytes: some Collection<UInt8>) -> UnsafeRawBufferPointer {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
        copy.copyBytes(from: bytes)
        memory.append(copy)
        return UnsafeRawBufferPointer(copy)
    }

    func handle(_ bytes: [UInt8]) -> NFS3Handle { NFS3Handle(keep(bytes)) }
    func name(_ directory: [UInt8], _ name: String) -> NFS3Name {
        NFS3Name(directory: handle(directory), name: keep(name.utf8))
    }

    func message(_ program: UInt32, _ version: UInt32, _ procedure: UInt32, _ arguments: [UInt8]) -> RPCMessage {
        xid += 1
        var message = RPCMessage(program, version, procedure, xid: xid, arguments)
        message.sign(uid: uid, gid: gid)
        return message
    }

    func message(_ procedure: NFS3Procedure, _ request: NFS3Request) -> RPCMessage {
        message(NFS3.program, 3, procedure.rawValue, encoded { request.write(into: &$0) })
    }

    func reply(_ message: RPCMessage) throws -> RPCReply { try #require(exchange(message), "no answer") }

    /// Of a call that RPC let through; all their bytes are read.
    func results<Result: XDRMessage>(_ reply: RPCReply, _ type: Result.Type) throws -> Result {
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
        try results(reply(message(procedure, request)), type)
    }

    func mount(_ path: String) throws -> MountResult {
        let arguments = encoded { MountPath(path: keep(path.utf8)).write(into: &$0) }
        return try results(reply(message(Mount.program, 3, MountProcedure.mount.rawValue, arguments)), MountResult.self)
    }

    /// The handle of what is mounted.
    func root(_ path: String) throws -> [UInt8] {
        guard case .ok(let handle, _) = try mount(path) else { throw NFS3Status.access }
        return Array(handle)
    }

    func create(_ directory: [UInt8], _ name: String) throws -> NFS3Results.Create {
        let how = NFS3CreateHow.guarded(NFS3SetAttributes(mode: 0o644))
        let arguments = NFS3CreateArguments(place: self.name(directory, name), how: how)
        return try call(.create, .create(arguments), NFS3Results.Create.self)
    }

    func makeDirectory(_ directory: [UInt8], _ name: String) throws -> [UInt8] {
        let arguments = NFS3MakeDirectoryArguments(
            place: self.name(directory, name), attributes: NFS3SetAttributes(mode: 0o777))
        let made = try call(.makeDirectory, .makeDirectory(arguments), NFS3Results.Create.self)
        return Array(try #require(made.success?.object).bytes)
    }

    func lookup(_ directory: [UInt8], _ name: String) throws -> NFS3Results.Lookup {
        try call(.lookup, .lookup(self.name(directory, name)), NFS3Results.Lookup.self)
    }

    /// Paths that are exported, with the clients that are named for each.
    func exports() throws -> [String: [String]] {
        let reply = try reply(message(Mount.program, 3, MountProcedure.export.rawValue, []))
        return Dictionary(
            uniqueKeysWithValues: try results(reply, MountExports.self).entries.map { entry in
                let names = entry.groups.map { String(decoding: $0.name, as: UTF8.self) }
                return (String(decoding: entry.directory, as: UTF8.self), names)
            })
    }
}

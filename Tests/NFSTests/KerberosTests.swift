import Bytes
import CShim
import Glibc
import Kerberos
import Logging
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

/// A client of RPCSEC_GSS over GSSAPI itself.
private final class GSSClient {
    let nfs: NFSClient
    var context: KerberosContext?
    var handle: [UInt8] = []
    var window: UInt32 = 0
    var sequence: UInt32 = 0
    var service = GSS.Service.none

    init(_ nfs: NFSClient) { self.nfs = nfs }

    private func credential(_ procedure: GSS.Procedure, _ sequence: UInt32) -> [UInt8] {
        encoded { writer in
            handle.withUnsafeBytes {
                GSSCredential(procedure: procedure, sequence: sequence, service: service, handle: $0)
                    .write(into: &writer)
            }
        }
    }

    /// Makes a context, with the tickets of the environment.
    func begin() throws {
        let handshake = KerberosHandshake(initiating: "nfs@localhost")
        var token: [UInt8] = []
        var procedure = GSS.Procedure.begin
        for _ in 0..<4 {
            let step = token.withUnsafeBytes { handshake.step($0) }
            switch step {
            case .failed(let failure, _): throw failure
            case .continues(let next), .complete(_, _, _, let next):
                if case .complete(let made, _, _, _) = step { context = made }
                if next.isEmpty { return }
                var call = RPCMessage(
                    NFS3.program, 3, 0, xid: 7, encoded { writer in next.withUnsafeBytes { writer.opaque($0) } })
                call.flavor = AuthFlavor.gss
                call.credential = credential(procedure, 0)
                let reply = try #require(nfs.peer.call(call))
                let result = try nfs.results(reply, GSSInitResult.self)
                try #require(result.major <= 1, "major \(result.major), minor \(result.minor)")
                handle = Array(result.handle)
                window = result.window
                token = Array(result.token)
                procedure = .goOn
                if context == nil, case .complete(let made, _, _, _) = token.withUnsafeBytes({ handshake.step($0) }) {
                    context = made
                }
                guard let context, result.major == 0 else { continue }
                let number = encoded { $0.u32(window) }
                #expect(
                    number.withUnsafeBytes { message in
                        reply.verifier.withUnsafeBytes { context.verifies(message, $0) }
                    })
                return
            }
        }
    }

    func sign(_ bytes: [UInt8]) throws -> [UInt8] {
        let context = try #require(context)
        return bytes.withUnsafeBytes { message in
            [UInt8](unsafeUninitializedCapacity: 256) { place, count in
                count = context.sign(message, into: UnsafeMutableRawBufferPointer(place)) ?? 0
            }
        }
    }

    func message(
        _ program: UInt32, _ procedure: UInt32, _ arguments: [UInt8], _ kind: GSS.Procedure = .data,
        sequence number: UInt32? = nil
    ) throws -> RPCMessage {
        let context = try #require(context)
        if number == nil { sequence += 1 }
        let number = number ?? sequence
        var call = RPCMessage(program, 3, procedure, xid: 1000 + number, arguments)
        call.flavor = AuthFlavor.gss
        call.credential = credential(kind, number)
        let plain = encoded { $0.u32(number) } + arguments
        switch service {
        case .none: break
        case .integrity:
            let mic = try sign(plain)
            call.arguments = encoded { writer in
                plain.withUnsafeBytes { writer.opaque($0) }
                mic.withUnsafeBytes { writer.opaque($0) }
            }
        case .privacy:
            let wrapped = plain.withUnsafeBytes { message in
                [UInt8](unsafeUninitializedCapacity: plain.count + 256) { place, count in
                    count = context.wrap(message, into: UnsafeMutableRawBufferPointer(place)) ?? 0
                }
            }
            call.arguments = encoded { writer in wrapped.withUnsafeBytes { writer.opaque($0) } }
        }
        let header = call.bytes.prefix(8 * 4 + (call.credential.count + 3) & ~3)
        call.verifier = (AuthFlavor.gss, try sign(Array(header)))
        return call
    }

    /// The plain results, after everything around them was checked.
    func results(_ reply: RPCReply?) throws -> [UInt8] {
        let reply = try #require(reply), context = try #require(context)
        try #require(reply.status == .success)
        let number = encoded { $0.u32(reply.xid - 1000) }
        let isSigned = number.withUnsafeBytes { message in
            reply.verifier.withUnsafeBytes { context.verifies(message, $0) }
        }
        #expect(isSigned)
        guard service != .none else { return reply.results }
        var plain: [UInt8] = []
        try reply.results.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            let body = try reader.inPlace(limit: bytes.count)
            if service == .integrity {
                let mic = try reader.inPlace(limit: 256)
                #expect(context.verifies(body, mic))
                plain = Array(body)
            } else {
                #expect(context.unwrap(body) { plain = Array($0) })
            }
            let isAtEnd = reader.isAtEnd
            #expect(isAtEnd)
        }
        #expect(Array(plain.prefix(4)) == number)
        return Array(plain.dropFirst(4))
    }

    func call<Result: XDRMessage>(
        _ procedure: NFS3Procedure, _ request: NFS3Request, _ type: Result.Type
    ) throws -> Result {
        let arguments = encoded { request.write(into: &$0) }
        let plain = try results(nfs.peer.call(message(NFS3.program, procedure.rawValue, arguments)))
        var reader = Reader(nfs.keep(plain))
        return try Result(reading: &reader)
    }
}

@Suite(.serialized, .enabled(if: getenv("PROXYFS_WITHOUT_KDC") == nil, "PROXYFS_WITHOUT_KDC is set"))
struct KerberosTests {
    private final class Users: PrincipalSource {
        func credential(of principal: String) -> Credential? {
            principal == "alice@" + KeyDistributionCenter.realm ? Credential(uid: 4321, gid: 99) : nil
        }
    }

    /// NFS that takes Kerberos alone.
    private final class Rig {
        let world: World
        let files = MemoryFileSystem()
        let flavor: GSSFlavor
        let listener: Listener

        init(_ center: KeyDistributionCenter, flavors: [UInt32] = KerberosFlavor.numbers) throws {
            world = try World.real(disk: try RealDisk(path: "/tmp"), loops: 1, blockingThreads: 1)
            let volumes = Volumes()
            #expect(volumes.add(Volume("default", identity: 7, files, locks: volumes.locks)))
            var client = Export.Client(.loopback)
            client.needsPrivilegedPort = false
            client.flavors = flavors
            let exports = ExportTable()
            #expect(
                exports.replace([Export(id: 5, path: "/default", volume: 7, root: files.root, clients: [client])]))
            let context = NFSContext(
                volumes: volumes, exports: exports, clock: world.clock, key: HandleKey(1, 2), principals: Users())
            flavor = KerberosFlavor.make(try KerberosCredential(keytab: center.keytab), world)
            let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
            let server = RPCServer(
                programs: [NFSService(context), MountService(context)], flavors: [flavor], on: world.loops,
                logger: logger)
            listener = try server.listen(on: .loopback(port: 0), network: world.network)
        }

        deinit { world.stop() }

        func client() throws -> NFSClient { NFSClient(try RPCPeer(listener.address), uid: 0, gid: 0, groups: []) }
    }

    private func root(_ nfs: NFSClient) throws -> NFS3Handle {
        guard case .ok(let bytes, let flavors) = try nfs.mount() else { throw NFS3Status.access }
        #expect(flavors.map(\.number) == KerberosFlavor.numbers)
        return nfs.handle(bytes)
    }

    @Test(arguments: [
        "aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192",
        "aes128-cts-hmac-sha256-128",
    ])
    func callsAreProtectedInEveryWay(_ encryption: String) throws {
        let center = try KeyDistributionCenter(encryption: encryption)
        let rig = try Rig(center)
        let nfs = try rig.client()
        let root = try root(nfs)
        // AUTH_SYS is not enough.
        let weak = RPCMessage(NFS3.program, 3, 1, encoded { root.write(into: &$0) })
        #expect(nfs.peer.call(weak)?.status == .authError(.tooWeak))
        let client = GSSClient(nfs)
        try client.begin()
        #expect(client.handle.count == 8 && client.window >= 128)
        for service in GSS.Service.allCases {
            client.service = service
            let name = nfs.name(root, "\(service)")
            let how = NFS3CreateHow.unchecked(NFS3SetAttributes(mode: 0o600))
            let made = try client.call(
                .create, .create(NFS3CreateArguments(place: name, how: how)), NFS3Results.Create.self)
            let attributes = try #require(made.success?.attributes)
            #expect(attributes.uid == 4321 && attributes.gid == 99)
            let file = try nfs.made(made)
            for count in [1, 5000, 200_000, 1 << 20] {
                let data = nfs.keep((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) })
                let write = NFS3WriteArguments(
                    file: file, offset: 0, count: UInt32(count), stability: .unstable, data: data)
                #expect(try client.call(.write, .write(write), NFS3Results.Write.self).status == .ok)
                let read = NFS3ReadArguments(file: file, offset: 0, count: UInt32(count))
                let back = try #require(try client.call(.read, .read(read), NFS3Results.Read.self).success)
                #expect(back.data.elementsEqual(data), "\(service), \(count) bytes")
            }
        }
        // The end of a context.
        client.service = .none
        #expect(rig.flavor.contexts == 1)
        let end = try client.message(NFS3.program, 0, [], .destroy)
        #expect(nfs.peer.call(end)?.status == .success)
        #expect(rig.flavor.contexts == 0)
        let late = try client.message(NFS3.program, 1, encoded { root.write(into: &$0) })
        #expect(nfs.peer.call(late)?.status == .authError(.gssCredentialProblem))
    }

    @Test func replaysForgeriesAndStrangersAreRefused() throws {
        let center = try KeyDistributionCenter(encryption: "aes256-cts-hmac-sha1-96")
        let rig = try Rig(center)
        let nfs = try rig.client()
        let root = try root(nfs)
        let client = GSSClient(nfs)
        try client.begin()
        let arguments = encoded { root.write(into: &$0) }
        let good = try client.message(NFS3.program, 1, arguments)
        #expect(nfs.peer.call(good)?.status == .success)
        // The same again gets no answer; the next one does.
        nfs.peer.send(good)
        let next = try client.message(NFS3.program, 1, arguments)
        #expect(nfs.peer.call(next)?.xid == next.xid)
        // Numbers may come in any order within the window, and not below it.
        let high = try client.message(NFS3.program, 1, arguments, sequence: 3000)
        #expect(nfs.peer.call(high)?.status == .success)
        let inside = try client.message(NFS3.program, 1, arguments, sequence: 3000 - client.window + 1)
        #expect(nfs.peer.call(inside)?.status == .success)
        nfs.peer.send(try client.message(NFS3.program, 1, arguments, sequence: 3000 - client.window))
        client.sequence = 3000
        #expect(nfs.peer.call(try client.message(NFS3.program, 1, arguments))?.xid == 4001)
        let beyond = try client.message(NFS3.program, 1, arguments, sequence: GSS.sequenceMax)
        #expect(nfs.peer.call(beyond)?.status == .authError(.gssContextProblem))
        // What was changed on the way, by a bit.
        var forged = try client.message(NFS3.program, 1, arguments)
        forged.verifier.body[20] ^= 1
        #expect(nfs.peer.call(forged)?.status == .authError(.gssCredentialProblem))
        for service in [GSS.Service.integrity, .privacy] {
            client.service = service
            var changed = try client.message(NFS3.program, 1, arguments)
            changed.arguments[40] ^= 1
            #expect(nfs.peer.call(changed)?.status == .garbageArguments)
            // The arguments of one call do not serve for another.
            let other = try client.message(NFS3.program, 1, arguments)
            var mixed = try client.message(NFS3.program, 1, arguments)
            mixed.arguments = other.arguments
            #expect(nfs.peer.call(mixed)?.status == .garbageArguments)
            #expect(nfs.peer.call(try client.message(NFS3.program, 1, arguments))?.status == .success)
        }
        // Contexts that nobody made, tokens that are none.
        client.service = .none
        let handle = client.handle
        client.handle = [UInt8](repeating: 1, count: 8)
        #expect(
            nfs.peer.call(try client.message(NFS3.program, 1, arguments))?.status == .authError(.gssCredentialProblem))
        client.handle = handle
        var noToken = RPCMessage(NFS3.program, 3, 0, xid: 9, encoded { $0.opaque(nfs.keep([1, 2, 3])) })
        noToken.flavor = AuthFlavor.gss
        noToken.credential = encoded {
            GSSCredential(procedure: .begin, sequence: 0, service: .none, handle: nfs.keep([])).write(into: &$0)
        }
        let refused = try nfs.results(nfs.peer.call(noToken), GSSInitResult.self)
        #expect(refused.major >> 16 != 0 && refused.handle.isEmpty)
        noToken.arguments = [1, 2]
        #expect(nfs.peer.call(noToken)?.status == .garbageArguments)
        for broken in [0, 3, 11, 19] {
            var cut = good
            cut.credential = Array(good.credential.prefix(broken))
            #expect(nfs.peer.call(cut)?.status == .authError(.badCredential))
        }
    }

    /// A context ends with the ticket that it was made by, and what is made by a new one goes on.
    @Test func contextsEndWithTheirTickets() async throws {
        let center = try KeyDistributionCenter(encryption: "aes256-cts-hmac-sha1-96")
        let rig = try Rig(center)
        let nfs = try rig.client()
        let root = try root(nfs)
        let request = NFS3Request.getAttributes(root)
        let arguments = encoded { request.write(into: &$0) }
        try center.logIn("alice", seconds: 3)
        let began = shim_clock_monotonic()
        let client = GSSClient(nfs)
        try client.begin()
        #expect(rig.flavor.contexts == 1)
        var status = ReplyStatus.success
        // The difference of clocks that the realm allows, two seconds, counts for the client.
        let isOver = await eventually(within: 15) {
            do {
                status = try #require(nfs.peer.call(try client.message(NFS3.program, 1, arguments))).status
            } catch { Issue.record("\(error)") }
            return status != .success
        }
        #expect(isOver && status == .authError(.gssCredentialProblem))
        let seconds = Double(shim_clock_monotonic() - began) / 1e9
        #expect(seconds > 1.5 && seconds < 8, "it ended after \(seconds) s")
        #expect(rig.flavor.contexts == 0)
        // It is over for every service, and with an old ticket there is no other.
        for service in GSS.Service.allCases {
            client.service = service
            let late = try client.message(NFS3.program, 1, arguments)
            #expect(nfs.peer.call(late)?.status == .authError(.gssCredentialProblem))
        }
        #expect(throws: KerberosFailure.self) { try GSSClient(nfs).begin() }
        #expect(rig.flavor.contexts == 0)
        // The same connection and the same handles go on with a new ticket.
        try center.logIn("alice")
        let next = GSSClient(nfs)
        try next.begin()
        next.service = .privacy
        #expect(try next.call(.getAttributes, request, NFS3Results.GetAttributes.self).status == .ok)
        #expect(rig.flavor.contexts == 1)
    }
}

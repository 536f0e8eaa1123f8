import Bytes
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

@Suite(.serialized) struct ACLServiceTests {
    private static let tag = (
        owner: UInt32(1), user: UInt32(2), group: UInt32(4), namedGroup: UInt32(8), mask: UInt32(0x10),
        other: UInt32(0x20), defaults: UInt32(0x1000)
    )

    private func entry(_ type: UInt32, _ id: UInt32, _ digit: UInt32) -> ACLEntry {
        ACLEntry(type: type, id: id, permissions: digit)
    }

    private func call(_ client: NFSClient, _ procedure: ACLProcedure, _ arguments: some XDRMessage) throws -> RPCReply {
        let bytes = encoded { arguments.write(into: &$0) }
        return try #require(client.peer.call(client.message(NFSACL.program, 3, procedure.rawValue, bytes)))
    }

    private func get(
        _ client: NFSClient, _ file: NFS3Handle,
        _ mask: NFSACL.Mask = [.access, .accessCount, .defaults, .defaultsCount]
    ) throws -> (status: NFS3Status, lists: ACLPair?) {
        let reply = try call(client, .getACL, ACLGetArguments(file: file, mask: mask))
        try #require(reply.status == .success)
        var reader = Reader(client.keep(reply.results))
        let status = try #require(NFS3Status(rawValue: try reader.u32()))
        guard status == .ok else { return (status, nil) }
        return (status, try ACLGetResults(reading: &reader).lists)
    }

    private func set(
        _ client: NFSClient, _ file: NFS3Handle, access: [ACLEntry]? = nil, defaults: [ACLEntry]? = nil
    ) throws -> NFS3Status {
        var mask: NFSACL.Mask = []
        if access != nil { mask.insert(.access) }
        if defaults != nil { mask.insert(.defaults) }
        let lists = ACLPair(
            mask: mask, accessCount: UInt32(access?.count ?? 0), access: access ?? [],
            defaultsCount: UInt32(defaults?.count ?? 0), defaults: defaults ?? [])
        let reply = try call(client, .setACL, ACLSetArguments(file: file, lists: lists))
        try #require(reply.status == .success)
        var reader = Reader(client.keep(reply.results))
        return try #require(NFS3Status(rawValue: try reader.u32()))
    }

    private func numbers(_ entries: [ACLEntry]?) -> [[UInt32]] {
        (entries ?? []).map { [$0.type, $0.id, $0.permissions] }
    }

    @Test func listsComeBackAndBind() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client().nfs
        let root = try client.root()
        let file = try client.made(
            try client.create(root, "f", .unchecked(NFS3SetAttributes(mode: 0o640, uid: 10, gid: 20))))
        // Without a list, the mode as one.
        let tag = Self.tag
        let plain = try get(client, file)
        #expect(
            numbers(plain.lists?.access) == [
                [tag.owner, 10, 6], [tag.group, 20, 4], [tag.mask, 0, 4], [tag.other, 0, 0],
            ])
        #expect(plain.lists?.accessCount == 4 && plain.lists?.defaultsCount == 0)
        let counts = try get(client, file, [.accessCount])
        #expect(counts.lists?.accessCount == 4 && counts.lists?.access.isEmpty == true)
        let named = [
            entry(tag.owner, 10, 6), entry(tag.user, 33, 6), entry(tag.user, 34, 4), entry(tag.group, 20, 4),
            entry(tag.namedGroup, 55, 4), entry(tag.mask, 0, 6), entry(tag.other, 0, 0),
        ]
        #expect(try set(client, file, access: named) == .ok)
        #expect(numbers(try get(client, file).lists?.access) == numbers(named))
        #expect(try client.attributes(file).success?.mode == 0o640, "the group digit is the group's (docs/access.md)")
        func mayWrite(_ uid: UInt32, _ gid: UInt32) throws -> Bool {
            let other = NFSClient(try RPCPeer(rig.listener.address), uid: uid, gid: gid, groups: [])
            return try other.write(file, 0, [1]).status == .ok
        }
        #expect(try mayWrite(33, 1))
        #expect(try !mayWrite(34, 1))
        #expect(try !mayWrite(35, 55))
        // Only the owner sets it.
        let stranger = NFSClient(try RPCPeer(rig.listener.address), uid: 33, gid: 1, groups: [])
        #expect(try set(stranger, file, access: named) == .notOwner)
        // Back to what a mode says.
        let minimal = [entry(tag.owner, 10, 6), entry(tag.group, 20, 0), entry(tag.other, 0, 0)]
        #expect(try set(client, file, access: minimal) == .ok)
        #expect(try client.attributes(file).success?.mode == 0o600)
        #expect(try !mayWrite(33, 1))
    }

    @Test func directoriesPassTheirListOn() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client().nfs
        let root = try client.root()
        let directory = try client.made(try client.makeDirectory(root, "d"))
        let tag = Self.tag
        let passed = [
            entry(tag.owner | tag.defaults, 0, 7), entry(tag.user | tag.defaults, 33, 6),
            entry(tag.group | tag.defaults, 0, 0), entry(tag.mask | tag.defaults, 0, 7),
            entry(tag.other | tag.defaults, 0, 0),
        ]
        #expect(try set(client, directory, defaults: passed) == .ok)
        let lists = try get(client, directory).lists
        #expect(lists?.defaultsCount == 5 && numbers(lists?.defaults).contains([tag.user | tag.defaults, 33, 6]))
        #expect(lists?.accessCount == 4)
        #expect(try set(client, directory, defaults: []) == .ok)
        #expect(try get(client, directory).lists?.defaultsCount == 0)
    }

    @Test func whatIsNoListIsRefused() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client().nfs
        let root = try client.root()
        let file = try client.made(try client.create(root, "f"))
        let tag = Self.tag
        let good = [entry(tag.owner, 0, 6), entry(tag.group, 0, 4), entry(tag.other, 0, 4)]
        for bad in [
            [], Array(good.dropFirst()), good + [entry(tag.owner, 0, 1)], good + [entry(tag.user, 5, 4)],
            good + [entry(0x40, 5, 4)], good + [entry(tag.mask, 0, 8)],
            good + [entry(tag.mask, 0, 7), entry(tag.user, 5, 4), entry(tag.user, 5, 4)],
        ] {
            #expect(try set(client, file, access: bad) == .invalid)
        }
        #expect(try set(client, file, access: good) == .ok)
        #expect(try get(client, file, NFSACL.Mask(rawValue: 16)).status == .invalid)
        // It names no volume of here: nobody can tell whether it was good once.
        let forged = client.handle(client.keep([UInt8](repeating: 1, count: 44)))
        #expect(try get(client, forged).status == .stale)
        #expect(client.peer.call(client.message(NFSACL.program, 3, 1, [0]))?.status == .garbageArguments)
        #expect(client.peer.call(client.message(NFSACL.program, 2, 0, []))?.status == .programMismatch(low: 3, high: 3))
    }

    @Test func quotasAreShownToWhomTheyConcern() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client().nfs
        let arguments = encoded { QuotaArguments(path: client.keep("/default"), uid: 0).write(into: &$0) }
        let reply = client.peer.call(client.message(RemoteQuota.program, 1, 1, arguments))
        guard case .noQuota = try client.results(reply, QuotaResult.self) else {
            Issue.record("a quota that nobody set")
            return
        }
        let elsewhere = encoded { QuotaArguments(path: client.keep("/x"), uid: 0).write(into: &$0) }
        guard
            case .noQuota = try client.results(
                client.peer.call(client.message(RemoteQuota.program, 1, 1, elsewhere)), QuotaResult.self)
        else {
            Issue.record("a quota of what is not exported")
            return
        }
        // Of somebody with a quota: what he may have, in blocks.
        var limit = QuotaLimit(softBytes: 10 << 20, hardBytes: 5 << 42, hardFiles: 1000)
        limit.softFiles = 900
        rig.volume.setQuotas(
            [QuotaRecord(subject: .user(33), limit: limit), QuotaRecord(subject: .group(44), limit: limit)],
            loop: rig.loop)
        func ask(_ caller: NFSClient, _ kind: QuotaKind, _ id: UInt32) throws -> QuotaResult {
            let arguments = encoded {
                QuotaArgumentsV2(path: caller.keep("/default/below"), kind: kind, id: id).write(into: &$0)
            }
            return try caller.results(
                caller.peer.call(caller.message(RemoteQuota.program, 2, 1, arguments)), QuotaResult.self)
        }
        let user = NFSClient(try RPCPeer(rig.listener.address), uid: 33, gid: 44, groups: [])
        for (kind, id) in [(QuotaKind.user, UInt32(33)), (.group, 44)] {
            guard case .ok(let report) = try ask(user, kind, id) else {
                Issue.record("no quota of \(kind) \(id)")
                continue
            }
            let block = UInt64(report.blockSize)
            #expect(UInt64(report.limits.blocksHard) * block == 5 << 42)
            #expect(UInt64(report.limits.blocksSoft) * block == 10 << 20)
            #expect(report.limits.filesHard == 1000 && report.limits.filesSoft == 900)
        }
        // Somebody else's is nobody's business but root's.
        guard case .notPermitted = try ask(user, .user, 5), case .ok = try ask(client, .user, 33) else {
            Issue.record("quotas are shown to whom they do not concern")
            return
        }
        #expect(client.peer.call(client.message(RemoteQuota.program, 1, 3, []))?.status == .procedureUnavailable)
        #expect(client.peer.call(client.message(RemoteQuota.program, 2, 1, [1]))?.status == .garbageArguments)
    }
}

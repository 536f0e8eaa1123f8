import Bytes
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

/// What an export allows, held against what clients may do, over real sockets.
@Suite(.serialized) struct ExportTests {
    private final class Groups: GroupSource, Sendable {
        let asked = Guarded(0)
        let known = Guarded<[UInt32]?>(nil)
        let all: [UInt32]

        init(_ all: [UInt32] = [7, 4242]) { self.all = all }

        /// Knows one user, and has to look that one up first.
        func groups(of uid: UInt32) -> Attempt<[UInt32]?> {
            guard uid == 500 else { return .done(nil, number: 0) }
            if let known = known.withLock({ $0 }) { return .done(known, number: 0) }
            return .lacks(
                Lack { [self] () async throws(FileError) in
                    asked.withLock { $0 += 1 }
                    known.withLock { [all] in $0 = all }
                })
        }
    }

    private func owner(_ result: NFS3Results.Create) throws -> [UInt32] {
        let attributes = try #require(result.success?.attributes)
        return [attributes.uid, attributes.gid]
    }

    private func status(_ result: MountResult) -> MountStatus {
        if case .failed(let status) = result { status } else { .ok }
    }

    @Test func rootBecomesWhomTheExportSays() throws {
        var rig = try Rig { $0.squash = .root }
        var client = try rig.client()
        var root = try client.root()
        #expect(try owner(try rig.client().create(root, "a")) == [65534, 65534])
        #expect(try owner(try rig.client(uid: 5, gid: 0).create(root, "b")) == [5, 65534])
        #expect(try owner(try rig.client(uid: 5, gid: 6).create(root, "c")) == [5, 6])
        rig = try Rig {
            $0.squash = .root
            $0.anonymous = Credential(uid: 77, gid: 78)
        }
        client = try rig.client()
        root = try client.root()
        #expect(try owner(try rig.client().create(root, "a")) == [77, 78])
        rig = try Rig {
            $0.squash = .all
            $0.anonymous = Credential(uid: 77, gid: 78)
        }
        client = try rig.client()
        root = try client.root()
        #expect(try owner(try rig.client(uid: 5, gid: 6).create(root, "a")) == [77, 78])
        rig = try Rig { $0.squash = .none }
        client = try rig.client()
        root = try client.root()
        #expect(try owner(try rig.client().create(root, "a")) == [0, 0])
    }

    @Test func readOnlyMeansNothingChanges() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let file = try client.made(try client.create(root, "f"))
        #expect(try client.write(file, 0, [1]).status == .ok)
        var host = Export.Client(.loopback)
        host.needsPrivilegedPort = false
        host.squash = .none
        host.isReadOnly = true
        let export = Export(id: 5, path: "/default", volume: Rig.volume, root: rig.files.root, clients: [host])
        // Live: the same handles, other rights.
        #expect(rig.context.exports.replace([export]))
        #expect(try client.write(file, 0, [2]).status == .readOnly)
        #expect(try client.create(root, "g").status == .readOnly)
        #expect(try client.set(file, NFS3SetAttributes(mode: 0)).status == .readOnly)
        #expect(try client.set(file, NFS3SetAttributes(size: 0)).status == .readOnly)
        #expect(try client.makeDirectory(root, "d").status == .readOnly)
        #expect(
            try client.call(.remove, .remove(client.name(root, "f")), NFS3Results.Remove.self).status == .readOnly)
        #expect(try client.read(file, 0, 1).success?.data.first == 1)
    }

    @Test func clientsAreToldByTheirAddresses() throws {
        for (hosts, isOurs) in [
            (Hosts.all, true), (.loopback, true), (.network(.ipv4(0x7f00_0001, port: 0), bits: 32), true),
            (.network(.ipv4(0x7f80_0000, port: 0), bits: 9), false),
            (.network(.ipv4(0x0a00_0000, port: 0), bits: 8), false),
            (.network(.ipv6(0, 1, port: 0), bits: 128), false),
        ] {
            let rig = try Rig { $0.hosts = hosts }
            let client = try rig.client()
            #expect(status(try client.mount()) == (isOurs ? .ok : .access), "\(hosts)")
        }
        // The first that fits decides; whoever is not named any more loses what he had.
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        var first = Export.Client(.network(.ipv4(0x7f00_0000, port: 0), bits: 8))
        first.needsPrivilegedPort = false
        first.isReadOnly = true
        var second = Export.Client(.all)
        second.needsPrivilegedPort = false
        func export(_ clients: [Export.Client]) -> Export {
            Export(id: 5, path: "/default", volume: Rig.volume, root: rig.files.root, clients: clients)
        }
        #expect(rig.context.exports.replace([export([first, second])]))
        #expect(try client.create(root, "x").status == .readOnly)
        #expect(rig.context.exports.replace([export([second, first])]))
        #expect(try client.create(root, "x").status == .ok)
        #expect(rig.context.exports.replace([export([])]))
        #expect(try client.attributes(root).status == .access)
    }

    @Test func portsAndFlavorsCount() throws {
        let rig = try Rig { $0.needsPrivilegedPort = true }
        let client = try rig.client()
        #expect(status(try client.mount()) == .access)
        let other = try Rig()
        let insider = try other.client()
        let handle = try insider.root()
        // A handle that was got elsewhere does not help.
        #expect(try client.attributes(client.handle(handle.bytes)).status == .access)
        let strong = try Rig { $0.flavors = [390_005] }
        let weak = try strong.client()
        let arguments = encoded { weak.handle(handle.bytes).write(into: &$0) }
        #expect(weak.peer.call(weak.message(NFS3.program, 3, 1, arguments))?.status == .authError(.tooWeak))
    }

    @Test func groupsBeyondSixteenAreLookedUp() throws {
        let groups = Groups()
        let rig = try Rig(groups: groups) { $0.squash = .none }
        let admin = try rig.client()
        let root = try admin.root()
        let how = NFS3CreateHow.unchecked(NFS3SetAttributes(mode: 0o040, gid: 4242))
        let file = try admin.made(try admin.create(root, "f", how))
        func mayRead(_ uid: UInt32, _ list: [UInt32]) throws -> Bool {
            try rig.client(uid: uid, gid: 1, groups: list).read(file, 0, 1).status == .ok
        }
        #expect(try !mayRead(500, Array(1...15)))
        #expect(groups.asked.withLock { $0 } == 0)
        #expect(try mayRead(500, Array(1...16)))
        #expect(try mayRead(500, Array(1...16)))
        #expect(groups.asked.withLock { $0 } == 1)
        // Of somebody unknown here the client's word is all there is.
        #expect(try !mayRead(501, Array(1...16)))
        #expect(try mayRead(501, Array(1...15) + [4242]))
    }

    @Test func rootsGroupIsSquashedWhereverItComesFrom() throws {
        let rig = try Rig(groups: Groups([0, 4242])) { $0.squash = .root }
        let admin = try rig.client(uid: 9, gid: 4242)
        let root = try admin.root()
        let files = Dictionary(
            uniqueKeysWithValues: try [UInt32(0), 4242].map { gid in
                let how = NFS3CreateHow.unchecked(NFS3SetAttributes(mode: 0o040))
                let file = try admin.made(try admin.create(root, "f\(gid)", how))
                rig.files.setGroup("f\(gid)", gid)
                return (gid, file)
            })
        func mayRead(_ gid: UInt32, _ list: [UInt32]) throws -> Bool {
            let file = try #require(files[gid])
            return try rig.client(uid: 500, gid: 1, groups: list).read(file, 0, 1).status == .ok
        }
        // The user's groups as the server knows them, with root's among them; the client's list is full, and has it, too.
        for list in [Array(1...16), Array(0...15)] as [[UInt32]] {
            #expect(try !mayRead(0, list))
            #expect(try mayRead(4242, list))
        }
        #expect(try !mayRead(0, [0, 3]))
        #expect(try mayRead(4242, [0, 4242]))
    }
}

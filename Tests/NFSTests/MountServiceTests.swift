import Bytes
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

@Suite(.serialized) struct MountServiceTests {
    private func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

    private func status(_ result: MountResult) -> MountStatus {
        if case .failed(let status) = result { status } else { .ok }
    }

    @Test func subdirectoriesAreMountedAndNothingAbove() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let directory = try client.made(try client.makeDirectory(root, "d"))
        let inner = try client.made(try client.makeDirectory(directory, "e"))
        #expect(try client.create(root, "file").status == .ok)
        #expect(try client.root("/default/d/e").bytes.elementsEqual(inner.bytes))
        #expect(try client.root("/default//d/./e/").bytes.elementsEqual(inner.bytes))
        #expect(status(try client.mount("/default/x")) == .noEntry)
        #expect(status(try client.mount("/default/file")) == .notDirectory)
        #expect(status(try client.mount("/default/d/../..")) == .access)
        #expect(status(try client.mount("/defaultx")) == .noEntry)
        #expect(status(try client.mount("/")) == .noEntry)
        #expect(status(try client.mount("")) == .noEntry)
        #expect(status(try client.mount("/default/" + String(repeating: "n", count: 1001))) == .nameTooLong)
        let long = encoded { $0.opaque(client.keep([UInt8](repeating: 47, count: 1025))) }
        #expect(client.peer.call(client.message(Mount.program, 3, 1, long))?.status == .garbageArguments)
        // An export below the volume's root is a root of its own.
        var host = Export.Client(.loopback)
        host.needsPrivilegedPort = false
        let file = FileID(subvolume: 1, inode: 2, generation: 14)
        #expect(
            rig.context.exports.replace([
                Export(id: 9, path: "/default/d", volume: Rig.volume, root: file, clients: [host])
            ]))
        let narrow = try client.root("/default/d")
        let up = try #require(try client.lookup(narrow, "..").success)
        #expect(up.object.bytes.elementsEqual(narrow.bytes))
        let below = try #require(try client.lookup(narrow, "e").success)
        let back = try #require(try client.lookup(client.handle(below.object.bytes), "..").success)
        #expect(back.object.bytes.elementsEqual(narrow.bytes))
    }

    @Test func showsExportsAndMounts() throws {
        let rig = try Rig { $0.hosts = .network(.ipv4(0x7f00_0000, port: 0), bits: 8) }
        let client = try rig.client()
        _ = try client.root()
        for version: UInt32 in 1...3 {
            let exports = try client.results(
                client.peer.call(client.message(Mount.program, version, 5, [])), MountExports.self)
            #expect(exports.entries.map { text($0.directory) } == ["/default"])
            #expect(exports.entries.flatMap { $0.groups.map { text($0.name) } } == ["127.0.0.0/8"])
            let mounts = try client.results(
                client.peer.call(client.message(Mount.program, version, 2, [])), MountList.self)
            #expect(mounts.entries.map { "\(text($0.host)) \(text($0.directory))" } == ["127.0.0.1 /default"])
            #expect(client.peer.call(client.message(Mount.program, version, 0, []))?.status == .success)
        }
        let path = encoded { MountPath(path: client.keep("/default")).write(into: &$0) }
        #expect(client.peer.call(client.message(Mount.program, 3, 3, path))?.status == .success)
        func count() throws -> Int {
            try client.results(client.peer.call(client.message(Mount.program, 3, 2, [])), MountList.self).entries.count
        }
        #expect(try count() == 0)
        _ = try client.root()
        _ = try client.root()
        #expect(try count() == 1)
        #expect(client.peer.call(client.message(Mount.program, 3, 4, []))?.status == .success)
        #expect(try count() == 0)
        // There is no handle for the versions before.
        let old = try client.results(client.peer.call(client.message(Mount.program, 1, 1, path)), MountResultV1.self)
        if case .ok = old { Issue.record("a handle of version 1") }
        #expect(client.peer.call(client.message(Mount.program, 4, 0, []))?.status == .programMismatch(low: 1, high: 3))
        #expect(client.peer.call(client.message(Mount.program, 3, 6, []))?.status == .procedureUnavailable)
    }

    /// Versions 1 and 2, byte by byte: handles of theirs are for versions of NFS that are not served.
    @Test(arguments: [1, 2] as [UInt32]) func oldVersionsTellAndGiveNoHandle(_ version: UInt32) throws {
        let rig = try Rig { $0.hosts = .network(.ipv4(0x7f00_0000, port: 0), bits: 8) }
        let client = try rig.client()
        let root = try client.root()
        _ = try client.makeDirectory(root, "d")
        _ = try client.root("/default/d")
        func results(_ procedure: UInt32, _ arguments: [UInt8] = [], version: UInt32) throws -> [UInt8] {
            let reply = try #require(client.peer.call(client.message(Mount.program, version, procedure, arguments)))
            #expect(reply.status == .success)
            return reply.results
        }
        func status(_ procedure: UInt32, _ arguments: [UInt8] = []) -> ReplyStatus? {
            client.peer.call(client.message(Mount.program, version, procedure, arguments))?.status
        }
        func texts(_ texts: String...) -> [UInt8] {
            encoded { writer in
                for text in texts { writer.opaque(client.keep(text)) }
            }
        }
        func words(_ words: UInt32...) -> [UInt8] { encoded { writer in for word in words { writer.u32(word) } } }
        #expect(try results(0, version: version) == [])
        // EACCES, whatever is there: our handles have more than the 32 bytes of these versions.
        #expect(root.bytes.count > Mount.handleBytesV1)
        for path in ["/default", "/default/d", "/default/none", "", "/", String(repeating: "n", count: 1024)] {
            #expect(try results(1, texts(path), version: version) == words(13), "\(path)")
        }
        #expect(status(1, texts(String(repeating: "n", count: 1025))) == .garbageArguments)
        #expect(status(1) == .garbageArguments)
        #expect(status(3, texts(String(repeating: "n", count: 1025))) == .garbageArguments)
        // What was refused is not mounted. The oldest first.
        let one = words(1) + texts("127.0.0.1", "/default")
        let other = words(1) + texts("127.0.0.1", "/default/d")
        #expect(try results(2, version: version) == one + other + words(0))
        #expect(try results(3, texts("/default/none"), version: version) == [])
        #expect(try results(2, version: version) == one + other + words(0))
        #expect(try results(3, texts("/default"), version: version) == [])
        #expect(try results(2, version: version) == other + words(0))
        _ = try client.root()
        #expect(try results(2, version: 3) == other + one + words(0))
        #expect(try results(4, version: version) == [])
        #expect(try results(2, version: version) == words(0))
        // Exports, by both procedures; the third version has one of them.
        var second = try #require(rig.context.exports.all.first)
        (second.id, second.path, second.clients) = (6, "/default/d", [Export.Client(.all), Export.Client(.loopback)])
        #expect(rig.context.exports.replace(rig.context.exports.all + [second]))
        let exports =
            words(1) + texts("/default") + words(1) + texts("127.0.0.0/8") + words(0) + words(1) + texts("/default/d")
            + words(1) + texts("*") + words(1) + texts("localhost") + words(0) + words(0)
        #expect(try results(5, version: version) == exports)
        #expect(try results(6, version: version) == exports)
        #expect(try results(5, version: 3) == exports)
        #expect(rig.context.exports.replace([]))
        for procedure: UInt32 in [5, 6] { #expect(try results(procedure, version: version) == words(0)) }
        // PATHCONF of the second version tells the limits of a handle that there is none of.
        for procedure: UInt32 in [7, 8] { #expect(status(procedure, texts("/default")) == .procedureUnavailable) }
    }

    @Test func allExportsAreShownAsFarAsTheyFit() throws {
        let rig = try Rig()
        let client = try rig.client()
        let many = (0..<ExportTable.countMax).map { index in
            Export(
                id: UInt32(index), path: "/default/\(index)" + String(repeating: "x", count: 40), volume: Rig.volume,
                root: rig.files.root, clients: [Export.Client(.all)])
        }
        #expect(rig.context.exports.replace(many))
        #expect(
            !rig.context.exports.replace(
                many + [Export(id: 9999, path: "/z", volume: 1, root: rig.files.root, clients: [])]))
        #expect(!rig.context.exports.replace([many[0], many[0]]))
        let exports = try client.results(client.peer.call(client.message(Mount.program, 3, 5, [])), MountExports.self)
        #expect(exports.entries.map { text($0.directory) } == many.map(\.path).sorted())
        // As many as fit into a record, each whole.
        let crowded = many.map { export in
            var export = export
            export.clients = [Export.Client](
                repeating: Export.Client(.network(.ipv4(0x0a09_0807, port: 0), bits: 32)), count: 20)
            return export
        }
        #expect(rig.context.exports.replace(crowded))
        let some = try client.results(client.peer.call(client.message(Mount.program, 3, 5, [])), MountExports.self)
        #expect(some.entries.count > 2000 && some.entries.count < many.count)
        #expect(some.entries.allSatisfy { $0.groups.count == 20 })
    }

    @Test(arguments: [
        ("*", "10.1.2.3", true), ("10.1.2.3", "10.1.2.3", true), ("10.1.2.3", "10.1.2.4", false),
        ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.1", false), ("0.0.0.0/0", "1.2.3.4", true),
        ("10.1.2.0/25", "10.1.2.127", true), ("10.1.2.0/25", "10.1.2.128", false),
        ("10.1.2.3", "::ffff:10.1.2.3", true),
        ("2001:db8::/32", "2001:db8:1::1", true), ("2001:db8::/32", "2001:db9::1", false),
        ("2001:db8::1/128", "2001:db8::1", true), ("2001:db8::1/127", "2001:db8::", true), ("::/0", "::1", true),
        ("2001:db8::1", "10.0.0.1", false),
    ])
    func hostsMatch(_ pattern: String, _ address: String, _ matches: Bool) throws {
        let hosts = try #require(Hosts(pattern))
        let remote = try #require(SocketAddress(numeric: address, port: 700))
        #expect(hosts.contains(remote) == matches)
        #expect(Hosts(hosts.description) == hosts)
    }

    @Test func hostsThatAreNone() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "::/129", "host", "1.2.3/8", "10.0.0.0/8/8"] {
            #expect(Hosts(text) == nil, "\(text)")
        }
    }
}

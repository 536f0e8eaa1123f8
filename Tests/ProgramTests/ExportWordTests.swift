import Foundation
import Glibc
import NFS
import RPC
import Runtime
import TestSupport
import Testing

/// Every word that an export may have, from the command by the registry to what a client meets.
@Suite(.serialized) struct ExportWordTests {
    private struct Owner: Equatable {
        var uid: UInt32
        var gid: UInt32
        init(_ uid: UInt32, _ gid: UInt32) { (self.uid, self.gid) = (uid, gid) }
    }

    /// What a client of 127.0.0.1 meets, from a port that anybody may have, by AUTH_SYS.
    private enum Meeting: Equatable {
        /// It may not mount, and what it has mounted is of no use.
        case nothing
        case readOnly
        /// It mounts, and has to prove who it is.
        case weak
        /// What root, the user 5 of the group 6, and the same user of root's group make is theirs.
        case makes(Owner, Owner, Owner)

        static let squashed = makes(Owner(65534, 65534), Owner(5, 6), Owner(5, 65534))
        static let plain = makes(Owner(0, 0), Owner(5, 6), Owner(5, 0))
        static func all(_ owner: Owner) -> Meeting { makes(owner, owner, owner) }
    }

    private struct Row {
        var clients: [String]
        var listed: [String]
        /// To everybody, by MOUNT; nil: it is the resolver's business.
        var told: [String]?
        var flavors: [UInt32] = [1]
        var meeting: Meeting

        /// One client, at 127.0.0.1, with these options.
        init(_ options: String, _ listed: String, flavors: [UInt32] = [1], _ meeting: Meeting) {
            self.init(
                ["127.0.0.1\(options)"], ["127.0.0.1(\(listed))"], told: ["127.0.0.1"], flavors: flavors, meeting)
        }

        init(_ clients: [String], _ listed: [String], told: [String]?, flavors: [UInt32] = [1], _ meeting: Meeting) {
            self.clients = clients
            self.listed = listed
            self.told = told
            self.flavors = flavors
            self.meeting = meeting
        }
    }

    private static let rows: [Row] = [
        // Without a word, and with each alone.
        Row("", "ro,root_squash,secure", .nothing),
        Row("()", "ro,root_squash,secure", .nothing),
        Row("(secure)", "ro,root_squash,secure", .nothing),
        Row("(rw,secure)", "rw,root_squash,secure", .nothing),
        Row("(insecure)", "ro,root_squash,insecure", .readOnly),
        Row("(ro,insecure)", "ro,root_squash,insecure", .readOnly),
        Row("(rw,insecure)", "rw,root_squash,insecure", .squashed),
        Row("(rw,root_squash,insecure)", "rw,root_squash,insecure", .squashed),
        Row("(rw,no_root_squash,insecure)", "rw,no_root_squash,insecure", .plain),
        Row("(rw,all_squash,insecure)", "rw,all_squash,insecure", .all(Owner(65534, 65534))),
        Row(
            "(rw,anonuid=77,insecure)", "rw,root_squash,anonuid=77,insecure",
            .makes(Owner(77, 65534), Owner(5, 6), Owner(5, 65534))),
        Row(
            "(rw,anongid=78,insecure)", "rw,root_squash,anongid=78,insecure",
            .makes(Owner(65534, 78), Owner(5, 6), Owner(5, 78))),
        Row(
            "(rw,all_squash,anonuid=77,anongid=78,insecure)", "rw,all_squash,anonuid=77,anongid=78,insecure",
            .all(Owner(77, 78))),
        Row("(rw,no_root_squash,anonuid=77,insecure)", "rw,no_root_squash,anonuid=77,insecure", .plain),
        Row(
            "(rw,anonuid=4294967295,insecure)", "rw,root_squash,anonuid=4294967295,insecure",
            .makes(Owner(.max, 65534), Owner(5, 6), Owner(5, 65534))),
        // Of two words for one thing the later one holds.
        Row("(ro,rw,secure,insecure,all_squash,no_root_squash)", "rw,no_root_squash,insecure", .plain),
        Row("(rw,ro,insecure)", "ro,root_squash,insecure", .readOnly),
        // Flavors.
        Row("(rw,sec=sys,insecure)", "rw,root_squash,insecure", .squashed),
        Row("(rw,sec=krb5,insecure)", "rw,root_squash,sec=krb5,insecure", flavors: [390_003], .weak),
        Row("(rw,sec=krb5i,insecure)", "rw,root_squash,sec=krb5i,insecure", flavors: [390_004], .weak),
        Row("(rw,sec=krb5p,insecure)", "rw,root_squash,sec=krb5p,insecure", flavors: [390_005], .weak),
        Row(
            "(rw,sec=krb5p:krb5i:krb5:sys:sys,insecure)", "rw,root_squash,sec=krb5p:krb5i:krb5:sys,insecure",
            flavors: [390_005, 390_004, 390_003, 1], .squashed),
        // Clients.
        Row(
            ["127.0.0.0/8(rw,insecure)"], ["127.0.0.0/8(rw,root_squash,insecure)"], told: ["127.0.0.0/8"], .squashed),
        Row(["127.0.0.1/32(rw,insecure)"], ["127.0.0.1/32(rw,root_squash,insecure)"], told: ["127.0.0.1"], .squashed),
        Row(["*(rw,insecure)"], ["*(rw,root_squash,insecure)"], told: ["*"], .squashed),
        Row(["localhost(rw,insecure)"], ["localhost(rw,root_squash,insecure)"], told: nil, .squashed),
        Row(["10.0.0.0/8(rw,insecure)"], ["10.0.0.0/8(rw,root_squash,insecure)"], told: ["10.0.0.0/8"], .nothing),
        Row(["127.0.0.2(rw,insecure)"], ["127.0.0.2(rw,root_squash,insecure)"], told: ["127.0.0.2"], .nothing),
        Row(["::1(rw,insecure)"], ["::1(rw,root_squash,insecure)"], told: ["::1"], .nothing),
        Row(["2001:db8::/32(ro)"], ["2001:db8::/32(ro,root_squash,secure)"], told: ["2001:db8::/32"], .nothing),
        // Nobody has these names.
        Row(["nobody.invalid(rw,insecure)"], ["nobody.invalid(rw,root_squash,insecure)"], told: [], .nothing),
        Row(["@nobody(rw,insecure)"], ["@nobody(rw,root_squash,insecure)"], told: [], .nothing),
        // The first that fits decides.
        Row(
            ["127.0.0.1(ro,insecure)", "*(rw,insecure)"],
            ["127.0.0.1(ro,root_squash,insecure)", "*(rw,root_squash,insecure)"], told: ["127.0.0.1", "*"], .readOnly),
        Row(
            ["10.0.0.1", "*(rw,insecure)", "127.0.0.1(ro,insecure)"],
            ["10.0.0.1(ro,root_squash,secure)", "*(rw,root_squash,insecure)", "127.0.0.1(ro,root_squash,insecure)"],
            told: ["10.0.0.1", "*", "127.0.0.1"], .squashed),
    ]

    private func serve(_ folder: Folder, _ port: UInt16) async throws -> Program {
        let server = try Program(
            [
                "serve", "--nfs-port", "\(port)", "--admin-port", "\(try freePort())", "--smb-port", "0", "--http-port",
                "0",
            ],
            in: folder)
        #expect(await server.isReady(), "\(server.err)")
        return server
    }

    private func run(_ folder: Folder, _ words: [String]) async throws -> String {
        let run = try Program(words, in: folder)
        #expect(await run.status() == 0, "\(words): \(run.err)")
        return run.out
    }

    /// What `export list` shows of the export.
    private func listed(_ folder: Folder, _ path: String) async throws -> [String: Any] {
        let out = try await run(folder, ["export", "list", "--json"])
        let rows = try #require(try JSONSerialization.jsonObject(with: Data(out.utf8)) as? [[String: Any]])
        return try #require(rows.first { $0["path"] as? String == path })
    }

    /// What a client meets who mounts now, and who has mounted long before.
    private func meet(_ client: NFSCalls, _ old: [UInt8], _ name: String) throws -> (Meeting, [UInt32]) {
        let attributes = try client.reply(client.message(.getAttributes, .getAttributes(client.handle(old))))
        guard case .ok(let bytes, let flavors) = try client.mount("/default") else {
            let told = try client.results(attributes, NFS3Results.GetAttributes.self)
            #expect(told.status == .access)
            return (.nothing, [])
        }
        #expect(Array(bytes) == old)
        let numbers = flavors.map(\.number)
        if attributes.status == .authError(.tooWeak) { return (.weak, numbers) }
        var owners: [Owner] = []
        for (uid, gid) in [(0, 0), (5, 6), (5, 0)] as [(UInt32, UInt32)] {
            (client.uid, client.gid) = (uid, gid)
            let made = try client.create(old, "\(name)-\(uid)-\(gid)")
            if made.status == .readOnly { return (.readOnly, numbers) }
            let attributes = try #require(made.success?.attributes, "\(made.status)")
            owners.append(Owner(attributes.uid, attributes.gid))
        }
        (client.uid, client.gid) = (0, 0)
        return (.makes(owners[0], owners[1], owners[2]), numbers)
    }

    @Test func eachReachesWhoHasMounted() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port)
        let client = NFSCalls(try RPCPeer(.loopback(port: port)))
        let old = try client.root("/default")
        for (index, row) in Self.rows.enumerated() {
            let words =
                ["export", index == 0 ? "add" : "change", "/default"] + row.clients.flatMap { ["--client", $0] }
            let answer = try await run(folder, words)
            #expect(answer.contains(row.listed.joined(separator: " ")), "\(row.clients): \(answer)")
            #expect(try await listed(folder, "/default")["clients"] as? [String] == row.listed, "\(row.clients)")
            if let told = row.told { #expect(try client.exports()["/default"] == told, "\(row.clients)") }
            let (meeting, flavors) = try meet(client, old, "\(index)")
            #expect(meeting == row.meeting, "\(row.clients)")
            if meeting != .nothing { #expect(flavors == row.flavors, "\(row.clients)") }
        }
        // They are kept: the last one holds behind a restart, too.
        server.signal(SIGKILL)
        _ = await server.status()
        let next = try await serve(folder, port)
        let again = NFSCalls(try RPCPeer(.loopback(port: port)), xid: 100_000)
        let last = try #require(Self.rows.last)
        #expect(try again.exports()["/default"] == last.told)
        let (meeting, _) = try meet(again, old, "again")
        #expect(meeting == last.meeting)
        next.signal(SIGTERM)
        #expect(await next.status() == 0)
    }

    /// With the mark of a privilege `secure` lets in.
    @Test(.enabled(if: geteuid() == 0, "ports below 1024 need a privilege"))
    func lowPortsAreLetIn() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port)
        let (low, high) = (
            NFSCalls(try RPCPeer(.loopback(port: port), isPrivileged: true)),
            NFSCalls(try RPCPeer(.loopback(port: port)), xid: 100_000)
        )
        let root = try low.root("/default")
        for (index, (options, isForLow, isForHigh)) in [
            ("(rw)", true, false), ("(rw,insecure)", true, true), ("(rw,secure)", true, false),
        ].enumerated() {
            _ = try await run(
                folder, ["export", index == 0 ? "add" : "change", "/default", "--client", "127.0.0.1\(options)"])
            for (name, client, isFor) in [("low", low, isForLow), ("high", high, isForHigh)] {
                let status =
                    if case .failed(let status) = try client.mount("/default") { status } else { MountStatus.ok }
                #expect(status == (isFor ? .ok : .access), "\(name)\(options)")
                #expect(
                    try client.create(root, "\(name)-\(index)").status == (isFor ? .ok : .access), "\(name)\(options)")
            }
        }
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }

    /// A directory is an export of its own, with its own words; nothing above it is reached from there.
    @Test func aDirectoryHasItsOwnWords() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port)
        let client = NFSCalls(try RPCPeer(.loopback(port: port)))
        let volume = try client.root("/default")
        let inner = try client.makeDirectory(try client.makeDirectory(volume, "papers"), "inner")
        #expect(try client.create(volume, "above").status == .ok)
        _ = try await run(folder, ["export", "add", "/default", "--client", "127.0.0.1(ro,insecure)"])
        _ = try await run(
            folder, ["export", "add", "/default/papers", "--client", "127.0.0.1(rw,all_squash,anonuid=9,insecure)"])
        #expect(Set(try client.exports().keys) == ["/default", "/default/papers"])
        let papers = try client.root("/default/papers")
        #expect(try client.create(volume, "f").status == .readOnly)
        #expect(try client.create(papers, "f").success?.attributes?.uid == 9)
        let up = try #require(try client.lookup(papers, "..").success)
        #expect(Array(up.object.bytes) == papers)
        // Below it the path has the words of the innermost export, while a handle keeps those of the one that it was got by.
        let below = try client.root("/default/papers/inner")
        #expect(try client.create(below, "f").success?.attributes?.uid == 9)
        #expect(try client.create(inner, "g").status == .readOnly)
        _ = try await run(folder, ["export", "change", "/default/papers", "--client", "10.0.0.0/8"])
        #expect(try client.create(below, "h").status == .access)
        #expect(try client.create(volume, "h").status == .readOnly)
        _ = try await run(folder, ["export", "remove", "/default/papers"])
        #expect(try client.create(below, "h").status == .stale)
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }

    /// What an answer promises is there where the word says: in the log, and in the store, which alone goes on to another server.
    @Test func durabilityIsKept() async throws {
        let folder = try Folder()
        let port = try freePort()
        var server = try await serve(folder, port)
        var client = NFSCalls(try RPCPeer(.loopback(port: port)))
        let root = try client.root("/default")
        func change(_ word: String, _ rest: [String] = []) async throws {
            let verb = rest.isEmpty ? "change" : "add"
            _ = try await run(folder, ["export", verb, "/default", "--durability", word] + rest)
            let row = try await listed(folder, "/default")
            #expect(row["durability"] as? String == word)
            #expect(row["clients"] as? [String] == ["127.0.0.1(rw,root_squash,insecure)"])
        }
        func end() async {
            server.signal(SIGKILL)
            _ = await server.status()
        }
        try await change("memory", ["--client", "127.0.0.1(rw,insecure)"])
        #expect(try client.create(root, "memory").status == .ok)
        try await change("log")
        #expect(try client.create(root, "log").status == .ok)
        await end()
        server = try await serve(folder, port)
        client = NFSCalls(try RPCPeer(.loopback(port: port)), xid: 100_000)
        #expect(try client.lookup(root, "log").status == .ok)
        try await change("store")
        #expect(try client.create(root, "store").status == .ok)
        await end()
        // The log is lost.
        let log = folder.path + "/data/volumes/default/log"
        #expect(FileManager.default.fileExists(atPath: log))
        try FileManager.default.removeItem(atPath: log)
        _ = try await run(folder, ["volume", "take", "default"])
        server = try await serve(folder, port)
        client = NFSCalls(try RPCPeer(.loopback(port: port)), xid: 200_000)
        #expect(try client.lookup(root, "store").status == .ok)
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }
}

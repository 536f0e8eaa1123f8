import Foundation
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// What an operator sees of SMB's clients, and wants of them.
@Suite(.serialized) struct SMBCommandTests {
    private func run(_ words: [String], in folder: Folder) async throws -> (status: Int32?, out: String) {
        let run = try Program(words, in: folder)
        let status = await run.status()
        return (status, run.out + run.err)
    }

    private func client(_ port: UInt16, user: String = "Alice") throws -> (Guest, Reply) {
        let guest = try Guest(.loopback(port: port))
        try #require(try guest.negotiate().status == .success)
        var client = NTLMClient()
        client.user = user
        return (guest, try guest.logOn(client))
    }

    @Test func whoIsThereIsShown() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try Program(
            [
                "serve", "--nfs-port", "0", "--http-port", "0", "--admin-port", "0", "--smb-port", "\(port)", "--user",
                "Alice:password",
            ], in: folder)
        try #require(await server.isReady(), "\(server.err)")
        for command in ["sessions", "opens", "locks"] {
            let empty = try await run(["smb", command], in: folder)
            #expect(empty.status == 0 && empty.out == "none\n")
        }
        let (guest, reply) = try client(port)
        try #require(reply.status == .success)
        try #require(try guest.connect("default").status == .success)
        let opened = try guest.open("paper", .init(disposition: 2, oplock: 9))
        #expect(opened.status == .success)
        #expect(try guest.ask(.lock, Guest.lock(opened.handle, count: 1, [(10, 5, 2 | 0x10)])).status == .success)
        let sessions = try await run(["smb", "sessions"], in: folder).out
        for word in ["Alice", "127.0.0.1", "2.1", "user", "default"] { #expect(sessions.contains(word), "\(sessions)") }
        let opens = try await run(["smb", "opens"], in: folder).out
        for word in ["/paper", "batch", "12019f"] { #expect(opens.contains(word), "\(opens)") }
        let locks = try await run(["smb", "locks", "--json"], in: folder).out
        for word in ["\"first\":10", "\"last\":14", "exclusive"] { #expect(locks.contains(word), "\(locks)") }
        // Each example of each help.
        for command in ["sessions", "opens", "locks"] {
            let help = try await run(["smb", command, "--help"], in: folder)
            let examples = help.out.split(separator: "\n").drop { $0 != "Examples:" }.filter {
                $0.hasPrefix("  proxyfs ")
            }
            #expect(help.status == 0 && examples.count == 2)
            for example in examples {
                let words = example.split(separator: " ").dropFirst().map(String.init)
                #expect(try await run(words, in: folder).status == 0, "\(example)")
            }
        }
        #expect(try guest.close(opened.handle).status == .success)
        #expect(try await run(["smb", "opens"], in: folder).out == "none\n")
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
        // Without a server there is nobody.
        let nobody = try await run(["smb", "sessions"], in: folder)
        #expect(nobody.status == 1 && nobody.out.contains("no server serves SMB"))
    }

    /// Options of shares hold at once, and those of all at the next reading of the configuration.
    @Test func optionsHoldAtOnce() async throws {
        let folder = try Folder()
        let port = try freePort()
        func configuration(_ signing: String) throws -> String {
            try folder.write(
                """
                [smb]
                signing = "\(signing)"
                [[volume]]
                name = "default"
                [[user]]
                name = "Alice"
                secret = "password"
                volumes = ["default"]
                """, to: "proxyfs.toml")
        }
        let file = try configuration("offered")
        let server = try Program(
            [
                "serve", "--config", file, "--nfs-port", "0", "--http-port", "0", "--admin-port", "0", "--smb-port",
                "\(port)",
            ], in: folder)
        try #require(await server.isReady(), "\(server.err)")
        #expect(try client(port, user: "Stranger").1.status == .logonFailure)
        let added = try await run(["share", "add", "default", "lobby", "--guest", "yes", "--access", "ro"], in: folder)
        #expect(added.status == 0, "\(added.out)")
        let (stranger, welcome) = try client(port, user: "Stranger")
        #expect(welcome.status == .success && welcome.bytes[66] == 1)
        #expect(try stranger.connect("lobby").status == .success)
        #expect(try stranger.connect("default").status == .accessDenied)
        #expect(try await run(["smb", "sessions"], in: folder).out.contains("guest"))
        let (alice, _) = try client(port)
        #expect(try alice.connect("default").status == .success)
        #expect(try await run(["share", "change", "default", "--sign", "yes"], in: folder).status == 0)
        #expect(try alice.open("f", .init(disposition: 3)).status == .accessDenied)
        #expect(try await run(["share", "change", "default", "--sign", "no"], in: folder).status == 0)
        #expect(try alice.open("f", .init(disposition: 3)).status == .success)
        _ = try configuration("required")
        server.signal(SIGHUP)
        var last = NTStatus.success
        for _ in 0..<500 where last == .success {
            try await Task.sleep(for: .milliseconds(10))
            last = try alice.open("f", .init(disposition: 3)).status
        }
        #expect(last == .accessDenied)
        let shares = try await run(["share", "list", "--json"], in: folder).out
        #expect(shares.contains("\"guest\":true") && shares.contains("\"hide_unreadable\":false"))
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }
}

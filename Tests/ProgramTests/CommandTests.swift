import Bytes
import CShim
import Foundation
import RPC
import Runtime
import TestSupport
import Testing

/// Commands as an operator types them, with a server and without one.
@Suite(.serialized) struct CommandTests {
    /// In an order in which each finds what it needs.
    private static let order = [
        "volume create", "volume take", "volume list", "volume show", "volume checkpoint", "user add", "user list",
        "user change",
        "bucket create", "bucket list", "bucket stat",
        "user grant", "user key add", "user key list", "user key remove", "user revoke", "export add", "export list",
        "export change", "export remove", "share add", "share list", "share change", "share remove", "quota set",
        "quota list", "quota remove", "explain", "volume mount", "volume mounts", "volume unmount", "volume freeze",
        "volume release", "user remove", "volume delete", "nfs clients", "nfs locks", "nfs stats", "smb sessions",
        "smb opens", "smb locks",
    ]
    /// Their examples are run by tests of their own.
    private static let others = [
        "serve", "config check", "doctor", "version", "fsck", "bench engine",
    ]
    /// They want a store elsewhere: conformance/stores runs them.
    private static let elsewhere = ["store check", "volume follow"]

    private struct Answer {
        let status: Int32?
        let out: String
        let err: String
    }

    private func run(
        _ words: [String], in folder: Folder, environment: [String: String] = [:]
    ) async throws -> Answer {
        let run = try Program(words, in: folder, environment: environment)
        return Answer(status: await run.status(), out: run.out, err: run.err)
    }

    private func server(_ folder: Folder, _ more: [String] = [], smb: UInt16 = 0) async throws -> Program {
        let ports = [
            "--nfs-port", "\(try freePort())", "--admin-port", "\(try freePort())", "--smb-port", "\(smb)",
        ]
        let server = try Program(["serve", "--http-port", "0"] + ports + more, in: folder)
        #expect(await server.isReady(), "\(server.err)")
        return server
    }

    private func stop(_ server: Program) async {
        server.signal(SIGTERM)
        #expect(await server.status() == 0, "\(server.err)")
    }

    /// The directory of the host that examples speak of is one of the test's own.
    private func words(_ example: Substring, in folder: Folder, key: () -> String) throws -> [String] {
        try FileManager.default.createDirectory(atPath: folder.path + "/import", withIntermediateDirectories: true)
        return example.split(separator: " ").dropFirst().map {
            switch $0 {
            case "KEY": key()
            case "/srv/import": folder.path + "/import"
            case "/srv/proxyfs": folder.path + "/data"
            default: String($0)
            }
        }
    }

    private func examples(_ command: String, in folder: Folder) async throws -> [Substring] {
        let help = try await run(command.split(separator: " ").map(String.init) + ["--help"], in: folder)
        #expect(help.status == 0 && help.out.contains("Usage: proxyfs \(command)"))
        let behind = help.out.split(separator: "\n").drop { $0 != "Examples:" }
        let examples = behind.filter { $0.hasPrefix("  proxyfs ") }.map { $0.dropFirst(2) }
        #expect(!examples.isEmpty, "\(command)")
        return examples
    }

    /// A command that no test here runs the examples of would be one that nobody has seen run.
    @Test func everyCommandIsKnownAndExplained() async throws {
        let folder = try Folder()
        let list = try await run(["--help", "--json"], in: folder)
        let all = try #require(JSONSerialization.jsonObject(with: Data(list.out.utf8)) as? [String])
        #expect(all.sorted() == (Self.order + Self.others + Self.elsewhere).sorted())
        let overview = try await run(["--help"], in: folder).out
        for command in all {
            _ = try await examples(command, in: folder)
            let words = command.split(separator: " ").map(String.init)
            let line = overview.split(separator: "\n").first {
                $0.hasPrefix("  " + words[0] + " ")
                    && (words.count == 1 || $0.contains(words[1...].joined(separator: " ")))
            }
            #expect(line != nil, "\(command) is not in the overview")
        }
    }

    @Test(arguments: [true, false])
    func eachExampleRuns(_ isOnline: Bool) async throws {
        let folder = try Folder()
        let server = isOnline ? try await server(folder, smb: try freePort()) : nil
        var keys: [String] = []
        for command in Self.order {
            for example in try await examples(command, in: folder) {
                let answer = try await run(try words(example, in: folder) { keys.popLast() ?? "none" }, in: folder)
                if command == "volume freeze", !isOnline {
                    #expect(answer.status == 1 && answer.err.contains("nothing to freeze"))
                    continue
                }
                if command.hasPrefix("nfs ") || command.hasPrefix("smb "), !isOnline {
                    #expect(answer.status == 1 && answer.err.contains("no server serves"), "\(answer.err)")
                    continue
                }
                if command == "volume take" {
                    #expect(answer.status == 1 && answer.err.contains("is open here"), "\(answer.err)")
                    continue
                }
                #expect(answer.status == 0, "\(example): \(answer.err)")
                #expect(!answer.out.isEmpty)
                if example.hasSuffix("--json") {
                    let value = try? JSONSerialization.jsonObject(with: Data(answer.out.utf8))
                    #expect(value is [Any] || value is [String: Any], "\(example): \(answer.out)")
                }
                if command == "user key add" {
                    let words = answer.out.split { " \",:{}\n".contains($0) }
                    keys += words.filter { $0.hasPrefix("PX") && $0.count == 20 }.map(String.init)
                }
            }
        }
        #expect(keys.isEmpty)
        if let server { await stop(server) }
    }

    @Test func examplesOfCheckAndBenchRun() async throws {
        let folder = try Folder()
        #expect(try await run(["volume", "create", "archive"], in: folder).status == 0)
        for command in ["fsck", "bench engine"] {
            for example in try await examples(command, in: folder) {
                let answer = try await run(try words(example, in: folder) { "" }, in: folder)
                #expect(answer.status == 0, "\(example): \(answer.err)")
            }
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        #expect(left.sorted() == ["data", "import"])
    }

    /// A server that is gone for good, with its log: another one goes on from what the store has, all that was durable.
    @Test func aVolumeIsTaken() async throws {
        let folder = try Folder()
        var server = try await server(folder)
        #expect(try await run(["volume", "create", "ledger", "--log", "store"], in: folder).status == 0)
        for index in 0..<5 {
            let added = try await run(["user", "add", "user\(index)", "--random", "--volume", "ledger"], in: folder)
            #expect(added.status == 0, "\(added.err)")
        }
        server.signal(SIGKILL)
        _ = await server.status()
        let log = folder.path + "/data/volumes/ledger/log"
        try FileManager.default.moveItem(atPath: log, toPath: folder.path + "/gone")
        server = try await self.server(folder)
        let shown = try await run(["volume", "show", "ledger"], in: folder)
        #expect(shown.out.contains("not open") && shown.out.contains("in another place"), "\(shown.out)")
        let taken = try await run(["volume", "take", "ledger"], in: folder)
        #expect(taken.status == 0, "\(taken.err)")
        let users = try await run(["user", "list"], in: folder)
        for index in 0..<5 { #expect(users.out.contains("user\(index)"), "\(users.out)") }
        await stop(server)
        // The log of before is not taken for the one that goes on.
        try FileManager.default.removeItem(atPath: log)
        try FileManager.default.moveItem(atPath: folder.path + "/gone", toPath: log)
        server = try await self.server(folder)
        let after = try await run(["user", "list"], in: folder)
        for index in 0..<5 { #expect(after.out.contains("user\(index)"), "\(after.out)") }
        await stop(server)
    }

    /// A volume that is mounted in another one is so again with each server, and is not deleted meanwhile.
    @Test func aVolumeInAnother() async throws {
        let folder = try Folder()
        for name in ["archive", "photos"] {
            #expect(try await run(["volume", "create", name], in: folder).status == 0)
        }
        func mount(_ arguments: String...) async throws -> (status: Int32, out: String, err: String) {
            let answer = try await run(["volume", "mount"] + arguments, in: folder)
            return (answer.status ?? -1, answer.out, answer.err)
        }
        let mounted = try await mount("/archive/seen", "--volume", "photos")
        #expect(mounted.status == 0 && mounted.out.contains("volume photos is mounted at /archive/seen"), "\(mounted)")
        for (arguments, why) in [
            (["/photos/x", "--volume", "archive"], "has mounts of its own"),
            (["/archive/own", "--volume", "archive"], "not mounted in itself"),
            (["/archive/twice", "--volume", "photos"], "taken"),
            (["/archive/seen", "--volume", "photos"], "mounted there already"),
            (["/archive/none", "--volume", "nothing"], "there is no volume nothing"),
            (["/archive/none", "--volume", "photos:albums"], "NAME:/DIRECTORY"),
            (["/archive/none", "--volume", "photos", "--directory", "/srv"], "name what is to be seen"),
        ] {
            let answer = try await run(["volume", "mount"] + arguments, in: folder)
            #expect(answer.status != 0 && answer.err.contains(why), "\(arguments): \(answer.err)")
        }
        let server = try await server(folder)
        let rows = try await run(["volume", "mounts", "archive", "--json"], in: folder)
        #expect(rows.out.contains("\"state\":\"mounted\"") && rows.out.contains("\"kind\":\"volume\""), "\(rows.out)")
        let kept = try await run(["volume", "delete", "photos", "--yes"], in: folder)
        #expect(kept.status == 1 && kept.err.contains("mounted at /archive/seen"), "\(kept.err)")
        #expect(try await run(["volume", "unmount", "/archive/seen"], in: folder).status == 0)
        let shown = try await mount("/photos/back", "--volume", "archive", "--read-only")
        #expect(shown.status == 0, "\(shown.err)")
        // With the volume that it is mounted in goes the mount.
        #expect(try await run(["volume", "delete", "photos", "--yes"], in: folder).status == 0)
        let free = try await run(["volume", "delete", "archive", "--yes"], in: folder)
        #expect(free.status == 0, "\(free.err)")
        await stop(server)
    }

    /// What is known of a file in a mount is asked of who has it.
    @Test func filesInMountsAreExplained() async throws {
        let folder = try Folder()
        let directory = folder.path + "/import"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        _ = try folder.write("hello", to: "import/paper")
        for name in ["archive", "photos"] {
            #expect(try await run(["volume", "create", name, "--size", "3TiB"], in: folder).status == 0)
        }
        let shown = try await run(["volume", "show", "archive", "--json"], in: folder)
        #expect(shown.out.contains("\"size\":\(3 << 40)"), "\(shown.out)")
        let bad = try await run(["volume", "create", "tiny", "--size", "1KiB"], in: folder)
        #expect(bad.status == 2 && bad.err.contains("1MiB to"), "\(bad.err)")
        for path in ["/photos/My_Album", "/photos/.cache"] {
            // A directory comes with its mount.
            #expect(try await run(["volume", "mount", path, "--directory", directory], in: folder).status == 0)
            #expect(try await run(["volume", "unmount", path], in: folder).status == 0)
        }
        for words in [
            ["/archive/host", "--directory", directory], ["/archive/seen", "--volume", "photos"],
        ] { #expect(try await run(["volume", "mount"] + words, in: folder).status == 0) }
        for isOnline in [false, true] {
            let server = isOnline ? try await server(folder) : nil
            let host = try await run(["explain", "/archive/host/paper"], in: folder)
            #expect(host.status == 0 && host.out.contains("on the host, in \(directory)"), "\(host.out)\(host.err)")
            #expect(host.out.contains("s3://host/paper"), "\(host.out)")
            let guest = try await run(["explain", "/archive/seen/My_Album"], in: folder)
            #expect(guest.status == 0 && guest.out.contains("s3://seen/My_Album/"), "\(guest.out)\(guest.err)")
            let bucket = try await run(["explain", "/photos/My_Album"], in: folder)
            #expect(bucket.out.contains("s3://My_Album/"), "\(bucket.out)")
            let hidden = try await run(["explain", "/photos/.cache"], in: folder)
            #expect(hidden.out.contains("begins with a dot"), "\(hidden.out)")
            if let server { await stop(server) }
        }
    }

    /// A mount is kept with its volume, made again by each server, and told when it can not be.
    @Test func mountsStay() async throws {
        let folder = try Folder()
        let directory = folder.path + "/import"
        try FileManager.default.createDirectory(atPath: directory + "/sub", withIntermediateDirectories: true)
        var server = try await server(folder)
        #expect(try await run(["volume", "create", "archive"], in: folder).status == 0)
        let mounted = try await run(["volume", "mount", "/archive/import", "--directory", directory], in: folder)
        #expect(mounted.status == 0, "\(mounted.err)")
        // In use, below what is in use, the server's own, not there, no path, below what is not there.
        for (path, directory, why) in [
            ("/archive/import", directory, "is in use"), ("/archive/other", directory + "/sub", "is in use"),
            ("/archive/other", folder.path + "/data", "the server's own"),
            ("/archive/other", folder.path, "the server's own"), ("/archive/other", "/nothing", "no such directory"),
            ("/archive", "/tmp", "no path for a mount"), ("/archive/../x", "/tmp", "no path for a mount"),
            ("/archive/other", "import", "from the root on"),
        ] {
            let answer = try await run(["volume", "mount", path, "--directory", directory], in: folder)
            #expect(answer.status != 0 && answer.err.contains(why), "\(path) \(directory): \(answer.err)")
        }
        await stop(server)
        let rows = try await run(["volume", "mounts", "--json"], in: folder)
        #expect(rows.out.contains("\"state\":\"mounted\""), "\(rows.out)\(rows.err)")
        try FileManager.default.moveItem(atPath: directory, toPath: directory + ".away")
        server = try await self.server(folder)
        let missing = try await run(["volume", "mounts"], in: folder)
        #expect(missing.status == 0 && missing.out.contains("not mounted"), "\(missing.out)")
        #expect(try await run(["volume", "unmount", "/archive/import"], in: folder).status == 0)
        let again = try await run(["volume", "unmount", "/archive/import"], in: folder)
        #expect(again.status == 1 && again.err.contains("nothing is mounted there"))
        #expect(try await run(["volume", "mounts"], in: folder).out == "none\n")
        await stop(server)
    }

    /// What commands made is there after a stop, after kill -9, and for the next command without a server.
    @Test func whatCommandsMakeStays() async throws {
        let folder = try Folder()
        var server = try await server(folder)
        #expect(try await run(["volume", "create", "archive", "--durability", "store"], in: folder).status == 0)
        #expect(try await run(["user", "add", "alice", "--random", "--volume", "archive"], in: folder).status == 0)
        server.signal(SIGKILL)
        #expect(await server.status() == -SIGKILL)
        #expect(try await run(["user", "list"], in: folder).out.contains("archive:rw"))
        server = try await self.server(folder)
        #expect(
            try await run(["export", "add", "/archive", "--client", "10.1.0.0/16(rw)"], in: folder).status == 0)
        #expect(try await run(["quota", "set", "archive", "--hard", "1GiB"], in: folder).status == 0)
        #expect(try await run(["share", "add", "archive", "papers"], in: folder).status == 0)
        await stop(server)
        server = try await self.server(folder)
        #expect(try await run(["volume", "list"], in: folder).out.contains("archive  open   store"))
        #expect(try await run(["user", "list"], in: folder).out.contains("alice"))
        #expect(try await run(["export", "list"], in: folder).out.contains("10.1.0.0/16(rw,root_squash,secure)"))
        #expect(try await run(["quota", "list"], in: folder).out.contains("\(1 << 30)"))
        #expect(try await run(["share", "list"], in: folder).out.contains("papers"))
        #expect(try await run(["volume", "delete", "archive", "--yes"], in: folder).status == 0)
        // Its user lives on, without rights to it.
        #expect(try await run(["user", "list"], in: folder).out.contains("alice"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/data/volumes") == ["default"])
        await stop(server)
        #expect(try await run(["fsck", "default"], in: folder).status == 0)
    }

    @Test func whatIsDeclaredIsRefusedWithFileAndLine() async throws {
        let folder = try Folder()
        let file = try folder.write(
            """
            [ports]
            nfs = 0
            smb = 0
            http = 0
            admin = \(try freePort())
            [[volume]]
            name = "default"
            [[user]]
            name = "carol"
            secret = "hidden-secret"
            [[export]]
            path = "/default"
            clients = ["10.0.0.0/8(rw)"]
            [[share]]
            name = "Papers"
            access = "ro"
            """, to: "p.toml")
        for isOnline in [false, true] {
            let server = try Program(isOnline ? ["serve", "--config", file] : ["version"], in: folder)
            if isOnline { #expect(await server.isReady(), "\(server.err)") }
            for (words, line) in [
                (["user", "remove", "carol"], 8), (["user", "change", "carol", "--random"], 8),
                (["user", "grant", "carol", "default"], 8), (["user", "add", "carol", "--random"], 8),
                (["volume", "delete", "default", "--yes"], 6), (["export", "remove", "/default"], 11),
                (["export", "change", "/default", "--client", "*"], 11), (["share", "remove", "papers"], 14),
                (["share", "change", "PAPERS", "--access", "rw"], 14),
            ] {
                let answer = try await run(words + ["--config", file], in: folder)
                #expect(answer.status == 1 && answer.err.contains("p.toml:\(line)"), "\(words): \(answer.err)")
            }
            let exports = try await run(["export", "list", "--config", file], in: folder)
            #expect(exports.out.contains("10.0.0.0/8(rw,root_squash,secure)") && exports.out.contains("p.toml:11"))
            if isOnline { await stop(server) }
        }
        let bad = try folder.write("[[export]]\npath = \"/default\"\nclients = [\"*(rwx)\"]\n", to: "bad.toml")
        let refused = try await run(["serve", "--config", bad], in: folder)
        #expect(refused.status == 1 && refused.err.contains("bad.toml:1") && refused.err.contains("rwx"))
    }

    @Test func secretsAreShownToNobody() async throws {
        let folder = try Folder()
        let secret = "correct-horse-battery"
        let file = try folder.write(secret + "\nsecond line\n", to: "secret")
        let users = try folder.write("dave:\(secret)-dave\n", to: "users")
        let server = try await server(folder, ["--user-file", users])
        let add = try Program(["user", "add", "alice", "--secret-file", file], in: folder)
        let line = (try? String(contentsOfFile: "/proc/\(add.pid)/cmdline", encoding: .utf8)) ?? ""
        #expect(await add.status() == 0 && !line.contains(secret))
        var text = add.out + add.err
        for words in [
            ["user", "list"], ["user", "list", "--json"], ["user", "key", "list"], ["explain", "/default"],
            ["config", "check", "--user-file", users],
        ] {
            let answer = try await run(words, in: folder, environment: ["PROXYFS_USERS": "erin:\(secret)-erin"])
            #expect(answer.status == 0, "\(words): \(answer.err)")
            text += answer.out + answer.err
        }
        #expect(text.contains("alice") && text.contains("dave"))
        #expect(!text.contains("correct") && !server.err.contains("correct"))
        await stop(server)
        // Neither on the disk, but in its file of mode 0600 the key.
        let paths = FileManager.default.enumerator(atPath: folder.path + "/data")?.allObjects as? [String] ?? []
        for path in paths {
            let data = FileManager.default.contents(atPath: folder.path + "/data/" + path) ?? Data()
            #expect(data.range(of: Data("correct-horse".utf8)) == nil, "\(path)")
        }
        let key = try FileManager.default.attributesOfItem(atPath: folder.path + "/data/secrets.key")
        #expect(key[.posixPermissions] as? Int == 0o600)
    }

    @Test func usersOfAllSourcesAreLetIn() async throws {
        let folder = try Folder()
        let users = try folder.write("dave:one\n", to: "users")
        let port = try freePort()
        let server = try Program(
            [
                "serve", "--nfs-port", "0", "--smb-port", "0", "--http-port", "0", "--admin-port", "\(port)",
                "--user-file", users, "--user", "frank:three",
            ], in: folder, environment: ["PROXYFS_USERS": "erin:two"])
        #expect(await server.isReady(), "\(server.err)")
        let list = try await run(["user", "list"], in: folder).out
        for name in ["dave", "erin", "frank"] { #expect(list.contains(name)) }
        // SIGHUP reads the file again: who is new is let in, who is gone is not.
        _ = try folder.write("gina:four\n", to: "users")
        server.signal(SIGHUP)
        #expect(await server.logs("configuration read again"))
        let after = try await run(["user", "list"], in: folder).out.split(separator: "\n")
        #expect(after.contains { $0.hasPrefix("gina") && $0.contains(" no ") })
        #expect(after.contains { $0.hasPrefix("dave") && $0.contains(" yes ") })
        await stop(server)
    }

    @Test func theSocketIsItsOwnersAlone() async throws {
        let folder = try Folder()
        let server = try await server(folder)
        let socket = folder.path + "/data/control.socket"
        let mode = try FileManager.default.attributesOfItem(atPath: socket)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        // Another user who gets at the socket all the same is told off by who he is.
        if geteuid() == 0 {
            chmod(folder.path, 0o755)
            chmod(folder.path + "/data", 0o755)
            chmod(socket, 0o666)
            let other = Process()
            other.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
            let script = """
                import os, socket
                os.setgid(65534); os.setuid(65534)
                s = socket.socket(socket.AF_UNIX)
                s.connect("\(socket)")
                body = b'{"command":"user list","arguments":{}}'
                s.sendall(b"POST /control/v1 HTTP/1.1\\r\\nhost: h\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
                print(s.recv(4096).decode())
                """
            other.arguments = ["-c", script]
            let pipe = Pipe()
            other.standardOutput = pipe
            try other.run()
            let answer = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 403"), "\(answer)")
        }
        await stop(server)
        #expect(!FileManager.default.fileExists(atPath: socket))
    }

    @Test func theAdminListenerTakesCommandsWithTheToken() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await server(folder, ["--admin-port", "\(port)"])
        let url = "http://127.0.0.1:\(port)"
        let elsewhere = try Folder()
        let token = folder.path + "/data/admin.token"
        let list = try await run(["volume", "list", "--admin", url, "--token-file", token], in: elsewhere)
        #expect(list.status == 0 && list.out.contains("default"), "\(list.err)")
        let wrong = try elsewhere.write(String(repeating: "0", count: 64) + "\n", to: "token")
        let refused = try await run(["volume", "list", "--admin", url, "--token-file", wrong], in: elsewhere)
        #expect(refused.status == 1 && refused.err.contains("401"), "\(refused.err)")
        let nobody = try await run(
            ["volume", "list", "--admin", "http://127.0.0.1:\(try freePort())", "--token-file", token], in: elsewhere)
        #expect(nobody.status == 1 && nobody.err.contains("no server listens"))
        await stop(server)
    }

    @Test func fiftyCommandsAtOnce() async throws {
        let folder = try Folder()
        let server = try await server(folder)
        // By a shell: it starts them all before it waits for any.
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/bash")
        shell.currentDirectoryURL = URL(fileURLWithPath: folder.path)
        let script = """
            ids=; for n in $(seq 50); do "$0" user add "u$n" --random > /dev/null & ids="$ids $!"; done
            for id in $ids; do wait $id || exit 1; done
            """
        shell.arguments = ["-c", script, Program.path]
        try shell.run()
        #expect(await eventually(within: 60) { !shell.isRunning } && shell.terminationStatus == 0)
        let list = try await run(["user", "list", "--json"], in: folder)
        let users = try #require(JSONSerialization.jsonObject(with: Data(list.out.utf8)) as? [[String: Any]])
        #expect(users.count == 50 && Set(users.compactMap { $0["uid"] as? Int }).count == 50)
        await stop(server)
    }

    @Test func aFrozenVolumeWaitsAndGoesOn() async throws {
        let folder = try Folder()
        let server = try await server(folder)
        #expect(try await run(["volume", "freeze", "default"], in: folder).status == 0)
        #expect(try await run(["volume", "list"], in: folder).out.contains("frozen"))
        #expect(try await run(["volume", "freeze", "default"], in: folder).status == 0)
        let checkpoint = try await run(["volume", "checkpoint", "default"], in: folder)
        #expect(checkpoint.status == 1 && checkpoint.err.contains("volume release"))
        let change = try Program(["user", "add", "alice", "--random"], in: folder)
        #expect(await change.status(within: 1) == nil)
        #expect(try await run(["volume", "release", "default"], in: folder).status == 0)
        #expect(await change.status() == 0, "\(change.err)")
        // A server that is told to stop does not wait for a release.
        #expect(try await run(["volume", "freeze", "default"], in: folder).status == 0)
        await stop(server)
    }

    /// Reading the configuration again may wait for a frozen volume: the signal to stop is heard all the same.
    @Test func aHangupOfAFrozenServerLetsItStop() async throws {
        let folder = try Folder()
        let users = try folder.write("dave:one\n", to: "users")
        let server = try await server(folder, ["--user-file", users])
        #expect(try await run(["volume", "freeze", "default"], in: folder).status == 0)
        _ = try folder.write("gina:four\n", to: "users")
        server.signal(SIGHUP)
        // What it says of each reading, before it waits.
        #expect(await eventually(within: 1) { server.err.contains("configuration read again") } == false)
        await stop(server)
    }

    /// What can not be read is told, is no empty place, and holds nobody else up.
    @Test func aDamagedDescriptorIsTold() async throws {
        let folder = try Folder()
        #expect(try await run(["volume", "create", "archive"], in: folder).status == 0)
        let descriptor = folder.path + "/data/volumes/archive/volume.json"
        let good = try String(contentsOfFile: descriptor, encoding: .utf8)
        try "{".write(toFile: descriptor, atomically: true, encoding: .utf8)
        let server = try await server(folder)
        let list = try await run(["volume", "list"], in: folder).out
        #expect(list.contains("archive") && list.contains("not open") && list.contains("default"))
        #expect(try await run(["volume", "show", "archive"], in: folder).out.contains("volume.json is damaged"))
        let made = try await run(["volume", "create", "archive"], in: folder)
        #expect(made.status == 1 && made.err.contains("already"))
        #expect(server.err.contains("volume not open"))
        await stop(server)
        try good.write(toFile: descriptor, atomically: true, encoding: .utf8)
        #expect(try await run(["volume", "list"], in: folder).out.contains("archive  open"))
    }

    @Test(arguments: [
        ["volume"], ["volume", "create"], ["volume", "create", "a", "b"], ["volume", "create", "a.b"],
        ["volume", "create", "a", "--durability", "always"], ["volume", "create", "a", "--store", "tape"],
        ["volume", "delete"], ["user", "add", "a", "--uid", "x"], ["user", "add", "a/b", "--random"],
        ["user", "add", "a", "--random", "--volume", "default:all"], ["user", "add", "a"],
        ["export", "add", "/default"], ["export", "add", "/default", "--client", "10.0.0.0/99"],
        ["export", "add", "/default", "--client", "*(rw,no_such)"], ["export", "add", "/default", "--client", "*(rw"],
        ["quota", "set", "default"], ["quota", "set", "default", "--hard", "much"], ["explain", "default"],
        ["volume", "list", "--jsn"], ["user", "list", "--admin", "nowhere"], ["fsck"], ["fsck", "a/b"],
        ["bench"], ["bench", "engine", "--files", "0"],
    ])
    func misuseIsStatus2(_ words: [String]) async throws {
        let answer = try await run(words, in: Folder())
        #expect(answer.status == 2, "\(words): \(answer.out) \(answer.err)")
        #expect(answer.out == "" && answer.err.hasPrefix("proxyfs: "))
    }

    @Test(arguments: [
        (["volume", "show", "none"], "no volume none"), (["volume", "create", "default"], "already"),
        (["user", "remove", "nobody"], "no user nobody"), (["explain", "/default/none"], "noEntry"),
        (["export", "add", "/none", "--client", "*"], "no volume none"), (["fsck", "none"], "none"),
        (["export", "add", "/default/none", "--client", "*"], "no directory"),
        (["quota", "set", "default", "--user", "nobody", "--hard", "1"], "no user nobody"),
        (["bench", "engine", "--directory", "/nowhere"], "--directory"),
    ])
    func failuresAreStatus1AndSayWhatToDo(_ words: [String], _ text: String) async throws {
        let answer = try await run(words, in: Folder())
        #expect(answer.status == 1, "\(words): \(answer.out)")
        #expect(answer.err.contains(text) && answer.out == "", "\(answer.err)")
    }

    /// What is damaged is told of by the tests of the check itself.
    @Test func fsckIsOfAVolumeThatNobodyHas() async throws {
        let folder = try Folder()
        let server = try await server(folder)
        let busy = try await run(["fsck", "default"], in: folder)
        #expect(busy.status == 1 && busy.err.contains("has the volume"))
        await stop(server)
        #expect(try await run(["fsck", "default", "--json"], in: folder).out.contains("\"count\":0"))
    }
}

/// What exports say reaches clients at once.
@Suite(.serialized) struct ExportTests {
    private func results(_ port: UInt16, _ procedure: UInt32, _ arguments: [UInt8] = []) throws -> [UInt8] {
        let peer = try RPCPeer(.loopback(port: port))
        return try #require(peer.call(RPCMessage(100_005, 3, procedure, arguments))).results
    }

    /// Paths with the clients that are named for each.
    private func exports(_ port: UInt16) throws -> [String: [String]] {
        var rest = try results(port, 5)[...]
        func word() -> Int {
            defer { rest = rest.dropFirst(4) }
            return rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        }
        func text() -> String {
            let count = word()
            defer { rest = rest.dropFirst((count + 3) & ~3) }
            return String(decoding: rest.prefix(count), as: UTF8.self)
        }
        var found: [String: [String]] = [:]
        while word() == 1 {
            let path = text()
            found[path] = []
            while word() == 1 { found[path]?.append(text()) }
        }
        return found
    }

    private func mount(_ port: UInt16, _ path: String) throws -> Int {
        let name = Array(path.utf8)
        let arguments = encoded { writer in name.withUnsafeBytes { writer.opaque($0) } }
        return try results(port, 1, arguments).prefix(4).reduce(0) { $0 << 8 | Int($1) }
    }

    /// A client that mounts, locks, and goes on after the server was killed.
    @Test func clientsLocksAndCallsAreShown() async throws {
        let folder = try Folder()
        let port = try freePort()
        func serve() async throws -> Program {
            let server = try Program(
                [
                    "serve", "--nfs-port", "\(port)", "--admin-port", "\(try freePort())", "--smb-port", "0",
                    "--http-port", "0",
                ], in: folder)
            #expect(await server.isReady(), "\(server.err)")
            return server
        }
        func show(_ what: String) async throws -> Any {
            let run = try Program(["nfs", what, "--json"], in: folder)
            #expect(await run.status() == 0, "\(run.err)")
            return try JSONSerialization.jsonObject(with: Data(run.out.utf8))
        }
        func rows(_ what: String) async throws -> [[String: Any]] {
            try #require(try await show(what) as? [[String: Any]])
        }
        func call(_ peer: RPCPeer, _ program: UInt32, _ version: UInt32, _ procedure: UInt32, _ arguments: [UInt8])
            -> [UInt8]
        {
            var message = RPCMessage(program, version, procedure, xid: procedure + program, arguments)
            message.sign(uid: 0, gid: 0)
            return peer.call(message)?.results ?? []
        }
        func opaque(_ bytes: [UInt8]) -> [UInt8] { encoded { writer in bytes.withUnsafeBytes { writer.opaque($0) } } }
        func words(_ numbers: [UInt32]) -> [UInt8] {
            encoded { writer in for number in numbers { writer.u32(number) } }
        }
        func handle(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
            let count = bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            return Array(bytes.dropFirst(4).prefix(count))
        }

        let server = try await serve()
        #expect(try await rows("clients").isEmpty)
        #expect(try await rows("locks").isEmpty)
        let peer = try RPCPeer(.loopback(port: port))
        let root = handle(call(peer, 100_005, 3, 1, opaque(Array("/default".utf8))).dropFirst(4))
        #expect(root.count > 20)
        // CREATE, unchecked, with no attributes.
        let create = opaque(root) + opaque(Array("f".utf8)) + words([0, 0, 0, 0, 0, 0, 0])
        let file = handle(call(peer, 100_003, 3, 8, create).dropFirst(8))
        #expect(file.count == root.count)
        // NLM4_LOCK of bytes 5 to 14 by process 77.
        let lock =
            opaque([1]) + words([0, 1]) + opaque(Array("one".utf8)) + opaque(file) + opaque([9]) + words([77])
            + words([0, 5, 0, 10, 0, 0])
        #expect(call(peer, 100_021, 4, 2, lock) == opaque([1]) + words([0]))
        let clients = try await rows("clients")
        #expect(clients.count == 1)
        let client = try #require(clients.first)
        #expect(client["address"] as? String == "127.0.0.1" && client["connections"] as? Int == 1)
        #expect(client["mounts"] as? [String] == ["/default"] && client["lock_name"] as? String == "one")
        #expect(client["locks"] as? Int == 1)
        let locks = try await rows("locks")
        #expect(locks.count == 1)
        let held = try #require(locks.first)
        #expect(held["address"] as? String == "127.0.0.1" && held["name"] as? String == "one")
        #expect(held["process"] as? Int == 77 && held["mode"] as? String == "write")
        #expect(held["first"] as? Int == 5 && held["last"] as? Int == 14)
        var stats = try #require(try await show("stats") as? [String: Any])
        #expect(stats["calls"] as? Int == 3 && stats["refused"] as? Int == 0 && stats["dropped"] as? Int == 0)
        #expect(stats["clients"] as? Int == 1 && stats["locks"] as? Int == 1 && stats["waiting"] as? Int == 0)
        #expect(stats["grace"] as? Bool == false)
        _ = call(peer, 100_003, 3, 99, [])
        stats = try #require(try await show("stats") as? [String: Any])
        #expect(stats["calls"] as? Int == 4 && stats["refused"] as? Int == 1)
        // As a table, too.
        let table = try Program(["nfs", "clients"], in: folder)
        #expect(await table.status() == 0 && table.out.contains("CONNECTIONS") && table.out.contains("/default"))

        server.signal(SIGKILL)
        _ = await server.status()
        let next = try await serve()
        let again = try RPCPeer(.loopback(port: port))
        #expect(call(again, 100_003, 3, 1, opaque(file)).prefix(4) == [0, 0, 0, 0])
        // He says nothing anew, and is shown all the same; his lock is his to claim.
        let known = try #require(try await rows("clients").first)
        #expect(
            known["connections"] as? Int == 1 && known["locks"] as? Int == 0 && known["lock_name"] as? String == "one")
        #expect(try #require(try await show("stats") as? [String: Any])["grace"] as? Bool == true)
        next.signal(SIGTERM)
        #expect(await next.status() == 0)
    }

    @Test func changesReachClientsAtOnce() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try Program(
            [
                "serve", "--nfs-port", "\(port)", "--admin-port", "\(try freePort())", "--smb-port", "0", "--http-port",
                "0",
            ], in: folder)
        #expect(await server.isReady(), "\(server.err)")
        func run(_ words: String...) async throws {
            let run = try Program(words, in: folder)
            #expect(await run.status() == 0, "\(words): \(run.err)")
        }
        #expect(try exports(port) == ["/default": ["localhost"]])
        #expect(try mount(port, "/default") == 0)
        try await run("volume", "create", "archive")
        #expect(try exports(port) == ["/default": ["localhost"], "/archive": ["localhost"]])
        // An export that names its clients leaves nothing to others, this host's among them.
        try await run("export", "add", "/default", "--client", "10.9.8.7(rw)", "--client", "10.8.0.0/16")
        #expect(try exports(port)["/default"] == ["10.9.8.7", "10.8.0.0/16"])
        #expect(try mount(port, "/default") == 13)
        #expect(try mount(port, "/archive") == 0)
        // Ours comes from a port that anybody may have.
        try await run("export", "change", "/default", "--client", "localhost(rw)")
        #expect(try mount(port, "/default") == 13)
        try await run("export", "change", "/default", "--client", "localhost(rw,insecure)")
        #expect(try mount(port, "/default") == 0)
        try await run("export", "remove", "/default")
        #expect(try exports(port)["/default"] == ["localhost"])
        try await run("volume", "delete", "archive", "--yes")
        #expect(try exports(port) == ["/default": ["localhost"]])
        #expect(try mount(port, "/archive") == 2)
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }
}

import CShim
import Foundation
import Runtime
import TestSupport
import Testing

private func get(_ port: UInt16, _ path: String, token: String? = nil) throws -> String {
    let peer = try Peer(.loopback(port: port))
    let field = token.map { "Authorization: Bearer \($0)\r\n" } ?? ""
    peer.send("GET \(path) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\(field)\r\n")
    return peer.receiveAll()
}

@Suite(.serialized) struct ServeTests {
    @Test func servesUntilItIsTold() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try Program(
            ["serve", "--nfs-port", "0", "--http-port", "0", "--smb-port", "0", "--admin-port", "\(port)"], in: folder)
        #expect(await server.isReady(), "\(server.err)")
        #expect(try get(port, "/healthz").hasPrefix("HTTP/1.1 200"))
        #expect(try get(port, "/readyz").hasPrefix("HTTP/1.1 200"))
        #expect(try get(port, "/version").contains("\"version\":"))
        #expect(try get(port, "/metrics").hasPrefix("HTTP/1.1 401"))
        let file = folder.path + "/data/admin.token"
        let token = try String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .newlines)
        let metrics = try get(port, "/metrics", token: token)
        #expect(metrics.hasPrefix("HTTP/1.1 200"))
        for name in [
            "process_resident_memory_bytes ", "proxyfs_uptime_seconds ",
            "proxyfs_listener_connections{listener=\"admin\"} ",
        ] {
            #expect(metrics.contains("\n" + name))
        }
        #expect(try get(port, "/metrics", token: String(token.dropLast())).hasPrefix("HTTP/1.1 401"))
        let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
        #expect(mode == 0o600)

        let second = try Program(
            ["serve", "--nfs-port", "0", "--http-port", "0", "--smb-port", "0", "--admin-port", "\(try freePort())"],
            in: folder)
        #expect(await second.status() == 1)
        #expect(second.err.contains("./data is in use by process \(server.pid)"))
        #expect(second.out == "")

        let other = try Folder()
        let third = try Program(
            ["serve", "--nfs-port", "0", "--http-port", "0", "--smb-port", "0", "--admin-port", "\(port)"], in: other)
        #expect(await third.status() == 1)
        #expect(third.err.contains("can not listen on 127.0.0.1:\(port)") && third.err.contains("--admin-port"))

        // A connection that is open and quiet does not hold the end up.
        let quiet = try Peer(.loopback(port: port))
        quiet.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(quiet.receive(through: "ok\n").hasPrefix("HTTP/1.1 200"))
        let begin = shim_clock_monotonic()
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
        #expect(shim_clock_monotonic() - begin < 10_000_000_000)
        #expect(server.err.contains("event=stopped"))

        // The lock ended with the process, the token did not.
        let again = try Program(
            ["serve", "--nfs-port", "0", "--http-port", "0", "--smb-port", "0", "--admin-port", "\(port)"], in: folder)
        #expect(await again.isReady(), "\(again.err)")
        #expect(try get(port, "/metrics", token: token).hasPrefix("HTTP/1.1 200"))
        again.signal(SIGKILL)
        #expect(await again.status() == -SIGKILL)
        let afterKill = try Program(
            ["serve", "--nfs-port", "0", "--http-port", "0", "--smb-port", "0", "--admin-port", "\(port)"], in: folder)
        #expect(await afterKill.isReady(), "\(afterKill.err)")
        afterKill.signal(SIGINT)
        #expect(await afterKill.status() == 0)
    }

    @Test func hangupReadsTheConfigurationAgain() async throws {
        let folder = try Folder()
        let port = try freePort()
        let file = try folder.write("[ports]\nnfs = 0\nadmin = \(port)\n[log]\nlevel = \"info\"\n", to: "proxyfs.toml")
        let server = try Program(["serve", "--config", file], in: folder)
        #expect(await server.isReady(), "\(server.err)")
        _ = try folder.write("[ports]\nnfs = 0\nadmin = \(port)\n[log]\nlevl = \"info\"\n", to: "proxyfs.toml")
        server.signal(SIGHUP)
        #expect(await server.logs("configuration not changed"))
        #expect(server.err.contains("\(file):5") && server.err.contains("level"))
        #expect(try get(port, "/healthz").hasPrefix("HTTP/1.1 200"))
        _ = try folder.write(
            "[ports]\nnfs = 0\nadmin = \(port)\nsmb = 4451\n[log]\nlevel = \"warning\"\n", to: "proxyfs.toml")
        server.signal(SIGHUP)
        #expect(await server.logs("needs a restart\" key=ports.smb from=4450 to=4451"))
        #expect(server.err.contains("configuration changed\" key=log.level from=info to=warning"))
        _ = try folder.write("[ports]\nnfs = 0\nadmin = \(port)\n", to: "proxyfs.toml")
        server.signal(SIGHUP)
        #expect(await server.logs("configuration read again"))
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }

    /// SIGHUP takes the certificate that lies there now; one that is no good changes nothing.
    @Test func hangupReadsTheCertificateAgain() async throws {
        let folder = try Folder()
        func write(_ certificate: TLSCertificate) throws {
            _ = try folder.write(certificate.chain, to: "tls.crt")
            _ = try folder.write(certificate.key, to: "tls.key")
        }
        let (old, new) = (try TLSCertificate.selfSigned(names: ["old"]), try TLSCertificate.selfSigned(names: ["new"]))
        try write(old)
        let port = try freePort()
        let file = try folder.write(
            """
            [ports]
            nfs = 0
            smb = 0
            http = 0
            https = \(port)
            admin = \(try freePort())
            [tls]
            certificate = "\(folder.path)/tls.crt"
            key = "\(folder.path)/tls.key"
            """, to: "p.toml")
        let server = try Program(["serve", "--config", file], in: folder)
        #expect(await server.isReady(), "\(server.err)")
        func shown() throws -> String {
            let client = Process()
            client.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
            client.arguments = ["-c", "import ssl; print(ssl.get_server_certificate(('127.0.0.1', \(port))))"]
            let pipe = Pipe()
            client.standardOutput = pipe
            try client.run()
            return String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                .trimmingCharacters(in: .whitespacesAndNewlines)
        }
        func text(_ certificate: TLSCertificate) -> String {
            certificate.chain.trimmingCharacters(in: .whitespacesAndNewlines)
        }
        #expect(try shown() == text(old))
        try write(new)
        server.signal(SIGHUP)
        #expect(await server.logs("certificate read again"))
        #expect(try shown() == text(new))
        _ = try folder.write("nonsense", to: "tls.crt")
        server.signal(SIGHUP)
        #expect(await server.logs("certificate not changed"))
        #expect(try shown() == text(new))
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }

    @Test(arguments: [
        [], ["srve"], ["serve", "--prt", "1"],
        ["serve", "--nfs-port", "0", "--http-port", "0", "--smb-port", "0", "--admin-port", "65536"],
        ["serve", "--user", "x"],
        ["serve", "--data"],
        ["version", "--jsn"], ["config"], ["config", "check", "x"], ["doctor", "--all"],
    ])
    func misuseIsStatus2(_ words: [String]) async throws {
        let run = try Program(words, in: Folder())
        #expect(await run.status() == 2)
        #expect(run.out == "" && run.err.contains("proxyfs"))
    }

    @Test(arguments: [
        (["serve", "--config", "/nowhere/at/all"], "/nowhere/at/all"), (["serve", "--data", "/proc/x"], "--data"),
        (["serve", "--address", "localhost"], "--address"), (["config", "check", "--user-file", "none"], "none"),
    ])
    func failuresAreStatus1AndSayWhatToDo(_ words: [String], _ text: String) async throws {
        let run = try Program(words, in: Folder())
        #expect(await run.status() == 1)
        #expect(run.err.hasPrefix("proxyfs: ") || run.err.contains("\nproxyfs: "))
        #expect(run.err.contains(text) && run.out == "")
    }

    /// Who starts it by hand is told what to paste for each front end, and can.
    @Test func aTerminalIsToldWhatToPaste() async throws {
        let folder = try Folder()
        let ports = try (0..<4).map { _ in try freePort() }
        let script = """
            import os, pty, sys
            pid, out = pty.fork()
            if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
            print(pid, flush=True)
            try:
                while True:
                    text = os.read(out, 4096)
                    if not text: break
                    os.write(1, text)
            except OSError: pass
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            """
        let terminal = Process()
        terminal.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        terminal.currentDirectoryURL = URL(fileURLWithPath: folder.path)
        terminal.arguments = [
            "-c", script, Program.path, "serve", "--nfs-port", "\(ports[0])", "--smb-port", "\(ports[1])",
            "--http-port", "\(ports[2])", "--admin-port", "\(ports[3])",
        ]
        let file = folder.path + "/out"
        _ = FileManager.default.createFile(atPath: file, contents: nil)
        terminal.standardOutput = FileHandle(forWritingAtPath: file)
        terminal.standardError = FileHandle.nullDevice
        try terminal.run()
        defer { terminal.terminate() }
        func text() -> String { (try? String(contentsOfFile: file, encoding: .utf8)) ?? "" }
        #expect(await eventually { text().contains("Make a user for that: ") && text().last?.isNewline == true })
        let shown = text().split(whereSeparator: \.isNewline).map(String.init)
        #expect(shown.contains("proxyfs: ready"))
        let nfs = "tcp,port=\(ports[0]),mountport=\(ports[0]) 127.0.0.1:/default /mnt"
        #expect(shown.contains { $0.hasPrefix("    mount -t nfs -o vers=3,nolock,") && $0.hasSuffix(nfs) }, "\(shown)")
        #expect(shown.contains { $0.hasPrefix("  nolock: ") })
        for line in [
            "    mount -t cifs -o vers=3.1.1,port=\(ports[1]),username=NAME //127.0.0.1/default /mnt",
            "  without mounting: smbclient -p \(ports[1]) -U NAME //127.0.0.1/default",
            "    aws --endpoint-url http://127.0.0.1:\(ports[2]) s3 mb s3://papers",
        ] { #expect(shown.contains(line), "\(shown)") }
        let line = try #require(shown.first { $0.hasPrefix("Make a user for that: proxyfs ") })
        let words = line.split(separator: " ").drop { $0 != "proxyfs" }.dropFirst().map(String.init)
        let pasted = try Program(words.map { $0 == "NAME" ? "alice" : $0 }, in: folder)
        #expect(await pasted.status() == 0, "\(pasted.err)")
        let server = try #require(shown.first.flatMap { Int32($0) })
        kill(server, SIGTERM)
        #expect(await eventually(within: 30) { !terminal.isRunning } && terminal.terminationStatus == 0)
    }

    @Test func usersOfTheEnvironmentAreChecked() async throws {
        let run = try Program(["config", "check"], in: Folder(), environment: ["PROXYFS_USERS": "a:s\nbad"])
        #expect(await run.status() == 1)
        #expect(run.err.contains("PROXYFS_USERS:2"))
    }

    @Test(arguments: [["serve"], ["config", "check"], ["doctor"], ["version"]])
    func eachExampleRuns(_ words: [String]) async throws {
        let folder = try Folder()
        let file = try folder.write("[ports]\nnfs = 0\n", to: "proxyfs.toml")
        let help = try Program(words + ["--help"], in: folder)
        #expect(await help.status() == 0)
        let examples = help.out.split(separator: "\n").filter { $0.hasPrefix("  proxyfs ") }
        #expect(examples.count >= 2)
        for example in examples {
            var parts = example.split(separator: " ").dropFirst().map(String.init).map {
                $0 == "/etc/proxyfs.toml" ? file : $0 == "/srv/proxyfs" ? folder.path + "/srv" : $0
            }
            if words == ["serve"] {
                parts += [
                    "--admin-port", "\(try freePort())", "--nfs-port", "\(try freePort())", "--http-port", "0",
                    "--smb-port", "0",
                ]
            }
            let run = try Program(parts, in: folder)
            if words == ["serve"] {
                #expect(await run.isReady(), "\(example): \(run.err)")
                run.signal(SIGTERM)
            }
            let status = await run.status()
            // The doctor may find this machine wanting.
            #expect(status == 0 || (words == ["doctor"] && status == 1), "\(example): \(run.err)")
        }
    }

    @Test func theDoctorsListIsJSON() async throws {
        let run = try Program(["doctor", "--json", "--admin-port", "\(try freePort())"], in: Folder())
        let status = await run.status()
        #expect(status == 0 || status == 1)
        let list = try #require(JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [[String: String]])
        let subjects = list.compactMap { $0["subject"] }
        for subject in [
            "kernel", "open files", "memory", "clock", "OpenSSL", "rpcbind", "data directory", "durability",
        ] {
            #expect(subjects.contains(subject))
        }
        #expect(list.allSatisfy { $0["verdict"] == "good" || $0["advice"] != nil })
    }
}

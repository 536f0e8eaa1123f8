import Configuration
import Logging
import Testing

private func load(_ text: String, _ words: [String] = []) throws -> LoadedConfiguration {
    try Configuration.load(Array(text.utf8), file: "p.toml", options: ServeOptions(words))
}

/// All that is wrong, a line each; empty when nothing is.
private func issues(_ text: String, _ words: [String] = []) -> [String] {
    do {
        _ = try load(text, words)
        return []
    } catch let invalid as Configuration.Invalid {
        return invalid.issues.map(\.description)
    } catch {
        return ["\(error)"]
    }
}

@Suite struct ConfigurationTests {
    @Test func nothingSaidMeansTheDefaults() throws {
        let c = try load("").configuration
        var expected = Configuration()
        expected.volumes = [Configuration.standardVolume]
        #expect(c == expected)
        #expect(c.ports.nfs == 2049 && c.ports.smb == 4450 && c.ports.http == 8080 && c.ports.admin == 8081)
        #expect(c.engine.flushSize.bytes == 64 << 20)
        #expect(c.engine.flushTime.nanoseconds == 10_000_000_000)
        #expect(c.volumes.map(\.durability) == [.log] && c.volumes[0].place == "default")
        #expect(try Configuration.load(nil, file: "none").configuration == expected)
    }

    @Test func everythingSaid() throws {
        let c = try load(
            """
            address = "0.0.0.0"
            data = "/srv"
            user_file = "/etc/users"
            ports = { nfs = 1, smb = 0, https = 443 }
            [tls]
            certificate = "c"
            key = "k"
            [log]
            level = "debug"
            format = "json"
            [engine]
            flush_size = "1MiB"
            flush_time = "100ms"
            checkpoint_interval = "1h"
            log_size = "64 GiB"
            stage_size = "64MiB"
            nonce_range = 1024
            node_cache = "1TiB"
            data_cache = "16TiB"
            [[volume]]
            name = "A_1"
            durability = "store"
            [[volume]]
            name = "b-2"
            durability = "memory"
            [[user]]
            name = "alice"
            secret = "s:e"
            uid = 1000
            gid = 4294967294
            groups = ["g"]
            volumes = ["b-2"]
            """
        ).configuration
        #expect(c.address == "0.0.0.0" && c.data == "/srv" && c.userFile == "/etc/users")
        #expect(c.ports.nfs == 1 && c.ports.smb == 0 && c.ports.https == 443 && c.ports.http == 8080)
        #expect(c.tls == .files(certificate: "c", key: "k"))
        #expect(c.log.level == .debug && c.log.format == .json)
        #expect(c.engine.flushSize.description == "1MiB" && c.engine.flushTime.description == "100ms")
        #expect(c.engine.checkpointInterval.description == "1h" && c.engine.logSize.description == "64GiB")
        #expect(c.engine.nonceRange == 1024 && c.engine.dataCache.description == "16TiB")
        #expect(c.engine.stageSize.description == "64MiB")
        #expect(c.volumes.map(\.name) == ["A_1", "b-2"] && c.volumes.map(\.durability) == [.store, .memory])
        #expect(c.users[0].secret.revealed == "s:e" && c.users[0].gid == 4_294_967_294)
        #expect(c.users[0].place == "p.toml:26:1" && c.volumes[1].place == "p.toml:23:1")
    }

    @Test(
        arguments: [
            ("adress = 'x'", ["p.toml:1:1: unknown key \"adress\"; did you mean \"address\"?"]),
            ("\n  zzzzzzzz = 1", ["p.toml:2:3: unknown key \"zzzzzzzz\""]),
            (
                "[engine]\nflush_sise = '1s'",
                ["p.toml:2:1: unknown key \"flush_sise\" in [engine]; did you mean \"flush_size\"?"]
            ), ("[prots]\nnfs = 1", ["p.toml:1:2: unknown key \"prots\"; did you mean \"ports\"?"]),
            ("address = 1", ["p.toml:1:11: address: expected a string, found an integer"]),
            ("address = ''", ["p.toml:1:11: address: must be 1 to 255 bytes without NUL"]),
            ("ports = 3", ["p.toml:1:9: ports: expected a table [ports], found an integer"]),
            ("[ports]\nnfs = '2049'", ["p.toml:2:7: ports.nfs: expected an integer, found a string"]),
            ("[ports]\nnfs = 65536", ["p.toml:2:7: ports.nfs: 65536 is not in 0 to 65535"]),
            ("[ports]\nnfs = -1", ["p.toml:2:7: ports.nfs: -1 is not in 0 to 65535"]),
            (
                "[engine]\nflush_size = 64",
                ["p.toml:2:14: engine.flush_size: expected a size such as \"64MiB\", found an integer"]
            ),
            (
                "[engine]\nflush_size = '64MB'",
                [
                    "p.toml:2:14: engine.flush_size: \"64MB\" is not a size: a whole number and one of B, KiB, MiB, GiB, "
                        + "TiB, PiB"
                ]
            ),
            (
                "[engine]\nflush_time = '1.5s'",
                [
                    "p.toml:2:14: engine.flush_time: \"1.5s\" is not a duration: a whole number and one of ns, us, ms, s, m, "
                        + "h, d"
                ]
            ), ("[engine]\nflush_size = '1023KiB'", ["p.toml:2:14: engine.flush_size: 1023KiB is not in 1MiB to 1GiB"]),
            ("[engine]\nflush_time = '3601s'", ["p.toml:2:14: engine.flush_time: 3601s is not in 100ms to 1h"]),
            (
                "[log]\nlevel = 'inof'",
                ["p.toml:2:9: log.level: \"inof\" is none of debug, info, warning, error, off; did you mean \"info\"?"]
            ),
            (
                "[[volume]]\nname = 'v'\ndurability = 'disk'",
                ["p.toml:3:14: volume.durability: \"disk\" is none of store, log, memory"]
            ), ("[[volume]]\ndurability = 'log'", ["p.toml:1:1: volume.name: a volume needs a name"]),
            (
                "[[volume]]\nname = 'a/b'",
                ["p.toml:2:8: volume.name: a volume's name is made of letters, digits, - and _"]
            ),
            (
                "[[volume]]\nname='v'\n[[volume]]\nname='v'",
                ["p.toml:4:6: volume.name: \"v\" is declared already, at p.toml:1:1"]
            ), ("[volume]\nname='v'", ["p.toml:1:2: volume: expected tables [[volume]], found a table"]),
            ("volume = [1]", ["p.toml:1:11: volume: expected a table, found an integer"]),
            ("[[user]]\nname='a'", ["p.toml:1:1: user.secret: a user needs a secret"]),
            (
                "[[user]]\nname='a:b'\nsecret='x'",
                ["p.toml:2:6: user.name: a user's name has no spaces, control characters, or any of : \\ / @ \""]
            ),
            (
                "[[volume]]\nname='data'\n[[user]]\nname='a'\nsecret='x'\nvolumes=['dta']",
                [
                    "p.toml:3:1: user \"a\" has rights on volume \"dta\", which no [[volume]] declares; "
                        + "did you mean \"data\"?"
                ]
            ), ("[tls]\nkey='k'", ["p.toml:2:5: tls.key: needs tls.certificate beside it"]),
            ("[tls]\ncertificate='k'", ["p.toml:2:13: tls.certificate: needs tls.key beside it"]),
            (
                "[tls]\nclient_required=true",
                [
                    "p.toml:2:17: certificates of clients are required, but no authority for them is named: set "
                        + "tls.client_authorities"
                ]
            ),
            (
                "[tls]\ncertificate='c'\nkey='k'\nself_signed=true",
                ["p.toml:4:13: tls.self_signed: not together with a certificate"]
            ),
            (
                "[ports]\nhttps = 443",
                [
                    "p.toml:2:9: ports.https is set, but there is no certificate: set tls.certificate and tls.key, or "
                        + "tls.self_signed"
                ]
            ), ("[ports]\nsmb = 2049", ["p.toml:2:7: ports.smb and ports.nfs are both 2049"]),
            (
                "ports = {nfs=0, smb=0, http=0, admin=0}",
                ["p.toml:1:14: every port is 0: there is nothing to serve"]
            ),
            (
                "[engine]\ndata_cache='16MiB'",
                [
                    "p.toml:2:12: engine.data_cache (16MiB) is smaller than one segment, engine.flush_size (64MiB)"
                ]
            ), ("a = 1\na = 2", ["p.toml:2:1: 'a' was defined already, in line 1"]),
        ] as [(String, [String])])
    func messages(_ text: String, _ expected: [String]) { #expect(issues(text) == expected) }

    @Test func severalAtOnce() {
        let found = issues("data = 1\nbogus = 2\n[ports]\nnfs = -1\n[log]\nlevel = 3")
        #expect(
            found == [
                "p.toml:1:8: data: expected a string, found an integer",
                "p.toml:4:7: ports.nfs: -1 is not in 0 to 65535",
                "p.toml:6:9: log.level: expected a string, found an integer",
                "p.toml:2:1: unknown key \"bogus\"",
            ])
        let many = (0..<200).map { "zz\($0) = 1" }.joined(separator: "\n")
        #expect(issues(many).count == 50)
    }

    @Test func secretsAreInNoMessage() throws {
        let loaded = try load("[[user]]\nname='a'\nsecret='hunter2'", ["--user", "bob:hunter3"])
        #expect(loaded.configuration.users.map(\.name) == ["a", "bob"])
        #expect(!"\(loaded) \(loaded.report)".contains("hunter"))
        #expect(!issues("[[user]]\nname='a'\nsecret='hunter2'\nuid='x'").joined().contains("hunter"))
        #expect(!issues("", ["--user", "hunter2"]).joined().contains("hunter"))
    }

    @Test func optionsGoFirst() throws {
        let text = "data='/a'\n[ports]\nnfs=7\n[[user]]\nname='u'\nsecret='old'"
        let words = [
            "--data", "/b", "--nfs-port=9", "--user", "u:new:er", "--https-port", "443", "--tls", "self-signed",
        ]
        let loaded = try load(text, words)
        #expect(loaded.configuration.data == "/b")
        #expect(loaded.configuration.ports.nfs == 9)
        #expect(loaded.configuration.tls == .selfSigned)
        #expect(loaded.configuration.users.map(\.secret.revealed) == ["new:er"])
        #expect(loaded.places["ports.nfs"] == "--nfs-port")
        #expect(issues("[ports]\nsmb=9", words).contains("p.toml:2:5: ports.smb and ports.nfs are both 9"))
        #expect(issues("", ["--smb-port", "8080"]) == ["--smb-port: ports.http and ports.smb are both 8080"])
    }

    @Test(arguments: [
        (["--nsf-port", "1"], "serve: unknown option \"--nsf-port\"; did you mean \"--nfs-port\"?"),
        (["x"], "serve: unexpected word \"x\""), (["--data"], "--data: needs a value"),
        (["--data="], "--data: needs a value"),
        (["--nfs-port", "70000"], "--nfs-port: \"70000\" is not a port: 0 (off) to 65535"),
        (["--user", "alice"], "--user: expected NAME:SECRET"), (["--user", "alice:"], "--user: expected NAME:SECRET"),
        (["--tls", "on"], "--tls: takes self-signed; certificates are named in the configuration file"),
    ])
    func badOptions(_ words: [String], _ message: String) { #expect(issues("", words) == [message]) }

    @Test func userFiles() throws {
        let users = try ServeOptions.users("# us\nalice:a:b\r\n\nbob:c", source: "f")
        #expect(users.map(\.name) == ["alice", "bob"])
        #expect(users[0].secret.revealed == "a:b")
        #expect(users[1].place == "f:4")
        let error = #expect(throws: Configuration.Invalid.self) {
            try ServeOptions.users("x\na:1\na:2\nb c:1", source: "f")
        }
        #expect(
            error?.description == "f:1: expected NAME:SECRET\nf:3: \"a\" is there already, at f:2\n"
                + "f:4: a user's name has no spaces, control characters, or any of : \\ / @ \"")
        let many = (0..<Configuration.usersMax).map { "u\($0):s" }.joined(separator: "\n")
        #expect(try ServeOptions.users(many, source: "f").count == Configuration.usersMax)
        #expect(throws: Configuration.Invalid.self) { try ServeOptions.users(many + "\nx:s", source: "f") }
    }

    @Test func namesAtTheirLimits() {
        #expect(Configuration.fault(inVolumeName: String(repeating: "v", count: 63)) == nil)
        #expect(Configuration.fault(inVolumeName: String(repeating: "v", count: 64)) != nil)
        #expect(Configuration.fault(inVolumeName: "") != nil)
        #expect(Configuration.fault(inVolumeName: "-v") != nil)
        #expect(Configuration.fault(inVolumeName: "vä") != nil)
        #expect(Configuration.fault(inUserName: String(repeating: "u", count: 64)) == nil)
        #expect(Configuration.fault(inUserName: String(repeating: "u", count: 65)) != nil)
        #expect(Configuration.fault(inUserName: "u\u{7f}") != nil)
        let volumes = { (n: Int) in (0..<n).map { "[[volume]]\nname='v\($0)'" }.joined(separator: "\n") }
        #expect(issues(volumes(Configuration.volumesMax)).isEmpty)
        #expect(issues(volumes(Configuration.volumesMax + 1)) == ["p.toml:1:1: volume: 1025 tables, 1024 at most"])
    }

    @Test func quantities() {
        #expect(ByteSize("16383PiB")?.bytes == 16_383 << 50)
        #expect(ByteSize("16384PiB") == nil)
        #expect(ByteSize("99999999999999999999B") == nil)
        #expect(ByteSize("") == nil && ByteSize("B") == nil && ByteSize("5") == nil && ByteSize("-1B") == nil)
        #expect(ByteSize("0B")?.description == "0B")
        #expect(TimeSpan("90m")?.description == "90m" && TimeSpan("120m")?.description == "2h")
    }

    @Test func report() throws {
        let text = try load("[ports]\nsmb = 0\n[[user]]\nname='a'\nsecret='x'").report
        #expect(text.contains("ports.smb                   off         p.toml:2:7\n"))
        #expect(text.contains("engine.flush_size           64MiB       default\n"))
        #expect(text.contains("user a                      on default  p.toml:3:1\n"))
    }
}

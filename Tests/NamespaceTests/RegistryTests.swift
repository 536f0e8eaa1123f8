import Bytes
import Headhunter
import Logging
import Namespace
import Runtime
import Simulator
import Testing

/// What a registry keeps, in volumes of a simulated machine.
@Suite struct RegistryTests {
    static let key = [UInt8](repeating: 7, count: 32)

    private static func open(_ world: World, _ name: String) async throws -> HostedVolume {
        try await HostedVolume.open(name, folder: name, durability: .log, world: world, loop: world.loops[0])
    }

    private static func registry(_ world: World, key: [UInt8] = key) -> Registry {
        Registry(
            loop: world.loops[0], clock: world.clock, random: world.random,
            seal: SealingKey(key: key, random: world.random))
    }

    private static func change(_ secret: String?, groups: [String]? = nil) -> UserChange {
        var change = UserChange()
        change.secret = secret.map { Secret($0) }
        change.groups = groups
        return change
    }

    /// One life of a machine.
    private func live(
        _ simulation: Simulation, _ body: @escaping @Sendable (World) async throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let done = simulation.perform { world -> Bool in
            do { try await body(world) } catch { Issue.record("\(error)", sourceLocation: sourceLocation) }
            return true
        }
        #expect(done == true, sourceLocation: sourceLocation)
    }

    @Test func allIsThereAfterAKill() {
        let simulation = Simulation(seed: 11)
        let gone = Heard<String>()
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            #expect(try await registry.attach(volume.volume).isEmpty)
            var alice = Self.change("secret")
            alice.groups = ["staff", "77"]
            let user = try await registry.addUser("alice", alice, rights: ["default": [.read, .write]])
            #expect(user.uid == UserTable.firstID && user.gid == user.uid)
            let key = try await registry.addKey("alice", "default")
            #expect(key.id.hasPrefix("PX") && key.secret.revealed.utf8.count == 40)
            var client = ExportRecord.Client("10.0.0.0/8")
            client.flavors = [.system, .kerberosPrivacy]
            client.squash = .all
            _ = try await registry.setExport(
                ExportRecord(path: "/default//a/", clients: [client], durability: .store), mustBeNew: true)
            var share = ShareRecord(name: "Papers", directory: "a")
            share.isHidden = true
            share.allowsGuests = true
            share.hidesUnreadable = true
            _ = try await registry.setShare(share, in: "default", mustBeNew: true)
            try await registry.setQuota(
                QuotaRecord(subject: .user(user.uid), limit: QuotaLimit(hardBytes: 1 << 40)), in: "default")
        }
        simulation.killAndRestart()
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            #expect(try await registry.attach(volume.volume).isEmpty)
            let snapshot = registry.snapshot
            let alice = try #require(snapshot.user(smb: "WORKGROUP\\Alice"))
            #expect(alice.ntHash == NTHash.of("secret") && alice.rights == ["default": [.read, .write]])
            #expect(snapshot.secret(of: alice)?.revealed == "secret")
            #expect(snapshot.users.group("staff").map { alice.groups.contains($0.gid) } == true)
            #expect(alice.groups.contains(77))
            let holder = try #require(snapshot.holder(accessKey: "alice"))
            #expect(holder.volume == "default" && holder.secret.revealed == "secret")
            let key = try #require(alice.keys.first)
            #expect(snapshot.holder(accessKey: key.id)?.user.name == "alice")
            let export = try #require(snapshot.exports.first?.export)
            #expect(export.path == "/default/a" && export.directory == "a" && export.durability == .store)
            #expect(
                export.clients.first?.flavors == [.system, .kerberosPrivacy] && export.clients.first?.squash == .all)
            #expect(snapshot.share("PAPERS")?.share.isHidden == true && snapshot.share("Default")?.volume == "default")
            #expect(snapshot.shares.map(\.share.name) == ["Papers", "default"])
            let papers = try #require(snapshot.share("papers")?.share)
            #expect(papers.isHidden && papers.allowsGuests && papers.hidesUnreadable && !papers.needsSigning)
            #expect(snapshot.volumes["default"]?.quotas.first?.limit.hardBytes == 1 << 40)
            // A newcomer never gets the SID of somebody who was.
            let sid = snapshot.users.sid(uid: alice.uid)
            try await registry.removeUser("alice")
            let bob = try await registry.addUser("bob", Self.change("x"), rights: ["default": .read])
            #expect(bob.uid == alice.uid && registry.snapshot.users.sid(uid: bob.uid) != sid)
            // Nor does one who comes after a restart.
            let eve = try await registry.addUser("eve", Self.change("x"), rights: ["default": .read])
            gone.add(registry.snapshot.users.sid(uid: eve.uid).description)
            try await registry.removeUser("eve")
            try await registry.removeExport("/default/a")
            try await registry.removeShare("papers")
            try await registry.removeQuota(.user(alice.uid), in: "default")
            try await volume.close()
        }
        simulation.killAndRestart()
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            let snapshot = registry.snapshot
            #expect(snapshot.users.allUsers.map(\.name) == ["bob"])
            #expect(snapshot.exports.isEmpty && snapshot.shares.map(\.share.name) == ["default"])
            #expect(snapshot.volumes["default"]?.quotas.isEmpty == true)
            let frank = try await registry.addUser("frank", Self.change("x"), rights: ["default": .read])
            #expect(gone.all.count == 1 && gone.all != [registry.snapshot.users.sid(uid: frank.uid).description])
            #expect(try await volume.check(readsData: true) { _ in }.count == 0)
            try await volume.close()
        }
    }

    /// A user follows each of the volumes on which there are rights; of several records the newest wins.
    @Test func usersFollowTheirVolumes() {
        let simulation = Simulation(seed: 12)
        live(simulation) { (world) async throws in
            let (a, b) = (try await Self.open(world, "a"), try await Self.open(world, "b"))
            let registry = Self.registry(world)
            _ = try await registry.attach(a.volume)
            _ = try await registry.attach(b.volume)
            _ = try await registry.addUser("alice", Self.change("old"), rights: ["a": .read, "b": [.read, .write]])
            _ = try await registry.addUser("only", Self.change("x"), rights: ["a": .read])
            // While a is away the secret changes.
            try await registry.detach("a")
            #expect(registry.snapshot.users.user("only") == nil)
            _ = try await registry.changeUser("alice", Self.change("new"))
            try await a.close()
            try await b.close()
        }
        simulation.killAndRestart()
        for order in [["a", "b"], ["b", "a"]] {
            live(simulation) { (world) async throws in
                let registry = Self.registry(world)
                var opened: [HostedVolume] = []
                for name in order {
                    let volume = try await Self.open(world, name)
                    opened.append(volume)
                    #expect(try await registry.attach(volume.volume).isEmpty)
                }
                let alice = try #require(registry.snapshot.users.user("alice"))
                #expect(registry.snapshot.secret(of: alice)?.revealed == "new", "\(order)")
                #expect(alice.rights == ["a": .read, "b": [.read, .write]])
                #expect(registry.snapshot.users.user("only") != nil)
                for volume in opened { try await volume.close() }
            }
            simulation.killAndRestart()
        }
        // What is deleted takes nobody along.
        live(simulation) { (world) async throws in
            let (a, b) = (try await Self.open(world, "a"), try await Self.open(world, "b"))
            let registry = Self.registry(world)
            _ = try await registry.attach(a.volume)
            _ = try await registry.attach(b.volume)
            try await registry.evacuate("a")
            try await registry.detach("a")
            #expect(registry.snapshot.users.user("only")?.rights.isEmpty == true)
            #expect(registry.snapshot.users.user("alice")?.rights == ["b": [.read, .write]])
        }
    }

    @Test func whatIsDeclaredWins() {
        let simulation = Simulation(seed: 13)
        func declared(_ secret: String) -> DeclaredUser {
            DeclaredUser(name: "carol", change: Self.change(secret), rights: ["default": .read], place: "p.toml:7:1")
        }
        let (first, second) = (declared("one"), declared("two"))
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            #expect(try await registry.declare([first]).isEmpty)
            let refused = RegistryError.declared("user carol", place: "p.toml:7:1")
            await #expect(throws: refused) { try await registry.changeUser("carol", Self.change("x")) }
            await #expect(throws: refused) { try await registry.removeUser("carol") }
            await #expect(throws: refused) { try await registry.grant("carol", "default", []) }
            await #expect(throws: refused) { try await registry.addUser("carol", Self.change("x"), rights: [:]) }
            #expect("\(refused)".contains("p.toml:7:1"))
            // Keys are no part of what is declared.
            _ = try await registry.addKey("carol", "default")
            let uid = registry.snapshot.users.user("carol")?.uid
            #expect(try await registry.declare([second]).isEmpty)
            let carol = try #require(registry.snapshot.users.user("carol"))
            #expect(registry.snapshot.secret(of: carol)?.revealed == "two" && carol.uid == uid && carol.keys.count == 1)
            try await volume.close()
        }
        simulation.killAndRestart()
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            #expect(registry.snapshot.user(smb: "carol") != nil)
            // The configuration names carol no more.
            #expect(try await registry.declare([]).isEmpty)
            #expect(registry.snapshot.user(smb: "carol") == nil && registry.snapshot.holder(accessKey: "carol") == nil)
            #expect(registry.snapshot.users.user("carol")?.isDisabled == true)
            try await volume.close()
        }
    }

    /// Secrets are nowhere in the bytes that are stored, and another server's key does not open them.
    @Test func secretsAreSealed() {
        let simulation = Simulation(seed: 14)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            _ = try await registry.addUser("alice", Self.change("correct horse"), rights: ["default": .read])
            let settings = VolumeSettings(volume.volume, clock: world.clock, loop: world.loops[0])
            let record = try #require(try await settings.value("user/alice"))
            let text = String(decoding: record, as: UTF8.self)
            #expect(!text.contains("correct horse") && text.contains("alice"))
            let hash = NTHash.of("correct horse")
            #expect(!record.indices.contains { record[$0...].starts(with: hash) })
            let stranger = Self.registry(world, key: [UInt8](repeating: 8, count: 32))
            _ = try await stranger.attach(volume.volume)
            let alice = try #require(stranger.snapshot.users.user("alice"))
            #expect(stranger.snapshot.secret(of: alice) == nil && stranger.snapshot.user(smb: "alice") == nil)
            #expect("\(alice)".contains("correct horse") == false)
            // A record that is damaged costs itself alone, and is told.
            try await settings.set("user/alice", Array(record.dropLast()))
            try await settings.set("export/1", [99, 0, 0])
            let third = Self.registry(world)
            let problems = try await third.attach(volume.volume)
            #expect(problems.count == 2 && third.snapshot.users.count == 0)
        }
    }

    @Test func limitsAndBadWordsAreRefusals() {
        let simulation = Simulation(seed: 15)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            for name in ["", "a/b", "a:b", "a@b", "a\\b", "a\u{1}", String(repeating: "n", count: 65)] {
                await #expect(throws: RegistryError.self, "\(name)") {
                    try await registry.addUser(name, Self.change("x"), rights: [:])
                }
            }
            await #expect(throws: RegistryError.invalid("a user needs a secret")) {
                try await registry.addUser("a", UserChange(), rights: [:])
            }
            await #expect(throws: RegistryError.unknown("volume none")) {
                try await registry.addUser("a", Self.change("x"), rights: ["none": .read])
            }
            _ = try await registry.addUser("a", Self.change("x"), rights: ["default": .read])
            for _ in 0..<User.keysMax { _ = try await registry.addKey("a", "default") }
            await #expect(throws: RegistryError.self) { try await registry.addKey("a", "default") }
            #expect(registry.snapshot.users.user("a")?.keys.count == User.keysMax)
            for path in [
                "", "default", "/", "/default/../x", "/default/./x", "/" + String(repeating: "x", count: 2000),
            ] {
                await #expect(throws: RegistryError.self, "\(path)") {
                    try await registry.setExport(ExportRecord(path: path, clients: []), mustBeNew: true)
                }
            }
            let client = ExportRecord.Client("*")
            let most = [ExportRecord.Client](repeating: client, count: ExportRecord.clientsMax)
            _ = try await registry.setExport(ExportRecord(path: "/default", clients: most), mustBeNew: true)
            await #expect(throws: RegistryError.self) {
                try await registry.setExport(ExportRecord(path: "/default", clients: most + [client]), mustBeNew: false)
            }
            for name in ["", "a/b", "a*", String(repeating: "s", count: 81)] {
                await #expect(throws: RegistryError.self, "\(name)") {
                    try await registry.setShare(ShareRecord(name: name), in: "default", mustBeNew: true)
                }
            }
            await #expect(throws: RegistryError.self) {
                try await registry.setQuota(QuotaRecord(subject: .volume, limit: QuotaLimit()), in: "default")
            }
            await #expect(throws: RegistryError.self) {
                try await registry.setQuota(
                    QuotaRecord(subject: .volume, limit: QuotaLimit(softBytes: 2, hardBytes: 1)), in: "default")
            }
        }
    }

    /// Changes that come at once are made one after the other: none is lost.
    @Test func changesTakeTurns() {
        let simulation = Simulation(seed: 16)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<50 {
                    group.addTask {
                        _ = try await registry.addUser("u\(index)", Self.change("x"), rights: ["default": .read])
                    }
                }
                try await group.waitForAll()
            }
            #expect(Set(registry.snapshot.users.allUsers.map(\.uid)).count == 50)
        }
    }

    /// The host's users give numbers names; nobody gets in by them, and who is here already stays.
    @Test func usersOfTheHostAreNamesOnly() {
        let simulation = Simulation(seed: 17)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            let alice = try await registry.addUser("alice", Self.change("x"), rights: ["default": .read])
            let host = [
                User(name: "alice", uid: 1001, gid: 1001), User(name: "twin", uid: alice.uid, gid: 5),
                User(name: "hugo", uid: 1002, gid: 1002, groups: [27]),
            ]
            #expect(try await registry.setHostUsers(host) == 1)
            let users = registry.snapshot.users
            #expect(users.user(uid: 1002)?.name == "hugo" && users.user(uid: 1001) == nil)
            #expect(users.sid(uid: 1002) == .unknownUser(1002) && users.principal(.unknownUser(1002)) == .user(1002))
            #expect(registry.snapshot.user(smb: "hugo") == nil && registry.snapshot.holder(accessKey: "hugo") == nil)
            await #expect(throws: RegistryError.declared("user hugo", place: Registry.hostPlace)) {
                try await registry.grant("hugo", "default", .read)
            }
            await #expect(throws: RegistryError.declared("user hugo", place: Registry.hostPlace)) {
                _ = try await registry.addKey("hugo", "default")
            }
            // Groups likewise; the names of groups that are kept with a user's record are this server's own.
            _ = try await registry.addUser("bob", Self.change("x", groups: ["staff"]), rights: ["default": .read])
            let staff = try #require(registry.snapshot.users.group("staff"))
            let groups = [
                Group(name: "sudo", gid: 27), Group(name: "staff", gid: 50), Group(name: "other", gid: staff.gid),
            ]
            #expect(try await registry.setHostUsers(host, groups: groups) == 1)
            let named = registry.snapshot.users
            #expect(named.group(gid: 27)?.name == "sudo" && named.group("sudo")?.gid == 27)
            #expect(named.group("staff") == staff && named.group(gid: 50) == nil && named.group("other") == nil)
            #expect(named.sid(gid: 27) == .unknownGroup(27))
            _ = try await registry.changeUser("bob", Self.change(nil, groups: ["sudo"]))
            #expect(registry.snapshot.users.user("bob")?.groups == [27])
            try await registry.removeUser("bob")
            #expect(try await registry.setHostUsers([]) == 0)
            #expect(registry.snapshot.users.group("sudo") == nil && registry.snapshot.users.group("staff") != nil)
            #expect(registry.snapshot.users.allUsers.map(\.name) == ["alice"])
            let settings = VolumeSettings(volume.volume, clock: world.clock, loop: world.loops[0])
            #expect(try await settings.names("user/") == ["user/alice"])
        }
    }

    /// Who is made anew is somebody else: nothing of the one who was removed is let in again.
    @Test func aRemovedUserDoesNotComeBack() {
        let simulation = Simulation(seed: 18)
        live(simulation) { (world) async throws in
            let (a, b) = (try await Self.open(world, "a"), try await Self.open(world, "b"))
            let registry = Self.registry(world)
            _ = try await registry.attach(a.volume)
            _ = try await registry.attach(b.volume)
            _ = try await registry.addUser("alice", Self.change("old"), rights: ["a": .read, "b": .read])
            for _ in 0..<5 { _ = try await registry.changeUser("alice", Self.change("old again")) }
            let key = try await registry.addKey("alice", "b")
            try await registry.detach("b")
            try await registry.removeUser("alice")
            await world.loops[0].sleep(nanoseconds: 1_000_000_000)
            _ = try await registry.addUser("alice", Self.change("new"), rights: ["a": .read])
            #expect(try await registry.attach(b.volume).count == 1)
            for _ in 0..<2 {
                let alice = try #require(registry.snapshot.users.user("alice"))
                #expect(registry.snapshot.secret(of: alice)?.revealed == "new" && alice.rights == ["a": .read])
                #expect(registry.snapshot.holder(accessKey: key.id) == nil && alice.keys.isEmpty)
                _ = try await registry.grant("alice", "a", [.read, .write])
                _ = try await registry.grant("alice", "a", .read)
            }
            try await a.close()
            try await b.close()
        }
        simulation.killAndRestart()
        for order in [["a", "b"], ["b", "a"]] {
            live(simulation) { (world) async throws in
                let registry = Self.registry(world)
                var opened: [HostedVolume] = []
                for name in order {
                    opened.append(try await Self.open(world, name))
                    _ = try await registry.attach(opened[opened.count - 1].volume)
                }
                let alice = try #require(registry.snapshot.users.user("alice"))
                #expect(registry.snapshot.secret(of: alice)?.revealed == "new", "\(order)")
                #expect(alice.rights == ["a": .read] && alice.keys.isEmpty, "\(order)")
                for volume in opened { try await volume.close() }
            }
            simulation.killAndRestart()
        }
    }

    /// A volume that comes later brings nobody whom the configuration does not name any more.
    @Test func whoIsNotDeclaredAnyMoreStaysOut() {
        let simulation = Simulation(seed: 19)
        live(simulation) { (world) async throws in
            let (a, b) = (try await Self.open(world, "a"), try await Self.open(world, "b"))
            let before = Self.registry(world)
            _ = try await before.attach(b.volume)
            let carol = DeclaredUser(name: "carol", change: Self.change("x"), rights: ["b": .read], place: "p.toml:1")
            #expect(try await before.declare([carol]).isEmpty)
            _ = try await before.addUser("dave", Self.change("y"), rights: ["b": .read])
            let registry = Self.registry(world)
            _ = try await registry.attach(a.volume)
            #expect(try await registry.declare([]).isEmpty)
            _ = try await registry.attach(b.volume)
            #expect(registry.snapshot.user(smb: "carol") == nil && registry.snapshot.holder(accessKey: "carol") == nil)
            #expect(registry.snapshot.user(smb: "dave") != nil)
            // Named again she is let in again.
            #expect(try await registry.declare([carol]).isEmpty)
            #expect(registry.snapshot.user(smb: "carol") != nil)
            try await a.close()
            try await b.close()
        }
    }

    /// Which of two shares of one name a client gets is not left to chance.
    @Test func theSecondShareOfANameIsLeftOut() {
        let simulation = Simulation(seed: 20)
        live(simulation) { (world) async throws in
            let (a, b) = (try await Self.open(world, "a"), try await Self.open(world, "b"))
            for (volume, name) in [(a, "Papers"), (b, "papers")] {
                let registry = Self.registry(world)
                _ = try await registry.attach(volume.volume)
                _ = try await registry.setShare(
                    ShareRecord(name: name), in: volume.volume.name, mustBeNew: true)
            }
            for (first, second) in [(a, b), (b, a)] {
                let registry = Self.registry(world)
                #expect(try await registry.attach(first.volume).isEmpty)
                #expect(try await registry.attach(second.volume).count == 1)
                #expect(registry.snapshot.share("PAPERS")?.volume == first.volume.name)
                #expect(registry.snapshot.shares.count == 3)
            }
            try await a.close()
            try await b.close()
        }
    }

    /// What is stored can be read again: paths have a limit, and are kept without what means nothing.
    @Test func pathsOfSharesAndQuotasHaveALimit() {
        let simulation = Simulation(seed: 21)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world, "default")
            let registry = Self.registry(world)
            _ = try await registry.attach(volume.volume)
            let most = String(repeating: "d", count: ExportRecord.pathBytesMax)
            for path in [most + "d", String(repeating: "x/", count: 40_000), "a/../b", "a\u{0}"] {
                await #expect(throws: RegistryError.self) {
                    try await registry.setShare(
                        ShareRecord(name: "s", directory: path), in: "default", mustBeNew: true)
                }
                await #expect(throws: RegistryError.self) {
                    try await registry.setQuota(
                        QuotaRecord(subject: .user(1), path: path, limit: QuotaLimit(hardBytes: 1)), in: "default")
                }
            }
            let slashes = String(repeating: "/", count: 70_000)
            #expect(
                try await registry.setShare(
                    ShareRecord(name: "s", directory: slashes + most + slashes), in: "default", mustBeNew: true
                ).directory == most)
            try await registry.setQuota(
                QuotaRecord(subject: .user(1), path: slashes + "a//b", limit: QuotaLimit(hardBytes: 1)), in: "default")
            var client = ExportRecord.Client(String(repeating: "h", count: ExportRecord.hostBytesMax))
            _ = try await registry.setExport(ExportRecord(path: "/default", clients: [client]), mustBeNew: true)
            client.hosts += "h"
            await #expect(throws: RegistryError.self) {
                try await registry.setExport(ExportRecord(path: "/default", clients: [client]), mustBeNew: false)
            }
            let reader = Self.registry(world)
            #expect(try await reader.attach(volume.volume).isEmpty)
            #expect(reader.snapshot.share("s")?.share.directory == most)
            #expect(reader.snapshot.volumes["default"]?.quotas.first?.path == "a/b")
            try await volume.close()
        }
    }
}

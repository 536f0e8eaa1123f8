import Headhunter
import Logging
import Namespace
import ObjectStore
import Runtime
import Simulator
import Testing

/// A volume that another server owns, as front ends of a reader see it.
struct FollowedVolumeTests {
    private static let second: UInt64 = 1_000_000_000

    private static func live(_ body: @escaping @Sendable (_ owner: VolumeRig, _ reader: VolumeRig) async throws -> Void)
    {
        let done = Simulation(seed: 1).perform(for: 3_600_000_000_000) { world -> Bool in
            do {
                let memory = MemoryStore(world: world, loop: world.loops[0])
                var options = HeadhunterOptions()
                options.checkpointNanoseconds = second
                let owner = try await HostedVolume.open(
                    "v", folder: "v", durability: .log, world: world, loop: world.loops[0], options: options,
                    connect: { ObjectStore(memory, world: world, loop: world.loops[0]) })
                let rig = VolumeRig(world: world, hosted: owner)
                _ = try await rig.make("first")
                await world.loops[0].sleep(nanoseconds: 5 * second)
                let transport = ReadOnlyTransport(memory)
                options.follows = true
                let reader = try await HostedVolume.open(
                    "r", folder: "r", durability: .log, world: world, loop: world.loops[0], options: options,
                    mayMake: false, connect: { ObjectStore(transport, world: world, loop: world.loops[0]) })
                try await body(rig, VolumeRig(world: world, hosted: reader))
                try await reader.close()
                #expect(transport.refused == 0)
                try await owner.close()
            } catch { Issue.record("\(error)") }
            return true
        }
        #expect(done == true)
    }

    /// Rights and content are those of the owner's newest state; what a look before has seen is not believed for longer.
    /// `hasMounts`: all changes have numbers then.
    @Test(arguments: [false, true]) func whatChangesThere(_ hasMounts: Bool) {
        Self.live { owner, reader in
            let directory = try await owner.make("d", type: .directory, mode: 0o755)
            let file = try await owner.make("f", mode: 0o644, in: directory)
            try await owner.write(file, "one", by: owner.caller())
            let (shown, covered) = (
                try await owner.make("shown", type: .directory), try await owner.make("covered", type: .directory)
            )
            await owner.loop.sleep(nanoseconds: 20 * Self.second)
            if hasMounts {
                let fault = try await reader.done {
                    reader.hosted.tree.bind(
                        shown, on: covered, number: MountTree.firstSubvolume, reader.caller().request)
                }
                #expect(fault == nil)
            }
            #expect(try await reader.read(file, by: reader.caller(5)) == "one")
            func look() async -> FileError? {
                await reader.error { with("f") { reader.volume.lookup(reader.caller(5), in: directory, $0) } }
            }
            for _ in 0..<3 { #expect(await look() == nil) }
            var closed = NewAttributes()
            closed.mode = 0o700
            _ = try await owner.set(directory, closed)
            try await owner.write(file, "two", by: owner.caller())
            await owner.loop.sleep(nanoseconds: 20 * Self.second)
            #expect(await look() == .accessDenied)
            #expect(try await reader.read(file, by: reader.caller()) == "two")
            #expect(reader.hosted.shown.map { $0.age < 15 * Self.second && $0.header > 1 } == true)
            #expect(owner.hosted.shown == nil)
        }
    }

    /// Sums are the owner's, those too that were on their way up the tree.
    @Test func sumsAreTheOwners() {
        Self.live { owner, reader in
            var directory = owner.root
            for name in ["a", "b", "c"] { directory = try await owner.make(name, type: .directory, in: directory) }
            for round in 0..<6 {
                for number in 0..<10 {
                    let file = try await owner.make("f\(round)-\(number)", in: directory)
                    try await owner.write(file, "some text", by: owner.caller())
                }
                await owner.loop.sleep(nanoseconds: 10 * Self.second)
                let (mine, its) = (try await owner.hosted.totals(), try await reader.hosted.totals())
                #expect(mine == its && its.files == UInt64(round + 1) * 10 + 1)
            }
        }
    }

    /// What is on its way in one state and in the next is that of the next.
    @Test func sumsOnTheirWayAreOfTheStateThatIsShown() {
        Self.live { owner, reader in
            var directory = owner.root
            for name in ["a", "b", "c"] { directory = try await owner.make(name, type: .directory, in: directory) }
            for round in 1...3 as ClosedRange<UInt64> {
                await owner.loop.sleep(nanoseconds: 10 * Self.second)
                let file = try await owner.make("f\(round)", in: directory)
                try await owner.write(file, "some text", by: owner.caller())
                // Nothing goes up meanwhile.
                #expect(try await owner.hosted.freeze())
                await owner.loop.sleep(nanoseconds: 10 * Self.second)
                let (mine, its) = (try await owner.hosted.totals(), try await reader.hosted.totals())
                #expect(mine == its && its.files == round + 1)
                owner.hosted.release()
            }
        }
    }

    /// No change is taken and no lease is granted: nobody would be told when the owner changes the file.
    @Test func nothingIsPromised() {
        Self.live { owner, reader in
            let file = try await owner.make("f", mode: 0o666)
            await owner.loop.sleep(nanoseconds: 20 * Self.second)
            #expect(reader.volume.isReadOnly)
            #expect(await reader.writeError(file, "x", by: reader.caller()) == .readOnly)
            #expect(await reader.removeError("f") == .readOnly)
            #expect(
                await reader.error {
                    with("new") {
                        reader.volume.create(reader.caller(), in: reader.root, $0, NewFile(type: .file, mode: 0o666))
                    }
                } == .readOnly)
            var intent = OpenIntent(.open, access: .readData, client: 7)
            intent.lease = LeaseWish(
                LeaseKey(client: 7, key: 9), .lease, .all, holder: LeaseHolder(loop: reader.loop, tell: { _ in }))
            #expect(try await owner.open("f", intent).lease == .all)
            #expect(try await reader.open("f", intent).lease == [])
        }
    }

    /// Who is declared here has what is declared, though the volume keeps nothing of it; who is not is its owner's to change.
    @Test func usersOfTheConfiguration() {
        Self.live { owner, reader in
            let registry = Registry(
                loop: reader.loop, clock: reader.world.clock, random: reader.world.random,
                seal: SealingKey(key: RegistryTests.key, random: reader.world.random))
            let own = try await HostedVolume.open(
                "own", folder: "own", durability: .log, world: reader.world, loop: reader.loop)
            _ = try await registry.attach(reader.volume)
            _ = try await registry.attach(own.volume)
            var change = UserChange()
            change.secret = Secret("x")
            let carol = DeclaredUser(name: "carol", change: change, rights: ["r": [.read, .write]], place: "p.toml:1")
            #expect(try await registry.declare([carol]).isEmpty)
            let known = try #require(registry.snapshot.users.user("carol"))
            #expect(known.rights["r"] != nil && registry.snapshot.secret(of: known)?.revealed == "x")
            #expect(registry.snapshot.holder(accessKey: "carol") != nil || registry.snapshot.user(smb: "carol") != nil)
            await #expect(throws: RegistryError.volume("r", .readOnly)) { try await registry.addKey("carol", "r") }
            await #expect(throws: RegistryError.self) {
                try await registry.addUser("dave", change, rights: ["r": .read])
            }
            try await own.close()
        }
    }
}

import Bytes
import Headhunter
import Namespace
import Runtime
import Simulator
import Testing

/// Care of volumes on a simulated machine.
@Suite struct HostedVolumeTests {
    private static func open(_ world: World) async throws -> HostedVolume {
        try await HostedVolume.open("v", folder: "v", durability: .log, world: world, loop: world.loops[0])
    }

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

    private static func done<Value>(_ attempt: () -> Attempt<Value>) async throws -> Value {
        while true {
            switch attempt() {
            case .done(let value, _): return value
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    /// A file with data of its own in a segment.
    private static func write(_ name: String, _ volume: HostedVolume, _ count: Int) async throws -> FileID {
        let files = volume.volume.fileSystem
        let request = Request(reader: 0, now: 1)
        let bytes = Array(name.utf8)
        let file = try await done {
            bytes.withUnsafeBytes {
                files.create(request, in: files.root, $0, NewFile(type: .file, mode: 0o644), uid: 1, gid: 1, .exclusive)
            }
        }.file.file
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        _ = try await done { data.withUnsafeBytes { files.write(request, file, at: 0, $0) } }
        _ = try await files.flush(file)
        return file
    }

    private static func files(_ world: World) throws -> [String] {
        var directories = ["v/store"]
        var found: [String] = []
        while let directory = directories.popLast() {
            try world.disk.list(directory) { name, kind in
                if kind == .directory {
                    directories.append("\(directory)/\(name)")
                } else {
                    found.append("\(directory)/\(name)")
                }
                return true
            }
        }
        return found.sorted()
    }

    /// A bit that flips in a file's data is found, and the file named by its path.
    @Test func aFlippedBitIsNamed() {
        let simulation = Simulation(seed: 21)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world)
            let file = try await Self.write("precious", volume, 200_000)
            _ = try await Self.write("other", volume, 200_000)
            try await volume.checkpoint()
            let ranges = try #require(try await volume.layout(file, limit: 10))
            #expect(ranges.first?.start == 0 && ranges.last?.end == 200_000)
            let totals = try await volume.totals()
            #expect(totals.files == 2 && totals.directories == 0 && totals.bytes == 400_000)
            try await volume.close()
        }
        simulation.killAndRestart()
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world)
            #expect(try await volume.check(readsData: true) { _ in }.count == 0)
            try await volume.close()
            let paths = try Self.files(world)
            var segment: (path: String, size: UInt64) = ("", 0)
            for path in paths {
                let size = try world.disk.status(path).size
                if size > segment.size { segment = (path, size) }
            }
            #expect(segment.size >= 400_000)
            let object = try world.disk.open(segment.path, [.write])
            let block = Block(capacity: 1)
            block.count = try object.read(into: block.free, at: 100_000)
            let flipped = block.bytes[0] ^ 4
            withUnsafeBytes(of: flipped) { byte in try? object.write(byte, at: 100_000) }
            object.close()
        }
        simulation.killAndRestart()
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world)
            let findings = try await volume.check(readsData: true) { _ in }
            #expect(findings.count == 1)
            let path = findings.differences.first?.path
            #expect(path == "/precious" || path == "/other")
            // Without the data it can not be seen.
            #expect(try await volume.check(readsData: false) { _ in }.count == 0)
            try await volume.close()
        }
    }

    /// While it stands still nothing that is stored changes and changes wait; then they go on.
    @Test func aFrozenVolumeStandsStill() {
        let simulation = Simulation(seed: 22)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world)
            _ = try await Self.write("before", volume, 100_000)
            #expect(try await volume.freeze())
            #expect(volume.isFrozen)
            let stored = try Self.files(world)
            let loop = world.loops[0]
            let isDone = Guarded(false)
            let change = loop.task { () async throws -> Void in
                _ = try await Self.write("after", volume, 100_000)
                isDone.withLock { $0 = true }
            }
            await loop.sleep(nanoseconds: 60_000_000_000)
            #expect(!isDone.withLock { $0 })
            #expect(try Self.files(world) == stored)
            #expect(try await volume.totals().files == 1)
            volume.release()
            try await change.value
            #expect(try await volume.totals().files == 2)
            #expect(try await volume.check(readsData: true) { _ in }.count == 0)
            // A close does not wait for a release.
            #expect(try await volume.freeze())
            try await volume.close()
        }
    }

    /// Who asks a second time is answered when the volume stands still, too, not before.
    @Test func aSecondFreezeWaitsForTheFirst() {
        let simulation = Simulation(seed: 23)
        live(simulation) { (world) async throws in
            let volume = try await Self.open(world)
            for index in 0..<20 { _ = try await Self.write("f\(index)", volume, 100_000) }
            let loop = world.loops[0]
            let first = loop.task { () async throws -> Bool in try await volume.freeze() }
            // The first is under way now.
            while !volume.isFrozen { await Task.yield() }
            #expect(try await volume.freeze())
            let stored = try Self.files(world)
            await loop.sleep(nanoseconds: 60_000_000_000)
            #expect(try Self.files(world) == stored)
            #expect(try await first.value)
            // Released on the way it stands still for nobody.
            volume.release()
            _ = try await Self.write("more", volume, 100_000)
            let second = loop.task { () async throws -> Bool in try await volume.freeze() }
            while !volume.isFrozen { await Task.yield() }
            volume.release()
            #expect(try await second.value == false)
            try await volume.close()
        }
    }

    /// The power goes when the volume is just open: its folder is there all the same, whatever the disk forgets.
    @Test(arguments: 24..<56 as Range<UInt64>) func theFolderOfANewVolumeIsSynced(_ seed: UInt64) {
        let simulation = Simulation(seed: seed)
        live(simulation) { (world) async throws in
            try world.disk.makeDirectory("volumes")
            try world.disk.syncDirectory("")
            let volume = try await HostedVolume.open(
                "v", folder: "volumes/v", durability: .log, world: world, loop: world.loops[0])
            #expect(try await volume.totals().files == 0)
        }
        simulation.crash()
        simulation.restart()
        live(simulation) { (world) async throws in
            #expect(try world.disk.status("volumes/v").kind == .directory)
        }
    }
}

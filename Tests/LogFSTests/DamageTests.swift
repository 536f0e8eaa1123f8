import Bytes
import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// Volumes that were damaged, replaced or overtaken from outside: each says what is wrong, and loses nothing that is there.
struct DamageTests {
    private static let size = 300_000

    /// Files whose data is in the store, and one more that is in the log and the stage only.
    private static func fill(_ world: World, closing: Bool) async throws -> Headhunter {
        let volume = try await Bench.volume(world)
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        for index in 0..<12 { try await write(files, "f\(index)", UInt8(index + 1)) }
        try await volume.checkpoint()
        try await write(files, "late", 99)
        if closing { try await volume.close() }
        return volume
    }

    private static func write(_ files: LogFS, _ name: String, _ fill: UInt8) async throws {
        let made = try await outcome(files) { request in
            with(Array(name.utf8)) {
                files.create(request, in: files.rootID, $0, NewFile(type: .file, mode: 0o644, uid: 0, gid: 0))
            }
        }
        let bytes = [UInt8](repeating: fill, count: size)
        let file = try made.get().inode.id
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try await files.writeAll(file, at: 0, UnsafeRawBufferPointer(memory), now: 1)
        try await files.sync(file, .durable)
    }

    /// The first byte of each file by name; nil where reading ended in an error.
    private static func read(_ files: LogFS) async throws -> [String: UInt8?] {
        var found: [String: UInt8?] = [:]
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 1, alignment: 16)
        defer { memory.deallocate() }
        for name in (0..<12).map({ "f\($0)" }) + ["late"] {
            guard
                case .success(let inode) = try await outcome(
                    files,
                    { request in
                        with(Array(name.utf8)) { files.lookup(request, in: files.rootID, $0) }
                    })
            else { continue }
            do {
                let count = try await files.readAll(inode.id, at: 0, into: memory)
                let isWhole = count == size && memory[..<count].allSatisfy { $0 == memory[0] }
                found[name] = .some(isWhole ? memory[0] : nil)
            } catch {
                found[name] = .some(nil)
            }
        }
        return found
    }

    private static func open(_ world: World, log: String = "log") async -> Result<[String: UInt8?], any Error> {
        do {
            let volume = try await Bench.volume(world, log: log)
            let files = try await LogFS.open(volume, world: world, subvolume: 1)
            let found = try await read(files)
            try await volume.close()
            return .success(found)
        } catch { return .failure(error) }
    }

    private static let whole: [String: UInt8?] = Dictionary(
        uniqueKeysWithValues: (0..<12).map { ("f\($0)", .some(UInt8($0 + 1))) } + [("late", .some(99))])

    private static func filled(closing: Bool) throws -> Simulation {
        let simulation = Simulation(seed: 21)
        Bench.prepare(simulation)
        let failure = try #require(
            simulation.perform { world -> String? in
                do { _ = try await fill(world, closing: closing) } catch { return "\(error)" }
                return nil
            })
        #expect(failure == nil)
        if closing {
            simulation.killAndRestart()
        } else {
            simulation.crash()
            simulation.restart()
        }
        return simulation
    }

    /// Changes bytes of a file of the simulated disk, durably.
    private static func patch(
        _ simulation: Simulation, _ path: String, _ change: @escaping @Sendable (inout [UInt8]) -> Void
    ) {
        let done = simulation.perform { world -> Bool in
            do throws(Errno) {
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    let file = try world.disk.open(path, [.write])
                    defer { file.close() }
                    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
                    defer { memory.deallocate() }
                    let count = try file.read(into: memory, at: 0)
                    var bytes = Array(memory[..<count])
                    change(&bytes)
                    memory.copyBytes(from: bytes)
                    try file.write(UnsafeRawBufferPointer(rebasing: memory[..<count]), at: 0)
                    try file.sync()
                }
                return true
            } catch { return false }
        }
        #expect(done == true, "\(path)")
    }

    private static func paths(_ simulation: Simulation, _ part: String, in folder: String) -> [String] {
        simulation.files(below: folder).map(\.path).filter { $0.contains(part) }.sorted()
    }

    private static func refusal(_ simulation: Simulation) throws -> VolumeError? {
        let result = try #require(simulation.perform { await open($0) })
        switch result {
        case .success(let found):
            Issue.record("opened, with \(found.count) files")
            return nil
        case .failure(let error): return error as? VolumeError
        }
    }

    private static func expectWhole(_ simulation: Simulation, log: String = "log") throws {
        let result = try #require(simulation.perform { await open($0, log: log) })
        #expect(try result.get() == whole)
    }

    // MARK: What another program wrote

    @Test func headerOfANewerProgram() throws {
        let simulation = try Self.filled(closing: true)
        let newest = try #require(Self.paths(simulation, "header", in: "store").last)
        let before = simulation.files(below: "").map(\.path).sorted()
        Self.patch(simulation, newest) { $0[4] = 99 }
        let error = try Self.refusal(simulation)
        guard case .unknownFormat(let text)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(text.contains("header") && text.contains("version 99"), "\(text)")
        #expect(simulation.files(below: "").map(\.path).sorted() == before, "opening it in vain changed something")
        Self.patch(simulation, newest) { $0[4] = 3 }
        try Self.expectWhole(simulation)
    }

    private static func sign(_ header: inout [UInt8]) {
        let sum = header.withUnsafeBytes { CRC32C.of(UnsafeRawBufferPointer(rebasing: $0[..<56])) }
        for index in 0..<4 { header[56 + index] = UInt8(truncatingIfNeeded: sum >> (8 * index)) }
    }

    @Test func logOfANewerProgram() throws {
        let simulation = try Self.filled(closing: false)
        let log = try #require(Self.paths(simulation, ".log", in: "log").last)
        Self.patch(simulation, log) {
            $0[4] = 2
            Self.sign(&$0)
        }
        let error = try Self.refusal(simulation)
        guard case .unknownFormat(let text)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(text.contains(log) && text.contains("version 2"), "\(text)")
        Self.patch(simulation, log) {
            $0[4] = 1
            Self.sign(&$0)
        }
        try Self.expectWhole(simulation)
    }

    @Test func logOfAnotherVolume() throws {
        let simulation = try Self.filled(closing: false)
        let log = try #require(Self.paths(simulation, ".log", in: "log").last)
        Self.patch(simulation, log) {
            $0[40] ^= 1
            Self.sign(&$0)
        }
        #expect(try Self.refusal(simulation) == .damaged("the replay log \(log) belongs to another volume"))
        Self.patch(simulation, log) {
            $0[40] ^= 1
            Self.sign(&$0)
        }
        try Self.expectWhole(simulation)
    }

    /// The records behind a damaged header are whole, and say that they were durable: nobody may pass over them. All of them
    /// are newer than the checkpoint, which so knows of none.
    @Test func logWithADamagedHeader() throws {
        let simulation = Simulation(seed: 25)
        Bench.prepare(simulation)
        let failure = try #require(
            simulation.perform { world -> String? in
                do {
                    let volume = try await Bench.volume(world, small: false)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    for index in 0..<4 { try await Self.write(files, "f\(index)", UInt8(index + 1)) }
                    guard volume.storedBelow <= volume.log.durable else { return "a checkpoint came between" }
                } catch { return "\(error)" }
                return nil
            })
        #expect(failure == nil)
        simulation.crash()
        simulation.restart()
        let logs = Self.paths(simulation, ".log", in: "log")
        let log = try #require(logs.last)
        #expect(logs.count == 2, "one that says where the log begins, and its first: \(logs)")
        Self.patch(simulation, log) { $0[20] ^= 1 }
        let error = try Self.refusal(simulation)
        guard case .damaged(let text)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(text.contains("was durable"), "\(text)")
        Self.patch(simulation, log) { $0[20] ^= 1 }
        let found = try #require(simulation.perform { await Self.open($0) }).get()
        #expect(found == Self.whole.filter { ["f0", "f1", "f2", "f3"].contains($0.key) })
    }

    /// A record whose bytes were lost with the power ends the log. It stays in its file, whole, while its segment goes to the store without
    /// those bytes: read once more, it would be damage.
    @Test func whatWasCutStaysCut() throws {
        let simulation = Simulation(seed: 22)
        Bench.prepare(simulation)
        let failure = try #require(
            simulation.perform { world -> String? in
                do {
                    let volume = try await Bench.volume(world, small: false)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    let kept = try await Planted.make(files, files.rootID, "late")
                    let cut = try await Planted.make(files, files.rootID, "f1")
                    try await Planted.write(files, kept.id, Self.size, 99)
                    // One record, and none before it that would be written once more.
                    try await Planted.write(files, cut.id, Self.size, 2, .written)
                } catch { return "\(error)" }
                return nil
            })
        #expect(failure == nil)
        simulation.killAndRestart()
        let stages = simulation.files(below: "log").filter { $0.path.hasSuffix(".stage") }
        let stage = try #require(stages.first)
        #expect(stages.count == 1 && stage.size > UInt64(2 * Self.size), "one segment has both")
        #expect(simulation.flipBit(of: stage.path, at: stage.size - 1, bit: 3))
        // The next process ends when the segment is in the store and nothing else has been written.
        let world = simulation.world
        simulation.loop.task {
            let volume = try await Bench.volume(world, small: false)
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            try await volume.close()
        }
        let isThere = simulation.run(for: 5_000_000_000) {
            !Self.paths(simulation, "segment/", in: "store").isEmpty
        }
        #expect(isThere)
        simulation.killAndRestart()
        for life in 1...3 {
            let found = try #require(simulation.perform { await Self.open($0) }).get()
            #expect(found["late"] == .some(99), "life \(life)")
            #expect(found["f1"] == nil || found["f1"] == .some(nil), "life \(life)")
            simulation.killAndRestart()
        }
    }

    // MARK: What is missing

    @Test func aSegmentIsMissing() throws {
        let simulation = try Self.filled(closing: true)
        let segments = Self.paths(simulation, "segment", in: "store")
        #expect(segments.count >= 2)
        simulation.destroy(segments[0])
        let found = try #require(simulation.perform { await Self.open($0) }).get()
        #expect(found.count == 13, "names and attributes are all there")
        var unread: Set<String> = []
        for (name, byte) in found {
            if byte == nil { unread.insert(name) } else { #expect(byte == Self.whole[name], "\(name)") }
        }
        #expect(!unread.isEmpty && unread.count < 13, "\(unread)")
        // And the check names just these.
        let named = try #require(
            simulation.perform { world -> Set<String> in
                do {
                    let volume = try await Bench.volume(world)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    let check = try await Check.run(files, readsData: true)
                    var paths: Set<String> = []
                    for difference in check.differences {
                        guard case .unreadable(let inode, _, _) = difference else { continue }
                        paths.insert(await check.path(of: inode))
                    }
                    try await volume.close()
                    return paths
                } catch {
                    Issue.record("\(error)")
                    return []
                }
            })
        #expect(named == Set(unread.map { "/" + $0 }), "\(named)")
    }

    /// Whatever is in the trees is missed by name, or was not needed: nothing that was there is told not to be.
    @Test func aMetadataObjectIsMissing() throws {
        let whole = try Self.filled(closing: true)
        let objects = Self.paths(whole, "meta", in: "store")
        #expect(!objects.isEmpty)
        var missed = 0
        for path in objects {
            let simulation = Simulation(copying: whole, seed: 1, faults: .none)
            simulation.destroy(path)
            let opened = try #require(simulation.perform { await Self.open($0) })
            switch opened {
            case .success(let found): #expect(found == Self.whole, "without \(path)")
            case .failure(let error):
                missed += 1
                let text = "\(error)"
                #expect(text.contains("meta/"), "without \(path): \(text)")
            }
        }
        #expect(missed > 0)
    }

    /// The one before it is older than what its log has: it does not stand in for it in silence.
    @Test func theNewestHeaderIsMissing() throws {
        let simulation = try Self.filled(closing: true)
        let newest = try #require(Self.paths(simulation, "header", in: "store").last)
        simulation.destroy(newest)
        switch try #require(simulation.perform { await Self.open($0) }) {
        case .success(let files): #expect(files == Self.whole)
        case .failure(let error):
            guard case .damaged(let text)? = error as? VolumeError else {
                Issue.record("\(error)")
                return
            }
            #expect(!text.isEmpty)
        }
    }

    @Test func theNewestHeaderIsDamaged() throws {
        let simulation = try Self.filled(closing: true)
        let newest = try #require(Self.paths(simulation, "header", in: "store").last)
        Self.patch(simulation, newest) { $0[100] ^= 4 }
        let error = try Self.refusal(simulation)
        guard case .damaged(let text)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(text.contains("header"), "\(text)")
    }

    // MARK: What others do meanwhile

    private static func copyLog(_ world: World, to target: String) async throws {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
            try world.disk.makeDirectory(target)
            var names: [String] = []
            try world.disk.list("log") { name, kind in
                if kind == .file { names.append(name) }
                return true
            }
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
            defer { memory.deallocate() }
            for name in names {
                let from = try world.disk.open("log/" + name, [])
                let to = try world.disk.open(target + "/" + name, [.write, .create])
                let count = try from.read(into: memory, at: 0)
                try to.write(UnsafeRawBufferPointer(rebasing: memory[..<count]), at: 0)
                try to.sync()
            }
            try world.disk.syncDirectory(target)
            try world.disk.syncDirectory("")
        }
    }

    /// The one before learns it at its next checkpoint, takes no change from then on, and destroys nothing.
    @Test func aSecondOwner() throws {
        let simulation = Simulation(seed: 22)
        Bench.prepare(simulation)
        let done = simulation.perform { world -> String? in
            do {
                let first = try await Self.fill(world, closing: false)
                let old = try await LogFS.open(first, world: world, subvolume: 1)
                try await first.checkpoint()
                try await Self.copyLog(world, to: "elsewhere")
                let second = try await Bench.volume(world, log: "elsewhere")
                let new = try await LogFS.open(second, world: world, subvolume: 1)
                do {
                    try await first.checkpoint()
                    return "the first owner made a checkpoint"
                } catch { guard error as? VolumeError == .fenced else { return "\(error)" } }
                do {
                    try await Self.write(old, "zombie", 1)
                    return "the first owner took a change"
                } catch { guard error as? VolumeError == .fenced else { return "\(error)" } }
                try await Self.write(new, "alive", 1)
                guard try await Self.read(new) == Self.whole else { return "the second owner misses something" }
                try await second.close()
                return nil
            } catch { return "\(error)" }
        }
        let problem = try #require(done)
        #expect(problem == nil)
        simulation.killAndRestart()
        try Self.expectWhole(simulation, log: "elsewhere")
    }

    /// Times follow the clock; what tells changes apart goes on rising.
    @Test func theClockGoesBack() throws {
        let simulation = Simulation(seed: 23)
        Bench.prepare(simulation)
        let done = simulation.perform { world -> String? in
            do {
                let volume = try await Self.fill(world, closing: false)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                func look() async throws -> Inode {
                    try await outcome(files) { request in
                        with(Array("f3".utf8)) { files.lookup(request, in: files.rootID, $0) }
                    }.get()
                }
                let before = try await look()
                simulation.jumpWallClock(by: -86_400_000_000_000)
                let byte: [UInt8] = [4]
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1, alignment: 16)
                defer { memory.deallocate() }
                memory.copyBytes(from: byte)
                try await files.writeAll(
                    before.id, at: 0, UnsafeRawBufferPointer(memory), now: world.clock.wall())
                try await files.sync(before.id, .durable)
                let after = try await look()
                guard after.change > before.change else { return "\(after.change) after \(before.change)" }
                try await volume.checkpoint()
                return nil
            } catch { return "\(error)" }
        }
        let problem = try #require(done)
        #expect(problem == nil)
        simulation.crash()
        simulation.restart()
        try Self.expectWhole(simulation)
    }

    // MARK: What the disk refuses

    /// The log can not be synced any more, in its file or a new one: who waits is told, nothing more is taken, and
    /// what is there can be read.
    @Test func everySyncFails() throws {
        let simulation = Simulation(seed: 24)
        Bench.prepare(simulation)
        let done = simulation.perform { world -> String? in
            do {
                let volume = try await Self.fill(world, closing: false)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                simulation.faults.failedSync = 1
                do {
                    try await Self.write(files, "lost", 1)
                    return "a sync that failed was answered"
                } catch {}
                do {
                    try await Self.write(files, "refused", 1)
                    return "a change was taken"
                } catch { guard case .volume(.readOnly)? = error as? Failure else { return "\(error)" } }
                guard try await Self.read(files) == Self.whole else { return "reads do not go on" }
                return nil
            } catch { return "\(error)" }
        }
        let problem = try #require(done)
        #expect(problem == nil)
        simulation.faults.failedSync = 0
        simulation.crash()
        simulation.restart()
        try Self.expectWhole(simulation)
    }
}

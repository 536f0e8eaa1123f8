import Headhunter
import LogFS
import Runtime
import Simulator

/// Files in a simulated world that fails and loses power, against a list of all the states that they went through.
///
/// After each crash the files must be in one of these states, not before the last one that was synced; or between two
/// of them, where one operation takes several steps.
struct FileTrial {
    struct File: Equatable {
        var content: [UInt8] = []
        var attribute: [UInt8]?
    }

    typealias State = [String: File]

    final class Model: @unchecked Sendable {
        /// States in their order; the first one is what survived last time.
        var states: [State] = [[:]]
        var synced = 0
        /// Written and not flushed.
        var pending: [String: [(offset: Int, bytes: [UInt8])]] = [:]
        var problems: [String] = []
        /// Operations that went through, by name.
        var counts: [String: Int] = [:]

        var last: State { states[states.count - 1] }
        func push(_ change: (inout State) -> Void) {
            var state = last
            change(&state)
            states.append(state)
        }

        /// The states that a file's flush goes through.
        func flush(_ path: String) {
            for write in pending.removeValue(forKey: path) ?? [] {
                push { state in
                    guard var file = state[path] else { return }
                    let end = write.offset + write.bytes.count
                    if file.content.count < end {
                        file.content += Array(repeating: 0, count: end - file.content.count)
                    }
                    file.content.replaceSubrange(write.offset..<end, with: write.bytes)
                    state[path] = file
                }
            }
        }
    }

    let simulation: Simulation
    private var random: Generator
    let model = Model()

    init(seed: UInt64, faults: FaultMix) {
        simulation = Simulation(seed: seed, faults: .none)
        random = Generator(seed: seed, stream: "files")
        Bench.prepare(simulation)
        let model = model
        let made = simulation.perform { world -> Bool in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                for name in ["a", "b"] {
                    _ = try await outcome(files) { request in
                        with(Array(name.utf8)) {
                            files.create(
                                request, in: files.rootID, $0, NewFile(type: .directory, mode: 0o755, uid: 0, gid: 0))
                        }
                    }
                }
                try await volume.close()
                return true
            } catch {
                return false
            }
        }
        if made != true { model.problems.append("the volume could not be made") }
        // The next owner must not meet what the first one left running.
        simulation.killAndRestart()
        simulation.faults = faults
    }

    mutating func run(lives: Int) {
        for life in 0..<lives {
            if random.below(5) > 0 { simulation.crashAtDiskCall = simulation.diskCalls + 1 + random.below(300) }
            self.life(steps: 20 + random.below(150))
            verify("seed \(simulation.seed), life \(life)")
            if !model.problems.isEmpty { return }
        }
    }

    mutating func life(steps: Int) {
        let model = model
        let seed = random.next()
        let finished = simulation.perform(for: 3_600_000_000_000) { world -> Bool in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        var worker = Worker(files: files, model: model, random: Generator(seed: seed))
                        for _ in 0..<steps {
                            do { try await worker.step() } catch { return }
                        }
                    }
                    group.addTask {
                        for _ in 0..<3 {
                            await world.loops[0].sleep(nanoseconds: 5_000_000)
                            do { try await volume.checkpoint() } catch { return }
                        }
                    }
                }
                if seed % 3 == 0 { try await volume.close() }
                return true
            } catch {
                return true
            }
        }
        if finished == nil {
            simulation.crash()
            simulation.restart()
        } else {
            simulation.killAndRestart()
        }
    }

    private struct Seen {
        var state: State
        var totals: Totals
        var differences: [Difference]
    }

    mutating func verify(_ what: String) {
        let faults = simulation.faults
        simulation.faults = .none
        let seen = simulation.perform { world -> Result<Seen, VerifyFailure> in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                let check = try await Check.run(files)
                let totals = try await outcome(files) { files.totals($0, files.rootID) }.get()
                var seen = Seen(state: [:], totals: totals, differences: check.differences)
                try await files.tidy()
                seen.differences += try await Check.run(files).differences
                for home in ["a", "b"] {
                    for name in Worker.names {
                        let path = "\(home)/\(name)"
                        if let file = try await Worker.read(files, path) { seen.state[path] = file }
                    }
                }
                return .success(seen)
            } catch {
                return .failure(VerifyFailure(text: "\(error)"))
            }
        }
        defer {
            simulation.killAndRestart()
            simulation.faults = faults
        }
        guard let seen, case .success(let found) = seen else {
            model.problems.append("\(what): the files do not open: \(String(describing: seen))")
            return
        }
        if !found.differences.isEmpty { model.problems.append("\(what): \(found.differences.prefix(5))") }
        let bytes = found.state.values.reduce(0) { $0 + Int64($1.content.count) }
        let wanted = Totals(files: Int64(found.state.count), directories: 2, bytes: bytes)
        if found.totals != wanted { model.problems.append("\(what): totals \(found.totals), wanted \(wanted)") }
        let later = model.states.indices.filter { $0 >= model.synced }
        let place = later.last { model.states[$0] == found.state }
        let between = later.dropLast().last { Self.lies(found.state, model.states[$0], model.states[$0 + 1]) }
        if place == nil, between == nil {
            let before = model.states.indices.contains { model.states[$0] == found.state }
            model.problems.append("\(what): \(before ? "synced changes are missing" : "no state that there ever was")")
        }
        model.states = [found.state]
        model.synced = 0
        model.pending.removeAll()
    }

    private struct VerifyFailure: Error { let text: String }

    /// Whether the files are between two states: one of them has bytes of both.
    private static func lies(_ seen: State, _ first: State, _ second: State) -> Bool {
        guard seen.keys == first.keys, first.keys == second.keys else { return false }
        for (path, file) in seen {
            guard let old = first[path], let new = second[path] else { return false }
            if file == old || file == new { continue }
            let count = file.content.count
            guard count >= min(old.content.count, new.content.count), count <= max(old.content.count, new.content.count)
            else { return false }
            for (index, byte) in file.content.enumerated() {
                let a = index < old.content.count ? old.content[index] : 0
                let b = index < new.content.count ? new.content[index] : 0
                if byte != a, byte != b { return false }
            }
        }
        return true
    }
}

/// What a life does, step by step.
private struct Worker {
    static let names = ["f0", "f1", "f2", "f3"]
    let files: LogFS
    let model: FileTrial.Model
    var random: Generator
    var now: Int64 = 1

    private mutating func path() -> String { "\(random.once(in: 2) ? "a" : "b")/\(Self.names[random.below(4)])" }

    private static func home(_ files: LogFS, _ path: String) async throws -> (FileID, [UInt8]) {
        let home = try await outcome(files) { request in
            with(Array(path.utf8.prefix(1))) { files.lookup(request, in: files.rootID, $0) }
        }.get()
        return (home.id, Array(path.utf8.dropFirst(2)))
    }

    private static func find(_ files: LogFS, _ path: String) async throws -> Inode? {
        let (home, name) = try await home(files, path)
        let found = try await outcome(files) { request in with(name) { files.lookup(request, in: home, $0) } }
        if case .success(let inode) = found { return inode }
        return nil
    }

    static func read(_ files: LogFS, _ path: String) async throws -> FileTrial.File? {
        guard let inode = try await find(files, path) else { return nil }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(inode.size) + 1, alignment: 16)
        defer { buffer.deallocate() }
        let count = try await files.readAll(inode.id, at: 0, into: buffer)
        var file = FileTrial.File(content: Array(buffer[..<count]))
        let value = try await outcome(files) { request in
            with(Array("user.x".utf8)) { files.attribute(request, inode.id, $0) }
        }
        if case .success(let bytes) = value { file.attribute = bytes }
        return file
    }

    mutating func step() async throws {
        now += 1
        let path = path()
        guard let inode = try await Self.find(files, path) else { return try await create(path) }
        switch random.below(100) {
        case 0..<36: try await write(path, inode)
        case 36..<48:
            model.flush(path)
            try await files.flush(inode.number)
            count("flush")
        case 48..<58:
            model.flush(path)
            // All that is in the tree is durable then, whoever brought it there.
            let place = model.states.count - 1
            try await files.sync(inode.id, .durable)
            model.synced = max(model.synced, place)
            count("sync")
        case 58..<66: try await resize(path, inode)
        case 66..<72: try await punch(path, inode)
        case 72..<78: try await clone(path, inode)
        case 78..<86: try await rename(path)
        case 86..<92: try await unlink(path)
        case 92..<96: try await attribute(path, inode)
        default: try await files.tidy()
        }
    }

    private func count(_ name: String) { model.counts[name, default: 0] += 1 }

    private mutating func create(_ path: String) async throws {
        let (home, name) = try await Self.home(files, path)
        model.push { $0[path] = FileTrial.File() }
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { files.create(request, in: home, $0, NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)) }
            }, now: now
        ).get()
        count("create")
    }

    private mutating func write(_ path: String, _ inode: Inode) async throws {
        let size = Int(inode.size)
        var offset = random.once(in: 3) ? size : random.below(size + 1)
        let length =
            random.once(in: 4) ? 65_536 + random.below(9_000) : 1 + random.below(random.once(in: 2) ? 100 : 3_000)
        if offset > 400_000 { offset = 0 }
        let seed = random.next()
        let bytes = (0..<length).map { UInt8(truncatingIfNeeded: (UInt64($0) &* 0x9E37_79B9 &+ seed) >> 11) | 1 }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try await files.writeAll(inode.id, at: UInt64(offset), UnsafeRawBufferPointer(memory), now: now)
        model.pending[path, default: []].append((offset, bytes))
        count("write")
    }

    private mutating func resize(_ path: String, _ inode: Inode) async throws {
        let size = random.once(in: 3) ? 0 : random.below(Int(inode.size) + 2_000)
        model.flush(path)
        model.push { state in
            guard var file = state[path] else { return }
            file.content =
                Array(file.content.prefix(size)) + Array(repeating: 0, count: max(0, size - file.content.count))
            state[path] = file
        }
        try await files.resize(inode.id, to: UInt64(size), now: now)
        count("resize")
    }

    private mutating func punch(_ path: String, _ inode: Inode) async throws {
        let offset = random.below(Int(inode.size) + 1)
        let length = random.below(20_000)
        model.flush(path)
        model.push { state in
            guard var file = state[path] else { return }
            for place in offset..<max(offset, min(offset + length, file.content.count)) { file.content[place] = 0 }
            state[path] = file
        }
        try await files.punch(inode.id, at: UInt64(offset), length: UInt64(length), now: now)
        count("punch")
    }

    private mutating func clone(_ path: String, _ inode: Inode) async throws {
        let other = self.path()
        guard other != path, let target = try await Self.find(files, other) else { return }
        // The one with the lower number is flushed first.
        for path in inode.number < target.number ? [path, other] : [other, path] { model.flush(path) }
        let from = random.below(Int(inode.size) + 1)
        let to = random.below(Int(target.size) + 1)
        let length = random.below(100_000)
        model.push { state in
            guard let source = state[path], var file = state[other] else { return }
            let part = source.content.dropFirst(from).prefix(length)
            guard !part.isEmpty else { return }
            if file.content.count < to + part.count {
                file.content += Array(repeating: 0, count: to + part.count - file.content.count)
            }
            file.content.replaceSubrange(to..<(to + part.count), with: part)
            state[other] = file
        }
        try await files.clone(
            from: inode.id, at: UInt64(from), length: UInt64(length), to: target.id, at: UInt64(to), now: now)
        count("clone")
    }

    private mutating func rename(_ path: String) async throws {
        let other = self.path()
        guard other != path else { return }
        let (home, name) = try await Self.home(files, path)
        let (newHome, newName) = try await Self.home(files, other)
        // A file that comes for another one brings its data along.
        if model.last[other] != nil { model.flush(path) }
        model.pending[other] = model.pending.removeValue(forKey: path)
        model.push { state in
            state[other] = state[path]
            state[path] = nil
        }
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { name in with(newName) { files.rename(request, from: home, name, to: newHome, $0) } }
            }, now: now
        ).get()
        count("rename")
    }

    private mutating func unlink(_ path: String) async throws {
        let (home, name) = try await Self.home(files, path)
        model.pending[path] = nil
        model.push { $0[path] = nil }
        _ = try await outcome(
            files, { [files] request in with(name) { files.unlink(request, in: home, $0) } }, now: now
        )
        .get()
        count("unlink")
    }

    private mutating func attribute(_ path: String, _ inode: Inode) async throws {
        let value = Array(repeating: UInt8(random.below(256)), count: random.below(random.once(in: 3) ? 9_000 : 40))
        model.push { $0[path]?.attribute = value }
        _ = try await outcome(
            files,
            { [files] request in
                with(Array("user.x".utf8)) { name in with(value) { files.setAttribute(request, inode.id, name, $0) } }
            }, now: now
        ).get()
        count("attribute")
    }
}

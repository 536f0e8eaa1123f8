import Headhunter
import LogFS
import Runtime
import Simulator

/// Files in a simulated world that fails and loses power, against a list of all the states that they went through.
///
/// After each crash the files must be in one of these states, not before the last one that was synced; or between two
/// of them, where one operation takes several steps.
package struct FileTrial {
    package struct File: Equatable {
        var content: [UInt8] = []
        var attribute: [UInt8]?
        var stream: [UInt8]?
    }

    /// Files by their names: one may have several.
    package struct State: Equatable {
        var names: [String: Int] = [:]
        var files: [Int: File] = [:]
        var directories: Set<String> = []
        private var next = 0

        var paths: [String] { names.keys.sorted() }

        subscript(path: String) -> File? {
            get { names[path].flatMap { files[$0] } }
            set {
                guard let newValue else { return remove(path) }
                if let id = names[path] {
                    files[id] = newValue
                } else {
                    while files[next] != nil { next += 1 }
                    names[path] = next
                    files[next] = newValue
                    next += 1
                }
            }
        }

        mutating func enter(_ path: String, _ id: Int, _ file: File) {
            names[path] = id
            files[id] = file
        }

        mutating func remove(_ path: String) {
            guard let id = names.removeValue(forKey: path), !names.values.contains(id) else { return }
            files[id] = nil
        }

        mutating func move(_ path: String, _ other: String) {
            guard names[path] != names[other] else { return }
            remove(other)
            names[other] = names.removeValue(forKey: path)
        }

        /// The names that each file has.
        private var groups: Set<[String]> {
            var groups: [Int: [String]] = [:]
            for path in paths { groups[names[path] ?? 0, default: []].append(path) }
            return Set(groups.values)
        }

        package static func == (a: State, b: State) -> Bool {
            a.directories == b.directories && a.names.count == b.names.count
                && a.names.keys.allSatisfy { b.names[$0] != nil && a[$0] == b[$0] } && a.groups == b.groups
        }
    }

    package final class Model: @unchecked Sendable {
        /// States in their order; the first one is what survived last time.
        var states: [State] = [State()]
        var synced = 0
        /// Written and not flushed, of each file.
        var pending: [Int: [(offset: Int, bytes: [UInt8])]] = [:]
        package var problems: [String] = []
        /// Operations that went through, by name.
        package var counts: [String: Int] = [:]

        var last: State { states[states.count - 1] }

        /// Forgets the states before the last one that was synced.
        func forgetOld() {
            states.removeFirst(synced)
            synced = 0
        }

        func push(_ change: (inout State) -> Void) {
            var state = last
            change(&state)
            states.append(state)
        }

        /// What of it can not be after what was promised.
        func judge(_ found: Seen, _ what: String) -> [String] {
            var problems: [String] = []
            if !found.differences.isEmpty { problems.append("\(what): \(found.differences.prefix(5))") }
            let bytes = found.state.files.values.reduce(0) { $0 + Int64($1.content.count) }
            let wanted = Totals(
                files: Int64(found.state.names.count), directories: 2 + Int64(found.state.directories.count),
                bytes: bytes, streams: found.state.files.values.reduce(0) { $0 + Int64($1.stream?.count ?? 0) })
            let streams = found.state.files.values.count { $0.stream != nil }
            let inodes = 3 + found.state.directories.count + found.state.files.count + streams
            if found.inodes != inodes { problems.append("\(what): \(found.inodes) inodes, wanted \(inodes)") }
            if found.totals != wanted { problems.append("\(what): totals \(found.totals), wanted \(wanted)") }
            let later = states.indices.filter { $0 >= synced }
            let place = later.last { states[$0] == found.state }
            let between = later.dropLast().last { FileTrial.lies(found.state, states[$0], states[$0 + 1]) }
            if place == nil, between == nil {
                let before = states.indices.contains { states[$0] == found.state }
                problems.append("\(what): \(before ? "synced changes are missing" : "no state that there ever was")")
            }
            return problems
        }

        /// The states that a file's flush goes through.
        func flush(_ path: String) {
            guard let id = last.names[path] else { return }
            for write in pending.removeValue(forKey: id) ?? [] {
                push { state in
                    guard var file = state.files[id] else { return }
                    let end = write.offset + write.bytes.count
                    if file.content.count < end {
                        file.content += Array(repeating: 0, count: end - file.content.count)
                    }
                    file.content.replaceSubrange(write.offset..<end, with: write.bytes)
                    state.files[id] = file
                }
            }
        }
    }

    package let simulation: Simulation
    private var random: Generator
    package let model = Model()
    /// The store goes wrong, too, while the program lives.
    package let trouble: StoreTrouble?
    let logIsInStore: Bool

    package init(seed: UInt64, faults: FaultMix, logIsInStore: Bool = false) {
        self.logIsInStore = logIsInStore
        trouble = faults.failedSync > 0 && seed % 3 == 0 ? .all(isStale: seed % 2 == 0, hasTokens: seed % 4 < 2) : nil
        simulation = Simulation(seed: seed, faults: .none)
        random = Generator(seed: seed, stream: "files")
        Bench.prepare(simulation)
        let made = simulation.perform { world -> Bool in
            do {
                let volume = try await Bench.volume(world, logIsInStore: logIsInStore)
                try await FileWorker.makeHomes(try await LogFS.open(volume, world: world, subvolume: 1))
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

    /// Goes on from what is on another one's disk; nothing of that one may be running.
    init(copying other: FileTrial, seed: UInt64, faults: FaultMix) {
        trouble = nil
        logIsInStore = other.logIsInStore
        simulation = Simulation(copying: other.simulation, seed: seed, faults: faults)
        random = Generator(seed: seed, stream: "files")
        model.states = [other.model.last]
    }

    package private(set) var lives = 0

    package mutating func run(lives: Int) {
        for life in 0..<lives {
            self.lives += 1
            if random.below(5) > 0 { simulation.crashAtDiskCall = simulation.diskCalls + 1 + random.below(300) }
            self.life(steps: 20 + random.below(150))
            verify("seed \(simulation.seed), life \(life)")
            if !model.problems.isEmpty { return }
        }
    }

    package mutating func life(steps: Int) {
        let model = model
        let seed = random.next()
        let (trouble, logIsInStore) = (trouble, logIsInStore)
        let finished = simulation.perform(for: 3_600_000_000_000) { world -> Bool in
            do {
                let volume = try await Bench.volume(world, logIsInStore: logIsInStore, trouble: trouble)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        var worker = FileWorker(files: files, model: model, random: Generator(seed: seed))
                        for _ in 0..<steps {
                            do { try await worker.step() } catch { return }
                        }
                    }
                    group.addTask {
                        // While what the log held is still on its way into the trees.
                        if seed % 4 == 1 { do { try await volume.nextCheckpoint() } catch { return } }
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

    /// Does the steps one after the other, brings all to the disk, and answers which changes of the disk came from the
    /// last step on: nil when a crash ended it.
    mutating func life(_ program: [FileStep]) -> Range<Int>? {
        let model = model
        let (simulation, logIsInStore) = (simulation, logIsInStore)
        let seed = random.next()
        let range = simulation.perform(for: 3_600_000_000_000) { world -> Range<Int>? in
            do {
                let volume = try await Bench.volume(world, logIsInStore: logIsInStore)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                var begin = simulation.diskChanges
                var worker = FileWorker(files: files, model: model, random: Generator(seed: seed))
                for step in program {
                    begin = simulation.diskChanges
                    try await worker.perform(step, volume)
                }
                try await files.commit(volume.log.last, .durable)
                model.synced = model.states.count - 1
                await world.loops[0].sleep(nanoseconds: 5_000_000)
                return begin..<simulation.diskChanges
            } catch {
                if !simulation.hasCrashed { model.problems.append("\(program): \(error)") }
                return nil
            }
        }
        if simulation.hasCrashed { simulation.restart() } else { simulation.killAndRestart() }
        return range ?? nil
    }

    /// What a volume holds.
    struct Seen {
        var state: State
        var totals: Totals
        var differences: [Difference]
        var inodes = 0
    }

    static func look(_ volume: Headhunter, _ world: World) async throws -> Seen {
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        let check = try await Check.run(files)
        let totals = try await outcome(files) { files.totals($0, files.rootID) }.get()
        var seen = Seen(state: State(), totals: totals, differences: check.differences)
        try await files.tidy()
        let again = try await Check.run(files)
        seen.differences += again.differences
        seen.inodes = again.inodes
        for home in ["a", "b"] {
            for name in FileWorker.names {
                let path = "\(home)/\(name)"
                guard let inode = try await FileWorker.find(files, path),
                    let file = try await FileWorker.read(files, path)
                else { continue }
                seen.state.enter(path, Int(inode.number), file)
            }
            let path = "\(home)/\(FileWorker.folder)"
            if try await FileWorker.find(files, path) != nil { seen.state.directories.insert(path) }
        }
        return seen
    }

    package mutating func verify(_ what: String) {
        let faults = simulation.faults
        simulation.faults = .none
        let logIsInStore = logIsInStore
        let seen = simulation.perform { world -> Result<Seen, VerifyFailure> in
            do {
                let volume = try await Bench.volume(world, logIsInStore: logIsInStore)
                return .success(try await Self.look(volume, world))
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
        model.problems += model.judge(found, what)
        model.states = [found.state]
        model.synced = 0
        model.pending.removeAll()
    }

    private struct VerifyFailure: Error { let text: String }

    /// Whether the files are between two states: one of them has bytes of both.
    static func lies(_ seen: State, _ first: State, _ second: State) -> Bool {
        guard seen.paths == first.paths, first.paths == second.paths, seen.directories == first.directories else {
            return false
        }
        for path in seen.paths {
            guard let file = seen[path], let old = first[path], let new = second[path] else { return false }
            if file == old || file == new { continue }
            guard file.stream == old.stream || file.stream == new.stream else { return false }
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

import Bytes
import ObjectStore
import Runtime
import Simulator
import Testing

/// The directory store on a disk that fails and loses power: what was acknowledged is there, whole, and what was
/// deleted is gone; nothing partial is seen; leftovers go.
struct DirectoryCrashTests {
    /// What may be under a name: the last acknowledged state, and whatever was under way.
    final class Model: @unchecked Sendable {
        /// Nil among the states: no object.
        var states: [String: [[UInt8]?]] = [:]
        var serial = 0

        func begin(_ name: String, _ state: [UInt8]?) { states[name, default: [nil]].append(state) }
        func end(_ name: String, _ state: [UInt8]?) { states[name] = [state] }
    }

    static let names = [
        "v/seg/0000000000000001", "v/seg/0000000000000002", "v/seg/0000000000002001", "v/hdr/0000000000000001", "plain",
        "deep/er/name", "deep/er/other",
    ]

    static func work(
        _ world: World, _ model: Model, seed: UInt64, mine: [String], steps: Int, giveUp: Bool = false
    ) async {
        var random = Generator(seed: seed)
        guard let transport = try? await DirectoryStore.open(world: world, loop: world.loops[0], root: "store") else {
            return
        }
        var options = ObjectStore.Options()
        if giveUp { options.attemptsMax = 1 }
        let store = ObjectStore(transport, world: world, loop: world.loops[0], options: options)
        await withTaskGroup(of: Void.self) { group in
            for (worker, text) in mine.enumerated() {
                let seed = random.next() &+ UInt64(worker)
                group.addTask {
                    var random = Generator(seed: seed)
                    for _ in 0..<steps { await step(world, store, model, text, &random) }
                }
            }
        }
    }

    private static func step(
        _ world: World, _ store: ObjectStore, _ model: Model, _ text: String, _ random: inout Generator
    ) async {
        model.serial += 1
        let size = random.below(4) == 0 ? 1 + random.below(9_000) : random.below(600)
        let content = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ model.serial) }
        let object = name(text)
        switch random.below(6) {
        case 0:
            model.begin(text, nil)
            if (try? await store.delete(object)) != nil { model.end(text, nil) }
        case 1:
            model.begin(text, content)
            let result = await outcome { () throws(StoreError) in
                try await store.put(object, .blocks([block(content)]), condition: .absent)
            }
            // Somebody's object is in the way, and it is durable: not this one.
            if result.failure == nil { model.end(text, content) }
        case 2:
            let path = "stage-\(model.serial)"
            model.begin(text, content)
            let staged: Void? = try? await world.blocking.run(on: world.loops[0]) { () throws(Errno) in
                let file = try world.disk.open(path, [.write, .create, .exclusive])
                let body = block(content)
                defer { extendLifetime(body) }
                try file.write(body.bytes, at: 0)
                try file.sync()
            }
            guard staged != nil else { return }
            if (try? await store.put(object, .file(path: path, size: UInt64(size)))) != nil { model.end(text, content) }
        case 3:
            model.begin(text, content)
            let half = size / 2
            let source = Pieces([Array(content[..<half]), Array(content[half...])])
            if (try? await store.put(object, .stream(source, size: UInt64(size)))) != nil { model.end(text, content) }
        default:
            model.begin(text, content)
            if (try? await store.put(object, .blocks([block(content)]))) != nil { model.end(text, content) }
        }
    }

    /// Opens the store in a world without faults, compares, and takes what it holds for the truth.
    static func verify(_ simulation: Simulation, _ model: Model, _ what: String) {
        let faults = simulation.faults
        simulation.faults = .none
        defer { simulation.faults = faults }
        guard let read = simulation.perform({ world in await read(world) }), let (found, listed) = read else {
            Issue.record("\(what): the store does not open")
            return
        }
        compare(model, found, listed, what)
        let leftovers = simulation.files(below: "store/tmp")
        #expect(leftovers.isEmpty, "\(what): \(leftovers)")
    }

    /// What the store holds, and what it lists.
    static func read(_ world: World) async -> ([String: [UInt8]], [String])? {
        guard let transport = try? await DirectoryStore.open(world: world, loop: world.loops[0], root: "store") else {
            return nil
        }
        let store = ObjectStore(transport, world: world, loop: world.loops[0])
        var found: [String: [UInt8]] = [:]
        let listed = (try? await store.names(prefix: "").map(\.text)) ?? ["listing failed"]
        for text in names { found[text] = (try? await store.get(name(text)))?.array }
        return (found, listed)
    }

    static func compare(_ model: Model, _ found: [String: [UInt8]], _ listed: [String], _ what: String) {
        #expect(listed == found.keys.sorted(), "\(what): the listing differs from the objects")
        for text in names {
            let allowed = model.states[text] ?? [nil]
            let isAllowed = allowed.contains { $0 == found[text] }
            #expect(
                isAllowed,
                "\(what): \(text) has \(found[text]?.count ?? -1) bytes, allowed: \(allowed.map { $0?.count ?? -1 })")
            model.states[text] = [found[text]]
        }
    }

    @Test func everyCallOfASmallProgram() {
        var call = 1
        while true {
            var crashed = false
            for seed in 1...4 as ClosedRange<UInt64> {
                let simulation = Simulation(seed: seed)
                let model = Model()
                simulation.crashAtDiskCall = call
                let finished: Void? = simulation.perform { world in
                    await Self.work(world, model, seed: 17, mine: Array(Self.names[..<3]), steps: 4)
                }
                crashed = finished == nil
                if !crashed { simulation.crash() }
                simulation.restart()
                Self.verify(simulation, model, "seed \(seed), call \(call)")
            }
            if !crashed { break }
            call += 1
        }
        #expect(call > 80, "only \(call) calls")
    }

    /// The last two objects of a directory are deleted together: who removes the directory, too, must not take away
    /// what the other one syncs.
    @Test func theLastTwoOfADirectory() {
        let mine = Array(Self.names[..<2])
        var removed = 0
        for seed in 1...240 as ClosedRange<UInt64> {
            var call = 1
            while true {
                let simulation = Simulation(seed: seed)
                let model = Model()
                simulation.perform { world in await Self.each(world, model, mine, [1]) }
                simulation.killAndRestart()
                simulation.crashAtDiskCall = simulation.diskCalls + call
                let finished: Void? = simulation.perform { world in await Self.each(world, model, mine, nil) }
                if finished != nil { simulation.crash() }
                simulation.restart()
                removed += model.states.values.count { $0 == [nil] }
                Self.verify(simulation, model, "seed \(seed), call \(call)")
                if finished != nil { break }
                call += 1
            }
        }
        #expect(removed > 1_000, "only \(removed) deletions were answered")
    }

    /// Gives all names at once this state.
    private static func each(_ world: World, _ model: Model, _ names: [String], _ state: [UInt8]?) async {
        guard let transport = try? await DirectoryStore.open(world: world, loop: world.loops[0], root: "store") else {
            return
        }
        let store = ObjectStore(transport, world: world, loop: world.loops[0])
        await withTaskGroup(of: Void.self) { group in
            for text in names {
                group.addTask {
                    model.begin(text, state)
                    let isDone: Void? =
                        if let state { try? await store.put(name(text), .blocks([block(state)])) } else {
                            try? await store.delete(name(text))
                        }
                    if isDone != nil { model.end(text, state) }
                }
            }
        }
    }

    @Test(arguments: 1...60) func randomLives(_ seed: Int) {
        let simulation = Simulation(seed: UInt64(seed) &* 104_729, faults: .default)
        simulation.faults.failedSync = 60
        simulation.faults.noSpace = 100
        let model = Model()
        var random = Generator(seed: UInt64(seed), stream: "lives")
        for life in 0..<12 {
            if random.below(5) > 0 { simulation.crashAtDiskCall = simulation.diskCalls + 1 + random.below(500) }
            let life = (number: life, seed: random.next())
            let finished: Void? = simulation.perform { world in
                await Self.work(world, model, seed: life.seed, mine: Self.names, steps: 8)
            }
            if finished == nil || life.seed % 2 == 0 {
                simulation.crash()
                simulation.restart()
            } else {
                simulation.killAndRestart()
            }
            Self.verify(simulation, model, "seed \(seed), life \(life.number)")
            simulation.killAndRestart()
        }
    }

    @Test func aFullDiskIsSaidToBeFull() throws {
        let simulation = Simulation(seed: 1, diskBytes: 10_000)
        try simulated(simulation) { world in
            let transport = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let store = ObjectStore(transport, world: world, loop: world.loops[0])
            try await store.put(name("a"), .blocks([block([UInt8](repeating: 1, count: 6_000))]))
            let result = await outcome { () throws(StoreError) in
                try await store.put(name("b"), .blocks([block([UInt8](repeating: 1, count: 6_000))]))
            }
            #expect(result.failure == .noSpace)
            let size = try await store.head(name("b"))
            #expect(size == nil)
            // What failed has left nothing behind, and a deletion makes room.
            #expect(try world.disk.space().free == 4_000)
            try await store.delete(name("a"))
            try await store.put(name("b"), .blocks([block([UInt8](repeating: 1, count: 6_000))]))
        }
    }
}

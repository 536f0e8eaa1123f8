import Headhunter
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// A recovered log over the trees: what reads see while it drains, and what they cost.
struct OverlayTests {
    private static func key(_ number: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt32(number).bigEndian) { [1] + Array($0) }
    }

    private static func change(_ volume: Headhunter, _ keys: [Int], _ value: [UInt8]?) async throws -> UInt64 {
        try await volume.change { (change) throws(Missing) -> Void in
            for number in keys {
                Self.key(number).withUnsafeBytes { key in
                    if let value { value.withUnsafeBytes { change.put(1, key, $0) } } else { change.delete(1, key) }
                }
            }
        }.number
    }

    /// A volume of `stored` entries in its trees, and a log that deletes every third of `logged` and changes the others.
    private static func prepare(_ simulation: Simulation, stored: Int, logged: Range<Int>) {
        Bench.prepare(simulation)
        let made = simulation.perform { world -> Bool in
            do {
                let volume = try await Bench.volume(world)
                var number = 0
                while number < stored {
                    _ = try await Self.change(
                        volume, Array(number..<min(number + 50, stored)), Array(repeating: 1, count: 200))
                    number += 50
                }
                try await volume.checkpoint()
                var last: UInt64 = 0
                // All in one checkpoint's interval.
                for number in logged {
                    last = try await Self.change(volume, [number], number % 3 == 0 ? nil : [2])
                }
                try await volume.commit(last, .durable)
                simulation.crash()
                return true
            } catch {
                Issue.record("\(error)")
                return false
            }
        }
        _ = made
        simulation.restart()
    }

    private final class Expected: @unchecked Sendable {
        var values: [Int: UInt64] = [:]
        var problems: [String] = []
        var done = 0
    }

    /// A tree twice as large as its cache, a store that takes its time, checkpoints all along, and eight at work on the same keys: nodes are
    /// evicted, read again, changed and stored elsewhere while others wait for them. Every look-up says what is true.
    @Test(arguments: 1...4) func aTreeLargerThanItsCache(_ seed: Int) throws {
        let simulation = Simulation(seed: UInt64(seed))
        Bench.prepare(simulation)
        let many = 60_000
        let reads = simulation.perform(for: 36_000_000_000_000) { world -> (gets: UInt64, problems: [String])? in
            do {
                let far = FaultyTransport(
                    MemoryStore(world: world, loop: world.loops[0]), loop: world.loops[0], random: world.random,
                    faults: .none)
                let store = ObjectStore(far, world: world, loop: world.loops[0])
                var options = HeadhunterOptions()
                options.cacheBytes = 0
                options.checkpointNanoseconds = 20_000_000
                try await Headhunter.create(world: world, store: store, prefix: "w")
                let volume = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: store, prefix: "w", directory: "log", options: options)
                let expected = Expected()
                for start in stride(from: 0, to: many, by: 50) {
                    let keys = Array(start..<(start + 50))
                    _ = try await Self.change(volume, keys, Self.value(1))
                    for key in keys { expected.values[key] = 1 }
                }
                far.faults.latencyNanoseconds = 8_000_000
                let before = store.counters.gets
                await withTaskGroup(of: Void.self) { group in
                    for worker in 0..<8 {
                        group.addTask {
                            var random = Generator(seed: UInt64(seed * 100 + worker), stream: "worker")
                            // All of them in a part of the tree, and now and then anywhere.
                            for _ in 0..<1_500 where expected.problems.isEmpty {
                                let number =
                                    random.below(3) == 0 ? Int(random.below(UInt64(many))) : Int(random.below(4_000))
                                await Self.step(volume, expected, number, random.next())
                            }
                        }
                    }
                }
                let gets = store.counters.gets - before
                try await volume.close()
                return (UInt64(gets), expected.problems)
            } catch { return (0, ["\(error)"]) }
        }
        let outcome = try #require(reads ?? nil)
        #expect(outcome.problems == [])
        #expect(outcome.gets > 2_000, "only \(outcome.gets) nodes were read again")
    }

    private static func value(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number) { Array($0) } + Array(repeating: 7, count: 190)
    }

    private static func step(_ volume: Headhunter, _ expected: Expected, _ number: Int, _ chance: UInt64) async {
        let key = key(number)
        do {
            switch chance % 8 {
            case 0..<4:
                let problem = try await volume.read { (view) throws(Missing) -> String? in
                    let found = try key.withUnsafeBytes { key in
                        Result { () throws(Missing) -> UInt64? in
                            try view.get(1, key).map { $0.loadUnaligned(as: UInt64.self) }
                        }
                    }.get()
                    let wanted = expected.values[number]
                    return found == wanted
                        ? nil : "key \(number) is \(found as Any), should be \(wanted as Any)"
                }
                if let problem { expected.problems.append(problem) }
            case 4..<7:
                let new = try await volume.change { (change) throws(Missing) -> UInt64 in
                    let next = (expected.values[number] ?? 0) + chance % 100 + 1
                    key.withUnsafeBytes { key in value(next).withUnsafeBytes { change.put(1, key, $0) } }
                    return next
                }.0
                expected.values[number] = new
            default:
                _ = try await volume.change { (change) throws(Missing) -> Void in
                    key.withUnsafeBytes { change.delete(1, $0) }
                }
                expected.values[number] = nil
            }
            expected.done += 1
        } catch { expected.problems.append("\(error)") }
    }

    /// One entry is asked for: nobody copies, or fetches, the rest of the tree for that.
    @Test func oneEntryCostsOneEntry() throws {
        let simulation = Simulation(seed: 9)
        Self.prepare(simulation, stored: 20_000, logged: 100..<160)
        let result = simulation.perform { world -> (reads: UInt64, found: [UInt8]?)? in
            do {
                let store = try await Bench.store(world)
                var options = HeadhunterOptions()
                options.cacheBytes = 0
                let volume = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: store, prefix: "v", directory: "log", options: options)
                let before = store.counters.gets
                let found = try await volume.read { (view) throws(Missing) -> [UInt8]? in
                    var first: [UInt8]?
                    let start = Self.key(120)
                    _ = try start.withUnsafeBytes { start in
                        Result { () throws(Missing) -> Bool in
                            var resume: [UInt8] = []
                            return try view.scan(1, from: start, budget: .max, resume: &resume) { key, value in
                                first = Array(key) + Array(value)
                                return false
                            }
                        }
                    }.get()
                    return first
                }
                let reads = store.counters.gets - before
                try await volume.close()
                return (UInt64(reads), found)
            } catch {
                Issue.record("\(error)")
                return nil
            }
        }
        let outcome = try #require(result ?? nil)
        #expect(outcome.found == Self.key(121) + [2])
        // The tree has some 300 leaves. What drains meanwhile needs a few of them, too.
        #expect(outcome.reads < 20, "\(outcome.reads) reads of the store")
    }

    /// A scan over trees and log shows what there is, in whatever steps it is done.
    @Test(arguments: [1, 7, 32, 256, Int.max])
    func scansShowAll(_ budget: Int) throws {
        let simulation = Simulation(seed: 10)
        Self.prepare(simulation, stored: 1_000, logged: 200..<1_300)
        let result = simulation.perform { world -> [[UInt8]]? in
            do {
                let volume = try await Bench.volume(world)
                var seen: [[UInt8]] = []
                var next: [UInt8] = [1]
                var more = true
                while more {
                    let from = next
                    let part = try await volume.read { (view) throws(Missing) -> ([[UInt8]], [UInt8], Bool) in
                        var part: [[UInt8]] = []
                        var resume: [UInt8] = []
                        let more = try from.withUnsafeBytes { start in
                            Result { () throws(Missing) -> Bool in
                                try view.scan(1, from: start, budget: budget, resume: &resume) { key, value in
                                    part.append(Array(key) + [value[0]])
                                    return true
                                }
                            }
                        }.get()
                        return (part, resume, more)
                    }
                    #expect(part.0.count <= budget)
                    seen += part.0
                    next = part.1
                    more = part.2
                }
                try await volume.close()
                return seen
            } catch {
                Issue.record("\(error)")
                return nil
            }
        }
        let seen = try #require(result ?? nil)
        let expected = (0..<1_300).compactMap { number -> [UInt8]? in
            guard number >= 200 else { return Self.key(number) + [1] }
            return number % 3 == 0 ? nil : Self.key(number) + [2]
        }
        #expect(seen == expected)
    }
}

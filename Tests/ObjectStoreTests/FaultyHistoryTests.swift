import Bytes
import ObjectStore
import Runtime
import Simulator
import Testing

/// `ObjectStore` over a store that goes wrong: what it calls a success is one.
struct FaultyHistoryTests {
    final class Totals: @unchecked Sendable {
        var counts: [String: Int] = [:]

        func add(_ counts: FaultyTransport.Counts) {
            for child in Mirror(reflecting: counts).children {
                self.counts[child.label ?? "", default: 0] += child.value as? Int ?? 0
            }
        }
    }

    final class Model: @unchecked Sendable {
        var winners: [String: [String]] = [:]
        var losers: [String: Int] = [:]
        var states: [String: Set<String>] = [:]
    }

    private static let absence = "no object"

    @Test func histories() throws {
        let totals = Totals()
        for seed in 1...150 as ClosedRange<UInt64> {
            let simulation = Simulation(seed: seed)
            let model = Model()
            let memory = MemoryStore()
            try simulated(simulation) { world in
                let random = SeededRandom(seed: seed, stream: "store faults")
                let faulty = FaultyTransport(memory, loop: world.loops[0], random: random)
                let store = ObjectStore(faulty, world: world, loop: world.loops[0])
                await withTaskGroup(of: Void.self) { group in
                    for worker in 0..<4 {
                        group.addTask {
                            var random = Generator(seed: seed &* 31 &+ UInt64(worker))
                            for round in 0..<12 { await Self.step(store, model, worker, round, &random) }
                        }
                    }
                }
                totals.add(faulty.counts)
                // What hangs below may still be applied: the truth is what is there when all has come to rest.
                await world.loops[0].sleep(nanoseconds: 1_000_000_000_000)
                faulty.faults = .none
                for (race, winners) in model.winners {
                    #expect(winners.count <= 1, "seed \(seed): \(winners) have all created \(race)")
                    let stored = (try? await store.get(name(race)))?.text
                    if let winner = winners.first { #expect(stored == winner, "seed \(seed): \(race)") }
                }
                for (key, allowed) in model.states {
                    let stored = try await store.head(name(key)) == nil ? Self.absence : store.get(name(key)).text
                    #expect(allowed.contains(stored), "seed \(seed): \(key) is \(stored), not one of \(allowed)")
                }
                let listed = try await store.names(prefix: "")
                #expect(listed == memory.objects.keys.sorted())
            }
        }
        for (fault, count) in totals.counts where !["duplicates", "staleListings"].contains(fault) {
            #expect(count > 0, "\(fault) never happened")
        }
    }

    private static func step(
        _ store: ObjectStore, _ model: Model, _ worker: Int, _ round: Int, _ random: inout Generator
    ) async {
        // A creation that all workers try for themselves.
        let race = "race/\(round)"
        let mine = "worker \(worker)"
        if (try? await store.put(name(race), .blocks([block(mine)]), condition: .absent)) != nil {
            model.winners[race, default: []].append(mine)
        }
        // Names of one worker, each used once for a PUT and perhaps once for a DELETE, as the engine does it.
        let key = "own/\(worker)/\(round)"
        let text = String(repeating: "\(worker) ", count: 1 + random.below(50))
        let stored: Void? = try? await store.put(name(key), .blocks([block(text)]))
        model.states[key] = stored == nil ? [text, absence] : [text]
        if stored != nil {
            let length = UInt64(text.utf8.count)
            let from = random.below(length)
            let part = try? await store.get(name(key), range: from..<length)
            if let part { #expect(part.text == text.dropFirst(Int(from))) }
            let found = await outcome { () throws(StoreError) in try await store.head(name(key)) }
            if case .success(let size) = found { #expect(size == length) }
        }
        if random.once(in: 3) {
            let isKnown = stored != nil
            let deleted: Void? = try? await store.delete(name(key))
            // A PUT without an answer may be applied after the DELETE.
            model.states[key] = deleted != nil && isKnown ? [absence, text] : [text, absence]
            if deleted != nil, isKnown, store.counters.timeouts == 0 { model.states[key] = [absence] }
        }
    }

    @Test func staleListingsShowThePast() throws {
        var stale = 0
        for seed in 1...20 as ClosedRange<UInt64> {
            stale += try simulated(Simulation(seed: seed)) { world in
                var faults = StoreFaults.none
                faults.staleListing = 2
                let faulty = FaultyTransport(
                    MemoryStore(), loop: world.loops[0], random: SeededRandom(seed: seed), faults: faults)
                #expect(!faulty.capabilities.listsConsistently)
                let store = ObjectStore(faulty, world: world, loop: world.loops[0])
                for index in 0..<20 {
                    try await store.put(name("k/\(10 + index)"), .blocks([block("x")]))
                    if index % 3 == 2 { try await store.delete(name("k/\(8 + index)")) }
                    await world.loops[0].sleep(nanoseconds: 100_000_000)
                    let page = try await store.list(prefix: "k/", limit: 7)
                    #expect(page.entries.count <= 7)
                }
                // What is older than a listing can be is in every listing.
                await world.loops[0].sleep(nanoseconds: 1_000_000_000)
                let names = try await store.names(prefix: "k/")
                #expect(names.count == 14)
                return faulty.counts.staleListings
            }
        }
        #expect(stale > 20)
    }

    /// A conditional PUT that somebody on the way sent twice: "exists", and it is ours. Nobody can tell after one answer;
    /// after one that was lost the object itself is asked.
    @Test func aDuplicatedCreationIsToldAsExisting() throws {
        try simulated { world in
            var faults = StoreFaults.none
            faults.duplicated = 1
            let memory = MemoryStore()
            let faulty = FaultyTransport(memory, loop: world.loops[0], random: SeededRandom(seed: 1), faults: faults)
            let store = ObjectStore(faulty, world: world, loop: world.loops[0])
            let body = ObjectBody.blocks([block("mine")])
            let result = await outcome { () throws(StoreError) in
                try await store.put(name("a"), body, condition: .absent)
            }
            #expect(result.failure == .exists && memory.objects[name("a")] == Array("mine".utf8))
            #expect(faulty.counts.duplicates == 1 && faulty.counts.existings == 0)
            try await store.put(name("a"), body)
            #expect(faulty.counts.duplicates == 1, "only conditional ones are told so")
            // Twice, and the first answer was lost.
            faulty.faults = .none
            faulty.faults.lostReply = 1
            world.loops[0].task {
                await world.loops[0].sleep(nanoseconds: 1_000)
                faulty.faults = .none
            }
            try await store.put(name("b"), body, condition: .absent)
            #expect(faulty.counts.lostReplies > 0 && faulty.counts.existings == 1)
        }
    }

    /// Each fault alone, with certainty: what the wrapper counts is what its caller sees.
    @Test func eachFaultByItself() throws {
        struct Case {
            let name: String
            let set: @Sendable (inout StoreFaults) -> Void
            let count: @Sendable (FaultyTransport.Counts) -> Int
            let statuses: Set<Int>
        }
        let cases = [
            Case(name: "lost request", set: { $0.lostRequest = 1 }, count: { $0.lostRequests }, statuses: [0]),
            Case(name: "lost reply", set: { $0.lostReply = 1 }, count: { $0.lostReplies }, statuses: [0]),
            Case(name: "failure", set: { $0.failure = 1 }, count: { $0.failures }, statuses: [500]),
            Case(name: "unavailable", set: { $0.unavailable = 1 }, count: { $0.unavailables }, statuses: [503]),
            Case(name: "throttle", set: { $0.throttle = 1 }, count: { $0.throttles }, statuses: [429]),
            Case(name: "accepted", set: { $0.accepted = 1 }, count: { $0.accepteds }, statuses: [202]),
            Case(name: "conflict", set: { $0.conflict = 1 }, count: { $0.conflicts }, statuses: [409]),
            Case(name: "duplicate", set: { $0.duplicated = 1 }, count: { $0.duplicates }, statuses: [412]),
            Case(name: "hang", set: { $0.hang = 1 }, count: { $0.hangs }, statuses: [0]),
            Case(name: "delay", set: { $0.longDelay = 1 }, count: { $0.longDelays / 2 }, statuses: [201]),
        ]
        for fault in cases {
            try simulated { world in
                var faults = StoreFaults.none
                fault.set(&faults)
                let memory = MemoryStore()
                let faulty = FaultyTransport(
                    memory, loop: world.loops[0], random: SeededRandom(seed: 9), faults: faults)
                var applied = 0
                for index in 0..<20 {
                    let object = name("a\(index)")
                    let start = world.clock.monotonic()
                    let request = StoreRequest(.object(object, .put(.blocks([block("x")]), .absent)))
                    let reply = await faulty.perform(request)
                    #expect(fault.statuses.contains(reply.status), "\(fault.name): \(reply.status)")
                    if memory.objects[object] != nil { applied += 1 }
                    let took = world.clock.monotonic() - start
                    if fault.name == "hang" { #expect(took >= faults.hangNanoseconds) }
                    if fault.name == "delay" { #expect(took >= 2 * faults.longDelayNanoseconds) }
                }
                #expect(fault.count(faulty.counts) == 20 && faulty.counts.requests == 20, "\(fault.name)")
                switch fault.name {
                case "lost reply", "duplicate", "delay": #expect(applied == 20, "\(fault.name)")
                // Applied or not: nobody can tell.
                case "failure", "hang": #expect(applied > 3 && applied < 17, "\(fault.name): \(applied)")
                default: #expect(applied == 0, "\(fault.name)")
                }
            }
        }
    }

    /// The same seed goes wrong in the same way.
    @Test func theSameSeedGivesTheSameFaults() throws {
        func run(_ seed: UInt64) throws -> FaultyTransport.Counts {
            try simulated { world in
                let random = SeededRandom(seed: seed)
                let faulty = FaultyTransport(MemoryStore(), loop: world.loops[0], random: random)
                for index in 0..<500 {
                    _ = await faulty.perform(StoreRequest(.object(name("a\(index % 7)"), .put(.blocks([]), .absent))))
                }
                return faulty.counts
            }
        }
        #expect(try run(1) == run(1))
        #expect(try run(1) != run(2))
    }

    @Test func theDisconnectedChangeNothing() throws {
        try simulated { world in
            let memory = MemoryStore()
            let faulty = FaultyTransport(memory, loop: world.loops[0], random: SeededRandom(seed: 1), faults: .none)
            faulty.disconnect()
            let store = ObjectStore(faulty, world: world, loop: world.loops[0])
            let result = await outcome { () throws(StoreError) in try await store.put(name("a"), .blocks([])) }
            #expect(result.failure == .canceled && memory.objects.isEmpty)
        }
    }
}

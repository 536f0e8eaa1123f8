import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// `store` durability by the log's slots in the store, and what becomes of an owner that was taken over.
struct StoreLogTests {
    private final class Tally: @unchecked Sendable {
        var made = 0
        var told = 0
        var answers = 0
        var failure: VolumeError?
    }

    private static func volume(
        _ world: World, _ store: any StoreTransport, _ log: String, takesOver: Bool = false, logIsInStore: Bool = false
    ) async throws -> (volume: Headhunter, store: ObjectStore) {
        var options = HeadhunterOptions()
        options.takesOver = takesOver
        options.logIsInStore = logIsInStore
        let objects = ObjectStore(store, world: world, loop: world.loops[0])
        let volume = try await Headhunter.open(
            world: world, loop: world.loops[0], store: objects, prefix: "v", directory: log, options: options)
        return (volume, objects)
    }

    private static func prepare(_ world: World, _ store: any StoreTransport, _ logs: [String]) async throws {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
            for log in logs { try world.disk.makeDirectory(log) }
            try world.disk.syncDirectory("")
        }
        let objects = ObjectStore(store, world: world, loop: world.loops[0])
        try await Headhunter.create(world: world, store: objects, prefix: "v")
    }

    /// Changes that count up one number; with data, the change names some that is to be in the store, too.
    private static func count(
        _ volume: Headhunter, _ tally: Tally, data: [UInt8] = []
    ) async throws(VolumeError) -> (Int, UInt64) {
        var range: SegmentRange?
        while !data.isEmpty, range == nil {
            range = data.withUnsafeBytes { volume.append($0, heat: .small) }
            if range == nil { try await volume.room() }
        }
        let placed = range
        return try await volume.change { (change) throws(Missing) -> Int in
            let mine = tally.made + 1
            if let placed { try change.reference(placed) }
            [7].withUnsafeBytes { key in withUnsafeBytes(of: UInt64(mine)) { change.put(1, key, $0) } }
            return mine
        }
    }

    private static func counted(_ volume: Headhunter) async throws -> Int {
        try await volume.read { (view) throws(Missing) -> Int in
            let found = [7].withUnsafeBytes { key in
                Result { () throws(Missing) -> UInt64? in
                    try view.get(1, key).map { $0.loadUnaligned(as: UInt64.self) }
                }
            }
            return Int(try found.get() ?? 0)
        }
    }

    /// Those who were answered together go on together, when they have come together: nothing else is waited for.
    @Test(arguments: [17, 23, 26, 29]) func aSlotLeavesWhenAllAreBack(_ milliseconds: Int) throws {
        try StoreRig.run(seed: 30) { world in
            let nanoseconds = UInt64(milliseconds) * 1_000_000
            let slow = SlowStore(
                MemoryStore(world: world, loop: world.loops[0]), loop: world.loops[0], nanoseconds: nanoseconds)
            try await Self.prepare(world, slow, ["a"])
            let (volume, store) = try await Self.volume(world, slow, "a")
            let tally = Tally()
            for _ in 0..<2 { try await volume.stored(try await Self.count(volume, tally).1) }
            let (start, before) = (world.clock.monotonic(), store.counters)
            tally.answers = 0
            await Self.work(volume, tally, callers: 8, until: start + 1_000_000_000, world)
            let (spent, took) = (store.counters - before, world.clock.monotonic() - start)
            let (rounds, requests) = (tally.answers / 8, Int(spent.requests))
            // A millisecond for each, and one round more.
            guard UInt64(rounds + 1) * (nanoseconds + 1_100_000) > took else {
                return "\(rounds) rounds of \(milliseconds) ms in \(took / 1_000_000) ms"
            }
            return requests <= rounds + 4 ? nil : "\(requests) requests for \(rounds) rounds of eight"
        }
    }

    /// Callers that each wait for every change, for some seconds.
    private static func work(
        _ volume: Headhunter, _ tally: Tally, callers: Int, data: [UInt8] = [], until end: UInt64, _ world: World
    ) async {
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<callers {
                group.addTask {
                    do throws(VolumeError) {
                        while world.clock.monotonic() < end {
                            let (mine, number) = try await count(volume, tally, data: data)
                            tally.made = mine
                            try await volume.stored(number)
                            tally.told = max(tally.told, mine)
                            tally.answers += 1
                        }
                    } catch { tally.failure = error }
                }
            }
        }
    }

    /// Records are kept for slots, and sent a second time, where that is asked for again: one who asks gets a checkpoint.
    @Test func whoAsksOnceGetsACheckpoint() throws {
        try StoreRig.run(seed: 31) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 1_000_000_000_000 }
            // How many headers and slots each of three who ask costs.
            func asked(_ value: UInt8) async throws -> [[Int]] {
                var costs: [[Int]] = []
                for _ in 0..<3 {
                    let headers = try await StoreRig.names(world, rig, "header").max()
                    let slots = try await StoreRig.names(world, rig, "slot").max()
                    try await volume.stored(try await StoreRig.put(volume, 1, [value]))
                    let isHeader = try await StoreRig.names(world, rig, "header").max() != headers
                    let isSlot = try await StoreRig.names(world, rig, "slot").max() != slots
                    costs.append([isHeader ? 1 : 0, isSlot ? 1 : 0])
                }
                return costs
            }
            let wanted = [[1, 0], [1, 0], [0, 1]]
            let first = try await asked(1)
            guard first == wanted else { return "at first \(first)" }
            // After as many checkpoints without anybody it begins anew.
            for value in 2...9 {
                _ = try await StoreRig.put(volume, 2, [UInt8(value)])
                try await volume.checkpoint()
            }
            let later = try await asked(2)
            return later == wanted ? nil : "later \(later)"
        }
    }

    /// A store that takes 20 ms for everything: how many changes a second are in it, and for how many requests.
    @Test(arguments: [(8, 250.0), (32, 1000.0)]) func aSlowStore(_ callers: Int, _ least: Double) throws {
        let simulation = Simulation(seed: 41)
        let outcome = try #require(
            simulation.perform(for: 3_600_000_000_000) { world -> Result<(Double, Double), VolumeError>? in
                do {
                    let slow = SlowStore(
                        MemoryStore(world: world, loop: world.loops[0]), loop: world.loops[0], nanoseconds: 20_000_000)
                    try await Self.prepare(world, slow, ["log"])
                    let (volume, store) = try await Self.volume(world, slow, "log")
                    let tally = Tally()
                    // The second one turns it on.
                    for _ in 0..<2 {
                        let (mine, number) = try await Self.count(volume, tally)
                        tally.made = mine
                        try await volume.stored(number)
                    }
                    let start = world.clock.monotonic()
                    let before = store.counters.requests
                    await Self.work(volume, tally, callers: callers, until: start + 30_000_000_000, world)
                    if let failure = tally.failure { return .failure(failure) }
                    let seconds = Double(world.clock.monotonic() - start) / 1e9
                    let requests = Double(store.counters.requests - before) / Double(tally.answers)
                    return .success((Double(tally.answers) / seconds, requests))
                } catch { return nil }
            })
        let (rate, requests) = try #require(outcome).get()
        #expect(rate >= least, "\(callers) callers: \(rate) changes a second")
        #expect(requests <= 0.2, "\(requests) requests a change")
    }

    /// What was told to be stored is there without the local log, whether the log that counts is there or not.
    @Test(arguments: [false, true]) func withoutTheLocalLog(_ logIsInStore: Bool) throws {
        let simulation = Simulation(seed: 42)
        let problem = try #require(
            simulation.perform(for: 3_600_000_000_000) { world -> String? in
                do {
                    let memory = MemoryStore(world: world, loop: world.loops[0])
                    try await Self.prepare(world, memory, ["a", "b"])
                    let (first, _) = try await Self.volume(world, memory, "a", logIsInStore: logIsInStore)
                    let tally = Tally()
                    for round in 0..<50 {
                        let (mine, number) = try await Self.count(first, tally)
                        tally.made = mine
                        if logIsInStore {
                            try await first.commit(number, .durable)
                        } else if round % 2 == 0 {
                            try await first.stored(number)
                        } else {
                            continue
                        }
                        tally.told = mine
                    }
                    do {
                        _ = try await Self.volume(world, memory, "b")
                        return "it opened elsewhere, without a word"
                    } catch let error as VolumeError {
                        guard error == .logElsewhere else { return "\(error)" }
                    }
                    let (second, _) = try await Self.volume(world, memory, "b", takesOver: true)
                    let found = try await Self.counted(second)
                    return found >= tally.told ? "" : "\(tally.told) changes were stored, \(found) are there"
                } catch { return "\(error)" }
            })
        #expect(problem == "")
    }

    /// Another one takes the volume over while its owner goes on: the new owner has everything that the old one ever
    /// answered for.
    @Test(arguments: 1...40) func anOwnerThatSleeps(_ seed: Int) throws {
        let simulation = Simulation(seed: UInt64(seed))
        let problem = try #require(
            simulation.perform(for: 36_000_000_000_000) { world -> String? in
                do {
                    var random = Generator(seed: UInt64(seed), stream: "takeover")
                    let memory = MemoryStore(world: world, loop: world.loops[0])
                    try await Self.prepare(world, memory, ["a", "b"])
                    // The old owner's requests take long, each its own time: what it has on its way arrives when it will.
                    let far = FaultyTransport(
                        memory, loop: world.loops[0], random: world.random, faults: .none)
                    far.faults.latencyNanoseconds = 60_000_000
                    if seed % 2 == 0 {
                        far.faults.lostReply = 10
                        far.faults.hang = 30
                        far.faults.hangNanoseconds = 40_000_000_000
                    }
                    let (first, _) = try await Self.volume(world, far, "a")
                    let tally = Tally()
                    let end = world.clock.monotonic() + 400_000_000_000
                    let old = world.loops[0].task {
                        let data = [UInt8](repeating: UInt8(seed), count: seed % 3 == 0 ? 5_000 : 0)
                        await Self.work(first, tally, callers: 1 + Int(seed % 7), data: data, until: end, world)
                    }
                    await world.loops[0].sleep(nanoseconds: 500_000_000 + random.next() % 12_000_000_000)
                    let (second, _) = try await Self.volume(world, memory, "b", takesOver: true)
                    let found = try await Self.counted(second)
                    let later = Tally()
                    later.made = found
                    await Self.work(second, later, callers: 2, until: world.clock.monotonic() + 50_000_000_000, world)
                    await old.value
                    if let failure = later.failure { return "the new owner: \(failure)" }
                    if found < tally.told { return "\(tally.told) changes were answered for, \(found) are there" }
                    if tally.told == 0, seed % 2 == 1 { return "the old owner did nothing" }
                    guard tally.failure == .fenced else { return "the old owner went on: \(tally.failure as Any)" }
                    let (third, _) = try await Self.volume(world, memory, "a", takesOver: true)
                    let left = try await Self.counted(third)
                    return left >= later.told ? "" : "\(later.told) changes were answered for, \(left) are there"
                } catch { return "\(error)" }
            })
        #expect(problem == "")
    }

    /// An owner slept while another took over and went on for so long that the header after the old one's last is deleted already: its
    /// number is free, and only the boundary says that it is the past.
    @Test func anOwnerThatSleptTooLongMeetsTheBoundary() throws {
        let simulation = Simulation(seed: 45)
        let problem = try #require(
            simulation.perform(for: 3_600_000_000_000) { world -> String? in
                do {
                    let memory = MemoryStore(world: world, loop: world.loops[0])
                    try await Self.prepare(world, memory, ["a", "b"])
                    let (first, _) = try await Self.volume(world, memory, "a")
                    let tally = Tally()
                    tally.made = try await Self.count(first, tally).0
                    try await first.checkpoint()
                    let (second, store) = try await Self.volume(world, memory, "b", takesOver: true)
                    let before = try await store.names(prefix: "v/header/")
                    let later = Tally()
                    later.made = try await Self.counted(second)
                    for _ in 0..<8 {
                        later.made = try await Self.count(second, later).0
                        try await second.checkpoint()
                    }
                    let after = try await store.names(prefix: "v/header/")
                    guard let newest = before.max(), let oldest = after.min(), newest < oldest else {
                        return "the old headers are still there: \(before), \(after)"
                    }
                    do {
                        tally.made = try await Self.count(first, tally).0
                        try await first.checkpoint()
                        return "the old owner wrote a header"
                    } catch let error as VolumeError {
                        guard error == .fenced else { return "\(error)" }
                    }
                    let found = try await Self.counted(second)
                    try await second.close()
                    return found == later.made ? "" : "\(later.made) were counted, \(found) are there"
                } catch { return "\(error)" }
            })
        #expect(problem == "")
    }

    /// Of 400 slots, one a second, those that no header needs are deleted.
    @Test func oldSlotsGo() throws {
        let simulation = Simulation(seed: 44)
        let problem = try #require(
            simulation.perform(for: 3_600_000_000_000) { world -> String? in
                do {
                    let memory = MemoryStore(world: world, loop: world.loops[0])
                    try await Self.prepare(world, memory, ["a"])
                    let (volume, store) = try await Self.volume(world, memory, "a")
                    let tally = Tally()
                    var most = 0
                    for _ in 0..<400 {
                        let (mine, number) = try await Self.count(volume, tally)
                        tally.made = mine
                        try await volume.stored(number)
                        await world.loops[0].sleep(nanoseconds: 1_000_000_000)
                        most = max(most, try await store.names(prefix: "v/slot/").count)
                    }
                    let left = try await store.names(prefix: "v/slot/").count
                    if most < 5 { return "\(most) slots at the most: there was nothing to delete" }
                    return left < 40 ? "" : "\(left) slots are left"
                } catch { return "\(error)" }
            })
        #expect(problem == "")
    }

    /// Who has closed the volume leaves nothing behind that only its own log has.
    @Test func aClosedVolumeMoves() throws {
        let simulation = Simulation(seed: 43)
        let problem = try #require(
            simulation.perform(for: 3_600_000_000_000) { world -> String? in
                do {
                    let memory = MemoryStore(world: world, loop: world.loops[0])
                    try await Self.prepare(world, memory, ["a", "b"])
                    let tally = Tally()
                    for round in 0..<6 {
                        let (volume, _) = try await Self.volume(world, memory, round % 2 == 0 ? "a" : "b")
                        guard try await Self.counted(volume) == tally.made else {
                            return "round \(round): changes are missing"
                        }
                        for _ in 0...(round % 3) {
                            let (mine, number) = try await Self.count(volume, tally)
                            tally.made = mine
                            try await volume.commit(number, .durable)
                        }
                        try await volume.close()
                    }
                    return ""
                } catch { return "\(error)" }
            })
        #expect(problem == "")
    }

    private struct Closing {
        /// Requests when closing begins and when it is over, had it not ended at one of them.
        var first = 0
        var last = 0
        var wrong: String?
        var isHeld = false
    }

    /// Closes beside a checkpoint that does not have the last change, ends behind request `last`, and goes on elsewhere.
    private static func closing(endingAt last: Int) throws -> Closing {
        let closing = Mutex(Closing())
        try StoreRig.run(seed: 46) { world in
            let ended = try await Self.closing(world, endingAt: last)
            closing.withLock { $0 = ended }
            return nil
        }
        return closing.withLock { $0 }
    }

    private static func closing(_ world: World, endingAt last: Int) async throws -> Closing {
        var closing = Closing()
        let rig = StoreRig(world)
        try await StoreRig.prepare(world, rig)
        let way = TakingTests.Way(rig, last: last, isApplied: true)
        let volume = try await StoreRig.open(world, way)
        try await volume.commit(try await StoreRig.put(volume, 1, [1]), .durable)
        rig.refuse { kind in
            if case .object(let name, .put) = kind, name.text.contains("/meta/") { return 503 }
            return nil
        }
        world.loops[0].task { try? await volume.checkpoint() }
        await world.loops[0].sleep(nanoseconds: 2_000_000_000)
        try await volume.commit(try await StoreRig.put(volume, 2, [2]), .durable)
        let isOver = Mutex(false)
        world.loops[0].task {
            try? await volume.close()
            isOver.withLock { $0 = true }
        }
        closing.first = way.state.withLock { $0.count } + 1
        rig.refuse(nil)
        while !isOver.withLock({ $0 }), !way.isCut { await world.loops[0].sleep(nanoseconds: 10_000_000) }
        closing.last = way.state.withLock { $0.count }
        do {
            let next = try await StoreRig.open(world, rig, "b")
            for key in 1...2 where try await StoreRig.get(next, key) != [UInt8(key)] {
                closing.wrong = "change \(key) is missing behind request \(last)"
            }
            volume.abandon()
            try await next.close()
        } catch VolumeError.logElsewhere {
            closing.isHeld = true
        }
        return closing
    }

    /// Somebody closes beside a checkpoint without the last change, and dies at any request: what his log has is not left behind.
    @Test func aVolumeClosedBesideACheckpointMoves() throws {
        let whole = try Self.closing(endingAt: .max)
        #expect(whole.wrong == nil)
        #expect(!whole.isHeld)
        var held = 0
        for last in whole.first...whole.last {
            let ended = try Self.closing(endingAt: last)
            #expect(ended.wrong == nil)
            held += ended.isHeld ? 1 : 0
        }
        #expect(held > 1)
    }
}

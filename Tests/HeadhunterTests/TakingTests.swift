import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// One owner at a time: who was overtaken says nothing more, wherever it stood still, and whoever takes is not too slow for it.
struct TakingTests {
    private static let second: UInt64 = 1_000_000_000
    private static let lease: UInt64 = 10_000_000_000

    /// One owner's way to the store: it ends at a given request, whose answer is withheld, and goes on some time.
    final class Way: StoreTransport {
        struct State {
            var count = 0
            var isCut = false
            var held: [UnsafeContinuation<Void, Never>] = []
        }

        private let store: any StoreTransport
        /// The request at which it ends.
        private let last: Int
        /// That one reaches the store before.
        private let isApplied: Bool
        /// So long each answer takes.
        private let delay: (nanoseconds: UInt64, loop: EventLoop)?
        let state = Mutex(State())

        init(
            _ store: any StoreTransport, last: Int, isApplied: Bool,
            delay: (nanoseconds: UInt64, loop: EventLoop)? = nil
        ) {
            (self.store, self.last, self.isApplied, self.delay) = (store, last, isApplied, delay)
        }

        var capabilities: StoreCapabilities { store.capabilities }
        var isCut: Bool { state.withLock { $0.isCut } }

        func perform(_ request: StoreRequest) async -> StoreReply {
            let isLast = state.withLock { state in
                state.count += 1
                if state.count == last { state.isCut = true }
                return state.count == last
            }
            let early = isLast && isApplied ? await store.perform(request) : nil
            while isCut {
                await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                    state.withLock { $0.held.append(continuation) }
                }
            }
            if let early { return early }
            let reply = await store.perform(request)
            if let delay { await delay.loop.sleep(nanoseconds: delay.nanoseconds) }
            return reply
        }

        func cut() { state.withLock { $0.isCut = true } }

        func mend() {
            let held = state.withLock { state in
                state.isCut = false
                defer { state.held = [] }
                return state.held
            }
            for continuation in held { continuation.resume() }
        }
    }

    /// What an owner said, and when.
    private final class Words: @unchecked Sendable {
        var stored: [Int] = []
        var promised: [UInt64] = []
        var read: [UInt64] = []
        var ends: [VolumeError] = []
    }

    private enum Use: Int, CaseIterable { case store, promise, read }

    /// Writers that wait for each kind of promise, and a reader, until the volume is not theirs any more.
    private static func use(_ volume: Headhunter, _ world: World, _ words: Words) -> [Task<Void, Never>] {
        Use.allCases.map { use in
            world.loops[0].task {
                var key = 1_000 * (use.rawValue + 1)
                while true {
                    key += 1
                    do throws(VolumeError) { try await once(use, volume, key, world, words) } catch {
                        // What is not in memory can not be read meanwhile.
                        if case .unavailable = error { continue }
                        words.ends.append(error)
                        return
                    }
                    await world.loops[0].sleep(nanoseconds: 150_000_000)
                }
            }
        }
    }

    private static func once(
        _ use: Use, _ volume: Headhunter, _ key: Int, _ world: World, _ words: Words
    ) async throws(VolumeError) {
        switch use {
        case .store:
            let number = try await StoreRig.put(volume, key, [1])
            try await volume.stored(number)
            words.stored.append(key)
        case .promise:
            let number = try await StoreRig.put(volume, key, [2])
            try await volume.commit(number, .durable)
            words.promised.append(world.clock.monotonic())
        case .read:
            _ = try await StoreRig.get(volume, 1)
            words.read.append(world.clock.monotonic())
        }
    }

    /// Cut off from the store at any request, whether that one still arrives or not, it acknowledges nothing and answers no read from
    /// the moment on at which another owner may; what it had promised to be in the store is there.
    @Test(arguments: 1...36) func anOwnerThatStoodStill(_ step: Int) throws {
        try standsStill(step)
    }

    /// The time that an answer takes does not make the lease longer: it was asked for when it began.
    @Test(arguments: 1...24) func answersThatTakeLong(_ step: Int) throws {
        try standsStill(step, delay: 2 * Self.second, drift: 0)
    }

    private func standsStill(_ step: Int, delay: UInt64? = nil, drift: UInt64? = nil) throws {
        for isApplied in [false, true] {
            try StoreRig.run(seed: UInt64(step)) { world in
                let memory = MemoryStore(world: world, loop: world.loops[0])
                try await StoreRig.prepare(world, memory)
                let way = Way(
                    memory, last: 12 + step, isApplied: isApplied, delay: delay.map { ($0, world.loops[0]) })
                let first = try await StoreRig.open(world, way) {
                    $0.leaseNanoseconds = Self.lease
                    $0.checkpointNanoseconds = 3 * Self.second
                }
                let words = Words()
                let users = Self.use(first, world, words)
                while !way.isCut { await world.loops[0].sleep(nanoseconds: 10_000_000) }
                await world.loops[0].sleep(nanoseconds: Self.second / 2)
                let second = try await StoreRig.open(world, memory, "b") {
                    $0.takesOver = true
                    if let drift { $0.driftNanoseconds = drift }
                }
                let taken = world.clock.monotonic()
                let before = words.stored
                try await second.stored(try await StoreRig.put(second, 1, [9]))
                await world.loops[0].sleep(nanoseconds: 15 * Self.second)
                way.mend()
                await world.loops[0].sleep(nanoseconds: 90 * Self.second)
                if let late = words.promised.first(where: { $0 > taken }) {
                    return "promised \(late - taken) ns too late"
                }
                if let late = words.read.first(where: { $0 > taken }) { return "answered \(late - taken) ns too late" }
                guard words.ends.count == users.count, words.ends.allSatisfy({ $0 == .fenced }) else {
                    return "the first owner ended with \(words.ends)"
                }
                guard !words.read.isEmpty, !words.promised.isEmpty else { return "the first owner did nothing" }
                for key in before + words.stored {
                    guard try await StoreRig.get(second, key) == [1] else { return "\(key) was in the store" }
                }
                return nil
            }
        }
    }

    /// Without another owner it goes on by itself when the store is there again, and says nothing before.
    @Test func aLeaseThatRunsOut() throws {
        try StoreRig.run(seed: 71) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) { $0.leaseNanoseconds = Self.lease }
            let words = Words()
            _ = Self.use(volume, world, words)
            await world.loops[0].sleep(nanoseconds: 20 * Self.second)
            rig.refuse { _ in 503 }
            await world.loops[0].sleep(nanoseconds: Self.lease)
            guard !volume.mayAnswer else { return "it answers still" }
            let counts = (words.read.count, words.promised.count)
            guard counts.0 > 100, counts.1 > 100 else { return "it said little: \(counts)" }
            await world.loops[0].sleep(nanoseconds: 300 * Self.second)
            guard counts == (words.read.count, words.promised.count) else { return "it answered without a lease" }
            rig.refuse(nil)
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            guard words.ends.isEmpty else { return "it ended with \(words.ends)" }
            return words.read.count > counts.0 + 50 && words.promised.count > counts.1 + 50 ? nil : "it did not go on"
        }
    }

    /// Who keeps no lease goes on by its log, and who takes over from it does not wait, but can say so.
    @Test func withoutALease() throws {
        try StoreRig.run(seed: 72) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let way = Way(memory, last: .max, isApplied: false)
            let first = try await StoreRig.open(world, way)
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            way.cut()
            await world.loops[0].sleep(nanoseconds: 100 * Self.second)
            guard try await StoreRig.get(first, 1) == [1] else { return "no answer" }
            try await first.commit(try await StoreRig.put(first, 2, [2]), .durable)
            let start = world.clock.monotonic()
            let second = try await StoreRig.open(world, memory, "b") { $0.takesOver = true }
            guard world.clock.monotonic() - start < Self.second else { return "it waited" }
            return second.ownerBeforeMayAnswer ? nil : "nobody is warned"
        }
    }

    /// A volume that was closed, and one that is opened again where its log is, has no owner to wait for.
    @Test func nobodyToWaitFor() throws {
        try StoreRig.run(seed: 73) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig) { $0.leaseNanoseconds = Self.lease }
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            first.abandon()
            let start = world.clock.monotonic()
            let again = try await StoreRig.open(world, rig) { $0.leaseNanoseconds = Self.lease }
            try await again.close()
            let second = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
            guard world.clock.monotonic() - start < Self.second else { return "it waited" }
            return try await StoreRig.get(second, 1) == [1] ? nil : "a change is missing"
        }
    }

    /// A taker whose every request takes two seconds has its volume, though the owner writes a header each ten seconds.
    @Test(arguments: 1...12) func aSlowTaker(_ seed: Int) throws {
        try StoreRig.run(seed: UInt64(seed)) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let first = try await StoreRig.open(world, memory) { $0.checkpointNanoseconds = 10 * Self.second }
            let words = Words()
            let users = Self.use(first, world, words)
            await world.loops[0].sleep(nanoseconds: 20 * Self.second + UInt64(seed) * 900_000_000)
            let slow = SlowStore(memory, loop: world.loops[0], nanoseconds: 2 * Self.second)
            let second = try await StoreRig.open(world, slow, "b") { $0.takesOver = true }
            for key in words.stored {
                guard try await StoreRig.get(second, key) == [1] else { return "\(key) was in the store" }
            }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            return words.ends.count == users.count ? nil : "the first owner goes on"
        }
    }

    /// A taker that ends behind its claim leaves all there is to the next one, which waits for the first owner, too.
    @Test(arguments: [false, true]) func aTakerThatEnds(_ hasNewSlots: Bool) throws {
        try StoreRig.run(seed: 74) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory, ["a", "b", "c"])
            let way = Way(memory, last: .max, isApplied: false)
            let first = try await StoreRig.open(world, way) {
                $0.leaseNanoseconds = Self.lease
                $0.checkpointNanoseconds = hasNewSlots ? 3_600 * Self.second : 5 * Self.second
            }
            let words = Words()
            _ = Self.use(first, world, words)
            await world.loops[0].sleep(nanoseconds: 21 * Self.second)
            way.cut()
            let rig = StoreRig(world, memory)
            rig.refuse { kind in
                if case .list(let prefix, _, _) = kind, prefix.hasSuffix("/slot/") { return 403 }
                return nil
            }
            let headers = try await StoreRig.names(world, memory, "header").count
            do {
                _ = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
                return "the first taker opened it"
            } catch {}
            guard try await StoreRig.names(world, memory, "header").count == headers + 1 else { return "no claim" }
            let third = try await StoreRig.open(world, memory, "c") { $0.takesOver = true }
            let taken = world.clock.monotonic()
            for key in words.stored {
                guard try await StoreRig.get(third, key) == [1] else { return "\(key) was in the store" }
            }
            guard words.stored.count > 20 else { return "the first owner stored little" }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            let late = (words.read + words.promised).filter { $0 > taken }
            return late.isEmpty ? nil : "the first owner said \(late.count) things more"
        }
    }

    /// The last slot may hold records whose data the store has lost. Whoever takes cuts there and gives their numbers to others, which the
    /// next one finds and not those.
    @Test func whatWasCutStaysAway() throws {
        try StoreRig.run(seed: 81) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory, ["a", "b", "c"])
            let way = Way(memory, last: .max, isApplied: false)
            let first = try await StoreRig.open(world, way) {
                $0.logIsInStore = true
                $0.checkpointNanoseconds = 3_600 * Self.second
            }
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            _ = try await StoreRig.store(first, [UInt8](repeating: 9, count: 5_000))
            for key in 2...6 { _ = try await StoreRig.put(first, key, [2]) }
            try await first.stored(first.log.last)
            way.cut()
            for name in try await StoreRig.names(world, memory, "segment") {
                try await StoreRig.objects(world, memory).delete(name)
            }
            way.cut()
            let secondWay = Way(memory, last: .max, isApplied: false)
            let second = try await StoreRig.open(world, secondWay, "b") {
                $0.takesOver = true
                $0.checkpointNanoseconds = 3_600 * Self.second
            }
            guard try await StoreRig.get(second, 1) == [1] else { return "a change is missing" }
            guard try await StoreRig.get(second, 6) == nil else { return "nothing was cut" }
            // Only its own log has these, and they have the numbers of some that were cut.
            for key in 11...12 { try await second.commit(try await StoreRig.put(second, key, [3]), .durable) }
            secondWay.cut()
            let third = try await StoreRig.open(world, memory, "b")
            for key in 11...12 {
                guard try await StoreRig.get(third, key) == [3] else { return "\(key) was durable" }
            }
            for key in 2...6 { guard try await StoreRig.get(third, key) == nil else { return "\(key) came back" } }
            return nil
        }
    }

    /// A log whose records another owner has not met lies where it was when the volume, closed there, comes back to it. None of it counts, also
    /// when the opening that came back ends before it has written anything.
    @Test func aLogThatWasOvertakenStaysAway() throws {
        try StoreRig.run(seed: 82) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            @Sendable func open(_ log: String, takesOver: Bool = false) async throws -> Headhunter {
                try await StoreRig.open(world, memory, log) {
                    $0.takesOver = takesOver
                    $0.checkpointNanoseconds = 3_600 * Self.second
                }
            }
            let first = try await open("a")
            for key in 1...40 { try await first.commit(try await StoreRig.put(first, key, [1]), .durable) }
            first.abandon()
            let second = try await open("b", takesOver: true)
            for key in 101...103 { _ = try await StoreRig.put(second, key, [2]) }
            try await second.close()
            for round in 1...3 {
                let next = try await open("a")
                for key in 1...40 where try await StoreRig.get(next, key) != nil {
                    return "opening \(round): \(key) came back"
                }
                for key in 101...103 {
                    guard try await StoreRig.get(next, key) == [2] else { return "opening \(round): \(key) is missing" }
                }
                next.abandon()
            }
            return nil
        }
    }

    /// A claim tells the lease of the owner before, not of who claimed: that owner may keep none, and answer still.
    @Test func aClaimOfWhoKeepsALease() throws {
        try StoreRig.run(seed: 77) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory, ["a", "b", "c"])
            let first = try await StoreRig.open(world, memory)
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            let rig = StoreRig(world, memory)
            rig.refuse { kind in
                if case .list(let prefix, _, _) = kind, prefix.hasSuffix("/slot/") { return 403 }
                return nil
            }
            do {
                _ = try await StoreRig.open(world, rig, "b") {
                    $0.takesOver = true
                    $0.leaseNanoseconds = Self.lease
                }
                return "the first taker opened it"
            } catch {}
            let start = world.clock.monotonic()
            let third = try await StoreRig.open(world, memory, "c") { $0.takesOver = true }
            guard world.clock.monotonic() - start < Self.second else {
                return "it waited for a lease that nobody keeps"
            }
            guard third.ownerBeforeMayAnswer else { return "nobody is warned" }
            return try await StoreRig.get(third, 1) == [1] ? nil : "a change is missing"
        }
    }

    /// One that is served to be read only, because it is damaged, answers no longer than one that writes.
    @Test func whoOnlyReads() throws {
        try StoreRig.run(seed: 78) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let first = try await StoreRig.open(world, memory) { $0.leaseNanoseconds = Self.lease }
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            first.abandon()
            await first.settled()
            let way = Way(memory, last: .max, isApplied: false)
            let reader = try await StoreRig.open(world, way) {
                $0.leaseNanoseconds = Self.lease
                $0.isReadOnly = true
                $0.looksForOwner = true
            }
            await world.loops[0].sleep(nanoseconds: 3 * Self.lease)
            guard try await StoreRig.get(reader, 1) == [1] else { return "it does not answer" }
            way.cut()
            let second = try await StoreRig.open(world, memory, "b") { $0.takesOver = true }
            guard !reader.mayAnswer else { return "it answers beside the next owner" }
            try await second.stored(try await StoreRig.put(second, 1, [9]))
            way.mend()
            await world.loops[0].sleep(nanoseconds: 2 * Self.lease)
            do throws(VolumeError) {
                let value = try await StoreRig.get(reader, 1)
                return "it answers \(value ?? [])"
            } catch { return error == .fenced ? nil : "\(error)" }
        }
    }

    /// A store whose reads do not come back any more; all else does.
    private final class DeafStore: StoreTransport {
        private let store: any StoreTransport
        private let loop: EventLoop
        let isDeaf = Mutex(false)

        init(_ store: any StoreTransport, loop: EventLoop) { (self.store, self.loop) = (store, loop) }

        var capabilities: StoreCapabilities { store.capabilities }

        func perform(_ request: StoreRequest) async -> StoreReply {
            if case .object(_, .get) = request.kind, isDeaf.withLock({ $0 }) {
                await loop.sleep(nanoseconds: 3_600 * TakingTests.second)
            }
            return await store.perform(request)
        }
    }

    /// Reads that hang, and those that wait behind them, hold up no look.
    @Test func looksWaitBehindNobody() throws {
        try StoreRig.run(seed: 79) { world in
            let deaf = DeafStore(MemoryStore(world: world, loop: world.loops[0]), loop: world.loops[0])
            try await StoreRig.prepare(world, deaf)
            let volume = try await StoreRig.open(world, deaf) { $0.leaseNanoseconds = Self.lease }
            try await volume.stored(try await StoreRig.put(volume, 1, [1]))
            guard let name = ObjectName("v/segment/1") else { return "no name" }
            deaf.isDeaf.withLock { $0 = true }
            for _ in 0..<300 { world.loops[0].task { _ = try? await volume.store.get(name) } }
            for _ in 0..<100 {
                await world.loops[0].sleep(nanoseconds: Self.second)
                guard volume.mayAnswer else { return "its lease ran out" }
            }
            return nil
        }
    }

    /// Of two that take at the same time one has the volume.
    @Test(arguments: 1...20) func twoTakers(_ seed: Int) throws {
        try StoreRig.run(seed: UInt64(seed)) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory, ["a", "b", "c"])
            let first = try await StoreRig.open(world, memory)
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            let takers = ["b", "c"].map { log in
                world.loops[0].task { () async -> Headhunter? in
                    let far = FaultyTransport(memory, loop: world.loops[0], random: world.random, faults: .none)
                    far.faults.latencyNanoseconds = 60_000_000
                    return try? await StoreRig.open(world, far, log) { $0.takesOver = true }
                }
            }
            var winners: [Headhunter] = []
            for taker in takers { if let volume = await taker.value { winners.append(volume) } }
            // One that opened may have been overtaken since.
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            var owners = 0
            for volume in winners where (try? await StoreRig.get(volume, 1)) == [1] { owners += 1 }
            return owners == 1 ? nil : "\(owners) owners"
        }
    }

    /// Also while a checkpoint of its own waits for a store that takes no more data.
    @Test func whileACheckpointWaits() throws {
        try StoreRig.run(seed: 80) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let rig = StoreRig(world, memory)
            let first = try await StoreRig.open(world, rig) { $0.leaseNanoseconds = Self.lease }
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            rig.refuse { kind in
                if case .object(let name, .put) = kind, !name.text.contains("/header/") { return 507 }
                return nil
            }
            _ = try await StoreRig.store(first, [UInt8](repeating: 1, count: 100_000))
            let words = Words()
            let users = Self.use(first, world, words)
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            guard first.storeLag.trouble != nil, words.ends.isEmpty else { return "its checkpoint does not wait" }
            _ = try await StoreRig.open(world, memory, "b") { $0.takesOver = true }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            return words.ends.count == users.count && words.ends.allSatisfy { $0 == .fenced } ? nil : "\(words.ends)"
        }
    }

    /// Who is overtaken is told, once.
    @Test func whoIsOvertakenIsTold() throws {
        try StoreRig.run(seed: 75) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            let times = Mutex(0)
            first.whenOvertaken { times.withLock { $0 += 1 } }
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            guard times.withLock({ $0 }) == 0 else { return "told too early" }
            _ = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
            await world.loops[0].sleep(nanoseconds: 25 * Self.second)
            guard times.withLock({ $0 }) == 1 else { return "told \(times.withLock { $0 }) times" }
            first.abandon()
            await first.settled()
            // Its folder may be used again.
            let again = try await StoreRig.open(world, rig, "a") { $0.takesOver = true }
            return try await StoreRig.get(again, 1) == [1] ? nil : "a change is missing"
        }
    }

    /// Who may not write to the store is told so when it opens a volume.
    @Test func whoMayNotWrite() throws {
        try StoreRig.run(seed: 76) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            rig.refuse { kind in
                if case .object(_, .put) = kind { return 403 }
                return nil
            }
            do {
                _ = try await StoreRig.open(world, rig)
                return "it opened"
            } catch let error as VolumeError {
                guard case .unavailable = error else { return "\(error)" }
                return nil
            }
        }
    }
}

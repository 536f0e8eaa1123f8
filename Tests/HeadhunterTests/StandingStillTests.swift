import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// Clocks that do not go alike, and processes that stand still between two steps.
struct StandingStillTests {
    private static let second: UInt64 = 1_000_000_000
    private static let lease: UInt64 = 10_000_000_000

    private static func world(_ world: World, _ clock: any WorldClock) -> World {
        World(
            clock: clock, random: world.random, disk: world.disk, network: world.network, blocking: world.blocking,
            loops: world.loops)
    }

    /// Goes slower than the other servers' clocks.
    private final class SlowClock: WorldClock {
        private let clock: any WorldClock

        init(_ clock: any WorldClock) { self.clock = clock }

        func monotonic() -> UInt64 { clock.monotonic() / 100 * 85 }
        func wall() -> Int64 { clock.wall() }
    }

    /// An owner whose clock goes slower than the taker's says nothing more when the taker has the volume: that is what the drift is for.
    @Test(arguments: 0..<10) func clocksThatDoNotGoAlike(_ phase: Int) throws {
        try StoreRig.run(seed: 91) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let way = TakingTests.Way(memory, last: .max, isApplied: false)
            let first = try await StoreRig.open(Self.world(world, SlowClock(world.clock)), way) {
                $0.leaseNanoseconds = Self.lease
                $0.checkpointNanoseconds = 3_600 * Self.second
            }
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            await world.loops[0].sleep(nanoseconds: 20 * Self.second + UInt64(phase) * 300_000_000)
            guard first.mayAnswer else { return "it keeps no lease" }
            way.cut()
            let second = try await StoreRig.open(world, memory, "b") { $0.takesOver = true }
            guard !first.mayAnswer else { return "it answers beside the next owner" }
            return try await StoreRig.get(second, 1) == [1] ? nil : "a change is missing"
        }
    }

    /// Everything stands still behind a certain reading of it.
    private final class StandingClock: WorldClock {
        struct State {
            var readings = 0
            var end = Int.max
            var offset: UInt64 = 0
            /// What ran when it stood still has gone on to its end.
            var hasTurned = false
        }

        private let clock: any WorldClock
        private let loop: EventLoop
        let state = Mutex(State())

        init(_ clock: any WorldClock, loop: EventLoop) { (self.clock, self.loop) = (clock, loop) }

        func wall() -> Int64 { clock.wall() }

        func monotonic() -> UInt64 {
            let (offset, stands) = state.withLock { state -> (UInt64, Bool) in
                state.readings += 1
                let before = state.offset
                if state.readings == state.end { state.offset += 60 * StandingStillTests.second }
                return (before, state.readings == state.end)
            }
            if stands { loop.execute { self.state.withLock { $0.hasTurned = true } } }
            return clock.monotonic() + offset
        }

        func stand(_ nanoseconds: UInt64) { state.withLock { $0.offset += nanoseconds } }
    }

    /// What was changed while the lease held is not promised before it holds again.
    @Test(arguments: 1...4) func aPromiseWaitsForTheLease(_ seed: UInt64) throws {
        try promise(seed, standsAgainAt: nil)
    }

    /// A promise that waited for the lease is not given when the lease has ended again on the way to who asked.
    @Test(arguments: 1...40) func betweenTheLookAndTheAnswer(_ step: Int) throws {
        for seed in 1...4 { try promise(UInt64(seed), standsAgainAt: step) }
    }

    private func promise(_ seed: UInt64, standsAgainAt step: Int?) throws {
        try StoreRig.run(seed: seed) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let clock = StandingClock(world.clock, loop: world.loops[0])
            let volume = try await StoreRig.open(Self.world(world, clock), memory) {
                $0.leaseNanoseconds = Self.lease
                $0.checkpointNanoseconds = 3_600 * Self.second
            }
            await world.loops[0].sleep(nanoseconds: 5 * Self.second)
            let number = try await StoreRig.put(volume, 1, [1])
            // Its lease is over; it is kept again with the next look, and then all may stand still once more.
            clock.stand(60 * Self.second)
            if let step { clock.state.withLock { $0.end = $0.readings + step } }
            let outcome = Mutex<String?>(nil)
            volume.whenCommitted(number, .durable, on: world.loops[0]) { failure in
                let counts = step == nil || clock.state.withLock { $0.hasTurned }
                let isWrong = failure == nil && counts && !volume.mayAnswer
                outcome.withLock { $0 = isWrong ? "promised without a lease" : "" }
            }
            for _ in 0..<200 where outcome.withLock({ $0 }) == nil {
                await world.loops[0].sleep(nanoseconds: Self.second)
            }
            guard let said = outcome.withLock({ $0 }) else { return "nothing was answered" }
            return said.isEmpty ? nil : said
        }
    }

    /// A taker that stands still at any request, and goes on when another one has taken the volume and writes to it: one of both
    /// has the volume then, with all that was promised.
    @Test(arguments: 1...24) func aTakerThatStandsStill(_ step: Int) throws {
        for isApplied in [false, true] {
            try StoreRig.run(seed: UInt64(step)) { world in
                let memory = MemoryStore(world: world, loop: world.loops[0])
                try await StoreRig.prepare(world, memory, ["a", "b", "c", "d"])
                let first = try await StoreRig.open(world, memory) { $0.logIsInStore = true }
                for key in 1...5 { try await first.stored(try await StoreRig.put(first, key, [1])) }
                let way = TakingTests.Way(memory, last: step, isApplied: isApplied)
                let taker = world.loops[0].task { () async -> Headhunter? in
                    try? await StoreRig.open(world, way, "b") {
                        $0.takesOver = true
                        $0.logIsInStore = true
                    }
                }
                await world.loops[0].sleep(nanoseconds: Self.second)
                // It asked for less.
                guard way.isCut else { return nil }
                let third = try await StoreRig.open(world, memory, "c") {
                    $0.takesOver = true
                    $0.logIsInStore = true
                }
                var stored = Array(1...5)
                var end: VolumeError?
                for key in 10...60 {
                    if key == 20 { way.mend() }
                    do throws(VolumeError) {
                        try await third.stored(try await StoreRig.put(third, key, [1]))
                        stored.append(key)
                    } catch {
                        end = error
                        break
                    }
                    await world.loops[0].sleep(nanoseconds: 200_000_000)
                }
                // It may have had the volume before the third one came.
                var hasIt = false
                if let second = await taker.value {
                    await world.loops[0].sleep(nanoseconds: 60 * Self.second)
                    do throws(VolumeError) {
                        try await second.stored(try await StoreRig.put(second, 99, [1]))
                        hasIt = true
                    } catch { hasIt = false }
                }
                guard hasIt == (end != nil) else {
                    return "the second \(hasIt ? "has it" : "has it not"), the third \(end.map { "\($0)" } ?? "has it")"
                }
                let last = try await StoreRig.open(world, memory, "d") { $0.takesOver = true }
                for key in stored {
                    guard try await StoreRig.get(last, key) == [1] else { return "\(key) was promised" }
                }
                return nil
            }
        }
    }
}

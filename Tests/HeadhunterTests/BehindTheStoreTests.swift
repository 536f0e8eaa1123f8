import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// A store that is slower than what it is given, or away, or refuses some of it.
struct BehindTheStoreTests {
    private final class Flag: @unchecked Sendable {
        var isSet = false
        var count = 0
        var most = 0
    }

    /// Somebody writes without a pause to a store that takes a twentieth of it: a checkpoint ends all the same, and the local
    /// disk does not fill up.
    @Test func anEndlessWriter() throws {
        let simulation = Simulation(seed: 51)
        try StoreRig.run(simulation) { world in
            let slow = SlowStore(
                MemoryStore(world: world, loop: world.loops[0]), loop: world.loops[0], nanoseconds: 2_000_000_000)
            try await StoreRig.prepare(world, slow)
            let bound = 24 << 20
            let volume = try await StoreRig.open(world, slow) { $0.stagedBytesMax = bound }
            let stop = Flag()
            let writer = world.loops[0].task {
                let bytes = [UInt8](repeating: 7, count: 1 << 19)
                do throws(VolumeError) {
                    while !stop.isSet {
                        _ = try await StoreRig.store(volume, bytes)
                        stop.count += 1
                        // The disk's own time: without it the writer would be infinitely fast.
                        await world.loops[0].sleep(nanoseconds: 5_000_000)
                    }
                } catch { stop.most = -1 }
            }
            await world.loops[0].sleep(nanoseconds: 20_000_000_000)
            for round in 0..<3 {
                let begin = world.clock.monotonic()
                try await volume.nextCheckpoint()
                let seconds = (world.clock.monotonic() - begin) / 1_000_000_000
                // What was staged when it began, four at a time, and a few requests of its own.
                if seconds > 60 { return "checkpoint \(round) took \(seconds) s" }
                let staged = simulation.files(below: "a/stage").reduce(0) { $0 + $1.size }
                if staged > bound + (2 << 20) { return "\(staged) bytes are staged" }
                if staged < bound / 2 { return "only \(staged) bytes are staged: the writer is no trouble" }
            }
            let number = try await StoreRig.put(volume, 1, [1])
            let begin = world.clock.monotonic()
            try await volume.stored(number)
            if world.clock.monotonic() - begin > 120_000_000_000 { return "`store` durability starves" }
            stop.isSet = true
            await writer.value
            return stop.most < 0 ? "the writer failed" : nil
        }
    }

    /// The store refuses to delete: checkpoints go on, it is not asked all the time, and what is to go goes when it may.
    @Test func deletesThatAreRefused() throws {
        try StoreRig.run(seed: 52) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig)
            rig.refuse { StoreRig.isDelete($0) ? 403 : nil }
            for round in 0..<40 {
                let (range, _) = try await StoreRig.store(volume, [UInt8](repeating: UInt8(round), count: 5_000))
                try await volume.checkpoint()
                _ = try await volume.change { (change) throws(Missing) in
                    try change.release(segment: range.segment, length: UInt64(range.length))
                }
                try await volume.checkpoint()
                await world.loops[0].sleep(nanoseconds: 1_000_000_000)
            }
            let asked = rig.state.withLock { $0.deletes }
            // Every second or so, then less and less often; each time at most 16 of them.
            if asked > 16 * 8 { return "\(asked) deletes were tried while all were refused" }
            if asked == 0 { return "nothing was to be deleted" }
            let kept = try await StoreRig.names(world, rig, "segment").count
            if kept < 40 { return "\(kept) segments are there: some went although it was refused" }
            rig.refuse(nil)
            for _ in 0..<80 {
                await world.loops[0].sleep(nanoseconds: 15_000_000_000)
                try await volume.checkpoint()
            }
            let left = try await StoreRig.names(world, rig, "segment").count
            return left <= 1 ? nil : "\(left) segments are left"
        }
    }

    /// What was to be deleted when the process died is deleted by the next one; and thousands of dead segments at once are
    /// gone after a few checkpoints.
    @Test func deadSegmentsOfAnotherLife() throws {
        let simulation = Simulation(seed: 53)
        let counted = Flag()
        // The store's memory does not outlive the process, so a directory has it.
        Bench.prepare(simulation)
        let made = simulation.perform(for: 36_000_000_000_000) { world -> String in
            do {
                let volume = try await Bench.volume(world)
                var ranges: [SegmentRange] = []
                for round in 0..<300 {
                    ranges.append(
                        try await StoreRig.store(volume, [UInt8](repeating: UInt8(round & 255), count: 3_000)).0)
                    try await volume.stored(volume.log.last)
                }
                try await volume.checkpoint()
                for range in ranges {
                    _ = try await volume.change { (change) throws(Missing) in
                        try change.release(segment: range.segment, length: UInt64(range.length))
                    }
                }
                try await volume.commit(volume.log.last, .durable)
                return ""
            } catch { return "\(error)" }
        }
        #expect(made == "")
        counted.count = simulation.files(below: "store").count { $0.path.contains("segment") }
        #expect(counted.count >= 200)
        simulation.killAndRestart()
        let done = simulation.perform(for: 36_000_000_000_000) { world -> String in
            do {
                let volume = try await Bench.volume(world)
                for _ in 0..<4 {
                    try await volume.checkpoint()
                    await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                }
                return ""
            } catch { return "\(error)" }
        }
        #expect(done == "")
        let left = simulation.files(below: "store").filter { $0.path.contains("segment") }
        #expect(left.count <= 2, "\(left.count) of \(counted.count) segments are left after four checkpoints")
    }

    /// The store is away: changes of what is there wait when the log has grown by a few times what a checkpoint is for.
    @Test func theLogIsBounded() throws {
        let simulation = Simulation(seed: 54)
        try StoreRig.run(simulation) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.logBytesMax = 256 << 10
                $0.checkpointNanoseconds = 1_000_000_000
            }
            rig.refuse { _ in 503 }
            let tally = Flag()
            let writer = world.loops[0].task {
                do throws(VolumeError) {
                    for round in 0..<4_000 {
                        _ = try await StoreRig.put(
                            volume, round % 5, [UInt8](repeating: UInt8(round & 255), count: 1_500))
                        tally.count += 1
                    }
                } catch { tally.most = -1 }
            }
            await world.loops[0].sleep(nanoseconds: 600_000_000_000)
            if tally.count >= 4_000 { return "nothing ever waited" }
            let bytes = simulation.files(below: "a").reduce(0) { $0 + $1.size }
            if bytes > 3 << 20 { return "\(bytes) bytes of log" }
            // What makes room does not wait, and neither does anybody who reads.
            if try await StoreRig.get(volume, 1)?.count != 1_500 { return "it can not be read" }
            rig.refuse(nil)
            await writer.value
            return tally.count == 4_000 && tally.most == 0 ? nil : "\(tally.count) changes went through"
        }
    }

    /// Numbers are needed while the store is away and the node that has them was evicted.
    @Test func numbersWhileTheStoreIsAway() throws {
        try StoreRig.run(seed: 55) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.nonceRange = 1
                $0.checkpointNanoseconds = 3_600_000_000_000
            }
            // More leaves than there are frames, so that what is not used goes.
            for key in 0..<6_000 { _ = try await StoreRig.put(volume, key, [UInt8](repeating: 3, count: 3_000)) }
            try await volume.checkpoint()
            for key in 0..<6_000 { _ = try await StoreRig.get(volume, key) }
            rig.refuse { _ in 503 }
            _ = try await StoreRig.put(volume, 5_999, [4])
            let ended = Flag()
            let checkpoint = world.loops[0].task {
                do throws(VolumeError) { try await volume.checkpoint() } catch { ended.count = -1 }
                ended.isSet = true
            }
            await world.loops[0].sleep(nanoseconds: 600_000_000_000)
            if ended.isSet { return "it ended without a store: \(ended.count)" }
            rig.refuse(nil)
            await checkpoint.value
            if ended.count < 0 { return "the volume gave up" }
            _ = try await StoreRig.put(volume, 1, [1])
            return nil
        }
    }

    /// A reader met a node that is not in memory; before it is fetched, a writer has changed it and its object is gone.
    @Test func aNodeThatMovedOn() throws {
        try StoreRig.run(seed: 56) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            _ = try await StoreRig.put(first, 1, [1])
            try await first.close()
            let volume = try await StoreRig.open(world, rig)
            let missed = volume.read(0) { (view) throws(Missing) -> Bool in
                let found = withUnsafeBytes(of: UInt64(1).bigEndian) { key in
                    Result { () throws(Missing) -> Bool in try view.get(1, key) != nil }
                }
                return try found.get()
            }
            guard missed == nil else { return "the node was in memory" }
            let wanted = volume.wanted(by: 0)
            let before = Set(try await StoreRig.names(world, rig, "meta"))
            for round in 0..<3 {
                _ = try await StoreRig.put(volume, 1, [UInt8(round)])
                _ = try await StoreRig.put(volume, 1, [UInt8(round)], tree: 0x40)
                try await volume.checkpoint()
                await world.loops[0].sleep(nanoseconds: 1_000_000_000)
            }
            guard before.isDisjoint(with: try await StoreRig.names(world, rig, "meta")) else {
                return "its object is still there"
            }
            try await volume.load(wanted)
            return try await StoreRig.get(volume, 1) == [2] ? nil : "it has another value"
        }
    }

    /// Opening asks the store a number of times that does not depend on how many ranges the log names.
    @Test func openingWithData() throws {
        let simulation = Simulation(seed: 57)
        Bench.prepare(simulation)
        let made = simulation.perform { world -> String in
            do {
                let volume = try await Bench.volume(world)
                for round in 0..<300 {
                    _ = try await StoreRig.store(volume, [UInt8](repeating: UInt8(round & 255), count: 2_000))
                }
                // In the store, and their checksums in the log alone.
                try await volume.stored(volume.log.last)
                for _ in 0..<20 { _ = try await StoreRig.put(volume, 1, [1]) }
                try await volume.commit(volume.log.last, .durable)
                return ""
            } catch { return "\(error)" }
        }
        #expect(made == "")
        simulation.killAndRestart()
        try StoreRig.run(simulation) { world in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let objects = ObjectStore(directory, world: world, loop: world.loops[0])
            let volume = try await Headhunter.open(
                world: world, loop: world.loops[0], store: objects, prefix: "v", directory: "log")
            let requests = objects.counters.requests
            _ = volume
            return requests < 60 ? nil : "\(requests) requests to open"
        }
    }

    /// However many checkpoints there were, the objects that hold the trees stay in proportion to what is in them.
    @Test func emptyObjectsAreRewritten() throws {
        try StoreRig.run(seed: 58) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            var volume = try await StoreRig.open(world, rig) {
                $0.metadataObjectBytes = 1 << 20
                $0.metadataObjectsMin = 8
            }
            var random = Generator(seed: 58)
            var model: [Int: UInt8] = [:]
            for key in 0..<9_000 {
                _ = try await StoreRig.put(volume, key, [UInt8](repeating: 0, count: 1_000))
                model[key] = 0
            }
            for round in 0..<250 {
                let key = random.below(9_000)
                let value = UInt8(round & 255)
                _ = try await StoreRig.put(volume, key, [UInt8](repeating: value, count: 1_000))
                model[key] = value
                try await volume.nextCheckpoint()
                await world.loops[0].sleep(nanoseconds: 100_000_000)
            }
            for _ in 0..<3 {
                _ = try await StoreRig.put(volume, 9_000, [1])
                try await volume.checkpoint()
                await world.loops[0].sleep(nanoseconds: 1_000_000_000)
            }
            // More than 9 MB in objects of 1 MiB: the bound is 8, and 4 for each MiB of nodes.
            let objects = try await StoreRig.names(world, rig, "meta").count
            if objects > 75 { return "\(objects) metadata objects" }
            for isAgain in [false, true] {
                for (key, value) in model {
                    guard try await StoreRig.get(volume, key) == [UInt8](repeating: value, count: 1_000) else {
                        return "key \(key) is not what it was, \(isAgain ? "after" : "before") it was opened again"
                    }
                }
                if isAgain { break }
                try await volume.close()
                volume = try await StoreRig.open(world, rig)
            }
            return nil
        }
    }
}

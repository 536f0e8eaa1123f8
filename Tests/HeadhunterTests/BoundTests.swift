import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// What begins a checkpoint, what seals a segment, and where writers wait.
struct BoundTests {
    /// A full segment goes to a store elsewhere without anybody's waiting for it, and without waiting for more of its kind.
    @Test func aFullSegmentLeavesAtOnce() throws {
        try StoreRig.run(seed: 84) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let volume = try await StoreRig.open(world, memory) { $0.stageMemoryBytes = 64 << 20 }
            for fill in 1...2 {
                let range = with([UInt8](repeating: UInt8(fill), count: 600_000)) { volume.append($0, heat: .large) }
                guard range != nil else { return "there was no room" }
            }
            await world.loops[0].sleep(nanoseconds: 1_000_000_000)
            let there = memory.objects.keys.filter { $0.text.hasPrefix("v/segment/") }.count
            try await volume.close()
            return there == 1 ? nil : "\(there) segments are in the store"
        }
    }

    private static func waitUntil(_ world: World, _ isTrue: () async throws -> Bool) async throws -> Bool {
        for _ in 0..<200 {
            if try await isTrue() { return true }
            await world.loops[0].sleep(nanoseconds: 50_000_000)
        }
        return false
    }

    private static let never: UInt64 = 36_000_000_000_000_000

    @Test func aCheckpointForTheLogsBytes() throws {
        try StoreRig.run(seed: 101) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.logBytesMax = 64 << 10
                $0.checkpointNanoseconds = Self.never
            }
            let before = volume.storedBelow
            for _ in 0..<40 { _ = try await StoreRig.put(volume, 1, [UInt8](repeating: 1, count: 1_000)) }
            await world.loops[0].sleep(nanoseconds: 5_000_000_000)
            if volume.storedBelow != before { return "a checkpoint came too early" }
            for _ in 0..<40 { _ = try await StoreRig.put(volume, 1, [UInt8](repeating: 1, count: 1_000)) }
            return try await Self.waitUntil(world) { volume.storedBelow > before } ? nil : "no checkpoint came"
        }
    }

    @Test func aCheckpointForDirtyNodes() throws {
        try StoreRig.run(seed: 102) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.logBytesMax = 1 << 40
                $0.checkpointNanoseconds = Self.never
            }
            let before = volume.storedBelow
            // Of 512 frames a third may be dirty; a leaf holds five of these.
            for key in 0..<400 { _ = try await StoreRig.put(volume, key, [UInt8](repeating: 1, count: 3_000)) }
            await world.loops[0].sleep(nanoseconds: 5_000_000_000)
            if volume.storedBelow != before { return "a checkpoint came too early" }
            for key in 400..<1_400 { _ = try await StoreRig.put(volume, key, [UInt8](repeating: 1, count: 3_000)) }
            return try await Self.waitUntil(world) { volume.storedBelow > before } ? nil : "no checkpoint came"
        }
    }

    /// What nobody waits for is written all the same, before much of it is pending, and survives the process.
    @Test func theLogIsWrittenThoughNobodyWaits() throws {
        let simulation = Simulation(seed: 108)
        let set: @Sendable (inout HeadhunterOptions) -> Void = {
            $0.logBytesMax = 1 << 40
            $0.checkpointNanoseconds = Self.never
            $0.cacheBytes = 64 << 20
        }
        try StoreRig.run(simulation) { world in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let rig = StoreRig(world, directory)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig, "a", set)
            for key in 0..<1_000 { _ = try await StoreRig.put(volume, key, [UInt8](repeating: 7, count: 3_000)) }
            await world.loops[0].sleep(nanoseconds: 100_000_000)
            let pending = volume.log.pendingBytes
            return pending < 1 << 20 ? nil : "\(pending) bytes are pending"
        }
        simulation.killAndRestart()
        try StoreRig.run(simulation) { world in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let volume = try await StoreRig.open(world, StoreRig(world, directory), "a", set)
            let found = try await StoreRig.get(volume, 600)
            return found?.count == 3_000 ? nil : "what was written is gone"
        }
    }

    private final class Tally: @unchecked Sendable {
        var made = 0
        var failed = false
    }

    /// The store takes no nodes: writers wait before the cache is full, readers do not, and all goes on afterwards.
    @Test func writersWaitForNodes() throws {
        try StoreRig.run(seed: 103) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) { $0.logBytesMax = 1 << 40 }
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/meta/") { return 503 }
                return nil
            }
            let tally = Tally()
            let writer = world.loops[0].task {
                do throws(VolumeError) {
                    for key in 0..<6_000 {
                        _ = try await StoreRig.put(volume, key, [UInt8](repeating: UInt8(key & 255), count: 3_000))
                        tally.made += 1
                    }
                } catch { tally.failed = true }
            }
            await world.loops[0].sleep(nanoseconds: 600_000_000_000)
            if tally.made >= 6_000 || tally.made < 1_000 { return "\(tally.made) changes were taken" }
            let attempt = volume.change(0) { (change) throws(Missing) in
                [9].withUnsafeBytes { key in [1].withUnsafeBytes { change.put(1, key, $0) } }
            }
            guard case .full = attempt else { return "a change was taken although there is no room" }
            if try await StoreRig.get(volume, 7)?.first != 7 { return "it can not be read" }
            rig.refuse(nil)
            await writer.value
            return tally.made == 6_000 && !tally.failed ? nil : "\(tally.made) changes went through"
        }
    }

    /// A checkpoint that takes minutes keeps no data from the store that came since.
    @Test func segmentsAreSealedByTime() throws {
        try StoreRig.run(seed: 104) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 10_000_000_000 }
            _ = try await StoreRig.store(volume, [UInt8](repeating: 1, count: 1_000))
            _ = try await StoreRig.put(volume, 1, [1])
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/meta/") { return 503 }
                return nil
            }
            await world.loops[0].sleep(nanoseconds: 15_000_000_000)
            let before = try await StoreRig.names(world, rig, "segment").count
            _ = try await StoreRig.store(volume, [UInt8](repeating: 2, count: 1_000))
            await world.loops[0].sleep(nanoseconds: 35_000_000_000)
            let after = try await StoreRig.names(world, rig, "segment").count
            return after > before ? nil : "\(after) segments after half a minute, \(before) before"
        }
    }

    @Test func aCheckpointForTheTime() throws {
        try StoreRig.run(seed: 110) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.checkpointNanoseconds = 10_000_000_000
                $0.flushNanoseconds = Self.never
            }
            await world.loops[0].sleep(nanoseconds: 12_000_000_000)
            let idle = try await StoreRig.names(world, rig, "header").max()
            _ = try await StoreRig.put(volume, 1, [1])
            await world.loops[0].sleep(nanoseconds: 8_000_000_000)
            guard try await StoreRig.names(world, rig, "header").max() == idle else { return "before its time" }
            await world.loops[0].sleep(nanoseconds: 5_000_000_000)
            return try await StoreRig.names(world, rig, "header").max() == idle ? "none in 13 s" : nil
        }
    }

    /// With an hour between checkpoints data goes to the store by its age.
    @Test func segmentsGoToTheStoreByTheirAge() throws {
        try StoreRig.run(seed: 106) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.checkpointNanoseconds = Self.never
                $0.flushNanoseconds = 2_000_000_000
            }
            let before = try await StoreRig.names(world, rig, "segment").count
            _ = try await StoreRig.store(volume, [UInt8](repeating: 1, count: 1_000))
            await world.loops[0].sleep(nanoseconds: 1_000_000_000)
            let young = try await StoreRig.names(world, rig, "segment").count
            await world.loops[0].sleep(nanoseconds: 4_000_000_000)
            let old = try await StoreRig.names(world, rig, "segment").count
            return young == before && old == before + 1 ? nil : "\(before), \(young), \(old) segments"
        }
    }

    @Test func heatsAreKeptApart() throws {
        try StoreRig.run(seed: 105) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig)
            var segments: [Heat: Set<UInt64>] = [:]
            for round in 0..<20 {
                let heat = Heat.allCases[round % Heat.allCases.count]
                guard let range = [UInt8](repeating: 1, count: 5_000).withUnsafeBytes({ volume.append($0, heat: heat) })
                else {
                    return "nothing was taken"
                }
                segments[heat, default: []].insert(range.segment)
                volume.discard(range)
            }
            let all = segments.values.reduce(Set()) { $0.union($1) }
            return segments.values.allSatisfy { $0.count == 1 } && all.count == Heat.allCases.count
                ? nil : "\(segments)"
        }
    }

    /// What lies in the log at a start counts for the bound of the log.
    @Test func whatARecoveryFoundCounts() throws {
        let simulation = Simulation(seed: 106)
        Bench.prepare(simulation)
        let made = simulation.perform { world -> String in
            do {
                let volume = try await Bench.volume(world, small: false)
                for _ in 0..<80 { _ = try await StoreRig.put(volume, 1, [UInt8](repeating: 1, count: 3_000)) }
                try await volume.commit(volume.log.last, .durable)
                return ""
            } catch { return "\(error)" }
        }
        #expect(made == "")
        simulation.killAndRestart()
        try StoreRig.run(simulation) { world in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let rig = StoreRig(world, directory)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/meta/") { return 503 }
                return nil
            }
            let volume = try await StoreRig.open(world, rig, "log") {
                $0.logBytesMax = 32 << 10
                $0.checkpointNanoseconds = Self.never
            }
            let attempt = volume.change(0) { (change) throws(Missing) in
                [9].withUnsafeBytes { key in [1].withUnsafeBytes { change.put(1, key, $0) } }
            }
            guard case .full = attempt else { return "240 kB of log, a bound of 128, and a change is taken" }
            rig.refuse(nil)
            _ = try await StoreRig.put(volume, 2, [2])
            return nil
        }
    }

    /// A slot of a newer program is named, and nothing is taken over.
    /// A taker's fence comes in its place, and what follows the fence looks like a late owner's.
    @Test func aSlotThatIsGone() throws {
        try StoreRig.run(seed: 109) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = Self.never }
            for value in 1...6 { try await first.stored(try await StoreRig.put(first, 1, [UInt8(value)])) }
            let slots = try await StoreRig.names(world, rig, "slot").sorted()
            guard slots.count >= 4 else { return "\(slots.count) slots" }
            try await StoreRig.objects(world, rig).delete(slots[slots.count - 2])
            do {
                _ = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
                return "it opened"
            } catch {
                guard case .damaged(let why)? = error as? VolumeError else { return "\(error)" }
                return why.contains("replay log in the store") ? nil : why
            }
        }
    }

    @Test func aSlotOfANewerProgram() throws {
        try StoreRig.run(seed: 107) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            for _ in 0..<3 { try await first.stored(try await StoreRig.put(first, 1, [2])) }
            guard let slot = try await StoreRig.names(world, rig, "slot").max() else { return "there is no slot" }
            try await StoreRig.patch(world, rig, slot) { bytes in
                bytes[4] = 77
                let sum = bytes.dropLast(4).withUnsafeBytes { CRC32C.of($0) }
                withUnsafeBytes(of: sum.littleEndian) { bytes.replaceSubrange((bytes.count - 4)..., with: $0) }
            }
            do {
                _ = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
                return "it opened"
            } catch {
                guard case .unknownFormat(let why)? = error as? VolumeError else { return "\(error)" }
                return why.contains("slot") && why.contains("version 77") ? nil : why
            }
        }
    }
}

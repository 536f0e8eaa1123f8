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

    /// What was acknowledged while the stage was full is there after a power cut, and goes to the store when that comes back.
    @Test(arguments: 1...16 as ClosedRange<UInt64>) func aPowerCutWithAFullStage(_ seed: UInt64) throws {
        final class Kept: @unchecked Sendable { var ranges: [(SegmentRange, UInt8)] = [] }
        let simulation = Simulation(seed: 700 + seed)
        Bench.prepare(simulation)
        let kept = Kept()
        let bound = 3 << 20
        let bytes: @Sendable (UInt8) -> [UInt8] = { mark in
            (0..<120_000).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) ^ mark }
        }
        let open: @Sendable (World, Bool) async throws -> Headhunter = { world, isAway in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let rig = StoreRig(world, CopyingStore(directory, world))
            rig.refuse { kind in
                if isAway, case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            return try await StoreRig.open(world, rig, "log") {
                $0.stagedBytesMax = bound
                $0.checkpointNanoseconds = 5_000_000_000
            }
        }
        // Some are cut off at some call of the disk while the stage fills up, others when it is full.
        if seed % 2 == 1 { simulation.crashAtDiskCall = simulation.diskCalls + 40 + Int(seed) * 23 }
        let finished = simulation.perform(for: 3_600_000_000_000) { world -> String in
            do {
                let volume = try await open(world, true)
                let writer = world.loops[0].task {
                    for mark in UInt8.min...UInt8.max {
                        do throws(VolumeError) {
                            let (range, number) = try await StoreRig.store(volume, bytes(mark))
                            try await volume.commit(number, .durable)
                            kept.ranges.append((range, mark))
                        } catch { return }
                    }
                }
                await world.loops[0].sleep(nanoseconds: 600_000_000_000)
                writer.cancel()
                let staged = simulation.files(below: "log/stage").reduce(0) { $0 + $1.size }
                if staged > bound + (1 << 20) { return "\(staged) bytes are staged" }
                if kept.ranges.count > 40 { return "nobody was held back" }
                return volume.storeLag.bytes >= UInt64(bound / 2) ? "" : "only \(volume.storeLag) is staged"
            } catch { return "\(error)" }
        }
        #expect(finished == nil || finished == "")
        #expect(finished == nil || kept.ranges.count > 15)
        simulation.crash()
        simulation.restart()
        let found = simulation.perform(for: 3_600_000_000_000) { world -> String in
            do {
                let volume = try await open(world, false)
                for round in 0..<2 {
                    for (range, mark) in kept.ranges {
                        guard try await StoreRig.read(volume, range) == bytes(mark) else {
                            return "what was acknowledged is not there, round \(round)"
                        }
                    }
                    try await volume.checkpoint()
                }
                await world.loops[0].sleep(nanoseconds: 30_000_000_000)
                let staged = simulation.files(below: "log/stage")
                return staged.isEmpty && volume.storeLag.bytes == 0
                    ? "" : "\(staged.count) files are left, \(volume.storeLag)"
            } catch { return "\(error)" }
        }
        #expect(found == "", "\(kept.ranges.count) were acknowledged")
    }

    /// What a store gets in place of a file are the segment's bytes, and their checksum where it is told, from memory and
    /// from the file.
    @Test func whatIsSentIsWhatWasWritten() throws {
        final class Summing: StoreTransport, @unchecked Sendable {
            let inner: MemoryStore
            var known = 0
            var unknown = 0
            var wrong = 0
            init(_ inner: MemoryStore) { self.inner = inner }
            var capabilities: StoreCapabilities { inner.capabilities }
            func perform(_ request: StoreRequest) async -> StoreReply {
                if case .object(_, .put(.stream(let source, let size), _)) = request.kind {
                    let told = source.checksum
                    var sum = CRC32C()
                    var count: UInt64 = 0
                    while let piece = try? await source.piece(at: count) {
                        sum.update(piece.bytes)
                        count += UInt64(piece.count)
                        extendLifetime(piece)
                    }
                    if told == nil { unknown += 1 } else { known += 1 }
                    if count != size || told.map({ $0 != sum.value }) ?? false { wrong += 1 }
                }
                return await inner.perform(request)
            }
        }
        try StoreRig.run(seed: 72) { world in
            let store = Summing(MemoryStore(world: world, loop: world.loops[0]))
            try await StoreRig.prepare(world, store)
            let rig = StoreRig(world, store)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            // Memory for some of what waits for the store: the rest comes from files.
            let volume = try await StoreRig.open(world, rig) {
                $0.flushBytes = 3 << 20
                $0.stageMemoryBytes = 8 << 20
            }
            var written: [(SegmentRange, UInt8)] = []
            for mark in 0..<30 as Range<UInt8> {
                let bytes = [UInt8](repeating: mark, count: 700_001)
                let (range, number) = try await StoreRig.store(volume, bytes)
                try await volume.commit(number, .durable)
                written.append((range, mark))
            }
            rig.refuse(nil)
            try await volume.checkpoint()
            if store.wrong > 0 { return "\(store.wrong) bodies were not as they were told to be" }
            if store.known == 0 || store.unknown == 0 {
                return "\(store.known) from memory, \(store.unknown) from files"
            }
            for (range, mark) in written {
                guard try await StoreRig.read(volume, range) == [UInt8](repeating: mark, count: 700_001) else {
                    return "other bytes were stored"
                }
            }
            return nil
        }
    }

    /// How far the store lags, and what keeps it, is told, and when that is over.
    @Test func theLagIsTold() throws {
        try StoreRig.run(seed: 73) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig)
            let told = Mutex<[String?]>([])
            volume.whenTroubled { trouble in told.withLock { $0.append(trouble) } }
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 403 }
                return nil
            }
            let (_, number) = try await StoreRig.store(volume, [UInt8](repeating: 1, count: 300_000))
            try await volume.commit(number, .durable)
            await world.loops[0].sleep(nanoseconds: 40_000_000_000)
            let lag = volume.storeLag
            guard lag.bytes >= 300_000, lag.bytes < 400_000, (39_000_000_000...41_000_000_000).contains(lag.nanoseconds)
            else { return "\(lag)" }
            guard let trouble = lag.trouble, trouble.contains("segment"), lag.troubleNanoseconds > 25_000_000_000 else {
                return "\(lag)"
            }
            rig.refuse(nil)
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            let after = volume.storeLag
            guard after.bytes == 0, after.nanoseconds == 0, after.trouble == nil else { return "\(after)" }
            // One line at the beginning, one at the end.
            let lines = told.withLock { $0 }
            return lines.count == 2 && lines[0] == trouble && lines[1] == nil ? nil : "\(lines)"
        }
    }

    /// Who may read but not write is told so when the volume is opened, and does not wait for ever.
    @Test func aRefusalEndsTheOpening() throws {
        try StoreRig.run(seed: 74) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            rig.refuse { kind in if case .object(_, .put) = kind { 403 } else { nil } }
            let begin = world.clock.monotonic()
            do throws(VolumeError) {
                var options = HeadhunterOptions()
                options.cacheBytes = 0
                _ = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: StoreRig.objects(world, rig), prefix: "v",
                    directory: "a", options: options)
                return "it was opened"
            } catch { guard case .unavailable = error else { return "\(error)" } }
            guard world.clock.monotonic() - begin < 30_000_000_000 else { return "it took long" }
            rig.refuse(nil)
            let volume = try await StoreRig.open(world, rig)
            return try await StoreRig.put(volume, 1, [1]) > 0 ? nil : "nothing was changed"
        }
    }

    /// Bytes of a stage file that are not what was written do not get to the store in place of what was, however long that lasts.
    @Test func aStageFileThatRots() throws {
        let simulation = Simulation(seed: 76)
        try StoreRig.run(seed: 76, simulation) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            let volume = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 3_600_000_000_000 }
            var ranges: [SegmentRange] = []
            // More than stays in memory.
            for mark in UInt8(1)...120 {
                let (range, number) = try await StoreRig.store(volume, [UInt8](repeating: mark, count: 100_000))
                try await volume.commit(number, .durable)
                ranges.append(range)
            }
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            // Blocks all over the segment, which has 1 MiB here.
            let places = stride(from: UInt64(50_000), to: 1_000_000, by: 30_000)
            guard let first = simulation.files(below: "a/stage").map(\.path).min(),
                places.allSatisfy({ simulation.flipBit(of: first, at: $0, bit: 2) })
            else { return "nothing is staged" }
            rig.refuse(nil)
            await world.loops[0].sleep(nanoseconds: 2_000_000_000_000)
            let name = Self.segmentName(ranges[0].segment)
            let stored = try await StoreRig.names(world, rig, "segment").map(\.text)
            guard !stored.contains(name), stored.count >= 2 else { return "\(stored) are stored" }
            guard let trouble = volume.storeLag.trouble, trouble.contains("not what was written") else {
                return "no trouble is told"
            }
            // The disk gives back what it was given after all.
            guard places.allSatisfy({ simulation.flipBit(of: first, at: $0, bit: 2) }) else { return "no file" }
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            guard try await StoreRig.names(world, rig, "segment").map(\.text).contains(name) else {
                return "it is not stored"
            }
            guard volume.storeLag.trouble == nil else { return "the trouble is not over" }
            return try await StoreRig.read(volume, ranges[0]).allSatisfy { $0 == 1 } ? nil : "other bytes"
        }
    }

    /// A stage that can not be read for a while, and a process that ends meanwhile with the answer of a PUT on its way: nothing that was promised is lost.
    @Test(arguments: [false, true]) func aStageThatCanNotBeRead(_ isKilled: Bool) throws {
        let simulation = Simulation(seed: 77)
        let kept = Mutex<(ranges: [SegmentRange], memory: [ObjectName: [UInt8]])>(([], [:]))
        try StoreRig.run(seed: 77, simulation) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let rig = StoreRig(world, memory)
            try await StoreRig.prepare(world, rig)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            let volume = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 3_600_000_000_000 }
            var ranges: [SegmentRange] = []
            for mark in UInt8(1)...120 {
                let (range, number) = try await StoreRig.store(volume, [UInt8](repeating: mark, count: 100_000))
                try await volume.commit(number, .durable)
                ranges.append(range)
            }
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            simulation.faults.failedRead = 1
            rig.refuse(nil)
            await world.loops[0].sleep(nanoseconds: 600_000_000_000)
            guard let trouble = volume.storeLag.trouble else { return "no trouble is told" }
            guard trouble.contains(".stage") else { return "the trouble names no file: \(trouble)" }
            let name = Self.segmentName(ranges[0].segment)
            guard !(try await StoreRig.names(world, rig, "segment").map(\.text).contains(name)) else {
                return "what can not be read is stored"
            }
            simulation.faults.failedRead = 0
            if isKilled {
                kept.withLock { $0.ranges = ranges }
                for (name, bytes) in memory.objects { kept.withLock { $0.memory[name] = Array(bytes) } }
                return nil
            }
            await world.loops[0].sleep(nanoseconds: 120_000_000_000)
            let stored = try await StoreRig.names(world, rig, "segment").map(\.text)
            guard stored.contains(name) else { return "it is not stored" }
            guard volume.storeLag.trouble == nil else { return "the trouble is not over" }
            return try await StoreRig.read(volume, ranges[0]).allSatisfy { $0 == 1 } ? nil : "other bytes"
        }
        guard isKilled else { return }
        simulation.killAndRestart()
        try StoreRig.run(seed: 77, simulation) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let objects = StoreRig.objects(world, memory)
            for (name, bytes) in kept.withLock({ $0.memory }) {
                try await objects.put(name, .blocks([bytes.withUnsafeBytes { Block(copying: $0) }]))
            }
            let volume = try await StoreRig.open(world, memory)
            for (index, range) in kept.withLock({ $0.ranges }).enumerated() {
                guard try await StoreRig.read(volume, range).allSatisfy({ $0 == UInt8(index + 1) }) else {
                    return "other bytes in \(index)"
                }
            }
            try await volume.checkpoint()
            return volume.storeLag.trouble == nil ? nil : "the trouble is not over"
        }
    }

    private static func segmentName(_ segment: UInt64) -> String {
        let digits = String(segment, radix: 16)
        return "v/segment/" + String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// A store that refuses for good is asked less and less often.
    @Test func aRefusalIsNotAskedAllTheTime() throws {
        try StoreRig.run(seed: 75) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig)
            let asked = Mutex(0)
            rig.refuse { kind in
                guard case .object(let name, .put) = kind, name.text.contains("/segment/") else { return nil }
                asked.withLock { $0 += 1 }
                return 403
            }
            _ = try await StoreRig.store(volume, [UInt8](repeating: 1, count: 300_000))
            let checkpoint = world.loops[0].task { try? await volume.checkpoint() }
            await world.loops[0].sleep(nanoseconds: 100_000_000_000)
            let count = asked.withLock { $0 }
            rig.refuse(nil)
            await checkpoint.value
            return (15...30).contains(count) ? nil : "\(count) requests in 100 s"
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
            // A second later, then less and less often; the first of them that is refused ends a round.
            if asked > 12 { return "\(asked) deletes were tried while all were refused" }
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

    /// What was to be deleted when the process died is deleted by the next one, with few headers for all of it.
    @Test func deadSegmentsOfAnotherLife() throws {
        let simulation = Simulation(seed: 53)
        let counted = Flag()
        // The store's memory does not outlive the process, so a directory has it.
        Bench.prepare(simulation)
        let made = simulation.perform(for: 36_000_000_000_000) { world -> String in
            do {
                let volume = try await Bench.volume(world)
                var ranges: [SegmentRange] = []
                for round in 0..<700 {
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
        #expect(counted.count >= 600)
        let before = Self.newestHeader(simulation)
        simulation.killAndRestart()
        let done = simulation.perform(for: 36_000_000_000_000) { world -> String in
            do {
                let volume = try await Bench.volume(world)
                for _ in 0..<2 {
                    try await volume.checkpoint()
                    await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                }
                return ""
            } catch { return "\(error)" }
        }
        #expect(done == "")
        let left = simulation.files(below: "store").filter { $0.path.contains("segment") }
        #expect(left.count <= 2, "\(left.count) of \(counted.count) segments are left after two checkpoints")
        #expect(Self.newestHeader(simulation) - before <= 6)
    }

    private static func newestHeader(_ simulation: Simulation) -> Int {
        simulation.files(below: "store").compactMap { file in
            file.path.contains("/header/") ? file.path.split(separator: "/").last.flatMap { Int($0, radix: 16) } : nil
        }.max() ?? 0
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

    /// A node that is changed while a checkpoint stores it is nobody's when it is in the store: its object goes, and the header says nothing else.
    @Test func nodesThatChangeOnTheirWay() throws {
        try StoreRig.run(seed: 59) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await StoreRig.open(world, rig) {
                $0.checkpointNanoseconds = 3_600_000_000_000
                $0.metadataObjectsMin = 2
            }
            for round in UInt8(0)..<20 {
                _ = try await StoreRig.put(volume, 1, [round])
                let isMet = Flag()
                rig.refuse { kind in
                    guard case .object(let name, .put) = kind, name.text.contains("/meta/") else { return nil }
                    isMet.isSet = true
                    return 503
                }
                let checkpoint = world.loops[0].task { try await volume.checkpoint() }
                while !isMet.isSet { await world.loops[0].sleep(nanoseconds: 1_000_000) }
                _ = try await StoreRig.put(volume, 1, [round, round])
                rig.refuse(nil)
                try await checkpoint.value
                try await volume.checkpoint()
            }
            await world.loops[0].sleep(nanoseconds: 10_000_000_000)
            let count = try await StoreRig.names(world, rig, "meta").count
            if count > 8 { return "\(count) metadata objects for a handful of nodes" }
            try await volume.close()
            let audit = try await StoreAudit.run(StoreRig.objects(world, rig), prefix: "v", readsData: true)
            return audit.findings.isEmpty ? nil : "\(audit.findings)"
        }
    }
}

import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// Reading what another server owns, or a copy of it: some state that the owner had, never an older one than before, and not a byte is written.
struct FollowingTests {
    private static let second: UInt64 = 1_000_000_000

    private static func follow(
        _ world: World, _ store: any StoreTransport, _ set: (inout HeadhunterOptions) -> Void = { _ in }
    ) async throws -> Headhunter {
        try await StoreRig.open(world, store, "b") {
            $0.follows = true
            set(&$0)
        }
    }

    /// Counts what was asked for and is not there any more.
    private final class Gone: StoreTransport {
        private let store: any StoreTransport
        let count = Mutex(0)

        init(_ store: any StoreTransport) { self.store = store }

        var capabilities: StoreCapabilities { store.capabilities }

        func perform(_ request: StoreRequest) async -> StoreReply {
            let reply = await store.perform(request)
            if case .object(_, .get) = request.kind, reply.status == 404 { count.withLock { $0 += 1 } }
            return reply
        }
    }

    private static let keys = 40

    /// All keys get the same number in one change, and each round's data another segment; what was there before dies.
    private static func write(_ volume: Headhunter, _ round: Int, _ before: SegmentRange?) async throws -> SegmentRange
    {
        let bytes = [UInt8](repeating: UInt8(round & 255), count: 20_000)
        let (range, _) = try await StoreRig.store(volume, bytes)
        _ = try await volume.change { (change) throws(Missing) in
            // Long values, so that the trees have more nodes than one.
            let value = [UInt8](repeating: UInt8(round & 255), count: 1_000)
            for key in 0..<keys {
                withUnsafeBytes(of: UInt64(key).bigEndian) { key in value.withUnsafeBytes { change.put(1, key, $0) } }
            }
            withUnsafeBytes(of: UInt64(1_000).bigEndian) { key in
                withUnsafeBytes(of: (UInt64(round), range.segment, UInt64(range.offset), UInt64(range.length))) {
                    change.put(1, key, $0)
                }
            }
            if let before { try change.release(segment: before.segment, length: UInt64(before.length)) }
        }
        return range
    }

    /// The round that is shown, and where its data is.
    private static func record(_ view: View) throws(Missing) -> (round: UInt64, range: SegmentRange)? {
        let record = try withUnsafeBytes(of: UInt64(1_000).bigEndian) { key in
            Result { () throws(Missing) -> [UInt64]? in
                try view.get(1, key).map { value in
                    (0..<4).map { value.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self) }
                }
            }
        }.get()
        return record.map { record in
            let range = SegmentRange(
                segment: record[1], offset: UInt32(record[2]), length: UInt32(record[3]), checksum: 0)
            return (record[0], range)
        }
    }

    /// Where the data of the round is that is shown.
    private static func range(_ volume: Headhunter) async throws(VolumeError) -> SegmentRange {
        try await volume.read { (view) throws(Missing) -> SegmentRange in
            try record(view)?.range ?? SegmentRange(segment: 0, offset: 0, length: 0, checksum: 0)
        }
    }

    /// The round that is shown, after its parts were compared; a problem otherwise.
    private static func look(_ volume: Headhunter) async throws(VolumeError) -> (round: Int, problem: String?) {
        var failures = 0
        while true {
            let found = try await volume.read { (view) throws(Missing) -> (UInt64, SegmentRange, Set<UInt8>)? in
                guard let (round, range) = try record(view) else { return nil }
                var values: Set<UInt8> = []
                for key in 0..<keys {
                    let value = try withUnsafeBytes(of: UInt64(key).bigEndian) { key in
                        Result { () throws(Missing) -> UInt8? in try view.get(1, key)?.first }
                    }.get()
                    values.insert(value ?? 0)
                }
                return (round, range, values)
            }
            guard let (round, range, values) = found else { return (0, nil) }
            guard values == [UInt8(round & 255)] else { return (0, "round \(round) has \(values.sorted())") }
            do throws(VolumeError) {
                let bytes = try await StoreRig.read(volume, range)
                guard bytes.allSatisfy({ $0 == UInt8(round & 255) }) else {
                    return (0, "other bytes in round \(round)")
                }
                return (Int(round), nil)
            } catch {
                failures += 1
                guard failures < 3 else { throw error }
            }
        }
    }

    /// Beside an owner that goes on all the time and deletes what it does not need, also where each answer takes long: there the owner
    /// keeps it for a while.
    @Test(arguments: 1...8) func besideItsOwner(_ seed: Int) throws {
        let isSlow = seed > 4
        try StoreRig.run(seed: UInt64(seed)) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) {
                $0.checkpointNanoseconds = 2 * Self.second
                $0.keepNanoseconds = isSlow ? 60 * Self.second : 0
            }
            let slow = SlowStore(
                memory, loop: world.loops[0], nanoseconds: UInt64(seed) * (isSlow ? 60_000_000 : 20_000_000))
            let readOnly = ReadOnlyTransport(slow)
            let reader = try await Self.follow(world, readOnly)
            let written = Mutex((round: 0, isDone: false))
            world.loops[0].task {
                var before: SegmentRange?
                for round in 1...120 {
                    before = try? await Self.write(owner, round, before)
                    written.withLock { $0.round = round }
                    await world.loops[0].sleep(nanoseconds: Self.second)
                }
                try? await owner.checkpoint()
                written.withLock { $0.isDone = true }
            }
            var shown: Set<Int> = []
            var last = 0
            while !written.withLock({ $0.isDone }) {
                let (round, problem) = try await Self.look(reader)
                if let problem { return problem }
                guard round >= last else { return "round \(round) behind \(last)" }
                guard round <= written.withLock({ $0.round }) + 1 else { return "a round that nobody wrote" }
                shown.insert(round)
                last = round
                await world.loops[0].sleep(nanoseconds: 300_000_000)
            }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            guard try await Self.look(reader).round == 120 else { return "the last round is not shown" }
            guard shown.count > 8 else { return "\(shown.count) states were shown" }
            guard readOnly.refused == 0 else { return "\(readOnly.refused) changes were tried" }
            guard let now = reader.shown, now.age < 15 * Self.second else { return "it does not know how old it is" }
            do throws(VolumeError) {
                _ = try await StoreRig.put(reader, 1, [1])
                return "it takes changes"
            } catch { if case .readOnly = error { return nil } else { return "\(error)" } }
        }
    }

    /// What it shows was deleted meanwhile: whoever asks is shown the newest state, and no damage.
    @Test func whatWasDeletedLeadsOn() throws {
        try StoreRig.run(seed: 9) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) { $0.checkpointNanoseconds = Self.second }
            var range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let gone = Gone(memory)
            // They do not look by themselves.
            let reader = try await Self.follow(world, gone) { $0.followNanoseconds = 36_000 * Self.second }
            let other = try await Self.follow(world, memory) { $0.followNanoseconds = 36_000 * Self.second }
            let data = try await Self.range(other)
            for round in 2...20 {
                range = try await Self.write(owner, round, range)
                await world.loops[0].sleep(nanoseconds: 3 * Self.second)
            }
            guard try await Self.look(reader).round >= 19 else { return "an older state" }
            guard gone.count.withLock({ $0 }) > 0 else { return "nothing was missing" }
            do throws(VolumeError) {
                _ = try await StoreRig.read(other, data)
                return "what was deleted is there"
            } catch { guard case .unavailable = error else { return "\(error)" } }
            return try await Self.look(other).round >= 19 ? nil : "it did not go on"
        }
    }

    private static func copy(_ memory: MemoryStore, _ world: World) async throws -> MemoryStore {
        let copy = MemoryStore(world: world, loop: world.loops[0])
        let objects = StoreRig.objects(world, copy)
        for (name, bytes) in memory.objects {
            try await objects.put(name, .blocks([bytes.withUnsafeBytes { Block(copying: $0) }]))
        }
        return copy
    }

    private static func move(_ name: ObjectName, _ from: MemoryStore, _ to: MemoryStore, _ world: World) async throws {
        let objects = StoreRig.objects(world, to)
        guard let bytes = from.objects[name] else { return }
        try await objects.put(name, .blocks([bytes.withUnsafeBytes { Block(copying: $0) }]))
    }

    /// A copy that has the newest header before what it names shows the state before, and the newest one when the rest has come.
    @Test(arguments: ["segment", "meta"]) func aCopyThatIsNotWhole(_ kind: String) throws {
        try StoreRig.run(seed: 3) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory, ["a", "c"])
            let owner = try await StoreRig.open(world, memory) {
                $0.checkpointNanoseconds = 3_600 * Self.second
                $0.keepNanoseconds = 600 * Self.second
            }
            var range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            try await owner.checkpoint()
            let before = Set(memory.objects.keys)
            range = try await Self.write(owner, 2, range)
            try await owner.checkpoint()
            let copy = try await Self.copy(memory, world)
            let new = memory.objects.keys.filter { !before.contains($0) && $0.text.contains("/\(kind)/") }
            guard !new.isEmpty else { return "nothing new" }
            for name in new { copy.remove(name) }
            let readOnly = ReadOnlyTransport(copy)
            let reader = try await Self.follow(world, readOnly)
            guard try await Self.look(reader).round == 1 else { return "not the state before" }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            guard try await Self.look(reader).round == 1 else { return "it went on to what is not whole" }
            // Who went on from the newest header would delete what the one before needs.
            let taken = try await Self.copy(copy, world)
            let there = Set(taken.objects.keys)
            do {
                _ = try await StoreRig.open(world, taken, "c") { $0.takesOver = true }
                return "what is not whole was taken"
            } catch let error as VolumeError {
                guard case .unavailable = error, Set(taken.objects.keys) == there else { return "\(error)" }
            }
            for name in new { try await Self.move(name, memory, copy, world) }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            guard try await Self.look(reader).round == 2 else { return "it did not go on" }
            // What none of the headers has all of is not opened.
            let first = try await Self.copy(memory, world)
            for name in first.objects.keys where name.text.contains("/\(kind)/") { first.remove(name) }
            // The first headers name nothing.
            let headers = first.objects.keys.filter { $0.text.hasPrefix("v/header/") }.sorted()
            for name in headers.dropLast(2) { first.remove(name) }
            do {
                _ = try await Self.follow(world, first)
                return "it opened without its objects"
            } catch let error as VolumeError {
                guard case .unavailable = error else { return "\(error)" }
            }
            return readOnly.refused == 0 ? nil : "changes were tried"
        }
    }

    /// Behind an arbiter headers are stored with tokens: a copy needs no arbiter, and believes none of two.
    @Test func aCopyFromBehindAnArbiter() throws {
        try StoreRig.run(seed: 4) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) {
                $0.checkpointNanoseconds = 3_600 * Self.second
                $0.keepNanoseconds = 600 * Self.second
            }
            var range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            try await owner.checkpoint()
            range = try await Self.write(owner, 2, range)
            try await owner.checkpoint()
            let copy = try await Self.copy(memory, world)
            let headers = copy.objects.keys.filter { $0.text.hasPrefix("v/header/") }.sorted()
            let objects = StoreRig.objects(world, copy)
            for name in headers {
                guard let bytes = copy.objects[name], let token = ObjectName(name.text + ".00000000000000aa") else {
                    continue
                }
                try await objects.put(token, .blocks([bytes.withUnsafeBytes { Block(copying: $0) }]))
                copy.remove(name)
            }
            var reader = try await Self.follow(world, copy)
            guard try await Self.look(reader).round == 2 else { return "not the newest state" }
            guard let newest = headers.last, let other = ObjectName(newest.text + ".00000000000000bb") else {
                return "no header"
            }
            try await objects.put(other, .blocks([Block(capacity: 0)]))
            reader = try await Self.follow(world, copy)
            return try await Self.look(reader).round == 1 ? nil : "one of two was believed"
        }
    }

    /// What a state names stays for a while after another one has come: a reader that knows only the older one has no trouble.
    @Test(arguments: [0, 60]) func whatStaysForReaders(_ delay: UInt64) throws {
        try StoreRig.run(seed: 8) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) {
                $0.checkpointNanoseconds = 2 * Self.second
                $0.keepNanoseconds = delay * Self.second
            }
            var range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let reader = try await Self.follow(world, memory) { $0.followNanoseconds = 0 }
            for round in 2...12 {
                range = try await Self.write(owner, round, range)
                await world.loops[0].sleep(nanoseconds: 4 * Self.second)
            }
            do {
                guard try await Self.look(reader).round == 1 else { return "another state" }
                guard delay > 0 else { return "nothing was deleted" }
            } catch let error as VolumeError {
                guard delay == 0, case .damaged = error else { return "\(error)" }
            }
            // It goes in the end.
            for _ in 0..<4 {
                await world.loops[0].sleep(nanoseconds: 70 * Self.second)
                range = try await Self.write(owner, 13, range)
            }
            let left = try await StoreRig.names(world, memory, "segment").count
            let headers = try await StoreRig.names(world, memory, "header").count
            return left < 5 && headers < 5 ? nil : "\(left) segments and \(headers) headers are left"
        }
    }

    /// Also where the server is started again and again before anything has had its time.
    @Test func restartsKeepNothingForEver() throws {
        try StoreRig.run(seed: 9) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            var range: SegmentRange?
            for round in 1...20 {
                let owner = try await StoreRig.open(world, memory) {
                    $0.checkpointNanoseconds = 2 * Self.second
                    $0.keepNanoseconds = 60 * Self.second
                }
                // How high the trees are is known when their roots are here: a change this large would wait for more room than there is.
                if round > 1, try await Self.look(owner).round != round - 1 {
                    return "round \(round) lost the one before"
                }
                range = try await Self.write(owner, round, range)
                await world.loops[0].sleep(nanoseconds: 30 * Self.second)
                try await owner.close()
            }
            let left = try await StoreRig.names(world, memory, "segment").count
            let headers = try await StoreRig.names(world, memory, "header").count
            return left < 8 && headers < 20 ? nil : "\(left) segments and \(headers) headers are left"
        }
    }

    /// Whoever is told that another state is shown reads of it, and may need the next one for that.
    @Test func whoIsToldMayLook() throws {
        try StoreRig.run(seed: 10) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) { $0.checkpointNanoseconds = 3_600 * Self.second }
            var range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let reader = try await Self.follow(world, memory)
            let told = Mutex(0)
            reader.whenMoved {
                _ = try? await reader.catchUp()
                told.withLock { $0 += 1 }
            }
            for round in 2...5 {
                range = try await Self.write(owner, round, range)
                try await owner.checkpoint()
                await world.loops[0].sleep(nanoseconds: 30 * Self.second)
                guard try await Self.look(reader).round == round else { return "round \(round) is not shown" }
            }
            return told.withLock { $0 } >= 4 ? nil : "told \(told.withLock { $0 }) times"
        }
    }

    /// A segment that was begun before others and is named behind them is looked for as well.
    @Test func aSegmentThatIsNamedLate() throws {
        try StoreRig.run(seed: 11) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) {
                $0.checkpointNanoseconds = 3_600 * Self.second
                $0.keepNanoseconds = 600 * Self.second
            }
            let late = [UInt8](repeating: 3, count: 10_000).withUnsafeBytes { owner.append($0, heat: .small) }
            guard let late else { return "no room" }
            let range = try await Self.write(owner, 1, nil)
            guard late.segment < range.segment else { return "it was not begun before" }
            try await owner.checkpoint()
            let copy = try await Self.copy(memory, world)
            for name in copy.objects.keys where name.text.hasSuffix(Self.digits(late.segment)) { copy.remove(name) }
            let reader = try await Self.follow(world, ReadOnlyTransport(copy))
            guard try await Self.look(reader).round == 1 else { return "not the first state" }
            _ = try await owner.change { (change) throws(Missing) in
                try change.reference(late)
                withUnsafeBytes(of: UInt64(1_000).bigEndian) { key in
                    withUnsafeBytes(of: (UInt64(2), late.segment, UInt64(late.offset), UInt64(late.length))) {
                        change.put(1, key, $0)
                    }
                }
            }
            try await owner.checkpoint()
            let missing = memory.objects.keys.filter { $0.text.hasSuffix(Self.digits(late.segment)) }
            guard missing.count == 1 else { return "\(missing) are stored" }
            for name in memory.objects.keys where copy.objects[name] == nil && name != missing[0] {
                try await Self.move(name, memory, copy, world)
            }
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            guard try await Self.range(reader).segment == range.segment else { return "what is not whole is shown" }
            try await Self.move(missing[0], memory, copy, world)
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            guard try await Self.range(reader).segment == late.segment else { return "it did not go on" }
            return try await StoreRig.read(reader, late).allSatisfy { $0 == 3 } ? nil : "other bytes"
        }
    }

    private static func digits(_ segment: UInt64) -> String {
        let digits = String(segment, radix: 16)
        return "/segment/" + String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// Where a listing shows what is gone nobody is led by it.
    @Test func aListingOfTheDead() throws {
        try StoreRig.run(seed: 12) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) {
                $0.checkpointNanoseconds = 3_600 * Self.second
                $0.keepNanoseconds = 600 * Self.second
            }
            _ = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let copy = try await Self.copy(memory, world)
            let store = LaggingStore(copy)
            let reader = try await Self.follow(world, ReadOnlyTransport(store))
            for _ in 0..<24 { _ = try await StoreRig.store(owner, [UInt8](repeating: 1, count: 1_000_000)) }
            _ = try await Self.write(owner, 2, nil)
            try await owner.checkpoint()
            let new = memory.objects.keys.filter { copy.objects[$0] == nil && $0.text.contains("/segment/") }.sorted()
            guard new.count > 20 else { return "\(new.count) segments" }
            for name in memory.objects.keys where name != new[7] { try await Self.move(name, memory, copy, world) }
            let all = Array(memory.objects.keys)
            store.shown.withLock { $0 = all }
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            guard try await Self.look(reader).round == 1 else { return "what is not whole is shown" }
            try await Self.move(new[7], memory, copy, world)
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            return try await Self.look(reader).round == 2 ? nil : "it did not go on"
        }
    }

    /// Many who ask at the same time are answered by the look under way and one more.
    @Test func manyAskOnce() throws {
        try StoreRig.run(seed: 13) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let owner = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 3_600 * Self.second }
            _ = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let slow = SlowStore(rig, loop: world.loops[0], nanoseconds: Self.second)
            let reader = try await Self.follow(world, slow) { $0.followNanoseconds = 36_000 * Self.second }
            let lists = Mutex(0)
            rig.refuse { kind in
                if case .list = kind { lists.withLock { $0 += 1 } }
                return nil
            }
            let begin = world.clock.monotonic()
            await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<12 { group.addTask { (try? await reader.catchUp()) ?? false } }
                for await hasMoved in group where hasMoved { lists.withLock { $0 += 100 } }
            }
            guard world.clock.monotonic() - begin < 6 * Self.second else { return "they waited for each other" }
            return lists.withLock { $0 } <= 3 ? nil : "\(lists.withLock { $0 }) listings"
        }
    }

    /// Neither damage that is read again and again nor a copy of which something does not come costs the same requests each time.
    @Test func whatStaysWrongCostsLittle() throws {
        try StoreRig.run(seed: 14) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let owner = try await StoreRig.open(world, rig) {
                $0.checkpointNanoseconds = 3_600 * Self.second
                $0.keepNanoseconds = 36_000 * Self.second
            }
            let range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            guard let segment = try await StoreRig.names(world, rig, "segment").first else { return "no segment" }
            try await StoreRig.patch(world, rig, segment) { $0[10_000] ^= 1 }
            let reader = try await Self.follow(world, rig) { $0.followNanoseconds = 36_000 * Self.second }
            let lists = Mutex(0)
            let all = Mutex(0)
            rig.refuse { kind in
                all.withLock { $0 += 1 }
                if case .list = kind { lists.withLock { $0 += 1 } }
                return nil
            }
            for _ in 0..<20 {
                do throws(VolumeError) {
                    _ = try await StoreRig.read(reader, range)
                    return "wrong bytes"
                } catch { guard case .damaged = error else { return "\(error)" } }
            }
            guard lists.withLock({ $0 }) <= 3 else { return "\(lists.withLock { $0 }) listings for one damaged block" }
            // A part of the next state that never comes.
            let before = try await StoreRig.names(world, rig, "segment")
            _ = try await Self.write(owner, 2, nil)
            try await owner.checkpoint()
            let new = try await StoreRig.names(world, rig, "segment").filter { !before.contains($0) }
            guard new.count == 1 else { return "\(new) are new" }
            try await StoreRig.objects(world, rig).delete(new[0])
            let waiting = try await Self.follow(world, rig)
            guard waiting.shown?.header == reader.shown?.header else { return "another state is shown" }
            all.withLock { $0 = 0 }
            await world.loops[0].sleep(nanoseconds: 320 * Self.second)
            let count = all.withLock { $0 }
            return count < 150 ? nil : "\(count) requests in 320 s"
        }
    }

    /// What the owner has deleted is no damage where the look for a newer state fails, and is found with the next one that does not.
    @Test func aLookThatFailsJudgesNothing() throws {
        try StoreRig.run(seed: 15) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let owner = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 3_600 * Self.second }
            let range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let reader = try await Self.follow(world, rig) { $0.followNanoseconds = 36_000 * Self.second }
            guard let segment = try await StoreRig.names(world, rig, "segment").first else { return "no segment" }
            _ = try await Self.write(owner, 2, range)
            try await owner.checkpoint()
            try await StoreRig.objects(world, rig).delete(segment)
            rig.refuse { kind in
                if case .list = kind { return 503 }
                return nil
            }
            for _ in 0..<3 {
                do throws(VolumeError) {
                    _ = try await StoreRig.read(reader, range)
                    return "it was deleted"
                } catch { guard case .unavailable = error else { return "\(error)" } }
            }
            rig.refuse(nil)
            await world.loops[0].sleep(nanoseconds: 3 * Self.second)
            do throws(VolumeError) { _ = try await StoreRig.read(reader, range) } catch {
                guard case .unavailable(let why) = error, why.contains("changed meanwhile") else { return "\(error)" }
            }
            return try await Self.look(reader).round == 2 ? nil : "the newer state is not shown"
        }
    }

    /// What a copy lacked is read when it has come, though its newest state is the last one.
    @Test func whatComesToACopyAtRest() throws {
        try StoreRig.run(seed: 16) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) { $0.checkpointNanoseconds = 3_600 * Self.second }
            let range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            guard let segment = memory.objects.keys.first(where: { $0.text.contains("/segment/") }) else {
                return "no segment"
            }
            let reader = try await Self.follow(world, memory) { $0.followNanoseconds = 36_000 * Self.second }
            for _ in 0..<2 {
                guard memory.flipBit(of: segment, at: 10_000, bit: 3) else { return "no byte" }
                do throws(VolumeError) {
                    _ = try await StoreRig.read(reader, range)
                    return "wrong bytes"
                } catch { guard case .damaged = error else { return "\(error)" } }
                guard memory.flipBit(of: segment, at: 10_000, bit: 3) else { return "no byte" }
                await world.loops[0].sleep(nanoseconds: 20 * Self.second)
            }
            return try await StoreRig.read(reader, range).allSatisfy { $0 == 1 } ? nil : "other bytes"
        }
    }

    /// Who reads what lacks does not make the looks by the clock rare; nor does a store that is away.
    @Test func looksStayFrequent() throws {
        try StoreRig.run(seed: 17) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let owner = try await StoreRig.open(world, rig) {
                $0.checkpointNanoseconds = 3_600 * Self.second
                $0.keepNanoseconds = 36_000 * Self.second
            }
            let range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let reader = try await Self.follow(world, rig)
            rig.refuse { kind in
                if case .list = kind { return 403 }
                if case .object(_, .head) = kind { return 403 }
                return nil
            }
            for _ in 0..<8 {
                _ = try? await reader.catchUp()
                await world.loops[0].sleep(nanoseconds: 5 * Self.second)
            }
            rig.refuse(nil)
            _ = try await Self.write(owner, 2, range)
            try await owner.checkpoint()
            await world.loops[0].sleep(nanoseconds: 5 * Self.second)
            return try await Self.look(reader).round == 2 ? nil : "it does not look"
        }
    }

    /// The whole cache is for what is read.
    @Test func readersHaveTheWholeCache() throws {
        try StoreRig.run(seed: 18) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let owner = try await StoreRig.open(world, rig) { $0.checkpointNanoseconds = 3_600 * Self.second }
            var ranges: [SegmentRange] = []
            for mark in UInt8(1)...45 {
                ranges.append(try await StoreRig.store(owner, [UInt8](repeating: mark, count: 98_304)).0)
            }
            try await owner.checkpoint()
            try await owner.checkpoint()
            // Which blocks share a place is chance: of the whole cache half of the reads find theirs, of half of it none.
            for (bytes, bound) in [(64 << 20, 1), (8 << 20, 30)] {
                let reader = try await Self.follow(world, rig) {
                    $0.dataCacheBytes = bytes
                    $0.followNanoseconds = 0
                }
                for range in ranges { _ = try await StoreRig.read(reader, range) }
                let before = rig.state.withLock { $0.gets }
                for (index, range) in ranges.enumerated() {
                    guard try await StoreRig.read(reader, range).allSatisfy({ $0 == UInt8(index + 1) }) else {
                        return "other bytes"
                    }
                }
                let more = rig.state.withLock { $0.gets } - before
                guard more < bound else { return "\(more) reads of \(bytes) went to the store again" }
            }
            return nil
        }
    }

    /// Many leaves of the segment table are not read one after the other.
    @Test func manySegmentsAreSeenSideBySide() throws {
        try StoreRig.run(seed: 19) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) { $0.checkpointNanoseconds = 3_600 * Self.second }
            let first: UInt64 = 1 << 40
            let count: UInt64 = 20_000
            for start in stride(from: first, to: first + count, by: 20) {
                _ = try await owner.change { (change) throws(Missing) in
                    for segment in start..<(start + 20) {
                        try change.reference(SegmentRange(segment: segment, offset: 4_096, length: 1, checksum: 0))
                    }
                }
            }
            let objects = StoreRig.objects(world, memory)
            for segment in first..<(first + count) {
                guard let name = ObjectName("v" + Self.digits(segment)) else { return "no name" }
                try await objects.put(name, .blocks([[1].withUnsafeBytes { Block(copying: $0) }]))
            }
            try await owner.checkpoint()
            let reads = Mutex(0)
            let lists = Mutex(0)
            let rig = StoreRig(world, memory)
            rig.refuse { kind in
                if case .object(_, .get) = kind { reads.withLock { $0 += 1 } }
                if case .list = kind { lists.withLock { $0 += 1 } }
                return nil
            }
            let begin = world.clock.monotonic()
            _ = try await Self.follow(world, SlowStore(rig, loop: world.loops[0], nanoseconds: Self.second)) {
                $0.followNanoseconds = 0
            }
            let seconds = (world.clock.monotonic() - begin) / Self.second
            let nodes = reads.withLock { $0 }
            guard nodes > 40 else { return "only \(nodes) nodes" }
            return seconds < UInt64(nodes / 2 + lists.withLock { $0 }) ? nil : "\(seconds) s for \(nodes) nodes"
        }
    }

    /// What a header lists as stored with it is compared with the header's sum before it is given to anybody.
    @Test func whatOnlyTheHeaderKnows() throws {
        try StoreRig.run(seed: 5) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, memory)
            let owner = try await StoreRig.open(world, memory) { $0.checkpointNanoseconds = 3_600 * Self.second }
            _ = try await Self.write(owner, 7, nil)
            try await owner.checkpoint()
            var reader = try await Self.follow(world, memory)
            guard try await Self.look(reader).round == 7 else { return "it is not read" }
            guard let segment = memory.objects.keys.first(where: { $0.text.contains("/segment/") }),
                memory.flipBit(of: segment, at: 10_000, bit: 3)
            else { return "no segment" }
            reader = try await Self.follow(world, memory) { $0.followNanoseconds = 0 }
            do throws(VolumeError) {
                let (round, problem) = try await Self.look(reader)
                return "wrong bytes: \(round) \(problem ?? "")"
            } catch { if case .damaged = error { return nil } else { return "\(error)" } }
        }
    }

    /// A listing that shows nothing hides neither the volume nor what comes.
    @Test func whereListingsLag() throws {
        try StoreRig.run(seed: 6) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let store = LaggingStore(memory)
            try await StoreRig.prepare(world, store)
            let owner = try await StoreRig.open(world, store)
            var range = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            store.isBlind.withLock { $0 = true }
            let reader = try await Self.follow(world, ReadOnlyTransport(store))
            guard try await Self.look(reader).round == 1 else { return "it is not found" }
            for round in 2...9 {
                range = try await Self.write(owner, round, range)
                try await owner.checkpoint()
            }
            await world.loops[0].sleep(nanoseconds: 30 * Self.second)
            return try await Self.look(reader).round == 9 ? nil : "it did not go on"
        }
    }

    /// While its store is away a reader shows what it has, says how old that is, and what the trouble is.
    @Test func whileTheStoreIsAway() throws {
        try StoreRig.run(seed: 7) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let owner = try await StoreRig.open(world, rig)
            _ = try await Self.write(owner, 1, nil)
            try await owner.checkpoint()
            let reader = try await Self.follow(world, rig) {
                $0.dataCacheBytes = 4 << 20
            }
            guard try await Self.look(reader).round == 1 else { return "it is not read" }
            rig.refuse { _ in 503 }
            await world.loops[0].sleep(nanoseconds: 300 * Self.second)
            guard try await Self.look(reader).round == 1 else { return "it does not answer" }
            guard let shown = reader.shown, shown.age > 250 * Self.second else { return "it seems to be new" }
            guard reader.storeLag.trouble != nil else { return "no trouble is told" }
            rig.refuse(nil)
            await world.loops[0].sleep(nanoseconds: 100 * Self.second)
            guard let again = reader.shown, again.age < 15 * Self.second else { return "it seems to be old" }
            return reader.storeLag.trouble == nil ? nil : "the trouble is not over"
        }
    }
}

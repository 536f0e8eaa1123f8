import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// A store whose listings lag, in the worst way: they show nothing, or what was there long ago.
final class LaggingStore: StoreTransport {
    private let inner: any StoreTransport
    let isBlind = Mutex(false)
    /// Listings show this in place of what there is.
    let shown = Mutex<[ObjectName]?>(nil)

    init(_ inner: any StoreTransport) { self.inner = inner }

    var capabilities: StoreCapabilities {
        var capabilities = inner.capabilities
        capabilities.listsConsistently = false
        return capabilities
    }

    func perform(_ request: StoreRequest) async -> StoreReply {
        guard case .list(let prefix, let after, _) = request.kind else { return await inner.perform(request) }
        if isBlind.withLock({ $0 }) { return StoreReply(status: 200) }
        guard let shown = shown.withLock({ $0 }) else { return await inner.perform(request) }
        var reply = StoreReply(status: 200)
        reply.entries = shown.filter { $0.text.hasPrefix(prefix) && $0.text > (after ?? "") }
            .sorted().map { ListEntry(name: $0, size: 0) }
        return reply
    }
}

struct LaggingStoreTests {
    private static func checkpoints(_ volume: Headhunter, _ world: World, _ count: Int) async throws {
        for round in 0..<count {
            _ = try await StoreRig.put(volume, round, [UInt8(round)])
            try await volume.checkpoint()
            // Headers that nobody needs go beside the checkpoints.
            await world.loops[0].sleep(nanoseconds: 2_000_000_000)
        }
    }

    /// Where no listing shows a volume, it is found, and no other one is made in its place.
    @Test func anEmptyListing() throws {
        try StoreRig.run(seed: 81) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let store = LaggingStore(memory)
            try await StoreRig.prepare(world, store)
            store.isBlind.withLock { $0 = true }
            // It was just made, and has its first header.
            var volume = try await StoreRig.open(world, store)
            store.isBlind.withLock { $0 = false }
            try await Self.checkpoints(volume, world, 10)
            try await volume.close()
            let headers = memory.objects.keys.filter { $0.text.hasPrefix("v/header/") }
            guard headers.count < 5 else { return "\(headers.count) headers were left" }
            store.isBlind.withLock { $0 = true }
            volume = try await StoreRig.open(world, store)
            guard try await StoreRig.get(volume, 9) == [9] else { return "what was stored is not there" }
            try await Self.checkpoints(volume, world, 3)
            try await volume.close()
            for name in [nil, "v/newest"] {
                if let name = name.flatMap({ ObjectName($0) }) { memory.remove(name) }
                do throws(VolumeError) {
                    try await Headhunter.create(world: world, store: StoreRig.objects(world, store), prefix: "v")
                    return "a second volume was made over the first one"
                } catch { guard error == .fenced else { return "\(error)" } }
            }
            return nil
        }
    }

    /// A listing of long ago shows headers that have gone since, and neither number nor boundary of newer ones.
    @Test(arguments: [true, false]) func aListingOfLongAgo(_ hasHint: Bool) throws {
        try StoreRig.run(seed: 82) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let store = LaggingStore(memory)
            try await StoreRig.prepare(world, store)
            let volume = try await StoreRig.open(world, store)
            try await Self.checkpoints(volume, world, 2)
            let then = Array(memory.objects.keys)
            try await Self.checkpoints(volume, world, 10)
            try await volume.close()
            store.shown.withLock { $0 = then }
            guard let hint = ObjectName("v/newest"), memory.objects[hint] != nil else { return "there is no hint" }
            if !hasHint { memory.remove(hint) }
            let again = try await StoreRig.open(world, store)
            return try await StoreRig.get(again, 9) == [9] ? nil : "an older state was opened"
        }
    }

    /// Neither an old listing nor an old hint, which an owner that stood still may have put back, hides what may have been deleted.
    @Test func boundariesOfLongAgo() throws {
        try StoreRig.run(seed: 84) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let store = LaggingStore(memory)
            let objects = StoreRig.objects(world, store)
            func put(_ text: String, _ line: String) async throws {
                guard let name = ObjectName(text) else { return }
                try await objects.put(name, .blocks([Array(line.utf8).withUnsafeBytes { Block(copying: $0) }]))
            }
            var found: [UInt64?] = [try await Headhunter.newestBoundary(objects, "v")]
            try await put("v/newest", "0000000000000009\n")
            found.append(try await Headhunter.newestBoundary(objects, "v"))
            try await put("v/boundary/000000000000000b", "")
            found.append(try await Headhunter.newestBoundary(objects, "v"))
            store.isBlind.withLock { $0 = true }
            found.append(try await Headhunter.newestBoundary(objects, "v"))
            return found == [nil, 8, 11, 8] ? nil : "\(found)"
        }
    }

    /// A deletion that goes on sees who went on with the volume meanwhile, also when headers are gone already.
    @Test func whoseTheObjectsAre() throws {
        try StoreRig.run(seed: 85) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let store = LaggingStore(memory)
            try await StoreRig.prepare(world, store)
            let objects = StoreRig.objects(world, store)
            let volume = try await StoreRig.open(world, store)
            try await Self.checkpoints(volume, world, 2)
            try await volume.close()
            let mine = volume.whose
            let there = try await Headhunter.whose(objects, "v")
            guard there.identity == mine.identity, there.header == mine.header else { return "\(there), \(mine)" }
            let other = try await StoreRig.open(world, store, "b")
            try await Self.checkpoints(other, world, 1)
            let later = try await Headhunter.whose(objects, "v")
            guard later.identity == mine.identity, later.header ?? 0 > mine.header else { return "\(later), \(mine)" }
            other.abandon()
            for name in Array(memory.objects.keys) where name.text.hasPrefix("v/header/") { memory.remove(name) }
            let gone = try await Headhunter.whose(objects, "v")
            return gone.header ?? 0 > mine.header ? nil : "\(gone), \(mine)"
        }
    }

    /// As long as the hint can not be written, no header goes that it leads to.
    @Test func aHintThatIsBehind() throws {
        try StoreRig.run(seed: 83) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let rig = StoreRig(world, memory)
            let store = LaggingStore(rig)
            try await StoreRig.prepare(world, store)
            let volume = try await StoreRig.open(world, store)
            try await Self.checkpoints(volume, world, 4)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text == "v/newest" { return 403 }
                return nil
            }
            try await Self.checkpoints(volume, world, 80)
            volume.abandon()
            store.isBlind.withLock { $0 = true }
            rig.refuse(nil)
            let again = try await StoreRig.open(world, store)
            return try await StoreRig.get(again, 79) == [79] ? nil : "an older state was opened"
        }
    }

    /// An owner who was overtaken meets the hint of the other one where a listing shows no boundary.
    @Test func anOwnerBehindAListing() throws {
        try StoreRig.run(seed: 84) { world in
            let memory = MemoryStore(world: world, loop: world.loops[0])
            let store = LaggingStore(memory)
            try await StoreRig.prepare(world, store)
            let first = try await StoreRig.open(world, store)
            try await Self.checkpoints(first, world, 1)
            let second = try await StoreRig.open(world, store, "b") { $0.takesOver = true }
            store.isBlind.withLock { $0 = true }
            for round in 0..<5 {
                _ = try await StoreRig.put(second, round, [7])
                try await second.checkpoint()
                await world.loops[0].sleep(nanoseconds: 12_000_000_000)
            }
            do throws(VolumeError) {
                _ = try await StoreRig.put(first, 1, [1])
                try await first.checkpoint()
                return "the first owner has made a checkpoint"
            } catch { return error == .fenced ? nil : "\(error)" }
        }
    }
}

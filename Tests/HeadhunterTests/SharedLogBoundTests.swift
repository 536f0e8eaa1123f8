import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// A log in a directory of several hosts: how it begins, how it ends, and how much it takes.
struct SharedLogBoundTests {
    private static let second: UInt64 = 1_000_000_000
    private static let hour = 3_600 * second

    private static func open(
        _ world: World, _ store: any StoreTransport, _ log: String = "a",
        _ set: (inout HeadhunterOptions) -> Void = { _ in }
    ) async throws -> Headhunter {
        try await StoreRig.open(world, store, log) {
            $0.logIsShared = true
            $0.checkpointNanoseconds = hour
            $0.flushNanoseconds = hour
            set(&$0)
        }
    }

    private static func leased(_ world: World, _ store: any StoreTransport) async throws -> Headhunter {
        try await open(world, store) { $0.leaseNanoseconds = 10 * second }
    }

    private static func bytes(_ world: World, _ path: String) async throws -> [UInt8] {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> [UInt8] in
            let file = try world.disk.open(path, [])
            defer { file.close() }
            let block = Block(capacity: 64)
            defer { extendLifetime(block) }
            block.count = try file.read(into: block.free, at: 0)
            return Array(block.bytes)
        }
    }

    /// Two openings of a new directory, of which one has lost its lock: it has the name that came first, for both.
    @Test func twoWhoNameADirectory() throws {
        try StoreRig.run(seed: 151) { world in
            let (store, other) = (
                MemoryStore(world: world, loop: world.loops[0]), MemoryStore(world: world, loop: world.loops[0])
            )
            try await StoreRig.prepare(world, store)
            try await Headhunter.create(world: world, store: StoreRig.objects(world, other), prefix: "v")
            (try await Self.open(world, other, "b")).abandon()
            let disk = LateDisk(world.disk, behind: .name("a/place")) {
                try? world.disk.link("b/place", to: "a/place")
            }
            let first = try await Self.open(disk.world(world), store)
            guard disk.wasLate else { return "the directory was not named" }
            guard try await Self.bytes(world, "a/place") == Self.bytes(world, "b/place") else {
                return "the name that the other one gave is gone"
            }
            try await first.commit(try await StoreRig.put(first, 1, [1]), .durable)
            first.abandon()
            let second = try await Self.open(world, store)
            return try await StoreRig.get(second, 1) == [1] ? nil : "a change is missing"
        }
    }

    /// A log of this host alone needs no hard links; a shared one says that it does, and leaves no drafts behind.
    @Test(arguments: [false, true]) func aDiskWithoutLinks(_ isShared: Bool) throws {
        try StoreRig.run(seed: 155) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            let disk = LateDisk(world.disk, behind: .name("a/place")) {}
            disk.hasLinks = false
            let there = disk.world(world)
            do {
                for _ in 0..<2 {
                    (try await StoreRig.open(there, store) { $0.logIsShared = isShared }).abandon()
                }
                if isShared { return "it opened" }
            } catch {
                guard isShared, case .unavailable(let why)? = error as? VolumeError, why.contains("hard links") else {
                    return "\(error)"
                }
            }
            let drafts = try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> [String] in
                var names: [String] = []
                try world.disk.list("a") { name, _ in
                    if name.hasSuffix(".draft") { names.append(name) }
                    return true
                }
                return names
            }
            return drafts.isEmpty ? nil : "\(drafts)"
        }
    }

    /// An owner that stands still while it closes begins to send nothing when the next one has the volume.
    @Test(arguments: 0..<8) func whoStandsStillWhileItCloses(_ part: Int) throws {
        let stood = Mutex(0)
        for step in stride(from: 1 + part, to: 97, by: 8) {
            try StoreRig.run(seed: 152) { world in
                let store = MemoryStore(world: world, loop: world.loops[0])
                try await StoreRig.prepare(world, store)
                let host = StandingHost(world, standsAt: step)
                let seen = Mutex(
                    (isOver: false, isClosing: false, isDeaf: false, names: Set<ObjectName>(), late: Set<ObjectName>()))
                let rig = StoreRig(world, host.way(to: store))
                rig.refuse { kind in
                    if case .object(let name, .head) = kind, name.text.contains("/header/") {
                        return seen.withLock { $0.isDeaf } ? 503 : nil
                    }
                    guard case .object(let name, .put) = kind, name.text.contains("/segment/") else { return nil }
                    seen.withLock { seen in
                        // What was being sent before is tried again with the same bytes.
                        if !seen.isOver { seen.names.insert(name) }
                        if seen.isOver, !seen.names.contains(name) { seen.late.insert(name) }
                    }
                    return nil
                }
                let life = world.loops[0].task { () async -> Void in
                    guard let first = try? await Self.leased(host.world, rig) else { return }
                    for byte in 1...3 {
                        _ = try? await StoreRig.store(first, [UInt8](repeating: UInt8(byte), count: 300_000))
                    }
                    seen.withLock { $0.isClosing = true }
                    try? await first.close()
                }
                await world.loops[0].sleep(nanoseconds: 3 * Self.second)
                guard seen.withLock({ $0.isClosing }) else {
                    // One that stands still while it opens has the volume afterwards.
                    host.goOn()
                    await life.value
                    return nil
                }
                if host.stands { stood.withLock { $0 += 1 } }
                host.stand()
                // When it goes on it does not hear of the next owner at once: by then it would send nothing anyway.
                seen.withLock { $0.isDeaf = true }
                let next = try await Self.leased(world, store)
                seen.withLock { $0.isOver = true }
                try await next.checkpoint()
                host.goOn()
                await world.loops[0].sleep(nanoseconds: 5 * Self.second)
                seen.withLock { $0.isDeaf = false }
                await life.value
                await world.loops[0].sleep(nanoseconds: 60 * Self.second)
                let late = seen.withLock { $0.late }
                return late.isEmpty ? nil : "step \(step): \(late) is sent beside the next owner"
            }
        }
        #expect(stood.withLock { $0 } > 1, "nobody stood still while closing")
    }

    /// Two `volume take`s to one directory, which has another log: the one that stood still takes nothing of the other one away.
    @Test(arguments: 0..<4) func twoWhoTakeToOneDirectory(_ part: Int) throws {
        let stood = Mutex(0)
        for step in stride(from: 1 + part, to: 33, by: 4) {
            try StoreRig.run(seed: 156) { world in
                let (store, other) = (
                    MemoryStore(world: world, loop: world.loops[0]), MemoryStore(world: world, loop: world.loops[0])
                )
                try await StoreRig.prepare(world, store)
                try await Headhunter.create(world: world, store: StoreRig.objects(world, other), prefix: "v")
                for (store, log) in [(store, "b"), (other, "a")] {
                    let former = try await StoreRig.open(world, store, log)
                    try await former.commit(try await StoreRig.put(former, 1, [1]), .durable)
                    if log == "b" { try await former.checkpoint() }
                    former.abandon()
                }
                let host = StandingHost(world, standsAt: step)
                let taking = world.loops[0].task {
                    try? await Self.open(host.world, host.way(to: store)) { $0.takesOver = true }
                }
                await world.loops[0].sleep(nanoseconds: 3 * Self.second)
                if host.stands { stood.withLock { $0 += 1 } }
                host.stand()
                let next = try await Self.open(world, store) { $0.takesOver = true }
                let (range, number) = try await StoreRig.store(next, [UInt8](repeating: 2, count: 100_000))
                try await next.commit(number, .durable)
                host.goOn()
                let late = await taking.value
                await world.loops[0].sleep(nanoseconds: Self.second)
                for volume in [next, late] { volume?.abandon() }
                let last = try await Self.open(world, store)
                guard try await StoreRig.get(last, 1) == [1] else { return "step \(step): what was stored is missing" }
                let bytes = try await StoreRig.read(last, range)
                return bytes.allSatisfy { $0 == 2 } ? nil : "step \(step): other bytes"
            }
        }
        #expect(stood.withLock { $0 } > 4, "nobody stood still while taking")
    }

    /// Closing takes longer than the lease: it is looked at on the way, and all gets to the store.
    @Test func aCloseThatTakesLong() throws {
        try StoreRig.run(seed: 153) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await Self.leased(world, rig)
            let (range, _) = try await StoreRig.store(first, [UInt8](repeating: 7, count: 300_000))
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            let closing = world.loops[0].task { try? await first.close() }
            await world.loops[0].sleep(nanoseconds: 120 * Self.second)
            rig.refuse(nil)
            await closing.value
            let next = try await StoreRig.open(world, rig, "b")
            return try await StoreRig.read(next, range).allSatisfy { $0 == 7 } ? nil : "other bytes"
        }
    }

    /// Files of what the store has, and no header yet, count for what may be in the directory; and writers go on when it comes.
    @Test func whatIsKeptForAHeader() throws {
        try StoreRig.run(seed: 154) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let volume = try await Self.open(world, rig) { $0.stagedBytesMax = 4 << 20 }
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/header/") { return 503 }
                return nil
            }
            let written = Mutex(0)
            let writer = world.loops[0].task {
                for _ in 0..<40 {
                    do throws(VolumeError) {
                        _ = try await StoreRig.store(volume, [UInt8](repeating: 1, count: 500_000))
                    } catch { return }
                    written.withLock { $0 += 1 }
                }
            }
            await world.loops[0].sleep(nanoseconds: 120 * Self.second)
            let taken = try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> UInt64 in
                var names: [String] = []
                try world.disk.list("a/stage") { name, _ in
                    names.append(name)
                    return true
                }
                var sum: UInt64 = 0
                for name in names { sum += try world.disk.status("a/stage/" + name).size }
                return sum
            }
            let before = written.withLock { $0 }
            rig.refuse(nil)
            // Long before a checkpoint comes by time.
            await world.loops[0].sleep(nanoseconds: 60 * Self.second)
            let after = written.withLock { $0 }
            await writer.value
            guard taken <= 5 << 20, before < 12 else { return "\(before) writes, \(taken) bytes in the stage" }
            return after == 40 ? nil : "\(after) writes in all"
        }
    }
}

import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// A log in a directory of several hosts: what one that lost its lock does late, at any time of the next one's life, is nobody's concern.
struct SharedLogTests {
    private static let hour: UInt64 = 3_600_000_000_000

    private static func open(_ world: World, _ store: any StoreTransport, isQuiet: Bool = true) async throws
        -> Headhunter
    {
        try await StoreRig.open(world, store) {
            $0.logIsShared = true
            guard isQuiet else { return }
            // Nothing goes by itself.
            $0.checkpointNanoseconds = hour
            $0.flushNanoseconds = hour
        }
    }

    /// What one owner leaves to the next one stays in log and stage: neither a segment nor a checkpoint gets to the store.
    private static func keepFromStore(_ store: StoreRig) {
        store.refuse { kind in
            guard case .object(let name, .put) = kind else { return nil }
            return name.text.contains("/segment/") || name.text.contains("/meta/") ? 503 : nil
        }
    }

    /// Data that the log names and that only the stage has.
    private static func stage(_ volume: Headhunter, _ byte: UInt8) async throws(VolumeError) -> SegmentRange {
        let (range, number) = try await StoreRig.store(volume, [UInt8](repeating: byte, count: 100_000))
        try await volume.commit(number, .durable)
        return range
    }

    private static func holds(_ volume: Headhunter, _ range: SegmentRange, _ byte: UInt8) async -> String? {
        do throws(VolumeError) {
            return try await StoreRig.read(volume, range).allSatisfy { $0 == byte } ? nil : "other bytes than \(byte)"
        } catch { return "reading \(byte): \(error)" }
    }

    private static func files(_ world: World, _ folder: String) async throws -> [String] {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> [String] in
            var names: [String] = []
            try world.disk.list(folder) { name, kind in
                if kind == .file { names.append(folder + "/" + name) }
                return true
            }
            return names
        }
    }

    /// An owner with one durable change that stands still, and another one that waits for the log there.
    private static func standing(
        _ world: World, _ store: any StoreTransport
    ) async throws -> (first: Headhunter, host: StandingHost, late: Task<Void, Never>) {
        let host = StandingHost(world, standsAt: 1 << 40)
        let first = try await open(host.world, host.way(to: store))
        try await first.commit(try await StoreRig.put(first, 1, [1]), .durable)
        await world.loops[0].sleep(nanoseconds: 10_000_000)
        host.stand()
        let late = world.loops[0].task {
            guard let number = try? await StoreRig.put(first, 2, [2]) else { return }
            try? await first.commit(number, .durable)
        }
        return (first, host, late)
    }

    /// The next owner has written nothing, or nothing but a checkpoint, when a record of the one before gets to the log: that record never counts.
    @Test(arguments: [false, true])
    func aRecordThatComesLate(_ hasCheckpoint: Bool) throws {
        try StoreRig.run(seed: 141) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            let (first, host, late) = try await Self.standing(world, store)
            await world.loops[0].sleep(nanoseconds: 10_000_000)
            let second = try await Self.open(world, store)
            if hasCheckpoint { try await second.checkpoint() }
            host.goOn()
            await late.value
            await world.loops[0].sleep(nanoseconds: 50_000_000)
            guard try await StoreRig.get(second, 1) == [1] else { return "the second owner lacks what was promised" }
            guard try await StoreRig.get(second, 2) == nil else { return "the second owner has it" }
            second.abandon()
            first.abandon()
            let third = try await Self.open(world, store)
            guard try await StoreRig.get(third, 1) == [1] else { return "the third owner lacks what was promised" }
            return try await StoreRig.get(third, 2) == nil ? nil : "the third owner has what the second one had not"
        }
    }

    /// An opening stands still at each of its steps; another one comes, and promises; then the first one goes on.
    @Test(arguments: 0..<8)
    func anOpeningThatStandsStill(_ part: Int) throws {
        let stood = Mutex(0)
        for step in stride(from: 1 + part, to: 65, by: 8) {
            try StoreRig.run(seed: 142) { world in
                let store = StoreRig(world)
                try await StoreRig.prepare(world, store)
                let first = try await Self.open(world, store)
                let old = try await Self.stage(first, 1)
                first.abandon()
                Self.keepFromStore(store)
                let host = StandingHost(world, standsAt: step)
                let opening = world.loops[0].task { try? await Self.open(host.world, host.way(to: store)) }
                await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                if host.stands { stood.withLock { $0 += 1 } }
                host.stand()
                let second = try await Self.open(world, store)
                let new = try await Self.stage(second, 2)
                host.goOn()
                let other = await opening.value
                await world.loops[0].sleep(nanoseconds: 1_000_000_000)
                // More of the same file, if it still has the volume.
                let more = try await other == nil ? Self.stage(second, 3) : new
                second.abandon()
                other?.abandon()
                store.refuse(nil)
                let third = try await Self.open(world, store)
                for (range, byte) in [(old, UInt8(1)), (new, 2), (more, other == nil ? 3 : 2)] {
                    if let wrong = await Self.holds(third, range, byte) { return "step \(step): \(wrong)" }
                }
                try await third.checkpoint()
                return nil
            }
        }
        #expect(stood.withLock { $0 } > 1, "the opening was over before")
    }

    /// An opening ends at each of its steps before it has a log of its own. The owner before goes on meanwhile, and writes more to the file
    /// that the opening has looked at: who comes next has all of it.
    @Test func anOpeningThatEndsBeforeItHasALog() throws {
        let stood = Mutex(0)
        for step in 1..<33 {
            try StoreRig.run(seed: 149) { world in
                let store = StoreRig(world)
                try await StoreRig.prepare(world, store)
                let first = try await Self.open(world, store)
                let old = try await Self.stage(first, 1)
                Self.keepFromStore(store)
                let logs = try await Self.files(world, "a").filter { $0.hasSuffix(".log") }
                let host = StandingHost(world, standsAt: step)
                let opening = world.loops[0].task { try? await Self.open(host.world, host.way(to: store)) }
                await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                host.stand()
                guard try await Self.files(world, "a").filter({ $0.hasSuffix(".log") }) == logs else {
                    // From here on it is not the owner before who says how the log ends.
                    host.goOn()
                    _ = await opening.value
                    return nil
                }
                stood.withLock { $0 += 1 }
                let new = try await Self.stage(first, 2)
                guard old.segment == new.segment else { return "it is another file" }
                // Its log says that all is durable.
                try await first.commit(try await StoreRig.put(first, 1, [1]), .durable)
                await world.loops[0].sleep(nanoseconds: 10_000_000)
                first.abandon()
                let second = try await Self.open(world, store)
                for (range, byte) in [(old, UInt8(1)), (new, 2)] {
                    if let wrong = await Self.holds(second, range, byte) { return "step \(step): \(wrong)" }
                }
                host.goOn()
                _ = await opening.value
                return nil
            }
        }
        #expect(stood.withLock { $0 } > 4, "the opening was over before")
    }

    /// An opening has read less of the log than the one that came after it, and makes its file last.
    @Test(arguments: 0..<8)
    func aLogFileThatComesLate(_ part: Int) throws {
        for step in stride(from: 1 + part, to: 65, by: 8) {
            try StoreRig.run(seed: 146) { world in
                let store = StoreRig(world)
                try await StoreRig.prepare(world, store)
                let (first, former, late) = try await Self.standing(world, store)
                Self.keepFromStore(store)
                let host = StandingHost(world, standsAt: step)
                let opening = world.loops[0].task { try? await Self.open(host.world, host.way(to: store)) }
                await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                host.stand()
                former.goOn()
                await late.value
                await world.loops[0].sleep(nanoseconds: 50_000_000)
                let second = try await Self.open(world, store)
                let found = try await StoreRig.get(second, 2)
                try await second.commit(try await StoreRig.put(second, 3, [3]), .durable)
                await world.loops[0].sleep(nanoseconds: 10_000_000)
                host.goOn()
                let other = await opening.value
                await world.loops[0].sleep(nanoseconds: 50_000_000)
                for volume in [first, second, other] { volume?.abandon() }
                store.refuse(nil)
                let third = try await Self.open(world, store)
                for (key, value) in [(1, [1]), (2, found), (3, [3])] as [(Int, [UInt8]?)] {
                    let has = try await StoreRig.get(third, key)
                    guard has == value else { return "step \(step): of key \(key) the third owner has \(has ?? [])" }
                }
                return nil
            }
        }
    }

    /// What the owner before had in the stage it takes away, or makes something else, when the next one goes on with it.
    @Test(arguments: [false, true])
    func stageFilesOfTheOwnerBefore(_ isChanged: Bool) throws {
        try StoreRig.run(seed: 143) { world in
            let store = StoreRig(world)
            try await StoreRig.prepare(world, store)
            let first = try await Self.open(world, store)
            let range = try await Self.stage(first, 1)
            // Its log has said that all is durable.
            try await first.commit(try await StoreRig.put(first, 1, [1]), .durable)
            await world.loops[0].sleep(nanoseconds: 10_000_000)
            let names = try await Self.files(world, "a/stage")
            guard names.count == 1, let name = names.first else { return "\(names.count) files are staged" }
            let file = try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> any DiskFile in
                try world.disk.open(name, [.write])
            }
            first.abandon()
            Self.keepFromStore(store)
            let second = try await Self.open(world, store)
            let junk = [UInt8](repeating: 9, count: 200_000).withUnsafeBytes { Block(copying: $0) }
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                if isChanged { try file.write(junk.bytes, at: 0) }
                extendLifetime(junk)
                do throws(Errno) { try world.disk.remove(name) } catch { guard error == .noEntry else { throw error } }
            }
            if let wrong = await Self.holds(second, range, 1) { return wrong }
            store.refuse(nil)
            let isDone = Mutex(false)
            let checkpoint = world.loops[0].task {
                do throws(VolumeError) { try await second.checkpoint() } catch { return }
                isDone.withLock { $0 = true }
            }
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            guard isDone.withLock({ $0 }) else { return "the next owner can not send what it went on with" }
            await checkpoint.value
            second.abandon()
            let third = try await Self.open(world, store)
            return await Self.holds(third, range, 1)
        }
    }

    /// A stage file that is whole, and of which the log says so, comes behind the next owner's listing of the stage.
    @Test func aStageFileThatComesLate() throws {
        try StoreRig.run(seed: 144) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            let first = try await Self.open(world, store)
            let range = try await Self.stage(first, 1)
            try await first.commit(try await StoreRig.put(first, 1, [1]), .durable)
            await world.loops[0].sleep(nanoseconds: 10_000_000)
            first.abandon()
            let names = try await Self.files(world, "a/stage")
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                for name in names { try world.disk.rename(name, to: "b" + name.dropFirst("a/stage".count)) }
            }
            let disk = LateDisk(world.disk, behind: .list("a/stage", 2)) {
                for name in names { try? world.disk.rename("b" + name.dropFirst("a/stage".count), to: name) }
            }
            let second = try await Self.open(disk.world(world), store)
            guard disk.wasLate else { return "the files never came" }
            if let wrong = await Self.holds(second, range, 1) { return wrong }
            try await second.checkpoint()
            return await Self.holds(second, range, 1)
        }
    }

    /// A segment is on its way to the store when the next owner asks for it, and is there when that one reads the stage: as long as no
    /// header has it its file is there, too, and nothing that was promised is cut.
    @Test func aSegmentThatIsSentBetweenTwoLooks() throws {
        let stood = Mutex(0)
        for step in 1..<33 {
            try StoreRig.run(seed: 147) { world in
                let store = MemoryStore(world: world, loop: world.loops[0])
                try await StoreRig.prepare(world, store)
                let former = StandingHost(world, standsAt: 1 << 40)
                let rig = StoreRig(world, former.way(to: store))
                let sent = Mutex<ObjectName?>(nil)
                rig.refuse { kind in
                    guard case .object(let name, .put) = kind, name.text.contains("/segment/") else { return nil }
                    // As long as the other one is not there no header comes.
                    guard
                        sent.withLock({
                            $0 = $0 ?? name
                            return $0 == name
                        })
                    else { return 503 }
                    former.stand()
                    return nil
                }
                let first = try await Self.open(former.world, rig)
                let (full, _) = try await StoreRig.store(first, [UInt8](repeating: 1, count: 900_000))
                let (next, number) = try await StoreRig.store(first, [UInt8](repeating: 2, count: 200_000))
                guard full.segment != next.segment else { return "the segment is not full" }
                try await first.commit(number, .durable)
                // Behind it the log does not say any more that this is durable.
                world.loops[0].task { try? await first.checkpoint() }
                await world.loops[0].sleep(nanoseconds: 10_000_000)
                guard former.stands else { return "nothing is sent" }
                let host = StandingHost(world, standsAt: step)
                let opening = world.loops[0].task { try await Self.open(host.world, host.way(to: store)) }
                await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                if host.stands { stood.withLock { $0 += 1 } }
                former.goOn()
                await world.loops[0].sleep(nanoseconds: 50_000_000)
                host.goOn()
                let second = try await opening.value
                for (range, byte) in [(full, UInt8(1)), (next, 2)] {
                    if let wrong = await Self.holds(second, range, byte) { return "step \(step): \(wrong)" }
                }
                return nil
            }
        }
        #expect(stood.withLock { $0 } > 8, "the opening was over before")
    }

    /// The owner before reserves numbers in a record that comes late, and gives them to objects: they are none of the next one's.
    @Test func numbersThatAreReservedLate() throws {
        try StoreRig.run(seed: 148) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            @Sendable func open(_ world: World, _ store: any StoreTransport) async throws -> Headhunter {
                try await StoreRig.open(world, store) {
                    ($0.logIsShared, $0.checkpointNanoseconds, $0.flushNanoseconds) = (true, Self.hour, Self.hour)
                    // A checkpoint takes numbers of several ranges.
                    ($0.nonceRange, $0.metadataObjectBytes, $0.cacheBytes) = (12, 64 << 10, 64 << 20)
                }
            }
            @Sendable func put(_ volume: Headhunter, _ byte: UInt8) async throws {
                for key in 0..<400 {
                    _ = try await StoreRig.put(volume, key, [UInt8](repeating: byte, count: 3_000))
                }
            }
            let host = StandingHost(world, standsAt: 1 << 40)
            let first = try await open(host.world, host.way(to: store))
            await world.loops[0].sleep(nanoseconds: 10_000_000)
            host.stand()
            try await put(first, 1)
            let late = world.loops[0].task { try? await first.checkpoint() }
            await world.loops[0].sleep(nanoseconds: 10_000_000)
            let second = try await open(world, store)
            try await put(second, 2)
            try await second.checkpoint()
            let before = try await StoreRig.names(world, store, "meta").count
            host.goOn()
            await late.value
            await world.loops[0].sleep(nanoseconds: 50_000_000)
            let after = try await StoreRig.names(world, store, "meta").count
            for volume in [first, second] { volume.abandon() }
            let third = try await open(world, store)
            for key in 0..<400 {
                guard try await StoreRig.get(third, key)?.allSatisfy({ $0 == 2 }) == true else {
                    return "of key \(key) the third owner has other bytes"
                }
            }
            return after > before + 12 ? nil : "the owner before took no numbers of another range"
        }
    }

    /// An opening stands still while the volume is taken elsewhere: it has no right to it any more, and fences nobody off.
    @Test func anOpeningWhoseLogIsElsewhereByNow() throws {
        let refused = Mutex(0)
        for step in 1..<33 {
            try StoreRig.run(seed: 145) { world in
                let store = MemoryStore(world: world, loop: world.loops[0])
                try await StoreRig.prepare(world, store)
                let first = try await Self.open(world, store)
                try await first.commit(try await StoreRig.put(first, 1, [1]), .durable)
                first.abandon()
                let host = StandingHost(world, standsAt: step)
                let opening = world.loops[0].task { try? await Self.open(host.world, host.way(to: store)) }
                await world.loops[0].sleep(nanoseconds: 3_000_000_000)
                host.stand()
                let taker = try await StoreRig.open(world, store, "b") { $0.takesOver = true }
                host.goOn()
                let other = await opening.value
                if other == nil { refused.withLock { $0 += 1 } }
                _ = try await StoreRig.put(taker, 1, [2])
                do throws(VolumeError) { try await taker.checkpoint() } catch {
                    return "step \(step): the taker is told \(error)"
                }
                other?.abandon()
                return nil
            }
        }
        #expect(refused.withLock { $0 } > 4)
    }
}

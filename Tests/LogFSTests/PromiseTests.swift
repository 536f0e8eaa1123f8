import Bytes
import Headhunter
import LogFS
import Runtime
import Simulator
import Testing
import Trials

/// What a caller was told is safe after a power loss, however he came to be told.
struct PromiseTests {
    /// Runs `before`, cuts the power the moment it returns, and `after` over what the disk kept.
    private func overPowerLoss(
        _ before: @escaping @Sendable (LogFS, World) async throws -> Void,
        _ after: @escaping @Sendable (LogFS, World) async throws -> Void
    ) throws {
        let simulation = Simulation(seed: 31)
        Bench.prepare(simulation)
        for (index, step) in [before, after].enumerated() {
            let failure = simulation.perform { world -> String? in
                do {
                    let volume = try await Bench.volume(world)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    try await step(files, world)
                    // Before anything in the background may have its turn.
                    if index == 0 { simulation.crash() }
                    return nil
                } catch { return "\(error)" }
            }
            if index == 0 {
                simulation.restart()
            } else {
                let problem = try #require(failure)
                #expect(problem == nil)
            }
        }
    }

    private static func make(_ files: LogFS, _ name: String, token: RequestToken? = nil) async throws -> (
        id: FileID, number: UInt64
    ) {
        let (created, number) = try await files.run { reader in
            with(Array(name.utf8)) {
                files.create(
                    Request(reader: reader, now: 1, token: token), in: files.rootID, $0,
                    NewFile(type: .file, mode: 0o644, uid: 0, gid: 0))
            }
        }
        return (created.inode.id, number)
    }

    private static func size(_ files: LogFS, _ name: String) async throws -> UInt64? {
        let found = try await outcome(files) { request in
            with(Array(name.utf8)) { files.lookup(request, in: files.rootID, $0) }
        }
        guard case .success(let inode) = found else { return nil }
        return inode.size
    }

    private static func write(_ files: LogFS, _ id: FileID, _ size: Int, at place: UInt64 = 0, fill: UInt8 = 7)
        async throws
    {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: fill)
        try await files.writeAll(id, at: place, UnsafeRawBufferPointer(memory), now: 1)
    }

    /// The background, or another caller, was first with the flush: who flushes again waits for the same records.
    @Test(arguments: [100, 100_000])
    func aFlushAfterAFlush(_ bytes: Int) throws {
        try overPowerLoss { files, _ in
            let (id, number) = try await Self.make(files, "f")
            try await files.commit(number, .durable)
            try await Self.write(files, id, bytes)
            try await files.flush(id.inode)
            try await files.commit(try await files.flush(id.inode), .durable)
        } _: { files, _ in
            let size = try await Self.size(files, "f")
            #expect(size == UInt64(bytes))
        }
    }

    /// `memory` durability: the process may be killed at any moment, also when the log has failed for good on the way to
    /// another file.
    @Test func whatWasWrittenOutlivesTheProcess() throws {
        var failed = 0
        for seed in 1...60 {
            let simulation = Simulation(seed: UInt64(seed))
            Bench.prepare(simulation)
            let told = Guarded(0)
            let hasFailed = simulation.perform { world -> Bool in
                do {
                    let volume = try await Bench.volume(world)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    let (_, first) = try await Self.make(files, "first")
                    try await files.commit(first, .durable)
                    simulation.faults.noSpace = 3
                    for index in 0..<200 {
                        let (_, number) = try await Self.make(files, "f\(index)")
                        try await files.commit(number, .written)
                        told.withLock { $0 = index + 1 }
                    }
                    return false
                } catch { return true }
            }
            simulation.faults.noSpace = 0
            simulation.killAndRestart()
            if hasFailed == true { failed += 1 }
            let promised = told.withLock { $0 }
            let missing = simulation.perform { world -> String? in
                do {
                    let volume = try await Bench.volume(world)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    for index in 0..<promised where try await Self.size(files, "f\(index)") == nil {
                        return "file \(index) of \(promised) is not there"
                    }
                    return nil
                } catch { return "\(error)" }
            }
            let problem = try #require(missing)
            #expect(problem == nil, "seed \(seed)")
        }
        #expect(failed > 30, "the log failed in \(failed) of 60 runs only")
    }

    /// A reader saw what was lost with the power, and the file's counter with it: other content never gets the same one.
    @Test func aChangeCounterIsNeverGivenTwice() throws {
        let seen = Guarded<UInt64>(0)
        try overPowerLoss { files, _ in
            let (id, number) = try await Self.make(files, "f")
            try await files.commit(number, .durable)
            for _ in 0..<5 { try await Self.write(files, id, 100) }
            let change = try await Self.change(files, "f")
            seen.withLock { $0 = change }
            #expect(change > 5)
        } _: { files, _ in
            let before = seen.withLock { $0 }
            #expect(try await Self.change(files, "f") < before)
            let id = try await outcome(files) { request in
                with([0x66]) { files.lookup(request, in: files.rootID, $0) }
            }.get().id
            try await Self.write(files, id, 200)
            let unflushed = try await Self.change(files, "f")
            #expect(unflushed > before)
            try await files.flush(id.inode)
            #expect(try await Self.change(files, "f") == unflushed)
            var mode = NewAttributes()
            mode.mode = 0o600
            let new = mode
            _ = try await outcome(files) { request in files.setAttributes(request, id, new) }.get()
            #expect(try await Self.change(files, "f") > unflushed)
        }
    }

    private static func change(_ files: LogFS, _ name: String) async throws -> UInt64 {
        try await outcome(files) { request in
            with(Array(name.utf8)) { files.lookup(request, in: files.rootID, $0) }
        }.get().change
    }

    /// The second time it finds the first one's answer, and that must be durable too.
    @Test func aRepeatedRequest() throws {
        let token = RequestToken(client: 1, id: 2, digest: 3)
        try overPowerLoss { files, _ in
            let (first, _) = try await Self.make(files, "f", token: token)
            let (second, number) = try await Self.make(files, "f", token: token)
            #expect(first == second)
            try await files.commit(number, .durable)
        } _: { files, _ in
            let size = try await Self.size(files, "f")
            #expect(size == 0)
        }
    }

    @Test func aRepeatedTruncationCutsNothingNew() async throws {
        Bench.files { files, _ in
            let (id, _) = try await Self.make(files, "f")
            try await Self.write(files, id, 200_000)
            let token = RequestToken(client: 1, id: 2, digest: 3)
            let first = try await files.resize(id, to: 0, now: 1, token: token)
            #expect(first.inode.size == 0)
            try await Self.write(files, id, 300_000)
            let second = try await files.resize(id, to: 0, now: 2, token: token)
            #expect(second.inode.size == 300_000)
            #expect(try await Self.size(files, "f") == 300_000)
        }
    }

    /// Told of the object store, it is there, content included, when all that is local has gone.
    @Test func whatIsStored() throws {
        let simulation = Simulation(seed: 33)
        Bench.prepare(simulation)
        _ = simulation.perform { world in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                for round in 0..<5 {
                    let (id, number) = try await Self.make(files, "f\(round)")
                    try await Self.write(files, id, 50_000)
                    let last = try await files.flush(id.inode)
                    #expect(last >= number)
                    try await volume.stored(last)
                }
                simulation.crash()
            } catch { Issue.record("\(error)") }
        }
        simulation.restart()
        let problem = try #require(
            simulation.perform { world -> String? in
                do {
                    try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                        try world.disk.makeDirectory("elsewhere")
                    }
                    let volume = try await Bench.volume(world, log: "elsewhere", takesOver: true)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    for round in 0..<5 {
                        let size = try await Self.size(files, "f\(round)")
                        if size != 50_000 { return "file \(round) has \(String(describing: size)) bytes" }
                    }
                    let check = try await Check.run(files, readsData: true)
                    return check.differences.isEmpty ? "" : "\(check.differences)"
                } catch { return "\(error)" }
            })
        #expect(problem == "")
    }

    /// A segment whose checksums do not fit into one change.
    @Test func aLargeSegment() throws {
        let simulation = Simulation(seed: 32)
        Bench.prepare(simulation)
        let size = 150 << 20
        for round in 0..<2 {
            let failure = simulation.perform { world -> String? in
                do {
                    var options = HeadhunterOptions()
                    options.flushBytes = 1 << 30
                    options.stageMemoryBytes = 512 << 20
                    options.checkpointNanoseconds = 3_600_000_000_000
                    let volume = try await Headhunter.open(
                        world: world, loop: world.loops[0], store: try await Bench.store(world), prefix: "v",
                        directory: "log", options: options)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    if round == 0 {
                        let (id, _) = try await Self.make(files, "large")
                        for place in stride(from: 0, to: size, by: 1 << 20) {
                            try await Self.write(files, id, 1 << 20, at: UInt64(place), fill: UInt8(place >> 20 & 255))
                        }
                        try await files.sync(id, .durable)
                        try await volume.checkpoint()
                    } else {
                        let check = try await Check.run(files, readsData: true)
                        guard check.differences.isEmpty else { return "\(check.differences)" }
                        try await files.run { reader in
                            with(Array("large".utf8)) {
                                files.unlink(Request(reader: reader, now: 2), in: files.rootID, $0)
                            }
                        }
                        try await files.tidy()
                        for _ in 0..<4 {
                            try await volume.checkpoint()
                            // Objects are deleted beside the checkpoints.
                            await world.loops[0].sleep(nanoseconds: 1_000_000_000)
                        }
                        let left = simulation.files(below: "store").filter { $0.path.contains("segment") }
                        guard left.isEmpty else { return "\(left)" }
                    }
                    try await volume.close()
                    return nil
                } catch { return "\(error)" }
            }
            let problem = try #require(failure)
            #expect(problem == nil, "round \(round)")
            simulation.killAndRestart()
        }
    }

    /// A cut that stops half way, with the file grown and synced after it: neither do the old bytes come back, nor does
    /// the next start cut the new ones.
    @Test func anUnfinishedCut() throws {
        var unfinished = 0
        for seed in 1...6 {
            let simulation = Simulation(seed: UInt64(seed))
            Bench.prepare(simulation)
            let pieces = 600
            let step: UInt64 = 8192
            let failed = Guarded(false)
            for round in 0..<4 {
                let failure = simulation.perform { world -> String? in
                    do {
                        let volume = try await Bench.volume(world)
                        let files = try await LogFS.open(volume, world: world, subvolume: 1)
                        let found = try await outcome(files) { request in
                            with(Array("f".utf8)) { files.lookup(request, in: files.rootID, $0) }
                        }
                        switch (round, found) {
                        case (0, _):
                            let (id, _) = try await Self.make(files, "f")
                            for piece in 0..<pieces {
                                try await Self.write(files, id, 4096, at: UInt64(piece) * step)
                            }
                            try await files.sync(id, .durable)
                            try await volume.checkpoint()
                        case (1, .success(let inode)):
                            // Its leaves are to be read, and from some moment on no read succeeds.
                            let watch = world.loops[0].task {
                                for _ in 0..<1_000_000 where try await Self.size(files, "f") != 10_000 {
                                    await world.loops[0].sleep(nanoseconds: 1_000)
                                }
                                await world.loops[0].sleep(nanoseconds: UInt64(seed) * 2_000)
                                simulation.faults.failedRead = 1
                            }
                            defer { watch.cancel() }
                            do {
                                let cut = try await files.resize(inode.id, to: 10_000, now: 2)
                                try await files.commit(cut.number, .durable)
                            } catch {
                                failed.withLock { $0 = true }
                            }
                            simulation.faults.failedRead = 0
                            let now = try await Self.size(files, "f") ?? 0
                            guard now == 10_000 else {
                                if now != UInt64(pieces - 1) * step + 4096 { return "size \(now)" }
                                _ = try await files.resize(inode.id, to: 10_000, now: 2)
                                failed.withLock { $0 = false }
                                break
                            }
                            try await Self.write(files, inode.id, 1000, at: 3_000_000, fill: 9)
                            try await files.sync(inode.id, .durable)
                            break
                        case (2, .success(let inode)), (3, .success(let inode)):
                            if inode.size == 10_000 { break }
                            guard inode.size == 3_001_000 else { return "size \(inode.size)" }
                            let memory = UnsafeMutableRawBufferPointer.allocate(
                                byteCount: 3_001_000, alignment: 16)
                            defer { memory.deallocate() }
                            let count = try await files.readAll(inode.id, at: 0, into: memory)
                            guard count == 3_001_000 else { return "\(count) bytes" }
                            for place in memory.indices {
                                let wanted: UInt8 =
                                    place >= 3_000_000 ? 9 : place < 10_000 && place % 8192 < 4096 ? 7 : 0
                                guard memory[place] == wanted else {
                                    return "byte \(place) is \(memory[place]), not \(wanted)"
                                }
                            }
                        default: return "\(found)"
                        }
                        return nil
                    } catch {
                        return round == 1 ? nil : "\(error)"
                    }
                }
                simulation.faults.failedRead = 0
                let problem = try #require(failure)
                #expect(problem == nil, "seed \(seed), round \(round)")
                simulation.crash()
                simulation.restart()
            }
            if failed.withLock({ $0 }) { unfinished += 1 }
        }
        #expect(unfinished > 0, "no cut stopped half way")
    }
}

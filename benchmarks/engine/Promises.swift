import Bytes
import Glibc
import Headhunter
import LogFS
import ObjectStore
import Runtime
import Trials

/// What must not take long, whatever there is: a writer beside checkpoints, a file deep down, the deletion of a large file.
struct Promises {
    let world: World
    private var loop: EventLoop { world.loops[0] }
    private func seconds() -> Double { Double(world.clock.monotonic()) / 1e9 }
    /// A stop that is worth a look.
    private static let longSeconds = 0.001
    private func own() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    init(world: World) { self.world = world }

    func run() async throws {
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            for name in ["store", "far"] { try world.disk.makeDirectory(name) }
            for name in ["stops", "stops-slow", "depth"] { try world.disk.makeDirectory(name) }
            try world.disk.syncDirectory("")
        }
        Limits.tell(
            "longest stop of two threads that only look at the clock", "-", await bareStop(), "us", nil,
            "what this machine takes away by itself")
        let directory = try await DirectoryStore.open(world: world, loop: loop, root: "store")
        try await stops("store in a directory", ObjectStore(directory, world: world, loop: loop), log: "stops")
        // In a directory as well: copying what is stored is not to be on the writer's loop.
        let far = try await DirectoryStore.open(world: world, loop: loop, root: "far")
        let slow = SlowStore(far, loop: loop, nanoseconds: 20_000_000)
        try await stops("store of 20 ms", ObjectStore(slow, world: world, loop: loop), log: "stops-slow")
        let memory = ObjectStore(MemoryStore(world: world, loop: loop), world: world, loop: loop)
        let files = try await open(memory, log: "depth") { _ in }
        try await depth(files)
        try await deletions(files)
        try await files.stop()
        try await files.headhunter.close()
    }

    /// What a thread that only looks at the clock misses while another one does the same: no stop can be measured that is shorter.
    private func bareStop() async -> Double {
        let clock = world.clock
        let watch = { @Sendable () throws(Never) -> UInt64 in
            let end = clock.monotonic() + 10_000_000_000
            var worst: UInt64 = 0
            var last = clock.monotonic()
            while last < end {
                let now = clock.monotonic()
                worst = max(worst, now - last)
                last = now
            }
            return worst
        }
        async let one = world.blocking.run(on: loop, watch)
        async let other = world.blocking.run(on: loop, watch)
        return Double(max(await one, await other)) / 1e3
    }

    private func open(
        _ store: ObjectStore, log: String, _ set: (inout HeadhunterOptions) -> Void
    ) async throws -> LogFS {
        var options = HeadhunterOptions()
        set(&options)
        try await Headhunter.create(world: world, store: store, prefix: log)
        let volume = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: log, directory: log, options: options)
        return try await LogFS.open(volume, world: world, subvolume: 1)
    }

    private func make(_ files: LogFS, _ home: FileID, _ name: String, _ type: FileType = .file) async throws -> FileID {
        try await files.run { reader in
            Array(name.utf8).withUnsafeBytes {
                files.create(
                    Request(reader: reader, now: world.clock.wall()), in: home, $0,
                    NewFile(type: type, mode: 0o755, uid: 0, gid: 0))
            }
        }.value.inode.id
    }

    /// Writes 1 MiB each 10 ms to one file, over and over; answers when those were under way that took long, and what the longest took.
    private func stream(_ files: LogFS, until end: Double) async throws -> (long: [Gap], worst: Double) {
        let block = Block(capacity: 1 << 20)
        block.count = block.capacity
        memset(block.base, 0xA5, block.count)
        defer { extendLifetime(block) }
        let file = try await make(files, files.rootID, "stream")
        var long: [Gap] = []
        var worst = 0.0
        var place: UInt64 = 0
        while seconds() < end {
            let begin = seconds()
            try await files.writeAll(file, at: place << 20, block.bytes, now: world.clock.wall())
            let now = seconds()
            worst = max(worst, now - begin)
            if now - begin > Self.longSeconds { long.append(Gap(begin, now)) }
            place = (place + 1) % 256
            if place % 8 == 0 { try await files.flush(file.inode) }
            await loop.sleep(nanoseconds: 10_000_000)
        }
        return (long, worst)
    }

    /// A stop, in nanoseconds of the clock.
    private struct Gap {
        let begin: UInt64
        let end: UInt64

        init(_ begin: Double, _ end: Double) { (self.begin, self.end) = (UInt64(begin * 1e9), UInt64(end * 1e9)) }

        /// Without what no thread of any priority had: that counts for nobody.
        func counted(_ lost: LostTime) -> UInt64 { end - begin - min(end - begin, lost.within(begin, end) ?? 0) }
    }

    /// The longest time from one create to the next, and of a write of 1 MiB, while a checkpoint is nearly always under way.
    private func stops(_ what: String, _ store: ObjectStore, log: String) async throws {
        // All nodes stay in memory: who needs one that does not waits for the store, whatever a checkpoint does.
        let files = try await open(store, log: log) {
            $0.checkpointNanoseconds = 200_000_000
            $0.cacheBytes = 2 << 30
        }
        let headhunter = files.headhunter
        var homes: [FileID] = []
        for index in 0..<1_000 { homes.append(try await make(files, files.rootID, "d\(index)", .directory)) }
        // There from the beginning: a list that grows would stop the writer by itself, for as long as its copying takes.
        var gaps = [Double](repeating: 0, count: 1 << 22)
        var long: [Gap] = []
        long.reserveCapacity(1 << 12)
        let lost = LostTime(world.clock)
        lost.begin()
        let end = seconds() + 10
        let before = store.counters.requests
        async let streamed = stream(files, until: end)
        var last = seconds()
        var lastOwn = own()
        var worstOwn = 0.0
        var index = 0
        while last < end, index < gaps.count {
            _ = try await make(files, homes[index % homes.count], "file-\(index)")
            // Others of the loop have their turn, a checkpoint's among them.
            await Task.yield()
            let now = seconds()
            gaps[index] = now - last
            if now - last > Self.longSeconds, long.count < 1 << 12 {
                long.append(Gap(last, now))
            }
            last = now
            let nowOwn = own()
            worstOwn = max(worstOwn, nowOwn - lastOwn)
            lastOwn = nowOwn
            index += 1
        }
        let writes = try await streamed
        lost.end()
        let counted = long.map { $0.counted(lost) }.max() ?? 0
        gaps.removeLast(gaps.count - index)
        gaps.sort()
        let worst = gaps[gaps.count - 1] * 1e6
        let rare = gaps[gaps.count - 1 - gaps.count / 10_000] * 1e6
        Limits.tell(
            "longest stop of a writer, \(what)", "memory", max(Double(counted) / 1e3, rare), "us", .most(5_000),
            "\(Int(worst)) us by the clock, with what the processors were gone meanwhile; \(Int(worstOwn * 1e6)) us of CPU at the most; one in 10,000 above \(Int(rare)) us; "
                + "\(gaps.count) creates, \(store.counters.requests - before) requests to the store")
        Limits.tell(
            "longest write of 1 MiB beside them", "memory",
            writes.long.map { Double($0.counted(lost)) / 1e3 }.max() ?? writes.worst * 1e6, "us", .most(5_000),
            "\(Int(writes.worst * 1e6)) us by the clock; 100 MiB/s, flushed each 8 MiB")
        try await files.stop()
        try await headhunter.close()
    }

    /// Creates in a directory of the root, and in one that lies 32 deep, in turn.
    private func depth(_ files: LogFS) async throws {
        let shallow = try await make(files, files.rootID, "shallow", .directory)
        var deep = files.rootID
        for level in 1...32 { deep = try await make(files, deep, "level-\(level)", .directory) }
        var spent = [Double.infinity, Double.infinity]
        let count = 20_000
        for round in 0..<5 {
            for (which, home) in [shallow, deep].enumerated() {
                let start = own()
                for index in 0..<count { _ = try await make(files, home, "file-\(round)-\(index)") }
                spent[which] = min(spent[which], own() - start)
            }
        }
        let each = spent.map { Int($0 / Double(count) * 1e9) }
        Limits.tell(
            "create at depth 32, of depth 1", "memory", spent[1] / spent[0], "times", .most(1.5),
            "\(each[0]) and \(each[1]) ns of CPU")
    }

    private func deletions(_ files: LogFS) async throws {
        let part = 64 << 20
        let block = Block(capacity: 1 << 20)
        block.count = block.capacity
        memset(block.base, 0x5A, block.count)
        defer { extendLifetime(block) }
        let now = world.clock.wall()
        let source = try await make(files, files.rootID, "source")
        for index in 0..<(part >> 20) {
            try await files.writeAll(source, at: UInt64(index) << 20, block.bytes, now: now)
        }
        try await files.flush(source.inode)
        // Data at both ends and in the middle of a terabyte.
        let sparse = try await make(files, files.rootID, "sparse")
        for place: UInt64 in [0, 1 << 39, 1 << 40 - 1 << 20] {
            try await files.writeAll(sparse, at: place, block.bytes, now: now)
        }
        try await files.flush(sparse.inode)
        // 100 GB in extents as long as segments.
        let dense = try await make(files, files.rootID, "dense")
        for index in 0..<1_490 {
            try await files.clone(
                from: source, at: 0, length: UInt64(part), to: dense, at: UInt64(index * part), now: now)
        }
        for (what, name) in [("1 TiB, sparse", "sparse"), ("100 GB, dense", "dense")] {
            let start = seconds()
            try await files.run { reader in
                Array(name.utf8).withUnsafeBytes {
                    files.unlink(Request(reader: reader, now: now), in: files.rootID, $0)
                }
            }
            Limits.tell("deletion of \(what), answered in", "memory", (seconds() - start) * 1e6, "us", .most(1_000))
        }
        try await files.tidy()
    }
}

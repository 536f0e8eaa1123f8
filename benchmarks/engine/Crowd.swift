import Bytes
import Glibc
import Headhunter
import LogFS
import ObjectStore
import Runtime

/// Many files: made, left behind by kill -9 with a full log, opened again, looked up at random with a small cache.
struct Crowd {
    private static let directories = 1_000
    private static let cacheBytes = 256 << 20
    /// Of the 64 MiB at which a checkpoint begins.
    private static let fullLogBytes = 60 << 20

    let world: World
    let many: Int
    private var loop: EventLoop { world.loops[0] }
    private func seconds() -> Double { Double(world.clock.monotonic()) / 1e9 }

    init(world: World, many: Int) {
        self.world = world
        self.many = many
    }

    private func open(
        _ set: (inout HeadhunterOptions) -> Void = { _ in }
    ) async throws -> (files: LogFS, store: ObjectStore) {
        let directory = try await DirectoryStore.open(world: world, loop: loop, root: "store")
        let store = ObjectStore(directory, world: world, loop: loop)
        var options = HeadhunterOptions()
        options.cacheBytes = Self.cacheBytes
        options.dataCacheBytes = 1 << 20
        set(&options)
        if try await store.names(prefix: "v/").isEmpty {
            try await Headhunter.create(world: world, store: store, prefix: "v")
        }
        let volume = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: "v", directory: "log", options: options)
        return (try await LogFS.open(volume, world: world, subvolume: 1), store)
    }

    private func make(_ files: LogFS, _ home: FileID, _ name: String, _ type: FileType) async throws -> (FileID, UInt64)
    {
        let made = try await files.run { reader in
            Array(name.utf8).withUnsafeBytes {
                files.create(
                    Request(reader: reader, now: world.clock.wall()), in: home, $0,
                    NewFile(type: type, mode: 0o755, uid: 0, gid: 0))
            }
        }
        return (made.value.inode.id, made.number)
    }

    private static func homes(_ files: LogFS) async throws -> [FileID] {
        var homes: [FileID] = []
        for index in 0..<directories {
            let found = try await files.run { reader in
                Array("d\(index)".utf8).withUnsafeBytes {
                    files.lookup(Request(reader: reader, now: 0), in: files.rootID, $0)
                }
            }
            homes.append(found.value.id)
        }
        return homes
    }

    private func prepare() async throws {
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            try world.disk.makeDirectory("log")
            try world.disk.makeDirectory("store")
            try world.disk.syncDirectory("")
        }
    }

    /// So many changes go to the log alone. Does not come back.
    func log() async throws {
        try await prepare()
        let files = try await open {
            $0.checkpointNanoseconds = 3_600_000_000_000
            $0.logBytesMax = 16 << 30
            $0.cacheBytes = 4 << 30
        }.files
        var homes: [FileID] = []
        for index in 0..<Self.directories {
            homes.append(try await make(files, files.rootID, "d\(index)", .directory).0)
        }
        var last: UInt64 = 0
        for index in 0..<many {
            last = try await make(files, homes[index % Self.directories], "file-\(index)", .file).1
        }
        try await files.headhunter.commit(last, .durable)
        print("killed with \(many) changes in the log")
        fflush(nil)
        kill(getpid(), SIGKILL)
    }

    /// Does not come back.
    func fill() async throws {
        try await prepare()
        let (files, store) = try await open()
        var homes: [FileID] = []
        for index in 0..<Self.directories {
            homes.append(try await make(files, files.rootID, "d\(index)", .directory).0)
        }
        var last: UInt64 = 0
        var nodes = 0.0
        var firstNodes = 0.0
        let start = seconds()
        for index in 0..<many {
            last = try await make(files, homes[index % Self.directories], "file-\(index)", .file).1
            // What a checkpoint writes for as many changes, while there is more and more.
            if index > 0, index % (many / 5) == 0 {
                try await files.headhunter.checkpoint()
                let before = store.counters.bytesPut
                let begin = seconds()
                for extra in 0..<2_000 {
                    last = try await make(files, homes[extra % Self.directories], "extra-\(index)-\(extra)", .file).1
                }
                try await files.headhunter.checkpoint()
                nodes = Double(store.counters.bytesPut - before) / 1024
                if firstNodes == 0 { firstNodes = nodes }
                print(
                    "checkpoint of 2,000 new files in all 1,000 directories among \(index): \(Int(nodes)) KiB, "
                        + "\(Int((seconds() - begin) * 1000)) ms with their creation")
            }
        }
        print("\(many) files made at \(Int(Double(many) / (seconds() - start)))/s, memory durability")
        Limits.tell(
            "checkpoint of 2,000 new files among all, of the first one", "-", nodes / firstNodes, "times", .most(1.5))
        // The log is full when a checkpoint is about to begin; none by time comes in between.
        try await files.stop()
        try await files.headhunter.close()
        let late = try await open { $0.checkpointNanoseconds = 3_600_000_000_000 }.files
        homes = try await Self.homes(late)
        var extra = 0
        while late.headhunter.uncoveredLogBytes < Self.fullLogBytes {
            last = try await make(late, homes[extra % Self.directories], "late-\(extra)", .file).1
            extra += 1
        }
        try await late.headhunter.commit(last, .durable)
        print("\(late.headhunter.uncoveredLogBytes >> 20) MiB of log that no checkpoint has")
        print("killed with \(extra) changes in the log")
        fflush(nil)
        kill(getpid(), SIGKILL)
    }

    /// `isReplay`: of a log that has all of it.
    func look(isReplay: Bool = false) async throws {
        var start = seconds()
        let (files, store) = try await open()
        Limits.tell(
            isReplay ? "\(many) logged operations replayed in" : "\(many) files, opened with a full log in", "log",
            seconds() - start, "s", .most(isReplay ? 5 : 2))
        // Before anything else has its turn, a checkpoint for one.
        guard isReplay || files.headhunter.uncoveredLogBytes >= Self.fullLogBytes * 9 / 10 else {
            print("the log was not full: \(files.headhunter.uncoveredLogBytes >> 20) MiB")
            throw Failure.file(.invalid)
        }
        let homes = try await Self.homes(files)
        start = seconds()
        try await files.headhunter.checkpoint()
        Limits.tell("its log was in the trees after", "log", seconds() - start, "s more")
        if isReplay { return try await files.headhunter.close() }
        var state: UInt64 = 88_172_645_463_325_252
        func random() -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(many))
        }
        let all = homes
        let rounds = 100_000
        let callers = 32
        let reads = store.counters.gets
        start = seconds()
        let picks = (0..<rounds).map { _ in random() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<callers {
                group.addTask {
                    for index in stride(from: caller, to: rounds, by: callers) {
                        let pick = picks[index]
                        _ = try await files.run { reader in
                            Array("file-\(pick)".utf8).withUnsafeBytes {
                                files.lookup(Request(reader: reader, now: 0), in: all[pick % Self.directories], $0)
                            }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let rate = Double(rounds) / (seconds() - start)
        let each = Double(store.counters.gets - reads) / Double(rounds)
        Limits.tell("random look-ups over \(many), cache of 256 MiB", "-", rate, "/s", .least(10_000))
        // A look-up with attributes searches the tree twice: for the name and for the inode. Each search reads a leaf at the most.
        Limits.tell(
            "random look-ups over \(many), reads of a search of the tree", "-", each / 2, "each", .most(1),
            "\(Double(Int(each * 100)) / 100) for name and attributes")
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        Limits.tell("the process at the most", "-", Double(usage.ru_maxrss / 1024), "MiB", .most(400))
        try await files.stop()
        try await files.headhunter.close()
    }
}

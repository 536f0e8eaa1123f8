import Bytes
import Glibc
import Headhunter
import LogFS
import ObjectStore
import Runtime
import Synchronization
import Trials

/// The file system on the real disk, beside what the disk and the memory themselves can do in the same run.
@main
enum Program {
    static func main() {
        guard CommandLine.arguments.count >= 2 else {
            print(
                "usage: benchmark-engine DIRECTORY [durable|data|names|stored|promises|fill|log|look|replayed] [FILES [MEGABYTES]]"
            )
            exit(2)
        }
        let path = CommandLine.arguments[1]
        let part = CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) == nil ? $0 : nil }
        let numbers = CommandLine.arguments.dropFirst(part == nil ? 2 : 3).map { Int($0) ?? 0 }
        do throws(Errno) {
            let disk = try RealDisk(path: path)
            let world = try World.real(disk: disk, loops: 1)
            let done = Mutex<Int32?>(nil)
            let benchmark = Benchmark(
                world: world, path: path, part: part, many: numbers.first ?? 1_000_000,
                megabytes: numbers.count > 1 ? numbers[1] : Benchmark.megabytesMin)
            world.loops[0].task {
                if let part, ["fill", "log", "look", "replayed", "promises"].contains(part) {
                    let crowd = Crowd(world: world, many: numbers.first ?? 10_000_000)
                    do {
                        switch part {
                        case "fill": try await crowd.fill()
                        case "log": try await crowd.log()
                        case "look": try await crowd.look()
                        case "replayed": try await crowd.look(isReplay: true)
                        default: try await Promises(world: world).run()
                        }
                        done.withLock { $0 = Limits.end() }
                    } catch {
                        print("benchmark-engine: \(error)")
                        done.withLock { $0 = 1 }
                    }
                } else {
                    let isWhole = await benchmark.run()
                    done.withLock { $0 = isWhole ? Limits.end() : 1 }
                }
            }
            while done.withLock({ $0 }) == nil { usleep(10_000) }
            world.stop()
            exit(done.withLock { $0 ?? 1 })
        } catch {
            print("benchmark-engine: \(path): \(error)")
            exit(1)
        }
    }
}

private struct Benchmark {
    let world: World
    let path: String
    /// The one part that is asked for.
    let part: String?
    /// Files of the large part.
    let many: Int
    /// Data of the sequential part: small machines say less by BENCHMARK_MIB, and then nothing is proved.
    let megabytes: Int
    static var megabytesMin: Int { getenv("BENCHMARK_MIB").flatMap { Int(String(cString: $0)) } ?? 4096 }
    var loop: EventLoop { world.loops[0] }

    /// False: it did not come to its end.
    func run() async -> Bool {
        do {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
                try world.disk.makeDirectory("log")
                try world.disk.makeDirectory("store")
                try world.disk.syncDirectory("")
            }
            let directory = try await DirectoryStore.open(world: world, loop: loop, root: "store")
            let store = ObjectStore(directory, world: world, loop: loop)
            try await Headhunter.create(world: world, store: store, prefix: "v")
            var options = HeadhunterOptions()
            options.cacheBytes = 1 << 30
            let volume = try await Headhunter.open(
                world: world, loop: loop, store: store, prefix: "v", directory: "log", options: options)
            let files = try await LogFS.open(volume, world: world, subvolume: 1)
            files.start()
            if part == nil || part == "durable" { try await durable(files) }
            if part == nil || part == "data" { try await data(files) }
            if part == nil || part == "names" {
                try await small(files)
                try await large(files)
            }
            try await files.stop()
            try await volume.close()
            if part == nil || part == "stored" { try await stored() }
            return true
        } catch {
            print("benchmark-engine: \(error)")
            return false
        }
    }

    private func seconds() -> Double { Double(world.clock.monotonic()) / 1e9 }
    private func cpu() -> Double { Double(clock()) / Double(CLOCKS_PER_SEC) }
    /// Of this thread: what others do on the machine does not show.
    private func own() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Every other one has a capital, and so a second key for who does not mind the case.
    private func name(_ number: Int) -> [UInt8] { Array("\(number % 2 == 0 ? "file" : "File")-\(number)".utf8) }

    private func make(
        _ files: LogFS, _ home: FileID, _ name: [UInt8], _ type: FileType = .file
    ) async throws -> (id: FileID, number: UInt64) {
        let made = try await files.run { reader in
            name.withUnsafeBytes {
                files.create(
                    Request(reader: reader, now: world.clock.wall()), in: home, $0,
                    NewFile(type: type, mode: 0o755, uid: 0, gid: 0))
            }
        }
        return (made.value.inode.id, made.number)
    }

    // MARK: Durability

    private func bareSyncs(_ count: Int) async throws -> Double {
        let start = seconds()
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            let file = try world.disk.open("bare", [.write, .create])
            try file.allocate(16 << 20)
            let block = Block(capacity: 512)
            memset(block.base, 1, 512)
            block.count = 512
            defer { extendLifetime(block) }
            for index in 0..<count {
                try file.write(block.bytes, at: UInt64(index) * 512)
                try file.sync()
            }
            file.close()
        }
        return Double(count) / (seconds() - start)
    }

    /// Callers that each make a file and wait until it is durable; creates a second.
    private func creates(_ files: LogFS, _ home: FileID, callers: Int, each: Int, round: Int) async throws -> Double {
        let start = seconds()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<callers {
                group.addTask {
                    for index in 0..<each {
                        let name = name(callers << 40 | round << 30 | caller << 20 | index)
                        let number = try await make(files, home, name).number
                        try await files.commit(number, .durable)
                    }
                }
            }
            try await group.waitForAll()
        }
        return Double(callers * each) / (seconds() - start)
    }

    private func durable(_ files: LogFS) async throws {
        let home = try await make(files, files.rootID, Array("durable".utf8), .directory).id
        // In turn, in short turns, because the disk's own rate wanders.
        var pairs: [(bare: Double, rate: Double)] = []
        for round in 0..<15 {
            let bare = try await bareSyncs(400)
            pairs.append((bare, try await creates(files, home, callers: 1, each: 400, round: round)))
        }
        pairs.sort { $0.rate / $0.bare < $1.rate / $1.bare }
        let middle = pairs[pairs.count / 2]
        Limits.tell(
            "create, 1 caller, of the rate of bare syncs", "log", middle.rate / middle.bare * 100, "%", .least(80),
            "median of \(pairs.count) pairs: \(Int(middle.rate))/s, bare \(Int(middle.bare))/s")
        let bare = try await bareSyncs(2_000)
        let before = files.headhunter.log.counters
        let rate = try await creates(files, home, callers: 32, each: 2_000, round: 0)
        let after = files.headhunter.log.counters
        let perSync = Double(after.records - before.records) / Double(max(1, after.syncs - before.syncs))
        Limits.tell("create, 32 callers", "log", rate, "/s", .least(50_000), "bare syncs \(Int(bare))/s")
        Limits.tell("create, 32 callers, records of a sync", "log", perSync, "", .least(12))
    }

    /// A store in memory that takes 20 ms for each request.
    private func stored() async throws {
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in try world.disk.makeDirectory("log-slow") }
        let slow = SlowStore(MemoryStore(world: world, loop: loop), loop: loop, nanoseconds: 20_000_000)
        let store = ObjectStore(slow, world: world, loop: loop)
        try await Headhunter.create(world: world, store: store, prefix: "v")
        let volume = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: "v", directory: "log-slow")
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        // The second one turns the log in the store on.
        for name in ["first", "second"] {
            try await volume.stored(try await make(files, files.rootID, Array(name.utf8)).number)
        }
        for callers in [8, 32] {
            let home = try await make(files, files.rootID, Array("stored-\(callers)".utf8), .directory).id
            let before = store.counters
            let start = seconds()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for caller in 0..<callers {
                    group.addTask {
                        for index in 0..<300 {
                            let number = try await make(files, home, name(caller << 20 | index)).number
                            try await volume.stored(number)
                        }
                    }
                }
                try await group.waitForAll()
            }
            let count = Double(callers * 300)
            let spent = store.counters - before
            let each = Double(spent.requests) / count
            Limits.tell(
                "create, store of 20 ms, \(callers) callers", "store", count / (seconds() - start), "/s",
                .least(callers == 8 ? 250 : 1_000))
            Limits.tell(
                "create, store of 20 ms, \(callers) callers, requests", "store", each, "each",
                callers == 8 ? nil : .most(0.2))
            print("create, store of 20 ms, \(callers) callers: \(StorePrices.standard.words(spent))")
        }
        try await files.stop()
        try await volume.close()
    }

    // MARK: Data

    private func data(_ files: LogFS) async throws {
        let id = try await make(files, files.rootID, Array("data".utf8)).id
        let block = Block(capacity: 1 << 20)
        block.count = block.capacity
        memset(block.base, 0x5A, block.count)
        defer { extendLifetime(block) }
        // In turn, five times, because the disk's own rate wanders.
        var pairs: [Double] = []
        for round in 0..<5 {
            let bare = try await bareWrite()
            let start = seconds()
            let before = cpu()
            for index in 0..<megabytes {
                try await files.writeAll(id, at: UInt64(index) << 20, block.bytes, now: world.clock.wall())
            }
            try await files.sync(id, .durable)
            let rate = Double(megabytes) / (seconds() - start)
            pairs.append(rate / bare * 100)
            Limits.tell(
                "sequential write of 1 MiB requests, pair \(round + 1)", "log", rate, "MiB/s", nil,
                "dd conv=fsync \(Int(bare)) MiB/s, \(Int((cpu() - before) * 1e6 / Double(megabytes))) us CPU a MiB")
            try await files.resize(id, to: 0, now: world.clock.wall())
            try await files.tidy()
            try await files.headhunter.checkpoint()
        }
        Limits.tell(
            "sequential write of \(megabytes) MiB, median of five", "log", pairs.sorted()[2], "% of dd", .least(80),
            megabytes < 4096 ? "4096 MiB are asked" : "")
        let warm = 16
        for index in 0..<warm {
            try await files.writeAll(id, at: UInt64(index) << 20, block.bytes, now: world.clock.wall())
        }
        // In the store, and read from there once: each block is compared with its checksum on its way into the cache.
        try await files.sync(id, .durable)
        try await files.headhunter.checkpoint()
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        let source = UnsafeMutableRawBufferPointer.allocate(byteCount: warm << 20, alignment: 4096)
        defer {
            target.deallocate()
            source.deallocate()
        }
        source.initializeMemory(as: UInt8.self, repeating: 1)
        for index in 0..<warm { _ = try await files.readAll(id, at: UInt64(index) << 20, into: target) }
        var start = seconds()
        let rounds = 2_000
        for index in 0..<rounds {
            let start = (index % warm) << 20
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[start..<(start + target.count)]))
        }
        let copies = Double(rounds) / (seconds() - start)
        start = seconds()
        for index in 0..<rounds {
            guard case .done = files.read(Request(reader: 0, now: 0), id, at: UInt64(index % warm) << 20, into: target)
            else { throw Failure.file(.invalid) }
        }
        let reads = Double(rounds) / (seconds() - start)
        Limits.tell(
            "warm read of 1 MiB, checked blocks of the cache", "-", reads / copies * 100, "% of memcpy", .least(60),
            "\(Int(reads)) MiB/s, memcpy \(Int(copies)) MiB/s")
    }

    /// `dd conv=fsync`, on the same disk.
    private func bareWrite() async throws -> Double {
        let target = path + "/bare-data"
        let words = ["dd", "if=/dev/zero", "of=\(target)", "bs=1M", "count=\(megabytes)", "conv=fsync", "status=none"]
        let start = seconds()
        let status = await world.blocking.run(on: loop) { () throws(Never) -> Int32 in
            var arguments = words.map { strdup($0) } + [nil]
            defer { for argument in arguments { free(argument) } }
            var child: pid_t = 0
            guard posix_spawnp(&child, "dd", nil, nil, &arguments, environ) == 0 else { return -1 }
            var status: Int32 = -1
            return waitpid(child, &status, 0) == child ? status : -1
        }
        let rate = Double(megabytes) / (seconds() - start)
        unlink(target)
        guard status == 0 else { throw Failure.file(.invalid) }
        return rate
    }

    // MARK: Names

    private func small(_ files: LogFS) async throws {
        let home = try await make(files, files.rootID, Array("small".utf8), .directory).id
        let count = 10_000
        var ids: [FileID] = []
        for index in 0..<count { ids.append(try await make(files, home, name(index)).id) }
        let rounds = 2_000_000
        try look("10,000 files", 1_500_000, files, home: { _ in home }, ids, rounds: rounds) { name($0) }
    }

    private func large(_ files: LogFS) async throws {
        var homes: [FileID] = []
        for index in 0..<1_000 {
            homes.append(try await make(files, files.rootID, Array("d\(index)".utf8), .directory).id)
        }
        var ids: [FileID] = []
        ids.reserveCapacity(many)
        let start = seconds()
        let before = cpu()
        var last: UInt64 = 0
        for index in 0..<many {
            let made = try await make(files, homes[index % 1_000], name(index))
            ids.append(made.id)
            last = made.number
        }
        try await files.commit(last, .written)
        let rate = Double(many) / (seconds() - start)
        Limits.tell(
            "create over 1,000 directories", "memory", rate, "/s", .least(150_000),
            "\(Int((cpu() - before) * 1e9 / Double(many))) ns CPU each, all threads")
        let all = homes
        try look("random over \(many)", 500_000, files, home: { all[$0 % 1_000] }, ids, rounds: 1_000_000) { name($0) }
    }

    private func look(
        _ what: String, _ least: Double, _ files: LogFS, home: (Int) -> FileID, _ ids: [FileID], rounds: Int,
        _ name: (Int) -> [UInt8]
    ) throws {
        var state: UInt64 = 88_172_645_463_325_252
        func random() -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(ids.count))
        }
        let request = Request(reader: 0, now: 0)
        // What is asked lies in the order in which it is asked, as in what a server has just received: fetching the question is not
        // measured.
        let picks = (0..<rounds).map { _ in random() }
        let asked = picks.map { ids[$0] }
        var start = own()
        var missed = 0
        // As the product looks: shown where it stands.
        var shown: UInt64 = 0
        for id in asked {
            if case .done = files.attributes(request, id, { shown &+= $0.size }) { continue }
            missed += 1
        }
        Limits.tell(
            "getattr, warm, \(what)", "memory", missed > 0 ? 0 : Double(rounds) / (own() - start), "/s of a core",
            .least(least),
            missed > 0 ? "\(missed) missed" : "")
        var names: [UInt8] = []
        var ends: [Int] = [0]
        for pick in picks {
            names += name(pick)
            ends.append(names.count)
        }
        missed = 0
        let homes = picks.map { home($0) }
        names.withUnsafeBytes { names in
            start = own()
            for index in homes.indices {
                let name = UnsafeRawBufferPointer(rebasing: names[ends[index]..<ends[index + 1]])
                if case .done = files.lookup(request, in: homes[index], name, { shown &+= $0.size }) { continue }
                missed += 1
            }
        }
        precondition(shown < .max, "what is shown is looked at")
        Limits.tell(
            "lookup, warm, \(what)", "memory", missed > 0 ? 0 : Double(rounds) / (own() - start), "/s of a core",
            .least(least),
            missed > 0 ? "\(missed) missed" : "")
    }
}

import Bytes
import Glibc
import Headhunter
import LogFS
import Logging
import ObjectStore
import Runtime
import S3Store
import Synchronization
import Transfer

/// The file system on a store of S3, beside plain PUTs and GETs of the same bytes over the same connections.
@main
enum Program {
    static func main() {
        let words = CommandLine.arguments
        guard words.count >= 4, let endpoint = Endpoint(words[2]),
            let options = S3Options(bucket: words[3], endpoint: endpoint)
        else {
            print(
                "usage: benchmark-stores DIRECTORY ENDPOINT BUCKET [MEGABYTES [FILES]], keys in AWS_ACCESS_KEY_ID, ...")
            exit(2)
        }
        guard let credentials = LocalCredentials.environment({ getenv($0).map { String(cString: $0) } }) else {
            print("benchmark-stores: no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            exit(2)
        }
        do {
            let world = try World.real(disk: try RealDisk(path: words[1]), loops: 1)
            let done = Mutex(false)
            let benchmark = Benchmark(
                world: world, options: options, credentials: credentials, reads: try TransferPool("reads"),
                writes: try TransferPool("writes"), megabytes: words.count > 4 ? Int(words[4]) ?? 512 : 512,
                count: words.count > 5 ? Int(words[5]) ?? 10_000 : 10_000)
            world.loops[0].task {
                await benchmark.run()
                done.withLock { $0 = true }
            }
            while !done.withLock({ $0 }) { usleep(10_000) }
            benchmark.reads.stop()
            benchmark.writes.stop()
            world.stop()
        } catch {
            print("benchmark-stores: \(error)")
            exit(1)
        }
    }
}

private struct Benchmark {
    let world: World
    var options: S3Options
    let credentials: S3Credentials
    let reads: TransferPool
    let writes: TransferPool
    let megabytes: Int
    let count: Int
    var loop: EventLoop { world.loops[0] }

    private static let segmentBytes = 16 << 20
    private static let readers = 16
    private static let pairs = 5
    /// As many as a volume sends at once.
    private static let writers = 8
    /// Objects made one after the other.
    private static let alone = 50

    private func store(_ prefix: String, writesMax: Int = 16) -> ObjectStore {
        var options = options
        options.prefix = prefix
        var limits = ObjectStore.Options()
        limits.writesMax = writesMax
        let transport = S3Store(
            options, credentials: FixedCredentials(credentials, from: "the environment"), reads: reads, writes: writes,
            world: world, loop: loop)
        return ObjectStore(transport, world: world, loop: loop, options: limits)
    }

    private func name(_ index: Int, _ kind: String = "plain") -> ObjectName {
        guard let name = ObjectName("\(kind)/\(index)") else { preconditionFailure("the benchmark's own name") }
        return name
    }

    func run() async {
        do {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in try world.disk.makeDirectory("log") }
            let run = String(world.random.next(), radix: 16)
            let plain = store("plain-\(run)", writesMax: Self.writers)
            let stored = store("volume-\(run)")
            try await Headhunter.create(world: world, store: stored, prefix: "v")
            let files = try await open(stored)
            var ratios: (write: [Double], read: [Double]) = ([], [])
            // Without file data only creates are measured.
            for _ in 0..<(megabytes > 0 ? Self.pairs : 0) {
                let bare = try await plainly(plain)
                let volume = try await sequential(files, stored)
                ratios.write.append(volume.write / bare.write)
                ratios.read.append(volume.read / bare.read)
            }
            if megabytes > 0 { tellRatios(ratios) }
            if count > 0 { try await copied(files, stored) }
            try await created(files, stored)
            try await files.stop()
            try await files.headhunter.close()
            for name in try await plain.names(prefix: "") { try await plain.delete(name) }
            for name in try await stored.names(prefix: "") { try await stored.delete(name) }
        } catch { Swift.print("benchmark-stores: \(error)") }
    }

    private func tellRatios(_ ratios: (write: [Double], read: [Double])) {
        tell(
            "sequential write, % of plain PUTs", Double(percent(ratios.write)), isGood: percent(ratios.write) >= 80,
            "80 or more")
        tell(
            "sequential read, % of plain GETs", Double(percent(ratios.read)), isGood: percent(ratios.read) >= 90,
            "90 or more")
    }

    private func percent(_ ratios: [Double]) -> Int { Int(ratios.sorted()[ratios.count / 2] * 100) }
    private func seconds() -> Double { Double(world.clock.monotonic()) / 1e9 }

    private func open(_ store: ObjectStore) async throws -> LogFS {
        var options = HeadhunterOptions()
        options.flushBytes = Self.segmentBytes
        // Nothing that was written is still there to be read: everything comes from the store.
        options.dataCacheBytes = 32 << 20
        options.checkpointNanoseconds = 3_600_000_000_000
        let volume = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: "v", directory: "log", options: options)
        return try await LogFS.open(volume, world: world, subvolume: 1)
    }

    private func rate(_ start: Double) -> Double { Double(megabytes) / (seconds() - start) }

    private func block(_ bytes: Int) -> Block {
        let block = Block(capacity: bytes)
        world.random.fill(UnsafeMutableRawBufferPointer(start: block.base, count: bytes))
        block.count = bytes
        return block
    }

    private func print(_ what: String, _ rate: Double, _ before: ObjectStore.Counters, _ after: ObjectStore.Counters) {
        Swift.print("\(what)  \(Int(rate)) MiB/s, \(StorePrices.standard.words(after - before))")
    }

    /// What is promised of a number, and whether it is so.
    private func tell(_ what: String, _ value: Double, isGood: Bool, _ wanted: String) {
        Swift.print("\(isGood ? "good" : "MISSED")  \(what): \(value) (\(wanted))")
    }

    /// As many requests at once as a volume makes.
    private func plainly(_ store: ObjectStore) async throws -> (write: Double, read: Double) {
        let objects = megabytes << 20 / Self.segmentBytes
        let body = block(Self.segmentBytes)
        var before = store.counters
        var start = seconds()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<objects { group.addTask { try await store.put(name(index), .blocks([body])) } }
            try await group.waitForAll()
        }
        let write = rate(start)
        print("plain PUTs        ", write, before, store.counters)
        before = store.counters
        start = seconds()
        let total = megabytes
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in 0..<Self.readers {
                group.addTask {
                    for index in stride(from: reader, to: total, by: Self.readers) {
                        let perObject = Self.segmentBytes >> 20
                        let from = UInt64(index % perObject) << 20
                        let read = try await store.get(name(index / perObject), range: from..<(from + 1 << 20))
                        precondition(memcmp(read.base, body.base + Int(from), 1 << 20) == 0)
                        extendLifetime(read)
                    }
                }
            }
            try await group.waitForAll()
        }
        extendLifetime(body)
        let read = rate(start)
        print("plain GETs        ", read, before, store.counters)
        return (write, read)
    }

    private func make(_ files: LogFS, _ name: String) async throws -> (id: FileID, number: UInt64) {
        let bytes = Array(name.utf8)
        let made = try await files.run { reader in
            bytes.withUnsafeBytes {
                files.create(
                    Request(reader: reader, now: world.clock.wall()), in: files.rootID, $0,
                    NewFile(type: .file, mode: 0o644, uid: 0, gid: 0))
            }
        }
        return (made.value.inode.id, made.number)
    }

    private func sequential(_ files: LogFS, _ store: ObjectStore) async throws -> (write: Double, read: Double) {
        let id = try await make(files, "data-\(String(world.random.next(), radix: 16))").id
        let piece = block(1 << 20)
        defer { extendLifetime(piece) }
        var before = store.counters
        var start = seconds()
        for index in 0..<megabytes {
            try await files.writeAll(id, at: UInt64(index) << 20, piece.bytes, now: world.clock.wall())
        }
        // Until all of it is in the store.
        try await files.sync(id, .durable)
        try await files.headhunter.checkpoint()
        let write = rate(start)
        print("volume, written   ", write, before, store.counters)
        before = store.counters
        start = seconds()
        let total = megabytes
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in 0..<Self.readers {
                group.addTask {
                    let target = Block(capacity: 1 << 20)
                    for index in stride(from: reader, to: total, by: Self.readers) {
                        let room = UnsafeMutableRawBufferPointer(start: target.base, count: 1 << 20)
                        let read = try await files.readAll(id, at: UInt64(index) << 20, into: room)
                        precondition(read == 1 << 20 && memcmp(target.base, piece.base, 1 << 20) == 0)
                    }
                    extendLifetime(target)
                }
            }
            try await group.waitForAll()
        }
        let read = rate(start)
        print("volume, read      ", read, before, store.counters)
        return (write, read)
    }

    private func copied(_ files: LogFS, _ store: ObjectStore) async throws {
        let piece = block(4_096)
        defer { extendLifetime(piece) }
        let before = store.counters
        let start = seconds()
        var last: UInt64 = 0
        for index in 0..<count {
            let made = try await make(files, "small-\(index)")
            try await files.writeAll(made.id, at: 0, piece.bytes, now: world.clock.wall())
            last = max(last, made.number)
        }
        try await files.flushAll()
        try await files.commit(last, .durable)
        try await files.headhunter.checkpoint()
        let spent = store.counters - before
        Swift.print(
            "\(count) files of 4 KiB  \(Int(Double(count) / (seconds() - start)))/s, \(StorePrices.standard.words(spent))"
        )
        tell(
            "PUTs for \(count) files, log durability", Double(spent.puts + spent.posts),
            isGood: spent.puts + spent.posts <= UInt64(max(15 * count / 10_000, 6)), "15 for 10000 at most")
    }

    /// Files made with durability `store`, by several callers at once.
    private func created(_ files: LogFS, _ store: ObjectStore) async throws {
        // The second one turns the log in the store on.
        for name in ["first-stored", "second-stored"] {
            try await files.headhunter.stored(try await make(files, name).number)
        }
        var bare = try await alone(store)
        for callers in [8, 32] {
            let each = 100
            let before = store.counters
            let start = seconds()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for caller in 0..<callers {
                    group.addTask {
                        for index in 0..<each {
                            let made = try await make(files, "stored-\(callers)-\(caller)-\(index)")
                            try await files.headhunter.stored(made.number)
                        }
                    }
                }
                try await group.waitForAll()
            }
            let (count, spent) = (Double(callers * each), store.counters - before)
            let (rate, requests) = (count / (seconds() - start), Double(spent.requests) / count)
            Swift.print("creates, store durability, \(callers) callers  \(StorePrices.standard.words(spent))")
            tell(
                "creates a second, \(callers) callers", rate, isGood: rate >= (callers == 8 ? 250 : 1_000),
                callers == 8 ? "250 or more" : "1000 or more")
            tell("requests for a create, \(callers) callers", requests, isGood: requests <= 0.2, "0.2 at most")
            // A caller who waits for each create makes none faster than the store makes one object.
            let after = try await alone(store)
            let share = Int(100 * rate * (bare + after) / 2 / Double(callers))
            tell(
                "creates, \(callers) callers, % of what each would get of bare create-if-absent", Double(share),
                isGood: share >= 80, "80 or more")
            bare = after
        }
    }

    /// How long the store takes for one slot, in seconds: nobody who waits for it can be answered sooner.
    private func alone(_ store: ObjectStore) async throws -> Double {
        let slot = block(4_096)
        let run = String(world.random.next(), radix: 16)
        let begin = seconds()
        for index in 0..<Self.alone {
            try await store.put(name(index, "alone-\(run)"), .blocks([slot]), condition: .absent)
        }
        let took = (seconds() - begin) / Double(Self.alone)
        let whole = Int(took * 1_000)
        // What the way to the store adds; the rest no client can make faster.
        let added = getenv("DELAY_MS").flatMap { Int(String(cString: $0)) } ?? 0
        Swift.print(
            "an object made by create-if-absent, one after the other: \(whole) ms each, \(added) on the way and \(whole - added) of the store's own: "
                + "\(Int(8 / took))/s for 8 callers who each wait for one, \(Int(32 / took))/s for 32")
        return took
    }
}

import Bytes
import Glibc
import Headhunter
import ObjectStore
import Runtime
import Synchronization

/// The metadata engine on the real disk, beside what the disk itself can do in the same run.
///
/// A "create" here is what a file system's create costs the engine: eight keys of typical sizes in one change.
@main
enum Program {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count == 2 || (arguments.count == 3 && arguments[2] == "memory") else {
            print("usage: benchmark-headhunter DIRECTORY [memory]")
            exit(2)
        }
        let path = arguments[1]
        do throws(Errno) {
            let disk = try RealDisk(path: path)
            let world = try World.real(disk: disk, loops: 1)
            let done = Mutex(false)
            world.loops[0].task {
                await Benchmark(world: world, memoryOnly: arguments.count == 3).run()
                done.withLock { $0 = true }
            }
            while !done.withLock({ $0 }) { usleep(10_000) }
            world.stop()
        } catch {
            print("benchmark-headhunter: \(path): \(error)")
            exit(1)
        }
    }
}

private struct Benchmark {
    let world: World
    /// Leaves out what waits for the disk.
    let memoryOnly: Bool
    var loop: EventLoop { world.loops[0] }

    func run() async {
        do {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
                try world.disk.makeDirectory("log")
                try world.disk.makeDirectory("store")
                try world.disk.syncDirectory("")
            }
            let directory = try await DirectoryStore.open(world: world, loop: loop, root: "store")
            let store = ObjectStore(directory, world: world, loop: loop)
            try await Headhunter.create(world: world, store: store, prefix: "v")
            let volume = try await Headhunter.open(
                world: world, loop: loop, store: store, prefix: "v", directory: "log")
            if !memoryOnly { try await waits(volume) }
            let bulk = try await bulkCreates(volume, 300_000)
            report("change of 8 keys, applied and logged, nobody waits", bulk, "/s")
            let gets = try await lookups(volume, 3_000_000)
            report("look-up of a key, warm", gets, "/s")
            try await volume.close()
        } catch {
            print("benchmark-headhunter: \(error)")
        }
    }

    private func waits(_ volume: Headhunter) async throws {
        let bare = try await bareSyncs(2_000)
        report("bare 512-byte write and fdatasync", bare, "/s")
        let hops = try await poolHops(5_000)
        report("hand-off to the pool and back", hops, "/s", "\(tenths(1e6 / hops)) us each")
        let one = try await creates(volume, callers: 1, each: 2_000, .durable)
        report("create, log durability, 1 caller", one.rate, "/s", "\(percent(one.rate, bare)) of the bare rate")
        let many = try await creates(volume, callers: 32, each: 2_000, .durable)
        report(
            "create, log durability, 32 callers", many.rate, "/s", "\(tenths(many.recordsPerSync)) records a sync")
        let memory = try await creates(volume, callers: 32, each: 20_000, .written)
        report("create, memory durability, 32 callers", memory.rate, "/s")
    }

    private func report(_ what: String, _ rate: Double, _ unit: String, _ more: String = "") {
        let name = what + String(repeating: " ", count: max(1, 56 - what.count))
        print(name, Int(rate), unit, more)
    }
    private func percent(_ a: Double, _ b: Double) -> String { "\(Int(a / b * 100)) %" }
    private func tenths(_ value: Double) -> String { "\(Double(Int(value * 10)) / 10)" }
    private func seconds() -> Double { Double(world.clock.monotonic()) / 1e9 }

    private func poolHops(_ count: Int) async throws -> Double {
        let start = seconds()
        for _ in 0..<count { await world.blocking.run(on: loop) { () throws(Never) -> Void in } }
        return Double(count) / (seconds() - start)
    }

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
        }
        return Double(count) / (seconds() - start)
    }

    private func creates(
        _ volume: Headhunter, callers: Int, each: Int, _ level: LogLevel
    ) async throws -> (rate: Double, recordsPerSync: Double) {
        let before = volume.log.counters
        let start = seconds()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<callers {
                group.addTask {
                    for index in 0..<each {
                        let number = UInt64(caller) << 40 | UInt64(index) | UInt64(level.rawValue) << 60
                        let (_, record) = try await volume.change { (change) throws(Missing) -> Void in
                            create(change, number)
                        }
                        try await volume.commit(record, level)
                    }
                }
            }
            try await group.waitForAll()
        }
        let rate = Double(callers * each) / (seconds() - start)
        let after = volume.log.counters
        let syncs = max(1, after.syncs - before.syncs)
        return (rate, Double(after.records - before.records) / Double(syncs))
    }

    private func bulkCreates(_ volume: Headhunter, _ count: Int) async throws -> Double {
        let start = seconds()
        var index = 0
        while index < count {
            let number = UInt64(7) << 56 | UInt64(index)
            switch volume.change(0, { (change) throws(Missing) -> Void in create(change, number) }) {
            case .done: index += 1
            case .missing: try await volume.load(for: 0)
            case .full: try await volume.room()
            case .failed(let error): throw error
            }
        }
        return Double(count) / (seconds() - start)
    }

    private func lookups(_ volume: Headhunter, _ count: Int) async throws -> Double {
        let start = seconds()
        var found = 0
        var state: UInt64 = 1
        for _ in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let number = UInt64(7) << 56 | (state >> 33) % 10_000
            var hit: Bool?
            while hit == nil {
                hit = volume.read(0) { (view) throws(Missing) -> Bool in
                    let result = withKey(number, 1) { key in
                        Result { () throws(Missing) -> Bool in try view.get(1, key) != nil }
                    }
                    return try result.get()
                }
                if hit == nil { try await volume.load(for: 0) }
            }
            if hit == true { found += 1 }
        }
        precondition(found == count)
        return Double(count) / (seconds() - start)
    }
}

private func withKey<Result>(_ number: UInt64, _ kind: UInt8, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { memory in
        memory.storeBytes(of: number.bigEndian, as: UInt64.self)
        memory.storeBytes(of: kind, toByteOffset: 8, as: UInt8.self)
        memory.storeBytes(of: number, toByteOffset: 9, as: UInt64.self)
        return body(UnsafeRawBufferPointer(rebasing: memory[..<17]))
    }
}

/// An inode, three directory entries, the directory itself and three totals above it.
private func create(_ change: Change, _ number: UInt64) {
    let directory = number & ~0x3FF
    withUnsafeTemporaryAllocation(byteCount: 112, alignment: 8) { value in
        value.initializeMemory(as: UInt8.self, repeating: 5)
        let inode = UnsafeRawBufferPointer(rebasing: value[..<104])
        let entry = UnsafeRawBufferPointer(rebasing: value[..<24])
        withKey(number, 1) { change.put(1, $0, inode) }
        for kind: UInt8 in 2...4 {
            withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { key in
                key.storeBytes(of: directory.bigEndian, as: UInt64.self)
                key.storeBytes(of: kind, toByteOffset: 8, as: UInt8.self)
                key.storeBytes(of: number.bigEndian, toByteOffset: 9, as: UInt64.self)
                change.put(1, UnsafeRawBufferPointer(rebasing: key[..<21]), entry)
            }
        }
        withKey(directory, 1) { change.put(1, $0, inode) }
        for level in 0..<3 { withKey(UInt64(level), 9) { change.put(1, $0, entry) } }
    }
}

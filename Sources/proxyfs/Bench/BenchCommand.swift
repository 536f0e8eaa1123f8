import Bytes
import CShim
import Glibc
import Headhunter
import JSON
import LogFS
import ObjectStore
import Runtime

/// Measures the engine on this machine's disk, in a folder of its own that goes afterwards. Each number has its
/// durability word: a number without it says nothing.
enum BenchCommand {
    static func runEngine(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        var directory = "."
        var files: UInt64 = 100_000
        var megabytes: UInt64 = 256
        var isJSON = false
        var words = words[...]
        while let word = words.popFirst() {
            if word == "--json" {
                isJSON = true
                continue
            }
            guard ["--directory", "--files", "--megabytes"].contains(word) else {
                throw .misuse("bench engine: unknown word \"\(word)\"; see proxyfs bench engine --help")
            }
            guard let value = words.popFirst() else { throw .misuse("bench engine: \(word) needs a value") }
            if word == "--directory" {
                directory = value
                continue
            }
            guard let number = UInt64(value), (1...100_000_000).contains(number) else {
                throw .misuse("bench engine: \(word) \"\(value)\" is not a number from 1 to 100000000")
            }
            if word == "--files" { files = number } else { megabytes = number }
        }
        let folder = directory + "/proxyfs-bench-\(getpid())"
        guard mkdir(folder, 0o700) == 0 else {
            throw .failure(
                "bench engine: can not make \(folder): \(Errno(errno)); name a directory to write to with --directory")
        }
        defer { remove(folder) }
        let world: World
        do throws(Errno) { world = try World.real(disk: try RealDisk(path: folder), loops: 1) } catch {
            throw .failure("bench engine: can not start in \(folder): \(error)")
        }
        let bench = EngineBench(world: world, files: Int(files), megabytes: Int(megabytes))
        let result = Offline.wait(on: world.loops[0]) { () async -> Result<[EngineBench.Figure], CommandFailure> in
            do { return .success(try await bench.run()) } catch { return .failure(.failure("bench engine: \(error)")) }
        }
        show(try result.get(), isJSON)
        return .success
    }

    /// The folder is ours, with all that is in it.
    private static func remove(_ folder: String) {
        var directories = [folder]
        var index = 0
        while index < directories.count {
            let directory = directories[index]
            index += 1
            guard let listing = opendir(directory) else { continue }
            while let entry = readdir(listing) {
                let isDirectory = entry.pointee.d_type == UInt8(DT_DIR)
                let name = withUnsafePointer(to: &entry.pointee.d_name) { name in
                    name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name == "." || name == ".." { continue }
                if isDirectory { directories.append(directory + "/" + name) } else { unlink(directory + "/" + name) }
            }
            closedir(listing)
        }
        for directory in directories.reversed() { rmdir(directory) }
    }

    private static func show(_ figures: [EngineBench.Figure], _ isJSON: Bool) {
        if isJSON {
            let rows = figures.map { figure -> JSON in
                [
                    "what": .string(figure.what), "durability": .string(figure.durability),
                    "rate": .number(UInt64(figure.rate)), "unit": .string(figure.unit),
                ]
            }
            return Terminal.print(JSON.array(rows).description + "\n")
        }
        let width = figures.map(\.what.count).max() ?? 0
        for figure in figures {
            let what = figure.what + String(repeating: " ", count: width - figure.what.count)
            let word = figure.durability + String(repeating: " ", count: max(0, 6 - figure.durability.count))
            Terminal.print("\(what)  \(word)  \(UInt64(figure.rate)) \(figure.unit)\n")
        }
    }
}

struct EngineBench: Sendable {
    struct Figure: Sendable {
        var what: String
        var durability: String
        var rate: Double
        var unit: String
    }

    private static let directories = 1000
    private static let durableCreates = 500
    private static let looks = 1_000_000

    let world: World
    let files: Int
    let megabytes: Int
    private var loop: EventLoop { world.loops[0] }

    func run() async throws -> [Figure] {
        let disk = world.disk
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            try disk.makeDirectory("log")
            try disk.makeDirectory("store")
            try disk.syncDirectory("")
        }
        let store = ObjectStore(
            try await DirectoryStore.open(world: world, loop: loop, root: "store"), world: world, loop: loop)
        try await Headhunter.create(world: world, store: store, prefix: "v")
        let volume = try await Headhunter.open(world: world, loop: loop, store: store, prefix: "v", directory: "log")
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        var figures = try await durable(files)
        figures += try await names(files)
        figures += try await data(files)
        try await files.stop()
        try await volume.close()
        return figures
    }

    private func make(
        _ files: LogFS, _ home: FileID, _ name: String, _ type: FileType = .file
    ) async throws -> (id: FileID, number: UInt64) {
        let bytes = Array(name.utf8)
        let made = try await files.run { reader in
            bytes.withUnsafeBytes {
                files.create(
                    Request(reader: reader, now: world.clock.wall()), in: home, $0,
                    NewFile(type: type, mode: 0o755, uid: 0, gid: 0))
            }
        }
        return (made.value.inode.id, made.number)
    }

    private func rate(_ count: Int, _ start: UInt64) -> Double {
        Double(count) / max(Double(world.clock.monotonic() - start) / 1e9, 1e-9)
    }

    private func durable(_ files: LogFS) async throws -> [Figure] {
        let home = try await make(files, files.rootID, "durable", .directory).id
        let start = world.clock.monotonic()
        var progress = Progress("create, durable", unit: "files")
        for index in 0..<Self.durableCreates {
            let number = try await make(files, home, "file-\(index)").number
            try await files.commit(number, .durable)
            progress.at(UInt64(index), of: UInt64(Self.durableCreates))
        }
        progress.finish()
        return [
            Figure(what: "create, one caller", durability: "log", rate: rate(Self.durableCreates, start), unit: "/s")
        ]
    }

    private func names(_ files: LogFS) async throws -> [Figure] {
        var homes: [FileID] = []
        for index in 0..<Self.directories {
            homes.append(try await make(files, files.rootID, "d\(index)", .directory).id)
        }
        var ids: [FileID] = []
        var last: UInt64 = 0
        var progress = Progress("create", unit: "files")
        var start = world.clock.monotonic()
        for index in 0..<self.files {
            let made = try await make(files, homes[index % homes.count], "file-\(index)")
            ids.append(made.id)
            last = made.number
            if index % 1024 == 0 { progress.at(UInt64(index), of: UInt64(self.files)) }
        }
        try await files.commit(last, .written)
        progress.finish()
        var figures = [
            Figure(what: "create, 1000 directories", durability: "memory", rate: rate(self.files, start), unit: "/s")
        ]
        let request = Request(reader: loop.index, now: 0)
        let picks = self.picks()
        start = world.clock.monotonic()
        for pick in picks { _ = files.attributes(request, ids[pick]) }
        figures.append(Figure(what: "getattr, random", durability: "none", rate: rate(picks.count, start), unit: "/s"))
        let names = picks.map { Array("file-\($0)".utf8) }
        start = world.clock.monotonic()
        for (pick, name) in zip(picks, names) {
            _ = name.withUnsafeBytes { files.lookup(request, in: homes[pick % homes.count], $0) }
        }
        figures.append(Figure(what: "lookup, random", durability: "none", rate: rate(picks.count, start), unit: "/s"))
        return figures
    }

    private func picks() -> [Int] {
        var state: UInt64 = 88_172_645_463_325_252
        return (0..<Self.looks).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(files))
        }
    }

    private func data(_ files: LogFS) async throws -> [Figure] {
        let id = try await make(files, files.rootID, "data").id
        let block = Block(capacity: 1 << 20)
        block.count = block.capacity
        memset(block.base, 0x5A, block.count)
        defer { extendLifetime(block) }
        var progress = Progress("write", unit: "MiB")
        var start = world.clock.monotonic()
        for index in 0..<megabytes {
            try await files.writeAll(id, at: UInt64(index) << 20, block.bytes, now: world.clock.wall())
            progress.at(UInt64(index), of: UInt64(megabytes))
        }
        try await files.sync(id, .durable)
        progress.finish()
        var figures = [
            Figure(what: "write, 1 MiB each, sync", durability: "log", rate: rate(megabytes, start), unit: "MiB/s")
        ]
        start = world.clock.monotonic()
        for index in 0..<megabytes {
            _ = try await files.readAll(
                id, at: UInt64(index) << 20, into: UnsafeMutableRawBufferPointer(start: block.base, count: 1 << 20))
        }
        figures.append(
            Figure(what: "read, 1 MiB each", durability: "none", rate: rate(megabytes, start), unit: "MiB/s"))
        return figures
    }
}

import Glibc
import Namespace
import Runtime

/// An open, a read of 4 KiB and a close, through `Volume` and through the engine's own calls, in turn.
enum OpenReadClose {
    static let rounds = 500
    static let turns = 100
    static let pairs = 5

    static func run() {
        var template = Array("/tmp/benchmark-namespace-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return }
        let path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { remove(path) }
        do throws(Errno) {
            let world = try World.real(disk: try RealDisk(path: path), loops: 1)
            let isDone = Guarded(false)
            world.loops[0].task {
                do {
                    try await measure(world)
                    try await OpenFiles.measure(world)
                } catch { print("open, read, close: \(error)") }
                isDone.withLock { $0 = true }
            }
            while !isDone.withLock({ $0 }) { usleep(10_000) }
            world.stop()
        } catch { print("benchmark-namespace: \(path): \(error)") }
    }

    private static func measure(_ world: World) async throws {
        let loop = world.loops[0]
        let hosted = try await HostedVolume.open("v", folder: "v", durability: .log, world: world, loop: loop)
        let volume = hosted.volume
        let caller = Caller(
            Credential(uid: 5, gid: 5), Request(reader: loop.index, now: world.clock.wall()), isStateless: false)
        let name = Array("file".utf8)
        let file = try await done {
            name.withUnsafeBytes { volume.create(caller, in: volume.root, $0, NewFile(type: .file, mode: 0o644)) }
        }.file.file
        let content = [UInt8](repeating: 7, count: 4096)
        _ = try await done { content.withUnsafeBytes { volume.write(caller, file, at: 0, $0) } }
        try await volume.flush(file, on: loop)
        let buffer = SendableBuffer(UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 64))
        defer { buffer.bytes.deallocate() }
        _ = try await volume.readAll(file, at: 0, into: buffer)
        let engine = { () -> Int in
            name.withUnsafeBytes { name in
                let files = volume.fileSystem
                guard case .done(let found, _) = files.lookup(caller.request, in: volume.root, name),
                    case .done = files.open(caller.request, found.file),
                    case .done(let count, _) = files.read(caller.request, found.file, at: 0, into: buffer.bytes),
                    case .done = files.close(caller.request, found.file)
                else { preconditionFailure("the engine lacks something") }
                return count
            }
        }
        let intent = OpenIntent(.open, access: .readData, client: 1)
        let whole = { () -> Int in
            name.withUnsafeBytes { name in
                guard case .done(let opened, _) = volume.open(caller, in: volume.root, name, intent) else {
                    preconditionFailure("the volume lacks something")
                }
                var mine = caller
                mine.handle = opened.handle
                guard case .done(let got, _) = volume.read(mine, at: 0, into: buffer.bytes),
                    case .done = volume.close(mine, opened.handle)
                else { preconditionFailure("the volume lacks something") }
                return got
            }
        }
        // In short turns, as the machine is not the same from one moment to the next: the least of each in a pair, and the least
        // of all pairs.
        var (inner, outer) = (Double.infinity, Double.infinity)
        for pair in 1...pairs {
            var least = (Double.infinity, Double.infinity)
            for _ in 0..<turns {
                least.0 = min(least.0, Program.nanoseconds(rounds) { _ in engine() })
                least.1 = min(least.1, Program.nanoseconds(rounds) { _ in whole() })
            }
            Program.report("pair \(pair): Volume's time by the engine's", least.1 / least.0, "times")
            inner = min(inner, least.0)
            outer = min(outer, least.1)
        }
        let alone = try await EngineAlone(world, name, content, buffer.bytes)
        var bare = Double.infinity
        for _ in 0..<(turns * pairs) {
            bare = min(bare, Program.nanoseconds(rounds) { _ in alone.openReadClose(loop.index) })
        }
        try await alone.end()
        Program.report("open, read 4 KiB, close: the engine without Namespace", bare, "ns")
        Program.report("open, read 4 KiB, close: the engine's own calls", inner, "ns")
        Program.report("open, read 4 KiB, close: through Volume", outer, "ns")
        Program.report("that is, of at most 1.5", outer / inner, "times")
        Program.report("and of the engine without Namespace", outer / bare, "times")
        try await hosted.close()
    }

    static func done<Value>(_ call: () -> Attempt<Value>) async throws -> Value {
        while true {
            switch call() {
            case .done(let value, _): return value
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    private static func remove(_ path: String) {
        var open = [path]
        var directories: [String] = []
        while let next = open.popLast() {
            directories.append(next)
            guard let listing = opendir(next) else { continue }
            defer { closedir(listing) }
            while let entry = readdir(listing) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name == "." || name == ".." { continue }
                if unlink(next + "/" + name) != 0 { open.append(next + "/" + name) }
            }
        }
        for directory in directories.reversed() { rmdir(directory) }
    }
}

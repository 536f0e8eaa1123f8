import CShim
import Glibc
import Headhunter
import Namespace
import Passthrough
import Runtime
import Testing

/// Knows what it was given so far, done or not.
final class CountedPool: BlockingPool {
    private let pool: any BlockingPool
    private let count = Guarded(0)
    var submitted: Int { count.withLock { $0 } }

    init(_ pool: any BlockingPool) { self.pool = pool }

    func submit(
        _ work: @escaping @Sendable () -> Void, then completion: @escaping @Sendable () -> Void, on loop: EventLoop
    ) {
        pool.submit(work, then: completion, on: loop)
        count.withLock { $0 += 1 }
    }

    func linger(until isThere: () -> Bool) { pool.linger(until: isThere) }
}

/// A directory of this machine for one test.
final class Rig: Sendable {
    let path: String
    private let real: World
    let world: World
    let pool: CountedPool
    var loop: EventLoop { world.loops[0] }

    init() throws {
        var template = Array("/tmp/proxyfs-passthrough-XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { $0.baseAddress.flatMap { mkdtemp($0) } != nil }
        path = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        try #require(made)
        for name in ["served", "outside", "disk"] { mkdir(path + "/" + name, 0o755) }
        real = try World.real(disk: RealDisk(path: path + "/disk"), loops: 1)
        pool = CountedPool(real.blocking)
        world = World(
            clock: real.clock, random: real.random, disk: real.disk, network: real.network, blocking: pool,
            loops: real.loops)
    }

    var served: String { path + "/served" }
    var outside: String { path + "/outside" }

    func end() {
        real.stop()
        Self.removeTree(path)
    }

    static func removeTree(_ path: String) {
        var open = [path]
        var directories: [String] = []
        while let next = open.popLast() {
            directories.append(next)
            for name in names(next) {
                var status = stat()
                lstat(next + "/" + name, &status)
                if status.st_mode & S_IFMT == S_IFDIR {
                    open.append(next + "/" + name)
                } else {
                    unlink(next + "/" + name)
                }
            }
        }
        for directory in directories.reversed() { rmdir(directory) }
    }

    static func names(_ path: String) -> [String] {
        guard let listing = opendir(path) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    func passthrough(_ subvolume: UInt32 = 9) throws -> Passthrough {
        try Passthrough(path: served, subvolume: subvolume, world: world)
    }

    /// Writes a file behind the server's back.
    func put(_ text: String, _ path: String) {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        _ = Array(text.utf8).withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        Glibc.close(descriptor)
    }

    func get(_ path: String) -> String {
        let descriptor = Glibc.open(path, O_RDONLY)
        guard descriptor >= 0 else { return "(none)" }
        defer { Glibc.close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }
}

/// Any file system, as one who makes each call as often as it takes.
struct Client: Sendable {
    let files: any FileSystem
    let world: World
    var root: FileID { files.root }
    var request: Request { Request(reader: 0, now: world.clock.wall()) }

    static let attemptsMax = 10_000

    @discardableResult
    func done<Value>(_ call: () -> Attempt<Value>) async throws -> Value {
        for _ in 0..<Self.attemptsMax {
            switch call() {
            case .done(let value, _): return value
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
        Issue.record("a call lacks something for ever")
        throw FileError.delay
    }

    func name<Value>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        Array(text.utf8).withUnsafeBytes { body($0) }
    }

    func lookup(_ text: String, in directory: FileID? = nil) async throws -> Attributes {
        try await done { name(text) { files.lookup(request, in: directory ?? root, $0) } }
    }

    /// The name as it is stored.
    func folded(_ text: String, in directory: FileID) async throws -> String {
        var stored = ""
        try await done {
            name(text) {
                files.lookupFolded(request, in: directory, $0) { stored = String(decoding: $0, as: UTF8.self) }
            }
        }
        return stored
    }

    func create(
        _ text: String, in directory: FileID? = nil, _ new: NewFile = NewFile(type: .file, mode: 0o644),
        _ disposition: Disposition = .exclusive
    ) async throws -> Created {
        try await done {
            name(text) {
                files.create(request, in: directory ?? root, $0, new, uid: 1000, gid: 1000, disposition)
            }
        }
    }

    func directory(_ text: String, in directory: FileID? = nil) async throws -> FileID {
        try await create(text, in: directory, NewFile(type: .directory, mode: 0o755)).file.file
    }

    @discardableResult
    func remove(_ text: String, in directory: FileID? = nil, isDirectory: Bool = false) async throws -> Removed {
        try await done { name(text) { files.remove(request, in: directory ?? root, $0, isDirectory: isDirectory) } }
    }

    @discardableResult
    func rename(
        _ text: String, _ new: String, from source: FileID? = nil, to target: FileID? = nil,
        _ mode: RenameMode = .replace
    ) async throws -> Renamed {
        try await done {
            name(text) { old in
                name(new) { files.rename(request, from: source ?? root, old, to: target ?? root, $0, mode) }
            }
        }
    }

    @discardableResult
    func link(_ file: FileID, _ text: String, in directory: FileID? = nil) async throws -> Created {
        try await done { name(text) { files.link(request, file, in: directory ?? root, $0) } }
    }

    @discardableResult
    func write(_ file: FileID, _ text: String, at offset: UInt64 = 0) async throws -> Changed {
        try await done { name(text) { files.write(request, file, at: offset, $0) } }
    }

    func read(_ file: FileID, at offset: UInt64 = 0, count: Int = 64) async throws -> String {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
        defer { memory.deallocate() }
        let got: Int
        switch files.read(request, file, at: offset, into: memory) {
        case .done(let count, _): got = count
        case .refused(let error): throw error
        // What is not in memory is fetched, as whoever reads does.
        case .lacks: got = try await files.readAll(file, at: offset, into: SendableBuffer(memory))
        }
        return String(decoding: memory.prefix(got).map { $0 == 0 ? UInt8(ascii: "_") : $0 }, as: UTF8.self)
    }

    func attributes(_ file: FileID) async throws -> Attributes { try await done { files.attributes(request, file) } }

    func names(_ directory: FileID? = nil, limit: Int = 100, attributes: Bool = false) async throws -> [String] {
        var names: [String] = []
        var cookie: UInt64 = 0
        while true {
            var page: [String] = []
            var last = cookie
            let isEnd = try await done {
                page = []
                return files.list(request, directory ?? root, after: cookie, limit: limit, attributes: attributes) {
                    page.append(String(decoding: $1, as: UTF8.self))
                    last = $0.cookie
                    return true
                }
            }
            names += page
            if isEnd { return names.sorted() }
            cookie = last
        }
    }
}

/// A directory of the host, and another one that is to be mounted in it.
struct TwoDirectories {
    let tree: MountTree
    let other: Passthrough
    let client: Client
    let point: FileID

    init(_ rig: Rig) async throws {
        for name in ["base", "other"] { mkdir(rig.served + "/" + name, 0o755) }
        other = try Passthrough(
            path: rig.served + "/other", subvolume: MountTree.firstSubvolume + 7, world: rig.world)
        tree = MountTree(try Passthrough(path: rig.served + "/base", subvolume: 1, world: rig.world))
        client = Client(files: tree, world: rig.world)
        point = try await client.directory("point")
    }
}

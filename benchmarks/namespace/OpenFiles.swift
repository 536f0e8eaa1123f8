import Glibc
import Namespace
import Runtime

/// What an open file takes in all: handle, share mode, lease, name, and what the file system knows of it.
enum OpenFiles {
    static let count = 100_000
    static let perDirectory = 1000

    private static func name(_ index: Int) -> [UInt8] { Array("a file of an ordinary name \(index).txt".utf8) }

    static func measure(_ world: World) async throws {
        let loop = world.loops[0]
        let hosted = try await HostedVolume.open("o", folder: "o", durability: .memory, world: world, loop: loop)
        let volume = hosted.volume
        let caller = Caller(
            .root, Request(reader: loop.index, now: world.clock.wall()), isStateless: false)
        var directories: [FileID] = []
        for index in 0..<(count / perDirectory) {
            let name = Array("directory-\(index)".utf8)
            let made = try await OpenReadClose.done {
                name.withUnsafeBytes {
                    volume.create(caller, in: volume.root, $0, NewFile(type: .directory, mode: 0o755))
                }
            }
            directories.append(made.file.file)
        }
        for index in 0..<count {
            let (name, directory) = (Self.name(index), directories[index / perDirectory])
            _ = try await OpenReadClose.done {
                name.withUnsafeBytes {
                    volume.create(caller, in: directory, $0, NewFile(type: .file, mode: 0o644))
                }
            }
        }
        /// Opens all of them, and answers what is to be closed.
        func openAll() async throws -> [OpenHandle] {
            var handles: [OpenHandle] = []
            handles.reserveCapacity(count)
            for index in 0..<count {
                let name = Self.name(index)
                var intent = OpenIntent(.open, access: [.readData, .writeData], client: UInt64(index % 64))
                intent.lease = LeaseWish(
                    LeaseKey(client: UInt128(index % 64), key: UInt128(index)), .lease, .all,
                    holder: LeaseHolder(loop: loop) { _ in })
                let directory = directories[index / perDirectory]
                let wanted = intent
                let opened = try await OpenReadClose.done {
                    name.withUnsafeBytes { volume.open(caller, in: directory, $0, wanted) }
                }
                handles.append(opened.handle)
            }
            return handles
        }
        func closeAll(_ handles: [OpenHandle]) async throws {
            for handle in handles {
                var mine = caller
                mine.handle = handle
                _ = try await OpenReadClose.done { volume.close(mine, handle) }
            }
        }
        // Never before: what was opened once and closed leaves memory to who comes next.
        try await hosted.checkpoint()
        let before = Program.residentBytes()
        let handles = try await openAll()
        let used = Program.residentBytes() - before - handles.count * MemoryLayout<OpenHandle>.stride
        Program.report(
            "memory of an open file with its name and a lease, of at most 1024", Double(used) / Double(count), "bytes")
        try await closeAll(handles)
        try await hosted.close()
    }
}

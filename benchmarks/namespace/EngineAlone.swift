import Headhunter
import LogFS
import ObjectStore
import Runtime

/// A file of an engine without Namespace above it.
struct EngineAlone {
    private let files: LogFS
    private let name: [UInt8]
    private let buffer: UnsafeMutableRawBufferPointer

    init(_ world: World, _ name: [UInt8], _ content: [UInt8], _ buffer: UnsafeMutableRawBufferPointer) async throws {
        let loop = world.loops[0]
        for folder in ["alone", "alone/log", "alone/store"] { try world.disk.makeDirectory(folder) }
        let directory = try await DirectoryStore.open(world: world, loop: loop, root: "alone/store")
        let store = ObjectStore(directory, world: world, loop: loop)
        try await Headhunter.create(world: world, store: store, prefix: "v")
        let volume = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: "v", directory: "alone/log", options: HeadhunterOptions())
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        let made = try await files.run { reader in
            name.withUnsafeBytes {
                files.create(
                    Request(reader: reader, now: 1), in: files.rootID, $0,
                    NewFile(type: .file, mode: 0o644, uid: 5, gid: 5))
            }
        }
        let id = made.value.inode.id
        try await files.run { reader in
            content.withUnsafeBytes { files.write(Request(reader: reader, now: 1), id, at: 0, $0) }
        }
        _ = try await files.flush(id.inode)
        _ = try await files.readAll(id, at: 0, into: buffer)
        (self.files, self.name, self.buffer) = (files, name, buffer)
    }

    func openReadClose(_ reader: Int) -> Int {
        name.withUnsafeBytes { name in
            let request = Request(reader: reader, now: 1)
            guard case .done(let found, _) = files.lookup(request, in: files.rootID, name),
                case .done = files.open(request, found.id),
                case .done(let count, _) = files.read(request, found.id, at: 0, into: buffer),
                case .done = files.close(request, found.id)
            else { preconditionFailure("the engine lacks something") }
            return count
        }
    }

    func end() async throws { try await files.stop() }
}

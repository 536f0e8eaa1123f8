import Bytes
import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// What goes wrong around a volume: it says so, loses nothing, and what can go on goes on.
struct TroubleTests {
    private static func write(_ files: LogFS, _ file: FileID, _ size: Int, _ fill: UInt8, at place: Int = 0)
        async throws
    {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: fill)
        try await files.writeAll(file, at: UInt64(place), UnsafeRawBufferPointer(memory), now: 1)
    }

    private static func make(_ files: LogFS, _ name: String) async throws -> Result<Created, LogFS::FileError> {
        try await outcome(files) { request in
            with(Array(name.utf8)) {
                files.create(request, in: files.rootID, $0, NewFile(type: .file, mode: 0o644, uid: 0, gid: 0))
            }
        }
    }

    private static func isWhole(_ files: LogFS, _ file: FileID, _ size: Int, _ fill: UInt8) async throws -> Bool {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 1, alignment: 16)
        defer { memory.deallocate() }
        let count = try await files.readAll(file, at: 0, into: memory)
        return count == size && memory[..<count].allSatisfy { $0 == fill }
    }

    /// Growth is refused in time; deletions and checkpoints go on, and give the space back.
    @Test func fullDisk() throws {
        let simulation = Simulation(seed: 4, diskBytes: 400 << 20)
        Bench.prepare(simulation)
        let done = simulation.perform { world -> String? in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                var made: [FileID] = []
                var refused = false
                while made.count < 400, !refused {
                    let size = 1 << 20
                    guard case .success(let created) = try await Self.make(files, "f\(made.count)") else {
                        refused = true
                        break
                    }
                    do {
                        try await Self.write(files, created.inode.id, size, UInt8(made.count & 255) | 1)
                        try await files.sync(created.inode.id, .durable)
                        made.append(created.inode.id)
                    } catch {
                        guard let failure = error as? Failure, failure == .file(.noSpace) else { throw error }
                        refused = true
                    }
                }
                guard refused else { return "\(made.count) MiB went onto a disk of 400 MiB" }
                guard made.count > 200 else { return "only \(made.count) MiB were taken" }
                guard case .failure(.noSpace) = try await Self.make(files, "one more") else {
                    return "create was not refused"
                }
                for (index, file) in made.enumerated() where index % 40 == 0 {
                    guard try await Self.isWhole(files, file, 1 << 20, UInt8(index & 255) | 1) else {
                        return "file \(index) is not whole"
                    }
                }
                try await volume.checkpoint()
                for index in 0..<(made.count - 10) {
                    let gone = try await outcome(files) { request in
                        with(Array("f\(index)".utf8)) { files.unlink(request, in: files.rootID, $0) }
                    }
                    guard case .success = gone else { return "file \(index) could not be removed: \(gone)" }
                }
                try await files.commit(volume.log.last, .durable)
                try await files.tidy()
                for _ in 0..<6 {
                    try await volume.checkpoint()
                    await world.loops[0].sleep(nanoseconds: 1_500_000_000)
                }
                guard case .success(let created) = try await Self.make(files, "again") else {
                    return "the space did not come back"
                }
                try await Self.write(files, created.inode.id, 1 << 20, 7)
                try await files.sync(created.inode.id, .durable)
                for index in (made.count - 10)..<made.count {
                    guard try await Self.isWhole(files, made[index], 1 << 20, UInt8(index & 255) | 1) else {
                        return "file \(index) is not whole"
                    }
                }
                let check = try await Check.run(files)
                guard check.differences.isEmpty else { return "\(check.differences)" }
                try await volume.close()
                return nil
            } catch {
                return "\(error)"
            }
        }
        let problem = try #require(done, "the program did not come to an end")
        #expect(problem == nil)
    }
}

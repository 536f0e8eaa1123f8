import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Testing

/// A simulated world with a volume in it, for tests.
enum Bench {
    static func prepare(_ simulation: Simulation) {
        let made = simulation.perform { world -> Bool in
            do {
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    try world.disk.makeDirectory("log")
                    try world.disk.makeDirectory("store")
                    try world.disk.syncDirectory("")
                }
                try await Headhunter.create(world: world, store: try await store(world), prefix: "v")
                return true
            } catch {
                Issue.record("making the volume: \(error)")
                return false
            }
        }
        precondition(made == true)
    }

    static func store(_ world: World) async throws -> ObjectStore {
        let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
        return ObjectStore(directory, world: world, loop: world.loops[0])
    }

    static func volume(_ world: World, small: Bool = true) async throws -> Headhunter {
        var options = HeadhunterOptions()
        if small {
            options.cacheBytes = 0
            options.metadataObjectBytes = 64 << 10
            options.checkpointNanoseconds = 30_000_000
            options.nonceRange = 8
            options.logReserveBytes = 64 << 10
            options.flushBytes = 1 << 20
            options.stageMemoryBytes = 8 << 20
        }
        return try await Headhunter.open(
            world: world, loop: world.loops[0], store: try await store(world), prefix: "v", directory: "log",
            options: options)
    }

    /// Runs `body` over a fresh volume's files in a world without faults.
    static func files(
        seed: UInt64 = 1, small: Bool = true, _ body: @escaping @Sendable (LogFS, World) async throws -> Void
    ) {
        let simulation = Simulation(seed: seed)
        prepare(simulation)
        let done = simulation.perform { world -> Bool in
            do {
                let volume = try await volume(world, small: small)
                try await body(try await LogFS.open(volume, world: world, subvolume: 1), world)
                try await volume.close()
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
            return true
        }
        #expect(done == true, "seed \(seed): the program did not come to an end")
    }
}

/// What an operation came to, errors of files among it.
func outcome<Value>(
    _ files: LogFS, _ attempt: (Request) -> Attempt<Value>, now: Int64 = 1
) async throws -> Result<Value, FileError> {
    do throws(Failure) {
        return .success(try await files.run { attempt(Request(reader: $0, now: now)) }.value)
    } catch {
        switch error {
        case .file(let refusal): return .failure(refusal)
        case .volume(let failure): throw failure
        }
    }
}

/// The bytes, for as long as the call lasts.
func with<Value>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    bytes.withUnsafeBytes { body($0) }
}

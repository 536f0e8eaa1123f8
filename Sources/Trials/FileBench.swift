import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator

/// A simulated world with a volume of files in it.
package enum Bench {
    package static func prepare(_ simulation: Simulation) {
        let made = simulation.perform { world -> Bool in
            do {
                try await make(world)
                return true
            } catch {
                return false
            }
        }
        precondition(made == true, "a volume can be made in a world without faults")
    }

    package static func make(_ world: World) async throws {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
            try world.disk.makeDirectory("log")
            try world.disk.makeDirectory("store")
            try world.disk.syncDirectory("")
        }
        try await Headhunter.create(world: world, store: try await store(world), prefix: "v")
    }

    package static func store(_ world: World, _ trouble: StoreTrouble? = nil) async throws -> ObjectStore {
        let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
        return ObjectStore(trouble?.wrap(directory, world) ?? directory, world: world, loop: world.loops[0])
    }

    package static func volume(
        _ world: World, small: Bool = true, log: String = "log", takesOver: Bool = false, logIsInStore: Bool = false,
        trouble: StoreTrouble? = nil, behind store: ObjectStore? = nil, stagedBytesMax: Int? = nil
    ) async throws -> Headhunter {
        var options = HeadhunterOptions()
        if let stagedBytesMax { options.stagedBytesMax = stagedBytesMax }
        options.takesOver = takesOver
        options.logIsInStore = logIsInStore
        if small {
            options.cacheBytes = 0
            options.metadataObjectBytes = 64 << 10
            options.metadataObjectsMin = 2
            options.checkpointNanoseconds = 30_000_000
            options.flushNanoseconds = 30_000_000
            options.nonceRange = 8
            options.logReserveBytes = 64 << 10
            options.flushBytes = 1 << 20
            options.stageMemoryBytes = 8 << 20
        }
        let objects = if let store { store } else { try await Self.store(world, trouble) }
        return try await Headhunter.open(
            world: world, loop: world.loops[0], store: objects, prefix: "v", directory: log, options: options)
    }
}

/// What an operation came to, errors of files among it.
package func outcome<Value>(
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
package func with<Value>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    bytes.withUnsafeBytes { body($0) }
}

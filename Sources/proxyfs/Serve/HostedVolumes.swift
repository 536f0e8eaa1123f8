import CShim
import Configuration
import Headhunter
import Logging
import Namespace
import Runtime

/// The volumes of this server: opened before the first listener, closed after the last one.
final class HostedVolumes {
    /// Below the data directory, a folder for each volume.
    static let folder = "volumes"

    private let world: World
    private let logger: Logger
    let volumes = Volumes()
    private var hosted: [HostedVolume] = []

    init(world: World, logger: Logger) {
        self.world = world
        self.logger = logger
    }

    func open(_ configuration: Configuration, data: String) throws(CommandFailure) {
        do throws(Errno) {
            do throws(Errno) { try world.disk.makeDirectory(Self.folder) } catch .exists {}
            try world.disk.syncDirectory("")
        } catch {
            throw .failure("can not make \(data)/\(Self.folder): \(error)")
        }
        let options = Self.options(configuration.engine)
        for (index, volume) in configuration.volumes.enumerated() {
            let loop = world.loops[index % world.loops.count]
            let world = world
            let folder = Self.folder + "/" + volume.name
            let durability = Self.durability(volume.durability)
            let result = Self.wait(on: loop) { () async -> Result<HostedVolume, HostingError> in
                do throws(HostingError) {
                    return .success(
                        try await HostedVolume.open(
                            volume.name, folder: folder, durability: durability, world: world, loop: loop,
                            options: options))
                } catch { return .failure(error) }
            }
            switch result {
            case .success(let opened):
                hosted.append(opened)
                guard volumes.add(opened.volume) else {
                    throw .failure("can not serve the volume \(volume.name): another one has its name or is its copy")
                }
                logger.info(
                    "volume open", [.init("name", volume.name), .init("durability", volume.durability.rawValue)])
            case .failure(let error):
                throw .failure("can not open the volume \(volume.name) in \(data)/\(folder): \(Self.text(error))")
            }
        }
    }

    /// Flushes and checkpoints all of them. False: one could not be closed as it should; its log has all promises.
    func close() -> Bool {
        var isGood = true
        for volume in hosted {
            let failure = Self.wait(on: volume.loop) { () async -> HostingError? in
                do throws(HostingError) { try await volume.close() } catch { return error }
                return nil
            }
            if let failure {
                isGood = false
                logger.error(
                    "volume not closed", [.init("name", volume.volume.name), .init("why", Self.text(failure))])
            } else {
                logger.info("volume closed", [.init("name", volume.volume.name)])
            }
        }
        hosted = []
        return isGood
    }

    private static func options(_ engine: Configuration.Engine) -> HeadhunterOptions {
        var options = HeadhunterOptions()
        options.flushBytes = Int(clamping: engine.flushSize.bytes)
        // A checkpoint seals what is open, so the shorter of the two times holds for both.
        options.checkpointNanoseconds = min(engine.checkpointInterval.nanoseconds, engine.flushTime.nanoseconds)
        options.logBytesMax = Int(clamping: engine.logSize.bytes)
        options.nonceRange = UInt64(engine.nonceRange)
        options.cacheBytes = Int(clamping: engine.nodeCache.bytes)
        options.dataCacheBytes = Int(clamping: engine.dataCache.bytes)
        return options
    }

    private static func durability(_ word: Configuration.Durability) -> Durability {
        switch word {
        case .store: .store
        case .log: .log
        case .memory: .memory
        }
    }

    private static func text(_ error: HostingError) -> String {
        switch error {
        case .inUse: "another process has it; stop that one first"
        case .disk(let code, let doing): "\(doing): \(code)"
        case .volume(let error): "\(error)"
        }
    }

    /// Runs a task on a loop and waits for it. Not on a loop.
    private static func wait<Value: Sendable>(on loop: EventLoop, _ body: @escaping @Sendable () async -> Value)
        -> Value
    {
        guard let monitor = shim_monitor_create() else { preconditionFailure("no memory for a monitor") }
        defer { shim_monitor_destroy(monitor) }
        let bell = Bell(monitor: monitor)
        let box = Guarded<Value?>(nil)
        loop.task {
            let value = await body()
            bell.ring { box.withLock { $0 = value } }
        }
        bell.wait { box.withLock { $0 != nil } }
        guard let value = box.withLock({ $0 }) else { preconditionFailure("a task ended without its value") }
        return value
    }

    private struct Bell: @unchecked Sendable {
        let monitor: OpaquePointer

        /// Whoever waits sees what `body` did, and may take the monitor away, only after this has let go of it.
        func ring(_ body: () -> Void) {
            shim_monitor_enter(monitor)
            body()
            shim_monitor_signal_work(monitor)
            shim_monitor_exit(monitor)
        }

        func wait(until isDone: () -> Bool) {
            shim_monitor_enter(monitor)
            while !isDone() { shim_monitor_wait_work(monitor) }
            shim_monitor_exit(monitor)
        }
    }
}

import CShim
import Configuration
import JSON
import Logging
import Namespace
import Runtime

/// A command without a server: it takes the data directory, opens the volumes, does what a server would have done, and
/// closes them again.
///
/// Its threads end with the process: a volume that has been closed may still be deleting what no header names, and takes
/// that up again when it is next opened.
enum Offline {
    static func run(_ request: ControlRequest, _ settings: Settings) throws(CommandFailure) -> JSON {
        let data = try DataDirectory(settings.configuration.data)
        let world = try world(data)
        let logger = Logger(
            level: .warning, format: .logfmt, wall: { world.clock.wall() }, monotonic: { world.clock.monotonic() })
        let seal = try sealingKey(world, data.path)
        let host = VolumeHost(world: world, data: data.path, logger: logger)
        let control = Control(world: world, host: host, seal: seal, logger: logger, isServing: false)
        let meter = Meter()
        if request.wantsProgress { control.loop.execute { show(meter, on: control.loop) } }
        let result = wait(on: control.loop) { () async -> Result<JSON, CommandFailure> in
            do throws(CommandFailure) { try await control.open(settings) } catch { return .failure(error) }
            let result = await control.run(request, meter)
            let isClosed = await control.close()
            if case .success = result, !isClosed {
                return .failure(
                    .failure("done, but a volume was not closed as it should; the next start puts it right"))
            }
            return result
        }
        return try result.get()
    }

    /// Until the process ends.
    private static func show(_ meter: Meter, on loop: EventLoop) {
        _ = loop.schedule(after: 500_000_000) {
            if let step = meter.step { Progress.show(step) }
            show(meter, on: loop)
        }
    }

    static func world(_ data: DataDirectory) throws(CommandFailure) -> World {
        do throws(Errno) { return try World.real(disk: data.disk, loops: 1) } catch {
            throw .failure("can not start an event loop and its threads: \(error); raise the limits of this user")
        }
    }

    static func sealingKey(_ world: World, _ data: String) throws(CommandFailure) -> SealingKey {
        do throws(SecretFile.Problem) { return try SealingKey.load(world.disk, world.random) } catch {
            let why =
                switch error {
                case .failed(let code): "\(code)"
                case .damaged: "what is in it is no key; put back the copy of it, or no secret can be read"
                }
            throw .failure("can not read or make \(data)/\(SealingKey.file): \(why)")
        }
    }

    /// Runs a task on a loop and waits for it. Not on a loop.
    static func wait<Value: Sendable>(on loop: EventLoop, _ body: @escaping @Sendable () async -> Value) -> Value {
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

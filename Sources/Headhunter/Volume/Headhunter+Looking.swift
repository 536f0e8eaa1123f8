import ObjectStore
import Runtime

/// Opening a volume to read it, and nothing else. On the volume's loop.
extension Headhunter {
    /// Whether nothing can be changed, because it was opened so.
    public var isReadOnly: Bool { options.isReadOnly }

    /// No epoch is claimed, no fence made, no file written: what is damaged in the log or the stage is told in `damage`, and what
    /// is not can be read. A recovered log stays above the trees.
    static func look(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ options: HeadhunterOptions, _ header: CheckpointHeader, _ start: UInt64
    ) async throws(VolumeError) -> Headhunter {
        var options = options
        options.leaseNanoseconds = options.looksForOwner ? shorter(header.lease, options.leaseNanoseconds) : 0
        var damage: [String] = []
        let place = try await lookForPlace(world, loop, directory, header, &damage)
        var slots: StoreLogRecovery?
        if header.firstSlot != nil {
            do throws(VolumeError) {
                slots = try await StoreLogRecovery(reading: store, prefix, header)
            } catch {
                guard case .damaged(let why) = error else { throw error }
                damage.append(why)
            }
        }
        let recovered = try await recover(
            world, loop, store, prefix, directory, header, slots, place: place, isReadOnly: true)
        try await finishStages(world, loop, recovered.stage, directory)
        for problem in recovered.ending.problems {
            if case .damaged(let why) = volumeError(problem, directory) { damage.append(why) }
        }
        let log = ReplayLog(
            world: world, loop: loop, directory: directory, volume: header.volume, epoch: header.epoch,
            sequence: recovered.ending.sequence, next: recovered.ending.next, chain: 0, files: [],
            reserveBytes: options.logReserveBytes, pushBytes: options.logPushBytes)
        let headhunter = Headhunter(
            world: world, loop: loop, store: store, prefix: prefix, options: options, header: header, log: log,
            overlay: recovered.overlay.isEmpty ? nil : recovered.overlay, logBytes: recovered.ending.bytes,
            stageDirectory: stageDirectory(directory), place: place)
        headhunter.segments.adopt(recovered.stage.chosen)
        headhunter.damage = damage
        try await headhunter.settleSegments(recovered.stage.named)
        let failure = VolumeError.readOnly(
            headhunter.damage.isEmpty
                ? "the volume was opened to be read only" : headhunter.damage.joined(separator: "; "))
        headhunter.checkpoints.failure = failure
        headhunter.fail(failure)
        if options.looksForOwner { headhunter.watch(from: start) }
        return headhunter
    }

    /// Nobody tells a taker of it: it waits for what the header says. The shorter one that is kept at all.
    private static func shorter(_ told: UInt64, _ own: UInt64) -> UInt64 {
        told == 0 || own == 0 ? max(told, own) : min(told, own)
    }

    /// The name of the log that the header means, if it is here.
    private static func lookForPlace(
        _ world: World, _ loop: EventLoop, _ path: String, _ header: CheckpointHeader, _ damage: inout [String]
    ) async throws(VolumeError) -> UInt64 {
        let directory = LogDirectory(disk: world.disk, path: path)
        let name: LogDirectory.Name
        do throws(Errno) {
            name = try await world.blocking.run(on: loop) { () throws(Errno) -> LogDirectory.Name in
                try directory.place()
            }
        } catch { throw .unavailable("reading \(path): \(error)") }
        // A volume that was closed needs no log: what lies here is of an earlier time, or another owner's.
        guard header.log != 0 else { return .max }
        if name == .place(header.log) { return header.log }
        guard name == .damaged else { throw .logElsewhere }
        // Its files say whose they are.
        damage.append("the replay log's directory \(path) has lost its name")
        return header.log
    }
}

import Bytes
import ObjectStore
import Runtime

/// Making, opening and closing a volume. On the volume's loop.
extension Headhunter {
    /// Makes an empty volume below `prefix` in the store. Fails when there is one.
    public static func create(world: World, store: ObjectStore, prefix: String) async throws(VolumeError) {
        let header = CheckpointHeader(
            volume: VolumeIdentity(high: world.random.next(), low: world.random.next()), number: 1, epoch: 0,
            nonces: 1, logFirst: 1, logDurable: 0, treeEpoch: 0, wall: world.clock.wall(), trees: [], objects: [],
            doomed: [])
        do throws(StoreError) {
            guard try await newestHeader(store, prefix) == nil else { throw .exists }
            try await store.put(
                ObjectNaming.name(prefix, ObjectNaming.header, 1), .blocks([header.encoded()]), condition: .absent)
        } catch {
            throw volumeError(error, "making a volume")
        }
    }

    private static func newestHeader(_ store: ObjectStore, _ prefix: String) async throws(StoreError) -> UInt64? {
        var newest: UInt64?
        for name in try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.header)) {
            guard let number = ObjectNaming.number(name, prefix, ObjectNaming.header) else { continue }
            newest = max(newest ?? 0, number)
        }
        return newest
    }

    private static func readHeader(
        _ store: ObjectStore, _ prefix: String, _ number: UInt64
    ) async throws(VolumeError) -> CheckpointHeader {
        let name = ObjectNaming.name(prefix, ObjectNaming.header, number)
        let block: Block
        do throws(StoreError) { block = try await store.get(name) } catch {
            throw volumeError(error, "reading \(name)")
        }
        defer { extendLifetime(block) }
        do throws(CheckpointHeader.Malformed) {
            let header = try CheckpointHeader(reading: block.bytes)
            guard header.number == number else { throw .notAHeader }
            return header
        } catch {
            switch error {
            case .notAHeader: throw .damaged("\(name) is not a checkpoint header")
            case .checksum: throw .damaged("\(name): checksum of the checkpoint header does not match")
            case .version(let version): throw .unknownFormat("\(name) has format version \(version)")
            case .features(let bits):
                throw .unknownFormat("\(name) needs features \(String(bits, radix: 16)) that this program lacks")
            }
        }
    }

    /// Opens the volume for its only owner: reads the header and the log, then claims the next epoch. The trees are
    /// read as they are needed; what the log holds is visible at once. `directory` holds the log and exists; its lock
    /// is the caller's.
    public static func open(
        world: World, loop: EventLoop, store: ObjectStore, prefix: String, directory: String,
        options: HeadhunterOptions = HeadhunterOptions()
    ) async throws(VolumeError) -> Headhunter {
        let number: UInt64?
        do throws(StoreError) { number = try await newestHeader(store, prefix) } catch {
            throw volumeError(error, "looking for the volume \(prefix)")
        }
        guard let number else { throw .noVolume }
        let found = try await readHeader(store, prefix, number)

        var recovered = try await recover(world, loop, store, prefix, directory, found)
        try await finishStages(world, loop, recovered.stage, directory)
        recovered.ending = try await settleLog(world, loop, recovered.ending, directory, found)
        var claim = found
        claim.number += 1
        claim.epoch += 1
        claim.wall = world.clock.wall()
        claim.logDurable = max(claim.logDurable, recovered.ending.next - 1)
        claim.nonces = max(claim.nonces, SystemTree.nonces(in: recovered.overlay) ?? 0) + options.nonceRange

        let log = ReplayLog(
            world: world, loop: loop, directory: directory, volume: claim.volume, epoch: claim.epoch,
            sequence: recovered.ending.sequence, next: recovered.ending.next, chain: recovered.ending.chain,
            files: recovered.ending.files, reserveBytes: options.logReserveBytes)
        let headhunter = Headhunter(
            world: world, loop: loop, store: store, prefix: prefix, options: options, header: claim, log: log,
            overlay: recovered.overlay.isEmpty ? nil : recovered.overlay, stageDirectory: stageDirectory(directory))
        log.setDataDurable { [weak headhunter] in headhunter?.dataDurable() ?? 0 }
        headhunter.segments.adopt(recovered.stage.chosen)
        headhunter.nonces.next = claim.nonces - options.nonceRange
        try await headhunter.publish(claim)
        try await headhunter.settleSegments(recovered.stage.named)
        await headhunter.fetchNumbers()
        headhunter.startUploads()
        headhunter.startTimer()
        headhunter.startSpaceWatch()
        if headhunter.overlay != nil {
            headhunter.checkpoints.isDraining = true
            loop.task { await headhunter.drain() }
        }
        let oldest = headhunter.nonces.next
        loop.task { await headhunter.collectOrphans(below: oldest) }
        return headhunter
    }

    private struct Recovered: @unchecked Sendable {
        var overlay: Overlay
        var ending: LogRecovery.Ending
        var stage: StageRecovery
    }

    private static func finishStages(
        _ world: World, _ loop: EventLoop, _ stage: StageRecovery, _ directory: String
    ) async throws(VolumeError) {
        let box = Recovery(stage: stage)
        do throws(Errno) {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in try box.stage.finish() }
        } catch {
            throw .unavailable("reading \(stageDirectory(directory)): \(error)")
        }
    }

    private static func settleLog(
        _ world: World, _ loop: EventLoop, _ ending: LogRecovery.Ending, _ directory: String,
        _ header: CheckpointHeader
    ) async throws(VolumeError) -> LogRecovery.Ending {
        do throws(LogRecovery.Problem) {
            return try await world.blocking.run(on: loop) { () throws(LogRecovery.Problem) -> LogRecovery.Ending in
                var ending = ending
                let recovery = LogRecovery(disk: world.disk, directory: directory, volume: header.volume)
                try recovery.settle(&ending, epoch: header.epoch + 1)
                return ending
            }
        } catch { throw volumeError(error, directory) }
    }

    /// Handed from the loop to the pool and back, never shared.
    private struct Recovery: @unchecked Sendable { let stage: StageRecovery }

    private static func stageDirectory(_ directory: String) -> String { directory + "/stage" }

    /// An overlay's pages are half full at the worst, and an entry costs a few bytes more than its record did.
    private static let overlayFactor: UInt64 = 4

    /// What the store has decides what a stage file is worth: an object is made in one step, from a complete file, so
    /// files that are still, or again, in the stage beside it are of no use.
    private static func recover(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ header: CheckpointHeader
    ) async throws(VolumeError) -> Recovered {
        var asked: Set<UInt64> = []
        var inStore: Set<UInt64> = []
        var wanted = try await stagedSegments(world, loop, directory)
        while true {
            for segment in wanted.subtracting(asked).sorted() where try await isStored(store, prefix, segment) {
                inStore.insert(segment)
            }
            asked.formUnion(wanted)
            let recovered = try await replay(world, loop, directory, header, inStore: inStore)
            // The end of the log names segments of which only the store can tell whether they exist.
            wanted = recovered.stage.doubtful
            guard wanted.isSubset(of: asked) else { continue }
            // A store's answer is durable. It must be had before the stage's directory is synced: a file that moved from
            // there to the store would otherwise be in neither place after a crash.
            for segment in recovered.stage.absent.subtracting(asked).sorted() {
                _ = try await isStored(store, prefix, segment)
            }
            return recovered
        }
    }

    private static func isStored(
        _ store: ObjectStore, _ prefix: String, _ segment: UInt64
    ) async throws(VolumeError) -> Bool {
        let name = ObjectNaming.name(prefix, ObjectNaming.segment, segment)
        do throws(StoreError) { return try await store.head(name) != nil } catch {
            throw volumeError(error, "looking for \(name)")
        }
    }

    private static func stagedSegments(
        _ world: World, _ loop: EventLoop, _ directory: String
    ) async throws(VolumeError) -> Set<UInt64> {
        let path = stageDirectory(directory)
        do throws(Errno) {
            return try await world.blocking.run(on: loop) { () throws(Errno) -> Set<UInt64> in
                try StageRecovery.segments(world.disk, path)
            }
        } catch {
            throw .unavailable("reading \(path): \(error)")
        }
    }

    private static func replay(
        _ world: World, _ loop: EventLoop, _ directory: String, _ header: CheckpointHeader, inStore: Set<UInt64>
    ) async throws(VolumeError) -> Recovered {
        do throws(LogRecovery.Problem) {
            return try await world.blocking.run(on: loop) { () throws(LogRecovery.Problem) -> Recovered in
                let recovery = LogRecovery(disk: world.disk, directory: directory, volume: header.volume)
                let budget = try recovery.bytes() * overlayFactor + UInt64(16 << 20)
                let overlay = Overlay(budget: Int(clamping: budget))
                let stageDirectory = stageDirectory(directory)
                let stage: StageRecovery
                do throws(Errno) {
                    stage = try StageRecovery(
                        disk: world.disk, directory: stageDirectory, volume: header.volume, inStore: inStore)
                } catch { throw .io(error, path: stageDirectory) }
                let ending: LogRecovery.Ending
                do throws(LogRecovery.Problem) {
                    ending = try recovery.run(
                        first: header.logFirst, durable: header.logDurable, holds: { stage.holds($0, isUnsure: $1) }
                    ) { _, record in LogRecord.forEach(record) { overlay.set($0, $1, $2) } }
                } catch {
                    // What could not be read looks like data that is missing.
                    if let trouble = stage.trouble { throw .io(trouble.cause, path: trouble.path) }
                    throw error
                }
                if let trouble = stage.trouble { throw .io(trouble.cause, path: trouble.path) }
                return Recovered(overlay: overlay, ending: ending, stage: stage)
            }
        } catch { throw volumeError(error, directory) }
    }

    private static func volumeError(_ problem: LogRecovery.Problem, _ directory: String) -> VolumeError {
        switch problem {
        case .io(let cause, let path): .unavailable("recovering the replay log \(path): \(cause)")
        case .incomplete(let record, let durable):
            .damaged("the replay log in \(directory) ends before record \(record), but record \(durable) was durable")
        case .data(let range, let record):
            .damaged(
                "segment \(range.segment): the bytes at \(range.offset), which the durable log record \(record) "
                    + "names, are not what was written")
        case .unknownFormat(let path, let version):
            .unknownFormat("the replay log \(path) has format version \(version)")
        case .foreign(let path):
            .damaged("the replay log \(path) belongs to another volume")
        case .malformed(let path, let offset):
            .damaged("the replay log \(path) holds at \(offset) what no server writes")
        }
    }

    /// Moves what the log held into the trees, lowest keys first, beside everybody else's work.
    private func drain() async {
        defer {
            checkpoints.isDraining = false
            let waiting = checkpoints.whenDrained
            checkpoints.whenDrained = []
            for continuation in waiting { continuation.resume() }
        }
        var resume = true
        while resume {
            switch drainSome() {
            case .done: resume = false
            case .more: await Task.yield()
            case .missing:
                do throws(VolumeError) {
                    try await patiently { () async throws(VolumeError) in try await self.load(for: self.loop.index) }
                } catch {
                    fail(error)
                    return
                }
            case .full:
                do throws(VolumeError) { try await nextCheckpoint() } catch { return }
            }
        }
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        wantCheckpoint()
    }

    private enum Drained { case done, more, missing, full }
    private static let drainSlice = 32

    private func drainSome() -> Drained {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        guard let overlay, !overlay.isEmpty else { return .done }
        if case .failed = state { return .done }
        if cache.dirtyCount > options.dirtyFramesMax(of: cache.capacity) { return .full }
        var entries: [(id: UInt32, key: [UInt8], value: [UInt8]?)] = []
        overlay.first { id, key, value in
            entries.append((id, Array(key), value.map { Array($0) }))
            return entries.count < Self.drainSlice
        }
        for entry in entries {
            let tree = tree(entry.id)
            guard cache.reserve(tree.framesPerOperation) else { return .full }
            var missing: [NodeAddress] = []
            entry.key.withUnsafeBytes { tree.prepare($0, isDelete: entry.value == nil, missing: &missing) }
            guard missing.isEmpty else {
                needs(missing)
                return .missing
            }
            entry.key.withUnsafeBytes { key in
                if let value = entry.value {
                    value.withUnsafeBytes { tree.put(key, $0) }
                } else {
                    tree.delete(key)
                }
                overlay.remove(entry.id, key)
            }
        }
        return .more
    }

    /// Objects that a crash left in the store and that nothing names: metadata of a checkpoint that got no header, a
    /// segment that was stored before its first reference was.
    private func collectOrphans(below limit: UInt64) async {
        do throws(StoreError) {
            for (kind, doomed) in [
                (ObjectNaming.metadata, DoomedObject.Kind.metadata), (ObjectNaming.segment, .segment),
            ] {
                for name in try await store.names(prefix: ObjectNaming.prefix(prefix, kind)) {
                    guard let number = ObjectNaming.number(name, prefix, kind), number < limit else { continue }
                    if doomed == .metadata ? checkpoints.objects[number] != nil : try await isKnownSegment(number) {
                        continue
                    }
                    let object = DoomedObject(kind: doomed, number: number)
                    if !checkpoints.doomed.contains(object) { checkpoints.doomed.append(object) }
                }
            }
        } catch {
            // They are found again at the next start.
            checkpoints.trouble = "looking for left-over objects: \(error)"
        }
    }

    private func isKnownSegment(_ segment: UInt64) async throws(StoreError) -> Bool {
        if segments.stage(segment) != nil { return true }
        do throws(VolumeError) {
            return try await read { (view) throws(Missing) -> Bool in try SegmentTable.read(view, segment) != nil }
        } catch { throw .unavailable("\(error)") }
    }

    /// A last checkpoint, so that the next start finds no log to replay.
    public func close() async throws(VolumeError) {
        checkpoints.isClosing = true
        if let timer = checkpoints.timer { loop.cancel(timer) }
        if let timer = checkpoints.spaceTimer { loop.cancel(timer) }
        try await nextCheckpoint()
        fail(.closed)
    }
}

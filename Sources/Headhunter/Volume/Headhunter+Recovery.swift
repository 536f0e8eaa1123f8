import Bytes
import ObjectStore
import Runtime

/// What an owner before left in the log and in the stage. On the volume's loop.
extension Headhunter {
    struct Recovered: @unchecked Sendable {
        var overlay: Overlay
        var ending: LogRecovery.Ending
        var stage: StageRecovery
        var isFromSlots = false
    }

    /// Numbers of objects that each owner who takes over without the log has for himself, and of files of a log that hosts share: more than there
    /// will be between two such.
    static let takeoverShift: UInt64 = 32

    /// The name of the log's directory, once it may go on: it is the one that the header tells, the header tells none, or
    /// the volume is taken over.
    static func place(
        _ world: World, _ loop: EventLoop, _ path: String, _ header: CheckpointHeader, takesOver: Bool,
        isShared: Bool
    ) async throws(VolumeError) -> UInt64 {
        let directory = LogDirectory(disk: world.disk, path: path)
        let drawn = max(world.random.next(), 1)
        let name: LogDirectory.Name
        do throws(Errno) {
            name = try await world.blocking.run(on: loop) { () throws(Errno) -> LogDirectory.Name in
                let found = try directory.place()
                if header.log != 0, found != .place(header.log) {
                    guard takesOver else { return found == .damaged ? .damaged : .none }
                    // Of what hosts share behind the claim: until then it may be another one's.
                    if !isShared { try directory.setAside(header.epoch) }
                }
                if case .place = found { return found }
                return try directory.name(drawn, replaces: found == .damaged, isShared: isShared)
            }
        } catch {
            let lacksLinks = isShared && LogDirectory.linksAreLacking(error)
            throw .unavailable("reading \(path): \(error)\(lacksLinks ? "; it needs a disk with hard links" : "")")
        }
        switch name {
        case .place(let place): return place
        case .none: throw .logElsewhere
        case .damaged: throw .damaged("the replay log's directory \(path) has lost its name")
        }
    }

    /// What lies in a directory that hosts share, and that the volume did not have before.
    static func setAside(
        _ world: World, _ loop: EventLoop, _ path: String, _ epoch: UInt64, below end: UInt64
    ) async throws(VolumeError) {
        do throws(Errno) {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
                try LogDirectory(disk: world.disk, path: path).setAside(epoch, below: end)
            }
        } catch { throw .unavailable("putting aside what is in \(path): \(error)") }
    }

    static func finishStages(
        _ world: World, _ loop: EventLoop, _ stage: StageRecovery, _ directory: String
    ) async throws(VolumeError) {
        let box = Recovery(stage: stage)
        do throws(Errno) {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in try box.stage.finish() }
        } catch {
            throw .unavailable("reading \(stageDirectory(directory)): \(error)")
        }
    }

    /// Behind the header that says whose the volume is. Files of log and stage that owners before left, `sequence` being our first one of the log.
    static func dropUseless(
        _ world: World, _ loop: EventLoop, _ stage: StageRecovery, _ directory: String, _ header: CheckpointHeader,
        sharedBelow sequence: UInt64?
    ) async throws(VolumeError) {
        let box = Recovery(stage: stage)
        do throws(LogRecovery.Problem) {
            try await world.blocking.run(on: loop) { () throws(LogRecovery.Problem) -> Void in
                do throws(Errno) { try box.stage.dropUseless() } catch {
                    throw .io(error, path: stageDirectory(directory))
                }
                guard let sequence else { return }
                try LogRecovery(disk: world.disk, directory: directory, volume: header.volume)
                    .dropDrafts(below: sequence)
            }
        } catch { throw volumeError(error, directory) }
    }

    static func dropStored(
        _ world: World, _ loop: EventLoop, _ stage: StageRecovery, _ directory: String, but refused: Set<UInt64>
    ) async throws(VolumeError) {
        let box = Recovery(stage: stage)
        do throws(Errno) {
            try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
                try box.stage.dropStored(but: refused)
            }
        } catch {
            throw .unavailable("removing from \(stageDirectory(directory)): \(error)")
        }
    }

    static func settleLog(
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

    static func stageDirectory(_ directory: String) -> String { directory + "/stage" }

    /// An overlay's pages are half full at the worst, and an entry costs a few bytes more than its record did.
    private static let overlayFactor: UInt64 = 4

    /// What the store has decides what a stage file is worth: an object is made in one step, from a complete file, so
    /// files that are still, or again, in the stage beside it are of no use.
    static func recover(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ header: CheckpointHeader, _ slots: StoreLogRecovery?, place: UInt64, isReadOnly: Bool = false,
        isShared: Bool = false
    ) async throws(VolumeError) -> Recovered {
        var source = LogSource.files(durable: header.logDurable, tolerated: 0)
        if header.log != place { source = .nothing }
        if let slots {
            // Both are the same log; each may lack its end: of the local one what the system had not written, of the other
            // one what nobody waited for.
            if header.log == place {
                source = .files(durable: header.logDurable, tolerated: slots.end - 1)
                let local = try await recover(
                    world, loop, store, prefix, directory, header, from: source, isReadOnly, isShared)
                if let local, local.ending.next >= slots.end { return local }
            }
            source = .slots(slots)
        }
        guard
            let recovered = try await recover(
                world, loop, store, prefix, directory, header, from: source, isReadOnly, isShared)
        else {
            preconditionFailure("a log that lacks nothing was given up")
        }
        return recovered
    }

    private enum LogSource: Sendable {
        /// `durable` is a record known to be durable. The log may lack such up to `tolerated`: they are elsewhere, too.
        case files(durable: UInt64, tolerated: UInt64)
        case slots(StoreLogRecovery)
        /// The header holds all, or all that is left.
        case nothing
    }

    /// Nil: the files lack what is elsewhere.
    private static func recover(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ header: CheckpointHeader, from source: LogSource, _ isReadOnly: Bool, _ isShared: Bool
    ) async throws(VolumeError) -> Recovered? {
        var tries = 0
        var asked: Set<UInt64> = []
        var inStore: Set<UInt64> = []
        var wanted = try await stagedSegments(world, loop, directory)
        while true {
            inStore.formUnion(try await stored(store, prefix, wanted.subtracting(asked)))
            asked.formUnion(wanted)
            let found: Recovered?
            do throws(VolumeError) {
                found = try await replay(
                    world, loop, directory, header, source, inStore: inStore, isReadOnly: isReadOnly,
                    isShared: isShared)
            } catch {
                // The owner before may have made it something else while it was being read.
                guard isShared, tries < replaysMax else { throw error }
                tries += 1
                await loop.sleep(nanoseconds: replayPause)
                wanted = try await stagedSegments(world, loop, directory)
                continue
            }
            guard let recovered = found else { return nil }
            // The end of the log names segments of which only the store can tell whether they exist.
            wanted = recovered.stage.doubtful
            guard wanted.isSubset(of: asked) else { continue }
            if isShared {
                // The log tells of files that came after the listing: they were durable before it could.
                wanted = try await stagedSegments(world, loop, directory)
                guard wanted.isDisjoint(with: recovered.stage.absent) else {
                    guard tries < replaysMax else {
                        throw .unavailable("the owner before still writes to \(directory)")
                    }
                    tries += 1
                    continue
                }
            }
            // A store's answer is durable. Of a store that takes files over by a rename it must be had before the stage's directory is synced: a file that moved from
            // there to the store would otherwise be in neither place after a crash.
            if store.capabilities.adoptsFiles {
                _ = try await stored(store, prefix, recovered.stage.absent.subtracting(asked))
            }
            return recovered
        }
    }

    private static let headsMax = 16
    private static let replaysMax = 4
    private static let replayPause: UInt64 = 250_000_000

    private struct Answer: Sendable {
        var number: UInt64
        var isThere = false
        var failure: StoreError?
    }

    private static func look(
        for number: UInt64, _ kind: String, _ store: ObjectStore, _ prefix: String
    ) async -> Answer {
        var answer = Answer(number: number)
        do throws(StoreError) {
            answer.isThere = try await store.head(ObjectNaming.name(prefix, kind, number)) != nil
        } catch { answer.failure = error }
        return answer
    }

    /// Which of the segments, or other objects, the store has: asked side by side, for a store may be far away.
    static func stored(
        _ store: ObjectStore, _ prefix: String, _ numbers: Set<UInt64>, kind: String = ObjectNaming.segment
    ) async throws(VolumeError) -> Set<UInt64> {
        var found: Set<UInt64> = []
        let numbers = numbers.sorted()
        var next = 0
        while next < numbers.count {
            let part = numbers[next..<min(next + headsMax, numbers.count)]
            next += part.count
            let failure = await withTaskGroup(of: Answer.self) { group -> StoreError? in
                for number in part { group.addTask { await look(for: number, kind, store, prefix) } }
                var failure: StoreError?
                for await answer in group {
                    if answer.isThere { found.insert(answer.number) }
                    failure = failure ?? answer.failure
                }
                return failure
            }
            if let failure { throw volumeError(failure, "looking for objects of the kind \(kind)") }
        }
        return found
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
        _ world: World, _ loop: EventLoop, _ directory: String, _ header: CheckpointHeader,
        _ source: LogSource, inStore: Set<UInt64>, isReadOnly: Bool, isShared: Bool
    ) async throws(VolumeError) -> Recovered? {
        do throws(LogRecovery.Problem) {
            return try await world.blocking.run(on: loop) { () throws(LogRecovery.Problem) -> Recovered? in
                let recovery = LogRecovery(
                    disk: world.disk, directory: directory, volume: header.volume, isReadOnly: isReadOnly,
                    isShared: isShared)
                let bytes: UInt64
                switch source {
                case .files: bytes = try recovery.bytes()
                case .nothing: bytes = 0
                case .slots(let slots): bytes = slots.records.reduce(0) { $0 + UInt64($1.count) }
                }
                let budget = bytes * overlayFactor + UInt64(16 << 20)
                let overlay = Overlay(budget: Int(clamping: budget))
                let stageDirectory = stageDirectory(directory)
                let stage: StageRecovery
                do throws(Errno) {
                    stage = try StageRecovery(
                        disk: world.disk, directory: stageDirectory, volume: header.volume, inStore: inStore,
                        isReadOnly: isReadOnly, isShared: isShared)
                } catch { throw .io(error, path: stageDirectory) }
                let ending: LogRecovery.Ending
                do throws(LogRecovery.Problem) {
                    switch source {
                    case .files(let durable, let tolerated):
                        do throws(LogRecovery.Problem) {
                            ending = try recovery.run(
                                first: header.logFirst, durable: durable, holds: { stage.holds($0, isUnsure: $1) }
                            ) { _, record in LogRecord.forEach(record) { overlay.set($0, $1, $2) } }
                        } catch {
                            if case .incomplete(_, let known) = error, known <= tolerated { return nil }
                            throw error
                        }
                    case .nothing: ending = try recovery.nothing(from: header.logFirst)
                    case .slots(let slots):
                        ending = try slots.run(recovery, holds: { stage.holds($0, isUnsure: $1) }) { _, record in
                            LogRecord.forEach(record) { overlay.set($0, $1, $2) }
                        }
                    }
                } catch {
                    // What could not be read looks like data that is missing.
                    if let trouble = stage.trouble { throw .io(trouble.cause, path: trouble.path) }
                    throw error
                }
                if let trouble = stage.trouble { throw .io(trouble.cause, path: trouble.path) }
                var recovered = Recovered(overlay: overlay, ending: ending, stage: stage)
                if case .slots = source { recovered.isFromSlots = true }
                return recovered
            }
        } catch { throw volumeError(error, directory) }
    }

    static func volumeError(_ problem: LogRecovery.Problem, _ directory: String) -> VolumeError {
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
}

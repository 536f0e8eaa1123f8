import Bytes
import ObjectStore
import Runtime
import Synchronization

/// The edge of the data path. On the volume's loop, but for what says otherwise.
struct DataState {
    struct Waiter {
        let level: LogLevel
        let done: @Sendable (VolumeError?) -> Void
    }

    var waiters: [Waiter] = []
    var isWriting = false
    /// Beside the writing, while nobody waits for it but who has no memory left.
    var isSyncing = false
    var syncWaits: [UnsafeContinuation<Void, Never>] = []
    /// Segments on their way to the store.
    var uploading: Set<UInt64> = []
    var uploadsWaiting: [UnsafeContinuation<Void, Never>] = []
    /// Files of segments that are in the store, until a header has these: another host may go on from the one before.
    var sent: [(path: String, size: Int)] = []
    var isLookingAtSpace = false
    var bytesSinceLook: UInt64 = 0
    /// The log record that tells the newest of the stored segments' checksums.
    var sealed: UInt64 = 0

    /// A whole segment in the store, and what its blocks are.
    struct Unsealed {
        var size: Int
        var checksums: [UInt32]
    }
    /// Of a volume that is only read: segments that the table does not know yet.
    var unsealed: [UInt64: Unsealed] = [:]
    /// Segments whose bytes are not what was stored, and what each header has to go on saying of them.
    var refused: [UInt64: CheckpointHeader.StagedSegment] = [:]
}

extension Headhunter {
    /// Bytes that may be written and not synced before they are synced on the side: while that lasts there is room for as much again.
    private var unsyncedBytesMax: Int { segments.memoryMax / 3 }
    /// Numbers kept at hand for new segments.
    private static let segmentNumbers = 8

    // MARK: Appending

    /// Takes bytes into an open segment: they are copied, and can be read at once. They are lost in a crash until a
    /// change that references them is committed. At most `SegmentFormat.appendBytesMax` (1 MiB) at a time; callable on
    /// any thread. Nil when there is no memory for them: `await room()`, then try again.
    public func append(_ bytes: UnsafeRawBufferPointer, heat: Heat) -> SegmentRange? {
        if isFrozen.load(ordering: .relaxed) { return nil }
        guard let (range, work) = segments.append(bytes, heat: heat, now: world.clock.monotonic()) else {
            askForRoom()
            return nil
        }
        if work.isAsked { loop.execute { self.workOnData() } }
        if work.lacksChunks {
            let segments = segments
            world.blocking.submit({ segments.prepare() }, then: {}, on: loop)
        }
        return range
    }

    /// Bytes that were appended will not be referenced after all.
    public func discard(_ range: SegmentRange) { segments.settle(range.segment, UInt64(range.length)) }

    private func askForRoom() { loop.execute { self.workOnData() } }

    /// Writes what is worth it, uploads what is sealed, fetches numbers.
    private func workOnData() {
        segments.state.withLock { $0.edgeIsAsked = false }
        pumpData()
        startUploads()
        if segments.state.withLock({ $0.numbers.count }) < Self.segmentNumbers / 2 {
            loop.task { await self.fetchNumbers() }
        }
    }

    func fetchNumbers() async {
        while segments.state.withLock({ $0.numbers.count }) < Self.segmentNumbers {
            do throws(VolumeError) {
                let number = try await nonce()
                segments.add(number: number)
            } catch { return }
        }
    }

    private static let roomNanoseconds: UInt64 = 5_000_000

    /// Waits until data has been written, so that `append` has memory, or numbers have come.
    func dataRoom() async throws(VolumeError) {
        await fetchNumbers()
        if data.isSyncing {
            await withUnsafeContinuation { data.syncWaits.append($0) }
        } else {
            try await waitForData(.durable)
        }
        segments.dropSynced()
        guard segments.isFull else { return }
        if let failure { throw failure }
        // All is durable and the store is behind, or no numbers are to be had: whoever asks again at once would only spin.
        // What fills the stage may be open segments, which would never go by themselves.
        if segments.isStageFull { segments.sealAll() }
        startUploads()
        await loop.sleep(nanoseconds: Self.roomNanoseconds)
    }

    // MARK: Committing

    /// Returns when record `number`, all before it and all data that they name have reached `level`.
    public func commit(_ number: UInt64, _ level: LogLevel) async throws(VolumeError) {
        try await told { whenCommitted(number, level, on: loop, $0) }
    }

    /// Waits for the one call of what `begin` is given.
    func told(_ begin: (@escaping @Sendable (VolumeError?) -> Void) -> Void) async throws(VolumeError) {
        let box = Mutex<VolumeError?>(nil)
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            begin { failure in
                box.withLock { $0 = failure }
                continuation.resume()
            }
        }
        if let failure = box.withLock({ $0 }) { throw failure }
    }

    /// The same with a call on `target`, which comes at once if there is nothing to wait for and this is that loop.
    public func whenCommitted(
        _ number: UInt64, _ level: LogLevel, on target: EventLoop, _ done: @escaping @Sendable (VolumeError?) -> Void
    ) {
        if options.logIsInStore, level == .durable { return whenStored(number, on: target, done) }
        // What only this log has is lost when another owner went on without it.
        whenLogged(number, level, on: target) { failure in
            if let failure = failure ?? (self.isOvertaken.load(ordering: .sequentiallyConsistent) ? .fenced : nil) {
                return done(failure)
            }
            self.whenAnswering(on: target, done)
        }
    }

    /// The lease is asked for where the answer is given: time passes on the way between two loops.
    private func whenAnswering(on target: EventLoop, _ done: @escaping @Sendable (VolumeError?) -> Void) {
        if lease.holds { return done(nil) }
        loop.execute {
            self.lease.wait { failure in
                // Given back before anybody knew whether the promise counts.
                let failure = failure ?? (self.lease.isOver ? .closed : nil)
                target.execute {
                    if let failure { done(failure) } else { self.whenAnswering(on: target, done) }
                }
            }
        }
    }

    /// For the engine's own sake: durable on the local disk, wherever the log is that counts.
    func logged(_ number: UInt64) async throws(VolumeError) {
        try await told { whenLogged(number, .durable, on: loop, $0) }
    }

    private func whenLogged(
        _ number: UInt64, _ level: LogLevel, on target: EventLoop, _ done: @escaping @Sendable (VolumeError?) -> Void
    ) {
        @Sendable func logFailure(_ failure: ReplayLog.Failure?) -> VolumeError? {
            failure.map { .readOnly("the replay log failed: \($0.cause)") }
        }
        guard hasData(below: level) else {
            log.wait(for: number, level, on: target) { done(logFailure($0)) }
            return
        }
        // Side by side: neither is of use without the other.
        let join = Mutex<(left: Int, failure: VolumeError?)>((2, nil))
        @Sendable func arrive(_ failure: VolumeError?) {
            let outcome = join.withLock { join -> (isLast: Bool, failure: VolumeError?) in
                join.left -= 1
                join.failure = join.failure ?? failure
                return (join.left == 0, join.failure)
            }
            guard outcome.isLast else { return }
            if target.isCurrent { done(outcome.failure) } else { target.execute { done(outcome.failure) } }
        }
        log.wait(for: number, level, on: loop) { arrive(logFailure($0)) }
        if loop.isCurrent {
            waitForData(level, arrive)
        } else {
            loop.execute { self.waitForData(level, arrive) }
        }
    }

    private func hasData(below level: LogLevel) -> Bool { segments.state.withLock { $0.hasData(below: level) } }

    private func waitForData(_ level: LogLevel, _ done: @escaping @Sendable (VolumeError?) -> Void) {
        data.waiters.append(DataState.Waiter(level: level, done: done))
        pumpData()
    }

    func waitForData(_ level: LogLevel) async throws(VolumeError) {
        try await told { waitForData(level, $0) }
    }

    // MARK: Writing

    /// One run at a time; what comes meanwhile goes with the next. While a sync runs on the side more is written, and who waits for a
    /// sync has his own afterwards: a file tells one of two what went wrong.
    private func pumpData() {
        guard !data.isWriting else { return }
        let isSyncing = data.isSyncing
        let waiters = data.waiters.filter { !isSyncing || $0.level != .durable }
        let sync = waiters.contains { $0.level == .durable }
        let last = log.last
        let plan = segments.state.withLock { state -> Plan in
            var plan = Plan()
            for number in state.stages.keys.sorted() {
                guard let stage = state.stages[number], stage.synced < stage.size else { continue }
                if !stage.isSuspect {
                    plan.unsynced += stage.written - stage.synced
                    plan.hasWhole = plan.hasWhole || stage.isWhole
                }
                // Nobody waits: whole chunks only, so that the rest of a chunk is written once.
                let end =
                    waiters.isEmpty && !stage.isSealed
                    ? stage.size / Segments.chunkSize * Segments.chunkSize : stage.size
                // What only lacks its sync is left alone without one: it may be complete, and gone, any moment.
                if end > (sync || stage.isSuspect && !waiters.isEmpty ? stage.synced : stage.written) {
                    plan.ends.append((stage, end))
                    plan.unwritten += max(0, end - stage.written)
                }
                plan.isAll = plan.isAll && end == stage.size
            }
            return plan
        }
        // A store elsewhere that has nothing to do waits for the sync alone.
        let isAwaited = plan.hasWhole && data.uploading.isEmpty && !store.capabilities.adoptsFiles
        if !sync, !isSyncing, plan.unsynced > unsyncedBytesMax || isAwaited { syncAside() }
        data.waiters.removeAll { !isSyncing || $0.level != .durable }
        guard !plan.ends.isEmpty else {
            for waiter in waiters { waiter.done(nil) }
            return
        }
        data.isWriting = true
        data.bytesSinceLook += UInt64(plan.unwritten)
        if data.bytesSinceLook > SpaceWatch.bytesBetween { checkSpace() }
        let segments = segments
        let writer = stageWriter
        let outcome = Mutex<Errno?>(nil)
        world.blocking.submit(
            {
                // One that can not be written must not keep the others from the disk.
                for (stage, end) in plan.ends {
                    do throws(Errno) { try writer.write(stage, upTo: end, sync: sync) } catch {
                        outcome.withLock { $0 = $0 ?? error }
                    }
                }
                segments.dropSynced()
            },
            then: {
                self.data.isWriting = false
                let failure = outcome.withLock { $0 }.map { error -> VolumeError in
                    error == .canceled ? .closed : .unavailable("writing file data to \(self.stageDirectory): \(error)")
                }
                if failure == nil, sync, plan.isAll { segments.state.withLock { $0.durable = max($0.durable, last) } }
                for waiter in waiters { waiter.done(failure) }
                self.log.mark()
                // After a failure nobody is served by trying again at once: the next one who waits tries.
                if failure == nil || !self.data.waiters.isEmpty { self.pumpData() }
                self.startUploads()
            }, on: loop)
    }

    private struct Plan: @unchecked Sendable {
        var ends: [(Segments.Stage, Int)] = []
        /// Written and not synced.
        var unsynced = 0
        /// A sealed segment lacks nothing but its sync.
        var hasWhole = false
        var unwritten = 0
        var isAll = true
    }

    private var stageWriter: StageWriter {
        StageWriter(
            disk: world.disk, directory: stageDirectory, segments: segments, written: writtenCache,
            isFinal: store.capabilities.adoptsFiles)
    }

    /// Syncs what is written, so that its memory can go, while more is being written.
    private func syncAside() {
        struct Part: @unchecked Sendable {
            let stage: Segments.Stage
            let file: any DiskFile
            let end: Int
        }
        data.isSyncing = true
        let parts = segments.state.withLock { state in
            state.stages.keys.sorted().compactMap { number -> Part? in
                guard let stage = state.stages[number], let file = stage.file, !stage.isSuspect,
                    stage.synced < stage.written
                else { return nil }
                return Part(stage: stage, file: file, end: stage.written)
            }
        }
        let segments = segments
        let writer = stageWriter
        world.blocking.submit(
            {
                for part in parts { writer.sync(part.stage, part.file, upTo: part.end) }
                segments.dropSynced()
            },
            then: {
                self.data.isSyncing = false
                let waiting = self.data.syncWaits
                self.data.syncWaits.removeAll()
                for continuation in waiting { continuation.resume() }
                self.log.mark()
                self.pumpData()
                self.startUploads()
            }, on: loop)
    }
}

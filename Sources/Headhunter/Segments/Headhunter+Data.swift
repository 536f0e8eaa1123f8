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
    var isUploading = false
    var uploadsWaiting: [UnsafeContinuation<Void, Never>] = []
    var isLookingAtSpace = false
    var bytesSinceLook: UInt64 = 0
    /// The log record that tells the newest of the stored segments' checksums.
    var sealed: UInt64 = 0
    /// The data of all records up to this number is durable.
    var durable: UInt64
}

extension Headhunter {
    /// Bytes that may be written and not synced before they are synced on the side.
    private static let unsyncedBytesMax = 48 << 20
    /// Numbers kept at hand for new segments.
    private static let segmentNumbers = 8

    // MARK: Appending

    /// Takes bytes into an open segment: they are copied, and can be read at once. They are lost in a crash until a
    /// change that references them is committed. At most `SegmentFormat.appendBytesMax` (1 MiB) at a time; callable on
    /// any thread. Nil when there is no memory for them: `await room()`, then try again.
    public func append(_ bytes: UnsafeRawBufferPointer, heat: Heat) -> SegmentRange? {
        if isFrozen.load(ordering: .relaxed) { return nil }
        guard let (range, askEdge) = segments.append(bytes, heat: heat, now: world.clock.monotonic()) else {
            askForRoom()
            return nil
        }
        if askEdge { loop.execute { self.workOnData() } }
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
                // Rising, because the last one is taken first.
                segments.state.withLock { $0.numbers.insert(number, at: 0) }
            } catch { return }
        }
    }

    private static let roomNanoseconds: UInt64 = 5_000_000

    /// Waits until data has been written, so that `append` has memory, or numbers have come.
    func dataRoom() async throws(VolumeError) {
        await fetchNumbers()
        try await waitForData(.durable)
        if !data.isWriting { segments.dropSynced() }
        guard segments.isFull else { return }
        if let failure { throw failure }
        // All is durable and the store is behind, or no numbers are to be had: whoever asks again at once would only spin.
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
        whenLogged(number, level, on: target, done)
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

    private func hasData(below level: LogLevel) -> Bool {
        segments.state.withLock { state in
            state.stages.values.contains { (level == .durable ? $0.synced : $0.written) < $0.size }
        }
    }

    private func waitForData(_ level: LogLevel, _ done: @escaping @Sendable (VolumeError?) -> Void) {
        data.waiters.append(DataState.Waiter(level: level, done: done))
        pumpData()
    }

    private func waitForData(_ level: LogLevel) async throws(VolumeError) {
        try await told { waitForData(level, $0) }
    }

    /// Up to which record the data is durable that records name. Data is appended before the record that names it gets
    /// its number, so what is durable after a number was read covers that number.
    func dataDurable() -> UInt64 {
        let last = log.last
        if !hasData(below: .durable) { data.durable = max(data.durable, last) }
        return data.durable
    }

    // MARK: Writing

    /// One run at a time; what comes meanwhile goes with the next.
    private func pumpData() {
        guard !data.isWriting else { return }
        let waiters = data.waiters
        let last = log.last
        let plan = segments.state.withLock { state -> (ends: [(Segments.Stage, Int)], unsynced: Int, isAll: Bool) in
            var ends: [(Segments.Stage, Int)] = []
            var unsynced = 0
            var isAll = true
            for number in state.stages.keys.sorted() {
                guard let stage = state.stages[number], stage.synced < stage.size else { continue }
                unsynced += stage.size - stage.synced
                // Nobody waits: whole chunks only, so that the rest of a chunk is written once.
                let end =
                    waiters.isEmpty && !stage.isSealed
                    ? stage.size / Segments.chunkSize * Segments.chunkSize : stage.size
                if end > stage.synced { ends.append((stage, end)) }
                isAll = isAll && end == stage.size
            }
            return (ends, unsynced, isAll)
        }
        let sync = waiters.contains { $0.level == .durable } || plan.unsynced > Self.unsyncedBytesMax
        guard !plan.ends.isEmpty, sync || !waiters.isEmpty || plan.ends.contains(where: { $0.0.written < $0.1 }) else {
            data.waiters.removeAll()
            for waiter in waiters { waiter.done(nil) }
            return
        }
        data.isWriting = true
        data.waiters.removeAll()
        data.bytesSinceLook += UInt64(plan.unsynced)
        if data.bytesSinceLook > SpaceWatch.bytesBetween { checkSpace() }
        let segments = segments
        let writer = StageWriter(disk: world.disk, directory: stageDirectory, segments: segments)
        let outcome = Mutex<Errno?>(nil)
        world.blocking.submit(
            {
                do throws(Errno) {
                    for (stage, end) in plan.ends { try writer.write(stage, upTo: end, sync: sync) }
                    segments.dropSynced()
                } catch {
                    outcome.withLock { $0 = error }
                }
            },
            then: {
                self.data.isWriting = false
                let failure = outcome.withLock { $0 }.map { error -> VolumeError in
                    error == .canceled ? .closed : .unavailable("writing file data to \(self.stageDirectory): \(error)")
                }
                if failure == nil, sync, plan.isAll { self.data.durable = max(self.data.durable, last) }
                for waiter in waiters { waiter.done(failure) }
                self.log.mark()
                // After a failure nobody is served by trying again at once: the next one who waits tries.
                if failure == nil || !self.data.waiters.isEmpty { self.pumpData() }
                self.startUploads()
            }, on: loop)
    }

    // MARK: Uploading

    func startUploads() {
        guard !data.isUploading else { return }
        let sealed = segments.state.withLock { state in
            state.stages.values.filter { $0.isSealed && $0.synced == $0.size }.sorted { $0.number < $1.number }
        }
        // Also after a failure, whoever it hit: those who wait find it, and would wait for ever otherwise.
        guard checkpoints.failure == nil, let first = sealed.first else { return endUploadWaits() }
        data.isUploading = true
        loop.task {
            await self.upload(first)
            self.data.isUploading = false
            self.startUploads()
        }
    }

    /// Gives a synced, sealed segment to the store and writes down what it is. Tries until it is done: the segment
    /// can not be given up.
    private func upload(_ stage: Segments.Stage) async {
        let name = objectName(ObjectNaming.segment, stage.number)
        do throws(Errno) { try await computeChecksums(stage) } catch {
            return failData(.unavailable("reading \(stage.path): \(error)"))
        }
        while checkpoints.failure == nil {
            do throws(StoreError) {
                try await store.put(name, .file(path: stage.path, size: UInt64(stage.size)))
                break
            } catch {
                if let failure = patience(error, "writing \(name)") { return failData(failure) }
            }
            await loop.sleep(nanoseconds: Self.retryNanoseconds)
        }
        guard checkpoints.failure == nil else { return }
        checkpoints.trouble = nil
        do throws(VolumeError) {
            let number = try await seal(
                stage.number, size: UInt64(stage.size), heat: { (_) throws(Missing) in stage.heat },
                checksums: stage.checksums.all)
            data.sealed = max(data.sealed, number)
        } catch {
            return failData(error)
        }
        segments.forget(stage)
        if !store.capabilities.adoptsFiles {
            let path = stage.path
            let disk = world.disk
            await world.blocking.run(on: loop) { () throws(Never) -> Void in
                do throws(Errno) { try disk.remove(path) } catch { return }
            }
        }
    }

    /// Writes down that a segment is in the store: its checksums first, in as many changes as it takes.
    private func seal(
        _ segment: UInt64, size: UInt64, heat: (Change) throws(Missing) -> Heat, checksums: [UInt32]
    ) async throws(VolumeError) -> UInt64 {
        var next = 0
        while next < SegmentTable.checksumKeys(blocks: checksums.count) {
            let first = next
            try await patiently { () async throws(VolumeError) in
                _ = try await self.change(isUrgent: true) { (change) throws(Missing) -> Void in
                    SegmentTable.putChecksums(change, segment, from: first, checksums)
                }
            }
            next += SegmentTable.checksumKeysPerChange
        }
        return try await patiently { () async throws(VolumeError) in
            try await self.change(isUrgent: true) { (change) throws(Missing) -> Void in
                try SegmentTable.seal(change, segment, size: size, heat: try heat(change))
            }.number
        }
    }

    private func computeChecksums(_ stage: Segments.Stage) async throws(Errno) {
        guard !stage.hasChecksums, let file = segments.state.withLock({ _ in stage.file }) else { return }
        let checksums = try await world.blocking.run(on: loop) { () throws(Errno) -> BlockChecksums in
            var checksums = BlockChecksums()
            let buffer = Block(capacity: Segments.chunkSize)
            defer { extendLifetime(buffer) }
            var place = 0
            while place < stage.size {
                let target = UnsafeMutableRawBufferPointer(
                    start: buffer.base, count: min(Segments.chunkSize, stage.size - place))
                guard try file.read(into: target, at: UInt64(place)) == target.count else { throw .io }
                checksums.update(UnsafeRawBufferPointer(target))
                place += target.count
            }
            return checksums
        }
        stage.checksums = checksums
        stage.hasChecksums = true
    }

    private func failData(_ error: VolumeError) {
        checkpoints.failure = checkpoints.failure ?? error
        fail(error)
        endCheckpointWaits()
        endUploadWaits()
    }

    private func endUploadWaits() {
        let waiting = data.uploadsWaiting
        data.uploadsWaiting.removeAll()
        for continuation in waiting { continuation.resume() }
    }

    /// All segments that hold data now are in the store when this returns.
    func uploadAll(_ stages: [Segments.Stage]) async throws(VolumeError) {
        while segments.state.withLock({ state in stages.contains { state.stages[$0.number] != nil } }) {
            if let failure = checkpoints.failure { throw failure }
            do throws(VolumeError) {
                try await waitForData(.durable)
            } catch {
                if error == .closed { throw error }
                checkpoints.trouble = "\(error)"
                await loop.sleep(nanoseconds: Self.retryNanoseconds)
                continue
            }
            guard segments.state.withLock({ state in stages.contains { state.stages[$0.number] != nil } }) else {
                break
            }
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                data.uploadsWaiting.append(continuation)
                startUploads()
            }
        }
        if let failure = checkpoints.failure { throw failure }
    }

    // MARK: Recovery

    private static let marksSlice = 256

    /// Segments that files name, of which the table does not know whether they got to the store: those without a
    /// stage file are there, or something is wrong.
    func settleSegments(_ named: [UInt64: [SegmentRange]]) async throws(VolumeError) {
        var next: UInt64 = 0
        while true {
            let from = next
            let marked = try await read { (view) throws(Missing) -> [UInt64] in
                try SegmentTable.marked(view, SegmentTable.stagedTag, from: from, limit: Self.marksSlice)
            }
            guard let last = marked.last else { return }
            for segment in marked where segments.stage(segment) == nil {
                try await settle(segment, named[segment] ?? [])
            }
            next = last + 1
        }
    }

    private func settle(_ segment: UInt64, _ named: [SegmentRange]) async throws(VolumeError) {
        let name = objectName(ObjectNaming.segment, segment)
        let checksums: BlockChecksums
        let size: UInt64
        do throws(StoreError) {
            guard let found = try await store.head(name) else {
                let live = try await liveBytes(segment)
                guard live == 0 else {
                    throw .corrupt("\(live) bytes of files are in it, and it is neither staged nor in the store")
                }
                try await forgetSegment(segment)
                return
            }
            size = found
            var sums = BlockChecksums()
            var place: UInt64 = 0
            while place < size {
                let end = min(place + UInt64(Segments.chunkSize), size)
                let block = try await store.get(name, range: place..<end)
                sums.update(block.bytes)
                extendLifetime(block)
                place = end
            }
            checksums = sums
            for range in named {
                let start = UInt64(range.offset)
                let block = try await store.get(name, range: start..<(start + UInt64(range.length)))
                defer { extendLifetime(block) }
                guard CRC32C.of(block.bytes) == range.checksum else {
                    throw .corrupt("the bytes at \(start) are not what the log says")
                }
            }
        } catch {
            throw Self.volumeError(error, "\(name)")
        }
        _ = try await seal(
            segment, size: size,
            heat: { (change) throws(Missing) in
                try SegmentTable.read(change, segment).flatMap { Heat(rawValue: $0.heat) } ?? .small
            }, checksums: checksums.all)
    }

    private func liveBytes(_ segment: UInt64) async throws(StoreError) -> UInt64 {
        do throws(VolumeError) {
            return try await read { (view) throws(Missing) -> UInt64 in
                try SegmentTable.read(view, segment)?.live ?? 0
            }
        } catch { throw .unavailable("\(error)") }
    }

    private func forgetSegment(_ segment: UInt64) async throws(StoreError) {
        do throws(VolumeError) {
            var left = 1
            while left > 0 {
                left = try await change(isUrgent: true) { (change) throws(Missing) -> Int in
                    let left = try SegmentTable.remove(change, segment)
                    if left == 0 { SegmentTable.unmark(change, SegmentTable.stagedTag, segment) }
                    return left
                }.0
            }
        } catch { throw .unavailable("\(error)") }
    }
}

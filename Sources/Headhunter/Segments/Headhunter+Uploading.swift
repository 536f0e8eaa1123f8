import Bytes
import ObjectStore
import Runtime
import Synchronization

/// Segments on their way from the stage to the store. On the volume's loop.
extension Headhunter {
    /// Segments on their way to the store at once: some places are left for what somebody waits for.
    private var uploadsMax: Int {
        max(1, min(max(4, store.writesMax / 2), Self.uploadBytesMax / options.flushBytes))
    }
    /// Half of what writes may have under way.
    private static let uploadBytesMax = 256 << 20

    func startUploads() {
        // Also after a failure, whoever it hit: those who wait find it, and would wait for ever otherwise.
        guard checkpoints.failure == nil else { return endUploadWaits() }
        if options.logIsShared, segments.keepsMuch { startCheckpoint() }
        let uploading = data.uploading
        let sealed = segments.state.withLock { state in
            state.stages.values.filter {
                $0.isSealed && $0.synced == $0.size && !uploading.contains($0.number)
            }.sorted { $0.number < $1.number }
        }
        for stage in sealed.prefix(uploadsMax - uploading.count) {
            data.uploading.insert(stage.number)
            loop.task {
                await self.upload(stage)
                self.data.uploading.remove(stage.number)
                // Those who wait look for themselves: theirs may be in the store while others keep coming.
                self.endUploadWaits()
                self.startUploads()
            }
        }
        if data.uploading.isEmpty { endUploadWaits() }
    }

    /// Gives a synced, sealed segment to the store and writes down what it is. Tries until it is done: the segment
    /// can not be given up.
    private func upload(_ stage: Segments.Stage) async {
        let name = objectName(ObjectNaming.segment, stage.number)
        let size = UInt64(stage.size)
        var trying = Trying()
        defer { ease(&trying) }
        while checkpoints.failure == nil {
            // A store that can not take the file gets the bytes: those in memory need no reading.
            let source = StageBody(stage, segments, world: world, loop: loop)
            do throws(StoreError) {
                let body: ObjectBody =
                    store.capabilities.adoptsFiles
                    ? .file(path: stage.path, size: size) : .stream(source, size: size)
                // Who has the file as it was when the lease ended would send other bytes than we.
                if options.logIsShared {
                    do throws(VolumeError) { try await proven() } catch { return failData(error) }
                }
                try await store.put(name, body)
                break
            } catch {
                if let failure = patience(source.failure ?? error, "writing \(name)", &trying) {
                    return failData(failure)
                }
            }
            await loop.sleep(nanoseconds: trying.next())
        }
        guard checkpoints.failure == nil else { return }
        ease(&trying)
        do throws(VolumeError) {
            let number = try await seal(
                stage.number, size: UInt64(stage.size), heat: { (_) throws(Missing) in stage.heat },
                checksums: stage.checksums.all)
            data.sealed = max(data.sealed, number)
        } catch {
            return failData(error)
        }
        segments.forget(stage, keepsFile: options.logIsShared)
        if options.logIsShared {
            data.sent.append((stage.path, stage.size))
        } else if !store.capabilities.adoptsFiles {
            await removeStages([stage.path])
        }
    }

    /// What stays is found by the next opening.
    private func removeStages(_ paths: [String]) async {
        let disk = world.disk
        await world.blocking.run(on: loop) { () throws(Never) -> Void in
            for path in paths { do throws(Errno) { try disk.remove(path) } catch { continue } }
        }
    }

    /// A header has the segments of the first `count` files.
    func dropSent(_ count: Int) async {
        guard count > 0 else { return }
        let files = Array(data.sent.prefix(count))
        data.sent.removeFirst(count)
        await removeStages(files.map(\.path))
        segments.dropped(files.reduce(0) { $0 + $1.size })
    }

    /// Writes down that a segment is in the store: its checksums first, in as many changes as it takes.
    func seal(
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
        var trying = Trying()
        defer { ease(&trying) }
        while segments.state.withLock({ state in stages.contains { state.stages[$0.number] != nil } }) {
            if let failure = checkpoints.failure { throw failure }
            do throws(VolumeError) {
                try await waitForData(.durable)
            } catch {
                if error == .closed { throw error }
                note(Self.words(error), &trying)
                await loop.sleep(nanoseconds: trying.next())
                continue
            }
            ease(&trying)
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
}

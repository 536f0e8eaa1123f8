import Bytes
import ObjectStore
import Runtime

/// What is known of the deleting of objects that nobody needs any more. On the volume's loop only.
struct Cleaning {
    /// Objects that a header lists as doomed. What is above that stays where it is known as well: dead segments in their
    /// table, empty metadata objects among the others, left-over objects in the store.
    static let listedMax = 1 << 16
    /// Deletes on their way to the store at once.
    static let deletesMax = 16
    /// Dead segments taken out of the table between two checkpoints.
    static let segmentsMax = 4096
    /// A store that refuses to delete is asked again after this long, and after twice as long each time.
    static let pauseMin: UInt64 = 1_000_000_000
    static let pauseMax: UInt64 = 600_000_000_000

    var isRunning = false
    /// As trouble it is known until it goes well.
    var trying = Trying()
    /// Headers below this have been deleted.
    var headersFrom: UInt64 = 0
    /// Headers of the last `keepNanoseconds`, the oldest first.
    var kept: [(time: UInt64, number: UInt64)] = []
    /// The header that was the first to list it, of what is doomed.
    var since: [DoomedObject: UInt64] = [:]
    var pause: UInt64 = 0
    var notBefore: UInt64 = 0
    /// Dead segments taken out of the table since the newest header.
    var segmentsRemoved = 0
}

/// Deleting: beside the checkpoints, which never wait for it.
extension Headhunter {
    /// Deletes what the newest header says that nobody needs, and finds what the next one is to say so of.
    func startCleaning() {
        guard !checkpoints.cleaning.isRunning, mayClean else { return }
        checkpoints.cleaning.isRunning = true
        loop.task {
            do throws(VolumeError) {
                try await self.clean()
                try await self.removeDeadSegments()
                self.ease(&self.checkpoints.cleaning.trying)
            } catch {
                // Without consequence for anybody: it is tried again after the next checkpoint.
                if error != .closed { self.note(Self.words(error), &self.checkpoints.cleaning.trying) }
            }
            self.checkpoints.cleaning.isRunning = false
        }
    }

    /// Nothing is deleted from a volume that is being copied, or that is another one's.
    private var mayClean: Bool { !standsStill && !checkpoints.isClosing && checkpoints.failure == nil }

    private func clean() async throws(VolumeError) {
        guard world.clock.monotonic() >= checkpoints.cleaning.notBefore else { return }
        guard let (newest, listed) = ripe() else { return }
        do throws(StoreError) {
            try await deleteHeaders(behind: newest)
            var next = 0
            while next < listed.count, mayClean {
                let part = listed[next..<min(next + Cleaning.deletesMax, listed.count)]
                next += part.count
                try await delete(part.filter { checkpoints.doomed.contains($0) })
            }
            checkpoints.cleaning.pause = 0
        } catch {
            let pause = min(max(checkpoints.cleaning.pause * 2, Cleaning.pauseMin), Cleaning.pauseMax)
            checkpoints.cleaning.pause = pause
            checkpoints.cleaning.notBefore = world.clock.monotonic() + pause
            throw Self.volumeError(error, "deleting what nobody needs")
        }
    }

    /// The newest header that has been there for long enough: what it does not need goes. Nil: none has.
    private func ripe() -> (number: UInt64, doomed: [DoomedObject])? {
        guard options.keepNanoseconds > 0 else { return (checkpoints.header.number, checkpoints.header.doomed) }
        let now = world.clock.monotonic()
        guard let last = checkpoints.cleaning.kept.lastIndex(where: { now - $0.time >= options.keepNanoseconds }) else {
            return nil
        }
        checkpoints.cleaning.kept.removeFirst(last)
        let number = checkpoints.cleaning.kept[0].number
        let since = checkpoints.cleaning.since
        return (number, checkpoints.header.doomed.filter { since[$0] ?? .max <= number })
    }

    /// Readers elsewhere, and copies, have some time for what a header names, `age` of which has passed.
    func keep(_ header: CheckpointHeader, for age: UInt64 = 0) {
        guard options.keepNanoseconds > 0 else { return }
        let now = world.clock.monotonic()
        checkpoints.cleaning.kept.append((now - min(age, now), header.number))
        for object in header.doomed where checkpoints.cleaning.since[object] == nil {
            checkpoints.cleaning.since[object] = header.number
        }
    }

    /// Headers of earlier openings have had their time as well: the newest of these is found by halves, so that nothing stays for ever
    /// where openings are closer to each other than that.
    func findRipe(before found: UInt64) async {
        guard options.keepNanoseconds > 0 else { return }
        let limit = world.clock.wall() - Int64(clamping: options.keepNanoseconds)
        do {
            let numbers = try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.header))
                .compactMap { ObjectNaming.number($0, prefix, ObjectNaming.header) }.filter { $0 < found }.sorted()
            var (low, high) = (0, numbers.count)
            var ripe: CheckpointHeader?
            while low < high {
                let middle = (low + high) / 2
                let header = try await Self.readHeader(store, prefix, numbers[middle])
                if header.wall <= limit { (ripe, low) = (header, middle + 1) } else { high = middle }
            }
            guard let ripe, checkpoints.cleaning.kept.first.map({ $0.number > ripe.number }) ?? true else { return }
            let now = world.clock.monotonic()
            checkpoints.cleaning.kept.insert((now - min(options.keepNanoseconds, now), ripe.number), at: 0)
            for object in ripe.doomed where checkpoints.doomed.contains(object) {
                checkpoints.cleaning.since[object] = ripe.number
            }
        } catch {
            // The next opening looks again.
            return
        }
    }

    /// What is deleted leaves the list; what is not stays in it.
    private func delete(_ objects: [DoomedObject]) async throws(StoreError) {
        let failure = await withTaskGroup(of: Deletion.self) { group -> StoreError? in
            for object in objects { group.addTask { await self.delete(object) } }
            var failure: StoreError?
            for await deletion in group {
                if deletion.failure == nil {
                    checkpoints.doomed.remove(deletion.object)
                    checkpoints.cleaning.since[deletion.object] = nil
                }
                failure = failure ?? deletion.failure
            }
            return failure
        }
        if let failure { throw failure }
    }

    private struct Deletion: Sendable {
        var object: DoomedObject
        var failure: StoreError?
    }

    private func delete(_ object: DoomedObject) async -> Deletion {
        var deletion = Deletion(object: object)
        let kind = object.kind == .metadata ? ObjectNaming.metadata : ObjectNaming.segment
        do throws(StoreError) { try await store.delete(objectName(kind, object.number)) } catch {
            deletion.failure = error
        }
        return deletion
    }

    /// The header before the newest stays: somebody who opens the volume read-only may be reading it.
    private func deleteHeaders(behind newest: UInt64) async throws(StoreError) {
        guard newest >= 3, checkpoints.cleaning.headersFrom < newest - 1 else { return }
        // Where a listing may not show the newest one, its number is all that leads to it.
        guard store.capabilities.listsConsistently || checkpoints.hinted >= newest - 1 else { return }
        let boundary = newest - 2
        try await store.put(objectName(ObjectNaming.boundary, boundary), .blocks([Block(capacity: 0)]))
        for kind in [ObjectNaming.header, ObjectNaming.boundary] {
            for name in try await store.names(prefix: ObjectNaming.prefix(prefix, kind)) {
                guard let number = ObjectNaming.number(name, prefix, kind) else { continue }
                if number < boundary || number == boundary && kind == ObjectNaming.header {
                    try await store.delete(name)
                }
            }
        }
        checkpoints.cleaning.headersFrom = newest - 1
    }

    private static let deadSegmentsSlice = 64

    /// Takes dead segments out of the table. Their objects are doomed from here on: they go when a header is durable
    /// that has them in its list, and so names none of their bytes.
    private func removeDeadSegments() async throws(VolumeError) {
        var from: UInt64 = 0
        while mayClean, checkpoints.doomed.count < Cleaning.listedMax {
            let start = from
            let dead = try await read { (view) throws(Missing) -> [UInt64] in
                try SegmentTable.marked(view, SegmentTable.deadTag, from: start, limit: Self.deadSegmentsSlice)
            }
            for segment in dead where mayClean {
                guard try await removeSegment(segment) else { continue }
                checkpoints.doomed.insert(DoomedObject(kind: .segment, number: segment))
                checkpoints.cleaning.segmentsRemoved += 1
            }
            guard dead.count == Self.deadSegmentsSlice, let last = dead.last else { return }
            from = last + 1
            if checkpoints.cleaning.segmentsRemoved >= Cleaning.segmentsMax {
                // Their space is to come back before there are as many again.
                checkpoints.cleaning.segmentsRemoved = 0
                return startCheckpoint()
            }
        }
    }

    /// Takes a segment without a live byte out of the table. False: it has some again.
    private func removeSegment(_ segment: UInt64) async throws(VolumeError) -> Bool {
        while true {
            let (left, _) = try await change(isUrgent: true) { (change) throws(Missing) -> Int? in
                guard !self.segments.isPromised(segment), let record = try SegmentTable.read(change, segment),
                    record.live == 0
                else { return nil }
                return try SegmentTable.remove(change, segment)
            }
            guard let left else { return false }
            if left == 0 { return true }
        }
    }

    // MARK: Left-over objects

    private static let namesMax = 1_000

    /// Objects that a crash left in the store and that nothing names: metadata of a checkpoint that got no header, a
    /// segment that was stored before its first reference was.
    func collectOrphans(below limit: UInt64) async {
        do throws(StoreError) {
            for (kind, doomed) in [
                (ObjectNaming.metadata, DoomedObject.Kind.metadata), (ObjectNaming.segment, .segment),
            ] {
                var after: String?
                repeat {
                    let page = try await store.list(
                        prefix: ObjectNaming.prefix(prefix, kind), after: after, limit: Self.namesMax)
                    for entry in page.entries where checkpoints.failure == nil && !checkpoints.isClosing {
                        guard let number = ObjectNaming.number(entry.name, prefix, kind), number < limit else {
                            continue
                        }
                        if doomed == .metadata ? checkpoints.objects[number] != nil : try await isKnownSegment(number) {
                            continue
                        }
                        // The others are found again at the next start.
                        guard checkpoints.doomed.count < Cleaning.listedMax else { return }
                        checkpoints.doomed.insert(DoomedObject(kind: doomed, number: number))
                    }
                    after = page.isTruncated ? page.entries.last?.name.text : nil
                } while after != nil
            }
        } catch {
            // They are found again at the next start.
            return
        }
    }

    private func isKnownSegment(_ segment: UInt64) async throws(StoreError) -> Bool {
        if segments.stage(segment) != nil { return true }
        do throws(VolumeError) {
            return try await read { (view) throws(Missing) -> Bool in try SegmentTable.read(view, segment) != nil }
        } catch { throw .unavailable("\(error)") }
    }
}

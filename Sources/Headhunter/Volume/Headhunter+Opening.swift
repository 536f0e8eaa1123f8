import Bytes
import ObjectStore
import Runtime
import Synchronization

/// Making, opening and closing a volume. On the volume's loop.
extension Headhunter {
    /// Makes an empty volume below `prefix` in the store. Fails when there is one.
    public static func create(world: World, store: ObjectStore, prefix: String) async throws(VolumeError) {
        let header = CheckpointHeader(
            volume: VolumeIdentity(high: world.random.next(), low: world.random.next()), number: 1, epoch: 0,
            nonces: 1, logFirst: 1, logDurable: 0, treeEpoch: 0, wall: world.clock.wall(), trees: [], objects: [],
            doomed: [])
        var found: ObjectName?
        do throws(StoreError) {
            guard try await isFree(store, prefix) else { throw .exists }
            let headers = headers(below: prefix)
            found = try await store.list(prefix: headers, limit: 1).entries.first?.name
            if found == nil {
                // Of an arbiter's names the line above asks it alone; this asks the store. A listing may have what is deleted.
                for entry in try await store.list(prefix: String(headers.dropLast()), limit: headersLookedAt).entries
                where found == nil && entry.name.text.hasPrefix(headers) {
                    if try await store.head(entry.name) != nil { found = entry.name }
                }
            }
            if found == nil {
                try await store.put(
                    ObjectNaming.name(prefix, ObjectNaming.header, 1), .blocks([header.encoded()]), condition: .absent)
                // Behind the header: a volume that was made half way is opened, not stuck.
                try await identify(store, prefix, header.volume)
            }
        } catch {
            throw volumeError(error, "making a volume")
        }
        if let found {
            throw .unknownFormat(
                "\(found) is no header that is known here: is the store one with an arbiter, and with this one?")
        }
    }

    private static let headersLookedAt = 1_000

    /// What the names of the headers of the volume below `prefix` begin with.
    public static func headers(below prefix: String) -> String { ObjectNaming.prefix(prefix, ObjectNaming.header) }

    static func newestHeader(_ store: ObjectStore, _ prefix: String) async throws(StoreError) -> UInt64? {
        var newest: UInt64?
        for name in try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.header)) {
            guard let number = ObjectNaming.number(name, prefix, ObjectNaming.header) else { continue }
            newest = max(newest ?? 0, number)
        }
        // A listing may be older than the newest one.
        return store.capabilities.listsConsistently ? newest : try await Self.newest(from: newest, store, prefix)
    }

    static func readHeader(
        _ store: ObjectStore, _ prefix: String, _ number: UInt64, _ stored: ObjectName? = nil
    ) async throws(VolumeError) -> CheckpointHeader {
        let name = stored ?? ObjectNaming.name(prefix, ObjectNaming.header, number)
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
        if options.follows { return try await follow(world, loop, store, prefix, directory, options) }
        let start = world.clock.monotonic()
        var found = try await newestOf(store, prefix)
        if options.isReadOnly { return try await look(world, loop, store, prefix, directory, options, found, start) }

        if options.takesOver { found = try await whole(store, prefix, found) }
        let place = try await place(
            world, loop, directory, found, takesOver: options.takesOver, isShared: options.logIsShared)
        var taken: Claim?
        if options.logIsShared || options.takesOver && found.log != 0 && found.log != place {
            let claim = try await claim(world, store, prefix, found, options, place: place)
            (taken, found) = (claim, claim.found)
            // What the owner before may still promise is in the log that is read next.
            if options.logIsShared {
                await outwait(claim, world, loop, options)
                if options.takesOver, found.log != 0, found.log != place {
                    try await setAside(world, loop, directory, found.epoch, below: claim.epoch << takeoverShift)
                }
            }
        }
        let epoch = taken?.epoch ?? found.epoch + 1
        var slots: StoreLogRecovery?
        if found.firstSlot != nil {
            slots = try await StoreLogRecovery(store, prefix, found, epoch: epoch, random: world.random)
        }
        var recovered = try await recover(
            world, loop, store, prefix, directory, found, slots, place: place, isShared: options.logIsShared)
        if options.logIsShared {
            // Behind a later owner's files ours would count, and theirs would not.
            guard recovered.ending.sequence <= epoch << takeoverShift else { throw .fenced }
            recovered.ending.sequence = epoch << takeoverShift
        }
        try await finishStages(world, loop, recovered.stage, directory)
        recovered.ending = try await settleLog(world, loop, recovered.ending, directory, found)
        var claim = found
        claim.log = place
        claim.number = (taken?.number ?? found.number) + 1
        (claim.epoch, claim.slotsEpoch) = (epoch, epoch)
        claim.lease = options.leaseNanoseconds
        claim.wall = world.clock.wall()
        claim.logDurable = recovered.ending.next - 1
        // What slots hold behind this was not recovered, or cut before; its numbers are others' by now.
        claim.slotsEnd = min(slots?.end ?? 0, recovered.ending.next)
        claim.nonces = max(claim.nonces, SystemTree.nonces(in: recovered.overlay) ?? 0)
        // The owner before may have reserved more than the log in the store tells.
        if recovered.isFromSlots || options.takesOver || options.logIsShared {
            claim.nonces = max(claim.nonces, claim.epoch << takeoverShift)
        }
        guard claim.nonces < CheckpointHeader.numberMax - options.nonceRange else {
            throw .damaged("the replay log in \(directory) reserves more numbers than there are")
        }
        claim.nonces += options.nonceRange

        let log = ReplayLog(
            world: world, loop: loop, directory: directory, volume: claim.volume, epoch: claim.epoch,
            sequence: recovered.ending.sequence, next: recovered.ending.next, chain: recovered.ending.chain,
            files: recovered.ending.files, reserveBytes: options.logReserveBytes, pushBytes: options.logPushBytes)
        let headhunter = Headhunter(
            world: world, loop: loop, store: store, prefix: prefix, options: options, header: claim, log: log,
            overlay: recovered.overlay.isEmpty ? nil : recovered.overlay, logBytes: recovered.ending.bytes,
            stageDirectory: stageDirectory(directory), place: place)
        try await headhunter.beginStoring(slots)
        log.setDataDurable { [segments = headhunter.segments] in segments.durable(of: $0) }
        headhunter.segments.adopt(recovered.stage.chosen)
        headhunter.nonces.next = claim.nonces - options.nonceRange
        do throws(StoreError) { try await identify(store, prefix, claim.volume) } catch {
            throw volumeError(error, "writing whose the objects are")
        }
        if let taken {
            await outwait(taken, world, loop, options)
            // A lease proves something only where the store decides who the owner is.
            headhunter.ownerBeforeMayAnswer =
                found.log != 0 && (options.logIsShared || found.log != place)
                && (found.lease == 0 || !store.capabilities.decides)
        }
        try await headhunter.publish(claim, isOpening: true)
        headhunter.checkpoints.publishing = nil
        headhunter.keep(found, for: UInt64(clamping: claim.wall &- found.wall))
        headhunter.keep(claim)
        try await dropUseless(
            world, loop, recovered.stage, directory, claim,
            sharedBelow: options.logIsShared ? claim.epoch << takeoverShift : nil)
        try await headhunter.settleSegments(recovered.stage.named)
        try await dropStored(world, loop, recovered.stage, directory, but: Set(headhunter.data.refused.keys))
        await headhunter.fetchNumbers()
        headhunter.startUploads()
        headhunter.startTimer()
        headhunter.startFlushTimer()
        headhunter.startSpaceWatch()
        if headhunter.overlay != nil {
            headhunter.checkpoints.isDraining = true
            loop.task { await headhunter.drain() }
        }
        headhunter.startCleaning()
        let oldest = headhunter.nonces.next
        let before = found.number
        loop.task { await headhunter.findRipe(before: before) }
        loop.task { await headhunter.collectOrphans(below: oldest) }
        return headhunter
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
        // What was wished for meanwhile had to wait for this.
        checkpoints.isDraining = false
        startCheckpoint()
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
            let wrong = entry.key.withUnsafeBytes {
                tree.prepare($0, isDelete: entry.value == nil, missing: &missing)
            }
            guard missing.isEmpty, wrong == nil else {
                needs(missing, astray: wrong)
                return .missing
            }
            entry.key.withUnsafeBytes { key in
                if let value = entry.value {
                    _ = value.withUnsafeBytes { tree.put(key, $0) }
                } else {
                    tree.delete(key)
                }
                overlay.remove(entry.id, key)
            }
        }
        return .more
    }

    /// Ends without a checkpoint, as a crash does: the log has what was promised. For whom the store does not answer.
    public func abandon() {
        checkpoints.isClosing = true
        checkpoints.cancelTimers(on: loop)
        fail(.closed)
    }

    /// A last checkpoint, so that the next start finds no log to replay.
    public func close() async throws(VolumeError) {
        checkpoints.isClosing = true
        if options.isReadOnly { return fail(.closed) }
        lease.release()
        // Also when it can not end well: looks for another owner go on until then.
        defer { lease.end(.closed) }
        // Nothing else is to come behind the last checkpoint.
        isFrozen.store(true, ordering: .sequentiallyConsistent)
        defer {
            let waiting = thawing
            thawing = []
            for continuation in waiting { continuation.resume() }
        }
        checkpoints.cancelTimers(on: loop)
        // It may be putting down in the log what it does.
        while checkpoints.cleaning.isRunning { await loop.sleep(nanoseconds: 1_000_000) }
        // The first one's own bookkeeping may be in the log; the next one has it in the trees.
        for _ in 0..<3 where checkpoints.header.log != 0 {
            do throws(VolumeError) { try await checkpoint() } catch {
                // Behind a header that leaves it to anybody nothing is lacking but what is put away, and the next owner may be there.
                guard checkpoints.header.log == 0 else { throw error }
            }
        }
        segments.rest(forGood: true)
        fail(.closed)
    }
}

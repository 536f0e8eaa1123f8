import Bytes
import ObjectStore
import Runtime
import Synchronization

/// What the checkpoints of a volume need to know of each other. On the volume's loop only.
struct CheckpointState {
    /// The newest header that is durable and ours.
    var header: CheckpointHeader
    /// Metadata objects, by number.
    var objects: [UInt64: CheckpointHeader.MetadataObject]
    var doomed: [DoomedObject]
    /// Headers below this have been deleted.
    var headersFrom: UInt64
    var begun: UInt64 = 0
    var completed: UInt64 = 0
    var isRunning = false
    /// A recovered log is on its way into the trees.
    var isDraining = false
    var whenDrained: [UnsafeContinuation<Void, Never>] = []
    var waiting: [UnsafeContinuation<Void, Never>] = []
    var failure: VolumeError?
    /// What the checkpoint under way is being kept by, for people.
    var trouble: String?
    var isClosing = false
    /// None begins: what is stored is being copied.
    var isHeld = false
    var timer: LoopTimer?
    var spaceTimer: LoopTimer?
    /// Frozen, packed and stored so far, for the next attempt's header if this one is given up.
    var nodesStored: UInt64 = 0
    var bytesStored: UInt64 = 0

    init(header: CheckpointHeader) {
        self.header = header
        objects = [:]
        for object in header.objects { objects[object.number] = object }
        doomed = header.doomed
        headersFrom = 0
    }
}

extension Headhunter {
    /// Between two slices of work inside the gate that a checkpoint does for its own sake.
    private static let installSlice = 64
    /// Metadata objects on their way to the store at once.
    private static let putsMax = 4
    static let retryNanoseconds: UInt64 = 500_000_000

    // MARK: When

    /// Callable inside the gate, from any thread.
    func wantCheckpoint() {
        guard !checkpointWanted else { return }
        checkpointWanted = true
        loop.execute { self.startCheckpoint() }
    }

    func startTimer() {
        checkpoints.timer = loop.schedule(after: options.checkpointNanoseconds) { [weak self] in
            guard let self, !self.checkpoints.isClosing else { return }
            self.boundUnsent()
            self.startCheckpoint()
            self.startTimer()
        }
    }

    /// While a recovered log is on its way into the trees a checkpoint has only a part of it: none begins then, but to make
    /// room.
    func startCheckpoint(isForced: Bool = false) {
        guard !checkpoints.isRunning, checkpoints.failure == nil else { return }
        guard !checkpoints.isHeld || checkpoints.isClosing else { return }
        guard isForced || !checkpoints.isDraining else { return }
        checkpoints.isRunning = true
        checkpoints.begun += 1
        loop.task { await self.runCheckpoint() }
    }

    /// Returns when all that was in the trees, and in a recovered log, is in the store.
    public func checkpoint() async throws(VolumeError) {
        // What only the overlay has is in no checkpoint, and keeps the log that it came from.
        while checkpoints.isDraining {
            if let failure { throw failure }
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                checkpoints.whenDrained.append(continuation)
            }
        }
        // It may not have got into the trees at all.
        if let failure { throw failure }
        try await nextCheckpoint()
    }

    /// Returns when a checkpoint that began after this call is durable, of the trees as they are: a recovered log may still
    /// be on its way into them.
    package func nextCheckpoint() async throws(VolumeError) {
        let wanted = checkpoints.begun + 1
        while checkpoints.completed < wanted {
            if let failure = checkpoints.failure { throw failure }
            startCheckpoint(isForced: true)
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                checkpoints.waiting.append(continuation)
            }
        }
    }

    /// The newest header, and what it names, hold all changes below this one.
    package var storedBelow: UInt64 { checkpoints.header.logFirst }

    // MARK: Standing still

    /// From here on changes wait, those of the engine itself aside, and a checkpoint holds all that came before. What
    /// is in the store stays as it is until `release`: it may be copied. On the loop, like `release`.
    public func standStill() async throws(VolumeError) {
        isFrozen.store(true, ordering: .sequentiallyConsistent)
        do throws(VolumeError) { try await checkpoint() } catch {
            release()
            throw error
        }
        checkpoints.isHeld = isFrozen.load(ordering: .relaxed) && !checkpoints.isClosing
        while storing.log?.isDeleting ?? false { await loop.sleep(nanoseconds: 1_000_000) }
        // One may have begun behind it.
        while checkpoints.isRunning {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                checkpoints.waiting.append(continuation)
            }
        }
    }

    public func release() {
        isFrozen.store(false, ordering: .sequentiallyConsistent)
        checkpoints.isHeld = false
        let waiting = thawing
        thawing = []
        for continuation in waiting { continuation.resume() }
        if !checkpoints.waiting.isEmpty || checkpointIsWanted { startCheckpoint() }
    }

    public var standsStill: Bool { isFrozen.load(ordering: .relaxed) }

    private func runCheckpoint() async {
        let number = checkpoints.begun
        do throws(VolumeError) {
            try await writeCheckpoint()
            checkpoints.completed = number
        } catch {
            checkpoints.failure = error
            fail(error)
        }
        checkpoints.isRunning = false
        endCheckpointWaits()
        // What was wished for while this one was under way.
        if checkpointIsWanted { startCheckpoint() }
    }

    func endCheckpointWaits() {
        let waiting = checkpoints.waiting
        checkpoints.waiting.removeAll()
        for continuation in waiting { continuation.resume() }
    }

    private var checkpointIsWanted: Bool {
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        return checkpointWanted
    }

    // MARK: How

    /// What a moment inside the gate fixes: the forest as it is then.
    private struct Frozen {
        var roots: [(id: UInt32, root: ChildReference)]
        var released: [NodeAddress]
        var treeEpoch: UInt64
        var logFirst: UInt64
        var nonces: UInt64
        /// Segments that hold data which the frozen trees may name.
        var stages: [Segments.Stage]
        /// Records from here on are kept for the store.
        var hasCopies: Bool
        var firstSlot: UInt64?
        /// A part of a recovered log is in the trees, the rest is not.
        var isPartial: Bool
        /// The last record that the trees have something of.
        var last: UInt64
    }

    private func freeze() -> Frozen? {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        checkpointWanted = false
        // Nothing to write: no tree has changed, and the log holds nothing that a header would cut.
        let isLogEmpty = overlay?.isEmpty ?? true
        let holdsNothing = !isLogEmpty || log.last < logFirst
        let hasCopies = wantsCopies(isLogEmpty: isLogEmpty)
        let isSame = (checkpoints.isClosing ? 0 : place) == checkpoints.header.log && hasCopies == storing.isOn
        if cache.dirtyCount == 0, logBytes == 0, cache.released.isEmpty, holdsNothing, isSame { return nil }
        let released = cache.released
        cache.released.removeAll()
        // Keys that only the overlay has are not in the trees yet: the log that it came from stays. Replaying all of
        // that log again, in order, over trees that already have a part of it ends in the same state.
        let next = log.beginFile(copies: hasCopies)
        copies(hasCopies)
        logBytes = 0
        if isLogEmpty {
            overlay = nil
            logFirst = next
        }
        let roots = trees.enumerated().compactMap { id, tree in tree.map { (UInt32(id), $0.root) } }
        return Frozen(
            roots: roots, released: released, treeEpoch: cache.freeze(), logFirst: logFirst, nonces: nonces.promised,
            stages: segments.sealAll(), hasCopies: hasCopies,
            firstSlot: firstSlot(isPartial: !isLogEmpty, isOn: hasCopies),
            isPartial: !isLogEmpty, last: next - 1)
    }

    private func writeCheckpoint() async throws(VolumeError) {
        guard let frozen = freeze() else { return }
        let packer = NodePacker(
            cache: cache, volume: volume, epoch: epoch, objectBytes: options.metadataObjectBytes, roots: frozen.roots)
        try await storeNodes(packer)
        try await uploadAll(frozen.stages)
        // The header cuts the log that has the checksums of what files were given; those of the segments follow them.
        // Over a part of a log nothing less than all of it can be replayed.
        let needed = frozen.isPartial ? max(data.sealed, frozen.last) : data.sealed
        try await patiently { () async throws(VolumeError) in try await self.logged(needed) }

        for address in frozen.released {
            guard var object = checkpoints.objects[address.object] else { continue }
            object.live -= UInt64(address.length)
            checkpoints.objects[address.object] = object
        }
        for (number, object) in checkpoints.objects where object.live == 0 {
            checkpoints.doomed.append(DoomedObject(kind: .metadata, number: number))
            checkpoints.objects[number] = nil
        }
        var trees: [(id: UInt32, root: NodeAddress?)] = []
        for (id, root) in frozen.roots { trees.append((id, packer.address(of: root))) }
        let header = CheckpointHeader(
            volume: volume, number: checkpoints.header.number + 1, epoch: epoch, nonces: frozen.nonces,
            logFirst: frozen.logFirst,
            logDurable: max(log.confirmed(), frozen.logFirst - 1, frozen.isPartial ? frozen.last : 0),
            treeEpoch: frozen.treeEpoch, wall: world.clock.wall(),
            // Who closes with nothing left in his log leaves it behind: another place may go on from the store alone.
            log: checkpoints.isClosing && log.last < frozen.logFirst ? 0 : place, firstSlot: frozen.firstSlot,
            slotsEnd: checkpoints.header.slotsEnd, isPartial: frozen.isPartial, trees: trees,
            objects: checkpoints.objects.values.sorted { $0.number < $1.number },
            doomed: checkpoints.doomed.sorted { ($0.kind.rawValue, $0.number) < ($1.kind.rawValue, $1.number) })
        // Nothing is cut for a header that no reader takes.
        guard header.isReadable else {
            throw .readOnly("\(header.objects.count) metadata objects are more than a checkpoint may name")
        }
        try await publish(header)
        let before = checkpoints.header
        checkpoints.header = header
        headerIsStored(header, before: before, isOn: frozen.hasCopies)
        await install(packer)
        await log.cut(below: header.logFirst)
        try await clean()
        if !checkpoints.isClosing { try await removeDeadSegments() }
        checkSpace()
    }

    /// Packs and stores all frozen nodes, a few objects at a time.
    private func storeNodes(_ packer: NodePacker) async throws(VolumeError) {
        // The volume keeps trying: what is frozen can not be given up, and the store may come back.
        while !packer.isDone {
            var batch: [(number: UInt64, block: Block)] = []
            while !packer.isDone, batch.count < Self.putsMax {
                let number = try await nonce()
                let block = Block(capacity: options.metadataObjectBytes + NodeCodec.sizeMax)
                await world.blocking.run(on: loop) { () throws(Never) -> Void in
                    packer.next(number: number, into: block)
                }
                batch.append((number, block))
            }
            await withTaskGroup(of: Void.self) { group in
                for (number, block) in batch {
                    group.addTask { await self.storeObject(number, block) }
                }
            }
            if let failure = checkpoints.failure { throw failure }
            for (number, block) in batch {
                let bytes = UInt64(block.count)
                checkpoints.objects[number] = CheckpointHeader.MetadataObject(
                    number: number, bytes: bytes, live: bytes - UInt64(NodePacker.headerSize))
                checkpoints.bytesStored += bytes
            }
        }
    }

    /// The same bytes under the same name until the store has them: a PUT whose answer was lost did no harm.
    private func storeObject(_ number: UInt64, _ block: Block) async {
        let name = objectName(ObjectNaming.metadata, number)
        while checkpoints.failure == nil {
            do throws(StoreError) {
                try await store.put(name, .blocks([block]))
                checkpoints.trouble = nil
                return
            } catch {
                if let failure = patience(error, "writing \(name)") { checkpoints.failure = failure }
            }
            await loop.sleep(nanoseconds: Self.retryNanoseconds)
        }
    }

    /// Does what the volume can not do without, again and again while disk or store do not answer.
    func patiently<Value>(_ body: () async throws(VolumeError) -> Value) async throws(VolumeError) -> Value {
        while true {
            do throws(VolumeError) {
                return try await body()
            } catch {
                guard case .unavailable(let why) = error, checkpoints.failure == nil, failure == nil else {
                    throw error
                }
                checkpoints.trouble = why
            }
            await loop.sleep(nanoseconds: Self.retryNanoseconds)
        }
    }

    /// Nil when it is worth trying again; the trouble is noted.
    func patience(_ error: StoreError, _ what: String) -> VolumeError? {
        switch error {
        case .canceled: return .closed
        case .exists: return .fenced
        case .notFound, .badRange, .noSpace, .denied, .unavailable, .corrupt:
            checkpoints.trouble = "\(Self.volumeError(error, what))"
            return nil
        }
    }

    /// Creates the header. When somebody else has its number, or the boundary has passed it, the volume is his.
    func publish(_ header: CheckpointHeader) async throws(VolumeError) {
        let name = objectName(ObjectNaming.header, header.number)
        let body = ObjectBody.blocks([header.encoded()])
        var hasTried = false
        while true {
            do throws(StoreError) {
                // What a try sent that was given up may have arrived since: that would be no other owner.
                try await store.put(name, body, condition: .absent, mayBeOurs: hasTried)
                let passed = try await newestBoundary()
                if let passed, passed >= header.number { throw .exists }
                checkpoints.trouble = nil
                return
            } catch {
                if let failure = patience(error, "writing \(name)") { throw failure }
                hasTried = true
            }
            await loop.sleep(nanoseconds: Self.retryNanoseconds)
        }
    }

    private func newestBoundary() async throws(StoreError) -> UInt64? {
        var newest: UInt64?
        for name in try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.boundary)) {
            guard let number = ObjectNaming.number(name, prefix, ObjectNaming.boundary) else { continue }
            newest = max(newest ?? 0, number)
        }
        return newest
    }

    /// The stored nodes become clean; their parents learn where they are. In slices, so that no writer waits long.
    private func install(_ packer: NodePacker) async {
        let stored = packer.stored
        checkpoints.nodesStored += UInt64(stored.count)
        var index = 0
        while index < stored.count {
            let end = min(index + Self.installSlice, stored.count)
            gate.enterWrite()
            for node in stored[index..<end] { cache.stored(node.frame, at: node.address) }
            gate.leaveWrite()
            index = end
            await Task.yield()
        }
        // Only now: a parent's slice may come long after its child's.
        index = 0
        while index < stored.count {
            let end = min(index + Self.installSlice, stored.count)
            gate.enterWrite()
            for node in stored[index..<end] {
                let info = cache.info(node.frame)
                guard info.pointee.state == .clean, info.pointee.pinned, info.pointee.address == node.address else {
                    continue
                }
                trees[Int(node.tree)]?.adopt(
                    node.frame, node.address, low: cache.page(node.frame).low, level: node.level)
                cache.unpin(node.frame)
            }
            gate.leaveWrite()
            index = end
            await Task.yield()
        }
    }

    /// Deletes what no header needs any more. What can not be deleted now stays listed.
    private func clean() async throws(VolumeError) {
        let newest = checkpoints.header.number
        // The header before the newest stays: somebody who opens the volume read-only may be reading it.
        if newest >= 3, checkpoints.headersFrom < newest - 1 {
            let boundary = newest - 2
            do throws(StoreError) {
                try await store.put(objectName(ObjectNaming.boundary, boundary), .blocks([Block(capacity: 0)]))
                for kind in [ObjectNaming.header, ObjectNaming.boundary] {
                    for name in try await store.names(prefix: ObjectNaming.prefix(prefix, kind)) {
                        guard let number = ObjectNaming.number(name, prefix, kind) else { continue }
                        if number < boundary || number == boundary && kind == ObjectNaming.header {
                            try await store.delete(name)
                        }
                    }
                }
                checkpoints.headersFrom = newest - 1
            } catch {
                if let failure = patience(error, "cleaning up headers") { throw failure }
            }
        }
        var left: [DoomedObject] = []
        for object in checkpoints.doomed {
            let kind = object.kind == .metadata ? ObjectNaming.metadata : ObjectNaming.segment
            do throws(StoreError) {
                try await store.delete(objectName(kind, object.number))
            } catch {
                if let failure = patience(error, "deleting \(kind) \(object.number)") { throw failure }
                left.append(object)
            }
        }
        checkpoints.doomed = left
    }

    private static let deadSegmentsSlice = 64

    /// Takes dead segments out of the table. Their objects are doomed from here on: they go when a header is durable
    /// that has them in its list, and so names none of their bytes.
    private func removeDeadSegments() async throws(VolumeError) {
        let dead = try await patiently { () async throws(VolumeError) in
            try await self.read { (view) throws(Missing) -> [UInt64] in
                try SegmentTable.marked(view, SegmentTable.deadTag, from: 0, limit: Self.deadSegmentsSlice)
            }
        }
        for segment in dead {
            let isDead = try await patiently { () async throws(VolumeError) in try await self.removeSegment(segment) }
            if isDead { checkpoints.doomed.append(DoomedObject(kind: .segment, number: segment)) }
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

    // MARK: Nonces

    /// A number that no object's name has ever had.
    func nonce() async throws(VolumeError) -> UInt64 {
        while true {
            if let number = takeNonce() { return number }
            try await reserveNonces()
        }
    }

    private func takeNonce() -> UInt64? {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        guard nonces.next < nonces.reserved else { return nil }
        nonces.next += 1
        return nonces.next - 1
    }

    /// Makes a range ours, durably, before any of it is used.
    private func reserveNonces() async throws(VolumeError) {
        let range = options.nonceRange
        // Urgent: a checkpoint may be waiting for this, so this must not wait for a checkpoint. What is promised is
        // raised with the change, because a header may cut the record from the log before we hear of its sync.
        let (promised, number) = try await change(isUrgent: true) { (change) throws(Missing) -> UInt64 in
            self.nonces.promised += range
            SystemTree.putNonces(change, self.nonces.promised)
            return self.nonces.promised
        }
        // With the data of earlier records: a recovery cuts the log where data is missing.
        try await patiently { () async throws(VolumeError) in try await self.logged(number) }
        gate.enterWrite()
        nonces.reserved = max(nonces.reserved, promised)
        gate.leaveWrite()
    }
}

/// Tree 0: what belongs to the volume and to no subvolume.
enum SystemTree {
    static let id: UInt32 = 0
    /// The first byte of its keys says what they are.
    private static let noncesKey: [UInt8] = [1]

    static func putNonces(_ change: Change, _ value: UInt64) {
        noncesKey.withUnsafeBytes { key in
            withUnsafeBytes(of: value.littleEndian) { change.put(id, key, $0) }
        }
    }

    static func nonces(in overlay: Overlay) -> UInt64? {
        noncesKey.withUnsafeBytes { key -> UInt64? in
            guard case .found(let value) = overlay.get(id, key), value.count == 8 else { return nil }
            return UInt64(littleEndian: value.loadUnaligned(as: UInt64.self))
        }
    }
}

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
    /// Nobody needs them any more; each header lists them until they are known to be deleted.
    var doomed: Set<DoomedObject>
    var cleaning = Cleaning()
    /// Metadata objects of which nodes could not be read: they are not read again for the sake of order.
    var unmovable: Set<UInt64> = []
    var begun: UInt64 = 0
    var completed: UInt64 = 0
    var isRunning = false
    /// Of the header that is on its way: one with this number may be our own.
    var publishing: UInt64?
    /// A recovered log is on its way into the trees.
    var isDraining = false
    var whenDrained: [UnsafeContinuation<Void, Never>] = []
    var waiting: [UnsafeContinuation<Void, Never>] = []
    var failure: VolumeError?
    /// The newest header that a store whose listings lag was told of.
    var hinted: UInt64 = 0
    var isClosing = false
    /// None begins: what is stored is being copied.
    var isHeld = false
    /// For another owner, that wait for the store.
    var looks = 0
    var lastLook: UInt64 = 0
    var timer: LoopTimer?
    var flushTimer: LoopTimer?
    var spaceTimer: LoopTimer?
    /// Frozen, packed and stored so far, for the next attempt's header if this one is given up.
    var nodesStored: UInt64 = 0
    var bytesStored: UInt64 = 0

    init(header: CheckpointHeader) {
        self.header = header
        objects = [:]
        for object in header.objects { objects[object.number] = object }
        doomed = Set(header.doomed)
    }

    func cancelTimers(on loop: EventLoop) {
        for timer in [timer, flushTimer, spaceTimer] {
            if let timer { loop.cancel(timer) }
        }
    }
}

extension Headhunter {
    /// Between two slices of work inside the gate that a checkpoint does for its own sake.
    private static let installSlice = 32
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
            self.startCleaning()
            self.lookForOwner()
            self.startTimer()
        }
    }

    /// A checkpoint seals all segments when it begins. Between two, and while one takes long, their age does.
    func startFlushTimer() {
        checkpoints.flushTimer = loop.schedule(after: max(options.flushNanoseconds / 2, 1)) { [weak self] in
            guard let self, !self.checkpoints.isClosing else { return }
            self.sealByTime()
            self.segments.rest()
            self.startFlushTimer()
        }
    }

    private func sealByTime() {
        let now = world.clock.monotonic()
        guard now > options.flushNanoseconds, segments.sealAll(before: now - options.flushNanoseconds) else { return }
        loop.task {
            do throws(VolumeError) { try await self.waitForData(.durable) } catch { return }
            self.startUploads()
        }
    }

    /// While a recovered log is on its way into the trees, these have only a part of it. A header over them would be of no use
    /// without that log, so none is written: what begins then only makes room.
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

    /// Returns when a checkpoint that began after this call is durable. While a recovered log is on its way into the trees it
    /// has only made room: nodes are stored, and the log with the header before it stays what counts.
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
        while storing.log?.isDeleting ?? false || checkpoints.cleaning.isRunning {
            await loop.sleep(nanoseconds: 1_000_000)
        }
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
        startCleaning()
    }

    public var standsStill: Bool { isFrozen.load(ordering: .relaxed) }

    private func runCheckpoint() async {
        let number = checkpoints.begun
        await rewriteEmptiest()
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
        /// Bytes of records that no header has covered so far.
        var logBytes: Int
        /// What the frozen trees do not name, and so may be deleted behind a header that has them.
        var doomed: Set<DoomedObject>
    }

    private enum Moment {
        case nothing
        /// A part of a recovered log is in the trees, the rest is not: their nodes make room, and no header tells of them.
        case room(roots: [(id: UInt32, root: ChildReference)], released: [NodeAddress])
        case whole(Frozen)
    }

    private func freeze() -> Moment {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        checkpointWanted = false
        if let overlay, !overlay.isEmpty {
            let released = cache.released
            cache.released.removeAll()
            _ = cache.freeze()
            return .room(roots: roots(), released: released)
        }
        // Nothing to write: no tree has changed, and the log holds nothing that a header would cut.
        let holdsNothing = log.last < logFirst
        let hasCopies = wantsCopies()
        let isSame = (checkpoints.isClosing ? 0 : place) == checkpoints.header.log && hasCopies == storing.isOn
        if cache.dirtyCount == 0, logBytes == 0, cache.released.isEmpty, holdsNothing, isSame { return .nothing }
        let released = cache.released
        cache.released.removeAll()
        logFirst = log.beginFile(copies: hasCopies)
        copies(hasCopies)
        logBytes = 0
        if frozenSince == 0 { frozenSince = logSince }
        logSince = 0
        overlay = nil
        return .whole(
            Frozen(
                roots: roots(), released: released, treeEpoch: cache.freeze(), logFirst: logFirst,
                nonces: nonces.promised, stages: segments.sealAll(), hasCopies: hasCopies,
                firstSlot: hasCopies ? storing.firstSlot : nil, logBytes: logUncovered, doomed: checkpoints.doomed))
    }

    private func roots() -> [(id: UInt32, root: ChildReference)] {
        trees.enumerated().compactMap { id, tree in tree.map { (UInt32(id), $0.root) } }
    }

    private func packer(_ roots: [(id: UInt32, root: ChildReference)]) -> NodePacker {
        NodePacker(
            cache: cache, volume: volume, epoch: epoch, objectBytes: options.metadataObjectBytes, roots: roots)
    }

    /// Stores nodes so that they may leave the memory. Nothing that the newest header names is given up: after a crash that
    /// header and the whole log are there, and what was stored here is nobody's.
    private func makeRoom(
        _ roots: [(id: UInt32, root: ChildReference)], _ released: [NodeAddress]
    ) async throws(VolumeError) {
        let packer = packer(roots)
        try await storeNodes(packer)
        try release(released)
        await install(packer)
    }

    /// The trees do not lead to these nodes any more.
    private func release(_ addresses: [NodeAddress]) throws(VolumeError) {
        for address in addresses {
            guard var object = checkpoints.objects[address.object] else { continue }
            guard object.live >= UInt64(address.length) else {
                throw .damaged("metadata object \(address.object): more of it is given up than there was")
            }
            object.live -= UInt64(address.length)
            checkpoints.objects[address.object] = object
        }
    }

    private func writeCheckpoint() async throws(VolumeError) {
        let frozen: Frozen
        let sent = data.sent.count
        switch freeze() {
        case .nothing: return
        case .room(let roots, let released): return try await makeRoom(roots, released)
        case .whole(let moment): frozen = moment
        }
        let packer = packer(frozen.roots)
        try await storeNodes(packer)
        try await uploadAll(frozen.stages)
        // The header cuts the log that has the checksums of what files were given; those of the segments follow them.
        let sealed = data.sealed
        try await patiently { () async throws(VolumeError) in try await self.logged(sealed) }

        try release(frozen.released)
        // What was deleted meanwhile needs no listing.
        var doomed = frozen.doomed.intersection(checkpoints.doomed)
        for (number, object) in checkpoints.objects where object.live == 0 && doomed.count < Cleaning.listedMax {
            doomed.insert(DoomedObject(kind: .metadata, number: number))
            checkpoints.objects[number] = nil
        }
        checkpoints.doomed.formUnion(doomed)
        var trees: [(id: UInt32, root: NodeAddress?)] = []
        for (id, root) in frozen.roots { trees.append((id, packer.address(of: root))) }
        let header = CheckpointHeader(
            volume: volume, number: checkpoints.header.number + 1, epoch: epoch, nonces: frozen.nonces,
            logFirst: frozen.logFirst,
            logDurable: max(log.confirmed(), frozen.logFirst - 1),
            treeEpoch: frozen.treeEpoch, wall: world.clock.wall(),
            // Who closes with nothing left in his log leaves it behind: another place may go on from the store alone.
            log: checkpoints.isClosing && log.last < frozen.logFirst ? 0 : place, firstSlot: frozen.firstSlot,
            slotsEnd: checkpoints.header.slotsEnd, trees: trees,
            objects: checkpoints.objects.values.sorted { $0.number < $1.number },
            doomed: doomed.sorted { ($0.kind.rawValue, $0.number) < ($1.kind.rawValue, $1.number) },
            staged: frozen.stages.map { stage in
                CheckpointHeader.StagedSegment(
                    segment: stage.number, size: UInt64(stage.size), checksum: BlockChecksums.sum(stage.checksums.all))
            } + data.refused.values.sorted { $0.segment < $1.segment }, lease: options.leaseNanoseconds)
        try await publish(header)
        let before = checkpoints.header
        checkpoints.header = header
        checkpoints.publishing = nil
        keep(header)
        headerIsStored(header, before: before, isOn: frozen.hasCopies)
        await install(packer)
        covered(frozen.logBytes)
        await log.cut(below: header.logFirst)
        await dropSent(sent)
        startCleaning()
        checkSpace()
    }

    private func covered(_ bytes: Int) {
        gate.enterWrite()
        logUncovered -= bytes
        frozenSince = 0
        gate.leaveWrite()
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
        var trying = Trying()
        defer { ease(&trying) }
        while checkpoints.failure == nil {
            do throws(StoreError) {
                return try await store.put(name, .blocks([block]))
            } catch {
                if let failure = patience(error, "writing \(name)", &trying) { checkpoints.failure = failure }
            }
            await loop.sleep(nanoseconds: trying.next())
        }
    }

    /// Does what the volume can not do without, again and again while disk or store do not answer.
    func patiently<Value>(_ body: () async throws(VolumeError) -> Value) async throws(VolumeError) -> Value {
        var trying = Trying()
        defer { ease(&trying) }
        while true {
            do throws(VolumeError) {
                return try await body()
            } catch {
                guard case .unavailable(let why) = error, checkpoints.failure == nil, failure == nil else {
                    throw error
                }
                note(why, &trying)
            }
            await loop.sleep(nanoseconds: trying.next())
        }
    }

    /// Nil when it is worth trying again; the trouble is noted.
    func patience(_ error: StoreError, _ what: String, _ trying: inout Trying) -> VolumeError? {
        switch error {
        case .canceled: return .closed
        case .exists: return .fenced
        case .notFound, .badRange, .noSpace, .denied, .unavailable, .corrupt:
            note(Self.words(Self.volumeError(error, what)), &trying)
            return nil
        }
    }

    static func words(_ error: VolumeError) -> String {
        switch error {
        case .readOnly(let why), .unavailable(let why), .damaged(let why), .unknownFormat(let why): why
        case .fenced, .closed, .noVolume, .logElsewhere: "\(error)"
        }
    }

    /// Creates the header. When somebody else has its number, or the boundary has passed it, the volume is his.
    /// `isOpening`: whoever waits for the volume to open is told that its store refuses it.
    func publish(_ header: CheckpointHeader, isOpening: Bool = false) async throws(VolumeError) {
        // An earlier try may be what has arrived: nothing is known of the time after its start.
        let start = world.clock.monotonic()
        let name = objectName(ObjectNaming.header, header.number)
        let body = ObjectBody.blocks([header.encoded()])
        var hasTried = false
        var trying = Trying()
        checkpoints.publishing = header.number
        defer { ease(&trying) }
        while true {
            do throws(StoreError) {
                // What a try sent that was given up may have arrived since: that would be no other owner.
                try await store.put(name, body, condition: .absent, mayBeOurs: hasTried, isUrgent: true)
                let passed = try await Self.newestBoundary(store, prefix)
                if let passed, passed >= header.number { throw .exists }
                if isOpening { startLease(from: start) } else { lease.extend(from: start) }
                return await tellNewest(header.number)
            } catch {
                // Nobody is served yet: who may not write is told so.
                if isOpening, case .denied = error { throw Self.volumeError(error, "writing \(name)") }
                if let failure = patience(error, "writing \(name)", &trying) { throw failure }
                hasTried = true
            }
            await loop.sleep(nanoseconds: trying.next())
        }
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
}

import ObjectStore
import Runtime
import Synchronization

/// Being the only owner of a volume: taking it, and looking whether it is still so. On the volume's loop.
extension Headhunter {
    /// Kinds of objects that are made by create-if-absent, or tell what was: by them a volume has one owner.
    public static let decidedKinds: Set<String> = [ObjectNaming.header, ObjectNaming.boundary, ObjectNaming.slot]

    // MARK: Taking

    /// What a taker has claimed.
    struct Claim {
        /// The newest header of the owner before: what the volume is.
        var found: CheckpointHeader
        /// Of the header that says so.
        var number: UInt64
        var epoch: UInt64
        /// Of the monotonic clock: who looked later than this has met the claim.
        var time: UInt64
    }

    private static let claimsMax = 16

    /// Takes the number behind the newest header before anything else is done, with a header that says the same: the owner before meets
    /// it at its next one, however long reading its log takes. Who comes after a taker that got no further finds all there was.
    static func claim(
        _ world: World, _ store: ObjectStore, _ prefix: String, _ newest: CheckpointHeader,
        _ options: HeadhunterOptions,
        place: UInt64
    ) async throws(VolumeError) -> Claim {
        var found = newest
        for _ in 0..<claimsMax {
            // Somebody may have taken the volume elsewhere meanwhile, and is not to be fenced off.
            guard options.takesOver || found.log == 0 || found.log == place else { throw .logElsewhere }
            var header = found
            header.number += 1
            // Not the next one: an owner that came back to its own place may have that, and its fences are to tell from ours.
            header.epoch += 2
            header.wall = world.clock.wall()
            // Of the owner before: who comes next can not know how long ago this was. We say nothing under a claim.
            header.lease = found.lease
            do throws(StoreError) {
                try await store.put(
                    ObjectNaming.name(prefix, ObjectNaming.header, header.number), .blocks([header.encoded()]),
                    condition: .absent, isUrgent: true)
                if let passed = try await newestBoundary(store, prefix), passed >= header.number { throw .exists }
                return Claim(
                    found: found, number: header.number, epoch: header.epoch, time: world.clock.monotonic())
            } catch {
                guard error == .exists else { throw volumeError(error, "claiming the volume \(prefix)") }
            }
            found = try await newestOf(store, prefix)
        }
        throw .unavailable("the owner of the volume \(prefix) goes on writing headers")
    }

    /// The newest header. A live owner may delete it while it is being asked for.
    static func newestOf(_ store: ObjectStore, _ prefix: String) async throws(VolumeError) -> CheckpointHeader {
        var tries = 0
        var before: UInt64?
        while true {
            let number: UInt64?
            do throws(StoreError) { number = try await newestHeader(store, prefix) } catch {
                throw volumeError(error, "looking for the volume \(prefix)")
            }
            guard let number else { throw .noVolume }
            do throws(VolumeError) { return try await readHeader(store, prefix, number) } catch {
                tries += 1
                guard case .damaged = error, number != before, tries < claimsMax else { throw error }
            }
            before = number
        }
    }

    /// The owner before says nothing more when this returns, wherever it is and whatever it can not reach.
    static func outwait(
        _ claim: Claim, _ world: World, _ loop: EventLoop, _ options: HeadhunterOptions
    ) async {
        guard claim.found.log != 0, claim.found.lease > 0 else { return }
        let end = claim.time + claim.found.lease + options.driftNanoseconds
        while case let now = world.clock.monotonic(), now < end { await loop.sleep(nanoseconds: end - now) }
    }

    // MARK: Looking

    private static let ownerLookNanoseconds: UInt64 = 1_000_000_000
    /// What a request of a look may take where no lease is kept.
    private static let lookNanoseconds: UInt64 = 10_000_000_000
    private static let looksPerLease: UInt64 = 4
    /// Looks that wait for the store at the same time: one that hangs keeps the next one from nothing.
    private static let looksMax = 8

    /// `start`: when the header was sent that says who the owner is.
    func startLease(from start: UInt64) {
        guard lease.isKept else { return }
        watch(from: start)
    }

    /// Also for who never writes a header, and without a lease.
    func watch(from start: UInt64) {
        lease.extend(from: start)
        lookAgain()
    }

    private func lookAgain() {
        let pause = lease.isKept ? options.leaseNanoseconds / Self.looksPerLease : options.checkpointNanoseconds
        _ = loop.schedule(after: pause) { [weak self] in
            guard let self, !self.isOvertaken.load(ordering: .relaxed) else { return }
            // What is sent while a volume is closed needs the lease, too.
            guard !self.checkpoints.isClosing || self.lease.isKept && !self.lease.hasEnded else { return }
            self.lookForOwner()
            self.lookAgain()
        }
    }

    /// An owner with nothing to write would never meet the one that has taken the volume over, and go on answering reads
    /// with what is no more.
    func lookForOwner() {
        let now = world.clock.monotonic()
        let pause = lease.isKept ? options.leaseNanoseconds / (2 * Self.looksPerLease) : Self.ownerLookNanoseconds
        guard checkpoints.looks < (lease.isKept ? Self.looksMax : 1), !isOvertaken.load(ordering: .relaxed),
            now >= checkpoints.lastLook + pause
        else { return }
        checkpoints.looks += 1
        checkpoints.lastLook = now
        loop.task {
            let next = self.checkpoints.header.number + 1
            let isTaken = await self.isTaken(next)
            self.checkpoints.looks -= 1
            guard let isTaken else { return }
            guard isTaken else { return self.lease.extend(from: now) }
            // Who has closed has left it to anybody: what is still being put away is under names of its own.
            guard !self.checkpoints.isClosing || self.checkpoints.header.log != 0 else { return }
            // It may be our own that has come, or is on its way. A checkpoint that has not come as far sends none.
            guard self.checkpoints.header.number < next, self.checkpoints.publishing != next else { return }
            self.failStoring(.fenced)
        }
    }

    /// Asks the store whether somebody else has the volume, for who is about to destroy it.
    public func confirm() async throws(VolumeError) {
        guard let isTaken = await self.isTaken(checkpoints.header.number + 1) else {
            throw .unavailable("the store does not tell whether another server has the volume")
        }
        if isTaken { throw .fenced }
    }

    /// Whether there is, or was, a header with this number; nil when the store does not tell. One try: the next look is the other one.
    private func isTaken(_ number: UInt64) async -> Bool? {
        let limit = lease.isKept ? options.leaseNanoseconds / Self.looksPerLease : Self.lookNanoseconds
        do throws(StoreError) {
            let name = objectName(ObjectNaming.header, number)
            if try await store.head(name, isUrgent: true, within: limit) != nil { return true }
            guard let passed = try await Self.newestBoundary(store, prefix, within: limit) else { return false }
            return passed >= number
        } catch { return nil }
    }

    // MARK: Answering

    /// Whether this owner's lease has not run out: nothing is said of the volume otherwise, until the store was reached again.
    public var mayAnswer: Bool { lease.holds }

    /// Returns when it may be said what the volume holds.
    func leased() async throws(VolumeError) {
        if lease.holds { return }
        try await told { lease.wait($0) }
    }

    /// Returns when nobody else can have the volume, whether anybody is answered or not.
    func proven() async throws(VolumeError) {
        if lease.isProven { return }
        try await told { lease.whenProven($0) }
    }

    /// Nobody is answered any more: what is left to do is not held up by a lease.
    public func leaveService() { lease.release() }

    /// Calls `told` once, on the volume's loop, when another owner has the volume.
    public func whenOvertaken(_ told: @escaping @Sendable () -> Void) {
        guard !isOvertaken.load(ordering: .relaxed) else { return told() }
        overtaken = told
    }

    /// Returns when nothing of this volume is on its way to the local disk: its folder may be another one's. After `abandon`.
    public func settled() async {
        store.close()
        var quiet = 0
        while quiet < Self.quietRounds {
            await loop.sleep(nanoseconds: Self.quietNanoseconds)
            quiet =
                data.isWriting || data.isSyncing || log.isBusy || checkpoints.isRunning
                    || checkpoints.cleaning.isRunning ? 0 : quiet + 1
        }
    }

    /// A mark of the log comes a moment after the log has come to rest.
    private static let quietRounds = 4
    private static let quietNanoseconds: UInt64 = 2_000_000
}

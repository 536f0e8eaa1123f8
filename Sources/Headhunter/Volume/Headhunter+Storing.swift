import Bytes
import ObjectStore
import Runtime
import Synchronization

/// What `store` durability waits for. On the volume's loop.
///
/// A change is in the store when a checkpoint holds it, or when a slot does, which is sent when all data that records up to
/// the change name is in segments of the store. Slots are sent only while somebody asks for this: the first who does waits for a
/// checkpoint, from which on records are kept for slots, too.
struct StoringState {
    struct Waiter {
        let number: UInt64
        let loop: EventLoop
        let done: @Sendable (VolumeError?) -> Void
    }

    var log: StoreLog?
    var waiters: [Waiter] = []
    /// Records go to slots from the next checkpoint on.
    var isWanted = false
    /// Records are kept for slots.
    var isOn = false
    /// A header names the slots: what they hold can be found.
    var isFindable = false
    /// Checkpoints since somebody waited.
    var idle = 0
    /// How many have, without a long time in between.
    var asked = 0
    /// The first slot that the header under way names.
    var firstSlot: UInt64 = 0
    /// The data of all records up to this one is in the store.
    var dataStored: UInt64 = 0
    /// Records that wait for data to be in the store, in order, and up to which record.
    var held: [(last: UInt64, batches: [LogBatch])] = []
    var rounds = 0
    var nextTick: (timer: LoopTimer, time: UInt64)?
    var lastTick: UInt64 = 0
    /// When records were sent.
    var lastSent: UInt64 = 0
    /// The last record that a tick took: who waits for a later one waits for the next tick.
    var taken: UInt64 = 0
    var isWaitingForCheckpoint = false
}

extension Headhunter {
    /// Those who ask at the same time share a slot: they are given this long to come together.
    private static let gatherNanoseconds: UInt64 = 1_000_000
    /// Between two slots, unless there is more than one holds.
    private static let tickNanoseconds: UInt64 = 10_000_000
    /// Records that nobody waits for are sent when there are this many bytes of them.
    private static let heldBytesMax = 4 << 20
    private static let roundsMax = 4
    /// More that the store does not take is given up: a checkpoint has to bring it there then.
    private static let unsentBytesMax = 64 << 20
    /// After so many checkpoints without a waiter records are no longer kept for slots, and the next one who waits is the first.
    private static let idleMax = 6

    /// Calls `done` on `target` when change `number` is in the store, with all before it and their data.
    public func whenStored(
        _ number: UInt64, on target: EventLoop, _ done: @escaping @Sendable (VolumeError?) -> Void
    ) {
        loop.execute {
            self.storing.waiters.append(StoringState.Waiter(number: number, loop: target, done: done))
            if self.storing.idle >= Self.idleMax { self.storing.asked = 0 }
            self.storing.asked += 1
            self.storing.idle = 0
            self.pumpStoring()
        }
    }

    /// The same for tasks.
    public func stored(_ number: UInt64) async throws(VolumeError) {
        try await told { whenStored(number, on: loop, $0) }
    }

    /// Everything up to this record is in the store.
    var reach: UInt64 { max(checkpoints.header.logFirst - 1, storing.log?.stored ?? 0) }

    /// Answers who need not wait any more, and sees to it that the others are answered some time.
    func pumpStoring() {
        answerStored()
        guard !storing.waiters.isEmpty || storing.isOn && log.copiedBytes > Self.heldBytesMax else { return }
        if checkpoints.failure != nil { return }
        guard storing.isFindable else {
            // All records would be kept, and sent, twice for the sake of one.
            storing.isWanted = storing.log != nil && (storing.asked > 1 || options.logIsInStore)
            return waitForCheckpoint()
        }
        let now = world.clock.monotonic()
        let next = nextTick(now)
        if let tick = storing.nextTick {
            guard next < tick.time else { return }
            loop.cancel(tick.timer)
        }
        let timer = loop.schedule(after: next - now) { [weak self] in
            self?.storing.nextTick = nil
            self?.tick()
        }
        storing.nextTick = (timer, next)
    }

    private func nextTick(_ now: UInt64) -> UInt64 {
        // While somebody waits for what is on its way, those who are answered meanwhile come along. Otherwise there is nothing to wait for.
        let isAlone = storing.waiters.allSatisfy { $0.number > storing.taken } && !storing.waiters.isEmpty
        let last = isAlone ? storing.lastSent : storing.lastTick
        return max(now + Self.gatherNanoseconds, last + Self.tickNanoseconds)
    }

    private func answerStored() {
        let reach = reach
        var ready: [StoringState.Waiter] = []
        let failure = checkpoints.failure ?? failure
        storing.waiters.removeAll { waiter in
            guard failure != nil || waiter.number <= reach else { return false }
            ready.append(waiter)
            return true
        }
        for waiter in ready {
            let outcome = waiter.number <= reach ? nil : failure
            if waiter.loop.isCurrent { waiter.done(outcome) } else { waiter.loop.execute { waiter.done(outcome) } }
        }
    }

    private func waitForCheckpoint() {
        guard !storing.isWaitingForCheckpoint else { return }
        storing.isWaitingForCheckpoint = true
        loop.task {
            var failure: VolumeError?
            do throws(VolumeError) { try await self.checkpoint() } catch { failure = error }
            self.storing.isWaitingForCheckpoint = false
            if let failure { self.failStoring(failure) } else { self.pumpStoring() }
        }
    }

    func failStoring(_ failure: VolumeError) {
        checkpoints.failure = checkpoints.failure ?? failure
        fail(failure)
        endCheckpointWaits()
        answerStored()
    }

    /// Sends what there is: one slot for all records, one segment of each heat for all data.
    private func tick() {
        guard checkpoints.failure == nil, storing.isFindable else { return pumpStoring() }
        storing.lastTick = world.clock.monotonic()
        guard storing.rounds < Self.roundsMax else { return }
        // What a checkpoint holds already is not sent: it would be deleted from among slots that a later header counts on.
        let batches = log.takeCopies().filter { $0.last >= checkpoints.header.logFirst }
        // Data is appended before the record that names it gets its number: what is here now covers that number.
        let last = log.last
        storing.taken = last
        if !batches.isEmpty { storing.lastSent = storing.lastTick }
        storing.held.append((last, batches))
        if segments.state.withLock({ $0.stages.isEmpty }) {
            dataIsStored(upTo: last)
        } else {
            storing.rounds += 1
            loop.task { await self.storeData(upTo: last) }
        }
        pumpStoring()
    }

    private func dataIsStored(upTo last: UInt64) {
        storing.dataStored = max(storing.dataStored, last)
        while let first = storing.held.first, first.last <= storing.dataStored {
            storing.held.removeFirst()
            storing.log?.send(first.batches, self)
        }
    }

    /// A store that does not answer must not take all memory.
    func boundUnsent() {
        guard storing.isOn else { return }
        let held = storing.held.reduce(0) { $0 + $1.batches.reduce(0) { $0 + $1.block.count } }
        guard log.copiedBytes + held + (storing.log?.queuedBytes ?? 0) > Self.unsentBytesMax else { return }
        stopStoring()
        storing.log?.end()
        pumpStoring()
    }

    private func stopStoring() {
        log.dropCopies()
        storing.held.removeAll()
        (storing.isOn, storing.isFindable) = (false, false)
    }

    /// A slot could not get its name: a checkpoint brings what was to be in slots, and its header names where the next ones begin.
    func restartStoring(_ slots: StoreLog) {
        guard storing.log === slots, checkpoints.failure == nil else { return }
        stopStoring()
        slots.skip()
        pumpStoring()
    }

    private func storeData(upTo last: UInt64) async {
        let stages = segments.sealAll()
        var failure: VolumeError?
        do throws(VolumeError) {
            try await uploadAll(stages)
            dataIsStored(upTo: last)
        } catch { failure = error }
        storing.rounds -= 1
        if let failure { failStoring(failure) } else { pumpStoring() }
    }

    // MARK: Checkpoints

    /// Whether records go on being kept, or are from now on, for slots. At the moment that a checkpoint fixes.
    func wantsCopies() -> Bool {
        guard storing.isOn || storing.isWanted else { return false }
        return options.logIsInStore || storing.isWanted || storing.idle < Self.idleMax
    }

    /// What a checkpoint fixes of the slots: those that it does not cover have numbers from the next one on.
    func copies(_ isOn: Bool) {
        storing.isOn = isOn
        storing.isWanted = options.logIsInStore
        if !isOn { storing.isFindable = false }
        storing.idle += 1
        storing.firstSlot = storing.log?.next ?? 0
    }

    /// A header is in the store.
    func headerIsStored(_ header: CheckpointHeader, before: CheckpointHeader, isOn: Bool) {
        storing.isFindable = isOn && storing.isOn
        storing.log?.covered(below: header.logFirst)
        for index in storing.held.indices { storing.held[index].batches.removeAll { $0.last < header.logFirst } }
        if !standsStill { storing.log?.clean(below: before.logFirst, self) }
        pumpStoring()
    }

    /// `slots` are what was found.
    func beginStoring(_ slots: StoreLogRecovery?) async throws(VolumeError) {
        guard store.capabilities.decides else { return }
        let old = try await StoreLogRecovery.slots(store, prefix)
        storing.log = StoreLog(
            next: slots?.next ?? (old.last?.number ?? 0) + Slot.gap, old: old.filter { !$0.isFence }.map(\.number))
        storing.isWanted = options.logIsInStore
    }
}

import Runtime
import Synchronization

/// The byte-range locks of all volumes of a server, behind one guard: who waits in one volume may be waited for in
/// another, and only who sees both sees that this never ends.
///
/// Nobody is called while the guard is held. As long as there is no lock at all, every question costs one atomic look.
public final class ServerLocks: Sendable {
    private struct State {
        var table: LockTable
        var waiters: [LockWait: LockWaiter] = [:]
        var volumes: UInt32 = 0
        /// When the next look at deadlines is due, once somebody has arranged for it.
        var alarm = UInt64.max
    }

    private let state: Guarded<State>
    private let clock: any WorldClock
    /// Locks and waits.
    private let held = Atomic<Int>(0)

    public init(clock: any WorldClock = SystemClock(), grace: Grace = Grace()) {
        self.clock = clock
        state = Guarded(State(table: LockTable(grace: grace)))
    }

    public var isUsed: Bool { held.load(ordering: .acquiring) != 0 }

    /// A number for a volume, by which its files are told from those of others.
    func join() -> UInt32 {
        state.withLock { state in
            state.volumes += 1
            return state.volumes
        }
    }

    // MARK: Asking

    func lock(
        _ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner, _ waiter: LockWaiter?, isReclaim: Bool
    ) -> LockAnswer {
        change { table, waiters, now in
            let answer = table.lock(
                file, range, mode, owner, until: waiter?.deadline, isReclaim: isReclaim, now: now)
            if case .waits(let wait) = answer { waiters[wait] = waiter }
            return answer
        }
    }

    func test(_ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner) -> LockHolder? {
        guard isUsed else { return nil }
        return state.withLock { $0.table.test(file, range, mode, owner) }
    }

    func blocker(_ file: FileID, _ range: LockRange, isWrite: Bool, handle: LockOwner?) -> LockHolder? {
        guard isUsed else { return nil }
        return state.withLock { $0.table.blocker(file, range, isWrite: isWrite, handle: handle) }
    }

    func isLocked(_ file: FileID, by isMeant: (LockOwner) -> Bool) -> Bool {
        guard isUsed else { return false }
        return state.withLock { state in
            guard state.table.isLocked(file) else { return false }
            var found = false
            state.table.forEach(on: file) { if isMeant($0.owner) { found = true } }
            return found
        }
    }

    // MARK: Giving back

    func unlock(_ file: FileID, _ range: LockRange, _ owner: LockOwner) -> Bool {
        change { table, _, _ in
            switch owner.rules {
            case .posix: table.unlock(file, range, process: owner)
            case .handle: table.unlock(file, range, handle: owner)
            }
        }
    }

    /// False: it waits no longer, its outcome is on the way.
    public func cancel(_ wait: LockWait) -> Bool {
        change { table, waiters, _ in
            guard table.cancel(wait) else { return false }
            waiters[wait] = nil
            return true
        }
    }

    /// All locks and waits of an owner go, in all volumes.
    public func release(_ owner: LockOwner) {
        guard isUsed else { return }
        change { table, _, _ in table.release(owner) }
    }

    func release(_ owner: LockOwner, on file: FileID) {
        guard isUsed else { return }
        change { table, _, _ in table.release(owner, on: file) }
    }

    /// All locks and waits of a client go, in all volumes.
    public func release(client: UInt64) {
        guard isUsed else { return }
        change { table, _, _ in table.release(client: client) }
    }

    // MARK: Who holds what

    /// Whether it holds or waits for anything, in any volume.
    public func holds(_ owner: LockOwner) -> Bool {
        isUsed && state.withLock { $0.table.ownerSlots[owner] != nil }
    }

    public func holds(client: UInt64) -> Bool {
        isUsed && state.withLock { $0.table.clients[client]?.owners.isEmpty == false }
    }

    /// Up to `limit` locks of a client's processes and handles, file by file.
    public func locks(of client: UInt64, limit: Int) -> [(file: FileID, lock: LockHolder)] {
        guard isUsed else { return [] }
        return state.withLock { state in
            var found: [(file: FileID, lock: LockHolder)] = []
            for who in state.table.clients[client]?.owners.sorted() ?? [] where found.count < limit {
                found += state.table.locks(of: state.table.owners[who].owner).prefix(limit - found.count)
            }
            return found
        }
    }

    // MARK: After a start

    func restore(_ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner) -> Bool {
        change { table, _, _ in table.restore(file, range, mode, owner) }
    }

    func locks(of owner: LockOwner) -> [LockHolder] {
        guard isUsed else { return [] }
        return state.withLock { $0.table.locks(of: owner).map(\.lock) }
    }

    /// Clients that held locks before may claim them for a while, and nobody takes new ones meanwhile.
    public func beginGrace(nanoseconds: UInt64, clients: some Sequence<UInt64>) {
        let now = clock.monotonic()
        state.withLock { $0.table.grace.extend(from: now, nanoseconds: nanoseconds, clients: clients) }
    }

    public var isInGrace: Bool {
        let now = clock.monotonic()
        return state.withLock { $0.table.grace.isActive(now) }
    }

    /// The client holds again all that it wants of what it held before.
    public func reclaimed(_ client: UInt64) { state.withLock { $0.table.grace.finished(client) } }

    // MARK: What follows

    private func change<Value>(
        _ body: (inout LockTable, inout [LockWait: LockWaiter], UInt64) -> Value
    ) -> Value {
        let now = clock.monotonic()
        var told: [(LockWaiter, LockOutcome)] = []
        var alarm: (loop: EventLoop, at: UInt64)?
        let value = state.withLock { state -> Value in
            let value = body(&state.table, &state.waiters, now)
            for outcome in state.table.takeOutcomes() {
                if let waiter = state.waiters.removeValue(forKey: outcome.wait) { told.append((waiter, outcome)) }
            }
            held.store(state.table.count + state.table.waitCount, ordering: .releasing)
            // Releases end waits without an outcome.
            if state.waiters.count > state.table.waitCount {
                state.waiters = state.waiters.filter { state.table.isWaiting($0.key) }
            }
            if let next = state.table.nextDeadline(), next < state.alarm, let loop = state.waiters.values.first?.loop {
                state.alarm = next
                alarm = (loop, next)
            }
            return value
        }
        for (waiter, outcome) in told { waiter.loop.execute { waiter.done(outcome.wait, outcome.refusal) } }
        if let alarm { arrange(alarm.loop, at: alarm.at, now) }
        return value
    }

    private func arrange(_ loop: EventLoop, at time: UInt64, _ now: UInt64) {
        loop.execute { [self] in
            _ = loop.schedule(after: time > now ? time - now : 0) { [self] in
                state.withLock { $0.alarm = .max }
                change { table, _, now in table.expire(now) }
            }
        }
    }
}

/// Who is told, once, what became of a request that waited.
public struct LockWaiter: Sendable {
    public var loop: EventLoop
    /// By the monotonic clock; `.max`: for ever.
    public var deadline: UInt64
    /// On the loop. Nil: the lock is the owner's now.
    public var done: @Sendable (LockWait, LockRefusal?) -> Void

    public init(
        loop: EventLoop, deadline: UInt64 = .max, done: @escaping @Sendable (LockWait, LockRefusal?) -> Void
    ) {
        self.loop = loop
        self.deadline = deadline
        self.done = done
    }
}

import Bytes
import Namespace
import Runtime

/// What the opens of one volume owe each other: share modes, names that are to go, leases, locks, watches. The rules are
/// those of Namespace's tables; here they get one guard, and messages to whom they concern.
///
/// Nobody is called while the guard is held: what follows from a change is done behind it, on the loop that it belongs to.
final class FileSharing: Sendable {
    struct State {
        var opens = OpenTable()
        var leases = LeaseTable()
        var locks = LockTable()
        /// Of names that are open.
        var places: [UInt64: (place: FilePlace, file: FileID, count: Int)] = [:]
        /// Which file a lease's key stands for, and how many opens brought it, whatever was granted.
        var keys: [LeaseKey: (file: FileID, opens: Int)] = [:]
        var holders: [LeaseKey: LeaseHolder] = [:]
        var waiting: [UInt64: Waiter] = [:]
        var lockWaits: [LockWait: LockWaiter] = [:]
        var nextRequest: UInt64 = 1
        var watches = WatchTable()
    }

    /// Who is told that a lease breaks.
    struct LeaseHolder: Sendable {
        let file: FileID
        let loop: EventLoop
        let tell: @Sendable (LeaseBreak) -> Void
        /// Its opens can not be reached any more.
        let end: @Sendable () -> Void
    }

    struct LeaseBreak: Sendable {
        var key: LeaseKey
        var from: LeaseState
        var to: LeaseState
        var epoch: UInt16
        var mustAcknowledge: Bool
    }

    struct Waiter: Sendable {
        let loop: EventLoop
        let file: FileID
        let resume: @Sendable () -> Void
    }

    struct LockWaiter: Sendable {
        let loop: EventLoop
        let done: @Sendable (LockRefusal?) -> Void
    }

    private let state = Guarded(State())
    private let hash: KeyedHash
    private let clock: any WorldClock

    init(hash: KeyedHash, clock: any WorldClock) {
        self.hash = hash
        self.clock = clock
    }

    var wall: Int64 { clock.wall() }

    /// The number of a name in a directory; never 0.
    func number(of name: [UInt8], in directory: FileID) -> UInt64 {
        var bytes = name
        bytes.u64(directory.inode)
        bytes.u64(directory.generation)
        return max(bytes.withUnsafeBytes { hash($0) }, 1)
    }

    /// Works on the tables, then does what follows.
    func change<Value>(on loop: EventLoop, _ body: (inout State, UInt64) -> Value) -> Value {
        let now = clock.monotonic()
        let (value, effects) = state.withLock { state -> (Value, Effects) in
            let value = body(&state, now)
            return (value, Self.effects(&state))
        }
        carryOut(effects, on: loop)
        return value
    }

    func look<Value>(_ body: (inout State) -> Value) -> Value { state.withLock { body(&$0) } }

    // MARK: What follows

    private struct Effects {
        var breaks: [(LeaseHolder, LeaseBreak)] = []
        var ends: [LeaseHolder] = []
        var resumes: [Waiter] = []
        var locks: [(LockWaiter, LockRefusal?)] = []
        var events: [WatchTable.Delivery] = []
        var deadline: UInt64?
        var isEmpty: Bool {
            breaks.isEmpty && ends.isEmpty && resumes.isEmpty && locks.isEmpty && events.isEmpty && deadline == nil
        }
    }

    private static func effects(_ state: inout State) -> Effects {
        var effects = Effects()
        for action in state.leases.takeActions() {
            switch action {
            case .sendBreak(let key, let from, let to, let epoch, let mustAcknowledge):
                if let holder = state.holders[key] {
                    effects.breaks.append(
                        (
                            holder,
                            LeaseBreak(key: key, from: from, to: to, epoch: epoch, mustAcknowledge: mustAcknowledge)
                        ))
                }
                if mustAcknowledge { effects.deadline = state.leases.nextDeadline() }
            case .resume(let request):
                if let waiter = state.waiting.removeValue(forKey: request) { effects.resumes.append(waiter) }
            case .closeDisconnected(let key):
                if let holder = state.holders[key] { effects.ends.append(holder) }
            }
        }
        for outcome in state.locks.takeOutcomes() {
            if let waiter = state.lockWaits.removeValue(forKey: outcome.wait) {
                effects.locks.append((waiter, outcome.refusal))
            }
        }
        effects.events = state.watches.takeDeliveries()
        return effects
    }

    private func carryOut(_ effects: Effects, on loop: EventLoop) {
        guard !effects.isEmpty else { return }
        for (holder, message) in effects.breaks { Self.run(on: holder.loop, loop) { holder.tell(message) } }
        for holder in effects.ends { holder.loop.execute(holder.end) }
        for waiter in effects.resumes { waiter.loop.execute(waiter.resume) }
        for (waiter, refusal) in effects.locks { waiter.loop.execute { waiter.done(refusal) } }
        for event in effects.events { event.loop.execute(event.tell) }
        guard let deadline = effects.deadline else { return }
        let now = clock.monotonic()
        loop.execute { [self] in
            _ = loop.schedule(after: deadline > now ? deadline - now : 0) { [self] in
                change(on: loop) { state, now in state.leases.expire(now) }
            }
        }
    }

    /// A break goes out before anything that was caused later.
    private static func run(on target: EventLoop, _ current: EventLoop, _ work: @escaping @Sendable () -> Void) {
        if target === current { work() } else { target.execute(work) }
    }
}

extension FileSharing {
    // MARK: Opens

    struct Wish {
        var file: FileID
        var place: FilePlace.Path
        var isDirectory: Bool
        var client: UInt64
        var share: ShareMode
        var granted: AccessMask
        var isDeleteOnClose: Bool
        var leaseKey: UInt128
        /// Of the lease or oplock that the open has or will have.
        var actor: LeaseKey?
        var replaces: Bool
    }

    enum Admission {
        case opened(OpenID, FilePlace, UInt64)
        /// The request's number, to give the waiting up.
        case waits(UInt64)
        case refused(NTStatus)
        /// Handles whose clients are away keep what is wanted: they end, then it is tried again.
        case purges([UInt64])
    }

    /// `away`: durable handles of the file whose clients are not connected. Opens the file for its caller, or keeps him waiting for somebody's lease; `waiter` is told to ask again.
    func open(_ wish: Wish, away: [Open], on loop: EventLoop, waiter: () -> Waiter) -> Admission {
        let name =
            if let parent = wish.place.parent, let last = wish.place.name { number(of: last, in: parent) } else {
                0 as UInt64
            }
        return change(on: loop) { state, now in
            let request = state.nextRequest
            func wait(_ operation: LeaseOperation) -> Admission? {
                switch state.leases.check(wish.file, by: wish.actor, operation, request: request, now: now) {
                case .proceed: return nil
                case .tooMany: return .refused(.insufficientResources)
                case .waits:
                    state.nextRequest += 1
                    state.waiting[request] = waiter()
                    return .waits(request)
                }
            }
            if let actor = wish.actor, let known = state.keys[actor], known.file != wish.file {
                return .refused(.invalidParameter)
            }
            if name != 0, state.opens.isDeletePending(wish.file, name) { return .refused(.deletePending) }
            if !away.isEmpty {
                let isShared = !state.opens.conflicts(wish.file, wish.share)
                let isLook = wish.granted.isSubset(of: .look) && !wish.replaces
                let ends = away.filter { open in
                    // What it keeps of writes nobody could ask back.
                    let kept = state.leases.state(open.actor) ?? []
                    return open.actor != wish.actor
                        && (!isShared || !isLook && (wish.replaces || kept.contains(.write)))
                }
                if !ends.isEmpty { return .purges(ends.map(\.handle.persistent)) }
            }
            let isLook = wish.granted.isSubset(of: .look) && !wish.replaces
            if state.opens.conflicts(wish.file, wish.share), let answer = wait(.openUnshared) { return answer }
            if !state.opens.conflicts(wish.file, wish.share) {
                let operation: LeaseOperation = wish.replaces ? .openReplacing : isLook ? .openAttributes : .open
                if let answer = wait(operation) { return answer }
            }
            let answer = state.opens.open(
                OpenRequest(
                    file: wish.file, name: name, client: wish.client, share: wish.share,
                    granted: wish.granted.rawValue, isDeleteOnClose: wish.isDeleteOnClose, leaseKey: wish.leaseKey))
            switch answer {
            case .opened(let id, _):
                let known = state.places[name]
                let place = known?.place ?? FilePlace(wish.place, isDirectory: wish.isDirectory)
                if wish.leaseKey != 0, let actor = wish.actor {
                    state.keys[actor] = (wish.file, (state.keys[actor]?.opens ?? 0) + 1)
                }
                if name != 0 { state.places[name] = (place, wish.file, (known?.count ?? 0) + 1) }
                return .opened(id, place, name)
            case .sharingViolation: return .refused(.sharingViolation)
            case .deletePending: return .refused(.deletePending)
            case .tooMany: return .refused(.insufficientResources)
            }
        }
    }

    /// A lease's key stands for one file at a time.
    func isFree(_ key: LeaseKey) -> Bool { look { $0.keys[key] == nil } }

    /// Nobody waits for the answer any more.
    func giveUp(_ request: UInt64, on file: FileID) {
        look { state in
            state.waiting[request] = nil
            state.leases.cancel(request: request, on: file)
        }
    }

    func isGoing(_ open: Open) -> Bool {
        look { state in
            guard let id = open.id, let name = state.opens[id]?.name else { return false }
            return state.opens.isDeletePending(open.file, name)
        }
    }

    func isGoing(_ file: FileID, _ path: FilePlace.Path) -> Bool {
        guard let parent = path.parent, let name = path.name else { return false }
        let number = number(of: name, in: parent)
        return look { $0.opens.isDeletePending(file, number) }
    }

    /// The name goes with its last open, or stays after all.
    func setGoing(_ open: Open, _ isGoing: Bool, on loop: EventLoop) -> Bool {
        change(on: loop) { state, _ in
            guard let id = open.id, state.opens.setDeletePending(id, isGoing) else { return false }
            if isGoing, open.isDirectory { state.watches.end(open.file) }
            return true
        }
    }

    /// Whether somebody has something open below the directory, besides what it is itself.
    func isInUse(below directory: FileID) -> Bool {
        look { state in state.places.values.contains { $0.place.path.ancestors.contains(directory) } }
    }

    /// Whether somebody may delete the directory by an open that he has: names in it stay then.
    func isHeldForDelete(_ directory: FileID, besides own: FileID) -> Bool {
        guard directory != own else { return false }
        return look { state in
            var found = false
            state.opens.forEach(of: directory) { open in
                found = open.share.access.contains(.delete)
                return !found
            }
            return found
        }
    }

    func isOpen(_ file: FileID) -> Bool { look { $0.opens.isOpen(file) } }

    /// The name of an open is another one now, for all who came by it.
    func renamed(_ open: Open, to path: FilePlace.Path) {
        guard let id = open.id, let parent = path.parent, let name = path.name else { return }
        let new = number(of: name, in: parent)
        look { state in
            guard let old = state.opens[id]?.name, old != 0, old != new else {
                open.place.path = path
                return
            }
            state.opens.rename(open.file, from: old, to: new)
            if let entry = state.places.removeValue(forKey: old) { state.places[new] = entry }
            open.place.path = path
        }
    }

    func post(_ action: WatchAction, _ filter: WatchFilter, _ path: FilePlace.Path, on loop: EventLoop) {
        if look({ $0.watches.count == 0 }) { return }
        change(on: loop) { state, _ in state.watches.post(action, filter, path) }
    }

    /// Ends an open with all that hangs on it; answers whether the name it came by is to be removed now.
    func close(_ open: Open, on loop: EventLoop) -> Bool {
        guard let id = open.id else { return false }
        open.id = nil
        return change(on: loop) { state, _ in
            state.locks.release(open.lockOwner)
            state.watches.remove(open.handle.volatile)
            let name = state.opens[id]?.name ?? 0
            if open.isDirectory, state.opens[id]?.isDeleteOnClose == true { state.watches.end(open.file) }
            let closed = state.opens.close(id)
            if let key = open.broughtKey, let known = state.keys[key] {
                state.keys[key] = known.opens > 1 ? (known.file, known.opens - 1) : nil
            }
            if let key = open.leaseKey {
                open.leaseKey = nil
                state.leases.closed(key)
                if state.leases.state(key) == nil { state.holders[key] = nil }
            }
            if name != 0, let entry = state.places[name] {
                state.places[name] = entry.count > 1 ? (entry.place, entry.file, entry.count - 1) : nil
            }
            return closed?.removedName ?? 0 != 0
        }
    }

    // MARK: Leases

    /// Grants what it can of `wanted` to an open.
    func grant(
        _ key: LeaseKey, _ wanted: LeaseState, kind: LeaseKind, to open: Open, epoch: UInt16?, holder: LeaseHolder,
        on loop: EventLoop
    ) -> LeaseGrant? {
        guard let id = open.id else { return nil }
        return change(on: loop) { state, _ in
            var isLocked = false
            state.locks.forEach(on: open.file) { lock in
                if lock.owner != open.lockOwner { isLocked = true }
            }
            let grant = state.leases.grant(
                key, on: open.file, kind: kind, wanted: wanted, isShared: state.opens.isShared(open.file, besides: id),
                isLocked: isLocked && kind == .oplock, isDirectory: open.isDirectory, hasEpoch: epoch != nil,
                epoch: epoch ?? 0)
            if case .granted = grant, state.leases.state(key) != nil {
                open.leaseKey = key
                if state.holders[key] == nil { state.holders[key] = holder }
            }
            return grant
        }
    }

    /// Whether the operation may be done now; otherwise `waiter` is told to ask again.
    func mayProceed(
        _ operation: LeaseOperation, on file: FileID, by actor: LeaseKey?, loop: EventLoop, number: inout UInt64,
        waiter: () -> Waiter
    ) -> LeaseCheck {
        if look({ $0.leases.count == 0 }) { return .proceed }
        var actor = actor
        // An oplock of the second level is not its open's own: any write ends it ([MS-FSA] 2.1.5.3).
        if operation == .write, let own = actor, own.key == .max, look({ $0.leases.state(own) == .read }) {
            actor = nil
        }
        return change(on: loop) { state, now in
            let request = state.nextRequest
            let answer = state.leases.check(file, by: actor, operation, request: request, now: now)
            if answer == .waits {
                number = request
                state.nextRequest += 1
                state.waiting[request] = waiter()
            }
            return answer
        }
    }

    func acknowledge(_ key: LeaseKey, _ to: LeaseState, on loop: EventLoop) -> Acknowledgement {
        change(on: loop) { state, now in state.leases.acknowledge(key, to, now: now) }
    }
}

extension OpenTable {
    /// Whether an open of this kind is refused by others.
    func conflicts(_ file: FileID, _ share: ShareMode) -> Bool {
        var found = false
        forEach(of: file) { open in
            found = open.share.conflicts(with: share)
            return !found
        }
        return found
    }
}

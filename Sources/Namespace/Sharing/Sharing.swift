import Bytes
import Runtime
import Synchronization

/// What those who use a volume owe each other, by whatever protocol they come: share modes, names that are to go, leases,
/// watches, and the locks of the server. The tables have the rules; here they get a guard, and messages reach whom they
/// concern.
///
/// Nobody is called while the guard is held: what follows from a change is done behind it. Where both are needed, this guard
/// comes before that of the locks. As long as nothing is open and nobody watches, every operation costs two atomic
/// looks.
final class Sharing: Sendable {
    struct State {
        var opens: OpenTable
        var leases: LeaseTable
        var watches = WatchTable()
        /// Watches of foreign directories.
        var observed: [WatchID: (directory: FileID, isRecursive: Bool)] = [:]
        /// Streams that are open, of each file, and how often.
        var streams: [FileID: [FileID: Int]] = [:]
        var keys: LeaseMap<KeyUse>
        var holders: LeaseMap<LeaseHolder>
        /// Those who wait until somebody gives up what his lease allows.
        var waiting: [UInt64: UnsafeContinuation<Void, Never>] = [:]
        var nextRequest: UInt64 = 1
        /// What is left to do for opens that are closed.
        var leftovers: [OpenID: Leftover] = [:]
        /// What clients without opens were refused, and since when.
        var refusals: [RefusedUse: Refusals] = [:]
        /// When the next look at deadlines is due, once somebody has arranged for it.
        var alarm = UInt64.max
        /// Opens that are kept over a restart, and those of before it whose clients have not come yet.
        var kept = KeptOpens()

        init(seed: UInt64) {
            opens = OpenTable(seed: seed)
            leases = LeaseTable(seed: ~seed)
            keys = LeaseMap(seed: seed)
            holders = LeaseMap(seed: ~seed)
        }

        /// Nobody but openers has anything to be told: what follows from a change then is nothing.
        @inline(__always) var isQuiet: Bool { leases.count == 0 && watches.count == 0 && leftovers.isEmpty }

        @inline(__always) var uses: Uses {
            var uses: Uses = []
            if opens.count > 0 { uses.insert(.opens) }
            if leases.count > 0 { uses.insert(.leases) }
            if watches.count > 0 { uses.insert(.watches) }
            if watches.recursiveCount > 0 { uses.insert(.recursiveWatches) }
            if !kept.isEmpty { uses.insert(.kept) }
            return uses
        }
    }

    /// Which file a lease's key stands for, and how many opens brought it, whatever was granted.
    struct KeyUse {
        var file: FileID
        var opens: UInt32
    }

    struct Leftover {
        var file: FileID
        /// To be removed.
        var name: PlaceName?
        /// What the volume keeps of it goes too.
        var record: UInt64?
        /// For another call.
        var isKept = false
    }

    struct RefusedUse: Hashable {
        var file: FileID
        var client: UInt64
        var uid: UInt32
        var access: DataAccess
    }

    struct Refusals {
        var first: UInt64
        var last: UInt64
        /// The bytes, if a lock on them was in the way.
        var range: LockRange?
    }

    struct Uses: OptionSet {
        let rawValue: Int
        static let opens = Uses(rawValue: 1)
        static let leases = Uses(rawValue: 2)
        static let watches = Uses(rawValue: 4)
        static let recursiveWatches = Uses(rawValue: 8)
        static let kept = Uses(rawValue: 16)
    }

    /// A name by which something is open.
    struct PlaceName: Equatable {
        /// Of a stream: the file that it belongs to.
        var directory: FileID
        var name: [UInt8]
        var isStream = false
    }

    let locks: ServerLocks
    private let volume: UInt32
    private let state: Guarded<State>
    /// Held while a record is made and written, so that the newest is the one that stays. Comes before the guard.
    let records = Guarded(())
    private let bits = Atomic<Int>(0)
    private let hash: KeyedHash
    let clock: any WorldClock

    init(locks: ServerLocks, clock: any WorldClock, random: any RandomSource) {
        self.locks = locks
        volume = locks.join()
        self.clock = clock
        hash = KeyedHash(random.next(), random.next())
        state = Guarded(State(seed: random.next()))
    }

    @inline(__always) var uses: Uses { Uses(rawValue: bits.load(ordering: .acquiring)) }
    @inline(__always) var isIdle: Bool { bits.load(ordering: .acquiring) == 0 && !locks.isUsed }

    func test(_ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner) -> LockHolder? {
        locks.test(locked(file), range, mode, owner)
    }

    func unlock(_ file: FileID, _ range: LockRange, _ owner: LockOwner) -> Bool {
        locks.unlock(locked(file), range, owner)
    }

    func release(_ owner: LockOwner, on file: FileID) { locks.release(owner, on: locked(file)) }

    /// The file as the server's lock table knows it.
    func locked(_ file: FileID) -> FileID {
        var file = file
        file.volume = volume
        return file
    }

    /// The number of a name in a directory; never 0.
    func number(of name: UnsafeRawBufferPointer, in directory: FileID) -> UInt64 {
        var key = directory.inode &* 0x9E37_79B9_7F4A_7C15 ^ directory.generation ^ UInt64(directory.subvolume) << 48
        // Names that meet under the key can not be chosen, nor names of two directories that do.
        key ^= hash(name)
        return max(key, 1)
    }

    func number(of place: PlaceName) -> UInt64 {
        let number = place.name.withUnsafeBytes { self.number(of: $0, in: place.directory) }
        // A stream is no entry of the directory that it may belong to.
        return place.isStream ? max(~number, 1) : number
    }

    // MARK: Changing

    /// Works on the tables, then does what follows.
    func change<Value, Failure: Error>(
        _ body: (inout State, UInt64) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let now = clock.monotonic()
        var effects = Effects()
        let result: Result<Value, Failure> = state.withLock { state in
            let result = Result { () throws(Failure) in try body(&state, now) }
            effects = Self.effects(&state)
            bits.store(state.uses.rawValue, ordering: .releasing)
            return result
        }
        carryOut(effects, now)
        return try result.get()
    }

    /// Works on the tables of a volume where nobody has anything to be told. Nil: somebody may have, and nothing was done.
    @inline(__always)
    func changeQuietly<Value>(_ body: (inout State) -> Value) -> Value? {
        state.withLock { state in
            guard state.isQuiet else { return nil }
            let value = body(&state)
            bits.store(state.uses.rawValue, ordering: .releasing)
            return value
        }
    }

    func look<Value>(_ body: (inout State) -> Value) -> Value { state.withLock { body(&$0) } }

    private struct Effects {
        var breaks: [(LeaseHolder, LeaseBreak)] = []
        var ends: [(LeaseHolder, LeaseKey)] = []
        var resumes: [UnsafeContinuation<Void, Never>] = []
        var events: [WatchTable.Delivery] = []
        var alarm: (loop: EventLoop, at: UInt64)?
    }

    private static func effects(_ state: inout State) -> Effects {
        var effects = Effects()
        var loop: EventLoop?
        for action in state.leases.takeActions() {
            switch action {
            case .sendBreak(let key, let from, let to, let epoch, let mustAcknowledge):
                guard let holder = state.holders[key] else { continue }
                loop = holder.loop
                effects.breaks.append(
                    (
                        holder,
                        LeaseBreak(key: key, from: from, to: to, epoch: epoch, mustAcknowledge: mustAcknowledge)
                    ))
            case .resume(let request):
                if let waiter = state.waiting.removeValue(forKey: request) { effects.resumes.append(waiter) }
            case .closeDisconnected(let key):
                guard let holder = state.holders[key] else { continue }
                loop = holder.loop
                effects.ends.append((holder, key))
            }
        }
        // A break that nobody can be told of yet has its time all the same.
        if let next = state.leases.nextDeadline(), next < state.alarm,
            let loop = loop ?? state.holders.any?.loop
        {
            state.alarm = next
            effects.alarm = (loop, next)
        }
        effects.events = state.watches.takeDeliveries()
        return effects
    }

    private func carryOut(_ effects: Effects, _ now: UInt64) {
        for (holder, message) in effects.breaks {
            // A break goes out before anything that was caused later.
            if holder.loop.isCurrent { holder.tell(message) } else { holder.loop.execute { holder.tell(message) } }
        }
        for (holder, key) in effects.ends { holder.loop.execute { holder.end(key) } }
        for waiter in effects.resumes { waiter.resume() }
        for event in effects.events { event.loop.execute(event.tell) }
        guard let alarm = effects.alarm else { return }
        alarm.loop.execute { [self] in arrange(alarm.loop, after: alarm.at > now ? alarm.at - now : 0) }
    }

    private func arrange(_ loop: EventLoop, after nanoseconds: UInt64) {
        _ = loop.schedule(after: nanoseconds) { [self] in
            let next = change { state, now -> UInt64? in
                state.leases.expire(now)
                let next = state.leases.nextDeadline()
                state.alarm = next ?? .max
                return next.map { $0 > now ? $0 - now : 0 }
            }
            if let next { arrange(loop, after: next) }
        }
    }
}

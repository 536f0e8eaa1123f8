/// The byte-range locks of a volume's files, with those who wait for them. No I/O, no clock: the caller guards it, brings the
/// time, and after each call tells the clients what `takeOutcomes` says.
///
/// One rule between protocols: a request for a lock is refused by any other owner's lock, whatever their rules; SMB's
/// reads and writes respect all locks; everybody else's respect the locks of handles only. See docs/locks.md.
///
/// Invariants: exclusive locks overlap nothing but shared locks of the same handle. A process's locks on a file overlap each other
/// nowhere, and those of one mode do not touch. A request waits only while a lock, or an earlier request that it must
/// not overtake, is in its way.
public struct LockTable {
    public static let locksPerFileMax = 16_384
    public static let locksPerClientMax = 65_536
    public static let locksMax = 1 << 20
    public static let waitsPerFileMax = 1024
    public static let waitsPerClientMax = 1024
    /// Blockers looked at in search of a deadlock. What can not be cleared in as many steps may not wait.
    public static let searchStepsMax = 65_536

    struct File {
        var id: FileID
        var shared = RangeList()
        var exclusive = RangeList()
        /// Locks on no bytes at offset 0: they conflict with nothing and have to be unlocked.
        var voids: [(owner: UInt32, mode: LockMode)] = []
        /// How many of the locks belong to handles.
        var ofHandles = 0
        var exclusiveOfHandles = 0
        /// In the order in which they came.
        var waits: [Wait] = []

        var count: Int { shared.count + exclusive.count + voids.count }
        var isUnused: Bool { count == 0 && waits.isEmpty }
    }

    struct Wait {
        var number: UInt64
        var owner: UInt32
        var range: LockRange
        var mode: LockMode
    }

    struct Owner {
        var owner: LockOwner
        var locks = 0
        /// Locks by file.
        var files: [UInt32: Int] = [:]
        var waits: [UInt64] = []
    }

    struct Client {
        var owners: Set<UInt32> = []
        var locks = 0
        var waits = 0
    }

    var files = Slots(vacant: File(id: FileID(subvolume: 0, inode: 0, generation: 0)))
    var fileSlots: [FileID: UInt32] = [:]
    var owners = Slots(vacant: Owner(owner: LockOwner(.posix, client: 0, id: 0)))
    var ownerSlots: [LockOwner: UInt32] = [:]
    var clients: [UInt64: Client] = [:]
    /// The file of each request that waits.
    var waits: [UInt64: UInt32] = [:]
    var deadlines = DeadlineHeap()
    var outcomes: [LockOutcome] = []
    public var grace: Grace
    public internal(set) var count = 0
    private var nextWait: UInt64 = 1

    public init(grace: Grace = Grace()) { self.grace = grace }

    public var waitCount: Int { waits.count }
    func isWaiting(_ wait: LockWait) -> Bool { waits[wait.number] != nil }

    /// Entries of all tables: none are left when nothing is held and nobody waits.
    package var entryCount: Int { files.count + fileSlots.count + owners.count + ownerSlots.count + clients.count }
    package var deadlineCount: Int { deadlines.count }

    /// What became of requests that waited, since the last call.
    public mutating func takeOutcomes() -> [LockOutcome] {
        let taken = outcomes
        outcomes.removeAll()
        return taken
    }

    // MARK: Taking locks

    /// Asks for a lock. With `until`, a time of the clock of `now` (`.max`: for ever), a request that can not be granted waits.
    public mutating func lock(
        _ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner, until deadline: UInt64? = nil,
        isReclaim: Bool = false, now: UInt64
    ) -> LockAnswer {
        precondition(owner.rules == .handle || !range.isEmpty, "a process locks bytes")
        if let refusal = grace.refusal(owner.client, isReclaim: isReclaim, now) { return .refused(refusal) }
        let place = fileSlot(file)
        let who = ownerSlot(owner)
        defer {
            retire(owner: who)
            retire(file: place)
        }
        let blocker = blocker(place, range, mode, who)
        let mustQueue = blocker == nil && deadline != nil && mustQueue(place, range, mode, who, before: .max)
        if blocker == nil, !mustQueue {
            if let refusal = take(place, range, mode, who) { return .refused(refusal) }
            settle([place] + filesWaitedFor(who), granted: who)
            return .granted
        }
        guard let deadline, deadline > now else {
            guard let blocker else { return .refused(.timeout) }
            return .refused(.held(holder(blocker.lock, blocker.mode)))
        }
        if let refusal = refusalToWait(place, range, mode, who) { return .refused(refusal) }
        let number = nextWait
        nextWait += 1
        files[place].waits.append(Wait(number: number, owner: who, range: range, mode: mode))
        owners[who].waits.append(number)
        clients[owner.client, default: Client()].waits += 1
        waits[number] = place
        if deadline != .max { deadlines.insert(deadline, number) }
        return .waits(LockWait(number: number))
    }

    /// A lock that a handle held before a restart, which no grace is in the way of. False: somebody else's is.
    public mutating func restore(_ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner) -> Bool {
        precondition(owner.rules == .handle, "processes claim theirs by themselves")
        let place = fileSlot(file)
        let who = ownerSlot(owner)
        defer {
            retire(owner: who)
            retire(file: place)
        }
        return blocker(place, range, mode, who) == nil && take(place, range, mode, who) == nil
    }

    private mutating func refusalToWait(
        _ place: UInt32, _ range: LockRange, _ mode: LockMode, _ who: UInt32
    ) -> LockRefusal? {
        let client = clients[owners[who].owner.client]
        guard files[place].waits.count < Self.waitsPerFileMax, client?.waits ?? 0 < Self.waitsPerClientMax else {
            return .tooMany
        }
        let wait = Wait(number: .max, owner: who, range: range, mode: mode)
        return refusal(of: search(place, wait))
    }

    /// Who would refuse this lock now; nil: nobody.
    public func test(_ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner) -> LockHolder? {
        guard let place = fileSlots[file] else { return nil }
        let who = ownerSlots[owner] ?? .max
        guard let found = blocker(place, range, mode, who, rules: owner.rules) else { return nil }
        return holder(found.lock, found.mode)
    }

    // MARK: Reads and writes

    /// Whose lock forbids a read or write. `handle`: the open handle that is used; nil for protocols whose locks are
    /// advisory, which only locks of handles bind.
    public func blocker(
        _ file: FileID, _ range: LockRange, isWrite: Bool, handle: LockOwner?
    ) -> LockHolder? {
        if count == 0 { return nil }
        guard let place = fileSlots[file] else { return nil }
        let who = handle.flatMap { ownerSlots[$0] } ?? .max
        let everyLock = handle != nil
        if everyLock || files[place].exclusiveOfHandles > 0 {
            let found = files[place].exclusive.first(overlapping: range) { lock in
                lock.owner != who && (everyLock || owners[lock.owner].owner.rules == .handle)
            }
            if let found { return holder(found, .exclusive) }
        }
        // A shared lock forbids writes to its own handle, too.
        guard isWrite, everyLock || files[place].ofHandles > files[place].exclusiveOfHandles else { return nil }
        let found = files[place].shared.first(overlapping: range) { lock in
            everyLock || owners[lock.owner].owner.rules == .handle
        }
        return found.map { holder($0, .shared) }
    }

    // MARK: Giving them back

    /// Unlocks all of a process's that lies in `range`. False: that would leave more locks than there may be, and
    /// nothing is unlocked.
    public mutating func unlock(_ file: FileID, _ range: LockRange, process owner: LockOwner) -> Bool {
        precondition(owner.rules == .posix && !range.isEmpty, "a process unlocks bytes")
        guard let place = fileSlots[file], let who = ownerSlots[owner] else { return true }
        guard replace(place, range, nil, who) == nil else { return false }
        settle([place])
        retire(owner: who)
        retire(file: place)
        return true
    }

    /// Unlocks one lock of a handle that has exactly this range, an exclusive one first. False: there is none.
    public mutating func unlock(_ file: FileID, _ range: LockRange, handle owner: LockOwner) -> Bool {
        precondition(owner.rules == .handle, "a handle unlocks what it locked")
        guard let place = fileSlots[file], let who = ownerSlots[owner] else { return false }
        let mode: LockMode
        if range.isVoid {
            let mine = files[place].voids.indices.filter { files[place].voids[$0].owner == who }
            guard let index = mine.first(where: { files[place].voids[$0].mode == .exclusive }) ?? mine.first else {
                return false
            }
            mode = files[place].voids.remove(at: index).mode
        } else if files[place].exclusive.remove(range, owner: who) {
            mode = .exclusive
        } else if files[place].shared.remove(range, owner: who) {
            mode = .shared
        } else {
            return false
        }
        account(place, who, mode, -1)
        settle([place])
        retire(owner: who)
        retire(file: place)
        return true
    }

    /// A request that waits is not wanted any more. False: it waits no longer, its outcome is on the way.
    public mutating func cancel(_ wait: LockWait) -> Bool {
        guard let place = waits[wait.number] else { return false }
        let ended = forget(wait.number, place)
        settle([place])
        retire(owner: ended.owner)
        retire(file: place)
        return true
    }

    /// All locks and waits of an owner on one file go: the process closed it.
    public mutating func release(_ owner: LockOwner, on file: FileID) {
        guard let who = ownerSlots[owner], let place = fileSlots[file] else { return }
        settle(release(who, [place]))
        retire(owner: who)
        retire(file: place)
    }

    /// All locks and waits of an owner go: the handle is closed, the process is gone. Waits end without an outcome.
    public mutating func release(_ owner: LockOwner) {
        guard let who = ownerSlots[owner] else { return }
        let touched = ordered(release(who, nil))
        settle(touched)
        retire(owner: who)
        for place in touched { retire(file: place) }
    }

    /// All locks and waits of a client go.
    public mutating func release(client: UInt64) {
        var touched: [UInt32] = []
        // All go before anybody is let in, so that no wait of this client is granted meanwhile.
        let all = clients[client]?.owners.sorted() ?? []
        for who in all { touched += release(who, nil) }
        for who in all { retire(owner: who) }
        touched = ordered(touched)
        settle(touched)
        for place in touched { retire(file: place) }
    }

    /// Each once, in an order that does not depend on where the tables keep them: the same calls have the same outcomes.
    private func ordered(_ places: [UInt32]) -> [UInt32] {
        Set(places).sorted { a, b in
            let a = files[a].id
            let b = files[b].id
            return (a.subvolume, a.inode, a.generation) < (b.subvolume, b.inode, b.generation)
        }
    }

    // MARK: Time

    /// When `expire` has something to do next.
    public mutating func nextDeadline() -> UInt64? {
        while let next = deadlines.next, waits[next.number] == nil { deadlines.removeNext() }
        return deadlines.next?.deadline
    }

    /// Ends the waits whose time is over.
    public mutating func expire(_ now: UInt64) {
        while let deadline = nextDeadline(), deadline <= now, let next = deadlines.next {
            deadlines.removeNext()
            guard let place = waits[next.number] else { continue }
            let ended = forget(next.number, place)
            report(ended, place, .timeout)
            settle([place])
            retire(owner: ended.owner)
            retire(file: place)
        }
    }

    // MARK: Showing

    public func forEach(on file: FileID, _ body: (LockHolder) -> Void) {
        guard let place = fileSlots[file] else { return }
        files[place].exclusive.visitAll { body(holder($0, .exclusive)) }
        files[place].shared.visitAll { body(holder($0, .shared)) }
        for lock in files[place].voids {
            body(LockHolder(owner: owners[lock.owner].owner, range: .void, mode: lock.mode))
        }
    }

    /// What an owner holds: to be kept for a handle that outlives its connection.
    public func locks(of owner: LockOwner) -> [(file: FileID, lock: LockHolder)] {
        guard let who = ownerSlots[owner] else { return [] }
        var found: [(file: FileID, lock: LockHolder)] = []
        for place in owners[who].files.keys.sorted() {
            let file = files[place].id
            forEach(on: file) { if $0.owner == owner { found.append((file, $0)) } }
        }
        return found
    }

    public func isLocked(_ file: FileID) -> Bool { fileSlots[file].map { files[$0].count > 0 } ?? false }
}

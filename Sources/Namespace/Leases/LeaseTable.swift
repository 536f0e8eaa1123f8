import Bytes

/// Leases, oplocks and delegations of a volume. No I/O: the caller guards it, brings the time, and after each call sends what
/// `takeActions` says.
///
/// An operation first asks `check`. It waits when somebody keeps what it must not overtake; when that is given up, or 35 s
/// are over, it is resumed and asks again.
///
/// Invariants: while a lease allows writes to be kept, no other lease of the file allows anything. At most one break of a
/// lease is under way; what others demand meanwhile follows it. What somebody waits to be given up is granted to nobody.
public struct LeaseTable {
    public static let leasesPerFileMax = 4096
    public static let leasesPerClientMax = 65_536
    public static let leasesMax = 1 << 20
    public static let waitsPerFileMax = 1024
    /// How long a client has to answer a break ([MS-SMB2] 3.3.2.5).
    public static let breakNanoseconds: UInt64 = 35_000_000_000

    struct Lease {
        var key: LeaseKey
        var file: UInt32
        var kind: LeaseKind
        /// Version 2 leases count their changes.
        var hasEpoch: Bool
        var isDirectory: Bool
        var isConnected = true
        /// It was there before a restart, or was asked before its connection broke, and its client is given time to come back.
        var isAwaited = false
        var state: LeaseState
        var epoch: UInt16
        /// Opens that share it.
        var opens = 0
        /// Of the break under way; nil: none.
        var breakTo: LeaseState?
        /// As little as operations have demanded meanwhile.
        var demanded = LeaseState.all
        /// Tells this break's time-out from earlier ones'.
        var breakNumber: UInt64 = 0
    }

    struct Wait {
        var request: UInt64
        var actor: LeaseKey?
        var operation: LeaseOperation
    }

    struct File {
        var id: FileID
        /// In the order in which they were granted: breaks go out so.
        var leases: [UInt32] = []
        var waits: [Wait] = []
    }

    var leases: Slots<Lease>
    var files: Slots<File>
    private var slots: SlotIndex
    private var fileSlots: SlotIndex
    /// Clients choose the keys.
    private let hash: KeyedHash
    var perClient: [UInt128: Set<UInt32>] = [:]
    private var deadlines = DeadlineHeap()
    /// The lease of each break under way that has to be acknowledged.
    var breaks: [UInt64: UInt32] = [:]
    private var nextBreak: UInt64 = 1
    private var actions: [LeaseAction] = []

    /// `seed` is secret where clients have a say in what is kept.
    public init(seed: UInt64 = 0x9E37_79B9_7F4A_7C15) {
        slots = SlotIndex(seed: seed)
        fileSlots = SlotIndex(seed: seed)
        hash = KeyedHash(seed, ~seed)
        let nowhere = FileID(subvolume: 0, inode: 0, generation: 0)
        files = Slots(vacant: File(id: nowhere))
        leases = Slots(
            vacant: Lease(
                key: LeaseKey(client: 0, key: 0), file: 0, kind: .lease, hasEpoch: false, isDirectory: false, state: [],
                epoch: 0))
    }

    public var count: Int { leases.count }
    package var entryCount: Int {
        leases.count + files.count + slots.count + fileSlots.count + perClient.count + breaks.count
    }

    private func mixed(_ key: LeaseKey) -> UInt64 { withUnsafeBytes(of: key) { hash($0) } }

    func slot(_ key: LeaseKey) -> UInt32? {
        leases.count == 0 ? nil : slots.find(mixed(key)) { leases[$0].key == key }
    }

    private func slot(_ file: FileID) -> UInt32? { fileSlots.find(file.mixed) { files[$0].id == file } }

    public mutating func takeActions() -> [LeaseAction] {
        let taken = actions
        actions.removeAll()
        return taken
    }

    public func state(_ key: LeaseKey) -> LeaseState? { slot(key).map { leases[$0].state } }

    public func status(_ key: LeaseKey) -> LeaseStatus? {
        slot(key).map { place in
            let lease = leases[place]
            return LeaseStatus(
                state: lease.state, epoch: lease.epoch, hasEpoch: lease.hasEpoch, isBreaking: lease.breakTo != nil)
        }
    }

    // MARK: Granting

    /// An open of the file is there now and wants to keep `wanted`. Always counts the open, whatever is granted; `closed` ends
    /// that.
    ///
    /// `isShared`: somebody else has the data open. `isLocked`: somebody else holds byte-range locks on the file, which a
    /// client that reads from its own memory would not see.
    public mutating func grant(
        _ key: LeaseKey, on file: FileID, kind: LeaseKind, wanted: LeaseState, isShared: Bool, isLocked: Bool,
        isDirectory: Bool = false, hasEpoch: Bool = false, epoch: UInt16 = 0
    ) -> LeaseGrant {
        if let place = slot(key) {
            guard files[leases[place].file].id == file else { return .keyInUse }
            leases[place].opens += 1
            leases[place].isConnected = true
            leases[place].isAwaited = false
            if leases[place].breakTo != nil {
                return .granted(leases[place].state, epoch: leases[place].epoch, isBreaking: true)
            }
            let target = grantable(wanted, on: file, kind, place, isShared, isLocked, isDirectory)
            // A request for less than there is takes nothing away, and one for more gets all of it or nothing
            // ([MS-SMB2] 3.3.5.9.8).
            if target == wanted.normal, target.isStrictSuperset(of: leases[place].state) {
                leases[place].state = target
                if leases[place].hasEpoch { leases[place].epoch &+= 1 }
            }
            return .granted(leases[place].state, epoch: leases[place].epoch, isBreaking: false)
        }
        let state = grantable(wanted, on: file, kind, nil, isShared, isLocked, isDirectory)
        // A lease that allows nothing needs no memory.
        guard !state.isEmpty, hasRoom(key, file) else { return .granted([], epoch: epoch, isBreaking: false) }
        let lease = Lease(
            key: key, file: fileSlot(file), kind: kind, hasEpoch: hasEpoch, isDirectory: isDirectory, state: state,
            epoch: hasEpoch ? epoch &+ 1 : 0, opens: 1)
        add(lease)
        return .granted(state, epoch: lease.epoch, isBreaking: false)
    }

    private func hasRoom(_ key: LeaseKey, _ file: FileID) -> Bool {
        leases.count < Self.leasesMax && perClient[key.client]?.count ?? 0 < Self.leasesPerClientMax
            && slot(file).map { files[$0].leases.count < Self.leasesPerFileMax } ?? true
    }

    private func grantable(
        _ wanted: LeaseState, on file: FileID, _ kind: LeaseKind, _ own: UInt32?, _ isShared: Bool, _ isLocked: Bool,
        _ isDirectory: Bool
    ) -> LeaseState {
        var state = wanted.normal
        if isDirectory || isShared { state.remove(.write) }
        if isLocked { state = [] }
        if let place = slot(file) {
            for other in files[place].leases where other != own {
                if leases[other].state.contains(.write) { return [] }
                guard !leases[other].state.isEmpty else { continue }
                // An oplock's client would never hear that a handle is wanted which the other one keeps open.
                if kind == .oplock, leases[other].kind == .lease, leases[other].state.contains(.handle) { return [] }
                state.remove(.write)
                // Who has an oplock of the second level can not be asked to close a handle.
                if kind == .lease, leases[other].kind == .oplock { state.remove(.handle) }
            }
            for wait in files[place].waits where own == nil || wait.actor != own.map({ leases[$0].key }) {
                state.subtract(wait.operation.awaited(kind))
            }
        }
        // There is no oplock of reads and handles; a write delegation that can not be is one of reads.
        if kind != .lease, state.contains(.handle), !state.contains(.write) { state.remove(.handle) }
        return state.normal
    }

    // MARK: Breaking

    /// An operation by somebody with this lease key, or none, is about to be done. When it has to wait, `request` is resumed
    /// once, and asks again.
    public mutating func check(
        _ file: FileID, by actor: LeaseKey?, _ operation: LeaseOperation, request: UInt64, now: UInt64
    ) -> LeaseCheck {
        guard let place = slot(file) else { return .proceed }
        demand(place, actor, operation, now)
        let wait = Wait(request: request, actor: actor, operation: operation)
        guard isBlocked(place, wait) else { return .proceed }
        guard files[place].waits.count < Self.waitsPerFileMax else { return .tooMany }
        files[place].waits.append(wait)
        return .waits
    }

    /// The same for who does not stand in the queue yet: sends the breaks and tells whether there is something to wait for.
    public mutating func mustWait(
        _ file: FileID, by actor: LeaseKey?, _ operation: LeaseOperation, now: UInt64
    ) -> Bool {
        guard fileSlots.count > 0, let place = slot(file) else { return false }
        demand(place, actor, operation, now)
        return isBlocked(place, Wait(request: 0, actor: actor, operation: operation))
    }

    private mutating func demand(_ place: UInt32, _ actor: LeaseKey?, _ operation: LeaseOperation, _ now: UInt64) {
        for lease in files[place].leases {
            if leases[lease].key == actor {
                // An oplock of the second level is not its open's own: any write ends it ([MS-FSA] 2.1.5.3).
                guard operation == .write, leases[lease].kind == .oplock, leases[lease].state == .read else { continue }
            }
            let broken = operation.broken(leases[lease].kind)
            guard !leases[lease].state.isDisjoint(with: broken) else { continue }
            demand(lease, leases[lease].state.subtracting(broken).normal, now)
        }
        // What was given up at once may be what others wait for.
        settle(place)
    }

    /// The request is not wanted any more.
    public mutating func cancel(request: UInt64, on file: FileID) {
        guard let place = slot(file) else { return }
        files[place].waits.removeAll { $0.request == request }
        retire(file: place)
    }

    private func isBlocked(_ place: UInt32, _ wait: Wait) -> Bool {
        files[place].leases.contains { lease in
            leases[lease].key != wait.actor
                && !leases[lease].state.isDisjoint(with: wait.operation.awaited(leases[lease].kind))
        }
    }

    /// What a break of such a lease can lead to.
    private func reachable(_ kind: LeaseKind, _ target: LeaseState) -> LeaseState {
        switch kind {
        case .lease: return target
        case .oplock: return target.intersection(.read)
        case .delegation: return []
        }
    }

    private mutating func demand(_ place: UInt32, _ target: LeaseState, _ now: UInt64) {
        let target = reachable(leases[place].kind, target)
        guard leases[place].breakTo != nil else { return startBreak(place, to: target, now) }
        leases[place].demanded = leases[place].demanded.intersection(target).normal
    }

    /// `goesOn`: the client was told of it with the step before.
    private mutating func startBreak(_ place: UInt32, to target: LeaseState, _ now: UInt64, goesOn: Bool = false) {
        let lease = leases[place]
        // Who only read has nothing to bring back; who is away has opens that must end.
        let mustAcknowledge = !lease.isConnected || lease.kind == .delegation || lease.state != .read
        if lease.isConnected {
            if leases[place].hasEpoch, !goesOn { leases[place].epoch &+= 1 }
            sendBreak(place, to: target, mustAcknowledge)
        } else if !lease.isAwaited {
            actions.append(.closeDisconnected(lease.key))
        }
        guard mustAcknowledge else {
            leases[place].state = target
            return
        }
        leases[place].breakTo = target
        leases[place].demanded = target
        arm(place, now)
    }

    /// The break under way has its time from now on.
    private mutating func arm(_ place: UInt32, _ now: UInt64) {
        leases[place].breakNumber = nextBreak
        breaks[nextBreak] = place
        let (deadline, isBeyond) = now.addingReportingOverflow(Self.breakNanoseconds)
        deadlines.insert(isBeyond ? .max : deadline, nextBreak)
        nextBreak += 1
    }

    private mutating func sendBreak(_ place: UInt32, to target: LeaseState, _ mustAcknowledge: Bool) {
        let lease = leases[place]
        actions.append(
            .sendBreak(lease.key, from: lease.state, to: target, epoch: lease.epoch, mustAcknowledge: mustAcknowledge))
    }

    private mutating func endBreak(_ place: UInt32, _ state: LeaseState) {
        breaks[leases[place].breakNumber] = nil
        leases[place].breakTo = nil
        leases[place].state = state
        deadlines.compact(live: breaks.count) { [breaks] in breaks[$0] != nil }
    }

    /// The client gives up all but `state`.
    public mutating func acknowledge(_ key: LeaseKey, _ state: LeaseState, now: UInt64) -> Acknowledgement {
        guard let place = slot(key) else { return .unknown }
        let lease = leases[place]
        guard let breakTo = lease.breakTo else { return .notBreaking }
        guard state.isSubset(of: breakTo) else {
            guard lease.kind == .oplock else { return .notAccepted }
            endBreak(place, [])
            settle(lease.file)
            return .notAccepted
        }
        endBreak(place, state.normal)
        // Who answers hears, by whatever connection, though another one of his has gone.
        leases[place].isConnected = true
        leases[place].isAwaited = false
        if !state.normal.isSubset(of: lease.demanded) {
            startBreak(place, to: next(lease.kind, state.normal, lease.demanded), now, goesOn: true)
            leases[place].demanded = lease.demanded
        }
        // Who waits does so until the client has given up all that was asked of it ([MS-FSA] 2.1.5.18.2).
        if leases[place].breakTo == nil { settle(lease.file) }
        return .accepted(state.normal)
    }

    /// The next step down. A lease that has been asked once already is asked for its handles first, and then told about the rest.
    private func next(_ kind: LeaseKind, _ state: LeaseState, _ demanded: LeaseState) -> LeaseState {
        let target = state.intersection(demanded).normal
        return kind == .lease && target.isEmpty && state.contains(.handle) ? .read : target
    }

    /// An open that was counted by `grant` is closed; with the last one the lease ends.
    public mutating func closed(_ key: LeaseKey) {
        guard let place = slot(key) else { return }
        leases[place].opens -= 1
        guard leases[place].opens == 0 else { return }
        end(place)
    }

    private mutating func end(_ place: UInt32) {
        let file = leases[place].file
        let key = leases[place].key
        endBreak(place, [])
        files[file].leases.removeAll { $0 == place }
        leases.remove(place)
        slots.remove(mixed(key), place)
        perClient[key.client]?.remove(place)
        if perClient[key.client]?.isEmpty == true { perClient[key.client] = nil }
        settle(file)
        retire(file: file)
    }

    /// All leases of a client end, whatever opens there were: it is gone.
    public mutating func release(client: UInt128) {
        // In an order that does not depend on where the tables keep them.
        let all = (perClient[client] ?? []).sorted { leases[$0].key.key < leases[$1].key.key }
        for place in all { end(place) }
    }

    /// The leases of a client.
    public func keys(of client: UInt128) -> [LeaseKey] {
        (perClient[client] ?? []).map { leases[$0].key }.sorted { $0.key < $1.key }
    }

    /// The client can not be reached; its opens live on. What it was asked for before, it may still answer when it is back within its
    /// time: it has what it wrote in its memory alone. Behind that its opens end, as they do at once when it is asked while it is away,
    /// and who wanted the break waits for their end.
    public mutating func disconnected(_ key: LeaseKey) {
        guard let place = slot(key) else { return }
        leases[place].isConnected = false
        leases[place].isAwaited = leases[place].breakTo != nil
    }

    /// The client is back, before its opens were ended: it can be asked now.
    public mutating func reconnected(_ key: LeaseKey) {
        guard let place = slot(key), !leases[place].isConnected else { return }
        leases[place].isConnected = true
        leases[place].isAwaited = false
        guard let target = leases[place].breakTo else { return }
        if leases[place].hasEpoch { leases[place].epoch &+= 1 }
        sendBreak(place, to: target, true)
    }

    // MARK: After a restart

    /// Whether its client can not be reached.
    func isAway(_ key: LeaseKey) -> Bool { slot(key).map { !leases[$0].isConnected } ?? false }

    /// A lease that was there before a restart, for one of its opens; its client is not here yet. Called from the newest
    /// to the oldest: what stands beside a newer one has been given up by then. Whoever wants what it keeps waits for its
    /// client, as long as one does for an answer to a break.
    ///
    /// False: the key stands for another file, or there are too many.
    public mutating func restore(
        _ key: LeaseKey, on file: FileID, kind: LeaseKind, state: LeaseState, hasEpoch: Bool, epoch: UInt16
    ) -> Bool {
        if let place = slot(key) {
            guard files[leases[place].file].id == file else { return false }
            leases[place].opens += 1
            return true
        }
        guard hasRoom(key, file) else { return false }
        let place = fileSlot(file)
        var state = state.normal
        for other in files[place].leases {
            if leases[other].state.contains(.write) { state = [] }
            if !leases[other].state.isEmpty { state.remove(.write) }
        }
        var lease = Lease(
            key: key, file: place, kind: kind, hasEpoch: hasEpoch, isDirectory: false, state: state, epoch: epoch,
            opens: 1)
        lease.isConnected = false
        lease.isAwaited = true
        add(lease)
        return true
    }

    private mutating func fileSlot(_ file: FileID) -> UInt32 {
        if let known = slot(file) { return known }
        let place = files.insert(File(id: file))
        fileSlots.insert(file.mixed, place)
        return place
    }

    private mutating func add(_ lease: Lease) {
        let place = leases.insert(lease)
        slots.insert(mixed(lease.key), place)
        files[lease.file].leases.append(place)
        perClient[lease.key.client, default: []].insert(place)
    }

    /// The client counts on from here.
    mutating func raise(_ key: LeaseKey, to epoch: UInt16) {
        guard let place = slot(key), leases[place].hasEpoch else { return }
        let ahead = epoch &- leases[place].epoch
        if ahead != 0, ahead < 0x8000 { leases[place].epoch = epoch }
    }

    // MARK: Waiting

    /// Resumes those whom nothing is in the way of any more, in the order in which they came.
    private mutating func settle(_ place: UInt32) {
        guard !files[place].waits.isEmpty else { return }
        var kept: [Wait] = []
        for wait in files[place].waits {
            if isBlocked(place, wait) || isBreaking(place, wait) {
                kept.append(wait)
            } else {
                actions.append(.resume(wait.request))
            }
        }
        files[place].waits = kept
    }

    /// Whether a lease that the request wanted something of is still about to be given up: who stands in the queue stays there until
    /// all that was asked is done, also by others.
    private func isBreaking(_ place: UInt32, _ wait: Wait) -> Bool {
        files[place].leases.contains { lease in
            leases[lease].key != wait.actor && leases[lease].breakTo != nil
                && !wait.operation.awaited(leases[lease].kind).isEmpty
        }
    }

    private mutating func retire(file place: UInt32) {
        guard files[place].leases.isEmpty, files[place].waits.isEmpty else { return }
        fileSlots.remove(files[place].id.mixed, place)
        files.remove(place)
    }

    /// When `expire` has something to do next.
    public mutating func nextDeadline() -> UInt64? {
        while let next = deadlines.next, breaks[next.number] == nil { deadlines.removeNext() }
        return deadlines.next?.deadline
    }

    /// Clients that did not answer in time keep nothing.
    public mutating func expire(_ now: UInt64) {
        while let deadline = nextDeadline(), deadline <= now, let next = deadlines.next {
            deadlines.removeNext()
            guard let place = breaks[next.number] else { continue }
            if leases[place].isAwaited {
                // The client has not come back: its opens end, as those of any other who is away.
                leases[place].isAwaited = false
                actions.append(.closeDisconnected(leases[place].key))
                breaks[next.number] = nil
                arm(place, now)
                continue
            }
            endBreak(place, [])
            settle(leases[place].file)
        }
    }
}

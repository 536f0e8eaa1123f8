/// Opens, as the tables know them.
extension Sharing {
    struct Entrance {
        var file: FileID
        /// Nil: it is opened by no name.
        var name: PlaceName?
        var granted: AccessMask
        var replaces: Bool
    }

    /// An open that is about to be entered.
    private struct Entry {
        let request: OpenRequest
        let place: PlaceName?
        /// What others' leases see of it.
        let operation: LeaseOperation
        let actor: LeaseKey?
        /// An oplock's key is that of its open alone.
        let shared: LeaseKey?
    }

    /// Enters an open, or says why not, or whom to wait for.
    func enter(_ intent: OpenIntent, _ entrance: Entrance) throws(Halt) -> OpenHandle {
        let file = entrance.file
        var access = DataAccess(entrance.granted)
        if entrance.replaces { access.insert(.write) }
        let number = entrance.name.map { self.number(of: $0) } ?? 0
        let actor = intent.lease?.key
        let shared = intent.lease.flatMap { $0.kind == .lease ? $0.key : nil }
        let entry = Entry(
            request: OpenRequest(
                file: file, name: number, client: intent.client,
                share: ShareMode(access: access, shared: intent.shared), granted: entrance.granted.rawValue,
                isDeleteOnClose: intent.deletesOnClose && number != 0, leaseKey: shared?.key ?? 0,
                replaced: intent.replaced?.id),
            place: entrance.name,
            operation: entrance.replaces ? .openReplacing : Self.operation(entrance.granted), actor: actor,
            shared: shared)
        let quick = changeQuietly { state in
            Self.streamsRefuse(entry, state) ? .refused(.sharingViolation) : Self.enter(entry, &state)
        }
        switch quick ?? change({ state, now in Self.enter(entry, &state, now) }) {
        case .entered(let id):
            return OpenHandle(id: id, file: file, client: intent.client, granted: entrance.granted, lease: actor)
        case .waits(let operation): throw .lacks(lack(file, actor, operation))
        case .refused(let error): throw .refused(error)
        }
    }

    private static func enter(_ entry: Entry, _ state: inout State, _ now: UInt64) -> Entering {
        let (file, share) = (entry.request.file, entry.request.share)
        if entry.request.name != 0, state.opens.isDeletePending(file, entry.request.name) {
            return .refused(.deletePending)
        }
        if state.opens.conflicts(file, share, besides: entry.request.replaced) {
            let isKept = state.leases.mustWait(file, by: entry.actor, .openUnshared, now: now)
            return isKept ? .waits(.openUnshared) : .refused(.sharingViolation)
        }
        if streamsRefuse(entry, state) { return .refused(.sharingViolation) }
        if state.leases.mustWait(file, by: entry.actor, entry.operation, now: now) { return .waits(entry.operation) }
        return enter(entry, &state)
    }

    /// Streams go with their file.
    @inline(__always)
    private static func streamsRefuse(_ entry: Entry, _ state: State) -> Bool {
        guard entry.request.share.access.contains(.delete), let streams = state.streams[entry.request.file] else {
            return false
        }
        let deletion = ShareMode(access: .delete, denied: [])
        return streams.keys.contains { state.opens.conflicts($0, deletion) }
    }

    /// When nobody's lease is in the way.
    @inline(__always)
    private static func enter(_ entry: Entry, _ state: inout State) -> Entering {
        if let shared = entry.shared, let known = state.keys[shared], known.file != entry.request.file {
            return .refused(.invalid)
        }
        switch state.opens.open(entry.request, named: entry.place) {
        case .opened(let id, _):
            if let place = entry.place, place.isStream {
                state.streams[place.directory, default: [:]][entry.request.file, default: 0] += 1
            }
            if let shared = entry.shared {
                state.keys.bring(shared, for: entry.request.file)
            }
            return .entered(id)
        case .sharingViolation: return .refused(.sharingViolation)
        case .deletePending: return .refused(.deletePending)
        case .tooMany: return .refused(.tooManyLocks)
        }
    }

    private static func operation(_ granted: AccessMask) -> LeaseOperation {
        if granted.isSubset(of: .look) { return .openAttributes }
        return granted.isSubset(of: .lookAtSecurity) ? .openSecurity : .open
    }

    private enum Entering {
        case entered(OpenID)
        case waits(LeaseOperation)
        case refused(FileError)
    }

    /// Takes an open back that came to nothing: it never was.
    func takeBack(_ handle: OpenHandle) {
        change { state, _ in
            let place = state.opens.place(of: handle.id)
            // Not even the name that it would have taken with it goes.
            _ = state.opens.setDeleteOnClose(handle.id, false)
            _ = state.opens.close(handle.id)
            Self.forget(place, handle, &state)
        }
    }

    @inline(__always)
    private static func forget(_ place: PlaceName?, _ handle: OpenHandle, _ state: inout State) {
        if let key = handle.lease { state.keys.takeBack(key) }
        if let place, place.isStream, var streams = state.streams.removeValue(forKey: place.directory) {
            streams[handle.file] = streams[handle.file].flatMap { $0 > 1 ? $0 - 1 : nil }
            if !streams.isEmpty { state.streams[place.directory] = streams }
        }
    }

    /// A lease's key stands for one file at a time, from the first open that brings it to the last.
    func isFree(_ wish: LeaseWish?) -> Bool {
        guard let wish, wish.kind == .lease else { return true }
        return look { $0.keys[wish.key] == nil }
    }

    /// Ends an open with all that hangs on it, and answers what is left to be done with the file: also later, if it was kept.
    func leave(_ handle: OpenHandle) -> Leftover? {
        locks.release(handle.lockOwner, on: locked(handle.file))
        if let quick = changeQuietly({ state in Self.leave(handle, &state) }) { return quick }
        return change { state, _ in
            if let leftover = state.leftovers[handle.id] { return leftover }
            if state.opens[handle.id]?.isDeleteOnClose == true { state.watches.end(handle.file) }
            let leftover = Self.leave(handle, &state)
            if leftover != nil, handle.holdsLease, let key = handle.lease {
                state.leases.closed(key)
                if state.leases.state(key) == nil { state.holders[key] = nil }
            }
            return leftover
        }
    }

    @inline(__always)
    private static func leave(_ handle: OpenHandle, _ state: inout State) -> Leftover? {
        // Numbers of opens are each volume's own: that of another one's is nobody's here.
        guard state.opens.file(of: handle.id) == handle.file else { return nil }
        let place = state.opens.place(of: handle.id)
        guard let closed = state.opens.close(handle.id) else { return nil }
        forget(place, handle, &state)
        return Leftover(
            file: closed.file, name: closed.removedName != 0 ? place : nil, record: state.kept.remove(handle.id))
    }

    /// What is left could not be done yet.
    func keep(_ leftover: Leftover, of handle: OpenHandle) {
        var kept = leftover
        kept.isKept = true
        let entry = kept
        look { $0.leftovers[handle.id] = entry }
    }

    func finished(_ handle: OpenHandle) { look { $0.leftovers[handle.id] = nil } }

    /// Grants what it can of what an open wants to keep.
    func grant(_ wish: LeaseWish, to handle: OpenHandle, isDirectory: Bool) -> LeaseGrant {
        change { state, _ in
            // Under both guards: a lock that is taken later asks for the lease to be broken.
            let isLocked = locks.isLocked(locked(handle.file)) { owner in
                guard owner != handle.lockOwner else { return false }
                guard wish.kind == .lease, owner.rules == .handle else { return true }
                // The client knows the locks of all opens under its key.
                return state.opens[OpenID(number: owner.id)]?.leaseKey != wish.key.key || owner.client != handle.client
            }
            let looks: AccessMask = wish.kind == .oplock ? .look : .lookAtSecurity
            let wasAway = state.leases.isAway(wish.key)
            let grant = state.leases.grant(
                wish.key, on: handle.file, kind: wish.kind, wanted: wish.wanted,
                isShared: state.opens.isShared(handle.file, besides: handle.id, looking: looks.rawValue),
                isLocked: isLocked,
                isDirectory: isDirectory, hasEpoch: wish.epoch != nil, epoch: wish.epoch ?? 0)
            if case .granted = grant, state.leases.state(wish.key) != nil,
                wasAway || state.holders[wish.key] == nil
            {
                // Who comes anew under the key of an open that he has not come back for can be told of breaks.
                state.holders[wish.key] = wish.holder
            }
            return grant
        }
    }

    func holds(_ key: LeaseKey) -> Bool { look { $0.leases.state(key) != nil } }
}

extension LeaseMap<Sharing.KeyUse> {
    /// One more open brings the key.
    mutating func bring(_ key: LeaseKey, for file: FileID) {
        self[key] = Sharing.KeyUse(file: file, opens: (self[key]?.opens ?? 0) + 1)
    }

    mutating func takeBack(_ key: LeaseKey) {
        guard let known = self[key] else { return }
        self[key] = known.opens > 1 ? Sharing.KeyUse(file: known.file, opens: known.opens - 1) : nil
    }
}

extension DataAccess {
    /// What a handle with these rights does with the data.
    init(_ mask: AccessMask) {
        self = []
        if !mask.isDisjoint(with: [.readData, .execute]) { insert(.read) }
        if !mask.isDisjoint(with: [.writeData, .appendData]) { insert(.write) }
        if mask.contains(.delete) { insert(.delete) }
    }
}

extension AccessMask {
    /// Who asks for no more only looks at the file, and ends nobody's lease.
    static let look: AccessMask = [.readAttributes, .writeAttributes, .synchronize]
    /// The same for leases; oplocks are older.
    static let lookAtSecurity: AccessMask = [.readAttributes, .writeAttributes, .readACL, .synchronize]
}

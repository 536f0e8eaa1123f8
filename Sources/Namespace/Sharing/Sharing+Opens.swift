/// Opens, as the tables know them.
extension Sharing {
    struct Entrance {
        var file: FileID
        /// Nil: it is opened by no name.
        var name: PlaceName?
        var granted: AccessMask
        var replaces: Bool
    }

    /// Enters an open, or says why not, or whom to wait for.
    func enter(_ intent: OpenIntent, _ entrance: Entrance) throws(Halt) -> OpenHandle {
        let file = entrance.file
        var access = DataAccess(entrance.granted)
        if entrance.replaces { access.insert(.write) }
        let share = ShareMode(access: access, shared: intent.shared)
        let number = entrance.name.map { self.number(of: $0) } ?? 0
        let actor = intent.lease?.key
        // An oplock's key is that of its open alone.
        let shared = intent.lease.flatMap { $0.kind == .lease ? $0.key : nil }
        let operation: LeaseOperation =
            entrance.replaces ? .openReplacing : Self.operation(entrance.granted)
        let answer: Entering = change { state, now in
            if let shared, let known = state.keys[shared], known.file != file { return .refused(.invalid) }
            if number != 0, state.opens.isDeletePending(file, number) { return .refused(.deletePending) }
            if state.opens.conflicts(file, share) {
                let isKept = state.leases.mustWait(file, by: actor, .openUnshared, now: now)
                return isKept ? .waits(.openUnshared) : .refused(.sharingViolation)
            }
            // Streams go with their file.
            if share.access.contains(.delete), let streams = state.streams[file] {
                let deletion = ShareMode(access: .delete, denied: [])
                if streams.keys.contains(where: { state.opens.conflicts($0, deletion) }) {
                    return .refused(.sharingViolation)
                }
            }
            if state.leases.mustWait(file, by: actor, operation, now: now) { return .waits(operation) }
            let request = OpenRequest(
                file: file, name: number, client: intent.client, share: share, granted: entrance.granted.rawValue,
                isDeleteOnClose: intent.deletesOnClose && number != 0, leaseKey: shared?.key ?? 0)
            switch state.opens.open(request) {
            case .opened(let id, _):
                if let place = entrance.name {
                    state.names[number, default: OpenName(place: place, opens: 0)].opens += 1
                    if place.isStream { state.streams[place.directory, default: [:]][file, default: 0] += 1 }
                }
                if let shared { state.keys[shared] = (file, (state.keys[shared]?.opens ?? 0) + 1) }
                return .entered(id)
            case .sharingViolation: return .refused(.sharingViolation)
            case .deletePending: return .refused(.deletePending)
            case .tooMany: return .refused(.tooManyLocks)
            }
        }
        switch answer {
        case .entered(let id):
            return OpenHandle(id: id, file: file, client: intent.client, granted: entrance.granted, lease: actor)
        case .waits(let operation): throw .lacks(lack(file, actor, operation))
        case .refused(let error): throw .refused(error)
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
            let name = state.opens[handle.id]?.name ?? 0
            // Not even the name that it would have taken with it goes.
            _ = state.opens.setDeleteOnClose(handle.id, false)
            _ = state.opens.close(handle.id)
            Self.forget(name, handle, &state)
        }
    }

    private static func forget(_ name: UInt64, _ handle: OpenHandle, _ state: inout State) {
        if let key = handle.lease, let known = state.keys[key] {
            state.keys[key] = known.opens > 1 ? (known.file, known.opens - 1) : nil
        }
        guard name != 0, let entry = state.names[name] else { return }
        if entry.place.isStream, var streams = state.streams.removeValue(forKey: entry.place.directory) {
            streams[handle.file] = streams[handle.file].flatMap { $0 > 1 ? $0 - 1 : nil }
            if !streams.isEmpty { state.streams[entry.place.directory] = streams }
        }
        if entry.opens > 1 { state.names[name]?.opens -= 1 } else { state.names[name] = nil }
    }

    /// A lease's key stands for one file at a time, from the first open that brings it to the last.
    func isFree(_ wish: LeaseWish?) -> Bool {
        guard let wish, wish.kind == .lease else { return true }
        return look { $0.keys[wish.key] == nil }
    }

    /// Ends an open with all that hangs on it, and answers what is left to be done with the file: also later, if it was kept.
    func leave(_ handle: OpenHandle) -> Leftover? {
        locks.release(handle.lockOwner)
        return change { state, _ in
            if !state.leftovers.isEmpty, let leftover = state.leftovers[handle.id] { return leftover }
            let number = state.opens[handle.id]?.name ?? 0
            let name = state.names[number]
            if state.opens[handle.id]?.isDeleteOnClose == true { state.watches.end(handle.file) }
            guard let closed = state.opens.close(handle.id) else { return nil }
            if handle.holdsLease, let key = handle.lease {
                state.leases.closed(key)
                if state.leases.state(key) == nil { state.holders[key] = nil }
            }
            Self.forget(number, handle, &state)
            return Leftover(file: closed.file, name: closed.removedName != 0 ? name?.place : nil)
        }
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
            let grant = state.leases.grant(
                wish.key, on: handle.file, kind: wish.kind, wanted: wish.wanted,
                isShared: state.opens.isShared(handle.file, besides: handle.id, looking: looks.rawValue),
                isLocked: isLocked,
                isDirectory: isDirectory, hasEpoch: wish.epoch != nil, epoch: wish.epoch ?? 0)
            if case .granted = grant, state.leases.state(wish.key) != nil, state.holders[wish.key] == nil {
                state.holders[wish.key] = wish.holder
            }
            return grant
        }
    }

    func holds(_ key: LeaseKey) -> Bool { look { $0.leases.state(key) != nil } }
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

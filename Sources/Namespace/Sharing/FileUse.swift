/// What somebody is about to do with a file, as others are concerned.
enum FileUse {
    /// Nil: no bytes.
    case read(LockRange?)
    case write(LockRange?)
    /// Mode, owner, times.
    case attributes
    /// A name goes, perhaps the file with it.
    case remove
    /// It gets another name.
    case rename
    case link
    /// An object takes its place.
    case replace

    var access: DataAccess {
        switch self {
        case .read: .read
        case .write: .write
        case .remove, .rename: .delete
        case .replace: [.write, .delete]
        case .attributes, .link: []
        }
    }

    var range: LockRange? {
        switch self {
        case .read(let range), .write(let range): range
        case .attributes, .remove, .rename, .link, .replace: nil
        }
    }

    var operation: LeaseOperation {
        switch self {
        case .read: .read
        case .write: .write
        case .attributes: .attributes
        case .remove, .rename, .link: .rename
        case .replace: .replace
        }
    }
}

extension Sharing.RefusedUse {
    fileprivate init(_ file: FileID, _ caller: Caller, _ use: FileUse) {
        self.init(file: file, client: caller.client, uid: caller.credential.uid, access: use.access)
    }
}

extension Sharing {
    /// Lets a use go on, refuses it, or says whom to wait for. Callers with a handle had their share mode checked when they
    /// opened; the others are checked as if they opened now and denied nothing.
    @inline(__always)
    func admit(_ caller: Caller, _ file: FileID, _ use: FileUse) throws(Halt) {
        if isIdle { return }
        // Who has the file open was let in, and is in nobody's way but holders of leases and locks.
        if let handle = caller.handle, handle.file == file, !uses.contains(.leases), !locks.isUsed { return }
        try admitSlowly(caller, file, use)
    }

    @inline(never)
    private func admitSlowly(_ caller: Caller, _ file: FileID, _ use: FileUse) throws(Halt) {
        let handle = caller.handle.flatMap { $0.file == file ? $0 : nil }
        // Leases first: who keeps opens or writes to himself may have ended them long ago.
        let uses = uses
        if uses.contains(.leases) || handle == nil && uses.contains(.opens) {
            // Whoever waits does so for what is in his way, or he would come back at once.
            let (blocking, isDenied) = change { state, now -> (LeaseOperation?, Bool) in
                let denies = { (state: inout State) -> Bool in
                    handle == nil && !use.access.isEmpty && state.opens.blocker(file, use.access) != nil
                }
                if denies(&state), state.leases.mustWait(file, by: handle?.lease, .openUnshared, now: now) {
                    return (.openUnshared, false)
                }
                if denies(&state) { return (nil, true) }
                let mustWait = state.leases.mustWait(file, by: handle?.lease, use.operation, now: now)
                return (mustWait ? use.operation : nil, false)
            }
            if isDenied { throw .refused(refusal(caller, file, use, nil, .sharingViolation)) }
            if let blocking { throw .lacks(lack(file, handle?.lease, blocking)) }
        }
        switch use {
        case .read(let range?), .write(let range?):
            var isWrite = false
            if case .write = use { isWrite = true }
            let blocker = locks.blocker(locked(file), range, isWrite: isWrite, handle: handle?.lockOwner)
            if blocker != nil { throw .refused(refusal(caller, file, use, range, .locked)) }
        case .replace:
            if locks.isLocked(locked(file), by: { $0 != handle?.lockOwner }) { throw .refused(.locked) }
        case .read(nil), .write(nil), .attributes, .remove, .rename, .link: break
        }
        if handle == nil, Self.hasPatience(caller) { admitted(caller, file, use) }
    }

    /// So long a client without opens is told to come again.
    static let patienceNanoseconds: UInt64 = 35_000_000_000
    private static let refusalsMax = 1024

    private static func hasPatience(_ caller: Caller) -> Bool {
        caller.isStateless && caller.handle == nil && !caller.isServer
    }

    /// Such a client comes again and again as long as it is told to: when its patience is over, it is told that it may not.
    /// Object clients decide that for themselves.
    private func refusal(
        _ caller: Caller, _ file: FileID, _ use: FileUse, _ range: LockRange?, _ error: FileError
    ) -> FileError {
        guard Self.hasPatience(caller) else { return error }
        let key = RefusedUse(file, caller, use)
        return change { state, now in
            guard let known = state.refusals[key], now - known.last < Self.patienceNanoseconds else {
                if state.refusals.count >= Self.refusalsMax {
                    state.refusals = state.refusals.filter { now - $0.value.last < Self.patienceNanoseconds }
                }
                // Beyond the limit nobody's patience is counted: he comes again.
                if state.refusals.count < Self.refusalsMax {
                    state.refusals[key] = Refusals(first: now, last: now, range: range)
                }
                return error
            }
            state.refusals[key]?.last = now
            return now - known.first < Self.patienceNanoseconds ? error : .accessDenied
        }
    }

    /// What was refused is over only when the same is let in: others who use the file, and other uses, prove nothing.
    private func admitted(_ caller: Caller, _ file: FileID, _ use: FileUse) {
        look { state in
            guard !state.refusals.isEmpty else { return }
            let key = RefusedUse(file, caller, use)
            guard let known = state.refusals[key] else { return }
            if let locked = known.range, let range = use.range, !range.overlaps(locked) { return }
            state.refusals[key] = nil
        }
    }

    /// Data was changed. A lease that was granted between the look and the change is told now; its holder is not waited for, as he
    /// came while the change was made.
    @inline(__always)
    func changed(_ file: FileID, by actor: LeaseKey?) {
        if uses.contains(.leases) { changedSlowly(file, actor) }
    }

    @inline(never)
    private func changedSlowly(_ file: FileID, _ actor: LeaseKey?) {
        change { state, now in _ = state.leases.mustWait(file, by: actor, .write, now: now) }
    }

    /// Under the guard.
    private final class Ticket: @unchecked Sendable {
        var request: UInt64?
        var isCancelled = false
        var isTooMany = false
    }

    /// Waits until nobody keeps to himself what `operation` must see; 35 s at most, and no longer than its task wants.
    func lack(_ file: FileID, _ actor: LeaseKey?, _ operation: LeaseOperation) -> Lack {
        Lack(awaitsClient: true) { [self] () async throws(FileError) in
            let ticket = Ticket()
            await withTaskCancellationHandler {
                await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                    if mayGoOn(file, actor, operation, ticket, continuation) { continuation.resume() }
                }
            } onCancel: {
                let waiter = look { state -> UnsafeContinuation<Void, Never>? in
                    ticket.isCancelled = true
                    guard let request = ticket.request else { return nil }
                    state.leases.cancel(request: request, on: file)
                    return state.waiting.removeValue(forKey: request)
                }
                waiter?.resume()
            }
            if ticket.isTooMany { throw .delay }
        }
    }

    private func mayGoOn(
        _ file: FileID, _ actor: LeaseKey?, _ operation: LeaseOperation, _ ticket: Ticket,
        _ continuation: UnsafeContinuation<Void, Never>
    ) -> Bool {
        change { state, now -> Bool in
            if ticket.isCancelled { return true }
            let request = state.nextRequest
            switch state.leases.check(file, by: actor, operation, request: request, now: now) {
            case .proceed: return true
            case .tooMany:
                ticket.isTooMany = true
                return true
            case .waits:
                state.nextRequest += 1
                state.waiting[request] = continuation
                ticket.request = request
                return false
            }
        }
    }

    // MARK: What has happened

    /// A name in the directory came, went, or leads elsewhere: who keeps a listing of it is told.
    func directoryChanged(_ directory: FileID, by caller: Caller) {
        guard uses.contains(.leases) else { return }
        change { state, now in
            _ = state.leases.mustWait(directory, by: caller.handle?.lease, .directoryChange, now: now)
        }
    }

    /// A name is gone. Who watches a directory that goes is told so.
    func ended(_ file: Attributes, _ trail: [WatchTable.Step]?) {
        guard let trail else { return }
        change { state, _ in
            if file.type == .directory { state.watches.end(file.file) }
            state.watches.post(.removed, .name(of: file.type), trail)
        }
    }

    func post(_ events: [(WatchAction, WatchFilter, [WatchTable.Step])]) {
        change { state, _ in
            for (action, filter, trail) in events { state.watches.post(action, filter, trail) }
        }
    }

    /// The name is gone: its opens live on without it.
    func unlinked(_ file: FileID, _ name: UnsafeRawBufferPointer, in directory: FileID) {
        guard uses.contains(.opens) else { return }
        let number = number(of: name, in: directory)
        change { state, _ in state.opens.unlinked(file, number) }
    }

    /// Opens and a removal that waits follow the name.
    func renamed(
        _ file: FileID, _ name: UnsafeRawBufferPointer, in source: FileID, to newName: UnsafeRawBufferPointer,
        in target: FileID
    ) {
        guard uses.contains(.opens) else { return }
        let old = number(of: name, in: source)
        let new = number(of: newName, in: target)
        change { state, _ in
            guard old != new else { return }
            state.opens.rename(file, from: old, to: new, PlaceName(directory: target, name: Array(newName)))
        }
    }

    /// The same of a stream; those who have the one that had the name before go on without a name.
    func streamRenamed(
        _ stream: FileID, of file: FileID, _ name: [UInt8], to newName: [UInt8], over other: FileID?
    ) {
        guard uses.contains(.opens) else { return }
        let place = PlaceName(directory: file, name: newName, isStream: true)
        let old = number(of: PlaceName(directory: file, name: name, isStream: true))
        let new = number(of: place)
        change { state, _ in
            guard old != new else { return }
            if let other { state.opens.unlinked(other, new) }
            state.opens.rename(stream, from: old, to: new, place)
        }
    }

    /// Both names are open, and lead to each other's file now.
    func exchanged(
        _ file: FileID, _ name: UnsafeRawBufferPointer, in source: FileID, with other: FileID,
        _ newName: UnsafeRawBufferPointer, in target: FileID
    ) {
        guard uses.contains(.opens) else { return }
        let first = number(of: name, in: source)
        let second = number(of: newName, in: target)
        change { state, _ in
            guard first != second else { return }
            state.opens.rename(file, from: first, to: second, PlaceName(directory: target, name: Array(newName)))
            state.opens.rename(other, from: second, to: first, PlaceName(directory: source, name: Array(name)))
        }
    }
}

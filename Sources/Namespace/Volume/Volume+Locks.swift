/// Byte-range locks.
extension Volume {
    /// What an owner holds, for who shows it.
    public func heldLocks(of owner: LockOwner) -> [LockHolder] { sharing.locks.locks(of: owner) }

    /// Asks for a lock. With a waiter, a request that can not be granted now waits, and the waiter is told once.
    public func lock(
        _ caller: Caller, _ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner,
        waiter: LockWaiter? = nil, isReclaim: Bool = false
    ) -> Attempt<LockAnswer> {
        if let passed = passed(
            caller, file, { $0.lock($1, file, range, mode, owner, waiter: waiter, isReclaim: isReclaim) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            let found = try attributes(caller, of: file)
            guard found.type == .file else {
                throw .refused(found.type == .directory ? .isDirectory : .wrongType)
            }
            if let handle = caller.handle, handle.file == file,
                handle.granted.isDisjoint(with: [.readData, .writeData, .appendData])
            {
                throw .refused(.accessDenied)
            }
            let actor = caller.handle?.lease
            let keeper = caller.handle.flatMap { $0.lockOwner == owner ? $0 : nil }
            let wish = wish(of: keeper)
            try prepareToKeep(caller, wish)
            let waiter = wish == nil ? waiter : waiter.flatMap { waiter in keeper.map { keeping(waiter, $0) } }
            // Whoever keeps data to himself does not see others' locks. Under one guard with the granting of leases.
            let answer: LockAnswer? = sharing.change { state, now in
                if state.leases.mustWait(file, by: actor, .write, now: now) { return nil }
                return sharing.locks.lock(
                    sharing.locked(file), range, mode, owner, waiter, isReclaim: isReclaim)
            }
            guard let answer else { throw .lacks(sharing.lack(file, actor, .write)) }
            guard case .granted = answer, wish != nil, let keeper else { return .done(answer, number: 0) }
            do throws(Halt) { return .done(answer, number: try keepUpToDate(caller, keeper)) } catch {
                // What can not be kept is not promised.
                _ = unlock(file, range, owner)
                throw error
            }
        }
    }

    /// Unlocks what a handle locked. False: there is no such lock of it.
    public func unlock(_ caller: Caller, _ handle: OpenHandle, _ range: LockRange) -> Attempt<Bool> {
        if let guest = formerGuest(handle.file) {
            return guest.call(caller, isReadOnly: isReadOnly) { $0.unlock($1, handle, range) }
        }
        return attempt { () throws(Halt) in
            try prepareToKeep(caller, wish(of: handle))
            guard unlock(handle.file, range, handle.lockOwner) else { return .done(false, number: 0) }
            let attempt = attempt { () throws(Halt) in .done((), number: try keepUpToDate(caller, handle)) }
            // It is unlocked: that the record says so later is nobody's harm but after a crash.
            guard case .done(_, let number) = attempt else { return .done(true, number: 0) }
            return .done(true, number: number)
        }
    }

    /// Who would refuse this lock now; nil: nobody.
    public func testLock(
        _ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner
    ) -> LockHolder? {
        (guest(file)?.volume ?? self).sharing.test(file, range, mode, owner)
    }

    /// False: there is no such lock of a handle, or too many pieces would be left of a process's.
    public func unlock(_ file: FileID, _ range: LockRange, _ owner: LockOwner) -> Bool {
        (formerGuest(file)?.volume ?? self).sharing.unlock(file, range, owner)
    }

    /// False: it waits no longer, its outcome is on the way.
    public func cancelLock(_ wait: LockWait) -> Bool { sharing.locks.cancel(wait) }

    /// A process closed the file.
    public func releaseLocks(_ owner: LockOwner, on file: FileID) {
        (formerGuest(file)?.volume ?? self).sharing.release(owner, on: file)
    }

    /// The locks of all volumes of the server: a client that is gone loses them everywhere at once.
    public var locks: ServerLocks { sharing.locks }
}

import Runtime

/// Opens that outlive the server. What a record says is in the order of the volume's changes, so whoever is told of an open, a
/// lock or a mark can be made to wait until it is safe, like any other change.
extension Volume {
    /// Brings what is kept of an open up to date. The number is that of the change.
    private func keep(_ request: Request, _ handle: OpenHandle, _ wish: KeepWish) -> Attempt<Bool> {
        sharing.records.withLock { _ in
            let isNew = sharing.look { $0.kept[handle.id] == nil }
            guard let bytes = sharing.record(handle, wish) else {
                guard let number = sharing.look({ $0.kept.remove(handle.id) }) else { return .done(false, number: 0) }
                return setRecord(request, number, nil).mapped { false }
            }
            let attempt = setRecord(request, wish.number, bytes).mapped { true }
            if case .done = attempt { return attempt }
            if isNew { sharing.look { _ = $0.kept.remove(handle.id) } }
            return attempt
        }
    }

    private func setRecord(_ request: Request, _ number: UInt64, _ bytes: [UInt8]?) -> Attempt<Void> {
        // The record is no part of what the request asked for: its token is not the record's.
        let request = Request(reader: request.reader, now: request.now)
        return KeepWish.name(number).withUnsafeBytes { name in
            guard let bytes else { return fileSystem.setSetting(request, name, nil) }
            return bytes.withUnsafeBytes { fileSystem.setSetting(request, name, $0) }
        }
    }

    func dropRecord(_ request: Request, _ number: UInt64?) -> Attempt<Void> {
        guard let number else { return .done((), number: 0) }
        // Behind one that is being written for an open that has ended meanwhile.
        return sharing.records.withLock { _ in setRecord(request, number, nil) }
    }

    /// Fetches what a record needs, before anything is done that it would have to say.
    func prepareToKeep(_ caller: Caller, _ wish: KeepWish?) throws(Halt) {
        guard let wish else { return }
        let attempt = wish.name.withUnsafeBytes { fileSystem.setting(caller.request, $0) }
        if case .lacks(let lack) = attempt { throw .lacks(lack) }
    }

    /// Keeps an open that was just entered. Nil: it can not be kept now, which nobody was promised.
    func keepNew(_ caller: Caller, _ handle: OpenHandle, _ wish: KeepWish?) -> UInt64? {
        // A later open may have got more of the lease than the records of earlier ones say.
        var latest: UInt64 = 0
        for (other, its) in sharing.outdated(handle) {
            if case .done(_, let number) = keep(caller.request, other, its) { latest = max(latest, number) }
        }
        guard let wish, wish.details.count <= KeepWish.detailsBytesMax, sharing.look({ $0.kept.hasRoom }),
            case .done(true, let number) = keep(caller.request, handle, wish)
        else { return latest > 0 ? latest : nil }
        return max(number, latest)
    }

    /// Whether the open will be there after a restart.
    public func isKept(_ handle: OpenHandle) -> Bool { wish(of: handle) != nil }

    func wish(of handle: OpenHandle?) -> KeepWish? {
        // A guest's opens have numbers of its own.
        guard let handle, sharing.uses.contains(.kept), formerGuest(handle.file) == nil else { return nil }
        return sharing.look { $0.kept[handle.id]?.wish }
    }

    /// What the open is has changed; the number is that of its record's change, 0: nothing is kept of it.
    func keepUpToDate(_ caller: Caller, _ handle: OpenHandle) throws(Halt) -> UInt64 {
        guard let wish = wish(of: handle) else { return 0 }
        let attempt = keep(caller.request, handle, wish)
        guard case .done(_, let number) = attempt else {
            _ = try attempt.get()
            return 0
        }
        return number
    }

    /// What the protocol knows of the open is something else now.
    public func keep(_ caller: Caller, _ handle: OpenHandle, details: [UInt8]) -> Attempt<Void> {
        guard var wish = wish(of: handle), wish.details != details else { return .done((), number: 0) }
        precondition(details.count <= KeepWish.detailsBytesMax, "details within their limit")
        wish.details = details
        return keep(caller.request, handle, wish).mapped { () }
    }

    /// The lock is granted, and its owner is told when the record says so. On the waiter's loop.
    func keeping(_ waiter: LockWaiter, _ handle: OpenHandle) -> LockWaiter {
        LockWaiter(loop: waiter.loop, deadline: waiter.deadline) { [self] wait, refusal in
            guard refusal == nil else { return waiter.done(wait, refusal) }
            keepPatiently(handle, on: waiter.loop) { waiter.done(wait, nil) }
        }
    }

    /// As often as it takes. What can not be kept is lost with the next restart, as it is where nothing is kept.
    func keepPatiently(_ handle: OpenHandle, on loop: EventLoop, _ done: @escaping @Sendable () -> Void) {
        let caller = Caller(.root, Request(reader: loop.index, now: sharing.clock.wall()), handle: handle)
        let attempt = attempt { () throws(Halt) in .done((), number: try keepUpToDate(caller, handle)) }
        switch attempt {
        case .done(_, let number): whenSettled(number, on: loop) { _ in done() }
        case .refused: done()
        case .lacks(let lack):
            loop.task { () async in
                do throws(FileError) { try await lack.supplied() } catch { return done() }
                self.keepPatiently(handle, on: loop, done)
            }
        }
    }

    // MARK: After a start

    /// Enters what was open when the volume was last used, and lets each wait for its client. Nobody uses the volume yet. On
    /// `loop`.
    func restoreOpens(on loop: EventLoop) async throws(FileError) {
        let settings = VolumeSettings(self, clock: sharing.clock, loop: loop)
        var kept: [KeptOpen] = []
        var lost: [String] = []
        for name in try await names(settings) {
            guard let bytes = try await settings.value(name) else { continue }
            do throws(RecordFault) {
                let open = try KeptOpen(record: bytes)
                if Array(name.utf8) == open.wish.name { kept.append(open) } else { lost.append(name) }
            } catch {
                // One of a later version of this program may be found by that one again.
                if error == .malformed { lost.append(name) }
            }
        }
        let holder = LeaseHolder(loop: loop, tell: { _ in }) { [weak self] key in self?.endAwaited(key, on: loop) }
        var pending: [OpenHandle] = []
        for open in kept.sorted(by: { $0.order > $1.order }) {
            guard let handle = try await restore(open, settings, holder) else {
                lost.append(String(decoding: open.wish.name, as: UTF8.self))
                continue
            }
            if open.isDeletePending { pending.append(handle) }
            let number = open.wish.number
            _ = loop.schedule(after: UInt64(open.wish.milliseconds) * 1_000_000) { [weak self] in
                self?.endAwaited(number, handle, on: loop)
            }
        }
        for handle in pending { sharing.restorePending(handle) }
        // They are in nobody's way: what can not be removed now is found again by the next start.
        for name in lost { try? await settings.set(name, nil) }
    }

    /// None where nothing can be kept.
    private func names(_ settings: VolumeSettings) async throws(FileError) -> [String] {
        do throws(FileError) { return try await settings.names(VolumeSettings.handles) } catch {
            guard error == .notSupported else { throw error }
            return []
        }
    }

    /// Nil: the file is gone, or newer opens exclude this one.
    private func restore(
        _ kept: KeptOpen, _ settings: VolumeSettings, _ holder: LeaseHolder
    ) async throws(FileError) -> OpenHandle? {
        do throws(FileError) {
            let (place, _) = try await settings.run { request in
                attempt { () throws(Halt) in .done(try self.place(request, kept), number: 0) }
            }
            guard kept.place == nil || place != nil else { return nil }
            // The file lives as long as the open.
            _ = try await settings.run { fileSystem.open($0, kept.file) }
            guard let handle = sharing.restore(kept, place, holder: holder) else {
                _ = try await settings.run { fileSystem.close($0, kept.file) }
                return nil
            }
            return handle
        } catch {
            switch error {
            case .stale, .noEntry: return nil
            default: throw error
            }
        }
    }

    /// Where the open's name is by now: the name that the record knows, or the first that the file has.
    private func place(_ request: Request, _ kept: KeptOpen) throws(Halt) -> Sharing.PlaceName? {
        guard let place = kept.place else {
            _ = try fileSystem.attributes(request, kept.file).get()
            return nil
        }
        if place.isStream {
            let there = try place.name.withUnsafeBytes { name in
                Result { () throws(Halt) in try stream(request, of: place.directory, name) }
            }.get()
            if there?.file == kept.file { return place }
            // It may have got another name since.
            var place = place
            place.name = []
            while true {
                let some = try place.name.withUnsafeBytes { after in
                    Result { () throws(Halt) in try fileSystem.streams(request, of: place.directory, after: after).get()
                    }
                }.get()
                guard let last = some.last else { return nil }
                if let found = some.first(where: { $0.stream.file == kept.file }) {
                    place.name = found.name
                    return place
                }
                place.name = last.name
            }
        }
        switch place.name.withUnsafeBytes({ fileSystem.lookup(request, in: place.directory, $0) }) {
        case .done(let found, _): if found.file == kept.file { return place }
        case .refused: break
        case .lacks(let lack): throw .lacks(lack)
        }
        return try fileSystem.whereabouts(request, of: kept.file).get().map {
            Sharing.PlaceName(directory: $0.directory, name: $0.name)
        }
    }

    /// An open of before the restart; nil: there is none of this number whose client has not come.
    public func awaited(_ number: UInt64) -> AwaitedOpen? { sharing.look { $0.kept.awaited(number) } }

    /// Its client has come. `epoch` is what it knows of its lease. Nil: somebody else was faster, or its time is over.
    public func reclaim(_ number: UInt64, _ holder: LeaseHolder, epoch: UInt16?) -> AwaitedOpen? {
        sharing.change { state, _ in
            guard let open = state.kept.take(number) else { return nil }
            if let epoch { state.leases.raise(open.lease, to: epoch) }
            state.holders[open.lease] = holder
            state.leases.reconnected(open.lease)
            return open
        }
    }

    /// Nobody has come in time.
    private func endAwaited(_ number: UInt64, _ handle: OpenHandle, on loop: EventLoop) {
        let open = sharing.look { state in
            state.kept.awaited(number)?.handle == handle ? state.kept.take(number) : nil
        }
        if let open { closePatiently(open.handle, on: loop) }
    }

    /// Somebody has waited long enough for what the lease keeps.
    private func endAwaited(_ key: LeaseKey, on loop: EventLoop) {
        for open in sharing.look({ $0.kept.takeAll(key) }) { closePatiently(open.handle, on: loop) }
    }

    /// Ends an open whose owner is not there, with all that it holds; what can not be done at once follows.
    public func closePatiently(_ handle: OpenHandle, on loop: EventLoop) {
        [loop].patiently(Request(reader: loop.index, now: sharing.clock.wall())) {
            self.close(Caller(.root, $0), handle)
        }
    }
}

extension [EventLoop] {
    /// Ends something that nobody else will end, on the request's loop: what that lacks is awaited, and it is tried again.
    func patiently<Value>(
        _ request: Request, tries: Int = 60, _ end: @escaping @Sendable (Request) -> Attempt<Value>
    ) {
        guard case .lacks(let lack) = end(request), let loop = first(where: { $0.index == request.reader }) else {
            return
        }
        loop.task { () async in
            var left = tries
            do throws(FileError) { try await lack.supplied() } catch {
                // A store that is away comes back; a volume that is closed does not.
                guard case .inputOutput = error, left > 0 else { return }
                left -= 1
                await loop.sleep(nanoseconds: 60_000_000_000)
            }
            patiently(request, tries: left, end)
        }
    }
}

extension Attempt {
    fileprivate func mapped<Other>(_ value: () -> Other) -> Attempt<Other> {
        switch self {
        case .done(_, let number): .done(value(), number: number)
        case .refused(let error): .refused(error)
        case .lacks(let lack): .lacks(lack)
        }
    }
}

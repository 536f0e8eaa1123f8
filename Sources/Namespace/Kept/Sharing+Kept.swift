import Runtime

/// Records of opens, and opens of records.
extension Sharing {
    /// The record of an open as it is now, which is one of those that are kept from here on; nil: it is closed, or has no
    /// lease, or too many locks.
    ///
    /// Behind `records`, as it is about to be written.
    func record(_ handle: OpenHandle, _ wish: KeepWish) -> [UInt8]? {
        let locks = locks.locks(of: handle.lockOwner)
        guard locks.count <= KeptOpen.locksMax else { return nil }
        return change { state, _ in
            guard let open = state.opens[handle.id], let key = handle.lease,
                let lease = state.leases.record(key)
            else { return nil }
            state.kept.add(KeptOpens.Entry(wish: wish, handle: handle, lease: lease.state))
            let kept = KeptOpen(
                wish, order: state.kept.nextOrder(), open, handle, state.opens.place(of: handle.id),
                isDeletePending: open.name != 0 && state.opens.isDeletePending(handle.file, open.name), lease,
                locks.map { KeptOpen.Lock(range: $0.range, mode: $0.mode) })
            return kept.record()
        }
    }

    /// Enters an open that its volume kept. Nil: newer ones exclude it.
    func restore(_ kept: KeptOpen, _ place: PlaceName?, holder: LeaseHolder) -> OpenHandle? {
        let number = place.map { self.number(of: $0) } ?? 0
        let shared = kept.lease.kind == .lease ? kept.lease.key : nil
        return change { state, _ in
            guard state.kept.hasRoom, state.kept.awaited(kept.wish.number) == nil,
                shared.flatMap({ state.keys[$0] }).map({ $0.file == kept.file }) ?? true
            else { return nil }
            let request = OpenRequest(
                file: kept.file, name: number, client: kept.client, share: kept.share, granted: kept.granted.rawValue,
                isDeleteOnClose: kept.isDeleteOnClose && number != 0, leaseKey: shared?.key ?? 0)
            guard case .opened(let id, _) = state.opens.open(request, named: place) else { return nil }
            guard
                state.leases.restore(
                    kept.lease.key, on: kept.file, kind: kept.lease.kind, state: kept.lease.state,
                    hasEpoch: kept.lease.hasEpoch, epoch: kept.lease.epoch)
            else {
                _ = state.opens.setDeleteOnClose(id, false)
                _ = state.opens.close(id)
                return nil
            }
            if let place, place.isStream {
                state.streams[place.directory, default: [:]][kept.file, default: 0] += 1
            }
            if let shared { state.keys.bring(shared, for: kept.file) }
            if state.holders[kept.lease.key] == nil { state.holders[kept.lease.key] = holder }
            var handle = OpenHandle(
                id: id, file: kept.file, client: kept.client, granted: kept.granted, lease: kept.lease.key)
            handle.holdsLease = true
            for lock in kept.locks {
                // One that a newer open's is in the way of was being given back.
                _ = locks.restore(locked(kept.file), lock.range, lock.mode, handle.lockOwner)
            }
            let stream = place.flatMap { $0.isStream ? (base: $0.directory, name: $0.name) : nil }
            state.kept.restore(
                AwaitedOpen(handle: handle, wish: kept.wish, stream: stream, lease: kept.lease.key), kept.lease.state,
                order: kept.order)
            return handle
        }
    }

    /// After all of them: a name that is to go lets nobody in.
    func restorePending(_ handle: OpenHandle) {
        change { state, _ in _ = state.opens.setDeletePending(handle.id, true) }
    }

    /// Opens of the file that are kept with less of this lease than there is by now.
    func outdated(_ handle: OpenHandle) -> [(handle: OpenHandle, wish: KeepWish)] {
        guard let key = handle.lease else { return [] }
        return look { state in
            guard !state.kept.isEmpty, let lease = state.leases.state(key) else { return [] }
            var found: [(handle: OpenHandle, wish: KeepWish)] = []
            state.opens.forEach(of: handle.file) { open in
                if let entry = state.kept[open.id], entry.handle.lease == key, !lease.isSubset(of: entry.lease) {
                    found.append((entry.handle, entry.wish))
                }
                return true
            }
            return found
        }
    }
}

extension LeaseTable {
    func record(_ key: LeaseKey) -> KeptOpen.Lease? {
        slot(key).map { place in
            let lease = leases[place]
            return KeptOpen.Lease(
                key: key, kind: lease.kind, state: lease.state, epoch: lease.epoch, hasEpoch: lease.hasEpoch)
        }
    }
}

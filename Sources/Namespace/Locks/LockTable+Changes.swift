/// How locks come and go.
extension LockTable {
    mutating func fileSlot(_ file: FileID) -> UInt32 {
        if let place = fileSlots[file] { return place }
        let place = files.insert(File(id: file))
        fileSlots[file] = place
        return place
    }

    mutating func ownerSlot(_ owner: LockOwner) -> UInt32 {
        if let who = ownerSlots[owner] { return who }
        let who = owners.insert(Owner(owner: owner))
        ownerSlots[owner] = who
        clients[owner.client, default: Client()].owners.insert(who)
        return who
    }

    mutating func retire(file place: UInt32) {
        guard files.contains(place), files[place].isUnused else { return }
        fileSlots[files[place].id] = nil
        files.remove(place)
    }

    mutating func retire(owner who: UInt32) {
        guard owners.contains(who), owners[who].locks == 0, owners[who].waits.isEmpty else { return }
        let owner = owners[who].owner
        ownerSlots[owner] = nil
        owners.remove(who)
        guard var client = clients.removeValue(forKey: owner.client) else { return }
        client.owners.remove(who)
        if !client.owners.isEmpty { clients[owner.client] = client }
    }

    /// `change` locks more on the file for the owner, all sums included.
    mutating func account(_ place: UInt32, _ who: UInt32, _ mode: LockMode, _ change: Int) {
        if change == 0 { return }
        let owner = owners[who].owner
        owners[who].locks += change
        let held = owners[who].files[place, default: 0] + change
        owners[who].files[place] = held == 0 ? nil : held
        clients[owner.client, default: Client()].locks += change
        count += change
        if owner.rules == .handle {
            files[place].ofHandles += change
            if mode == .exclusive { files[place].exclusiveOfHandles += change }
        }
    }

    func hasRoom(_ place: UInt32, _ who: UInt32, for more: Int) -> Bool {
        more <= 0
            || files[place].count + more <= Self.locksPerFileMax && count + more <= Self.locksMax
                && (clients[owners[who].owner.client]?.locks ?? 0) + more <= Self.locksPerClientMax
    }

    /// Gives a lock that nothing is in the way of.
    mutating func take(_ place: UInt32, _ range: LockRange, _ mode: LockMode, _ who: UInt32) -> LockRefusal? {
        switch owners[who].owner.rules {
        case .posix: return replace(place, range, mode, who)
        case .handle:
            guard hasRoom(place, who, for: 1) else { return .tooMany }
            if range.isVoid {
                files[place].voids.append((who, mode))
            } else {
                insert(place, RangeList.Lock(range: range, owner: who), mode)
            }
            account(place, who, mode, 1)
            return nil
        }
    }

    private mutating func insert(_ place: UInt32, _ lock: RangeList.Lock, _ mode: LockMode) {
        switch mode {
        case .shared: files[place].shared.insert(lock)
        case .exclusive: files[place].exclusive.insert(lock)
        }
    }

    /// Makes `range` of a process's locks be of one mode, or unlocked: what it held there gives way, what touches and is of
    /// the same mode becomes one with it.
    mutating func replace(_ place: UInt32, _ range: LockRange, _ mode: LockMode?, _ who: UInt32) -> LockRefusal? {
        let reach = LockRange(
            range.first == 0 ? 0 : range.first - 1, through: range.last == .max ? .max : range.last + 1)
        var doomed: [(range: LockRange, mode: LockMode)] = []
        var pieces: [(range: LockRange, mode: LockMode)] = []
        var first = range.first
        var last = range.last
        func visit(_ lock: RangeList.Lock, _ held: LockMode) {
            guard lock.owner == who else { return }
            if held == mode {
                doomed.append((lock.range, held))
                first = min(first, lock.range.first)
                last = max(last, lock.range.last)
            } else if lock.range.overlaps(range) {
                doomed.append((lock.range, held))
                if lock.range.first < range.first {
                    pieces.append((LockRange(lock.range.first, through: range.first - 1), held))
                }
                if lock.range.last > range.last {
                    pieces.append((LockRange(range.last + 1, through: lock.range.last), held))
                }
            }
        }
        files[place].shared.forEach(overlapping: reach) { visit($0, .shared) }
        files[place].exclusive.forEach(overlapping: reach) { visit($0, .exclusive) }
        if let mode { pieces.append((LockRange(first, through: last), mode)) }
        guard hasRoom(place, who, for: pieces.count - doomed.count) else { return .tooMany }
        for lock in doomed {
            let isGone: Bool
            switch lock.mode {
            case .shared: isGone = files[place].shared.remove(lock.range, owner: who)
            case .exclusive: isGone = files[place].exclusive.remove(lock.range, owner: who)
            }
            precondition(isGone, "a lock that was just seen")
            account(place, who, lock.mode, -1)
        }
        for piece in pieces {
            insert(place, RangeList.Lock(range: piece.range, owner: who), piece.mode)
            account(place, who, piece.mode, 1)
        }
        return nil
    }

    /// Drops all locks and waits of an owner, on the given files or on all; answers which files those were.
    mutating func release(_ who: UInt32, _ only: [UInt32]?) -> [UInt32] {
        let held = only ?? owners[who].files.keys.sorted()
        for place in held {
            let shared = files[place].shared.removeAll { $0.owner == who }
            account(place, who, .shared, -shared)
            let exclusive = files[place].exclusive.removeAll { $0.owner == who }
            account(place, who, .exclusive, -exclusive)
            for index in files[place].voids.indices.reversed() where files[place].voids[index].owner == who {
                account(place, who, files[place].voids.remove(at: index).mode, -1)
            }
        }
        var touched = held
        for number in owners[who].waits {
            guard let place = waits[number], only?.contains(place) ?? true else { continue }
            _ = forget(number, place)
            if !touched.contains(place) { touched.append(place) }
        }
        return touched
    }

    // MARK: Waits

    /// Takes a wait out of all tables.
    mutating func forget(_ number: UInt64, _ place: UInt32) -> Wait {
        guard let index = files[place].waits.firstIndex(where: { $0.number == number }) else {
            preconditionFailure("a wait stands in its file's queue")
        }
        let wait = files[place].waits.remove(at: index)
        waits[number] = nil
        owners[wait.owner].waits.removeAll { $0 == number }
        clients[owners[wait.owner].owner.client]?.waits -= 1
        deadlines.compact(live: waits.count) { [waits] in waits[$0] != nil }
        return wait
    }

    mutating func report(_ wait: Wait, _ place: UInt32, _ refusal: LockRefusal?) {
        outcomes.append(
            LockOutcome(
                wait: LockWait(number: wait.number), file: files[place].id, owner: owners[wait.owner].owner,
                refusal: refusal))
    }

    func filesWaitedFor(_ who: UInt32) -> [UInt32] { owners[who].waits.compactMap { waits[$0] } }

    /// Grants what waits on these files and has nothing in its way any more, first come first served, and whatever that
    /// makes possible elsewhere. `granted` just got a lock.
    mutating func settle(_ places: [UInt32], granted: UInt32? = nil) {
        var pending = places
        var touched: Set<UInt32> = []
        // A grant can close a circle only for an owner that waits meanwhile: its waits then end.
        var suspects: [UInt32] = []
        if let granted, !owners[granted].waits.isEmpty { suspects.append(granted) }
        repeat {
            while let place = pending.popLast() {
                guard files.contains(place) else { continue }
                touched.insert(place)
                grantWaits(place, &pending, &suspects)
            }
            while let who = suspects.popLast() { endCircles(who, &pending) }
        } while !pending.isEmpty
        for place in touched { retire(file: place) }
    }

    private mutating func grantWaits(_ place: UInt32, _ pending: inout [UInt32], _ suspects: inout [UInt32]) {
        var index = 0
        while index < files[place].waits.count {
            let wait = files[place].waits[index]
            guard blocker(place, wait.range, wait.mode, wait.owner) == nil,
                !mustQueue(place, wait.range, wait.mode, wait.owner, before: wait.number)
            else {
                index += 1
                continue
            }
            _ = forget(wait.number, place)
            let refusal = take(place, wait.range, wait.mode, wait.owner)
            report(wait, place, refusal)
            // Now that it holds something it does not queue any more, wherever else it waits.
            pending += filesWaitedFor(wait.owner)
            if !owners[wait.owner].waits.isEmpty { suspects.append(wait.owner) }
            retire(owner: wait.owner)
            // What it held before in another mode gave way: those before it may have waited for that.
            index = 0
        }
    }

    private mutating func endCircles(_ who: UInt32, _ pending: inout [UInt32]) {
        guard owners.contains(who) else { return }
        for number in owners[who].waits {
            guard let place = waits[number], let wait = files[place].waits.first(where: { $0.number == number }),
                search(place, wait) != .clear
            else { continue }
            report(forget(number, place), place, .deadlock)
            pending.append(place)
        }
        retire(owner: who)
    }
}

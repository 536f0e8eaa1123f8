/// What is in whose way.
extension LockTable {
    typealias Found = (lock: RangeList.Lock, mode: LockMode)

    func holder(_ lock: RangeList.Lock, _ mode: LockMode) -> LockHolder {
        LockHolder(owner: owners[lock.owner].owner, range: lock.range, mode: mode)
    }

    func blocker(_ place: UInt32, _ range: LockRange, _ mode: LockMode, _ who: UInt32) -> Found? {
        blocker(place, range, mode, who, rules: owners[who].owner.rules)
    }

    /// A handle's exclusive lock is refused by its own locks, too; a shared one may stand on its own exclusive one
    /// ([MS-FSA] 2.1.4.10). A process's own locks give way.
    func blocker(
        _ place: UInt32, _ range: LockRange, _ mode: LockMode, _ who: UInt32, rules: LockOwner.Rules
    ) -> Found? {
        let isOwnInTheWay = mode == .exclusive && rules == .handle
        if let lock = files[place].exclusive.first(overlapping: range, where: { isOwnInTheWay || $0.owner != who }) {
            return (lock, .exclusive)
        }
        guard mode == .exclusive else { return nil }
        return files[place].shared.first(overlapping: range, where: { isOwnInTheWay || $0.owner != who })
            .map { ($0, .shared) }
    }

    /// Whether a request that nothing held is in the way of has to let an earlier one go first. Only an owner that
    /// holds nothing has to: what others wait for must not queue behind them, or both wait for ever.
    func mustQueue(
        _ place: UInt32, _ range: LockRange, _ mode: LockMode, _ who: UInt32, before number: UInt64
    ) -> Bool {
        guard owners[who].locks == 0 else { return false }
        return files[place].waits.contains { wait in
            wait.number < number && isAhead(wait, range, mode, who)
        }
    }

    private func isAhead(_ wait: Wait, _ range: LockRange, _ mode: LockMode, _ who: UInt32) -> Bool {
        wait.owner != who && (mode == .exclusive || wait.mode == .exclusive) && wait.range.overlaps(range)
    }

    // MARK: Deadlocks

    enum Search {
        case clear
        case circle
        case tooLong
    }

    func refusal(of search: Search) -> LockRefusal? {
        switch search {
        case .clear: return nil
        case .circle: return .deadlock
        case .tooLong: return .tooMany
        }
    }

    /// Whether `start` would wait for an owner that can not go on before `start` is granted, over whatever files.
    ///
    /// Only what an owner holds closes a circle. A place in a queue does not: who merely stands ahead of others holds
    /// nothing, and waits depend on earlier ones only. A handle that waits for itself is no circle: another thread of
    /// the client may unlock it.
    func search(_ place: UInt32, _ start: Wait) -> Search {
        let who = start.owner
        var steps = 0
        var owners: Set<UInt32> = [who]
        var met: Set<UInt64> = [start.number]
        var pending: [(place: UInt32, wait: Wait)] = [(place, start)]
        while let (place, wait) = pending.popLast() {
            var isCircle = false
            var holders: [UInt32] = []
            func meet(_ owner: UInt32) {
                steps += 1
                if owner == wait.owner { return }
                if owner == who {
                    isCircle = true
                } else if owners.insert(owner).inserted {
                    holders.append(owner)
                }
            }
            files[place].exclusive.forEach(overlapping: wait.range) { meet($0.owner) }
            if wait.mode == .exclusive { files[place].shared.forEach(overlapping: wait.range) { meet($0.owner) } }
            if isCircle { return .circle }
            for owner in holders {
                for number in self.owners[owner].waits where met.insert(number).inserted {
                    guard let place = waits[number], let wait = files[place].waits.first(where: { $0.number == number })
                    else { continue }
                    pending.append((place, wait))
                }
            }
            if self.owners[wait.owner].locks == 0 {
                for earlier in files[place].waits where earlier.number < wait.number {
                    steps += 1
                    if isAhead(earlier, wait.range, wait.mode, wait.owner), met.insert(earlier.number).inserted {
                        pending.append((place, earlier))
                    }
                }
            }
            if steps > Self.searchStepsMax { return .tooLong }
        }
        return .clear
    }
}

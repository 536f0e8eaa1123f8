import Namespace
import Simulator

/// The rules of locks over a file of 16 units, each looked at by itself. The last unit stands for all bytes from there on.
struct LockModel {
    static let units = 16

    struct Range: Equatable {
        var offset: Int
        var count: Int
        var last: Int { offset + count - 1 }

        var real: LockRange {
            if count == 0 { return LockRange(exactly: UInt64(offset), length: 0)! }
            return last == LockModel.units - 1
                ? LockRange(toEndIfZero: UInt64(offset), length: 0)
                : LockRange(exactly: UInt64(offset), length: UInt64(count))!
        }

        func overlaps(_ other: Range) -> Bool {
            switch (count, other.count) {
            case (0, 0): return false
            case (0, _): return offset > other.offset && offset <= other.last
            case (_, 0): return other.offset > offset && other.offset <= last
            default: return offset <= other.last && other.offset <= last
            }
        }
    }

    struct Held: Equatable {
        var file: Int
        var owner: LockOwner
        var range: Range
        var mode: LockMode
    }

    struct Waiting {
        var number: Int
        var request: Held
        var deadline: UInt64
    }

    /// Of handles, as they were taken; of processes, one for each unit.
    var held: [Held] = []
    var waits: [Waiting] = []
    var ended: [(number: Int, refusal: String)] = []

    /// A process's lock is kept unit by unit, so no bytes lie inside it when they lie between two of its units.
    func overlap(_ lock: Held, _ range: Range) -> Bool {
        guard lock.owner.rules == .posix, range.count == 0 else { return lock.range.overlaps(range) }
        guard lock.range.offset == range.offset else { return false }
        var before = lock
        before.range.offset -= 1
        return held.contains(before)
    }

    func conflict(_ request: Held) -> Bool {
        held.contains { lock in
            guard lock.file == request.file, overlap(lock, request.range) else { return false }
            if lock.mode == .shared, request.mode == .shared { return false }
            guard lock.owner == request.owner else { return true }
            return request.owner.rules == .handle && request.mode == .exclusive
        }
    }

    func forbids(_ file: Int, _ range: Range, isWrite: Bool, handle: LockOwner?) -> Bool {
        held.contains { lock in
            guard lock.file == file, lock.range.overlaps(range) else { return false }
            if handle == nil, lock.owner.rules == .posix { return false }
            if lock.mode == .shared { return isWrite }
            return lock.owner != handle
        }
    }

    func mustQueue(_ request: Held, before number: Int) -> Bool {
        guard !held.contains(where: { $0.owner == request.owner }) else { return false }
        return waits.contains { $0.number < number && isAhead($0, request) }
    }

    private func isAhead(_ wait: Waiting, _ request: Held) -> Bool {
        wait.request.file == request.file && wait.request.owner != request.owner
            && (wait.request.mode == .exclusive || request.mode == .exclusive)
            && wait.request.range.overlaps(request.range)
    }

    /// Those whose locks are in the way.
    func holders(_ wait: Waiting) -> Set<LockOwner> {
        var found: Set<LockOwner> = []
        for lock in held
        where lock.file == wait.request.file && lock.owner != wait.request.owner
            && (lock.mode == .exclusive || wait.request.mode == .exclusive)
            && overlap(lock, wait.request.range)
        {
            found.insert(lock.owner)
        }
        return found
    }

    /// By brute force: what has to end before this wait does, until nothing new is found.
    func isCircle(_ wait: Waiting) -> Bool {
        var reached: Set<Int> = [wait.number]
        var pending = [wait]
        while let next = pending.popLast() {
            let holders = holders(next)
            if holders.contains(wait.request.owner) { return true }
            let queues = !held.contains { $0.owner == next.request.owner }
            for other in waits where !reached.contains(other.number) {
                guard
                    holders.contains(other.request.owner)
                        || queues && other.number < next.number && isAhead(other, next.request)
                else { continue }
                reached.insert(other.number)
                pending.append(other)
            }
        }
        return false
    }

    mutating func take(_ request: Held) {
        if request.owner.rules == .handle {
            held.append(request)
            return
        }
        clear(request.file, request.owner, request.range)
        for unit in request.range.offset...request.range.last {
            held.append(
                Held(
                    file: request.file, owner: request.owner, range: Range(offset: unit, count: 1), mode: request.mode))
        }
    }

    mutating func clear(_ file: Int, _ owner: LockOwner, _ range: Range) {
        held.removeAll { $0.file == file && $0.owner == owner && $0.range.overlaps(range) }
    }

    mutating func settle(_ files: [Int], granted: LockOwner? = nil) {
        var pending = files
        var suspects = granted.map { owner in waits.contains { $0.request.owner == owner } ? [owner] : [] } ?? []
        repeat {
            while let file = pending.popLast() {
                while let index = waits.firstIndex(where: {
                    $0.request.file == file && !conflict($0.request) && !mustQueue($0.request, before: $0.number)
                }) {
                    let wait = waits.remove(at: index)
                    take(wait.request)
                    ended.append((wait.number, "granted"))
                    let others = waits.filter { $0.request.owner == wait.request.owner }
                    pending += others.map(\.request.file)
                    if !others.isEmpty { suspects.append(wait.request.owner) }
                }
            }
            while let owner = suspects.popLast() {
                for wait in waits where wait.request.owner == owner && isCircle(wait) {
                    waits.removeAll { $0.number == wait.number }
                    ended.append((wait.number, "deadlock"))
                    pending.append(wait.request.file)
                }
            }
        } while !pending.isEmpty
    }
}

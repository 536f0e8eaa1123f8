/// The locks of one mode on one file, in the order of their first bytes, in chunks that know how far they reach.
///
/// A search looks at one summary of 16 bytes for each chunk and at the entries of those chunks that may overlap: among
/// thousands of locks that is a few cache lines, with no tree to keep in balance.
struct RangeList {
    struct Lock {
        var range: LockRange
        /// A place in the table's owners.
        var owner: UInt32
    }

    private struct Chunk {
        var locks: ContiguousArray<Lock> = []
    }

    /// Invariant: `first` is that of the chunk's first lock, `last` the highest of all its locks.
    private struct Summary {
        var first: UInt64
        var last: UInt64
    }

    static let chunkMax = 64

    private var chunks: ContiguousArray<Chunk> = []
    private var summaries: ContiguousArray<Summary> = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// The first lock that overlaps `range` and that `isWanted`.
    @inline(__always)
    func first(overlapping range: LockRange, where isWanted: (Lock) -> Bool) -> Lock? {
        if range.isVoid { return nil }
        for index in summaries.indices {
            let summary = summaries[index]
            if summary.first > range.last { return nil }
            if summary.last < range.first { continue }
            let found: Lock? = chunks[index].locks.withUnsafeBufferPointer { locks in
                for lock in locks {
                    if lock.range.first > range.last { return nil }
                    if lock.range.last >= range.first, isWanted(lock) { return lock }
                }
                return nil
            }
            if let found { return found }
        }
        return nil
    }

    func forEach(overlapping range: LockRange, _ body: (Lock) -> Void) {
        _ = first(overlapping: range) { lock in
            body(lock)
            return false
        }
    }

    func visitAll(_ body: (Lock) -> Void) {
        for chunk in chunks {
            for lock in chunk.locks { body(lock) }
        }
    }

    private mutating func summarize(_ index: Int) {
        let locks = chunks[index].locks
        var last = locks[0].range.last
        for lock in locks { last = max(last, lock.range.last) }
        summaries[index] = Summary(first: locks[0].range.first, last: last)
    }

    /// The last chunk that begins at or before `first`.
    private func place(_ first: UInt64) -> Int {
        var low = 0
        var high = summaries.count
        while low < high {
            let middle = (low + high) / 2
            if summaries[middle].first <= first { low = middle + 1 } else { high = middle }
        }
        return max(0, low - 1)
    }

    mutating func insert(_ lock: Lock) {
        precondition(!lock.range.isVoid, "no bytes at offset 0 are kept apart")
        count += 1
        guard !chunks.isEmpty else {
            chunks.append(Chunk(locks: [lock]))
            summaries.append(Summary(first: lock.range.first, last: lock.range.last))
            return
        }
        var index = place(lock.range.first)
        if chunks[index].locks.count == Self.chunkMax {
            let half = Self.chunkMax / 2
            let upper = ContiguousArray(chunks[index].locks[half...])
            chunks[index].locks.removeSubrange(half...)
            chunks.insert(Chunk(locks: upper), at: index + 1)
            summaries.insert(Summary(first: 0, last: 0), at: index + 1)
            summarize(index)
            summarize(index + 1)
            if summaries[index + 1].first <= lock.range.first { index += 1 }
        }
        let at = chunks[index].locks.firstIndex { $0.range.first > lock.range.first } ?? chunks[index].locks.count
        chunks[index].locks.insert(lock, at: at)
        if at == 0 { summaries[index].first = lock.range.first }
        summaries[index].last = max(summaries[index].last, lock.range.last)
    }

    /// Removes one lock of this very range and owner; false: there is none.
    mutating func remove(_ range: LockRange, owner: UInt32) -> Bool {
        // Equal first bytes may go over several chunks.
        for index in chunks.indices where summaries[index].last >= range.last {
            if summaries[index].first > range.first { return false }
            let found = chunks[index].locks.firstIndex { $0.owner == owner && $0.range == range }
            guard let found else { continue }
            chunks[index].locks.remove(at: found)
            tidy(index)
            count -= 1
            return true
        }
        return false
    }

    /// Removes all that `isDoomed` says; answers how many those were.
    mutating func removeAll(where isDoomed: (Lock) -> Bool) -> Int {
        let before = count
        for index in chunks.indices.reversed() {
            let had = chunks[index].locks.count
            chunks[index].locks.removeAll(where: isDoomed)
            let gone = had - chunks[index].locks.count
            count -= gone
            if gone > 0 { tidy(index) }
        }
        return before - count
    }

    /// Small neighbours are put together, so that many removals do not leave many summaries.
    private mutating func tidy(_ index: Int) {
        guard !chunks[index].locks.isEmpty else {
            chunks.remove(at: index)
            summaries.remove(at: index)
            return
        }
        summarize(index)
        if index + 1 < chunks.count, chunks[index].locks.count + chunks[index + 1].locks.count <= Self.chunkMax / 2 {
            chunks[index].locks.append(contentsOf: chunks[index + 1].locks)
            chunks.remove(at: index + 1)
            summaries.remove(at: index + 1)
            summarize(index)
        }
    }
}

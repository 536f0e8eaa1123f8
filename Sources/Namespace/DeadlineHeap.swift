/// What is to happen when, the next first. What ends early is left inside and skipped by the owner when its time comes;
/// `compact` keeps that from growing.
struct DeadlineHeap {
    struct Entry {
        var deadline: UInt64
        var number: UInt64

        /// Of those for one time the older goes first.
        static func < (a: Entry, b: Entry) -> Bool { (a.deadline, a.number) < (b.deadline, b.number) }
    }

    private var entries: ContiguousArray<Entry> = []

    var next: Entry? { entries.first }
    var count: Int { entries.count }

    mutating func insert(_ deadline: UInt64, _ number: UInt64) {
        entries.append(Entry(deadline: deadline, number: number))
        var index = entries.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            guard entries[index] < entries[parent] else { break }
            entries.swapAt(index, parent)
            index = parent
        }
    }

    mutating func removeNext() {
        guard let last = entries.popLast(), !entries.isEmpty else { return }
        entries[0] = last
        var index = 0
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < entries.count {
                if entries[child] < entries[least] { least = child }
            }
            guard least != index else { return }
            entries.swapAt(index, least)
            index = least
        }
    }

    /// Drops what is over, once that may be more than half of all.
    mutating func compact(live: Int, _ isLive: (UInt64) -> Bool) {
        guard entries.count > 2 * live + 64 else { return }
        let kept = entries.filter { isLive($0.number) }
        entries.removeAll(keepingCapacity: true)
        for entry in kept { insert(entry.deadline, entry.number) }
    }
}

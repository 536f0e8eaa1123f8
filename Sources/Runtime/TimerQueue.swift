/// Timers by deadline, those of the same deadline in the order in which they were made. A heap with four children
/// per node; each timer knows its place, so that cancelling takes it out at once. No allocation once it has grown.
///
/// A name is the timer's slot in the lower bits and the slot's use count in the upper ones: never used twice.
package struct TimerQueue {
    private struct Node {
        var deadline: UInt64
        var order: UInt64
        var slot: Int32
        static func < (a: Node, b: Node) -> Bool { (a.deadline, a.order) < (b.deadline, b.order) }
    }

    private struct Slot {
        var place: Int32
        var use: UInt64
        var work: (() -> Void)?
    }

    private static let slotBits: UInt64 = 24
    /// Timers at one time: a loop that has more forgets to cancel them.
    package static let countMax = 1 << 24

    private var heap: [Node] = []
    private var slots: [Slot] = []
    private var free: [Int32] = []
    private var made: UInt64 = 0

    private let countMax: Int

    package init(countMax: Int = Self.countMax) {
        precondition(countMax <= Self.countMax, "a timer's name has no room for more")
        self.countMax = countMax
    }

    package var count: Int { heap.count }
    package var nextDeadline: UInt64? { heap.first?.deadline }

    package mutating func add(deadline: UInt64, _ work: @escaping () -> Void) -> LoopTimer {
        let slot: Int32
        if let reused = free.popLast() {
            slot = reused
        } else {
            precondition(slots.count < countMax, "too many timers")
            slot = Int32(slots.count)
            slots.append(Slot(place: 0, use: 0, work: nil))
        }
        slots[Int(slot)].use += 1
        slots[Int(slot)].work = work
        made += 1
        heap.append(Node(deadline: deadline, order: made, slot: slot))
        rise(heap.count - 1)
        return LoopTimer(id: slots[Int(slot)].use << Self.slotBits | UInt64(slot))
    }

    /// False when the timer is not there any more.
    @discardableResult
    package mutating func cancel(_ timer: LoopTimer) -> Bool {
        let slot = Int(timer.id & (1 << Self.slotBits - 1))
        guard slot < slots.count, slots[slot].use == timer.id >> Self.slotBits, slots[slot].work != nil else {
            return false
        }
        _ = take(Int(slots[slot].place))
        return true
    }

    /// Takes out the first timer when its deadline is not after `now`.
    package mutating func popDue(_ now: UInt64) -> (() -> Void)? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        return take(0)
    }

    private mutating func take(_ place: Int) -> (() -> Void)? {
        let slot = Int(heap[place].slot)
        let last = heap.removeLast()
        if place < heap.count {
            heap[place] = last
            slots[Int(last.slot)].place = Int32(place)
            sink(place)
            rise(place)
        }
        free.append(Int32(slot))
        defer { slots[slot].work = nil }
        return slots[slot].work
    }

    private mutating func rise(_ start: Int) {
        var place = start
        let node = heap[place]
        while place > 0 {
            let parent = (place - 1) / 4
            guard node < heap[parent] else { break }
            heap[place] = heap[parent]
            slots[Int(heap[place].slot)].place = Int32(place)
            place = parent
        }
        heap[place] = node
        slots[Int(node.slot)].place = Int32(place)
    }

    private mutating func sink(_ start: Int) {
        var place = start
        let node = heap[place]
        while true {
            let first = place * 4 + 1
            guard first < heap.count else { break }
            var least = first
            for child in first..<min(first + 4, heap.count) where heap[child] < heap[least] { least = child }
            guard heap[least] < node else { break }
            heap[place] = heap[least]
            slots[Int(heap[place].slot)].place = Int32(place)
            place = least
        }
        heap[place] = node
        slots[Int(node.slot)].place = Int32(place)
    }
}

/// Finds places of `Slots` by the hashes of their keys; who asks says which place has the key. Every open, close and check goes
/// through a few of these, so one look costs a multiplication and, mostly, one cache line.
///
/// The seed is secret where clients choose the keys: without it they can not choose keys that meet.
struct SlotIndex {
    /// The upper half is the hash's, the lower one the place.
    private var entries: ContiguousArray<UInt64>
    private var shift: UInt64
    private let seed: UInt64
    private(set) var count = 0

    private static let vacant = UInt64.max
    private static let bitsMin: UInt64 = 4

    init(seed: UInt64) {
        self.seed = seed | 1
        entries = ContiguousArray(repeating: Self.vacant, count: 1 << Int(Self.bitsMin))
        shift = 32 - Self.bitsMin
    }

    @inline(__always)
    private func mark(_ hash: UInt64) -> UInt64 { ((hash ^ hash >> 32) &* seed) >> 32 }

    @inline(__always)
    private func home(_ mark: UInt64) -> Int { Int(mark >> shift) }

    @inline(__always)
    func find(_ hash: UInt64, _ isMeant: (UInt32) -> Bool) -> UInt32? {
        if count == 0 { return nil }
        let mark = mark(hash)
        return entries.withUnsafeBufferPointer { entries in
            var index = home(mark)
            while true {
                let entry = entries[index]
                if entry == Self.vacant { return nil }
                let place = UInt32(truncatingIfNeeded: entry)
                if entry >> 32 == mark, isMeant(place) { return place }
                index = (index + 1) & (entries.count - 1)
            }
        }
    }

    /// The key is not there yet.
    mutating func insert(_ hash: UInt64, _ place: UInt32) {
        precondition(place != .max, "a place below the highest number")
        // A quarter stays free: then runs are short, and every search ends.
        if (count + 1) * 4 > entries.count * 3 { grow() }
        count += 1
        put(mark(hash) << 32 | UInt64(place))
    }

    private mutating func put(_ entry: UInt64) {
        var index = home(entry >> 32)
        while entries[index] != Self.vacant { index = (index + 1) & (entries.count - 1) }
        entries[index] = entry
    }

    private mutating func grow() {
        let old = entries
        precondition(shift > 0, "fewer than 2^32 places")
        shift -= 1
        entries = ContiguousArray(repeating: Self.vacant, count: old.count * 2)
        for entry in old where entry != Self.vacant { put(entry) }
    }

    /// The key is there, with this place.
    mutating func remove(_ hash: UInt64, _ place: UInt32) {
        let entry = mark(hash) << 32 | UInt64(place)
        let mask = entries.count - 1
        var hole = home(entry >> 32)
        while entries[hole] != entry {
            precondition(entries[hole] != Self.vacant, "a key that is not there")
            hole = (hole + 1) & mask
        }
        count -= 1
        // What stands behind the hole and began at it or before moves up, so that no search ends too early.
        var index = hole
        while true {
            index = (index + 1) & mask
            let next = entries[index]
            if next == Self.vacant { break }
            let way = (index - home(next >> 32)) & mask
            if way >= (index - hole) & mask {
                entries[hole] = next
                hole = index
            }
        }
        entries[hole] = Self.vacant
    }

    var first: UInt32? { entries.first { $0 != Self.vacant }.map { UInt32(truncatingIfNeeded: $0) } }

    func visitAll(_ body: (UInt32) -> Void) {
        for entry in entries where entry != Self.vacant { body(UInt32(truncatingIfNeeded: entry)) }
    }
}

extension FileID {
    /// As `SlotIndex` takes it.
    @inline(__always)
    var mixed: UInt64 {
        inode &+ generation &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(subvolume) << 40 &+ UInt64(volume) << 20
    }
}

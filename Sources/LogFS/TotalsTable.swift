import Headhunter

/// What a directory's parent has been told of it, and what it has been told by its own.
///
/// The tree holds for each directory what lies in it (`Inode.own`, exact with each change), the sum of what its
/// directories have told it (`below`), and what it has told its parent (`told`). What is on the way is the table's.
struct DirectorySums {
    var below = Totals()
    var told = Totals()

    static let size = 1 + 2 * totalsSize
    static let totalsSize = 32

    init() {}

    init(_ bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.size && bytes[0] == KeyLayout.version, "sums of another program")
        below = Self.totals(bytes, at: 1)
        told = Self.totals(bytes, at: 1 + Self.totalsSize)
    }

    private static func totals(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Totals {
        Totals(
            files: bytes.i64(offset), directories: bytes.i64(offset + 8), bytes: bytes.i64(offset + 16),
            streams: bytes.i64(offset + 24))
    }
}

extension Records {
    func sums(_ directory: UInt64) throws(Halt) -> DirectorySums {
        try get(scratch.key(directory | KeyLayout.directorySpace, .sums)).map { DirectorySums($0) } ?? DirectorySums()
    }
}

extension Editing {
    func store(_ sums: DirectorySums, of directory: UInt64) {
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        for (index, totals) in [sums.below, sums.told].enumerated() {
            let offset = 1 + DirectorySums.totalsSize * index
            memory.put(totals.files, at: offset)
            memory.put(totals.directories, at: offset + 8)
            memory.put(totals.bytes, at: offset + 16)
            memory.put(totals.streams, at: offset + 24)
        }
        put(
            scratch.key(directory | KeyLayout.directorySpace, .sums),
            UnsafeRawBufferPointer(start: memory, count: DirectorySums.size))
    }
}

/// The part of the totals that is in memory only, for the directories that were in use.
///
/// Invariants, for every directory D with the directories C in it:
/// - all below D = own(D) + below(D) + pending(D)
/// - pending(D) = the sum over all directories X below D, at any depth, of unsettled(X)
/// - unsettled(X) = own(X) + below(X) - told(X), from the tree alone; X has an `unsettled` key if it is not zero.
///
/// So a change costs one key at most beyond the directory's own record, and one addition for each level; the sums move
/// up in the background; and a start finds `pending` again from the keys that are marked.
struct TotalsTable {
    struct Node {
        var inode: UInt64
        var parent: Int32
        /// Directories in it that are in the table.
        var children: Int32
        var pending: Totals
        var isUnsettled: Bool
    }

    private(set) var nodes: [Node] = []
    private var slots: [UInt64: Int32] = [:]
    private var free: [Int32] = []
    private(set) var unsettledCount = 0
    private var trimHand = 0

    /// Above that, clean ones are forgotten.
    static let nodesMax = 1 << 18
    /// Above that, each change settles one itself.
    static let unsettledMax = 1 << 15

    static let none: Int32 = -1

    func slot(_ inode: UInt64) -> Int32? { slots[inode] }
    var count: Int { slots.count }

    /// A directory's ancestors are in the table whenever it is.
    mutating func insert(_ inode: UInt64, parent: Int32) -> Int32 {
        let node = Node(inode: inode, parent: parent, children: 0, pending: Totals(), isUnsettled: false)
        let slot: Int32
        if let last = free.popLast() {
            slot = last
            nodes[Int(slot)] = node
        } else {
            slot = Int32(nodes.count)
            nodes.append(node)
        }
        slots[inode] = slot
        if parent != Self.none { nodes[Int(parent)].children += 1 }
        return slot
    }

    /// The directory is gone; it was empty, so nothing leads to its slot.
    mutating func remove(_ inode: UInt64) {
        guard let slot = slots.removeValue(forKey: inode) else { return }
        settle(slot, false)
        forget(slot)
    }

    private mutating func forget(_ slot: Int32) {
        let parent = nodes[Int(slot)].parent
        if parent != Self.none { nodes[Int(parent)].children -= 1 }
        nodes[Int(slot)].inode = 0
        free.append(slot)
    }

    /// Forgets directories of which nothing is on the way, when there are too many. Slots stay what they are during
    /// a change, so this comes before one.
    mutating func trim() {
        guard slots.count > Self.nodesMax else { return }
        for _ in 0..<(slots.count - Self.nodesMax + 8) {
            trimHand = trimHand + 1 < nodes.count ? trimHand + 1 : 0
            let node = nodes[trimHand]
            guard node.inode != 0, node.children == 0, !node.isUnsettled, node.parent != Self.none else { continue }
            slots.removeValue(forKey: node.inode)
            forget(Int32(trimHand))
        }
    }

    subscript(slot: Int32) -> Node { nodes[Int(slot)] }

    mutating func settle(_ slot: Int32, _ isUnsettled: Bool) {
        guard nodes[Int(slot)].isUnsettled != isUnsettled else { return }
        nodes[Int(slot)].isUnsettled = isUnsettled
        unsettledCount += isUnsettled ? 1 : -1
    }

    /// Something changed in the directory, or its share of it: everything above learns it.
    mutating func addAbove(_ slot: Int32, _ delta: Totals) {
        guard !delta.isZero else { return }
        var above = nodes[Int(slot)].parent
        while above != Self.none {
            nodes[Int(above)].pending += delta
            above = nodes[Int(above)].parent
        }
    }

    mutating func add(_ slot: Int32, _ delta: Totals) { nodes[Int(slot)].pending += delta }

    /// A directory moves with all that is below it.
    mutating func move(_ slot: Int32, to parent: Int32) {
        nodes[Int(nodes[Int(slot)].parent)].children -= 1
        nodes[Int(parent)].children += 1
        nodes[Int(slot)].parent = parent
    }

    /// Directories above this one.
    func depth(_ slot: Int32) -> Int {
        var count = 0
        var above = nodes[Int(slot)].parent
        while above != Self.none {
            count += 1
            above = nodes[Int(above)].parent
        }
        return count
    }

    func isAncestor(_ slot: Int32, of other: Int32) -> Bool {
        var place = other
        while place != Self.none {
            if place == slot { return true }
            place = nodes[Int(place)].parent
        }
        return false
    }

    /// Up to `limit` directories that have something to tell.
    func unsettled(limit: Int, from start: Int) -> (found: [Int32], next: Int) {
        var found: [Int32] = []
        guard unsettledCount > 0, !nodes.isEmpty else { return ([], 0) }
        var index = start % nodes.count
        for _ in 0..<nodes.count {
            if nodes[index].isUnsettled { found.append(Int32(index)) }
            index = (index + 1) % nodes.count
            if found.count == limit { break }
        }
        return (found, index)
    }
}

import Bytes

/// Blocks for records and results that are too large to be read or encoded in place, used again and again. Nobody
/// gives one back: a block that nobody else refers to any more is free. Belongs to one loop.
struct BlockCache {
    /// Capacities that are kept; larger blocks are made for once.
    static let capacities = [128 << 10, (1 << 20) + (16 << 10)]
    /// Of each capacity.
    static let keptMax = 16

    private var kept: [[Block]] = capacities.map { _ in [] }
    private var hands = capacities.map { _ in 0 }

    /// An empty block of at least `capacity`.
    mutating func take(_ capacity: Int) -> Block {
        guard let index = Self.capacities.firstIndex(where: { $0 >= capacity }) else {
            return Block(capacity: capacity)
        }
        // Where the last one was found the next one is free most likely: blocks end in the order of their beginning.
        for step in 0..<kept[index].count {
            let place = (hands[index] + step) % kept[index].count
            guard isKnownUniquelyReferenced(&kept[index][place]) else { continue }
            hands[index] = place
            let block = kept[index][place]
            block.count = 0
            return block
        }
        let block = Block(capacity: Self.capacities[index])
        if kept[index].count < Self.keptMax { kept[index].append(block) }
        return block
    }
}

import Synchronization

/// Where keys were found the last time: a table of guesses, each looked at before it is believed.
///
/// A walk from the root to a leaf that is not in the processor's caches is a dozen misses, each waiting for the one before. With
/// a guess the node's description, its page and the entry are fetched side by side. Nothing is ever taken out: whoever follows a guess
/// compares the key that is there. Readers of several loops write here at the same time; each entry is one word.
package struct KeyHints {
    /// This part of the budget for nodes goes to guesses: some 120 for each node.
    package static let budgetPart = 16
    private static let slotBits: UInt64 = 11
    private static let frameBits: UInt64 = 26

    private let memory: Expanse
    private let tableBytes: Int
    private let shift: UInt64

    init(bytes: Int) {
        var bits = 10
        while 16 << bits <= bytes { bits += 1 }
        tableBytes = 8 << bits
        memory = Expanse(bytes: tableBytes)
        shift = UInt64(64 - bits)
    }

    func back() { memory.back(0..<tableBytes) }

    func release() { memory.release() }

    /// Of a key's bytes, eight at a time. Who makes keys collide gains that they are looked up the long way.
    @inline(__always) static func hash(_ tree: UInt32, _ key: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(tree) &+ UInt64(truncatingIfNeeded: key.count) &* 0x9E37_79B9_7F4A_7C15
        guard let bytes = key.baseAddress else { return hash }
        var place = 0
        while place + 8 <= key.count {
            hash = mix(hash ^ bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self))
            place += 8
        }
        if place < key.count { hash = mix(hash ^ Page.eight(bytes + place, key.count - place)) }
        return hash
    }

    @inline(__always) private static func mix(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0xC2B2_AE3D_27D4_EB4F)
        return product.high ^ product.low
    }

    @inline(__always) private func entry(_ hash: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (memory.base + Int(hash >> shift) * 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// What is left of the hash tells most guesses of other keys.
    @inline(__always) private static func tag(_ hash: UInt64) -> UInt64 { hash << (slotBits + frameBits) }

    @inline(__always) func find(_ hash: UInt64) -> (frame: UInt32, slot: Int)? {
        let word = entry(hash).pointee.load(ordering: .relaxed)
        guard word != 0, (word ^ Self.tag(hash)) >> (Self.slotBits + Self.frameBits) == 0 else { return nil }
        let frame = UInt32(truncatingIfNeeded: word >> Self.slotBits & (1 << Self.frameBits - 1))
        return (frame, Int(word & (1 << Self.slotBits - 1)))
    }

    @inline(__always) func set(_ hash: UInt64, frame: UInt32, slot: Int) {
        guard UInt64(frame) < 1 << Self.frameBits, slot < 1 << Self.slotBits else { return }
        let word = Self.tag(hash) | UInt64(frame) << Self.slotBits | UInt64(slot)
        entry(hash).pointee.store(word, ordering: .relaxed)
    }
}

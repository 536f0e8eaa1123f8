import CShim
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
    /// Of the line of memory in the page where the entry's cell begins.
    private static let lineBits: UInt64 = 8
    private static let knownBits = slotBits + frameBits + lineBits

    private static let waysBits = 2
    private static let ways = 1 << waysBits

    private let memory: Expanse
    private let tableBytes: Int
    private let shift: UInt64

    package init(bytes: Int) {
        var bits = 10
        while 16 << bits <= bytes { bits += 1 }
        tableBytes = 8 << bits
        memory = Expanse(bytes: tableBytes)
        shift = UInt64(64 - bits + Self.waysBits)
    }

    func back() { memory.back(0..<tableBytes) }

    package func release() { memory.release() }

    /// Of a key's bytes, eight at a time. Who makes keys collide gains that they are looked up the long way.
    @inline(__always) package static func hash(_ tree: UInt32, _ key: UnsafeRawBufferPointer) -> UInt64 {
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

    /// The first of the places of a key: they lie in one line of memory, so that looking at all of them costs what one does, and keys seldom
    /// push each other out.
    @inline(__always) private func places(_ hash: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (memory.base + Int(hash >> shift) * Self.ways * 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// What is left of the hash tells most guesses of other keys.
    @inline(__always) private static func tag(_ hash: UInt64) -> UInt64 { hash << knownBits }

    /// `find` will be asked for this key.
    @inline(__always) func expect(_ hash: UInt64) { shim_prefetch(places(hash)) }

    /// `cell`: some byte of the line where the entry's cell began.
    @inline(__always) package func find(_ hash: UInt64) -> (frame: UInt32, slot: Int, cell: Int)? {
        let places = places(hash)
        let tag = Self.tag(hash)
        var word: UInt64 = 0
        for way in 0..<Self.ways {
            let one = places[way].load(ordering: .relaxed)
            word = (one ^ tag) >> Self.knownBits == 0 ? one : word
        }
        guard word != 0 else { return nil }
        let line = Int(truncatingIfNeeded: word >> (Self.slotBits + Self.frameBits) & (1 << Self.lineBits - 1))
        let frame = UInt32(truncatingIfNeeded: word >> Self.slotBits & (1 << Self.frameBits - 1))
        return (frame, Int(word & (1 << Self.slotBits - 1)), line << Self.lineShift)
    }

    @inline(__always) package func set(_ hash: UInt64, frame: UInt32, slot: Int, cell: Int) {
        guard UInt64(frame) < 1 << Self.frameBits, slot < 1 << Self.slotBits else { return }
        let tag = Self.tag(hash)
        let places = places(hash)
        // In the place of an older guess of the same key; else in a free one; else another key's guess goes.
        var way = Int(hash & UInt64(Self.ways - 1))
        for other in 0..<Self.ways {
            let word = places[other].load(ordering: .relaxed)
            if word == 0 { way = other }
            if word != 0, (word ^ tag) >> Self.knownBits == 0 {
                way = other
                break
            }
        }
        let place = UInt64(cell >> Self.lineShift) << Self.frameBits | UInt64(frame)
        places[way].store(tag | place << Self.slotBits | UInt64(slot), ordering: .relaxed)
    }

    private static let lineShift = 6
}

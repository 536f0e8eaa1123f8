import Bytes
import Runtime
import Synchronization

/// Long files that were written lately, as they lay in memory on their way to the disk: who reads back what he wrote finds it here, though
/// the disk got it past the system's cache. Chunks are taken over as they are, not copied, and nobody writes to them any more. Beside
/// their own share they may have what the cache of what was read has not come to need yet.
package final class RecentChunks: Sendable {
    private struct Key: Hashable {
        let segment: UInt64
        let index: Int
    }

    private struct Slot {
        let key: Key
        let chunk: Block
        /// Read since the clock's hand passed.
        var isWarm: Bool
    }

    private struct State {
        var slots: [Slot] = []
        var places: [Key: Int] = [:]
        var hand = 0

        /// Where the next one to go is.
        mutating func coldest() -> Int {
            while slots[hand].isWarm {
                slots[hand].isWarm = false
                hand = (hand + 1) % slots.count
            }
            return hand
        }

        mutating func remove() -> Block {
            let place = coldest()
            let old = slots[place]
            places[old.key] = nil
            let last = slots.removeLast()
            if place < slots.count {
                // It has its turn after all others, for it may be the newest.
                slots[place] = last
                places[last.key] = place
                hand += 1
            }
            if hand >= slots.count { hand = 0 }
            return old.chunk
        }
    }

    private let bytes: Int
    private let lender: DataCache
    private let state: Guarded<State>
    /// Who looks for something else need not take the lock.
    private let hasSome = Atomic(false)

    package init(bytes: Int, lender: DataCache) {
        self.bytes = bytes
        self.lender = lender
        state = Guarded(State())
    }

    /// Half of what is unused: each chunk that stays is one that the next bytes do not find warm.
    private var slotsMax: Int { (bytes + lender.unused / 2) / Segments.chunkSize }

    /// The lender has come to need more: what is over goes.
    func giveBack() {
        guard hasSome.load(ordering: .acquiring) else { return }
        let slotsMax = slotsMax
        let gone = state.withLock { state in
            var gone: [Block] = []
            while state.slots.count > slotsMax { gone.append(state.remove()) }
            return gone
        }
        extendLifetime(gone)
    }

    /// The chunk's bytes are those of the segment's object from `index` chunks on, for good. Answers the one that has to go.
    func insert(_ segment: UInt64, _ index: Int, _ chunk: Block) -> Block? {
        let slotsMax = slotsMax
        guard slotsMax > 0 else { return chunk }
        let key = Key(segment: segment, index: index)
        hasSome.store(true, ordering: .releasing)
        return state.withLock { state in
            guard state.places[key] == nil else { return chunk }
            let slot = Slot(key: key, chunk: chunk, isWarm: false)
            if state.slots.count < slotsMax {
                state.places[key] = state.slots.count
                state.slots.append(slot)
                return nil
            }
            let place = state.coldest()
            let old = state.slots[place]
            state.places[old.key] = nil
            state.places[key] = place
            state.slots[place] = slot
            state.hand = (place + 1) % state.slots.count
            return old.chunk
        }
    }

    func contains(_ segment: UInt64, byte: Int) -> Bool {
        guard hasSome.load(ordering: .acquiring) else { return false }
        return state.withLock { state in
            guard let place = state.places[Key(segment: segment, index: byte / Segments.chunkSize)] else {
                return false
            }
            return byte % Segments.chunkSize < state.slots[place].chunk.count
        }
    }

    /// Copies bytes if all of them are here.
    func read(_ segment: UInt64, _ offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        visit(segment, offset, buffer.count) { part, done in
            buffer.baseAddress.map {
                ($0 + done).copyMemory(from: part.block.base + part.offset, byteCount: part.count)
            }
            extendLifetime(part)
        }
    }

    /// The bytes where they lie, if all of them are here: nobody writes to them any more.
    func lend(_ segment: UInt64, _ offset: Int, _ count: Int, to parts: inout [BlockPart]) -> Bool {
        let kept = parts.count
        if visit(segment, offset, count, { part, _ in parts.append(part) }) { return true }
        parts.removeLast(parts.count - kept)
        return false
    }

    /// Shows the parts, and what lies before each, until one is not here.
    @inline(__always)
    private func visit(_ segment: UInt64, _ offset: Int, _ count: Int, _ body: (BlockPart, Int) -> Void) -> Bool {
        guard hasSome.load(ordering: .acquiring) else { return false }
        var done = 0
        while done < count {
            let key = Key(segment: segment, index: (offset + done) / Segments.chunkSize)
            let found = state.withLock { state -> Block? in
                guard let place = state.places[key] else { return nil }
                state.slots[place].isWarm = true
                return state.slots[place].chunk
            }
            guard let chunk = found else { return false }
            let from = (offset + done) % Segments.chunkSize
            let some = min(count - done, Segments.chunkSize - from)
            guard from + some <= chunk.count else { return false }
            body(BlockPart(chunk, offset: from, count: some), done)
            done += some
        }
        return true
    }
}

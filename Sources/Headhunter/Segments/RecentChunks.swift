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
        /// In the order of use; -1 at either end.
        var older = -1
        var newer = -1
    }

    private struct State {
        var slots: [Slot] = []
        var places: [Key: Int] = [:]
        private var oldest = -1
        private var newest = -1

        /// In the order that is: what its neighbours know of it.
        private mutating func link(_ older: Int, _ newer: Int) {
            if older < 0 { oldest = newer } else { slots[older].newer = newer }
            if newer < 0 { newest = older } else { slots[newer].older = older }
        }

        mutating func use(_ place: Int) {
            guard place != newest else { return }
            link(slots[place].older, slots[place].newer)
            (slots[place].older, slots[place].newer) = (newest, -1)
            link(newest, place)
            newest = place
        }

        mutating func add(_ key: Key, _ chunk: Block) {
            let place = slots.count
            slots.append(Slot(key: key, chunk: chunk, older: newest))
            places[key] = place
            link(newest, place)
            newest = place
        }

        /// What was used longest ago goes.
        mutating func remove() -> Block {
            let place = oldest
            let old = slots[place]
            places[old.key] = nil
            link(-1, old.newer)
            let last = slots.removeLast()
            if place < slots.count {
                slots[place] = last
                places[last.key] = place
                link(last.older, place)
                link(place, last.newer)
            }
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
    package func insert(_ segment: UInt64, _ index: Int, _ chunk: Block) -> Block? {
        let slotsMax = slotsMax
        guard slotsMax > 0 else { return chunk }
        let key = Key(segment: segment, index: index)
        hasSome.store(true, ordering: .releasing)
        return state.withLock { state in
            guard state.places[key] == nil else { return chunk }
            let old = state.slots.count < slotsMax ? nil : state.remove()
            state.add(key, chunk)
            return old
        }
    }

    package func contains(_ segment: UInt64, byte: Int) -> Bool {
        guard hasSome.load(ordering: .acquiring) else { return false }
        return state.withLock { state in
            guard let place = state.places[Key(segment: segment, index: byte / Segments.chunkSize)] else {
                return false
            }
            return byte % Segments.chunkSize < state.slots[place].chunk.count
        }
    }

    /// Copies bytes if all of them are here.
    package func read(_ segment: UInt64, _ offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
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
                state.use(place)
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

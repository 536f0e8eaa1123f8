import Bytes
import Runtime
import Synchronization

/// Long files that were written lately, as they lay in memory on their way to the disk: who reads back what he wrote finds it here, though
/// the disk got it past the system's cache. Chunks are taken over as they are, not copied, and nobody writes to them any more.
final class RecentChunks: Sendable {
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
    }

    private let slotsMax: Int
    private let state: Guarded<State>
    /// Who looks for something else need not take the lock.
    private let hasSome = Atomic(false)

    init(bytes: Int) {
        slotsMax = bytes / Segments.chunkSize
        state = Guarded(State())
    }

    /// The chunk's bytes are those of the segment's object from `index` chunks on, for good. Answers the one that has to go.
    func insert(_ segment: UInt64, _ index: Int, _ chunk: Block) -> Block? {
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
            while state.slots[state.hand].isWarm {
                state.slots[state.hand].isWarm = false
                state.hand = (state.hand + 1) % slotsMax
            }
            let old = state.slots[state.hand]
            state.places[old.key] = nil
            state.places[key] = state.hand
            state.slots[state.hand] = slot
            state.hand = (state.hand + 1) % slotsMax
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
        guard hasSome.load(ordering: .acquiring) else { return false }
        var done = 0
        while done < buffer.count {
            let key = Key(segment: segment, index: (offset + done) / Segments.chunkSize)
            let found = state.withLock { state -> Block? in
                guard let place = state.places[key] else { return nil }
                state.slots[place].isWarm = true
                return state.slots[place].chunk
            }
            guard let chunk = found else { return false }
            let from = (offset + done) % Segments.chunkSize
            let count = min(buffer.count - done, Segments.chunkSize - from)
            guard from + count <= chunk.count else { return false }
            buffer.baseAddress.map { ($0 + done).copyMemory(from: chunk.base + from, byteCount: count) }
            extendLifetime(chunk)
            done += count
        }
        return true
    }
}

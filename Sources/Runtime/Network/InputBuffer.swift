import Bytes

/// Bytes that were received and not consumed. Owns memory only while there are any.
struct InputBuffer {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    var start = 0
    var end = 0

    var count: Int { end - start }
    var isEmpty: Bool { start == end }
    var bytes: UnsafeRawBufferPointer {
        guard let base else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: base + start, count: end - start)
    }

    /// Room behind the bytes, such that there are at most `limit` of them when it is full.
    mutating func space(_ pool: BufferPool, max limit: Int) -> UnsafeMutableRawBufferPointer {
        precondition(limit > count, "no room below the limit")
        if capacity < BufferPool.large {
            replace(pool, BufferPool.large)
        } else if count == capacity {
            // Doubling: memory stays in proportion to what the peer has sent, whatever length it claims.
            replace(pool, capacity * 2)
        } else if start > 0, capacity - end < capacity / 2, let base {
            base.copyMemory(from: base + start, byteCount: count)
            end -= start
            start = 0
        }
        guard let base else { preconditionFailure("an input buffer has memory after it was asked for") }
        return UnsafeMutableRawBufferPointer(start: base + end, count: min(capacity - end, limit - count))
    }

    private mutating func replace(_ pool: BufferPool, _ size: Int) {
        let fresh = pool.take(size)
        let kept = count
        if let base {
            fresh.copyMemory(from: base + start, byteCount: kept)
            pool.give(base, capacity)
        }
        base = fresh
        capacity = size
        start = 0
        end = kept
    }

    /// Moves bytes to the end of `block` until that has `limit`.
    mutating func move(to block: Block, limit: Int) {
        let moved = min(count, limit - block.count)
        block.append(UnsafeRawBufferPointer(rebasing: bytes.prefix(moved)))
        start += moved
    }

    /// Gives back what is not needed: all memory when there are no bytes, most of it when there are few, because
    /// many slow peers may each have sent the beginning of a message.
    mutating func trim(_ pool: BufferPool) {
        if isEmpty {
            clear(pool)
        } else if capacity > BufferPool.small, count <= BufferPool.small / 2 {
            replace(pool, BufferPool.small)
        }
    }

    mutating func clear(_ pool: BufferPool) {
        if let base { pool.give(base, capacity) }
        base = nil
        capacity = 0
        start = 0
        end = 0
    }
}

import Bytes
import CShim

/// Output in order: ranges of pooled chunks, which replies are encoded into, and parts of blocks.
///
/// Invariants: the bytes of `chunk` in `sealed ..< used` come after all pieces; `pending` is the sum of all.
/// A chunk that is full is given back when the piece that carries it has left.
@usableFromInline
struct OutputQueue {
    @usableFromInline
    struct Piece {
        var base: UnsafeRawPointer
        var count: Int
        var block: Block?
        var finishedChunk: UnsafeMutableRawPointer?
    }

    @usableFromInline var chunk: UnsafeMutableRawPointer?
    private var sealed = 0
    @usableFromInline var used = 0
    private var pieces: [Piece] = []
    private var head = 0
    @usableFromInline var pending = 0

    @inlinable
    mutating func reserve(_ count: Int, _ pool: BufferPool) -> UnsafeMutableRawBufferPointer {
        if let chunk, BufferPool.large - used >= count {
            return UnsafeMutableRawBufferPointer(start: chunk + used, count: BufferPool.large - used)
        }
        return reserveSlowly(count, pool)
    }

    @usableFromInline
    mutating func reserveSlowly(_ count: Int, _ pool: BufferPool) -> UnsafeMutableRawBufferPointer {
        precondition(count >= 0 && count <= BufferPool.large, "larger output travels in blocks")
        if let full = chunk {
            seal()
            pieces.append(Piece(base: full, count: 0, block: nil, finishedChunk: full))
        }
        let fresh = pool.take(BufferPool.large)
        chunk = fresh
        sealed = 0
        used = 0
        return UnsafeMutableRawBufferPointer(start: fresh, count: BufferPool.large)
    }

    @inlinable
    mutating func commit(_ count: Int) {
        precondition(count >= 0 && chunk != nil && count <= BufferPool.large - used, "more than was reserved")
        used += count
        pending += count
    }

    mutating func append(_ block: Block, offset: Int, count: Int, _ pool: BufferPool) {
        seal()
        pieces.append(Piece(base: block.base + offset, count: count, block: block, finishedChunk: nil))
        pending += count
    }

    private mutating func seal() {
        guard let chunk, used > sealed else { return }
        pieces.append(Piece(base: chunk + sealed, count: used - sealed, block: nil, finishedChunk: nil))
        sealed = used
    }

    /// Calls `body` with the first bytes: one range, or vectors when there are several.
    func withVectors(
        _ body: (_ single: UnsafeRawBufferPointer, _ vectors: UnsafeBufferPointer<iovec>) -> TransportResult
    ) -> TransportResult {
        if head == pieces.count {
            guard let chunk else { preconditionFailure("output is pending, but nowhere") }
            return body(
                UnsafeRawBufferPointer(start: chunk + sealed, count: used - sealed),
                UnsafeBufferPointer(start: nil, count: 0))
        }
        return withUnsafeTemporaryAllocation(of: iovec.self, capacity: Transport.vectorsMax) { vectors in
            var count = 0
            var index = head
            while index < pieces.count, count < vectors.count {
                let piece = pieces[index]
                index += 1
                guard piece.count > 0 else { continue }
                vectors.initializeElement(
                    at: count, to: iovec(iov_base: UnsafeMutableRawPointer(mutating: piece.base), iov_len: piece.count))
                count += 1
            }
            if index == pieces.count, count < vectors.count, used > sealed, let chunk {
                vectors.initializeElement(at: count, to: iovec(iov_base: chunk + sealed, iov_len: used - sealed))
                count += 1
            }
            return body(
                UnsafeRawBufferPointer(start: nil, count: 0),
                UnsafeBufferPointer(rebasing: UnsafeBufferPointer(vectors).prefix(count)))
        }
    }

    /// Drops the first `count` bytes, which were taken.
    mutating func consume(_ count: Int, _ pool: BufferPool) {
        precondition(count <= pending, "more was taken than was there")
        pending -= count
        var rest = count
        while head < pieces.count {
            if pieces[head].count > rest {
                pieces[head].base += rest
                pieces[head].count -= rest
                rest = 0
                break
            }
            rest -= pieces[head].count
            if let finished = pieces[head].finishedChunk { pool.give(finished, BufferPool.large) }
            pieces[head].block = nil
            pieces[head].finishedChunk = nil
            head += 1
        }
        sealed += rest
        if head == pieces.count {
            if head > 0 { pieces.removeAll(keepingCapacity: true) }
            head = 0
            if sealed == used {
                sealed = 0
                used = 0
            }
        } else if head >= Transport.vectorsMax, head * 2 >= pieces.count {
            pieces.removeFirst(head)
            head = 0
        }
    }

    /// With nothing pending: gives back the memory.
    mutating func trim(_ pool: BufferPool) {
        guard pending == 0 else { return }
        if let chunk { pool.give(chunk, BufferPool.large) }
        chunk = nil
        sealed = 0
        used = 0
        if pieces.capacity > 4 { pieces = [] }
    }

    mutating func clear(_ pool: BufferPool) {
        for piece in pieces[head...] {
            if let finished = piece.finishedChunk { pool.give(finished, BufferPool.large) }
        }
        pieces = []
        head = 0
        pending = 0
        trim(pool)
    }
}

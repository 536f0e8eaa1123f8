import Bytes
import CShim

extension Connection {
    /// Space for `count` bytes of output, to be filled in place before anything else is written; `commit` then says
    /// how many. At most `BufferPool.large` (64 KiB): larger things travel in blocks. When the connection takes no
    /// more output the space is there all the same, and what is put into it is dropped.
    @inlinable
    public func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { output.reserve(count, pool) }

    @inlinable
    public func commit(_ count: Int) {
        guard flags.isDisjoint(with: [.closed, .closing, .finishing]) else { return dropReserved() }
        output.commit(count)
        if !flags.contains(.busy) { attend() }
    }

    @usableFromInline
    func dropReserved() {
        if output.pending == 0 { output.clear(io.pool) }
    }

    /// Copies `bytes` into the output.
    public func write(_ bytes: UnsafeRawBufferPointer) {
        guard flags.isDisjoint(with: [.closed, .closing, .finishing]) else { return }
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(BufferPool.large))
            reserve(piece.count).copyMemory(from: piece)
            commit(piece.count)
            rest = rest.dropFirst(piece.count)
        }
    }

    /// Queues a part of `block` without copying it; the block must not change until it was sent.
    public func write(_ block: Block, offset: Int = 0, count: Int) {
        precondition(offset >= 0 && count >= 0 && offset <= block.count - count, "outside the block")
        write(BlockPart(block, offset: offset, count: count))
    }

    /// The same of a part of a block that others may be adding to, behind it.
    public func write(_ part: BlockPart) {
        guard flags.isDisjoint(with: [.closed, .closing, .finishing]), part.count > 0 else { return }
        output.append(part.block, offset: part.offset, count: part.count, io.pool)
        if !flags.contains(.busy) { attend() }
    }

    /// Output that the transport has not taken yet.
    @inlinable public var outputPending: Int { output.pending }

    /// Output that the transport has taken and the peer does not have. A full socket tells of room late, when a third of it has
    /// gone: meanwhile this is how one sees that the peer reads.
    public var outputUnread: Int { transport?.unreadOutput ?? 0 }

    /// Whether a handler that can choose should produce no more until `drained`.
    @inlinable public var isOutputFull: Bool { output.pending > outputHigh }

    /// Gives the transport what is pending.
    func flush() {
        guard flags.isDisjoint(with: [.closed, .opening]), let transport else { return }
        // Before the push: a handler that stopped because of it is told, also when all leaves at once.
        if isOutputFull { flags.insert(.throttled) }
        if !flags.contains(.blocked), output.pending > 0 || flags.contains(.stalled) { push(to: transport) }
        guard !flags.contains(.closed) else { return }
        if output.pending > 0 {
            if output.pending > limits.outputMax { return abort(because: .outputOverflow) }
        } else {
            output.trim(io.pool)
        }
        if flags.contains(.throttled), output.pending <= outputHigh / 4 { relieve() }
        guard output.pending == 0, !flags.contains(.blocked) else { return }
        if flags.contains(.finishing) || flags.contains(.closing) { conclude(transport) }
    }

    private func push(to transport: Transport) {
        while output.pending > 0 {
            let result = output.withVectors { single, vectors in
                vectors.isEmpty ? transport.write(single) : transport.write(vectors)
            }
            switch result {
            case .bytes(let count, let all):
                output.consume(count, io.pool)
                counters.bytesOut &+= UInt64(count)
                counters.writes &+= 1
                io.counters.bytesOut.add(UInt64(count))
                activeAt = loop.now
                progressAt = activeAt
                if !all { return block() }
            case .wouldBlock: return block()
            case .end: return abort(because: .failed(.connectionReset))
            case .failed(let reason): return abort(because: flags.contains(.closing) ? self.reason : reason)
            }
        }
        if flags.contains(.stalled) {
            flags.remove(.stalled)
            updateInterest()
        }
    }

    private func block() {
        flags.insert(.blocked)
        unreadThen = outputUnread
        guard !flags.contains(.stalled) else { return }
        flags.insert(.stalled)
        progressAt = loop.now
        updateInterest()
        armTimer()
    }

    private func relieve() {
        flags.remove(.throttled)
        partialSince = loop.now
        if let handler, flags.isDisjoint(with: [.closing, .finishing]) { handler.drained(self) }
        lookAgain()
    }

    /// All output has left: end our direction, and the connection when nothing more is to come.
    private func conclude(_ transport: Transport) {
        if !flags.contains(.finished) {
            flags.insert(.finished)
            transport.finishWriting()
        }
        if flags.contains(.ended) {
            abort(because: flags.contains(.closing) ? reason : .finished)
        } else if flags.contains(.closing) {
            progressAt = loop.now
            concludedAt = min(concludedAt, progressAt)
            updateInterest()
            armTimer()
        }
    }
}

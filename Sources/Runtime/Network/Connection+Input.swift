import Bytes

extension Connection {
    /// Stops reading, and calls of `received` and `filled`, until `resumeReading`.
    public func pauseReading() { flags.insert(.paused) }

    /// Bytes that were left over are shown again at the end of this round.
    public func resumeReading() {
        guard flags.contains(.paused) else { return }
        flags.remove(.paused)
        partialSince = loop.now
        lookAgain()
    }

    public var isReadingPaused: Bool { flags.contains(.paused) }

    /// The handler is not called again before so many unconsumed bytes are there: it knows the length of the
    /// message that has begun. Holds for the next call only. More than `inputMax` closes the connection.
    public func require(_ count: Int) {
        required = max(count, 1)
        if count > limits.inputMax { close(because: .inputOverflow) }
    }

    /// The next `count` bytes after those that the running call of `received` consumes go to the end of `block`
    /// directly, past the input buffer; then `filled` is called.
    public func fill(_ block: Block, count: Int) {
        precondition(fillBlock == nil, "one block at a time")
        precondition(count > 0 && count <= block.capacity - block.count, "the block is too small")
        guard flags.isDisjoint(with: [.closed, .closing]) else { return }
        fillBlock = block
        fillEnd = block.count + count
        // A long message has longer to come.
        partialSince = loop.now &+ UInt64(count) * Self.slowNanosecondsPerByte
        if !flags.contains(.busy) { lookAgain() }
    }

    /// 16 KiB a second.
    private static let slowNanosecondsPerByte: UInt64 = 1_000_000_000 / (16 << 10)

    private var wantsInput: Bool { flags.isDisjoint(with: [.paused, .throttled, .ended, .closed, .closing, .opening]) }

    func lookAgain() {
        flags.insert(.again)
        attend()
    }

    /// Shows the handler what was left over unless `isReadable`, then reads until the transport has no more or the
    /// budget is used, showing the handler what has come.
    func readAndDeliver(isReadable: Bool) {
        if flags.contains(.closing) { return discard() }
        guard wantsInput else {
            // Pauses are cheap as long as nothing arrives: interest is taken back only when something does.
            return updateInterest()
        }
        flags.insert(.busy)
        defer {
            flags.remove(.busy)
            if !flags.isDisjoint(with: [.closed, .closing]) { dropInput() }
        }
        if !isReadable { deliver() }
        var budget = limits.readBudget
        // Of what the operating system holds we are told again; a call to find out would be wasted.
        var more = isReadable || transport?.hasBufferedInput == true
        while more, budget > 0, wantsInput, let transport {
            let result: TransportResult
            if let block = fillBlock {
                let count = min(fillEnd - block.count, budget)
                result = transport.read(
                    into: UnsafeMutableRawBufferPointer(start: block.base + block.count, count: count))
            } else {
                result = transport.read(into: input.space(io.pool, max: min(limits.inputMax, input.count + budget)))
            }
            switch result {
            case .bytes(let count, let mayHaveMore):
                more = mayHaveMore
                budget -= count
                noteRead(count)
                if let block = fillBlock {
                    block.count += count
                } else {
                    input.end += count
                }
                deliver()
                // A handler that stopped early because of it is called again when the output has drained.
                if isOutputFull { flags.insert(.throttled) }
            case .wouldBlock:
                more = false
                input.trim(io.pool)
            case .end:
                more = false
                end()
            case .failed(let reason):
                return abort(because: reason)
            }
        }
        guard !flags.contains(.closed) else { return }
        updateInterest()
        // Nobody will tell us of bytes that the transport holds already.
        if wantsInput, transport?.hasBufferedInput == true { lookAgain() }
    }

    private func noteRead(_ count: Int) {
        counters.bytesIn &+= UInt64(count)
        counters.reads &+= 1
        io.counters.bytesIn.add(UInt64(count))
        activeAt = loop.now
    }

    /// Shows the handler what is there.
    private func deliver() {
        guard let handler else { return }
        while wantsInput {
            if let block = fillBlock {
                input.move(to: block, limit: fillEnd)
                guard block.count == fillEnd else { break }
                fillBlock = nil
                partialSince = activeAt
                handler.filled(block, on: self)
                continue
            }
            guard input.count >= required, !input.isEmpty else { break }
            required = 1
            let view = input.bytes
            let consumed = handler.received(view, on: self)
            precondition(consumed >= 0 && consumed <= view.count, "a handler consumed what it was not shown")
            guard !flags.contains(.closed), !flags.contains(.closing) else { return }
            if consumed > 0 { partialSince = activeAt }
            input.start += consumed
            guard fillBlock != nil else { break }
        }
        guard flags.isDisjoint(with: [.closed, .closing]) else { return }
        if input.count >= limits.inputMax, wantsInput { return close(because: .inputOverflow) }
        input.trim(io.pool)
        notePartial()
    }

    private func notePartial() {
        if input.isEmpty, fillBlock == nil {
            flags.remove(.partial)
        } else if !flags.contains(.partial) {
            flags.insert(.partial)
            partialSince = activeAt
            armTimer()
        }
    }

    private func end() {
        flags.insert(.ended)
        activeAt = loop.now
        if let handler { handler.ended(self) }
        flags.remove(.partial)
        input.trim(io.pool)
    }

    /// After `close`: what the peer still sends is of no interest, that it ends is.
    private func discard() {
        let scratch = io.pool.take(BufferPool.large)
        defer { io.pool.give(scratch, BufferPool.large) }
        var budget = limits.readBudget
        while budget > 0, let transport {
            switch transport.read(into: UnsafeMutableRawBufferPointer(start: scratch, count: BufferPool.large)) {
            case .bytes(let count, let more):
                budget -= count
                if !more { return }
            case .wouldBlock: return
            case .end:
                flags.insert(.ended)
                return updateInterest()
            case .failed: return abort(because: reason)
            }
        }
        if transport?.hasBufferedInput == true { lookAgain() }
    }

    /// Tells the transport what we wait for. It makes a system call only when that changes.
    func updateInterest() {
        let lingering = flags.contains(.closing) && flags.contains(.finished) && !flags.contains(.ended)
        transport?.setInterest(read: wantsInput || lingering, write: flags.contains(.stalled))
    }
}

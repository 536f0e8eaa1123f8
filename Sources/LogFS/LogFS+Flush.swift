import Glibc
import Headhunter

/// Bringing what was written into the tree.
extension LogFS {
    /// Pieces of one change, and extents that it may take away: with the records of file, directory and segments they
    /// stay within one change.
    private static let piecesPerChange = 5
    static let coverPerChange = 8

    /// What was written to the file before the call is in the tree when this returns. Answers the number to commit:
    /// 0 when there was nothing.
    @discardableResult
    public func flush(_ inode: UInt64) async throws(Failure) -> UInt64 {
        while true {
            guard let pieces = files.begin(inode, flushing: true) else {
                await files.whenFree(inode)
                continue
            }
            var number: UInt64 = 0
            var failure: Failure?
            do throws(Failure) { number = try await flushPieces(inode, pieces) } catch { failure = error }
            files.end(inode)
            if let failure {
                guard failure == .file(.stale) else { throw failure }
                files.drop(inode, headhunter)
            }
            return number
        }
    }

    public func flushAll() async throws(Failure) {
        for inode in files.dirty() { _ = try await flush(inode) }
    }

    /// Of a file that the caller has begun to work on.
    func flushPieces(_ inode: UInt64, _ pieces: [Piece]) async throws(Failure) -> UInt64 {
        guard !pieces.isEmpty else { return 0 }
        let (isInline, inlineNumber) = try await run { self.flushInline($0, inode, pieces) }
        if isInline {
            files.took(inode, pieces.count)
            return inlineNumber
        }
        var number: UInt64 = 0
        var queue = try await inlinePiece(inode).map { [$0] } ?? []
        var extra = queue.count
        for (index, piece) in pieces.enumerated() {
            var piece = piece
            if let memory = piece.memory {
                piece.range = try await append(UnsafeRawBufferPointer(start: memory.base, count: piece.length))
                piece.memory = nil
                files.replace(inode, index, piece)
            }
            queue.append(piece)
        }
        var place = 0
        /// Bytes of the first piece that are in the tree already.
        var done = 0
        while place < queue.count {
            let from = place
            let skip = done
            let step: Step
            let log: UInt64
            do throws(Failure) {
                (step, log) = try await run { self.flushStep($0, inode, queue[from...], skip) }
            } catch {
                // What was referenced is not to be given back a second time, what is in no table is.
                if extra > 0, done == 0, let range = queue[0].range { headhunter.discard(range) }
                if extra == 0, done > 0 { files.took(inode, 1) }
                throw error
            }
            number = log
            place += step.pieces
            done = step.rest
            let taken = max(0, step.pieces - extra)
            extra -= step.pieces - taken
            files.took(inode, taken)
        }
        return number
    }

    func append(_ bytes: UnsafeRawBufferPointer) async throws(Failure) -> SegmentRange {
        while true {
            if let range = headhunter.append(bytes, heat: .small) { return range }
            try await wait { () throws(VolumeError) in try await headhunter.room() }
        }
    }

    /// Small files live in the tree. False: this one does not.
    private func flushInline(_ reader: Int, _ number: UInt64, _ pieces: [Piece]) -> Attempt<Bool> {
        let end = pieces.reduce(0) { max($0, $1.end) }
        guard end <= UInt64(Limits.inlineBytesMax), pieces.allSatisfy({ $0.memory != nil }) else {
            return .done(false, number: 0)
        }
        return change(reader) { (edit) throws(Halt) in
            guard var inode = try edit.inode(number) else { throw .refused(.stale) }
            let size = max(inode.size, end)
            guard !inode.has(Inode.hasExtents), size <= UInt64(Limits.inlineBytesMax) else { return false }
            try edit.withInline(inode, size: Int(size)) { content in
                for piece in pieces {
                    guard let memory = piece.memory else { continue }
                    memcpy(content + Int(piece.offset), memory.base, piece.length)
                }
            }
            inode.flags |= Inode.isInline
            inode.allocated = size
            try edit.finishWrite(&inode, size: size, pieces[...])
            return true
        }
    }

    /// The content of a file in the tree, when it goes to a segment.
    private func inlinePiece(_ number: UInt64) async throws(Failure) -> Piece? {
        let content = try await run { reader in
            self.read(reader) { (records) throws(Halt) -> [UInt8]? in
                guard let inode = try records.inode(number) else { throw .refused(.stale) }
                guard inode.has(Inode.isInline) else { return nil }
                let value = try records.get(records.scratch.key(inode.fork | KeyLayout.forkSpace, .inline))
                return value.map { Array($0.from(1).prefix(Int(inode.size))) }
            }
        }.value
        guard let content, !content.isEmpty else { return nil }
        let memory = PieceMemory(capacity: content.count)
        content.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: memory.base, count: $0.count).copyMemory(from: $0) }
        let range = try await append(UnsafeRawBufferPointer(start: memory.base, count: content.count))
        return Piece(offset: 0, length: content.count, memory: nil, range: range, time: .min, setsModified: false, writes: 0)
    }

    private struct Step {
        /// Pieces that are in the tree now.
        var pieces: Int
        /// Bytes of the one behind them that are, too.
        var rest: Int
    }

    private func flushStep(
        _ reader: Int, _ number: UInt64, _ pieces: ArraySlice<Piece>, _ skip: Int
    ) -> Attempt<Step> {
        change(reader) { (edit) throws(Halt) in
            guard var inode = try edit.inode(number) else { throw .refused(.stale) }
            var budget = Self.coverPerChange
            var releases = Releases()
            var step = Step(pieces: 0, rest: skip)
            var added: UInt64 = 0
            var size = inode.size
            if inode.has(Inode.isInline) {
                edit.delete(edit.scratch.key(inode.fork | KeyLayout.forkSpace, .inline))
                inode.flags &= ~Inode.isInline
                inode.allocated = 0
            }
            for piece in pieces.prefix(Self.piecesPerChange) {
                guard let range = piece.range else { preconditionFailure("a piece without a place in a segment") }
                if step.rest == 0 { try edit.reference(range) }
                let from = piece.offset + UInt64(step.rest)
                let covered = try edit.cover(inode.fork, from, piece.end, budget: &budget, &releases)
                if covered > from {
                    try edit.insert(
                        Extent(
                            start: from, end: covered, segment: range.segment,
                            offset: range.offset + UInt32(step.rest)), into: inode.fork)
                    added += covered - from
                    size = max(size, covered)
                }
                let debt = edit.scratch.key(0, .debt, number)
                if covered < piece.end {
                    // The rest of the range is live and in no extent: should the next step not come, a start gives
                    // it back.
                    step.rest = Int(covered - piece.offset)
                    edit.scratch.value.put(KeyLayout.version, at: 0)
                    edit.scratch.value.put(range.segment, at: 1)
                    edit.scratch.value.put(piece.end - covered, at: 9)
                    edit.put(debt, UnsafeRawBufferPointer(start: edit.scratch.value, count: 17))
                    break
                }
                if step.rest > 0 { edit.delete(debt) }
                step.rest = 0
                step.pieces += 1
            }
            try edit.release(releases)
            inode.flags |= Inode.hasExtents
            inode.allocated = inode.allocated + added - releases.bytes
            try edit.finishWrite(&inode, size: size, pieces.prefix(step.pieces))
            return step
        }
    }
}

extension Editing {
    /// Changes the content of a file that is in the tree; it gets `size` bytes.
    func withInline(_ inode: Inode, size: Int, _ body: (UnsafeMutableRawPointer) -> Void) throws(Halt) {
        let memory = scratch.value
        let content = memory + 1
        memset(content, 0, size)
        if inode.has(Inode.isInline),
            let old = try get(scratch.key(inode.fork | KeyLayout.forkSpace, .inline)), let source = old.baseAddress
        {
            memcpy(content, source + 1, min(old.count - 1, size, Int(clamping: inode.size)))
        }
        body(content)
        memory.put(KeyLayout.version, at: 0)
        put(
            scratch.key(inode.fork | KeyLayout.forkSpace, .inline),
            UnsafeRawBufferPointer(start: memory, count: 1 + size))
    }

    /// Stores the record of a file that was written to.
    func finishWrite(_ inode: inout Inode, size: UInt64, _ pieces: ArraySlice<Piece>) throws(Halt) {
        let grown = Int64(clamping: size) - Int64(clamping: inode.size)
        inode.size = size
        for piece in pieces where piece.writes > 0 {
            if piece.setsModified { inode.modified = piece.time }
            inode.changed = max(inode.changed, piece.time)
            inode.change += piece.writes
        }
        store(inode)
        try countBytes(inode, grown)
    }
}

import Glibc
import Headhunter
import Runtime

/// Bringing what was written into the tree.
extension LogFS {
    /// Pieces of one change, all in one segment, and the extents and segments that they may take bytes from: two operations for
    /// each piece and extent, two for each such segment, and a dozen for the rest stay within a change's bounds.
    private static let piecesPerChange = 11
    private static let extentsPerChange = 11
    private static let segmentsPerChange = 4
    /// After so many changes the loop's others have a turn.
    private static let changesPerTurn = 12

    /// What was written to the file before the call is in the tree when this returns. Answers the number to commit, also
    /// when another flush, which nobody may have committed yet, was first. On the volume's loop.
    @discardableResult
    public func flush(_ inode: UInt64) async throws(Failure) -> UInt64 {
        while !files.begin(inode, .flush) { await files.whenFree(inode) }
        var failure: Failure?
        do throws(Failure) {
            if files.hasTail(inode) { try await finishTail(inode) }
            try await flushPieces(inode)
        } catch { failure = error }
        var isDamaged = false
        if case .volume(.damaged) = failure { isDamaged = true }
        files.end(inode, isDamaged: isDamaged)
        if let failure {
            guard failure == .file(.stale) else { throw failure }
            files.drop(inode, headhunter)
        }
        return headhunter.log.last
    }

    /// A flush that nobody waits for. If it fails the pieces stay: the next one tries again, and tells whoever waits for it.
    func flushAhead(_ inode: UInt64) {
        headhunter.loop.task {
            _ = try? await self.flush(inode)
            self.files.endedAhead(inode)
        }
    }

    /// One file that can not be flushed keeps none of the others: the first failure is thrown when all have been tried.
    public func flushAll() async throws(Failure) {
        var failure: Failure?
        for inode in files.dirty() {
            do throws(Failure) { try await flush(inode) } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
    }

    /// Everything that the file was and had when this was called is as durable as `level` says.
    public func sync(_ id: FileID, _ level: LogLevel) async throws(Failure) {
        try await commit(try await flush(id.inode), level)
    }

    public func commit(_ number: UInt64, _ level: LogLevel) async throws(Failure) {
        do throws(VolumeError) { try await headhunter.commit(number, level) } catch { throw .volume(error) }
    }

    private func flushPieces(_ inode: UInt64) async throws(Failure) {
        let pieces = files.frozen(inode)
        guard !pieces.isEmpty else { return }
        if pieces.allSatisfy({ $0.memory != nil && $0.end <= UInt64(Limits.inlineBytesMax) }) {
            if try await run({ self.flushInline($0, inode) }).value { return }
        }
        try await moveInline(inode)
        for (index, piece) in pieces.enumerated() {
            guard let memory = piece.memory else { continue }
            let range = try await append(UnsafeRawBufferPointer(start: memory.base, count: piece.length))
            guard files.replace(inode, index, with: range) else {
                headhunter.discard(range)
                throw .file(.stale)
            }
        }
        var left = pieces.count
        var changes = 0
        while left > 0 {
            left -= try await run { self.flushStep($0, inode) }.value
            files.admit(inode)
            changes += 1
            if changes % Self.changesPerTurn == 0 { await Task.yield() }
        }
    }

    func append(_ bytes: UnsafeRawBufferPointer) async throws(Failure) -> SegmentRange {
        while true {
            if let range = headhunter.append(bytes, heat: .small) { return range }
            try await room()
        }
    }

    /// Small files live in the tree. False: this one does not.
    private func flushInline(_ reader: Int, _ number: UInt64) -> Attempt<Bool> {
        files.locked(number) { state -> Attempt<Bool> in
            guard let state else { return .refused(.stale) }
            let pieces = state.pieces[..<state.frozen]
            let attempt = change(reader) { (edit) throws(Halt) -> Bool in
                guard var inode = try edit.inode(number) else { throw .refused(.stale) }
                let size = pieces.reduce(inode.size) { max($0, $1.end) }
                guard !inode.has(Inode.hasExtents), size <= UInt64(Limits.inlineBytesMax) else { return false }
                try edit.withInline(inode, size: Int(size)) { content in
                    for piece in pieces {
                        guard let memory = piece.memory else { continue }
                        memcpy(content + Int(piece.offset), memory.base, piece.length)
                    }
                }
                inode.flags |= Inode.isInline
                inode.allocated = size
                try edit.finishWrite(&inode, size: size, pieces)
                return true
            }
            if case .done(true, _) = attempt { files.took(state, pieces.count, rest: 0) }
            return attempt
        }
    }

    /// Brings the content of a file out of the tree into a segment: the file is what it was. Whoever calls works on
    /// the file.
    func moveInline(_ number: UInt64) async throws(Failure) {
        let content = try await run { reader in
            self.read(reader) { (records) throws(Halt) -> [UInt8]? in
                guard let inode = try records.inode(number) else { throw .refused(.stale) }
                guard inode.has(Inode.isInline) else { return nil }
                return Array((try records.inline(inode.fork) ?? .empty).prefix(Int(clamping: inode.size)))
            }
        }.value
        guard let content else { return }
        var range: SegmentRange?
        if !content.isEmpty {
            let memory = PieceMemory(capacity: content.count)
            let bytes = UnsafeMutableRawBufferPointer(start: memory.base, count: content.count)
            bytes.copyBytes(from: content)
            range = try await append(UnsafeRawBufferPointer(bytes))
            extendLifetime(memory)
        }
        do throws(Failure) {
            let place = range
            try await run { reader in
                self.change(reader) { (edit) throws(Halt) in
                    guard var inode = try edit.inode(number) else { throw .refused(.stale) }
                    edit.delete(edit.scratch.key(inode.fork | KeyLayout.forkSpace, .inline))
                    inode.flags &= ~Inode.isInline
                    inode.allocated = 0
                    if let place {
                        var fork = ForkEdit(edit, inode.fork)
                        try edit.reference(place, live: UInt64(place.length))
                        try fork.insert(
                            Extent(start: 0, end: UInt64(place.length), segment: place.segment, offset: place.offset))
                        try fork.finish(&inode)
                    }
                    edit.store(inode)
                }
            }
        } catch {
            if let range { headhunter.discard(range) }
            throw error
        }
    }

    /// Some of the frozen pieces go into the tree. Answers how many are whole there.
    private func flushStep(_ reader: Int, _ number: UInt64) -> Attempt<Int> {
        files.locked(number) { state -> Attempt<Int> in
            guard let state else { return .refused(.stale) }
            let pieces = state.pieces[..<state.frozen].prefix(Self.piecesPerChange)
            let attempt = change(reader) { (edit) throws(Halt) -> (taken: Int, rest: Int) in
                guard var inode = try edit.inode(number) else { throw .refused(.stale) }
                var fork = ForkEdit(
                    edit, inode.fork, extents: Self.extentsPerChange, segments: Self.segmentsPerChange)
                var taken = 0
                var rest = 0
                var size = inode.size
                var named: [SegmentRange] = []
                var live: UInt64 = 0
                for piece in pieces {
                    guard let range = piece.range else { preconditionFailure("a piece without a place in a segment") }
                    if let first = named.first, first.segment != range.segment { break }
                    let from = piece.offset + UInt64(piece.flushed)
                    let to = try fork.cover(from, piece.end)
                    guard to > from else { break }
                    if piece.flushed == 0 {
                        named.append(range)
                        live += to - from
                    } else {
                        try edit.share(range.segment, to - from)
                    }
                    try fork.insert(
                        Extent(
                            start: from, end: to, segment: range.segment, offset: range.offset + UInt32(piece.flushed)))
                    size = max(size, to)
                    guard to == piece.end else {
                        rest = Int(to - piece.offset)
                        break
                    }
                    taken += 1
                }
                try edit.reference(named, live: live)
                try fork.finish(&inode)
                try edit.finishWrite(&inode, size: size, pieces.prefix(taken))
                return (taken, rest)
            }
            if case .done(let step, _) = attempt { files.took(state, step.taken, rest: step.rest) }
            if case .done(let step, let log) = attempt { return .done(step.taken, number: log) }
            return attempt.with(0)
        }
    }
}

extension Editing {
    /// Changes the content of a file that is in the tree; it gets `size` bytes.
    func withInline(_ inode: Inode, size: Int, _ body: (UnsafeMutableRawPointer) -> Void) throws(Halt) {
        let memory = scratch.value
        let content = memory + 1
        memset(content, 0, size)
        if inode.has(Inode.isInline), let old = try inline(inode.fork), let source = old.baseAddress {
            memcpy(content, source, min(old.count, size, Int(clamping: inode.size)))
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
        inode.seal = nil
        for piece in pieces {
            if piece.setsModified { inode.modified = piece.time }
            touch(&inode, piece.time, writes: piece.writes)
        }
        store(inode)
        try countBytes(inode, grown)
    }
}

extension Records {
    /// The content of a fork that is in the tree.
    func inline(_ fork: UInt64) throws(Halt) -> UnsafeRawBufferPointer? {
        let id = fork | KeyLayout.forkSpace
        guard let value = try get(scratch.key(id, .inline)) else { return nil }
        guard value.isRecord(atLeast: 1), value.count <= 1 + Limits.inlineBytesMax else { throw .wrong(id, .inline) }
        return value.from(1)
    }
}

extension UnsafeRawBufferPointer {
    static var empty: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
}

import Glibc
import Headhunter
import Runtime
import Synchronization

/// A run of bytes that was written and is not in the tree yet: in memory, or appended to a segment already.
struct Piece {
    var offset: UInt64
    var length: Int
    /// Nil: in the segment.
    var memory: PieceMemory?
    var range: SegmentRange?
    var time: Int64
    /// False: somebody has set the time of the last write since.
    var setsModified: Bool
    /// How many writes it is made of: the file's change counter rises by so many.
    var writes: UInt64

    var end: UInt64 { offset + UInt64(length) }
}

/// Memory of a piece. Bytes are added behind those that readers may have seen, never changed.
final class PieceMemory: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let capacity: Int

    init(capacity: Int) {
        self.capacity = capacity
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { base.deallocate() }
}

/// The files with data that is not in the tree, or that somebody works on in several steps.
///
/// Pieces are kept in the order of the writes; later ones lie over earlier ones. So each prefix of them is a state that
/// the file has been in, and a flush takes them from the front.
final class FileTable: @unchecked Sendable {
    /// Pieces of one file: above that it has to be flushed.
    static let piecesMax = 512
    /// A piece in memory that has grown to this size goes to a segment.
    static let pieceBytes = 256 << 10

    final class State {
        var pieces: [Piece] = []
        /// The first so many are being flushed: they stay what they are.
        var frozen = 0
        var isBusy = false
        var waiters: [UnsafeContinuation<Void, Never>] = []

        var isIdle: Bool { pieces.isEmpty && !isBusy && waiters.isEmpty }
    }

    private static let shardCount = 16
    private let shards: [Guarded<[UInt64: State]>] = (0..<shardCount).map { _ in Guarded([:]) }
    private let dirtyPieces = Atomic<Int>(0)
    private let dirtyBytes = Atomic<Int>(0)
    let bytesMax: Int

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    private func shard(_ inode: UInt64) -> Guarded<[UInt64: State]> { shards[Int(inode % UInt64(Self.shardCount))] }

    /// Whether any file has data that is not in the tree: a look at one number for all the others.
    @inline(__always) var hasDirty: Bool { dirtyPieces.load(ordering: .acquiring) > 0 }
    var bytes: Int { dirtyBytes.load(ordering: .relaxed) }

    private func counted(_ pieces: Int, _ bytes: Int) {
        dirtyPieces.wrappingAdd(pieces, ordering: .releasing)
        dirtyBytes.wrappingAdd(bytes, ordering: .relaxed)
    }

    // MARK: Reading

    func pieces(_ inode: UInt64) -> [Piece] {
        guard hasDirty else { return [] }
        return shard(inode).withLock { $0[inode]?.pieces ?? [] }
    }

    /// The file's attributes with what was written since.
    func overlay(_ inode: inout Inode) {
        shard(inode.number).withLock { states in
            guard let state = states[inode.number] else { return }
            for piece in state.pieces {
                inode.size = max(inode.size, piece.end)
                if piece.setsModified { inode.modified = piece.time }
                inode.changed = max(inode.changed, piece.time)
                inode.change += piece.writes
            }
        }
    }

    /// Files with data that is not in the tree.
    func dirty() -> [UInt64] {
        var found: [UInt64] = []
        for shard in shards {
            shard.withLock { states in
                for (inode, state) in states where !state.pieces.isEmpty { found.append(inode) }
            }
        }
        return found.sorted()
    }

    // MARK: Writing

    /// Writes of this size go to a segment at once; smaller ones are put together first.
    static let directBytes = 64 << 10

    /// Whether a write would be taken in.
    func hasRoom(_ inode: UInt64, _ count: Int) -> Bool {
        guard dirtyBytes.load(ordering: .relaxed) + count <= bytesMax else { return false }
        return shard(inode).withLock { states in states[inode].map { Self.takes($0) } ?? true }
    }

    /// Writes may go on behind what is being flushed, but not beside other work.
    private static func takes(_ state: State) -> Bool {
        (!state.isBusy || state.frozen > 0) && state.pieces.count < piecesMax
    }

    /// Takes in one write; `range` says where its bytes are if they went to a segment already. False: too much is
    /// dirty, or the file is being worked on.
    func add(
        _ inode: UInt64, _ offset: UInt64, _ bytes: UnsafeRawBufferPointer, _ range: SegmentRange?, _ time: Int64
    ) -> Bool {
        shard(inode).withLock { states in
            let state = states[inode] ?? State()
            guard Self.takes(state) else { return false }
            states[inode] = state
            if range == nil, Self.extend(state, offset, bytes, time) {
                counted(0, bytes.count)
                return true
            }
            var memory: PieceMemory?
            if range == nil {
                let block = PieceMemory(capacity: max(512, bytes.count))
                if let source = bytes.baseAddress { memcpy(block.base, source, bytes.count) }
                memory = block
            }
            state.pieces.append(
                Piece(
                    offset: offset, length: bytes.count, memory: memory, range: range, time: time, setsModified: true,
                    writes: 1))
            counted(1, bytes.count)
            return true
        }
    }

    /// Adds to the last piece what follows it.
    private static func extend(
        _ state: State, _ offset: UInt64, _ bytes: UnsafeRawBufferPointer, _ time: Int64
    ) -> Bool {
        let last = state.pieces.count - 1
        guard last >= state.frozen, state.pieces[last].setsModified, let block = state.pieces[last].memory, state.pieces[last].end == offset,
            state.pieces[last].length + bytes.count <= pieceBytes
        else { return false }
        let length = state.pieces[last].length
        var target = block
        if length + bytes.count > block.capacity {
            target = PieceMemory(capacity: min(pieceBytes, max(2 * block.capacity, length + bytes.count)))
            memcpy(target.base, block.base, length)
            state.pieces[last].memory = target
        }
        if let source = bytes.baseAddress { memcpy(target.base + length, source, bytes.count) }
        state.pieces[last].length += bytes.count
        state.pieces[last].time = max(time, state.pieces[last].time)
        state.pieces[last].writes += 1
        return true
    }

    // MARK: Working in steps

    /// Begins work on a file that nobody else may work on meanwhile. Answers what is to be flushed first. Nil: somebody
    /// is at it.
    func begin(_ inode: UInt64, flushing: Bool) -> [Piece]? {
        shard(inode).withLock { states in
            let state = states[inode] ?? State()
            guard !state.isBusy else { return nil }
            state.isBusy = true
            // Writes may go on behind what is being flushed, but not beside other work.
            state.frozen = flushing ? state.pieces.count : 0
            states[inode] = state
            return state.pieces
        }
    }

    /// The first piece is in the tree now, or its rest remains.
    func took(_ inode: UInt64, _ count: Int) {
        shard(inode).withLock { states in
            guard let state = states[inode] else { return }
            counted(-count, -state.pieces[..<count].reduce(0) { $0 + $1.length })
            state.pieces.removeFirst(count)
            state.frozen -= count
        }
    }

    /// A piece went from memory to a segment.
    func replace(_ inode: UInt64, _ index: Int, _ piece: Piece) {
        shard(inode).withLock { states in states[inode]?.pieces[index] = piece }
    }

    func end(_ inode: UInt64) {
        let waiters = shard(inode).withLock { states -> [UnsafeContinuation<Void, Never>] in
            guard let state = states[inode] else { return [] }
            state.isBusy = false
            state.frozen = 0
            let waiters = state.waiters
            state.waiters.removeAll()
            if state.isIdle { states[inode] = nil }
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns when whoever works on the file is done.
    func whenFree(_ inode: UInt64) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isFree = shard(inode).withLock { states -> Bool in
                guard let state = states[inode], state.isBusy else { return true }
                state.waiters.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }

    func isUntouched(_ inode: UInt64) -> Bool { shard(inode).withLock { $0[inode] == nil } }

    /// The file is gone.
    func drop(_ inode: UInt64, _ headhunter: Headhunter) {
        let dropped = shard(inode).withLock { states -> [Piece] in
            guard let state = states[inode], !state.isBusy else { return [] }
            let pieces = state.pieces
            state.pieces.removeAll()
            counted(-pieces.count, -pieces.reduce(0) { $0 + $1.length })
            states[inode] = nil
            return pieces
        }
        for piece in dropped { if let range = piece.range { headhunter.discard(range) } }
    }

    /// Times that were set are not overruled by writes that came before.
    func setModified(_ inode: Inode) {
        shard(inode.number).withLock { states in
            guard let state = states[inode.number] else { return }
            for index in state.pieces.indices { state.pieces[index].setsModified = false }
        }
    }
}

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
    /// So many of its bytes, from the front, are in the tree already.
    var flushed = 0
    var time: Int64
    /// False: somebody has set the time of the last write since.
    var setsModified = true
    /// How many writes it is made of: the file's change counter rises by so many.
    var writes: UInt64 = 1

    var end: UInt64 { offset + UInt64(length) }
    /// What counts against the bound of dirty data. Small pieces count for more than their bytes: they take more.
    var charge: Int { (memory?.capacity ?? length) + Self.overhead }
    static let overhead = 512
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
///
/// A file's attributes are its record in the tree with the pieces laid over it. Whoever needs both at one moment looks
/// at them behind the shard's lock, and a flush moves pieces into the tree behind it. The order of locks: shard, the
/// file system's writer, the engine's gate.
final class FileTable: @unchecked Sendable {
    /// Pieces of one file: above that it has to be flushed, and writers wait.
    static let piecesMax = 1_024
    /// So many are flushed while the next come, so that a steady writer does not wait.
    static let piecesAhead = 256
    /// A piece in memory that has grown to this size goes to a segment.
    static let pieceBytes = 256 << 10
    /// Writes of this size go to a segment at once; smaller ones are put together first.
    static let directBytes = 64 << 10
    /// So do those of this size that do not follow the one before: they would be pieces of their own in any case, and are copied once.
    static let apartBytes = 4 << 10

    /// What `hasRoom` says of a write.
    enum Room {
        case none
        /// It may be put together with others.
        case together
        /// A piece of its own.
        case apart
    }

    enum Added {
        case refused
        case taken
        /// Much has come together: a flush is to begin, and nobody waits for it.
        case takenAndMuch
    }

    /// What the pieces of a file do to its attributes, all together: each answer about the file wants it.
    struct Overlay {
        private var end: UInt64 = 0
        private var modified: Int64?
        private var changed = Int64.min
        private var writes: UInt64 = 0

        fileprivate init(_ pieces: [Piece]) {
            for piece in pieces { add(piece.end, piece.time, piece.setsModified, piece.writes) }
        }

        fileprivate mutating func add(_ end: UInt64, _ time: Int64, _ setsModified: Bool, _ writes: UInt64) {
            self.end = max(self.end, end)
            if setsModified { modified = time }
            changed = max(changed, time)
            self.writes += writes
        }

        /// Pieces from the front went into the tree. What they did but for the count is in the file's record now, and does it no
        /// harm a second time.
        fileprivate mutating func flushed(_ pieces: ArraySlice<Piece>) {
            for piece in pieces { writes -= piece.writes }
        }

        /// The file's attributes with what was written since. `floor`: the least change counter of this epoch.
        func lay(over inode: inout Inode, floor: UInt64) {
            guard writes > 0 else { return }
            inode.size = max(inode.size, end)
            if let modified { inode.modified = modified }
            inode.touch(changed, writes: writes, floor: floor)
            inode.seal = nil
            // How much it will take is known when it is in the tree. Nothing would say that the file is one hole, and who copies it
            // by that would not read it.
            inode.allocated = max(inode.allocated, min(inode.size, Self.allocatedMin))
        }

        static let allocatedMin: UInt64 = 512
    }

    final class State: @unchecked Sendable {
        var pieces: [Piece] = []
        /// Of all pieces; nil: to be found again.
        private var known: Overlay?
        var overlay: Overlay {
            if let known { return known }
            let overlay = Overlay(pieces)
            known = overlay
            return overlay
        }

        /// Pieces were taken away or changed.
        func forgetOverlay() { known = nil }

        /// The first pieces went into the tree.
        func takeFromOverlay(_ count: Int) {
            if count == pieces.count { known = nil } else { known?.flushed(pieces[..<count]) }
        }

        /// Bytes were written, as a piece or behind one.
        func addToOverlay(_ end: UInt64, _ time: Int64) { known?.add(end, time, true, 1) }

        /// The first so many are being flushed: they stay what they are.
        var frozen = 0
        var isBusy = false
        /// Whoever is busy lets writes go on behind the frozen pieces.
        var takesWrites = false
        var waiters: [UnsafeContinuation<Void, Never>] = []
        /// Writers that were turned away while a flush was under way: its first steps may make room for them.
        var roomWaiters: [UnsafeContinuation<Void, Never>] = []
        /// A flush that nobody waits for has been asked for.
        var isAskedAhead = false
        /// So many want the file without data that is not in the tree: no write goes in before them, or a steady writer would
        /// keep them waiting for ever.
        var claims = 0
        /// Writers that were turned away for that.
        var claimWaiters: [UnsafeContinuation<Void, Never>] = []
        /// Rises with each step in which pieces or ranges change place.
        var steps: UInt64 = 0
        /// The file was cut, and what lay behind its end is still there: it has to go before anything else is done.
        var hasTail = false
        /// The last flush met damage: what more would be taken in could not be kept.
        var isDamaged = false

        var isIdle: Bool { pieces.isEmpty && !isBusy && waiters.isEmpty && !hasTail && claims == 0 && !isAskedAhead }
        var mayTake: Bool { (!isBusy || takesWrites) && claims == 0 && pieces.count < piecesMax && !isDamaged }
    }

    private static let shardCount = 64
    private let shards: [Guarded<[UInt64: State]>] = (0..<shardCount).map { _ in Guarded([:]) }
    private let dirtyPieces = Atomic<Int>(0)
    private let dirtyBytes = Atomic<Int>(0)
    private let tails = Atomic<Int>(0)
    /// How often pieces went into the tree.
    private let flushes = Atomic<UInt64>(0)
    /// How often a file was locked or shelved: who looked whether one may be written to looks again.
    private let stops = Atomic<UInt64>(0)
    let bytesMax: Int

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    private func shard(_ inode: UInt64) -> Guarded<[UInt64: State]> { shards[Int(inode % UInt64(Self.shardCount))] }

    /// Whether any file has data that is not in the tree: a look at one number for all the others. Who saw `false`
    /// finds everything that was written before in the tree.
    @inline(__always) var hasDirty: Bool { dirtyPieces.load(ordering: .acquiring) > 0 }
    @inline(__always) var bytes: Int { dirtyBytes.load(ordering: .relaxed) }
    @inline(__always) var flushCount: UInt64 { flushes.load(ordering: .acquiring) }

    @inline(__always) var stopCount: UInt64 { stops.load(ordering: .acquiring) }
    /// Behind the shard's lock of the file that was.
    func stop() { stops.wrappingAdd(1, ordering: .releasing) }

    private func counted(_ pieces: Int, _ bytes: Int) {
        dirtyPieces.wrappingAdd(pieces, ordering: .releasing)
        dirtyBytes.wrappingAdd(bytes, ordering: .relaxed)
    }

    /// Looks at a file's state with nobody else at it.
    func locked<Value, Problem: Error>(_ inode: UInt64, _ body: (State?) throws(Problem) -> Value) throws(Problem)
        -> Value
    {
        try shard(inode).withLock { (states) throws(Problem) in try body(states[inode]) }
    }

    // MARK: Reading

    /// What was written and is not in the tree, the state it was taken from, and the step that was.
    func snapshot(_ inode: UInt64) -> (pieces: [Piece], state: State?, step: UInt64) {
        guard hasDirty else { return ([], nil, 0) }
        return shard(inode).withLock { states in
            guard let state = states[inode], !state.pieces.isEmpty else { return ([], nil, 0) }
            return (state.pieces, state, state.steps)
        }
    }

    /// Whether nothing has moved since the snapshot.
    func isStill(_ inode: UInt64, _ state: State?, _ step: UInt64) -> Bool {
        guard let state else { return true }
        return shard(inode).withLock { _ in state.steps == step }
    }

    func isDirty(_ inode: UInt64) -> Bool {
        guard hasDirty else { return false }
        return shard(inode).withLock { !($0[inode]?.pieces.isEmpty ?? true) }
    }

    /// Files with data that is not in the tree, or with a tail.
    func dirty() -> [UInt64] {
        guard hasDirty || tails.load(ordering: .relaxed) > 0 else { return [] }
        var found: [UInt64] = []
        for shard in shards {
            shard.withLock { states in
                for (inode, state) in states where !state.pieces.isEmpty || state.hasTail { found.append(inode) }
            }
        }
        return found.sorted()
    }

    // MARK: Writing

    /// Whether a write would be taken in, and how.
    func room(_ inode: UInt64, _ offset: UInt64, _ count: Int) -> Room {
        guard dirtyBytes.load(ordering: .relaxed) + count + Piece.overhead <= bytesMax else { return .none }
        return shard(inode).withLock { states in
            guard let state = states[inode] else { return count >= Self.directBytes ? .apart : .together }
            guard state.mayTake else { return .none }
            guard count < Self.directBytes else { return .apart }
            guard count >= Self.apartBytes, let last = state.pieces.last, last.end != offset else { return .together }
            return .apart
        }
    }

    /// Takes in one write; `range` says where its bytes are if they went to a segment already. Refused: too much is
    /// dirty, the file is being worked on, or one was locked since `stopCount` was `stops`.
    func add(
        _ inode: UInt64, _ offset: UInt64, _ bytes: UnsafeRawBufferPointer, _ range: SegmentRange?, _ time: Int64,
        since stops: UInt64
    ) -> Added {
        shard(inode).withLock { states in
            let state = states[inode] ?? State()
            guard state.mayTake, stops == stopCount else { return .refused }
            states[inode] = state
            if range == nil, let more = Self.extend(state, offset, bytes, time) {
                counted(0, more)
                return .taken
            }
            var memory: PieceMemory?
            if range == nil {
                let block = PieceMemory(capacity: max(512, bytes.count))
                if let source = bytes.baseAddress { memcpy(block.base, source, bytes.count) }
                memory = block
            }
            let piece = Piece(offset: offset, length: bytes.count, memory: memory, range: range, time: time)
            state.pieces.append(piece)
            state.addToOverlay(piece.end, time)
            counted(1, piece.charge)
            guard state.pieces.count >= Self.piecesAhead, !state.isBusy, !state.isAskedAhead else { return .taken }
            state.isAskedAhead = true
            return .takenAndMuch
        }
    }

    /// The flush that nobody waits for is over, or will not be.
    func endedAhead(_ inode: UInt64) {
        shard(inode).withLock { states in
            guard let state = states[inode] else { return }
            state.isAskedAhead = false
            if state.isIdle { states[inode] = nil }
        }
    }

    /// Returns when the file takes writes again, or nobody works on it any more. At once, with false, if it takes them, or nobody does:
    /// who was turned away then wants something else.
    func whenRoom(_ inode: UInt64) async -> Bool {
        let isShort = shard(inode).withLock { states -> Bool in
            guard let state = states[inode] else { return false }
            return state.isBusy && !state.mayTake
        }
        guard isShort else { return false }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let waits = shard(inode).withLock { states -> Bool in
                guard let state = states[inode], state.isBusy, !state.mayTake else { return false }
                state.roomWaiters.append(continuation)
                return true
            }
            if !waits { continuation.resume() }
        }
        return true
    }

    /// After a step of the flush: whoever waits for room tries again, if there is some.
    func admit(_ inode: UInt64) {
        let waiters = shard(inode).withLock { states -> [UnsafeContinuation<Void, Never>] in
            guard let state = states[inode], state.mayTake else { return [] }
            let waiters = state.roomWaiters
            state.roomWaiters.removeAll()
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Adds to the last piece what follows it; answers by how much its charge grew.
    private static func extend(
        _ state: State, _ offset: UInt64, _ bytes: UnsafeRawBufferPointer, _ time: Int64
    ) -> Int? {
        let last = state.pieces.count - 1
        guard last >= state.frozen, state.pieces[last].setsModified, let block = state.pieces[last].memory,
            state.pieces[last].end == offset, state.pieces[last].length + bytes.count <= pieceBytes
        else { return nil }
        let length = state.pieces[last].length
        let before = state.pieces[last].charge
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
        state.addToOverlay(state.pieces[last].end, state.pieces[last].time)
        return state.pieces[last].charge - before
    }

    // MARK: Working in steps

    enum Work {
        /// Takes what was written so far into the tree.
        case flush
        /// Anything that must not meet data that is not in the tree.
        case ranges
    }

    /// Begins work on a file that nobody else may work on meanwhile. False: somebody is at it, or there is data to
    /// be flushed first.
    func begin(_ inode: UInt64, _ work: Work) -> Bool {
        shard(inode).withLock { states in
            let state = states[inode] ?? State()
            guard !state.isBusy, work == .flush || state.pieces.isEmpty else { return false }
            state.isBusy = true
            state.takesWrites = work == .flush
            state.frozen = work == .flush ? state.pieces.count : 0
            states[inode] = state
            return true
        }
    }

    /// Somebody will `begin` with `.ranges`, and calls `unclaim` in the end: from now on writes wait.
    func claim(_ inode: UInt64) {
        shard(inode).withLock { states in
            let state = states[inode] ?? State()
            state.claims += 1
            states[inode] = state
        }
    }

    func unclaim(_ inode: UInt64) {
        let waiters = shard(inode).withLock { states -> [UnsafeContinuation<Void, Never>] in
            guard let state = states[inode] else { return [] }
            state.claims -= 1
            guard state.claims == 0 else { return [] }
            let waiters = state.claimWaiters
            state.claimWaiters.removeAll()
            if state.isIdle { states[inode] = nil }
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns at once, with false, if nobody claims the file, else when nobody does any more. Whoever was turned away for a claim
    /// has to wait here: if it tried again and again, it could keep the claimant from its turn on their loop.
    func whenUnclaimed(_ inode: UInt64) async -> Bool {
        guard shard(inode).withLock({ ($0[inode]?.claims ?? 0) > 0 }) else { return false }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isFree = shard(inode).withLock { states -> Bool in
                guard let state = states[inode], state.claims > 0 else { return true }
                state.claimWaiters.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
        return true
    }

    /// The pieces that the flush under way is to take.
    func frozen(_ inode: UInt64) -> [Piece] {
        shard(inode).withLock { states in states[inode].map { Array($0.pieces[..<$0.frozen]) } ?? [] }
    }

    /// The first pieces are in the tree now, and of the one behind them so many bytes. Behind the shard's lock.
    func took(_ state: State, _ count: Int, rest: Int) {
        let charge = state.pieces[..<count].reduce(0) { $0 + $1.charge }
        state.takeFromOverlay(count)
        state.pieces.removeFirst(count)
        state.frozen -= count
        state.steps += 1
        if rest > 0 { state.pieces[0].flushed = rest }
        flushes.wrappingAdd(1, ordering: .releasing)
        counted(-count, -charge)
    }

    /// A piece went from memory to a segment. False: it has been dropped meanwhile.
    func replace(_ inode: UInt64, _ index: Int, with range: SegmentRange) -> Bool {
        shard(inode).withLock { states in
            guard let state = states[inode], index < state.frozen else { return false }
            let before = state.pieces[index].charge
            state.pieces[index].range = range
            state.pieces[index].memory = nil
            counted(0, state.pieces[index].charge - before)
            return true
        }
    }

    func hasTail(_ inode: UInt64) -> Bool {
        guard tails.load(ordering: .relaxed) > 0 else { return false }
        return shard(inode).withLock { $0[inode]?.hasTail ?? false }
    }

    func setTail(_ inode: UInt64, _ hasTail: Bool) {
        shard(inode).withLock { states in
            let state = states[inode] ?? State()
            guard state.hasTail != hasTail else { return }
            state.hasTail = hasTail
            tails.wrappingAdd(hasTail ? 1 : -1, ordering: .relaxed)
            states[inode] = state.isIdle ? nil : state
        }
    }

    func end(_ inode: UInt64, isDamaged: Bool = false) {
        let waiters = shard(inode).withLock { states -> [UnsafeContinuation<Void, Never>] in
            guard let state = states[inode] else { return [] }
            state.isBusy = false
            state.takesWrites = false
            state.isDamaged = isDamaged
            state.frozen = 0
            state.steps += 1
            let waiters = state.waiters + state.roomWaiters
            state.waiters.removeAll()
            state.roomWaiters.removeAll()
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

    /// The file is gone. If somebody works on it, he will find out, and drop it himself.
    func drop(_ inode: UInt64, _ headhunter: Headhunter) {
        let dropped = shard(inode).withLock { states -> [Piece] in
            guard let state = states[inode], !state.isBusy else { return [] }
            let pieces = state.pieces
            state.pieces.removeAll()
            state.forgetOverlay()
            state.steps += 1
            counted(-pieces.count, -pieces.reduce(0) { $0 + $1.charge })
            if state.isIdle { states[inode] = nil }
            return pieces
        }
        for piece in dropped where piece.flushed == 0 {
            if let range = piece.range { headhunter.discard(range) }
        }
    }

    /// Times that were set are not overruled by writes that came before. Behind the shard's lock.
    static func keepModified(_ state: State) {
        for index in state.pieces.indices { state.pieces[index].setsModified = false }
        state.forgetOverlay()
    }
}

import CShim
import Glibc
import Synchronization

/// The frames that hold nodes in memory, for all trees of a volume: one budget, one eviction clock.
///
/// Invariants:
/// - Only the volume's writer changes the cache; readers look things up under their reader locks, which the writer
///   holds all of while he changes anything here. The clock's marks are the one exception: they are atomic.
/// - A frame is free, clean (its content is stored at `address`, it is in the index, it may be evicted), or dirty.
/// - A clean frame is one that its tree leads to: what was read from the store comes in only while a parent names it.
/// - A dirty frame of the current epoch is changed in place. One of an earlier epoch is frozen: a checkpoint is
///   writing it, so it is copied before it is changed, and from then on it is `superseded`: no tree leads to it,
///   and it goes when the checkpoint has been written.
package final class NodeCache {
    package enum State: UInt8 {
        case free, clean, dirty
    }

    package struct Frame {
        package var address: NodeAddress
        /// Of a dirty frame: when it was made or copied. A checkpoint stores it with this as its birth.
        package var epoch: UInt64
        package var state: State
        /// Of a frozen frame: the trees have gone on without it.
        package var superseded: Bool
        /// Of a frame that a checkpoint has stored while its parent still names it by frame: stays resident
        /// until the parent has been told.
        package var pinned: Bool
        /// The tree that the node is one of.
        package var tree: UInt32
        /// Next in the free list.
        package var nextFree: UInt32
    }

    /// Frames that one change may need at the worst, beyond what it finds: the writer keeps as many free.
    package static let framesPerChangeMax = 256

    package let capacity: Int
    package let hints: KeyHints
    private let memory: Expanse
    private let frames: UnsafeMutablePointer<Frame>
    /// The eviction clock's marks: lives left, given back on each use.
    private let marks: UnsafeMutablePointer<Atomic<UInt8>>
    @exclusivity(unchecked) private var freeHead: UInt32
    @exclusivity(unchecked) package private(set) var freeCount: Int
    @exclusivity(unchecked) package private(set) var dirtyCount = 0
    @exclusivity(unchecked) package private(set) var cleanCount = 0
    @exclusivity(unchecked) private var untouched: Int
    /// The same for the thread that puts memory behind frames.
    private let reach = Atomic(0)
    /// Frames below have memory behind them, or will have soon.
    @exclusivity(unchecked) private var backed = 0
    @exclusivity(unchecked) private var hintsAreBacked = false
    @exclusivity(unchecked) private var clockHand = 0
    @exclusivity(unchecked) private var index: AddressIndex
    /// The epoch that changes made now belong to; raised by each freeze.
    @exclusivity(unchecked) package private(set) var epoch: UInt64
    /// Stored nodes that no current tree leads to any more, since the last freeze.
    @exclusivity(unchecked) package var released: [NodeAddress] = []
    /// Two pages for the writer to rebuild nodes in.
    package let scratch: UnsafeMutableRawPointer
    package let scratchSecond: UnsafeMutableRawPointer

    /// `budget` in bytes bounds all nodes in memory: cached, dirty and frozen.
    package init(budget: Int, epoch: UInt64) {
        capacity = max((budget - budget / KeyHints.budgetPart) / Page.size, 2 * Self.framesPerChangeMax)
        hints = KeyHints(bytes: budget / KeyHints.budgetPart)
        precondition(capacity < Int(ChildReference.noFrame))
        memory = Expanse(bytes: capacity * Page.size)
        frames = .allocate(capacity: capacity)
        marks = .allocate(capacity: capacity)
        freeHead = ChildReference.noFrame
        freeCount = capacity
        untouched = 0
        index = AddressIndex(capacity: capacity)
        self.epoch = epoch
        scratch = .allocate(byteCount: Page.size, alignment: 4096)
        scratchSecond = .allocate(byteCount: Page.size, alignment: 4096)
    }

    deinit {
        memory.release()
        hints.release()
        frames.deallocate()
        marks.deinitialize(count: untouched)
        marks.deallocate()
        scratch.deallocate()
        scratchSecond.deallocate()
    }

    @inline(__always) package func page(_ frame: UInt32) -> Page { Page(memory.base + Int(frame) * Page.size) }

    @inline(__always) package func info(_ frame: UInt32) -> UnsafeMutablePointer<Frame> { frames + Int(frame) }

    // MARK: Finding

    /// The frame that holds the child, nil when it has to be loaded. Safe under a reader lock.
    @inline(__always) package func resolve(_ child: ChildReference) -> UInt32? {
        guard child.isStored else { return child.frame }
        if child.frame < UInt32(truncatingIfNeeded: untouched) {
            let frame = info(child.frame)
            if frame.pointee.address.object == child.address.object,
                frame.pointee.address.offset == child.address.offset, frame.pointee.state == .clean
            {
                touch(child.frame)
                return child.frame
            }
        }
        guard let found = index.find(child.address, frames: frames) else { return nil }
        touch(found)
        return found
    }

    /// Where the value of `key` was found the last time, if it is still there.
    @inline(__always) package func recall(_ key: UnsafeRawBufferPointer, _ hash: UInt64, tree: UInt32)
        -> UnsafeRawBufferPointer?
    {
        guard let hint = hints.find(hash), hint.frame < UInt32(truncatingIfNeeded: untouched) else { return nil }
        let page = page(hint.frame)
        page.expect(hint.slot, cell: hint.cell)
        guard isCurrent(hint.frame, tree: tree) else { return nil }
        guard page.has(key, at: hint.slot) else { return nil }
        touch(hint.frame)
        return UnsafeRawBufferPointer(page.value(hint.slot))
    }

    /// What `isCurrent` and `contains` look at is fetched, if there is such a frame at all.
    @inline(__always) func expect(_ frame: UInt32) {
        guard frame < UInt32(truncatingIfNeeded: untouched) else { return }
        shim_prefetch(info(frame))
        page(frame).expectFences()
    }

    /// The same for what `find` looks at. The memory may be another node's by now: then the wrong lines are fetched.
    @inline(__always) func expectSearch(_ frame: UInt32) {
        guard frame < UInt32(truncatingIfNeeded: untouched) else { return }
        page(frame).expectSearch()
    }

    /// Whether the frame holds a node of the tree as it is now: then the key that is found in it is in no other leaf.
    @inline(__always) func isCurrent(_ frame: UInt32, tree: UInt32) -> Bool {
        let info = info(frame)
        return info.pointee.state != .free && !info.pointee.superseded && info.pointee.tree == tree
    }

    @inline(__always) private func touch(_ frame: UInt32) {
        let mark = marks + Int(frame)
        if mark.pointee.load(ordering: .relaxed) == 0 { mark.pointee.store(1, ordering: .relaxed) }
    }

    /// Whether the frame, and with it every one above it, may be changed where it is: who made it writable in this epoch did
    /// the same for its parents.
    @inline(__always) package func isWritable(_ frame: UInt32) -> Bool {
        info(frame).pointee.state == .dirty && info(frame).pointee.epoch == epoch
    }

    // MARK: Room

    /// Makes at least `count` frames free by evicting clean ones. False when dirty and frozen nodes leave too
    /// little: the caller has to wait for a checkpoint.
    package func reserve(_ count: Int) -> Bool {
        if freeCount >= count { return true }
        guard count <= freeCount + cleanCount else { return false }
        // Two rounds take every mark away; a third one would find nothing new.
        var steps = 3 * untouched
        while freeCount < count, steps > 0 {
            steps -= 1
            let frame = UInt32(clockHand)
            clockHand += 1
            if clockHand >= untouched { clockHand = 0 }
            let info = info(frame)
            guard info.pointee.state == .clean, !info.pointee.pinned else { continue }
            let mark = marks + Int(frame)
            let lives = mark.pointee.load(ordering: .relaxed)
            if lives > 0 {
                mark.pointee.store(lives - 1, ordering: .relaxed)
                continue
            }
            evict(frame)
        }
        return freeCount >= count
    }

    private func evict(_ frame: UInt32) {
        index.remove(info(frame).pointee.address, frames: frames)
        cleanCount -= 1
        putBack(frame)
    }

    /// Nothing that is stored is remembered: the trees will be others.
    package func forgetClean() {
        for frame in 0..<UInt32(untouched) where info(frame).pointee.state == .clean { evict(frame) }
    }

    private func take() -> UInt32 {
        precondition(freeCount > 0, "frames are reserved before a change begins")
        freeCount -= 1
        if freeHead != ChildReference.noFrame {
            let frame = freeHead
            freeHead = info(frame).pointee.nextFree
            return frame
        }
        let frame = UInt32(untouched)
        (marks + untouched).initialize(to: Atomic(0))
        untouched += 1
        reach.store(untouched, ordering: .relaxed)
        return frame
    }

    private func putBack(_ frame: UInt32) {
        info(frame).pointee.state = .free
        info(frame).pointee.nextFree = freeHead
        freeHead = frame
        freeCount += 1
    }

    // MARK: Memory

    /// So many frames are to have memory behind them before they are used, as many as there are in a small volume: behind a freeze
    /// each node that is changed is copied.
    private static let backedAheadMax = (32 << 20) / Page.size
    /// A volume with fewer than these takes its memory as it goes.
    private static let backedFrom = (1 << 20) / Page.size
    private var backedAhead: Int { min(untouched, Self.backedAheadMax) }
    /// From so many on the table of guesses is filled from end to end.
    private static let hintsFrom = (16 << 20) / Page.size
    private static let framesOfLargePage = Expanse.largePage / Page.size

    @inline(__always) package var wantsBacking: Bool {
        untouched >= Self.backedFrom && backed < capacity && backed - untouched < backedAhead / 2
    }

    /// What is to have memory next: the caller has it made, where nobody waits for it.
    package func takeBacking() -> Backing {
        let isLarge = !hintsAreBacked && untouched >= Self.hintsFrom
        if isLarge { hintsAreBacked = true }
        let start = max(backed, untouched)
        let end = start + backedAhead
        // A large page that is backed in part stays small ones.
        let unit = backedAhead > Self.framesOfLargePage ? Self.framesOfLargePage : 1
        backed = min(capacity, (end + unit - 1) / unit * unit)
        return Backing(cache: self, frames: start..<backed, hints: isLarge)
    }

    /// Touches nothing of the cache but its memory, which lives as long as this does.
    package struct Backing: @unchecked Sendable {
        fileprivate let cache: NodeCache
        package let frames: Range<Int>
        /// The table of guesses as well.
        fileprivate let hints: Bool

        package func make() {
            if hints { cache.hints.back() }
            let bytes = (frames.lowerBound * Page.size)..<(frames.upperBound * Page.size)
            cache.memory.back(bytes) { cache.reach.load(ordering: .relaxed) * Page.size }
        }
    }

    // MARK: Changing

    /// A new dirty frame of the current epoch, its page not yet initialised.
    package func makeDirty(tree: UInt32) -> UInt32 {
        let frame = take()
        info(frame).initialize(
            to: Frame(
                address: NodeAddress(object: 0, offset: 0, length: 0, checksum: 0, birth: 0), epoch: epoch,
                state: .dirty, superseded: false, pinned: false, tree: tree, nextFree: ChildReference.noFrame))
        dirtyCount += 1
        return frame
    }

    /// The frame in which the node may be changed: itself, or a copy of a frozen one. The caller tells the parent.
    package func writable(_ frame: UInt32) -> UInt32 {
        let info = info(frame)
        switch info.pointee.state {
        case .free:
            preconditionFailure("a tree led to a free frame")
        case .clean:
            released.append(info.pointee.address)
            if info.pointee.pinned {
                // Its parents may still name it by frame: those of the epoch being installed find a node that
                // has moved on, and leave their reference alone because it no longer leads anywhere but here.
                info.pointee.pinned = false
            }
            index.remove(info.pointee.address, frames: frames)
            info.pointee.address.object = 0
            info.pointee.state = .dirty
            info.pointee.epoch = epoch
            cleanCount -= 1
            dirtyCount += 1
            return frame
        case .dirty:
            if info.pointee.epoch == epoch { return frame }
            let copy = makeDirty(tree: info.pointee.tree)
            memcpy(page(copy).base, page(frame).base, Page.size)
            info.pointee.superseded = true
            return copy
        }
    }

    /// The trees lead to this node no more.
    package func release(_ frame: UInt32) {
        let info = info(frame)
        switch info.pointee.state {
        case .free:
            preconditionFailure("released twice")
        case .clean:
            released.append(info.pointee.address)
            evict(frame)
        case .dirty:
            if info.pointee.epoch == epoch {
                dirtyCount -= 1
                putBack(frame)
            } else {
                info.pointee.superseded = true
            }
        }
    }

    /// Takes in a node that was read from the store. The caller has reserved a frame and decodes into its page.
    package func insertClean(_ address: NodeAddress, tree: UInt32) -> UInt32 {
        precondition(index.find(address, frames: frames) == nil, "loaded twice")
        let frame = take()
        info(frame).initialize(
            to: Frame(
                address: address, epoch: 0, state: .clean, superseded: false, pinned: false, tree: tree,
                nextFree: ChildReference.noFrame))
        cleanCount += 1
        index.insert(frame, frames: frames)
        touch(frame)
        return frame
    }

    package func find(_ address: NodeAddress) -> UInt32? { index.find(address, frames: frames) }

    // MARK: Checkpoints

    /// All dirty nodes become frozen. Answers the epoch that they belong to at the latest.
    package func freeze() -> UInt64 {
        let frozen = epoch
        epoch += 1
        return frozen
    }

    /// A frozen node has been stored, and the checkpoint's header names it.
    package func stored(_ frame: UInt32, at address: NodeAddress) {
        let info = info(frame)
        precondition(info.pointee.state == .dirty && info.pointee.epoch < epoch)
        dirtyCount -= 1
        if info.pointee.superseded {
            released.append(address)
            putBack(frame)
            return
        }
        info.pointee.address = address
        info.pointee.state = .clean
        info.pointee.pinned = true
        cleanCount += 1
        index.insert(frame, frames: frames)
        touch(frame)
    }

    /// Every parent that named the frame directly has been told its address.
    package func unpin(_ frame: UInt32) { info(frame).pointee.pinned = false }
}

/// Finds frames by the address of what they hold: open addressing, linear probing, no holes left behind.
package struct AddressIndex {
    private var table: [UInt32]
    private let mask: Int

    package init(capacity: Int) {
        var size = 16
        while size < 2 * capacity { size *= 2 }
        table = Array(repeating: ChildReference.noFrame, count: size)
        mask = size - 1
    }

    @inline(__always) private func home(_ address: NodeAddress) -> Int {
        var hash = address.object &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(address.offset) &* 0xC2B2_AE3D_27D4_EB4F
        hash ^= hash >> 29
        return Int(truncatingIfNeeded: hash &* 0xBF58_476D_1CE4_E5B9 >> 20) & mask
    }

    @inline(__always)
    package func find(_ address: NodeAddress, frames: UnsafeMutablePointer<NodeCache.Frame>) -> UInt32? {
        var place = home(address)
        while true {
            let frame = table[place]
            if frame == ChildReference.noFrame { return nil }
            let other = frames[Int(frame)].address
            if other.object == address.object && other.offset == address.offset { return frame }
            place = (place + 1) & mask
        }
    }

    package mutating func insert(_ frame: UInt32, frames: UnsafeMutablePointer<NodeCache.Frame>) {
        var place = home(frames[Int(frame)].address)
        while table[place] != ChildReference.noFrame { place = (place + 1) & mask }
        table[place] = frame
    }

    package mutating func remove(_ address: NodeAddress, frames: UnsafeMutablePointer<NodeCache.Frame>) {
        var place = home(address)
        while true {
            let frame = table[place]
            precondition(frame != ChildReference.noFrame, "a clean frame is always in the index")
            let other = frames[Int(frame)].address
            if other.object == address.object && other.offset == address.offset { break }
            place = (place + 1) & mask
        }
        // Move later entries of the run forward, so that no search stops early.
        var hole = place
        var next = (hole + 1) & mask
        while table[next] != ChildReference.noFrame {
            let wanted = home(frames[Int(table[next])].address)
            if (next &- wanted) & mask >= (next &- hole) & mask {
                table[hole] = table[next]
                hole = next
            }
            next = (next + 1) & mask
        }
        table[hole] = ChildReference.noFrame
    }
}

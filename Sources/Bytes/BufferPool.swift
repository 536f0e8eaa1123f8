import CShim

/// Memory for messages, used again and again. Belongs to one thread: the first that leases from it.
///
/// Buffers come in powers of two from 4 KiB to 8 MiB, aligned to the page. A lease gives its buffer back when it
/// ends; the type system lets it end exactly once. What is out and what is kept for later are both bounded.
public final class BufferPool {
    public static let smallestBytes = 4096
    public static let largestBytes = 8 << 20
    private static let classCount = 12

    /// Out at one time at most; `lease` answers nil beyond.
    public let leasedBytesMax: Int
    /// Kept for later at most; what comes back beyond goes to the system.
    public let freeBytesMax: Int

    // Behind a pointer, because the properties of a class are guarded against overlapping access at run time, and
    // that costs more than all the rest of a lease.
    private let state: UnsafeMutablePointer<State>

    private struct State {
        var leased = 0
        var leasedBytes = 0
        var freeBytes = 0
        var misses: UInt64 = 0
        var owner: UInt = 0
        // Lists of free buffers, by class; a free buffer's first word names the next.
        var free = InlineArray<12, UnsafeMutableRawPointer?>(repeating: nil)
    }

    /// Leases that have not ended. Not zero in a process at rest: somebody holds on to a buffer.
    public var leased: Int { state.pointee.leased }
    public var leasedBytes: Int { state.pointee.leasedBytes }
    public var freeBytes: Int { state.pointee.freeBytes }
    /// How often memory came from the system because nothing was kept.
    public var misses: UInt64 { state.pointee.misses }

    public init(leasedBytesMax: Int, freeBytesMax: Int) {
        precondition(leasedBytesMax >= 0 && freeBytesMax >= 0)
        self.leasedBytesMax = leasedBytesMax
        self.freeBytesMax = freeBytesMax
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    deinit {
        trim()
        state.deallocate()
    }

    /// A buffer of at least `count` bytes with undefined content. Nil when `count` is beyond the largest class or
    /// too much is out: the caller stops reading from its peer until something comes back.
    public func lease(_ count: Int) -> BufferLease? {
        checkOwner()
        guard count >= 0, count <= Self.largestBytes else { return nil }
        let index = Self.classIndex(count)
        let size = Self.smallestBytes << index
        guard size <= leasedBytesMax - state.pointee.leasedBytes else { return nil }
        state.pointee.leased += 1
        state.pointee.leasedBytes += size
        if let kept = state.pointee.free[index] {
            state.pointee.free[index] = kept.load(as: UnsafeMutableRawPointer?.self)
            state.pointee.freeBytes -= size
            return BufferLease(pool: self, base: kept, capacity: size)
        }
        state.pointee.misses += 1
        let base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: Self.smallestBytes)
        return BufferLease(pool: self, base: base, capacity: size)
    }

    fileprivate func takeBack(_ base: UnsafeMutableRawPointer, _ size: Int) {
        checkOwner()
        state.pointee.leased -= 1
        state.pointee.leasedBytes -= size
        guard size <= freeBytesMax - state.pointee.freeBytes else { return base.deallocate() }
        let index = Self.classIndex(size)
        base.storeBytes(of: state.pointee.free[index], as: UnsafeMutableRawPointer?.self)
        state.pointee.free[index] = base
        state.pointee.freeBytes += size
    }

    /// Gives everything that is kept back to the system.
    public func trim() {
        for index in 0..<Self.classCount {
            while let kept = state.pointee.free[index] {
                state.pointee.free[index] = kept.load(as: UnsafeMutableRawPointer?.self)
                kept.deallocate()
            }
        }
        state.pointee.freeBytes = 0
    }

    /// Lets another thread own the pool from its next use on: for a loop's end, when its thread has been joined.
    public func disown() { state.pointee.owner = 0 }

    private func checkOwner() {
        let thread = UInt(shim_thread())
        if state.pointee.owner == thread { return }
        precondition(state.pointee.owner == 0, "a buffer pool belongs to one thread")
        state.pointee.owner = thread
    }

    private static func classIndex(_ count: Int) -> Int {
        // The position of the highest bit of (count - 1), above that of the smallest class.
        max(0, Int.bitWidth - (max(count, 1) - 1).leadingZeroBitCount - 12)
    }
}

/// The use of one buffer of a pool, until the lease ends.
public struct BufferLease: ~Copyable {
    private let pool: BufferPool
    private let base: UnsafeMutableRawPointer
    public let capacity: Int

    fileprivate init(pool: BufferPool, base: UnsafeMutableRawPointer, capacity: Int) {
        self.pool = pool
        self.base = base
        self.capacity = capacity
    }

    deinit { pool.takeBack(base, capacity) }

    /// Valid while the lease lives.
    public var memory: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: capacity) }
}

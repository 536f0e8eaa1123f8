/// The leaves that the writer was at last: its next look-ups and changes are often in one of them, and then need no
/// walk from the root.
///
/// Invariant: a leaf in here is the tree's leaf for all keys between its fences for as long as `shape` of the cache is what
/// it was. Whatever splits, merges, copies or evicts a node changes that number.
final class Fingers {
    private static let count = 8
    /// Bytes at the front of keys that tell little.
    private let skip: Int
    private let frames = UnsafeMutablePointer<UInt32>.allocate(capacity: count)
    /// The first bytes of the fences as numbers: most leaves are ruled out by these, without a look at their pages.
    private let lows = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
    private let highs = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
    @exclusivity(unchecked) private var used = 0
    @exclusivity(unchecked) private var next = 0
    @exclusivity(unchecked) private var shape: UInt64 = 0

    init(skip: Int) { self.skip = skip }

    deinit {
        frames.deallocate()
        lows.deallocate()
        highs.deallocate()
    }

    @inline(__always) private func telling(_ key: UnsafeRawBufferPointer) -> UInt64 {
        Page.eight(key.baseAddress.map { $0 + skip }, key.count - skip)
    }

    @inline(__always) func find(_ key: UnsafeRawBufferPointer, _ cache: NodeCache) -> UInt32? {
        guard shape == cache.shape, used > 0 else { return nil }
        let wanted = telling(key)
        for index in 0..<used where lows[index] <= wanted && wanted <= highs[index] {
            if cache.page(frames[index]).contains(key) { return frames[index] }
        }
        return nil
    }

    /// The leaf that a walk has just ended at.
    @inline(__always) func remember(_ frame: UInt32, _ cache: NodeCache) {
        if shape != cache.shape {
            shape = cache.shape
            used = 0
            next = 0
        }
        for index in 0..<used where frames[index] == frame { return }
        let page = cache.page(frame)
        frames[next] = frame
        lows[next] = telling(page.low)
        highs[next] = page.high.map { telling($0) } ?? .max
        if next == used { used += 1 }
        next = next + 1 == Self.count ? 0 : next + 1
    }
}

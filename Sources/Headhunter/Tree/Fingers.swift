/// The leaves where the writer was at last, one for each neighbourhood of keys: its next look-ups and changes there need no walk
/// from the root.
///
/// Keys begin with a number and a kind. What has more behind that (a directory's names, a file's extents) forms a neighbourhood
/// of its own; records that are a number's alone share one with the numbers beside it.
///
/// A finger is a guess. Invariant that makes it good to look at: a frame that is neither free nor superseded holds a node of the
/// tree as it is now, so a leaf whose fences hold the key is the key's leaf.
final class Fingers {
    private static let bits: UInt64 = 14
    private let tree: UInt32
    /// Bytes in front of the number that tell little.
    private let skip: Int
    private let frames = UnsafeMutablePointer<UInt32>.allocate(capacity: 1 << bits)

    init(tree: UInt32, skip: Int) {
        self.tree = tree
        self.skip = skip
        frames.initialize(repeating: ChildReference.noFrame, count: 1 << Self.bits)
    }

    deinit { frames.deallocate() }

    @inline(__always) private func place(_ key: UnsafeRawBufferPointer) -> UnsafeMutablePointer<UInt32> {
        let length = key.count - skip
        guard let bytes = key.baseAddress, length > 0 else { return frames }
        var number = Page.eight(bytes + skip, length)
        if length > 9 {
            number ^= UInt64((bytes + skip).load(fromByteOffset: 8, as: UInt8.self)) << 48
        } else {
            number >>= 6
        }
        return frames + Int((number &* 0x9E37_79B9_7F4A_7C15) >> (64 - Self.bits))
    }

    @inline(__always) func find(_ key: UnsafeRawBufferPointer, _ cache: NodeCache) -> UInt32? {
        let frame = place(key).pointee
        guard frame != ChildReference.noFrame, cache.isCurrent(frame, tree: tree) else { return nil }
        let page = cache.page(frame)
        return page.isLeaf && page.contains(key) ? frame : nil
    }

    /// The leaf that `find` will look at first.
    @inline(__always) func guess(_ key: UnsafeRawBufferPointer) -> UInt32 { place(key).pointee }

    /// A walk for `key` has just ended at this leaf.
    @inline(__always) func remember(_ key: UnsafeRawBufferPointer, _ frame: UInt32) { place(key).pointee = frame }
}

import Bytes
import Glibc

/// What the log holds above the trees after a start: a sorted map of keys to their newest value or their deletion.
///
/// Opening a volume fills it from the log without touching the trees; reads look here first; it drains into the trees
/// while the volume is in use. It only shrinks: a change goes to the trees and takes its keys out of here.
final class Overlay {
    private let cache: NodeCache
    private let tree: Tree
    private(set) var count = 0
    /// Nothing is left below it: what drains begins there, and not at leaves that it has emptied.
    private var drained: [UInt8] = []
    private let key: UnsafeMutableRawPointer
    private let value: UnsafeMutableRawPointer

    /// `budget` is an upper bound of the memory; it is taken only as it fills.
    init(budget: Int) {
        cache = NodeCache(budget: budget, epoch: 1)
        tree = Tree(id: 0, cache: cache, fingerSkip: 4)
        key = .allocate(byteCount: Page.keyBytesMax, alignment: 16)
        value = .allocate(byteCount: Page.cellBytesMax + 16, alignment: 16)
    }

    deinit {
        key.deallocate()
        value.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    /// The tree's number goes before the key, so that each tree is a run of its own.
    private func compose(_ id: UInt32, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        key.storeBytes(of: id.bigEndian, as: UInt32.self)
        if let source = bytes.baseAddress { memcpy(key + 4, source, bytes.count) }
        return UnsafeRawBufferPointer(start: key, count: bytes.count + 4)
    }

    enum Lookup {
        case nothing
        case deleted
        case found(UnsafeRawBufferPointer)
    }

    /// Safe for several readers: it uses no memory of this object's own.
    func get(_ id: UInt32, _ bytes: UnsafeRawBufferPointer) -> Lookup {
        withUnsafeTemporaryAllocation(byteCount: Page.keyBytesMax, alignment: 8) { memory -> Lookup in
            guard let base = memory.baseAddress else { return .nothing }
            base.storeBytes(of: id.bigEndian, as: UInt32.self)
            if let source = bytes.baseAddress { memcpy(base + 4, source, bytes.count) }
            switch tree.get(UnsafeRawBufferPointer(start: base, count: bytes.count + 4)) {
            case .absent, .missing, .astray: return .nothing
            case .found(let value):
                guard let first = value.baseAddress, first.load(as: UInt8.self) == 0 else { return .deleted }
                return .found(UnsafeRawBufferPointer(start: first + 1, count: value.count - 1))
            }
        }
    }

    /// False when the memory is used up.
    func set(_ id: UInt32, _ bytes: UnsafeRawBufferPointer, _ new: UnsafeRawBufferPointer?) -> Bool {
        guard cache.freeCount > 2 * Tree.depthMax else { return false }
        let composed = compose(id, bytes)
        value.storeBytes(of: new == nil ? 1 : 0, as: UInt8.self)
        if let new, let source = new.baseAddress { memcpy(value + 1, source, new.count) }
        if tree.put(composed, UnsafeRawBufferPointer(start: value, count: 1 + (new?.count ?? 0))) { count += 1 }
        return true
    }

    /// The trees have something newer.
    func remove(_ id: UInt32, _ bytes: UnsafeRawBufferPointer) {
        if tree.delete(compose(id, bytes)) { count -= 1 }
    }

    /// Entries of one tree from `start` on, deletions (nil) included, until `visit` answers false.
    func scan(
        _ id: UInt32, from start: UnsafeRawBufferPointer, budget: Int,
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Bool
    ) {
        var from = withUnsafeBytes(of: id.bigEndian) { Array($0) }
        from.append(contentsOf: start)
        var resume: [UInt8] = []
        _ = from.withUnsafeBytes { from in
            tree.scan(from: from, budget: budget, resume: &resume) { key, value in
                guard let base = key.baseAddress, let first = value.baseAddress,
                    UInt32(bigEndian: base.loadUnaligned(as: UInt32.self)) == id
                else { return false }
                let bare = UnsafeRawBufferPointer(start: base + 4, count: key.count - 4)
                let put = first.load(as: UInt8.self) == 0
                return visit(bare, put ? UnsafeRawBufferPointer(start: first + 1, count: value.count - 1) : nil)
            }
        }
    }

    /// The lowest entries of all trees, until `visit` answers false.
    func first(_ visit: (_ id: UInt32, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Bool) {
        var resume: [UInt8] = []
        var isLowest = true
        let from = drained
        _ = from.withUnsafeBytes {
            tree.scan(from: $0, budget: .max, resume: &resume) { key, value in
                guard let base = key.baseAddress, let first = value.baseAddress else { return false }
                if isLowest {
                    isLowest = false
                    drained.removeAll(keepingCapacity: true)
                    drained.append(contentsOf: key)
                }
                let id = UInt32(bigEndian: base.loadUnaligned(as: UInt32.self))
                let bare = UnsafeRawBufferPointer(start: base + 4, count: key.count - 4)
                let put = first.load(as: UInt8.self) == 0
                return visit(id, bare, put ? UnsafeRawBufferPointer(start: first + 1, count: value.count - 1) : nil)
            }
        }
    }
}

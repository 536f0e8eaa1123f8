import Glibc

/// A copy-on-write B+tree of byte-string keys, its nodes in a shared `NodeCache`.
///
/// No call waits and none does I/O: what meets a node that is not in memory says so and has changed nothing.
/// Readers hold a reader lock around a call and whatever it answered; the writer holds them all.
package final class Tree {
    /// A tree of fan-out 4, the worst that large cells can make, with this many levels holds more than 10^7 leaves
    /// of large cells; real ones are at 3 to 5.
    package static let depthMax = 16

    package let id: UInt32
    @exclusivity(unchecked) package internal(set) var root: ChildReference
    package let cache: NodeCache
    private let path = Path()
    private let fingers: Fingers

    /// The frames from the root to a leaf, with the index of the child taken in each.
    private final class Path {
        package let frames = UnsafeMutablePointer<UInt32>.allocate(capacity: Tree.depthMax)
        package let indexes = UnsafeMutablePointer<Int>.allocate(capacity: Tree.depthMax)
        package var depth = 0

        deinit {
            frames.deallocate()
            indexes.deallocate()
        }
    }

    /// A new, empty tree. The cache has room for one frame.
    package init(id: UInt32, cache: NodeCache, fingerSkip: Int = 0) {
        self.id = id
        fingers = Fingers(tree: id, skip: fingerSkip)
        self.cache = cache
        let frame = cache.makeDirty(tree: id)
        cache.page(frame).initialize(level: 0, low: UnsafeRawBufferPointer(start: nil, count: 0), high: nil)
        root = .memory(frame)
    }

    /// A tree that a checkpoint has stored.
    package init(id: UInt32, cache: NodeCache, root: NodeAddress) {
        self.id = id
        fingers = Fingers(tree: id, skip: 0)
        self.cache = cache
        self.root = .stored(root)
    }

    // MARK: Reading

    package enum Lookup {
        case found(UnsafeRawBufferPointer)
        case absent
        case missing(NodeAddress)
        /// Here the tree does not lead down: no server has made it.
        case astray(NodeAddress)
    }

    /// The value is valid as long as the caller's reader lock.
    package func get(_ key: UnsafeRawBufferPointer) -> Lookup {
        let hash = KeyHints.hash(id, key)
        if let value = cache.recall(key, hash, tree: id) { return .found(value) }
        var reference = root
        var above = Self.depthMax
        while true {
            guard let frame = cache.resolve(reference) else { return .missing(reference.address) }
            let page = cache.page(frame)
            guard page.level < above else { return .astray(reference.address) }
            above = page.level
            if page.isLeaf {
                let (index, found) = page.find(key)
                guard found else { return .absent }
                cache.hints.set(hash, frame: frame, slot: index, cell: page.cellOffset(index))
                return .found(UnsafeRawBufferPointer(page.value(index)))
            }
            reference = page.child(page.childIndex(key))
        }
    }

    /// The same for the writer, who holds all reader locks: its look-ups stay near each other and near its changes.
    package func getAlone(_ key: UnsafeRawBufferPointer) -> Lookup {
        if let frame = fingers.find(key, cache) {
            let page = cache.page(frame)
            let (index, found) = page.find(key)
            return found ? .found(UnsafeRawBufferPointer(page.value(index))) : .absent
        }
        var reference = root
        var above = Self.depthMax
        while true {
            guard let frame = cache.resolve(reference) else { return .missing(reference.address) }
            let page = cache.page(frame)
            guard page.level < above else { return .astray(reference.address) }
            above = page.level
            if page.isLeaf {
                fingers.remember(key, frame)
                let (index, found) = page.find(key)
                return found ? .found(UnsafeRawBufferPointer(page.value(index))) : .absent
            }
            reference = page.child(page.childIndex(key))
        }
    }

    /// The writer will come to `key` soon. Its next look-ups and changes wait for one miss after the other, in one leaf after the
    /// other; what is asked for ahead comes side by side. First this for all keys, then `expectSearch` for all of them.
    @inline(__always) func expect(_ key: UnsafeRawBufferPointer) { cache.expect(fingers.guess(key)) }
    @inline(__always) func expectSearch(_ key: UnsafeRawBufferPointer) { cache.expectSearch(fingers.guess(key)) }

    package enum ScanEnd: Equatable {
        /// The visitor has had enough, or the tree has ended.
        case done
        /// `budget` entries were visited; go on from the key that was left in `resume`.
        case more
        /// Go on from the key left in `resume` when this node is there.
        case missing(NodeAddress)
        /// See `Lookup`.
        case astray(NodeAddress)
    }

    /// Visits entries from `start` on, in byte order, until `visit` answers false, `budget` entries were seen, or
    /// a node is missing. `resume` gets the key to go on from.
    package func scan(
        from start: UnsafeRawBufferPointer, budget: Int, resume: inout [UInt8],
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    ) -> ScanEnd {
        resume.removeAll(keepingCapacity: true)
        resume.append(contentsOf: start)
        var left = budget
        return withUnsafeTemporaryAllocation(byteCount: Page.keyBytesMax, alignment: 8) { scratch -> ScanEnd in
            guard let keyBase = scratch.baseAddress else { return .done }
            while true {
                var reference = root
                var page: Page
                var above = Self.depthMax
                repeat {
                    guard let frame = cache.resolve(reference) else { return .missing(reference.address) }
                    page = cache.page(frame)
                    guard page.level < above else { return .astray(reference.address) }
                    above = page.level
                    if page.isLeaf { break }
                    reference = resume.withUnsafeBytes { page.child(page.childIndex($0)) }
                } while true
                var index = resume.withUnsafeBytes { page.find($0).index }
                while index < page.count {
                    let length = page.copyKey(index, to: keyBase)
                    let key = UnsafeRawBufferPointer(start: keyBase, count: length)
                    if left == 0 {
                        resume.removeAll(keepingCapacity: true)
                        resume.append(contentsOf: key)
                        return .more
                    }
                    left -= 1
                    if !visit(key, UnsafeRawBufferPointer(page.value(index))) { return .done }
                    index += 1
                }
                guard let high = page.high else { return .done }
                guard resume.withUnsafeBytes({ compareBytes($0, high) < 0 }) else { return .astray(reference.address) }
                resume.removeAll(keepingCapacity: true)
                resume.append(contentsOf: high)
            }
        }
    }

    // MARK: Preparing

    /// Finds what a change of `key` needs that is not in memory, siblings for a merge included. Answers a node that is not what its
    /// parent says: then nothing may be changed there.
    package func prepare(
        _ key: UnsafeRawBufferPointer, isDelete: Bool, missing: inout [NodeAddress]
    ) -> NodeAddress? {
        if let frame = fingers.find(key, cache), cache.isWritable(frame) {
            let page = cache.page(frame)
            // The whole way is here, and no neighbour will be asked for.
            if !isDelete || page.usedBytes >= Self.mergeNever { return nil }
            if page.usedBytes - deleteCost(page, key) >= Self.mergeBelow { return nil }
        }
        var reference = root
        var parent: Page?
        var indexInParent = 0
        while true {
            guard let frame = cache.resolve(reference) else {
                missing.append(reference.address)
                return nil
            }
            let page = cache.page(frame)
            // A root that is as high as that could not grow any more.
            guard parent.map({ page.fits(in: $0, at: indexInParent) }) ?? (page.level < Self.depthMax - 1) else {
                return reference.address
            }
            if isDelete, let parent, page.usedBytes < Self.mergeNever,
                page.usedBytes - deleteCost(page, key) < Self.mergeBelow
            {
                // The smaller neighbour is not known before it is here: the right one, else the left one.
                let neighbour = indexInParent + 1 < parent.count ? indexInParent + 1 : indexInParent - 1
                if neighbour >= 0 {
                    let other = parent.child(neighbour)
                    if cache.resolve(other) == nil { missing.append(other.address) }
                }
            }
            if page.isLeaf {
                fingers.remember(key, frame)
                return nil
            }
            parent = page
            indexInParent = page.childIndex(key)
            reference = page.child(indexInParent)
        }
    }

    /// A node with less in it looks for a neighbour to merge with.
    package static let mergeBelow = Page.size / 4
    /// One with so much in it does not get there by losing one entry, whichever it is.
    private static let mergeNever = mergeBelow + Page.cellBytesMax + Page.slotSize + 2
    /// Two nodes merge when what they hold together is not above this, so that a merge is not followed by a split.
    package static let mergedMax = Page.size * 3 / 4
    /// What deleting `key` may take out of a page of its path.
    private func deleteCost(_ page: Page, _ key: UnsafeRawBufferPointer) -> Int {
        guard page.isLeaf else { return Self.innerCostTypical }
        let (index, found) = page.find(key)
        return found ? page.cost(at: index) : 0
    }
    /// A merge below takes one entry out of an inner page. Where it takes more and the neighbour is not here,
    /// the page stays small until a later delete: a matter of space, not of correctness.
    private static let innerCostTypical = 128

    // MARK: Changing

    /// Descends to the leaf of `key` and makes the whole way writable. Everything is resident: `prepare` said so.
    private func descend(_ key: UnsafeRawBufferPointer) -> Page {
        guard var frame = cache.resolve(root) else { preconditionFailure("root left the cache during a change") }
        var writable = cache.writable(frame)
        root = .memory(writable)
        path.depth = 0
        while true {
            let page = cache.page(writable)
            precondition(path.depth < Self.depthMax, "tree too deep")
            path.frames[path.depth] = writable
            path.depth += 1
            if page.isLeaf {
                fingers.remember(key, writable)
                return page
            }
            let index = page.childIndex(key)
            path.indexes[path.depth - 1] = index
            let reference = page.child(index)
            guard let child = cache.resolve(reference) else {
                preconditionFailure("a prepared node left the cache during a change")
            }
            frame = child
            writable = cache.writable(frame)
            if reference.isStored || writable != frame { page.setChild(index, .memory(writable)) }
        }
    }

    /// Answers whether the key is new.
    @discardableResult
    package func put(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        if let frame = fingers.find(key, cache), cache.isWritable(frame) {
            let page = cache.page(frame)
            let (index, found) = page.find(key)
            if found {
                if page.replaceValue(at: index, key: key, value: value, scratch: cache.scratch) { return false }
            } else if page.insert(at: index, key: key, value: value, scratch: cache.scratch) {
                return true
            }
        }
        let leaf = descend(key)
        let (index, found) = leaf.find(key)
        if found {
            if leaf.replaceValue(at: index, key: key, value: value, scratch: cache.scratch) { return false }
            leaf.remove(at: index)
        }
        insert(key, value, at: index, level: path.depth - 1)
        return !found
    }

    /// Answers whether there was something to delete.
    @discardableResult
    package func delete(_ key: UnsafeRawBufferPointer) -> Bool {
        // A delete that finds nothing must not make anything dirty.
        if let frame = fingers.find(key, cache) {
            let page = cache.page(frame)
            let (index, found) = page.find(key)
            guard found else { return false }
            if cache.isWritable(frame), page.usedBytes - page.cost(at: index) >= Self.mergeBelow {
                page.remove(at: index)
                return true
            }
        } else if case .absent = getAlone(key) {
            return false
        }
        let leaf = descend(key)
        let (index, found) = leaf.find(key)
        precondition(found)
        leaf.remove(at: index)
        mergeUpwards()
        return true
    }

    /// Inserts into the page at `level` of the path, splitting it and those above as needed.
    private func insert(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, at index: Int, level: Int
    ) {
        let page = cache.page(path.frames[level])
        if page.insert(at: index, key: key, value: value, scratch: cache.scratch) { return }

        // Split. The old content is read from a copy, so that both halves can be built with their own prefixes.
        let old = Page(cache.scratchSecond)
        memcpy(old.base, page.base, Page.size)
        let cost = page.cost(key: key.count, value: value.count)
        let (at, newIs) = split(old, inserting: index, cost: cost, keyCount: key.count)
        let right = cache.makeDirty(tree: id)
        let rightPage = cache.page(right)
        withUnsafeTemporaryAllocation(byteCount: Page.keyBytesMax, alignment: 8) { separatorMemory in
            guard let separatorBase = separatorMemory.baseAddress else { return }
            let separatorLength = separator(old, at: at, key, newIs, to: separatorBase)
            let separator = UnsafeRawBufferPointer(start: separatorBase, count: separatorLength)
            page.initialize(level: old.level, low: old.low, high: separator)
            rightPage.initialize(level: old.level, low: separator, high: old.high)
            page.append(0..<at, of: old)
            rightPage.append(at..<old.count, of: old)
            let goesRight = compareBytes(key, separator) >= 0
            let target = goesRight ? rightPage : page
            let done = target.insert(
                at: goesRight ? index - at : index, key: key, value: value, scratch: cache.scratch)
            precondition(done, "a split makes room")
            // The half that the path does not lead to any more is found again by a new descent if it is needed.
            withUnsafeTemporaryAllocation(byteCount: ChildReference.size, alignment: 8) { reference in
                guard let referenceBase = reference.baseAddress else { return }
                ChildReference.memory(right).store(to: referenceBase)
                if level == 0 {
                    growRoot(over: old.level, separator: separator, right: UnsafeRawBufferPointer(reference))
                } else {
                    insert(
                        separator, UnsafeRawBufferPointer(reference), at: path.indexes[level - 1] + 1, level: level - 1)
                }
            }
        }
    }

    private func growRoot(over level: Int, separator: UnsafeRawBufferPointer, right: UnsafeRawBufferPointer) {
        let frame = cache.makeDirty(tree: id)
        let page = cache.page(frame)
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        page.initialize(level: level + 1, low: none, high: nil)
        withUnsafeTemporaryAllocation(byteCount: ChildReference.size, alignment: 8) { left in
            guard let leftBase = left.baseAddress else { return }
            root.store(to: leftBase)
            let first = page.insert(at: 0, key: none, value: UnsafeRawBufferPointer(left), scratch: cache.scratch)
            let second = page.insert(at: 1, key: separator, value: right, scratch: cache.scratch)
            precondition(first && second)
        }
        root = .memory(frame)
    }

    /// Where a new entry lies with respect to the cut of a split.
    private enum NewEntry {
        case lastOfLeft
        case firstOfRight
        case elsewhere
    }

    /// The first entry that goes to the right half: the most even cut, except for keys that come in rising order. There
    /// the left half stays full, and what lies above the new key moves out of its way.
    private func split(
        _ page: Page, inserting index: Int, cost: Int, keyCount: Int
    ) -> (at: Int, newIs: NewEntry) {
        let count = page.count
        if page.isLeaf, index > 0, index == count || page.continuesRise(at: index) {
            // The left half gets a fence that may be longer than the one it had: the separator is at most one byte
            // longer than the new key.
            let below =
                Page.headerSize + page.low.count + keyCount + 1
                + page.cost(of: 0..<index, prefix: page.prefixLength)
            if index < count, below + cost <= Page.size { return (index, .lastOfLeft) }
            if below <= Page.size { return (index, .firstOfRight) }
        }
        var total = 0
        for entry in 0..<count { total += page.cost(at: entry) }
        var left = 0
        var best = 1
        var bestLargest = Int.max
        for entry in 0..<(count - 1) {
            left += page.cost(at: entry)
            let largest = max(left, total - left)
            if largest < bestLargest {
                bestLargest = largest
                best = entry + 1
            }
        }
        return (best, .elsewhere)
    }

    /// Writes the right half's low fence: above every key of the left half, not above any of the right half.
    /// In a leaf it is the shortest such string; in an inner page it is the right half's first key.
    private func separator(
        _ page: Page, at split: Int, _ key: UnsafeRawBufferPointer, _ newIs: NewEntry,
        to target: UnsafeMutableRawPointer
    ) -> Int {
        withUnsafeTemporaryAllocation(byteCount: 2 * Page.keyBytesMax, alignment: 8) { memory -> Int in
            guard let leftBase = memory.baseAddress else { return 0 }
            let left =
                newIs == .lastOfLeft
                ? key : UnsafeRawBufferPointer(start: leftBase, count: page.copyKey(split - 1, to: leftBase))
            let rightBase = leftBase + Page.keyBytesMax
            let right =
                newIs == .firstOfRight
                ? key : UnsafeRawBufferPointer(start: rightBase, count: page.copyKey(split, to: rightBase))
            let length = page.isLeaf ? commonPrefix(left, right) + 1 : right.count
            if let source = right.baseAddress { memcpy(target, source, length) }
            return length
        }
    }

    // MARK: Merging

    /// After a delete: merges the leaf of the path with a neighbour when both are small, and so on upwards.
    private func mergeUpwards() {
        var level = path.depth - 1
        while level > 0 {
            let page = cache.page(path.frames[level])
            guard page.usedBytes < Self.mergeBelow else { break }
            let parent = cache.page(path.frames[level - 1])
            let index = path.indexes[level - 1]
            let left = index + 1 < parent.count ? index : index - 1
            guard left >= 0, merge(parent, left) else { break }
            level -= 1
        }
        // A root with one child is that child.
        while true {
            guard let frame = cache.resolve(root) else { return }
            let page = cache.page(frame)
            guard !page.isLeaf, page.count == 1 else { return }
            root = page.child(0)
            cache.release(frame)
        }
    }

    /// Merges children `left` and `left + 1` of a writable parent, if they are here and small enough.
    private func merge(_ parent: Page, _ left: Int) -> Bool {
        let leftReference = parent.child(left)
        let rightReference = parent.child(left + 1)
        guard let leftFrame = cache.resolve(leftReference), let rightFrame = cache.resolve(rightReference) else {
            return false
        }
        let leftOld = cache.page(leftFrame)
        let right = cache.page(rightFrame)
        guard leftOld.fits(in: parent, at: left), right.fits(in: parent, at: left + 1) else { return false }
        let prefix = right.high.map { commonPrefix(leftOld.low, $0) } ?? 0
        let fences = leftOld.low.count + (right.high?.count ?? 0)
        let bytes = leftOld.cost(prefix: prefix) + right.cost(prefix: prefix)
        // One that is empty goes if the other one has room for longer suffixes: else what is deleted in order leaves a row of them.
        let isEmpty = leftOld.count == 0 || right.count == 0
        guard bytes + fences + Page.headerSize <= (isEmpty ? Page.size : Self.mergedMax) else { return false }
        let writable = cache.writable(leftFrame)
        if leftReference.isStored || writable != leftFrame { parent.setChild(left, .memory(writable)) }
        let merged = cache.page(writable)
        let old = Page(cache.scratchSecond)
        memcpy(old.base, merged.base, Page.size)
        merged.initialize(level: old.level, low: old.low, high: right.high)
        merged.append(0..<old.count, of: old)
        merged.append(0..<right.count, of: right)
        parent.remove(at: left + 1)
        cache.release(rightFrame)
        return true
    }

    // MARK: Loading

    /// Whether the tree still leads to this node at this address. It may have moved on while it was read; what it was then must not
    /// come in, nor what its parent did not mean. False also if a parent has left the memory: who wants the node asks for that first.
    package func leads(to address: NodeAddress, _ node: Page) -> Bool {
        var reference = root
        var parent: Page?
        var index = 0
        while true {
            if reference.isStored, reference.address == address {
                return parent.map { node.fits(in: $0, at: index) } ?? (node.low.count == 0 && node.high == nil)
            }
            guard let frame = cache.resolve(reference) else { return false }
            let page = cache.page(frame)
            guard page.level > node.level, page.level < parent?.level ?? Self.depthMax else { return false }
            parent = page
            index = page.childIndex(node.low)
            reference = page.child(index)
        }
    }

    // MARK: Checkpoints

    /// A checkpoint has stored `frame` at `address`: the live parent that still names the frame is told, and the
    /// frame may be evicted from then on. `low` is the node's low fence.
    package func adopt(_ frame: UInt32, _ address: NodeAddress, low: UnsafeRawBufferPointer, level: Int) {
        if !root.isStored, root.frame == frame {
            root = .stored(address, hint: frame)
            return
        }
        var reference = root
        var above = Self.depthMax
        while let current = cache.resolve(reference) {
            let page = cache.page(current)
            guard page.level > level, page.level < above else { return }
            above = page.level
            let index = page.childIndex(low)
            reference = page.child(index)
            if page.level == level + 1 {
                if !reference.isStored, reference.frame == frame {
                    page.setChild(index, .stored(address, hint: frame))
                }
                return
            }
        }
    }

    /// Frames that one put or delete may take at the worst: a copy and a split on each level, and a new root.
    package var framesPerOperation: Int {
        guard let frame = cache.resolve(root) else { return 2 * Self.depthMax }
        return 2 * (cache.page(frame).level + 1) + 1
    }
}

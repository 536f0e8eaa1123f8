import CShim
import Glibc

/// A node in memory: a slotted page of fixed size, manually managed.
///
/// ```
/// 0        32           slotsEnd      heapStart                16384
/// | header | slot slot … | free ……… | cell cell cell … fences |
/// ```
/// A slot is 12 bytes: cell offset, length of the key's suffix, and the first eight bytes that tell the suffixes of this
/// page apart, as a big-endian number (`head`): most comparisons of a search touch the slot array alone. A cell is the
/// value's length (2 bytes), the key's suffix, the value.
///
/// Invariants:
/// - Keys lie in [low fence, high fence); no high fence means no upper bound. The fences are fixed when the page
///   is made, so the keys' common prefix (that of the two fences) is too, and cells keep only what follows it.
/// - Slots are in byte order of their keys; no key twice.
/// - In an inner page the first key is the low fence, values are `ChildReference`s, and a child's low fence is its key.
/// - Heads begin behind `shared`, which no two suffixes of the page differ within. The first key of an inner page has no part
///   in that, because it may be far below the others: its head is 0, and every key that is looked for is at or above it.
///
/// A `Page` is a view: it does not own the memory. Offsets in it come from our own code, never from outside:
/// what is read from a store goes through `PageCodec`, which checks everything.
package struct Page {
    package static let size = 16384
    package static let headerSize = 32
    package static let slotSize = 12
    /// The largest key plus value: four such cells fit a page, so a split always makes room.
    package static let cellBytesMax = 3800
    package static let keyBytesMax = 1024

    package let base: UnsafeMutableRawPointer

    @inline(__always) package init(_ base: UnsafeMutableRawPointer) { self.base = base }

    // MARK: Header

    @inline(__always) private func field(_ offset: Int) -> Int {
        Int(base.load(fromByteOffset: offset, as: UInt16.self))
    }
    @inline(__always) private func setField(_ offset: Int, _ value: Int) {
        base.storeBytes(of: UInt16(truncatingIfNeeded: value), toByteOffset: offset, as: UInt16.self)
    }

    /// 0: a leaf.
    package var level: Int {
        @inline(__always) get { field(0) }
        nonmutating set { setField(0, newValue) }
    }
    package var count: Int {
        @inline(__always) get { field(2) }
        nonmutating set { setField(2, newValue) }
    }
    /// The lowest byte in use by cells.
    private var heapStart: Int {
        @inline(__always) get { field(4) }
        nonmutating set { setField(4, newValue) }
    }
    /// Bytes of removed cells, to be won back by `compact`.
    private var garbage: Int {
        @inline(__always) get { field(6) }
        nonmutating set { setField(6, newValue) }
    }
    package var prefixLength: Int {
        @inline(__always) get { field(8) }
        nonmutating set { setField(8, newValue) }
    }
    private var lowOffset: Int {
        @inline(__always) get { field(10) }
        nonmutating set { setField(10, newValue) }
    }
    private var lowLength: Int {
        @inline(__always) get { field(12) }
        nonmutating set { setField(12, newValue) }
    }
    private var highOffset: Int {
        @inline(__always) get { field(14) }
        nonmutating set { setField(14, newValue) }
    }
    private var highLength: Int {
        @inline(__always) get { field(16) }
        nonmutating set { setField(16, newValue) }
    }
    /// Where the last insertion went, and how many in a row went right behind the one before.
    private var lastInsert: Int {
        @inline(__always) get { field(20) }
        nonmutating set { setField(20, newValue) }
    }
    private var risingRun: Int {
        @inline(__always) get { field(22) }
        nonmutating set { setField(22, newValue) }
    }
    private var isBounded: Int {
        @inline(__always) get { field(18) }
        nonmutating set { setField(18, newValue) }
    }
    /// Bytes at the start of all suffixes that are the same.
    private var shared: Int {
        @inline(__always) get { field(24) }
        nonmutating set { setField(24, newValue) }
    }
    /// The first slot that has a say in what is shared.
    private var firstTold: Int { @inline(__always) get { isLeaf ? 0 : 1 } }

    package var isLeaf: Bool { @inline(__always) get { level == 0 } }

    package var low: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + lowOffset, count: lowLength) }
    /// Nil: no upper bound.
    package var high: UnsafeRawBufferPointer? {
        isBounded == 0 ? nil : UnsafeRawBufferPointer(start: base + highOffset, count: highLength)
    }
    package var prefix: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + lowOffset, count: prefixLength) }

    /// Makes an empty page. The fences may not point into this page.
    package func initialize(level: Int, low: UnsafeRawBufferPointer, high: UnsafeRawBufferPointer?) {
        self.level = level
        count = 0
        garbage = 0
        lastInsert = 0
        risingRun = 0
        shared = 0
        lowLength = low.count
        lowOffset = Self.size - low.count
        if let source = low.baseAddress { memcpy(base + lowOffset, source, low.count) }
        var start = lowOffset
        if let high {
            start -= high.count
            highOffset = start
            highLength = high.count
            isBounded = 1
            if let source = high.baseAddress { memcpy(base + start, source, high.count) }
            prefixLength = commonPrefix(low, high)
        } else {
            highOffset = start
            highLength = 0
            isBounded = 0
            prefixLength = 0
        }
        heapStart = start
    }

    // MARK: Cells

    @inline(__always) private func slot(_ index: Int) -> UnsafeMutableRawPointer {
        base + (Self.headerSize + index * Self.slotSize)
    }
    @inline(__always) private func cell(_ index: Int) -> UnsafeMutableRawPointer {
        base + cellOffset(index)
    }
    /// Where in the page the entry's length, key and value lie.
    @inline(__always) func cellOffset(_ index: Int) -> Int { Int(slot(index).load(as: UInt16.self)) }
    @inline(__always) private func suffixLength(_ index: Int) -> Int {
        Int(slot(index).load(fromByteOffset: 2, as: UInt16.self))
    }
    @inline(__always) private func head(_ index: Int) -> UInt64 {
        slot(index).loadUnaligned(fromByteOffset: 4, as: UInt64.self)
    }
    private func setHead(_ index: Int) { setHead(index, suffix(index)) }

    /// `suffix` as the caller has it: what was just written could not be read again at once.
    @inline(__always) private func setHead(_ index: Int, _ suffix: UnsafeRawBufferPointer) {
        let head = index < firstTold ? 0 : Self.eight(suffix.baseAddress.map { $0 + shared }, suffix.count - shared)
        slot(index).storeBytes(of: head, toByteOffset: 4, as: UInt64.self)
    }

    /// Less is the same than was thought.
    private func share(_ count: Int) {
        shared = count
        for index in firstTold..<self.count { setHead(index) }
    }

    @inline(__always) package func suffix(_ index: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: cell(index) + 2, count: suffixLength(index))
    }
    @inline(__always) package func value(_ index: Int) -> UnsafeMutableRawBufferPointer {
        let cell = cell(index)
        return UnsafeMutableRawBufferPointer(
            start: cell + (2 + suffixLength(index)), count: Int(cell.loadUnaligned(as: UInt16.self)))
    }

    /// Writes the whole key to `target`, which has room for `keyBytesMax`; answers its length.
    package func copyKey(_ index: Int, to target: UnsafeMutableRawPointer) -> Int {
        let prefixLength = prefixLength
        let suffix = suffix(index)
        memcpy(target, base + lowOffset, prefixLength)
        if let source = suffix.baseAddress { memcpy(target + prefixLength, source, suffix.count) }
        return prefixLength + suffix.count
    }

    package func child(_ index: Int) -> ChildReference {
        ChildReference(loading: UnsafeRawPointer(cell(index) + (2 + suffixLength(index))))
    }
    package func setChild(_ index: Int, _ child: ChildReference) {
        child.store(to: cell(index) + (2 + suffixLength(index)))
    }

    // MARK: Search

    /// The first slot whose key is not below `key`, and whether it is `key`. `key` lies between the fences.
    @inline(__always) package func find(_ key: UnsafeRawBufferPointer) -> (index: Int, found: Bool) {
        let skip = prefixLength
        let length = key.count - skip
        // In a page of somebody else's making it need not lie between the fences.
        guard length >= 0 else { return (0, false) }
        let bytes = key.baseAddress.map { $0 + skip }
        let shared = shared
        let wanted = Self.eight(bytes.map { $0 + shared }, length - shared)
        let slots = base + Self.headerSize
        let total = count
        // First by heads alone, without a branch that depends on the data: it could not be predicted.
        var lower = 0
        var rest = total
        while rest > 0 {
            let half = (rest + 1) >> 1
            let head = (slots + (lower + half - 1) &* Self.slotSize).loadUnaligned(fromByteOffset: 4, as: UInt64.self)
            lower = head < wanted ? lower + half : lower
            rest -= half
        }
        if shared > 0, let bytes {
            // The neighbour whose cell is wanted next anyhow tells whether the key has what is shared.
            let near = isLeaf ? min(lower, total - 1) : max(lower - 1, 1)
            let order = memcmp(bytes, cell(near) + 2, min(shared, length))
            if order < 0 || order == 0 && length < shared { return findBelowShared(bytes, length) }
            if order > 0 { return (total, false) }
        }
        guard lower < total, self.head(lower) == wanted else { return (lower, false) }
        guard let bytes, length > 0 else { return (lower, suffixLength(lower) == 0) }
        return findAmongEqual(lower, bytes, length, wanted)
    }

    /// `has` is about to be asked, of an entry whose cell is thought to be near `cell`: what it looks at is fetched side by side.
    @inline(__always) func expect(_ index: Int, cell: Int) {
        shim_prefetch(base + cell)
        shim_prefetch(base + (cell + 64))
        shim_prefetch(slot(index))
        expectFences()
    }

    /// `contains` will be asked soon: the head, and the low fence, which is behind everything else.
    @inline(__always) func expectFences() {
        shim_prefetch(base)
        shim_prefetch(base + (Self.size - 64))
    }

    /// `find` will be asked soon, and the head is here: the slots where every search begins, and where the last new entry went.
    @inline(__always) func expectSearch() {
        let half = count >> 1
        shim_prefetch(slot(half))
        shim_prefetch(slot(half + half >> 1))
        shim_prefetch(slot(lastInsert))
        shim_prefetch(base + heapStart)
    }

    /// Whether the key at `index` is `key`; there may be no such entry.
    @inline(__always) func has(_ key: UnsafeRawBufferPointer, at index: Int) -> Bool {
        let skip = prefixLength
        guard isLeaf, index < count, let bytes = key.baseAddress, suffixLength(index) + skip == key.count else {
            return false
        }
        return memcmp(bytes + skip, cell(index) + 2, key.count - skip) == 0
            && memcmp(bytes, base + lowOffset, skip) == 0
    }

    /// The key is below all that have a say in what is shared.
    private func findBelowShared(_ bytes: UnsafeRawPointer, _ length: Int) -> (index: Int, found: Bool) {
        if isLeaf { return (0, false) }
        let isFirst = compareBytes(suffix(0), UnsafeRawBufferPointer(start: bytes, count: length)) == 0
        return isFirst ? (0, true) : (1, false)
    }

    /// The same among the slots from `lower` on that have the head `wanted`. Where many keys begin alike, as in the inner pages
    /// above one large directory, what they share is looked at once, and then eight bytes of each are compared as a number.
    private func findAmongEqual(
        _ first: Int, _ bytes: UnsafeRawPointer, _ length: Int, _ wanted: UInt64
    ) -> (index: Int, found: Bool) {
        let slots = base + Self.headerSize
        var lower = first
        // Behind the last one of them.
        var upper = lower + 1
        var rest = count - upper
        while rest > 0 {
            let half = (rest + 1) >> 1
            let head = (slots + (upper + half - 1) &* Self.slotSize).loadUnaligned(fromByteOffset: 4, as: UInt64.self)
            upper = head <= wanted ? upper + half : upper
            rest -= half
        }
        while upper - lower > 4 {
            let start = suffix(lower)
            let shared = commonPrefix(start, suffix(upper - 1))
            let order = start.baseAddress.map { memcmp(bytes, $0, min(shared, length)) } ?? 0
            // Below or above all of them.
            if order < 0 || order == 0 && length < shared { return (lower, false) }
            if order > 0 { return (upper, false) }
            let mine = Self.eight(bytes + shared, length - shared)
            var middle = lower
            var rest = upper - lower
            while rest > 0 {
                let half = (rest + 1) >> 1
                let other = suffix(middle + half - 1)
                let eight = Self.eight(other.baseAddress.map { $0 + shared }, other.count - shared)
                middle = eight < mine ? middle + half : middle
                rest -= half
            }
            let begin = middle
            rest = upper - middle
            while rest > 0 {
                let half = (rest + 1) >> 1
                let other = suffix(middle + half - 1)
                let eight = Self.eight(other.baseAddress.map { $0 + shared }, other.count - shared)
                middle = eight <= mine ? middle + half : middle
                rest -= half
            }
            // Short ones, padded with zeros, look like others that have them: then only whole keys tell.
            guard middle - begin < upper - lower else { break }
            (lower, upper) = (begin, middle)
        }
        while lower < upper {
            let middle = (lower + upper) >> 1
            let other = suffix(middle)
            let order = other.baseAddress.map { Int(memcmp($0, bytes, min(length, other.count))) } ?? 0
            if order < 0 || order == 0 && other.count < length {
                lower = middle + 1
            } else if order == 0 && other.count == length {
                return (middle, true)
            } else {
                upper = middle
            }
        }
        return (lower, false)
    }

    /// The first eight bytes as a number that orders like the bytes do, short ones padded with zeros.
    @inline(__always) static func eight(_ bytes: UnsafeRawPointer?, _ count: Int) -> UInt64 {
        guard let bytes else { return 0 }
        if count >= 8 { return UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)) }
        var value: UInt64 = 0
        for index in 0..<max(count, 0) {
            value |= UInt64(bytes.load(fromByteOffset: index, as: UInt8.self)) << UInt64(56 - 8 * index)
        }
        return value
    }

    /// The slot of the child that holds `key`: the last one whose key is not above it.
    @inline(__always) package func childIndex(_ key: UnsafeRawBufferPointer) -> Int {
        let (index, found) = find(key)
        return found || index == 0 ? index : index - 1
    }

    /// Whether the key at `index` is `key`.
    private func isKey(_ key: UnsafeRawBufferPointer, at index: Int) -> Bool {
        let suffix = suffix(index)
        guard key.count == prefixLength + suffix.count else { return false }
        return compareBytes(UnsafeRawBufferPointer(rebasing: key[..<prefixLength]), prefix) == 0
            && compareBytes(UnsafeRawBufferPointer(rebasing: key[prefixLength...]), suffix) == 0
    }

    /// Whether this page is what its place in a parent says: one level below, between the same fences. Whoever changes pages relies
    /// on it, and what is stored may be of somebody else's making.
    package func fits(in parent: Page, at index: Int) -> Bool {
        guard level == parent.level - 1, parent.isKey(low, at: index) else { return false }
        guard index + 1 < parent.count else {
            switch (high, parent.high) {
            case (nil, nil): return true
            case (let high?, let bound?): return compareBytes(high, bound) == 0
            default: return false
            }
        }
        return high.map { parent.isKey($0, at: index + 1) } ?? false
    }

    package func contains(_ key: UnsafeRawBufferPointer) -> Bool {
        guard compareBytes(low, key) <= 0 else { return false }
        guard let high else { return true }
        return compareBytes(key, high) < 0
    }

    // MARK: Change

    private var slotsEnd: Int { Self.headerSize + count * Self.slotSize }
    /// Bytes that new cells and slots can have, after compaction.
    package var freeBytes: Int { heapStart - slotsEnd + garbage }
    /// Bytes of cells and slots in use, fences not counted.
    package var usedBytes: Int {
        let fences = lowLength + (isBounded == 0 ? 0 : highLength)
        return Self.size - Self.headerSize - fences - freeBytes
    }
    /// What an entry costs in this page.
    package func cost(key: Int, value: Int) -> Int { Self.slotSize + 2 + key - prefixLength + value }
    package func cost(at index: Int) -> Int { Self.slotSize + 2 + suffixLength(index) + value(index).count }

    /// Inserts at `index`, which `find` answered. False when there is no room: nothing has changed then.
    package func insert(
        at index: Int, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, scratch: UnsafeMutableRawPointer
    ) -> Bool {
        let skip = prefixLength
        let suffix = UnsafeRawBufferPointer(start: key.baseAddress.map { $0 + skip }, count: key.count - skip)
        guard let room = open(at: index, suffix: suffix, valueCount: value.count, scratch: scratch) else {
            return false
        }
        if let source = value.baseAddress { memcpy(room, source, value.count) }
        risingRun = index == lastInsert + 1 ? min(risingRun + 1, Self.risingRunMin) : 0
        lastInsert = index
        return true
    }

    /// As many insertions in a row, each right behind the one before, are taken for keys that come in rising order.
    private static let risingRunMin = 6

    /// Whether an insertion at `index` goes on with such a run.
    package func continuesRise(at index: Int) -> Bool { risingRun >= Self.risingRunMin && index == lastInsert + 1 }

    /// Makes a slot and a cell; answers where the value goes.
    private func open(
        at index: Int, suffix: UnsafeRawBufferPointer, valueCount: Int, scratch: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer? {
        let cellSize = 2 + suffix.count + valueCount
        guard cellSize + Self.slotSize <= freeBytes else { return nil }
        if cellSize + Self.slotSize > heapStart - slotsEnd { compact(scratch: scratch) }
        precondition(isLeaf || index > 0 || count == 0, "an inner page keeps its first key")
        let first = firstTold
        if index >= first {
            if count <= first {
                shared = suffix.count
            } else if shared > 0 {
                let near = min(max(index - 1, first), count - 1)
                let common = commonPrefix(UnsafeRawBufferPointer(start: cell(near) + 2, count: shared), suffix)
                if common < shared { share(common) }
            }
        }
        let start = heapStart - cellSize
        heapStart = start
        let place = slot(index)
        memmove(place + Self.slotSize, place, (count - index) * Self.slotSize)
        count += 1
        place.storeBytes(of: UInt16(truncatingIfNeeded: start), as: UInt16.self)
        place.storeBytes(of: UInt16(truncatingIfNeeded: suffix.count), toByteOffset: 2, as: UInt16.self)
        let cell = base + start
        cell.storeBytes(of: UInt16(truncatingIfNeeded: valueCount), as: UInt16.self)
        if let source = suffix.baseAddress { memcpy(cell + 2, source, suffix.count) }
        setHead(index, suffix)
        return cell + (2 + suffix.count)
    }

    /// Appends what a decoder has read and checked; false when it does not fit.
    /// They come in order; `finishDecoded` follows the last one.
    package func appendDecoded(suffix: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) -> Bool {
        let start = heapStart - (2 + suffix.count + value.count)
        guard slotsEnd + Self.slotSize <= start else { return false }
        let place = slot(count)
        place.storeBytes(of: UInt16(truncatingIfNeeded: start), as: UInt16.self)
        place.storeBytes(of: UInt16(truncatingIfNeeded: suffix.count), toByteOffset: 2, as: UInt16.self)
        heapStart = start
        count += 1
        let cell = base + start
        cell.storeBytes(of: UInt16(truncatingIfNeeded: value.count), as: UInt16.self)
        if let source = suffix.baseAddress { memcpy(cell + 2, source, suffix.count) }
        if let source = value.baseAddress { memcpy(cell + (2 + suffix.count), source, value.count) }
        return true
    }

    /// What all share is what the first and the last one do.
    package func finishDecoded() {
        let first = firstTold
        if count > first + 1 {
            shared = commonPrefix(suffix(first), suffix(count - 1))
        } else {
            shared = count > first ? suffixLength(first) : 0
        }
        for index in 0..<count { setHead(index) }
    }

    package func remove(at index: Int) {
        garbage += cost(at: index) - Self.slotSize
        let place = slot(index)
        memmove(place, place + Self.slotSize, (count - index - 1) * Self.slotSize)
        count -= 1
        if count <= firstTold { shared = 0 }
    }

    /// False when there is no room: nothing has changed then.
    package func replaceValue(
        at index: Int, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, scratch: UnsafeMutableRawPointer
    ) -> Bool {
        let old = self.value(index)
        if old.count == value.count {
            if let source = value.baseAddress, let target = old.baseAddress { memmove(target, source, value.count) }
            return true
        }
        guard value.count - old.count <= freeBytes else { return false }
        remove(at: index)
        let done = insert(at: index, key: key, value: value, scratch: scratch)
        precondition(done, "room was counted before")
        return true
    }

    /// Moves all cells together. `scratch` is a page of the caller's.
    private func compact(scratch: UnsafeMutableRawPointer) {
        let copy = Page(scratch)
        memcpy(scratch, base, Self.size)
        let fences = lowLength + (isBounded == 0 ? 0 : highLength)
        var start = Self.size - fences
        for index in 0..<count {
            let size = 2 + copy.suffixLength(index) + copy.value(index).count
            start -= size
            memcpy(base + start, copy.cell(index), size)
            slot(index).storeBytes(of: UInt16(truncatingIfNeeded: start), as: UInt16.self)
        }
        heapStart = start
        garbage = 0
    }

    /// Appends entries of another page, whose keys lie within this page's fences and above its own keys.
    /// The caller has counted the room.
    package func append(_ range: Range<Int>, of other: Page) {
        let mine = prefixLength
        let theirs = other.prefixLength
        withUnsafeTemporaryAllocation(byteCount: Self.keyBytesMax, alignment: 8) { key in
            guard let keyBase = key.baseAddress else { return }
            for index in range {
                let suffix: UnsafeRawBufferPointer
                if mine == theirs {
                    suffix = other.suffix(index)
                } else if mine > theirs {
                    suffix = UnsafeRawBufferPointer(rebasing: other.suffix(index)[(mine - theirs)...])
                } else {
                    let length = other.copyKey(index, to: keyBase)
                    suffix = UnsafeRawBufferPointer(start: keyBase + mine, count: length - mine)
                }
                let value = other.value(index)
                // No scratch is needed: a page that is only appended to has no garbage to compact.
                guard let room = open(at: count, suffix: suffix, valueCount: value.count, scratch: base) else {
                    preconditionFailure("entries moved between pages must fit")
                }
                if let source = value.baseAddress { memcpy(room, source, value.count) }
            }
        }
    }

    /// What all entries would cost in a page with a prefix of `prefix` bytes.
    package func cost(prefix: Int) -> Int { usedBytes + count * (prefixLength - prefix) }

    /// The same of those in `range`.
    package func cost(of range: Range<Int>, prefix: Int) -> Int {
        var sum = 0
        for index in range { sum += cost(at: index) + prefixLength - prefix }
        return sum
    }
}

package func commonPrefix(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    let limit = min(a.count, b.count)
    guard limit > 0, let x = a.baseAddress, let y = b.baseAddress else { return 0 }
    var index = 0
    while index + 8 <= limit {
        let difference =
            x.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            ^ y.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        if difference != 0 { return index + difference.trailingZeroBitCount / 8 }
        index += 8
    }
    while index < limit, x.load(fromByteOffset: index, as: UInt8.self) == y.load(fromByteOffset: index, as: UInt8.self)
    {
        index += 1
    }
    return index
}

/// Byte order, shorter first: negative, zero or positive.
@inline(__always) package func compareBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    let limit = min(a.count, b.count)
    if limit > 0, let x = a.baseAddress, let y = b.baseAddress {
        let order = memcmp(x, y, limit)
        if order != 0 { return Int(order) }
    }
    return a.count - b.count
}

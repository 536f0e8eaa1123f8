import Headhunter

extension Records {
    /// Extents that reach into [from, to), in order, at most `limit`.
    func extents(_ fork: UInt64, _ from: UInt64, _ to: UInt64, limit: Int) throws(Halt) -> [Extent] {
        var found: [Extent] = []
        guard from < to, limit > 0 else { return found }
        let id = fork | KeyLayout.forkSpace
        try scan(from: scratch.key(id, .extent, from + 1), budget: limit) { (key, value) throws(Halt) in
            guard key.isKey(id, .extent) else { return false }
            guard let extent = Extent(key, value) else { throw .wrong(id, .extent) }
            guard extent.start < to else { return false }
            found.append(extent)
            return true
        }
        return found
    }

    func extent(_ fork: UInt64, end: UInt64) throws(Halt) -> Extent? {
        let id = fork | KeyLayout.forkSpace
        guard let value = try get(scratch.key(id, .extent, end)) else { return nil }
        guard let extent = Extent(end: end, value) else { throw .wrong(id, .extent) }
        return extent
    }
}

/// Changes which extents a fork has, within one change. Call `finish` at the end.
struct ForkEdit {
    private let edit: Editing
    private let fork: UInt64
    /// Extents that may still be taken away or cut: with what else a change holds they stay within its bounds.
    private(set) var budget: Int
    /// So many segments may lose bytes.
    private let segments: Int
    /// Ends of extents that this change has stored: a scan of the tree does not know them.
    private var stored: [UInt64] = []
    private var released: [(segment: UInt64, length: UInt64)] = []
    /// Bytes that the fork has got, and lost.
    private(set) var added: UInt64 = 0
    var removed: UInt64 { released.reduce(0) { $0 + $1.length } }

    static let extentsMax = 8

    init(_ edit: Editing, _ fork: UInt64, extents: Int = ForkEdit.extentsMax, segments: Int = ForkEdit.extentsMax) {
        self.edit = edit
        self.fork = fork
        budget = extents
        self.segments = segments
    }

    /// Takes [from, to) out of the fork, as far as the budget goes. Answers up to where it is out.
    mutating func cover(_ from: UInt64, _ to: UInt64) throws(Halt) -> UInt64 {
        guard from < to else { return to }
        let limit = budget + 1
        var ends = try edit.extents(fork, from, to, limit: limit).map(\.end)
        // What lies behind it the scan has not seen.
        let to = ends.count == limit ? min(to, ends[limit - 1]) : to
        // One that this change has stored may reach in from behind that.
        for end in stored where end > from && !ends.contains(end) { ends.append(end) }
        ends.sort()
        for end in ends {
            // What this change has done to it already, the scan does not know.
            guard let extent = try edit.extent(fork, end: end), extent.start < to else { continue }
            guard budget > 0, mayRelease(extent.segment) else { return max(from, extent.start) }
            budget -= 1
            let inside = extent.clipped(from, to)
            if extent.end > to { store(extent.clipped(to, extent.end)) } else { delete(extent.end) }
            if extent.start < from { store(extent.clipped(extent.start, from)) }
            release(inside)
        }
        return to
    }

    /// Puts an extent into a range that is free. One that goes on where the one before ends makes it longer.
    mutating func insert(_ extent: Extent) throws(Halt) {
        var extent = extent
        added += extent.length
        if let before = try edit.extent(fork, end: extent.start), before.segment == extent.segment,
            UInt64(before.offset) + before.length == UInt64(extent.offset)
        {
            delete(before.end)
            extent = Extent(start: before.start, end: extent.end, segment: extent.segment, offset: before.offset)
        }
        store(extent)
    }

    /// Gives up the bytes that nothing names any more, and counts the file's.
    func finish(_ inode: inout Inode) throws(Halt) {
        for (segment, length) in released { try edit.release(segment, length) }
        let all = inode.allocated + added
        inode.allocated = all - min(all, removed)
        if added > 0 { inode.flags |= Inode.hasExtents }
    }

    private mutating func store(_ extent: Extent) {
        let memory = edit.scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(extent.start, at: 1)
        memory.put(extent.segment, at: 9)
        memory.put(extent.offset, at: 17)
        edit.put(
            edit.scratch.key(fork | KeyLayout.forkSpace, .extent, extent.end),
            UnsafeRawBufferPointer(start: memory, count: Extent.size))
        if !stored.contains(extent.end) { stored.append(extent.end) }
    }

    private func delete(_ end: UInt64) { edit.delete(edit.scratch.key(fork | KeyLayout.forkSpace, .extent, end)) }

    private func mayRelease(_ segment: UInt64) -> Bool {
        released.count < segments || released.contains { $0.segment == segment }
    }

    private mutating func release(_ extent: Extent) {
        if let index = released.firstIndex(where: { $0.segment == extent.segment }) {
            released[index].length += extent.length
        } else {
            released.append((extent.segment, extent.length))
        }
    }
}

extension Editing {
    func release(_ segment: UInt64, _ length: UInt64) throws(Halt) {
        do throws(Missing) { try bare.release(segment: segment, length: length) } catch { throw .missing(error) }
    }

    func reference(_ range: SegmentRange, live: UInt64) throws(Halt) {
        do throws(Missing) { try bare.reference(range, live: live) } catch { throw .missing(error) }
    }

    /// Ranges of one segment.
    func reference(_ ranges: [SegmentRange], live: UInt64) throws(Halt) {
        guard let first = ranges.first else { return }
        try reference(first, live: live)
        for range in ranges.dropFirst() { bare.name(range) }
    }

    func share(_ segment: UInt64, _ length: UInt64) throws(Halt) {
        do throws(Missing) { try bare.share(segment: segment, length: length) } catch { throw .missing(error) }
    }
}

import Headhunter

/// A range of a file and where its bytes lie.
struct Extent: Equatable {
    var start: UInt64
    var end: UInt64
    var segment: UInt64
    var offset: UInt32

    static let size = 21

    init(start: UInt64, end: UInt64, segment: UInt64, offset: UInt32) {
        self.start = start
        self.end = end
        self.segment = segment
        self.offset = offset
    }

    init(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        self.init(end: key.keyNumber(), value)
    }

    init(end: UInt64, _ value: UnsafeRawBufferPointer) {
        precondition(value.count == Self.size && value[0] == KeyLayout.version, "an extent of another program")
        start = value.u64(1)
        self.end = end
        segment = value.u64(9)
        offset = value.u32(17)
        precondition(start < end, "an extent of no bytes")
    }

    var length: UInt64 { end - start }

    /// The part inside of [from, to).
    func clipped(_ from: UInt64, _ to: UInt64) -> Extent {
        let first = max(start, from)
        return Extent(
            start: first, end: min(end, to), segment: segment,
            offset: offset + UInt32(truncatingIfNeeded: first - start))
    }
}

/// Bytes of segments that a change gives up, together for each segment.
struct Releases {
    private(set) var list: [(segment: UInt64, length: UInt64)] = []
    var bytes: UInt64 { list.reduce(0) { $0 + $1.length } }

    mutating func add(_ segment: UInt64, _ length: UInt64) {
        if let index = list.firstIndex(where: { $0.segment == segment }) {
            list[index].length += length
        } else {
            list.append((segment, length))
        }
    }
}

extension Records {
    /// Extents that reach into [from, to), in order, at most `limit`.
    func extents(_ fork: UInt64, _ from: UInt64, _ to: UInt64, limit: Int) throws(Halt) -> [Extent] {
        var found: [Extent] = []
        guard from < to else { return found }
        let id = fork | KeyLayout.forkSpace
        try scan(from: scratch.key(id, .extent, from + 1), budget: limit) { key, value in
            guard key.isKey(id, .extent) else { return false }
            let extent = Extent(key, value)
            guard extent.start < to else { return false }
            found.append(extent)
            return true
        }
        return found
    }

    func extent(_ fork: UInt64, end: UInt64) throws(Halt) -> Extent? {
        try get(scratch.key(fork | KeyLayout.forkSpace, .extent, end)).map { Extent(end: end, $0) }
    }
}

extension Editing {
    func store(_ extent: Extent, of fork: UInt64) {
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(extent.start, at: 1)
        memory.put(extent.segment, at: 9)
        memory.put(extent.offset, at: 17)
        put(
            scratch.key(fork | KeyLayout.forkSpace, .extent, extent.end),
            UnsafeRawBufferPointer(start: memory, count: Extent.size))
    }

    func delete(extent end: UInt64, of fork: UInt64) { delete(scratch.key(fork | KeyLayout.forkSpace, .extent, end)) }

    /// Takes [from, to) out of a fork, as far as `budget` extents go. Answers up to where it is out.
    func cover(
        _ fork: UInt64, _ from: UInt64, _ to: UInt64, budget: inout Int, _ releases: inout Releases
    ) throws(Halt) -> UInt64 {
        let ends = try extents(fork, from, to, limit: budget + 1).map(\.end)
        for end in ends {
            // What this change has done to it already, the scan does not know.
            guard let extent = try extent(fork, end: end), extent.start < to else { continue }
            guard budget > 0 else { return max(from, extent.start) }
            budget -= 1
            let inside = extent.clipped(from, to)
            if extent.end > to { store(extent.clipped(to, extent.end), of: fork) } else { delete(extent: end, of: fork) }
            if extent.start < from { store(extent.clipped(extent.start, from), of: fork) }
            releases.add(inside.segment, inside.length)
        }
        return to
    }

    /// Puts an extent into a range that is free. One that goes on where the one before ends makes it longer.
    func insert(_ extent: Extent, into fork: UInt64) throws(Halt) {
        var extent = extent
        if let before = try self.extent(fork, end: extent.start), before.segment == extent.segment,
            UInt64(before.offset) + before.length == UInt64(extent.offset)
        {
            delete(extent: before.end, of: fork)
            extent = Extent(
                start: before.start, end: extent.end, segment: extent.segment, offset: before.offset)
        }
        store(extent, of: fork)
    }

    func release(_ releases: Releases) throws(Halt) {
        for (segment, length) in releases.list {
            do throws(Missing) { try bare.release(segment: segment, length: length) } catch { throw .missing(error) }
        }
    }

    func reference(_ range: SegmentRange) throws(Halt) {
        do throws(Missing) { try bare.reference(range) } catch { throw .missing(error) }
    }

    func share(_ extent: Extent) throws(Halt) {
        do throws(Missing) { try bare.share(segment: extent.segment, length: extent.length) } catch {
            throw .missing(error)
        }
    }
}

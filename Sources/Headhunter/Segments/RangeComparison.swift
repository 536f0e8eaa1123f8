import Bytes

/// Compares what the log says of ranges of a segment with the segment's bytes as they stream by, from its start on.
struct RangeComparison {
    private let ranges: [SegmentRange]
    private var next = 0
    private var open: [(range: SegmentRange, sum: CRC32C)] = []
    private var position: UInt64 = 0
    /// The first range that is not what the log says.
    private(set) var wrong: SegmentRange?

    init(_ ranges: [SegmentRange]) {
        // A range may be named often: by each file that shares it.
        self.ranges = Set(ranges).sorted { $0.offset < $1.offset }
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        let end = position + UInt64(bytes.count)
        while next < ranges.count, UInt64(ranges[next].offset) < end {
            open.append((ranges[next], CRC32C()))
            next += 1
        }
        for index in open.indices {
            let first = UInt64(open[index].range.offset)
            let last = first + UInt64(open[index].range.length)
            let part = Int(max(first, position) - position)..<Int(min(last, end) - position)
            open[index].sum.update(UnsafeRawBufferPointer(rebasing: bytes[part]))
        }
        open.removeAll { entry in
            guard UInt64(entry.range.offset) + UInt64(entry.range.length) <= end else { return false }
            if entry.sum.value != entry.range.checksum { wrong = wrong ?? entry.range }
            return true
        }
        position = end
    }

    /// The first range that is wrong, or that the bytes ended before.
    var missing: SegmentRange? { wrong ?? open.first?.range ?? (next < ranges.count ? ranges[next] : nil) }
}

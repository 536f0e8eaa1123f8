/// How long the last reads took, to tell which is late.
struct ReadLatencies {
    static let samplesMax = 128
    /// Fewer say nothing.
    static let samplesMin = 32
    /// Nothing that is faster is worth a second request.
    static let lateMinNanoseconds: UInt64 = 5_000_000

    private var samples: [UInt64] = []
    private var next = 0
    private var added = 0
    private var known: UInt64?

    mutating func add(_ nanoseconds: UInt64) {
        if samples.count < Self.samplesMax {
            samples.append(nanoseconds)
        } else {
            samples[next] = nanoseconds
            next = (next + 1) % Self.samplesMax
        }
        added += 1
        // Sorting is for now and then, not for each read.
        if added % Self.samplesMin == 0 { known = samples.sorted()[samples.count * 95 / 100] }
    }

    /// Half as much again as what 95 of 100 reads stay below, so that reads that all take the same are not late; nil: too
    /// few of them yet.
    var late: UInt64? { known.map { max($0 + $0 / 2, Self.lateMinNanoseconds) } }
}

/// How often what goes wrong. Odds are "once in"; 0 means never.
public struct FaultMix: Sendable {
    /// A sync that fails; what was not durable may be gone although it can still be read until the crash.
    public var failedSync = 0
    /// A read that fails with EIO.
    public var failedRead = 0
    /// A write that fails with ENOSPC although there is space.
    public var noSpace = 0
    /// A call of the pool that takes long.
    public var longDelay = 0
    /// A read that gives less than is there.
    public var partialRead = 0
    /// A write of which less is taken than there is room for.
    public var partialWrite = 0
    /// A segment that takes long: those behind it wait.
    public var slowSegment = 0
    /// A segment at which the connection breaks, for both ends.
    public var reset = 0
    /// A connection whose ends hear no more of each other, from its first segment on.
    public var halfOpen = 0
    /// A segment or datagram at which its two hosts lose each other for a while.
    public var partition = 0
    public var lostDatagram = 0
    public var duplicatedDatagram = 0
    public var reorderedDatagram = 0
    /// A call of the pool before which somebody sets the wall clock, up to a day forwards or backwards.
    public var clockJump = 0
    /// A call of the disk at which the power goes. Not in the default mix: what a run does after a crash its test
    /// decides, so the test says when (`Simulation.crashAtDiskCall`, or these odds).
    public var powerLoss = 0
    /// Unsynced writes may survive by sectors, or as blocks with old bytes in them; else whole or not at all.
    public var tornWrites = true

    public init() {}

    public static let none = FaultMix()
    public static let `default`: FaultMix = {
        var mix = FaultMix()
        mix.failedSync = 400
        mix.failedRead = 3_000
        mix.noSpace = 2_000
        mix.longDelay = 50
        mix.partialRead = 8
        mix.partialWrite = 8
        mix.slowSegment = 50
        mix.reset = 1_000
        mix.halfOpen = 200
        mix.partition = 2_000
        mix.lostDatagram = 20
        mix.duplicatedDatagram = 50
        mix.reorderedDatagram = 20
        mix.clockJump = 500
        return mix
    }()
}

/// How often it did.
public struct FaultCounts: Sendable, Equatable {
    public var failedSyncs = 0
    public var failedReads = 0
    public var noSpaces = 0
    public var longDelays = 0
    public var partialReads = 0
    public var partialWrites = 0
    public var slowSegments = 0
    public var resets = 0
    public var halfOpens = 0
    public var partitions = 0
    public var lostDatagrams = 0
    public var duplicatedDatagrams = 0
    public var reorderedDatagrams = 0
    public var clockJumps = 0
    public var crashes = 0
    public var lostWrites = 0
    public var tornWrites = 0
    public var survivedWrites = 0
    /// The size was on the disk, the bytes were not.
    public var staleBlocks = 0
    public var lostNames = 0
    public var survivedNames = 0
    /// Renames between directories after which both names were there.
    public var halfRenames = 0

    public init() {}

    public static func += (total: inout FaultCounts, more: FaultCounts) {
        for field in fields { total[keyPath: field.path] += more[keyPath: field.path] }
    }

    /// Each kind with its name, so that a test can ask for all of them.
    public static var fields: [(name: String, path: WritableKeyPath<FaultCounts, Int>)] {
        [
            ("failedSyncs", \.failedSyncs), ("failedReads", \.failedReads), ("noSpaces", \.noSpaces),
            ("longDelays", \.longDelays), ("partialReads", \.partialReads), ("partialWrites", \.partialWrites),
            ("slowSegments", \.slowSegments), ("resets", \.resets), ("halfOpens", \.halfOpens),
            ("partitions", \.partitions), ("lostDatagrams", \.lostDatagrams),
            ("duplicatedDatagrams", \.duplicatedDatagrams), ("reorderedDatagrams", \.reorderedDatagrams),
            ("clockJumps", \.clockJumps), ("crashes", \.crashes),
            ("lostWrites", \.lostWrites), ("tornWrites", \.tornWrites), ("survivedWrites", \.survivedWrites),
            ("staleBlocks", \.staleBlocks), ("lostNames", \.lostNames), ("survivedNames", \.survivedNames),
            ("halfRenames", \.halfRenames),
        ]
    }
}

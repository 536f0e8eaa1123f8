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
    /// At a crash an unsynced write survives whole, or in part by sectors, or not at all.
    public var tornWrites = true

    public init() {}

    public static let none = FaultMix()
    public static let `default`: FaultMix = {
        var mix = FaultMix()
        mix.failedSync = 400
        mix.noSpace = 2_000
        mix.longDelay = 50
        return mix
    }()
}

/// How often it did.
public struct FaultCounts: Sendable, Equatable {
    public var failedSyncs = 0
    public var failedReads = 0
    public var noSpaces = 0
    public var longDelays = 0
    public var crashes = 0
    public var lostWrites = 0
    public var tornWrites = 0
    public var survivedWrites = 0
    public var lostNames = 0
    public var survivedNames = 0

    public init() {}
}

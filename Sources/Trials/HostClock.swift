import Runtime
import Simulator

/// The clocks of one host of several in one run: they began at another time, tell another time of day, and do not go as fast as the others'.
public final class HostClock: WorldClock {
    /// Slower or faster than the run's, in thousandths at the most.
    private static let driftMax: UInt64 = 100
    private static let hour: Int64 = 3_600_000_000_000

    /// The run's own clock, the same for all hosts.
    let common: any WorldClock
    private let start: UInt64
    private let rate: UInt64
    private let ahead: Int64

    public init(_ clock: any WorldClock, seed: UInt64) {
        var random = Generator(seed: seed, stream: "clocks")
        common = clock
        start = random.next() >> 16
        rate = 1_000 - Self.driftMax + UInt64(random.below(Int(2 * Self.driftMax) + 1))
        ahead = Int64(random.below(7_200)) * (Self.hour / 3_600) - Self.hour
    }

    public func monotonic() -> UInt64 { start + common.monotonic() / 1_000 * rate }
    public func wall() -> Int64 { common.wall() + ahead }

    /// The world with these clocks in it.
    public func world(_ world: World) -> World {
        World(
            clock: self, random: world.random, disk: world.disk, network: world.network, blocking: world.blocking,
            loops: world.loops)
    }
}

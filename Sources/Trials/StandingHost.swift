import ObjectStore
import Runtime

/// One of two hosts of one run: from a certain call on its disk and its way to the store stand still, until they go on. Its clocks may be its own.
/// Belongs to one loop.
public final class StandingHost: BlockingPool, @unchecked Sendable {
    private let inner: World
    private let last: Int
    private let clock: any WorldClock
    private var calls = 0
    private var held: [() -> Void] = []
    public private(set) var stands = false

    /// It stands still at the call with the number `last`.
    public init(_ world: World, standsAt last: Int, clock: (any WorldClock)? = nil) {
        (inner, self.last, self.clock) = (world, last, clock ?? world.clock)
    }

    /// What runs on this host sees this one.
    public var world: World {
        World(
            clock: clock, random: inner.random, disk: inner.disk,
            network: inner.network, blocking: self, loops: inner.loops)
    }

    public func way(to store: any StoreTransport) -> any StoreTransport { Way(store, self) }

    public func stand() { stands = true }

    public func goOn() {
        (stands, calls) = (false, last)
        let ready = held
        held = []
        for go in ready { go() }
    }

    private func pass(_ go: @escaping () -> Void) {
        calls += 1
        if calls == last { stands = true }
        if stands { held.append(go) } else { go() }
    }

    public func submit(
        _ work: @escaping @Sendable () -> Void, then completion: @escaping @Sendable () -> Void, on loop: EventLoop
    ) {
        pass { self.inner.blocking.submit(work, then: completion, on: loop) }
    }

    public func linger(until isThere: () -> Bool) { inner.blocking.linger(until: isThere) }

    private final class Way: StoreTransport {
        private let store: any StoreTransport
        private let host: StandingHost

        init(_ store: any StoreTransport, _ host: StandingHost) { (self.store, self.host) = (store, host) }

        var capabilities: StoreCapabilities { store.capabilities }

        /// A request may stand still on its way, or its answer.
        func perform(_ request: StoreRequest) async -> StoreReply {
            await step()
            let reply = await store.perform(request)
            await step()
            return reply
        }

        private func step() async {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                host.pass { continuation.resume() }
            }
        }
    }
}

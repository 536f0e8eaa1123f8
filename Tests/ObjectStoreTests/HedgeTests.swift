import Bytes
import ObjectStore
import Runtime
import Simulator
import Testing

/// Reads that are late are asked for once more; what that may cost is bounded.
struct HedgeTests {
    private static let quick: UInt64 = 10_000_000
    private static let late: UInt64 = 2_000_000_000

    /// Answers each GET after the time that the test wants, with the number of the request.
    private final class Delayed: StoreTransport, @unchecked Sendable {
        let capabilities = StoreCapabilities(
            createIfAbsent: true, adoptsFiles: false, objectBytesMax: 1 << 20, listsConsistently: true)
        var delays: [(nanoseconds: UInt64, status: Int)] = []
        private(set) var requests = 0
        private(set) var canceled = 0
        let loop: EventLoop
        init(_ loop: EventLoop) { self.loop = loop }

        func perform(_ request: StoreRequest) async -> StoreReply {
            requests += 1
            let number = requests
            let (delay, status) = delays.isEmpty ? (HedgeTests.quick, 206) : delays.removeFirst()
            await loop.sleep(nanoseconds: delay)
            if Task.isCancelled { canceled += 1 }
            var reply = StoreReply(status: status)
            reply.size = 1
            reply.body = block([UInt8(truncatingIfNeeded: number)])
            return reply
        }
    }

    private func run(
        _ hedged: UInt64 = 50, _ body: @escaping @Sendable (ObjectStore, Delayed, World) async throws -> Void
    ) throws {
        try simulated { world in
            var options = ObjectStore.Options()
            options.hedgedOfHundred = hedged
            let transport = Delayed(world.loops[0])
            let store = ObjectStore(transport, world: world, loop: world.loops[0], options: options)
            // Enough of them to know what is late.
            for _ in 0..<64 { _ = try await store.get(name("a"), range: 0..<1) }
            try await body(store, transport, world)
        }
    }

    @Test func aLateReadIsAskedForOnceMore() throws {
        try run { store, transport, world in
            transport.delays = [(Self.late, 206)]
            let start = world.clock.monotonic()
            let found = try await store.get(name("a"), range: 0..<1).array
            #expect(found == [66])
            #expect(world.clock.monotonic() - start < 100_000_000)
            #expect(store.counters.hedges == 1 && store.counters.hedgesWon == 1 && store.counters.gets == 66)
            #expect(store.currentCounters == store.counters)
            // The one that lost is given up, and not waited for.
            await world.loops[0].sleep(nanoseconds: 2 * Self.late)
            #expect(transport.canceled == 1)
        }
    }

    @Test func theFirstMayStillWin() throws {
        try run { store, transport, _ in
            transport.delays = [(100_000_000, 206), (Self.late, 206)]
            let found = try await store.get(name("a"), range: 0..<1).array
            #expect(found == [65])
            #expect(store.counters.hedges == 1 && store.counters.hedgesWon == 0)
        }
    }

    @Test func aFailureWaitsForTheOther() throws {
        try run { store, transport, _ in
            transport.delays = [(100_000_000, 206), (Self.quick, 500)]
            let found = try await store.get(name("a"), range: 0..<1).array
            #expect(found == [65] && store.counters.retries == 0)
            transport.delays = [(100_000_000, 503), (200_000_000, 206)]
            let second = try await store.get(name("a"), range: 0..<1).array
            #expect(second == [68] && store.counters.retries == 0)
        }
    }

    /// One server of many that refuses says nothing of what the other one has; that there is nothing ends it.
    @Test func aRefusalWaitsForTheOther() throws {
        for status in [301, 401, 403, 409, 412, 429, 507, 404, 416] {
            try run { store, transport, _ in
                transport.delays = [(100_000_000, 206), (Self.quick, status)]
                let result = await outcome { () throws(StoreError) in try await store.get(name("a"), range: 0..<1) }
                #expect((result.failure == nil) == ![404, 416].contains(status), "\(status)")
                #expect(store.counters.hedges == 1 && store.counters.retries == 0, "\(status)")
            }
        }
    }

    @Test func theirShareIsBounded() throws {
        try run(5) { store, transport, _ in
            transport.delays = Array(repeating: (200_000_000, 206), count: 300)
            for _ in 0..<100 { _ = try await store.get(name("a"), range: 0..<1) }
            #expect(store.counters.hedges > 0 && store.counters.hedges * 100 <= store.counters.gets * 5)
        }
        try run(0) { store, transport, _ in
            transport.delays = [(Self.late, 206)]
            _ = try await store.get(name("a"), range: 0..<1)
            #expect(store.counters.hedges == 0)
        }
    }

    @Test func largeBodiesHaveMoreTime() throws {
        try simulated { world in
            var options = ObjectStore.Options()
            options.attemptNanoseconds = 1_000_000_000
            options.deadlineNanoseconds = 1_500_000_000
            options.promptBytes = 100
            options.bytesPerSecondMin = 100
            for (bytes, isGood) in [(100, false), (600, true)] {
                let script = Scripted()
                script.script = [
                    { _ in
                        await world.loops[0].sleep(nanoseconds: 4_000_000_000)
                        return StoreReply(status: 201)
                    }
                ]
                let store = ObjectStore(script, world: world, loop: world.loops[0], options: options)
                let body = block([UInt8](repeating: 1, count: bytes))
                let result = await outcome { () throws(StoreError) in
                    try await store.put(name("a"), .stream(Pieces([body.array]), size: UInt64(bytes)))
                }
                #expect((result.failure == nil) == isGood, "\(bytes)")
            }
        }
    }

    @Test func requestsHaveAPrice() {
        var counters = ObjectStore.Counters()
        (counters.puts, counters.gets, counters.heads, counters.deletes, counters.lists) = (1_000, 2_000, 500, 9, 100)
        let prices = StorePrices(put: 5_000, get: 400, head: 400, delete: 0, list: 5_000)
        #expect(prices.price(of: counters) == 5_000 + 800 + 200 + 500)
        counters.puts = .max
        #expect(prices.price(of: counters) == .max)
    }
}

import ObjectStore
import Runtime
import Transfer

/// A store that takes a token for some time, and a client that renews it as the real ones do: before its end where that is told, and
/// when it is no longer taken. Belongs to one loop.
package final class TokenStore: StoreTransport, @unchecked Sendable {
    /// How tokens were given, or not taken any more.
    package struct Counts: Sendable {
        package var given = 0
        package var refused = 0
        /// Fetched while the one before was still good.
        package var early = 0
    }

    private final class Server: @unchecked Sendable {
        var newest: UInt64 = 0
        var end: UInt64 = 0
        var isRefused = false
        var counts = Counts()
    }

    private static let lifeMax: UInt64 = 400_000_000
    /// Of one whose end is told, in seconds.
    private static let toldLifeMax: UInt64 = 6
    private let store: any StoreTransport
    private let loop: EventLoop
    private let server = Server()
    private let tokens: Renewal<UInt64>

    package init(_ store: any StoreTransport, _ world: World) {
        let (server, loop, random, clock) = (server, world.loops[0], world.random, world.clock)
        (self.store, self.loop) = (store, loop)
        tokens = Renewal(clock: world.clock, loop: loop) {
            await loop.sleep(nanoseconds: random.next() % 10_000_000)
            // It may have no token to give for a moment.
            guard random.next() % 8 > 0 else {
                return .failure(StoreProblem(tried: "a token", answer: "503", advice: "try again"))
            }
            server.counts.given += 1
            if !server.isRefused, server.newest > 0, loop.now < server.end { server.counts.early += 1 }
            server.isRefused = false
            server.newest += 1
            guard random.next() % 2 == 0 else {
                server.end = loop.now + random.next() % Self.lifeMax
                return .success((server.newest, nil))
            }
            let seconds = 2 + random.next() % Self.toldLifeMax
            server.end = loop.now + seconds * 1_000_000_000
            return .success((server.newest, clock.wall() / 1_000_000_000 + Int64(seconds)))
        }
    }

    package var capabilities: StoreCapabilities { store.capabilities }
    package var counts: Counts { server.counts }

    package func perform(_ request: StoreRequest) async -> StoreReply {
        for _ in 0..<2 {
            let token: UInt64
            do throws(StoreProblem) { token = try await tokens.current() } catch {
                return StoreReply(status: StoreReply.noAnswer)
            }
            if token == server.newest, loop.now < server.end { return await store.perform(request) }
            server.counts.refused += 1
            server.isRefused = true
            tokens.refuse { $0 == token }
        }
        return StoreReply(status: 401)
    }
}

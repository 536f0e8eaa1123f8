import ObjectStore
import Runtime

/// A store as OpenStack Swift is one: it looks at a condition when a request begins, and of two that go on side by side the last one stays, while both
/// are told that they made the name.
package final class LastWriterStore: StoreTransport {
    private let store: any StoreTransport
    private let loop: EventLoop
    private let random: any RandomSource
    private static let pauseMax: UInt64 = 50_000_000

    package init(_ store: any StoreTransport, loop: EventLoop, random: any RandomSource) {
        (self.store, self.loop, self.random) = (store, loop, random)
    }

    package var capabilities: StoreCapabilities {
        var capabilities = store.capabilities
        capabilities.createIfAbsent = false
        capabilities.listsConsistently = false
        return capabilities
    }

    package func perform(_ request: StoreRequest) async -> StoreReply {
        guard case .object(let name, .put(let body, .absent)) = request.kind else {
            return await store.perform(request)
        }
        let there = await store.perform(StoreRequest(.object(name, .head)))
        guard there.status == 404 else { return there.status / 100 == 2 ? StoreReply(status: 412) : there }
        await loop.sleep(nanoseconds: random.next() % Self.pauseMax)
        return await store.perform(StoreRequest(.object(name, .put(body, .always))))
    }
}

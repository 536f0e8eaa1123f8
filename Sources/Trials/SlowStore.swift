import ObjectStore
import Runtime

/// A store every request of which takes as long.
package final class SlowStore: StoreTransport {
    private let store: any StoreTransport
    private let loop: EventLoop
    private let nanoseconds: UInt64

    package init(_ store: any StoreTransport, loop: EventLoop, nanoseconds: UInt64) {
        self.store = store
        self.loop = loop
        self.nanoseconds = nanoseconds
    }

    package var capabilities: StoreCapabilities { store.capabilities }

    package func perform(_ request: StoreRequest) async -> StoreReply {
        await loop.sleep(nanoseconds: nanoseconds)
        return await store.perform(request)
    }
}

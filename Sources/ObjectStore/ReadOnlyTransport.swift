import Runtime

/// A store that is only read: nothing that would change it gets through.
public final class ReadOnlyTransport: StoreTransport {
    private let store: any StoreTransport
    private let refusals = Guarded(0)

    public init(_ store: any StoreTransport) { self.store = store }

    public var capabilities: StoreCapabilities { store.capabilities }
    public var sent: ObjectStore.Sent? { store.sent }
    /// Requests that did not get through.
    public var refused: Int { refusals.withLock { $0 } }

    public func now(_ request: StoreRequest) -> StoreReply? { store.now(request) }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        switch request.kind {
        case .list, .object(_, .get), .object(_, .head): return await store.perform(request)
        case .object(let name, .put), .object(let name, .delete):
            refusals.withLock { $0 += 1 }
            var reply = StoreReply(status: 403)
            reply.reason = "\(name): this server reads the store, and changes nothing there"
            return reply
        }
    }
}

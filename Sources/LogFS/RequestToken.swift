import Headhunter

/// Names a request that may come again: after a lost reply, a restart or a failover it gets its first answer.
///
/// The result is stored by the change that it is the result of: `token` holds the digest (u64) and the result, a
/// number (u64). A client keeps so many; the oldest go first.
public struct RequestToken: Hashable, Sendable {
    public var client: UInt64
    public var id: UInt64
    /// Of the request's content: another request under the same id is refused.
    public var digest: UInt64

    /// Results kept for one client.
    public static let perClientMax: UInt64 = 64

    public init(client: UInt64, id: UInt64, digest: UInt64) {
        self.client = client
        self.id = id
        self.digest = digest
    }
}

extension Editing {
    /// What the same request was answered before.
    func answer(_ request: Request) throws(Halt) -> UInt64? {
        guard let token = request.token else { return nil }
        guard let value = try get(scratch.key(0, .token, token.client, token.id)) else { return nil }
        guard value.u64(1) == token.digest else { throw .refused(.tokenReused) }
        return value.u64(9)
    }

    func remember(_ request: Request, _ result: UInt64) throws(Halt) {
        guard let token = request.token else { return }
        var oldest: UInt64 = 0
        var next: UInt64 = 0
        if let value = try get(scratch.key(0, .tokenClient, token.client)) {
            oldest = value.u64(1)
            next = value.u64(9)
        }
        if next - oldest >= RequestToken.perClientMax {
            if let id = try get(scratch.key(0, .tokenAge, token.client, oldest))?.u64(1) {
                delete(scratch.key(0, .token, token.client, id))
            }
            delete(scratch.key(0, .tokenAge, token.client, oldest))
            oldest += 1
        }
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(token.digest, at: 1)
        memory.put(result, at: 9)
        memory.put(request.now, at: 17)
        put(scratch.key(0, .token, token.client, token.id), UnsafeRawBufferPointer(start: memory, count: 25))
        memory.put(token.id, at: 1)
        memory.put(request.now, at: 9)
        put(scratch.key(0, .tokenAge, token.client, next), UnsafeRawBufferPointer(start: memory, count: 17))
        memory.put(oldest, at: 1)
        memory.put(next + 1, at: 9)
        put(scratch.key(0, .tokenClient, token.client), UnsafeRawBufferPointer(start: memory, count: 17))
    }
}

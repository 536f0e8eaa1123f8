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

    /// Results kept for one client: as many as it may have under way when the server ends, over two connections.
    public static let perClientMax: UInt64 = 512
    /// Results are kept at least this long, but for those that were too many.
    public static let ageNanosecondsMax: Int64 = 600_000_000_000

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
        guard let value = try get(scratch.key(0, .token, token.client, token.id)) else {
            if request.isRepeat { throw .refused(.tokenForgotten) }
            return nil
        }
        guard let answer = TokenResult(value) else { throw .wrong(0, .token) }
        guard answer.digest == token.digest else { throw .refused(.tokenReused) }
        return answer.result
    }

    func remember(_ request: Request, _ result: UInt64) throws(Halt) {
        guard let token = request.token else { return }
        var span = try tokens(of: token.client) ?? TokenSpan()
        if span.next - span.oldest >= RequestToken.perClientMax {
            if let age = try tokenAge(token.client, span.oldest) {
                delete(scratch.key(0, .token, token.client, age.id))
            }
            delete(scratch.key(0, .tokenAge, token.client, span.oldest))
            span.oldest += 1
        }
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(token.digest, at: 1)
        memory.put(result, at: 9)
        memory.put(request.now, at: 17)
        put(scratch.key(0, .token, token.client, token.id), UnsafeRawBufferPointer(start: memory, count: 25))
        memory.put(token.id, at: 1)
        memory.put(request.now, at: 9)
        put(scratch.key(0, .tokenAge, token.client, span.next), UnsafeRawBufferPointer(start: memory, count: 17))
        storeTokens(of: token.client, oldest: span.oldest, next: span.next + 1)
    }

    fileprivate func tokens(of client: UInt64) throws(Halt) -> TokenSpan? {
        guard let value = try get(scratch.key(0, .tokenClient, client)) else { return nil }
        guard let span = TokenSpan(value) else { throw .wrong(0, .tokenClient) }
        return span
    }

    fileprivate func tokenAge(_ client: UInt64, _ serial: UInt64) throws(Halt) -> TokenAge? {
        guard let value = try get(scratch.key(0, .tokenAge, client, serial)) else { return nil }
        guard let age = TokenAge(value) else { throw .wrong(0, .tokenAge) }
        return age
    }

    fileprivate func storeTokens(of client: UInt64, oldest: UInt64, next: UInt64) {
        let memory = scratch.value
        memory.put(KeyLayout.version, at: 0)
        memory.put(oldest, at: 1)
        memory.put(next, at: 9)
        put(scratch.key(0, .tokenClient, client), UnsafeRawBufferPointer(start: memory, count: 17))
    }
}

extension LogFS {
    /// Clients of one step, and results that one of them loses with it.
    private static let expiredPerStep = 16

    /// Forgets results that are too old, of the first client from `client` on. Answers the client to go on with; nil:
    /// there was none.
    public func expireTokens(_ request: Request, from client: UInt64) -> Attempt<UInt64?> {
        change(request.reader) { (edit) throws(Halt) -> UInt64? in
            guard let client = try edit.numbers(.tokenClient, from: client, limit: 1).first,
                let span = try edit.tokens(of: client)
            else { return nil }
            let (first, next) = (span.oldest, span.next)
            var oldest = first
            while oldest < next, oldest - first < UInt64(Self.expiredPerStep) {
                guard let age = try edit.tokenAge(client, oldest) else { break }
                // A clock that was set back keeps them longer.
                let passed = request.now.subtractingReportingOverflow(age.time)
                guard request.now > age.time, passed.overflow || passed.partialValue > RequestToken.ageNanosecondsMax
                else {
                    break
                }
                edit.delete(edit.scratch.key(0, .token, client, age.id))
                edit.delete(edit.scratch.key(0, .tokenAge, client, oldest))
                oldest += 1
            }
            if oldest == next {
                edit.delete(edit.scratch.key(0, .tokenClient, client))
            } else if oldest > first {
                edit.storeTokens(of: client, oldest: oldest, next: next)
            }
            if oldest > first, oldest < next { return client }
            return client < .max ? client + 1 : nil
        }
    }
}

import Runtime

/// The requests that are being carried out: a copy of one that comes meanwhile waits for its end, and then asks what became of it.
package final class RequestTurns: Sendable {
    /// Copies of one request that wait. Clients send theirs again after many seconds, so this is far beyond what they do.
    package static let copiesMax = 64

    private struct Key: Hashable {
        var client: UInt64
        var id: UInt64

        init(_ token: RequestToken) { (client, id) = (token.client, token.id) }
    }

    /// Those who wait, by what they wait for.
    private let underWay = Guarded<[Key: [UnsafeContinuation<Bool, Never>]]>([:])

    package init() {}

    /// False: the same request is being carried out. Who got true calls `end`.
    package func begin(_ token: RequestToken) -> Bool {
        underWay.withLock { all in
            let key = Key(token)
            guard all[key] == nil else { return false }
            all[key] = []
            return true
        }
    }

    package func end(_ token: RequestToken) {
        let copies = underWay.withLock { $0.removeValue(forKey: Key(token)) } ?? []
        for copy in copies { copy.resume(returning: true) }
    }

    /// The end of the same request, if it is being carried out.
    package func lack(_ token: RequestToken) -> Lack? {
        guard underWay.withLock({ $0[Key(token)] != nil }) else { return nil }
        return Lack { [self] () async throws(FileError) in try await ended(token) }
    }

    /// Runs `body` while no copy of the request is carried out.
    package func alone<Value>(
        _ token: RequestToken, _ body: () async throws(FileError) -> Value
    ) async throws(FileError) -> Value {
        while !begin(token) { try await ended(token) }
        defer { end(token) }
        return try await body()
    }

    private func ended(_ token: RequestToken) async throws(FileError) {
        let mayGoOn = await withUnsafeContinuation { (continuation: UnsafeContinuation<Bool, Never>) in
            let now = underWay.withLock { all -> Bool? in
                guard let copies = all[Key(token)] else { return true }
                guard copies.count < Self.copiesMax else { return false }
                all[Key(token)]?.append(continuation)
                return nil
            }
            if let now { continuation.resume(returning: now) }
        }
        guard mayGoOn else { throw .delay }
    }
}

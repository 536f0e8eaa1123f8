import Bytes
import ObjectStore
import Runtime

/// A store whose conditional creates, and listings of the names that these are about, an arbiter decides.
///
/// An object with such a name is stored under a name of its own, `NAME.TOKEN`, with a token that nobody else draws; then the arbiter is
/// asked to give the name that token. Who reads or lists the name asks the arbiter. So a store in which the last writer wins, and whose
/// listings lag behind, serves as one that creates in one step. All other names go to the store as they are.
public final class ArbitratedStore: StoreTransport {
    private let store: any StoreTransport
    private let arbiter: any Arbiter
    private let random: any RandomSource
    private let decides: @Sendable (ObjectName) -> Bool

    /// `decides`: which names the arbiter decides; by their last part but one alone, so that a listing below it is of one kind.
    public init(
        _ store: any StoreTransport, arbiter: any Arbiter, random: any RandomSource,
        decides: @escaping @Sendable (ObjectName) -> Bool
    ) {
        (self.store, self.arbiter, self.random, self.decides) = (store, arbiter, random, decides)
    }

    public var capabilities: StoreCapabilities {
        var capabilities = store.capabilities
        capabilities.createIfAbsent = true
        capabilities.listsConsistently = true
        return capabilities
    }

    public func now(_ request: StoreRequest) -> StoreReply? {
        if case .object(let name, _) = request.kind, decides(name) { return nil }
        return store.now(request)
    }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        do throws(ArbiterFailure) {
            switch request.kind {
            case .object(let name, let verb):
                guard decides(name) else {
                    if verb.isDelete, let stored = Stored(name), decides(stored.name) {
                        return try await deleteStored(stored, request)
                    }
                    return await store.perform(request)
                }
                return try await decided(name, verb, request)
            case .list(let prefix, let after, let limit):
                guard isDecided(below: prefix) else { return await store.perform(request) }
                return try await list(prefix, after, limit)
            }
        } catch {
            var reply = StoreReply(status: error.isDenied ? 403 : StoreReply.noAnswer)
            reply.reason = "the arbiter: \(error.reason)"
            return reply
        }
    }

    private func isDecided(below prefix: String) -> Bool {
        prefix.hasSuffix("/") && ObjectName(prefix + "0").map(decides) ?? false
    }

    // MARK: Names that are decided

    private func decided(
        _ name: ObjectName, _ verb: StoreRequest.Verb, _ request: StoreRequest
    ) async throws(ArbiterFailure) -> StoreReply {
        switch verb {
        case .put(let body, let condition):
            let stored = Stored(name, token: random.next(), size: body.size)
            guard let own = stored.object else { return Self.failed(400, "\(name) is too long") }
            let reply = await store.perform(request.about(.object(own, .put(body, .always))))
            guard [200, 201, 204].contains(reply.status) else { return reply }
            guard condition == .absent else {
                let before = try await self.stored(name)?.object
                try await arbiter.set(name.text, stored.value)
                if let before { _ = await store.perform(request.about(.object(before, .delete))) }
                return reply
            }
            guard try await arbiter.claim(name.text, stored.value) == stored.value else {
                // Nobody will ever read it; if it stays, it takes room, and no more.
                _ = await store.perform(request.about(.object(own, .delete)))
                return Self.failed(412, "\(name) is another's")
            }
            return reply
        case .get:
            guard let object = try await stored(name)?.object else { return Self.failed(404, "") }
            return await store.perform(request.about(.object(object, verb)))
        case .head:
            guard let stored = try await stored(name) else { return Self.failed(404, "") }
            var reply = StoreReply(status: 200)
            reply.size = stored.size
            return reply
        case .delete:
            guard let stored = try await stored(name), let object = stored.object else { return Self.failed(404, "") }
            let reply = await store.perform(request.about(.object(object, .delete)))
            guard [200, 202, 204, 404].contains(reply.status) else { return reply }
            try await arbiter.remove(name.text)
            return reply
        }
    }

    private func stored(_ name: ObjectName) async throws(ArbiterFailure) -> Stored? {
        guard let value = try await arbiter.value(of: name.text) else { return nil }
        guard let stored = Stored(name, value: value) else {
            throw ArbiterFailure("\(name) has a value of somebody else's")
        }
        return stored
    }

    private func list(
        _ prefix: String, _ after: String?, _ limit: Int
    ) async throws(ArbiterFailure) -> StoreReply {
        let page = try await arbiter.values(prefix: prefix, after: after, limit: limit)
        var reply = StoreReply(status: 200)
        reply.truncated = page.isTruncated
        for (text, value) in page.entries {
            guard let name = ObjectName(text), let stored = Stored(name, value: value) else {
                throw ArbiterFailure("\(text) has a value of somebody else's")
            }
            reply.entries.append(ListEntry(name: name, size: stored.size))
        }
        return reply
    }

    /// By the name that it has in the store: of a volume that is deleted as a whole.
    private func deleteStored(_ stored: Stored, _ request: StoreRequest) async throws(ArbiterFailure) -> StoreReply {
        let reply = await store.perform(request)
        guard [200, 202, 204, 404].contains(reply.status) else { return reply }
        if let current = try await self.stored(stored.name), current.token == stored.token {
            try await arbiter.remove(stored.name.text)
        }
        return reply
    }

    // MARK: Being there

    /// Nil: the arbiter answers, and knows the volume below `prefix` if the store has one.
    public func verify(prefix: String) async -> ArbiterFailure? {
        do throws(ArbiterFailure) {
            guard try await arbiter.values(prefix: prefix, after: nil, limit: 1).entries.isEmpty else { return nil }
            let reply = await store.perform(StoreRequest(.list(prefix: prefix, after: nil, limit: Self.lookedAt)))
            guard reply.status == 200 || reply.status == 204 else { return nil }
            let lost = reply.entries.first { entry in
                Self.isVolume(entry.name) { decides($0) }
            }
            return lost.map {
                ArbiterFailure(
                    "it knows nothing of this volume, but the store has \($0.name): it is another arbiter, or its data is lost, or the "
                        + "volume was made without one")
            }
        } catch { return error }
    }

    private static let lookedAt = 1_000

    /// Behind the last object of a volume: whatever the arbiter still has of it.
    public func forget(prefix: String) async {
        do throws(ArbiterFailure) {
            while case let left = try await arbiter.values(prefix: prefix, after: nil, limit: Self.lookedAt).entries,
                !left.isEmpty
            {
                for entry in left { try await arbiter.remove(entry.name) }
            }
        } catch {
            // It is asked again when something is made there.
        }
    }

    private static func isVolume(_ name: ObjectName, _ decides: (ObjectName) -> Bool) -> Bool {
        decides(name) || Stored(name).map { decides($0.name) } ?? false
    }

    private static func failed(_ status: Int, _ reason: String) -> StoreReply {
        var reply = StoreReply(status: status)
        reply.reason = reason
        return reply
    }

    /// What the arbiter has of a name, `TOKEN SIZE`, and where its object is.
    private struct Stored {
        let name: ObjectName
        let token: String
        let size: UInt64

        init(_ name: ObjectName, token: UInt64, size: UInt64) {
            let digits = String(token, radix: 16)
            (self.name, self.size) = (name, size)
            self.token = String(repeating: "0", count: 16 - digits.count) + digits
        }

        init?(_ name: ObjectName, value: String) {
            let parts = value.split(separator: " ", omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0].utf8.count == 16, let size = UInt64(parts[1]) else { return nil }
            (self.name, token, self.size) = (name, String(parts[0]), size)
        }

        /// By the object's own name.
        init?(_ object: ObjectName) {
            guard let dot = object.text.lastIndex(of: "."), let name = ObjectName(String(object.text[..<dot])) else {
                return nil
            }
            (self.name, token, size) = (name, String(object.text[object.text.index(after: dot)...]), 0)
            guard token.utf8.count == 16 else { return nil }
        }

        var value: String { "\(token) \(size)" }
        var object: ObjectName? { ObjectName("\(name).\(token)") }
    }
}

extension StoreRequest {
    fileprivate func about(_ kind: Kind) -> StoreRequest {
        var request = self
        request.kind = kind
        return request
    }
}

extension StoreRequest.Verb {
    fileprivate var isDelete: Bool { if case .delete = self { true } else { false } }
}

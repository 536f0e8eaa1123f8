import Bytes
import Crypto
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
    /// Sent, and the arbiter has not answered for them: the same bytes go to the same object again.
    private let undecided = Guarded<[ObjectName: Undecided]>([:])
    /// Tokens of which the arbiter is still to be asked.
    private let sending = Guarded<Set<String>>([])

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

    /// Questions to the arbiter are no requests to the store.
    public var sent: ObjectStore.Sent? { store.sent }

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
            return try await put(name, body, condition, request)
        case .get:
            guard let object = try await stored(name)?.object else { return Self.failed(404, "") }
            let reply = await store.perform(request.about(.object(object, verb)))
            // One of the store's copies may be behind; what is deleted loses its name as well.
            if reply.status == 404, try await stored(name) != nil {
                return Self.failed(503, "the store has no \(object) yet")
            }
            return reply
        case .head:
            guard let stored = try await stored(name) else { return Self.failed(404, "") }
            var reply = StoreReply(status: 200)
            reply.size = stored.size
            return reply
        case .delete:
            guard let stored = try await stored(name), let object = stored.object else { return Self.failed(404, "") }
            let reply = await store.perform(request.about(.object(object, .delete)))
            guard [200, 202, 204, 404].contains(reply.status) else { return reply }
            try await arbiter.remove(name.text, stored.value)
            return reply
        }
    }

    /// The arbiter is asked first: nothing is sent for a name that is taken, or while nobody can be asked about it.
    private func put(
        _ name: ObjectName, _ body: ObjectBody, _ condition: PutCondition, _ request: StoreRequest
    ) async throws(ArbiterFailure) -> StoreReply {
        let before = try await self.stored(name)
        let last = undecided.withLock { $0[name] }
        let isAgain = last.map { $0.digest == Self.digest(body) } ?? false
        if condition == .absent, let before {
            undecided.withLock { $0[name] = nil }
            if let last, last.stored.token == before.token, isAgain { return StoreReply(status: 201) }
            if let last, last.stored.token != before.token { await drop(last.stored, request) }
            return Self.failed(412, "\(name) is another's")
        }
        var stored = Stored(name, token: random.next(), size: body.size)
        if isAgain, let last { stored = last.stored }
        guard let own = stored.object else { return Self.failed(400, "\(name) is too long") }
        let token = stored.token
        _ = sending.withLock { $0.insert(token) }
        defer { _ = sending.withLock { $0.remove(token) } }
        let reply = await store.perform(request.about(.object(own, .put(body, .always))))
        guard [200, 201, 204].contains(reply.status) else {
            keep(stored, body)
            return reply
        }
        let found: String
        do throws(ArbiterFailure) {
            switch condition {
            case .absent: found = try await arbiter.claim(name.text, stored.value)
            case .always:
                try await arbiter.set(name.text, stored.value)
                found = stored.value
            }
        } catch {
            // Nobody knows whether it counts: it stays.
            keep(stored, body)
            throw error
        }
        undecided.withLock { $0[name] = nil }
        guard found == stored.value else {
            // Nobody will ever read it; if it stays, it takes room, and no more.
            await drop(stored, request)
            return Self.failed(412, "\(name) is another's")
        }
        if let before, before.token != stored.token { await drop(before, request) }
        return reply
    }

    private static let undecidedMax = 256

    private func keep(_ stored: Stored, _ body: ObjectBody) {
        guard let digest = Self.digest(body) else { return }
        undecided.withLock { undecided in
            // Without it a try more leaves one object more.
            if undecided.count >= Self.undecidedMax, undecided[stored.name] == nil {
                undecided.remove(at: undecided.startIndex)
            }
            undecided[stored.name] = Undecided(stored: stored, digest: digest)
        }
    }

    private func drop(_ stored: Stored, _ request: StoreRequest) async {
        guard let object = stored.object else { return }
        _ = await store.perform(request.about(.object(object, .delete)))
    }

    /// Nil: of bytes that are not at hand.
    private static func digest(_ body: ObjectBody) -> [UInt8]? {
        guard case .blocks(let blocks) = body else { return nil }
        let digest = Digest(.sha256)
        for block in blocks {
            digest.update(block.bytes)
            extendLifetime(block)
        }
        return digest.finish()
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
            try await arbiter.remove(stored.name.text, current.value)
        }
        return reply
    }

    // MARK: Being there

    /// Nil: the arbiter answers, and knows the volume below `prefix` if the store has one, up to its newest header. Headers
    /// are numbered below `headers`, in hexadecimal digits. A store that does not tell is a failure, too.
    public func verify(prefix: String, headers: String) async -> ArbiterFailure? {
        do throws(ArbiterFailure) {
            let last = try await all(headers).last
            if let failure = try await foreign(last) { return failure }
            let known = last?.name
            var below = headers
            if known == nil, try await arbiter.values(prefix: prefix, after: nil, limit: 1).entries.isEmpty {
                below = prefix
            }
            // Behind all objects of the newest one that is known.
            let reply = await store.perform(
                StoreRequest(.list(prefix: below, after: known.map { $0 + "/" }, limit: Self.lookedAt)))
            guard [200, 204, 404].contains(reply.status) else {
                throw ArbiterFailure("the store does not tell what it has: \(reply.status) \(reply.reason)")
            }
            guard reply.entries.contains(where: { isUnknown($0.name, headers, known) }) else { return nil }
            // Asked again: an owner that is alive has gone on meanwhile.
            let newest = try await all(headers).last?.name
            for entry in reply.entries.reversed() where isUnknown(entry.name, headers, newest) {
                // A listing may have what is deleted.
                let there = await store.perform(StoreRequest(.object(entry.name, .head)))
                if there.status == 404 { continue }
                guard [200, 204].contains(there.status) else {
                    throw ArbiterFailure("the store answered \(there.status) for \(entry.name)")
                }
                let what = newest.map { "no header behind \($0)" } ?? "nothing of this volume"
                return ArbiterFailure(
                    "it knows \(what), but the store has \(entry.name): it is another arbiter, or its data is lost or "
                        + "of an earlier time, or the volume was made without one")
            }
            return nil
        } catch { return error }
    }

    /// Names that an arbiter has from somewhere else lead to nothing here.
    private func foreign(_ newest: (name: String, value: String)?) async throws(ArbiterFailure) -> ArbiterFailure? {
        guard let newest, let name = ObjectName(newest.name), let stored = Stored(name, value: newest.value),
            let object = stored.object
        else { return nil }
        let reply = await store.perform(StoreRequest(.object(object, .head)))
        guard reply.status == 404, try await self.stored(name)?.token == stored.token else { return nil }
        return ArbiterFailure(
            "it says that \(object) is there, and the store has none: does another store of the same address use this "
                + "arbiter? Then give each an arbiter_prefix of its own")
    }

    private static let lookedAt = 1_000

    /// Whether an arbiter whose newest header this is should know more. One header may have been on its way when its owner ended.
    private func isUnknown(_ object: ObjectName, _ headers: String, _ newest: String?) -> Bool {
        let stored = Stored(object)?.name
        guard let name = decides(object) ? object : stored, decides(name) else { return false }
        guard let newest else { return true }
        guard name.text.hasPrefix(headers), let number = Self.number(name.text) else { return false }
        return number > (Self.number(newest) ?? 0) + 1
    }

    private static func number(_ name: String) -> UInt64? {
        name.split(separator: "/").last.flatMap { UInt64($0, radix: 16) }.flatMap { $0 < .max ? $0 : nil }
    }

    private func all(_ prefix: String) async throws(ArbiterFailure) -> [(name: String, value: String)] {
        var all: [(name: String, value: String)] = []
        while true {
            let page = try await arbiter.values(prefix: prefix, after: all.last?.name, limit: Self.lookedAt)
            all += page.entries
            guard page.isTruncated, !page.entries.isEmpty else { return all }
        }
    }

    /// Behind the last object of a volume: whatever the arbiter has of it now. What comes later is somebody's who is alive.
    public func forget(prefix: String) async throws(ArbiterFailure) {
        for entry in try await all(prefix) { try await arbiter.remove(entry.name, entry.value) }
    }

    /// Deletes what tries left that got no name: objects of the kind below `folder` with numbers behind the newest one. Best effort.
    public func collect(below folder: String) async {
        do throws(ArbiterFailure) {
            let known = try await all(folder)
            guard let newest = known.last.flatMap({ Self.number($0.name) }) else { return }
            var after: String?
            while true {
                let page = await store.perform(StoreRequest(.list(prefix: folder, after: after, limit: Self.lookedAt)))
                guard page.status == 200 || page.status == 204 else { return }
                for entry in page.entries {
                    guard let tried = Stored(entry.name), decides(tried.name),
                        let number = Self.number(tried.name.text),
                        number < newest, !isOnItsWay(tried), let current = try await stored(tried.name),
                        // A name that is free may still become this one's.
                        current.token != tried.token
                    else { continue }
                    _ = await store.perform(StoreRequest(.object(entry.name, .delete)))
                }
                guard page.truncated, let last = page.entries.last else { return }
                after = last.name.text
            }
        } catch {
            // They are found again at the next opening.
            return
        }
    }

    private func isOnItsWay(_ tried: Stored) -> Bool {
        sending.withLock { $0.contains(tried.token) }
            || undecided.withLock { $0[tried.name]?.stored.token == tried.token }
    }

    private static func failed(_ status: Int, _ reason: String) -> StoreReply {
        var reply = StoreReply(status: status)
        reply.reason = reason
        return reply
    }

    private struct Undecided {
        var stored: Stored
        var digest: [UInt8]
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

import Bytes
import Runtime

/// How often a store goes wrong. Odds are "once in"; 0 means never.
public struct StoreFaults: Sendable {
    /// Every request takes up to this long before it is applied, and again until its answer is there.
    public var latencyNanoseconds: UInt64 = 0
    /// A request that takes `longDelayNanoseconds` more.
    public var longDelay = 0
    public var longDelayNanoseconds: UInt64 = 2_000_000_000
    /// No answer; the request was not applied.
    public var lostRequest = 0
    /// No answer; the request was applied.
    public var lostReply = 0
    /// 500, applied or not.
    public var failure = 0
    /// 503, not applied, with a time to wait.
    public var unavailable = 0
    /// 429 for all requests of `throttleNanoseconds`.
    public var throttle = 0
    public var throttleNanoseconds: UInt64 = 300_000_000
    /// 202 for a PUT that is then as good as lost.
    public var accepted = 0
    /// 409 for a conditional PUT, not applied.
    public var conflict = 0
    /// 412 for a conditional PUT that was applied: somebody between us and the store sent it twice.
    public var duplicated = 0
    /// No answer for `hangNanoseconds`; applied at its end, or not.
    public var hang = 0
    public var hangNanoseconds: UInt64 = 120_000_000_000
    /// A body of which the end is missing.
    public var cutBody = 0
    /// A listing as it was up to `staleNanoseconds` ago: what was put since is missing, what was deleted is there.
    public var staleListing = 0
    public var staleNanoseconds: UInt64 = 1_000_000_000

    public init() {}

    public static let none = StoreFaults()
    /// What a client has to live with. Not in it: duplicated requests, after which nobody can tell whose an object is,
    /// and stale listings, which a store has or has not.
    public static let `default`: StoreFaults = {
        var faults = StoreFaults()
        faults.latencyNanoseconds = 20_000_000
        faults.longDelay = 50
        faults.lostRequest = 40
        faults.lostReply = 40
        faults.failure = 40
        faults.unavailable = 60
        faults.throttle = 200
        faults.accepted = 300
        faults.conflict = 40
        faults.hang = 400
        faults.cutBody = 60
        return faults
    }()
}

/// A store that goes wrong in every way that stores do, by a seed. Belongs to one loop.
public final class FaultyTransport: StoreTransport, @unchecked Sendable {
    public struct Counts: Sendable, Equatable {
        public var requests = 0
        public var longDelays = 0
        public var lostRequests = 0
        public var lostReplies = 0
        public var failures = 0
        public var unavailables = 0
        public var throttles = 0
        public var accepteds = 0
        public var conflicts = 0
        public var duplicates = 0
        public var hangs = 0
        public var cutBodies = 0
        public var staleListings = 0
        /// 412 from the store itself.
        public var existings = 0
    }

    public let capabilities: StoreCapabilities
    public var faults: StoreFaults
    public private(set) var counts = Counts()
    private let store: any StoreTransport
    private let loop: EventLoop
    private let random: any RandomSource
    private var throttledUntil: UInt64 = 0
    private var isDisconnected = false
    /// Changes of names in the last `staleNanoseconds`, oldest first.
    private var changes: [(time: UInt64, name: ObjectName, sizeBefore: UInt64?)] = []
    private static let changesMax = 4_096

    /// `random` decides; give it a source that has a seed.
    public init(_ store: any StoreTransport, loop: EventLoop, random: any RandomSource, faults: StoreFaults = .default)
    {
        self.store = store
        self.loop = loop
        self.random = random
        self.faults = faults
        var capabilities = store.capabilities
        if faults.staleListing > 0 { capabilities.listsConsistently = false }
        self.capabilities = capabilities
    }

    /// The client is gone: nothing that it had not applied will be, and every request ends with "canceled".
    public func disconnect() { isDisconnected = true }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        counts.requests += 1
        await delay()
        if loop.now < throttledUntil || chance(faults.throttle) {
            if loop.now >= throttledUntil { throttledUntil = loop.now + faults.throttleNanoseconds }
            counts.throttles += 1
            return answer(429, after: throttledUntil - loop.now)
        }
        if chance(faults.unavailable) {
            counts.unavailables += 1
            return answer(503, after: below(500_000_000))
        }
        if chance(faults.lostRequest) {
            counts.lostRequests += 1
            return answer(StoreReply.noAnswer)
        }
        if case .object(_, .put(_, let condition)) = request.kind {
            if chance(faults.accepted) {
                counts.accepteds += 1
                return answer(202)
            }
            if condition == .absent, chance(faults.conflict) {
                counts.conflicts += 1
                return answer(409)
            }
        }
        if chance(faults.hang) {
            counts.hangs += 1
            await loop.sleep(nanoseconds: faults.hangNanoseconds)
            if below(2) == 0 { _ = await apply(request) }
            return answer(StoreReply.noAnswer)
        }
        if chance(faults.failure) {
            counts.failures += 1
            if below(2) == 0 { _ = await apply(request) }
            return answer(500)
        }
        let reply = await apply(request)
        await delay()
        return spoil(reply, of: request)
    }

    /// What becomes of an answer on its way back.
    private func spoil(_ reply: StoreReply, of request: StoreRequest) -> StoreReply {
        var reply = reply
        if isDisconnected { return answer(StoreReply.canceled) }
        if reply.status == 412 { counts.existings += 1 }
        if chance(faults.lostReply) {
            counts.lostReplies += 1
            return answer(StoreReply.noAnswer)
        }
        switch request.kind {
        case .object(_, .put(_, .absent)) where reply.status == 201 && chance(faults.duplicated):
            counts.duplicates += 1
            return answer(412)
        case .object(_, .get):
            if let body = reply.body, body.count > 0, chance(faults.cutBody) {
                counts.cutBodies += 1
                let left = Int(below(UInt64(body.count)))
                reply.body = Block(copying: UnsafeRawBufferPointer(rebasing: body.bytes[..<left]))
                extendLifetime(body)
            }
        case .list(let prefix, let marker, let limit) where reply.status == 200 && chance(faults.staleListing):
            age(&reply, prefix, marker, limit)
        default: break
        }
        return reply
    }

    private func apply(_ request: StoreRequest) async -> StoreReply {
        guard !isDisconnected else { return answer(StoreReply.canceled) }
        guard faults.staleListing > 0, case .object(let name, let verb) = request.kind else {
            return await store.perform(request)
        }
        switch verb {
        case .get, .head: return await store.perform(request)
        case .put, .delete:
            let before = await store.perform(StoreRequest(.object(name, .head)))
            let reply = await store.perform(request)
            if changes.count >= Self.changesMax { changes.removeFirst(Self.changesMax / 2) }
            changes.append((loop.now, name, before.status == 200 ? before.size : nil))
            return reply
        }
    }

    /// Takes back what has changed since a moment that chance picks.
    private func age(_ reply: inout StoreReply, _ prefix: String, _ marker: String?, _ limit: Int) {
        let moment = loop.now - min(loop.now, below(faults.staleNanoseconds))
        var entries: [ObjectName: UInt64] = [:]
        for entry in reply.entries { entries[entry.name] = entry.size }
        // Names behind the end of a cut listing belong to the next page.
        let end = reply.truncated ? reply.entries.last?.name : nil
        var isStale = false
        for change in changes.reversed() where change.time > moment {
            let name = change.name
            guard name.text.hasPrefix(prefix), marker.map({ $0 < name.text }) ?? true, end.map({ name <= $0 }) ?? true
            else {
                continue
            }
            isStale = isStale || entries[name] != change.sizeBefore
            entries[name] = change.sizeBefore
        }
        guard isStale else { return }
        counts.staleListings += 1
        let names = entries.keys.sorted()
        reply.truncated = reply.truncated || names.count > limit
        reply.entries = names.prefix(limit).map { ListEntry(name: $0, size: entries[$0] ?? 0) }
    }

    private func delay() async {
        var nanoseconds = faults.latencyNanoseconds > 0 ? below(faults.latencyNanoseconds) : 0
        if chance(faults.longDelay) {
            counts.longDelays += 1
            nanoseconds += faults.longDelayNanoseconds
        }
        if nanoseconds > 0 { await loop.sleep(nanoseconds: nanoseconds) }
    }

    private func answer(_ status: Int, after nanoseconds: UInt64? = nil) -> StoreReply {
        var reply = StoreReply(status: status)
        reply.retryAfterNanoseconds = nanoseconds
        reply.reason = "as the fault injector wants"
        return reply
    }

    private func chance(_ odds: Int) -> Bool { odds > 0 && below(UInt64(odds)) == 0 }
    private func below(_ bound: UInt64) -> UInt64 { random.next().multipliedFullWidth(by: max(bound, 1)).high }
}

import Namespace
import Runtime

/// What was asked of a handle that is to outlive its connection ([MS-SMB2] 3.3.5.9.6, 3.3.5.9.10).
struct Durability: Sendable {
    static let standardMilliseconds: UInt32 = 60_000
    static let millisecondsMax: UInt32 = 300_000

    /// Nil: of the first version.
    var guid: UInt128?
    var milliseconds: UInt32

    init(guid: UInt128?, milliseconds: UInt32) {
        self.guid = guid
        self.milliseconds = milliseconds
    }

    init(_ request: CreateContexts.Durable) {
        guid = request.isVersion2 ? request.guid : nil
        milliseconds =
            request.timeout == 0 ? Self.standardMilliseconds : min(request.timeout, Self.millisecondsMax)
    }
}

/// Handles whose clients are away. They keep their share modes, locks and what they may keep in memory, until somebody comes
/// for them, wants what they keep, or their time is over.
final class DurableHandles: Sendable {
    static let countMax = 65_536

    struct Entry: Sendable {
        let open: Open
        let user: String
        let client: UInt128
        /// Tells this absence from a later one.
        let number: UInt64
        /// As it was when its client went: the open itself is whose who takes it.
        let shown: OpenSummary
    }

    /// Lives as long as the open does, and says whose it is while its client is there.
    final class Presence: Sendable {
        private let handles: DurableHandles
        private let persistent: UInt64
        private let guid: UInt128?

        fileprivate init(_ handles: DurableHandles, _ persistent: UInt64, _ guid: UInt128?) {
            self.handles = handles
            self.persistent = persistent
            self.guid = guid
        }

        deinit { handles.left(persistent, guid) }
    }

    private struct Creation: Hashable {
        let client: UInt128
        let guid: UInt128
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var next: UInt64 = 0
        /// Clients that have a handle now.
        var present: [UInt64: UInt128] = [:]
        /// Handles by the numbers that their clients gave them, as long as they are in one of the two.
        var created: [Creation: UInt64] = [:]
        /// Handles in `entries` by their leases.
        var leases: [LeaseKey: Set<UInt64>] = [:]

        /// It has left `entries`.
        mutating func forget(_ entry: Entry) {
            if let key = entry.open.leaseKey {
                leases[key]?.remove(entry.open.handle.persistent)
                if leases[key]?.isEmpty == true { leases[key] = nil }
            }
            guard let guid = entry.open.durability?.guid else { return }
            // Its client may have given the number to a later one.
            let creation = Creation(client: entry.client, guid: guid)
            if created[creation] == entry.open.handle.persistent { created[creation] = nil }
        }

        /// Who has come for a handle before the end of its old connection was seen.
        var waiters: [UInt64: [UnsafeContinuation<Void, Never>]] = [:]
    }

    private let state = Guarded(State())

    /// How long the end of a client's old connection may come after it has made its new one.
    private static let patienceNanoseconds: UInt64 = 2_000_000_000

    /// `guid`: the number that its client gave it.
    func present(_ persistent: UInt64, client: UInt128, guid: UInt128?) -> Presence {
        state.withLock { state in
            state.present[persistent] = client
            if let guid { state.created[Creation(client: client, guid: guid)] = persistent }
        }
        return Presence(self, persistent, guid)
    }

    /// Whether this client has the handle, by a connection that it may have given up.
    func isPresent(_ persistent: UInt64, client: UInt128) -> Bool {
        state.withLock { $0.present[persistent] == client }
    }

    /// Returns when the client is seen to be away, or has been waited for long enough.
    func whenAway(_ persistent: UInt64, on loop: EventLoop) async {
        loop.execute { [self] in
            _ = loop.schedule(after: Self.patienceNanoseconds) { [self] in wake(persistent) }
        }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isAway = state.withLock { state -> Bool in
                guard state.present[persistent] != nil else { return true }
                state.waiters[persistent, default: []].append(continuation)
                return false
            }
            if isAway { continuation.resume() }
        }
    }

    /// The handle that the client made by this request, wherever it is now.
    func made(by client: UInt128, _ guid: UInt128) -> UInt64? {
        state.withLock { $0.created[Creation(client: client, guid: guid)] }
    }

    private func left(_ persistent: UInt64, _ guid: UInt128?) {
        state.withLock { state in
            let client = state.present.removeValue(forKey: persistent)
            guard state.entries[persistent] == nil, let client, let guid else { return }
            let creation = Creation(client: client, guid: guid)
            if state.created[creation] == persistent { state.created[creation] = nil }
        }
        wake(persistent)
    }

    private func wake(_ persistent: UInt64) {
        for waiter in state.withLock({ $0.waiters.removeValue(forKey: persistent) ?? [] }) { waiter.resume() }
    }

    /// The client of the open is gone. False: there are too many.
    func keep(_ open: Open, user: String, client: UInt128, on loop: EventLoop) -> Bool {
        guard let durability = open.durability else { return false }
        // Who waits for its end finds the handle: nothing of the open is changed here after that.
        let presence = open.presence
        open.presence = nil
        let shown = OpenSummary(open)
        let number = state.withLock { state -> UInt64? in
            guard state.entries.count < Self.countMax else { return nil }
            state.next += 1
            state.entries[open.handle.persistent] = Entry(
                open: open, user: user, client: client, number: state.next, shown: shown)
            if let key = open.leaseKey { state.leases[key, default: []].insert(open.handle.persistent) }
            return state.next
        }
        extendLifetime(presence)
        guard let number else { return false }
        _ = loop.schedule(after: UInt64(durability.milliseconds) * 1_000_000) { [self] in
            end(open.handle.persistent, number, on: loop)
        }
        return true
    }

    /// The absence has lasted long enough, if it is that one still.
    private func end(_ persistent: UInt64, _ number: UInt64, on loop: EventLoop) {
        let entry = state.withLock { state -> Entry? in
            guard state.entries[persistent]?.number == number else { return nil }
            let entry = state.entries.removeValue(forKey: persistent)
            if let entry { state.forget(entry) }
            return entry
        }
        entry?.open.end(on: loop)
    }

    /// Nil: there is no such handle, or its client is there.
    subscript(persistent: UInt64) -> Open? { state.withLock { $0.entries[persistent]?.open } }

    /// All whose clients are away.
    var all: [Entry] { state.withLock { Array($0.entries.values) } }

    /// Hands an open over to who has come for it; `fits` says whether it is his.
    func take(_ persistent: UInt64, _ fits: (Entry) -> NTStatus) -> Result<Open, Refusal> {
        state.withLock { state in
            guard let entry = state.entries[persistent] else { return .failure(Refusal(status: .objectNameNotFound)) }
            let status = fits(entry)
            guard status == .success else { return .failure(Refusal(status: status)) }
            state.entries[persistent] = nil
            // Who takes it up again says so anew.
            state.forget(entry)
            return .success(entry.open)
        }
    }

    struct Refusal: Error {
        let status: NTStatus
    }

    /// Ends all opens of a lease that somebody else can not wait for.
    func purge(_ key: LeaseKey, on loop: EventLoop) {
        let doomed = state.withLock { state -> [Entry] in
            let doomed = (state.leases[key] ?? []).compactMap { state.entries.removeValue(forKey: $0) }
            for entry in doomed { state.forget(entry) }
            return doomed
        }
        for entry in doomed { entry.open.end(on: loop) }
    }
}

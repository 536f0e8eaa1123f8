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
    }

    /// Lives as long as the open does, and says whose it is while its client is there.
    final class Presence: Sendable {
        private let handles: DurableHandles
        private let persistent: UInt64

        fileprivate init(_ handles: DurableHandles, _ persistent: UInt64) {
            self.handles = handles
            self.persistent = persistent
        }

        deinit { handles.left(persistent) }
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var next: UInt64 = 0
        /// Clients that have a handle now.
        var present: [UInt64: UInt128] = [:]
        /// Who has come for a handle before the end of its old connection was seen.
        var waiters: [UInt64: [UnsafeContinuation<Void, Never>]] = [:]
    }

    private let state = Guarded(State())

    /// How long the end of a client's old connection may come after it has made its new one.
    private static let patienceNanoseconds: UInt64 = 2_000_000_000

    func present(_ persistent: UInt64, client: UInt128) -> Presence {
        state.withLock { $0.present[persistent] = client }
        return Presence(self, persistent)
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

    private func left(_ persistent: UInt64) {
        state.withLock { $0.present[persistent] = nil }
        wake(persistent)
    }

    private func wake(_ persistent: UInt64) {
        for waiter in state.withLock({ $0.waiters.removeValue(forKey: persistent) ?? [] }) { waiter.resume() }
    }

    /// The client of the open is gone. False: there are too many.
    func keep(_ open: Open, user: String, client: UInt128, on loop: EventLoop) -> Bool {
        guard let durability = open.durability else { return false }
        let number = state.withLock { state -> UInt64? in
            guard state.entries.count < Self.countMax else { return nil }
            state.next += 1
            state.entries[open.handle.persistent] = Entry(open: open, user: user, client: client, number: state.next)
            return state.next
        }
        open.presence = nil
        guard let number else { return false }
        _ = loop.schedule(after: UInt64(durability.milliseconds) * 1_000_000) { [self] in
            purge(on: loop) { $0.number == number }
        }
        return true
    }

    /// Nil: there is no such handle, or its client is there.
    subscript(persistent: UInt64) -> Open? { state.withLock { $0.entries[persistent]?.open } }

    /// Hands an open over to who has come for it; `fits` says whether it is his.
    func take(_ persistent: UInt64, _ fits: (Entry) -> NTStatus) -> Result<Open, Refusal> {
        state.withLock { state in
            guard let entry = state.entries[persistent] else { return .failure(Refusal(status: .objectNameNotFound)) }
            let status = fits(entry)
            guard status == .success else { return .failure(Refusal(status: status)) }
            state.entries[persistent] = nil
            return .success(entry.open)
        }
    }

    struct Refusal: Error {
        let status: NTStatus
    }

    /// Ends all opens of a lease that somebody else can not wait for.
    func purge(_ key: LeaseKey, on loop: EventLoop) { purge(on: loop) { $0.open.leaseKey == key } }

    private func purge(on loop: EventLoop, _ isDoomed: (Entry) -> Bool) {
        let doomed = state.withLock { state -> [Entry] in
            let doomed = state.entries.values.filter(isDoomed)
            for entry in doomed { state.entries[entry.open.handle.persistent] = nil }
            return doomed
        }
        for entry in doomed { entry.open.end(on: loop) }
    }
}

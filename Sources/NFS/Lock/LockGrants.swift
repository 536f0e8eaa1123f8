import Namespace
import RPC

/// Requests for locks that wait, and grants that their clients have yet to hear of. No I/O, no clock.
///
/// Invariants: a request that waits is known once, however often its client repeats it. A grant ends when the client
/// confirms it, asks for the lock again, unlocks or cancels it; a client's "no" takes the lock back only when the question
/// was asked once: later it may mean that the first answer was lost. While a telling may still reach a client that has done
/// with the lock, the client does not wait for it again: it would take the old telling for the new lock.
struct LockGrants {
    static let entriesMax = 65_536
    /// How often a client is told. It asks by itself from time to time, so nothing is lost when it hears none.
    static let tellingsMax = 10
    /// So long after a telling its client may take it for a later lock of the same process.
    static let staleNanoseconds: UInt64 = 1_000_000_000

    /// What makes two requests the same.
    struct Key: Hashable, Sendable {
        var owner: LockOwner
        var volume: UInt64
        var file: FileID
        var range: LockRange
        var isExclusive: Bool
    }

    /// A grant to be told.
    struct Grant: Sendable {
        var key: Key
        var request: LockRequest
        /// By messages both ways, as the request came.
        var isMessage: Bool
        var tellings = 0
        /// A telling may be on its way to the client, or has just come there.
        var isUnderWay = false
    }

    private struct Waiting {
        var key: Key
        var request: LockRequest
        var isMessage: Bool
    }

    private var waits: [LockWait: Waiting] = [:]
    private var waiting: [Key: LockWait] = [:]
    /// By their cookies.
    private(set) var grants: [UInt64: Grant] = [:]
    private var granting: [Key: UInt64] = [:]
    /// Tellings on their way whose grants have ended.
    private var stale: [UInt64: Key] = [:]
    private var nextCookie: UInt64

    /// `cookie`: random, so that answers to an earlier start's questions are nobody's.
    init(cookie: UInt64) { nextCookie = cookie }

    var count: Int { waits.count + grants.count + stale.count }
    var isFull: Bool { count >= Self.entriesMax }

    // MARK: Requests

    /// Whether the same request waits already. Its newest cookie is kept.
    mutating func isWaiting(_ key: Key, _ request: LockRequest) -> Bool {
        guard let wait = waiting[key] else { return false }
        waits[wait]?.request = request
        return true
    }

    mutating func waits(_ wait: LockWait, _ key: Key, _ request: LockRequest, isMessage: Bool) {
        waits[wait] = Waiting(key: key, request: request, isMessage: isMessage)
        waiting[key] = wait
    }

    /// The client has its answer: a grant of the same lock needs no telling any more.
    mutating func answered(_ key: Key) {
        if let cookie = granting[key] { end(cookie) }
    }

    /// Whether a telling of a grant that has ended may still reach this owner.
    func hasStaleTelling(_ owner: LockOwner, _ file: FileID) -> Bool {
        !stale.isEmpty && stale.values.contains { $0.owner == owner && $0.file == file }
    }

    /// The client gives locks back: it knows of all that it holds there.
    mutating func unlocked(_ owner: LockOwner, _ file: FileID, _ range: LockRange) {
        if grants.isEmpty { return }
        for (cookie, grant) in grants
        where grant.key.owner == owner && grant.key.file == file && grant.key.range.overlaps(range) {
            end(cookie)
        }
    }

    enum Cancelled: Equatable {
        /// To be cancelled in the lock table.
        case wait(LockWait)
        /// It was granted: it is to be unlocked.
        case grant
        case nothing
    }

    mutating func cancel(_ key: Key) -> Cancelled {
        if let wait = waiting.removeValue(forKey: key) {
            waits[wait] = nil
            return .wait(wait)
        }
        guard granting[key] != nil else { return .nothing }
        answered(key)
        return .grant
    }

    // MARK: Outcomes

    /// A wait has ended. The cookie of the grant to tell; nil: nobody is to be told.
    mutating func ended(_ wait: LockWait, isGranted: Bool) -> UInt64? {
        guard let ended = waits.removeValue(forKey: wait) else { return nil }
        waiting[ended.key] = nil
        guard isGranted else { return nil }
        nextCookie &+= 1
        grants[nextCookie] = Grant(key: ended.key, request: ended.request, isMessage: ended.isMessage)
        granting[ended.key] = nextCookie
        return nextCookie
    }

    /// The grant, if it is still to be told; counts the telling.
    mutating func tell(_ cookie: UInt64) -> Grant? {
        guard let grant = grants[cookie] else { return nil }
        guard grant.tellings < Self.tellingsMax else {
            drop(cookie)
            return nil
        }
        grants[cookie]?.tellings += 1
        grants[cookie]?.isUnderWay = true
        return grants[cookie]
    }

    /// The last telling is so old that no request can be mistaken for its own.
    mutating func told(_ cookie: UInt64) {
        grants[cookie]?.isUnderWay = false
        stale[cookie] = nil
    }

    /// What the client says to a grant. The lock that it does not want is to be unlocked; nil: nothing is.
    mutating func answered(_ cookie: UInt64, _ status: LockStatus) -> Grant? {
        guard let grant = grants[cookie] else { return nil }
        switch status {
        case .deniedGrace: return nil
        case .granted:
            drop(cookie)
            return nil
        default:
            drop(cookie)
            return grant.tellings > 1 ? nil : grant
        }
    }

    /// The client hears of nothing; it asks by itself.
    mutating func giveUp(_ cookie: UInt64) { drop(cookie) }

    /// The grant ends for another reason than that its telling was heard.
    private mutating func end(_ cookie: UInt64) {
        if let grant = grants[cookie], grant.isUnderWay { stale[cookie] = grant.key }
        drop(cookie)
    }

    private mutating func drop(_ cookie: UInt64) {
        guard let grant = grants.removeValue(forKey: cookie) else { return }
        granting[grant.key] = nil
    }

    /// Whether a host waits, or is to be told of a grant.
    func concerns(host: UInt64) -> Bool {
        waits.values.contains { $0.key.owner.client == host } || grants.values.contains { $0.key.owner.client == host }
    }

    /// A host is gone, with all that it waited for.
    mutating func forget(host: UInt64) {
        for (wait, entry) in waits where entry.key.owner.client == host {
            waits[wait] = nil
            waiting[entry.key] = nil
        }
        for (cookie, grant) in grants where grant.key.owner.client == host { drop(cookie) }
        for (cookie, key) in stale where key.owner.client == host { stale[cookie] = nil }
    }
}

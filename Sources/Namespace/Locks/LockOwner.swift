/// Whose a lock is, and so by which rules it lives.
public struct LockOwner: Hashable, Sendable {
    public enum Rules: UInt8, Sendable {
        /// The owner is a process of a client. Its locks merge, split, are upgraded and downgraded, and any part of them may
        /// be unlocked. They bind those who ask for locks, and SMB's reads and writes.
        case posix
        /// The owner is an open handle. Each lock stays as it was taken and is unlocked by exactly its range. They
        /// bind all reads and writes, by whatever protocol.
        case handle
    }

    public var rules: Rules
    /// Whose locks go together when the client is gone.
    public var client: UInt64
    /// Of the process, or of the open handle, among the client's.
    public var id: UInt64

    public init(_ rules: Rules, client: UInt64, id: UInt64) {
        self.rules = rules
        self.client = client
        self.id = id
    }
}

public enum LockMode: UInt8, Sendable {
    case shared
    case exclusive
}

/// A lock that is in somebody's way.
public struct LockHolder: Equatable, Sendable {
    public var owner: LockOwner
    public var range: LockRange
    public var mode: LockMode

    public init(owner: LockOwner, range: LockRange, mode: LockMode) {
        self.owner = owner
        self.range = range
        self.mode = mode
    }
}

/// Names a request that waits.
public struct LockWait: Hashable, Sendable {
    let number: UInt64
}

/// Why a request for a lock, or one that waited for it, was refused.
public enum LockRefusal: Equatable, Sendable {
    case held(LockHolder)
    /// Waiting would never end: somebody who is waited for waits for this owner.
    case deadlock
    /// Too many locks or waits; see `LockTable`'s limits.
    case tooMany
    /// The request's own time is over.
    case timeout
    /// After a start only what was held before may be taken.
    case grace
    /// What was held before can not be claimed any more, or not by this client.
    case noReclaim
}

public enum LockAnswer: Equatable, Sendable {
    case granted
    case waits(LockWait)
    case refused(LockRefusal)
}

/// What became of a request that waited: its client is to be told.
public struct LockOutcome: Equatable, Sendable {
    public var wait: LockWait
    public var file: FileID
    public var owner: LockOwner
    /// Nil: the lock is the owner's now.
    public var refusal: LockRefusal?
}

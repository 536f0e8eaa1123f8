/// What the content of a file is, in the words of who wrote it whole: an MD5 digest, or that of several parts' digests.
///
/// Invariant: a file that has one has the very content that it was made for. Every change of data takes it away, by
/// whichever way it comes.
public struct Seal: Equatable, Sendable {
    /// The digest's bytes in their order are those of `high`, then `low`, the first one highest.
    public var high: UInt64
    public var low: UInt64
    /// 0: the content's own digest.
    public var parts: UInt32

    public init(high: UInt64, low: UInt64, parts: UInt32) {
        self.high = high
        self.low = low
        self.parts = parts
    }
}

/// What must be true of a name for a change to happen.
public enum Expected: Equatable, Sendable {
    case anything
    case nothing
    /// This file, not changed since its counter was that.
    case file(FileID, change: UInt64)
    /// The same, and a lock that it has may go with it: who calls has looked at the lock as it was at that counter.
    case judged(FileID, change: UInt64)

    var compared: (id: FileID, change: UInt64)? {
        switch self {
        case .anything, .nothing: nil
        case .file(let id, let change), .judged(let id, let change): (id, change)
        }
    }

    /// Whether this is what is expected of the name.
    func check(_ there: Inode?) throws(Halt) {
        if self == .nothing, there != nil { throw .refused(.exists) }
        guard let compared else { return }
        guard let there else { throw .refused(.noEntry) }
        guard there.id == compared.id, there.change == compared.change else { throw .refused(.stale) }
    }

    var endsLock: Bool {
        if case .judged = self { return true }
        return false
    }
}

/// An extended attribute with its value.
public struct Attribute: Equatable, Sendable {
    public var name: [UInt8]
    public var value: [UInt8]

    public init(name: [UInt8], value: [UInt8]) {
        self.name = name
        self.value = value
    }
}

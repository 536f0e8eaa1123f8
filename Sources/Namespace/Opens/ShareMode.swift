/// The ways of using a file's data that opens allow or forbid each other.
public struct DataAccess: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let read = DataAccess(rawValue: 1)
    public static let write = DataAccess(rawValue: 2)
    public static let delete = DataAccess(rawValue: 4)
    public static let all: DataAccess = [.read, .write, .delete]
}

/// What an open does with the data, and what it forbids all others meanwhile.
public struct ShareMode: Hashable, Sendable {
    public var access: DataAccess
    public var denied: DataAccess

    public init(access: DataAccess, denied: DataAccess) {
        self.access = access
        self.denied = denied
    }

    /// As SMB says it: what others may do is named. An open that does not touch the data denies nothing, whatever it says
    /// ([MS-FSA] 2.1.5.1.2.2): it looks at attributes only.
    public init(access: DataAccess, shared: DataAccess) {
        self.access = access
        denied = access.isEmpty ? [] : DataAccess.all.subtracting(shared)
    }

    public func conflicts(with other: ShareMode) -> Bool {
        !access.isDisjoint(with: other.denied) || !denied.isDisjoint(with: other.access)
    }
}

/// Names an open; never names another one after that is closed.
public struct OpenID: Hashable, Sendable {
    public let number: UInt64
    public init(number: UInt64) { self.number = number }

    var place: UInt32 { UInt32(truncatingIfNeeded: number) }
}

/// What somebody opens.
public struct OpenRequest: Sendable {
    public var file: FileID
    /// The name by which the file was opened, as one number: of directory and name. A name that is to go takes only
    /// those opens with it that came by it. 0: by none.
    public var name: UInt64
    public var client: UInt64
    public var share: ShareMode
    /// Rights that the handle has, in the protocol's terms.
    public var granted: UInt32
    /// The name goes when this open is closed.
    public var isDeleteOnClose: Bool
    /// Opens of one lease key count as one when somebody asks who else has the file open. 0: none.
    public var leaseKey: UInt128
    /// It goes when this one is there, and is not in the way.
    public var replaced: OpenID?

    public init(
        file: FileID, name: UInt64, client: UInt64, share: ShareMode, granted: UInt32 = 0,
        isDeleteOnClose: Bool = false, leaseKey: UInt128 = 0, replaced: OpenID? = nil
    ) {
        self.file = file
        self.name = name
        self.client = client
        self.share = share
        self.granted = granted
        self.isDeleteOnClose = isDeleteOnClose
        self.leaseKey = leaseKey
        self.replaced = replaced
    }
}

public enum OpenAnswer: Equatable, Sendable {
    /// `isFirst`: the file system is to be told that the file is in use.
    case opened(OpenID, isFirst: Bool)
    /// This open is in the way, perhaps others too.
    case sharingViolation(OpenID)
    /// The name is about to go (`STATUS_DELETE_PENDING`).
    case deletePending
    case tooMany
}

/// What follows from the end of an open.
public struct Closed: Equatable, Sendable {
    public var file: FileID
    /// This name is to be removed now; 0: none.
    public var removedName: UInt64
    /// The file system is to be told that the file is not in use any more.
    public var isLast: Bool

    public init(file: FileID, removedName: UInt64, isLast: Bool) {
        self.file = file
        self.removedName = removedName
        self.isLast = isLast
    }
}

import Runtime

/// What somebody wants to open, and how: one request, answered as one.
public struct OpenIntent: Sendable {
    /// What is done when the name is there, and when it is not (MS-SMB2 2.2.13, CreateDisposition).
    public enum Disposition: Sendable {
        /// It must be there.
        case open
        /// It must not be there.
        case create
        case openIf
        /// It must be there, and loses its content.
        case overwrite
        case overwriteIf
        /// It loses its content, and what was set of its attributes.
        case supersede

        var mayCreate: Bool { self != .open && self != .overwrite }
        var replaces: Bool { self == .overwrite || self == .overwriteIf || self == .supersede }
    }

    public enum Kind: Sendable {
        case any
        case directory
        case notDirectory
    }

    public var disposition: Disposition
    /// Refused unless all of it is granted.
    public var access: AccessMask
    /// Besides, whatever the caller has.
    public var wantsAll = false
    /// Of that, what he only gets if he asks for it by name.
    public var withheld: AccessMask = []
    /// What others may do with the data meanwhile.
    public var shared: DataAccess
    public var kind = Kind.any
    /// A symbolic link itself is opened; else it is refused, and who wants what it names looks there.
    public var opensLinks = false
    /// Of a file without a list: docs/access.md, "For Windows".
    public var widensMode = false
    public var deletesOnClose = false
    /// What a new file is made with; its type is `directory` or `file`.
    public var new: NewFile
    /// Whose opens end together.
    public var client: UInt64
    public var lease: LeaseWish?
    /// An open that the caller closes when he has this one: it is not in the way.
    public var replaced: OpenHandle?
    /// To be found again after a restart of the server.
    public var keep: KeepWish?

    public init(
        _ disposition: Disposition, access: AccessMask, shared: DataAccess = .all,
        new: NewFile = NewFile(type: .file, mode: 0o644), client: UInt64
    ) {
        self.disposition = disposition
        self.access = access
        self.shared = shared
        self.new = new
        self.client = client
    }
}

extension OpenIntent {
    /// Through another volume no open is found again after a restart: the mount may not be there by then.
    var unkept: OpenIntent {
        var intent = self
        intent.keep = nil
        return intent
    }
}

/// What an opener wants to keep in its own memory.
public struct LeaseWish: Sendable {
    public var key: LeaseKey
    public var kind: LeaseKind
    public var wanted: LeaseState
    /// Of version 2 leases.
    public var epoch: UInt16?
    public var holder: LeaseHolder

    public init(
        _ key: LeaseKey, _ kind: LeaseKind, _ wanted: LeaseState, epoch: UInt16? = nil, holder: LeaseHolder
    ) {
        self.key = key
        self.kind = kind
        self.wanted = wanted
        self.epoch = epoch
        self.holder = holder
    }
}

/// Who is told that a lease breaks, on its loop.
public struct LeaseHolder: Sendable {
    public var loop: EventLoop
    public var tell: @Sendable (LeaseBreak) -> Void
    /// The client is not connected and can not give up anything: its opens under this key are to be closed.
    public var end: @Sendable (LeaseKey) -> Void

    public init(
        loop: EventLoop, tell: @escaping @Sendable (LeaseBreak) -> Void,
        end: @escaping @Sendable (LeaseKey) -> Void = { _ in }
    ) {
        self.loop = loop
        self.tell = tell
        self.end = end
    }
}

public struct LeaseBreak: Equatable, Sendable {
    public var key: LeaseKey
    public var from: LeaseState
    public var to: LeaseState
    public var epoch: UInt16
    public var mustAcknowledge: Bool
}

/// An open, as its owner keeps it. Reads and writes bring it along in their `Caller`: what it was granted needs no second
/// check, and the locks and leases of the open count as the caller's own.
public struct OpenHandle: Hashable, Sendable {
    public let id: OpenID
    public let file: FileID
    public let client: UInt64
    public let granted: AccessMask
    /// What it was opened with, whatever was granted.
    public internal(set) var lease: LeaseKey?
    /// It is one of the opens that the lease lives by.
    public internal(set) var holdsLease = false

    /// Of its byte-range locks, by SMB's rules.
    public var lockOwner: LockOwner { LockOwner(.handle, client: client, id: id.number) }
}

public enum OpenAction: Sendable {
    case opened
    case created
    case overwritten
    case superseded
}

public struct OpenedFile: Sendable {
    public var handle: OpenHandle
    public var file: Attributes
    /// The name as it is stored; empty: it was opened by none.
    public var name: [UInt8]
    public var action: OpenAction
    public var lease: LeaseState
    public var leaseEpoch: UInt16
    /// A break of the lease is under way.
    public var isLeaseBreaking: Bool
}

/// What the end of an open brought with it.
public struct ClosedFile: Sendable {
    /// The name by which it was opened is gone now.
    public var isRemoved: Bool
}

/// What a client may keep in its own memory: SMB's lease state, in SMB's bits.
public struct LeaseState: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Data that it has read.
    public static let read = LeaseState(rawValue: 1)
    /// Opens that its programs have closed.
    public static let handle = LeaseState(rawValue: 2)
    /// Data that it has written, and locks that it has given.
    public static let write = LeaseState(rawValue: 4)
    public static let all: LeaseState = [.read, .handle, .write]

    /// Nothing works without reading; a state without it is none.
    var normal: LeaseState { contains(.read) ? intersection(.all) : [] }
}

/// What kind of promise it is, and so in which steps it may be taken back.
public enum LeaseKind: UInt8, Sendable {
    /// Of SMB 2.1 and later: any step down.
    case lease
    /// Of one open: II is read, exclusive is read and write, batch is all; a break leads to II or none.
    case oplock
    /// Of NFSv4: a read delegation is read, a write delegation is all; a recall leads to none.
    case delegation
}

/// Names a lease: all opens of a client that bring the same key share one.
public struct LeaseKey: Hashable, Sendable {
    /// The client's GUID.
    public var client: UInt128
    public var key: UInt128

    public init(client: UInt128, key: UInt128) {
        self.client = client
        self.key = key
    }
}

/// Something that is about to be done to a file, or in a directory.
public enum LeaseOperation: Sendable {
    /// A look at attributes only.
    case openAttributes
    /// The same, and at the list of rights: nothing to a lease, an open to an oplock ([MS-FSA] 2.1.5.1.2.2).
    case openSecurity
    case open
    /// An open that replaces the content.
    case openReplacing
    /// An open that another one does not share with: the other client may only keep a closed handle open.
    case openUnshared
    case read
    /// Also a change of size, a punched hole, a byte-range lock.
    case write
    /// Rename, removal, a new hard link of the file itself.
    case rename
    /// Mode, owner, times.
    case attributes
    /// An object takes the place of the file.
    case replace
    /// In the directory: a name came, went, or leads elsewhere, or what the listing says of a file changed.
    case directoryChange
}

extension LeaseOperation {
    /// What nobody else may keep ([MS-FSA] 2.1.4.12).
    func broken(_ kind: LeaseKind) -> LeaseState {
        if kind == .delegation {
            switch self {
            case .openAttributes, .openSecurity: return []
            // A reader does not disturb other readers' delegations.
            case .open, .read: return .write
            case .openReplacing, .openUnshared, .write, .rename, .attributes, .replace, .directoryChange: return .all
            }
        }
        switch self {
        case .openAttributes, .attributes: return []
        case .openSecurity: return kind == .oplock ? .write : []
        case .open, .read: return .write
        case .openUnshared, .rename: return .handle
        case .openReplacing, .write, .replace, .directoryChange: return .all
        }
    }

    /// What must really be given up before the operation goes on. Others are told and not waited for: what they have read
    /// is merely old from then on.
    func awaited(_ kind: LeaseKind) -> LeaseState {
        if kind == .delegation { return broken(.delegation) }
        switch self {
        case .openAttributes, .attributes, .directoryChange: return []
        case .openSecurity: return broken(kind)
        case .open, .openReplacing, .read, .write: return .write
        case .openUnshared, .rename: return .handle
        case .replace: return [.write, .handle]
        }
    }
}

/// A message to a client, or to who waits.
public enum LeaseAction: Equatable, Sendable {
    /// Tell the client that it is to give up what is in `from` and not in `to`. `epoch` is of version 2 leases.
    case sendBreak(LeaseKey, from: LeaseState, to: LeaseState, epoch: UInt16, mustAcknowledge: Bool)
    /// What this request waited for is done: it is made again from its start.
    case resume(UInt64)
    /// The client is not connected and can not give up anything: its opens under this key end.
    case closeDisconnected(LeaseKey)
}

public enum LeaseGrant: Equatable, Sendable {
    /// `isBreaking`: a break of this lease is under way, and nothing was added.
    case granted(LeaseState, epoch: UInt16, isBreaking: Bool)
    /// The key stands for another file already.
    case keyInUse
}

public struct LeaseStatus: Equatable, Sendable {
    public var state: LeaseState
    public var epoch: UInt16
    /// Of version 2: it was so when it began, and stays so whatever later opens bring.
    public var hasEpoch: Bool
    /// A break is under way.
    public var isBreaking: Bool

    public init(state: LeaseState, epoch: UInt16, hasEpoch: Bool, isBreaking: Bool) {
        self.state = state
        self.epoch = epoch
        self.hasEpoch = hasEpoch
        self.isBreaking = isBreaking
    }
}

public enum LeaseCheck: Equatable, Sendable {
    case proceed
    /// The request is kept under the caller's number and resumed later.
    case waits
    /// Too many wait for this file: ask again in a while.
    case tooMany
}

public enum Acknowledgement: Equatable, Sendable {
    case accepted(LeaseState)
    /// There is no such lease (`STATUS_OBJECT_NAME_NOT_FOUND`).
    case unknown
    /// Nobody asked, or the time was over (`STATUS_UNSUCCESSFUL`).
    case notBreaking
    /// It wants to keep more than it may (`STATUS_REQUEST_NOT_ACCEPTED`); for an oplock, it has lost all.
    case notAccepted
}

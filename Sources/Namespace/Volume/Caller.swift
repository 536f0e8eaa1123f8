/// Who makes a request, from where, and when.
public struct Caller: Sendable {
    public var credential: Credential
    public var request: Request
    /// By the way in: an export, a share, a bucket.
    public var isReadOnly: Bool
    /// The protocol has no opens: an owner may read and write the file that it has, whatever the mode says by now, and who
    /// may execute a file may read it.
    public var isStateless: Bool
    /// The open that is used; nil for protocols that have none.
    public var handle: OpenHandle?
    /// Tells clients apart where the protocol knows them by their address only.
    public var client: UInt64 = 0
    /// Sees what the server keeps for itself in a volume (`Volume.ownName`).
    public var isServer: Bool

    public init(
        _ credential: Credential, _ request: Request, isReadOnly: Bool = false, isStateless: Bool = false,
        handle: OpenHandle? = nil, isServer: Bool = false
    ) {
        self.credential = credential
        self.request = request
        self.isReadOnly = isReadOnly
        self.isStateless = isStateless
        self.handle = handle
        self.isServer = isServer
    }
}

/// Rights to a file, as all protocols together know them.
public struct Rights: OptionSet, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Read a file's data, list a directory.
    public static let read = Rights(rawValue: 1)
    /// Change a file's data, change a directory's entries.
    public static let write = Rights(rawValue: 2)
    /// Execute a file, look names up in a directory.
    public static let execute = Rights(rawValue: 4)
}

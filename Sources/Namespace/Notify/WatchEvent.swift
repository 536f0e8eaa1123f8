/// What a watch is told of ([MS-SMB2] 2.2.35, CompletionFilter).
public struct WatchFilter: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let fileName = WatchFilter(rawValue: 0x1)
    public static let directoryName = WatchFilter(rawValue: 0x2)
    public static let attributes = WatchFilter(rawValue: 0x4)
    public static let size = WatchFilter(rawValue: 0x8)
    public static let lastWrite = WatchFilter(rawValue: 0x10)
    public static let lastAccess = WatchFilter(rawValue: 0x20)
    public static let creation = WatchFilter(rawValue: 0x40)
    public static let extendedAttributes = WatchFilter(rawValue: 0x80)
    public static let security = WatchFilter(rawValue: 0x100)
    public static let streamName = WatchFilter(rawValue: 0x200)
    public static let streamSize = WatchFilter(rawValue: 0x400)
    public static let streamWrite = WatchFilter(rawValue: 0x800)
    public static let all = WatchFilter(rawValue: 0xFFF)

    /// What a change of attributes is to those who watch.
    init(_ new: NewAttributes) {
        self = []
        if new.born != nil { insert(.creation) }
        if new.accessed != nil { insert(.lastAccess) }
        if new.modified != nil { insert(.lastWrite) }
        if new.dos != nil { insert(.attributes) }
        if new.mode != nil || new.uid != nil || new.gid != nil { formUnion([.attributes, .security]) }
    }

    static func name(of type: FileType) -> WatchFilter { type == .directory ? .directoryName : .fileName }
}

/// [MS-FSCC] 2.7.1, Action.
public enum WatchAction: UInt32, Sendable {
    case added = 1
    case removed = 2
    case modified = 3
    case renamedFrom = 4
    case renamedTo = 5
}

/// Something that happened to a name.
public struct WatchEvent: Equatable, Sendable {
    public var action: WatchAction
    /// Below the watched directory, as stored.
    public var path: [[UInt8]]

    public init(_ action: WatchAction, _ path: [[UInt8]]) {
        self.action = action
        self.path = path
    }
}

/// Names a watch; never names another one.
public struct WatchID: Hashable, Sendable {
    let number: UInt64
    /// In another volume than the one that was asked: the number of its file system.
    var volume: UInt32 = 0
}

/// What came to a watch since it was last asked.
public struct WatchEvents: Equatable, Sendable {
    public var events: [WatchEvent]
    /// So much happened that not all of it is told: look at everything anew.
    public var isOverrun: Bool
    /// The directory goes: nothing more will come.
    public var isEnded: Bool

    public init(events: [WatchEvent], isOverrun: Bool, isEnded: Bool = false) {
        self.events = events
        self.isOverrun = isOverrun
        self.isEnded = isEnded
    }
}

/// Something that happened in a foreign directory.
public enum ForeignChange: Sendable {
    case changed(WatchAction, WatchFilter, directory: FileID, name: [UInt8])
    /// The directory is gone.
    case ended(FileID)
    /// So much happened, or so much would have to be observed, that not all of it is told.
    case overrun
}

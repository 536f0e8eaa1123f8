/// What a file is.
public enum FileType: UInt8, Sendable {
    case file = 1
    case directory, symlink, fifo, socket, characterDevice, blockDevice
}

/// Names a file of one file system, for ever: no other file of it ever has the same numbers.
public struct FileID: Hashable, Sendable {
    public var subvolume: UInt32
    /// In tables that serve all volumes of a server: which one; 0 elsewhere. Here it fills a gap: each open file is named in five
    /// tables.
    package var volume: UInt32 = 0
    public var inode: UInt64
    public var generation: UInt64

    public init(subvolume: UInt32, inode: UInt64, generation: UInt64) {
        self.subvolume = subvolume
        self.inode = inode
        self.generation = generation
    }

    /// In one step: each open, lock and lease asks several tables for its file.
    @inlinable
    public func hash(into hasher: inout Hasher) {
        hasher.combine(inode &+ generation &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(subvolume) << 32)
    }
}

/// Everything that a protocol may say of a file without opening it.
///
/// Each call hands it on several times over: it has 128 bytes, which are copied where they stand and not by a call.
public struct Attributes: Equatable, Sendable {
    public var file: FileID
    public var type: FileType {
        didSet {
            guard isDevice != Self.isDevice(oldValue) else { return }
            deviceOrChange = 0
            flags.remove(.showsChange)
        }
    }
    private var flags: Flags = []
    /// The twelve permission bits.
    public var mode: UInt16 = 0
    public var links: UInt32 = 1
    public var uid: UInt32 = 0
    public var gid: UInt32 = 0
    public var size: UInt64 = 0
    /// Bytes that it takes.
    public var allocated: UInt64 = 0
    /// Nanoseconds since 1970, like all times.
    public var accessed: Int64 = 0
    public var modified: Int64 = 0
    /// Never goes back.
    public var changed: Int64 = 0
    public var born: Int64 = 0
    /// Rises with each change; never goes back.
    public var change: UInt64 = 0
    /// A device's numbers, else `shownChange`.
    private var deviceOrChange: UInt64 = 0
    private var sealHigh: UInt64 = 0
    private var sealLow: UInt64 = 0
    private var sealParts: UInt32 = 0
    /// DOS attribute bits.
    public var dos: UInt32 = 0

    private struct Flags: OptionSet {
        let rawValue: UInt8
        static let implied = Flags(rawValue: 1)
        static let shelved = Flags(rawValue: 2)
        static let locked = Flags(rawValue: 4)
        static let list = Flags(rawValue: 8)
        static let stream = Flags(rawValue: 16)
        static let streams = Flags(rawValue: 32)
        static let showsChange = Flags(rawValue: 64)
        static let sealed = Flags(rawValue: 128)
    }

    public init(file: FileID, type: FileType) {
        self.file = file
        self.type = type
    }
}

extension Attributes {
    @inline(__always)
    private mutating func set(_ flag: Flags, _ isSet: Bool) {
        if isSet { flags.insert(flag) } else { flags.remove(flag) }
    }

    /// A directory that is there only because of what lies in it.
    public var isImplied: Bool {
        get { flags.contains(.implied) }
        set { set(.implied, newValue) }
    }

    /// An older version of a file: who still has it may read it.
    public var isShelved: Bool {
        get { flags.contains(.shelved) }
        set { set(.shelved, newValue) }
    }

    /// There is an attribute `FileLock.name`.
    public var isLocked: Bool {
        get { flags.contains(.locked) }
        set { set(.locked, newValue) }
    }

    /// There is an access list beside the mode.
    public var hasACL: Bool {
        get { flags.contains(.list) }
        set { set(.list, newValue) }
    }

    /// A named stream of another file.
    public var isStream: Bool {
        get { flags.contains(.stream) }
        set { set(.stream, newValue) }
    }

    public var hasStreams: Bool {
        get { flags.contains(.streams) }
        set { set(.streams, newValue) }
    }

    private static func isDevice(_ type: FileType) -> Bool { type == .characterDevice || type == .blockDevice }
    private var isDevice: Bool { Self.isDevice(type) }

    /// Of a device; 0 of everything else.
    public var major: UInt32 {
        get { isDevice ? UInt32(deviceOrChange >> 32) : 0 }
        set { if isDevice { deviceOrChange = UInt64(newValue) << 32 | UInt64(minor) } }
    }

    public var minor: UInt32 {
        get { isDevice ? UInt32(truncatingIfNeeded: deviceOrChange) : 0 }
        set { if isDevice { deviceOrChange = UInt64(major) << 32 | UInt64(newValue) } }
    }

    /// What an SMB client said that `changed` is, as long as nothing else has changed. No device's.
    public var shownChange: Int64? {
        get { flags.contains(.showsChange) ? Int64(bitPattern: deviceOrChange) : nil }
        set {
            guard !isDevice else { return }
            set(.showsChange, newValue != nil)
            deviceOrChange = UInt64(bitPattern: newValue ?? 0)
        }
    }

    /// What an object client wrote, as long as the content is that.
    public var seal: ContentSeal? {
        get { flags.contains(.sealed) ? ContentSeal(high: sealHigh, low: sealLow, parts: sealParts) : nil }
        set {
            set(.sealed, newValue != nil)
            (sealHigh, sealLow, sealParts) = (newValue?.high ?? 0, newValue?.low ?? 0, newValue?.parts ?? 0)
        }
    }
}

/// Where a file is found by name.
public struct Whereabouts: Equatable, Sendable {
    public var directory: FileID
    public var name: [UInt8]

    public init(directory: FileID, name: [UInt8]) {
        self.directory = directory
        self.name = name
    }
}

/// As much of a file's attributes as tells a client whether somebody else changed the file meanwhile (RFC 1813 2.6,
/// `wcc_attr`).
public struct Fingerprint: Equatable, Sendable {
    public var size: UInt64
    public var modified: Int64
    public var changed: Int64

    public init(size: UInt64, modified: Int64, changed: Int64) {
        self.size = size
        self.modified = modified
        self.changed = changed
    }

    public init(_ attributes: Attributes) {
        self.init(size: attributes.size, modified: attributes.modified, changed: attributes.changed)
    }
}

/// A file before and after a change.
public struct Changed: Sendable {
    /// Nil unless it is certain that nothing came between.
    public var before: Fingerprint?
    public var after: Attributes

    public init(before: Fingerprint?, after: Attributes) {
        self.before = before
        self.after = after
    }
}

/// Attributes that a caller sets; nil leaves one as it is.
public struct NewAttributes: Sendable {
    public var mode: UInt16?
    public var uid: UInt32?
    public var gid: UInt32?
    public var size: UInt64?
    public var accessed: Int64?
    public var modified: Int64?
    /// The time is the server's own: who may write may set it, others have to own the file.
    public var isAccessedNow = false
    public var isModifiedNow = false
    public var born: Int64?
    public var dos: UInt32?
    /// Shown by SMB in the place of the time of this change, until the next one.
    public var shownChange: Int64?
    /// Refused as `.notSynchronized` unless the file was last changed at this time.
    public var ifChanged: Int64?
    /// Whose lease a change of size does not end: it is his own.
    package var actor: LeaseKey?
    /// The file's list in step with `mode`: both change, or neither.
    package var acl: ACL?
    /// Somebody else's change takes set-user-ID and set-group-ID away, of the mode that the file has then.
    package var dropsSetID = false
    /// The request was made before, and nobody judged it again: it is answered, and changes nothing.
    package var isRepeat = false
    /// Who wants mode or owner changed: he must be allowed to when that is done, whoever has the file by then. Nil: that was judged.
    package var judge: Credential?
    /// What mode and list were made from. When the file has others by then, nothing is changed and the call is to be made again.
    package var basis: AccessBasis?

    public init() {}

    public var isEmpty: Bool {
        mode == nil && uid == nil && gid == nil && size == nil && accessed == nil && modified == nil && born == nil
            && dos == nil && shownChange == nil
    }
}

/// What says who may do what with a file.
package struct AccessBasis: Equatable, Sendable {
    package var mode: UInt16
    package var uid: UInt32
    package var gid: UInt32
    package var acl: ACL?

    package init(_ file: Attributes, _ acl: ACL?) {
        (mode, uid, gid) = (file.mode, file.uid, file.gid)
        self.acl = acl
    }
}

/// What a file is made with.
public struct NewFile: Sendable {
    public var type: FileType
    public var mode: UInt16
    /// Nil: the caller's.
    public var uid: UInt32?
    public var gid: UInt32?
    public var accessed: Int64?
    public var modified: Int64?
    public var dos: UInt32 = 0
    /// Of a device.
    public var major: UInt32 = 0
    public var minor: UInt32 = 0
    /// Of a symbolic link.
    public var target: [UInt8] = []
    /// Of a file: it begins as a hole.
    public var size: UInt64 = 0
    /// Nil: what the directory passes on, with the mode applied to it.
    public var acl: ACL?
    /// What the server keeps of it from the first moment on. Of a directory; a file system of the host takes none.
    public var own: [ExtendedAttribute] = []
    /// The mode counts only if the directory passes no list on: the client did not name one.
    public var isModeDefault = false
    /// What has the name in another case, or in one of `spellings`, is in the way as what has it in this one. A file system of the
    /// host's looks for the name alone.
    public var ignoresCase = false
    public var spellings: [[UInt8]] = []

    public init(type: FileType, mode: UInt16) {
        self.type = type
        self.mode = mode
    }
}

/// What `create` does when the name is taken.
public enum Disposition: Sendable {
    /// It is refused.
    case exclusive
    /// A regular file that is there is the answer, as it is.
    case openOrCreate
    /// Refused unless the file there was made by the same verifier (RFC 1813 3.3.8, EXCLUSIVE).
    case verified(UInt64)
}

public struct Created: Sendable {
    public var file: Attributes
    public var directory: Changed
    /// False: there was a file of this name, and that was allowed.
    public var isNew: Bool

    public init(file: Attributes, directory: Changed, isNew: Bool) {
        self.file = file
        self.directory = directory
        self.isNew = isNew
    }
}

public struct Removed: Sendable {
    /// The file without the name; `links` is 0 when that was its last one.
    public var file: Attributes
    public var directory: Changed

    public init(file: Attributes, directory: Changed) {
        self.file = file
        self.directory = directory
    }
}

public enum RenameMode: Sendable {
    case replace
    case noReplace
    case exchange
}

public struct Renamed: Sendable {
    public var file: Attributes
    /// What had the new name, as it is now.
    public var other: Attributes?
    public var source: Changed
    public var target: Changed

    public init(file: Attributes, other: Attributes?, source: Changed, target: Changed) {
        self.file = file
        self.other = other
        self.source = source
        self.target = target
    }
}

/// An entry that a listing shows; its name is valid while the visitor runs.
public struct Entry {
    public var file: FileID
    public var type: FileType
    /// Go on after this entry; stays valid while entries come and go.
    public var cookie: UInt64
    /// Only if it was asked for.
    public var attributes: Attributes?

    public init(file: FileID, type: FileType, cookie: UInt64, attributes: Attributes?) {
        self.file = file
        self.type = type
        self.cookie = cookie
        self.attributes = attributes
    }
}

/// Room, as protocols show it: never zero, never an overflow.
public struct Space: Equatable, Sendable {
    public var bytes: UInt64
    public var bytesFree: UInt64
    public var files: UInt64
    public var filesFree: UInt64

    public init(bytes: UInt64, bytesFree: UInt64, files: UInt64, filesFree: UInt64) {
        self.bytes = bytes
        self.bytesFree = bytesFree
        self.files = files
        self.filesFree = filesFree
    }
}

public enum Durability: UInt8, Sendable, Comparable {
    /// Written to the operating system: survives the process, not the machine.
    case memory
    /// Synced in the replay log.
    case log
    /// In the object store itself.
    case store

    public static func < (a: Durability, b: Durability) -> Bool { a.rawValue < b.rawValue }
}

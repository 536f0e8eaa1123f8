import Headhunter

/// Why an operation on files was refused. It has changed nothing.
public enum FileError: Error, Equatable, Sendable {
    case noEntry
    case exists
    case notDirectory
    case isDirectory
    case notEmpty
    case nameTooLong
    /// Empty, `.`, `..`, or with a slash or a zero byte in it.
    case badName
    /// The file is gone; its number may never come back.
    case stale
    case noSpace
    case fileTooBig
    /// A directory was to be moved into itself or below.
    case loop
    case tooDeep
    case tooManyLinks
    case noAttribute
    case attributeTooBig
    case tooManyAttributes
    case noSetting
    case settingTooBig
    case tooManySettings
    case invalid
    /// Not for this type of file.
    case wrongType
    case crossSubvolume
    /// It is locked (`LogFS.lockName`): no name of it goes.
    case locked
    /// A request with this token was made before, with other content.
    case tokenReused
}

/// What came of a call that never waits.
public enum Attempt<Value> {
    /// `number` is the change's place in the log: tell nobody that it is durable before `commit(number)`. 0 when
    /// nothing was changed.
    case done(Value, number: UInt64)
    case refused(FileError)
    /// Metadata is not in memory: `await load(for:)`, then try again.
    case missing
    /// Too much is dirty: `await room()`, then try again.
    case full
    /// Use the asynchronous form of the call; where there is none, a file must be flushed first: `await clear(for:)`,
    /// then try again.
    case busy
    case failed(VolumeError)
}

/// What an asynchronous call throws.
public enum Failure: Error, Equatable, Sendable {
    case file(FileError)
    case volume(VolumeError)
}

/// Ends the planning of an operation.
enum Halt: Error {
    case missing(Missing)
    case refused(FileError)
}

/// What LogFS refuses to go beyond.
public enum Limits {
    /// Four more fit a key of the tree; Windows names (255 units of UTF-16) need 765.
    public static let nameBytesMax = 1000
    public static let targetBytesMax = 4095
    public static let linksMax: UInt32 = 65_000
    /// Directories above a directory. A moved directory takes its own height with it: every walk is a loop, so what
    /// is deeper costs time and nothing else.
    public static let depthMax = 4096
    public static let fileBytesMax: UInt64 = 1 << 62
    public static let inlineBytesMax = 2048
    public static let xattrNameBytesMax = 255
    public static let xattrValueBytesMax = 65_536
    /// Names and values of all extended attributes of a file.
    public static let xattrBytesMax: UInt32 = 1 << 20
    public static let streamsMax = 1024
    public static let settingNameBytesMax = 255
    public static let settingValueBytesMax = 60 << 10
    /// Settings of a subvolume, and the bytes of their names and values.
    public static let settingsMax: UInt32 = 1 << 17
    public static let settingsBytesMax: UInt64 = 1 << 30
    /// Entries of one call of a listing.
    public static let listingMax = 256
    /// Inode numbers a directory takes at a time.
    static let inodeRange: UInt64 = 256
}

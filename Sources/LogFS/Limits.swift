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
    /// What is only ever counted up stays below it, in records that make sense.
    static let countMax: UInt64 = 1 << 62
    /// Directories in a directory.
    static let subdirectoriesMax: UInt32 = 1 << 31
    /// Inode numbers a directory takes at a time.
    static let inodeRange: UInt64 = 256
}

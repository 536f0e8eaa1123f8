/// What a file is.
public enum FileType: UInt8, Sendable {
    case file = 1
    case directory, symlink, fifo, socket, characterDevice, blockDevice
}

/// Names a file of a subvolume, for ever: no other file ever has the same two numbers.
public struct FileID: Hashable, Sendable {
    public var inode: UInt64
    /// The volume's epoch when the file was made. Numbers are not given out twice; this one tells files apart that
    /// got theirs before and after a subvolume was rolled back.
    public var generation: UInt64

    public init(inode: UInt64, generation: UInt64) {
        self.inode = inode
        self.generation = generation
    }
}

/// The record of one file, of whatever type.
///
/// ```
/// 0 version  1 type  2 mode u16  4 uid u32  8 gid u32  12 links u32  16 attributes u32  20 flags u32
/// 24 device, or shown change i64  32 size u64  40 allocated u64  48 accessed i64  56 modified i64  64 changed i64  72 born i64
/// 80 change u64  88 generation u64  96 parent u64  104 cookie u64  112 fork u64  120 extras u64  128 xattr bytes u32
/// 132 streams u32, and of a directory: 136 next cookie u64  144 next inode u64  152 inodes' end u64
/// 160 files u64  168 directories u64  176 bytes u64  184 bytes of streams u64; of a sealed file: 136 digest 16 bytes
/// 152 parts u32; of whatever has streams the last 8 bytes: bytes of its streams u64
/// ```
public struct Inode: Equatable, Sendable {
    public var number: UInt64 = 0
    public var type = FileType.file
    /// The twelve permission bits.
    public var mode: UInt16 = 0
    public var uid: UInt32 = 0
    public var gid: UInt32 = 0
    public var links: UInt32 = 0
    /// DOS attribute bits.
    public var attributes: UInt32 = 0
    var flags: UInt32 = 0
    /// `device` or `shownChange`.
    private var deviceOrChange: UInt64 = 0
    public var size: UInt64 = 0
    public var allocated: UInt64 = 0
    /// Nanoseconds since 1970.
    public var accessed: Int64 = 0
    public var modified: Int64 = 0
    /// Never goes back.
    public var changed: Int64 = 0
    public var born: Int64 = 0
    /// Rises with each change of the file; never goes back.
    public var change: UInt64 = 0
    public var generation: UInt64 = 0
    /// The directory with the file's first name: that is where its bytes count.
    public var parent: UInt64 = 0
    /// Of that name; of a stream: the file that has it, as no directory does.
    var cookie: UInt64 = 0
    /// Holds the data.
    var fork: UInt64 = 0
    /// Holds extended attributes and streams; 0 when there never was one.
    var extras: UInt64 = 0
    var xattrBytes: UInt32 = 0
    var streams: UInt32 = 0
    /// Of all its streams, where there are any.
    var streamBytes: UInt64 = 0

    /// What an object client wrote, as long as the content is that.
    public var seal: Seal?

    // Of a directory:
    var nextCookie: UInt64 = 0
    var nextInode: UInt64 = 0
    var inodesEnd: UInt64 = 0
    /// What lies in the directory itself, not deeper.
    var own = Totals()

    public var id: FileID { FileID(inode: number, generation: generation) }
    public var isDirectory: Bool { type == .directory }
    /// How many entries a directory has.
    public var entries: UInt64 { UInt64(clamping: own.files &+ own.directories) }

    /// The content is in the tree, under `inline`.
    static let isInline: UInt32 = 1
    /// Has had several names: each has a record of its own.
    static let hasLinkRecords: UInt32 = 2
    /// There are, or were, extents in the data fork.
    static let hasExtents: UInt32 = 4
    /// The record ends with a seal.
    static let isSealed: UInt32 = 8
    /// A directory that is there only because something below it was made by its whole path.
    static let isImplied: UInt32 = 16
    /// A named stream that its file has.
    static let isStream: UInt32 = 64

    /// An older version of a file: its content does not change any more.
    static let isShelved: UInt32 = 256
    /// Shows another time of the last change, which stands in a device's place.
    static let showsChange: UInt32 = 512
    /// Has the attribute `LogFS.lockName`.
    static let isLocked: UInt32 = 128

    public var isImplied: Bool { has(Self.isImplied) }
    public var isShelved: Bool { has(Self.isShelved) }
    public var isLocked: Bool { has(Self.isLocked) }
    public var isStream: Bool { has(Self.isStream) }
    public var hasStreams: Bool { streams > 0 }
    /// What the file counts for in the directory that has its first name.
    var load: Totals {
        isDirectory ? Totals() : Totals(bytes: Int64(clamping: size), streams: Int64(truncatingIfNeeded: streamBytes))
    }

    private var isDevice: Bool { type == .characterDevice || type == .blockDevice }

    public var device: UInt64 {
        get { isDevice ? deviceOrChange : 0 }
        set { if isDevice { deviceOrChange = newValue } }
    }

    /// What a client said that the last change's time is. Of the change that sets it; the next one, whoever makes it, ends it.
    public var shownChange: Int64? {
        get { has(Self.showsChange) && !isDevice ? Int64(bitPattern: deviceOrChange) : nil }
        set {
            guard let newValue, !isDevice else { return }
            flags |= Self.showsChange
            deviceOrChange = UInt64(bitPattern: newValue)
        }
    }

    static let size = 136
    static let sealedSize = 156
    static let directorySize = 192
    static let earlierDirectorySize = 184

    func has(_ flag: UInt32) -> Bool { flags & flag != 0 }

    init() {}

    /// Nil when this is no inode's record.
    init?(_ number: UInt64, _ bytes: UnsafeRawBufferPointer) {
        guard bytes.isRecord(atLeast: Self.size), let type = FileType(rawValue: bytes[1]) else { return nil }
        self.number = number
        self.type = type
        mode = bytes.u16(2)
        uid = bytes.u32(4)
        gid = bytes.u32(8)
        links = bytes.u32(12)
        attributes = bytes.u32(16)
        flags = bytes.u32(20)
        deviceOrChange = bytes.u64(24)
        size = bytes.u64(32)
        allocated = bytes.u64(40)
        accessed = bytes.i64(48)
        modified = bytes.i64(56)
        changed = bytes.i64(64)
        born = bytes.i64(72)
        change = bytes.u64(80)
        generation = bytes.u64(88)
        parent = bytes.u64(96)
        cookie = bytes.u64(104)
        fork = bytes.u64(112)
        extras = bytes.u64(120)
        xattrBytes = bytes.u32(128)
        streams = bytes.u32(132)
        // Of a file with streams, the sum of their bytes stands behind all else.
        let more = streams > 0 ? 8 : 0
        if type == .directory {
            guard bytes.count == Self.directorySize + more else { return nil }
            nextCookie = bytes.u64(136)
            nextInode = bytes.u64(144)
            inodesEnd = bytes.u64(152)
            own = Totals(
                files: bytes.i64(160), directories: bytes.i64(168), bytes: bytes.i64(176), streams: bytes.i64(184))
        } else if has(Self.isSealed) {
            guard bytes.count == Self.sealedSize + more else { return nil }
            flags &= ~Self.isSealed
            seal = Seal(high: bytes.u64(136), low: bytes.u64(144), parts: bytes.u32(152))
        } else if bytes.count != Self.size + more {
            return nil
        }
        if streams > 0 { streamBytes = bytes.u64(bytes.count - 8) }
        guard hasSense else { return nil }
    }

    /// Whether the numbers are such as there can be: what is counted on from them does not overflow, and no piece of memory is
    /// too small for what they say.
    private var hasSense: Bool {
        guard size <= Limits.fileBytesMax, allocated <= Limits.fileBytesMax, extras < KeyLayout.directorySpace,
            fork < KeyLayout.directorySpace,
            xattrBytes <= Limits.xattrBytesMax, streams <= Limits.streamsMax
        else { return false }
        guard !has(Self.isInline) || allocated <= Limits.inlineBytesMax else { return false }
        switch type {
        case .directory:
            return links <= Limits.subdirectoriesMax && nextCookie < Limits.countMax && nextInode <= inodesEnd
                && inodesEnd < KeyLayout.forkNumbers
        case .symlink: return links <= Limits.linksMax && size <= Limits.targetBytesMax
        default: return links <= Limits.linksMax
        }
    }

    /// Type and generation of a record, for who needs no more of it.
    @inline(__always)
    static func outline(_ record: UnsafeRawBufferPointer) -> (type: FileType, generation: UInt64)? {
        guard record.isRecord(atLeast: size), let type = FileType(rawValue: record[1]) else { return nil }
        return (type, record.u64(88))
    }

    func store(_ base: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        base.put(KeyLayout.version, at: 0)
        base.put(type.rawValue, at: 1)
        base.put(mode, at: 2)
        base.put(uid, at: 4)
        base.put(gid, at: 8)
        base.put(links, at: 12)
        base.put(attributes, at: 16)
        base.put(flags, at: 20)
        base.put(deviceOrChange, at: 24)
        base.put(size, at: 32)
        base.put(allocated, at: 40)
        base.put(accessed, at: 48)
        base.put(modified, at: 56)
        base.put(changed, at: 64)
        base.put(born, at: 72)
        base.put(change, at: 80)
        base.put(generation, at: 88)
        base.put(parent, at: 96)
        base.put(cookie, at: 104)
        base.put(fork, at: 112)
        base.put(extras, at: 120)
        base.put(xattrBytes, at: 128)
        base.put(streams, at: 132)
        var count = Self.size
        if type == .directory {
            base.put(nextCookie, at: 136)
            base.put(nextInode, at: 144)
            base.put(inodesEnd, at: 152)
            base.put(own.files, at: 160)
            base.put(own.directories, at: 168)
            base.put(own.bytes, at: 176)
            base.put(own.streams, at: 184)
            count = Self.directorySize
        } else if let seal {
            base.put(flags | Self.isSealed, at: 20)
            base.put(seal.high, at: 136)
            base.put(seal.low, at: 144)
            base.put(seal.parts, at: 152)
            count = Self.sealedSize
        }
        if streams > 0 {
            base.put(streamBytes, at: count)
            count += 8
        }
        return UnsafeRawBufferPointer(start: base, count: count)
    }

    /// A change at the time `now`; a clock that was set back does not take the file's times back.
    ///
    /// `floor` is the least counter of this epoch. What an earlier one showed to readers and lost in a crash may have had any
    /// counter up to that: without it, another content would get the same one, and a cache that compares them keep the lost one.
    mutating func touch(_ now: Int64, writes: UInt64 = 1, floor: UInt64) {
        if has(Self.showsChange) {
            flags &= ~Self.showsChange
            deviceOrChange = 0
        }
        changed = max(changed, now)
        change = max(change, floor) &+ writes
    }

    /// So many changes of one file fit an epoch.
    private static let epochShift: UInt64 = 40
    static func floor(ofEpoch epoch: UInt64) -> UInt64 { epoch << epochShift }

    /// Whether a counter is the one after another: nothing happened to the file but one change.
    public static func isNext(_ change: UInt64, after before: UInt64) -> Bool {
        let base = (change >> epochShift) << epochShift
        return change == max(before, base) &+ 1
    }
}

/// Files, directories and logical bytes: of one directory, or of all that lies below one. As a difference it may be
/// negative.
public struct Totals: Equatable, Sendable {
    /// Names of everything that is no directory.
    public var files: Int64 = 0
    public var directories: Int64 = 0
    /// A file with several names counts where its first name is.
    public var bytes: Int64 = 0
    /// Of named streams: where their file's are; those of a directory in itself.
    public var streams: Int64 = 0

    public init(files: Int64 = 0, directories: Int64 = 0, bytes: Int64 = 0, streams: Int64 = 0) {
        self.files = files
        self.directories = directories
        self.bytes = bytes
        self.streams = streams
    }

    var isZero: Bool { files == 0 && directories == 0 && bytes == 0 && streams == 0 }

    static func + (a: Totals, b: Totals) -> Totals {
        Totals(
            files: a.files &+ b.files, directories: a.directories &+ b.directories, bytes: a.bytes &+ b.bytes,
            streams: a.streams &+ b.streams)
    }
    static func - (a: Totals, b: Totals) -> Totals {
        Totals(
            files: a.files &- b.files, directories: a.directories &- b.directories, bytes: a.bytes &- b.bytes,
            streams: a.streams &- b.streams)
    }
    static func += (a: inout Totals, b: Totals) { a = a + b }
    static func -= (a: inout Totals, b: Totals) { a = a - b }
    static prefix func - (a: Totals) -> Totals { Totals() - a }
}

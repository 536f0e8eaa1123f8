// What records hold, read from bytes that may be anybody's: what makes no sense is nil, and numbers are such that they can be
// counted on from.

/// A range of a file and where its bytes lie.
struct Extent: Equatable {
    var start: UInt64
    var end: UInt64
    var segment: UInt64
    var offset: UInt32

    static let size = 21
    /// No segment is longer.
    static let segmentBytesMax: UInt64 = 1 << 30

    init(start: UInt64, end: UInt64, segment: UInt64, offset: UInt32) {
        self.start = start
        self.end = end
        self.segment = segment
        self.offset = offset
    }

    init?(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        guard key.count == KeyLayout.numberedCount else { return nil }
        self.init(end: key.keyNumber(), value)
    }

    init?(end: UInt64, _ value: UnsafeRawBufferPointer) {
        guard value.isRecord(of: Self.size) else { return nil }
        start = value.u64(1)
        self.end = end
        segment = value.u64(9)
        offset = value.u32(17)
        guard start < end, end <= Limits.fileBytesMax,
            length <= Self.segmentBytesMax - min(UInt64(offset), Self.segmentBytesMax)
        else { return nil }
    }

    var length: UInt64 { end - start }

    /// The part inside of [from, to).
    func clipped(_ from: UInt64, _ to: UInt64) -> Extent {
        let first = max(start, from)
        return Extent(
            start: first, end: min(end, to), segment: segment,
            offset: offset + UInt32(truncatingIfNeeded: first - start))
    }
}

/// What an entry leads to.
public struct Entry: Equatable, Sendable {
    public var inode: UInt64
    /// The entry's place in its directory: stays while others come and go, and is never used again.
    public var cookie: UInt64
    public var type: FileType

    static let size = 18
    /// In front of the name in a cookie's record.
    static let cookieSize = 10

    init(inode: UInt64, cookie: UInt64, type: FileType) {
        self.inode = inode
        self.cookie = cookie
        self.type = type
    }

    /// Of a name's record.
    init?(name value: UnsafeRawBufferPointer) {
        guard value.isRecord(of: Self.size), let type = FileType(rawValue: value[17]) else { return nil }
        self.init(inode: value.u64(1), cookie: value.u64(9), type: type)
    }

    /// Of a cookie's record, which ends with the name.
    init?(cookie: UInt64, _ value: UnsafeRawBufferPointer) {
        guard value.isRecord(atLeast: Self.cookieSize + 1), value.count <= Self.cookieSize + Limits.nameBytesMax,
            let type = FileType(rawValue: value[9])
        else { return nil }
        self.init(inode: value.u64(1), cookie: cookie, type: type)
    }

    static func name(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer { value.from(cookieSize) }
}

/// A name of a file that has had several, from its key.
struct LinkKey {
    var directory: UInt64
    var cookie: UInt64

    init?(_ key: UnsafeRawBufferPointer) {
        guard key.count == KeyLayout.doublyNumberedCount else { return nil }
        directory = key.keyNumber()
        cookie = key.keyNumber(at: 17)
    }
}

/// An extended attribute or a setting: its length, and its bytes, or those parts of it that lie behind.
struct LongValue {
    /// What lies in the record itself.
    static let shortBytesMax = 3000
    static let partBytes = 3000

    var length: Int
    /// All of it if it is short.
    var head: UnsafeRawBufferPointer

    static func parts(_ length: Int) -> Int { length > shortBytesMax ? (length + partBytes - 1) / partBytes : 0 }
    var parts: Int { Self.parts(length) }

    init?(_ value: UnsafeRawBufferPointer, max: Int) {
        guard value.isRecord(atLeast: 5) else { return nil }
        length = Int(value.u32(1))
        head = value.from(5)
        guard length <= max, head.count == (length > Self.shortBytesMax ? 0 : length) else { return nil }
    }

    /// The bytes of one part.
    func part(_ index: Int, _ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        let count = min(Self.partBytes, length - index * Self.partBytes)
        return count > 0 && value.isRecord(of: 1 + count) ? value.from(1) : nil
    }
}

/// See `RequestToken`.
struct TokenResult {
    var digest: UInt64
    var result: UInt64

    init?(_ value: UnsafeRawBufferPointer) {
        guard value.isRecord(of: 25) else { return nil }
        digest = value.u64(1)
        result = value.u64(9)
    }
}

struct TokenAge {
    var id: UInt64
    var time: Int64

    init?(_ value: UnsafeRawBufferPointer) {
        guard value.isRecord(of: 17) else { return nil }
        id = value.u64(1)
        time = value.i64(9)
    }
}

/// The serials of a client's results.
struct TokenSpan {
    var oldest: UInt64
    var next: UInt64

    init() { (oldest, next) = (0, 0) }

    init?(_ value: UnsafeRawBufferPointer) {
        guard value.isRecord(of: 17) else { return nil }
        oldest = value.u64(1)
        next = value.u64(9)
        guard oldest <= next, next < Limits.countMax else { return nil }
    }
}

/// What a subvolume knows of itself.
struct SubvolumeRecord {
    var nextInode: UInt64
    var nextFork: UInt64
    var foldKey: (UInt64, UInt64)
    var foldVersion: UInt32

    static let size = 37

    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.isRecord(of: Self.size) else { return nil }
        nextInode = bytes.u64(1)
        nextFork = bytes.u64(9)
        foldKey = (bytes.u64(17), bytes.u64(25))
        foldVersion = bytes.u32(33)
        guard nextInode < KeyLayout.forkNumbers - Limits.inodeRange, nextFork < KeyLayout.forkNumbers - 1 else {
            return nil
        }
    }

    init(nextInode: UInt64, nextFork: UInt64, foldKey: (UInt64, UInt64), foldVersion: UInt32) {
        self.nextInode = nextInode
        self.nextFork = nextFork
        self.foldKey = foldKey
        self.foldVersion = foldVersion
    }
}

/// How many settings there are, and what they take.
struct SettingsSum: Equatable {
    var count: UInt32 = 0
    var bytes: UInt64 = 0

    static let size = 13

    init() {}

    init?(_ record: UnsafeRawBufferPointer) {
        guard record.isRecord(of: Self.size) else { return nil }
        count = record.u32(1)
        bytes = record.u64(5)
        guard count <= Limits.settingsMax, bytes <= Limits.settingsBytesMax else { return nil }
    }

    mutating func add(_ size: Int) {
        count += 1
        bytes += UInt64(size)
    }

    /// Never below nothing, whatever the sum said.
    mutating func remove(_ size: Int) {
        count -= min(count, 1)
        bytes -= min(bytes, UInt64(size))
    }

    func store(_ memory: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        memory.put(KeyLayout.version, at: 0)
        memory.put(count, at: 1)
        memory.put(bytes, at: 5)
        return UnsafeRawBufferPointer(start: memory, count: Self.size)
    }
}

extension UnsafeRawBufferPointer {
    /// Whether this is a value of our version with so many bytes.
    @inline(__always) func isRecord(of size: Int) -> Bool { count == size && self[0] == KeyLayout.version }
    @inline(__always) func isRecord(atLeast size: Int) -> Bool { count >= size && self[0] == KeyLayout.version }

    /// The one number of a record that has nothing else.
    var recordNumber: UInt64? { isRecord(of: 9) ? u64(1) : nil }
    /// The one number of a key that has nothing else behind its kind.
    var subKeyNumber: UInt64? { count == KeyLayout.numberedCount ? keyNumber() : nil }
}

/// Files and directories of the host, below one root. Every call blocks: callers run on a thread of
/// `World.blocking`, never on an event loop. Paths are relative to the root and separated by `/`.
///
/// What is durable, in the real form as in the simulated one: bytes of a file after `DiskFile.sync`;
/// a name (made, renamed or removed) after `syncDirectory` of the directory that holds it. Nothing else.
public protocol Disk: AnyObject, Sendable {
    func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile
    func makeDirectory(_ path: String) throws(Errno)
    func removeDirectory(_ path: String) throws(Errno)
    /// Replaces what `to` names, in one step.
    func rename(_ from: String, to: String) throws(Errno)
    /// Gives the file a second name; fails with EEXIST when `to` exists, in one step.
    func link(_ from: String, to: String) throws(Errno)
    func remove(_ path: String) throws(Errno)
    func status(_ path: String) throws(Errno) -> FileStatus
    /// Calls `visit` for each entry but `.` and `..`, in no particular order, until it answers false.
    func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno)
    func syncDirectory(_ path: String) throws(Errno)
    func space() throws(Errno) -> DiskSpace
}

public struct OpenOptions: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let write = OpenOptions(rawValue: 1)
    public static let create = OpenOptions(rawValue: 2)
    /// With `create`: fails with EEXIST when the name exists.
    public static let exclusive = OpenOptions(rawValue: 4)
    public static let truncate = OpenOptions(rawValue: 8)
    /// Bypasses the page cache where the file system can; offsets, lengths and memory aligned to 4096.
    public static let direct = OpenOptions(rawValue: 16)
}

/// An open file of a `Disk`. Safe to use from several threads; writes to disjoint ranges may overlap in time.
public protocol DiskFile: AnyObject, Sendable {
    /// Reads until the buffer is full or the file ends; answers the number of bytes.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int
    /// Fills the buffer from what the system has in memory; false when it would have to wait for the disk, or the file ends before.
    func readNow(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool
    /// Writes all of `buffer`, or throws; what a failed write left behind is undefined.
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno)
    /// The same for several buffers, one after the other, in one system call where that is possible.
    func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno)
    /// Makes all completed writes durable (and the size with them). After a failure nothing is known of any
    /// write since the last success: the kernel may have dropped them, and a second sync may lie. Abandon the file.
    func sync() throws(Errno)
    /// Has what was written there begin its way to the disk. It promises nothing, and no error is lost by it.
    func startWriting(at offset: UInt64, _ count: Int)
    func truncate(_ size: UInt64) throws(Errno)
    /// Reserves space so that later writes below `size` do not change the file's metadata.
    func allocate(_ size: UInt64) throws(Errno)
    func size() throws(Errno) -> UInt64
    /// Takes the exclusive lock that belongs to this open file and ends with it; false when somebody has it.
    func tryLock() throws(Errno) -> Bool
    /// Idempotent; a file that is dropped without it is closed too.
    func close()
}

public enum FileKind: Sendable { case file, directory, other }

public struct FileStatus: Sendable, Equatable {
    public var kind: FileKind
    public var size: UInt64
    /// Nanoseconds since 1970, by the host's clock.
    public var modified: Int64

    public init(kind: FileKind, size: UInt64, modified: Int64) {
        self.kind = kind
        self.size = size
        self.modified = modified
    }
}

public struct DiskSpace: Sendable, Equatable {
    public var total: UInt64
    public var free: UInt64

    public init(total: UInt64, free: UInt64) {
        self.total = total
        self.free = free
    }
}

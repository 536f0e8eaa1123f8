import CShim
import Synchronization

/// A directory of the machine and what lies below it.
///
/// The directory is held open and every path is relative to it, so that it may be moved or mounted over meanwhile.
/// Neither `..` nor a symbolic link leads out of it. New files and directories belong to their owner alone.
public final class RealDisk: Disk {
    private let root: Int32

    /// `path` names an existing directory.
    public init(path: String) throws(Errno) { root = Int32(try check(shim_disk_root(path))) }

    deinit { shim_disk_close(root) }

    public func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
        try DiskPath.checkBelow(path)
        let fd = try check(shim_disk_open(root, path, UInt32(options.rawValue)))
        return RealFile(fd: Int32(fd), isDirect: options.contains(.direct))
    }

    public func makeDirectory(_ path: String) throws(Errno) {
        try DiskPath.checkBelow(path)
        try check(shim_disk_make_directory(root, path))
    }

    public func removeDirectory(_ path: String) throws(Errno) {
        try DiskPath.checkBelow(path)
        try check(shim_disk_remove(root, path, 1))
    }

    public func rename(_ from: String, to: String) throws(Errno) {
        try DiskPath.checkBelow(from)
        try DiskPath.checkBelow(to)
        try check(shim_disk_rename(root, from, to))
    }

    public func link(_ from: String, to: String) throws(Errno) {
        try DiskPath.checkBelow(from)
        try DiskPath.checkBelow(to)
        try check(shim_disk_link(root, from, to))
    }

    public func remove(_ path: String) throws(Errno) {
        try DiskPath.checkBelow(path)
        try check(shim_disk_remove(root, path, 0))
    }

    public func status(_ path: String) throws(Errno) -> FileStatus {
        try DiskPath.check(path)
        var status = shim_status()
        try check(shim_disk_status(root, path, &status))
        return FileStatus(kind: Self.kind(status.kind), size: status.size, modified: status.modified)
    }

    public func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
        try DiskPath.check(path)
        var listing: OpaquePointer?
        try check(shim_listing_open(root, path, &listing))
        guard let listing else { throw .io }
        defer { shim_listing_close(listing) }
        var name: UnsafePointer<CChar>?
        var kind: Int32 = 0
        while try check(shim_listing_next(listing, &name, &kind)) == 1 {
            guard let name, visit(String(cString: name), Self.kind(kind)) else { return }
        }
    }

    public func syncDirectory(_ path: String) throws(Errno) {
        try DiskPath.check(path)
        try check(shim_disk_sync_directory(root, path))
    }

    public func space() throws(Errno) -> DiskSpace {
        var space = DiskSpace(total: 0, free: 0)
        try check(shim_disk_space(root, &space.total, &space.free))
        return space
    }

    private static func kind(_ kind: Int32) -> FileKind {
        switch kind {
        case Int32(SHIM_KIND_FILE): .file
        case Int32(SHIM_KIND_DIRECTORY): .directory
        default: .other
        }
    }
}

/// A file of the machine. To use it after `close` is a bug, and stops the process before it hits somebody else's file.
final class RealFile: DiskFile {
    /// A write from this size on begins to be written back at once: a sync will follow, and finds most of it done.
    static let pushBytes = 4 << 20
    /// The kernel copies so much without letting a loop have the processor: new memory for it was seen to take 4 ms for 1 MiB.
    private static let copiedAtOnce = 256 << 10
    /// The disk fetches it itself.
    private static let fetchedAtOnce = 1 << 20
    private let descriptor: Atomic<Int32>
    private let isDirect: Bool

    init(fd: Int32, isDirect: Bool) {
        descriptor = Atomic(fd)
        self.isDirect = isDirect
    }

    deinit { close() }

    private var fd: Int32 {
        let fd = descriptor.load(ordering: .relaxed)
        precondition(fd >= 0, "a file is used after its end")
        return fd
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
        try check(shim_disk_read(fd, buffer.baseAddress, buffer.count, offset))
    }

    func readNow(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool {
        shim_disk_read_now(fd, buffer.baseAddress, buffer.count, offset) == 1
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
        var piece = shim_piece(base: buffer.baseAddress, length: buffer.count)
        try check(shim_disk_write(fd, &piece, 1, offset, atOnce, pushes(buffer.count)))
    }

    func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) {
        let pieces = buffers.map { shim_piece(base: $0.baseAddress, length: $0.count) }
        let push = pushes(buffers.reduce(0) { $0 + $1.count })
        try check(shim_disk_write(fd, pieces, pieces.count, offset, atOnce, push))
    }

    private var atOnce: Int { isDirect ? Self.fetchedAtOnce : Self.copiedAtOnce }

    private func pushes(_ count: Int) -> Int32 { count >= Self.pushBytes && !isDirect ? 1 : 0 }

    /// Enough for the size too: fdatasync leaves out only what is not needed to read the data back.
    func sync() throws(Errno) { try check(shim_disk_sync(fd)) }

    func truncate(_ size: UInt64) throws(Errno) { try check(shim_disk_truncate(fd, size)) }

    func startWriting(at offset: UInt64, _ count: Int) { shim_disk_start_writing(fd, offset, UInt64(count)) }

    func allocate(_ size: UInt64) throws(Errno) { try check(shim_disk_allocate(fd, size)) }

    func size() throws(Errno) -> UInt64 { UInt64(try check(Int(shim_disk_size(fd)))) }

    func tryLock() throws(Errno) -> Bool { try check(shim_disk_lock(fd)) == 1 }

    func close() {
        let fd = descriptor.exchange(-1, ordering: .relaxed)
        if fd >= 0 { shim_disk_close(fd) }
    }
}

/// The shim answers a negative error number or a result.
@discardableResult
private func check<Result: BinaryInteger>(_ result: Result) throws(Errno) -> Int {
    guard result >= 0 else { throw Errno(Int32(truncatingIfNeeded: 0 - Int(result))) }
    return Int(result)
}

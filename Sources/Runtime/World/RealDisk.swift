import CShim
import Glibc

/// The directory of the host that everything of a server lies in. Nothing outside of it can be reached through it:
/// no `..` and no symbolic link on a path is followed.
public final class RealDisk: Disk {
    private let root: Int32

    /// `path` exists.
    public init(path: String) throws(Errno) {
        root = try check(shim_open_root(path))
    }

    deinit { Glibc.close(root) }

    public func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
        RealFile(try check(shim_open_below(root, try below(path), UInt32(options.rawValue))))
    }

    public func makeDirectory(_ path: String) throws(Errno) {
        try check(mkdirat(root, try below(path), 0o700) == 0 ? 0 : -errno)
    }

    public func removeDirectory(_ path: String) throws(Errno) {
        try check(unlinkat(root, try below(path), AT_REMOVEDIR) == 0 ? 0 : -errno)
    }

    public func rename(_ from: String, to: String) throws(Errno) {
        try check(renameat(root, try below(from), root, try below(to)) == 0 ? 0 : -errno)
    }

    public func link(_ from: String, to: String) throws(Errno) {
        try check(linkat(root, try below(from), root, try below(to), 0) == 0 ? 0 : -errno)
    }

    public func remove(_ path: String) throws(Errno) {
        try check(unlinkat(root, try below(path), 0) == 0 ? 0 : -errno)
    }

    public func status(_ path: String) throws(Errno) -> FileStatus {
        var kind: Int32 = 0
        var size: UInt64 = 0
        var modified: Int64 = 0
        try check(shim_stat_below(root, path.isEmpty ? "" : try below(path), &kind, &size, &modified))
        return FileStatus(kind: Self.kind(kind), size: size, modified: modified)
    }

    private static func kind(_ number: Int32) -> FileKind { number == 0 ? .file : number == 1 ? .directory : .other }

    private static let nameCapacity = 1024

    public func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
        var error: Int32 = 0
        guard let directory = shim_open_directory(root, path.isEmpty ? "" : try below(path), &error) else {
            throw Errno(error)
        }
        defer { shim_close_directory(directory) }
        let failed = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.nameCapacity) { name -> Bool in
            guard let base = name.baseAddress else { return true }
            while true {
                let kind = shim_next_entry(directory, base, Self.nameCapacity)
                if kind < 0 { return kind != -1 }
                if !visit(String(cString: base), Self.kind(kind)) { return false }
            }
        }
        if failed { throw .io }
    }

    public func syncDirectory(_ path: String) throws(Errno) {
        let directory = try check(shim_open_below(root, path.isEmpty ? "." : try below(path), 0))
        defer { Glibc.close(directory) }
        try check(fsync(directory) == 0 ? 0 : -errno)
    }

    public func space() throws(Errno) -> DiskSpace {
        var space = DiskSpace(total: 0, free: 0)
        try check(shim_space(root, &space.total, &space.free))
        return space
    }

    /// Paths of ours have no empty, `.` or `..` part; anything else is a mistake, or somebody's attempt.
    private func below(_ path: String) throws(Errno) -> String {
        guard !path.isEmpty else { throw .invalid }
        for part in path.split(separator: "/", omittingEmptySubsequences: false)
        where part.isEmpty || part == "." || part == ".." { throw .invalid }
        return path
    }
}

/// A negative answer is an error number.
@discardableResult
private func check(_ result: Int32) throws(Errno) -> Int32 {
    guard result >= 0 else { throw Errno(-result) }
    return result
}

final class RealFile: DiskFile {
    /// Buffers that one system call takes.
    private static let vectorsMax = 512
    private let descriptor: Int32
    private let isOpen = Guarded(true)

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close() }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
        guard let base = buffer.baseAddress else { return 0 }
        var done = 0
        while done < buffer.count {
            let got = pread(descriptor, base + done, buffer.count - done, off_t(offset) + off_t(done))
            if got == 0 { break }
            if got < 0 {
                if errno == EINTR { continue }
                throw Errno(errno)
            }
            done += got
        }
        return done
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
        guard let base = buffer.baseAddress else { return }
        var done = 0
        while done < buffer.count {
            let put = pwrite(descriptor, base + done, buffer.count - done, off_t(offset) + off_t(done))
            if put < 0 {
                if errno == EINTR { continue }
                throw Errno(errno)
            }
            // A write that takes nothing will go on doing so.
            if put == 0 { throw .io }
            done += put
        }
    }

    func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) {
        if buffers.count == 1 { return try write(buffers[0], at: offset) }
        var place = offset
        var index = 0
        while index < buffers.count {
            let group = buffers[index..<min(index + Self.vectorsMax, buffers.count)]
            let vectors = group.map {
                iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count)
            }
            let put = shim_pwritev(descriptor, vectors, Int32(vectors.count), place)
            if put < 0 { throw Errno(Int32(-put)) }
            // What one call did not take is written piece by piece.
            var left = Int(put)
            for buffer in group {
                if left >= buffer.count {
                    left -= buffer.count
                } else {
                    try write(UnsafeRawBufferPointer(rebasing: buffer[left...]), at: place + UInt64(left))
                    left = 0
                }
                place += UInt64(buffer.count)
            }
            index += group.count
        }
    }

    func sync() throws(Errno) {
        // The size is part of what fdatasync makes durable; times are not needed.
        guard fdatasync(descriptor) == 0 else { throw Errno(errno) }
    }

    func truncate(_ size: UInt64) throws(Errno) {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw Errno(errno) }
    }

    func allocate(_ size: UInt64) throws(Errno) { try check(shim_reserve(descriptor, size)) }

    func size() throws(Errno) -> UInt64 {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Errno(errno) }
        return UInt64(info.st_size)
    }

    func tryLock() throws(Errno) -> Bool { try check(shim_lock_file(descriptor)) == 1 }

    func close() {
        let wasOpen = isOpen.withLock { isOpen -> Bool in
            defer { isOpen = false }
            return isOpen
        }
        if wasOpen { Glibc.close(descriptor) }
    }
}

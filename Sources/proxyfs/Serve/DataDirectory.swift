import Bytes
import Glibc
import Runtime

/// The directory that everything of one server lies in, and the lock that says so: two servers over one directory
/// would each overwrite what the other has promised.
struct DataDirectory {
    static let lockFile = "lock"

    let path: String
    let disk: RealDisk
    /// Held as long as this is kept; the system ends it with the process, however that ends.
    private let lock: any DiskFile

    init(_ path: String) throws(CommandFailure) {
        self.path = path
        do throws(Errno) {
            try Self.make(path)
            disk = try RealDisk(path: path)
            lock = try disk.open(Self.lockFile, [.write, .create])
        } catch {
            throw .failure(
                "can not use the data directory \(path): \(error); name one that this user can write to with --data")
        }
        let isOurs: Bool
        do throws(Errno) {
            isOurs = try lock.tryLock()
            if isOurs {
                // For whoever is refused: nothing else reads it.
                let text = Array("\(getpid())\n".utf8).withUnsafeBytes { Block(copying: $0) }
                try lock.truncate(0)
                try lock.write(text.bytes, at: 0)
            }
        } catch {
            throw .failure("can not lock the data directory \(path): \(error); it must be on a file system with locks")
        }
        guard isOurs else {
            throw .failure(
                "the data directory \(path) is in use by \(Self.holder(lock)); stop that server, or name another "
                    + "directory with --data")
        }
    }

    private static func holder(_ lock: any DiskFile) -> String {
        let block = Block(capacity: 16)
        block.count = (try? lock.read(into: block.free, at: 0)) ?? 0
        let digits = block.bytes.prefix { $0 >= 0x30 && $0 <= 0x39 }
        return digits.isEmpty ? "another process" : "process \(String(decoding: digits, as: UTF8.self))"
    }

    /// With the directories above it, each name synced: with one of them the power would take all that is promised below. One that
    /// is there may have been made by a start that came no further.
    private static func make(_ path: String) throws(Errno) {
        var prefix = path.hasPrefix("/") ? "/" : ""
        var above = prefix.isEmpty ? "." : "/"
        for part in path.split(separator: "/") {
            prefix += part
            let isMade = mkdir(prefix, 0o700) == 0
            if !isMade, errno != EEXIST { throw Errno(errno) }
            // Others' directories may be closed to this user; what lies there is not of its making.
            do throws(Errno) { try sync(above) } catch { if isMade { throw error } }
            above = prefix
            prefix += "/"
        }
    }

    private static func sync(_ directory: String) throws(Errno) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Errno(errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw Errno(errno) }
    }
}

import Bytes
import Glibc
import Runtime

extension Disk {
    func removeIfThere(_ path: String) throws(Errno) {
        do throws(Errno) { try remove(path) } catch { guard error == .noEntry else { throw error } }
    }
}

/// The directory of a volume's log on the local disk, as far as it is more than the log's files: a name of its own, which
/// headers tell. A directory of an owner before, with records that somebody else has numbered anew since, is not taken for
/// the one that goes on. Blocks; for threads of the pool.
package struct LogDirectory {
    private static let fileName = "place"

    /// Whether the file was to become a directory's name.
    static func isDraft(_ name: String) -> Bool {
        name.hasPrefix(fileName + "-") && name.hasSuffix(ReplayLog.draftSuffix)
    }

    /// What a disk without hard links answers.
    static func linksAreLacking(_ error: Errno) -> Bool {
        [.notPermitted, Errno(EOPNOTSUPP), Errno(ENOSYS)].contains(error)
    }

    let disk: any Disk
    let path: String

    package init(disk: any Disk, path: String) {
        self.disk = disk
        self.path = path
    }

    enum Name: Equatable, Sendable {
        case none
        case place(UInt64)
        /// It had one.
        case damaged
    }

    private static let copyBytes = 12
    private static let copies = 2

    /// The directory's name: eight bytes, little-endian, and their CRC32C; twice, because a log without its name is a log
    /// lost.
    func place() throws(Errno) -> Name {
        let file: any DiskFile
        do throws(Errno) { file = try disk.open(path + "/" + Self.fileName, []) } catch {
            guard error == .noEntry else { throw error }
            return .none
        }
        defer { file.close() }
        let block = Block(capacity: Self.copies * Self.copyBytes)
        memset(block.base, 0, block.capacity)
        defer { extendLifetime(block) }
        block.count = try file.read(into: block.free, at: 0)
        for copy in 0..<Self.copies {
            let base = block.base + copy * Self.copyBytes
            let place = UInt64(littleEndian: base.loadUnaligned(as: UInt64.self))
            let sum = UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
            if place != 0, sum == CRC32C.of(UnsafeRawBufferPointer(start: base, count: 8)) { return .place(place) }
        }
        return .damaged
    }

    /// Gives the directory a name, durably, and answers which it has. In a shared one, whose lock may be lost, another opening may name it beside
    /// us: of two names one stays there, by a link, which not every disk has. `replaces` what is damaged.
    func name(_ place: UInt64, replaces: Bool, isShared: Bool) throws(Errno) -> Name {
        let block = Block(capacity: Self.copies * Self.copyBytes)
        defer { extendLifetime(block) }
        let sum = withUnsafeBytes(of: place.littleEndian) { CRC32C.of($0) }
        for _ in 0..<Self.copies {
            withUnsafeBytes(of: place.littleEndian) { block.append($0) }
            withUnsafeBytes(of: sum.littleEndian) { block.append($0) }
        }
        let name = path + "/" + Self.fileName
        let draft = name + "-" + String(place, radix: 16) + ReplayLog.draftSuffix
        let file = try disk.open(draft, [.write, .create, .exclusive])
        defer { file.close() }
        do throws(Errno) {
            try file.write(block.bytes, at: 0)
            try file.sync()
            if replaces || !isShared {
                try disk.rename(draft, to: name)
            } else {
                do throws(Errno) { try disk.link(draft, to: name) } catch {
                    guard error == .exists else { throw error }
                }
                try disk.removeIfThere(draft)
            }
            try disk.syncDirectory(path)
        } catch {
            // It is tried again, perhaps for long.
            try? disk.removeIfThere(draft)
            throw error
        }
        return try self.place()
    }

    /// Puts a log that does not count any more out of the way, and the data beside it. They are kept: they may be all that is
    /// left of changes that the store has not seen. `epoch` is the one that is taken over from. What is numbered from `end`
    /// on is a later owner's.
    package func setAside(_ epoch: UInt64, below end: UInt64 = .max) throws(Errno) {
        var moves: [(from: String, name: String)] = []
        for folder in [path, Headhunter.stageDirectory(path)] {
            do throws(Errno) {
                try disk.list(folder) { name, kind in
                    let number = LogRecovery.sequence(name) ?? StageWriter.number(name)?.segment
                    if kind == .file, let number, number < end { moves.append((folder + "/" + name, name)) }
                    return true
                }
            } catch { guard error == .noEntry else { throw error } }
        }
        guard !moves.isEmpty else { return }
        let lost = try makeLost(epoch)
        for move in moves { try disk.rename(move.from, to: lost + "/" + move.name) }
        try disk.syncDirectory(lost)
        try disk.syncDirectory(path)
        do throws(Errno) { try disk.syncDirectory(Headhunter.stageDirectory(path)) } catch {
            guard error == .noEntry else { throw error }
        }
    }

    /// A directory of its own for each time: a takeover that ended half way comes again, and must not put its empty log in the place of
    /// what it set aside before.
    private func makeLost(_ epoch: UInt64) throws(Errno) -> String {
        let first = path + "/lost-" + String(epoch, radix: 16)
        var times = 0
        while true {
            let lost = times == 0 ? first : first + "-\(times)"
            do throws(Errno) {
                try disk.makeDirectory(lost)
                return lost
            } catch { guard error == .exists, times < Self.lostMax else { throw error } }
            times += 1
        }
    }

    private static let lostMax = 1_000
}

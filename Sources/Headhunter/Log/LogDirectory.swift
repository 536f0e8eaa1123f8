import Bytes
import Glibc
import Runtime

/// The directory of a volume's log on the local disk, as far as it is more than the log's files: a name of its own, which
/// headers tell. A directory of an owner before, with records that somebody else has numbered anew since, is not taken for
/// the one that goes on. Blocks; for threads of the pool.
struct LogDirectory {
    private static let fileName = "place"

    let disk: any Disk
    let path: String

    enum Name: Equatable, Sendable {
        case none
        case place(UInt64)
        /// It had one.
        case damaged
    }

    /// The directory's name: eight bytes, little-endian, and their CRC32C.
    func place() throws(Errno) -> Name {
        let file: any DiskFile
        do throws(Errno) { file = try disk.open(path + "/" + Self.fileName, []) } catch {
            guard error == .noEntry else { throw error }
            return .none
        }
        defer { file.close() }
        let block = Block(capacity: 12)
        memset(block.base, 0, 12)
        defer { extendLifetime(block) }
        block.count = try file.read(into: block.free, at: 0)
        let place = UInt64(littleEndian: block.base.load(as: UInt64.self))
        let sum = UInt32(littleEndian: block.base.load(fromByteOffset: 8, as: UInt32.self))
        let isWhole = block.count == 12 && sum == CRC32C.of(UnsafeRawBufferPointer(start: block.base, count: 8))
        return isWhole && place != 0 ? .place(place) : .damaged
    }

    /// Gives the directory a name, durably.
    func name(_ place: UInt64) throws(Errno) {
        let block = Block(capacity: 12)
        defer { extendLifetime(block) }
        withUnsafeBytes(of: place.littleEndian) { block.append($0) }
        let sum = CRC32C.of(block.bytes)
        withUnsafeBytes(of: sum.littleEndian) { block.append($0) }
        let name = path + "/" + Self.fileName
        let draft = name + ReplayLog.draftSuffix
        do throws(Errno) { try disk.remove(draft) } catch { guard error == .noEntry else { throw error } }
        let file = try disk.open(draft, [.write, .create, .exclusive])
        defer { file.close() }
        try file.write(block.bytes, at: 0)
        try file.sync()
        try disk.rename(draft, to: name)
        try disk.syncDirectory(path)
    }

    /// Puts a log that does not count any more out of the way, and the data beside it. They are kept: they may be all that is
    /// left of changes that the store has not seen. `epoch` is the one that is taken over from.
    func setAside(_ epoch: UInt64) throws(Errno) {
        let lost = path + "/lost-" + String(epoch, radix: 16)
        var moves: [(from: String, name: String)] = []
        for folder in [path, Headhunter.stageDirectory(path)] {
            do throws(Errno) {
                try disk.list(folder) { name, kind in
                    let isOurs = LogRecovery.sequence(name) != nil || StageWriter.number(name) != nil
                    if kind == .file, isOurs { moves.append((folder + "/" + name, name)) }
                    return true
                }
            } catch { guard error == .noEntry else { throw error } }
        }
        guard !moves.isEmpty else { return }
        do throws(Errno) { try disk.makeDirectory(lost) } catch { guard error == .exists else { throw error } }
        for move in moves { try disk.rename(move.from, to: lost + "/" + move.name) }
        try disk.syncDirectory(lost)
        try disk.syncDirectory(path)
        do throws(Errno) { try disk.syncDirectory(Headhunter.stageDirectory(path)) } catch {
            guard error == .noEntry else { throw error }
        }
    }
}

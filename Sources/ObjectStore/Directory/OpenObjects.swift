import Bytes
import Runtime
import Synchronization

/// Objects' files that stay open, so that small reads of what the system has in memory need neither a thread nor a name. On the
/// store's loop.
///
/// An object's bytes never change, but another one may get its name: whoever puts or deletes says so before and after, and
/// what was opened between is not kept.
package final class OpenObjects {
    /// Files that all stores of the process keep open between them: descriptors are wanted for clients and logs, too.
    package static let countMax = 256
    /// Longer reads copy for so long that a thread does it.
    static let bytesMax: UInt64 = 64 << 10

    private static let open = Atomic(0)

    private struct Entry {
        var file: any DiskFile
        var size: UInt64
        var used: UInt64
    }
    private var entries: [String: Entry] = [:]
    private var uses: UInt64 = 0
    /// How often names were put or deleted, by a part of their hash.
    private var changes = [UInt32](repeating: 0, count: 256)

    deinit { for path in entries.keys { close(path) } }

    private func slot(_ path: String) -> Int { path.utf8.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xFF } }

    /// What `keep` compares: asked before the file is opened.
    func version(_ path: String) -> UInt32 { changes[slot(path)] }

    func forget(_ path: String) {
        changes[slot(path)] &+= 1
        close(path)
    }

    private func close(_ path: String) {
        guard let entry = entries.removeValue(forKey: path) else { return }
        entry.file.close()
        Self.open.subtract(1, ordering: .relaxed)
    }

    /// In the place of the one that was not used for longest, when there are enough.
    func keep(_ file: any DiskFile, size: UInt64, at path: String, version: UInt32) {
        guard version == self.version(path), entries[path] == nil else { return file.close() }
        if Self.open.add(1, ordering: .relaxed).newValue > Self.countMax {
            guard let oldest = entries.min(by: { $0.value.used < $1.value.used })?.key else {
                Self.open.subtract(1, ordering: .relaxed)
                return file.close()
            }
            close(oldest)
        }
        uses += 1
        entries[path] = Entry(file: file, size: size, used: uses)
    }

    var count: Int { entries.count }

    /// Nil: not open, not in memory, or not whole.
    func read(_ path: String, _ range: Range<UInt64>) -> StoreReply? {
        guard let entry = entries[path], range.upperBound <= entry.size else { return nil }
        let block = Block(capacity: Int(range.count))
        block.count = block.capacity
        let buffer = UnsafeMutableRawBufferPointer(start: block.base, count: block.count)
        guard entry.file.readNow(into: buffer, at: range.lowerBound) else { return nil }
        uses += 1
        entries[path]?.used = uses
        var reply = StoreReply(status: 206)
        reply.size = entry.size
        reply.body = block
        return reply
    }
}

import Bytes
import Runtime

/// Objects' files that stay open, so that small reads of what the system has in memory need neither a thread nor a name. On the
/// store's loop.
///
/// An object's bytes never change, but another one may get its name: whoever puts or deletes says so before and after, and
/// what was opened between is not kept.
struct OpenObjects {
    /// Files that are open at once: nodes come from few objects.
    static let countMax = 64
    /// Longer reads copy for so long that a thread does it.
    static let bytesMax: UInt64 = 64 << 10

    private struct Entry {
        var file: any DiskFile
        var size: UInt64
        var used: UInt64
    }
    private var entries: [String: Entry] = [:]
    private var uses: UInt64 = 0
    /// How often names were put or deleted, by a part of their hash.
    private var changes = [UInt32](repeating: 0, count: 256)

    private func slot(_ path: String) -> Int { path.utf8.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xFF } }

    /// What `keep` compares: asked before the file is opened.
    func version(_ path: String) -> UInt32 { changes[slot(path)] }

    mutating func forget(_ path: String) {
        changes[slot(path)] &+= 1
        entries.removeValue(forKey: path)?.file.close()
    }

    mutating func keep(_ file: any DiskFile, size: UInt64, at path: String, version: UInt32) {
        guard version == self.version(path), entries[path] == nil else { return file.close() }
        if entries.count >= Self.countMax, let oldest = entries.min(by: { $0.value.used < $1.value.used })?.key {
            entries.removeValue(forKey: oldest)?.file.close()
        }
        uses += 1
        entries[path] = Entry(file: file, size: size, used: uses)
    }

    /// Nil: not open, not in memory, or not whole.
    mutating func read(_ path: String, _ range: Range<UInt64>) -> StoreReply? {
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

    mutating func closeAll() {
        for entry in entries.values { entry.file.close() }
        entries.removeAll()
    }
}

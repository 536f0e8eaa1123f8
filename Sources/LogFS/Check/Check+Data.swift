import Bytes
import Headhunter

extension Check {
    private static let readBytes = 1 << 20

    /// Reads every file, streams among them, from its first to its last byte; the engine compares each block with its
    /// checksum. What can not be read is reported once for each piece, and the rest is read all the same.
    func readData(_ progress: (Progress) -> Void) async {
        let wanted = inodes.values.filter { $0.type == .file && $0.allocated > 0 }.sorted { $0.number < $1.number }
        let total = wanted.reduce(0 as UInt64) { $0 &+ $1.allocated }
        var done: UInt64 = 0
        let block = Block(capacity: Self.readBytes)
        defer { extendLifetime(block) }
        for inode in wanted {
            var offset: UInt64 = 0
            while offset < inode.size {
                do throws(Failure) {
                    // Holes of a file that is mostly hole are passed over.
                    guard let start = try await nextData(inode, offset) else { break }
                    offset = start
                    let count = min(UInt64(Self.readBytes), inode.size - offset)
                    _ = try await files.readAll(
                        inode.id, at: offset,
                        into: UnsafeMutableRawBufferPointer(start: block.base, count: Int(count)))
                } catch {
                    report(.unreadable(inode: inode.number, at: offset, why: Self.text(error)))
                }
                offset += UInt64(Self.readBytes)
            }
            done &+= inode.allocated
            progress(.data(done, of: total))
        }
    }

    /// Where data begins at or behind `offset`; nil: there is none.
    private func nextData(_ inode: Inode, _ offset: UInt64) async throws(Failure) -> UInt64? {
        guard !inode.has(Inode.isInline) else { return offset }
        return try await files.run { reader in
            self.files.read(reader) { (records) throws(Halt) -> UInt64? in
                try records.extents(inode.fork, offset, inode.size, limit: 1).first.map { max($0.start, offset) }
            }
        }.value
    }

    private static func text(_ failure: Failure) -> String {
        switch failure {
        case .file(let error): "\(error)"
        case .volume(.damaged(let why)), .volume(.unavailable(let why)), .volume(.readOnly(let why)): why
        case .volume(let error): "\(error)"
        }
    }
}

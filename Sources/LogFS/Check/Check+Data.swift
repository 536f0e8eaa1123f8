import Bytes
import Headhunter

extension Check {
    private static let readBytes = 1 << 20
    private static let filesPerPart = 1024

    /// Reads every file, streams among them, from its first to its last byte; the engine compares each block with its
    /// checksum. What can not be read is reported once for each piece, and the rest is read all the same.
    func readData(_ progress: (Progress) -> Void) async throws(Failure) {
        var done: UInt64 = 0
        var from = LogFS.root
        let block = Block(capacity: Self.readBytes)
        defer { extendLifetime(block) }
        while true {
            var part: [Inode] = []
            _ = try await walk(from: withUnsafeBytes(of: from.bigEndian) { Array($0) }) {
                (key, value) async throws(Failure) in
                let number = key.withUnsafeBytes { $0.count >= KeyLayout.prefixCount ? $0.keyNumber(at: 0) : 0 }
                guard number < KeyLayout.forkNumbers, part.count < Self.filesPerPart else { return [] }
                if key.count == KeyLayout.prefixCount, key[8] == KeyLayout.Kind.inode.rawValue,
                    let inode = value.withUnsafeBytes({ Inode(number, $0) }), inode.type == .file, inode.allocated > 0
                {
                    part.append(inode)
                }
                return nil
            }
            guard let last = part.last else { return }
            for inode in part {
                await read(inode, block)
                done &+= inode.allocated
                progress(.data(done, of: max(done, dataBytes)))
            }
            from = last.number + 1
        }
    }

    private func read(_ inode: Inode, _ block: Block) async {
        var offset: UInt64 = 0
        while offset < inode.size {
            do throws(Failure) {
                // Holes of a file that is mostly hole are passed over.
                guard let start = try await nextData(inode, offset) else { break }
                offset = start
                let count = min(UInt64(Self.readBytes), inode.size - offset)
                _ = try await files.readAll(
                    inode.id, at: offset, into: UnsafeMutableRawBufferPointer(start: block.base, count: Int(count)))
            } catch {
                report(.unreadable(inode: inode.number, at: offset, why: Self.text(error)))
            }
            offset += UInt64(Self.readBytes)
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

import Headhunter

/// A range of a file and where its bytes are stored.
public struct StoredRange: Equatable, Sendable {
    public var start: UInt64
    public var end: UInt64
    public var segment: UInt64
    /// In the segment.
    public var offset: UInt32
}

extension LogFS {
    /// Where the bytes of a file from `offset` on are stored, at most `limit` ranges: for people. What was written and
    /// not flushed is nowhere yet. Nil: the content lies in the tree.
    public func layout(
        _ request: Request, _ id: FileID, from offset: UInt64 = 0, limit: Int = Limits.listingMax
    ) -> Attempt<[StoredRange]?> {
        read(request.reader) { (records) throws(Halt) -> [StoredRange]? in
            let inode = try records.inode(id)
            guard inode.type == .file else { throw .refused(.wrongType) }
            if inode.has(Inode.isInline) { return nil }
            return try records.extents(inode.fork, offset, .max, limit: min(limit, Limits.listingMax)).map {
                StoredRange(start: $0.start, end: $0.end, segment: $0.segment, offset: $0.offset)
            }
        }
    }
}

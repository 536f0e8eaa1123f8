import Headhunter

/// Files made of the content of others, without a copy.
extension LogFS {
    /// Extents of one change: each is one more key, and may be in a segment of its own.
    private static let joinsPerChange = 12

    /// Lets the target, which has no name and is nobody else's, go on with the content of `sources`, one behind the
    /// other. Nobody writes to them meanwhile. On the volume's loop.
    @discardableResult
    public func join(_ sources: [FileID], to target: FileID, now: Int64) async throws(Failure) -> UInt64 {
        try await flush(target.inode)
        try await moveInline(target)
        var number: UInt64 = 0
        var place = JoinPlace()
        var steps = 0
        while place.source < sources.count {
            steps += 1
            // The volume's loop has others to serve.
            if steps % 32 == 0 { await Task.yield() }
            let from = place
            let attempt = try await run { reader in
                self.change(reader) { (edit) throws(Halt) -> JoinPlace in
                    try edit.join(sources, target, from, limit: Self.joinsPerChange, now)
                }
            }
            number = attempt.number
            place = attempt.value
            if let inline = place.inline {
                try await flush(inline)
                try await moveInline(inline)
                place.inline = nil
            }
        }
        return number
    }
}

/// How far a join has come.
private struct JoinPlace {
    var source = 0
    /// In that source.
    var offset: UInt64 = 0
    /// A source that is not in segments yet.
    var inline: UInt64?
}

extension Editing {
    fileprivate func join(
        _ sources: [FileID], _ target: FileID, _ from: JoinPlace, limit: Int, _ now: Int64
    ) throws(Halt) -> JoinPlace {
        var inode = try regularFile(target)
        guard inode.links == 0 else { throw .refused(.invalid) }
        var fork = ForkEdit(self, inode.fork)
        var place = from
        var budget = limit
        var shared: [(segment: UInt64, length: UInt64)] = []
        // Where the source under way begins in the target.
        guard inode.size >= place.offset else { throw .refused(.invalid) }
        var start = inode.size - place.offset
        while place.source < sources.count, budget > 0 {
            let source = try regularFile(sources[place.source])
            guard source.size <= Limits.fileBytesMax - min(start, Limits.fileBytesMax) else {
                throw .refused(.fileTooBig)
            }
            if source.has(Inode.isInline) {
                place.inline = source.number
                break
            }
            let extents = try extents(source.fork, place.offset, source.size, limit: budget)
            for extent in extents {
                let part = extent.clipped(place.offset, source.size)
                try fork.insert(
                    Extent(start: start + part.start, end: start + part.end, segment: part.segment, offset: part.offset)
                )
                if let index = shared.firstIndex(where: { $0.segment == part.segment }) {
                    shared[index].length += part.length
                } else {
                    shared.append((part.segment, part.length))
                }
                place.offset = part.end
            }
            let isDone = extents.count < budget
            budget -= max(extents.count, 1)
            guard isDone else { break }
            place.source += 1
            place.offset = 0
            start += source.size
            inode.size = start
        }
        for (segment, length) in shared { try share(segment, length) }
        inode.size = start + place.offset
        try fork.finish(&inode)
        inode.modified = now
        touch(&inode, now)
        store(inode)
        return place
    }
}

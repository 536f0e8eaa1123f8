import Headhunter

/// Ranges that several files share.
extension LogFS {
    /// Lets a range of one file hold what a range of another one holds, without copying it: the bytes live as long as
    /// any file names them. Both files are flushed first; it goes in steps from the front. Ranges of one file must
    /// not overlap. On the volume's loop.
    @discardableResult
    public func clone(
        from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID, at targetOffset: UInt64,
        now: Int64
    ) async throws(Failure) -> UInt64 {
        guard sourceOffset <= Limits.fileBytesMax, length <= Limits.fileBytesMax - sourceOffset,
            targetOffset <= Limits.fileBytesMax, length <= Limits.fileBytesMax - targetOffset
        else { throw .file(.fileTooBig) }
        guard !headhunter.isShortOfSpace else { throw .file(.noSpace) }
        guard source != target else {
            let distance = max(sourceOffset, targetOffset) - min(sourceOffset, targetOffset)
            guard distance >= length else { throw .file(.invalid) }
            return try await exclusively(source.inode) { () throws(Failure) in
                try await shareRange(source, sourceOffset, length, target, targetOffset, now)
            }
        }
        // In the order of their numbers, so that two clones can not wait for each other.
        let first = min(source.inode, target.inode)
        let second = max(source.inode, target.inode)
        return try await exclusively(first) { () throws(Failure) in
            try await exclusively(second) { () throws(Failure) in
                try await shareRange(source, sourceOffset, length, target, targetOffset, now)
            }
        }
    }

    private func shareRange(
        _ source: FileID, _ sourceOffset: UInt64, _ length: UInt64, _ target: FileID, _ targetOffset: UInt64,
        _ now: Int64
    ) async throws(Failure) -> UInt64 {
        try await moveInline(source)
        try await moveInline(target)
        var done: UInt64 = 0
        while true {
            let from = done
            let (step, number) = try await run { reader in
                self.change(reader) { (edit) throws(Halt) -> (done: UInt64, isLast: Bool) in
                    try edit.shareStep(source, sourceOffset, length, target, targetOffset, from, now)
                }
            }
            guard !step.isLast else { return number }
            done = step.done
        }
    }
}

extension Editing {
    /// Extents of one change: each may have to cut one in the target, too.
    private var sharesPerChange: Int { 4 }

    fileprivate func shareStep(
        _ source: FileID, _ sourceOffset: UInt64, _ length: UInt64, _ target: FileID, _ targetOffset: UInt64,
        _ from: UInt64, _ now: Int64
    ) throws(Halt) -> (done: UInt64, isLast: Bool) {
        let origin = try regularFile(source)
        var inode = try freeFile(target)
        // As far as the source goes, at most.
        let available = origin.size > sourceOffset ? origin.size - sourceOffset : 0
        let all = min(length, available)
        var place = from
        if place < all {
            let extents = try extents(
                origin.fork, sourceOffset + place, sourceOffset + all, limit: sharesPerChange)
            var fork = ForkEdit(self, inode.fork)
            for extent in extents {
                let part = extent.clipped(sourceOffset + place, sourceOffset + all)
                // What is a hole there becomes one here.
                let hole = part.start - sourceOffset
                place = try fork.cover(targetOffset + place, targetOffset + hole) - targetOffset
                guard place == hole else { break }
                let end = part.end - sourceOffset
                let covered = try fork.cover(targetOffset + place, targetOffset + end) - targetOffset
                guard covered > place else { break }
                try share(part.segment, covered - place)
                try fork.insert(
                    Extent(
                        start: targetOffset + place, end: targetOffset + covered, segment: part.segment,
                        offset: part.offset))
                place = covered
                guard covered == end else { break }
            }
            if extents.count < sharesPerChange,
                extents.last.map({ min($0.end, sourceOffset + all) <= sourceOffset + place }) ?? true
            {
                place = try fork.cover(targetOffset + place, targetOffset + all) - targetOffset
            }
            try fork.finish(&inode)
        }
        let size = all > 0 ? max(inode.size, targetOffset + place) : inode.size
        let grown = Int64(clamping: size) - Int64(clamping: inode.size)
        inode.size = size
        inode.modified = now
        touch(&inode, now)
        inode.seal = nil
        store(inode)
        try countBytes(inode, grown)
        return (place, place >= all)
    }
}

import Glibc
import Headhunter
import Runtime

/// Reading and writing. What is written is in memory until the file is flushed; every reader sees it at once.
extension LogFS {
    /// One write at a time is at most this long.
    static let writeBytesMax = 1 << 20

    /// Takes bytes in. `.busy`: use the asynchronous form.
    public func write(
        _ request: Request, _ id: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Void> {
        guard offset <= Limits.fileBytesMax, UInt64(bytes.count) <= Limits.fileBytesMax - offset else {
            return .refused(.fileTooBig)
        }
        let checked = read(request.reader) { (records) throws(Halt) in
            let inode = try records.inode(id)
            guard inode.type == .file else { throw .refused(inode.isDirectory ? .isDirectory : .wrongType) }
        }
        guard case .done = checked else { return checked }
        guard bytes.count > 0 else { return checked }
        guard bytes.count <= Self.writeBytesMax else { return .busy }
        guard files.hasRoom(id.inode, bytes.count) else { return .busy }
        var range: SegmentRange?
        if bytes.count >= FileTable.directBytes {
            range = headhunter.append(bytes, heat: .large)
            guard range != nil else { return .full }
        }
        guard files.add(id.inode, offset, bytes, range, request.now) else {
            if let range { headhunter.discard(range) }
            return .busy
        }
        return .done((), number: 0)
    }

    /// The same, waiting for room.
    public func writeAll(
        _ id: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer, now: Int64
    ) async throws(Failure) {
        let reader = headhunter.loop.index
        var done = 0
        repeat {
            let count = min(bytes.count - done, Self.writeBytesMax)
            let part = UnsafeRawBufferPointer(rebasing: bytes[done..<(done + count)])
            let request = Request(reader: reader, now: now)
            switch write(request, id, at: offset + UInt64(done), part) {
            case .done: done += count
            case .refused(let error): throw .file(error)
            case .failed(let error): throw .volume(error)
            case .missing: try await wait { () throws(VolumeError) in try await headhunter.load(for: reader) }
            case .full: try await wait { () throws(VolumeError) in try await headhunter.room() }
            case .busy: try await makeRoom(id)
            }
        } while done < bytes.count
    }

    private func makeRoom(_ id: FileID) async throws(Failure) {
        if files.bytes + Self.writeBytesMax > files.bytesMax {
            try await flushAll()
        } else {
            _ = try await flush(id.inode)
        }
    }

    /// Reads up to `buffer.count` bytes; answers how many there were. `.busy`: data is not in memory.
    public func read(
        _ request: Request, _ id: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        // First what was written: if it gets flushed meanwhile, it is in the tree as well.
        let pieces = files.pieces(id.inode)
        var count = 0
        var isComplete = true
        let attempt = read(request.reader) { (records) throws(Halt) in
            try plan(records, id, offset, buffer, pieces, &count) { extent, target in
                isComplete =
                    isComplete
                    && headhunter.tryReadData(segment: extent.segment, offset: extent.offset, into: target)
                return isComplete
            }
        }
        guard case .done = attempt else { return attempt.with(0) }
        guard isComplete else { return .busy }
        Self.overlay(pieces, offset, buffer, count) { range, inside, target in
            if isComplete {
                isComplete = headhunter.tryReadData(segment: range.segment, offset: range.offset + inside, into: target)
            }
        }
        return isComplete ? .done(count, number: 0) : .busy
    }

    private struct Part {
        var segment: UInt64
        var offset: UInt32
        var target: UnsafeMutableRawBufferPointer
    }

    /// The same, fetching what is not in memory.
    public func readAll(
        _ id: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) async throws(Failure) -> Int {
        let reader = headhunter.loop.index
        var last: [Extent] = []
        while true {
            let pieces = files.pieces(id.inode)
            var parts: [Part] = []
            var extents: [Extent] = []
            var count = 0
            switch read(
                reader,
                { (records) throws(Halt) in
                    parts.removeAll()
                    extents.removeAll()
                    try plan(records, id, offset, buffer, pieces, &count) { extent, target in
                        extents.append(extent)
                        parts.append(Part(segment: extent.segment, offset: extent.offset, target: target))
                        return true
                    }
                })
            {
            case .done: break
            case .refused(let error): throw .file(error)
            case .failed(let error): throw .volume(error)
            case .missing, .full, .busy:
                try await wait { () throws(VolumeError) in try await headhunter.load(for: reader) }
                continue
            }
            do throws(VolumeError) {
                for part in parts {
                    try await headhunter.readData(segment: part.segment, offset: part.offset, into: part.target)
                }
            } catch {
                // What was named may have been replaced and collected meanwhile; then others are named now.
                guard extents != last else { throw .volume(error) }
                last = extents
                continue
            }
            try await overlayInOrder(pieces, offset, buffer, count)
            return count
        }
    }

    /// Pieces over each other, some of them in segments: each in its turn.
    private func overlayInOrder(
        _ pieces: [Piece], _ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer, _ count: Int
    ) async throws(Failure) {
        for piece in pieces {
            var parts: [Part] = []
            Self.overlay([piece], offset, buffer, count) { range, inside, target in
                parts.append(Part(segment: range.segment, offset: range.offset + inside, target: target))
            }
            for part in parts {
                try await wait { () throws(VolumeError) in
                    try await headhunter.readData(segment: part.segment, offset: part.offset, into: part.target)
                }
            }
        }
    }

    /// Finds what the tree has of a range: zeros and inline data are put in place, extents are handed to `fetch`
    /// until it answers false.
    private func plan(
        _ records: Reading, _ id: FileID, _ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer,
        _ pieces: [Piece], _ count: inout Int, _ fetch: (Extent, UnsafeMutableRawBufferPointer) -> Bool
    ) throws(Halt) {
        let inode = try records.inode(id)
        guard inode.type == .file else { throw .refused(inode.isDirectory ? .isDirectory : .wrongType) }
        let size = pieces.reduce(inode.size) { max($0, $1.end) }
        count = offset < size ? Int(min(UInt64(buffer.count), size - offset)) : 0
        guard count > 0, let base = buffer.baseAddress else { return }
        let to = offset + UInt64(count)
        var place = offset
        func zeros(until end: UInt64) {
            if end > place { memset(base + Int(place - offset), 0, Int(end - place)) }
            place = max(place, end)
        }
        if inode.has(Inode.isInline) {
            let value = try records.get(records.scratch.key(inode.fork | KeyLayout.forkSpace, .inline))
            if let value {
                let content = value.from(1)
                let end = min(UInt64(content.count), to, inode.size)
                if end > offset, let source = content.baseAddress {
                    memcpy(base, source + Int(offset), Int(end - offset))
                    place = end
                }
            }
        } else if inode.has(Inode.hasExtents) {
            let end = min(to, inode.size)
            while place < end {
                let extents = try records.extents(inode.fork, place, end, limit: View.scanBudget)
                for extent in extents {
                    let part = extent.clipped(place, end)
                    zeros(until: part.start)
                    let target = UnsafeMutableRawBufferPointer(
                        start: base + Int(part.start - offset), count: Int(part.length))
                    guard fetch(part, target) else { return }
                    place = part.end
                }
                if extents.count < View.scanBudget { break }
            }
        }
        zeros(until: to)
    }

    /// Lays pieces over a range that was read; those in segments are `fetch`'s.
    private static func overlay(
        _ pieces: [Piece], _ offset: UInt64, _ buffer: UnsafeMutableRawBufferPointer, _ count: Int,
        _ fetch: (SegmentRange, UInt32, UnsafeMutableRawBufferPointer) -> Void
    ) {
        guard let base = buffer.baseAddress else { return }
        let to = offset + UInt64(count)
        for piece in pieces {
            let from = max(piece.offset, offset)
            let end = min(piece.end, to)
            guard from < end else { continue }
            let inside = Int(from - piece.offset)
            let target = UnsafeMutableRawBufferPointer(start: base + Int(from - offset), count: Int(end - from))
            if let memory = piece.memory {
                target.copyMemory(from: UnsafeRawBufferPointer(start: memory.base + inside, count: target.count))
            } else if let range = piece.range {
                fetch(range, UInt32(inside), target)
            }
        }
    }
}

extension Attempt {
    /// The same outcome for another type; only for those that are not done.
    func with<Other>(_ value: Other) -> Attempt<Other> {
        switch self {
        case .done(_, let number): .done(value, number: number)
        case .refused(let error): .refused(error)
        case .missing: .missing
        case .full: .full
        case .busy: .busy
        case .failed(let error): .failed(error)
        }
    }
}

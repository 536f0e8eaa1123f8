import Bytes
import Glibc
import Headhunter
import Runtime

/// Reading and writing. What is written is in memory until the file is flushed; every reader sees it at once.
extension LogFS {
    /// One write at a time is at most this long.
    public static let writeBytesMax = 1 << 20

    /// Takes bytes in; none at all are refused as some would be. `.busy`: use `writeAll`.
    public func write(
        _ request: Request, _ id: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Void> {
        guard offset <= Limits.fileBytesMax, UInt64(bytes.count) <= Limits.fileBytesMax - offset else {
            return .refused(.fileTooBig)
        }
        let stops = files.stopCount
        let checked = read(request.reader) { (records) throws(Halt) in _ = try records.freeFile(id) }
        guard case .done = checked else { return checked }
        // It would never get anywhere.
        guard !headhunter.isReadOnly else { return .failed(.readOnly("the volume was opened to be read only")) }
        guard !headhunter.isShortOfSpace else { return .refused(.noSpace) }
        guard bytes.count > 0 else { return checked }
        guard bytes.count <= Self.writeBytesMax else { return .busy }
        var range: SegmentRange?
        switch files.room(id.inode, offset, bytes.count) {
        case .none: return .busy
        case .together: break
        case .apart:
            range = headhunter.append(bytes, heat: bytes.count < FileTable.directBytes ? .small : .large)
            guard range != nil else { return .full }
        }
        switch files.add(id.inode, offset, bytes, range, request.now, since: stops) {
        case .refused:
            if let range { headhunter.discard(range) }
            return .busy
        case .taken: break
        case .takenAndMuch: flushAhead(id.inode)
        }
        return .done((), number: 0)
    }

    /// The same, waiting for room. On the volume's loop.
    public func writeAll(
        _ id: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer, now: Int64
    ) async throws(Failure) {
        guard offset <= Limits.fileBytesMax, UInt64(bytes.count) <= Limits.fileBytesMax - offset else {
            throw .file(.fileTooBig)
        }
        let request = Request(reader: headhunter.loop.index, now: now)
        var done = 0
        repeat {
            let count = min(bytes.count - done, Self.writeBytesMax)
            let part = UnsafeRawBufferPointer(rebasing: bytes[done..<(done + count)])
            switch write(request, id, at: offset + UInt64(done), part) {
            case .done: done += count
            case .refused(let error): throw .file(error)
            case .failed(let error): throw .volume(error)
            case .missing: try await load(for: request.reader)
            case .full: try await room()
            case .busy: try await makeRoom(for: id.inode)
            }
        } while done < bytes.count
    }

    /// Reads up to `buffer.count` bytes; answers how many there were. `.busy`: data is not in memory, use `readAll`.
    public func read(
        _ request: Request, _ id: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        while true {
            // First what was written: if it gets flushed meanwhile, it is in the tree as well.
            let (pieces, state, step) = files.snapshot(id.inode)
            var plan = ReadPlan(offset: offset, buffer: buffer)
            var isFirst = true
            while true {
                let attempt = read(request.reader) { (records) throws(Halt) in try plan.make(records, id, pieces) }
                if case .done(true, _) = attempt { break }
                guard case .done = attempt else {
                    // Not from the start again: the other form keeps what it has found.
                    if case .missing = attempt, !isFirst { return .busy }
                    return attempt.with(0)
                }
                isFirst = false
            }
            // But ranges may have been cut, too: pieces and tree must be of one moment.
            guard files.isStill(id.inode, state, step) else { continue }
            for part in plan.parts where !part.isInMemory {
                guard headhunter.tryReadData(segment: part.segment, offset: part.offset, into: part.target) else {
                    return .busy
                }
            }
            for piece in pieces {
                guard let part = plan.lay(piece) else { continue }
                guard headhunter.tryReadData(segment: part.segment, offset: part.offset, into: part.target) else {
                    return .busy
                }
            }
            return .done(plan.count, number: 0)
        }
    }

    /// So much at least is lent: what is lent keeps the memory around it.
    public static let lendBytesMin = 512 << 10
    /// Whoever takes a reply slowly keeps at most so many chunks of 1 MiB from the cache with it.
    private static func lendPartsMax(_ count: Int) -> Int { 2 + count >> 20 }

    /// Bytes of a long file where they lie, in at most a few parts. Nil: they are not all in memory as they are to be sent; `read` may have them.
    public func lend(
        _ request: Request, _ id: FileID, at offset: UInt64, count: Int
    ) -> Attempt<[BlockPart]?> {
        guard count >= Self.lendBytesMin, !files.isDirty(id.inode) else { return .done(nil, number: 0) }
        let partsMax = Self.lendPartsMax(count)
        let attempt = read(request.reader) { (records) throws(Halt) -> [Extent] in
            let inode = try records.regularFile(id)
            guard inode.has(Inode.hasExtents), offset < inode.size, UInt64(count) <= inode.size - offset else {
                return []
            }
            let end = offset + UInt64(count)
            return try records.extents(inode.fork, offset, end, limit: partsMax + 1).map {
                $0.clipped(offset, end)
            }
        }
        guard case .done(let extents, _) = attempt else { return attempt.with(nil) }
        var parts: [BlockPart] = []
        var place = offset
        for extent in extents {
            guard extent.start == place,
                headhunter.lendData(
                    segment: extent.segment, offset: extent.offset, count: Int(extent.end - extent.start), to: &parts)
            else { return .done(nil, number: 0) }
            place = extent.end
        }
        return .done(place == offset + UInt64(count) && parts.count <= partsMax ? parts : nil, number: 0)
    }

    /// The same, fetching what is not in memory. On the volume's loop.
    public func readAll(
        _ id: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) async throws(Failure) -> Int {
        var failures = 0
        let isPassing = buffer.count >= Self.passingBytes
        while true {
            let (pieces, state, step) = files.snapshot(id.inode)
            var plan = ReadPlan(offset: offset, buffer: buffer)
            while try await !run({ self.read($0) { (records) throws(Halt) in try plan.make(records, id, pieces) } })
                .value
            {}
            guard files.isStill(id.inode, state, step) else { continue }
            do throws(VolumeError) {
                for part in plan.parts where !part.isInMemory {
                    try await headhunter.readData(
                        segment: part.segment, offset: part.offset, into: part.target, isPassing: isPassing)
                }
                // Pieces over each other, some of them in segments: each in its turn.
                for piece in pieces {
                    guard let part = plan.lay(piece) else { continue }
                    try await headhunter.readData(
                        segment: part.segment, offset: part.offset, into: part.target, isPassing: isPassing)
                }
                return plan.count
            } catch {
                // What was named may have been given up and collected meanwhile; then others are named now.
                failures += 1
                guard failures < Self.readFailuresMax else { throw .volume(error) }
            }
        }
    }

    private static let readFailuresMax = 3
    /// Who reads so much at once goes through the file.
    private static let passingBytes = 2 << 20
}

/// What a read has to fetch, and to where.
struct ReadPlan {
    struct Part {
        var segment: UInt64
        var offset: UInt32
        var target: UnsafeMutableRawBufferPointer
        /// In its place already.
        var isInMemory: Bool { segment == 0 }
    }

    let offset: UInt64
    let buffer: UnsafeMutableRawBufferPointer
    private(set) var count = 0
    private(set) var parts: [Part] = []
    /// All before it is found.
    private var place: UInt64 = 0
    /// As it was when the first stretch was made.
    private var inode: Inode?
    private var changes = 0
    /// A file that changes again and again between two stretches is read as it comes: writes beside a read may show in a part.
    private static let changesMax = 4

    init(offset: UInt64, buffer: UnsafeMutableRawBufferPointer) {
        self.offset = offset
        self.buffer = buffer
    }

    private func target(_ from: UInt64, _ to: UInt64) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: buffer[Int(from - offset)..<Int(to - offset)])
    }

    /// Finds what the tree has of the range; zeros and inline data are put in their place. In stretches, because writers wait
    /// meanwhile: false when there is more to be found.
    mutating func make(_ records: Reading, _ id: FileID, _ pieces: [Piece]) throws(Halt) -> Bool {
        let inode = try records.regularFile(id)
        if self.inode == nil || self.inode != inode && changes < Self.changesMax {
            changes += self.inode == nil ? 0 : 1
            self.inode = inode
            parts.removeAll(keepingCapacity: true)
            place = offset
            let size = pieces.reduce(inode.size) { max($0, $1.end) }
            count = offset < size ? Int(min(UInt64(buffer.count), size - offset)) : 0
        }
        guard count > 0 else { return true }
        let to = offset + UInt64(count)
        if inode.has(Inode.isInline) {
            if let content = try records.inline(inode.fork) {
                let end = min(UInt64(content.count), to, inode.size)
                if end > offset {
                    let bytes = UnsafeRawBufferPointer(rebasing: content[Int(offset)..<Int(end)])
                    target(offset, end).copyMemory(from: bytes)
                    place = end
                }
            }
        } else if inode.has(Inode.hasExtents) {
            let end = min(to, inode.size)
            if place < end {
                let extents = try records.extents(inode.fork, place, end, limit: View.scanBudget)
                for extent in extents {
                    let part = extent.clipped(place, end)
                    zeros(place, part.start)
                    parts.append(
                        Part(segment: part.segment, offset: part.offset, target: target(part.start, part.end)))
                    place = part.end
                }
                if extents.count == View.scanBudget { return false }
            }
        }
        zeros(place, to)
        return true
    }

    private func zeros(_ from: UInt64, _ to: UInt64) {
        if from < to { target(from, to).initializeMemory(as: UInt8.self, repeating: 0) }
    }

    /// Lays a piece over the range; one that is in a segment is the answer, to be fetched.
    func lay(_ piece: Piece) -> Part? {
        let from = max(piece.offset, offset)
        let end = min(piece.end, offset + UInt64(count))
        guard from < end else { return nil }
        let inside = Int(from - piece.offset)
        let target = target(from, end)
        if let memory = piece.memory {
            target.copyMemory(from: UnsafeRawBufferPointer(start: memory.base + inside, count: target.count))
            return nil
        }
        guard let range = piece.range else { return nil }
        return Part(segment: range.segment, offset: range.offset + UInt32(inside), target: target)
    }
}

extension Records {
    /// A file that has data, and may be read, written and cut.
    func regularFile(_ id: FileID) throws(Halt) -> Inode {
        let inode = try inode(id)
        guard inode.type == .file else { throw .refused(inode.isDirectory ? .isDirectory : .wrongType) }
        return inode
    }

    /// The same for who changes its data: locked files and older versions stay what they are, and so do their streams.
    func freeFile(_ id: FileID) throws(Halt) -> Inode {
        let inode = try regularFile(id)
        try requireFree(inode)
        if inode.isStream, let owner = try self.inode(inode.cookie) { try requireFree(owner) }
        return inode
    }

    func requireFree(_ inode: Inode) throws(Halt) {
        guard !inode.has(Inode.isLocked | Inode.isShelved) || inode.isDirectory else { throw .refused(.locked) }
    }
}

extension Attempt {
    /// The same outcome with another value, if there is one.
    @inline(__always)
    func with<Other>(_ value: @autoclosure () -> Other) -> Attempt<Other> {
        switch self {
        case .done(_, let number): .done(value(), number: number)
        case .refused(let error): .refused(error)
        case .missing: .missing
        case .full: .full
        case .busy: .busy
        case .failed(let error): .failed(error)
        }
    }
}

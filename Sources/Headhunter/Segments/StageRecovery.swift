import Bytes
import Runtime

/// After a start: what the stage files of the process before hold, compared with what the log says of them.
///
/// A segment has more than one file when a write or sync of the first one failed: the later one counts if it is
/// complete, which shows in the ranges that the log names. Every byte that files name lies either in an object of the
/// store or in a range that the log names, because a checkpoint puts all segments into the store.
final class StageRecovery {
    struct Candidate {
        var attempt: Int
        var path: String
        var file: any DiskFile
        var size: UInt64
        /// Of the file's first bytes, computed from what was read to compare it with the log.
        var checksums = BlockChecksums()
        var summed: UInt64 = 0
    }

    private let disk: any Disk
    private let directory: String
    private let isReadOnly: Bool
    /// The owner before may still write to its files, and take them away: what is gone on with is a copy.
    private let isShared: Bool
    /// Ranges that durable records name and that are not what they say: whoever reads them is told, and gets nothing.
    private var wrong: [UInt64: [SegmentRange]] = [:]
    /// The newest file last.
    private var candidates: [UInt64: [Candidate]] = [:]
    private var checked: [UInt64: [SegmentRange]] = [:]
    private var useless: [String] = []
    /// Files of segments that the store has: the only good copy, should the object turn out to be damaged.
    private var stored: [(segment: UInt64, path: String)] = []
    /// The newest file's number, whatever is in it.
    private var attempts: [UInt64: Int] = [:]
    private let buffer = Block(capacity: SegmentFormat.appendBytesMax)

    /// The segments of which there are files.
    static func segments(_ disk: any Disk, _ directory: String) throws(Errno) -> Set<UInt64> {
        var found: Set<UInt64> = []
        do throws(Errno) {
            try disk.list(directory) { name, _ in
                if let (segment, _) = StageWriter.number(name) { found.insert(segment) }
                return true
            }
        } catch {
            guard error == .noEntry else { throw error }
        }
        return found
    }

    /// Makes the directory if there is none, unless nothing may be changed.
    init(
        disk: any Disk, directory: String, volume: VolumeIdentity, inStore: Set<UInt64>, isReadOnly: Bool,
        isShared: Bool
    ) throws(Errno) {
        self.inStore = inStore
        self.disk = disk
        self.directory = directory
        self.isReadOnly = isReadOnly
        self.isShared = isShared
        do throws(Errno) {
            if !isReadOnly {
                try disk.makeDirectory(directory)
                try disk.syncDirectory(directory.split(separator: "/").dropLast().joined(separator: "/"))
            }
        } catch {
            guard error == .exists else { throw error }
        }
        var names: [String] = []
        do throws(Errno) {
            try disk.list(directory) { name, kind in
                if kind == .file { names.append(name) }
                return true
            }
        } catch {
            guard isReadOnly, error == .noEntry else { throw error }
        }
        for name in names.sorted() {
            guard let (segment, attempt) = StageWriter.number(name) else { continue }
            attempts[segment] = max(attempts[segment] ?? 0, attempt)
            let path = directory + "/" + name
            if inStore.contains(segment) {
                stored.append((segment, path))
                continue
            }
            let file = try disk.open(path, [])
            let size = try file.size()
            let header = UnsafeMutableRawBufferPointer(start: buffer.base, count: SegmentFormat.headerSize)
            let got = try file.read(into: header, at: 0)
            if got == header.count,
                SegmentFormat.isHeader(UnsafeRawBufferPointer(header), number: segment, volume: volume)
            {
                candidates[segment, default: []].append(
                    Candidate(attempt: attempt, path: path, file: file, size: size))
            } else {
                file.close()
                useless.append(path)
                lost.insert(segment)
            }
        }
        for segment in candidates.keys { candidates[segment]?.sort { $0.attempt < $1.attempt } }
    }

    /// Segments of which there is a file, but none that even begins right.
    private var lost: Set<UInt64> = []

    /// Segments without a stage file that records name of which nobody is known to have been told: they may have gone
    /// to the store, or may never have got to the disk.
    private(set) var doubtful: Set<UInt64> = []
    /// Segments without a stage file that durable records name: they went to the store, or are nobody's by now.
    private(set) var absent: Set<UInt64> = []
    /// What the log says of segments that the store has: their bytes are compared before their checksums are written
    /// down for good.
    private(set) var named: [UInt64: [SegmentRange]] = [:]
    /// Segments with bytes that records name which are not known to be durable.
    private var unsure: Set<UInt64> = []
    /// Which of the doubtful ones are in the store, once that is known.
    private let inStore: Set<UInt64>

    /// Whether the bytes are what the log says.
    func holds(_ range: SegmentRange, isUnsure: Bool) -> Bool {
        if isThere(range, isUnsure: isUnsure) { return true }
        if isReadOnly, !isUnsure, candidates[range.segment] != nil {
            // The rest of the segment is as good as it was.
            wrong[range.segment, default: []].append(range)
            if checked[range.segment] == nil { checked[range.segment] = [] }
        }
        return false
    }

    private func isThere(_ range: SegmentRange, isUnsure: Bool) -> Bool {
        if inStore.contains(range.segment) {
            named[range.segment, default: []].append(range)
            return true
        }
        guard candidates[range.segment] != nil else {
            // A durable record's segment is in the store, or nobody's by now.
            guard isUnsure else {
                absent.insert(range.segment)
                named[range.segment, default: []].append(range)
                return !lost.contains(range.segment)
            }
            doubtful.insert(range.segment)
            return false
        }
        guard let files = candidates[range.segment], !files.isEmpty else { return false }
        if isUnsure { unsure.insert(range.segment) }
        if matches(range, range.segment, files.count - 1) {
            // In place: a segment of small files has ten thousands of them.
            checked[range.segment, default: []].append(range)
            return true
        }
        let earlier = checked[range.segment] ?? []
        // A newer file that was not completed: an older one then has to stand up to everything so far. When none does,
        // it is the range that is missing, and the newest file stays the one to go on with.
        for index in files.indices.dropLast().reversed()
        where (earlier + [range]).allSatisfy({ matches($0, range.segment, index) }) {
            for file in files[(index + 1)...] {
                file.file.close()
                useless.append(file.path)
            }
            candidates[range.segment]?.removeLast(files.count - 1 - index)
            checked[range.segment, default: []].append(range)
            return true
        }
        return false
    }

    private func matches(_ range: SegmentRange, _ segment: UInt64, _ index: Int) -> Bool {
        guard Int(range.length) <= buffer.capacity, let size = candidates[segment]?[index].size,
            let summed = candidates[segment]?[index].summed, let file = candidates[segment]?[index].file
        else { return false }
        let end = UInt64(range.offset) + UInt64(range.length)
        guard end <= size else { return false }
        do throws(Errno) {
            // Ranges come nearly in order: what lies between two of them is read on the way.
            let isNext = summed <= UInt64(range.offset)
            if isNext { try sum(segment, index, upTo: UInt64(range.offset)) }
            let target = UnsafeMutableRawBufferPointer(start: buffer.base, count: Int(range.length))
            guard try file.read(into: target, at: UInt64(range.offset)) == target.count else { return false }
            guard CRC32C.of(UnsafeRawBufferPointer(target)) == range.checksum else { return false }
            if isNext {
                candidates[segment]?[index].checksums.update(UnsafeRawBufferPointer(target))
                candidates[segment]?[index].summed = end
            }
            return true
        } catch {
            // Not the same as other bytes: they may be there, and somebody may have been told of them.
            trouble = trouble ?? (error, candidates[segment]?[index].path ?? directory)
            return false
        }
    }

    private func sum(_ segment: UInt64, _ index: Int, upTo end: UInt64) throws(Errno) {
        guard let file = candidates[segment]?[index].file, var place = candidates[segment]?[index].summed else {
            return
        }
        while place < end {
            let target = UnsafeMutableRawBufferPointer(
                start: buffer.base, count: Int(min(end - place, UInt64(buffer.capacity))))
            guard try file.read(into: target, at: place) == target.count else { throw .io }
            candidates[segment]?[index].checksums.update(UnsafeRawBufferPointer(target))
            place += UInt64(target.count)
            candidates[segment]?[index].summed = place
        }
    }

    /// The first file that could not be read: nothing that was found may be relied on then.
    private(set) var trouble: (cause: Errno, path: String)?

    /// The segments to go on with.
    private(set) var chosen: [Segments.Stage] = []

    /// Makes durable what is gone on with. Nothing is removed: another owner may have come meanwhile.
    func finish() throws(Errno) {
        for segment in candidates.keys.sorted() {
            guard let files = candidates[segment], var newest = files.last else { continue }
            for file in files.dropLast() {
                file.file.close()
                useless.append(file.path)
            }
            guard checked[segment] != nil else {
                // Nothing that survived names it.
                newest.file.close()
                useless.append(newest.path)
                continue
            }
            // What files lie in is given out from here on, so its checksums are those of the bytes that were compared.
            try sum(segment, files.count - 1, upTo: newest.size)
            newest = candidates[segment]?.last ?? newest
            if isShared || unsure.contains(segment), !isReadOnly {
                let copy = try copy(newest, segment)
                newest.file.close()
                useless.append(newest.path)
                newest = copy
            }
            let stage = Segments.Stage(number: segment, heat: .small, since: 0)
            stage.file = newest.file
            stage.path = newest.path
            stage.attempt = newest.attempt + 1
            stage.size = Int(newest.size)
            stage.written = stage.size
            stage.synced = stage.size
            stage.isSealed = true
            stage.chunks = Array(
                repeating: nil, count: (stage.size + Segments.chunkSize - 1) / Segments.chunkSize)
            stage.checksums = newest.checksums
            stage.wrong = (wrong[segment] ?? []).map { Int($0.offset)..<(Int($0.offset) + Int($0.length)) }
            chosen.append(stage)
        }
        if isReadOnly { return }
        try disk.syncDirectory(directory)
    }

    /// What nobody goes on with. The header is stored that says whose the volume is: what was listed before is of no later owner.
    func dropUseless() throws(Errno) {
        for path in useless { try disk.removeIfThere(path) }
        useless = []
    }

    /// The store has been seen to hold what the log and the header say, but for what is `refused`.
    func dropStored(but refused: Set<UInt64>) throws(Errno) {
        for file in stored where !refused.contains(file.segment) { try disk.removeIfThere(file.path) }
        stored = []
    }

    /// A file whose sync has failed shows bytes that the kernel never writes again, and its next sync succeeds: what is
    /// not known to be durable is written once more, to a file of its own.
    private func copy(_ old: Candidate, _ segment: UInt64) throws(Errno) -> Candidate {
        let (attempt, path, file) = try make(segment, after: attempts[segment] ?? old.attempt)
        var place: UInt64 = 0
        var checksums = BlockChecksums()
        while place < old.size {
            let target = UnsafeMutableRawBufferPointer(
                start: buffer.base, count: Int(min(old.size - place, UInt64(buffer.capacity))))
            guard try old.file.read(into: target, at: place) == target.count else { throw .io }
            try file.write(UnsafeRawBufferPointer(target), at: place)
            checksums.update(UnsafeRawBufferPointer(target))
            place += UInt64(target.count)
        }
        guard checksums.all == old.checksums.all else { throw .io }
        try file.sync()
        return Candidate(
            attempt: attempt, path: path, file: file, size: old.size, checksums: checksums, summed: old.size)
    }

    private static let namesMax = 64

    /// The owner before may make one beside us.
    private func make(
        _ segment: UInt64, after last: Int
    ) throws(Errno) -> (attempt: Int, path: String, file: any DiskFile) {
        var attempt = last
        while true {
            attempt += 1
            let path = directory + "/" + StageWriter.fileName(segment, attempt)
            do throws(Errno) {
                return (attempt, path, try disk.open(path, [.write, .create, .exclusive]))
            } catch { guard error == .exists, attempt < last + Self.namesMax else { throw error } }
        }
    }
}

import Bytes
import Runtime

/// Reads the log after a start: hands on every record from a given number up, in order, and decides where it ends.
///
/// The end is the first batch that is missing, torn or not chained to the one before. Cutting there is right only
/// while no reply can have been sent for what lies behind: no batch that can still be read anywhere behind says that
/// the missing record was durable. Otherwise the log is damaged, and says where; nothing is cut in silence.
///
/// A later file supersedes earlier ones from its first record on: that is how a recovery cuts, and how a writer goes
/// on after a file failed.
struct LogRecovery {
    enum Problem: Error, Equatable, Sendable {
        case io(Errno, path: String)
        /// Records are missing, or not what was written, that a checkpoint, or a later part of the log, knows to have been durable.
        case incomplete(record: UInt64, durable: UInt64)
        /// Bytes that a durable record names are not in their segment.
        case data(SegmentRange, record: UInt64)
        /// A batch whose checksum is right holds what no writer writes.
        case malformed(path: String, offset: UInt64)
        /// Written by a newer program.
        case unknownFormat(path: String, version: UInt16)
        /// Of another volume: one of the two would lose its log.
        case foreign(path: String)
    }

    struct Ending: Sendable {
        /// The number that the next record gets.
        var next: UInt64
        /// The sequence that the next file gets.
        var sequence: UInt64
        var chain: UInt32
        /// All files, of use or not: checkpoints remove them when they have been passed.
        var files: [(sequence: UInt64, first: UInt64)]
        /// Bytes behind the end that were given up, where a torn write left them.
        var torn: Bool
        /// What is known to be durable; what comes after that was read, and may be in the kernel's memory only.
        var known: UInt64
        /// The records after `known`, in order, and the chain in front of them.
        var unsure: [[UInt8]]
        var unsureChain: UInt32
        /// A new file is to begin here, so that no file there is counts any more.
        var supersedes = false
        /// Bytes of the records that were handed on.
        var bytes = 0
        /// What was met and passed over, because nobody will write behind it.
        var problems: [Problem] = []
    }

    private struct File {
        var sequence: UInt64
        var first: UInt64
        var chain: UInt32
        var path: String
        var handle: any DiskFile
        var size: UInt64
    }

    private struct BatchHeader {
        var length: Int
        var count: UInt32
        var first: UInt64
        var durable: UInt64
        var chain: UInt32
        var checksum: UInt32
    }

    let disk: any Disk
    let directory: String
    let volume: VolumeIdentity
    /// Nothing is to be written: what is damaged is told, and the rest is handed on.
    let isReadOnly: Bool
    /// The owner before may still write: what counts is taken to a file of our own, and nothing is removed.
    let isShared: Bool
    private let block = Block(capacity: LogFormat.batchBytesMax + LogFormat.batchHeaderSize)

    init(
        disk: any Disk, directory: String, volume: VolumeIdentity, isReadOnly: Bool = false, isShared: Bool = false
    ) {
        self.volume = volume
        self.isReadOnly = isReadOnly
        self.isShared = isShared
        self.disk = disk
        self.directory = directory
    }

    /// A log that begins here, whatever there is in the files.
    func nothing(from first: UInt64) throws(Problem) -> Ending {
        let files = try openFiles()
        defer { for file in files { file.handle.close() } }
        return Ending(
            next: first, sequence: try nextSequence(), chain: 0, files: files.map { ($0.sequence, $0.first) },
            torn: false,
            known: first - 1, unsure: [], unsureChain: 0, supersedes: true)
    }

    /// How much there is to read.
    func bytes() throws(Problem) -> UInt64 {
        let files = try openFiles()
        defer { for file in files { file.handle.close() } }
        return files.reduce(0) { $0 + $1.size }
    }

    /// A record that nobody is known to have been told of yet.
    private struct Unsure {
        var number: UInt64
        var bytes: [UInt8]
        /// The chain behind the batch that holds the record before. Marks do not count: they are not synced.
        var chain: UInt32
    }

    /// `first` is the first record that the checkpoint does not cover, `durable` a number that was durable when it
    /// was written. `holds` tells whether bytes of a segment are what a record says. Blocks; runs on a thread of the
    /// pool.
    ///
    /// Log and segments are synced side by side, so the last records may name bytes that never got to the disk. Those
    /// records end the log, like a torn one, unless they are known to have been durable.
    func run(
        first: UInt64, durable: UInt64, holds: (_ range: SegmentRange, _ isUnsure: Bool) -> Bool,
        _ visit: (_ number: UInt64, _ record: UnsafeRawBufferPointer) -> Bool
    ) throws(Problem) -> Ending {
        var unsure: [Unsure] = []
        var kept: [Unsure] = []
        var problems: [Problem] = []
        var bytes = 0
        func settle(upTo known: UInt64, path: String, offset: UInt64) throws(Problem) {
            var count = 0
            for record in unsure {
                guard record.number <= known else { break }
                count += 1
                if let range = record.bytes.withUnsafeBytes({ missing($0, isUnsure: false, holds) }) {
                    guard isReadOnly else { throw .data(range, record: record.number) }
                    problems.append(.data(range, record: record.number))
                }
                let fine = record.bytes.withUnsafeBytes { visit(record.number, $0) }
                guard fine else { throw .malformed(path: path, offset: offset) }
                bytes += record.bytes.count
                if isShared { kept.append(record) }
            }
            unsure.removeFirst(count)
        }

        let found = try openFiles()
        defer { for file in found { file.handle.close() } }
        var ending = Ending(
            next: first, sequence: try nextSequence(), chain: 0, files: found.map { ($0.sequence, $0.first) },
            torn: false, known: durable, unsure: [], unsureChain: 0)
        // The newest file that begins at or below what we need supersedes all before it. What was removed once may be
        // back after a crash, in any combination: such files must not be looked at.
        let start = found.lastIndex { $0.first <= first } ?? 0
        let all = found[start...]
        // A file before the first one of use is superseded, whatever its header was.
        var known = max(durable, try knownBehindDamage(above: all.first?.sequence ?? 0))
        var expected: UInt64?
        var chain: UInt32 = 0
        // The chain behind the last record, and behind each mark after it: a writer that leaves a file whose sync failed
        // goes on from before marks that were never synced.
        var ends: [UInt32] = []
        var broken = false

        for index in all.indices {
            let file = all[index]
            // From here on a later file has the say.
            let end = all[(index + 1)...].map(\.first).min() ?? .max
            // A file of which nothing counts may still hold marks that a later file's chain goes on from.
            var isOfUse = !broken && file.first <= end
            if isOfUse {
                if let wanted = expected {
                    isOfUse = file.first == wanted && ends.contains(file.chain)
                    broken = !isOfUse && file.first < end
                } else {
                    isOfUse = file.first <= first
                    broken = !isOfUse && file.first < end
                    expected = isOfUse ? file.first : nil
                }
            }
            var offset = UInt64(LogFormat.fileHeaderSize)
            if isOfUse {
                chain = file.chain
                ends.append(chain)
                // Marks behind the last record are part of the chain that the next file goes on with.
                while let wanted = expected, wanted <= end, let header = try batch(in: file, at: offset),
                    header.first == wanted, header.chain == chain, wanted < end || header.count == 0
                {
                    known = max(known, header.durable)
                    try settle(upTo: known, path: file.path, offset: offset)
                    try records(of: header, in: file, at: offset) { number, record in
                        guard number >= first, number < end else { return true }
                        let before = number == header.first ? ends[0] : header.checksum
                        unsure.append(Unsure(number: number, bytes: Array(record), chain: before))
                        return true
                    }
                    chain = header.checksum
                    if header.count > 0 { ends.removeAll() }
                    ends.append(chain)
                    expected = min(wanted + UInt64(header.count), end)
                    offset += Self.padded(header.length)
                }
            }
            // Whatever can be read behind the end may know more than we do.
            while let candidate = try nextMagic(in: file, from: offset) {
                offset = candidate
                if let header = try batch(in: file, at: offset) {
                    if header.first < end, broken || header.first >= (expected ?? 0) {
                        known = max(known, header.durable)
                        ending.torn = true
                    }
                    offset += Self.padded(header.length)
                } else {
                    offset += UInt64(LogFormat.alignment)
                }
            }
            if let reached = expected, reached < end, end != .max { broken = true }
        }
        var next = max(expected ?? first, first)
        try settle(upTo: known, path: directory, offset: 0)
        // Marks are not synced: what comes next must not count on one.
        chain = unsure.first?.chain ?? ends.first ?? chain
        // All of it then: a file that begins where the header ends has nothing before it that counts, whoever makes or grows such files later.
        ending.supersedes = isShared
        ending.unsure = kept.map(\.bytes)
        ending.unsureChain = kept.first?.chain ?? chain
        for record in unsure {
            if record.bytes.withUnsafeBytes({ missing($0, isUnsure: true, holds) }) != nil {
                next = record.number
                ending.torn = true
                // It stays where it is, whole, and must not be read once more: later the segment may be another one's word.
                ending.supersedes = true
                break
            }
            let fine = record.bytes.withUnsafeBytes { visit(record.number, $0) }
            guard fine else { throw .malformed(path: directory, offset: 0) }
            bytes += record.bytes.count
            ending.unsure.append(record.bytes)
        }
        if known >= next {
            guard isReadOnly else { throw .incomplete(record: next, durable: known) }
            problems.append(.incomplete(record: next, durable: known))
        }
        ending.problems = problems
        ending.bytes = bytes
        ending.known = known
        ending.next = next
        ending.chain = chain
        return ending
    }

    /// Makes durable what was read and is not known to be. A sync of the files that it was read from says nothing: when
    /// one has failed before, the kernel shows bytes that it never writes again, and the next sync succeeds. So they are
    /// written once more, to another file, which takes its name when it is whole: a crash leaves all of it or nothing.
    /// Blocks; runs on a thread of the pool.
    func settle(_ ending: inout Ending, epoch: UInt64) throws(Problem) {
        guard !ending.unsure.isEmpty || ending.supersedes else { return }
        let first = ending.next - UInt64(ending.unsure.count)
        var assembler = LogAssembler(next: first)
        for record in ending.unsure { _ = record.withUnsafeBytes { assembler.append($0) } }
        let path = directory + "/" + ReplayLog.fileName(ending.sequence)
        let draft = path + ReplayLog.draftSuffix
        do throws(Errno) {
            let file = try disk.open(draft, [.write, .create, .exclusive])
            defer { file.close() }
            let header = LogFormat.fileHeader(
                volume: volume, sequence: ending.sequence, first: first, epoch: epoch, chain: ending.unsureChain)
            defer { extendLifetime(header) }
            try file.write(header.bytes, at: 0)
            var offset = UInt64(header.count)
            var chain = ending.unsureChain
            for batch in assembler.take() {
                chain = LogFormat.finish(
                    batch, durable: ending.known, epoch: epoch, sequence: ending.sequence, chain: chain)
                try file.write(batch.block.bytes, at: offset)
                offset += UInt64(batch.block.count)
                extendLifetime(batch)
            }
            try file.sync()
            try disk.rename(draft, to: path)
            try disk.syncDirectory(directory)
            ending.chain = chain
        } catch { throw .io(error, path: path) }
        ending.files.append((ending.sequence, first))
        ending.sequence += 1
        ending.known = ending.next - 1
        ending.unsure = []
        ending.supersedes = false
    }

    /// A number that no file's name has, whatever is in it. Drafts that were not finished go, where nobody else may be writing one.
    func nextSequence() throws(Problem) -> UInt64 {
        var newest: UInt64 = 0
        var drafts: [String] = []
        do throws(Errno) {
            try disk.list(directory) { name, _ in
                if name.hasSuffix(ReplayLog.draftSuffix) {
                    drafts.append(name)
                } else if let sequence = Self.sequence(name) {
                    newest = max(newest, sequence)
                }
                return true
            }
            if !isReadOnly, !isShared { for name in drafts { try disk.remove(directory + "/" + name) } }
        } catch { throw .io(error, path: directory) }
        return newest + 1
    }

    /// Of owners before, once they have been overtaken for good.
    func dropDrafts(below sequence: UInt64) throws(Problem) {
        var drafts: [String] = []
        do throws(Errno) {
            try disk.list(directory) { name, _ in
                guard name.hasSuffix(ReplayLog.draftSuffix) else { return true }
                let file = String(name.dropLast(ReplayLog.draftSuffix.count))
                if let number = Self.sequence(file), number < sequence { drafts.append(name) }
                if LogDirectory.isDraft(name) { drafts.append(name) }
                return true
            }
            for name in drafts { try disk.removeIfThere(directory + "/" + name) }
        } catch { throw .io(error, path: directory) }
    }

    static func sequence(_ name: String) -> UInt64? {
        name.utf8.count == 20 && name.hasSuffix(".log") ? ObjectNaming.number(name.prefix(16)) : nil
    }

    /// The first range that a record names and that is not there. Who only reads is told of each: the record counts all the same.
    func missing(
        _ record: UnsafeRawBufferPointer, isUnsure: Bool, _ holds: (SegmentRange, Bool) -> Bool
    ) -> SegmentRange? {
        var missing: SegmentRange?
        _ = LogRecord.forEach(
            record,
            note: { range in
                if !holds(range, isUnsure) { missing = missing ?? range }
                return isReadOnly || missing == nil
            }, { _, _, _ in true })
        return missing
    }

    private static func padded(_ length: Int) -> UInt64 {
        let whole = length + LogFormat.batchHeaderSize
        return UInt64((whole + LogFormat.alignment - 1) / LogFormat.alignment * LogFormat.alignment)
    }

    /// What the batches of files without a readable header know to be durable. A torn header is one of a file that was
    /// never synced, and its batches know nothing new; a damaged one hides records that somebody may have been told of.
    private func knownBehindDamage(above sequence: UInt64) throws(Problem) -> UInt64 {
        var known: UInt64 = 0
        for file in try openFiles(readable: false) {
            defer { file.handle.close() }
            guard file.sequence > sequence else { continue }
            var offset = UInt64(LogFormat.fileHeaderSize)
            while let candidate = try nextMagic(in: file, from: offset) {
                offset = candidate
                if let header = try batch(in: file, at: offset) {
                    known = max(known, header.durable)
                    offset += Self.padded(header.length)
                } else {
                    offset += UInt64(LogFormat.alignment)
                }
            }
        }
        return known
    }

    /// All log files with a readable header, or all without one, by rising sequence.
    private func openFiles(readable: Bool = true) throws(Problem) -> [File] {
        var sequences: [UInt64] = []
        do throws(Errno) {
            try disk.list(directory) { name, kind in
                if kind == .file, let sequence = Self.sequence(name) { sequences.append(sequence) }
                return true
            }
        } catch {
            throw .io(error, path: directory)
        }
        var files: [File] = []
        for sequence in sequences.sorted() {
            let path = directory + "/" + ReplayLog.fileName(sequence)
            let handle: any DiskFile
            let size: UInt64
            do throws(Errno) {
                handle = try disk.open(path, [])
                size = try handle.size()
                block.count = try handle.read(
                    into: UnsafeMutableRawBufferPointer(start: block.base, count: LogFormat.fileHeaderSize), at: 0)
            } catch {
                throw .io(error, path: path)
            }
            let file = block.count == LogFormat.fileHeaderSize ? try parse(sequence, path, handle, size) : nil
            if readable, let file {
                files.append(file)
            } else if !readable, file == nil {
                files.append(File(sequence: sequence, first: 0, chain: 0, path: path, handle: handle, size: size))
            } else {
                handle.close()
            }
        }
        return files
    }

    /// Nil when the header is torn.
    private func parse(
        _ sequence: UInt64, _ path: String, _ handle: any DiskFile, _ size: UInt64
    ) throws(Problem) -> File? {
        let base = UnsafeRawPointer(block.base)
        guard base.load(as: UInt32.self) == LogFormat.fileMagic,
            base.load(fromByteOffset: LogFormat.fileChecksumOffset, as: UInt32.self)
                == CRC32C.of(UnsafeRawBufferPointer(start: base, count: LogFormat.fileChecksumOffset)),
            base.load(fromByteOffset: 8, as: UInt64.self) == sequence
        else { return nil }
        // A whole header that is not ours is no torn one: passing over it would drop what the file holds.
        let version = base.load(fromByteOffset: 4, as: UInt16.self)
        guard version == LogFormat.version else { throw .unknownFormat(path: path, version: version) }
        let owner = VolumeIdentity(
            high: base.load(fromByteOffset: 40, as: UInt64.self), low: base.load(fromByteOffset: 48, as: UInt64.self))
        guard owner == volume else { throw .foreign(path: path) }
        return File(
            sequence: sequence, first: base.load(fromByteOffset: 16, as: UInt64.self),
            chain: base.load(fromByteOffset: 32, as: UInt32.self), path: path, handle: handle, size: size)
    }

    /// The next aligned place that begins like a batch: most of what lies behind the end was reserved, never written.
    private func nextMagic(in file: File, from offset: UInt64) throws(Problem) -> UInt64? {
        var offset = offset
        while offset + UInt64(LogFormat.batchHeaderSize) <= file.size {
            let got: Int
            do throws(Errno) {
                got = try file.handle.read(
                    into: UnsafeMutableRawBufferPointer(start: block.base, count: Self.scanChunk), at: offset)
            } catch { throw .io(error, path: file.path) }
            var place = 0
            while place + 4 <= got {
                if (block.base + place).load(as: UInt32.self) == LogFormat.batchMagic { return offset + UInt64(place) }
                place += LogFormat.alignment
            }
            if got < Self.scanChunk { return nil }
            offset += UInt64(Self.scanChunk)
        }
        return nil
    }

    private static let scanChunk = 256 << 10

    /// Reads a batch into the block: nil when there is none, or not a whole one, at this offset.
    private func batch(in file: File, at offset: UInt64) throws(Problem) -> BatchHeader? {
        do throws(Errno) {
            let size = LogFormat.batchHeaderSize
            guard offset + UInt64(size) <= file.size else { return nil }
            var got = try file.handle.read(
                into: UnsafeMutableRawBufferPointer(start: block.base, count: size), at: offset)
            let base = UnsafeRawPointer(block.base)
            guard got == size, base.load(as: UInt32.self) == LogFormat.batchMagic,
                base.load(fromByteOffset: 4, as: UInt16.self) == LogFormat.version,
                base.load(fromByteOffset: 40, as: UInt64.self) == file.sequence
            else { return nil }
            let header = BatchHeader(
                length: Int(base.load(fromByteOffset: 8, as: UInt32.self)),
                count: base.load(fromByteOffset: 12, as: UInt32.self),
                first: base.load(fromByteOffset: 16, as: UInt64.self),
                durable: base.load(fromByteOffset: 24, as: UInt64.self),
                chain: base.load(fromByteOffset: 48, as: UInt32.self),
                checksum: base.load(fromByteOffset: 52, as: UInt32.self))
            guard header.length <= LogFormat.batchBytesMax else { return nil }
            got = try file.handle.read(
                into: UnsafeMutableRawBufferPointer(start: block.base + size, count: header.length),
                at: offset + UInt64(size))
            guard got == header.length,
                LogFormat.batchChecksum(base, length: header.length) == header.checksum,
                header.first <= UInt64.max - UInt64(header.count)
            else { return nil }
            return header
        } catch {
            throw .io(error, path: file.path)
        }
    }

    /// The records of the batch in the block.
    private func records(
        of header: BatchHeader, in file: File, at offset: UInt64,
        _ visit: (_ number: UInt64, _ record: UnsafeRawBufferPointer) -> Bool
    ) throws(Problem) {
        let base = UnsafeRawPointer(block.base + LogFormat.batchHeaderSize)
        var place = 0
        for index in 0..<UInt64(header.count) {
            var length = 0
            var shift = 0
            while true {
                guard place < header.length, shift < 28 else { throw .malformed(path: file.path, offset: offset) }
                let byte = Int(base.load(fromByteOffset: place, as: UInt8.self))
                place += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 { break }
            }
            guard length <= header.length - place,
                visit(header.first + index, UnsafeRawBufferPointer(start: base + place, count: length))
            else { throw .malformed(path: file.path, offset: offset) }
            place += length
        }
        guard place == header.length else { throw .malformed(path: file.path, offset: offset) }
    }
}

/// The segment table: keys of the system tree, outside of every snapshot.
///
/// ```
/// 2, segment u64 BE                     live bytes u64, size u64 (0: not sealed yet), heat u8
/// 3, segment u64 BE, index u16 BE       up to 256 checksums u32, of the blocks from index * 256 on
/// 4, segment u64 BE                     nothing: sealed, and nobody needs it any more
/// 5, segment u64 BE                     nothing: named by files and not known to be in the store
/// ```
enum SegmentTable {
    static let recordTag: UInt8 = 2
    static let checksumsTag: UInt8 = 3
    static let deadTag: UInt8 = 4
    static let stagedTag: UInt8 = 5
    static let checksumsPerKey = 256

    struct Record: Equatable {
        var live: UInt64
        /// 0 until the segment is in the store.
        var size: UInt64
        var heat: UInt8

        static let size = 17

        init(live: UInt64, size: UInt64, heat: UInt8) {
            self.live = live
            self.size = size
            self.heat = heat
        }

        init?(_ bytes: UnsafeRawBufferPointer) {
            guard bytes.count == Self.size, let base = bytes.baseAddress else { return nil }
            live = UInt64(littleEndian: base.loadUnaligned(as: UInt64.self))
            size = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            heat = base.load(fromByteOffset: 16, as: UInt8.self)
            // A right checksum is no proof that a server wrote it: what is counted on from here must not overflow.
            guard live < CheckpointHeader.numberMax, size <= UInt64(SegmentFormat.sizeMax) else { return nil }
        }

        func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
            withUnsafeTemporaryAllocation(byteCount: Self.size, alignment: 8) { memory in
                memory.storeBytes(of: live.littleEndian, as: UInt64.self)
                memory.storeBytes(of: size.littleEndian, toByteOffset: 8, as: UInt64.self)
                memory.storeBytes(of: heat, toByteOffset: 16, as: UInt8.self)
                body(UnsafeRawBufferPointer(memory))
            }
        }
    }

    /// Builds a key: tag, segment, and for checksums an index.
    struct Key {
        private var tag: UInt8
        private let segment: UInt64
        private let index: UInt16?

        init(_ tag: UInt8, _ segment: UInt64, index: UInt16? = nil) {
            self.tag = tag
            self.segment = segment
            self.index = index
        }

        func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
            withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { memory in
                memory[0] = tag
                for place in 0..<8 {
                    memory[1 + place] = UInt8(truncatingIfNeeded: segment >> (56 - 8 * UInt64(place)))
                }
                guard let index else { return body(UnsafeRawBufferPointer(rebasing: memory[..<9])) }
                memory[9] = UInt8(truncatingIfNeeded: index >> 8)
                memory[10] = UInt8(truncatingIfNeeded: index)
                return body(UnsafeRawBufferPointer(rebasing: memory[..<11]))
            }
        }
    }

    static func segment(of key: UnsafeRawBufferPointer) -> UInt64 {
        key.dropFirst().prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    static func read(_ change: Change, _ segment: UInt64) throws(Missing) -> Record? {
        let found = Key(recordTag, segment).withBytes { key in
            Result { () throws(Missing) -> Record? in
                guard let value = try change.get(SystemTree.id, key) else { return nil }
                guard let record = Record(value) else {
                    throw change.damaged("the segment table's record of segment \(segment) makes no sense")
                }
                return record
            }
        }
        return try found.get()
    }

    static func read(_ view: View, _ segment: UInt64) throws(Missing) -> Record? {
        let found = Key(recordTag, segment).withBytes { key in
            Result { () throws(Missing) -> Record? in try view.get(SystemTree.id, key).flatMap { Record($0) } }
        }
        return try found.get()
    }

    static func write(_ change: Change, _ segment: UInt64, _ record: Record) {
        Key(recordTag, segment).withBytes { key in record.withBytes { change.put(SystemTree.id, key, $0) } }
    }

    static func mark(_ change: Change, _ tag: UInt8, _ segment: UInt64) {
        Key(tag, segment).withBytes { change.put(SystemTree.id, $0, UnsafeRawBufferPointer(start: nil, count: 0)) }
    }

    static func unmark(_ change: Change, _ tag: UInt8, _ segment: UInt64) {
        Key(tag, segment).withBytes { change.delete(SystemTree.id, $0) }
    }

    /// The segments that have a mark, at most `limit` of them, from `start` on.
    static func marked(_ view: View, _ tag: UInt8, from start: UInt64, limit: Int) throws(Missing) -> [UInt64] {
        let found = Key(tag, start).withBytes { key in
            Result { () throws(Missing) -> [UInt64] in
                var segments: [UInt64] = []
                var resume: [UInt8] = []
                func take(_ key: UnsafeRawBufferPointer, _: UnsafeRawBufferPointer) -> Bool {
                    guard key.first == tag else { return false }
                    segments.append(segment(of: key))
                    return segments.count < limit
                }
                var more = try view.scan(SystemTree.id, from: key, budget: limit, resume: &resume, take)
                while more, segments.count < limit {
                    // Over a recovered log one scan may show fewer than there are.
                    var next: [UInt8] = []
                    more = try resume.withUnsafeBytes { from in
                        Result { () throws(Missing) -> Bool in
                            try view.scan(SystemTree.id, from: from, budget: limit, resume: &next, take)
                        }
                    }.get()
                    resume = next
                }
                return segments
            }
        }
        return try found.get()
    }

    /// Keys of checksums that one change takes, beside the segment's record and marks.
    static let checksumKeysPerChange = 16

    /// The keys that the checksums of so many blocks take.
    static func checksumKeys(blocks: Int) -> Int { (blocks + checksumsPerKey - 1) / checksumsPerKey }

    /// The checksums of some blocks: the keys from `first` on, as many as one change takes. They count once the segment
    /// is sealed.
    static func putChecksums(_ change: Change, _ segment: UInt64, from first: Int, _ checksums: [UInt32]) {
        let end = min(first + checksumKeysPerChange, checksumKeys(blocks: checksums.count))
        for index in first..<end {
            let start = index * checksumsPerKey
            let part = checksums[start..<min(start + checksumsPerKey, checksums.count)].map(\.littleEndian)
            Key(checksumsTag, segment, index: UInt16(index)).withBytes { key in
                part.withUnsafeBytes { change.put(SystemTree.id, key, $0) }
            }
        }
    }

    /// The segment is in the store, and the table has the checksums of its blocks.
    static func seal(_ change: Change, _ segment: UInt64, size: UInt64, heat: Heat) throws(Missing) {
        var record = try read(change, segment) ?? Record(live: 0, size: 0, heat: heat.rawValue)
        record.size = size
        write(change, segment, record)
        unmark(change, stagedTag, segment)
        if record.live == 0 { mark(change, deadTag, segment) }
    }

    /// The checksum of one block; nil when the table has none.
    static func checksum(_ view: View, _ segment: UInt64, block: Int) throws(Missing) -> UInt32? {
        let found = Key(checksumsTag, segment, index: UInt16(block / checksumsPerKey)).withBytes { key in
            Result { () throws(Missing) -> UInt32? in
                guard let value = try view.get(SystemTree.id, key) else { return nil }
                let offset = block % checksumsPerKey * 4
                guard offset + 4 <= value.count else { return nil }
                return UInt32(littleEndian: value.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            }
        }
        return try found.get()
    }

    /// Takes a dead segment out of the table, its last checksums first. Answers how many of their keys are left: it is
    /// in the table until none is.
    static func remove(_ change: Change, _ segment: UInt64) throws(Missing) -> Int {
        guard var record = try read(change, segment) else { return 0 }
        let keys = checksumKeys(blocks: (Int(record.size) + SegmentFormat.blockSize - 1) / SegmentFormat.blockSize)
        let left = max(0, keys - checksumKeysPerChange)
        for index in left..<keys {
            Key(checksumsTag, segment, index: UInt16(index)).withBytes { change.delete(SystemTree.id, $0) }
        }
        if left > 0 {
            // What is left of it is as long as the checksums that are left: a crash goes on from here.
            record.size = UInt64(left * checksumsPerKey * SegmentFormat.blockSize)
            write(change, segment, record)
        } else {
            Key(recordTag, segment).withBytes { change.delete(SystemTree.id, $0) }
            unmark(change, deadTag, segment)
        }
        return left
    }
}

extension Change {
    /// The bytes belong to a file now: the segment lives as long as they do. The log learns their checksum, so that a
    /// recovery can tell whether the bytes of its last records had got to the disk.
    ///
    /// A file that can take only a part of it with this change gives that part's length as `live`, and shares the
    /// rest with later ones.
    public func reference(_ range: SegmentRange, live: UInt64? = nil) throws(Missing) {
        var record: SegmentTable.Record
        if let found = try SegmentTable.read(self, range.segment) {
            record = found
        } else {
            record = SegmentTable.Record(
                live: 0, size: 0, heat: headhunter.segments.heat(of: range.segment).rawValue)
            SegmentTable.mark(self, SegmentTable.stagedTag, range.segment)
        }
        let more = live ?? UInt64(range.length)
        guard more < CheckpointHeader.numberMax - record.live else {
            throw damaged("segment \(range.segment) is named too often")
        }
        record.live += more
        if record.size > 0 { SegmentTable.unmark(self, SegmentTable.deadTag, range.segment) }
        SegmentTable.write(self, range.segment, record)
        writes.note(range)
    }

    /// More bytes of a segment whose live bytes are counted already: the change names them in the log.
    public func name(_ range: SegmentRange) { writes.note(range) }

    /// Bytes that a file names already belong to one more.
    public func share(segment: UInt64, length: UInt64) throws(Missing) {
        guard var record = try SegmentTable.read(self, segment), length < CheckpointHeader.numberMax - record.live
        else {
            throw damaged("files share bytes of segment \(segment), which is in no table")
        }
        record.live += length
        SegmentTable.write(self, segment, record)
        if record.size > 0 { SegmentTable.unmark(self, SegmentTable.deadTag, segment) }
    }

    /// So many bytes of a segment belong to nobody any more.
    public func release(segment: UInt64, length: UInt64) throws(Missing) {
        guard var record = try SegmentTable.read(self, segment), record.live >= length else {
            throw damaged("more bytes of segment \(segment) are given up than files have there")
        }
        record.live -= length
        SegmentTable.write(self, segment, record)
        if record.live == 0, record.size > 0 { SegmentTable.mark(self, SegmentTable.deadTag, segment) }
    }
}

/// What the table knows of a segment, for those who check it.
public struct SegmentSummary: Equatable, Sendable {
    public var segment: UInt64
    public var live: UInt64
    /// 0: not in the store yet.
    public var size: UInt64
}

extension View {
    /// The segments from a number on, at most `limit` of them.
    public func segments(from start: UInt64, limit: Int) throws(Missing) -> [SegmentSummary] {
        let found = SegmentTable.Key(SegmentTable.recordTag, start).withBytes { key in
            Result { () throws(Missing) -> [SegmentSummary] in
                var segments: [SegmentSummary] = []
                var resume: [UInt8] = []
                _ = try scan(SystemTree.id, from: key, budget: limit, resume: &resume) { key, value in
                    guard key.first == SegmentTable.recordTag, let record = SegmentTable.Record(value) else {
                        return false
                    }
                    segments.append(
                        SegmentSummary(segment: SegmentTable.segment(of: key), live: record.live, size: record.size))
                    return true
                }
                return segments
            }
        }
        return try found.get()
    }
}

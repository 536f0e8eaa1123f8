import Headhunter

/// Reads every record of a subvolume, in the order of their keys, and compares each with those that it has to agree with. It
/// changes nothing, and nobody may change anything meanwhile.
///
/// What it keeps in memory does not grow with the number of files: what a record has to agree with is looked up. A fork and a
/// stream do not tell whose they are, so of these both sides are added up to a number; only when the two differ they are
/// compared one by one, in parts.
public final class Check {
    public private(set) var differences: [Difference] = []
    /// Bytes of each segment that the subvolume's extents name.
    public internal(set) var live: [UInt64: UInt64] = [:]
    /// Differences above that are counted only.
    public static let differencesMax = 10_000
    public private(set) var count = 0

    let files: LogFS
    /// Of the segments that are in the store.
    var sizes: [UInt64: UInt64] = [:]
    var subvolume: SubvolumeRecord?
    /// The directory or fork whose records are being read.
    var home: Home?
    var fork: UInt64?
    var lastExtentEnd: UInt64 = 0
    var lastInode: UInt64 = 0
    /// A file whose links were told of already.
    var lastLinks: UInt64 = 0
    /// What nobody is told apart by lookups: forks with records and inodes of streams, by those who own them and as they are there.
    var forksOwned = Tally()
    var forksThere = Tally()
    var streamsOwned = Tally()
    var streamsThere = Tally()
    var settings = SettingsSum()
    var settingsRecorded = SettingsSum()
    var tokens = 0
    var tokenAges = 0
    /// Inodes that there are, of whatever type.
    public internal(set) var inodes = 0
    /// Bytes of data that all files say to have.
    var dataBytes: UInt64 = 0
    /// Streams of which something is to be told, and whose they are.
    var streamOwners: [UInt64: UInt64] = [:]

    /// Many numbers as one: the order does not matter.
    struct Tally: Equatable {
        private var sum: UInt64 = 0
        private var count: UInt64 = 0

        mutating func add(_ number: UInt64) {
            var value = number &* 0x9E37_79B9_7F4A_7C15
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            sum &+= value ^ value >> 31
            count += 1
        }
    }

    private init(_ files: LogFS) { self.files = files }

    /// Done so far of what there is to do: records first, then, if it is read, bytes of data.
    public enum Progress: Sendable {
        case records(UInt64)
        case data(UInt64, of: UInt64)
    }

    /// `alone`: the segments hold this subvolume's data only, so their live bytes can be compared. `readsData`: every
    /// byte of every file is read, and with it checked against its checksum.
    public static func run(
        _ files: LogFS, alone: Bool = true, readsData: Bool = false, progress: (Progress) -> Void = { _ in }
    ) async throws(Failure) -> Check {
        let check = Check(files)
        let segments = try await check.readSegments()
        for segment in segments where segment.size > 0 { check.sizes[segment.segment] = segment.size }
        var records: UInt64 = 0
        let isWhole = try await check.walk(from: [0]) { (key, value) async throws(Failure) in
            try await check.take(key, value)
            records += 1
            if records % 256 == 0 { progress(.records(records)) }
            return nil
        }
        if isWhole {
            try await check.finish()
            if alone { check.compare(segments) }
        }
        if readsData { try await check.readData(progress) }
        try await check.findStreamOwners()
        return check
    }

    func report(_ difference: Difference) {
        count += 1
        if differences.count < Self.differencesMax { differences.append(difference) }
    }

    // MARK: Reading

    private func readSegments() async throws(Failure) -> [SegmentSummary] {
        var all: [SegmentSummary] = []
        while true {
            let from = all.last.map { $0.segment + 1 } ?? 0
            let some: [SegmentSummary]
            do throws(VolumeError) {
                some = try await files.headhunter.read { (view) throws(Missing) in
                    try view.segments(from: from, limit: View.scanBudget)
                }
            } catch { throw .volume(error) }
            guard !some.isEmpty else { return all }
            all.append(contentsOf: some)
        }
    }

    private struct Part {
        var entries: [(key: [UInt8], value: [UInt8])] = []
        var more = false
        var resume: [UInt8] = []
    }

    /// Shows all records from a key on; `visit` may answer another key to go on from, an empty one to end. False: a part of
    /// them could not be read.
    func walk(
        from start: [UInt8], _ visit: (_ key: [UInt8], _ value: [UInt8]) async throws(Failure) -> [UInt8]?
    ) async throws(Failure) -> Bool {
        var next = start
        while true {
            let from = next
            let part: Part
            do throws(VolumeError) {
                part = try await files.headhunter.read { (view) throws(Missing) -> Part in
                    var part = Part()
                    part.more = try from.withUnsafeBytes { from in
                        Result { () throws(Missing) -> Bool in
                            try view.scan(self.files.subvolume, from: from, resume: &part.resume) { key, value in
                                part.entries.append((Array(key), Array(value)))
                                return true
                            }
                        }
                    }.get()
                    return part
                }
            } catch {
                guard case .damaged(let why) = error else { throw .volume(error) }
                report(.unreadableRecords(why))
                return false
            }
            var jump: [UInt8]?
            for entry in part.entries {
                jump = try await visit(entry.key, entry.value)
                if jump != nil { break }
            }
            if let jump {
                if jump.isEmpty { return true }
                next = jump
            } else {
                guard part.more else { return true }
                next = part.resume
            }
        }
    }

    /// What a look at some records finds; nil when one of them makes no sense, which is told where that one is met.
    func look<Value>(_ body: (Reading) throws(Halt) -> Value) async throws(Failure) -> Value? {
        do throws(Failure) {
            return try await files.run { reader in
                self.files.read(reader) { (records) throws(Halt) in try body(records) }
            }.value
        } catch {
            switch error {
            case .volume(.damaged), .file: return nil
            default: throw error
            }
        }
    }

    func isThere(_ key: (Scratch) -> UnsafeRawBufferPointer) async throws(Failure) -> Bool {
        try await look { (records) throws(Halt) in try records.get(key(records.scratch)) != nil } ?? false
    }

    func isMarked(_ kind: KeyLayout.Kind, _ number: UInt64) async throws(Failure) -> Bool {
        try await isThere { $0.key(0, kind, number) }
    }

    func inode(_ number: UInt64) async throws(Failure) -> Inode? {
        try await look { (records) throws(Halt) in try records.inode(number) } ?? nil
    }

    /// Reports a record that makes no sense.
    func wrong(_ id: UInt64, _ kind: KeyLayout.Kind) { report(.record(WrongRecord(id, kind).text)) }

    // MARK: Comparing

    private func take(_ bytes: [UInt8], _ content: [UInt8]) async throws(Failure) {
        guard bytes.count >= KeyLayout.prefixCount, let kind = KeyLayout.Kind(rawValue: bytes[8]) else {
            return report(.record("a key of \(bytes.count) bytes"))
        }
        let id = bytes.withUnsafeBytes { $0.keyNumber(at: 0) }
        if let home, home.id != id { try await finishHome() }
        switch kind {
        case .subvolume, .orphan, .reclaim, .unsettled, .tail, .token, .tokenAge, .tokenClient, .setting, .settingPart,
            .settings:
            try await takeOfSubvolume(kind, bytes, content)
        case .inode: try await takeInode(id, bytes, content)
        case .link: try await takeLink(id, bytes)
        case .sums, .name, .cookie, .folded: try await takeOfDirectory(kind, id, bytes, content)
        case .inline, .extent, .target, .xattr, .xattrPart, .stream: try await takeOfFork(kind, id, bytes, content)
        }
    }

    private func finish() async throws(Failure) {
        try await finishHome()
        guard let subvolume else { return report(.record("there is no record of the subvolume itself")) }
        if lastInode >= subvolume.nextInode { report(.inodeNotGivenOut(lastInode)) }
        if settings != settingsRecorded {
            report(.settings(recorded: settingsRecorded.count, counted: settings.count))
        }
        if tokens != tokenAges { report(.tokens(recorded: tokens, counted: tokenAges)) }
        if forksOwned != forksThere { try await compareForks() }
        if streamsOwned != streamsThere { try await compareStreams() }
    }

    /// Of all segments: what the table says beside what the extents come to.
    private func compare(_ segments: [SegmentSummary]) {
        var rest = live
        for segment in segments {
            let counted = rest.removeValue(forKey: segment.segment) ?? 0
            if counted != segment.live {
                report(.liveBytes(segment: segment.segment, recorded: segment.live, counted: counted))
            }
        }
        for (segment, counted) in rest.sorted(by: { $0.key < $1.key }) {
            report(.liveBytes(segment: segment, recorded: 0, counted: counted))
        }
    }
}

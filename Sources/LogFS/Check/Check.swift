import Headhunter

/// Reads every record of a subvolume and compares each with the others. It changes nothing, and nobody may change
/// anything meanwhile. It keeps a few numbers for each file in memory.
public final class Check {
    public private(set) var differences: [Difference] = []
    /// Bytes of each segment that the subvolume's extents name.
    public private(set) var live: [UInt64: UInt64] = [:]
    /// Differences above that are counted only.
    public static let differencesMax = 10_000
    public private(set) var count = 0

    let files: LogFS
    private(set) var inodes: [UInt64: Inode] = [:]
    private var links: [UInt64: UInt32] = [:]
    private var linkRecords: [UInt64: Int] = [:]
    /// The forks that name streams, by the streams' inodes.
    private var streamForks: [UInt64: UInt64] = [:]
    /// Inodes whose home entry was met.
    private var homes: Set<UInt64> = []
    private var own: [UInt64: Totals] = [:]
    private var subdirectories: [UInt64: UInt32] = [:]
    private var sums: [UInt64: DirectorySums] = [:]
    private var forks: [UInt64: Fork] = [:]
    private var orphans: Set<UInt64> = []
    private var reclaims: Set<UInt64> = []
    private var tails: Set<UInt64> = []
    private var unsettled: Set<UInt64> = []
    private var sizes: [UInt64: UInt64] = [:]
    private var settings = SettingsSum()
    private var settingsRecorded = SettingsSum()
    /// Parts of settings that are still to come: a setting lies before all parts.
    private var settingParts: [[UInt8]: Int] = [:]
    /// Numbers below it were given out.
    private var nextInode: UInt64 = 0

    private struct Fork {
        var bytes: UInt64 = 0
        var end: UInt64 = 0
        var inline: UInt64?
        var xattrBytes: UInt32 = 0
        var streams: UInt32 = 0
        var streamBytes: UInt64 = 0
        var owners = 0
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
        try await check.walk(progress)
        check.compareInodes()
        check.compareDirectories()
        check.compareSettings()
        if alone { check.compare(segments) }
        if readsData { await check.readData(progress) }
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

    private func walk(_ progress: (Progress) -> Void) async throws(Failure) {
        var next: [UInt8] = [0]
        var records: UInt64 = 0
        while true {
            let from = next
            let batch = try await files.run { reader in
                self.files.read(reader) { (records) throws(Halt) -> Slice in
                    let slice = Slice()
                    _ = try from.withUnsafeBytes { start in
                        Result { () throws(Halt) -> Bool in
                            try records.scan(from: start, budget: View.scanBudget) { key, value in
                                slice.entries.append((Array(key), Array(value)))
                                return true
                            }
                        }
                    }.get()
                    for entry in slice.entries where try !self.fits(records, entry.key, entry.value) {
                        slice.strange.append(entry.key)
                    }
                    return slice
                }
            }.value
            records += UInt64(batch.entries.count)
            progress(.records(records))
            for entry in batch.entries {
                entry.key.withUnsafeBytes { key in entry.value.withUnsafeBytes { take(key, $0) } }
            }
            for key in batch.strange {
                key.withUnsafeBytes { key in
                    let place = key[8] == KeyLayout.Kind.folded.rawValue ? 17 : KeyLayout.prefixCount
                    let isName = key[8] == KeyLayout.Kind.name.rawValue
                    report(
                        .entryKeys(
                            directory: key.keyNumber(at: 0) & ~KeyLayout.directorySpace,
                            cookie: isName ? 0 : key.keyNumber(at: place)))
                }
            }
            guard let last = batch.entries.last?.key else { return }
            next = last + [0]
        }
    }

    private final class Slice {
        var entries: [(key: [UInt8], value: [UInt8])] = []
        var strange: [[UInt8]] = []
    }

    /// Whether an entry's key has its fellows.
    private func fits(_ records: Reading, _ key: [UInt8], _ value: [UInt8]) throws(Halt) -> Bool {
        guard key.count > KeyLayout.prefixCount, let kind = KeyLayout.Kind(rawValue: key[8]) else { return true }
        let id = key.withUnsafeBytes { $0.keyNumber(at: 0) }
        let sub = Array(key[KeyLayout.prefixCount...])
        switch kind {
        case .name:
            let (inode, cookie) = value.withUnsafeBytes { ($0.u64(1), $0.u64(9)) }
            guard let other = try records.get(records.scratch.key(id, .cookie, cookie)) else { return false }
            guard other.u64(1) == inode, other.from(10).elementsEqual(sub) else { return false }
            guard sub.withUnsafeBytes({ !FoldTable.isFolded($0) }) else { return true }
            let hash = sub.withUnsafeBytes { files.foldedHash($0) }
            return try records.get(records.scratch.key(id, .folded, hash, cookie)) != nil
        case .cookie:
            let cookie = key.withUnsafeBytes { $0.keyNumber() }
            let name = Array(value[10...])
            let found = try name.withUnsafeBytes { name in
                Result { () throws(Halt) -> UInt64? in try records.get(records.scratch.key(id, .name, name))?.u64(9) }
            }.get()
            return found == cookie
        case .folded:
            let (hash, cookie) = key.withUnsafeBytes { ($0.keyNumber(), $0.keyNumber(at: 17)) }
            guard let other = try records.get(records.scratch.key(id, .cookie, cookie)) else { return false }
            return !FoldTable.isFolded(other.from(10)) && files.foldedHash(other.from(10)) == hash
        default: return true
        }
    }

    /// Remembers what a record says.
    private func take(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        guard let kind = KeyLayout.Kind(rawValue: key[8]) else { return }
        let id = key.keyNumber(at: 0)
        switch kind {
        case .subvolume: nextInode = SubvolumeRecord(value).nextInode
        case .token, .tokenAge, .tokenClient, .target, .folded, .cookie: break
        case .setting: takeSetting(key, value)
        case .settingPart:
            let name = Array(key.from(KeyLayout.prefixCount).dropLast(2))
            if let rest = settingParts[name], rest > 0 {
                settingParts[name] = rest == 1 ? nil : rest - 1
            } else {
                report(.settingParts(String(decoding: name, as: UTF8.self)))
            }
        case .settings: settingsRecorded = SettingsSum(value)
        case .orphan: orphans.insert(key.keyNumber())
        case .reclaim: reclaims.insert(key.keyNumber())
        case .unsettled: unsettled.insert(key.keyNumber())
        case .tail: tails.insert(key.keyNumber())
        case .inode: inodes[id] = Inode(id, value)
        case .link: linkRecords[id, default: 0] += 1
        case .sums: sums[id & ~KeyLayout.directorySpace] = DirectorySums(value)
        case .name: takeEntry(id & ~KeyLayout.directorySpace, value)
        case .inline: forks[id & ~KeyLayout.forkSpace, default: Fork()].inline = UInt64(value.count - 1)
        case .extent: takeExtent(id & ~KeyLayout.forkSpace, Extent(key, value))
        case .xattr:
            forks[id & ~KeyLayout.forkSpace, default: Fork()].xattrBytes +=
                UInt32(key.count - KeyLayout.prefixCount) + value.u32(1)
        case .xattrPart: break
        case .stream:
            let fork = id & ~KeyLayout.forkSpace
            forks[fork, default: Fork()].streams += 1
            forks[fork]?.streamBytes &+= inodes[value.u64(1)]?.size ?? 0
            streamForks[value.u64(1)] = fork
        }
    }

    private func takeSetting(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        let name = key.from(KeyLayout.prefixCount)
        let length = Int(value.u32(1))
        settings.add(name.count + length)
        let parts = LogFS.settingParts(length)
        if parts > 0 { settingParts[Array(name)] = parts }
    }

    private func compareSettings() {
        if settings != settingsRecorded {
            report(.settings(recorded: settingsRecorded.count, counted: settings.count))
        }
        for name in settingParts.keys { report(.settingParts(String(decoding: name, as: UTF8.self))) }
    }

    private func takeEntry(_ directory: UInt64, _ value: UnsafeRawBufferPointer) {
        let entry = Entry(inode: value.u64(1), cookie: value.u64(9), type: FileType(rawValue: value[17]) ?? .file)
        // Inodes lie before names: all of them are known.
        guard let inode = inodes[entry.inode] else {
            return report(.entryOfNothing(directory: directory, cookie: entry.cookie, inode: entry.inode))
        }
        if inode.type != entry.type { report(.entryType(directory: directory, cookie: entry.cookie)) }
        if let home = inodes[directory] {
            if entry.cookie >= home.nextCookie {
                report(.cookieNotGivenOut(directory: directory, cookie: entry.cookie))
            }
        } else {
            report(.directoryOfNothing(directory))
        }
        links[entry.inode, default: 0] += 1
        let isHome = inode.parent == directory && inode.cookie == entry.cookie
        if isHome { homes.insert(entry.inode) }
        var counts = own[directory] ?? Totals()
        if inode.isDirectory {
            counts.directories += 1
            subdirectories[directory, default: 0] += 1
        } else {
            counts.files += 1
            if isHome { counts += inode.load }
        }
        own[directory] = counts
    }

    private func takeExtent(_ number: UInt64, _ extent: Extent) {
        var fork = forks[number] ?? Fork()
        if extent.start < fork.end { report(.extentsOverlap(fork: number, at: extent.start)) }
        fork.end = extent.end
        fork.bytes += extent.length
        forks[number] = fork
        live[extent.segment, default: 0] += extent.length
        if let size = sizes[extent.segment], UInt64(extent.offset) + extent.length > size {
            report(.extentOutsideSegment(fork: number, at: extent.start, segment: extent.segment))
        }
    }

    // MARK: Comparing

    private func compareInodes() {
        var next: UInt64 = 0
        for number in inodes.keys.sorted() {
            guard let inode = inodes[number] else { continue }
            next = number
            if inode.type == .file { compareData(inode) }
            compareExtras(inode)
            if inode.isDirectory { continue }
            let names = links[number] ?? 0
            if let fork = streamForks[number] {
                if inode.links != 1 || names != 0 {
                    report(.linkCount(inode: number, recorded: inode.links, counted: names + 1))
                }
                // Its file may be gone: then the fork is to be reclaimed.
                let isOwned = inodes[inode.cookie].map { $0.extras == fork } ?? reclaims.contains(fork)
                if !inode.isStream || !isOwned { report(.streamOwner(inode: number)) }
                continue
            }
            if inode.links != names { report(.linkCount(inode: number, recorded: inode.links, counted: names)) }
            let records = linkRecords[number] ?? 0
            if inode.has(Inode.hasLinkRecords) ? records != Int(names) : records != 0 {
                report(.linkRecords(inode: number, recorded: records, counted: Int(names)))
            }
            if names > 0, !homes.contains(number) { report(.homeless(inode: number)) }
            if names == 0, !orphans.contains(number) { report(.lost(inode: number)) }
        }
        for number in orphans.sorted() where inodes[number]?.links != 0 { report(.orphanOfNothing(inode: number)) }
        for number in linkRecords.keys.sorted() where inodes[number] == nil {
            report(.linkRecords(inode: number, recorded: linkRecords[number] ?? 0, counted: 0))
        }
        if next >= nextInode { report(.inodeNotGivenOut(next)) }
        for number in forks.keys.sorted() where !reclaims.contains(number) && forks[number]?.owners != 1 {
            report(forks[number]?.owners == 0 ? .forkOfNobody(number) : .forkOfSeveral(number))
        }
    }

    private func compareData(_ inode: Inode) {
        let fork = forks[inode.fork] ?? Fork()
        forks[inode.fork]?.owners += 1
        let counted = fork.inline ?? fork.bytes
        if inode.allocated != counted {
            report(.allocated(inode: inode.number, recorded: inode.allocated, counted: counted))
        }
        if fork.end > inode.size, !tails.contains(inode.number) {
            report(.extentBehindEnd(inode: inode.number, at: fork.end))
        }
    }

    private func compareExtras(_ inode: Inode) {
        let fork = forks[inode.extras] ?? Fork()
        if inode.extras != 0 { forks[inode.extras]?.owners += 1 }
        if inode.streams != fork.streams {
            report(.streams(inode: inode.number, recorded: inode.streams, counted: fork.streams))
        }
        if inode.streamBytes != fork.streamBytes {
            report(.streamBytes(inode: inode.number, recorded: inode.streamBytes, counted: fork.streamBytes))
        }
        if inode.xattrBytes != fork.xattrBytes {
            report(.xattrBytes(inode: inode.number, recorded: inode.xattrBytes, counted: fork.xattrBytes))
        }
    }

    private func compareDirectories() {
        var told: [UInt64: Totals] = [:]
        for (number, inode) in inodes where inode.isDirectory && number != LogFS.root {
            told[inode.parent, default: Totals()] += sums[number]?.told ?? Totals()
        }
        for number in inodes.keys.sorted() {
            guard let inode = inodes[number], inode.isDirectory else { continue }
            let isOpen = inode.links == 0
            if isOpen, !orphans.contains(number) { report(.lost(inode: number)) }
            if !isOpen, number != LogFS.root {
                if links[number] != 1 {
                    report(.linkCount(inode: number, recorded: inode.links, counted: links[number] ?? 0))
                }
                if !homes.contains(number) { report(.homeless(inode: number)) }
            }
            let wanted = isOpen ? 0 : 2 + (subdirectories[number] ?? 0)
            if inode.links != wanted { report(.linkCount(inode: number, recorded: inode.links, counted: wanted)) }
            var counted = own[number] ?? Totals()
            if !isOpen { counted.streams += Int64(clamping: inode.streamBytes) }
            if inode.own != counted { report(.own(directory: number, recorded: inode.own, counted: counted)) }
            let sums = sums[number] ?? DirectorySums()
            let below = told[number] ?? Totals()
            if sums.below != below { report(.below(directory: number, recorded: sums.below, told: below)) }
            let news = inode.own + sums.below - sums.told
            if number != LogFS.root, !isOpen, !news.isZero, !unsettled.contains(number) {
                report(.unsettledNotMarked(directory: number))
            }
        }
        for number in sums.keys.sorted() where inodes[number] == nil { report(.directoryOfNothing(number)) }
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

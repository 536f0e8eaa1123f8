import Headhunter

/// Inodes: each with its names, its data and what else it has.
extension Check {
    func takeInode(_ number: UInt64, _ key: [UInt8], _ value: [UInt8]) async throws(Failure) {
        guard key.count == KeyLayout.prefixCount, let inode = value.withUnsafeBytes({ Inode(number, $0) }) else {
            return wrong(number, .inode)
        }
        inodes += 1
        lastInode = max(lastInode, number)
        if inode.type == .file || inode.type == .symlink { try await compareData(inode) }
        try await compareExtras(inode)
        if inode.isDirectory {
            try await compareDirectory(inode)
        } else {
            try await compareNames(inode)
        }
    }

    /// Of a fork: what its records come to.
    struct Content {
        var isEmpty = true
        var bytes: UInt64 = 0
        var end: UInt64 = 0
        var inline: UInt64?
        var target = 0
        var xattrBytes: UInt64 = 0
        var streams: [UInt64] = []
    }

    func content(of fork: UInt64) async throws(Failure) -> Content {
        let id = fork | KeyLayout.forkSpace
        var content = Content()
        let start = withUnsafeBytes(of: id.bigEndian) { Array($0) }
        _ = try await walk(from: start) { (key, value) async throws(Failure) in
            guard key.count >= KeyLayout.prefixCount, key.starts(with: start),
                let kind = KeyLayout.Kind(rawValue: key[8])
            else { return [] }
            content.isEmpty = false
            key.withUnsafeBytes { key in
                value.withUnsafeBytes { value in
                    switch kind {
                    case .inline: content.inline = UInt64(max(value.count, 1) - 1)
                    case .extent:
                        guard let extent = Extent(key, value) else { return }
                        content.bytes += extent.length
                        content.end = extent.end
                    case .target: content.target += max(value.count, 1) - 1
                    case .xattr:
                        guard let record = LongValue(value, max: Limits.xattrValueBytesMax) else { return }
                        content.xattrBytes += UInt64(key.count - KeyLayout.prefixCount + record.length)
                    case .stream: if let stream = value.recordNumber { content.streams.append(stream) }
                    default: break
                    }
                }
            }
            return nil
        }
        return content
    }

    /// The inode has this fork; another one may not.
    private func own(_ fork: UInt64, _ content: Content) async throws(Failure) {
        guard !content.isEmpty else { return }
        if try await isMarked(.reclaim, fork) { return report(.forkOfSeveral(fork)) }
        forksOwned.add(fork)
    }

    private func compareData(_ inode: Inode) async throws(Failure) {
        let content = try await content(of: inode.fork)
        if inode.fork >= KeyLayout.forkNumbers {
            try await own(inode.fork, content)
        } else if inode.fork != inode.number {
            report(.forkOfSeveral(inode.fork))
        }
        if inode.type == .symlink {
            if UInt64(content.target) != inode.size { report(.target(inode: inode.number)) }
            return
        }
        dataBytes &+= inode.allocated
        let counted = content.inline ?? content.bytes
        if inode.allocated != counted {
            report(.allocated(inode: inode.number, recorded: inode.allocated, counted: counted))
        }
        if content.end > inode.size, try await !isMarked(.tail, inode.number) {
            report(.extentBehindEnd(inode: inode.number, at: content.end))
        }
    }

    private func compareExtras(_ inode: Inode) async throws(Failure) {
        let content = inode.extras == 0 ? Content() : try await content(of: inode.extras)
        if inode.extras != 0 { try await own(inode.extras, content) }
        var streamBytes: UInt64 = 0
        for number in content.streams {
            streamsOwned.add(number)
            guard let stream = try await self.inode(number) else { continue }
            streamBytes &+= stream.size
            if !stream.isStream || stream.cookie != inode.number { report(.streamOwner(inode: number)) }
        }
        if inode.streamBytes != streamBytes {
            report(.streamBytes(inode: inode.number, recorded: inode.streamBytes, counted: streamBytes))
        }
        if Int(inode.streams) != content.streams.count {
            report(.streams(inode: inode.number, recorded: inode.streams, counted: UInt32(content.streams.count)))
        }
        if UInt64(inode.xattrBytes) != content.xattrBytes {
            report(
                .xattrBytes(
                    inode: inode.number, recorded: inode.xattrBytes, counted: UInt32(clamping: content.xattrBytes)))
        }
    }

    /// Whether the entry with this cookie leads to the inode.
    private func leads(_ directory: UInt64, _ cookie: UInt64, to inode: UInt64) async throws(Failure) -> Bool {
        let entry = try await look { (records) throws(Halt) -> Entry? in
            let id = directory | KeyLayout.directorySpace
            return try records.get(records.scratch.key(id, .cookie, cookie)).flatMap { Entry(cookie: cookie, $0) }
        }
        return (entry ?? nil)?.inode == inode
    }

    private func compareNames(_ inode: Inode) async throws(Failure) {
        let number = inode.number
        let isHome = inode.parent != 0 ? try await leads(inode.parent, inode.cookie, to: number) : false
        var records = 0
        var names: UInt32 = isHome ? 1 : 0
        let start = withUnsafeBytes(of: number.bigEndian) { Array($0) } + [KeyLayout.Kind.link.rawValue]
        var valid: UInt32 = 0
        _ = try await walk(from: start) { (key, _) async throws(Failure) in
            guard key.starts(with: start) else { return [] }
            records += 1
            guard let link = key.withUnsafeBytes({ LinkKey($0) }) else { return nil }
            if try await self.leads(link.directory, link.cookie, to: number) { valid += 1 }
            return nil
        }
        if inode.has(Inode.hasLinkRecords) {
            names = valid
            if records != Int(valid) { report(.linkRecords(inode: number, recorded: records, counted: Int(valid))) }
        } else if records != 0 {
            report(.linkRecords(inode: number, recorded: records, counted: Int(names)))
        }
        // A stream has no name in any directory.
        if inode.type == .file, inode.links == 1, inode.parent == 0, names == 0 { return streamsThere.add(number) }
        if inode.links != names { report(.linkCount(inode: number, recorded: inode.links, counted: names)) }
        if names > 0, !isHome { report(.homeless(inode: number)) }
        if names == 0, try await !isMarked(.orphan, number) { report(.lost(inode: number)) }
    }

    private func compareDirectory(_ inode: Inode) async throws(Failure) {
        let number = inode.number
        if inode.links == 0 {
            if try await !isMarked(.orphan, number) { report(.lost(inode: number)) }
        } else if number != LogFS.root, try await !leads(inode.parent, inode.cookie, to: number) {
            report(.homeless(inode: number))
        }
        // One without any record in it is not met again.
        let start = withUnsafeBytes(of: (number | KeyLayout.directorySpace).bigEndian) { Array($0) }
        var isEmpty = true
        _ = try await walk(from: start) { (key, _) async throws(Failure) in
            isEmpty = !key.starts(with: start)
            return []
        }
        if isEmpty { try await compare(Home(number, inode)) }
    }

    func takeLink(_ number: UInt64, _ key: [UInt8]) async throws(Failure) {
        guard key.count == KeyLayout.doublyNumberedCount else { return wrong(number, .link) }
        guard lastLinks != number else { return }
        lastLinks = number
        if try await inode(number) == nil { report(.linkRecords(inode: number, recorded: 1, counted: 0)) }
    }

    // MARK: One by one

    /// Numbers compared at a time.
    private static let partMax = 1 << 18

    /// Forks that are nobody's, or several files'.
    func compareForks() async throws(Failure) {
        var from = KeyLayout.forkNumbers
        while true {
            var owners: [UInt64: Int] = [:]
            var next: UInt64?
            let start = withUnsafeBytes(of: (from | KeyLayout.forkSpace).bigEndian) { Array($0) }
            _ = try await walk(from: start) { (key, _) async throws(Failure) in
                let fork = key.withUnsafeBytes { $0.count >= 8 ? $0.keyNumber(at: 0) : .max } & ~KeyLayout.forkSpace
                if owners.count >= Self.partMax {
                    next = fork
                    return []
                }
                if try await !self.isMarked(.reclaim, fork) { owners[fork] = 0 }
                guard fork < KeyLayout.directorySpace else { return [] }
                return withUnsafeBytes(of: (fork + 1 | KeyLayout.forkSpace).bigEndian) { Array($0) }
            }
            try await eachInode { inode in
                for fork in [inode.fork, inode.extras] where owners[fork] != nil { owners[fork, default: 0] += 1 }
            }
            for (fork, count) in owners.sorted(by: { $0.key < $1.key }) where count != 1 {
                report(count == 0 ? .forkOfNobody(fork) : .forkOfSeveral(fork))
            }
            guard let next else { return }
            from = next
        }
    }

    /// Streams that are nobody's, or several files'.
    func compareStreams() async throws(Failure) {
        var from: UInt64 = 0
        while true {
            var owners: [UInt64: UInt32] = [:]
            var end = UInt64.max
            try await eachInode { inode in
                guard inode.number >= from, inode.number < end, inode.type == .file, inode.links == 1, inode.parent == 0
                else { return }
                owners[inode.number] = 0
                if owners.count == Self.partMax { end = inode.number + 1 }
            }
            let last = end
            try await eachStream { _, stream in
                if owners[stream] != nil {
                    owners[stream, default: 0] += 1
                } else if stream >= from, stream < last {
                    self.report(.streamOfNothing(inode: stream))
                }
            }
            for (stream, count) in owners.sorted(by: { $0.key < $1.key }) where count != 1 {
                if count == 0 {
                    report(.lost(inode: stream))
                } else {
                    report(.linkCount(inode: stream, recorded: 1, counted: count))
                }
            }
            guard last < .max else { return }
            from = last
        }
    }

    func eachInode(_ visit: (Inode) -> Void) async throws(Failure) {
        _ = try await walk(from: withUnsafeBytes(of: LogFS.root.bigEndian) { Array($0) }) {
            (key, value) async throws(Failure) in
            let number = key.withUnsafeBytes { $0.count >= KeyLayout.prefixCount ? $0.keyNumber(at: 0) : 0 }
            guard number < KeyLayout.forkNumbers else { return [] }
            if key.count == KeyLayout.prefixCount, key[8] == KeyLayout.Kind.inode.rawValue,
                let inode = value.withUnsafeBytes({ Inode(number, $0) })
            {
                visit(inode)
            }
            return nil
        }
    }

    private func eachStream(_ visit: (_ fork: UInt64, _ stream: UInt64) -> Void) async throws(Failure) {
        let start = KeyLayout.forkSpace | KeyLayout.forkNumbers
        _ = try await walk(from: withUnsafeBytes(of: start.bigEndian) { Array($0) }) {
            (key, value) async throws(Failure) in
            if key.count > KeyLayout.prefixCount, key[8] == KeyLayout.Kind.stream.rawValue,
                let stream = value.withUnsafeBytes({ $0.recordNumber })
            {
                visit(key.withUnsafeBytes { $0.keyNumber(at: 0) } & ~KeyLayout.forkSpace, stream)
            }
            return nil
        }
    }

    /// For people: whose the streams are of which something was reported.
    func findStreamOwners() async throws(Failure) {
        var wanted: Set<UInt64> = []
        for difference in differences {
            guard let number = difference.inode, let inode = try await inode(number) else { continue }
            if inode.type == .file, inode.links == 1, inode.parent == 0 { wanted.insert(number) }
        }
        guard !wanted.isEmpty else { return }
        var forks: [UInt64: [UInt64]] = [:]
        try await eachStream { fork, stream in if wanted.contains(stream) { forks[fork, default: []].append(stream) } }
        try await eachInode { inode in
            for stream in forks[inode.extras] ?? [] { self.streamOwners[stream] = inode.number }
        }
    }
}

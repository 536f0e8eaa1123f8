import Headhunter

/// Directories: their entries have three keys each at the most, which lead to each other, and to an inode that knows of them.
extension Check {
    /// The directory whose records are being read.
    struct Home {
        let number: UInt64
        let inode: Inode?
        var own = Totals()
        var subdirectories: UInt32 = 0
        /// What its directories say to have told it.
        var told = Totals()
        var sums = DirectorySums()

        init(_ number: UInt64, _ inode: Inode?) {
            self.number = number
            self.inode = inode
        }

        var id: UInt64 { number | KeyLayout.directorySpace }
    }

    func takeOfDirectory(
        _ kind: KeyLayout.Kind, _ id: UInt64, _ key: [UInt8], _ value: [UInt8]
    ) async throws(Failure) {
        guard id & KeyLayout.directorySpace != 0, id & KeyLayout.forkSpace == 0 else { return wrong(id, kind) }
        if home == nil {
            let number = id & ~KeyLayout.directorySpace
            let inode = try await inode(number)
            home = Home(number, inode.flatMap { $0.isDirectory ? $0 : nil })
            if home?.inode == nil { report(.directoryOfNothing(number)) }
        }
        switch kind {
        case .sums:
            guard let sums = value.withUnsafeBytes({ DirectorySums($0) }) else { return wrong(id, kind) }
            home?.sums = sums
        case .name: try await takeName(id, Array(key[KeyLayout.prefixCount...]), value)
        case .cookie: try await takeCookie(id, key, value)
        case .folded: try await takeFolded(id, key)
        default: break
        }
    }

    func finishHome() async throws(Failure) {
        guard let home else { return }
        self.home = nil
        try await compare(home)
    }

    func compare(_ home: Home) async throws(Failure) {
        guard let inode = home.inode else { return }
        let isOpen = inode.links == 0
        let wanted = isOpen ? 0 : 2 + home.subdirectories
        if inode.links != wanted { report(.linkCount(inode: home.number, recorded: inode.links, counted: wanted)) }
        var counted = home.own
        if !isOpen { counted.streams &+= Int64(truncatingIfNeeded: inode.streamBytes) }
        if inode.own != counted { report(.own(directory: home.number, recorded: inode.own, counted: counted)) }
        if home.sums.below != home.told {
            report(.below(directory: home.number, recorded: home.sums.below, told: home.told))
        }
        let news = inode.own + home.sums.below - home.sums.told
        if home.number != LogFS.root, !isOpen, !news.isZero, try await !isMarked(.unsettled, home.number) {
            report(.unsettledNotMarked(directory: home.number))
        }
    }

    private func takeName(_ id: UInt64, _ name: [UInt8], _ value: [UInt8]) async throws(Failure) {
        guard name.count > 0, name.count <= Limits.nameBytesMax,
            let entry = value.withUnsafeBytes({ Entry(name: $0) })
        else { return wrong(id, .name) }
        let directory = id & ~KeyLayout.directorySpace
        let hasFellows = try await look { (records) throws(Halt) -> Bool in
            guard let other = try records.get(records.scratch.key(id, .cookie, entry.cookie)),
                let fellow = Entry(cookie: entry.cookie, other), fellow == entry, Entry.name(other).elementsEqual(name)
            else { return false }
            guard name.withUnsafeBytes({ !FoldTable.isFolded($0) }) else { return true }
            let hash = name.withUnsafeBytes { files.foldedHash($0) }
            return try records.get(records.scratch.key(id, .folded, hash, entry.cookie)) != nil
        }
        if hasFellows != true { report(.entryKeys(directory: directory, cookie: entry.cookie)) }
        if let inode = home?.inode, entry.cookie >= inode.nextCookie {
            report(.cookieNotGivenOut(directory: directory, cookie: entry.cookie))
        }
        guard let inode = try await inode(entry.inode) else {
            return report(.entryOfNothing(directory: directory, cookie: entry.cookie, inode: entry.inode))
        }
        if inode.type != entry.type { report(.entryType(directory: directory, cookie: entry.cookie)) }
        let isHome = inode.parent == directory && inode.cookie == entry.cookie
        let isKnown =
            inode.has(Inode.hasLinkRecords)
            ? try await isThere { $0.key(inode.number, .link, directory, entry.cookie) } : isHome
        if !isKnown { report(.nameUnknown(directory: directory, cookie: entry.cookie, inode: inode.number)) }
        guard inode.isDirectory else {
            home?.own += Totals(files: 1)
            if isHome { home?.own += inode.load }
            return
        }
        home?.own.directories += 1
        home?.subdirectories += 1
        let sums = try await look { (records) throws(Halt) in try records.sums(inode.number) }
        if let sums { home?.told += sums.told }
    }

    private func takeCookie(_ id: UInt64, _ key: [UInt8], _ value: [UInt8]) async throws(Failure) {
        guard let cookie = key.withUnsafeBytes({ $0.subKeyNumber }),
            value.withUnsafeBytes({ Entry(cookie: cookie, $0) }) != nil
        else { return wrong(id, .cookie) }
        let name = value.withUnsafeBytes { Array(Entry.name($0)) }
        let found = try await look { (records) throws(Halt) -> UInt64? in
            try name.withUnsafeBytes { name in
                Result { () throws(Halt) -> UInt64? in
                    try records.get(records.scratch.key(id, .name, name)).flatMap { Entry(name: $0)?.cookie }
                }
            }.get()
        }
        if (found ?? nil) != cookie { report(.entryKeys(directory: id & ~KeyLayout.directorySpace, cookie: cookie)) }
    }

    private func takeFolded(_ id: UInt64, _ key: [UInt8]) async throws(Failure) {
        guard let fold = key.withUnsafeBytes({ LinkKey($0) }) else { return wrong(id, .folded) }
        // A hash and a cookie.
        let fits = try await look { (records) throws(Halt) -> Bool in
            guard let other = try records.get(records.scratch.key(id, .cookie, fold.cookie)),
                Entry(cookie: fold.cookie, other) != nil
            else { return false }
            let name = Entry.name(other)
            return !FoldTable.isFolded(name) && files.foldedHash(name) == fold.directory
        }
        if fits != true { report(.entryKeys(directory: id & ~KeyLayout.directorySpace, cookie: fold.cookie)) }
    }
}

/// Older versions of files, and files that may not change.
extension Volume {
    /// What is an older version, or locked, is not changed by file clients: refused as `.notPermitted`, in the words of their
    /// protocols. The server's own requests have their own rules for it (docs/s3.md).
    @inline(__always)
    func requireFree(_ caller: Caller, _ file: Attributes) throws(Halt) {
        guard file.isLocked || file.isShelved || file.isStream, !caller.isServer else { return }
        try requireUnlocked(caller, file)
    }

    /// The engine changes and lets go nothing that has a lock: one that has ended is taken away here, as it was looked at.
    @inline(never)
    private func requireUnlocked(_ caller: Caller, _ file: Attributes) throws(Halt) {
        var file = file
        if file.isStream {
            guard let owner = try fileSystem.owner(caller.request, ofStream: file.file).get() else { return }
            file = owner
            // Those of a directory are not what is locked below it.
            if file.type == .directory { return }
        }
        // The request's own change comes yet: with its token this one would be taken for it.
        var request = caller.request
        request.token = nil
        for _ in 0..<Self.lockTriesMax {
            guard file.isLocked || file.isShelved else { return }
            // A directory has one for good: what is locked lies, or lay, below it.
            if file.isShelved || file.type == .directory { throw .refused(.notPermitted) }
            let found = try fileSystem.extendedAttributes(request, file.file, prefixes: FileLock.nameBytes).get()
            if let lock = found.first.map({ FileLock($0.value) }) {
                guard !lock.isInForce(request.now) else { throw .refused(.notPermitted) }
            }
            switch fileSystem.setLock(request, file.file, nil, since: file.change) {
            case .done: return
            // Another one by now, or something else has happened to the file.
            case .refused(.stale): file = try fileSystem.attributes(request, file.file).get()
            case .refused(let error): throw .refused(error)
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        throw .refused(.delay)
    }

    private static let lockTriesMax = 8

    /// The same for who has been refused the removal of a name.
    func endLock(_ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer) throws(Halt) -> Bool {
        guard !caller.isServer, case .done(let file, _) = fileSystem.lookup(caller.request, in: directory, name),
            file.isLocked, file.type != .directory
        else { return false }
        try requireUnlocked(caller, file)
        return true
    }

    /// For the server's own requests, which have judged the lock that the file had at that counter. Not for a file client's.
    public func setLock(
        _ caller: Caller, _ file: FileID, _ lock: FileLock, since change: UInt64
    ) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            try requireWritable(caller)
            return fileSystem.setLock(caller.request, file, lock.isEmpty ? nil : lock.encoded, since: change)
        }
    }

    /// Makes a change that goes by a bucket's word on versions, which `body` looks at once more, or that puts something on a
    /// shelf: meanwhile the word stays, and so does the bucket.
    public func goingByVersions<Value>(_ body: () -> Attempt<Value>) -> Attempt<Value> { shelves.together(body) }

    /// Changes such a word.
    public func changingVersions<Value>(_ body: () -> Attempt<Value>) -> Attempt<Value> { shelves.alone(body) }

    /// The server's own directory of what lies on the shelves of a top-level directory.
    public static func shelfName(of directory: FileID) -> [UInt8] {
        UploadPlace.name(ofBucket: directory)
    }

    public static let shelvesName = Array("versions".utf8)
    static let shelvesRoot = [Array(ownName.utf8), shelvesName]

    /// A directory stays for the older versions of what lay in it. In one step with its removal: `shelves` is held alone.
    func requireNoShelf(_ caller: Caller, of directory: FileID) throws(Halt) {
        var place = root
        for part in [Array(Self.ownName.utf8), Self.shelvesName, Self.shelfName(of: directory)] {
            switch part.withUnsafeBytes({ fileSystem.lookup(caller.request, in: place, $0) }) {
            case .done(let next, _): place = next.file
            case .refused: return
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        let totals = try fileSystem.totals(caller.request, below: place).get()
        guard totals.files == 0 else { throw .refused(.notEmpty) }
    }

    /// As `place`, and what has the name goes to the shelf.
    public func place(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, attributes: [ExtendedAttribute], seal: ContentSeal?, expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> {
        // What is mounted here keeps no versions.
        guard directory.subvolume == shelf.directory.subvolume else { return .refused(.notSupported) }
        return attempt { () throws(Halt) in
            let home = try placeable(caller, directory, name)
            let (uid, gid) = (caller.credential.uid, group(caller, home))
            return try replacing(caller, in: directory, name) { () throws(Halt) in
                try placeFile(
                    caller, in: directory, name, shelf: shelf, size: UInt64(content.count), uid: uid, gid: gid
                ) {
                    fileSystem.place(
                        caller.request, in: directory, name, content, new, uid: uid, gid: gid, attributes: attributes,
                        seal: seal, expected: expected, shelf: shelf)
                }
            }
        }
    }

    public func place(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> {
        guard directory.subvolume == shelf.directory.subvolume else { return .refused(.notSupported) }
        return attempt { () throws(Halt) in
            _ = try placeable(caller, directory, name)
            let nameless = try self.attributes(caller, of: file)
            return try replacing(caller, in: directory, name) { () throws(Halt) in
                try placeFile(
                    caller, in: directory, name, draft: file, shelf: shelf, size: nameless.size, uid: nameless.uid,
                    gid: nameless.gid
                ) {
                    fileSystem.place(
                        caller.request, in: directory, name, file, seal: seal, expected: expected, shelf: shelf)
                }
            }
        }
    }

    /// Takes its name from a file, no directory, that is expected there: it goes to the shelf, or for good.
    public func withdraw(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, expected: ExpectedFile,
        to shelf: Shelf? = nil, leaving mark: ShelfMark? = nil
    ) -> Attempt<Removed> {
        guard shelf.map({ $0.directory.subvolume == directory.subvolume }) ?? true,
            mark.map({ $0.place.directory.subvolume == directory.subvolume }) ?? true
        else { return .refused(.notSupported) }
        if let passed = passed(
            caller, directory, { $0.withdraw($1, in: directory, name, expected: expected, to: shelf, leaving: mark) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let home = try self.directory(caller, directory, .execute)
            try requireVisible(caller, directory, name)
            let file = try fileSystem.lookup(caller.request, in: directory, name).get()
            try requireDelete(caller, home, file)
            try requireUnstuck(caller, home, file)
            let isIdle = sharing.isIdle
            if !isIdle { try sharing.admit(caller, file.file, .remove) }
            let trail = isIdle ? nil : try trails(caller, directory, name)
            let attempt = try withdrawFile(caller, in: directory, name, expected, shelf, mark)
            guard case .done(var removed, let number) = attempt else { return attempt }
            certain(home, &removed.directory)
            if !isIdle {
                sharing.unlinked(removed.file.file, name, in: directory)
                sharing.directoryChanged(directory, by: caller)
                sharing.ended(removed.file, trail)
            }
            return .done(removed, number: number)
        }
    }
}

extension Volume {
    /// Brings a file back from a shelf, in the place of what is expected there, which goes for good.
    public func unshelve(
        _ caller: Caller, _ shelf: Shelf, to directory: FileID, _ name: UnsafeRawBufferPointer,
        expected: ExpectedFile
    ) -> Attempt<Renamed> {
        attempt { () throws(Halt) in
            _ = try placeable(caller, directory, name)
            if !sharing.isIdle, let old = expected.compared?.file { try sharing.admit(caller, old, .replace) }
            let attempt = try unshelveFile(caller, shelf, to: directory, name, expected)
            if case .done(let renamed, _) = attempt { replaced(caller, in: directory, name, renamed.other?.file) }
            return attempt
        }
    }

    private func unshelveFile(
        _ caller: Caller, _ shelf: Shelf, to directory: FileID, _ name: UnsafeRawBufferPointer,
        _ expected: ExpectedFile
    ) throws(Halt) -> Attempt<Renamed> {
        let request = caller.request
        guard counts(directory) else {
            return fileSystem.unshelve(request, shelf, to: directory, name, expected: expected)
        }
        return try meter.change { (state) throws(Halt) in
            let coming = try shelf.name.withUnsafeBytes {
                fileSystem.lookup(request, in: shelf.directory, $0)
            }.get()
            let from = try state.places(request, shelf.directory)?.subjects ?? []
            let to = try state.clientPlaces(request, directory, name) ?? []
            var loss: QuotaMeter.Loss?
            if case .done(let there, _) = fileSystem.lookup(request, in: directory, name) {
                loss = try state.loss(request, there, in: directory, name)
            }
            let load = Load(bytes: try state.bytes(request, coming), files: 1)
            try state.admit(request, to.filter { !from.contains($0) }, bytes: load.bytes, files: load.files)
            let attempt = fileSystem.unshelve(request, shelf, to: directory, name, expected: expected)
            guard case .done(let renamed, let number) = attempt, number > 0 else { return attempt }
            if let loss, let left = renamed.other { state.lost(request, loss, left: left) }
            state.move(request, coming.file.inode, load, from: from, to: to)
            return attempt
        }
    }
}

// MARK: - Quotas

extension Volume {
    private func withdrawFile(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ expected: ExpectedFile,
        _ shelf: Shelf?, _ mark: ShelfMark?
    ) throws(Halt) -> Attempt<Removed> {
        let request = caller.request
        let withdraw = {
            self.fileSystem.withdraw(request, in: directory, name, expected: expected, to: shelf, leaving: mark)
        }
        guard counts(directory) else { return withdraw() }
        return try meter.change { (state) throws(Halt) in
            let file = try fileSystem.lookup(request, in: directory, name).get()
            var marked: [QuotaSubject] = []
            if let mark {
                marked = try state.places(request, mark.place.directory)?.subjects ?? []
                marked += QuotaMeter.Owner(uid: mark.uid, gid: mark.gid).subjects
                try state.admit(request, marked, bytes: 0, files: 1)
            }
            var loss: QuotaMeter.Loss?
            var leaving: QuotaMeter.Leaving?
            if let shelf, file.type == .file {
                leaving = try state.leaving(request, file, in: directory, name, shelf)
            } else {
                loss = try state.loss(request, file, in: directory, name)
            }
            let attempt = withdraw()
            guard case .done(let removed, let number) = attempt, number > 0 else { return attempt }
            if let loss { state.lost(request, loss, left: removed.file) }
            if let leaving { state.move(request, file.file.inode, leaving.load, from: leaving.from, to: leaving.to) }
            if !marked.isEmpty {
                // It is younger than the file: a count that goes by inodes has met neither or the file alone.
                let inode = max(removed.file.file.inode, removed.directory.after.file.inode) + 1
                state.add(request, marked, of: inode, bytes: 0, files: 1)
            }
            return attempt
        }
    }
}

extension QuotaMeter {
    /// A file that is about to go to a shelf, and where it counts before and afterwards.
    struct Leaving {
        var load: Load
        var from: [QuotaSubject]
        var to: [QuotaSubject]
    }
}

extension QuotaMeter.State {
    mutating func leaving(
        _ request: Request, _ file: Attributes, in directory: FileID, _ name: UnsafeRawBufferPointer, _ shelf: Shelf
    ) throws(Halt) -> QuotaMeter.Leaving {
        let home = try home(request, file)
        let isHome = home?.directory == directory && home?.name.elementsEqual(name) == true
        return QuotaMeter.Leaving(
            load: Load(bytes: isHome ? try bytes(request, file) : 0, files: 1),
            from: try clientPlaces(request, directory, name) ?? [],
            to: try places(request, shelf.directory)?.subjects ?? [])
    }
}

/// Looking names up and changing them.
extension Volume {
    /// How long a file may be where this one is.
    public func fileBytesMax(at file: FileID) -> UInt64 {
        guest(file).map { $0.volume.fileBytesMax(at: file) } ?? fileSystem.fileBytesMax(at: file)
    }

    public func attributes(_ caller: Caller, _ file: FileID) -> Attempt<Attributes> {
        look(caller.request, at: file)
    }

    public func lookup(_ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        var newest: UInt64 = 0
        return lookup(caller, in: directory, name, since: &newest)
    }

    /// `newest`: the number of the newest change from before the look; 0 where that says nothing.
    func lookup(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, since newest: inout UInt64
    ) -> Attempt<Attributes> {
        if !isWayUp(directory, name), let passed = passed(caller, directory, { $0.lookup($1, in: directory, name) }) {
            return passed
        }
        do throws(Halt) { newest = try requireLookup(caller, directory) } catch { return Attempt(error) }
        if isHidden(caller, directory, name) { return .refused(.noEntry) }
        return find(caller.request, in: directory, name)
    }

    /// Above the root of a guest is a directory of this volume.
    private func isWayUp(_ directory: FileID, _ name: UnsafeRawBufferPointer) -> Bool {
        directory.subvolume != subvolume && name.elementsEqual([0x2e, 0x2e]) && guest(directory)?.root == directory
    }

    public func lookupFolded(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes> {
        if let passed = passed(caller, directory, { $0.lookupFolded($1, in: directory, name, found: found) }) {
            return passed
        }
        do throws(Halt) { _ = try requireLookup(caller, directory) } catch { return Attempt(error) }
        guard directory == root, !caller.isServer else {
            return fileSystem.lookupFolded(caller.request, in: directory, name, found: found)
        }
        var isOwn = false
        let attempt = fileSystem.lookupFolded(caller.request, in: directory, name) { name in
            isOwn = Self.isOwn(name)
            if !isOwn { found(name) }
        }
        return isOwn ? .refused(.noEntry) : attempt
    }

    public func target(_ caller: Caller, of link: FileID) -> Attempt<[UInt8]> {
        fileSystem.target(caller.request, of: link)
    }

    /// Shows entries after `cookie`; answers whether there are no more.
    public func list(
        _ caller: Caller, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        if let passed = passed(
            caller, directory,
            { $0.list($1, directory, after: cookie, limit: limit, attributes: attributes, visit) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            _ = try self.directory(caller, directory, .read)
            guard directory == root, !caller.isServer else {
                return fileSystem.list(
                    caller.request, directory, after: cookie, limit: limit, attributes: attributes, visit)
            }
            return fileSystem.list(
                caller.request, directory, after: cookie, limit: limit, attributes: attributes
            ) { entry, name in Self.isOwn(name) || visit(entry, name) }
        }
    }

    public func create(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile,
        _ disposition: Disposition = .exclusive
    ) -> Attempt<Created> {
        if let passed = passed(caller, directory, { $0.create($1, in: directory, name, new, disposition) }) {
            return passed
        }
        return attempt { () throws(Halt) in
            let home = try self.directory(caller, directory, .execute)
            try requireVisible(caller, directory, name)
            if let refusal = try refusal(caller, toChange: home, adds: new.type) {
                // What is there may be opened all the same, and a name that is taken is told before the lack of rights.
                let found = fileSystem.lookup(caller.request, in: directory, name)
                switch found {
                case .refused(.noEntry): return .refused(refusal)
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                case .done(let file, _):
                    guard case .openOrCreate = disposition, file.type == .file, new.type == .file else {
                        return .refused(.exists)
                    }
                    let unchanged = Changed(before: Fingerprint(home), after: home)
                    return .done(Created(file: file, directory: unchanged, isNew: false), number: 0)
                }
            }
            let credential = caller.credential
            if credential.uid != 0 {
                if let uid = new.uid, uid != credential.uid { throw .refused(.notPermitted) }
                if let gid = new.gid, gid != home.gid, !credential.isMember(of: gid) { throw .refused(.notPermitted) }
            }
            if new.type == .characterDevice || new.type == .blockDevice {
                guard credential.uid == 0 else { throw .refused(.notPermitted) }
            }
            var new = new
            // A directory with the set-group-ID bit gives its group to what is made in it, the bit to directories.
            let isInherited = home.mode & 0o2000 != 0
            let gid = new.gid ?? (isInherited ? home.gid : credential.gid)
            if isInherited, new.type == .directory {
                new.mode |= 0o2000
            } else if credential.uid != 0, new.type != .directory, !credential.isMember(of: gid) {
                new.mode &= ~0o2000
            }
            let uid = new.uid ?? credential.uid
            try inherit(caller, home, &new, uid: uid, gid: gid)
            let trail = try trails(caller, directory, name)
            let attempt = try makeFile(caller, in: directory, name, new, uid: uid, gid: gid, disposition)
            guard case .done(var created, let number) = attempt else { return attempt }
            certain(home, &created.directory)
            if created.isNew, !sharing.isIdle {
                sharing.directoryChanged(directory, by: caller)
                if let trail { sharing.post([(.added, .name(of: new.type), trail)]) }
            }
            return .done(created, number: number)
        }
    }

    /// What a directory's list passes on to a new file (docs/access.md).
    private func inherit(
        _ caller: Caller, _ home: Attributes, _ new: inout NewFile, uid: UInt32, gid: UInt32
    ) throws(Halt) {
        guard new.type != .symlink else {
            new.acl = nil
            return
        }
        let isDirectory = new.type == .directory
        if let acl = new.acl {
            new.mode = new.mode & 0o7000 | acl.mode(uid: uid, gid: gid)
            return
        }
        guard home.hasACL,
            let passed = try fileSystem.acl(caller.request, home.file).get()?.passedOn(toDirectory: isDirectory)
        else { return }
        if new.isModeDefault {
            new.acl = passed
            new.mode = new.mode & 0o7000 | passed.mode(uid: uid, gid: gid)
        } else {
            new.acl = passed.applying(mode: new.mode, uid: uid, gid: gid, isDirectory: isDirectory)
        }
    }

    private func refusal(
        _ caller: Caller, toChange directory: Attributes, adds type: FileType
    ) throws(Halt) -> FileError? {
        if caller.isReadOnly || isReadOnly { return .readOnly }
        let needed: AccessMask = type == .directory ? .appendData : .writeData
        return try access(caller, directory, needed).contains(needed) ? nil : .accessDenied
    }

    public func remove(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        if let passed = passed(
            caller, directory, { $0.remove($1, in: directory, name, isDirectory: isDirectory) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let home = try self.directory(caller, directory, .execute)
            if isHidden(caller, directory, name) { throw .refused(.noEntry) }
            let isIdle = sharing.isIdle
            var trail: [WatchTable.Step]?
            // A directory that may be written, without a list and not sticky, says all that there is to say.
            let isPlain = !home.hasACL && home.mode & 0o1000 == 0
            let suffices = isPlain ? try rights(caller, of: home).contains(.write) : false
            if !isIdle || !suffices {
                let found = fileSystem.lookup(caller.request, in: directory, name)
                if try isRepeated(caller, found) {
                    let gone = Attributes(file: Self.nobody, type: isDirectory ? .directory : .file)
                    return .done(
                        Removed(file: gone, directory: Changed(before: nil, after: home)),
                        number: fileSystem.newestChange(at: directory))
                }
                let file = try found.get()
                try requireDelete(caller, home, file)
                try requireUnstuck(caller, home, file)
                try sharing.admit(caller, file.file, .remove)
                trail = try trails(caller, directory, name)
            }
            var attempt = try removeThere(caller, in: directory, name, isDirectory: isDirectory)
            if case .refused(.notPermitted) = attempt, try endLock(caller, in: directory, name) {
                attempt = try removeFile(caller, in: directory, name, isDirectory: isDirectory)
            }
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

    /// A directory goes only if nothing is on its shelf, and nothing comes there meanwhile.
    func removeThere(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) throws(Halt) -> Attempt<Removed> {
        guard isDirectory else { return try removeFile(caller, in: directory, name, isDirectory: false) }
        return try shelves.alone { () throws(Halt) in
            if case .done(let there, _) = fileSystem.lookup(caller.request, in: directory, name) {
                try requireNoShelf(caller, of: there.file)
            }
            return try removeFile(caller, in: directory, name, isDirectory: true)
        }
    }

    /// Stands for a file that nobody can name any more.
    private static let nobody = FileID(subvolume: 0, inode: 0, generation: 0)

    /// A name that is gone may be so because this very request was made before: its first answer comes before any check, and without
    /// the engine, which would make it now if it had forgotten it in between.
    func isRepeated(_ caller: Caller, _ found: Attempt<Attributes>) throws(Halt) -> Bool {
        guard case .refused(.noEntry) = found else { return false }
        return try isRepeated(caller.request)
    }

    /// Whether the request was made before: it has its first answer, and counts nothing.
    func isRepeated(_ request: Request) throws(Halt) -> Bool {
        guard request.token != nil else { return false }
        return try fileSystem.isRepeated(request).get()
    }

    public func rename(
        _ caller: Caller, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode = .replace
    ) -> Attempt<Renamed> {
        if source.subvolume == target.subvolume,
            let passed = passed(caller, source, { $0.rename($1, from: source, name, to: target, newName, mode) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let from = try self.directory(caller, source, .execute)
            if isHidden(caller, source, name) { throw .refused(.noEntry) }
            try requireVisible(caller, target, newName)
            let to = source == target ? from : try self.directory(caller, target, .execute)
            let found = fileSystem.lookup(caller.request, in: source, name)
            if try isRepeated(caller, found) {
                let moved = Attributes(file: Self.nobody, type: .file)
                return .done(
                    Renamed(
                        file: moved, other: nil, source: Changed(before: nil, after: from),
                        target: Changed(before: nil, after: to)),
                    number: max(fileSystem.newestChange(at: source), fileSystem.newestChange(at: target)))
            }
            let moving = try found.get()
            // What an open was granted stays with it.
            if caller.handle?.file != moving.file || caller.handle?.granted.contains(.delete) != true {
                try requireDelete(caller, from, moving)
                try requireUnstuck(caller, from, moving)
            }
            try requireFree(caller, moving)
            let adds: AccessMask = moving.type == .directory ? .appendData : .writeData
            try require(adds, caller, to)
            let other = fileSystem.lookup(caller.request, in: target, newName)
            switch other {
            case .done(let file, _):
                try requireDelete(caller, to, file)
                try requireUnstuck(caller, to, file)
                if file.file != moving.file { try requireFree(caller, file) }
            case .refused: break
            case .lacks(let lack): throw .lacks(lack)
            }
            if source != target {
                // A directory's `..` is part of it: who moves one changes it.
                if moving.type == .directory { try require(Rights.write, caller, moving) }
                if mode == .exchange {
                    let other = try other.get()
                    if other.type == .directory { try require(Rights.write, caller, other) }
                }
            }
            let isIdle = sharing.isIdle
            var trails: (from: [WatchTable.Step]?, to: [WatchTable.Step]?) = (nil, nil)
            if !isIdle {
                try sharing.admit(caller, moving.file, .rename)
                if case .done(let there, _) = other, mode != .noReplace, there.file != moving.file {
                    try sharing.admit(caller, there.file, mode == .exchange ? .rename : .remove)
                }
                trails = (try self.trails(caller, source, name), try self.trails(caller, target, newName))
            }
            var attempt: Attempt<Renamed>
            if moving.type == .directory, mode == .replace {
                attempt = try shelves.alone { () throws(Halt) in
                    if case .done(let there, _) = fileSystem.lookup(caller.request, in: target, newName),
                        there.file != moving.file
                    {
                        try requireNoShelf(caller, of: there.file)
                    }
                    return try renameFile(caller, from: source, name, to: target, newName, mode)
                }
            } else {
                attempt = try renameFile(caller, from: source, name, to: target, newName, mode)
            }
            if case .refused(.notPermitted) = attempt, try endLock(caller, in: target, newName) {
                attempt = try renameFile(caller, from: source, name, to: target, newName, mode)
            }
            guard case .done(var renamed, let number) = attempt else { return attempt }
            certain(from, &renamed.source)
            certain(to, &renamed.target)
            if !isIdle { followed(caller, (source, name), (target, newName), mode, renamed, trails) }
            return .done(renamed, number: number)
        }
    }

    /// What a rename means for opens, listings and watches.
    private func followed(
        _ caller: Caller, _ old: (directory: FileID, name: UnsafeRawBufferPointer),
        _ new: (directory: FileID, name: UnsafeRawBufferPointer), _ mode: RenameMode, _ renamed: Renamed,
        _ trails: (from: [WatchTable.Step]?, to: [WatchTable.Step]?)
    ) {
        // Two names of one file: nothing has happened.
        if renamed.other?.file == renamed.file.file { return }
        if mode == .exchange, let other = renamed.other {
            sharing.exchanged(
                renamed.file.file, old.name, in: old.directory, with: other.file, new.name, in: new.directory)
        } else {
            if let other = renamed.other { sharing.unlinked(other.file, new.name, in: new.directory) }
            sharing.renamed(renamed.file.file, old.name, in: old.directory, to: new.name, in: new.directory)
        }
        sharing.directoryChanged(old.directory, by: caller)
        if new.directory != old.directory { sharing.directoryChanged(new.directory, by: caller) }
        guard let from = trails.from, let to = trails.to else { return }
        let filter = WatchFilter.name(of: renamed.file.type)
        var events: [(WatchAction, WatchFilter, [WatchTable.Step])] = []
        if let other = renamed.other, mode == .replace { events.append((.removed, .name(of: other.type), to)) }
        // From one directory into another it goes here and comes there ([MS-FSA] 2.1.5.15.11).
        let isNear = old.directory == new.directory
        let (gone, come): (WatchAction, WatchAction) = isNear ? (.renamedFrom, .renamedTo) : (.removed, .added)
        events += [(gone, filter, from), (come, filter, to)]
        if mode == .exchange { events += [(gone, filter, to), (come, filter, from)] }
        sharing.post(events)
    }

    public func link(
        _ caller: Caller, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        if file.subvolume == directory.subvolume,
            let passed = passed(caller, file, { $0.link($1, file, in: directory, name) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let home = try self.directory(caller, directory, .execute)
            try requireVisible(caller, directory, name)
            try require(AccessMask.writeData, caller, home)
            try sharing.admit(caller, file, .link)
            let trail = try trails(caller, directory, name)
            let attempt = try linkFile(caller, file, in: directory, name)
            guard case .done(var linked, let number) = attempt else { return attempt }
            certain(home, &linked.directory)
            if !sharing.isIdle {
                sharing.directoryChanged(directory, by: caller)
                if let trail { sharing.post([(.added, .fileName, trail)]) }
            }
            return .done(linked, number: number)
        }
    }

    /// Lets an empty file be a symbolic link from now on, or a link lead elsewhere: it stays the same file. Only for its owner, since the mode of a
    /// link allows everybody everything, and a link of somebody's is followed where others' are not. Others are told that there is no such
    /// thing; they may put another link in its place, where the directory lets them.
    public func makeLink(_ caller: Caller, _ file: FileID, to target: [UInt8]) -> Attempt<Changed> {
        if let passed = passed(caller, file, { $0.makeLink($1, file, to: target) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let found = try attributes(caller, of: file)
            guard caller.credential.uid == 0 || caller.credential.uid == found.uid else {
                throw .refused(.notSupported)
            }
            try requireFree(caller, found)
            // Who has a lock of it, on whatever bytes, relies on its being a file.
            try sharing.admit(caller, file, .write(.whole))
            let trail = try trails(caller, of: file)
            let home = found.type == .symlink ? nil : try fileSystem.whereabouts(caller.request, of: file).get()
            let attempt = try linkFile(caller, file, to: target)
            guard case .done(var changed, let number) = attempt else { return attempt }
            certain(found, &changed)
            sharing.changed(file, by: caller.handle?.lease)
            if let home { sharing.directoryChanged(home.directory, by: caller) }
            if let trail { sharing.post([(.modified, [.attributes, .size, .lastWrite], trail)]) }
            return .done(changed, number: number)
        }
    }

    /// Everything but the size, which takes `resize`.
    public func setAttributes(_ caller: Caller, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed> {
        precondition(new.size == nil, "a size is set by resize")
        if let passed = passed(caller, file, { $0.setAttributes($1, file, new) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            var new = new
            let found = try attributes(caller, of: file)
            do throws(Halt) {
                try authorize(caller, found, &new)
                try sharing.admit(caller, file, .attributes)
            } catch {
                // What it did when it was made first is no reason to refuse it now.
                guard try isRepeated(caller.request) else { throw error }
                return try answered(caller, file)
            }
            let trail = try trails(caller, of: file)
            try keepInStep(caller.request, found, &new)
            let attempt = try changeAttributes(caller, file, new)
            guard case .done(var changed, let number) = attempt else { return attempt }
            certain(found, &changed)
            if let trail { sharing.post([(.modified, WatchFilter(new), trail)]) }
            return .done(changed, number: number)
        }
    }

    /// Mode and list of a file whose mode, owner or group is about to change (docs/access.md), made from what it is now: they change
    /// in one change, and only if the file is still the same.
    func keepInStep(_ request: Request, _ file: Attributes, _ new: inout NewAttributes) throws(Halt) {
        let changesOwner = new.uid != nil || new.gid != nil
        guard new.mode != nil || changesOwner || new.dropsSetID else { return }
        let acl = try list(request, file)
        new.basis = AccessBasis(file, acl)
        let uid = new.uid ?? file.uid
        let gid = new.gid ?? file.gid
        if var mode = new.mode {
            if new.dropsSetID { mode = Self.withoutSetID(mode) }
            new.mode = mode
            new.acl = acl?.applying(mode: mode, uid: uid, gid: gid, isDirectory: file.type == .directory)
            return
        }
        var mode = file.mode
        if changesOwner, let acl { mode = mode & 0o7000 | acl.mode(uid: uid, gid: gid) }
        // The list may let somebody execute it who could not before.
        let isLent = uid != file.uid || gid != file.gid
        let runs = (mode | file.mode) & 0o111 != 0
        if new.dropsSetID || isLent && runs && file.type != .directory {
            mode = Self.withoutSetID(mode, before: file.mode)
        }
        // Always with a list: the host takes set-ID bits away from a file that gets another owner, and the list goes by the mode.
        if mode != file.mode || changesOwner && acl != nil { new.mode = mode }
    }

    func list(_ request: Request, _ file: Attributes) throws(Halt) -> ACL? {
        file.hasACL ? try fileSystem.acl(request, file.file).get() : nil
    }
}

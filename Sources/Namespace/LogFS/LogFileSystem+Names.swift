import LogFS

extension LogFileSystem {
    public func attributes(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        guard let id = inner(file) else { return .refused(.stale) }
        var attributes = Attributes(file: file, type: .file)
        let attempt = files.attributes(inner(request), id) { attributes = converted($0) }
        return shown(attempt, attributes, request.reader)
    }

    public func lookup(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> {
        guard let id = inner(directory) else { return .refused(.stale) }
        var attributes = Attributes(file: directory, type: .file)
        let attempt = files.lookup(inner(request), in: id, name) { attributes = converted($0) }
        return shown(attempt, attributes, request.reader)
    }

    public func lookupFolded(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes> {
        guard let id = inner(directory) else { return .refused(.stale) }
        return outer(files.lookupFolded(inner(request), in: id, name, found: found), request.reader) { outer($0) }
    }

    public func target(_ request: Request, of link: FileID) -> Attempt<[UInt8]> {
        guard let id = inner(link) else { return .refused(.stale) }
        return outer(files.target(inner(request), id), request.reader) { $0 }
    }

    public func makeLink(_ request: Request, _ file: FileID, to target: [UInt8]) -> Attempt<Changed> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt = target.withUnsafeBytes { files.makeLink(inner(request), id, $0) }
        return outer(attempt, request.reader, id) { Changed(before: nil, after: outer($0)) }
    }

    public func list(
        _ request: Request, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        guard let id = inner(directory) else { return .refused(.stale) }
        let attempt = files.list(
            inner(request), id, after: cookie, limit: limit, attributes: attributes
        ) { listed, name in
            // Without attributes an entry says which inode, but not which generation.
            let inode = listed.inode
            let entry = Entry(
                file: FileID(
                    subvolume: number, inode: listed.entry.inode, generation: inode?.generation ?? 0),
                type: Self.outer(listed.entry.type), cookie: listed.entry.cookie, attributes: inode.map { outer($0) })
            return visit(entry, name)
        }
        return outer(attempt, request.reader) { !$0 }
    }

    public func space(_ request: Request) -> Attempt<Space> {
        outer(files.totals(inner(request), files.rootID), request.reader) { totals in
            let used = UInt64(clamping: totals.bytes &+ totals.streams)
            let names = UInt64(clamping: totals.files &+ totals.directories)
            return Space(
                bytes: shownBytes,
                // A volume takes more than it shows: clients that look before they write are never told 0.
                bytesFree: max(shownBytes - min(used, shownBytes), min(shownBytes >> 10, 1 << 30)), files: 1 << 40,
                filesFree: max((1 << 40) - min(names, 1 << 40), 1 << 20))
        }
    }

    public func create(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, uid: UInt32,
        gid: UInt32, _ disposition: Disposition
    ) -> Attempt<Created> {
        guard let home = inner(directory) else { return .refused(.stale) }
        var file = LogFS::NewFile(type: Self.inner(new.type), mode: new.mode, uid: uid, gid: gid)
        file.attributes = new.dos
        file.device = UInt64(new.major) << 32 | UInt64(new.minor)
        file.accessed = new.accessed
        file.modified = new.modified
        file.accessList = new.acl?.bytes
        file.size = new.size
        file.own = new.own.map { LogFS::Attribute(name: $0.name, value: $0.value) }
        file.ignoresCase = new.ignoresCase
        file.spellings = new.spellings
        var mayExist = false
        var stamp: (accessed: Int64, modified: Int64)?
        switch disposition {
        case .exclusive: break
        case .openOrCreate: mayExist = true
        case .verified(let verifier):
            // The verifier is kept where the client will put times in its next request (RFC 1813 3.3.8).
            mayExist = true
            stamp = (
                Int64(verifier & 0x7fff_ffff) * 1_000_000_000, Int64(verifier >> 32 & 0x7fff_ffff) * 1_000_000_000
            )
            file.accessed = stamp?.accessed
            file.modified = stamp?.modified
        }
        let attempt = new.target.withUnsafeBytes { target in
            file.target = new.type == .symlink ? target : nil
            return files.create(inner(request), in: home, name, file, mayExist: mayExist)
        }
        if let stamp, case .done(let created, _) = attempt, !created.isNew,
            created.inode.accessed != stamp.accessed || created.inode.modified != stamp.modified
                || created.inode.size != 0
        {
            return .refused(.exists)
        }
        return outer(attempt, request.reader) { outer($0) }
    }

    private func outer(_ created: LogFS::Created) -> Created {
        let home = outer(created.directory)
        // A directory in which nothing was made is what it was.
        let before = created.isNew ? nil : Fingerprint(home)
        return Created(
            file: outer(created.inode), directory: Changed(before: before, after: home), isNew: created.isNew)
    }

    public func remove(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        guard let home = inner(directory) else { return .refused(.stale) }
        let attempt =
            isDirectory
            ? files.rmdir(inner(request), in: home, name) : files.unlink(inner(request), in: home, name)
        return outer(attempt, request.reader) {
            Removed(file: outer($0.inode), directory: Changed(before: nil, after: outer($0.directory)))
        }
    }

    public func rename(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) -> Attempt<Renamed> {
        guard let from = inner(source), let to = inner(target) else { return .refused(.stale) }
        let how: LogFS::RenameMode =
            switch mode {
            case .replace: .replace
            case .noReplace: .refuseIfThere
            case .exchange: .exchange
            }
        return outer(
            files.rename(inner(request), from: from, name, to: to, newName, how), request.reader
        ) { outer($0) }
    }

    func outer(_ renamed: LogFS::Renamed) -> Renamed {
        Renamed(
            file: outer(renamed.inode), other: renamed.other.map { outer($0) },
            source: Changed(before: nil, after: outer(renamed.source)),
            target: Changed(before: nil, after: outer(renamed.target)))
    }

    public func link(
        _ request: Request, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        guard let id = inner(file), let home = inner(directory) else { return .refused(.stale) }
        return outer(files.link(inner(request), id, in: home, name), request.reader) { outer($0) }
    }

    public func setAttributes(_ request: Request, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt = outer(files.setAttributes(inner(request), id, inner(new)), request.reader, id) {
            Changed(before: nil, after: outer($0))
        }
        guard let time = new.ifChanged, case .refused(.invalid) = attempt,
            case .done(let shown, _) = attributes(request, file)
        else { return attempt }
        // The engine compares what was flushed; the caller has seen what was only written, too.
        return shown.changed == time ? .lacks(flushing(file)) : .refused(.notSynchronized)
    }

    func flushing(_ file: FileID) -> Lack { Lack { () async throws(FileError) in _ = try await self.flush(file) } }

    func inner(_ new: NewAttributes) -> LogFS::NewAttributes {
        var attributes = LogFS::NewAttributes()
        attributes.mode = new.mode
        attributes.uid = new.uid
        attributes.gid = new.gid
        attributes.accessed = new.accessed
        attributes.modified = new.modified
        attributes.born = new.born
        attributes.shownChange = new.shownChange
        attributes.attributes = new.dos
        attributes.accessList = new.acl?.bytes
        attributes.basis = new.basis.map {
            .init(mode: $0.mode, uid: $0.uid, gid: $0.gid, accessList: $0.acl?.bytes)
        }
        attributes.guardChanged = new.ifChanged
        return attributes
    }
}

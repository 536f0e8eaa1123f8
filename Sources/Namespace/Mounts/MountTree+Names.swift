import Runtime

/// Names: a directory that something is mounted on is the root of what is mounted there.
extension MountTree {
    public func attributes(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        asked(file) { $0.attributes(request, file) }
    }

    /// What is found, or what is mounted on it.
    private func uncovered(_ request: Request, _ found: Attempt<Attributes>) -> Attempt<Attributes> {
        guard hasMounts, case .done(let file, _) = found, file.type == .directory, let mount = mount(on: file.file)
        else { return found }
        let shown = asked(mount.root) { $0.attributes(request, mount.root) }
        // The host's programs may have taken away what is bound: then there is what it covered.
        if mount.isBind, case .refused = shown { return found }
        return shown
    }

    public func lookup(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> {
        guard hasMounts else { return base.lookup(request, in: directory, name) }
        // Above a mount's root is what is above the directory that it covers.
        if name.elementsEqual([0x2e, 0x2e]), let mount = mount(directory.subvolume), mount.root == directory {
            return asked(mount.covered) { $0.lookup(request, in: mount.covered, name) }
        }
        let found = asked(directory) { $0.lookup(request, in: directory, name) }
        return name.elementsEqual([0x2e]) ? found : uncovered(request, found)
    }

    public func lookupFolded(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes> {
        uncovered(request, asked(directory) { $0.lookupFolded(request, in: directory, name, found: found) })
    }

    public func target(_ request: Request, of link: FileID) -> Attempt<[UInt8]> {
        asked(link) { $0.target(request, of: link) }
    }

    public func list(
        _ request: Request, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        guard hasMounts else {
            return base.list(request, directory, after: cookie, limit: limit, attributes: attributes, visit)
        }
        // Asked for beforehand: in the midst of a listing nothing may be lacking.
        var roots: [FileID: Attributes] = [:]
        for mount in mounts where attributes && mount.covered.subvolume == directory.subvolume {
            switch asked(mount.root, { $0.attributes(request, mount.root) }) {
            case .done(let root, _): roots[mount.covered] = root
            // What can not be reached is shown as the directory that it covers.
            case .refused: break
            case .lacks(let lack): return .lacks(lack)
            }
        }
        return asked(directory) { home in
            home.list(request, directory, after: cookie, limit: limit, attributes: attributes) { entry, name in
                guard entry.type == .directory, let root = roots[entry.file] else { return visit(entry, name) }
                return visit(
                    Entry(file: root.file, type: root.type, cookie: entry.cookie, attributes: root), name)
            }
        }
    }

    /// Of the file system at the root; `space(_:at:)` knows better.
    public func space(_ request: Request) -> Attempt<Space> { base.space(request) }

    public func space(_ request: Request, at file: FileID) -> Attempt<Space> {
        asked(file) { $0.space(request) }
    }

    public func fileBytesMax(at file: FileID) -> UInt64 { (home(file) ?? base).fileBytesMax(at: file) }

    /// Nothing in a request says where it was made: each file system here is asked. Volumes that are mounted are asked by themselves.
    public func isRepeated(_ request: Request) -> Attempt<Bool> {
        guard request.token != nil, hasMounts else { return base.isRepeated(request) }
        for mount in mounts where !mount.isBind && mount.guest == nil {
            // One that can not tell is asked again: the request is not new for that.
            let attempt = mount.fileSystem.isRepeated(request)
            guard case .done(false, _) = attempt else { return attempt }
        }
        return base.isRepeated(request)
    }

    /// Mounts below it have sums of their own.
    public func usage(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        asked(directory) { $0.usage(request, below: directory) }
    }

    public func totals(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        asked(directory) { $0.totals(request, below: directory) }
    }

    public func files(
        _ request: Request, after inode: UInt64, limit: Int, _ visit: (Attributes) -> Void
    ) -> Attempt<UInt64?> { base.files(request, after: inode, limit: limit, visit) }

    public func whereabouts(_ request: Request, of file: FileID) -> Attempt<Whereabouts?> {
        if hasMounts, let mount = mount(file.subvolume), mount.root == file {
            return asked(mount.covered) { $0.whereabouts(request, of: mount.covered) }
        }
        return asked(file) { $0.whereabouts(request, of: file) }
    }

    // MARK: Changing

    /// A composition of calls.
    private func attempt<Value>(_ body: () throws(Halt) -> Attempt<Value>) -> Attempt<Value> {
        do throws(Halt) { return try body() } catch {
            switch error {
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            }
        }
    }

    public func create(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, uid: UInt32,
        gid: UInt32, _ disposition: Disposition
    ) -> Attempt<Created> {
        changed(directory) { $0.create(request, in: directory, name, new, uid: uid, gid: gid, disposition) }
    }

    public func remove(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        guard hasMounts, isDirectory else {
            return changed(directory) { $0.remove(request, in: directory, name, isDirectory: isDirectory) }
        }
        return attempt { () throws(Halt) in
            // Something is in it, in every sense.
            if try leadsToMount(request, directory, name, orBind: true) { throw .refused(.notEmpty) }
            return changed(directory) { $0.remove(request, in: directory, name, isDirectory: isDirectory) }
        }
    }

    public func rename(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) -> Attempt<Renamed> {
        // Within one directory nothing comes below anything else.
        guard source != target else { return renameInPlace(request, from: source, name, to: target, newName, mode) }
        return places.withLock { _ in renameInPlace(request, from: source, name, to: target, newName, mode) }
    }

    private func renameInPlace(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) -> Attempt<Renamed> {
        guard hasMounts else { return base.rename(request, from: source, name, to: target, newName, mode) }
        guard source.subvolume == target.subvolume else { return .refused(.crossDevice) }
        return attempt { () throws(Halt) in
            // What something is mounted on stays where it is; directories above it may move.
            if try leadsToMount(request, source, name) { throw .refused(.accessDenied) }
            if try leadsToMount(request, target, newName, orBind: mode == .replace) { throw .refused(.accessDenied) }
            if source != target, try hasCircle(request, (source, name), (target, newName), mode) {
                throw .refused(.loop)
            }
            return changed(source) { $0.rename(request, from: source, name, to: target, newName, mode) }
        }
    }

    private func lies(_ request: Request, _ directory: FileID, below top: FileID) throws(Halt) -> Bool {
        var place = directory
        for _ in 0..<Volume.trailMax {
            if place == top { return true }
            guard place != root, let above = try whereabouts(request, of: place).get() else { return false }
            place = above.directory
        }
        return false
    }

    /// Whether a directory that moves would take a bind below what it shows.
    private func hasCircle(
        _ request: Request, _ old: (directory: FileID, name: UnsafeRawBufferPointer),
        _ new: (directory: FileID, name: UnsafeRawBufferPointer), _ mode: RenameMode
    ) throws(Halt) -> Bool {
        let all = mounts
        guard all.contains(where: \.isBind) else { return false }
        var moves: [Move] = []
        for (from, to) in mode == .exchange ? [(old, new), (new, old)] : [(old, new)] {
            switch asked(from.directory, { $0.lookup(request, in: from.directory, from.name) }) {
            case .done(let found, _):
                if found.type == .directory { moves.append(Move(directory: found.file, above: to.directory)) }
            case .refused: return false
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        // Into itself: that is refused anyway.
        for move in moves where try lies(request, move.above, below: move.directory) { return false }
        return try hasCircle(request, all, moves)
    }

    public func link(
        _ request: Request, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        guard file.subvolume == directory.subvolume else { return .refused(.crossDevice) }
        return changed(directory) { $0.link(request, file, in: directory, name) }
    }

    public func setAttributes(_ request: Request, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed> {
        changed(file) { $0.setAttributes(request, file, new) }
    }

    public func acl(_ request: Request, _ file: FileID) -> Attempt<ACL?> { asked(file) { $0.acl(request, file) } }

    public func setACL(_ request: Request, _ file: FileID, _ acl: ACL?, mode: UInt16) -> Attempt<Changed> {
        changed(file) { $0.setACL(request, file, acl, mode: mode) }
    }

    // MARK: Settings

    public func setting(_ request: Request, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]?> {
        base.setting(request, name)
    }

    public func setSetting(
        _ request: Request, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
    ) -> Attempt<Void> { base.setSetting(request, name, value) }

    public func listSettings(
        _ request: Request, prefix: UnsafeRawBufferPointer, after name: UnsafeRawBufferPointer,
        _ visit: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Bool> { base.listSettings(request, prefix: prefix, after: name, visit) }
}

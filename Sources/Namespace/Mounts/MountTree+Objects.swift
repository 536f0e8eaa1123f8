import Runtime

/// Objects: a bucket may have mounts in it, or be one.
extension MountTree {
    public var placeBytesMax: Int { base.placeBytesMax }
    public var placeAttributesMax: Int { base.placeAttributesMax }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> {
        changed(directory) {
            $0.place(
                request, in: directory, name, content, new, uid: uid, gid: gid, attributes: attributes, seal: seal,
                expected: expected)
        }
    }

    public func createNameless(
        _ request: Request, near directory: FileID, _ new: NewFile, uid: UInt32, gid: UInt32
    ) -> Attempt<Attributes> {
        var made: (home: any FileSystem, file: FileID)?
        let attempt = changed(directory) { home in
            let attempt = home.createNameless(request, near: directory, new, uid: uid, gid: gid)
            if case .done(let file, _) = attempt { made = (home, file.file) }
            return attempt
        }
        // Of one that was taken away in the middle of it nobody is told, so nobody would close it.
        if case .refused = attempt, let made {
            loops.patiently(request.asNew) { made.home.close($0, made.file) }
        }
        return attempt
    }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> {
        guard file.subvolume == directory.subvolume else { return .refused(.crossDevice) }
        return changed(directory) {
            $0.place(request, in: directory, name, file, seal: seal, expected: expected)
        }
    }

    public func join(_ sources: [FileID], to file: FileID, now: Int64) async throws(FileError) -> UInt64 {
        guard sources.contains(where: { $0.subvolume != file.subvolume }) else {
            return try await changing(file) { (home) async throws(FileError) in
                try await home.join(sources, to: file, now: now)
            }
        }
        var end = try await size(file, now)
        var number: UInt64 = 0
        for source in sources {
            let length = try await size(source, now)
            number = try await copy(source, at: 0, length: length, to: file, at: end, now: now)
            end += length
        }
        return number
    }

    private func size(_ file: FileID, _ now: Int64) async throws(FileError) -> UInt64 {
        while true {
            switch attributes(ownRequest(now), file) {
            case .done(let found, _): return found.size
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    public func clone(
        from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID, at targetOffset: UInt64,
        now: Int64
    ) async throws(FileError) -> UInt64 {
        guard source.subvolume != target.subvolume else {
            return try await changing(target) { (home) async throws(FileError) in
                try await home.clone(
                    from: source, at: sourceOffset, length: length, to: target, at: targetOffset, now: now)
            }
        }
        return try await copy(
            source, at: sourceOffset, length: length, to: target, at: targetOffset, now: now)
    }

    public func extendedAttributes(
        _ request: Request, _ file: FileID, prefixes: [[UInt8]]
    ) -> Attempt<[ExtendedAttribute]> { asked(file) { $0.extendedAttributes(request, file, prefixes: prefixes) } }

    public func setExtendedAttribute(
        _ request: Request, _ file: FileID, _ name: UnsafeRawBufferPointer, _ value: [UInt8]?
    ) -> Attempt<Attributes> { changed(file) { $0.setExtendedAttribute(request, file, name, value) } }

    public func setImplied(_ request: Request, _ directory: FileID, _ isImplied: Bool) -> Attempt<Attributes> {
        changed(directory) { $0.setImplied(request, directory, isImplied) }
    }

    public func createImplied(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, mode: UInt16, uid: UInt32,
        gid: UInt32
    ) -> Attempt<Created> {
        changed(directory) { $0.createImplied(request, in: directory, name, mode: mode, uid: uid, gid: gid) }
    }

    // MARK: Listing by path

    /// A mount below a directory that is listed, by the path that leads there, with a slash at its end.
    private struct Branch {
        var path: [UInt8]
        var mount: Mount
        /// The first path that comes behind all that is below it.
        var end: [UInt8] { path.dropLast() + [0x30] }
        /// The first that may be below it.
        var start: [UInt8] { path + [0] }
    }

    public func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?> {
        listPaths(
            request, below: directory, from: start, prefix: prefix, limit: limit,
            shows: { (_) throws(Halt) -> Bool in true }, visit)
    }

    /// The same without what lies in mounts that are not to be shown to whoever asks.
    func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        shows: (_ root: FileID) throws(Halt) -> Bool, _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?> {
        guard hasMounts else {
            return base.listPaths(request, below: directory, from: start, prefix: prefix, limit: limit, visit)
        }
        do throws(Halt) {
            let branches = try branches(request, below: directory)
            // All that is wanted may lie below one of them.
            if let branch = branches.first(where: { prefix.starts(with: $0.path) && prefix.count > $0.path.count }) {
                return try listBranch(request, branch, from: start, prefix, limit, shows, visit)
            }
            if let branch = branches.first(where: { start.starts(with: $0.path) && start.count > $0.path.count }) {
                return try listBranch(request, branch, from: start, prefix, limit, shows, visit)
            }
            return try listTrunk(request, directory, branches, from: start, prefix, limit, visit)
        } catch {
            switch error {
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            }
        }
    }

    /// Mounts that are reached from the directory without going through another one, which shows its own.
    private func branches(_ request: Request, below directory: FileID) throws(Halt) -> [Branch] {
        let mounts = mounts
        let covered = Set(mounts.map(\.covered))
        var branches: [Branch] = []
        for mount in mounts where mount.covered.subvolume == directory.subvolume {
            var names: [[UInt8]] = []
            var place: FileID? = mount.covered
            while let here = place, here != directory, names.count < Volume.trailMax {
                // Below what is covered nobody gets: another mount is there instead, whose names may be the same.
                guard names.isEmpty || !covered.contains(here), let home = home(here),
                    let above = try home.whereabouts(request, of: here).get()
                else {
                    place = nil
                    break
                }
                names.append(above.name)
                place = above.directory
            }
            guard place == directory, !names.isEmpty else { continue }
            branches.append(Branch(path: names.reversed().flatMap { $0 + [0x2f] }, mount: mount))
        }
        return branches
    }

    private func listBranch(
        _ request: Request, _ branch: Branch, from start: [UInt8], _ prefix: [UInt8], _ limit: Int,
        _ shows: (_ root: FileID) throws(Halt) -> Bool, _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) throws(Halt) -> Attempt<[UInt8]?> {
        let length = branch.path.count
        if !start.lexicographicallyPrecedes(branch.end) { return .done(nil, number: 0) }
        guard try shows(branch.mount.root) else { return .done(branch.end, number: 0) }
        // Nothing below it has the prefix: behind it there may be more.
        guard prefix.starts(with: branch.path) || branch.path.starts(with: prefix) else {
            return .done(branch.end, number: 0)
        }
        let below = start.starts(with: branch.path) ? Array(start.dropFirst(length)) : []
        let rest = prefix.count > length ? Array(prefix.dropFirst(length)) : []
        // What a volume keeps for itself at its root is nobody's object.
        let hidesOwn = branch.mount.guest != nil && branch.mount.root == branch.mount.fileSystem.root
        // Through this tree again: the mount may have mounts.
        let next = try listPaths(
            request, below: branch.mount.root, from: below, prefix: rest, limit: limit, shows: shows
        ) { path, file in
            if hidesOwn, Volume.isOwn(path: path) { return true }
            return (branch.path + path).withUnsafeBytes { visit($0, file) }
        }.get()
        return .done(next.map { branch.path + $0 } ?? branch.end, number: 0)
    }

    private func listTrunk(
        _ request: Request, _ directory: FileID, _ branches: [Branch], from start: [UInt8], _ prefix: [UInt8],
        _ limit: Int, _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) throws(Halt) -> Attempt<[UInt8]?> {
        guard let home = home(directory) else { throw .refused(.stale) }
        // What it is mounted on is shown as its root: asked for beforehand, as in a listing nothing may be lacking.
        var roots: [[UInt8]: (branch: Branch, root: Attributes)] = [:]
        for branch in branches {
            switch asked(branch.mount.root, { $0.attributes(request, branch.mount.root) }) {
            case .done(let root, _): roots[branch.path] = (branch, root)
            case .refused: break
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        var turn: Branch?
        let next = try home.listPaths(
            request, below: directory, from: start, prefix: prefix, limit: limit
        ) { path, file in
            guard file.type == .directory, let (branch, root) = roots[Array(path)] else { return visit(path, file) }
            // Shown or not: what comes next lies below it, in another file system.
            _ = visit(path, root)
            turn = branch
            return false
        }.get()
        return .done(turn.map(\.start) ?? next, number: 0)
    }
}

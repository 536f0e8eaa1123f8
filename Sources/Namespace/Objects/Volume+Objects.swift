import Runtime

/// Objects on a volume, with access checks.
extension Volume {
    public var placeBytesMax: Int { fileSystem.placeBytesMax }
    public var placeAttributesMax: Int { fileSystem.placeAttributesMax }

    /// Whether the caller may put a file under a name of this directory, whatever has the name now.
    public func mayPlace(_ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void> {
        if let passed = passed(caller, directory, { $0.mayPlace($1, in: directory, name) }) { return passed }
        return attempt { () throws(Halt) in
            _ = try placeable(caller, directory, name)
            return .done((), number: 0)
        }
    }

    /// The directory, when the caller may put a file of this name there.
    func placeable(
        _ caller: Caller, _ directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> Attributes {
        try requireWritable(caller)
        let home = try self.directory(caller, directory, [.write, .execute])
        try requireVisible(caller, directory, name)
        guard home.mode & 0o1000 != 0 else { return home }
        switch fileSystem.lookup(caller.request, in: directory, name) {
        case .done(let file, _): try requireUnstuck(caller, home, file)
        case .refused: break
        case .lacks(let lack): throw .lacks(lack)
        }
        return home
    }

    /// An object takes the place of a file as docs/sharing.md says: leases end first, who denies writing or holds a lock is in the
    /// way, and opens of the old file live on with the old bytes.
    func replacing(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer,
        _ place: () throws(Halt) -> Attempt<PlacedFile>
    ) throws(Halt) -> Attempt<PlacedFile> {
        if sharing.isIdle { return try place() }
        switch fileSystem.lookup(caller.request, in: directory, name) {
        case .done(let old, _): try sharing.admit(caller, old.file, .replace)
        case .refused: break
        case .lacks(let lack): throw .lacks(lack)
        }
        let attempt = try place()
        if case .done(let placed, _) = attempt { replaced(caller, in: directory, name, placed.other?.file) }
        return attempt
    }

    /// A directory with the set-group-ID bit gives its group to what is made in it.
    func group(_ caller: Caller, _ home: Attributes) -> UInt32 {
        home.mode & 0o2000 != 0 ? home.gid : caller.credential.gid
    }

    public func place(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, attributes: [ExtendedAttribute] = [], seal: ContentSeal?, expected: ExpectedFile = .anything
    ) -> Attempt<PlacedFile> {
        if let passed = passed(
            caller, directory,
            { $0.place($1, in: directory, name, content, new, attributes: attributes, seal: seal, expected: expected) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            let home = try placeable(caller, directory, name)
            let (uid, gid) = (caller.credential.uid, group(caller, home))
            return try replacing(caller, in: directory, name) { () throws(Halt) in
                try placeFile(caller, in: directory, name, size: UInt64(content.count), uid: uid, gid: gid) {
                    fileSystem.place(
                        caller.request, in: directory, name, content, new, uid: uid, gid: gid, attributes: attributes,
                        seal: seal, expected: expected)
                }
            }
        }
    }

    /// Who may put files into `directory` may make one that will be put there.
    public func createNameless(_ caller: Caller, near directory: FileID, _ new: NewFile) -> Attempt<Attributes> {
        if let guest = guest(directory) {
            let attempt = guest.call(caller, isReadOnly: isReadOnly) { $0.createNameless($1, near: directory, new) }
            guard case .done(let made, _) = attempt, self.guest(directory) !== guest else { return attempt }
            // As in `passed`. Whoever asked knows of no file that he could close.
            let volume = guest.volume
            loops.patiently(caller.request.asNew) { volume.close(Caller(.root, $0), made.file) }
            return .refused(.stale)
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let home = try self.directory(caller, directory, [.write, .execute])
            let draft = fileSystem.isForeign(directory) ? nil : try meter.draft(caller.request, near: directory)
            let attempt = fileSystem.createNameless(
                caller.request, near: directory, new, uid: caller.credential.uid, gid: group(caller, home))
            if let draft, case .done(let made, _) = attempt { meter.add(made.file, draft) }
            return attempt
        }
    }

    public func place(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile = .anything
    ) -> Attempt<PlacedFile> {
        if file.subvolume == directory.subvolume,
            let passed = passed(
                caller, directory, { $0.place($1, in: directory, name, file, seal: seal, expected: expected) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            _ = try placeable(caller, directory, name)
            let nameless = try self.attributes(caller, of: file)
            return try replacing(caller, in: directory, name) { () throws(Halt) in
                try placeFile(
                    caller, in: directory, name, draft: file, size: nameless.size, uid: nameless.uid, gid: nameless.gid
                ) { fileSystem.place(caller.request, in: directory, name, file, seal: seal, expected: expected) }
            }
        }
    }

    /// The caller has the target from `createNameless`, and the right to read the sources, which are parts of an upload. They
    /// count until the target has its name.
    public func join(_ sources: [FileID], to file: FileID, now: Int64) async throws(FileError) -> UInt64 {
        guard let guest = guest(file) else {
            meter.join(sources, to: file)
            return try await fileSystem.join(sources, to: file, now: now)
        }
        // Parts of this volume are copied there, and count in both as long as they are.
        let request = Request(reader: 0, now: now)
        var size: UInt64 = 0
        for source in sources { size &+= try await self.size(request, of: source) }
        let end = size
        return try await guest.volume.growing(request, file, to: end) { () async throws(FileError) in
            try await fileSystem.join(sources, to: file, now: now)
        }
    }

    private func size(_ request: Request, of file: FileID) async throws(FileError) -> UInt64 {
        while true {
            switch fileSystem.attributes(request, file) {
            case .done(let found, _): return found.size
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    public func clone(
        _ request: Request, from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID,
        at targetOffset: UInt64
    ) async throws(FileError) -> UInt64 {
        let (end, isBeyond) = targetOffset.addingReportingOverflow(length)
        guard !isBeyond else { throw .fileTooBig }
        let home = guest(target)?.volume ?? self
        return try await home.growing(request, target, to: length == 0 ? 0 : end) { () async throws(FileError) in
            try await fileSystem.clone(
                from: source, at: sourceOffset, length: length, to: target, at: targetOffset, now: request.now)
        }
    }

    /// What was written before the call is in the order of changes when this returns, at the number that it answers.
    public func flushed(_ file: FileID) async throws(FileError) -> UInt64 { try await fileSystem.flush(file) }

    /// Whether the caller may read the data, and the attributes then.
    public func mayRead(_ caller: Caller, _ file: FileID) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            let found = try attributes(caller, of: file)
            try requireData(.read, caller, found)
            return .done(found, number: 0)
        }
    }

    public func extendedAttributes(
        _ caller: Caller, _ file: FileID, prefixes: [[UInt8]]
    ) -> Attempt<[ExtendedAttribute]> {
        fileSystem.extendedAttributes(caller.request, file, prefixes: prefixes)
    }

    /// As for `user.` attributes of files: who may write the data may set them.
    public func setExtendedAttribute(
        _ caller: Caller, _ file: FileID, _ name: String, _ value: [UInt8]?
    ) -> Attempt<Attributes> {
        if let passed = passed(caller, file, { $0.setExtendedAttribute($1, file, name, value) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let found = try attributes(caller, of: file)
            if caller.credential.uid != found.uid { try require(.write, caller, found) }
            if found.type != .directory { try requireFree(caller, found) }
            let bytes = Array(name.utf8)
            let attempt = bytes.withUnsafeBytes { fileSystem.setExtendedAttribute(caller.request, file, $0, value) }
            // What can not be found now is not waited for after the fact.
            if case .done = attempt, name.hasPrefix("user.") {
                try? notify(caller, modified: file, .extendedAttributes)
            }
            return attempt
        }
    }

    public func setImplied(_ caller: Caller, _ directory: FileID, _ isImplied: Bool) -> Attempt<Attributes> {
        if let passed = passed(caller, directory, { $0.setImplied($1, directory, isImplied) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            _ = try self.directory(caller, directory, [.write, .execute])
            return fileSystem.setImplied(caller.request, directory, isImplied)
        }
    }

    public func createImplied(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, mode: UInt16
    ) -> Attempt<Created> {
        if let passed = passed(caller, directory, { $0.createImplied($1, in: directory, name, mode: mode) }) {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let home = try self.directory(caller, directory, [.write, .execute])
            let isInherited = home.mode & 0o2000 != 0
            let (uid, gid) = (caller.credential.uid, group(caller, home))
            let make = { (request: Request) in
                self.fileSystem.createImplied(
                    request, in: directory, name, mode: isInherited ? mode | 0o2000 : mode, uid: uid, gid: gid)
            }
            guard counts(directory) else { return make(caller.request) }
            return try meteredMaking(
                caller, in: directory, name, NewFile(type: .directory, mode: mode), uid, gid, make)
        }
    }

    /// Everything below a directory that the caller may read; directories further down do not ask again, as a bucket is
    /// one thing to its clients.
    public func listPaths(
        _ caller: Caller, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?> {
        attempt { () throws(Halt) in
            _ = try self.directory(caller, directory, .read)
            let hidesOwn = directory == (guest(directory)?.volume ?? self).root
            func shown(_ path: UnsafeRawBufferPointer, _ file: Attributes) -> Bool {
                hidesOwn && Self.isOwn(path: path) || visit(path, file)
            }
            guard let tree = fileSystem as? MountTree else {
                return fileSystem.listPaths(
                    caller.request, below: directory, from: start, prefix: prefix, limit: limit, shown)
            }
            return tree.listPaths(
                caller.request, below: directory, from: start, prefix: prefix, limit: limit,
                shows: { root throws(Halt) in try mayList(caller, root) }, shown)
        }
    }

    /// Whether somebody may see what is mounted below a directory that he lists: it has rights of its own.
    private func mayList(_ caller: Caller, _ root: FileID) throws(Halt) -> Bool {
        do throws(Halt) {
            _ = try self.directory(caller, root, .read)
            return true
        } catch {
            guard case .refused = error else { throw error }
            return false
        }
    }

    /// When this change is settled, so is all that a caller has seen by now.
    public var newestChange: UInt64 { fileSystem.newestChange }

    /// The same for who has seen nothing but what is kept where this file is.
    public func newestChange(at file: FileID) -> UInt64 { fileSystem.newestChange(at: file) }

    /// Without what the server keeps for itself.
    public func totals(_ caller: Caller, below directory: FileID) -> Attempt<DirectoryTotals> {
        if let passed = passed(caller, directory, { $0.totals($1, below: directory) }) { return passed }
        guard directory == root else { return fileSystem.totals(caller.request, below: directory) }
        return attempt { () throws(Halt) in
            var totals = try fileSystem.totals(caller.request, below: directory).get()
            let own = try fileSystem.ownTotals(caller.request)
            totals.files -= min(totals.files, own.files)
            totals.directories -= min(totals.directories, own.directories)
            totals.bytes -= min(totals.bytes, own.bytes)
            return .done(totals, number: 0)
        }
    }
}

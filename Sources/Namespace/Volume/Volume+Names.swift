/// Looking names up and changing them.
extension Volume {
    public func attributes(_ caller: Caller, _ file: FileID) -> Attempt<Attributes> {
        fileSystem.attributes(caller.request, file)
    }

    public func lookup(_ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            _ = try self.directory(caller, directory, .execute)
            return fileSystem.lookup(caller.request, in: directory, name)
        }
    }

    public func lookupFolded(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            _ = try self.directory(caller, directory, .execute)
            return fileSystem.lookupFolded(caller.request, in: directory, name, found: found)
        }
    }

    public func target(_ caller: Caller, of link: FileID) -> Attempt<[UInt8]> {
        fileSystem.target(caller.request, of: link)
    }

    /// Shows entries after `cookie`; answers whether there are no more.
    public func list(
        _ caller: Caller, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        attempt { () throws(Halt) in
            _ = try self.directory(caller, directory, .read)
            return fileSystem.list(
                caller.request, directory, after: cookie, limit: limit, attributes: attributes, visit)
        }
    }

    public func space(_ caller: Caller) -> Attempt<Space> { fileSystem.space(caller.request) }

    public func create(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile,
        _ disposition: Disposition = .exclusive
    ) -> Attempt<Created> {
        attempt { () throws(Halt) in
            let home = try self.directory(caller, directory, .execute)
            if let refusal = refusal(caller, toChange: home) {
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
            return fileSystem.create(
                caller.request, in: directory, name, new, uid: new.uid ?? credential.uid, gid: gid, disposition)
        }
    }

    private func refusal(_ caller: Caller, toChange directory: Attributes) -> FileError? {
        if caller.isReadOnly || isReadOnly { return .readOnly }
        return rights(caller.credential, directory).contains(.write) ? nil : .accessDenied
    }

    public func remove(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        attempt { () throws(Halt) in
            try requireWritable(caller)
            let home = try self.directory(caller, directory, [.write, .execute])
            try requireUnstuck(caller, home, name)
            return fileSystem.remove(caller.request, in: directory, name, isDirectory: isDirectory)
        }
    }

    private func requireUnstuck(
        _ caller: Caller, _ home: Attributes, _ name: UnsafeRawBufferPointer
    ) throws(Halt) {
        guard home.mode & 0o1000 != 0 else { return }
        let file = try fileSystem.lookup(caller.request, in: home.file, name).get()
        try requireUnstuck(caller, home, file)
    }

    public func rename(
        _ caller: Caller, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode = .replace
    ) -> Attempt<Renamed> {
        attempt { () throws(Halt) in
            try requireWritable(caller)
            let from = try self.directory(caller, source, [.write, .execute])
            let to = source == target ? from : try self.directory(caller, target, [.write, .execute])
            try requireUnstuck(caller, from, name)
            let other = fileSystem.lookup(caller.request, in: target, newName)
            switch other {
            case .done(let file, _): try requireUnstuck(caller, to, file)
            case .refused: break
            case .lacks(let lack): throw .lacks(lack)
            }
            if source != target {
                // A directory's `..` is part of it: who moves one changes it.
                let file = try fileSystem.lookup(caller.request, in: source, name).get()
                if file.type == .directory { try require(.write, caller, file) }
                if mode == .exchange {
                    let other = try other.get()
                    if other.type == .directory { try require(.write, caller, other) }
                }
            }
            return fileSystem.rename(caller.request, from: source, name, to: target, newName, mode)
        }
    }

    public func link(
        _ caller: Caller, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        attempt { () throws(Halt) in
            try requireWritable(caller)
            _ = try self.directory(caller, directory, [.write, .execute])
            return fileSystem.link(caller.request, file, in: directory, name)
        }
    }

    /// Everything but the size, which takes `resize`.
    public func setAttributes(_ caller: Caller, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed> {
        precondition(new.size == nil, "a size is set by resize")
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            var new = new
            try authorize(caller, try attributes(caller, of: file), &new)
            return fileSystem.setAttributes(caller.request, file, new)
        }
    }
}

/// Who may do what: the one place where it is decided.
extension Volume {
    /// Which of the `wanted` rights the caller has to the file, by its list if it has one, else by its mode.
    public func access(_ caller: Caller, _ file: Attributes, _ wanted: AccessMask) throws(Halt) -> AccessMask {
        let acl = file.hasACL ? try fileSystem.acl(caller.request, file.file).get() : nil
        return FileSecurity(file).granted(wanted, to: caller.credential, acl)
    }

    /// What the caller may do to a file with these attributes.
    public func rights(_ caller: Caller, _ file: Attributes) -> Attempt<Rights> {
        attempt { () throws(Halt) in .done(try self.rights(caller, of: file), number: 0) }
    }

    func rights(_ caller: Caller, of file: Attributes) throws(Halt) -> Rights {
        let mask = try access(caller, file, [.readData, .writeData, .execute])
        var rights: Rights = []
        if mask.contains(.readData) { rights.insert(.read) }
        if mask.contains(.writeData) { rights.insert(.write) }
        if mask.contains(.execute) { rights.insert(.execute) }
        return rights
    }

    func require(_ wanted: Rights, _ caller: Caller, _ file: Attributes) throws(Halt) {
        var mask: AccessMask = []
        if wanted.contains(.read) { mask.insert(.readData) }
        if wanted.contains(.write) { mask.insert(.writeData) }
        if wanted.contains(.execute) { mask.insert(.execute) }
        try require(mask, caller, file)
    }

    func require(_ wanted: AccessMask, _ caller: Caller, _ file: Attributes) throws(Halt) {
        guard try access(caller, file, wanted).isSuperset(of: wanted) else { throw .refused(.accessDenied) }
    }

    /// Rights to the data of a file that a caller without opens names. Who may only append writes from the end on.
    func requireData(
        _ wanted: Rights, _ caller: Caller, _ file: Attributes, from offset: UInt64 = 0
    ) throws(Halt) {
        if let handle = caller.handle, handle.file == file.file {
            // What an open was granted stays with it, whatever becomes of mode and list.
            let has = handle.granted
            let suffices =
                (!wanted.contains(.read) || !has.isDisjoint(with: [.readData, .execute]))
                && (!wanted.contains(.write) || has.contains(.writeData)
                    || has.contains(.appendData) && offset >= file.size)
            guard suffices else { throw .refused(.accessDenied) }
            return
        }
        if caller.isStateless {
            if caller.credential.uid == file.uid { return }
            if wanted == .read, try rights(caller, of: file).contains(.execute) { return }
        }
        try require(wanted, caller, file)
    }

    /// An entry may go by a right to it or to its directory. A list's word on `deleteChild` counts there; a mode gives it with
    /// the right to write.
    func requireDelete(_ caller: Caller, _ directory: Attributes, _ file: Attributes) throws(Halt) {
        guard directory.hasACL || file.hasACL else { return try require(Rights.write, caller, directory) }
        let ofDirectory = try access(caller, directory, .deleteChild)
        if ofDirectory.contains(.deleteChild) { return }
        guard try access(caller, file, .delete).contains(.delete) else { throw .refused(.accessDenied) }
    }

    func requireWritable(_ caller: Caller) throws(Halt) {
        guard !caller.isReadOnly, !isReadOnly else { throw .refused(.readOnly) }
    }

    /// A name in a sticky directory goes only by the hand of the file's owner, the directory's, or root.
    func requireUnstuck(_ caller: Caller, _ directory: Attributes, _ file: Attributes) throws(Halt) {
        let uid = caller.credential.uid
        guard directory.mode & 0o1000 == 0 || uid == 0 || uid == file.uid || uid == directory.uid else {
            throw .refused(.notPermitted)
        }
    }

    /// Checks a change of attributes, and adds what follows from it (POSIX `chmod`, `chown`).
    func authorize(_ caller: Caller, _ file: Attributes, _ new: inout NewAttributes) throws(Halt) {
        let credential = caller.credential
        let isOwner = credential.uid == 0 || credential.uid == file.uid
        if new.mode != nil, !isOwner {
            guard file.hasACL, try access(caller, file, .writeACL).contains(.writeACL) else {
                throw .refused(.notPermitted)
            }
            // Nobody lends what is another one's.
            if let mode = new.mode, file.type != .directory { new.mode = mode & ~0o6000 }
        }
        if new.born != nil || new.shownChange != nil, !isOwner { throw .refused(.notPermitted) }
        if let uid = new.uid, uid != file.uid, credential.uid != 0 { throw .refused(.notPermitted) }
        if let gid = new.gid, gid != file.gid, credential.uid != 0 {
            guard isOwner, credential.isMember(of: gid) else { throw .refused(.notPermitted) }
        }
        if new.uid != nil || new.gid != nil, !isOwner { throw .refused(.notPermitted) }
        for (isSet, isNow) in [(new.accessed != nil, new.isAccessedNow), (new.modified != nil, new.isModifiedNow)]
        where isSet && !isOwner {
            guard isNow else { throw .refused(.notPermitted) }
            try require(Rights.write, caller, file)
        }
        if new.dos != nil, !isOwner { try require(Rights.write, caller, file) }
        if let size = new.size { try requireData(.write, caller, file, from: size) }
        let gid = new.gid ?? file.gid
        if let mode = new.mode, mode & 0o2000 != 0, file.type != .directory, credential.uid != 0,
            !credential.isMember(of: gid)
        {
            new.mode = mode & ~0o2000
        }
        if new.uid.map({ $0 != file.uid }) == true || new.gid.map({ $0 != file.gid }) == true,
            file.type != .directory, credential.uid != 0 || file.mode & 0o111 != 0
        {
            new.dropsSetID = true
        }
    }

    /// Set-user-ID and set-group-ID go when somebody else changes what they lend their rights to; without the group's
    /// execute bit the latter stands for mandatory locks and stays. `before`: of the mode that it had for another group.
    static func withoutSetID(_ mode: UInt16, before: UInt16 = 0) -> UInt16 {
        mode & ((mode | before) & 0o010 != 0 ? ~0o6000 : ~0o4000)
    }
}

extension FileSecurity {
    public init(_ file: Attributes) {
        self.init(uid: file.uid, gid: file.gid, mode: file.mode, isDirectory: file.type == .directory)
    }
}

// MARK: - Lists

extension Volume {
    /// The file's list; a mode that stands alone is shown as the list that says the same.
    public func acl(_ caller: Caller, _ file: FileID) -> Attempt<ACL> {
        attempt { () throws(Halt) in
            let found = try attributes(caller, of: file)
            if caller.handle?.file != file || caller.handle?.granted.contains(.readACL) != true {
                try require(AccessMask.readACL, caller, found)
            }
            let acl = found.hasACL ? try fileSystem.acl(caller.request, file).get() : nil
            return .done(acl ?? ACL(mode: found.mode, isDirectory: found.type == .directory), number: 0)
        }
    }

    /// Sets the list, and the mode in step with it (docs/access.md). Nil: the mode alone counts from now on.
    public func setACL(_ caller: Caller, _ file: FileID, _ acl: ACL?) -> Attempt<Changed> {
        if let passed = passed(caller, file, { $0.setACL($1, file, acl) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let found = try attributes(caller, of: file)
            if caller.handle?.file != file || caller.handle?.granted.contains(.writeACL) != true {
                guard try access(caller, found, .writeACL).contains(.writeACL) else {
                    throw .refused(.notPermitted)
                }
            }
            try sharing.admit(caller, file, .attributes)
            let trail = try trails(caller, of: file)
            let mode = acl.map { found.mode & 0o7000 | $0.mode(uid: found.uid, gid: found.gid) } ?? found.mode
            let attempt = try setList(caller, found, acl, mode)
            guard case .done(var changed, let number) = attempt else { return attempt }
            certain(found, &changed)
            if let trail { sharing.post([(.modified, .security, trail)]) }
            return .done(changed, number: number)
        }
    }
}

/// Who may do what: the one place where it is decided.
extension Volume {
    /// What the credential may do to a file with these attributes.
    public func rights(_ credential: Credential, _ file: Attributes) -> Rights {
        if credential.uid == 0 {
            let isExecutable = file.type == .directory || file.mode & 0o111 != 0
            return isExecutable ? [.read, .write, .execute] : [.read, .write]
        }
        let bits: UInt16
        if credential.uid == file.uid {
            bits = file.mode >> 6
        } else if credential.isMember(of: file.gid) {
            bits = file.mode >> 3
        } else {
            bits = file.mode
        }
        var rights: Rights = []
        if bits & 4 != 0 { rights.insert(.read) }
        if bits & 2 != 0 { rights.insert(.write) }
        if bits & 1 != 0 { rights.insert(.execute) }
        return rights
    }

    func require(_ wanted: Rights, _ caller: Caller, _ file: Attributes) throws(Halt) {
        guard rights(caller.credential, file).isSuperset(of: wanted) else { throw .refused(.accessDenied) }
    }

    /// Rights to the data of a file that a caller without opens names.
    func requireData(_ wanted: Rights, _ caller: Caller, _ file: Attributes) throws(Halt) {
        if caller.isStateless {
            if caller.credential.uid == file.uid { return }
            if wanted == .read, rights(caller.credential, file).contains(.execute) { return }
        }
        try require(wanted, caller, file)
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
        if new.mode != nil || new.born != nil {
            guard isOwner else { throw .refused(.notPermitted) }
        }
        if let uid = new.uid, uid != file.uid, credential.uid != 0 { throw .refused(.notPermitted) }
        if let gid = new.gid, gid != file.gid, credential.uid != 0 {
            guard isOwner, credential.isMember(of: gid) else { throw .refused(.notPermitted) }
        }
        if new.uid != nil || new.gid != nil, !isOwner { throw .refused(.notPermitted) }
        for (isSet, isNow) in [(new.accessed != nil, new.isAccessedNow), (new.modified != nil, new.isModifiedNow)]
        where isSet && !isOwner {
            guard isNow else { throw .refused(.notPermitted) }
            try require(.write, caller, file)
        }
        if new.dos != nil, !isOwner { try require(.write, caller, file) }
        if new.size != nil { try requireData(.write, caller, file) }
        let gid = new.gid ?? file.gid
        if let mode = new.mode, mode & 0o2000 != 0, file.type != .directory, credential.uid != 0,
            !credential.isMember(of: gid)
        {
            new.mode = mode & ~0o2000
        }
        if new.uid.map({ $0 != file.uid }) == true || new.gid.map({ $0 != file.gid }) == true,
            file.type != .directory, credential.uid != 0 || file.mode & 0o111 != 0
        {
            new.mode = Self.withoutSetID(new.mode ?? file.mode)
        }
    }

    /// Set-user-ID and set-group-ID go when somebody else changes what they lend their rights to; without the group's
    /// execute bit the latter stands for mandatory locks and stays.
    static func withoutSetID(_ mode: UInt16) -> UInt16 { mode & (mode & 0o010 != 0 ? ~0o6000 : ~0o4000) }
}

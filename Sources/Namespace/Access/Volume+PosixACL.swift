/// What becomes of one of a file's two POSIX lists.
public enum NewPosixACL: Equatable, Sendable {
    case unchanged
    /// Of access: the mode says it all. Of what is passed on: nothing is.
    case none
    case list(PosixACL)
}

/// A file's lists in POSIX's words, and the file that they are of.
public struct PosixLists: Equatable, Sendable {
    public var file: Attributes
    public var access: PosixACL
    /// What a directory passes on to what is made in it; nil: nothing.
    public var passedOn: PosixACL?
}

/// Lists as NFSACL speaks of them (docs/access.md, "POSIX lists").
extension Volume {
    public func posixACL(_ caller: Caller, _ file: FileID) -> Attempt<PosixLists> {
        attempt { () throws(Halt) in
            let found = try attributes(caller, of: file)
            let mode = found.mode
            var lists = PosixLists(
                file: found, access: PosixACL(owner: mode >> 6, group: mode >> 3, other: mode), passedOn: nil)
            guard found.hasACL else { return .done(lists, number: 0) }
            try require(AccessMask.readACL, caller, found)
            if let acl = try fileSystem.acl(caller.request, file).get() {
                if let access = acl.posix(uid: found.uid, gid: found.gid) { lists.access = access }
                if found.type == .directory {
                    lists.passedOn = acl.posix(uid: found.uid, gid: found.gid, passedOn: true)
                }
            }
            return .done(lists, number: 0)
        }
    }

    /// Sets one list or both, and the mode in step with them, in one change.
    public func setPosixACL(
        _ caller: Caller, _ file: FileID, access: NewPosixACL, passedOn: NewPosixACL
    ) -> Attempt<Changed> {
        if let passed = passed(caller, file, { $0.setPosixACL($1, file, access: access, passedOn: passedOn) }) {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let found = try attributes(caller, of: file)
            guard found.type != .symlink else { throw .refused(.notSupported) }
            let isDirectory = found.type == .directory
            if case .list = passedOn, !isDirectory { throw .refused(.accessDenied) }
            guard try self.access(caller, found, .writeACL).contains(.writeACL) else { throw .refused(.notPermitted) }
            let old = found.hasACL ? try fileSystem.acl(caller.request, file).get() : nil
            var mode = found.mode
            if case .list(let list) = access {
                mode = mode & 0o7000 | list.mode
                let isMember = caller.credential.uid == 0 || caller.credential.isMember(of: found.gid)
                if !isMember, !isDirectory { mode &= ~0o2000 }
            }
            let acl: ACL?
            do {
                acl = try ACL.changing(
                    old, mode: mode, isDirectory: isDirectory, access: access, passedOn: passedOn)
            } catch { throw .refused(.invalid) }
            if let acl { mode = mode & 0o7000 | acl.mode(uid: found.uid, gid: found.gid) }
            try sharing.admit(caller, file, .attributes)
            let trail = try trails(caller, of: file)
            let attempt = try setList(caller, found, acl, mode)
            guard case .done(var changed, let number) = attempt else { return attempt }
            certain(found, &changed)
            if let trail { sharing.post([(.modified, .security, trail)]) }
            return .done(changed, number: number)
        }
    }

    /// If mode, owner and list are still what the new ones were made from. A file system that keeps no lists takes the mode all the same; of a
    /// list that goes away the mode that the file has then stays but for its digits.
    func setList(
        _ caller: Caller, _ found: Attributes, _ acl: ACL?, _ mode: UInt16
    ) throws(Halt) -> Attempt<Changed> {
        guard found.type == .file || found.type == .directory, acl != nil || !found.hasACL else {
            return fileSystem.setACL(caller.request, found.file, acl, mode: mode)
        }
        var new = NewAttributes()
        (new.acl, new.mode) = (acl, mode)
        new.basis = AccessBasis(found, try list(caller.request, found))
        return fileSystem.setAttributes(caller.request, found.file, new)
    }
}

extension ACL {
    struct TooLong: Error {}

    /// A list after one of its POSIX forms was set, or both; nil: the mode says it all.
    static func changing(
        _ old: ACL?, mode: UInt16, isDirectory: Bool, access: NewPosixACL, passedOn: NewPosixACL
    ) throws(TooLong) -> ACL? {
        var effective: [Entry] = []
        switch access {
        case .unchanged:
            for var entry in old?.entries ?? [] where !entry.flags.contains(.inheritOnly) {
                entry.flags.subtract(.inheritance)
                effective.append(entry)
            }
        case .none: break
        case .list(let list):
            if !list.isMinimal {
                guard let made = ACL(posix: list, isDirectory: isDirectory) else { throw TooLong() }
                effective = made.entries
            }
        }
        var inherited: [Entry] = []
        switch passedOn {
        case .unchanged:
            for var entry in old?.entries ?? [] where entry.isInheritable {
                entry.flags.insert(.inheritOnly)
                inherited.append(entry)
            }
        case .none: break
        case .list(let list):
            guard let made = ACL(posix: nil, passedOn: list, isDirectory: isDirectory) else { throw TooLong() }
            inherited = made.entries
        }
        if effective.isEmpty, inherited.isEmpty { return nil }
        if effective.isEmpty { effective = ACL(mode: mode, isDirectory: isDirectory).entries }
        guard let list = ACL(effective + inherited) else { throw TooLong() }
        return list
    }
}

/// What a check of access has to know of a file, besides its access list if it has one.
public struct FileSecurity: Equatable, Sendable {
    public var uid: UInt32
    public var gid: UInt32
    /// The permission bits.
    public var mode: UInt16
    public var isDirectory: Bool

    public init(uid: UInt32, gid: UInt32, mode: UInt16, isDirectory: Bool) {
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.isDirectory = isDirectory
    }

    /// Which of the `wanted` rights the caller has: the one place where that is decided, for all protocols. Root that is to be
    /// nobody comes as nobody.
    ///
    /// A file without a list costs no memory: it goes by its mode, where the owner's digit counts for the owner, the group's for
    /// the group, the last for all others, and no two together. `everybodys` are the rights that no list takes away.
    public func granted(
        _ wanted: AccessMask, to credential: Credential, _ acl: ACL? = nil, everybodys: AccessMask? = nil
    ) -> AccessMask {
        if credential.uid == 0 { return wanted.intersection(ofRoot(acl)) }
        guard let acl else { return wanted.intersection(ofMode(credential)) }
        var allowed = everybodys ?? .always
        var open = wanted.subtracting(allowed)
        var saysOwnersRights = false
        acl.forEachStored { entry in
            if entry.flags.contains(.inheritOnly) || entry.kind.rawValue > ACL.Kind.deny.rawValue { return true }
            let isOfOwner = entry.isOfOwnerRights
            saysOwnersRights = saysOwnersRights || isOfOwner
            guard !open.isDisjoint(with: entry.mask) else { return true }
            guard isOfOwner ? credential.uid == uid : entry.names(credential, self) else { return true }
            if entry.kind == .allow { allowed.formUnion(entry.mask.intersection(open)) }
            open.subtract(entry.mask)
            // The owner has to see whether any entry speaks of his rights.
            return !open.isEmpty || credential.uid == uid
        }
        if credential.uid == uid, !saysOwnersRights { allowed.formUnion(.ofOwner) }
        return wanted.intersection(allowed)
    }

    /// The entries, counted from 1, that decide for a caller about some of these rights: for people who ask why.
    public func deciding(_ wanted: AccessMask, for credential: Credential, _ acl: ACL) -> [Int] {
        var open = wanted
        var found: [Int] = []
        var place = 0
        acl.forEachStored { entry in
            place += 1
            if entry.flags.contains(.inheritOnly) || entry.kind.rawValue > ACL.Kind.deny.rawValue { return true }
            guard entry.isOfOwnerRights ? credential.uid == uid : entry.names(credential, self),
                !open.isDisjoint(with: entry.mask)
            else { return true }
            found.append(place)
            open.subtract(entry.mask)
            return !open.isEmpty
        }
        return found
    }

    private func ofMode(_ credential: Credential) -> AccessMask {
        let digit: UInt16
        var mask: AccessMask = AccessMask.always.union(.readACL)
        if credential.uid == uid {
            digit = mode >> 6
            mask.formUnion([.writeACL, .writeAttributes])
        } else if credential.isMember(of: gid) {
            digit = mode >> 3
        } else {
            digit = mode
        }
        return mask.union(AccessMask(digit: digit, isDirectory: isDirectory))
    }

    /// Everything; a file is executed only if somebody may.
    private func ofRoot(_ acl: ACL?) -> AccessMask {
        if isDirectory || mode & 0o111 != 0 { return .all }
        var isExecutable = false
        acl?.forEachStored { entry in
            isExecutable = entry.kind == .allow && entry.mask.contains(.execute) && !entry.flags.contains(.inheritOnly)
            return !isExecutable
        }
        return isExecutable ? .all : AccessMask.all.subtracting(.execute)
    }
}

/// How lists and modes are kept in step; docs/access.md has the rule in words.
extension ACL {
    private static let digits: AccessMask = [
        .readData, .readNamedAttributes, .writeData, .appendData, .writeNamedAttributes, .writeAttributes, .deleteChild,
        .execute,
    ]

    /// The list that says what a mode says, for clients that want to see a list.
    public init(mode: UInt16, isDirectory: Bool) {
        self.init(checked: Self.entries(mode: mode, isDirectory: isDirectory, between: []))
    }

    /// The three digits, with the named entries where the group's digit counts. A denial stands only where a later entry
    /// would give what the digit does not.
    private static func entries(mode: UInt16, isDirectory: Bool, between named: [Entry]) -> [Entry] {
        let owner = AccessMask(digit: mode >> 6 & 7, isDirectory: isDirectory)
        let group = AccessMask(digit: mode >> 3 & 7, isDirectory: isDirectory)
        let other = AccessMask(digit: mode & 7, isDirectory: isDirectory)
        var given = group.union(other)
        for entry in named where entry.kind == .allow && !entry.flags.contains(.inheritOnly) {
            given.formUnion(entry.mask.intersection(digits))
        }
        let base = AccessMask.always.union(.readACL)
        var entries: [Entry] = [Entry(.allow, .owner, owner.union(base).union([.writeACL, .writeAttributes]))]
        let notOwner = given.subtracting(owner).subtracting(.writeAttributes)
        if !notOwner.isEmpty { entries.append(Entry(.deny, .owner, notOwner)) }
        entries += named
        entries.append(Entry(.allow, .owningGroup, group.union(base)))
        let notGroup = other.subtracting(group)
        if !notGroup.isEmpty { entries.append(Entry(.deny, .owningGroup, notGroup)) }
        entries.append(Entry(.allow, .everyone, other.union(base)))
        return entries
    }

    /// The permission bits that a file with this list shows (RFC 8881 6.3.2): owner, group and everyone, each by the entries that
    /// speak of them as such.
    public func mode(uid: UInt32, gid: UInt32) -> UInt16 {
        var owner = Digit()
        var group = Digit()
        var other = Digit()
        forEachStored { entry in
            guard entry.kind == .allow || entry.kind == .deny, !entry.flags.contains(.inheritOnly) else { return true }
            // No principal is made of it: the optimizer frees the bytes of a SID that nobody uses before it copies them.
            switch entry.who {
            case .owner: owner.meet(entry)
            case .user: if entry.id == uid { owner.meet(entry) }
            case .owningGroup: group.meet(entry)
            case .group: if entry.id == gid { group.meet(entry) }
            case .everyone:
                owner.meet(entry)
                group.meet(entry)
                other.meet(entry)
            case .sid: if entry.isOfOwnerRights { owner.meet(entry) }
            }
            return true
        }
        return owner.allowed.digit << 6 | group.allowed.digit << 3 | other.allowed.digit
    }

    private struct Digit {
        var allowed: AccessMask = []
        var open = AccessMask.all

        mutating func meet(_ entry: Stored) {
            if entry.kind == .allow { allowed.formUnion(entry.mask.intersection(open)) }
            open.subtract(entry.mask)
        }
    }

    /// The list after a change of mode. Owner, group and everyone get what the mode says; nobody who is named has more than
    /// the group's digit; what is passed on to new files stays. Nil: the mode says it all now.
    public func applying(mode: UInt16, uid: UInt32, gid: UInt32, isDirectory: Bool) -> ACL? {
        let group = AccessMask(digit: mode >> 3 & 7, isDirectory: isDirectory)
        var passedOn: [Entry] = []
        var named: [Entry] = []
        for entry in entries {
            guard entry.isDecisive else {
                passedOn.append(entry)
                continue
            }
            if entry.isInheritable {
                var kept = entry
                kept.flags.insert(.inheritOnly)
                passedOn.append(kept)
            }
            if entry.flags.contains(.inheritOnly) { continue }
            switch entry.who {
            case .owner, .owningGroup, .everyone: continue
            case .user(let id): if id == uid { continue }
            case .group(let id): if id == gid { continue }
            case .sid(let sid): if sid == .ownerRights { continue }
            }
            var kept = entry
            kept.flags.subtract(.inheritance)
            if kept.kind == .allow { kept.mask.subtract(Self.digits.subtracting(group)) }
            if !kept.mask.isEmpty { named.append(kept) }
        }
        if passedOn.isEmpty, named.isEmpty { return nil }
        let all = Self.entries(mode: mode, isDirectory: isDirectory, between: named) + passedOn
        // At the limit those who are named go: that takes rights, and gives none.
        guard all.count <= Self.entriesMax else {
            let fewer = Self.entries(mode: mode, isDirectory: isDirectory, between: []) + passedOn
            return ACL(checked: Array(fewer.prefix(Self.entriesMax)), flags)
        }
        return ACL(checked: all, flags)
    }
}

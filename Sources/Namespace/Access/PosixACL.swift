/// A POSIX access list, as NFSACL carries it.
public struct PosixACL: Equatable, Sendable {
    public static let entriesMax = ACL.entriesMax / 4 - 4

    public struct Named: Hashable, Sendable {
        public var id: UInt32
        /// r 4, w 2, x 1.
        public var digit: UInt16

        public init(id: UInt32, digit: UInt16) {
            self.id = id
            self.digit = digit & 7
        }
    }

    public var owner: UInt16
    public var users: [Named]
    public var group: UInt16
    public var groups: [Named]
    /// Bounds users, group and groups; nil only where none are named.
    public var mask: UInt16?
    public var other: UInt16

    public init(
        owner: UInt16, users: [Named] = [], group: UInt16, groups: [Named] = [], mask: UInt16? = nil, other: UInt16
    ) {
        self.owner = owner & 7
        self.users = users
        self.group = group & 7
        self.groups = groups
        self.mask = mask.map { $0 & 7 }
        self.other = other & 7
    }

    /// What the mode of such a file shows; the group's digit is the mask, as POSIX has it.
    public var mode: UInt16 { owner << 6 | (mask ?? group) << 3 | other }

    /// Whether the mode says it all.
    public var isMinimal: Bool { users.isEmpty && groups.isEmpty && (mask.map { group & $0 == group } ?? true) }
}

extension ACL {
    /// Says in entries what the POSIX lists say: of the file, and of what is made in it. Nil: too many are named.
    ///
    /// In POSIX a user who is named has just that; one whose groups are named, what any of them has; and neither ever the digit
    /// for others. So each grant is followed by a denial of the rest.
    public init?(posix access: PosixACL?, passedOn: PosixACL? = nil, isDirectory: Bool) {
        var entries: [Entry] = []
        if let access { entries += Self.entries(access, isDirectory, []) ?? [] }
        if let passedOn {
            guard let more = Self.entries(passedOn, isDirectory, [.fileInherit, .directoryInherit, .inheritOnly]) else {
                return nil
            }
            entries += more
        }
        if let access, access.users.count + access.groups.count > PosixACL.entriesMax { return nil }
        self.init(entries)
    }

    private static func entries(_ posix: PosixACL, _ isDirectory: Bool, _ flags: EntryFlags) -> [Entry]? {
        guard posix.users.count + posix.groups.count <= PosixACL.entriesMax else { return nil }
        let mask = posix.mask ?? 7
        let base = AccessMask.always.union(.readACL)
        let rest = AccessMask(digit: 7, isDirectory: isDirectory)
        func grant(_ who: Principal, _ digit: UInt16, _ more: AccessMask = []) -> Entry {
            Entry(.allow, who, AccessMask(digit: digit, isDirectory: isDirectory).union(base).union(more), flags)
        }
        var entries = [grant(.owner, posix.owner, [.writeACL, .writeAttributes]), Entry(.deny, .owner, rest, flags)]
        for user in posix.users {
            entries.append(grant(.user(user.id), user.digit & mask))
            entries.append(Entry(.deny, .user(user.id), rest, flags))
        }
        entries.append(grant(.owningGroup, posix.group & mask))
        for group in posix.groups { entries.append(grant(.group(group.id), group.digit & mask)) }
        entries.append(Entry(.deny, .owningGroup, rest, flags))
        for group in posix.groups { entries.append(Entry(.deny, .group(group.id), rest, flags)) }
        entries.append(grant(.everyone, posix.other))
        return entries
    }

    /// The POSIX list that comes nearest: each who is named has what he has here. Of a list that was made from a POSIX list it is that
    /// list, with digits already bounded by the mask.
    public func posix(uid: UInt32, gid: UInt32, passedOn: Bool = false) -> PosixACL? {
        var users: [UInt32] = []
        var groups: [UInt32] = []
        var considered: [Entry] = []
        for var entry in entries where entry.isDecisive {
            let isWanted =
                passedOn ? entry.flags.contains(.directoryInherit) : !entry.flags.contains(.inheritOnly)
            guard isWanted else { continue }
            entry.flags = []
            considered.append(entry)
            switch entry.who {
            case .user(let id): if id != uid, !users.contains(id) { users.append(id) }
            case .group(let id): if id != gid, !groups.contains(id) { groups.append(id) }
            case .owner, .owningGroup, .everyone, .sid: break
            }
        }
        if considered.isEmpty { return nil }
        func digit(_ matches: (Principal) -> Bool) -> UInt16 {
            var allowed: AccessMask = []
            var open = AccessMask.all
            for entry in considered where entry.who == .everyone || matches(entry.who) {
                if entry.kind == .allow { allowed.formUnion(entry.mask.intersection(open)) }
                open.subtract(entry.mask)
            }
            return allowed.digit
        }
        var posix = PosixACL(
            owner: digit { $0 == .owner || $0 == .user(uid) },
            users: users.map { id in PosixACL.Named(id: id, digit: digit { $0 == .user(id) }) },
            group: digit { $0 == .owningGroup || $0 == .group(gid) },
            groups: groups.map { id in PosixACL.Named(id: id, digit: digit { $0 == .group(id) }) },
            other: digit { _ in false })
        if !users.isEmpty || !groups.isEmpty {
            posix.mask = (posix.users + posix.groups).reduce(posix.group) { $0 | $1.digit }
        }
        return posix
    }
}

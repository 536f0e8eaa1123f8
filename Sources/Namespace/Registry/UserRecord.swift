/// A user as one volume keeps it: what the user is, in every volume on which there are rights, so that it follows a
/// failover of any of them; and rights and keys of this volume. Of several records of one name the newest wins.
///
/// Of secrets there is the sealed one alone: what SMB needs is made from it.
struct UserRecord: Equatable, Sendable {
    static let version: UInt8 = 2
    private static let isDisabled: UInt8 = 1
    private static let isDeclared: UInt8 = 2
    /// Groups, keys and the rest fit a setting.
    static let groupsMax = 4096

    /// Never falls, also when a user is removed and made again: it is at least the time of the change.
    var revision: UInt64
    /// When this user was made, in nanoseconds since 1970; 0 in records of version 1. A record of somebody of the same
    /// name who was removed meanwhile has an earlier one.
    var madeAt: UInt64
    /// The configuration made it: without that word it is not let in any more.
    var isDeclared: Bool
    /// With `rights` and `keys` of one volume only.
    var user: User
    /// Those of the user's groups that have names here.
    var groups: [Group]

    func record(of volume: String) -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        writer.number(revision)
        writer.number(madeAt)
        writer.text(user.name)
        writer.number(user.uid)
        writer.number(user.gid)
        writer.number(user.rid)
        writer.number((user.isDisabled ? Self.isDisabled : 0) | (isDeclared ? Self.isDeclared : 0))
        writer.list(user.groups) { $0.number($1) }
        writer.list(groups) { writer, group in
            writer.text(group.name)
            writer.number(group.gid)
            writer.number(group.rid)
        }
        writer.bytes(user.sealed)
        writer.number(user.rights[volume]?.rawValue ?? 0)
        writer.list(user.keys.filter { $0.volume == volume }) { writer, key in
            writer.text(key.id)
            writer.bytes(key.sealed)
        }
        return writer.bytes
    }

    init(revision: UInt64, madeAt: UInt64, isDeclared: Bool, user: User, groups: [Group]) {
        self.revision = revision
        self.madeAt = madeAt
        self.isDeclared = isDeclared
        self.user = user
        self.groups = groups
    }

    init(record: [UInt8], of volume: String) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        revision = try reader.number()
        madeAt = reader.version >= 2 ? try reader.number() : 0
        user = User(name: try reader.text(limit: User.nameBytesMax), uid: try reader.number(), gid: try reader.number())
        user.rid = try reader.number()
        let flags: UInt8 = try reader.number()
        guard flags & ~(Self.isDisabled | Self.isDeclared) == 0 else { throw .malformed }
        user.isDisabled = flags & Self.isDisabled != 0
        isDeclared = flags & Self.isDeclared != 0
        user.groups = try reader.list(limit: Self.groupsMax) { (reader) throws(RecordFault) in try reader.number() }
        groups = try reader.list(limit: Self.groupsMax) { (reader) throws(RecordFault) in
            var group = Group(name: try reader.text(limit: User.nameBytesMax), gid: try reader.number())
            group.rid = try reader.number()
            return group
        }
        user.sealed = try reader.bytes(limit: User.sealedBytesMax)
        let rights = VolumeRights(rawValue: try reader.number())
        if !rights.isEmpty { user.rights[volume] = rights }
        user.keys = try reader.list(limit: User.keysMax) { (reader) throws(RecordFault) in
            AccessKey(
                id: try reader.text(limit: User.nameBytesMax), volume: volume,
                sealed: try reader.bytes(limit: User.sealedBytesMax))
        }
        try reader.finish()
    }
}

/// What makes SIDs of a volume's users their own: kept with each volume, so that they stay.
struct IdentityRecord: Equatable, Sendable {
    static let name = "identity"
    static let version: UInt8 = 1

    var domain: [UInt32]
    var nextRID: UInt32

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        for number in domain { writer.number(number) }
        writer.number(nextRID)
        return writer.bytes
    }

    init(domain: [UInt32], nextRID: UInt32) {
        precondition(domain.count == 3, "a domain is three numbers")
        self.domain = domain
        self.nextRID = nextRID
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        domain = [try reader.number(), try reader.number(), try reader.number()]
        nextRID = try reader.number()
        try reader.finish()
    }
}

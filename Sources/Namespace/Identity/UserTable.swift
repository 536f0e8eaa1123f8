/// The users and groups of a server, found by each of their names and numbers.
///
/// Invariants: names differ, also without regard to case; uids, gids, access keys and RIDs differ; a RID that was given once is
/// never given to somebody else, so an access list never lets a newcomer in by a dead user's SID.
public struct UserTable: Sendable {
    public static let usersMax = 65_536
    public static let groupsMax = 65_536
    public static let firstID: UInt32 = 10_000
    static let firstRID: UInt32 = 1000

    public enum Refusal: Error, Equatable, Sendable {
        case badName
        case nameTaken
        case uidTaken
        case gidTaken
        case keyTaken
        case unknown
        /// Users, groups, or something of one user: see the limits.
        case tooMany
    }

    /// The three numbers that make SIDs of this server its own.
    public let domain: (UInt32, UInt32, UInt32)
    var nextRID = Self.firstRID
    private(set) var users: [String: User] = [:]
    private(set) var groups: [String: Group] = [:]
    private var nameOfUID: [UInt32: String] = [:]
    private var nameOfGID: [UInt32: String] = [:]
    private var nameOfKey: [String: String] = [:]
    private enum Holder {
        case user(String)
        case group(String)
    }
    private var holderOfRID: [UInt32: Holder] = [:]

    /// `domain` is random, and kept with the volume.
    public init(domain: (UInt32, UInt32, UInt32)) { self.domain = domain }

    static func folded(_ name: String) -> String { name.lowercased() }

    public static func isGood(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= User.nameBytesMax else { return false }
        // They separate a name from a volume, a domain, a realm, or an instance.
        return !name.unicodeScalars.contains { ":\\/@".unicodeScalars.contains($0) || $0.value < 32 || $0.value == 127 }
    }

    public var count: Int { users.count }
    public var allUsers: [User] { users.values.sorted { $0.rid < $1.rid } }

    // MARK: Changing

    /// The lowest uid from 10000 on that nobody has.
    public var freeUID: UInt32 {
        // Among one more than there may be users one is free.
        var uid = Self.firstID
        while nameOfUID[uid] != nil { uid += 1 }
        return uid
    }

    private func check(_ user: User, besides old: User?) throws(Refusal) {
        guard Self.isGood(user.name) else { throw .badName }
        guard user.groups.count <= User.groupsMax, user.keys.count <= User.keysMax,
            user.rights.count <= User.volumesMax, user.sealed.count <= User.sealedBytesMax,
            user.ntHash.isEmpty || user.ntHash.count == NTHash.count
        else { throw .tooMany }
        let name = Self.folded(user.name)
        if let taken = users[name], taken.rid != old?.rid { throw .nameTaken }
        if let taken = nameOfUID[user.uid], taken != old.map({ Self.folded($0.name) }) { throw .uidTaken }
        var seen: Set<String> = []
        for key in user.keys {
            guard !key.id.isEmpty, key.id.utf8.count <= User.nameBytesMax, key.sealed.count <= User.sealedBytesMax,
                key.volume.utf8.count <= User.nameBytesMax
            else { throw .tooMany }
            // A key that reads like a user's name would be a second way to that user.
            guard !key.id.contains(":"), users[Self.folded(key.id)] == nil, seen.insert(key.id).inserted else {
                throw .keyTaken
            }
            if let taken = nameOfKey[key.id], taken != old.map({ Self.folded($0.name) }) { throw .keyTaken }
        }
        if nameOfKey.keys.contains(user.name) { throw .nameTaken }
        for volume in user.rights.keys where volume.utf8.count > User.nameBytesMax { throw .badName }
    }

    private mutating func insert(_ user: User) {
        let name = Self.folded(user.name)
        users[name] = user
        nameOfUID[user.uid] = name
        if user.rid != 0 { holderOfRID[user.rid] = .user(name) }
        for key in user.keys { nameOfKey[key.id] = name }
    }

    private mutating func forget(_ user: User) {
        users[Self.folded(user.name)] = nil
        nameOfUID[user.uid] = nil
        if user.rid != 0 { holderOfRID[user.rid] = nil }
        for key in user.keys { nameOfKey[key.id] = nil }
    }

    public mutating func add(_ user: User) throws(Refusal) {
        guard users.count < Self.usersMax, nextRID < .max else { throw .tooMany }
        try check(user, besides: nil)
        var user = user
        user.rid = nextRID
        nextRID += 1
        insert(user)
    }

    /// Puts `user` in the place of the one of that name; its SID stays.
    public mutating func change(_ name: String, to user: User) throws(Refusal) {
        guard let old = users[Self.folded(name)] else { throw .unknown }
        try check(user, besides: old)
        var user = user
        user.rid = old.rid
        forget(old)
        insert(user)
    }

    public mutating func remove(user name: String) throws(Refusal) {
        guard let old = users[Self.folded(name)] else { throw .unknown }
        forget(old)
    }

    public mutating func add(_ group: Group) throws(Refusal) {
        guard groups.count < Self.groupsMax, nextRID < .max else { throw .tooMany }
        var group = group
        group.rid = nextRID
        try insert(group)
        nextRID += 1
    }

    private mutating func insert(_ group: Group) throws(Refusal) {
        guard Self.isGood(group.name) else { throw .badName }
        let name = Self.folded(group.name)
        guard groups[name] == nil else { throw .nameTaken }
        guard nameOfGID[group.gid] == nil else { throw .gidTaken }
        groups[name] = group
        nameOfGID[group.gid] = name
        if group.rid != 0 { holderOfRID[group.rid] = .group(name) }
    }

    public mutating func remove(group name: String) throws(Refusal) {
        guard let old = groups.removeValue(forKey: Self.folded(name)) else { throw .unknown }
        nameOfGID[old.gid] = nil
        if old.rid != 0 { holderOfRID[old.rid] = nil }
    }

    /// A user whose record a volume kept: the RID stays, unless somebody else has it by now.
    mutating func adopt(_ user: User) throws(Refusal) {
        guard users.count < Self.usersMax, nextRID < .max else { throw .tooMany }
        try check(user, besides: nil)
        var user = user
        user.rid = free(user.rid)
        insert(user)
    }

    mutating func adopt(_ group: Group) throws(Refusal) {
        guard groups.count < Self.groupsMax, nextRID < .max else { throw .tooMany }
        var group = group
        group.rid = free(group.rid)
        try insert(group)
    }

    /// `rid` if nobody has it, else the next one.
    private mutating func free(_ rid: UInt32) -> UInt32 {
        let given = rid >= Self.firstRID && rid < .max && holderOfRID[rid] == nil ? rid : nextRID
        nextRID = max(nextRID, given + 1)
        return given
    }

    /// A user whom somebody else keeps: without a SID of this server's, the uid's own serves.
    mutating func addForeign(_ user: User) throws(Refusal) {
        guard users.count < Self.usersMax else { throw .tooMany }
        try check(user, besides: nil)
        insert(user)
    }

    /// The same of a group.
    mutating func addForeign(_ group: Group) throws(Refusal) {
        guard groups.count < Self.groupsMax else { throw .tooMany }
        var group = group
        group.rid = 0
        try insert(group)
    }

    /// None below `next` is given to a newcomer.
    mutating func skipRIDs(below next: UInt32) { nextRID = max(nextRID, next) }

    /// The lowest gid from 10000 on that no group and no user has.
    public var freeGID: UInt32 {
        let taken = Set(users.values.map(\.gid))
        var gid = Self.firstID
        while nameOfGID[gid] != nil || taken.contains(gid) { gid += 1 }
        return gid
    }

    // MARK: Finding

    /// Without regard to case.
    public func user(_ name: String) -> User? { users[Self.folded(name)] }
    public func user(uid: UInt32) -> User? { nameOfUID[uid].flatMap { users[$0] } }
    public func group(_ name: String) -> Group? { groups[Self.folded(name)] }
    public func group(gid: UInt32) -> Group? { nameOfGID[gid].flatMap { groups[$0] } }

    /// `NAME`, `.\NAME`, `WORKGROUP\NAME`: the domain does not matter, all users are this server's.
    public func user(smb name: String) -> User? {
        guard let separator = name.lastIndex(of: "\\") else { return user(name) }
        return user(String(name[name.index(after: separator)...]))
    }

    public struct KeyHolder: Equatable, Sendable {
        public var user: User
        public var volume: String
        /// What the signature was made with.
        public var sealed: [UInt8]
    }

    /// `NAME` is the user on volume `default`, `V:NAME` on V; or a further key of a user. Here case matters: signatures cover the key.
    public func user(accessKey id: String) -> KeyHolder? {
        if let name = nameOfKey[id], let user = users[name], let key = user.keys.first(where: { $0.id == id }) {
            return user.isDisabled ? nil : KeyHolder(user: user, volume: key.volume, sealed: key.sealed)
        }
        // Volumes' names may not hold a colon, users' neither.
        let parts = id.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map { String($0) }
        guard let name = parts.last, let found = user(name), found.name == name, !found.isDisabled else { return nil }
        return KeyHolder(user: found, volume: parts.count == 2 ? parts[0] : "default", sealed: found.sealed)
    }

    // MARK: SIDs

    public func sid(uid: UInt32) -> SID {
        guard let user = user(uid: uid), user.rid != 0 else { return .unknownUser(uid) }
        return .domain(domain.0, domain.1, domain.2, user.rid)
    }

    public func sid(gid: UInt32) -> SID {
        guard let group = group(gid: gid), group.rid != 0 else { return .unknownGroup(gid) }
        return .domain(domain.0, domain.1, domain.2, group.rid)
    }

    /// What a SID stands for; itself when this server does not know it.
    public func principal(_ sid: SID) -> Principal {
        switch sid {
        case .everyone: return .everyone
        case .creatorOwner: return .owner
        case .creatorGroup: return .owningGroup
        default: break
        }
        let numbers = sid.numbers
        if sid.authority == 22, numbers.count == 2 {
            // A uid that has become a user's since is still the same uid.
            if numbers[0] == 1 { return .user(numbers[1]) }
            if numbers[0] == 2 { return .group(numbers[1]) }
        }
        if sid.authority == 5, numbers.count == 5, numbers[0] == 21, numbers[1] == domain.0, numbers[2] == domain.1,
            numbers[3] == domain.2
        {
            switch holderOfRID[numbers[4]] {
            case .user(let name): if let user = users[name] { return .user(user.uid) }
            case .group(let name): if let group = groups[name] { return .group(group.gid) }
            case nil: break
            }
        }
        return .sid(sid)
    }
}

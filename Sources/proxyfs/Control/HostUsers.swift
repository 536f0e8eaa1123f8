import Glibc
import Namespace

/// Users and groups of this host, as its name services know them (passwd and group). Blocks: on a thread that may, one at a time.
enum HostUsers {
    static let usersMax = 16_384
    /// Of one user.
    static let groupsMax: Int32 = 1024
    static let allGroupsMax = 16_384
    /// Below are the system's own; above is nobody.
    private static let range: Range<UInt32> = 1000..<65_534

    static func all() -> [User] {
        setpwent()
        var found: [(name: String, uid: UInt32, gid: UInt32)] = []
        while found.count < usersMax, let entry = getpwent() {
            guard range.contains(entry.pointee.pw_uid), let name = entry.pointee.pw_name else { continue }
            found.append((String(cString: name), entry.pointee.pw_uid, entry.pointee.pw_gid))
        }
        endpwent()
        return found.map { user in
            var groups = [gid_t](repeating: 0, count: Int(groupsMax))
            var count = groupsMax
            if getgrouplist(user.name, user.gid, &groups, &count) < 0 { count = min(max(count, 0), groupsMax) }
            let others = groups.prefix(Int(count)).filter { $0 != user.gid }
            return User(name: user.name, uid: user.uid, gid: user.gid, groups: Array(others))
        }
    }

    /// Those of the system, too: files belong to them.
    static func groups() -> [Group] {
        setgrent()
        defer { endgrent() }
        var found: [Group] = []
        while found.count < allGroupsMax, let entry = getgrent() {
            guard let name = entry.pointee.gr_name else { continue }
            found.append(Group(name: String(cString: name), gid: entry.pointee.gr_gid))
        }
        return found
    }
}

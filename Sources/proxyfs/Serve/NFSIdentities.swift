import CShim
import Configuration
import Glibc
import NFS
import Namespace
import Runtime

/// All groups of a user by number, for AUTH_SYS credentials, which have room for 16: of the registry's users first, then
/// of this host's.
final class UserGroups: GroupSource {
    /// How long an answer of the host's name services is believed.
    private static let nanoseconds: UInt64 = 300_000_000_000
    private static let usersMax = 16_384
    private static let groupsMax: Int32 = 4096

    private struct Entry {
        var groups: [UInt32]?
        var end: UInt64
    }

    private let registry: Registry
    private let world: World
    private let known = Guarded<[UInt32: Entry]>([:])

    init(_ registry: Registry, _ world: World) {
        self.registry = registry
        self.world = world
    }

    func groups(of uid: UInt32) -> Attempt<[UInt32]?> {
        if let user = registry.snapshot.users.user(uid: uid) { return .done(user.credential.groups, number: 0) }
        let now = world.clock.monotonic()
        if let entry = known.withLock({ $0[uid] }), entry.end > now { return .done(entry.groups, number: 0) }
        let (world, known) = (world, known)
        return .lacks(
            Lack { () async throws(FileError) in
                let found = await world.blocking.run(on: world.loops[0]) { () throws(Never) in Self.lookUp(uid) }
                let end = world.clock.monotonic() + Self.nanoseconds
                known.withLock { known in
                    if known.count >= Self.usersMax { known.removeAll() }
                    known[uid] = Entry(groups: found, end: end)
                }
            })
    }

    /// Blocks.
    private static func lookUp(_ uid: UInt32) -> [UInt32]? {
        var user = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var text = [CChar](repeating: 0, count: 16_384)
        guard getpwuid_r(uid, &user, &text, text.count, &found) == 0, found != nil, let name = user.pw_name else {
            return nil
        }
        var groups = [gid_t](repeating: 0, count: Int(groupsMax))
        var count = groupsMax
        if getgrouplist(name, user.pw_gid, &groups, &count) < 0 { count = min(max(count, 0), groupsMax) }
        return Array(groups.prefix(Int(count)))
    }
}

/// Which user a Kerberos principal is: by the configuration's table and rules, then by name in the registry.
final class Principals: PrincipalSource {
    private let registry: Registry
    private let table: PrincipalMap
    /// One for each kind, in their order.
    private let rules: [PrincipalMap]

    init(_ registry: Registry, _ kerberos: Configuration.Kerberos) {
        self.registry = registry
        // No list of the configuration's is longer than the map takes.
        var table = PrincipalMap()
        for entry in kerberos.principals { _ = table.set(entry.name, to: entry.user) }
        self.table = table
        let kinds: [[PrincipalMap.Rule]] = [
            kerberos.realms.map { .name(realm: $0) }, kerberos.instances.map { .firstPart(realm: $0) },
            kerberos.everybody.map { .everybody(realm: $0.name, user: $0.user) },
        ]
        rules = kinds.map { kind in
            var map = PrincipalMap()
            for rule in kind { _ = map.add(rule) }
            return map
        }
    }

    /// Who is in the table is that user or nobody; a rule whose user is not there leaves the principal to the next one. Nobody may have the
    /// name that is answered.
    func name(of principal: String) -> String? {
        if let name = table.user(of: principal) { return name }
        let names = rules.compactMap { $0.user(of: principal) }
        let users = registry.snapshot.users
        return names.first { users.user($0) != nil } ?? names.first
    }

    func credential(of principal: String) -> Credential? {
        guard let name = name(of: principal), let user = registry.snapshot.users.user(name), !user.isDisabled else {
            return nil
        }
        return user.credential
    }
}

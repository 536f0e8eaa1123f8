import Logging
import Runtime

/// What is to be of a user; nil leaves a thing as it is.
public struct UserChange: Sendable {
    public var secret: Secret?
    public var uid: UInt32?
    public var gid: UInt32?
    /// Names or numbers; a name that no group has makes a group.
    public var groups: [String]?
    public var isDisabled: Bool?

    public init() {}
}

/// A user of the configuration.
public struct DeclaredUser: Sendable {
    public var name: String
    public var change: UserChange
    public var rights: [String: VolumeRights]
    public var place: String

    public init(name: String, change: UserChange, rights: [String: VolumeRights], place: String) {
        self.name = name
        self.change = change
        self.rights = rights
        self.place = place
    }
}

extension Registry {
    public static let userNameBytesMax = 64
    public static let groupsPerUserMax = 1024

    // MARK: By command

    public func addUser(
        _ name: String, _ new: UserChange, rights: [String: VolumeRights]
    ) async throws(RegistryError) -> User {
        try await change { (state) async throws(RegistryError) -> User in
            try Self.refuseDeclared(name, state)
            if let there = state.table.user(name) { throw .exists("user \(there.name)") }
            guard new.secret != nil else { throw .invalid("a user needs a secret") }
            for volume in rights.keys where state.volumes[volume] == nil { throw .unknown("volume \(volume)") }
            for volume in rights.keys where !canKeep(volume, state) { throw .volume(volume, .readOnly) }
            guard state.volumes.keys.contains(where: { canKeep($0, state) }) else {
                throw .invalid("there is no volume that could keep a user")
            }
            let user = try made(name, new, rights, &state)
            try await store(user, &state)
            return state.table.user(name) ?? user
        }
    }

    public func changeUser(_ name: String, _ new: UserChange) async throws(RegistryError) -> User {
        try await editUser(name) { (user, state) throws(RegistryError) in
            try apply(new, to: &user, &state)
        }
    }

    public func removeUser(_ name: String) async throws(RegistryError) {
        try await change { (state) async throws(RegistryError) in
            try Self.refuseDeclared(name, state)
            guard let user = state.table.user(name) else { throw .unknown("user \(name)") }
            let folded = UserTable.folded(name)
            for volume in (state.metas[folded]?.homes ?? []).sorted() where canKeep(volume, state) {
                try await set("user/" + folded, nil, in: volume, state)
            }
            do throws(UserTable.Refusal) { try state.table.remove(user: name) } catch { throw Self.error(error, user) }
            state.metas[folded] = nil
        }
    }

    /// Empty rights take them all away.
    public func grant(_ name: String, _ volume: String, _ rights: VolumeRights) async throws(RegistryError) -> User {
        try await editUser(name) { (user, state) throws(RegistryError) in
            guard state.volumes[volume] != nil else { throw .unknown("volume \(volume)") }
            guard canKeep(volume, state) else { throw .volume(volume, .readOnly) }
            user.rights[volume] = rights.isEmpty ? nil : rights
            if rights.isEmpty { user.keys.removeAll { $0.volume == volume } }
        }
    }

    /// A further pair for S3 and Swift. The secret is shown this once.
    public func addKey(
        _ name: String, _ volume: String, id: String? = nil, secret: Secret? = nil
    ) async throws(RegistryError) -> (id: String, secret: Secret) {
        let id = id ?? "PX" + word(18, Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8))
        let secret =
            secret ?? Secret(word(40, Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-".utf8)))
        _ = try await editUser(name, declaredToo: true) { (user, state) throws(RegistryError) in
            guard let there = state.volumes[volume] else { throw .unknown("volume \(volume)") }
            // Nothing would keep it.
            guard !there.volume.follows else { throw .volume(volume, .readOnly) }
            guard user.rights[volume] != nil else {
                throw .invalid("user \(user.name) has no rights on volume \(volume): proxyfs user grant gives them")
            }
            guard user.keys.count < User.keysMax else { throw .tooMany("\(User.keysMax) keys of a user") }
            user.keys.append(AccessKey(id: id, volume: volume, sealed: seal.seal(secret)))
        }
        return (id, secret)
    }

    public func removeKey(_ name: String, id: String) async throws(RegistryError) {
        _ = try await editUser(name, declaredToo: true) { (user, _) throws(RegistryError) in
            guard let index = user.keys.firstIndex(where: { $0.id == id }) else {
                throw .unknown("key \(id) of user \(user.name)")
            }
            user.keys.remove(at: index)
        }
    }

    /// Keys are no part of what the configuration declares: they may be added to a declared user.
    private func editUser(
        _ name: String, declaredToo: Bool = false, _ edit: (inout User, inout State) throws(RegistryError) -> Void
    ) async throws(RegistryError) -> User {
        try await change { (state) async throws(RegistryError) -> User in
            if !declaredToo || state.metas[UserTable.folded(name)]?.isHost == true {
                try Self.refuseDeclared(name, state)
            }
            guard var user = state.table.user(name) else { throw .unknown("user \(name)") }
            try edit(&user, &state)
            try await store(user, &state)
            return state.table.user(name) ?? user
        }
    }

    private static func refuseDeclared(_ name: String, _ state: State) throws(RegistryError) {
        if let place = state.metas[UserTable.folded(name)]?.place { throw .declared("user \(name)", place: place) }
    }

    private func made(
        _ name: String, _ new: UserChange, _ rights: [String: VolumeRights], _ state: inout State
    ) throws(RegistryError) -> User {
        guard name.utf8.count <= Self.userNameBytesMax, UserTable.isGood(name) else {
            throw Self.error(.badName, User(name: name, uid: 0, gid: 0))
        }
        let uid = new.uid ?? state.table.freeUID
        var user = User(name: name, uid: uid, gid: new.gid ?? uid)
        user.rights = rights.filter { !$0.value.isEmpty }
        try apply(new, to: &user, &state)
        return user
    }

    private func apply(_ new: UserChange, to user: inout User, _ state: inout State) throws(RegistryError) {
        if let secret = new.secret {
            guard !secret.isEmpty, secret.revealed.utf8.count <= 1024 else {
                throw .invalid("a secret has 1 to 1024 bytes")
            }
            user.setSecret(secret, seal)
        }
        if let uid = new.uid { user.uid = uid }
        if let gid = new.gid { user.gid = gid }
        if let isDisabled = new.isDisabled { user.isDisabled = isDisabled }
        guard let groups = new.groups else { return }
        guard groups.count <= Self.groupsPerUserMax else { throw .tooMany("\(Self.groupsPerUserMax) groups of a user") }
        var numbers: Set<UInt32> = []
        for text in groups {
            if let number = UInt32(text) {
                numbers.insert(number)
            } else if let group = state.table.group(text) {
                numbers.insert(group.gid)
            } else {
                let group = Group(name: text, gid: state.table.freeGID)
                do throws(UserTable.Refusal) { try state.table.add(group) } catch {
                    throw .invalid("\"\(text)\" is no name for a group: 1 to 255 bytes without any of : \\ / @")
                }
                numbers.insert(group.gid)
            }
        }
        user.groups = numbers.sorted()
    }

    private func word(_ count: Int, _ alphabet: [UInt8]) -> String {
        precondition(256 % alphabet.count == 0, "each letter is as likely as the others")
        return String(
            decoding: (0..<count).map { _ in
                alphabet[Int(truncatingIfNeeded: random.next() % UInt64(alphabet.count))]
            }, as: UTF8.self)
    }

    // MARK: By the host

    /// Where users of the host are said to be declared.
    public static let hostPlace = "the host's passwd"

    /// The host's own users, all of them, from now on: numbers get names by them, but nobody of them is let in, for
    /// there is no secret. Who has a name or a number here already stays who he is. Answers how many were taken.
    public func setHostUsers(_ users: [User], groups: [Group] = []) async throws(RegistryError) -> Int {
        try await change { (state) async throws(RegistryError) -> Int in
            for name in state.metas.filter(\.value.isHost).keys {
                try? state.table.remove(user: name)
                state.metas[name] = nil
            }
            for group in state.hostGroups { try? state.table.remove(group: group) }
            state.hostGroups.removeAll()
            for group in groups {
                // Who is here already keeps name and number.
                do throws(UserTable.Refusal) { try state.table.addForeign(group) } catch { continue }
                state.hostGroups.append(group.name)
            }
            var taken = 0
            for user in users {
                do throws(UserTable.Refusal) { try state.table.addForeign(user) } catch { continue }
                state.metas[UserTable.folded(user.name)] = Meta(
                    revision: 0, madeAt: 0, place: Self.hostPlace, isDeclared: false, homes: [], isHost: true)
                taken += 1
            }
            return taken
        }
    }

    // MARK: By configuration

    /// What the configuration says of users, all of it: those that it named before and does not now are let in no more.
    /// Answers the names that could not be had, and why.
    public func declare(_ users: [DeclaredUser]) async throws(RegistryError) -> [(name: String, why: RegistryError)] {
        try await change { (state) async throws(RegistryError) -> [(name: String, why: RegistryError)] in
            var problems: [(name: String, why: RegistryError)] = []
            state.hasDeclaredUsers = true
            let names = Set(users.map { UserTable.folded($0.name) })
            for name in state.metas.filter({ $0.value.isDeclared && !names.contains($0.key) }).keys.sorted() {
                state.metas[name]?.place = nil
                guard var user = state.table.user(name), !user.isDisabled else { continue }
                user.isDisabled = true
                do throws(RegistryError) { try await store(user, &state) } catch { problems.append((name, error)) }
            }
            for declared in users {
                let before = state
                do throws(RegistryError) { try await declare(declared, &state) } catch {
                    state = before
                    problems.append((declared.name, error))
                }
            }
            return problems
        }
    }

    private func declare(_ declared: DeclaredUser, _ state: inout State) async throws(RegistryError) {
        let name = UserTable.folded(declared.name)
        var user: User
        if let known = state.table.user(name), state.metas[name]?.isHost != true {
            user = known
            var change = declared.change
            // Sealing makes other bytes each time: what has not changed is not written anew.
            if let secret = change.secret, let old = seal.open(known.sealed), old == secret { change.secret = nil }
            user.isDisabled = false
            user.rights = declared.rights
            user.name = declared.name
            try apply(change, to: &user, &state)
            user.keys.removeAll { declared.rights[$0.volume] == nil }
        } else {
            user = try made(declared.name, declared.change, declared.rights, &state)
        }
        let isSame = state.table.user(name) == user && state.metas[name]?.isDeclared == true
        if !isSame {
            var meta = state.metas[name] ?? newMeta(isDeclared: true)
            meta.isDeclared = true
            state.metas[name] = meta
            try await store(user, &state)
        }
        state.metas[name]?.place = declared.place
    }
}

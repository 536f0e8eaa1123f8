import JSON
import Logging
import Namespace
import Runtime
import S3

extension Control {
    /// `VOLUME`, `VOLUME:ro` or `VOLUME:rw`. Who manages a server is its own user, root, or whoever has its token.
    private static func rights(_ text: String) throws(CommandFailure) -> (volume: String, rights: VolumeRights) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        switch parts.count == 2 ? parts[1] : "rw" {
        case "ro": return (parts[0], .read)
        case "rw": return (parts[0], [.read, .write])
        default: throw .misuse("\"\(text)\": rights are VOLUME:ro or VOLUME:rw")
        }
    }

    private static func word(_ rights: VolumeRights) -> String {
        rights.contains(.write) ? "rw" : "ro"
    }

    private func describe(_ user: User) -> JSON {
        let snapshot = registry.snapshot
        let groups = user.groups.map { gid in JSON.string(snapshot.users.group(gid: gid)?.name ?? "\(gid)") }
        let volumes = user.rights.sorted { $0.key < $1.key }.map { JSON.string("\($0.key):\(Self.word($0.value))") }
        return [
            "name": .string(user.name), "uid": .number(user.uid), "gid": .number(user.gid), "groups": .array(groups),
            "volumes": .array(volumes), "keys": .number(user.keys.count),
            "sid": .string("\(snapshot.users.sid(uid: user.uid))"), "disabled": .bool(user.isDisabled),
            "declared": snapshot.place(ofUser: user.name).map { .string($0) } ?? .null,
        ]
    }

    private func change(_ arguments: inout Arguments) throws(CommandFailure) -> UserChange {
        var change = UserChange()
        change.secret = try arguments.optional("secret").map { Secret($0) }
        change.uid = try arguments.number("uid")
        change.gid = try arguments.number("gid")
        change.groups = try arguments.list("group")
        return change
    }

    func addUser(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let change = try change(&arguments)
        let volumes = try arguments.list("volume")
        try arguments.finish()
        var rights: [String: VolumeRights] = [:]
        for text in volumes ?? (host["default"] == nil ? [] : ["default"]) {
            let (volume, given) = try Self.rights(text)
            rights[volume] = given
        }
        let user = try await registry("adding user \(name)") { () async throws(RegistryError) in
            try await registry.addUser(name, change, rights: rights)
        }
        return Self.message("user \(user.name) added: uid \(user.uid), gid \(user.gid), \(Self.list(user.rights))")
    }

    private static func list(_ rights: [String: VolumeRights]) -> String {
        rights.isEmpty
            ? "no rights on any volume; proxyfs user grant gives them"
            : rights.sorted { $0.key < $1.key }.map { "\($0.key):\(word($0.value))" }.joined(separator: ", ")
    }

    func changeUser(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        var change = try change(&arguments)
        if let disable = try arguments.flag("disable") { change.isDisabled = disable }
        if let enable = try arguments.flag("enable") { change.isDisabled = !enable }
        try arguments.finish()
        let user = try await registry("changing user \(name)") { () async throws(RegistryError) in
            try await registry.changeUser(name, change)
        }
        return Self.message(
            "user \(user.name) changed: uid \(user.uid), gid \(user.gid)\(user.isDisabled ? ", disabled" : "")")
    }

    func removeUser(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        try arguments.finish()
        try await registry("removing user \(name)") { () async throws(RegistryError) in
            try await registry.removeUser(name)
        }
        return Self.message("user \(name) removed; its files stay, under its uid")
    }

    func listUsers(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        try arguments.finish()
        return .array(registry.snapshot.users.allUsers.sorted { $0.name < $1.name }.map { describe($0) })
    }

    func grant(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let (volume, rights) = try Self.rights(try arguments.text("volume"))
        try arguments.finish()
        let user = try await registry("granting rights to user \(name)") { () async throws(RegistryError) in
            try await registry.grant(name, volume, rights)
        }
        return Self.message("user \(user.name): \(Self.list(user.rights))")
    }

    func revoke(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let volume = try arguments.text("volume")
        try arguments.finish()
        let user = try await registry("taking rights from user \(name)") { () async throws(RegistryError) in
            try await registry.grant(name, volume, [])
        }
        return Self.message("user \(user.name): \(Self.list(user.rights))")
    }

    // MARK: Keys

    func addKey(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let volume = try arguments.optional("volume") ?? "default"
        let span: UInt64? = try arguments.number("for")
        try arguments.finish()
        if let span { return try addSession(name, volume, seconds: span / 1_000_000_000) }
        let key = try await registry("adding a key to user \(name)") { () async throws(RegistryError) in
            try await registry.addKey(name, volume)
        }
        return [
            "user": .string(name), "volume": .string(volume), "access_key": .string(key.id),
            "secret_key": .string(key.secret.revealed), "note": "the secret is shown this once",
        ]
    }

    /// A key that ends by itself; nothing is kept of it.
    private func addSession(_ name: String, _ volume: String, seconds: UInt64) throws(CommandFailure) -> JSON {
        guard (60...SessionKey.secondsMax).contains(seconds) else {
            throw .misuse("a key is good for 1m to 7d, or without an end")
        }
        let parent = volume == "default" ? name : "\(volume):\(name)"
        let snapshot = registry.snapshot
        guard let holder = snapshot.holder(accessKey: parent),
            !snapshot.rights(of: holder.user, on: holder.volume).isEmpty
        else { throw .failure("adding a key to user \(name): no such user has rights on volume \(volume)") }
        var salt = [UInt8](repeating: 0, count: SessionKey.saltBytes)
        salt.withUnsafeMutableBytes { world.random.fill($0) }
        let until = world.clock.wall() / 1_000_000_000 + Int64(seconds)
        let key = SessionKey(of: parent, holder.secret, until: until, salt: salt)
        return [
            "user": .string(name), "volume": .string(volume), "access_key": .string(key.accessKey),
            "secret_key": .string(key.secret.revealed), "session_token": .string(key.token),
            "until": .string(Timestamp.extended(seconds: until)),
            "note": "the secret is shown this once; the key ends earlier when the user's secret changes",
        ]
    }

    func listKeys(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.optional("name")
        try arguments.finish()
        let users = registry.snapshot.users
        if let name, users.user(name) == nil { throw .failure("listing keys: there is no user \(name)") }
        let wanted = name.flatMap { users.user($0) }.map { [$0] } ?? users.allUsers
        return .array(
            wanted.flatMap { user in
                user.keys.map {
                    ["access_key": .string($0.id), "user": .string(user.name), "volume": .string($0.volume)]
                }
            })
    }

    func removeKey(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let id = try arguments.text("key")
        try arguments.finish()
        try await registry("removing a key of user \(name)") { () async throws(RegistryError) in
            try await registry.removeKey(name, id: id)
        }
        return Self.message("key \(id) of user \(name) removed")
    }
}

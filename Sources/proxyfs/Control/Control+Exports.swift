import JSON
import Namespace
import Runtime

/// Exports, shares and quotas.
extension Control {
    private func clients(_ texts: [String]) throws(CommandFailure) -> [ExportRecord.Client] {
        var clients: [ExportRecord.Client] = []
        for text in texts { clients.append(try .parse(text)) }
        return clients
    }

    /// The directory is there.
    private func requireDirectory(_ volume: String, _ directory: String) async throws(CommandFailure) {
        let hosted = try host.open(volume)
        do throws(FileError) {
            let found = try await FilePath(hosted.volume, clock: world.clock, loop: loop).find(directory)
            guard found.type == .directory else {
                throw FileError.notDirectory
            }
        } catch {
            throw .failure("\(directory) in volume \(volume) is no directory that could be used: \(error)")
        }
    }

    // MARK: Exports

    func addExport(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let path = try arguments.text("path")
        let clients = try clients(try arguments.list("client") ?? [])
        let durability = try durability(&arguments)
        try arguments.finish()
        guard !clients.isEmpty else {
            throw .misuse("an export names its clients: --client 10.0.0.0/8(rw), and more of them")
        }
        let record = ExportRecord(path: path, clients: clients, durability: durability)
        let (volume, clean) = try await registry("adding the export \(path)") { () async throws(RegistryError) in
            try Registry.parts(path)
        }
        try await requireDirectory(volume, String(ExportRecord(path: clean, clients: []).directory))
        let made = try await registry("adding the export \(path)") { () async throws(RegistryError) in
            try await registry.setExport(record, mustBeNew: true)
        }
        return Self.message("export \(made.path) added, for \(made.clients.map(\.text).joined(separator: " "))")
    }

    func changeExport(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let path = try arguments.text("path")
        let texts = try arguments.list("client")
        let durability = try durability(&arguments)
        try arguments.finish()
        let (_, clean) = try await registry("changing the export \(path)") { () async throws(RegistryError) in
            try Registry.parts(path)
        }
        guard var record = registry.snapshot.exports.first(where: { $0.export.path == clean })?.export else {
            throw .failure("changing the export \(path): there is none; proxyfs export add makes one")
        }
        if let texts { record.clients = try clients(texts) }
        if let durability { record.durability = durability }
        let new = record
        let made = try await registry("changing the export \(path)") { () async throws(RegistryError) in
            try await registry.setExport(new, mustBeNew: false)
        }
        return Self.message("export \(made.path) changed, for \(made.clients.map(\.text).joined(separator: " "))")
    }

    func removeExport(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let path = try arguments.text("path")
        try arguments.finish()
        try await registry("removing the export \(path)") { () async throws(RegistryError) in
            try await registry.removeExport(path)
        }
        return Self.message("export \(path) removed; what clients have mounted there is stale from now on")
    }

    func listExports(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        try arguments.finish()
        let snapshot = registry.snapshot
        return .array(
            snapshot.exports.map { volume, export in
                [
                    "path": .string(export.path), "clients": .array(export.clients.map { .string($0.text) }),
                    "durability": .string(word(export.durability, volume)), "volume": .string(volume),
                    "declared": snapshot.place(ofExport: export.path).map { .string($0) } ?? .null,
                ]
            })
    }

    /// What holds: the override, or the volume's own.
    private func word(_ durability: Durability?, _ volume: String) -> String {
        (durability ?? host[volume]?.durability).map { "\($0)" } ?? "unknown"
    }

    // MARK: Shares

    private func set(_ arguments: inout Arguments, _ share: inout ShareRecord) throws(CommandFailure) {
        if let directory = try arguments.optional("directory") { share.directory = directory }
        if let comment = try arguments.optional("comment") { share.comment = comment }
        if let access = try arguments.optional("access") {
            guard access == "ro" || access == "rw" else { throw .misuse("\"\(access)\": access is ro or rw") }
            share.isReadOnly = access == "ro"
        }
        for (name, path) in [
            ("hidden", \ShareRecord.isHidden), ("encrypt", \.needsEncryption), ("sign", \.needsSigning),
            ("guest", \.allowsGuests), ("hide-unreadable", \.hidesUnreadable),
        ] {
            guard let word = try arguments.optional(name) else { continue }
            guard word == "yes" || word == "no" else { throw .misuse("\"\(word)\": \(name) is yes or no") }
            share[keyPath: path] = word == "yes"
        }
        if let durability = try durability(&arguments) { share.durability = durability }
        try arguments.finish()
    }

    func addShare(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let volume = try arguments.text("volume")
        var share = ShareRecord(name: try arguments.text("name"))
        try set(&arguments, &share)
        try await requireDirectory(volume, share.directory)
        let new = share
        let made = try await registry("adding the share \(share.name)") { () async throws(RegistryError) in
            try await registry.setShare(new, in: volume, mustBeNew: true)
        }
        return Self.message("share \(made.name) added: /\(volume)/\(made.directory)")
    }

    func changeShare(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        guard let (volume, found) = registry.snapshot.share(name) else {
            throw .failure("changing the share \(name): there is none; proxyfs share list shows those that there are")
        }
        var share = found
        try set(&arguments, &share)
        try await requireDirectory(volume, share.directory)
        let new = share
        let made = try await registry("changing the share \(name)") { () async throws(RegistryError) in
            try await registry.setShare(new, in: volume, mustBeNew: false)
        }
        return Self.message("share \(made.name) changed")
    }

    func removeShare(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        try arguments.finish()
        try await registry("removing the share \(name)") { () async throws(RegistryError) in
            try await registry.removeShare(name)
        }
        let rest = registry.snapshot.share(name) == nil ? "" : "; the volume of that name is a share of its own still"
        return Self.message("share \(name) removed\(rest)")
    }

    func listShares(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        try arguments.finish()
        let snapshot = registry.snapshot
        return .array(
            snapshot.shares.map { volume, share in
                [
                    "name": .string(share.name), "volume": .string(volume),
                    "directory": .string("/" + share.directory), "access": share.isReadOnly ? "ro" : "rw",
                    "hidden": .bool(share.isHidden), "encrypt": .bool(share.needsEncryption),
                    "sign": .bool(share.needsSigning), "guest": .bool(share.allowsGuests),
                    "hide_unreadable": .bool(share.hidesUnreadable),
                    "durability": .string(word(share.durability, volume)), "comment": .string(share.comment),
                    "declared": snapshot.place(ofShare: share.name).map { .string($0) } ?? .null,
                ]
            })
    }

    // MARK: Quotas

    private func subject(
        _ arguments: inout Arguments, _ volume: String
    ) async throws(CommandFailure) -> (QuotaSubject, path: String) {
        let tree = try arguments.optional("tree")
        let user = try arguments.optional("user")
        let group = try arguments.optional("group")
        guard [tree, user, group].compactMap({ $0 }).count <= 1 else {
            throw .misuse("a quota is of a tree, of a user, of a group, or without any of these of the volume")
        }
        let users = registry.snapshot.users
        if let tree {
            let hosted = try host.open(volume)
            do throws(FileError) {
                let found = try await FilePath(hosted.volume, clock: world.clock, loop: loop).find(tree)
                guard found.type == .directory else { throw FileError.notDirectory }
                return (.tree(found.file), tree)
            } catch { throw .failure("\(tree) in volume \(volume) is no directory that could have a quota: \(error)") }
        }
        if let user {
            guard let uid = UInt32(user) ?? users.user(user)?.uid else { throw .failure("there is no user \(user)") }
            return (.user(uid), "")
        }
        if let group {
            guard let gid = UInt32(group) ?? users.group(group)?.gid else {
                throw .failure("there is no group \(group)")
            }
            return (.group(gid), "")
        }
        return (.volume, "")
    }

    func setQuota(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let volume = try arguments.text("volume")
        let (subject, path) = try await subject(&arguments, volume)
        var limit =
            registry.snapshot.volumes[volume]?.quotas.first { $0.subject == subject }?.limit ?? QuotaLimit()
        if let number: UInt64 = try arguments.number("soft") { limit.softBytes = number }
        if let number: UInt64 = try arguments.number("hard") { limit.hardBytes = number }
        if let number: UInt64 = try arguments.number("soft-files") { limit.softFiles = number }
        if let number: UInt64 = try arguments.number("hard-files") { limit.hardFiles = number }
        if let number: UInt64 = try arguments.number("grace") { limit.graceNanoseconds = number }
        try arguments.finish()
        let record = QuotaRecord(subject: subject, path: path, limit: limit)
        try await registry("setting a quota in volume \(volume)") { () async throws(RegistryError) in
            try await registry.setQuota(record, in: volume)
        }
        return Self.message("quota of \(name(record)) in volume \(volume) set")
    }

    func removeQuota(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let volume = try arguments.text("volume")
        let (subject, path) = try await subject(&arguments, volume)
        try arguments.finish()
        try await registry("removing a quota in volume \(volume)") { () async throws(RegistryError) in
            try await registry.removeQuota(subject, in: volume)
        }
        let record = QuotaRecord(subject: subject, path: path, limit: QuotaLimit())
        return Self.message("quota of \(name(record)) in volume \(volume) removed")
    }

    func listQuotas(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let wanted = try arguments.optional("volume")
        try arguments.finish()
        if let wanted, host[wanted] == nil { throw .failure("listing quotas: there is no volume \(wanted)") }
        var rows: [JSON] = []
        for (volume, records) in registry.snapshot.volumes.sorted(by: { $0.key < $1.key })
        where wanted == nil || wanted == volume {
            for quota in records.quotas {
                let report = host[volume]?.hosted?.volume.quota(quota.subject)
                rows.append([
                    "volume": .string(volume), "subject": .string(name(quota)),
                    "used": .number(report?.usage.bytes ?? 0), "used_files": .number(report?.usage.files ?? 0),
                    "counted": .bool(report?.isCounted ?? false),
                    "soft": .number(quota.limit.softBytes), "hard": .number(quota.limit.hardBytes),
                    "soft_files": .number(quota.limit.softFiles), "hard_files": .number(quota.limit.hardFiles),
                    "grace_seconds": .number(quota.limit.graceNanoseconds / 1_000_000_000),
                    "grace_left": graceLeft(report),
                ])
            }
        }
        return .array(rows)
    }

    /// Seconds until the first soft limit that is passed binds; null: none is passed.
    private func graceLeft(_ report: QuotaReport?) -> JSON {
        let ends = [report?.bytesGraceEnd, report?.filesGraceEnd].compactMap { $0 }
        guard let end = ends.min() else { return .null }
        let now = UInt64(clamping: world.clock.wall())
        return .number(end > now ? (end - now) / 1_000_000_000 : 0)
    }

    private func name(_ quota: QuotaRecord) -> String {
        let users = registry.snapshot.users
        return switch quota.subject {
        case .volume: "the volume"
        case .tree: "tree \(quota.path)"
        case .user(let uid): "user \(users.user(uid: uid)?.name ?? "\(uid)")"
        case .group(let gid): "group \(users.group(gid: gid)?.name ?? "\(gid)")"
        }
    }
}

import Configuration
import JSON
import Kerberos
import Logging
import Namespace
import Runtime
import SMB

/// SMB on its port: every volume is a share of its name.
final class SMBFrontEnd: Sendable {
    /// From it come the numbers that clients know this server by: the same after every start.
    static let keyFile = "smb.key"
    private static let keyBytes = 32

    private let server: SMBServer

    init(
        _ volumes: Volumes, _ registry: Registry, _ configuration: Configuration, world: World, logger: Logger,
        connectionsMax: Int
    ) throws(SecretFile.Problem) {
        let text = try SecretFile.load(Self.keyFile, bytes: Self.keyBytes, world.disk, world.random)
        let words = stride(from: 0, to: 64, by: 8).compactMap { start in
            UInt32(text.dropFirst(start).prefix(8), radix: 16)
        }
        guard words.count == 8 else { throw .damaged }
        var options = SMBOptions()
        options.connectionsMax = connectionsMax
        options.guid = words.prefix(4).reduce(0) { $0 << 32 | UInt128($1) }
        options.kerberos = Self.tickets(configuration.kerberos, logger)
        let principals = Principals(registry, configuration.kerberos)
        let catalog = Catalog(volumes: volumes, registry: registry, principals: principals)
        server = SMBServer(catalog, options, world: world, logger: logger)
        require(configuration.smb)
    }

    /// Kerberos, where there is a keytab that can be used.
    private static func tickets(_ kerberos: Configuration.Kerberos, _ logger: Logger) -> KerberosCredential? {
        guard let keytab = kerberos.keytab else { return nil }
        // A ticket for another service, caught on its way there, logs nobody on here.
        do throws(KerberosFailure) { return try KerberosCredential(keytab: keytab, service: "cifs") } catch {
            logger.error("no Kerberos for SMB", [.init("keytab", keytab), .init("why", "\(error)")])
            return nil
        }
    }

    /// From now on, of those who are there too.
    func require(_ smb: Configuration.SMB) {
        var protection: SMBProtection = []
        if smb.requiresSigning { protection.insert(.signing) }
        if smb.requiresEncryption { protection.insert(.encryption) }
        server.require(protection)
    }

    // MARK: Showing

    /// The answers to `smb sessions`, `smb opens` and `smb locks`.
    func report(_ what: String) async -> JSON? {
        switch what {
        case "smb sessions":
            let report = await server.report([.sessions])
            return .array(
                report.sessions.map { session in
                    [
                        "session": .string(String(session.id, radix: 16)),
                        "user": session.user.map { .string($0) } ?? .null,
                        "kind": .string(
                            session.isGuest
                                ? "guest" : session.user == nil ? "nobody" : session.byTicket ? "ticket" : "user"),
                        "address": .string(session.address), "dialect": .string(session.dialect),
                        "protection": .string(
                            session.isEncrypted ? "encrypted" : session.isSigned ? "signed" : "none"),
                        "shares": .array(session.shares.map { .string($0) }), "opens": .number(session.opens),
                    ]
                })
        case "smb opens": return .array(await server.report([.opens]).opens.map { .object(Self.members($0)) })
        case "smb locks":
            let report = await server.report([.locks])
            return .array(
                report.locks.map { lock in
                    .object(
                        Self.members(lock.file) + [
                            .init("mode", lock.isExclusive ? "exclusive" : "shared"),
                            .init("first", .number(lock.first)),
                            .init("last", lock.last == .max ? "end" : .number(lock.last)),
                        ])
                })
        default: return nil
        }
    }

    private static func members(_ open: SMBReport.OpenFile) -> [JSON.Member] {
        [
            .init("session", open.session.map { .string(String($0, radix: 16)) } ?? .null),
            .init("user", open.user.map { .string($0) } ?? .null), .init("share", .string(open.share)),
            .init("path", .string(open.path)), .init("inode", .number(open.inode)),
            .init("access", .string(String(open.access, radix: 16))), .init("keeps", .string(open.keeps)),
            .init("durable", .bool(open.isDurable)),
        ]
    }

    // MARK: Listening

    func listen(on address: SocketAddress) throws(Errno) -> Listener { try server.listen(on: address) }

    /// What the registry says at the moment of the question.
    private struct Catalog: SMBCatalog {
        let volumes: Volumes
        let registry: Registry
        let principals: Principals
        private static let pipes = SMBShare(name: "IPC$", comment: "Remote procedures", volume: nil)

        var identities: UserTable { registry.snapshot.users }
        var generation: UInt64 { registry.generation }

        func user(named name: String) -> SMBUser? {
            registry.snapshot.user(smb: name).map {
                SMBUser(name: $0.name, ntHash: $0.ntHash, credential: $0.credential)
            }
        }

        func user(principal: String) -> SMBUser? {
            principals.name(of: principal).flatMap { user(named: $0) }
        }

        func isKnown(_ name: String) -> Bool { registry.snapshot.users.user(smb: name) != nil }

        var takesGuests: Bool { registry.snapshot.shares.contains { $0.share.allowsGuests } }

        func share(named name: String) -> SMBShare? {
            if name.uppercased() == "IPC$" { return Self.pipes }
            return registry.snapshot.share(name).flatMap { share($0.volume, $0.share) }
        }

        var shares: [SMBShare] {
            registry.snapshot.shares.filter { !$0.share.isHidden }.compactMap { share($0.volume, $0.share) } + [
                Self.pipes
            ]
        }

        private func share(_ name: String, _ record: ShareRecord) -> SMBShare? {
            guard let volume = volumes[name] else { return nil }
            var share = SMBShare(name: record.name, comment: record.comment, volume: volume)
            share.isReadOnly = record.isReadOnly
            share.requiresEncryption = record.needsEncryption
            share.requiresSigning = record.needsSigning
            share.allowsGuests = record.allowsGuests
            share.hidesUnreadable = record.hidesUnreadable
            share.directory = Array(record.directory.utf8)
            share.durability = record.durability
            return share
        }

        func rights(of user: SMBUser, on volume: Volume) -> VolumeRights {
            let snapshot = registry.snapshot
            guard let known = snapshot.user(smb: user.name) else { return [] }
            return snapshot.rights(of: known, on: volume.name)
        }
    }
}

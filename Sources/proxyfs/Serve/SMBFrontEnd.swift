import Logging
import Namespace
import Runtime
import SMB

/// SMB on its port: every volume is a share of its name.
final class SMBFrontEnd {
    /// From it come the numbers that clients know this server by: the same after every start.
    static let keyFile = "smb.key"
    private static let keyBytes = 32

    private let server: SMBServer

    init(
        _ volumes: Volumes, _ registry: Registry, world: World, logger: Logger, connectionsMax: Int
    ) throws(SecretFile.Problem) {
        let text = try SecretFile.load(Self.keyFile, bytes: Self.keyBytes, world.disk, world.random)
        let words = stride(from: 0, to: 64, by: 8).compactMap { start in
            UInt32(text.dropFirst(start).prefix(8), radix: 16)
        }
        guard words.count == 8 else { throw .damaged }
        var options = SMBOptions()
        options.connectionsMax = connectionsMax
        options.guid = words.prefix(4).reduce(0) { $0 << 32 | UInt128($1) }
        server = SMBServer(Catalog(volumes: volumes, registry: registry), options, world: world, logger: logger)
    }

    func listen(on address: SocketAddress) throws(Errno) -> Listener { try server.listen(on: address) }

    /// What the registry says at the moment of the question.
    private struct Catalog: SMBCatalog {
        let volumes: Volumes
        let registry: Registry
        private static let pipes = SMBShare(name: "IPC$", comment: "Remote procedures", volume: nil)

        var identities: UserTable { registry.snapshot.users }
        var generation: UInt64 { registry.generation }

        func user(named name: String) -> SMBUser? {
            registry.snapshot.user(smb: name).map {
                SMBUser(name: $0.name, ntHash: $0.ntHash, credential: $0.credential)
            }
        }

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

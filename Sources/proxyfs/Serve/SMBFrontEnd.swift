import Configuration
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
        _ volumes: Volumes, _ users: [Configuration.User], world: World, logger: Logger
    ) throws(SecretFile.Problem) {
        let text = try SecretFile.load(Self.keyFile, bytes: Self.keyBytes, world.disk, world.random)
        let words = stride(from: 0, to: 64, by: 8).compactMap { start in
            UInt32(text.dropFirst(start).prefix(8), radix: 16)
        }
        guard words.count == 8 else { throw .damaged }
        var options = SMBOptions()
        options.guid = words.prefix(4).reduce(0) { $0 << 32 | UInt128($1) }
        var table = UserTable(domain: (words[4], words[5], words[6]))
        for user in users {
            let uid = user.uid ?? table.freeUID
            var entry = User(name: user.name, uid: uid, gid: user.gid ?? uid)
            entry.ntHash = NTHash.of(user.secret.revealed)
            do throws(UserTable.Refusal) { try table.add(entry) } catch {
                logger.warning("user can not use smb", [.init("name", user.name), .init("why", "\(error)")])
            }
        }
        server = SMBServer(Catalog(volumes: volumes, identities: table), options, world: world, logger: logger)
    }

    func listen(on address: SocketAddress) throws(Errno) -> Listener { try server.listen(on: address) }

    private struct Catalog: SMBCatalog {
        let volumes: Volumes
        let identities: UserTable
        private static let pipes = SMBShare(name: "IPC$", comment: "Remote procedures", volume: nil)

        func user(named name: String) -> SMBUser? {
            guard let user = identities.user(smb: name), !user.isDisabled else { return nil }
            return SMBUser(name: user.name, ntHash: user.ntHash, credential: user.credential)
        }

        func share(named name: String) -> SMBShare? {
            if name.uppercased() == "IPC$" { return Self.pipes }
            let volume = volumes[name] ?? volumes.all.first { $0.name.lowercased() == name.lowercased() }
            return volume.map { SMBShare(name: $0.name, volume: $0) }
        }

        var shares: [SMBShare] { volumes.all.map { SMBShare(name: $0.name, volume: $0) } + [Self.pipes] }
    }
}

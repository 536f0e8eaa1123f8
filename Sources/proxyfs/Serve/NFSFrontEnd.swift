import Bytes
import Logging
import Metrics
import NFS
import Namespace
import RPC
import Runtime

/// NFS and MOUNT on one port, streams and datagrams.
final class NFSFrontEnd: Sendable {
    /// File handles carry a code under this key: the same after every start, or all clients' handles are stale.
    static let keyFile = "nfs.key"
    private static let keyBytes = 16

    private let server: RPCServer
    private let world: World
    private let logger: Logger
    private let exports = ExportTable()
    private let rpcbind: Rpcbind
    private let held = Held()

    /// Touched on the first loop only.
    private final class Held: @unchecked Sendable {
        /// Kept as long as its loop runs.
        var datagrams: DatagramSocket?
        var entries: [Rpcbind.Entry] = []
        let turns = TurnQueue(waitingMax: 1024)
    }

    init(_ volumes: Volumes, world: World, logger: Logger, metrics: MetricsRegistry) throws(SecretFile.Problem) {
        let text = try SecretFile.load(Self.keyFile, bytes: Self.keyBytes, world.disk, world.random)
        guard let first = UInt64(text.prefix(16), radix: 16), let second = UInt64(text.suffix(16), radix: 16) else {
            throw .damaged
        }
        let context = NFSContext(
            volumes: volumes, exports: exports, clock: world.clock, key: KeyedHash(first, second))
        server = RPCServer(
            programs: [NFSService(context), MountService(context)], on: world.loops, logger: logger)
        self.world = world
        self.logger = logger
        rpcbind = Rpcbind(pool: world.blocking)
        server.register(in: metrics)
    }

    // MARK: Exports

    /// Serves what the registry says from now on. On a loopback address every volume is exported to this host's own
    /// clients besides, without root squash, to any port, unless an export of its path says otherwise; on any other
    /// one nothing is exported until an export names its clients. On the first loop.
    func export(_ host: VolumeHost, _ snapshot: RegistrySnapshot, at address: SocketAddress) async {
        guard await held.turns.enter() else { return }
        defer { held.turns.leave() }
        var all: [Export] = []
        var paths: Set<String> = []
        for (name, record) in snapshot.exports {
            guard let volume = host.volumes[name] else { continue }
            let directory: Attributes
            do throws(FileError) {
                directory = try await FilePath(volume, clock: world.clock, loop: world.loops[0])
                    .find(String(record.directory))
            } catch {
                logger.warning("export not served", [.init("path", record.path), .init("why", "\(error)")])
                continue
            }
            var clients: [Export.Client] = []
            for client in record.clients { clients += await Self.clients(client, world, logger) }
            paths.insert(record.path)
            // Whoever had a volume mounted before its export was made keeps the handles.
            let isWhole = record.directory.isEmpty
            var export = Export(
                id: isWhole ? Self.identity(of: volume) : record.id, path: record.path, volume: volume.identity,
                root: directory.file, clients: Array(clients.prefix(ExportTable.clientsMax)))
            export.durability = record.durability
            export.restricted = snapshot.restrictedRights(on: name)
            all.append(export)
        }
        if address.isLoopback {
            var here = Export.Client(.loopback)
            here.squash = .none
            here.needsPrivilegedPort = false
            for volume in host.volumes.all where !paths.contains("/" + volume.name) {
                var export = Export(
                    id: Self.identity(of: volume), path: "/" + volume.name, volume: volume.identity,
                    root: volume.root, clients: [here])
                export.restricted = snapshot.restrictedRights(on: volume.name)
                all.append(export)
            }
        }
        if !exports.replace(all) {
            logger.error("exports not changed", [.init("why", "too many, or two of one path or number")])
        }
    }

    /// The same at every start: it is in the clients' handles.
    private static func identity(of volume: Volume) -> UInt32 {
        UInt32(truncatingIfNeeded: volume.identity ^ volume.identity >> 32)
    }

    /// As addresses: names are looked up now, and again whenever something changes and at SIGHUP.
    private static func clients(
        _ client: ExportRecord.Client, _ world: World, _ logger: Logger
    ) async -> [Export.Client] {
        var hosts: [Hosts]
        if let plain = Hosts(client.hosts) {
            hosts = [plain]
        } else {
            let name = client.hosts
            hosts = await world.blocking.run(on: world.loops[0]) { () throws(Never) in HostNames.addresses(name) }
                .map { .network($0, bits: { if case .ipv4 = $0 { 32 } else { 128 } }($0)) }
            if hosts.isEmpty { logger.warning("export names an unknown host", [.init("name", name)]) }
        }
        return hosts.map { hosts in
            var plain = Export.Client(hosts)
            plain.isReadOnly = client.isReadOnly
            plain.squash =
                switch client.squash {
                case .none: .none
                case .root: .root
                case .all: .all
                }
            plain.anonymous = Credential(uid: client.anonymousUID, gid: client.anonymousGID)
            plain.flavors = client.flavors.map { flavor in
                // RFC 2623 2.1: the three services of the Kerberos mechanism.
                switch flavor {
                case .system: AuthFlavor.system
                case .kerberos: 390_003
                case .kerberosIntegrity: 390_004
                case .kerberosPrivacy: 390_005
                }
            }
            plain.needsPrivilegedPort = client.needsPrivilegedPort
            return plain
        }
    }

    // MARK: Listening

    func listen(on address: SocketAddress, _ world: World) throws(Errno) -> Listener {
        let listener = try server.listen(on: address, network: world.network)
        // Some clients ask for the mount over UDP.
        let loop = world.loops[0]
        let (server, network, held) = (server, world.network, held)
        let bound = listener.address
        loop.execute { held.datagrams = try? server.datagrams(on: bound, network: network, loop: loop) }
        return listener
    }

    /// Tells rpcbind. Answers whether there is one: without it clients have to be told the port, and have no locks. On
    /// the first loop.
    func register(_ address: SocketAddress) async -> Bool {
        var entries: [Rpcbind.Entry] = []
        for transport in [Rpcbind.Transport.tcp, .udp] {
            entries.append(
                .init(program: NFS3.program, version: NFS3.version, transport: transport, address: address))
            for version in Mount.versions {
                entries.append(.init(program: Mount.program, version: version, transport: transport, address: address))
            }
        }
        // What another server that did not end well has left there is of no use to anybody.
        if let failure = await rpcbind.unset(entries, on: world.loops[0]), failure == .connectionRefused {
            logger.info("no rpcbind: clients have to name the port")
            return false
        }
        if let failure = await rpcbind.set(entries, on: world.loops[0]) {
            logger.warning("not registered with rpcbind", [.init("why", "\(failure)")])
            _ = await rpcbind.unset(entries, on: world.loops[0])
            return false
        }
        held.entries = entries
        logger.info("registered with rpcbind", [.init("entries", entries.count)])
        return true
    }

    /// Takes back what was told. On the first loop.
    func unregister() async {
        guard !held.entries.isEmpty else { return }
        if let failure = await rpcbind.unset(held.entries, on: world.loops[0]) {
            logger.warning("still registered with rpcbind", [.init("why", "\(failure)")])
        }
        held.entries = []
    }
}

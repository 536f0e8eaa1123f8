import Bytes
import Configuration
import JSON
import Kerberos
import Logging
import Metrics
import NFS
import Namespace
import RPC
import Runtime

/// NFS and what belongs to it (MOUNT, locks, access lists, quotas) on one port, streams and datagrams.
final class NFSFrontEnd: Sendable {
    /// The server's own key: hosts that lock have their numbers by it, and volumes that were served before they had a key their handles.
    static let keyFile = "nfs.key"
    private static let keyBytes = 16

    private let server: RPCServer
    private let world: World
    private let logger: Logger
    private let exports = ExportTable()
    private let rpcbind: Rpcbind
    private let monitor: HostMonitor
    private let mounts: MountService
    private let locks: ServerLocks
    private let held = Held()

    /// Touched on the first loop only.
    private final class Held: @unchecked Sendable {
        /// Kept as long as its loop runs.
        var datagrams: DatagramSocket?
        var entries: [Rpcbind.Entry] = []
        let turns = TurnQueue(waitingMax: 1024)
        /// When names are looked up again, and what was not there is tried again.
        var again: LoopTimer?
        /// When rpcbind is looked at again.
        var look: LoopTimer?
        var isEnding = false
    }

    /// So long a host's new address stays unknown here.
    private static let namesNanoseconds: UInt64 = 300_000_000_000
    /// While a name is unknown, or a volume does not tell who held locks in it.
    private static let retryNanoseconds: UInt64 = 15_000_000_000

    init(
        _ volumes: Volumes, _ registry: Registry, _ kerberos: Configuration.Kerberos, world: World, logger: Logger,
        metrics: MetricsRegistry
    ) throws(SecretFile.Problem) {
        let text = try SecretFile.load(Self.keyFile, bytes: Self.keyBytes, world.disk, world.random)
        guard let first = UInt64(text.prefix(16), radix: 16), let second = UInt64(text.suffix(16), radix: 16) else {
            throw .damaged
        }
        let context = NFSContext(
            volumes: volumes, exports: exports, clock: world.clock, key: HandleKey(first, second),
            groups: UserGroups(registry, world), principals: Principals(registry, kerberos))
        let client = RPCClient(network: world.network, loop: world.loops[0], random: world.random)
        monitor = HostMonitor(context, client: client, random: world.random, logger: logger, name: HostNames.own)
        mounts = MountService(context)
        locks = volumes.locks
        server = RPCServer(
            programs: [
                NFSService(context), mounts, LockService(context, monitor, logger: logger),
                MonitorService(monitor, logger: logger), ACLService(context), QuotaService(context),
            ], flavors: Self.flavors(kerberos, world, logger), on: world.loops, logger: logger)
        self.world = world
        self.logger = logger
        rpcbind = Rpcbind(pool: world.blocking)
        server.register(in: metrics)
    }

    /// Kerberos, where there is a keytab that can be used.
    private static func flavors(
        _ kerberos: Configuration.Kerberos, _ world: World, _ logger: Logger
    ) -> [any SecurityFlavor] {
        guard let keytab = kerberos.keytab else { return [] }
        do throws(KerberosFailure) {
            return [KerberosFlavor.make(try KerberosCredential(keytab: keytab), world)]
        } catch {
            logger.error("no Kerberos for NFS", [.init("keytab", keytab), .init("why", "\(error)")])
            return []
        }
    }

    // MARK: Exports

    /// Serves what the registry says from now on. On a loopback address every volume is exported to this host's own
    /// clients besides, without root squash, to any port, unless an export of its path says otherwise; on any other
    /// one nothing is exported until an export names its clients. On the first loop.
    func export(
        _ host: VolumeHost, _ latest: @escaping @Sendable () -> RegistrySnapshot, at address: SocketAddress
    ) async {
        guard await held.turns.enter() else { return }
        defer { held.turns.leave() }
        let snapshot = latest()
        var all: [Export] = []
        var names = Names()
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
            for client in record.clients { clients += await Self.clients(client, &names, world, logger) }
            if clients.count > ExportTable.clientsMax {
                logger.warning(
                    "export has too many clients",
                    [
                        .init("path", record.path), .init("clients", clients.count),
                        .init("served", ExportTable.clientsMax),
                    ])
            }
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
        // Nobody locks in a volume before those who held locks there may reclaim them.
        replace(known(all))
        await monitor.attach(host.volumes.all)
        let known = known(all)
        replace(known)
        if let timer = held.again { world.loops[0].cancel(timer) }
        held.again = nil
        guard names.areSome || known.count < all.count else { return }
        let isWhole = known.count == all.count && !names.hasUnknown
        held.again = world.loops[0].schedule(after: isWhole ? Self.namesNanoseconds : Self.retryNanoseconds) { [self] in
            held.again = nil
            world.loops[0].task { [self] in await export(host, latest, at: address) }
        }
    }

    /// Those of volumes whose lock clients and keys are known.
    private func known(_ all: [Export]) -> [Export] {
        all.compactMap { export in
            guard let key = monitor.key(of: export.volume) else { return nil }
            var export = export
            export.key = key
            return export
        }
    }

    private func replace(_ all: [Export]) {
        if !exports.replace(all) {
            logger.error("exports not changed", [.init("why", "too many, or two of one path or number")])
        }
    }

    /// What became of names that exports know clients by.
    private struct Names {
        var areSome = false
        var hasUnknown = false
    }

    /// The same at every start: it is in the clients' handles.
    private static func identity(of volume: Volume) -> UInt32 {
        UInt32(truncatingIfNeeded: volume.identity ^ volume.identity >> 32)
    }

    /// As addresses: names are looked up now, and again from time to time, whenever something changes, and at SIGHUP.
    private static func clients(
        _ client: ExportRecord.Client, _ names: inout Names, _ world: World, _ logger: Logger
    ) async -> [Export.Client] {
        var hosts: [Hosts]
        if let plain = Hosts(client.hosts) {
            hosts = [plain]
        } else {
            let name = client.hosts
            names.areSome = true
            hosts = await world.blocking.run(on: world.loops[0]) { () throws(Never) in HostNames.addresses(name) }
                .map { .network($0, bits: { if case .ipv4 = $0 { 32 } else { 128 } }($0)) }
            if hosts.isEmpty {
                names.hasUnknown = true
                logger.warning("export names an unknown host", [.init("name", name)])
            }
            if hosts.count > HostNames.addressesMax {
                hosts = Array(hosts.prefix(HostNames.addressesMax))
                logger.warning(
                    "export names more hosts than are served", [.init("name", name), .init("served", hosts.count)])
            }
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

    // MARK: Showing

    /// The answers to `nfs clients`, `nfs locks` and `nfs stats`.
    func report(_ what: String) -> JSON? {
        let report = NFSReport(mounts, monitor, locks, connections: server.connections)
        switch what {
        case "nfs clients":
            return .array(
                report.clients.map { client in
                    [
                        "address": .string(client.address), "connections": .number(client.connections),
                        "mounts": .array(client.mounts.map { .string($0) }),
                        "lock_name": client.lockName.map { .string($0) } ?? .null, "locks": .number(client.locks),
                    ]
                })
        case "nfs locks":
            return .array(
                report.locks.map { lock in
                    [
                        "address": .string(lock.address), "name": .string(lock.name),
                        "process": .number(Int(lock.process)), "mode": .string(lock.isExclusive ? "write" : "read"),
                        "inode": .number(lock.inode), "first": .number(lock.first),
                        "last": lock.last == .max ? .string("end") : .number(lock.last),
                    ]
                })
        case "nfs stats":
            return [
                "calls": .number(server.calls), "held": .number(server.held), "refused": .number(server.refused),
                "dropped": .number(server.dropped), "clients": .number(report.clients.count),
                "locks": .number(report.locks.count), "waiting": .number(report.waiting),
                "grace": .bool(locks.isInGrace),
            ]
        default: return nil
        }
    }

    // MARK: Listening

    func listen(on address: SocketAddress, _ world: World, connectionsMax: Int) throws(Errno) -> Listener {
        let listener = try server.listen(on: address, network: world.network, connectionsMax: connectionsMax)
        // Some clients ask for the mount over UDP.
        let loop = world.loops[0]
        let (server, network, held, logger) = (server, world.network, held, logger)
        let bound = listener.address
        loop.execute {
            do throws(Errno) {
                held.datagrams = try server.datagrams(on: bound, network: network, loop: loop)
            } catch {
                logger.warning("NFS is not served over UDP", [.init("at", "\(bound)"), .init("why", "\(error)")])
            }
        }
        return listener
    }

    /// What clients may count on.
    struct Registration {
        /// There is an rpcbind, and it knows where NFS is.
        var isThere = false
        /// It leads lock managers of other hosts to ours.
        var hasLocks = false
    }

    /// Programs and their versions, as rpcbind is told.
    private static let programs: [(name: String, number: UInt32, versions: [UInt32])] = [
        ("nfs", NFS3.program, [NFS3.version]), ("mountd", Mount.program, Array(Mount.versions)),
        // Version 2 is a host's own business.
        ("nlockmgr", LockManager.program, [1, 3, 4]), ("status", StatusMonitor.program, [StatusMonitor.version]),
        ("nfs_acl", NFSACL.program, [NFSACL.version]), ("rquotad", RemoteQuota.program, Array(RemoteQuota.versions)),
    ]

    /// Tells rpcbind what is served here. A program that somebody else serves on this host stays his. Without an rpcbind
    /// clients have to be told the port, and have no locks. On the first loop.
    func register(_ address: SocketAddress) async -> Registration {
        var registration = Registration()
        var entries: [Rpcbind.Entry] = []
        for (name, number, versions) in Self.programs {
            if let port = await rival(number, versions[versions.count - 1], address) {
                warn(name, port)
                continue
            }
            if number == LockManager.program { registration.hasLocks = true }
            for transport in held.datagrams == nil ? [.tcp] : [Rpcbind.Transport.tcp, .udp] {
                entries += versions.map {
                    .init(program: number, version: $0, transport: transport, address: address)
                }
            }
        }
        // What another server that did not end well has left there is of no use to anybody.
        if let failure = await rpcbind.unset(entries, on: world.loops[0]), failure == .connectionRefused {
            logger.info("no rpcbind: clients have to name the port, and have no locks")
            return Registration()
        }
        if let failure = await rpcbind.set(entries, on: world.loops[0]) {
            logger.warning("not registered with rpcbind", [.init("why", "\(failure)")])
            _ = await rpcbind.unset(entries, on: world.loops[0])
            return Registration()
        }
        held.entries = entries
        logger.info("registered with rpcbind", [.init("entries", entries.count)])
        registration.isThere = true
        return registration
    }

    /// A program of this host that does not answer in this time is none.
    private static let rivalNanoseconds: UInt64 = 300_000_000

    /// The port of somebody else on this host who serves the program, and answers.
    private func rival(_ program: UInt32, _ version: UInt32, _ address: SocketAddress) async -> UInt16? {
        let here = RPCTarget(.loopback(port: 0), program: program, version: version)
        let client = monitor.client
        for transport in [Rpcbind.Transport.tcp, .udp] {
            do throws(RPCClientError) {
                let port = try await client.port(of: here, over: transport, asking: .tcp)
                if port == address.port { continue }
                var there = here
                there.address = .loopback(port: port)
                _ = try await client.call(there, 0, over: transport, [], tries: 1, wait: Self.rivalNanoseconds)
                return port
            } catch { continue }
        }
        return nil
    }

    private func warn(_ name: String, _ port: UInt16) {
        let what =
            switch name {
            case "status": "the host's rpc.statd: restarts of lock clients are told to it, not to this server"
            case "nlockmgr":
                "the kernel's lock manager of this host, which has an NFS mount with locks: clients' locks go there"
            default: "another server on this host"
            }
        logger.warning(
            "left to another in rpcbind",
            [.init("program", name), .init("port", Int(port)), .init("is", what)])
    }

    /// So long an rpcbind that starts later, or starts anew, does not know of us.
    private static let rpcbindNanoseconds: UInt64 = 15_000_000_000

    /// Tells rpcbind again whenever it has forgotten. On the first loop.
    func watchRpcbind(_ address: SocketAddress) {
        guard !held.isEnding else { return }
        held.look = world.loops[0].schedule(after: Self.rpcbindNanoseconds) { [self] in
            world.loops[0].task { [self] in
                if await isForgotten(), !held.isEnding { _ = await register(address) }
                watchRpcbind(address)
            }
        }
    }

    /// There is an rpcbind, and it leads nobody to any NFS.
    private func isForgotten() async -> Bool {
        let here = RPCTarget(.loopback(port: 0), program: NFS3.program, version: NFS3.version)
        do throws(RPCClientError) {
            _ = try await monitor.client.port(of: here, over: .tcp, asking: .tcp)
            return false
        } catch { return error == .notRegistered }
    }

    /// Takes back what was told. On the first loop.
    func unregister() async {
        held.isEnding = true
        if let timer = held.look { world.loops[0].cancel(timer) }
        guard !held.entries.isEmpty else { return }
        if let failure = await rpcbind.unset(held.entries, on: world.loops[0]) {
            logger.warning("still registered with rpcbind", [.init("why", "\(failure)")])
        }
        held.entries = []
    }
}

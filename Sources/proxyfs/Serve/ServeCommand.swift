import Admin
import CShim
import Configuration
import Glibc
import HTTP
import Logging
import Metrics
import Namespace
import Runtime

enum ServeCommand {
    static func run(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        let settings = try Settings(Settings.options(words, of: "serve"))
        // Before the first thread: all of them take over what is held back.
        shim_signals_hold()
        let data = try DataDirectory(settings.configuration.data)
        let server = try Server(settings, data)
        try server.start()
        Terminal.print("proxyfs: ready\n")
        // For people: scripts read the line above and nothing else.
        if isatty(1) == 1 { Terminal.print(server.welcome) }
        return server.serve()
    }
}

/// The rooms put together. The main thread starts it, then has nothing to do but to wait for signals.
final class Server {
    /// The contract gives 30 seconds for everything; what is left of it is for closing volumes.
    static let drainNanoseconds: UInt64 = 20_000_000_000
    /// A disk that hangs must not keep the process for ever: the system ends it then.
    static let stopSeconds: UInt32 = 29
    static let openFilesWanted: UInt64 = 65_536
    static let loopsMax = 64
    /// Of each, and the fewest: a listener that takes nobody in is none.
    static let connectionsMax = 16_384
    static let connectionsMin = 16

    private let settings: Settings
    /// What holds now, by key: what needs a restart is told at each reading until that has come.
    private var running: [String: String]
    private let data: DataDirectory
    private let world: World
    private let logger: Logger
    private let metrics = MetricsRegistry()
    private let admin: AdminService
    private let host: VolumeHost
    private let control: Control
    private let service: ControlService
    private var nfs: NFSFrontEnd?
    private var registration = NFSFrontEnd.Registration()
    private var smb: SMBFrontEnd?
    private var tls: TLSServer?
    private var madeCertificate: TLSCertificate?
    /// Of one listener: all of them together leave the volumes the files that they need.
    private let connectionsMax: Int
    private var listeners: [(name: String, listener: Listener)] = []

    init(_ settings: Settings, _ data: DataDirectory) throws(CommandFailure) {
        self.settings = settings
        running = Self.values(settings)
        self.data = data
        let openFiles = shim_open_files(Self.openFilesWanted)
        connectionsMax = Self.connections(settings.configuration.ports, openFiles: openFiles)
        let cores = min(max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1), Self.loopsMax)
        do {
            world = try World.real(disk: data.disk, loops: cores)
        } catch {
            throw .failure(
                "can not start \(cores) event loops and their threads: \(error); raise the limits of this user")
        }
        let clock = world.clock
        logger = Logger(
            level: settings.configuration.log.level, format: settings.configuration.log.format,
            wall: { clock.wall() }, monotonic: { clock.monotonic() })
        let token: AdminToken
        do {
            token = try AdminToken.load(world.disk, world.random)
        } catch {
            throw Self.failure(error, data.path + "/" + AdminToken.file)
        }
        metrics.addProcess(clock)
        metrics.add(loops: world.loops)
        host = VolumeHost(world: world, data: data.path, logger: logger)
        let connected = host.connected
        metrics.addStores { connected.withLock { $0 } }
        let running = host.running
        metrics.addLags { running.withLock { $0 } }
        let seal = try Offline.sealingKey(world, data.path)
        control = Control(world: world, host: host, seal: seal, logger: logger, isServing: true)
        service = ControlService(control, logger: logger)
        admin = AdminService(token: token, metrics: metrics, version: Version.json, logger: logger)
        let service = service
        admin.add(ControlService.path, .init([.post]) { service.take($0) })
        if openFiles < Self.openFilesWanted {
            logger.warning("few open files", [.init("limit", openFiles), .init("wanted", Self.openFilesWanted)])
        }
    }

    /// What each listener may take: a quarter of the files is kept for volumes, whose log must never lack one.
    static func connections(_ ports: Configuration.Ports, openFiles: UInt64) -> Int {
        let listeners = [ports.nfs, ports.smb, ports.http, ports.https, ports.admin].count { $0 != 0 }
        let files = Int(clamping: openFiles) / 4 * 3 - ControlService.connectionsMax
        return min(max(files / max(listeners, 1), connectionsMin), connectionsMax)
    }

    private static func failure(_ problem: SecretFile.Problem, _ path: String) -> CommandFailure {
        let why =
            switch problem {
            case .failed(let code): "\(code)"
            case .damaged: "what is in it is no token; remove it, and the next start makes another"
            }
        return .failure("can not read or make \(path): \(why)")
    }

    func start() throws(CommandFailure) {
        let configuration = settings.configuration
        logger.info(
            "starting",
            [
                .init("version", Version.number), .init("process", Int(getpid())), .init("data", data.path),
                .init("loops", world.loops.count),
            ])
        let (control, settings) = (control, settings)
        if let failure = Offline.wait(
            on: control.loop,
            { () async -> CommandFailure? in
                do throws(CommandFailure) { try await control.open(settings) } catch { return error }
                return nil
            })
        {
            throw failure
        }
        try requireVolume()
        if configuration.ports.nfs != 0 { try startNFS(configuration) }
        if configuration.ports.smb != 0 { try startSMB(configuration) }
        try startHTTP(configuration)
        if configuration.ports.admin != 0 {
            var limits = HTTPLimits()
            limits.connectionsMax = connectionsMax
            let server = HTTPServer(admin, limits: limits, clock: world.clock)
            let address = try Self.address(configuration, configuration.ports.admin)
            do {
                let listener = try server.listen(on: address, network: world.network, loops: world.loops)
                listeners.append(("admin", listener))
            } catch {
                throw .failure(
                    "can not listen on \(address) for admin: \(error); stop whoever listens there, or choose another "
                        + "port with --admin-port")
            }
        }
        try listenForCommands()
        metrics.addListeners(listeners)
        for (name, listener) in listeners {
            logger.info("listening", [.init("name", name), .init("address", describing: listener.address)])
        }
        admin.set(.ready)
    }

    private func startNFS(_ configuration: Configuration) throws(CommandFailure) {
        let address = try Self.address(configuration, configuration.ports.nfs)
        let front: NFSFrontEnd
        do throws(SecretFile.Problem) {
            front = try NFSFrontEnd(
                host.volumes, control.registry, configuration.kerberos, world: world, logger: logger, metrics: metrics)
        } catch {
            throw Self.failure(error, data.path + "/" + NFSFrontEnd.keyFile)
        }
        nfs = front
        let (host, registry, loop) = (host, control.registry, control.loop)
        let settle: @Sendable () async -> Void = { await front.export(host, { registry.snapshot }, at: address) }
        control.whenChanged(settle)
        control.whenAsked("nfs") { front.report($0) }
        Offline.wait(on: loop, settle)
        do throws(Errno) {
            let listener = try front.listen(on: address, world, connectionsMax: connectionsMax)
            listeners.append(("nfs", listener))
            registration = Offline.wait(on: loop) {
                let known = await front.register(listener.address)
                front.watchRpcbind(listener.address)
                return known
            }
        } catch {
            throw .failure(
                "can not listen on \(address) for nfs: \(error); stop whoever listens there, or choose another port "
                    + "with --nfs-port")
        }
    }

    private func startHTTP(_ configuration: Configuration) throws(CommandFailure) {
        let ports = configuration.ports
        guard ports.http != 0 || ports.https != 0 else { return }
        let front = HTTPFrontEnd(
            host.volumes, registry: control.registry, configuration, world: world, logger: logger)
        for (name, port) in [("http", ports.http), ("https", ports.https)] where port != 0 {
            let address = try Self.address(configuration, port)
            if name == "https" { tls = try HTTPFrontEnd.tls(configuration, &madeCertificate) }
            do throws(Errno) {
                listeners.append(
                    (
                        name,
                        try front.listen(
                            on: address, world, connectionsMax: connectionsMax, tls: name == "https" ? tls : nil)
                    ))
            } catch {
                throw .failure(
                    "can not listen on \(address) for \(name): \(error); stop whoever listens there, or choose another "
                        + "port with --\(name)-port")
            }
        }
    }

    /// With some volumes the others are served; with none there is nothing to do.
    private func requireVolume() throws(CommandFailure) {
        let host = host
        let entries = Offline.wait(on: control.loop) { host.entries }
        guard entries.allSatisfy({ $0.hosted == nil }), let first = entries.first else { return }
        throw .failure("can not open the volume \(first.name): \(first.problem ?? "it is not there")")
    }

    private func listenForCommands() throws(CommandFailure) {
        guard let socket = ControlSocket(data: data.path) else {
            throw .failure("can not open \(data.path) for the socket of commands: \(Errno(errno))")
        }
        var limits = HTTPLimits()
        limits.connectionsMax = ControlService.connectionsMax
        do throws(Errno) {
            let listener = try HTTPServer(service, limits: limits, clock: world.clock).listen(
                on: socket.address, network: world.network, loops: [control.loop])
            listeners.append(("control", listener))
        } catch {
            throw .failure("can not listen on \(data.path)/\(ControlService.socket) for commands: \(error)")
        }
    }

    /// What to paste: a line for each front end.
    var welcome: String {
        let name = host.volumes.all.map(\.name).sorted { $0 == "default" && $1 != "default" }.first ?? "default"
        var text = ""
        if let (address, port, shown) = place("nfs") { text += mounting(name, address, port, shown) }
        if let (_, port, shown) = place("smb") {
            text += "\nMount it over SMB, as root, for user NAME:\n"
            text += "    mount -t cifs -o vers=3.1.1,port=\(port),username=NAME //\(shown)/\(name) /mnt\n"
            text += "  without mounting: smbclient -p \(port) -U NAME //\(shown)/\(name)\n"
        }
        for scheme in ["http", "https"] {
            guard let (_, port, shown) = place(scheme) else { continue }
            let host = shown.contains(":") ? "[\(shown)]" : shown
            text += "\nUse it over S3, with access key \(name == "default" ? "" : name + ":")NAME and NAME's secret:\n"
            text += "    aws --endpoint-url \(scheme)://\(host):\(port) s3 mb s3://papers\n"
        }
        if place("smb") != nil || place("http") != nil || place("https") != nil {
            text += "\nMake a user for that: proxyfs user add NAME --random --volume \(name) --data \(data.path)\n"
        }
        return text
    }

    /// Where clients find a front end, and how it is called there; nil: it is off.
    private func place(_ front: String) -> (SocketAddress, UInt16, String)? {
        guard let address = listeners.first(where: { $0.name == front })?.listener.address, let port = address.port
        else { return nil }
        return (address, port, address.isLoopback ? settings.configuration.address : "THIS-HOST")
    }

    private func mounting(_ name: String, _ nfs: SocketAddress, _ port: UInt16, _ shown: String) -> String {
        var text = "\nMount it over NFS, as root:\n"
        let ports = "tcp,port=\(port),mountport=\(port)"
        if registration.hasLocks, !nfs.isLoopback {
            text += "    mount -t nfs -o vers=3,\(ports) \(shown):/\(name) /mnt\n"
        } else {
            text += "    mount -t nfs -o vers=3,nolock,\(ports) \(shown):/\(name) /mnt\n"
            text += "  nolock: \(lockHindrance); programs' locks hold on one client only\n"
        }
        if !nfs.isLoopback {
            text +=
                "  first name its clients: proxyfs export add '/\(name)' --client 'NETWORK(rw)' --data \(data.path)\n"
        }
        return text
    }

    private var lockHindrance: String {
        if !registration.isThere { return "there is no rpcbind on this host, which NFS locks need" }
        if !registration.hasLocks { return "another lock manager is registered with this host's rpcbind" }
        return "a host's own lock manager and this server's can not both be registered with one rpcbind"
    }

    private func startSMB(_ configuration: Configuration) throws(CommandFailure) {
        let address = try Self.address(configuration, configuration.ports.smb)
        let front: SMBFrontEnd
        do throws(SecretFile.Problem) {
            front = try SMBFrontEnd(
                host.volumes, control.registry, configuration, world: world, logger: logger,
                connectionsMax: connectionsMax)
        } catch {
            throw Self.failure(error, data.path + "/" + SMBFrontEnd.keyFile)
        }
        smb = front
        control.whenAsked("smb") { await front.report($0) }
        do throws(Errno) {
            listeners.append(("smb", try front.listen(on: address)))
        } catch {
            throw .failure(
                "can not listen on \(address) for smb: \(error); stop whoever listens there, or choose another port "
                    + "with --smb-port")
        }
    }

    static func address(_ configuration: Configuration, _ port: UInt16) throws(CommandFailure) -> SocketAddress {
        guard let address = SocketAddress(numeric: configuration.address, port: port) else {
            throw .failure(
                "can not listen on \"\(configuration.address)\": it is no IPv4 or IPv6 address; names are not looked up, "
                    + "give --address a number, such as 127.0.0.1 or ::")
        }
        return address
    }

    // MARK: Signals

    /// Until SIGTERM; everything has ended then.
    func serve() -> ExitStatus {
        while true {
            switch shim_signal_wait(-1) {
            case Int32(SHIM_SIGNAL_HANGUP): reload()
            case Int32(SHIM_SIGNAL_TERMINATE): return stop()
            default: break
            }
        }
    }

    private func stop() -> ExitStatus {
        alarm(Self.stopSeconds)
        logger.info("stopping", [.init("connections", listeners.reduce(0) { $0 + $1.listener.active })])
        admin.set(.waiting("stopping"))
        let rest = Guarded(listeners.count)
        for (_, listener) in listeners {
            listener.drain(within: Self.drainNanoseconds) {
                let isLast = rest.withLock { count in
                    count -= 1
                    return count == 0
                }
                if isLast { shim_signal_wake() }
            }
        }
        while rest.withLock({ $0 }) > 0 {
            if shim_signal_wait(-1) == Int32(SHIM_SIGNAL_TERMINATE) {
                logger.warning("stopped at once: told to stop twice")
                return .failure
            }
        }
        let (control, nfs) = (control, nfs)
        let isClosed = Offline.wait(on: control.loop) {
            await nfs?.unregister()
            return await control.close()
        }
        // Threads end with the process: see `Offline`.
        logger.info("stopped")
        return isClosed ? .success : .failure
    }

    // MARK: Configuration

    /// Keys that hold as soon as they are read again.
    private static let changeable: Set<String> = [
        "log.level", "tls.certificate", "tls.key", "tls.client_authorities", "tls.client_required", "smb.signing",
        "smb.encryption",
    ]

    private func reload() {
        let fresh: Settings
        do {
            fresh = try Settings(settings.options)
        } catch {
            logger.error("configuration not changed", [.init("why", error.message)])
            return
        }
        let new = Self.values(fresh)
        // Before it is said what holds.
        let isCertified = reloadCertificate(fresh.configuration)
        var changes = 0
        for key in Set(running.keys).union(new.keys).sorted() where running[key] != new[key] {
            changes += 1
            let fields: [LogField] = [
                .init("key", key), .init("from", running[key] ?? "none"), .init("to", new[key] ?? "none"),
            ]
            if key.hasPrefix("tls."), tls != nil, !isCertified {
                // It is looked at again by the next reload.
                logger.warning("configuration change does not hold yet", fields)
            } else if Self.changeable.contains(key) || key.hasPrefix("tls.certificate.") {
                logger.info("configuration changed", fields)
                running[key] = new[key]
            } else {
                logger.warning("configuration change needs a restart", fields)
            }
        }
        logger.level = fresh.configuration.log.level
        smb?.require(fresh.configuration.smb)
        // Not waited for: a volume that is frozen holds it up, and this thread hears the signal to stop.
        let (control, logger, found) = (control, logger, changes)
        control.loop.task {
            await control.declare(fresh)
            logger.info("configuration read again", [.init("changes", found)])
        }
    }

    /// The files may be others under the same names. Connections that live keep the certificate that they began with. False:
    /// what is configured does not hold.
    private func reloadCertificate(_ configuration: Configuration) -> Bool {
        guard let tls else { return true }
        do throws(CommandFailure) {
            try HTTPFrontEnd.reload(tls, configuration, &madeCertificate)
            logger.info("certificate read again")
            return true
        } catch {
            logger.error("certificate not changed", [.init("why", error.message)])
            return false
        }
    }

    private static func values(_ settings: Settings) -> [String: String] {
        Dictionary(settings.loaded.settings.map { ($0.key, $0.value) }) { first, _ in first }
    }
}

import Configuration
import Headhunter
import JSON
import Logging
import Namespace
import Runtime

/// Does what commands ask for, in a running server or, when there is none, in the command's own process: one code path
/// for both. On `loop`.
final class Control: Sendable {
    /// Commands that wait for their turn.
    static let waitingMax = 256

    let world: World
    let host: VolumeHost
    let registry: Registry
    let loop: EventLoop
    let logger: Logger
    let isServing: Bool
    private let turns = TurnQueue(waitingMax: Control.waitingMax)
    /// A later reading of the configuration is not overtaken by an earlier one.
    private let readings = TurnQueue(waitingMax: Control.waitingMax)
    /// Brings a change to the front ends; a command is answered when it holds there.
    private let settle = Guarded<@Sendable () async -> Void>({})

    init(world: World, host: VolumeHost, seal: any SecretSeal, logger: Logger, isServing: Bool) {
        self.world = world
        self.host = host
        self.logger = logger
        self.isServing = isServing
        loop = world.loops[0]
        registry = Registry(loop: loop, clock: world.clock, random: world.random, seal: seal)
    }

    /// Mounts that are kept and could not be made: by volume and path, and why.
    let unmounted = Guarded<[String: [String: String]]>([:])

    /// What a front end knows of its clients, by command.
    typealias Report = @Sendable (String) async -> JSON?
    /// By the commands' first word.
    private let reports = Guarded<[String: Report]>([:])

    func whenAsked(_ protocolName: String, _ report: @escaping Report) {
        reports.withLock { $0[protocolName] = report }
    }

    func whenChanged(_ settle: @escaping @Sendable () async -> Void) { self.settle.withLock { $0 = settle } }

    /// Opens the volumes, and reads what they keep.
    func open(_ settings: Settings) async throws(CommandFailure) {
        host.opened.withLock { $0 = { [weak self] hosted in await self?.attachLate(hosted, settings) } }
        host.overtaken.withLock { $0 = { [weak self] name in await self?.detachOvertaken(name) } }
        for hosted in try await host.openAll(settings.configuration) { try await attach(hosted.volume) }
        await declare(settings)
    }

    /// A volume whose store was not there when the server started.
    private func attachLate(_ hosted: HostedVolume, _ settings: Settings) async {
        do throws(CommandFailure) { try await attach(hosted.volume) } catch {
            logger.error("volume not served", [.init("name", hosted.volume.name), .init("why", error.message)])
            return
        }
        await declare(settings)
        await settled()
    }

    /// Another server has it: nothing of it is shown here any more.
    private func detachOvertaken(_ name: String) async {
        do throws(RegistryError) { try await registry.detach(name) } catch {
            logger.error("volume not detached", [.init("name", name), .init("why", "\(error)")])
        }
        await settled()
    }

    private func attach(_ volume: Volume) async throws(CommandFailure) {
        do throws(RegistryError) {
            for problem in try await registry.attach(volume) {
                logger.error("record left out", [.init("volume", volume.name), .init("why", "\(problem)")])
            }
        } catch { throw Self.failure("reading what volume \(volume.name) keeps", error) }
        await mountAll(volume.name)
    }

    /// One that has just been opened by command. Another server may take it before it is here.
    private func attachNew(_ name: String) async throws(CommandFailure) -> HostedVolume {
        guard let hosted = host[name]?.hosted else { throw .failure("volume \(name) was closed meanwhile") }
        try await attach(hosted.volume)
        guard host[name]?.hosted === hosted else {
            // Given up before it was attached: nobody else takes it away again.
            await detachOvertaken(name)
            throw .failure("volume \(name) was closed meanwhile")
        }
        return hosted
    }

    /// What the configuration says now.
    private let declared = Guarded<Settings?>(nil)

    /// What it says of a volume holds from the volume's opening on.
    private func declareAgain() async {
        if let settings = declared.withLock({ $0 }) { await declare(settings) }
    }

    /// Users of the configuration, of options and of the other sources, from now on.
    func declare(_ settings: Settings) async {
        declared.withLock { $0 = settings }
        guard await readings.enter() else {
            return logger.error("not as the configuration says", [.init("why", "too many readings of it wait already")])
        }
        defer { readings.leave() }
        let users = settings.users.map { user in
            var change = UserChange()
            change.secret = user.secret
            change.uid = user.uid
            change.gid = user.gid
            change.groups = user.groups
            let rights = Dictionary(user.volumes.map { ($0, [.read, .write] as VolumeRights) }) { first, _ in first }
            return DeclaredUser(name: user.name, change: change, rights: rights, place: user.place)
        }
        do throws(RegistryError) {
            let shares = settings.configuration.shares.map { share in
                var record = ShareRecord(name: share.name, directory: share.directory)
                record.comment = share.comment
                record.isReadOnly = share.isReadOnly
                record.isHidden = share.isHidden
                record.needsEncryption = share.needsEncryption
                record.needsSigning = share.needsSigning
                record.allowsGuests = share.allowsGuests
                record.hidesUnreadable = share.hidesUnreadable
                record.durability = share.durability.flatMap { VolumeHost.durability($0.rawValue) }
                return DeclaredShare(record, volume: share.volume, place: share.place)
            }
            try await registry.declare(settings.exports, shares)
            // They go first and come last: who is declared has a name or a number before the host does.
            _ = try await registry.setHostUsers([])
            for problem in try await registry.declare(users) {
                logger.error("user not as declared", [.init("name", problem.name), .init("why", "\(problem.why)")])
            }
            if settings.configuration.hostUsers {
                let (users, groups) = await world.blocking.run(on: loop) { () throws(Never) in
                    (HostUsers.all(), HostUsers.groups())
                }
                let taken = try await registry.setHostUsers(users, groups: groups)
                logger.info(
                    "host's users",
                    [.init("found", users.count), .init("taken", taken), .init("groups", groups.count)])
            }
        } catch { logger.error("not as the configuration says", [.init("why", "\(error)")]) }
        await settled()
    }

    func close() async -> Bool { await host.closeAll() }

    func settled() async { await settle.withLock { $0 }() }

    // MARK: Commands

    func run(_ request: ControlRequest, _ meter: Meter = Meter()) async -> Result<JSON, CommandFailure> {
        do throws(CommandFailure) {
            var arguments = Arguments(request.arguments, meter)
            let (isChange, body) = try operation(request.command)
            // What changes nothing does not wait: a change may wait for a frozen volume, and the release must come by.
            guard isChange else { return .success(try await body(&arguments)) }
            guard await turns.enter() else { throw .failure("too many commands wait already; try again") }
            defer { turns.leave() }
            let value = try await body(&arguments)
            await settled()
            logger.info("command", [.init("name", request.command)])
            return .success(value)
        } catch { return .failure(error) }
    }

    typealias Operation = (inout Arguments) async throws(CommandFailure) -> JSON

    private func operation(_ command: String) throws(CommandFailure) -> (isChange: Bool, Operation) {
        switch command {
        case "volume create": return (true, createVolume)
        case "volume take": return (true, takeVolume)
        case "volume follow": return (true, followVolume)
        case "volume list": return (false, listVolumes)
        case "volume show": return (false, showVolume)
        case "volume delete": return (true, deleteVolume)
        case "volume checkpoint": return (false, checkpoint)
        case "volume freeze": return (false, freeze)
        case "volume release": return (false, release)
        case "volume mount": return (true, addMount)
        case "volume unmount": return (true, removeMount)
        case "volume mounts": return (false, listMounts)
        case "user add": return (true, addUser)
        case "user change": return (true, changeUser)
        case "user remove": return (true, removeUser)
        case "user list": return (false, listUsers)
        case "user grant": return (true, grant)
        case "user revoke": return (true, revoke)
        case "user key add": return (true, addKey)
        case "user key list": return (false, listKeys)
        case "user key remove": return (true, removeKey)
        case "bucket create": return (true, createBucket)
        case "bucket list": return (false, listBuckets)
        case "bucket stat": return (false, showBucket)
        case "export add": return (true, addExport)
        case "export change": return (true, changeExport)
        case "export remove": return (true, removeExport)
        case "export list": return (false, listExports)
        case "share add": return (true, addShare)
        case "share change": return (true, changeShare)
        case "share remove": return (true, removeShare)
        case "share list": return (false, listShares)
        case "quota set": return (true, setQuota)
        case "quota remove": return (true, removeQuota)
        case "quota list": return (false, listQuotas)
        case "nfs clients", "nfs locks", "nfs stats": return (false, report(command, "nfs"))
        case "smb sessions", "smb opens", "smb locks": return (false, report(command, "smb"))
        case "explain": return (false, explain)
        default: throw .misuse("this server knows no command \"\(command)\"; is it of another version?")
        }
    }

    private func report(_ command: String, _ name: String) -> Operation {
        { [self] (arguments) async throws(CommandFailure) in
            try arguments.finish()
            guard let report = reports.withLock({ $0[name] }), let answer = await report(command) else {
                throw .failure(
                    "\(command): no server serves \(name.uppercased()) here; start it, or name its data directory "
                        + "with --data")
            }
            return answer
        }
    }

    static func failure(_ doing: String, _ error: RegistryError) -> CommandFailure {
        if case .invalid = error { return .misuse("\(doing): \(error)") }
        return .failure("\(doing): \(error)")
    }

    func registry<Value: Sendable>(
        _ doing: String, _ body: () async throws(RegistryError) -> Value
    ) async throws(CommandFailure) -> Value {
        do throws(RegistryError) { return try await body() } catch { throw Self.failure(doing, error) }
    }

    static func message(_ text: String) -> JSON { ["message": .string(text)] }

    /// On the volume's own loop.
    func care<Value: Sendable>(
        _ doing: String, _ hosted: HostedVolume,
        _ body: @escaping @Sendable (HostedVolume) async throws(HostingError) -> Value
    ) async throws(CommandFailure) -> Value {
        let result = await hosted.loop.task { () async -> Result<Value, HostingError> in
            do throws(HostingError) { return .success(try await body(hosted)) } catch { return .failure(error) }
        }.value
        switch result {
        case .success(let value): return value
        case .failure(let error): throw .failure("\(doing): \(VolumeHost.text(error))")
        }
    }

    // MARK: Volumes

    func durability(_ arguments: inout Arguments) throws(CommandFailure) -> Durability? {
        guard let word = try arguments.optional("durability") else { return nil }
        guard let durability = VolumeHost.durability(word) else {
            throw .misuse("\"\(word)\" is no durability: store, log or memory")
        }
        return durability
    }

    private func createVolume(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let durability = try durability(&arguments) ?? .log
        let store = try arguments.optional("store") ?? "directory"
        let log = try logPlace(&arguments)
        let lease = try lease(&arguments)
        let size = try size(&arguments)
        try arguments.finish()
        let wasThere = try await host.create(
            name, durability, store: store, log: log, lease: lease, size: size, meter: arguments.meter)
        _ = try await attachNew(name)
        await declareAgain()
        return Self.message(
            wasThere
                ? "volume \(name): there was one in its folder already; it is served again, durability \(durability)"
                : "volume \(name) made, durability \(durability)")
    }

    private func size(_ arguments: inout Arguments) throws(CommandFailure) -> ByteSize {
        guard let bytes: UInt64 = try arguments.number("size") else { return Configuration.Volume.standardSize }
        let (size, sizes) = (ByteSize(amount: bytes), Configuration.Volume.sizes)
        guard sizes.contains(size) else {
            throw .misuse("a volume's size is \(sizes.lowerBound) to \(sizes.upperBound), not \(size)")
        }
        return size
    }

    private func logPlace(_ arguments: inout Arguments) throws(CommandFailure) -> Configuration.LogPlace {
        guard let word = try arguments.optional("log") else { return .local }
        guard let place = Configuration.LogPlace(word) else {
            throw .misuse("\"\(word)\" is no place of a log: local, store, or the path of a directory")
        }
        return place
    }

    private func lease(_ arguments: inout Arguments) throws(CommandFailure) -> Configuration.Lease {
        guard let word = try arguments.optional("lease") else { return .byLogPlace }
        guard let lease = Configuration.Lease(word) else {
            throw .misuse(
                "\"\(word)\" is no lease: off, auto, or a time of \(Configuration.Lease.lengths.lowerBound) to \(Configuration.Lease.lengths.upperBound)"
            )
        }
        return lease
    }

    private func takeVolume(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let durability = try durability(&arguments) ?? .log
        let store = try arguments.optional("store")
        let log = try logPlace(&arguments)
        let lease = try lease(&arguments)
        let size = try size(&arguments)
        try arguments.finish()
        if let store, host[name] == nil {
            _ = try await host.create(
                name, durability, store: store, log: log, lease: lease, size: size, takesOver: true,
                meter: arguments.meter)
        } else {
            _ = try await host.take(name, arguments.meter)
        }
        let hosted = try await attachNew(name)
        await declareAgain()
        let warning =
            hosted.ownerBeforeMayAnswer
            ? "; its server before keeps no lease that counts: see to it that it does not run any more, for it may answer until it meets the store"
            : ""
        return Self.message("volume \(name) goes on here from what its store has" + warning)
    }

    private func followVolume(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let store = try arguments.text("store")
        let size = try size(&arguments)
        try arguments.finish()
        guard store != "directory" else {
            throw .misuse("a volume of this server's own directory is nobody else's: name the store that it lies in")
        }
        _ = try await host.create(name, .log, store: store, size: size, isReadOnly: true, meter: arguments.meter)
        let hosted = try await attachNew(name)
        await declareAgain()
        return Self.message(
            "volume \(name) is open to be read" + (hosted.shown.map { ", as its header \($0.header) says" } ?? ""))
    }

    private func listVolumes(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        try arguments.finish()
        var rows: [JSON] = []
        for entry in host.entries { rows.append(await describe(entry)) }
        return .array(rows)
    }

    private func showVolume(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        try arguments.finish()
        guard let entry = host[name] else {
            throw .failure("there is no volume \(name); proxyfs volume list shows those that there are")
        }
        return await describe(entry)
    }

    /// One that does not answer is told of beside the others.
    private func describe(_ entry: VolumeHost.Entry) async -> JSON {
        var members: [JSON.Member] = [
            .init("name", .string(entry.name)), .init("durability", .string("\(entry.durability)")),
            .init("store", .string(entry.store)), .init("log", .string("\(entry.log)")),
            .init("size", .number(entry.size.bytes)),
        ]
        if let hosted = entry.hosted {
            let lag = hosted.storeLag
            // Counting would wait for the lease.
            if !hosted.mayAnswer {
                members += [
                    .init("state", "waiting"),
                    .init(
                        "problem", "its store was not reached for longer than its lease: nobody is answered until it is"
                    ),
                ]
            } else {
                do throws(CommandFailure) {
                    let (totals, isFrozen) = try await care("counting volume \(entry.name)", hosted) {
                        (hosted) async throws(HostingError) in (try await hosted.totals(), hosted.isFrozen)
                    }
                    let state = isFrozen ? "frozen" : hosted.volume.isReadOnly ? "read-only" : "open"
                    members += [
                        .init("state", .string(state)), .init("files", .number(totals.files)),
                        .init("directories", .number(totals.directories)), .init("bytes", .number(totals.bytes)),
                    ]
                    if let trouble = lag.trouble { members.append(.init("problem", .string(trouble))) }
                } catch { members += [.init("state", "failed"), .init("problem", .string(error.message))] }
            }
            if let shown = hosted.shown {
                members += [
                    .init("header", .number(shown.header)),
                    .init("header_time", .number(UInt64(clamping: shown.made / 1_000_000_000))),
                    .init("age_seconds", .number(shown.age / 1_000_000_000)),
                ]
            }
            members += [
                .init("lag_bytes", .number(lag.bytes)), .init("lag_seconds", .number(lag.nanoseconds / 1_000_000_000)),
            ]
        } else {
            members += [.init("state", "not open"), .init("problem", .string(entry.problem ?? ""))]
        }
        members.append(.init("declared", entry.place.map { .string($0) } ?? .null))
        return .object(members)
    }

    private func deleteVolume(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let isSure = try arguments.flag("yes") ?? false
        try arguments.finish()
        guard let entry = host[name] else {
            throw .failure("there is no volume \(name); proxyfs volume list shows those that there are")
        }
        if entry.place == nil, !isSure {
            throw .misuse("deleting volume \(name) destroys all that is in it; say --yes to do it")
        }
        if let hosted = entry.hosted, !hosted.mayAnswer {
            throw .failure("volume \(name) waits for its store: whether another server has it is not known")
        }
        try await requireUnmounted(name)
        if entry.place == nil, entry.hosted != nil {
            do throws(RegistryError) {
                if !entry.isReadOnly { try await registry.evacuate(name) }
                try await registry.detach(name)
            } catch { throw Self.failure("deleting volume \(name)", error) }
            await settled()
        }
        let isWhole = try await host.delete(name, arguments.meter)
        return Self.message(
            entry.isReadOnly
                ? "volume \(name) is not read here any more; its objects at \(entry.store) are another's, and were left"
                : isWhole
                    ? "volume \(name) deleted"
                    : "volume \(name) is no longer this server's; it was not open, or another one has it, so its objects at \(entry.store) were left"
        )
    }

    private func checkpoint(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        try arguments.finish()
        let hosted = try host.open(name)
        guard hosted.shown == nil else { throw .failure("checkpoint of volume \(name): \(VolumeHost.onlyRead)") }
        guard !hosted.isFrozen else {
            throw .failure("checkpoint of volume \(name): it is frozen; proxyfs volume release \(name) lets it go on")
        }
        arguments.meter.follow("checkpoint of volume \(name)", unit: "KiB") { hosted.unstoredBytes >> 10 }
        try await care("checkpoint of volume \(name)", hosted) { (hosted) async throws(HostingError) in
            try await hosted.checkpoint()
        }
        return Self.message("volume \(name): all that was written up to now is in the store")
    }

    private func freeze(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        try arguments.finish()
        guard isServing else {
            throw .failure("no server serves volume \(name), so nothing changes it: there is nothing to freeze")
        }
        let hosted = try host.open(name)
        guard hosted.shown == nil else { throw .failure("freezing volume \(name): \(VolumeHost.onlyRead)") }
        arguments.meter.follow("freezing volume \(name)", unit: "KiB") { hosted.unstoredBytes >> 10 }
        let isFrozen = try await care("freezing volume \(name)", hosted) { (hosted) async throws(HostingError) in
            try await hosted.freeze()
        }
        guard isFrozen else { throw .failure("freezing volume \(name): it was released meanwhile") }
        return Self.message("volume \(name) stands still: changes wait until proxyfs volume release \(name)")
    }

    private func release(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        try arguments.finish()
        let wasFrozen = try await care("releasing volume \(name)", try host.open(name)) {
            (hosted) async throws(HostingError) -> Bool in
            defer { hosted.release() }
            return hosted.isFrozen
        }
        return Self.message(wasFrozen ? "volume \(name) goes on" : "volume \(name) was not frozen")
    }
}

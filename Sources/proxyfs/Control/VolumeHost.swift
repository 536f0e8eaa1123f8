import Configuration
import Headhunter
import Logging
import Namespace
import ObjectStore
import Runtime

/// The volumes of a data directory: those that the configuration declares, and those made by command, which a file
/// `volume.json` in their folder says. On `loop` only; each volume works on a loop of its own.
final class VolumeHost: Sendable {
    /// Below the data directory, a folder for each volume.
    static let folder = "volumes"
    static let descriptor = "volume.json"
    static let descriptorBytesMax = 4096
    static let halfDeleted = "its deletion was not completed: proxyfs volume delete goes on with it"
    /// A volume as it was when its deletion began.
    struct Doomed: Sendable {
        var identity: String
        var header: UInt64
    }

    /// What is left of a deleted volume; no volume has a dot in its name.
    static let deleted = ".deleted-"

    struct Entry: Sendable {
        var name: String
        var durability: Durability
        /// `directory`, a store's name, or its address.
        var store = "directory"
        /// Where the configuration declares it; nil: made by command.
        var place: String?
        var hosted: HostedVolume?
        /// Where the log is that counts.
        var log = Configuration.LogPlace.local
        /// How long it goes on answering without a look at its store.
        var lease = Configuration.Lease.byLogPlace
        /// What clients are shown.
        var size = Configuration.Volume.standardSize
        /// It is another server's, or a copy: only read here, of a store that is only read.
        var isReadOnly = false
        /// To a store elsewhere.
        var connected: ConnectedStore?
        /// Why it is not open.
        var problem: String?
        /// It may be there some time later.
        var mayComeBack = false
        /// It is being made.
        var isNew = false
        /// Some of it may be gone already.
        var isDeleting = false
        /// What was there when its deletion began.
        var doomed: Doomed?
        /// Another server has it, and this one is not yet done with its folder.
        var isLeaving = false
    }

    let world: World
    let loop: EventLoop
    let data: String
    let logger: Logger
    let volumes = Volumes()
    let book = Book()
    /// Told of volumes that open later than the server.
    let opened = Guarded<@Sendable (HostedVolume) async -> Void>({ _ in })
    /// Told of volumes that another server has taken over, before they are given up.
    let overtaken = Guarded<@Sendable (String) async -> Void>({ _ in })
    /// By volume, for whoever counts requests: from any thread.
    let connected = Guarded<[String: ConnectedStore]>([:])
    /// The same for whoever shows how far their stores lag.
    let running = Guarded<[String: HostedVolume]>([:])

    final class Book: @unchecked Sendable {
        var entries: [String: Entry] = [:]
        var options = HeadhunterOptions()
        var configuration = Configuration()
        var nextLoop = 0
        /// All volumes had their first try.
        var isServing = false
    }

    init(world: World, data: String, logger: Logger) {
        self.world = world
        self.data = data
        self.logger = logger
        loop = world.loops[0]
    }

    var entries: [Entry] { book.entries.values.sorted { $0.name < $1.name } }
    subscript(name: String) -> Entry? { book.entries[name] }

    func open(_ name: String) throws(CommandFailure) -> HostedVolume {
        guard let entry = book.entries[name] else {
            throw .failure("there is no volume \(name); proxyfs volume list shows those that there are")
        }
        guard let hosted = entry.hosted else {
            throw .failure("volume \(name) is not open: \(entry.problem ?? "it is being opened or deleted")")
        }
        return hosted
    }

    // MARK: Opening

    /// Opens all of them, and answers those that are open; `opened` is told of those that come later. One that can not be
    /// opened is told of in its entry, and the others are served.
    func openAll(_ configuration: Configuration) async throws(CommandFailure) -> [HostedVolume] {
        book.options = HeadhunterOptions(configuration.engine)
        book.configuration = configuration
        for volume in configuration.volumes {
            book.entries[volume.name] = Entry(
                name: volume.name, durability: Self.durability(volume.durability), store: volume.store,
                place: volume.place, log: volume.log, lease: volume.lease, size: volume.size,
                isReadOnly: volume.isReadOnly)
        }
        for (name, descriptor) in try await found() where book.entries[name] == nil {
            switch descriptor {
            case .good(let durability, let store, let log, let lease, let size, let isReadOnly):
                book.entries[name] = Entry(
                    name: name, durability: durability, store: store, place: nil, log: log, lease: lease, size: size,
                    isReadOnly: isReadOnly)
            case .bad(let why):
                // It is there, and said to be: nobody is to take its name, or it for deleted.
                book.entries[name] = Entry(name: name, durability: .log, place: nil, problem: why)
                logger.error("volume not open", [.init("name", name), .init("why", why)])
            case .deleting(let store, let log, let doomed):
                book.entries[name] = Entry(
                    name: name, durability: .log, store: store, place: nil, log: log, problem: Self.halfDeleted,
                    isDeleting: true, doomed: doomed)
            case .none: break
            }
        }
        let names = book.entries.keys.sorted().filter { book.entries[$0]?.problem == nil }
        guard !names.isEmpty else {
            book.isServing = true
            return []
        }
        // A store that does not answer holds up none of the others, and is asked again later.
        let far = names.count { book.entries[$0]?.store != "directory" }
        let gate = OpenGate(near: names.count - far, far: far)
        for name in names { loop.task { await self.openPatiently(name, gate) } }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            gate.continuation = continuation
            _ = loop.schedule(after: Self.openFarNanoseconds) { gate.goWithoutFar() }
            _ = loop.schedule(after: Self.openNanoseconds) { gate.open() }
            gate.look()
        }
        for name in names where book.entries[name]?.hosted == nil && book.entries[name]?.problem == nil {
            // Behind an owner that did not close nothing is said before its lease is over.
            let why = "its store has not answered yet, or an owner before it may still answer"
            book.entries[name]?.problem = why
            logger.error("volume not open", [.init("name", name), .init("why", why)])
        }
        // From here on who comes is told of: nobody is missed, and nobody comes twice.
        book.isServing = true
        return entries.compactMap(\.hosted)
    }

    private static let openNanoseconds: UInt64 = 60_000_000_000
    /// For volumes whose store is elsewhere: those that are here do not wait for longer.
    private static let openFarNanoseconds: UInt64 = 5_000_000_000
    private static let retryNanoseconds: ClosedRange<UInt64> = 2_000_000_000...60_000_000_000

    /// Waits for the first try of each volume. On the loop.
    private final class OpenGate: @unchecked Sendable {
        private var near: Int
        private var far: Int
        private var waitsForFar = true
        var continuation: UnsafeContinuation<Void, Never>?

        init(near: Int, far: Int) {
            self.near = near
            self.far = far
        }

        func passed(isFar: Bool) {
            if isFar { far -= 1 } else { near -= 1 }
            look()
        }

        func goWithoutFar() {
            waitsForFar = false
            look()
        }

        func look() { if near == 0, far == 0 || !waitsForFar { open() } }

        func open() {
            continuation?.resume()
            continuation = nil
        }
    }

    /// Tries until the volume is open, or there is no use in trying.
    private func openPatiently(_ name: String, _ gate: OpenGate) async {
        var pause = Self.retryNanoseconds.lowerBound
        var isFirst = true
        while let entry = book.entries[name], entry.hosted == nil {
            do throws(CommandFailure) {
                try await open(entry: name)
                if isFirst, !book.isServing { return gate.passed(isFar: entry.store != "directory") }
                guard let hosted = book.entries[name]?.hosted else { return }
                return await opened.withLock { $0 }(hosted)
            } catch {
                book.entries[name]?.problem = error.message
                logger.error("volume not open", [.init("name", name), .init("why", error.message)])
            }
            if isFirst, !book.isServing { gate.passed(isFar: entry.store != "directory") }
            isFirst = false
            guard book.entries[name]?.mayComeBack == true else { return }
            await loop.sleep(nanoseconds: pause)
            pause = min(pause * 2, Self.retryNanoseconds.upperBound)
        }
    }

    /// Goes on from the store alone with a volume whose log is elsewhere.
    func take(_ name: String, _ meter: Meter) async throws(CommandFailure) -> HostedVolume {
        for _ in 0..<Self.leavingRounds where book.entries[name]?.isLeaving == true {
            await loop.sleep(nanoseconds: Self.leavingNanoseconds)
        }
        guard let entry = book.entries[name] else {
            throw .failure("there is no volume \(name) here; name its store with --store")
        }
        guard !entry.isReadOnly else { throw .failure("volume \(name): \(Self.onlyRead)") }
        guard entry.hosted == nil else { throw .failure("volume \(name) is open here: there is nothing to take") }
        guard !entry.isLeaving else { throw .failure("volume \(name) is just being given up: try again") }
        guard !entry.isDeleting else { throw .failure("volume \(name): \(Self.halfDeleted)") }
        try await open(entry: name, takesOver: true, meter: meter)
        guard let hosted = book.entries[name]?.hosted else { throw .failure("volume \(name) was closed meanwhile") }
        return hosted
    }

    func open(
        entry name: String, takesOver: Bool = false, meter: Meter = Meter()
    ) async throws(CommandFailure) {
        guard let entry = book.entries[name] else { return }
        book.entries[name]?.mayComeBack = false
        let loop = world.loops[book.nextLoop % world.loops.count]
        book.nextLoop += 1
        let locks = volumes.locks
        let home: Home
        do throws(CommandFailure) { home = try self.home(of: name, entry.log) } catch {
            // A directory of several hosts may be mounted later.
            book.entries[name]?.mayComeBack = true
            throw error
        }
        let (world, folder) = (home.world, home.folder)
        var options = book.options
        options.logIsInStore = entry.log == .store
        if case .path = entry.log { options.logIsShared = true }
        options.takesOver = takesOver
        options.follows = entry.isReadOnly
        let described = try StoreCommand.describe(entry.store, book.configuration)
        if let described, let other = neighbour(of: described, for: entry) {
            throw .failure("volume \(other) has its objects at \(described.address), or around it: name another prefix")
        }
        let connected = try described.map { (store) throws(CommandFailure) in
            try ConnectedStore(store, world: world, loop: loop, isReadOnly: entry.isReadOnly)
        }
        // A folder of this host is kept from others by its lock.
        if let connected, !entry.isReadOnly {
            options.leaseNanoseconds = entry.lease.nanoseconds(
                entry.log, storeDecides: connected.store.capabilities.decides)
            if case .path = entry.log, options.leaseNanoseconds == 0 {
                logger.warning(
                    "volume without a lease: if the lock of its log's directory is lost, what is promised until the next look is lost, too",
                    [.init("name", name), .init("store", entry.store)])
            }
        }
        let (settings, mayMake) = (
            options, !entry.isReadOnly && (entry.place != nil || entry.isNew || entry.store == "directory")
        )
        // How much there is to be read nobody knows before it was.
        meter.follow("opening volume \(name)", unit: "requests") {
            (connected?.store.currentCounters.requests ?? 0, nil)
        }
        let result = await loop.task { () async -> Result<HostedVolume, HostingError> in
            do throws(HostingError) {
                return .success(
                    try await HostedVolume.open(
                        name, folder: folder, durability: entry.durability, world: world, loop: loop, locks: locks,
                        options: settings, mayMake: mayMake && !takesOver, shownBytes: entry.size.bytes,
                        connect: connected?.connect(creates: !entry.isReadOnly)))
            } catch { return .failure(error) }
        }.value
        switch result {
        case .success(let hosted):
            guard book.entries[name] != nil else {
                // It was deleted, or the server is ending.
                await closeAnyway(hosted)
                connected?.stop()
                return
            }
            guard volumes.add(hosted.volume) else {
                await closeAnyway(hosted)
                connected?.stop()
                throw .failure("another volume has its name, or it is a copy of another one that is served")
            }
            book.entries[name]?.hosted = hosted
            book.entries[name]?.connected = connected
            if let connected {
                self.connected.withLock { $0[name] = connected }
                if !hosted.isReadOnly { hosted.loop.task { await connected.collect() } }
            }
            watch(hosted)
            book.entries[name]?.problem = nil
            logger.info(
                "volume open",
                [.init("name", name), .init("durability", "\(entry.durability)"), .init("store", entry.store)])
            if case .path(let path) = entry.log, !hosted.isReadOnly, settings.leaseNanoseconds == 0 {
                logger.warning(
                    "no lease: what is acknowledged after the lock of the log's directory was lost, is lost",
                    [.init("name", name), .init("path", path)])
            }
            await hosted.loop.task {
                hosted.whenOvertaken { [self] in self.loop.task { await self.giveUp(name, hosted) } }
            }.value
            for what in hosted.damage {
                logger.error(
                    "volume damaged",
                    [.init("name", name), .init("what", what), .init("readOnly", "\(hosted.isReadOnly)")])
            }
        case .failure(let error):
            connected?.stop()
            if case .store = error { book.entries[name]?.mayComeBack = true }
            if case .volume(.unavailable) = error { book.entries[name]?.mayComeBack = true }
            // Its owner may make it, or a copy begin to come.
            if case .volume(.noVolume) = error, entry.isReadOnly { book.entries[name]?.mayComeBack = true }
            // Whoever has it now may end, and this server is the next.
            if case .inUse = error, case .path = entry.log { book.entries[name]?.mayComeBack = true }
            throw .failure("can not open \(home.path): \(Self.text(error))")
        }
    }

    /// Another server has the volume: it is served no more, and may be taken again.
    private func giveUp(_ name: String, _ hosted: HostedVolume) async {
        guard let entry = book.entries[name], entry.hosted === hosted else { return }
        logger.error("volume taken over", [.init("name", name), .init("why", "another server has it")])
        book.entries[name]?.hosted = nil
        book.entries[name]?.problem = Self.overtakenText
        // Nobody takes it again before its folder is free.
        book.entries[name]?.isLeaving = true
        _ = volumes.remove(name)
        // What other volumes' stores hold up keeps nobody from the folder.
        let (loop, told) = (loop, overtaken.withLock { $0 })
        let telling = loop.task { await told(name) }
        await hosted.loop.task { await hosted.giveUp() }.value
        disconnect(entry)
        await telling.value
        book.entries[name]?.isLeaving = false
    }

    private static let leavingRounds = 600
    private static let leavingNanoseconds: UInt64 = 50_000_000

    private static let overtakenText =
        "another server has taken it over; proxyfs volume take brings it back"
    /// Trouble with its store or its disk has one line at its beginning, and one at its end.
    private func watch(_ hosted: HostedVolume) {
        let (logger, name) = (logger, hosted.volume.name)
        running.withLock { $0[name] = hosted }
        hosted.whenTroubled { trouble in
            if let trouble {
                logger.error("volume in trouble", [.init("name", name), .init("why", trouble)])
            } else {
                logger.info("volume out of trouble", [.init("name", name)])
            }
        }
    }

    /// Where a volume's folder is: log, stage and lock, and its objects where they are in no store elsewhere.
    struct Home {
        var world: World
        var folder: String
        /// For people.
        var path: String
    }

    func home(of name: String, _ log: Configuration.LogPlace) throws(CommandFailure) -> Home {
        try Self.home(of: name, log, world: world, data: data)
    }

    static func home(
        of name: String, _ log: Configuration.LogPlace, world: World, data: String
    ) throws(CommandFailure) -> Home {
        guard case .path(let path) = log else {
            return Home(world: world, folder: folder + "/" + name, path: "\(data)/\(folder)/\(name)")
        }
        do throws(Errno) {
            let other = World(
                clock: world.clock, random: world.random, disk: try RealDisk(path: path), network: world.network,
                blocking: world.blocking, loops: world.loops)
            return Home(world: other, folder: name, path: "\(path)/\(name)")
        } catch { throw .failure("can not open the directory \(path) of the log of volume \(name): \(error)") }
    }

    /// Flushes and checkpoints all of them. False: one could not be closed as it should; its log has all promises.
    func closeAll() async -> Bool {
        let all = entries
        book.entries = [:]
        // A store that hangs keeps none of the other volumes from its last checkpoint.
        let tasks = all.compactMap { entry in
            entry.hosted.map { hosted in loop.task { await self.closeLast(entry, hosted) } }
        }
        var isGood = true
        for task in tasks where await !task.value { isGood = false }
        return isGood
    }

    private func closeLast(_ entry: Entry, _ hosted: HostedVolume) async -> Bool {
        do throws(CommandFailure) {
            try await close(hosted)
            disconnect(entry)
            logger.info("volume closed", [.init("name", entry.name)])
            return true
        } catch {
            logger.error("volume not closed", [.init("name", entry.name), .init("why", error.message)])
            return false
        }
    }

    /// A volume whose objects are at the same place of a store as this one's would be, or above or below it.
    /// One that is not open counts as well: it may come back, or be half deleted. Of two that begin together the first by
    /// name stays.
    private func neighbour(of store: Configuration.Store, for entry: Entry) -> String? {
        for other in entries where other.name != entry.name {
            guard let its = try? StoreCommand.describe(other.store, book.configuration), its.overlaps(store) else {
                continue
            }
            if entry.isNew || other.hosted != nil || other.isDeleting || other.name < entry.name { return other.name }
        }
        return nil
    }

    /// After the volume: it needs its store to the last.
    func disconnect(_ entry: Entry) {
        connected.withLock { $0[entry.name] = nil }
        running.withLock { $0[entry.name] = nil }
        entry.connected?.stop()
    }

    /// Of one that nobody is to use here, whatever becomes of its last checkpoint: its log has all promises.
    func closeAnyway(_ hosted: HostedVolume) async {
        do throws(CommandFailure) { try await close(hosted) } catch {
            logger.error("volume not closed", [.init("name", hosted.volume.name), .init("why", error.message)])
        }
    }

    private func close(_ hosted: HostedVolume) async throws(CommandFailure) {
        let failure = await hosted.loop.task { () async -> HostingError? in
            do throws(HostingError) { try await hosted.close() } catch { return error }
            return nil
        }.value
        if let failure { throw .failure(Self.text(failure)) }
    }
}

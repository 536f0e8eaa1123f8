import Bytes
import Configuration
import Headhunter
import JSON
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
    /// What is left of a deleted volume; no volume has a dot in its name.
    private static let deleted = ".deleted-"

    struct Entry: Sendable {
        var name: String
        var durability: Durability
        /// `directory`, a store's name, or its address.
        var store = "directory"
        /// Where the configuration declares it; nil: made by command.
        var place: String?
        var hosted: HostedVolume?
        /// To a store elsewhere.
        var connected: ConnectedStore?
        /// Why it is not open.
        var problem: String?
    }

    let world: World
    let loop: EventLoop
    let data: String
    let logger: Logger
    let volumes = Volumes()
    private let book = Book()
    /// By volume, for whoever counts requests: from any thread.
    let connected = Guarded<[String: ConnectedStore]>([:])

    private final class Book: @unchecked Sendable {
        var entries: [String: Entry] = [:]
        var options = HeadhunterOptions()
        var configuration = Configuration()
        var nextLoop = 0
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

    /// Opens all of them. One that can not be opened is told of in its entry, and the others are served.
    func openAll(_ configuration: Configuration) async throws(CommandFailure) {
        book.options = Self.options(configuration.engine)
        book.configuration = configuration
        for volume in configuration.volumes {
            book.entries[volume.name] = Entry(
                name: volume.name, durability: Self.durability(volume.durability), store: volume.store,
                place: volume.place)
        }
        for (name, descriptor) in try await found() where book.entries[name] == nil {
            switch descriptor {
            case .good(let durability, let store):
                book.entries[name] = Entry(name: name, durability: durability, store: store, place: nil)
            case .bad(let why):
                // It is there, and said to be: nobody is to take its name, or it for deleted.
                book.entries[name] = Entry(name: name, durability: .log, place: nil, problem: why)
                logger.error("volume not open", [.init("name", name), .init("why", why)])
            case .none: break
            }
        }
        for name in book.entries.keys.sorted() where book.entries[name]?.problem == nil {
            do throws(CommandFailure) { try await open(entry: name) } catch {
                book.entries[name]?.problem = error.message
                logger.error("volume not open", [.init("name", name), .init("why", error.message)])
            }
        }
    }

    private func open(entry name: String) async throws(CommandFailure) {
        guard let entry = book.entries[name] else { return }
        let loop = world.loops[book.nextLoop % world.loops.count]
        book.nextLoop += 1
        let (world, options, locks, folder) = (world, book.options, volumes.locks, Self.folder + "/" + name)
        let described = try StoreCommand.describe(entry.store, book.configuration)
        let connected = try described.map { (store) throws(CommandFailure) in
            try ConnectedStore(store, world: world, loop: loop)
        }
        let hasLog = await blocking { Self.hasLog(folder, world.disk) }
        let result = await loop.task { () async -> Result<HostedVolume, HostingError> in
            do throws(HostingError) {
                return .success(
                    try await HostedVolume.open(
                        name, folder: folder, durability: entry.durability, world: world, loop: loop, locks: locks,
                        options: options, connect: connected?.connect(hasLog: hasLog)))
            } catch { return .failure(error) }
        }.value
        switch result {
        case .success(let hosted):
            guard volumes.add(hosted.volume) else {
                _ = await loop.task { try? await hosted.close() }.value
                connected?.stop()
                throw .failure("another volume has its name, or it is a copy of another one that is served")
            }
            book.entries[name]?.hosted = hosted
            book.entries[name]?.connected = connected
            if let connected { self.connected.withLock { $0[name] = connected } }
            book.entries[name]?.problem = nil
            logger.info(
                "volume open",
                [.init("name", name), .init("durability", "\(entry.durability)"), .init("store", entry.store)])
        case .failure(let error):
            connected?.stop()
            throw .failure("can not open \(data)/\(folder): \(Self.text(error))")
        }
    }

    /// Flushes and checkpoints all of them. False: one could not be closed as it should; its log has all promises.
    func closeAll() async -> Bool {
        var isGood = true
        for entry in entries {
            guard let hosted = entry.hosted else { continue }
            do throws(CommandFailure) {
                try await close(hosted)
                disconnect(entry)
                logger.info("volume closed", [.init("name", entry.name)])
            } catch {
                isGood = false
                logger.error("volume not closed", [.init("name", entry.name), .init("why", error.message)])
            }
        }
        book.entries = [:]
        return isGood
    }

    /// After the volume: it needs its store to the last.
    private func disconnect(_ entry: Entry) {
        connected.withLock { $0[entry.name] = nil }
        entry.connected?.stop()
    }

    private func close(_ hosted: HostedVolume) async throws(CommandFailure) {
        let failure = await hosted.loop.task { () async -> HostingError? in
            do throws(HostingError) { try await hosted.close() } catch { return error }
            return nil
        }.value
        if let failure { throw .failure(Self.text(failure)) }
    }

    // MARK: Making and deleting

    /// Answers whether there was a volume in the folder already, which is served again then.
    func create(
        _ name: String, _ durability: Durability, store: String = "directory"
    ) async throws(CommandFailure) -> Bool {
        if let fault = book.configuration.fault(inStore: store) { throw .misuse(fault) }
        if let fault = Configuration.fault(inVolumeName: name) { throw .misuse("\"\(name)\": \(fault)") }
        if let there = book.entries[name] {
            throw .failure("there is a volume \(name) already" + (there.place.map { ", declared at \($0)" } ?? ""))
        }
        guard book.entries.count < Configuration.volumesMax else {
            throw .failure("there are \(Configuration.volumesMax) volumes already, which is the most; delete one first")
        }
        let disk = world.disk
        let isThere = await blocking { (try? disk.status(Self.folder + "/" + name + "/log")) != nil }
        book.entries[name] = Entry(name: name, durability: durability, store: store, place: nil)
        do throws(CommandFailure) {
            try await open(entry: name)
            // Last: a crash before it leaves a folder that the same command completes.
            let text = JSON.object([
                .init("durability", .string("\(durability)")), .init("store", .string(store)),
            ])
            let failure = await blocking { () -> Errno? in
                do throws(Errno) {
                    try Self.write("\(text)\n", to: Self.folder + "/" + name + "/" + Self.descriptor, disk)
                    try disk.syncDirectory(Self.folder)
                    return nil
                } catch { return error }
            }
            if let failure {
                throw .failure("can not write \(data)/\(Self.folder)/\(name)/\(Self.descriptor): \(failure)")
            }
        } catch {
            await forget(name)
            throw error
        }
        return isThere
    }

    private func forget(_ name: String) async {
        _ = volumes.remove(name)
        if let hosted = book.entries[name]?.hosted { try? await close(hosted) }
        if let entry = book.entries[name] { disconnect(entry) }
        book.entries[name] = nil
    }

    /// All that it holds is gone when this returns; a crash on the way is completed by the next start.
    func delete(_ name: String) async throws(CommandFailure) {
        guard let entry = book.entries[name] else {
            throw .failure("there is no volume \(name); proxyfs volume list shows those that there are")
        }
        if let place = entry.place {
            throw .failure(
                "volume \(name) is declared at \(place), and what is declared there wins: remove it there first")
        }
        await forget(name)
        try await deleteObjects(of: entry)
        let (disk, random) = (world.disk, world.random)
        let failure = await blocking { () -> Errno? in
            let doomed = Self.folder + "/" + name + Self.deleted + String(random.next(), radix: 16)
            do throws(Errno) {
                try disk.rename(Self.folder + "/" + name, to: doomed)
                try disk.syncDirectory(Self.folder)
                try Self.removeTree(doomed, disk)
                return nil
            } catch { return error }
        }
        if let failure { throw .failure("can not remove \(data)/\(Self.folder)/\(name): \(failure)") }
    }

    /// Those in a store elsewhere.
    private func deleteObjects(of entry: Entry) async throws(CommandFailure) {
        guard let described = try StoreCommand.describe(entry.store, book.configuration) else { return }
        let loop = loop
        let connected = try ConnectedStore(described, world: world, loop: loop)
        defer { connected.stop() }
        do throws(StoreError) { try await connected.deleteAll() } catch {
            // It is still there, and may be deleted again.
            book.entries[entry.name] = entry
            book.entries[entry.name]?.hosted = nil
            book.entries[entry.name]?.problem = "its deletion was not completed"
            throw .failure("can not delete the objects at \(described.address): \(error); try again")
        }
    }

    // MARK: The disk

    private func blocking<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value {
        await world.blocking.run(on: loop) { () throws(Never) in work() }
    }

    /// What the file `volume.json` of a folder says.
    private enum Descriptor: Sendable {
        case none
        case good(Durability, store: String)
        case bad(String)
    }

    /// The folders and their descriptors; the rest of what was being deleted goes.
    private func found() async throws(CommandFailure) -> [(String, Descriptor)] {
        let (disk, data, logger) = (world.disk, data, logger)
        let result = await blocking { () -> Result<[(String, Descriptor)], Errno> in
            do throws(Errno) {
                do throws(Errno) { try disk.makeDirectory(Self.folder) } catch .exists {}
                try disk.syncDirectory("")
                var names: [String] = []
                try disk.list(Self.folder) { name, kind in
                    if kind == .directory { names.append(name) }
                    return true
                }
                var found: [(String, Descriptor)] = []
                for name in names {
                    let path = Self.folder + "/" + name
                    guard name.contains(Self.deleted) else {
                        found.append((name, Self.read(path + "/" + Self.descriptor, disk, data: data)))
                        continue
                    }
                    // It holds nobody up: the next start tries again.
                    do throws(Errno) { try Self.removeTree(path, disk) } catch {
                        logger.error(
                            "deleted volume not removed",
                            [.init("folder", "\(data)/\(path)"), .init("why", "\(error)")])
                    }
                }
                return .success(found)
            } catch { return .failure(error) }
        }
        switch result {
        case .success(let found): return found
        case .failure(let error): throw .failure("can not use \(data)/\(Self.folder): \(error)")
        }
    }

    /// An operator's word that a volume in a store elsewhere has no other owner any more: an empty file in its folder.
    static let adoption = "adopt"

    private static func hasLog(_ folder: String, _ disk: any Disk) -> Bool {
        if (try? disk.status(folder + "/" + adoption)) != nil { return true }
        var isThere = false
        // A folder alone is what an earlier refusal left.
        try? disk.list(folder + "/log") { _, _ in
            isThere = true
            return false
        }
        return isThere
    }

    /// Where a volume's objects are, as the configuration or its own folder says.
    static func store(of name: String, _ configuration: Configuration, _ disk: any Disk) -> String {
        if let declared = configuration.volumes.first(where: { $0.name == name }) { return declared.store }
        let path = folder + "/" + name + "/" + descriptor
        if case .good(_, let store) = read(path, disk, data: configuration.data) { return store }
        return "directory"
    }

    private static func read(_ path: String, _ disk: any Disk, data: String) -> Descriptor {
        let block = Block(capacity: descriptorBytesMax)
        do throws(Errno) {
            let file = try disk.open(path, [])
            defer { file.close() }
            block.count = try file.read(into: block.free, at: 0)
        } catch {
            return error == .noEntry ? .none : .bad("can not read \(data)/\(path): \(error)")
        }
        guard let json = try? JSON(Array(block.bytes)), let durability = json["durability"]?.text.flatMap(durability)
        else { return .bad("\(data)/\(path) is damaged: write {\"durability\":\"log\",\"store\":\"directory\"} to it") }
        return .good(durability, store: json["store"]?.text ?? "directory")
    }

    private static func write(_ text: String, to path: String, _ disk: any Disk) throws(Errno) {
        let fresh = try disk.open(path + ".new", [.write, .create, .truncate])
        defer { fresh.close() }
        let block = Array(text.utf8).withUnsafeBytes { Block(copying: $0) }
        try fresh.write(block.bytes, at: 0)
        try fresh.sync()
        try disk.rename(path + ".new", to: path)
        try disk.syncDirectory(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    }

    /// Deepest first, without recursion.
    private static func removeTree(_ path: String, _ disk: any Disk) throws(Errno) {
        var directories = [path]
        var index = 0
        while index < directories.count {
            let directory = directories[index]
            index += 1
            var files: [String] = []
            try disk.list(directory) { name, kind in
                if kind == .directory { directories.append(directory + "/" + name) } else { files.append(name) }
                return true
            }
            for file in files { try disk.remove(directory + "/" + file) }
        }
        for directory in directories.reversed() { try disk.removeDirectory(directory) }
    }

    // MARK: Words

    static func options(_ engine: Configuration.Engine) -> HeadhunterOptions {
        var options = HeadhunterOptions()
        options.flushBytes = Int(clamping: engine.flushSize.bytes)
        // A checkpoint seals what is open, so the shorter of the two times holds for both.
        options.checkpointNanoseconds = min(engine.checkpointInterval.nanoseconds, engine.flushTime.nanoseconds)
        options.logBytesMax = Int(clamping: engine.logSize.bytes)
        options.nonceRange = UInt64(engine.nonceRange)
        options.cacheBytes = Int(clamping: engine.nodeCache.bytes)
        options.dataCacheBytes = Int(clamping: engine.dataCache.bytes)
        return options
    }

    private static func durability(_ word: Configuration.Durability) -> Durability {
        switch word {
        case .store: .store
        case .log: .log
        case .memory: .memory
        }
    }

    static func durability(_ word: String) -> Durability? {
        Configuration.Durability(rawValue: word).map { durability($0) }
    }

    static func text(_ error: HostingError) -> String {
        switch error {
        case .inUse: "another process has it; stop that one first"
        case .disk(let code, let doing): "\(doing): \(code)"
        case .volume(let error): text(error)
        case .store(let why): why
        }
    }

    static func text(_ error: VolumeError) -> String {
        switch error {
        case .readOnly(let why), .unavailable(let why): why
        case .damaged(let why): "damaged: \(why); proxyfs fsck says more"
        case .unknownFormat(let why): "made by a newer program: \(why)"
        case .fenced: "another server has taken it over"
        case .closed: "it is closed"
        case .noVolume: "there is no volume"
        case .logElsewhere: "its replay log is in another place, with changes that may be nowhere else: open it there"
        }
    }
}

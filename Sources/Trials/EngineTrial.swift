import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization

/// The engine under a simulated world that fails and loses power, against a model that knows each acknowledged change.
///
/// Every change also writes its own number under one key. After each crash that number says how long the prefix is that
/// survived; the volume must hold exactly what the model holds after that many changes, and no acknowledged change may
/// be behind it.
public struct EngineTrial {
    public let simulation: Simulation
    var random: Generator
    var model = Model()
    public internal(set) var lives = 0
    /// Lives that went on from the store alone, elsewhere.
    public private(set) var moves = 0
    /// Lives that went on elsewhere with the log of a directory that both have.
    public private(set) var handovers = 0
    /// Owners that were overtaken in that directory, and went on.
    public internal(set) var overtakings = 0
    /// Where the log is, and how many places it had.
    private(set) var log = "log"
    private var places = 1
    /// The last life ended with nothing left in its log.
    var isClosed = false
    let logIsInStore: Bool
    /// The log is in a directory that several hosts have: each life is on another one. What the one before has written and not synced is
    /// in that one's memory, whether it lost its power or the process alone ended.
    let isShared: Bool
    /// Of such a directory: the lock may be lost while its owner stands still. A lease is kept then, where the store proves it.
    public let losesLock: Bool
    private let hasCache: Bool
    /// Headers are kept for some time, by whatever the hosts' clocks say.
    private let keepNanoseconds: UInt64
    /// Each host has its own.
    private var clocks: Generator
    public var logPlace: String { logIsInStore ? "in the store" : isShared ? "shared" : "local" }
    /// The store goes wrong, too, while the program lives.
    public let trouble: StoreTrouble?
    /// What went against the promises; empty when all is well.
    public internal(set) var problems: [String] = []

    public var headersDeleted: Int { model.names.headersDeleted }
    /// Volumes of lives that have ended, of which something still holds on to: each should have gone with its life.
    public var volumesLeft: Int { opened.withLock { volumes in volumes.count { $0.value != nil } } }
    let opened = Guarded<[WeakVolume]>([])
    struct WeakVolume { weak var value: Headhunter? }

    final class Model: @unchecked Sendable {
        /// All changes that were ever tried, in the order of their numbers; cut back to what survived.
        var changes: [(key: [UInt8], value: [UInt8]?)] = []
        var acknowledged = 0
        /// Survives the process, not the machine.
        var written = 0
        /// Survives the loss of the local log, too.
        var stored = 0
        /// Another owner has the volume, with so many changes: nobody may be told anything more, but that one of these is in the store.
        var isOver = false
        var carried = 0
        var problem: String?
        let names: NameWitness.Names

        init(names: NameWitness.Names = NameWitness.Names()) { self.names = names }

        func state(after count: Int) -> [[UInt8]: [UInt8]] {
            var state: [[UInt8]: [UInt8]] = [:]
            for change in changes.prefix(count) { state[change.key] = change.value }
            return state
        }
    }

    static let counterKey: [UInt8] = [0]

    public init(seed: UInt64, faults: FaultMix) {
        simulation = Simulation(seed: seed, faults: .none)
        random = Generator(seed: seed, stream: "workload")
        logIsInStore = seed % 5 == 0
        isShared = seed % 5 == 1
        hasCache = seed % 2 == 1
        keepNanoseconds = seed % 7 == 3 ? Self.keepNanoseconds : 0
        clocks = Generator(seed: seed, stream: "hosts")
        let isStale = !logIsInStore && seed % 2 == 0
        let hasTrouble = faults.failedSync > 0 && seed % 3 == 0
        losesLock = isShared && !(hasTrouble && isStale)
        trouble = hasTrouble ? .all(isStale: isStale, hasTokens: seed % 4 < 2) : nil
        let model = model
        let made = simulation.perform { world -> Bool in
            do {
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    try world.disk.makeDirectory("log")
                    try world.disk.makeDirectory("store")
                    try world.disk.syncDirectory("")
                }
                let store = try await EngineTrial.store(
                    world, model, clock: HostClock(world.clock, seed: seed))
                try await Headhunter.create(world: world, store: store, prefix: "v")
                return true
            } catch {
                return false
            }
        }
        if made != true { problems.append("the volume could not be made") }
        simulation.faults = faults
    }

    /// The clocks of the next host.
    mutating func clock() -> UInt64 { clocks.next() }

    /// As `host` sees it, if there is one.
    static func store(
        _ world: World, _ model: Model, _ trouble: StoreTrouble? = nil, isElsewhere: Bool = false,
        host: StandingHost? = nil, clock: HostClock, keep: UInt64 = 0
    ) async throws -> ObjectStore {
        let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
        let witness = NameWitness(directory, model.names, clock: clock, keep: keep)
        var store: any StoreTransport = witness
        if let trouble {
            store = trouble.wrap(witness, world)
        } else if isElsewhere {
            store = CopyingStore(witness, world)
        }
        return ObjectStore(host?.way(to: store) ?? store, world: host?.world ?? world, loop: world.loops[0])
    }

    func options(takesOver: Bool = false) -> HeadhunterOptions {
        var options = HeadhunterOptions()
        options.logIsInStore = logIsInStore
        options.logIsShared = isShared
        options.leaseNanoseconds = losesLock ? Self.leaseNanoseconds : 0
        options.driftNanoseconds = Self.driftNanoseconds
        options.keepNanoseconds = keepNanoseconds
        options.takesOver = takesOver
        options.cacheBytes = 0
        options.metadataObjectBytes = 64 << 10
        options.metadataObjectsMin = 2
        options.checkpointNanoseconds = 30_000_000
        options.flushNanoseconds = 30_000_000
        options.nonceRange = 3
        options.logReserveBytes = 64 << 10
        // Of every other life, what nobody waits for is written, too.
        if simulation.seed % 2 == 0 { options.logPushBytes = 4 << 10 }
        options.flushBytes = 1 << 20
        options.stageMemoryBytes = 8 << 20
        options.dataCacheBytes = hasCache ? 8 << 20 : 0
        return options
    }

    private static let leaseNanoseconds: UInt64 = 2_000_000_000
    /// Of two clocks one goes as much faster as `HostClock` lets it: the longest lease, told by the slowest one, is over when the fastest one says so.
    private static let driftNanoseconds = leaseNanoseconds / 4
    /// Longer than any life: only clocks that differ make a header so old.
    private static let keepNanoseconds: UInt64 = 1_800_000_000_000

    /// What became of a volume with one flipped bit.
    public enum Damage: Sendable, Equatable {
        /// The bit was of no use to anybody, or there was no such byte.
        case harmless
        /// The volume said that it is damaged.
        case named
        /// Something else came out, without a word.
        case silent(String)
    }

    private static func flippable(seed: UInt64) -> EngineTrial {
        var trial = EngineTrial(seed: seed, faults: .none)
        _ = trial.life(changes: 60, checkpoints: true)
        _ = trial.life(changes: 40, checkpoints: false, rest: true)
        return trial
    }

    /// Of all files that `flip` takes a place in.
    public static func flippableBytes(seed: UInt64) -> UInt64 {
        flippable(seed: seed).simulation.files(below: "").reduce(0) { $0 + $1.size }
    }

    /// Makes a volume with a checkpoint, a log and segments, kills the program, flips a bit of one file and reads all.
    /// `place` picks the byte among all bytes of all files.
    public static func flip(seed: UInt64, place: UInt64, bit: UInt8) -> Damage {
        var trial = flippable(seed: seed)
        let files = trial.simulation.files(below: "")
        let total = files.reduce(0) { $0 + $1.size }
        guard total > 0 else { return .silent("there are no files") }
        var offset = place % total
        for file in files {
            guard offset >= file.size else {
                guard trial.simulation.flipBit(of: file.path, at: offset, bit: bit) else { return .harmless }
                trial.verify("\(file.path) at \(offset)")
                guard let problem = trial.problems.first else { return .harmless }
                return problem.contains("damaged") || problem.contains("unknownFormat") ? .named : .silent(problem)
            }
            offset -= file.size
        }
        return .harmless
    }

    private struct Failure: Error {
        let text: String
    }

    /// Several lives of the program, each ended by a crash at some call of the disk or by a kill, each verified.
    public mutating func run(lives count: Int) {
        for life in 0..<count {
            if random.below(4) > 0 {
                simulation.crashAtDiskCall = simulation.diskCalls + 1 + random.below(400)
            }
            // Hosts' clocks tell different times of the day.
            simulation.jumpWallClock(by: Int64(random.below(7_200_000)) * 1_000_000 - 3_600_000_000_000)
            if losesLock, random.once(in: 2) {
                overtakenLife(changes: 20 + random.below(200))
            } else {
                _ = self.life(changes: 20 + random.below(200), checkpoints: true)
            }
            verify("seed \(simulation.seed), life \(life)", moves: random.once(in: 4))
            if !problems.isEmpty { return }
        }
    }

    /// One life of the program; true when it ended by a crash.
    ///
    /// With `rest` the program comes to rest before it is killed, and the log has said what is durable: of the very last
    /// records before a crash nobody can tell whether they were torn or damaged.
    public mutating func life(changes count: Int, checkpoints: Bool, rest: Bool = false) -> Bool {
        lives += 1
        let model = model
        let seed = random.next()
        let opened = opened
        let (log, logIsInStore, isShared, trouble, options) = (log, logIsInStore, isShared, trouble, options())
        let clock = clock()
        let closed = Guarded(false)
        let finished = simulation.perform(for: 3_600_000_000_000) { common -> Bool in
            let clock = HostClock(common.clock, seed: clock)
            let world = clock.world(common)
            do {
                let store = try await EngineTrial.store(
                    world, model, trouble, isElsewhere: isShared, clock: clock, keep: options.keepNanoseconds)
                let volume = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: store, prefix: "v", directory: log, options: options)
                opened.withLock { $0.append(WeakVolume(value: volume)) }
                await EngineTrial.use(
                    volume, model, world, logIsInStore: logIsInStore, seed: seed, count: count,
                    checkpoints: checkpoints)
                if rest {
                    try await volume.commit(volume.log.last, .durable)
                    await world.loops[0].sleep(nanoseconds: 10_000_000)
                } else if seed % 2 == 0 {
                    try await volume.close()
                    closed.withLock { $0 = true }
                }
                return true
            } catch {
                // A fault hit the opening or the closing; the volume must still be whole.
                return true
            }
        }
        end(crashed: finished == nil, isClosed: closed.withLock { $0 })
        return finished == nil
    }

    /// The power goes, or the process alone ends, and the model knows what that leaves.
    mutating func end(crashed: Bool, isClosed closed: Bool) {
        isClosed = !crashed && closed
        if let problem = model.problem { problems.append(problem) }
        // What the next host does not have of a shared log is what was neither synced nor closed.
        if isShared ? isClosed : !crashed { model.acknowledged = max(model.acknowledged, model.written) }
        if crashed || isShared {
            simulation.crash()
            simulation.restart()
        } else {
            simulation.killAndRestart()
        }
    }

    /// What clients do with the volume, and checkpoints beside them.
    static func use(
        _ volume: Headhunter, _ model: Model, _ world: World, logIsInStore: Bool, seed: UInt64, count: Int,
        checkpoints: Bool
    ) async {
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    await EngineTrial.work(
                        volume, model, logIsInStore: logIsInStore, seed: seed &+ UInt64(worker), count: count / 4)
                }
            }
            if checkpoints {
                group.addTask {
                    // While what the log held is still on its way into the trees.
                    if seed % 4 == 1 { do { try await volume.nextCheckpoint() } catch { return } }
                    for _ in 0..<3 {
                        await world.loops[0].sleep(nanoseconds: 5_000_000)
                        do { try await volume.checkpoint() } catch { return }
                    }
                }
            }
        }
    }

    private static func work(
        _ volume: Headhunter, _ model: Model, logIsInStore: Bool, seed: UInt64, count: Int
    ) async {
        var random = Generator(seed: seed)
        for _ in 0..<count {
            let number = random.below(60)
            let key: [UInt8] = [1] + Array("key\(number)".utf8)
            let isDelete = random.once(in: 4)
            let isData = random.once(in: 3)
            let size = isData ? 1 + random.below(150_000) : random.once(in: 8) ? random.below(3_000) : random.below(60)
            let fill = UInt8(truncatingIfNeeded: random.below(256))
            let content = (0..<size).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) ^ fill }
            let isStored = random.once(in: 6)
            // Whoever does not ask is told nothing: it may last or not, as long as what lasts has no gap.
            let isAwaited = isStored || !random.once(in: 8)
            let level: LogLevel = random.once(in: 3) ? .written : .durable
            do throws(VolumeError) {
                // What is stored is the content itself, or where it lies; the first byte tells.
                var range: SegmentRange?
                if isData, !isDelete {
                    range = content.withUnsafeBytes { volume.append($0, heat: random.once(in: 2) ? .small : .large) }
                    while range == nil {
                        try await volume.room()
                        range = content.withUnsafeBytes { volume.append($0, heat: .small) }
                    }
                }
                let placed = range
                let value = range.map { Stored.range($0).bytes } ?? Stored.content(content).bytes
                let (mine, log) = try await volume.change { (change) throws(Missing) -> Int in
                    // The order of changes is the order in which they are applied, so the number is drawn here.
                    let mine = model.changes.count + 1
                    let old = try key.withUnsafeBytes { key in
                        Result { () throws(Missing) -> [UInt8]? in try change.get(1, key).map { Array($0) } }
                    }.get()
                    if let old, case .range(let old) = Stored(old) {
                        try change.release(segment: old.segment, length: UInt64(old.length))
                    }
                    if let placed { try change.reference(placed) }
                    if isDelete {
                        key.withUnsafeBytes { change.delete(1, $0) }
                    } else {
                        key.withUnsafeBytes { key in value.withUnsafeBytes { change.put(1, key, $0) } }
                    }
                    counterKey.withUnsafeBytes { key in
                        withUnsafeBytes(of: UInt64(mine)) { change.put(1, key, $0) }
                    }
                    return mine
                }
                precondition(mine == model.changes.count + 1)
                model.changes.append((key, isDelete ? nil : content))
                guard isAwaited else { continue }
                if isStored { try await volume.stored(log) } else { try await volume.commit(log, level) }
                if model.isOver, !isStored || mine > model.carried {
                    model.problem = "change \(mine) was acknowledged beside the next owner"
                }
                if let placed, random.once(in: 3) {
                    let block = Block(capacity: size)
                    block.count = size
                    try await volume.readData(
                        segment: placed.segment, offset: placed.offset,
                        into: UnsafeMutableRawBufferPointer(start: block.base, count: size))
                    if Array(block.bytes) != content { model.problem = "change \(mine): other bytes are read" }
                    extendLifetime(block)
                }
                if isStored || level == .durable && logIsInStore { model.stored = max(model.stored, mine) }
                if isStored || level == .durable { model.acknowledged = max(model.acknowledged, mine) }
                model.written = max(model.written, mine)
            } catch { return }
        }
    }

    /// Opens the volume in a world without faults and compares it with the model. With `moves` that is done elsewhere, from
    /// the store alone, or from a log of long ago.
    public mutating func verify(_ what: String, moves: Bool = false) {
        let faults = simulation.faults
        simulation.faults = .none
        let model = model
        let opened = opened
        var takesOver = false
        // With the log, whether it is asked for as what is left of the volume or not.
        let hasLog = isShared
        if hasLog {
            handovers += 1
            takesOver = moves
        } else if moves {
            self.moves += 1
            // Who has closed leaves all to anybody.
            takesOver = !isClosed
            let old = places > 1 && random.once(in: 2) ? random.below(places) : nil
            log = "log" + (old ?? places == 0 ? "" : "\(old ?? places)")
            if old == nil {
                places += 1
                let name = log
                _ = simulation.perform { world -> Bool in
                    do throws(Errno) {
                        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                            try world.disk.makeDirectory(name)
                            try world.disk.syncDirectory("")
                        }
                        return true
                    } catch { return false }
                }
            }
        }
        let (log, isShared, options) = (log, isShared, options(takesOver: takesOver))
        let clock = clock()
        let read = simulation.perform { common -> Result<[[UInt8]: [UInt8]], Failure> in
            let clock = HostClock(common.clock, seed: clock)
            let world = clock.world(common)
            do {
                let store = try await EngineTrial.store(
                    world, model, isElsewhere: isShared, clock: clock, keep: options.keepNanoseconds)
                let volume = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: store, prefix: "v", directory: log, options: options)
                opened.withLock { $0.append(WeakVolume(value: volume)) }
                var all: [[UInt8]: [UInt8]] = [:]
                var from: [UInt8] = []
                var more = true
                while more {
                    let start = from
                    let part = try await volume.read {
                        (view) throws(Missing) -> ([([UInt8], [UInt8])], [UInt8], Bool) in
                        var found: [([UInt8], [UInt8])] = []
                        var next: [UInt8] = []
                        let more = start.withUnsafeBytes { start in
                            Result { () throws(Missing) -> Bool in
                                try view.scan(1, from: start, budget: 16, resume: &next) { key, value in
                                    found.append((Array(key), Array(value)))
                                    return true
                                }
                            }
                        }
                        return (found, next, try more.get())
                    }
                    for (key, value) in part.0 {
                        guard key != EngineTrial.counterKey, case .range(let range) = Stored(value) else {
                            all[key] = key == EngineTrial.counterKey ? value : Array(value.dropFirst())
                            continue
                        }
                        let block = Block(capacity: Int(range.length))
                        block.count = block.capacity
                        try await volume.readData(
                            segment: range.segment, offset: range.offset,
                            into: UnsafeMutableRawBufferPointer(start: block.base, count: block.count))
                        all[key] = Array(block.bytes)
                        extendLifetime(block)
                    }
                    from = part.1
                    more = part.2
                }
                return .success(all)
            } catch {
                return .failure(Failure(text: "\(error)"))
            }
        }
        defer {
            if isShared {
                simulation.crash()
                simulation.restart()
            } else {
                simulation.killAndRestart()
            }
            simulation.faults = faults
        }
        guard let read else {
            problems.append("\(what): the recovery did not come to an end")
            return
        }
        var state: [[UInt8]: [UInt8]]
        switch read {
        case .success(let all): state = all
        case .failure(let failure):
            problems.append("\(what): the volume does not open: \(failure.text)")
            return
        }
        problems += model.names.problems.prefix(1)
        let counter = state.removeValue(forKey: Self.counterKey)
        let survived = counter.map { $0.withUnsafeBytes { Int($0.loadUnaligned(as: UInt64.self)) } } ?? 0
        let isFromStore = takesOver && !hasLog
        let promised = isFromStore ? model.stored : model.acknowledged
        if survived < promised {
            problems.append(
                "\(what): \(promised) changes were \(isFromStore ? "stored" : "acknowledged"), \(survived) survived")
        }
        guard survived <= model.changes.count else {
            problems.append("\(what): \(survived) changes survived of \(model.changes.count)")
            return
        }
        let expected = model.state(after: survived)
        if state != expected {
            problems.append("\(what): the volume differs from the model after \(survived) changes")
        }
        model.changes.removeLast(model.changes.count - survived)
        model.acknowledged = survived
        model.written = survived
        model.stored = min(model.stored, survived)
    }
}

/// The value of a key: what was stored, or where in a segment it lies.
private enum Stored {
    case content([UInt8])
    case range(SegmentRange)

    var bytes: [UInt8] {
        switch self {
        case .content(let content): return [0] + content
        case .range(let range):
            var bytes: [UInt8] = [1]
            withUnsafeBytes(of: range.segment) { bytes.append(contentsOf: $0) }
            for number in [range.offset, range.length, range.checksum] {
                withUnsafeBytes(of: number) { bytes.append(contentsOf: $0) }
            }
            return bytes
        }
    }

    init(_ bytes: [UInt8]) {
        guard bytes.first == 1, bytes.count == 21 else {
            self = .content(Array(bytes.dropFirst()))
            return
        }
        self = bytes.withUnsafeBytes { all in
            .range(
                SegmentRange(
                    segment: all.loadUnaligned(fromByteOffset: 1, as: UInt64.self),
                    offset: all.loadUnaligned(fromByteOffset: 9, as: UInt32.self),
                    length: all.loadUnaligned(fromByteOffset: 13, as: UInt32.self),
                    checksum: all.loadUnaligned(fromByteOffset: 17, as: UInt32.self)))
        }
    }
}

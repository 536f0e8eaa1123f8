import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// A store in memory that a test can make refuse or count requests, and whose objects it can change.
final class StoreRig: StoreTransport {
    struct State {
        /// Answers in the store's place.
        var refuse: (@Sendable (StoreRequest.Kind) -> Int?)?
        var heads = 0
        var gets = 0
        var deletes = 0
    }

    private let inner: any StoreTransport
    let state = Mutex(State())
    private let loop: EventLoop

    init(_ world: World, _ inner: (any StoreTransport)? = nil) {
        self.inner = inner ?? MemoryStore(world: world, loop: world.loops[0])
        loop = world.loops[0]
    }

    var capabilities: StoreCapabilities { inner.capabilities }

    func perform(_ request: StoreRequest) async -> StoreReply {
        let status = state.withLock { state -> Int? in
            switch request.kind {
            case .object(_, .head): state.heads += 1
            case .object(_, .get): state.gets += 1
            case .object(_, .delete): state.deletes += 1
            default: break
            }
            return state.refuse?(request.kind)
        }
        if let status {
            await loop.sleep(nanoseconds: 10_000_000)
            return StoreReply(status: status)
        }
        return await inner.perform(request)
    }

    func refuse(_ body: (@Sendable (StoreRequest.Kind) -> Int?)?) { state.withLock { $0.refuse = body } }

    static func isDelete(_ kind: StoreRequest.Kind) -> Bool {
        if case .object(_, .delete) = kind { return true }
        return false
    }

    // MARK: Volumes

    static func prepare(_ world: World, _ store: any StoreTransport, _ logs: [String] = ["a", "b"]) async throws {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
            for log in logs { try world.disk.makeDirectory(log) }
            try world.disk.syncDirectory("")
        }
        try await Headhunter.create(world: world, store: objects(world, store), prefix: "v")
    }

    static func objects(_ world: World, _ store: any StoreTransport) -> ObjectStore {
        ObjectStore(store, world: world, loop: world.loops[0])
    }

    static func open(
        _ world: World, _ store: any StoreTransport, _ log: String = "a",
        _ set: (inout HeadhunterOptions) -> Void = { _ in }
    ) async throws -> Headhunter {
        var options = HeadhunterOptions()
        options.cacheBytes = 0
        options.flushBytes = 1 << 20
        options.stageMemoryBytes = 8 << 20
        options.dataCacheBytes = 0
        options.logReserveBytes = 64 << 10
        set(&options)
        return try await Headhunter.open(
            world: world, loop: world.loops[0], store: objects(world, store), prefix: "v", directory: log,
            options: options)
    }

    /// Runs `body` in a world of its own; what it answers is what went wrong.
    static func run(
        seed: UInt64 = 1, _ simulation: Simulation? = nil, _ body: @escaping @Sendable (World) async throws -> String?
    ) throws {
        let simulation = simulation ?? Simulation(seed: seed)
        let problem = try #require(
            simulation.perform(for: 36_000_000_000_000) { world -> String? in
                do { return try await body(world) ?? "" } catch { return "\(error)" }
            }, "the program did not come to an end")
        #expect(problem == "")
    }

    // MARK: Changes

    static func put(_ volume: Headhunter, _ key: Int, _ value: [UInt8], tree: UInt32 = 1) async throws(VolumeError)
        -> UInt64
    {
        try await volume.change { (change) throws(Missing) in
            withUnsafeBytes(of: UInt64(key).bigEndian) { key in value.withUnsafeBytes { change.put(tree, key, $0) } }
        }.number
    }

    static func get(_ volume: Headhunter, _ key: Int, tree: UInt32 = 1) async throws(VolumeError) -> [UInt8]? {
        try await volume.read { (view) throws(Missing) -> [UInt8]? in
            let found = withUnsafeBytes(of: UInt64(key).bigEndian) { key in
                Result { () throws(Missing) -> [UInt8]? in try view.get(tree, key).map { Array($0) } }
            }
            return try found.get()
        }
    }

    /// Data, and a change that names it.
    static func store(_ volume: Headhunter, _ bytes: [UInt8]) async throws(VolumeError) -> (SegmentRange, UInt64) {
        var range = bytes.withUnsafeBytes { volume.append($0, heat: .large) }
        while range == nil {
            try await volume.room()
            range = bytes.withUnsafeBytes { volume.append($0, heat: .large) }
        }
        guard let placed = range else { throw .closed }
        let number = try await volume.change { (change) throws(Missing) in
            try change.reference(placed)
            withUnsafeBytes(of: placed.segment.bigEndian) { key in
                withUnsafeBytes(of: placed.offset) { change.put(2, key, $0) }
            }
        }.number
        return (placed, number)
    }

    static func read(_ volume: Headhunter, _ range: SegmentRange) async throws(VolumeError) -> [UInt8] {
        let block = Block(capacity: Int(range.length))
        block.count = block.capacity
        defer { extendLifetime(block) }
        try await volume.readData(
            segment: range.segment, offset: range.offset,
            into: UnsafeMutableRawBufferPointer(start: block.base, count: block.count))
        return Array(block.bytes)
    }

    static func names(_ world: World, _ store: any StoreTransport, _ kind: String) async throws -> [ObjectName] {
        try await objects(world, store).names(prefix: "v/" + kind + "/")
    }

    /// Changes an object's bytes, as somebody with access to the store may.
    static func patch(
        _ world: World, _ store: any StoreTransport, _ name: ObjectName, _ change: (inout [UInt8]) -> Void
    ) async throws {
        let objects = objects(world, store)
        let old = try await objects.get(name)
        var bytes = Array(old.bytes)
        extendLifetime(old)
        change(&bytes)
        let block = Block(capacity: bytes.count)
        bytes.withUnsafeBytes { block.append($0) }
        try await objects.put(name, .blocks([block]))
    }
}

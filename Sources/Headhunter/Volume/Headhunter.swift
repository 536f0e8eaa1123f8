import Bytes
import ObjectStore
import Runtime
import Synchronization

/// The metadata of one volume: a forest of copy-on-write trees, their replay log and their checkpoints.
///
/// A reader or a writer works over memory, inside the gate, for a short, bounded stretch. What meets a node that is
/// not in memory has changed nothing; the edge (`load`) fetches it and the caller tries again. A change is in the
/// trees, visible to every later reader, when `change` returns; it is as durable as its caller waits for, by the
/// number that the log gave it.
public final class Headhunter: @unchecked Sendable {
    let world: World
    /// The loop that the log, the checkpoints and the loading of nodes run on.
    public let loop: EventLoop
    public let store: ObjectStore
    let prefix: String
    let options: HeadhunterOptions
    public let volume: VolumeIdentity
    public let epoch: UInt64
    public let log: ReplayLog
    let space = SpaceWatch()
    let troubles = Troubles()
    let opened: UInt64
    let segments: Segments
    let dataCache: DataCache
    let recentChunks: RecentChunks
    /// Small things that were written last: they are in no other memory.
    let writtenCache: DataCache
    let stageDirectory: String
    /// Names the directory that has the log.
    let place: UInt64

    let gate: Gate
    // Behind the gate:
    let cache: NodeCache
    @exclusivity(unchecked) var trees: [Tree?]
    @exclusivity(unchecked) var overlay: Overlay?
    private let writes: WriteSet
    @exclusivity(unchecked) private var missing: [[NodeAddress]]
    /// Where a reader was led astray: nothing that can be fetched would help it.
    @exclusivity(unchecked) private var astray: [NodeAddress?]
    @exclusivity(unchecked) var state: State = .running
    var logFirst: UInt64
    @exclusivity(unchecked) var logBytes = 0
    /// Bytes of records that no header covers.
    @exclusivity(unchecked) var logUncovered: Int
    /// The same on the volume's loop.
    package var uncoveredLogBytes: Int { logUncovered }
    /// When the oldest of them came: of those since the newest checkpoint began, and of those before; 0: there are none.
    @exclusivity(unchecked) var logSince: UInt64 = 0
    var frozenSince: UInt64 = 0
    /// Another owner has the volume: what is read here may have been changed there.
    @exclusivity(unchecked) var isFenced = false
    /// How often something was changed: what was read at the same number holds.
    @exclusivity(unchecked) @usableFromInline var changes: UInt64 = 0
    var checkpointWanted = false
    var nonces: Nonces

    enum State {
        case running
        case failed(VolumeError)
    }

    struct Nonces {
        var next: UInt64
        /// Numbers below it were reserved durably.
        var reserved: UInt64
        /// What a change that is not durable yet will have reserved.
        var promised: UInt64
    }

    /// Set before `isFenced`, and seen outside of the gate: no promise of this owner's own log is given from then on.
    let isOvertaken = Atomic(false)

    /// Nothing is said of the volume while it does not hold.
    let lease: Lease

    /// Set: changes and data wait in `room` until `release`.
    let isFrozen = Atomic(false)

    // On the loop:
    /// What was found damaged when the volume was opened.
    public internal(set) var damage: [String] = []
    /// It was taken over from an owner that keeps no lease: that one may be answering still.
    public internal(set) var ownerBeforeMayAnswer = false
    /// Told once that another owner has the volume.
    var overtaken: (@Sendable () -> Void)?
    var thawing: [UnsafeContinuation<Void, Never>] = []
    var loading: [NodeAddress: NodeLoad] = [:]
    /// Nodes that were asked for after their objects had gone, and how often.
    var gone: [NodeAddress: Int] = [:]
    var checkpoints: CheckpointState
    var data: DataState
    var storing = StoringState()
    var following = Following()
    /// What `following` is at; `age` is the time of its last look.
    let shownHeader = Guarded<Shown?>(nil)
    let loadPage: UnsafeMutableRawPointer
    /// The node that was last read and not led to, and how often in a row. On the volume's loop.
    var refused: NodeAddress?
    var refusals = 0

    init(
        world: World, loop: EventLoop, store: ObjectStore, prefix: String, options: HeadhunterOptions,
        header: CheckpointHeader, log: ReplayLog, overlay: Overlay?, logBytes: Int, stageDirectory: String,
        place: UInt64
    ) {
        self.world = world
        opened = world.clock.monotonic()
        self.loop = loop
        self.store = store
        self.prefix = prefix
        self.options = options
        volume = header.volume
        epoch = header.epoch
        self.log = log
        self.stageDirectory = stageDirectory
        self.place = place
        lease = Lease(options.leaseNanoseconds, clock: world.clock)
        // An eighth for what was written here and there, three for long files that were written, half for what was read, of which the
        // long files have what is not used yet. Who only reads has no use for the first two.
        let part = options.isReadOnly ? 0 : options.dataCacheBytes / 8
        dataCache = DataCache(bytes: options.dataCacheBytes - 4 * part)
        writtenCache = DataCache(bytes: part)
        recentChunks = RecentChunks(bytes: 3 * part, lender: dataCache)
        segments = Segments(
            volume: header.volume, epoch: header.epoch, flushBytes: options.flushBytes,
            memoryMax: options.stageMemoryBytes, stagedMax: options.stagedBytesMax, durable: log.last,
            recent: recentChunks)
        gate = Gate(readers: world.loops.count)
        cache = NodeCache(budget: options.cacheBytes, epoch: header.treeEpoch + 1)
        trees = []
        self.overlay = overlay
        writes = WriteSet()
        missing = Array(repeating: [], count: world.loops.count)
        astray = Array(repeating: nil, count: world.loops.count)
        logFirst = header.logFirst
        logUncovered = logBytes
        if logBytes > 0 { logSince = world.clock.monotonic() }
        nonces = Nonces(next: header.nonces, reserved: header.nonces, promised: header.nonces)
        checkpoints = CheckpointState(header: header)
        data = DataState()
        loadPage = .allocate(byteCount: Page.size, alignment: 4096)
        plant(header.trees)
    }

    func plant(_ roots: [(id: UInt32, root: NodeAddress?)]) {
        for (id, root) in roots {
            while trees.count <= Int(id) { trees.append(nil) }
            trees[Int(id)] = root.map { Tree(id: id, cache: cache, root: $0) } ?? Tree(id: id, cache: cache)
        }
    }

    deinit { loadPage.deallocate() }

    // MARK: Reading

    /// Runs `body` over memory. Nil when it met nodes that are not in memory: `await load(for:)` and try again.
    /// `reader` is the index of the loop that the caller runs on.
    @inlinable
    public func read<Result>(_ reader: Int, _ body: (View) throws(Missing) -> Result) -> Result? {
        enterRead(reader)
        defer { leaveRead(reader) }
        guard isOwner else { return nil }
        do throws(Missing) { return try body(View(self, reader)) } catch { return nil }
    }

    @usableFromInline func enterRead(_ reader: Int) { gate.enterRead(reader) }
    @usableFromInline func leaveRead(_ reader: Int) { gate.leaveRead(reader) }
    /// Inside the gate: whether what is read here is what the volume holds.
    @usableFromInline var isOwner: Bool { !isFenced && lease.holds }

    /// The same, fetching what is not in memory, as often as it takes.
    public func read<Result>(_ body: (View) throws(Missing) -> Result) async throws(VolumeError) -> Result {
        let reader = loop.index
        while true {
            if let result = read(reader, body) { return result }
            try await load(for: reader)
        }
    }

    /// Looks a key up in the trees as they are. The caller is inside the gate.
    @inline(__always)
    func lookup(
        _ id: UInt32, _ key: UnsafeRawBufferPointer, _ reader: Int, alone: Bool = false
    ) throws(Missing) -> UnsafeRawBufferPointer? {
        if let overlay {
            switch overlay.get(id, key) {
            case .nothing: break
            case .deleted: return nil
            case .found(let value): return value
            }
        }
        guard Int(id) < trees.count, let tree = trees[Int(id)] else { return nil }
        switch alone ? tree.getAlone(key) : tree.get(key) {
        case .found(let value): return value
        case .absent: return nil
        case .missing(let address): missing[reader].append(address)
        case .astray(let address): astray[reader] = address
        }
        throw Missing()
    }

    func scan(
        _ id: UInt32, from start: UnsafeRawBufferPointer, budget: Int, resume: inout [UInt8], _ reader: Int,
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    ) throws(Missing) -> Bool {
        guard Int(id) < trees.count, let tree = trees[Int(id)] else {
            return overlay.map { scanOverlay($0, id, from: start, budget: budget, resume: &resume, visit) } ?? false
        }
        let end: Tree.ScanEnd
        if let overlay, !overlay.isEmpty {
            end = scanBoth(tree, overlay, from: start, budget: budget, resume: &resume, visit)
        } else {
            end = tree.scan(from: start, budget: budget, resume: &resume, visit)
        }
        switch end {
        case .done: return false
        case .more: return true
        case .missing(let address): missing[reader].append(address)
        case .astray(let address): astray[reader] = address
        }
        throw Missing()
    }

    private func scanOverlay(
        _ overlay: Overlay, _ id: UInt32, from start: UnsafeRawBufferPointer, budget: Int, resume: inout [UInt8],
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    ) -> Bool {
        var left = min(budget, View.scanBudget)
        var more = false
        var next: [UInt8] = []
        overlay.scan(id, from: start, budget: .max) { key, value in
            if left == 0 {
                next = Array(key)
                more = true
                return false
            }
            left -= 1
            return value.map { visit(key, $0) } ?? true
        }
        resume = next
        return more
    }

    /// So much of the tree is copied at a time while a recovered log lies over it.
    private static let mergedPart = 32

    /// Merges tree and overlay. Only while a recovered log drains. It copies the tree's entries, so it does one small part, whatever the
    /// caller's budget, and the caller goes on from there: nobody may be made to wait for the rest of the tree.
    private func scanBoth(
        _ tree: Tree, _ overlay: Overlay, from start: UnsafeRawBufferPointer, budget: Int, resume: inout [UInt8],
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    ) -> Tree.ScanEnd {
        let part = min(budget, Self.mergedPart)
        var below: [(key: [UInt8], value: [UInt8])] = []
        var next: [UInt8] = []
        let end = tree.scan(from: start, budget: part, resume: &next) { key, value in
            below.append((Array(key), Array(value)))
            return true
        }
        switch end {
        case .missing, .astray: return end
        case .done, .more: break
        }
        // Above the last key that the tree was asked for, the overlay can not speak yet.
        let bound: [UInt8]? = end == .more ? next : nil
        var merged: [(key: [UInt8], value: [UInt8])] = []
        var index = 0
        var looked = 0
        var stop: [UInt8]?
        overlay.scan(tree.id, from: start, budget: .max) { key, value in
            if let bound, bound.withUnsafeBytes({ compareBytes(key, $0) >= 0 }) { return false }
            while index < below.count, below[index].key.withUnsafeBytes({ compareBytes($0, key) < 0 }) {
                merged.append(below[index])
                index += 1
            }
            // Enough for this round, deletions counted too: what follows is merged in the next one.
            guard looked < View.scanBudget, merged.count < part else {
                stop = Array(key)
                return false
            }
            looked += 1
            if index < below.count, below[index].key.withUnsafeBytes({ compareBytes($0, key) == 0 }) { index += 1 }
            if let value { merged.append((Array(key), Array(value))) }
            return true
        }
        if stop == nil { merged.append(contentsOf: below[index...]) }
        for (count, entry) in merged.enumerated() {
            if count == budget {
                resume = entry.key
                return .more
            }
            let goOn = entry.key.withUnsafeBytes { key in entry.value.withUnsafeBytes { visit(key, $0) } }
            if !goOn { return .done }
        }
        if let stop {
            resume = stop
            return .more
        }
        resume = next
        return end
    }

    // MARK: Changing

    /// What came of an attempt to change something.
    public enum Attempt<Result> {
        /// In the trees. Wait for the log to reach `number` before telling anybody that it is durable; 0 when
        /// nothing was changed.
        case done(Result, number: UInt64)
        /// Nodes are missing: `await load(for:)`, then try again.
        case missing
        /// Too much is dirty, or not yet written: `await room()`, then try again.
        case full
        case failed(VolumeError)
    }

    /// Plans a change with `body`, which reads and collects puts and deletes, and applies it whole.
    ///
    /// `body` runs inside the gate, alone, and runs again when the attempt could not go through: it has no effects of
    /// its own. What it collects is not visible to others before all of it is.
    /// An urgent one does not wait for room: only what makes room may be urgent.
    @inlinable
    public func change<Result>(
        _ reader: Int, isUrgent: Bool = false, _ body: (Change) throws(Missing) -> Result
    ) -> Attempt<Result> {
        let change: Change
        switch enterChange(reader, isUrgent: isUrgent) {
        case .go(let begun): change = begun
        case .full:
            return .full
        case .failed(let error):
            return .failed(error)
        }
        defer { leaveChange() }
        let result: Result
        do throws(Missing) { result = try body(change) } catch { return .missing }
        switch apply(change, isUrgent: isUrgent) {
        case .applied(let number): return .done(result, number: number)
        case .missing: return .missing
        case .full: return .full
        }
    }

    /// The same, fetching and waiting as often as it takes.
    public func change<Result>(
        isUrgent: Bool = false, _ body: (Change) throws(Missing) -> Result
    ) async throws(VolumeError) -> (Result, number: UInt64) {
        let reader = loop.index
        while true {
            switch change(reader, isUrgent: isUrgent, body) {
            case .done(let result, let number): return (result, number)
            case .missing: try await load(for: reader)
            case .full: if isUrgent { await loop.sleep(nanoseconds: 1_000_000) } else { try await room() }
            case .failed(let error): throw error
            }
        }
    }

    @usableFromInline enum Entry {
        case go(Change)
        case full
        case failed(VolumeError)
    }
    @usableFromInline enum Applied {
        case applied(UInt64)
        case missing
        case full
    }

    /// Takes the gate when it answers `.go`.
    @usableFromInline func enterChange(_ reader: Int, isUrgent: Bool) -> Entry {
        gate.enterWrite()
        if case .failed(let error) = state {
            gate.leaveWrite()
            return .failed(error)
        }
        if !isUrgent,
            isFrozen.load(ordering: .relaxed) || !lease.holds
                || cache.dirtyCount > options.dirtyFramesMax(of: cache.capacity)
                || log.pendingBytes > HeadhunterOptions.logPendingMax || logIsFull
        {
            gate.leaveWrite()
            return .full
        }
        writes.reset()
        return .go(Change(self, writes, reader))
    }

    /// Kept free for urgent changes: the largest one, which seals a segment.
    private static let urgentFrames = 144

    /// Too much is in the log alone: it may not take the disk, which checkpoints need as well. Inside the gate.
    var logIsFull: Bool { logUncovered > options.logUncoveredMax(isShortOfSpace: space.isShort) }

    @usableFromInline func leaveChange() {
        let backing = cache.wantsBacking ? cache.takeBacking() : nil
        gate.leaveWrite()
        if let backing { world.blocking.submit({ backing.make() }, then: {}, on: loop) }
    }

    @usableFromInline func apply(_ change: Change, isUrgent: Bool) -> Applied {
        let writes = change.writes
        if writes.isEmpty { return .applied(0) }
        let reader = change.reader
        // Room first: making it may evict nodes, so what the change needs is looked for after it.
        var frames = 2
        // Nearly all of a change is of one tree: it is not looked up, and counted, for each operation.
        var tree: Tree?
        var id = UInt32.max
        for operation in writes.operations where !operation.isDead {
            if operation.tree != id { (id, tree) = (operation.tree, here(operation.tree)) }
            frames += tree?.framesPerOperation ?? 2
            tree?.expect(writes.key(operation))
        }
        // What makes room must not find that others have taken the last of it.
        guard cache.reserve(isUrgent ? frames : frames + Self.urgentFrames) else { return .full }
        for operation in writes.operations where !operation.isDead {
            if operation.tree != id { (id, tree) = (operation.tree, here(operation.tree)) }
            tree?.expectSearch(writes.key(operation))
        }
        for operation in writes.operations where !operation.isDead {
            if operation.tree != id { (id, tree) = (operation.tree, here(operation.tree)) }
            guard let tree else { continue }
            let wrong = tree.prepare(writes.key(operation), isDelete: operation.isDelete, missing: &missing[reader])
            guard wrong == nil else {
                astray[reader] = wrong
                return .missing
            }
        }
        if !missing[reader].isEmpty { return .missing }
        for operation in writes.operations where !operation.isDead {
            if operation.tree != id || tree == nil { (id, tree) = (operation.tree, self.tree(operation.tree)) }
            guard let tree else { preconditionFailure("a tree that was made is there") }
            let key = writes.key(operation)
            if operation.isDelete { tree.delete(key) } else { tree.put(key, writes.value(operation)) }
            if let overlay, !overlay.isEmpty { overlay.remove(operation.tree, key) }
        }
        for range in writes.ranges { segments.settle(range.segment, UInt64(range.length)) }
        changes &+= 1
        let bytes = writes.bytes
        logBytes += bytes.count
        logUncovered += bytes.count
        if logSince == 0 { logSince = world.clock.monotonic() }
        let number = log.append(bytes)
        if cache.dirtyCount > options.dirtyFramesSoft(of: cache.capacity) || logBytes > options.logBytesMax {
            wantCheckpoint()
        }
        return .applied(number)
    }

    /// The tree with this number, if there is one.
    func here(_ id: UInt32) -> Tree? { Int(id) < trees.count ? trees[Int(id)] : nil }

    /// The tree with this number, made if there is none yet.
    func tree(_ id: UInt32) -> Tree {
        while trees.count <= Int(id) { trees.append(nil) }
        if let tree = trees[Int(id)] { return tree }
        let tree = Tree(id: id, cache: cache)
        trees[Int(id)] = tree
        return tree
    }

    /// Takes the volume out of service for writers; what is in memory can still be read.
    func fail(_ error: VolumeError) {
        if error == .fenced { isOvertaken.store(true, ordering: .sequentiallyConsistent) }
        gate.enterWrite()
        if case .running = state { state = .failed(error) }
        if error == .fenced { isFenced = true }
        gate.leaveWrite()
        guard error == .fenced || error == .closed else { return }
        lease.end(error)
        guard error == .fenced, let told = overtaken else { return }
        overtaken = nil
        told()
    }

    /// Why no change is taken any more.
    var failure: VolumeError? {
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        if case .failed(let error) = state { return error }
        return nil
    }

    /// Inside the gate: what the loop's next `load(for:)` is to fetch, or where a tree leads astray.
    func needs(_ addresses: [NodeAddress], astray address: NodeAddress? = nil) {
        missing[loop.index].append(contentsOf: addresses)
        astray[loop.index] = address
    }

    /// An attempt that met nodes which are not here is not made again.
    package func forgetMissing(_ reader: Int) { _ = takeMissing(reader) }

    func takeMissing(_ reader: Int) -> Wanted {
        gate.enterRead(reader)
        defer { gate.leaveRead(reader) }
        let wanted = Wanted(addresses: missing[reader], astray: astray[reader])
        missing[reader].removeAll(keepingCapacity: true)
        astray[reader] = nil
        return wanted
    }
}

/// A node that is needed is not in memory.
public struct Missing: Error {
    @usableFromInline init() {}
}

/// What a reader sees: the trees as they are, for as long as the closure that got it runs.
public struct View {
    @usableFromInline unowned(unsafe) let headhunter: Headhunter
    @usableFromInline let reader: Int

    @usableFromInline init(_ headhunter: Headhunter, _ reader: Int) {
        self.headhunter = headhunter
        self.reader = reader
    }

    /// The value, valid inside the closure; nil when there is none.
    public func get(_ tree: UInt32, _ key: UnsafeRawBufferPointer) throws(Missing) -> UnsafeRawBufferPointer? {
        // Whoever gave the view out holds the volume. Counting here would be dear: timers refer to it weakly, and what has weak
        // references is counted in a table beside it.
        try Unmanaged.passUnretained(headhunter)._withUnsafeGuaranteedRef { headhunter in
            Result { () throws(Missing) in try headhunter.lookup(tree, key, reader) }
        }.get()
    }

    /// `get` will be asked for this key: what tells where it lies is fetched meanwhile.
    public func expect(_ tree: UInt32, _ key: UnsafeRawBufferPointer) {
        headhunter.cache.hints.expect(KeyHints.hash(tree, key))
    }

    /// Rises with every change: what one reader found in the trees still holds for a later one with the same number.
    @inlinable public var changes: UInt64 { headhunter.changes }

    /// Entries a reader visits before it leaves the gate.
    public static let scanBudget = 256

    /// Visits entries from `start` on, in byte order, until `visit` answers false or the budget is used up. Answers
    /// whether there may be more, from the key in `resume` on.
    public func scan(
        _ tree: UInt32, from start: UnsafeRawBufferPointer, budget: Int = View.scanBudget, resume: inout [UInt8],
        _ visit: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    ) throws(Missing) -> Bool {
        try headhunter.scan(tree, from: start, budget: budget, resume: &resume, reader, visit)
    }
}

/// A change being planned: reads see what it has collected so far.
public struct Change {
    @usableFromInline unowned(unsafe) let headhunter: Headhunter
    public let writes: WriteSet
    @usableFromInline let reader: Int

    init(_ headhunter: Headhunter, _ writes: WriteSet, _ reader: Int) {
        self.headhunter = headhunter
        self.writes = writes
        self.reader = reader
    }

    /// The value, valid until the next put or delete; nil when there is none.
    public func get(_ tree: UInt32, _ key: UnsafeRawBufferPointer) throws(Missing) -> UnsafeRawBufferPointer? {
        switch writes.pending(tree: tree, key: key) {
        case .put(let value): return value
        case .deleted: return nil
        case .untouched:
            return try Unmanaged.passUnretained(headhunter)._withUnsafeGuaranteedRef { headhunter in
                Result { () throws(Missing) in try headhunter.lookup(tree, key, reader, alone: true) }
            }.get()
        }
    }

    /// `get` will be asked for this key, or it will be changed: what that looks at first is fetched meanwhile.
    public func expect(_ tree: UInt32, _ key: UnsafeRawBufferPointer) {
        Unmanaged.passUnretained(headhunter)._withUnsafeGuaranteedRef { $0.here(tree)?.expect(key) }
    }

    public func put(_ tree: UInt32, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        writes.put(tree: tree, key: key, value: value)
    }

    public func delete(_ tree: UInt32, _ key: UnsafeRawBufferPointer) {
        writes.delete(tree: tree, key: key)
    }

    /// What is stored can not be what a server wrote. Nothing is changed any more, and who tries again is told why.
    public func damaged(_ what: String) -> Missing {
        if case .running = headhunter.state { headhunter.state = .failed(.damaged(what)) }
        return Missing()
    }

    /// Forgets what was collected: the change turned out to be refused.
    public func abandon() { writes.reset() }

    /// The trees without what this change has collected.
    public var view: View { View(headhunter, reader) }
}

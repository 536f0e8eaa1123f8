import Runtime

/// A directory or a file: what the operating system shows, and what the medium holds.
final class DiskNode {
    let isDirectory: Bool
    // Of a file. Bytes behind the end of an array, up to the size, are zeros.
    var bytes: [UInt8] = []
    var size: UInt64 = 0
    var reserved: UInt64 = 0
    var durableBytes: [UInt8] = []
    var durableSize: UInt64 = 0
    /// Since the last sync, in order.
    var pending: [Change] = []
    var lockHolder: ObjectIdentifier?
    // Of a directory.
    var entries: [String: DiskNode] = [:]
    var durableEntries: [String: DiskNode] = [:]
    var modified: Int64 = 0

    enum Change {
        case write(offset: UInt64, bytes: [UInt8])
        case truncate(UInt64)
    }

    init(isDirectory: Bool) { self.isDirectory = isDirectory }

    static func apply(_ change: Change, to bytes: inout [UInt8], _ size: inout UInt64) {
        switch change {
        case .write(let offset, let data):
            let end = Int(offset) + data.count
            if bytes.count < end { bytes.append(contentsOf: repeatElement(0, count: end - bytes.count)) }
            bytes.replaceSubrange(Int(offset)..<end, with: data)
            size = max(size, UInt64(end))
        case .truncate(let new):
            if bytes.count > Int(new) { bytes.removeLast(bytes.count - Int(new)) }
            size = new
        }
    }
}

/// What is on a simulated disk, over all incarnations of the program.
final class DiskState {
    private static let sector = 512

    let root = DiskNode(isDirectory: true)
    let capacity: UInt64
    weak var simulation: Simulation?
    /// Changes of names that no directory sync has made durable, in order.
    private var pendingNames: [[Effect]] = []

    private struct Effect {
        let directory: DiskNode
        let name: String
        /// Nil: the name goes away.
        let node: DiskNode?
    }

    init(capacity: UInt64) { self.capacity = capacity }

    // MARK: Names

    func find(_ path: String) -> DiskNode? {
        var node = root
        for part in path.split(separator: "/") {
            guard let next = node.entries[String(part)] else { return nil }
            node = next
        }
        return node
    }

    func parent(of path: String) throws(Errno) -> (directory: DiskNode, name: String) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard let last = parts.last, !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
            throw .invalid
        }
        let above = parts.dropLast().joined(separator: "/")
        guard let directory = find(above) else { throw .noEntry }
        guard directory.isDirectory else { throw .notDirectory }
        return (directory, String(last))
    }

    /// Names change together or not at all, as long as they are in one directory.
    func change(_ effects: [(directory: DiskNode, name: String, node: DiskNode?)]) {
        for effect in effects { effect.directory.entries[effect.name] = effect.node }
        pendingNames.append(effects.map { Effect(directory: $0.directory, name: $0.name, node: $0.node) })
    }

    func sync(_ directory: DiskNode) {
        var left: [[Effect]] = []
        for effects in pendingNames {
            for effect in effects where effect.directory === directory {
                directory.durableEntries[effect.name] = effect.node
            }
            let rest = effects.filter { $0.directory !== directory }
            if !rest.isEmpty { left.append(rest) }
        }
        pendingNames = left
    }

    // MARK: Space

    var used: UInt64 {
        var sum: UInt64 = 0
        var todo = [root]
        while let node = todo.popLast() {
            sum += max(node.size, node.reserved)
            todo.append(contentsOf: node.entries.values)
        }
        return sum
    }

    // MARK: Power

    func losePower() {
        guard let simulation else { return }
        // A journal keeps a prefix of what happened to names; a weaker file system keeps what it likes.
        let isJournal = simulation.chance.below(2) == 0
        var committed = isJournal ? simulation.chance.below(pendingNames.count + 1) : 0
        for effects in pendingNames {
            let survives: Bool
            if isJournal {
                survives = committed > 0
                committed -= 1
            } else {
                survives = simulation.chance.below(2) == 0
            }
            if survives { simulation.counts.survivedNames += 1 } else { simulation.counts.lostNames += 1 }
            guard survives else { continue }
            for effect in effects { effect.directory.durableEntries[effect.name] = effect.node }
        }
        pendingNames.removeAll()
        // Nodes by first appearance under sorted names: the order of draws must not depend on hashing.
        var seen: Set<ObjectIdentifier> = []
        func visit(_ node: DiskNode) {
            guard seen.insert(ObjectIdentifier(node)).inserted else { return }
            node.lockHolder = nil
            if node.isDirectory {
                node.entries = node.durableEntries
                for name in node.entries.keys.sorted() { if let child = node.entries[name] { visit(child) } }
            } else {
                lose(node, simulation)
            }
        }
        visit(root)
    }

    private func lose(_ node: DiskNode, _ simulation: Simulation) {
        for change in node.pending {
            switch change {
            case .truncate:
                if simulation.chance.below(2) == 0 {
                    DiskNode.apply(change, to: &node.durableBytes, &node.durableSize)
                }
            case .write(let offset, let bytes):
                switch simulation.chance.below(simulation.faults.tornWrites ? 3 : 2) {
                case 0: simulation.counts.lostWrites += 1
                case 1:
                    simulation.counts.survivedWrites += 1
                    DiskNode.apply(change, to: &node.durableBytes, &node.durableSize)
                default:
                    simulation.counts.tornWrites += 1
                    // Sector by sector, as they lie on the disk.
                    var place = 0
                    while place < bytes.count {
                        let boundary = (Int(offset) + place) / Self.sector * Self.sector + Self.sector
                        let end = min(bytes.count, boundary - Int(offset))
                        if simulation.chance.below(2) == 0 {
                            DiskNode.apply(
                                .write(offset: offset + UInt64(place), bytes: Array(bytes[place..<end])),
                                to: &node.durableBytes, &node.durableSize)
                        }
                        place = end
                    }
                }
            }
        }
        node.pending.removeAll()
        node.bytes = node.durableBytes
        node.size = node.durableSize
        node.reserved = node.durableSize
    }

    /// A process has ended: its locks go, everything else stays.
    func closeAll() {
        var todo = [root]
        while let node = todo.popLast() {
            node.lockHolder = nil
            todo.append(contentsOf: node.entries.values)
        }
    }

    // MARK: Tampering

    func flipBit(_ path: String, _ offset: UInt64, _ bit: UInt8) -> Bool {
        guard let node = find(path), !node.isDirectory, offset < node.size else { return false }
        if node.bytes.count <= Int(offset) {
            node.bytes.append(contentsOf: repeatElement(0, count: Int(offset) + 1 - node.bytes.count))
        }
        if node.durableBytes.count <= Int(offset) {
            node.durableBytes.append(contentsOf: repeatElement(0, count: Int(offset) + 1 - node.durableBytes.count))
        }
        node.bytes[Int(offset)] ^= 1 << (bit & 7)
        node.durableBytes[Int(offset)] ^= 1 << (bit & 7)
        return true
    }

    func destroy(_ path: String) {
        guard let place = try? parent(of: path) else { return }
        place.directory.entries[place.name] = nil
        place.directory.durableEntries[place.name] = nil
    }

    func files(below path: String) -> [(path: String, size: UInt64)] {
        var found: [(path: String, size: UInt64)] = []
        func visit(_ node: DiskNode, _ path: String) {
            if !node.isDirectory { found.append((path, node.size)) }
            for name in node.entries.keys.sorted() {
                if let child = node.entries[name] { visit(child, path.isEmpty ? name : path + "/" + name) }
            }
        }
        if let node = find(path) { visit(node, path) }
        return found
    }
}

/// One incarnation's view of the disk. Every call may be the one at which the power goes.
final class SimulatedDisk: Disk, @unchecked Sendable {
    private let state: DiskState
    private let incarnation: Int

    init(state: DiskState, incarnation: Int) {
        self.state = state
        self.incarnation = incarnation
    }

    /// Whether the next call is the one at which the power goes.
    var crashesNext: Bool {
        guard let simulation = state.simulation, simulation.isLive(incarnation) else { return false }
        return simulation.crashAtDiskCall == simulation.diskCalls + 1
    }

    /// Counts the call; throws when this incarnation has ended, or ends it.
    func enter(_ kind: UInt64) throws(Errno) -> Simulation {
        guard let simulation = state.simulation, simulation.isLive(incarnation) else { throw .canceled }
        simulation.diskCalls += 1
        simulation.trace(16 + kind, UInt64(simulation.diskCalls))
        if simulation.crashAtDiskCall == simulation.diskCalls {
            simulation.crash()
            throw .canceled
        }
        return simulation
    }

    func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
        let simulation = try enter(1)
        if let node = state.find(path) {
            guard !node.isDirectory else { throw .isDirectory }
            if options.contains([.create, .exclusive]) { throw .exists }
            if options.contains(.truncate) {
                DiskNode.apply(.truncate(0), to: &node.bytes, &node.size)
                node.pending.append(.truncate(0))
            }
            return SimulatedFile(self, state, node)
        }
        guard options.contains(.create) else { throw .noEntry }
        let place = try state.parent(of: path)
        let node = DiskNode(isDirectory: false)
        node.modified = simulation.world.clock.wall()
        state.change([(place.directory, place.name, node)])
        return SimulatedFile(self, state, node)
    }

    func makeDirectory(_ path: String) throws(Errno) {
        _ = try enter(2)
        let place = try state.parent(of: path)
        guard place.directory.entries[place.name] == nil else { throw .exists }
        state.change([(place.directory, place.name, DiskNode(isDirectory: true))])
    }

    func removeDirectory(_ path: String) throws(Errno) {
        _ = try enter(3)
        let place = try state.parent(of: path)
        guard let node = place.directory.entries[place.name] else { throw .noEntry }
        guard node.isDirectory else { throw .notDirectory }
        guard node.entries.isEmpty else { throw .notEmpty }
        state.change([(place.directory, place.name, nil)])
    }

    func rename(_ from: String, to: String) throws(Errno) {
        _ = try enter(4)
        let source = try state.parent(of: from)
        let target = try state.parent(of: to)
        guard let node = source.directory.entries[source.name] else { throw .noEntry }
        if let old = target.directory.entries[target.name] {
            if old === node { return }
            if old.isDirectory != node.isDirectory { throw old.isDirectory ? .isDirectory : .notDirectory }
            if old.isDirectory, !old.entries.isEmpty { throw .notEmpty }
        }
        state.change([(source.directory, source.name, nil), (target.directory, target.name, node)])
    }

    func link(_ from: String, to: String) throws(Errno) {
        _ = try enter(5)
        let target = try state.parent(of: to)
        guard let node = state.find(from) else { throw .noEntry }
        guard !node.isDirectory else { throw .permission }
        guard target.directory.entries[target.name] == nil else { throw .exists }
        state.change([(target.directory, target.name, node)])
    }

    func remove(_ path: String) throws(Errno) {
        _ = try enter(6)
        let place = try state.parent(of: path)
        guard let node = place.directory.entries[place.name] else { throw .noEntry }
        guard !node.isDirectory else { throw .isDirectory }
        state.change([(place.directory, place.name, nil)])
    }

    func status(_ path: String) throws(Errno) -> FileStatus {
        _ = try enter(7)
        guard let node = state.find(path) else { throw .noEntry }
        return FileStatus(kind: node.isDirectory ? .directory : .file, size: node.size, modified: node.modified)
    }

    func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
        _ = try enter(8)
        guard let node = state.find(path) else { throw .noEntry }
        guard node.isDirectory else { throw .notDirectory }
        for name in node.entries.keys.sorted() {
            guard let child = node.entries[name] else { continue }
            if !visit(name, child.isDirectory ? .directory : .file) { return }
        }
    }

    func syncDirectory(_ path: String) throws(Errno) {
        let simulation = try enter(9)
        guard let node = state.find(path) else { throw .noEntry }
        guard node.isDirectory else { throw .notDirectory }
        if simulation.chance.once(in: simulation.faults.failedSync) {
            simulation.counts.failedSyncs += 1
            throw .io
        }
        state.sync(node)
    }

    func space() throws(Errno) -> DiskSpace {
        _ = try enter(10)
        let used = state.used
        return DiskSpace(total: state.capacity, free: used < state.capacity ? state.capacity - used : 0)
    }
}

final class SimulatedFile: DiskFile, @unchecked Sendable {
    private let disk: SimulatedDisk
    private let state: DiskState
    private let node: DiskNode
    private var isClosed = false

    init(_ disk: SimulatedDisk, _ state: DiskState, _ node: DiskNode) {
        self.disk = disk
        self.state = state
        self.node = node
    }

    deinit { close() }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
        let simulation = try disk.enter(11)
        precondition(!isClosed)
        if simulation.chance.once(in: simulation.faults.failedRead) {
            simulation.counts.failedReads += 1
            throw .io
        }
        guard offset < node.size else { return 0 }
        let count = min(buffer.count, Int(node.size - offset))
        guard let target = buffer.baseAddress else { return 0 }
        let stored = max(0, min(count, node.bytes.count - Int(offset)))
        node.bytes.withUnsafeBytes { source in
            if stored > 0, let base = source.baseAddress { target.copyMemory(from: base + Int(offset), byteCount: stored) }
        }
        if stored < count { (target + stored).initializeMemory(as: UInt8.self, repeating: 0, count: count - stored) }
        return count
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) { try write([buffer], at: offset) }

    func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) {
        var data: [UInt8] = []
        for buffer in buffers { data.append(contentsOf: buffer) }
        // The power may go while this is being written: then it counts among what had not been synced.
        let change = DiskNode.Change.write(offset: offset, bytes: data)
        if disk.crashesNext { node.pending.append(change) }
        let simulation = try disk.enter(12)
        precondition(!isClosed)
        let end = offset + UInt64(data.count)
        let grows = end > max(node.size, node.reserved)
        if simulation.chance.once(in: simulation.faults.noSpace)
            || grows && state.used + (end - max(node.size, node.reserved)) > state.capacity
        {
            simulation.counts.noSpaces += 1
            throw .noSpace
        }
        DiskNode.apply(change, to: &node.bytes, &node.size)
        node.pending.append(change)
        node.modified = simulation.world.clock.wall()
    }

    func sync() throws(Errno) {
        let simulation = try disk.enter(13)
        precondition(!isClosed)
        if simulation.chance.once(in: simulation.faults.failedSync) {
            simulation.counts.failedSyncs += 1
            // The kernel has marked the pages clean: a later sync will say that all is well.
            node.pending.removeAll()
            throw .io
        }
        for change in node.pending { DiskNode.apply(change, to: &node.durableBytes, &node.durableSize) }
        node.pending.removeAll()
        node.durableSize = node.size
    }

    func truncate(_ size: UInt64) throws(Errno) {
        let simulation = try disk.enter(14)
        precondition(!isClosed)
        DiskNode.apply(.truncate(size), to: &node.bytes, &node.size)
        node.pending.append(.truncate(size))
        node.modified = simulation.world.clock.wall()
    }

    func allocate(_ size: UInt64) throws(Errno) {
        _ = try disk.enter(15)
        precondition(!isClosed)
        let now = max(node.size, node.reserved)
        if size > now {
            guard state.used + (size - now) <= state.capacity else { throw .noSpace }
            node.reserved = size
            node.size = max(node.size, size)
        }
    }

    func size() throws(Errno) -> UInt64 {
        _ = try disk.enter(16)
        return node.size
    }

    func tryLock() throws(Errno) -> Bool {
        _ = try disk.enter(17)
        if let holder = node.lockHolder { return holder == ObjectIdentifier(self) }
        node.lockHolder = ObjectIdentifier(self)
        return true
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        if node.lockHolder == ObjectIdentifier(self) { node.lockHolder = nil }
    }
}

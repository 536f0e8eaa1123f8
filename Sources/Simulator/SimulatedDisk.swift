import Runtime

/// One incarnation's view of the disk. Every call may be the one at which the power goes.
final class SimulatedDisk: Disk, @unchecked Sendable {
    private let state: DiskState
    private let incarnation: Int

    init(state: DiskState, incarnation: Int) {
        self.state = state
        self.incarnation = incarnation
    }

    enum Call: UInt64 {
        case open = 1, makeDirectory, removeDirectory, rename, link, remove, status, list, syncDirectory, space
        case read, write, sync, truncate, allocate, size, lock

        var mayChange: Bool {
            switch self {
            case .open, .makeDirectory, .removeDirectory, .rename, .link, .remove, .syncDirectory, .write, .sync,
                .truncate, .allocate:
                true
            case .status, .list, .space, .read, .size, .lock: false
            }
        }
    }

    /// Whether this incarnation may still touch the disk.
    var isLive: Bool { state.simulation?.isLive(incarnation) ?? false }

    /// Counts the call; throws when this incarnation has ended, or ends it. `caught` tells what the power finds under
    /// way: it counts among what had not been synced.
    func enter(_ call: Call, caught: () -> Void = {}) throws(Errno) -> Simulation {
        guard let simulation = state.simulation, simulation.isLive(incarnation) else { throw .canceled }
        simulation.diskCalls += 1
        simulation.trace(16 + call.rawValue, UInt64(simulation.diskCalls))
        if call.mayChange { simulation.diskChanges += 1 }
        let isTime =
            simulation.crashAtDiskCall == simulation.diskCalls
            || call.mayChange && simulation.crashAtDiskChange == simulation.diskChanges
        if isTime || simulation.chance.once(in: simulation.faults.powerLoss) {
            caught()
            simulation.crash()
            throw .canceled
        }
        return simulation
    }

    func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
        let simulation = try enter(.open)
        let place = try state.parent(of: path)
        let node: DiskNode
        if let found = place.directory.entries[place.name] {
            if options.contains([.create, .exclusive]) { throw .exists }
            guard !found.isDirectory else { throw .isDirectory }
            node = found
            if options.contains(.truncate), node.shown.size > 0 {
                state.account(node) {
                    $0.shown.apply(.truncate(0))
                    $0.reserved = 0
                }
                node.pending.append(.truncate(0))
            }
        } else {
            guard options.contains(.create) else { throw .noEntry }
            node = DiskNode(isDirectory: false)
            node.modified = simulation.world.clock.wall()
            state.change([(place.directory, place.name, node)])
        }
        state.account(node) { $0.handles += 1 }
        return SimulatedFile(self, state, node, options)
    }

    func makeDirectory(_ path: String) throws(Errno) {
        let simulation = try enter(.makeDirectory)
        let place = try state.parent(of: path)
        guard place.directory.entries[place.name] == nil else { throw .exists }
        let node = DiskNode(isDirectory: true)
        node.modified = simulation.world.clock.wall()
        state.change([(place.directory, place.name, node)])
    }

    func removeDirectory(_ path: String) throws(Errno) {
        _ = try enter(.removeDirectory)
        let place = try state.parent(of: path)
        guard let node = place.directory.entries[place.name] else { throw .noEntry }
        guard node.isDirectory else { throw .notDirectory }
        guard node.entries.isEmpty else { throw .notEmpty }
        state.change([(place.directory, place.name, nil)])
    }

    func rename(_ from: String, to: String) throws(Errno) {
        _ = try enter(.rename)
        let source = try state.parent(of: from)
        let target = try state.parent(of: to)
        guard let node = source.directory.entries[source.name] else { throw .noEntry }
        if node.isDirectory, to.hasPrefix(from + "/") { throw .invalid }
        if let old = target.directory.entries[target.name] {
            if old === node { return }
            if old.isDirectory != node.isDirectory { throw old.isDirectory ? .isDirectory : .notDirectory }
            if old.isDirectory, !old.entries.isEmpty { throw .notEmpty }
        }
        state.change([(source.directory, source.name, nil), (target.directory, target.name, node)])
    }

    func link(_ from: String, to: String) throws(Errno) {
        _ = try enter(.link)
        try DiskPath.checkBelow(from)
        let node = try state.find(from)
        let target = try state.parent(of: to)
        guard target.directory.entries[target.name] == nil else { throw .exists }
        guard !node.isDirectory else { throw .notPermitted }
        state.change([(target.directory, target.name, node)])
    }

    func remove(_ path: String) throws(Errno) {
        _ = try enter(.remove)
        let place = try state.parent(of: path)
        guard let node = place.directory.entries[place.name] else { throw .noEntry }
        guard !node.isDirectory else { throw .isDirectory }
        state.change([(place.directory, place.name, nil)])
    }

    func status(_ path: String) throws(Errno) -> FileStatus {
        _ = try enter(.status)
        let node = try state.find(path)
        return FileStatus(kind: node.isDirectory ? .directory : .file, size: node.shown.size, modified: node.modified)
    }

    func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
        _ = try enter(.list)
        let node = try state.directory(path)
        for name in node.entries.keys.sorted() {
            guard let child = node.entries[name] else { continue }
            if !visit(name, child.isDirectory ? .directory : .file) { return }
        }
    }

    func syncDirectory(_ path: String) throws(Errno) {
        let simulation = try enter(.syncDirectory)
        let node = try state.directory(path)
        if simulation.chance.once(in: simulation.faults.failedSync) {
            simulation.counts.failedSyncs += 1
            throw .io
        }
        state.sync(node)
    }

    func space() throws(Errno) -> DiskSpace {
        _ = try enter(.space)
        return DiskSpace(total: state.capacity, free: state.capacity - min(state.used, state.capacity))
    }
}

final class SimulatedFile: DiskFile, @unchecked Sendable {
    private let disk: SimulatedDisk
    private let state: DiskState
    private let node: DiskNode
    private let options: OpenOptions
    private var isClosed = false
    private static let directAlignment = 4096

    init(_ disk: SimulatedDisk, _ state: DiskState, _ node: DiskNode, _ options: OpenOptions) {
        self.disk = disk
        self.state = state
        self.node = node
        self.options = options
    }

    deinit { close() }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
        let simulation = try disk.enter(.read)
        precondition(!isClosed, "a file is used after its end")
        try checkDirect(offset, UnsafeRawBufferPointer(buffer))
        if simulation.chance.once(in: simulation.faults.failedRead) {
            simulation.counts.failedReads += 1
            throw .io
        }
        guard offset < node.shown.size, let target = buffer.baseAddress else { return 0 }
        let count = min(buffer.count, Int(node.shown.size - offset))
        let stored = max(0, min(count, node.shown.bytes.count - Int(offset)))
        node.shown.bytes.withUnsafeBytes { source in
            if stored > 0, let base = source.baseAddress {
                target.copyMemory(from: base + Int(offset), byteCount: stored)
            }
        }
        if stored < count { (target + stored).initializeMemory(as: UInt8.self, repeating: 0, count: count - stored) }
        return count
    }

    /// Nothing is in memory: every read may fail, and takes its time.
    func readNow(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool { false }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) { try write([buffer], at: offset) }

    func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) {
        var data: [UInt8] = []
        data.reserveCapacity(buffers.reduce(0) { $0 + $1.count })
        for buffer in buffers { data.append(contentsOf: buffer) }
        let simulation = try disk.enter(.write) { node.pending.append(.write(offset: offset, bytes: data)) }
        precondition(!isClosed, "a file is used after its end")
        guard options.contains(.write) else { throw .badDescriptor }
        for buffer in buffers { try checkDirect(offset, buffer) }
        let end = offset + UInt64(data.count)
        let now = max(node.shown.size, node.reserved)
        if simulation.chance.once(in: simulation.faults.noSpace) || end > now && !state.fits(end - now) {
            simulation.counts.noSpaces += 1
            // Some of it was written before the space ran out.
            if !data.isEmpty {
                let part = min(data.count - 1, simulation.chance.below(data.count))
                let fitting = end > now ? min(part, max(0, Int(now) - Int(offset))) : part
                data.removeLast(data.count - fitting)
                append(.write(offset: offset, bytes: data))
            }
            throw .noSpace
        }
        append(.write(offset: offset, bytes: data))
        node.modified = simulation.world.clock.wall()
    }

    private func append(_ change: DiskNode.Change) {
        state.account(node) { $0.shown.apply(change) }
        node.pending.append(change)
    }

    private func checkDirect(_ offset: UInt64, _ buffer: UnsafeRawBufferPointer) throws(Errno) {
        guard options.contains(.direct) else { return }
        let mask = Self.directAlignment - 1
        let address = Int(bitPattern: buffer.baseAddress)
        guard Int(offset) & mask == 0, buffer.count & mask == 0, address & mask == 0 else { throw .invalid }
    }

    func sync() throws(Errno) {
        let simulation = try disk.enter(.sync)
        simulation.diskSyncs += 1
        precondition(!isClosed, "a file is used after its end")
        if simulation.chance.once(in: simulation.faults.failedSync) {
            simulation.counts.failedSyncs += 1
            DiskLoss(simulation: simulation, mix: simulation.faults).failSync(node)
            throw .io
        }
        for change in node.pending { node.durable.apply(change) }
        node.pending.removeAll()
    }

    func truncate(_ size: UInt64) throws(Errno) {
        let simulation = try disk.enter(.truncate) { node.pending.append(.truncate(size)) }
        precondition(!isClosed, "a file is used after its end")
        guard options.contains(.write) else { throw .invalid }
        state.account(node) { $0.reserved = min($0.reserved, size) }
        append(.truncate(size))
        node.modified = simulation.world.clock.wall()
    }

    /// What the system writes of itself, and when, is drawn at each crash.
    func startWriting(at offset: UInt64, _ count: Int) {}

    func allocate(_ size: UInt64) throws(Errno) {
        let simulation = try disk.enter(.allocate)
        precondition(!isClosed, "a file is used after its end")
        guard options.contains(.write) else { throw .badDescriptor }
        guard size > 0 else { throw .invalid }
        let now = max(node.shown.size, node.reserved)
        if simulation.chance.once(in: simulation.faults.noSpace) || size > now && !state.fits(size - now) {
            simulation.counts.noSpaces += 1
            throw .noSpace
        }
        state.account(node) { $0.reserved = max(now, size) }
        if size > node.shown.size { append(.extend(size)) }
    }

    func size() throws(Errno) -> UInt64 {
        _ = try disk.enter(.size)
        precondition(!isClosed, "a file is used after its end")
        return node.shown.size
    }

    func tryLock() throws(Errno) -> Bool {
        _ = try disk.enter(.lock)
        precondition(!isClosed, "a file is used after its end")
        guard options.contains(.write) else { throw .badDescriptor }
        if let holder = node.lockHolder { return holder == ObjectIdentifier(self) }
        node.lockHolder = ObjectIdentifier(self)
        return true
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        // The end of an incarnation has closed its files already, whenever their last owner drops them.
        guard disk.isLive else { return }
        if node.lockHolder == ObjectIdentifier(self) { node.lockHolder = nil }
        state.account(node) { $0.handles -= 1 }
    }
}

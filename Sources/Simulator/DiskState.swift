import Runtime

/// What is on a simulated disk, over all incarnations of the program.
final class DiskState {
    let root = DiskNode(isDirectory: true)
    let capacity: UInt64
    private(set) var used: UInt64 = 0
    weak var simulation: Simulation?
    /// Changes of names that no directory sync has made durable, in order.
    private var pendingNames: [[Effect]] = []

    private struct Effect {
        let directory: DiskNode
        let name: String
        /// Nil: the name goes away.
        let node: DiskNode?
    }

    init(capacity: UInt64) {
        self.capacity = capacity
        root.links = 1
    }

    /// Takes over what another disk holds, whatever of it is durable.
    func copy(_ other: DiskState) {
        precondition(root.entries.isEmpty && pendingNames.isEmpty, "a disk that is in use")
        var copies: [ObjectIdentifier: DiskNode] = [ObjectIdentifier(other.root): root]
        var todo = [other.root]
        func twin(_ node: DiskNode) -> DiskNode {
            if let known = copies[ObjectIdentifier(node)] { return known }
            let copy = DiskNode(isDirectory: node.isDirectory)
            copies[ObjectIdentifier(node)] = copy
            todo.append(node)
            return copy
        }
        while let node = todo.popLast() {
            let copy = twin(node)
            copy.modified = node.modified
            copy.links = node.links
            copy.shown = node.shown
            copy.durable = node.durable
            copy.reserved = node.reserved
            copy.pending = node.pending
            copy.entries = node.entries.mapValues { twin($0) }
            copy.durableEntries = node.durableEntries.mapValues { twin($0) }
        }
        pendingNames = other.pendingNames.map { effects in
            effects.map { Effect(directory: twin($0.directory), name: $0.name, node: $0.node.map { twin($0) }) }
        }
        used = other.used
    }

    /// The run is over. Tasks that it left suspended may hold files for ever, but not what is in them.
    func erase() {
        var nodes = [root]
        for effects in pendingNames { nodes += effects.compactMap(\.node) }
        pendingNames = []
        while let node = nodes.popLast() {
            nodes += node.entries.values
            nodes += node.durableEntries.values
            node.entries = [:]
            node.durableEntries = [:]
            node.pending = []
            node.shown = DiskNode.Content()
            node.durable = DiskNode.Content()
        }
    }

    // MARK: Names

    func find(_ path: String) throws(Errno) -> DiskNode {
        try DiskPath.check(path)
        var node = root
        for part in path.split(separator: "/") {
            guard node.isDirectory else { throw .notDirectory }
            guard let next = node.entries[String(part)] else { throw .noEntry }
            node = next
        }
        return node
    }

    func directory(_ path: String) throws(Errno) -> DiskNode {
        let node = try find(path)
        guard node.isDirectory else { throw .notDirectory }
        return node
    }

    func parent(of path: String) throws(Errno) -> (directory: DiskNode, name: String) {
        try DiskPath.checkBelow(path)
        let above = DiskPath.parent(of: path)
        return (try directory(above), String(path.dropFirst(above.isEmpty ? 0 : above.count + 1)))
    }

    /// The names change together or not at all, as far as they are in one directory.
    func change(_ effects: [(directory: DiskNode, name: String, node: DiskNode?)]) {
        for effect in effects {
            if let old = effect.directory.entries[effect.name] { account(old) { $0.links -= 1 } }
            if let new = effect.node { account(new) { $0.links += 1 } }
            effect.directory.entries[effect.name] = effect.node
        }
        pendingNames.append(effects.map { Effect(directory: $0.directory, name: $0.name, node: $0.node) })
    }

    /// The names in `directory` become durable. A file that was renamed out of it must not be lost in between, so the
    /// other half of a rename goes along, and with it what happened to that name before.
    func sync(_ directory: DiskNode) {
        var chosen = Set<Int>()
        var todo: [(directory: DiskNode, name: String?, last: Int)] = [(directory, nil, pendingNames.count - 1)]
        while let want = todo.popLast() {
            guard want.last >= 0 else { continue }
            for index in 0...want.last {
                for (half, effect) in pendingNames[index].enumerated()
                where effect.directory === want.directory && (want.name.map { $0 == effect.name } ?? true) {
                    guard chosen.insert(index << 1 | half).inserted, effect.node == nil else { continue }
                    for other in pendingNames[index] where other.node != nil {
                        todo.append((other.directory, other.name, index))
                    }
                }
            }
        }
        var left: [[Effect]] = []
        for (index, effects) in pendingNames.enumerated() {
            var rest: [Effect] = []
            for (half, effect) in effects.enumerated() {
                if chosen.contains(index << 1 | half) {
                    effect.directory.durableEntries[effect.name] = effect.node
                } else {
                    rest.append(effect)
                }
            }
            if !rest.isEmpty { left.append(rest) }
        }
        pendingNames = left
    }

    // MARK: Space

    /// Changes a node so that the space that it takes stays counted.
    func account(_ node: DiskNode, _ change: (DiskNode) -> Void) {
        used -= node.space
        change(node)
        used += node.space
    }

    /// Whether `more` bytes fit.
    func fits(_ more: UInt64) -> Bool { used + more <= capacity }

    // MARK: Power

    func losePower() {
        guard let simulation else { return }
        loseNames(simulation)
        used = 0
        var seen: Set<ObjectIdentifier> = []
        root.links = 1
        // Nodes by first appearance under sorted names: the order of draws must not depend on hashing.
        var todo = [root]
        while let node = todo.popLast() {
            node.handles = 0
            node.lockHolder = nil
            guard node.isDirectory else {
                DiskLoss(simulation: simulation, mix: simulation.faults).crash(node)
                used += node.space
                continue
            }
            node.entries = node.durableEntries
            for name in node.entries.keys.sorted(by: >) {
                guard let child = node.entries[name] else { continue }
                let isNew = seen.insert(ObjectIdentifier(child)).inserted
                child.links = isNew ? 1 : child.links + 1
                if isNew { todo.append(child) }
            }
        }
    }

    private func loseNames(_ simulation: Simulation) {
        // A journal keeps a prefix of what happened to names; a weaker file system keeps what it likes, and the halves
        // of a rename between directories apart: then both names may be there, but never neither.
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
            let isBetween = effects.contains { $0.directory !== effects[0].directory }
            let isHalf = !isJournal && isBetween && simulation.chance.below(2) == 0
            if isHalf { simulation.counts.halfRenames += 1 }
            for effect in effects where !isHalf || effect.node != nil {
                effect.directory.durableEntries[effect.name] = effect.node
            }
        }
        pendingNames.removeAll()
    }

    /// A process has ended: its locks and open files go, everything else stays.
    func closeAll() {
        var todo = [root]
        while let node = todo.popLast() {
            node.lockHolder = nil
            account(node) { $0.handles = 0 }
            todo.append(contentsOf: node.entries.values)
        }
    }

    // MARK: Tampering

    func flipBit(_ path: String, _ offset: UInt64, _ bit: UInt8) -> Bool {
        guard let node = try? find(path), !node.isDirectory, offset < node.shown.size else { return false }
        node.shown.flip(offset, bit)
        node.durable.flip(offset, bit)
        return true
    }

    func destroy(_ path: String) {
        guard let place = try? parent(of: path) else { return }
        if let node = place.directory.entries[place.name] { account(node) { $0.links -= 1 } }
        place.directory.entries[place.name] = nil
        place.directory.durableEntries[place.name] = nil
        pendingNames = pendingNames.map { effects in
            effects.filter { $0.directory !== place.directory || $0.name != place.name }
        }
    }

    func files(below path: String) -> [(path: String, size: UInt64)] {
        var found: [(path: String, size: UInt64)] = []
        guard let start = try? find(path) else { return [] }
        var todo = [(start, path)]
        while let (node, path) = todo.popLast() {
            if !node.isDirectory { found.append((path, node.shown.size)) }
            for name in node.entries.keys.sorted(by: >) {
                if let child = node.entries[name] { todo.append((child, path.isEmpty ? name : path + "/" + name)) }
            }
        }
        return found
    }
}

/// What becomes of bytes that were not synced.
struct DiskLoss {
    private static let sector = 512
    let simulation: Simulation
    let mix: FaultMix

    /// The power has gone: each change survives whole, or in part, or not at all, each for itself.
    func crash(_ node: DiskNode) {
        for change in node.pending { settle(change, of: node) }
        node.pending.removeAll()
        node.shown = node.durable
        node.reserved = node.durable.size
    }

    /// A sync has failed. The kernel has marked the pages clean: they can be read until the power goes, a later sync
    /// says that all is well, and what of them is on the medium nobody knows.
    func failSync(_ node: DiskNode) {
        for change in node.pending { settle(change, of: node) }
        node.pending.removeAll()
    }

    private func settle(_ change: DiskNode.Change, of node: DiskNode) {
        guard case .write(let offset, let bytes) = change else {
            if simulation.chance.below(2) == 0 { node.durable.apply(change) }
            return
        }
        switch simulation.chance.below(mix.tornWrites ? 4 : 2) {
        case 0: simulation.counts.lostWrites += 1
        case 1:
            simulation.counts.survivedWrites += 1
            node.durable.apply(change)
        case 2:
            simulation.counts.tornWrites += 1
            tear(offset, bytes) { _ in
                simulation.chance.below(2) == 0
            } apply: {
                node.durable.apply($0)
            }
        default:
            // The size came to the disk before the blocks: behind the old end lies what the blocks held before.
            simulation.counts.staleBlocks += 1
            let end = node.durable.size
            tear(offset, bytes) { place in
                place >= end
            } apply: { part in
                guard case .write(let offset, let bytes) = part else { return }
                let stale = simulation.chance.below(2) == 0 ? 0 : UInt8(truncatingIfNeeded: simulation.chance.next())
                node.durable.apply(.write(offset: offset, bytes: Array(repeating: stale, count: bytes.count)))
            }
        }
    }

    /// Sector by sector, as they lie on the disk.
    private func tear(
        _ offset: UInt64, _ bytes: [UInt8], keeps: (UInt64) -> Bool, apply: (DiskNode.Change) -> Void
    ) {
        var place = 0
        while place < bytes.count {
            let boundary = (Int(offset) + place) / Self.sector * Self.sector + Self.sector
            let end = min(bytes.count, boundary - Int(offset))
            let start = offset + UInt64(place)
            if keeps(start) { apply(.write(offset: start, bytes: Array(bytes[place..<end]))) }
            place = end
        }
    }
}

import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// Who opens a volume promises what he goes on with to whoever asks, and syncs none of it any more: its bytes and names are on the disk by then.
struct OpeningSyncTests {
    /// Knows what a power cut may take: bytes of files, and names in folders.
    private final class NotingDisk: Disk, @unchecked Sendable {
        /// Behind the lock.
        final class Node: @unchecked Sendable { var isDirty = false }

        private let inner: any Disk
        private let state = Mutex((nodes: [String: Node](), folders: Set<String>(), early: Set<String>()))

        init(_ inner: any Disk) { self.inner = inner }

        var lacking: [String] {
            state.withLock { $0.nodes.filter(\.value.isDirty).map(\.key) + $0.folders.map { $0 + "/" } }.sorted()
        }

        /// What was lacking when the stage was made, or the log that goes on: no step leaves its own to the sync of the next.
        var early: [String] { state.withLock { $0.early.sorted() } }

        private func begin(_ path: String) {
            guard path.hasSuffix("/stage") || path.hasSuffix(".log.draft") else { return }
            let lacking = lacking
            state.withLock { $0.early.formUnion(lacking) }
        }

        func world(_ world: World) -> World {
            World(
                clock: world.clock, random: world.random, disk: self, network: world.network, blocking: world.blocking,
                loops: world.loops)
        }

        fileprivate func note(_ node: Node, isDirty: Bool) { state.withLock { _ in node.isDirty = isDirty } }
        private static func folder(_ path: String) -> String {
            path.split(separator: "/").dropLast().joined(separator: "/")
        }

        func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
            begin(path)
            let file = try inner.open(path, options)
            let node = state.withLock { state in
                if options.contains(.create) { state.folders.insert(Self.folder(path)) }
                let node = state.nodes[path] ?? Node()
                state.nodes[path] = node
                return node
            }
            return NotingFile(self, file, node)
        }
        func rename(_ from: String, to: String) throws(Errno) {
            try inner.rename(from, to: to)
            state.withLock { state in
                state.nodes[to] = state.nodes.removeValue(forKey: from)
                state.folders.formUnion([Self.folder(from), Self.folder(to)])
            }
        }
        func link(_ from: String, to: String) throws(Errno) {
            try inner.link(from, to: to)
            state.withLock { state in
                state.nodes[to] = state.nodes[from]
                state.folders.insert(Self.folder(to))
            }
        }
        func makeDirectory(_ path: String) throws(Errno) {
            begin(path)
            try inner.makeDirectory(path)
            state.withLock { _ = $0.folders.insert(Self.folder(path)) }
        }
        func syncDirectory(_ path: String) throws(Errno) {
            try inner.syncDirectory(path)
            state.withLock { _ = $0.folders.remove(path) }
        }
        func remove(_ path: String) throws(Errno) {
            try inner.remove(path)
            state.withLock { $0.nodes[path] = nil }
        }
        func removeDirectory(_ path: String) throws(Errno) { try inner.removeDirectory(path) }
        func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
            try inner.list(path, visit)
        }
        func status(_ path: String) throws(Errno) -> FileStatus { try inner.status(path) }
        func space() throws(Errno) -> DiskSpace { try inner.space() }
    }

    private final class NotingFile: DiskFile, @unchecked Sendable {
        private let disk: NotingDisk
        private let inner: any DiskFile
        private let node: NotingDisk.Node

        init(_ disk: NotingDisk, _ inner: any DiskFile, _ node: NotingDisk.Node) {
            (self.disk, self.inner, self.node) = (disk, inner, node)
        }

        func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
            disk.note(node, isDirty: true)
            try inner.write(buffer, at: offset)
        }
        func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) {
            disk.note(node, isDirty: true)
            try inner.write(buffers, at: offset)
        }
        func sync() throws(Errno) {
            try inner.sync()
            disk.note(node, isDirty: false)
        }
        func truncate(_ size: UInt64) throws(Errno) {
            disk.note(node, isDirty: true)
            try inner.truncate(size)
        }
        func allocate(_ size: UInt64) throws(Errno) {
            disk.note(node, isDirty: true)
            try inner.allocate(size)
        }
        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
            try inner.read(into: buffer, at: offset)
        }
        func readNow(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool {
            inner.readNow(into: buffer, at: offset)
        }
        func startWriting(at offset: UInt64, _ count: Int) { inner.startWriting(at: offset, count) }
        func size() throws(Errno) -> UInt64 { try inner.size() }
        func tryLock() throws(Errno) -> Bool { try inner.tryLock() }
        func close() { inner.close() }
    }

    private static func open(
        _ world: World, _ store: any StoreTransport, _ log: String = "a", isShared: Bool, takesOver: Bool = false
    ) async throws -> Headhunter {
        try await StoreRig.open(world, store, log) {
            ($0.logIsShared, $0.takesOver) = (isShared, takesOver)
            // Nothing goes by itself.
            ($0.checkpointNanoseconds, $0.flushNanoseconds) = (3_600_000_000_000, 3_600_000_000_000)
        }
    }

    /// Records and data that nobody is known to have been told of.
    private static func write(_ volume: Headhunter) async throws {
        let (_, number) = try await StoreRig.store(volume, [UInt8](repeating: 1, count: 100_000))
        try await volume.commit(number, .written)
        volume.abandon()
    }

    private static func lacking(
        _ world: World, _ store: any StoreTransport, isShared: Bool, takesOver: Bool = false
    ) async throws -> String? {
        let disk = NotingDisk(world.disk)
        (try await open(disk.world(world), store, isShared: isShared, takesOver: takesOver)).abandon()
        let lacking = disk.early + disk.lacking
        return lacking.isEmpty ? nil : "not on the disk: \(lacking)"
    }

    @Test(arguments: [false, true]) func aNewDirectory(_ isShared: Bool) throws {
        try StoreRig.run(seed: 161) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            return try await Self.lacking(world, store, isShared: isShared)
        }
    }

    @Test(arguments: [false, true]) func whatIsReadAgain(_ isShared: Bool) throws {
        try StoreRig.run(seed: 162) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            try await Self.write(try await Self.open(world, store, isShared: isShared))
            return try await Self.lacking(world, store, isShared: isShared)
        }
    }

    /// The directory has a log of before the volume went elsewhere.
    @Test(arguments: [false, true]) func whatIsSetAside(_ isShared: Bool) throws {
        try StoreRig.run(seed: 163) { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            try await Self.write(try await Self.open(world, store, isShared: isShared))
            try await Self.write(try await Self.open(world, store, "b", isShared: isShared, takesOver: true))
            return try await Self.lacking(world, store, isShared: isShared, takesOver: true)
        }
    }

    /// By itself, too, before anything is made in the place of what went.
    @Test func whatGoesAside() throws {
        try StoreRig.run(seed: 164) { world in
            let disk = NotingDisk(world.disk)
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                for folder in ["a", "a/stage"] { try world.disk.makeDirectory(folder) }
                for name in ["a/0000000000000001.log", "a/stage/0000000000000001-0.stage"] {
                    (try world.disk.open(name, [.write, .create, .exclusive])).close()
                }
                try LogDirectory(disk: disk, path: "a").setAside(7)
            }
            let lacking = disk.lacking
            return lacking.isEmpty ? nil : "not on the disk: \(lacking)"
        }
    }

    /// A sync failed, and the process ended. What the system goes on to show of that file is in its memory alone, and no later sync writes it: once
    /// the next process has shown it and promised, it is there after a power cut.
    @Test func aSyncThatFailedBefore() throws {
        let simulation = Simulation(seed: 165)
        Bench.prepare(simulation)
        let open: @Sendable (World) async throws -> Headhunter = { world in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let rig = StoreRig(world, directory)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            return try await Self.open(world, rig, "log", isShared: false)
        }
        let kept = Mutex<[SegmentRange]>([])
        try StoreRig.run(simulation) { world in
            let volume = try await open(world)
            var last: UInt64 = 0
            for mark in UInt8(1)...20 {
                let (range, number) = try await StoreRig.store(volume, [UInt8](repeating: mark, count: 20_000))
                try await volume.commit(number, .written)
                kept.withLock { $0.append(range) }
                last = number
            }
            simulation.faults.failedSync = 1
            do throws(VolumeError) { try await volume.commit(last, .durable) } catch { return nil }
            return "it is durable without a sync"
        }
        simulation.faults.failedSync = 0
        simulation.killAndRestart()
        for life in ["after the process", "after the power"] {
            try StoreRig.run(simulation) { world in
                let volume = try await open(world)
                for (index, range) in kept.withLock({ $0 }).enumerated() {
                    guard try await StoreRig.read(volume, range).allSatisfy({ $0 == UInt8(index + 1) }) else {
                        return "\(life): other bytes in \(index)"
                    }
                }
                try await volume.commit(volume.log.last, .durable)
                return nil
            }
            simulation.crash()
            simulation.restart()
        }
    }
}

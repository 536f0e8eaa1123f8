import Glibc
import Headhunter
import ObjectStore
import Runtime
import Synchronization
import Testing

/// A sync on the side and what goes on meanwhile, step by step: a disk that calls back in the middle of its calls, and whose files have
/// after a power cut what they had when the last sync that succeeded began.
struct SideSyncTests {
    private static let mebibyte = 1 << 20

    /// Used by one thread at a time.
    private final class CallingDisk: Disk, @unchecked Sendable {
        var files: [String: CallingFile] = [:]
        /// Names that a power cut leaves.
        var durableNames: Set<String> = []
        private var lostNames: Set<String> = []
        /// Each is called once.
        var whenSyncing: (() -> Void)?
        var whenWriting: (() -> Void)?
        /// How many of the next calls fail.
        var failingWrites = 0
        var failingSyncs = 0
        var failingDirectorySyncs = 0

        func take(_ count: ReferenceWritableKeyPath<CallingDisk, Int>) -> Bool {
            guard self[keyPath: count] > 0 else { return false }
            self[keyPath: count] -= 1
            return true
        }

        func call(_ place: ReferenceWritableKeyPath<CallingDisk, (() -> Void)?>) {
            let body = self[keyPath: place]
            self[keyPath: place] = nil
            body?()
        }

        func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
            guard options.contains(.exclusive), files[path] == nil else { throw .invalid }
            let file = CallingFile(self, path)
            files[path] = file
            return file
        }
        func remove(_ path: String) throws(Errno) { files[path] = nil }
        /// A name that it could not write is never written again, and nobody is told once more.
        func syncDirectory(_ path: String) throws(Errno) {
            if take(\.failingDirectorySyncs) {
                lostNames.formUnion(files.keys)
                throw .io
            }
            durableNames.formUnion(files.keys.filter { !lostNames.contains($0) })
        }
        func makeDirectory(_ path: String) throws(Errno) { throw .invalid }
        func removeDirectory(_ path: String) throws(Errno) { throw .invalid }
        func rename(_ from: String, to: String) throws(Errno) { throw .invalid }
        func link(_ from: String, to: String) throws(Errno) { throw .invalid }
        func status(_ path: String) throws(Errno) -> FileStatus { throw .invalid }
        func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) { throw .invalid }
        func space() throws(Errno) -> DiskSpace { throw .invalid }
    }

    private final class CallingFile: DiskFile, @unchecked Sendable {
        private unowned let disk: CallingDisk
        let path: String
        private(set) var bytes: [UInt8] = []
        private(set) var durable: [UInt8] = []
        /// From here on the kernel believes that the disk has what it could not write.
        private var lostFrom = Int.max

        init(_ disk: CallingDisk, _ path: String) { (self.disk, self.path) = (disk, path) }

        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
            let part = bytes.dropFirst(Int(offset)).prefix(buffer.count)
            buffer.copyBytes(from: part)
            return part.count
        }
        func readNow(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool { false }
        func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
            disk.call(\.whenWriting)
            if disk.take(\.failingWrites) { throw .io }
            let end = Int(offset) + buffer.count
            if bytes.count < end { bytes += Array(repeating: 0, count: end - bytes.count) }
            bytes.replaceSubrange(Int(offset)..<end, with: buffer)
        }
        func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) { throw .invalid }
        func sync() throws(Errno) {
            let begun = bytes
            disk.call(\.whenSyncing)
            if disk.take(\.failingSyncs) {
                lostFrom = min(lostFrom, durable.count)
                throw .io
            }
            durable = Array(begun.prefix(lostFrom))
        }
        func startWriting(at offset: UInt64, _ count: Int) {}
        func truncate(_ size: UInt64) throws(Errno) { throw .invalid }
        func allocate(_ size: UInt64) throws(Errno) { throw .invalid }
        func size() throws(Errno) -> UInt64 { UInt64(bytes.count) }
        func tryLock() throws(Errno) -> Bool { throw .invalid }
        func close() {}
    }

    /// The segments of a volume, and who writes them.
    private final class Rig {
        let disk = CallingDisk()
        let segments: Segments
        let writer: StageWriter
        private var content: [Heat: [UInt8]] = [:]

        init(memoryMebibytes: Int) {
            let cache = DataCache(bytes: 0)
            segments = Segments(
                volume: VolumeIdentity(high: 1, low: 2), epoch: 1, flushBytes: 64 * mebibyte,
                memoryMax: memoryMebibytes * mebibyte, stagedMax: 1 << 30, durable: 0,
                recent: RecentChunks(bytes: 0, lender: cache))
            for number in 1...4 as ClosedRange<UInt64> { segments.add(number: number) }
            writer = StageWriter(disk: disk, directory: "d", segments: segments, written: cache, isFinal: false)
        }

        /// Appends `count` MiB.
        @discardableResult
        func append(_ count: Int, _ heat: Heat = .large) throws -> Segments.Stage {
            var number: UInt64 = 0
            for _ in 0..<count {
                let begin = content[heat, default: []].count
                let piece = (0..<mebibyte).map { UInt8(truncatingIfNeeded: ($0 + begin) &* 151 ^ ($0 + begin) >> 12) }
                let placed = try #require(piece.withUnsafeBytes { segments.append($0, heat: heat, now: 1) })
                number = placed.range.segment
                content[heat, default: []] += piece
            }
            return try #require(segments.stage(number))
        }

        func file(of stage: Segments.Stage) throws -> CallingFile { try #require(stage.file as? CallingFile) }

        /// Whether what counts as durable is there after a power cut, name and all.
        func expectDurable(_ stage: Segments.Stage, _ heat: Heat = .large) throws {
            let file = try file(of: stage)
            #expect(disk.durableNames.contains(file.path))
            #expect(file.durable.count >= stage.synced)
            let header = 64
            guard stage.synced > header else { return }
            #expect(
                file.durable.prefix(stage.synced).dropFirst(header).elementsEqual(
                    content[heat, default: []].prefix(stage.synced - header)))
        }
    }

    @Test func aSyncCountsForWhatWasWrittenBeforeItBegan() throws {
        let rig = Rig(memoryMebibytes: 16)
        let stage = try rig.append(2)
        try rig.writer.write(stage, upTo: stage.size, sync: false)
        let asked = stage.written
        rig.disk.whenSyncing = {
            do {
                try rig.append(1)
                try rig.writer.write(stage, upTo: stage.size, sync: false)
            } catch { Issue.record(error) }
        }
        rig.writer.sync(stage, try rig.file(of: stage), upTo: asked)
        #expect(stage.written > asked)
        #expect(stage.synced == asked)
        try rig.expectDurable(stage)
    }

    @Test func aSyncThatFailedWhileMoreWasWrittenIsMadeGood() throws {
        let rig = Rig(memoryMebibytes: 16)
        let stage = try rig.append(2)
        try rig.writer.write(stage, upTo: stage.size, sync: false)
        rig.writer.sync(stage, try rig.file(of: stage), upTo: stage.written)
        try rig.append(2)
        try rig.writer.write(stage, upTo: stage.size, sync: false)
        rig.disk.whenSyncing = {
            do {
                try rig.append(1)
                try rig.writer.write(stage, upTo: stage.size, sync: false)
            } catch { Issue.record(error) }
        }
        rig.disk.failingSyncs = 1
        let old = try rig.file(of: stage)
        rig.writer.sync(stage, old, upTo: stage.written)
        #expect(stage.isSuspect)
        try rig.expectDurable(stage)
        try rig.writer.write(stage, upTo: stage.size, sync: true)
        #expect(try rig.file(of: stage) !== old)
        #expect(!stage.isSuspect && stage.synced == stage.size)
        try rig.expectDurable(stage)
    }

    /// Another file takes the place of the one that is being synced: what becomes of the sync says nothing of the new one.
    @Test(arguments: [0, 1])
    func aFileThatWasReplacedMeanwhileSaysNothing(_ failing: Int) throws {
        let rig = Rig(memoryMebibytes: 16)
        let stage = try rig.append(2)
        try rig.writer.write(stage, upTo: stage.size, sync: false)
        let old = try rig.file(of: stage)
        rig.disk.whenSyncing = {
            do {
                try rig.append(1)
                rig.disk.failingWrites = 1
                try rig.writer.write(stage, upTo: stage.size, sync: false)
                rig.disk.failingSyncs = failing
            } catch { Issue.record(error) }
        }
        rig.writer.sync(stage, old, upTo: stage.written)
        #expect(try rig.file(of: stage) !== old)
        #expect(!stage.isSuspect && stage.synced == stage.size)
        try rig.expectDurable(stage)
    }

    /// The sync's end drops memory while the writer, whose write has failed, makes another file of it.
    @Test func memoryStaysForWhoMakesAnotherFile() throws {
        let rig = Rig(memoryMebibytes: 8)
        let stage = try rig.append(6)
        try rig.writer.write(stage, upTo: 4 * Self.mebibyte, sync: false)
        rig.writer.sync(stage, try rig.file(of: stage), upTo: stage.written)
        #expect(stage.synced == 4 * Self.mebibyte)
        rig.disk.failingWrites = 1
        rig.disk.whenWriting = { rig.disk.whenWriting = { rig.segments.dropSynced() } }
        try rig.writer.write(stage, upTo: stage.size, sync: false)
        #expect(stage.synced == stage.size)
        try rig.expectDurable(stage)
    }

    /// That the folder could not be synced is told once; the files that were made before then may all have lost their names.
    @Test func aFolderThatFailedForOneIsNotBelievedByTheOther() throws {
        let rig = Rig(memoryMebibytes: 16)
        let first = try rig.append(1)
        let second = try rig.append(1, .cleaned)
        try rig.writer.write(first, upTo: first.size, sync: false)
        try rig.writer.write(second, upTo: second.size, sync: false)
        rig.disk.failingDirectorySyncs = 1
        rig.writer.sync(first, try rig.file(of: first), upTo: first.written)
        #expect(first.isSuspect && first.synced == 0)
        try rig.writer.write(second, upTo: second.size, sync: true)
        try rig.writer.write(first, upTo: first.size, sync: true)
        #expect(first.synced == first.size && second.synced == second.size)
        try rig.expectDurable(first)
        try rig.expectDurable(second, .cleaned)
    }

    // MARK: One sync of a file at a time

    /// The first sync of a stage's file lasts until it is let go.
    private final class HoldingDisk: Disk, Sendable {
        struct State {
            var running = 0
            var most = 0
            var isHeld = true
        }

        let inner: any Disk
        let state = Mutex(State())

        init(_ inner: any Disk) { self.inner = inner }

        func letGo() { state.withLock { $0.isHeld = false } }

        func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile {
            let file = try inner.open(path, options)
            return path.hasSuffix(".stage") ? HoldingFile(self, file) : file
        }
        func makeDirectory(_ path: String) throws(Errno) { try inner.makeDirectory(path) }
        func removeDirectory(_ path: String) throws(Errno) { try inner.removeDirectory(path) }
        func rename(_ from: String, to: String) throws(Errno) { try inner.rename(from, to: to) }
        func link(_ from: String, to: String) throws(Errno) { try inner.link(from, to: to) }
        func remove(_ path: String) throws(Errno) { try inner.remove(path) }
        func status(_ path: String) throws(Errno) -> FileStatus { try inner.status(path) }
        func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
            try inner.list(path, visit)
        }
        func syncDirectory(_ path: String) throws(Errno) { try inner.syncDirectory(path) }
        func space() throws(Errno) -> DiskSpace { try inner.space() }
    }

    private final class HoldingFile: DiskFile, Sendable {
        private let disk: HoldingDisk
        private let inner: any DiskFile

        init(_ disk: HoldingDisk, _ inner: any DiskFile) { (self.disk, self.inner) = (disk, inner) }

        func sync() throws(Errno) {
            disk.state.withLock {
                $0.running += 1
                $0.most = max($0.most, $0.running)
            }
            // Ten seconds at most.
            for _ in 0..<10_000 where disk.state.withLock({ $0.isHeld }) { usleep(1_000) }
            defer { disk.state.withLock { $0.running -= 1 } }
            try inner.sync()
        }
        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(Errno) -> Int {
            try inner.read(into: buffer, at: offset)
        }
        func readNow(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool {
            inner.readNow(into: buffer, at: offset)
        }
        func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(Errno) {
            try inner.write(buffer, at: offset)
        }
        func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(Errno) {
            try inner.write(buffers, at: offset)
        }
        func startWriting(at offset: UInt64, _ count: Int) { inner.startWriting(at: offset, count) }
        func truncate(_ size: UInt64) throws(Errno) { try inner.truncate(size) }
        func allocate(_ size: UInt64) throws(Errno) { try inner.allocate(size) }
        func size() throws(Errno) -> UInt64 { try inner.size() }
        func tryLock() throws(Errno) -> Bool { try inner.tryLock() }
        func close() { inner.close() }
    }

    /// Of two syncs of one file that overlap, one may be told of what the other has to answer for.
    @Test func whoWaitsForASyncHasItAfterTheOneOnTheSide() async throws {
        var template = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } }
        let folder = try #require(made)
        let disk = HoldingDisk(try RealDisk(path: folder))
        let world = try World.real(disk: disk, loops: 1)
        let result = await world.loops[0].task {
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            let volume = try await StoreRig.open(world, store) {
                $0.stageMemoryBytes = 12 * Self.mebibyte
                $0.flushBytes = 32 * Self.mebibyte
            }
            let piece = [UInt8](repeating: 7, count: Self.mebibyte)
            var number: UInt64 = 0
            for _ in 0..<9 { number = try await StoreRig.store(volume, piece).1 }
            for _ in 0..<5_000 where disk.state.withLock({ $0.running }) == 0 {
                await world.loops[0].sleep(nanoseconds: 1_000_000)
            }
            #expect(disk.state.withLock { $0.running } == 1)
            let last = number
            let committing = world.loops[0].task { try await volume.commit(last, .durable) }
            await world.loops[0].sleep(nanoseconds: 300_000_000)
            #expect(disk.state.withLock { $0.most } == 1)
            disk.letGo()
            try await committing.value
            #expect(disk.state.withLock { $0.most } == 1)
            volume.abandon()
        }.result
        world.stop()
        disk.letGo()
        remove(folder)
        try result.get()
    }

    private func remove(_ folder: String) {
        func clear(_ disk: any Disk, _ path: String) {
            var inner: [(String, FileKind)] = []
            try? disk.list(path) { name, kind in
                inner.append((path.isEmpty ? name : path + "/" + name, kind))
                return true
            }
            for (name, kind) in inner {
                if kind == .directory {
                    clear(disk, name)
                    try? disk.removeDirectory(name)
                } else {
                    try? disk.remove(name)
                }
            }
        }
        if let disk = try? RealDisk(path: folder) { clear(disk, "") }
        rmdir(folder)
    }

    // MARK: Room

    /// Memory that came free between the refusal and the question for room: nothing has to be stored for it.
    @Test func roomThatCameMeanwhileNeedsNoCheckpoint() throws {
        try StoreRig.run { world in
            let store = MemoryStore(world: world, loop: world.loops[0])
            try await StoreRig.prepare(world, store)
            let rig = StoreRig(world, store)
            let volume = try await StoreRig.open(world, rig) { $0.flushBytes = 32 * Self.mebibyte }
            let stored = Mutex(0)
            let piece = [UInt8](repeating: 9, count: Self.mebibyte)
            func append() -> SegmentRange? { piece.withUnsafeBytes { volume.append($0, heat: .large) } }
            // For a checkpoint to store.
            _ = try await StoreRig.put(volume, 1, [1])
            // Nothing else runs meanwhile.
            while append() != nil {}
            try await volume.commit(volume.log.last, .durable)
            rig.refuse { kind in
                if case .object(_, .put) = kind { stored.withLock { $0 += 1 } }
                return nil
            }
            try await volume.room()
            guard stored.withLock({ $0 }) == 0 else { return "\(stored.withLock { $0 }) objects were stored" }
            guard append() != nil else { return "there is no room" }
            // Who was not turned away gets the checkpoint that this would have been.
            try await volume.room()
            guard stored.withLock({ $0 }) > 0 else { return "there was nothing to store" }
            volume.abandon()
            return nil
        }
    }
}

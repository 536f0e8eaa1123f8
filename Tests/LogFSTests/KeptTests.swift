import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// What a file is told is what it says after a crash, and what costs little goes on costing little.
struct KeptTests {
    private static func lives(
        _ seed: UInt64, _ first: @escaping @Sendable (LogFS, World) async throws -> Void,
        then second: @escaping @Sendable (LogFS, World) async throws -> String?
    ) throws {
        let simulation = Simulation(seed: seed)
        Bench.prepare(simulation)
        let made = simulation.perform { world -> String in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                try await first(files, world)
                try await files.commit(volume.log.last, .durable)
                return ""
            } catch { return "\(error)" }
        }
        #expect(made == "")
        simulation.crash()
        simulation.restart()
        let found = simulation.perform { world -> String in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                return try await second(files, world) ?? ""
            } catch { return "\(error)" }
        }
        #expect(found == "")
    }

    private static func look(_ files: LogFS, _ name: String) async throws -> Inode {
        try await outcome(files) { request in
            with(Array(name.utf8)) { files.lookup(request, in: files.rootID, $0) }
        }.get()
    }

    @Test func attributesOverACrash() throws {
        var new = NewAttributes()
        new.mode = 0o4711
        (new.uid, new.gid) = (77, 88)
        (new.accessed, new.modified, new.born) = (-5, 1_234_567_890_123_456_789, 7)
        new.attributes = 0x8000_0027
        let wanted = new
        try Self.lives(111) { files, _ in
            let file = try await Planted.make(files, files.rootID, "f")
            _ = try await outcome(files) { files.setAttributes($0, file.id, wanted) }.get()
            var wrong = NewAttributes()
            wrong.guardChanged = 12
            wrong.mode = 0
            guard case .failure(.invalid) = try await outcome(files, { files.setAttributes($0, file.id, wrong) }) else {
                throw Failure.file(.exists)
            }
            // Made from what somebody has changed since.
            let list: [UInt8] = [1, 2, 3]
            wrong.guardChanged = nil
            for basis: NewAttributes.Basis in [
                .init(mode: 0o4711, uid: 77, gid: 88, accessList: list),
                .init(mode: 0o711, uid: 77, gid: 88, accessList: nil),
                .init(mode: 0o4711, uid: 76, gid: 88, accessList: nil),
                .init(mode: 0o4711, uid: 77, gid: 87, accessList: nil),
            ] {
                wrong.basis = basis
                let overtaken = try await outcome(files, { files.setAttributes($0, file.id, wrong) })
                guard case .failure(.overtaken) = overtaken else { throw Failure.file(.exists) }
            }
            _ = try await outcome(files) { request in
                list.withUnsafeBytes { files.setAccessList(request, file.id, $0, mode: 0o4711) }
            }.get()
            wrong.basis = .init(mode: 0o4711, uid: 77, gid: 88, accessList: nil)
            guard case .failure(.overtaken) = try await outcome(files, { files.setAttributes($0, file.id, wrong) })
            else {
                throw Failure.file(.exists)
            }
            wrong.basis = .init(mode: 0o4711, uid: 77, gid: 88, accessList: list)
            wrong.mode = 0o4711
            _ = try await outcome(files) { files.setAttributes($0, file.id, wrong) }.get()
        } then: { files, _ in
            let inode = try await Self.look(files, "f")
            let isSame =
                inode.mode == 0o4711 && inode.uid == 77 && inode.gid == 88 && inode.accessed == -5
                && inode.modified == 1_234_567_890_123_456_789 && inode.born == 7 && inode.attributes == 0x8000_0027
            return isSame ? nil : "\(inode)"
        }
    }

    @Test func devicesOverACrash() throws {
        let types: [(FileType, UInt64)] = [
            (.characterDevice, 0x12_3456_789A), (.blockDevice, .max), (.fifo, 0), (.socket, 0),
        ]
        try Self.lives(112) { files, _ in
            for (index, (type, device)) in types.enumerated() {
                var new = NewFile(type: type, mode: 0o600, uid: 0, gid: 0)
                new.device = device
                let made = new
                _ = try await outcome(files) { request in
                    with(Array("n\(index)".utf8)) { files.create(request, in: files.rootID, $0, made) }
                }.get()
            }
        } then: { files, _ in
            for (index, (type, device)) in types.enumerated() {
                let inode = try await Self.look(files, "n\(index)")
                if inode.type != type || inode.device != device { return "\(inode)" }
            }
            return nil
        }
    }

    /// Of 30,000 names in a directory a look-up without case that finds nothing reads the way to one leaf, and to one more.
    @Test func aMissWithoutCaseReadsNoDirectory() throws {
        let simulation = Simulation(seed: 113)
        Bench.prepare(simulation)
        let reads = simulation.perform { world -> Result<[UInt64], VolumeError>? in
            do {
                let made = try await Bench.volume(world, small: false)
                let files = try await LogFS.open(made, world: world, subvolume: 1)
                for index in 0..<30_000 { _ = try await Planted.make(files, files.rootID, "Name-\(index)") }
                try await made.close()
                let store = try await Bench.store(world)
                let volume = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: store, prefix: "v", directory: "log")
                let again = try await LogFS.open(volume, world: world, subvolume: 1)
                var reads: [UInt64] = []
                for name in ["nAmE-31000", "absent", "ZZZ"] {
                    let before = store.counters.requests
                    let found = try await outcome(again) { request in
                        with(Array(name.utf8)) { again.lookupFolded(request, in: again.rootID, $0) }
                    }
                    guard case .failure(.noEntry) = found else { return nil }
                    reads.append(UInt64(store.counters.requests - before))
                }
                return .success(reads)
            } catch { return nil }
        }
        let found = try #require(reads ?? nil).get()
        // Three look-ups of a key each, in a tree of three levels.
        #expect(found.allSatisfy { $0 <= 9 }, "\(found) reads of the store")
        #expect(found.reduce(0, +) > 0, "the tree was in memory")
    }

    /// A file of thousands of extents: reads and searches go through it in stretches, and find the same as one look would.
    @Test func thousandsOfExtents() {
        Bench.files(small: false) { files, world in
            let file = try await Planted.make(files, files.rootID, "holes")
            let other = try await Planted.make(files, files.rootID, "other")
            let count = 1_500
            let byte = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 16)
            defer { byte.deallocate() }
            byte.initializeMemory(as: UInt8.self, repeating: 5)
            // Interleaved with another file's, so that no two lie side by side.
            for round in 0..<count {
                for inode in [file, other] {
                    try await files.writeAll(inode.id, at: UInt64(round * 64), UnsafeRawBufferPointer(byte), now: 1)
                    try await files.flush(inode.number)
                }
            }
            try await files.punch(file.id, at: UInt64(count * 64 - 640), length: 64, now: 1)
            guard case .success(let layout?) = try await outcome(files, { files.layout($0, file.id, limit: 256) })
            else { return }
            #expect(layout.count == 256, "its extents lie together: \(layout.count)")
            let hole = try await outcome(files) { files.seek($0, file.id, from: 10, .hole) }.get()
            #expect(hole == UInt64(count * 64 - 640))
            let data = try await outcome(files) { files.seek($0, file.id, from: hole, .data) }.get()
            #expect(data == hole + 64)
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count * 64, alignment: 16)
            defer { buffer.deallocate() }
            let read = try await files.readAll(file.id, at: 0, into: buffer)
            #expect(read == count * 64)
            let isRight = buffer.indices.allSatisfy { buffer[$0] == (UInt64($0) >= hole && UInt64($0) < data ? 0 : 5) }
            #expect(isRight)
            buffer.initializeMemory(as: UInt8.self, repeating: 1)
            let atOnce = try await outcome(files) { files.read($0, file.id, at: 0, into: buffer) }
            if case .success(let count) = atOnce { #expect(count == read && buffer[3] == 5) }
        }
    }
}

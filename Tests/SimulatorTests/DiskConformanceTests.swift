import Bytes
import Glibc
import Runtime
import Simulator
import Testing

/// What every `Disk` does, run against the machine's and against the simulated one.
struct DiskConformanceTests {
    enum Kind: CaseIterable { case real, simulated }

    /// A disk that goes away with the test.
    final class Rig {
        let disk: any Disk
        private let simulation: Simulation?
        private let folder: String?

        init(_ kind: Kind) throws {
            switch kind {
            case .simulated:
                let simulation = Simulation(seed: 1)
                self.simulation = simulation
                disk = simulation.world.disk
                folder = nil
            case .real:
                let folder = try temporaryFolder()
                self.folder = folder
                simulation = nil
                disk = try RealDisk(path: folder)
            }
        }

        deinit { if let folder { removeFolder(folder) } }

        func make(_ path: String, _ text: String = "") throws {
            let file = try disk.open(path, [.write, .create])
            defer { file.close() }
            try file.put(text, at: 0)
        }

        func names(_ path: String) throws -> [String] {
            var names: [String] = []
            try disk.list(path) { name, kind in
                names.append(kind == .directory ? name + "/" : name)
                return true
            }
            return names.sorted()
        }
    }

    @Test(arguments: Kind.allCases) func openModes(_ kind: Kind) throws {
        let rig = try Rig(kind)
        #expect(throws: Errno.noEntry) { try rig.disk.open("a", []) }
        #expect(throws: Errno.noEntry) { try rig.disk.open("none/a", [.write, .create]) }
        try rig.make("a", "hello")
        #expect(throws: Errno.exists) { try rig.disk.open("a", [.write, .create, .exclusive]) }
        #expect(throws: Errno.notDirectory) { try rig.disk.open("a/b", [.write, .create]) }
        let reader = try rig.disk.open("a", [])
        #expect(throws: Errno.badDescriptor) { try reader.put("x", at: 0) }
        #expect(throws: Errno.invalid) { try reader.truncate(0) }
        #expect(try reader.text() == "hello")
        try reader.sync()
        let writer = try rig.disk.open("a", [.write, .truncate])
        #expect(try writer.size() == 0)
        #expect(try reader.text() == "")
        try rig.disk.makeDirectory("d")
        #expect(throws: Errno.isDirectory) { try rig.disk.open("d", []) }
        #expect(throws: Errno.isDirectory) { try rig.disk.open("d", [.write]) }
        writer.close()
        writer.close()
    }

    @Test(arguments: Kind.allCases) func bytes(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let file = try rig.disk.open("a", [.write, .create, .exclusive])
        try file.put("world", at: 6)
        #expect(try file.bytes() == [0, 0, 0, 0, 0, 0] + Array("world".utf8))
        let pieces = ["hel", "", "lo", " "].map { Array($0.utf8) }
        let blocks = pieces.map { piece in piece.withUnsafeBytes { Block(copying: $0) } }
        try file.write(blocks.map(\.bytes), at: 0)
        extendLifetime(blocks)
        #expect(try file.text() == "hello world")
        try file.write([], at: 100)
        #expect(try file.size() == 11)
        try file.truncate(5)
        try file.truncate(8)
        #expect(try file.bytes() == Array("hello".utf8) + [0, 0, 0])
        #expect(try file.bytes(at: 4, count: 100) == [111, 0, 0, 0])
        #expect(try file.bytes(at: 8, count: 4) == [])
        #expect(try file.bytes(at: 1 << 40, count: 4) == [])
        try file.allocate(10_000)
        #expect(try file.size() == 10_000)
        try file.allocate(10)
        #expect(try file.size() == 10_000)
        try file.sync()
    }

    /// More pieces than one system call takes, and more bytes than are written before they are pushed on.
    @Test(arguments: Kind.allCases) func manyPieces(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let file = try rig.disk.open("a", [.write, .create])
        let block = Block(capacity: 9 << 20)
        block.count = block.capacity
        for index in 0..<block.count {
            block.base.storeBytes(of: UInt8(truncatingIfNeeded: index &* 31 >> 5), toByteOffset: index, as: UInt8.self)
        }
        var pieces: [UnsafeRawBufferPointer] = []
        var place = 0
        var size = 1
        while place < block.count {
            let count = min(pieces.count < 3_000 ? size % 97 : 5 << 20, block.count - place)
            pieces.append(UnsafeRawBufferPointer(rebasing: block.bytes[place..<(place + count)]))
            place += count
            size += 13
        }
        try file.write(pieces, at: 3)
        extendLifetime(block)
        let read = Block(capacity: block.count)
        read.count = try file.read(into: UnsafeMutableRawBufferPointer(start: read.base, count: read.capacity), at: 3)
        #expect(read.count == block.count)
        #expect(memcmp(read.base, block.base, block.count) == 0)
        extendLifetime((read, block))
        #expect(try file.size() == UInt64(block.count) + 3)
    }

    @Test(arguments: Kind.allCases) func names(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let disk = rig.disk
        try disk.makeDirectory("d")
        #expect(throws: Errno.exists) { try disk.makeDirectory("d") }
        #expect(throws: Errno.noEntry) { try disk.makeDirectory("x/y") }
        try rig.make("d/a", "one")
        try disk.link("d/a", to: "b")
        #expect(throws: Errno.exists) { try disk.link("d/a", to: "b") }
        #expect(throws: Errno.notPermitted) { try disk.link("d", to: "e") }
        #expect(throws: Errno.noEntry) { try disk.link("none", to: "e") }
        #expect(try rig.names("") == ["b", "d/"])
        #expect(throws: Errno.notEmpty) { try disk.removeDirectory("d") }
        #expect(throws: Errno.notDirectory) { try disk.removeDirectory("b") }
        #expect(throws: Errno.isDirectory) { try disk.remove("d") }
        #expect(throws: Errno.noEntry) { try disk.remove("none") }
        try rig.make("c", "two")
        try disk.rename("c", to: "b")
        #expect(try disk.open("b", []).text() == "two")
        #expect(try disk.open("d/a", []).text() == "one")
        #expect(throws: Errno.isDirectory) { try disk.rename("b", to: "d") }
        #expect(throws: Errno.notDirectory) { try disk.rename("d", to: "b") }
        #expect(throws: Errno.noEntry) { try disk.rename("none", to: "b") }
        #expect(throws: Errno.invalid) { try disk.rename("d", to: "d/e") }
        try disk.link("d/a", to: "same")
        try disk.rename("same", to: "d/a")
        #expect(try rig.names("") == ["b", "d/", "same"], "a rename between two names of one file does nothing")
        try disk.rename("b", to: "d/b")
        #expect(try rig.names("d") == ["a", "b"])
        #expect(try disk.status("d/b").size == 3)
        #expect(try disk.status("d/b").kind == .file)
        #expect(try disk.status("").kind == .directory)
        #expect(throws: Errno.noEntry) { try disk.status("d/none") }
        #expect(throws: Errno.notDirectory) { try disk.list("d/b") { _, _ in true } }
        #expect(throws: Errno.noEntry) { try disk.syncDirectory("none") }
        try disk.syncDirectory("")
        try disk.syncDirectory("d")
        var visits = 0
        try disk.list("d") { _, _ in
            visits += 1
            return false
        }
        #expect(visits == 1)
        for name in ["d/a", "d/b", "same"] { try disk.remove(name) }
        try disk.removeDirectory("d")
        #expect(try rig.names("") == [])
    }

    @Test(arguments: Kind.allCases) func openFilesOutliveTheirNames(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let file = try rig.disk.open("a", [.write, .create])
        try file.put("still here", at: 0)
        try rig.disk.remove("a")
        #expect(try file.text() == "still here")
        try file.put("S", at: 0)
        #expect(try file.text() == "Still here")
    }

    @Test(arguments: Kind.allCases) func nothingLeadsOut(_ kind: Kind) throws {
        let rig = try Rig(kind)
        for path in ["/etc", "../x", "a/../b", "a//b", "a/", ".", "a/./b", "a\0b"] {
            #expect(throws: Errno.invalid, "\(path)") { try rig.disk.open(path, [.write, .create]) }
            #expect(throws: Errno.invalid, "\(path)") { try rig.disk.status(path) }
            #expect(throws: Errno.invalid, "\(path)") { try rig.disk.makeDirectory(path) }
            #expect(throws: Errno.invalid, "\(path)") { try rig.disk.list(path) { _, _ in true } }
        }
        try rig.make("...", "a name like others")
        #expect(throws: Errno.invalid) { try rig.disk.remove("") }
        #expect(throws: Errno.invalid) { try rig.disk.link("...", to: "../x") }
        #expect(throws: Errno.invalid) { try rig.disk.rename("...", to: "/x") }
    }

    @Test(arguments: Kind.allCases) func locks(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let first = try rig.disk.open("lock", [.write, .create])
        let second = try rig.disk.open("lock", [.write])
        #expect(try first.tryLock())
        #expect(try first.tryLock(), "who has it has it")
        #expect(try !second.tryLock())
        first.close()
        #expect(try second.tryLock())
    }

    @Test(arguments: Kind.allCases) func direct(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let file = try rig.disk.open("a", [.write, .create, .direct])
        let block = Block(capacity: 8192)
        block.count = 8192
        memset(block.base, 7, 8192)
        try file.write(block.bytes, at: 4096)
        extendLifetime(block)
        memset(block.base, 0, 8192)
        let target = UnsafeMutableRawBufferPointer(start: block.base, count: 8192)
        #expect(try file.read(into: target, at: 4096) == 8192)
        #expect(block.bytes.allSatisfy { $0 == 7 })
        extendLifetime(block)
    }

    @Test(arguments: Kind.allCases) func space(_ kind: Kind) throws {
        let rig = try Rig(kind)
        let space = try rig.disk.space()
        #expect(space.total > 0 && space.free <= space.total && space.free > 0)
    }

    @Test func aFullSimulatedDiskCountsWhatItHolds() throws {
        let simulation = Simulation(seed: 1, diskBytes: 1_000)
        let disk = simulation.world.disk
        let file = try disk.open("a", [.write, .create])
        try file.put(String(repeating: "x", count: 1_000), at: 0)
        #expect(throws: Errno.noSpace) { try file.put("y", at: 1_000) }
        try file.put("y", at: 999)
        try disk.link("a", to: "b")
        #expect(try disk.space().free == 0)
        try disk.remove("a")
        try disk.remove("b")
        #expect(try disk.space().free == 0, "it is still open")
        file.close()
        #expect(try disk.space().free == 1_000)
        #expect(throws: Errno.noSpace) { try disk.open("c", [.write, .create]).allocate(1_001) }
        try disk.open("c", [.write, .create]).allocate(1_000)
    }
}

func temporaryFolder() throws -> String {
    var name = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
    let made = name.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } }
    return try #require(made)
}

func removeFolder(_ path: String) {
    guard let disk = try? RealDisk(path: path) else { return }
    func empty(_ folder: String) {
        var entries: [(String, FileKind)] = []
        try? disk.list(folder) { name, kind in
            entries.append((folder.isEmpty ? name : folder + "/" + name, kind))
            return true
        }
        for (entry, kind) in entries {
            if kind == .directory {
                empty(entry)
                try? disk.removeDirectory(entry)
            } else {
                try? disk.remove(entry)
            }
        }
    }
    empty("")
    rmdir(path)
}

extension DiskFile {
    func put(_ text: String, at offset: UInt64) throws {
        let bytes = Array(text.utf8)
        try bytes.withUnsafeBytes { try write($0, at: offset) }
    }

    func bytes(at offset: UInt64 = 0, count: Int = 1 << 16) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: count)
        let got = try bytes.withUnsafeMutableBytes { try read(into: $0, at: offset) }
        return Array(bytes[..<got])
    }

    func text() throws -> String { String(decoding: try bytes(), as: UTF8.self) }
}

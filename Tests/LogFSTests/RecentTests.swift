import Bytes
import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// What was written lately is read from memory, within its bound, whatever has become of the disk.
struct RecentTests {
    private static let mebibyte = 1 << 20
    private static let fileBytes = 12 * mebibyte

    private static func byte(_ place: Int) -> UInt8 { UInt8(truncatingIfNeeded: place &* 167 ^ place >> 11) }

    /// A file's bytes where they lie: in the open segment first, then among the recent chunks; they stay what they are when the file is gone and
    /// many others have been written. What is not to be had that way is copied.
    @Test func whatIsLentStays() throws {
        let simulation = Simulation(seed: 32)
        Bench.prepare(simulation)
        let failure = try #require(
            simulation.perform { world -> String? in
                do {
                    var options = HeadhunterOptions()
                    options.dataCacheBytes = 16 * Self.mebibyte
                    options.flushBytes = 4 * Self.mebibyte
                    options.stageMemoryBytes = 12 * Self.mebibyte
                    let volume = try await Headhunter.open(
                        world: world, loop: world.loops[0], store: try await Bench.store(world), prefix: "v",
                        directory: "log", options: options)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    func lend(_ file: FileID, _ from: Int, _ count: Int) async throws -> [BlockPart]? {
                        try await outcome(files) { files.lend($0, file, at: UInt64(from), count: count) }.get()
                    }
                    let file = try await Planted.make(files, files.rootID, "long").id
                    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.fileBytes, alignment: 4096)
                    defer { memory.deallocate() }
                    for place in 0..<Self.fileBytes { memory[place] = Self.byte(place) }
                    func write(_ file: FileID) async throws {
                        for from in stride(from: 0, to: Self.fileBytes, by: Self.mebibyte) {
                            let piece = UnsafeRawBufferPointer(rebasing: memory[from..<from + Self.mebibyte])
                            try await files.writeAll(file, at: UInt64(from), piece, now: 1)
                        }
                    }
                    try await write(file)
                    guard try await lend(file, 0, Self.mebibyte) == nil else { return "lent what is not in the tree" }
                    try await files.flush(file.inode)
                    func isRight(_ parts: [BlockPart], _ from: Int) -> Bool {
                        let all = parts.flatMap { part in
                            defer { extendLifetime(part) }
                            return Array(part.bytes)
                        }
                        return all.elementsEqual(memory[from..<from + all.count])
                    }
                    var kept: [(parts: [BlockPart], from: Int)] = []
                    for isStored in [false, true] {
                        if isStored { try await volume.checkpoint() }
                        for from in [0, 5 * Self.mebibyte - 777, Self.fileBytes - Self.mebibyte] {
                            guard let parts = try await lend(file, from, Self.mebibyte) else {
                                // Its chunks have left the memory of the open segments for a place among few.
                                continue
                            }
                            guard parts.reduce(0, { $0 + $1.count }) == Self.mebibyte, parts.count <= 3 else {
                                return "\(parts.count) parts"
                            }
                            guard isRight(parts, from) else { return "other bytes at \(from)" }
                            kept.append((parts, from))
                        }
                        guard kept.count >= (isStored ? 3 : 2) else { return "only \(kept.count) were lent" }
                    }
                    for (from, count) in [
                        (0, LogFS.lendBytesMin - 1), (Self.fileBytes - Self.mebibyte + 1, Self.mebibyte),
                        (Self.fileBytes, Self.mebibyte), (Int.max / 2, Self.mebibyte),
                    ] {
                        guard try await lend(file, from, count) == nil else { return "lent \(count) at \(from)" }
                    }
                    _ = try await outcome(files) { request in
                        with(Array("long".utf8)) { files.unlink(request, in: files.rootID, $0) }
                    }.get()
                    for place in 0..<Self.fileBytes { memory[place] = 0xEE }
                    for index in 0..<6 {
                        try await write(try await Planted.make(files, files.rootID, "other\(index)").id)
                        try await files.flushAll()
                    }
                    try await volume.checkpoint()
                    for place in 0..<Self.fileBytes { memory[place] = Self.byte(place) }
                    guard kept.allSatisfy({ isRight($0.parts, $0.from) }) else { return "what was lent has changed" }
                    let sparse = try await Planted.make(files, files.rootID, "sparse").id
                    try await files.writeAll(
                        sparse, at: UInt64(Self.mebibyte), UnsafeRawBufferPointer(rebasing: memory[..<1]), now: 1)
                    try await files.flush(sparse.inode)
                    guard try await lend(sparse, 0, Self.mebibyte) == nil else { return "lent a hole" }
                    // Each part keeps a chunk: what lies in many pieces is copied, and so a reply keeps no more than some four times its length.
                    let patched = try await Planted.make(files, files.rootID, "patched").id
                    for from in [0, Self.mebibyte] {
                        let piece = UnsafeRawBufferPointer(rebasing: memory[from..<from + Self.mebibyte])
                        try await files.writeAll(patched, at: UInt64(from), piece, now: 1)
                    }
                    try await files.flush(patched.inode)
                    for index in 1...4 {
                        let piece = UnsafeRawBufferPointer(rebasing: memory[..<4096])
                        try await files.writeAll(patched, at: UInt64(index * 100_000), piece, now: 1)
                    }
                    try await files.flush(patched.inode)
                    guard try await lend(patched, 0, Self.mebibyte) == nil else { return "lent nine pieces" }
                    for (from, count, most) in [(Self.mebibyte, Self.mebibyte, 3), (500_000, 1 << 19, 2)] {
                        guard let parts = try await lend(patched, from, count), parts.count <= most else {
                            return "not lent from \(from)"
                        }
                    }
                    try await volume.close()
                    return nil
                } catch { return "\(error)" }
            })
        #expect(failure == nil)
    }

    /// Writes a long file, waits until it is in the store, destroys its segments there and reads parts of it: true where they
    /// were right, false where they were refused.
    private static func read(_ places: [Int], cacheBytes: Int, readBefore: Int = 0) throws -> [Bool] {
        let simulation = Simulation(seed: 31)
        Bench.prepare(simulation)
        let kept = Mutex<(LogFS, FileID)?>(nil)
        let made = simulation.perform { world -> String in
            do {
                var options = HeadhunterOptions()
                options.dataCacheBytes = cacheBytes
                options.flushBytes = 4 * mebibyte
                let volume = try await Headhunter.open(
                    world: world, loop: world.loops[0], store: try await Bench.store(world), prefix: "v",
                    directory: "log",
                    options: options)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                let other = try await Planted.make(files, files.rootID, "other")
                let file = try await Planted.make(files, files.rootID, "long")
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: fileBytes, alignment: 4096)
                defer { memory.deallocate() }
                for place in 0..<fileBytes { memory[place] = byte(place) }
                for from in stride(from: 0, to: fileBytes, by: mebibyte) {
                    let piece = UnsafeRawBufferPointer(rebasing: memory[from..<from + mebibyte])
                    try await files.writeAll(file.id, at: UInt64(from), piece, now: 1)
                }
                try await files.sync(file.id, .durable)
                try await volume.checkpoint()
                // In pieces that are not long files, so that they are not in memory as such.
                for from in stride(from: 0, to: readBefore, by: 32 << 10) {
                    let piece = UnsafeRawBufferPointer(rebasing: memory[from..<from + 32 << 10])
                    try await files.writeAll(other.id, at: UInt64(from), piece, now: 1)
                }
                try await files.sync(other.id, .durable)
                try await volume.checkpoint()
                for from in stride(from: 0, to: readBefore, by: mebibyte) {
                    _ = try await files.readAll(
                        other.id, at: UInt64(from), into: UnsafeMutableRawBufferPointer(rebasing: memory[..<mebibyte]))
                }
                kept.withLock { $0 = (files, file.id) }
                return ""
            } catch { return "\(error)" }
        }
        try #require(made == "")
        let segments = simulation.files(below: "store").filter { $0.path.contains("segment/") }
        try #require(segments.reduce(0) { $0 + $1.size } > UInt64(fileBytes))
        for segment in segments {
            for place in stride(from: UInt64(0), to: segment.size, by: 4096) {
                #expect(simulation.flipBit(of: segment.path, at: place, bit: 3))
            }
        }
        return try #require(
            simulation.perform { _ -> [Bool] in
                guard let (files, file) = kept.withLock({ $0 }) else { return [] }
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 4096)
                defer { memory.deallocate() }
                var found: [Bool] = []
                for place in places {
                    do {
                        let count = try await files.readAll(file, at: UInt64(place), into: memory)
                        guard count == memory.count, memory.indices.allSatisfy({ memory[$0] == byte(place + $0) })
                        else { return [] }
                        found.append(true)
                    } catch { found.append(false) }
                }
                return found
            })
    }

    /// Three eighths of the cache, and half of the half that nothing has been read into: five chunks of the twelve and a bit.
    @Test func whatWasWrittenLastIsInMemory() throws {
        let places = [0, 3, 4, 9, 10, 11].map { $0 * Self.mebibyte } + [Self.fileBytes - 8192]
        #expect(
            try Self.read(places, cacheBytes: 8 * Self.mebibyte) == [false, false, false, true, true, true, true])
    }

    /// What has been read takes its half back, and what is given up is not told for something else.
    @Test func whatIsReadTakesItsPart() throws {
        let places = (0..<12).map { $0 * Self.mebibyte }
        let before = try Self.read(places, cacheBytes: 28 * Self.mebibyte)
        #expect(before.allSatisfy { $0 })
        let after = try Self.read(places, cacheBytes: 28 * Self.mebibyte, readBefore: Self.fileBytes)
        // Some of those that went to the store first have gone, and the newest are all there.
        let gone = after.count { !$0 }
        #expect(gone > 0 && gone < 9 && after.suffix(4).allSatisfy { $0 }, "\(after)")
    }

    @Test func withoutAByteOfCacheNothingIs() throws {
        #expect(try Self.read([0, Self.fileBytes - 8192], cacheBytes: 0) == [false, false])
    }
}

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

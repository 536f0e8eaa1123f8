import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// Long files as they come, while nobody waits: what is synced on the side, with more being written, and what is read where memory and
/// file meet.
struct StreamingTests {
    private static let mebibyte = 1 << 20
    /// Of which a third may lack its sync before it is synced on the side.
    private static let memoryBytes = 12 * mebibyte

    private static func byte(_ place: Int) -> UInt8 { UInt8(truncatingIfNeeded: place &* 167 ^ place >> 11) }

    private static func open(_ world: World, memoryBytes: Int = memoryBytes) async throws -> (Headhunter, LogFS) {
        var options = HeadhunterOptions()
        options.dataCacheBytes = 0
        options.stageMemoryBytes = memoryBytes
        options.flushBytes = 8 * mebibyte
        let volume = try await Headhunter.open(
            world: world, loop: world.loops[0], store: try await Bench.store(world), prefix: "v", directory: "log",
            options: options)
        return (volume, try await LogFS.open(volume, world: world, subvolume: 1))
    }

    /// Pieces of the given lengths, again and again, up to `count` bytes.
    private static func write(_ files: LogFS, _ file: FileID, _ range: Range<Int>, by lengths: [Int]) async throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: mebibyte, alignment: 4096)
        defer { memory.deallocate() }
        var place = range.lowerBound
        var turn = 0
        while place < range.upperBound {
            let count = min(lengths[turn % lengths.count], range.upperBound - place)
            for index in 0..<count { memory[index] = byte(place + index) }
            try await files.writeAll(
                file, at: UInt64(place), UnsafeRawBufferPointer(rebasing: memory[..<count]), now: 1)
            place += count
            turn += 1
        }
    }

    /// Where the file's bytes are not those that were written; nil: nowhere.
    private static func wrong(_ files: LogFS, _ file: FileID, _ range: Range<Int>, by length: Int) async throws -> Int?
    {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 4096)
        defer { memory.deallocate() }
        for place in stride(from: range.lowerBound, to: range.upperBound, by: length) {
            let count = min(length, range.upperBound - place)
            let part = UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
            guard try await files.readAll(file, at: UInt64(place), into: part) == count else { return place }
            for index in 0..<count where part[index] != byte(place + index) { return place + index }
        }
        return nil
    }

    private struct Problem: Error { let text: String }

    /// Writes, waits for it once all has come, lets the power go and looks. `failing`: the syncs on the side do not succeed.
    private static func stream(_ count: Int, by lengths: [Int], failing: Bool) throws {
        let simulation = Simulation(seed: 51)
        Bench.prepare(simulation)
        let made = simulation.perform { world -> Result<FileID, Problem> in
            do {
                let (volume, files) = try await open(world)
                let file = try await Planted.make(files, files.rootID, "long").id
                try await files.commit(volume.log.last, .durable)
                simulation.faults.failedSync = failing ? 1 : 0
                try await write(files, file, 0..<count, by: lengths)
                // What is on its way to the disk gets there.
                await world.loops[0].sleep(nanoseconds: 500_000_000)
                simulation.faults.failedSync = 0
                if let place = try await wrong(files, file, 0..<count, by: 300_000) {
                    return .failure(Problem(text: "before it was flushed, at \(place)"))
                }
                try await files.sync(file, .durable)
                return .success(file)
            } catch { return .failure(Problem(text: "\(error)")) }
        }
        let file = try #require(made).get()
        #expect((simulation.counts.failedSyncs > 0) == failing)
        simulation.crash()
        simulation.restart()
        let done = simulation.perform { world -> String? in
            do {
                let (volume, files) = try await open(world)
                if let place = try await wrong(files, file, 0..<count, by: 300_000) {
                    return "after a crash, at \(place)"
                }
                try await volume.checkpoint()
                if let place = try await wrong(files, file, 0..<count, by: 3 * mebibyte) {
                    return "in the store, at \(place)"
                }
                try await volume.close()
                return nil
            } catch { return "\(error)" }
        }
        #expect(try #require(done, "the program did not come to an end") == nil)
    }

    @Test(arguments: [[1 << 20], [100_000, 1 << 20, 65_536, 777_777, 32_768 + 64, 70_001]])
    func moreThanMemoryHoldsGoesThrough(_ lengths: [Int]) throws {
        try Self.stream(40 * Self.mebibyte + 12_345, by: lengths, failing: false)
    }

    /// Nobody is told of such a sync: the bytes are written again, to another file, before anybody is told that they are safe.
    @Test func aSyncOnTheSideThatFailedIsNotBelieved() throws {
        // Less than the memory holds: nobody waits for room.
        try Self.stream(8_700_000, by: [1 << 20, 200_000], failing: true)
    }

    /// A read whose first bytes have left the memory and whose last ones are in a block that is not full.
    @Test func readsGoFromFileToMemory() throws {
        let simulation = Simulation(seed: 52)
        Bench.prepare(simulation)
        let done = simulation.perform { world -> String? in
            do {
                let (volume, files) = try await Self.open(world, memoryBytes: 4 * Self.mebibyte)
                let file = try await Planted.make(files, files.rootID, "long").id
                let count = 3 * Self.mebibyte + 70_000
                try await Self.write(files, file, 0..<count, by: [Self.mebibyte])
                try await files.sync(file, .durable)
                try await Self.write(files, file, count..<count + 70_001, by: [70_001])
                if let place = try await Self.wrong(files, file, 0..<count + 70_001, by: 2_500_000) {
                    return "at \(place)"
                }
                try await volume.close()
                return nil
            } catch { return "\(error)" }
        }
        #expect(try #require(done, "the program did not come to an end") == nil)
    }
}

import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// Volumes with damage in what a crash left on the disk: they do not open to be changed, and all that is not damaged can be read.
struct ReadOnlyTests {
    private static let size = 300_000
    private static let count = 6

    private static func volume(_ world: World, isReadOnly: Bool) async throws -> Headhunter {
        var options = HeadhunterOptions()
        options.isReadOnly = isReadOnly
        options.flushBytes = 1 << 20
        options.stageMemoryBytes = 8 << 20
        options.logReserveBytes = 64 << 10
        options.dataCacheBytes = 0
        options.checkpointNanoseconds = 3_600_000_000_000
        return try await Headhunter.open(
            world: world, loop: world.loops[0], store: try await Bench.store(world), prefix: "v", directory: "log",
            options: options)
    }

    /// Files in the log and the stage alone; the program is killed.
    private static func filled() throws -> Simulation {
        let simulation = Simulation(seed: 91)
        Bench.prepare(simulation)
        let failure = simulation.perform { world -> String in
            do {
                let volume = try await volume(world, isReadOnly: false)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                for index in 0..<count {
                    let file = try await Planted.make(files, files.rootID, "f\(index)")
                    try await Planted.write(files, file.id, size, UInt8(index + 1))
                }
                await world.loops[0].sleep(nanoseconds: 10_000_000)
                return ""
            } catch { return "\(error)" }
        }
        #expect(failure == "")
        simulation.killAndRestart()
        return simulation
    }

    private struct Seen: Sendable {
        var damage: [String] = []
        /// Files that are whole, and those that could not be read and why.
        var whole = 0
        var refused: [String] = []
        var wrong = 0
        var named: [String] = []
    }

    private static func look(_ simulation: Simulation) throws -> Seen {
        let before = simulation.files(below: "").map { "\($0.path) \($0.size)" }.sorted()
        let seen = simulation.perform(for: 3_600_000_000_000) { world -> Result<Seen, VolumeError> in
            do {
                let volume = try await volume(world, isReadOnly: true)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                var seen = Seen(damage: volume.damage)
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 1, alignment: 16)
                defer { memory.deallocate() }
                for index in 0..<count {
                    let found = try await outcome(files) { request in
                        with(Array("f\(index)".utf8)) { files.lookup(request, in: files.rootID, $0) }
                    }
                    guard case .success(let inode) = found else { continue }
                    do {
                        let count = try await files.readAll(inode.id, at: 0, into: memory)
                        let isWhole = count == size && memory[..<count].allSatisfy { $0 == UInt8(index + 1) }
                        if isWhole { seen.whole += 1 } else { seen.wrong += 1 }
                    } catch { seen.refused.append("\(error)") }
                }
                let check = try await Check.run(files, readsData: true)
                for difference in check.differences {
                    guard let inode = difference.inode else { continue }
                    seen.named.append(await check.path(of: inode))
                }
                // Nothing is taken, and nothing waits for ever.
                let made = try? await Planted.make(files, files.rootID, "new")
                if made != nil { seen.wrong += 1 }
                try await volume.close()
                return .success(seen)
            } catch { return .failure(error as? VolumeError ?? .closed) }
        }
        simulation.killAndRestart()
        #expect(
            simulation.files(below: "").map { "\($0.path) \($0.size)" }.sorted() == before, "looking changed something")
        return try #require(seen).get()
    }

    private static func refusal(_ simulation: Simulation) -> String {
        let refusal = simulation.perform { world -> String in
            do {
                _ = try await volume(world, isReadOnly: false)
                return "it opened"
            } catch { return "\(error)" }
        }
        simulation.killAndRestart()
        return refusal ?? "no end"
    }

    @Test func allIsWell() throws {
        let seen = try Self.look(try Self.filled())
        #expect(seen.damage == [] && seen.whole == Self.count && seen.wrong == 0 && seen.named == [])
    }

    @Test func aByteOfAStageFile() throws {
        let simulation = try Self.filled()
        let stage = try #require(simulation.files(below: "log/stage").map(\.path).sorted().first)
        #expect(simulation.flipBit(of: stage, at: 400_000, bit: 3))
        #expect(Self.refusal(simulation).hasPrefix("damaged"))
        let seen = try Self.look(simulation)
        #expect(seen.damage.count == 1 && seen.damage.first?.contains("segment") == true, "\(seen.damage)")
        #expect(seen.whole == Self.count - 1 && seen.wrong == 0 && seen.refused.count == 1, "\(seen)")
        #expect(seen.named == ["/f4"], "\(seen.named)")
    }

    @Test func aStageFileIsMissing() throws {
        let simulation = try Self.filled()
        let stages = simulation.files(below: "log/stage").map(\.path).sorted()
        simulation.destroy(try #require(stages.first))
        #expect(Self.refusal(simulation).hasPrefix("damaged"))
        let seen = try Self.look(simulation)
        #expect(!seen.damage.isEmpty && seen.wrong == 0, "\(seen)")
        #expect(seen.whole > 0 && seen.whole + seen.refused.count == Self.count, "\(seen)")
        #expect(Set(seen.named).count == seen.refused.count, "\(seen.named)")
    }

    /// The log is told to be shorter than it was, and what comes before the damage is there.
    @Test func aByteOfTheLog() throws {
        let simulation = try Self.filled()
        let log = try #require(simulation.files(below: "log").filter { $0.path.hasSuffix(".log") }.map(\.path).max())
        #expect(simulation.flipBit(of: log, at: 4096 + 64 + 1_500, bit: 3))
        #expect(Self.refusal(simulation).hasPrefix("damaged"))
        let seen = try Self.look(simulation)
        #expect(seen.damage.contains { $0.contains("was durable") }, "\(seen.damage)")
        #expect(seen.wrong == 0 && seen.whole < Self.count, "\(seen)")
    }

    @Test func theNameOfTheLog() throws {
        let simulation = try Self.filled()
        for place in [0, 12] { #expect(simulation.flipBit(of: "log/place", at: UInt64(place), bit: 1)) }
        #expect(Self.refusal(simulation).hasPrefix("damaged"))
        let seen = try Self.look(simulation)
        #expect(seen.damage.count == 1 && seen.whole == Self.count && seen.wrong == 0, "\(seen)")
    }
}

import Headhunter
import Runtime
import Simulator
import Testing

/// What the replay log promises by itself, whatever the checkpoints beside it make needless.
struct ReplayLogTests {
    private static let length = 1_000

    /// The records that the files of the log hold: each is made of its own number.
    private static func records(_ world: World, upTo last: UInt8) async throws(Errno) -> Set<UInt8> {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Set<UInt8> in
            var names: [String] = []
            try world.disk.list("log") { name, _ in
                names.append(name)
                return true
            }
            var found: Set<UInt8> = []
            for name in names {
                let file = try world.disk.open("log/" + name, [])
                defer { file.close() }
                let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(try file.size()), alignment: 8)
                defer { bytes.deallocate() }
                guard try file.read(into: bytes, at: 0) == bytes.count else { throw .io }
                for number in 1...last {
                    let record = Array(repeating: number, count: length)
                    if bytes.split(separator: 0).contains(where: { $0.suffix(length).elementsEqual(record) }) {
                        found.insert(number)
                    }
                }
            }
            return found
        }
    }

    /// Several files were begun since the last sync: one sync is the promise of all of them.
    @Test(arguments: 1...8) func recordsOfManyFilesOutliveThePower(_ seed: UInt64) throws {
        let simulation = Simulation(seed: seed)
        let written = simulation.perform { world -> String? in
            do {
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    try world.disk.makeDirectory("log")
                    try world.disk.syncDirectory("")
                }
                let log = ReplayLog(
                    world: world, loop: world.loops[0], directory: "log", volume: VolumeIdentity(high: 1, low: 2),
                    epoch: 1, sequence: 1, next: 1, chain: 0, files: [], reserveBytes: 64 << 10, pushBytes: 1 << 20)
                for number in 1...4 as ClosedRange<UInt8> {
                    let record = Array(repeating: number, count: Self.length)
                    let last = record.withUnsafeBytes { log.append($0) }
                    try await log.wait(for: last, number < 4 ? .written : .durable)
                    _ = log.beginFile(copies: false)
                }
                return try await Self.records(world, upTo: 4).count == 4 ? nil : "not all was written"
            } catch { return "\(error)" }
        }
        #expect(try #require(written, "the program did not come to an end") == nil)
        simulation.crash()
        simulation.restart()
        let found = simulation.perform { world in try? await Self.records(world, upTo: 4) }
        #expect(found == Set(1...4))
    }
}

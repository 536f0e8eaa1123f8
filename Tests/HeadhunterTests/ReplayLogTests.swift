import Headhunter
import Runtime
import Simulator
import Testing

/// What the replay log promises by itself, whatever the checkpoints beside it make needless.
struct ReplayLogTests {
    private static let length = 1_000

    /// A new log in a new directory.
    private static func log(_ world: World) async throws(Errno) -> ReplayLog {
        try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
            try world.disk.makeDirectory("log")
            try world.disk.syncDirectory("")
        }
        return ReplayLog(
            world: world, loop: world.loops[0], directory: "log", volume: VolumeIdentity(high: 1, low: 2),
            epoch: 1, sequence: 1, next: 1, chain: 0, files: [], reserveBytes: 64 << 10, pushBytes: 1 << 20)
    }

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
                let log = try await Self.log(world)
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

    /// A checkpoint covers the records below a number: those behind it stay, in however many files they are.
    @Test func aCutLeavesWhatIsBehindIt() throws {
        let simulation = Simulation(seed: 5)
        let wrong = simulation.perform { world -> String? in
            do {
                let log = try await Self.log(world)
                for number in 1...4 as ClosedRange<UInt8> {
                    let record = Array(repeating: number, count: Self.length)
                    try await log.wait(for: record.withUnsafeBytes { log.append($0) }, .durable)
                    _ = log.beginFile(copies: false)
                }
                for covered in 1...4 as ClosedRange<UInt8> {
                    await log.cut(below: UInt64(covered))
                    let found = try await Self.records(world, upTo: 4)
                    guard found == Set(covered...4) else { return "below \(covered): \(found.sorted())" }
                }
                return nil
            } catch { return "\(error)" }
        }
        #expect(try #require(wrong, "the program did not come to an end") == nil)
    }

    /// What the batches of a file hold, in order.
    private static func batches(_ bytes: UnsafeRawBufferPointer) -> [[UInt8]] {
        var found: [[UInt8]] = []
        var place = 4096
        while place + 64 <= bytes.count, bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self) == 0x424C_5850 {
            let length = Int(bytes.loadUnaligned(fromByteOffset: place + 8, as: UInt32.self))
            var at = place + 64
            let end = at + length
            while at < end {
                var count = 0
                var shift = 0
                while bytes[at] >= 0x80 {
                    count |= Int(bytes[at] & 0x7F) << shift
                    (at, shift) = (at + 1, shift + 7)
                }
                count |= Int(bytes[at]) << shift
                found.append(Array(bytes[(at + 1)..<(at + 1 + count)]))
                at += 1 + count
            }
            place = (end + 511) / 512 * 512
        }
        return found
    }

    /// Records of every length, one or many of them before somebody waits, over and over: batches use each other's memory.
    @Test(arguments: 1...4) func recordsOfAllLengthsComeInOrder(_ seed: UInt64) throws {
        let lengths = [
            1, 90, 900, 16_200, 16_300, 16_384, 40_000, 261_000, 262_144, 262_145, 1 << 20, (4 << 20) - 10,
        ]
        let simulation = Simulation(seed: seed)
        let wrong = simulation.perform { world -> String? in
            do {
                let log = try await Self.log(world)
                var random = Generator(seed: seed)
                var written: [[UInt8]] = []
                for _ in 0..<40 {
                    var last: UInt64 = 0
                    for _ in 0..<(1 + random.below(random.below(3) == 0 ? 60 : 3)) {
                        // Long ones are rare.
                        let length = lengths[random.below(random.below(8) == 0 ? lengths.count : 7)]
                        written.append(Array(repeating: UInt8(truncatingIfNeeded: written.count), count: length))
                        last = written[written.count - 1].withUnsafeBytes { log.append($0) }
                    }
                    try await log.wait(for: last, random.below(2) == 0 ? .written : .durable)
                }
                let found = try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> [[UInt8]] in
                    var names: [String] = []
                    try world.disk.list("log") { name, _ in
                        names.append(name)
                        return true
                    }
                    guard names.count == 1 else { throw .invalid }
                    let file = try world.disk.open("log/" + names[0], [])
                    defer { file.close() }
                    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(try file.size()), alignment: 8)
                    defer { bytes.deallocate() }
                    guard try file.read(into: bytes, at: 0) == bytes.count else { throw .io }
                    return Self.batches(UnsafeRawBufferPointer(bytes))
                }
                guard found != written else { return nil }
                return
                    "\(found.count) of \(written.count) records, the first \(zip(found, written).prefix { $0 == $1 }.count) right"
            } catch { return "\(error)" }
        }
        #expect(try #require(wrong, "the program did not come to an end") == nil)
    }
}

import Bytes
import Runtime
import Simulator
import Testing

private let second: UInt64 = 1_000_000_000

/// The simulator itself: it repeats its runs, it fails in each way it says, and it catches who relies on luck.
struct SimulationTests {
    /// A program that replaces a small file again and again, as a careful or as a careless one would.
    enum Care: CaseIterable {
        case full, noFileSync, noDirectorySync
    }

    final class Outcome: @unchecked Sendable {
        var acknowledged = 0
        var begun = 0
        var isStopped = false
    }

    static func content(_ number: Int) -> [UInt8] {
        (0..<1_500).map { UInt8(truncatingIfNeeded: number &* 31 &+ $0) }
    }

    static func replace(_ world: World, _ care: Care, _ outcome: Outcome, times: Int) async {
        let disk = world.disk
        for _ in 0..<times {
            let number = outcome.begun + 1
            outcome.begun = number
            do {
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    let file = try disk.open("file.new", [.write, .create, .truncate])
                    defer { file.close() }
                    let bytes = content(number)
                    for part in 0..<3 {
                        let piece = bytes[(part * 500)..<(part * 500 + 500)].withUnsafeBytes { Block(copying: $0) }
                        defer { extendLifetime(piece) }
                        try file.write(piece.bytes, at: UInt64(part * 500))
                    }
                    if care != .noFileSync { try file.sync() }
                    try disk.rename("file.new", to: "file")
                    if care != .noDirectorySync { try disk.syncDirectory("") }
                }
                outcome.acknowledged = number
            } catch { return }
        }
    }

    /// Nil when the file is what it may be after a crash: something whole, and not older than what was acknowledged.
    static func complaint(_ simulation: Simulation, _ outcome: Outcome) -> String? {
        guard let file = try? simulation.world.disk.open("file", []) else {
            return outcome.acknowledged == 0 ? nil : "the file is gone"
        }
        guard let bytes = try? file.bytes() else { return "the file can not be read" }
        if outcome.acknowledged == 0, bytes.isEmpty { return "empty" }
        for number in outcome.acknowledged...outcome.begun where number > 0 {
            if bytes == content(number) { return nil }
        }
        return "\(bytes.count) bytes that nobody wrote, or old ones"
    }

    /// Runs one life that ends with the crash at a call of the disk; nil when it came to its end before.
    static func crash(_ care: Care, seed: UInt64, call: Int, faults: FaultMix = .none) -> (
        crashed: Bool, complaint: String?
    ) {
        let simulation = Simulation(seed: seed, faults: faults)
        let outcome = Outcome()
        simulation.crashAtDiskCall = call
        let finished: Void? = simulation.perform { world in await replace(world, care, outcome, times: 3) }
        if finished != nil { simulation.crash() }
        simulation.faults = .none
        simulation.restart()
        return (finished == nil, complaint(simulation, outcome))
    }

    @Test func everyCallOfACarefulProgram() {
        var call = 1
        while true {
            var crashed = false
            for seed in 1...40 as ClosedRange<UInt64> {
                let result = Self.crash(.full, seed: seed, call: call)
                crashed = result.crashed
                #expect(result.complaint == nil, "seed \(seed), call \(call): \(result.complaint ?? "")")
            }
            if !crashed { break }
            call += 1
        }
        #expect(call == 3 * 7 + 1, "a life has \(call - 1) calls")
    }

    @Test(arguments: [Care.noFileSync, .noDirectorySync]) func aCarelessProgramIsCaught(_ care: Care) {
        var caught = 0
        for seed in 1...60 as ClosedRange<UInt64> {
            for call in 1...22 where Self.crash(care, seed: seed, call: call).complaint != nil { caught += 1 }
        }
        #expect(caught > 20, "caught \(caught) times")
    }

    /// After a failed sync the next one says that all is well: who believes it loses data.
    @Test func aSecondSyncLies() throws {
        var lost = 0
        for seed in 1...50 as ClosedRange<UInt64> {
            let simulation = Simulation(seed: seed)
            let disk = simulation.world.disk
            let file = try disk.open("a", [.write, .create])
            try disk.syncDirectory("")
            try file.put("precious", at: 0)
            simulation.faults.failedSync = 1
            #expect(throws: Errno.io) { try file.sync() }
            simulation.faults = .none
            try file.sync()
            #expect(try file.text() == "precious")
            simulation.crash()
            simulation.restart()
            if try simulation.world.disk.open("a", []).text() != "precious" { lost += 1 }
        }
        #expect(lost > 5 && lost < 50, "lost in \(lost) of 50")
    }

    /// A kind that nobody counts is a kind of which nobody knows whether it ever happens.
    @Test func everyKindOfFaultIsCounted() {
        let counted = FaultCounts.fields.map(\.name)
        #expect(counted == Mirror(reflecting: FaultCounts()).children.compactMap(\.label))
        for (label, value) in Mirror(reflecting: FaultMix.default).children {
            guard let label, let odds = value as? Int else { continue }
            if label == "powerLoss" {
                #expect(odds == 0, "a test says when the power goes")
            } else {
                #expect(odds > 0, "\(label) is not in the default mix")
                #expect(counted.contains(label + "s"), "\(label) is not counted")
            }
        }
    }

    @Test func eachFaultOccursInTheDefaultMix() throws {
        var counts = FaultCounts()
        for seed in 1...300 as ClosedRange<UInt64> {
            let simulation = Simulation(seed: seed, faults: .default)
            simulation.crashAtDiskCall = 20 + Int(seed % 200)
            let outcome = Outcome()
            _ = simulation.perform { world in
                try? world.disk.makeDirectory("d")
                for _ in 0..<30 {
                    await Self.replace(world, .full, outcome, times: 1)
                    await world.blocking.run(on: world.loops[0]) {
                        try? world.disk.rename("file", to: "d/file")
                        if let file = try? world.disk.open("d/file", []) { _ = try? file.bytes() }
                    }
                }
            }
            counts += simulation.counts
        }
        for seed in 0..<40 as Range<UInt64> { counts += try SimulatedNetworkTests.trace(seed).1 }
        for field in FaultCounts.fields {
            #expect(counts[keyPath: field.path] > 0, "\(field.name) never happened")
        }
    }

    @Test func thePowerGoesByTheOddsToo() {
        var faults = FaultMix.none
        faults.powerLoss = 30
        var crashes = 0
        for seed in 1...40 as ClosedRange<UInt64> {
            let simulation = Simulation(seed: seed, faults: faults)
            let finished: Void? = simulation.perform { world in await Self.replace(world, .full, Outcome(), times: 5) }
            crashes += simulation.counts.crashes
            #expect((finished == nil) == (simulation.counts.crashes == 1))
        }
        #expect(crashes > 10 && crashes < 40, "\(crashes) of 40")
    }

    @Test func aRenameBetweenDirectoriesLosesNeverBothNames() throws {
        var both = 0
        for seed in 1...200 as ClosedRange<UInt64> {
            for synced in ["", "a", "b", "neither"] {
                let simulation = Simulation(seed: seed)
                let disk = simulation.world.disk
                for name in ["a", "b"] { try disk.makeDirectory(name) }
                let file = try disk.open("a/f", [.write, .create])
                try file.put("x", at: 0)
                try file.sync()
                for name in ["", "a", "b"] { try disk.syncDirectory(name) }
                try disk.rename("a/f", to: "b/f")
                if synced != "neither" { try disk.syncDirectory(synced) }
                simulation.crash()
                simulation.restart()
                let names = ["a/f", "b/f"].map { (try? simulation.world.disk.status($0)) != nil }
                #expect(names[0] || names[1], "seed \(seed): both names are gone after a sync of \(synced)")
                if synced == "a" || synced == "b" { #expect(names[1], "seed \(seed): \(synced)") }
                if synced == "a" { #expect(!names[0], "seed \(seed)") }
                if names[0], names[1] { both += 1 }
            }
        }
        #expect(both > 0)
    }

    @Test func sameSeedSameRun() {
        func run(_ seed: UInt64) -> (UInt64, FaultCounts, [String], [UInt8]) {
            let simulation = Simulation(seed: seed, faults: .default)
            let outcome = Outcome()
            var files: [String] = []
            var bytes: [UInt8] = []
            for life in 0..<4 {
                simulation.crashAtDiskCall = simulation.diskCalls + 37 + life * 11
                let finished: Void? = simulation.perform { world in
                    await withTaskGroup(of: Void.self) { group in
                        for index in 0..<5 {
                            group.addTask {
                                await world.loops[0].sleep(nanoseconds: world.random.next() % 1_000_000)
                                await world.blocking.run(on: world.loops[0]) {
                                    try? world.disk.makeDirectory("d\(index)-\(world.random.next() % 50)")
                                }
                                await Self.replace(world, .full, outcome, times: 4)
                            }
                        }
                    }
                }
                if finished != nil { simulation.crash() }
                simulation.restart()
                files += simulation.files(below: "").map { "\($0.path) \($0.size)" }
                simulation.faults = .none
                for (path, _) in simulation.files(below: "") {
                    bytes += (try? simulation.world.disk.open(path, []).bytes()) ?? []
                }
                simulation.faults = .default
                try? simulation.world.disk.list("") { name, _ in
                    files.append(name)
                    return true
                }
            }
            return (simulation.trace, simulation.counts, files, bytes)
        }
        for seed in 1...20 as ClosedRange<UInt64> {
            let (first, second) = (run(seed), run(seed))
            #expect(first.0 == second.0 && first.1 == second.1 && first.2 == second.2, "seed \(seed)")
            #expect(first.3 == second.3, "seed \(seed)")
            #expect(first.0 != run(seed + 1).0)
        }
    }

    @Test func theDeadTouchNothing() throws {
        let simulation = Simulation(seed: 3)
        let old = simulation.world
        let file = try old.disk.open("a", [.write, .create])
        #expect(try file.tryLock())
        try file.put("before", at: 0)
        try file.sync()
        try old.disk.syncDirectory("")
        simulation.crash()
        simulation.restart()
        #expect(throws: Errno.canceled) { try file.put("after", at: 0) }
        #expect(throws: Errno.canceled) { try old.disk.remove("a") }
        let new = try simulation.world.disk.open("a", [.write])
        #expect(try new.tryLock(), "locks end with their process")
        file.close()
        #expect(try !simulation.world.disk.open("a", [.write]).tryLock(), "a dead handle takes no lock along")
        #expect(try new.text() == "before")
    }

    @Test func aKilledProcessLosesNothingWritten() throws {
        let simulation = Simulation(seed: 3)
        let file = try simulation.world.disk.open("a", [.write, .create])
        try file.put("unsynced", at: 0)
        simulation.killAndRestart()
        #expect(try simulation.world.disk.open("a", []).text() == "unsynced")
    }

    private final class Held: @unchecked Sendable {
        weak var simulation: Simulation?
        weak var resource: Outcome?
    }

    /// A program that sleeps, repeats itself and waits for its disk ends with its world, and so does what it held.
    @Test(arguments: [false, true]) func nothingIsKeptOfTheDead(_ isKilled: Bool) {
        let held = Held()
        do {
            let simulation = Simulation(seed: 4, faults: .default)
            held.simulation = simulation
            do {
                let resource = Outcome()
                held.resource = resource
                for pause in [1_000_000, 3_000_000_000, 90_000_000_000] as [UInt64] {
                    // Each ends when its disk fails, as programs do; between two tries it sleeps.
                    simulation.loop.task { [world = simulation.world] in
                        while !resource.isStopped {
                            await world.loops[0].sleep(nanoseconds: pause)
                            await Self.replace(world, .full, resource, times: 1)
                            if (try? world.disk.status("")) == nil { return }
                        }
                    }
                }
                // What a timer repeats, it repeats as long as somebody holds what it is for.
                @Sendable func again(_ loop: EventLoop) {
                    _ = loop.schedule(after: 1_000_000) { [weak resource] in if resource != nil { again(loop) } }
                }
                again(simulation.loop)
                simulation.run(for: 100_000_000)
                #expect(resource.begun > 0)
            }
            #expect(held.resource != nil)
            if isKilled {
                simulation.killAndRestart()
            } else {
                simulation.crash()
                simulation.restart()
            }
            #expect(held.resource == nil, "the dead program still holds what it had")
            #expect(
                simulation.perform { $0.clock.monotonic() } ?? 0 < 2_000_000_000, "its end took no time of the next")
        }
        #expect(held.simulation == nil)
    }

    @Test func timePassesOnlyWhenNothingIsLeftToDo() {
        let simulation = Simulation(seed: 1)
        let start = simulation.world.clock.monotonic()
        let slept = simulation.perform { world -> UInt64 in
            await world.loops[0].sleep(nanoseconds: 3_600_000_000_000)
            return world.clock.monotonic()
        }
        #expect(slept == start + 3_600_000_000_000)
        let wall = simulation.world.clock.wall()
        simulation.jumpWallClock(by: -5_000)
        #expect(simulation.world.clock.wall() == wall - 5_000)
    }

    @Test func theFarthestTimerIsNotTheNext() {
        let simulation = Simulation(seed: 1)
        let fired = Outcome()
        _ = simulation.loop.schedule(after: .max) { fired.begun += 1 }
        _ = simulation.loop.schedule(after: second) { fired.acknowledged += 1 }
        simulation.run(for: 1000 * second)
        #expect(fired.begun == 0 && fired.acknowledged == 1)
    }

    @Test func aCanceledTimerDoesNotFire() {
        let simulation = Simulation(seed: 1)
        let fired = Outcome()
        let first = simulation.loop.schedule(after: 10) { fired.begun += 1 }
        _ = simulation.loop.schedule(after: 20) { fired.acknowledged += 1 }
        simulation.loop.cancel(first)
        simulation.run()
        simulation.loop.cancel(first)
        #expect(fired.begun == 0 && fired.acknowledged == 1)
    }

    @Test func aFlippedBitShowsAndStays() throws {
        let simulation = Simulation(seed: 1)
        let file = try simulation.world.disk.open("a", [.write, .create])
        try file.put("abc", at: 0)
        try file.sync()
        try simulation.world.disk.syncDirectory("")
        #expect(simulation.flipBit(of: "a", at: 1, bit: 0))
        #expect(!simulation.flipBit(of: "a", at: 3, bit: 0))
        #expect(try file.text() == "acc")
        simulation.crash()
        simulation.restart()
        #expect(try simulation.world.disk.open("a", []).text() == "acc")
    }
}

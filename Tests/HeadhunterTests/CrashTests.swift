import Glibc
import Simulator
import Testing
import Trials

/// The engine against power loss and failing disks: see `EngineTrial` for what is promised and checked.
struct CrashTests {
    @Test func everyDiskCallOfASmallProgram() {
        var calls = 1
        var crashes = 0
        while true {
            var trial = EngineTrial(seed: 11, faults: .none)
            trial.simulation.crashAtDiskCall = trial.simulation.diskCalls + calls
            let crashed = trial.life(changes: 24, checkpoints: true)
            trial.verify("crash at call \(calls)")
            if crashed {
                // And again, at some call of the recovery itself.
                trial.simulation.crashAtDiskCall = trial.simulation.diskCalls + 1 + calls % 37
                _ = trial.life(changes: 3, checkpoints: false)
                trial.verify("second crash after call \(calls)")
            }
            #expect(trial.problems == [])
            guard crashed else { break }
            crashes += 1
            calls += 1
        }
        #expect(crashes > 100, "only \(crashes) crash points")
    }

    /// Enough to notice most of the planted bugs that need a crash; the others have tests of their own.
    @Test(arguments: 1...60)
    func fewLives(_ number: Int) { live(number) }

    @Test(arguments: 61...600)
    func manyLives(_ number: Int) { live(number) }

    private func live(_ number: Int) {
        var trial = EngineTrial(seed: UInt64(number) &* 7_919, faults: .default)
        trial.run(lives: 8)
        #expect(trial.problems == [])
        #expect(trial.lives == 8)
        // A store that does not answer keeps whoever waits for it, and so does a host that stood still at the end.
        #expect(
            trial.trouble != nil || trial.losesLock || trial.volumesLeft == 0, "a volume is kept after its life")
    }

    /// A flipped bit is named or was of no use to anybody: it is never returned as data, and never shortens the log.
    @Test(arguments: 0..<8)
    func flippedBits(_ part: Int) {
        var random = Generator(seed: UInt64(part), stream: "bits")
        var named = 0
        for _ in 0..<150 {
            let place = random.next()
            let bit = UInt8(random.below(8))
            let damage = EngineTrial.flip(seed: UInt64(part), place: place, bit: bit)
            if case .silent(let problem) = damage { Issue.record("place \(place), bit \(bit): \(problem)") }
            if damage == .named { named += 1 }
        }
        #expect(named > 20)
    }

    /// The same through all files from their first byte to their last, in steps; PROXYFS_FLIP_STEP=1 leaves no byte out.
    @Test(arguments: 0..<4)
    func flippedBitsInOrder(_ part: Int) throws {
        let step = getenv("PROXYFS_FLIP_STEP").flatMap { UInt64(String(cString: $0)) } ?? 1201
        let seed: UInt64 = 11
        let bytes = EngineTrial.flippableBytes(seed: seed)
        var (flips, named) = (0, 0)
        for place in stride(from: UInt64(part) * step, to: bytes, by: 4 * Int(step)) {
            let bit = UInt8((place ^ place >> 3) & 7)
            let damage = EngineTrial.flip(seed: seed, place: place, bit: bit)
            if case .silent(let problem) = damage { Issue.record("place \(place), bit \(bit): \(problem)") }
            flips += 1
            if damage == .named { named += 1 }
        }
        print("\(flips) of \(bytes) bytes flipped, \(named) of them named")
        #expect(named > flips / 8)
    }

    @Test func sameSeedSameRun() {
        func trace() -> UInt64 {
            var trial = EngineTrial(seed: 5, faults: .default)
            trial.simulation.crashAtDiskCall = 300
            _ = trial.life(changes: 100, checkpoints: true)
            trial.verify("trace")
            return trial.simulation.trace
        }
        let first = trace()
        #expect(first == trace())
    }

    /// The lives above meet everything that a store may do, wherever the log is, and whether the store decides who made a name or not.
    @Test func storesFailInEveryWay() {
        var counts: [String: [String: Int]] = [:]
        for number in 1...240 {
            var trial = EngineTrial(seed: UInt64(number) * 3, faults: .default)
            trial.run(lives: 4)
            #expect(trial.problems == [])
            guard let trouble = trial.trouble else { continue }
            let kind = "log \(trial.logPlace), \(trouble.isStale ? "last writer wins" : "one maker")"
            counts[kind, default: [:]].merge(trouble.counts, uniquingKeysWith: +)
        }
        #expect(counts.count == 5, "\(counts.keys)")
        for (kind, counts) in counts {
            let lacking = counts.filter { $0.value == 0 }.keys
            let isExpected = lacking.allSatisfy { $0 == "staleListing" && kind.hasSuffix("one maker") }
            #expect(counts.count == 14 && isExpected, "\(kind): \(counts)")
        }
    }

    /// Another host goes on with the log of a directory that both have: with all of it, also where it takes the volume.
    @Test(arguments: 0..<12)
    func sharedLog(_ number: Int) {
        var trial = EngineTrial(seed: UInt64(number) * 5 + 1, faults: .default)
        trial.run(lives: 8)
        #expect(trial.problems == [])
        #expect(trial.handovers == 8 && trial.moves == 0)
    }

    /// An owner whose lock is lost while it stands still goes on in log, stage and store beside the next one.
    @Test(arguments: 0..<6)
    func lostLock(_ part: Int) {
        var overtakings = 0
        for number in 0..<12 {
            var trial = EngineTrial(seed: UInt64(part * 12 + number) * 5 + 1, faults: .default)
            trial.run(lives: 8)
            #expect(trial.problems == [])
            overtakings += trial.overtakings
        }
        #expect(overtakings > 6, "only \(overtakings)")
    }

    /// Hosts whose clocks tell different times of the day: each deletes a header when one behind it has been there for as long as is asked, by these clocks.
    @Test func headersOfHostsWithOtherClocks() {
        var deleted = 0
        for number in 0..<40 {
            var trial = EngineTrial(seed: UInt64(number) * 7 + 3, faults: .default)
            trial.run(lives: 6)
            #expect(trial.problems == [])
            deleted += trial.headersDeleted
        }
        #expect(deleted > 20, "only \(deleted)")
    }

    @Test func defaultMixHasEveryFault() {
        var counts = FaultCounts()
        for number in 1...60 {
            var trial = EngineTrial(seed: UInt64(number), faults: .default)
            trial.run(lives: 4)
            counts += trial.simulation.counts
        }
        // The engine has no network of its own here.
        let never = [
            "slowSegments", "partialReads", "partialWrites", "resets", "halfOpens", "partitions", "lostDatagrams",
            "duplicatedDatagrams", "reorderedDatagrams",
        ]
        for field in FaultCounts.fields where !never.contains(field.name) {
            #expect(counts[keyPath: field.path] > 0, "\(field.name)")
        }
    }
}

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

    @Test(arguments: 1...600)
    func randomLives(_ number: Int) {
        var trial = EngineTrial(seed: UInt64(number) &* 7_919, faults: .default)
        trial.run(lives: 8)
        #expect(trial.problems == [])
        #expect(trial.lives == 8)
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

    @Test func defaultMixHasEveryFault() {
        var counts = FaultCounts()
        for number in 1...60 {
            var trial = EngineTrial(seed: UInt64(number), faults: .default)
            trial.run(lives: 4)
            let run = trial.simulation.counts
            counts.failedSyncs += run.failedSyncs
            counts.noSpaces += run.noSpaces
            counts.longDelays += run.longDelays
            counts.crashes += run.crashes
            counts.lostWrites += run.lostWrites
            counts.tornWrites += run.tornWrites
            counts.survivedWrites += run.survivedWrites
            counts.lostNames += run.lostNames
            counts.survivedNames += run.survivedNames
        }
        #expect(
            min(
                counts.failedSyncs, counts.noSpaces, counts.longDelays, counts.crashes, counts.lostWrites,
                counts.tornWrites, counts.survivedWrites, counts.lostNames, counts.survivedNames) > 0, "\(counts)")
    }
}

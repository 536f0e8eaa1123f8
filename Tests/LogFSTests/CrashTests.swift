import LogFS
import Simulator
import Testing
import Trials

/// Files against power loss and failing disks: see `FileTrial` for what is promised and checked.
struct CrashTests {
    @Test(arguments: 1...150)
    func lives(_ number: Int) {
        var trial = FileTrial(seed: UInt64(number) &* 104_729, faults: .default)
        trial.run(lives: 6)
        #expect(trial.model.problems == [])
    }

    @Test func everyDiskCallOfASmallProgram() {
        var calls = 1
        while calls < 400 {
            var trial = FileTrial(seed: 17, faults: .none)
            let last = trial.simulation.diskCalls + calls
            trial.simulation.crashAtDiskCall = last
            trial.life(steps: 60)
            trial.verify("crash at call \(calls)")
            #expect(trial.model.problems == [])
            guard trial.model.problems.isEmpty, trial.simulation.counts.crashes > 0 else { break }
            calls += 1
        }
        #expect(calls > 60, "only \(calls) crash points")
    }

    /// All workloads of one and two steps, and the power gone at every change of the disk.
    @Test(arguments: FileStep.allCases)
    func oneAndTwoSteps(_ first: FileStep) {
        var trial = WorkloadTrial(isLogged: true)
        trial.run([first])
        for second in FileStep.allCases { trial.run([first, second]) }
        #expect(trial.problems.prefix(3) == [])
        print("crash points of workloads that begin with \(first): \(trial.crashes)")
        // Behind a checkpoint little is left to write.
        #expect(trial.crashes > (first == .checkpoint ? 100 : 1_000), "only \(trial.crashes) crash points")
    }

    /// With the log in the store, whose calls are changes of the disk here as well.
    @Test(arguments: FileStep.core)
    func logInTheStore(_ first: FileStep) {
        var trial = WorkloadTrial(isLogged: true, logIsInStore: true)
        trial.run([first])
        for second in FileStep.core { trial.run([first, second]) }
        #expect(trial.problems.prefix(3) == [])
        print("crash points of workloads with a log in the store that begin with \(first): \(trial.crashes)")
        #expect(trial.crashes > (first == .checkpoint ? 300 : 500), "only \(trial.crashes) crash points")
    }

    /// The same with three steps.
    @Test(arguments: FileStep.core)
    func threeSteps(_ first: FileStep) {
        var trial = WorkloadTrial(isLogged: false)
        for second in FileStep.core {
            for third in FileStep.core { trial.run([first, second, third]) }
        }
        #expect(trial.problems.prefix(3) == [])
        print("crash points of workloads of three steps that begin with \(first): \(trial.crashes)")
        #expect(trial.crashes > 2_500, "only \(trial.crashes) crash points")
    }

    /// The workload does all that it is meant to do.
    @Test func everyOperationHappens() {
        var trial = FileTrial(seed: 3, faults: .none)
        for _ in 0..<4 { trial.life(steps: 300) }
        trial.verify("seed 3")
        #expect(trial.model.problems == [])
        for name in [
            "create", "write", "flush", "sync", "resize", "punch", "clone", "rename", "unlink", "attribute", "link",
            "exchange", "mkdir", "rmdir", "stream", "removeStream", "place", "join", "token", "unlinkedOpen",
        ] {
            #expect(trial.model.counts[name, default: 0] > 2, "\(name)")
        }
    }
}

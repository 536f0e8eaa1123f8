import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator

/// Files on a real disk, in a process that is killed, or a machine that loses power, while it works on them.
///
/// The steps follow from a seed, so that a simulated world without faults can say afterwards what states the files
/// went through; the process tells which steps it began and which of them were promised to last.
package enum KillTrial {
    package enum Event: Equatable {
        /// The volume is made; nothing before this counts.
        case ready
        case begun(Int)
        /// All up to this step is promised to survive.
        case synced(Int)
    }

    /// Makes a volume and works on it until the end of the process.
    package static func load(_ world: World, seed: UInt64, _ tell: @Sendable (Event) -> Void) async throws {
        try await Bench.make(world)
        let volume = try await Bench.volume(world)
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        try await FileWorker.makeHomes(files)
        try await volume.checkpoint()
        tell(.ready)
        let model = FileTrial.Model()
        var worker = FileWorker(files: files, model: model, random: Generator(seed: seed))
        var step = 0
        while true {
            let syncs = model.counts["sync", default: 0]
            tell(.begun(step))
            try await worker.step()
            if model.counts["sync", default: 0] > syncs {
                tell(.synced(step))
                model.forgetOld()
            }
            step += 1
        }
    }

    /// Opens what `load` has left and answers what is wrong with it.
    package static func verify(_ world: World, seed: UInt64, begun: Int, synced: Int) async -> [String] {
        let model = states(seed: seed, begun: begun, synced: synced)
        guard model.problems.isEmpty else { return model.problems }
        do {
            let volume = try await Bench.volume(world)
            let found = try await FileTrial.look(volume, world)
            try await volume.close()
            return model.judge(found, "seed \(seed)")
        } catch {
            return ["seed \(seed): the files do not open: \(error)"]
        }
    }

    /// The states that may be found when the steps up to `begun` were begun, and those up to `synced` promised.
    private static func states(seed: UInt64, begun: Int, synced: Int) -> FileTrial.Model {
        let trial = FileTrial(seed: seed, faults: .none)
        let model = trial.model
        let done = trial.simulation.perform { world -> Bool in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                var worker = FileWorker(files: files, model: model, random: Generator(seed: seed))
                for step in 0...max(begun, 0) where step <= begun {
                    let syncs = model.counts["sync", default: 0]
                    let place = model.synced
                    try await worker.step()
                    guard model.counts["sync", default: 0] > syncs else { continue }
                    if step <= synced { model.forgetOld() } else { model.synced = place }
                }
                return true
            } catch {
                return false
            }
        }
        if done != true { model.problems.append("seed \(seed): the states could not be made") }
        return model
    }
}

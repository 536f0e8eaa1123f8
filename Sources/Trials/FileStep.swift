import Headhunter
import LogFS
import Simulator

/// The steps of which small workloads are made: few files, one parameter each, so that all of them can be tried.
///
/// `large` has extents, `small` lies in the tree, `fresh` is not there at first.
package enum FileStep: CaseIterable, Sendable {
    case create, appendToLarge, growSmall, changeSmall, flushLarge, syncLarge, empty, shorten, punch, clone
    case renameOver, renameAway, unlink, attribute, checkpoint, tidy
    case link, exchange, folder, stream, place, join, unlinkOpen

    /// Those that change most: workloads of three steps are made of these.
    package static let core: [FileStep] = [
        .create, .appendToLarge, .growSmall, .syncLarge, .empty, .punch, .clone, .renameOver, .unlink, .checkpoint,
        .link, .join,
    ]

    static let large = "a/f0"
    static let small = "b/f1"
    static let fresh = "a/f2"
}

extension FileWorker {
    /// Nothing happens when a file that the step needs is not there.
    mutating func perform(_ step: FileStep, _ volume: Headhunter) async throws {
        now += 1
        let large = try await Self.find(files, FileStep.large)
        let small = try await Self.find(files, FileStep.small)
        switch step {
        case .create: if try await Self.find(files, FileStep.fresh) == nil { try await create(FileStep.fresh) }
        case .appendToLarge: if let large { try await write(FileStep.large, large, at: Int(large.size), 3_000) }
        case .growSmall: if let small { try await write(FileStep.small, small, at: 100, 70_000) }
        case .changeSmall: if let small { try await write(FileStep.small, small, at: 10, 20) }
        case .flushLarge: if let large { try await flush(FileStep.large, large) }
        case .syncLarge: if let large { try await sync(FileStep.large, large) }
        case .empty: if let large { try await resize(FileStep.large, large, to: 0) }
        case .shorten: if let large { try await resize(FileStep.large, large, to: 50_000) }
        case .punch: if let large { try await punch(FileStep.large, large, at: 20_000, 30_000) }
        case .clone:
            if let large, let small {
                try await clone(FileStep.large, large, at: 10_000, 40_000, to: FileStep.small, small, at: 300)
            }
        case .renameOver: if large != nil { try await rename(FileStep.large, FileStep.small) }
        case .renameAway: if small != nil { try await rename(FileStep.small, "a/f3") }
        case .unlink: if large != nil { try await unlink(FileStep.large) }
        case .attribute: if let small { try await attribute(FileStep.small, small, 9_000) }
        case .link: if let large { try await link(FileStep.large, large) }
        case .exchange: if large != nil { try await exchange(FileStep.large, FileStep.small) }
        case .folder: try await folder("a")
        case .stream: if let large { try await stream(FileStep.large, large) }
        case .place: try await place(FileStep.small, 2_000)
        case .join: try await join(FileStep.large, FileStep.small, to: "a/f3")
        case .unlinkOpen: if large != nil { try await unlink(FileStep.large, isOpen: true) }
        case .checkpoint: try await volume.nextCheckpoint()
        case .tidy: try await files.tidy()
        }
    }
}

/// Every workload of a few steps, cut off by a crash at every change of the disk.
package struct WorkloadTrial {
    private let base: FileTrial
    package private(set) var crashes = 0
    package private(set) var problems: [String] = []

    /// `isLogged`: what the workloads begin with is in the log; else it is in a checkpoint.
    package init(isLogged: Bool, logIsInStore: Bool = false) {
        var base = FileTrial(seed: 29, faults: .none, logIsInStore: logIsInStore)
        base.prepare(isLogged: isLogged)
        problems = base.model.problems
        self.base = base
    }

    package mutating func run(_ steps: [FileStep]) {
        var whole = FileTrial(copying: base, seed: 1, faults: .none)
        // What comes before the last step, a shorter workload has been through.
        guard let changes = whole.life(steps) else {
            problems.append("\(steps): did not come to its end")
            return
        }
        whole.verify("\(steps)")
        problems += whole.model.problems
        for change in changes {
            // What a loss of power leaves of what was not synced is another draw each time.
            var trial = FileTrial(copying: base, seed: UInt64(change + 1), faults: .none)
            trial.simulation.crashAtDiskChange = change + 1
            _ = trial.life(steps)
            crashes += trial.simulation.counts.crashes
            trial.verify("\(steps), a crash at change \(change + 1)")
            problems += trial.model.problems
        }
    }
}

extension FileTrial {
    /// What small workloads begin with.
    mutating func prepare(isLogged: Bool) {
        let (model, logIsInStore) = (model, logIsInStore)
        let done = simulation.perform { world -> Bool in
            do {
                let volume = try await Bench.volume(world, logIsInStore: logIsInStore)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                var worker = FileWorker(files: files, model: model, random: Generator(seed: 5))
                for (path, size) in [(FileStep.large, 100_000), (FileStep.small, 500)] {
                    try await worker.create(path)
                    guard let inode = try await FileWorker.find(files, path) else { return false }
                    try await worker.write(path, inode, at: 0, size)
                    try await worker.sync(path, inode)
                }
                if !isLogged { try await volume.close() }
                return true
            } catch {
                return false
            }
        }
        if done != true { model.problems.append("small workloads: the beginning could not be made") }
        simulation.killAndRestart()
    }
}

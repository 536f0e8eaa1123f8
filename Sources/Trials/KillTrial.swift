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
        /// The store takes nothing, and the stage has all that it may have: said again and again.
        case full
        /// A caller of the crowd knows that its file with this number lasts.
        case told(Int, Int)
        case failed(String)
    }

    /// A store that takes nothing any more from some moment on.
    private final class AwayStore: StoreTransport, @unchecked Sendable {
        private let store: any StoreTransport
        private let loop: EventLoop
        var isAway = false

        init(_ store: any StoreTransport, loop: EventLoop) { (self.store, self.loop) = (store, loop) }

        var capabilities: StoreCapabilities { store.capabilities }

        func perform(_ request: StoreRequest) async -> StoreReply {
            guard isAway, case .object(_, .put) = request.kind else { return await store.perform(request) }
            await loop.sleep(nanoseconds: 5_000_000)
            return StoreReply(status: 503)
        }
    }

    /// Of every other life the store goes away.
    private static func losesStore(_ seed: UInt64) -> Bool { seed % 2 == 0 }
    private static let stagedBytesMax = 3 << 20
    /// A segment that is open counts less than its size.
    private static let fullBytes = 2 << 20

    /// Makes a volume and works on it until the end of the process.
    package static func load(
        _ world: World, seed: UInt64, _ tell: @escaping @Sendable (Event) -> Void
    ) async throws {
        try await Bench.make(world)
        let loop = world.loops[0]
        let directory = try await DirectoryStore.open(world: world, loop: loop, root: "store")
        let away = AwayStore(losesStore(seed) ? CopyingStore(directory, world) : directory, loop: loop)
        let volume = try await Bench.volume(
            world, behind: ObjectStore(away, world: world, loop: loop),
            stagedBytesMax: losesStore(seed) ? stagedBytesMax : nil)
        let files = try await LogFS.open(volume, world: world, subvolume: 1)
        try await FileWorker.makeHomes(files)
        try await makeCrowd(files)
        try await volume.checkpoint()
        tell(.ready)
        startCrowd(files, on: loop, tell)
        if losesStore(seed) {
            away.isAway = true
            loop.task {
                while true {
                    await loop.sleep(nanoseconds: 20_000_000)
                    if volume.storeLag.bytes >= UInt64(fullBytes) { tell(.full) }
                }
            }
        }
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
    package static func verify(_ world: World, seed: UInt64, begun: Int, synced: Int, told: [Int]) async -> [String] {
        let model = states(seed: seed, begun: begun, synced: synced)
        guard model.problems.isEmpty else { return model.problems }
        do {
            let volume = try await Bench.volume(world)
            let files = try await LogFS.open(volume, world: world, subvolume: 1)
            let problems = try await judgeCrowd(files, told: told)
            try await files.stop()
            let found = try await FileTrial.look(volume, world)
            try await volume.close()
            return problems + model.judge(found, "seed \(seed)")
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

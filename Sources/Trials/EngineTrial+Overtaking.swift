import Headhunter
import ObjectStore
import Runtime
import Simulator

/// Two owners in one directory: the lock of the first one is lost while it stands still, the second one goes on with the volume, and the first
/// one wakes and goes on with what it had begun, in the log, in the stage and in the store. Their clocks do not go alike.
extension EngineTrial {
    private static let opensMax = 8
    /// Then its store does not go wrong any more: by now it has to open.
    private static let opensAtLast = 32
    private static let stepsToClaim = 24

    /// A life of both. The second one has all that the first one acknowledged; that one acknowledges nothing more.
    mutating func overtakenLife(changes count: Int) {
        lives += 1
        let seed = random.next()
        // Some of them before the claim.
        let step = 1 + random.below(random.once(in: 6) ? Self.stepsToClaim : 500)
        let sleep = UInt64(random.below(1_000)) * UInt64(1 + random.below(20_000))
        let before = model
        let after = Model(names: before.names)
        let hosts = Guarded<StandingHost?>(nil)
        let taken = Guarded(false)
        let closed = Guarded(false)
        let isQuiet = random.once(in: 4)
        let failed = Guarded<String?>(nil)
        let (simulation, log, opened, trouble, options) = (simulation, log, opened, trouble, options())
        let (clock, other) = (clock(), clock())
        let finished = simulation.perform(for: 7_200_000_000_000) { common -> Bool in
            let (clock, other) = (HostClock(common.clock, seed: clock), HostClock(common.clock, seed: other))
            let world = other.world(common)
            let host = StandingHost(common, standsAt: step, clock: clock)
            hosts.withLock { $0 = host }
            @Sendable func open(_ host: StandingHost?, isEased: Bool = false) async throws -> Headhunter {
                let store = try await EngineTrial.store(
                    world, before, isEased ? nil : trouble, isElsewhere: true, host: host,
                    clock: host == nil ? other : clock, keep: options.keepNanoseconds)
                let volume = try await Headhunter.open(
                    world: host?.world ?? world, loop: world.loops[0], store: store, prefix: "v", directory: log,
                    options: options)
                opened.withLock { $0.append(WeakVolume(value: volume)) }
                return volume
            }
            let first = world.loops[0].task { () async -> Void in
                guard let volume = try? await open(host) else { return }
                await EngineTrial.use(
                    volume, before, world, logIsInStore: false, seed: seed, count: count, checkpoints: true)
            }
            let isDone = Guarded(false)
            world.loops[0].task {
                await first.value
                isDone.withLock { $0 = true }
            }
            while !host.stands, !isDone.withLock({ $0 }) { await world.loops[0].sleep(nanoseconds: 1_000_000) }
            host.stand()
            var second: Headhunter?
            for number in 0..<EngineTrial.opensMax + EngineTrial.opensAtLast where second == nil {
                do {
                    second = try await open(nil, isEased: number >= EngineTrial.opensMax)
                } catch { failed.withLock { $0 = "the next owner can not open the volume: \(error)" } }
            }
            // Who runs out behind a crash says nothing more, whatever it still has in memory.
            guard let second, !simulation.hasCrashed else {
                host.goOn()
                await first.value
                return true
            }
            failed.withLock { $0 = nil }
            before.isOver = true
            var counted: Int?
            for _ in 0..<EngineTrial.opensMax where counted == nil { counted = try? await EngineTrial.counter(second) }
            guard let counter = counted else {
                failed.withLock { $0 = "the next owner can not read the volume" }
                host.goOn()
                await first.value
                return true
            }
            before.carried = counter
            if before.acknowledged > counter || before.stored > counter {
                before.problem = "\(before.acknowledged) changes were acknowledged, the next owner has \(counter)"
            }
            after.begin(from: before, counter)
            taken.withLock { $0 = true }
            let waking = world.loops[0].task {
                await world.loops[0].sleep(nanoseconds: sleep)
                host.goOn()
            }
            // Who has said nothing yet has no later word than the one that wakes.
            if isQuiet {
                if seed % 3 > 0 { try? await second.checkpoint() }
            } else {
                await EngineTrial.use(
                    second, after, world, logIsInStore: false, seed: seed &+ 100, count: count,
                    checkpoints: seed % 3 > 0)
            }
            await waking.value
            await first.value
            if seed % 2 == 0, (try? await second.close()) != nil { closed.withLock { $0 = true } }
            return true
        }
        if let failed = failed.withLock({ $0 }), !simulation.hasCrashed {
            problems.append("seed \(simulation.seed): \(failed)")
        } else if finished == nil, !simulation.hasCrashed {
            problems.append("seed \(simulation.seed): the life did not come to an end")
        }
        // What stands still runs out with the rest.
        hosts.withLock { $0?.goOn() }
        if let problem = before.problem { problems.append("seed \(simulation.seed): \(problem)") }
        before.isOver = false
        if taken.withLock({ $0 }) {
            overtakings += 1
            model = after
        }
        end(crashed: finished == nil, isClosed: closed.withLock { $0 })
    }

    private static func counter(_ volume: Headhunter) async throws(VolumeError) -> Int {
        try await volume.read { (view) throws(Missing) -> Int in
            try counterKey.withUnsafeBytes { key in
                Result { () throws(Missing) -> Int in
                    try view.get(1, key).map { Int($0.loadUnaligned(as: UInt64.self)) } ?? 0
                }
            }.get()
        }
    }
}

extension EngineTrial.Model {
    /// All that another owner has of what was changed here.
    fileprivate func begin(from other: EngineTrial.Model, _ count: Int) {
        changes = Array(other.changes.prefix(count))
        (acknowledged, written, stored) = (count, count, min(other.stored, count))
    }
}

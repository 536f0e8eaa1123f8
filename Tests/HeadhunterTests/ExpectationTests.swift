import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing

/// A loop is told of what its callers wait for, and when that is over, well or not.
@Suite struct ExpectationTests {
    @Test(arguments: [false, true])
    func aLoopKnowsWhatIsToCome(_ fails: Bool) throws {
        let simulation = Simulation(seed: 7)
        let isDone = simulation.perform { world -> Bool in
            do {
                try await Self.wait(world, failing: fails ? { simulation.faults.failedSync = 1 } : nil)
                return true
            } catch {
                Issue.record("\(error)")
                return false
            }
        }
        #expect(isDone == true)
    }

    private static func wait(_ world: World, failing: (() -> Void)?) async throws {
        let loop = try #require(world.loops[0] as? SimulatedLoop)
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            try world.disk.makeDirectory("log")
            try world.disk.syncDirectory("")
        }
        let store = ObjectStore(MemoryStore(world: world, loop: loop), world: world, loop: loop)
        try await Headhunter.create(world: world, store: store, prefix: "v")
        let volume = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: "v", directory: "log")
        #expect(loop.expected == 0)
        let answers = Mutex(0)
        let fails = failing != nil
        for value in 1...3 as ClosedRange<UInt8> {
            let number = try await volume.change { (change) throws(Missing) -> Void in
                [7].withUnsafeBytes { key in [value].withUnsafeBytes { change.put(1, key, $0) } }
            }.1
            failing?()
            volume.log.wait(for: number, .durable, on: loop) { failure in
                #expect((failure != nil) == fails)
                answers.withLock { $0 += 1 }
            }
            #expect(loop.expected == 1)
            // What is only written is not worth it.
            volume.log.wait(for: number, .written, on: loop) { _ in answers.withLock { $0 += 1 } }
            #expect(loop.expected == 1)
            while answers.withLock({ $0 }) < 2 * Int(value) { await loop.sleep(nanoseconds: 1_000) }
            #expect(loop.expected == 0)
            if fails { return }
            // What is there already is not waited for.
            volume.log.wait(for: number, .durable, on: loop) { _ in }
            #expect(loop.expected == 0)
        }
        try await volume.close()
    }
}

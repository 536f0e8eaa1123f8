import Headhunter
import LogFS
import Runtime
import Simulator
import Testing
import Trials

extension Bench {
    /// Runs `body` over a fresh volume's files in a world without faults.
    static func files(
        seed: UInt64 = 1, small: Bool = true, _ body: @escaping @Sendable (LogFS, World) async throws -> Void
    ) {
        let simulation = Simulation(seed: seed)
        prepare(simulation)
        let done = simulation.perform { world -> Bool in
            do {
                let volume = try await volume(world, small: small)
                try await body(try await LogFS.open(volume, world: world, subvolume: 1), world)
                try await volume.close()
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
            return true
        }
        #expect(done == true, "seed \(seed): the program did not come to an end")
    }
}

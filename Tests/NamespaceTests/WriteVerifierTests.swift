import Namespace
import Runtime
import Simulator
import Synchronization
import Testing

/// What tells clients that bytes which they have not had synced may be gone (RFC 1813 3.3.7): they send them again when it changes.
@Suite struct WriteVerifierTests {
    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func changesWhenBytesMayBeLostAndNotBefore(seed: UInt64) {
        let simulation = Simulation(seed: seed)
        let told = Mutex<[UInt64]>([])
        for life in 0..<4 {
            KeptOpenTests.live(simulation) { rig in
                let caller = rig.caller()
                let first = rig.volume.writeVerifier
                #expect(told.withLock { !$0.contains(first) }, "life \(life): a restart that nobody sees")
                told.withLock { $0.append(first) }
                let file = try await rig.make("file-\(life)")
                for round in 0..<3 as Range<UInt64> {
                    try await rig.write(file, "some bytes", at: round * 100_000, by: caller)
                    try await rig.volume.flush(file, on: rig.loop)
                }
                #expect(rig.volume.writeVerifier == first, "life \(life): nothing has failed")
                guard life % 2 == 1 else { return }
                try await rig.write(file, "lost", at: 0, by: caller)
                simulation.faults.failedSync = 1
                await #expect(throws: FileError.self) { try await rig.volume.flush(file, on: rig.loop) }
                simulation.faults.failedSync = 0
                let after = rig.volume.writeVerifier
                #expect(told.withLock { !$0.contains(after) }, "life \(life): a failure that nobody sees")
                told.withLock { $0.append(after) }
            }
            simulation.crash()
            simulation.restart()
        }
        #expect(told.withLock { $0.count } == 6)
    }
}

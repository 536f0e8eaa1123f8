import Bytes
import RPC
import Runtime
import TestSupport
import Testing

/// Clients that are slow, silent, or never read, on real sockets: what they cost has a bound, and others are served.
@Suite(.serialized) struct SlowClientTests {
    private func mark(_ length: Int, isLast: Bool = true) -> [UInt8] {
        encoded(capacity: 4) { $0.u32(RecordMark(length: length, isLast: isLast).word) }
    }

    private func whole(_ count: Int, xid: UInt32 = 1) -> [UInt8] {
        let call = message(TestProgram.Procedure.null, xid: xid).bytes
        return mark(count) + call + [UInt8](repeating: 0, count: count - call.count)
    }

    @Test func theSlowestRecordMakesRoom() async throws {
        let rig = try Rig {
            $0.recordMax = 1 << 20
            $0.loopBytesMax = 2 << 20
            $0.recordPatience = 300_000_000
        }
        let record = whole(1 << 20)
        let (half, slow, good) = (try rig.peer(), try rig.peer(), try rig.peer())
        half.peer.send(Array(record.prefix(1 << 19)))
        slow.peer.send(Array(record.prefix(100)))
        try await Task.sleep(nanoseconds: 50_000_000)
        // There is no room; whoever sends least for it loses it.
        let sender = Task.detached { good.peer.send(record, within: 20) }
        #expect(good.reply()?.status == .success)
        #expect(await sender.value == record.count)
        half.peer.send(Array(record.dropFirst(1 << 19)))
        #expect(half.reply()?.status == .success)
        slow.peer.send(Array(record.dropFirst(100)), within: 1)
        #expect(slow.reply(within: 1) == nil)
        #expect(await eventually { rig.listener.active <= 2 })
    }

    /// Four bytes claim a record: hundreds of clients that send no more stop nobody.
    @Test(arguments: [true, false]) func claimsAloneStopNobody(_ isFragment: Bool) async throws {
        let rig = try Rig {
            $0.recordMax = 1 << 20
            $0.loopBytesMax = 4 << 20
            $0.recordPatience = 100_000_000
        }
        let idle = try (0..<200).map { _ in try rig.peer() }
        for peer in idle { peer.peer.send(isFragment ? mark(4, isLast: false) : mark(1 << 20)) }
        try await Task.sleep(nanoseconds: 50_000_000)
        let good = try rig.peer()
        // Small calls need no room; large ones get theirs behind those that waited before.
        #expect(good.call(message(TestProgram.Procedure.null))?.status == .success)
        let record = whole(1 << 20)
        let sender = Task.detached { good.peer.send(record, within: 60) }
        #expect(good.reply(within: 60)?.status == .success)
        #expect(await sender.value == record.count)
        #expect(rig.listener.active < idle.count)
    }

    @Test func recordsOfFragmentsHaveATimeToCome() async throws {
        let rig = try Rig { $0.connection.messageTimeout = 400_000_000 }
        let (dripping, silent) = (try rig.peer(), try rig.peer())
        silent.peer.send(mark(4, isLast: false) + [0, 0, 0, 0])
        // Each fragment is complete in time; the record never is.
        for _ in 0..<20 where rig.listener.active > 0 {
            dripping.peer.send(mark(1, isLast: false) + [0], within: 1)
            try await Task.sleep(nanoseconds: 50_000_000)
        }
        #expect(await eventually { rig.listener.active == 0 })
        #expect(try rig.peer().call(message(TestProgram.Procedure.null))?.status == .success)
    }

    @Test func nobodyStarvesBesideSteadyLoad() async throws {
        let rig = try Rig {
            $0.recordMax = 1 << 20
            $0.loopBytesMax = 3 << 20
            $0.recordPatience = 20_000_000_000
        }
        let record = whole(1 << 20)
        let answered = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<10 {
                let peer = try rig.peer()
                group.addTask {
                    var answered = 0
                    for _ in 0..<6 where peer.peer.send(record, within: 20) == record.count {
                        if peer.reply(within: 20)?.status == .success { answered += 1 }
                    }
                    return answered
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(answered == 60)
    }

    @Test func clientsThatNeverReadLoseTheirConnectionsFirst() async throws {
        let rig = try Rig {
            $0.outputBytesMax = 8 << 20
            $0.recordPatience = 200_000_000
        }
        var batch: [UInt8] = []
        for xid in UInt32(0)..<30 { batch += message(TestProgram.Procedure.large, xid: xid, [0, 4, 0, 0]).record() }
        // More than sockets hold: each has results of 30 MiB to take.
        let stuck = try (0..<12).map { _ in try rig.peer() }
        for peer in stuck { peer.peer.send(batch) }
        let good = try rig.peer()
        for xid in UInt32(0)..<20 {
            let reply = good.call(message(TestProgram.Procedure.large, xid: xid, [0, 4, 0, 0]))
            #expect(reply?.results.count == 4 + (1 << 20), "call \(xid)")
        }
        #expect(await eventually { rig.listener.active < stuck.count + 1 })
        #expect(good.call(message(TestProgram.Procedure.null))?.status == .success)
    }
}

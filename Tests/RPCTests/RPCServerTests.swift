import Bytes
import CShim
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

private typealias Procedure = TestProgram.Procedure

@Suite(.serialized) struct RPCServerTests {
    @Test func answersNullAndEcho() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        let null = try #require(peer.call(message(Procedure.null, xid: 7)))
        #expect(null.xid == 7 && null.status == .success && null.results.isEmpty && null.verifier.isEmpty)
        for count in [0, 1, 2, 3, 4, 5, 100, 4096, 40_000, 65_400, 65_520, 65_536, 70_001, 1 << 20] {
            let payload = opaque([UInt8](repeating: UInt8(count & 255), count: count))
            let reply = try #require(peer.call(message(Procedure.echo, payload)))
            #expect(reply.status == .success && reply.results == payload, "\(count) bytes")
        }
    }

    @Test func errorsAreThoseOfTheSpecification() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        func status(_ call: RPCMessage) -> ReplyStatus? { peer.call(call)?.status }
        #expect(status(RPCMessage(1234, 3, 0)) == .programUnavailable)
        #expect(status(RPCMessage(TestProgram.number, 4, 0)) == .programMismatch(low: 2, high: 3))
        #expect(status(RPCMessage(TestProgram.number, 1, 0)) == .programMismatch(low: 2, high: 3))
        #expect(status(RPCMessage(TestProgram.number, 2, 0)) == .success)
        #expect(status(message(99)) == .procedureUnavailable)
        #expect(status(message(Procedure.echo)) == .garbageArguments)
        #expect(status(message(Procedure.echo, [0, 16, 0, 1])) == .garbageArguments)
        #expect(status(message(Procedure.overflow)) == .systemError)
        #expect(status(message(Procedure.who)) == .authError(.tooWeak))
        var call = message(0)
        call.flavor = 77
        #expect(status(call) == .authError(.badCredential))
        var bytes = message(0, xid: 5).bytes
        bytes[11] = 3
        peer.peer.send(RPCMessage.record(bytes))
        let mismatch = try #require(peer.reply())
        #expect(mismatch.xid == 5 && mismatch.status == .rpcMismatch(low: 2, high: 2))
        #expect(status(message(0)) == .success)
    }

    @Test func systemCredentialsAreReadAndBounded() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        func ask(_ groups: Int, machine: Int) -> RPCReply? {
            var call = message(Procedure.who)
            call.sign(
                uid: 500, gid: 600, groups: (0..<groups).map { UInt32(900 - $0) },
                machine: String(repeating: "m", count: machine))
            return peer.call(call)
        }
        for groups in [0, 1, 16] {
            for machine in [0, 3, 255] {
                // Twice: read, and remembered.
                for _ in 0..<2 {
                    let sorted = (0..<groups).map { UInt32(900 - $0) }.sorted()
                    let expected = encoded { writer in
                        for number in [500, 600] + sorted { writer.u32(number) }
                        [UInt8](repeating: UInt8(ascii: "m"), count: machine).withUnsafeBytes { writer.opaque($0) }
                    }
                    #expect(ask(groups, machine: machine)?.results == expected)
                }
            }
        }
        #expect(ask(17, machine: 3)?.status == .authError(.badCredential))
        #expect(ask(0, machine: 256)?.status == .authError(.badCredential))
        var long = message(Procedure.null)
        long.credential = [UInt8](repeating: 0, count: 400)
        #expect(peer.call(long)?.status == .success)
        long.credential = [UInt8](repeating: 0, count: 401)
        #expect(peer.call(long)?.status == .authError(.badCredential))
        long.credential = []
        long.verifier = (0, [UInt8](repeating: 0, count: 400))
        #expect(peer.call(long)?.status == .success)
        long.verifier = (0, [UInt8](repeating: 0, count: 401))
        #expect(peer.call(long)?.status == .authError(.badVerifier))
        var trailing = message(Procedure.who)
        trailing.sign(uid: 1, gid: 1)
        trailing.credential += [0, 0, 0, 0]
        #expect(peer.call(trailing)?.status == .authError(.badCredential))
    }

    @Test func manyCredentialsOnOneConnectionAreNotMixedUp() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        for round in 0..<3 {
            for uid in UInt32(0)..<30 {
                var call = message(Procedure.who, xid: uid)
                call.sign(uid: uid, gid: uid + 1, groups: [uid + 2])
                let results = try #require(peer.call(call)?.results)
                #expect(
                    Array(results[..<12]) == encoded { for n in [uid, uid + 1, uid + 2] { $0.u32(n) } }, "\(round)")
            }
        }
    }

    @Test func repliesComeAsTheyAreReady() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        var batch: [UInt8] = []
        let delays: [UInt8] = [120, 60, 0]
        for (index, delay) in delays.enumerated() {
            batch += message(Procedure.later, xid: UInt32(index), opaque([delay])).record()
        }
        batch += message(Procedure.null, xid: 3).record()
        peer.peer.send(batch)
        let order = (0..<4).compactMap { _ in peer.reply()?.xid }
        #expect(order == [3, 2, 1, 0])
    }

    @Test func thousandsInFlightAreAllAnsweredOnce() throws {
        let rig = try Rig(loops: 2)
        let peer = try rig.peer()
        var random = SeededRandom(11)
        var batch: [UInt8] = []
        let count = 3000
        for index in 0..<count {
            let procedure = [Procedure.echo, Procedure.later][Int.random(in: 0...1, using: &random)]
            let payload =
                [UInt8.random(in: 0...5, using: &random)] + random.bytes(Int.random(in: 0...200, using: &random))
            batch += message(procedure, xid: UInt32(index), opaque(payload)).record()
        }
        #expect(peer.peer.send(batch) == batch.count)
        var seen = Set<UInt32>()
        while seen.count < count, let reply = peer.reply() {
            #expect(reply.status == .success)
            #expect(seen.insert(reply.xid).inserted)
        }
        #expect(seen.count == count)
    }

    @Test func heldCallsAreBoundedAndHoldTheirClientBack() async throws {
        let rig = try Rig { $0.heldCallsMax = 8 }
        rig.program.isHeld.store(true, ordering: .relaxed)
        let peer = try rig.peer()
        var batch: [UInt8] = []
        for xid in UInt32(0)..<100 { batch += message(Procedure.hold, xid: xid).record() }
        peer.peer.send(batch)
        #expect(await eventually { rig.program.holding.load(ordering: .relaxed) == 8 })
        try await Task.sleep(nanoseconds: 30_000_000)
        #expect(rig.program.holding.load(ordering: .relaxed) == 8)
        // Others are served meanwhile.
        #expect(try rig.peer().call(message(Procedure.null))?.status == .success)
        rig.program.isHeld.store(false, ordering: .relaxed)
        let xids = (0..<100).compactMap { _ in peer.reply()?.xid }
        #expect(Set(xids).count == 100)
    }

    @Test func bytesOfHeldCallsAreBounded() async throws {
        let rig = try Rig {
            $0.recordMax = 300 << 10
            $0.heldBytesMax = 1 << 20
        }
        rig.program.isHeld.store(true, ordering: .relaxed)
        let peer = try rig.peer()
        let piece = [UInt8](repeating: 1, count: 256 << 10)
        let sender = Task.detached {
            for xid in UInt32(0)..<10 { peer.send(message(Procedure.hold, xid: xid, piece)) }
        }
        #expect(await eventually { rig.program.holding.load(ordering: .relaxed) == 4 })
        try await Task.sleep(nanoseconds: 30_000_000)
        #expect(rig.program.holding.load(ordering: .relaxed) == 4)
        rig.program.isHeld.store(false, ordering: .relaxed)
        await sender.value
        #expect(Set((0..<10).compactMap { _ in peer.reply()?.xid }).count == 10)
    }

    @Test func aLoopsBytesAreBoundedOverItsConnections() async throws {
        let rig = try Rig {
            $0.recordMax = 1 << 20
            $0.loopBytesMax = 2 << 20
        }
        // Each claims a record of 1 MiB and sends half of it: two fit, the third waits.
        let mark = encoded { $0.u32(RecordMark(length: 1 << 20, isLast: true).word) }
        let call = message(Procedure.null).bytes
        let half = mark + call + [UInt8](repeating: 0, count: 1 << 19)
        let peers = try (0..<3).map { _ in try rig.peer() }
        for peer in peers.prefix(2) { #expect(peer.peer.send(half) == half.count) }
        try await Task.sleep(nanoseconds: 50_000_000)
        let third = mark + call + [UInt8](repeating: 0, count: (1 << 20) - call.count)
        let sender = Task.detached { peers[2].peer.send(third, within: 10) }
        #expect(peers[2].reply(within: 0.2) == nil)
        let rest = [UInt8](repeating: 0, count: (1 << 20) - call.count - (1 << 19))
        for peer in peers.prefix(2) {
            peer.peer.send(rest)
            #expect(peer.reply()?.status == .success)
        }
        #expect(await sender.value == third.count)
        #expect(peers[2].reply()?.status == .success)
    }

    @Test func recordsMayComeInAnyPieces() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        var random = SeededRandom(5)
        for count in [0, 1, 50, 3000, 40_000, 200_000] {
            let payload = opaque(random.bytes(count))
            for fragment in [1, 3, 4, 100, 5000, 60_000] where payload.count / fragment < 900 {
                peer.peer.send(message(Procedure.echo, payload).record(fragment: fragment))
                #expect(peer.reply()?.results == payload, "\(count) bytes in fragments of \(fragment)")
            }
        }
        // Single bytes on the wire, and records cut anywhere.
        let stream = (0..<20).flatMap { xid in
            message(Procedure.echo, xid: UInt32(xid), opaque(random.bytes(xid * 7))).record(fragment: 30 + xid)
        }
        var at = 0
        while at < stream.count {
            let count = min(Int.random(in: 1...40, using: &random), stream.count - at)
            peer.peer.send(Array(stream[at..<(at + count)]))
            at += count
        }
        #expect((0..<20).compactMap { _ in peer.reply()?.xid } == Array(0..<20))
        // Empty fragments are allowed.
        let bytes = message(Procedure.null, xid: 77).bytes
        let empty = encoded { $0.u32(RecordMark(length: 0, isLast: false).word) }
        peer.peer.send(empty + empty + RecordMark.fragment(bytes, isLast: false) + encoded { $0.u32(0x8000_0000) })
        #expect(peer.reply()?.xid == 77)
    }

    @Test func recordsAtTheLimitAndBeyond() async throws {
        let rig = try Rig { $0.recordMax = 100_000 }
        let peer = try rig.peer()
        let header = message(Procedure.null).bytes.count
        for fragment in [Int.max, 40_000] {
            let fits = message(Procedure.null, [UInt8](repeating: 0, count: 100_000 - header))
            peer.peer.send(fits.record(fragment: fragment))
            #expect(peer.reply()?.status == .success)
            let broken = try rig.peer()
            var beyond = fits
            beyond.arguments.append(0)
            broken.peer.send(beyond.record(fragment: fragment))
            #expect(broken.reply() == nil)
        }
        let many = try Rig { $0.fragmentsMax = 10 }
        let bytes = message(Procedure.null).bytes
        let inTen = try many.peer()
        inTen.peer.send(RPCMessage.record(bytes, fragment: bytes.count / 10))
        #expect(inTen.reply()?.status == .success)
        let inEleven = try many.peer()
        inEleven.peer.send(RPCMessage.record(bytes + [0], fragment: bytes.count / 10))
        #expect(inEleven.reply() == nil)
    }

    @Test func aClientThatNeverReadsCostsABoundAndHarmsNobody() async throws {
        let rig = try Rig()
        let stuck = try rig.peer()
        let count = 200
        var batch: [UInt8] = []
        for xid in UInt32(0)..<UInt32(count) { batch += message(Procedure.large, xid: xid, [0, 4, 0, 0]).record() }
        stuck.peer.send(batch)
        try await Task.sleep(nanoseconds: 100_000_000)
        // 1 MiB each: what the sockets hold, and `outputHigh`, and one more.
        #expect(rig.program.calls.load(ordering: .relaxed) < 40)
        #expect(try rig.peer().call(message(Procedure.null))?.status == .success)
        for xid in UInt32(0)..<UInt32(count) {
            let reply = try #require(stuck.reply())
            #expect(reply.xid == xid && reply.results.count == 4 + (1 << 20))
        }
    }

    @Test func callsThatWereAskedForAreAnsweredBeforeTheEnd() async throws {
        let rig = try Rig()
        let peer = try rig.peer()
        peer.send(message(Procedure.later, xid: 9, opaque([50])))
        peer.peer.finish()
        #expect(peer.reply()?.xid == 9)
        #expect(peer.reply(within: 5) == nil)
        let draining = try rig.peer()
        draining.send(message(Procedure.later, xid: 10, opaque([50])))
        #expect(await eventually { rig.server.held == 2 })
        let listener = rig.listener
        let drained = Task { await listener.drain(within: 5_000_000_000) }
        #expect(draining.reply()?.xid == 10)
        await drained.value
        #expect(rig.listener.active == 0)
    }

    @Test func aClientThatGoesTakesItsHeldCallsAlong() async throws {
        let rig = try Rig()
        rig.program.isHeld.store(true, ordering: .relaxed)
        let peer = try rig.peer()
        for xid in UInt32(0)..<5 { peer.send(message(Procedure.hold, xid: xid)) }
        #expect(await eventually { rig.program.holding.load(ordering: .relaxed) == 5 })
        peer.peer.close()
        try await Task.sleep(nanoseconds: 10_000_000)
        rig.program.isHeld.store(false, ordering: .relaxed)
        #expect(await eventually { rig.listener.active == 0 })
        #expect(try rig.peer().call(message(Procedure.null))?.status == .success)
    }

    @Test func silentCallsHaveNoAnswer() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        peer.send(message(Procedure.silent, xid: 1))
        // A reply is no call, and nothing can be answered to it.
        peer.peer.send(RPCMessage.record(encoded { ReplyHeader(xid: 4, status: .success).write(into: &$0) }))
        peer.peer.send(RPCMessage.record([]))
        #expect(peer.call(message(Procedure.null, xid: 2))?.xid == 2)
        #expect(rig.server.dropped == 3)
    }

    @Test(arguments: 1...4) func garbageHarmsNobody(_ seed: UInt64) async throws {
        let rig = try Rig()
        var random = SeededRandom(seed)
        for _ in 0..<60 {
            let peer = try rig.peer()
            var bytes = message(UInt32.random(in: 0...9, using: &random), opaque(random.bytes(20))).record()
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
            }
            peer.peer.send(bytes + random.bytes(Int.random(in: 0...60, using: &random)))
            peer.peer.finish()
            _ = peer.reply(within: 0.001)
        }
        #expect(try rig.peer().call(message(Procedure.null))?.status == .success)
        #expect(await eventually { rig.listener.active == 0 })
    }
}

extension RecordMark {
    static func fragment(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        encoded { $0.u32(RecordMark(length: bytes.count, isLast: isLast).word) } + bytes
    }
}

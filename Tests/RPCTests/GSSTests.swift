import Bytes
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

/// Wants as many tokens as its first one says.
private final class ToyHandshake: GSSHandshake {
    private let rest = Mutex<Int?>(nil)
    private let lifetime: UInt64
    private let signatures: Int

    init(lifetime: UInt64, signatures: Int = .max) { (self.lifetime, self.signatures) = (lifetime, signatures) }

    func step(_ token: UnsafeRawBufferPointer) -> GSSStep {
        guard let first = token.first, first > 0 else { return .failed(major: 0x0009_0000, minor: 5, token: [9]) }
        let rest = self.rest.withLock { rest in
            rest = (rest ?? Int(first)) - 1
            return rest ?? 0
        }
        guard rest == 0 else { return .continues(token: [UInt8(rest)]) }
        return .complete(
            ToyContext(signatures: signatures), principal: "toy@REALM", lifetimeNanoseconds: lifetime, token: [])
    }
}

@Suite(.serialized) struct GSSTests {
    private func rig(
        lifetime: UInt64 = 3_600_000_000_000, signatures: Int = .max
    ) throws -> (Rig, GSSFlavor, World) {
        let world = try World.real(disk: try RealDisk(path: "/tmp"), loops: 1, blockingThreads: 1)
        let flavor = GSSFlavor(
            flavors: [1001, 1002, 1003], pool: world.blocking, clock: world.clock, random: world.random
        ) {
            ToyHandshake(lifetime: lifetime, signatures: signatures)
        }
        return (try Rig(flavors: [flavor]), flavor, world)
    }

    private func call(
        _ procedure: UInt32, _ kind: GSS.Procedure, _ handle: [UInt8], _ sequence: UInt32 = 0,
        _ service: GSS.Service = .none, _ arguments: [UInt8] = []
    ) -> RPCMessage {
        var call = message(procedure, xid: 100 + sequence, arguments)
        call.flavor = AuthFlavor.gss
        call.credential = encoded { writer in
            handle.withUnsafeBytes {
                GSSCredential(procedure: kind, sequence: sequence, service: service, handle: $0).write(into: &writer)
            }
        }
        call.verifier = (AuthFlavor.gss, ToyContext.sum(Array(call.bytes.prefix(32 + call.credential.count))))
        return call
    }

    private struct Begun {
        var handle: [UInt8]
        var major: UInt32
        var token: [UInt8]
    }

    private func begin(_ peer: RPCPeer, _ kind: GSS.Procedure, _ handle: [UInt8], _ token: UInt8) throws -> Begun {
        let reply = try #require(peer.call(call(0, kind, handle, 0, .none, opaque([token]))))
        try #require(reply.status == .success)
        return try reply.results.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            let result = try GSSInitResult(reading: &reader)
            return Begun(handle: Array(result.handle), major: result.major, token: Array(result.token))
        }
    }

    @Test func contextsAreMadeInSeveralSteps() throws {
        let (rig, flavor, world) = try rig()
        defer { world.stop() }
        let peer = try rig.peer()
        let first = try begin(peer, .begin, [], 3)
        #expect(first.major == 1 && first.token == [2] && first.handle.count == 8)
        let second = try begin(peer, .goOn, first.handle, 1)
        #expect(second.major == 1 && second.handle == first.handle)
        // Half a context serves nobody.
        #expect(peer.call(call(1, .data, first.handle, 1))?.status == .authError(.gssCredentialProblem))
        let third = try begin(peer, .goOn, first.handle, 1)
        #expect(third.major == 0 && flavor.contexts == 1)
        let payload = opaque([1, 2, 3])
        #expect(peer.call(call(TestProgram.Procedure.echo, .data, third.handle, 1, .none, payload))?.results == payload)
        let who = try #require(peer.call(call(TestProgram.Procedure.who, .data, third.handle, 2)))
        #expect(who.results == Array("toy@REALM".utf8))
        // It is made: there is nothing to go on with.
        #expect(
            peer.call(call(0, .goOn, third.handle, 0, .none, opaque([1])))?.status == .authError(.gssCredentialProblem))
        let failed = try begin(peer, .begin, [], 0)
        #expect(failed.major >> 16 == 9 && failed.handle.isEmpty && failed.token == [9])
        #expect(flavor.contexts == 1)
    }

    @Test func contextsEnd() async throws {
        let (rig, flavor, world) = try rig(lifetime: 200_000_000)
        defer { world.stop() }
        let peer = try rig.peer()
        let made = try begin(peer, .begin, [], 1)
        #expect(peer.call(call(TestProgram.Procedure.null, .data, made.handle, 1))?.status == .success)
        var sequence: UInt32 = 1
        let isOver = await eventually {
            sequence += 1
            return peer.call(call(TestProgram.Procedure.null, .data, made.handle, sequence))?.status
                == .authError(.gssCredentialProblem)
        }
        #expect(isOver && flavor.contexts == 0)
        // The client makes a new one, and ends that by itself.
        let next = try begin(peer, .begin, [], 1)
        #expect(peer.call(call(0, .destroy, next.handle, 1))?.status == .success)
        #expect(flavor.contexts == 0)
        #expect(peer.call(call(0, .destroy, next.handle, 2))?.status == .authError(.gssCredentialProblem))
    }

    /// An answer without a signature is nobody's, so there is none that looks like one.
    @Test func aContextThatCanSignNoMoreSaysSo() throws {
        let (rig, _, world) = try rig(signatures: 1)
        defer { world.stop() }
        let peer = try rig.peer()
        let made = try begin(peer, .begin, [], 1)
        for (index, service) in GSS.Service.allCases.enumerated() {
            let sequence = UInt32(index + 1)
            let plain = encoded { $0.u32(sequence) }
            let arguments: [UInt8] =
                switch service {
                case .none: []
                case .integrity: opaque(plain) + opaque(ToyContext.sum(plain))
                case .privacy: opaque(plain.map { $0 ^ 0x5a })
                }
            for procedure in [TestProgram.Procedure.null, 99] {
                let number = sequence + (procedure == 99 ? 10 : 0)
                let whole = procedure == 99 && service != .none ? [] : arguments
                let asked = call(procedure, .data, made.handle, number, service, whole)
                let reply = try #require(peer.call(asked))
                #expect(reply.status == .authError(.gssContextProblem) && reply.verifier.isEmpty, "\(service)")
            }
        }
    }

    @Test func thereAreNotTooMany() {
        var table = GSSTable()
        func insert(_ id: UInt64, end: UInt64 = .max) {
            table.insert(GSSSession(id, ToyContext(), principal: "p", end: end, flavors: [1, 2, 3]), now: 100)
        }
        func has(_ id: UInt64) -> Bool { table.session(id) != nil }
        func takes(_ id: UInt64) -> Bool { table.takeHandshake(id) != nil }
        for id in 0..<UInt64(GSSTable.sessionsMax) { insert(id, end: id < 10 ? 50 : .max) }
        #expect(table.count == GSSTable.sessionsMax)
        // Those that have ended go first.
        insert(1 << 40)
        #expect(table.count == GSSTable.sessionsMax - 9)
        for id in 0..<UInt64(9) { insert(1 << 41 + id) }
        #expect(table.count == GSSTable.sessionsMax)
        // Then those that were not used for longest.
        #expect(has(10))
        insert(1 << 42)
        #expect(table.count <= GSSTable.sessionsMax * 3 / 4 + 1)
        #expect(has(10) && !has(11) && has(1 << 42))
        for id in 0...UInt64(GSSTable.handshakesMax) { table.put(ToyHandshake(lifetime: 1), id) }
        #expect(table.handshakeCount == GSSTable.handshakesMax)
        let found = (takes(0), takes(1), takes(1))
        #expect(!found.0 && found.1 && !found.2)
    }
}

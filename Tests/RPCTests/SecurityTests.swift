import Bytes
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

/// A flavor as RPCSEC_GSS is one: contexts that are made by calls of their own, sequence numbers, arguments and results
/// that travel in another form, verifiers on both sides. Its secret is a byte.
private final class ToyFlavor: SecurityFlavor {
    static let number: UInt32 = 6
    let number: UInt32 = ToyFlavor.number
    private let seen = Mutex<Set<UInt32>>([])

    /// Credential: procedure (0: data, 1: make a context), sequence, service (1: plain, 2: wrapped).
    func admit(_ call: SecuredCall) -> Admission {
        var reader = Reader(call.header.credential.body)
        do throws(BytesError) {
            let procedure = try reader.u32()
            let sequence = try reader.u32()
            let service = try reader.u32()
            if procedure == 1 {
                return .handshake { held in
                    let loop = held.loop
                    loop.task {
                        await loop.sleep(nanoseconds: 10_000_000)
                        let token = Array(held.arguments)
                        [UInt8](repeating: 9, count: 4).withUnsafeBytes { body in
                            held.reply(verifier: Authenticator(flavor: ToyFlavor.number, body: body)) { writer in
                                token.reversed().withUnsafeBytes { writer.opaque($0) }
                            }
                        }
                    }
                }
            }
            guard seen.withLock({ $0.insert(sequence).inserted }) else { return .dropped }
            let sum = call.signedHeader.reduce(UInt8(0)) { $0 &+ $1 }
            guard Array(call.header.verifier.body) == [sum, 0, 0, 0] else { return .rejected(.gssCredentialProblem) }
            return .accepted(
                Identity(kind: .principal("alice"), flavor: Self.number), ToyProtection(sequence, wraps: service == 2))
        } catch { return .rejected(.badCredential) }
    }
}

private final class ToyProtection: CallProtection {
    private let sequence: UInt32
    let wrapsResults: Bool
    let wrappedOverheadMax = 4

    init(_ sequence: UInt32, wraps: Bool) {
        self.sequence = sequence
        wrapsResults = wraps
    }

    func unwrap(_ arguments: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        guard wrapsResults else {
            body(arguments)
            return true
        }
        guard arguments.count >= 4, arguments.loadUnaligned(as: UInt32.self).bigEndian == sequence else { return false }
        Array(arguments.dropFirst(4)).map { $0 ^ 0x5a }.withUnsafeBytes { body($0) }
        return true
    }

    /// Numbers from 900 on can not be signed.
    func withVerifier(_ body: (Authenticator) -> Void) -> Bool {
        guard sequence < 900 else { return false }
        encoded { $0.u32(sequence) }.withUnsafeBytes { body(Authenticator(flavor: ToyFlavor.number, body: $0)) }
        return true
    }

    func wrap(_ results: UnsafeRawBufferPointer, into writer: inout Writer) {
        writer.u32(sequence)
        for byte in results { writer.u8(byte ^ 0x5a) }
    }
}

@Suite(.serialized) struct SecurityTests {
    private func call(
        _ procedure: UInt32, _ sequence: UInt32, service: UInt32, kind: UInt32 = 0, sums: Bool = true,
        program: UInt32 = TestProgram.number, version: UInt32 = 3, _ arguments: [UInt8] = []
    ) -> RPCMessage {
        var call = RPCMessage(program, version, procedure, xid: sequence, arguments)
        call.flavor = ToyFlavor.number
        call.credential = encoded { for number in [kind, sequence, service] { $0.u32(number) } }
        if service == 2 { call.arguments = encoded { $0.u32(sequence) } + arguments.map { $0 ^ 0x5a } }
        let signed = call.bytes.prefix(32 + 12)
        call.verifier = (ToyFlavor.number, [signed.reduce(UInt8(0)) { $0 &+ $1 } &+ (sums ? 0 : 1), 0, 0, 0])
        return call
    }

    @Test func argumentsAndResultsAreProtectedWithoutTheProgramsKnowledge() throws {
        let rig = try Rig(flavors: [ToyFlavor()])
        let peer = try rig.peer()
        let made = try #require(peer.call(call(0, 1000, service: 1, kind: 1, [1, 2, 3, 4])))
        #expect(made.status == .success && made.verifier == [9, 9, 9, 9])
        #expect(made.results == [0, 0, 0, 4, 4, 3, 2, 1])
        var sequence: UInt32 = 0
        for service: UInt32 in [1, 2] {
            for count in [0, 5, 4096, 60_000, 70_000, 1 << 20] {
                for procedure in [TestProgram.Procedure.echo, TestProgram.Procedure.later] {
                    sequence += 1
                    let payload = opaque([UInt8](repeating: 0, count: count))
                    let reply = try #require(peer.call(call(procedure, sequence, service: service, payload)))
                    #expect(reply.status == .success)
                    let expected =
                        service == 1 ? payload : encoded { $0.u32(sequence) } + payload.map { $0 ^ 0x5a }
                    #expect(reply.results == expected, "service \(service), \(count) bytes")
                }
            }
        }
        sequence += 1
        let who = try #require(peer.call(call(TestProgram.Procedure.who, sequence, service: 1)))
        #expect(who.results == Array("alice".utf8))
    }

    @Test func replaysAreDroppedAndForgeriesRefused() throws {
        let rig = try Rig(flavors: [ToyFlavor()])
        let peer = try rig.peer()
        #expect(peer.call(call(0, 1, service: 1))?.status == .success)
        peer.send(call(0, 1, service: 1))
        #expect(peer.call(call(0, 2, service: 1))?.xid == 2)
        #expect(peer.call(call(0, 3, service: 1, sums: false))?.status == .authError(.gssCredentialProblem))
        var broken = call(0, 4, service: 2)
        broken.arguments[3] ^= 1
        // The caller is who he says, so this is no matter of his context (RFC 2203 5.3.3.4.2).
        let refused = try #require(peer.call(broken))
        #expect(refused.status == .garbageArguments && refused.verifier == [0, 0, 0, 4])
        #expect(rig.program.calls.load(ordering: .relaxed) == 2)
    }

    /// Errors too: a client drops an answer that is not signed as somebody else's, and waits for the true one.
    @Test func everyAnswerToACallThatWasAcceptedIsSigned() throws {
        let rig = try Rig(flavors: [ToyFlavor()])
        let peer = try rig.peer()
        for service: UInt32 in [1, 2] {
            let first = service * 10
            let unknown = try #require(peer.call(call(99, first, service: service)))
            #expect(unknown.status == .procedureUnavailable && unknown.verifier == [0, 0, 0, UInt8(first)])
            for (program, version) in [(TestProgram.number, 99), (77, 1)] as [(UInt32, UInt32)] {
                let sequence = first + (program == 77 ? 2 : 1)
                let reply = try #require(
                    peer.call(call(0, sequence, service: service, program: program, version: version)))
                let isRight = program == 77 ? reply.status == .programUnavailable : reply.status.isMismatch
                #expect(isRight && reply.verifier == [0, 0, 0, UInt8(sequence)])
            }
        }
        // Who can sign nothing any more says so, in words that need no signature: results are not sent without one.
        for service: UInt32 in [1, 2] {
            for procedure in [TestProgram.Procedure.echo, TestProgram.Procedure.later, 99] {
                let sequence = 900 + service * 10 + min(procedure, 9)
                let reply = try #require(peer.call(call(procedure, sequence, service: service, opaque([1, 2]))))
                #expect(reply.status == .authError(.gssContextProblem) && reply.results.isEmpty)
            }
        }
    }
}

extension ReplyStatus {
    fileprivate var isMismatch: Bool { if case .programMismatch = self { true } else { false } }
}

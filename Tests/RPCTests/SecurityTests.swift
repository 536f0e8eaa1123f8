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

    func unwrap(
        _ arguments: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(AuthError) {
        guard wrapsResults else { return body(arguments) }
        guard arguments.count >= 4, arguments.loadUnaligned(as: UInt32.self).bigEndian == sequence else {
            throw .gssContextProblem
        }
        Array(arguments.dropFirst(4)).map { $0 ^ 0x5a }.withUnsafeBytes { body($0) }
    }

    func writeVerifier(into writer: inout Writer) {
        Authenticator(flavor: ToyFlavor.number, body: UnsafeRawBufferPointer(start: nil, count: 0)).write(into: &writer)
    }

    func wrap(_ results: UnsafeRawBufferPointer, into writer: inout Writer) {
        writer.u32(sequence)
        for byte in results { writer.u8(byte ^ 0x5a) }
    }
}

@Suite(.serialized) struct SecurityTests {
    private func call(
        _ procedure: UInt32, _ sequence: UInt32, service: UInt32, kind: UInt32 = 0, sums: Bool = true,
        _ arguments: [UInt8] = []
    ) -> RPCMessage {
        var call = message(procedure, xid: sequence, arguments)
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
        #expect(peer.call(broken)?.status == .authError(.gssContextProblem))
        // Errors of the program are answered like all others.
        #expect(peer.call(call(99, 5, service: 2))?.status == .procedureUnavailable)
        #expect(rig.program.calls.load(ordering: .relaxed) == 3)
    }
}

import Bytes
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

/// What the fuzzer of fuzz/GSSCalls.swift found worth keeping, to a server: scripts of what a client and strangers send.
@Suite(.serialized) struct GSSCorpusTests {
    @Test func scriptsOfTheFuzzerAreAnsweredAsTheyShould() throws {
        let scripts = fuzzCorpus("GSSCalls")
        #expect(scripts.count > 5)
        var totals = Totals()
        for script in scripts {
            let party = try Party()
            defer { party.world.stop() }
            try party.run(script)
            totals.add(party.totals)
        }
        // Each kind of end is among them.
        #expect(totals.served > 0 && totals.garbage > 0 && totals.dropped > 0 && totals.refused > 0)
        #expect(totals.begun > 0 && totals.refusedHandshakes > 0 && totals.destroyed > 0)
    }

    /// Numbers in turn, with whether a call of each is let in: what came before and what is too late gets no answer at all.
    @Test func numbersAtTheWindowsEdges() throws {
        let size = UInt32(SequenceWindow.size)
        let numbers: [(number: UInt32, isGood: Bool)] = [
            (1, true), (1, false), (size, true), (1, false), (2, true), (size + 1, true), (1, false), (2, false),
            (3, true), (size + 500, true), (size + 2, true), (size + 3, true), (size + 2, false), (500, false),
            (501, true),
            (3 * size, true), (3 * size, false), (2 * size, false), (2 * size - 1, false),
            (2 * size + 1, true), (2 * size + 1, false), (3 * size - 1, true), (0, false),
            (GSS.sequenceMax - 1, true), (GSS.sequenceMax - 1, false), (GSS.sequenceMax - size - 1, false),
            (GSS.sequenceMax - size, true),
        ]
        let party = try Party()
        defer { party.world.stop() }
        for (index, (number, isGood)) in numbers.enumerated() {
            let services = GSS.Service.allCases
            let before = party.totals
            try party.call(number, services[index % services.count])
            #expect(party.totals.served - before.served == (isGood ? 1 : 0), "\(number)")
            #expect(party.totals.dropped - before.dropped == (isGood ? 0 : 1), "\(number)")
        }
        let before = party.totals
        try party.call(GSS.sequenceMax, .none)
        #expect(party.totals.refused == before.refused + 1)
    }
}

private struct Totals {
    var (served, garbage, dropped, refused) = (0, 0, 0, 0)
    var (begun, refusedHandshakes, destroyed) = (0, 0, 0)

    mutating func add(_ other: Totals) {
        served += other.served
        garbage += other.garbage
        dropped += other.dropped
        refused += other.refused
        begun += other.begun
        refusedHandshakes += other.refusedHandshakes
        destroyed += other.destroyed
    }
}

private final class ManualClock: WorldClock {
    let time = Atomic<UInt64>(0)
    func monotonic() -> UInt64 { time.load(ordering: .relaxed) }
    func wall() -> Int64 { 0 }
}

private final class ScriptedHandshake: GSSHandshake {
    private let context: ToyContext
    init(_ context: ToyContext) { self.context = context }

    func step(_ token: UnsafeRawBufferPointer) -> GSSStep {
        switch token.first {
        case nil: .failed(major: 1, minor: 2, token: [])
        case 0: .failed(major: 13 << 16, minor: 2, token: Array(token))
        case 1: .continues(token: Array(token))
        default: .complete(context, principal: "p", lifetimeNanoseconds: token.first == 2 ? .max : 100, token: [1])
        }
    }
}

/// One server, with a client that signs as it should, and strangers. It knows what each call has to meet.
private final class Party {
    let world: World
    var totals = Totals()
    private let clock = ManualClock()
    private let context = ToyContext()
    private let rig: Rig
    private let peer: RPCPeer
    private var handle: [UInt8] = []
    private var isAlive = true
    private var seen: Set<UInt32> = []
    private var highest: UInt32 = 0
    private var xid: UInt32 = 1

    init() throws {
        world = try World.real(disk: try RealDisk(path: "/tmp"), loops: 1, blockingThreads: 1)
        let context = context
        let flavor = GSSFlavor(flavors: [1001, 1002, 1003], pool: world.blocking, clock: clock, random: world.random) {
            ScriptedHandshake(context)
        }
        rig = try Rig(flavors: [flavor])
        peer = try rig.peer()
        handle = try #require(try begin([2], handle: [], .begin))
        #expect(handle.count == 8 && flavor.contexts == 1)
    }

    func run(_ script: [UInt8]) throws {
        var script = script[...]
        func next() -> Int { Int(script.popFirst() ?? 0) }
        func some() -> [UInt8] {
            let part = script.prefix(next())
            script = script.dropFirst(part.count)
            return Array(part)
        }
        var going: [UInt8] = []
        for _ in 0..<32 where !script.isEmpty {
            let kind = next()
            let service = GSS.Service(rawValue: UInt32(kind >> 3) % 3 + 1) ?? .none
            switch kind & 7 {
            case 0: try stranger(some())
            case 1: going = try begin(some(), handle: [], .begin) ?? going
            case 2: going = try begin(some(), handle: kind & 8 == 0 ? going : some(), .goOn) ?? going
            case 3, 4:
                let number = UInt32(next()) << (kind & 0x80 == 0 ? 0 : 24) | UInt32(next()) << 8 | UInt32(next())
                let plain = opaque(some())
                try call(number, service, wrapped(number, service, plain), plain)
            case 5:
                let number = UInt32(next() << 8 | next())
                try call(number, service, some(), nil)
            case 6: clock.time.wrappingAdd(UInt64(next()), ordering: .relaxed)
            default:
                let number = UInt32(next() << 8 | next())
                try destroy(
                    number, service, procedure: UInt32(kind >> 7), isSigned: kind & 0x40 == 0,
                    isBroken: kind & 0x20 != 0)
            }
        }
        // Whatever came before, the next client is served.
        handle = try #require(try begin([2], handle: [], .begin))
        (isAlive, seen, highest) = (true, [], 0)
        let served = totals.served
        for service in GSS.Service.allCases { try call(service.rawValue, service) }
        #expect(totals.served == served + 3)
    }

    private func message(_ procedure: UInt32, _ credential: GSSCredential, isSigned: Bool, _ arguments: [UInt8])
        -> RPCMessage
    {
        xid += 1
        var message = RPCMessage(TestProgram.number, 3, procedure, xid: xid, arguments)
        message.flavor = AuthFlavor.gss
        message.credential = encoded { credential.write(into: &$0) }
        if isSigned {
            let header = message.bytes.prefix(8 * 4 + (message.credential.count + 3) & ~3)
            message.verifier = (AuthFlavor.gss, ToyContext.sum(Array(header)))
        }
        return message
    }

    /// The answer that comes before that of a call that is always answered; nil: it was dropped.
    private func answer(_ message: RPCMessage, on peer: RPCPeer) throws -> RPCReply? {
        peer.send(message)
        xid += 1
        peer.send(RPCMessage(TestProgram.number, 3, TestProgram.Procedure.null, xid: xid, []))
        let first = try #require(peer.reply())
        if first.xid == xid { return nil }
        #expect(first.xid == message.xid)
        #expect(peer.reply()?.xid == xid)
        return first
    }

    /// Bytes that are no call of a client's.
    private func stranger(_ bytes: [UInt8]) throws {
        let before = rig.program.calls.load(ordering: .relaxed)
        let peer = try rig.peer()
        peer.peer.send(RPCMessage.record(bytes))
        xid += 1
        peer.send(RPCMessage(TestProgram.number, 3, TestProgram.Procedure.null, xid: xid, []))
        while let reply = peer.reply(), reply.xid != xid {}
        #expect(rig.program.calls.load(ordering: .relaxed) == before + 1, "a stranger is let in, or keeps others out")
    }

    /// The handle of a context that is complete or goes on.
    private func begin(_ token: [UInt8], handle: [UInt8], _ procedure: GSS.Procedure) throws -> [UInt8]? {
        let call = handle.withUnsafeBytes {
            message(
                0, GSSCredential(procedure: procedure, sequence: 0, service: .none, handle: $0), isSigned: false,
                opaque(token))
        }
        let reply = try #require(peer.call(call), "no answer to a token")
        guard reply.status == .success else {
            #expect(reply.status == .authError(.gssCredentialProblem))
            totals.refusedHandshakes += 1
            return nil
        }
        totals.begun += 1
        return try reply.results.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            let result = try GSSInitResult(reading: &reader)
            return result.handle.isEmpty ? nil : Array(result.handle)
        }
    }

    /// What a call of this number, rightly signed, has to meet: nil: it is let in.
    private func meeting(_ number: UInt32) -> AuthError? {
        guard isAlive else { return .gssCredentialProblem }
        return number < GSS.sequenceMax ? nil : .gssContextProblem
    }

    /// Whether a number is taken, by a set of all that were.
    private func takes(_ number: UInt32) -> Bool {
        let isGood =
            seen.isEmpty || number > highest
            || highest - number < UInt32(SequenceWindow.size) && !seen.contains(number)
        guard isGood else { return false }
        seen.insert(number)
        highest = max(highest, number)
        return true
    }

    func call(_ number: UInt32, _ service: GSS.Service) throws {
        let plain = opaque([7])
        try call(number, service, wrapped(number, service, plain), plain)
    }

    private func call(_ number: UInt32, _ service: GSS.Service, _ arguments: [UInt8], _ plain: [UInt8]?) throws {
        let call = handle.withUnsafeBytes {
            message(
                TestProgram.Procedure.echo,
                GSSCredential(procedure: .data, sequence: number, service: service, handle: $0), isSigned: true,
                arguments)
        }
        let reply = try answer(call, on: peer)
        if let error = meeting(number) {
            #expect(reply?.status == .authError(error), "\(number)")
            totals.refused += 1
            return
        }
        guard takes(number) else {
            #expect(reply == nil, "number \(number) is taken twice, or late")
            totals.dropped += 1
            return
        }
        let status = try #require(reply, "number \(number) is lost").status
        guard plain == nil || status != .success else { return try check(try #require(reply), number, service, plain) }
        #expect(plain == nil && (status == .garbageArguments || status == .success), "\(status)")
        totals.garbage += 1
    }

    private func check(_ reply: RPCReply, _ number: UInt32, _ service: GSS.Service, _ plain: [UInt8]?) throws {
        totals.served += 1
        #expect(reply.verifier == ToyContext.sum(encoded { $0.u32(number) }))
        #expect(reply.results == wrapped(number, service, plain ?? []))
    }

    private func destroy(
        _ number: UInt32, _ service: GSS.Service, procedure: UInt32, isSigned: Bool, isBroken: Bool
    ) throws {
        if isBroken { context.mayMake(0) }
        defer { context.mayMake(.max) }
        let call = handle.withUnsafeBytes {
            message(
                procedure, GSSCredential(procedure: .destroy, sequence: number, service: service, handle: $0),
                isSigned: isSigned, [])
        }
        let reply = try answer(call, on: peer)
        guard isAlive, isSigned else {
            #expect(reply?.status == .authError(.gssCredentialProblem))
            return
        }
        guard takes(number) else { return #expect(reply == nil) }
        guard procedure == 0 else { return #expect(reply?.status == .authError(.badCredential)) }
        #expect(reply?.status == (isBroken ? .authError(.gssContextProblem) : .success))
        isAlive = false
        totals.destroyed += 1
    }

    /// As the mechanism has it, to both sides.
    private func wrapped(_ number: UInt32, _ service: GSS.Service, _ plain: [UInt8]) -> [UInt8] {
        let inner = encoded { $0.u32(number) } + plain
        return switch service {
        case .none: plain
        case .integrity: opaque(inner) + opaque(ToyContext.sum(inner))
        case .privacy: opaque(inner.map { $0 ^ 0x5a })
        }
    }
}

// modules: Bytes Logging
// part: Runtime Sources/Runtime/Network/SocketAddress.swift
// with: Sources/RPC/GSS/GSSFlavor.swift Sources/RPC/GSS/GSSProtection.swift Sources/RPC/GSS/GSSContext.swift Sources/RPC/GSS/SequenceWindow.swift Sources/RPC/GSS/GSSMessages.swift Sources/RPC/Security/SecurityFlavor.swift Sources/RPC/Security/IdentityCache.swift Sources/RPC/Security/SystemCredential.swift Sources/RPC/Message/CallHeader.swift Sources/RPC/Message/RecordMark.swift Sources/RPC/Message/Reply.swift Sources/RPC/XDR/XDRMessage.swift
// inputs: 5000000
// lines: 95
// quarantine: 32
// covers: Sources/RPC/GSS/GSSFlavor.swift Sources/RPC/GSS/GSSProtection.swift Sources/RPC/GSS/SequenceWindow.swift
import Bytes
import Runtime

// What the flavor stands on, as much of it as it uses. What it does in a task or in the pool is done at once.

public protocol WorldClock: AnyObject, Sendable { func monotonic() -> UInt64 }
public protocol RandomSource: AnyObject, Sendable { func next() -> UInt64 }

final class Guarded<Value>: @unchecked Sendable {
    private var value: Value
    init(_ value: Value) { self.value = value }
    func withLock<Result, Failure: Error>(_ body: (inout Value) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(&value)
    }
}

/// A task runs where it is begun, to its end: nothing in it waits. A thread of its own for each cost more than all the rest.
final class StubLoop: TaskExecutor, @unchecked Sendable {
    func task(_ body: @escaping @Sendable () async -> Void) {
        let isDone = Guarded(false)
        Task(executorPreference: self) {
            await body()
            isDone.withLock { $0 = true }
        }
        precondition(isDone.withLock { $0 }, "a task that waits")
    }
    func enqueue(_ job: consuming ExecutorJob) { job.runSynchronously(on: asUnownedTaskExecutor()) }
}

public protocol BlockingPool: AnyObject, Sendable {}
extension BlockingPool {
    func run<Success>(on loop: StubLoop, _ work: () throws(Never) -> Success) async -> Success { work() }
}

public final class RPCCall: @unchecked Sendable {
    let loop = StubLoop()
    let arguments: UnsafeRawBufferPointer
    var refusals: [ReplyStatus] = []
    var replies: [(verifier: [UInt8], results: [UInt8])] = []
    var isDropped = false

    init(_ arguments: UnsafeRawBufferPointer) { self.arguments = arguments }
    func refuse(_ status: ReplyStatus) { refusals.append(status) }
    func drop() { isDropped = true }
    func reply(verifier: Authenticator, _ write: (inout Writer) -> Void) {
        replies.append((Array(verifier.body), encoded(write)))
    }
}

final class Clock: WorldClock, RandomSource, BlockingPool, @unchecked Sendable {
    var time: UInt64 = 0
    private var last: UInt64 = 0
    func monotonic() -> UInt64 { time }
    func next() -> UInt64 {
        last &+= 0x9e37_79b9_7f4a_7c15
        return last
    }
}

private func code(_ bytes: UnsafeRawBufferPointer) -> UInt64 { KeyedHash(3, 4)(bytes) }

private func bytes(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

/// A mechanism whose signature is a hash, and whose encryption is a mask and that hash.
final class ToyContext: GSSContext, @unchecked Sendable {
    var isBroken = false
    func verifies(_ message: UnsafeRawBufferPointer, _ signature: UnsafeRawBufferPointer) -> Bool {
        signature.elementsEqual(bytes(code(message)))
    }
    func sign(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
        if isBroken { return nil }
        place.copyBytes(from: bytes(code(message)))
        return 8
    }
    func wrap(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
        if isBroken { return nil }
        place.copyBytes(from: bytes(code(message)) + message.map { $0 ^ 0x5a })
        return 8 + message.count
    }
    func unwrap(_ wrapped: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        guard wrapped.count >= 8 else { return false }
        let plain = wrapped.dropFirst(8).map { $0 ^ 0x5a }
        return plain.withUnsafeBytes { plain in
            guard wrapped.prefix(8).elementsEqual(bytes(code(plain))) else { return false }
            body(plain)
            return true
        }
    }
}

final class ToyHandshake: GSSHandshake, @unchecked Sendable {
    let context: ToyContext
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

/// Longer than any answer. Used again and again: what the sanitizer does with a new one takes longer than what it is for.
private nonisolated(unsafe) let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 << 10, alignment: 8)

private func encoded(_ write: (inout Writer) -> Void) -> [UInt8] {
    var writer = Writer(scratch)
    write(&writer)
    precondition(!writer.overflowed, "longer than any answer")
    return Array(writer.written)
}

/// One server, with a client that signs as it should, and strangers.
private final class Party {
    let clock = Clock()
    let context = ToyContext()
    let flavor: GSSFlavor
    var handle: [UInt8] = []
    var taken: Set<UInt32> = []

    init() {
        let context = context
        flavor = GSSFlavor(flavors: [1, 2, 3], pool: clock, clock: clock, random: clock) { ToyHandshake(context) }
        handle = begin([2], handle: [], .begin) ?? []
        precondition(handle.count == 8 && flavor.contexts == 1, "no context was made")
    }

    func header(_ credential: GSSCredential, procedure: UInt32, _ isSigned: Bool, _ body: (CallHeader, [UInt8]) -> Void)
    {
        let claim = encoded { credential.write(into: &$0) }
        claim.withUnsafeBytes { claim in
            var header = CallHeader(xid: 7, program: 1, version: 2, procedure: procedure)
            header.credential = Authenticator(flavor: AuthFlavor.gss, body: claim)
            let all = encoded { header.write(into: &$0) }
            let signed = Array(all.prefix(8 * 4 + (claim.count + 3) & ~3))
            let signature = signed.withUnsafeBytes { bytes(code($0)) }
            signature.withUnsafeBytes { signature in
                if isSigned { header.verifier = Authenticator(flavor: AuthFlavor.gss, body: signature) }
                body(header, signed)
            }
        }
    }

    /// The handle of a context that is complete or goes on.
    func begin(_ token: [UInt8], handle: [UInt8], _ procedure: GSS.Procedure) -> [UInt8]? {
        let arguments = encoded { writer in token.withUnsafeBytes { writer.opaque($0) } }
        var made: [UInt8]?
        arguments.withUnsafeBytes { arguments in
            handle.withUnsafeBytes { handle in
                let credential = GSSCredential(procedure: procedure, sequence: 0, service: .none, handle: handle)
                header(credential, procedure: 0, false) { header, signed in
                    signed.withUnsafeBytes { signed in
                        let call = SecuredCall(header: header, signedHeader: signed, arguments: arguments)
                        guard case .handshake(let go) = flavor.admit(call) else { return }
                        made = answer(go, arguments)
                    }
                }
            }
        }
        return made
    }

    func answer(_ go: @Sendable (RPCCall) -> Void, _ arguments: UnsafeRawBufferPointer) -> [UInt8]? {
        let call = RPCCall(arguments)
        go(call)
        precondition(call.replies.count + call.refusals.count + (call.isDropped ? 1 : 0) == 1, "not one answer")
        guard let reply = call.replies.first else { return nil }
        return reply.results.withUnsafeBytes { results in
            var reader = Reader(results)
            guard let result = try? GSSInitResult(reading: &reader) else { return nil }
            return result.handle.isEmpty ? nil : Array(result.handle)
        }
    }

    /// A call of the client's.
    func call(_ number: UInt32, _ service: GSS.Service, _ arguments: [UInt8], _ plain: [UInt8]?) {
        handle.withUnsafeBytes { handle in
            let credential = GSSCredential(procedure: .data, sequence: number, service: service, handle: handle)
            header(credential, procedure: 5, true) { header, signed in
                signed.withUnsafeBytes { signed in
                    arguments.withUnsafeBytes { arguments in
                        let call = SecuredCall(header: header, signedHeader: signed, arguments: arguments)
                        guard case .accepted(let identity, let protection) = flavor.admit(call) else { return }
                        precondition(number < GSS.sequenceMax && taken.insert(number).inserted, "a number taken twice")
                        precondition(identity.flavor == service.rawValue, "another service")
                        check(protection, service, arguments, plain)
                    }
                }
            }
        }
    }

    private func check(
        _ protection: any CallProtection, _ service: GSS.Service, _ arguments: UnsafeRawBufferPointer, _ plain: [UInt8]?
    ) {
        var shown: [UInt8]?
        let isOurs = protection.unwrap(arguments) { shown = Array($0) }
        precondition(isOurs == (shown != nil), "arguments shown that are not the client's, or not shown")
        if let plain { precondition(shown == plain, "other arguments") }
        if service == .none { precondition(shown == Array(arguments)) }
        precondition(protection.wrapsResults == (service != .none))
        precondition(protection.withVerifier { precondition($0.body.count == 8) })
        let results = encoded { writer in
            protection.wrap(UnsafeRawBufferPointer(rebasing: arguments.prefix(100)), into: &writer)
        }
        precondition(results.count <= 100 + protection.wrappedOverheadMax)
        // A context that has ended signs nothing.
        context.isBroken = true
        precondition(!protection.withVerifier { _ in preconditionFailure("a verifier of nobody's") })
        var writer = Writer(UnsafeMutableRawBufferPointer(start: nil, count: 0))
        protection.wrap(arguments, into: &writer)
        precondition(writer.overflowed, "results that nobody signed")
        context.isBroken = false
    }

    func wrapped(_ number: UInt32, _ service: GSS.Service, _ plain: [UInt8]) -> [UInt8] {
        let inner = encoded { writer in
            writer.u32(number)
            plain.withUnsafeBytes { writer.bytes($0) }
        }
        return inner.withUnsafeBytes { inner in
            switch service {
            case .none: return plain
            case .integrity:
                return encoded { writer in
                    writer.opaque(inner)
                    bytes(code(inner)).withUnsafeBytes { writer.opaque($0) }
                }
            case .privacy:
                return encoded { writer in
                    (bytes(code(inner)) + inner.map { $0 ^ 0x5a }).withUnsafeBytes { writer.opaque($0) }
                }
            }
        }
    }
}

/// A script of what a client and strangers send.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var script = Array(UnsafeRawBufferPointer(start: data, count: count))[...]
    func next() -> Int { Int(script.popFirst() ?? 0) }
    func some() -> [UInt8] {
        let part = script.prefix(next())
        script = script.dropFirst(part.count)
        return Array(part)
    }
    let party = Party()
    var going: [UInt8] = []
    for _ in 0..<32 where !script.isEmpty {
        let kind = next()
        let service = GSS.Service(rawValue: UInt32(kind >> 3) % 3 + 1) ?? .none
        switch kind & 7 {
        case 0:
            // As it comes.
            let raw = some()
            raw.withUnsafeBytes { raw in
                var reader = Reader(raw)
                guard let header = try? CallHeader(reading: &reader) else { return }
                let call = SecuredCall(
                    header: header, signedHeader: UnsafeRawBufferPointer(rebasing: raw.prefix(reader.position)),
                    arguments: UnsafeRawBufferPointer(rebasing: raw.dropFirst(reader.position)))
                switch party.flavor.admit(call) {
                case .accepted: preconditionFailure("a stranger is let in")
                case .rejected, .dropped: break
                case .handshake(let go): _ = party.answer(go, call.arguments)
                }
            }
        case 1: going = party.begin(some(), handle: [], .begin) ?? going
        case 2: going = party.begin(some(), handle: kind & 8 == 0 ? going : some(), .goOn) ?? going
        case 3, 4:
            let number = UInt32(next()) << (kind & 0x80 == 0 ? 0 : 24) | UInt32(next()) << 8 | UInt32(next())
            let plain = some()
            party.call(number, service, party.wrapped(number, service, plain), plain)
        case 5:
            let number = UInt32(next() << 8 | next())
            party.call(number, service, some(), nil)
        case 6: party.clock.time += UInt64(next())
        default:
            party.handle.withUnsafeBytes { handle in
                let number = UInt32(next() << 8 | next())
                let credential = GSSCredential(procedure: .destroy, sequence: number, service: service, handle: handle)
                party.header(credential, procedure: UInt32(kind >> 7), kind & 0x40 == 0) { header, signed in
                    signed.withUnsafeBytes { signed in
                        let call = SecuredCall(
                            header: header, signedHeader: signed,
                            arguments: UnsafeRawBufferPointer(start: nil, count: 0))
                        party.context.isBroken = kind & 0x20 != 0
                        if case .handshake(let go) = party.flavor.admit(call) {
                            let held = RPCCall(call.arguments)
                            go(held)
                            precondition(held.replies.count + held.refusals.count == 1)
                        }
                        party.context.isBroken = false
                    }
                }
            }
        }
    }
    return 0
}

import Bytes
import Runtime

/// RPCSEC_GSS (RFC 2203): contexts that are made by calls of their own, signed calls with numbers that are never taken twice,
/// and arguments and results signed or encrypted as the client wishes.
public final class GSSFlavor: SecurityFlavor {
    public let number = AuthFlavor.gss
    /// Tokens that are being looked at; further ones are dropped, their clients send them again.
    static let handshakesMax = 64

    private let begin: @Sendable () -> any GSSHandshake
    /// By service: none, integrity, privacy (RFC 2623 2.1).
    private let flavors: [UInt32]
    private let pool: any BlockingPool
    private let clock: any WorldClock
    private let random: any RandomSource
    private let table = Guarded(GSSTable())
    private let busy = Guarded(0)

    /// `begin` begins the making of a context on the server's side.
    public init(
        flavors: [UInt32], pool: any BlockingPool, clock: any WorldClock, random: any RandomSource,
        begin: @escaping @Sendable () -> any GSSHandshake
    ) {
        precondition(flavors.count == GSS.Service.allCases.count, "one flavor for each service")
        self.flavors = flavors
        self.pool = pool
        self.clock = clock
        self.random = random
        self.begin = begin
    }

    public var contexts: Int { table.withLock { $0.count } }

    public func admit(_ call: SecuredCall) -> Admission {
        var reader = Reader(call.header.credential.body)
        let credential: GSSCredential
        do throws(BytesError) {
            credential = try GSSCredential(reading: &reader)
        } catch { return .rejected(.badCredential) }
        guard reader.isAtEnd else { return .rejected(.badCredential) }
        switch credential.procedure {
        case .begin, .goOn:
            // They carry a token as a call of the null procedure does not.
            guard call.header.procedure == 0, credential.procedure == .goOn || credential.handle.isEmpty else {
                return .rejected(.badCredential)
            }
            let id = credential.procedure == .goOn ? Self.id(credential.handle) : nil
            if credential.procedure == .goOn, id == nil { return .rejected(.gssCredentialProblem) }
            return .handshake { [self] held in shake(held, id) }
        case .data, .destroy: return admit(call, credential)
        }
    }

    private func admit(_ call: SecuredCall, _ credential: GSSCredential) -> Admission {
        guard let id = Self.id(credential.handle), let session = table.withLock({ $0.session(id) }) else {
            return .rejected(.gssCredentialProblem)
        }
        guard !session.isOver(clock.monotonic()) else {
            table.withLock { $0.remove(id) }
            return .rejected(.gssCredentialProblem)
        }
        guard credential.sequence < GSS.sequenceMax else { return .rejected(.gssContextProblem) }
        guard call.header.verifier.flavor == AuthFlavor.gss,
            session.context.verifies(call.signedHeader, call.header.verifier.body)
        else { return .rejected(.gssCredentialProblem) }
        // Only what the client signed moves the window.
        guard session.admits(credential.sequence) else { return .dropped }
        let protection = GSSProtection(session.context, credential.sequence, credential.service)
        guard credential.procedure == .destroy else {
            return .accepted(session.identity(credential.service), protection)
        }
        guard call.header.procedure == 0 else { return .rejected(.badCredential) }
        table.withLock { $0.remove(id) }
        return .handshake { held in
            if !protection.withVerifier({ held.reply(verifier: $0) { _ in } }) {
                held.refuse(.authError(.gssContextProblem))
            }
        }
    }

    private static func id(_ handle: UnsafeRawBufferPointer) -> UInt64? {
        handle.count == 8 ? handle.loadUnaligned(as: UInt64.self) : nil
    }

    // MARK: Making contexts

    private func shake(_ held: RPCCall, _ id: UInt64?) {
        var reader = Reader(held.arguments)
        let token: [UInt8]
        do throws(BytesError) {
            token = Array(try reader.inPlace(limit: GSS.tokenMax))
        } catch { return held.refuse(.garbageArguments) }
        let mayGoOn = busy.withLock { busy in
            guard busy < Self.handshakesMax else { return false }
            busy += 1
            return true
        }
        guard mayGoOn else { return held.drop() }
        let handshake: any GSSHandshake
        if let id {
            guard let known = table.withLock({ $0.takeHandshake(id) }) else {
                busy.withLock { $0 -= 1 }
                return held.refuse(.authError(.gssCredentialProblem))
            }
            handshake = known
        } else {
            handshake = begin()
        }
        let loop = held.loop
        loop.task { [self] in
            let step = await pool.run(on: loop) { () throws(Never) in token.withUnsafeBytes { handshake.step($0) } }
            busy.withLock { $0 -= 1 }
            answer(held, step, handshake, id ?? random.next())
        }
    }

    /// `GSS_S_FAILURE`
    private static let failure: UInt32 = 13 << 16

    private func answer(_ held: RPCCall, _ step: GSSStep, _ handshake: any GSSHandshake, _ id: UInt64) {
        // RFC 2744 3.9.1.
        let isComplete: UInt32 = 0
        let isToBeContinued: UInt32 = 1
        switch step {
        case .failed(let major, let minor, let token):
            reply(held, nil, major, minor, token, signature: nil)
        case .continues(let token):
            table.withLock { $0.put(handshake, id) }
            reply(held, id, isToBeContinued, 0, token, signature: nil)
        case .complete(let context, let principal, let lifetime, let token):
            let window = UInt32(SequenceWindow.size)
            guard let signature = GSSProtection.sign(window, context) else {
                return reply(held, nil, Self.failure, 0, [], signature: nil)
            }
            let now = clock.monotonic()
            let end = now.addingReportingOverflow(lifetime)
            let session = GSSSession(
                id, context, principal: principal, end: end.overflow ? .max : end.partialValue, flavors: flavors)
            table.withLock { $0.insert(session, now: now) }
            reply(held, id, isComplete, 0, token, signature: signature)
        }
    }

    private func reply(
        _ held: RPCCall, _ id: UInt64?, _ major: UInt32, _ minor: UInt32, _ token: [UInt8], signature: [UInt8]?
    ) {
        let handle = id.map { withUnsafeBytes(of: $0) { Array($0) } } ?? []
        (signature ?? []).withUnsafeBytes { body in
            let verifier = signature == nil ? Authenticator.none : Authenticator(flavor: AuthFlavor.gss, body: body)
            held.reply(verifier: verifier) { writer in
                handle.withUnsafeBytes { handle in
                    token.withUnsafeBytes { token in
                        GSSInitResult(
                            handle: handle, major: major, minor: minor, window: UInt32(SequenceWindow.size),
                            token: token
                        ).write(into: &writer)
                    }
                }
            }
        }
    }
}

import Namespace

/// A user as SMB needs him.
public struct SMBUser: Sendable {
    public var name: String
    public var ntHash: [UInt8]
    public var credential: Credential

    public init(name: String, ntHash: [UInt8], credential: Credential) {
        self.name = name
        self.ntHash = ntHash
        self.credential = credential
    }
}

/// One log-on from its first token to its last: SPNEGO around a mechanism, or NTLM as it is.
///
/// Of the client's list the first mechanism is taken that is known here; its token counts if it is the client's first, too. Whoever had
/// another first choice proves that nobody changed the list.
package struct LogOn {
    package enum Step {
        case goesOn(token: [UInt8])
        case accepted(token: [UInt8], user: SMBUser?, key: [UInt8])
        /// Kerberos is to look at it, which may take a while: its outcome goes to `conclude`.
        case asks(ticket: [UInt8])
        case refused(name: String)
        case malformed
    }

    private enum Mechanism {
        case ntlm
        case kerberos
    }

    private var ntlm: NTLMAcceptor
    private let takesTickets: Bool
    /// The challenge is on its way: the next token has the proof.
    package private(set) var isChallenged = false
    /// The list as the client sent it.
    private var mechanisms: [UInt8]?
    /// Of the mechanism that was taken: Kerberos has two.
    private var identifier: [UInt8] = []
    private var mechanism = Mechanism.ntlm
    private var isFirstChoice = true
    /// Of the token that Kerberos is at.
    private var isAsking = false
    private var proof: [UInt8]?
    /// Kerberos knows who it is; the proof of the list is still to come.
    private var awaited: (user: SMBUser, key: [UInt8], seals: any MechanismSeals)?
    /// How long the user's ticket is good; nil: he has none.
    package private(set) var seconds: UInt32?
    /// Nobody here has the name that was refused.
    package var isStranger: Bool { mechanism == .ntlm && ntlm.isStranger }
    /// The last word to somebody who is taken in as a guest: he and the server share no key to prove anything with.
    package var welcome: [UInt8] { mechanisms == nil ? [] : SPNEGO.response(.completed) }

    package init(serverName: String, takesTickets: Bool = false) {
        ntlm = NTLMAcceptor(serverName: serverName)
        self.takesTickets = takesTickets
    }

    package mutating func step(
        _ bytes: UnsafeRawBufferPointer, random: [UInt8], time: UInt64, user find: (String) -> SMBUser?
    ) -> Step {
        // One token at a time.
        guard !isAsking else { return .malformed }
        if bytes.starts(with: NTLM.signature) {
            guard mechanisms == nil else { return .malformed }
            return answer(ntlm.accept(Array(bytes), random: random, time: time, user: find), isWrapped: false, nil)
        }
        switch SPNEGO.Token(reading: bytes) {
        case .initiation(let initiation):
            guard mechanisms == nil, let taken = initiation.mechanisms.firstIndex(where: { knows($0) }) else {
                return .malformed
            }
            mechanisms = initiation.encodedMechanisms
            identifier = initiation.mechanisms[taken]
            mechanism = identifier == SPNEGO.ntlm ? .ntlm : .kerberos
            isFirstChoice = taken == 0
            // A first token of another mechanism is of no use.
            guard isFirstChoice, !initiation.token.isEmpty else {
                return .goesOn(token: SPNEGO.response(.incomplete, mechanism: identifier))
            }
            return step(initiation.token, initiation.proof, random, time, find)
        case .continuation(let continuation):
            guard mechanisms != nil else { return .malformed }
            if let awaited { return finish(awaited, continuation) }
            return step(continuation.token, continuation.proof, random, time, find)
        case nil: return .malformed
        }
    }

    private func knows(_ mechanism: [UInt8]) -> Bool {
        mechanism == SPNEGO.ntlm || takesTickets && SPNEGO.kerberos.contains(mechanism)
    }

    private mutating func step(
        _ token: [UInt8], _ proof: [UInt8]?, _ random: [UInt8], _ time: UInt64, _ find: (String) -> SMBUser?
    ) -> Step {
        switch mechanism {
        case .ntlm:
            return answer(ntlm.accept(token, random: random, time: time, user: find), isWrapped: true, proof)
        case .kerberos:
            guard !token.isEmpty else { return .malformed }
            isAsking = true
            self.proof = proof
            return .asks(ticket: token)
        }
    }

    private mutating func answer(
        _ outcome: NTLMAcceptor.Outcome, isWrapped: Bool, _ proof: [UInt8]?
    ) -> Step {
        switch outcome {
        case .challenge(let token):
            isChallenged = true
            return .goesOn(
                token: isWrapped ? SPNEGO.response(.incomplete, mechanism: SPNEGO.ntlm, token: token) : token)
        case .accepted(let user, _, let key):
            guard isWrapped else { return .accepted(token: [], user: user, key: key) }
            var own: [UInt8]?
            if let seals = ntlm.seals, let mechanisms, let proof {
                guard seals.isSignedByClient(mechanisms, proof) else { return .malformed }
                own = seals.sign(mechanisms)
            } else if !isFirstChoice, user != nil {
                // Somebody may have struck a better mechanism from the list (RFC 4178 5).
                return .malformed
            }
            return .accepted(token: SPNEGO.response(.completed, proof: own), user: user, key: key)
        case .refused(let name): return .refused(name: name)
        case .malformed: return .malformed
        }
    }

    // MARK: Kerberos

    /// Goes on with what became of the ticket; `find` answers whose it is.
    package mutating func conclude(_ outcome: TicketOutcome, user find: (String) -> SMBUser?) -> Step {
        guard isAsking, let mechanisms else { return .malformed }
        isAsking = false
        switch outcome {
        case .refused: return .refused(name: "")
        case .goesOn(let token):
            return .goesOn(token: SPNEGO.response(.incomplete, mechanism: identifier, token: token))
        case .accepted(let token, let principal, let key, let seconds, let seals):
            guard let user = find(principal) else { return .refused(name: principal) }
            self.seconds = seconds
            if let proof {
                guard seals.isSignedByClient(mechanisms, proof) else { return .malformed }
                return .accepted(
                    token: SPNEGO.response(
                        .completed, mechanism: identifier, token: token, proof: seals.sign(mechanisms)),
                    user: user, key: key)
            }
            guard isFirstChoice else {
                awaited = (user, key, seals)
                return .goesOn(
                    token: SPNEGO.response(
                        .incomplete, mechanism: identifier, token: token, proof: seals.sign(mechanisms)))
            }
            return .accepted(
                token: SPNEGO.response(.completed, mechanism: identifier, token: token), user: user, key: key)
        }
    }

    private mutating func finish(
        _ awaited: (user: SMBUser, key: [UInt8], seals: any MechanismSeals), _ continuation: SPNEGO.Continuation
    ) -> Step {
        self.awaited = nil
        guard let mechanisms, let proof = continuation.proof, awaited.seals.isSignedByClient(mechanisms, proof) else {
            return .malformed
        }
        return .accepted(token: SPNEGO.response(.completed), user: awaited.user, key: awaited.key)
    }
}

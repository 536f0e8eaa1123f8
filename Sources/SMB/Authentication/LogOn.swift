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
/// Kerberos has its place beside NTLM: another mechanism that takes tokens and answers tokens.
package struct LogOn {
    package enum Step {
        case goesOn(token: [UInt8])
        case accepted(token: [UInt8], user: SMBUser?, key: [UInt8])
        case refused(name: String)
        case malformed
    }

    private var ntlm: NTLMAcceptor
    /// The challenge is on its way: the next token has the proof.
    package private(set) var isChallenged = false
    private var mechanisms: [UInt8]?
    private var isFirstChoice = true

    package init(serverName: String) { ntlm = NTLMAcceptor(serverName: serverName) }

    package mutating func step(
        _ bytes: UnsafeRawBufferPointer, random: [UInt8], time: UInt64, user find: (String) -> SMBUser?
    ) -> Step {
        if bytes.starts(with: NTLM.signature) {
            return answer(ntlm.accept(Array(bytes), random: random, time: time, user: find), isWrapped: false, nil)
        }
        switch SPNEGO.Token(reading: bytes) {
        case .initiation(let initiation):
            guard initiation.mechanisms.contains(SPNEGO.ntlm) else { return .malformed }
            mechanisms = initiation.encodedMechanisms
            isFirstChoice = initiation.mechanisms.first == SPNEGO.ntlm
            // A first token of another mechanism is of no use.
            guard isFirstChoice, !initiation.token.isEmpty else {
                return .goesOn(token: SPNEGO.response(.incomplete, mechanism: SPNEGO.ntlm))
            }
            return answer(
                ntlm.accept(initiation.token, random: random, time: time, user: find), isWrapped: true, nil)
        case .continuation(let continuation):
            guard mechanisms != nil else { return .malformed }
            return answer(
                ntlm.accept(continuation.token, random: random, time: time, user: find), isWrapped: true,
                continuation.proof)
        case nil: return .malformed
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
                guard proof == seals.sign(mechanisms, isServer: false) else { return .malformed }
                own = seals.sign(mechanisms, isServer: true)
            } else if !isFirstChoice, user != nil {
                // Somebody may have struck a better mechanism from the list (RFC 4178 5).
                return .malformed
            }
            return .accepted(token: SPNEGO.response(.completed, proof: own), user: user, key: key)
        case .refused(let name): return .refused(name: name)
        case .malformed: return .malformed
        }
    }
}

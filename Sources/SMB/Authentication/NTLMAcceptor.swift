import Bytes
import Crypto
import Namespace

/// The server's side of one log-on by NTLMv2 ([MS-NLMP] 3.2). No LM, no NTLMv1.
struct NTLMAcceptor {
    enum Outcome {
        case challenge([UInt8])
        /// `key` is the session's; `user` nil: nobody in particular.
        case accepted(user: SMBUser?, name: String, key: [UInt8])
        case refused(name: String)
        case malformed
    }

    let serverName: String
    private var challenge: [UInt8] = []
    private var negotiateMessage: [UInt8] = []
    private var challengeMessage: [UInt8] = []
    /// The name that was refused is nobody's.
    private(set) var isStranger = false
    /// For the proofs of SPNEGO, once accepted.
    private(set) var seals: NTLMSeals?

    init(serverName: String) { self.serverName = serverName }

    /// `random`: eight bytes that were never used before.
    mutating func accept(
        _ token: [UInt8], random: [UInt8], time: UInt64, user find: (String) -> SMBUser?
    ) -> Outcome {
        token.withUnsafeBytes { bytes in
            do throws(BytesError) {
                guard bytes.count >= 12 else { return .malformed }
                if bytes[8] == 1 {
                    // It is kept until the answer comes, of whoever it may be.
                    guard token.count <= NTLM.negotiateMax else { return .malformed }
                    let negotiate = try NTLM.Negotiate(reading: bytes)
                    return .challenge(respond(to: negotiate, token, random: random, time: time))
                }
                guard !challenge.isEmpty else { return .malformed }
                return try check(try NTLM.Authenticate(reading: bytes), token, find)
            } catch { return .malformed }
        }
    }

    private mutating func respond(
        to negotiate: NTLM.Negotiate, _ token: [UInt8], random: [UInt8], time: UInt64
    ) -> [UInt8] {
        challenge = random
        negotiateMessage = token
        var info: [UInt8] = []
        let name = Array(serverName.utf16).flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
        info.pair(NTLM.Pair.domain, name)
        info.pair(NTLM.Pair.computer, name)
        info.pair(NTLM.Pair.domainDNS, [])
        info.pair(NTLM.Pair.computerDNS, name)
        var stamp: [UInt8] = []
        stamp.u64(time)
        info.pair(NTLM.Pair.timestamp, stamp)
        info.pair(NTLM.Pair.end, [])
        var flags: NTLM.Flags = [
            .unicode, .requestTarget, .ntlm, .targetIsServer, .extendedSecurity, .targetInfo, .version, .alwaysSign,
        ]
        flags.formUnion(negotiate.flags.intersection([.sign, .seal, .key128, .key56, .keyExchange]))
        challengeMessage = NTLM.Challenge(flags: flags, challenge: challenge, target: name, info: info).encoded()
        return challengeMessage
    }

    private mutating func check(
        _ message: NTLM.Authenticate, _ token: [UInt8], _ find: (String) -> SMBUser?
    ) throws(BytesError) -> Outcome {
        // A challenge is good for one answer.
        let challenge = challenge
        self.challenge = []
        if message.user.isEmpty, message.response.isEmpty, message.lmResponse.count <= 1 {
            return .accepted(user: nil, name: "", key: [UInt8](repeating: 0, count: 16))
        }
        guard let name = UTF16Name.string(message.user), let domain = UTF16Name.string(message.domain) else {
            throw .malformed
        }
        // Shorter answers are those of the older schemes.
        guard message.response.count >= NTLM.proofBytes + 28 else { return .refused(name: name) }
        guard let pairs = NTLM.pairs(message.response.dropFirst(NTLM.proofBytes + 28)) else { throw .malformed }
        // An unknown user costs what a known one costs.
        let user = find(name)
        isStranger = user == nil
        let hash = user?.ntHash ?? [UInt8](repeating: 0, count: NTHash.count)
        let proof = message.response.prefix(NTLM.proofBytes)
        let blob = message.response.dropFirst(NTLM.proofBytes)
        var found: [UInt8]?
        // Clients differ in whether the domain counts as they sent it or as empty.
        let key = MessageCode.hmacMD5(hash, UTF16Name.bytes(UTF16Name.upper(name)) + UTF16Name.bytes(domain))
        if Self.isSame(MessageCode.hmacMD5(key, challenge + blob), proof) {
            found = MessageCode.hmacMD5(key, Array(proof))
        }
        guard let base = found, let user, !user.ntHash.isEmpty else { return .refused(name: name) }
        var session = base
        if message.flags.contains(.keyExchange) {
            guard message.encryptedKey.count == 16 else { throw .malformed }
            var cipher = RC4(key: base)
            session = cipher.apply(message.encryptedKey)
        }
        let flags = pairs.first { $0.id == NTLM.Pair.flags }?.value ?? []
        if let first = flags.first, UInt32(first) & NTLM.Pair.hasProof != 0 {
            guard let sent = message.proof else { throw .malformed }
            var plain = token
            for index in 0..<NTLM.proofBytes { plain[NTLM.Authenticate.proofOffset + index] = 0 }
            let expected = MessageCode.hmacMD5(session, negotiateMessage + challengeMessage + plain)
            guard Self.isSame(expected, sent[...]) else { return .refused(name: name) }
        }
        // There is no channel around SMB here. Who says that he came through one was talking to another server, and somebody has
        // passed his proof on to this one.
        let bindings = pairs.first { $0.id == NTLM.Pair.channelBindings }?.value ?? []
        guard bindings.allSatisfy({ $0 == 0 }) else { return .refused(name: name) }
        seals = NTLMSeals(session: session, flags: message.flags)
        return .accepted(user: user, name: name, key: session)
    }

    private static func isSame(_ a: [UInt8], _ b: ArraySlice<UInt8>) -> Bool {
        a.withUnsafeBytes { a in b.withUnsafeBytes { equalsInConstantTime(a, $0) } }
    }
}

/// Signatures under a session's key, for the proof that nobody changed the list of mechanisms ([MS-NLMP] 3.4.4.2).
package struct NTLMSeals: MechanismSeals {
    private let session: [UInt8]
    private let flags: NTLM.Flags

    package init(session: [UInt8], flags: NTLM.Flags) {
        self.session = session
        self.flags = flags
    }

    private func key(_ what: String, _ bytes: Int = 16) -> [UInt8] {
        ChainedDigest.md5(session.prefix(bytes) + Array(what.utf8) + [0])
    }

    package func sign(_ message: [UInt8], isServer: Bool) -> [UInt8] {
        let side = isServer ? "server-to-client" : "client-to-server"
        let signing = key("session key to \(side) signing key magic constant")
        let code = MessageCode.hmacMD5(signing, [0, 0, 0, 0] + message).prefix(8)
        var sealed = Array(code)
        if flags.contains(.keyExchange) {
            let bytes = flags.contains(.key128) ? 16 : flags.contains(.key56) ? 7 : 5
            var cipher = RC4(key: key("session key to \(side) sealing key magic constant", bytes))
            sealed = cipher.apply(sealed)
        }
        return [1, 0, 0, 0] + sealed + [0, 0, 0, 0]
    }
}

import Bytes
import Crypto
import Namespace
import SMB
import Testing

/// The client's side of NTLMv2, with everything that can be done wrong.
private struct Client {
    var user = "Alice"
    var secret = "password"
    var domain = "WORKGROUP"
    var hasProof = true
    var breaksProof = false
    var response: [UInt8]?
    private(set) var session: [UInt8] = []

    static func utf16(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    }

    static func number(_ value: Int, _ bytes: Int) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    static let flags: UInt32 = 0xE208_8215
    static let negotiate =
        Array("NTLMSSP\0".utf8) + number(1, 4) + number(Int(flags), 4) + [UInt8](repeating: 0, count: 16)

    mutating func answer(_ challenge: [UInt8]) -> [UInt8] {
        let hash = NTHash.of(secret)
        let key = MessageCode.hmacMD5(hash, Self.utf16(user.uppercased()) + Self.utf16(domain))
        let count = Int(challenge[40]) | Int(challenge[41]) << 8
        let offset = Int(challenge[44]) | Int(challenge[45]) << 8
        var info = Array(challenge[offset..<(offset + count)].dropLast(4))
        if hasProof { info += [6, 0, 4, 0, 2, 0, 0, 0] }
        info += [0, 0, 0, 0]
        let blob =
            [1, 1, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 3, count: 8) + [UInt8](repeating: 5, count: 8) + [0, 0, 0, 0]
            + info + [0, 0, 0, 0]
        let proof = MessageCode.hmacMD5(key, Array(challenge[24..<32]) + blob)
        let base = MessageCode.hmacMD5(key, proof)
        session = [UInt8](repeating: 0xAB, count: 16)
        var cipher = RC4(key: base)
        let encrypted = cipher.apply(session)
        let parts = [[], response ?? (proof + blob), Self.utf16(domain), Self.utf16(user), [], encrypted]
        var fields: [UInt8] = []
        var payload: [UInt8] = []
        for part in parts {
            fields += Self.number(part.count, 2) + Self.number(part.count, 2) + Self.number(88 + payload.count, 4)
            payload += part
        }
        var message =
            Array("NTLMSSP\0".utf8) + Self.number(3, 4) + fields + Self.number(Int(Self.flags), 4)
            + [UInt8](repeating: 0, count: 8 + 16) + payload
        if hasProof {
            var code = MessageCode.hmacMD5(session, Self.negotiate + challenge + message)
            if breaksProof { code[3] ^= 1 }
            message.replaceSubrange(72..<88, with: code)
        }
        return message
    }
}

private let alice = SMBUser(
    name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))

private func find(_ name: String) -> SMBUser? { name.lowercased() == "alice" ? alice : nil }

private func step(_ logOn: inout LogOn, _ token: [UInt8]) -> LogOn.Step {
    token.withUnsafeBytes { logOn.step($0, random: [1, 2, 3, 4, 5, 6, 7, 8], time: 9, user: find) }
}

private func logOn(_ client: Client) -> (LogOn.Step, [UInt8]) {
    var client = client
    var logOn = LogOn(serverName: "HERE")
    guard case .goesOn(let challenge) = step(&logOn, Client.negotiate) else { return (.malformed, []) }
    return (step(&logOn, client.answer(challenge)), client.session)
}

@Suite struct LogOnTests {
    @Test func theRightSecretGivesTheSessionsKey() {
        let (result, session) = logOn(Client())
        guard case .accepted(_, let user, let key) = result else { return #expect(Bool(false), "\(result)") }
        #expect(user?.name == "Alice")
        #expect(key == session)
    }

    @Test func withoutAProofTooWhenNoneIsPromised() {
        var client = Client()
        client.hasProof = false
        guard case .accepted = logOn(client).0 else { return #expect(Bool(false)) }
    }

    @Test func whoeverIsWrongIsRefused() {
        var wrong = Client()
        wrong.secret = "Password"
        var stranger = Client()
        stranger.user = "Bob"
        var tampered = Client()
        tampered.breaksProof = true
        // 24 bytes: NTLMv1.
        var old = Client()
        old.response = [UInt8](repeating: 1, count: 24)
        for client in [wrong, stranger, tampered, old] {
            guard case .refused = logOn(client).0 else { return #expect(Bool(false), "\(client)") }
        }
    }

    @Test func aChallengeIsGoodForOneAnswer() {
        var client = Client()
        var logOn = LogOn(serverName: "HERE")
        guard case .goesOn(let challenge) = step(&logOn, Client.negotiate) else { return #expect(Bool(false)) }
        let answer = client.answer(challenge)
        guard case .accepted = step(&logOn, answer) else { return #expect(Bool(false)) }
        guard case .malformed = step(&logOn, answer) else { return #expect(Bool(false)) }
    }

    @Test func anAnswerNeedsAChallenge() {
        var client = Client()
        var logOn = LogOn(serverName: "HERE")
        let challenge = [UInt8](repeating: 0, count: 64)
        guard case .malformed = step(&logOn, client.answer(challenge)) else { return #expect(Bool(false)) }
    }

    @Test func damagedMessagesAreRefused() {
        var client = Client()
        var first = LogOn(serverName: "HERE")
        guard case .goesOn(let challenge) = step(&first, Client.negotiate) else { return #expect(Bool(false)) }
        let answer = client.answer(challenge)
        for count in 0..<answer.count {
            var logOn = first
            if case .accepted = step(&logOn, Array(answer.prefix(count))) { #expect(Bool(false), "\(count)") }
        }
        for place in 12..<88 {
            var changed = answer
            changed[place] ^= 0xFF
            var logOn = first
            if case .accepted = step(&logOn, changed) {
                // Nothing but the lengths that a reader does not need, the name of the host, and what nobody reads.
                #expect((0..<60).contains(place - 12) || place < 88)
            }
        }
    }

    /// SPNEGO around it, with the proof of the list of mechanisms.
    @Test func throughSPNEGO() {
        var client = Client()
        var logOn = LogOn(serverName: "HERE")
        func der(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
            content.count < 128
                ? [tag, UInt8(content.count)] + content
                : [tag, 0x82, UInt8(content.count >> 8), UInt8(content.count & 255)] + content
        }
        let list = der(0x30, der(6, SPNEGO.ntlm))
        let first = der(
            0x60,
            der(6, [0x2B, 6, 1, 5, 5, 2])
                + der(0xA0, der(0x30, der(0xA0, list) + der(0xA2, der(4, Client.negotiate)))))
        guard case .goesOn(let token) = step(&logOn, first),
            case .continuation(let answer) = token.withUnsafeBytes({ SPNEGO.Token(reading: $0) })
        else { return #expect(Bool(false)) }
        let message = client.answer(answer.token)
        let seals = NTLMSeals(session: client.session, flags: NTLM.Flags(rawValue: Client.flags))
        func last(_ proof: [UInt8]) -> [UInt8] {
            der(0xA1, der(0x30, der(0xA0, der(0x0A, [1])) + der(0xA2, der(4, message)) + der(0xA3, der(4, proof))))
        }
        var other = logOn
        guard case .malformed = step(&other, last([UInt8](repeating: 0, count: 16))) else {
            return #expect(Bool(false))
        }
        guard case .accepted(let end, _, _) = step(&logOn, last(seals.sign(list, isServer: false))),
            case .continuation(let final) = end.withUnsafeBytes({ SPNEGO.Token(reading: $0) })
        else { return #expect(Bool(false)) }
        #expect(final.proof == seals.sign(list, isServer: true))
        for count in 0..<first.count {
            var damaged = LogOn(serverName: "HERE")
            if case .goesOn = step(&damaged, Array(first.prefix(count))) { #expect(Bool(false), "\(count)") }
        }
    }

    @Test func guessingGetsSlow() {
        var throttle = LogOnThrottle()
        var delay: UInt64 = 0
        for _ in 0..<LogOnThrottle.freeFailures { delay += throttle.failed(1, now: 1000) }
        #expect(delay == 0)
        var last: UInt64 = 0
        for _ in 0..<20 {
            let delay = throttle.failed(1, now: 2000)
            #expect(delay >= last && delay > 0)
            last = delay
        }
        #expect(last == LogOnThrottle.delayMax)
        delay = throttle.failed(2, now: 2000)
        #expect(delay == 0)
        delay = throttle.failed(1, now: 2000 + LogOnThrottle.forgiveness)
        #expect(delay == 0)
        for _ in 0..<20 { _ = throttle.failed(1, now: 3000 + LogOnThrottle.forgiveness) }
        throttle.succeeded(1)
        delay = throttle.failed(1, now: 3000 + LogOnThrottle.forgiveness)
        #expect(delay == 0)
        for key in 10..<UInt64(LogOnThrottle.entriesMax + 10) { _ = throttle.failed(key, now: 9) }
        delay = throttle.failed(999_999, now: 9)
        #expect(delay == LogOnThrottle.delayMax)
    }
}

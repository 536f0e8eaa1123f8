import Bytes
import Crypto
import Namespace
import Runtime
import SMB
import SMBSupport
import Testing

private let alice = SMBUser(
    name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))

private func find(_ name: String) -> SMBUser? { name.lowercased() == "alice" ? alice : nil }

private func step(_ logOn: inout LogOn, _ token: [UInt8]) -> LogOn.Step {
    token.withUnsafeBytes { logOn.step($0, random: [1, 2, 3, 4, 5, 6, 7, 8], time: 9, user: find) }
}

private func logOn(_ client: NTLMClient) -> (LogOn.Step, [UInt8]) {
    var client = client
    var logOn = LogOn(serverName: "HERE")
    guard case .goesOn(let challenge) = step(&logOn, NTLMClient.negotiate) else { return (.malformed, []) }
    return (step(&logOn, client.answer(challenge)), client.session)
}

@Suite struct LogOnTests {
    @Test func theRightSecretGivesTheSessionsKey() {
        let (result, session) = logOn(NTLMClient())
        guard case .accepted(_, let user, let key) = result else { return #expect(Bool(false), "\(result)") }
        #expect(user?.name == "Alice")
        #expect(key == session)
    }

    @Test func withoutAProofTooWhenNoneIsPromised() {
        var client = NTLMClient()
        client.hasProof = false
        guard case .accepted = logOn(client).0 else { return #expect(Bool(false)) }
    }

    @Test func whoeverIsWrongIsRefused() {
        var wrong = NTLMClient()
        wrong.secret = "Password"
        var stranger = NTLMClient()
        stranger.user = "Bob"
        var tampered = NTLMClient()
        tampered.breaksProof = true
        // 24 bytes: NTLMv1.
        var old = NTLMClient()
        old.response = [UInt8](repeating: 1, count: 24)
        for client in [wrong, stranger, tampered, old] {
            guard case .refused = logOn(client).0 else { return #expect(Bool(false), "\(client)") }
        }
    }

    /// Whoever was in a channel was talking to somebody else; what is all zeros says that there was none.
    @Test func whatWasSaidInAChannelCountsForNothingHere() {
        var client = NTLMClient()
        client.bindings = [UInt8](repeating: 0, count: 16)
        guard case .accepted = logOn(client).0 else { return #expect(Bool(false)) }
        client.bindings?[9] = 1
        guard case .refused = logOn(client).0 else { return #expect(Bool(false)) }
    }

    @Test func aChallengeIsGoodForOneAnswer() {
        var client = NTLMClient()
        var logOn = LogOn(serverName: "HERE")
        guard case .goesOn(let challenge) = step(&logOn, NTLMClient.negotiate) else { return #expect(Bool(false)) }
        let answer = client.answer(challenge)
        guard case .accepted = step(&logOn, answer) else { return #expect(Bool(false)) }
        guard case .malformed = step(&logOn, answer) else { return #expect(Bool(false)) }
    }

    @Test func anAnswerNeedsAChallenge() {
        var client = NTLMClient()
        var logOn = LogOn(serverName: "HERE")
        let challenge = [UInt8](repeating: 0, count: 64)
        guard case .malformed = step(&logOn, client.answer(challenge)) else { return #expect(Bool(false)) }
    }

    @Test func damagedMessagesAreRefused() {
        var client = NTLMClient()
        var first = LogOn(serverName: "HERE")
        guard case .goesOn(let challenge) = step(&first, NTLMClient.negotiate) else { return #expect(Bool(false)) }
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
        var client = NTLMClient()
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
                + der(0xA0, der(0x30, der(0xA0, list) + der(0xA2, der(4, NTLMClient.negotiate)))))
        guard case .goesOn(let token) = step(&logOn, first),
            case .continuation(let answer) = token.withUnsafeBytes({ SPNEGO.Token(reading: $0) })
        else { return #expect(Bool(false)) }
        let message = client.answer(answer.token)
        let seals = NTLMSeals(session: client.session, flags: NTLM.Flags(rawValue: NTLMClient.flags))
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

    /// Whoever guesses about many users from one address waits before anything is looked at, and not side by side.
    @Test func anAddressHasItsTurns() {
        var throttle = LogOnThrottle()
        for _ in 0..<LogOnThrottle.freeFailuresOfAddress { _ = throttle.failed(1, now: 1000) }
        #expect(throttle.wait(1, now: 1000) == 0)
        for _ in 0..<20 { _ = throttle.failed(1, now: 1000) }
        var last: UInt64 = 0
        for _ in 0..<LogOnThrottle.waitingMax {
            let wait = throttle.wait(1, now: 1000)
            #expect(wait ?? 0 >= last + LogOnThrottle.delayMax)
            last = wait ?? 0
        }
        #expect(throttle.wait(1, now: 1000) == nil)
        #expect(throttle.wait(2, now: 1000) == 0)
        throttle.waited(1)
        #expect(throttle.wait(1, now: 1000) != nil)
        // A failure more than a pause ago costs nothing but the turns of those before.
        for _ in 0..<LogOnThrottle.waitingMax { throttle.waited(1) }
        #expect(throttle.wait(1, now: 1000 + LogOnThrottle.delayMax) == 0)
        #expect(throttle.wait(1, now: 1000 + LogOnThrottle.forgiveness) == 0)
    }

    @Test func ticketsAreLookedAtAFewAtATime() async {
        let desk = TicketDesk()
        for _ in 0..<TicketDesk.workingMax {
            let isLetIn = await desk.begin()
            #expect(isLetIn)
        }
        let isLetIn = Guarded(false)
        let late = Task {
            _ = await desk.begin()
            isLetIn.withLock { $0 = true }
        }
        try? await Task.sleep(for: .milliseconds(50))
        #expect(!isLetIn.withLock { $0 })
        desk.end()
        await late.value
        #expect(isLetIn.withLock { $0 })
        for _ in 0..<TicketDesk.workingMax { desk.end() }
        let isFree = await desk.begin()
        #expect(isFree)
    }
}

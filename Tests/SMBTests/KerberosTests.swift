import Crypto
import Kerberos
import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

private let alice = SMBUser(
    name: "alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))

private func der(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    content.count < 128
        ? [tag, UInt8(content.count)] + content
        : [tag, 0x82, UInt8(content.count >> 8), UInt8(content.count & 255)] + content
}

private func list(_ mechanisms: [[UInt8]]) -> [UInt8] { der(0x30, mechanisms.flatMap { der(6, $0) }) }

private func begin(_ mechanisms: [[UInt8]], _ token: [UInt8], proof: [UInt8]? = nil) -> [UInt8] {
    var fields = der(0xA0, list(mechanisms))
    if !token.isEmpty { fields += der(0xA2, der(4, token)) }
    if let proof { fields += der(0xA3, der(4, proof)) }
    return der(0x60, der(6, [0x2B, 6, 1, 5, 5, 2]) + der(0xA0, der(0x30, fields)))
}

private func goOn(_ token: [UInt8], proof: [UInt8]? = nil) -> [UInt8] {
    var fields: [UInt8] = []
    if !token.isEmpty { fields += der(0xA2, der(4, token)) }
    if let proof { fields += der(0xA3, der(4, proof)) }
    return der(0xA1, der(0x30, fields))
}

private func answer(_ token: [UInt8]) -> SPNEGO.Continuation? {
    guard case .continuation(let found) = token.withUnsafeBytes({ SPNEGO.Token(reading: $0) }) else { return nil }
    return found
}

/// One that comes before all others, and that nobody here knows.
private let stranger: [UInt8] = [0x2B, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x1E]

/// Log-ons by ticket, without Kerberos itself.
@Suite struct TicketTests {
    private struct Seals: MechanismSeals {
        func sign(_ list: [UInt8]) -> [UInt8]? { [1] + list }
        func isSignedByClient(_ list: [UInt8], _ proof: [UInt8]) -> Bool { proof == [2] + list }
    }

    private static let good = TicketOutcome.accepted(
        token: [7, 7], principal: "alice@REALM", key: [1, 2, 3], seconds: 60, seals: Seals())

    private func step(_ logOn: inout LogOn, _ token: [UInt8]) -> LogOn.Step {
        token.withUnsafeBytes { logOn.step($0, random: [1, 2, 3, 4, 5, 6, 7, 8], time: 9) { _ in nil } }
    }

    private func conclude(_ logOn: inout LogOn, _ outcome: TicketOutcome) -> LogOn.Step {
        logOn.conclude(outcome) { $0 == "alice@REALM" ? alice : nil }
    }

    @Test(arguments: SPNEGO.kerberos) func theFirstChoiceNeedsNoProof(_ mechanism: [UInt8]) throws {
        var logOn = LogOn(serverName: "HERE", takesTickets: true)
        guard case .asks([5, 6]) = step(&logOn, begin([mechanism, SPNEGO.ntlm], [5, 6])) else {
            return #expect(Bool(false))
        }
        guard case .accepted(let token, let user, let key) = conclude(&logOn, Self.good) else {
            return #expect(Bool(false))
        }
        #expect(user?.name == "alice" && key == [1, 2, 3] && logOn.seconds == 60)
        // It says which of the two names it has taken, and brings the client its own answer.
        #expect(token.firstRange(of: der(6, mechanism)) != nil)
        #expect(answer(token)?.token == [7, 7] && answer(token)?.proof == nil)
    }

    @Test func aProofIsLookedAt() {
        let mechanisms = [SPNEGO.kerberos[0], SPNEGO.ntlm]
        for (proof, isGood) in [([2] + list(mechanisms), true), ([2], false)] {
            var logOn = LogOn(serverName: "HERE", takesTickets: true)
            guard case .asks = step(&logOn, begin(mechanisms, [5], proof: proof)) else { return #expect(Bool(false)) }
            switch conclude(&logOn, Self.good) {
            case .accepted(let token, _, _): #expect(isGood && answer(token)?.proof == [1] + list(mechanisms))
            case .malformed: #expect(!isGood)
            default: #expect(Bool(false))
            }
        }
    }

    /// Somebody may have struck what the client would rather have.
    @Test func anotherChoiceIsProven() {
        let mechanisms = [stranger, SPNEGO.kerberos[1]]
        for (proof, isGood) in [([2] + list(mechanisms), true), ([2], false), (nil, false)] as [([UInt8]?, Bool)] {
            var logOn = LogOn(serverName: "HERE", takesTickets: true)
            // Its token is another mechanism's.
            guard case .goesOn = step(&logOn, begin(mechanisms, [9, 9])),
                case .asks([5]) = step(&logOn, goOn([5])),
                case .goesOn(let token) = conclude(&logOn, Self.good)
            else { return #expect(Bool(false)) }
            #expect(answer(token)?.token == [7, 7] && answer(token)?.proof == [1] + list(mechanisms))
            switch step(&logOn, goOn([], proof: proof)) {
            case .accepted(_, let user, let key): #expect(isGood && user?.name == "alice" && key == [1, 2, 3])
            case .malformed: #expect(!isGood)
            default: #expect(Bool(false))
            }
            // Once.
            if case .accepted = step(&logOn, goOn([], proof: [2] + list(mechanisms))) { #expect(Bool(false)) }
        }
    }

    @Test func whoIsNobodyHereIsRefused() {
        for outcome in [
            TicketOutcome.refused(why: ""),
            .accepted(token: [], principal: "bob@REALM", key: [1], seconds: 1, seals: Seals()),
        ] {
            var logOn = LogOn(serverName: "HERE", takesTickets: true)
            _ = step(&logOn, begin([SPNEGO.kerberos[1]], [5]))
            guard case .refused = conclude(&logOn, outcome) else { return #expect(Bool(false)) }
            #expect(!logOn.isStranger)
        }
    }

    @Test func oneTokenAtATime() {
        var logOn = LogOn(serverName: "HERE", takesTickets: true)
        guard case .asks = step(&logOn, begin([SPNEGO.kerberos[1]], [5])) else { return #expect(Bool(false)) }
        guard case .malformed = step(&logOn, goOn([5])) else { return #expect(Bool(false)) }
        var early = LogOn(serverName: "HERE", takesTickets: true)
        guard case .malformed = conclude(&early, Self.good) else { return #expect(Bool(false)) }
    }

    @Test func withoutKeysThereAreNoTickets() {
        var logOn = LogOn(serverName: "HERE")
        guard case .malformed = step(&logOn, begin([SPNEGO.kerberos[1]], [5])) else { return #expect(Bool(false)) }
        // The other mechanism is taken then.
        var other = LogOn(serverName: "HERE")
        guard case .goesOn(let token) = step(&other, begin([SPNEGO.kerberos[1], SPNEGO.ntlm], [5])) else {
            return #expect(Bool(false))
        }
        #expect(token.firstRange(of: der(6, SPNEGO.ntlm)) != nil)
        let (plain, all) = (SPNEGO.hint(takesTickets: false), SPNEGO.hint(takesTickets: true))
        for mechanism in SPNEGO.kerberos {
            #expect(plain.firstRange(of: der(6, mechanism)) == nil && all.firstRange(of: der(6, mechanism)) != nil)
        }
        #expect(plain.firstRange(of: der(6, SPNEGO.ntlm)) != nil && all.firstRange(of: der(6, SPNEGO.ntlm)) != nil)
    }
}

/// Tickets of a KDC of MIT's.
@Suite(.serialized, .enabled(if: KeyDistributionCenter.isInstalled)) struct KerberosTests {
    private enum Missing: Error { case ticket, answer }

    private func site(_ center: KeyDistributionCenter) async throws -> Site {
        var options = SMBOptions()
        options.kerberos = try KerberosCredential(keytab: center.keytab, service: "cifs")
        return try await Site(nil, [alice], options)
    }

    /// Logs on with the tickets of the environment, and looks whether the server's answer is signed by the key that both share.
    private func logOn(_ client: Guest, service: String = "cifs") throws -> (reply: Reply, isSigned: Bool) {
        let handshake = KerberosHandshake(initiating: "\(service)@localhost")
        guard case .continues(let token) = [UInt8]().withUnsafeBytes({ handshake.step($0) }) else {
            throw Missing.ticket
        }
        let reply = try client.setup(begin([SPNEGO.kerberos[0], SPNEGO.ntlm], token))
        guard reply.status == .success else { return (reply, false) }
        let theirs = try #require(answer(reply.token)).token
        guard case .complete(let context, _, _, _) = theirs.withUnsafeBytes({ handshake.step($0) }) else {
            throw Missing.answer
        }
        let key = Array(try #require(context.sessionKey).prefix(16))
        var message = reply.bytes
        for index in 48..<64 { message[index] = 0 }
        let code = MessageCode(.hmacSHA256, key: key + [UInt8](repeating: 0, count: 16 - key.count))
        code.begin()
        message.withUnsafeBytes { code.update($0) }
        var found = [UInt8](repeating: 0, count: 32)
        found.withUnsafeMutableBytes { code.finish(into: $0) }
        return (reply, Array(found.prefix(16)) == Array(reply.bytes[48..<64]))
    }

    @Test(arguments: ["aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192"])
    func aTicketIsEnough(_ encryption: String) async throws {
        let center = try KeyDistributionCenter(encryption: encryption, service: "cifs")
        let site = try await site(center)
        let client = try Guest(site.listener.address)
        // The server says so before anybody asks.
        let hint = try client.negotiate()
        #expect(SPNEGO.kerberos.allSatisfy { hint.bytes.firstRange(of: der(6, $0)) != nil })
        let (reply, isSigned) = try logOn(client)
        #expect(reply.status == .success && isSigned)
        // Neither a guest nor nobody.
        #expect(reply.bytes[66] == 0 && reply.bytes[67] == 0)
        #expect(try client.connect("default").status == .success)
        #expect(try client.open("mine", .init(disposition: 2)).status == .success)
        let (volume, caller) = (site.volume, site.caller)
        let made = try await site.done {
            Array("mine".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }
        #expect(made.uid == 10_000)
        let report = await site.server.report()
        #expect(report.sessions.map(\.user) == ["alice"] && report.sessions.allSatisfy { $0.byTicket })
        #expect(report.opens.map(\.path) == ["/mine"])
        try await site.close()
    }

    @Test func whoeverHasNoneIsRefused() async throws {
        let center = try KeyDistributionCenter(encryption: "aes256-cts-hmac-sha1-96", service: "cifs")
        let site = try await site(center)
        // Somebody whom the realm knows, and nobody here does.
        try center.logIn("mallory")
        var client = try Guest(site.listener.address)
        _ = try client.negotiate()
        #expect(try logOn(client).reply.status == .logonFailure)
        #expect(try client.connect("default").status == .userSessionDeleted)
        // What was changed on its way, or is none.
        try center.logIn("alice")
        for place in [60, 300, -20] {
            client = try Guest(site.listener.address)
            _ = try client.negotiate()
            let handshake = KerberosHandshake(initiating: "cifs@localhost")
            guard case .continues(var token) = [UInt8]().withUnsafeBytes({ handshake.step($0) }) else {
                return #expect(Bool(false))
            }
            token[place < 0 ? token.count + place : place] ^= 1
            #expect(try client.setup(begin([SPNEGO.kerberos[1]], token)).status == .logonFailure, "\(place)")
        }
        client = try Guest(site.listener.address)
        _ = try client.negotiate()
        #expect(try client.setup(begin([SPNEGO.kerberos[1]], [1, 2, 3])).status == .logonFailure)
        // The connection is good for the next try.
        #expect(try logOn(client).reply.status == .logonFailure || client.session != 0)
        client = try Guest(site.listener.address)
        _ = try client.negotiate()
        #expect(try logOn(client).reply.status == .success)
        try await site.close()
    }

    /// Whoever catches a ticket on its way to another service of this host has not logged on here.
    @Test func aTicketForAnotherServiceIsNone() async throws {
        let center = try KeyDistributionCenter(encryption: "aes256-cts-hmac-sha1-96", service: "cifs")
        try center.add(service: "nfs")
        let site = try await site(center)
        let client = try Guest(site.listener.address)
        _ = try client.negotiate()
        #expect(try logOn(client, service: "nfs").reply.status == .logonFailure)
        client.session = 0
        #expect(try logOn(client).reply.status == .success)
        try await site.close()
    }

    /// [MS-SMB2] 3.3.5.2.9, 3.3.7.1.
    @Test func aSessionEndsWithItsTicketAndGoesOnWithTheNext() async throws {
        let center = try KeyDistributionCenter(encryption: "aes256-cts-hmac-sha1-96", service: "cifs")
        let site = try await site(center)
        try center.logIn("alice", seconds: 3)
        let client = try Guest(site.listener.address)
        _ = try client.negotiate()
        #expect(try logOn(client).reply.status == .success)
        #expect(try client.connect("default").status == .success)
        let tree = client.tree
        let first = try client.open("f", .init(disposition: 3))
        let second = try client.open("g", .init(disposition: 3))
        let extra: FileHandle? = try client.open("e", .init(disposition: 3)).handle
        #expect(first.status == .success && second.status == .success)
        var late = try client.write(first.handle, "still")
        #expect(late.status == .success)
        for _ in 0..<200 where late.status == .success {
            try await Task.sleep(for: .milliseconds(50))
            late = try client.write(first.handle, "still")
        }
        #expect(late.status == .networkSessionExpired)
        #expect(try client.open("h", .init(disposition: 3)).status == .networkSessionExpired)
        #expect(try client.connect("default").status == .networkSessionExpired)
        client.tree = tree
        // Nobody in particular makes it last no longer.
        #expect(try client.beginSession().status == .moreProcessingRequired)
        #expect(try client.endSession().status == .accessDenied)
        #expect(try client.write(first.handle, "still").status == .networkSessionExpired)
        #expect(try client.open("h", .init(disposition: 3)).status == .networkSessionExpired)
        // What is open may be closed.
        #expect(try client.close(try #require(extra)).status == .success)
        try center.logIn("alice")
        let number = client.session
        #expect(try logOn(client).reply.status == .success)
        #expect(client.session == number)
        client.tree = tree
        #expect(try client.write(first.handle, "again").status == .success)
        #expect(try client.close(second.handle).status == .success)
        try await site.close()
    }
}

import CShim
import Runtime
import Synchronization
import Testing

@Suite(.serialized) struct TLSTests {
    static let first = Result { () throws(TLSFailure) in
        try TLSCertificate.selfSigned(names: ["one.test", "127.0.0.1"])
    }
    static let second = Result { () throws(TLSFailure) in
        try TLSCertificate.selfSigned(names: ["two.test", "*.wild.test"])
    }

    private func options(_ name: String, trusting certificate: TLSCertificate?) throws -> ConnectOptions {
        var tls = TLSClientOptions(serverName: name)
        tls.authorities = certificate?.chain
        var options = ConnectOptions()
        options.tls = try TLSClient(tls)
        return options
    }

    @Test func carriesBytesBothWays() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let certificate = try Self.first.get()
        var server = TLSServerOptions(certificates: [certificate])
        server.applicationProtocols = ["http/1.1"]
        let tls = try TLSServer(server)
        let serving = Script.echo()
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in serving }
        var client = TLSClientOptions(serverName: "one.test")
        client.authorities = certificate.chain
        client.applicationProtocols = ["h9", "http/1.1"]
        var options = ConnectOptions()
        options.tls = try TLSClient(client)
        // More than the buffers of both sides hold, so that both are blocked now and then.
        let bytes = pattern(5_000_000)
        let script = Script { script in
            script.onOpened = { connection in bytes.withUnsafeBytes { connection.write($0) } }
        }
        let connection = await rig.connect(listener.address, options, script)
        #expect(await eventually { script.log.received.count == bytes.count })
        #expect(script.log.received == bytes)
        #expect(script.log.identity?.tlsVersion == "TLSv1.3")
        #expect(script.log.identity?.applicationProtocol == "http/1.1")
        #expect(script.log.identity?.certificateSubject == "CN=one.test")
        #expect(serving.log.identity?.serverName == "one.test")
        await rig.loop.perform { connection.finish() }
        #expect(await eventually { script.log.closed.count == 1 && serving.log.closed.count == 1 })
        #expect(script.reason == .local && serving.reason == .local)
        #expect(serving.log.ended == 1)
        for loop in rig.loops { #expect(await loop.perform { loop.io.pool.inUse } == 0) }
    }

    @Test func theCertificateIsChosenByNameAndReloadedWhileConnectionsLive() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let (one, two) = (try Self.first.get(), try Self.second.get())
        let tls = try TLSServer(TLSServerOptions(certificates: [one, two]))
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in Script.echo() }

        func subject(_ name: String, _ trusted: TLSCertificate) async throws -> (Script, Connection) {
            let script = Script()
            let connection = await rig.connect(listener.address, try options(name, trusting: trusted), script)
            #expect(await eventually { script.log.opened == 1 || script.reason != nil })
            return (script, connection)
        }
        let (living, connection) = try await subject("one.test", one)
        #expect(living.log.identity?.certificateSubject == "CN=one.test")
        #expect(try await subject("two.test", two).0.log.identity?.certificateSubject == "CN=two.test")
        #expect(try await subject("a.wild.test", two).0.log.identity?.certificateSubject == "CN=two.test")
        #expect(try await subject("127.0.0.1", one).0.log.identity?.certificateSubject == "CN=one.test")

        let fresh = try TLSCertificate.selfSigned(names: ["one.test"])
        try tls.reload(TLSServerOptions(certificates: [fresh]))
        #expect(throws: TLSFailure.self) {
            try tls.reload(TLSServerOptions(certificates: [TLSCertificate(chain: one.chain, key: two.key)]))
        }
        if case .tls(.untrusted)? = try await subject("one.test", one).0.reason {
        } else {
            Issue.record("the old certificate is still shown")
        }
        #expect(try await subject("one.test", fresh).0.log.opened == 1)
        await rig.loop.perform { [1, 2, 3].withUnsafeBytes { connection.write($0) } }
        #expect(await eventually { living.log.received.count == 24 })
    }

    @Test func unusableConfigurationsAreRefused() throws {
        let (one, two) = (try Self.first.get(), try Self.second.get())
        let wrong = [
            TLSCertificate(chain: "", key: one.key), TLSCertificate(chain: one.chain, key: ""),
            TLSCertificate(chain: one.chain, key: two.key), TLSCertificate(chain: "rubbish", key: "rubbish"),
            TLSCertificate(
                chain: one.chain + "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n", key: one.key),
        ]
        for certificate in wrong {
            #expect(throws: TLSFailure.self) { try TLSServer(TLSServerOptions(certificates: [certificate])) }
        }
        var noAuthority = TLSServerOptions(certificates: [one])
        noAuthority.clientAuthorities = "rubbish"
        #expect(throws: TLSFailure.self) { try TLSServer(noAuthority) }
        #expect(throws: TLSFailure.self) { try TLSServer(TLSServerOptions(certificates: [])) }
        #expect(throws: TLSFailure.self) { try TLSCertificate.selfSigned(names: ["a,b"]) }
    }

    @Test func aServerThatIsSomebodyElseIsNotTrusted() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let (one, two) = (try Self.first.get(), try Self.second.get())
        let tls = try TLSServer(TLSServerOptions(certificates: [one]))
        let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in Script.echo() }
        for (name, trusted) in [("other.test", one), ("one.test", two)] {
            let script = Script()
            _ = await rig.connect(listener.address, try options(name, trusting: trusted), script)
            #expect(await eventually { script.reason != nil })
            #expect(script.log.opened == 0)
            if case .tls(.untrusted)? = script.reason {} else { Issue.record("\(String(describing: script.reason))") }
        }
    }

    @Test func clientsWithoutTheRightCertificateAreRefused() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let (one, two) = (try Self.first.get(), try Self.second.get())
        var server = TLSServerOptions(certificates: [one])
        server.clientAuthorities = two.chain
        server.clientCertificateRequired = true
        let tls = try TLSServer(server)
        for (certificate, isGood) in [(two, true), (one, false), (nil, false)] {
            let serving = Script.echo()
            let listener = try rig.listen(.loopback(port: 0), { $0.tls = tls }) { _ in serving }
            var client = TLSClientOptions(serverName: "one.test")
            client.authorities = one.chain
            client.certificate = certificate
            var options = ConnectOptions()
            options.tls = try TLSClient(client)
            let script = Script()
            _ = await rig.connect(listener.address, options, script)
            if isGood {
                #expect(await eventually { serving.log.identity?.certificateSubject == "CN=two.test" })
            } else {
                #expect(await eventually { script.reason != nil && serving.reason != nil })
                #expect(serving.log.opened == 0)
            }
        }
    }

    @Test func garbageAndSilenceInsteadOfAHandshakeEnd() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let tls = try TLSServer(TLSServerOptions(certificates: [try Self.first.get()]))
        let scripts = Guarded<[Script]>([])
        let listener = try rig.listen(
            .loopback(port: 0),
            {
                $0.tls = tls
                $0.limits.handshakeTimeout = 300 * millisecond
            }
        ) { _ in
            let script = Script.echo()
            scripts.withLock { $0.append(script) }
            return script
        }
        // A record that claims 16 KiB and never ends, plain HTTP, noise, and nothing.
        let openings: [[UInt8]] = [
            [22, 3, 1, 0x40, 0] + pattern(1000), Array("GET / HTTP/1.1\r\n\r\n".utf8), pattern(200_000), [],
        ]
        for opening in openings {
            let peer = try Peer(listener.address)
            peer.send(opening, within: 1)
            // An alert may come first.
            _ = peer.receive(1000, within: 5)
            #expect(await eventually { listener.active == 0 })
        }
        let reasons = scripts.withLock { $0.map { $0.reason } }
        #expect(reasons.first == .openTimeout && reasons.last == .openTimeout)
        for reason in reasons[1...2] {
            guard case .tls(.handshake)? = reason else {
                Issue.record("\(String(describing: reason))")
                continue
            }
        }
        #expect(scripts.withLock { $0.allSatisfy { $0.log.opened == 0 && $0.log.closed.count == 1 } })
        #expect(await rig.loop.perform { rig.loop.io.pool.inUse } == 0)
    }
}

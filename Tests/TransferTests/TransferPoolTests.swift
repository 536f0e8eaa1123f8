import Bytes
import Glibc
import ObjectStore
import Runtime
import StoreSupport
import Testing
import Transfer

/// libcurl behind our own doors: bodies both ways, limits, endings.
@Suite(.serialized) struct TransferPoolTests {
    private func get(_ port: UInt16, _ path: String = "/") -> TransferRequest {
        TransferRequest(.get, "http://127.0.0.1:\(port)\(path)")
    }

    @Test func bodiesGoBothWaysOverOneConnection() async throws {
        let server = FakeServer { request in
            .init(200, String(decoding: request.body.reversed(), as: UTF8.self), [("X-Twice", "1"), ("x-twice", "2")])
        }
        try await server.run { _, port in
            let pool = try TransferPool("test")
            var connections = 0
            for index in 0..<5 {
                var request = TransferRequest(.put, "http://127.0.0.1:\(port)/\(index)")
                request.headers = [("X-Name", "value"), ("X-Empty", "")]
                request.body = .blocks([block("ab"), block(""), block("c")])
                let reply = await pool.perform(request)
                #expect(reply.status == 200 && reply.bodyBytes == Array("cba".utf8) && reply.failure == nil)
                #expect(reply.headers["X-TWICE"] == "2")
                connections += reply.connections
            }
            #expect(connections == 1)
            let last = try #require(server.requests.last)
            #expect(last.fields["x-name"] == "value" && last.fields["x-empty"] == "" && last.fields["expect"] == nil)
            #expect(last.fields["content-length"] == "3" && last.method == "PUT")
            pool.stop()
        }
    }

    @Test func aFileGoesPieceByPieceAndWaitsForTheNetwork() async throws {
        let size = 5 << 20 | 123
        let server = FakeServer { .init(201, "\($0.body.count)") }
        server.bodyIsHeld.withLock { $0 = true }
        let bytes = pattern(size)
        try await server.run { world, port in
            let file = try world.disk.open("body", [.write, .create])
            try file.write(bytes.bytes, at: 0)
            file.close()
            let pool = try TransferPool("test")
            world.loops[1].execute {
                _ = world.loops[1].schedule(after: 200_000_000) { server.bodyIsHeld.withLock { $0 = false } }
            }
            let reply = try await BodySender(world: world, loop: world.loops[0]).send(
                TransferRequest(.put, "http://127.0.0.1:\(port)/file"), .file(path: "body", size: UInt64(size)),
                over: pool)
            #expect(reply.status == 201)
            #expect(server.requests.first?.body == bytes.array)
            pool.stop()
        }
    }

    @Test func aQueueHoldsFewPiecesAndItsFeederHearsOfTheEnd() async throws {
        try await withWorld { world in
            let queue = PieceQueue()
            for _ in 0..<PieceQueue.piecesMax { #expect(await queue.push(block("x"))) }
            let waiting = world.loops[0].task { await queue.push(block("y")) }
            await world.loops[0].sleep(nanoseconds: 20_000_000)
            var room = [UInt8](repeating: 0, count: 8)
            #expect(room.withUnsafeMutableBytes { queue.take(into: $0) } == 1)
            #expect(await waiting.value)
            let late = world.loops[0].task { await queue.push(block("z")) }
            await world.loops[0].sleep(nanoseconds: 20_000_000)
            queue.close()
            #expect(await late.value == false)
            #expect(await queue.push(block("")) == false)
        }
    }

    @Test func aBodyThatEndsTooEarlyIsNoPut() async throws {
        let server = FakeServer { _ in .init(201) }
        try await server.run { world, port in
            let file = try world.disk.open("short", [.write, .create])
            try file.write(block("short").bytes, at: 0)
            file.close()
            let pool = try TransferPool("test")
            let start = world.clock.monotonic()
            await #expect(throws: StoreError.self) {
                _ = try await BodySender(world: world, loop: world.loops[0]).send(
                    TransferRequest(.put, "http://127.0.0.1:\(port)/file"), .file(path: "short", size: 100), over: pool)
            }
            #expect(server.requests.isEmpty)
            // At once, not when the server has waited for the rest long enough.
            #expect(world.clock.monotonic() - start < 10_000_000_000)
            pool.stop()
        }
    }

    @Test func aHangHoldsUpNobodyElseAndEndsAtItsLimit() async throws {
        let server = FakeServer { request in
            var answer = FakeServer.Answer(200, "here")
            if request.path == "/hang" { answer.delayNanoseconds = nil }
            return answer
        }
        try await server.run { world, port in
            let pool = try TransferPool("test")
            var slow = get(port, "/hang")
            slow.limitNanoseconds = 400_000_000
            let request = slow
            let start = world.clock.monotonic()
            let hanging = world.loops[0].task { await pool.perform(request) }
            for _ in 0..<10 { #expect(await pool.perform(get(port)).status == 200) }
            #expect(world.clock.monotonic() - start < 400_000_000)
            let reply = await hanging.value
            #expect(reply.status == 0 && reply.failure?.kind == .timeout)
            #expect(world.clock.monotonic() - start < 3_000_000_000)
            pool.stop()
        }
    }

    @Test func silenceEndsATransfer() async throws {
        let server = FakeServer { _ in
            var answer = FakeServer.Answer(200)
            answer.delayNanoseconds = nil
            return answer
        }
        try await server.run { world, port in
            var options = TransferPool.Options()
            options.silentSeconds = 1
            let pool = try TransferPool("test", options)
            let start = world.clock.monotonic()
            let reply = await pool.perform(get(port))
            #expect(reply.failure?.kind == .timeout)
            #expect(world.clock.monotonic() - start < 8_000_000_000)
            pool.stop()
        }
    }

    @Test func whatIsGivenUpEndsAtOnce() async throws {
        let server = FakeServer { _ in
            var answer = FakeServer.Answer(200)
            answer.delayNanoseconds = nil
            return answer
        }
        try await server.run { world, port in
            let pool = try TransferPool("test")
            let request = get(port)
            let task = world.loops[0].task { await pool.perform(request) }
            await world.loops[0].sleep(nanoseconds: 50_000_000)
            task.cancel()
            #expect(await task.value.failure?.kind == .canceled)
            let early = world.loops[0].task {
                await world.loops[0].sleep(nanoseconds: 20_000_000)
                return await pool.perform(request)
            }
            early.cancel()
            #expect(await early.value.failure?.kind == .canceled)
            let last = world.loops[0].task { await pool.perform(request) }
            await world.loops[0].sleep(nanoseconds: 50_000_000)
            pool.stop()
            #expect(await last.value.failure?.kind == .refused)
            #expect(await pool.perform(request).failure?.kind == .refused)
        }
    }

    @Test func answersAreBounded() async throws {
        let server = FakeServer { request in
            .init(request.path == "/error" ? 404 : 200, String(repeating: "x", count: 1000))
        }
        try await server.run { _, port in
            let pool = try TransferPool("test")
            for (max, path, status) in [(1000, "/", 200), (999, "/", 0), (10, "/error", 404)] {
                var request = get(port, path)
                request.answerBytesMax = max
                let reply = await pool.perform(request)
                #expect(reply.status == status && (status != 0 || reply.failure?.kind == .tooLarge), "\(max) \(path)")
            }
            pool.stop()
        }
    }

    @Test func aBodyThatIsCutIsNoAnswer() async throws {
        let server = FakeServer { _ in
            var answer = FakeServer.Answer(200, String(repeating: "x", count: 1000))
            answer.cutAt = 600
            return answer
        }
        try await server.run { _, port in
            let pool = try TransferPool("test")
            let reply = await pool.perform(get(port))
            #expect(reply.status == 0 && reply.body == nil && reply.failure?.kind == .broken)
            pool.stop()
        }
    }

    /// The server may have applied what it did not answer: whoever sends it again must know that it is the second time.
    @Test func aBodyIsNeverSentTwiceBehindOurBack() async throws {
        let count = Guarded(0)
        let server = FakeServer { request in
            let number = count.withLock { count in
                count += 1
                return count
            }
            var answer = FakeServer.Answer(201)
            // The second request on the connection: applied, and the connection breaks without a byte of an answer.
            if number == 2 { answer.delayNanoseconds = nil }
            return answer
        }
        try await server.run { world, port in
            let pool = try TransferPool("test")
            var request = TransferRequest(.put, "http://127.0.0.1:\(port)/once")
            request.body = .blocks([block("body")])
            #expect(await pool.perform(request).status == 201)
            let second = request
            let task = world.loops[0].task { await pool.perform(second) }
            for _ in 0..<500 where server.requests.count < 2 { await world.loops[0].sleep(nanoseconds: 10_000_000) }
            breakConnections(to: port)
            #expect(await task.value.failure?.kind == .broken)
            #expect(server.requests.count == 2)
            pool.stop()
        }
    }

    /// Shuts this process's own sockets that are connected to a port, as if the server had.
    private func breakConnections(to port: UInt16) {
        for fd in Int32(3)..<1024 {
            var address = sockaddr_in()
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let result = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(fd, $0, &size) }
            }
            if result == 0, address.sin_family == sa_family_t(AF_INET), UInt16(bigEndian: address.sin_port) == port {
                shutdown(fd, Int32(SHUT_RDWR))
            }
        }
    }

    @Test func whoCanNotProveHimselfIsRefused() async throws {
        let certificate = try TLSCertificate.selfSigned(names: ["127.0.0.1", "localhost"])
        let tls = try TLSServer(TLSServerOptions(certificates: [certificate]))
        let server = FakeServer { _ in .init(200, "secret") }
        try await server.run(tls: tls) { world, port in
            let request = TransferRequest(.get, "https://localhost:\(port)/")
            let strict = try TransferPool("test")
            let refused = await strict.perform(request)
            #expect(refused.status == 0 && refused.failure?.kind == .tls)
            strict.stop()
            let name = temporaryFile(certificate.chain)
            defer { unlink(name) }
            var options = TransferPool.Options()
            options.authoritiesFile = name
            let pool = try TransferPool("test", options)
            #expect(await pool.perform(request).status == 200)
            pool.stop()
        }
    }

    @Test func aProxyIsPassedByOnlyWhereItIsSaidSo() async throws {
        let server = FakeServer { _ in .init(200, "here") }
        try await server.run { _, port in
            var options = TransferPool.Options()
            options.proxy = "http://127.0.0.1:1"
            let pool = try TransferPool("test", options)
            var request = get(port)
            #expect(await pool.perform(request).failure?.kind == .unreachable)
            request.usesProxy = false
            #expect(await pool.perform(request).status == 200)
            pool.stop()
        }
    }

    @Test func whatCanNotBeSentIsRefused() async throws {
        try await withWorld { _ in
            let pool = try TransferPool("test")
            var split = TransferRequest(.get, "http://127.0.0.1:1/")
            split.headers = [("X-A", "b\r\nX-C: d")]
            #expect(await pool.perform(split).failure?.kind == .refused)
            #expect(await pool.perform(TransferRequest(.get, "file:///etc/passwd")).failure?.kind == .refused)
            #expect(await pool.perform(TransferRequest(.get, "http://127.0.0.1:1/")).failure?.kind == .unreachable)
            pool.stop()
        }
    }

    @Test func whatIsPrintedHasNoSecrets() {
        var request = TransferRequest(.get, "http://host/path?X-Amz-Signature=SECRET")
        request.headers = [("Authorization", "SECRET")]
        var text = "\(request) \(String(reflecting: request))"
        dump(request, to: &text)
        #expect(!text.contains("SECRET"))
    }

    @Test func endpoints() {
        let good = [
            ("https://s3.example.org", "https://s3.example.org"), ("http://Host:80/", "http://host"),
            ("https://h:8443/base/", "https://h:8443/base"), ("http://[::1]:90", "http://[::1]:90"),
        ]
        for (text, wanted) in good { #expect(Endpoint(text)?.description == wanted) }
        for text in [
            "", "host", "ftp://host", "https://", "https://user@host", "https://user:pass@host", "https://h:0",
            "https://h:99999", "https://h/a?b", "https://h/a b", "https://h\r\n", "https://[::1", "https://a:b:c",
        ] { #expect(Endpoint(text) == nil, "\(text)") }
        #expect(Endpoint.escape("a/b c~é", keepsSlash: true) == "a/b%20c~%C3%A9" && Endpoint.escape("a/b") == "a%2Fb")
    }
}

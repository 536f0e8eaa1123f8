import Bytes
import HTTP
import Runtime
import Synchronization
import TestSupport
import Testing

private let megabyte = 1 << 20

/// Answers by path what the tests ask for, and counts how its exchanges ended.
private final class Service: RequestHandler {
    let completed = Atomic(0)
    let abandoned = Atomic(0)
    let bodyBytes = Atomic(0)
    let written = Atomic(0)
    /// While it is true, `/later` keeps its answers back.
    let isHeld = Atomic(false)
    /// How often an upload was held back.
    let pauses = Atomic(0)

    func begin(_ exchange: Exchange) -> (any ExchangeHandler)? {
        switch exchange.head.path {
        case "/early":
            exchange.respond(.forbidden, text: "no")
            return nil
        case "/later": return Later(self)
        case "/download": return Download(self)
        case "/chunks": return Chunks(self)
        case "/short": return Short(self)
        case "/never": return Never(self)
        case "/slowly": return Slowly(self)
        default: return Echo(self)
        }
    }

    class Part: ExchangeHandler {
        let service: Service
        init(_ service: Service) { self.service = service }
        func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) {
            service.bodyBytes.wrappingAdd(bytes.count, ordering: .relaxed)
        }
        func completed(_ exchange: Exchange) { service.completed.wrappingAdd(1, ordering: .relaxed) }
        func drained(_ exchange: Exchange) {}
        func abandoned(_ exchange: Exchange) { service.abandoned.wrappingAdd(1, ordering: .relaxed) }
    }

    /// The body's bytes, or their number when they are many.
    final class Echo: Part {
        private var body: [UInt8] = []
        private var count = 0
        override func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) {
            super.received(bytes, of: exchange)
            count += bytes.count
            if body.count < 100 { body.append(contentsOf: bytes) }
        }
        override func completed(_ exchange: Exchange) {
            super.completed(exchange)
            exchange.respond(
                .ok, ResponseFields(contentType: "text/plain"),
                text: count < 100 ? String(decoding: body, as: UTF8.self) : "\(count)")
        }
    }

    final class Later: Part {
        override func completed(_ exchange: Exchange) {
            super.completed(exchange)
            exchange.loop.task { [service] in
                repeat {
                    await exchange.loop.sleep(nanoseconds: 20_000_000)
                } while service.isHeld.load(ordering: .relaxed)
                exchange.respond(.ok, text: exchange.head.query ?? "")
            }
        }
    }

    /// 64 MiB, as fast as they are taken.
    final class Download: Part {
        private var rest = 64 * megabyte
        private let block: Block = {
            let block = Block(capacity: megabyte)
            block.count = megabyte
            return block
        }()
        override func completed(_ exchange: Exchange) {
            exchange.begin(.ok, length: .bytes(UInt64(rest)))
            drained(exchange)
        }
        override func drained(_ exchange: Exchange) {
            guard rest > 0 else { return }
            while rest > 0, !exchange.isOutputFull {
                exchange.write(block, count: megabyte)
                rest -= megabyte
                service.written.wrappingAdd(megabyte, ordering: .relaxed)
            }
            if rest == 0 { exchange.end() }
        }
    }

    final class Chunks: Part {
        override func completed(_ exchange: Exchange) {
            exchange.begin(.ok, length: .unknown)
            for word in ["one", "", "three"] { Array(word.utf8).withUnsafeBytes { exchange.write($0) } }
            exchange.end()
        }
    }

    /// Promises more than it has.
    final class Short: Part {
        override func completed(_ exchange: Exchange) {
            exchange.begin(.ok, length: .bytes(10))
            Array("half!".utf8).withUnsafeBytes { exchange.write($0) }
            exchange.end()
        }
    }

    final class Never: Part {}

    /// Takes each piece only after a while.
    final class Slowly: Part {
        override func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) {
            super.received(bytes, of: exchange)
            exchange.pauseBody()
            service.pauses.wrappingAdd(1, ordering: .relaxed)
            _ = exchange.loop.schedule(after: 1_000_000) { exchange.resumeBody() }
        }
        override func completed(_ exchange: Exchange) {
            super.completed(exchange)
            exchange.respond(.noContent)
        }
    }
}

/// A server on a loop of its own.
private final class Rig: Sendable {
    let loops: [EventLoop]
    let service = Service()
    let listener: Listener

    init(_ change: (inout HTTPLimits) -> Void = { _ in }) throws {
        var limits = HTTPLimits()
        change(&limits)
        loops = [try EpollLoop(index: 0), try EpollLoop(index: 1)]
        listener = try HTTPServer(service, limits: limits, clock: SystemClock())
            .listen(on: .loopback(port: 0), network: EpollNetwork(), loops: loops)
    }

    deinit { for loop in loops { (loop as? EpollLoop)?.stop() } }

    func peer() throws -> Peer { try Peer(listener.address) }

    /// What the server says to `text` until it ends.
    func answer(_ text: String) throws -> String {
        let peer = try peer()
        peer.send(text)
        return peer.receiveAll()
    }
}

@Suite(.serialized) struct HTTPServerTests {
    private func body(_ answer: String) -> Substring {
        guard let end = answer.firstRange(of: "\r\n\r\n") else { return "" }
        return answer[end.upperBound...]
    }

    @Test func answersPipelinedRequestsInTheirOrder() throws {
        let rig = try Rig()
        let answer = try rig.answer(
            "GET /later?1 HTTP/1.1\r\nHost: h\r\n\r\nPUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\ntwo"
                + "GET /later?3 HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\nGET /never HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(answer.ranges(of: "HTTP/1.1 200 OK\r\n").count == 3)
        #expect(answer.ranges(of: "connection: close\r\n").count == 1)
        #expect(answer.contains("date: "))
        let bodies = answer.ranges(of: "\r\n\r\n").map { answer[$0.upperBound...].prefix(3) }
        #expect(bodies.map { $0.filter { !"HTTP/".contains($0) } } == ["1", "two", "3"])
    }

    @Test func oldClientsAreServedUntilTheConnectionEnds() throws {
        let rig = try Rig()
        let answer = try rig.answer("GET /chunks HTTP/1.0\r\n\r\n")
        #expect(answer.contains("connection: close") && !answer.contains("chunked"))
        #expect(body(answer) == "onethree")
        let peer = try rig.peer()
        peer.send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(peer.receive(through: "\r\n\r\n").contains("connection: keep-alive"))
        peer.send("GET /echo HTTP/1.0\r\n\r\n")
        #expect(peer.receiveAll().contains("connection: close"))
    }

    @Test func answersOfUnknownLengthAreChunked() throws {
        let rig = try Rig()
        let answer = try rig.answer("GET /chunks HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        #expect(body(answer) == "3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")
    }

    @Test func anAnswerToHeadHasNoBody() throws {
        let rig = try Rig()
        for path in ["/chunks", "/download", "/echo"] {
            let answer = try rig.answer("HEAD \(path) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 200"))
            #expect(body(answer) == "")
        }
    }

    @Test func anAnswerThatEndsTooEarlyBreaksTheConnection() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        peer.send("GET /short HTTP/1.1\r\nHost: h\r\n\r\nGET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
        let answer = peer.receiveAll()
        #expect(!answer.dropFirst(8).contains("HTTP/1.1"))
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: x\r\n\r\n", 417),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ])
    func badRequestsAreAnsweredAndEndTheConnection(_ text: String, _ status: Int) async throws {
        let rig = try Rig()
        let answer = try rig.answer(text + "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
        #expect(answer.ranges(of: "HTTP/1.1").count == 1)
        #expect(await eventually { rig.listener.active == 0 })
        #expect(rig.service.completed.load(ordering: .relaxed) == 0)
    }

    @Test func continueIsSaidWhenTheBodyIsWantedAndOnlyThen() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        peer.send("PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        #expect(peer.receive(through: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
        peer.send("hello")
        #expect(peer.receive(through: "hello").hasSuffix("\r\n\r\nhello"))
        // An answer at once: nobody knows whether the body follows, so the connection ends.
        peer.send("PUT /early HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        let answer = peer.receiveAll()
        #expect(answer.hasPrefix("HTTP/1.1 403") && answer.contains("connection: close"))
    }

    @Test func theRestOfAnUnwantedBodyIsDroppedUpToALimit() throws {
        let rig = try Rig { $0.discardMax = 1000 }
        let peer = try rig.peer()
        let next = "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        peer.send(
            "PUT /early HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + String(repeating: "x", count: 1000)
                + next)
        #expect(peer.receiveAll().ranges(of: "HTTP/1.1").count == 2)
        for framing in ["Content-Length: 1001\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3e9\r\n"] {
            let other = try rig.peer()
            let end = framing.hasPrefix("C") ? "" : "\r\n0\r\n\r\n"
            other.send(
                "PUT /early HTTP/1.1\r\nHost: h\r\n" + framing + String(repeating: "x", count: 1001) + end + next)
            let answer = other.receiveAll()
            #expect(answer.hasPrefix("HTTP/1.1 403") && answer.ranges(of: "HTTP/1.1").count == 1)
        }
    }

    /// A client that sends all of a body before it looks for the answer finds it, though it was given long before.
    @Test func aRefusalIsReadByWhoStillSends() async throws {
        let rig = try Rig()
        let peer = try rig.peer()
        let piece = [UInt8](repeating: 7, count: 256 << 10)
        peer.send("PUT /early HTTP/1.1\r\nHost: h\r\nContent-Length: \(12 * piece.count)\r\n\r\n")
        for _ in 0..<12 {
            #expect(peer.send(piece) == piece.count)
            try await Task.sleep(nanoseconds: 200_000_000)
        }
        #expect(peer.receiveAll().hasPrefix("HTTP/1.1 403"))
    }

    @Test func aLargeUploadIsHeldBackAndNeverPilesUp() throws {
        let rig = try Rig()
        let peer = try rig.peer()
        let size = 8 * megabyte
        peer.send("PUT /slowly HTTP/1.1\r\nHost: h\r\nContent-Length: \(size)\r\n\r\n")
        #expect(peer.send([UInt8](repeating: 7, count: size)) == size)
        #expect(peer.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 204"))
        #expect(rig.service.bodyBytes.load(ordering: .relaxed) == size)
        // No piece is larger than the connection's buffer.
        #expect(rig.service.pauses.load(ordering: .relaxed) >= size / (256 << 10))
    }

    @Test func aLargeDownloadWaitsForItsReader() async throws {
        let rig = try Rig()
        let peer = try rig.peer()
        peer.send("GET /download HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        #expect(await eventually { rig.service.written.load(ordering: .relaxed) > 0 })
        try await Task.sleep(nanoseconds: 50_000_000)
        #expect(rig.service.written.load(ordering: .relaxed) < 32 * megabyte)
        let bytes = peer.receive { _ in false }
        #expect(bytes.count > 64 * megabyte && bytes.count < 64 * megabyte + 500)
    }

    @Test func handlersHearOfPeersThatLeave() async throws {
        let rig = try Rig()
        var peers: [Peer] = []
        for text in [
            "GET /download HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
        ] {
            peers.append(try rig.peer())
            peers.last?.send(text)
        }
        #expect(
            await eventually {
                rig.service.bodyBytes.load(ordering: .relaxed) == 1 && rig.service.written.load(ordering: .relaxed) > 0
            })
        peers = []
        #expect(await eventually { rig.service.abandoned.load(ordering: .relaxed) == 2 })
        #expect(await eventually { rig.listener.active == 0 })
    }

    @Test func eachTimeoutEndsTheConnection() async throws {
        let rig = try Rig {
            $0.headTimeout = 100_000_000
            $0.bodyTimeout = 150_000_000
            $0.idleTimeout = 200_000_000
        }
        let head = try rig.peer(), body = try rig.peer(), idle = try rig.peer(), answer = try rig.peer()
        head.send("GET / HT")
        body.send("PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx")
        idle.send("GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
        answer.send("GET /never HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(head.receiveAll() == "")
        #expect(body.receiveAll().hasPrefix("HTTP/1.1 408"))
        #expect(idle.receiveAll().hasPrefix("HTTP/1.1 200"))
        // An answer that we owe has no such limit.
        #expect(answer.receive(within: 0.6) { !$0.isEmpty }.isEmpty)
        #expect(await eventually { rig.listener.active == 1 }, "\(rig.listener.active)")
        #expect(rig.service.abandoned.load(ordering: .relaxed) == 1)
    }

    /// Single bytes do not keep a connection; what comes slowly and steadily does.
    @Test func aBodyByBytesEnds() async throws {
        let rig = try Rig {
            $0.bodyTimeout = 1_000_000_000
            $0.bodyBytesMin = 300
        }
        let slow = try rig.peer(), steady = try rig.peer()
        for peer in [slow, steady] { peer.send("PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n") }
        for _ in 0..<20 {
            slow.send("x")
            steady.send(String(repeating: "y", count: 100))
            try await Task.sleep(for: .milliseconds(100))
        }
        #expect(slow.receiveAll().hasPrefix("HTTP/1.1 408"))
        #expect(steady.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 200"))
    }

    @Test func theConnectionBeyondTheLimitIsClosed() async throws {
        let rig = try Rig { $0.connectionsMax = 3 }
        let request = "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"
        let peers = try (0..<3).map { _ in try rig.peer() }
        for peer in peers {
            peer.send(request)
            #expect(peer.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 200"))
        }
        #expect(rig.listener.refused == 0)
        let fourth = try rig.peer()
        #expect(fourth.receiveAll() == "")
        #expect(rig.listener.refused == 1 && rig.listener.active == 3)
        for peer in peers {
            peer.send(request)
            #expect(peer.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func aDrainLetsAnswersFinish() async throws {
        let rig = try Rig()
        let busy = try rig.peer(), quiet = try rig.peer()
        quiet.send("GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(quiet.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 200"))
        rig.service.isHeld.store(true, ordering: .relaxed)
        busy.send("GET /later?done HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(await eventually { rig.service.completed.load(ordering: .relaxed) == 2 })
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await rig.listener.drain(within: 30_000_000_000) }
            // A quiet connection ends at once: the drain has begun, and only then comes the answer that it waits for.
            let isQuietEnded = await eventually { rig.listener.active == 1 }
            #expect(isQuietEnded)
            rig.service.isHeld.store(false, ordering: .relaxed)
            let answer = busy.receiveAll()
            #expect(answer.hasSuffix("done") && answer.contains("connection: close"))
            #expect(quiet.receiveAll() == "")
        }
        #expect(rig.listener.active == 0)
    }
}

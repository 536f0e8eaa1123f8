import Bytes
import HTTP
import Runtime
import Simulator
import TestSupport
import Testing

private let second: UInt64 = 1_000_000_000

/// Answers with what is asked for as a path: so many bytes, under a limit of output if there is a query.
private final class Sender: RequestHandler, ExchangeHandler {
    nonisolated(unsafe) var abandoned = 0
    /// How much may be pending when an answer begins.
    nonisolated(unsafe) var pending: [Int] = []

    func begin(_ exchange: Exchange) -> (any ExchangeHandler)? { self }

    func completed(_ exchange: Exchange) {
        let count = Int(exchange.head.path.dropFirst()) ?? 0
        exchange.begin(.ok, length: .bytes(UInt64(count)))
        if let limit = exchange.head.query.flatMap({ Int($0) }) { exchange.limitOutput(limit) }
        let block = Block(capacity: count)
        block.count = count
        exchange.write(block, count: count)
        pending.append(exchange.isOutputFull ? 1 : 0)
        exchange.end()
    }

    func abandoned(_ exchange: Exchange) { abandoned += 1 }
}

/// Takes some bytes of what comes, then nothing for a while; without a pause, all.
private final class Reader: ConnectionHandler {
    let step: Int
    let pause: UInt64
    private(set) var count = 0
    private(set) var isClosed = false

    init(_ step: Int = 0, each pause: UInt64 = 0) { (self.step, self.pause) = (step, pause) }

    func opened(_ connection: Connection) { if step > 0 { next(connection) } }
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int { step > 0 ? 0 : bytes.count }

    private func next(_ connection: Connection) { connection.fill(Block(capacity: step), count: step) }

    func filled(_ block: Block, on connection: Connection) {
        count += block.count
        connection.pauseReading()
        _ = connection.loop.schedule(after: pause) { [self] in
            guard !isClosed else { return }
            next(connection)
            connection.resumeReading()
        }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) { isClosed = true }
}

/// Time is what a client can take most of. A network of which every byte is seen shows how much.
@Suite struct SlowReaderTests {
    private static let address = SocketAddress.ipv4(0, port: 80)

    private func serve(_ simulation: Simulation, _ sender: Sender) throws -> Listener {
        try HTTPServer(sender, clock: simulation.world.clock).listen(
            on: Self.address, network: simulation.network(of: "server"), loops: [simulation.loop])
    }

    private func connect(_ simulation: Simulation, _ text: String, _ handler: any ConnectionHandler) -> Connection {
        let connection = simulation.network(of: "client").connect(
            to: simulation.address(of: "server", port: 80), ConnectOptions(), on: simulation.loop, handler: handler)
        Array(text.utf8).withUnsafeBytes { connection.write($0) }
        return connection
    }

    /// Single bytes keep no connection; what is taken slowly and steadily does, and an answer ends though it is a short one.
    @Test(arguments: [(1, 10, false), (500, 10, false), (1000, 10, true), (64 << 10, 50, true)])
    func whoTakesBytes(_ step: Int, _ pause: UInt64, _ isKept: Bool) throws {
        let simulation = Simulation(seed: 1)
        let sender = Sender()
        let listener = try serve(simulation, sender)
        let reader = Reader(step, each: pause * second)
        let connection = connect(simulation, "GET /20000000 HTTP/1.1\r\nHost: h\r\n\r\n", reader)
        simulation.run(for: 1200 * second)
        #expect(listener.active == (isKept ? 1 : 0), "\(reader.count)")
        connection.abort()
        simulation.run(for: second)
    }

    /// A socket that is full tells late that its reader goes on: until a third of it has gone nothing happens here.
    @Test(arguments: [(32 << 10, true), (0, false)]) func behindAFullSocket(_ step: Int, _ isKept: Bool) async throws {
        let loop = try EpollLoop(index: 0)
        defer { loop.stop() }
        var limits = HTTPLimits()
        limits.writeTimeout = 2 * second
        let count = 8 << 20
        let listener = try HTTPServer(Sender(), limits: limits, clock: SystemClock()).listen(
            on: .loopback(port: 0), network: EpollNetwork(), loops: [loop])
        let peer = try Peer(listener.address)
        peer.limitInput(64 << 10)
        peer.send("GET /\(count) HTTP/1.1\r\nHost: h\r\n\r\n")
        var bytes = 0
        for _ in 0..<28 {
            try await Task.sleep(nanoseconds: second / 4)
            if step > 0 { bytes += peer.receive { $0.count >= step }.count }
        }
        #expect(listener.active == (isKept ? 1 : 0), "\(bytes)")
        if isKept {
            #expect(bytes < count / 2)
            bytes += peer.receive { bytes + $0.count > count }.count
            #expect(bytes > count)
        }
        peer.close()
        await listener.drain(within: second)
    }

    /// Who has taken all that there was waits for as long as he likes between requests.
    @Test func shortAnswersAreTakenWhole() throws {
        let simulation = Simulation(seed: 2)
        let sender = Sender()
        let listener = try serve(simulation, sender)
        let connection = connect(simulation, "GET /10 HTTP/1.1\r\nHost: h\r\n\r\n", Reader())
        for _ in 0..<6 {
            simulation.run(for: 60 * second)
            Array("GET /10 HTTP/1.1\r\nHost: h\r\n\r\n".utf8).withUnsafeBytes { connection.write($0) }
        }
        simulation.run(for: second)
        #expect(listener.active == 1 && sender.pending.count == 7)
        connection.abort()
        simulation.run(for: second)
    }

    /// What one answer was held to, the next one is not.
    @Test func aLimitIsOfOneAnswer() throws {
        let simulation = Simulation(seed: 3)
        let sender = Sender()
        let listener = try serve(simulation, sender)
        let connection = connect(
            simulation, "GET /5000?1000 HTTP/1.1\r\nHost: h\r\n\r\nGET /5000 HTTP/1.1\r\nHost: h\r\n\r\n", Reader())
        simulation.run(for: 5 * second)
        #expect(sender.pending == [1, 0] && listener.active == 1)
        connection.abort()
        simulation.run(for: second)
    }
}

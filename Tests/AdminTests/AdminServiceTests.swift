import Admin
import Bytes
import HTTP
import Logging
import Metrics
import Runtime
import Simulator
import TestSupport
import Testing

@Suite(.serialized) struct AdminServiceTests {
    static let token = String(repeating: "0123456789abcdef", count: 4)

    /// What the service says to `request`, its head without Host and Connection.
    private func answer(
        _ request: String, _ authorization: [String] = [], prepare: (AdminService) -> Void = { _ in }
    ) throws -> String {
        let loop = try EpollLoop(index: 0)
        defer { loop.stop() }
        let metrics = MetricsRegistry()
        metrics.add(loops: [loop])
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        let service = AdminService(
            token: AdminToken(Self.token), metrics: metrics, version: "{\"version\":\"1\"}", logger: logger)
        prepare(service)
        let listener = try HTTPServer(service, clock: SystemClock())
            .listen(on: .loopback(port: 0), network: EpollNetwork(), loops: [loop])
        let peer = try Peer(listener.address)
        let fields = authorization.map { "Authorization: \($0)\r\n" }.joined()
        peer.send("\(request) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\(fields)\r\n")
        return peer.receiveAll()
    }

    @Test func openPathsNeedNoToken() throws {
        #expect(try answer("GET /healthz").hasSuffix("\r\n\r\nok\n"))
        #expect(try answer("GET /version").hasSuffix("\r\n\r\n{\"version\":\"1\"}\n"))
        #expect(try answer("HEAD /healthz").hasSuffix("\r\n\r\n"))
        let waiting = try answer("GET /readyz") { $0.set(.waiting("no volume")) }
        #expect(waiting.hasPrefix("HTTP/1.1 503") && waiting.hasSuffix("not ready: no volume\n"))
        #expect(try answer("GET /readyz") { $0.set(.ready) }.hasPrefix("HTTP/1.1 200"))
        let posted = try answer("POST /healthz")
        #expect(posted.hasPrefix("HTTP/1.1 405") && posted.contains("allow: GET, HEAD\r\n"))
    }

    @Test func allElseNeedsIt() throws {
        let bad = [
            [], ["Bearer " + Self.token.dropLast()], ["Bearer " + Self.token + "0"], ["Basic " + Self.token],
            [Self.token],
            ["Bearer"], ["Bearer "], ["Bearer " + String(repeating: "f", count: 64)],
            ["Bearer " + Self.token, "Bearer " + Self.token],
        ]
        for path in ["/metrics", "/nowhere", "/", "/healthz/", "/more"] {
            for given in bad {
                let refused = try answer("GET \(path)", given) { $0.add("/more", .init([.get]) { _ in nil }) }
                #expect(refused.hasPrefix("HTTP/1.1 401"), "\(path) \(given)")
                #expect(refused.contains("www-authenticate: Bearer"))
            }
        }
        #expect(try answer("GET /nowhere", ["Bearer " + Self.token]).hasPrefix("HTTP/1.1 404"))
        let metrics = try answer("GET /metrics?x", ["bearer " + Self.token])
        #expect(metrics.hasPrefix("HTTP/1.1 200"))
        #expect(metrics.contains("\nproxyfs_connections_opened_total{loop=\"0\"} 1\n"))
    }

    @Test func theTokenIsMadeOnceAndKept() throws {
        let simulation = Simulation(seed: 3)
        let first = try AdminToken.load(simulation.world.disk, simulation.world.random)
        simulation.crash()
        simulation.restart()
        let file = try simulation.world.disk.open(AdminToken.file, [.write])
        let block = Block(capacity: 100)
        let count = try file.read(into: block.free, at: 0)
        block.count = count
        let text = String(decoding: block.bytes, as: UTF8.self)
        #expect(count == 2 * AdminToken.bytes + 1)
        let again = try AdminToken.load(simulation.world.disk, simulation.world.random)
        for token in [first, again] { #expect(token.admits("Bearer " + text.dropLast())) }
        // What is no token is told, never replaced: somebody may have put it there for a reason.
        try file.truncate(UInt64(count - 2))
        #expect(throws: SecretFile.Problem.damaged) {
            try AdminToken.load(simulation.world.disk, simulation.world.random)
        }
    }
}

import Bytes
import Glibc
import HTTP
import Runtime

/// A server of HTTP that answers as a test wants, and remembers what it was asked.
package final class FakeServer: RequestHandler {
    package struct Request: Sendable {
        package var method = ""
        package var target = ""
        package var path = ""
        package var query: [String: String] = [:]
        package var fields: [String: String] = [:]
        package var body: [UInt8] = []
    }

    package struct Answer: Sendable {
        package var status: Int
        package var fields: [(String, String)] = []
        package var body: [UInt8] = []
        /// Sent, of the body; then the connection breaks.
        package var cutAt: Int?
        /// Before it is sent; nil: never.
        package var delayNanoseconds: UInt64? = 0

        package init(_ status: Int, _ text: String = "", _ fields: [(String, String)] = []) {
            self.status = status
            self.fields = fields
            body = Array(text.utf8)
        }
    }

    private let log = Guarded<[Request]>([])
    private let answer: @Sendable (Request) -> Answer
    /// Takes no more than this of a body until told otherwise.
    package let bodyIsHeld = Guarded(false)

    package init(_ answer: @escaping @Sendable (Request) -> Answer) { self.answer = answer }

    package var requests: [Request] { log.withLock { $0 } }

    package func begin(_ exchange: Exchange) -> (any ExchangeHandler)? { Part(self, exchange.head) }

    private final class Part: ExchangeHandler {
        private let server: FakeServer
        private var request = Request()

        init(_ server: FakeServer, _ head: RequestHead) {
            self.server = server
            request.method = head.method.name
            request.target = head.target
            request.path = Part.plain(head.path)
            for pair in (head.query ?? "").split(separator: "&") {
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                request.query[Part.plain(String(parts[0]))] = parts.count > 1 ? Part.plain(String(parts[1])) : ""
            }
            for index in 0..<head.fields.count {
                request.fields[head.fields.name(at: index)] = head.fields.value(at: index)
            }
        }

        private static func plain(_ text: String) -> String {
            var bytes: [UInt8] = []
            var rest = Array(text.utf8)[...]
            while let byte = rest.popFirst() {
                guard byte == UInt8(ascii: "%"), rest.count >= 2 else {
                    bytes.append(byte)
                    continue
                }
                bytes.append(UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) ?? 0)
                rest = rest.dropFirst(2)
            }
            return String(decoding: bytes, as: UTF8.self)
        }

        func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) {
            request.body.append(contentsOf: bytes)
            guard server.bodyIsHeld.withLock({ $0 }) else { return }
            exchange.pauseBody()
            wait(exchange)
        }

        private func wait(_ exchange: Exchange) {
            _ = exchange.loop.schedule(after: 10_000_000) {
                if self.server.bodyIsHeld.withLock({ $0 }) { self.wait(exchange) } else { exchange.resumeBody() }
            }
        }

        func completed(_ exchange: Exchange) {
            server.log.withLock { $0.append(request) }
            let answer = server.answer(request)
            guard let delay = answer.delayNanoseconds else { return }
            guard delay > 0 else { return send(answer, exchange) }
            _ = exchange.loop.schedule(after: delay) { if exchange.isAlive { self.send(answer, exchange) } }
        }

        private func send(_ answer: Answer, _ exchange: Exchange) {
            var fields = ResponseFields()
            for (name, value) in answer.fields { _ = fields.add(name: name, value) }
            guard let cut = answer.cutAt else { return exchange.respond(Status(answer.status), fields, answer.body) }
            exchange.begin(Status(answer.status), fields, length: .bytes(UInt64(answer.body.count)))
            answer.body.prefix(cut).withUnsafeBytes { exchange.write($0) }
            _ = exchange.loop.schedule(after: 50_000_000) { exchange.fail() }
        }
    }

    /// Runs a body on the first loop of a real world with this server on loopback.
    package func run(
        tls: TLSServer? = nil, _ body: @escaping @Sendable (World, UInt16) async throws -> Void
    ) async throws {
        try await withWorld { world in
            guard let address = SocketAddress(numeric: "127.0.0.1", port: 0) else { preconditionFailure("loopback") }
            let listener = try HTTPServer(self, clock: world.clock).listen(
                on: address, network: world.network, loops: [world.loops[1]], tls: tls)
            guard let port = listener.address.port else { preconditionFailure("a port") }
            let result = await world.loops[0].task { try await body(world, port) }.result
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                listener.drain(within: 1) { continuation.resume() }
            }
            try result.get()
        }
    }
}

/// A real world of two loops with a folder of its own.
package func withWorld(_ body: @escaping @Sendable (World) async throws -> Void) async throws {
    var name = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
    let made = name.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } }
    guard let folder = made else { throw Errno(errno) }
    let world = try World.real(disk: RealDisk(path: folder), loops: 2)
    let result = await world.loops[0].task { try await body(world) }.result
    world.stop()
    try? world.disk.list("") { name, _ in
        unlink(folder + "/" + name)
        return true
    }
    rmdir(folder)
    try result.get()
}

/// The name of a new file with this text, that the caller removes.
package func temporaryFile(_ text: String) -> String {
    var path = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
    let file = path.withUnsafeMutableBufferPointer { mkstemp($0.baseAddress!) }
    _ = text.withCString { write(file, $0, strlen($0)) }
    close(file)
    return path.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}

package func block(_ text: String) -> Block { Array(text.utf8).withUnsafeBytes { Block(copying: $0) } }

/// So many bytes that differ by their place.
package func pattern(_ count: Int, seed: Int = 0) -> Block {
    let block = Block(capacity: count)
    for index in 0..<count {
        block.base.storeBytes(
            of: UInt8(truncatingIfNeeded: (index + seed) &* 31 >> 3), toByteOffset: index, as: UInt8.self)
    }
    block.count = count
    return block
}

extension Block {
    package var array: [UInt8] {
        defer { extendLifetime(self) }
        return Array(bytes)
    }
}

import Glibc
import HTTP
import JSON
import Logging
import Runtime

/// Commands over HTTP: `POST /control/v1` with a request in JSON. On the Unix socket the peer is this server's own user
/// or root, which the system vouches for; on the admin listener whoever has the token.
final class ControlService: RequestHandler {
    static let path = "/control/v1"
    static let socket = "control.socket"
    static let connectionsMax = 128

    private let control: Control
    private let logger: Logger

    init(_ control: Control, logger: Logger) {
        self.control = control
        self.logger = logger
    }

    /// On the Unix socket.
    func begin(_ exchange: Exchange) -> (any ExchangeHandler)? {
        guard let peer = exchange.identity.credentials, peer.user == geteuid() || peer.user == 0 else {
            logger.warning(
                "command refused: another user's",
                [.init("user", Int(exchange.identity.credentials?.user ?? .max))])
            exchange.respond(.forbidden, ResponseFields(contentType: "text/plain"), text: "not for this user\n")
            return nil
        }
        guard exchange.head.path == Self.path, exchange.head.method == .post else {
            exchange.respond(.notFound, ResponseFields(contentType: "text/plain"), text: "only POST \(Self.path)\n")
            return nil
        }
        return take(exchange)
    }

    /// Whoever asks has shown that he may.
    func take(_ exchange: Exchange) -> (any ExchangeHandler)? { Taker(control) }

    /// Takes a request in, and answers it. On the exchange's loop.
    private final class Taker: ExchangeHandler, @unchecked Sendable {
        private let control: Control
        private var body: [UInt8] = []
        private var isOver = false

        init(_ control: Control) { self.control = control }

        func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) {
            guard !isOver else { return }
            guard body.count + bytes.count <= ControlRequest.bytesMax else {
                isOver = true
                return exchange.respond(
                    .contentTooLarge, ResponseFields(contentType: "text/plain"), text: "a request has 1 MiB at most\n")
            }
            body.append(contentsOf: bytes)
        }

        func completed(_ exchange: Exchange) {
            guard !isOver else { return }
            let request: ControlRequest
            do throws(CommandFailure) { request = try ControlRequest(body) } catch {
                return Self.answer(.failure(error), exchange)
            }
            let (control, meter) = (control, Meter())
            if request.wantsProgress { tell(meter, exchange) }
            control.loop.task {
                let result = await control.run(request, meter)
                exchange.loop.execute { [self] in
                    isOver = true
                    Self.answer(result, exchange)
                }
            }
        }

        private static let tellingNanoseconds: UInt64 = 500_000_000

        /// A line now and then for who waits.
        private func tell(_ meter: Meter, _ exchange: Exchange) {
            _ = exchange.loop.schedule(after: Self.tellingNanoseconds) { [self] in
                guard !isOver, exchange.isAlive else { return }
                if let step = meter.step {
                    if !exchange.hasBegun { exchange.begin(.ok, Self.fields, length: .unknown) }
                    Self.write(step.json, exchange)
                }
                tell(meter, exchange)
            }
        }

        private static func write(_ json: JSON, _ exchange: Exchange) {
            Array((json.description + "\n").utf8).withUnsafeBytes { exchange.write($0) }
        }

        private static var fields: ResponseFields {
            var fields = ResponseFields(contentType: "application/json")
            fields.add("cache-control", "no-store")
            return fields
        }

        private static func answer(_ result: Result<JSON, CommandFailure>, _ exchange: Exchange) {
            guard exchange.isAlive else { return }
            if exchange.hasBegun {
                write(ControlResponse.json(result), exchange)
                return exchange.end()
            }
            let status: Status =
                switch result {
                case .success: .ok
                case .failure(let failure): failure.status == .misuse ? .badRequest : .unprocessable
                }
            exchange.respond(status, fields, text: ControlResponse.json(result).description + "\n")
        }
    }
}

/// The data directory's socket, under a name that is short enough for any system: its path may not be.
struct ControlSocket {
    let address: SocketAddress
    /// Keeps the short name good.
    private let directory: Int32

    init?(data: String) {
        let plain = data + "/" + ControlService.socket
        if plain.utf8.count <= SocketAddress.unixPathMax {
            directory = -1
            address = .unix(plain)
            return
        }
        directory = open(data, O_RDONLY | O_DIRECTORY)
        guard directory >= 0 else { return nil }
        address = .unix("/proc/self/fd/\(directory)/" + ControlService.socket)
    }
}

import HTTP
import Logging
import Metrics
import Runtime
import Synchronization

/// The admin listener: `/healthz`, `/readyz` and `/version` for anybody, everything else with the token.
///
/// Other rooms add routes of their own before the listener opens; a path is one route, whatever the query is.
public final class AdminService: RequestHandler {
    /// Whether the server does its work, and why not.
    public enum Readiness: Sendable, Equatable {
        case ready
        case waiting(String)
    }

    public struct Route: Sendable {
        var methods: [Method]
        var isOpen: Bool
        var begin: @Sendable (Exchange) -> (any ExchangeHandler)?

        /// `begin` is as `RequestHandler.begin`: it is called for these methods only, and unless `isOpen`, with the
        /// token only. GET brings HEAD with it.
        public init(
            _ methods: [Method], isOpen: Bool = false,
            begin: @escaping @Sendable (Exchange) -> (any ExchangeHandler)?
        ) {
            self.methods = methods.contains(.get) ? methods + [.head] : methods
            self.isOpen = isOpen
            self.begin = begin
        }
    }

    private let token: AdminToken
    private let logger: Logger
    private let routes: Mutex<[String: Route]>
    private let readiness = Mutex(Readiness.waiting("starting"))

    /// `version` is a JSON object.
    public init(token: AdminToken, metrics: MetricsRegistry, version: String, logger: Logger) {
        self.token = token
        self.logger = logger
        routes = Mutex([:])
        add("/healthz", Self.text([.get], isOpen: true) { (.ok, "ok\n") })
        add(
            "/readyz",
            Self.text([.get], isOpen: true) { [unowned self] in
                switch readiness.withLock({ $0 }) {
                case .ready: (.ok, "ready\n")
                case .waiting(let why): (.serviceUnavailable, "not ready: \(why)\n")
                }
            })
        add("/version", Self.text([.get], isOpen: true, type: "application/json") { (.ok, version + "\n") })
        add(
            "/metrics",
            Self.text([.get], type: "text/plain; version=0.0.4; charset=utf-8") { (.ok, metrics.text()) })
    }

    public func add(_ path: String, _ route: Route) {
        routes.withLock { routes in
            precondition(routes[path] == nil, "a path is one route")
            routes[path] = route
        }
    }

    public func set(_ value: Readiness) { readiness.withLock { $0 = value } }

    private static func text(
        _ methods: [Method], isOpen: Bool = false, type: StaticString = "text/plain; charset=utf-8",
        _ make: @escaping @Sendable () -> (Status, String)
    ) -> Route {
        Route(methods, isOpen: isOpen) { exchange in
            let (status, text) = make()
            var fields = ResponseFields(contentType: type)
            fields.add("cache-control", "no-store")
            exchange.respond(status, fields, text: text)
            return nil
        }
    }

    public func begin(_ exchange: Exchange) -> (any ExchangeHandler)? {
        let route = routes.withLock { $0[exchange.head.path] }
        // Also for paths that are not there: who has no token learns nothing of them.
        guard route?.isOpen == true || isAdmitted(exchange) else { return nil }
        guard let route else {
            refuse(exchange, .notFound, "no such path")
            return nil
        }
        guard route.methods.contains(exchange.head.method) else {
            var fields = ResponseFields(contentType: "text/plain; charset=utf-8")
            fields.add("allow", route.methods.map(\.name).joined(separator: ", "))
            exchange.respond(.methodNotAllowed, fields, text: "this path knows no \(exchange.head.method)\n")
            return nil
        }
        return route.begin(exchange)
    }

    private func isAdmitted(_ exchange: Exchange) -> Bool {
        let given = exchange.head.fields.all("authorization")
        if given.count == 1, token.admits(given.first) { return true }
        if !given.isEmpty {
            logger.warning("admin token refused", [.init("peer", describing: exchange.remoteAddress)])
        }
        var fields = ResponseFields(contentType: "text/plain; charset=utf-8")
        fields.add("www-authenticate", "Bearer realm=\"proxyfs\"")
        exchange.respond(
            .unauthorized, fields,
            text: "this needs the token in \(AdminToken.file) of the data directory: Authorization: Bearer TOKEN\n")
        return false
    }

    private func refuse(_ exchange: Exchange, _ status: Status, _ why: String) {
        exchange.respond(status, ResponseFields(contentType: "text/plain; charset=utf-8"), text: why + "\n")
    }
}

import Runtime

/// What answers requests. One for a server; called on the loop of each connection.
public protocol RequestHandler: AnyObject, Sendable {
    /// A request's head is there. Answers who takes in the body; nil: nobody, it is dropped. The answer may be given
    /// here, or at any later time on `exchange.loop`.
    func begin(_ exchange: Exchange) -> (any ExchangeHandler)?
}

/// What takes in one request's body and hears how its answer gets on. All calls come on the exchange's loop, never
/// inside one that the handler made.
public protocol ExchangeHandler: AnyObject {
    /// The next bytes of the body, valid during the call only. `exchange.pauseBody()` stops further ones.
    func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange)
    /// The body is complete. Called for requests without one, too.
    func completed(_ exchange: Exchange)
    /// The answer's output, which had grown above the mark, has left: write more.
    func drained(_ exchange: Exchange)
    /// The connection ended, or the body broke off, before both request and answer were complete. The last call.
    func abandoned(_ exchange: Exchange)
}

extension ExchangeHandler {
    public func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) {}
    public func completed(_ exchange: Exchange) {}
    public func drained(_ exchange: Exchange) {}
    public func abandoned(_ exchange: Exchange) {}
}

/// HTTP/1.1 over any network. The same server may listen at several addresses.
public final class HTTPServer: Sendable {
    public let limits: HTTPLimits
    let handler: any RequestHandler
    let clock: any WorldClock

    public init(_ handler: any RequestHandler, limits: HTTPLimits = HTTPLimits(), clock: any WorldClock) {
        precondition(limits.headBytesMax > 0 && limits.targetBytesMax > 0, "a request needs room")
        self.handler = handler
        self.limits = limits
        self.clock = clock
    }

    /// `Listener.drain` lets answers that are under way finish and closes each connection behind them.
    public func listen(
        on address: SocketAddress, network: any Network, loops: [EventLoop], tls: TLSServer? = nil
    ) throws(Errno) -> Listener {
        var options = ListenerOptions()
        options.tls = tls
        options.connectionsMax = limits.connectionsMax
        options.limits.inputMax = max(HTTPLimits.inputBytesMin, 2 * limits.headBytesMax)
        options.limits.messageTimeout = limits.headTimeout
        // One clock for both waits: each time it fires, the connection says which of them it is in.
        options.limits.idleTimeout = min(limits.bodyTimeout, limits.idleTimeout)
        options.limits.writeTimeout = limits.writeTimeout
        return try network.listen(on: address, options, loops: loops) { HTTPConnection(self, $0) }
    }
}

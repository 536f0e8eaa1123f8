import Synchronization

/// Accepts connections at one address and knows those that are open. What accepts (`Acceptor`) belongs to the
/// network; limits, spreading over loops and draining are the same for all networks.
///
/// One acceptor hands each connection to the loop with the fewest of this listener. A file server has few
/// connections that live long (a kernel's NFS client has one per mount): spreading by the hash of the port, as
/// several sockets on one port do, would leave cores idle. The price is one hand-over per connection.
public final class Listener: Sendable {
    public let address: SocketAddress
    public let options: ListenerOptions
    let settings: ConnectionSettings
    let groups: [ConnectionGroup]
    private let accept: @Sendable (Connection) -> (any ConnectionHandler)?
    private let total = Atomic<Int>(0)
    private let acceptedCount = Atomic<UInt64>(0)
    private let refusedCount = Atomic<UInt64>(0)
    private let state = Guarded(State())

    private struct State {
        var acceptor: Acceptor?
        var isClosed = false
        var drained: [@Sendable () -> Void] = []
    }

    /// For implementations of `Network`; `start` must follow.
    package init(
        address: SocketAddress, options: ListenerOptions, loops: [EventLoop],
        accept: @escaping @Sendable (Connection) -> (any ConnectionHandler)?
    ) {
        precondition(!loops.isEmpty, "a listener needs a loop")
        self.address = address
        self.options = options
        self.accept = accept
        settings = ConnectionSettings(options.limits, isTLS: options.tls != nil)
        groups = loops.map { ConnectionGroup(loop: $0) }
        for group in groups { group.listener = self }
    }

    package func start(_ acceptor: Acceptor) { state.withLock { $0.acceptor = acceptor } }

    /// Connections that are open now.
    public var active: Int { total.load(ordering: .relaxed) }
    public var accepted: UInt64 { acceptedCount.load(ordering: .relaxed) }
    /// Connections that were closed at once because there were `connectionsMax`.
    public var refused: UInt64 { refusedCount.load(ordering: .relaxed) }

    /// Takes in a new connection, by the acceptor. `transport` is called on the connection's loop; when the limit is
    /// reached it is not called and the answer is false.
    package func admit(
        local: SocketAddress, remote: SocketAddress, transport: @escaping @Sendable (EventLoop) -> Transport,
        discard: @escaping @Sendable () -> Void
    ) -> Bool {
        guard total.wrappingAdd(1, ordering: .relaxed).newValue <= options.connectionsMax else {
            total.wrappingSubtract(1, ordering: .relaxed)
            refusedCount.wrappingAdd(1, ordering: .relaxed)
            return false
        }
        acceptedCount.wrappingAdd(1, ordering: .relaxed)
        var group = groups[0]
        for other in groups where other.count < group.count { group = other }
        group.reserve()
        let chosen = group
        let begin: @Sendable () -> Void = {
            guard !chosen.isDraining else {
                discard()
                return chosen.release()
            }
            let lower = transport(chosen.loop)
            let connection = Connection(
                loop: chosen.loop,
                transport: self.options.tls.map { TLSTransport(server: $0, over: lower, loop: chosen.loop) } ?? lower,
                settings: self.settings, local: local, remote: remote, outgoing: false)
            guard let handler = self.accept(connection) else {
                connection.abort()
                return chosen.release()
            }
            chosen.add(connection)
            connection.begin(handler)
        }
        if chosen.loop.isCurrent { begin() } else { chosen.loop.execute(begin) }
        return true
    }

    func departed() {
        if total.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { tellDrained() }
    }

    /// Accepts nothing more, tells all handlers that they are `draining`, and aborts what is left after
    /// `nanoseconds`. `completion` is called, on any thread, when no connection is left. Callable from any thread.
    public func drain(within nanoseconds: UInt64, completion: @escaping @Sendable () -> Void) {
        state.withLock { $0.drained.append(completion) }
        stopAccepting()
        for group in groups { group.loop.execute { group.drain(within: nanoseconds) } }
        if total.load(ordering: .acquiring) == 0 { tellDrained() }
    }

    public func drain(within nanoseconds: UInt64) async {
        await withUnsafeContinuation { continuation in drain(within: nanoseconds) { continuation.resume() } }
    }

    /// Accepts nothing more; connections go on. Idempotent, callable from any thread.
    public func stopAccepting() {
        let acceptor = state.withLock { state in
            state.isClosed = true
            defer { state.acceptor = nil }
            return state.acceptor
        }
        acceptor?.stop()
    }

    private func tellDrained() {
        let completions = state.withLock { state in
            guard state.isClosed else { return [@Sendable () -> Void]() }
            defer { state.drained = [] }
            return state.drained
        }
        for completion in completions { completion() }
    }
}

/// What takes in connections for a listener.
open class Acceptor: @unchecked Sendable {
    public init() {}
    /// Takes in nothing more and frees the address. Callable from any thread, once.
    open func stop() { preconditionFailure("Acceptor is abstract") }
}

/// The connections of one listener on one loop. Confined to the loop, but for the count.
package final class ConnectionGroup: @unchecked Sendable {
    let loop: EventLoop
    /// Set once, before the first connection.
    fileprivate(set) weak var listener: Listener?
    /// The listener while there are connections: it outlives them, and nothing else keeps it once it has stopped.
    private var kept: Listener?
    private var connections: [Connection] = []
    private(set) var isDraining = false
    private let reserved = Atomic<Int>(0)

    init(loop: EventLoop) { self.loop = loop }

    var count: Int { reserved.load(ordering: .relaxed) }

    func reserve() { reserved.wrappingAdd(1, ordering: .relaxed) }

    func release() {
        reserved.wrappingSubtract(1, ordering: .relaxed)
        listener?.departed()
    }

    func add(_ connection: Connection) {
        kept = listener
        connection.group = self
        connection.groupIndex = connections.count
        connections.append(connection)
    }

    func remove(_ connection: Connection) {
        let index = connection.groupIndex
        precondition(connections[index] === connection, "a connection is in its group once")
        let last = connections.removeLast()
        if last !== connection {
            connections[index] = last
            last.groupIndex = index
        }
        release()
        if connections.isEmpty { kept = nil }
    }

    func drain(within nanoseconds: UInt64) {
        isDraining = true
        for connection in connections { connection.drain() }
        _ = loop.schedule(after: nanoseconds) { [weak self] in
            guard let self else { return }
            for connection in self.connections { connection.abort(because: .drainDeadline) }
        }
    }
}

extension Connection {
    fileprivate func drain() {
        if flags.contains(.opening) { return abort() }
        if flags.isDisjoint(with: [.closed, .closing]), let handler { handler.draining(self) }
    }
}

import Bytes
import Logging
import Metrics
import Runtime

/// Serves programs over streams and datagrams.
///
///     let server = RPCServer(programs: [nfs, mount], on: world.loops, logger: logger)
///     let listener = try server.listen(on: address, network: world.network)
public final class RPCServer: Sendable {
    /// What a reply on a stream may take in place; the connection's output has room for that in one piece.
    static let streamMessageMax = 64 << 10

    let dispatcher: RPCDispatcher
    let limits: RPCLimits
    let logger: Logger
    private let states: [RPCLoop]
    private let peers = Guarded<[SocketAddress: Int]>([:])

    public init(
        programs: [any RPCProgram], flavors: [any SecurityFlavor] = [], on loops: [EventLoop],
        limits: RPCLimits = RPCLimits(), logger: Logger
    ) {
        limits.check()
        dispatcher = RPCDispatcher(registry: Registry(programs: programs, flavors: flavors))
        var limits = limits
        // Records that are longer go into blocks; fragments are taken from the input piece by piece.
        limits.connection.inputMax = max(limits.connection.inputMax, 2 * RPCStream.inPlaceMax)
        self.limits = limits
        self.logger = logger
        states = loops.map { RPCLoop($0, limits) }
    }

    func connected(_ remote: SocketAddress) {
        peers.withLock { $0[remote.unmapped.with(port: 0), default: 0] += 1 }
    }

    func disconnected(_ remote: SocketAddress) {
        let host = remote.unmapped.with(port: 0)
        peers.withLock { peers in
            let left = (peers[host] ?? 0) - 1
            peers[host] = left > 0 ? left : nil
        }
    }

    private func state(_ loop: EventLoop) -> RPCLoop {
        guard let state = states.first(where: { $0.loop === loop }) else {
            preconditionFailure("a loop that the server was not made for")
        }
        return state
    }

    /// Serves connections from now on.
    public func listen(
        on address: SocketAddress, network: any Network, connectionsMax: Int = ListenerOptions().connectionsMax
    ) throws(Errno) -> Listener {
        var options = ListenerOptions()
        options.limits = limits.connection
        options.connectionsMax = connectionsMax
        return try network.listen(on: address, options, loops: states.map(\.loop)) { [self] connection in
            RPCStream(self, state(connection.loop), connection)
        }
    }

    /// Serves datagrams from now on. On `loop` only.
    public func datagrams(
        on address: SocketAddress, network: any Network, loop: EventLoop
    ) throws(Errno) -> DatagramSocket {
        try network.datagrams(on: address, loop: loop, handler: RPCDatagrams(self, state(loop)))
    }

    /// Records that were taken in, whatever became of them.
    /// Connections by the host that made them, without a port.
    public var connections: [SocketAddress: Int] { peers.withLock { $0 } }

    public var calls: UInt64 { states.reduce(0) { $0 + $1.counters.calls.value } }
    /// Calls that were answered later.
    public var held: UInt64 { states.reduce(0) { $0 + $1.counters.held.value } }
    /// Calls that RPC itself answered with an error.
    public var refused: UInt64 { states.reduce(0) { $0 + $1.counters.refused.value } }
    /// Records without an answer.
    public var dropped: UInt64 { states.reduce(0) { $0 + $1.counters.dropped.value } }

    public func register(in metrics: MetricsRegistry) {
        metrics.add("proxyfs_rpc_calls_total", .counter, "RPC records that were taken in.") { [self] in
            [.init(calls)]
        }
        metrics.add("proxyfs_rpc_held_total", .counter, "RPC calls that were not answered at once.") { [self] in
            [.init(held)]
        }
        metrics.add("proxyfs_rpc_refused_total", .counter, "RPC calls refused by RPC itself.") { [self] in
            [.init(refused)]
        }
        metrics.add("proxyfs_rpc_dropped_total", .counter, "RPC records without an answer.") { [self] in
            [.init(dropped)]
        }
    }
}

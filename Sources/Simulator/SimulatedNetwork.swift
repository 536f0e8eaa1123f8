import Runtime

/// A network without links: every attempt is refused.
final class SimulatedNetwork: Network, @unchecked Sendable {
    func listen(
        on address: SocketAddress, _ options: ListenerOptions, loops: [EventLoop],
        accept: @escaping @Sendable (Connection) -> (any ConnectionHandler)?
    ) throws(Errno) -> Listener { throw .permission }

    func connect(
        to address: SocketAddress, _ options: ConnectOptions, on loop: EventLoop, handler: any ConnectionHandler
    ) -> Connection { preconditionFailure("the simulated network has no links") }

    func datagrams(
        on address: SocketAddress, loop: EventLoop, handler: any DatagramHandler
    ) throws(Errno) -> DatagramSocket { throw .permission }
}

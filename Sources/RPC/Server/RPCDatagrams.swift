import Bytes
import Runtime

/// Calls that come as datagrams: one record each, without a mark (RFC 5531 10). Confined to its loop.
final class RPCDatagrams: DatagramHandler, @unchecked Sendable {
    private let server: RPCServer
    private let state: RPCLoop
    @exclusivity(unchecked) private var identities = IdentityCache()
    fileprivate var heldCalls = 0

    init(_ server: RPCServer, _ state: RPCLoop) {
        self.server = server
        self.state = state
    }

    func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
        let sink = DatagramSink(self, state, socket, peer)
        server.dispatcher.dispatch(bytes, in: nil, sink, &identities)
    }

    fileprivate func mayHold() -> Bool { heldCalls < server.limits.heldDatagramsMax && !state.isFull }
}

/// Takes the replies to one datagram.
private final class DatagramSink: ReplySink, @unchecked Sendable {
    private let owner: RPCDatagrams
    private let socket: DatagramSocket
    private let peer: DatagramPeer

    init(_ owner: RPCDatagrams, _ state: RPCLoop, _ socket: DatagramSocket, _ peer: DatagramPeer) {
        self.owner = owner
        self.socket = socket
        self.peer = peer
        super.init(
            state, remote: peer.remote, local: peer.local ?? socket.localAddress, markBytes: 0,
            messageMax: DatagramSocket.bytesMax, takesBlocks: false)
    }

    override func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { socket.reserve() }
    override func send(_ count: Int) { socket.send(count, to: peer) }
    override func send(_ count: Int, _ parts: [BlockPart]) {
        preconditionFailure("a datagram takes no block")
    }

    override func hold(_ bytes: Int) -> ReplySink? {
        guard owner.mayHold() else { return nil }
        owner.heldCalls += 1
        state.charge(bytes)
        return self
    }

    override func release(_ bytes: Int) {
        owner.heldCalls -= 1
        state.release(bytes)
    }
}

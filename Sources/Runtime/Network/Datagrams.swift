/// Sends and receives datagrams in batches: one system call takes up to `batchMax` of them. On one loop only.
open class DatagramSocket: @unchecked Sendable {
    public static let batchMax = 16
    /// Larger datagrams are dropped and counted: the largest that UDP can carry.
    public static let bytesMax = 65_507

    public let loop: EventLoop
    public let localAddress: SocketAddress

    public init(loop: EventLoop, localAddress: SocketAddress) {
        self.loop = loop
        self.localAddress = localAddress
    }

    /// Space for one datagram of at most `bytesMax`, to be filled before `send`.
    open func reserve() -> UnsafeMutableRawBufferPointer { abstract() }

    /// Queues the first `count` reserved bytes; they leave with others at the end of the readable event or of the
    /// round. When the kernel takes no more they are dropped and counted, as the network itself may do.
    open func send(_ count: Int, to peer: DatagramPeer) { abstract() }

    /// Idempotent.
    open func close() { abstract() }

    private func abstract() -> Never { preconditionFailure("DatagramSocket is abstract") }

    public final func send(_ bytes: UnsafeRawBufferPointer, to peer: DatagramPeer) {
        precondition(bytes.count <= Self.bytesMax, "too long for a datagram")
        reserve().copyMemory(from: bytes)
        send(bytes.count, to: peer)
    }
}

/// Who sent a datagram, and where to: the answer leaves from the address that was asked, which matters when the
/// socket is bound to all of them.
public struct DatagramPeer: Hashable, Sendable {
    public var remote: SocketAddress
    /// Nil: as the kernel chooses.
    public var local: SocketAddress?

    public init(remote: SocketAddress, local: SocketAddress? = nil) {
        self.remote = remote
        self.local = local
    }
}

public protocol DatagramHandler: AnyObject {
    /// One datagram; the view is valid during the call only.
    func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket)
}

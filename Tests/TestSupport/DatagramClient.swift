import CShim
import Glibc
import RPC
import Runtime

/// A plain blocking socket for datagrams to one address.
public final class DatagramClient {
    /// The longest that UDP carries over IPv6.
    private static let bytesMax = 65_527
    private let fd: Int32
    private var remote = shim_address()

    /// `from`: where its own are sent from.
    public init(_ address: SocketAddress, from local: SocketAddress) throws(Peer.Unreachable) {
        var own = shim_address()
        guard address.store(into: &remote), local.store(into: &own) else {
            throw Peer.Unreachable(address: address, code: EINVAL)
        }
        fd = shim_datagram_socket(&own)
        guard fd >= 0 else { throw Peer.Unreachable(address: local, code: -fd) }
    }

    deinit { shim_close(fd) }

    /// False: the system does not take as much.
    @discardableResult
    public func send(_ bytes: [UInt8]) -> Bool {
        var bytes = bytes
        return bytes.withUnsafeMutableBytes { memory in
            var datagram = shim_datagram()
            datagram.bytes = memory.baseAddress
            datagram.count = UInt32(memory.count)
            datagram.remote = remote
            return shim_send_datagrams(fd, &datagram, 1) == 1
        }
    }

    /// The next one; nil when none comes.
    public func receive(within seconds: Double = 10) -> [UInt8]? {
        var item = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        guard poll(&item, 1, Int32(seconds * 1000)) > 0 else { return nil }
        return [UInt8](unsafeUninitializedCapacity: Self.bytesMax) { memory, count in
            count = max(0, recv(fd, memory.baseAddress, memory.count, 0))
        }
    }

    /// The answer to a call that is sent once.
    public func call(_ message: RPCMessage, within seconds: Double = 10) -> RPCReply? {
        guard send(message.bytes) else { return nil }
        return receive(within: seconds).flatMap(RPCReply.init)
    }
}

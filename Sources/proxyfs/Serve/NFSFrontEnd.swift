import Bytes
import Logging
import Metrics
import NFS
import Namespace
import RPC
import Runtime

/// NFS and MOUNT on one port, streams and datagrams.
final class NFSFrontEnd {
    /// File handles carry a code under this key: the same after every start, or all clients' handles are stale.
    static let keyFile = "nfs.key"
    private static let keyBytes = 16

    private let server: RPCServer
    /// Kept as long as its loop runs.
    private let datagrams = Datagrams()

    /// Touched on one loop only.
    private final class Datagrams: @unchecked Sendable { var value: DatagramSocket? }

    private let exports = ExportTable()

    init(_ volumes: Volumes, world: World, logger: Logger, metrics: MetricsRegistry) throws(SecretFile.Problem) {
        let text = try SecretFile.load(Self.keyFile, bytes: Self.keyBytes, world.disk, world.random)
        guard let first = UInt64(text.prefix(16), radix: 16), let second = UInt64(text.suffix(16), radix: 16) else {
            throw .damaged
        }
        let context = NFSContext(
            volumes: volumes, exports: exports, clock: world.clock, key: KeyedHash(first, second))
        server = RPCServer(
            programs: [NFSService(context), MountService(context)], on: world.loops, logger: logger)
        server.register(in: metrics)
    }

    /// On a loopback address every volume is exported to this host's own clients, without root squash, to any port;
    /// on any other one nothing is exported until an export names its clients.
    func export(_ volumes: Volumes, at address: SocketAddress) {
        guard address.isLoopback else { return }
        var here = Export.Client(.loopback)
        here.squash = .none
        here.needsPrivilegedPort = false
        let isDone = exports.replace(
            volumes.all.map { volume in
                Export(
                    id: Self.identity(of: volume), path: "/" + volume.name, volume: volume.identity,
                    root: volume.root, clients: [here])
            })
        precondition(isDone, "volumes have names and identities of their own")
    }

    /// The same at every start: it is in the clients' handles.
    private static func identity(of volume: Volume) -> UInt32 {
        UInt32(truncatingIfNeeded: volume.identity ^ volume.identity >> 32)
    }

    func listen(on address: SocketAddress, _ world: World) throws(Errno) -> Listener {
        let listener = try server.listen(on: address, network: world.network)
        // Some clients ask for the mount over UDP.
        let loop = world.loops[0]
        let (server, network, socket) = (server, world.network, datagrams)
        let bound = listener.address
        loop.execute { socket.value = try? server.datagrams(on: bound, network: network, loop: loop) }
        return listener
    }
}

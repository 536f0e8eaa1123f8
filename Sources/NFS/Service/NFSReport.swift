import Namespace
import RPC
import Runtime

/// Who uses NFS, as commands show it.
public struct NFSReport: Sendable {
    /// Locks that are shown at most.
    public static let locksMax = 10_000

    public struct Client: Sendable {
        public var address: String
        /// That it has now.
        public var connections = 0
        /// By what it says itself.
        public var mounts: [String]
        /// Its name as the lock manager knows it; nil: it has not locked anything.
        public var lockName: String?
        public var locks: Int
    }

    public struct Lock: Sendable {
        public var address: String
        public var name: String
        public var process: Int32
        public var isExclusive: Bool
        public var inode: UInt64
        public var first: UInt64
        /// The last byte; `.max`: to the end.
        public var last: UInt64
    }

    public var clients: [Client]
    public var locks: [Lock]
    /// Requests for locks that wait, and grants that are still to be told.
    public var waiting: Int

    /// `connections`: by host. Who goes on with a mount of before this server's start is known by them alone.
    public init(
        _ mounts: MountService, _ monitor: HostMonitor, _ locks: ServerLocks, connections: [SocketAddress: Int] = [:]
    ) {
        var clients: [String: Client] = [:]
        for (host, count) in connections {
            clients[host.host] = Client(address: host.host, connections: count, mounts: [], locks: 0)
        }
        for (host, path) in mounts.mounted {
            clients[host, default: Client(address: host, mounts: [], locks: 0)].mounts.append(path)
        }
        var found: [Lock] = []
        let (hosts, processes) = monitor.withHosts { ($0.hosts, $0.processes) }
        for (number, host) in hosts.sorted(by: { $0.key < $1.key }) {
            let name = String(decoding: host.name, as: UTF8.self)
            let address = host.address.host
            let held = locks.locks(of: number, limit: Self.locksMax - found.count)
            var client = clients[address] ?? Client(address: address, mounts: [], locks: 0)
            client.lockName = name
            client.locks += held.count
            clients[address] = client
            found += held.map { file, lock in
                Lock(
                    address: address, name: name, process: processes[lock.owner]?.number ?? 0,
                    isExclusive: lock.mode == .exclusive, inode: file.inode, first: lock.range.first,
                    last: lock.range.last)
            }
        }
        self.clients = clients.values.sorted { $0.address < $1.address }
        self.locks = found
        waiting = monitor.withGrants { $0.count }
    }
}

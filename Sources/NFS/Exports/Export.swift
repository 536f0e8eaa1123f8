import Bytes
import Namespace
import RPC
import Runtime

/// A directory that clients may mount, and what they may do there.
public struct Export: Sendable {
    /// Whose root becomes nobody.
    public enum Squash: Sendable { case none, root, all }

    /// In every handle that was got through it, so it is never given to another export.
    public var id: UInt32
    /// As clients name it: `/volume`, or `/volume/directory`.
    public var path: String
    public var volume: UInt64
    public var root: FileID
    /// The first that matches says what holds; without a match there is no access.
    public var clients: [Client]
    /// What a reply promises here; nil: what the volume says.
    public var durability: Durability?
    /// Of the handles that are got through it and of the tokens of requests that may come again: kept with the volume, so that they are
    /// good on each server of it. Nil: the server's own.
    public var key: KeyedHash?
    /// Users of the server who may not do everything with the volume, by uid.
    public var restricted: [UInt32: VolumeRights] = [:]

    public struct Client: Sendable {
        public var hosts: Hosts
        public var isReadOnly = false
        public var squash = Squash.root
        public var anonymous = Credential.nobody
        /// Numbers of security flavors that are enough.
        public var flavors = [AuthFlavor.system]
        /// Only from ports below 1024.
        public var needsPrivilegedPort = true

        public init(_ hosts: Hosts) { self.hosts = hosts }
    }

    public init(id: UInt32, path: String, volume: UInt64, root: FileID, clients: [Client]) {
        precondition(path.hasPrefix("/") && (path == "/" || !path.hasSuffix("/")), "an export's path begins with /")
        self.id = id
        self.path = path
        self.volume = volume
        self.root = root
        self.clients = clients
    }

    /// What holds for a client at this address.
    func client(_ address: SocketAddress) -> Client? { clients.first { $0.hosts.contains(address) } }
}

/// A set of client addresses.
public enum Hosts: Sendable, Equatable {
    case all
    /// 127.0.0.0/8, ::1 and Unix sockets.
    case loopback
    /// Addresses whose first `bits` are those of `address`.
    case network(SocketAddress, bits: Int)

    /// `*`, an address, or an address and `/` and the number of its bits that count.
    public init?(_ text: String) {
        if text == "*" {
            self = .all
            return
        }
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = SocketAddress(numeric: String(parts[0]), port: 0) else { return nil }
        let width = if case .ipv4 = address { 32 } else { 128 }
        guard parts.count == 2 else {
            self = .network(address, bits: width)
            return
        }
        guard let bits = Int(parts[1]), bits >= 0, bits <= width else { return nil }
        self = .network(address, bits: bits)
    }

    public func contains(_ address: SocketAddress) -> Bool {
        switch self {
        case .all: return true
        case .loopback: return address.isLoopback
        case .network(let network, let bits):
            switch (network, address.unmapped) {
            case (.ipv4(let a, _), .ipv4(let b, _)):
                return bits == 0 || (a ^ b) >> UInt32(32 - bits) == 0
            case (.ipv6(let a0, let a1, _, _), .ipv6(let b0, let b1, _, _)):
                if bits == 0 { return true }
                if bits <= 64 { return (a0 ^ b0) >> UInt64(64 - bits) == 0 }
                return a0 == b0 && (a1 ^ b1) >> UInt64(128 - bits) == 0
            default: return false
            }
        }
    }
}

extension Hosts: CustomStringConvertible {
    public var description: String {
        switch self {
        case .all: return "*"
        case .loopback: return "localhost"
        case .network(let address, let bits):
            let width = if case .ipv4 = address { 32 } else { 128 }
            return bits == width ? address.host : "\(address.host)/\(bits)"
        }
    }
}

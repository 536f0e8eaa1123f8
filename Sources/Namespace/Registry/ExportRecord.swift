/// A directory that NFS clients may mount, as the operator said it: names of hosts are names still.
public struct ExportRecord: Equatable, Sendable {
    public static let pathBytesMax = 1024
    public static let clientsMax = 256
    public static let hostBytesMax = 255
    static let version: UInt8 = 1

    public enum Squash: UInt8, Sendable, CaseIterable { case none, root, all }
    /// AUTH_SYS and the three services of RPCSEC_GSS (RFC 2623 2.1).
    public enum Flavor: UInt8, Sendable, CaseIterable { case system, kerberos, kerberosIntegrity, kerberosPrivacy }

    public struct Client: Equatable, Sendable {
        /// `*`, an address, a network (`10.0.0.0/8`), a host's name or `@NETGROUP`.
        public var hosts: String
        public var isReadOnly = false
        public var squash = Squash.root
        public var anonymousUID: UInt32 = 65534
        public var anonymousGID: UInt32 = 65534
        public var flavors: [Flavor] = [.system]
        public var needsPrivilegedPort = true

        public init(_ hosts: String) { self.hosts = hosts }
    }

    /// In the clients' handles: given once, never to another export of the volume.
    public internal(set) var id: UInt32
    /// As clients name it: `/VOLUME`, or `/VOLUME/DIRECTORY`.
    public var path: String
    /// The first that fits a client says what holds for it.
    public var clients: [Client]
    public var durability: Durability?

    public init(path: String, clients: [Client], durability: Durability? = nil) {
        id = 0
        self.path = path
        self.clients = clients
        self.durability = durability
    }

    /// Below the root of its volume.
    public var directory: Substring {
        path.dropFirst().drop { $0 != "/" }.drop { $0 == "/" }
    }

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        writer.number(id)
        writer.text(path)
        writer.number(Durability.number(durability))
        writer.list(clients) { writer, client in
            writer.text(client.hosts)
            writer.flag(client.isReadOnly)
            writer.number(client.squash.rawValue)
            writer.number(client.anonymousUID)
            writer.number(client.anonymousGID)
            writer.list(client.flavors) { $0.number($1.rawValue) }
            writer.flag(client.needsPrivilegedPort)
        }
        return writer.bytes
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        id = try reader.number()
        path = try reader.text(limit: Self.pathBytesMax)
        durability = try Durability.read(try reader.number())
        clients = try reader.list(limit: Self.clientsMax) { (reader) throws(RecordFault) in
            var client = Client(try reader.text(limit: Self.hostBytesMax))
            client.isReadOnly = try reader.flag()
            guard let squash = Squash(rawValue: try reader.number()) else { throw .malformed }
            client.squash = squash
            client.anonymousUID = try reader.number()
            client.anonymousGID = try reader.number()
            client.flavors = try reader.list(limit: Flavor.allCases.count) { (reader) throws(RecordFault) in
                guard let flavor = Flavor(rawValue: try reader.number()) else { throw .malformed }
                return flavor
            }
            client.needsPrivilegedPort = try reader.flag()
            return client
        }
        try reader.finish()
    }
}

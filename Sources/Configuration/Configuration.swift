import Logging

/// What the server is told by its file and its command line; every key has a default but those of users.
public struct Configuration: Sendable, Equatable {
    public var address = "127.0.0.1"
    public var ports = Ports()
    public var data = "./data"
    public var tls = TLS.off
    public var certificates: [Certificate] = []
    public var tlsClients = TLSClients()
    public var http = HTTP()
    public var kerberos = Kerberos()
    public var smb = SMB()
    public var log = Log()
    public var engine = Engine()
    public var users: [User] = []
    public var stores: [Store] = []
    public var volumes: [Volume] = []
    public var exports: [Export] = []
    public var shares: [Share] = []
    /// Further users, one `NAME:SECRET` a line.
    public var userFile: String?
    /// Users of the host's passwd and group give numbers their names.
    public var hostUsers = false

    public init() {}

    /// 0 switches a listener off.
    public struct Ports: Sendable, Equatable {
        public var nfs: UInt16 = 2049
        public var smb: UInt16 = 4450
        public var http: UInt16 = 8080
        public var https: UInt16 = 0
        public var admin: UInt16 = 8081

        var named: [(name: String, port: UInt16)] {
            [("nfs", nfs), ("smb", smb), ("http", http), ("https", https), ("admin", admin)]
        }
    }

    public struct HTTP: Sendable, Equatable {
        /// Names of this server below which a bucket's name may stand, as in BUCKET.NAME.
        public var domains: [String] = []
        /// What S3 clients sign for.
        public var region = "us-east-1"
    }

    public struct Kerberos: Sendable, Equatable {
        /// With the keys of this server's services; without one there is no Kerberos.
        public var keytab: String?
        /// `NAME@REALM` of these is user NAME.
        public var realms: [String] = []
        /// `NAME/INSTANCE@REALM` of these is user NAME.
        public var instances: [String] = []
        /// Everybody of a realm that no other word names is this user.
        public var everybody: [Mapped] = []
        /// Before all rules: a principal, and which user it is.
        public var principals: [Mapped] = []

        public struct Mapped: Sendable, Equatable {
            /// A principal, or a realm.
            public var name: String
            public var user: String
        }
    }

    /// What clients of https have to show.
    public struct TLSClients: Sendable, Equatable {
        /// A file with the authorities (PEM) whose clients are trusted; nil: nobody is asked.
        public var authorities: String?
        /// Refuses clients without a certificate.
        public var isRequired = false
    }

    /// What every SMB client has to do.
    public struct SMB: Sendable, Equatable {
        public var requiresSigning = false
        public var requiresEncryption = false
    }

    public enum TLS: Sendable, Equatable {
        case off
        /// A certificate of our own making: encrypts, proves nothing.
        case selfSigned
        case files(certificate: String, key: String)
    }

    /// A further certificate, for clients that ask for a name that it carries.
    public struct Certificate: Sendable, Equatable {
        public var certificate: String
        public var key: String
    }

    public struct Log: Sendable, Equatable {
        public var level = LogLevel.info
        public var format = LogFormat.logfmt
    }

    public struct Engine: Sendable, Equatable {
        /// Seals an open segment when it has this many bytes ...
        public var flushSize = ByteSize.mebi(64)
        /// ... or this age.
        public var flushTime = TimeSpan.seconds(10)
        public var checkpointInterval = TimeSpan.seconds(10)
        /// A checkpoint begins when the replay log has this many bytes, whatever the time.
        public var logSize = ByteSize.mebi(64)
        /// Data on the local disk that the store does not have yet; writers wait when it is more.
        public var stageSize = ByteSize.gibi(4)
        /// Names of objects that are reserved in one step; a start skips those left over.
        public var nonceRange: UInt32 = 65_536
        public var nodeCache = ByteSize.mebi(256)
        public var dataCache = ByteSize.gibi(1)
        /// What the newest state of a volume does not need any more stays in its store for so long.
        public var deleteDelay = TimeSpan.seconds(0)
        /// Who takes a volume over waits for so much more than its lease.
        public var leaseDrift = TimeSpan.seconds(2)
    }

    public enum Durability: String, Sendable, CaseIterable { case store, log, memory }
    /// Where the replay log is that counts.
    public enum LogPlace: Sendable, Equatable, CustomStringConvertible {
        /// Below the data directory.
        case local
        case store
        /// Below a directory that several hosts may have mounted: whoever has the lock there has the volume.
        case path(String)

        /// Nil: that is none.
        public init?(_ text: String) {
            switch text {
            case "local": self = .local
            case "store": self = .store
            default:
                let parts = text.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
                guard text.hasPrefix("/"), text.utf8.count <= 1_024, !parts.contains("."), !parts.contains("..") else {
                    return nil
                }
                self = .path(text)
            }
        }

        public var description: String {
            switch self {
            case .local: "local"
            case .store: "store"
            case .path(let path): path
            }
        }

        /// Why a volume with this store can not have it; nil: it can.
        public func fault(store: String) -> String? {
            guard case .path = self, store == "directory" else { return nil }
            return
                "a log at a path goes with a store elsewhere: of objects in the data directory nobody else would have any"
        }
    }

    public struct Volume: Sendable, Equatable {
        public var name: String
        public var durability: Durability
        /// `directory`, the name of a store, or a store's address.
        public var store = "directory"
        public var log = LogPlace.local
        public var lease = Lease.byLogPlace
        /// What clients are shown where no quota says less.
        public var size = Self.standardSize
        /// It is another server's, or a copy, and only read here.
        public var isReadOnly = false
        /// Where the file declares it; commands can not change it then.
        public var place: String

        public static let standardSize = ByteSize.tebi(1024)
        public static let sizes = ByteSize.mebi(1)...ByteSize.tebi(1 << 20)
    }

    public struct User: Sendable, Equatable {
        public var name: String
        public var secret: Secret
        public var uid: UInt32?
        public var gid: UInt32?
        public var groups: [String]
        /// Volumes that the user may write to.
        public var volumes: [String]
        public var place: String
    }

    public struct Export: Sendable, Equatable {
        public var path: String
        /// `HOSTS` or `HOSTS(OPTION,...)`.
        public var clients: [String]
        public var durability: Durability?
        public var place: String
    }

    public struct Share: Sendable, Equatable {
        public var name: String
        public var volume: String
        public var directory: String
        public var comment: String
        public var isReadOnly: Bool
        public var isHidden: Bool
        public var needsEncryption: Bool
        public var needsSigning: Bool
        public var allowsGuests: Bool
        public var hidesUnreadable: Bool
        public var durability: Durability?
        public var place: String
    }

    /// A configuration that can not be used, with everything that is wrong with it.
    public struct Invalid: Error, CustomStringConvertible, Sendable {
        public let issues: [Issue]
        public var description: String { issues.map(\.description).joined(separator: "\n") }
    }

    public static let volumesMax = 1024
    public static let storesMax = 256
    public static let usersMax = 4096
    public static let certificatesMax = 64
    public static let domainsMax = 64
    public static let realmsMax = 64
    public static let principalsMax = 4096
    public static let exportsMax = 1024
    public static let clientsMax = 256
    public static let sharesMax = 1024
    public static let volumeNameBytesMax = 63
    public static let userNameBytesMax = 64
}

extension Configuration {
    /// The volume that is there when the configuration names none.
    public static let standardVolume = Volume(name: "default", durability: .log, place: "default")

    /// The word of a name's rule, nil when the name is good. Volumes become exports, shares, accounts and paths, so
    /// their names are what all of these can express.
    public static func fault(inVolumeName name: String) -> String? {
        guard (1...volumeNameBytesMax).contains(name.utf8.count) else {
            return "a volume's name has 1 to \(volumeNameBytesMax) characters"
        }
        let good = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        if !good { return "a volume's name is made of letters, digits, - and _" }
        return name.hasPrefix("-") ? "a volume's name does not begin with -" : nil
    }

    public static func fault(inUserName name: String) -> String? {
        guard (1...userNameBytesMax).contains(name.utf8.count) else {
            return "a user's name has 1 to \(userNameBytesMax) bytes"
        }
        // These separate names from secrets, volumes and domains in one protocol or another.
        for scalar in name.unicodeScalars
        where scalar.value <= 0x20 || scalar.value == 0x7f || ":\\/@\"".unicodeScalars.contains(scalar) {
            return "a user's name has no spaces, control characters, or any of : \\ / @ \""
        }
        return nil
    }
}

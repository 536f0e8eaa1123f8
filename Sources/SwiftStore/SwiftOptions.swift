import Logging
import Transfer

/// An account of OpenStack Swift, the containers in it, and how to get in.
public struct SwiftOptions: Sendable {
    public var authentication: Authentication
    public var containers: Containers
    /// In front of all names, with a slash between; may be empty.
    public var prefix = ""
    /// Answers of the store name the account themselves; this one is taken in their place. Nil: theirs.
    public var storageURL: Endpoint?

    public init(_ authentication: Authentication, _ containers: Containers) {
        self.authentication = authentication
        self.containers = containers
    }

    public enum Authentication: Sendable {
        /// `GET URL` with X-Auth-User and X-Auth-Key.
        case version1(Endpoint, user: String, key: Secret)
        /// Keystone's `URL/auth/tokens`.
        case keystone(Keystone)

        public var endpoint: Endpoint {
            switch self {
            case .version1(let endpoint, _, _): endpoint
            case .keystone(let keystone): keystone.endpoint
            }
        }
    }

    public struct Keystone: Sendable {
        /// With the version: `https://HOST:5000/v3`.
        public var endpoint: Endpoint
        public var identity: Identity
        /// Of the catalog; nil: any.
        public var region: String?
        /// `public`, `internal` or `admin`.
        public var interface = "public"

        public enum Identity: Sendable {
            case password(user: String, userDomain: String, password: Secret, project: String, projectDomain: String)
            case applicationCredential(id: String, secret: Secret)
        }

        public init(_ endpoint: Endpoint, _ identity: Identity) {
            self.endpoint = endpoint
            self.identity = identity
        }
    }

    /// How objects are spread: one container with very many of them is slow to write to.
    public struct Containers: Sendable, Equatable {
        public enum Spread: Sendable, Equatable {
            case single
            /// By a hash of the name over so many.
            case hash(Int)
            /// The next one after so many numbers of one kind of object.
            case number(perContainer: UInt64)
        }

        /// The container's name, or what their names begin with.
        public var name: String
        public var spread = Spread.single
        /// Those that we make get it. Nil: the cluster's own.
        public var policy: String?
        /// Those that we make are copied to the containers of the same names below this: `//REALM/CLUSTER/ACCOUNT`.
        public var syncTo: String?
        public var syncKey: Secret?

        public static let countMax = 4_096

        /// Nil: that is no container's name.
        public init?(name: String) {
            let good = name.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
            guard good, (1...200).contains(name.utf8.count) else { return nil }
            self.name = name
        }
    }
}

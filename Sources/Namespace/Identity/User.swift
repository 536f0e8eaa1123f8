import Logging

/// Keeps secrets from who reads the disk. Its key lies outside the volume.
public protocol SecretSeal: Sendable {
    func seal(_ secret: Secret) -> [UInt8]
    /// Nil: it was sealed under another key, or changed since.
    func open(_ sealed: [UInt8]) -> Secret?
}

/// What a user may do with a volume at all; files' own rights come after that.
public struct VolumeRights: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let read = VolumeRights(rawValue: 1)
    public static let write = VolumeRights(rawValue: 2)
}

/// A further pair of access key and secret, for S3 and Swift, good for one volume.
public struct AccessKey: Equatable, Sendable {
    public var id: String
    public var volume: String
    public var sealed: [UInt8]

    public init(id: String, volume: String, sealed: [UInt8]) {
        self.id = id
        self.volume = volume
        self.sealed = sealed
    }
}

public struct User: Equatable, Sendable {
    public static let nameBytesMax = 255
    public static let groupsMax = Credential.groupsMax
    public static let keysMax = 64
    public static let volumesMax = 4096
    public static let sealedBytesMax = 4096

    public var name: String
    public var uid: UInt32
    public var gid: UInt32
    public var groups: [UInt32]
    /// The last number of the user's SID; given by the table, never used twice.
    public internal(set) var rid: UInt32 = 0
    /// For NTLMv2; empty: SMB by Kerberos only.
    public var ntHash: [UInt8]
    /// The secret itself, which S3's and Swift's signatures need.
    public var sealed: [UInt8]
    public var keys: [AccessKey] = []
    public var rights: [String: VolumeRights] = [:]
    public var isDisabled = false

    public init(
        name: String, uid: UInt32, gid: UInt32, groups: [UInt32] = [], ntHash: [UInt8] = [], sealed: [UInt8] = []
    ) {
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.ntHash = ntHash
        self.sealed = sealed
    }

    /// Each protocol gets what it needs of the secret.
    public mutating func setSecret(_ secret: Secret, _ seal: any SecretSeal) {
        ntHash = NTHash.of(secret.revealed)
        sealed = seal.seal(secret)
    }

    public var credential: Credential { Credential(uid: uid, gid: gid, groups: groups) }
}

public struct Group: Equatable, Sendable {
    public var name: String
    public var gid: UInt32
    public internal(set) var rid: UInt32 = 0

    public init(name: String, gid: UInt32) {
        self.name = name
        self.gid = gid
    }
}

/// What a SID, or an entry of an access list, stands for.
public enum Principal: Hashable, Sendable {
    /// Whoever owns the file.
    case owner
    /// Whoever is in the file's group.
    case owningGroup
    case everyone
    case user(UInt32)
    case group(UInt32)
    /// Somebody whom only a domain knows.
    case sid(SID)
}

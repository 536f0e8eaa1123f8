import Logging

/// Users, exports, shares and quotas of one moment: immutable, shared by all loops. Front ends ask the registry for the
/// present one at each request that needs it.
public final class RegistrySnapshot: Sendable {
    /// What one volume keeps.
    public struct VolumeRecords: Equatable, Sendable {
        public internal(set) var exports: [ExportRecord] = []
        public internal(set) var shares: [ShareRecord] = []
        public internal(set) var quotas: [QuotaRecord] = []
    }

    public let users: UserTable
    /// By name; every volume that is attached.
    public let volumes: [String: VolumeRecords]
    /// What a configuration may declare; names are folded.
    enum Declared: Hashable, Sendable {
        case user(String)
        case export(String)
        case share(String)
    }

    private let places: [Declared: String]
    /// By the folded name.
    private let sharesByName: [String: (volume: String, share: ShareRecord)]
    private let seal: any SecretSeal

    init(
        users: UserTable, volumes: [String: VolumeRecords], places: [Declared: String], seal: any SecretSeal
    ) {
        self.users = users
        self.volumes = volumes
        self.places = places
        self.seal = seal
        var sharesByName: [String: (volume: String, share: ShareRecord)] = [:]
        for (volume, records) in volumes {
            for share in records.shares { sharesByName[share.name.lowercased()] = (volume, share) }
        }
        // Each volume is a share of its own name, unless one says otherwise.
        for volume in volumes.keys.sorted() where sharesByName[volume.lowercased()] == nil {
            sharesByName[volume.lowercased()] = (volume, ShareRecord(name: volume))
        }
        self.sharesByName = sharesByName
    }

    // MARK: For SMB

    /// `NAME`, `.\NAME`, `WORKGROUP\NAME`; NTLMv2 checks against `ntHash`. Nil: nobody, or not let in.
    public func user(smb name: String) -> User? {
        guard let user = users.user(smb: name), !user.isDisabled, !user.ntHash.isEmpty else { return nil }
        return user
    }

    /// The share of this name in whatever case, and its volume: one that was made, or a volume's own.
    public func share(_ name: String) -> (volume: String, share: ShareRecord)? {
        sharesByName[name.lowercased()]
    }

    /// All, by name.
    public var shares: [(volume: String, share: ShareRecord)] {
        sharesByName.values.sorted { $0.share.name < $1.share.name }
    }

    // MARK: For S3 and Swift

    /// Whom a request with this access key is from, for which volume, and the secret that its signature was made with.
    public func holder(accessKey id: String) -> (user: User, volume: String, secret: Secret)? {
        guard let holder = users.user(accessKey: id), let secret = seal.open(holder.sealed) else { return nil }
        return (holder.user, holder.volume, secret)
    }

    /// The secret of a user, as Swift's `X-Auth-Key` must be.
    public func secret(of user: User) -> Secret? { user.isDisabled ? nil : seal.open(user.sealed) }

    // MARK: For all

    public func rights(of user: User, on volume: String) -> VolumeRights {
        user.isDisabled ? [] : user.rights[volume] ?? []
    }

    /// What users of this server may do with a volume, by their uids, as far as that is not everything: for protocols whose
    /// clients say a uid. Whoever is no user of the server is bound by the way in and by the files' own rights alone.
    public func restrictedRights(on volume: String) -> [UInt32: VolumeRights] {
        var restricted: [UInt32: VolumeRights] = [:]
        for user in users.allUsers {
            let rights = rights(of: user, on: volume)
            if !rights.isSuperset(of: [.read, .write]) { restricted[user.uid] = rights }
        }
        return restricted
    }

    /// File and line, or option, that declares the user.
    public func place(ofUser name: String) -> String? { places[.user(UserTable.folded(name))] }
    public func place(ofExport path: String) -> String? { places[.export(path)] }
    public func place(ofShare name: String) -> String? { places[.share(name.lowercased())] }

    /// Exports that were made, by path.
    public var exports: [(volume: String, export: ExportRecord)] {
        volumes.flatMap { volume, records in records.exports.map { (volume: volume, export: $0) } }
            .sorted { $0.export.path < $1.export.path }
    }
}

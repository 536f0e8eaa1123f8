import Logging
import Namespace

/// Whom an access key belongs to.
public struct AccessGrant: Sendable {
    public var user: String
    public var credential: Credential
    /// The volume whose directories are the buckets.
    public var volume: String
    public var secret: Secret
    public var isReadOnly: Bool

    public init(user: String, credential: Credential, volume: String, secret: Secret, isReadOnly: Bool = false) {
        self.user = user
        self.credential = credential
        self.volume = volume
        self.secret = secret
        self.isReadOnly = isReadOnly
    }
}

/// Who has which access key. Asked once for each signed request, from any loop; never waits.
public protocol CredentialSource: AnyObject, Sendable {
    func grant(accessKey: String) -> AccessGrant?
    /// The name of a user, for listings that name owners.
    func userName(uid: UInt32) -> String?
    /// The user of this name, as bucket policies name principals.
    func uid(userName: String) -> UInt32?
}

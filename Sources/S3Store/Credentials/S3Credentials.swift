import Logging
import Runtime
import Transfer

/// A key, its secret, and for those that last some hours only the token that goes with them.
public struct S3Credentials: Sendable, Equatable {
    public var accessKey: String
    public var secret: Secret
    public var token: Secret?
    /// Seconds since 1970; nil: they do not end.
    public var expires: Int64?

    public init(accessKey: String, secret: Secret, token: Secret? = nil, expires: Int64? = nil) {
        (self.accessKey, self.secret, self.token, self.expires) = (accessKey, secret, token, expires)
    }
}

/// Where credentials come from.
public protocol S3CredentialSource: AnyObject, Sendable {
    /// What it is, for people; without secrets.
    var description: String { get }
    func fetch() async throws(StoreProblem) -> S3Credentials
}

/// Those of the configuration.
public final class FixedCredentials: S3CredentialSource {
    public let description: String
    private let credentials: S3Credentials

    public init(_ credentials: S3Credentials, from description: String) {
        self.credentials = credentials
        self.description = description
    }

    public func fetch() async throws(StoreProblem) -> S3Credentials { credentials }
}

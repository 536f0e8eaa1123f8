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
    /// Others may put other ones there at any time, without a word.
    var mayChange: Bool { get }
}

extension S3CredentialSource {
    public var mayChange: Bool { false }
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

/// Those of files, which are read again when the store no longer takes what they held.
public final class FileCredentials: S3CredentialSource {
    public let description: String
    public var mayChange: Bool { true }
    private let read: @Sendable () async -> S3Credentials?

    /// `read` answers nil when there are none.
    public init(from description: String, _ read: @escaping @Sendable () async -> S3Credentials?) {
        self.description = description
        self.read = read
    }

    public func fetch() async throws(StoreProblem) -> S3Credentials {
        guard let credentials = await read() else {
            throw StoreProblem(
                tried: "reading \(description)", answer: "there are no credentials", advice: "look at that file")
        }
        return credentials
    }
}

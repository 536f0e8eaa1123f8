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

/// Keeps what a source gave until shortly before it ends. On its loop only.
final class S3CredentialCache: @unchecked Sendable {
    /// So long before their end they are fetched anew, while the old ones still serve.
    static let renewSeconds: Int64 = 300
    /// A source that failed is not asked again at once.
    static let pauseNanoseconds: UInt64 = 1_000_000_000

    let source: any S3CredentialSource
    private let clock: any WorldClock
    private let loop: EventLoop
    private var known: S3Credentials?
    private var renewal: Task<Result<S3Credentials, StoreProblem>, Never>?
    private var failure: (problem: StoreProblem, time: UInt64)?

    init(_ source: any S3CredentialSource, clock: any WorldClock, loop: EventLoop) {
        (self.source, self.clock, self.loop) = (source, clock, loop)
    }

    private func secondsLeft(_ credentials: S3Credentials) -> Int64 {
        guard let expires = credentials.expires else { return .max }
        return expires.subtractingReportingOverflow(clock.wall() / 1_000_000_000).partialValue
    }

    func current() async throws(StoreProblem) -> S3Credentials {
        if let known {
            let left = secondsLeft(known)
            if left > Self.renewSeconds { return known }
            let task = renew()
            if left > 0 { return known }
            guard let task else { throw failure?.problem ?? Self.none }
            return try await task.value.get()
        }
        guard let task = renew() else { throw failure?.problem ?? Self.none }
        return try await task.value.get()
    }

    /// The store no longer takes these. Others may have been fetched meanwhile.
    func refuse(_ credentials: S3Credentials) {
        if known == credentials { known = nil }
    }

    private static let none = StoreProblem(tried: "fetching credentials", answer: "none", advice: "name others")

    /// One at a time, whoever asks.
    private func renew() -> Task<Result<S3Credentials, StoreProblem>, Never>? {
        if let renewal { return renewal }
        if let failure, loop.now - failure.time < Self.pauseNanoseconds { return nil }
        let source = source
        let task = loop.task { () async -> Result<S3Credentials, StoreProblem> in
            let result: Result<S3Credentials, StoreProblem>
            do throws(StoreProblem) { result = .success(try await source.fetch()) } catch { result = .failure(error) }
            self.renewal = nil
            switch result {
            case .success(let fresh): (self.known, self.failure) = (fresh, nil)
            case .failure(let problem): self.failure = (problem, self.loop.now)
            }
            return result
        }
        renewal = task
        return task
    }
}

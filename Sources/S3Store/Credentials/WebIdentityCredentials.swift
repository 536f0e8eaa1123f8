import Bytes
import Logging
import Runtime
import Transfer
import XML

/// Those that the security token service gives for a token that somebody else vouches for us with, in a file that is
/// renewed under us.
public final class WebIdentityCredentials: S3CredentialSource {
    public struct Options: Sendable {
        public var endpoint: Endpoint
        public var role: String
        public var session: String
        /// Read at each renewal. Nil: it can not be read.
        public var token: @Sendable () async -> Secret?
        /// Where it is, for people.
        public var tokenPlace: String

        public init(
            endpoint: Endpoint, role: String, session: String, tokenPlace: String,
            token: @escaping @Sendable () async -> Secret?
        ) {
            (self.endpoint, self.role, self.session) = (endpoint, role, session)
            (self.tokenPlace, self.token) = (tokenPlace, token)
        }
    }

    private static let limitNanoseconds: UInt64 = 10_000_000_000
    private let options: Options
    private let pool: TransferPool

    public init(_ options: Options, over pool: TransferPool) {
        self.options = options
        self.pool = pool
    }

    public var description: String { "the role \(options.role) by \(options.endpoint)" }

    public func fetch() async throws(StoreProblem) -> S3Credentials {
        guard let token = await options.token(), !token.isEmpty else {
            throw problem("\(options.tokenPlace) can not be read", "put the token there, for this user to read")
        }
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"), ("Version", "2011-06-15"), ("RoleArn", options.role),
            ("RoleSessionName", options.session), ("WebIdentityToken", token.revealed),
        ]
        let text = fields.map { "\($0.0)=\(Endpoint.escape($0.1))" }.joined(separator: "&")
        var request = TransferRequest(.post, options.endpoint.description + "/")
        request.headers = [("Content-Type", "application/x-www-form-urlencoded")]
        request.body = .blocks([Array(text.utf8).withUnsafeBytes { Block(copying: $0) }])
        request.limitNanoseconds = Self.limitNanoseconds
        request.purpose = .access
        let reply = await pool.perform(request)
        if let failure = reply.failure { throw problem("no answer: \(failure)", "is that the right address?") }
        let root = XMLElement(parsing: reply.bodyBytes)
        guard reply.status == 200 else {
            let code = root?["Error"]?.text("Code") ?? "status \(reply.status)"
            throw problem(code, "may this token take that role?")
        }
        guard let given = root?["AssumeRoleWithWebIdentityResult"]?["Credentials"], let key = given.text("AccessKeyId"),
            let secret = given.text("SecretAccessKey"), let session = given.text("SessionToken")
        else { throw problem("something that is no credentials", "is that a security token service?") }
        return S3Credentials(
            accessKey: key, secret: Secret(secret), token: Secret(session),
            expires: given.text("Expiration").flatMap { Timestamp.extended($0) })
    }

    private func problem(_ answer: String, _ advice: String) -> StoreProblem {
        StoreProblem(tried: "fetching credentials for \(description)", answer: answer, advice: advice)
    }
}

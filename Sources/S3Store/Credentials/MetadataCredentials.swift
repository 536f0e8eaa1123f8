import JSON
import Logging
import Runtime
import Transfer

/// Those of the machine that we run on, from its metadata service (version 2: a token first, so that nobody who can
/// make us fetch an address gets at them).
public final class MetadataCredentials: S3CredentialSource {
    public static let standardEndpoint = "http://169.254.169.254"
    private static let path = "/latest/meta-data/iam/security-credentials/"
    private static let tokenSeconds = 300
    private static let limitNanoseconds: UInt64 = 5_000_000_000

    private let endpoint: Endpoint
    private let pool: TransferPool

    public init(_ endpoint: Endpoint, over pool: TransferPool) {
        self.endpoint = endpoint
        self.pool = pool
    }

    public var description: String { "the instance's metadata at \(endpoint)" }

    public func fetch() async throws(StoreProblem) -> S3Credentials {
        let token = try await ask(
            .put, "/latest/api/token", ("X-aws-ec2-metadata-token-ttl-seconds", "\(Self.tokenSeconds)"))
        let header = ("X-aws-ec2-metadata-token", String(decoding: token, as: UTF8.self))
        let roles = String(decoding: try await ask(.get, Self.path, header), as: UTF8.self)
        guard let role = roles.split(whereSeparator: \.isNewline).first, !role.isEmpty else {
            throw problem("no role", "give the instance a role")
        }
        let bytes = try await ask(.get, Self.path + Endpoint.escape(String(role)), header)
        guard let json = try? JSON(bytes), let credentials = S3Credentials(json) else {
            throw problem("something that is no credentials", "give the instance a role that may use the bucket")
        }
        return credentials
    }

    private func ask(
        _ method: TransferRequest.Method, _ path: String, _ header: (name: String, value: String)
    ) async throws(StoreProblem) -> [UInt8] {
        var request = TransferRequest(method, endpoint.description + path)
        request.headers = [header]
        request.limitNanoseconds = Self.limitNanoseconds
        request.usesProxy = false
        if method == .put { request.body = .blocks([]) }
        request.purpose = .access
        let reply = await pool.perform(request)
        if let failure = reply.failure {
            throw problem("no answer: \(failure)", "run on an instance, or name other credentials for the store")
        }
        guard reply.status == 200 else {
            throw problem("status \(reply.status)", "give the instance a role, or name other credentials")
        }
        return reply.bodyBytes
    }

    private func problem(_ answer: String, _ advice: String) -> StoreProblem {
        StoreProblem(tried: "fetching credentials from \(description)", answer: answer, advice: advice)
    }
}

extension S3Credentials {
    /// As the metadata service and its like write them. Nil: those are none.
    init?(_ json: JSON) {
        guard let key = json["AccessKeyId"]?.text, let secret = json["SecretAccessKey"]?.text, !key.isEmpty,
            !secret.isEmpty
        else { return nil }
        self.init(
            accessKey: key, secret: Secret(secret), token: json["Token"]?.text.map { Secret($0) },
            expires: json["Expiration"]?.text.flatMap { Timestamp.extended($0) })
    }
}

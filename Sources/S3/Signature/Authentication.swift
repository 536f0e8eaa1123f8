import Crypto
import Namespace
import Runtime

/// Who sends a request, and how its body is vouched for.
struct Authentication: Sendable {
    /// Nil: nobody in particular.
    var grant: AccessGrant?
    var payload = PayloadProof.none

    enum PayloadProof: Sendable {
        /// Nothing is known of the body beforehand.
        case none
        /// The hash of the whole.
        case sha256([UInt8])
        /// `aws-chunked`: with signatures or without, with fields behind the last chunk or without.
        case chunks(ChunkSigning?, hasTrailer: Bool)
    }
}

/// Checks the signature of a request, in whichever of the API's ways it is made.
struct Authenticator {
    static let skewSecondsMax: Int64 = 900
    static let presignedSecondsMax = 604_800

    let source: any CredentialSource
    let region: String
    let keys: SigningKeys
    /// Seconds since 1970.
    let now: Int64

    func authenticate(_ request: S3Request) throws(S3Error) -> Authentication {
        let isQuery4 = request.query.has("X-Amz-Algorithm")
        let isQuery2 = request.query.has("AWSAccessKeyId")
        if let authorization = request.field("authorization") {
            guard !isQuery4, !isQuery2 else {
                throw S3Error(
                    .invalidArgument,
                    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                        + "parameter or the Authorization header should be specified")
            }
            if authorization.hasPrefix("AWS4-HMAC-SHA256") {
                return try SignatureV4(self, request).header(authorization)
            }
            if authorization.hasPrefix("AWS ") { return try SignatureV2(self, request).header(authorization) }
            throw S3Error(
                .invalidArgument, "Unsupported Authorization Type",
                details: [("ArgumentName", "Authorization"), ("ArgumentValue", authorization)])
        }
        if isQuery4 { return try SignatureV4(self, request).query() }
        if isQuery2 { return try SignatureV2(self, request).query() }
        return Authentication(grant: nil, payload: try unsignedPayload(request))
    }

    /// Without a signature in the header the body may still come in chunks, or with a hash.
    func unsignedPayload(_ request: S3Request) throws(S3Error) -> Authentication.PayloadProof {
        guard let text = request.value("x-amz-content-sha256") else { return .none }
        return try Self.payload(text, signing: nil)
    }

    /// What `x-amz-content-sha256` says.
    static func payload(_ text: String, signing: ChunkSigning?) throws(S3Error) -> Authentication.PayloadProof {
        switch text {
        case "UNSIGNED-PAYLOAD": return .none
        case "STREAMING-UNSIGNED-PAYLOAD-TRAILER": return .chunks(nil, hasTrailer: true)
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
            guard let signing else {
                throw S3Error(.invalidRequest, "Signed chunks need a signature in the Authorization header.")
            }
            return .chunks(signing, hasTrailer: text.hasSuffix("-TRAILER"))
        default:
            guard text.utf8.count == 64, let hash = Hexadecimal.decode(text.utf8) else {
                throw S3Error(
                    .invalidArgument,
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
                        + "STREAMING-UNSIGNED-PAYLOAD-TRAILER, or a valid sha256 value.",
                    details: [("ArgumentName", "x-amz-content-sha256"), ("ArgumentValue", text)])
            }
            return .sha256(hash)
        }
    }

    /// Whose key it is: one that is kept, or a temporary one, which is known by its token.
    func grant(_ accessKey: String, token: String?) throws(S3Error) -> AccessGrant {
        if let token { return try SessionKey.grant(accessKey, token, now: now, source) }
        guard let grant = source.grant(accessKey: accessKey) else {
            throw S3Error(.invalidAccessKeyId, details: [("AWSAccessKeyId", accessKey)])
        }
        return grant
    }

    /// Requests of another time may be ones that somebody has overheard.
    func checkSkew(_ time: Int64, _ text: String) throws(S3Error) {
        guard abs(time - now) <= Self.skewSecondsMax else {
            throw S3Error(
                .requestTimeTooSkewed,
                "The request's time is \(text), the server's is \(Timestamp.extended(seconds: now)): they may "
                    + "differ by \(Self.skewSecondsMax) seconds. Set the clock.",
                details: [
                    ("RequestTime", text), ("ServerTime", Timestamp.extended(seconds: now)),
                    ("MaxAllowedSkewMilliseconds", "\(Self.skewSecondsMax * 1000)"),
                ])
        }
    }

    /// A presigned address whose time is over.
    func expired(_ seconds: Int64) -> S3Error {
        S3Error(
            .accessDenied, "Request has expired",
            details: [
                ("Expires", Timestamp.extended(seconds: seconds)),
                ("ServerTime", Timestamp.extended(seconds: now)),
            ])
    }
}

/// Keys that signatures of one day are made with: four hashes each, kept for the next request. Of one loop.
package final class SigningKeys: @unchecked Sendable {
    private static let countMax = 256
    private var keys: [String: (secret: String, key: [UInt8])] = [:]

    func key(_ accessKey: String, _ secret: String, day: String, region: String) -> [UInt8] {
        let name = "\(accessKey)\n\(day)\n\(region)"
        if let known = keys[name], known.secret == secret { return known.key }
        let key = Self.derive(secret, day: day, region: region)
        if keys.count >= Self.countMax { keys.removeAll(keepingCapacity: true) }
        keys[name] = (secret, key)
        return key
    }

    package static func derive(_ secret: String, day: String, region: String) -> [UInt8] {
        SignatureV4Key.derive(secret, day: day, region: region)
    }
}

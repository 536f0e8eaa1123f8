import Crypto
import Logging
import Runtime

/// An access key for a while, made from another one. The server keeps nothing of it: its token says from which key it was made and
/// until when it is good, under a seal that only who knows that key's secret can make. It ends with that key.
public struct SessionKey: Sendable {
    public static let secondsMax: UInt64 = 7 * 86_400
    public static let saltBytes = 16
    private static let version: UInt8 = 1
    private static let parentBytesMax = 512

    public let accessKey: String
    public let secret: Secret
    /// What comes with each request as `x-amz-security-token`.
    public let token: String

    /// `parent` and `secret`: the key that it is made from. `until`: in seconds since 1970.
    public init(of parent: String, _ secret: Secret, until: Int64, salt: [UInt8]) {
        precondition(salt.count == Self.saltBytes, "what tells keys apart has one size")
        let end = (0..<8).map { UInt8(truncatingIfNeeded: until >> (56 - 8 * Int64($0))) }
        let body = [Self.version] + end + salt + Array(parent.utf8)
        // No signature of a request is made with this key.
        let key = Array("proxyfs session \(secret.revealed)".utf8)
        func made(_ what: String) -> [UInt8] { HMAC.of(.sha256, key: key, Array(what.utf8) + body) }
        accessKey = "PXS" + Hexadecimal.encode(salt).uppercased()
        self.secret = Secret(Base64.encode(made("secret")))
        token = Base64.encode(body + made("seal"))
    }

    /// Whose key this is, if the token is one of ours and not over.
    static func grant(
        _ accessKey: String, _ token: String, now: Int64, _ source: any CredentialSource
    ) throws(S3Error) -> AccessGrant {
        let invalid = S3Error(.invalidToken, "The provided token is malformed or otherwise invalid.")
        let sealBytes = 32
        let headBytes = 9 + saltBytes
        guard token.utf8.count <= 2 * (headBytes + parentBytesMax + sealBytes), let bytes = Base64.decode(token),
            bytes.count > headBytes + sealBytes, bytes[0] == version,
            let parent = String(validating: bytes[headBytes..<(bytes.count - sealBytes)], as: UTF8.self),
            parent.utf8.count <= parentBytesMax, var grant = source.grant(accessKey: parent)
        else { throw invalid }
        let until = bytes[1..<9].reduce(Int64(0)) { $0 << 8 | Int64($1) }
        let key = SessionKey(of: parent, grant.secret, until: until, salt: Array(bytes[9..<headBytes]))
        guard isEqualInConstantTime(Array(key.token.utf8), Array(token.utf8)), key.accessKey == accessKey else {
            throw invalid
        }
        guard now < until else { throw S3Error(.expiredToken, "The provided token has expired.") }
        grant.secret = key.secret
        return grant
    }
}

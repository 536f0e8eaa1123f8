import Crypto
import HTTP
import Logging
import Runtime

/// AWS Signature Version 2, which some clients still presign with.
struct SignatureV2 {
    private let authenticator: Authenticator
    private let request: S3Request

    init(_ authenticator: Authenticator, _ request: S3Request) {
        self.authenticator = authenticator
        self.request = request
    }

    /// Parameters that are part of what is signed.
    private static let signedParameters: Set<String> = [
        "accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle", "location",
        "logging", "metrics", "notification", "object-lock", "partNumber", "policy", "replication", "requestPayment",
        "response-cache-control", "response-content-disposition", "response-content-encoding",
        "response-content-language", "response-content-type", "response-expires", "restore", "select", "select-type",
        "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
    ]

    func header(_ authorization: String) throws(S3Error) -> Authentication {
        let pair = authorization.dropFirst(4).drop { $0 == " " }
        guard let colon = pair.lastIndex(of: ":"), colon > pair.startIndex else {
            throw S3Error(
                .invalidArgument, "AWS authorization header is invalid. Expected AwsAccessKeyId:signature",
                details: [("ArgumentName", "Authorization"), ("ArgumentValue", authorization)])
        }
        guard let text = request.value("x-amz-date") ?? request.value("date"),
            let time = Timestamp.http(text) ?? Timestamp.basic(text)
        else { throw S3Error(.accessDenied, "AWS authentication requires a valid Date or x-amz-date header") }
        try authenticator.checkSkew(time, text)
        // With a date of its own the other one is not signed.
        let date = request.value("x-amz-date") == nil ? text : ""
        let grant = try verify(
            String(pair[..<colon]), String(pair[pair.index(after: colon)...]), date,
            token: request.value("x-amz-security-token"))
        return Authentication(grant: grant, payload: try authenticator.unsignedPayload(request))
    }

    func query() throws(S3Error) -> Authentication {
        guard let key = request.query["AWSAccessKeyId"], let signature = request.query["Signature"],
            let text = request.query["Expires"], let expires = Int64(text), expires >= 0
        else {
            throw S3Error(
                .accessDenied,
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
        }
        guard authenticator.now <= expires else { throw authenticator.expired(expires) }
        // A line of its own would be another field.
        let presigned = request.query[Self.tokenField].flatMap { $0.utf8.contains(10) ? nil : $0 }
        let grant = try verify(
            key, signature, text, token: request.value("x-amz-security-token") ?? presigned, presigned: presigned)
        return Authentication(grant: grant, payload: try authenticator.unsignedPayload(request))
    }

    private func verify(
        _ accessKey: String, _ signature: String, _ date: String, token: String?, presigned: String? = nil
    ) throws(S3Error) -> AccessGrant {
        let grant = try authenticator.grant(accessKey, token: token)
        let toSign = self.toSign(date, presigned: presigned)
        let wanted = Base64.encode(HMAC.of(.sha1, key: Array(grant.secret.revealed.utf8), toSign))
        guard isEqualInConstantTime(Array(wanted.utf8), Array(signature.utf8)) else {
            throw S3Error(
                .signatureDoesNotMatch,
                details: [
                    ("AWSAccessKeyId", accessKey), ("StringToSign", toSign), ("SignatureProvided", signature),
                ])
        }
        return grant
    }

    /// `presigned`: who presigns with a key for a while puts its token into the query, and signs it as if it were in the head. No other field
    /// counts there: it would be signed, and read by nobody.
    private func amazonFields(presigned: String?) -> [String: String] {
        var fields: [String: String] = [:]
        if let presigned { fields["\(Self.tokenField)"] = presigned }
        for index in 0..<request.head.fields.count {
            let name = request.head.fields.name(at: index)
            if name.hasPrefix("x-amz-") { fields[name] = request.head.fields.all(name).joined(separator: ",") }
        }
        return fields
    }

    private static let tokenField: StaticString = "x-amz-security-token"

    private func toSign(_ date: String, presigned: String?) -> String {
        var text = "\(request.method.name)\n\(request.field("content-md5") ?? "")\n"
        text += "\(request.field("content-type") ?? "")\n\(date)\n"
        for field in amazonFields(presigned: presigned).sorted(by: { $0.key < $1.key }) {
            text += "\(field.key):\(field.value)\n"
        }
        if request.isVirtualHost { text += "/\(request.bucket)" }
        text += request.head.path
        var parameters: [(name: String, value: String)] = []
        for parameter in request.query.parameters {
            let name = String(decoding: parameter.name, as: UTF8.self)
            guard Self.signedParameters.contains(name) else { continue }
            parameters.append((name, String(decoding: parameter.value, as: UTF8.self)))
        }
        parameters.sort { $0.name < $1.name }
        for (index, parameter) in parameters.enumerated() {
            text += index == 0 ? "?" : "&"
            text += parameter.value.isEmpty ? parameter.name : "\(parameter.name)=\(parameter.value)"
        }
        return text
    }
}

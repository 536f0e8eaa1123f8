import Crypto
import Logging
import Runtime
import Transfer

/// AWS Signature Version 4, as a client makes it.
package struct RequestSigner: Sendable {
    package let region: String
    package let service: String

    package init(region: String, service: String = "s3") {
        self.region = region
        self.service = service
    }

    /// What a request is signed over, and how it is sent: both have the same escapes.
    package struct Target: Sendable {
        /// What the field Host will say.
        package var host: String
        /// Escaped; begins with a slash.
        package var path: String
        /// Not escaped, in any order.
        package var query: [(name: String, value: String)] = []

        package init(host: String, path: String, query: [(name: String, value: String)] = []) {
            (self.host, self.path, self.query) = (host, path, query)
        }

        /// By name: that is how it is signed, and how it is sent.
        package var queryText: String {
            query.map { (Endpoint.escape($0.name), Endpoint.escape($0.value)) }
                .sorted { $0.0 == $1.0 ? Self.precedes($0.1, $1.1) : Self.precedes($0.0, $1.0) }
                .map { "\($0.0)=\($0.1)" }.joined(separator: "&")
        }

        private static func precedes(_ a: String, _ b: String) -> Bool {
            a.utf8.lexicographicallyPrecedes(b.utf8)
        }
    }

    /// Adds date, hash, token and signature to `headers`, all of which are signed.
    package func sign(
        _ method: TransferRequest.Method, _ target: Target, _ headers: inout [(name: String, value: String)],
        payload hash: String, _ credentials: S3Credentials, seconds: Int64
    ) {
        let date = Timestamp.basic(seconds: seconds)
        let day = String(date.prefix(8))
        headers.append(("x-amz-date", date))
        headers.append(("x-amz-content-sha256", hash))
        if let token = credentials.token { headers.append(("x-amz-security-token", token.revealed)) }
        let signed = (headers.map { ($0.name.lowercased(), Self.squeezed($0.value)) } + [("host", target.host)])
            .sorted { $0.0.utf8.lexicographicallyPrecedes($1.0.utf8) }
        let names = signed.map(\.0).joined(separator: ";")
        let canonical =
            "\(method.rawValue)\n\(target.path)\n\(target.queryText)\n"
            + signed.map { "\($0.0):\($0.1)\n" }.joined() + "\n\(names)\n\(hash)"
        let scope = "\(day)/\(region)/\(service)/aws4_request"
        let toSign =
            "AWS4-HMAC-SHA256\n\(date)\n\(scope)\n" + Hexadecimal.encode(Digest.of(.sha256, Array(canonical.utf8)))
        let key = SignatureV4Key.derive(credentials.secret.revealed, day: day, region: region, service: service)
        let signature = Hexadecimal.encode(HMAC.of(.sha256, key: key, toSign))
        headers.append(
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=\(credentials.accessKey)/\(scope), SignedHeaders=\(names), "
                    + "Signature=\(signature)"
            ))
    }

    /// Without space at its ends, and runs of it as one.
    private static func squeezed(_ value: String) -> String {
        value.split(separator: " ").joined(separator: " ")
    }
}

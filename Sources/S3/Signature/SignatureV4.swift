import Crypto
import HTTP
import Logging
import Runtime

/// AWS Signature Version 4, in the Authorization header or in the query.
struct SignatureV4 {
    private let authenticator: Authenticator
    private let request: S3Request

    init(_ authenticator: Authenticator, _ request: S3Request) {
        self.authenticator = authenticator
        self.request = request
    }

    /// `KEY/20130524/us-east-1/s3/aws4_request`
    private struct Scope {
        var accessKey: String
        var day: String
        var region: String
        var text: String { "\(day)/\(region)/s3/aws4_request" }
    }

    // MARK: The two ways

    func header(_ authorization: String) throws(S3Error) -> Authentication {
        // By bytes: this is done for each request, and to Swift a character is a costly thing.
        var parts: (credential: Substring?, signed: Substring?, signature: Substring?)
        for part in authorization.utf8.dropFirst("AWS4-HMAC-SHA256".utf8.count).split(separator: UInt8(ascii: ",")) {
            let trimmed = part.drop { $0 == 0x20 }
            guard let equals = trimmed.firstIndex(of: UInt8(ascii: "=")) else {
                throw malformed("a part of it has no =")
            }
            var value = trimmed[trimmed.index(after: equals)...]
            while value.last == 0x20 { value.removeLast() }
            let name = trimmed[..<equals]
            if name.elementsEqual("Credential".utf8) {
                parts.credential = Substring(value)
            } else if name.elementsEqual("SignedHeaders".utf8) {
                parts.signed = Substring(value)
            } else if name.elementsEqual("Signature".utf8) {
                parts.signature = Substring(value)
            }
        }
        guard let credential = parts.credential, let signed = parts.signed, let signature = parts.signature else {
            throw malformed("it needs Credential, SignedHeaders and Signature")
        }
        let scope = try scope(credential) { (what) in self.malformed(what) }
        let (time, text) = try date()
        guard Timestamp.day(time) == scope.day else {
            throw malformed("the date of the credential is not that of the request")
        }
        try authenticator.checkSkew(time, text)
        guard let hash = request.value("x-amz-content-sha256") else {
            throw S3Error(.invalidRequest, "Missing required header for this request: x-amz-content-sha256")
        }
        let names = Self.names(signed)
        try check(names)
        let grant = try authenticator.grant(scope.accessKey, token: request.value("x-amz-security-token"))
        let key = authenticator.keys.key(
            scope.accessKey, grant.secret.revealed, day: scope.day, region: scope.region)
        try verify(names, hash, scope, text, key, String(signature), isQuery: false)
        let signing = ChunkSigning(
            key: key, date: text, scope: scope.text, seed: String(signature))
        return Authentication(grant: grant, payload: try Authenticator.payload(hash, signing: signing))
    }

    func query() throws(S3Error) -> Authentication {
        let query = request.query
        guard query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256" else {
            throw parameters("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
        }
        guard let credential = query["X-Amz-Credential"], let signed = query["X-Amz-SignedHeaders"],
            let signature = query["X-Amz-Signature"], let text = query["X-Amz-Date"],
            let life = query["X-Amz-Expires"]
        else {
            throw parameters(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
                    + "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
        }
        guard let time = Timestamp.basic(text) else {
            throw parameters("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        }
        guard let seconds = Int(life), seconds >= 0 else { throw parameters("X-Amz-Expires should be a number") }
        guard seconds <= Authenticator.presignedSecondsMax else {
            throw parameters("X-Amz-Expires must be less than a week (in seconds)")
        }
        let scope = try scope(Substring(credential)) { (what) in self.parameters(what) }
        guard Timestamp.day(time) == scope.day else {
            throw parameters("Invalid credential date \"\(scope.day)\". This date is not the same as X-Amz-Date.")
        }
        guard time <= authenticator.now + Authenticator.skewSecondsMax else {
            throw S3Error(.accessDenied, "Request is not yet valid")
        }
        guard authenticator.now <= time + Int64(seconds) else { throw authenticator.expired(time + Int64(seconds)) }
        let names = Self.names(Substring(signed))
        try check(names)
        let grant = try authenticator.grant(scope.accessKey, token: query["X-Amz-Security-Token"])
        let key = authenticator.keys.key(scope.accessKey, grant.secret.revealed, day: scope.day, region: scope.region)
        let hash = request.value("x-amz-content-sha256") ?? query["X-Amz-Content-Sha256"] ?? "UNSIGNED-PAYLOAD"
        try verify(names, hash, scope, text, key, signature, isQuery: true)
        return Authentication(grant: grant, payload: try Authenticator.payload(hash, signing: nil))
    }

    // MARK: Parts

    private static func names(_ list: Substring) -> [String] {
        list.utf8.split(separator: UInt8(ascii: ";")).map { String(decoding: $0, as: UTF8.self) }
    }

    private func malformed(_ what: String) -> S3Error {
        S3Error(.authorizationHeaderMalformed, "The authorization header is malformed; \(what).")
    }

    private func parameters(_ what: String) -> S3Error { S3Error(.authorizationQueryParametersError, what) }

    private func scope(_ text: Substring, _ fault: (String) -> S3Error) throws(S3Error) -> Scope {
        // Access keys may hold slashes, the rest does not.
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Substring.init)
        guard parts.count >= 5, parts[parts.count - 1] == "aws4_request" else {
            throw fault("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"")
        }
        guard parts[parts.count - 2] == "s3" else {
            throw fault("incorrect service \"\(parts[parts.count - 2])\". This endpoint belongs to \"s3\"")
        }
        let region = parts[parts.count - 3]
        guard region == authenticator.region else {
            throw S3Error(
                .authorizationHeaderMalformed,
                "The authorization header is malformed; the region '\(region)' is wrong; expecting "
                    + "'\(authenticator.region)'",
                details: [("Region", authenticator.region)])
        }
        let day = parts[parts.count - 4]
        guard day.utf8.count == 8, Timestamp.basic("\(day)T000000Z") != nil else {
            throw fault(
                "incorrect date format \"\(day)\". This date in the credential must be in the format \"yyyyMMdd\"")
        }
        return Scope(
            accessKey: parts[..<(parts.count - 4)].joined(separator: "/"), day: String(day), region: String(region))
    }

    private func date() throws(S3Error) -> (seconds: Int64, text: String) {
        if let text = request.value("x-amz-date") {
            if let time = Timestamp.basic(text) { return (time, text) }
            if let time = Timestamp.http(text) { return (time, text) }
        } else if let text = request.value("date") {
            if let time = Timestamp.http(text) { return (time, text) }
            if let time = Timestamp.basic(text) { return (time, text) }
        }
        throw S3Error(.accessDenied, "AWS authentication requires a valid Date or x-amz-date header")
    }

    /// What is not signed could have been added on the way.
    private func check(_ names: [String]) throws(S3Error) {
        guard names.contains("host") else {
            throw S3Error(.accessDenied, "The host header must be signed.")
        }
        let fields = request.head.fields
        for index in 0..<fields.count where fields.hasPrefix("x-amz-", at: index) {
            let name = fields.name(at: index)
            guard name != "x-amz-content-sha256", !names.contains(name) else { continue }
            throw S3Error(
                .accessDenied, "There were headers present in the request which were not signed",
                details: [("HeadersNotSigned", name)])
        }
    }

    private func verify(
        _ names: [String], _ hash: String, _ scope: Scope, _ date: String, _ key: [UInt8], _ signature: String,
        isQuery: Bool
    ) throws(S3Error) {
        // Clients escape the path in the form that the API prescribes; some sign it as they have sent it.
        let normal = PercentCoding.encode(request.path, keepsSlash: true)
        let sent = Array(request.head.path.utf8)
        var first: (canonical: [UInt8], toSign: [UInt8])?
        for path in sent == normal ? [normal] : [normal, sent] {
            let canonical = self.canonical(path, names, hash, isQuery: isQuery)
            let stamp = Timestamp.basic(date) == nil ? Timestamp.basic(seconds: Timestamp.http(date) ?? 0) : date
            let toSign =
                Array("AWS4-HMAC-SHA256\n\(stamp)\n\(scope.text)\n".utf8)
                + Hexadecimal.encode(Digest.of(.sha256, canonical)).utf8
            let wanted = Hexadecimal.encode(HMAC.of(.sha256, key: key, toSign))
            if isEqualInConstantTime(Array(wanted.utf8), Array(signature.utf8)) { return }
            if first == nil { first = (canonical, toSign) }
        }
        throw S3Error(
            .signatureDoesNotMatch,
            details: [
                ("AWSAccessKeyId", scope.accessKey),
                ("StringToSign", String(decoding: first?.toSign ?? [], as: UTF8.self)),
                ("SignatureProvided", signature),
                ("CanonicalRequest", String(decoding: first?.canonical ?? [], as: UTF8.self)),
            ])
    }

    private func canonical(_ path: [UInt8], _ names: [String], _ hash: String, isQuery: Bool) -> [UInt8] {
        var text = Array(request.method.name.utf8)
        text.reserveCapacity(1024)
        text.append(10)
        text += path.isEmpty ? [UInt8(ascii: "/")] : path
        text.append(10)
        appendQuery(&text, isQuery)
        text.append(10)
        for name in names {
            text += name.utf8
            text.append(UInt8(ascii: ":"))
            appendValues(of: name, &text)
            text.append(10)
        }
        text.append(10)
        for (index, name) in names.enumerated() {
            if index > 0 { text.append(UInt8(ascii: ";")) }
            text += name.utf8
        }
        text.append(10)
        text += hash.utf8
        return text
    }

    private func appendQuery(_ text: inout [UInt8], _ isQuery: Bool) {
        var pairs: [(name: [UInt8], value: [UInt8])] = []
        for parameter in request.query.parameters {
            if isQuery, parameter.name.elementsEqual("X-Amz-Signature".utf8) { continue }
            pairs.append(
                (
                    PercentCoding.encode(parameter.name, keepsSlash: false),
                    PercentCoding.encode(parameter.value, keepsSlash: false)
                ))
        }
        pairs.sort {
            $0.name == $1.name
                ? $0.value.lexicographicallyPrecedes($1.value) : $0.name.lexicographicallyPrecedes($1.name)
        }
        for (index, pair) in pairs.enumerated() {
            if index > 0 { text.append(UInt8(ascii: "&")) }
            text += pair.name
            text.append(UInt8(ascii: "="))
            text += pair.value
        }
    }

    /// All values of a field, with runs of spaces made one.
    private func appendValues(of name: String, _ text: inout [UInt8]) {
        let fields = request.head.fields
        var start = 0
        var isFirst = true
        while let index = fields.index(of: name, from: start) {
            if !isFirst { text.append(UInt8(ascii: ",")) }
            isFirst = false
            var wasSpace = false
            for byte in fields.valueBytes(at: index) {
                if byte == 0x20, wasSpace { continue }
                wasSpace = byte == 0x20
                text.append(byte)
            }
            start = index + 1
        }
    }
}

import Crypto
import HTTP

/// A request as S3 reads it: which bucket, which key, what of it.
struct S3Request: Sendable {
    static let keyBytesMax = 1024

    private(set) var head: RequestHead
    let query: S3Query
    /// The path with its percent signs resolved.
    let path: [UInt8]
    /// Empty: the service itself.
    let bucket: String
    /// Empty: the bucket itself.
    let key: [UInt8]
    /// The bucket came with the host's name.
    let isVirtualHost: Bool

    /// `domains`: names below which there are buckets.
    init(_ head: RequestHead, domains: [String]) throws(S3Error) {
        self.head = head
        query = try S3Query(head.query)
        guard let path = PercentCoding.decode(head.path.utf8) else {
            throw S3Error(.invalidURI, "The path could not be decoded.")
        }
        self.path = path
        let rest = path.dropFirst()
        if let bucket = Self.bucket(head.host, domains) {
            self.bucket = bucket
            key = Array(rest)
            isVirtualHost = true
        } else {
            let end = rest.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
            bucket = String(decoding: rest[..<end], as: UTF8.self)
            key = end == rest.endIndex ? [] : Array(rest[(end + 1)...])
            isVirtualHost = false
        }
        guard key.count <= Self.keyBytesMax else {
            throw S3Error(
                .keyTooLong, details: [("Size", "\(key.count)"), ("MaxSizeAllowed", "\(Self.keyBytesMax)")])
        }
    }

    /// `b.s3.example:8080` is the bucket b where `s3.example` is one of our names.
    private static func bucket(_ host: String, _ domains: [String]) -> String? {
        var name = host.lowercased()
        if let colon = name.lastIndex(of: ":"), !name.hasSuffix("]") { name = String(name[..<colon]) }
        for domain in domains where name.hasSuffix("." + domain) && name.utf8.count > domain.utf8.count + 1 {
            return String(name.dropLast(domain.count + 1))
        }
        return nil
    }

    var method: Method { head.method }

    /// By version 4, in the address.
    var isPresigned: Bool { query.has("X-Amz-Algorithm") }

    /// What signs an address, and is no field besides.
    private static let ofSignature: Set<String> = [
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
        "x-amz-security-token", "x-amz-content-sha256",
    ]

    /// Libraries sign the sum of the body that they do not have yet, which is that of nothing.
    private static func isSum(_ name: String) -> Bool {
        ChecksumAlgorithm.allCases.contains { name == $0.field }
    }

    /// Who signs an address may put fields into it: they are signed with it, and mean what they would in the head.
    func withFieldsOfAddress() throws(S3Error) -> S3Request {
        var request = self
        for parameter in query.parameters {
            let name = String(decoding: parameter.name, as: UTF8.self).lowercased()
            guard name.hasPrefix("x-amz-"), !Self.ofSignature.contains(name), !Self.isSum(name) else { continue }
            guard request.head.fields.index(of: name) == nil, let head = request.head.adding(name, parameter.value)
            else {
                throw S3Error(
                    .invalidArgument, "The address has a field that is there twice, or can be none.",
                    details: [("ArgumentName", name)])
            }
            request.head = head
        }
        return request
    }

    func field(_ name: String) -> String? { head.fields[name] }

    /// A header that is there and says something; some clients send empty ones.
    func value(_ name: String) -> String? {
        guard let value = head.fields[name], !value.isEmpty else { return nil }
        return value
    }

    /// Whether whoever sent this meant S3: it is signed in one of its ways.
    static func isSigned(_ head: RequestHead) -> Bool {
        if let authorization = head.fields["authorization"],
            authorization.hasPrefix("AWS4-HMAC-SHA256") || authorization.hasPrefix("AWS ")
        {
            return true
        }
        guard let query = head.query else { return false }
        return query.contains("X-Amz-Algorithm=") || (query.contains("AWSAccessKeyId=") && query.contains("Signature="))
    }
}

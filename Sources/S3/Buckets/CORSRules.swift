import HTTP
import XML

/// Which pages of other sites a browser may let at a bucket.
struct CORSRules: Sendable {
    static let rulesMax = 100

    struct Rule: Sendable {
        var origins: [String]
        var methods: [String]
        var headers: [String]
        var exposed: [String]
        var ageSeconds: Int?
    }

    private(set) var rules: [Rule] = []

    init(_ root: XMLElement) throws(S3Error) {
        guard root.name == "CORSConfiguration" else { throw S3Error(.malformedXML) }
        let items = root.all("CORSRule")
        guard !items.isEmpty, items.count <= Self.rulesMax, items.count == root.children.count else {
            throw S3Error(.malformedXML)
        }
        for item in items {
            let rule = Rule(
                origins: item.all("AllowedOrigin").map(\.text), methods: item.all("AllowedMethod").map(\.text),
                headers: item.all("AllowedHeader").map { $0.text.lowercased() },
                exposed: item.all("ExposeHeader").map(\.text),
                ageSeconds: item.text("MaxAgeSeconds").flatMap { Int($0) })
            guard !rule.origins.isEmpty, !rule.methods.isEmpty else { throw S3Error(.malformedXML) }
            for method in rule.methods where !["GET", "PUT", "HEAD", "POST", "DELETE"].contains(method) {
                throw S3Error(
                    .invalidRequest,
                    "Found unsupported HTTP method in CORS config. Unsupported method is \(method)")
            }
            for text in rule.origins + rule.headers where text.utf8.filter({ $0 == UInt8(ascii: "*") }).count > 1 {
                throw S3Error(.invalidRequest, "\(text) can not have more than one wildcard.")
            }
            rules.append(rule)
        }
    }

    /// The first rule that lets this origin do that.
    func rule(_ origin: String, _ method: String, headers: [String] = []) -> Rule? {
        rules.first { rule in
            rule.origins.contains { BucketPolicy.matches($0, origin) } && rule.methods.contains(method)
                && headers.allSatisfy { header in rule.headers.contains { BucketPolicy.matches($0, header) } }
        }
    }

    static func add(_ rule: Rule, _ origin: String, to fields: inout ResponseFields) {
        let isAny = rule.origins.contains("*")
        fields.add("access-control-allow-origin", isAny ? "*" : origin)
        if !isAny { fields.add("access-control-allow-credentials", "true") }
        fields.add("access-control-allow-methods", rule.methods.joined(separator: ", "))
        if !rule.exposed.isEmpty { fields.add("access-control-expose-headers", rule.exposed.joined(separator: ", ")) }
        if let age = rule.ageSeconds { fields.add("access-control-max-age", "\(age)") }
        fields.add("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
    }
}

import S3
import TestSupport
import Testing

/// A policy is what is enforced, or it is refused.
@Suite struct PolicyTests {
    private static func policy(_ rest: String, effect: String = "Deny", action: String = "s3:GetObject") -> [UInt8] {
        Array(
            """
            {"Version":"2012-10-17","Statement":[{"Effect":"\(effect)","Principal":"*","Action":"\(action)",\
            "Resource":["arn:aws:s3:::bkt","arn:aws:s3:::bkt/*"]\(rest)}]}
            """.utf8)
    }

    private static func condition(_ text: String) -> [UInt8] { policy(",\"Condition\":\(text)") }

    @Test(arguments: [
        policy("", action: "s3:GetObjects"), policy("", action: "s3:X*"), policy("", action: "iam:*"),
        condition("[]"), condition("\"x\""), condition("{\"IpAddress\":[]}"), condition("{\"IpAddress\":{}}"),
        condition("{\"IpAddress\":\"10.0.0.0/8\"}"), condition("{\"StringNotEquals\":{\"aws:SourceIp\":\"10.0.0.1\"}}"),
        condition("{\"StringNotLike\":{\"aws:SourceIp\":\"10.*\"}}"),
        condition("{\"StringEquals\":{\"aws:SourceIp\":\"10.0.0.1\"}}"),
        condition("{\"NotIpAddress\":{\"aws:Referer\":\"10.0.0.0/8\"}}"),
        condition("{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/99\"}}"),
        condition("{\"IpAddress\":{\"aws:SourceIp\":[]}}"),
        condition("{\"Bool\":{\"s3:prefix\":\"true\"}}"), condition("{\"Bool\":{\"aws:SecureTransport\":\"yes\"}}"),
        condition("{\"StringNotEquals\":{\"aws:SecureTransport\":\"true\"}}"),
        condition("{\"Null\":{\"aws:Referer\":\"maybe\"}}"),
        condition("{\"DateLessThan\":{\"aws:CurrentTime\":\"2030-01-01T00:00:00Z\"}}"),
    ])
    func whatWouldNotHoldIsRefused(_ text: [UInt8]) {
        #expect(throws: S3Error.self, "\(String(decoding: text, as: UTF8.self))") {
            try BucketPolicy(text, bucket: "bkt")
        }
    }

    @Test(arguments: [
        policy("", action: "s3:*"), policy("", action: "*"), policy("", action: "s3:Put*"),
        policy("", action: "s3:getobjectversion"), policy("", action: "s3:PutLifecycleConfiguration"),
        condition("{\"NotIpAddress\":{\"aws:SourceIp\":[\"10.0.0.0/8\",\"::1\"]}}"),
        condition("{\"Bool\":{\"aws:SecureTransport\":false},\"StringLike\":{\"s3:prefix\":[\"a/*\"]}}"),
        condition("{\"Null\":{\"aws:Referer\":\"true\"}}"),
    ])
    func whatHoldsIsTaken(_ text: [UInt8]) {
        #expect(throws: Never.self, "\(String(decoding: text, as: UTF8.self))") {
            try BucketPolicy(text, bucket: "bkt")
        }
    }

    /// By the names that the API has for what is asked; the owner can always mend the policy itself.
    @Test func denialsOfSettingsHold() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt/k", body: [1]).status == 200)
        func deny(_ action: String) throws {
            #expect(try site.request("PUT", "/bkt?policy", body: Self.policy("", action: action)).status == 204)
        }
        for (action, method, target) in [
            ("s3:PutBucketAcl", "PUT", "/bkt?acl"), ("s3:GetBucketAcl", "GET", "/bkt?acl"),
            ("s3:GetBucketTagging", "GET", "/bkt?tagging"), ("s3:PutBucketTagging", "DELETE", "/bkt?tagging"),
            ("s3:GetBucketCORS", "GET", "/bkt?cors"), ("s3:PutBucketCORS", "DELETE", "/bkt?cors"),
            ("s3:GetBucketVersioning", "GET", "/bkt?versioning"), ("s3:ListBucketVersions", "GET", "/bkt?versions"),
            ("s3:GetLifecycleConfiguration", "GET", "/bkt?lifecycle"), ("s3:GetObject", "GET", "/bkt/k"),
            ("s3:GetObject", "GET", "/bkt/k?versionId=null"), ("s3:GetObjectVersion", "GET", "/bkt/k?versionId=null"),
            ("s3:DeleteObjectTagging", "DELETE", "/bkt/k?tagging"),
        ] {
            try deny(action)
            let answer = try site.request(method, target)
            #expect(answer.status == 403 && answer.code == "AccessDenied", "\(action): \(answer.status) \(answer.code)")
        }
        try deny("s3:GetObjectVersion")
        #expect(try site.request("GET", "/bkt/k").status == 200)
        try deny("s3:*")
        #expect(try site.request("GET", "/bkt?policy").status == 200)
        #expect(try site.request("GET", "/bkt").status == 403)
        #expect(try site.request("DELETE", "/bkt?policy").status == 204)
        #expect(try site.request("GET", "/bkt").status == 200)
        try await site.close()
    }

    @Test func denialsByAddressHold() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt/k", body: [1]).status == 200)
        for (test, range, status) in [
            ("IpAddress", "127.0.0.0/8", 403), ("IpAddress", "10.0.0.0/8", 200), ("NotIpAddress", "127.0.0.0/8", 200),
            ("NotIpAddress", "10.0.0.0/8", 403),
        ] {
            let text = Self.condition("{\"\(test)\":{\"aws:SourceIp\":\"\(range)\"}}")
            #expect(try site.request("PUT", "/bkt?policy", body: text).status == 204)
            #expect(try site.request("GET", "/bkt/k").status == status, "\(test) \(range)")
        }
        try await site.close()
    }
}

import Crypto
import Foundation
import Namespace
import Runtime
import S3
import TestSupport
import Testing

/// Who may do what, by whichever way he asks.
@Suite struct RightsTests {
    private let other = (key: "other", secret: "other-secret")

    private func unsigned(
        _ site: Site, _ method: String, _ target: String, _ fields: String = "", body: String = ""
    ) throws -> Answer {
        try site.raw(
            "\(method) \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: \(body.utf8.count)\r\n\(fields)\r\n",
            Array(body.utf8))
    }

    private func policy(_ site: Site, _ effect: String, _ action: String, _ who: String = "*") throws {
        let text = """
            {"Statement":[{"Effect":"\(effect)","Principal":\(who == "*" ? "\"*\"" : "{\"AWS\":\"\(who)\"}"),\
            "Action":\(action.hasPrefix("[") ? action : "\"\(action)\""),"Resource":"arn:aws:s3:::bkt/*"}]}
            """
        #expect(try site.request("PUT", "/bkt?policy", body: Array(text.utf8)).status == 204)
    }

    /// Who may put a mark, or something else, may not end a version for good.
    @Test(arguments: ["acl", "policy"])
    func versionsEndByTheOwnersWordOnly(_ way: String) async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let old = try site.put("/bkt/k", "old")
        let new = try site.put("/bkt/k", "new")
        if way == "acl" {
            #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "public-read-write")]).status == 200)
        } else {
            try policy(site, "Allow", "[\"s3:DeleteObject\",\"s3:GetObject\"]")
        }
        for id in [old, new, "null"] {
            let answer = try unsigned(site, "DELETE", "/bkt/k?versionId=\(id)")
            #expect(answer.status == 403, "\(id) \(answer.status)")
            let list = "<Delete><Object><Key>k</Key><VersionId>\(id)</VersionId></Object></Delete>"
            let several = try unsigned(
                site, "POST", "/bkt?delete", "content-md5: \(Site.md5(Array(list.utf8)))\r\n", body: list)
            #expect(several.element("Code") == "AccessDenied", "\(id) \(several.text)")
            if way == "policy", id != "null" {
                #expect(try unsigned(site, "GET", "/bkt/k?versionId=\(id)").status == 403)
            }
        }
        #expect(try site.request("GET", "/bkt/k?versionId=\(old)").text == "old")
        #expect(try unsigned(site, "DELETE", "/bkt/k").status == 204)
        if way == "policy" {
            try policy(site, "Allow", "s3:DeleteObjectVersion")
            #expect(try unsigned(site, "DELETE", "/bkt/k?versionId=\(old)").status == 204)
        }
        try await site.close()
    }

    /// A denial holds for what a copy is made of, too.
    @Test func deniedVersionsAreNotCopied() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let id = try site.put("/bkt/k", "old")
        _ = try site.put("/bkt/k", "new")
        #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "public-read-write")]).status == 200)
        try policy(site, "Deny", "s3:GetObjectVersion", "other")
        func copy(_ source: String) throws -> Answer {
            try site.request(
                "PUT", "/bkt/mine", [("x-amz-copy-source", source)], key: other.key, secret: other.secret)
        }
        #expect(try copy("/bkt/k?versionId=\(id)").code == "AccessDenied")
        #expect(try copy("/bkt/k").status == 200)
        try await site.close()
    }

    /// A list or tags that come with the object need the same right as those that come later.
    @Test func deniedListsAndTagsDoNotComeWithTheObject() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "public-read-write")]).status == 200)
        let fields: [(action: String, field: (String, String))] = [
            ("s3:PutObjectAcl", ("x-amz-acl", "public-read")), ("s3:PutObjectTagging", ("x-amz-tagging", "a=b")),
        ]
        _ = try site.put("/bkt/source", "x")
        for (action, field) in fields {
            try policy(site, "Deny", action)
            #expect(try site.request("PUT", "/bkt/k", body: [1]).status == 200)
            #expect(try site.request("PUT", "/bkt/k", [field], body: [1]).code == "AccessDenied", "\(action)")
            #expect(try site.request("POST", "/bkt/k?uploads", [field]).code == "AccessDenied", "\(action)")
            var copy = [field, ("x-amz-copy-source", "/bkt/source")]
            if field.0 == "x-amz-tagging" { copy.append(("x-amz-tagging-directive", "REPLACE")) }
            #expect(try site.request("PUT", "/bkt/copy", copy).code == "AccessDenied", "\(action)")
        }
        // Whom a policy lets write may not publish as well.
        #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "private")]).status == 200)
        try policy(site, "Allow", "s3:PutObject")
        #expect(try unsigned(site, "PUT", "/bkt/theirs", body: "x").status == 200)
        #expect(
            try unsigned(site, "PUT", "/bkt/theirs", "x-amz-acl: public-read\r\n", body: "x").code == "AccessDenied")
        #expect(try unsigned(site, "GET", "/bkt/theirs").status == 403)
        // A form says it in a field of its own.
        let text = """
            {"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bkt/*",\
            "Condition":{"StringEquals":{"s3:x-amz-acl":"public-read"}}}]}
            """
        #expect(try site.request("PUT", "/bkt?policy", body: Array(text.utf8)).status == 204)
        #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "public-read-write")]).status == 200)
        func form(_ acl: String) throws -> Answer {
            let parts = [("key", "formed"), ("acl", acl), ("file", "x")].map {
                "--b\r\ncontent-disposition: form-data; name=\"\($0.0)\"\r\n\r\n\($0.1)\r\n"
            }
            return try unsigned(
                site, "POST", "/bkt", "content-type: multipart/form-data; boundary=b\r\n",
                body: parts.joined() + "--b--\r\n")
        }
        #expect(try form("public-read").code == "AccessDenied")
        #expect(try form("private").status == 204)
        try await site.close()
    }

    /// `private`, when it is said, is the owner's alone, by S3 and for file clients.
    @Test func privateIsPrivate() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        func reads(_ target: String) throws -> Int {
            try site.request("GET", target, key: other.key, secret: other.secret).status
        }
        _ = try site.put("/bkt/open", "x")
        #expect(try reads("/bkt/open") == 200)
        let said = [("x-amz-acl", "private")]
        #expect(try site.request("PUT", "/bkt/small", said, body: [1]).status == 200)
        let large = [UInt8](repeating: 7, count: 400_000)
        #expect(try site.request("PUT", "/bkt/large", said, body: large).status == 200)
        #expect(try site.request("PUT", "/bkt/copy", said + [("x-amz-copy-source", "/bkt/open")]).status == 200)
        let upload = try #require(try site.request("POST", "/bkt/parts?uploads", said).element("UploadId"))
        let tag = try site.request("PUT", "/bkt/parts?partNumber=1&uploadId=\(upload)", body: [1]).field("etag") ?? ""
        let list =
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(tag)</ETag></Part></CompleteMultipartUpload>"
        #expect(try site.request("POST", "/bkt/parts?uploadId=\(upload)", body: Array(list.utf8)).status == 200)
        #expect(try site.request("PUT", "/bkt/open?acl", said).status == 200)
        for key in ["small", "large", "copy", "parts", "open"] {
            #expect(try reads("/bkt/\(key)") == 403, "\(key)")
            #expect(try site.request("GET", "/bkt/\(key)").status == 200, "\(key)")
            #expect(try await site.find("bkt/\(key)").mode & 0o777 == 0o600, "\(key)")
        }
        #expect(try site.request("PUT", "/bkt/open?acl", [("x-amz-acl", "public-read")]).status == 200)
        #expect(try reads("/bkt/open") == 200)
        #expect(try unsigned(site, "GET", "/bkt/open").status == 200)
        #expect(try site.request("PUT", "/closed", said).status == 200)
        #expect(try reads("/closed") == 403)
        #expect(try reads("/bkt") == 200)
        #expect(try site.request("PUT", "/bkt?acl", said).status == 200)
        #expect(try reads("/bkt") == 403)
        try await site.close()
    }

    /// Whether there is something is nobody's business who may not know what.
    @Test func nobodyLearnsWhatIsThere() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        _ = try site.put("/bkt/k", "x")
        _ = try site.put("/bkt/gone", "x")
        #expect(try site.request("DELETE", "/bkt/gone").status == 204)
        for target in ["/bkt/k?versionId=null", "/bkt/none?versionId=null", "/bkt/gone?versionId=null"] {
            #expect(try unsigned(site, "GET", target).status == 403, "\(target)")
        }
        let mark = try site.versions("/bkt?versions&prefix=gone").first { $0.hasPrefix("-") }
        let id = try #require(mark?.split(separator: " ").last).filter { $0 != "*" }
        #expect(try unsigned(site, "GET", "/bkt/gone?versionId=\(id)").status == 403)
        #expect(try site.request("PUT", "/plain").status == 200)
        _ = try site.put("/plain/k", "x")
        for key in ["k", "none"] {
            let answer = try site.request("DELETE", "/plain/\(key)", key: other.key, secret: other.secret)
            #expect(answer.status == 403, "\(key)")
        }
        try await site.close()
    }

    /// A bucket that is not whose the client takes it for is not touched.
    @Test func expectedOwners() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        _ = try site.put("/bkt/k", "x")
        let wrong = ("x-amz-expected-bucket-owner", "other")
        let list = Array("<Delete><Object><Key>k</Key></Object></Delete>".utf8)
        let md5 = ("content-md5", Site.md5(list))
        #expect(try site.request("POST", "/bkt?delete", [wrong, md5], body: list).code == "AccessDenied")
        #expect(try site.request("DELETE", "/bkt/k", [wrong]).code == "AccessDenied")
        #expect(try site.request("PUT", "/new", [wrong]).code == "AccessDenied")
        let source = [("x-amz-copy-source", "/bkt/k"), ("x-amz-source-expected-bucket-owner", "other")]
        #expect(try site.request("PUT", "/bkt/c", source).code == "AccessDenied")
        #expect(try site.request("GET", "/bkt/k").text == "x")
        for owner in ["example", "10000"] {
            let right = [("x-amz-copy-source", "/bkt/k"), ("x-amz-source-expected-bucket-owner", owner)]
            #expect(try site.request("PUT", "/bkt/c", right).status == 200, "\(owner)")
        }
        try await site.close()
    }

    /// A form's policy is for the bucket that it names.
    @Test func formsAreForTheirBucket() throws {
        func policy(_ more: String) throws -> PostPolicy {
            let text = "{\"expiration\":\"2030-01-01T00:00:00Z\",\"conditions\":[[\"eq\",\"$key\",\"k\"]\(more)]}"
            return try PostPolicy(Base64.encode(Array(text.utf8)))
        }
        let form = ["key": "k", "bucket": "in"]
        #expect(throws: S3Error.self) { try policy("").check(form, now: 0) }
        #expect(throws: S3Error.self) { try policy(",{\"bucket\":\"out\"}").check(form, now: 0) }
        try policy(",{\"bucket\":\"in\"}").check(form, now: 0)
    }

    @Test(arguments: ["role/example", "group/example", "user/", "user", "root"])
    func principalsAreUsers(_ who: String) {
        let text = """
            {"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:\(who)"},"Action":"s3:GetObject",\
            "Resource":"arn:aws:s3:::bkt/*"}]}
            """
        #expect(throws: S3Error.self) { try BucketPolicy(Array(text.utf8), bucket: "bkt") }
        let good = text.replacingOccurrences(of: who, with: "user/division/example")
        #expect(throws: Never.self) { try BucketPolicy(Array(good.utf8), bucket: "bkt") }
    }
}

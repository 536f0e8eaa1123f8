import Foundation
import Namespace
import S3
import TestSupport
import Testing

/// Fields of requests and answers that nothing else speaks of.
@Suite struct HeaderTests {
    @Test func ofAnswers() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt", [("x-amz-object-ownership", "ObjectWriter")]).status == 200)
        #expect(try site.request("PUT", "/other", [("x-amz-object-ownership", "BucketOwnerEnforced")]).status == 501)
        #expect(try site.request("PUT", "/bkt/k", [("x-amz-tagging", "a=1&b=2")], body: [1]).status == 200)
        #expect(try site.request("HEAD", "/bkt/k").field("x-amz-tagging-count") == "2")
        #expect(try site.request("HEAD", "/bkt").field("x-amz-bucket-region") == "us-east-1")
        #expect(try site.request("GET", "/bkt?list-type=2").field("x-amz-bucket-region") == "us-east-1")
        let overrides = [
            ("content-type", "text/x-a"), ("content-encoding", "gzip"), ("content-disposition", "inline"),
            ("content-language", "de"), ("cache-control", "no-cache"), ("expires", "never"),
        ]
        for (name, value) in overrides {
            let target = "/bkt/k?response-\(name)=\(value.replacingOccurrences(of: "/", with: "%2F"))"
            #expect(try site.request("GET", target).field(name) == value, "\(name)")
            #expect(try site.raw("GET \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").status == 403, "\(name)")
            #expect(try site.request("PUT", "/bkt/own", [(name, value)], body: [1]).status == 200)
            #expect(try site.request("HEAD", "/bkt/own").field(name) == value, "\(name)")
        }
        // A line end in what a client wants to be told begins no field.
        let forged = try site.request("GET", "/bkt/k?response-content-language=de%0D%0Ax-forged%3A%201")
        #expect(forged.field("x-forged") == nil)
        try await site.close()
    }

    /// What each answer has, and what a browser's question gets.
    @Test func ofEachAnswer() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt/k", body: [1]).status == 200)
        for (target, status) in [("/bkt/k", 200), ("/bkt", 200), ("/bkt/none", 404)] {
            let answer = try site.request("GET", target)
            let id = try #require(answer.field("x-amz-request-id"))
            #expect(answer.status == status && id.count == 16 && answer.field("x-amz-id-2") == id)
            #expect(answer.field("server") == "ProxyFS" && answer.field("date")?.hasSuffix(" GMT") == true)
            #expect(answer.field("content-length") == "\(answer.body.count)")
            if status == 404 {
                #expect(answer.element("RequestId") == id && answer.element("HostId") == id)
                #expect(answer.element("Resource") == target && answer.element("Key") == "none")
                #expect(answer.element("BucketName") == "bkt" && answer.field("content-type") == "application/xml")
            }
        }
        let object = try site.request("GET", "/bkt/k")
        #expect(object.field("accept-ranges") == "bytes" && object.field("content-type") == "binary/octet-stream")
        #expect(object.field("etag") == "\"55a54008ad1ba589aa210d2629c1df41\"")
        #expect(object.field("last-modified")?.hasSuffix(" GMT") == true)
        #expect(try site.request("HEAD", "/bkt").field("x-amz-access-point-alias") == "false")
        let upload = try #require(try site.request("POST", "/bkt/u?uploads").element("UploadId"))
        var list = ""
        for number in 1...2 {
            let tag = try site.request("PUT", "/bkt/u?partNumber=\(number)&uploadId=\(upload)", body: [1]).field("etag")
            list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(tag ?? "")</ETag></Part>"
        }
        let text = Array("<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>".utf8)
        #expect(try site.request("POST", "/bkt/u?uploadId=\(upload)", body: text).status == 200)
        let part = try site.request("GET", "/bkt/u?partNumber=2")
        #expect(part.field("x-amz-mp-parts-count") == "2" && part.field("content-range") == "bytes 1-1/2")
        let rules = """
            <CORSConfiguration><CORSRule><AllowedOrigin>https://a.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
            <AllowedMethod>PUT</AllowedMethod><AllowedHeader>X-*</AllowedHeader><MaxAgeSeconds>60</MaxAgeSeconds>\
            </CORSRule></CORSConfiguration>
            """
        #expect(try site.request("PUT", "/bkt?cors", body: Array(rules.utf8)).status == 200)
        func ask(_ method: String, _ headers: String) throws -> Answer {
            try site.raw(
                "OPTIONS /bkt/k HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://a.example\r\n"
                    + "Access-Control-Request-Method: \(method)\r\nAccess-Control-Request-Headers: \(headers)\r\n\r\n")
        }
        let answer = try ask("PUT", "x-a, X-B")
        #expect(answer.status == 200 && answer.field("access-control-allow-headers") == "x-a, x-b")
        #expect(answer.field("access-control-allow-methods") == "GET, PUT")
        #expect(answer.field("access-control-max-age") == "60")
        #expect(answer.field("vary") == "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
        #expect(try ask("DELETE", "x-a").status == 403 && ask("PUT", "y").status == 403)
        try await site.close()
    }

    @Test func pagesOfParts() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let algorithm = [("x-amz-checksum-algorithm", "CRC32")]
        let upload = try #require(try site.request("POST", "/bkt/k?uploads", algorithm).element("UploadId"))
        var list = "<CompleteMultipartUpload>"
        for number in 1...5 {
            let tag = try site.request("PUT", "/bkt/k?partNumber=\(number)&uploadId=\(upload)", body: [1]).field("etag")
            list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(tag ?? "")</ETag></Part>"
        }
        list += "</CompleteMultipartUpload>"
        #expect(try site.request("POST", "/bkt/k?uploadId=\(upload)", body: Array(list.utf8)).status == 200)
        var numbers: [String] = []
        var marker = "0"
        for _ in 0..<3 {
            let answer = try site.request(
                "GET", "/bkt/k?attributes",
                [
                    ("x-amz-object-attributes", "ObjectParts"), ("x-amz-max-parts", "2"),
                    ("x-amz-part-number-marker", marker),
                ])
            numbers += answer.elements("PartNumber")
            #expect(answer.element("IsTruncated") == (numbers.count < 5 ? "true" : "false"))
            marker = answer.element("NextPartNumberMarker") ?? ""
        }
        #expect(numbers == ["1", "2", "3", "4", "5"])
        try await site.close()
    }

    /// Pages of other sites: with their cookies only where they are named.
    @Test func otherSites() async throws {
        let site = try await Site()
        for (bucket, origin, credentials) in [("named", "https://a.example", "true"), ("any", "*", nil)] {
            #expect(try site.request("PUT", "/\(bucket)").status == 200)
            let rules = """
                <CORSConfiguration><CORSRule><AllowedOrigin>\(origin)</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
                <ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>
                """
            #expect(try site.request("PUT", "/\(bucket)?cors", body: Array(rules.utf8)).status == 200)
            let answer = try site.request("GET", "/\(bucket)", [("origin", "https://a.example")])
            #expect(answer.field("access-control-allow-origin") == origin)
            #expect(answer.field("access-control-allow-credentials") == credentials)
            #expect(answer.field("access-control-expose-headers") == "etag")
        }
        // A page is told what is wrong with its request, too.
        for (fields, target, status) in [
            ([("x-amz-server-side-encryption", "AES256")], "/named", 501), ([], "/named/none", 404),
            ([], "/named?partOfNextYear", 501), ([("x-amz-expected-bucket-owner", "1")], "/named", 403),
        ] as [([(String, String)], String, Int)] {
            let answer = try site.request("GET", target, fields + [("origin", "https://a.example")])
            #expect(answer.status == status && answer.field("access-control-allow-origin") == "https://a.example")
        }
        #expect(
            try site.request("GET", "/named", [("origin", "https://b.example")]).field("access-control-allow-origin")
                == nil)
        try await site.close()
    }

    /// What policies may ask of a request beside its address.
    @Test func keysOfPolicies() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt/k", body: [1]).status == 200)
        func allow(_ test: String, _ key: String, _ value: String) throws {
            let text = """
                {"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bkt/*",\
                "Condition":{"\(test)":{"\(key)":"\(value)"}}}]}
                """
            #expect(try site.request("PUT", "/bkt?policy", body: Array(text.utf8)).status == 204)
        }
        func status(_ fields: [(String, String)] = []) throws -> Int {
            try site.request("GET", "/bkt/k", fields).status
        }
        try allow("StringLike", "aws:UserAgent", "curl/*")
        #expect(try status([("user-agent", "curl/8")]) == 403 && status([("user-agent", "wget")]) == 200)
        try allow("StringEquals", "aws:username", "example")
        #expect(try status() == 403)
        try allow("StringEquals", "aws:username", "other")
        #expect(try status() == 200)
        try allow("StringNotEquals", "aws:Referer", "https://a.example/")
        #expect(try status() == 403 && status([("referer", "https://a.example/")]) == 200)
        try allow("Bool", "aws:SecureTransport", "false")
        #expect(try status() == 403)
        try await site.close()
    }
}

import Foundation
import HTTP
import Namespace
import Runtime
import S3
import TestSupport
import Testing
import XML

/// What is sent to do harm, and what others must not be able to do.
@Suite struct HostileTests {
    private let other = (key: "other", secret: "other-secret")

    private func unsigned(_ site: Site, _ line: String, _ fields: String = "") throws -> Answer {
        try site.raw("\(line) HTTP/1.1\r\nHost: 127.0.0.1\r\n\(fields)\r\n")
    }

    /// Times are whatever somebody says: in a request, or of a file.
    @Test func timesOutOfRange() async throws {
        for nanoseconds in [Int64.min, .min + 1, -1, 0, .max] {
            #expect(Timestamp.extended(nanoseconds: nanoseconds).utf8.count == 24)
            #expect(Timestamp.extended(seconds: nanoseconds).utf8.count == 24)
            #expect(HTTPDate.format(nanoseconds).utf8.count == 29)
        }
        #expect(Timestamp.extended(nanoseconds: .min) == "1677-09-21T00:12:43.000Z")
        let site = try await Site()
        for text in ["-18014398509481984", "-9223372036854775808", "9223372036854775807", "-1", "0", "x"] {
            let answer = try unsigned(site, "GET /?AWSAccessKeyId=none&Signature=x&Expires=\(text)")
            #expect(answer.status == 403, "\(text): \(answer.status)")
        }
        for stamp in ["00000101T000000Z", "99991231T235959Z"] {
            let answer = try unsigned(
                site,
                "GET /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F\(stamp.prefix(8))%2Fus-east-1%2Fs3%2F"
                    + "aws4_request&X-Amz-Date=\(stamp)&X-Amz-Expires=604800&X-Amz-SignedHeaders=host&X-Amz-Signature=x"
            )
            #expect(answer.status == 403, "\(stamp): \(answer.text)")
        }
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt/k", body: [1]).status == 200)
        let (volume, clock) = (site.volume, site.clock)
        for time in [Int64.min, .max] {
            try await site.world.loops[0].task { () async throws in
                func done<Value>(_ body: (Caller) -> Attempt<Value>) async throws -> Value {
                    while true {
                        switch body(Caller(.root, Request(reader: 0, now: clock.wall()))) {
                        case .done(let value, _): return value
                        case .refused(let error): throw error
                        case .lacks(let lack): try await lack.supplied()
                        }
                    }
                }
                var times = NewAttributes()
                (times.modified, times.born) = (time, time)
                var place = volume.root
                for name in ["bkt", "k"] {
                    place = try await done { caller in
                        Array(name.utf8).withUnsafeBytes { volume.lookup(caller, in: place, $0) }
                    }.file
                    _ = try await done { volume.setAttributes($0, place, times) }
                }
            }.value
            #expect(try site.request("GET", "/").elements("Name") == ["bkt"])
            #expect(try site.request("GET", "/bkt?list-type=2").elements("Key") == ["k"])
            #expect(try site.request("GET", "/bkt/k").body == [1])
        }
        try await site.close()
    }

    /// What is signed is Host: an absolute target that names another bucket is another request.
    @Test func anAbsoluteTargetIsHosts() async throws {
        let site = try await Site()
        for bucket in ["one", "two"] {
            #expect(try site.request("PUT", "/\(bucket)").status == 200)
            #expect(
                try site.request("PUT", "/\(bucket)/k", [("x-amz-acl", "public-read")], body: Array(bucket.utf8)).status
                    == 200)
        }
        func get(_ authority: String, _ host: String) throws -> Answer {
            try site.raw("GET http://\(authority)/k HTTP/1.1\r\nHost: \(host)\r\n\r\n")
        }
        #expect(try get("one.s3.amazonaws.com", "ONE.s3.amazonaws.com").text == "one")
        #expect(try get("two.s3.amazonaws.com", "one.s3.amazonaws.com").status == 400)
        #expect(try site.raw("GET http://one.s3.amazonaws.com/k HTTP/1.0\r\n\r\n").status == 400)
        try await site.close()
    }

    @Test func attributesAreAsPrivateAsTheObject() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        _ = try site.request("PUT", "/bkt/closed", body: [1])
        _ = try site.request("PUT", "/bkt/open", [("x-amz-acl", "public-read")], body: [1, 2])
        let wanted = "x-amz-object-attributes: ETag,ObjectSize\r\n"
        let closed = try unsigned(site, "GET /bkt/closed?attributes", wanted)
        #expect(closed.status == 403 && closed.element("ObjectSize") == nil)
        let open = try unsigned(site, "GET /bkt/open?attributes", wanted)
        #expect(open.status == 200 && open.element("ObjectSize") == "2")
        try await site.close()
    }

    @Test func markersOfPartsAreWhateverTheClientSays() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        _ = try site.request("PUT", "/bkt")
        let upload = try #require(
            try site.request("POST", "/bkt/k?uploads", [("x-amz-checksum-algorithm", "CRC32")]).element("UploadId"))
        var list = "<CompleteMultipartUpload>"
        for number in 1...3 {
            let tag = try site.request("PUT", "/bkt/k?partNumber=\(number)&uploadId=\(upload)", body: [1]).field("etag")
            list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(tag ?? "")</ETag></Part>"
        }
        let done = try site.request(
            "POST", "/bkt/k?uploadId=\(upload)", body: Array((list + "</CompleteMultipartUpload>").utf8))
        #expect(done.status == 200, "\(done.text)")
        for (marker, count) in [("0", 3), ("2", 1), ("3", 0), ("9223372036854775807", 0)] {
            let answer = try site.request(
                "GET", "/bkt/k?attributes",
                [("x-amz-object-attributes", "ObjectParts"), ("x-amz-part-number-marker", marker)])
            #expect(answer.status == 200 && answer.elements("PartNumber").count == count, "\(marker)")
        }
        try await site.close()
    }

    /// Another user of the volume neither sees what somebody uploads in parts, nor adds to it, nor ends it.
    @Test func uploadsAreTheirMakers() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        let upload = try #require(try site.request("POST", "/bkt/k?uploads").element("UploadId"))
        let part = "/bkt/k?partNumber=1&uploadId=\(upload)"
        func asOther(_ method: String, _ target: String, body: [UInt8] = []) throws -> Answer {
            try site.request(method, target, body: body, key: other.key, secret: other.secret)
        }
        #expect(try site.request("PUT", part, body: [1]).status == 200)
        #expect(try asOther("PUT", part, body: [2]).status == 403)
        #expect(try asOther("GET", "/bkt/k?uploadId=\(upload)").status == 403)
        #expect(try asOther("DELETE", "/bkt/k?uploadId=\(upload)").status == 403)
        let seen = try asOther("GET", "/bkt?uploads")
        #expect(seen.status == 403 || seen.elements("UploadId").isEmpty)
        #expect(try site.request("GET", "/bkt?uploads").elements("UploadId") == [upload])
        #expect(try site.request("GET", "/bkt/k?uploadId=\(upload)").elements("PartNumber") == ["1"])
        #expect(try site.request("DELETE", "/bkt/k?uploadId=\(upload)").status == 204)
        // Where the bucket lets all write, each rules the own ones, and the bucket's owner rules them all.
        #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "public-read-write")]).status == 200)
        let theirs = try #require(try asOther("POST", "/bkt/o?uploads").element("UploadId"))
        #expect(try asOther("PUT", "/bkt/o?partNumber=1&uploadId=\(theirs)", body: [3]).status == 200)
        #expect(try asOther("GET", "/bkt/o?uploadId=\(theirs)").status == 200)
        #expect(try asOther("DELETE", "/bkt/o?uploadId=\(theirs)").status == 204)
        let again = try #require(try asOther("POST", "/bkt/o?uploads").element("UploadId"))
        #expect(try site.request("DELETE", "/bkt/o?uploadId=\(again)").status == 204)
        try await site.close()
    }

    @Test func uploadsOfABucketHaveALimit() async throws {
        var limits = S3Limits()
        limits.uploadsMax = 2
        let site = try await Site(limits: limits)
        _ = try site.request("PUT", "/bkt")
        let first = try #require(try site.request("POST", "/bkt/a?uploads").element("UploadId"))
        #expect(try site.request("POST", "/bkt/b?uploads").status == 200)
        #expect(try site.request("POST", "/bkt/c?uploads").code == "SlowDown")
        #expect(try site.request("DELETE", "/bkt/a?uploadId=\(first)").status == 204)
        #expect(try site.request("POST", "/bkt/c?uploads").status == 200)
        try await site.close()
    }

    /// Each page of uploads goes on where the one before ended, behind a common prefix too.
    @Test func uploadsInPages() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        for key in ["a/1", "a/2", "b/1", "c", "d/1", "e"] {
            #expect(try site.request("POST", "/bkt/\(key)?uploads").status == 200)
        }
        var (found, marker, pages) = ([String](), "", 0)
        while pages < 10 {
            pages += 1
            let page = try site.request("GET", "/bkt?uploads&delimiter=%2F&max-uploads=1&key-marker=\(marker)")
            found += page.elements("Key") + page.elements("CommonPrefixes")
            guard page.element("IsTruncated") == "true" else { break }
            marker = try #require(page.element("NextKeyMarker")).replacingOccurrences(of: "/", with: "%2F")
            if let id = page.element("NextUploadIdMarker") { marker += "&upload-id-marker=\(id)" }
        }
        #expect(
            found == ["<Prefix>a/</Prefix>", "<Prefix>b/</Prefix>", "c", "<Prefix>d/</Prefix>", "e"], "\(found)")
        #expect(pages == 5)
        try await site.close()
    }

    /// Two changes at a time of what is said of an object: neither takes the other one back.
    @Test func aSlowChangeOfTagsLeavesTheListAlone() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        _ = try site.request("PUT", "/bkt/k", [("x-amz-acl", "public-read")], body: [1])
        #expect(try unsigned(site, "GET /bkt/k").status == 200)
        let body = Array("<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>".utf8)
        let slow = try Peer(site.listener.address)
        slow.send(site.signed("PUT", "/bkt/k?tagging", [("expect", "100-continue")], body: body))
        #expect(slow.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 100"))
        #expect(try site.request("PUT", "/bkt/k?acl", [("x-amz-acl", "private")]).status == 200)
        slow.send(body)
        #expect(Site.answer(slow).status == 200)
        #expect(try unsigned(site, "GET /bkt/k").status == 403)
        #expect(try site.request("GET", "/bkt/k?tagging").element("Value") == "b")
        try await site.close()
    }

    /// What a client has the first part of must be the same object still.
    @Test func rangesOfAnotherVersionAreTheWhole() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        _ = try site.request("PUT", "/bkt/k", body: Array("content".utf8))
        let head = try site.request("HEAD", "/bkt/k")
        let (tag, date) = (try #require(head.field("etag")), try #require(head.field("last-modified")))
        for (value, status) in [
            (tag, 206), (date, 206), ("W/\(tag)", 200), ("\"old\"", 200), ("Fri, 24 May 2013 00:00:00 GMT", 200),
            ("nonsense", 200),
        ] {
            let answer = try site.request("GET", "/bkt/k", [("range", "bytes=3-4"), ("if-range", value)])
            #expect(answer.status == status && answer.text == (status == 206 ? "te" : "content"), "\(value)")
        }
        let unchanged = try site.request("GET", "/bkt/k", [("if-none-match", tag)])
        #expect(unchanged.status == 304 && unchanged.field("etag") == tag && unchanged.field("last-modified") == date)
        try await site.close()
    }
}

import Foundation
import Namespace
import Runtime
import S3
import TestSupport
import Testing

/// What is not served is refused, and changes nothing.
@Suite struct RefusalTests {
    @Test func methodsOfParts() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        for (method, part, status) in [
            ("DELETE", "versioning", 405), ("DELETE", "object-lock", 405), ("DELETE", "acl", 405),
            ("DELETE", "uploads", 405), ("DELETE", "location", 405), ("DELETE", "abac", 501),
            ("DELETE", "metadataConfiguration", 501), ("DELETE", "metadataInventoryTable", 501),
            ("DELETE", "accelerate", 501), ("PUT", "location", 405), ("PUT", "versions", 405), ("PUT", "abac", 501),
            ("PUT", "metadataJournalTable", 501), ("POST", "metadataConfiguration", 501), ("GET", "abac", 501),
            ("GET", "delete", 405), ("PUT", "metadataAnnotationTable", 501), ("GET", "metadataAnnotationTable", 501),
            // Whatever is new next year.
            ("PUT", "partOfNextYear", 501), ("DELETE", "partOfNextYear=", 501), ("POST", "partOfNextYear", 501),
            ("GET", "partOfNextYear", 501), ("HEAD", "partOfNextYear", 501),
            ("GET", "list-type=2&partOfNextYear=", 501),
            // Clients send these without a value, too.
            ("GET", "delimiter=&prefix=&marker=&max-keys=&encoding-type=", 200),
            ("GET", "list-type=2&start-after&fetch-owner&prefix", 200), ("GET", "x-id=ListObjects", 200),
        ] {
            #expect(try site.request(method, "/bkt?\(part)").status == status, "\(method) \(part)")
            #expect(try site.request("HEAD", "/bkt").status == 200, "\(method) \(part)")
        }
        #expect(try site.request("PUT", "/never?partOfNextYear").status == 501)
        // What pages put behind addresses is nothing to an object.
        #expect(try site.request("PUT", "/bkt/logo", [("x-amz-acl", "public-read")], body: [1]).status == 200)
        for stamp in ["1612345678", "v4.7.0", "wr5fpv", "_", "partOfNextYear"] {
            #expect(
                try site.raw("GET /bkt/logo?\(stamp) HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").status == 200, "\(stamp)")
        }
        #expect(try site.request("GET", "/bkt/logo?1612345678").status == 200)
        #expect(try site.request("DELETE", "/bkt/logo").status == 204)
        #expect(try site.request("HEAD", "/never").status == 404)
        // With a value it is a parameter, which clients add as they like.
        #expect(try site.request("PUT", "/bkt?x-id=CreateBucket").status == 200)
        _ = try site.put("/bkt/k", "content")
        for (method, part, status) in [
            ("DELETE", "acl", 405), ("DELETE", "retention", 405), ("DELETE", "legal-hold", 405),
            ("DELETE", "attributes", 405), ("DELETE", "encryption", 501), ("DELETE", "annotation", 501),
            ("PUT", "attributes", 405), ("PUT", "uploads", 405), ("PUT", "encryption", 501),
            ("PUT", "versionId=null", 400), ("GET", "uploads", 405), ("GET", "encryption", 501),
            ("PUT", "partOfNextYear", 501), ("DELETE", "partOfNextYear", 501), ("DELETE", "versionId=", 400),
            ("GET", "versionId=", 400), ("GET", "partOfNextYear", 501), ("HEAD", "partOfNextYear=", 501),
            ("GET", "response-expires=", 200), ("GET", "x-id=GetObject", 200),
        ] {
            let answer = try site.request(method, "/bkt/k?\(part)", body: method == "PUT" ? [1] : [])
            #expect(answer.status == status, "\(method) \(part) \(answer.status)")
            #expect(try site.request("GET", "/bkt/k").text == "content", "\(method) \(part)")
        }
        try await site.close()
    }

    @Test func fieldsThatWouldBeBelieved() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        _ = try site.put("/bkt/k", "content")
        for field in [
            ("x-amz-write-offset-bytes", "7"), ("x-amz-website-redirect-location", "/x"),
            ("x-amz-server-side-encryption", "AES256"), ("x-amz-storage-class", "GLACIER"),
            ("x-amz-checksum-sha512", "AAAA"), ("x-amz-checksum-xxhash3", "AAAA"), ("x-amz-checksum-md5", "AAAA"),
            ("x-amz-object-lock-event-hold", "ON"), ("x-amz-object-lock-event-hold-duration-days", "1"),
            ("x-amz-grant-read", "id=1"), ("x-amz-server-side-encryption-customer-key", "x"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "x"), ("content-range", "bytes 7-7/8"),
            ("if-unmodified-since", "Fri, 24 May 2013 00:00:00 GMT"),
            ("if-modified-since", "Fri, 24 May 2033 00:00:00 GMT"), ("if-none-match", "\"x\""),
        ] {
            #expect(try site.request("PUT", "/bkt/k", [field], body: [1]).status == 501, "\(field)")
        }
        for field in [
            ("x-amz-if-match-size", "1"), ("x-amz-if-match-last-modified-time", "x"), ("if-none-match", "*"),
            ("if-unmodified-since", "Fri, 24 May 2013 00:00:00 GMT"),
        ] {
            #expect(try site.request("DELETE", "/bkt/k", [field]).status == 501, "\(field)")
        }
        for element in ["<Size>1</Size>", "<LastModifiedTime>x</LastModifiedTime>"] {
            let list = Array("<Delete><Object><Key>k</Key>\(element)</Object></Delete>".utf8)
            #expect(
                try site.request("POST", "/bkt?delete", [("content-md5", Site.md5(list))], body: list).status == 501)
        }
        #expect(try site.request("GET", "/bkt/k").text == "content")
        #expect(try site.request("PUT", "/bkt?acl", [("x-amz-acl", "public-read-write")]).status == 200)
        for name in ["content-md5", "x-amz-checksum-crc32"] {
            let parts = [("key", "formed"), (name, "AAAA"), ("file", "x")].map {
                "--b\r\ncontent-disposition: form-data; name=\"\($0.0)\"\r\n\r\n\($0.1)\r\n"
            }
            let body = Array((parts.joined() + "--b--\r\n").utf8)
            let head =
                "POST /bkt HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-type: multipart/form-data; boundary=b\r\n"
                + "content-length: \(body.count)\r\n\r\n"
            #expect(try site.raw(head, body).status == 501, "\(name)")
        }
        #expect(try site.request("GET", "/bkt?list-type=2").elements("Key") == ["k"])
        #expect(try site.request("GET", "/?partOfNextYear").status == 501)
        // Fields that say nothing ask for nothing.
        for name in ["x-amz-server-side-encryption", "x-amz-checksum-sha512", "content-range", "if-modified-since"] {
            let put = try site.request("PUT", "/bkt/k", [(name, "")], body: Array("content".utf8))
            #expect(put.status == 200, "\(name)")
            #expect(try site.request("GET", "/bkt/k", [(name, "")]).status == 200, "\(name)")
        }
        let part = [("x-amz-copy-source", "/bkt/k"), ("x-amz-copy-source-range", "bytes=0-1")]
        #expect(try site.request("PUT", "/bkt/copy", part).status == 501)
        #expect(try site.request("PUT", "/bkt/k?acl").status == 400)
        // Keys of a client that are for other objects than these.
        #expect(
            try site.request("GET", "/bkt/k", [("x-amz-server-side-encryption-customer-algorithm", "AES256")]).status
                == 501)
        #expect(try site.request("PUT", "/new", [("x-amz-bucket-namespace", "account-regional")]).status == 501)
        let upload = try #require(try site.request("POST", "/bkt/u?uploads").element("UploadId"))
        let started = [("x-amz-if-match-initiated-time", "Fri, 24 May 2013 00:00:00 GMT")]
        #expect(try site.request("DELETE", "/bkt/u?uploadId=\(upload)", started).status == 501)
        let key = [("x-amz-server-side-encryption-customer-key", "x")]
        #expect(try site.request("PUT", "/bkt/u?uploadId=\(upload)&partNumber=1", key, body: [1]).status == 501)
        #expect(try site.request("GET", "/bkt?uploads").elements("UploadId") == [upload])
        try await site.close()
    }

    /// Elements of documents, too.
    @Test func elementsThatWouldBeBelieved() async throws {
        let site = try await Site()
        let name = "CreateBucketConfiguration"
        for part in ["<Location><Name>x</Name></Location>", "<Bucket><Type>Directory</Type></Bucket>", "<New/>"] {
            #expect(
                try site.request("PUT", "/never", body: Array("<\(name)>\(part)</\(name)>".utf8)).status == 501,
                "\(part)")
        }
        #expect(try site.request("HEAD", "/never").status == 404)
        let tags = "<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"
        let tagged = Array("<\(name)>\(tags)</\(name)>".utf8)
        for _ in 0..<2 { #expect(try site.request("PUT", "/tagged", body: tagged).status == 200) }
        #expect(try site.request("GET", "/tagged?tagging").elements("Value") == ["b"])
        let others = Array(String(decoding: tagged, as: UTF8.self).replacingOccurrences(of: ">b<", with: ">c<").utf8)
        #expect(try site.request("PUT", "/tagged", body: others).code == "BucketAlreadyOwnedByYou")
        try site.versioned("locked", lock: true)
        _ = try site.put("/locked/k", "content")
        let until = "2099-01-01T00:00:00Z"
        let mode = "<Mode>GOVERNANCE</Mode>"
        for (target, text) in [
            (
                "/locked/k?retention",
                "<Retention>\(mode)<RetainUntilDate>\(until)</RetainUntilDate><EventHold>ON</EventHold></Retention>"
            ),
            ("/locked/k?retention", "<Retention><EventHold>ON</EventHold></Retention>"),
            ("/locked/k?legal-hold", "<LegalHold><Status>ON</Status><New/></LegalHold>"),
            (
                "/locked?object-lock",
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\(mode)<Days>1</Days>"
                    + "<DefaultEventHold><Days>1</Days></DefaultEventHold></DefaultRetention></Rule></ObjectLockConfiguration>"
            ),
            ("/locked?versioning", "<VersioningConfiguration><Status>Enabled</Status><New/></VersioningConfiguration>"),
        ] {
            #expect(try site.request("PUT", target, body: Array(text.utf8)).status == 501, "\(text)")
        }
        let head = try site.request("HEAD", "/locked/k")
        #expect(head.field("x-amz-object-lock-mode") == nil && head.field("x-amz-object-lock-legal-hold") == nil)
        #expect(try site.request("GET", "/locked?object-lock").element("Rule") == nil)
        // Buckets are of one region.
        #expect(try site.request("GET", "/?bucket-region=us-east-1").elements("Name").contains("tagged"))
        #expect(try site.request("GET", "/?bucket-region=mars-1").elements("Name") == [])
        try await site.close()
    }

    /// A token is of a temporary key: one that comes with another key is not passed over.
    @Test func tokensOfOtherKeys() async throws {
        let site = try await Site()
        for text in ["x", "eA==", String(repeating: "A", count: 100), String(repeating: "A", count: 4000)] {
            #expect(try site.request("GET", "/", [("x-amz-security-token", text)]).code == "InvalidToken")
        }
        try await site.close()
    }

    /// A bucket that is there without locks is not taken for one that has them.
    @Test func bucketsWithLocks() async throws {
        let site = try await Site()
        let locking = [("x-amz-bucket-object-lock-enabled", "true")]
        #expect(try site.request("PUT", "/plain").status == 200)
        #expect(try site.request("PUT", "/plain", locking).code == "BucketAlreadyOwnedByYou")
        #expect(try site.request("PUT", "/locked", locking).status == 200)
        #expect(try site.request("PUT", "/locked", locking).status == 200)
        #expect(try site.request("GET", "/locked?object-lock").element("ObjectLockEnabled") == "Enabled")
        try await site.close()
    }

    /// Records that somebody else has written end no server.
    @Test func recordsOfSomebodyElse() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let upload = try #require(try site.request("POST", "/bkt/k?uploads").element("UploadId"))
        var list = "<CompleteMultipartUpload>"
        for number in 1...4 {
            let tag = try site.request("PUT", "/bkt/k?partNumber=\(number)&uploadId=\(upload)", body: [1]).field("etag")
            list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(tag ?? "")</ETag></Part>"
        }
        list += "</CompleteMultipartUpload>"
        #expect(try site.request("POST", "/bkt/k?uploadId=\(upload)", body: Array(list.utf8)).status == 200)
        #expect(try site.request("GET", "/bkt/k?partNumber=4").body == [1])
        let file = try await site.find("bkt/k").file
        let huge: [UInt8] = Array(repeating: 0xff, count: 8) + [0x7f]
        let sizes: [UInt8] = [4] + huge
        // Some that are in bounds, but not what the file has.
        for field in [sizes, [2, 1, 2, 0xff, 0xff, 3], [4, 100]] {
            let record: [UInt8] = [1, 17, UInt8(field.count), 0, 0, 0] + field
            #expect(ObjectRecord(record) == nil || field.count < 10)
            _ = try await site.files(uid: 0) { volume, caller in
                volume.setExtendedAttribute(caller, file, "proxyfs.object", record)
            }
            for number in 1...4 {
                let answer = try site.request("GET", "/bkt/k?partNumber=\(number)")
                #expect([206, 416].contains(answer.status), "\(answer.status)")
            }
        }
        let bucket = try await site.find("bkt").file
        for lock: [UInt8] in [[1, 1, 1, 255, 255], [1, 2, 0, 255, 255], [1, 1, 1, 101, 0]] {
            for (name, value) in [("versioning", Array("Enabled".utf8)), ("lock", lock)] {
                _ = try await site.files(uid: 0) { volume, caller in
                    volume.setExtendedAttribute(caller, bucket, "proxyfs.bucket.\(name)", value)
                }
            }
            #expect(try site.request("PUT", "/bkt/new", body: [1]).status == 200)
        }
        try await site.close()
    }

    /// No bucket is left out of a listing, however many there are.
    @Test func allBucketsAreListed() async throws {
        var limits = S3Limits()
        limits.bucketsMax = 2
        let site = try await Site(limits: limits)
        for name in ["ccc", "aaa", "eee", "bbb", "ddd"] { #expect(try site.request("PUT", "/\(name)").status == 200) }
        var names: [String] = []
        var token: String?
        repeat {
            let answer = try site.request("GET", token.map { "/?continuation-token=\($0)" } ?? "/")
            names += answer.elements("Name")
            token = answer.element("ContinuationToken")
        } while token != nil && names.count < 10
        #expect(names == ["aaa", "bbb", "ccc", "ddd", "eee"])
        try await site.close()
    }

    /// Metadata are bytes, whoever has set them.
    @Test func metadataThatIsNoText() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        _ = try site.put("/bkt/k", "x")
        let file = try await site.find("bkt/k").file
        for (name, value) in [("user.latin", [0x63, 0xe9] as [UInt8]), ("user.control", [0x61, 0x0d, 0x0a])] {
            _ = try await site.files { volume, caller in volume.setExtendedAttribute(caller, file, name, value) }
        }
        let peer = try Peer(site.listener.address)
        peer.send(Array(site.signed("HEAD", "/bkt/k").utf8))
        let bytes = peer.receive { $0.suffix(4).elementsEqual([13, 10, 13, 10]) }
        let wanted = Array("x-amz-meta-latin: c".utf8) + [0xe9, 13, 10]
        #expect(bytes.indices.contains { bytes[$0...].starts(with: wanted) })
        #expect(try site.request("HEAD", "/bkt/k").field("x-amz-missing-meta") == "1")
        try await site.close()
    }

    @Test func partsOfObjectsWithoutParts() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        _ = try site.put("/bkt/k", "content")
        let answer = try site.request("GET", "/bkt/k?partNumber=1")
        #expect(answer.status == 206 && answer.field("content-range") == "bytes 0-6/7")
        #expect(try site.request("GET", "/bkt/k?partNumber=2").code == "InvalidPartNumber")
        // What is there only for what lies in it is no object.
        _ = try site.put("/bkt/d/k", "x")
        #expect(try site.request("PUT", "/bkt/d/", [("if-none-match", "*")]).status == 200)
        #expect(try site.request("PUT", "/bkt/d/", [("if-none-match", "*")]).status == 412)
        // Its metadata are what they were when its tag was asked for.
        let tag = try #require(try site.request("HEAD", "/bkt/d/").field("etag"))
        #expect(try site.request("PUT", "/bkt/d/", [("if-match", tag), ("x-amz-meta-a", "1")]).status == 200)
        #expect(try site.request("PUT", "/bkt/d/", [("if-match", "\"x\""), ("x-amz-meta-a", "2")]).status == 412)
        #expect(try site.request("PUT", "/bkt/none/", [("if-match", tag)]).status == 404)
        #expect(try site.request("HEAD", "/bkt/d/").field("x-amz-meta-a") == "1")
        try await site.close()
    }
}

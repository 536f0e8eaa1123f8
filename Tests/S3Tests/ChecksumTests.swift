import Crypto
import Foundation
import S3
import TestSupport
import Testing

/// The five checksums, in each form, on each way.
@Suite struct ChecksumTests {
    private static let words: [(algorithm: ChecksumAlgorithm, word: String)] = [
        (.crc32, "CRC32"), (.crc32c, "CRC32C"), (.crc64nvme, "CRC64NVME"), (.sha1, "SHA1"), (.sha256, "SHA256"),
    ]

    private static func value(_ algorithm: ChecksumAlgorithm, _ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { Checksum.of(algorithm, $0) }
    }

    private static func text(_ algorithm: ChecksumAlgorithm, _ bytes: [UInt8]) -> String {
        Base64.encode(value(algorithm, bytes))
    }

    /// What others have computed of `123456789`, so that these are the algorithms that clients mean.
    @Test func publishedValues() {
        let bytes = Array("123456789".utf8)
        for (algorithm, hexadecimal) in [
            (ChecksumAlgorithm.crc32, "cbf43926"), (.crc32c, "e3069283"), (.crc64nvme, "ae8b14860a799888"),
            (.sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (.sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            #expect(Hexadecimal.encode(Self.value(algorithm, bytes)) == hexadecimal)
        }
    }

    @Test func ofObjects() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        let body = Array("some content".utf8)
        for (algorithm, word) in Self.words {
            let field = "x-amz-checksum-\(word.lowercased())"
            let (right, wrong) = (Self.text(algorithm, body), Self.text(algorithm, [1]))
            func check(_ key: String, _ answer: Answer) throws {
                #expect(answer.status == 200 && answer.field(field) == right, "\(word) \(answer.text)")
                let got = try site.request("GET", "/bkt/\(key)", [("x-amz-checksum-mode", "ENABLED")])
                #expect(got.field(field) == right && got.field("x-amz-checksum-type") == "FULL_OBJECT", "\(word)")
                let wanted = [("x-amz-object-attributes", "Checksum")]
                let attributes = try site.request("GET", "/bkt/\(key)?attributes", wanted)
                #expect(attributes.element("Checksum\(word)") == right, "\(word) \(attributes.text)")
            }
            let key = "header-\(word)"
            #expect(try site.request("PUT", "/bkt/\(key)", [(field, wrong)], body: body).code == "BadDigest", "\(word)")
            #expect(try site.request("GET", "/bkt/\(key)").status == 404)
            try check(key, try site.request("PUT", "/bkt/\(key)", [(field, right)], body: body))
            for (name, value, code) in [("trailer-\(word)", right, ""), ("wrong-\(word)", wrong, "BadDigest")] {
                let coded = Array("c\r\nsome content\r\n0\r\n\(field):\(value)\r\n\r\n".utf8)
                let answer = try site.request(
                    "PUT", "/bkt/\(name)",
                    [
                        ("x-amz-trailer", field), ("x-amz-decoded-content-length", "12"),
                        ("content-encoding", "aws-chunked"),
                    ],
                    body: coded, hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
                if code.isEmpty {
                    try check(name, answer)
                } else {
                    #expect(answer.code == code, "\(word) \(answer.text)")
                }
            }
        }
        #expect(try site.request("GET", "/bkt?list-type=2").elements("Key").count == 10)
        try await site.close()
    }

    /// What is told of an upload that was begun without an algorithm is compared, or refused.
    @Test func ofUploadsWithoutAlgorithm() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let body = Array("some content".utf8)
        let (right, wrong) = (Self.text(.crc32, body), Self.text(.crc32, [1]))
        let upload = try #require(try site.request("POST", "/bkt/k?uploads").element("UploadId"))
        let part = try site.request(
            "PUT", "/bkt/k?partNumber=1&uploadId=\(upload)", [("x-amz-checksum-crc32", right)], body: body)
        #expect(part.status == 200 && part.field("x-amz-checksum-crc32") == right)
        let tag = try #require(part.field("etag"))
        func complete(_ fields: [(String, String)], _ more: String) throws -> Answer {
            let list = "<Part><PartNumber>1</PartNumber><ETag>\(tag)</ETag>\(more)</Part>"
            return try site.request(
                "POST", "/bkt/k?uploadId=\(upload)", fields,
                body: Array("<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>".utf8))
        }
        #expect(try complete([("x-amz-checksum-crc32", wrong)], "").code == "BadDigest")
        #expect(try complete([("x-amz-checksum-sha1", Self.text(.sha1, body))], "").code == "InvalidRequest")
        #expect(try complete([], "<ChecksumCRC32>\(wrong)</ChecksumCRC32>").code == "InvalidPart")
        #expect(try complete([], "<ChecksumSHA1>\(Self.text(.sha1, body))</ChecksumSHA1>").code == "InvalidPart")
        #expect(try complete([], "<ChecksumSHA512>AAAA</ChecksumSHA512>").status == 501)
        #expect(try site.request("GET", "/bkt/k").status == 404)
        #expect(try complete([], "<ChecksumCRC32>\(right)</ChecksumCRC32>").status == 200)
        #expect(try site.request("GET", "/bkt/k").body == body)
        // All parts have one: so has the whole, in both forms.
        let bodies = [body, Array("and more".utf8)]
        for whole in [
            Self.text(.crc32, bodies[0] + bodies[1]),
            Self.text(.crc32, bodies.flatMap { Self.value(.crc32, $0) }) + "-2",
        ] {
            let upload = try #require(try site.request("POST", "/bkt/two?uploads").element("UploadId"))
            var list = ""
            for (index, body) in bodies.enumerated() {
                let part = try site.request(
                    "PUT", "/bkt/two?partNumber=\(index + 1)&uploadId=\(upload)",
                    [("x-amz-checksum-crc32", Self.text(.crc32, body))], body: body)
                list += "<Part><PartNumber>\(index + 1)</PartNumber><ETag>\(part.field("etag") ?? "")</ETag></Part>"
            }
            let text = Array("<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>".utf8)
            let target = "/bkt/two?uploadId=\(upload)"
            let refused = try site.request("POST", target, [("x-amz-checksum-crc32", right)], body: text)
            #expect(refused.code == "BadDigest")
            let done = try site.request("POST", target, [("x-amz-checksum-crc32", whole)], body: text)
            #expect(done.status == 200, "\(whole) \(done.text)")
        }
        try await site.close()
    }

    /// A part that is a copy is told with its sum, which its client sends along with the others in the end.
    @Test func ofCopiedParts() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        _ = try site.put("/bkt/source", "some content")
        for (algorithm, word) in Self.words {
            let begun = try site.request("POST", "/bkt/\(word)?uploads", [("x-amz-checksum-algorithm", word)])
            let upload = try #require(begun.element("UploadId"))
            let copied = try site.request(
                "PUT", "/bkt/\(word)?partNumber=1&uploadId=\(upload)",
                [("x-amz-copy-source", "/bkt/source"), ("x-amz-copy-source-range", "bytes=0-3")])
            #expect(copied.element("Checksum\(word)") == Self.text(algorithm, Array("some".utf8)), "\(copied.text)")
        }
        try await site.close()
    }

    @Test func ofUploads() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let bodies = [[UInt8](repeating: 1, count: 1000), [UInt8](repeating: 2, count: 77)]
        for (algorithm, word) in Self.words {
            let field = "x-amz-checksum-\(word.lowercased())"
            let forms =
                switch algorithm {
                case .crc32, .crc32c: ["COMPOSITE", "FULL_OBJECT"]
                case .crc64nvme: ["FULL_OBJECT"]
                case .sha1, .sha256: ["COMPOSITE"]
                }
            for form in ["COMPOSITE", "FULL_OBJECT"] {
                let target = "/bkt/\(word)-\(form)"
                let begun = try site.request(
                    "POST", target + "?uploads", [("x-amz-checksum-algorithm", word), ("x-amz-checksum-type", form)])
                guard forms.contains(form) else {
                    #expect(begun.code == "InvalidRequest", "\(word) \(form)")
                    continue
                }
                #expect(begun.field("x-amz-checksum-type") == form)
                let upload = try #require(begun.element("UploadId"))
                var parts: [String] = []
                for (index, body) in bodies.enumerated() {
                    let part = target + "?partNumber=\(index + 1)&uploadId=\(upload)"
                    let wrong = [(field, Self.text(algorithm, [9]))]
                    #expect(try site.request("PUT", part, wrong, body: body).code == "BadDigest", "\(word)")
                    let other: ChecksumAlgorithm = algorithm == .sha1 ? .sha256 : .sha1
                    let mismatch = [("x-amz-checksum-\(other == .sha1 ? "sha1" : "sha256")", Self.text(other, body))]
                    #expect(try site.request("PUT", part, mismatch, body: body).code == "InvalidRequest", "\(word)")
                    let put = try site.request("PUT", part, [(field, Self.text(algorithm, body))], body: body)
                    #expect(put.field(field) == Self.text(algorithm, body), "\(word)")
                    parts.append(put.field("etag") ?? "")
                }
                func list(_ sums: [[UInt8]]) -> [UInt8] {
                    let items = zip(parts, sums).enumerated().map { index, part in
                        "<Part><PartNumber>\(index + 1)</PartNumber><ETag>\(part.0)</ETag>"
                            + "<Checksum\(word)>\(Self.text(algorithm, part.1))</Checksum\(word)></Part>"
                    }
                    return Array("<CompleteMultipartUpload>\(items.joined())</CompleteMultipartUpload>".utf8)
                }
                let whole =
                    form == "COMPOSITE"
                    ? Self.text(algorithm, bodies.flatMap { Self.value(algorithm, $0) }) + "-2"
                    : Self.text(algorithm, bodies.flatMap { $0 })
                func complete(_ fields: [(String, String)], _ sums: [[UInt8]]) throws -> Answer {
                    try site.request("POST", target + "?uploadId=\(upload)", fields, body: list(sums))
                }
                #expect(try complete([], [bodies[0], [9]]).code == "InvalidPart", "\(word) \(form)")
                #expect(
                    try complete([(field, Self.text(algorithm, [9]))], bodies).code == "BadDigest", "\(word) \(form)")
                let another = form == "COMPOSITE" ? "FULL_OBJECT" : "COMPOSITE"
                #expect(try complete([("x-amz-checksum-type", another)], bodies).code == "InvalidRequest", "\(word)")
                #expect(try complete([("x-amz-mp-object-size", "1")], bodies).code == "InvalidRequest", "\(word)")
                #expect(try site.request("GET", target).status == 404)
                let fields = [(field, whole), ("x-amz-checksum-type", form), ("x-amz-mp-object-size", "1077")]
                let done = try complete(fields, bodies)
                #expect(
                    done.element("Checksum\(word)") == whole && done.element("ChecksumType") == form, "\(done.text)")
                let got = try site.request("GET", target, [("x-amz-checksum-mode", "ENABLED")])
                #expect(got.field(field) == whole && got.field("x-amz-checksum-type") == form, "\(word) \(form)")
                #expect(got.body == bodies.flatMap { $0 })
            }
        }
        try await site.close()
    }
}

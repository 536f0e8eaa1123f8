import Foundation
import Runtime
import S3
import Synchronization
import TestSupport
import Testing
import XML

let emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/// The examples that AWS has published for the signature's version 4: a good one gets past the door.
@Suite struct SignatureTests {
    private static let time: Int64 = 1_369_353_600

    private func head(_ line: String, _ fields: [String], _ signed: String, _ signature: String) -> String {
        "\(line) HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n" + fields.map { $0 + "\r\n" }.joined()
            + "Authorization: AWS4-HMAC-SHA256 Credential=\(TestCredentials.exampleKey)/20130524/us-east-1/s3/aws4_request,"
            + "SignedHeaders=\(signed),Signature=\(signature)\r\n\r\n"
    }

    @Test func publishedExamples() async throws {
        let site = try await Site()
        site.clock.fixed.store(Self.time * 1_000_000_000, ordering: .relaxed)
        let date = "x-amz-date: 20130524T000000Z"
        let empty = "x-amz-content-sha256: \(emptyHash)"
        let good: [(String, Int)] = [
            (
                head(
                    "GET /test.txt", ["Range: bytes=0-9", empty, date],
                    "host;range;x-amz-content-sha256;x-amz-date",
                    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"), 404
            ),
            (
                head(
                    "GET /?lifecycle", [empty, date], "host;x-amz-content-sha256;x-amz-date",
                    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"), 404
            ),
            (
                head(
                    "GET /?max-keys=2&prefix=J", [empty, date], "host;x-amz-content-sha256;x-amz-date",
                    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"), 404
            ),
            (
                head(
                    "PUT /test$file.text",
                    [
                        "Date: Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class: REDUCED_REDUNDANCY", date,
                        "x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                    ], "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"), 404
            ),
        ]
        for (request, status) in good {
            #expect(try site.raw(request).status == status)
            // One digit of the signature, one of what is signed.
            let forged = try site.raw(request.replacingOccurrences(of: "Signature=", with: "Signature=0"))
            #expect(forged.status == 403 && forged.code == "SignatureDoesNotMatch")
            let changed = try site.raw(request.replacingOccurrences(of: "Host: e", with: "Host: f"))
            #expect(changed.status == 403 && changed.code == "SignatureDoesNotMatch")
        }
        let address =
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3"
            + "%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
            + "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        func presigned(_ address: String) throws -> Answer {
            try site.raw("GET \(address) HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n\r\n")
        }
        #expect(try presigned(address).code == "NoSuchBucket")
        #expect(try presigned(address.replacingOccurrences(of: "86400", with: "86401")).code == "SignatureDoesNotMatch")
        #expect(
            try presigned(address.replacingOccurrences(of: "86400", with: "604801")).code
                == "AuthorizationQueryParametersError")
        site.clock.fixed.store((Self.time + 86_400) * 1_000_000_000, ordering: .relaxed)
        #expect(try presigned(address).code == "NoSuchBucket")
        site.clock.fixed.store((Self.time + 86_401) * 1_000_000_000, ordering: .relaxed)
        let late = try presigned(address)
        #expect(late.status == 403 && late.text.contains("Request has expired"))
        try await site.close()
    }

    @Test func clocksThatDiffer() async throws {
        let site = try await Site()
        site.clock.fixed.store(Self.time * 1_000_000_000, ordering: .relaxed)
        for (difference, isGood) in [(900, true), (-900, true), (901, false), (-901, false)] as [(Int64, Bool)] {
            let answer = try site.request("GET", "/", time: Self.time + difference)
            #expect((answer.status == 200) == isGood)
            guard !isGood else { continue }
            #expect(answer.status == 403 && answer.code == "RequestTimeTooSkewed")
            #expect(answer.element("RequestTime") == Site.stamp(Self.time + difference))
            #expect(answer.element("ServerTime") == "2013-05-24T00:00:00.000Z")
            #expect(answer.element("MaxAllowedSkewMilliseconds") == "900000")
            #expect(answer.element("Message")?.contains("2013-05-24T00:00:00.000Z") == true)
        }
        try await site.close()
    }

    @Test func whatIsRefusedAtTheDoor() async throws {
        let site = try await Site()
        func code(_ fields: [String]) throws -> String {
            try site.raw("GET / HTTP/1.1\r\nHost: x\r\n" + fields.map { $0 + "\r\n" }.joined() + "\r\n").code
        }
        #expect(try code([]) == "AccessDenied")
        #expect(try code(["Authorization: Bearer x"]) == "InvalidArgument")
        #expect(try code(["Authorization: AWS4-HMAC-SHA256 x"]) == "AuthorizationHeaderMalformed")
        #expect(
            try code(["Authorization: AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host"])
                == "AuthorizationHeaderMalformed")
        let scope = "20130524/us-east-1/s3/aws4_request"
        for bad in [
            "a/b", "a/\(scope.dropLast())", "a/2013/us-east-1/s3/aws4_request", "a/20130524/us-east-1/ec2/aws4_request",
            "a/20130524/eu/s3/aws4_request",
        ] {
            #expect(
                try code(["Authorization: AWS4-HMAC-SHA256 Credential=\(bad),SignedHeaders=host,Signature=0"])
                    == "AuthorizationHeaderMalformed")
        }
        #expect(try site.request("GET", "/", key: "nobody").code == "InvalidAccessKeyId")
        #expect(try site.request("GET", "/", secret: "x").code == "SignatureDoesNotMatch")
        #expect(try site.request("GET", "/", hash: "x").code == "InvalidArgument")
        // A header of the API that is not signed may have been added by somebody else.
        let head = site.signed("GET", "/").replacingOccurrences(
            of: "\r\n\r\n", with: "\r\nx-amz-acl: public-read\r\n\r\n")
        #expect(try site.raw(head).code == "AccessDenied")
        #expect(try site.request("PUT", "/read-only", key: "reader", secret: "reader-secret").code == "AccessDenied")
        try await site.close()
    }

    /// AWS's example of an upload in signed chunks, with and without a signed trailer.
    @Test func publishedChunks() throws {
        let key = SigningKeys.derive(TestCredentials.exampleSecret, day: "20130524", region: "us-east-1")
        func signing(_ seed: String) -> ChunkSigning {
            ChunkSigning(key: key, date: "20130524T000000Z", scope: "20130524/us-east-1/s3/aws4_request", seed: seed)
        }
        func body(_ signatures: [String], _ trailer: String) -> [UInt8] {
            let first = [UInt8](repeating: UInt8(ascii: "a"), count: 65_536)
            var bytes = Array("10000;chunk-signature=\(signatures[0])\r\n".utf8) + first
            bytes += Array("\r\n400;chunk-signature=\(signatures[1])\r\n".utf8) + first.prefix(1024)
            return bytes + Array("\r\n0;chunk-signature=\(signatures[2])\r\n\(trailer)\r\n".utf8)
        }
        func decode(_ seed: String, _ bytes: [UInt8], hasTrailer: Bool, step: Int) throws -> Int {
            var decoder = ChunkDecoder(signing(seed), hasTrailer: hasTrailer)
            var count = 0
            for start in stride(from: 0, to: bytes.count, by: step) {
                try Array(bytes[start..<min(start + step, bytes.count)]).withUnsafeBytes { piece in
                    try decoder.take(piece) { (data) throws(S3Error) in count += data.count }
                }
            }
            #expect(decoder.isComplete)
            return count
        }
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        let signatures = [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
        let good = body(signatures, "")
        for step in [1, 7, 1000, good.count] {
            #expect(try decode(seed, good, hasTrailer: false, step: step) == 66_560)
        }
        for place in [100, 65_700] {
            var bad = good
            bad[place] ^= 1
            #expect(throws: S3Error.self) { try decode(seed, bad, hasTrailer: false, step: 4096) }
        }
        #expect(throws: S3Error.self) { try decode(seed, good + [65], hasTrailer: false, step: 4096) }
        let trailerSeed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
        let trailerSignatures = [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ]
        let field = "x-amz-checksum-crc32c:sOO8/Q==\r\n"
        let last = "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
        let trailed = body(trailerSignatures, field + last)
        #expect(try decode(trailerSeed, trailed, hasTrailer: true, step: 333) == 66_560)
        #expect(throws: S3Error.self) {
            try decode(trailerSeed, body(trailerSignatures, field), hasTrailer: true, step: 4096)
        }
        let forged = body(trailerSignatures, field.replacingOccurrences(of: "sO", with: "so") + last)
        #expect(throws: S3Error.self) { try decode(trailerSeed, forged, hasTrailer: true, step: 4096) }
    }
}

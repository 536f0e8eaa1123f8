import Crypto
import Foundation
import S3
import Synchronization
import TestSupport
import Testing

/// Addresses that somebody has signed for others: what they carry is what he has signed, no more and no less.
@Suite struct AddressTests {
    private static func escaped(_ text: String) -> String {
        text.utf8.map { byte in
            let isPlain =
                (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
                || [0x2d, 0x2e, 0x5f, 0x7e].contains(byte)
            return isPlain ? String(UnicodeScalar(byte)) : "%" + Hexadecimal.encode([byte]).uppercased()
        }.joined()
    }

    private static func head(_ method: String, _ target: String, _ fields: [(String, String)], _ body: [UInt8])
        -> String
    {
        "\(method) \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\n" + fields.map { "\($0.0): \($0.1)\r\n" }.joined()
            + "content-length: \(body.count)\r\n\r\n"
    }

    /// By version 4, with parameters and with fields that are to be sent along.
    private static func address4(
        _ site: Site, _ method: String, _ path: String, _ parameters: [(String, String)],
        _ fields: [(String, String)] = []
    ) -> String {
        let date = Site.stamp(site.clock.wall() / 1_000_000_000)
        let scope = "\(date.prefix(8))/us-east-1/s3/aws4_request"
        let signed = (fields + [("host", "127.0.0.1")]).sorted { $0.0 < $1.0 }
        let names = signed.map(\.0).joined(separator: ";")
        let all =
            parameters + [
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", "\(TestCredentials.exampleKey)/\(scope)"),
                ("X-Amz-Date", date), ("X-Amz-Expires", "600"), ("X-Amz-SignedHeaders", names),
            ]
        let query = all.map { "\(escaped($0.0))=\(escaped($0.1))" }.sorted().joined(separator: "&")
        let canonical =
            "\(method)\n\(path)\n\(query)\n" + signed.map { "\($0.0):\($0.1)\n" }.joined()
            + "\n\(names)\nUNSIGNED-PAYLOAD"
        let toSign =
            "AWS4-HMAC-SHA256\n\(date)\n\(scope)\n" + Hexadecimal.encode(Digest.of(.sha256, Array(canonical.utf8)))
        let key = SigningKeys.derive(TestCredentials.exampleSecret, day: String(date.prefix(8)), region: "us-east-1")
        return "\(path)?\(query)&X-Amz-Signature=\(Hexadecimal.encode(HMAC.of(.sha256, key: key, toSign)))"
    }

    private static func signature2(
        _ site: Site, _ method: String, _ path: String, _ date: String, _ fields: [(String, String)]
    )
        -> String
    {
        let lines = fields.sorted { $0.0 < $1.0 }.map { "\($0.0):\($0.1)\n" }.joined()
        let toSign = "\(method)\n\n\n\(date)\n\(lines)\(path)"
        return Base64.encode(HMAC.of(.sha1, key: Array(TestCredentials.exampleSecret.utf8), toSign))
    }

    /// What the signer of a version 2 address has demanded as a field can not be moved to where nobody reads it.
    @Test func demandsOfVersion2() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        _ = try site.put("/bkt/approved", "approved")
        let expires = "\(site.clock.wall() / 1_000_000_000 + 600)"
        let demand = [("x-amz-copy-source", "/bkt/approved")]
        let signature = Self.escaped(Self.signature2(site, "PUT", "/bkt/k", expires, demand))
        let address = "/bkt/k?AWSAccessKeyId=\(TestCredentials.exampleKey)&Expires=\(expires)&Signature=\(signature)"
        let own = Array("of my own".utf8)
        let moved = "&x-amz-copy-source=\(Self.escaped("/bkt/approved"))"
        for target in [address, address + moved] {
            let answer = try site.raw(Self.head("PUT", target, [], own), own)
            #expect(answer.status == 403 && answer.code == "SignatureDoesNotMatch", "\(target)")
        }
        #expect(try site.request("GET", "/bkt/k").status == 404)
        #expect(try site.raw(Self.head("PUT", address, demand, [])).status == 200)
        #expect(try site.request("GET", "/bkt/k").text == "approved")
        // A request that is signed in its head, and overheard: an address of it is none.
        let date = "Fri, 24 May 2013 00:00:00 GMT"
        site.clock.fixed.store(1_369_353_600 * 1_000_000_000, ordering: .relaxed)
        let header = Self.signature2(site, "PUT", "/bkt/j", date, demand)
        let fields = [("date", date), ("authorization", "AWS \(TestCredentials.exampleKey):\(header)")]
        for target in ["/bkt/j", "/bkt/j?Signature=x" + moved] {
            #expect(try site.raw(Self.head("PUT", target, fields, own), own).status == 403, "\(target)")
        }
        #expect(try site.raw(Self.head("PUT", "/bkt/j", fields + demand, [])).status == 200)
        #expect(try site.request("GET", "/bkt/j").text == "approved")
        try await site.close()
    }

    /// Some clients put fields into the addresses that they sign by version 4: they mean what they would in the head.
    @Test func fieldsOfVersion4() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        let body = Array("content".utf8)
        func put(
            _ key: String, _ parameters: [(String, String)], _ fields: [(String, String)] = [],
            sent: [(String, String)] = []
        ) throws -> Answer {
            let address = Self.address4(site, "PUT", "/bkt/\(key)", parameters, fields)
            return try site.raw(Self.head("PUT", address, fields + sent, body), body)
        }
        #expect(
            try put("k", [("x-amz-acl", "public-read"), ("X-Amz-Meta-Colour", "red"), ("x-amz-tagging", "a=1&b=2")])
                .status
                == 200)
        let open = try site.raw("GET /bkt/k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        #expect(open.status == 200 && open.field("x-amz-meta-colour") == "red" && open.body == body)
        #expect(try site.request("HEAD", "/bkt/k").field("x-amz-tagging-count") == "2")
        // As fields of the head, which are signed as such.
        #expect(try put("h", [], [("x-amz-meta-colour", "blue")]).status == 200)
        #expect(try site.request("HEAD", "/bkt/h").field("x-amz-meta-colour") == "blue")
        #expect(try put("copy", [("x-amz-copy-source", "/bkt/h")]).text.contains("CopyObjectResult"))
        // What libraries sign of a body that they do not have yet: the sum of nothing.
        let early = [
            ("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-id", "PutObject"),
        ]
        #expect(try put("early", early).status == 200)
        #expect(try site.request("GET", "/bkt/early").body == body)
        let refused: [([(String, String)], [(String, String)], Int, String)] = [
            ([("x-amz-expected-bucket-owner", "1")], [], 403, "AccessDenied"),
            ([("x-amz-server-side-encryption", "AES256")], [], 501, "NotImplemented"),
            ([("x-amz-object-lock-event-hold", "ON")], [], 501, "NotImplemented"),
            ([("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")], [], 400, "InvalidArgument"),
            ([("x-amz-meta-a", "1\r\nx-amz-acl: public-read")], [], 400, "InvalidArgument"),
            ([("x-amz-meta-a b", "1")], [], 400, "InvalidArgument"),
            // Not signed, so it may be anybody's.
            ([], [("x-amz-acl", "public-read")], 403, "AccessDenied"),
        ]
        for (parameters, sent, status, code) in refused {
            let answer = try put("refused", parameters, sent: sent)
            #expect(answer.status == status && answer.code == code, "\(parameters) \(answer.status) \(answer.code)")
        }
        let address = Self.address4(site, "PUT", "/bkt/refused", [("x-amz-acl", "private")])
        for other in [address.replacingOccurrences(of: "private", with: "public-read"), address + "&x-amz-meta-a=1"] {
            #expect(try site.raw(Self.head("PUT", other, [], body), body).code == "SignatureDoesNotMatch")
        }
        #expect(try site.request("GET", "/bkt/refused").status == 404)
        // In a request that is signed in its head they are parameters like any other.
        #expect(try site.request("PUT", "/bkt/plain?x-amz-meta-colour=red", body: body).status == 200)
        #expect(try site.request("HEAD", "/bkt/plain").field("x-amz-meta-colour") == nil)
        try await site.close()
    }
}

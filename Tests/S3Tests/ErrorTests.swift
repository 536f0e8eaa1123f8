import Crypto
import Foundation
import HTTP
import Logging
import Namespace
import Runtime
import S3
import Synchronization
import TestSupport
import Testing

/// Each word that the API has for a refusal, from the request that earns it.
@Suite struct ErrorTests {
    /// What a request may come with.
    private struct Trial {
        var code: S3Error.Code
        var method: String
        var target: String
        var fields: [(String, String)] = []
        var body: [UInt8] = []
        var key = TestCredentials.exampleKey
        var secret = TestCredentials.exampleSecret
        var hash: String?
        var time: Int64?

        init(
            _ code: S3Error.Code, _ method: String, _ target: String, _ fields: [(String, String)] = [],
            _ body: String = ""
        ) {
            self.code = code
            self.method = method
            self.target = target
            self.fields = fields
            self.body = Array(body.utf8)
        }

        func with(_ change: (inout Trial) -> Void) -> Trial {
            var trial = self
            change(&trial)
            return trial
        }
    }

    private static func session(until: Int64) -> SessionKey {
        SessionKey(
            of: TestCredentials.exampleKey, Secret(TestCredentials.exampleSecret), until: until,
            salt: [UInt8](repeating: 7, count: SessionKey.saltBytes))
    }

    private static func complete(_ parts: [(Int, String)]) -> String {
        "<CompleteMultipartUpload>"
            + parts.map { "<Part><PartNumber>\($0.0)</PartNumber><ETag>\($0.1)</ETag></Part>" }.joined()
            + "</CompleteMultipartUpload>"
    }

    private static func form(_ fields: [(String, String)]) -> (field: (String, String), body: String) {
        let parts = fields.map { "--b\r\ncontent-disposition: form-data; name=\"\($0.0)\"\r\n\r\n\($0.1)\r\n" }
        return (("content-type", "multipart/form-data; boundary=b"), parts.joined() + "--b--\r\n")
    }

    private static func trials(_ tag: String, _ upload: String, _ parts: [(Int, String)]) -> [Trial] {
        let policy = Base64.encode(Array("no policy".utf8))
        let signature = Base64.encode(
            HMAC.of(.sha1, key: Array(TestCredentials.exampleSecret.utf8), policy))
        let form = form([
            ("key", "k"), ("policy", policy), ("AWSAccessKeyId", TestCredentials.exampleKey), ("signature", signature),
            ("file", "x"),
        ])
        let over = session(until: 1)
        let days = "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>0</Days></DefaultRetention></Rule>"
        let lock = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
        let end = "</ObjectLockConfiguration>"
        let place =
            "<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>"
        return [
            Trial(.accessDenied, "GET", "/bkt/k").with { $0.secret = "" },
            Trial(.authorizationQueryParametersError, "GET", "/?X-Amz-Algorithm=none").with { $0.secret = "" },
            Trial(.badDigest, "PUT", "/bkt/n", [("content-md5", Site.md5([1]))], "x"),
            Trial(.bucketAlreadyExists, "PUT", "/bkt").with { ($0.key, $0.secret) = ("other", "other-secret") },
            Trial(.bucketAlreadyOwnedByYou, "PUT", "/bkt", [("x-amz-bucket-object-lock-enabled", "true")]),
            Trial(.bucketNotEmpty, "DELETE", "/bkt"),
            Trial(.entityTooLarge, "PUT", "/bkt/n", [], String(repeating: "x", count: 2001)),
            Trial(.entityTooSmall, "POST", "/bkt/u?uploadId=\(upload)", [], complete(parts)),
            Trial(.expiredToken, "GET", "/", [("x-amz-security-token", over.token)]).with {
                ($0.key, $0.secret) = (over.accessKey, over.secret.revealed)
            },
            Trial(.illegalLocationConstraint, "PUT", "/elsewhere", [], place),
            Trial(.incompleteBody, "PUT", "/bkt/n", [("x-amz-decoded-content-length", "5")], "5\r\nhel").with {
                $0.hash = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
            },
            Trial(.invalidAccessKeyId, "GET", "/").with { $0.key = "nobody" },
            Trial(.invalidArgument, "GET", "/bkt?max-keys=x"),
            Trial(.invalidBucketName, "PUT", "/No"),
            Trial(.invalidBucketState, "PUT", "/bkt?object-lock", [], lock + end),
            Trial(.invalidDigest, "PUT", "/bkt/n", [("content-md5", "x")], "x"),
            Trial(.invalidPart, "POST", "/bkt/u?uploadId=\(upload)", [], complete([(1, "\"x\"")])),
            Trial(.invalidPartNumber, "GET", "/bkt/k?partNumber=2"),
            Trial(.invalidPartOrder, "POST", "/bkt/u?uploadId=\(upload)", [], complete(parts.reversed())),
            Trial(.invalidPolicyDocument, "POST", "/bkt", [form.field], form.body).with {
                $0.hash = "UNSIGNED-PAYLOAD"
            },
            Trial(.invalidRange, "GET", "/bkt/k", [("range", "bytes=100-")]),
            Trial(.invalidRequest, "GET", "/bkt/k?partNumber=1", [("range", "bytes=0-1")]),
            Trial(.invalidRetentionPeriod, "PUT", "/locked?object-lock", [], lock + days + end),
            Trial(.invalidTag, "PUT", "/bkt/n", [("x-amz-tagging", "a=1&a=2")], "x"),
            Trial(.invalidToken, "GET", "/", [("x-amz-security-token", "x")]),
            Trial(.keyConflict, "PUT", "/bkt/k/below", [], "x"),
            Trial(.keyTooLong, "PUT", "/bkt/" + String(repeating: "k", count: 1025), [], "x"),
            Trial(.malformedACL, "PUT", "/bkt?acl", [], "<AccessControlPolicy/>"),
            Trial(.malformedPolicy, "PUT", "/bkt?policy", [], "x"),
            Trial(.malformedPOST, "POST", "/bkt", [("content-type", "text/plain")], "x"),
            Trial(.malformedXML, "PUT", "/bkt?tagging", [], "<x"),
            Trial(.maxMessageLengthExceeded, "PUT", "/bkt?policy", [], String(repeating: " ", count: 30_000)),
            Trial(.metadataTooLarge, "PUT", "/bkt/n", [("x-amz-meta-a", String(repeating: "x", count: 3000))], "x"),
            Trial(.methodNotAllowed, "DELETE", "/bkt?acl"),
            Trial(.missingContentLength, "PUT", "/bkt/n", [], "0\r\n\r\n").with {
                $0.hash = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
            },
            Trial(.missingRequestBody, "PUT", "/bkt?tagging"),
            Trial(.missingSecurityHeader, "PUT", "/bkt?acl"),
            Trial(.noSuchBucket, "GET", "/none"),
            Trial(.noSuchBucketPolicy, "GET", "/bkt?policy"),
            Trial(.noSuchCORSConfiguration, "GET", "/bkt?cors"),
            Trial(.noSuchEncryption, "GET", "/bkt?encryption"),
            Trial(.noSuchKey, "GET", "/bkt/none"),
            Trial(.noSuchLifecycle, "GET", "/bkt?lifecycle"),
            Trial(.noSuchObjectLock, "GET", "/bkt?object-lock"),
            Trial(.noSuchObjectLockRetention, "GET", "/locked/k?retention"),
            Trial(.noSuchOwnershipControls, "GET", "/bkt?ownershipControls"),
            Trial(.noSuchPublicAccessBlock, "GET", "/bkt?publicAccessBlock"),
            Trial(.noSuchReplication, "GET", "/bkt?replication"),
            Trial(.noSuchTagSet, "GET", "/bkt?tagging"),
            Trial(.noSuchUpload, "GET", "/bkt/k?uploadId=0"),
            Trial(.noSuchVersion, "GET", "/locked/k?versionId=\(String(repeating: "0", count: 32))"),
            Trial(.noSuchWebsite, "GET", "/bkt?website"),
            Trial(.notImplemented, "PUT", "/bkt?website", [], "x"),
            Trial(.notModified, "GET", "/bkt/k", [("if-none-match", tag)]),
            Trial(.operationAborted, "GET", "/bkt/denied"),
            Trial(.preconditionFailed, "GET", "/bkt/k", [("if-match", "\"x\"")]),
            Trial(.requestTimeTooSkewed, "GET", "/").with { $0.time = 1_000_000_000 },
            Trial(.signatureDoesNotMatch, "GET", "/").with { $0.secret = "wrong" },
            Trial(.slowDown, "POST", "/bkt/second?uploads"),
            Trial(.xAmzContentSHA256Mismatch, "PUT", "/bkt/n", [], "x").with {
                $0.hash = String(repeating: "0", count: 64)
            },
        ]
    }

    @Test func everyCode() async throws {
        var limits = S3Limits()
        (limits.putBytesMax, limits.uploadsMax) = (2000, 1)
        let site = try await Site(limits: limits)
        var tested: Set<S3Error.Code> = []
        #expect(try site.request("PUT", "/bkt").status == 200)
        try site.versioned("locked", lock: true)
        _ = try site.put("/locked/k", "content")
        let tag = try #require(try site.request("PUT", "/bkt/k", body: [1, 2, 3]).field("etag"))
        let upload = try #require(try site.request("POST", "/bkt/u?uploads").element("UploadId"))
        let parts = try (1...2).map { number in
            (
                number,
                try site.request("PUT", "/bkt/u?partNumber=\(number)&uploadId=\(upload)", body: [1]).field("etag") ?? ""
            )
        }
        _ = try site.put("/bkt/denied", "x")
        let denied = try await site.find("bkt/denied").file
        _ = try await site.files { volume, caller in
            volume.open(caller, denied, OpenIntent(.open, access: [.readData], shared: [.write, .delete], client: 1))
        }
        let before = try site.request("GET", "/bkt?list-type=2").elements("Key")
        func check(_ code: S3Error.Code, _ answer: Answer, _ what: String) {
            tested.insert(code)
            #expect(answer.status == Int(code.status.code), "\(what): \(answer.status)")
            if code != .notModified { #expect(answer.code == code.rawValue, "\(what): \(answer.text)") }
            #expect(answer.field("x-amz-request-id") != nil && answer.field("x-amz-id-2") != nil, "\(what)")
        }
        for trial in Self.trials(tag, upload, parts) {
            let (method, target) = (trial.method, trial.target)
            var answer: Answer
            if trial.secret.isEmpty {
                answer = try site.raw("\(method) \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            } else {
                answer = try site.request(
                    method, target, trial.fields, body: trial.body, key: trial.key, secret: trial.secret,
                    hash: trial.hash, time: trial.time)
            }
            check(trial.code, answer, "\(method) \(target)")
        }
        check(
            .authorizationHeaderMalformed,
            try site.raw("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nauthorization: AWS4-HMAC-SHA256 x\r\n\r\n"), "header")
        check(.invalidURI, try site.raw("GET /%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), "path")
        // Somebody else puts the object while the body is on its way.
        let peer = try Peer(site.listener.address)
        let slow = [("if-match", tag), ("expect", "100-continue")]
        peer.send(Array(site.signed("PUT", "/bkt/k", slow, body: [9]).utf8))
        _ = peer.receive { $0.suffix(4).elementsEqual([13, 10, 13, 10]) }
        #expect(try site.request("PUT", "/bkt/k", body: [4]).status == 200)
        peer.send([9])
        check(.conditionalRequestConflict, Site.answer(peer), "condition")
        #expect(try site.request("GET", "/bkt/k").body == [4])
        // Refused, and nothing has changed.
        #expect(try site.request("GET", "/bkt?list-type=2").elements("Key") == before)
        let refusals: [(FileError, S3Error.Code)] = [
            (.inputOutput("test"), .internalError), (.quotaExceeded, .quotaExceeded), (.offline, .serviceUnavailable),
            (.noSpace, .storageFull),
        ]
        for (error, code) in refusals {
            #expect(S3Error(file: error).code == code)
            tested.insert(code)
        }
        let left = Set(S3Error.Code.allCases).subtracting(tested)
        #expect(left.isEmpty, "\(left.map(\.rawValue).sorted())")
        try await site.close()
    }

    /// A key for a while is as good as the one that it was made from, by every way of signing, until it ends.
    @Test func keysForAWhile() async throws {
        let site = try await Site()
        let now: Int64 = 1_900_000_000
        site.clock.fixed.store(now * 1_000_000_000, ordering: .relaxed)
        let key = Self.session(until: now + 60)
        #expect(try site.request("PUT", "/bkt").status == 200)
        func ask(_ token: String?, key: SessionKey, accessKey: String? = nil) throws -> Answer {
            try site.request(
                "PUT", "/bkt/k", token.map { [("x-amz-security-token", $0)] } ?? [], body: [1],
                key: accessKey ?? key.accessKey, secret: key.secret.revealed)
        }
        #expect(try ask(key.token, key: key).status == 200)
        #expect(try await site.find("bkt/k").uid == 10_000)
        #expect(try ask(nil, key: key).code == "InvalidAccessKeyId")
        #expect(try ask(key.token, key: key, accessKey: "PXS0").code == "InvalidToken")
        #expect(try ask(Self.session(until: now + 61).token, key: key).code == "SignatureDoesNotMatch")
        // Any other byte, and it is no token.
        var bytes = try #require(Base64.decode(key.token))
        for index in bytes.indices {
            bytes[index] ^= 1
            #expect(try ask(Base64.encode(bytes), key: key).code == "InvalidToken", "\(index)")
            bytes[index] ^= 1
        }
        let forged = SessionKey(
            of: TestCredentials.exampleKey, Secret("a guess"), until: now + 60,
            salt: [UInt8](repeating: 7, count: SessionKey.saltBytes))
        #expect(try ask(forged.token, key: forged).code == "InvalidToken")
        site.clock.fixed.store((now + 60) * 1_000_000_000, ordering: .relaxed)
        #expect(try ask(key.token, key: key).code == "ExpiredToken")
        try await site.close()
    }
}

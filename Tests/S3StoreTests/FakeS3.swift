import Bytes
import Crypto
import Logging
import ObjectStore
import Runtime
import S3Store
import StoreSupport
import Testing
import Transfer

/// A bucket named `bucket` in memory, in the words of S3; it takes only what is signed as it was sent.
final class FakeS3: Sendable {
    struct State {
        var objects: [String: [UInt8]] = [:]
        var uploads: [String: [Int: [UInt8]]] = [:]
        var keys = ["KEY": "SECRET"]
        var tokens: [String: String] = [:]
        /// Answers the next requests in place of the bucket; nil: the bucket answers.
        var script: [@Sendable (FakeServer.Request) -> FakeServer.Answer?] = []
        var seconds: Int64?
        var checksums = true
        var pageMax = 1000
        var escapes = true
        var requests: [String] = []
    }

    let state = Guarded(State())

    func server() -> FakeServer { FakeServer { self.answer($0) } }

    static func error(_ status: Int, _ code: String, _ more: String = "") -> FakeServer.Answer {
        .init(
            status, "<?xml version=\"1.0\"?><Error><Code>\(code)</Code><Message>told so</Message>\(more)</Error>",
            [("X-Amz-Request-Id", "tx1")])
    }

    private func answer(_ request: FakeServer.Request) -> FakeServer.Answer {
        state.withLock { state in
            state.requests.append("\(request.method) \(request.query.keys.sorted().joined(separator: ","))")
            if !state.script.isEmpty, let answer = state.script.removeFirst()(request) { return answer }
            if let refusal = Self.refusal(request, state) { return refusal }
            return Self.apply(request, &state)
        }
    }

    // MARK: Signatures

    private static func refusal(_ request: FakeServer.Request, _ state: State) -> FakeServer.Answer? {
        guard let header = request.fields["authorization"], let date = request.fields["x-amz-date"],
            let hash = request.fields["x-amz-content-sha256"]
        else { return error(403, "AccessDenied") }
        var parts: [String: String] = [:]
        for part in header.dropFirst("AWS4-HMAC-SHA256 ".count).split(separator: ",") {
            let pair = part.drop { $0 == " " }.split(separator: "=", maxSplits: 1)
            parts[String(pair[0])] = String(pair[1])
        }
        let scope = (parts["Credential"] ?? "").split(separator: "/").map(String.init)
        guard scope.count == 5, let secret = state.keys[scope[0]] else { return error(403, "InvalidAccessKeyId") }
        if let token = state.tokens[scope[0]], token != request.fields["x-amz-security-token"] {
            return error(400, "ExpiredToken")
        }
        guard scope[2] == "us-east-1" else {
            return error(400, "AuthorizationHeaderMalformed", "<Region>us-east-1</Region>")
        }
        if let seconds = state.seconds, abs(seconds - (Timestamp.basic(date) ?? 0)) > 900 {
            var answer = error(403, "RequestTimeTooSkewed")
            answer.fields = [("Date", "Fri, 24 May 2013 00:00:00 GMT")]
            return answer
        }
        // What is not signed could have been added on the way.
        let signed = (parts["SignedHeaders"] ?? "").split(separator: ";").map(String.init)
        for name in request.fields.keys where name.hasPrefix("x-amz-") || name == "host" || name == "if-none-match" {
            guard signed.contains(name) else { return error(403, "AccessDenied") }
        }
        let target = request.target.split(separator: "?", maxSplits: 1).map(String.init)
        let query = (target.count > 1 ? target[1] : "").split(separator: "&").sorted().joined(separator: "&")
        let canonical =
            "\(request.method)\n\(target[0])\n\(query)\n"
            + signed.map { "\($0):\(request.fields[$0] ?? "")\n" }.joined()
            + "\n\(signed.joined(separator: ";"))\n\(hash)"
        let text =
            "AWS4-HMAC-SHA256\n\(date)\n\(scope.dropFirst().joined(separator: "/"))\n"
            + Hexadecimal.encode(Digest.of(.sha256, Array(canonical.utf8)))
        let key = SignatureV4Key.derive(secret, day: scope[1], region: scope[2])
        guard Hexadecimal.encode(HMAC.of(.sha256, key: key, text)) == parts["Signature"] else {
            return error(403, "SignatureDoesNotMatch")
        }
        guard hash == Hexadecimal.encode(Digest.of(.sha256, request.body)) else {
            return error(400, "XAmzContentSHA256Mismatch")
        }
        return nil
    }

    // MARK: Objects

    private static func apply(_ request: FakeServer.Request, _ state: inout State) -> FakeServer.Answer {
        guard request.path == "/bucket" || request.path.hasPrefix("/bucket/") else { return error(404, "NoSuchBucket") }
        let key = String(request.path.dropFirst("/bucket/".count))
        switch request.method {
        case "PUT":
            if let sum = request.fields["x-amz-checksum-crc32c"] {
                let right = request.body.withUnsafeBytes { Base64.encode(Checksum.of(.crc32c, $0)) }
                guard sum == right else { return error(400, "BadDigest") }
            }
            let fields = [
                ("ETag", "\"tag\""), ("x-amz-checksum-crc32c", request.fields["x-amz-checksum-crc32c"] ?? "none"),
            ]
            if let upload = request.query["uploadId"], let part = request.query["partNumber"].flatMap({ Int($0) }) {
                guard state.uploads[upload] != nil else { return error(404, "NoSuchUpload") }
                state.uploads[upload]?[part] = request.body
                return .init(200, "", state.checksums ? fields : [fields[0]])
            }
            if request.fields["if-none-match"] == "*", state.objects[key] != nil {
                return error(412, "PreconditionFailed")
            }
            state.objects[key] = request.body
            return .init(200, "", state.checksums ? fields : [fields[0]])
        case "POST":
            guard let upload = request.query["uploadId"] else {
                state.uploads["upload-\(key)"] = [:]
                return .init(
                    200,
                    "<InitiateMultipartUploadResult><UploadId>upload-\(key)</UploadId></InitiateMultipartUploadResult>")
            }
            // What is told of parts is asked for again; one that does not know of sums takes no word of them.
            let names = String(decoding: request.body, as: UTF8.self).contains("<ChecksumCRC32C>")
            guard names == state.checksums else { return error(400, "MalformedXML") }
            guard let parts = state.uploads.removeValue(forKey: upload) else { return error(404, "NoSuchUpload") }
            state.objects[key] = parts.keys.sorted().flatMap { parts[$0] ?? [] }
            return .init(200, "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
        case "DELETE":
            if let upload = request.query["uploadId"] {
                return .init(state.uploads.removeValue(forKey: upload) == nil ? 404 : 204)
            }
            state.objects[key] = nil
            return .init(204)
        case _ where request.query["list-type"] == "2": return list(request, state)
        default:
            guard let bytes = state.objects[key] else { return error(404, "NoSuchKey") }
            return get(request, bytes, state)
        }
    }

    private static func get(_ request: FakeServer.Request, _ bytes: [UInt8], _ state: State) -> FakeServer.Answer {
        guard let range = request.fields["range"] else {
            var answer = FakeServer.Answer(200)
            answer.body = bytes
            if state.checksums, request.fields["x-amz-checksum-mode"] == "ENABLED" {
                answer.fields = [
                    ("x-amz-checksum-crc32c", bytes.withUnsafeBytes { Base64.encode(Checksum.of(.crc32c, $0)) })
                ]
            }
            return answer
        }
        let ends = range.dropFirst("bytes=".count).split(separator: "-").compactMap { UInt64($0) }
        guard ends[0] < UInt64(bytes.count) else { return error(416, "InvalidRange") }
        let last = min(Int(clamping: ends[1]), bytes.count - 1)
        var answer = FakeServer.Answer(206, "", [("Content-Range", "bytes \(ends[0])-\(last)/\(bytes.count)")])
        answer.body = Array(bytes[Int(ends[0])...last])
        return answer
    }

    private static func list(_ request: FakeServer.Request, _ state: State) -> FakeServer.Answer {
        let after = request.query["start-after"] ?? ""
        let names = state.objects.keys.filter { $0.hasPrefix(request.query["prefix"] ?? "") && $0 > after }.sorted()
        let page = names.prefix(min(Int(request.query["max-keys"] ?? "") ?? 1000, state.pageMax))
        var xml =
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>\(page.count < names.count)</IsTruncated>"
        let isEscaped = state.escapes && request.query["encoding-type"] == "url"
        if isEscaped { xml += "<EncodingType>url</EncodingType>" }
        for name in page {
            let key = isEscaped ? Endpoint.escape(name, keepsSlash: true).replacing("%20", with: "+") : name
            xml += "<Contents><Key>\(key)</Key><Size>\(state.objects[name]?.count ?? 0)</Size></Contents>"
        }
        return .init(200, xml + "</ListBucketResult>")
    }

    // MARK: A store on it

    func run(
        key: String = "KEY", secret: String = "SECRET", source: (any S3CredentialSource)? = nil,
        _ change: @escaping @Sendable (inout S3Options) -> Void = { _ in },
        _ body: @escaping @Sendable (S3Store, World) async throws -> Void
    ) async throws {
        let server = server()
        try await server.run { world, port in
            let pool = try TransferPool("test")
            var options = S3Options(bucket: "bucket", endpoint: Endpoint("http://127.0.0.1:\(port)")!)!
            change(&options)
            let credentials =
                source ?? FixedCredentials(S3Credentials(accessKey: key, secret: Secret(secret)), from: "the test")
            let store = S3Store(
                options, credentials: credentials, reads: pool, writes: pool, world: world, loop: world.loops[0])
            try await body(store, world)
            pool.stop()
        }
    }
}

func name(_ text: String) -> ObjectName { ObjectName(text)! }

extension StoreTransport {
    func put(_ object: String, _ body: ObjectBody, _ condition: PutCondition = .always) async -> StoreReply {
        await perform(StoreRequest(.object(name(object), .put(body, condition))))
    }
    func get(_ object: String, _ range: Range<UInt64>? = nil) async -> StoreReply {
        await perform(StoreRequest(.object(name(object), .get(range))))
    }
}

import Bytes
import Logging
import ObjectStore
import Runtime
import S3Store
import StoreSupport
import Testing
import Transfer

@Suite(.serialized) struct S3StoreTests {
    /// The examples that AWS has published for its signature.
    @Test func publishedExamples() {
        let credentials = S3Credentials(
            accessKey: "AKIAIOSFODNN7EXAMPLE", secret: Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        let examples: [(TransferRequest.Method, String, [(String, String)], [(String, String)], String, String)] = [
            (
                .get, "/test.txt", [], [("Range", "bytes=0-9")], empty,
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
            ),
            (
                .get, "/", [("lifecycle", "")], [], empty,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
            ),
            (
                .get, "/", [("prefix", "J"), ("max-keys", "2")], [], empty,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            ),
            (
                .put, "/test%24file.text", [],
                [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            ),
        ]
        for (method, path, query, extra, hash, signature) in examples {
            var headers = extra.map { (name: $0.0, value: $0.1) }
            let target = RequestSigner.Target(
                host: "examplebucket.s3.amazonaws.com", path: path, query: query.map { (name: $0.0, value: $0.1) })
            RequestSigner(region: "us-east-1").sign(
                method, target, &headers, payload: hash, credentials, seconds: 1_369_353_600)
            let authorization = headers.first { $0.name == "Authorization" }?.value ?? ""
            #expect(authorization.hasSuffix("Signature=\(signature)"), "\(path)")
        }
    }

    @Test func objects() async throws {
        for prefix in ["", "some/where"] {
            let fake = FakeS3()
            try await fake.run {
                $0.prefix = prefix
            } _: { store, _ in
                #expect(await store.get("a/b").status == 404)
                #expect(await store.put("a/b", .blocks([block("hello")])).status == 200)
                let head = await store.perform(StoreRequest(.object(name("a/b"), .head)))
                #expect(head.status == 200 && head.size == 5)
                let whole = await store.get("a/b")
                #expect(whole.status == 200 && whole.size == 5 && whole.body?.array == Array("hello".utf8))
                let middle = await store.get("a/b", 1..<3)
                #expect(middle.status == 206 && middle.size == 5 && middle.body?.array == Array("el".utf8))
                #expect(await store.get("a/b", 3..<100).body?.array == Array("lo".utf8))
                #expect(await store.get("a/b", 5..<6).status == 416)
                #expect(await store.put("empty", .blocks([])).status == 200)
                #expect(await store.get("empty").body?.count == 0)
                #expect(await store.perform(StoreRequest(.object(name("a/b"), .delete))).status == 204)
                #expect(await store.perform(StoreRequest(.object(name("a/b"), .head))).status == 404)
            }
            let keys = fake.state.withLock { Array($0.objects.keys) }
            #expect(keys == [prefix.isEmpty ? "empty" : "some/where/empty"])
        }
    }

    @Test func oneOfManyCreatorsWins() async throws {
        for decides in [true, false] {
            let fake = FakeS3()
            try await fake.run {
                $0.createsIfAbsent = decides
            } _: { store, _ in
                #expect(store.capabilities.createIfAbsent == decides)
                #expect(await store.put("a", .blocks([block("1")]), .absent).status == 200)
                #expect(await store.put("a", .blocks([block("2")]), .absent).status == 412)
                #expect(await store.get("a").body?.array == Array("1".utf8))
            }
        }
    }

    @Test func listingsLeaveOthersNamesOut() async throws {
        for escapes in [true, false] {
            let fake = FakeS3()
            fake.state.withLock { state in
                for key in ["p/a", "p/a/b", "p/c d", "p/é", "p/z", "q", "p2/x", "p/c+d"] {
                    state.objects[key] = [1, 2]
                }
                // What XML has no way to say.
                if escapes { for key in ["p/\u{1}", "p/b\u{0}&"] { state.objects[key] = [] } }
                for index in 0..<30 { state.objects["p/foreign \(index)"] = [] }
                state.pageMax = 3
                state.escapes = escapes
            }
            try await fake.run {
                $0.prefix = "p"
            } _: { store, world in
                let upper = ObjectStore(store, world: world, loop: world.loops[0])
                #expect(try await upper.names(prefix: "").map(\.text) == ["a", "a/b", "z"])
                let page = try await upper.list(prefix: "a", after: "a", limit: 1)
                #expect(page.entries == [ListEntry(name: name("a/b"), size: 2)])
                try await store.verify()
            }
        }
    }

    /// Also where the store minds no sums, and knows nothing of them.
    @Test(arguments: [true, false]) func largeBodiesGoInParts(_ hasChecksums: Bool) async throws {
        let fake = FakeS3()
        fake.state.withLock { $0.checksums = hasChecksums }
        let size = 12 << 20 | 77
        let bytes = pattern(size)
        try await fake.run {
            $0.partBytes = S3Options.partBytesMin
        } _: { store, world in
            let file = try world.disk.open("body", [.write, .create])
            try file.write(bytes.bytes, at: 0)
            file.close()
            #expect(await store.put("large", .file(path: "body", size: UInt64(size))).status == 200)
            #expect(await store.put("blocks", .blocks([bytes])).status == 200)
            // A condition holds for one PUT alone.
            #expect(await store.put("once", .file(path: "body", size: UInt64(size)), .absent).status == 200)
            #expect(await store.put("once", .file(path: "body", size: UInt64(size)), .absent).status == 412)
        }
        let (objects, uploads, requests) = fake.state.withLock { ($0.objects, $0.uploads, $0.requests) }
        #expect(objects["large"] == bytes.array && objects["blocks"] == bytes.array && objects["once"] == bytes.array)
        #expect(uploads.isEmpty)
        #expect(
            requests.prefix(5) == [
                "POST uploads", "PUT partNumber,uploadId", "PUT partNumber,uploadId", "PUT partNumber,uploadId",
                "POST uploadId",
            ])
    }

    @Test func whatCanNotBeCompletedIsTakenBack() async throws {
        // Of begin, three parts, completion: the one that fails.
        for failing in 1...4 {
            let fake = FakeS3()
            fake.state.withLock { state in
                state.script = Array(repeating: { _ in nil }, count: failing)
                state.script.append { _ in
                    failing == 4 ? FakeS3.error(200, "InternalError") : FakeS3.error(503, "SlowDown")
                }
            }
            try await fake.run {
                $0.partBytes = S3Options.partBytesMin
            } _: { store, _ in
                let reply = await store.put("large", .blocks([pattern(6 << 20), pattern(6 << 20), pattern(1 << 20)]))
                #expect(reply.status == (failing == 4 ? StoreReply.noAnswer : 503), "\(failing)")
            }
            let (objects, uploads) = fake.state.withLock { ($0.objects, $0.uploads) }
            #expect(objects.isEmpty && uploads.isEmpty, "\(failing)")
        }
    }

    /// Of a completion only its own words count, and then what the store has.
    @Test func anAnswerAloneDoesNotCompleteAnUpload() async throws {
        typealias Script = @Sendable (FakeServer.Request) -> FakeServer.Answer?
        let completed = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
        let cases: [(String, Script, Script)] = [
            ("nothing", { _ in .init(200) }, { _ in nil }),
            ("a page", { _ in .init(200, "<html>welcome</html>") }, { _ in nil }),
            ("cut", { _ in .init(200, String(completed.dropLast(5))) }, { _ in nil }),
            ("no object", { _ in .init(200, completed) }, { _ in nil }),
            ("a short one", { _ in nil }, { _ in .init(200, "short") }),
            ("nobody knows", { _ in nil }, { _ in .init(503) }),
        ]
        for (title, completion, look) in cases {
            let fake = FakeS3()
            fake.state.withLock { state in
                state.script = Array(repeating: { _ in nil }, count: 4) + [completion]
                if title != "no object" { state.script.append(look) }
            }
            try await fake.run {
                $0.partBytes = S3Options.partBytesMin
            } _: { store, _ in
                let reply = await store.put("large", .blocks([pattern(6 << 20), pattern(6 << 20), pattern(1 << 20)]))
                #expect(reply.status == StoreReply.noAnswer, "\(title): \(reply.status)")
                let words = title == "a short one" ? "in parts the store has 5" : "put together"
                #expect(reply.reason.contains(words), "\(title): \(reply.reason)")
            }
            #expect(fake.state.withLock { $0.uploads.isEmpty }, "\(title)")
        }
    }

    @Test func anUploadThatIsGivenUpIsTakenBack() async throws {
        let fake = FakeS3()
        fake.state.withLock { state in
            state.script = [
                { _ in nil },
                { _ in
                    var answer = FakeServer.Answer(200)
                    answer.delayNanoseconds = nil
                    return answer
                },
            ]
        }
        try await fake.run {
            $0.partBytes = S3Options.partBytesMin
        } _: { store, world in
            let task = world.loops[0].task { await store.put("large", .blocks([pattern(6 << 20), pattern(6 << 20)])) }
            for _ in 0..<1_000 where fake.state.withLock({ $0.requests.count }) < 2 {
                await world.loops[0].sleep(nanoseconds: 10_000_000)
            }
            let begun = fake.state.withLock { Array($0.uploads.keys) }
            #expect(begun == ["upload-large"])
            task.cancel()
            #expect(await task.value.status == StoreReply.noAnswer)
        }
        #expect(fake.state.withLock { $0.uploads.isEmpty && $0.requests.last == "DELETE uploadId" })
    }

    /// What stands in front of a store has pages of its own.
    @Test func anObjectIsGoneOnlyWhenTheStoreSaysSo() async throws {
        let kinds: [(StoreRequest.Kind, String)] = [
            (.object(name("a"), .get(nil)), "GET"), (.object(name("a"), .get(0..<1)), "GET range"),
            (.object(name("a"), .delete), "DELETE"), (.object(name("a"), .head), "HEAD"),
            (.list(prefix: "", after: nil, limit: 1), "LIST"),
        ]
        let answers: [(FakeServer.Answer, absent: [String])] = [
            (.init(404, "<html><body>no such backend</body></html>"), []), (.init(404), []),
            (.init(404, "", [("X-Amz-Request-Id", "tx1")]), ["HEAD"]),
            (FakeS3.error(404, "NoSuchKey"), ["GET", "GET range", "DELETE", "HEAD", "LIST"]),
            (FakeS3.error(404, "NoSuchWebsite"), ["HEAD"]),
        ]
        for (kind, title) in kinds {
            for (answer, absent) in answers {
                let fake = FakeS3()
                fake.state.withLock { $0.script = [{ _ in answer }] }
                try await fake.run { store, _ in
                    let reply = await store.perform(StoreRequest(kind))
                    let isAbsent = reply.status == 404
                    #expect(isAbsent == absent.contains(title), "\(title) \(reply.status)")
                    #expect(isAbsent || reply.status == 503, "\(title) \(reply.status)")
                }
            }
        }
    }

    @Test func troubleHasItsOwnWords() async throws {
        let cases: [(FakeServer.Answer, Int, String)] = [
            (FakeS3.error(404, "NoSuchBucket"), 403, "there is no bucket bucket"),
            (FakeS3.error(403, "AccessDenied"), 403, "AccessDenied"),
            (FakeS3.error(403, "QuotaExceeded"), 507, "QuotaExceeded"),
            (FakeS3.error(503, "SlowDown"), 503, "SlowDown"),
            (FakeS3.error(301, "PermanentRedirect", "<Region>eu-west-1</Region>"), 301, "eu-west-1"),
            (FakeS3.error(400, "BadDigest"), 503, "BadDigest"), (FakeS3.error(409, "OperationAborted"), 409, ""),
            (.init(500, "<html>no xml"), 500, "500"),
        ]
        for (answer, status, words) in cases {
            let fake = FakeS3()
            fake.state.withLock { $0.script = [{ _ in answer }] }
            try await fake.run { store, _ in
                let reply = await store.get("a")
                #expect(reply.status == status && reply.reason.contains(words), "\(reply.reason)")
            }
        }
        let fake = FakeS3()
        fake.state.withLock { state in
            state.script = [
                { _ in
                    var answer = FakeS3.error(503, "SlowDown")
                    answer.fields = [("Retry-After", "7")]
                    return answer
                }
            ]
        }
        try await fake.run { store, _ in
            #expect(await store.get("a").retryAfterNanoseconds == 7_000_000_000)
        }
    }

    @Test func aClockThatIsWrongIsPutRight() async throws {
        let fake = FakeS3()
        fake.state.withLock { $0.seconds = 1_369_353_600 }
        try await fake.run { store, _ in
            #expect(await store.put("a", .blocks([block("x")])).status == 200)
            #expect(await store.get("a").status == 200)
        }
        #expect(fake.state.withLock { $0.requests.count } == 3)
    }

    /// Gives another key each time, of which the store knows the last.
    private final class Renewing: S3CredentialSource {
        let description = "the test"
        let fetched = Guarded(0)
        let life: Int64?
        let fake: FakeS3
        let clock: any WorldClock
        init(_ fake: FakeS3, life: Int64?, clock: any WorldClock) {
            (self.fake, self.life, self.clock) = (fake, life, clock)
        }

        func fetch() async throws(StoreProblem) -> S3Credentials {
            let number = fetched.withLock { count in
                count += 1
                return count
            }
            fake.state.withLock { state in
                state.keys = ["TEMP": "SECRET"]
                state.tokens = ["TEMP": "token\(number)"]
            }
            return S3Credentials(
                accessKey: "TEMP", secret: Secret("SECRET"), token: Secret("token\(number)"),
                expires: life.map { clock.wall() / 1_000_000_000 + $0 })
        }
    }

    @Test func credentialsAreRenewed() async throws {
        for (life, requests, fetches) in [(3600 as Int64, 3, 1), (nil, 3, 1), (100, 3, 1), (-5, 3, 3)]
            as [(Int64?, Int, Int)]
        {
            let fake = FakeS3()
            let source = Renewing(fake, life: life, clock: SystemClock())
            try await fake.run(source: source) { store, world in
                for _ in 0..<requests {
                    let reply = await store.get("a")
                    #expect(reply.status == 404, "\(reply.reason)")
                    await world.loops[0].sleep(nanoseconds: 5_000_000)
                }
            }
            #expect(source.fetched.withLock { $0 } == fetches, "\(String(describing: life))")
        }
        // The store ends them sooner than they said.
        let fake = FakeS3()
        let source = Renewing(fake, life: 3600, clock: SystemClock())
        try await fake.run(source: source) { store, _ in
            #expect(await store.get("a").status == 404)
            fake.state.withLock { $0.tokens = ["TEMP": "another"] }
            #expect(await store.get("a").status == 404)
        }
        #expect(source.fetched.withLock { $0 } == 2)
    }

    @Test func whatComesBackIsChecked() async throws {
        let fake = FakeS3()
        try await fake.run { store, _ in
            #expect(await store.put("a", .blocks([block("right")])).status == 200)
            fake.state.withLock { state in
                state.script = [{ _ in .init(200, "wrong", [("x-amz-checksum-crc32c", "AAAAAA==")]) }]
            }
            #expect(await store.get("a").status == StoreReply.noAnswer)
            fake.state.withLock { state in
                state.script = [{ _ in .init(200, "", [("x-amz-checksum-crc32c", "AAAAAA==")]) }]
            }
            #expect(await store.put("b", .blocks([block("x")])).status == StoreReply.noAnswer)
            // A part's worth that was not asked for, and the whole where a part was.
            fake.state.withLock { $0.script = [{ _ in .init(200, "right") }] }
            #expect(await store.get("a", 1..<3).status == StoreReply.noAnswer)
            fake.state.withLock { $0.script = [{ _ in .init(200, "right") }] }
            #expect(await store.get("a", 1..<7).status == StoreReply.noAnswer)
            #expect(await store.get("a").body?.array == Array("right".utf8))
            // Bytes 1 and 2 of 5 were asked for.
            for (text, field, isGood) in [
                ("ig", "bytes 1-2/5", true), ("ig", "bytes 1-2/*", true), ("ig", "bytes 2-3/5", false),
                ("ig", "bytes 0-1/5", false), ("ri", "bytes 0-1/2", false), ("i", "bytes 1-1/5", false),
                ("igh", "bytes 1-3/5", false),
                ("i", "bytes 1-1/2", true), ("i", "bytes 1-2/5", false), ("ig", "bytes 1-2/2", false),
                ("ig", "", false), ("ig", "bytes */5", false), ("ig", "bytes 1-18446744073709551615/*", false),
            ] {
                fake.state.withLock { $0.script = [{ _ in .init(206, text, [("Content-Range", field)]) }] }
                let reply = await store.get("a", 1..<3)
                #expect(reply.status == (isGood ? 206 : StoreReply.noAnswer), "\(text) \(field)")
            }
            fake.state.withLock { $0.script = [{ _ in .init(206, "right", [("Content-Range", "bytes 0-4/5")]) }] }
            #expect(await store.get("a").status == StoreReply.noAnswer)
        }
    }

    @Test func aWrongStoreIsToldAtTheStart() async throws {
        func problem(
            _ key: String = "KEY", _ secret: String = "SECRET", _ change: @escaping @Sendable (inout S3Options) -> Void
        ) async throws -> String {
            let text = Guarded("")
            try await FakeS3().run(key: key, secret: secret, change) { store, _ in
                do throws(StoreProblem) { try await store.verify() } catch {
                    text.withLock { $0 = "\(error)" }
                }
            }
            return text.withLock { $0 }
        }
        #expect(try await problem { _ in } == "")
        let key = try await problem("OTHER") { _ in }
        #expect(key.contains("InvalidAccessKeyId") && key.contains("the test"))
        let secret = try await problem("KEY", "WRONGSECRET") { _ in }
        #expect(secret.contains("SignatureDoesNotMatch") && !secret.contains("WRONGSECRET"))
        let bucket = try await problem { $0.bucket = "other" }
        #expect(bucket.contains("NoSuchBucket") && bucket.contains("make the bucket other"))
        let region = try await problem { $0.region = "eu-west-1" }
        #expect(region.contains("in the region us-east-1"))
        let nobody = try await problem { $0.endpoint = Endpoint("http://127.0.0.1:1")! }
        #expect(nobody.contains("is http://127.0.0.1:1 the right address"), "\(nobody)")
        let tls = try await problem { $0.endpoint = Endpoint("https://127.0.0.1:\($0.endpoint.port!)")! }
        #expect(tls.contains("no answer"), "\(tls)")
    }

    /// Before a volume is opened the store shows that it does what was said of it.
    @Test func aStoreIsProbed() async throws {
        typealias Script = @Sendable (FakeServer.Request) -> FakeServer.Answer?
        func problem(
            conditional: Bool = true, _ answer: @escaping Script = { _ in nil }
        ) async throws -> (words: String, left: Int) {
            let fake = FakeS3()
            fake.state.withLock { $0.script = Array(repeating: answer, count: 100) }
            let text = Guarded("")
            try await fake.run {
                $0.createsIfAbsent = conditional
                $0.prefix = "some/where"
            } _: { store, _ in
                do throws(StoreProblem) { try await store.probe() } catch { text.withLock { $0 = "\(error)" } }
            }
            return (text.withLock { $0 }, fake.state.withLock { $0.objects.count })
        }
        for conditional in [true, false] {
            let (words, left) = try await problem(conditional: conditional)
            #expect(words == "" && left == 0, "\(words)")
        }
        let unknown = try await problem { request in
            request.fields["if-none-match"] == nil ? nil : FakeS3.error(501, "NotImplemented")
        }
        #expect(unknown.words.contains("501") || unknown.words.contains("NotImplemented"))
        #expect(unknown.words.contains("conditional = false"), "\(unknown)")
        // A server that lets them all through.
        let several = try await problem { request in request.method == "PUT" ? .init(200) : nil }
        #expect(several.words.contains("more than one") && several.words.contains("conditional = false"), "\(several)")
        // One winner by its answers, and another one's bytes.
        let first = Guarded(true)
        let others = try await problem { request in
            guard request.method == "PUT" else {
                return request.method == "GET" ? .init(200, "somebody else's") : nil
            }
            let isFirst = first.withLock { first in
                defer { first = false }
                return first
            }
            return isFirst ? .init(200) : FakeS3.error(412, "PreconditionFailed")
        }
        #expect(others.words.contains("other bytes"), "\(others)")
        let reader = try await problem { $0.method == "PUT" ? FakeS3.error(403, "AccessDenied") : nil }
        #expect(reader.words.contains("let this access key write"), "\(reader)")
        let keeper = try await problem { $0.method == "DELETE" ? FakeS3.error(403, "AccessDenied") : nil }
        #expect(keeper.words.contains("delete"), "\(keeper)")
        let full = try await problem { $0.method == "PUT" ? FakeS3.error(403, "QuotaExceeded") : nil }
        #expect(full.words.contains("make room"), "\(full)")
    }

    /// One that is only busy proves nothing, and is asked again.
    @Test func aBusyStoreIsProbedAgain() async throws {
        let fake = FakeS3()
        fake.state.withLock { $0.script = [{ _ in FakeS3.error(503, "SlowDown") }] }
        try await fake.run { store, _ in try await store.probe() }
        #expect(fake.state.withLock { $0.objects.isEmpty && $0.requests.count > 8 })
    }

    @Test func whatIsSentIsCounted() async throws {
        let fake = FakeS3()
        try await fake.run {
            $0.partBytes = S3Options.partBytesMin
            $0.createsIfAbsent = false
        } _: { store, world in
            let upper = ObjectStore(store, world: world, loop: world.loops[0])
            try await upper.put(name("large"), .blocks([pattern(6 << 20), pattern(6 << 20)]))
            let parts = upper.counters
            #expect(parts.posts == 2 && parts.puts == 2 && parts.heads == 1, "\(parts)")
            try await upper.put(name("once"), .blocks([block("x")]), condition: .absent)
            #expect(upper.counters.heads == 2 && upper.counters.puts == 3)
            _ = try await upper.names(prefix: "")
            #expect(upper.counters.lists == 1 && upper.counters.gets == 0)
        }
    }

    /// A key that somebody has put in the place of another one is found when the store refuses the first.
    @Test func aFileWithAnotherKeyIsReadAgain() async throws {
        let fake = FakeS3()
        let key = Guarded(("KEY", "SECRET"))
        let source = FileCredentials(from: "the test") {
            let (key, secret) = key.withLock { $0 }
            return S3Credentials(accessKey: key, secret: Secret(secret))
        }
        try await fake.run(source: source) { store, _ in
            #expect(await store.put("a", .blocks([block("x")])).status == 200)
            fake.state.withLock { $0.keys = ["NEW": "OTHER"] }
            #expect(await store.get("a").status == 403)
            key.withLock { $0 = ("NEW", "OTHER") }
            #expect(await store.get("a").status == 200)
            key.withLock { $0 = ("NEW", "NEWER") }
            fake.state.withLock { $0.keys = ["NEW": "NEWER"] }
            #expect(await store.get("a").status == 200)
        }
    }

    @Test func addressing() async throws {
        let fake = FakeS3()
        let server = fake.server()
        try await server.run { world, port in
            let pool = try TransferPool("test")
            var options = S3Options(bucket: "bucket", endpoint: Endpoint("http://localhost:\(port)")!)!
            options.addressing = .virtual
            let store = S3Store(
                options,
                credentials: FixedCredentials(S3Credentials(accessKey: "KEY", secret: Secret("SECRET")), from: ""),
                reads: pool, writes: pool, world: world, loop: world.loops[0])
            _ = await store.get("a")
            // libcurl takes every name below localhost for this host.
            #expect(
                server.requests.first?.fields["host"] == "bucket.localhost:\(port)"
                    && server.requests.first?.path == "/a")
            pool.stop()
        }
        for bad in ["", "ab", "a/b", "a b", String(repeating: "a", count: 64), "bücket"] {
            #expect(S3Options(bucket: bad, endpoint: Endpoint("http://h")!) == nil)
        }
    }

    @Test func nothingThatIsPrintedHasTheSecret() {
        let credentials = S3Credentials(accessKey: "KEY", secret: Secret("hush"), token: Secret("hush"))
        var text = "\(credentials) \(String(reflecting: credentials))"
        dump(credentials, to: &text)
        #expect(!text.contains("hush"))
    }
}

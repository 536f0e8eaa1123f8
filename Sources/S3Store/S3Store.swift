import Bytes
import Crypto
import ObjectStore
import Runtime
import Transfer

/// Objects in a bucket of S3. Belongs to one loop.
public final class S3Store: StoreTransport, @unchecked Sendable {
    public let capabilities: StoreCapabilities
    public let options: S3Options
    let world: World
    let loop: EventLoop
    let sender: BodySender
    let reads: TransferPool
    let writes: TransferPool
    let source: any S3CredentialSource
    let credentials: Renewal<S3Credentials>
    private let signer: RequestSigner
    /// The store's clock less ours, in seconds, once it has told us that they differ.
    private var skew: Int64 = 0

    /// A whole object that is read at once.
    static let wholeBytesMax = 1 << 30
    /// Pages of names that are none of ours in one listing.
    static let pagesMax = 1_000
    /// Of fields that only a store sends, with each answer.
    private static let idPrefixes = ["x-amz-", "x-goog-", "x-guploader-"]
    private static let hashOfNothing = Hexadecimal.encode(Digest.of(.sha256, []))

    public init(
        _ options: S3Options, credentials source: any S3CredentialSource, reads: TransferPool, writes: TransferPool,
        world: World, loop: EventLoop
    ) {
        self.options = options
        self.world = world
        self.loop = loop
        self.reads = reads
        self.writes = writes
        sender = BodySender(world: world, loop: loop)
        self.source = source
        credentials = Renewal(clock: world.clock, loop: loop) {
            do throws(StoreProblem) {
                let fresh = try await source.fetch()
                return .success((fresh, fresh.expires))
            } catch { return .failure(error) }
        }
        signer = RequestSigner(region: options.region)
        capabilities = StoreCapabilities(
            createIfAbsent: options.createsIfAbsent, adoptsFiles: false, objectBytesMax: S3Options.objectBytesMax,
            listsConsistently: options.listsConsistently)
    }

    public var sent: ObjectStore.Sent? { reads === writes ? reads.sent : reads.sent + writes.sent }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        let limit = request.limitNanoseconds
        switch request.kind {
        case .object(let name, .put(let body, let condition)): return await put(name, body, condition, limit)
        case .object(let name, .get(let range)): return await get(name, range, limit)
        case .object(let name, .head):
            let answer = await send(.head, key(name), limit, over: reads)
            var reply = reply(answer, isHead: true)
            reply.size = answer.headers["Content-Length"].flatMap { UInt64($0) }
            return reply
        case .object(let name, .delete): return reply(await send(.delete, key(name), limit, over: writes))
        case .list(let prefix, let marker, let count): return await list(prefix, marker, count, limit)
        }
    }

    /// The object's name in the bucket.
    func key(_ name: ObjectName) -> String { options.prefix.isEmpty ? name.text : "\(options.prefix)/\(name.text)" }

    // MARK: Requests

    /// What differs from one request to the next beside its target.
    struct Extras {
        var query: [(name: String, value: String)] = []
        var headers: [(name: String, value: String)] = []
        /// Of the body; nil: there is none.
        var hash: String?
        var body: ObjectBody?
        var answerBytesMax = TransferRequest.answerBytesStandard
        var purpose = TransferRequest.Purpose.object
    }

    /// Sends it, signed. What the store refuses for reasons that can be put right (credentials that ended, a clock that
    /// is wrong) is sent a second time.
    func send(
        _ method: TransferRequest.Method, _ key: String, _ limit: UInt64, over pool: TransferPool,
        _ extras: Extras = Extras()
    ) async -> TransferReply {
        var failed = TransferReply()
        let start = loop.now
        for attempt in 0..<2 {
            let spent = loop.now - start
            guard spent < limit else { return failed }
            do throws(StoreProblem) {
                let known = try await credentials.current()
                let request = request(method, key, limit - spent, extras, known)
                do throws(StoreError) {
                    failed = try await transmit(request, extras.body, over: pool)
                } catch {
                    failed = TransferReply()
                    failed.failure = TransferFailure(.broken, "the body: \(error)")
                    return failed
                }
                guard attempt == 0, canMend(failed, known) else { return failed }
            } catch {
                failed = TransferReply()
                failed.failure = TransferFailure(.refused, error.description)
                return failed
            }
        }
        return failed
    }

    private func transmit(
        _ request: TransferRequest, _ body: ObjectBody?, over pool: TransferPool
    ) async throws(StoreError) -> TransferReply {
        guard let body else { return await pool.perform(request) }
        return try await sender.send(request, body, over: pool)
    }

    private func request(
        _ method: TransferRequest.Method, _ key: String, _ limit: UInt64, _ extras: Extras, _ known: S3Credentials
    ) -> TransferRequest {
        let isVirtual = options.addressing == .virtual
        let endpoint = isVirtual ? options.endpoint.below(options.bucket) : options.endpoint
        let path =
            endpoint.path + (isVirtual ? "/" : "/\(options.bucket)\(key.isEmpty ? "" : "/")")
            + Endpoint.escape(key, keepsSlash: true)
        let target = RequestSigner.Target(host: endpoint.authority, path: path, query: extras.query)
        let query = target.queryText
        var request = TransferRequest(method, endpoint.base + path + (query.isEmpty ? "" : "?\(query)"))
        request.headers = extras.headers
        request.limitNanoseconds = limit
        request.answerBytesMax = extras.answerBytesMax
        request.purpose = extras.purpose
        signer.sign(
            method, target, &request.headers, payload: extras.hash ?? Self.hashOfNothing, known,
            seconds: world.clock.wall() / 1_000_000_000 + skew)
        // What servers want of a POST that has no body.
        if extras.body == nil, method == .post { request.body = .blocks([]) }
        return request
    }

    private func canMend(_ reply: TransferReply, _ used: S3Credentials) -> Bool {
        guard reply.status == 400 || reply.status == 403 else { return false }
        switch S3Answer(reply).code {
        case "ExpiredToken", "TokenRefreshRequired":
            credentials.refuse { $0 == used }
            return true
        // Somebody may have put another key in their place.
        case "InvalidAccessKeyId", "SignatureDoesNotMatch":
            guard source.mayChange else { return false }
            credentials.refuse { $0 == used }
            return true
        case "RequestTimeTooSkewed":
            guard let date = reply.headers["Date"].flatMap({ Timestamp.http($0) }) else { return false }
            skew = date - world.clock.wall() / 1_000_000_000
            return true
        default: return false
        }
    }

    // MARK: Answers

    /// The answer in the words of the seam. That an object is not there is believed only of the store itself: whatever
    /// stands in front of it has a 404 of its own. An answer to HEAD has no body that could say so.
    func reply(_ answer: TransferReply, isHead: Bool = false) -> StoreReply {
        var reply = StoreReply(status: answer.status)
        reply.retryAfterNanoseconds = answer.headers.retryAfterNanoseconds
        if let failure = answer.failure {
            reply.reason = failure.reason
            return reply
        }
        guard answer.status >= 300 else { return reply }
        let what = S3Answer(answer)
        reply.reason = what.text(answer.status)
        switch (answer.status, what.code) {
        // An object that is not there is one thing, a bucket that is not there another: nothing was deleted.
        case (404, "NoSuchBucket"):
            reply.status = 403
            reply.reason = "there is no bucket \(options.bucket): \(reply.reason)"
        case (404, "NoSuchUpload"): reply.status = 500
        case (404, "NoSuchKey"): break
        case (404, _):
            guard !(isHead && Self.idPrefixes.contains { answer.headers.has(prefix: $0) }) else { break }
            reply.status = 503
            reply.reason = "a 404 that is not the store's: \(reply.reason)"
        case (400, "RequestTimeout"), (400, "BadDigest"), (400, "XAmzContentSHA256Mismatch"), (400, "IncompleteBody"):
            reply.status = 503
        case (403, "QuotaExceeded"), (413, _): reply.status = 507
        case (307, _): reply.status = 503
        case (301, _), (400, "AuthorizationHeaderMalformed"), (400, "IllegalLocationConstraintException"):
            if let region = what.region {
                reply.reason += "; the bucket is in the region \(region), not in \(options.region)"
            }
        default: break
        }
        return reply
    }

    // MARK: GET

    private func get(_ name: ObjectName, _ range: Range<UInt64>?, _ limit: UInt64) async -> StoreReply {
        var extras = Extras()
        extras.answerBytesMax = Self.wholeBytesMax
        if let range {
            let count = range.upperBound - range.lowerBound
            guard count > 0, count <= Self.wholeBytesMax else { return StoreReply(status: 416) }
            extras.headers.append(("Range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)"))
            extras.answerBytesMax = Int(count)
        } else if options.hasChecksums {
            extras.headers.append(("x-amz-checksum-mode", "ENABLED"))
        }
        let answer = await send(.get, key(name), limit, over: reads, extras)
        let reply = answer.body(of: range, reply(answer))
        guard reply.status == 200, let body = reply.body else { return reply }
        if let text = answer.headers["x-amz-checksum-crc32c"], !text.contains("-"),
            let wanted = Base64.decode(text)
        {
            defer { extendLifetime(body) }
            guard Checksum.of(.crc32c, body.bytes) == wanted else {
                return failed("the body does not have the checksum that the store sent with it")
            }
        }
        return reply
    }

    func failed(_ reason: String) -> StoreReply {
        var reply = StoreReply(status: StoreReply.noAnswer)
        reply.reason = reason
        return reply
    }

    // MARK: LIST

    private func list(_ prefix: String, _ marker: String?, _ count: Int, _ limit: UInt64) async -> StoreReply {
        let lead = options.prefix.isEmpty ? "" : options.prefix + "/"
        var after = marker.map { lead + $0 }
        var reply = StoreReply(status: 200)
        for _ in 0..<Self.pagesMax {
            var extras = Extras()
            extras.purpose = .listing
            extras.query = [
                ("list-type", "2"), ("encoding-type", "url"),
                ("max-keys", String(min(count - reply.entries.count, 1_000))),
                ("prefix", lead + prefix),
            ]
            if let after { extras.query.append(("start-after", after)) }
            let answer = await send(.get, "", limit, over: reads, extras)
            let status = self.reply(answer)
            guard status.status == 200 else { return status }
            guard let page = S3Listing(answer.bodyBytes) else { return failed("the store's listing is none") }
            for entry in page.entries {
                after = entry.key
                // Other names under our prefix are others' objects.
                guard entry.key.hasPrefix(lead), let name = ObjectName(String(entry.key.dropFirst(lead.count))) else {
                    continue
                }
                reply.entries.append(ListEntry(name: name, size: entry.size))
            }
            reply.truncated = page.isTruncated
            guard page.isTruncated, reply.entries.count < count, !page.entries.isEmpty else { return reply }
        }
        return failed("too many names under \(lead)\(prefix) are none of ours")
    }
}

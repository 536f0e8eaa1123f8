import Bytes
import Crypto
import Logging
import ObjectStore
import Runtime
import Transfer

/// Objects in containers of OpenStack Swift. Belongs to one loop.
///
/// Swift checks the condition of a PUT when the request begins, and lets the newer of two PUTs win: it tells a name that
/// is taken from one that is free, but does not decide between two that come at once. Listings lag behind.
public final class SwiftStore: StoreTransport, @unchecked Sendable {
    public let capabilities = StoreCapabilities(
        createIfAbsent: false, adoptsFiles: false, objectBytesMax: SwiftStore.objectBytesMax, listsConsistently: false)
    /// What one PUT may carry where nobody has changed it.
    public static let objectBytesMax: UInt64 = 5 << 30

    package let options: SwiftOptions
    let map: ContainerMap
    let loop: EventLoop
    let reads: TransferPool
    let writes: TransferPool
    let sessions: Renewal<SwiftSession>
    private let sender: BodySender
    let random: any RandomSource
    /// What was not there before: that may be taken back.
    var made: (containers: Set<String>, layout: Bool) = ([], false)

    static let wholeBytesMax = 1 << 30

    public var sent: ObjectStore.Sent? { reads === writes ? reads.sent : reads.sent + writes.sent }

    public init(
        _ options: SwiftOptions, reads: TransferPool, writes: TransferPool, world: World, loop: EventLoop
    ) {
        self.options = options
        self.loop = loop
        self.reads = reads
        self.writes = writes
        map = ContainerMap(options.containers)
        sender = BodySender(world: world, loop: loop)
        random = world.random
        let way = SwiftSessions(options, over: writes, clock: world.clock)
        sessions = Renewal(clock: world.clock, loop: loop) {
            do throws(StoreProblem) {
                let fresh = try await way.fetch()
                return .success((fresh, fresh.expires))
            } catch { return .failure(error) }
        }
    }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        let limit = request.limitNanoseconds
        switch request.kind {
        case .object(let name, .put(let body, let condition)): return await put(name, body, condition, limit)
        case .object(let name, .get(let range)): return await get(name, range, limit)
        case .object(let name, .head):
            var extras = Extras()
            extras.headers = [Self.newest]
            let answer = await send(.head, path(name), limit, over: reads, extras)
            var reply = reply(answer)
            reply.size = answer.headers["Content-Length"].flatMap { UInt64($0) }
            return reply
        case .object(let name, .delete): return reply(await send(.delete, path(name), limit, over: writes))
        case .list(let prefix, let marker, let count): return await list(prefix, marker, count, limit)
        }
    }

    func key(_ name: ObjectName) -> String { options.prefix.isEmpty ? name.text : "\(options.prefix)/\(name.text)" }

    private func path(_ name: ObjectName) -> String {
        "/\(map.container(of: name.text))/\(Endpoint.escape(key(name), keepsSlash: true))"
    }

    // MARK: Requests

    struct Extras {
        var headers: [(name: String, value: String)] = []
        var body: ObjectBody?
        var answerBytesMax = TransferRequest.answerBytesStandard
        var purpose = TransferRequest.Purpose.object
    }

    /// All copies are asked for the newest: one of them may be of an earlier time, or say that there is none.
    private static let newest = (name: "X-Newest", value: "true")

    /// Sends it with a token, and a second time with a new one when the store no longer takes the first.
    func send(
        _ method: TransferRequest.Method, _ path: String, _ limit: UInt64, over pool: TransferPool,
        _ extras: Extras = Extras()
    ) async -> TransferReply {
        var reply = TransferReply()
        let start = loop.now
        for attempt in 0..<2 {
            let spent = loop.now - start
            guard spent < limit else { return reply }
            do throws(StoreProblem) {
                let session = try await sessions.current()
                var request = TransferRequest(method, session.storage.description + path)
                request.headers = extras.headers + [("X-Auth-Token", session.token.revealed)]
                request.limitNanoseconds = limit - spent
                request.answerBytesMax = extras.answerBytesMax
                request.purpose = extras.purpose
                do throws(StoreError) {
                    if let body = extras.body {
                        reply = try await sender.send(request, body, over: pool)
                    } else {
                        reply = await pool.perform(request)
                    }
                } catch {
                    reply = TransferReply()
                    reply.failure = TransferFailure(.broken, "the body: \(error)")
                    return reply
                }
                guard attempt == 0, reply.status == 401 else { return reply }
                sessions.refuse { $0.token == session.token }
            } catch {
                reply = TransferReply()
                reply.failure = TransferFailure(.refused, error.description)
                return reply
            }
        }
        return reply
    }

    // MARK: Answers

    /// That something is not there is believed only of the store itself, which gives each answer a number: whatever
    /// stands in front of it has a 404 of its own.
    static func isAbsent(_ answer: TransferReply) -> Bool {
        answer.status == 404 && answer.headers["X-Trans-Id"] != nil
    }

    func reply(_ answer: TransferReply) -> StoreReply {
        var reply = StoreReply(status: answer.status)
        reply.retryAfterNanoseconds = answer.headers.retryAfterNanoseconds
        if let failure = answer.failure {
            reply.reason = failure.reason
            return reply
        }
        guard answer.status >= 300 else { return reply }
        reply.reason = "status \(answer.status)"
        switch answer.status {
        case 404 where !Self.isAbsent(answer):
            reply.status = 503
            reply.reason = "a 404 that is not the store's"
        // A quota of the account or of the container.
        case 413: reply.status = 507
        // The body did not arrive as it was sent.
        case 422, 499: reply.status = 503
        case 498: reply.status = 429
        default: break
        }
        return reply
    }

    func failed(_ reason: String) -> StoreReply {
        var reply = StoreReply(status: StoreReply.noAnswer)
        reply.reason = reason
        return reply
    }

    // MARK: PUT

    private func put(
        _ name: ObjectName, _ body: ObjectBody, _ condition: PutCondition, _ limit: UInt64
    ) async -> StoreReply {
        let start = loop.now
        var extras = Extras()
        extras.body = body
        extras.headers.append(("Content-Type", "application/octet-stream"))
        let tag: String
        do throws(StoreError) {
            let sums = try await sender.digest(body, [.md5])
            tag = Hexadecimal.encode(sums[.md5] ?? [])
        } catch { return failed("\(name): the body: \(error)") }
        extras.headers.append(("ETag", tag))
        if condition == .absent { extras.headers.append(("If-None-Match", "*")) }
        var answer = await send(.put, path(name), limit, over: writes, extras)
        if Self.isAbsent(answer) {
            let container = map.container(of: name.text)
            let status = await make(container, limit)
            guard status.status / 100 == 2 else { return status }
            let spent = loop.now - start
            guard spent < limit else { return failed("making the container took all the time") }
            answer = await send(.put, path(name), limit - spent, over: writes, extras)
        }
        var reply = reply(answer)
        // There is no such thing as an object that can not be found to be written.
        if reply.status == 404 { reply.status = 503 }
        if reply.status == 201, let stored = answer.headers["ETag"], stored.filter({ $0 != "\"" }).lowercased() != tag {
            return failed("the store has stored other bytes than were sent")
        }
        return reply
    }

    /// Where a container is copied to; the address comes first.
    func syncFields(_ container: String) -> [(name: String, value: String)] {
        guard let to = options.containers.syncTo, let key = options.containers.syncKey else { return [] }
        return [("X-Container-Sync-To", "\(to)/\(container)"), ("X-Container-Sync-Key", key.revealed)]
    }

    /// A container that is there is left as it is.
    func make(_ container: String, _ limit: UInt64) async -> StoreReply {
        var extras = Extras()
        extras.body = .blocks([])
        if let policy = options.containers.policy { extras.headers.append(("X-Storage-Policy", policy)) }
        extras.headers += syncFields(container)
        let answer = await send(.put, "/\(container)", limit, over: writes, extras)
        // 202: it is there already.
        if answer.status == 201 { made.containers.insert(container) }
        var reply = reply(answer)
        if reply.status / 100 != 2, answer.failure == nil {
            let said = String(decoding: answer.bodyBytes.prefix(200), as: UTF8.self)
            reply.reason = "making the container \(container): status \(answer.status) \(said)"
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
        } else {
            // Those that tell what there is are read whole.
            extras.headers.append(Self.newest)
        }
        let answer = await send(.get, path(name), limit, over: reads, extras)
        return answer.body(of: range, reply(answer))
    }
}

import Bytes
import Runtime

/// Immutable named objects: what the engine keeps everything in.
///
/// This is the part that all stores share, above the seam: limits, deadlines, retries, and what a retry may conclude.
/// It belongs to one loop: all calls are made, and come back, there.
public final class ObjectStore: @unchecked Sendable {
    public struct Options: Sendable {
        /// An operation, retries included, ends after this long.
        public var deadlineNanoseconds: UInt64 = 60_000_000_000
        public var attemptsMax = 20
        public var backoffFirstNanoseconds: UInt64 = 50_000_000
        public var backoffMaxNanoseconds: UInt64 = 5_000_000_000
        /// Requests at once; reads and writes do not wait for each other.
        public var readsMax = 64
        public var writesMax = 16
        /// Names that one request of a listing asks for.
        public var listPage = 1_000

        public init() {}
    }

    public struct Counters: Sendable, Equatable {
        public var puts: UInt64 = 0
        public var gets: UInt64 = 0
        public var heads: UInt64 = 0
        public var deletes: UInt64 = 0
        public var lists: UInt64 = 0
        public var bytesPut: UInt64 = 0
        public var bytesGot: UInt64 = 0
        public var retries: UInt64 = 0
        public var requests: UInt64 { puts + gets + heads + deletes + lists }
    }

    public let capabilities: StoreCapabilities
    public private(set) var counters = Counters()
    private let transport: any StoreTransport
    private let world: World
    private let loop: EventLoop
    private let options: Options
    private var reads: Turnstile
    private var writes: Turnstile
    private var isClosed = false

    public init(_ transport: any StoreTransport, world: World, loop: EventLoop, options: Options = Options()) {
        self.transport = transport
        self.world = world
        self.loop = loop
        self.options = options
        capabilities = transport.capabilities
        reads = Turnstile(places: options.readsMax)
        writes = Turnstile(places: options.writesMax)
    }

    // MARK: Operations

    /// Stores an object. With `.absent` exactly one of all that try ever succeeds; `.exists` tells that somebody
    /// else's object has the name.
    public func put(
        _ name: ObjectName, _ body: ObjectBody, condition: PutCondition = .always
    ) async throws(StoreError) {
        guard body.size <= capabilities.objectBytesMax else { throw .badRange }
        precondition(condition == .always || capabilities.createIfAbsent, "this store can not create if absent")
        counters.bytesPut += body.size
        // After a try without an answer, or an answer that may hide a success, "exists" may be about our own object.
        var mayBeOurs = false
        let reply = try await perform(StoreRequest(.object(name, .put(body, condition))), on: \.writes) { reply in
            self.counters.puts += 1
            switch reply.status {
            case 200, 201, 204: return .done
            case 412 where condition == .absent: return .done
            // Another conditional PUT is being decided.
            case 409 where condition == .absent: return .retry
            // The store took it as older than what it has: nobody will ever read it.
            case 202: return .failed(.unavailable("\(name): the store answered 202, which stores nothing"))
            default:
                mayBeOurs = mayBeOurs || reply.status == StoreReply.noAnswer || reply.status >= 500
                return Self.verdict(reply, name)
            }
        }
        guard reply.status == 412 else { return }
        guard mayBeOurs, case .blocks(let blocks) = body else { throw .exists }
        let stored = try await get(name)
        guard Self.holds(stored, blocks) else { throw .exists }
    }

    private static func holds(_ stored: Block, _ blocks: [Block]) -> Bool {
        var place = 0
        for block in blocks {
            guard stored.count - place >= block.count else { return false }
            let part = UnsafeRawBufferPointer(rebasing: stored.bytes[place..<(place + block.count)])
            guard part.elementsEqual(block.bytes) else { return false }
            place += block.count
        }
        return place == stored.count
    }

    /// The whole object, or exactly the bytes of `range`.
    public func get(_ name: ObjectName, range: Range<UInt64>? = nil) async throws(StoreError) -> Block {
        if let range, range.isEmpty { return Block(capacity: 0) }
        let reply = try await perform(StoreRequest(.object(name, .get(range))), on: \.reads) { reply in
            self.counters.gets += 1
            guard reply.status == 200 || reply.status == 206 else { return Self.verdict(reply, name) }
            // A body that is cut short is an answer that got lost on the way.
            guard let body = reply.body else { return .retry }
            if let range, UInt64(body.count) != range.upperBound - range.lowerBound {
                return reply.size.map { $0 < range.upperBound } ?? false ? .failed(.badRange) : .retry
            }
            if range == nil, let size = reply.size, size != UInt64(body.count) { return .retry }
            return .done
        }
        guard let body = reply.body else { throw .corrupt("\(name): an answer without a body") }
        counters.bytesGot += UInt64(body.count)
        return body
    }

    /// The object's size, nil when there is none.
    public func head(_ name: ObjectName) async throws(StoreError) -> UInt64? {
        do throws(StoreError) {
            let reply = try await perform(StoreRequest(.object(name, .head)), on: \.reads) { reply in
                self.counters.heads += 1
                return reply.status == 200 || reply.status == 204 ? .done : Self.verdict(reply, name)
            }
            guard let size = reply.size else { throw .corrupt("\(name): an answer without a size") }
            return size
        } catch {
            if error == .notFound { return nil }
            throw error
        }
    }

    /// Afterwards there is no such object; that there was none before is no error.
    public func delete(_ name: ObjectName) async throws(StoreError) {
        _ = try await perform(StoreRequest(.object(name, .delete)), on: \.writes) { reply in
            self.counters.deletes += 1
            switch reply.status {
            case 200, 202, 204, 404: return .done
            default: return Self.verdict(reply, name)
            }
        }
    }

    /// At most `limit` objects whose names begin with `prefix` and come after `marker`, in byte order.
    public func list(
        prefix: String, after marker: String? = nil, limit: Int
    ) async throws(StoreError) -> (entries: [ListEntry], isTruncated: Bool) {
        let request = StoreRequest(.list(prefix: prefix, after: marker, limit: limit))
        let reply = try await perform(request, on: \.reads) { reply in
            self.counters.lists += 1
            return reply.status == 200 || reply.status == 204 ? .done : Self.verdict(reply, nil)
        }
        return (reply.entries, reply.truncated)
    }

    /// All names with a prefix, page by page.
    public func names(prefix: String) async throws(StoreError) -> [ObjectName] {
        var names: [ObjectName] = []
        while true {
            let page = try await list(prefix: prefix, after: names.last?.text, limit: options.listPage)
            names.append(contentsOf: page.entries.map(\.name))
            guard page.isTruncated, !page.entries.isEmpty else { return names }
        }
    }

    /// Operations that wait, or come later, end with `.canceled`.
    public func close() { isClosed = true }

    // MARK: Retries

    private enum Verdict {
        case done
        case retry
        case failed(StoreError)
    }

    private static func verdict(_ reply: StoreReply, _ name: ObjectName?) -> Verdict {
        let what = name?.text ?? "listing"
        switch reply.status {
        case StoreReply.canceled: return .failed(.canceled)
        case 404: return .failed(.notFound)
        case 412: return .failed(.exists)
        case 416: return .failed(.badRange)
        case 401, 403: return .failed(.denied("\(what): \(reply.reason)"))
        case 507: return .failed(.noSpace)
        case StoreReply.noAnswer, 408, 425, 429, 500, 502, 503, 504: return .retry
        default: return .failed(.unavailable("\(what): the store answered \(reply.status) \(reply.reason)"))
        }
    }

    private func perform(
        _ request: StoreRequest, on turnstile: ReferenceWritableKeyPath<ObjectStore, Turnstile>,
        _ judge: (StoreReply) -> Verdict
    ) async throws(StoreError) -> StoreReply {
        await enter(turnstile)
        defer { self[keyPath: turnstile].leave() }
        let start = loop.now
        var backoff = options.backoffFirstNanoseconds
        var attempt = 1
        while true {
            if isClosed { throw .canceled }
            let reply = await transport.perform(request)
            switch judge(reply) {
            case .done: return reply
            case .failed(let error): throw error
            case .retry: break
            }
            // Full jitter: callers that failed together do not come back together.
            var pause = world.random.next() % backoff
            if let asked = reply.retryAfterNanoseconds { pause = max(pause, min(asked, options.deadlineNanoseconds)) }
            backoff = min(backoff * 2, options.backoffMaxNanoseconds)
            attempt += 1
            guard attempt <= options.attemptsMax, loop.now - start + pause < options.deadlineNanoseconds else {
                throw .unavailable("the store answered \(reply.status) \(reply.reason) after \(attempt - 1) attempts")
            }
            counters.retries += 1
            await loop.sleep(nanoseconds: pause)
        }
    }

    private func enter(_ turnstile: ReferenceWritableKeyPath<ObjectStore, Turnstile>) async {
        if self[keyPath: turnstile].enter() { return }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            self[keyPath: turnstile].wait(continuation)
        }
    }
}

/// Lets a number of callers in at once; the others wait in order.
struct Turnstile {
    private var free: Int
    private var waiting: [UnsafeContinuation<Void, Never>] = []
    private var next = 0

    init(places: Int) { free = places }

    mutating func enter() -> Bool {
        guard free > 0 else { return false }
        free -= 1
        return true
    }

    mutating func wait(_ continuation: UnsafeContinuation<Void, Never>) { waiting.append(continuation) }

    /// The place goes to the one who has waited longest.
    mutating func leave() {
        guard next < waiting.count else {
            free += 1
            return
        }
        let continuation = waiting[next]
        next += 1
        if next > 64, next * 2 > waiting.count {
            waiting.removeFirst(next)
            next = 0
        }
        continuation.resume()
    }
}

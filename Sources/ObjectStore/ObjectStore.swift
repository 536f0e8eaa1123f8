import Bytes
import Glibc
import Runtime

/// Immutable named objects: what the engine keeps everything in.
///
/// This is the part that all stores share, above the seam: limits, deadlines, retries, and what a retry may conclude.
/// It belongs to one loop: all calls are made, and come back, there.
public final class ObjectStore: @unchecked Sendable {
    public struct Options: Sendable {
        /// An operation, retries included, ends after this long.
        public var deadlineNanoseconds: UInt64 = 60_000_000_000
        /// One attempt ends after this long; its answer, should it come, is no longer heard.
        public var attemptNanoseconds: UInt64 = 30_000_000_000
        public var attemptsMax = 20
        public var backoffFirstNanoseconds: UInt64 = 50_000_000
        public var backoffMaxNanoseconds: UInt64 = 5_000_000_000
        /// Requests at once, and bytes of their bodies; reads and writes do not wait for each other.
        public var readsMax = 64
        public var writesMax = 16
        /// Deletes at once: nobody waits for them, so they take no place of what somebody waits for.
        public var deletesMax = 4
        /// Beside them, of an owner that looks, or says, whether it is one: these wait behind nobody's data.
        public var urgentMax = 10
        public var readBytesMax: UInt64 = 256 << 20
        public var writeBytesMax: UInt64 = 512 << 20
        /// What a read of a whole object counts as, whose size nobody knows yet.
        public var wholeReadBytes: UInt64 = 8 << 20
        /// Attempts that were given up and still run below the seam; at the bound nothing more is begun.
        public var abandonedMax = 64
        /// The same of urgent ones.
        public var abandonedUrgentMax = 32
        /// Names that one request of a listing asks for.
        public var listPage = 1_000
        /// Bodies beyond `promptBytes` get more time, for attempt and deadline: as if they moved this fast.
        public var bytesPerSecondMin: UInt64 = 1 << 20
        public var promptBytes: UInt64 = 8 << 20
        /// Reads, of a hundred, that may be asked for a second time when the answer is late; 0: none.
        public var hedgedOfHundred: UInt64 = 0
        /// A store that asks for silence (Retry-After) gets as much of it, and no more than this.
        public var silenceMaxNanoseconds: UInt64 = 30_000_000_000

        public init() {}
    }

    @dynamicMemberLookup public struct Counters: Sendable, Equatable {
        public var verbs = Sent()
        public var bytesPut: UInt64 = 0
        public var bytesGot: UInt64 = 0
        public var retries: UInt64 = 0
        public var timeouts: UInt64 = 0
        /// Reads that were asked for a second time, and those whose second answer was the first.
        public var hedges: UInt64 = 0
        public var hedgesWon: UInt64 = 0

        public init() {}

        public subscript(dynamicMember verb: WritableKeyPath<Sent, UInt64>) -> UInt64 {
            get { verbs[keyPath: verb] }
            set { verbs[keyPath: verb] = newValue }
        }

        public var requests: UInt64 { verbs.all }

        /// The same with requests as they were sent: one operation may take several, or none.
        func sent(_ sent: Sent?) -> Counters {
            var counters = self
            if let sent { counters.verbs = sent }
            return counters
        }
    }

    public let capabilities: StoreCapabilities
    /// Operations. What they are made of, where that is not the same, the transport counts.
    private var operations = Counters() {
        didSet { published.withLock { [operations] in $0 = operations } }
    }
    private let published = Guarded(Counters())
    public var counters: Counters { operations.sent(transport.sent) }
    /// The counters, from any thread.
    public var currentCounters: Counters { published.withLock { $0 }.sent(transport.sent) }
    private let transport: any StoreTransport
    private let world: World
    private let loop: EventLoop
    private let options: Options
    package private(set) var reads: Admission
    package private(set) var writes: Admission
    private var deletes: Admission
    /// Until then the store has asked for silence.
    private var quietUntil: UInt64 = 0
    package private(set) var urgent: Admission
    private var isClosed = false
    /// What waits for an answer or for time to pass, so that `close` can end it.
    private var waits: [UInt64: Wait] = [:]
    private var nextWait: UInt64 = 0
    private var abandoned = 0
    private var abandonedUrgent = 0
    private var latencies = ReadLatencies()

    public init(_ transport: any StoreTransport, world: World, loop: EventLoop, options: Options = Options()) {
        self.transport = transport
        self.world = world
        self.loop = loop
        self.options = options
        capabilities = transport.capabilities
        reads = Admission(places: options.readsMax, bytes: options.readBytesMax)
        writes = Admission(places: options.writesMax, bytes: options.writeBytesMax)
        deletes = Admission(places: options.deletesMax, bytes: options.writeBytesMax)
        urgent = Admission(places: options.urgentMax, bytes: options.writeBytesMax)
    }

    /// PUTs at once; who has many large ones leaves some for others.
    public var writesMax: Int { options.writesMax }

    // MARK: Operations

    /// Stores an object. With `.absent` exactly one of all that try ever succeeds; `.exists` tells that somebody
    /// else's object has the name. A file that the store adopted is gone afterwards; after a failure it is still there.
    /// `mayBeOurs`: an earlier call with the same bytes failed, and what it sent may have arrived since.
    /// `isUrgent`: it waits behind nobody's data.
    public func put(
        _ name: ObjectName, _ body: ObjectBody, condition: PutCondition = .always, mayBeOurs: Bool = false,
        isUrgent: Bool = false
    ) async throws(StoreError) {
        guard body.size <= capabilities.objectBytesMax else { throw .badRange }
        // After a try without an answer, or an answer that may hide a success, "exists" may be about our own object.
        var mayBeOurs = mayBeOurs
        let request = StoreRequest(.object(name, .put(body, condition)))
        let reply = try await perform(request, on: \.writes, bytes: body.size, isUrgent: isUrgent) { reply in
            switch reply.status {
            case 200, 201, 204: return .done
            case 412 where condition == .absent: return .done
            // Another conditional PUT is being decided.
            case 409 where condition == .absent: return .retry
            // The store took it as older than what it has: nobody will ever read it.
            case 202: return .failed(.unavailable("\(name): the store answered 202, which stores nothing"))
            case StoreReply.noAnswer, 408, 500...:
                mayBeOurs = true
                // What is left of an attempt may still draw from the stream: it can not begin again.
                if reply.isTimeout, case .stream = body { return .failed(.unavailable("\(name): \(reply.reason)")) }
                return Self.verdict(reply, name)
            default: return Self.verdict(reply, name)
            }
        }
        if reply.status == 412 {
            guard mayBeOurs else { throw .exists }
            guard try await holds(name, body, isUrgent: isUrgent) else { throw .exists }
        }
        operations.bytesPut += body.size
        if capabilities.adoptsFiles, case .file(let path, _) = body {
            let disk = world.disk
            // The object has a name of its own now; that this one could not be removed harms nobody.
            await world.blocking.run(on: loop) { try? disk.remove(path) }
        }
    }

    /// Whether the stored object is, byte for byte, what we sent.
    private func holds(_ name: ObjectName, _ body: ObjectBody, isUrgent: Bool) async throws(StoreError) -> Bool {
        do throws(StoreError) {
            guard try await head(name, isUrgent: isUrgent) == body.size else { return false }
            var pieces = BodyPieces(body, world: world, loop: loop)
            var place: UInt64 = 0
            while let piece = try await pieces.next() {
                let stored = try await get(
                    name, range: place..<(place + UInt64(piece.count)), isUrgent: isUrgent)
                guard stored.count == piece.count, memcmp(stored.base, piece.base, piece.count) == 0 else {
                    return false
                }
                extendLifetime(stored)
                extendLifetime(piece)
                place += UInt64(piece.count)
            }
            return true
        } catch {
            // Somebody deleted it: it was not ours to begin with, or no longer is.
            if error == .notFound { return false }
            throw error
        }
    }

    private static let answersInARow: UInt64 = 64

    /// The whole object, or exactly the bytes of `range`.
    public func get(
        _ name: ObjectName, range: Range<UInt64>? = nil, isUrgent: Bool = false
    ) async throws(StoreError) -> Block {
        if let range, range.isEmpty { return Block(capacity: 0) }
        let expected = range.map { $0.upperBound - $0.lowerBound }
        let request = StoreRequest(.object(name, .get(range)))
        if let expected, !isClosed, let body = transport.now(request)?.body, UInt64(body.count) == expected {
            count(request)
            operations.bytesGot += expected
            // Nothing was waited for: others of the loop have their turn all the same.
            if operations.gets % Self.answersInARow == 0 { await Task.yield() }
            return body
        }
        let bytes = expected ?? options.wholeReadBytes
        let reply = try await perform(request, on: \.reads, bytes: bytes, isUrgent: isUrgent) { reply in
            guard reply.status == 200 || reply.status == 206 else { return Self.verdict(reply, name) }
            // A body that is cut short is an answer that got lost on the way.
            guard let body = reply.body else { return .retry }
            guard let range, let expected else {
                return (reply.size ?? UInt64(body.count)) == UInt64(body.count) ? .done : .retry
            }
            if UInt64(body.count) == expected { return .done }
            return reply.size.map { $0 < range.upperBound } ?? false ? .failed(.badRange) : .retry
        }
        guard let body = reply.body else { throw .corrupt("\(name): an answer without a body") }
        operations.bytesGot += UInt64(body.count)
        return body
    }

    /// The object's size, nil when there is none. `limit`: one attempt, for so long, and nothing is tried again.
    public func head(
        _ name: ObjectName, isUrgent: Bool = false, within limit: UInt64? = nil
    ) async throws(StoreError) -> UInt64? {
        do throws(StoreError) {
            let request = StoreRequest(.object(name, .head))
            let reply = try await perform(request, on: \.reads, bytes: 0, isUrgent: isUrgent, within: limit) { reply in
                reply.status == 200 || reply.status == 204 ? .done : Self.verdict(reply, name)
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
        _ = try await perform(StoreRequest(.object(name, .delete)), on: \.deletes, bytes: 0) { reply in
            switch reply.status {
            case 200, 202, 204, 404: return .done
            default: return Self.verdict(reply, name)
            }
        }
    }

    /// At most `limit` objects whose names begin with `prefix` and come after `marker`, in byte order.
    public func list(
        prefix: String, after marker: String? = nil, limit: Int, isUrgent: Bool = false, within time: UInt64? = nil
    ) async throws(StoreError) -> (entries: [ListEntry], isTruncated: Bool) {
        precondition(limit > 0, "a listing of nothing")
        let request = StoreRequest(.list(prefix: prefix, after: marker, limit: limit))
        let reply = try await perform(request, on: \.reads, bytes: 0, isUrgent: isUrgent, within: time) { reply in
            reply.status == 200 || reply.status == 204 ? .done : Self.verdict(reply, nil)
        }
        // Whoever pages by such an answer would turn in circles or jump over names.
        var last = marker
        for entry in reply.entries {
            let text = entry.name.text
            guard text.hasPrefix(prefix), last.map({ $0 < text }) ?? true else {
                throw .corrupt("a listing of \"\(prefix)\" has \(text) after \(last ?? "its start")")
            }
            last = text
        }
        return (reply.entries, reply.truncated)
    }

    /// All names with a prefix, page by page.
    public func names(
        prefix: String, isUrgent: Bool = false, within time: UInt64? = nil
    ) async throws(StoreError) -> [ObjectName] {
        var names: [ObjectName] = []
        while true {
            let page = try await list(
                prefix: prefix, after: names.last?.text, limit: options.listPage, isUrgent: isUrgent, within: time)
            names.append(contentsOf: page.entries.map(\.name))
            guard page.isTruncated, !page.entries.isEmpty else { return names }
        }
    }

    /// Operations that are under way, wait, or come later, end with `.canceled`. What has been sent may be applied.
    public func close() {
        isClosed = true
        let waiting = reads.dismissAll() + writes.dismissAll() + deletes.dismissAll() + urgent.dismissAll()
        for continuation in waiting { continuation.resume(returning: .closing) }
        for key in waits.keys.sorted() { waits.removeValue(forKey: key)?.end(StoreReply(status: StoreReply.canceled)) }
    }

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
        _ request: StoreRequest, on ordinary: ReferenceWritableKeyPath<ObjectStore, Admission>, bytes: UInt64,
        isUrgent: Bool = false, within limit: UInt64? = nil, _ judge: (StoreReply) -> Verdict
    ) async throws(StoreError) -> StoreReply {
        let admission: ReferenceWritableKeyPath<ObjectStore, Admission> = isUrgent ? \.urgent : ordinary
        let start = loop.now
        let grace = Self.grace(bytes, options)
        let deadline = limit ?? options.deadlineNanoseconds + grace
        let attemptsMax = limit == nil ? options.attemptsMax : 1
        try await enter(admission, bytes, within: deadline)
        defer { admit(self[keyPath: admission].leave(bytes)) }
        // A look comes seldom, and can not be put off.
        if limit == nil { try await keepQuiet(until: start + min(deadline, .max - start)) }
        var backoff = options.backoffFirstNanoseconds
        var attempt = 1
        while true {
            if isClosed { throw .canceled }
            let left = deadline - min(loop.now - start, deadline)
            let time = min(options.attemptNanoseconds + grace, left)
            let reply = try await send(request, within: time, isUrgent: isUrgent)
            if isClosed { throw .canceled }
            switch judge(reply) {
            case .done: return reply
            case .failed(let error): throw error
            case .retry: break
            }
            // Full jitter: callers that failed together do not come back together.
            var pause = world.random.next() % max(backoff, 1)
            if let asked = reply.retryAfterNanoseconds {
                quietUntil = max(quietUntil, loop.now + min(asked, options.silenceMaxNanoseconds))
            }
            pause = max(pause, quietUntil - min(loop.now, quietUntil))
            backoff = min(backoff * 2, options.backoffMaxNanoseconds)
            guard attempt < attemptsMax, loop.now - start + pause < deadline else {
                throw .unavailable("the store answered \(reply.status) \(reply.reason) after \(attempt) attempts")
            }
            attempt += 1
            operations.retries += 1
            _ = await wait(atMost: pause, then: StoreReply(status: StoreReply.noAnswer)) { _ in }
            // Others may have been told to be quiet meanwhile.
            if limit == nil { try await keepQuiet(until: start + min(deadline, .max - start)) }
        }
    }

    /// What a large body may take beyond the time of a small one.
    private static func grace(_ bytes: UInt64, _ options: Options) -> UInt64 {
        guard bytes > options.promptBytes, options.bytesPerSecondMin > 0 else { return 0 }
        return (bytes - options.promptBytes) / options.bytesPerSecondMin * 1_000_000_000
    }

    /// Waits for a place; the time that this takes is the caller's.
    private func enter(
        _ admission: ReferenceWritableKeyPath<ObjectStore, Admission>, _ bytes: UInt64, within limit: UInt64
    ) async throws(StoreError) {
        if isClosed { throw .canceled }
        if self[keyPath: admission].enter(bytes) { return }
        guard !self[keyPath: admission].isFull else { throw .unavailable("too many requests wait for the store") }
        var timer: LoopTimer?
        let answer = await withUnsafeContinuation { (continuation: Admission.Entrance) in
            let number = self[keyPath: admission].wait(bytes, continuation)
            timer = loop.schedule(after: limit) {
                let (late, entering) = self[keyPath: admission].giveUp(number)
                late?.resume(returning: .late)
                self.admit(entering)
            }
        }
        if let timer { loop.cancel(timer) }
        switch answer {
        case .enter: return
        case .late: throw .unavailable("other requests to the store took all the time")
        case .closing: throw .canceled
        }
    }

    private func admit(_ entering: [Admission.Entrance]) {
        for continuation in entering { continuation.resume(returning: .enter) }
    }

    /// A store that has asked for silence is asked nothing, by nobody.
    private func keepQuiet(until end: UInt64) async throws(StoreError) {
        while quietUntil > loop.now {
            guard quietUntil < end else {
                throw .unavailable(
                    "the store asked for \((quietUntil - loop.now) / 1_000_000_000) s more without requests")
            }
            // They do not all come back at once.
            let pause = quietUntil - loop.now + world.random.next() % max(options.backoffFirstNanoseconds, 1)
            _ = await wait(atMost: pause, then: StoreReply(status: StoreReply.noAnswer)) { _ in }
            if isClosed { throw .canceled }
        }
    }

    /// One attempt. A transport that hangs costs its time and a place among the abandoned, not a caller.
    private func send(
        _ request: StoreRequest, within limit: UInt64, isUrgent: Bool
    ) async throws(StoreError) -> StoreReply {
        guard isUrgent ? abandonedUrgent < options.abandonedUrgentMax : abandoned < options.abandonedMax else {
            throw .unavailable("\(isUrgent ? abandonedUrgent : abandoned) requests to the store hang")
        }
        var request = request
        request.limitNanoseconds = limit
        var late = StoreReply(status: StoreReply.noAnswer)
        late.reason = "no answer in \(limit / 1_000_000) ms"
        late.isTimeout = true
        let start = loop.now
        let race = Race(isUrgent: isUrgent)
        let reply = await wait(atMost: limit, then: late) { wait in
            self.begin(request, race, wait, isSecond: false)
            guard let delay = self.hedgeDelay(request), delay < limit else { return }
            race.timer = self.loop.schedule(after: delay) {
                guard !race.isOver, self.mayHedge else { return }
                self.operations.hedges += 1
                self.begin(request, race, wait, isSecond: true)
            }
        }
        race.isOver = true
        if let timer = race.timer { loop.cancel(timer) }
        for task in race.tasks { task.cancel() }
        abandon(race, race.running)
        if reply.isTimeout { operations.timeouts += 1 }
        if case .object(_, .get) = request.kind, reply.status / 100 == 2 { latencies.add(loop.now - start) }
        return reply
    }

    /// Sends it once. An answer that is none is heard only when no other one can still come.
    private func begin(_ request: StoreRequest, _ race: Race, _ wait: Wait, isSecond: Bool) {
        count(request)
        race.running += 1
        let task = loop.task {
            let reply = await self.transport.perform(request)
            guard !race.isOver else {
                self.abandon(race, -1)
                return
            }
            race.running -= 1
            if race.running > 0, !Self.isConclusive(reply) { return }
            race.isOver = true
            if isSecond { self.operations.hedgesWon += 1 }
            wait.end(reply)
            self.abandon(race, race.running)
            race.running = 0
        }
        race.tasks.append(task)
    }

    private func abandon(_ race: Race, _ count: Int) {
        if race.isUrgent { abandonedUrgent += count } else { abandoned += count }
    }

    /// Whether the other request, that is still under way, could not bring more: a refusal of one server of many says
    /// nothing of what the next one has.
    private static func isConclusive(_ reply: StoreReply) -> Bool {
        reply.status / 100 == 2 || reply.status == 404 || reply.status == 416
    }

    /// The requests of one attempt: one, or a second one beside it that may be faster. On the loop.
    private final class Race: @unchecked Sendable {
        let isUrgent: Bool
        var running = 0
        var isOver = false
        var tasks: [Task<Void, Never>] = []
        var timer: LoopTimer?

        init(isUrgent: Bool) { self.isUrgent = isUrgent }
    }

    /// When a read is asked for again: later than nearly all of them are answered.
    private func hedgeDelay(_ request: StoreRequest) -> UInt64? {
        guard options.hedgedOfHundred > 0, case .object(_, .get(.some)) = request.kind else { return nil }
        return latencies.late
    }

    /// A store that is slow as a whole is not asked for twice as much.
    private var mayHedge: Bool {
        abandoned < options.abandonedMax && (operations.hedges + 1) * 100 <= operations.gets * options.hedgedOfHundred
    }

    private func count(_ request: StoreRequest) {
        switch request.kind {
        case .object(_, .put): operations.puts += 1
        case .object(_, .get): operations.gets += 1
        case .object(_, .head): operations.heads += 1
        case .object(_, .delete): operations.deletes += 1
        case .list: operations.lists += 1
        }
    }

    /// Suspends until somebody ends the wait, at the latest when the time is over.
    private func wait(
        atMost nanoseconds: UInt64, then late: StoreReply, _ begin: (Wait) -> Void
    ) async -> StoreReply {
        nextWait += 1
        let key = nextWait
        let reply = await withUnsafeContinuation { (continuation: UnsafeContinuation<StoreReply, Never>) in
            let wait = Wait(continuation, on: loop)
            waits[key] = wait
            wait.timer = loop.schedule(after: nanoseconds) { wait.end(late) }
            begin(wait)
        }
        waits[key] = nil
        return reply
    }

    /// Ends once, whoever comes first. On the loop only.
    private final class Wait: @unchecked Sendable {
        private var continuation: UnsafeContinuation<StoreReply, Never>?
        private let loop: EventLoop
        var timer: LoopTimer?

        init(_ continuation: UnsafeContinuation<StoreReply, Never>, on loop: EventLoop) {
            self.continuation = continuation
            self.loop = loop
        }

        /// False when it had ended before.
        @discardableResult
        func end(_ reply: StoreReply) -> Bool {
            guard let continuation else { return false }
            self.continuation = nil
            if let timer { loop.cancel(timer) }
            continuation.resume(returning: reply)
            return true
        }
    }
}

import Bytes
import Configuration
import ObjectStore
import Runtime
import Transfer

/// Finds out what a store really does: each of its promises is tried, on objects of its own that go afterwards. On the
/// store's loop.
final class StoreCheck: @unchecked Sendable {
    enum Verdict: String, Sendable { case good, warning = "warn", bad }

    struct Finding: Sendable {
        var name: String
        var verdict: Verdict
        var found: String
        /// For ProxyFS.
        var follows: String
    }

    struct Report: Sendable {
        var findings: [Finding] = []
        /// Exactly one of many concurrent creators won, each time.
        var createsIfAbsent = false
        var listsConsistently = false
        var requests = 0
        var isGood: Bool { !findings.contains { $0.verdict == .bad } }
    }

    static let roundsSmall = 20
    static let roundsLarge = 4
    static let writers = 8
    static let skewSecondsMax: Int64 = 300

    static let lead = "proxyfs-check-"
    /// Of its names, those of which one of several writers is to win.
    static func isDecided(_ title: Substring) -> Bool { title == "once" || title.hasPrefix("race-") }

    private let connection: StoreConnection
    private let segmentSize: ByteSize
    private let transport: any StoreTransport
    private let world: World
    private let loop: EventLoop
    private let lead: String
    private var names: Set<ObjectName> = []
    private var report = Report()

    /// `segmentSize`: of the objects that volumes will have.
    init(_ connection: StoreConnection, segmentSize: ByteSize, world: World, loop: EventLoop) {
        self.connection = connection
        self.segmentSize = segmentSize
        transport = connection.transport
        self.world = world
        self.loop = loop
        lead = Self.lead + String(world.random.next(), radix: 16)
    }

    /// `progress` is told what is tried next, and how many tries are done and are to be done.
    func run(_ progress: (String, UInt64, UInt64) -> Void) async throws(StoreProblem) -> Report {
        try await connection.verify(creates: true)
        add("reach", .good, "\(connection.description.address) answers", "it can be used")
        let steps: [(String, () async -> Void)] = [
            ("clock", clock), ("read after write", readAfterWrite), ("overwrite", overwrite), ("delete", delete),
            ("listing", listing), ("ranges", ranges), ("large objects", large), ("conditional creates", conditions),
        ]
        let total = UInt64(steps.count + 1)
        for (done, (name, step)) in steps.enumerated() {
            progress(name, UInt64(done), total)
            await step()
        }
        progress("cleaning up", total - 1, total)
        await cleanUp()
        return report
    }

    private func add(_ name: String, _ verdict: Verdict, _ found: String, _ follows: String) {
        report.findings.append(Finding(name: name, verdict: verdict, found: found, follows: follows))
    }

    // MARK: Requests

    private func name(_ text: String) -> ObjectName {
        guard let name = ObjectName("\(lead)/\(text)") else { preconditionFailure("a name of our own") }
        return name
    }

    /// Once; what is only busy, a few times.
    private func send(_ kind: StoreRequest.Kind) async -> StoreReply {
        if case .object(let name, .put) = kind { names.insert(name) }
        var request = StoreRequest(kind)
        request.limitNanoseconds = 60_000_000_000
        var reply = StoreReply(status: StoreReply.noAnswer)
        for attempt in 0..<4 {
            report.requests += 1
            reply = await transport.perform(request)
            guard [429, 503, 500].contains(reply.status) else { return reply }
            await loop.sleep(nanoseconds: 200_000_000 << UInt64(attempt))
        }
        return reply
    }

    private func put(_ text: String, _ body: Block, _ condition: PutCondition = .always) async -> StoreReply {
        await send(.object(name(text), .put(.blocks([body]), condition)))
    }

    private func get(_ text: String, _ range: Range<UInt64>? = nil) async -> StoreReply {
        await send(.object(name(text), .get(range)))
    }

    private func bytes(_ count: Int, _ seed: UInt8) -> Block {
        let block = Block(capacity: count)
        for index in 0..<count {
            block.base.storeBytes(of: UInt8(truncatingIfNeeded: index) &* 7 ^ seed, toByteOffset: index, as: UInt8.self)
        }
        block.count = count
        return block
    }

    private func isSame(_ a: Block?, _ b: Block, _ range: Range<Int>? = nil) -> Bool {
        guard let a else { return false }
        defer {
            extendLifetime(a)
            extendLifetime(b)
        }
        let part = UnsafeRawBufferPointer(rebasing: b.bytes[range ?? 0..<b.count])
        return a.bytes.elementsEqual(part)
    }

    private func text(_ reply: StoreReply) -> String {
        reply.reason.isEmpty ? "status \(reply.status)" : "status \(reply.status), \(reply.reason)"
    }

    private func isStored(_ reply: StoreReply) -> Bool { [200, 201, 204].contains(reply.status) }

    // MARK: What is asked

    private func clock() async {
        guard let time = await connection.time() else {
            return add("clock", .warning, "it does not tell its time", "keep this host's clock right")
        }
        let skew = time - world.clock.wall() / 1_000_000_000
        let found = "it is \(abs(skew)) s \(skew < 0 ? "behind" : "ahead of") this host"
        guard abs(skew) <= Self.skewSecondsMax else {
            return add(
                "clock", .warning, found, "signatures and tokens depend on the time: set the clock that is wrong")
        }
        add("clock", .good, abs(skew) < 2 ? "as this host's" : found, "signatures and tokens hold")
    }

    private func readAfterWrite() async {
        var accepted = 0
        for index in 0..<20 {
            let body = bytes(4_096, UInt8(index))
            let reply = await put("fresh-\(index)", body)
            if reply.status == 202 { accepted += 1 }
            guard isStored(reply) || reply.status == 202 else {
                return add("read after write", .bad, "a PUT was answered with \(text(reply))", "nothing can be stored")
            }
            let read = await get("fresh-\(index)")
            guard read.status == 200, isSame(read.body, body) || accepted > 0 else {
                return add(
                    "read after write", .bad, "what was stored was not there, or other bytes: \(text(read))",
                    "what ProxyFS has promised could not be read")
            }
        }
        guard accepted == 0 else {
            return add(
                "read after write", .bad, "\(accepted) of 20 PUTs were answered with 202",
                "202 stores nothing, and counts as a failure: set the clocks of the store's hosts")
        }
        add(
            "read after write", .good, "20 of 20 new objects were there at once",
            "segments and metadata can be read back")
    }

    private func overwrite() async {
        var stale = 0
        for index in 0..<20 {
            let body = bytes(256, UInt8(index))
            guard isStored(await put("over", body)) else { continue }
            if !isSame(await get("over").body, body) { stale += 1 }
        }
        guard stale > 0 else {
            return add(
                "overwrite", .good, "20 of 20 overwritten objects were the new ones", "no name is used twice anyway")
        }
        add("overwrite", .warning, "\(stale) of 20 reads gave an older object", "no name is used twice: nothing")
    }

    private func delete() async {
        var alive = 0
        for index in 0..<20 {
            let reply = await send(.object(name("fresh-\(index)"), .delete))
            guard isStored(reply) || reply.status == 404 else {
                return add("delete", .bad, "a DELETE was answered with \(text(reply))", "space would never be freed")
            }
            if await get("fresh-\(index)").status != 404 { alive += 1 }
        }
        let again = await send(.object(name("fresh-0"), .delete))
        guard [200, 204, 404].contains(again.status) else {
            return add(
                "delete", .bad, "a second DELETE was answered with \(text(again))", "deletions could not be retried")
        }
        guard alive > 0 else {
            return add("delete", .good, "20 of 20 deleted objects were gone at once", "deletions may be retried")
        }
        add(
            "delete", .warning, "\(alive) of 20 deleted objects could still be read",
            "names are not used again: nothing")
    }

    private func listing() async {
        var missing = 0
        var bodies: [String] = []
        for index in 0..<10 {
            _ = await put("list/\(index)", bytes(16, 0))
            bodies.append("\(lead)/list/\(index)")
            let reply = await send(.list(prefix: "\(lead)/list/", after: nil, limit: 100))
            guard reply.status == 200 else {
                return add(
                    "listing", .bad, "a listing was answered with \(text(reply))", "a volume could not be opened")
            }
            if reply.entries.map(\.name.text) != bodies { missing += 1 }
        }
        let page = await send(.list(prefix: "\(lead)/list/", after: "\(lead)/list/3", limit: 4))
        let wanted = (4...7).map { "\(lead)/list/\($0)" }
        report.listsConsistently = missing == 0
        guard missing == 0 else {
            return add(
                "listing", .warning, "\(missing) of 10 listings were behind",
                "ProxyFS finds its newest objects by number, not by listing; left-overs are found later")
        }
        guard page.entries.map(\.name.text) == wanted, page.truncated else {
            return add("listing", .bad, "a page was not what it should be", "left-overs would be missed")
        }
        add("listing", .good, "10 of 10 listings were complete at once, pages in order", "left-overs are found at once")
    }

    private func ranges() async {
        let body = bytes(100_000, 3)
        _ = await put("ranges", body)
        for (title, range) in [("first", 0..<1), ("middle", 4_095..<70_001), ("last", 99_999..<100_000)] {
            let reply = await get("ranges", UInt64(range.lowerBound)..<UInt64(range.upperBound))
            guard reply.status == 206, isSame(reply.body, body, range), reply.size == 100_000 else {
                return add("ranges", .bad, "the \(title) bytes: \(text(reply))", "files could not be read")
            }
        }
        let across = await get("ranges", 99_990..<200_000)
        let beyond = await get("ranges", 100_000..<100_001)
        guard across.status == 206, isSame(across.body, body, 99_990..<100_000), beyond.status == 416 else {
            return add(
                "ranges", .warning, "behind the end: \(text(across)), \(text(beyond))",
                "only a damaged volume would ask so")
        }
        add("ranges", .good, "first, middle, last and beyond are right", "files are read by ranges of segments")
    }

    private func large() async {
        let isS3 = connection.description.kind == .s3
        // What stands in front of a store may take less than the store: the largest body that a volume sends is tried.
        let largest = isS3 ? min(segmentSize, connection.description.partSize) : segmentSize
        let body = bytes(Int(clamping: largest.bytes), 5)
        let reply = await put("large", body)
        guard isStored(reply) else {
            return add(
                "large objects", .bad, "\(largest) in one PUT: \(text(reply))",
                "segments could not be stored; make engine.flush_size" + (isS3 ? " or part_size" : "") + " smaller")
        }
        guard isSame(await get("large").body, body) else {
            return add("large objects", .bad, "\(largest) were not read as they were written", "files would be damaged")
        }
        guard isS3 else {
            return add("large objects", .good, "\(largest) in one PUT", "segments go in one PUT")
        }
        var description = connection.description
        description.partSize = ByteSize("5MiB") ?? description.partSize
        let other: StoreConnection
        do throws(CommandFailure) {
            other = try StoreConnection(description, world: world, loop: loop)
        } catch { return add("large objects", .bad, error.message, "try again") }
        names.insert(name("parts"))
        var parts = StoreReply(status: StoreReply.noAnswer)
        // What failed once, a volume tries again.
        for _ in 0..<2 where !isStored(parts) {
            report.requests += 5
            parts = await other.transport.perform(
                StoreRequest(
                    .object(name("parts"), .put(.blocks((0..<12).map { bytes(1 << 20, UInt8($0)) }), .always))))
        }
        other.stop()
        let read = await get("parts", UInt64(11 << 20)..<UInt64(12 << 20))
        guard isStored(parts), isSame(read.body, bytes(1 << 20, 11)) else {
            return add(
                "large objects", .warning, "\(largest) in one PUT; in parts: \(text(parts))",
                "set part_size above engine.flush_size, so that segments go in one PUT")
        }
        add(
            "large objects", .good, "\(largest) in one PUT, and 12 MiB in parts",
            "segments of engine.flush_size can be stored")
    }

    // MARK: Conditions

    private func conditions() async {
        let first = await put("once", bytes(64, 1), .absent)
        let second = await put("once", bytes(64, 2), .absent)
        let isKept = isSame(await get("once").body, bytes(64, 1))
        guard isStored(first), second.status == 412 || second.status == 409, isKept else {
            let found =
                isStored(first)
                ? "a second create of one name was answered with \(text(second))" + (isKept ? "" : ", and it won")
                : "a create of a new name was answered with \(text(first))"
            return add("conditional creates", .warning, found, Self.leased)
        }
        var failures: [String] = []
        var rounds = 0
        for (count, size) in [(Self.roundsSmall, 64), (Self.roundsLarge, 1 << 20)] {
            for _ in 0..<count {
                rounds += 1
                if let failure = await race("race-\(rounds)", size) { failures.append(failure) }
            }
        }
        // Swift's own transport says that it can not, whatever a quiet moment shows.
        guard failures.isEmpty, transport.capabilities.createIfAbsent else {
            let found =
                failures.isEmpty
                ? "\(rounds) rounds of \(Self.writers) writers had one winner each, but Swift decides when a request begins"
                : "\(failures.count) of \(rounds) rounds of \(Self.writers) writers went wrong: \(failures[0])"
            return add("conditional creates", .warning, found, Self.leased)
        }
        report.createsIfAbsent = true
        add(
            "conditional creates", .good,
            "\(rounds) rounds of \(Self.writers) writers: one winner each, and its bytes stayed",
            "the log may be in the store, and owners are fenced by epochs there; set conditional = true")
    }

    private static let leased =
        "the log is on local disk or a shared path, and a lease (a lock of the file system, or etcd) keeps others out; "
        + "set conditional = false"

    /// Nil: exactly one won.
    private func race(_ title: String, _ size: Int) async -> String? {
        let bodies = (0..<Self.writers).map { bytes(size, UInt8($0 * 17 + 1)) }
        let replies = await withTaskGroup(of: (Int, StoreReply).self) { group in
            for (index, body) in bodies.enumerated() {
                group.addTask { (index, await self.once(title, body)) }
            }
            var replies: [Int: StoreReply] = [:]
            for await (index, reply) in group { replies[index] = reply }
            return replies
        }
        let winners = replies.filter { isStored($0.value) }.keys
        guard winners.count == 1, let winner = winners.first else {
            let statuses = replies.sorted { $0.key < $1.key }.map { String($0.value.status) }
            return "\(winners.count) winners (\(statuses.joined(separator: " ")))"
        }
        for _ in 0..<2 {
            guard isSame(await get(title).body, bodies[winner]) else { return "the winner's bytes did not stay" }
        }
        return nil
    }

    /// Without retries: a second try would not know whose the object is.
    private func once(_ title: String, _ body: Block) async -> StoreReply {
        names.insert(name(title))
        report.requests += 1
        var request = StoreRequest(.object(name(title), .put(.blocks([body]), .absent)))
        request.limitNanoseconds = 60_000_000_000
        return await transport.perform(request)
    }

    private func cleanUp() async {
        for name in names.sorted() { _ = await send(.object(name, .delete)) }
        await connection.undo()
        let left = await send(.list(prefix: lead + "/", after: nil, limit: 10))
        if left.status == 200, !left.entries.isEmpty, connection.description.kind == .s3 {
            add(
                "cleaning up", .warning, "\(left.entries.count) objects under \(lead) are still listed",
                "look again later")
        }
    }
}

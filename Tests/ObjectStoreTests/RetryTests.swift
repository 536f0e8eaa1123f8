import Bytes
import ObjectStore
import Runtime
import Simulator
import Testing

/// What `ObjectStore` makes of answers, lost ones included.
struct RetryTests {
    private func run(
        _ script: Scripted, _ change: (inout ObjectStore.Options) -> Void = { _ in },
        _ body: @escaping @Sendable (ObjectStore, World) async throws -> Void
    ) throws {
        var options = ObjectStore.Options()
        change(&options)
        let chosen = options
        try simulated { world in
            try await body(ObjectStore(script, world: world, loop: world.loops[0], options: chosen), world)
        }
    }

    @Test(arguments: [0, 408, 425, 429, 500, 502, 503, 504]) func passingTroubleIsRetried(_ status: Int) throws {
        let script = Scripted()
        script.answer(status, status, status, 201)
        try run(script) { store, _ in
            try await store.put(name("a"), .blocks([block("x")]))
            #expect(store.counters.retries == 3 && store.counters.puts == 4 && store.counters.bytesPut == 1)
        }
    }

    @Test func finalAnswersAreFinal() throws {
        for (status, error) in [
            (404, StoreError.notFound), (416, .badRange), (507, .noSpace), (412, .exists),
            (StoreReply.canceled, .canceled),
        ] {
            let script = Scripted()
            script.answer(status)
            try run(script) { store, _ in
                let result = await outcome { () throws(StoreError) in _ = try await store.get(name("a")) }
                #expect(result.failure == error)
                #expect(script.requests == 1)
            }
        }
        for status in [401, 403, 400, 301, 202, 409] {
            let script = Scripted()
            script.answer(status)
            try run(script) { store, _ in
                let result = await outcome { () throws(StoreError) in try await store.put(name("a"), .blocks([])) }
                #expect(result.failure != nil && script.requests == 1, "\(status)")
            }
        }
    }

    @Test func attemptsEnd() throws {
        let script = Scripted()
        script.answer(503, 503, 503, 503, 503)
        try run(script, { $0.attemptsMax = 4 }) { store, _ in
            let result = await outcome { () throws(StoreError) in try await store.delete(name("a")) }
            guard case .unavailable = result.failure else { return #expect(Bool(false), "\(result)") }
            #expect(script.requests == 4)
        }
    }

    @Test func theDeadlineEndsHangs() throws {
        let script = Scripted()
        script.script = (0..<10).map { _ in
            { _ in
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return StoreReply(status: 200)
            }
        }
        let change = { (options: inout ObjectStore.Options) in
            options.deadlineNanoseconds = 10_000_000_000
            options.attemptNanoseconds = 3_000_000_000
            options.abandonedMax = 5
        }
        try run(script, change) { store, world in
            let start = world.clock.monotonic()
            let result = await outcome { () throws(StoreError) in _ = try await store.get(name("a")) }
            guard case .unavailable = result.failure else { return #expect(Bool(false), "\(result)") }
            #expect(world.clock.monotonic() - start <= 10_000_000_000)
            #expect(store.counters.timeouts == 4)
            // A fifth may hang, a sixth is not begun.
            _ = await outcome { () throws(StoreError) in _ = try await store.get(name("a")) }
            #expect(script.requests == 5)
        }
    }

    @Test func whatTheStoreAsksForIsWaited() throws {
        let script = Scripted()
        script.script = [
            { _ in
                var reply = StoreReply(status: 429)
                reply.retryAfterNanoseconds = 7_000_000_000
                return reply
            }
        ]
        try run(script) { store, world in
            let start = world.clock.monotonic()
            try await store.put(name("a"), .blocks([]))
            #expect(world.clock.monotonic() - start >= 7_000_000_000)
        }
        let late = Scripted()
        late.script = [
            { _ in
                var reply = StoreReply(status: 429)
                reply.retryAfterNanoseconds = 700_000_000_000
                return reply
            }
        ]
        try run(late, { $0.deadlineNanoseconds = 20_000_000_000 }) { store, world in
            let start = world.clock.monotonic()
            let result = await outcome { () throws(StoreError) in try await store.put(name("a"), .blocks([])) }
            #expect(result.failure != nil && world.clock.monotonic() - start < 1_000_000_000, "no use to wait for it")
            // Nobody asks while silence was asked for; 30 s of it are the most.
            for _ in 0..<2 {
                let read = await outcome { () throws(StoreError) in _ = try await store.head(name("a")) }
                guard case .unavailable(let why) = read.failure else { return #expect(Bool(false), "\(read)") }
                #expect(why.contains("without requests"))
                await world.loops[0].sleep(nanoseconds: 4_000_000_000)
            }
            #expect(late.requests == 1)
            await world.loops[0].sleep(nanoseconds: 8_000_000_000)
            try await store.put(name("a"), .blocks([]))
            #expect(late.requests == 2)
            let passed = world.clock.monotonic() - start
            #expect(passed >= 30_000_000_000 && passed < 31_000_000_000)
        }
    }

    /// The time that somebody waits for a place among the requests is his own.
    @Test func waitingCountsForTheDeadline() throws {
        let script = Scripted()
        let hang: (StoreRequest) async -> StoreReply = { _ in
            await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            return StoreReply(status: 200)
        }
        script.script = Array(repeating: hang, count: 100)
        let change = { (options: inout ObjectStore.Options) in
            options.readsMax = 2
            options.attemptNanoseconds = 10_000_000_000
            options.deadlineNanoseconds = 10_000_000_000
        }
        try run(script, change) { store, world in
            let start = world.clock.monotonic()
            let ends = await withTaskGroup(of: UInt64.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        _ = await outcome { () throws(StoreError) in _ = try await store.get(name("a")) }
                        return world.clock.monotonic() - start
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(ends.count == 20 && ends.allSatisfy { $0 <= 10_000_000_000 }, "\(ends)")
            // Those that gave up have left the queue, and the next one has his turn.
            script.script = []
            #expect(store.reads.waiters == 0)
            script.answer(404)
            let size = try await store.head(name("a"))
            #expect(size == nil)
        }
    }

    /// A large one that gives up makes way for small ones behind it.
    @Test func whoGivesUpMakesWay() throws {
        let script = Scripted()
        script.script = [
            { _ in
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return StoreReply(status: 201)
            }
        ]
        let change = { (options: inout ObjectStore.Options) in
            options.writesMax = 4
            options.writeBytesMax = 24 << 20
            options.deadlineNanoseconds = 10_000_000_000
            options.attemptNanoseconds = 10_000_000_000
        }
        script.capabilities.objectBytesMax = 1 << 30
        try run(script, change) { store, world in
            let loop = world.loops[0]
            let done = Count()
            // The first hangs for longer than the second may wait, because it is large.
            for (index, size) in [20, 8, 1].enumerated() {
                loop.task {
                    let body = ObjectBody.blocks([block([UInt8](repeating: 0, count: size << 20))])
                    do throws(StoreError) {
                        try await store.put(name("n\(index)"), body)
                        done.value += 1
                    } catch { return }
                }
                await loop.sleep(nanoseconds: 1_000_000_000)
            }
            await loop.sleep(nanoseconds: 7_000_000_000)
            #expect(done.value == 0 && store.writes.waiters == 2)
            // At 11 s the second gives up, and the third goes before its own time is over.
            await loop.sleep(nanoseconds: 3_000_000_000)
            #expect(done.value == 1 && store.writes.waiters == 0)
        }
    }

    /// Deletes that hang keep nobody waiting who writes.
    @Test func deletesTakeNobodysPlace() throws {
        let script = Scripted()
        let hang: (StoreRequest) async -> StoreReply = { request in
            if case .object(_, .delete) = request.kind {
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            }
            return StoreReply(status: 201)
        }
        script.script = Array(repeating: hang, count: 100)
        try run(script) { store, world in
            let loop = world.loops[0]
            for index in 0..<40 { loop.task { try? await store.delete(name("d\(index)")) } }
            await loop.sleep(nanoseconds: 1_000)
            let start = world.clock.monotonic()
            for index in 0..<20 { try await store.put(name("p\(index)"), .blocks([])) }
            #expect(world.clock.monotonic() - start < 1_000_000_000)
        }
    }

    /// What a transport sends in parts or twice is counted as it was sent, and priced so.
    @Test func requestsAreCountedAsTheyWereSent() throws {
        final class Counting: StoreTransport, @unchecked Sendable {
            let inner = MemoryStore()
            var capabilities: StoreCapabilities { inner.capabilities }
            let counts = Guarded(ObjectStore.Sent())
            var sent: ObjectStore.Sent? { counts.withLock { $0 } }
            func perform(_ request: StoreRequest) async -> StoreReply {
                counts.withLock { counts in
                    counts.posts += 2
                    counts.puts += 3
                    counts.tokens += 1
                }
                return await inner.perform(request)
            }
        }
        _ = try simulated { world in
            let store = ObjectStore(Counting(), world: world, loop: world.loops[0])
            try await store.put(name("a"), .blocks([block("x")]))
            #expect(store.counters.puts == 3 && store.counters.posts == 2 && store.counters.tokens == 1)
            #expect(store.counters.requests == 6 && store.counters.bytesPut == 1)
            #expect(StorePrices(put: 1000, get: 0, head: 0, delete: 0, list: 0).price(of: store.counters) == 5)
            #expect(store.currentCounters == store.counters)
            return true
        }
    }

    @Test func backoffGrowsAndIsSpread() throws {
        var pauses: [UInt64] = []
        for seed in 1...50 as ClosedRange<UInt64> {
            let script = Scripted()
            script.answer(503, 503, 503, 503, 503, 503)
            let pause = try simulated(Simulation(seed: seed)) { world in
                let start = world.clock.monotonic()
                try await ObjectStore(script, world: world, loop: world.loops[0]).put(name("a"), .blocks([]))
                return world.clock.monotonic() - start
            }
            pauses.append(pause)
        }
        // Six pauses below 50, 100, ... 1,600 ms: 3,150 at most, half of that in the mean.
        #expect(pauses.max()! < 3_150_000_000 && Set(pauses).count == 50)
        let mean = pauses.reduce(0, +) / 50
        #expect(mean > 1_200_000_000 && mean < 1_950_000_000, "\(mean)")
    }

    @Test func aLostCreationIsRecognised() throws {
        let inner = MemoryStore()
        for theirs in [nil, "ours", "else", "ours and more"] {
            let script = Scripted()
            inner.remove(name("a"))
            script.script =
                [
                    { request in
                        // Applied, or somebody else was first; no answer either way.
                        if let theirs {
                            _ = await inner.put(name("a"), theirs)
                        } else {
                            _ = await inner.perform(request)
                        }
                        return StoreReply(status: 0)
                    }
                ] + (0..<6).map { _ in { request in await inner.perform(request) } }
            try run(script) { store, _ in
                let blocks = [block("ou"), block("rs")]
                let result = await outcome { () throws(StoreError) in
                    try await store.put(name("a"), .blocks(blocks), condition: .absent)
                }
                #expect(result.failure == (theirs == nil || theirs == "ours" ? nil : .exists), "\(theirs ?? "-")")
            }
        }
    }

    @Test func aConflictIsDecidedByAskingAgain() throws {
        let script = Scripted()
        script.answer(409, 409, 412)
        try run(script) { store, _ in
            let result = await outcome { () throws(StoreError) in
                try await store.put(name("a"), .blocks([block("x")]), condition: .absent)
            }
            #expect(result.failure == .exists, "a conflict was not applied, so the object is not ours")
            #expect(script.requests == 3)
        }
    }

    @Test func aShortBodyIsNoAnswer() throws {
        func reply(_ text: String, size: UInt64?) -> @Sendable (StoreRequest) async -> StoreReply {
            { _ in
                var reply = StoreReply(status: 206)
                reply.body = block(text)
                reply.size = size
                return reply
            }
        }
        let script = Scripted()
        script.script = [reply("ab", size: 10), reply("abcde", size: nil), reply("abcd", size: 10)]
        try run(script) { store, _ in
            let body = try await store.get(name("a"), range: 0..<4)
            #expect(body.text == "abcd")
            #expect(script.requests == 3)
        }
        let ended = Scripted()
        ended.script = [reply("ab", size: 2)]
        try run(ended) { store, _ in
            let result = await outcome { () throws(StoreError) in _ = try await store.get(name("a"), range: 0..<4) }
            #expect(result.failure == .badRange)
        }
        let whole = Scripted()
        whole.script = [reply("abc", size: 4), reply("abcd", size: 4)]
        try run(whole) { store, _ in
            let body = try await store.get(name("a"))
            #expect(body.text == "abcd")
        }
    }

    @Test func aListingThatMakesNoSenseIsCorrupt() throws {
        for names in [["p/b", "p/a"], ["p/a", "p/a"], ["q/a"], ["p/0"]] {
            let script = Scripted()
            script.script = [
                { _ in
                    var reply = StoreReply(status: 200)
                    reply.entries = names.map { ListEntry(name: name($0), size: 1) }
                    return reply
                }
            ]
            try run(script) { store, _ in
                let result = await outcome { () throws(StoreError) in
                    _ = try await store.list(prefix: "p/", after: "p/1", limit: 10)
                }
                guard case .corrupt = result.failure else { return #expect(Bool(false), "\(names) \(result)") }
            }
        }
    }

    @Test func aStreamIsSentAgainFromItsStart() throws {
        let inner = MemoryStore()
        let script = Scripted()
        script.script = [
            { request in
                if case .object(_, .put(.stream(let source, _), _)) = request.kind {
                    _ = try? await source.piece(at: 0)
                }
                return StoreReply(status: 503)
            },
            { request in await inner.perform(request) },
        ]
        try run(script) { store, _ in
            let source = Pieces([[1, 2], [3]])
            try await store.put(name("a"), .stream(source, size: 3))
            #expect(inner.objects[name("a")] == [1, 2, 3])
        }
    }

    /// An attempt that was given up still draws while the next one does.
    @Test func twoAttemptsGetAllOfAStream() throws {
        try run(Scripted()) { _, world in
            let body = ObjectBody.stream(Pieces([[1, 2], [3], [4, 5]]), size: 5)
            var first = BodyPieces(body, world: world, loop: world.loops[0])
            var second = BodyPieces(body, world: world, loop: world.loops[0])
            var (one, two): ([UInt8], [UInt8]) = ([], [])
            while let piece = try await first.next() {
                one += piece.array
                two += try await second.next()?.array ?? []
            }
            #expect(one == [1, 2, 3, 4, 5] && two == one)
        }
    }

    // MARK: Limits

    @Test func requestsAtOnce() throws {
        let script = Scripted()
        script.script = (0..<30).map { _ in
            { _ in
                await Task.yield()
                await Task.yield()
                return StoreReply(status: 204)
            }
        }
        try run(script, { $0.deletesMax = 3 }) { store, _ in
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<30 {
                    group.addTask { try? await store.delete(name("n\(100 + index)")) }
                }
            }
            #expect(script.most == 3 && script.requests == 30)
            #expect(script.order == script.order.sorted(), "who comes first is served first")
        }
    }

    @Test func bytesAtOnce() throws {
        func most(_ sizes: [Int], limit: UInt64) throws -> Int {
            let script = Scripted()
            script.script = sizes.map { _ in
                { _ in
                    await Task.yield()
                    await Task.yield()
                    return StoreReply(status: 201)
                }
            }
            try run(script, { $0.writeBytesMax = limit }) { store, _ in
                await withTaskGroup(of: Void.self) { group in
                    for (index, size) in sizes.enumerated() {
                        group.addTask {
                            try? await store.put(
                                name("n\(index)"), .blocks([block([UInt8](repeating: 0, count: size))]))
                        }
                    }
                }
                #expect(script.requests == sizes.count)
            }
            return script.most
        }
        #expect(try most([50, 50, 50, 50], limit: 100) == 2)
        #expect(try most([50, 51, 50, 51], limit: 100) == 1)
        #expect(try most([500, 500], limit: 100) == 1, "one above the limit goes alone")
    }

    /// As many callers wait as may; one beyond is told at once.
    @Test func callersThatWait() throws {
        let script = Scripted()
        // One that never comes back has the only place.
        script.script = [
            { _ in
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return StoreReply(status: 201)
            }
        ]
        let change = { (options: inout ObjectStore.Options) in
            options.writesMax = 1
            options.deadlineNanoseconds = .max
            options.attemptNanoseconds = .max
        }
        try run(script, change) { store, world in
            let loop = world.loops[0]
            let outcomes = Count()
            for _ in 0...Admission.waitersMax {
                loop.task {
                    try? await store.put(name("a"), .blocks([]))
                    outcomes.value += 1
                }
            }
            await loop.sleep(nanoseconds: 1_000)
            #expect(store.writes.waiters == Admission.waitersMax && store.writes.isFull && outcomes.value == 0)
            let result = await outcome { () throws(StoreError) in try await store.put(name("a"), .blocks([])) }
            guard case .unavailable = result.failure else { return #expect(Bool(false), "\(result)") }
            // Reads have a queue of their own.
            script.answer(404)
            let size = try await store.head(name("b"))
            #expect(size == nil)
            store.close()
            await loop.sleep(nanoseconds: 1_000)
            #expect(outcomes.value == Admission.waitersMax + 1)
        }
    }

    @Test func readsDoNotWaitForWrites() throws {
        let script = Scripted()
        script.script = [
            { _ in
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return StoreReply(status: 201)
            },
            { _ in
                var reply = StoreReply(status: 200)
                reply.size = 9
                return reply
            },
        ]
        try run(script, { $0.writesMax = 1 }) { store, world in
            world.loops[0].task { try? await store.put(name("a"), .blocks([])) }
            await world.loops[0].sleep(nanoseconds: 1_000)
            let size = try await store.head(name("b"))
            #expect(size == 9)
        }
    }

    @Test func tooLargeIsRefused() throws {
        let script = Scripted()
        try run(script) { store, _ in
            try await store.put(name("a"), .stream(Pieces([]), size: 1 << 20))
            let result = await outcome { () throws(StoreError) in
                try await store.put(name("a"), .stream(Pieces([]), size: 1 << 20 + 1))
            }
            #expect(result.failure == .badRange && script.requests == 1)
        }
    }

    final class Count: @unchecked Sendable { var value = 0 }

    @Test func closingEndsEverything() throws {
        let script = Scripted()
        script.script = [
            { _ in
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
                return StoreReply(status: 201)
            },
            { _ in StoreReply(status: 503) },
        ]
        let change = { (options: inout ObjectStore.Options) in
            options.writesMax = 2
            options.backoffFirstNanoseconds = 1 << 34
        }
        try run(script, change) { store, world in
            let canceled = Count()
            // One hangs, one waits for its next try, two wait for a place.
            for _ in 0..<4 {
                world.loops[0].task {
                    let result = await outcome { () throws(StoreError) in try await store.put(name("a"), .blocks([])) }
                    if result.failure == .canceled { canceled.value += 1 }
                }
            }
            await world.loops[0].sleep(nanoseconds: 1_000)
            #expect(canceled.value == 0)
            store.close()
            await world.loops[0].sleep(nanoseconds: 1_000)
            #expect(canceled.value == 4)
            let later = await outcome { () throws(StoreError) in _ = try await store.head(name("a")) }
            #expect(later.failure == .canceled && script.requests == 2)
        }
    }
}

import Arbiter
import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Synchronization
import Testing

/// A store in which the last of several writers wins, and whose listings lag: with an arbiter each name has one maker all the same.
struct ArbitratedStoreTests {
    /// As OpenStack Swift does it: a condition is looked at when the request begins, and listings are of some time before.
    private final class LastWriterStore: StoreTransport {
        let memory: MemoryStore
        private let loop: EventLoop
        private let random: any RandomSource
        /// Answers listings in its place.
        let refusesListings = Mutex<Int?>(nil)
        private let listings = Mutex<[String: (reply: StoreReply, until: UInt64)]>([:])

        init(_ world: World) {
            memory = MemoryStore(world: world, loop: world.loops[0])
            (loop, random) = (world.loops[0], world.random)
        }

        var capabilities: StoreCapabilities {
            var capabilities = memory.capabilities
            capabilities.createIfAbsent = false
            capabilities.listsConsistently = false
            return capabilities
        }

        func perform(_ request: StoreRequest) async -> StoreReply {
            switch request.kind {
            case .object(let name, .put(let body, .absent)):
                guard await memory.perform(StoreRequest(.object(name, .head))).status == 404 else {
                    return StoreReply(status: 412)
                }
                await loop.sleep(nanoseconds: random.next() % 50_000_000)
                return await memory.perform(StoreRequest(.object(name, .put(body, .always))))
            case .object:
                await loop.sleep(nanoseconds: random.next() % 50_000_000)
                return await memory.perform(request)
            case .list(let prefix, let after, let limit):
                if let status = refusesListings.withLock({ $0 }) { return StoreReply(status: status) }
                let key = "\(prefix) \(after ?? "") \(limit)"
                if let old = listings.withLock({ $0[key] }), old.until > loop.now { return old.reply }
                let reply = await memory.perform(request)
                listings.withLock { $0[key] = (reply, loop.now + 30_000_000_000) }
                return reply
            }
        }
    }

    /// Answers at once, or not at all after it has done what was asked.
    private final class MemoryArbiter: Arbiter {
        let values = Mutex<[String: String]>([:])
        let losesOf = Mutex<UInt64>(0)
        let isAway = Mutex(false)
        /// Goes away with a claim that it never saw, or has just done.
        let endsAtClaim = Mutex<Bool?>(nil)
        /// What happens just before a name is taken away.
        let beforeRemoval = Mutex<(@Sendable () -> Void)?>(nil)
        private let random: any RandomSource

        init(_ random: any RandomSource) { self.random = random }

        private func answer() throws(ArbiterFailure) {
            let bound = losesOf.withLock { $0 }
            if bound > 0, random.next() % 100 < bound { throw ArbiterFailure("no answer") }
        }

        private func begin() throws(ArbiterFailure) {
            if isAway.withLock({ $0 }) { throw ArbiterFailure("away") }
        }

        func claim(_ name: String, _ value: String) async throws(ArbiterFailure) -> String {
            try begin()
            if endsAtClaim.withLock({ $0 }) == false { throw ArbiterFailure("ends") }
            let found = values.withLock { values in
                values[name] = values[name] ?? value
                return values[name] ?? value
            }
            if endsAtClaim.withLock({ $0 }) == true { throw ArbiterFailure("ended") }
            try answer()
            return found
        }

        func set(_ name: String, _ value: String) async throws(ArbiterFailure) {
            try begin()
            values.withLock { $0[name] = value }
            try answer()
        }

        func value(of name: String) async throws(ArbiterFailure) -> String? {
            try begin()
            try answer()
            return values.withLock { $0[name] }
        }

        func values(
            prefix: String, after marker: String?, limit: Int
        ) async throws(ArbiterFailure) -> (entries: [(name: String, value: String)], isTruncated: Bool) {
            try begin()
            try answer()
            let all = values.withLock { $0 }.filter { $0.key.hasPrefix(prefix) && $0.key > marker ?? "" }
                .sorted { $0.key < $1.key }
            return (all.prefix(limit).map { ($0.key, $0.value) }, all.count > limit)
        }

        func remove(_ name: String, _ value: String) async throws(ArbiterFailure) {
            try begin()
            beforeRemoval.withLock { $0 }?()
            values.withLock { if $0[name] == value { $0[name] = nil } }
            try answer()
        }
    }

    private struct Rig {
        let store: LastWriterStore
        let arbiter: MemoryArbiter
        let decided: ArbitratedStore

        init(_ world: World) {
            store = LastWriterStore(world)
            arbiter = MemoryArbiter(world.random)
            decided = ArbitratedStore(store, arbiter: arbiter, random: world.random) { name in
                let parts = name.text.split(separator: "/")
                return parts.count > 1 && parts.last?.contains(".") == false
                    && Headhunter.decidedKinds.contains(String(parts[parts.count - 2]))
            }
        }
    }

    private func run(seed: UInt64, _ body: @escaping @Sendable (World) async throws -> String?) throws {
        let problem = try #require(
            Simulation(seed: seed).perform(for: 36_000_000_000_000) { world -> String? in
                do { return try await body(world) ?? "" } catch { return "\(error)" }
            }, "the program did not come to an end")
        #expect(problem == "")
    }

    private static func name(_ text: String) throws -> ObjectName { try #require(ObjectName(text)) }

    private static func block(_ byte: UInt8) -> Block { [byte].withUnsafeBytes { Block(copying: $0) } }

    /// Eight writers of one name: one is told that it made it, its bytes stay, and the others' are gone.
    @Test(arguments: [true, false]) func oneMaker(_ isDecided: Bool) throws {
        try run(seed: 1) { world in
            let rig = Rig(world)
            var wrong = 0
            for round in 0..<20 {
                let name = try Self.name("v/header/\(round)")
                let transport: any StoreTransport = isDecided ? rig.decided : rig.store
                let tasks = (0..<8).map { writer in
                    world.loops[0].task {
                        await transport.perform(
                            StoreRequest(.object(name, .put(.blocks([Self.block(UInt8(writer))]), .absent)))
                        ).status
                    }
                }
                var winners: [UInt8] = []
                for (writer, task) in tasks.enumerated() where await task.value == 201 { winners.append(UInt8(writer)) }
                let read = await transport.perform(StoreRequest(.object(name, .get(nil)))).body
                if winners.count != 1 || read.map({ Array($0.bytes) }) != winners { wrong += 1 }
            }
            if !isDecided { return wrong > 0 ? nil : "this store needs no arbiter" }
            guard wrong == 0 else { return "\(wrong) rounds went wrong" }
            return rig.store.memory.objects.count == 20 ? nil : "\(rig.store.memory.objects.count) objects"
        }
    }

    /// A volume whose owner stores, and is overtaken, over such a store and an arbiter that loses answers.
    @Test(arguments: 1...20) func aVolumeIsTaken(_ seed: Int) throws {
        try run(seed: UInt64(seed)) { world in
            let rig = Rig(world)
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                for log in ["a", "b"] { try world.disk.makeDirectory(log) }
                try world.disk.syncDirectory("")
            }
            func objects() -> ObjectStore { ObjectStore(rig.decided, world: world, loop: world.loops[0]) }
            try await Headhunter.create(world: world, store: objects(), prefix: "v")
            rig.arbiter.losesOf.withLock { $0 = 10 }
            func open(_ log: String, takesOver: Bool) async throws(VolumeError) -> Headhunter {
                var options = HeadhunterOptions()
                options.cacheBytes = 0
                options.flushBytes = 1 << 20
                options.stageMemoryBytes = 8 << 20
                options.dataCacheBytes = 0
                options.logReserveBytes = 64 << 10
                options.checkpointNanoseconds = 2_000_000_000
                options.leaseNanoseconds = 10_000_000_000
                options.logIsInStore = true
                options.takesOver = takesOver
                return try await Headhunter.open(
                    world: world, loop: world.loops[0], store: objects(), prefix: "v", directory: log, options: options)
            }
            @Sendable func put(_ volume: Headhunter, _ key: UInt64) async throws(VolumeError) {
                let number = try await volume.change { (change) throws(Missing) in
                    withUnsafeBytes(of: key.bigEndian) { change.put(1, $0, $0) }
                }.number
                try await volume.commit(number, .durable)
            }
            func has(_ volume: Headhunter, _ key: UInt64) async throws(VolumeError) -> Bool {
                try await volume.read { (view) throws(Missing) in
                    try withUnsafeBytes(of: key.bigEndian) { (key) throws(Missing) in try view.get(1, key) != nil }
                }
            }
            let first = try await open("a", takesOver: false)
            let told = Mutex<(count: UInt64, end: VolumeError?)>((0, nil))
            let writer = world.loops[0].task {
                while true {
                    let next = told.withLock { $0.count } + 1
                    do throws(VolumeError) { try await put(first, next) } catch {
                        return told.withLock { $0.end = error }
                    }
                    told.withLock { $0.count = next }
                }
            }
            await world.loops[0].sleep(nanoseconds: 5_000_000_000 + UInt64(seed) * 400_000_000)
            let second = try await open("b", takesOver: true)
            await writer.value
            let (count, end) = told.withLock { $0 }
            guard end == .fenced, count > 10 else { return "\(count) were told, then \(String(describing: end))" }
            for key in 1...count where try await !has(second, key) { return "\(key) of \(count) is missing" }
            try await second.close()
            rig.arbiter.losesOf.withLock { $0 = 0 }
            let third = try await open("a", takesOver: false)
            return try await has(third, count) ? nil : "the last one is missing"
        }
    }

    /// A look for another owner asks the arbiter alone: a lease outlives an outage of the store.
    @Test func theLeaseOutlivesTheStore() throws {
        try run(seed: 3) { world in
            let rig = Rig(world)
            let name = try Self.name("v/header/1")
            _ = await rig.decided.perform(StoreRequest(.object(name, .put(.blocks([Self.block(1)]), .absent))))
            let before = rig.store.memory.objects.count
            let head = await rig.decided.perform(StoreRequest(.object(name, .head)))
            let other = await rig.decided.perform(StoreRequest(.object(try Self.name("v/header/2"), .head)))
            let list = await rig.decided.perform(StoreRequest(.list(prefix: "v/header/", after: nil, limit: 10)))
            guard before == 1, head.size == 1, other.status == 404, list.entries.map(\.name) == [name] else {
                return "\(head), \(other), \(list)"
            }
            rig.arbiter.isAway.withLock { $0 = true }
            let away = await rig.decided.perform(StoreRequest(.object(name, .head)))
            return away.status == StoreReply.noAnswer ? nil : "\(away)"
        }
    }

    /// Replaced and deleted objects leave nothing, by their own names as well; and what the arbiter does not know is no new volume.
    @Test func nothingIsLeft() throws {
        try run(seed: 4) { world in
            let rig = Rig(world)
            let name = try Self.name("v/boundary/1")
            for byte: UInt8 in 1...3 {
                _ = await rig.decided.perform(StoreRequest(.object(name, .put(.blocks([Self.block(byte)]), .always))))
            }
            guard rig.store.memory.objects.count == 1 else { return "\(rig.store.memory.objects.count) objects" }
            _ = await rig.decided.perform(StoreRequest(.object(name, .delete)))
            guard rig.store.memory.objects.isEmpty, rig.arbiter.values.withLock({ $0.isEmpty }) else { return "left" }
            let header = try Self.name("v/header/1")
            _ = await rig.decided.perform(StoreRequest(.object(header, .put(.blocks([Self.block(7)]), .absent))))
            guard await rig.decided.verify(prefix: "v/", headers: "v/header/") == nil else {
                return "its own volume is not known"
            }
            let kept = rig.arbiter.values.withLock { values in
                defer { values = [:] }
                return values
            }
            guard await rig.decided.verify(prefix: "v/", headers: "v/header/") != nil else {
                return "another arbiter is not noticed"
            }
            rig.arbiter.values.withLock { $0 = kept }
            let stored = try #require(rig.store.memory.objects.keys.first)
            _ = await rig.decided.perform(StoreRequest(.object(stored, .delete)))
            guard rig.store.memory.objects.isEmpty, rig.arbiter.values.withLock({ $0.isEmpty }) else {
                return "left by its name"
            }
            rig.arbiter.values.withLock { $0 = ["v/slot/1": "0000000000000000 1", "w/slot/1": "0000000000000000 1"] }
            try await rig.decided.forget(prefix: "v/")
            return rig.arbiter.values.withLock { $0.keys.sorted() } == ["w/slot/1"]
                ? nil : "too much or too little forgotten"
        }
    }

    /// However often it is tried without an answer of the arbiter: one object for the same bytes, and it counts in the end.
    @Test(arguments: [true, false]) func aTryWithoutAnAnswerLeavesOneObject(_ isDone: Bool) throws {
        try run(seed: 5) { world in
            let rig = Rig(world)
            let name = try Self.name("v/slot/1")
            @Sendable func put(_ byte: UInt8) async -> Int {
                await rig.decided.perform(StoreRequest(.object(name, .put(.blocks([Self.block(byte)]), .absent))))
                    .status
            }
            rig.arbiter.isAway.withLock { $0 = true }
            for _ in 0..<100 where await put(1) != StoreReply.noAnswer { return "an answer of nobody" }
            guard rig.store.memory.objects.isEmpty else { return "sent while nobody can be asked" }
            rig.arbiter.isAway.withLock { $0 = false }
            rig.arbiter.endsAtClaim.withLock { $0 = isDone }
            let first = await put(1)
            guard first == StoreReply.noAnswer, rig.store.memory.objects.count == 1 else { return "\(first)" }
            rig.arbiter.isAway.withLock { $0 = isDone }
            for _ in 0..<100 where await put(1) != StoreReply.noAnswer { return "an answer of nobody" }
            guard rig.store.memory.objects.count == 1 else { return "\(rig.store.memory.objects.count) objects" }
            rig.arbiter.isAway.withLock { $0 = false }
            rig.arbiter.endsAtClaim.withLock { $0 = nil }
            let (own, others) = (await put(1), await put(2))
            guard own == 201, others == 412 else { return "\(own), \(others)" }
            let read = await rig.decided.perform(StoreRequest(.object(name, .get(nil))))
            return read.body.map { Array($0.bytes) } == [1] && rig.store.memory.objects.count == 1 ? nil : "\(read)"
        }
    }

    /// A store that does not tell, an arbiter that knows less than the store has, and one whose last claim was lost.
    @Test func whatTheArbiterHasLostIsNoticed() throws {
        try run(seed: 6) { world in
            let rig = Rig(world)
            func verify() async -> ArbiterFailure? { await rig.decided.verify(prefix: "v/", headers: "v/header/") }
            guard await verify() == nil else { return "nothing at all is not enough" }
            rig.store.refusesListings.withLock { $0 = 503 }
            guard await verify() != nil else { return "a store that does not tell has nothing" }
            rig.store.refusesListings.withLock { $0 = 404 }
            guard await verify() == nil else { return "a store that is not there yet is refused" }
            rig.store.refusesListings.withLock { $0 = nil }
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            for number in 1...4 {
                _ = await rig.decided.perform(
                    StoreRequest(
                        .object(
                            try Self.name("v/header/000000000000000\(number)"),
                            .put(.blocks([Self.block(1)]), .absent))))
            }
            guard await verify() == nil else { return "its own volume is not known" }
            let all = rig.arbiter.values.withLock { $0 }
            func keep(_ count: Int) {
                let kept = all.sorted { $0.key < $1.key }.prefix(count)
                rig.arbiter.values.withLock { $0 = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) }) }
            }
            keep(3)
            guard await verify() == nil else { return "a header without an answer keeps the volume away" }
            keep(2)
            guard await verify() != nil else { return "an arbiter of an earlier time is believed" }
            keep(0)
            guard await verify() != nil else { return "an empty arbiter is believed" }
            // No volume is made there either, whoever forgot to look.
            do throws(VolumeError) {
                try await Headhunter.create(
                    world: world, store: ObjectStore(rig.decided, world: world, loop: world.loops[0]), prefix: "v")
                return "a volume above another one"
            } catch { return rig.arbiter.values.withLock { $0.isEmpty } ? nil : "\(error)" }
        }
    }

    /// What tries left goes when its number is behind; what counts, and what may still get its name, stays.
    @Test func triesAreCollected() throws {
        try run(seed: 8) { world in
            let rig = Rig(world)
            for number in 1...3 {
                _ = await rig.decided.perform(
                    StoreRequest(
                        .object(
                            try Self.name("v/slot/000000000000000\(number)"), .put(.blocks([Self.block(1)]), .absent))))
            }
            let kept = Set(rig.store.memory.objects.keys)
            guard kept.count == 3 else { return "\(kept)" }
            var tries: [ObjectName] = []
            for (number, token) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
                let name = try Self.name("v/slot/000000000000000\(number).000000000000000\(token)")
                _ = await rig.store.memory.perform(StoreRequest(.object(name, .put(.blocks([Self.block(2)]), .always))))
                tries.append(name)
            }
            rig.arbiter.isAway.withLock { $0 = true }
            await rig.decided.collect(below: "v/slot/")
            guard rig.store.memory.objects.count == 7 else { return "it deletes what nobody can tell" }
            rig.arbiter.isAway.withLock { $0 = false }
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            await rig.decided.collect(below: "v/slot/")
            let left = Set(rig.store.memory.objects.keys)
            return left == kept.union(tries[2...]) ? nil : "\(left.subtracting(kept))"
        }
    }

    /// Names of another store's objects, under the same address, lead to nothing: then nothing is opened.
    @Test func namesOfAnotherStore() throws {
        try run(seed: 9) { world in
            let rig = Rig(world)
            let header = try Self.name("v/header/0000000000000001")
            _ = await rig.decided.perform(StoreRequest(.object(header, .put(.blocks([Self.block(7)]), .absent))))
            let other = ArbitratedStore(LastWriterStore(world), arbiter: rig.arbiter, random: world.random) { _ in true
            }
            guard let failure = await other.verify(prefix: "v/", headers: "v/header/") else { return "it is opened" }
            guard failure.reason.contains("arbiter_prefix") else { return failure.reason }
            return await rig.decided.verify(prefix: "v/", headers: "v/header/") == nil ? nil : "its own is not known"
        }
    }

    /// A name that has been given anew while its object was being deleted is not taken away.
    @Test func whatChangedMeanwhileStays() throws {
        try run(seed: 10) { world in
            let rig = Rig(world)
            let name = try Self.name("v/slot/1")
            _ = await rig.decided.perform(StoreRequest(.object(name, .put(.blocks([Self.block(1)]), .absent))))
            let wasDeleted = Mutex(false)
            rig.arbiter.beforeRemoval.withLock {
                $0 = {
                    wasDeleted.withLock { $0 = rig.store.memory.objects.isEmpty }
                    rig.arbiter.values.withLock { $0["v/slot/1"] = "0000000000000001 1" }
                }
            }
            let status = await rig.decided.perform(StoreRequest(.object(name, .delete))).status
            guard wasDeleted.withLock({ $0 }) else { return "its object was not deleted first: \(status)" }
            return rig.arbiter.values.withLock { $0["v/slot/1"] } == "0000000000000001 1" ? nil : "it is gone"
        }
    }

    /// A name that the arbiter has is there, whatever one of the store's copies says.
    @Test func aCopyThatIsBehindIsAskedAgain() throws {
        try run(seed: 7) { world in
            let rig = Rig(world)
            let name = try Self.name("v/slot/1")
            _ = await rig.decided.perform(StoreRequest(.object(name, .put(.blocks([Self.block(1)]), .absent))))
            let stored = try #require(rig.store.memory.objects.keys.first)
            rig.store.memory.remove(stored)
            let behind = await rig.decided.perform(StoreRequest(.object(name, .get(nil)))).status
            _ = await rig.decided.perform(StoreRequest(.object(name, .delete)))
            let gone = await rig.decided.perform(StoreRequest(.object(name, .get(nil)))).status
            return behind == 503 && gone == 404 ? nil : "\(behind), \(gone)"
        }
    }
}

import Foundation
import Namespace
import Runtime
import S3
import Synchronization
import TestSupport
import Testing

/// What others do between two steps of a request: the clock, which a request asks in each of them, lets them come in.
@Suite struct RaceTests {
    private typealias Intruder = @Sendable (Volume, Caller) -> Void
    private static let start: Int64 = 1_900_000_000_000_000_000
    private static let second: Int64 = 1_000_000_000
    private static let stepsMax = 300

    private func set(_ site: Site, _ time: Int64) { site.clock.fixed.store(time, ordering: .relaxed) }

    private func retention(_ mode: String, _ time: Int64) -> [UInt8] {
        let until = Timestamp.extended(nanoseconds: time)
        return Array("<Retention><Mode>\(mode)</Mode><RetainUntilDate>\(until)</RetainUntilDate></Retention>".utf8)
    }

    /// Makes the request again and again, with the intruder before each of its steps in turn, until it has no more.
    private func beforeEachStep(
        _ site: Site, prepare: (String) async throws -> Intruder, request: (String) async throws -> Answer,
        check: (String, Answer) async throws -> Void
    ) async throws {
        for step in 1...Self.stepsMax {
            let key = "k\(step)"
            let intruder = try await prepare(key)
            let left = Guarded(step)
            let (loops, volume, now) = (site.world.loops, site.volume, site.clock.fixed.load(ordering: .relaxed))
            site.clock.look.withLock {
                $0 = {
                    guard let loop = loops.first(where: { $0.isCurrent }) else { return }
                    let isTurn = left.withLock { left -> Bool in
                        left -= 1
                        return left == 0
                    }
                    let request = Request(reader: loop.index, now: now)
                    if isTurn { intruder(volume, Caller(.root, request, isStateless: true, isServer: true)) }
                }
            }
            let answer = try await request(key)
            site.clock.look.withLock { $0 = nil }
            try await check(key, answer)
            if left.withLock({ $0 }) > 0 {
                #expect(step > 3)
                return
            }
        }
        Issue.record("a request of more than \(Self.stepsMax) steps")
    }

    /// Gives the file another lock in one step, as a request on another loop would. False: it is gone.
    private static func relock(
        _ volume: Volume, _ caller: Caller, _ file: FileID, _ change: (inout FileLock) -> Void
    ) -> Bool {
        guard case .done(let found, _) = volume.attributes(caller, file),
            case .done(let kept, _) = volume.extendedAttributes(
                caller, file, prefixes: [Array(FileLock.name.utf8)])
        else { return false }
        var lock = kept.first.map { FileLock($0.value) } ?? FileLock()
        change(&lock)
        if case .done = volume.setLock(caller, file, lock, since: found.change) { return true }
        return false
    }

    /// A version whose retention is over goes, unless a hold came first: then both the hold and the version are there.
    @Test(arguments: ["newest", "older", "newest of two"])
    func holdsAgainstRemoval(_ which: String) async throws {
        let site = try await Site()
        try site.versioned("bkt", lock: true)
        let ids = Guarded<[String: String]>([:])
        let held = Guarded(false)
        try await beforeEachStep(site) { key in
            set(site, Self.start)
            if which == "newest of two" { _ = try site.put("/bkt/\(key)", "before") }
            let id = try site.put("/bkt/\(key)", "content")
            ids.withLock { $0[key] = id }
            let file = try await site.find("bkt/\(key)").file
            let body = retention("COMPLIANCE", Self.start + Self.second)
            #expect(try site.request("PUT", "/bkt/\(key)?retention", body: body).status == 200)
            if which == "older" { _ = try site.put("/bkt/\(key)", "newer") }
            set(site, Self.start + 2 * Self.second)
            held.withLock { $0 = false }
            return { volume, caller in
                let isDone = Self.relock(volume, caller, file) { $0.isHeld = true }
                held.withLock { $0 = isDone }
            }
        } request: { key in
            try site.request("DELETE", "/bkt/\(key)?versionId=\(ids.withLock { $0[key] ?? "" })")
        } check: { (key: String, answer: Answer) async throws in
            let id = ids.withLock { $0[key] ?? "" }
            let hold = try site.request("GET", "/bkt/\(key)?legal-hold&versionId=\(id)")
            if held.withLock({ $0 }) {
                #expect(answer.code == "AccessDenied" && hold.element("Status") == "ON", "\(key)")
            } else {
                #expect(answer.status == 204 && hold.code == "NoSuchVersion", "\(key) \(answer.text)")
            }
        }
        try await site.close()
    }

    /// A request that gives less than what somebody else has given since it began takes nothing of that away.
    @Test(arguments: ["retention", "legal-hold"])
    func locksAgainstLocks(_ part: String) async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        let came = Guarded(false)
        let long = Self.start + 1000 * Self.second
        try await beforeEachStep(site) { key in
            _ = try site.put("/bkt/\(key)", "content")
            let file = try await site.find("bkt/\(key)").file
            came.withLock { $0 = false }
            return { volume, caller in
                let isDone = Self.relock(volume, caller, file) {
                    $0.retention = FileLock.Retention(mode: .compliance, until: long)
                }
                came.withLock { $0 = isDone }
            }
        } request: { key in
            let body =
                part == "retention"
                ? retention("GOVERNANCE", Self.start + Self.second)
                : Array("<LegalHold><Status>ON</Status></LegalHold>".utf8)
            return try site.request("PUT", "/bkt/\(key)?\(part)", body: body)
        } check: { (key: String, answer: Answer) async throws in
            guard came.withLock({ $0 }) else { return }
            let found = try site.request("GET", "/bkt/\(key)?retention")
            #expect(found.element("Mode") == "COMPLIANCE", "\(key) \(answer.status)")
            #expect(found.element("RetainUntilDate") == Timestamp.extended(nanoseconds: long))
            if part == "legal-hold" {
                #expect(answer.status == 200)
                #expect(try site.request("GET", "/bkt/\(key)?legal-hold").element("Status") == "ON", "\(key)")
            }
        }
        try await site.close()
    }

    /// From the moment on that a bucket keeps versions, none is lost, also by a request that began before.
    @Test(arguments: ["PUT", "DELETE", "POST"])
    func versioningAgainstWriters(_ method: String) async throws {
        let site = try await Site()
        set(site, Self.start)
        let wasThere = Guarded(false)
        try await beforeEachStep(site) { key in
            _ = try site.request("PUT", "/bkt-\(key)")
            _ = try site.put("/bkt-\(key)/d/k", "old")
            let bucket = try await site.find("bkt-\(key)").file
            let home = try await site.find("bkt-\(key)/d").file
            wasThere.withLock { $0 = false }
            return { volume, caller in
                let word = volume.changingVersions {
                    volume.setExtendedAttribute(
                        caller, bucket, "proxyfs.bucket.versioning", Array("Enabled".utf8))
                }
                let there = Array("k".utf8).withUnsafeBytes { volume.lookup(caller, in: home, $0) }
                if case .done = word, case .done(let file, _) = there, file.size == 3 {
                    wasThere.withLock { $0 = true }
                }
            }
        } request: { key in
            guard method == "POST" else {
                return try site.request(method, "/bkt-\(key)/d/k", body: method == "PUT" ? Array("newer".utf8) : [])
            }
            let list = Array("<Delete><Object><Key>d/k</Key></Object></Delete>".utf8)
            return try site.request("POST", "/bkt-\(key)?delete", [("content-md5", Site.md5(list))], body: list)
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status < 300, "\(key) \(answer.text)")
            if wasThere.withLock({ $0 }) {
                #expect(try site.request("GET", "/bkt-\(key)/d/k?versionId=null").text == "old", "\(key)")
            }
        }
        try await site.close()
    }

    /// A bucket does not go while a version comes to its shelf.
    @Test func shelvesAgainstRemovalOfBuckets() async throws {
        let site = try await Site()
        set(site, Self.start)
        let isShelved = Guarded(false)
        try await beforeEachStep(site) { key in
            try site.versioned("bkt-\(key)")
            _ = try site.put("/bkt-\(key)/other", "other")
            let mark = try #require(try site.request("DELETE", "/bkt-\(key)/other").field("x-amz-version-id"))
            // There is a shelf, and nothing on it.
            let all = try site.versions("/bkt-\(key)?versions")
            for entry in all {
                let id = entry.split(separator: " ")[1].filter { $0 != "*" }
                #expect(try site.request("DELETE", "/bkt-\(key)/other?versionId=\(id)").status == 204)
            }
            #expect(all.count == 2 && !mark.isEmpty)
            _ = try site.put("/bkt-\(key)/k", "content")
            let bucket = try await site.find("bkt-\(key)").file
            let file = try await site.find("bkt-\(key)/k")
            let shelfName = String(decoding: Volume.shelfName(of: bucket), as: UTF8.self)
            isShelved.withLock { $0 = false }
            let home = try await site.files(uid: 0) { volume, caller -> Attempt<FileID> in
                var caller = caller
                caller.isServer = true
                do throws(Halt) {
                    var place = volume.root
                    for name in [Volume.ownName, "versions", shelfName] {
                        place = try Array(name.utf8).withUnsafeBytes {
                            volume.lookup(caller, in: place, $0)
                        }.get().file
                    }
                    return .done(place, number: 0)
                } catch {
                    switch error {
                    case .refused(let error): return .refused(error)
                    case .lacks(let lack): return .lacks(lack)
                    }
                }
            }
            return { volume, caller in
                let place = Shelf(directory: home, name: Array("left".utf8))
                let attempt = volume.goingByVersions {
                    Array("k".utf8).withUnsafeBytes {
                        volume.withdraw(
                            caller, in: bucket, $0, expected: .file(file.file, change: file.change), to: place)
                    }
                }
                if case .done = attempt { isShelved.withLock { $0 = true } }
            }
        } request: { key in
            try site.request("DELETE", "/bkt-\(key)")
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.code == "BucketNotEmpty", "\(key) \(answer.text)")
            #expect(try site.request("HEAD", "/bkt-\(key)").status == 200)
        }
        #expect(isShelved.withLock { $0 } == false)
        try await site.close()
    }

    /// A version that has come back to its key meanwhile goes all the same when its removal is answered.
    @Test func removalsAgainstThoseThatComeBack() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt")
        let ids = Guarded<[String: String]>([:])
        try await beforeEachStep(site) { key in
            let first = try site.put("/bkt/\(key)", "first")
            let older = try await site.find("bkt/\(key)")
            ids.withLock { $0[key] = first }
            _ = try site.put("/bkt/\(key)", "second")
            let newer = try await site.find("bkt/\(key)")
            let home = try await site.find("bkt").file
            let path = ShelfPath(
                key: Array(key.utf8), id: try #require(VersionID(first)), time: try #require(Self.time(first)),
                isMark: false)
            return { volume, caller in
                guard case .done(let there?, _) = volume.fileSystem.whereabouts(caller.request, of: older.file) else {
                    return
                }
                let shelf = Shelf(directory: there.directory, name: path.bytes)
                _ = Array(key.utf8).withUnsafeBytes {
                    volume.unshelve(
                        caller, shelf, to: home, $0, expected: .judged(newer.file, change: newer.change))
                }
            }
        } request: { key in
            try site.request("DELETE", "/bkt/\(key)?versionId=\(ids.withLock { $0[key] ?? "" })")
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status == 204)
            let left = try site.versions("/bkt?versions&prefix=\(key)")
            #expect(!left.contains { $0.contains(ids.withLock { $0[key] ?? "" }) }, "\(key) \(left)")
        }
        try await site.close()
    }

    private static func time(_ id: String) -> UInt64? { UInt64(id.prefix(16), radix: 16).map { ~$0 } }

    /// The mark takes the null version's place in one change: one null version, whatever comes between.
    @Test func marksAgainstChanges() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", "Suspended")
        try await beforeEachStep(site) { key in
            _ = try site.put("/bkt/\(key)", "content")
            let file = try await site.find("bkt/\(key)").file
            return { volume, caller in
                var new = NewAttributes()
                new.mode = 0o600
                _ = volume.setAttributes(caller, file, new)
            }
        } request: { key in
            try site.request("DELETE", "/bkt/\(key)")
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status == 204)
            #expect(try site.versions("/bkt?versions&prefix=\(key)") == ["-\(key) null*"])
        }
        try await site.close()
    }

    /// What was allowed before a lock came changes nothing after it.
    @Test func locksAgainstDataChanges() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        let loop = site.world.loops[1]
        for change in ["resize", "punch", "clone", "write", "stream"] {
            _ = try site.put("/bkt/\(change)", String(repeating: "x", count: 100_000))
            let file = try await site.find("bkt/\(change)").file
            // What somebody has written and not flushed is a part of what is locked.
            _ = try await site.files { volume, caller in
                [UInt8](Array("Y".utf8)).withUnsafeBytes { volume.write(caller, file, at: 0, $0) }
            }
            var cut = NewAttributes()
            cut.size = 5
            let wanted = cut
            let allowed = try await site.files { volume, caller in volume.mayResize(caller, file, wanted) }
            _ = try await site.files { volume, caller in volume.mayWrite(caller, file, at: 0, count: 10) }
            let hold = Array("<LegalHold><Status>ON</Status></LegalHold>".utf8)
            #expect(try site.request("PUT", "/bkt/\(change)?legal-hold", body: hold).status == 200)
            let volume = site.volume
            let request = Request(reader: 1, now: Self.start)
            let refused = await loop.task { () async -> FileError? in
                let caller = Caller(Credential(uid: 10_000, gid: 10_000), request)
                func error<Value>(_ attempt: Attempt<Value>) -> FileError? {
                    if case .refused(let error) = attempt { return error }
                    return nil
                }
                do throws(FileError) {
                    switch change {
                    case "resize": _ = try await volume.resize(request, file, to: 5, allowed)
                    case "punch": _ = try await volume.punch(caller, file, at: 0, length: 10)
                    case "clone": _ = try await volume.clone(caller, file, at: 0, length: 10, to: file, at: 50_000)
                    case "write":
                        return [UInt8](Array("Z".utf8)).withUnsafeBytes {
                            error(volume.fileSystem.write(request, file, at: 0, $0))
                        }
                    default:
                        return Array("s".utf8).withUnsafeBytes {
                            error(volume.fileSystem.createStream(request, of: file, $0))
                        }
                    }
                } catch { return error }
                return nil
            }.value
            #expect(refused == .notPermitted, "\(change)")
            let answer = try site.request("GET", "/bkt/\(change)")
            #expect(answer.text == "Y" + String(repeating: "x", count: 99_999), "\(change)")
        }
        try await site.close()
    }

    /// Streams and attributes of what is locked are part of it; a lock that has ended ends with the first change.
    @Test func streamsOfLockedFiles() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        _ = try site.put("/bkt/k", "content")
        let file = try await site.find("bkt/k").file
        let name = Array("s".utf8)
        @Sendable func with<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value { name.withUnsafeBytes(body) }
        let stream = try await site.files { volume, caller in with { volume.createStream(caller, of: file, $0) } }.file
        let body = retention("COMPLIANCE", Self.start + Self.second)
        #expect(try site.request("PUT", "/bkt/k?retention", body: body).status == 200)
        let changes: [@Sendable (Volume, Caller) -> Attempt<Void>] = [
            { volume, caller in with { volume.removeStream(caller, of: file, $0) } },
            { volume, caller in
                switch Array("t".utf8).withUnsafeBytes({ volume.createStream(caller, of: file, $0) }) {
                case .done: .done((), number: 0)
                case .refused(let error): .refused(error)
                case .lacks(let lack): .lacks(lack)
                }
            },
            { volume, caller in
                switch with({ volume.write(caller, stream, at: 0, $0) }) {
                case .done: .done((), number: 0)
                case .refused(let error): .refused(error)
                case .lacks(let lack): .lacks(lack)
                }
            },
            { volume, caller in
                switch volume.setExtendedAttribute(caller, file, "user.x", [1]) {
                case .done: .done((), number: 0)
                case .refused(let error): .refused(error)
                case .lacks(let lack): .lacks(lack)
                }
            },
        ]
        for (index, change) in changes.enumerated() {
            await #expect(throws: FileError.notPermitted, "\(index)") { _ = try await site.files(change) }
        }
        #expect(try await site.find("bkt/k").isLocked)
        set(site, Self.start + 2 * Self.second)
        _ = try await site.files(changes[2])
        #expect(try await site.find("bkt/k").isLocked == false)
        for change in [changes[1], changes[3], changes[0]] { _ = try await site.files(change) }
        try await site.close()
    }

    /// A body that takes its time is not put in its place by what the bucket said when it began.
    @Test func slowBodies() async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/bkt")
        let body = Array("slow".utf8)
        let peer = try Peer(site.listener.address)
        peer.send(Array(site.signed("PUT", "/bkt/k", body: body).utf8) + body.prefix(1))
        _ = try site.put("/bkt/k", "before")
        try site.versioned("bkt")
        let id = try site.put("/bkt/k", "answered")
        let rule =
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        #expect(try site.request("PUT", "/bkt?object-lock", body: Array(rule.utf8)).status == 200)
        peer.send(Array(body.dropFirst()))
        let answer = Site.answer(peer)
        #expect(answer.status == 200)
        let newest = try #require(answer.field("x-amz-version-id"))
        #expect(try site.request("GET", "/bkt/k?versionId=\(id)").text == "answered")
        #expect(try site.request("GET", "/bkt/k?versionId=null").text == "before")
        #expect(try site.request("GET", "/bkt/k?retention&versionId=\(newest)").element("Mode") == "GOVERNANCE")
        try await site.close()
    }
}

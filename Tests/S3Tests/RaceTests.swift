import Crypto
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

    /// Of two who want to be the first to make an object of a directory one is told that he is not.
    @Test func directoriesAgainstEachOther() async throws {
        let site = try await Site()
        set(site, Self.start)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let isFirst = Guarded(false)
        var answers: Set<Int> = []
        try await beforeEachStep(site) { key in
            _ = try site.put("/bkt/\(key)/below", "content")
            let directory = try await site.find("bkt/\(key)").file
            isFirst.withLock { $0 = false }
            return { volume, caller in
                guard case .done(let found, _) = volume.attributes(caller, directory), found.isImplied,
                    case .done = volume.setImplied(caller, directory, false)
                else { return }
                isFirst.withLock { $0 = true }
            }
        } request: { key in
            try site.request("PUT", "/bkt/\(key)/", [("if-none-match", "*"), ("x-amz-meta-a", "1")])
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status == (isFirst.withLock { $0 } ? 412 : 200), "\(key)")
            answers.insert(answer.status)
        }
        #expect(answers == [200, 412])
        try await site.close()
    }

    /// What `If-Match` was about is the directory that was found then, and no other of its name.
    @Test func directoriesOfAnotherIdentity() async throws {
        let site = try await Site()
        set(site, Self.start)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let bucket = try await site.find("bkt").file
        var answers: Set<Int> = []
        try await beforeEachStep(site) { key in
            let made = try site.request("PUT", "/bkt/\(key)/")
            #expect(made.status == 200)
            return { volume, caller in
                Array(key.utf8).withUnsafeBytes {
                    _ = volume.remove(caller, in: bucket, $0, isDirectory: true)
                    _ = volume.create(caller, in: bucket, $0, NewFile(type: .directory, mode: 0o777))
                }
            }
        } request: { key in
            let tag = "\"d41d8cd98f00b204e9800998ecf8427e\""
            return try site.request("PUT", "/bkt/\(key)/", [("if-match", tag), ("x-amz-meta-a", "1")])
        } check: { (key: String, answer: Answer) async throws in
            let found = try site.request("HEAD", "/bkt/\(key)/")
            #expect(found.status == 200)
            // Whose that is, is what was asked for, as a whole or not at all.
            if answer.status != 200 { #expect(found.field("x-amz-meta-a") == nil, "\(key) \(answer.status)") }
            answers.insert(answer.status)
        }
        #expect(answers == [200, 412])
        try await site.close()
    }

    /// A deletion that was told is not undone by who expects the object of before.
    @Test func directoriesThatAreDeletedStayDeleted() async throws {
        let site = try await Site()
        set(site, Self.start)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let isDeleted = Guarded(false)
        var answers: Set<Int> = []
        try await beforeEachStep(site) { key in
            #expect(try site.request("PUT", "/bkt/\(key)/").status == 200)
            // Something lies in it, so the directory stays.
            #expect(try site.request("PUT", "/bkt/\(key)/inside").status == 200)
            let directory = try await site.find("bkt/\(key)").file
            isDeleted.withLock { $0 = false }
            return { volume, caller in
                _ = volume.setImplied(caller, directory, true)
                isDeleted.withLock { $0 = true }
            }
        } request: { key in
            let tag = "\"d41d8cd98f00b204e9800998ecf8427e\""
            return try site.request("PUT", "/bkt/\(key)/", [("if-match", tag), ("x-amz-meta-a", "1")])
        } check: { (key: String, answer: Answer) async throws in
            let found = try site.request("HEAD", "/bkt/\(key)/")
            #expect(found.status == (isDeleted.withLock { $0 } ? 404 : 200), "\(key) \(answer.status)")
            answers.insert(answer.status)
        }
        #expect(answers.isSuperset(of: [200, 412]), "\(answers)")
        try await site.close()
    }

    /// Two who give one directory other metadata: in the end it has what one of them said.
    @Test func metadataOfDirectoriesIsOneRequests() async throws {
        let site = try await Site()
        set(site, Self.start)
        #expect(try site.request("PUT", "/bkt").status == 200)
        try await beforeEachStep(site) { key in
            let made = try site.request("PUT", "/bkt/\(key)/", [("x-amz-meta-c", "0")])
            #expect(made.status == 200)
            let directory = try await site.find("bkt/\(key)").file
            return { volume, caller in
                for (name, value) in [("user.a", [0x32]), ("user.b", [0x32]), ("user.c", nil)] as [(String, [UInt8]?)] {
                    _ = volume.setExtendedAttribute(caller, directory, name, value)
                }
            }
        } request: { key in
            try site.request("PUT", "/bkt/\(key)/", [("x-amz-meta-a", "1"), ("x-amz-meta-b", "1")])
        } check: { (key: String, answer: Answer) async throws in
            let found = try site.request("HEAD", "/bkt/\(key)/")
            #expect(answer.status == 200 && found.field("x-amz-meta-a") == found.field("x-amz-meta-b"), "\(key)")
            #expect(found.field("x-amz-meta-a") != nil && found.field("x-amz-meta-c") == nil, "\(key)")
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
        let wasShelved = Guarded(false)
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
                guard case .done = attempt else { return }
                isShelved.withLock { $0 = true }
                wasShelved.withLock { $0 = true }
            }
        } request: { key in
            try site.request("DELETE", "/bkt-\(key)")
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.code == "BucketNotEmpty", "\(key) \(answer.text)")
            #expect(try site.request("HEAD", "/bkt-\(key)").status == 200)
        }
        #expect(wasShelved.withLock { $0 })
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

    /// What is read is what the answer speaks of, also while a file client writes in place.
    @Test(arguments: [1000, 300_000, 3_000_000])
    func readsAgainstWritesInPlace(_ size: Int) async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/bkt")
        let old = [UInt8](repeating: 1, count: size)
        let new = [UInt8](repeating: 2, count: size)
        try await beforeEachStep(site) { key in
            #expect(try site.request("PUT", "/bkt/\(key)", body: old).status == 200)
            let file = try await site.find("bkt/\(key)").file
            return { volume, caller in
                // From the end on, so that a change of the first bytes alone is not what shows.
                for start in stride(from: 0, to: size, by: 500_000).reversed() {
                    new[start..<min(size, start + 500_000)].withUnsafeBytes {
                        _ = volume.write(caller, file, at: UInt64(start), $0)
                    }
                }
            }
        } request: { key in
            try site.request("GET", "/bkt/\(key)")
        } check: { (key: String, answer: Answer) async throws in
            guard answer.body.count == size else {
                // It broke off: nobody takes it for a whole one.
                #expect(answer.status == 200 && size > 1_000_000, "\(key) \(answer.status)")
                return
            }
            let isSealed = answer.field("etag") == "\"\(Hexadecimal.encode(Digest.of(.md5, old)))\""
            #expect(answer.body == (isSealed ? old : new), "\(key)")
        }
        try await site.close()
    }

    /// S3 has no opens: it is let in and kept out as others without a handle are (docs/sharing.md).
    @Test func readsAgainstOpens() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        _ = try site.put("/bkt/k", "content")
        let file = try await site.find("bkt/k").file
        let opened = try await site.files { volume, caller in
            volume.open(caller, file, OpenIntent(.open, access: [.readData], shared: [.write, .delete], client: 1))
        }
        for fields in [[], [("range", "bytes=0-1")]] {
            let answer = try site.request("GET", "/bkt/k", fields)
            #expect(answer.status == 409 && answer.code == "OperationAborted", "\(answer.status)")
        }
        #expect(try site.request("PUT", "/bkt/c", [("x-amz-copy-source", "/bkt/k")]).status == 409)
        #expect(try site.request("HEAD", "/bkt/k").status == 200)
        let handle = opened.handle
        _ = try await site.files { volume, caller in
            var caller = caller
            caller.handle = handle
            return volume.close(caller, handle)
        }
        #expect(try site.request("GET", "/bkt/k").text == "content")
        try await site.close()
    }

    /// An upload that is given up meanwhile is no upload, whatever the step.
    @Test(arguments: [10, 400_000])
    func partsAgainstTheirEnd(_ size: Int) async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/bkt")
        let ids = Guarded<[String: String]>([:])
        try await beforeEachStep(site) { key in
            let id = try #require(try site.request("POST", "/bkt/\(key)?uploads").element("UploadId"))
            ids.withLock { $0[key] = id }
            return { volume, caller in
                guard let home = Self.uploads(volume, caller) else { return }
                _ = Array(id.utf8).withUnsafeBytes { volume.remove(caller, in: home, $0, isDirectory: true) }
            }
        } request: { key in
            let id = ids.withLock { $0[key] ?? "" }
            return try site.request(
                "PUT", "/bkt/\(key)?partNumber=1&uploadId=\(id)", body: [UInt8](repeating: 1, count: size))
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status == 200 || answer.code == "NoSuchUpload", "\(key) \(answer.code)")
        }
        try await site.close()
    }

    /// The directory of the only bucket's uploads.
    private static func uploads(_ volume: Volume, _ caller: Caller) -> FileID? {
        var place = volume.root
        for name in [Volume.ownName, "uploads"] {
            guard case .done(let found, _) = Array(name.utf8).withUnsafeBytes({ volume.lookup(caller, in: place, $0) })
            else { return nil }
            place = found.file
        }
        var home: FileID?
        _ = volume.list(caller, place, after: 0, limit: 1, attributes: true) { entry, _ in
            home = entry.attributes?.file
            return false
        }
        return home
    }

    /// An upload is given up though a part of it comes in the same moment.
    @Test func endsAgainstParts() async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/bkt")
        let ids = Guarded<[String: String]>([:])
        try await beforeEachStep(site) { key in
            let id = try #require(try site.request("POST", "/bkt/\(key)?uploads").element("UploadId"))
            ids.withLock { $0[key] = id }
            return { volume, caller in
                guard let home = Self.uploads(volume, caller),
                    case .done(let upload, _) = Array(id.utf8).withUnsafeBytes({ volume.lookup(caller, in: home, $0) })
                else { return }
                _ = Array("00001".utf8).withUnsafeBytes {
                    volume.place(
                        caller, in: upload.file, $0, UnsafeRawBufferPointer(start: nil, count: 0),
                        NewFile(type: .file, mode: 0o600), seal: nil)
                }
            }
        } request: { key in
            try site.request("DELETE", "/bkt/\(key)?uploadId=\(ids.withLock { $0[key] ?? "" })")
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status == 204, "\(key) \(answer.text)")
            #expect(try site.request("GET", "/bkt?uploads").elements("UploadId").isEmpty, "\(key)")
        }
        try await site.close()
    }

    /// One object, or version, comes of an upload, however often its completion is asked for.
    @Test func completionsAgainstEachOther() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        for round in 0..<20 {
            let upload = try #require(try site.request("POST", "/bkt/k\(round)?uploads").element("UploadId"))
            let target = "/bkt/k\(round)?partNumber=1&uploadId=\(upload)"
            let tag = try site.request("PUT", target, body: [1]).field("etag") ?? ""
            let list = Array(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(tag)</ETag></Part></CompleteMultipartUpload>"
                    .utf8)
            let peers = try (0..<4).map { _ in try Peer(site.listener.address) }
            for peer in peers {
                peer.send(Array(site.signed("POST", "/bkt/k\(round)?uploadId=\(upload)", body: list).utf8) + list)
            }
            let answers = peers.map { Site.answer($0) }
            let isEach = answers.allSatisfy { $0.status == 200 || $0.code == "OperationAborted" }
            #expect(isEach, "\(answers.map(\.text))")
            #expect(answers.contains { $0.status == 200 })
            #expect(
                try site.versions("/bkt?versions&prefix=k\(round)").filter { $0.hasPrefix("k\(round) ") }.count == 1)
            let again = try site.request("POST", "/bkt/k\(round)?uploadId=\(upload.uppercased())", body: list)
            #expect(again.status == 200, "\(again.text)")
        }
        try await site.close()
    }

    /// From the first moment on a bucket has the lock that it is made with.
    @Test func bucketsHaveTheirLockFromTheBeginning() async throws {
        let site = try await Site()
        set(site, Self.start)
        let isBare = Guarded(false)
        try await beforeEachStep(site) { key in
            { volume, caller in
                let found = Array("bkt-\(key)".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
                guard case .done(let bucket, _) = found,
                    case .done(let settings, _) = volume.extendedAttributes(
                        caller, bucket.file, prefixes: [Array("proxyfs.bucket.lock".utf8)])
                else { return }
                if settings.isEmpty { isBare.withLock { $0 = true } }
            }
        } request: { key in
            try site.request("PUT", "/bkt-\(key)", [("x-amz-bucket-object-lock-enabled", "true")])
        } check: { (key: String, answer: Answer) async throws in
            #expect(answer.status == 200)
            #expect(!isBare.withLock { $0 }, "\(key)")
        }
        try await site.close()
    }

    /// The way to a locked object keeps its names, whatever comes between: also when the object comes back to its key.
    @Test(arguments: ["PUT", "retention", "undelete"])
    func locksAgainstRenames(_ what: String) async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        let until = Timestamp.extended(nanoseconds: Self.start + 1000 * Self.second)
        let fields = [("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", until)]
        let marks = Guarded<[String: String]>([:])
        let bucket = try await site.find("bkt").file
        try await beforeEachStep(site) { key in
            switch what {
            case "PUT": break
            case "retention": _ = try site.put("/bkt/\(key)/k", "content")
            default:
                #expect(try site.request("PUT", "/bkt/\(key)/k", fields, body: [1]).status == 200)
                let mark = try #require(try site.request("DELETE", "/bkt/\(key)/k").field("x-amz-version-id"))
                marks.withLock { $0[key] = mark }
            }
            return { volume, caller in
                var caller = caller
                caller.isServer = false
                Array(key.utf8).withUnsafeBytes { name in
                    Array("away-\(key)".utf8).withUnsafeBytes {
                        _ = volume.rename(caller, from: bucket, name, to: bucket, $0)
                    }
                }
            }
        } request: { key in
            switch what {
            case "PUT": try site.request("PUT", "/bkt/\(key)/k", fields, body: [1])
            case "retention":
                try site.request(
                    "PUT", "/bkt/\(key)/k?retention", body: retention("COMPLIANCE", Self.start + 1000 * Self.second))
            default: try site.request("DELETE", "/bkt/\(key)/k?versionId=\(marks.withLock { $0[key] ?? "" })")
            }
        } check: { (key: String, answer: Answer) async throws in
            guard answer.status < 300 else {
                #expect(answer.status == 404 || answer.status == 409, "\(key) \(answer.text)")
                return
            }
            #expect(try site.request("GET", "/bkt/\(key)/k").field("x-amz-object-lock-mode") == "COMPLIANCE", "\(key)")
            let refusal = await #expect(throws: FileError.self) {
                _ = try await site.files(uid: 0) { volume, caller in
                    Array(key.utf8).withUnsafeBytes { name in
                        Array("later-\(key)".utf8).withUnsafeBytes {
                            volume.rename(caller, from: bucket, name, to: bucket, $0)
                        }
                    }
                }
            }
            #expect(refusal == .notPermitted, "\(key)")
        }
        try await site.close()
    }

    /// What was written to a stream and not flushed is a part of what is locked.
    @Test func locksAgainstUnflushedStreams() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        _ = try site.put("/bkt/k", "content")
        let file = try await site.find("bkt/k").file
        let name = Array("s".utf8)
        let stream = try await site.files { volume, caller in
            name.withUnsafeBytes { volume.createStream(caller, of: file, $0) }
        }.file
        // What the trees know of.
        @Sendable func used(_ volume: Volume, _ caller: Caller) -> Attempt<UInt64> {
            switch volume.fileSystem.space(caller.request) {
            case .done(let space, _): .done(space.bytes - space.bytesFree, number: 0)
            case .refused(let error): .refused(error)
            case .lacks(let lack): .lacks(lack)
            }
        }
        let empty = try await site.files(used)
        _ = try await site.files { volume, caller in
            name.withUnsafeBytes { volume.write(caller, stream, at: 9, $0) }
        }
        let before = try await site.find("bkt/k").change
        let hold = Array("<LegalHold><Status>ON</Status></LegalHold>".utf8)
        #expect(try site.request("PUT", "/bkt/k?legal-hold", body: hold).status == 200)
        let locked = try await site.find("bkt/k")
        #expect(locked.change > before)
        // Nothing is left to come.
        #expect(try await site.files(used) == empty + 10)
        try await site.close()
    }

    private final class Counts: Sendable {
        let isAlone = Atomic(false)
        let together = Atomic(0)
        let mostTogether = Atomic(0)
        let broken = Atomic(0)
        let rounds = Atomic(0)
        let isOver = Atomic(false)
    }

    /// Who changes a bucket's word is alone with it and gets his turn, however many go by it; those do so together.
    @Test func wordsAreChangedAlone() async throws {
        let site = try await Site()
        let volume = site.volume
        let counts = Counts()
        let readers = (0..<3).map { _ in
            Thread {
                while !counts.isOver.load(ordering: .relaxed) {
                    _ = volume.goingByVersions { () -> Attempt<Void> in
                        let count = counts.together.add(1, ordering: .sequentiallyConsistent).newValue
                        if counts.isAlone.load(ordering: .sequentiallyConsistent) {
                            counts.broken.add(1, ordering: .relaxed)
                        }
                        if count > 1 { counts.mostTogether.store(count, ordering: .relaxed) }
                        usleep(200)
                        counts.together.subtract(1, ordering: .sequentiallyConsistent)
                        return .done((), number: 0)
                    }
                }
            }
        }
        let writer = Thread {
            while counts.rounds.load(ordering: .relaxed) < 100 {
                _ = volume.changingVersions { () -> Attempt<Void> in
                    counts.isAlone.store(true, ordering: .sequentiallyConsistent)
                    if counts.together.load(ordering: .sequentiallyConsistent) > 0 {
                        counts.broken.add(1, ordering: .relaxed)
                    }
                    usleep(200)
                    counts.isAlone.store(false, ordering: .sequentiallyConsistent)
                    return .done((), number: 0)
                }
                counts.rounds.add(1, ordering: .relaxed)
            }
        }
        for thread in readers + [writer] { thread.start() }
        for _ in 0..<500 where counts.rounds.load(ordering: .relaxed) < 100 {
            try await Task.sleep(for: .milliseconds(20))
        }
        counts.isOver.store(true, ordering: .relaxed)
        #expect(counts.rounds.load(ordering: .relaxed) == 100, "it did not get its turn")
        #expect(counts.broken.load(ordering: .relaxed) == 0)
        #expect(counts.mostTogether.load(ordering: .relaxed) > 1)
        while !(readers + [writer]).allSatisfy(\.isFinished) { try await Task.sleep(for: .milliseconds(5)) }
        try await site.close()
    }
}

import Headhunter
import LogFS
import Runtime
import Simulator
import Testing
import Trials

/// Single features at their limits and beyond.
struct FeatureTests {
    private func make(_ files: LogFS, _ name: String, _ type: FileType = .file, in home: FileID? = nil) async throws
        -> FileID
    {
        try await outcome(files) { request in
            with(Array(name.utf8)) {
                files.create(request, in: home ?? files.rootID, $0, NewFile(type: type, mode: 0o644, uid: 0, gid: 0))
            }
        }.get().inode.id
    }

    private func write(_ files: LogFS, _ id: FileID, _ bytes: [UInt8], at offset: UInt64) async throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try await files.writeAll(id, at: offset, UnsafeRawBufferPointer(memory), now: 5)
    }

    private func read(_ files: LogFS, _ id: FileID, at offset: UInt64, _ count: Int) async throws -> [UInt8] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        defer { memory.deallocate() }
        let got = try await files.readAll(id, at: offset, into: memory)
        return Array(memory[..<got])
    }

    private func expectSound(_ files: LogFS) async throws {
        try await files.flushAll()
        let check = try await Check.run(files)
        #expect(check.differences == [])
    }

    /// Who read a file's record before it was flushed, and looks for what was not flushed behind that, finds neither: he looks again.
    @Test func aFlushBetweenTwoLooksIsSeen() {
        Bench.files { files, _ in
            let id = try await make(files, "f")
            try await write(files, id, [UInt8](repeating: 1, count: 100_000), at: 0)
            let before = files.glance
            let reader = files.headhunter.loop.index
            var size: UInt64 = 0
            #expect(files.showOverlaid(reader, id, since: before) { size = $0.size } != nil)
            #expect(size == 100_000)
            try await files.flushAll()
            size = 0
            #expect(files.showOverlaid(reader, id, since: before) { size = $0.size } != nil)
            #expect(size == 100_000)
            #expect(files.showOverlaid(reader, id, since: files.glance) { _ in } == nil)
        }
    }

    /// A file that was looked up a moment ago is opened without a second look only if nothing has happened to any since.
    @Test func whatWasFoundIsOpenedIfNothingHasChanged() {
        Bench.files { files, _ in
            let id = try await make(files, "f")
            var newest = files.headhunter.log.last
            #expect(files.open(id, unchangedSince: newest))
            // It is open: it outlives its name.
            _ = try await outcome(files) { request in with([0x66]) { files.unlink(request, in: files.rootID, $0) } }
                .get()
            #expect(!files.open(id, unchangedSince: newest))
            #expect(try await outcome(files) { files.attributes($0, id) }.get().links == 0)
            _ = try await outcome(files) { files.close($0, id) }.get()
            let isGone = try await outcome(files) { files.attributes($0, id) }
            #expect(isGone == .failure(.stale))
            // What was written and not flushed has no number.
            let other = try await make(files, "g")
            newest = files.headhunter.log.last
            try await write(files, other, [1, 2, 3], at: 0)
            #expect(files.headhunter.log.last == newest && !files.open(other, unchangedSince: newest))
            try await files.flushAll()
            #expect(!files.open(other, unchangedSince: newest))
            #expect(files.open(other, unchangedSince: files.headhunter.log.last))
            _ = try await outcome(files) { files.close($0, other) }.get()
            try await expectSound(files)
        }
    }

    /// An empty file becomes a symbolic link, and a link leads elsewhere: number, name, sums and what was kept of it stay sound.
    @Test func aFileBecomesALink() {
        Bench.files { files, _ in
            func become(_ id: FileID, _ target: Int) async throws -> Result<Inode, FileError> {
                try await outcome(files) { request in
                    with([UInt8](repeating: 0x74, count: target)) { files.makeLink(request, id, $0) }
                }
            }
            func target(_ id: FileID) async throws -> Int {
                try await outcome(files) { files.target($0, id) }.get().count
            }
            let home = try await make(files, "home", .directory)
            for (name, bytes) in [("never", 0), ("inline", 10), ("Extents", 100_000)] {
                let id = try await make(files, name, in: home)
                if bytes > 0 {
                    try await write(files, id, [UInt8](repeating: 1, count: bytes), at: 0)
                    try await files.flush(id.inode)
                    #expect(try await become(id, 3) == .failure(.invalid))
                    try await files.resize(id, to: 0, now: 6)
                }
                let before = try await outcome(files) { files.attributes($0, home) }.get()
                let link = try await become(id, 3).get()
                // Who keeps the listing of its directory sees by that that it is another now; where it leads is no matter of it.
                let after = try await outcome(files) { files.attributes($0, home) }.get()
                #expect(after.change > before.change)
                #expect(link.id == id && link.type == .symlink && link.size == 3 && link.mode == 0o777)
                #expect(try await target(id) == 3)
                let found = try await outcome(files) { request in
                    with(Array(name.utf8)) { files.lookup(request, in: home, $0) }
                }.get()
                #expect(found == link)
                _ = try await become(id, 3).get()
                #expect(try await outcome(files) { files.attributes($0, home) }.get().change == after.change)
                for length in [Limits.targetBytesMax, 1, 3001, 3000] {
                    #expect(try await become(id, length).get().size == length)
                    #expect(try await target(id) == length)
                    try await expectSound(files)
                }
                #expect(try await become(id, Limits.targetBytesMax + 1) == .failure(.nameTooLong))
                #expect(try await become(id, 0) == .failure(.invalid))
                // No write goes in any more.
                let written = try await outcome(files) { request in
                    with([1]) { files.write(request, id, at: 0, $0) }
                }
                if case .failure(let error) = written {
                    #expect(error == .wrongType)
                } else {
                    Issue.record("it was written")
                }
            }
            #expect(try await outcome(files) { files.totals($0, home) }.get().bytes == 9000)
            // What has a second name, a stream or another type stays what it is.
            let linked = try await make(files, "linked")
            _ = try await outcome(files) { request in with([0x32]) { files.link(request, linked, in: files.rootID, $0) }
            }
            .get()
            #expect(try await become(linked, 3) == .failure(.invalid))
            let streamed = try await make(files, "streamed")
            _ = try await outcome(files) { request in with([0x73]) { files.createStream(request, of: streamed, $0) } }
                .get()
            #expect(try await become(streamed, 3) == .failure(.invalid))
            #expect(try await become(home, 3) == .failure(.isDirectory))
            #expect(try await become(try await make(files, "pipe", .fifo), 3) == .failure(.wrongType))
            // And goes like any other.
            for name in ["never", "inline", "Extents"] {
                _ = try await outcome(files) { request in
                    with(Array(name.utf8)) { files.unlink(request, in: home, $0) }
                }.get()
            }
            try await expectSound(files)
        }
    }

    /// For who makes no difference between cases a name is taken by each of them; others may have both.
    @Test func aNameIsTakenInEachCase() {
        Bench.files { files, _ in
            func make(_ name: String, _ spellings: [String] = [], isFolded: Bool = true) async throws -> FileError? {
                var new = NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)
                new.ignoresCase = isFolded
                new.spellings = spellings.map { Array($0.utf8) }
                let made = new
                let result = try await outcome(files) { request in
                    with(Array(name.utf8)) { files.create(request, in: files.rootID, $0, made) }
                }
                if case .failure(let error) = result { return error }
                return nil
            }
            #expect(try await make("Name") == nil)
            for name in ["Name", "name", "NAME"] { #expect(try await make(name) == .exists) }
            #expect(try await make("name", isFolded: false) == nil)
            #expect(try await make("\u{E4}") == nil)
            #expect(try await make("a\u{308}", ["\u{E4}"]) == .exists)
            #expect(try await make("A\u{308}", ["\u{C4}"]) == .exists)
            let tooLong = String(repeating: "x", count: Limits.nameBytesMax + 1)
            #expect(try await make("other", [tooLong]) == nil)
            try await expectSound(files)
        }
    }

    @Test func attributes() {
        Bench.files { files, _ in
            let id = try await make(files, "f")
            func set(_ name: [UInt8], _ value: [UInt8], _ mode: XattrMode = .set) async throws -> FileError? {
                let result = try await outcome(files) { request in
                    with(name) { name in with(value) { files.setAttribute(request, id, name, $0, mode) } }
                }
                if case .failure(let error) = result { return error }
                return nil
            }
            func get(_ name: [UInt8]) async throws -> [UInt8]? {
                let result = try await outcome(files) { request in with(name) { files.attribute(request, id, $0) } }
                if case .success(let value) = result { return value }
                #expect(result == .failure(.noAttribute))
                return nil
            }
            let name = Array("user.a".utf8)
            #expect(try await get(name) == nil)
            #expect(try await set(name, [1], .replace) == .noAttribute)
            for length in [0, 1, 3000, 3001, 6000, 65_536, 10] {
                let value = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 3) }
                #expect(try await set(name, value) == nil)
                #expect(try await get(name) == value, "\(length) bytes")
                try await expectSound(files)
            }
            #expect(try await set(name, [2], .create) == .exists)
            #expect(try await set(name, Array(repeating: 0, count: 65_537)) == .attributeTooBig)
            #expect(try await set(Array(repeating: 0x61, count: 255), [1]) == nil)
            #expect(try await set(Array(repeating: 0x61, count: 256), [1]) == .nameTooLong)
            #expect(try await set([], [1]) == .badName)
            #expect(try await set([0x61, 0], [1]) == .badName)
            for index in 0..<300 { #expect(try await set(Array("n\(index)".utf8), [UInt8(index & 255)]) == nil) }
            var seen: [[UInt8]] = []
            var more = true
            while more {
                let after = seen.last ?? []
                more = try await outcome(files) { request in
                    with(after) {
                        files.listAttributes(request, id, after: $0, limit: 7) { name, _ in seen.append(Array(name)) }
                    }
                }.get()
            }
            #expect(seen.count == 302)
            #expect(seen == seen.sorted { $0.lexicographicallyPrecedes($1) })
            let big = Array(repeating: UInt8(3), count: 65_536)
            var refusal: FileError?
            for index in 0..<20 where refusal == nil { refusal = try await set(Array("b\(index)".utf8), big) }
            #expect(refusal == .tooManyAttributes)
            _ = try await outcome(files) { request in with(name) { files.removeAttribute(request, id, $0) } }.get()
            #expect(try await get(name) == nil)
            try await expectSound(files)
            _ = try await outcome(files) { request in with([0x66]) { files.unlink(request, in: files.rootID, $0) } }
                .get()
            try await files.tidy()
            try await expectSound(files)
        }
    }

    /// A name that is its own folded form has no second key; it is found all the same, and in turn with those that have one.
    @Test func namesWithoutCase() {
        Bench.files { files, _ in
            func find(_ name: String) async throws -> String? {
                var true_: [UInt8] = []
                let found = try await outcome(files) { request in
                    with(Array(name.utf8)) { files.lookupFolded(request, in: files.rootID, $0) { true_ = Array($0) } }
                }
                if case .failure(let error) = found { #expect(error == .noEntry) }
                return (try? found.get()) == nil ? nil : String(decoding: true_, as: UTF8.self)
            }
            func remove(_ name: String) async throws {
                _ = try await outcome(files) { request in
                    with(Array(name.utf8)) { files.unlink(request, in: files.rootID, $0) }
                }.get()
            }
            for name in ["readme", "Zeta", "straße", "ÄPFEL", "äpfel", "MIXED", "mixed", "Mixed"] {
                _ = try await make(files, name)
            }
            #expect(try await find("README") == "readme")
            #expect(try await find("readme") == "readme")
            #expect(try await find("zeta") == "Zeta")
            #expect(try await find("ZETA") == "Zeta")
            #expect(try await find("STRAßE") == "straße")
            // The very same case first, else the oldest.
            #expect(try await find("äpfel") == "äpfel")
            #expect(try await find("Äpfel") == "ÄPFEL")
            #expect(try await find("mIXED") == "MIXED")
            #expect(try await find("mixed") == "mixed")
            try await remove("MIXED")
            #expect(try await find("mIXED") == "mixed")
            try await remove("mixed")
            #expect(try await find("mIXED") == "Mixed")
            try await remove("Mixed")
            #expect(try await find("mIXED") == nil)
            #expect(try await find("nothing") == nil)
            #expect(try await find("Nothing") == nil)
            let long = String(repeating: "é", count: 127)
            _ = try await make(files, long)
            #expect(try await find(String(repeating: "É", count: 127)) == long)
            try await expectSound(files)
        }
    }

    /// A client that reads a directory in parts goes on behind a cookie: a later entry must not come under one that it has seen.
    @Test func cookiesAreNeverUsedAgain() {
        Bench.files { files, _ in
            func cookie(_ name: String) async throws -> UInt64 {
                var found: UInt64 = 0
                _ = try await outcome(files) { request in
                    files.list(request, files.rootID, after: 0) { listed, shown in
                        if shown.elementsEqual(Array(name.utf8)) { found = listed.entry.cookie }
                        return true
                    }
                }.get()
                return found
            }
            var highest: UInt64 = 0
            for round in 0..<10 {
                let name = "f\(round % 2)"
                _ = try await make(files, name)
                let mine = try await cookie(name)
                #expect(mine > highest, "round \(round)")
                highest = mine
                _ = try await outcome(files) { request in
                    with(Array(name.utf8)) { files.unlink(request, in: files.rootID, $0) }
                }.get()
            }
        }
    }

    /// Who wants a file without unflushed data gets it, also while somebody writes to it without a pause.
    ///
    /// A writer that never yields lets others have their turn only while its own flush is under way: the claim then comes in the middle
    /// of that.
    @Test(arguments: [true, false]) func aSteadyWriterDoesNotKeepATruncationWaiting(_ yields: Bool) {
        Bench.files { files, world in
            let id = try await make(files, "f")
            let isOver = Guarded(false)
            let writes = Guarded(0)
            let loop = world.loops[0]
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 16)
            defer { bytes.deallocate() }
            bytes.initializeMemory(as: UInt8.self, repeating: 1)
            nonisolated(unsafe) let source = UnsafeRawBufferPointer(bytes)
            let writer = loop.task {
                while !isOver.withLock({ $0 }), writes.withLock({ $0 }) < 20_000 {
                    let count = writes.withLock { $0 }
                    try? await files.writeAll(id, at: UInt64(count % 50) * 1_000, source, now: 1)
                    writes.withLock { $0 = count + 1 }
                    if yields { await Task.yield() }
                }
            }
            while writes.withLock({ $0 }) < 100 { await Task.yield() }
            let before = writes.withLock { $0 }
            _ = try await files.resize(id, to: 10, now: 2)
            let after = writes.withLock { $0 }
            isOver.withLock { $0 = true }
            await writer.value
            #expect(after - before < 2_000, "\(after - before) writes went before the truncation")
        }
    }

    /// Small pieces of data that is not flushed are counted with what they take, not with their bytes.
    @Test func smallPiecesMeetTheBoundOfDirtyData() {
        let simulation = Simulation(seed: 8)
        Bench.prepare(simulation)
        let taken = simulation.perform { world -> Int? in
            do {
                let volume = try await Bench.volume(world)
                var options = LogFSOptions()
                options.dirtyBytesMax = 1 << 20
                let files = try await LogFS.open(volume, world: world, subvolume: 1, options: options)
                var count = 0
                for index in 0..<100 {
                    let id = try await make(files, "f\(index)")
                    for place in 0..<400 {
                        func write() -> Bool {
                            let outcome = with([7]) {
                                files.write(
                                    Request(reader: world.loops[0].index, now: 1), id, at: UInt64(place) * 10_000, $0)
                            }
                            if case .done = outcome { return true }
                            return false
                        }
                        if !write() {
                            try await files.flushAll()
                            guard write() else { return nil }
                            try await files.flushAll()
                            try await volume.close()
                            return count
                        }
                        count += 1
                    }
                }
                return nil
            } catch { return nil }
        }
        let count = taken ?? nil
        #expect(count != nil && count! > 500 && count! <= 2_048, "\(count ?? -1) pieces of one byte in a megabyte")
    }

    @Test func streams() {
        Bench.files { files, _ in
            let id = try await make(files, "f")
            let name = Array("s1".utf8)
            func stream(_ name: [UInt8]) async throws -> Result<Inode, FileError> {
                try await outcome(files) { request in with(name) { files.stream(request, of: id, $0) } }
            }
            #expect(try await stream(name) == .failure(.noEntry))
            let made = try await outcome(files) { request in with(name) { files.createStream(request, of: id, $0) } }
                .get()
            #expect(
                try await outcome(files) { request in with(name) { files.createStream(request, of: id, $0) } }
                    == .failure(.exists))
            // Nor is there another in another case.
            let other = try await outcome(files) { request in
                with(Array("S1".utf8)) { files.createStream(request, of: id, $0) }
            }
            #expect(other == .failure(.exists))
            let content = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 13 >> 2) }
            try await write(files, made.id, content, at: 0)
            #expect(try await stream(name).get().size == 70_000)
            try await files.flush(made.id.inode)
            #expect(try await read(files, made.id, at: 0, 80_000) == content)
            #expect(try await stream(name).get().size == 70_000)
            _ = try await outcome(files) { request in
                with(name) { name in with([0x74]) { files.renameStream(request, of: id, name, to: $0) } }
            }.get()
            #expect(try await stream(name) == .failure(.noEntry))
            #expect(try await stream([0x74]).get().id == made.id)
            try await renameOver(files, id, made.id)
            for index in 0..<10 {
                _ = try await outcome(files) { request in
                    with(Array("x\(index)".utf8)) { files.createStream(request, of: id, $0) }
                }.get()
            }
            let all = try await outcome(files) { request in with([]) { files.streams(request, of: id, after: $0) } }
                .get()
            #expect(all.count == 11)
            _ = try await outcome(files) { request in with(Array("x3".utf8)) { files.removeStream(request, of: id, $0) }
            }.get()
            try await expectSound(files)
            // They go with their file, one that is open when it is closed.
            _ = try await outcome(files) { files.open($0, made.id) }.get()
            _ = try await outcome(files) { request in with([0x66]) { files.unlink(request, in: files.rootID, $0) } }
                .get()
            try await files.tidy()
            #expect(try await read(files, made.id, at: 0, 10) == Array(content.prefix(10)))
            try await expectSound(files)
            _ = try await outcome(files) { files.close($0, made.id) }.get()
            try await files.tidy()
            #expect(try await outcome(files) { files.attributes($0, made.id) } == .failure(.stale))
            try await expectSound(files)
        }
    }

    /// A stream named `t` takes the name of another one, which goes, and its own again.
    private func renameOver(_ files: LogFS, _ id: FileID, _ stream: FileID) async throws {
        func rename(_ from: String, _ to: String, replaces: Bool) async throws -> Result<Void, FileError> {
            try await outcome(files) { request in
                with(Array(from.utf8)) { from in
                    with(Array(to.utf8)) { files.renameStream(request, of: id, from, to: $0, replaces: replaces) }
                }
            }
        }
        let over = try await outcome(files) { request in
            with(Array("over".utf8)) { files.createStream(request, of: id, $0) }
        }.get()
        try await write(files, over.id, [UInt8](repeating: 3, count: 5_000), at: 0)
        for name in ["over", "Over"] {
            guard case .failure(.exists) = try await rename("t", name, replaces: false) else {
                Issue.record("renamed over \(name)")
                return
            }
        }
        guard case .failure(.exists) = try await rename("t", "Over", replaces: true) else {
            Issue.record("two streams of one name")
            return
        }
        try await rename("t", "over", replaces: true).get()
        let there = try await outcome(files) { request in
            with(Array("over".utf8)) { files.stream(request, of: id, $0) }
        }
        #expect(try there.get().id == stream)
        try await files.tidy()
        #expect(try await outcome(files) { files.attributes($0, over.id) } == .failure(.stale))
        try await expectSound(files)
        try await rename("over", "T", replaces: false).get()
        try await rename("T", "t", replaces: false).get()
    }

    /// Bytes of streams count where their file's do, those of a directory in itself, whatever becomes of either.
    @Test func bytesOfStreams() {
        Bench.files { files, _ in
            func directory(_ name: String) async throws -> FileID {
                try await outcome(files) { request in
                    with(Array(name.utf8)) {
                        files.create(
                            request, in: files.rootID, $0, NewFile(type: .directory, mode: 0o755, uid: 0, gid: 0))
                    }
                }.get().inode.id
            }
            func stream(_ name: String, of id: FileID) async throws -> FileID {
                try await outcome(files) { request in
                    with(Array(name.utf8)) { files.createStream(request, of: id, $0) }
                }.get().id
            }
            func bytes(_ id: FileID) async throws -> Int64 {
                let usage = try await outcome(files) { files.usage($0, id) }.get()
                try await files.flushAll()
                let totals = try await outcome(files) { files.totals($0, id) }.get()
                #expect(usage == totals)
                try await expectSound(files)
                return totals.streams
            }
            let (a, b) = (try await directory("a"), try await directory("b"))
            let file = try await outcome(files) { request in
                with([0x66]) { files.create(request, in: a, $0, NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)) }
            }.get().inode.id
            let (first, second) = (try await stream("1", of: file), try await stream("2", of: file))
            try await write(files, first, [UInt8](repeating: 1, count: 1000), at: 0)
            try await write(files, second, [UInt8](repeating: 1, count: 50), at: 50)
            #expect(try await outcome(files) { files.streamBytes($0, of: file) }.get() == 1100)
            #expect(try await bytes(a) == 1100)
            #expect(try await outcome(files) { files.streamBytes($0, of: file) }.get() == 1100)
            #expect(try await outcome(files) { files.owner($0, ofStream: second) }.get()?.id == file)
            #expect(try await outcome(files) { files.owner($0, ofStream: file) }.get() == nil)
            try await files.resize(first, to: 400, now: 1)
            #expect(try await bytes(a) == 500)
            _ = try await outcome(files) { request in
                with([0x66]) { name in files.rename(request, from: a, name, to: b, name) }
            }.get()
            #expect(try await bytes(a) == 0)
            #expect(try await bytes(b) == 500)
            // With a second name they stay where the first one is, and go to the other when that goes.
            _ = try await outcome(files) { request in with([0x67]) { files.link(request, file, in: a, $0) } }.get()
            #expect(try await bytes(a) == 0)
            _ = try await outcome(files) { request in with([0x66]) { files.unlink(request, in: b, $0) } }.get()
            #expect(try await bytes(a) == 500)
            #expect(try await bytes(b) == 0)
            // One that is removed while it is open, and written to.
            _ = try await outcome(files) { files.open($0, second) }.get()
            _ = try await outcome(files) { request in
                with(Array("2".utf8)) { files.removeStream(request, of: file, $0) }
            }.get()
            try await write(files, second, [UInt8](repeating: 1, count: 70), at: 500)
            #expect(try await bytes(a) == 400)
            _ = try await outcome(files) { files.close($0, second) }.get()
            // A directory's go with it; who writes to one then does no harm.
            let own = try await stream("d", of: b)
            try await write(files, own, [UInt8](repeating: 1, count: 33), at: 0)
            #expect(try await bytes(b) == 33)
            #expect(try await bytes(files.rootID) == 433)
            _ = try await outcome(files) { files.open($0, own) }.get()
            _ = try await outcome(files) { files.open($0, b) }.get()
            _ = try await outcome(files) { request in
                with(Array("b".utf8)) { files.rmdir(request, in: files.rootID, $0) }
            }.get()
            try await write(files, own, [UInt8](repeating: 1, count: 90), at: 33)
            #expect(try await bytes(files.rootID) == 400)
            _ = try await outcome(files) { files.close($0, b) }.get()
            try await files.tidy()
            #expect(try await bytes(files.rootID) == 400)
            _ = try await outcome(files) { files.close($0, own) }.get()
            try await files.tidy()
            #expect(try await bytes(files.rootID) == 400)
        }
    }

    @Test func farOffsets() {
        Bench.files { files, _ in
            let id = try await make(files, "far")
            let last = Limits.fileBytesMax
            try await write(files, id, [1, 2, 3], at: last - 3)
            await #expect(throws: Failure.file(.fileTooBig)) { try await write(files, id, [1, 2, 3], at: last - 2) }
            await #expect(throws: Failure.file(.fileTooBig)) { try await write(files, id, [1], at: .max) }
            #expect(try await outcome(files) { files.attributes($0, id) }.get().size == last)
            #expect(try await read(files, id, at: last - 5, 10) == [0, 0, 1, 2, 3])
            try await files.flush(id.inode)
            #expect(try await read(files, id, at: last - 5, 10) == [0, 0, 1, 2, 3])
            #expect(try await read(files, id, at: last, 10) == [])
            #expect(try await read(files, id, at: .max, 10) == [])
            #expect(try await outcome(files) { files.seek($0, id, from: 0, .data) } == .success(last - 3))
            #expect(try await outcome(files) { files.attributes($0, id) }.get().allocated == 3)
            try await expectSound(files)
            await #expect(throws: Failure.file(.fileTooBig)) { try await files.resize(id, to: last + 1, now: 6) }
            try await files.resize(id, to: 10, now: 6)
            #expect(try await read(files, id, at: 0, 100) == Array(repeating: 0, count: 10))
            try await expectSound(files)
        }
    }

    /// Cutting, covering and reclaiming more extents than one change may.
    @Test func manyExtents() {
        Bench.files { files, _ in
            let id = try await make(files, "many")
            var content = Array(repeating: UInt8(0), count: 200_000)
            for index in 0..<100 {
                try await write(files, id, Array(repeating: UInt8(index + 1), count: 1000), at: UInt64(index * 2000))
                for place in 0..<1000 { content[index * 2000 + place] = UInt8(index + 1) }
            }
            content.removeLast(1000)
            try await files.flush(id.inode)
            #expect(try await read(files, id, at: 0, 300_000) == content)
            try await expectSound(files)
            // One piece over very many extents.
            let over = Array(repeating: UInt8(0xAA), count: 70_000)
            try await write(files, id, over, at: 500)
            try await files.flush(id.inode)
            content.replaceSubrange(500..<70_500, with: over)
            #expect(try await read(files, id, at: 0, 300_000) == content)
            try await expectSound(files)
            #expect(files.resize(Request(reader: 0, now: 6), id, to: 71_000).isBusy)
            try await files.resize(id, to: 71_000, now: 6)
            #expect(try await read(files, id, at: 0, 300_000) == Array(content.prefix(71_000)))
            try await expectSound(files)
            try await files.resize(id, to: 150_000, now: 6)
            content = Array(content.prefix(71_000)) + Array(repeating: 0, count: 79_000)
            #expect(try await read(files, id, at: 0, 300_000) == content)
            let copy = try await make(files, "copy")
            try await files.clone(from: id, at: 100, length: 149_000, to: copy, at: 50, now: 7)
            #expect(
                try await read(files, copy, at: 0, 300_000)
                    == Array(repeating: 0, count: 50) + Array(content[100..<149_100]))
            await #expect(throws: Failure.file(.invalid)) {
                try await files.clone(from: id, at: 0, length: 10, to: id, at: 9, now: 7)
            }
            try await files.clone(from: id, at: 0, length: 10_000, to: id, at: 10_000, now: 7)
            content.replaceSubrange(10_000..<20_000, with: Array(content[0..<10_000]))
            #expect(try await read(files, id, at: 0, 300_000) == content)
            try await expectSound(files)
            _ = try await outcome(files) { request in
                with(Array("many".utf8)) { files.unlink(request, in: files.rootID, $0) }
            }.get()
            try await files.tidy()
            #expect(try await read(files, copy, at: 50, 100) == Array(content[100..<200]))
            try await expectSound(files)
        }
    }

    @Test func aFileThatComesForAnotherBringsItsData() {
        Bench.files { files, _ in
            let new = try await make(files, "new")
            _ = try await make(files, "old")
            try await write(files, new, [7, 8, 9], at: 0)
            let rename = { (request: Request) in
                with(Array("new".utf8)) { name in
                    with(Array("old".utf8)) { files.rename(request, from: files.rootID, name, to: files.rootID, $0) }
                }
            }
            #expect(rename(Request(reader: 0, now: 6)).isBusy)
            let renamed = try await outcome(files, rename).get()
            #expect(renamed.inode.size == 3)
            // Nothing is left to be flushed.
            #expect(try await files.flush(new.inode) == files.headhunter.log.last)
            try await expectSound(files)
        }
    }

    /// Whoever asked whether a file has a lock may have asked before it came: the engine looks itself.
    @Test func whatIsLockedKeepsItsName() {
        Bench.files { files, _ in
            let made = try await outcome(files) { request in
                with(Array("locked".utf8)) {
                    files.create(request, in: files.rootID, $0, NewFile(type: .file, mode: 0o644, uid: 0, gid: 0))
                }
            }.get().inode
            _ = try await make(files, "other")
            _ = try await outcome(files) { files.setLock($0, made.id, [1], since: made.change) }.get()
            func rename(
                _ old: String, _ new: String, _ mode: RenameMode = .replace, movesLocked: Bool = false
            ) async throws -> FileError? {
                let result = try await outcome(files) { request in
                    with(Array(old.utf8)) { old in
                        with(Array(new.utf8)) {
                            files.rename(
                                request, from: files.rootID, old, to: files.rootID, $0, mode, movesLocked: movesLocked)
                        }
                    }
                }
                if case .failure(let error) = result { return error }
                return nil
            }
            #expect(try await rename("locked", "new") == .locked)
            #expect(try await rename("locked", "other", .exchange) == .locked)
            #expect(try await rename("other", "locked", .exchange) == .locked)
            #expect(try await rename("other", "locked") == .locked)
            #expect(try await rename("locked", "new", movesLocked: true) == nil)
            #expect(try await rename("other", "locked") == nil)
            try await expectSound(files)
        }
    }

    @Test func tokens() {
        Bench.files { files, _ in
            func create(
                _ name: String, _ id: UInt64, _ digest: UInt64, now: Int64 = 1, isRepeat: Bool = false
            ) async throws -> Result<FileID, FileError> {
                try await outcome(
                    files,
                    { request in
                        var request = request
                        request.token = RequestToken(client: 9, id: id, digest: digest)
                        request.isRepeat = isRepeat
                        return with(Array(name.utf8)) {
                            files.create(request, in: files.rootID, $0, NewFile(type: .file, mode: 0, uid: 0, gid: 0))
                        }
                    }, now: now
                ).map(\.inode.id)
            }
            let first = try await create("a", 1, 5).get()
            #expect(try await create("a", 1, 5) == .success(first))
            #expect(try await create("a", 2, 5) == .failure(.exists))
            #expect(try await create("a", 1, 6) == .failure(.tokenReused))
            // Who has seen that it was made before has it answered, or not made.
            #expect(try await create("a", 1, 5, isRepeat: true) == .success(first))
            #expect(try await create("a", 3, 5, isRepeat: true) == .failure(.tokenForgotten))
            #expect(try await create("new", 4, 5, isRepeat: true) == .failure(.tokenForgotten))
            // The oldest go when there are too many.
            let last = RequestToken.perClientMax - 2
            for index in 0...last { _ = try await create("b\(index)", 100 + index, 0).get() }
            #expect(try await create("a", 1, 5) == .success(first))
            _ = try await create("c", 9_000, 0).get()
            _ = try await create("new", 9_001, 0).get()
            #expect(try await create("a", 1, 5) == .failure(.exists))
            let again = try await create("b\(last)", 100 + last, 0).get()
            let late = RequestToken.ageNanosecondsMax + 1
            for now in [late, late + 1] {
                var client: UInt64? = 0
                while let from = client {
                    client = try await outcome(files, { files.expireTokens($0, from: from) }, now: now).get()
                }
                if now == late {
                    #expect(try await create("b\(last)", 100 + last, 0) == .success(again))
                } else {
                    #expect(try await create("b\(last)", 100 + last, 0) == .failure(.exists))
                }
            }
            try await expectSound(files)
        }
    }

    @Test func paths() {
        Bench.files { files, _ in
            var all: [String] = []
            let a = try await make(files, "a", .directory)
            let deep = try await make(files, "a-", .directory)
            _ = try await make(files, "empty", .directory)
            for name in ["a-b", "a.txt", "a0", "b", "a!"] {
                _ = try await make(files, name)
                all.append(name)
            }
            for name in ["x", "y-", "z"] {
                _ = try await make(files, name, in: a)
                all.append("a/" + name)
            }
            let inner = try await make(files, "y", .directory, in: a)
            for index in 0..<200 {
                _ = try await make(files, "n\(index)", in: inner)
                all.append("a/y/n\(index)")
            }
            for name in ["q", "r"] {
                _ = try await make(files, name, in: deep)
                all.append("a-/" + name)
            }
            let wanted = all.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
            func list(_ limit: Int, prefix: [UInt8] = [], from: [UInt8] = [], directories: Bool = false) async throws
                -> [[UInt8]]
            {
                var found: [[UInt8]] = []
                var next: [UInt8]? = from
                while let start = next {
                    var part: [[UInt8]] = []
                    next = try await outcome(files) { request in
                        part.removeAll()
                        return files.listPaths(
                            request, below: files.rootID, from: start, prefix: prefix, directories: directories,
                            limit: limit
                        ) { listed, path in
                            part.append(Array(path))
                            return listed.inode != nil
                        }
                    }.get()
                    found += part
                }
                return found
            }
            for limit in [1, 2, 3, 7, 256] {
                #expect(try await list(limit) == wanted, "limit \(limit)")
                for prefix in ["a", "a/", "a-", "a/y", "a/y/n1", "b", "c", "empty/", "a/y/n19/"] {
                    let part = wanted.filter { $0.starts(with: Array(prefix.utf8)) }
                    #expect(
                        try await list(limit, prefix: Array(prefix.utf8)) == part, "prefix \(prefix), limit \(limit)")
                }
            }
            let folders = ["a/", "a-/", "a/y/", "empty/"].map { Array($0.utf8) }
            let both = (wanted + folders).sorted { $0.lexicographicallyPrecedes($1) }
            for limit in [1, 5, 256] { #expect(try await list(limit, directories: true) == both, "limit \(limit)") }
            for start in both {
                #expect(try await list(256, from: start) == wanted.filter { !$0.lexicographicallyPrecedes(start) })
                #expect(
                    try await list(256, from: start + [0])
                        == wanted.filter { start.lexicographicallyPrecedes($0) })
            }
        }
    }
}

extension Attempt {
    var isBusy: Bool {
        if case .busy = self { return true }
        return false
    }
}

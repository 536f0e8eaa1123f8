import Bytes
import Glibc
import ObjectStore
import Runtime
import Simulator
import Testing

/// What every store does, asked below the retries.
struct TransportConformanceTests {
    enum Kind: CaseIterable { case memory, directory, directoryOnRealDisk }

    private func run(_ kind: Kind, _ body: @escaping @Sendable (any StoreTransport, World) async throws -> Void)
        async throws
    {
        switch kind {
        case .memory:
            try simulated { world in try await body(MemoryStore(world: world, loop: world.loops[0]), world) }
        case .directory:
            try simulated { world in
                try await body(DirectoryStore.open(world: world, loop: world.loops[0], root: "store"), world)
            }
        case .directoryOnRealDisk:
            try await withRealWorld { world in
                try await body(DirectoryStore.open(world: world, loop: world.loops[0], root: "store"), world)
            }
        }
    }

    @Test(arguments: Kind.allCases) func objects(_ kind: Kind) async throws {
        try await run(kind) { store, _ in
            let a = name("v/seg/0000000000000001")
            #expect(await store.get(a).status == 404)
            #expect(await store.perform(StoreRequest(.object(a, .head))).status == 404)
            #expect(await store.delete(a).status == 404)
            #expect(await store.put(a, "hello").status == 201)
            let head = await store.perform(StoreRequest(.object(a, .head)))
            #expect(head.status == 200 && head.size == 5)
            let whole = await store.get(a)
            #expect(whole.status == 200 && whole.size == 5 && whole.body?.text == "hello")
            #expect(await store.put(a, "longer than before").status == 201)
            #expect(await store.get(a).body?.text == "longer than before")
            #expect(await store.put(a, "").status == 201)
            let empty = await store.get(a)
            #expect(empty.status == 200 && empty.size == 0 && empty.body?.count == 0)
            #expect(await store.delete(a).status == 204)
            #expect(await store.get(a).status == 404)
        }
    }

    @Test(arguments: Kind.allCases) func ranges(_ kind: Kind) async throws {
        try await run(kind) { store, _ in
            let a = name("a")
            #expect(await store.put(a, "0123456789").status == 201)
            for (range, text) in [(0..<10, "0123456789"), (3..<5, "34"), (9..<10, "9"), (8..<100, "89")]
                as [(Range<UInt64>, String)]
            {
                let reply = await store.get(a, range)
                #expect(reply.status == 206 && reply.size == 10 && reply.body?.text == text, "\(range)")
            }
            #expect(await store.get(a, 10..<11).status == 416)
            #expect(await store.get(a, UInt64.max - 1..<UInt64.max).status == 416)
        }
    }

    @Test(arguments: Kind.allCases) func oneOfManyCreatorsWins(_ kind: Kind) async throws {
        try await run(kind) { store, world in
            for round in 0..<10 {
                let a = name("race/\(round)")
                let statuses = await withTaskGroup(of: (Int, Int).self) { group in
                    for index in 0..<8 {
                        group.addTask { (index, await store.put(a, "from \(index)", .absent).status) }
                    }
                    var statuses: [Int: Int] = [:]
                    for await (index, status) in group { statuses[index] = status }
                    return statuses
                }
                let winners = statuses.filter { $0.value == 201 }.keys
                #expect(winners.count == 1 && statuses.values.filter { $0 == 412 }.count == 7, "\(statuses)")
                let stored = await store.get(a).body?.text
                #expect(stored == winners.first.map { "from \($0)" })
            }
        }
    }

    @Test(arguments: Kind.allCases) func bodies(_ kind: Kind) async throws {
        try await run(kind) { store, world in
            let a = name("a")
            let blocks = [block("one "), block(""), block("two")]
            #expect(await store.perform(StoreRequest(.object(a, .put(.blocks(blocks), .always)))).status == 201)
            #expect(await store.get(a).body?.text == "one two")
            let stream = Pieces([Array("strea".utf8), Array("med".utf8)])
            #expect(
                await store.perform(StoreRequest(.object(a, .put(.stream(stream, size: 8), .always)))).status == 201)
            #expect(await store.get(a).body?.text == "streamed")
            for bad in [Pieces([[1, 2]]), Pieces([[1, 2, 3, 4]]), Pieces([[1], [2], [3]], failsAt: 1)] {
                #expect(
                    await store.perform(StoreRequest(.object(a, .put(.stream(bad, size: 3), .always)))).status == 400)
            }
            #expect(await store.get(a).body?.text == "streamed", "a broken stream changes nothing")
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) in
                let file = try world.disk.open("body", [.write, .create])
                let body = block("from a file")
                defer { extendLifetime(body) }
                try file.write(body.bytes, at: 0)
            }
            for _ in 0..<2 {
                // A PUT that was applied may come again: the file must still be there.
                let request = StoreRequest(.object(a, .put(.file(path: "body", size: 11), .always)))
                #expect(await store.perform(request).status == 201)
            }
            #expect(await store.get(a).body?.text == "from a file")
            let request = StoreRequest(.object(name("b"), .put(.file(path: "body", size: 12), .always)))
            #expect(await store.perform(request).status == 400)
            #expect(await store.get(name("b")).status == 404)
        }
    }

    @Test(arguments: Kind.allCases) func listings(_ kind: Kind) async throws {
        try await run(kind) { store, _ in
            var texts = [
                "a", "a-b", "a/x", "a/x/y", "a.c", "a0", "b/0000000000000010", "b/0000000000000fff",
                "b/0000000000001000", "b/000000000000100", "b/0000000000001000/z", "b/g", "b/00", "Z", "v/.x", "v/_-.",
            ]
            for index in 0..<40 { texts.append("c/\(index)") }
            for index in 0..<40 { texts.append("d/" + digits(UInt64(index) * 1_371)) }
            for text in texts { #expect(await store.put(name(text), text).status == 201) }
            let sorted = texts.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            let prefixes = [
                "", "a", "a/", "a/x", "b/", "b/0", "b/0000000000001", "c/1", "d/", "d/00000000000", "v/.", "v/", "none",
                "none/", "../", "..", "/", "a//", "b/0000000000001000/", "z",
            ]
            for prefix in prefixes {
                let wanted = sorted.filter { $0.hasPrefix(prefix) }
                for limit in [1, 2, 7, 1_000] {
                    var found: [String] = []
                    var sizes: [Int] = []
                    while true {
                        let page = await store.list(prefix, found.last, limit)
                        #expect(page.status == 200 && page.entries.count <= limit)
                        found += page.entries.map(\.name.text)
                        sizes += page.entries.map { Int($0.size) }
                        guard page.truncated, !page.entries.isEmpty, found.count <= wanted.count else { break }
                    }
                    #expect(found == wanted, "prefix \(prefix), limit \(limit)")
                    #expect(sizes == wanted.map(\.utf8.count))
                }
                for marker in [
                    "a", "a-b", "a/", "b/0000000000000fff", "b/5", "c/", "c/25", "d/" + digits(9_999), "zzz",
                ] {
                    let page = await store.list(prefix, marker, 1_000)
                    let after = wanted.filter { marker.utf8.lexicographicallyPrecedes($0.utf8) }
                    #expect(page.entries.map(\.name.text) == after, "prefix \(prefix) after \(marker)")
                    #expect(!page.truncated)
                }
            }
            for text in texts { #expect(await store.delete(name(text)).status == 204) }
            #expect(await store.list("", nil, 10).entries.isEmpty)
        }
    }

    @Test(arguments: Kind.allCases) func theLongestName(_ kind: Kind) async throws {
        #expect(ObjectName(String(repeating: "a", count: ObjectName.lengthMax + 1)) == nil)
        for text in ["", "/", "a/", "/a", "a//b", ".", "a/..", "a b", "a\0", "\u{e4}"] {
            #expect(ObjectName(text) == nil)
        }
        try await run(kind) { store, _ in
            for text in [
                String(repeating: "a", count: ObjectName.lengthMax),
                String(repeating: "a/", count: (ObjectName.lengthMax - 1) / 2) + "b",
            ] {
                #expect(await store.put(name(text), "x").status == 201)
                #expect(await store.get(name(text)).body?.text == "x")
                #expect(await store.list("a", nil, 10).entries.map(\.name.text) == [text])
                #expect(await store.delete(name(text)).status == 204)
            }
        }
    }

    /// What a crash leaves among the temporary files goes at the next start, and nothing else does.
    @Test(arguments: [Kind.directory, .directoryOnRealDisk]) func leftoversGo(_ kind: Kind) async throws {
        try await run(kind) { store, world in
            #expect(await store.put(name("a/b"), "kept").status == 201)
            let before = try await left(world)
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) in
                for folder in ["store/tmp/0123456789abcdef", "store/tmp/2"] {
                    try world.disk.makeDirectory(folder)
                    for index in 0..<100 { _ = try world.disk.open(folder + "/\(index)", [.write, .create]) }
                }
            }
            let after = try await left(world)
            #expect(after == before + 202)
            let again = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let kept = try await left(world)
            #expect(kept == 1, "its own folder")
            #expect(await again.get(name("a/b")).body?.text == "kept")
            #expect(await again.put(name("a/c"), "new").status == 201)
        }
        /// Files and folders below `store/tmp`.
        @Sendable func left(_ world: World) async throws -> Int {
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Int in
                var count = 0
                var folders = ["store/tmp"]
                while let folder = folders.popLast() {
                    try world.disk.list(folder) { name, kind in
                        count += 1
                        if kind == .directory { folders.append(folder + "/" + name) }
                        return true
                    }
                }
                return count
            }
        }
    }

    /// Small reads go on with files that are open: never with those of another object that had the name before.
    @Test(arguments: Kind.allCases) func aNameIsReadAsItIs(_ kind: Kind) async throws {
        try await run(kind) { store, world in
            func read(_ store: any StoreTransport) async -> String? {
                let request = StoreRequest(.object(name("a/00000000000000aa"), .get(1..<4)))
                if let reply = store.now(request) { return reply.body?.text }
                return await store.perform(request).body?.text
            }
            let object = name("a/00000000000000aa")
            #expect(await store.put(object, "first").status == 201)
            for _ in 0..<3 { #expect(await read(store) == "irs") }
            if kind == .directoryOnRealDisk {
                #expect(store.now(StoreRequest(.object(object, .get(1..<4))))?.body?.text == "irs", "it is open")
                #expect(store.now(StoreRequest(.object(object, .get(1..<9)))) == nil, "there is less")
            }
            #expect(await store.put(object, "other").status == 201)
            for _ in 0..<3 { #expect(await read(store) == "the") }
            #expect(await store.delete(object).status == 204)
            #expect(store.now(StoreRequest(.object(object, .get(1..<4)))) == nil)
            #expect(await store.perform(StoreRequest(.object(object, .get(1..<4)))).status == 404)
        }
    }

    /// More objects than may be open: each is read all the same.
    @Test func manyObjectsAreRead() async throws {
        try await run(.directoryOnRealDisk) { store, world in
            let count = OpenObjects.countMax + 40
            for index in 0..<count { _ = await store.put(name("m/" + digits(UInt64(index))), "object \(index)") }
            for _ in 0..<2 {
                for index in 0..<count {
                    let request = StoreRequest(.object(name("m/" + digits(UInt64(index))), .get(7..<8)))
                    var reply = store.now(request)
                    if reply == nil { reply = await store.perform(request) }
                    #expect(reply?.body?.text == String("\(index)".prefix(1)))
                }
            }
        }
    }

    @Test(arguments: Kind.allCases) func putAndDeleteInOneDirectory(_ kind: Kind) async throws {
        // The directory comes and goes with its last object while others put into it.
        try await run(kind) { store, world in
            await withTaskGroup(of: Void.self) { group in
                for worker in 0..<6 {
                    group.addTask {
                        let mine = name("q/00000000000000\(10 + worker)")
                        for round in 0..<12 {
                            let condition: PutCondition = round % 2 == 0 ? .absent : .always
                            #expect(await store.put(mine, "\(round)", condition).status == 201)
                            #expect(await store.get(mine).body?.text == "\(round)")
                            #expect(await store.delete(mine).status == 204)
                        }
                    }
                }
            }
            #expect(await store.list("", nil, 10).entries.isEmpty)
        }
    }
}

func digits(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
}

/// The machine itself, on a temporary folder. The body runs on the world's loop.
func withRealWorld(_ body: @escaping @Sendable (World) async throws -> Void) async throws {
    var name = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
    let made = name.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } }
    let folder = try #require(made)
    let world = try World.real(disk: RealDisk(path: folder), loops: 1)
    let result = await world.loops[0].task { try await body(world) }.result
    world.stop()
    removeAll(world.disk, "")
    rmdir(folder)
    try result.get()
}

private func removeAll(_ disk: any Disk, _ folder: String) {
    var entries: [(String, FileKind)] = []
    try? disk.list(folder) { name, kind in
        entries.append((folder.isEmpty ? name : folder + "/" + name, kind))
        return true
    }
    for (entry, kind) in entries {
        if kind == .directory {
            removeAll(disk, entry)
            try? disk.removeDirectory(entry)
        } else {
            try? disk.remove(entry)
        }
    }
}

extension StoreTransport {
    func put(_ name: ObjectName, _ text: String, _ condition: PutCondition = .always) async -> StoreReply {
        await perform(StoreRequest(.object(name, .put(.blocks([block(text)]), condition))))
    }

    func get(_ name: ObjectName, _ range: Range<UInt64>? = nil) async -> StoreReply {
        await perform(StoreRequest(.object(name, .get(range))))
    }

    func delete(_ name: ObjectName) async -> StoreReply { await perform(StoreRequest(.object(name, .delete))) }

    func list(_ prefix: String, _ marker: String?, _ limit: Int) async -> StoreReply {
        await perform(StoreRequest(.list(prefix: prefix, after: marker, limit: limit)))
    }
}

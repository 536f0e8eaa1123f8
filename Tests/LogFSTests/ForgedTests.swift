import Headhunter
import LogFS
import Runtime
import Simulator
import Testing
import Trials

/// Records with wild numbers, too short, or of a newer program: whoever meets one is told, and nobody else notices.
struct ForgedTests {
    private typealias P = Planted

    private static let changes: [(name: String, change: @Sendable ([UInt8]) -> [[UInt8]])] = [
        ("empty", { _ in [[]] }), ("short", { [Array($0.prefix($0.count / 2)), Array($0.prefix(1))] }),
        ("newer", { [[9] + $0.dropFirst()] }), ("longer", { [$0 + [UInt8](repeating: 1, count: 64)] }),
        ("all ones", { [$0.prefix(1) + [UInt8](repeating: 0xFF, count: max($0.count, 1) - 1)] }),
        (
            "one field",
            { old in
                stride(from: 1, to: old.count, by: 8).map { place in
                    var bytes = old
                    for index in place..<min(place + 8, old.count) { bytes[index] = index % 8 == 7 ? 0x7F : 0xFF }
                    return bytes
                }
            }
        ),
    ]

    /// Everything that files can be asked for; what it is answered does not matter.
    private static func use(_ files: LogFS, _ inodes: [String: Inode]) async {
        func attempt(_ body: () async throws -> Void) async { do { try await body() } catch { return } }
        func ask<Value>(_ body: (Request) -> Attempt<Value>) async {
            await attempt { _ = try await outcome(files, body) }
        }
        let names = [
            "d", "D", "empty", "Inner", "inner", "Large", "large", "small", "linked", "second", "third", "link",
            "other",
        ]
        for directory in ["/d", "/empty", "/d/Inner"].compactMap({ inodes[$0]?.id }) + [files.rootID] {
            await ask { files.list($0, directory, after: 0, attributes: true) { _, _ in true } }
            await ask { files.listPaths($0, below: directory, from: [], directories: true) { _, _ in true } }
            await ask { files.totals($0, directory) }
            await ask { files.usage($0, directory) }
            for name in names.map({ Array($0.utf8) }) {
                await ask { request in with(name) { files.lookup(request, in: directory, $0) } }
                await ask { request in with(name) { files.lookupFolded(request, in: directory, $0) } }
            }
        }
        await ask { files.named($0, after: 0, limit: 100) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: P.size + 10, alignment: 16)
        buffer.initializeMemory(as: UInt8.self, repeating: 1)
        defer { buffer.deallocate() }
        let part = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<200])
        let long = Array("user.long".utf8)
        let others = inodes.filter { $0.key != "/apart/control" && !$0.value.isDirectory }.values
        for inode in others.sorted(by: { $0.number < $1.number }).map(\.id) {
            await ask { files.attributes($0, inode) }
            await ask { files.whereabouts($0, of: inode) }
            await ask { files.target($0, inode) }
            await ask { files.layout($0, inode) }
            await ask { files.seek($0, inode, from: 0, .data) }
            await ask { files.seek($0, inode, from: 0, .hole) }
            await attempt { _ = try await files.readAll(inode, at: 0, into: buffer) }
            await ask { files.attributes($0, inode, prefixes: [Array("user.".utf8), []]) }
            await ask { request in with(long) { files.attribute(request, inode, $0) } }
            await ask { request in with([]) { files.listAttributes(request, inode, after: $0) { _, _ in } } }
            await ask { request in with([]) { files.streams(request, of: inode, after: $0) } }
            await ask { request in with(Array("s".utf8)) { files.stream(request, of: inode, $0) } }
            await ask { files.setAttributes($0, inode, NewAttributes()) }
            await ask { request in with(long) { name in with([1, 2]) { files.setAttribute(request, inode, name, $0) } }
            }
            await ask { request in with(long) { files.removeAttribute(request, inode, $0) } }
            await ask { request in with(Array("t".utf8)) { files.createStream(request, of: inode, $0) } }
            await ask { request in
                with(Array("s".utf8)) { s in with(Array("u".utf8)) { files.renameStream(request, of: inode, s, to: $0) }
                }
            }
            await ask { request in with(Array("u".utf8)) { files.removeStream(request, of: inode, $0) } }
            await attempt { try await files.writeAll(inode, at: 10, part, now: 1) }
            await attempt { try await files.flush(inode.inode) }
            await attempt { try await files.writeAll(inode, at: 70_000, part, now: 1) }
            await attempt { try await files.flush(inode.inode) }
            await attempt { try await files.punch(inode, at: 50, length: 100, now: 1) }
            await attempt { try await files.resize(inode, to: 30_000, now: 1) }
        }
        if let large = inodes["/d/Large"]?.id, let small = inodes["/d/small"]?.id {
            await attempt { _ = try await files.clone(from: large, at: 0, length: 9_000, to: small, at: 100, now: 1) }
            await attempt {
                let new = NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)
                let made = try await outcome(files) { files.createNameless($0, near: files.rootID, new) }.get()
                _ = try await files.join([large, small], to: made.id, now: 1)
                _ = try await outcome(files) { request in
                    with(Array("joined".utf8)) { files.place(request, in: files.rootID, $0, made.id) }
                }
                _ = try await outcome(files) { files.close($0, made.id) }
            }
        }
        let token = RequestToken(client: 7, id: 9, digest: 11)
        await ask { files.isRepeated(Request(reader: $0.reader, now: 1, token: token)) }
        await ask { files.expireTokens(Request(reader: $0.reader, now: 1 << 60), from: 0) }
        for name in ["long", "short", "none"].map({ Array($0.utf8) }) {
            await ask { request in with(name) { files.setting(request, $0) } }
            await ask { request in with(name) { name in with([1]) { files.setSetting(request, name, $0) } } }
            await ask { request in with(name) { files.setSetting(request, $0, nil) } }
        }
        await ask { request in with([]) { empty in files.listSettings(request, prefix: empty, after: empty) { _ in } } }
        if let home = inodes["/d"]?.id, let inner = inodes["/d/Inner"]?.id {
            let new = NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)
            func name(_ text: String) -> [UInt8] { Array(text.utf8) }
            await ask { request in with(name("new")) { files.create(request, in: home, $0, new) } }
            await ask { request in
                with(name("placed")) { name in
                    files.place(request, in: home, name, UnsafeRawBufferPointer(buffer), new)
                }
            }
            await ask { request in
                with(name("Large")) { old in
                    with(name("small")) { files.rename(request, from: home, old, to: home, $0, .exchange) }
                }
            }
            for (from, old, to, new) in [(home, "Large", inner, "moved"), (home, "Inner", files.rootID, "up")] {
                await ask { request in
                    with(name(old)) { old in with(name(new)) { files.rename(request, from: from, old, to: to, $0) } }
                }
            }
            for (directory, old) in [
                (home, "small"), (home, "linked"), (inner, "third"), (inner, "link"), (inner, "other"),
                (inner, "moved"),
            ] {
                await ask { request in with(name(old)) { files.unlink(request, in: directory, $0) } }
            }
            await ask { request in with(name("empty")) { files.rmdir(request, in: files.rootID, $0) } }
        }
        await attempt { try await files.flushAll() }
        await attempt { try await files.tidy() }
        await attempt { _ = try await Check.run(files, readsData: true) }
    }

    private static func isControlWhole(_ files: LogFS, _ control: Inode) async -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: P.size + 1, alignment: 16)
        defer { buffer.deallocate() }
        do {
            let count = try await files.readAll(control.id, at: 0, into: buffer)
            return count == P.size && buffer[..<count].allSatisfy { $0 == 9 }
        } catch { return false }
    }

    @Test(arguments: 0..<6) func recordsOfOthersMaking(_ change: Int) throws {
        let base = Simulation(seed: 81)
        Bench.prepare(base)
        let made = base.perform(for: 3_600_000_000_000) {
            world -> (inodes: [String: Inode], records: [(key: [UInt8], value: [UInt8])])? in
            do {
                let volume = try await Bench.volume(world)
                let files = try await LogFS.open(volume, world: world, subvolume: 1)
                let inodes = try await P.fill(files)
                let records = try await P.records(volume)
                try await volume.close()
                return (inodes, records)
            } catch { return nil }
        }
        let filled = try #require(made ?? nil)
        base.killAndRestart()
        let (inodes, records) = (filled.inodes, filled.records)
        let control = try #require(inodes["/apart/control"])
        var planted = 0
        // Of each kind some: what is read by the same code is read often enough.
        var seen: [UInt8: Int] = [:]
        for record in records {
            seen[record.key[8], default: 0] += 1
            guard seen[record.key[8], default: 0] <= (record.key[8] == P.Kind.inode.rawValue ? 8 : 2) else { continue }
            for value in Self.changes[change].change(record.value) {
                planted += 1
                let simulation = Simulation(copying: base, seed: 82)
                let problem = simulation.perform(for: 36_000_000_000_000) { world -> String? in
                    do {
                        let volume = try await Bench.volume(world)
                        try await P.set(volume, record.key, value)
                        let files: LogFS
                        do { files = try await LogFS.open(volume, world: world, subvolume: 1) } catch {
                            // The subvolume's own record, or its root.
                            return record.key[..<8].allSatisfy { $0 == 0 } || record.key[7] == 2
                                ? "" : "does not open: \(error)"
                        }
                        await Self.use(files, inodes)
                        let id = record.key[..<8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                        if id & ~(P.fork | P.directory) == control.number { return "" }
                        return await Self.isControlWhole(files, control) ? "" : "another file can not be read"
                    } catch { return "\(error)" }
                }
                #expect(problem == "", "\(Self.changes[change].name): key \(record.key)")
                // What its timers and tasks hold goes with it.
                simulation.killAndRestart()
            }
        }
        #expect(planted > 30)
    }
}

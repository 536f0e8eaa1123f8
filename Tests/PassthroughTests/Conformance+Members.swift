import Namespace
import Runtime

/// What few file systems have: streams, settings, answers that are remembered, walks through all files, shelves, news.
extension Conformance {
    mutating func members() async throws {
        try await streams()
        try await settings()
        try await repeated()
        try await walks()
        try await shares()
        try await shelves()
        try await news()
    }

    private mutating func streams() async throws {
        let client = client
        let files = client.files
        let file = try await client.create("streams").file.file
        func make(_ name: String) async throws -> Attributes {
            try await client.done { client.name(name) { files.createStream(client.request, of: file, $0) } }
        }
        func find(_ name: String) async throws -> Attributes {
            try await client.done { client.name(name) { files.stream(client.request, of: file, $0) } }
        }
        await refuses("a stream that is not there", .noEntry) { _ = try await find("s") }
        await refuses("a stream removed that is not there", .noEntry) {
            try await client.done { client.name("s") { files.removeStream(client.request, of: file, $0) } }
        }
        await expect("a new stream is empty", 0) { try await make("s").size }
        await refuses("a stream that is there", .exists) { _ = try await make("s") }
        await expect("a stream has content of its own", "in the stream") {
            let stream = try await find("s").file
            try await client.write(stream, "in the stream")
            return try await client.read(stream)
        }
        await expect("little is copied, not lent", true) {
            try await client.done { files.lend(client.request, file, at: 0, count: 1) } == nil
        }
        await expect("its file has none of that", 0) { try await client.attributes(file).size }
        await expect("the bytes of all streams", 13) {
            try await client.done { files.streamBytes(client.request, of: file) }
        }
        await expect("whose a stream is", true) {
            let stream = try await find("s").file
            return try await client.done { files.owner(client.request, ofStream: stream) }?.file == file
        }
        await expect("a file is no stream", true) {
            try await client.done { files.owner(client.request, ofStream: file) } == nil
        }
        await expect("streams in order", ["a", "s"]) {
            _ = try await make("a")
            return try await client.done { client.name("") { files.streams(client.request, of: file, after: $0) } }
                .map { String(decoding: $0.name, as: UTF8.self) }
        }
        await expect("streams behind one", 1) {
            try await client.done { client.name("a") { files.streams(client.request, of: file, after: $0) } }.count
        }
        func rename(_ from: String, _ to: String, replaces: Bool) async throws {
            try await client.done {
                client.name(from) { from in
                    client.name(to) {
                        files.renameStream(client.request, of: file, from, to: $0, replaces: replaces)
                    }
                }
            }
        }
        await refuses("another name for a stream that is not there", .noEntry) {
            try await rename("nowhere", "x", replaces: true)
        }
        await refuses("a stream's name that another one has", .exists) { try await rename("s", "a", replaces: false) }
        await expect("a stream in the place of another one", "in the stream") {
            try await rename("s", "a", replaces: true)
            let content = try await client.read(try await find("a").file)
            try await rename("a", "s", replaces: false)
            _ = try await make("a")
            return content
        }
        await refuses("a stream that was removed", .noEntry) {
            try await client.done { client.name("s") { files.removeStream(client.request, of: file, $0) } }
            _ = try await find("s")
        }
    }

    private mutating func settings() async throws {
        let client = client
        let files = client.files
        func set(_ name: String, _ value: String?) async throws {
            try await client.done {
                client.name(name) { name in
                    guard let value else { return files.setSetting(client.request, name, nil) }
                    return client.name(value) { files.setSetting(client.request, name, $0) }
                }
            }
        }
        func value(_ name: String) async throws -> String {
            let found = try await client.done { client.name(name) { files.setting(client.request, $0) } }
            return found.map { String(decoding: $0, as: UTF8.self) } ?? "none"
        }
        func names(_ prefix: String, after: String = "") async throws -> [String] {
            var found: [String] = []
            _ = try await client.done {
                found = []
                return client.name(prefix) { prefix in
                    client.name(after) { after in
                        files.listSettings(client.request, prefix: prefix, after: after) {
                            found.append(String(decoding: $0, as: UTF8.self))
                        }
                    }
                }
            }
            return found
        }
        await expect("a setting that is not there", "none") { try await value("t/none") }
        await expect("a setting", "one") {
            try await set("t/a", "one")
            return try await value("t/a")
        }
        await expect("a setting that is changed", "two") {
            try await set("t/a", "two")
            return try await value("t/a")
        }
        await expect("settings in order", ["t/a", "t/b", "t/c"]) {
            try await set("t/c", "")
            try await set("t/b", "b")
            return try await names("t/")
        }
        await expect("settings behind one", ["t/c"]) { try await names("t/", after: "t/b") }
        await expect("settings of another prefix", []) { try await names("u/") }
        await expect("a setting that is removed", "none") {
            try await set("t/a", nil)
            return try await value("t/a")
        }
        await does("a setting removed twice") { try await set("t/a", nil) }
        await refuses("a setting without a name", .badName) { try await set("", "x") }
        await refuses("a setting of 256 bytes' name", .nameTooLong) {
            try await set(String(repeating: "n", count: 256), "x")
        }
        await refuses("a setting of 61 KiB", .attributeTooBig) {
            try await set("t/big", String(repeating: "x", count: 61 << 10))
        }
    }

    private mutating func repeated() async throws {
        let client = client
        let files = client.files
        func request(_ id: UInt64, _ digest: UInt64 = 1) -> Request {
            Request(reader: 0, now: client.world.clock.wall(), token: RequestToken(client: 5, id: id, digest: digest))
        }
        func create(_ name: String, _ request: Request) async throws -> Created {
            try await client.done {
                client.name(name) {
                    files.create(
                        request, in: client.root, $0, NewFile(type: .directory, mode: 0o755), uid: 1, gid: 1, .exclusive
                    )
                }
            }
        }
        await expect("a request that is new", false) { try await client.done { files.isRepeated(request(100)) } }
        let made = try await create("repeated", request(100))
        await expect("a request that was made", true) { try await client.done { files.isRepeated(request(100)) } }
        await expect("made again it gets its first answer", true) {
            try await create("repeated", request(100)).file.file == made.file.file
        }
        await refuses("the same token with other content", .tokenReused) {
            _ = try await create("other", request(100, 2))
        }
        await refuses("another request for the same", .exists) { _ = try await create("repeated", request(101)) }
        await does("a removal made twice") {
            for _ in 0..<2 {
                _ = try await client.done {
                    client.name("repeated") {
                        files.remove(request(102), in: client.root, $0, isDirectory: true)
                    }
                }
            }
        }
    }

    private mutating func walks() async throws {
        let client = client
        let files = client.files
        let home = try await client.directory("walk")
        let deep = try await client.directory("deep", in: home)
        for name in ["a", "b"] {
            try await client.write(try await client.create(name, in: deep).file.file, "12345")
        }
        await expect("what lies below", "2 files, 1 directories, 10 bytes") {
            let sums = try await client.done { files.usage(client.request, below: home) }
            return "\(sums.files) files, \(sums.directories) directories, \(sums.bytes) bytes"
        }
        await refuses("what lies below a file", .notDirectory) {
            let file = try await client.lookup("a", in: deep).file
            _ = try await client.done { files.usage(client.request, below: file) }
        }
        await expect("all files, each once, in order", true) {
            var inodes: [UInt64] = []
            var next: UInt64? = 0
            while let from = next {
                var page: [UInt64] = []
                next = try await client.done {
                    page = []
                    return files.files(client.request, after: from, limit: 7) { page.append($0.file.inode) }
                }
                inodes += page
            }
            return inodes == Set(inodes).sorted() && inodes.contains(deep.inode) && !inodes.contains(client.root.inode)
        }
        await expect("there is room, and it is bounded", true) {
            let all = try await client.done { files.space(client.request) }
            let there = try await client.done { files.space(client.request, at: deep) }
            return all.bytes == there.bytes && all.bytesFree > 0 && all.bytesFree <= all.bytes
        }
        await expect("objects of a useful size are one change", true) {
            files.placeBytesMax >= 64 << 10 && files.placeAttributesMax >= 4
        }
        await expect("nothing is mounted", true) {
            files.guests.isEmpty && files.guest(of: deep, orFormer: true) == nil
        }
        await expect("a change here is one of all", true) { files.newestChange(at: deep) <= files.newestChange }
    }

    private mutating func shares() async throws {
        let client = client
        let files = client.files
        let source = try await client.create("source").file.file
        let target = try await client.create("target").file.file
        try await client.write(source, "0123456789")
        try await client.write(target, "----------")
        for file in [source, target] { _ = try await files.flush(file) }
        await expect("a range that two files share", "--2345----") {
            _ = try await files.clone(client.request, source, at: 2, length: 4, to: target, at: 2)
            return try await client.read(target)
        }
        await expect("beyond what the source has", "--2345--89") {
            _ = try await files.clone(client.request, source, at: 8, length: 100, to: target, at: 8)
            return try await client.read(target)
        }
        await expect("the source stays", "0123456789") { try await client.read(source) }
        await expect("written afterwards, one changes alone", "0123456789") {
            try await client.write(target, "XXXX", at: 2)
            return try await client.read(source)
        }
    }

    private mutating func shelves() async throws {
        let client = client
        let files = client.files
        let home = try await client.directory("versions")
        let shelf = try await client.directory("shelf")
        func place(_ text: String, _ shelved: String) async throws -> PlacedFile {
            try await client.done {
                client.name("o") { name in
                    client.name(text) {
                        files.place(
                            client.request, in: home, name, $0, NewFile(type: .file, mode: 0o644), uid: 7, gid: 8,
                            attributes: [], seal: nil, expected: .anything,
                            shelf: Shelf(directory: shelf, name: Array(shelved.utf8)))
                    }
                }
            }
        }
        await does("an object where there was none") { _ = try await place("first", "v0") }
        await expect("the one before is on the shelf", "first") {
            _ = try await place("second", "v1")
            return try await client.read(try await client.lookup("v1", in: shelf).file)
        }
        await expect("its name leads to the new one", "second") {
            try await client.read(try await client.lookup("o", in: home).file)
        }
        await expect("a name given up, with a mark", "v2, mark") {
            _ = try await client.done {
                client.name("o") {
                    files.withdraw(
                        client.request, in: home, $0, expected: .anything,
                        to: Shelf(directory: shelf, name: Array("v2".utf8)),
                        leaving: ShelfMark(Shelf(directory: shelf, name: Array("mark".utf8)), uid: 7, gid: 8))
                }
            }
            let names = try await client.names(shelf)
            return names.filter { $0 == "v2" || $0 == "mark" }.sorted(by: >).joined(separator: ", ")
        }
        await refuses("the name is gone", .noEntry) { _ = try await client.lookup("o", in: home) }
        await expect("brought back", "second") {
            _ = try await client.done {
                client.name("o") {
                    files.unshelve(
                        client.request, Shelf(directory: shelf, name: Array("v2".utf8)), to: home, $0,
                        expected: .nothing)
                }
            }
            return try await client.read(try await client.lookup("o", in: home).file)
        }
        await refuses("a locked file is not written to", .notPermitted) {
            let file = try await client.create("locked").file
            _ = try await client.done { files.setLock(client.request, file.file, [1], since: file.change) }
            try await client.write(file.file, "x")
        }
        await refuses("a lock on what has changed since", .stale) {
            let file = try await client.create("changed").file
            try await client.write(file.file, "x")
            _ = try await files.flush(file.file)
            _ = try await client.done { files.setLock(client.request, file.file, [1], since: file.change) }
        }
    }

    private mutating func news() async throws {
        let client = client
        let files = client.files
        await expect("it is nobody else's", false) { files.isForeign(client.root) }
        await expect("files may be long", true) { files.fileBytesMax(at: client.root) >= 1 << 62 }
        let told = Guarded<[[UInt8]]>([])
        files.whenChanged { change in
            if case .changed(_, _, _, let name) = change { told.withLock { $0.append(name) } }
        }
        let home = try await client.directory("news")
        files.observe(home, isRecursive: false, isOn: true)
        // Who is told of changes is told of this one; where nobody is, the volume itself knows of all.
        await expect("what is observed is told by others", false) {
            for round in 0..<60 {
                _ = try await client.create("n\(round)", in: home)
                await client.world.loops[0].sleep(nanoseconds: 5_000_000)
                if told.withLock({ !$0.isEmpty }) { return true }
            }
            return false
        }
        files.observe(home, isRecursive: false, isOn: false)
    }
}

import Namespace
import Runtime
import Testing

/// What every file system answers, operation by operation, with arguments at the borders. One program for all: where one
/// differs from what is expected here, the difference is written down in differences.txt.
struct Conformance {
    let client: Client
    /// Differences that were seen: the case, and what came.
    var seen: [String] = []
    var cases = 0

    init(_ client: Client) { self.client = client }

    private var files: any FileSystem { client.files }
    private var root: FileID { client.root }

    private mutating func record(_ what: String, _ expected: String, _ got: String) {
        cases += 1
        if expected != got { seen.append("\(what): \(got), not \(expected)") }
    }

    mutating func expect<Value: Equatable>(
        _ what: String, _ expected: Value, _ body: () async throws -> Value
    ) async {
        do { record(what, "\(expected)", "\(try await body())") } catch { record(what, "\(expected)", "\(error)") }
    }

    mutating func refuses(_ what: String, _ expected: FileError, _ body: () async throws -> Void) async {
        do {
            try await body()
            record(what, "\(expected)", "done")
        } catch { record(what, "\(expected)", "\(error)") }
    }

    mutating func does(_ what: String, _ body: () async throws -> Void) async {
        do {
            try await body()
            record(what, "done", "done")
        } catch { record(what, "done", "\(error)") }
    }

    static func run(_ client: Client) async throws -> Conformance {
        var program = Conformance(client)
        try await program.names()
        try await program.renames()
        try await program.links()
        try await program.data()
        try await program.attributes()
        try await program.listing()
        try await program.lists()
        try await program.extended()
        try await program.objects()
        try await program.opens()
        try await program.promises()
        try await program.members()
        return program
    }

    // MARK: Names

    private mutating func names() async throws {
        let client = client
        let home = try await client.directory("names")
        let file = try await client.create("a", in: home).file
        await expect("a new file is a file", .file) { file.type }
        await expect("a new file has the owner it was made for", 1000) { file.uid }
        await expect("a new file has the mode it was made with", 0o644) { file.mode }
        await expect("a new file is empty", 0) { file.size }
        await expect("a new file has one name", 1) { file.links }
        await expect("a file is found by its name", file.file) { try await client.lookup("a", in: home).file }
        await expect("a dot is the directory", home) { try await client.lookup(".", in: home).file }
        await expect("two dots are the one above", client.root) { try await client.lookup("..", in: home).file }
        await expect("above the root is the root", client.root) { try await client.lookup("..").file }
        await expect("where a file is", "names") {
            let place = try await client.done { client.files.whereabouts(client.request, of: home) }
            return String(decoding: place?.name ?? [], as: UTF8.self)
        }
        await expect("the root is nowhere", true) {
            try await client.done { client.files.whereabouts(client.request, of: client.root) } == nil
        }
        await refuses("no name", .badName) { _ = try await client.create("", in: home) }
        await refuses("a dot as a new name", .badName) { _ = try await client.create(".", in: home) }
        await refuses("two dots as a new name", .badName) { _ = try await client.create("..", in: home) }
        await refuses("a slash in a name", .badName) { _ = try await client.create("a/b", in: home) }
        await refuses("a zero in a name", .badName) { _ = try await client.create("a\u{0}b", in: home) }
        await refuses("a name with a slash is looked up", .noEntry) { _ = try await client.lookup("x/y", in: home) }
        await does("a name of 255 bytes") { _ = try await client.create(String(repeating: "n", count: 255), in: home) }
        await does("a name of 256 bytes") {
            _ = try await client.create(String(repeating: "n", count: 256), in: home)
        }
        await refuses("a name of 1,001 bytes", .nameTooLong) {
            _ = try await client.create(String(repeating: "n", count: 1001), in: home)
        }
        await refuses("a name that is not there", .noEntry) { _ = try await client.lookup("nothing", in: home) }
        await refuses("a name below a file", .notDirectory) { _ = try await client.lookup("x", in: file.file) }
        await refuses("a name made below a file", .notDirectory) { _ = try await client.create("x", in: file.file) }
        await refuses("a name that is taken", .exists) { _ = try await client.create("a", in: home) }
        await expect("a file that may be there", false) {
            try await client.create("a", in: home, NewFile(type: .file, mode: 0o600), .openOrCreate).isNew
        }
        await refuses("a directory where a file may be", .exists) {
            _ = try await client.create("names", NewFile(type: .file, mode: 0o600), .openOrCreate)
        }
        await expect("made with a verifier", true) {
            try await client.create("v", in: home, NewFile(type: .file, mode: 0o600), .verified(0x12_3456_7890)).isNew
        }
        await expect("made again with the verifier", false) {
            try await client.create("v", in: home, NewFile(type: .file, mode: 0o600), .verified(0x12_3456_7890)).isNew
        }
        await refuses("made again with another verifier", .exists) {
            _ = try await client.create("v", in: home, NewFile(type: .file, mode: 0o600), .verified(7))
        }
        for (type, name) in [(FileType.fifo, "fifo"), (.socket, "socket"), (.symlink, "symlink"), (.directory, "dir")] {
            var new = NewFile(type: type, mode: 0o755)
            if type == .symlink { new.target = Array("../elsewhere".utf8) }
            let made = new
            await expect("a new \(name) is one", type) { try await client.create(name, in: home, made).file.type }
        }
        var device = NewFile(type: .characterDevice, mode: 0o600)
        (device.major, device.minor) = (1, 3)
        let made = device
        await expect("a device has its numbers", "1:3") {
            let file = try await client.create("null", in: home, made).file
            return "\(file.major):\(file.minor)"
        }
        await expect("what a link says", "../elsewhere") {
            let link = try await client.lookup("symlink", in: home).file
            let target = try await client.done { client.files.target(client.request, of: link) }
            return String(decoding: target, as: UTF8.self)
        }
        await refuses("what a file says that is no link", .wrongType) {
            _ = try await client.done { client.files.target(client.request, of: file.file) }
        }
        await expect("a name without regard to case", "Mixed") {
            _ = try await client.create("Mixed", in: home)
            return try await client.folded("mIXED", in: home)
        }
        await expect("an exact name wins", "mixed") {
            _ = try await client.create("mixed", in: home)
            return try await client.folded("mixed", in: home)
        }
        await refuses("no name without regard to case", .noEntry) {
            _ = try await client.folded("mIXeD nothing", in: home)
        }
        await refuses("a directory removed as a file", .isDirectory) { try await client.remove("dir", in: home) }
        await refuses("a file removed as a directory", .notDirectory) {
            try await client.remove("a", in: home, isDirectory: true)
        }
        await refuses("a directory that is not empty", .notEmpty) {
            try await client.remove("names", isDirectory: true)
        }
        await refuses("nothing removed", .noEntry) { try await client.remove("nothing", in: home) }
        await expect("the last name", 0) { try await client.remove("a", in: home).file.links }
        await refuses("a file that is gone", .stale) { _ = try await client.attributes(file.file) }
        await expect("an empty directory", 0) { try await client.remove("dir", in: home, isDirectory: true).file.links }
        await refuses("a file of another file system", .stale) {
            _ = try await client.attributes(FileID(subvolume: 77, inode: 1, generation: 1))
        }
        await refuses("a file that never was", .stale) {
            _ = try await client.attributes(FileID(subvolume: client.root.subvolume, inode: 1 << 60, generation: 5))
        }
    }

    private mutating func renames() async throws {
        let client = client
        let home = try await client.directory("renames")
        let other = try await client.directory("other", in: home)
        let file = try await client.create("a", in: home).file.file
        await expect("a renamed file is the same one", file) {
            try await client.rename("a", "b", from: home, to: home).file.file
        }
        await refuses("the old name", .noEntry) { _ = try await client.lookup("a", in: home) }
        await expect("into another directory", file) {
            try await client.rename("b", "c", from: home, to: other)
            return try await client.lookup("c", in: other).file
        }
        await refuses("nothing renamed", .noEntry) { try await client.rename("x", "y", from: home, to: home) }
        let second = try await client.create("second", in: home).file.file
        await refuses("over a file, which is not to be", .exists) {
            try await client.rename("second", "c", from: home, to: other, .noReplace)
        }
        await expect("over a file", UInt32(0)) {
            try await client.rename("second", "c", from: home, to: other).other?.links ?? UInt32(99)
        }
        await expect("the other one has the name", second) { try await client.lookup("c", in: other).file }
        await refuses("a file over a directory", .isDirectory) {
            try await client.rename("c", "other", from: other, to: home)
        }
        let third = try await client.directory("third", in: home)
        await refuses("a directory over a file", .notDirectory) {
            try await client.rename("third", "c", from: home, to: other)
        }
        await refuses("a directory over one that is not empty", .notEmpty) {
            try await client.rename("third", "other", from: home, to: home)
        }
        await refuses("a directory below itself", .loop) {
            try await client.rename("third", "x", from: home, to: third)
        }
        await expect("a directory over an empty one", third) {
            _ = try await client.directory("empty", in: home)
            return try await client.rename("third", "empty", from: home, to: home).file.file
        }
        await expect("two names exchanged", "\(third) \(second)") {
            try await client.rename("empty", "c", from: home, to: other, .exchange)
            let one = try await client.lookup("c", in: other).file
            let two = try await client.lookup("empty", in: home).file
            return "\(one) \(two)"
        }
        await refuses("exchanged with nothing", .noEntry) {
            try await client.rename("empty", "nothing", from: home, to: home, .exchange)
        }
        await expect("onto itself", second) {
            try await client.rename("empty", "empty", from: home, to: home)
            return try await client.lookup("empty", in: home).file
        }
        await expect("above a moved directory", other) { try await client.lookup("..", in: third).file }
    }

    private mutating func links() async throws {
        let client = client
        let home = try await client.directory("links")
        let file = try await client.create("a", in: home).file.file
        await expect("a second name", UInt32(2)) { try await client.link(file, "b", in: home).file.links }
        await expect("leads to the same file", file) { try await client.lookup("b", in: home).file }
        await refuses("a second name that is taken", .exists) { try await client.link(file, "b", in: home) }
        await refuses("a second name of a directory", .isDirectory) { try await client.link(home, "c", in: home) }
        await expect("the first name goes", 1) { try await client.remove("a", in: home).file.links }
        await expect("the file is still there", 1) { try await client.attributes(file).links }
        await expect("one name over another of the same file", UInt32(2)) {
            try await client.link(file, "c", in: home)
            return try await client.rename("b", "c", from: home, to: home).file.links
        }
    }

    // MARK: Data

    private mutating func data() async throws {
        let client = client
        let home = try await client.directory("data")
        let file = try await client.create("a", in: home).file.file
        await expect("five bytes", 5) { try await client.write(file, "hello").after.size }
        await expect("read again", "hello") { try await client.read(file) }
        await expect("read from the middle", "llo") { try await client.read(file, at: 2) }
        await expect("read at the end", "") { try await client.read(file, at: 5) }
        await expect("read far behind the end", "") { try await client.read(file, at: 1 << 62) }
        await expect("a hole is zeros", "hello___x") {
            try await client.write(file, "x", at: 8)
            return try await client.read(file)
        }
        await expect("nothing written changes nothing", 9) { try await client.write(file, "", at: 100).after.size }
        await refuses("beyond what a file may have", .fileTooBig) { try await client.write(file, "x", at: .max - 1) }
        await refuses("written to a directory", .isDirectory) { try await client.write(home, "x") }
        await refuses("a directory read", .isDirectory) { _ = try await client.read(home) }
        await expect("cut", "hel") {
            _ = try await client.files.resize(client.request, file, to: 3, NewAttributes())
            return try await client.read(file)
        }
        await expect("made longer", "hel__") {
            _ = try await client.files.resize(client.request, file, to: 5, NewAttributes())
            return try await client.read(file)
        }
        await refuses("a size that no file may have", .fileTooBig) {
            _ = try await client.files.resize(client.request, file, to: .max, NewAttributes())
        }
        await expect("cut, with other attributes", "0600 2") {
            var others = NewAttributes()
            others.mode = 0o600
            let changed = try await client.files.resize(client.request, file, to: 2, others).changed.after
            return "0\(String(changed.mode, radix: 8)) \(changed.size)"
        }
        await expect("emptied", 0) {
            try await client.done { client.files.empty(client.request, file) }.after.size
        }
        let turned = try await client.create("turned", in: home).file.file
        await expect("an empty file that becomes a link", "away") {
            _ = try await client.done { client.files.makeLink(client.request, turned, to: Array("away".utf8)) }
            let target = try await client.done { client.files.target(client.request, of: turned) }
            return String(decoding: target, as: UTF8.self)
        }
        _ = try await client.done {
            client.name("turned") { client.files.remove(client.request, in: home, $0, isDirectory: false) }
        }
        await expect("what waits is read, too", "flushed") {
            try await client.write(file, "flushed")
            _ = try await client.files.flush(file)
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 8)
            defer { memory.deallocate() }
            let count = try await client.files.readAll(file, at: 0, into: SendableBuffer(memory))
            return String(decoding: memory.prefix(count), as: UTF8.self)
        }
        let long = try await client.create("long", in: home).file.file
        let text = String(repeating: "0123456789abcdef", count: 16 * 1024)
        await expect("256 KiB", UInt64(text.utf8.count)) {
            try await client.write(long, text)
            _ = try await client.files.flush(long)
            return try await client.attributes(long).size
        }
        await expect("a hole made in it", "_______________") {
            _ = try await client.files.punch(client.request, long, at: 65536, length: 65536)
            return try await client.read(long, at: 65536, count: 15)
        }
        await expect("the first data", 0) {
            try await client.done { client.files.seek(client.request, long, from: 0, data: true) }
        }
        await expect("the hole behind it", 65536) {
            try await client.done { client.files.seek(client.request, long, from: 0, data: false) }
        }
        await expect("data behind the hole", 131_072) {
            try await client.done { client.files.seek(client.request, long, from: 70_000, data: true) }
        }
        await refuses("data behind the end", .noEntry) {
            try await client.done { client.files.seek(client.request, long, from: 1 << 40, data: true) }
        }
        await expect("a range cloned", "0123456789abcdef") {
            let copy = try await client.create("copy", in: home).file.file
            _ = try await client.files.clone(client.request, long, at: 0, length: 65536, to: copy, at: 0)
            return try await client.read(copy, at: 65520, count: 16)
        }
        await refuses("a range cloned onto itself", .invalid) {
            _ = try await client.files.clone(client.request, long, at: 0, length: 65536, to: long, at: 32768)
        }
    }

    private mutating func attributes() async throws {
        let client = client
        let home = try await client.directory("attributes")
        let file = try await client.create("a", in: home).file
        func set(_ change: (inout NewAttributes) -> Void) async throws -> Attributes {
            var new = NewAttributes()
            change(&new)
            let changes = new
            return try await client.done { client.files.setAttributes(client.request, file.file, changes) }.after
        }
        await expect("a mode", 0o7750) { try await set { $0.mode = 0o7750 }.mode }
        await expect("an owner", 1234) { try await set { $0.uid = 1234 }.uid }
        await expect("a group", 4321) { try await set { $0.gid = 4321 }.gid }
        await expect("a time of reading", -5_000_000_007) { try await set { $0.accessed = -5_000_000_007 }.accessed }
        await expect("a time of writing", 1_700_000_000_123_456_789) {
            try await set { $0.modified = 1_700_000_000_123_456_789 }.modified
        }
        await expect("a time of birth", 77_000_000_000) { try await set { $0.born = 77_000_000_000 }.born }
        await expect("DOS attributes", 0x22) { try await set { $0.dos = 0x22 }.dos }
        await expect("and they stay", 0x22) { try await client.attributes(file.file).dos }
        await refuses("guarded by another time", .notSynchronized) {
            _ = try await set {
                $0.mode = 0o600
                $0.ifChanged = 1
            }
        }
        await expect("guarded by its time", UInt16(0o600)) {
            let now = try await client.attributes(file.file).changed
            return try await set {
                $0.mode = 0o600
                $0.ifChanged = now
            }.mode
        }
        await expect("a change shows", true) {
            let before = try await client.attributes(file.file)
            let after = try await set { $0.mode = 0o640 }
            return after.change > before.change && after.changed >= before.changed
        }
        await expect("a write shows", true) {
            let before = try await client.attributes(file.file)
            let after = try await client.write(file.file, "x").after
            return after.change > before.change && after.modified != before.modified
        }
        await expect("a name shows in its directory", true) {
            let before = try await client.attributes(home)
            let after = try await client.create("b", in: home).directory.after
            return after.change > before.change && after.modified >= before.modified
        }
        await expect("a link has no mode of its own to set", FileType.symlink) {
            var new = NewFile(type: .symlink, mode: 0o777)
            new.target = [0x78]
            let link = try await client.create("link", in: home, new).file.file
            var times = NewAttributes()
            times.modified = 5_000_000_000
            return try await client.done { client.files.setAttributes(client.request, link, times) }.after.type
        }
        await expect("room", true) {
            let space = try await client.done { client.files.space(client.request) }
            return space.bytes > 0 && space.bytesFree > 0 && space.bytesFree <= space.bytes && space.files > 0
        }
    }

    private mutating func listing() async throws {
        let client = client
        let home = try await client.directory("listing")
        let names = (0..<700).map { "name-\($0)" }.sorted()
        for name in names { _ = try await client.create(name, in: home) }
        await expect("all names", names) { try await client.names(home) }
        await expect("all names, one by one", names) { try await client.names(home, limit: 1) }
        await expect("all names with attributes", names) { try await client.names(home, attributes: true) }
        await refuses("a listing of a file", .notDirectory) {
            _ = try await client.names(try await client.lookup("name-1", in: home).file)
        }
        await expect("a position stays good while names go", true) {
            var cookie: UInt64 = 0
            var first: [String] = []
            _ = try await client.done {
                first = []
                return client.files.list(client.request, home, after: 0, limit: 300, attributes: false) {
                    first.append(String(decoding: $1, as: UTF8.self))
                    cookie = $0.cookie
                    return first.count < 100
                }
            }
            for name in first.prefix(50) { try await client.remove(name, in: home) }
            var rest: [String] = []
            var after = cookie
            while true {
                var page: [String] = []
                let isEnd = try await client.done {
                    page = []
                    return client.files.list(client.request, home, after: after, limit: 300, attributes: false) {
                        page.append(String(decoding: $1, as: UTF8.self))
                        cookie = $0.cookie
                        return true
                    }
                }
                rest += page
                after = cookie
                if isEnd { break }
            }
            return Set(first).union(rest) == Set(names) && Set(first).isDisjoint(with: rest)
        }
        await expect("entries with attributes are the files", true) {
            var isRight = true
            _ = try await client.done {
                client.files.list(client.request, home, after: 0, limit: 10, attributes: true) { entry, _ in
                    isRight = isRight && entry.attributes?.file == entry.file && entry.type == .file
                    return true
                }
            }
            return isRight
        }
        await expect("everything below", "650 0") {
            let totals = try await client.done { client.files.totals(client.request, below: home) }
            return "\(totals.files) \(totals.directories)"
        }
    }

    // MARK: Lists and attributes

    private mutating func lists() async throws {
        let client = client
        let file = try await client.create("with a list").file.file
        let list = ACL([
            ACL.Entry(.allow, .user(77), [.readData]), ACL.Entry(.allow, .owner, [.readData, .writeData]),
        ])
        await expect("no list", true) { try await client.done { client.files.acl(client.request, file) } == nil }
        await expect("a list", list) {
            _ = try await client.done { client.files.setACL(client.request, file, list, mode: 0o600) }
            return try await client.done { client.files.acl(client.request, file) }
        }
        await expect("it shows", "true 600") {
            let file = try await client.attributes(file)
            return "\(file.hasACL) \(String(file.mode, radix: 8))"
        }
        await expect("it goes", false) {
            _ = try await client.done { client.files.setACL(client.request, file, nil, mode: 0o644) }
            return try await client.attributes(file).hasACL
        }
        var new = NewFile(type: .file, mode: 0o640)
        new.acl = list
        let made = new
        await expect("a file made with a list", "true 640") {
            let file = try await client.create("made with a list", made).file
            return "\(file.hasACL) \(String(file.mode, radix: 8))"
        }
    }

    private func set(_ file: FileID, _ name: String, _ value: [UInt8]?) async throws -> Attributes {
        try await client.done {
            client.name(name) { client.files.setExtendedAttribute(client.request, file, $0, value) }
        }
    }

    private mutating func extended() async throws {
        let client = client
        let program = self
        let file = try await client.create("extended").file.file
        func all(_ prefixes: String...) async throws -> [ExtendedAttribute] {
            try await client.done {
                client.files.extendedAttributes(client.request, file, prefixes: prefixes.map { Array($0.utf8) })
            }
        }
        await expect("no attributes", 0) { try await all("user.", "proxyfs.").count }
        await does("an attribute") { _ = try await program.set(file, "user.colour", [1, 2, 3]) }
        await does("one of the server's own") { _ = try await program.set(file, "proxyfs.meta", [4]) }
        await does("an empty one") { _ = try await program.set(file, "user.empty", []) }
        await expect("by prefix, in order", "[1, 2, 3][]") {
            try await all("user.").map { "\($0.value)" }.joined()
        }
        await expect("all", "proxyfs.meta user.colour user.empty") {
            try await all("user.", "proxyfs.").map { String(decoding: $0.name, as: UTF8.self) }.joined(separator: " ")
        }
        await refuses("one removed that is not there", .noAttribute) { _ = try await program.set(file, "user.x", nil) }
        await expect("one removed", 1) {
            _ = try await program.set(file, "user.empty", nil)
            return try await all("user.").count
        }
        await refuses("one that is too big", .attributeTooBig) {
            _ = try await program.set(file, "user.big", [UInt8](repeating: 1, count: 1 << 20))
        }
    }

    // MARK: Objects

    private func place(
        _ name: String, _ content: String, _ expected: ExpectedFile = .anything, seal: ContentSeal? = nil,
        in directory: FileID
    ) async throws -> PlacedFile {
        try await client.done {
            client.name(name) { name in
                client.name(content) {
                    client.files.place(
                        client.request, in: directory, name, $0, NewFile(type: .file, mode: 0o640), uid: 7, gid: 8,
                        attributes: [ExtendedAttribute("user.tag", [9])], seal: seal, expected: expected)
                }
            }
        }
    }

    private mutating func objects() async throws {
        let client = client
        let program = self
        let home = try await client.directory("objects")
        let seal = ContentSeal(high: 1, low: 2, parts: 0)
        let first = try await place("o", "one", seal: seal, in: home)
        await expect("an object is a file", "one") { try await client.read(first.file.file) }
        await expect("with its owner and mode", "7:8 640") {
            "\(first.file.uid):\(first.file.gid) \(String(first.file.mode, radix: 8))"
        }
        await expect("and its seal", Optional(seal)) { try await client.attributes(first.file.file).seal }
        await expect("a seal outlives a change of times", Optional(seal)) {
            var new = NewAttributes()
            new.modified = 99_000_000_000
            let times = new
            return try await client.done {
                client.files.setAttributes(client.request, first.file.file, times)
            }.after.seal
        }
        await expect("a write breaks the seal", true) {
            try await client.write(first.file.file, "ONE")
            return try await client.attributes(first.file.file).seal == nil
        }
        await refuses("guarded by a time that was, before what is written is flushed", .notSynchronized) {
            var new = NewAttributes()
            (new.mode, new.ifChanged) = (0o600, first.file.changed)
            let guarded = new
            _ = try await client.done { client.files.setAttributes(client.request, first.file.file, guarded) }
        }
        await refuses("an object where nothing is to be", .exists) {
            _ = try await program.place("o", "two", .nothing, in: home)
        }
        await refuses("another one than expected", .stale) {
            _ = try await program.place("o", "two", .file(first.file.file, change: 1), in: home)
        }
        await refuses("none where one is expected", .noEntry) {
            _ = try await program.place("nothing", "two", .file(first.file.file, change: 1), in: home)
        }
        await expect("in the place of the one that was expected", "two") {
            let now = try await client.attributes(first.file.file)
            let placed = try await program.place("o", "two", .file(now.file, change: now.change), in: home)
            return try await client.read(placed.file.file)
        }
        await refuses("the old one is gone", .stale) { _ = try await client.attributes(first.file.file) }
        await refuses("an object over a directory", .isDirectory) {
            _ = try await program.place("objects", "x", in: client.root)
        }
        await expect("a file without a name gets one", "long content") {
            let file = try await client.done {
                client.files.createNameless(
                    client.request, near: home, NewFile(type: .file, mode: 0o600), uid: 7, gid: 8)
            }.file
            try await client.write(file, "long content")
            _ = try await client.files.flush(file)
            _ = try await client.done {
                client.name("placed") {
                    client.files.place(client.request, in: home, $0, file, seal: nil, expected: .nothing)
                }
            }
            _ = try await client.done { client.files.close(client.request, file) }
            return try await client.read(try await client.lookup("placed", in: home).file)
        }
        await refuses("one that is dropped is gone", .stale) {
            let file = try await client.done {
                client.files.createNameless(
                    client.request, near: home, NewFile(type: .file, mode: 0o600), uid: 7, gid: 8)
            }.file
            _ = try await client.done { client.files.close(client.request, file) }
            _ = try await client.attributes(file)
        }
        await expect("parts joined", "twolong content") {
            let file = try await client.done {
                client.files.createNameless(
                    client.request, near: home, NewFile(type: .file, mode: 0o600), uid: 7, gid: 8)
            }.file
            let parts = [try await client.lookup("o", in: home).file, try await client.lookup("placed", in: home).file]
            for part in parts { _ = try await client.files.flush(part) }
            _ = try await client.files.join(parts, to: file, now: 5)
            let text = try await client.read(file)
            _ = try await client.done { client.files.close(client.request, file) }
            return text
        }
        await expect("a directory that is implied", "true false") {
            let made = try await client.done {
                client.name("implied") {
                    client.files.createImplied(client.request, in: home, $0, mode: 0o755, uid: 7, gid: 8)
                }
            }.file
            let after = try await client.done { client.files.setImplied(client.request, made.file, false) }
            return "\(made.isImplied) \(after.isImplied)"
        }
        for name in ["a", "a-b", "a.b"] {
            let directory = try await client.directory("d\(name)", in: home)
            for leaf in ["x", "y-", "y"] { _ = try await client.create(leaf, in: directory) }
        }
        let expected = [
            "da-b/", "da-b/x", "da-b/y", "da-b/y-", "da.b/", "da.b/x", "da.b/y", "da.b/y-", "da/", "da/x", "da/y",
            "da/y-", "implied/", "o", "placed",
        ]
        for limit in [1, 2, 5, 1000] {
            await expect("paths in order, \(limit) at a time", expected) {
                try await program.paths(home, prefix: "", limit: limit)
            }
        }
        await expect("paths with a prefix", ["da/", "da/x", "da/y", "da/y-"]) {
            try await program.paths(home, prefix: "da/", limit: 3)
        }
        await expect("paths from the middle", ["da/y-", "implied/", "o", "placed"]) {
            try await program.paths(home, from: "da/y-", prefix: "", limit: 100)
        }
    }

    private func paths(
        _ home: FileID, from start: String = "", prefix: String, limit: Int
    ) async throws -> [String] {
        var paths: [String] = []
        var next = Array(start.utf8)
        while true {
            var page: [String] = []
            let from = next
            let more = try await client.done {
                page = []
                return client.files.listPaths(
                    client.request, below: home, from: from, prefix: Array(prefix.utf8), limit: limit
                ) { path, _ in
                    page.append(String(decoding: path, as: UTF8.self))
                    return true
                }
            }
            paths += page
            guard let more else { return paths }
            next = more
        }
    }

    // MARK: Opens and promises

    private mutating func opens() async throws {
        let client = client
        let file = try await client.create("open").file.file
        await expect("an open file outlives its name", "still here") {
            _ = try await client.done { client.files.open(client.request, file) }
            try await client.write(file, "still here")
            try await client.remove("open")
            return try await client.read(file)
        }
        await expect("it has no names", 0) { try await client.attributes(file).links }
        await refuses("and goes with its last close", .stale) {
            _ = try await client.done { client.files.close(client.request, file) }
            _ = try await client.attributes(file)
        }
        await refuses("open what is gone", .stale) {
            _ = try await client.done { client.files.open(client.request, file) }
        }
    }

    private mutating func promises() async throws {
        let client = client
        for durability in [Durability.memory, .log, .store] {
            await does("a change becomes safe: \(durability)") {
                let number = try await { () async throws -> UInt64 in
                    while true {
                        let attempt = client.name("promised-\(durability)") {
                            client.files.create(
                                client.request, in: client.root, $0, NewFile(type: .file, mode: 0o600), uid: 0, gid: 0,
                                .exclusive)
                        }
                        switch attempt {
                        case .done(_, let number): return number
                        case .refused(let error): throw error
                        case .lacks(let lack): try await lack.supplied()
                        }
                    }
                }()
                guard number > 0, number <= client.files.newestChange else { throw FileError.invalid }
                let failure = await withUnsafeContinuation { (done: UnsafeContinuation<FileError?, Never>) in
                    client.files.whenSettled(number, durability, on: client.world.loops[0]) {
                        done.resume(returning: $0)
                    }
                }
                if let failure { throw failure }
            }
        }
        await expect("the verifier stays while nothing fails", true) {
            client.files.writeVerifier == client.files.writeVerifier
        }
    }
}

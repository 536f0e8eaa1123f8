import Headhunter
import LogFS
import Runtime
import Simulator
import Testing
import Trials

/// LogFS beside the model, driven by a seed.
struct ModelTests {
    @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6])
    func agreesWithModel(_ seed: UInt64) {
        Bench.files(seed: seed) { files, world in
            var run = ModelRun(files, world, seed: seed)
            for step in 0..<6_000 {
                try await run.step()
                if run.problems > 0 {
                    Issue.record("seed \(seed), step \(step)")
                    return
                }
                if step % 1_000 == 999 { try await run.compareAll() }
            }
        }
    }
}

struct ModelRun {
    var files: LogFS
    let world: World
    let model = FileModel()
    var random: Generator
    var now: Int64 = 1_000
    var problems = 0
    /// Files that were seen, gone ones among them.
    var known: [FileModel.Node] = []

    init(_ files: LogFS, _ world: World, seed: UInt64) {
        self.files = files
        self.world = world
        random = Generator(seed: seed, stream: "model")
        model.root.id = files.rootID
        model.root.links = 2
    }

    mutating func anyName() -> [UInt8] {
        let stems = ["a", "b", "A", "ab", "a-b", "äpfel", "ÄPFEL", "Straße", "x.txt", "K", "\u{212A}", "zz", "a b"]
        var name = Array(stems[random.below(stems.count)].utf8)
        if random.once(in: 3) { name += Array("\(random.below(12))".utf8) }
        if random.once(in: 60) { name = [0x2e, 0x2e] }
        if random.once(in: 60) { name = Array(repeating: 0x61, count: random.once(in: 2) ? 1000 : 1001) }
        if random.once(in: 60) { name = [0xff, 0x80, UInt8(random.below(256))] }
        if random.once(in: 80) { name = [] }
        return name
    }

    mutating func directory() -> FileModel.Node {
        let all = model.directories().sorted { ($0.id?.inode ?? 0) < ($1.id?.inode ?? 0) }
        return random.once(in: 3) ? model.root : all[random.below(all.count)]
    }

    mutating func existing(_ directory: FileModel.Node) -> [UInt8]? {
        let names = directory.children.keys.sorted { $0.lexicographicallyPrecedes($1) }
        return names.isEmpty ? nil : names[random.below(names.count)]
    }

    mutating func problem(_ text: String) {
        problems += 1
        Issue.record("\(text)")
    }

    mutating func expect<Value>(_ result: Result<Value, FileError>, _ wanted: FileError?, _ what: String) -> Value? {
        switch result {
        case .success(let value):
            if let wanted { problem("\(what): went through, wanted \(wanted)") }
            return wanted == nil ? value : nil
        case .failure(let error):
            if error != wanted { problem("\(what): \(error), wanted \(wanted.map { "\($0)" } ?? "success")") }
            return nil
        }
    }

    mutating func step() async throws {
        now += 1
        switch random.below(140) {
        case 100..<140: try await dataStep()
        case 0..<30: try await create()
        case 30..<36: try await link()
        case 36..<52: try await remove()
        case 52..<72: try await rename()
        case 72..<78: try await lookup()
        case 78..<84: try await lookupFolded()
        case 84..<90: try await list()
        case 90..<94: try await totals()
        case 94..<98: _ = try await outcome(files) { self.files.settle($0) }
        default:
            // A start finds the totals again, and nothing open.
            try await files.flushAll()
            for node in known { node.opens = 0 }
            files = try await LogFS.open(files.headhunter, world: world, subvolume: 1)
        }
    }

    mutating func create() async throws {
        let home = directory()
        let name = anyName()
        let types: [FileType] = [.file, .file, .directory, .symlink, .fifo, .characterDevice]
        let type = types[random.below(types.count)]
        let mayExist = random.once(in: 2)
        guard let id = home.id else { return }
        let there = home.children[name]?.node
        var wanted = FileModel.check(name)
        if wanted == nil, let there, !(mayExist && type == .file && there.type == .file) { wanted = .exists }
        let target = Array(repeating: UInt8(0x74), count: random.once(in: 4) ? 4095 : 1 + random.below(50))
        let result = try await outcome(
            files,
            { [files] request in
                with(name) { name in
                    with(target) { target in
                        var new = NewFile(type: type, mode: 0o644, uid: 1, gid: 2)
                        if type == .symlink { new.target = target }
                        return files.create(request, in: id, name, new, mayExist: mayExist)
                    }
                }
            }, now: now)
        guard let made = expect(result, wanted, "create") else { return }
        if there != nil {
            if made.isNew || made.inode.id != there?.id { problem("create: not the file that was there") }
            return
        }
        let node = FileModel.Node(type, mode: 0o644)
        node.id = made.inode.id
        if type == .symlink { node.content = target }
        let cookie = try await cookieOf(home, name)
        model.add(node, to: home, name, cookie: cookie)
        known.append(node)
        try await compare(node)
        try await compare(home)
    }

    /// Cookies are the file system's to choose; they must rise.
    mutating func cookieOf(_ home: FileModel.Node, _ name: [UInt8]) async throws -> UInt64 {
        let entries = try await listAll(home, limit: 256)
        guard let found = entries.first(where: { $0.name == name }) else {
            problem("a new entry is not listed")
            return 0
        }
        return found.cookie
    }

    func listAll(
        _ home: FileModel.Node, limit: Int
    ) async throws -> [(name: [UInt8], cookie: UInt64, inode: Inode?)] {
        guard let id = home.id else { return [] }
        var all: [(name: [UInt8], cookie: UInt64, inode: Inode?)] = []
        var more = true
        while more {
            let after = all.last?.cookie ?? 0
            var part: [(name: [UInt8], cookie: UInt64, inode: Inode?)] = []
            let result = try await outcome(files) { request -> Attempt<Bool> in
                part.removeAll()
                return files.list(request, id, after: after, limit: limit, attributes: true) { listed, name in
                    part.append((Array(name), listed.entry.cookie, listed.inode))
                    return true
                }
            }
            more = try result.get()
            all.append(contentsOf: part)
        }
        return all
    }

    mutating func link() async throws {
        let home = directory()
        let source = directory()
        let name = anyName()
        guard let old = existing(source), let node = source.children[old]?.node, let id = node.id,
            let homeID = home.id
        else { return }
        var wanted = FileModel.check(name)
        if wanted == nil {
            wanted = node.isDirectory ? .isDirectory : home.children[name] != nil ? .exists : nil
        }
        let result = try await outcome(
            files,
            { [files] request in
                with(name) { files.link(request, id, in: homeID, $0) }
            }, now: now)
        guard expect(result, wanted, "link") != nil else { return }
        model.add(node, to: home, name, cookie: try await cookieOf(home, name))
        try await compare(node)
    }

    mutating func remove() async throws {
        let home = directory()
        let name = random.once(in: 6) ? anyName() : existing(home) ?? anyName()
        let isDirectory = random.once(in: 3)
        guard let id = home.id else { return }
        let node = home.children[name]?.node
        var wanted = FileModel.check(name)
        if wanted == nil {
            if let node {
                if isDirectory != node.isDirectory { wanted = isDirectory ? .notDirectory : .isDirectory }
                if wanted == nil, !node.children.isEmpty { wanted = .notEmpty }
            } else {
                wanted = .noEntry
            }
        }
        let result = try await outcome(
            files,
            { [files] request in
                with(name) {
                    isDirectory ? files.rmdir(request, in: id, $0) : files.unlink(request, in: id, $0)
                }
            }, now: now)
        guard expect(result, wanted, "remove") != nil, let node else { return }
        model.take(name, from: home)
        try await compare(node)
        try await compare(home)
    }

    mutating func rename() async throws {
        let source = directory()
        let target = random.once(in: 2) ? source : directory()
        let name = random.once(in: 8) ? anyName() : existing(source) ?? anyName()
        let newName = random.once(in: 2) ? anyName() : existing(target) ?? anyName()
        let mode: RenameMode = random.once(in: 4) ? .exchange : random.once(in: 4) ? .refuseIfThere : .replace
        guard let from = source.id, let to = target.id else { return }
        let wanted = model.renameProblem(source, name, target, newName, mode)
        let result = try await outcome(
            files,
            { [files] request in
                with(name) { name in
                    with(newName) { newName in files.rename(request, from: from, name, to: to, newName, mode) }
                }
            }, now: now)
        guard expect(result, wanted, "rename \(mode)") != nil, let moved = source.children[name] else { return }
        let there = target.children[newName]
        if there?.node === moved.node { return }
        if mode == .exchange, let there {
            source.children[name] = (there.node, moved.cookie)
            target.children[newName] = (moved.node, there.cookie)
            model.moveName(moved.node, from: (source, moved.cookie), to: (target, there.cookie))
            model.moveName(there.node, from: (target, there.cookie), to: (source, moved.cookie))
        } else {
            if there != nil { model.take(newName, from: target) }
            source.children[name] = nil
            let cookie = try await cookieOf(target, newName)
            if source === target, cookie != moved.cookie { problem("rename: the cookie changed") }
            target.children[newName] = (moved.node, cookie)
            model.moveName(moved.node, from: (source, moved.cookie), to: (target, cookie))
        }
        try await compare(moved.node)
        if let there { try await compare(there.node) }
        try await compare(source)
        try await compare(target)
    }

    mutating func lookup() async throws {
        let home = directory()
        let name = random.once(in: 2) ? anyName() : existing(home) ?? anyName()
        guard let id = home.id else { return }
        let result = try await outcome(files) { [files] request in with(name) { files.lookup(request, in: id, $0) } }
        if name == [0x2e, 0x2e] {
            guard let inode = expect(result, nil, "lookup ..") else { return }
            if inode.id != (home.parent ?? model.root).id { problem("lookup ..: another directory") }
            return
        }
        let node = home.children[name]?.node
        let wanted: FileError? = name.count > 1000 ? .nameTooLong : node == nil ? .noEntry : nil
        guard let inode = expect(result, wanted, "lookup") else { return }
        if inode.id != node?.id { problem("lookup: another file") }
    }

    mutating func lookupFolded() async throws {
        let home = directory()
        let name = random.once(in: 2) ? anyName() : existing(home) ?? anyName()
        guard let id = home.id, name.count <= 1000 else { return }
        var true_: [UInt8] = []
        let result = try await outcome(files) { [files] request in
            with(name) { files.lookupFolded(request, in: id, $0) { true_ = Array($0) } }
        }
        let candidates = home.children.keys.filter { FileModel.fold($0) == FileModel.fold(name) }
        switch result {
        case .success(let inode):
            if home.children[true_]?.node.id != inode.id { problem("folded lookup: name and file do not fit") }
            if home.children[name] != nil, true_ != name { problem("folded lookup: not the exact match") }
            if !candidates.contains(true_) { problem("folded lookup: \(true_) for \(name)") }
        case .failure(let error):
            if error != .noEntry || !candidates.isEmpty { problem("folded lookup: \(error), but \(candidates)") }
        }
    }

    mutating func list() async throws {
        try await compareList(directory(), limit: 1 + random.below(20))
    }

    mutating func compareList(_ home: FileModel.Node, limit: Int) async throws {
        let entries = try await listAll(home, limit: limit)
        if entries.count != home.children.count { problem("list: \(entries.count) of \(home.children.count)") }
        var last: UInt64 = 0
        for entry in entries {
            if entry.cookie <= last { problem("list: cookies do not rise") }
            last = entry.cookie
            guard let child = home.children[entry.name] else {
                problem("list: \(entry.name) is not there")
                continue
            }
            if child.cookie != entry.cookie { problem("list: a cookie changed") }
            if entry.inode?.id != child.node.id { problem("list: attributes of another file") }
        }
    }

    mutating func totals() async throws {
        try await compareTotals(directory())
    }

    mutating func compareTotals(_ home: FileModel.Node) async throws {
        guard let id = home.id else { return }
        // Bytes count from when they are in the tree on.
        try await files.flushAll()
        let result = try await outcome(files) { [files] in files.totals($0, id) }
        let wanted = model.totals(home)
        if let totals = expect(result, nil, "totals"), totals != wanted {
            problem("totals of \(id.inode): \(totals), wanted \(wanted)")
        }
    }

    mutating func compare(_ node: FileModel.Node) async throws {
        guard let id = node.id else { return }
        let result = try await outcome(files) { [files] in files.attributes($0, id) }
        let isGone = node !== model.root && node.links == 0 && node.opens == 0
        guard let inode = expect(result, isGone ? .stale : nil, "attributes") else { return }
        let subdirectories = node.children.values.filter { $0.node.isDirectory }.count
        let links = node.isDirectory ? (node === model.root || node.links > 0 ? 2 + subdirectories : 0) : node.links
        if Int(inode.links) != links { problem("\(node.type): \(inode.links) links, wanted \(links)") }
        if inode.type != node.type { problem("another type") }
        if !node.isDirectory, inode.size != UInt64(node.content.count) {
            problem("size \(inode.size), wanted \(node.content.count)")
        }
        if node.isDirectory, Int(inode.entries) != node.children.count { problem("entries") }
        if node.type == .symlink {
            let target = try await outcome(files) { [files] in files.target($0, id) }
            if let target = expect(target, nil, "target"), target != node.content { problem("another target") }
        }
        if node.type == .file {
            if inode.change < node.change { problem("the change counter went back") }
            node.change = inode.change
            if inode.modified < node.modified { problem("the time of the last write went back") }
            node.modified = inode.modified
        }
    }

    mutating func comparePaths() async throws {
        let limit = 1 + random.below(40)
        var found: [[UInt8]] = []
        var next: [UInt8]? = []
        while let start = next {
            var part: [[UInt8]] = []
            next = try await outcome(files) { [files] request in
                part.removeAll()
                return files.listPaths(request, below: files.rootID, from: start, limit: limit) { _, path in
                    part.append(Array(path))
                    return true
                }
            }.get()
            found += part
        }
        if found != model.paths() { problem("paths: \(found.count) of \(model.paths().count)") }
    }

    mutating func compareAll() async throws {
        try await files.flushAll()
        let check = try await Check.run(files)
        if check.count > 0 { problem("check: \(check.differences.prefix(5))") }
        try await comparePaths()
        for home in model.directories() {
            try await compare(home)
            try await compareTotals(home)
            try await compareList(home, limit: 100)
        }
        for node in known {
            try await compare(node)
            if node.type == .file { try await compareContent(node, from: 0, count: node.content.count + 10) }
        }
    }
}

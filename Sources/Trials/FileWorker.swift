import Headhunter
import LogFS
import Runtime
import Simulator

/// What a life does to files and to the model of them, step by step.
struct FileWorker {
    static let names = ["f0", "f1", "f2", "f3"]
    let files: LogFS
    let model: FileTrial.Model
    var random: Generator
    var now: Int64 = 1

    private mutating func path() -> String { "\(random.once(in: 2) ? "a" : "b")/\(Self.names[random.below(4)])" }

    static func makeHomes(_ files: LogFS) async throws {
        for name in ["a", "b"] {
            _ = try await outcome(files) { request in
                with(Array(name.utf8)) {
                    files.create(request, in: files.rootID, $0, NewFile(type: .directory, mode: 0o755, uid: 0, gid: 0))
                }
            }.get()
        }
    }

    private static func home(_ files: LogFS, _ path: String) async throws -> (FileID, [UInt8]) {
        let home = try await outcome(files) { request in
            with(Array(path.utf8.prefix(1))) { files.lookup(request, in: files.rootID, $0) }
        }.get()
        return (home.id, Array(path.utf8.dropFirst(2)))
    }

    static func find(_ files: LogFS, _ path: String) async throws -> Inode? {
        let (home, name) = try await home(files, path)
        let found = try await outcome(files) { request in with(name) { files.lookup(request, in: home, $0) } }
        if case .success(let inode) = found { return inode }
        return nil
    }

    static func read(_ files: LogFS, _ path: String) async throws -> FileTrial.File? {
        guard let inode = try await find(files, path) else { return nil }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(inode.size) + 1, alignment: 16)
        defer { buffer.deallocate() }
        let count = try await files.readAll(inode.id, at: 0, into: buffer)
        var file = FileTrial.File(content: Array(buffer[..<count]))
        let value = try await outcome(files) { request in
            with(Array("user.x".utf8)) { files.attribute(request, inode.id, $0) }
        }
        if case .success(let bytes) = value { file.attribute = bytes }
        return file
    }

    mutating func step() async throws {
        now += 1
        let path = path()
        guard let inode = try await Self.find(files, path) else { return try await create(path) }
        switch random.below(100) {
        case 0..<36: try await write(path, inode)
        case 36..<48:
            try await flush(path, inode)
        case 48..<58:
            try await sync(path, inode)
        case 58..<66: try await resize(path, inode, to: random.once(in: 3) ? 0 : random.below(Int(inode.size) + 2_000))
        case 66..<72: try await punch(path, inode, at: random.below(Int(inode.size) + 1), random.below(20_000))
        case 72..<78: try await clone(path, inode)
        case 78..<86: try await rename(path, self.path())
        case 86..<92: try await unlink(path)
        case 92..<96: try await attribute(path, inode, random.below(random.once(in: 3) ? 9_000 : 40))
        default: try await files.tidy()
        }
    }

    private func count(_ name: String) { model.counts[name, default: 0] += 1 }

    mutating func flush(_ path: String, _ inode: Inode) async throws {
        model.flush(path)
        try await files.flush(inode.number)
        count("flush")
    }

    mutating func sync(_ path: String, _ inode: Inode) async throws {
        model.flush(path)
        // All that is in the tree is durable then, whoever brought it there.
        let place = model.states.count - 1
        try await files.sync(inode.id, .durable)
        model.synced = max(model.synced, place)
        count("sync")
    }

    mutating func create(_ path: String) async throws {
        let (home, name) = try await Self.home(files, path)
        model.push { $0[path] = FileTrial.File() }
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { files.create(request, in: home, $0, NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)) }
            }, now: now
        ).get()
        count("create")
    }

    private mutating func write(_ path: String, _ inode: Inode) async throws {
        let size = Int(inode.size)
        var offset = random.once(in: 3) ? size : random.below(size + 1)
        let length =
            random.once(in: 4) ? 65_536 + random.below(9_000) : 1 + random.below(random.once(in: 2) ? 100 : 3_000)
        if offset > 400_000 { offset = 0 }
        try await write(path, inode, at: offset, length)
    }

    mutating func write(_ path: String, _ inode: Inode, at offset: Int, _ length: Int) async throws {
        let seed = random.next()
        let bytes = (0..<length).map { UInt8(truncatingIfNeeded: (UInt64($0) &* 0x9E37_79B9 &+ seed) >> 11) | 1 }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 16)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try await files.writeAll(inode.id, at: UInt64(offset), UnsafeRawBufferPointer(memory), now: now)
        model.pending[path, default: []].append((offset, bytes))
        count("write")
    }

    mutating func resize(_ path: String, _ inode: Inode, to size: Int) async throws {
        model.flush(path)
        model.push { state in
            guard var file = state[path] else { return }
            file.content =
                Array(file.content.prefix(size)) + Array(repeating: 0, count: max(0, size - file.content.count))
            state[path] = file
        }
        try await files.resize(inode.id, to: UInt64(size), now: now)
        count("resize")
    }

    mutating func punch(_ path: String, _ inode: Inode, at offset: Int, _ length: Int) async throws {
        model.flush(path)
        model.push { state in
            guard var file = state[path] else { return }
            for place in offset..<max(offset, min(offset + length, file.content.count)) { file.content[place] = 0 }
            state[path] = file
        }
        try await files.punch(inode.id, at: UInt64(offset), length: UInt64(length), now: now)
        count("punch")
    }

    private mutating func clone(_ path: String, _ inode: Inode) async throws {
        let other = self.path()
        guard other != path, let target = try await Self.find(files, other) else { return }
        let from = random.below(Int(inode.size) + 1)
        let to = random.below(Int(target.size) + 1)
        try await clone(path, inode, at: from, random.below(100_000), to: other, target, at: to)
    }

    mutating func clone(
        _ path: String, _ inode: Inode, at from: Int, _ length: Int, to other: String, _ target: Inode, at to: Int
    ) async throws {
        // The one with the lower number is flushed first.
        for path in inode.number < target.number ? [path, other] : [other, path] { model.flush(path) }
        model.push { state in
            guard let source = state[path], var file = state[other] else { return }
            let part = source.content.dropFirst(from).prefix(length)
            guard !part.isEmpty else { return }
            if file.content.count < to + part.count {
                file.content += Array(repeating: 0, count: to + part.count - file.content.count)
            }
            file.content.replaceSubrange(to..<(to + part.count), with: part)
            state[other] = file
        }
        try await files.clone(
            from: inode.id, at: UInt64(from), length: UInt64(length), to: target.id, at: UInt64(to), now: now)
        count("clone")
    }

    mutating func rename(_ path: String, _ other: String) async throws {
        guard other != path else { return }
        let (home, name) = try await Self.home(files, path)
        let (newHome, newName) = try await Self.home(files, other)
        // A file that comes for another one brings its data along.
        if model.last[other] != nil { model.flush(path) }
        model.pending[other] = model.pending.removeValue(forKey: path)
        model.push { state in
            state[other] = state[path]
            state[path] = nil
        }
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { name in with(newName) { files.rename(request, from: home, name, to: newHome, $0) } }
            }, now: now
        ).get()
        count("rename")
    }

    mutating func unlink(_ path: String) async throws {
        let (home, name) = try await Self.home(files, path)
        model.pending[path] = nil
        model.push { $0[path] = nil }
        _ = try await outcome(
            files, { [files] request in with(name) { files.unlink(request, in: home, $0) } }, now: now
        )
        .get()
        count("unlink")
    }

    mutating func attribute(_ path: String, _ inode: Inode, _ length: Int) async throws {
        let value = Array(repeating: UInt8(random.below(256)), count: length)
        model.push { $0[path]?.attribute = value }
        _ = try await outcome(
            files,
            { [files] request in
                with(Array("user.x".utf8)) { name in with(value) { files.setAttribute(request, inode.id, name, $0) } }
            }, now: now
        ).get()
        count("attribute")
    }
}

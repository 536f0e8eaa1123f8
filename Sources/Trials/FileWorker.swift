import Headhunter
import LogFS
import Runtime
import Simulator

/// What a life does to files and to the model of them, step by step.
struct FileWorker {
    static let names = ["f0", "f1", "f2", "f3"]
    static let folder = "d"
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

    private static func content(_ files: LogFS, _ inode: Inode) async throws -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(inode.size) + 1, alignment: 16)
        defer { buffer.deallocate() }
        let count = try await files.readAll(inode.id, at: 0, into: buffer)
        return Array(buffer[..<count])
    }

    static func content(_ files: LogFS, in home: FileID, _ name: [UInt8]) async throws -> [UInt8] {
        let found = try await outcome(files) { request in with(name) { files.lookup(request, in: home, $0) } }
        return try await content(files, found.get())
    }

    static func read(_ files: LogFS, _ path: String) async throws -> FileTrial.File? {
        guard let inode = try await find(files, path) else { return nil }
        var file = FileTrial.File(content: try await content(files, inode))
        let value = try await outcome(files) { request in
            with(Array("user.x".utf8)) { files.attribute(request, inode.id, $0) }
        }
        if case .success(let bytes) = value { file.attribute = bytes }
        let stream = try await outcome(files) { request in
            with(Array("s".utf8)) { files.stream(request, of: inode.id, $0) }
        }
        if case .success(let stream) = stream {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(stream.size) + 1, alignment: 16)
            defer { buffer.deallocate() }
            file.stream = Array(buffer[..<(try await files.readAll(stream.id, at: 0, into: buffer))])
        }
        return file
    }

    mutating func step() async throws {
        now += 1
        let path = path()
        guard let inode = try await Self.find(files, path) else { return try await create(path) }
        switch random.below(120) {
        case 0..<36: try await write(path, inode)
        case 36..<48:
            try await flush(path, inode)
        case 48..<58:
            try await sync(path, inode)
        case 58..<66: try await resize(path, inode, to: random.once(in: 3) ? 0 : random.below(Int(inode.size) + 2_000))
        case 66..<72: try await punch(path, inode, at: random.below(Int(inode.size) + 1), random.below(20_000))
        case 72..<78: try await clone(path, inode)
        case 78..<83: try await rename(path, self.path())
        case 83..<89: try await unlink(path, isOpen: random.once(in: 2))
        case 89..<93: try await attribute(path, inode, random.below(random.once(in: 3) ? 9_000 : 40))
        case 93..<97: try await link(path, inode)
        case 97..<101: try await exchange(path, self.path())
        case 101..<105: try await folder(random.once(in: 2) ? "a" : "b")
        case 105..<109: try await stream(path, inode)
        case 109..<113: try await place(path, random.below(random.once(in: 2) ? 2_000 : 20_000))
        case 113..<117: try await join(path, self.path(), to: self.path())
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
        // A client that has heard nothing asks again, and gets its first answer.
        let token = random.once(in: 3) ? RequestToken(client: random.next() % 3, id: random.next(), digest: 1) : nil
        var made: [UInt64] = []
        for _ in 0..<(token == nil ? 1 : 2) {
            let created = try await outcome(
                files,
                { [files] request in
                    with(name) {
                        files.create(
                            Request(reader: request.reader, now: request.now, token: token), in: home, $0,
                            NewFile(type: .file, mode: 0o644, uid: 0, gid: 0))
                    }
                }, now: now
            ).get()
            made.append(created.inode.number)
        }
        if made.first != made.last { model.problems.append("\(path): the same request made two files") }
        if token != nil { count("token") }
        count("create")
    }

    /// The first name that is free.
    mutating func link(_ path: String, _ inode: Inode) async throws {
        let paths = ["a", "b"].flatMap { home in Self.names.map { "\(home)/\($0)" } }
        guard let other = paths.first(where: { model.last[$0] == nil }) else { return }
        let (home, name) = try await Self.home(files, other)
        model.push { $0.names[other] = $0.names[path] }
        _ = try await outcome(
            files, { [files] request in with(name) { files.link(request, inode.id, in: home, $0) } }, now: now
        ).get()
        count("link")
    }

    mutating func exchange(_ path: String, _ other: String) async throws {
        guard model.last[other] != nil, model.last.names[other] != model.last.names[path] else { return }
        let (home, name) = try await Self.home(files, path)
        let (newHome, newName) = try await Self.home(files, other)
        model.push { state in (state.names[path], state.names[other]) = (state.names[other], state.names[path]) }
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { name in
                    with(newName) { files.rename(request, from: home, name, to: newHome, $0, .exchange) }
                }
            }, now: now
        ).get()
        count("exchange")
    }

    /// Makes the one directory in a home, or removes it.
    mutating func folder(_ home: String) async throws {
        let path = "\(home)/\(Self.folder)"
        let (id, name) = try await Self.home(files, path)
        let isThere = model.last.directories.contains(path)
        model.push { if isThere { $0.directories.remove(path) } else { $0.directories.insert(path) } }
        if isThere {
            _ = try await outcome(
                files, { [files] request in with(name) { files.rmdir(request, in: id, $0) } }, now: now
            ).get()
        } else {
            let new = NewFile(type: .directory, mode: 0o755, uid: 0, gid: 0)
            _ = try await outcome(
                files, { [files] request in with(name) { files.create(request, in: id, $0, new) } }, now: now
            ).get()
        }
        count(isThere ? "rmdir" : "mkdir")
    }

    /// Gives the file a stream with some content, or takes it away.
    mutating func stream(_ path: String, _ inode: Inode) async throws {
        let name = Array("s".utf8)
        if model.last[path]?.stream != nil {
            model.push { $0[path]?.stream = nil }
            _ = try await outcome(
                files, { [files] request in with(name) { files.removeStream(request, of: inode.id, $0) } }, now: now
            ).get()
            return count("removeStream")
        }
        let bytes = [UInt8](repeating: UInt8(random.below(255)) | 1, count: 1 + random.below(2_000))
        model.push { $0[path]?.stream = [] }
        let stream = try await outcome(
            files, { [files] request in with(name) { files.createStream(request, of: inode.id, $0) } }, now: now
        ).get()
        model.push { $0[path]?.stream = bytes }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        try await files.writeAll(stream.id, at: 0, UnsafeRawBufferPointer(memory), now: now)
        try await files.flush(stream.number)
        count("stream")
    }

    /// Forgets what was written to a file that loses this name, if it was its last one.
    private func drop(_ path: String) {
        guard let id = model.last.names[path], model.last.names.values.count(where: { $0 == id }) == 1 else { return }
        model.pending[id] = nil
    }

    /// A file with this content, under a name that may be taken.
    mutating func place(_ path: String, _ length: Int) async throws {
        let (home, name) = try await Self.home(files, path)
        let bytes = [UInt8](repeating: UInt8(random.below(255)) | 1, count: length)
        drop(path)
        model.push { state in
            state.remove(path)
            state[path] = FileTrial.File(content: bytes)
        }
        let new = NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { name in with(bytes) { files.place(request, in: home, name, $0, new) } }
            }, now: now
        ).get()
        count("place")
    }

    /// A file made of the content of two others.
    mutating func join(_ path: String, _ second: String, to target: String) async throws {
        guard let one = try await Self.find(files, path), let two = try await Self.find(files, second) else { return }
        for (path, inode) in [(path, one), (second, two)] { try await flush(path, inode) }
        let (home, name) = try await Self.home(files, target)
        let new = NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)
        let made = try await outcome(files) { [files] in files.createNameless($0, near: home, new) }.get()
        try await files.join([one.id, two.id], to: made.id, now: now)
        drop(target)
        model.push { state in
            let content = (state[path]?.content ?? []) + (state[second]?.content ?? [])
            state.remove(target)
            state[target] = FileTrial.File(content: content)
        }
        _ = try await outcome(
            files, { [files] request in with(name) { files.place(request, in: home, $0, made.id) } }, now: now
        ).get()
        _ = try await outcome(files) { [files] in files.close($0, made.id) }.get()
        count("join")
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
        if let id = model.last.names[path] { model.pending[id, default: []].append((offset, bytes)) }
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
        guard other != path, let target = try await Self.find(files, other), target.number != inode.number else {
            return
        }
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
        // Of two names of one file both stay. A file that comes for another one brings its data along.
        if model.last[other] != nil { model.flush(path) }
        if model.last.names[other] != model.last.names[path] { drop(other) }
        model.push { $0.move(path, other) }
        _ = try await outcome(
            files,
            { [files] request in
                with(name) { name in with(newName) { files.rename(request, from: home, name, to: newHome, $0) } }
            }, now: now
        ).get()
        count("rename")
    }

    /// `isOpen`: the file lives on until it is closed, or until a crash.
    mutating func unlink(_ path: String, isOpen: Bool = false) async throws {
        let (home, name) = try await Self.home(files, path)
        var open: Inode?
        if isOpen, let inode = try await Self.find(files, path) {
            open = try await outcome(files) { [files] in files.open($0, inode.id) }.get()
        }
        drop(path)
        model.push { $0.remove(path) }
        _ = try await outcome(
            files, { [files] request in with(name) { files.unlink(request, in: home, $0) } }, now: now
        )
        .get()
        count("unlink")
        guard let open else { return }
        count("unlinkedOpen")
        // Some are never closed.
        guard random.once(in: 2) else { return }
        _ = try await outcome(files) { [files] in files.close($0, open.id) }.get()
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

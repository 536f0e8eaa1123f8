import LogFS
import Simulator
import Testing
import Trials

/// What the model says of data.
extension ModelRun {
    mutating func dataStep() async throws {
        let nodes = known.filter { $0.type == .file && ($0.links > 0 || $0.opens > 0) }
        guard !nodes.isEmpty else { return }
        let node = nodes[random.below(nodes.count)]
        switch random.below(100) {
        case 0..<45: try await write(node)
        case 45..<60:
            try await compareContent(node, from: random.below(node.content.count + 20), count: 1 + random.below(5000))
        case 60..<68: try await files.flush(id(node).inode)
        case 68..<76: try await resize(node)
        case 76..<82: try await punch(node)
        case 82..<88: try await seek(node)
        case 88..<92: try await open(node)
        case 92..<96: try await close(node)
        case 96..<98: try await files.flushAll()
        default: try await files.tidy()
        }
        try await compare(node)
    }

    func id(_ node: FileModel.Node) -> FileID { node.id ?? FileID(inode: 0, generation: 0) }

    mutating func bytes(_ count: Int) -> [UInt8] {
        let first = random.next()
        return (0..<count).map { UInt8(truncatingIfNeeded: (UInt64($0) &+ first) &* 0x9E37_79B9 >> 13) | 1 }
    }

    mutating func write(_ node: FileModel.Node) async throws {
        var offset = random.below(node.content.count + 1)
        if random.once(in: 3) { offset = node.content.count }
        if random.once(in: 6) { offset += random.below(4000) }
        var count = 1 + random.below(random.once(in: 2) ? 60 : 3000)
        if random.once(in: 12) { count = 60_000 + random.below(20_000) }
        if offset + count > 300_000 { offset = random.below(1000) }
        let data = bytes(count)
        node.write(data, at: offset)
        let result = try await outcome(
            files,
            { [files, id = id(node)] request in
                with(data) { files.write(request, id, at: UInt64(offset), $0) }
            }, now: now)
        _ = expect(result, nil, "write")
    }

    mutating func compareContent(_ node: FileModel.Node, from offset: Int, count: Int) async throws {
        let isGone = node.links == 0 && node.opens == 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0xEE)
        var got = 0
        do throws(Failure) {
            let attempt = files.read(Request(reader: 0, now: now), id(node), at: UInt64(offset), into: buffer)
            if case .done(let count, _) = attempt {
                got = count
            } else {
                got = try await files.readAll(id(node), at: UInt64(offset), into: buffer)
            }
            if isGone { problem("read: of a file that is gone") }
        } catch {
            if !(isGone && error == .file(.stale)) { problem("read: \(error)") }
            return
        }
        let wanted = node.content.dropFirst(offset).prefix(count)
        if got != wanted.count { return problem("read: \(got) bytes, wanted \(wanted.count)") }
        for (place, byte) in wanted.enumerated() where buffer[place] != byte {
            return problem("read: byte \(offset + place) of \(node.content.count) is \(buffer[place]), wanted \(byte)")
        }
        if got < count, buffer[got] != 0xEE { problem("read: beyond its answer") }
    }

    mutating func resize(_ node: FileModel.Node) async throws {
        var size = random.below(node.content.count + 1)
        if random.once(in: 3) { size = 0 }
        if random.once(in: 3) { size = node.content.count + random.below(5000) }
        let attempt = files.resize(Request(reader: 0, now: now), id(node), to: UInt64(size))
        let inode: Inode
        if case .done(let made, _) = attempt {
            inode = made
        } else {
            inode = try await files.resize(id(node), to: UInt64(size), now: now).inode
        }
        if inode.size != UInt64(size) { problem("resize: \(inode.size), wanted \(size)") }
        node.resize(size)
    }

    mutating func punch(_ node: FileModel.Node) async throws {
        let offset = random.below(node.content.count + 10)
        let length = random.below(random.once(in: 2) ? 100 : 50_000)
        try await files.punch(id(node), at: UInt64(offset), length: UInt64(length), now: now)
        for place in offset..<max(offset, min(offset + length, node.content.count)) { node.content[place] = 0 }
        if node.content.count > offset, length > 1, random.once(in: 2) {
            let end = min(offset + length, node.content.count)
            let hole = try await outcome(files) { [files, id = id(node)] in
                files.seek($0, id, from: UInt64(offset), .hole)
            }
            if try hole.get() != UInt64(offset) { problem("seek: a punched byte is no hole") }
            let data = try await outcome(files) { [files, id = id(node)] in
                files.seek($0, id, from: UInt64(offset), .data)
            }
            if case .success(let place) = data, place < UInt64(end) { problem("seek: data where there is a hole") }
        }
    }

    mutating func seek(_ node: FileModel.Node) async throws {
        let offset = random.below(node.content.count + 3)
        let isEnd = offset >= node.content.count
        let data = try await outcome(files) { [files, id = id(node)] in files.seek($0, id, from: UInt64(offset), .data)
        }
        let hole = try await outcome(files) { [files, id = id(node)] in files.seek($0, id, from: UInt64(offset), .hole)
        }
        if isEnd {
            _ = expect(data, .noEntry, "seek behind the end")
            _ = expect(hole, .noEntry, "seek behind the end")
            return
        }
        var end = node.content.count
        if case .success(let place) = data { end = Int(place) }
        if node.content[offset..<end].contains(where: { $0 != 0 }) { problem("seek: data overlooked") }
        guard let place = expect(hole, nil, "seek") else { return }
        if Int(place) < node.content.count, node.content[Int(place)] != 0 { problem("seek: data is called a hole") }
        if case .success(let first) = data, first == place { problem("seek: data and hole in one place") }
    }

    mutating func open(_ node: FileModel.Node) async throws {
        let result = try await outcome(files) { [files, id = id(node)] in files.open($0, id) }
        if expect(result, nil, "open") != nil { node.opens += 1 }
    }

    mutating func close(_ node: FileModel.Node) async throws {
        let result = try await outcome(files) { [files, id = id(node)] in files.close($0, id) }
        if expect(result, node.opens == 0 ? .invalid : nil, "close") != nil { node.opens -= 1 }
    }
}

extension FileModel.Node {
    func resize(_ size: Int) {
        if size < content.count {
            content.removeLast(content.count - size)
        } else {
            content.append(contentsOf: repeatElement(0, count: size - content.count))
        }
    }

    func write(_ bytes: [UInt8], at offset: Int) {
        if offset + bytes.count > content.count { resize(offset + bytes.count) }
        content.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
    }
}

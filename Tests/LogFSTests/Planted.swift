import Bytes
import Headhunter
import LogFS
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// A volume that has one of everything, and its records as bytes that a test can change.
enum Planted {
    static let size = 100_000

    /// Kinds of records, by their numbers in keys.
    enum Kind: UInt8 {
        case subvolume = 1, orphan, reclaim, unsettled, tail, token, tokenAge, tokenClient, setting, settingPart,
            settings
        case inode = 16, link
        case sums = 32, name, cookie, folded
        case inline = 48, extent, target, xattr, xattrPart, stream
    }

    static let directory: UInt64 = 1 << 62
    static let fork: UInt64 = 1 << 63

    static func key(_ id: UInt64, _ kind: Kind, _ rest: [UInt8] = []) -> [UInt8] {
        withUnsafeBytes(of: id.bigEndian) { Array($0) } + [kind.rawValue] + rest
    }

    static func bytes(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { Array($0) } }

    static func put(_ value: UInt64, at place: Int, in bytes: inout [UInt8], count: Int = 8) {
        withUnsafeBytes(of: value.littleEndian) {
            bytes.replaceSubrange(place..<(place + count), with: $0.prefix(count))
        }
    }

    static func number(_ bytes: [UInt8], _ place: Int, count: Int = 8) -> UInt64 {
        bytes[place..<(place + count)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// All records of a tree.
    static func records(_ volume: Headhunter, tree: UInt32 = 1) async throws -> [(key: [UInt8], value: [UInt8])] {
        var all: [(key: [UInt8], value: [UInt8])] = []
        var from: [UInt8] = [0]
        var more = true
        while more {
            let start = from
            let part = try await volume.read {
                (view) throws(Missing) -> ([(key: [UInt8], value: [UInt8])], [UInt8], Bool) in
                var found: [(key: [UInt8], value: [UInt8])] = []
                var next: [UInt8] = []
                let more = try start.withUnsafeBytes { start in
                    Result { () throws(Missing) -> Bool in
                        try view.scan(tree, from: start, resume: &next) { key, value in
                            found.append((Array(key), Array(value)))
                            return true
                        }
                    }
                }.get()
                return (found, next, more)
            }
            all += part.0
            (from, more) = (part.1, part.2)
        }
        return all
    }

    static func get(_ volume: Headhunter, _ key: [UInt8], tree: UInt32 = 1) async throws -> [UInt8]? {
        try await volume.read { (view) throws(Missing) -> [UInt8]? in
            try key.withUnsafeBytes { key in
                Result { () throws(Missing) -> [UInt8]? in try view.get(tree, key).map { Array($0) } }
            }.get()
        }
    }

    /// Nil deletes.
    static func set(_ volume: Headhunter, _ key: [UInt8], _ value: [UInt8]?, tree: UInt32 = 1) async throws {
        _ = try await volume.change { (change) throws(Missing) in
            key.withUnsafeBytes { key in
                if let value { value.withUnsafeBytes { change.put(tree, key, $0) } } else { change.delete(tree, key) }
            }
        }
    }

    // MARK: Files

    static func make(
        _ files: LogFS, _ home: FileID, _ name: String, _ type: FileType = .file, target: String = "",
        token: RequestToken? = nil
    ) async throws -> Inode {
        let target = Array(target.utf8)
        return try await outcome(files) { request in
            with(Array(name.utf8)) { name in
                with(target) { target in
                    var new = NewFile(type: type, mode: 0o755, uid: 0, gid: 0)
                    if !target.isEmpty { new.target = target }
                    return files.create(Request(reader: request.reader, now: 1, token: token), in: home, name, new)
                }
            }
        }.get().inode
    }

    static func write(
        _ files: LogFS, _ file: FileID, _ count: Int, _ fill: UInt8, _ level: LogLevel = .durable
    ) async throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: fill)
        try await files.writeAll(file, at: 0, UnsafeRawBufferPointer(memory), now: 1)
        try await files.sync(file, level)
    }

    /// The inodes by their paths.
    static func fill(_ files: LogFS) async throws -> [String: Inode] {
        let home = try await make(files, files.rootID, "d", .directory)
        let empty = try await make(files, files.rootID, "empty", .directory)
        let inner = try await make(files, home.id, "Inner", .directory)
        let large = try await make(files, home.id, "Large")
        try await write(files, large.id, size, 3)
        let small = try await make(files, home.id, "small")
        try await write(files, small.id, 300, 4)
        let linked = try await make(files, home.id, "linked")
        for (directory, name) in [(home.id, "second"), (inner.id, "third")] {
            _ = try await outcome(files) { request in
                with(Array(name.utf8)) { files.link(request, linked.id, in: directory, $0) }
            }.get()
        }
        let link = try await make(files, inner.id, "link", .symlink, target: "../somewhere")
        let token = RequestToken(client: 7, id: 9, digest: 11)
        let other = try await make(files, inner.id, "other", token: token)
        for (name, count) in [("user.long", 9_000), ("user.short", 20)] {
            _ = try await outcome(files) { request in
                with(Array(name.utf8)) { name in
                    with([UInt8](repeating: 5, count: count)) { files.setAttribute(request, other.id, name, $0) }
                }
            }.get()
        }
        let stream = try await outcome(files) { request in
            with(Array("s".utf8)) { files.createStream(request, of: other.id, $0) }
        }.get()
        try await write(files, stream.id, 5_000, 6)
        for (name, count) in [("long", 9_000), ("short", 10)] {
            _ = try await outcome(files) { request in
                with(Array(name.utf8)) { name in
                    with([UInt8](repeating: 8, count: count)) { files.setSetting(request, name, $0) }
                }
            }.get()
        }
        let apart = try await make(files, files.rootID, "apart", .directory)
        let control = try await make(files, apart.id, "control")
        try await write(files, control.id, size, 9)
        try await files.tidy()
        return [
            "/d": home, "/empty": empty, "/d/Inner": inner, "/d/Large": large, "/d/small": small, "/d/linked": linked,
            "/d/Inner/link": link, "/d/Inner/other": other, "stream": stream, "/apart": apart,
            "/apart/control": control,
        ]
    }
}

import Bytes
import Runtime
import Synchronization

/// Objects as files of a directory of the host: the embedded default.
///
/// ```
/// ROOT/objects/PARENT/+GROUP/LAST     the object PARENT/LAST
/// ROOT/tmp/INCARNATION/N              being written; left by a crash, removed at the next start
/// ```
/// `GROUP` keeps directories small: of a name that ends in 16 hexadecimal digits it is the first 13 of them, so up to
/// 4,096 objects lie together and a listing goes through the groups in order, reading only those that it needs. Other
/// names share the group `_`. No part of a name begins with `+`, so groups and parents can not be confused.
///
/// An object is written and synced under a temporary name and then gets its own in one step (rename, or link where it
/// must not exist yet), and the directory is synced before the answer. A file that is adopted is linked first, and loses
/// its old name when the new one is durable.
public final class DirectoryStore: StoreTransport, @unchecked Sendable {
    public let capabilities = StoreCapabilities(
        createIfAbsent: true, adoptsFiles: true, objectBytesMax: 1 << 40, listsConsistently: true)
    private let world: World
    private let loop: EventLoop
    private let root: String
    private let temporary: String
    private var nextTemporary: UInt64 = 0
    /// Directories that this process has synced: what they held then, and what it added, is durable. What another
    /// process left in others may be visible and yet be lost with the power.
    private let directories = Mutex<Set<String>>([])
    private static let directoriesMax = 10_000

    /// Makes what is missing and removes what a crash left. `root` is a path of the world's disk whose parent exists;
    /// the process that owns it holds a lock.
    public static func open(
        world: World, loop: EventLoop, root: String
    ) async throws(Errno) -> DirectoryStore {
        let store = DirectoryStore(world: world, loop: loop, root: root)
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in try store.prepare() }
        return store
    }

    private init(world: World, loop: EventLoop, root: String) {
        self.world = world
        self.loop = loop
        self.root = root
        temporary = root + "/tmp/" + String(world.random.next(), radix: 16)
    }

    // MARK: On a thread of the pool

    private func prepare() throws(Errno) {
        let disk = world.disk
        try make(root)
        try make(root + "/objects")
        try make(root + "/tmp")
        var old: [String] = []
        try disk.list(root + "/tmp") { name, _ in
            old.append(root + "/tmp/" + name)
            return true
        }
        for folder in old {
            var files: [String] = []
            try disk.list(folder) { name, _ in
                files.append(folder + "/" + name)
                return true
            }
            for file in files { try disk.remove(file) }
            try disk.removeDirectory(folder)
        }
        try disk.makeDirectory(temporary)
    }

    /// Makes a directory durably, if it is not there.
    private func make(_ path: String) throws(Errno) {
        do throws(Errno) {
            try world.disk.makeDirectory(path)
        } catch {
            guard error == .exists else { throw error }
        }
        // Also when it was there: who made it may have died before it was durable.
        let parent = path.split(separator: "/").dropLast().joined(separator: "/")
        try world.disk.syncDirectory(parent)
    }

    private struct Place {
        var directory: String
        var path: String
    }

    private func place(_ name: ObjectName) -> Place {
        let parts = name.text.split(separator: "/")
        let last = parts.last.map(String.init) ?? ""
        let directory = ([root, "objects"] + parts.dropLast().map(String.init) + [Self.group(last)])
            .joined(separator: "/")
        return Place(directory: directory, path: directory + "/" + last)
    }

    private static func group(_ last: String) -> String {
        let isNumber =
            last.utf8.count == 16
            && last.utf8.allSatisfy { ($0 >= 48 && $0 <= 57) || ($0 >= 97 && $0 <= 102) }
        return isNumber ? "+" + last.prefix(13) : "+_"
    }

    private func makeParents(_ directory: String) throws(Errno) {
        var path = root + "/objects"
        for part in directory.dropFirst(path.count + 1).split(separator: "/") {
            path += "/" + part
            try make(String(path))
        }
    }

    // MARK: Requests

    public func perform(_ request: StoreRequest) async -> StoreReply {
        switch request.kind {
        case .object(let name, .put(let body, let condition)): return await put(name, body, condition)
        case .object(let name, .get(let range)):
            let path = place(name).path
            return await answer { () throws(Errno) -> StoreReply in try self.read(path, range) }
        case .object(let name, .head):
            let place = place(name)
            return await answer { () throws(Errno) -> StoreReply in
                var reply = StoreReply(status: 200)
                reply.size = try self.world.disk.status(place.path).size
                try self.confirm(place.directory)
                return reply
            }
        case .object(let name, .delete):
            let place = place(name)
            return await answer { () throws(Errno) -> StoreReply in
                try self.world.disk.remove(place.path)
                try self.world.disk.syncDirectory(place.directory)
                return StoreReply(status: 204)
            }
        case .list(let prefix, let marker, let limit):
            return await answer { () throws(Errno) -> StoreReply in
                var listing = Listing(store: self, prefix: prefix, marker: marker, limit: limit)
                try listing.run()
                var reply = StoreReply(status: 200)
                reply.entries = listing.entries
                reply.truncated = listing.isTruncated
                return reply
            }
        }
    }

    /// What is told of a directory's names must stay true: it is synced before the first answer.
    private func confirm(_ directory: String) throws(Errno) {
        if directories.withLock({ $0.contains(directory) }) { return }
        // With those above it: they may have been made just before a crash.
        var path = directory
        while path.count > root.count, let slash = path.lastIndex(of: "/") {
            try world.disk.syncDirectory(path)
            path = String(path[..<slash])
        }
        remember(directory)
    }

    private func remember(_ directory: String) {
        directories.withLock { directories in
            if directories.count >= Self.directoriesMax { directories.removeAll() }
            directories.insert(directory)
        }
    }

    private func answer(_ work: @escaping @Sendable () throws(Errno) -> StoreReply) async -> StoreReply {
        do throws(Errno) {
            return try await world.blocking.run(on: loop, work)
        } catch {
            return Self.reply(error)
        }
    }

    private static func reply(_ error: Errno) -> StoreReply {
        let status =
            switch error {
            case .noEntry: 404
            case .exists: 412
            case .noSpace: 507
            case .permission, .readOnly: 403
            case .canceled: StoreReply.canceled
            default: 500
            }
        var reply = StoreReply(status: status)
        reply.reason = error.description
        return reply
    }

    private func put(_ name: ObjectName, _ body: ObjectBody, _ condition: PutCondition) async -> StoreReply {
        let place = place(name)
        nextTemporary += 1
        let path = temporary + "/" + String(nextTemporary)
        let isKnown = directories.withLock { $0.contains(place.directory) }
        let reply: StoreReply
        switch body {
        case .blocks(let blocks):
            reply = await answer { () throws(Errno) -> StoreReply in
                if !isKnown { try self.makeParents(place.directory) }
                defer { extendLifetime(blocks) }
                try self.write(path) { (file) throws(Errno) in try file.write(blocks.map(\.bytes), at: 0) }
                return try self.settle(path, at: place, condition)
            }
        case .file(let source, let size):
            reply = await answer { () throws(Errno) -> StoreReply in
                if !isKnown { try self.makeParents(place.directory) }
                return try self.adopt(source, size, at: place, condition)
            }
        case .stream(let source, let size):
            reply = await stream(source, size, to: path, at: place, condition)
        }
        if reply.status == 201 { remember(place.directory) }
        return reply
    }

    private func write(_ path: String, _ fill: (any DiskFile) throws(Errno) -> Void) throws(Errno) {
        let file = try world.disk.open(path, [.write, .create, .truncate])
        defer { file.close() }
        do throws(Errno) {
            try fill(file)
            try file.sync()
        } catch {
            // What is known of a file after a failed sync is nothing: it goes.
            try? world.disk.remove(path)
            throw error
        }
    }

    private func adopt(
        _ source: String, _ size: UInt64, at place: Place, _ condition: PutCondition
    ) throws(Errno) -> StoreReply {
        do throws(Errno) {
            let file = try world.disk.open(source, [])
            defer { file.close() }
            try file.sync()
        } catch {
            // An earlier try may have moved it and failed after that: only the directory is left to sync.
            guard error == .noEntry, condition == .always, try world.disk.status(place.path).size == size else {
                throw error
            }
            try world.disk.syncDirectory(place.directory)
            return StoreReply(status: 201)
        }
        // Not a rename: of one between two directories, the old name's end may become durable before the new name does.
        do throws(Errno) {
            try world.disk.link(source, to: place.path)
        } catch {
            guard error == .exists, condition == .always else { throw error }
            // `~` is in no object's name, so no listing shows it.
            let other = place.directory + "/~" + String(world.random.next(), radix: 16)
            try world.disk.link(source, to: other)
            try world.disk.rename(other, to: place.path)
            // Two names of one file: such a rename does nothing.
            try? world.disk.remove(other)
        }
        try world.disk.syncDirectory(place.directory)
        try? world.disk.remove(source)
        return StoreReply(status: 201)
    }

    /// Gives a synced file its name, durably.
    private func settle(_ path: String, at place: Place, _ condition: PutCondition) throws(Errno) -> StoreReply {
        switch condition {
        case .always:
            try world.disk.rename(path, to: place.path)
        case .absent:
            do throws(Errno) {
                try world.disk.link(path, to: place.path)
            } catch {
                try? world.disk.remove(path)
                // Somebody's object may be there without being durable yet.
                if error == .exists { try world.disk.syncDirectory(place.directory) }
                throw error
            }
            try? world.disk.remove(path)
        }
        try world.disk.syncDirectory(place.directory)
        return StoreReply(status: 201)
    }

    private func stream(
        _ source: any BodySource, _ size: UInt64, to path: String, at place: Place, _ condition: PutCondition
    ) async -> StoreReply {
        let disk = world.disk
        do throws(Errno) {
            let file = try await world.blocking.run(on: loop) { () throws(Errno) -> any DiskFile in
                try self.makeParents(place.directory)
                return try disk.open(path, [.write, .create, .truncate])
            }
            defer { file.close() }
            await source.rewind()
            var offset: UInt64 = 0
            do throws(StoreError) {
                while let block = try await source.next() {
                    let at = offset
                    do throws(Errno) {
                        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
                            defer { extendLifetime(block) }
                            try file.write(block.bytes, at: at)
                        }
                    } catch { return Self.reply(error) }
                    offset += UInt64(block.count)
                }
            } catch {
                return StoreReply(status: 400)
            }
            guard offset == size else { return StoreReply(status: 400) }
            return try await world.blocking.run(on: loop) { () throws(Errno) -> StoreReply in
                try file.sync()
                return try self.settle(path, at: place, condition)
            }
        } catch {
            return Self.reply(error)
        }
    }

    private func read(_ path: String, _ range: Range<UInt64>?) throws(Errno) -> StoreReply {
        let file = try world.disk.open(path, [])
        defer { file.close() }
        let size = try file.size()
        let wanted = range.map { $0.clamped(to: 0..<size) } ?? 0..<size
        if let range, range.lowerBound >= size { return StoreReply(status: 416) }
        let block = Block(capacity: Int(wanted.count))
        block.count = try file.read(
            into: UnsafeMutableRawBufferPointer(start: block.base, count: block.capacity), at: wanted.lowerBound)
        var reply = StoreReply(status: range == nil ? 200 : 206)
        reply.size = size
        reply.body = block
        return reply
    }

    // MARK: Listing

    /// Walks directories in byte order of whole names.
    private struct Listing {
        let store: DirectoryStore
        let prefix: String
        let marker: String?
        let limit: Int
        var entries: [ListEntry] = []
        var isTruncated = false

        init(store: DirectoryStore, prefix: String, marker: String?, limit: Int) {
            self.store = store
            self.prefix = prefix
            self.marker = marker
            self.limit = limit
        }

        mutating func run() throws(Errno) {
            // The deepest directory that all wanted names share.
            let parents = prefix.lastIndex(of: "/").map { String(prefix[..<$0]) } ?? ""
            try walk(parents)
        }

        /// False when the listing is full.
        @discardableResult
        private mutating func walk(_ parents: String) throws(Errno) -> Bool {
            let directory = store.root + "/objects" + (parents.isEmpty ? "" : "/" + parents)
            let start = parents.isEmpty ? "" : parents + "/"
            var groups: [String] = []
            var folders: [String] = []
            do throws(Errno) {
                try store.world.disk.list(directory) { name, _ in
                    if name.hasPrefix("+") { groups.append(name) } else { folders.append(name) }
                    return true
                }
            } catch {
                if error == .noEntry { return true }
                throw error
            }
            groups.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            if folders.isEmpty, !groups.contains("+_") {
                for group in groups where mayHold(start + group.dropFirst()) {
                    var names: [String] = []
                    try collect(directory + "/" + group, &names)
                    guard try show(names, start, directory) else { return false }
                }
                return true
            }
            var items: [String] = folders.map { $0 + "/" }
            for group in groups { try collect(directory + "/" + group, &items) }
            items.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            for item in items {
                if item.hasSuffix("/") {
                    let path = start + item
                    guard path.hasPrefix(prefix) || prefix.hasPrefix(path) else { continue }
                    guard try walk(start + item.dropLast()) else { return false }
                } else {
                    guard try show([item], start, directory) else { return false }
                }
            }
            return true
        }

        /// Whether names that begin with `start` can be among what is wanted.
        private func mayHold(_ start: String) -> Bool {
            guard start.hasPrefix(prefix) || prefix.hasPrefix(start) else { return false }
            guard let marker else { return true }
            return !start.utf8.lexicographicallyPrecedes(marker.utf8) || marker.hasPrefix(start)
        }

        private func collect(_ directory: String, _ names: inout [String]) throws(Errno) {
            var found: [String] = []
            try store.world.disk.list(directory) { name, _ in
                found.append(name)
                return true
            }
            try store.confirm(directory)
            names.append(contentsOf: found)
        }

        private mutating func show(_ names: [String], _ start: String, _ directory: String) throws(Errno) -> Bool {
            for last in names.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
                let text = start + last
                guard text.hasPrefix(prefix), let name = ObjectName(text) else { continue }
                if let marker, !marker.utf8.lexicographicallyPrecedes(text.utf8) { continue }
                if entries.count == limit {
                    isTruncated = true
                    return false
                }
                do throws(Errno) {
                    let size = try store.world.disk.status(directory + "/" + DirectoryStore.group(last) + "/" + last).size
                    entries.append(ListEntry(name: name, size: size))
                } catch {
                    // Deleted while we looked.
                    if error != .noEntry { throw error }
                }
            }
            return true
        }
    }
}

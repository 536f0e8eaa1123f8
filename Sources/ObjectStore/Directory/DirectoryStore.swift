import Bytes
import Runtime

/// Objects as files of a directory of the host: the embedded default. `DirectoryLayout` says what lies where.
///
/// An object is written and synced under a temporary name and then gets its own in one step (a rename, or a link where
/// it must not exist yet); the directory is synced before the answer. So an object is whole or not there, and what was
/// answered stays. Belongs to one loop.
public final class DirectoryStore: StoreTransport, @unchecked Sendable {
    public let capabilities = StoreCapabilities(
        createIfAbsent: true, adoptsFiles: true, objectBytesMax: 1 << 40, listsConsistently: true)
    private let world: World
    private let loop: EventLoop
    private let layout: DirectoryLayout
    private let table: DirectoryTable
    private let temporary: String
    private var nextTemporary: UInt64 = 0
    private let open = OpenObjects()
    /// A directory that others keep removing while we put: more tries would not end sooner.
    private static let namingsMax = 8

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
        layout = DirectoryLayout(root: root)
        table = DirectoryTable(world: world, loop: loop, top: layout.objects)
        // A folder of this process alone: what an earlier one left can be told from what we write.
        temporary = layout.temporary + "/" + String(world.random.next(), radix: 16)
    }

    private func prepare() throws(Errno) {
        let disk = world.disk
        for path in [layout.root, layout.objects, layout.temporary] { try DirectoryTable.make(path, on: disk) }
        var folders: [String] = []
        try disk.list(layout.temporary) { name, kind in
            if kind == .directory { folders.append(layout.temporary + "/" + name) }
            return true
        }
        for folder in folders {
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

    // MARK: Requests

    public func now(_ request: StoreRequest) -> StoreReply? {
        guard case .object(let name, .get(let range?)) = request.kind, UInt64(range.count) <= OpenObjects.bytesMax
        else {
            return nil
        }
        return open.read(layout.place(name).path, range)
    }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        do throws(Errno) {
            switch request.kind {
            case .object(let name, .put(let body, let condition)): return try await put(name, body, condition)
            case .object(let name, .get(let range)):
                let path = layout.place(name).path
                let version = open.version(path)
                let (reply, file) = try await blocking { (store) throws(Errno) in try store.read(path, range) }
                if let file { open.keep(file, size: reply.size ?? 0, at: path, version: version) }
                return reply
            case .object(let name, .head):
                let place = layout.place(name)
                return try await blocking { (store) throws(Errno) in
                    var reply = StoreReply(status: 200)
                    reply.size = try store.world.disk.status(place.path).size
                    try store.table.confirm(place.directory)
                    return reply
                }
            case .object(let name, .delete): return try await delete(name)
            case .list(let prefix, let marker, let limit):
                guard limit > 0 else { return StoreReply(status: 400) }
                return try await blocking { (store) throws(Errno) in
                    var listing = DirectoryListing(
                        disk: store.world.disk, table: store.table, layout: store.layout, prefix: prefix,
                        marker: marker,
                        limit: limit)
                    try listing.run()
                    var reply = StoreReply(status: 200)
                    reply.entries = listing.entries
                    reply.truncated = listing.isTruncated
                    return reply
                }
            }
        } catch {
            return Self.reply(error)
        }
    }

    private func blocking<Success: Sendable>(
        _ work: @escaping @Sendable (DirectoryStore) throws(Errno) -> Success
    ) async throws(Errno) -> Success {
        try await world.blocking.run(on: loop) { () throws(Errno) -> Success in try work(self) }
    }

    private static func reply(_ error: Errno) -> StoreReply {
        let status =
            switch error {
            case .noEntry: 404
            case .exists: 412
            case .noSpace, .quota: 507
            case .permission, .notPermitted, .readOnly: 403
            case .canceled: StoreReply.canceled
            default: 500
            }
        var reply = StoreReply(status: status)
        reply.reason = error.description
        return reply
    }

    // MARK: PUT

    private func put(
        _ name: ObjectName, _ body: ObjectBody, _ condition: PutCondition
    ) async throws(Errno) -> StoreReply {
        let place = layout.place(name)
        open.forget(place.path)
        defer { open.forget(place.path) }
        nextTemporary += 1
        let path = temporary + "/" + String(nextTemporary)
        do throws(Errno) {
            switch body {
            case .blocks(let blocks):
                try await blocking { (store) throws(Errno) in
                    defer { extendLifetime(blocks) }
                    try store.write(path) { (file) throws(Errno) in try file.write(blocks.map(\.bytes), at: 0) }
                }
            case .file(let source, let size):
                if let refusal = try await adopt(source, size, at: path) { return refusal }
            case .stream(let source, let size):
                if let refusal = try await receive(source, size, at: path) { return refusal }
            }
        } catch {
            // Another process that opened this store took our folder for a left-over. The next try has one: an owner that
            // was overtaken must get as far as to meet the other one's header.
            if error == .noEntry {
                try await blocking { (store) throws(Errno) in
                    do throws(Errno) { try store.world.disk.makeDirectory(store.temporary) } catch .exists {}
                }
            }
            throw error
        }
        do throws(Errno) {
            return try await settle(path, at: place, condition)
        } catch {
            try? await blocking { (store) throws(Errno) in try store.world.disk.remove(path) }
            throw error
        }
    }

    private func write(_ path: String, _ fill: (any DiskFile) throws(Errno) -> Void) throws(Errno) {
        let file = try world.disk.open(path, [.write, .create, .exclusive])
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

    /// Gives the caller's file a second, temporary name; copies it where the file system does not let us. It is not
    /// synced here: after a sync that failed, ours would succeed on bytes that are gone, and only the writer knows.
    private func adopt(_ source: String, _ size: UInt64, at path: String) async throws(Errno) -> StoreReply? {
        try await blocking { (store) throws(Errno) in
            let disk = store.world.disk
            let file = try disk.open(source, [])
            defer { file.close() }
            guard try file.size() == size else { return StoreReply(status: 400) }
            do throws(Errno) {
                try disk.link(source, to: path)
            } catch {
                guard error == .otherDevice || error == .notPermitted || error == .tooManyLinks else { throw error }
                try store.write(path) { (copy) throws(Errno) in try Self.copy(file, size, to: copy) }
            }
            return nil
        }
    }

    private static func copy(_ file: any DiskFile, _ size: UInt64, to copy: any DiskFile) throws(Errno) {
        let block = Block(capacity: BodyPieces.fileBytes)
        defer { extendLifetime(block) }
        var offset: UInt64 = 0
        while offset < size {
            let count = Int(min(UInt64(block.capacity), size - offset))
            guard
                try file.read(into: UnsafeMutableRawBufferPointer(start: block.base, count: count), at: offset) == count
            else { throw .io }
            try copy.write(UnsafeRawBufferPointer(start: block.base, count: count), at: offset)
            offset += UInt64(count)
        }
    }

    /// Writes a stream as it comes in. A stream that fails, or has another length than announced, leaves nothing.
    private func receive(_ source: any BodySource, _ size: UInt64, at path: String) async throws(Errno) -> StoreReply? {
        let file = try await blocking { (store) throws(Errno) in
            try store.world.disk.open(path, [.write, .create, .exclusive])
        }
        defer { file.close() }
        do throws(Errno) {
            var pieces = BodyPieces(.stream(source, size: size), world: world, loop: loop)
            var offset: UInt64 = 0
            while let block = try? await pieces.next() {
                let at = offset
                try await blocking { (_) throws(Errno) in
                    defer { extendLifetime(block) }
                    try file.write(block.bytes, at: at)
                }
                offset += UInt64(block.count)
            }
            guard offset == size else {
                try? await blocking { (store) throws(Errno) in try store.world.disk.remove(path) }
                return StoreReply(status: 400)
            }
            try await blocking { (_) throws(Errno) in try file.sync() }
            return nil
        } catch {
            try? await blocking { (store) throws(Errno) in try store.world.disk.remove(path) }
            throw error
        }
    }

    /// Gives a synced file the object's name, durably. The temporary name is gone afterwards, or the caller removes it.
    private func settle(
        _ path: String, at place: DirectoryLayout.Place, _ condition: PutCondition
    ) async throws(Errno) -> StoreReply {
        for _ in 0..<Self.namingsMax {
            var making = table.making(place.directory)
            if making == 0 { making = try await table.make(place.directory) }
            var exists = false
            do throws(Errno) {
                try await blocking { (store) throws(Errno) in try store.name(path, place.path, condition) }
            } catch {
                switch error {
                // Somebody removed the directory when it was empty.
                case .noEntry:
                    table.forget(place.directory, making: making)
                    continue
                // Whose object it is the caller finds out; he must not find one that a crash takes away.
                case .exists where condition == .absent: exists = true
                default: throw error
                }
            }
            if table.making(place.directory) != making { _ = try await table.make(place.directory) }
            try await table.sync(place.directory)
            if exists { throw .exists }
            return StoreReply(status: 201)
        }
        throw .io
    }

    private func name(_ path: String, _ object: String, _ condition: PutCondition) throws(Errno) {
        let disk = world.disk
        switch condition {
        case .always: try disk.rename(path, to: object)
        case .absent: try disk.link(path, to: object)
        }
        // Of a link; also of a rename between two names of one file, which does nothing.
        do throws(Errno) { try disk.remove(path) } catch { if error == .canceled { throw error } }
    }

    // MARK: Others

    private func delete(_ name: ObjectName) async throws(Errno) -> StoreReply {
        let place = layout.place(name)
        open.forget(place.path)
        defer { open.forget(place.path) }
        var isMissing = false
        do throws(Errno) {
            try await blocking { (store) throws(Errno) in try store.world.disk.remove(place.path) }
        } catch {
            guard error == .noEntry else { throw error }
            isMissing = true
        }
        // Also when it was gone: who removed it may not have synced that yet.
        do throws(Errno) {
            try await table.sync(place.directory)
        } catch {
            guard error == .noEntry else { throw error }
        }
        do throws(Errno) {
            let isEmpty = try await blocking { (store) throws(Errno) in
                // Who removed the last of the others may have removed the directory, too, and nothing of that is
                // durable yet: a loss of power would bring both back.
                try store.table.confirm(place.directory)
                var isEmpty = true
                try store.world.disk.list(place.directory) { _, _ in
                    isEmpty = false
                    return false
                }
                return isEmpty
            }
            if isEmpty { await table.removeEmpty(place.directory) }
        } catch {
            guard error == .noEntry else { throw error }
        }
        return StoreReply(status: isMissing ? 404 : 204)
    }

    /// Also the file, left open, when more small reads of it may follow.
    private func read(
        _ path: String, _ range: Range<UInt64>?
    ) throws(Errno) -> (reply: StoreReply, file: (any DiskFile)?) {
        let file = try world.disk.open(path, [])
        var staysOpen = false
        defer { if !staysOpen { file.close() } }
        let size = try file.size()
        if let range, range.lowerBound >= size { return (StoreReply(status: 416), nil) }
        let wanted = range.map { $0.clamped(to: 0..<size) } ?? 0..<size
        let block = Block(capacity: Int(wanted.count))
        block.count = try file.read(
            into: UnsafeMutableRawBufferPointer(start: block.base, count: block.capacity), at: wanted.lowerBound)
        var reply = StoreReply(status: range == nil ? 200 : 206)
        reply.size = size
        reply.body = block
        staysOpen = range != nil && UInt64(wanted.count) <= OpenObjects.bytesMax
        return (reply, staysOpen ? file : nil)
    }
}

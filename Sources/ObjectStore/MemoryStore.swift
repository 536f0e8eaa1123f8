import Bytes
import Runtime

/// A store in memory, for tests: complete, and without any delay of its own. Belongs to one loop.
public final class MemoryStore: StoreTransport, @unchecked Sendable {
    public let capabilities = StoreCapabilities(
        createIfAbsent: true, adoptsFiles: false, objectBytesMax: 1 << 40, listsConsistently: true)
    public private(set) var objects: [ObjectName: [UInt8]] = [:]
    private let files: (world: World, loop: EventLoop)?

    /// Takes no bodies that are files.
    public init() { files = nil }

    /// Reads bodies that are files from the world's disk.
    public init(world: World, loop: EventLoop) { files = (world, loop) }

    public func perform(_ request: StoreRequest) async -> StoreReply {
        switch request.kind {
        case .object(let name, .put(let body, let condition)):
            guard let bytes = await collect(body) else { return StoreReply(status: 400) }
            if condition == .absent, objects[name] != nil { return StoreReply(status: 412) }
            objects[name] = bytes
            return StoreReply(status: 201)
        case .object(let name, .get(let range)):
            guard let bytes = objects[name] else { return StoreReply(status: 404) }
            let whole = 0..<UInt64(bytes.count)
            let wanted = range.map { $0.clamped(to: whole) } ?? whole
            if let range, range.lowerBound >= whole.upperBound { return StoreReply(status: 416) }
            var reply = StoreReply(status: range == nil ? 200 : 206)
            reply.size = whole.upperBound
            bytes.withUnsafeBytes { all in
                reply.body = Block(
                    copying: UnsafeRawBufferPointer(rebasing: all[Int(wanted.lowerBound)..<Int(wanted.upperBound)]))
            }
            return reply
        case .object(let name, .head):
            guard let bytes = objects[name] else { return StoreReply(status: 404) }
            var reply = StoreReply(status: 200)
            reply.size = UInt64(bytes.count)
            return reply
        case .object(let name, .delete):
            return StoreReply(status: objects.removeValue(forKey: name) == nil ? 404 : 204)
        case .list(let prefix, let marker, let limit):
            var reply = StoreReply(status: 200)
            let names = objects.keys.filter { name in
                name.text.hasPrefix(prefix) && (marker.map { $0 < name.text } ?? true)
            }.sorted()
            reply.entries = names.prefix(limit).map { ListEntry(name: $0, size: UInt64(objects[$0]?.count ?? 0)) }
            reply.truncated = names.count > limit
            return reply
        }
    }

    private func collect(_ body: ObjectBody) async -> [UInt8]? {
        if case .blocks(let blocks) = body {
            // At once, without a suspension: with it the order of PUTs would not be the order of their calls.
            return blocks.flatMap { Array($0.bytes) }
        }
        if case .file = body, files == nil { return nil }
        var bytes: [UInt8] = []
        do throws(StoreError) {
            if case .stream(let source, let size) = body {
                while let block = try await source.piece(at: UInt64(bytes.count)) {
                    bytes.append(contentsOf: block.bytes)
                    extendLifetime(block)
                }
                return UInt64(bytes.count) == size ? bytes : nil
            }
            guard let files else { return nil }
            var pieces = BodyPieces(body, world: files.world, loop: files.loop)
            while let block = try await pieces.next() {
                bytes.append(contentsOf: block.bytes)
                extendLifetime(block)
            }
        } catch { return nil }
        return bytes
    }

    /// Flips one bit of an object behind everybody's back; false when there is no such byte.
    public func flipBit(of name: ObjectName, at offset: Int, bit: UInt8) -> Bool {
        guard let count = objects[name]?.count, offset < count else { return false }
        objects[name]?[offset] ^= 1 << (bit & 7)
        return true
    }

    public func remove(_ name: ObjectName) { objects[name] = nil }
}

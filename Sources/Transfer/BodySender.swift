import Bytes
import Crypto
import ObjectStore
import Runtime

/// Brings an object's body to a pool, whatever it comes from: memory as it is, a file or a stream piece by piece.
/// Belongs to one loop.
public struct BodySender: Sendable {
    private let world: World
    private let loop: EventLoop
    /// Fewer bytes are digested where they are; more would hold up the loop.
    private static let inlineBytesMax = 64 << 10

    public init(world: World, loop: EventLoop) {
        self.world = world
        self.loop = loop
    }

    /// What servers want to know of a body before they take it.
    public enum Summary: Sendable { case crc32c, sha256, md5 }

    /// One pass over the body; of each that is wanted, its value.
    public func digest(
        _ body: ObjectBody, _ wanted: [Summary]
    ) async throws(StoreError) -> [Summary: [UInt8]] {
        var known: [Summary: [UInt8]] = [:]
        var wanted = wanted
        if case .stream(let source, _) = body, wanted.contains(.crc32c), let checksum = source.checksum {
            known[.crc32c] = Digests.bytes(checksum)
            wanted.removeAll { $0 == .crc32c }
        }
        guard !wanted.isEmpty else { return known }
        let digests = Digests(wanted)
        if case .blocks(let blocks) = body {
            if body.size <= UInt64(Self.inlineBytesMax) {
                digests.update(blocks)
            } else {
                await world.blocking.run(on: loop) { () throws(Never) in digests.update(blocks) }
            }
            return digests.finish()
        }
        var pieces = BodyPieces(body, world: world, loop: loop)
        while let piece = try await pieces.next() {
            await world.blocking.run(on: loop) { () throws(Never) in digests.update([piece]) }
        }
        return digests.finish().merging(known) { _, known in known }
    }

    /// Sends the request with that body. A body that can not be read is a failure of its own: nobody is to try again
    /// with less.
    public func send(
        _ request: TransferRequest, _ body: ObjectBody, over pool: TransferPool
    ) async throws(StoreError) -> TransferReply {
        var request = request
        if case .blocks(let blocks) = body {
            request.body = .blocks(blocks)
            return await pool.perform(request)
        }
        let queue = PieceQueue()
        request.body = .queue(queue, size: body.size)
        let (world, loop) = (world, loop)
        let feeder = loop.task { () async -> StoreError? in
            var pieces = BodyPieces(body, world: world, loop: loop)
            do throws(StoreError) {
                while let piece = try await pieces.next() {
                    guard await queue.push(piece) else { break }
                }
                queue.end()
                return nil
            } catch {
                // With fewer bytes than were announced, the transfer is given up.
                queue.end()
                return error
            }
        }
        let reply = await pool.perform(request)
        queue.close()
        // Nobody draws from the body any more when this returns.
        let failure = await feeder.value
        if let failure { throw failure }
        return reply
    }

    /// Confined: to the loop, or to the pool's thread while the loop's task waits for it.
    private final class Digests: @unchecked Sendable {
        private let wanted: [Summary]
        private var crc = CRC32C()
        private let sha256 = Digest(.sha256)
        private let md5 = Digest(.md5)

        init(_ wanted: [Summary]) { self.wanted = wanted }

        func update(_ blocks: [Block]) {
            for block in blocks {
                for summary in wanted {
                    switch summary {
                    case .crc32c: crc.update(block.bytes)
                    case .sha256: sha256.update(block.bytes)
                    case .md5: md5.update(block.bytes)
                    }
                }
                extendLifetime(block)
            }
        }

        /// As S3 and others write it.
        static func bytes(_ crc: UInt32) -> [UInt8] {
            (0..<4).map { UInt8(truncatingIfNeeded: crc >> UInt32(24 - 8 * $0)) }
        }

        func finish() -> [Summary: [UInt8]] {
            var values: [Summary: [UInt8]] = [:]
            for summary in wanted {
                values[summary] =
                    switch summary {
                    case .crc32c: Self.bytes(crc.value)
                    case .sha256: sha256.finish()
                    case .md5: md5.finish()
                    }
            }
            return values
        }
    }
}

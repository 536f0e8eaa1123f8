import Bytes
import ObjectStore
import Runtime
import Synchronization

/// A sealed segment on its way to a store elsewhere: from memory as long as it is there, else from its file. On the
/// volume's loop.
final class StageBody: BodySource, @unchecked Sendable {
    private let stage: Segments.Stage
    private let segments: Segments
    private let world: World
    private let loop: EventLoop
    /// Once some of it was read; it stays with whoever still draws.
    private var file: (any DiskFile)?
    /// Why it could not be sent: whoever sends it says less.
    private(set) var failure: StoreError?

    init(_ stage: Segments.Stage, _ segments: Segments, world: World, loop: EventLoop) {
        (self.stage, self.segments, self.world, self.loop) = (stage, segments, world, loop)
    }

    /// What a file gives back may be other bytes: then the sum is made of these.
    var checksum: UInt32? {
        segments.state.withLock { _ in stage.chunks.allSatisfy { $0 != nil } && !stage.chunks.isEmpty }
            ? stage.checksums.total : nil
    }

    func piece(at offset: UInt64) async throws(StoreError) -> Block? {
        let place = Int(offset)
        precondition(place % Segments.chunkSize == 0 || place == stage.size, "pieces are chunks")
        guard place < stage.size else { return nil }
        let index = place / Segments.chunkSize
        let count = min(Segments.chunkSize, stage.size - place)
        let kept = segments.state.withLock { _ in index < stage.chunks.count ? stage.chunks[index] : nil }
        if let kept, kept.count == count { return kept }
        do throws(StoreError) {
            let piece = try await read(count, at: offset)
            guard piece.count == count else { throw .corrupt("\(stage.path) is shorter than its \(stage.size) bytes") }
            try compare(piece, at: place)
            return piece
        } catch {
            if error != .canceled { failure = error }
            throw error
        }
    }

    /// A good copy may come back; bytes that a disk has made something else of are not to take its place in the store.
    private func compare(_ piece: Block, at place: Int) throws(StoreError) {
        let size = SegmentFormat.blockSize
        let first = place / size
        let blocks = first..<(place + piece.count + size - 1) / size
        let known = segments.state.withLock { _ in stage.isWhole ? stage.checksums[blocks] : [] }
        defer { extendLifetime(piece) }
        for start in stride(from: 0, to: piece.count, by: size) {
            let index = (place + start) / size - first
            guard index < known.count else { return }
            let block = UnsafeRawBufferPointer(rebasing: piece.bytes[start..<min(start + size, piece.count)])
            guard CRC32C.of(block) == known[index] else {
                throw .corrupt("\(stage.path): the bytes at \(place + start) are not what was written")
            }
        }
    }

    private func read(_ count: Int, at offset: UInt64) async throws(StoreError) -> Block {
        let (open, path, disk) = (file, stage.path, world.disk)
        do throws(Errno) {
            let block: Block
            (block, file) = try await world.blocking.run(on: loop) { () throws(Errno) -> (Block, any DiskFile) in
                let file = if let open { open } else { try disk.open(path, []) }
                let block = Block(capacity: count)
                block.count = try file.read(
                    into: UnsafeMutableRawBufferPointer(start: block.base, count: count), at: offset)
                return (block, file)
            }
            return block
        } catch { throw error == .canceled ? .canceled : .unavailable("reading \(path): \(error)") }
    }
}

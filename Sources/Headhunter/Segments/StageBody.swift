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
    /// What is not as it was written goes as it is, or as zeros: the table knows its sums, and nobody is given such a block.
    private let takesWhatIsLeft: Bool
    private var lost: Set<Int> = []

    init(
        _ stage: Segments.Stage, _ segments: Segments, world: World, loop: EventLoop, takesWhatIsLeft: Bool = false
    ) {
        (self.stage, self.segments, self.world, self.loop) = (stage, segments, world, loop)
        self.takesWhatIsLeft = takesWhatIsLeft
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
        let piece = try await read(count, at: offset)
        guard piece.count == count else {
            throw failed(.corrupt("\(stage.path) is shorter than its \(stage.size) bytes"))
        }
        try compare(piece, at: place)
        return piece
    }

    /// A good copy may come back; bytes that a disk has made something else of are not to take its place in the store.
    private func compare(_ piece: Block, at place: Int) throws(StoreError) {
        let size = SegmentFormat.blockSize
        let known = segments.state.withLock { _ in stage.knownBytes == stage.size ? stage.known : [] }
        guard !known.isEmpty || !takesWhatIsLeft else { throw failed(.corrupt("\(stage.path) has no sums")) }
        defer { extendLifetime(piece) }
        for start in stride(from: 0, to: piece.count, by: size) {
            let index = (place + start) / size
            guard index < known.count else { return }
            let block = UnsafeRawBufferPointer(rebasing: piece.bytes[start..<min(start + size, piece.count)])
            guard CRC32C.of(block) != known[index] else { continue }
            lost.insert(index)
            // A disk that gives back hardly anything is away, and may come back.
            if takesWhatIsLeft, lost.count * 2 <= known.count { continue }
            throw failed(.corrupt("\(stage.path): the bytes at \(place + start) are not what was written"))
        }
    }

    private func failed(_ error: StoreError) -> StoreError {
        failure = error
        return error
    }

    private func read(_ count: Int, at offset: UInt64) async throws(StoreError) -> Block {
        let (open, path, disk, takesWhatIsLeft) = (file, stage.path, world.disk, takesWhatIsLeft)
        do throws(Errno) {
            let block: Block
            (block, file) = try await world.blocking.run(on: loop) { () throws(Errno) -> (Block, any DiskFile) in
                let file = if let open { open } else { try disk.open(path, []) }
                let block = Block(capacity: count)
                let room = UnsafeMutableRawBufferPointer(start: block.base, count: count)
                do throws(Errno) { block.count = try file.read(into: room, at: offset) } catch {
                    guard takesWhatIsLeft, error != .canceled else { throw error }
                }
                guard takesWhatIsLeft, block.count < count else { return (block, file) }
                room.initializeMemory(as: UInt8.self, repeating: 0)
                for start in stride(from: 0, to: count, by: SegmentFormat.blockSize) {
                    let part = UnsafeMutableRawBufferPointer(
                        rebasing: room[start..<min(start + SegmentFormat.blockSize, count)])
                    do throws(Errno) { _ = try file.read(into: part, at: offset + UInt64(start)) } catch {
                        // Its sum is not that of zeros, and if it is, nothing is lost.
                        part.initializeMemory(as: UInt8.self, repeating: 0)
                    }
                }
                block.count = count
                return (block, file)
            }
            return block
        } catch { throw error == .canceled ? .canceled : failed(.unavailable("reading \(path): \(error)")) }
    }
}

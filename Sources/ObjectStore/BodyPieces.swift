import Bytes
import Runtime

/// Walks over a body's bytes, piece by piece, wherever they come from.
package struct BodyPieces {
    package static let fileBytes = 1 << 20
    private let body: ObjectBody
    private let world: World
    private let loop: EventLoop
    private var index = 0
    private var offset: UInt64 = 0
    private var file: (any DiskFile)?

    package init(_ body: ObjectBody, world: World, loop: EventLoop) {
        self.body = body
        self.world = world
        self.loop = loop
    }

    /// Nil at the end. A body whose length is not what was announced is corrupt.
    package mutating func next() async throws(StoreError) -> Block? {
        switch body {
        case .blocks(let blocks):
            guard index < blocks.count else { return nil }
            index += 1
            return blocks[index - 1]
        case .file(let path, let size):
            guard offset < size else {
                file?.close()
                return nil
            }
            let (open, at, disk) = (file, offset, world.disk)
            let count = Int(min(UInt64(Self.fileBytes), size - offset))
            let block: Block
            do throws(Errno) {
                (block, file) = try await world.blocking.run(on: loop) { () throws(Errno) -> (Block, any DiskFile) in
                    let file: any DiskFile
                    if let open { file = open } else { file = try disk.open(path, []) }
                    let block = Block(capacity: count)
                    block.count = try file.read(
                        into: UnsafeMutableRawBufferPointer(start: block.base, count: count), at: at)
                    return (block, file)
                }
            } catch {
                throw error == .canceled ? .canceled : .unavailable("reading \(path): \(error)")
            }
            guard block.count == count else { throw .corrupt("\(path) is shorter than its \(size) bytes") }
            offset += UInt64(count)
            return block
        case .stream(let source, let size):
            let block = try await source.piece(at: offset)
            offset += UInt64(block?.count ?? 0)
            guard block == nil ? offset == size : offset <= size else {
                throw .corrupt("a body of \(size) bytes has \(block == nil ? "only" : "at least") \(offset)")
            }
            return block
        }
    }
}

/// A fixed piece of page-aligned memory with `count` bytes in use, shared by reference.
///
/// Object bodies, segment blocks and log batches travel in blocks: they are filled once by one owner and
/// read by many afterwards; nobody writes to a block that he has handed on.
public final class Block: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let capacity: Int
    public var count: Int

    /// Aligned to the page, so that it can be written to disk directly.
    public init(capacity: Int) {
        precondition(capacity >= 0)
        base = BlockMemory.take(capacity)
        self.capacity = capacity
        count = 0
    }

    public convenience init(copying bytes: UnsafeRawBufferPointer) {
        self.init(capacity: bytes.count)
        append(bytes)
    }

    deinit { BlockMemory.give(base, capacity) }

    /// Long blocks that are gone leave their memory to those to come, until nobody needs any.
    public static func giveBackMemory() { BlockMemory.trim() }

    /// The bytes in use. The pointer does not keep the block alive, and a block may go right after its last mention:
    /// `defer { extendLifetime(block) }` where the block is a local constant.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
    /// What is left behind them.
    public var free: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base + count, count: capacity - count)
    }

    public func append(_ bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count <= capacity - count, "block overrun")
        guard let source = bytes.baseAddress else { return }
        (base + count).copyMemory(from: source, byteCount: bytes.count)
        count += bytes.count
    }
}

/// Some of a block's bytes, lent: they stay what they are for as long as anybody has the part.
public struct BlockPart: Sendable {
    public let block: Block
    public let offset: Int
    public let count: Int

    public init(_ block: Block, offset: Int, count: Int) {
        precondition(offset >= 0 && count >= 0 && count <= block.capacity - offset, "a part of the block")
        (self.block, self.offset, self.count) = (block, offset, count)
    }

    /// As with those of the block, the pointer keeps nothing alive.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: block.base + offset, count: count) }
}

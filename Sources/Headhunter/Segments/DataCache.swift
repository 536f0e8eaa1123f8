import Bytes
import Glibc
import Runtime
import Synchronization

/// Blocks of segments in memory, each compared with its checksum before it came in.
///
/// Segments are immutable and their numbers are never used again, so a block is right for as long as it is here. Runs of
/// blocks share a shard: a large read takes one lock or two, and readers of different files seldom meet.
package final class DataCache: @unchecked Sendable {
    static let frameSize = SegmentFormat.blockSize
    private static let shardCount = 16
    /// So many neighbours lie in the same shard: 1 MiB.
    private static let runShift = 5

    private let memory: Expanse
    private let shards: [Guarded<Shard>]
    private let frameCount: Int
    private let framesUsed = Atomic(0)

    /// Bytes that nothing has been put into yet.
    var unused: Int { (frameCount - framesUsed.load(ordering: .relaxed)) * Self.frameSize }

    package init(bytes: Int) {
        let frames = max(bytes / Self.frameSize / Self.shardCount, 1)
        frameCount = frames * Self.shardCount
        // Its shards lie apart: with large pages the first blocks alone would take 32 MiB.
        let memory = Expanse(bytes: frames * Self.shardCount * Self.frameSize, isWalked: false)
        self.memory = memory
        shards = (0..<Self.shardCount).map { index in
            Guarded(Shard(base: memory.base + index * frames * Self.frameSize, capacity: frames))
        }
    }

    deinit { memory.release() }

    private func shard(_ segment: UInt64, _ block: Int) -> Guarded<Shard> {
        var hash = segment &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(block >> Self.runShift) &* 0xC2B2_AE3D_27D4_EB4F
        hash ^= hash >> 32
        return shards[Int(hash & UInt64(Self.shardCount - 1))]
    }

    /// Calls `body` for each part of [first, end) that lies in one shard.
    private func runs(_ segment: UInt64, _ first: Int, _ end: Int, _ body: (Guarded<Shard>, Range<Int>) -> Bool) -> Bool
    {
        var place = first
        while place < end {
            let next = min(end, (place >> Self.runShift + 1) << Self.runShift)
            guard body(shard(segment, place), place..<next) else { return false }
            place = next
        }
        return true
    }

    /// Copies bytes if all of them are here.
    func read(_ segment: UInt64, _ offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard let target = buffer.baseAddress, buffer.count > 0 else { return true }
        let size = Self.frameSize
        let end = offset + buffer.count
        return runs(segment, offset / size, (end - 1) / size + 1) { shard, blocks in
            shard.withLock { shard in
                for block in blocks {
                    guard let frame = shard.find(segment, block) else { return false }
                    let from = max(offset, block * size)
                    let to = min(end, (block + 1) * size)
                    guard to - block * size <= shard.length(frame) else { return false }
                    memcpy(target + (from - offset), shard.bytes(frame) + (from - block * size), to - from)
                }
                return true
            }
        }
    }

    func contains(_ segment: UInt64, _ block: Int) -> Bool {
        shard(segment, block).withLock { $0.find(segment, block) != nil }
    }

    /// Takes in checked bytes from the beginning of `first` on; only the last block of a segment may be short.
    func insert(_ segment: UInt64, first: Int, _ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        let size = Self.frameSize
        _ = runs(segment, first, first + (bytes.count + size - 1) / size) { shard, blocks in
            shard.withLock { shard in
                shard.back(blocks.count)
                let used = shard.used
                defer { framesUsed.add(shard.used - used, ordering: .relaxed) }
                for block in blocks where shard.find(segment, block) == nil {
                    let place = (block - first) * size
                    let count = min(size, bytes.count - place)
                    memcpy(shard.bytes(shard.insert(segment, block, length: count)), source + place, count)
                }
            }
            return true
        }
    }

    /// Frames, an index over them (open addressing, linear probing) and an eviction clock.
    struct Shard: @unchecked Sendable {
        private struct Frame {
            var segment: UInt64
            var block: UInt32
            var length: UInt32
            /// Used since the clock's hand passed.
            var isWarm: Bool
        }

        private let base: UnsafeMutableRawPointer
        private let capacity: Int
        private var frames: [Frame] = []
        private var index: [Int32]
        private let mask: Int
        private var hand = 0

        init(base: UnsafeMutableRawPointer, capacity: Int) {
            self.base = base
            self.capacity = capacity
            var size = 16
            while size < 2 * capacity { size *= 2 }
            index = Array(repeating: -1, count: size)
            mask = size - 1
        }

        private static let worthBacking = 8

        /// So many frames are about to be filled, those among them that nobody has had yet for the first time.
        func back(_ count: Int) {
            guard count >= Self.worthBacking, frames.count + count <= capacity else { return }
            Expanse.back(bytes(frames.count), count * DataCache.frameSize)
        }

        func bytes(_ frame: Int) -> UnsafeMutableRawPointer { base + frame * DataCache.frameSize }
        var used: Int { frames.count }
        func length(_ frame: Int) -> Int { Int(frames[frame].length) }

        private func home(_ segment: UInt64, _ block: Int) -> Int {
            var hash = (segment &<< 20 ^ UInt64(block)) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 29
            return Int(truncatingIfNeeded: hash) & mask
        }

        mutating func find(_ segment: UInt64, _ block: Int) -> Int? {
            var place = home(segment, block)
            while index[place] >= 0 {
                let frame = Int(index[place])
                if frames[frame].segment == segment, Int(frames[frame].block) == block {
                    frames[frame].isWarm = true
                    return frame
                }
                place = (place + 1) & mask
            }
            return nil
        }

        /// The block is not here. Answers its frame, to be filled before the lock is left. A block that nobody has
        /// asked for yet is cold: what is read ahead in vain goes first.
        mutating func insert(_ segment: UInt64, _ block: Int, length: Int) -> Int {
            let entry = Frame(segment: segment, block: UInt32(block), length: UInt32(length), isWarm: false)
            let frame: Int
            if frames.count < capacity {
                frame = frames.count
                frames.append(entry)
            } else {
                frame = evict()
                frames[frame] = entry
            }
            var place = home(segment, block)
            while index[place] >= 0 { place = (place + 1) & mask }
            index[place] = Int32(frame)
            return frame
        }

        private mutating func evict() -> Int {
            while frames[hand].isWarm {
                frames[hand].isWarm = false
                hand = (hand + 1) % capacity
            }
            let frame = hand
            hand = (hand + 1) % capacity
            var hole = home(frames[frame].segment, Int(frames[frame].block))
            while index[hole] != Int32(frame) { hole = (hole + 1) & mask }
            // Later entries of the run move forward, so that no search stops early.
            var next = (hole + 1) & mask
            while index[next] >= 0 {
                let other = frames[Int(index[next])]
                if (next &- home(other.segment, Int(other.block))) & mask >= (next &- hole) & mask {
                    index[hole] = index[next]
                    hole = next
                }
                next = (next + 1) & mask
            }
            index[hole] = -1
            return frame
        }
    }
}

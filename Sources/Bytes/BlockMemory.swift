import Glibc
import Synchronization

/// Memory of long blocks that are gone, for those to come. New memory is cleared and mapped by the system page by page, when it is first
/// met, which takes longer than to copy into it. So blocks of the shortest of these lengths, in which files' data goes its way, lie two in a large
/// page where the system has such: 512 small ones were seen to take four times as long.
enum BlockMemory {
    private static let largest = 17 << 20
    private static let largePage = 2 << 20
    private static let half = largePage / 2
    /// What is kept for nobody in particular.
    private static let spareMax = 64 << 20
    /// So that those of nearly one length are one.
    private static let lengths = [half, (5 << 18), (9 << 18), (17 << 18), (33 << 18), largest]

    private struct Spare: @unchecked Sendable {
        /// By the lengths' numbers.
        var memory: [[UnsafeMutableRawPointer]] = Array(repeating: [], count: BlockMemory.lengths.count)
        var bytes = 0
        /// Halves of large pages that have their addresses only, while somebody has the other half.
        var bare: Set<UnsafeMutableRawPointer> = []
    }

    private static let spare = Mutex(Spare())

    /// The number of the length that serves for so many bytes. Nil: they are too few for it to matter, or more than messages have.
    private static func length(_ capacity: Int) -> Int? {
        guard capacity > lengths[0] / 2 else { return nil }
        return lengths.firstIndex { $0 >= capacity }
    }

    static func take(_ capacity: Int) -> UnsafeMutableRawPointer {
        guard let length = length(capacity) else { return new(max(capacity, 1)) }
        let kept = spare.withLock { spare -> Loose? in
            if let memory = spare.memory[length].popLast() {
                spare.bytes -= lengths[length]
                return Loose(memory: memory, length: length)
            }
            guard length == 0, let memory = spare.bare.popFirst() else { return nil }
            return Loose(memory: memory, length: length)
        }
        if let kept { return kept.memory }
        guard length == 0 else { return new(lengths[length]) }
        let both = newLargePage()
        give(both + half, half)
        return both
    }

    static func give(_ memory: UnsafeMutableRawPointer, _ capacity: Int) {
        guard let length = length(capacity) else { return memory.deallocate() }
        let given = Loose(memory: memory, length: length)
        // What is given now is wanted again sooner than what has lain there for long.
        let gone = spare.withLock { spare -> [Loose] in
            var gone: [Loose] = []
            spare.memory[length].append(given.memory)
            spare.bytes += lengths[length]
            while spare.bytes > spareMax {
                let other = spare.memory.indices.first { $0 != length && !spare.memory[$0].isEmpty } ?? length
                gone.append(Loose(memory: spare.memory[other].removeFirst(), length: other))
                spare.bytes -= lengths[other]
            }
            return gone
        }
        for each in gone { release(each) }
    }

    private struct Loose: @unchecked Sendable {
        let memory: UnsafeMutableRawPointer
        let length: Int
    }

    /// Aligned to the page, so that it can be written to disk directly.
    private static func new(_ count: Int) -> UnsafeMutableRawPointer { .allocate(byteCount: count, alignment: 4096) }

    /// Newer systems map so much where a large page begins; the others are asked for more, of which that part stays.
    private static func newLargePage() -> UnsafeMutableRawPointer {
        var page = map(largePage)
        if page.alignedDown(toMultipleOf: largePage) != page {
            munmap(page, largePage)
            let wide = map(2 * largePage)
            page = wide.alignedUp(toMultipleOf: largePage)
            if page > wide { munmap(wide, page - wide) }
            let behind = page + largePage
            munmap(behind, wide + 2 * largePage - behind)
        }
        madvise(page, largePage, MADV_HUGEPAGE)
        return page
    }

    private static func map(_ count: Int) -> UnsafeMutableRawPointer {
        guard let memory = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            memory != MAP_FAILED
        else { preconditionFailure("no memory for a block") }
        return memory
    }

    /// A large page is the system's again when both its halves are; until then the first one leaves its addresses.
    private static func release(_ loose: Loose) {
        guard loose.length == 0 else { return loose.memory.deallocate() }
        madvise(loose.memory, half, MADV_DONTNEED)
        let page = loose.memory.alignedDown(toMultipleOf: largePage)
        let other = Loose(memory: loose.memory == page ? page + half : page, length: 0)
        let isWhole = spare.withLock { spare in
            if spare.bare.remove(other.memory) != nil { return true }
            spare.bare.insert(loose.memory)
            return false
        }
        if isWhole { munmap(page, largePage) }
    }

    /// Gives the system what is kept: nobody needs long blocks now.
    static func trim() {
        let all = spare.withLock { spare -> Spare in
            let all = spare
            spare = Spare(bare: all.bare)
            return all
        }
        for (length, kept) in all.memory.enumerated() {
            for memory in kept { release(Loose(memory: memory, length: length)) }
        }
    }
}

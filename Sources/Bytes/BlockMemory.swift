import Synchronization

/// Memory of long blocks that are gone, for those to come. New memory is cleared and mapped by the system page by page, when it is first
/// met, which takes longer than to copy into it.
enum BlockMemory {
    private static let largest = 17 << 20
    /// What is kept for nobody in particular.
    private static let spareMax = 64 << 20
    /// So that those of nearly one length are one.
    private static let lengths = [(1 << 20), (5 << 18), (9 << 18), (17 << 18), (33 << 18), largest]

    private struct Spare: @unchecked Sendable {
        /// By the lengths' numbers.
        var memory: [[UnsafeMutableRawPointer]] = Array(repeating: [], count: BlockMemory.lengths.count)
        var bytes = 0
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
            guard let memory = spare.memory[length].popLast() else { return nil }
            spare.bytes -= lengths[length]
            return Loose(memory: memory)
        }
        return kept?.memory ?? new(lengths[length])
    }

    static func give(_ memory: UnsafeMutableRawPointer, _ capacity: Int) {
        guard let length = length(capacity) else { return memory.deallocate() }
        let given = Loose(memory: memory)
        // What is given now is wanted again sooner than what has lain there for long.
        let gone = spare.withLock { spare -> [Loose] in
            var gone: [Loose] = []
            spare.memory[length].append(given.memory)
            spare.bytes += lengths[length]
            while spare.bytes > spareMax {
                let other = spare.memory.indices.first { $0 != length && !spare.memory[$0].isEmpty } ?? length
                gone.append(Loose(memory: spare.memory[other].removeFirst()))
                spare.bytes -= lengths[other]
            }
            return gone
        }
        for each in gone { each.memory.deallocate() }
    }

    private struct Loose: @unchecked Sendable { let memory: UnsafeMutableRawPointer }

    /// Aligned to the page, so that it can be written to disk directly.
    private static func new(_ count: Int) -> UnsafeMutableRawPointer { .allocate(byteCount: count, alignment: 4096) }

    /// Gives the system what is kept: nobody needs long blocks now.
    static func trim() {
        let all = spare.withLock { spare -> Spare in
            let all = spare
            spare = Spare()
            return all
        }
        for memory in all.memory.joined() { memory.deallocate() }
    }
}

/// The sequence numbers of a context that were seen (RFC 2203 5.3.3.1). No I/O.
///
/// Invariant: a number is admitted once, and never after one that is `size` or more above it.
package struct SequenceWindow {
    /// How many calls of a context may be under way and come in any order; Linux lets no more out.
    package static let size = 1024

    private var highest: UInt32 = 0
    /// Bit n modulo `size` stands for number n.
    private var seen = [UInt64](repeating: 0, count: size / 64)
    private var isFirst = true

    package init() {}

    /// False: it is too old, or came before.
    package mutating func admit(_ number: UInt32) -> Bool {
        if isFirst {
            isFirst = false
            highest = number
            mark(number)
            return true
        }
        if number > highest {
            let step = Int(number - highest)
            if step >= Self.size {
                for index in seen.indices { seen[index] = 0 }
            } else {
                for above in 1...step { clear(highest &+ UInt32(above)) }
            }
            highest = number
            mark(number)
            return true
        }
        guard highest - number < UInt32(Self.size), !isSeen(number) else { return false }
        mark(number)
        return true
    }

    private func place(_ number: UInt32) -> (Int, UInt64) {
        let bit = Int(number) % Self.size
        return (bit / 64, 1 << UInt64(bit % 64))
    }
    private func isSeen(_ number: UInt32) -> Bool {
        let (word, bit) = place(number)
        return seen[word] & bit != 0
    }
    private mutating func mark(_ number: UInt32) {
        let (word, bit) = place(number)
        seen[word] |= bit
    }
    private mutating func clear(_ number: UInt32) {
        let (word, bit) = place(number)
        seen[word] &= ~bit
    }
}

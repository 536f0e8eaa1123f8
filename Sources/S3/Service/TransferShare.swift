import Synchronization

/// Memory of bodies, answers and documents on their way, shared by all requests of the server. Each piece is held from when its
/// memory is there until its bytes have gone on. The less is left, the smaller are the next pieces: nobody waits for another
/// one's slow client, and many of those do not take all memory.
package final class TransferShare: Sendable {
    private let bytesMax: Int
    private let held = Atomic<Int>(0)

    /// Below this a piece costs more than its bytes.
    package static let pieceBytesMin = 16 << 10

    package init(bytesMax: Int) {
        precondition(bytesMax > 0, "no memory for transfers")
        self.bytesMax = bytesMax
    }

    package var heldBytes: Int { held.load(ordering: .relaxed) }

    /// How much of `wanted` a request may have in memory, until `give`: at most half of what is left, so that there is some for
    /// who comes next, but always a little.
    package func take(_ wanted: Int) -> Int {
        var before = heldBytes
        while true {
            let piece = Self.piece(min(wanted, max(Self.pieceBytesMin, (bytesMax - before) / 2)))
            let (isDone, found) = held.weakCompareExchange(
                expected: before, desired: before + piece, ordering: .relaxed)
            if isDone { return piece }
            before = found
        }
    }

    /// Blocks of more than half a MiB have the memory of a whole one: what is counted is what they have.
    private static func piece(_ count: Int) -> Int { ((512 << 10) + 1..<(1 << 20)).contains(count) ? 512 << 10 : count }

    /// All of it, until `give`, or nothing.
    package func takeWhole(_ count: Int) -> Bool {
        var before = heldBytes
        while count <= bytesMax - before {
            let (isDone, found) = held.weakCompareExchange(
                expected: before, desired: before + count, ordering: .relaxed)
            if isDone { return true }
            before = found
        }
        return false
    }

    package func give(_ count: Int) {
        let before = held.subtract(count, ordering: .relaxed).oldValue
        precondition(before >= count, "memory is given back that was never taken")
    }
}

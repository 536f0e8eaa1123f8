import Synchronization

/// Memory of bodies and answers on their way, shared by all requests of the server: the more there are, the smaller are the
/// pieces. So nobody waits for another one's slow client, and many of those do not take all memory.
package final class TransferShare: Sendable {
    private let bytesMax: Int
    private let requests = Atomic<Int>(0)

    /// Below this a piece costs more than its bytes.
    package static let pieceBytesMin = 16 << 10

    package init(bytesMax: Int) {
        precondition(bytesMax > 0, "no memory for transfers")
        self.bytesMax = bytesMax
    }

    package func enter() { requests.add(1, ordering: .relaxed) }

    package func leave() {
        let before = requests.subtract(1, ordering: .relaxed).oldValue
        precondition(before > 0, "a request leaves that never came")
    }

    /// How much of `wanted` a request should have in memory.
    package func piece(_ wanted: Int) -> Int {
        min(wanted, max(Self.pieceBytesMin, bytesMax / max(requests.load(ordering: .relaxed), 1)))
    }
}

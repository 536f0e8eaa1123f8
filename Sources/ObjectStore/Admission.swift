/// Lets a number of requests in at once, with a number of bytes between them; the others wait in order.
package struct Admission {
    /// Callers that may wait; more means that nobody holds them back above.
    package static let waitersMax = 10_000

    struct Waiter {
        let bytes: UInt64
        /// False: the store is closing.
        let continuation: UnsafeContinuation<Bool, Never>
    }

    private let placesMax: Int
    private let bytesMax: UInt64
    private(set) var places = 0
    private(set) var bytes: UInt64 = 0
    private var waiting: [Waiter] = []
    private var next = 0

    init(places: Int, bytes: UInt64) {
        precondition(places > 0)
        placesMax = places
        bytesMax = bytes
    }

    package var waiters: Int { waiting.count - next }
    package var isFull: Bool { waiters >= Self.waitersMax }

    /// One that alone is above the limit of bytes goes alone.
    private func fits(_ more: UInt64) -> Bool {
        places < placesMax && (places == 0 || more <= bytesMax && bytes <= bytesMax - more)
    }

    mutating func enter(_ more: UInt64) -> Bool {
        guard waiters == 0, fits(more) else { return false }
        places += 1
        bytes += more
        return true
    }

    mutating func wait(_ waiter: Waiter) { waiting.append(waiter) }

    /// Answers those who may enter now; their places are taken.
    mutating func leave(_ less: UInt64) -> [UnsafeContinuation<Bool, Never>] {
        places -= 1
        bytes -= less
        var entering: [UnsafeContinuation<Bool, Never>] = []
        while next < waiting.count, fits(waiting[next].bytes) {
            places += 1
            bytes += waiting[next].bytes
            entering.append(waiting[next].continuation)
            next += 1
        }
        if next == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            next = 0
        } else if next > 64, next * 2 > waiting.count {
            waiting.removeFirst(next)
            next = 0
        }
        return entering
    }

    mutating func dismissAll() -> [UnsafeContinuation<Bool, Never>] {
        defer {
            waiting.removeAll()
            next = 0
        }
        return waiting[next...].map(\.continuation)
    }
}

/// Lets a number of requests in at once, with a number of bytes between them; the others wait in order.
package struct Admission {
    /// Callers that may wait; more means that nobody holds them back above.
    package static let waitersMax = 10_000

    enum Answer: Sendable {
        case enter
        /// The caller's time is over.
        case late
        /// The store is closing.
        case closing
    }

    typealias Entrance = UnsafeContinuation<Answer, Never>

    private struct Waiter {
        let number: UInt64
        let bytes: UInt64
        /// Nil: it has given up, and nobody waits here any more.
        var continuation: Entrance?
    }

    private let placesMax: Int
    private let bytesMax: UInt64
    private(set) var places = 0
    private(set) var bytes: UInt64 = 0
    /// By rising number.
    private var waiting: [Waiter] = []
    private var next = 0
    private var number: UInt64 = 0
    package private(set) var waiters = 0

    init(places: Int, bytes: UInt64) {
        precondition(places > 0)
        placesMax = places
        bytesMax = bytes
    }

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

    /// Answers the number by which the waiter can be sent away.
    mutating func wait(_ bytes: UInt64, _ continuation: Entrance) -> UInt64 {
        number += 1
        waiters += 1
        waiting.append(Waiter(number: number, bytes: bytes, continuation: continuation))
        return number
    }

    /// The waiter, if it still waits; and those whose turn it is without it.
    mutating func giveUp(_ number: UInt64) -> (late: Entrance?, entering: [Entrance]) {
        var (low, high) = (next, waiting.count)
        while low < high {
            let middle = (low + high) / 2
            if waiting[middle].number < number { low = middle + 1 } else { high = middle }
        }
        guard low < waiting.count, waiting[low].number == number, let late = waiting[low].continuation else {
            return (nil, [])
        }
        waiting[low].continuation = nil
        waiters -= 1
        return (late, admit())
    }

    /// Answers those who may enter now; their places are taken.
    mutating func leave(_ less: UInt64) -> [Entrance] {
        places -= 1
        bytes -= less
        return admit()
    }

    private mutating func admit() -> [Entrance] {
        var entering: [Entrance] = []
        while next < waiting.count {
            if let continuation = waiting[next].continuation {
                guard fits(waiting[next].bytes) else { break }
                places += 1
                bytes += waiting[next].bytes
                waiters -= 1
                entering.append(continuation)
            }
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

    mutating func dismissAll() -> [Entrance] {
        defer {
            waiting.removeAll()
            next = 0
            waiters = 0
        }
        return waiting[next...].compactMap(\.continuation)
    }
}

import Runtime

/// Where tickets wait to be looked at. That takes a thread of the pool which the disk needs, too: some are at it at a time, the others
/// have their turn in the order in which they came.
package final class TicketDesk: Sendable {
    package static let workingMax = 4
    package static let waitingMax = 4096

    private struct State {
        var working = 0
        var waiting: [UnsafeContinuation<Void, Never>] = []
    }

    private let state = Guarded(State())

    package init() {}

    /// Who was let in says when it is over. False: too many wait already.
    package func begin() async -> Bool {
        let isFull = state.withLock { state in
            state.working >= Self.workingMax && state.waiting.count >= Self.waitingMax
        }
        if isFull { return false }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isFree = state.withLock { state -> Bool in
                guard state.working >= Self.workingMax else {
                    state.working += 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
        return true
    }

    package func end() {
        let next = state.withLock { state -> UnsafeContinuation<Void, Never>? in
            guard state.waiting.isEmpty else { return state.waiting.removeFirst() }
            state.working -= 1
            return nil
        }
        next?.resume()
    }
}

/// Tasks of one loop that take turns at something, in the order in which they came. On the loop only.
public final class TurnQueue: @unchecked Sendable {
    private let waitingMax: Int
    private var isBusy = false
    private var waiting: [UnsafeContinuation<Void, Never>] = []

    public init(waitingMax: Int) { self.waitingMax = waitingMax }

    /// False: too many wait already. Else `leave` must follow.
    public func enter() async -> Bool {
        guard waiting.count < waitingMax else { return false }
        // Whoever leaves hands the turn over: it stays taken.
        if isBusy { await withUnsafeContinuation { waiting.append($0) } }
        isBusy = true
        return true
    }

    public func leave() {
        if waiting.isEmpty { isBusy = false } else { waiting.removeFirst().resume() }
    }
}

import Synchronization

/// What a loop keeps for its connections, whichever network they are of. Every kind of loop calls `settle` at the
/// end of each round, and does not wait for events while `hasWork`.
package final class LoopIO {
    package let pool = BufferPool()
    package let counters = LoopCounters()
    @exclusivity(unchecked) private var connections: [Connection] = []
    @exclusivity(unchecked) private var settling: [Connection] = []

    package init() {
        connections.reserveCapacity(64)
        settling.reserveCapacity(64)
    }

    package var hasWork: Bool { !connections.isEmpty }

    func list(_ connection: Connection) { connections.append(connection) }

    /// One pass: what connections ask for meanwhile is for the next round, after others have had their turn.
    package func settle() {
        guard !connections.isEmpty else { return }
        swap(&connections, &settling)
        for connection in settling { connection.settle() }
        settling.removeAll(keepingCapacity: true)
    }
}

/// Counted by the loop's thread, read by any.
public final class LoopCounters: Sendable {
    public let opened = LoopCounter()
    public let closed = LoopCounter()
    public let bytesIn = LoopCounter()
    public let bytesOut = LoopCounter()
    public let rounds = LoopCounter()
    public let jobs = LoopCounter()
    public let datagramsIn = LoopCounter()
    public let datagramsOut = LoopCounter()
    public let datagramsDropped = LoopCounter()
}

/// Has one writer, so that no locked instruction is needed.
public final class LoopCounter: Sendable {
    private let cell = Atomic<UInt64>(0)
    init() {}
    @inline(__always)
    package func add(_ count: UInt64) { cell.store(cell.load(ordering: .relaxed) &+ count, ordering: .relaxed) }
    public var value: UInt64 { cell.load(ordering: .relaxed) }
}

/// What the connections of one listener, or all outgoing ones of a kind, have in common.
package final class ConnectionSettings: Sendable {
    let limits: ConnectionLimits
    let isTLS: Bool
    private static let lastID = Atomic<UInt64>(0)

    package init(_ limits: ConnectionLimits, isTLS: Bool) {
        limits.check()
        self.limits = limits
        self.isTLS = isTLS
    }

    func nextID() -> UInt64 { Self.lastID.wrappingAdd(1, ordering: .relaxed).newValue }
}

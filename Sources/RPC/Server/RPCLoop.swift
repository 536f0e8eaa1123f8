import Bytes
import Runtime
import Synchronization

/// What the connections of one server share on one loop. Confined to the loop, but for the counters.
final class RPCLoop: @unchecked Sendable {
    let loop: EventLoop
    let limits: RPCLimits
    let counters = RPCCounters()
    @exclusivity(unchecked) var blocks = BlockCache()
    /// Bytes of held calls and of records that have come in part.
    private(set) var charged = 0
    /// Streams that wait until less is charged, in their order.
    private var waiting: [RPCStream] = []

    init(_ loop: EventLoop, _ limits: RPCLimits) {
        self.loop = loop
        self.limits = limits
    }

    /// Accounts for bytes that are there already.
    func charge(_ count: Int) { charged += count }

    var isFull: Bool { charged >= limits.loopBytesMax }

    /// Accounts for bytes that are to come. False: too many, and `stream` is resumed when there is room again.
    func charge(_ count: Int, for stream: RPCStream) -> Bool {
        guard count <= limits.loopBytesMax - charged else {
            wait(stream)
            return false
        }
        charged += count
        return true
    }

    func wait(_ stream: RPCStream) { waiting.append(stream) }

    func release(_ count: Int) {
        charged -= count
        precondition(charged >= 0, "more was released than charged")
        guard !waiting.isEmpty, charged <= limits.loopBytesMax / 2 else { return }
        let ready = waiting
        waiting = []
        for stream in ready { stream.roomAgain() }
    }
}

/// Counted by one loop's thread, read by any: no locked instruction is needed.
final class RPCCounter: Sendable {
    private let cell = Atomic<UInt64>(0)
    @inline(__always)
    func count() { cell.store(cell.load(ordering: .relaxed) &+ 1, ordering: .relaxed) }
    var value: UInt64 { cell.load(ordering: .relaxed) }
}

final class RPCCounters: Sendable {
    let calls = RPCCounter()
    let held = RPCCounter()
    let refused = RPCCounter()
    let dropped = RPCCounter()
}

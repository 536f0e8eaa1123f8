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
    /// Streams of which a record has come in part.
    private var coming: [RPCStream] = []
    /// Streams that wait until less is charged, in their order, with what their records need.
    private var waiting: [(stream: RPCStream, need: Int)] = []
    /// Streams whose held calls have filled the last room.
    private var stopped: [RPCStream] = []
    private var timer: LoopTimer?
    /// Streams that have written since all output was last counted, and what was pending then and was written since.
    var writers: [RPCStream] = []
    @exclusivity(unchecked) var written = 0
    /// Clients do not take what they asked for, all together: nobody is served until there is room.
    var isOutputFull = false

    init(_ loop: EventLoop, _ limits: RPCLimits) {
        self.loop = loop
        self.limits = limits
    }

    /// Accounts for bytes that are there already.
    func charge(_ count: Int) { charged += count }

    var isFull: Bool { charged >= limits.loopBytesMax }
    private var room: Int { limits.loopBytesMax - charged }

    /// Accounts for a record that is to come. False: there is no room, or others wait for it; `stream` is told when it
    /// has been given what it needs.
    func charge(_ count: Int, for stream: RPCStream) -> Bool {
        guard waiting.isEmpty, count <= room else {
            wait(stream, for: count)
            return false
        }
        charged += count
        coming.append(stream)
        return true
    }

    private func wait(_ stream: RPCStream, for need: Int) {
        waiting.append((stream, need))
        awaitRoom()
    }

    /// `stream` goes on when there is any room at all, for input and for output.
    func stop(_ stream: RPCStream) { stopped.append(stream) }

    func release(_ count: Int) {
        charged -= count
        precondition(charged >= 0, "more was released than charged")
        if !waiting.isEmpty || !stopped.isEmpty { giveRoom() }
    }

    /// The record has come, or will not.
    func releaseRecord(_ count: Int, of stream: RPCStream) {
        if let index = coming.firstIndex(where: { $0 === stream }) { coming.remove(at: index) }
        release(count)
    }

    /// The stream has ended.
    func forget(_ stream: RPCStream) {
        stopped.removeAll { $0 === stream }
        waiting.removeAll { $0.stream === stream }
        giveRoom()
    }

    func giveRoom() {
        // They may have room of their own for records that others wait for, so they go first.
        if !isFull, !isOutputFull, !stopped.isEmpty {
            let ready = stopped
            stopped = []
            for stream in ready { stream.roomAgain(0) }
        }
        while let (stream, need) = waiting.first, need <= room {
            waiting.removeFirst()
            charged += need
            coming.append(stream)
            stream.roomAgain(need)
        }
        awaitRoom()
    }

    private func awaitRoom() {
        guard !waiting.isEmpty, timer == nil else { return }
        timer = loop.schedule(after: limits.recordPatience) { [self] in
            timer = nil
            makeRoom()
            awaitRoom()
        }
    }

    /// Whoever claims room for a record and does not send it must not keep others from theirs: where somebody waits, the
    /// records that come most slowly are given up, with their connections.
    private func makeRoom() {
        let now = loop.now
        while let need = waiting.first?.need, need > room {
            let late = coming.filter { $0.isReading && now &- $0.recordSince >= limits.recordPatience }
            guard let slowest = late.min(by: { $0.recordRate(now) < $1.recordRate(now) }) else { return }
            slowest.giveUp("record comes too slowly while others wait")
        }
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

import CShim
import Runtime

/// One end of a simulated connection. Bytes travel in segments, each with a latency of its own but in order, as TCP
/// has it; what a partition holds back is sent again until it ends.
final class SimulatedTransport: Transport, @unchecked Sendable {
    /// Bytes on their way and not yet read: more are not taken.
    static let window = 64 << 10

    private enum Segment {
        case bytes([UInt8])
        case end
    }

    private let fabric: SimulatedFabric
    private let host: UInt32
    private var number: UInt64 = 0
    private var peer: SimulatedTransport?
    private var isOpen = false
    private var isClosed = false
    private var failure: Errno?
    /// Neither end hears of the other any more.
    private var isSilent = false

    private var input: [UInt8] = []
    private var inputStart = 0
    private var hasEnded = false
    private var flight: [Segment] = []
    private var flightBytes = 0
    private var isPumping = false
    private var hasFinished = false

    private var wantsRead = false
    private var wantsWrite = false
    private var isAttending = false

    init(_ fabric: SimulatedFabric, host: UInt32) {
        self.fabric = fabric
        self.host = host
        super.init()
        number = fabric.register(self)
    }

    private var inputCount: Int { input.count - inputStart }

    // MARK: Opening

    override func start() -> Bool { isOpen }

    func connect(to place: SimulatedFabric.Place, from local: SocketAddress) {
        fabric.after(fabric.latency()) { [self] in knock(place, local) }
    }

    private func knock(_ place: SimulatedFabric.Place, _ local: SocketAddress) {
        guard !isClosed, failure == nil else { return }
        fabric.mayPartition(host, place.host)
        if fabric.isCut(host, place.host) {
            return fabric.after(SimulatedFabric.retryInterval) { [self] in knock(place, local) }
        }
        guard let acceptor = fabric.acceptors[place] else {
            return fabric.after(fabric.latency()) { [self] in
                fail(place.path.isEmpty ? .connectionRefused : .noEntry)
            }
        }
        let other = SimulatedTransport(fabric, host: place.host)
        (peer, other.peer) = (other, self)
        other.isOpen = true
        if fabric.happens(\.halfOpen, \.halfOpens) { (isSilent, other.isSilent) = (true, true) }
        let admitted = acceptor.listener.admit(
            local: fabric.shown(place, acceptor.listener.address), remote: local, transport: { _ in other },
            discard: { other.close() })
        if !admitted { other.close() }
        // The answer to the first segment is on its way before the connection can be silent.
        fabric.after(fabric.latency()) { [self] in
            guard !isClosed, failure == nil else { return }
            isOpen = true
            owner?.transportOpened()
            attend()
        }
    }

    // MARK: Output

    override func write(_ bytes: UnsafeRawBufferPointer) -> TransportResult {
        take(bytes.count) { Array(bytes.prefix($0)) }
    }

    override func write(_ vectors: UnsafeBufferPointer<iovec>) -> TransportResult {
        take(vectors.reduce(0) { $0 + $1.iov_len }) { limit in
            var bytes: [UInt8] = []
            for vector in vectors where bytes.count < limit {
                bytes += UnsafeRawBufferPointer(start: vector.iov_base, count: vector.iov_len).prefix(
                    limit - bytes.count)
            }
            return bytes
        }
    }

    private func take(_ count: Int, _ copy: (Int) -> [UInt8]) -> TransportResult {
        if let failure { return .failed(.failed(failure)) }
        guard let peer, !hasFinished else { return .failed(.failed(Errno(EPIPE))) }
        if fabric.happens(\.reset, \.resets) {
            peer.failLater(.connectionReset)
            fail(.connectionReset)
            return .failed(.failed(.connectionReset))
        }
        var taken = min(count, room)
        guard taken > 0 else { return .wouldBlock }
        if taken > 1, fabric.happens(\.partialWrite, \.partialWrites) { taken = 1 + fabric.below(taken - 1) }
        flight.append(.bytes(copy(taken)))
        flightBytes += taken
        pump()
        return .bytes(taken, more: taken == count)
    }

    private var room: Int { Self.window - flightBytes - (peer?.inputCount ?? 0) }

    override func finishWriting() {
        guard !hasFinished, failure == nil, peer != nil else { return }
        hasFinished = true
        flight.append(.end)
        pump()
    }

    /// Sends the first segment on its way, when none is.
    private func pump() {
        guard !isPumping, !isSilent, let peer, !flight.isEmpty else { return }
        isPumping = true
        fabric.mayPartition(host, peer.host)
        var delay = fabric.latency()
        if fabric.happens(\.slowSegment, \.slowSegments) { delay += UInt64(fabric.below(Int(SimulatedFabric.slowMax))) }
        fabric.after(delay) { [self] in arrive(at: peer) }
    }

    private func arrive(at peer: SimulatedTransport) {
        guard failure == nil else { return }
        if fabric.isCut(host, peer.host) {
            return fabric.after(SimulatedFabric.retryInterval) { [self] in arrive(at: peer) }
        }
        isPumping = false
        fabric.trace(number, UInt64(flightBytes))
        switch flight.removeFirst() {
        case .bytes(let bytes):
            flightBytes -= bytes.count
            guard !peer.isClosed else { return fail(.connectionReset) }
            peer.input += bytes
        case .end: peer.hasEnded = true
        }
        peer.attend()
        pump()
        leaveWhenDone()
    }

    // MARK: Input

    override func read(into buffer: UnsafeMutableRawBufferPointer) -> TransportResult {
        if let failure { return .failed(.failed(failure)) }
        guard inputCount > 0 else { return hasEnded ? .end : .wouldBlock }
        var count = min(inputCount, buffer.count)
        if count > 1, fabric.happens(\.partialRead, \.partialReads) { count = 1 + fabric.below(count - 1) }
        input[inputStart..<inputStart + count].withUnsafeBytes { buffer.copyMemory(from: $0) }
        inputStart += count
        if inputStart == input.count {
            input.removeAll(keepingCapacity: true)
            inputStart = 0
        }
        // Word of the room that there is now travels back.
        if let peer, peer.wantsWrite { fabric.after(fabric.latency()) { peer.attend() } }
        return .bytes(count, more: count == buffer.count)
    }

    // MARK: Readiness

    override func setInterest(read: Bool, write: Bool) {
        (wantsRead, wantsWrite) = (read, write)
        attend()
    }

    private var isReadable: Bool { wantsRead && (inputCount > 0 || hasEnded || failure != nil) }
    private var isWritable: Bool { wantsWrite && (room > 0 || failure != nil) && isOpen }

    /// Tells the owner in an event of its own, and again as long as there is something to tell.
    private func attend() {
        guard !isAttending, !isClosed, isOpen, isReadable || isWritable else { return }
        isAttending = true
        fabric.after(0) { [self] in
            isAttending = false
            if isReadable { owner?.transportReadable() }
            if isWritable { owner?.transportWritable() }
            attend()
        }
    }

    // MARK: Ending

    private func failLater(_ error: Errno) { fabric.after(fabric.latency()) { [self] in fail(error) } }

    func fail(_ error: Errno) {
        guard failure == nil else { return }
        failure = error
        drop()
        guard !isClosed else { return }
        // Not inside a call of the owner's.
        fabric.after(0) { [self] in owner?.transportFailed(.failed(error)) }
    }

    /// The program ends, outside of any call of the owner's.
    func breakNow() {
        if failure == nil { failure = .connectionReset }
        drop()
        owner?.transportFailed(.failed(.connectionReset))
    }

    override func close() {
        owner = nil
        guard !isClosed else { return }
        isClosed = true
        // Bytes that nobody will read: the peer is told that they are lost.
        if inputCount > 0, let peer, !isSilent { peer.failLater(.connectionReset) }
        if peer == nil || isSilent || failure != nil { return drop() }
        finishWriting()
        leaveWhenDone()
    }

    private func leaveWhenDone() {
        if isClosed, flight.isEmpty, !isPumping { drop() }
    }

    /// The fabric knows this end no more. The peer keeps its side for what it still has to read.
    private func drop() {
        fabric.forget(number)
        flight = []
        flightBytes = 0
        if isClosed { peer = nil }
    }
}

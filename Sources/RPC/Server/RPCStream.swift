import Bytes
import Logging
import Runtime

/// The calls of one connection: records are taken from the input in place, or into a block when they are large or in
/// several fragments; replies go out as they are ready. Confined to the connection's loop.
final class RPCStream: ReplySink, ConnectionHandler, @unchecked Sendable {
    /// A record longer than this is received into a block of its own: a call that is held keeps it without a copy, and
    /// the connection's input stays small.
    static let inPlaceMax = 32 << 10
    /// Of a shorter one the part that has come is not accounted for: thousands of connections may have as much.
    static let uncountedMax = 8 << 10

    private let connection: Connection
    private let server: RPCServer
    private let limits: RPCLimits
    @exclusivity(unchecked) private var identities = IdentityCache()

    private var heldCalls = 0
    private var heldBytes = 0
    /// Charged for the record that is coming.
    private var chargedForRecord = 0
    /// When the record that is charged for began to come.
    private(set) var recordSince: UInt64 = 0
    /// What it comes into; nil: the connection's input.
    private var recordBlock: Block?
    private var isWaitingForRoom = false
    /// Among those of the loop whose output is counted; -1: it is none.
    @exclusivity(unchecked) var writerIndex = -1
    private var takenBefore: UInt64 = 0
    /// Nothing more is read; the connection ends behind the last held call.
    private var isEnding = false

    /// A record of several fragments as far as it has come.
    private var gathered: Block?
    private var fragmentRest = 0
    private var fragmentIsLast = false
    private var fragments = 0
    private var fragmentTimer: LoopTimer?

    init(_ server: RPCServer, _ state: RPCLoop, _ connection: Connection) {
        self.server = server
        self.connection = connection
        limits = server.limits
        super.init(
            state, remote: connection.remoteAddress, local: connection.localAddress, markBytes: RecordMark.bytes,
            messageMax: RPCServer.streamMessageMax, takesBlocks: true)
        server.connected(connection.remoteAddress)
    }

    // MARK: Records

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        var offset = 0
        if state.isOutputFull, !isWaitingForRoom { stop() }
        while !isHeldBack {
            if gathered != nil {
                guard gather(bytes, &offset) else { return offset }
                continue
            }
            guard bytes.count - offset >= RecordMark.bytes else {
                if offset < bytes.count { connection.require(RecordMark.bytes) }
                return offset
            }
            let mark = RecordMark(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            guard mark.length <= limits.recordMax else { return refuse("record too long", bytes) }
            let begin = offset + RecordMark.bytes
            guard mark.isLast else {
                guard charge(limits.recordMax) else { return offset }
                let block = makeBlock(Self.inPlaceMax)
                gathered = block
                recordBlock = block
                fragments = 0
                awaitFragments()
                continue
            }
            if bytes.count - begin >= mark.length {
                offset = begin + mark.length
                if chargedForRecord > 0 { releaseRecord() }
                server.dispatcher.dispatch(
                    UnsafeRawBufferPointer(rebasing: bytes[begin..<offset]), in: nil, self, &identities)
            } else if mark.length <= Self.inPlaceMax {
                guard mark.length <= Self.uncountedMax || charge(mark.length) else { return offset }
                connection.require(RecordMark.bytes + mark.length)
                return offset
            } else {
                guard charge(mark.length) else { return offset }
                let block = makeBlock(mark.length)
                recordBlock = block
                connection.fill(block, count: mark.length)
                return begin
            }
        }
        return offset
    }

    func filled(_ block: Block, on connection: Connection) {
        releaseRecord()
        server.dispatcher.dispatch(block.bytes, in: block, self, &identities)
    }

    /// Takes in bytes of a record of several fragments; false when more have to come.
    private func gather(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int) -> Bool {
        guard let block = gathered else { return true }
        if fragmentRest == 0 {
            guard bytes.count - offset >= RecordMark.bytes else {
                if offset < bytes.count { connection.require(RecordMark.bytes) }
                return false
            }
            let mark = RecordMark(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            fragments += 1
            guard mark.length <= limits.recordMax - block.count, fragments <= limits.fragmentsMax else {
                offset = refuse("record too long", bytes)
                return false
            }
            offset += RecordMark.bytes
            fragmentRest = mark.length
            fragmentIsLast = mark.isLast
        }
        let count = min(fragmentRest, bytes.count - offset)
        let target = block.capacity - block.count >= count ? block : grown(block, by: count)
        target.append(UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)]))
        gathered = target
        recordBlock = target
        offset += count
        fragmentRest -= count
        guard fragmentRest == 0 else { return false }
        if fragmentIsLast {
            releaseRecord()
            server.dispatcher.dispatch(target.bytes, in: target, self, &identities)
        }
        return true
    }

    /// Memory grows with what has come, not with what a mark claims.
    private func grown(_ block: Block, by count: Int) -> Block {
        let larger = makeBlock(min(limits.recordMax, max(block.capacity * 2, block.count + count)))
        larger.append(block.bytes)
        return larger
    }

    /// The connection's clock stops when a fragment is complete: a record of fragments needs one of its own.
    private func awaitFragments() {
        fragmentTimer = state.loop.schedule(after: limits.connection.messageTimeout) { [weak self] in
            guard let self else { return }
            fragmentTimer = nil
            // A client that is held back can not send it.
            if isReading { giveUp("record of fragments takes too long") } else { awaitFragments() }
        }
    }

    private func refuse(_ why: StaticString, _ bytes: UnsafeRawBufferPointer) -> Int {
        warn(why)
        connection.close()
        return bytes.count
    }

    private func warn(_ why: StaticString) {
        server.logger.warning(
            "rpc connection refused",
            [.init("peer", "\(remoteAddress)"), .init("why", why.description)])
    }

    // MARK: Back-pressure

    /// Whether no further call is looked at now. The connection shows its bytes again when that ends.
    private var isHeldBack: Bool {
        connection.isOutputFull || connection.isReadingPaused || !connection.isOpen || isEnding
    }

    private func charge(_ count: Int) -> Bool {
        // What the stream waited for has been given to it.
        if chargedForRecord > 0 { return true }
        guard state.charge(count, for: self) else {
            isWaitingForRoom = true
            connection.pauseReading()
            return false
        }
        chargedForRecord = count
        recordSince = state.loop.now
        return true
    }

    /// Nothing more is read until there is room.
    private func stop() {
        isWaitingForRoom = true
        state.stop(self)
        connection.pauseReading()
    }

    private func releaseRecord() {
        let count = chargedForRecord
        chargedForRecord = 0
        gathered = nil
        recordBlock = nil
        if let fragmentTimer { state.loop.cancel(fragmentTimer) }
        fragmentTimer = nil
        if count > 0 { state.releaseRecord(count, of: self) }
    }

    /// There is room again, of which `given` bytes are this stream's.
    func roomAgain(_ given: Int) {
        isWaitingForRoom = false
        chargedForRecord += given
        if given > 0 { recordSince = state.loop.now }
        resumeIfRoom()
    }

    var isReading: Bool { !connection.isReadingPaused && !connection.isOutputFull }

    /// Bytes of the record a second.
    func recordRate(_ now: UInt64) -> UInt64 {
        UInt64(recordBlock?.count ?? 0) &* 1_000_000_000 / max(now &- recordSince, 1)
    }

    /// Ends the connection because of the record that it does not send.
    func giveUp(_ why: StaticString) {
        warn(why)
        releaseRecord()
        connection.close()
    }

    override func hold(_ bytes: Int) -> ReplySink? {
        heldCalls += 1
        heldBytes += bytes
        state.charge(bytes)
        if state.isFull, !isWaitingForRoom { stop() }
        if heldCalls >= limits.heldCallsMax || heldBytes >= limits.heldBytesMax || isWaitingForRoom {
            connection.pauseReading()
        }
        return self
    }

    override func release(_ bytes: Int) {
        heldCalls -= 1
        heldBytes -= bytes
        state.release(bytes)
        if isEnding, heldCalls == 0 { return connection.close() }
        resumeIfRoom()
    }

    private func resumeIfRoom() {
        guard connection.isReadingPaused, !isWaitingForRoom, heldCalls <= limits.heldCallsMax / 2,
            heldBytes <= limits.heldBytesMax / 2
        else { return }
        recordSince = state.loop.now
        connection.resumeReading()
    }

    // MARK: Replies

    override func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { connection.reserve(count) }
    override func send(_ count: Int) {
        connection.commit(count)
        state.wrote(count, self)
    }
    override func send(_ count: Int, _ parts: [BlockPart]) {
        connection.commit(count)
        var all = count
        for part in parts {
            connection.write(part)
            all += part.count
        }
        state.wrote(all, self)
    }

    var outputPending: Int { connection.outputPending }

    /// Bytes that the client has taken since this was asked last.
    func noteTaken() -> UInt64 {
        defer { takenBefore = connection.counters.bytesOut }
        return connection.counters.bytesOut &- takenBefore
    }

    /// Ends the connection, and what it has not sent goes.
    func abandon(_ why: StaticString) {
        warn(why)
        connection.abort()
    }

    // MARK: Endings

    /// The peer may still want the answers to what it has asked.
    func ended(_ connection: Connection) { end() }
    func draining(_ connection: Connection) { end() }
    func idle(_ connection: Connection) -> Bool { heldCalls == 0 }

    private func end() {
        isEnding = true
        if heldCalls == 0 { connection.close() }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        server.disconnected(remoteAddress)
        releaseRecord()
        state.forgetWriter(self)
        if isWaitingForRoom { state.forget(self) }
    }
}

import Bytes
import Logging
import Runtime

/// The calls of one connection: records are taken from the input in place, or into a block when they are large or in
/// several fragments; replies go out as they are ready. Confined to the connection's loop.
final class RPCStream: ReplySink, ConnectionHandler, @unchecked Sendable {
    /// A record longer than this is received into a block of its own: a call that is held keeps it without a copy, and
    /// the connection's input stays small.
    static let inPlaceMax = 32 << 10

    private let connection: Connection
    private let server: RPCServer
    private let limits: RPCLimits
    @exclusivity(unchecked) private var identities = IdentityCache()

    private var heldCalls = 0
    private var heldBytes = 0
    /// Charged for the record that is coming.
    private var chargedForRecord = 0
    private var isWaitingForRoom = false
    /// Nothing more is read; the connection ends behind the last held call.
    private var isEnding = false

    /// A record of several fragments as far as it has come.
    private var gathered: Block?
    private var fragmentRest = 0
    private var fragmentIsLast = false
    private var fragments = 0

    init(_ server: RPCServer, _ state: RPCLoop, _ connection: Connection) {
        self.server = server
        self.connection = connection
        limits = server.limits
        super.init(
            state, remote: connection.remoteAddress, local: connection.localAddress, markBytes: RecordMark.bytes,
            messageMax: RPCServer.streamMessageMax, takesBlocks: true)
    }

    // MARK: Records

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        var offset = 0
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
                gathered = makeBlock(Self.inPlaceMax)
                fragments = 0
                continue
            }
            if bytes.count - begin >= mark.length {
                offset = begin + mark.length
                server.dispatcher.dispatch(
                    UnsafeRawBufferPointer(rebasing: bytes[begin..<offset]), in: nil, self, &identities)
            } else if mark.length <= Self.inPlaceMax {
                connection.require(RecordMark.bytes + mark.length)
                return offset
            } else {
                guard charge(mark.length) else { return offset }
                connection.fill(makeBlock(mark.length), count: mark.length)
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
        offset += count
        fragmentRest -= count
        guard fragmentRest == 0 else { return false }
        if fragmentIsLast {
            gathered = nil
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

    private func refuse(_ why: StaticString, _ bytes: UnsafeRawBufferPointer) -> Int {
        server.logger.warning(
            "rpc connection refused",
            [.init("peer", "\(remoteAddress)"), .init("why", why.description)])
        connection.close()
        return bytes.count
    }

    // MARK: Back-pressure

    /// Whether no further call is looked at now. The connection shows its bytes again when that ends.
    private var isHeldBack: Bool {
        connection.isOutputFull || connection.isReadingPaused || !connection.isOpen || isEnding
    }

    private func charge(_ count: Int) -> Bool {
        guard state.charge(count, for: self) else {
            isWaitingForRoom = true
            connection.pauseReading()
            return false
        }
        chargedForRecord = count
        return true
    }

    private func releaseRecord() {
        let count = chargedForRecord
        chargedForRecord = 0
        if count > 0 { state.release(count) }
    }

    func roomAgain() {
        isWaitingForRoom = false
        resumeIfRoom()
    }

    override func hold(_ bytes: Int) -> ReplySink? {
        heldCalls += 1
        heldBytes += bytes
        state.charge(bytes)
        if state.isFull, !isWaitingForRoom {
            isWaitingForRoom = true
            state.wait(self)
        }
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
        connection.resumeReading()
    }

    // MARK: Replies

    override func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { connection.reserve(count) }
    override func send(_ count: Int) { connection.commit(count) }
    override func send(_ count: Int, _ block: Block, offset: Int, count blockCount: Int) {
        connection.commit(count)
        connection.write(block, offset: offset, count: blockCount)
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
        gathered = nil
        releaseRecord()
    }
}

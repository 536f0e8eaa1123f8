import Bytes
import Runtime

/// Where the results of a call are written: into the output of the client's connection directly, behind the place of
/// the reply's header. Data too large for that travels behind them in a block.
public struct Results: ~Copyable {
    /// Room that there is without asking.
    public static let roomDefault = 4096

    public var writer: Writer
    let sink: ReplySink
    private let protection: (any CallProtection)?
    private var scratch: Block?
    private var memory: UnsafeMutableRawBufferPointer
    private(set) var parts: [BlockPart] = []
    private var partBytes = 0

    init(_ sink: ReplySink, _ protection: (any CallProtection)?, room: Int = roomDefault) {
        self.sink = sink
        self.protection = protection
        (memory, scratch) = Self.reserve(sink, protection, room)
        writer = Writer(Self.behindHeader(memory, sink, protection))
    }

    private static func reserve(
        _ sink: ReplySink, _ protection: (any CallProtection)?, _ room: Int
    ) -> (UnsafeMutableRawBufferPointer, Block?) {
        guard protection == nil else {
            // The results are wrapped into the output when they are complete.
            let scratch = Block(capacity: room)
            return (scratch.free, scratch)
        }
        return (sink.reserve(sink.markBytes + ReplyHeader.successBytes + room), nil)
    }

    private static func behindHeader(
        _ memory: UnsafeMutableRawBufferPointer, _ sink: ReplySink, _ protection: (any CallProtection)?
    ) -> UnsafeMutableRawBufferPointer {
        guard protection == nil else { return memory }
        return UnsafeMutableRawBufferPointer(rebasing: memory[(sink.markBytes + ReplyHeader.successBytes)...])
    }

    /// Results that fit without a block, at most.
    public var inPlaceMax: Int {
        sink.messageMax - sink.markBytes - ReplyHeader.successBytes - (protection == nil ? 0 : 4096)
    }
    /// Whether results of any length can be sent with a block; a datagram has an end.
    public var takesBlocks: Bool { sink.takesBlocks }

    /// Room for `count` bytes, at most `inPlaceMax`. What was written so far is dropped.
    public mutating func provide(_ count: Int) {
        precondition(count <= inPlaceMax, "larger results travel in blocks")
        guard count > writer.capacity else { return writer.rewind(to: 0) }
        (memory, scratch) = Self.reserve(sink, protection, count)
        writer = Writer(Self.behindHeader(memory, sink, protection))
    }

    /// An empty block that `attach` may take.
    public func makeBlock(_ capacity: Int) -> Block { sink.makeBlock(capacity) }

    /// Sends a part of `block` behind what is written. Its length is a multiple of four: XDR's filling is part of it.
    public mutating func attach(_ block: Block, offset: Int = 0, count: Int) {
        precondition(count <= block.count - offset, "a part of what the block has")
        attach([BlockPart(block, offset: offset, count: count)])
    }

    /// The same of several, one behind the other.
    public mutating func attach(_ parts: [BlockPart]) {
        partBytes = parts.reduce(0) { $0 + $1.count }
        precondition(partBytes & 3 == 0, "filled up")
        self.parts = parts
    }

    /// Forgets everything that was written and attached.
    public mutating func clear() {
        writer.rewind(to: 0)
        parts = []
        partBytes = 0
    }

    /// Sends the reply. False when the results did not fit: nothing was sent.
    mutating func send(_ xid: UInt32) -> Bool {
        guard !writer.overflowed else { return false }
        guard protection == nil else { return sendProtected(xid) }
        let count = ReplyHeader.successBytes + writer.position
        var header = Writer(memory)
        if sink.markBytes > 0 { header.u32(RecordMark(length: count + partBytes, isLast: true).word) }
        header.u32(xid)
        header.u32(MessageType.reply.rawValue)
        // Accepted, an empty verifier of no flavor, success.
        header.zeros(16)
        if partBytes > 0 {
            sink.send(sink.markBytes + count, parts)
        } else {
            sink.send(sink.markBytes + count)
        }
        return true
    }

    private mutating func sendProtected(_ xid: UInt32) -> Bool {
        guard let protection else { return false }
        var plain = writer.written
        let joined = Block(capacity: plain.count + partBytes)
        if partBytes > 0 {
            joined.append(plain)
            for part in parts {
                joined.append(part.bytes)
                extendLifetime(part)
            }
            plain = joined.bytes
        }
        defer { extendLifetime(joined) }
        let message = Block(capacity: ReplyHeader.bytesMax + 4 + plain.count + protection.wrappedOverheadMax)
        var output = Writer(message.free)
        let mark = sink.markBytes > 0 ? output.reserve(RecordMark.bytes) : 0
        output.u32(xid)
        output.u32(MessageType.reply.rawValue)
        output.u32(0)
        guard protection.withVerifier({ $0.write(into: &output) }) else { return false }
        output.u32(0)
        if protection.wrapsResults { protection.wrap(plain, into: &output) } else { output.bytes(plain) }
        guard !output.overflowed else { return false }
        if sink.markBytes > 0 {
            output.patch(
                u32: RecordMark(length: output.position - RecordMark.bytes, isLast: true).word, at: mark)
        }
        message.count = output.position
        if message.count <= sink.messageMax {
            sink.reserve(message.count).copyMemory(from: message.bytes)
            sink.send(message.count)
        } else if sink.takesBlocks {
            _ = sink.reserve(0)
            sink.send(0, [BlockPart(message, offset: 0, count: message.count)])
        } else {
            return false
        }
        return true
    }
}

/// Takes replies to one peer. Confined to its loop.
class ReplySink: @unchecked Sendable {
    let state: RPCLoop
    let remoteAddress: SocketAddress
    let localAddress: SocketAddress
    /// Of the record mark.
    let markBytes: Int
    /// The longest message that `reserve` takes.
    let messageMax: Int
    let takesBlocks: Bool

    init(
        _ state: RPCLoop, remote: SocketAddress, local: SocketAddress, markBytes: Int, messageMax: Int,
        takesBlocks: Bool
    ) {
        self.state = state
        remoteAddress = remote
        localAddress = local
        self.markBytes = markBytes
        self.messageMax = messageMax
        self.takesBlocks = takesBlocks
    }

    final func makeBlock(_ capacity: Int) -> Block { state.blocks.take(capacity) }

    /// Space for a message, to be filled before `send`; nothing else may be written between.
    func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { abstract() }
    func send(_ count: Int) { abstract() }
    func send(_ count: Int, _ parts: [BlockPart]) { abstract() }

    /// The sink for a call that is answered later; nil when no more may be held.
    func hold(_ bytes: Int) -> ReplySink? { abstract() }
    /// The call has been answered or dropped.
    func release(_ bytes: Int) { abstract() }

    private func abstract() -> Never { preconditionFailure("ReplySink is abstract") }

    /// Who signs his calls believes no answer without a signature, errors of calls that were accepted included (RFC 2203
    /// 5.3.3.2); where there can be none any more, his context is at fault (5.3.3.4.1).
    final func refuse(_ xid: UInt32, _ status: ReplyStatus, _ protection: (any CallProtection)? = nil) {
        state.counters.refused.count()
        let memory = reserve(markBytes + ReplyHeader.bytesMax)
        var writer = Writer(memory)
        let mark = markBytes > 0 ? writer.reserve(RecordMark.bytes) : 0
        if let protection, status.isAccepted {
            let isSigned = protection.withVerifier { verifier in
                ReplyHeader(xid: xid, status: status, verifier: verifier).write(into: &writer)
            }
            if !isSigned { ReplyHeader(xid: xid, status: .authError(.gssContextProblem)).write(into: &writer) }
        } else {
            ReplyHeader(xid: xid, status: status).write(into: &writer)
        }
        if markBytes > 0 {
            writer.patch(u32: RecordMark(length: writer.position - RecordMark.bytes, isLast: true).word, at: mark)
        }
        send(writer.position)
    }
}

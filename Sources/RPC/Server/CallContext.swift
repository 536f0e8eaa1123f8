import Bytes
import Runtime

/// One call, while a program serves it in place.
public struct CallContext: ~Copyable {
    public let xid: UInt32
    public let program: UInt32
    public let version: UInt32
    public let procedure: UInt32
    public let identity: Identity
    /// The plain arguments; valid while the call is being served.
    public let arguments: UnsafeRawBufferPointer
    let sink: ReplySink
    let protection: (any CallProtection)?
    /// What the arguments lie in, if that can be kept.
    let block: Block?

    public var loop: EventLoop { sink.state.loop }
    public var remoteAddress: SocketAddress { sink.remoteAddress }
    public var localAddress: SocketAddress { sink.localAddress }
    public var isDatagram: Bool { sink.markBytes == 0 }

    /// Keeps the call to answer it later; `serve` then ends with `.held`. `expecting`: about how many bytes of results
    /// will be in memory. Nil when too much is held: `serve` ends with `.dropped`; that happens with datagrams only.
    public func hold(expecting results: Int = 0) -> RPCCall? {
        let bytes = arguments.count + results
        guard let sink = sink.hold(bytes) else { return nil }
        self.sink.state.counters.held.count()
        return RPCCall(self, sink, charged: bytes)
    }

    /// Keeps the results as they are written so far, to send them when what they promise is true. The arguments are
    /// not kept.
    public func hold(keeping results: borrowing Results) -> RPCCall? {
        let bytes = results.writer.position
        guard let sink = sink.hold(bytes) else { return nil }
        self.sink.state.counters.held.count()
        return RPCCall(self, sink, charged: bytes, keeping: results)
    }
}

/// A call that is answered later, from any task of its loop. It owns its arguments. It must be answered or dropped, once;
/// when the client has gone meanwhile the answer goes nowhere.
public final class RPCCall: @unchecked Sendable {
    public let xid: UInt32
    public let program: UInt32
    public let version: UInt32
    public let procedure: UInt32
    public let identity: Identity
    /// Valid while the call lives.
    public let arguments: UnsafeRawBufferPointer
    private let sink: ReplySink
    private let protection: (any CallProtection)?
    private let block: Block?
    private let copy: UnsafeMutableRawBufferPointer?
    private let charged: Int
    private var isAnswered = false
    private var kept: UnsafeMutableRawBufferPointer?

    init(_ call: borrowing CallContext, _ sink: ReplySink, charged: Int, keeping results: borrowing Results) {
        xid = call.xid
        program = call.program
        version = call.version
        procedure = call.procedure
        identity = call.identity
        self.sink = sink
        self.charged = charged
        protection = call.protection
        block = nil
        copy = nil
        arguments = UnsafeRawBufferPointer(start: nil, count: 0)
        keep(results)
    }

    init(_ call: borrowing CallContext, _ sink: ReplySink, charged: Int) {
        xid = call.xid
        program = call.program
        version = call.version
        procedure = call.procedure
        identity = call.identity
        self.sink = sink
        self.charged = charged
        protection = call.protection
        block = call.block
        if block != nil {
            arguments = call.arguments
            copy = nil
        } else {
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: call.arguments.count, alignment: 8)
            copy.copyMemory(from: call.arguments)
            arguments = UnsafeRawBufferPointer(copy)
            self.copy = copy
        }
    }

    deinit {
        precondition(isAnswered, "a held call was forgotten")
        copy?.deallocate()
        kept?.deallocate()
    }

    public var loop: EventLoop { sink.state.loop }
    public var remoteAddress: SocketAddress { sink.remoteAddress }
    public var localAddress: SocketAddress { sink.localAddress }
    public var isDatagram: Bool { sink.markBytes == 0 }

    /// An empty block for `Results.attach`.
    public func makeBlock(_ capacity: Int) -> Block { sink.makeBlock(capacity) }

    /// Answers with what `write` writes, or as it says; with `.held` the call stays as it is.
    public func reply(_ write: (inout Results) -> Outcome) {
        precondition(!isAnswered, "a call is answered once")
        var results = Results(sink, protection)
        switch write(&results) {
        case .done:
            if !results.send(xid) { sink.refuse(xid, .systemError, protection) }
        case .refused(let status): sink.refuse(xid, status, protection)
        case .dropped: sink.state.counters.dropped.count()
        case .held: return
        }
        isAnswered = true
        sink.release(charged)
    }

    /// Keeps results that will be true later, for `replyKept`. They hold no block.
    public func keep(_ results: borrowing Results) {
        let bytes = results.writer.written
        precondition(results.parts.isEmpty && !results.writer.overflowed, "only complete results in place are kept")
        kept?.deallocate()
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
        copy.copyMemory(from: bytes)
        kept = copy
    }

    /// What was kept; nothing: nothing was.
    public var keptResults: UnsafeRawBufferPointer {
        kept.map { UnsafeRawBufferPointer($0) } ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    public func replyKept() {
        guard let kept else { preconditionFailure("nothing was kept") }
        reply { results in
            results.provide(kept.count)
            results.writer.bytes(UnsafeRawBufferPointer(kept))
            return .done
        }
    }

    public func refuse(_ status: ReplyStatus) { reply { _ in .refused(status) } }
    public func drop() { reply { _ in .dropped } }

    /// The answer of a security flavor to its own call: with a verifier, its results never wrapped.
    public func reply(verifier: Authenticator, _ write: (inout Writer) -> Void) {
        precondition(!isAnswered, "a call is answered once")
        isAnswered = true
        let memory = sink.reserve(sink.messageMax)
        var writer = Writer(memory)
        let mark = sink.markBytes > 0 ? writer.reserve(RecordMark.bytes) : 0
        ReplyHeader(xid: xid, status: .success, verifier: verifier).write(into: &writer)
        write(&writer)
        if writer.overflowed {
            sink.refuse(xid, .systemError)
        } else {
            if sink.markBytes > 0 {
                writer.patch(u32: RecordMark(length: writer.position - RecordMark.bytes, isLast: true).word, at: mark)
            }
            sink.send(writer.position)
        }
        sink.release(charged)
    }
}

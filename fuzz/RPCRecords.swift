// modules: Bytes Logging
// part: Runtime Sources/Runtime/Network/SocketAddress.swift
// with: Sources/RPC/Server/RPCStream.swift Sources/RPC/Message/RecordMark.swift
// inputs: 5000000
// lines: 95
// covers: Sources/RPC/Server/RPCStream.swift
import Bytes
import Runtime

// What a stream of records stands on, as much of it as it uses. Nothing here waits.

struct RPCLimits {
    var recordMax = 40_000
    var fragmentsMax = 6
    var heldCallsMax = 4
    var heldBytesMax = 1000
    var connection = (messageTimeout: UInt64(1), idle: 0)
}

struct LoopTimer: Hashable { var id: UInt64 }

final class StubLoop {
    var now: UInt64 = 1
    private var next: UInt64 = 0
    private var timers: [LoopTimer: () -> Void] = [:]
    func schedule(after nanoseconds: UInt64, _ work: @escaping () -> Void) -> LoopTimer {
        next += 1
        timers[LoopTimer(id: next)] = work
        return LoopTimer(id: next)
    }
    func cancel(_ timer: LoopTimer) { timers[timer] = nil }
    func fire() {
        let due = timers.values
        timers = [:]
        for work in due { work() }
    }
    var isQuiet: Bool { timers.isEmpty }
}

final class RPCLoop {
    let loop = StubLoop()
    var charged = 0
    var isOutputFull = false
    var isFull = false
    /// Records that have no room at first.
    var refusals = 0
    var need: Int?

    func charge(_ count: Int) { charged += count }
    func charge(_ count: Int, for stream: RPCStream) -> Bool {
        if refusals > 0 {
            refusals -= 1
            need = count
            return false
        }
        charged += count
        return true
    }
    func stop(_ stream: RPCStream) { need = 0 }
    func release(_ count: Int) {
        charged -= count
        precondition(charged >= 0, "more is given back than was taken")
    }
    func releaseRecord(_ count: Int, of stream: RPCStream) { release(count) }
    func forget(_ stream: RPCStream) { need = nil }
    func forgetWriter(_ stream: RPCStream) {}
    func wrote(_ count: Int, _ stream: RPCStream) {}
    func giveRoom(to stream: RPCStream) {
        guard let given = need else { return }
        need = nil
        charged += given
        isFull = false
        isOutputFull = false
        stream.roomAgain(given)
    }
}

struct StubField {
    init(_ name: StaticString, _ value: String) {}
}

struct StubLogger {
    func warning(_ text: StaticString, _ fields: [StubField]) {}
}

struct IdentityCache {}

final class StubDispatcher {
    var records: [Int] = []
    var held: [Int] = []
    func dispatch(
        _ bytes: UnsafeRawBufferPointer, in block: Block?, _ stream: RPCStream, _ identities: inout IdentityCache
    ) {
        records.append(hash(bytes, bytes.count))
        if records.count % 3 == 0 {
            precondition(stream.hold(100) != nil)
            held.append(100)
        }
        // An answer, in place and in a block.
        _ = stream.reserve(8)
        if let block {
            stream.send(4, [BlockPart(block, offset: 0, count: min(4, block.count))])
        } else {
            stream.send(8)
        }
    }
}

final class RPCServer {
    static let streamMessageMax = 64 << 10
    let limits = RPCLimits()
    let dispatcher = StubDispatcher()
    let logger = StubLogger()
    var connections = 0
    func connected(_ remote: SocketAddress) { connections += 1 }
    func disconnected(_ remote: SocketAddress) { connections -= 1 }
}

class ReplySink {
    let state: RPCLoop
    let remoteAddress: SocketAddress
    init(
        _ state: RPCLoop, remote: SocketAddress, local: SocketAddress, markBytes: Int, messageMax: Int,
        takesBlocks: Bool
    ) {
        self.state = state
        remoteAddress = remote
    }
    final func makeBlock(_ capacity: Int) -> Block { Block(capacity: capacity) }
    func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { preconditionFailure("abstract") }
    func send(_ count: Int) {}
    func send(_ count: Int, _ parts: [BlockPart]) {}
    func hold(_ bytes: Int) -> ReplySink? { nil }
    func release(_ bytes: Int) {}
}

enum CloseReason { case local }

protocol ConnectionHandler: AnyObject {
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int
    func filled(_ block: Block, on connection: Connection)
}

/// Shows bytes as connections do: again when they were not taken, together with what came since.
final class Connection {
    let remoteAddress = SocketAddress.loopback(port: 1)
    let localAddress = SocketAddress.loopback(port: 2)
    var counters = (bytesOut: UInt64(0), bytesIn: UInt64(0))
    var isOpen = true
    var isReadingPaused = false
    let isOutputFull = false
    let outputPending = 0
    private var input: [UInt8] = []
    private var needed = 0
    private var filling: (block: Block, count: Int)?
    private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    deinit { output.deallocate() }

    func require(_ count: Int) { needed = count }
    func fill(_ block: Block, count: Int) {
        precondition(block.capacity >= count && filling == nil, "a block too small")
        filling = (block, count)
    }
    func pauseReading() { isReadingPaused = true }
    func resumeReading() { isReadingPaused = false }
    func close() { isOpen = false }
    func abort() { isOpen = false }
    func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer { output }
    func commit(_ count: Int) { counters.bytesOut += UInt64(count) }
    func write(_ part: BlockPart) {}

    func take(_ bytes: ArraySlice<UInt8>, _ stream: RPCStream) {
        input += bytes
        pump(stream)
    }

    func pump(_ stream: RPCStream) {
        while isOpen, !isReadingPaused, !input.isEmpty {
            if let (block, count) = filling {
                let some = min(count - block.count, input.count)
                input.withUnsafeBytes { block.append(UnsafeRawBufferPointer(rebasing: $0.prefix(some))) }
                input.removeFirst(some)
                guard block.count == count else { return }
                filling = nil
                stream.filled(block, on: self)
                continue
            }
            guard input.count >= needed else { return }
            needed = 0
            let taken = input.withUnsafeBytes { stream.received($0, on: self) }
            precondition(taken >= 0 && taken <= input.count, "more is taken than there is")
            input.removeFirst(taken)
            if taken == 0, filling == nil { return }
        }
    }
}

private func hash(_ bytes: some Sequence<UInt8>, _ count: Int) -> Int {
    var hash = count
    for byte in bytes { hash = hash &* 31 &+ Int(byte) }
    return hash
}

/// The records of the bytes, taken one after the other, and whether they end in one that is refused.
private func expected(_ bytes: [UInt8], _ limits: RPCLimits) -> (records: [Int], isRefused: Bool) {
    var records: [Int] = []
    var place = 0
    while true {
        var body: [UInt8] = []
        var fragments = 0
        var isLast = false
        while !isLast {
            guard bytes.count - place >= 4 else { return (records, false) }
            let word = bytes[place..<(place + 4)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let count = Int(word & 0x7fff_ffff)
            isLast = word >> 31 == 1
            fragments += 1
            guard count <= limits.recordMax - body.count, fragments <= limits.fragmentsMax else {
                return (records, true)
            }
            place += 4
            guard bytes.count - place >= count else { return (records, false) }
            body += bytes[place..<(place + count)]
            place += count
        }
        records.append(hash(body, body.count))
    }
}

/// A script: records whole and in fragments, long and short, bytes as they are, and where the stream is cut.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var script = Array(UnsafeRawBufferPointer(start: data, count: count))[...]
    func next() -> Int { Int(script.popFirst() ?? 0) }
    let server = RPCServer()
    let state = RPCLoop()
    state.refusals = next() & 3
    let connection = Connection()
    let stream = RPCStream(server, state, connection)
    var bytes: [UInt8] = []
    var cuts: [Int] = []
    func fragment(_ length: Int, isLast: Bool) {
        let word = UInt32(length) | (isLast ? 0x8000_0000 : 0)
        for shift in [24, 16, 8, 0] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
        let seed = UInt8(truncatingIfNeeded: length &* 7 &+ bytes.count)
        bytes += (0..<length).map { UInt8(truncatingIfNeeded: $0) ^ seed }
    }
    while !script.isEmpty, bytes.count < 150_000 {
        let kind = next()
        switch kind & 7 {
        case 0: fragment(next(), isLast: true)
        case 1: fragment(next() << 8 | next(), isLast: true)
        case 2: for part in 0...(kind >> 5) { fragment(next() * (kind & 8 == 0 ? 1 : 40), isLast: part == kind >> 5) }
        case 3: fragment(next(), isLast: false)
        case 4: for _ in 0..<min(next(), script.count) { bytes.append(UInt8(next())) }
        default: cuts.append(bytes.count - min(bytes.count, next()))
        }
    }
    let wanted = expected(bytes, server.limits)
    var from = 0
    for cut in cuts.sorted() + [bytes.count] {
        connection.take(bytes[from..<max(from, cut)], stream)
        from = max(from, cut)
        // Room comes, and what was held is answered.
        for _ in 0..<8 where connection.isReadingPaused && connection.isOpen {
            for held in server.dispatcher.held { stream.release(held) }
            server.dispatcher.held = []
            state.giveRoom(to: stream)
            connection.pump(stream)
        }
        _ = stream.noteTaken() + stream.recordRate(state.loop.now) + UInt64(stream.outputPending)
    }
    while connection.isReadingPaused, connection.isOpen {
        for held in server.dispatcher.held { stream.release(held) }
        server.dispatcher.held = []
        state.giveRoom(to: stream)
        connection.pump(stream)
    }
    precondition(server.dispatcher.records == wanted.records, "other records")
    precondition(connection.isOpen != wanted.isRefused, "a record is refused that is none, or not")
    _ = stream.idle(connection)
    if count & 1 == 0 { state.loop.fire() } else if connection.isOpen { stream.ended(connection) }
    if count & 2 == 0 { stream.draining(connection) } else { stream.abandon("the end") }
    for held in server.dispatcher.held { stream.release(held) }
    stream.closed(connection, .local)
    precondition(state.charged == 0 && state.loop.isQuiet && server.connections == 0, "something stays behind")
    return 0
}

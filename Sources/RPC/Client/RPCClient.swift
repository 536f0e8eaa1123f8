import Bytes
import Runtime

/// Why a call of ours came to nothing.
public enum RPCClientError: Error, Equatable, Sendable {
    /// Nobody answered in time, or nobody is there.
    case unreachable
    /// The other host's rpcbind knows no such program.
    case notRegistered
    case refused(ReplyStatus)
    /// The answer is none.
    case malformed
    /// Too many calls wait for their answers.
    case busy
}

/// Whom a call goes to, and from which of our addresses: lock clients know a server by the address that they asked.
public struct RPCTarget: Hashable, Sendable {
    public var address: SocketAddress
    public var local: SocketAddress?
    public var program: UInt32
    public var version: UInt32

    public init(_ address: SocketAddress, from local: SocketAddress? = nil, program: UInt32, version: UInt32) {
        self.address = address.unmapped
        self.local = local?.unmapped
        self.program = program
        self.version = version
    }
}

/// Calls other hosts: lock managers and status monitors, which are called seldom. Belongs to one loop; its asynchronous
/// calls are made by tasks of that loop.
public final class RPCClient: @unchecked Sendable {
    public static let pendingMax = 4096
    /// Of one answer: those that we ask for are short.
    public static let replyMax = 64 << 10
    public static let rpcbindPort: UInt16 = 111

    public let loop: EventLoop
    let network: any Network
    /// Where hosts' rpcbind is asked.
    let rpcbindPort: UInt16
    private var xid: UInt32
    private var narrow: DatagramSocket?
    private var wide: DatagramSocket?
    private var pending: [UInt32: Pending] = [:]

    private struct Pending {
        var address: SocketAddress
        var done: (Result<[UInt8], RPCClientError>) -> Void
    }

    public init(
        network: any Network, loop: EventLoop, random: any RandomSource, rpcbindPort: UInt16 = RPCClient.rpcbindPort
    ) {
        self.network = network
        self.loop = loop
        self.rpcbindPort = rpcbindPort
        xid = UInt32(truncatingIfNeeded: random.next())
    }

    /// Calls over `transport`; over UDP the call is sent up to `tries` times, each time waiting for `wait` nanoseconds.
    /// Answers the results.
    public func call(
        _ target: RPCTarget, _ procedure: UInt32, over transport: Rpcbind.Transport, _ arguments: [UInt8],
        tries: Int = 3, wait: UInt64 = 1_000_000_000
    ) async throws(RPCClientError) -> [UInt8] {
        guard pending.count < Self.pendingMax else { throw .busy }
        xid &+= 1
        let number = xid
        let message = Self.message(number, target, procedure, arguments)
        switch transport {
        case .udp:
            for _ in 0..<max(tries, 1) {
                let result = await exchange(number, target, message, wait)
                if case .failure(.unreachable) = result { continue }
                return try result.get()
            }
            throw .unreachable
        case .tcp: return try await overStream(number, target, message, wait * UInt64(max(tries, 1))).get()
        }
    }

    /// Sends a call that has no answer, or whose answer nobody waits for.
    public func tell(_ target: RPCTarget, _ procedure: UInt32, _ arguments: [UInt8]) {
        xid &+= 1
        let message = Self.message(xid, target, procedure, arguments)
        guard let socket = socket(target.address) else { return }
        message.withUnsafeBytes { socket.send($0, to: DatagramPeer(remote: target.address, local: target.local)) }
    }

    private static func message(
        _ xid: UInt32, _ target: RPCTarget, _ procedure: UInt32, _ arguments: [UInt8]
    ) -> [UInt8] {
        let block = Block(capacity: CallHeader.bytesMax + arguments.count)
        var credential: [UInt8] = []
        let room = Block(capacity: CallHeader.authenticatorMax)
        var body = Writer(room.free)
        SystemCredential(uid: 0, gid: 0).write(into: &body)
        credential += body.written
        var writer = Writer(block.free)
        credential.withUnsafeBytes { body in
            CallHeader(
                xid: xid, program: target.program, version: target.version, procedure: procedure,
                credential: Authenticator(flavor: AuthFlavor.system, body: body)
            ).write(into: &writer)
        }
        arguments.withUnsafeBytes { writer.bytes($0) }
        return Array(writer.written)
    }

    // MARK: Datagrams

    private func exchange(
        _ xid: UInt32, _ target: RPCTarget, _ message: [UInt8], _ wait: UInt64
    ) async -> Result<[UInt8], RPCClientError> {
        guard let socket = socket(target.address), message.count <= DatagramSocket.bytesMax else {
            return .failure(.unreachable)
        }
        return await withUnsafeContinuation { (continuation: UnsafeContinuation<_, Never>) in
            let timer = loop.schedule(after: wait) { [self] in
                pending.removeValue(forKey: xid)?.done(.failure(.unreachable))
            }
            pending[xid] = Pending(address: target.address) { [loop] result in
                loop.cancel(timer)
                continuation.resume(returning: result)
            }
            message.withUnsafeBytes { socket.send($0, to: DatagramPeer(remote: target.address, local: target.local)) }
        }
    }

    /// Made when it is first needed, and kept.
    private func socket(_ address: SocketAddress) -> DatagramSocket? {
        switch address {
        case .ipv4:
            if narrow == nil { narrow = try? network.datagrams(on: .ipv4(0, port: 0), loop: loop, handler: self) }
            return narrow
        case .ipv6:
            if wide == nil { wide = try? network.datagrams(on: .ipv6(0, 0, port: 0), loop: loop, handler: self) }
            return wide
        case .unix: return nil
        }
    }

    /// The results of an answer to `xid`; nil: it is none.
    static func results(_ bytes: UnsafeRawBufferPointer) -> (xid: UInt32, results: Result<[UInt8], RPCClientError>)? {
        var reader = Reader(bytes)
        do throws(BytesError) {
            let header = try ReplyHeader(reading: &reader)
            guard header.status == .success else { return (header.xid, .failure(.refused(header.status))) }
            return (header.xid, .success(Array(bytes.dropFirst(reader.position))))
        } catch { return nil }
    }

    // MARK: Streams

    private func overStream(
        _ xid: UInt32, _ target: RPCTarget, _ message: [UInt8], _ wait: UInt64
    ) async -> Result<[UInt8], RPCClientError> {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<_, Never>) in
            let stream = OutgoingStream(xid, message) { continuation.resume(returning: $0) }
            var options = ConnectOptions()
            options.limits.connectTimeout = wait
            options.limits.idleTimeout = wait
            options.limits.inputMax = Self.replyMax
            _ = network.connect(to: target.address, options, on: loop, handler: stream)
        }
    }
}

extension RPCClient: DatagramHandler {
    /// Who answers for somebody else is not heard: the address has to be the one that was asked.
    public func received(_ bytes: UnsafeRawBufferPointer, from peer: DatagramPeer, on socket: DatagramSocket) {
        guard let (xid, results) = Self.results(bytes), let waiting = pending[xid],
            waiting.address == peer.remote.unmapped
        else { return }
        pending[xid] = nil
        waiting.done(results)
    }
}

/// One call over a connection of its own.
private final class OutgoingStream: ConnectionHandler {
    private let xid: UInt32
    private let message: [UInt8]
    private var done: ((Result<[UInt8], RPCClientError>) -> Void)?
    private var gathered: [UInt8] = []

    init(_ xid: UInt32, _ message: [UInt8], _ done: @escaping (Result<[UInt8], RPCClientError>) -> Void) {
        self.xid = xid
        self.message = message
        self.done = done
    }

    private func finish(_ result: Result<[UInt8], RPCClientError>, _ connection: Connection) {
        done?(result)
        done = nil
        connection.close()
    }

    func opened(_ connection: Connection) {
        let place = connection.reserve(RecordMark.bytes + message.count)
        var writer = Writer(place)
        writer.u32(RecordMark(length: message.count, isLast: true).word)
        message.withUnsafeBytes { writer.bytes($0) }
        connection.commit(writer.position)
    }

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        var offset = 0
        while bytes.count - offset >= RecordMark.bytes {
            let mark = RecordMark(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            guard mark.length <= RPCClient.replyMax - gathered.count, mark.length > 0 else {
                finish(.failure(.malformed), connection)
                return bytes.count
            }
            let end = offset + RecordMark.bytes + mark.length
            guard bytes.count >= end else {
                connection.require(end - offset)
                return offset
            }
            gathered += bytes[(offset + RecordMark.bytes)..<end]
            offset = end
            guard mark.isLast else { continue }
            let answer = gathered.withUnsafeBytes { RPCClient.results($0) }
            gathered = []
            guard let answer, answer.xid == xid else {
                finish(.failure(.malformed), connection)
                return bytes.count
            }
            finish(answer.results, connection)
            return bytes.count
        }
        return offset
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        done?(.failure(.unreachable))
        done = nil
    }
}

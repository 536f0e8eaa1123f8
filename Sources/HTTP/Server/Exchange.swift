import Bytes
import Runtime

/// One request and its answer. Kept by whoever answers it, for as long as that takes; on its loop only.
///
/// The answer is `respond`, or `begin`, any number of `write`, `end`. A writer of much looks at `isOutputFull` and
/// goes on when `ExchangeHandler.drained` is called: nothing piles up but what the peer has not taken yet. When the
/// connection is gone, whatever is still written is dropped.
public final class Exchange: @unchecked Sendable {
    public let head: RequestHead
    public let loop: EventLoop
    public let remoteAddress: SocketAddress
    public let localAddress: SocketAddress
    public let identity: PeerIdentity
    /// Came over TLS.
    public let isSecure: Bool

    var connection: HTTPConnection?
    var handler: (any ExchangeHandler)?
    var isRequestComplete = false
    private(set) var isBodyPaused = false
    private(set) var response = Response.none
    private var writing = Writing.nothing

    enum Response { case none, begun, ended }

    private enum Writing {
        case nothing
        /// Bytes that the head has promised and that are still to come.
        case counted(UInt64)
        case chunks
        /// To an HTTP/1.0 client: the end of the connection is the end of the answer.
        case untilClose
    }

    /// The length of an answer's body.
    public enum Length: Sendable {
        case bytes(UInt64)
        /// Not known beforehand: chunked.
        case unknown
    }

    init(_ head: RequestHead, _ connection: HTTPConnection, over stream: Connection) {
        self.head = head
        self.connection = connection
        loop = stream.loop
        remoteAddress = stream.remoteAddress
        localAddress = stream.localAddress
        identity = stream.identity
        isSecure = stream.isSecure
    }

    /// Whether an answer would still reach somebody.
    public var isAlive: Bool { connection != nil }
    public var hasBegun: Bool { response != .none }

    // MARK: The body

    /// No more of the body, until `resumeBody`; the peer is held back by the network.
    public func pauseBody() {
        isBodyPaused = true
        if !isRequestComplete { connection?.pause() }
    }

    public func resumeBody() {
        guard isBodyPaused else { return }
        isBodyPaused = false
        if !isRequestComplete { connection?.bodyIsWanted() }
    }

    // MARK: The answer

    /// The whole answer at once.
    public func respond(_ status: Status, _ fields: ResponseFields = ResponseFields(), _ body: [UInt8] = []) {
        begin(status, fields, length: .bytes(UInt64(body.count)))
        body.withUnsafeBytes { write($0) }
        end()
    }

    public func respond(_ status: Status, _ fields: ResponseFields = ResponseFields(), text: String) {
        respond(status, fields, Array(text.utf8))
    }

    /// Status and fields. With HEAD the length is told and what is written is dropped.
    public func begin(_ status: Status, _ fields: ResponseFields = ResponseFields(), length: Length) {
        precondition(response == .none, "an answer begins once")
        response = .begun
        guard let connection else { return }
        connection.answers()
        var bytes = Array("HTTP/1.1 \(status.code) \(status.reason)\r\n".utf8)
        bytes.append(contentsOf: "date: \(connection.date)\r\n".utf8)
        bytes.append(contentsOf: fields.bytes)
        if status.hasNoBody {
            writing = .nothing
        } else {
            frame(length, &bytes, connection)
        }
        let stays = connection.keepsAlive(behind: self)
        if !stays {
            bytes.append(contentsOf: "connection: close\r\n".utf8)
        } else if head.minorVersion == 0 {
            bytes.append(contentsOf: "connection: keep-alive\r\n".utf8)
        }
        bytes.append(contentsOf: "\r\n".utf8)
        bytes.withUnsafeBytes { connection.stream.write($0) }
    }

    private func frame(_ length: Length, _ bytes: inout [UInt8], _ connection: HTTPConnection) {
        switch length {
        case .bytes(let count):
            bytes.append(contentsOf: "content-length: \(count)\r\n".utf8)
            writing = head.method == .head ? .nothing : .counted(count)
        case .unknown where head.minorVersion == 0:
            connection.mustClose = true
            writing = head.method == .head ? .nothing : .untilClose
        case .unknown:
            bytes.append(contentsOf: "transfer-encoding: chunked\r\n".utf8)
            writing = head.method == .head ? .nothing : .chunks
        }
    }

    /// More than `bytes` that the peer has not taken are enough, for this answer.
    public func limitOutput(_ bytes: Int) {
        precondition(bytes > 0, "no output at all")
        connection?.stream.outputHigh = bytes
    }

    /// Whether the writer should wait for `drained`.
    public var isOutputFull: Bool { connection?.stream.isOutputFull ?? false }

    /// Copies `bytes` into the answer.
    public func write(_ bytes: UnsafeRawBufferPointer) {
        guard let stream = prepare(bytes.count) else { return }
        stream.write(bytes)
        finishChunk(stream)
    }

    /// A part of `block` without a copy; it must not change until it was sent.
    public func write(_ block: Block, offset: Int = 0, count: Int) {
        guard let stream = prepare(count) else { return }
        stream.write(block, offset: offset, count: count)
        finishChunk(stream)
    }

    /// Accounts for `count` bytes; nil when they go nowhere.
    private func prepare(_ count: Int) -> Connection? {
        precondition(response == .begun, "bytes of an answer stand between its begin and its end")
        // A chunk without bytes would be the last one.
        guard count > 0, let connection else { return nil }
        switch writing {
        case .nothing: return nil
        case .counted(let rest):
            precondition(UInt64(count) <= rest, "more than the head has promised")
            writing = .counted(rest - UInt64(count))
        case .chunks:
            var size = Array(String(count, radix: 16).utf8)
            size.append(contentsOf: "\r\n".utf8)
            size.withUnsafeBytes { connection.stream.write($0) }
        case .untilClose: break
        }
        return connection.stream
    }

    private func finishChunk(_ stream: Connection) {
        guard case .chunks = writing else { return }
        Self.lineEnd.withUnsafeBytes { stream.write($0) }
    }

    private static let lineEnd = Array("\r\n".utf8)
    private static let lastChunk = Array("0\r\n\r\n".utf8)

    /// The answer is complete. When fewer bytes came than its head has promised, the connection breaks instead: the
    /// client must not take what it got for all.
    public func end() {
        precondition(response == .begun, "an answer ends once, behind its beginning")
        response = .ended
        guard let connection else { return }
        switch writing {
        case .counted(let rest) where rest > 0: return connection.stream.abort()
        case .chunks: Self.lastChunk.withUnsafeBytes { connection.stream.write($0) }
        default: break
        }
        connection.answered(self)
    }

    /// The answer can not be completed: an error as long as nothing was sent, else the connection breaks.
    public func fail(_ status: Status = .internalError) {
        switch response {
        case .none: respond(status, ResponseFields(contentType: "text/plain"), text: "\(status.reason)\n")
        case .begun:
            response = .ended
            connection?.stream.abort()
        case .ended: break
        }
    }
}

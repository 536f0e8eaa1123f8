import Runtime

/// The requests of one connection, one after the other: the next head is read when the answer before it is complete.
///
/// Invariant: while nothing of the input is wanted (the body is paused, or the request is complete and its answer is
/// not) the stream does not read, so that a pipelining peer is held back by the network and not by our memory.
///
/// Confined to the stream's loop.
final class HTTPConnection: ConnectionHandler, @unchecked Sendable {
    let stream: Connection
    private let server: HTTPServer
    private var parser: RequestParser
    private var exchange: Exchange?
    /// Behind the present answer, nothing more.
    var mustClose = false
    private var owesContinue = false
    /// Of the body that nobody waits for.
    private var discarded = 0
    /// Since when we wait for the peer: for a request, or for the rest of a body.
    private var waitingSince: UInt64
    /// What has come of a body since then, while we wait for it.
    private var paced = 0
    private var pacedSince: UInt64
    private var cachedDate = (second: Int64.min, text: "")
    /// Runs while there are answers: what had been taken of them, what the peer had, and what waited, when it was last looked at.
    private var outputTimer: LoopTimer?
    private var lastOutput = (taken: Int64(0), read: Int64(0), pending: 0)

    init(_ server: HTTPServer, _ stream: Connection) {
        self.server = server
        self.stream = stream
        parser = RequestParser(server.limits)
        waitingSince = stream.loop.now
        pacedSince = waitingSince
    }

    var date: String {
        let second = server.clock.wall() / 1_000_000_000
        if cachedDate.second != second { cachedDate = (second, HTTPDate.format(second)) }
        return cachedDate.text
    }

    // MARK: Input

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        waitingSince = stream.loop.now
        guard keepsPace(bytes.count) else {
            timeOut()
            return bytes.count
        }
        var offset = 0
        do throws(RequestFault) {
            while wantsInput {
                switch try parser.next(UnsafeRawBufferPointer(rebasing: bytes[offset...])) {
                case .more(let consumed): return offset + consumed
                case .head(let head, let consumed):
                    offset += consumed
                    begin(head)
                case .body(let range):
                    let rest = bytes[offset...]
                    deliver(UnsafeRawBufferPointer(rebasing: rest.dropFirst(range.lowerBound).prefix(range.count)))
                    offset += range.upperBound
                case .end(let consumed):
                    offset += consumed
                    completeRequest()
                }
            }
        } catch {
            refuse(error)
            return bytes.count
        }
        return offset
    }

    private func keepsPace(_ count: Int) -> Bool {
        paced += count
        guard paced < server.limits.bodyBytesMin, isBodyWanted else {
            (paced, pacedSince) = (0, waitingSince)
            return true
        }
        return waitingSince &- pacedSince < server.limits.bodyTimeout
    }

    /// Whether it is the client's turn to send more of a body.
    private var isBodyWanted: Bool {
        guard let exchange else { return false }
        return !exchange.isRequestComplete && (!exchange.isBodyPaused || exchange.response == .ended)
    }

    /// Between requests, or in a body that is not held back.
    private var wantsInput: Bool {
        guard stream.isOpen else { return false }
        guard let exchange else { return true }
        return !exchange.isRequestComplete && (!exchange.isBodyPaused || exchange.response == .ended)
    }

    private func begin(_ head: RequestHead) {
        let exchange = Exchange(head, self, over: stream)
        self.exchange = exchange
        discarded = 0
        owesContinue = head.expectsContinue
        if !head.keepsAlive { mustClose = true }
        exchange.handler = server.handler.begin(exchange)
        if !exchange.isBodyPaused { bodyIsWanted() }
    }

    /// The time for `100 Continue`, when the client waits for it; without one who takes the body in there is none.
    func bodyIsWanted() {
        if owesContinue, let exchange, exchange.handler != nil, exchange.response == .none {
            owesContinue = false
            Self.goOn.withUnsafeBytes { stream.write($0) }
        }
        resume()
    }

    private static let goOn = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)

    func pause() { stream.pauseReading() }

    private func resume() {
        waitingSince = stream.loop.now
        (paced, pacedSince) = (0, waitingSince)
        guard wantsInput, stream.isReadingPaused else { return }
        guard parser.isRequestComplete else { return stream.resumeReading() }
        // The piece that paused was the last one: no byte will come behind it to tell the end.
        stream.loop.execute { [self] in
            guard wantsInput, exchange != nil, parser.isRequestComplete else { return }
            parser.takeEnd()
            completeRequest()
        }
    }

    private func deliver(_ bytes: UnsafeRawBufferPointer) {
        guard let exchange else { return }
        // A client that did not wait gets no `100 Continue` any more.
        owesContinue = false
        if exchange.response == .ended || exchange.handler == nil {
            discarded += bytes.count
            if discarded > server.limits.discardMax { overrun(exchange) }
            return
        }
        exchange.handler?.received(bytes, of: exchange)
    }

    /// More of an unwanted body than is worth reading.
    private func overrun(_ exchange: Exchange) {
        if exchange.response == .ended { return stream.close() }
        // An answer will come: the connection ends behind it, and reads nothing more until then.
        mustClose = true
        exchange.pauseBody()
    }

    private func completeRequest() {
        guard let exchange else { return }
        exchange.isRequestComplete = true
        if exchange.response == .ended { return conclude() }
        exchange.handler?.completed(exchange)
        if self.exchange === exchange { pause() }
    }

    /// What came is no request. The answer before it, if there is one under way, has the word; then the end.
    private func refuse(_ fault: RequestFault) {
        let broken = exchange
        mustClose = true
        if let broken {
            abandon(broken)
            if broken.response == .begun { return stream.abort() }
            if broken.response == .ended { return stream.close() }
        }
        lastWord(fault.status, "\(fault.status.reason): \(fault)\n")
    }

    /// Past any exchange, whose handler may still try to answer it: then that goes nowhere.
    private func lastWord(_ status: Status, _ body: String) {
        let head =
            "HTTP/1.1 \(status.code) \(status.reason)\r\ndate: \(date)\r\ncontent-type: text/plain\r\n"
            + "content-length: \(body.utf8.count)\r\nconnection: close\r\n\r\n"
        Array((head + body).utf8).withUnsafeBytes { stream.write($0) }
        stream.close()
    }

    // MARK: Output

    /// Asked when the answer's head is made: whether another request may follow it.
    func keepsAlive(behind exchange: Exchange) -> Bool {
        guard !mustClose else { return false }
        if exchange.isRequestComplete { return true }
        // The client may send the body or not, now that it has its answer: who knows where the next request begins?
        if owesContinue { mustClose = true }
        if let rest = parser.bodyRemaining, rest > UInt64(server.limits.discardMax) { mustClose = true }
        return !mustClose
    }

    /// An answer begins: from here on the peer has to take what there is of it.
    func answers() {
        guard outputTimer == nil else { return }
        lastOutput = (Int64(stream.counters.bytesOut), 0, 0)
        watchOutput()
    }

    private func watchOutput() {
        outputTimer = stream.loop.schedule(after: server.limits.writeTimeout) { [self] in
            outputTimer = nil
            let (taken, pending) = (Int64(stream.counters.bytesOut), stream.outputPending)
            let wanted = Int64(min(lastOutput.pending, server.limits.outputBytesMin))
            // A full socket takes nothing for a while though its peer reads.
            let read = taken - Int64(stream.outputUnread)
            guard max(taken - lastOutput.taken, read - lastOutput.read) >= wanted else { return stream.abort() }
            lastOutput = (taken, read, pending)
            if pending > 0 || exchange?.response == .begun { watchOutput() }
        }
    }

    func answered(_ exchange: Exchange) {
        guard exchange === self.exchange else { return }
        if mustClose {
            release(exchange)
            return stream.close()
        }
        guard exchange.isRequestComplete else {
            discarded = 0
            return resume()
        }
        conclude()
    }

    /// Request and answer are complete.
    private func conclude() {
        guard let exchange else { return }
        release(exchange)
        guard !mustClose else { return stream.close() }
        waitingSince = stream.loop.now
        stream.resumeReading()
    }

    /// Breaks the cycle of exchange, connection and handler.
    private func release(_ exchange: Exchange) {
        exchange.connection = nil
        exchange.handler = nil
        // What one answer has asked for is not for the next.
        stream.outputHigh = stream.limits.outputHigh
        if self.exchange === exchange { self.exchange = nil }
    }

    private func abandon(_ exchange: Exchange) {
        let handler = exchange.handler
        release(exchange)
        handler?.abandoned(exchange)
    }

    // MARK: Endings

    func drained(_ connection: Connection) {
        guard let exchange, exchange.response == .begun else { return }
        exchange.handler?.drained(exchange)
    }

    func ended(_ connection: Connection) {
        mustClose = true
        guard let exchange, exchange.isRequestComplete || exchange.response == .ended else {
            if let exchange { abandon(exchange) }
            return stream.close()
        }
        // The answer that is under way may still be read.
        if exchange.response == .ended { stream.close() }
    }

    func idle(_ connection: Connection) -> Bool {
        let waited = stream.loop.now &- waitingSince
        guard let exchange else { return waited >= server.limits.idleTimeout }
        // Else it is our turn: to take more of the body, or to answer.
        guard isBodyWanted, waited >= server.limits.bodyTimeout else { return false }
        if exchange.response == .none { timeOut() }
        return true
    }

    private func timeOut() {
        guard let exchange, exchange.response == .none else { return stream.close() }
        abandon(exchange)
        lastWord(.requestTimeout, "the rest of the body did not come\n")
    }

    func draining(_ connection: Connection) {
        mustClose = true
        if exchange == nil, parser.isBetweenRequests { stream.close() }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        if let outputTimer { stream.loop.cancel(outputTimer) }
        outputTimer = nil
        if let exchange { abandon(exchange) }
    }
}

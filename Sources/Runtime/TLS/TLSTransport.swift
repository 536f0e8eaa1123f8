import CShim

/// TLS over any other transport, a simulated one included: OpenSSL reads from below by a callback and writes into a
/// pooled buffer, which leaves in one call. (Given the descriptor itself it would write each record by a call of its
/// own, and would work on sockets only.)
final class TLSTransport: Transport {
    private let lower: Transport
    private let io: LoopIO
    private var session: OpaquePointer?
    private var isOpen = false
    private var mustFinish = false
    private var wantsRead = false
    private var wantsWrite = false
    /// The last read below filled what it was given.
    private var lowerHasMore = false
    /// The last record was complete and others may follow it in OpenSSL's buffer.
    private var hasRecords = false
    private var lowerFailure: CloseReason?
    private var known = PeerIdentity()

    private var out: UnsafeMutableRawPointer?
    private var outStart = 0
    private var outEnd = 0

    /// The longest plain text of a record, and what a record and the alerts after it may add to it.
    private static let recordMax = 16_384
    private static let recordOverhead = 1024

    convenience init(server: TLSServer, over lower: Transport, loop: EventLoop) {
        self.init(context: server.context, name: nil, over: lower, loop: loop)
    }

    convenience init(client: TLSClient, over lower: Transport, loop: EventLoop) {
        self.init(context: client.context, name: client.serverName, over: lower, loop: loop)
    }

    private init(context: TLSContext, name: String?, over lower: Transport, loop: EventLoop) {
        self.lower = lower
        io = loop.io
        super.init()
        var callbacks = shim_tls_callbacks(
            read: { owner, buffer, count in
                guard let owner else { return Int(-EIO) }
                return Unmanaged<TLSTransport>.fromOpaque(owner).takeUnretainedValue().pull(buffer, count)
            },
            write: { owner, buffer, count in
                guard let owner else { return Int(-EIO) }
                return Unmanaged<TLSTransport>.fromOpaque(owner).takeUnretainedValue().put(buffer, count)
            })
        session = shim_tls_session_create(
            context.pointer, name, &callbacks, Unmanaged.passUnretained(self).toOpaque())
    }

    deinit {
        if let session { shim_tls_session_destroy(session) }
        if let out { out.deallocate() }
    }

    override func start() -> Bool {
        lower.owner = self
        if lower.start() { shakeHands() }
        return false
    }

    // MARK: OpenSSL's side

    private func pull(_ buffer: UnsafeMutableRawPointer?, _ count: Int) -> Int {
        switch lower.read(into: UnsafeMutableRawBufferPointer(start: buffer, count: count)) {
        case .bytes(let count, let more):
            lowerHasMore = more
            return count
        case .wouldBlock:
            lowerHasMore = false
            return Int(-EAGAIN)
        case .end: return 0
        case .failed(let reason):
            lowerFailure = reason
            return Int(-EIO)
        }
    }

    private func put(_ buffer: UnsafeRawPointer?, _ count: Int) -> Int {
        if room < count { drainOut() }
        guard let buffer, room > 0 else { return Int(-EAGAIN) }
        let base = out ?? io.pool.take(BufferPool.large)
        out = base
        let taken = min(count, room)
        (base + outEnd).copyMemory(from: buffer, byteCount: taken)
        outEnd += taken
        return taken
    }

    private var room: Int { BufferPool.large - outEnd }
    private var hasOut: Bool { outEnd > outStart }

    /// Moves what OpenSSL wrote to the transport below, as far as that takes it.
    private func drainOut() {
        while hasOut, let out, lowerFailure == nil {
            switch lower.write(UnsafeRawBufferPointer(start: out + outStart, count: outEnd - outStart)) {
            case .bytes(let count, let all):
                outStart += count
                if !all { return }
            case .wouldBlock, .end: return
            case .failed(let reason): lowerFailure = reason
            }
        }
        if let out { io.pool.give(out, BufferPool.large) }
        out = nil
        outStart = 0
        outEnd = 0
    }

    private func updateInterest() {
        guard session != nil else { return }
        lower.setInterest(read: isOpen ? wantsRead : true, write: wantsWrite || hasOut)
    }

    // MARK: The handshake

    private func shakeHands() {
        guard let session else { return fail(.tls(.configuration("no memory for a session"))) }
        let result = shim_tls_handshake(session)
        // Also after a failure: the alert tells the peer what is wrong.
        drainOut()
        if let lowerFailure { return fail(lowerFailure) }
        switch result {
        case 0:
            isOpen = true
            learn(session)
            hasRecords = shim_tls_has_pending(session) != 0
            updateInterest()
            owner?.transportOpened()
        case Int32(SHIM_TLS_WANT_READ), Int32(SHIM_TLS_WANT_WRITE): updateInterest()
        default: fail(failure(result, session))
        }
    }

    private func learn(_ session: OpaquePointer) {
        known = lower.identity
        known.tlsVersion = text { shim_tls_version(session, $0, $1) }
        known.applicationProtocol = text { shim_tls_alpn(session, $0, $1) }
        known.serverName = text { shim_tls_server_name(session, $0, $1) }
        known.certificateSubject = text { shim_tls_subject(session, $0, $1) }
    }

    private func text(_ read: (UnsafeMutablePointer<CChar>?, Int) -> Int) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
            guard read(buffer.baseAddress, buffer.count) > 0, let start = buffer.baseAddress else { return nil }
            return String(cString: start)
        }
    }

    private func failure(_ result: Int32, _ session: OpaquePointer) -> CloseReason {
        if let lowerFailure { return lowerFailure }
        if result == Int32(SHIM_TLS_TRUNCATED) { return .tls(.truncated) }
        let verified = shim_tls_verify_result(session)
        if !isOpen, verified != 0 { return .tls(.untrusted(code: verified)) }
        let code = UInt(shim_tls_error(session))
        return .tls(isOpen ? .record(code: code) : .handshake(code: code))
    }

    private func fail(_ reason: CloseReason) { owner?.transportFailed(reason) }

    // MARK: The owner's side

    override func read(into buffer: UnsafeMutableRawBufferPointer) -> TransportResult {
        guard let session, isOpen else { return .wouldBlock }
        let count = shim_tls_read(session, buffer.baseAddress, buffer.count)
        // A record may have asked for an answer, as a change of keys does.
        if hasOut {
            drainOut()
            updateInterest()
        }
        if count > 0 {
            hasRecords = shim_tls_has_pending(session) != 0
            return .bytes(count, more: hasRecords || lowerHasMore)
        }
        hasRecords = false
        switch Int32(truncatingIfNeeded: count) {
        case Int32(SHIM_TLS_WANT_READ), Int32(SHIM_TLS_WANT_WRITE): return .wouldBlock
        case Int32(SHIM_TLS_CLOSED): return .end
        case let result: return .failed(failure(result, session))
        }
    }

    override var hasBufferedInput: Bool { hasRecords }

    override func write(_ bytes: UnsafeRawBufferPointer) -> TransportResult {
        guard let base = bytes.baseAddress else { return .bytes(0, more: true) }
        var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: base), iov_len: bytes.count)
        return withUnsafePointer(to: &vector) { write(UnsafeBufferPointer(start: $0, count: 1)) }
    }

    /// A record is begun only when there is room for all of it, so OpenSSL never has to be called again with the
    /// same bytes.
    override func write(_ vectors: UnsafeBufferPointer<iovec>) -> TransportResult {
        guard let session, isOpen else { return .wouldBlock }
        var taken = 0
        var isFull = false
        encrypting: for vector in vectors {
            var offset = 0
            while offset < vector.iov_len {
                if room < Self.recordMax + Self.recordOverhead {
                    drainOut()
                    guard !hasOut else {
                        isFull = true
                        break encrypting
                    }
                }
                let count = min(vector.iov_len - offset, Self.recordMax)
                let written = shim_tls_write(session, vector.iov_base + offset, count)
                guard written > 0 else { return .failed(failure(Int32(truncatingIfNeeded: written), session)) }
                offset += written
                taken += written
            }
        }
        drainOut()
        if let lowerFailure { return .failed(lowerFailure) }
        return taken > 0 ? .bytes(taken, more: !isFull && !hasOut) : .wouldBlock
    }

    override func setInterest(read: Bool, write: Bool) {
        wantsRead = read
        wantsWrite = write
        updateInterest()
    }

    override var unreadOutput: Int { lower.unreadOutput }

    override func finishWriting() {
        guard let session, isOpen else { return }
        shim_tls_finish(session)
        drainOut()
        mustFinish = hasOut
        if mustFinish { updateInterest() } else { lower.finishWriting() }
    }

    override func close() {
        owner = nil
        lower.close()
        if let out { io.pool.give(out, BufferPool.large) }
        out = nil
        outStart = 0
        outEnd = 0
        if let session { shim_tls_session_destroy(session) }
        session = nil
    }

    override var identity: PeerIdentity { known }
}

extension TLSTransport: TransportOwner {
    func transportOpened() { shakeHands() }

    func transportReadable() {
        if isOpen { owner?.transportReadable() } else { shakeHands() }
    }

    func transportWritable() {
        drainOut()
        if let lowerFailure { return fail(lowerFailure) }
        guard !hasOut else { return }
        if !isOpen { return shakeHands() }
        if mustFinish { lower.finishWriting() }
        mustFinish = false
        updateInterest()
        if wantsWrite { owner?.transportWritable() }
    }

    func transportFailed(_ reason: CloseReason) { fail(reason) }
}

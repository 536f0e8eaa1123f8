import Bytes
import CShim

/// A stream of bytes to and from one peer: buffers, back-pressure, limits and time-outs above any `Transport`.
///
/// Confined to its loop. It is named `Sendable` so that tasks and completions of that loop can carry it; nothing
/// but `loop` may be touched elsewhere.
///
/// - Input: `ConnectionHandler.received` sees a pooled buffer, which grows only while a message is incomplete and
///   goes back to the pool when all is consumed. An idle connection owns no buffer.
/// - Output: small pieces are encoded in place into a pooled buffer, large ones are queued as blocks, in order. All
///   that is written in one readable event, or later in one round of the loop, leaves in one flush.
/// - Writing to a connection that is closing or closed does nothing: replies may come late.
public final class Connection: @unchecked Sendable {
    public let loop: EventLoop
    public let localAddress: SocketAddress
    public let remoteAddress: SocketAddress
    /// Free for the handler's use, as a number in logs; unique in the process.
    public let id: UInt64
    public internal(set) var counters = ConnectionCounters()

    let settings: ConnectionSettings
    let io: LoopIO
    var transport: Transport?
    var handler: (any ConnectionHandler)?
    var group: ConnectionGroup?
    var groupIndex = 0

    var flags: Flags = []
    var reason: CloseReason = .local

    var input = InputBuffer()
    /// Bytes that must be there before the handler is called again.
    var required = 1
    var fillBlock: Block?
    var fillEnd = 0

    var output = OutputQueue()

    /// When a byte last went either way; when the peer last took one; since when a message is incomplete.
    var activeAt: UInt64
    var progressAt: UInt64
    var partialSince: UInt64
    var timer: LoopTimer?
    var timerAt: UInt64 = .max

    struct Flags: OptionSet {
        let rawValue: UInt32
        /// By the handler.
        static let paused = Flags(rawValue: 1)
        /// By too much pending output.
        static let throttled = Flags(rawValue: 2)
        static let opening = Flags(rawValue: 4)
        /// The peer has finished.
        static let ended = Flags(rawValue: 8)
        /// We shall finish, or have finished, our direction.
        static let finishing = Flags(rawValue: 16)
        static let finished = Flags(rawValue: 32)
        /// `close` was called: no more input, what is pending leaves, then the end.
        static let closing = Flags(rawValue: 64)
        static let closed = Flags(rawValue: 128)
        /// In the loop's list of connections to settle at the end of the round.
        static let listed = Flags(rawValue: 256)
        /// To do then: look at the input again.
        static let again = Flags(rawValue: 512)
        /// The transport took less than it was given and will tell when it takes more.
        static let blocked = Flags(rawValue: 1024)
        /// It has been asked to tell.
        static let stalled = Flags(rawValue: 32768)
        static let partial = Flags(rawValue: 2048)
        /// In a call of the handler or of the transport: whoever made it flushes.
        static let busy = Flags(rawValue: 4096)
        /// Began here, by `Network.connect`.
        static let outgoing = Flags(rawValue: 8192)
        static let tls = Flags(rawValue: 16384)
    }

    /// For implementations of `Network`. `begin` must follow once the handler is known.
    package init(
        loop: EventLoop, transport: Transport, settings: ConnectionSettings, local: SocketAddress,
        remote: SocketAddress, outgoing: Bool
    ) {
        self.loop = loop
        self.transport = transport
        self.settings = settings
        localAddress = local
        remoteAddress = remote
        id = settings.nextID()
        io = loop.io
        let now = loop.now
        activeAt = now
        progressAt = now
        partialSince = now
        if outgoing { flags.insert(.outgoing) }
        if settings.isTLS { flags.insert(.tls) }
    }

    deinit { precondition(flags.contains(.closed) || handler == nil, "a connection was dropped while open") }

    package func begin(_ handler: any ConnectionHandler) {
        guard let transport else { return }
        self.handler = handler
        transport.owner = self
        flags.insert(.opening)
        io.counters.opened.add(1)
        if transport.start() { transportOpened() } else { armTimer() }
    }

    public var limits: ConnectionLimits { settings.limits }
    /// Whether output will still be taken.
    public var isOpen: Bool { flags.isDisjoint(with: [.closed, .closing, .finishing]) }
    /// What is known of the peer by TLS or by the Unix socket, once opened.
    public var identity: PeerIdentity { transport?.identity ?? PeerIdentity() }

    // MARK: Ending

    /// No more output follows what was written: the peer reads an end, and may go on sending.
    public func finish() {
        guard flags.isDisjoint(with: [.closed, .closing, .finishing]) else { return }
        flags.insert(.finishing)
        attend()
    }

    /// Nothing more is read; what was written leaves, within `writeTimeout`, then the connection ends.
    public func close() { close(because: .local) }

    /// Ends the connection at once.
    public func abort() { abort(because: .local) }

    func close(because reason: CloseReason) {
        guard flags.isDisjoint(with: [.closed, .closing]) else { return }
        self.reason = reason
        if flags.contains(.opening) { return abort(because: reason) }
        flags.insert(.closing)
        dropInput()
        progressAt = loop.now
        attend()
    }

    func abort(because reason: CloseReason) {
        guard !flags.contains(.closed) else { return }
        assert(loop.isCurrent, "a connection is confined to its loop")
        self.reason = reason
        flags.insert(.closed)
        if let timer {
            loop.cancel(timer)
            self.timer = nil
        }
        transport?.close()
        transport = nil
        dropInput()
        output.clear(io.pool)
        // The handler hears of it at the end of the round: never inside one of its own calls.
        attend()
    }

    private func dropInput() {
        input.clear(io.pool)
        fillBlock = nil
    }

    // MARK: The end of a round

    /// Asks the loop to call `settle` at the end of this round.
    func attend() {
        guard !flags.contains(.listed) else { return }
        flags.insert(.listed)
        io.list(self)
    }

    /// Does what calls of the handler's side have asked for since the last time.
    func settle() {
        flags.remove(.listed)
        if flags.contains(.closed) { return depart() }
        if flags.contains(.again) {
            flags.remove(.again)
            readAndDeliver(isReadable: false)
        }
        flush()
    }

    private func depart() {
        guard let handler else { return }
        self.handler = nil
        io.counters.closed.add(1)
        handler.closed(self, reason)
        group?.remove(self)
        group = nil
    }
}

extension Connection: TransportOwner {
    public func transportOpened() {
        guard flags.contains(.opening), let handler else { return }
        flags.remove(.opening)
        activeAt = loop.now
        armTimer()
        transport?.setInterest(read: true, write: false)
        handler.opened(self)
        if group?.isDraining == true, !flags.contains(.closed) { handler.draining(self) }
        if transport?.hasBufferedInput == true { lookAgain() }
        flush()
    }

    public func transportReadable() {
        readAndDeliver(isReadable: true)
        flush()
    }

    public func transportWritable() {
        flags.remove(.blocked)
        flush()
    }

    public func transportFailed(_ reason: CloseReason) { abort(because: reason) }
}

public struct ConnectionCounters: Sendable, Equatable {
    public var bytesIn: UInt64 = 0
    public var bytesOut: UInt64 = 0
    public var reads: UInt64 = 0
    public var writes: UInt64 = 0
}

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
///
/// No call of a handler or a transport is made while a property is being changed: `@exclusivity(unchecked)` leaves
/// out the run-time checks of that, which were a third of the user time of a message.
public final class Connection: @unchecked Sendable {
    public let loop: EventLoop
    public let localAddress: SocketAddress
    public let remoteAddress: SocketAddress
    /// Free for the handler's use, as a number in logs; unique in the process.
    public let id: UInt64
    @exclusivity(unchecked) public internal(set) var counters = ConnectionCounters()

    let settings: ConnectionSettings
    /// More than this pending: who can choose should produce no more. The handler may change it.
    @exclusivity(unchecked) public var outputHigh: Int
    @usableFromInline let pool: BufferPool
    let io: LoopIO
    @exclusivity(unchecked) var transport: Transport?
    @exclusivity(unchecked) var handler: (any ConnectionHandler)?
    var group: ConnectionGroup?
    var groupIndex = 0

    @usableFromInline @exclusivity(unchecked) var flags: Flags = []
    @exclusivity(unchecked) var reason: CloseReason = .local

    @exclusivity(unchecked) var input = InputBuffer()
    /// Bytes that must be there before the handler is called again.
    @exclusivity(unchecked) var required = 1
    @exclusivity(unchecked) var fillBlock: Block?
    @exclusivity(unchecked) var fillEnd = 0

    @usableFromInline @exclusivity(unchecked) var output = OutputQueue()

    /// When a byte last went either way; when the peer last took one; since when a message is incomplete.
    @exclusivity(unchecked) var activeAt: UInt64
    @exclusivity(unchecked) var progressAt: UInt64
    /// What the peer did not have yet when it was last asked for.
    @exclusivity(unchecked) var unreadThen = 0
    @exclusivity(unchecked) var partialSince: UInt64
    /// Since when all output of a closed connection has left.
    @exclusivity(unchecked) var concludedAt: UInt64 = .max
    var timer: LoopTimer?
    @exclusivity(unchecked) var timerAt: UInt64 = .max

    @usableFromInline @frozen
    struct Flags: OptionSet {
        @usableFromInline let rawValue: UInt32
        @inlinable init(rawValue: UInt32) { self.rawValue = rawValue }
        /// By the handler.
        static let paused = Flags(rawValue: 1)
        /// By too much pending output.
        static let throttled = Flags(rawValue: 2)
        static let opening = Flags(rawValue: 4)
        /// The peer has finished.
        static let ended = Flags(rawValue: 8)
        /// We shall finish, or have finished, our direction.
        @inlinable static var finishing: Flags { Flags(rawValue: 16) }
        static let finished = Flags(rawValue: 32)
        /// `close` was called: no more input, what is pending leaves, then the end.
        @inlinable static var closing: Flags { Flags(rawValue: 64) }
        @inlinable static var closed: Flags { Flags(rawValue: 128) }
        /// In the loop's list of connections to settle at the end of the round.
        static let listed = Flags(rawValue: 256)
        /// To do then: look at the input again.
        static let again = Flags(rawValue: 512)
        /// The transport took less than it was given and will tell when it takes more.
        static let blocked = Flags(rawValue: 1024)
        /// It has been asked to tell.
        static let stalled = Flags(rawValue: 32768)
        static let partial = Flags(rawValue: 2048)
        /// Bytes are being shown to the handler: a flush follows.
        @inlinable static var busy: Flags { Flags(rawValue: 4096) }
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
        outputHigh = settings.limits.outputHigh
        io = loop.io
        pool = loop.io.pool
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
    /// Whether it is encrypted, by TLS.
    public var isSecure: Bool { flags.contains(.tls) }
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
        if !flags.contains(.busy) { dropInput() }
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
        if !flags.contains(.busy) { dropInput() }
        output.clear(io.pool)
        // The handler hears of it at the end of the round: never inside one of its own calls.
        attend()
    }

    /// Not in a call of `received`, whose view must last: then it is done after the call.
    func dropInput() {
        input.clear(io.pool)
        fillBlock = nil
    }

    // MARK: The end of a round

    /// Asks the loop to call `settle` at the end of this round.
    @usableFromInline
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
            armTimer()
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

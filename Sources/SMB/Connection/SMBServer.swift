import Bytes
import Kerberos
import Logging
import Namespace
import Runtime
import Synchronization

/// A share as clients see it.
public struct SMBShare: Sendable {
    public var name: String
    public var comment: String
    /// Nil: the share for pipes.
    public var volume: Volume?
    /// Of the volume's root, or of a directory below it that is the share's: names from there, separated by slashes.
    public var directory: [UInt8] = []
    /// Nil: the volume's word.
    public var durability: Namespace.Durability?
    public var isReadOnly = false
    public var requiresEncryption = false
    /// Who neither signs nor encrypts is refused.
    public var requiresSigning = false
    /// Whether somebody who has no name may use it, as `nobody`.
    public var allowsGuests = false
    /// Whether listings leave out what the user may not read.
    public var hidesUnreadable = false

    public init(name: String, comment: String = "", volume: Volume?) {
        self.name = name
        self.comment = comment
        self.volume = volume
    }
}

/// Who and what there is to be served. Called from any loop, answers at once.
public protocol SMBCatalog: Sendable {
    func user(named name: String) -> SMBUser?
    /// Whose name in a Kerberos realm this is.
    func user(principal: String) -> SMBUser?
    /// Whether somebody has that name, whatever he may do.
    func isKnown(_ name: String) -> Bool
    /// Whether a name that nobody has is let in at all, as a guest's.
    var takesGuests: Bool { get }
    /// Without regard to case.
    func share(named name: String) -> SMBShare?
    /// In the order in which they are listed.
    var shares: [SMBShare] { get }
    var identities: UserTable { get }
    /// Rises when any of it may have changed. Asked for each message.
    var generation: UInt64 { get }
    /// What the user may do on a volume, whatever its files say.
    func rights(of user: SMBUser, on volume: Volume) -> VolumeRights
}

extension SMBCatalog {
    public func user(principal: String) -> SMBUser? { nil }
    public func isKnown(_ name: String) -> Bool { user(named: name) != nil }
    public var takesGuests: Bool { shares.contains { $0.allowsGuests } }
}

/// What every session has to do; who can not is refused.
public struct SMBProtection: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let signing = SMBProtection(rawValue: 1)
    public static let encryption = SMBProtection(rawValue: 2)
}

public struct SMBOptions: Sendable {
    public var serverName = "PROXYFS"
    public var guid: UInt128 = 0
    public var connectionsMax = 10_000
    /// Keys of this server's services; nil: nobody logs on by ticket.
    public var kerberos: KerberosCredential?

    public init() {}
}

/// What one server lets its clients use.
package enum SMBLimits {
    package static let sessionsPerConnection = 1024
    /// That have begun and not ended.
    static let logOnsPerConnection = 8
    /// Of a message, until somebody has logged on.
    static let earlyMessageMax = 128 << 10
    package static let pipesPerSession = 64
    package static let pipesPerConnection = 256
    package static let treesPerSession = 4096
    /// Of all connections together.
    static let sessionsMax = 65_536
    /// Of a session that nobody in particular has: whoever comes may have one.
    static let treesOfNobody = 16
    /// On one connection: several users of a terminal server may come as guests.
    static let sessionsOfNobody = 4
    static let pipesOfNobody = 4
    /// Of a pipe, what was answered and not read: beyond that it takes nothing more.
    static let pipeBytesMax = 256 << 10
    /// Of all pipes.
    static let pipesBytesMax = 64 << 20
    package static let pipesBytesOfNobodyMax = 8 << 20
    /// Of all connections, those on which nobody has logged on by his name: beyond that the oldest of them goes.
    static func earlyMax(_ connections: Int, loops: Int) -> Int { max(connections / 2 / max(loops, 1), 16) }
    package static let opensPerSession = 65_536
    /// Exchanges of one connection that are not answered yet: then nothing more is read.
    static let heldMax = MessageWindow.creditsMax
    /// Their messages and their answers.
    static let heldBytesMax = 64 << 20
    static let heldBytesOfLoopMax = 512 << 20
    /// Of a connection, whatever others hold.
    static let heldBytesMin = 2 << 20
    /// Long messages of one user that are on their way on one loop; what he sends beyond that waits.
    static let fillsOfUserMax = 16
    /// The same of somebody who has no name, by where he comes from, and of all such.
    static let fillsOfHostMax = 8
    static let fillsOfNobodyMax = 32
    /// A connection that has no session by then ends.
    static let setupNanoseconds: UInt64 = 45_000_000_000
    /// After that, who uses nothing goes.
    static let idleNanoseconds: UInt64 = 120_000_000_000
    /// Of one compound's answer: its length has three bytes on the wire.
    static let replyMax = 1 << 24 - 1
    /// Of that, for the errors of elements that found no room any more.
    static let replyReserve = SMB2.elementsMax * 128
}

public final class SMBServer: Sendable {
    let options: SMBOptions
    let catalog: any SMBCatalog
    let world: World
    let logger: Logger
    private let loops: [SMBLoop]
    let sessions = SessionRegistry()
    let clients = ClientConnections()
    let throttle = Guarded(LogOnThrottle())
    let tickets = TicketDesk()
    let pipeRoom = PipeRoom()
    let hash: KeyedHash
    let started: Int64
    private let handleMask: UInt64
    /// Handles may outlive the server: those of one run are not those of the next.
    private let firstHandle: UInt64

    public init(_ catalog: any SMBCatalog, _ options: SMBOptions, world: World, logger: Logger) {
        self.catalog = catalog
        self.options = options
        self.world = world
        self.logger = logger
        loops = world.loops.map { SMBLoop($0) }
        hash = KeyedHash(world.random.next(), world.random.next())
        handleMask = world.random.next() >> 1
        firstHandle = world.random.next()
        started = world.clock.wall()
    }

    var terms: Negotiation.Terms {
        Negotiation.Terms(guid: options.guid, requiresSigning: protection.contains(.signing), allowsEncryption: true)
    }

    private let protectionBits = Atomic<UInt8>(0)
    private let protections = Atomic<UInt64>(0)
    var protection: SMBProtection { SMBProtection(rawValue: protectionBits.load(ordering: .acquiring)) }

    /// Rises when anything may have changed that was looked at when a session began.
    var generation: UInt64 { catalog.generation &+ protections.load(ordering: .acquiring) }

    /// From now on; sessions that are there have to do so from their next message on.
    public func require(_ protection: SMBProtection) {
        protectionBits.store(protection.rawValue, ordering: .releasing)
        protections.wrappingAdd(1, ordering: .releasing)
    }

    public func listen(on address: SocketAddress) throws(Errno) -> Listener {
        var listening = ListenerOptions()
        listening.limits.inputMax = 256 << 10
        listening.limits.outputHigh = 16 << 20
        listening.limits.outputMax = 128 << 20
        listening.limits.messageTimeout = 60_000_000_000
        listening.limits.idleTimeout = SMBLimits.idleNanoseconds
        listening.connectionsMax = options.connectionsMax
        return try world.network.listen(on: address, listening, loops: world.loops) { [self] connection in
            SMBStream(self, state(of: connection.loop), connection)
        }
    }

    private func state(of loop: EventLoop) -> SMBLoop {
        guard let state = loops.first(where: { $0.loop === loop }) else {
            preconditionFailure("a connection runs on one of the server's loops")
        }
        return state
    }

    let durables = DurableHandles()
    let applications = ApplicationInstances()
    let appends = AppendTurns()
    private let lastHandle = Atomic<UInt64>(0)

    func newHandle() -> FileHandle {
        let number = firstHandle &+ lastHandle.wrappingAdd(1, ordering: .relaxed).newValue
        return FileHandle(persistent: number, volatile: number ^ handleMask)
    }

    func random(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { world.random.fill($0) }
        return bytes
    }
}

/// Who sends a long message: others of the same have to wait for it, when there are many.
enum FillOwner: Hashable {
    case user(String)
    case host(UInt64)

    var hasName: Bool { if case .user = self { true } else { false } }
}

/// What the connections of one server share on one loop. Confined to the loop.
final class SMBLoop: @unchecked Sendable {
    let loop: EventLoop
    var heldBytes = 0
    /// Connections that would take more than there is room for.
    var paused: [ObjectIdentifier: SMBStream] = [:]
    /// Connections on which nobody has logged on by his name, the oldest first; those that are gone are among them.
    private var early: [EarlyStream] = []
    private var earlyCount = 0

    private struct EarlyStream {
        weak var stream: SMBStream?
    }

    /// A connection has come. Many such must not keep those out who have a name.
    func came(_ stream: SMBStream, limit: Int) {
        early.append(EarlyStream(stream: stream))
        earlyCount += 1
        guard earlyCount > limit else { return }
        while let first = early.first {
            early.removeFirst()
            guard let stream = first.stream, stream.isEarly else { continue }
            return stream.giveWay()
        }
    }

    /// It is gone, or somebody has logged on.
    func went() {
        earlyCount -= 1
        guard early.count > 2 * earlyCount + 64 else { return }
        early.removeAll { $0.stream?.isEarly != true }
    }

    /// There is room again.
    func resume() {
        guard !paused.isEmpty, heldBytes <= SMBLimits.heldBytesOfLoopMax / 2 else { return }
        let waiting = paused.values
        paused = [:]
        for stream in waiting { stream.resume() }
    }

    // MARK: Long messages on their way

    private var fills: [FillOwner: Int] = [:]
    private var fillsOfNobody = 0
    private var waitingToFill: [ObjectIdentifier: (stream: SMBStream, owner: FillOwner)] = [:]

    /// False: he has as many on their way as he may have.
    func beginFilling(_ owner: FillOwner) -> Bool {
        let count = fills[owner, default: 0]
        switch owner {
        case .user: guard count < SMBLimits.fillsOfUserMax else { return false }
        case .host:
            guard count < SMBLimits.fillsOfHostMax, fillsOfNobody < SMBLimits.fillsOfNobodyMax else { return false }
            fillsOfNobody += 1
        }
        fills[owner] = count + 1
        return true
    }

    func awaitFilling(_ stream: SMBStream, _ owner: FillOwner) {
        waitingToFill[ObjectIdentifier(stream)] = (stream, owner)
    }

    func endFilling(_ owner: FillOwner) {
        let count = fills[owner, default: 0]
        fills[owner] = count > 1 ? count - 1 : nil
        if !owner.hasName { fillsOfNobody -= 1 }
        guard !waitingToFill.isEmpty else { return }
        for (id, waiting) in waitingToFill where waiting.owner == owner || !waiting.owner.hasName && !owner.hasName {
            waitingToFill[id] = nil
            waiting.stream.resumeFilling()
        }
    }

    /// The connection is gone.
    func forget(_ stream: SMBStream) {
        paused[ObjectIdentifier(stream)] = nil
        waitingToFill[ObjectIdentifier(stream)] = nil
    }

    /// Exchanges to be used again.
    private var spare: [Exchange] = []
    private static let spareMax = 64
    private var blocks: [Block] = []
    private static let blocksMax = 16
    static let largeBlock = (1 << 20) + (16 << 10)

    init(_ loop: EventLoop) { self.loop = loop }

    func exchange() -> Exchange { spare.popLast() ?? Exchange(self) }

    func giveBack(_ exchange: Exchange) {
        if spare.count < Self.spareMax { spare.append(exchange) }
    }

    /// An empty block of at least `capacity`; large ones are used again once nobody else refers to them.
    func block(_ capacity: Int) -> Block {
        guard capacity > Exchange.smallReply, capacity <= Self.largeBlock else { return Block(capacity: capacity) }
        for index in blocks.indices where isKnownUniquelyReferenced(&blocks[index]) {
            blocks[index].count = 0
            return blocks[index]
        }
        let block = Block(capacity: Self.largeBlock)
        if blocks.count < Self.blocksMax { blocks.append(block) }
        return block
    }
}

/// Sessions of all connections by their numbers, for those that come back by another connection.
final class SessionRegistry: Sendable {
    private struct Entry {
        weak var session: Session?
        let loop: EventLoop
        let terms: SessionTerms?
    }

    private let table = Guarded([UInt64: Entry]())

    func add(_ session: Session, on loop: EventLoop) {
        table.withLock { $0[session.id] = Entry(session: session, loop: loop, terms: session.terms) }
    }

    /// Those of a loop, each to be touched there only.
    func all(on loop: EventLoop) -> [Kept] {
        table.withLock { $0.values.filter { $0.loop === loop }.map { Kept(session: $0.session) } }
    }

    func terms(_ id: UInt64) -> SessionTerms? { table.withLock { $0[id]?.terms } }

    func contains(_ id: UInt64) -> Bool { table.withLock { $0[id] != nil } }

    var count: Int { table.withLock { $0.count } }

    func remove(_ id: UInt64) { table.withLock { _ = $0.removeValue(forKey: id) } }

    /// Ends a session, wherever it is, if it is this user's; then `done` is called on `loop`.
    func end(_ id: UInt64, of user: String, on loop: EventLoop, _ done: @escaping @Sendable () -> Void) {
        guard let entry = table.withLock({ $0[id] }) else { return done() }
        let box = Kept(session: entry.session)
        let end: @Sendable () -> Void = {
            if let session = box.session, session.user?.name ?? "" == user {
                session.stream?.end(session, keepsDurable: true)
            }
        }
        if entry.loop === loop {
            end()
            return done()
        }
        entry.loop.execute {
            end()
            loop.execute(done)
        }
    }

    /// Touched on its own loop only.
    final class Kept: @unchecked Sendable {
        private(set) weak var session: Session?
        fileprivate init(session: Session?) { self.session = session }
    }
}

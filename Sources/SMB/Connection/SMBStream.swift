import Bytes
import Logging
import Namespace
import Runtime

/// The messages of one connection ([MS-SMB2] 2.1: each behind a zero and its length in three bytes). Small ones are
/// served where they lie in the input, large ones in a block of their own. Confined to the connection's loop.
final class SMBStream: ConnectionHandler, @unchecked Sendable {
    /// A message longer than this is received into a block: one that is held keeps it without a copy.
    static let inPlaceMax = 16 << 10
    static let frameBytes = 4

    let connection: Connection
    let server: SMBServer
    let state: SMBLoop
    @exclusivity(unchecked) var negotiation = Negotiation()
    @exclusivity(unchecked) var window = MessageWindow()
    @exclusivity(unchecked) var sessions: [UInt64: Session] = [:]
    /// Exchanges that are not answered, by the number of the element that they are at.
    @exclusivity(unchecked) private var held: [UInt64: Exchange] = [:]
    @exclusivity(unchecked) private var asynchronous: [UInt64: Exchange] = [:]
    /// Opens by the numbers that their clients gave them, and requests for such that still wait: a request that comes again
    /// is known by them ([MS-SMB2] 3.3.5.9.10).
    @exclusivity(unchecked) var created: [UInt128: Open] = [:]
    @exclusivity(unchecked) var creating: [UInt128: UInt64] = [:]
    private let number: UInt64
    private var lastAsync: UInt64 = 0
    private var heldBytes = 0
    private var isEnding = false
    private var isPaused = false
    /// Somebody has, at some time.
    var isLoggedOn = false
    /// Nobody who has a name has logged on yet.
    private(set) var isEarly = true
    /// Somebody uses a volume, or might: messages may be long.
    private var isTrusted = false
    /// Whose place a long message takes that is on its way.
    private var filling: FillOwner?
    /// A message is on its way into a block.
    private var isFilling = false
    /// It is paused until there is a place for its next message.
    private var awaitsFill = false

    init(_ server: SMBServer, _ state: SMBLoop, _ connection: Connection) {
        self.server = server
        number = server.world.random.next()
        self.state = state
        self.connection = connection
    }

    var loop: EventLoop { state.loop }

    /// Whose opens and locks go together. Clients of the oldest dialect have no GUID: each connection is one of them.
    var clientNumber: UInt64 {
        let guid = negotiation.clientGUID
        return guid == 0 ? number : UInt64(truncatingIfNeeded: guid ^ guid >> 64)
    }

    // MARK: Framing

    func opened(_ connection: Connection) {
        state.came(
            self, limit: SMBLimits.earlyMax(server.options.connectionsMax, loops: server.world.loops.count))
        _ = loop.schedule(after: SMBLimits.setupNanoseconds) { [weak self] in
            guard let self, !self.isLoggedOn else { return }
            self.connection.close()
        }
    }

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        var offset = 0
        while !connection.isOutputFull, !isPaused, connection.isOpen, !isEnding {
            guard bytes.count - offset >= Self.frameBytes else {
                if offset < bytes.count { connection.require(Self.frameBytes) }
                return offset
            }
            let word = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            let length = Int(word & 0xFF_FFFF)
            guard word >> 24 == 0 else {
                // NetBIOS's keep-alive has no content; its other messages belong to another port.
                guard word >> 24 == 0x85, length == 0 else { return refuse("no direct message", bytes) }
                offset += Self.frameBytes
                continue
            }
            let longest = isTrusted ? SMB2.messageMax : SMBLimits.earlyMessageMax
            guard length >= 24, length <= longest else { return refuse("length of a message", bytes) }
            let begin = offset + Self.frameBytes
            if bytes.count - begin >= length {
                offset = begin + length
                take(UnsafeRawBufferPointer(rebasing: bytes[begin..<offset]), in: nil)
            } else if length <= Self.inPlaceMax {
                connection.require(Self.frameBytes + length)
                return offset
            } else {
                if length > SMBLimits.earlyMessageMax {
                    let owner = fillOwner
                    guard state.beginFilling(owner) else {
                        state.awaitFilling(self, owner)
                        awaitsFill = true
                        isPaused = true
                        connection.pauseReading()
                        return offset
                    }
                    filling = owner
                }
                isFilling = true
                connection.fill(state.block(length), count: length)
                return begin
            }
        }
        return offset
    }

    func filled(_ block: Block, on connection: Connection) {
        endFilling()
        take(block.bytes, in: block)
        if !isPaused, isFull { pause() }
    }

    private func endFilling() {
        isFilling = false
        guard let owner = filling else { return }
        filling = nil
        state.endFilling(owner)
    }

    /// Who has to be content with fewer places when this one is slow.
    private var fillOwner: FillOwner {
        if let user = sessions.values.first(where: { $0.user != nil })?.user { return .user(user.name) }
        return switch connection.remoteAddress {
        case .ipv4(let host, _): .host(UInt64(host))
        // The lower half is as its network likes.
        case .ipv6(let high, _, _, _): .host(high)
        case .unix: .host(0)
        }
    }

    /// There is a place for a long message again.
    func resumeFilling() {
        awaitsFill = false
        isPaused = false
        if isFull { pause() } else { connection.resumeReading() }
    }

    /// Somebody has logged on by his name.
    func becomeKnown() {
        isTrusted = true
        guard isEarly else { return }
        isEarly = false
        state.went()
    }

    /// Nobody in particular uses a volume that is open to such.
    func becomeTrusted() { isTrusted = true }

    private func refuse(_ why: StaticString, _ bytes: UnsafeRawBufferPointer) -> Int {
        end(because: why)
        return bytes.count
    }

    /// The peer does not speak our language, or lies: nothing it says counts any more. What it has open is in nobody's way while
    /// the connection waits for its end, however long the peer goes on sending.
    func end(because why: StaticString) {
        server.logger.info(
            "smb connection ended", [.init("peer", "\(connection.remoteAddress)"), .init("why", why.description)])
        isEnding = true
        connection.close()
        // Whoever says this may be in the middle of an element of one of the sessions.
        loop.execute { [self] in endSessions() }
    }

    /// Others need the place at once: whoever has it now may never end by himself.
    func giveWay() {
        server.logger.info(
            "smb connection ended",
            [.init("peer", "\(connection.remoteAddress)"), .init("why", "too many on which nobody has logged on")])
        isEnding = true
        connection.abort()
    }

    /// What was answered still leaves; nothing more is read.
    func endAfterReply() {
        isEnding = true
        connection.close()
        loop.execute { [self] in endSessions() }
    }

    // MARK: Messages

    private func take(_ message: UnsafeRawBufferPointer, in block: Block?) {
        defer { extendLifetime(block) }
        switch UInt32(littleEndian: message.loadUnaligned(as: UInt32.self)) {
        case SMB2.protocolID: serve(message, in: block, encryptedBy: nil)
        case SMB2.transformID: open(message, in: block)
        case SMB2.oldID: serveOld(message)
        default: end(because: "protocol unknown")
        }
    }

    private func open(_ packet: UnsafeRawBufferPointer, in block: Block?) {
        let header: TransformHeader
        do throws(BytesError) {
            var reader = Reader(packet)
            header = try TransformHeader(reading: &reader)
        } catch { return end(because: "transform header") }
        guard Int(header.messageBytes) == packet.count - TransformHeader.bytes, header.messageBytes >= 64 else {
            return end(because: "length of an encrypted message")
        }
        guard let session = sessions[header.sessionID], let keys = session.keys else {
            return end(because: "encrypted for no session")
        }
        // The bytes are ours: nobody sees them again after this.
        guard keys.open(UnsafeMutableRawBufferPointer(mutating: packet)) else {
            return end(because: "encrypted message was changed")
        }
        session.hasEncrypted = true
        let message = UnsafeRawBufferPointer(rebasing: packet[TransformHeader.bytes...])
        guard UInt32(littleEndian: message.loadUnaligned(as: UInt32.self)) == SMB2.protocolID else {
            return end(because: "protocol unknown inside encryption")
        }
        serve(message, in: block, encryptedBy: session)
    }

    private func serve(_ message: UnsafeRawBufferPointer, in block: Block?, encryptedBy session: Session?) {
        guard message.count >= Header.bytes else { return end(because: "message too short") }
        let command = UInt16(littleEndian: message.loadUnaligned(fromByteOffset: 12, as: UInt16.self))
        if command == Command.cancel.rawValue { return cancel(message, encryptedBy: session) }
        let exchange = state.exchange()
        exchange.begin(self, message, block, session)
    }

    private func serveOld(_ message: UnsafeRawBufferPointer) {
        do throws(Negotiation.Refusal) {
            try negotiation.negotiateOld(message, server.terms)
        } catch { return end(because: "old negotiation") }
        guard window.take(0, charge: 1) else { return end(because: "old negotiation comes first") }
        let exchange = state.exchange()
        exchange.answerOldNegotiation(self)
    }

    /// [MS-SMB2] 3.3.5.16: there is no answer.
    private func cancel(_ message: UnsafeRawBufferPointer, encryptedBy sender: Session?) {
        var reader = Reader(message)
        let header: Header
        do throws(BytesError) { header = try Header(reading: &reader) } catch { return end(because: "header") }
        let exchange =
            header.flags.contains(.async) ? asynchronous[header.asyncID] : held[header.messageID]
        guard let exchange, let session = exchange.session, session.id == header.sessionID else { return }
        if let sender {
            guard sender === session else { return }
        } else if header.flags.contains(.signed), let keys = session.keys {
            guard keys.isSigned(message) else { return }
        } else {
            // Somebody else on the way could have said it.
            guard !session.requiresSigning, !session.requiresEncryption,
                exchange.tree?.share.requiresSigning != true, exchange.tree?.share.requiresEncryption != true
            else { return }
        }
        exchange.cancel()
    }

    // MARK: Exchanges that wait

    func hold(_ exchange: Exchange, _ messageID: UInt64) { held[messageID] = exchange }
    func unhold(_ messageID: UInt64) { held[messageID] = nil }

    func register(_ exchange: Exchange) -> UInt64 {
        lastAsync += 1
        asynchronous[lastAsync] = exchange
        return lastAsync
    }

    func unregister(_ asyncID: UInt64) { asynchronous[asyncID] = nil }

    func charge(_ bytes: Int) {
        heldBytes += bytes
        state.heldBytes += bytes
        // Who is in the middle of a message ends it first: while it waits, nobody would look whether it ever comes.
        if !isPaused, !isFilling, isFull { pause() }
    }

    /// What others hold is in the way only of those who hold something themselves.
    private var isFull: Bool {
        held.count >= SMBLimits.heldMax || heldBytes >= SMBLimits.heldBytesMax
            || state.heldBytes >= SMBLimits.heldBytesOfLoopMax && heldBytes > SMBLimits.heldBytesMin
    }

    private func pause() {
        isPaused = true
        connection.pauseReading()
        if state.heldBytes >= SMBLimits.heldBytesOfLoopMax { state.paused[ObjectIdentifier(self)] = self }
    }

    /// There may be room again.
    func resume() {
        guard isPaused, !awaitsFill, heldBytes <= SMBLimits.heldBytesMax / 2 else { return }
        guard !isFull else { return state.paused[ObjectIdentifier(self)] = self }
        state.paused[ObjectIdentifier(self)] = nil
        isPaused = false
        connection.resumeReading()
    }

    func release(_ bytes: Int) {
        heldBytes -= bytes
        state.heldBytes -= bytes
        resume()
        state.resume()
    }

    /// Credits for an answer: as many as were asked for, as long as the loop is not full of unanswered messages.
    func grant(_ header: Header) -> UInt16 {
        let charge = max(Int(header.creditCharge), 1)
        // Until somebody has logged on, one request at a time.
        guard isLoggedOn else { return UInt16(window.grant(charge)) }
        let isBusy = state.heldBytes > SMBLimits.heldBytesOfLoopMax / 2
        return UInt16(window.grant(isBusy ? charge : max(Int(header.credits), 1)))
    }

    // MARK: Sessions

    /// All that the session has goes with it.
    ///
    /// `keepsDurable`: the client did not mean to go.
    func end(_ session: Session, keepsDurable: Bool = false) {
        guard sessions.removeValue(forKey: session.id) != nil else { return }
        server.sessions.remove(session.id)
        for exchange in held.values where exchange.session === session { exchange.cancel(by: .session) }
        for open in session.opens.values {
            if keepsDurable, keep(open, session) { continue }
            open.abandon(self)
        }
        session.opens = [:]
        session.trees = [:]
        session.stream = nil
    }

    /// The handle waits for its client to come back.
    private func keep(_ open: Open, _ session: Session) -> Bool {
        guard open.durability != nil, let volume = open.volume, let key = open.leaseKey else { return false }
        for (exchange, use) in open.locking where exchange.use == use { exchange.cancel(by: .connection) }
        forgetCreation(open)
        if let watch = open.watch { volume.endWatch(watch) }
        open.watch = nil
        // Before anybody can find the handle: from then on it may be another loop's.
        volume.disconnect(key)
        return server.durables.keep(
            open, user: session.owner?.name ?? "", client: negotiation.clientGUID, on: loop)
    }

    func forgetCreation(_ open: Open) {
        if let guid = open.createGUID, created[guid] === open { created[guid] = nil }
    }

    func end(_ tree: Tree) {
        let session = tree.session
        guard session.trees.removeValue(forKey: tree.id) != nil else { return }
        for exchange in held.values where exchange.tree === tree { exchange.cancel(by: .session) }
        for (id, open) in session.opens where open.tree === tree {
            open.abandon(self)
            session.opens[id] = nil
        }
    }

    // MARK: Endings

    func draining(_ connection: Connection) {
        isEnding = true
        connection.close()
    }
    /// Nobody in particular, with nothing open, keeps no connection from others.
    func idle(_ connection: Connection) -> Bool {
        !sessions.values.contains { $0.state == .valid && ($0.user != nil || !$0.opens.isEmpty) }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        isEnding = true
        endFilling()
        state.forget(self)
        if isEarly {
            isEarly = false
            state.went()
        }
        endSessions()
    }

    private func endSessions() {
        // Before the leases are looked at: nothing can be told by this one any more.
        if negotiation.dialect != nil { server.clients.remove(self, of: negotiation.clientGUID) }
        for session in Array(sessions.values) { end(session, keepsDurable: true) }
        for exchange in Array(held.values) { exchange.cancel(by: .connection) }
    }
}

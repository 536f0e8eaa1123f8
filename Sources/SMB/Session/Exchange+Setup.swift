import Bytes
import Kerberos
import Logging
import Namespace
import Runtime

/// NEGOTIATE, SESSION_SETUP, LOGOFF, TREE_CONNECT, TREE_DISCONNECT ([MS-SMB2] 3.3.5.3 to 3.3.5.8).
extension Exchange {
    // MARK: Negotiate

    func negotiate(_ stream: SMBStream, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard encryptedBy == nil else { throw .status(.accessDenied) }
        let request: NegotiateRequest
        do throws(BytesError) { request = try NegotiateRequest(reading: element) } catch {
            throw .status(.invalidParameter)
        }
        do throws(Negotiation.Refusal) {
            try stream.negotiation.negotiate(request, server.terms)
        } catch {
            switch error {
            case .status(let status): throw .status(status)
            case .end:
                stream.end(because: "negotiated twice")
                throw .status(.invalidParameter)
            }
        }
        if stream.negotiation.dialect != nil { server.clients.add(stream, of: stream.negotiation.clientGUID) }
        if stream.negotiation.dialect == .v311 {
            stream.negotiation.hash(element.bytes)
            onAnswer = { [weak stream] in stream?.negotiation.hash($0) }
        }
        writeNegotiation(&writer)
        return .success
    }

    func writeNegotiation(_ writer: inout Writer) {
        guard let stream else { return }
        stream.negotiation.write(
            server.terms, time: NTTime.now(server.world.clock),
            hint: SPNEGO.hint(takesTickets: server.options.kerberos != nil), salt: server.random(32),
            into: &writer, from: 0)
    }

    // MARK: Session setup

    func setUp(_ stream: SMBStream, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let dialect = stream.negotiation.dialect else {
            stream.end(because: "nothing was negotiated")
            throw .status(.invalidParameter)
        }
        let request = try parse { (element) throws(BytesError) in try SessionSetupRequest(reading: element) }
        if server.protection.contains(.encryption), stream.negotiation.encryption == nil {
            throw .status(.accessDenied)
        }
        let session: Session
        if header.sessionID == 0 {
            guard !request.isBinding else { throw .status(.userSessionDeleted) }
            guard stream.sessions.count < SMBLimits.sessionsPerConnection else { throw .status(.insufficientResources) }
            let inProgress = stream.sessions.values.count { $0.state == .inProgress }
            guard inProgress < SMBLimits.logOnsPerConnection else { throw .status(.insufficientResources) }
            session = Session(newIdentity(), stream, preauth: stream.negotiation.preauth)
            stream.sessions[session.id] = session
        } else {
            // Another connection for the same session needs what several channels need. The session's own client is
            // told so by an answer that it can believe.
            let known = stream.sessions[header.sessionID]
            if request.isBinding || known == nil {
                guard let terms = server.sessions.terms(header.sessionID) else { throw .status(.userSessionDeleted) }
                let keys = terms.makeKeys()
                if header.flags.contains(.signed) {
                    guard keys.isSigned(element.bytes) else { throw .status(.accessDenied) }
                    sign(by: keys)
                }
                throw .status(request.isBinding ? terms.refusal(stream.negotiation) : .userSessionDeleted)
            }
            guard let known, !known.isRefused, known.state != .over else { throw .status(.userSessionDeleted) }
            session = known
        }
        use(session)
        if session.state != .inProgress { try admitAgain(session) }
        if session.logOn == nil {
            session.logOn = LogOn(serverName: server.options.serverName, takesTickets: server.options.kerberos != nil)
            if session.state != .inProgress { session.preauth = stream.negotiation.preauth }
        }
        if session.logOn?.isChallenged == true { try awaitTurn(session, stream) }
        if dialect == .v311 { session.preauth = NegotiationHash.next(session.preauth, element.bytes) }
        let catalog = server.catalog
        // Before the user is looked up: what changes from now on is reviewed.
        if session.state == .inProgress { session.generation = server.generation }
        let step = session.logOn?.step(
            request.token, random: server.random(NTLM.challengeBytes), time: NTTime.now(server.world.clock)
        ) { catalog.user(named: $0) }
        let terms = SetupTerms(mode: request.securityMode, previous: request.previousSessionID)
        let answer = try conclude(step ?? .malformed, session, stream, terms)
        answer.write?(&writer)
        return answer.status
    }

    /// A session that is there logs on again: whoever says so must be its client, where its messages have to prove that.
    private func admitAgain(_ session: Session) throws(SMBHalt) {
        if let encryptedBy, encryptedBy !== session { throw .status(.accessDenied) }
        try checkSignature()
        let isGuarded =
            session.requiresSigning || session.requiresEncryption
            || session.trees.values.contains { $0.share.requiresEncryption || $0.share.requiresSigning }
        guard isProtected || !isGuarded else { throw .status(.accessDenied) }
    }

    /// What a request said besides its token.
    private struct SetupTerms {
        let mode: SecurityMode
        /// Of before the client's connection broke.
        let previous: UInt64
    }

    private func conclude(
        _ step: LogOn.Step, _ session: Session, _ stream: SMBStream, _ terms: SetupTerms
    ) throws(SMBHalt) -> SMBAnswer {
        switch step {
        case .goesOn(let token):
            if stream.negotiation.dialect == .v311 {
                onAnswer = { [weak session] answer in
                    guard let session else { return }
                    session.preauth = NegotiationHash.next(session.preauth, answer)
                }
            }
            return Self.answer(.moreProcessingRequired, token, setupFlags(session))
        case .accepted(let token, let user, let key):
            return try accept(session, stream, terms, user, key, token)
        case .asks(let ticket):
            guard let credential = server.options.kerberos else { throw .status(.invalidParameter) }
            let handshake = session.handshake ?? KerberosHandshake(accepting: credential)
            session.handshake = handshake
            let (server, address) = (server, throttleKey(""))
            let wait = try turn(of: address, session, stream)
            throw .later { (exchange) async throws(SMBHalt) in
                if wait > 0 {
                    await exchange.loop.sleep(nanoseconds: wait)
                    server.throttle.withLock { $0.waited(address) }
                }
                guard await server.tickets.begin() else {
                    if let stream = exchange.stream, let session = exchange.session {
                        exchange.giveUp(session, stream)
                    }
                    throw .status(.requestNotAccepted)
                }
                defer { server.tickets.end() }
                let outcome = await server.world.blocking.run(on: exchange.loop) { () throws(Never) in
                    TicketOutcome(handshake, ticket)
                }
                return try exchange.conclude(outcome, terms)
            }
        case .refused(let name): return try refuse(name, session, stream, terms)
        case .malformed:
            drop(session, stream)
            throw .status(.invalidParameter)
        }
    }

    /// What became of a ticket; the connection or the session may have ended meanwhile.
    private func conclude(_ outcome: TicketOutcome, _ terms: SetupTerms) throws(SMBHalt) -> SMBAnswer {
        guard let stream, let session, stream.sessions[session.id] === session, var logOn = session.logOn else {
            throw .status(.userSessionDeleted)
        }
        if case .refused(let why) = outcome {
            server.logger.info(
                "smb ticket refused",
                [.init("why", why), .init("peer", "\(stream.connection.remoteAddress)")])
        }
        let catalog = server.catalog
        let step = logOn.conclude(outcome) { catalog.user(principal: $0) }
        session.logOn = logOn
        return try conclude(step, session, stream, terms)
    }

    private func refuse(
        _ name: String, _ session: Session, _ stream: SMBStream, _ terms: SetupTerms
    ) throws(SMBHalt) -> SMBAnswer {
        // A wrong secret of somebody who is known is never let in.
        if let logOn = session.logOn, logOn.isStranger, session.state == .inProgress, server.catalog.takesGuests,
            !server.catalog.isKnown(name)
        {
            session.isGuest = true
            return try accept(session, stream, terms, nil, [], logOn.welcome)
        }
        let (user, address, now) = (throttleKey(name), throttleKey(""), server.world.clock.monotonic())
        let delay = server.throttle.withLock { throttle in
            let delay = throttle.failed(address, now: now)
            return user == address ? delay : throttle.failed(user, now: now)
        }
        server.logger.warning(
            "smb log-on refused", [.init("user", name), .init("peer", "\(stream.connection.remoteAddress)")])
        guard delay > 0 else {
            drop(session, stream)
            throw .status(.logonFailure)
        }
        // Until then it counts among those of its connection that have begun.
        session.isRefused = true
        throw .later { (exchange) async throws(SMBHalt) in
            await exchange.loop.sleep(nanoseconds: delay)
            exchange.drop(session, stream)
            return SMBAnswer(.logonFailure)
        }
    }

    /// An address from which many have failed has its proofs looked at one at a time, and later and later.
    private func awaitTurn(_ session: Session, _ stream: SMBStream) throws(SMBHalt) {
        guard progress == 0 else { return }
        progress = 1
        let (server, address) = (server, throttleKey(""))
        let wait = try turn(of: address, session, stream)
        guard wait > 0 else { return }
        throw .later { (exchange) async throws(SMBHalt) in
            await exchange.loop.sleep(nanoseconds: wait)
            server.throttle.withLock { $0.waited(address) }
            throw .pause
        }
    }

    /// How long it waits for that. Who waits says so to the throttle.
    private func turn(of address: UInt64, _ session: Session, _ stream: SMBStream) throws(SMBHalt) -> UInt64 {
        let now = server.world.clock.monotonic()
        if let wait = server.throttle.withLock({ $0.wait(address, now: now) }) { return wait }
        giveUp(session, stream)
        throw .status(.requestNotAccepted)
    }

    /// Of a log-on that nobody has looked at: a session that lives goes on as it was, and the next try begins anew.
    private func giveUp(_ session: Session, _ stream: SMBStream) {
        guard session.state != .inProgress else { return drop(session, stream) }
        session.logOn = nil
        session.handshake = nil
    }

    /// Of the name and the address that it is tried from; without a name, of the address.
    private func throttleKey(_ name: String) -> UInt64 {
        guard let stream else { return 0 }
        var bytes = Array(UTF16Name.upper(name).utf8)
        switch stream.connection.remoteAddress {
        case .ipv4(let host, _): bytes.u32(host)
        case .ipv6(let high, let low, _, _):
            bytes.u64(high)
            bytes.u64(low)
        case .unix: break
        }
        return bytes.withUnsafeBytes { server.hash($0) }
    }

    /// Clients take no more of it than this for their own.
    private func newIdentity() -> UInt64 {
        var id: UInt64
        repeat {
            id = server.world.random.next() >> 32
        } while id == 0 || stream?.sessions[id] != nil || server.sessions.contains(id)
        return id
    }

    /// A log-on that failed: a new session goes, and so does one that was to log on again.
    private func drop(_ session: Session, _ stream: SMBStream) {
        session.logOn = nil
        stream.end(session)
        stream.sessions[session.id] = nil
    }

    private func accept(
        _ session: Session, _ stream: SMBStream, _ terms: SetupTerms, _ user: SMBUser?, _ key: [UInt8],
        _ token: [UInt8]
    ) throws(SMBHalt) -> SMBAnswer {
        let ticketSeconds = session.logOn?.seconds
        session.logOn = nil
        session.handshake = nil
        guard let dialect = stream.negotiation.dialect else { throw .status(.invalidParameter) }
        if let user { server.throttle.withLock { $0.succeeded(throttleKey(user.name)) } }
        if session.state == .inProgress {
            // Where no share is for such, nobody in particular has nothing to look for.
            guard user != nil || server.catalog.takesGuests else {
                drop(session, stream)
                throw .status(.logonFailure)
            }
            let protection = server.protection
            let others = stream.sessions.values.count { $0.state == .valid && $0.user == nil }
            let isOneMore = user == nil && others >= SMBLimits.sessionsOfNobody
            guard !isOneMore, server.sessions.count < SMBLimits.sessionsMax else {
                drop(session, stream)
                throw .status(.insufficientResources)
            }
            session.user = user
            if user != nil {
                let agreed = SessionTerms(
                    key: key, dialect: dialect, signing: stream.negotiation.signing,
                    encryption: stream.negotiation.encryption, preauth: session.preauth)
                session.terms = agreed
                session.keys = agreed.makeKeys()
                session.requiresSigning =
                    protection.contains(.signing)
                    || (terms.mode.union(stream.negotiation.clientMode)).contains(.signingRequired)
                session.requiresEncryption = protection.contains(.encryption)
            } else if !protection.isEmpty {
                drop(session, stream)
                throw .status(.accessDenied)
            }
            server.sessions.add(session, on: loop)
        } else {
            // What a ticket gave ends with it, unless its user goes on: nobody else can make it last.
            guard session.end == nil || user?.name == session.user?.name else { throw .status(.accessDenied) }
            // Opens keep the rights that they were given; new ones are the new user's, and so are trees, which are looked at again.
            session.user = user
            if user != nil { session.generation = server.generation &- 1 }
        }
        if let user { session.owner = user }
        session.state = .valid
        session.end = ticketSeconds.map { server.world.clock.monotonic() &+ UInt64($0) * 1_000_000_000 }
        stream.isLoggedOn = true
        if user != nil { stream.becomeKnown() }
        isSigningSetup = session.keys != nil
        let answer = Self.answer(.success, token, setupFlags(session))
        let previous = terms.previous
        guard previous != 0, previous != session.id else { return answer }
        let name = user?.name ?? ""
        let registry = server.sessions
        let loop = loop
        throw .later { (_) async throws(SMBHalt) in
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                registry.end(previous, of: name, on: loop) { continuation.resume() }
            }
            return answer
        }
    }

    private func setupFlags(_ session: Session) -> UInt16 {
        guard session.state == .valid else { return 0 }
        if session.user == nil { return session.isGuest ? 1 : 2 }
        return session.requiresEncryption ? 4 : 0
    }

    /// [MS-SMB2] 2.2.6.
    private static func answer(_ status: NTStatus, _ token: [UInt8], _ flags: UInt16) -> SMBAnswer {
        SMBAnswer(status) { writer in
            writer.u16LE(9)
            writer.u16LE(flags)
            writer.u16LE(UInt16(Header.bytes + 8))
            writer.u16LE(UInt16(token.count))
            token.withUnsafeBytes { writer.bytes($0) }
        }
    }

    func logOff(_ stream: SMBStream, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        _ = try parse { (element) throws(BytesError) in try EmptyRequest(reading: element) }
        if let session {
            // Its keys are needed for the answer.
            session.state = .over
            afterReply { stream.end(session, keepsDurable: true) }
        }
        return empty(&writer)
    }

    // MARK: Trees

    func connectTree(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try TreeConnectRequest(reading: element) }
        guard let session, let path = UTF16Name.string(request.path), let slash = path.lastIndex(of: "\\") else {
            throw .status(.badNetworkName)
        }
        // In the latest dialect this is what proves that nobody changed the negotiation ([MS-SMB2] 3.3.5.7).
        if stream?.negotiation.dialect == .v311, session.keys != nil, encryptedBy == nil,
            !header.flags.contains(.signed)
        {
            closeConnection()
            throw .status(.accessDenied)
        }
        let name = String(path[path.index(after: slash)...])
        let share = try share(named: name, for: session.user)
        guard !share.requiresSigning || isProtected else { throw .status(.accessDenied) }
        if share.requiresEncryption {
            // This very request may come in the clear: its answer says that all others must not ([MS-SMB2] 3.3.5.7).
            guard stream?.negotiation.encryption != nil, session.keys?.canEncrypt == true else {
                throw .status(.accessDenied)
            }
        }
        let access: UInt32 = share.isReadOnly ? 0x1200A9 : 0x1F01FF
        let root = try share.volume.map { (volume) throws(SMBHalt) in try self.root(of: share, volume) }
        guard let tree = session.addTree(share, root: root, access: access) else {
            throw .status(.insufficientResources)
        }
        use(tree)
        if share.volume != nil { stream?.becomeTrusted() }
        writer.u16LE(16)
        writer.u8(share.volume == nil ? 2 : 1)
        writer.u8(0)
        // Clients may keep what they like; with encryption, they are told so.
        var flags: UInt32 = share.volume == nil ? 0x30 : 0
        if share.requiresEncryption { flags |= 0x8000 }
        if share.hidesUnreadable { flags |= 0x800 }
        writer.u32LE(flags)
        writer.u32LE(0)
        writer.u32LE(access)
        return .success
    }

    /// The share as this user may use it.
    private func share(named name: String, for user: SMBUser?) throws(SMBHalt) -> SMBShare {
        guard var share = server.catalog.share(named: name) else { throw .status(.badNetworkName) }
        // Nobody in particular may look at the list of shares, and use what is open to guests.
        guard user != nil || (share.volume == nil ? server.catalog.takesGuests : share.allowsGuests) else {
            throw .status(.accessDenied)
        }
        if let user, let volume = share.volume {
            let rights = server.catalog.rights(of: user, on: volume)
            guard rights.contains(.read) else { throw .status(.accessDenied) }
            if !rights.contains(.write) { share.isReadOnly = true }
        }
        return share
    }

    /// Somebody changed users or shares: a session goes on as far as it could begin now. What is open keeps the rights that it was
    /// given, as far as its share still has them.
    func review(_ session: Session, _ stream: SMBStream, _ generation: UInt64) throws(SMBHalt) {
        if let user = session.owner {
            // A ticket was not got by the secret that this server knows.
            guard let now = server.catalog.user(named: user.name), session.end != nil || now.ntHash == user.ntHash
            else {
                stream.end(session)
                throw .status(.userSessionDeleted)
            }
            session.owner = now
            if session.user != nil { session.user = now }
        }
        // What all have to do now, those who are there have to do, too.
        session.requiresSigning = session.requiresSigning || server.protection.contains(.signing)
        session.requiresEncryption = session.requiresEncryption || server.protection.contains(.encryption)
        session.generation = generation
        for tree in Array(session.trees.values) {
            let now: SMBShare
            do throws(SMBHalt) { now = try share(named: tree.share.name, for: session.owner) } catch {
                stream.end(tree)
                continue
            }
            if now.volume === tree.share.volume, now.directory == tree.share.directory {
                tree.share = now
            } else {
                stream.end(tree)
            }
        }
    }

    /// The directory that a share shows: whose it is, is the operator's word, whatever those above it say.
    private func root(of share: SMBShare, _ volume: Volume) throws(SMBHalt) -> FileID {
        let caller = Caller(.root, Request(reader: loop.index, now: server.world.clock.wall()))
        var place = volume.root
        for name in share.directory.split(separator: UInt8(ascii: "/")) {
            switch name.withUnsafeBytes({ volume.lookup(caller, in: place, $0) }) {
            case .done(let found, _):
                guard found.type == .directory else { throw .status(.badNetworkName) }
                place = found.file
            case .refused: throw .status(.badNetworkName)
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        return place
    }

    func disconnectTree(_ stream: SMBStream, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        _ = try parse { (element) throws(BytesError) in try EmptyRequest(reading: element) }
        if let tree { stream.end(tree) }
        return empty(&writer)
    }
}

import Bytes
import Namespace
import Runtime

/// Handles that outlive their connections.
extension Exchange {
    /// Makes an open durable if it may be: its client must be able to keep it to itself while it is away.
    func makeDurable(_ open: Open, _ request: CreateContexts.Durable?) {
        guard let request, !open.isDirectory, open.volume != nil, mayBeDurable(request) else { return }
        var mayBe = open.oplock == Oplock.batch
        if let key = open.leaseKey, open.oplock == Oplock.lease {
            mayBe = open.volume?.lease(key)?.contains(.handle) ?? false
        }
        guard mayBe else { return }
        open.durability = Durability(request)
        noteDurable(open)
    }

    private func noteDurable(_ open: Open) {
        guard let stream else { return }
        open.presence = server.durables.present(
            open.handle.persistent, client: stream.negotiation.clientGUID, guid: open.durability?.guid)
    }

    func mayBeDurable(_ request: CreateContexts.Durable) -> Bool {
        guard let dialect = stream?.negotiation.dialect else { return false }
        return !request.isVersion2 || dialect.isThree
    }

    func addDurability(_ open: Open, to answer: inout CreateAnswer) {
        guard let durability = open.durability else { return }
        guard durability.guid != nil else { return answer.add("DHnQ", [UInt8](repeating: 0, count: 8)) }
        var data: [UInt8] = []
        data.u32(durability.milliseconds)
        data.u32(0)
        answer.add("DH2Q", data)
    }

    /// [MS-SMB2] 3.3.5.9.7 and 3.3.5.9.12: the handle is taken up again.
    func reconnect(
        _ reconnect: CreateContexts.Reconnect, _ request: CreateRequest, _ contexts: CreateContexts, _ tree: Tree,
        _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard let stream, let session else { throw .status(.objectNameNotFound) }
        // One way of coming back at a time, and nothing that would make a new open.
        let wanted = try SMBPath(request.name).components
        // The level that is asked for says nothing here.
        let lease = contexts.lease
        let caller = caller(tree)
        let number = reconnect.file.persistent
        var returning = Returning(
            reconnect, client: stream.negotiation.clientGUID, user: session.user?.name ?? "", share: tree.share.name,
            lease: lease?.key)
        let client = stream.negotiation.clientGUID
        try awaitAbsence(of: number, client)
        let open: Open
        let file: Attributes
        if let away = server.durables[number], away.volume === volume {
            returning.isThere = Self.isSame(try path(away, volume, caller, in: tree), wanted)
            // What may have to be fetched first is: an attempt that ends behind the taking finds no handle when it comes back.
            file = try attributes(away, caller, volume)
            let taken = server.durables.take(number) { entry in
                guard entry.open.volume === volume else { return .objectNameNotFound }
                let status = returning.status(
                    client: entry.client, user: entry.user, share: entry.shown.share,
                    guid: entry.open.durability?.guid,
                    lease: entry.open.oplock == Oplock.lease ? entry.open.leaseKey : nil)
                if status == .success { moved(entry.open) }
                return status
            }
            switch taken {
            case .failure(let refusal): throw .status(refusal.status)
            case .success(let found): open = found
            }
            open.moved(to: tree)
            if let key = open.leaseKey { volume.reconnect(key, stream.leaseHolder(open.handle, session.id)) }
        } else {
            (open, file) = try reclaim(number, &returning, wanted, lease, tree, volume)
        }
        session.opens[open.handle.volatile] = open
        open.action = .opened
        noteDurable(open)
        let durability = open.durability
        // The answer says nothing of what the client knows.
        open.durability = nil
        write(
            open, file, contexts.wishes, maximalAccess(open, caller, nil), leaseAnswer(open, lease), &writer)
        open.durability = durability
        return .success
    }

    /// Who comes back for a handle, and whether it is his.
    private struct Returning {
        let isVersion2: Bool
        let guid: UInt128
        let client: UInt128
        let user: String
        let share: String
        let lease: UInt128?
        /// The name that he says is the handle's.
        var isThere = false

        init(_ reconnect: CreateContexts.Reconnect, client: UInt128, user: String, share: String, lease: UInt128?) {
            isVersion2 = reconnect.isVersion2
            guid = reconnect.guid
            self.client = client
            self.user = user
            self.share = share
            self.lease = lease
        }

        /// `lease`: the key, unless it is an oplock's.
        func status(client: UInt128, user: String, share: String, guid: UInt128?, lease: LeaseKey?) -> NTStatus {
            // Each share has rules of its own.
            guard share == self.share else { return .objectNameNotFound }
            // A handle of the first version has no number of its client's.
            if isVersion2, guid ?? 0 != self.guid { return .objectNameNotFound }
            if let lease {
                guard client == self.client, let key = self.lease, lease == LeaseKey(client: client, key: key) else {
                    return .objectNameNotFound
                }
                guard isThere else { return .invalidParameter }
            } else if self.lease != nil {
                return .objectNameNotFound
            }
            return user == self.user ? .success : .accessDenied
        }
    }

    /// The handle was open before the server was started: its volume has kept it.
    private func reclaim(
        _ number: UInt64, _ returning: inout Returning, _ wanted: [[UInt8]], _ lease: CreateContexts.Lease?,
        _ tree: Tree, _ volume: Volume
    ) throws(SMBHalt) -> (Open, Attributes) {
        guard let stream, let session, let awaited = volume.awaited(number), let kept = KeptHandle(awaited.wish.details)
        else { throw .status(.objectNameNotFound) }
        let place = try path(awaited.handle, awaited.stream?.base, volume, caller(tree), in: tree)
        returning.isThere = Self.isSame(place, wanted)
        let isLease = !Oplock.isOplock(awaited.lease)
        let status = returning.status(
            client: kept.client, user: kept.user, share: kept.share, guid: kept.guid,
            lease: isLease ? awaited.lease : nil)
        guard status == .success else { throw .status(status) }
        let handle = FileHandle(persistent: number, volatile: kept.volatile)
        let file = try attributes(awaited.handle.file, of: awaited.stream?.base, caller(tree), volume)
        let holder = stream.leaseHolder(handle, session.id)
        let epoch = lease.flatMap { $0.isVersion2 ? $0.epoch : nil }
        guard let mine = volume.reclaim(number, holder, epoch: epoch) else { throw .status(.objectNameNotFound) }
        let open = Open(handle, tree, volume, mine)
        open.durability = Durability(guid: kept.guid, milliseconds: awaited.wish.milliseconds)
        open.oplock = isLease ? Oplock.lease : Oplock.level(volume.lease(mine.lease) ?? [])
        open.mode = kept.mode
        open.lockSequences = kept.lockSequences
        return (open, file)
    }

    /// What the volume keeps of the handle follows what its client does with it.
    func keepUpToDate(_ open: Open) throws(SMBHalt) {
        guard let volume = open.volume, let held = open.held, let durability = open.durability,
            let record = KeptHandle(
                open, user: open.tree.session.owner?.name ?? "", client: stream?.negotiation.clientGUID ?? 0, durability
            ).record
        else { return }
        _ = try value(volume.keep(caller(open), held, details: record), volume)
    }

    /// The same when no answer waits for it.
    func keepSoon(_ open: Open) {
        guard let volume = open.volume, let held = open.held, let durability = open.durability,
            let record = KeptHandle(
                open, user: open.tree.session.owner?.name ?? "", client: stream?.negotiation.clientGUID ?? 0, durability
            ).record
        else { return }
        Self.keepSoon(record, of: held, volume, caller(open), on: loop, tries: Self.keepTriesMax)
    }

    private static let keepTriesMax = 8

    private static func keepSoon(
        _ record: [UInt8], of held: OpenHandle, _ volume: Volume, _ caller: Caller, on loop: EventLoop, tries: Int
    ) {
        guard tries > 0, case .lacks(let lack) = volume.keep(caller, held, details: record) else { return }
        loop.task {
            guard (try? await lack.supplied()) != nil else { return }
            keepSoon(record, of: held, volume, caller, on: loop, tries: tries - 1)
        }
    }

    func leaseAnswer(_ open: Open, _ lease: CreateContexts.Lease?) -> LeaseAnswer? {
        guard let lease, let key = open.leaseKey else { return nil }
        let nothing = LeaseStatus(state: [], epoch: lease.epoch, hasEpoch: lease.isVersion2, isBreaking: false)
        return LeaseAnswer(lease: lease, status: open.volume?.leaseStatus(key) ?? nothing)
    }

    /// Where an open is by now: the names from the share's root on; a stream's is that of its file.
    func path(_ open: Open, _ volume: Volume, _ caller: Caller, in tree: Tree) throws(SMBHalt) -> [[UInt8]] {
        guard let held = open.held else { return [] }
        return try path(held, open.stream?.base, volume, caller, in: tree)
    }

    private func path(
        _ held: OpenHandle, _ base: FileID?, _ volume: Volume, _ caller: Caller, in tree: Tree
    ) throws(SMBHalt) -> [[UInt8]] {
        let root = tree.root ?? volume.root
        if let base { return try value(volume.path(caller, of: base, below: root), volume) }
        guard let place = volume.name(of: held), held.file != root else { return [] }
        return try value(volume.path(caller, of: place.directory, below: root), volume) + [place.name]
    }

    // MARK: Requests that come again

    /// The answer to a request whose open is there; nil: it is a new one.
    func replay(
        _ request: CreateRequest, _ contexts: CreateContexts, _ tree: Tree, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus? {
        guard let wish = contexts.durable, wish.isVersion2, let stream, stream.negotiation.dialect?.isThree == true
        else {
            return nil
        }
        let isReplay = header.flags.contains(.replay)
        if let pending = stream.creating[wish.guid], pending != header.messageID {
            throw .status(isReplay ? .fileNotAvailable : .duplicateObjectID)
        }
        guard let open = stream.created[wish.guid] else {
            if isReplay, let status = try replayElsewhere(wish.guid, request, contexts, tree, volume, &writer) {
                return status
            }
            creating = wish.guid
            return nil
        }
        guard isReplay else { throw .status(.duplicateObjectID) }
        // Its client had the answer and has used the handle: this is another open.
        guard open.isUntouched else {
            creating = wish.guid
            return nil
        }
        guard open.tree === tree else { throw .status(.accessDenied) }
        if open.oplock == Oplock.lease || request.oplock == Oplock.lease {
            guard open.oplock == Oplock.lease, request.oplock == Oplock.lease, let lease = contexts.lease,
                open.leaseKey?.key == lease.key
            else { throw .status(.accessDenied) }
        }
        let lease = request.oplock == Oplock.lease ? contexts.lease : nil
        let caller = caller(open)
        let file = try attributes(open, caller, volume)
        // Who asks for less the second time is told of no more.
        write(
            open, file, contexts.wishes, maximalAccess(open, caller, nil), leaseAnswer(open, lease),
            oplockMax: min(request.oplock, open.oplock), &writer)
        return .success
    }

    /// The connection broke before the answer had come: what the request has made waits for its client.
    private func replayElsewhere(
        _ guid: UInt128, _ request: CreateRequest, _ contexts: CreateContexts, _ tree: Tree, _ volume: Volume,
        _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus? {
        guard let stream, let session else { return nil }
        let client = stream.negotiation.clientGUID
        guard let number = server.durables.made(by: client, guid) else { return nil }
        try awaitAbsence(of: number, client)
        guard let away = server.durables[number], away.volume === volume, away.isUntouched else { return nil }
        let lease = request.oplock == Oplock.lease ? contexts.lease : nil
        let caller = caller(tree)
        let file = try attributes(away, caller, volume)
        let user = session.user?.name ?? ""
        let taken = server.durables.take(number) { entry in
            guard entry.user == user, entry.shown.share == tree.share.name,
                entry.open.oplock != Oplock.lease || entry.open.leaseKey?.key == lease?.key
            else {
                return .accessDenied
            }
            moved(entry.open)
            return .success
        }
        guard case .success(let open) = taken else {
            if case .failure(let refusal) = taken, refusal.status == .accessDenied { throw .status(.accessDenied) }
            return nil
        }
        open.moved(to: tree)
        if let key = open.leaseKey { volume.reconnect(key, stream.leaseHolder(open.handle, session.id)) }
        noteDurable(open)
        creating = guid
        write(
            open, file, contexts.wishes, maximalAccess(open, caller, nil), leaseAnswer(open, lease),
            oplockMax: min(request.oplock, open.oplock), &writer)
        return .success
    }

    /// Before anybody can find the open here: whoever wants its end asks its loop for it.
    private func moved(_ open: Open) {
        guard let application = open.application, let stream else { return }
        server.applications.moved(application, client: stream.negotiation.clientGUID, to: loop)
    }

    /// The new connection may be served before the end of the old one is.
    private func awaitAbsence(of number: UInt64, _ client: UInt128) throws(SMBHalt) {
        guard !hasAwaitedAbsence, server.durables.isPresent(number, client: client) else { return }
        hasAwaitedAbsence = true
        let (durables, loop) = (server.durables, loop)
        throw .lacks(Lack { () async throws(FileError) in await durables.whenAway(number, on: loop) })
    }

    func noteCreation(_ open: Open) {
        guard let creating else { return }
        open.createGUID = creating
        stream?.created[creating] = open
    }

    private static func isSame(_ a: [[UInt8]], _ b: [[UInt8]]) -> Bool {
        if a == b { return true }
        return a.count == b.count
            && zip(a, b).allSatisfy { a, b in
                UTF16Name.upper(String(decoding: a, as: UTF8.self))
                    == UTF16Name.upper(String(decoding: b, as: UTF8.self))
            }
    }
}

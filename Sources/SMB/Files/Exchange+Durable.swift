import Bytes
import Namespace
import Runtime

/// Handles that outlive their connections.
extension Exchange {
    /// Makes an open durable if it may be: its client must be able to keep it to itself while it is away.
    func makeDurable(_ open: Open, _ request: CreateContexts.Durable?) {
        guard let request, !open.isDirectory, open.volume != nil, let dialect = stream?.negotiation.dialect else {
            return
        }
        guard !request.isVersion2 || dialect.isThree else { return }
        var mayBe = open.oplock == Oplock.batch
        if let key = open.leaseKey, open.oplock == Oplock.lease {
            mayBe = open.volume?.lease(key)?.contains(.handle) ?? false
        }
        guard mayBe else { return }
        open.durability = Durability(request)
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
        let client = stream.negotiation.clientGUID
        let wanted = try SMBPath(request.name).components
        let user = session.user?.name ?? ""
        // The level that is asked for says nothing here.
        let lease = contexts.lease
        let caller = caller(tree)
        var path: [[UInt8]] = []
        if let away = server.durables[reconnect.file.persistent], away.volume === volume {
            // The session that it was opened by may be gone.
            path = try self.path(away, volume, caller)
        }
        let taken = server.durables.take(reconnect.file.persistent) { entry in
            let open = entry.open
            guard open.volume === volume else { return .objectNameNotFound }
            // A handle of the first version has no number of its client's.
            if reconnect.isVersion2, open.durability?.guid ?? 0 != reconnect.guid { return .objectNameNotFound }
            if open.oplock == Oplock.lease {
                guard entry.client == client, let lease, open.leaseKey == LeaseKey(client: client, key: lease.key)
                else {
                    return .objectNameNotFound
                }
                guard path == wanted || Self.isSame(path, wanted) else { return .invalidParameter }
            } else if lease != nil {
                return .objectNameNotFound
            }
            return entry.user == user ? .success : .accessDenied
        }
        let open: Open
        switch taken {
        case .failure(let refusal): throw .status(refusal.status)
        case .success(let found): open = found
        }
        open.moved(to: tree)
        if let key = open.leaseKey { volume.reconnect(key, stream.leaseHolder(open.handle, session.id)) }
        session.opens[open.handle.volatile] = open
        open.action = .opened
        let file = try attributes(open, caller, volume)
        let durability = open.durability
        // The answer says nothing of what the client knows.
        open.durability = nil
        write(
            open, file, contexts.wishes, maximalAccess(open, caller, nil), leaseAnswer(open, lease), &writer)
        open.durability = durability
        return .success
    }

    func leaseAnswer(_ open: Open, _ lease: CreateContexts.Lease?) -> LeaseAnswer? {
        guard let lease, let key = open.leaseKey else { return nil }
        let nothing = LeaseStatus(state: [], epoch: lease.epoch, hasEpoch: lease.isVersion2, isBreaking: false)
        return LeaseAnswer(lease: lease, status: open.volume?.leaseStatus(key) ?? nothing)
    }

    /// Where an open is by now: the names from the share's root on; a stream's is that of its file.
    func path(_ open: Open, _ volume: Volume, _ caller: Caller) throws(SMBHalt) -> [[UInt8]] {
        if open.stream != nil { return try value(volume.path(caller, of: open.subject), volume) }
        guard let held = open.held, let place = volume.name(of: held) else { return [] }
        return try value(volume.path(caller, of: place.directory), volume) + [place.name]
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
            creating = wish.guid
            return nil
        }
        guard isReplay else { throw .status(.duplicateObjectID) }
        guard open.tree === tree else { throw .status(.accessDenied) }
        if open.oplock == Oplock.lease || request.oplock == Oplock.lease {
            guard open.oplock == Oplock.lease, request.oplock == Oplock.lease, let lease = contexts.lease,
                open.leaseKey?.key == lease.key
            else { throw .status(.accessDenied) }
        }
        let lease = request.oplock == Oplock.lease ? contexts.lease : nil
        let caller = caller(open)
        let file = try attributes(open, caller, volume)
        write(open, file, contexts.wishes, maximalAccess(open, caller, nil), leaseAnswer(open, lease), &writer)
        return .success
    }

    func noteCreation(_ open: Open) {
        guard let creating else { return }
        open.createGUID = creating
        stream?.created[creating] = open
    }

    private static func isSame(_ a: [[UInt8]], _ b: [[UInt8]]) -> Bool {
        a.count == b.count
            && zip(a, b).allSatisfy { a, b in
                UTF16Name.upper(String(decoding: a, as: UTF8.self))
                    == UTF16Name.upper(String(decoding: b, as: UTF8.self))
            }
    }
}

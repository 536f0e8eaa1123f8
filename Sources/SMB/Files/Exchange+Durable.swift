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
            mayBe = open.sharing?.look { $0.leases.state(key)?.contains(.handle) ?? false } ?? false
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
        guard let stream, let session, let sharing = tree.sharing else { throw .status(.objectNameNotFound) }
        // One way of coming back at a time, and nothing that would make a new open.
        let client = stream.negotiation.clientGUID
        let path = try SMBPath(request.name)
        let user = session.user?.name ?? ""
        let lease = request.oplock == Oplock.lease ? contexts.lease : nil
        let taken = server.durables.take(reconnect.file.persistent) { entry in
            let open = entry.open
            guard open.volume === volume else { return .objectNameNotFound }
            if reconnect.isVersion2, open.durability?.guid != reconnect.guid { return .objectNameNotFound }
            if open.oplock == Oplock.lease {
                guard entry.client == client, let lease, open.leaseKey == LeaseKey(client: client, key: lease.key)
                else {
                    return .objectNameNotFound
                }
                if path.components != open.place.path.components,
                    !Self.isSame(path.components, open.place.path.components)
                {
                    return .invalidParameter
                }
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
        let key = open.actor
        sharing.change(on: loop) { state, _ in
            state.leases.reconnected(key)
            if state.leases.state(key) != nil { state.holders[key] = stream.leaseHolder(open) }
        }
        session.opens[open.handle.volatile] = open
        let file = try attributes(open, caller(tree), volume)
        var answer: LeaseAnswer?
        if let lease, let leaseKey = open.leaseKey {
            let state = sharing.look { $0.leases.state(leaseKey) } ?? []
            answer = LeaseAnswer(lease: lease, state: state, epoch: lease.epoch, isBreaking: false)
        }
        let durability = open.durability
        // The answer says nothing of what the client knows.
        open.durability = nil
        write(open, .opened, file, contexts.wishes, maximalAccess(file, nil, tree), answer, &writer)
        open.durability = durability
        return .success
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
        var answer: LeaseAnswer?
        if open.oplock == Oplock.lease || request.oplock == Oplock.lease {
            guard open.oplock == Oplock.lease, request.oplock == Oplock.lease, let lease = contexts.lease,
                let key = open.broughtKey, key.key == lease.key, let sharing = open.sharing
            else { throw .status(.accessDenied) }
            let (state, isBreaking) = sharing.look { ($0.leases.state(key) ?? [], $0.leases.isBreaking(key)) }
            answer = LeaseAnswer(lease: lease, state: state, epoch: lease.epoch, isBreaking: isBreaking)
        }
        let file = try attributes(open, caller(tree), volume)
        write(open, open.action, file, contexts.wishes, maximalAccess(file, nil, tree), answer, &writer)
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

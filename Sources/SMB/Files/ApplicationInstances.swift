import Namespace
import Runtime

/// Applications that may go on at another client ([MS-SMB2] 3.3.5.9.13): one that starts anew elsewhere does not wait for the opens
/// that it had where it was.
final class ApplicationInstances: Sendable {
    /// Lives as long as the open does.
    final class Membership: Sendable {
        private let table: ApplicationInstances
        fileprivate let instance: UInt128
        fileprivate let number: UInt64

        fileprivate init(_ table: ApplicationInstances, _ instance: UInt128, _ number: UInt64) {
            self.table = table
            self.instance = instance
            self.number = number
        }

        deinit { table.remove(self) }
    }

    struct Member: Sendable {
        fileprivate let number: UInt64
        fileprivate let file: FileID
        fileprivate let volume: ObjectIdentifier
        fileprivate var client: UInt128
        fileprivate var loop: EventLoop
        /// False: the open is on another loop by now.
        fileprivate let end: @Sendable (EventLoop) -> Bool
    }

    private static let triesMax = 100
    private static let pauseNanoseconds: UInt64 = 1_000_000

    /// Returns when the open has ended. Its client may take it up again meanwhile, on another loop.
    func end(_ member: Member, of instance: UInt128) async {
        for _ in 0..<Self.triesMax {
            guard let home = loop(of: member.number, instance) else { return }
            if await home.task({ () async -> Bool in member.end(home) }).value { return }
            await home.sleep(nanoseconds: Self.pauseNanoseconds)
        }
    }

    private func loop(of number: UInt64, _ instance: UInt128) -> EventLoop? {
        state.withLock { $0.members[instance]?.first { $0.number == number }?.loop }
    }

    func loop(of membership: Membership) -> EventLoop? { loop(of: membership.number, membership.instance) }

    private struct State {
        var members: [UInt128: [Member]] = [:]
        var next: UInt64 = 0
    }

    private let state = Guarded(State())

    /// `end` is called on the loop of the open's client, or on its last one.
    func add(
        _ instance: UInt128, _ file: FileID, in volume: Volume, client: UInt128, on loop: EventLoop,
        end: @escaping @Sendable (EventLoop) -> Bool
    ) -> Membership {
        state.withLock { state in
            state.next += 1
            state.members[instance, default: []].append(
                Member(
                    number: state.next, file: file, volume: ObjectIdentifier(volume), client: client, loop: loop,
                    end: end))
            return Membership(self, instance, state.next)
        }
    }

    /// The open was taken up again, maybe on another loop.
    func moved(_ membership: Membership, client: UInt128, to loop: EventLoop) {
        state.withLock { state in
            guard let index = state.members[membership.instance]?.firstIndex(where: { $0.number == membership.number })
            else { return }
            state.members[membership.instance]?[index].client = client
            state.members[membership.instance]?[index].loop = loop
        }
    }

    /// Those of other clients.
    func others(_ instance: UInt128, _ file: FileID, in volume: Volume, than client: UInt128) -> [Member] {
        state.withLock { state in
            let isOther = { (member: Member) in
                member.file == file && member.volume == ObjectIdentifier(volume) && member.client != client
            }
            return state.members[instance]?.filter(isOther) ?? []
        }
    }

    private func remove(_ membership: Membership) {
        state.withLock { state in
            state.members[membership.instance]?.removeAll { $0.number == membership.number }
            if state.members[membership.instance]?.isEmpty == true { state.members[membership.instance] = nil }
        }
    }
}

extension Exchange {
    /// The same application's opens of the file by other clients end first, for who may read it.
    func endOthers(
        of contexts: CreateContexts, _ found: Found, _ caller: Caller, _ volume: Volume
    ) throws(SMBHalt) {
        guard let instance = contexts.applicationInstance, let file = found.file, let stream,
            stream.negotiation.dialect?.isThree == true,
            try value(volume.maximalAccess(caller, file, in: found.parent?.file), volume).contains(.readData)
        else { return }
        let applications = server.applications
        let others = applications.others(
            instance, file.file, in: volume, than: stream.negotiation.clientGUID)
        guard !others.isEmpty else { return }
        throw .lacks(
            Lack { () async throws(FileError) in
                for member in others { await applications.end(member, of: instance) }
            })
    }

    /// Only what lives by its own name is found again by it, and streams are not.
    func join(_ open: Open, _ contexts: CreateContexts) {
        guard let instance = contexts.applicationInstance, open.stream == nil, let volume = open.volume, let stream,
            stream.negotiation.dialect?.isThree == true
        else { return }
        let (server, loop) = (server, loop)
        open.application = server.applications.add(
            instance, open.file, in: volume, client: stream.negotiation.clientGUID, on: loop
        ) { [weak open] loop in open?.giveUp(server, on: loop) ?? true }
    }
}

extension Open {
    /// Its application goes on at another client. An open whose client is away is whose who takes it; one whose client is there is its
    /// loop's. False: that is another loop.
    fileprivate func giveUp(_ server: SMBServer, on loop: EventLoop) -> Bool {
        if case .success = server.durables.take(handle.persistent, { _ in .success }) {
            application = nil
            end(on: loop)
            return true
        }
        guard let application else { return true }
        guard server.applications.loop(of: application) === loop else { return false }
        self.application = nil
        if let stream = tree.session.stream, tree.session.opens.removeValue(forKey: handle.volatile) != nil {
            abandon(stream)
        }
        return true
    }
}

import Namespace
import RPC
import Runtime

/// The opens that hosts hold by SHARE. No I/O.
struct LockShares {
    static let countMax = 16_384

    struct Key: Hashable {
        var owner: LockOwner
        var volume: UInt64
        var file: FileID
    }

    struct Share {
        var volume: Volume
        var handle: OpenHandle
        var caller: Caller
    }

    private var shares: [Key: Share] = [:]
    var isFull: Bool { shares.count >= Self.countMax }

    mutating func take(_ key: Key) -> Share? { shares.removeValue(forKey: key) }
    subscript(key: Key) -> Share? { shares[key] }

    /// Answers the share that was there.
    mutating func put(_ share: Share, _ key: Key) -> Share? { shares.updateValue(share, forKey: key) }

    func holds(host: UInt64) -> Bool { shares.keys.contains { $0.owner.client == host } }

    mutating func forget(host: UInt64) -> [Share] {
        let gone = shares.filter { $0.key.owner.client == host }
        for key in gone.keys { shares[key] = nil }
        return Array(gone.values)
    }
}

/// SHARE and UNSHARE: what personal computers do when they open a file. The modes bind those of SMB, and the other way round.
extension LockService {
    func share(_ work: LockWork, _ place: NFSPlace) -> Attempt<LockReply> {
        let request = work.request
        if locks.isInGrace != request.isReclaim { return .done(LockReply(.deniedGrace), number: 0) }
        let owner: LockOwner
        switch monitor.admit(work, place, isMonitored: true) {
        case .done(let found, _): owner = found
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        }
        let key = LockShares.Key(owner: owner, volume: place.volume.identity, file: place.file)
        let isFull = shares.withLock { $0.isFull }
        if isFull { return .done(LockReply(.deniedNoLocks), number: 0) }
        var access: AccessMask = [.readAttributes]
        if request.access.reads { access.insert(.readData) }
        if request.access.writes { access.insert(.writeData) }
        var shared = DataAccess.all
        if request.deny.reads { shared.remove(.read) }
        if request.deny.writes { shared.remove(.write) }
        var intent = OpenIntent(.open, access: access, shared: shared, client: owner.client)
        // The same process shares anew: its old share is not in the way of its new one, and stays until that is granted.
        intent.replaced = shares.withLock { $0[key] }?.handle
        switch place.volume.open(place.caller, place.file, intent) {
        case .done(let opened, _):
            let share = LockShares.Share(volume: place.volume, handle: opened.handle, caller: place.caller)
            if let old = shares.withLock({ $0.put(share, key) }) { close(old) }
            // As with locks: its record may have been removed since it was looked for.
            if let lack = monitor.recording(owner.client, place.volume) {
                if let mine = shares.withLock({ $0.take(key) }) { close(mine) }
                return .lacks(lack)
            }
            return .done(LockReply(.granted), number: 0)
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        }
    }

    func unshare(_ work: LockWork, _ place: NFSPlace) -> Attempt<LockReply> {
        let owner = monitor.withHosts { hosts in
            hosts.owner(hosts.number(of: work.request.caller, at: work.address), 0, work.request.owner)
        }
        let key = LockShares.Key(owner: owner, volume: place.volume.identity, file: place.file)
        let share = shares.withLock { $0.take(key) }
        if let share { close(share) }
        return .done(LockReply(.granted), number: 0)
    }

    /// A close that lacks something has ended the open all the same; the rest of it is done by a task.
    func close(_ share: LockShares.Share) {
        guard case .lacks(let first) = share.volume.close(share.caller, share.handle) else { return }
        monitor.client.loop.task {
            var lack = first
            for _ in 0..<NFSService.attemptsMax {
                do throws(FileError) { try await lack.supplied() } catch { return }
                guard case .lacks(let next) = share.volume.close(share.caller, share.handle) else { return }
                lack = next
            }
        }
    }
}

extension ShareBits {
    fileprivate var reads: Bool { self == .read || self == .both }
    fileprivate var writes: Bool { self == .write || self == .both }
}

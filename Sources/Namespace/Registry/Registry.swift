import Logging
import Runtime
import Synchronization

/// Users, exports, shares and quotas of a server: kept with its volumes, handed out as immutable snapshots.
///
/// Reading is for any loop. Changes come one after the other, on `loop`; each is in its volumes, durable, before it
/// shows. A change that fails changes nothing that shows.
public final class Registry: Sendable {
    public static let exportsPerVolumeMax = 1024
    public static let sharesPerVolumeMax = 1024
    public static let quotasPerVolumeMax = 16_384
    /// Changes that wait for their turn.
    public static let waitingMax = 256

    public let loop: EventLoop
    let seal: any SecretSeal
    let random: any RandomSource
    let clock: any WorldClock
    private let published: Guarded<RegistrySnapshot>
    private let changes = Atomic<UInt64>(0)
    private let book: Book
    private let turns = TurnQueue(waitingMax: Registry.waitingMax)

    /// Touched on the loop only.
    private final class Book: @unchecked Sendable {
        var state: State
        init(_ state: State) { self.state = state }
    }

    struct State: Sendable {
        var table: UserTable
        /// Whether `table.domain` is that of a volume already, or one made for the time being.
        var hasDomain = false
        var metas: [String: Meta] = [:]
        var volumes: [String: Attached] = [:]
        /// Of the configuration: kept nowhere, and before what is kept.
        var declaredExports: [DeclaredExport] = []
        var declaredShares: [DeclaredShare] = []
        /// Names of groups that are the host's own: kept nowhere here.
        var hostGroups: [String] = []
        /// The configuration has said who its users are.
        var hasDeclaredUsers = false

        func snapshot(_ seal: any SecretSeal) -> RegistrySnapshot {
            var records = volumes.mapValues(\.records)
            var places: [RegistrySnapshot.Declared: String] = [:]
            for (name, meta) in metas { places[.user(name)] = meta.place }
            for declared in declaredExports {
                places[.export(declared.export.path)] = declared.place
                records[declared.volume]?.exports.removeAll { $0.path == declared.export.path }
                records[declared.volume]?.exports.append(declared.export)
            }
            for declared in declaredShares {
                let folded = declared.share.name.lowercased()
                places[.share(folded)] = declared.place
                for volume in records.keys {
                    records[volume]?.shares.removeAll { $0.name.lowercased() == folded }
                }
                records[declared.volume]?.shares.append(declared.share)
            }
            return RegistrySnapshot(users: table, volumes: records, places: places, seal: seal)
        }
    }

    /// What the registry knows of a user beyond what front ends need; by the folded name.
    struct Meta: Sendable {
        var revision: UInt64
        /// Tells it from a user of the same name who was removed.
        var madeAt: UInt64
        /// Where the configuration declares it now.
        var place: String?
        /// By the configuration, now or before.
        var isDeclared: Bool
        /// Volumes that have its record.
        var homes: Set<String>
        /// The host's own: kept nowhere here.
        var isHost = false
    }

    struct Attached: Sendable {
        var volume: Volume
        var settings: VolumeSettings
        var records = RegistrySnapshot.VolumeRecords()
        var identity: IdentityRecord?
    }

    public init(
        loop: EventLoop, clock: any WorldClock, random: any RandomSource, seal: any SecretSeal
    ) {
        self.loop = loop
        self.clock = clock
        self.random = random
        self.seal = seal
        func number() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) }
        let state = State(table: UserTable(domain: (number(), number(), number())))
        book = Book(state)
        published = Guarded(state.snapshot(seal))
    }

    public var snapshot: RegistrySnapshot { published.withLock { $0 } }
    /// Rises behind each change: who keeps something of a snapshot looks it up again then.
    public var generation: UInt64 { changes.load(ordering: .acquiring) }

    // MARK: Changing

    /// Waits for its turn, changes a copy of the state, and shows it when `body` has brought it to the volumes.
    func change<Value: Sendable>(
        _ body: (inout State) async throws(RegistryError) -> Value
    ) async throws(RegistryError) -> Value {
        precondition(loop.isCurrent, "the registry changes on its loop")
        guard await turns.enter() else { throw .busy }
        defer { turns.leave() }
        var state = book.state
        let value = try await body(&state)
        for (name, attached) in state.volumes where attached.records.quotas != book.state.volumes[name]?.records.quotas
        {
            attached.volume.setQuotas(attached.records.quotas, loop: loop)
        }
        book.state = state
        let snapshot = state.snapshot(seal)
        published.withLock { $0 = snapshot }
        changes.wrappingAdd(1, ordering: .releasing)
        return value
    }

    func set(_ name: String, _ value: [UInt8]?, in volume: String, _ state: State) async throws(RegistryError) {
        guard let attached = state.volumes[volume] else { throw .unknown("volume \(volume)") }
        do throws(FileError) { try await attached.settings.set(name, value) } catch { throw .volume(volume, error) }
    }

    // MARK: Volumes

    /// Reads what the volume keeps. Answers the records that were left out, and why.
    public func attach(_ volume: Volume) async throws(RegistryError) -> [RegistryError] {
        try await change { (state) async throws(RegistryError) -> [RegistryError] in
            guard state.volumes[volume.name] == nil else { throw .exists("volume \(volume.name)") }
            var attached = Attached(
                volume: volume, settings: VolumeSettings(volume, clock: clock, loop: loop))
            var problems: [RegistryError] = []
            let records: [(name: String, bytes: [UInt8])]
            do throws(FileError) {
                records = try await Self.records(attached.settings)
            } catch {
                // A volume of a kind that keeps nothing is served all the same.
                guard error == .notSupported else { throw .volume(volume.name, error) }
                records = []
            }
            var users: [UserRecord] = []
            for (name, bytes) in records {
                do throws(RecordFault) {
                    try attached.take(name, bytes, of: volume.name, &users)
                } catch {
                    problems.append(.record(volume: volume.name, name: name, error))
                }
            }
            problems += Self.leaveOutTaken(&attached.records.shares, of: volume.name, state)
            state.volumes[volume.name] = attached
            adopt(attached.identity, &state)
            for record in users {
                if let meta = state.metas[UserTable.folded(record.user.name)], record.madeAt < meta.madeAt {
                    problems.append(
                        .exists("a user \(record.user.name) who is not the one of volume \(volume.name), removed since")
                    )
                    continue
                }
                do throws(UserTable.Refusal) {
                    try adopt(record, of: volume.name, &state)
                    try shutOutUndeclared(record.user.name, &state)
                } catch {
                    problems.append(
                        .exists(
                            "somebody with the name, the number \(record.user.uid) or a key of user \(record.user.name) of "
                                + "volume \(volume.name)"))
                }
            }
            return problems
        }
    }

    /// Of two shares of one name the first that was attached is served: which one a client gets is not left to chance.
    private static func leaveOutTaken(
        _ shares: inout [ShareRecord], of volume: String, _ state: State
    ) -> [RegistryError] {
        var problems: [RegistryError] = []
        var taken: [String: String] = [:]
        for (other, there) in state.volumes {
            for share in there.records.shares { taken[share.name.lowercased()] = other }
        }
        shares.removeAll { share in
            guard let other = taken.updateValue(volume, forKey: share.name.lowercased()) else { return false }
            problems.append(.exists("a share \(share.name), in volume \(other): that of volume \(volume) is left out"))
            return true
        }
        return problems
    }

    /// A volume that comes later may bring users of a configuration that does not name them any more.
    private func shutOutUndeclared(_ name: String, _ state: inout State) throws(UserTable.Refusal) {
        guard state.hasDeclaredUsers, let meta = state.metas[UserTable.folded(name)], meta.isDeclared,
            meta.place == nil, var user = state.table.user(name), !user.isDisabled
        else { return }
        user.isDisabled = true
        try state.table.change(UserTable.folded(name), to: user)
    }

    /// The volume is served no more; what it keeps stays in it.
    public func detach(_ volume: String) async throws(RegistryError) {
        try await change { (state) async throws(RegistryError) in
            state.volumes[volume] = nil
            for (name, meta) in state.metas where meta.homes.contains(volume) {
                state.metas[name]?.homes.remove(volume)
                guard var user = state.table.user(name) else { continue }
                user.rights[volume] = nil
                user.keys.removeAll { $0.volume == volume }
                // He is there, and nothing of his becomes another's: neither is refused.
                if meta.homes.count == 1, meta.place == nil {
                    try? state.table.remove(user: name)
                    state.metas[name] = nil
                } else {
                    try? state.table.change(name, to: user)
                }
            }
        }
    }

    /// The volume will be deleted: its users are kept elsewhere, without rights to it.
    public func evacuate(_ volume: String) async throws(RegistryError) {
        try await change { (state) async throws(RegistryError) in
            guard state.volumes[volume] != nil else { throw .unknown("volume \(volume)") }
            for name in state.metas.filter({ $0.value.homes.contains(volume) }).keys.sorted() {
                guard var user = state.table.user(name) else { continue }
                user.rights[volume] = nil
                user.keys.removeAll { $0.volume == volume }
                try await store(user, &state, leaving: volume)
            }
        }
    }

    private static func records(_ settings: VolumeSettings) async throws(FileError) -> [(String, [UInt8])] {
        var records: [(String, [UInt8])] = []
        for prefix in [IdentityRecord.name, "user/", "export/", "share/", "quota/"] {
            for name in try await settings.names(prefix) {
                if let bytes = try await settings.value(name) { records.append((name, bytes)) }
            }
        }
        return records
    }

    /// The first volume's domain is the server's: SIDs of its users are what they were.
    private func adopt(_ identity: IdentityRecord?, _ state: inout State) {
        guard let identity else { return }
        if !state.hasDomain, state.table.count == 0 {
            state.table = UserTable(domain: (identity.domain[0], identity.domain[1], identity.domain[2]))
            state.hasDomain = true
        }
        state.table.skipRIDs(below: identity.nextRID)
    }

    private func adopt(_ record: UserRecord, of volume: String, _ state: inout State) throws(UserTable.Refusal) {
        let name = UserTable.folded(record.user.name)
        // One whose name another group has stays a number.
        for group in record.groups {
            for known in [state.table.group(gid: group.gid), state.table.group(group.name)] {
                guard let known, known.rid == 0 else { continue }
                // The host's gives way to one that is kept.
                try? state.table.remove(group: known.name)
                state.hostGroups.removeAll { $0 == known.name }
            }
            if state.table.group(gid: group.gid) == nil { try? state.table.adopt(group) }
        }
        var user = record.user
        if let known = state.table.user(name), let meta = state.metas[name] {
            let isOther = record.madeAt > meta.madeAt
            // What is declared wins, whatever another server has stored since.
            let isNewer = meta.place == nil && canKeep(volume, state) && (isOther || record.revision > meta.revision)
            if !isNewer {
                user = known
            } else if !isOther {
                user.rights = known.rights
                user.keys = known.keys
            }
            if meta.place == nil { user.rights[volume] = record.user.rights[volume] }
            if user.rights[volume] != nil {
                user.keys.removeAll { $0.volume == volume }
                user.keys += record.user.keys
            }
            user.ntHash = seal.open(user.sealed).map { NTHash.of($0.revealed) } ?? []
            try state.table.change(name, to: user)
            state.metas[name]?.homes.insert(volume)
            if isNewer {
                state.metas[name]?.revision = record.revision
                state.metas[name]?.madeAt = record.madeAt
                state.metas[name]?.isDeclared = record.isDeclared
            }
            return
        }
        user.ntHash = seal.open(user.sealed).map { NTHash.of($0.revealed) } ?? []
        try state.table.adopt(user)
        state.metas[name] = Meta(
            revision: record.revision, madeAt: record.madeAt, place: nil, isDeclared: record.isDeclared,
            homes: [volume])
    }

    /// What another server owns is read, and tells nothing of who is who here.
    func canKeep(_ volume: String, _ state: State) -> Bool {
        state.volumes[volume].map { !$0.volume.follows } ?? false
    }

    // MARK: Storing users

    /// Brings a user to the volumes on which there are rights or keys, or to any when there are none, and to the table.
    func store(_ user: User, _ state: inout State, leaving: String? = nil) async throws(RegistryError) {
        let name = UserTable.folded(user.name)
        var user = user
        do throws(UserTable.Refusal) {
            if state.table.user(name) == nil {
                try state.table.add(user)
            } else {
                try state.table.change(name, to: user)
            }
        } catch { throw Self.error(error, user) }
        if let stored = state.table.user(name) { user = stored }
        var meta = state.metas[name] ?? newMeta(isDeclared: false)
        // Of a record that somebody has damaged it may be the highest that there is.
        meta.revision = max(meta.revision &+ 1, meta.revision, UInt64(clamping: clock.wall()))
        let all = Set(state.volumes.keys.filter { $0 != leaving && canKeep($0, state) })
        var homes = Set(user.rights.keys).union(user.keys.map(\.volume)).intersection(all)
        if homes.isEmpty, let any = all.min() { homes = [any] }
        // Names of the host's groups are its own.
        let groups = (user.groups + [user.gid]).compactMap { state.table.group(gid: $0) }.filter { $0.rid != 0 }
        let record = UserRecord(
            revision: meta.revision, madeAt: meta.madeAt, isDeclared: meta.isDeclared, user: user, groups: groups)
        for volume in homes.sorted() {
            try await storeIdentity(in: volume, &state)
            let bytes = record.record(of: volume)
            guard bytes.count <= Self.userRecordBytesMax else { throw .tooMany("what one user has, in bytes") }
            try await set("user/" + name, bytes, in: volume, state)
        }
        for volume in meta.homes.subtracting(homes).sorted() where canKeep(volume, state) {
            try await set("user/" + name, nil, in: volume, state)
        }
        meta.homes = homes
        state.metas[name] = meta
    }

    /// Of a user who is made now.
    func newMeta(isDeclared: Bool) -> Meta {
        Meta(revision: 0, madeAt: UInt64(clamping: clock.wall()), place: nil, isDeclared: isDeclared, homes: [])
    }

    /// A setting's value has 60 KiB.
    private static let userRecordBytesMax = 60 << 10

    /// RIDs that were given are given in no volume again.
    private func storeIdentity(in volume: String, _ state: inout State) async throws(RegistryError) {
        let domain = state.volumes[volume]?.identity?.domain
        let identity = IdentityRecord(
            domain: domain ?? [state.table.domain.0, state.table.domain.1, state.table.domain.2],
            nextRID: state.table.nextRID)
        guard state.volumes[volume]?.identity != identity else { return }
        try await set(IdentityRecord.name, identity.record(), in: volume, state)
        state.volumes[volume]?.identity = identity
        state.hasDomain = true
    }

    static func error(_ refusal: UserTable.Refusal, _ user: User) -> RegistryError {
        switch refusal {
        case .badName:
            .invalid("\"\(user.name)\" is no name for a user: 1 to 64 bytes without spaces and any of : \\ / @")
        case .nameTaken: .exists("user or key \(user.name)")
        case .uidTaken: .exists("a user with the uid \(user.uid)")
        case .gidTaken: .exists("a group with the gid")
        case .keyTaken: .exists("a user or key of that name")
        case .unknown: .unknown("user \(user.name)")
        case .tooMany: .tooMany("users, or something of one user")
        }
    }
}

extension Registry.Attached {
    fileprivate mutating func take(
        _ name: String, _ bytes: [UInt8], of volume: String, _ users: inout [UserRecord]
    ) throws(RecordFault) {
        if name == IdentityRecord.name {
            identity = try IdentityRecord(record: bytes)
        } else if name.hasPrefix("user/") {
            users.append(try UserRecord(record: bytes, of: volume))
        } else if name.hasPrefix("export/"), records.exports.count < Registry.exportsPerVolumeMax {
            records.exports.append(try ExportRecord(record: bytes))
        } else if name.hasPrefix("share/"), records.shares.count < Registry.sharesPerVolumeMax {
            records.shares.append(try ShareRecord(record: bytes))
        } else if name.hasPrefix("quota/"), records.quotas.count < Registry.quotasPerVolumeMax {
            records.quotas.append(try QuotaRecord(record: bytes))
        }
    }
}

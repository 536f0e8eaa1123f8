import Bytes
import Logging
import Namespace
import RPC
import Runtime

/// Knows the hosts that hold locks: writes them down with the volume before they get their first, tells them when this server
/// has restarted, and lets their locks go when they have.
public final class HostMonitor: @unchecked Sendable {
    /// Hosts that do not answer are told for so long.
    static let noticesMax = 20
    /// Ports of hosts' programs that are kept.
    private static let portsMax = 4096
    static let stateName = VolumeSettings.monitored + "state"

    public let client: RPCClient
    private let volumes: Volumes
    private let clock: any WorldClock
    private let logger: Logger
    private let random: any RandomSource
    /// This server's key, from which follow those of volumes that have none.
    private let own: HandleKey
    /// The time in which hosts reclaim what they held before a restart.
    private let graceNanoseconds: UInt64
    /// This host's name, as others know it.
    private let name: [UInt8]
    private let hosts: Guarded<LockHosts>
    private let grants: Guarded<LockGrants>
    private let monitored = Guarded(MonitorTable())
    private let ports = Guarded<[Port: UInt16]>([:])
    private let state = Guarded(State())
    private let turns = Turns()
    /// Everything of a host is to go. Set once, before anything is served.
    @exclusivity(unchecked) var forgets: @Sendable (UInt64) -> Void = { _ in }
    /// Whether a host holds something beside locks. Set once, too.
    @exclusivity(unchecked) var holdsMore: @Sendable (UInt64) -> Bool = { _ in false }

    private struct Port: Hashable {
        var target: RPCTarget
        var transport: Rpcbind.Transport
    }

    /// Records of a host are written and removed one after the other, as somebody counts on each. On the client's loop only.
    private final class Turns: @unchecked Sendable {
        static let waitingMax = 1024
        private var queues: [UInt64: (queue: TurnQueue, users: Int)] = [:]

        func enter(_ host: UInt64) async -> Bool {
            let queue = queues[host]?.queue ?? TurnQueue(waitingMax: Self.waitingMax)
            queues[host, default: (queue, 0)].users += 1
            if await queue.enter() { return true }
            forget(host)
            return false
        }

        func leave(_ host: UInt64) {
            queues[host]?.queue.leave()
            forget(host)
        }

        private func forget(_ host: UInt64) {
            queues[host]?.users -= 1
            if queues[host]?.users == 0 { queues[host] = nil }
        }
    }

    private struct State {
        /// Odd: this host is up (X/Open XNFS 11.3.6).
        var number: Int32 = 1
        /// Keys of the volumes that are here.
        var attached: [UInt64: KeyedHash] = [:]
    }

    public init(
        _ context: NFSContext, client: RPCClient, random: any RandomSource, logger: Logger, name: String,
        graceNanoseconds: UInt64 = HostMonitor.graceDefault
    ) {
        volumes = context.volumes
        clock = context.clock
        self.client = client
        self.logger = logger
        self.graceNanoseconds = graceNanoseconds
        self.name = Array(name.utf8)
        self.random = random
        own = context.key
        hosts = Guarded(LockHosts(key: context.key.hash))
        grants = Guarded(LockGrants(cookie: random.next()))
    }

    public static let graceDefault: UInt64 = 45_000_000_000

    func withHosts<Value>(_ body: (inout LockHosts) -> Value) -> Value { hosts.withLock { body(&$0) } }
    func withGrants<Value>(_ body: (inout LockGrants) -> Value) -> Value { grants.withLock { body(&$0) } }
    func withMonitored<Value>(_ body: (inout MonitorTable) -> Value) -> Value { monitored.withLock { body(&$0) } }
    var number: Int32 { state.withLock { $0.number } }

    // MARK: Hosts that lock

    /// The owner that a request names, once its host is written down with the volume: what is granted before may be lost in
    /// a restart that the host never hears of.
    func admit(_ work: LockWork, _ place: NFSPlace, isMonitored: Bool) -> Attempt<LockOwner> {
        let request = work.request
        let locks = volumes.locks
        let entered = hosts.withLock { hosts -> (LockOwner, hasRestarted: Bool)? in
            guard
                let number = hosts.enter(
                    request.caller, work.address, work.local, holds: { locks.holds(client: $0) || holdsMore($0) })
            else { return nil }
            let owner = hosts.owner(number, request.process, request.owner)
            guard hosts.enter(owner, request.process, request.owner, holds: { locks.holds($0) }) else { return nil }
            return (owner, hosts.saw(request.state, of: number))
        }
        guard let (owner, hasRestarted) = entered else { return .refused(.tooManyLocks) }
        if hasRestarted { forgets(owner.client) }
        if isMonitored, let lack = recording(owner.client, place.volume) { return .lacks(lack) }
        return .done(owner, number: 0)
    }

    /// What a lock of the host lacks: that it is written down with the volume. Nil: it is, or can not be.
    func recording(_ host: UInt64, _ volume: Volume) -> Lack? {
        guard !volume.isReadOnly, !hosts.withLock({ $0.isRecorded(host, in: volume.identity) }) else { return nil }
        let loop = client.loop
        return Lack { [self] () async throws(FileError) in
            let written = loop.task { [self] () async -> FileError? in
                do throws(FileError) { try await record(host, volume) } catch { return error }
                return nil
            }
            if let error = await written.value { throw error }
        }
    }

    /// All who need the record at once share one writing. On the client's loop.
    private func record(_ number: UInt64, _ volume: Volume) async throws(FileError) {
        guard await turns.enter(number) else { throw .tooManyLocks }
        defer { turns.leave(number) }
        guard let host = withHosts({ $0.hosts[number] }), !host.volumes.contains(volume.identity) else { return }
        do throws(FileError) {
            let settings = VolumeSettings(volume, clock: clock, loop: client.loop)
            try await settings.set(Self.name(of: number), HostRecord(host).bytes)
        } catch {
            // A file system that keeps nothing beside its files: locks end with the server.
            guard error == .notSupported else { throw error }
        }
        withHosts { $0.recorded(number, in: volume.identity) }
    }

    static func name(of host: UInt64) -> String {
        let digits = String(host, radix: 16)
        return VolumeSettings.monitored + String(repeating: "0", count: 16 - digits.count) + digits
    }

    // MARK: Restarts of others

    /// A host says that it restarted: what it held goes.
    func restarted(_ name: [UInt8], _ state: Int32, from address: SocketAddress) {
        let gone = hosts.withLock { $0.restarted(name, state, from: address.unmapped) }
        for host in gone { forgets(host) }
        logger.info(
            gone.isEmpty ? "lock client restarted, and held nothing" : "lock client restarted: its locks are gone",
            [
                .init("client", String(decoding: name.prefix(255), as: UTF8.self)),
                .init("address", address.unmapped.host), .init("state", Int(state)),
            ])
    }

    // MARK: Restarts of ours

    /// Whether those who held locks in the volume are known, and may reclaim them. Before that nobody may lock there.
    public func isAttached(_ volume: UInt64) -> Bool { key(of: volume) != nil }

    /// What handles of the volume are made under; nil: it is not attached.
    public func key(of volume: UInt64) -> KeyedHash? { state.withLock { $0.attached[volume] } }

    /// Takes note of the volumes that are served. Of one that is new here, the hosts that held locks in it are told that
    /// they are gone, and may claim them again; one that was here before and was away is new. On the client's loop.
    public func attach(_ served: [Volume]) async {
        let here = Set(served.map(\.identity))
        state.withLock { $0.attached = $0.attached.filter { here.contains($0.key) } }
        withHosts { $0.forget(volumesBut: here) }
        for volume in served where !isAttached(volume.identity) {
            do throws(FileError) {
                let (found, key) = try await restore(volume)
                defer { state.withLock { $0.attached[volume.identity] = key } }
                guard !found.isEmpty else { continue }
                volumes.locks.beginGrace(nanoseconds: graceNanoseconds, clients: found)
                logger.info(
                    "lock clients may reclaim",
                    [.init("volume", volume.name), .init("clients", found.count)])
                for host in found { client.loop.task { [self] in await notify(host, volume) } }
            } catch {
                if error == .notSupported {
                    state.withLock { $0.attached[volume.identity] = own.key(ofVolume: volume.identity).hash }
                    continue
                }
                logger.error(
                    "lock clients of a volume are not known",
                    [.init("volume", volume.name), .init("why", "\(error)")])
            }
        }
    }

    /// The volume's own key. Where there is none yet it follows from this server's, so that what was served read-only, or by a file
    /// system that keeps none, is known by the same handles later; and it tells nothing of that one.
    private func key(_ settings: VolumeSettings, _ volume: Volume) async throws(FileError) -> KeyedHash {
        if let kept = try await settings.value(VolumeSettings.handleKey) {
            guard let key = HandleKey(kept) else {
                throw .inputOutput("the key of its NFS handles is damaged: setting \(VolumeSettings.handleKey)")
            }
            return key.hash
        }
        let key = own.key(ofVolume: volume.identity)
        guard !volume.isReadOnly else { return key.hash }
        try await settings.set(VolumeSettings.handleKey, key.bytes)
        // Whoever takes the volume over without this server's log has it, too.
        volume.whenSettled(volume.newestChange, .store, on: client.loop) { _ in }
        return key.hash
    }

    private func restore(_ volume: Volume) async throws(FileError) -> (hosts: [UInt64], key: KeyedHash) {
        let settings = VolumeSettings(volume, clock: clock, loop: client.loop)
        let text = try await settings.value(Self.stateName)
        let key = try await key(settings, volume)
        let kept = text.flatMap { Int32(String(decoding: $0, as: UTF8.self)) } ?? 0
        // Another state than any that a host may remember of us.
        let number = state.withLock { state in
            state.number = max(state.number, (max(kept, 0) & 0x3fff_ffff | 1) + 2)
            return state.number
        }
        if !volume.isReadOnly { try await settings.set(Self.stateName, Array("\(number)".utf8)) }
        var found: [UInt64] = []
        for name in try await settings.names(VolumeSettings.monitored) where name != Self.stateName {
            guard let bytes = try await settings.value(name), let record = HostRecord(bytes),
                let host = hosts.withLock({ $0.restore(record.host, volume: volume.identity) })
            else {
                logger.warning(
                    "record of a lock client is damaged", [.init("volume", volume.name), .init("name", name)])
                continue
            }
            if name != Self.name(of: host), !volume.isReadOnly {
                // Another server of the volume had another number for it.
                try await settings.set(Self.name(of: host), bytes)
                try await settings.set(name, nil)
            }
            found.append(host)
        }
        return (found, key)
    }

    /// Tells a host that this server has restarted, by all the names that it may know it by, until it answers.
    private func notify(_ number: UInt64, _ volume: Volume) async {
        guard let host = withHosts({ $0.hosts[number] }) else { return }
        var pause: UInt64 = 1_000_000_000
        for _ in 0..<Self.noticesMax {
            let target = RPCTarget(
                host.address, from: host.local, program: StatusMonitor.program, version: StatusMonitor.version)
            do throws(RPCClientError) {
                for name in [Array(host.local.host.utf8), name] {
                    let block = Block(capacity: StatusMonitor.nameMax + 16)
                    var writer = Writer(block.free)
                    name.prefix(StatusMonitor.nameMax).withUnsafeBytes { name in
                        MonitorChange(name: name, state: self.number).write(into: &writer)
                    }
                    _ = try await call(target, MonitorProcedure.notify.rawValue, Array(writer.written))
                }
                logger.info("lock client told of the restart", [.init("client", host.address.host)])
                return await settle(number, volume)
            } catch {
                logger.debug(
                    "lock client not told of the restart",
                    [.init("client", host.address.host), .init("why", "\(error)")])
            }
            await client.loop.sleep(nanoseconds: pause)
            pause = min(pause * 2, 60_000_000_000)
        }
        logger.warning("lock client not told of the restart", [.init("client", host.address.host)])
        await settle(number, volume)
    }

    /// When the time to reclaim is over, a host that holds nothing, and waits for nothing that may become its own without
    /// another word of it, need not be told of the next restart.
    private func settle(_ number: UInt64, _ volume: Volume) async {
        await client.loop.sleep(nanoseconds: graceNanoseconds + 1_000_000_000)
        guard !concerns(number), volumes[volume.identity] != nil, await turns.enter(number) else { return }
        defer { turns.leave(number) }
        // Who locks from here on finds no record, and waits for its turn to write one; who has just locked is seen here.
        let isLeaving = withHosts { hosts in
            if concerns(number) { return false }
            hosts.unrecorded(number, in: volume.identity)
            return true
        }
        guard isLeaving else { return }
        guard !concerns(number) else { return withHosts { $0.recorded(number, in: volume.identity) } }
        do throws(FileError) {
            let settings = VolumeSettings(volume, clock: clock, loop: client.loop)
            try await settings.set(Self.name(of: number), nil)
            // One who locks meanwhile finds himself unrecorded, and comes again.
            withHosts { hosts in if !concerns(number) { hosts.forget(number) } }
        } catch {
            logger.warning("record of a lock client stays", [.init("volume", volume.name), .init("why", "\(error)")])
        }
    }

    private func concerns(_ host: UInt64) -> Bool {
        volumes.locks.holds(client: host) || holdsMore(host) || withGrants { $0.concerns(host: host) }
    }

    /// As if this server had crashed: all locks of hosts go, and they are told (X/Open XNFS 11.3.5).
    func simulateCrash() {
        let number = state.withLock { state in
            state.number += 2
            return state.number
        }
        let all = withHosts { Array($0.hosts) }
        logger.warning("locks dropped as if after a crash", [.init("state", Int(number)), .init("clients", all.count)])
        volumes.locks.beginGrace(nanoseconds: graceNanoseconds, clients: all.map(\.key))
        for (number, _) in all { forgets(number) }
        for (number, host) in all {
            guard let volume = host.volumes.sorted().lazy.compactMap({ self.volumes[$0] }).first else { continue }
            client.loop.task { [self] in await notify(number, volume) }
        }
    }

    // MARK: Calling hosts

    /// Calls a host's program, where its rpcbind says that it is: over UDP, or over TCP where it takes only that.
    func call(_ target: RPCTarget, _ procedure: UInt32, _ arguments: [UInt8]) async throws(RPCClientError) -> [UInt8] {
        try await call(try await located(target), target, procedure, arguments)
    }

    /// The same when it is known where the program is: a datagram leaves at once.
    func call(
        _ place: Place, _ target: RPCTarget, _ procedure: UInt32, _ arguments: [UInt8]
    ) async throws(RPCClientError) -> [UInt8] {
        do throws(RPCClientError) {
            return try await client.call(place.target, procedure, over: place.transport, arguments, tries: 1)
        } catch {
            // It may have moved: the next call asks again.
            ports.withLock { $0[Port(target: target, transport: place.transport)] = nil }
            throw error
        }
    }

    /// The same for a message that has no answer.
    func tell(_ target: RPCTarget, _ procedure: UInt32, _ arguments: [UInt8]) async throws(RPCClientError) {
        client.tell(try await located(target, .udp), procedure, arguments)
    }

    /// Where a host's program is.
    struct Place: Sendable {
        var target: RPCTarget
        var transport: Rpcbind.Transport
    }

    func located(_ target: RPCTarget) async throws(RPCClientError) -> Place {
        do throws(RPCClientError) {
            return Place(target: try await located(target, .udp), transport: .udp)
        } catch {
            guard error == .notRegistered else { throw error }
            return Place(target: try await located(target, .tcp), transport: .tcp)
        }
    }

    private func located(
        _ target: RPCTarget, _ transport: Rpcbind.Transport
    ) async throws(RPCClientError) -> RPCTarget {
        let key = Port(target: target, transport: transport)
        var there = target
        if let known = ports.withLock({ $0[key] }) {
            there.address = target.address.with(port: known)
            return there
        }
        let port = try await client.port(of: target, over: transport)
        ports.withLock { ports in
            if ports.count >= Self.portsMax { ports.removeAll() }
            ports[key] = port
        }
        there.address = target.address.with(port: port)
        return there
    }
}

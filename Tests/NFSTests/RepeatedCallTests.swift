import NFS
import RPC
import Runtime
import Simulator
import TestSupport
import Testing
import WireSamples

/// Changes over a network that loses, doubles, delays and cuts, by a server that crashes: each is made once, and has its
/// first answer however often it is asked for.
@Suite struct RepeatedCallTests {
    private static let lives = 6

    private static func mix() -> FaultMix {
        var mix = FaultMix.none
        (mix.lostDatagram, mix.duplicatedDatagram, mix.reorderedDatagram) = (6, 6, 6)
        (mix.partialRead, mix.partialWrite, mix.slowSegment) = (8, 8, 20)
        (mix.reset, mix.halfOpen, mix.partition, mix.longDelay) = (60, 20, 400, 50)
        return mix
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>) func everyChangeIsMadeOnce(_ seed: UInt64) throws {
        let simulation = Simulation(seed: seed, faults: Self.mix())
        var random = WireSamples.SeededRandom(seed)
        let clients = (0..<4).map { NameClient("client-\($0)", isStream: $0 % 2 == 1, seed: seed * 100 + UInt64($0)) }
        for life in 0..<Self.lives {
            let opened = simulation.perform { world in try? await SimulatedServer(world) }
            let server = try #require(opened ?? nil, "seed \(seed): the server does not start")
            let isLast = life == Self.lives - 1
            let hosts = clients.map { $0.begin(simulation, steps: isLast ? 40 : .max) }
            for client in clients { simulation.loop.task { await client.work() } }
            let time = isLast ? 3_600_000_000_000 : 20_000_000 + random.next() % 3_000_000_000
            simulation.run(for: time) { clients.allSatisfy(\.isDone) }
            for host in hosts { host.isOver = true }
            for client in clients {
                #expect(client.failures == [], "seed \(seed), life \(life), \(client.name)")
                #expect(!isLast || client.isDone, "seed \(seed): \(client.name) is not answered")
            }
            withExtendedLifetime(server) {}
            guard !isLast else { break }
            if random.next() % 2 == 0 {
                simulation.crash()
                simulation.restart()
            } else {
                simulation.killAndRestart()
            }
        }
        // A run that met nothing shows nothing.
        let counts = simulation.counts
        #expect(counts.lostDatagrams > 0 && counts.duplicatedDatagrams > 0, "seed \(seed)")
        #expect(clients.allSatisfy { $0.changes > 5 }, "seed \(seed): \(clients.map(\.changes))")
        #expect(clients.reduce(0) { $0 + $1.repeats } > 5, "seed \(seed)")
    }
}

/// One client with a directory of its own, so that it knows what each answer has to be; its calls come one after the other.
private final class NameClient: @unchecked Sendable {
    private struct Node: Equatable {
        var number: Int
        var isDirectory: Bool
    }

    private enum Change {
        case home
        case directory(String)
        case file(String)
        case link(String, String)
        case rename(String, String)
        case remove(String, isDirectory: Bool)
        case mode(Int)
        case cut(Int)
        /// Made again without harm; it shows what a truncation that comes twice has cut off.
        case write(Int, UInt8)

        /// Whether the server keeps the answer when it is good.
        var isKept: Bool { if case .write = self { false } else { true } }
    }

    private struct Pending {
        var change: Change
        var message: RPCMessage
        var expected: NFS3Status
    }

    private static let names = (0..<6).map { "n\($0)" }

    let name: String
    private let isStream: Bool
    private var random: WireSamples.SeededRandom
    private var host: SimulatedHost?
    private var xid: UInt32
    private var stepsLeft = 0
    private var wasKept = true

    private var home: [UInt8] = []
    private var entries: [String: Node] = [:]
    private var handles: [Int: [UInt8]] = [:]
    private var contents: [Int: UInt8] = [:]
    private var nextNode = 0
    private var pending: Pending?

    private(set) var isDone = false
    private(set) var changes = 0
    private(set) var repeats = 0
    private(set) var failures: [String] = []

    init(_ name: String, isStream: Bool, seed: UInt64) {
        self.name = name
        self.isStream = isStream
        random = WireSamples.SeededRandom(seed)
        xid = UInt32(truncatingIfNeeded: seed << 16)
    }

    func begin(_ simulation: Simulation, steps: Int) -> SimulatedHost {
        let host = SimulatedHost(simulation, name, isStream: isStream)
        self.host = host
        stepsLeft = steps
        isDone = false
        return host
    }

    private func next() -> UInt32 {
        xid &+= 1
        return xid
    }

    func work() async {
        guard let host else { return }
        do {
            while !host.isOver, stepsLeft > 0 || pending != nil {
                if pending == nil {
                    stepsLeft -= 1
                    pending = try await plan(host)
                }
                guard let pending else { continue }
                guard let reply = await host.exchange(pending.message) else { break }
                try check(pending, reply, host)
                self.pending = nil
                changes += 1
                // A call that the server keeps no answer of does harm when the network brings it again later.
                await host.loop.sleep(nanoseconds: wasKept ? random.next() % 2_000_000 : 4_000_000)
            }
            if !host.isOver { try await compare(host) }
        } catch { failures.append("\(error)") }
        repeats += host.repeats
        if !host.isOver { isDone = true }
    }

    // MARK: Choosing

    private func any(_ isWanted: (Node) -> Bool) -> String? {
        let found = entries.filter { isWanted($0.value) }.keys.sorted()
        return found.isEmpty ? nil : found[Int(random.next() % UInt64(found.count))]
    }

    private func plan(_ host: SimulatedHost) async throws -> Pending? {
        guard !home.isEmpty else {
            guard let root = try await host.root(xid: next()) else { return nil }
            let place = NFS3MakeDirectoryArguments(
                place: host.name(root, name), attributes: NFS3SetAttributes(mode: 0o755))
            return Pending(
                change: .home, message: host.message(.makeDirectory, .makeDirectory(place), xid: next()), expected: .ok)
        }
        let free = Self.names.filter { entries[$0] == nil }
        let fresh = free.isEmpty ? nil : free[Int(random.next() % UInt64(free.count))]
        // What the server refuses it keeps no answer of, and a connection's bytes may come late.
        let mayFail = !isStream && random.next() % 5 == 0
        switch random.next() % 9 {
        case 0:
            guard let target = mayFail ? any({ _ in true }) : fresh else { return nil }
            let arguments = NFS3MakeDirectoryArguments(
                place: host.name(home, target), attributes: NFS3SetAttributes(mode: 0o755))
            return Pending(
                change: .directory(target),
                message: host.message(.makeDirectory, .makeDirectory(arguments), xid: next()),
                expected: entries[target] == nil ? .ok : .exists)
        case 1, 2:
            guard let target = mayFail ? any({ _ in true }) : fresh else { return nil }
            let arguments = NFS3CreateArguments(
                place: host.name(home, target), how: .guarded(NFS3SetAttributes(mode: 0o644)))
            return Pending(
                change: .file(target), message: host.message(.create, .create(arguments), xid: next()),
                expected: entries[target] == nil ? .ok : .exists)
        case 3:
            guard let source = any({ !$0.isDirectory }), let target = fresh, let node = entries[source],
                let handle = handles[node.number]
            else { return nil }
            let arguments = NFS3LinkArguments(file: NFS3Handle(host.keep(handle)), place: host.name(home, target))
            return Pending(
                change: .link(source, target), message: host.message(.link, .link(arguments), xid: next()),
                expected: .ok)
        case 4:
            guard let source = any({ _ in true }), let node = entries[source] else { return nil }
            let over = any { $0.isDirectory == node.isDirectory && $0 != node }
            guard let target = random.next() % 2 == 0 ? over : fresh else { return nil }
            let arguments = NFS3RenameArguments(from: host.name(home, source), to: host.name(home, target))
            return Pending(
                change: .rename(source, target), message: host.message(.rename, .rename(arguments), xid: next()),
                expected: .ok)
        case 5:
            let isDirectory = random.next() % 2 == 0
            guard let target = mayFail ? fresh : any({ $0.isDirectory == isDirectory }) else { return nil }
            let name = host.name(home, target)
            return Pending(
                change: .remove(target, isDirectory: isDirectory),
                message: isDirectory
                    ? host.message(.removeDirectory, .removeDirectory(name), xid: next())
                    : host.message(.remove, .remove(name), xid: next()),
                expected: entries[target] == nil ? .noEntry : .ok)
        case 6: return try await planMode(host)
        default:
            guard let target = any({ !$0.isDirectory }), let node = entries[target], let handle = handles[node.number]
            else { return nil }
            let file = NFS3Handle(host.keep(handle))
            if isStream || random.next() % 2 == 0 {
                let arguments = NFS3SetAttributesArguments(
                    object: file, attributes: NFS3SetAttributes(size: 0), guardTime: nil)
                return Pending(
                    change: .cut(node.number),
                    message: host.message(.setAttributes, .setAttributes(arguments), xid: next()), expected: .ok)
            }
            let byte = UInt8(truncatingIfNeeded: random.next() | 1)
            let arguments = NFS3WriteArguments(
                file: file, offset: 0, count: 8, stability: .fileSync,
                data: host.keep([UInt8](repeating: byte, count: 8)))
            return Pending(
                change: .write(node.number, byte), message: host.message(.write, .write(arguments), xid: next()),
                expected: .ok)
        }
    }

    /// A change that is guarded by the time of the last one: made twice it would be refused.
    private func planMode(_ host: SimulatedHost) async throws -> Pending? {
        guard let target = any({ _ in true }), let node = entries[target], let handle = handles[node.number],
            let found = try await attributes(handle, host)
        else { return nil }
        let arguments = NFS3SetAttributesArguments(
            object: NFS3Handle(host.keep(handle)),
            attributes: NFS3SetAttributes(mode: UInt32(0o600 | random.next() % 0o200)), guardTime: found.changed)
        return Pending(
            change: .mode(node.number), message: host.message(.setAttributes, .setAttributes(arguments), xid: next()),
            expected: .ok)
    }

    private func attributes(_ handle: [UInt8], _ host: SimulatedHost) async throws -> NFS3Attributes? {
        let message = host.message(.getAttributes, .getAttributes(NFS3Handle(host.keep(handle))), xid: next())
        guard let reply = await host.exchange(message) else { return nil }
        return try host.results(reply, NFS3Results.GetAttributes.self).success
    }

    // MARK: Comparing

    private func check(_ pending: Pending, _ reply: RPCReply, _ host: SimulatedHost) throws {
        let status: NFS3Status
        var made: [UInt8]?
        switch pending.change {
        case .home, .directory, .file:
            let results = try host.results(reply, NFS3Results.Create.self)
            status = results.status
            made = results.success?.object.map { Array($0.bytes) }
        case .link: status = try host.results(reply, NFS3Results.Link.self).status
        case .rename: status = try host.results(reply, NFS3Results.Rename.self).status
        case .remove: status = try host.results(reply, NFS3Results.Remove.self).status
        case .mode, .cut: status = try host.results(reply, NFS3Results.SetAttributes.self).status
        case .write: status = try host.results(reply, NFS3Results.Write.self).status
        }
        wasKept = status == .ok && pending.change.isKept
        guard status == pending.expected else {
            failures.append("\(pending.change): \(status), not \(pending.expected)")
            return
        }
        if status == .ok { apply(pending.change, made) }
    }

    private func apply(_ change: Change, _ made: [UInt8]?) {
        func enter(_ name: String, isDirectory: Bool) {
            entries[name] = Node(number: nextNode, isDirectory: isDirectory)
            handles[nextNode] = made
            nextNode += 1
        }
        switch change {
        case .home: home = made ?? []
        case .directory(let name): enter(name, isDirectory: true)
        case .file(let name): enter(name, isDirectory: false)
        case .link(let source, let target): entries[target] = entries[source]
        case .rename(let source, let target): entries[target] = entries.removeValue(forKey: source)
        case .remove(let name, _): entries[name] = nil
        case .mode: break
        case .cut(let node): contents[node] = nil
        case .write(let node, let byte): contents[node] = byte
        }
    }

    /// Names, files, links and bytes are what the answers said.
    private func compare(_ host: SimulatedHost) async throws {
        for target in Self.names where !home.isEmpty {
            guard let reply = await host.exchange(host.message(.lookup, .lookup(host.name(home, target)), xid: next()))
            else { return }
            let found = try host.results(reply, NFS3Results.Lookup.self)
            guard let node = entries[target] else {
                if found.status != .noEntry { failures.append("\(target) is there: \(found.status)") }
                continue
            }
            guard let success = found.success, success.object.bytes.elementsEqual(handles[node.number] ?? []) else {
                failures.append("\(target) is another file, or none: \(found.status)")
                continue
            }
            guard !node.isDirectory else { continue }
            let links = entries.values.filter { $0 == node }.count
            if success.attributes?.links != UInt32(links) { failures.append("\(target) has other links than \(links)") }
            let arguments = NFS3ReadArguments(file: success.object, offset: 0, count: 100)
            guard let answer = await host.exchange(host.message(.read, .read(arguments), xid: next())) else { return }
            let bytes = try host.results(answer, NFS3Results.Read.self).success.map { Array($0.data) }
            let expected = contents[node.number].map { [UInt8](repeating: $0, count: 8) } ?? []
            if bytes != expected { failures.append("\(target) holds \(bytes ?? []), not \(expected)") }
        }
    }
}

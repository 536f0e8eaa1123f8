import Bytes
import Glibc
import Logging
import NFS
import RPC
import Runtime
import Simulator
import TestSupport
import Testing
import WireSamples

/// Locks over a network that loses, doubles and delays datagrams, by a server that crashes: never two holders of one byte,
/// and nobody waits for ever.
@Suite struct LostLockMessageTests {
    private static let lives = 4
    private static let second: UInt64 = 1_000_000_000

    private static func mix() -> FaultMix {
        var mix = FaultMix.none
        (mix.lostDatagram, mix.duplicatedDatagram, mix.reorderedDatagram) = (12, 8, 8)
        mix.longDelay = 50
        return mix
    }

    /// PROXYFS_LOCK_SEEDS: how many instead, for a longer look.
    static let seeds: ClosedRange<UInt64> =
        1...(getenv("PROXYFS_LOCK_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 8)

    @Test(arguments: seeds) func nobodyHoldsWhatAnotherHolds(_ seed: UInt64) throws {
        let simulation = Simulation(seed: seed, faults: Self.mix())
        var random = WireSamples.SeededRandom(seed)
        let book = LockBook()
        let hosts = (0..<3).map { LockingHost("host-\($0)", book, processes: 3, seed: seed * 10 + UInt64($0)) }
        for life in 0..<Self.lives {
            let opened = simulation.perform { world in try? await SimulatedServer(world) }
            let server = try #require(opened ?? nil, "seed \(seed): the server does not start")
            let isLast = life == Self.lives - 1
            for host in hosts { try host.begin(simulation, rounds: isLast ? 10 : .max) }
            let time = isLast ? 7200 * Self.second : Self.second + random.next() % (120 * Self.second)
            simulation.run(for: time) { hosts.allSatisfy(\.isDone) }
            for host in hosts { host.end() }
            #expect(book.failures == [], "seed \(seed), life \(life)")
            #expect(
                !isLast || hosts.allSatisfy(\.isDone), "seed \(seed): somebody waits for ever: \(hosts.map(\.words))")
            withExtendedLifetime(server) {}
            guard !isLast else { break }
            if random.next() % 2 == 0 {
                simulation.crash()
                simulation.restart()
            } else {
                simulation.killAndRestart()
            }
        }
        #expect(simulation.counts.lostDatagrams > 0 && simulation.counts.duplicatedDatagrams > 0)
        // What a run has to have met.
        #expect(book.granted > 30 && book.callbacks > 3 && book.notices > 3, "seed \(seed): \(book)")
        print("seed \(seed): \(book)")
    }
}

/// Who believes to hold what, over all hosts.
private final class LockBook: CustomStringConvertible {
    private var held: [ObjectIdentifier: (range: ClosedRange<UInt64>, words: String)] = [:]
    private(set) var failures: [String] = []
    private(set) var granted = 0
    var callbacks = 0
    var reclaimed = 0
    var cancelled = 0
    /// Locks that were held when a server began, and tellings of its restart.
    var kept = 0
    var notices = 0

    func takes(_ process: LockingProcess, _ range: ClosedRange<UInt64>) {
        granted += 1
        note("\(process.words) holds")
        let others = held.filter { $0.key != ObjectIdentifier(process) && $0.value.range.overlaps(range) }
        for (_, other) in others {
            let last = trail.suffix(30).joined(separator: "; ")
            failures.append("\(process.words), what \(other.words): \(last)")
        }
        held[ObjectIdentifier(process)] = (range, process.words)
    }

    func gives(_ process: LockingProcess) {
        note("\(process.words) gives")
        held[ObjectIdentifier(process)] = nil
    }

    /// What happened last, for whoever looks into a failure.
    private var trail: [String] = []
    func note(_ what: String) {
        trail.append(what)
        if trail.count > 200 { trail.removeFirst(100) }
    }
    func fails(_ what: String) { failures.append(what) }

    var description: String {
        "\(granted) granted, \(callbacks) by callback, \(reclaimed) reclaimed, \(cancelled) cancelled, \(kept) kept, \(notices) notices"
    }
}

/// A process that takes locks and gives them back. What it believes outlives the server.
private final class LockingProcess: @unchecked Sendable {
    enum State { case idle, waits, holds }

    let number: Int32
    let host: String
    var state = State.idle
    var range: ClosedRange<UInt64> = 0...0
    /// The request whose answer is still to come; it is sent again when the server is back.
    var pending: RPCMessage?
    /// The host takes back what it held before the server's restart.
    var isReclaiming = false

    init(_ number: Int32, _ host: String) {
        self.number = number
        self.host = host
    }

    var words: String { "\(host) \(number) \(state) \(range)" }
}

/// A host with a lock manager and a monitor of its own, on the ports that its rpcbind tells.
private final class LockingHost: RPCProgram, @unchecked Sendable {
    private static let managerPort: UInt16 = 4045
    private static let millisecond: UInt64 = 1_000_000
    /// A wait is asked for again after so long, if nobody calls back.
    private static let pollAfter: UInt64 = 4_000_000_000
    private static let ranges: [ClosedRange<UInt64>] = [0...9, 5...14, 10...19]

    /// Its rpcbind.
    let number: UInt32 = 100_000
    let versions: ClosedRange<UInt32> = 2...2

    private let name: String
    private let book: LockBook
    private let processes: [LockingProcess]
    private var random: WireSamples.SeededRandom
    private var host: SimulatedHost?
    private var sockets: [DatagramSocket] = []
    private var file: [UInt8] = []
    private var xid: UInt32
    private var cookie: UInt32 = 0
    private var serverState: Int32 = 0
    /// To callbacks, by their numbers.
    private var answers: [UInt32: LockStatus] = [:]
    private var rounds = 0
    private var finished = 0

    init(_ name: String, _ book: LockBook, processes: Int32, seed: UInt64) {
        self.name = name
        self.book = book
        self.processes = (1...processes).map { LockingProcess($0, name) }
        random = WireSamples.SeededRandom(seed)
        xid = UInt32(truncatingIfNeeded: seed << 20)
    }

    var isDone: Bool { finished == processes.count }
    var words: [String] { processes.map(\.words) }

    func begin(_ simulation: Simulation, rounds: Int) throws {
        let host = SimulatedHost(simulation, name, isStream: false)
        self.host = host
        self.rounds = rounds
        answers = [:]
        for process in processes where process.state == .holds && process.pending == nil {
            process.isReclaiming = true
            book.kept += 1
        }
        finished = 0
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        let server = RPCServer(
            programs: [
                self, Callbacks(self, LockManager.program, 1...4), Callbacks(self, StatusMonitor.program, 1...1),
            ],
            on: [simulation.loop], logger: logger)
        sockets = try [RPCClient.rpcbindPort, Self.managerPort].map { port in
            try server.datagrams(
                on: simulation.address(of: name, port: port), network: host.network, loop: simulation.loop)
        }
        simulation.loop.task { [self] in
            await findFile(host)
            for process in processes { host.loop.task { [self] in await work(process, host) } }
        }
    }

    func end() { host?.isOver = true }

    private func next() -> UInt32 {
        xid &+= 1
        return xid
    }

    // MARK: Calling

    private func findFile(_ host: SimulatedHost) async {
        do {
            guard let root = try await host.root(xid: next()) else { return }
            let create = NFS3CreateArguments(
                place: host.name(root, "file"), how: .unchecked(NFS3SetAttributes(mode: 0o666)))
            guard let reply = await host.exchange(host.message(.create, .create(create), xid: next())) else { return }
            let made = try host.results(reply, NFS3Results.Create.self)
            file = made.success?.object.map { Array($0.bytes) } ?? []
        } catch { book.fails("no file: \(error)") }
    }

    private func message(_ procedure: LockProcedure, _ arguments: [UInt8]) -> RPCMessage {
        var message = RPCMessage(LockManager.program, 4, procedure.rawValue, xid: next(), arguments)
        message.sign(uid: 0, gid: 0, machine: name)
        return message
    }

    private func description(_ process: LockingProcess, _ host: SimulatedHost) -> LockDescription<LockWidth64> {
        LockDescription(
            caller: host.keep(Array(name.utf8)), file: host.keep(file),
            owner: host.keep(Array("\(process.number)@\(name)".utf8)), process: process.number,
            offset: process.range.lowerBound, length: UInt64(process.range.count))
    }

    private func nextCookie(_ host: SimulatedHost) -> UnsafeRawBufferPointer {
        cookie += 1
        return host.keep(Array("\(cookie)".utf8))
    }

    private func lock(_ process: LockingProcess, _ host: SimulatedHost, isReclaim: Bool = false) -> RPCMessage {
        let arguments = LockArguments(
            cookie: nextCookie(host), mayBlock: !isReclaim, isExclusive: true, lock: description(process, host),
            isReclaim: isReclaim, state: 0)
        return message(.lock, encoded(capacity: 4096) { arguments.write(into: &$0) })
    }

    private func status(_ message: RPCMessage, _ host: SimulatedHost) async -> LockStatus? {
        guard let reply = await host.exchange(message) else { return nil }
        do { return try host.results(reply, LockResult.self).status } catch { return .failed }
    }

    // MARK: A process

    private func work(_ process: LockingProcess, _ host: SimulatedHost) async {
        var left = rounds
        while !host.isOver, left > 0 || process.state != .idle {
            switch process.state {
            case .idle:
                left -= 1
                process.range = Self.ranges[Int(random.next() % UInt64(Self.ranges.count))]
                await pause(host, upTo: 300)
                guard !host.isOver else { return }
                process.state = .waits
            case .waits: await ask(process, host)
            case .holds: await release(process, host)
            }
        }
        if !host.isOver { finished += 1 }
    }

    /// Longer than a datagram can be late: one that comes after the next request would be taken for a new one.
    private func pause(_ host: SimulatedHost, upTo milliseconds: UInt64) async {
        await host.loop.sleep(nanoseconds: (5 + random.next() % milliseconds) * Self.millisecond)
    }

    private func ask(_ process: LockingProcess, _ host: SimulatedHost) async {
        let message = process.pending ?? lock(process, host)
        process.pending = message
        guard let status = await status(message, host) else { return }
        process.pending = nil
        book.note("\(process.words) asks: \(status)")
        switch status {
        case .granted: if process.state == .waits { holds(process) }
        case .blocked:
            let end = host.loop.now + Self.pollAfter
            while process.state == .waits, host.loop.now < end, !host.isOver { await pause(host, upTo: 40) }
            // Some give up instead of asking again.
            if process.state == .waits, !host.isOver, random.next() % 4 == 0 { await cancel(process, host) }
        case .deniedGrace: await pause(host, upTo: 2000)
        default: book.fails("\(process.words): a lock is answered \(status)")
        }
        await pause(host, upTo: 20)
    }

    private func holds(_ process: LockingProcess) {
        process.state = .holds
        // Called back: the request is answered, whatever becomes of its own answer. What is pending from here on is an unlock.
        process.pending = nil
        book.takes(process, process.range)
    }

    private func release(_ process: LockingProcess, _ host: SimulatedHost) async {
        if process.pending == nil {
            await pause(host, upTo: 1500)
            // What the server does not know yet it can not take back.
            while process.isReclaiming, !host.isOver { await pause(host, upTo: 20) }
            guard !host.isOver else { return }
            book.gives(process)
            let arguments = LockUnlockArguments(cookie: nextCookie(host), lock: description(process, host))
            process.pending = message(.unlock, encoded(capacity: 4096) { arguments.write(into: &$0) })
        }
        guard let message = process.pending, let status = await status(message, host) else { return }
        process.pending = nil
        book.note("\(process.words) unlocks: \(status)")
        if status == .failed { book.fails("\(process.words): an unlock fails") }
        process.state = .idle
        await pause(host, upTo: 10)
    }

    private func cancel(_ process: LockingProcess, _ host: SimulatedHost) async {
        // From here on a callback finds nobody who waits.
        process.state = .idle
        book.cancelled += 1
        let arguments = LockCancelArguments(
            cookie: nextCookie(host), mayBlock: true, isExclusive: true, lock: description(process, host))
        let status = await status(message(.cancel, encoded(capacity: 4096) { arguments.write(into: &$0) }), host)
        book.note("\(process.words) cancels: \(status.map { "\($0)" } ?? "-")")
    }

    // MARK: Called back

    func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
        guard call.procedure == 3 else { return .refused(.procedureUnavailable) }
        results.writer.u32(UInt32(Self.managerPort))
        return .done
    }

    fileprivate func granted(
        _ xid: UInt32, _ arguments: inout Reader, _ results: inout Results
    ) throws(BytesError) {
        let grant = try LockTestArguments<LockWidth64>(reading: &arguments)
        guard host?.isOver == false else { throw .malformed }
        // The same datagram twice is one question: another answer to the second would take the lock back.
        var status = answers[xid] ?? .denied
        if answers[xid] == nil, let process = processes.first(where: { $0.number == grant.lock.process }),
            process.range.lowerBound == grant.lock.offset, process.state == .waits
        {
            book.callbacks += 1
            book.note("\(process.words) is called back")
            holds(process)
            status = .granted
        }
        answers[xid] = status
        LockResult(cookie: grant.cookie, status: status).write(into: &results.writer)
    }

    fileprivate func restarted(_ arguments: inout Reader) throws(BytesError) {
        let change = try MonitorChange(reading: &arguments)
        guard change.state != serverState, let host, !host.isOver else { return }
        serverState = change.state
        book.notices += 1
        for process in processes where process.state == .holds && process.pending == nil {
            process.isReclaiming = true
            host.loop.task { [self] in
                await reclaim(process, host)
                process.isReclaiming = false
            }
        }
    }

    private func reclaim(_ process: LockingProcess, _ host: SimulatedHost) async {
        while !host.isOver {
            let answer = await status(lock(process, host, isReclaim: true), host)
            book.note("\(process.words) reclaims: \(answer.map { "\($0)" } ?? "-")")
            switch answer {
            case nil: return
            case .granted:
                book.reclaimed += 1
                return
            case .deniedGrace: await pause(host, upTo: 100)
            case let status?:
                book.fails("\(process.words): a lock is not given back: \(status)")
                return
            }
        }
    }
}

/// A program of a host, beside its rpcbind.
private final class Callbacks: RPCProgram {
    let number: UInt32
    let versions: ClosedRange<UInt32>
    private let host: LockingHost

    init(_ host: LockingHost, _ number: UInt32, _ versions: ClosedRange<UInt32>) {
        self.host = host
        self.number = number
        self.versions = versions
    }

    func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
        do throws(BytesError) {
            switch (number, call.procedure) {
            case (LockManager.program, LockProcedure.granted.rawValue): try host.granted(call.xid, &arguments, &results)
            case (StatusMonitor.program, MonitorProcedure.notify.rawValue): try host.restarted(&arguments)
            default: return .refused(.procedureUnavailable)
            }
            return .done
        } catch { return .refused(.garbageArguments) }
    }
}

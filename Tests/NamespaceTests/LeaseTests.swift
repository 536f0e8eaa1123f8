import Namespace
import Simulator
import TestSupport
import Testing

private let file = FileID(subvolume: 1, inode: 7, generation: 1)

private func key(_ client: UInt128, _ key: UInt128 = 1) -> LeaseKey { LeaseKey(client: client, key: key) }

extension LeaseTable {
    fileprivate mutating func granted(
        _ key: LeaseKey, _ wanted: LeaseState, kind: LeaseKind = .lease, isShared: Bool = false, isLocked: Bool = false,
        isDirectory: Bool = false
    ) -> LeaseState {
        let grant = grant(
            key, on: file, kind: kind, wanted: wanted, isShared: isShared, isLocked: isLocked, isDirectory: isDirectory,
            hasEpoch: true)
        guard case .granted(let state, _, _) = grant else {
            Issue.record("\(grant)")
            return []
        }
        return state
    }
}

struct Row: Sendable {
    var kind: LeaseKind
    var state: LeaseState
    var operation: LeaseOperation
    var to: LeaseState
    var waits: Bool

    init(_ kind: LeaseKind, _ state: LeaseState, _ operation: LeaseOperation, _ to: LeaseState, _ waits: Bool) {
        self.kind = kind
        self.state = state
        self.operation = operation
        self.to = to
        self.waits = waits
    }
}

@Suite struct LeaseTests {
    private let readHandle: LeaseState = [.read, .handle]
    private let readWrite: LeaseState = [.read, .write]

    @Test func whatIsGranted() {
        var table = LeaseTable()
        expect(table.granted(key(1), [.handle, .write]) == [])
        expect(table.granted(key(1), .all, isLocked: true) == [])
        expect(table.granted(key(1), .all, isDirectory: true) == readHandle)
        expect(table.granted(key(2), .all) == readHandle)
        // Beside a lease that keeps handles open there are no oplocks.
        expect(table.granted(key(3), .all, kind: .oplock) == [])
        expect(table.granted(key(3), .read, kind: .oplock) == [])
        table.closed(key(1))
        // Asking for more of one's own.
        expect(table.granted(key(2), .all) == .all)
        expect(table.granted(key(2), .read) == .all)
        expect(table.granted(key(4), .read) == [])
        let other = FileID(subvolume: 1, inode: 8, generation: 1)
        expect(
            table.grant(key(2), on: other, kind: .lease, wanted: .read, isShared: false, isLocked: false) == .keyInUse)
        for _ in 0..<2 { table.closed(key(2)) }
        expect(table.count == 1)
        table.closed(key(2))
        expect(table.entryCount == 0)
    }

    /// Who has what, what is done, what the client is told to keep, and whether the operation waits.
    @Test(arguments: [
        Row(.lease, .all, .open, [.read, .handle], true),
        Row(.lease, [.read, .write], .open, .read, true),
        Row(.lease, .all, .openReplacing, [], true),
        Row(.lease, [.read, .handle], .openReplacing, [], false),
        Row(.lease, .all, .openUnshared, [.read, .write], true),
        Row(.lease, [.read, .handle], .openUnshared, .read, true),
        Row(.lease, .all, .read, [.read, .handle], true),
        Row(.lease, .all, .write, [], true),
        Row(.lease, [.read, .handle], .write, [], false),
        Row(.lease, .read, .write, [], false),
        Row(.lease, .all, .rename, [.read, .write], true),
        Row(.lease, [.read, .handle], .rename, .read, true),
        Row(.lease, [.read, .handle], .replace, [], true),
        Row(.lease, [.read, .handle], .directoryChange, [], false),
        Row(.oplock, .all, .open, .read, true),
        Row(.oplock, .all, .openSecurity, .read, true),
        Row(.oplock, [.read, .write], .open, .read, true),
        Row(.oplock, .all, .openReplacing, [], true),
        Row(.oplock, .all, .rename, .read, true),
        Row(.oplock, .read, .write, [], false),
        Row(.delegation, .all, .open, [], true),
        Row(.delegation, .read, .write, [], true),
        Row(.delegation, .read, .attributes, [], true),
    ])
    func whatIsBroken(_ row: Row) {
        var table = LeaseTable()
        expect(table.granted(key(1), row.state, kind: row.kind) == row.state)
        // Its own writes end an oplock of the second level, and nothing else.
        if row.kind != .oplock || row.state != .read {
            expect(table.check(file, by: key(1), row.operation, request: 1, now: 0) == .proceed)
            expect(table.takeActions().isEmpty)
        }
        expect(table.check(file, by: key(2), row.operation, request: 1, now: 0) == (row.waits ? .waits : .proceed))
        let isAwaited = row.kind == .delegation || row.state != .read
        #expect(
            table.takeActions() == [
                .sendBreak(key(1), from: row.state, to: row.to, epoch: 2, mustAcknowledge: isAwaited)
            ])
        guard row.waits else { return }
        expect(table.acknowledge(key(1), row.to, now: 1) == .accepted(row.to))
        expect(table.takeActions() == [.resume(1)])
        expect(table.check(file, by: key(2), row.operation, request: 1, now: 0) == .proceed)
        expect(table.state(key(1)) == row.to)
    }

    @Test func ownWritesEndTheSecondLevel() {
        var table = LeaseTable()
        expect(table.granted(key(1), .read, kind: .oplock) == .read)
        expect(table.check(file, by: key(1), .read, request: 1, now: 0) == .proceed)
        expect(table.takeActions().isEmpty)
        expect(table.check(file, by: key(1), .write, request: 1, now: 0) == .proceed)
        expect(
            table.takeActions() == [.sendBreak(key(1), from: .read, to: [], epoch: 2, mustAcknowledge: false)])
        expect(table.state(key(1)) == [])
    }

    @Test func nothingIsBroken() {
        for (state, operation) in [
            (LeaseState.all, LeaseOperation.openAttributes), (.all, .openSecurity), (.all, .attributes),
            ([.read, .handle], .open),
            (.read, .rename),
            ([.read, .handle], .read), ([.read, .write], .openUnshared),
        ] {
            var table = LeaseTable()
            expect(table.granted(key(1), state) == state)
            expect(table.check(file, by: nil, operation, request: 1, now: 0) == .proceed, "\(operation)")
            expect(table.takeActions().isEmpty, "\(operation)")
        }
    }

    @Test func acknowledgements() {
        var table = LeaseTable()
        expect(table.acknowledge(key(1), [], now: 0) == .unknown)
        expect(table.granted(key(1), .all) == .all)
        expect(table.acknowledge(key(1), [], now: 0) == .notBreaking)
        expect(table.check(file, by: nil, .read, request: 1, now: 0) == .waits)
        expect(table.check(file, by: nil, .rename, request: 2, now: 0) == .waits)
        expect(table.takeActions().count == 1)
        expect(
            table.grant(
                key(1), on: file, kind: .lease, wanted: .all, isShared: false, isLocked: false
            ) == .granted(.all, epoch: 2, isBreaking: true))
        expect(table.acknowledge(key(1), .all, now: 0) == .notAccepted)
        // What was demanded meanwhile follows.
        expect(table.acknowledge(key(1), readHandle, now: 5) == .accepted(readHandle))
        expect(
            table.takeActions() == [
                .sendBreak(key(1), from: readHandle, to: .read, epoch: 2, mustAcknowledge: true)
            ])
        // Less than allowed is fine.
        expect(table.acknowledge(key(1), [], now: 6) == .accepted([]))
        expect(table.takeActions() == [.resume(1), .resume(2)])
        expect(table.acknowledge(key(1), [], now: 7) == .notBreaking)
        table.closed(key(1))
        table.closed(key(1))

        expect(table.granted(key(1), .all, kind: .oplock) == .all)
        expect(table.check(file, by: nil, .open, request: 3, now: 0) == .waits)
        _ = table.takeActions()
        expect(table.acknowledge(key(1), readWrite, now: 0) == .notAccepted)
        expect(table.state(key(1)) == [] && table.takeActions() == [.resume(3)])
    }

    /// A client that was asked for its writes, and is to keep nothing by then, gives up its handles before the rest; whoever waits
    /// does so until the end.
    @Test func asksStepByStep() {
        var table = LeaseTable()
        expect(table.granted(key(1), .all) == .all)
        expect(table.check(file, by: nil, .open, request: 1, now: 0) == .waits)
        expect(table.check(file, by: nil, .openReplacing, request: 2, now: 0) == .waits)
        expect(table.takeActions().count == 1)
        expect(table.acknowledge(key(1), readHandle, now: 1) == .accepted(readHandle))
        expect(
            table.takeActions() == [
                .sendBreak(key(1), from: readHandle, to: .read, epoch: 2, mustAcknowledge: true)
            ])
        expect(table.acknowledge(key(1), .read, now: 2) == .accepted(.read))
        expect(
            table.takeActions() == [
                .sendBreak(key(1), from: .read, to: [], epoch: 2, mustAcknowledge: false), .resume(1), .resume(2),
            ])
        expect(table.state(key(1)) == [])
    }

    @Test func timeOut() {
        var table = LeaseTable()
        expect(table.granted(key(1), .all) == .all)
        expect(table.check(file, by: nil, .write, request: 1, now: 100) == .waits)
        let end = 100 + LeaseTable.breakNanoseconds
        expect(table.nextDeadline() == end)
        _ = table.takeActions()
        table.expire(end - 1)
        expect(table.takeActions().isEmpty)
        table.expire(end)
        expect(table.takeActions() == [.resume(1)])
        expect(table.acknowledge(key(1), [], now: end) == .notBreaking)
        expect(table.state(key(1)) == [] && table.nextDeadline() == nil)
        // A break that was answered has no time-out any more, though a later one has.
        expect(table.granted(key(1), .all) == .all)
        expect(table.check(file, by: nil, .read, request: 2, now: 1000) == .waits)
        expect(table.acknowledge(key(1), readHandle, now: 1001) == .accepted(readHandle))
        expect(table.check(file, by: nil, .rename, request: 3, now: 2000) == .waits)
        table.expire(1000 + LeaseTable.breakNanoseconds)
        expect(table.state(key(1)) == readHandle)
        table.expire(2000 + LeaseTable.breakNanoseconds)
        expect(table.state(key(1)) == [])
    }

    @Test func disconnected() {
        var table = LeaseTable()
        expect(table.granted(key(1), .all) == .all)
        table.disconnected(key(1))
        expect(table.check(file, by: nil, .open, request: 1, now: 0) == .waits)
        expect(table.takeActions() == [.closeDisconnected(key(1))])
        table.closed(key(1))
        expect(table.takeActions() == [.resume(1)])
        expect(table.granted(key(1), .all) == .all)
        expect(table.check(file, by: nil, .open, request: 1, now: 0) == .waits)
        _ = table.takeActions()
        // Asked before it went, it has its time to come back, and is asked once more then.
        table.disconnected(key(1))
        expect(table.takeActions() == [])
        table.reconnected(key(1))
        expect(
            table.takeActions() == [
                .sendBreak(key(1), from: .all, to: readHandle, epoch: 3, mustAcknowledge: true)
            ])
        // An answer by another connection of the client's says that it hears.
        table.disconnected(key(1))
        expect(table.acknowledge(key(1), readHandle, now: 0) == .accepted(readHandle))
        expect(table.takeActions() == [.resume(1)])
        expect(table.check(file, by: nil, .rename, request: 1, now: 0) == .waits)
        expect(
            table.takeActions() == [
                .sendBreak(key(1), from: readHandle, to: .read, epoch: 4, mustAcknowledge: true)
            ])
        // Behind its time its opens end, and those that nobody ends keep nobody waiting for ever.
        table.disconnected(key(1))
        table.expire(LeaseTable.breakNanoseconds - 1)
        expect(table.takeActions() == [])
        table.expire(LeaseTable.breakNanoseconds)
        expect(table.takeActions() == [.closeDisconnected(key(1))])
        table.expire(2 * LeaseTable.breakNanoseconds)
        expect(table.takeActions() == [.resume(1)])
    }

    @Test func limits() {
        var table = LeaseTable()
        for client in 1...UInt128(LeaseTable.leasesPerFileMax) {
            expect(table.granted(key(client), .read) == .read)
        }
        expect(table.granted(key(99_999), .read) == [])
        table.closed(key(5))
        expect(table.granted(key(99_999), .read) == .read)

        table = LeaseTable()
        expect(table.granted(key(1), .all) == .all)
        for request in 0..<UInt64(LeaseTable.waitsPerFileMax) {
            expect(table.check(file, by: nil, .open, request: request, now: 0) == .waits)
        }
        expect(table.check(file, by: nil, .open, request: 9999, now: 0) == .tooMany)
        table.cancel(request: 3, on: file)
        expect(table.check(file, by: nil, .open, request: 9999, now: 0) == .waits)
        table.closed(key(1))
        expect(
            table.takeActions().filter { if case .resume = $0 { true } else { false } }.count
                == LeaseTable.waitsPerFileMax)
        expect(table.entryCount == 0)

        table = LeaseTable()
        for number in 0..<UInt128(LeaseTable.leasesPerClientMax) {
            let file = FileID(subvolume: 1, inode: UInt64(number), generation: 1)
            _ = table.grant(key(1, number), on: file, kind: .lease, wanted: .read, isShared: false, isLocked: false)
        }
        expect(table.count == LeaseTable.leasesPerClientMax)
        let other = FileID(subvolume: 2, inode: 1, generation: 1)
        expect(
            table.grant(key(1, 1 << 40), on: other, kind: .lease, wanted: .read, isShared: false, isLocked: false)
                == .granted([], epoch: 0, isBreaking: false))
        expect(
            table.grant(key(2), on: other, kind: .lease, wanted: .read, isShared: false, isLocked: false)
                == .granted(.read, epoch: 0, isBreaking: false))
    }

    /// Clients that believe what they are told, answer late, too much or never, and go away. Whenever an operation goes
    /// on, nobody who answers in time may believe that he keeps what the operation must not overtake.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func steps(seed: UInt64) {
        var world = LeaseWorld(seed: seed)
        for _ in 0..<modelSteps(250_000) where world.failure == nil { world.step() }
        world.drain()
        #expect(world.failure == nil, "seed \(seed): \(world.failure ?? "")")
        // All of it has happened, or the run proves little.
        #expect(world.resumed > 3000)
        #expect(world.expired > 50)
        #expect(world.second > 50)
        #expect(world.refused > 300)
        #expect(
            world.returned > 1000 && world.ended > 300,
            "seed \(seed): \(world.returned) came back, \(world.ended) did not")
        expect(world.table.entryCount == 0)
    }
}

private struct LeaseWorld {
    struct Client {
        var key: LeaseKey
        var kind: LeaseKind
        var file = 0
        /// What the client believes to have.
        var belief: LeaseState = []
        var opens = 0
        /// A break that it got and has not answered.
        var told: LeaseState?
        var toldAt: UInt64 = 0
        /// It does not answer this one.
        var isSilent = false
        /// It can not be reached, and believes what it did before.
        var isAway = false
        /// Since when a break is under way, whoever knows of it.
        var breakSince: UInt64?
    }

    var generator: Generator
    var table = LeaseTable()
    var clients: [Client] = []
    var waiting: [UInt64: (file: Int, actor: Int?, operation: LeaseOperation)] = [:]
    var now: UInt64 = 0
    var next: UInt64 = 1
    var failure: String?
    var resumed = 0
    var expired = 0
    var second = 0
    var refused = 0
    var returned = 0
    var ended = 0
    /// Whose opens are to end, sooner or later.
    var closing: [Int] = []
    let files = (0..<2).map { FileID(subvolume: 1, inode: UInt64($0), generation: 1) }

    init(seed: UInt64) {
        generator = Generator(seed: seed, stream: "leases")
        for index in 0..<6 {
            let kind: LeaseKind = index < 3 ? .lease : index < 5 ? .oplock : .delegation
            clients.append(Client(key: LeaseKey(client: UInt128(index / 2), key: UInt128(index)), kind: kind))
        }
    }

    mutating func fail(_ what: String) { if failure == nil { failure = what } }

    /// What nobody may believe to keep when the operation goes on: written down here once more, by hand.
    private func harmful(_ operation: LeaseOperation, _ kind: LeaseKind) -> LeaseState {
        switch (operation, kind) {
        case (.openAttributes, _), (.openSecurity, .lease), (.openSecurity, .delegation): return []
        case (.openSecurity, .oplock): return .write
        case (.open, _), (.read, _): return .write
        case (_, .delegation): return .all
        case (.attributes, _), (.directoryChange, _): return []
        case (.openReplacing, _), (.write, _): return .write
        case (.openUnshared, _), (.rename, _): return .handle
        case (.replace, _): return [.write, .handle]
        }
    }

    private mutating func goesOn(_ file: Int, _ actor: Int?, _ operation: LeaseOperation) {
        for (index, client) in clients.enumerated() where index != actor && client.file == file && client.opens > 0 {
            if !client.belief.isDisjoint(with: harmful(operation, client.kind)) {
                fail("\(operation) went on while \(client) believes")
            }
        }
    }

    mutating func step() {
        now += UInt64(generator.below(200_000_000))
        if !closing.isEmpty, generator.once(in: 3) {
            let gone = closing.removeFirst()
            if clients[gone].isAway { end(gone) }
        }
        let index = generator.below(clients.count)
        switch generator.below(16) {
        case 0..<4: if !clients[index].isAway { open(index) }
        case 4..<6: if !clients[index].isAway { close(index) }
        case 6..<10:
            let operations: [LeaseOperation] = [
                .openAttributes, .openSecurity, .open, .openReplacing, .openUnshared, .read, .write, .rename,
                .attributes, .replace, .directoryChange,
            ]
            check(
                generator.below(2), generator.once(in: 2) ? nil : index, operations[generator.below(operations.count)])
        case 10..<14: answer(index)
        case 14:
            if clients[index].isAway {
                comeBack(index)
            } else if clients[index].opens > 0, generator.once(in: 4) {
                // What it was told it may not have heard.
                clients[index].told = nil
                clients[index].isAway = true
                table.disconnected(clients[index].key)
                take()
                if generator.once(in: 4) { end(index) }
            }
        default: expire()
        }
        take()
        for client in clients where client.opens > 0 && client.told == nil && client.kind != .delegation {
            let real = table.state(client.key) ?? []
            if real != client.belief { fail("\(client) has \(real)") }
        }
    }

    /// It is told what it has by now, and what it is to give up.
    private mutating func comeBack(_ index: Int) {
        clients[index].isAway = false
        returned += 1
        table.reconnected(clients[index].key)
        take()
        // It has what is left of the time.
        clients[index].toldAt = clients[index].breakSince ?? now
    }

    /// The opens of one who is away end.
    private mutating func end(_ index: Int) {
        ended += 1
        while clients[index].opens > 0 { close(index) }
        clients[index].isAway = false
    }

    private mutating func open(_ index: Int) {
        if clients[index].opens == 0 { clients[index].file = generator.below(2) }
        guard clients[index].opens < 3 else { return }
        let file = clients[index].file
        let isShared = clients.indices.contains { $0 != index && clients[$0].file == file && clients[$0].opens > 0 }
        // An open goes on only after its check.
        guard table.check(files[file], by: clients[index].key, .open, request: 0, now: now) == .proceed else {
            table.cancel(request: 0, on: files[file])
            take()
            return
        }
        take()
        goesOn(file, index, .open)
        let wanted: LeaseState =
            clients[index].kind == .lease
            ? LeaseState(rawValue: UInt8(generator.below(8)))
            : [LeaseState.read, [.read, .write], .all][generator.below(3)]
        let grant = table.grant(
            clients[index].key, on: files[file], kind: clients[index].kind, wanted: wanted, isShared: isShared,
            isLocked: generator.once(in: 10), hasEpoch: true)
        guard case .granted(let state, _, let isBreaking) = grant else { return fail("\(grant)") }
        if isBreaking != (clients[index].told != nil) { fail("isBreaking is wrong") }
        if state.isEmpty, table.state(clients[index].key) == nil { return }
        clients[index].opens += 1
        if !isBreaking { clients[index].belief = state }
        if state.contains(.write) {
            for (other, client) in clients.enumerated()
            where other != index && client.file == file && client.opens > 0 && !client.belief.isEmpty
                && client.told == nil
            {
                fail("\(clients[index]) may write while \(client) believes")
            }
        }
    }

    private mutating func close(_ index: Int) {
        guard clients[index].opens > 0 else { return }
        clients[index].opens -= 1
        if clients[index].opens == 0 {
            clients[index].belief = []
            clients[index].told = nil
            clients[index].breakSince = nil
        }
        table.closed(clients[index].key)
        take()
    }

    private mutating func check(_ file: Int, _ actor: Int?, _ operation: LeaseOperation) {
        guard waiting.count < 20 else { return }
        let request = next
        next += 1
        let key = actor.map { clients[$0].key }
        switch table.check(files[file], by: key, operation, request: request, now: now) {
        case .proceed:
            take()
            goesOn(file, actor, operation)
        case .waits: waiting[request] = (file, actor, operation)
        case .tooMany: fail("too many")
        }
    }

    private mutating func answer(_ index: Int) {
        guard let told = clients[index].told, !clients[index].isSilent else { return }
        if clients[index].kind == .lease, generator.once(in: 3), told != .all {
            if table.acknowledge(clients[index].key, .all, now: now) != .notAccepted { fail("too much was accepted") }
            refused += 1
        }
        let less = generator.once(in: 4) ? LeaseState() : told
        clients[index].belief = less
        clients[index].told = nil
        clients[index].breakSince = nil
        if table.acknowledge(clients[index].key, less, now: now) != .accepted(less) {
            fail("\(clients[index]) not accepted")
        }
    }

    private mutating func expire() {
        now += 1_000_000_000
        // Who is too late believes what is not true; the rest of the run takes it from him.
        for index in clients.indices where clients[index].told != nil {
            if clients[index].toldAt + LeaseTable.breakNanoseconds <= now {
                clients[index].belief = []
                clients[index].told = nil
                clients[index].breakSince = nil
                expired += 1
            }
        }
        table.expire(now)
        // Who was away for longer than one waits for him has what he is told when he is back.
        for index in clients.indices where clients[index].isAway {
            clients[index].belief = table.state(clients[index].key) ?? []
            if table.status(clients[index].key)?.isBreaking != true { clients[index].breakSince = nil }
        }
    }

    private mutating func take() {
        for action in table.takeActions() {
            switch action {
            case .sendBreak(let key, let from, let to, _, let mustAcknowledge):
                guard let index = clients.firstIndex(where: { $0.key == key }) else { return fail("whose key?") }
                if clients[index].isAway { fail("a break was sent to \(clients[index])") }
                if from != clients[index].belief { fail("break from \(from) of \(clients[index])") }
                if !to.isStrictSubset(of: from) { fail("break from \(from) to \(to)") }
                if clients[index].told != nil { fail("two breaks of \(clients[index])") }
                if mustAcknowledge {
                    clients[index].told = to
                    clients[index].toldAt = now
                    clients[index].breakSince = clients[index].breakSince ?? now
                    clients[index].isSilent = generator.once(in: 8)
                    second += clients[index].belief == .all ? 0 : 1
                } else {
                    clients[index].belief = to
                }
            case .resume(let request):
                resumed += 1
                guard let wait = waiting.removeValue(forKey: request) else {
                    fail("\(request) does not wait")
                    continue
                }
                goesOn(wait.file, wait.actor, wait.operation)
            case .closeDisconnected(let key):
                guard let index = clients.firstIndex(where: { $0.key == key }) else { return fail("whose key?") }
                // Who is asked now, or has not come back, has as long again to be ended.
                clients[index].breakSince = now
                if !closing.contains(index) { closing.append(index) }
            }
        }
    }

    /// Nobody waits for ever.
    mutating func drain() {
        for _ in 0..<8 {
            now += LeaseTable.breakNanoseconds
            expire()
            take()
        }
        if !waiting.isEmpty { fail("\(waiting.count) wait for ever") }
        for index in clients.indices { while clients[index].opens > 0 { close(index) } }
    }
}

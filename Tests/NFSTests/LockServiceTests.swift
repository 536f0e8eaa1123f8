import Bytes
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing
import WireSamples

@Suite(.serialized) struct LockServiceTests {
    private func made(_ client: LockClient, _ name: String = "f") throws -> NFS3Handle {
        let root = try client.nfs.root()
        return try client.nfs.made(try client.nfs.create(root, name))
    }

    private func granted(_ host: FakeHost, _ count: Int, within seconds: Double = 10) async -> [FakeHost.Granted] {
        _ = await eventually(within: seconds) { host.with { $0.granted.count } >= count }
        return host.with { $0.granted }
    }

    @Test func locksExcludeEachOtherInEveryVersion() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client()
        let file = try made(client)
        #expect(try client.lock(file, 1, 0, 10) == .granted)
        #expect(try client.lock(file, 2, 9, 1) == .denied)
        #expect(try client.lock(file, 2, 10, 1) == .granted)
        #expect(try client.lock(file, 3, 0, 5, shared: true) == .denied)
        let found = try client.test(file, 2, 0, 0)
        #expect(found.status == .denied)
        let holder = try #require(found.holder)
        #expect(holder.isExclusive && holder.process == 1 && holder.offset == 0 && holder.length == 10)
        #expect(holder.owner.elementsEqual("1@one".utf8))
        #expect(try client.test(file, 2, 20, 5).status == .granted)
        #expect(try client.unlock(file, 1) == .granted)
        #expect(try client.lock(file, 2, 9, 1, .lockUnmonitored) == .granted)
        for version: UInt32 in [1, 3] {
            client.version = version
            #expect(try client.lock(file, 4, 100, 1) == .granted)
            #expect(try client.lock(file, 5, 90, 0) == .denied)
        }
        client.version = 2
        let reply = client.nfs.peer.call(client.nfs.message(LockManager.program, 2, 0, []))
        #expect(reply?.status == .programMismatch(low: 1, high: 4))
        client.version = 4
        // Two hosts of one name at one address are one host; of another name they are two.
        let other = try rig.client("two")
        #expect(try other.lock(file, 2, 9, 1) == .denied)
        #expect(
            try client.nfs.call(.remove, .remove(client.nfs.name(try client.nfs.root(), "f")), NFS3Results.Remove.self)
                .status == .ok)
        #expect(try client.lock(file, 9, 0, 1) == .stale)
        client.version = 3
        #expect(try client.lock(file, 9, 0, 1) == .deniedNoLocks)
    }

    @Test func whoeverMayDoNothingWithAFileMayNotLockIt() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client()
        let root = try client.nfs.root()
        let how = NFS3CreateHow.unchecked(NFS3SetAttributes(mode: 0o600, uid: 7))
        let file = try client.nfs.made(try client.nfs.create(root, "f", how))
        let stranger = LockClient(NFSClient(try RPCPeer(rig.listener.address), uid: 8, gid: 8, groups: []), "one")
        #expect(try stranger.lock(file, 1) == .denied)
        let owner = LockClient(NFSClient(try RPCPeer(rig.listener.address), uid: 7, gid: 8, groups: []), "one")
        #expect(try owner.lock(file, 1) == .granted)
    }

    @Test func whoeverWaitsIsCalledBack() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        let file = try made(client)
        #expect(try client.lock(file, 1, 0, 10) == .granted)
        for _ in 0..<3 { #expect(try client.lock(file, 2, 5, 7, blocks: true) == .blocked) }
        #expect(try client.lock(file, 3, 5, 1, blocks: true) == .blocked)
        #expect(try client.unlock(file, 1) == .granted)
        let told = await granted(host, 1)
        #expect(told.count == 1)
        let grant = try #require(told.first)
        #expect(grant.process == 2 && grant.offset == 5 && grant.length == 7)
        #expect(try client.lock(file, 1, 0, 10) == .denied)
        #expect(try client.unlock(file, 2) == .granted)
        #expect(await granted(host, 2).last?.process == 3)
        // A circle of waits is none.
        #expect(try client.lock(file, 4, 100, 1) == .granted)
        #expect(try client.lock(file, 3, 100, 1, blocks: true) == .blocked)
        #expect(try client.lock(file, 4, 5, 1, blocks: true) == .deadlock)
    }

    @Test func cancelledWaitsAreNotGranted() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        let file = try made(client)
        #expect(try client.lock(file, 1) == .granted)
        #expect(try client.lock(file, 2, blocks: true) == .blocked)
        #expect(try client.cancel(file, 2) == .granted)
        #expect(try client.cancel(file, 2) == .denied)
        #expect(try client.unlock(file, 1) == .granted)
        #expect(try client.lock(file, 1) == .granted)
        // A cancel that comes after the grant gives the lock back.
        host.with { $0.answers = [nil] }
        #expect(try client.lock(file, 2, blocks: true) == .blocked)
        #expect(try client.unlock(file, 1) == .granted)
        #expect(await granted(host, 1).count == 1)
        #expect(try client.cancel(file, 2) == .granted)
        #expect(try client.lock(file, 3) == .granted)
    }

    @Test func grantsAreRepeatedAndANoIsBelievedOnce() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        let file = try made(client)
        // The first is lost, so what the client says to the second may mean that it knew.
        host.with { $0.answers = [nil, .denied] }
        #expect(try client.lock(file, 1) == .granted)
        #expect(try client.lock(file, 2, blocks: true) == .blocked)
        #expect(try client.unlock(file, 1) == .granted)
        let told = await granted(host, 2)
        #expect(told.count == 2 && told.first == told.last)
        #expect(try client.lock(file, 3) == .denied)
        #expect(try client.unlock(file, 2) == .granted)
        // Asked once, a client that does not want its lock loses it.
        host.with { $0.answers = [.denied] }
        #expect(try client.lock(file, 1) == .granted)
        #expect(try client.lock(file, 2, blocks: true) == .blocked)
        #expect(try client.unlock(file, 1) == .granted)
        #expect(await granted(host, 3).count == 3)
        #expect(await eventually { (try? client.test(file, 3).status) == .granted })
        // Whoever asks again has its answer, and is not called any more.
        host.with { $0.answers = [nil, .denied, .denied] }
        #expect(try client.lock(file, 1) == .granted)
        #expect(try client.lock(file, 2, blocks: true) == .blocked)
        #expect(try client.unlock(file, 1) == .granted)
        #expect(await granted(host, 4).count == 4)
        #expect(try client.lock(file, 2, blocks: true) == .granted)
        _ = await granted(host, 5, within: 2.5)
        #expect(host.with { $0.granted.count } == 4)
        #expect(try client.lock(file, 3) == .denied)
    }

    @Test func messagesAreAnsweredByMessages() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        let file = try made(client)
        func message(_ procedure: LockProcedure, _ process: Int32, blocks: Bool = false) throws {
            let lock = client.description(file, process, 0, 0, LockWidth64.self)
            let cookie = client.nfs.keep("c")
            switch procedure {
            case .lockMessage:
                _ = try client.call(
                    procedure,
                    LockArguments(
                        cookie: cookie, mayBlock: blocks, isExclusive: true, lock: lock, isReclaim: false, state: 0),
                    XDRVoid.self)
            case .testMessage:
                _ = try client.call(
                    procedure, LockTestArguments(cookie: cookie, isExclusive: true, lock: lock), XDRVoid.self)
            default: _ = try client.call(procedure, LockUnlockArguments(cookie: cookie, lock: lock), XDRVoid.self)
            }
        }
        func results(_ count: Int) async -> [LockStatus] {
            _ = await eventually { host.with { $0.results.count } >= count }
            return host.with { $0.results }
        }
        try message(.lockMessage, 1)
        #expect(await results(1) == [.granted])
        try message(.testMessage, 2)
        #expect(await results(2).last == .denied)
        try message(.lockMessage, 2, blocks: true)
        #expect(await results(3).last == .blocked)
        try message(.unlockMessage, 1)
        #expect(await results(4).last == .granted)
        let grant = try #require(await granted(host, 1).first)
        #expect(grant.isMessage && grant.process == 2)
        // Its answer is a message too; without it the grant comes again.
        let answer = encoded {
            LockResult(cookie: client.nfs.keep(grant.cookie), status: .granted).write(into: &$0)
        }
        _ = client.nfs.peer.call(
            client.nfs.message(LockManager.program, 4, LockProcedure.grantedResult.rawValue, answer))
        _ = await granted(host, 2, within: 2)
        #expect(host.with { $0.granted.count } == 1)
    }

    @Test func aHostThatRestartsLosesItsLocksOnce() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let one = try rig.client("one.example.org")
        let two = try rig.client("two")
        one.state = 3
        let file = try made(one)
        #expect(try one.lock(file, 1, 0, 10) == .granted)
        #expect(try two.lock(file, 1, 20, 10) == .granted)
        // Its name without the domain is the same host; somebody else's is not.
        try two.restarted(7, name: "three")
        #expect(try two.lock(file, 2, 0, 1) == .denied)
        try one.restarted(5, name: "ONE")
        #expect(try two.lock(file, 2, 0, 10) == .granted)
        #expect(try one.lock(file, 1, 20, 1) == .denied)
        one.state = 5
        #expect(try two.unlock(file, 2) == .granted)
        #expect(try one.lock(file, 1, 0, 10) == .granted)
        // It says so until it is heard: locks that it took since stay.
        try one.restarted(5)
        #expect(try two.lock(file, 2, 0, 10) == .denied)
        // A request with another state tells it too.
        one.state = 9
        #expect(try one.lock(file, 7, 50, 1) == .granted)
        #expect(try two.lock(file, 2, 0, 10) == .granted)
        // FREE_ALL is the word of a host without a monitor.
        let notice = encoded { LockNotice(name: two.nfs.keep("two"), state: 0).write(into: &$0) }
        #expect(
            two.nfs.peer.call(two.nfs.message(LockManager.program, 4, LockProcedure.freeAll.rawValue, notice))?
                .status == .success)
        #expect(try one.lock(file, 7, 0, 40) == .granted)
    }

    @Test func aServerThatRestartsGivesLocksBack() async throws {
        let files = MemoryFileSystem()
        let host = try await FakeHost()
        let file: [UInt8]
        do {
            let rig = try LockRig(files, host)
            await rig.attach()
            #expect(host.with { $0.notices.isEmpty })
            let client = try rig.client()
            let made = try made(client)
            file = Array(made.bytes)
            #expect(try client.lock(made, 1, 0, 10) == .granted)
            #expect(try client.lock(made, 2, 20, 10, .lockUnmonitored) == .granted)
        }
        let rig = try LockRig(files, host, grace: 2_000_000_000)
        await rig.attach()
        let client = try rig.client()
        let stranger = try rig.client("stranger")
        let handle = client.nfs.handle(file.withUnsafeBytes { client.nfs.keep(Array($0)) })
        #expect(try client.lock(handle, 3, 50, 1) == .deniedGrace)
        #expect(try client.test(handle, 3, 50, 1).status == .deniedGrace)
        #expect(try stranger.lock(handle, 1, 50, 1, reclaim: true) == .deniedGrace)
        #expect(try client.lock(handle, 1, 0, 10, reclaim: true) == .granted)
        #expect(await eventually { host.with { $0.notices.count } >= 2 })
        let notices = host.with { $0.notices }
        #expect(notices.map(\.name) == ["127.0.0.1", "server"])
        #expect(Set(notices.map(\.state)).count == 1 && notices[0].state & 1 == 1)
        #expect(await eventually { (try? stranger.lock(handle, 1, 50, 1)) == .granted })
        #expect(try stranger.lock(handle, 1, 5, 1) == .denied)
        #expect(try client.lock(handle, 4, 60, 1, reclaim: true) == .deniedGrace)
        // The next restart has another state, and a record that is damaged keeps none of the others back.
        files.with { $0.settings[Array("monitor/0000000000000000".utf8)] = [1, 2, 3] }
        let third = try LockRig(files, host)
        await third.attach()
        #expect(await eventually { host.with { $0.notices.count } >= 4 })
        #expect(host.with { $0.notices.last?.state } != notices[0].state)
    }

    @Test func aVolumeThatComesBackHasItsGrace() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        #expect(!rig.monitor.isAttached(Rig.volume))
        await rig.attach()
        #expect(rig.monitor.isAttached(Rig.volume))
        let client = try rig.client()
        let file = try made(client)
        #expect(try client.lock(file, 1, 0, 10) == .granted)
        // Nothing has happened to it.
        await rig.attach()
        #expect(try client.lock(file, 2, 20, 1) == .granted)
        await rig.attach([])
        #expect(!rig.monitor.isAttached(Rig.volume))
        await rig.attach()
        #expect(await eventually { host.with { $0.notices.count } >= 2 })
        #expect(try client.lock(file, 3, 50, 1) == .deniedGrace)
        #expect(try client.lock(file, 1, 0, 10, reclaim: true) == .granted)
    }

    /// A lock whose answer is read later.
    private func askFor(_ client: LockClient, _ file: [UInt8], _ process: Int32) {
        let handle = client.nfs.handle(client.nfs.keepBytes(file))
        let arguments = LockArguments(
            cookie: client.nfs.keep("later"), mayBlock: false, isExclusive: true,
            lock: client.description(handle, process, 0, 0, LockWidth64.self), isReclaim: false, state: 0)
        let bytes = encoded { arguments.write(into: &$0) }
        client.nfs.peer.send(client.nfs.message(LockManager.program, 4, LockProcedure.lock.rawValue, bytes))
    }

    private func answer(_ client: LockClient) throws -> LockStatus {
        try client.nfs.results(client.nfs.peer.reply(), LockResult.self).status
    }

    @Test func copiesOfAFirstLockShareOneRecord() async throws {
        let files = MemoryFileSystem()
        let rig = try LockRig(files, try await FakeHost())
        await rig.attach()
        let client = try rig.client()
        let file = Array(try made(client).bytes)
        files.with { state in
            state.settingsMade = []
            state.isSettingHeld = true
        }
        let clients = try (0..<3).map { _ in try rig.client() }
        for client in clients { askFor(client, file, 1) }
        #expect(await eventually { files.with { $0.settingsWaiting } > 0 })
        try await Task.sleep(nanoseconds: 100_000_000)
        files.with { $0.isSettingHeld = false }
        #expect(await eventually { files.with { $0.settingsMade.count } > 0 })
        for client in clients { #expect(try answer(client) == .granted) }
        #expect(files.with { $0.settingsMade.count } == 1)
        // Handles live as long as the client that got them.
        withExtendedLifetime(client) {}
    }

    /// A lock that comes while the record of its host is being removed, for it held nothing: it has one when it is granted.
    @Test func aLockBesideTheRemovalOfItsRecordHasOne() async throws {
        let files = MemoryFileSystem()
        let host = try await FakeHost()
        let file: [UInt8]
        do {
            let rig = try LockRig(files, host)
            await rig.attach()
            let client = try rig.client()
            let made = try made(client)
            file = Array(made.bytes)
            #expect(try client.lock(made, 1) == .granted)
        }
        let rig = try LockRig(files, host, grace: 50_000_000)
        await rig.attach()
        files.with { state in
            state.settingsMade = []
            state.isSettingHeld = true
        }
        #expect(await eventually { files.with { $0.settingsWaiting } > 0 })
        let client = try rig.client()
        askFor(client, file, 1)
        try await Task.sleep(nanoseconds: 200_000_000)
        files.with { $0.isSettingHeld = false }
        #expect(await eventually { files.with { $0.settingsMade.count } >= 2 })
        #expect(try answer(client) == .granted)
        let made = files.with { $0.settingsMade }.map { $0.split(separator: " ")[0] }
        #expect(made == ["removed", "set"])
        #expect(files.with { state in state.settings.keys.filter { $0.starts(with: "monitor/".utf8) }.count } == 2)
    }

    @Test func sharesExcludeEachOther() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client()
        client.version = 3
        let file = try made(client)
        #expect(try client.share(file, "a", .read, deny: .write) == .granted)
        #expect(try client.share(file, "b", .both, deny: .none) == .denied)
        #expect(try client.share(file, "b", .read, deny: .none) == .granted)
        #expect(try client.share(file, "a", .read, deny: .none, .unshare) == .granted)
        #expect(try client.share(file, "b", .both, deny: .none) == .granted)
        try client.restarted(3)
        #expect(try client.share(file, "c", .both, deny: .both) == .granted)
        // Sharing anew takes the place of the old share, which is not in its way.
        #expect(try client.share(file, "c", .both, deny: .write) == .granted)
        #expect(try client.share(file, "d", .read, deny: .none) == .granted)
        // One that is refused leaves the old one as it was.
        #expect(try client.share(file, "c", .both, deny: .both) == .denied)
        #expect(try client.share(file, "e", .write, deny: .none) == .denied)
        #expect(try client.share(file, "c", .both, deny: .none, .unshare) == .granted)
        #expect(try client.share(file, "e", .write, deny: .none) == .granted)
    }

    @Test func theMonitorAnswersThisMachine() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        func ask<Result: XDRMessage>(
            _ procedure: MonitorProcedure, _ arguments: some XDRMessage, _ type: Result.Type
        ) throws -> Result {
            let bytes = encoded { arguments.write(into: &$0) }
            return try client.nfs.results(
                client.nfs.peer.call(client.nfs.message(StatusMonitor.program, 1, procedure.rawValue, bytes)), type)
        }
        let status = try ask(.status, MonitorName(name: client.nfs.keep("x")), MonitorStatusResult.self)
        #expect(status.answer == .success && status.state & 1 == 1)
        let caller = MonitorCaller(
            name: client.nfs.keep("me"), program: Int32(StatusMonitor.program), version: 1, procedure: 16)
        let id = MonitorID(name: client.nfs.keep("peer"), caller: caller)
        let wanted = MonitorArguments(id: id, privateData: client.nfs.keep([UInt8](repeating: 3, count: 16)))
        #expect(try ask(.monitor, wanted, MonitorStatusResult.self).answer == .success)
        for _ in 0..<2 { try client.restarted(5, name: "peer") }
        #expect(await eventually { host.with { $0.callbacks.count } >= 1 })
        #expect(try ask(.unmonitor, id, MonitorState.self).state == status.state)
        try client.restarted(7, name: "peer")
        #expect(host.with { $0.callbacks.map(\.state) } == [5])
        // As after a crash: locks go, hosts are told, and claim them again.
        let file = try made(client)
        #expect(try client.lock(file, 1) == .granted)
        _ = try ask(.simulateCrash, XDRVoid(), XDRVoid.self)
        #expect(try client.lock(file, 2) == .deniedGrace)
        #expect(try client.lock(file, 1, reclaim: true) == .granted)
        #expect(await eventually { host.with { $0.notices.count } >= 2 })
        #expect(host.with { $0.notices.first?.state } == status.state + 2)
    }

    /// A grant whose telling may still be on its way when its process has had the lock and given it back: would the process wait
    /// again, it would take the old telling for the new lock.
    @Test func oldGrantsAreNotTakenForNewOnes() async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        let file = try made(client)
        host.with { $0.answers = [nil] }
        #expect(try client.lock(file, 1, blocks: true) == .granted)
        #expect(try client.lock(file, 2, blocks: true) == .blocked)
        let start = ContinuousClock.now
        #expect(try client.unlock(file, 1) == .granted)
        #expect(await eventually { host.with { $0.granted.count } == 1 })
        #expect(try client.lock(file, 2, blocks: true) == .granted)
        #expect(try client.unlock(file, 2) == .granted)
        #expect(try client.lock(file, 1, blocks: true) == .granted)
        let status = try client.lock(file, 2, blocks: true)
        // A telling without an answer is over after a second.
        #expect(status == .deniedGrace || ContinuousClock.now - start > .milliseconds(900))
        #expect(await eventually { (try? client.lock(file, 2, blocks: true)) == .blocked })
        #expect(try client.unlock(file, 1) == .granted)
        #expect(await eventually { host.with { $0.granted.last?.process } == 2 })
        #expect(try client.unlock(file, 2) == .granted)
        #expect(try client.lock(file, 3) == .granted)
    }

    /// Processes that lock and wait while calls, answers and grants get lost or come twice: never do two believe that a lock is
    /// theirs, and in the end nothing is held.
    @Test(arguments: [11, 12, 13] as [UInt64]) func lostAndRepeatedMessagesDoNoHarm(_ seed: UInt64) async throws {
        let host = try await FakeHost()
        let rig = try LockRig(MemoryFileSystem(), host)
        let client = try rig.client()
        let file = try made(client)
        var random = SeededRandom(seed)
        let processes: ClosedRange<Int32> = 1...5
        var holders: Set<Int32> = []
        var waiting: Set<Int32> = []
        var heard = 0
        func hear() {
            let grants = host.with { $0.granted }
            for grant in grants[heard...] where waiting.contains(grant.process) {
                waiting.remove(grant.process)
                holders.insert(grant.process)
            }
            heard = grants.count
        }
        for step in 0..<300 {
            // Some grants are lost on their way back: the client has understood, the server does not know.
            host.with { $0.answers = (0..<4).map { _ in random.next() % 3 == 0 ? nil : .granted } }
            hear()
            let process = Int32.random(in: processes, using: &random)
            let times = random.next() % 4 == 0 ? 2 : 1
            for _ in 0..<times {
                if holders.contains(process) {
                    #expect(try client.unlock(file, process) == .granted)
                    if times == 1 { holders.remove(process) }
                } else {
                    switch try client.lock(file, process, blocks: true) {
                    case .granted:
                        waiting.remove(process)
                        holders.insert(process)
                    case .blocked: waiting.insert(process)
                    // An old grant may still reach it: it is to ask again later.
                    case .deniedGrace: break
                    case let status: Issue.record("seed \(seed), step \(step): \(status)")
                    }
                }
            }
            if times == 2 { holders.remove(process) }
            if times == 2 { _ = try client.unlock(file, process) }
            hear()
            #expect(holders.count <= 1, "seed \(seed), step \(step): \(holders)")
        }
        host.with { $0.answers = [] }
        #expect(
            await eventually(within: 20) {
                hear()
                for process in holders {
                    _ = try? client.unlock(file, process)
                    holders.remove(process)
                }
                for process in waiting where (try? client.cancel(file, process)) == .granted { waiting.remove(process) }
                return holders.isEmpty && waiting.isEmpty
            })
        #expect(try client.lock(file, 99) == .granted)
    }
}

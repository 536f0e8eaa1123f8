import Glibc
import Namespace
import Passthrough
import Runtime
import TestSupport
import Testing

/// Requests to a directory of the host that come twice while the first is under way, and mounts that are taken away in the middle of
/// a call.
@Suite struct RepetitionTests {
    /// All threads of the pool are busy: once one of them is free, work is done one after the other.
    final class BusyPool: Sendable {
        static let threads = ThreadPool.threadsDefault
        private let rig: Rig
        private let isFree: [Guarded<Bool>]
        private let tasks = Guarded<[Task<Void, Never>]>([])

        private let begun = Guarded(0)

        /// Returns when they are.
        init(_ rig: Rig) async {
            self.rig = rig
            isFree = (0...Self.threads).map { _ in Guarded(false) }
            for place in 0..<Self.threads { begin(place) }
            while begun.withLock({ $0 }) < Self.threads { await Task.yield() }
        }

        private func begin(_ place: Int) {
            let (world, loop, isFree, begun) = (rig.world, rig.loop, isFree, begun)
            let task = loop.task {
                await world.blocking.run(on: loop) { () throws(Never) in
                    begun.withLock { $0 += 1 }
                    while !isFree[place].withLock({ $0 }) { usleep(1000) }
                }
            }
            tasks.withLock { $0.append(task) }
        }

        /// Returns when so much more was given to the pool than before `body`.
        func queued(_ more: Int = 1, _ body: () -> Void) async {
            let wanted = rig.pool.submitted + more
            body()
            #expect(await eventually { rig.pool.submitted >= wanted }, "nothing was given to the pool")
        }

        /// Behind what stands in the queue by now.
        func queueOneMore() { begin(Self.threads) }
        /// What stands before the one more is done.
        func releaseOne() { isFree[0].withLock { $0 = true } }
        func releaseAll() async {
            for free in isFree { free.withLock { $0 = true } }
            for task in tasks.withLock({ $0 }) { await task.value }
        }
    }

    /// A volume with a file that a request is about to cut.
    private struct Cutting {
        let client: Client
        let volume: Volume
        let file: FileID
        let caller: Caller
        let pool: BusyPool
        var wanted = NewAttributes()
        var allowed = NewAttributes()

        init(_ rig: Rig, mode: UInt16?, isGuarded: Bool = false) async throws {
            let files = try rig.passthrough()
            client = Client(files: files, world: rig.world)
            volume = Volume("v", identity: 1, files, clock: rig.world.clock, loops: rig.world.loops)
            file = try await client.create("f").file.file
            try await client.write(file, "0123456789")
            var request = client.request
            request.token = RequestToken(client: 3, id: 5, digest: 7)
            caller = Caller(.root, request)
            wanted.size = 0
            wanted.mode = mode
            if isGuarded { wanted.ifChanged = try await client.attributes(file).changed }
            pool = await BusyPool(rig)
            allowed = try await judged()
        }

        func judged() async throws -> NewAttributes {
            try await client.done { volume.mayResize(caller, file, wanted) }
        }

        func cut(_ allowed: NewAttributes) -> Task<Void, any Error> {
            Task { _ = try await volume.resize(caller.request, file, to: 0, allowed) }
        }
    }

    /// The first is answered and its client has written since when the copy's turn comes: nothing is cut again.
    @Test(arguments: [0o600, nil] as [UInt16?]) func aCopyOfACutCutsNothing(_ mode: UInt16?) async throws {
        let rig = try Rig()
        defer { rig.end() }
        let cutting = try await Cutting(rig, mode: mode)
        let pool = cutting.pool
        var cuts: [Task<Void, any Error>] = []
        await pool.queued { cuts.append(cutting.cut(cutting.allowed)) }
        await pool.queued { pool.queueOneMore() }
        // It waits for the first, or stands in the queue: so that it is one of the two by then.
        cuts.append(cutting.cut(cutting.allowed))
        try await Task.sleep(nanoseconds: 50_000_000)
        pool.releaseOne()
        try await cuts[0].value
        #expect(rig.get(rig.served + "/f") == "")
        try await cutting.client.write(cutting.file, "since")
        await pool.releaseAll()
        try await cuts[1].value
        #expect(rig.get(rig.served + "/f") == "since")
        try await cutting.cut(try await cutting.judged()).value
        #expect(rig.get(rig.served + "/f") == "since")
    }

    /// While the first is under way a copy is not judged by what it has done so far.
    @Test func aCopyIsNotRefusedForWhatTheFirstHasDone() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let cutting = try await Cutting(rig, mode: 0o600, isGuarded: true)
        var cuts: [Task<Void, any Error>] = []
        await cutting.pool.queued { cuts.append(cutting.cut(cutting.allowed)) }
        // What the first does is not what the copy was made from.
        try await cutting.client.write(cutting.file, "x")
        let copy = Task { try await cutting.cut(try await cutting.judged()).value }
        try await Task.sleep(nanoseconds: 50_000_000)
        await cutting.pool.releaseAll()
        try await cuts[0].value
        try await copy.value
    }

    /// Of one request so many copies wait; whoever comes then is told to come again.
    @Test func soManyCopiesWait() async throws {
        let turns = RequestTurns()
        let token = RequestToken(client: 1, id: 2, digest: 3)
        let (isFirst, isSecond) = (turns.begin(token), turns.begin(token))
        try #require(isFirst && !isSecond)
        #expect(turns.lack(RequestToken(client: 1, id: 3, digest: 3)) == nil)
        let more = 5
        let counts = Guarded((waited: 0, refused: 0))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<(RequestTurns.copiesMax + more) {
                group.addTask {
                    do throws(FileError) {
                        try await turns.lack(token)?.supplied()
                        counts.withLock { $0.waited += 1 }
                    } catch { counts.withLock { $0.refused += error == .delay ? 1 : 1000 } }
                }
            }
            group.addTask {
                while counts.withLock({ $0.refused }) < more { await Task.yield() }
                turns.end(token)
            }
        }
        #expect(counts.withLock { $0.waited } == RequestTurns.copiesMax && counts.withLock { $0.refused } == more)
        #expect(turns.lack(token) == nil && turns.begin(token))
    }

    /// The first answer, also when somebody has taken away since what was made.
    @Test func aRepetitionOfWhatHasGoneIsAnswered() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        func request(_ id: UInt64) -> Request {
            var request = client.request
            request.token = RequestToken(client: 3, id: id, digest: id)
            return request
        }
        let (making, linking) = (request(1), request(2))
        func make() async throws -> Created {
            try await client.done {
                client.name("made") {
                    files.create(
                        making, in: files.root, $0, NewFile(type: .directory, mode: 0o755), uid: 0, gid: 0, .exclusive)
                }
            }
        }
        let first = try await make()
        try await client.remove("made", isDirectory: true)
        let again = try await make()
        #expect(again.isNew && again.file.file == first.file.file && again.file.type == .directory)
        let file = try await client.create("f").file.file
        func link() async throws -> Created {
            try await client.done { client.name("l") { files.link(linking, file, in: files.root, $0) } }
        }
        _ = try await link()
        for name in ["l", "f"] { try await client.remove(name) }
        #expect(try await link().file.file == file)
        #expect(try await client.names() == [])
    }

    // MARK: Mounts that are taken away

    /// Its owner may do something in the middle of a call that asks for the time.
    final class HookedClock: WorldClock {
        private let clock: any WorldClock
        let hook = Guarded<(@Sendable () -> Void)?>(nil)

        init(_ clock: any WorldClock) { self.clock = clock }
        func monotonic() -> UInt64 {
            let hook = hook.withLock { hook in
                defer { hook = nil }
                return hook
            }
            hook?()
            return clock.monotonic()
        }
        func wall() -> Int64 { clock.wall() }
    }

    /// A volume with another one mounted in it.
    struct House {
        let rig: Rig
        let clock: HookedClock
        let tree: MountTree
        let host: Volume
        let otherTree: MountTree
        let guest: Volume
        let client: Client
        let point: FileID
        var caller: Caller { Caller(.root, client.request, isStateless: false) }
        var file: String { rig.served + "/other/f" }

        init(_ rig: Rig) async throws {
            for name in ["base", "other"] { mkdir(rig.served + "/" + name, 0o755) }
            rig.put("0123456789", rig.served + "/other/f")
            self.rig = rig
            clock = HookedClock(rig.world.clock)
            tree = MountTree(
                try Passthrough(path: rig.served + "/base", subvolume: 1, world: rig.world), loops: rig.world.loops)
            host = Volume("v", identity: 1, tree, clock: rig.world.clock, loops: rig.world.loops)
            otherTree = MountTree(
                try Passthrough(path: rig.served + "/other", subvolume: 77, world: rig.world), loops: rig.world.loops)
            guest = Volume("w", identity: 2, otherTree, clock: clock, loops: rig.world.loops)
            client = Client(files: tree, world: rig.world)
            point = try await client.directory("point")
            try mount()
        }

        func mount() throws { try tree.mount(guest, otherTree, root: guest.root, on: point) }
        func unmount() throws { _ = try tree.unmount(guest.root.subvolume) }

        func found(_ name: String) async throws -> FileID {
            try await client.done { client.name(name) { host.lookup(caller, in: guest.root, $0) } }.file
        }

        func unmountAtTheNextLook() {
            clock.hook.withLock { $0 = { do { try unmount() } catch { Issue.record("\(error)") } } }
        }
    }

    /// What was changed there is answered by nobody as safe, by whatever call.
    @Test func aVolumeThatIsTakenAwayInTheMiddle() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let house = try await House(rig)
        let (host, guest, client) = (house.host, house.guest, house.client)
        let watch = try await client.done {
            guest.watch(house.caller, guest.root, .all, isRecursive: false, on: rig.loop, tell: {})
        }
        defer { guest.endWatch(watch) }
        let file = try await house.found("f")
        // A name goes.
        rig.put("", rig.served + "/other/x")
        house.unmountAtTheNextLook()
        await #expect(throws: FileError.stale) {
            try await client.done {
                client.name("x") { host.remove(house.caller, in: guest.root, $0, isDirectory: false) }
            }
        }
        #expect(rig.get(rig.served + "/other/x") == "(none)")
        // A file is made, and stays open for nobody.
        try house.mount()
        var intent = OpenIntent(.create, access: [.readData, .writeData], client: 1)
        intent.shared = []
        let making = intent
        house.unmountAtTheNextLook()
        await #expect(throws: FileError.stale) {
            try await client.done { client.name("made") { host.open(house.caller, in: guest.root, $0, making) } }
        }
        try house.mount()
        #expect(house.tree.mounts.first?.guest?.isInUse == false)
        // It goes with its last open.
        (intent.disposition, intent.access, intent.deletesOnClose) = (.open, [.readData, .delete], true)
        let opening = intent
        let opened = try await client.done {
            client.name("made") { host.open(house.caller, in: guest.root, $0, opening) }
        }
        house.unmountAtTheNextLook()
        await #expect(throws: FileError.stale) {
            try await client.done { host.close(house.caller, opened.handle) }
        }
        #expect(rig.get(rig.served + "/other/made") == "(none)")
        // A cut.
        try house.mount()
        #expect(house.tree.mounts.first?.guest?.isInUse == false)
        let pool = await BusyPool(rig)
        let request = client.request
        var cuts: [Task<Void, any Error>] = []
        await pool.queued {
            cuts.append(Task { _ = try await host.resize(request, file, to: 5, NewAttributes()) })
        }
        try house.unmount()
        await pool.releaseAll()
        await #expect(throws: FileError.stale) { try await cuts[0].value }
        #expect(rig.get(house.file).utf8.count == 5)
    }

    /// The same of a directory, by calls that wait.
    @Test func aDirectoryThatIsTakenAwayInTheMiddle() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let pair = try await TwoDirectories(rig)
        let (tree, other, client, point) = (pair.tree, pair.other, pair.client, pair.point)
        let calls: [@Sendable (FileID) async throws -> Void] = [
            { _ = try await tree.punch(client.request, $0, at: 0, length: 4) },
            { _ = try await tree.flush($0) },
            { _ = try await tree.clone(client.request, $0, at: 0, length: 2, to: $0, at: 4) },
        ]
        for (index, call) in calls.enumerated() {
            try tree.mount(other, on: point)
            let file = try await client.create("f\(index)", in: other.root).file.file
            try await client.write(file, "0123456789")
            let pool = await BusyPool(rig)
            var changes: [Task<Void, any Error>] = []
            await pool.queued { changes.append(Task { try await call(file) }) }
            try tree.unmount(other.root.subvolume)
            await pool.releaseAll()
            await #expect(throws: FileError.stale, "\(index)") { try await changes[0].value }
        }
    }
}

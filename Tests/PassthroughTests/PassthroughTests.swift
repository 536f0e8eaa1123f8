import Glibc
import Namespace
import Passthrough
import Runtime
import Testing

/// A directory of this machine, whose files others change meanwhile.
@Suite struct PassthroughTests {
    @Test func filesAreTheHostsOwn() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let client = Client(files: try rig.passthrough(), world: rig.world)
        let file = try await client.create("a").file
        try await client.write(file.file, "hello")
        #expect(rig.get(rig.served + "/a") == "hello")
        rig.put("from the host", rig.served + "/b")
        let other = try await client.lookup("b")
        #expect(try await client.read(other.file) == "from the host")
        #expect(try await client.names() == ["a", "b"])
        #expect(try await client.names(attributes: true) == ["a", "b"])
    }

    @Test func whatThereIsNotIsNotServed() async throws {
        let rig = try Rig()
        defer { rig.end() }
        #expect(throws: Passthrough.Failure.self) {
            _ = try Passthrough(path: rig.served + "/nothing", subvolume: 9, world: rig.world)
        }
        rig.put("x", rig.served + "/file")
        #expect(throws: Passthrough.Failure.self) {
            _ = try Passthrough(path: rig.served + "/file", subvolume: 9, world: rig.world)
        }
    }

    /// Nothing outside is read, changed or told of, by whatever links and names.
    @Test func nothingLeadsOut() async throws {
        let rig = try Rig()
        defer { rig.end() }
        rig.put("secret", rig.outside + "/secret")
        symlink(rig.outside, rig.served + "/out")
        symlink(rig.outside + "/secret", rig.served + "/leaf")
        symlink("../outside", rig.served + "/up")
        symlink("/", rig.served + "/root")
        let client = Client(files: try rig.passthrough(), world: rig.world)
        for name in ["out", "up", "root", "leaf"] {
            let link = try await client.lookup(name)
            #expect(link.type == .symlink)
            await #expect(throws: FileError.notDirectory) { _ = try await client.lookup("secret", in: link.file) }
            await #expect(throws: FileError.notDirectory) { _ = try await client.create("made", in: link.file) }
            await #expect(throws: FileError.wrongType) { _ = try await client.read(link.file) }
            await #expect(throws: FileError.wrongType) { try await client.write(link.file, "x") }
        }
        #expect(try await client.lookup("..").file == client.root)
        for name in ["../outside/secret", "/etc/passwd", "out/secret"] {
            await #expect(throws: FileError.noEntry) { _ = try await client.lookup(name) }
        }
        #expect(Rig.names(rig.outside) == ["secret"])
        #expect(rig.get(rig.outside + "/secret") == "secret")
    }

    /// A directory is replaced by a link, or moved away, between a client's calls.
    @Test func aDirectoryThatTurnsIntoALinkLeadsNowhere() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let client = Client(files: try rig.passthrough(), world: rig.world)
        let home = try await client.directory("home")
        _ = try await client.create("a", in: home)
        let deep = try await client.directory("deep", in: home)
        rename(rig.served + "/home", rig.outside + "/home")
        symlink(rig.outside + "/home", rig.served + "/home")
        for _ in 0..<2 {
            do {
                _ = try await client.lookup("a", in: home)
                Issue.record("the directory that was moved out is still served")
            } catch { #expect([.stale, .delay].contains(error as? FileError)) }
            do {
                _ = try await client.create("b", in: home)
                Issue.record("a file was made outside")
            } catch { #expect([.stale, .delay].contains(error as? FileError)) }
            // Not by a link on the way either, though the directory is the very same.
            do {
                _ = try await client.create("c", in: deep)
                Issue.record("a file was made outside, through a link on the way")
            } catch { #expect([.stale, .delay].contains(error as? FileError)) }
        }
        #expect(Rig.names(rig.outside + "/home").sorted() == ["a", "deep"])
        #expect(Rig.names(rig.outside + "/home/deep") == [])
    }

    @Test func handlesStayGoodOverRestartsAndRenamesOfTheHost() async throws {
        let rig = try Rig()
        defer { rig.end() }
        var client = Client(files: try rig.passthrough(), world: rig.world)
        let home = try await client.directory("home")
        let deep = try await client.directory("deep", in: home)
        let file = try await client.create("a", in: deep).file.file
        try await client.write(file, "mine")
        rename(rig.served + "/home", rig.served + "/moved")
        #expect(try await client.read(file) == "mine")
        // Another life: nothing is remembered.
        client = Client(files: try rig.passthrough(), world: rig.world)
        #expect(try await client.read(file) == "mine")
        #expect(try await client.lookup("a", in: deep).file == file)
        // Another file of the same name, perhaps of the same number, is another file.
        unlink(rig.served + "/moved/deep/a")
        rig.put("theirs", rig.served + "/moved/deep/a")
        do {
            let text = try await client.read(file)
            Issue.record("read \(text) by the handle of another file")
        } catch { #expect([.stale, .delay].contains(error as? FileError)) }
        #expect(try await client.read(try await client.lookup("a", in: deep).file) == "theirs")
    }

    /// A list of our own holds for the mode that was set with it: who changes the mode on the host has the last word.
    @Test func theHostsModeWins() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let client = Client(files: try rig.passthrough(), world: rig.world)
        let file = try await client.create("a").file.file
        let list = try #require(ACL([ACL.Entry(.allow, .user(77), [.readData])]))
        _ = try await client.done { client.files.setACL(client.request, file, list, mode: 0o600) }
        #expect(try await client.attributes(file).hasACL)
        chmod(rig.served + "/a", 0o640)
        #expect(try await client.attributes(file).hasACL == false)
        #expect(try await client.done { client.files.acl(client.request, file) } == nil)
    }

    @Test func whatWasBeingMadeIsNotShown() async throws {
        let rig = try Rig()
        defer { rig.end() }
        rig.put("half", rig.served + "/.proxyfs-1234")
        let client = Client(files: try rig.passthrough(), world: rig.world)
        #expect(try await client.names() == [])
        await #expect(throws: FileError.noEntry) { _ = try await client.lookup(".proxyfs-1234") }
        await #expect(throws: FileError.badName) { _ = try await client.create(".proxyfs-1") }
    }

    @Test func changesOfTheHostAreTold() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let deep = try await client.directory("deep", in: try await client.directory("home"))
        let volume = Volume("v", identity: 1, files, clock: rig.world.clock, loops: rig.world.loops)
        let caller = Caller(.root, client.request)
        let all = try await client.done {
            volume.watch(caller, files.root, .all, isRecursive: true, on: rig.loop, tell: {})
        }
        let one = try await client.done {
            volume.watch(caller, files.root, .all, isRecursive: false, on: rig.loop, tell: {})
        }
        // Until the watches are in place, changes may go by.
        try await Self.until {
            !(Self.events(volume, all).isEmpty)
        } doing: {
            rig.put("x", rig.served + "/home/deep/probe")
            unlink(rig.served + "/home/deep/probe")
        }
        rig.put("new", rig.served + "/home/deep/new")
        var seen: [WatchEvent] = []
        try await Self.until {
            seen.contains(WatchEvent(.added, Self.path("home/deep/new")))
        } doing: {
            seen += Self.events(volume, all)
        }
        rename(rig.served + "/home/deep/new", rig.served + "/home/deep/newer")
        try await Self.until {
            seen.contains(WatchEvent(.renamedTo, Self.path("home/deep/newer")))
        } doing: {
            seen += Self.events(volume, all)
        }
        #expect(seen.contains(WatchEvent(.renamedFrom, Self.path("home/deep/new"))))
        // What a client of ours does is told once.
        let made = try await client.done {
            client.name("ours") { volume.create(caller, in: deep, $0, NewFile(type: .file, mode: 0o644)) }
        }
        #expect(made.isNew)
        try await Self.until {
            seen.contains(WatchEvent(.added, Self.path("home/deep/ours")))
        } doing: {
            seen += Self.events(volume, all)
        }
        #expect(seen.filter { $0 == WatchEvent(.added, Self.path("home/deep/ours")) }.count == 1)
        // New directories are watched, too.
        mkdir(rig.served + "/home/more", 0o755)
        try await Self.until {
            seen.contains { $0.path == Self.path("home/more/x") }
        } doing: {
            rig.put("x", rig.served + "/home/more/x")
            seen += Self.events(volume, all)
        }
        #expect(Self.events(volume, one).allSatisfy { $0.path.count == 1 })
        volume.endWatch(all)
        volume.endWatch(one)
    }

    /// Who begins and ends watching in a loop leaves nothing behind, whatever the pool does first.
    @Test func watchesThatEndAreGone() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let home = try await client.directory("home")
        for index in 0..<50 { _ = try await client.directory("d\(index)", in: home) }
        for round in 0..<200 {
            files.observe(files.root, isRecursive: round % 2 == 0, isOn: true)
            files.observe(files.root, isRecursive: round % 2 == 0, isOn: false)
        }
        // Behind all of that: it alone is left, and stays.
        files.observe(home, isRecursive: false, isOn: true)
        var looks = 0
        try await Self.until {
            looks = files.watchedDirectories == 1 ? looks + 1 : 0
            return looks >= 30
        } doing: {
        }
        files.observe(home, isRecursive: false, isOn: false)
        try await Self.until {
            files.watchedDirectories == 0
        } doing: {
        }
    }

    /// Others may have changed something before the watch was in place: then the watcher is told to look anew.
    @Test func changesBeforeTheWatchAreNotLost() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let deep = try await client.directory("deep", in: try await client.directory("home"))
        await rig.loop.sleep(nanoseconds: 50_000_000)
        let told = Guarded<[String]>([])
        files.whenChanged { change in
            if case .overrun = change { told.withLock { $0.append("overrun") } }
        }
        files.observe(deep, isRecursive: false, isOn: true)
        files.observe(files.root, isRecursive: true, isOn: true)
        try await Self.until {
            files.watchedDirectories == 3
        } doing: {
        }
        await rig.loop.sleep(nanoseconds: 50_000_000)
        #expect(told.withLock { $0 } == [])
        for isRecursive in [true, false] {
            files.observe(isRecursive ? files.root : deep, isRecursive: isRecursive, isOn: false)
        }
        // As if the pool came to it a moment later.
        rig.put("x", rig.served + "/home/deep/x")
        files.observe(files.root, isRecursive: true, isOn: true)
        try await Self.until {
            told.withLock { $0 } == ["overrun"]
        } doing: {
        }
    }

    /// What a search goes through beside the file that it is for need not be remembered.
    @Test func filesOfLargeDirectoriesAreFound() async throws {
        let rig = try Rig()
        defer { rig.end() }
        for directory in 0..<20 {
            mkdir(rig.served + "/d\(directory)", 0o755)
            for file in 0..<20 { rig.put("\(directory) \(file)", rig.served + "/d\(directory)/f\(file)") }
        }
        var wanted: [(FileID, String)] = []
        let first = Client(files: try rig.passthrough(), world: rig.world)
        for directory in [0, 9, 19] {
            let home = try await first.lookup("d\(directory)").file
            wanted.append((try await first.lookup("f19", in: home).file, "\(directory) 19"))
        }
        // As after a restart.
        let files = try Passthrough(path: rig.served, subvolume: 9, world: rig.world, searchSeenMax: 10)
        let second = Client(files: files, world: rig.world)
        for (file, text) in wanted { #expect(try await second.read(file) == text) }
    }

    private static func path(_ text: String) -> [[UInt8]] { text.split(separator: "/").map { Array($0.utf8) } }

    private static func events(_ volume: Volume, _ watch: WatchID) -> [WatchEvent] {
        volume.takeEvents(watch)?.events ?? []
    }

    private static func until(_ isTrue: () -> Bool, doing: () -> Void) async throws {
        for _ in 0..<500 {
            doing()
            if isTrue() { return }
            try await Task.sleep(nanoseconds: 10_000_000)
        }
        Issue.record("it did not happen in time")
    }

    /// Nobody's lease is granted on what others change without asking.
    @Test func nothingIsKeptByLeases() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let volume = Volume("v", identity: 1, files, clock: rig.world.clock, loops: rig.world.loops)
        var intent = OpenIntent(.openIf, access: [.readData, .writeData], client: 1)
        intent.lease = LeaseWish(
            LeaseKey(client: 1, key: 2), .lease, [.read, .write, .handle],
            holder: LeaseHolder(loop: rig.loop, tell: { _ in }))
        let wanted = intent
        let opened = try await client.done {
            client.name("a") { volume.open(Caller(.root, client.request), in: files.root, $0, wanted) }
        }
        #expect(opened.lease.isEmpty)
        try await client.done { volume.close(Caller(.root, client.request), opened.handle) }
    }

    /// The host takes set-ID bits away from a file that gets another owner; the list, and whom it denies, stays.
    @Test func aListOutlivesAChangeOfTheOwner() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let volume = Volume("v", identity: 1, files, clock: rig.world.clock, loops: rig.world.loops)
        let file = try await client.create("f").file.file
        let list = try #require(
            ACL([
                .init(.deny, .user(9), .readData), .init(.allow, .owner, [.readData, .writeData]),
                .init(.allow, .everyone, .readData),
            ]))
        func root() -> Caller { Caller(.root, client.request) }
        func set(_ new: NewAttributes) async throws {
            try await client.done { volume.setAttributes(root(), file, new) }
        }
        var bits = NewAttributes()
        bits.mode = 0o4644
        try await set(bits)
        try await client.done { volume.setACL(root(), file, list) }
        for uid in [1001, 1002] as [UInt32] {
            var owned = NewAttributes()
            (owned.uid, owned.gid) = (uid, uid)
            try await set(owned)
            let found = try await client.attributes(file)
            #expect(found.uid == uid && found.hasACL)
            let kept = try await client.done { volume.acl(root(), file) }
            #expect(kept == list)
            var memory = [UInt8](repeating: 0, count: 1)
            let other = Caller(Credential(uid: 9, gid: 9), client.request)
            await #expect(throws: FileError.accessDenied) {
                try await client.done { memory.withUnsafeMutableBytes { volume.read(other, file, at: 0, into: $0) } }
            }
        }
    }

    /// Two copies of one request, on two threads: both get the answer of the one that was carried out.
    @Test func copiesOfARequestAreCarriedOutOnce() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let rounds: UInt64 = 400
        let begun = Guarded<UInt64>(0)
        let failures = Guarded<[String]>([])
        /// One of two that make each call at the same moment.
        @Sendable func both(_ what: String, _ call: @Sendable (UInt64, Request) async throws -> Void) async {
            for round in 0..<rounds {
                begun.withLock { $0 += 1 }
                while begun.withLock({ $0 }) < 2 * (round + 1) { await Task.yield() }
                var request = client.request
                request.token = RequestToken(client: 3, id: round, digest: round)
                do { try await call(round, request) } catch {
                    failures.withLock { $0.append("\(what) \(round): \(error)") }
                }
            }
        }
        func pair(_ what: String, _ call: @escaping @Sendable (UInt64, Request) async throws -> Void) async {
            begun.withLock { $0 = 0 }
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<2 { group.addTask { await both(what, call) } }
            }
        }
        await pair("create") { round, request in
            try await client.done {
                client.name("n\(round)") {
                    files.create(
                        request, in: files.root, $0, NewFile(type: .file, mode: 0o644), uid: 0, gid: 0, .exclusive)
                }
            }
        }
        await pair("remove") { round, request in
            var request = request
            request.token = RequestToken(client: 4, id: round, digest: round)
            let again = request
            try await client.done {
                client.name("n\(round)") { files.remove(again, in: files.root, $0, isDirectory: false) }
            }
        }
        #expect(failures.withLock { $0 } == [])
        #expect(try await client.names() == [])
        // Those that leave no name to tell by are told by the number of changes.
        let file = try await client.create("f").file.file
        let list = ACL([.init(.allow, .everyone, .readData)])
        @Sendable func make(_ what: String, _ round: UInt64, _ request: Request) async throws {
            switch what {
            case "size": _ = try await files.resize(request, file, to: round, NewAttributes())
            case "list": try await client.done { files.setACL(request, file, list, mode: 0o444) }
            case "link":
                try await client.done { client.name("l\(round)") { files.link(request, file, in: files.root, $0) } }
            default:
                try await client.done {
                    client.name("l\(round)") { old in
                        client.name("m\(round)") {
                            files.rename(request, from: files.root, old, to: files.root, $0, .noReplace)
                        }
                    }
                }
            }
        }
        for (index, what) in ["size", "list", "link", "rename"].enumerated() {
            let before = files.newestChange
            await pair(what) { round, request in
                var request = request
                request.token = RequestToken(client: 10 + UInt64(index), id: round, digest: round)
                try await make(what, round, request)
            }
            #expect(files.newestChange == before + rounds, "\(what)")
        }
        #expect(failures.withLock { $0 } == [])
    }

    /// What is kept of a file is changed by several at once: each leaves what the others have set.
    @Test func nothingThatIsKeptIsLost() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let (file, directory) = (try await client.create("f").file.file, try await client.directory("d"))
        let list = ACL([.init(.allow, .everyone, .readData)])
        for target in [file, directory] {
            let isOver = Guarded(false)
            let other = Task {
                while !isOver.withLock({ $0 }) {
                    if target == file {
                        try await client.done { files.setACL(client.request, file, list, mode: 0o444) }
                    } else {
                        try await client.done { files.setImplied(client.request, directory, true) }
                    }
                }
            }
            var lost = 0
            for round in 1...400 as ClosedRange<UInt32> {
                var new = NewAttributes()
                new.dos = round
                let wanted = new
                try await client.done { files.setAttributes(client.request, target, wanted) }
                // The other one may be about to write what it has read before.
                for _ in 0..<3 { await Task.yield() }
                if try await client.attributes(target).dos != round { lost += 1 }
            }
            isOver.withLock { $0 = true }
            try await other.value
            #expect(lost == 0, "\(target == file ? "a list" : "a mark")")
        }
    }

    /// Two that change what they have seen: no change is lost.
    @Test func noChangeIsMadeFromWhatIsNotSoAnyMore() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let file = try await client.create("f", NewFile(type: .file, mode: 0)).file.file
        let rounds = 400
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    for _ in 0..<rounds {
                        try await client.done { () -> Attempt<Changed> in
                            guard case .done(let found, _) = files.attributes(client.request, file) else {
                                return .refused(.stale)
                            }
                            var new = NewAttributes()
                            new.mode = (found.mode + 1) & 0o777
                            new.basis = AccessBasis(found, nil)
                            return files.setAttributes(client.request, file, new)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await client.attributes(file).mode == UInt16(2 * rounds) & 0o777)
    }

    /// What one client asks does not make the server forget what another one has asked.
    @Test func aBusyClientsRequestsAreItsOwn() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        func request(_ number: UInt64, _ id: UInt64) -> Request {
            var request = client.request
            request.token = RequestToken(client: number, id: id, digest: id)
            return request
        }
        func remove(_ number: UInt64, _ id: UInt64) async throws {
            let request = request(number, id)
            try await client.done { client.name("a") { files.remove(request, in: files.root, $0, isDirectory: false) } }
        }
        func touch(_ number: UInt64, _ id: UInt64, _ file: FileID) async throws {
            var new = NewAttributes()
            new.mode = 0o600
            let (request, wanted) = (request(number, id), new)
            try await client.done { files.setAttributes(request, file, wanted) }
        }
        let other = try await client.create("b").file.file
        _ = try await client.create("a")
        try await remove(1, 1)
        for id in 0..<5000 as Range<UInt64> { try await touch(2, id, other) }
        try await remove(1, 1)
        let isKnown = try await client.done { files.isRepeated(request(2, 100)) }
        #expect(!isKnown)
        // Of many clients those are remembered that asked last.
        for number in 10..<400 as Range<UInt64> { try await touch(number, 1, other) }
        await #expect(throws: FileError.noEntry) { try await remove(1, 1) }
        let isLast = try await client.done { files.isRepeated(request(399, 1)) }
        #expect(isLast)
        // Whatever clients one machine says it has, it pushes out its own.
        let machine = 1 << 32 as UInt64
        try await touch(7 * machine, 1, other)
        for name in 0..<400 as Range<UInt64> { try await touch(8 * machine + name, 1, other) }
        let isKnownStill = try await client.done { files.isRepeated(request(7 * machine, 1)) }
        #expect(isKnownStill)
        for number in 10..<400 as Range<UInt64> { try await touch(number << 48, 1, other) }
        let isKnownAtLast = try await client.done { files.isRepeated(request(7 * machine, 1)) }
        #expect(!isKnownAtLast)
    }

    /// Many machines of one network are many, and push out their own only when they have more than half of the room.
    @Test func aCrowdedNetworkMakesRoomItself() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let file = try await client.create("f").file.file
        func request(_ network: UInt64, _ machine: UInt64, _ name: UInt64) -> Request {
            var request = client.request
            let number = RequestToken.client(network: network << 48, machine: machine << 48, name: name << 32)
            request.token = RequestToken(client: number, id: 1, digest: 1)
            return request
        }
        func touch(_ network: UInt64, _ machine: UInt64, _ name: UInt64 = 0) async throws {
            var new = NewAttributes()
            new.mode = 0o600
            let (request, wanted) = (request(network, machine, name), new)
            try await client.done { files.setAttributes(request, file, wanted) }
        }
        func isKnown(_ network: UInt64, _ machine: UInt64) async throws -> Bool {
            try await client.done { files.isRepeated(request(network, machine, 0)) }
        }
        for network in 1...100 as ClosedRange<UInt64> { try await touch(network, 1) }
        for machine in 1...156 as ClosedRange<UInt64> { try await touch(1000, machine) }
        for (network, machine) in [(1, 1), (1000, 1), (1000, 156)] as [(UInt64, UInt64)] {
            let isThere = try await isKnown(network, machine)
            #expect(isThere, "\(network) \(machine)")
        }
        // There is no room any more: whoever comes, the crowd makes it.
        for machine in 157...400 as ClosedRange<UInt64> { try await touch(1000, machine) }
        for network in 101...110 as ClosedRange<UInt64> { try await touch(network, 1) }
        for network in 1...110 as ClosedRange<UInt64> {
            let isThere = try await isKnown(network, 1)
            #expect(isThere, "\(network)")
        }
        let (last, first) = (try await isKnown(1000, 400), try await isKnown(1000, 1))
        #expect(last && !first)
    }

    /// Who writes takes away what was said of the content, and nothing that somebody else sets at that moment.
    @Test func aWriteLeavesWhatOthersKeep() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        let begun = Guarded<UInt32>(0)
        let rounds: UInt32 = 600
        var lost = 0
        for round in 1...rounds {
            let placed = try await client.done {
                client.name("f") { name in
                    client.name("content") {
                        files.place(
                            client.request, in: files.root, name, $0, NewFile(type: .file, mode: 0o644), uid: 0, gid: 0,
                            attributes: [], seal: ContentSeal(high: 1, low: 2, parts: 0), expected: .anything)
                    }
                }
            }
            let file = placed.file.file
            #expect(placed.file.seal != nil)
            @Sendable func together(_ call: @Sendable () async throws -> Void) async throws {
                begun.withLock { $0 += 1 }
                while begun.withLock({ $0 }) < 2 * round { await Task.yield() }
                try await call()
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await together { try await client.write(file, "other") } }
                group.addTask {
                    try await together {
                        var new = NewAttributes()
                        new.dos = round
                        let wanted = new
                        try await client.done { files.setAttributes(client.request, file, wanted) }
                    }
                }
                try await group.waitForAll()
            }
            let found = try await client.attributes(file)
            #expect(found.seal == nil, "\(round)")
            if found.dos != round { lost += 1 }
        }
        #expect(lost == 0)
    }
}

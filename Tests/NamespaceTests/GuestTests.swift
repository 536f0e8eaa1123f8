import Namespace
import Runtime
import Simulator
import Testing

/// A volume that is mounted in another one.
@Suite struct GuestTests {
    /// The volume `v` with the directory `m`, where the volume `w` is to be seen.
    struct House {
        let rig: VolumeRig
        let other: HostedVolume
        let point: FileID

        var host: Volume { rig.volume }
        var guest: Volume { other.volume }

        func mount(root: FileID? = nil, isReadOnly: Bool = false) throws {
            try rig.hosted.tree.mount(
                guest, other.tree, root: root ?? guest.root, on: point, isReadOnly: isReadOnly)
        }

        func unmount() throws { _ = try rig.hosted.tree.unmount(guest.root.subvolume) }

        func make(_ name: String, in directory: FileID, of volume: Volume, type: FileType = .file)
            async throws -> FileID
        {
            try await rig.done {
                with(name) { volume.create(rig.caller(), in: directory, $0, NewFile(type: type, mode: 0o777)) }
            }.file.file
        }

        func find(_ name: String, in directory: FileID, of volume: Volume) async throws -> Attributes {
            try await rig.done { with(name) { volume.lookup(rig.caller(), in: directory, $0) } }
        }
    }

    static func run(seed: UInt64 = 1, _ body: @escaping @Sendable (House) async throws -> Void) {
        VolumeRig.run(seed: seed) { rig in
            let other = try await HostedVolume.open(
                "w", folder: "w", durability: .log, world: rig.world, loop: rig.loop, locks: rig.volume.locks)
            let point = try await rig.make("m", type: .directory, mode: 0o777)
            try await body(House(rig: rig, other: other, point: point))
            try await other.close()
        }
    }

    @Test func theWayLeadsThereAndBack() {
        Self.run { house in
            let (rig, host, guest) = (house.rig, house.host, house.guest)
            let made = try await house.make("f", in: guest.root, of: guest)
            #expect(host.root.subvolume != guest.root.subvolume)
            try house.mount()
            let root = try await house.find("m", in: host.root, of: host)
            #expect(root.file == guest.root)
            #expect(try await house.find("f", in: root.file, of: host).file == made)
            #expect(try await house.find("..", in: root.file, of: host).file == host.root)
            #expect(try await house.find("..", in: guest.root, of: guest).file == guest.root)
            var listed: [FileID] = []
            _ = try await rig.done {
                host.list(rig.caller(), host.root, after: 0, limit: 10, attributes: true) { entry, _ in
                    listed.append(entry.file)
                    return true
                }
            }
            #expect(listed == [guest.root])
            let path = try await rig.done { host.path(rig.caller(), of: root.file) }
            #expect(path == [Array("m".utf8)])
            // What is made by one way is there by the other, and a change by any way can be waited for.
            let below = try await house.make("d", in: root.file, of: host, type: .directory)
            let deep = try await house.make("g", in: below, of: host)
            #expect(try await house.find("g", in: below, of: guest).file == deep)
            try await rig.write(deep, "text", by: rig.caller())
            try await host.flush(deep, on: rig.loop)
            try await host.settled(try await host.flushed(deep), .log, on: rig.loop)
            #expect(try await rig.read(deep, by: rig.caller()) == "text")
            // What the guest keeps for itself is nobody's to see.
            var server = rig.caller()
            server.isServer = true
            let serving = server
            _ = try await rig.done {
                with(Volume.ownName) {
                    guest.create(serving, in: guest.root, $0, NewFile(type: .directory, mode: 0o777))
                }
            }
            for (volume, directory) in [(host, guest.root), (guest, guest.root)] {
                var below: [String] = []
                _ = try await rig.done {
                    volume.listPaths(rig.caller(), below: directory, from: [], prefix: [], limit: 100) { path, _ in
                        below.append(String(decoding: path, as: UTF8.self))
                        return true
                    }
                }
                #expect(below == ["d/", "d/g", "f"])
                let seen = await rig.error { with(Volume.ownName) { volume.lookup(rig.caller(), in: directory, $0) } }
                #expect(seen == .noEntry)
            }
            var paths: [String] = []
            var from: [UInt8]? = []
            while let start = from {
                from = try await rig.done {
                    host.listPaths(rig.caller(), below: host.root, from: start, prefix: [], limit: 100) { path, _ in
                        paths.append(String(decoding: path, as: UTF8.self))
                        return true
                    }
                }
            }
            #expect(paths == ["m/", "m/d/", "m/d/g", "m/f"])
            // Its root has rights of its own, wherever a listing begins.
            for (mode, wanted) in [(UInt16(0o700), ["m/"]), (0o755, ["m/", "m/d/", "m/d/g", "m/f"])] {
                var rights = NewAttributes()
                rights.mode = mode
                _ = try await rig.done { guest.setAttributes(rig.caller(), guest.root, rights) }
                for (start, prefix) in [("", ""), ("", "m/d/"), ("m/d", "")] {
                    var seen: [String] = []
                    var from: [UInt8]? = Array(start.utf8)
                    while let start = from {
                        from = try await rig.done {
                            host.listPaths(
                                rig.caller(1000), below: host.root, from: start, prefix: Array(prefix.utf8), limit: 100
                            ) { path, _ in
                                seen.append(String(decoding: path, as: UTF8.self))
                                return true
                            }
                        }
                    }
                    #expect(seen == wanted.filter { $0.hasPrefix(prefix) && $0 >= start }, "\(mode) \(start) \(prefix)")
                }
            }
            // Names do not go from one volume to another.
            let own = try await rig.make("own")
            #expect(await rig.renameError("own", "own", from: host.root, to: below) == .crossDevice)
            let linked = await rig.error { with("l") { host.link(rig.caller(), own, in: below, $0) } }
            #expect(linked == .crossDevice)
            let inside = try await rig.done {
                with("g") { old in with("h") { host.rename(rig.caller(), from: below, old, to: root.file, $0) } }
            }
            #expect(inside.file.file == deep)
            #expect(try await house.find("h", in: guest.root, of: guest).file == deep)
            // The directory that is covered stays.
            let removed = await rig.error {
                with("m") { host.remove(rig.caller(), in: host.root, $0, isDirectory: true) }
            }
            #expect(removed == .notEmpty)
            try house.unmount()
            #expect(await rig.error { host.attributes(rig.caller(), deep) } == .stale)
            #expect(try await house.find("m", in: host.root, of: host).file == house.point)
            #expect(try await rig.done { guest.attributes(rig.caller(), deep) }.size == 4)
        }
    }

    @Test func oneSetOfTables() {
        Self.run { house in
            let (rig, host, guest) = (house.rig, house.host, house.guest)
            try house.mount()
            let file = try await house.make("f", in: guest.root, of: guest)
            @Sendable func open(
                _ volume: Volume, _ access: AccessMask, shared: DataAccess, client: UInt64
            ) async throws -> OpenedFile {
                try await rig.done {
                    with("f") {
                        volume.open(
                            rig.caller(), in: guest.root, $0,
                            OpenIntent(.open, access: access, shared: shared, client: client))
                    }
                }
            }
            func error(_ body: () async throws -> OpenedFile) async -> FileError? {
                do {
                    _ = try await body()
                    return nil
                } catch { return error as? FileError }
            }
            // Share modes.
            let first = try await open(host, .readData, shared: .read, client: 1)
            #expect(await error { try await open(guest, .writeData, shared: .all, client: 2) } == .sharingViolation)
            #expect(guest.isOpen(file) && host.isOpen(file))
            let mount = try #require(rig.hosted.tree.mounts.first?.guest)
            #expect(mount.isInUse)
            _ = try await rig.done { host.close(rig.caller(), first.handle) }
            #expect(!mount.isInUse && !guest.isOpen(file))
            // Locks.
            let (one, two) = (LockOwner(.posix, client: 1, id: 1), LockOwner(.posix, client: 2, id: 2))
            #expect(try await rig.lockAll(file, one) == .granted)
            guard case .refused = try await rig.lockAll(file, two, in: guest) else {
                Issue.record("a lock was granted twice")
                return
            }
            #expect(guest.testLock(file, .whole, .shared, two) != nil)
            host.releaseLocks(one, on: file)
            #expect(try await rig.lockAll(file, two, in: guest) == .granted)
            #expect(host.unlock(file, .whole, two))
            // Leases: who opens by the other way ends one, and it is acknowledged by the first.
            let key = LeaseKey(client: 7, key: 9)
            let told = Heard<LeaseBreak>()
            var intent = OpenIntent(.open, access: .readData, client: 7)
            intent.lease = LeaseWish(
                key, .lease, .all, holder: LeaseHolder(loop: rig.loop, tell: { told.add($0) }))
            let leasing = intent
            let leased = try await rig.done {
                with("f") { host.open(rig.caller(), in: guest.root, $0, leasing) }
            }
            #expect(leased.lease == .all && host.lease(key) == .all && guest.lease(key) == .all)
            let writer = rig.loop.task { () async -> Bool in
                (try? await open(guest, .writeData, shared: .all, client: 2)) != nil
            }
            while told.all.isEmpty { await rig.settle() }
            #expect(told.all.first?.key == key)
            _ = host.acknowledge(key, told.all[0].to)
            #expect(await writer.value)
            _ = try await rig.done { host.close(rig.caller(), leased.handle) }
            // Watches.
            let seen = Heard<Int>()
            let watch = try await rig.done {
                host.watch(rig.caller(), guest.root, .all, isRecursive: false, on: rig.loop, tell: { seen.add(1) })
            }
            _ = try await house.make("new", in: guest.root, of: guest)
            while seen.all.isEmpty { await rig.settle() }
            #expect(host.takeEvents(watch)?.events.isEmpty == false)
            host.endWatch(watch)
            #expect(host.takeEvents(watch) == nil)
            // Quotas are those of the volume that has the file.
            guest.setQuotas([QuotaRecord(subject: .volume, limit: QuotaLimit(hardBytes: 5))], loop: rig.loop)
            while guest.quota(.volume)?.isCounted != true { await rig.settle() }
            #expect(await rig.writeError(file, "123456", by: rig.caller()) == .quotaExceeded)
            try await rig.write(file, "12345", by: rig.caller())
            #expect(guest.quota(.volume)?.usage.bytes == 5 && host.quota(.volume) == nil)
            #expect(try await rig.done { host.space(rig.caller(), at: file) }.bytes == 5)
        }
    }

    @Test func rulesOfMounting() {
        Self.run { house in
            let (rig, host, guest) = (house.rig, house.host, house.guest)
            let inside = try await house.make("d", in: guest.root, of: guest, type: .directory)
            let file = try await house.make("f", in: inside, of: guest)
            try house.mount(root: inside, isReadOnly: true)
            // Only what is below the directory is to be seen, and nothing changed by this way.
            #expect(try await house.find("f", in: inside, of: host).file == file)
            #expect(try await house.find("..", in: inside, of: host).file == host.root)
            #expect(await rig.writeError(file, "x", by: rig.caller()) == .readOnly)
            let made = await rig.error {
                with("n") { host.create(rig.caller(), in: inside, $0, NewFile(type: .file, mode: 0o600)) }
            }
            #expect(made == .readOnly)
            _ = try await rig.done { with("x") { guest.write(rig.caller(), file, at: 0, $0) } }
            // No circles, and nothing that would be seen by one way only.
            let tree = rig.hosted.tree
            let second = try await rig.make("m2", type: .directory)
            func fault(_ body: () throws -> Void) -> MountTree.Fault? {
                do {
                    try body()
                    return nil
                } catch { return error as? MountTree.Fault }
            }
            #expect(fault { try house.mount() } == .numberTaken)
            #expect(fault { try tree.mount(host, tree, root: host.root, on: second) } == .guestHasMounts)
            let back = fault { try house.other.tree.mount(host, tree, root: host.root, on: inside) }
            #expect(back == .guestHasMounts)
            #expect(house.other.tree.isGuest && !tree.isGuest)
            let bound = try await rig.done {
                tree.bind(inside, on: second, number: MountTree.firstSubvolume + 1, rig.caller().request)
            }
            #expect(bound == .notOurs)
            let covered = try await rig.done {
                tree.bind(second, on: inside, number: MountTree.firstSubvolume + 1, rig.caller().request)
            }
            #expect(covered == .notOurs)
            // Taken away by force: what is open is still closed.
            let opened = try await rig.done {
                with("f") {
                    host.open(rig.caller(), in: inside, $0, OpenIntent(.open, access: .readData, client: 1))
                }
            }
            try house.unmount()
            #expect(!house.other.tree.isGuest)
            #expect(await rig.error { host.attributes(rig.caller(), file) } == .stale)
            #expect(guest.isOpen(file))
            _ = try await rig.done { host.close(rig.caller(), opened.handle) }
            #expect(!guest.isOpen(file))
        }
    }

    /// By force and back again: each open is ended in its own volume, and nobody's else.
    @Test func openOverMountings() {
        Self.run { house in
            let (rig, host, guest) = (house.rig, house.host, house.guest)
            let inside = try await house.make("f", in: guest.root, of: guest)
            let outside = try await house.make("o", in: host.root, of: host)
            func open(_ volume: Volume, _ name: String, _ directory: FileID) async throws -> OpenHandle {
                let intent = OpenIntent(.open, access: .readData, shared: .read, client: 1)
                return try await rig.done {
                    with(name) { volume.open(rig.caller(), in: directory, $0, intent) }
                }.handle
            }
            try house.mount()
            let first = try await open(host, "f", guest.root)
            try house.unmount()
            let other = try await open(host, "o", host.root)
            try house.mount(isReadOnly: true)
            let second = try await open(host, "f", guest.root)
            let mounted = try #require(rig.hosted.tree.mounts.first?.guest)
            _ = try await rig.done { host.close(rig.caller(), first) }
            #expect(mounted.isInUse && guest.isOpen(inside) && host.isOpen(outside))
            try house.unmount()
            _ = try await rig.done { host.close(rig.caller(), second) }
            #expect(!mounted.isInUse && !guest.isOpen(inside) && host.isOpen(outside))
            #expect(await rig.error { host.close(rig.caller(), second) } == .stale)
            _ = try await rig.done { host.close(rig.caller(), other) }
            #expect(!host.isOpen(outside))
        }
    }

    /// A guest's files are its own in every account, and its changes are waited for when it is mounted no more.
    @Test func promisesOverUnmounting() {
        Self.run { house in
            let (rig, host, guest) = (house.rig, house.host, house.guest)
            let file = try await house.make("f", in: guest.root, of: guest)
            try house.mount()
            #expect(host.fileSystem.isForeign(file) && !host.fileSystem.isForeign(host.root))
            let own = try await rig.done {
                with("own") {
                    host.create(rig.caller(), in: host.root, $0, NewFile(type: .file, mode: 0o600))
                }
            }.file.file
            // What lies in the volume itself waits for no guest.
            #expect(host.newestChange(at: own) >> 63 == 0 && host.newestChange(at: file) >> 63 == 1)
            let number = await rig.loop.task { () async -> UInt64 in
                while true {
                    switch with(
                        "late",
                        {
                            host.create(rig.caller(), in: guest.root, $0, NewFile(type: .file, mode: 0o600))
                        })
                    {
                    case .done(_, let number): return number
                    case .refused: return 0
                    case .lacks(let lack): try? await lack.supplied()
                    }
                }
            }.value
            #expect(number > 0)
            try house.unmount()
            try await host.settled(number, .log, on: rig.loop)
            let isSafe = Heard<Bool>()
            guest.fileSystem.whenSettled(guest.newestChange, .log, on: rig.loop) { isSafe.add($0 == nil) }
            #expect(isSafe.all == [true])
        }
    }

    /// Opens by two ways against a list of them.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func opensByBothWays(seed: UInt64) {
        Self.run(seed: seed) { house in
            let (rig, host, guest) = (house.rig, house.host, house.guest)
            try house.mount()
            var generator = Generator(seed: seed, stream: "guests")
            struct Held {
                var handle: OpenHandle
                var isByHost: Bool
                var name: String
                var access: DataAccess
                var shared: DataAccess
            }
            var held: [Held] = []
            var files: [String: FileID] = [:]
            var (refused, granted, isMounted) = (0, 0, true)
            for step in 0..<4000 {
                let name = "f\(generator.below(4))"
                let isByHost = isMounted && generator.below(2) == 0
                let volume = isByHost ? host : guest
                switch generator.below(8) {
                case 0 where held.allSatisfy({ !$0.isByHost }) && generator.below(10) == 0:
                    if isMounted { try house.unmount() } else { try house.mount() }
                    isMounted.toggle()
                case 0, 1:
                    guard files[name] == nil else { continue }
                    files[name] = try await house.make(name, in: guest.root, of: volume)
                case 2:
                    guard let file = files[name] else { continue }
                    let isOpen = held.contains { $0.name == name }
                    #expect(volume.isOpen(file) == isOpen, "seed \(seed), step \(step)")
                    guard !isOpen else { continue }
                    _ = try await rig.done {
                        with(name) { volume.remove(rig.caller(), in: guest.root, $0, isDirectory: false) }
                    }
                    files[name] = nil
                case 3, 4:
                    guard !held.isEmpty else { continue }
                    let open = held.remove(at: generator.below(held.count))
                    _ = try await rig.done {
                        (open.isByHost ? host : guest).close(rig.caller(), open.handle)
                    }
                default:
                    let all: [DataAccess] = [.read, .write, .all]
                    let (access, shared) = (all[generator.below(3)], all[generator.below(3)])
                    var mask: AccessMask = []
                    if access.contains(.read) { mask.insert(.readData) }
                    if access.contains(.write) { mask.insert(.writeData) }
                    let intent = OpenIntent(.open, access: mask, shared: shared, client: isByHost ? 1 : 2)
                    let isThere = files[name] != nil
                    let isAllowed = held.allSatisfy {
                        $0.name != name || $0.shared.isSuperset(of: access) && shared.isSuperset(of: $0.access)
                    }
                    do {
                        let opened = try await rig.done {
                            with(name) { volume.open(rig.caller(), in: guest.root, $0, intent) }
                        }
                        #expect(isThere && isAllowed, "seed \(seed), step \(step): \(name) was opened")
                        held.append(
                            Held(
                                handle: opened.handle, isByHost: isByHost, name: name, access: access, shared: shared))
                        granted += 1
                    } catch {
                        let expected: FileError = isThere ? .sharingViolation : .noEntry
                        #expect(
                            error as? FileError == expected && !(isThere && isAllowed), "seed \(seed), step \(step)")
                        refused += 1
                    }
                }
            }
            #expect(refused > 300 && granted > 300, "seed \(seed): \(refused) refused, \(granted) granted")
            for open in held {
                _ = try await rig.done { (open.isByHost ? host : guest).close(rig.caller(), open.handle) }
            }
            #expect(guest.openCount == 0 && host.openCount == 0)
        }
    }
}

import Namespace
import Runtime
import Testing

/// What protocols owe each other, through a whole volume: docs/sharing.md, rule by rule.
@Suite struct SharingTests {
    static let readWrite: AccessMask = [.readData, .writeData, .readAttributes]

    private static func intent(
        _ disposition: OpenIntent.Disposition, _ access: AccessMask = readWrite, shared: DataAccess = .all,
        client: UInt64 = 1
    ) -> OpenIntent {
        OpenIntent(disposition, access: access, shared: shared, client: client)
    }

    // MARK: Opens

    @Test func dispositions() {
        VolumeRig.run { rig in
            #expect(await rig.openError("a", Self.intent(.open)) == .noEntry)
            #expect(
                await rig.openError("a", Self.intent(.overwrite))
                    == .noEntry)
            let made = try await rig.open("a", Self.intent(.create))
            #expect(made.action == .created && made.name == Array("a".utf8))
            #expect(
                await rig.openError("a", Self.intent(.create))
                    == .exists)
            try await rig.write(made.handle.file, "hello", by: rig.caller(0, made.handle))
            let again = try await rig.open("a", Self.intent(.openIf))
            #expect(again.action == .opened && again.file.size == 5)
            let cut = try await rig.open("a", Self.intent(.overwriteIf))
            #expect(cut.action == .overwritten && cut.file.size == 0 && cut.file.file == made.handle.file)
            let superseded = try await rig.open("a", Self.intent(.supersede))
            #expect(superseded.action == .superseded)
            for opened in [made, again, cut, superseded] {
                _ = try await rig.close(opened.handle)
            }
            #expect(rig.volume.openCount == 0)
            #expect(await rig.closeError(made.handle) == .stale)
            var directory = Self.intent(.openIf, [.readData])
            directory.kind = .directory
            #expect(try await rig.open("d", directory).file.type == .directory)
            #expect(await rig.openError("a", directory) == .notDirectory)
            directory.kind = .notDirectory
            #expect(await rig.openError("d", directory) == .isDirectory)
        }
    }

    @Test func rightsAreCheckedOnceAndStayWithTheHandle() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o600)
            var new = NewAttributes()
            new.uid = 7
            new.gid = 7
            _ = try await rig.set(file, new)
            #expect(
                await rig.openError("a", Self.intent(.open), by: rig.caller(8))
                    == .accessDenied)
            let opened = try await rig.open("a", Self.intent(.open), uid: 7)
            new = NewAttributes()
            new.mode = 0
            _ = try await rig.set(file, new)
            var caller = rig.caller(7, opened.handle)
            caller.isStateless = false
            try await rig.write(file, "x", by: caller)
            let reader = try await rig.open("a", Self.intent(.open, [.readData]))
            #expect(await rig.writeError(file, "y", at: 0, by: rig.caller(0, reader.handle)) == .accessDenied)
            var all = Self.intent(.open, [])
            all.wantsAll = true
            #expect(try await rig.open("a", all, uid: 8).handle.granted.isDisjoint(with: [.readData, .writeData]))
            let readOnly = rig.caller(0, isReadOnly: true)
            #expect(await rig.openError("a", Self.intent(.open), by: readOnly) == .readOnly)
        }
    }

    /// NFS's REMOVE and RENAME may come twice, the second time when the name has gone.
    @Test(arguments: [false, true]) func repeatedRequestsGetTheirFirstAnswer(isMetered: Bool) {
        VolumeRig.run { rig in
            if isMetered { try await rig.set(quotas: [.volume: QuotaLimit(hardFiles: 100)]) }
            let busy = try await rig.make("busy")
            _ = try await rig.make("a")
            _ = try await rig.make("b")
            func caller(_ id: UInt64) -> Caller {
                var caller = rig.caller()
                caller.request.token = RequestToken(client: 1, id: id, digest: id)
                return caller
            }
            func remove(_ id: UInt64) async -> FileError? { await rig.removeError("a", by: caller(id)) }
            func rename(_ id: UInt64) async -> FileError? {
                await rig.error {
                    with("b") { old in
                        with("c") { rig.volume.rename(caller(id), from: rig.root, old, to: rig.root, $0) }
                    }
                }
            }
            #expect(await remove(1) == nil)
            #expect(await rename(2) == nil)
            for _ in 0..<2 {
                #expect(await remove(1) == nil)
                #expect(await rename(2) == nil)
                #expect(await remove(3) == .noEntry)
                #expect(await rename(4) == .noEntry)
                // The same when somebody has anything open.
                _ = try await rig.open("busy", OpenIntent(.open, access: .readData, client: 1))
            }
            if isMetered { #expect(rig.volume.quota(.volume)?.usage.files == 2) }
            _ = busy
        }
    }

    @Test func watchesTogetherKeepNoMoreThanTheyMay() {
        VolumeRig.run { rig in
            var watches: [WatchID] = []
            for _ in 0..<60 { watches.append(try await rig.watch(rig.root, isRecursive: false) {}) }
            let tail = String(repeating: "x", count: 250)
            for index in 0..<4096 { _ = try await rig.make("\(10_000 + index)\(tail)") }
            var (bytes, overruns) = (0, 0)
            for watch in watches {
                let events = rig.volume.takeEvents(watch)
                bytes += events?.events.reduce(0) { $0 + $1.path.reduce(0) { $0 + $1.count } } ?? 0
                overruns += events?.isOverrun == true ? 1 : 0
            }
            #expect(bytes < 64 << 20 && bytes > 32 << 20 && overruns > 0)
            // There is room again.
            _ = try await rig.make("one more")
            for watch in watches { #expect(rig.volume.takeEvents(watch)?.isOverrun == false) }
            // One directory has only so many.
            for _ in watches.count..<4096 { _ = try await rig.watch(rig.root, isRecursive: false) {} }
            let more = await rig.error {
                rig.volume.watch(rig.caller(), rig.root, .all, isRecursive: false, on: rig.loop, tell: {})
            }
            #expect(more == .tooManyLocks)
        }
    }

    @Test func aRemovalDoesNotDependOnStrangers() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o755)
            let stranger = try await rig.make("s")
            for isBusy in [false, true] {
                let file = try await rig.make("f", mode: 0o600, in: home)
                let list = try #require(ACL([.init(.allow, .user(7), .delete)]))
                _ = try await rig.setACL(file, list)
                if isBusy { _ = try await rig.open("s", OpenIntent(.open, access: .readData, client: 1)) }
                #expect(await rig.removeError("f", in: home, by: rig.caller(8)) == .accessDenied)
                #expect(await rig.removeError("f", in: home, by: rig.caller(7)) == nil)
            }
            _ = stranger
        }
    }

    @Test func aClientThatComesAgainAndAgainIsToldInTheEnd() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            let open = try await rig.open(
                "a", OpenIntent(.open, access: .readData, shared: .read, client: 1))
            let second: UInt64 = 1_000_000_000
            for _ in 0..<7 {
                #expect(await rig.writeError(file, "x", by: rig.caller()) == .sharingViolation)
                await rig.loop.sleep(nanoseconds: 5 * second)
            }
            #expect(await rig.writeError(file, "x", by: rig.caller()) == .accessDenied)
            // Others, and whoever comes back after a while, are told to wait first.
            var server = rig.caller()
            server.isServer = true
            #expect(await rig.writeError(file, "x", by: server) == .sharingViolation)
            await rig.loop.sleep(nanoseconds: 40 * second)
            #expect(await rig.writeError(file, "x", by: rig.caller()) == .sharingViolation)
            _ = try await rig.close(open.handle)
            try await rig.write(file, "x", by: rig.caller())
        }
    }

    /// What others do with the file, and other uses of it, take nobody's patience from him, nor use it up.
    @Test func everyClientHasAPatienceOfItsOwn() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            let open = try await rig.open(
                "a", OpenIntent(.open, access: .readData, shared: .read, client: 1))
            let second: UInt64 = 1_000_000_000
            var other = rig.caller()
            other.client = 2
            for _ in 0..<7 {
                #expect(await rig.writeError(file, "x", by: rig.caller()) == .sharingViolation)
                #expect(try await rig.read(file, by: rig.caller()) == "")
                #expect(try await rig.read(file, by: other) == "")
                await rig.loop.sleep(nanoseconds: 5 * second)
            }
            #expect(await rig.writeError(file, "x", by: rig.caller()) == .accessDenied)
            #expect(await rig.writeError(file, "x", by: other) == .sharingViolation)
            #expect(await rig.writeError(file, "x", by: rig.caller(7)) == .sharingViolation)
            #expect(await rig.removeError("a", in: rig.root, by: rig.caller()) == .sharingViolation)
            _ = try await rig.close(open.handle)
            await rig.loop.sleep(nanoseconds: 40 * second)
            // Of bytes that are locked, only these very ones prove anything.
            let locker = try await rig.open("a", Self.intent(.open))
            let range = LockRange(accessed: 0, count: 10)!
            _ = try await rig.done {
                rig.volume.lock(rig.caller(0, locker.handle), file, range, .exclusive, locker.handle.lockOwner)
            }
            for _ in 0..<7 {
                #expect(await rig.writeError(file, "x", by: other) == .locked)
                try await rig.write(file, "x", at: 20, by: other)
                await rig.loop.sleep(nanoseconds: 5 * second)
            }
            #expect(await rig.writeError(file, "x", by: other) == .accessDenied)
            _ = try await rig.close(locker.handle)
        }
    }

    @Test func whoMayOnlyAppendChangesNothingThatIsThere() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            try await rig.write(file, "0123456789", by: rig.caller())
            let open = try await rig.open("a", OpenIntent(.open, access: [.readData, .appendData], client: 1))
            let caller = rig.caller(0, open.handle)
            for offset: UInt64 in [0, 5, 9] {
                #expect(await rig.writeError(file, "x", at: offset, by: caller) == .accessDenied)
                #expect(await rig.error { rig.volume.mayWrite(caller, file, at: offset, count: 1) } == .accessDenied)
            }
            var shorter = NewAttributes()
            shorter.size = 9
            #expect(await rig.error { rig.volume.mayResize(caller, file, shorter) } == .accessDenied)
            try await rig.write(file, "ab", at: 10, by: caller)
            #expect(try await rig.read(file, by: caller) == "0123456789ab")
            _ = try await rig.close(open.handle)
        }
    }

    @Test func shareModesBindEverybody() {
        VolumeRig.run { rig in
            let opened = try await rig.open("a", Self.intent(.create, shared: .read))
            let file = opened.handle.file
            #expect(
                await rig.openError("a", Self.intent(.open, client: 2)) == .sharingViolation)
            // NFS and the object protocols have no opens.
            #expect(await rig.writeError(file, "x", at: 0, by: rig.caller()) == .sharingViolation)
            #expect(try await rig.read(file, by: rig.caller()) == "")
            #expect(
                await rig.removeError("a", in: rig.root, by: rig.caller())
                    == .sharingViolation)
            #expect(
                await rig.renameError("a", "b") == .sharingViolation)
            var size = NewAttributes()
            size.size = 0
            try await rig.write(file, "hello", by: rig.caller(0, opened.handle))
            let refusal1 = await rig.error { rig.volume.mayResize(rig.caller(), file, size) }
            #expect(refusal1 == .sharingViolation)
            #expect(await rig.replaceError(file) == .sharingViolation)
            _ = try await rig.close(opened.handle)
            try await rig.write(file, "x", by: rig.caller())
            #expect(await rig.replaceError(file) == nil)
        }
    }

    @Test func namesGoWithTheLastOpen() {
        VolumeRig.run { rig in
            var intent = Self.intent(.create, [.readData, .delete])
            intent.deletesOnClose = true
            let first = try await rig.open("a", intent)
            let second = try await rig.open("a", Self.intent(.open, [.readData]))
            _ = try await rig.close(first.handle)
            #expect(rig.volume.isDeletePending(second.handle))
            #expect(await rig.exists("a"))
            #expect(
                await rig.openError("a", Self.intent(.open))
                    == .deletePending)
            // The name moves, and its end with it.
            _ = try await rig.rename("a", "b")
            #expect(rig.volume.name(of: second.handle)?.name == Array("b".utf8))
            let closed = try await rig.close(second.handle)
            #expect(closed.isRemoved)
            #expect(await !rig.exists("b"))

            // Taken back, it stays.
            let third = try await rig.open("c", Self.intent(.create, [.readData, .delete]))
            _ = try await rig.done { rig.volume.setDeletePending(rig.caller(), third.handle, true) }
            _ = try await rig.done { rig.volume.setDeletePending(rig.caller(), third.handle, false) }
            _ = try await rig.close(third.handle)
            #expect(await rig.exists("c"))

            // A directory goes only when it is empty.
            let home = try await rig.make("d", type: .directory)
            _ = try await rig.make("x", in: home)
            let directory = try await rig.open("d", Self.intent(.open, [.readData, .delete]))
            let refusal2 = await rig.error { rig.volume.setDeletePending(rig.caller(), directory.handle, true) }
            #expect(refusal2 == .notEmpty)
        }
    }

    @Test func anOpenFileOutlivesItsName() {
        VolumeRig.run { rig in
            let opened = try await rig.open("a", Self.intent(.create))
            try await rig.write(opened.handle.file, "old", by: rig.caller(0, opened.handle))
            _ = try await rig.remove("a", in: rig.root, by: rig.caller())
            #expect(rig.volume.name(of: opened.handle) == nil)
            _ = try await rig.make("a")
            #expect(try await rig.read(opened.handle.file, by: rig.caller(0, opened.handle)) == "old")
            let closed = try await rig.close(opened.handle)
            #expect(!closed.isRemoved)
            #expect(await rig.exists("a"))
            let refusal3 = await rig.error { rig.volume.attributes(rig.caller(), opened.handle.file) }
            #expect(refusal3 == .stale)
        }
    }

    // MARK: Locks

    @Test func locksWaitAndBind() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            try await rig.write(file, "hello", by: rig.caller())
            let opened = try await rig.open("a", Self.intent(.open))
            guard let range = LockRange(exactly: 0, length: 3) else { return }
            let answer = try await rig.lock(
                file, range, .exclusive, opened.handle.lockOwner, by: rig.caller(0, opened.handle))
            #expect(answer == .granted)
            #expect(await rig.writeError(file, "x", at: 1, by: rig.caller()) == .locked)
            try await rig.write(file, "x", at: 4, by: rig.caller())
            try await rig.write(file, "y", at: 1, by: rig.caller(0, opened.handle))
            #expect(await rig.readError(file, by: rig.caller()) == .locked)
            #expect(await rig.replaceError(file) == .locked)
            let cut = try await rig.open("a", Self.intent(.overwrite))
            #expect(cut.file.size == 0)
            _ = try await rig.close(cut.handle)

            let process = LockOwner(.posix, client: 9, id: 1)
            let heard = Heard<LockRefusal?>()
            let waits = try await rig.lock(
                file, range, .shared, process, waiter: LockWaiter(loop: rig.loop) { _, refusal in heard.add(refusal) })
            guard case .waits = waits else {
                Issue.record("it was to wait")
                return
            }
            #expect(rig.volume.testLock(file, range, .shared, process)?.owner == opened.handle.lockOwner)
            await rig.settle()
            #expect(heard.all.isEmpty)
            // The end of the open is the end of its locks.
            _ = try await rig.close(opened.handle)
            await rig.settle()
            #expect(heard.all.count == 1 && heard.all[0] == nil)
            // A process's lock binds no write over NFS.
            try await rig.write(file, "z", by: rig.caller())
            rig.volume.locks.release(client: 9)
            #expect(!rig.volume.locks.isUsed)
        }
    }

    @Test func aWaitEndsInTime() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            let (one, two) = (LockOwner(.posix, client: 1, id: 1), LockOwner(.posix, client: 2, id: 1))
            _ = try await rig.lockAll(file, one)
            let heard = Heard<LockRefusal?>()
            let deadline = rig.world.clock.monotonic() + 2_000_000_000
            _ = try await rig.lockAll(
                file, two, waiter: LockWaiter(loop: rig.loop, deadline: deadline) { _, refusal in heard.add(refusal) })
            await rig.loop.sleep(nanoseconds: 1_900_000_000)
            #expect(heard.all.isEmpty)
            await rig.loop.sleep(nanoseconds: 200_000_000)
            #expect(heard.all == [.timeout])
        }
    }

    @Test func aCircleOverTwoVolumesIsFound() {
        VolumeRig.run { rig in
            let other = Volume(
                "w", identity: 2, rig.volume.fileSystem, clock: rig.world.clock, random: rig.world.random,
                locks: rig.volume.locks)
            let file = try await rig.make("a")
            let (one, two) = (LockOwner(.posix, client: 1, id: 1), LockOwner(.posix, client: 2, id: 1))
            // The same file of the file system, but of another volume: they do not meet.
            #expect(try await rig.lockAll(file, one) == .granted)
            #expect(try await rig.lockAll(file, two, in: other) == .granted)
            let waiter = LockWaiter(loop: rig.loop) { _, _ in }
            let first = try await rig.lockAll(file, one, in: other, waiter: waiter)
            guard case .waits = first else {
                Issue.record("it was to wait")
                return
            }
            let second = try await rig.lockAll(file, two, waiter: waiter)
            #expect(second == .refused(.deadlock))
        }
    }

    // MARK: Leases

    private static func lease(
        _ rig: VolumeRig, _ key: UInt128, _ wanted: LeaseState, _ heard: Heard<LeaseBreak>
    ) -> LeaseWish {
        LeaseWish(
            LeaseKey(client: key, key: key), .lease, wanted,
            holder: LeaseHolder(loop: rig.loop) { message in heard.add(message) })
    }

    /// Also when the last step of it is refused: the content has changed.
    @Test func aLeaseBesideAHalfOfAChangeIsBroken() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o777)
            var owned = NewAttributes()
            owned.uid = 7
            _ = try await rig.set(file, owned)
            var new = NewAttributes()
            (new.size, new.mode) = (100, 0o700)
            let (caller, wanted) = (rig.caller(7), new)
            let allowed = try await rig.done { rig.volume.mayResize(caller, file, wanted) }
            owned.uid = 0
            _ = try await rig.set(file, owned)
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.open)
            intent.lease = Self.lease(rig, 1, .all, heard)
            let opened = try await rig.open("a", intent)
            #expect(opened.lease == .all)
            await #expect(throws: FileError.notPermitted) {
                _ = try await rig.volume.resize(caller.request, file, to: 100, allowed)
            }
            await rig.settle()
            #expect(heard.all.map(\.to) == [[]])
            #expect(try await rig.attributes(file).size == 100)
        }
    }

    /// Who was granted a lease while a change of size was on its way is told of it; who makes it keeps his own.
    @Test func aLeaseBesideAChangeOfSizeIsBroken() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            var wanted = NewAttributes()
            wanted.size = 100
            let size = wanted
            let allowed = try await rig.done { rig.volume.mayResize(rig.caller(), file, size) }
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.open)
            intent.lease = Self.lease(rig, 1, .all, heard)
            let opened = try await rig.open("a", intent)
            #expect(opened.lease == .all)
            _ = try await rig.volume.resize(rig.caller().request, file, to: 100, allowed)
            await rig.settle()
            #expect(heard.all.map(\.to) == [[]])
            // His own change is no news to him.
            let own = Heard<LeaseBreak>()
            var other = Self.intent(.create)
            other.lease = Self.lease(rig, 2, .all, own)
            let mine = try await rig.open("b", other)
            let caller = rig.caller(0, mine.handle)
            let mayDo = try await rig.done { rig.volume.mayResize(caller, mine.handle.file, size) }
            _ = try await rig.volume.resize(caller.request, mine.handle.file, to: 100, mayDo)
            await rig.settle()
            #expect(own.all.isEmpty)
        }
    }

    @Test func whoeverComesWaitsForALease() {
        VolumeRig.run { rig in
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.create)
            intent.lease = Self.lease(rig, 1, .all, heard)
            let opened = try await rig.open("a", intent)
            #expect(opened.lease == .all)
            let file = opened.handle.file
            // Its owner is not in his own way.
            try await rig.write(file, "mine", by: rig.caller(0, opened.handle))
            #expect(heard.all.isEmpty)
            let ended = Heard<String>()
            let reader = rig.loop.task {
                do { ended.add(try await rig.read(file, by: rig.caller())) } catch { Issue.record("\(error)") }
            }
            await rig.settle()
            #expect(heard.all.map(\.to) == [[.read, .handle]] && ended.all.isEmpty)
            try await rig.write(file, "last", by: rig.caller(0, opened.handle))
            #expect(
                rig.volume.acknowledge(LeaseKey(client: 1, key: 1), [.read, .handle]) == .accepted([.read, .handle]))
            await reader.value
            #expect(ended.all == ["last"])
            // A write over NFS takes the rest, and waits for nobody.
            try await rig.write(file, "NFS", by: rig.caller())
            await rig.settle()
            #expect(heard.all.last?.to == [])
        }
    }

    @Test func nobodyWaitsLongerThanTheTime() {
        VolumeRig.run { rig in
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.create)
            intent.lease = Self.lease(rig, 1, .all, heard)
            let opened = try await rig.open("a", intent)
            let start = rig.world.clock.monotonic()
            #expect(await rig.replaceError(opened.handle.file) == nil)
            let waited = rig.world.clock.monotonic() - start
            #expect(waited >= 35_000_000_000 && waited < 36_000_000_000)
            #expect(rig.volume.acknowledge(LeaseKey(client: 1, key: 1), []) == .notBreaking)
            #expect(rig.volume.lease(LeaseKey(client: 1, key: 1)) == [])
        }
    }

    @Test func aClosedHandleKeptOpenMakesRoom() {
        VolumeRig.run { rig in
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.create, shared: [])
            intent.lease = LeaseWish(
                LeaseKey(client: 1, key: 1), .lease, .all, holder: LeaseHolder(loop: rig.loop) { heard.add($0) })
            let opened = try await rig.open("a", intent)
            let second = rig.loop.task { () async -> Bool in
                do {
                    _ = try await rig.open("a", Self.intent(.open, client: 2))
                    return true
                } catch { return false }
            }
            await rig.settle()
            #expect(heard.all.map(\.to) == [[.read, .write]])
            _ = try await rig.close(opened.handle)
            #expect(await second.value)
        }
    }

    @Test func aListingThatIsKeptIsTold() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o777)
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.open, [.readData])
            intent.lease = Self.lease(rig, 5, [.read, .handle], heard)
            let opened = try await rig.open("d", intent)
            #expect(opened.lease == [.read, .handle])
            _ = try await rig.make("x", in: home)
            await rig.settle()
            #expect(heard.all.count == 1 && heard.all[0].to == [])
        }
    }

    @Test func locksAndLeasesExcludeEachOther() {
        VolumeRig.run { rig in
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.create)
            intent.lease = Self.lease(rig, 1, .all, heard)
            let opened = try await rig.open("a", intent)
            let process = LockOwner(.posix, client: 9, id: 1)
            let locking = rig.loop.task {
                _ = try? await rig.lockAll(opened.handle.file, process)
            }
            await rig.settle()
            #expect(heard.all.count == 1 && !rig.volume.locks.isUsed)
            _ = rig.volume.acknowledge(LeaseKey(client: 1, key: 1), [])
            await locking.value
            #expect(rig.volume.locks.isUsed)
            var second = Self.intent(.open)
            second.lease = Self.lease(rig, 2, .all, heard)
            #expect(try await rig.open("a", second).lease == [])
        }
    }

    @Test func aKeyStandsForOneFile() {
        VolumeRig.run { rig in
            _ = try await rig.make("a")
            let heard = Heard<LeaseBreak>()
            var intent = Self.intent(.openIf)
            // Whatever is granted, nothing too.
            intent.lease = Self.lease(rig, 1, [], heard)
            let first = try await rig.open("a", intent)
            let second = try await rig.open("a", intent)
            #expect(await rig.openError("b", intent) == .invalid)
            #expect(await !rig.exists("b"))
            _ = try await rig.close(first.handle)
            #expect(await rig.openError("b", intent) == .invalid)
            _ = try await rig.close(second.handle)
            #expect(try await rig.open("b", intent).action == .created)
        }
    }

    @Test func whoIsAwayLosesHisOpens() {
        VolumeRig.run { rig in
            let ended = Heard<LeaseKey>()
            var intent = Self.intent(.create, shared: [])
            let key = LeaseKey(client: 1, key: 1)
            intent.lease = LeaseWish(
                key, .lease, .all, holder: LeaseHolder(loop: rig.loop, tell: { _ in }, end: { ended.add($0) }))
            let opened = try await rig.open("a", intent)
            rig.volume.disconnect(key)
            let second = rig.loop.task { () async -> FileError? in
                await rig.openError("a", Self.intent(.open, client: 2))
            }
            await rig.settle()
            #expect(ended.all == [key])
            // Its holder ends them; until then the other one waits.
            _ = try await rig.close(opened.handle)
            #expect(await second.value == nil)
        }
    }

    // MARK: Streams, Windows' eyes

    @Test func streamsHoldTheirFile() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            func openStream(_ intent: OpenIntent) async throws -> OpenedFile {
                try await rig.done {
                    with("s") { rig.volume.open(rig.caller(), stream: $0, of: file, in: rig.root, intent) }
                }
            }
            let stream = try await openStream(Self.intent(.create, shared: [.read, .write]))
            #expect(stream.action == .created)
            let deleting = Self.intent(.open, [.readData, .delete])
            #expect(await rig.openError("a", deleting) == .sharingViolation)
            let reader = try await rig.open("a", Self.intent(.open, [.readData]))
            _ = try await rig.close(stream.handle)
            _ = try await rig.close(try await rig.open("a", deleting).handle)
            // A stream that is marked goes with its last open, and its file stays.
            var last = Self.intent(.open, [.readData, .delete])
            last.deletesOnClose = true
            let doomed = try await openStream(last)
            #expect(try await rig.close(doomed.handle).isRemoved)
            let again = await rig.error {
                with("s") { rig.volume.open(rig.caller(), stream: $0, of: file, in: nil, Self.intent(.open)) }
            }
            #expect(again == .noEntry)
            #expect(await rig.exists("a"))
            _ = try await rig.close(reader.handle)
            #expect(rig.volume.openCount == 0)
        }
    }

    @Test func aModeSaysMoreToWindows() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o640)
            var new = NewAttributes()
            new.uid = 7
            new.gid = 7
            _ = try await rig.set(file, new)
            var all = Self.intent(.open, .all)
            #expect(await rig.openError("a", all, by: rig.caller(7)) == .accessDenied)
            all.widensMode = true
            #expect(try await rig.open("a", all, uid: 7).handle.granted == .all)
            #expect(await rig.openError("a", all, by: rig.caller(8)) == .accessDenied)
            // A list means what it says.
            _ = try await rig.setACL(file, ACL([ACL.Entry(.allow, .owner, [.readData])]))
            #expect(await rig.openError("a", all, by: rig.caller(7)) == .accessDenied)
        }
    }

    // MARK: Watches

    private static func bytes(_ path: String) -> [[UInt8]] { path.split(separator: "/").map { Array($0.utf8) } }

    @Test func watchesSeeEverybodysChanges() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o777)
            let inner = try await rig.make("e", type: .directory, mode: 0o777, in: home)
            let told = Heard<String>()
            let all = try await rig.watch(rig.root, isRecursive: true) { told.add("all") }
            let near = try await rig.watch(home, isRecursive: false) { told.add("near") }
            let file = try await rig.make("f", in: inner)
            await rig.settle()
            #expect(told.all == ["all"])
            #expect(
                rig.volume.takeEvents(all)
                    == WatchEvents(events: [WatchEvent(.added, Self.bytes("d/e/f"))], isOverrun: false))
            #expect(rig.volume.takeEvents(near) == nil)
            try await rig.write(file, "x", by: rig.caller())
            try await rig.write(file, "y", by: rig.caller())
            _ = try await rig.rename("f", "g", from: inner, to: home)
            _ = try await rig.remove("g", in: home, by: rig.caller())
            #expect(
                rig.volume.takeEvents(all)?.events == [
                    WatchEvent(.modified, Self.bytes("d/e/f")), WatchEvent(.removed, Self.bytes("d/e/f")),
                    WatchEvent(.added, Self.bytes("d/g")), WatchEvent(.removed, Self.bytes("d/g")),
                ])
            #expect(
                rig.volume.takeEvents(near)?.events == [
                    WatchEvent(.added, Self.bytes("g")), WatchEvent(.removed, Self.bytes("g")),
                ])
            rig.volume.endWatch(all)
            for index in 0..<4200 { _ = try await rig.make("n\(index)", in: home) }
            let flood = rig.volume.takeEvents(near)
            #expect(flood?.events.count == 4096 && flood?.isOverrun == true)
            rig.volume.endWatch(near)
        }
    }

    // MARK: Before and after

    @Test func changesSayHowItWasBefore() {
        VolumeRig.run { rig in
            let before = try await rig.attributes(rig.root)
            let made = try await rig.create("a", NewFile(type: .file, mode: 0o644))
            #expect(made.directory.before == Fingerprint(before))
            let file = made.file.file
            let written = try await rig.done { with("x") { rig.volume.write(rig.caller(), file, at: 0, $0) } }
            #expect(written.before == Fingerprint(made.file))
            var new = NewAttributes()
            new.mode = 0o600
            let set = try await rig.set(file, new)
            #expect(set.before == Fingerprint(written.after))
            let renamed = try await rig.rename("a", "b")
            #expect(renamed.source.before != nil && renamed.target.before == renamed.source.before)
            let removed = try await rig.remove("b", in: rig.root, by: rig.caller())
            #expect(removed.directory.before == Fingerprint(renamed.target.after))
        }
    }
}

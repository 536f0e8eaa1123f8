import Namespace
import Runtime
import Testing

/// Access lists kept with files, through a whole volume: docs/access.md.
@Suite struct VolumeAccessTests {
    private static func acl(_ entries: [ACL.Entry]) throws -> ACL { try #require(ACL(entries)) }

    @Test func aListDecidesInsteadOfTheMode() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o644)
            #expect(try await rig.attributes(file).hasACL == false)
            let list = try Self.acl([
                .init(.deny, .user(7), .readData), .init(.allow, .everyone, [.readData, .writeData, .appendData]),
            ])
            let set = try await rig.setACL(file, list)
            #expect(set.after.hasACL && set.after.mode == 0o666)
            let stored = try await rig.done { rig.volume.acl(rig.caller(), file) }
            #expect(stored == list)
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8, alignment: 8)
            defer { memory.deallocate() }
            let denied = await rig.error { rig.volume.read(rig.caller(7), file, at: 0, into: memory) }
            #expect(denied == .accessDenied)
            _ = try await rig.read(file, by: rig.caller(8))
            // Who may neither own it nor was given the right may not change the list.
            let refusal1 = await rig.error { rig.volume.setACL(rig.caller(8), file, nil) }
            #expect(refusal1 == .notPermitted)
            let plain = try await rig.setACL(file, nil)
            #expect(!plain.after.hasACL && plain.after.mode == 0o666)
            _ = try await rig.read(file, by: rig.caller(7))
        }
    }

    /// A link's mode lets everybody do everything, and one of root's is followed where others' are not: who may write to a file may not make
    /// it a link, nor let a link lead elsewhere.
    @Test func onlyItsOwnerMakesAFileALink() {
        VolumeRig.run { rig in
            let file = try await rig.make("lock", mode: 0o666)
            let target = Array("/elsewhere".utf8)
            let refused = await rig.error { rig.volume.makeLink(rig.caller(7), file, to: target) }
            #expect(refused == .notSupported)
            #expect(try await rig.attributes(file).type == .file)
            _ = try await rig.done { rig.volume.makeLink(rig.caller(), file, to: Array("here".utf8)) }
            #expect(try await rig.attributes(file).type == .symlink)
            let again = await rig.error { rig.volume.makeLink(rig.caller(7), file, to: target) }
            #expect(again == .notSupported)
            #expect(try await rig.done { rig.volume.target(rig.caller(), of: file) } == Array("here".utf8))
            let other = rig.caller(0, nil, isReadOnly: true)
            #expect(await rig.error { rig.volume.makeLink(other, file, to: target) } == .readOnly)
        }
    }

    /// What the volume remembers of a directory holds until anything changes.
    @Test func rightsToADirectoryEndAtOnce() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o755)
            _ = try await rig.make("f", in: home)
            for mode in [0o755, 0o700, 0o711, 0o644, 0o755, 0o750] as [UInt16] {
                var new = NewAttributes()
                new.mode = mode
                _ = try await rig.set(home, new)
                for _ in 0..<2 {
                    let error = await rig.error { with("f") { rig.volume.lookup(rig.caller(7), in: home, $0) } }
                    #expect(error == (mode & 1 == 0 ? .accessDenied : nil))
                }
            }
            _ = try await rig.setACL(home, try Self.acl([.init(.allow, .user(7), [.execute])]))
            #expect(await rig.error { with("f") { rig.volume.lookup(rig.caller(7), in: home, $0) } } == nil)
            #expect(await rig.error { with("f") { rig.volume.lookup(rig.caller(8), in: home, $0) } } == .accessDenied)
        }
    }

    @Test func aListIsPassedOn() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o777)
            let inherit: ACL.EntryFlags = [.fileInherit, .directoryInherit]
            let list = try Self.acl([
                .init(.allow, .user(7), [.readData, .writeData, .appendData], inherit),
                .init(.allow, .everyone, [.readData, .execute, .writeData, .appendData, .deleteChild]),
            ])
            _ = try await rig.setACL(home, list)
            // NFS brings a mode: nobody who is named has more than the group's digit.
            let file = try await rig.make("f", mode: 0o640, in: home)
            let made = try await rig.attributes(file)
            #expect(made.hasACL && made.mode == 0o640)
            _ = try await rig.read(file, by: rig.caller(7))
            #expect(await rig.writeError(file, "x", at: 0, by: rig.caller(7)) == .accessDenied)
            #expect(await rig.readError(file, by: rig.caller(8)) == .accessDenied)
            // A client that names no mode gets what is passed on.
            var new = NewFile(type: .file, mode: 0o600)
            new.isModeDefault = true
            let bare = new
            let other = try await rig.create("g", bare, in: home).file
            #expect(other.hasACL)
            try await rig.write(other.file, "x", by: rig.caller(7))
            // Directories pass it on in their turn.
            let below = try await rig.make("e", type: .directory, mode: 0o770, in: home)
            let deep = try await rig.make("h", mode: 0o660, in: below)
            try await rig.write(deep, "x", by: rig.caller(7))
        }
    }

    @Test func modeAndListStayInStep() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o644)
            let list = try Self.acl([
                .init(.allow, .owner, [.readData, .writeData, .appendData]),
                .init(.allow, .user(7), [.readData, .writeData, .appendData]),
                .init(.allow, .owningGroup, [.readData, .writeData, .appendData]),
            ])
            _ = try await rig.setACL(file, list)
            try await rig.write(file, "x", by: rig.caller(7))
            var new = NewAttributes()
            new.mode = 0o440
            let set = try await rig.set(file, new)
            #expect(set.after.mode == 0o440 && set.after.hasACL)
            _ = try await rig.read(file, by: rig.caller(7))
            #expect(await rig.writeError(file, "x", at: 0, by: rig.caller(7)) == .accessDenied)
            // The digits follow the owner.
            _ = try await rig.setACL(file, list)
            new = NewAttributes()
            new.uid = 7
            let owned = try await rig.set(file, new)
            #expect(owned.after.uid == 7 && owned.after.mode == 0o660)
        }
    }

    /// While a truncation is on its way the owner takes a right back, or the mode: neither comes again when it ends.
    @Test func whatIsTakenWhileAFileIsCutStaysTaken() {
        VolumeRig.run { rig in
            let writing: AccessMask = [.readData, .writeData, .appendData]
            let own = ACL.Entry(.allow, .owner, [.readData, .writeData, .appendData, .execute])
            let with = try Self.acl([own, .init(.allow, .user(7), writing), .init(.allow, .owningGroup, .execute)])
            let without = try Self.acl([own, .init(.allow, .owningGroup, .execute)])
            var shorter = NewAttributes()
            shorter.size = 2
            let size = shorter
            func cut(_ name: String, _ list: ACL?, _ mode: UInt16, _ meanwhile: (FileID) async throws -> Void)
                async throws -> (FileID, Attributes)
            {
                let file = try await rig.make(name, mode: mode)
                if list != nil { _ = try await rig.setACL(file, list) }
                try await rig.write(file, "0123456789", by: rig.caller())
                var bits = NewAttributes()
                bits.mode = try await rig.attributes(file).mode | 0o6010
                if list == nil { _ = try await rig.set(file, bits) }
                let bob = rig.caller(7)
                let allowed = try await rig.done { rig.volume.mayResize(bob, file, size) }
                try await meanwhile(file)
                let resized = try await rig.volume.resize(bob.request, file, to: 2, allowed)
                let found = try await rig.attributes(file)
                #expect(found.size == 2 && found.mode & 0o6000 == 0 && resized.changed.after.mode == found.mode)
                return (file, found)
            }
            let (listed, _) = try await cut("listed", with, 0o6777) { file in
                _ = try await rig.setACL(file, without)
            }
            let left = try await rig.done { rig.volume.acl(rig.caller(), listed) }
            #expect(left == without)
            #expect(await rig.writeError(listed, "x", at: 0, by: rig.caller(7)) == .accessDenied)
            // Nothing was taken: the list is as it was.
            let (kept, _) = try await cut("kept", with, 0o6777) { _ in }
            let same = try await rig.done { rig.volume.acl(rig.caller(), kept) }
            #expect(same == with)
            let (plain, found) = try await cut("plain", nil, 0o777) { file in
                var closed = NewAttributes()
                closed.mode = 0o6710
                _ = try await rig.set(file, closed)
            }
            #expect(found.mode == 0o710)
            #expect(await rig.writeError(plain, "x", at: 0, by: rig.caller(7)) == .accessDenied)
        }
    }

    /// What lends rights goes before the content changes, whoever looks in between.
    @Test func setIDGoesBeforeTheCut() {
        VolumeRig.run { rig in
            for round in 0..<20 {
                let file = try await rig.make("f\(round)", mode: 0o777)
                try await rig.write(file, "0123456789", by: rig.caller())
                var bits = NewAttributes()
                bits.mode = 0o6777
                _ = try await rig.set(file, bits)
                let isDone = Heard<Bool>()
                let seen = Heard<String>()
                let watcher = rig.loop.task {
                    while isDone.all.isEmpty {
                        if let found = try? await rig.attributes(file), found.size == 3, found.mode & 0o6000 != 0 {
                            seen.add("cut with \(found.mode)")
                        }
                        for _ in 0..<4 { await Task.yield() }
                        await rig.loop.sleep(nanoseconds: 100)
                    }
                }
                var shorter = NewAttributes()
                shorter.size = 3
                let (bob, size) = (rig.caller(7), shorter)
                let allowed = try await rig.done { rig.volume.mayResize(bob, file, size) }
                _ = try await rig.volume.resize(bob.request, file, to: 3, allowed)
                isDone.add(true)
                await watcher.value
                let found = try await rig.attributes(file)
                #expect(seen.all.isEmpty && found.size == 3 && found.mode == 0o777, "\(seen.all)")
            }
        }
    }

    private static func token(_ rig: VolumeRig, _ uid: UInt32, _ id: UInt64) -> Caller {
        var caller = rig.caller(uid)
        caller.request.token = RequestToken(client: 5, id: id, digest: id)
        return caller
    }

    /// A request that came again, was judged by nobody, and is forgotten before it is carried out.
    @Test func whatWasExcusedAsARepetitionChangesNothing() {
        VolumeRig.run { rig in
            let file = try await rig.make("f", mode: 0o666)
            let other = try await rig.make("o", mode: 0o666)
            try await rig.write(file, "0123456789", by: rig.caller())
            var cut = NewAttributes()
            cut.size = 4
            let (first, size) = (Self.token(rig, 7, 1), cut)
            let allowed = try await rig.done { rig.volume.mayResize(first, file, size) }
            _ = try await rig.volume.resize(first.request, file, to: 4, allowed)
            #expect(try await rig.attributes(file).size == 4)
            try await rig.write(file, "0123456789", by: rig.caller())
            var closed = NewAttributes()
            closed.mode = 0o600
            _ = try await rig.set(file, closed)
            let excused = try await rig.done { rig.volume.mayResize(first, file, size) }
            for id in 2..<602 as Range<UInt64> {
                var touched = NewAttributes()
                (touched.accessed, touched.isAccessedNow) = (Int64(id), true)
                let (caller, new) = (Self.token(rig, 7, id), touched)
                _ = try await rig.done { rig.volume.setAttributes(caller, other, new) }
            }
            let isKnown = try await rig.done { rig.volume.fileSystem.isRepeated(first.request) }
            #expect(!isKnown)
            let before = try await rig.attributes(file)
            let again = try await rig.volume.resize(first.request, file, to: 4, excused)
            let found = try await rig.attributes(file)
            #expect(again.changed.after.size == 10 && found.size == 10 && found.changed == before.changed)
            // Judged anew, as nobody knows it any more.
            let refused = await rig.error { rig.volume.mayResize(first, file, size) }
            #expect(refused == .accessDenied)
        }
    }

    /// The same without a size: what was allowed once is answered, and not done again.
    @Test func aRepetitionWithoutARightIsAnswered() {
        VolumeRig.run { rig in
            let file = try await rig.make("f", mode: 0o644)
            func owned(by uid: UInt32, _ mode: UInt16) async throws {
                var new = NewAttributes()
                (new.uid, new.mode) = (uid, mode)
                _ = try await rig.set(file, new)
            }
            try await owned(by: 7, 0o644)
            var wider = NewAttributes()
            wider.mode = 0o666
            let (first, new) = (Self.token(rig, 7, 1), wider)
            _ = try await rig.done { rig.volume.setAttributes(first, file, new) }
            try await owned(by: 0, 0o600)
            let before = try await rig.attributes(file)
            let answer = try await rig.done { rig.volume.setAttributes(first, file, new) }
            let found = try await rig.attributes(file)
            #expect(answer.after.mode == 0o600 && found.mode == 0o600 && found.changed == before.changed)
            let refused = await rig.error { rig.volume.setAttributes(rig.caller(7), file, new) }
            #expect(refused == .notPermitted)
        }
    }

    /// A mode that comes with a size is set by whom it is allowed to when it is set, not when the call began.
    @Test func aModeIsJudgedWhenItIsSet() {
        VolumeRig.run { rig in
            func change(_ name: String, _ mode: UInt16, _ meanwhile: (FileID) async throws -> Void) async throws
                -> (error: FileError?, file: Attributes)
            {
                let file = try await rig.make(name, mode: 0o777)
                try await rig.write(file, "0123456789", by: rig.caller())
                var owned = NewAttributes()
                owned.uid = 7
                _ = try await rig.set(file, owned)
                var new = NewAttributes()
                (new.size, new.mode) = (2, mode)
                let (caller, wanted) = (rig.caller(7), new)
                let allowed = try await rig.done { rig.volume.mayResize(caller, file, wanted) }
                try await meanwhile(file)
                var error: FileError?
                do throws(FileError) {
                    _ = try await rig.volume.resize(caller.request, file, to: 2, allowed)
                } catch let failure { error = failure }
                return (error, try await rig.attributes(file))
            }
            func give(_ file: FileID, to uid: UInt32) async throws {
                var new = NewAttributes()
                new.uid = uid
                _ = try await rig.set(file, new)
            }
            let plain = try await change("plain", 0o4777) { _ in }
            #expect(plain.error == nil && plain.file.mode == 0o4777 && plain.file.uid == 7)
            let taken = try await change("taken", 0o4777) { try await give($0, to: 0) }
            #expect(taken.error == .notPermitted && taken.file.uid == 0 && taken.file.mode & 0o6000 == 0)
            // Who has the right by a list loses it with the list.
            let list = try Self.acl([
                .init(.allow, .user(7), [.readData, .writeData, .appendData, .writeACL]),
                .init(.allow, .owner, [.readData, .writeData, .appendData, .writeACL]),
            ])
            let listed = try await change("listed", 0o700) { file in
                try await give(file, to: 0)
                _ = try await rig.setACL(file, list)
            }
            #expect(listed.error == nil && listed.file.mode == 0o700)
            func lists(_ name: String, _ later: ACL?) async throws -> FileError? {
                let file = try await rig.make(name, mode: 0o777)
                _ = try await rig.setACL(file, list)
                var new = NewAttributes()
                (new.size, new.mode) = (0, 0o700)
                let (caller, wanted) = (rig.caller(7), new)
                let allowed = try await rig.done { rig.volume.mayResize(caller, file, wanted) }
                _ = try await rig.setACL(file, later)
                do throws(FileError) {
                    _ = try await rig.volume.resize(caller.request, file, to: 0, allowed)
                } catch { return error }
                return nil
            }
            #expect(try await lists("kept", list) == nil)
            #expect(try await lists("gone", nil) == .notPermitted)
            let less = try Self.acl([.init(.allow, .user(7), [.readData, .writeData, .appendData])])
            #expect(try await lists("less", less) == .notPermitted)
            // A change of the group that is the owner's own takes nothing from him.
            let moved = try await change("moved", 0o750) { file in
                var new = NewAttributes()
                new.gid = 8
                _ = try await rig.set(file, new)
            }
            #expect(moved.error == nil && moved.file.mode == 0o750 && moved.file.gid == 8)
        }
    }

    /// Bits that come between the judgement and the cut go as those that were there before.
    @Test func setIDThatComesBeforeTheCutGoes() {
        VolumeRig.run { rig in
            let file = try await rig.make("f", mode: 0o777)
            try await rig.write(file, "0123456789", by: rig.caller())
            var new = NewAttributes()
            new.size = 2
            let (caller, wanted) = (rig.caller(7), new)
            let allowed = try await rig.done { rig.volume.mayResize(caller, file, wanted) }
            var bits = NewAttributes()
            bits.mode = 0o6777
            _ = try await rig.set(file, bits)
            _ = try await rig.volume.resize(caller.request, file, to: 2, allowed)
            let found = try await rig.attributes(file)
            #expect(found.size == 2 && found.mode == 0o777)
            // Its owner's own cut leaves them.
            _ = try await rig.set(file, bits)
            let own = try await rig.done { rig.volume.mayResize(rig.caller(), file, wanted) }
            _ = try await rig.volume.resize(rig.caller().request, file, to: 1, own)
            #expect(try await rig.attributes(file).mode == 0o6777)
        }
    }

    /// A file that gets another group runs with that group's rights for nobody, also when the list gives the new group none to run it.
    @Test func setGIDGoesWithTheGroup() {
        VolumeRig.run { rig in
            let file = try await rig.make("f", mode: 0o755)
            var owned = NewAttributes()
            (owned.uid, owned.gid) = (7, 5)
            _ = try await rig.set(file, owned)
            var bits = NewAttributes()
            bits.mode = 0o2755
            _ = try await rig.set(file, bits)
            _ = try await rig.setACL(
                file,
                try Self.acl([
                    .init(.allow, .owner, [.readData, .writeData, .appendData, .execute]),
                    .init(.allow, .group(5), [.readData, .execute]),
                ]))
            let listed = try await rig.attributes(file)
            try #require(listed.hasACL && listed.mode & 0o2010 == 0o2010, "\(listed.mode)")
            var moved = NewAttributes()
            moved.gid = 7
            let wanted = moved
            _ = try await rig.done { rig.volume.setAttributes(rig.caller(7), file, wanted) }
            let found = try await rig.attributes(file)
            #expect(found.gid == 7 && found.mode & 0o2000 == 0, "\(found.mode)")
        }
    }

    /// Who may set the mode of somebody else's file by a list makes it no program that runs as that somebody.
    @Test func nobodyLendsWhatIsAnotherOnes() {
        VolumeRig.run { rig in
            let file = try await rig.make("f", mode: 0o755)
            let full: AccessMask = [.readData, .writeData, .appendData, .execute, .readACL, .writeACL]
            _ = try await rig.setACL(
                file, try Self.acl([.init(.allow, .user(7), full), .init(.allow, .everyone, full)]))
            for bits: UInt16 in [0o4777, 0o2777, 0o6777] {
                var new = NewAttributes()
                new.mode = bits
                let wanted = new
                _ = try await rig.done { rig.volume.setAttributes(rig.caller(7), file, wanted) }
                #expect(try await rig.attributes(file).mode & 0o7000 == 0)
            }
        }
    }

    /// By whatever way somebody else's bytes get into the file.
    @Test func copiesTakeSetIDAway() {
        VolumeRig.run { rig in
            for name in ["plain", "listed"] {
                let file = try await rig.make(name, mode: 0o777)
                try await rig.write(file, "a program", by: rig.caller())
                if name == "listed" {
                    let all: AccessMask = [.readData, .writeData, .appendData, .execute]
                    _ = try await rig.setACL(file, try Self.acl([.init(.allow, .everyone, all)]))
                }
                var bits = NewAttributes()
                bits.mode = 0o6777
                _ = try await rig.set(file, bits)
                // Its owner's own copies leave them.
                try await rig.done { rig.volume.mayWrite(rig.caller(), file, at: 0, count: 4) }
                #expect(try await rig.attributes(file).mode == 0o6777, "\(name)")
                try await rig.done { rig.volume.mayWrite(rig.caller(7), file, at: 0, count: 4) }
                #expect(try await rig.attributes(file).mode == 0o777, "\(name)")
            }
        }
    }

    @Test func aNameGoesByEitherRight() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o777)
            let shared = try Self.acl([.init(.allow, .everyone, [.readData, .execute, .writeData, .appendData])])
            _ = try await rig.setACL(home, shared)
            let file = try await rig.make("f", mode: 0o600, in: home)
            #expect(
                await rig.removeError("f", in: home, by: rig.caller(7))
                    == .accessDenied)
            let list = try Self.acl([.init(.allow, .user(7), .delete)])
            _ = try await rig.setACL(file, list)
            _ = try await rig.remove("f", in: home, by: rig.caller(7))
        }
    }
}

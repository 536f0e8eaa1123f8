import Namespace
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

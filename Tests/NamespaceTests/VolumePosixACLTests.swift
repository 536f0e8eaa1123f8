import Namespace
import Testing

/// POSIX lists through a whole volume: docs/access.md.
@Suite struct VolumePosixACLTests {
    private func lists(_ rig: VolumeRig, _ file: FileID, by uid: UInt32 = 0) async throws -> PosixLists {
        try await rig.done { rig.volume.posixACL(rig.caller(uid), file) }
    }

    @Test func aModeIsShownAsAList() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o640)
            let shown = try await lists(rig, file, by: 9)
            #expect(shown.access == PosixACL(owner: 6, group: 4, other: 0) && shown.passedOn == nil)
            #expect(shown.access.isMinimal)
        }
    }

    @Test func bothListsAreSetAndShown() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o755)
            let access = PosixACL(
                owner: 7, users: [.init(id: 7, digit: 7)], group: 5, groups: [.init(id: 8, digit: 4)], mask: 7, other: 1
            )
            let passedOn = PosixACL(owner: 7, users: [.init(id: 7, digit: 6)], group: 0, mask: 6, other: 0)
            let set = try await rig.done {
                rig.volume.setPosixACL(rig.caller(), home, access: .list(access), passedOn: .list(passedOn))
            }
            #expect(set.after.hasACL && set.after.mode & 0o777 == 0o751)
            let shown = try await lists(rig, home)
            #expect(shown.access == access && shown.passedOn == passedOn)
            // What is made in it has what is passed on, within the mode.
            let file = try await rig.make("f", mode: 0o666, in: home)
            try await rig.write(file, "x", by: rig.caller(7))
            // One of the two, and the other one stays.
            _ = try await rig.done { rig.volume.setPosixACL(rig.caller(), home, access: .none, passedOn: .unchanged) }
            let bare = try await lists(rig, home)
            #expect(bare.access == PosixACL(owner: 7, group: 5, other: 1) && bare.passedOn == passedOn)
            _ = try await rig.done {
                rig.volume.setPosixACL(rig.caller(), home, access: .list(access), passedOn: .unchanged)
            }
            _ = try await rig.done { rig.volume.setPosixACL(rig.caller(), home, access: .unchanged, passedOn: .none) }
            let last = try await lists(rig, home)
            #expect(last.access == access && last.passedOn == nil)
            // A list that names nobody is the mode, and nothing is kept for it.
            let plain = PosixACL(owner: 6, group: 4, other: 4)
            let minimal = try await rig.done {
                rig.volume.setPosixACL(rig.caller(), home, access: .list(plain), passedOn: .unchanged)
            }
            #expect(!minimal.after.hasACL && minimal.after.mode & 0o777 == 0o644)
        }
    }

    @Test func whoMaySetThem() {
        VolumeRig.run { rig in
            let file = try await rig.make("a", mode: 0o644)
            let list = NewPosixACL.list(PosixACL(owner: 7, group: 7, other: 7))
            func error(_ who: Caller, _ access: NewPosixACL, _ passedOn: NewPosixACL) async -> FileError? {
                await rig.error { rig.volume.setPosixACL(who, file, access: access, passedOn: passedOn) }
            }
            #expect(await error(rig.caller(8), list, .unchanged) == .notPermitted)
            #expect(await error(rig.caller(), .unchanged, list) == .accessDenied)
            #expect(await error(rig.caller(isReadOnly: true), list, .unchanged) == .readOnly)
            let many = PosixACL(
                owner: 7, users: (0...UInt32(PosixACL.entriesMax)).map { .init(id: 100 + $0, digit: 4) }, group: 7,
                mask: 7, other: 7)
            #expect(await error(rig.caller(), .list(many), .unchanged) == .invalid)
            var fitting = many
            fitting.users.removeLast()
            #expect(await error(rig.caller(), .list(fitting), .unchanged) == nil)
        }
    }
}

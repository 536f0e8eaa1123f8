import Logging
import Namespace
import Simulator
import Testing

private struct Reversed: SecretSeal {
    func seal(_ secret: Secret) -> [UInt8] { secret.revealed.utf8.reversed() }
    func open(_ sealed: [UInt8]) -> Secret? { String(validating: sealed.reversed(), as: UTF8.self).map { Secret($0) } }
}

@Suite struct IdentityTests {
    private func table() throws -> UserTable {
        var table = UserTable(domain: (11, 22, 33))
        var alice = User(name: "Alice", uid: 10_000, gid: 10_000, groups: [5, 6])
        alice.setSecret(Secret("password"), Reversed())
        alice.keys = [AccessKey(id: "AKIAX", volume: "media", sealed: [1, 2, 3])]
        alice.rights = ["default": [.read, .write], "media": .read]
        try table.add(alice)
        try table.add(Group(name: "staff", gid: 5))
        try table.add(User(name: "bob", uid: 10_001, gid: 5))
        return table
    }

    @Test func md4() {
        func hex(_ bytes: [UInt8]) -> String {
            bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
        #expect(hex(NTHash.md4([])) == "31d6cfe0d16ae931b73c59d7e0c089c0")
        #expect(hex(NTHash.md4(Array("abc".utf8))) == "a448017aaf21d8525fc10ae87aa6729d")
        let digits = String(repeating: "1234567890", count: 8)
        #expect(hex(NTHash.md4(Array(digits.utf8))) == "e33b4ddc9c38f2199c3e7b164fcc0536")
        #expect(hex(NTHash.of("password")) == "8846f7eaee8fb117ad06bdd830b7586c")
    }

    @Test func names() throws {
        let table = try table()
        #expect(table.user("ALICE")?.uid == 10_000 && table.user("alicE")?.name == "Alice")
        #expect(table.user(smb: ".\\alice")?.uid == 10_000 && table.user(smb: "WORKGROUP\\BOB")?.uid == 10_001)
        #expect(table.user(smb: "bob")?.uid == 10_001 && table.user("nobody") == nil)
        #expect(table.user(uid: 10_001)?.name == "bob" && table.group("STAFF")?.gid == 5)
        #expect(table.freeUID == 10_002)
        #expect(table.user(accessKey: "Alice")?.volume == "default")
        #expect(table.user(accessKey: "alice") == nil)
        #expect(table.user(accessKey: "media:bob")?.volume == "media")
        #expect(table.user(accessKey: "media:bob")?.user.uid == 10_001)
        #expect(table.user(accessKey: "AKIAX")?.sealed == [1, 2, 3])
        #expect(table.user(accessKey: "AKIAX")?.volume == "media")
        #expect(table.user(accessKey: "") == nil && table.user(accessKey: "a:b:bob") == nil)
        let alice = try #require(table.user("alice"))
        #expect(Reversed().open(alice.sealed)?.revealed == "password" && alice.ntHash == NTHash.of("password"))
        #expect(alice.credential == Credential(uid: 10_000, gid: 10_000, groups: [6, 5, 5]))
    }

    @Test func refusals() throws {
        var table = try table()
        for name in ["", "a:b", "a\\b", "a@b", "a/b", "a\u{0}", String(repeating: "x", count: 256)] {
            #expect(throws: UserTable.Refusal.badName) { try table.add(User(name: name, uid: 1, gid: 1)) }
        }
        try table.add(User(name: String(repeating: "x", count: 255), uid: 1, gid: 1))
        #expect(throws: UserTable.Refusal.nameTaken) { try table.add(User(name: "aLICE", uid: 2, gid: 1)) }
        #expect(throws: UserTable.Refusal.nameTaken) { try table.add(User(name: "AKIAX", uid: 2, gid: 1)) }
        #expect(throws: UserTable.Refusal.uidTaken) { try table.add(User(name: "carol", uid: 10_000, gid: 1)) }
        #expect(throws: UserTable.Refusal.gidTaken) { try table.add(Group(name: "other", gid: 5)) }
        var carol = User(name: "carol", uid: 3, gid: 3)
        carol.keys = [AccessKey(id: "AKIAX", volume: "v", sealed: [])]
        #expect(throws: UserTable.Refusal.keyTaken) { try table.add(carol) }
        carol.keys = [AccessKey(id: "bob", volume: "v", sealed: [])]
        #expect(throws: UserTable.Refusal.keyTaken) { try table.add(carol) }
        carol.keys = (0...User.keysMax).map { AccessKey(id: "k\($0)", volume: "v", sealed: []) }
        #expect(throws: UserTable.Refusal.tooMany) { try table.add(carol) }
        carol.keys.removeLast()
        try table.add(carol)
        #expect(throws: UserTable.Refusal.unknown) { try table.remove(user: "dave") }
    }

    @Test func sids() throws {
        var table = try table()
        let alice = table.sid(uid: 10_000)
        #expect(alice.description == "S-1-5-21-11-22-33-1000")
        #expect(table.sid(gid: 5).description == "S-1-5-21-11-22-33-1001")
        #expect(table.principal(alice) == .user(10_000) && table.principal(table.sid(gid: 5)) == .group(5))
        #expect(table.sid(uid: 77).description == "S-1-22-1-77" && table.sid(gid: 77).description == "S-1-22-2-77")
        #expect(table.principal(.unknownUser(77)) == .user(77) && table.principal(.unknownGroup(.max)) == .group(.max))
        #expect(table.principal(.everyone) == .everyone && table.principal(.creatorOwner) == .owner)
        let foreign = try #require(SID("S-1-5-21-11-22-34-1000"))
        #expect(table.principal(foreign) == .sid(foreign))
        // A SID of one who is gone is nobody's for ever.
        var bob = try #require(table.user("bob"))
        let sid = table.sid(uid: 10_001)
        try table.remove(user: "bob")
        #expect(table.principal(sid) == .sid(sid))
        bob.keys = []
        try table.add(bob)
        #expect(table.sid(uid: 10_001) != sid && table.principal(sid) == .sid(sid))
        // A change of name or number keeps the SID.
        var renamed = try #require(table.user("alice"))
        renamed.name = "Alicia"
        renamed.uid = 4711
        try table.change("ALICE", to: renamed)
        #expect(table.sid(uid: 4711) == alice && table.user("alice") == nil && table.principal(alice) == .user(4711))
        #expect(table.user(accessKey: "AKIAX")?.user.name == "Alicia" && table.user(uid: 10_000) == nil)
    }

    @Test func sidForms() throws {
        for text in [
            "S-1-5-21-1-2-3-4", "S-1-1-0", "S-1-5", "S-1-0xffffffffffff-1",
            "S-1-5-" + (1...15).map { "\($0)" }.joined(separator: "-"),
        ] {
            let sid = try #require(SID(text))
            #expect(sid.description == text)
            let again = sid.bytes.withUnsafeBytes { SID(reading: $0) }
            #expect(again == sid)
        }
        for text in [
            "", "S", "S-1", "S-2-5-1", "S-1-5-", "S-1-x", "S-1-5-4294967296", "S-1-0x1000000000000-1", "S-1-5--1",
            "S-1-5-" + (1...16).map { "\($0)" }.joined(separator: "-"),
        ] {
            #expect(SID(text) == nil, "\(text)")
        }
        #expect(SID(authority: 5, [UInt32](repeating: 1, count: 16)) == nil && SID(authority: 1 << 48, []) == nil)
        for bytes in [
            [], [1], [1, 1, 0, 0, 0, 0, 0, 5, 1, 0, 0], [2, 0, 0, 0, 0, 0, 0, 5], [1, 16, 0, 0, 0, 0, 0, 5],
        ] as [[UInt8]] {
            #expect(bytes.withUnsafeBytes { SID(reading: $0) } == nil)
        }
    }

    @Test func manyGroups() {
        var generator = Generator(seed: 4, stream: "groups")
        let all = (0..<70_000).map { _ in UInt32(truncatingIfNeeded: generator.next()) }
        let credential = Credential(uid: 1, gid: 2, groups: all)
        #expect(credential.groups.count == Credential.groupsMax)
        let kept = Set(credential.groups)
        for group in all { expect(credential.isMember(of: group) == kept.contains(group)) }
        for _ in 0..<10_000 {
            let group = UInt32(truncatingIfNeeded: generator.next())
            expect(credential.isMember(of: group) == (kept.contains(group) || group == 2))
        }
        #expect(credential.isMember(of: 2) && !Credential(uid: 1, gid: 2).isMember(of: 3))
    }

    @Test func principals() {
        var map = PrincipalMap()
        expect(map.set("alice/admin@HERE", to: "root"))
        expect(map.add(.name(realm: "HERE")))
        expect(map.add(.firstPart(realm: "HOSTS")))
        expect(map.add(.everybody(realm: "GUESTS", user: "guest")))
        #expect(map.user(of: "alice@HERE") == "alice" && map.user(of: "alice/admin@HERE") == "root")
        #expect(map.user(of: "alice/other@HERE") == nil && map.user(of: "nfs/host@HOSTS") == "nfs")
        #expect(map.user(of: "x/y@GUESTS") == "guest" && map.user(of: "alice@here") == nil)
        #expect(map.user(of: "alice") == nil && map.user(of: "@HERE") == nil && map.user(of: "a\\@b@HERE") == nil)
        #expect(map.user(of: "a@b@HERE") == nil && map.user(of: "") == nil)
        #expect(map.user(of: String(repeating: "a", count: 1100) + "@HERE") == nil)
        map.remove("alice/admin@HERE")
        #expect(map.user(of: "alice/admin@HERE") == nil)
        for index in 0..<PrincipalMap.rulesMax - 3 { expect(map.add(.name(realm: "R\(index)"))) }
        expect(!map.add(.name(realm: "MORE")))
    }
}

import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

private let alice = SMBUser(
    name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))

/// What an operator may want of those who use a share, or all.
@Suite(.serialized) struct ShareOptionTests {
    private func client(_ site: Site, _ user: NTLMClient? = nil) throws -> (Guest, Reply) {
        let client = try Guest(site.listener.address)
        _ = try client.negotiate()
        return (client, try client.logOn(user ?? NTLMClient()))
    }

    /// A name that nobody here has is a guest's, where there is a share for guests; a wrong secret is wrong.
    @Test func guestsAreLetInWhereSomebodyWantsThem() async throws {
        let site = try await Site(nil, [alice])
        var bob = NTLMClient()
        bob.user = "Bob"
        bob.hasProof = false
        let (guest, reply) = try client(site, bob)
        #expect(reply.status == .success)
        // SMB2_SESSION_FLAG_IS_GUEST: Windows says so to its user, and signs nothing.
        #expect(reply.bytes[66] == 1 && reply.header.flags.contains(.signed) == false)
        #expect(try guest.connect("default").status == .success)
        #expect(await site.server.report().sessions.map(\.isGuest) == [true])
        var wrong = NTLMClient()
        wrong.secret = "Password"
        #expect(try client(site, wrong).1.status == .logonFailure)
        #expect(try client(site).1.bytes[66] == 0)
        // Nobody wants them any more.
        site.catalog.change { for index in $0.indices { $0[index].allowsGuests = false } }
        #expect(try client(site, bob).1.status == .logonFailure)
        #expect(try guest.open("f", .init(disposition: 2)).status == .networkNameDeleted)
        try await site.close()
    }

    /// Who signs or encrypts nothing is refused: from the next message on, and by the share that wants it alone.
    @Test func signingIsWantedByAShareOrByAll() async throws {
        let site = try await Site(nil, [alice])
        site.catalog.change { $0[2].requiresSigning = true }
        let (plain, reply) = try client(site)
        #expect(reply.status == .success)
        #expect(try plain.connect("safe").status == .accessDenied)
        #expect(try plain.connect("default").status == .success)
        #expect(try plain.open("f", .init(disposition: 3)).status == .success)
        site.catalog.change { $0[0].requiresSigning = true }
        #expect(try plain.open("f", .init(disposition: 3)).status == .accessDenied)
        site.catalog.change { $0[0].requiresSigning = false }
        #expect(try plain.open("f", .init(disposition: 3)).status == .success)
        site.server.require(.signing)
        #expect(try plain.open("f", .init(disposition: 3)).status == .accessDenied)
        #expect(try plain.open("f", .init(disposition: 3)).status == .accessDenied)
        let late = try Guest(site.listener.address)
        #expect(try late.negotiate().bytes[66] == 3)
        // Nobody has a key to sign with.
        #expect(try late.beginSession().status == .moreProcessingRequired)
        #expect(try late.endSession().status == .accessDenied)
        site.server.require([])
        let (free, _) = try client(site)
        #expect(try free.connect("default").status == .success)
        try await site.close()
    }

    @Test func encryptionIsWantedByAll() async throws {
        let site = try await Site(nil, [alice])
        let (plain, _) = try client(site)
        #expect(try plain.connect("default").status == .success)
        site.server.require(.encryption)
        #expect(try plain.open("f", .init(disposition: 3)).status == .accessDenied)
        // A dialect that can not.
        let late = try Guest(site.listener.address)
        _ = try late.negotiate()
        #expect(try late.beginSession().status == .accessDenied)
        try await site.close()
    }

    @Test func listingsLeaveOutWhatIsNotToBeRead() async throws {
        let site = try await Site()
        let volume = site.volume
        let directory = try await site.make("dir", type: .directory)
        for index in 0..<300 {
            let file = try await site.make("\(index % 3 == 0 ? "open" : "shut")\(index)", in: directory)
            var mode = NewAttributes()
            mode.mode = index % 3 == 0 ? 0o604 : 0o640
            let (caller, new) = (site.caller, mode)
            _ = try await site.done { volume.setAttributes(caller, file, new) }
        }
        // By their lists: all that reading takes, and all but the attributes.
        for (name, mask) in [
            ("listed", AccessMask.visible), ("hidden", AccessMask.visible.subtracting(.readAttributes)),
        ] {
            let file = try await site.make(name, in: directory)
            let list = try #require(ACL([ACL.Entry(.allow, .everyone, mask)]))
            let caller = site.caller
            _ = try await site.done { volume.setACL(caller, file, list) }
        }
        let client = try Guest(ready: site.listener.address)
        let listed = Guest.Opening(access: 0x12_0089, options: 1)
        func names(_ pattern: String) throws -> (open: Int, shut: Int) {
            let handle = try client.open("dir", listed).handle
            var found = (open: 0, shut: 0)
            var reply = try client.list(handle, pattern)
            while reply.status == .success {
                found.open += reply.names.count { $0.hasPrefix("open") }
                found.shut += reply.names.count { $0.hasPrefix("shut") }
                reply = try client.list(handle, pattern, restarts: false)
            }
            #expect(reply.status == .noMoreFiles || reply.status == .noSuchFile)
            return found
        }
        #expect(try names("*") == (100, 200))
        site.catalog.change { $0[0].hidesUnreadable = true }
        #expect(try names("*") == (100, 0))
        #expect(try names("shut*") == (0, 0))
        #expect(try names("shut1") == (0, 0))
        #expect(try names("open3") == (1, 0))
        let handle = try client.open("dir", listed).handle
        #expect(try client.list(handle, "listed").names == ["listed"])
        #expect(try client.list(handle, "hidden", restarts: true).status == .noSuchFile)
        try await site.close()
    }
}

extension AccessMask {
    fileprivate static let visible: AccessMask = [.readData, .readAttributes, .readNamedAttributes, .readACL]
}

import Foundation
import Namespace
import Runtime
import SMB
import SMBSupport
import Testing

/// What a share is beside its volume.
@Suite(.serialized) struct ShareTests {
    @Test func aShareOfADirectoryShowsNothingElse() async throws {
        let site = try await Site()
        let above = try await site.make("d", type: .directory)
        _ = try await site.make("secret", in: above)
        var client = try Guest(ready: site.listener.address, dialect: 0x0210)
        // It is not there yet.
        #expect(try client.connect("below").status == .badNetworkName)
        let shown = try await site.make("e", type: .directory, in: above)
        _ = try await site.make("inside", in: shown)
        client = try Guest(ready: site.listener.address)
        #expect(try client.connect("below").status == .success)
        #expect(try client.open("inside").status == .success)
        for name in ["secret", "d", "e", "d\\e\\inside"] {
            #expect(try client.open(name).status.isError, "\(name)")
        }
        #expect(try client.open("..\\secret").status.isError)
        // Its root is one: it has no name, and does not go.
        let root = try client.open("", .init(access: 0x12_0089, options: 1))
        #expect(root.status == .success)
        let made = try client.open("new", .init(disposition: 2))
        #expect(made.status == .success)
        let (volume, caller) = (site.volume, site.caller)
        let found = try await site.done { Array("new".utf8).withUnsafeBytes { volume.lookup(caller, in: shown, $0) } }
        #expect(found.type == .file)
        try await site.close()
    }

    /// What is taken away is gone for those who use it, not for new ones only.
    @Test func changesReachThoseWhoAreThere() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let opened = try client.open("f", .init(disposition: 2))
        #expect(try client.write(opened.handle, "one").status == .success)
        site.catalog.change { $0[0].isReadOnly = true }
        #expect(try client.write(opened.handle, "two").status.isError)
        #expect(try client.open("g", .init(disposition: 2)).status.isError)
        site.catalog.change { $0[0].isReadOnly = false }
        #expect(try client.write(opened.handle, "two").status == .success)
        site.catalog.change { $0[0].allowsGuests = false }
        #expect(try client.write(opened.handle, "three").status == .networkNameDeleted)
        #expect(await eventually { site.volume.openCount == 0 })
        #expect(try client.connect("safe").status == .success)
        site.catalog.change { $0.removeLast() }
        #expect(try client.open("g", .init(disposition: 2)).status == .networkNameDeleted)
        #expect(try client.connect("safe").status == .badNetworkName)
        try await site.close()
    }

    @Test func aSharesWordHolds() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        func objects() -> Int {
            FileManager.default.enumerator(atPath: site.folder + "/default/store")?.allObjects.count ?? 0
        }
        // The volume's own word is "memory": its answers wait for no store.
        var before = objects()
        #expect(try client.open("a", .init(disposition: 2)).status == .success)
        #expect(objects() == before)
        #expect(try client.connect("safe").status == .success)
        before = objects()
        #expect(try client.open("b", .init(disposition: 2)).status == .success)
        #expect(objects() > before)
        try await site.close()
    }
}

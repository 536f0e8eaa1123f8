import Foundation
import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
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

    private static func info(_ handle: SMB::FileHandle, _ type: UInt8, _ level: UInt8) -> [UInt8] {
        var wire = Wire()
        wire.u16(41)
        wire.u8(type)
        wire.u8(level)
        wire.u32(4096)
        wire.u16(0)
        wire.u16(0)
        wire.u32(0)
        wire.u32(0)
        wire.u32(0)
        wire.handle(handle)
        return wire.bytes
    }

    /// Room is what the quota of the directory leaves where the handle is, and names begin at the share's root.
    @Test func whatAShareOfADirectoryTells() async throws {
        let site = try await Site()
        let above = try await site.make("d", type: .directory)
        let shown = try await site.make("e", type: .directory, in: above)
        let deep = try await site.make("f", type: .directory, in: shown)
        _ = try await site.make("inside", in: deep)
        let volume = site.volume
        let quota = QuotaRecord(subject: .tree(deep), limit: QuotaLimit(hardBytes: 409_600))
        volume.setQuotas([quota], loop: site.loop)
        while volume.quota(.tree(deep))?.isCounted != true { try await Task.sleep(for: .milliseconds(1)) }
        let client = try Guest(ready: site.listener.address)
        #expect(try client.connect("below").status == .success)
        let directory = Guest.Opening(access: 0x12_0089, options: 1)
        let (root, below) = (try client.open("", directory), try client.open("f", directory))
        let file = try client.open("f\\inside")
        #expect(root.status == .success && below.status == .success && file.status == .success)
        // FileFsSizeInformation: units of all and of those that are free, and bytes of a unit.
        func bytes(_ handle: SMB::FileHandle) throws -> UInt64 {
            let reply = try client.ask(.queryInfo, Self.info(handle, 2, 3))
            #expect(reply.status == .success)
            return reply.u64(72) * UInt64(reply.u32(88)) * UInt64(reply.u32(92))
        }
        #expect(try bytes(below.handle) == 409_600)
        #expect(try bytes(file.handle) == 409_600)
        #expect(try bytes(root.handle) > 1 << 40)
        // FileNormalizedNameInformation would do as well; every client asks for all.
        let all = try client.ask(.queryInfo, Self.info(file.handle, 1, 18))
        #expect(all.status == .success && all.says("\\f\\inside") && !all.says("\\e\\f"))
        let top = try client.ask(.queryInfo, Self.info(root.handle, 1, 18))
        #expect(top.status == .success && !top.says("e"))
        try await site.close()
    }

    /// [MS-SMB2] 3.3.5.9.13: what an application had open at one client ends when it opens the same at another.
    @Test func anApplicationGoesOnElsewhere() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        _ = try await site.make("g")
        let first = try Guest(ready: site.listener.address, guid: 1, dialect: 0x0302)
        let second = try Guest(ready: site.listener.address, guid: 2, dialect: 0x0302)
        let alone = Guest.Opening(share: 0)
        let old = try first.open("f", alone.durable(1).instance(7))
        let beside = try first.open("g", alone.instance(7))
        #expect(old.status == .success && beside.status == .success)
        // Another application, and one that does not say so, is kept out.
        #expect(try second.open("f", alone.instance(8)).status == .sharingViolation)
        #expect(try second.open("f", alone).status == .sharingViolation)
        #expect(try first.write(old.handle, "still").status == .success)
        // The same client's own opens stay as well.
        #expect(try first.open("f", alone.instance(7)).status == .sharingViolation)
        let new = try second.open("f", alone.instance(7))
        #expect(new.status == .success)
        #expect(try first.write(old.handle, "late").status == .fileClosed)
        #expect(try first.close(old.handle).status == .fileClosed)
        #expect(try first.write(beside.handle, "other file").status == .success)
        // It comes back.
        #expect(try first.open("f", alone.instance(7)).status == .success)
        #expect(try second.close(new.handle).status == .fileClosed)
        // Of a client that is away, too.
        let third = try Guest(ready: site.listener.address, guid: 3, dialect: 0x0302)
        let kept = try third.open("g", Guest.Opening(oplock: 9).durable(5).instance(9))
        #expect(kept.status == .sharingViolation)
        _ = try first.close(beside.handle)
        let durable = try third.open("g", Guest.Opening(share: 0, oplock: 9).durable(5).instance(9))
        #expect(durable.status == .success)
        third.peer.close()
        var last = try second.open("g", alone.instance(9))
        for _ in 0..<500 where last.status != .success {
            try await Task.sleep(for: .milliseconds(10))
            last = try second.open("g", alone.instance(9))
        }
        #expect(last.status == .success)
        try await site.close()
    }

    /// Who comes back for a handle may be served before the end of the old connection is.
    @Test func theNewConnectionIsFaster() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let old = try Guest(ready: site.listener.address, dialect: 0x0302)
        let lease = Guest.Opening(lease: (key: 5, state: 7))
        let opened = try old.open("f", lease.durable(77))
        #expect(opened.status == .success)
        let new = try Guest(ready: site.listener.address, dialect: 0x0302)
        // Somebody else is told at once.
        let stranger = try Guest(ready: site.listener.address, guid: 9, dialect: 0x0302)
        let refused = stranger.send(.create, Guest.create("f", lease.reconnecting(opened.handle, 77)))
        #expect(try stranger.reply(to: refused, within: 1).status == .objectNameNotFound)
        let number = new.send(.create, Guest.create("f", lease.reconnecting(opened.handle, 77)))
        try await Task.sleep(for: .milliseconds(100))
        old.peer.close()
        let back = try new.reply(to: number)
        #expect(back.status == .success && back.handle == opened.handle)
        #expect(try new.write(back.handle, "on").status == .success)
        try await site.close()
    }

    /// More than are looked at in one turn; only what is asked for.
    @Test func allIsReportedThatIsOpen() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        for index in 0..<150 {
            let handle = try client.open("f\(index)", .init(disposition: 2)).handle
            guard index % 50 == 0 else { continue }
            #expect(try client.ask(.lock, Guest.lock(handle, count: 1, [(0, 10, 18)])).status == .success)
        }
        let whole = await site.server.report()
        #expect(whole.sessions.map(\.opens) == [150])
        #expect(Set(whole.opens.map(\.path)) == Set((0..<150).map { "/f\($0)" }))
        #expect(Set(whole.locks.map(\.file.path)) == ["/f0", "/f50", "/f100"])
        let locks = await site.server.report([.locks])
        #expect(locks.locks.count == 3 && locks.opens.isEmpty && locks.sessions.isEmpty)
        let sessions = await site.server.report([.sessions])
        #expect(sessions.sessions.count == 1 && sessions.opens.isEmpty && sessions.locks.isEmpty)
        try await site.close()
    }

    /// Two clients, each on a loop of its own: nobody's record is lost.
    @Test func appendsOfSeveralStandBehindEachOther() async throws {
        let site = try await Site()
        let file = try await site.make("log")
        let appending = Guest.Opening(access: 0x12_0084)
        let clients = try (0..<4).map { try Guest(ready: site.listener.address, guid: UInt128($0 + 1)) }
        let handles = try clients.map { try $0.open("log", appending).handle }
        let count = 300
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, client) in clients.enumerated() {
                let work = Work(client: client, handle: handles[index])
                group.addTask { () async throws -> Void in
                    for number in 0..<count {
                        let text = "\(index):\(String(repeating: "x", count: number % 7))\n"
                        let answer = try work.client.write(work.handle, text, at: number % 2 == 0 ? .max : 0)
                        #expect(answer.status == .success)
                    }
                }
            }
            try await group.waitForAll()
        }
        let (volume, caller) = (site.volume, site.caller)
        let size = Int(try await site.done { volume.attributes(caller, file) }.size)
        let reader = try clients[0].open("log").handle
        let all = try clients[0].read(reader, UInt32(size)).bytes.suffix(size)
        let lines = String(decoding: all, as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 4 * count)
        for index in 0..<4 { #expect(lines.count { $0.hasPrefix("\(index):") } == count) }
        try await site.close()
    }

    /// Used by one task.
    private struct Work: @unchecked Sendable {
        let client: Guest
        let handle: SMB.FileHandle
    }
}

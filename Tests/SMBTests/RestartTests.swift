import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// Handles that outlive the server, over real connections to one that ends and to another that goes on in its place.
@Suite(.serialized) struct RestartTests {
    private static let all: UInt32 = 7

    private static func read(_ handle: FileHandle, _ count: UInt32 = 64) -> [UInt8] {
        var wire = Wire()
        wire.u16(49)
        wire.u16(0)
        wire.u32(count)
        wire.u64(0)
        wire.handle(handle)
        wire.zeros(16)
        wire.u8(0)
        return wire.bytes
    }

    /// By a lease, with locks: what the client had is its own again, and nobody came in between.
    @Test func aLeasedHandleOfTheFirstVersion() async throws {
        var site = try await Site()
        let file = try await site.make("f")
        var client = try Guest(ready: site.listener.address)
        let opening = Guest.Opening(share: 0, lease: (key: 5, state: Self.all))
        let opened = try client.open("f", opening.durable())
        #expect(opened.status == .success && opened.bytes[66] == 0xFF)
        let handle = opened.handle
        #expect(try client.write(handle, "before").status == .success)
        let exclusive: UInt32 = 2 | 0x10
        #expect(try client.ask(.lock, Guest.lock(handle, count: 1, [(0, 4, exclusive)])).status == .success)
        #expect(try client.ask(.lock, Guest.lock(handle, count: 1, [(10, 4, exclusive)])).status == .success)
        #expect(try client.ask(.lock, Guest.lock(handle, count: 1, [(10, 4, 4)])).status == .success)
        try await site.stop()

        site = try await Site(site.folder)
        #expect(site.volume.openCount == 1)
        // Who wants the file has to wait for whoever may come back for it.
        let other = try Guest(ready: site.listener.address, guid: 2)
        let number = other.send(.create, Guest.create("f", Guest.Opening()))
        #expect(try other.reply(to: number, pending: true).status == .pending)
        // Nobody else may take it: not by another name, not with another key, not as another client.
        client = try Guest(ready: site.listener.address)
        let again = Guest.Opening(share: 0, lease: (key: 5, state: Self.all)).reconnecting(handle)
        #expect(try client.open("g", again).status == .invalidParameter)
        let wrong = Guest.Opening(share: 0, lease: (key: 6, state: Self.all)).reconnecting(handle)
        #expect(try client.open("f", wrong).status == .objectNameNotFound)
        #expect(try other.open("f", again).status == .objectNameNotFound)
        var stranger = handle
        stranger = FileHandle(persistent: stranger.persistent ^ 1, volatile: stranger.volatile)
        #expect(try client.open("f", again.reconnecting(stranger)).status != .success)
        let back = try client.open("f", again)
        #expect(back.status == .success && back.handle == handle && back.bytes[66] == 0xFF)
        #expect(try client.open("f", again).status == .objectNameNotFound)
        // What was asked of it meanwhile it is told now.
        let message = try client.reply(to: .max)
        #expect(message.header.command == Command.oplockBreak.rawValue && message.u64(64 + 8) == 5)
        #expect(message.u32(64 + 24) == Self.all && message.u32(64 + 28) & 2 == 0)
        #expect(try client.acknowledge(5, message.u32(64 + 28)).status == .success)
        #expect(try other.reply(to: number).status == .sharingViolation)
        // The lock of before is there, the one that was given back is not.
        let stateless = LockOwner(.posix, client: 9, id: 1)
        let there = try #require(LockRange(exactly: 3, length: 1))
        let gone = try #require(LockRange(exactly: 10, length: 1))
        #expect(site.volume.testLock(file, there, .exclusive, stateless) != nil)
        #expect(site.volume.testLock(file, gone, .exclusive, stateless) == nil)
        let content = try client.ask(.read, Self.read(handle))
        #expect(content.status == .success && content.bytes.contains(Array("before".utf8)))
        #expect(try client.write(handle, "after").status == .success)
        #expect(try client.close(handle).status == .success)
        #expect(try other.open("f").status == .success)
        try await site.stop()

        // It is closed, and stays so.
        site = try await Site(site.folder)
        #expect(site.volume.openCount == 0)
        client = try Guest(ready: site.listener.address)
        #expect(try client.open("f", again).status == .objectNameNotFound)
        try await site.close()
    }

    /// By a batch oplock; then over a second restart, without having come back for it in between.
    @Test func aBatchOplock() async throws {
        var site = try await Site()
        _ = try await site.make("f")
        var client = try Guest(ready: site.listener.address)
        let opened = try client.open("f", Guest.Opening(oplock: 9).durable())
        #expect(opened.status == .success && opened.bytes[66] == 9)
        for _ in 0..<2 {
            try await site.stop()
            site = try await Site(site.folder)
            #expect(site.volume.openCount == 1)
        }
        client = try Guest(ready: site.listener.address)
        let back = try client.open("f", Guest.Opening(oplock: 9).reconnecting(opened.handle))
        #expect(back.status == .success && back.bytes[66] == 9 && back.handle == opened.handle)
        // It is an open like any other: it outlives its connection, too.
        client.peer.close()
        client = try Guest(ready: site.listener.address)
        var status = NTStatus.pending
        for _ in 0..<500 where status != .success {
            status = try client.open("f", Guest.Opening(oplock: 9).reconnecting(opened.handle)).status
            if status != .success { try await Task.sleep(for: .milliseconds(10)) }
        }
        #expect(status == .success)
        #expect(try client.close(opened.handle).status == .success)
        try await site.close()
    }

    /// Its cable is out: the server goes on waiting for a connection that nobody hears, and then its client is there again by another one.
    /// It has its handle, its lock and its lease.
    @Test func aClientThatWasUnpluggedComesBack() async throws {
        let alice = SMBUser(
            name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))
        let site = try await Site(nil, [alice])
        let file = try await site.make("f")
        func client(_ guid: UInt128, previous: UInt64 = 0) throws -> Guest {
            let client = try Guest(site.listener.address, guid: guid, dialect: 0x0302)
            _ = try client.negotiate()
            var way = NTLMClient()
            let begun = try client.setup(NTLMClient.negotiate)
            try #require(try client.setup(way.answer(begun.token), previous: previous).status == .success)
            try #require(try client.connect("default").status == .success)
            return client
        }
        let old = try client(5)
        let lease = Guest.Opening(share: 0, lease: (key: 5, state: Self.all))
        let opened = try old.open("f", lease.durable(77))
        #expect(opened.status == .success)
        #expect(try old.write(opened.handle, "before").status == .success)
        #expect(try old.ask(.lock, Guest.lock(opened.handle, count: 1, [(0, 4, 0x12)])).status == .success)
        // From here on nothing is sent on the old connection, and nothing read.
        let new = try client(5, previous: old.session)
        let back = try new.open("f", lease.reconnecting(opened.handle, 77))
        #expect(back.status == .success && back.handle == opened.handle)
        let other = try client(6)
        let number = other.send(.create, Guest.create("f", Guest.Opening()))
        #expect(try other.reply(to: number, pending: true).status == .pending)
        let message = try new.reply(to: .max)
        #expect(message.header.command == Command.oplockBreak.rawValue && message.u64(64 + 8) == 5)
        #expect(try new.acknowledge(5, message.u32(64 + 28)).status == .success)
        #expect(try other.reply(to: number).status == .sharingViolation)
        let held = try #require(LockRange(exactly: 3, length: 1))
        #expect(site.volume.testLock(file, held, .exclusive, LockOwner(.posix, client: 9, id: 1)) != nil)
        #expect(try new.ask(.read, Self.read(opened.handle)).bytes.contains(Array("before".utf8)))
        #expect(try new.write(opened.handle, "after").status == .success)
        // What comes late by the old one counts for nothing.
        #expect(try old.write(opened.handle, "late").status == .userSessionDeleted)
        #expect(try new.close(opened.handle).status == .success)
        #expect(try other.open("f").status == .success)
        try await site.close()
    }

    /// Somebody else wants the file while its client is unplugged: the break goes nowhere. Back within its time, whether it finds its
    /// old connection ended or says itself that it has gone, the client is asked once more, and has what it kept.
    @Test(arguments: [true, false], [true, false])
    func whoWasAskedMeanwhileComesBack(_ saysSo: Bool, _ byOplock: Bool) async throws {
        let alice = SMBUser(
            name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))
        let site = try await Site(nil, [alice])
        _ = try await site.make("f")
        func client(_ guid: UInt128, previous: UInt64 = 0) throws -> Guest {
            let client = try Guest(site.listener.address, guid: guid, dialect: 0x0302)
            _ = try client.negotiate()
            var way = NTLMClient()
            let begun = try client.setup(NTLMClient.negotiate)
            try #require(try client.setup(way.answer(begun.token), previous: previous).status == .success)
            try #require(try client.connect("default").status == .success)
            return client
        }
        let old = try client(5)
        var kept = Guest.Opening(share: 0)
        if byOplock { kept.oplock = 9 } else { kept.lease = (key: 5, state: Self.all) }
        let opened = try old.open("f", kept.durable(77))
        #expect(opened.status == .success)
        #expect(try old.write(opened.handle, "before").status == .success)
        let other = try client(6)
        let number = other.send(.create, Guest.create("f", Guest.Opening()))
        #expect(try other.reply(to: number, pending: true).status == .pending)
        if !saysSo { old.peer.close() }
        let new = try client(5, previous: saysSo ? old.session : 0)
        let back = try new.open("f", kept.reconnecting(opened.handle, 77))
        #expect(back.status == .success && back.handle == opened.handle)
        let message = try new.reply(to: .max)
        #expect(message.header.command == Command.oplockBreak.rawValue)
        // What it has in its memory alone comes home first.
        #expect(try new.write(opened.handle, "cached").status == .success)
        #expect(other.next(within: 0.1) == nil)
        if byOplock {
            #expect(try new.close(opened.handle).status == .success)
            #expect(try other.reply(to: number).status == .success)
        } else {
            #expect(message.u64(64 + 8) == 5)
            #expect(try new.acknowledge(5, message.u32(64 + 28)).status == .success)
            #expect(try other.reply(to: number).status == .sharingViolation)
            #expect(try new.close(opened.handle).status == .success)
        }
        let seen = try other.open("f")
        #expect(try other.ask(.read, Self.read(seen.handle)).bytes.contains(Array("cached".utf8)))
        try await site.close()
    }

    /// Under the client's own number; the other opens of its client end with the server.
    @Test func theSecondVersion() async throws {
        var site = try await Site()
        _ = try await site.make("f")
        var client = try Guest(ready: site.listener.address, dialect: 0x0300)
        let lease = Guest.Opening(lease: (key: 5, state: Self.all))
        let opened = try client.open("f", lease.durable(77, milliseconds: 30_000))
        #expect(opened.status == .success)
        // One that is not durable, and one whose client closes it.
        let plain = try client.open("f", lease)
        let closed = try client.open("f", lease.durable(78))
        #expect(plain.status == .success && closed.status == .success)
        #expect(try client.close(closed.handle).status == .success)
        try await site.stop()

        site = try await Site(site.folder)
        #expect(site.volume.openCount == 1)
        client = try Guest(ready: site.listener.address, dialect: 0x0300)
        #expect(try client.open("f", lease.reconnecting(opened.handle, 76)).status == .objectNameNotFound)
        #expect(try client.open("f", lease.reconnecting(closed.handle, 78)).status == .objectNameNotFound)
        #expect(try client.connect("safe").status == .success)
        #expect(try client.open("f", lease.reconnecting(opened.handle, 77)).status == .objectNameNotFound)
        #expect(try client.connect("default").status == .success)
        let back = try client.open("f", lease.reconnecting(opened.handle, 77))
        #expect(back.status == .success && back.handle == opened.handle)
        try await site.close()
    }
}

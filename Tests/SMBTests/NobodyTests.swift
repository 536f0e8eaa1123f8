import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

private let alice = SMBUser(
    name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))

/// What somebody without a name can take from those who have one.
@Suite(.serialized) struct NobodyTests {
    @Test func nobodyHasFewSessionsWithLittleInThem() async throws {
        let site = try await Site(nil, [alice])
        let client = try Guest(ready: site.listener.address)
        let session = client.session
        // Several users of one machine may come as guests.
        for _ in 0..<3 {
            client.session = 0
            #expect(try client.beginSession().status == .moreProcessingRequired)
            #expect(try client.endSession().status == .success)
        }
        client.session = 0
        #expect(try client.beginSession().status == .moreProcessingRequired)
        #expect(try client.endSession().status == .insufficientResources)
        client.session = session
        var trees: [NTStatus] = []
        for _ in 0..<20 { trees.append(try client.connect("default").status) }
        #expect(trees.count { $0 == .success } == 15 && trees.last == .insufficientResources)
        // Somebody who has a name has room on the same connection.
        client.session = 0
        #expect(try client.logOn(NTLMClient()).status == .success)
        for _ in 0..<100 { #expect(try client.connect("default").status == .success) }
        try await site.close()
    }

    @Test func pipesAreFew() async throws {
        let site = try await Site(nil, [alice])
        site.catalog.change { $0.append(SMBShare(name: "ipc$", volume: nil)) }
        let client = try Guest(ready: site.listener.address)
        #expect(try client.connect("ipc$").status == .success)
        for _ in 0..<4 { #expect(try client.open("srvsvc").status == .success) }
        #expect(try client.open("srvsvc").status == .insufficientResources)
        // Nor may what it says be long, without a volume that it uses.
        let other = try Guest(site.listener.address)
        _ = try other.negotiate()
        _ = try other.beginSession()
        #expect(try other.endSession().status == .success)
        other.peer.send([0, 0x10, 0, 0])
        #expect(other.next(within: 5) == nil && other.peer.isClosed(within: 5))
        try await site.close()
    }

    /// What was answered and not read is bounded by its bytes, and is given back with the pipe.
    @Test func aPipeKeepsLittleForThoseWhoDoNotRead() async throws {
        let site = try await Site(nil, [alice])
        site.catalog.change { shares in
            let comment = String(repeating: "long ", count: 50)
            for index in 0..<200 { shares.append(SMBShare(name: "s\(index)", comment: comment, volume: nil)) }
            shares.append(SMBShare(name: "ipc$", volume: nil))
        }
        let client = try Guest(ready: site.listener.address)
        #expect(try client.connect("ipc$").status == .success)
        func rpc(_ kind: UInt8, _ body: [UInt8]) -> [UInt8] {
            var wire = Wire()
            wire.bytes = [5, 0, kind, 3, 0x10, 0, 0, 0]
            wire.u16(UInt16(16 + body.count))
            wire.u16(0)
            wire.u32(1)
            return wire.bytes + body
        }
        var bind = Wire()
        bind.u16(4280)
        bind.u16(4280)
        bind.u32(0)
        bind.u32(1)
        bind.u16(0)
        bind.u16(1)
        bind.bytes += [
            0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1, 0x88, 3, 0, 0, 0,
            0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60, 2, 0, 0, 0,
        ]
        // NetrShareEnum of level 1, for as much as there is.
        var list = Wire()
        list.u32(0)
        list.u16(0)
        list.u16(15)
        list.u32(0)
        list.u32(1)
        list.u32(1)
        list.u32(4)
        list.u32(0)
        list.u32(0)
        list.u32(.max)
        list.u32(0)
        func fill() throws -> (handle: FileHandle, taken: Int, last: NTStatus) {
            let handle = try client.open("srvsvc").handle
            #expect(try send(rpc(11, bind.bytes), handle) == .success)
            for taken in 0..<60 {
                let status = try send(rpc(0, list.bytes), handle)
                if status != .success { return (handle, taken, status) }
            }
            return (handle, 60, .success)
        }
        func send(_ bytes: [UInt8], _ handle: FileHandle) throws -> NTStatus {
            try client.write(handle, bytes).status
        }
        let (handle, taken, last) = try fill()
        #expect(taken > 1 && taken < 20 && last == .pipeNotAvailable)
        // Who reads has room again.
        for _ in 0..<taken { while try client.read(handle, 65_536).status == .bufferOverflow {} }
        #expect(try send(rpc(0, list.bytes), handle) == .success)
        #expect(try client.close(handle).status == .success)
        // All of nobody's pipes have a bound, too; those that were closed are not among them.
        for _ in 0..<40 { #expect(try client.close(fill().handle).status == .success) }
        try await site.close()
    }

    /// Of all connections together.
    @Test func allOfNobodysPipesKeepLittle() async throws {
        let site = try await Site(nil, [alice])
        site.catalog.change { $0.append(SMBShare(name: "ipc$", volume: nil)) }
        var clients: [Guest] = []
        var last = NTStatus.success
        var handles = 0
        var handle = FileHandle.none
        // A request that never ends is kept as far as it has come.
        let part: [UInt8] =
            [5, 0, 0, 0, 0x10, 0, 0, 0, 0xB8, 0x10, 0, 0, 1, 0, 0, 0] + [UInt8](repeating: 0, count: 4264)
        while last == .success, clients.count < 64 {
            let client = try Guest(ready: site.listener.address, guid: UInt128(clients.count + 1))
            clients.append(client)
            for session in 0..<4 where last == .success {
                if session > 0 {
                    client.session = 0
                    _ = try client.beginSession()
                    _ = try client.endSession()
                }
                #expect(try client.connect("ipc$").status == .success)
                for _ in 0..<4 where last == .success {
                    handle = try client.open("srvsvc").handle
                    handles += 1
                    for _ in 0..<15 where last == .success { last = try client.write(handle, part).status }
                }
            }
        }
        // 15 parts of 4,256 bytes in each.
        #expect(last == .insufficientResources)
        #expect(handles == SMBLimits.pipesBytesOfNobodyMax / (15 * 4256) + 1)
        // Who goes makes room.
        for client in clients.prefix(4) { client.peer.close() }
        let (client, full) = (clients[clients.count - 1], handle)
        #expect(await eventually { (try? client.write(full, part).status) == .success })
        try await site.close()
    }

    /// Where no share is for such, nobody in particular is not let in; nor does he see the list of shares when that changes.
    @Test func nobodyHasToBeWanted() async throws {
        let site = try await Site(nil, [alice])
        site.catalog.change { $0.append(SMBShare(name: "ipc$", volume: nil)) }
        let early = try Guest(ready: site.listener.address)
        #expect(try early.connect("ipc$").status == .success)
        #expect(try early.open("srvsvc").status == .success)
        site.catalog.change { shares in for index in shares.indices { shares[index].allowsGuests = false } }
        #expect(try early.open("srvsvc").status == .networkNameDeleted)
        #expect(try early.connect("ipc$").status == .accessDenied)
        let late = try Guest(site.listener.address)
        _ = try late.negotiate()
        _ = try late.beginSession()
        #expect(try late.endSession().status == .logonFailure)
        let user = try Guest(site.listener.address)
        _ = try user.negotiate()
        #expect(try user.logOn(NTLMClient()).status == .success)
        #expect(try user.connect("ipc$").status == .success)
        try await site.close()
    }

    /// The oldest of those whom nobody knows go before somebody who has a name is kept out.
    @Test func connectionsAreNotAllNobodys() async throws {
        var options = SMBOptions()
        options.connectionsMax = 80
        let site = try await Site(nil, [alice], options)
        let user = try Guest(site.listener.address)
        _ = try user.negotiate()
        #expect(try user.logOn(NTLMClient()).status == .success)
        var idle: [Guest] = []
        for _ in 0..<100 { idle.append(try Guest(ready: site.listener.address)) }
        #expect(site.listener.active <= 42)
        #expect(idle.first?.peer.isClosed(within: 5) == true)
        #expect(try idle[99].connect("default").status == .success)
        let late = try Guest(site.listener.address)
        _ = try late.negotiate()
        #expect(try late.logOn(NTLMClient()).status == .success)
        #expect(try user.connect("default").status == .success)
        try await site.close()
    }

    /// Long messages that never come take the places of their own user, and of nobody else.
    @Test func messagesThatNeverComeStopNobodyElse() async throws {
        var bob = alice
        bob.name = "Bob"
        let site = try await Site(nil, [alice, bob])
        func client(_ name: String?) throws -> Guest {
            guard let name else { return try Guest(ready: site.listener.address) }
            var user = NTLMClient()
            user.user = name
            let client = try Guest(site.listener.address)
            _ = try client.negotiate()
            try #require(try client.logOn(user).status == .success)
            return client
        }
        func long(_ client: Guest) -> UInt64 {
            client.send(.echo, [4, 0, 0, 0] + [UInt8](repeating: 0, count: 200_000))
        }
        // Some wait before, and are in the way of none.
        let (waiting, other, nobody) = (try client("Alice"), try client("Bob"), try client(nil))
        var slow: [Guest] = []
        for _ in 0..<140 {
            let one = try client("Alice")
            one.peer.send([0, 0x80, 0, 0])
            slow.append(one)
        }
        for (index, one) in [other, nobody, try client("Bob"), try client(nil)].enumerated() {
            #expect(try one.reply(to: long(one), within: 5).status == .success)
            #expect(try one.connect("default").status == .success)
            let handle = try one.open("f\(index)", .init(disposition: 2)).handle
            #expect(try one.write(handle, String(repeating: "w", count: 20_000)).status == .success)
        }
        // She has as many on their way as she may have, on each loop.
        let late = long(waiting)
        #expect(waiting.next(within: 0.5) == nil)
        for one in slow { one.peer.close() }
        #expect(try waiting.reply(to: late, within: 5).status == .success)
        try await site.close()
    }

    /// Whose session it was, has trees of it that are not for those who come after him.
    @Test func aTreeIsNotForNobody() async throws {
        let site = try await Site(nil, [alice])
        site.catalog.change { $0[0].allowsGuests = false }
        let client = try Guest(site.listener.address)
        _ = try client.negotiate()
        #expect(try client.logOn(NTLMClient()).status == .success)
        #expect(try client.connect("default").status == .success)
        let open = try client.open("f", .init(disposition: 2))
        #expect(open.status == .success)
        #expect(try client.beginSession().status == .moreProcessingRequired)
        #expect(try client.endSession().status == .success)
        // What is open stays open; what was not does not open.
        #expect(try client.write(open.handle, "still").status == .success)
        let reading = Guest.Opening(access: 0x12_0089)
        #expect(try client.open("f", reading).status == .accessDenied)
        #expect(try client.logOn(NTLMClient()).status == .success)
        #expect(try client.open("f", reading).status == .success)
        try await site.close()
    }

    /// The connection broke before the answer came: the request comes again by another one, and gets what it had made.
    @Test func aCreateThatComesAgainByAnotherConnection() async throws {
        let site = try await Site(nil, [alice])
        func client() throws -> Guest {
            let client = try Guest(site.listener.address, guid: 5, dialect: 0x0302)
            _ = try client.negotiate()
            try #require(try client.logOn(NTLMClient()).status == .success)
            try #require(try client.connect("default").status == .success)
            return client
        }
        func again(_ client: Guest, _ opening: Guest.Opening) throws -> Reply {
            var bytes = client.element(.create, Guest.create("f", opening))
            bytes[19] |= 0x20
            client.send(frame: bytes)
            return try client.reply(to: client.nextMessage - 1)
        }
        let opening = Guest.Opening(share: 0, disposition: 2, lease: (key: 9, state: 7)).durable(77)
        let old = try client()
        let made = try old.open("f", opening)
        #expect(made.status == .success)
        old.peer.close()
        let new = try client()
        // Another lease, and one that does not say that it comes again, are somebody else's.
        #expect(
            try again(new, Guest.Opening(share: 0, disposition: 2, lease: (key: 8, state: 7)).durable(77)).status
                == .accessDenied)
        let back = try again(new, opening)
        #expect(back.status == .success && back.handle == made.handle && back.bytes[66] == 0xFF)
        #expect(back.bytes[68] == made.bytes[68])
        #expect(try new.write(back.handle, "once").status == .success)
        #expect(site.volume.openCount == 1)
        // By now it has been used: the next one is another.
        new.peer.close()
        let third = try client()
        #expect(try again(third, opening).status == .objectNameCollision)
        try await site.close()
    }
}

extension Peer {
    /// The other side has ended, and has not just been silent.
    fileprivate func isClosed(within seconds: Double) -> Bool {
        let start = ContinuousClock.now
        _ = receive(within: seconds) { _ in false }
        return start.duration(to: .now) < .seconds(seconds - 0.5)
    }
}

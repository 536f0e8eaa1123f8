import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

private let alice = SMBUser(
    name: "Alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))

/// What one client may have and say: as much as that, and not one more. Who is refused goes on with what he has.
@Suite(.serialized) struct LimitTests {
    private func ready() async throws -> (site: Site, client: Guest) {
        let site = try await Site(nil, [alice])
        let client = try Guest(site.listener.address)
        #expect(try client.negotiate().status == .success)
        #expect(try client.logOn(NTLMClient()).status == .success)
        return (site, client)
    }

    /// Makes the call until it is refused, and once more for the last that was taken away.
    private func count(upTo most: Int, _ call: () throws -> NTStatus) rethrows -> (taken: Int, last: NTStatus) {
        for taken in 0...most {
            let status = try call()
            if status != .success { return (taken, status) }
        }
        return (most + 1, .success)
    }

    @Test func sessionsOfAConnection() async throws {
        let (site, client) = try await ready()
        let first = client.session
        let (taken, last) = try count(upTo: SMBLimits.sessionsPerConnection) {
            client.session = 0
            let begun = try client.setup(NTLMClient.negotiate)
            guard begun.status == .moreProcessingRequired else { return begun.status }
            var way = NTLMClient()
            return try client.setup(way.answer(begun.token)).status
        }
        #expect(taken == SMBLimits.sessionsPerConnection - 1 && last == .insufficientResources)
        client.session = first
        #expect(try client.connect("default").status == .success)
        #expect(try client.ask(.logoff, [4, 0, 0, 0]).status == .success)
        client.session = 0
        #expect(try client.logOn(NTLMClient()).status == .success)
        try await site.close()
    }

    @Test func treesOfASession() async throws {
        let (site, client) = try await ready()
        #expect(try client.connect("default").status == .success)
        let tree = client.tree
        let (taken, last) = try count(upTo: SMBLimits.treesPerSession) { try client.connect("default").status }
        #expect(taken == SMBLimits.treesPerSession - 1 && last == .insufficientResources)
        client.tree = tree
        #expect(try client.ask(.treeDisconnect, [4, 0, 0, 0]).status == .success)
        #expect(try client.connect("default").status == .success)
        try await site.close()
    }

    @Test func pipesOfASessionAndOfAConnection() async throws {
        let (site, client) = try await ready()
        site.catalog.change { $0.append(SMBShare(name: "ipc$", volume: nil)) }
        var all = 0
        var last = NTStatus.success
        while all <= SMBLimits.pipesPerConnection {
            client.session = 0
            #expect(try client.logOn(NTLMClient()).status == .success)
            #expect(try client.connect("ipc$").status == .success)
            let (taken, status) = try count(upTo: SMBLimits.pipesPerSession) {
                try client.open("srvsvc").status
            }
            all += taken
            last = status
            guard taken == SMBLimits.pipesPerSession else { break }
        }
        #expect(all == SMBLimits.pipesPerConnection && last == .insufficientResources)
        #expect(try client.ask(.logoff, [4, 0, 0, 0]).status == .success)
        try await site.close()
    }

    @Test func opensOfASession() async throws {
        let (site, client) = try await ready()
        _ = try await site.make("f")
        #expect(try client.connect("default").status == .success)
        let request = Guest.create("f", .init(access: 0x80))
        // Each answer brings as many credits as are asked for: there are always some for the next hundred.
        for _ in 0..<16 { _ = try client.ask(.echo, [4, 0, 0, 0]) }
        var taken = 0
        var refused: [NTStatus] = []
        while taken + refused.count < SMBLimits.opensPerSession + 16 {
            let numbers = (0..<16).map { _ in client.send(.create, request) }
            for number in numbers {
                let reply = try client.reply(to: number)
                if reply.status == .success { taken += 1 } else { refused.append(reply.status) }
            }
        }
        #expect(taken == SMBLimits.opensPerSession && refused.count == 16)
        #expect(refused.allSatisfy { $0 == .insufficientResources })
        #expect(try client.ask(.logoff, [4, 0, 0, 0]).status == .success)
        #expect(await eventually { site.volume.openCount == 0 })
        try await site.close()
    }

    @Test func locksOfARequest() async throws {
        let (site, client) = try await ready()
        _ = try await site.make("f")
        #expect(try client.connect("default").status == .success)
        let handle = try client.open("f").handle
        func lock(_ count: Int, _ flags: UInt32) throws -> NTStatus {
            let ranges = (0..<count).map { (UInt64($0) * 10, UInt64(5), flags) }
            return try client.ask(.lock, Guest.lock(handle, count: UInt16(count), ranges)).status
        }
        #expect(try lock(SMB2.locksMax + 1, 0x12) == .invalidParameter)
        #expect(try lock(SMB2.locksMax, 0x12) == .success)
        #expect(try lock(SMB2.locksMax, 4) == .success)
        #expect(try lock(1, 4) == .rangeNotLocked)
        try await site.close()
    }

    @Test func contextsOfACreate() async throws {
        let (site, client) = try await ready()
        _ = try await site.make("f")
        #expect(try client.connect("default").status == .success)
        func open(_ count: Int, _ bytes: Int) throws -> NTStatus {
            let contexts = (0..<count).map { _ in (Array("none".utf8), [UInt8](repeating: 0, count: bytes)) }
            return try client.open("f", .init(contexts: contexts)).status
        }
        #expect(try open(64, 8) == .success)
        #expect(try open(65, 8) == .invalidParameter)
        #expect(try open(1, 64 << 10) == .success)
        #expect(try open(1, (64 << 10) + 1) == .invalidParameter)
        try await site.close()
    }

    @Test func dialectsOfANegotiation() async throws {
        let site = try await Site()
        for (count, status) in [(SMB2.dialectsMax, NTStatus.success), (SMB2.dialectsMax + 1, .invalidParameter)] {
            let client = try Guest(site.listener.address)
            var wire = Wire()
            wire.u16(36)
            wire.u16(UInt16(count))
            wire.u16(1)
            wire.zeros(2 + 4 + 16 + 8)
            for index in 0..<count { wire.u16(index == 0 ? 0x0302 : UInt16(0x0400 + index)) }
            #expect(try client.ask(.negotiate, wire.bytes).status == status)
        }
        try await site.close()
    }

    @Test func namesAndPaths() async throws {
        let (site, client) = try await ready()
        #expect(try client.connect("default").status == .success)
        let longest = String(repeating: "n", count: SMB2.componentUnitsMax)
        #expect(try client.open(longest, .init(disposition: 3)).status == .success)
        #expect(try client.open(longest + "n", .init(disposition: 3)).status == .objectNameInvalid)
        #expect(try client.open("s:" + longest, .init(disposition: 3)).status != .objectNameInvalid)
        #expect(try client.open("s:" + longest + "n", .init(disposition: 3)).status == .objectNameInvalid)
        // As many components as a path may have, and one more, which others have made.
        var directory = site.volume.root
        for _ in 0...1024 { directory = try await site.make("p", type: .directory, in: directory) }
        func path(_ count: Int) -> String { [String](repeating: "p", count: count).joined(separator: "\\") }
        #expect(try client.open(path(1024)).status == .success)
        #expect(try client.open(path(1025)).status == .objectPathNotFound)
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        #expect(try client.list(root, String(repeating: "?", count: NamePattern.unitsMax)).status == .success)
        #expect(
            try client.list(root, String(repeating: "?", count: NamePattern.unitsMax + 1)).status == .objectNameInvalid)
        try await site.close()
    }

    @Test func rangesOfATrim() async throws {
        let site = try await Site(nil, [alice])
        let client = try Guest(site.listener.address, dialect: 0x0302)
        #expect(try client.negotiate().status == .success)
        #expect(try client.logOn(NTLMClient()).status == .success)
        #expect(try client.connect("default").status == .success)
        let handle = try client.open("f", .init(disposition: 2)).handle
        func trim(_ count: UInt32) throws -> NTStatus {
            var wire = Wire()
            wire.u32(0)
            wire.u32(count)
            for index in 0..<UInt64(count) {
                wire.u64(index * 8192)
                wire.u64(4096)
            }
            return try client.control(handle, 0x0009_8208, wire.bytes).status
        }
        #expect(try trim(1024) == .success)
        #expect(try trim(1025) == .invalidParameter)
        #expect(try trim(0) == .invalidParameter)
        try await site.close()
    }

    /// More than a message may carry is asked for by no request.
    @Test func answersHaveABound() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        // Dialect 2.0.2 has messages of one credit.
        let client = try Guest(ready: site.listener.address, dialect: 0x0202)
        let handle = try client.open("f").handle
        #expect(try client.query(handle, 1, 18, max: UInt32(SMB2.singleCreditMax)).status == .success)
        #expect(try client.query(handle, 1, 18, max: UInt32(SMB2.singleCreditMax + 1)).status == .invalidParameter)
        #expect(try client.read(handle, UInt32(SMB2.singleCreditMax)).status == .endOfFile)
        #expect(try client.read(handle, UInt32(SMB2.singleCreditMax + 1)).status == .invalidParameter)
        try await site.close()
    }
}

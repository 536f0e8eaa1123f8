import Glibc
import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// Clients that mean no good: what they may take is bounded, and others go on.
@Suite(.serialized) struct HostileClientTests {
    /// A well-behaved client does a little of everything.
    private static func works(_ site: Site, _ name: String) throws {
        let client = try Guest(ready: site.listener.address, guid: 77)
        let opened = try client.open(name, .init(disposition: 3))
        #expect(opened.status == .success)
        #expect(try client.write(opened.handle, "fine").status == .success)
        #expect(try client.close(opened.handle).status == .success)
    }

    private static var residentBytes: Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        guard fgets(&line, 256, file) != nil else { return 0 }
        let words = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: " ")
        return (words.count > 1 ? Int(words[1]) ?? 0 : 0) * 4096
    }

    @Test func manyConnectionsThatNeverLogOn() async throws {
        let site = try await Site()
        try Self.works(site, "before")
        let before = Self.residentBytes
        var clients: [Guest] = []
        for index in 0..<1000 {
            let client = try Guest(site.listener.address, guid: UInt128(index))
            if index % 2 == 0 { client.send(frame: Array(repeating: 0xFE, count: 3)) }
            clients.append(client)
        }
        try Self.works(site, "meanwhile")
        #expect(Self.residentBytes - before < 100 << 20)
        for client in clients { client.peer.close() }
        try Self.works(site, "after")
        try await site.close()
    }

    /// Its connection waits a second for its end, and what it had open is in nobody's way meanwhile.
    @Test func whoLiesHasNothingOpenAnyMore() async throws {
        let site = try await Site()
        let liar = try Guest(ready: site.listener.address, guid: 1)
        #expect(try liar.open("f", .init(share: 0, disposition: 3)).status == .success)
        let other = try Guest(ready: site.listener.address, guid: 2)
        #expect(try other.open("f").status == .sharingViolation)
        liar.send(frame: [1, 2, 3, 4, 5])
        var status = NTStatus.sharingViolation
        for _ in 0..<10 where status == .sharingViolation {
            status = try other.open("f").status
            if status == .sharingViolation { try await Task.sleep(for: .milliseconds(30)) }
        }
        #expect(status == .success)
        try await site.close()
    }

    @Test func halfMadeSessionsAreCounted() async throws {
        let site = try await Site()
        let client = try Guest(site.listener.address)
        #expect(try client.negotiate().status == .success)
        var made = 0
        for _ in 0..<100 {
            client.session = 0
            if try client.beginSession().status == .moreProcessingRequired { made += 1 }
        }
        #expect(made == 8)
        // None of them may do anything.
        #expect(try client.connect("default").status == .userSessionDeleted)
        try Self.works(site, "other")
        try await site.close()
    }

    @Test func chainsAreBounded() async throws {
        let site = try await Site()
        for (count, isServed) in [(SMB2.elementsMax, true), (SMB2.elementsMax + 1, false)] {
            let client = try Guest(ready: site.listener.address)
            // So many credits have to be there first.
            for _ in 0..<8 { _ = try client.ask(.echo, [4, 0, 0, 0]) }
            let first = client.nextMessage
            var bytes: [UInt8] = []
            for index in 0..<count {
                bytes += client.element(.echo, [4, 0, 0, 0, 0, 0, 0, 0], next: index == count - 1 ? 0 : 72)
            }
            client.send(frame: bytes)
            if isServed {
                let answer = try client.reply(to: first)
                #expect(answer.status == .success && answer.header.nextCommand != 0)
            } else {
                while let answer = client.next(within: 2) { #expect(answer.header.messageID < first) }
                #expect(throws: Guest.Silence.self) { try client.ask(.echo, [4, 0, 0, 0]) }
            }
        }
        try Self.works(site, "other")
        try await site.close()
    }

    /// More than one answer may hold is refused before it is done, and the rest of the chain is answered.
    @Test func answersOfAChainAreBoundedInAll() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        #expect(try await site.write(file, "x", at: 8 << 20) == nil)
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f").handle
        for _ in 0..<6 { _ = try client.ask(.echo, [4, 0, 0, 0]) }
        func read(_ count: UInt32, isLast: Bool = false) -> [UInt8] {
            var body = Wire()
            body.u16(49)
            body.u16(0)
            body.u32(count)
            body.u64(0)
            body.handle(handle)
            body.zeros(24)
            var bytes = client.element(.read, body.bytes, next: isLast ? 0 : UInt32(64 + body.bytes.count))
            let charge = UInt16((count - 1) / 65_536 + 1)
            bytes[6] = UInt8(truncatingIfNeeded: charge)
            bytes[7] = UInt8(charge >> 8)
            client.nextMessage += UInt64(charge) - 1
            return bytes
        }
        let first = client.nextMessage
        client.send(frame: read(8 << 20) + read(8_388_392) + read(1) + read(8_192, isLast: true))
        let answer = try client.reply(to: first)
        #expect(answer.status == .success)
        #expect(try client.ask(.echo, [4, 0, 0, 0]).status == .success)
        try Self.works(site, "other")
        try await site.close()
    }

    @Test func aTreeThatIsGoneIsGoneForTheChain() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        let first = client.nextMessage
        let leaves = client.element(.treeDisconnect, [4, 0, 0, 0, 0, 0, 0, 0], next: 72)
        var opens = client.element(.create, Guest.create("f", .init()))
        opens[16] |= 4
        client.send(frame: leaves + opens)
        _ = try client.reply(to: first)
        #expect(site.volume.openCount == 0)
        #expect(try client.connect("default").status == .success)
        let opened = try client.open("f")
        #expect(opened.status == .success && site.volume.openCount == 1)
        #expect(try client.ask(.logoff, [4, 0, 0, 0]).status == .success)
        #expect(await eventually { site.volume.openCount == 0 })
        try Self.works(site, "other")
        try await site.close()
    }

    @Test func messagesWithoutCreditsEndTheConnection() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        client.nextMessage += 100_000
        #expect(throws: Guest.Silence.self) { try client.ask(.echo, [4, 0, 0, 0]) }
        // One number twice.
        let other = try Guest(ready: site.listener.address)
        other.nextMessage -= 1
        #expect(throws: Guest.Silence.self) { try other.ask(.echo, [4, 0, 0, 0]) }
        try Self.works(site, "other")
        try await site.close()
    }

    @Test func countsThatLieAreRefused() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f").handle
        #expect(try client.ask(.lock, Guest.lock(handle, count: .max, [(0, 1, 2)])).status == .invalidParameter)
        #expect(try client.ask(.lock, Guest.lock(handle, count: 0, [])).status == .invalidParameter)
        #expect(
            try client.ask(.lock, Guest.lock(handle, count: 1, [(.max, .max, 0x12)])).status == .invalidLockRange)
        // A read of more than one credit pays for, a name that lies behind the message, and a lot of nothing.
        var read = Wire()
        read.u16(49)
        read.u16(0)
        read.u32(.max)
        read.u64(0)
        read.handle(handle)
        read.zeros(17)
        #expect(try client.ask(.read, read.bytes).status == .invalidParameter)
        var create = Guest.create("f", .init())
        create[46] = 0xFF
        create[47] = 0xFF
        #expect(try client.ask(.create, create).status == .invalidParameter)
        for command in Command.allCases where command != .cancel && command != .echo && command != .logoff {
            if command == .negotiate || command == .treeDisconnect { continue }
            #expect(try client.ask(command, [0xFF, 0xFF]).status.isError, "\(command)")
        }
        #expect(try client.write(handle, "still there").status == .success)
        try Self.works(site, "other")
        try await site.close()
    }

    /// Long messages that wait, as when a volume stands still, fill what a loop may hold: from half of that on nobody gets more credits than his
    /// message cost, and when they are done all get what they ask for again.
    @Test func creditsFollowTheLoad() async throws {
        let site = try await Site(loops: 1)
        _ = try await site.make("f")
        let other = try Guest(ready: site.listener.address)
        #expect(try other.ask(.echo, [4, 0, 0, 0]).header.credits == 64)
        let bytes = [UInt8](repeating: 7, count: 8 << 20)
        var writers: [(client: Guest, handle: FileHandle)] = []
        for _ in 0..<6 {
            let client = try Guest(ready: site.listener.address)
            writers.append((client, try client.open("f", .init(access: 0x12_019F)).handle))
            // So many credits have to be there first.
            for _ in 0..<16 { _ = try client.ask(.echo, [4, 0, 0, 0]) }
        }
        try await site.freeze()
        var waiting: [(client: Guest, number: UInt64)] = []
        for (client, handle) in writers {
            for _ in 0..<6 {
                waiting.append((client, client.nextMessage))
                var message = client.element(.write, Guest.write(handle, bytes))
                message[6] = 128
                client.nextMessage += 127
                client.send(frame: message)
            }
        }
        /// Few enough that what it has been given never comes near the most that it may have.
        func isGiven(_ credits: UInt16) async throws -> Bool {
            for _ in 0..<50 {
                if try other.ask(.echo, [4, 0, 0, 0]).header.credits == credits { return true }
                try await Task.sleep(nanoseconds: 100_000_000)
            }
            return false
        }
        #expect(try await isGiven(1))
        for _ in 0..<20 { #expect(try other.ask(.echo, [4, 0, 0, 0]).header.credits == 1) }
        await site.release()
        for (client, number) in waiting { #expect(try client.reply(to: number).status == .success) }
        #expect(try await isGiven(64))
        try Self.works(site, "beside")
        try await site.close()
    }

    @Test func timesBeyondAllClocks() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        // Attributes are the owner's to set.
        let handle = try client.open("mine", .init(access: 0x12_019F | 0x100, disposition: 2)).handle
        for time: UInt64 in [1, 0x7FFF_FFFF_FFFF_FFFF, 24_000_000_000_000_000] {
            var wire = Wire()
            wire.u16(33)
            wire.u8(1)
            wire.u8(4)
            wire.u32(40)
            wire.u16(96)
            wire.zeros(6)
            wire.handle(handle)
            for _ in 0..<4 { wire.u64(time) }
            wire.zeros(8)
            #expect(try client.ask(.setInfo, wire.bytes).status == .success)
            // It is written again in the answer, and in the listing.
            #expect(try client.open("mine").status == .success)
        }
        try Self.works(site, "other")
        try await site.close()
    }

    @Test func lengthsThatLieEndTheConnection() async throws {
        let site = try await Site()
        for bytes: [UInt8] in [
            [0, 0xFF, 0xFF, 0xFF], [0, 0, 0, 1, 0], [0x81, 0, 0, 4, 1, 2, 3, 4],
            [0, 0, 0, 64] + Array(repeating: 0, count: 64),
        ] {
            let client = try Guest(site.listener.address)
            client.peer.send(bytes)
            #expect(client.next(within: 5) == nil)
        }
        try Self.works(site, "other")
        try await site.close()
    }

    @Test func watchesAndLocksThatWaitAreBounded() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        var refused = 0
        for _ in 0..<600 {
            // Each answer brings the credits for the next.
            let number = client.watch(root)
            if try client.reply(to: number, pending: true).status != .pending { refused += 1 }
        }
        #expect(refused == 600 - 512)
        #expect(try client.close(root).status == .success)
        try Self.works(site, "other")
        try await site.close()
    }
}

import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// What is signed or sealed is whole and its sender's; what must be, and is not, is not served.
@Suite(.serialized) struct SecurityTests {
    private static let everything: UInt32 = 0x1F_01FF

    private func with(
        _ protection: SMBProtection = [],
        _ work: (Site, SocketAddress) async throws -> Void
    ) async throws {
        let site = try await Site()
        let listener = try site.guarded(protection)
        try await work(site, listener.address)
        await listener.drain(within: 1_000_000_000)
        try await site.close()
    }

    @Test func signedAndSealedMessagesAreServed() async throws {
        try await with { _, address in
            for seals in [false, true] {
                let client = try SecureGuest(address)
                client.seals = seals
                #expect(try client.connect("default").status == .success)
                let opened = try client.open("f", .init(disposition: 3))
                #expect(opened.status == .success)
                #expect(seals || opened.header.flags.contains(.signed))
            }
        }
    }

    /// Bytes that leave from where they lie in memory, those that do not, and the answers between them.
    @Test func longReadsAreGuardedWhole() async throws {
        try await with { site, address in
            let file = try await site.make("long")
            let text = String((0..<300_000).flatMap { "\($0 * 7919 % 300_007) " })
            let bytes = Array(text.utf8)
            for from in stride(from: 0, to: bytes.count, by: 1 << 20) {
                let piece = String(decoding: bytes[from..<min(from + 1 << 20, bytes.count)], as: UTF8.self)
                #expect(try await site.write(file, piece, at: UInt64(from)) == nil)
            }
            try await site.flush(file)
            for (signs, seals) in [(false, true), (true, false), (false, false)] {
                let client = try SecureGuest(address)
                #expect(try client.connect("default").status == .success)
                (client.signs, client.seals) = (signs, seals)
                let handle = try client.open("long").handle
                let ends = [(bytes.count - 600_000, 600_000), (bytes.count - 600_000, 1 << 20), (bytes.count, 1 << 20)]
                for (from, count) in [(0, 1 << 20), (700_001, 1 << 20), (1, 512 << 10), (77, 65_537)] + ends {
                    let some = bytes[from...].prefix(count)
                    var wire = Wire()
                    wire.u16(49)
                    wire.u16(0)
                    wire.u32(UInt32(count))
                    wire.u64(UInt64(from))
                    wire.handle(handle)
                    wire.zeros(17)
                    let reply = try client.ask(.read, wire.bytes, charge: 16)
                    #expect(reply.status == (some.isEmpty ? .endOfFile : .success))
                    #expect(
                        some.isEmpty || reply.bytes.count == 80 + some.count && reply.bytes[80...].elementsEqual(some))
                    #expect(!signs || client.isSigned(reply))
                    #expect(try client.ask(.echo, [4, 0, 0, 0]).status == .success)
                }
            }
        }
    }

    @Test func aBitThatWasChangedEndsTheConnection() async throws {
        try await with { site, address in
            let file = try await site.make("f")
            #expect(try await site.write(file, "whole") == nil)
            for seals in [false, true] {
                // Of a write: the signature or tag, the header, the handle, what is written.
                for place in [50, 30, 70, -1] {
                    let client = try SecureGuest(address)
                    client.seals = seals
                    #expect(try client.connect("default").status == .success)
                    let handle = try client.open("f").handle
                    client.tampering = { bytes in
                        var bytes = bytes
                        bytes[place < 0 ? bytes.count + place : place] ^= 0x10
                        return bytes
                    }
                    var wire = Wire()
                    wire.u16(49)
                    wire.u16(112)
                    wire.u32(5)
                    wire.u64(0)
                    wire.handle(handle)
                    wire.zeros(16)
                    client.send(.write, wire.bytes + Array("wrong".utf8))
                    #expect(client.isEnded(), "byte \(place), sealed \(seals)")
                }
            }
            let reader = try SecureGuest(address)
            #expect(try reader.connect("default").status == .success)
            let handle = try reader.open("f").handle
            var wire = Wire()
            wire.u16(49)
            wire.u16(0)
            wire.u32(5)
            wire.u64(0)
            wire.handle(handle)
            wire.zeros(17)
            #expect(try reader.ask(.read, wire.bytes).bytes.suffix(5) == Array("whole".utf8)[...])
        }
    }

    @Test func aNegotiationThatWasChangedMakesOtherKeys() async throws {
        try await with { _, address in
            // A bit of the salt: it means nothing but to the hash.
            let client = try SecureGuest(address) { bytes in
                var bytes = bytes
                bytes[118] ^= 1
                return bytes
            }
            #expect(throws: (any Error).self) {
                guard try client.connect("default").status == .success else { throw SecureGuest.Refused() }
            }
            #expect(client.isEnded())
        }
    }

    @Test func aTreeIsAskedForWithASignature() async throws {
        try await with { _, address in
            let client = try SecureGuest(address)
            client.signs = false
            #expect(throws: (any Error).self) {
                guard try client.connect("default").status == .success else { throw SecureGuest.Refused() }
            }
            #expect(client.isEnded())
        }
    }

    @Test func whatMustBeSignedIsRefusedUnsigned() async throws {
        try await with(.signing) { _, address in
            let client = try SecureGuest(address)
            #expect(try client.connect("default").status == .success)
            client.signs = false
            #expect(try client.open("f", .init(disposition: 3)).status == .accessDenied)
            client.signs = true
            #expect(try client.open("f").status == .objectNameNotFound)
            // Nor is anybody let in who has no key to sign with.
            let nobody = try Guest(address)
            #expect(try nobody.negotiate().status == .success)
            #expect(try nobody.beginSession().status == .moreProcessingRequired)
            #expect(try nobody.endSession().status == .accessDenied)
        }
    }

    @Test func whatMustBeSealedIsNotServedInTheClear() async throws {
        try await with { site, address in
            site.catalog.change { shares in
                for index in shares.indices { shares[index].requiresEncryption = true }
            }
            let client = try SecureGuest(address)
            #expect(try client.connect("default").status == .success)
            #expect(try client.open("f", .init(disposition: 3)).status == .accessDenied)
            client.seals = true
            #expect(try client.open("f").status == .objectNameNotFound)
            #expect(try client.open("f", .init(disposition: 3)).status == .success)
        }
        try await with(.encryption) { _, address in
            let client = try SecureGuest(address)
            #expect(try client.connect("default").status == .accessDenied)
            client.seals = true
            #expect(try client.connect("default").status == .success)
            // Who can not, is not let in at all.
            let old = try Guest(address)
            #expect(try old.negotiate().status == .success)
            #expect(try old.beginSession().status == .accessDenied)
        }
    }

    @Test func nobodySealsForAnother() async throws {
        try await with { _, address in
            let (one, two) = (try SecureGuest(address), try SecureGuest(address, user: "bob", secret: "word"))
            #expect(try one.connect("default").status == .success)
            #expect(try two.connect("default").status == .success)
            // Sealed by one's own keys, in another's name.
            let element = two.guest.element(.echo, [4, 0, 0, 0])
            two.guest.send(frame: two.sealed(element, session: one.guest.session))
            #expect(two.isEnded())
            #expect(try one.open("f", .init(disposition: 3)).status == .success)
        }
    }

    /// Whoever is on the way has an account of his own: with that he is not let into another's session.
    @Test func aGuardedSessionIsLoggedOnAgainByItsClientOnly() async throws {
        try await with { site, address in
            func tryAll(_ client: SecureGuest, _ isProtected: () -> Void) throws {
                let token = SecureGuest.setup(NTLMClient.negotiate)
                (client.signs, client.seals) = (false, false)
                #expect(try client.ask(.sessionSetup, token).status == .accessDenied)
                isProtected()
                #expect(try client.open("f", .init(disposition: 3)).status == .success)
                #expect(try client.ask(.sessionSetup, token).status == .moreProcessingRequired)
            }
            let free = try SecureGuest(address)
            #expect(try free.connect("default").status == .success)
            free.signs = false
            let token = SecureGuest.setup(NTLMClient.negotiate)
            #expect(try free.ask(.sessionSetup, token).status == .moreProcessingRequired)
            // Another's session of the same connection is not logged on by what is sealed for one's own.
            let client = try SecureGuest(address)
            client.seals = true
            #expect(try client.connect("default").status == .success)
            let first = client.guest.session
            try client.logOn("bob", "word")
            var element = client.guest.element(.sessionSetup, token)
            for index in 0..<8 { element[40 + index] = UInt8(truncatingIfNeeded: first >> (8 * UInt64(index))) }
            client.guest.send(frame: client.sealed(element))
            #expect(try client.received().status == .accessDenied)
            for requires in [\SMBShare.requiresEncryption, \SMBShare.requiresSigning] {
                site.catalog.change { shares in
                    for index in shares.indices {
                        shares[index].requiresEncryption = false
                        shares[index].requiresSigning = false
                        shares[index][keyPath: requires] = true
                    }
                }
                let client = try SecureGuest(address)
                #expect(try client.connect("default").status == .success)
                try tryAll(client) { (client.signs, client.seals) = (true, requires == \.requiresEncryption) }
            }
        }
        try await with(.encryption) { _, address in
            let client = try SecureGuest(address)
            client.seals = true
            #expect(try client.connect("default").status == .success)
            client.seals = false
            client.signs = false
            let token = SecureGuest.setup(NTLMClient.negotiate)
            #expect(try client.ask(.sessionSetup, token).status == .accessDenied)
            client.seals = true
            #expect(try client.open("f", .init(disposition: 3)).status == .success)
        }
    }

    @Test func whatMustBeSignedIsNotCancelledUnsigned() async throws {
        try await with(.signing) { _, address in
            let client = try SecureGuest(address)
            #expect(try client.connect("default").status == .success)
            let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
            var wire = Wire()
            wire.u16(32)
            wire.u16(0)
            wire.u32(4096)
            wire.handle(root)
            wire.u32(0xFFF)
            wire.u32(0)
            let number = client.send(.changeNotify, wire.bytes)
            #expect(try client.received().status == .pending)
            func cancel() -> [UInt8] {
                let next = client.guest.nextMessage
                defer { client.guest.nextMessage = next }
                client.guest.nextMessage = number
                return client.guest.element(.cancel, [4, 0, 0, 0])
            }
            client.guest.send(frame: cancel())
            // It waits on: what is answered next is something else.
            #expect(try client.ask(.echo, [4, 0, 0, 0]).status == .success)
            client.guest.send(frame: client.signed(cancel()))
            let answer = try client.received()
            #expect(answer.header.messageID == number && answer.status == .cancelled)
        }
    }

    @Test func noNonceIsUsedTwice() async throws {
        try await with { _, address in
            let client = try SecureGuest(address)
            #expect(try client.connect("default").status == .success)
            let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
            // Of signatures: the number of the message, which an announcement shares with the answer that follows it.
            var signed: Set<UInt64> = []
            var announced = 0
            func take(_ reply: Reply) {
                if reply.status == .pending { announced += 1 }
                guard reply.header.flags.contains(.signed) else { return }
                #expect(signed.insert(reply.header.messageID).inserted, "\(reply.header.messageID) was signed twice")
            }
            for index in 0..<20 {
                var wire = Wire()
                wire.u16(32)
                wire.u16(0)
                wire.u32(4096)
                wire.handle(root)
                wire.u32(0xFFF)
                wire.u32(0)
                let number = client.send(.changeNotify, wire.bytes)
                while true {
                    let reply = try client.received()
                    take(reply)
                    if reply.header.messageID == number, reply.status == .pending { break }
                }
                let made = client.send(.create, Guest.create("f\(index)", .init(disposition: 2)))
                var left: Set<UInt64> = [number, made]
                while !left.isEmpty {
                    let reply = try client.received()
                    take(reply)
                    if reply.status != .pending { left.remove(reply.header.messageID) }
                }
            }
            #expect(announced == 20 && signed.count == 40)
            let sealed = try SecureGuest(address)
            sealed.seals = true
            #expect(try sealed.connect("default").status == .success)
            for _ in 0..<50 { _ = try sealed.open("f0") }
            #expect(sealed.nonces.count == 51 && Set(sealed.nonces).count == 51)
        }
    }

    @Test func aListIsAsked() async throws {
        try await with { site, address in
            let (one, two) = (try SecureGuest(address), try SecureGuest(address, user: "bob", secret: "word"))
            #expect(try one.connect("default").status == .success)
            #expect(try two.connect("default").status == .success)
            #expect(try one.open("mine", .init(access: Self.everything, disposition: 2)).status == .success)
            var closed = NewAttributes()
            closed.mode = 0o600
            let (volume, caller) = (site.volume, site.caller)
            let file = try await site.done {
                Array("mine".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
            }
            let mode = closed
            _ = try await site.done { volume.setAttributes(caller, file.file, mode) }
            #expect(try two.open("mine", .init(access: 0x12_0089)).status == .accessDenied)
            #expect(try one.open("mine", .init(access: 0x12_0089)).status == .success)
        }
    }

    @Test func aSealedMessageSpeaksForItsSessionOnly() async throws {
        try await with { _, address in
            // Two sessions of one connection: what the one sealed says inside that it is the other's.
            let client = try SecureGuest(address)
            #expect(try client.connect("default").status == .success)
            #expect(try client.open("f", .init(disposition: 3)).status == .success)
            let first = (session: client.guest.session, tree: client.guest.tree)
            try client.logOn("bob", "word")
            client.guest.tree = first.tree
            var element = client.guest.element(.create, Guest.create("f", .init()))
            for index in 0..<8 { element[40 + index] = UInt8(truncatingIfNeeded: first.session >> (8 * UInt64(index))) }
            client.guest.send(frame: client.sealed(element))
            #expect(try client.received().status.isError)
        }
    }

    @Test func aHandleWaitsForItsUser() async throws {
        try await with { _, address in
            var opening = Guest.Opening(access: Self.everything, disposition: 3)
            opening.oplock = 9
            let one = try SecureGuest(address)
            #expect(try one.connect("default").status == .success)
            let handle = try one.open("f", opening.durable(77)).handle
            one.guest.peer.close()
            let other = try SecureGuest(address, user: "bob", secret: "word")
            #expect(try other.connect("default").status == .success)
            let again = Guest.Opening(access: Self.everything, disposition: 3).reconnecting(handle, 77)
            #expect(try other.open("f", again).status == .accessDenied)
            let back = try SecureGuest(address)
            #expect(try back.connect("default").status == .success)
            let returned = try back.open("f", again)
            #expect(returned.status == .success && returned.handle.persistent == handle.persistent)
        }
    }

    /// Each share has rules of its own.
    @Test func aHandleComesBackByItsShare() async throws {
        try await with { _, address in
            var opening = Guest.Opening(access: Self.everything, disposition: 3)
            opening.oplock = 9
            let one = try SecureGuest(address)
            #expect(try one.connect("safe").status == .success)
            let handle = try one.open("f", opening.durable(77)).handle
            one.guest.peer.close()
            let plain = Guest.Opening(access: Self.everything, disposition: 3)
            let back = try SecureGuest(address)
            #expect(try back.connect("default").status == .success)
            #expect(try back.open("f", plain.reconnecting(handle, 77)).status == .objectNameNotFound)
            #expect(try back.connect("safe").status == .success)
            #expect(try back.open("f", plain.reconnecting(handle, 77)).status == .success)
        }
    }

    @Test func whatWasNegotiatedIsToldAgain() async throws {
        let site = try await Site()
        func told(_ change: (inout [UInt8]) -> Void) throws -> (Guest, Reply?) {
            let client = try Guest(ready: site.listener.address, guid: 5, dialect: 0x0300)
            var info = Wire()
            info.u32(0)
            info.u64(5)
            info.u64(0)
            info.u16(1)
            info.u16(1)
            info.u16(0x0300)
            change(&info.bytes)
            var wire = Wire()
            wire.u16(57)
            wire.u16(0)
            wire.u32(0x0014_0204)
            wire.handle(.previous)
            wire.u32(120)
            wire.u32(UInt32(info.bytes.count))
            wire.zeros(12)
            wire.u32(24)
            wire.u32(1)
            wire.u32(0)
            let number = client.send(.ioctl, wire.bytes + info.bytes)
            return (client, try? client.reply(to: number, within: 3))
        }
        #expect(try told { _ in }.1?.status == .success)
        // Capabilities, the client's number, its mode, the dialects that it offered.
        for place in [0, 4, 20, 24] {
            let (client, _) = try told { $0[place] ^= 0x10 }
            #expect(throws: Guest.Silence.self, "byte \(place)") { try client.ask(.echo, [4, 0, 0, 0]) }
        }
        try await site.close()
    }

    @Test func strangersHaveOneRequestAtATime() async throws {
        let site = try await Site()
        let client = try Guest(site.listener.address)
        #expect(try client.negotiate().header.credits == 1)
        #expect(try client.ask(.echo, [4, 0, 0, 0]).header.credits == 1)
        #expect(try client.beginSession().header.credits == 1)
        try await site.close()
    }

    @Test func whatComesFirstHasABound() async throws {
        let site = try await Site()
        let client = try Guest(site.listener.address)
        #expect(try client.negotiate().status == .success)
        let token = Guest.firstToken + [UInt8](repeating: 0, count: NTLM.negotiateMax)
        #expect(try client.ask(.sessionSetup, SecureGuest.setup(token)).status.isError)
        try await site.close()
    }

    @Test func whatIsAskedForIsPaidFor() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        #expect(try await site.write(file, "x", at: 1 << 20) == nil)
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f").handle
        // A credit pays for 64 KiB.
        for (count, status) in [(65_536, NTStatus.success), (65_537, .invalidParameter)] as [(UInt32, NTStatus)] {
            var wire = Wire()
            wire.u16(49)
            wire.u16(0)
            wire.u32(count)
            wire.u64(0)
            wire.handle(handle)
            wire.zeros(17)
            #expect(try client.ask(.read, wire.bytes).status == status)
        }
        try await site.close()
    }
}

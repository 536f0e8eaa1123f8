import Bytes
import SMB
import TestSupport
import Testing

private func element(_ command: Command, _ body: [UInt8]) -> [UInt8] {
    var header = Header()
    header.command = command.rawValue
    return encoded { header.write(into: &$0) } + body
}

@Suite struct MessageTests {
    @Test func aHeaderComesBack() {
        var header = Header()
        header.creditCharge = 3
        header.status = 0xC000_0022
        header.command = 8
        header.credits = 512
        header.flags = [.response, .signed, .related]
        header.nextCommand = 128
        header.messageID = 0x1122_3344_5566_7788
        header.processID = 0xFEFF
        header.treeID = 5
        header.sessionID = 0x99
        header.signatureLow = 1
        header.signatureHigh = 2
        let bytes = encoded { header.write(into: &$0) }
        #expect(bytes.count == Header.bytes)
        #expect(header == read(bytes))
        header.flags.insert(.async)
        header.processID = 0
        header.treeID = 0
        header.asyncID = 77
        #expect(header == read(encoded { header.write(into: &$0) }))
    }

    private func read(_ bytes: [UInt8]) -> Header? {
        bytes.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            do throws(BytesError) { return try Header(reading: &reader) } catch { return nil }
        }
    }

    @Test func aTransformHeaderComesBack() {
        let header = TransformHeader(messageBytes: 1234, sessionID: 0xABCD)
        let bytes = encoded { header.write(into: &$0) }
        #expect(bytes.count == TransformHeader.bytes)
        let back = bytes.withUnsafeBytes { bytes -> TransformHeader? in
            var reader = Reader(bytes)
            do throws(BytesError) { return try TransformHeader(reading: &reader) } catch { return nil }
        }
        #expect(back == header)
    }

    /// Every request, cut off everywhere and with every word of its fixed part at its largest: refused or read, never a trap.
    @Test(arguments: Command.allCases)
    func damagedRequestsAreRefused(command: Command) {
        let sizes: [Command: Int] = [
            .negotiate: 36, .sessionSetup: 25, .logoff: 4, .treeConnect: 9, .treeDisconnect: 4, .create: 57, .close: 24,
            .flush: 24, .read: 49, .write: 49, .lock: 48, .ioctl: 57, .cancel: 4, .echo: 4, .queryDirectory: 33,
            .changeNotify: 32, .queryInfo: 41, .setInfo: 33, .oplockBreak: 24,
        ]
        let size = sizes[command]!
        var body = [UInt8](repeating: 0, count: size + 40)
        body[0] = UInt8(size)
        func read(_ body: [UInt8]) -> Bool {
            element(command, body).withUnsafeBytes { SMBRequest.isReadable(command, Element($0)) }
        }
        for count in 0..<(size & ~1) { #expect(!read(Array(body.prefix(count)))) }
        for place in 2..<body.count {
            for value in [0x7F, 0x80, 0xFF] as [UInt8] {
                var changed = body
                changed[place] = value
                _ = read(changed)
                if place + 3 < body.count {
                    for offset in 1..<4 { changed[place + offset] = 0xFF }
                    _ = read(changed)
                }
            }
        }
        var wrong = body
        wrong[0] = UInt8(size + 2)
        if command != .oplockBreak { #expect(!read(wrong)) }
    }

    private func data(_ body: [UInt8]) -> [UInt8]? {
        element(.write, body).withUnsafeBytes { bytes in
            do throws(BytesError) { return Array(try WriteRequest(reading: Element(bytes)).data) } catch { return nil }
        }
    }

    @Test func partsLieInTheMessage() {
        var body = [UInt8](repeating: 0, count: 48)
        body[0] = 49
        body[2] = UInt8(Header.bytes + 48)
        body[4] = 5
        #expect(data(body + Array("hello".utf8)) == Array("hello".utf8))
        // One byte more than there is.
        body[4] = 6
        #expect(data(body + Array("hello".utf8)) == nil)
        // In the header.
        body[2] = 10
        body[4] = 1
        #expect(data(body) == nil)
    }

    @Test func negotiationContexts() {
        let contexts: [NegotiateContext] = [
            .preauthIntegrity(algorithms: [1], salt: [1, 2, 3, 4]), .encryption([2, 1]), .signing([2, 1, 0]),
        ]
        for context in contexts {
            let bytes = encoded { context.writeUnaligned(into: &$0) }
            #expect(self.context(bytes) == context)
        }
        // Known, but its count says more than there is.
        #expect(context([2, 0, 4, 0, 0, 0, 0, 0, 9, 0, 1, 0]) == .invalid(2))
    }

    private func context(_ bytes: [UInt8]) -> NegotiateContext? {
        bytes.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            do throws(BytesError) { return try NegotiateContext(reading: &reader) } catch { return nil }
        }
    }
}

@Suite struct NegotiationTests {
    private let terms = Negotiation.Terms(guid: 42, requiresSigning: false, allowsEncryption: true)

    private func negotiated(_ dialects: [UInt16], _ contexts: [NegotiateContext] = []) throws(Negotiation.Refusal)
        -> Negotiation
    {
        var negotiation = Negotiation()
        try negotiation.negotiate(request(dialects, contexts), terms)
        return negotiation
    }

    private func request(_ dialects: [UInt16], _ contexts: [NegotiateContext]) -> NegotiateRequest {
        let body = encoded { writer in
            writer.u16LE(36)
            writer.u16LE(UInt16(dialects.count))
            writer.u16LE(1)
            writer.u16LE(0)
            writer.u32LE(0x7F)
            writer.zeros(16)
            let place = writer.position
            writer.u32LE(0)
            writer.u16LE(UInt16(contexts.count))
            writer.u16LE(0)
            for dialect in dialects { writer.u16LE(dialect) }
            writer.align(to: 8)
            writer.patch(u32LE: UInt32(Header.bytes + writer.position), at: place)
            for (index, context) in contexts.enumerated() {
                if index > 0 { writer.align(to: 8) }
                context.writeUnaligned(into: &writer)
            }
        }
        return element(.negotiate, body).withUnsafeBytes { bytes in
            do throws(BytesError) { return try NegotiateRequest(reading: Element(bytes)) } catch {
                preconditionFailure("a request that the test made: \(error)")
            }
        }
    }

    @Test func theHighestCommonDialectIsTaken() throws {
        #expect(try negotiated([0x0202]).dialect == .v202)
        #expect(try negotiated([0x0210, 0x0202]).dialect == .v210)
        #expect(try negotiated([0x0202, 0x0300, 0x0302]).dialect == .v302)
        #expect(try negotiated([0x0202, 0x9999]).dialect == .v202)
        #expect(throws: Negotiation.Refusal.status(.notSupported)) { try negotiated([0x9999]) }
        #expect(throws: Negotiation.Refusal.status(.invalidParameter)) { try negotiated([]) }
    }

    @Test func theLatestDialectNeedsItsHash() throws {
        #expect(throws: Negotiation.Refusal.status(.invalidParameter)) { try negotiated([0x0311]) }
        let hash = NegotiateContext.preauthIntegrity(algorithms: [1], salt: [])
        let plain = try negotiated([0x0311], [hash])
        #expect(plain.dialect == .v311)
        #expect(plain.encryption == nil)
        #expect(plain.signing == .aesCMAC)
        let full = try negotiated([0x0311], [hash, .encryption([4, 2]), .signing([7, 2])])
        #expect(full.encryption == .aes256GCM)
        #expect(full.signing == .aesGMAC)
        #expect(throws: Negotiation.Refusal.status(.invalidParameter)) { try negotiated([0x0311], [hash, hash]) }
    }

    private func refusal(_ body: () throws(Negotiation.Refusal) -> Void) -> Negotiation.Refusal? {
        do throws(Negotiation.Refusal) { try body() } catch { return error }
        return nil
    }

    @Test func nobodyNegotiatesTwice() throws {
        var negotiation = try negotiated([0x0302])
        let refusal = refusal { () throws(Negotiation.Refusal) in
            try negotiation.negotiate(request([0x0202], []), terms)
        }
        #expect(refusal == .end)
    }

    @Test func theOldNegotiationLeadsToTheNewOne() throws {
        func old(_ names: [String]) -> [UInt8] {
            var bytes: [UInt8] = [0xFF, 0x53, 0x4D, 0x42, 0x72] + [UInt8](repeating: 0, count: 30)
            for name in names { bytes += [2] + Array(name.utf8) + [0] }
            return bytes
        }
        func take(_ names: [String], _ negotiation: inout Negotiation) -> Negotiation.Refusal? {
            old(names).withUnsafeBytes { bytes in
                do throws(Negotiation.Refusal) { try negotiation.negotiateOld(bytes, terms) } catch { return error }
                return nil
            }
        }
        var negotiation = Negotiation()
        #expect(take(["NT LM 0.12", "SMB 2.002", "SMB 2.???"], &negotiation) == nil)
        #expect(negotiation.dialect == nil)
        try negotiation.negotiate(request([0x0210], []), terms)
        #expect(negotiation.dialect == .v210)
        var second = Negotiation()
        #expect(take(["SMB 2.002"], &second) == nil)
        #expect(second.dialect == .v202)
        var third = Negotiation()
        #expect(take(["NT LM 0.12"], &third) == .end)
    }
}

import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// Extended attributes as Windows and Linux clients say them, and as others see them.
@Suite(.serialized) struct ExtendedAttributeTests {
    private static func entry(_ name: String, _ value: [UInt8], next: UInt32 = 0) -> [UInt8] {
        var wire = Wire()
        wire.u32(next)
        wire.u8(0)
        wire.u8(UInt8(name.utf8.count))
        wire.u16(UInt16(value.count))
        return wire.bytes + Array(name.utf8) + [0] + value
    }

    private static func list(_ entries: [(String, [UInt8])]) -> [UInt8] {
        var list: [UInt8] = []
        for (index, item) in entries.enumerated() {
            let plain = entry(item.0, item.1)
            let padded = (plain.count + 3) & ~3
            let isLast = index == entries.count - 1
            list += entry(item.0, item.1, next: isLast ? 0 : UInt32(padded))
            if !isLast { list += [UInt8](repeating: 0, count: padded - plain.count) }
        }
        return list
    }

    private static func wanted(_ name: String) -> [UInt8] {
        [0, 0, 0, 0, UInt8(name.utf8.count)] + Array(name.utf8) + [0]
    }

    private func attributes(_ site: Site, _ file: FileID) async throws -> [String: [UInt8]] {
        let (volume, caller) = (site.volume, site.caller)
        let found = try await site.done { volume.extendedAttributes(caller, file, prefixes: [Array("user.".utf8)]) }
        return Dictionary(uniqueKeysWithValues: found.map { (String(decoding: $0.name, as: UTF8.self), $0.value) })
    }

    private static let all: UInt32 = 0x12_01BF

    @Test func theyAreTheSameForAll() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        let client = try Guest(ready: site.listener.address, dialect: 0x0300)
        let handle = try client.open("f", .init(access: Self.all)).handle
        #expect(try client.query(handle, 1, 15).status == .noEAsOnFile)
        #expect(try client.query(handle, 1, 7).information == [0, 0, 0, 0])
        let list = Self.list([("Color", [1, 2, 3]), ("long", [UInt8](repeating: 7, count: 5000))])
        #expect(try client.set(handle, 1, 15, list).status == .success)
        var seen = try await attributes(site, file)
        #expect(seen == ["user.Color": [1, 2, 3], "user.long": [UInt8](repeating: 7, count: 5000)])
        // Case makes no difference, and the name stays as it was.
        #expect(try client.set(handle, 1, 15, Self.list([("COLOR", [9])])).status == .success)
        seen = try await attributes(site, file)
        #expect(seen["user.Color"] == [9] && seen.count == 2)
        let whole = try client.query(handle, 1, 15, max: 16_384)
        #expect(whole.status == .success)
        #expect(whole.information == Self.list([("Color", [9]), ("long", [UInt8](repeating: 7, count: 5000))]))
        #expect(try client.query(handle, 1, 7).information == Wire.u32(UInt32(whole.information.count)))
        // As many as there is room for, none, and one by one.
        let part = try client.query(handle, 1, 15, max: 100)
        #expect(part.status == .bufferOverflow && part.information == Self.list([("Color", [9])]))
        #expect(try client.query(handle, 1, 15, max: 8).status == .bufferTooSmall)
        #expect(try client.query(handle, 1, 15, flags: 3).information == Self.list([("Color", [9])]))
        #expect(try client.query(handle, 1, 15, max: 8192, flags: 2).status == .success)
        #expect(try client.query(handle, 1, 15, max: 8192, flags: 2).status == .noMoreEAs)
        #expect(try client.query(handle, 1, 15, additional: 3, flags: 4).status == .nonexistentEAEntry)
        // By name; what is not there has no value.
        let asked = try client.query(handle, 1, 15, input: Self.wanted("color"))
        #expect(asked.information == Self.list([("Color", [9])]))
        #expect(try client.query(handle, 1, 15, input: Self.wanted("none")).information == Self.list([("none", [])]))
        // What an object client has written is there, too; what is the server's own is not.
        let (volume, caller) = (site.volume, site.caller)
        _ = try await site.done { volume.setExtendedAttribute(caller, file, "user.meta", [4]) }
        _ = try await site.done { volume.setExtendedAttribute(caller, file, "proxyfs.own", [4]) }
        let more = try client.query(handle, 1, 15, max: 16_384).information
        #expect(more.count > whole.information.count && more.count < whole.information.count + 24)
        // An empty value is none.
        #expect(
            try client.set(handle, 1, 15, Self.list([("color", []), ("gone", []), ("LONG", [])])).status == .success)
        #expect(try await attributes(site, file) == ["user.meta": [4]])
        try await site.close()
    }

    @Test func whatLiesIsRefusedAndChangesNothing() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        let client = try Guest(ready: site.listener.address, dialect: 0x0300)
        let handle = try client.open("f", .init(access: Self.all)).handle
        let good = Self.list([("a", [1])])
        for cut in 1..<good.count {
            #expect(try client.set(handle, 1, 15, Array(good.prefix(cut))).status == .eaListInconsistent, "\(cut)")
        }
        #expect(try client.set(handle, 1, 15, Self.entry("a", [1], next: 6) + good).status == .eaListInconsistent)
        #expect(try client.set(handle, 1, 15, Self.entry("a", [1], next: 4096)).status == .eaListInconsistent)
        #expect(try client.set(handle, 1, 15, Self.entry("", [1])).status == .invalidEAName)
        #expect(try client.set(handle, 1, 15, Self.entry("a\u{1}", [1])).status == .invalidEAName)
        // More than a file keeps in all.
        let long = [UInt8](repeating: 1, count: 60_000)
        var last = NTStatus.success
        for index in 0..<20 where last == .success {
            last = try client.set(handle, 1, 15, Self.list([("n\(index)", long)])).status
        }
        #expect(last == .eaTooLarge)
        #expect(try await attributes(site, file).count == 17)
        // All of a list or nothing of it.
        #expect(try client.set(handle, 1, 15, Self.list([("b", [1]), ("c", long)])).status == .eaTooLarge)
        #expect(try await attributes(site, file).count == 17)
        #expect(try client.set(handle, 1, 15, Self.list([("n0", []), ("c", long)])).status == .success)
        // Who may not, can not.
        let reader = try client.open("f", .init(access: 0x80)).handle
        #expect(try client.set(reader, 1, 15, good).status == .accessDenied)
        #expect(try client.query(reader, 1, 15).status == .accessDenied)
        try await site.close()
    }

    @Test func aFileIsMadeWithThem() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address, dialect: 0x0300)
        func opening(_ disposition: UInt32, _ data: [UInt8]) -> Guest.Opening {
            .init(access: Self.all, disposition: disposition, contexts: [(Array("ExtA".utf8), data)])
        }
        let made = try client.open("f", opening(2, Self.list([("one", [1]), ("two", [2, 2])])))
        #expect(made.status == .success)
        let (volume, caller) = (site.volume, site.caller)
        let file = try await site.done {
            Array("f".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }
        #expect(try await attributes(site, file.file) == ["user.one": [1], "user.two": [2, 2]])
        #expect(try client.write(made.handle, "text").status == .success)
        // Opening what is there changes nothing, and a list that lies makes nothing.
        #expect(try client.open("f", opening(3, Self.list([("three", [3])]))).status == .success)
        #expect(try await attributes(site, file.file).count == 2)
        #expect(try client.open("g", opening(2, [1, 2, 3])).status == .eaListInconsistent)
        #expect(try client.open("g").status == .objectNameNotFound)
        // Nor does a name that is none leave an open behind.
        #expect(try client.open("h", opening(2, Self.list([("x\u{1}", [1])]))).status == .invalidEAName)
        #expect(try client.open("h").status == .objectNameNotFound)
        try await site.close()
    }

    /// The session or the tree ends while the file gets them: then there is no handle, and nothing of it stays.
    @Test(arguments: [Command.logoff, .treeDisconnect]) func whatEndsMeanwhileStaysEnded(_ end: Command) async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address, dialect: 0x0300)
        let opening = Guest.Opening(
            access: Self.all, disposition: 2, contexts: [(Array("ExtA".utf8), Self.list([("one", [1])]))])
        let made = client.nextMessage
        var both: [UInt8] = []
        for message in [client.element(.create, Guest.create("f", opening)), client.element(end, [4, 0, 0, 0])] {
            both += [0, 0, UInt8(message.count >> 8), UInt8(message.count & 0xFF)] + message
        }
        client.peer.send(both)
        #expect(try client.reply(to: made + 1).status == .success)
        #expect(try client.reply(to: made).status == .fileClosed)
        #expect(await site.server.report().opens.isEmpty)
        for _ in 0..<200 where site.volume.openCount > 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(site.volume.openCount == 0)
        try await site.close()
    }

    @Test func aFileHasNoMoreThanAreLookedAt() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let client = try Guest(ready: site.listener.address, dialect: 0x0300)
        let handle = try client.open("f", .init(access: Self.all)).handle
        func names(_ range: Range<Int>) -> [(String, [UInt8])] { range.map { ("n\($0)", [1]) } }
        #expect(try client.set(handle, 1, 15, Self.list(names(0..<1000))).status == .success)
        #expect(try client.set(handle, 1, 15, Self.list(names(1000..<1024))).status == .success)
        #expect(try client.set(handle, 1, 15, Self.list(names(1024..<1025))).status == .eaTooLarge)
        // What is there may change, and what goes makes room.
        #expect(try client.set(handle, 1, 15, Self.list([("N7", [2])])).status == .success)
        #expect(
            try client.set(handle, 1, 15, Self.list([("n0", []), ("one", [1]), ("ONE", [2])])).status == .success)
        #expect(try client.set(handle, 1, 15, Self.list([("two", [1])])).status == .eaTooLarge)
        #expect(try client.query(handle, 1, 15, input: Self.wanted("one")).information == Self.list([("one", [2])]))
        try await site.close()
    }
}

extension Wire {
    fileprivate static func u32(_ value: UInt32) -> [UInt8] {
        var wire = Wire()
        wire.u32(value)
        return wire.bytes
    }
}

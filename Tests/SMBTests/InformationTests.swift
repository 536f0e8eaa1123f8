import Namespace
import Runtime
import SMB
import SMBSupport
import Testing

/// What is said of files, in ways that no other test asks for.
@Suite(.serialized) struct InformationTests {
    @Test func namesAreFoundHoweverTheirAccentsAreWritten() async throws {
        #expect(NameForms.others(Array("plain".utf8)).isEmpty)
        #expect(NameForms.others([0xC3]).isEmpty)
        #expect(NameForms.others(Array("\u{fc}".utf8)) == [Array("u\u{308}".utf8)])
        #expect(NameForms.others(Array("u\u{308}".utf8)) == [Array("\u{fc}".utf8)])
        let site = try await Site()
        // As a Mac writes it over NFS.
        let directory = try await site.make("Mu\u{308}ll", type: .directory)
        _ = try await site.make("a\u{30a}", in: directory)
        let client = try Guest(ready: site.listener.address)
        #expect(try client.open("m\u{fc}ll\\\u{e5}").status == .success)
        #expect(try client.open("mu\u{308}ll\\a\u{30a}").status == .success)
        #expect(try client.open("m\u{fc}ll\\\u{e6}").status == .objectNameNotFound)
        // What is there is taken, and nothing is made beside it.
        #expect(try client.open("m\u{fc}ll\\\u{e5}", .init(disposition: 3)).bytes[68] == 1)
        let handle = try client.open("m\u{fc}ll", .init(access: 0x12_0089, options: 1)).handle
        #expect(try client.list(handle).names == [".", "..", "a\u{30a}"])
        #expect(try client.list(handle, "\u{e5}").names.map { Array($0.unicodeScalars).count } == [2])
        // Both forms are one name: nobody makes another file beside it.
        #expect(try client.open("m\u{fc}ll\\\u{e5}", .init(disposition: 2)).status == .objectNameCollision)
        try await site.close()
    }

    /// Clients on several loops make one name in two cases, or in two ways to write its accent, again and again: there is one file, and
    /// each has it open.
    @Test(arguments: [("Name", "nAME"), ("\u{E4}", "a\u{308}")])
    func namesThatAreOneMakeOneFile(_ one: String, _ other: String) async throws {
        let site = try await Site()
        var clients: [Guest] = []
        for index in 0..<4 { clients.append(try Guest(ready: site.listener.address, guid: UInt128(index + 1))) }
        let root = try clients[0].open("", .init(access: 0x12_0089, options: 1)).handle
        for round in 0..<200 {
            let isStream = round % 4 == 3
            let requests = clients.indices.map { index -> (Guest, UInt64) in
                let name = "\(round)" + (index % 2 == 0 ? one : other) + (isStream ? index < 2 ? ":s" : ":S" : "")
                return (clients[index], clients[index].send(.create, Guest.create(name, .init(disposition: 3))))
            }
            for (client, number) in requests { #expect(try client.reply(to: number).status == .success) }
            #expect(try clients[0].list(root, "\(round)*").names.count == 1)
            guard isStream else { continue }
            // The file itself, which has no name, and one more.
            let handle = try clients[0].open("\(round)" + one).handle
            let streams = try clients[0].query(handle, 1, 22)
            let second = Int(streams.u32(72))
            #expect(second > 0 && streams.u32(72 + second) == 0)
        }
        // FILE_CREATE wins once.
        for round in 200..<400 {
            let requests = clients.indices.map { index -> (Guest, UInt64) in
                let name = "\(round)" + (index % 2 == 0 ? one : other)
                return (clients[index], clients[index].send(.create, Guest.create(name, .init(disposition: 2))))
            }
            let statuses = try requests.map { try $0.0.reply(to: $0.1).status }
            #expect(statuses.count { $0 == .success } == 1)
            #expect(statuses.count { $0 == .objectNameCollision } == 3)
        }
        try await site.close()
    }

    /// No name has a slash in it: clients write it for the other one now and then.
    @Test func aSlashPartsNames() async throws {
        let site = try await Site()
        let home = try await site.make("d", type: .directory)
        _ = try await site.make("f", in: home)
        let client = try Guest(ready: site.listener.address)
        #expect(try client.open("d/f").status == .success && client.open("D\\f/").status == .success)
        #expect(try client.open("d/new", .init(disposition: 2)).status == .success)
        #expect(try client.open("d\\new").status == .success)
        for name in ["/d", "d/../d/f", "d/.", ".."] { #expect(try client.open(name).status.isError) }
        #expect(try client.open("d/f:s/t", .init(disposition: 2)).status == .objectNameInvalid)
        try await site.close()
    }

    /// What does not fit is not shown in part.
    @Test func streamsAreShownWhole() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f", .init(disposition: 2)).handle
        for name in ["one", "two", "three"] {
            #expect(try client.open("f:" + name, .init(disposition: 2)).status == .success)
        }
        let whole = try client.query(handle, 1, 22)
        #expect(whole.status == .success)
        var ends: [Int] = []
        var place = 0
        while true {
            let next = Int(whole.u32(72 + place))
            ends.append(place + 24 + Int(whole.u32(72 + place + 4)))
            guard next > 0 else { break }
            place += next
        }
        #expect(ends.count == 4 && ends[3] == whole.information.count)
        for (index, end) in ends.enumerated().dropLast() {
            for room in [end, ends[index + 1] - 1] {
                let part = try client.query(handle, 1, 22, max: UInt32(room))
                #expect(part.status == .bufferOverflow && part.information.count == end, "\(room)")
                // The last one that is shown says that it is the last.
                let last = index == 0 ? 0 : (ends[index - 1] + 7) & ~7
                #expect(part.u32(72 + last) == 0)
            }
        }
        try await site.close()
    }

    /// Scanners and indexers say so of files that lie on tapes elsewhere.
    @Test func nothingHasToBeRecalled() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        #expect(try client.open("f", .init(disposition: 3, options: 0x40_0000)).status == .success)
        try await site.close()
    }

    @Test func roomThatWasAskedForIsShownAsTaken() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        func opening(_ bytes: UInt64, _ disposition: UInt32 = 2) -> Guest.Opening {
            var wire = Wire()
            wire.u64(bytes)
            return .init(disposition: disposition, contexts: [(Array("AlSi".utf8), wire.bytes)])
        }
        let made = try client.open("f", opening(5000))
        #expect(made.status == .success && made.u64(64 + 40) == 8192 && made.u64(64 + 48) == 0)
        #expect(try client.query(made.handle, 1, 5).u64(72) == 8192)
        #expect(try client.open("f", opening(1 << 20, 1)).u64(64 + 40) == 0)
        #expect(try client.open("g", opening(1 << 62)).status == .diskFull)
        #expect(try client.open("g").status == .objectNameNotFound)
        try await site.close()
    }

    /// Copies on the server are writes, too.
    @Test func copiesDoNotOverwriteWhatMayOnlyGrow() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        _ = try await site.make("log")
        let client = try Guest(ready: site.listener.address)
        let source = try client.open("f").handle
        #expect(try client.write(source, "forged").status == .success)
        let log = try client.open("log").handle
        #expect(try client.write(log, "entry").status == .success)
        let open = try client.open("log", .init(access: 0x12_0004)).handle
        func copy(to offset: UInt64) throws -> NTStatus {
            var wire = Wire()
            wire.handle(source)
            wire.u64(0)
            wire.u32(1)
            wire.u32(0)
            wire.u64(0)
            wire.u64(offset)
            wire.u32(6)
            wire.u32(0)
            return try client.control(open, 0x0014_80F2, wire.bytes).status
        }
        #expect(try copy(to: 0) == .accessDenied)
        #expect(try copy(to: 4) == .accessDenied)
        #expect(try client.query(log, 1, 5).u64(80) == 5)
        #expect(try copy(to: 5) == .success)
        #expect(try client.query(log, 1, 5).u64(80) == 11)
        // A write goes to the end, whatever it says.
        #expect(try client.write(open, "x").status == .success)
        #expect(try client.query(log, 1, 5).u64(80) == 12)
        try await site.close()
    }

    @Test func trimmedRangesAreHoles() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let client = try Guest(ready: site.listener.address, dialect: 0x0302)
        let handle = try client.open("f").handle
        #expect(try client.write(handle, String(repeating: "x", count: 60_000)).status == .success)
        func trim(_ ranges: [(UInt64, UInt64)], key: UInt32 = 0, count: UInt32? = nil) -> [UInt8] {
            var wire = Wire()
            wire.u32(key)
            wire.u32(count ?? UInt32(ranges.count))
            for (offset, length) in ranges {
                wire.u64(offset)
                wire.u64(length)
            }
            return wire.bytes
        }
        let code: UInt32 = 0x0009_8208
        let done = try client.control(handle, code, trim([(4096, 8192), (20_000, 1)]))
        #expect(done.status == .success && done.output == [2, 0, 0, 0])
        let (volume, caller) = (site.volume, site.caller)
        let file = try await site.done {
            Array("f".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 60_000, alignment: 8)
        defer { bytes.deallocate() }
        let buffer = SendableBuffer(bytes)
        #expect(try await volume.readAll(file.file, at: 0, into: buffer) == 60_000)
        #expect(
            bytes.enumerated().allSatisfy { index, byte in
                byte == (4096..<12_288 ~= index || index == 20_000 ? 0 : UInt8(ascii: "x"))
            })
        for (input, status) in [
            (trim([]), NTStatus.invalidParameter), (trim([(0, 1)], key: 1), .invalidParameter),
            (trim([(0, 1)], count: 2), .invalidParameter), (trim([(.max, 2)]), .integerOverflow),
            (trim([(1 << 63, 1)]), .invalidParameter),
            (trim(Array(repeating: (0, 1), count: 1025)), .invalidParameter),
        ] { #expect(try client.control(handle, code, input).status == status) }
        let reader = try client.open("f", .init(access: 0x12_0089)).handle
        #expect(try client.control(reader, code, trim([(0, 1)])).status == .accessDenied)
        try await site.close()
    }

    /// Windows asks before it makes further connections.
    @Test func theServerSaysWhereItIs() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address, dialect: 0x0302)
        let found = try client.control(.previous, 0x0014_01FC, [])
        #expect(found.status == .success && found.output.count == 152)
        #expect(Array(found.output[24..<32]) == [2, 0, 0, 0, 127, 0, 0, 1])
        #expect(try client.control(.previous, 0x0014_01FC, [], max: 100).status == .bufferTooSmall)
        let old = try Guest(ready: site.listener.address)
        #expect(try old.control(.previous, 0x0014_01FC, []).status == .invalidDeviceRequest)
        try await site.close()
    }

    /// No names of a domain, no earlier versions: who asks is told so, and gets nothing else instead.
    @Test func whatIsNotThereIsNotFound() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        for code in [0x0006_0194, 0x0006_01B0] as [UInt32] {
            #expect(try client.control(.previous, code, NTLMClient.utf16("\\server\\default")).status == .notFound)
        }
        let earlier = Guest.Opening(contexts: [(Array("TWrp".utf8), [UInt8](repeating: 1, count: 8))])
        #expect(try client.open("f", earlier).status == .objectNameNotFound)
        #expect(try client.open("f").status == .success)
        try await site.close()
    }

    @Test func whatLinuxAndNewerWindowsAsk() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f").handle
        let stat = try client.query(handle, 1, 68)
        #expect(stat.status == .success && stat.information.count == 72 && stat.u64(72) == file.inode)
        let linux = try client.query(handle, 1, 70).information
        #expect(linux.count == 96 && linux[84] == 0xB6 && linux[85] == 0x81)
        #expect(try client.query(handle, 1, 71).information == [0, 0, 0, 0])
        #expect(try client.query(handle, 2, 6).information.count == 48)
        // Extents are shared, attributes and links kept: clients ask for nothing that is not said here.
        #expect(try client.query(handle, 2, 5).u32(72) & 0x8C0_0080 == 0x8C0_0080)
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        #expect(try client.list(root, "f", level: 63).says("f"))
        try await site.close()
    }

    /// Who asks for all that he may have of a file that is not to be changed may not change it.
    @Test func readOnlyFilesStayAsTheyAre() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let made = try client.open("f", .init(access: 0x1F_01FF, disposition: 2))
        #expect(made.status == .success)
        var basic = Wire()
        basic.zeros(32)
        basic.u32(1)
        basic.u32(0)
        #expect(try client.set(made.handle, 1, 4, basic.bytes).status == .success)
        #expect(try client.close(made.handle).status == .success)
        let all = try client.open("f", .init(access: 0x0200_0000))
        #expect(all.status == .success)
        #expect(try client.write(all.handle, "x").status == .accessDenied)
        // Nor does another take its place.
        let other = try client.open("g", .init(access: 0x13_019F, disposition: 2))
        func rename(_ level: UInt8, _ flags: UInt32) throws -> NTStatus {
            var wire = Wire()
            wire.u32(flags)
            wire.zeros(4)
            wire.u64(0)
            wire.u32(2)
            wire.u16(UInt16(UInt8(ascii: "f")))
            return try client.set(other.handle, 1, level, wire.bytes + [0, 0, 0, 0]).status
        }
        #expect(try client.close(all.handle).status == .success)
        #expect(try rename(10, 1) == .accessDenied)
        #expect(try rename(65, 1 | 0x40) == .success)
        try await site.close()
    }

    /// A stream gets another name, or that of another one which goes; it never becomes the file's own data, nor another file's. What is open
    /// follows it.
    @Test func streamsGetOtherNames() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let file = try client.open("f", .init(access: 0x12_019F, disposition: 2))
        #expect(file.status == .success)
        func make(_ name: String, _ text: String) throws -> FileHandle {
            let made = try client.open(name, .init(access: 0x13_019F, disposition: 2))
            #expect(made.status == .success)
            #expect(try client.write(made.handle, text).status == .success)
            return made.handle
        }
        func rename(_ handle: FileHandle, _ name: String, replaces: Bool = false) throws -> NTStatus {
            var wire = Wire()
            wire.u32(replaces ? 1 : 0)
            wire.zeros(4)
            wire.u64(0)
            wire.u32(UInt32(name.utf16.count * 2))
            for unit in name.utf16 { wire.u16(unit) }
            return try client.set(handle, 1, 10, wire.bytes + [0, 0, 0, 0]).status
        }
        func streams() throws -> Reply { try client.query(file.handle, 1, 22) }
        let one = try make("f:One", "first")
        let two = try make("f:Two", "second")
        let beside = try client.open("f:One", .init(access: 0x12_0089))
        #expect(beside.status == .success)
        #expect(try rename(one, ":Three:$DATA") == .success)
        #expect(try !streams().says(":One:") && streams().says(":Three:$DATA"))
        for handle in [one, beside.handle] { #expect(try client.query(handle, 1, 18).says("f:Three")) }
        // In another spelling, and to the name that it has.
        #expect(try rename(one, ":THREE") == .success)
        #expect(try streams().says(":THREE:$DATA"))
        #expect(try rename(one, ":THREE") == .success)
        // Another one's name: only if that one may go, and nobody has it open.
        #expect(try rename(one, ":two") == .objectNameCollision)
        #expect(try rename(one, ":two", replaces: true) == .accessDenied)
        #expect(try client.close(two).status == .success)
        #expect(try rename(one, ":two", replaces: true) == .success)
        #expect(try !streams().says(":THREE:") && streams().says(":Two:$DATA"))
        let read = try client.open("f:Two", .init(access: 0x12_0089))
        #expect(try client.read(read.handle, 100).bytes.suffix(5) == Array("first".utf8)[...])
        // What it can not become.
        #expect(try rename(one, "::$DATA", replaces: true) == .notSupported)
        #expect(try rename(one, "f:Four") == .sharingViolation)
        #expect(try rename(file.handle, ":Five") == .accessDenied)
        // Without the right to delete there is no new name.
        #expect(try rename(read.handle, ":Six") == .accessDenied)
        // It goes under the name that it has by now.
        #expect(try client.set(one, 1, 13, [1]).status == .success)
        for handle in [one, beside.handle, read.handle] { #expect(try client.close(handle).status == .success) }
        #expect(try !streams().says(":Two:"))
        try await site.close()
    }

    /// Of a chain, elements behind a log-off find no session.
    @Test func aLogOffHoldsForTheRestOfItsChain() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let first = client.nextMessage
        let off = client.element(.logoff, [4, 0, 0, 0, 0, 0, 0, 0], next: 72)
        client.send(frame: off + client.element(.create, Guest.create("f", .init(disposition: 2))))
        let answer = try client.reply(to: first)
        #expect(answer.status == .success)
        #expect(NTStatus(rawValue: answer.u32(72 + 8)) == .userSessionDeleted)
        let (volume, caller) = (site.volume, site.caller)
        await #expect(throws: FileError.noEntry) {
            try await site.done { Array("f".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) } }
        }
        try await site.close()
    }

    /// What is shared is not copied, and what can not be shared is said.
    @Test func extentsAreShared() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address, dialect: 0x0302)
        let from = try client.open("from", .init(access: 0x13_019F, disposition: 2)).handle
        let to = try client.open("to", .init(access: 0x13_019F, disposition: 2)).handle
        #expect(try client.write(from, String(repeating: "a", count: 60_000)).status == .success)
        #expect(try client.write(to, String(repeating: "b", count: 60_000)).status == .success)
        func share(_ source: SMB.FileHandle, _ offset: UInt64, _ place: UInt64, _ count: UInt64) throws -> NTStatus {
            var wire = Wire()
            wire.handle(source)
            wire.u64(offset)
            wire.u64(place)
            wire.u64(count)
            return try client.control(to, 0x0009_8344, wire.bytes).status
        }
        #expect(try share(from, 0, 8192, 16_384) == .success)
        let (volume, caller) = (site.volume, site.caller)
        let file = try await site.done {
            Array("to".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 60_000, alignment: 8)
        defer { bytes.deallocate() }
        #expect(try await volume.readAll(file.file, at: 0, into: SendableBuffer(bytes)) == 60_000)
        let letters = (UInt8(ascii: "a"), UInt8(ascii: "b"))
        #expect(bytes.enumerated().allSatisfy { $1 == (8192..<24_576 ~= $0 ? letters.0 : letters.1) })
        for (source, offset, place, count, status) in [
            (from, 50_000, 0, 20_000, NTStatus.notSupported), (from, 0, 50_000, 20_000, .notSupported),
            (to, 0, 4096, 8192, .notSupported), (to, 0, 8192, 8192, .success),
            (SMB.FileHandle(persistent: 1, volatile: 2), 0, 0, 1, .invalidHandle),
            (from, .max, 0, 1, .invalidParameter),
        ] as [(SMB.FileHandle, UInt64, UInt64, UInt64, NTStatus)] {
            #expect(try share(source, offset, place, count) == status, "\(offset) \(place)")
        }
        try await site.close()
    }

    /// What a client has set stays, as long as it is the same handle that writes.
    @Test func aTimeOfTheLastChangeIsShownUntilTheNextOne() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f", .init(access: 0x1F_01FF, disposition: 2)).handle
        func change() throws -> UInt64 { try client.query(handle, 1, 4).u64(72 + 24) }
        let made = try change()
        let old: UInt64 = 131_000_000_000_000_000
        var wire = Wire()
        wire.zeros(24)
        wire.u64(old)
        wire.zeros(8)
        #expect(try client.set(handle, 1, 4, wire.bytes).status == .success)
        #expect(try change() == old)
        let other = try client.open("f").handle
        #expect(try client.query(other, 1, 4).u64(72 + 24) == old)
        // It went nowhere for those who wait for changes.
        #expect(try client.write(other, "text").status == .success)
        #expect(try change() > made)
        try await site.close()
    }

    @Test func aWriteTimeThatWasSetStays() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f", .init(access: 0x1F_01FF, disposition: 2)).handle
        func set(_ time: Int64) throws {
            var wire = Wire()
            wire.zeros(16)
            wire.u64(UInt64(bitPattern: time))
            wire.zeros(8)
            wire.zeros(8)
            #expect(try client.set(handle, 1, 4, wire.bytes).status == .success)
        }
        func time() throws -> UInt64 { try client.query(handle, 1, 4).u64(72 + 16) }
        let old: Int64 = 131_000_000_000_000_000
        try set(old)
        #expect(try client.write(handle, "one").status == .success)
        #expect(try time() == UInt64(old))
        // Its size, too.
        var size = Wire()
        size.u64(100)
        #expect(try client.set(handle, 1, 20, size.bytes).status == .success)
        #expect(try time() == UInt64(old))
        try set(-2)
        #expect(try client.write(handle, "two").status == .success)
        let now = try time()
        #expect(now > UInt64(old))
        try set(-1)
        try await Task.sleep(for: .milliseconds(20))
        #expect(try client.write(handle, "three").status == .success)
        #expect(try time() == now)
        // Another handle knows nothing of that.
        let other = try client.open("f").handle
        #expect(try client.write(other, "four").status == .success)
        #expect(try time() > now)
        try await site.close()
    }
}

import Namespace
import Runtime
import SMB
import SMBSupport
import Testing

/// Symbolic links between those who follow them at the server's side of the path and those who do it themselves.
@Suite(.serialized) struct LinkTests {
    private static let getReparse: UInt32 = 0x0009_00A8
    private static let setReparse: UInt32 = 0x0009_00A4
    private static let itself = Guest.Opening(access: 0x12_019F, options: 0x20_0000)

    private func link(_ site: Site, _ name: String, _ target: String, in directory: FileID? = nil) async throws {
        let (volume, caller) = (site.volume, site.caller)
        _ = try await site.done {
            Array(name.utf8).withUnsafeBytes {
                var new = NewFile(type: .symlink, mode: 0o777)
                new.target = Array(target.utf8)
                return volume.create(caller, in: directory ?? volume.root, $0, new)
            }
        }
    }

    private func target(_ site: Site, _ name: String) async throws -> String {
        let (volume, caller) = (site.volume, site.caller)
        let found = try await site.done {
            Array(name.utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }
        #expect(found.type == .symlink)
        return String(decoding: try await site.done { volume.target(caller, of: found.file) }, as: UTF8.self)
    }

    private static func units(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    }

    /// [MS-FSCC] 2.1.2.4.
    private static func reparse(_ name: String, flags: UInt32, tag: UInt32 = 0xA000_000C) -> [UInt8] {
        let text = units(name)
        var wire = Wire()
        wire.u32(tag)
        wire.u16(UInt16(12 + text.count))
        wire.u16(0)
        wire.u16(0)
        wire.u16(UInt16(text.count))
        wire.u16(0)
        wire.u16(UInt16(text.count))
        wire.u32(flags)
        return wire.bytes + text
    }

    @Test(arguments: [0x0210, 0x0302]) func aClientIsToldWhereTheyLead(_ dialect: UInt16) async throws {
        let site = try await Site()
        let directory = try await site.make("d", type: .directory)
        _ = try await site.make("f", in: directory)
        try await link(site, "near", "d/f")
        try await link(site, "way", "./d")
        try await link(site, "far", "/d/f")
        try await link(site, "up", "../d", in: directory)
        let client = try Guest(ready: site.listener.address, dialect: dialect)
        for (name, target, unparsed, flags) in [
            ("near", "d\\f", 0, 1), ("way", ".\\d", 0, 1), ("way\\f", ".\\d", 4, 1), ("far", "\\d\\f", 0, 0),
            ("d\\up\\f", "..\\d", 4, 1), ("way\\none\\f", ".\\d", 14, 1),
        ] as [(String, String, UInt32, UInt32)] {
            let stopped = try client.open(name)
            #expect(stopped.status == .stoppedOnSymlink, "\(name)")
            let data = stopped.explanation(isLatest: false)
            let text = Self.units(target)
            var wire = Wire()
            wire.u32(UInt32(24 + text.count))
            wire.u32(0x4C4D_5953)
            wire.u32(0xA000_000C)
            wire.u16(UInt16(12 + text.count))
            wire.u16(UInt16(unparsed))
            wire.u16(0)
            wire.u16(UInt16(text.count))
            wire.u16(0)
            wire.u16(UInt16(text.count))
            wire.u32(flags)
            #expect(data == wire.bytes + text, "\(name)")
        }
        #expect(try client.open("near", .init(disposition: 2)).status == .objectNameCollision)
        // A file in the way is no link.
        #expect(try client.open("d\\f\\g").status == .objectPathNotFound)
        let opened = try client.open("near", Self.itself)
        #expect(opened.status == .success)
        let read = try client.control(opened.handle, Self.getReparse, [])
        #expect(read.status == .success && read.output == Self.reparse("d\\f", flags: 1))
        #expect(try client.control(opened.handle, Self.getReparse, [], max: 12).status == .bufferOverflow)
        let plain = try client.open("d\\f")
        #expect(try client.control(plain.handle, Self.getReparse, []).status == .notAReparsePoint)
        try await site.close()
    }

    /// What follows a CREATE that made no open means no file of before it, and is told why.
    @Test(arguments: [("none", NTStatus.objectNameNotFound), ("link", .stoppedOnSymlink)])
    func aChainHasNoOtherFile(_ name: String, _ status: NTStatus) async throws {
        let site = try await Site()
        let file = try await site.make("f")
        try await link(site, "link", "f")
        let client = try Guest(ready: site.listener.address)
        func part(_ command: Command, _ body: [UInt8], isRelated: Bool, isLast: Bool = false) -> [UInt8] {
            let body = body + [UInt8](repeating: 0, count: -body.count & 7)
            var bytes = client.element(command, body, next: isLast ? 0 : UInt32(64 + body.count))
            if isRelated { bytes[16] |= 4 }
            return bytes
        }
        var write = Wire()
        write.u16(49)
        write.u16(112)
        write.u32(4)
        write.u64(0)
        write.handle(FileHandle(persistent: .max, volatile: .max))
        write.zeros(16)
        let first = client.nextMessage
        client.send(
            frame: part(.create, Guest.create("f", .init()), isRelated: false)
                + part(.create, Guest.create(name, .init()), isRelated: true)
                + part(.write, write.bytes + Array("text".utf8), isRelated: true, isLast: true))
        let answer = try client.reply(to: first)
        #expect(answer.status == .success)
        var place = 0
        var statuses: [UInt32] = []
        while true {
            statuses.append(answer.u32(place + 8))
            let next = Int(answer.u32(place + 20))
            guard next > 0 else { break }
            place += next
        }
        #expect(statuses == [0, status.rawValue, status.rawValue])
        let (volume, caller) = (site.volume, site.caller)
        #expect(try await site.done { volume.attributes(caller, file) }.size == 0)
        try await site.close()
    }

    /// The other way to write it is longer than a name may be.
    @Test func aNameMayHaveNoOtherForm() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let name = String(repeating: "한", count: 150)
        #expect(try client.open(name, .init(disposition: 3)).status == .success)
        #expect(try client.open(name).status == .success)
        let root = try client.open("", .init(access: 0x12_0089, options: 1))
        #expect(try client.list(root.handle, String(repeating: "힣", count: 150)).status == .noSuchFile)
        try await site.close()
    }

    @Test func aClientMakesThem() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address, dialect: 0x0302)
        let made = Guest.Opening(access: 0x13_019F, disposition: 2, options: 0x20_0000)
        let file = try client.open("l", made)
        #expect(file.status == .success)
        #expect(
            try client.control(file.handle, Self.setReparse, Self.reparse("a\\ü\\..\\b", flags: 1)).status == .success)
        #expect(try client.close(file.handle).status == .success)
        #expect(try await target(site, "l") == "a/ü/../b")
        let back = try client.open("l", Self.itself)
        #expect(try client.control(back.handle, Self.getReparse, []).output == Self.reparse("a\\ü\\..\\b", flags: 1))
        // Of a directory, as Windows makes those that lead to one.
        let directory = try client.open("m", .init(access: 0x13_019F, disposition: 2, options: 0x20_0001))
        #expect(directory.status == .success)
        #expect(try client.control(directory.handle, Self.setReparse, Self.reparse("d", flags: 1)).status == .success)
        #expect(try await target(site, "m") == "d")
        // What only the client's machine knows, and what is none, changes nothing.
        let other = try client.open("n", made)
        for (bytes, status) in [
            (Self.reparse("\\??\\C:\\x", flags: 0), NTStatus.invalidReparseData),
            (Self.reparse("a\u{0}b", flags: 1), .invalidReparseData), (Self.reparse("", flags: 1), .invalidReparseData),
            (Self.reparse("x", flags: 1, tag: 0xA000_0003), .notSupported),
            (Array(Self.reparse("abc", flags: 1).dropLast()), .invalidReparseData), ([1, 2, 3], .invalidBufferSize),
            (Self.reparse(String(repeating: "x", count: 5000), flags: 1), .invalidReparseData),
        ] { #expect(try client.control(other.handle, Self.setReparse, bytes).status == status) }
        #expect(try client.write(other.handle, "full").status == .success)
        #expect(
            try client.control(other.handle, Self.setReparse, Self.reparse("x", flags: 1)).status == .invalidParameter)
        #expect(try client.open("n").status == .success)
        // The link goes, and not what it leads to.
        let root = try client.open("", .init(access: 0x12_0089, options: 1))
        let names = try client.list(root.handle)
        #expect(names.says("l") && names.says("m") && !names.says("~link"))
        try await site.close()
    }

    /// The handle, the number and what is known of the file stay; the handle's name goes with it when it is closed.
    @Test func aFileThatBecomesALinkIsTheSameFile() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address, dialect: 0x0302)
        let made = Guest.Opening(access: 0x13_01BF, disposition: 2, options: 0x20_0000)
        let file = try client.open("L", made).handle
        // It had something in it before, and is found in another case.
        #expect(try client.write(file, String(repeating: "x", count: 60_000)).status == .success)
        #expect(try client.set(file, 1, 20, [UInt8](repeating: 0, count: 8)).status == .success)
        let number = try client.query(file, 1, 6).information
        #expect(number.count == 8)
        #expect(try client.control(file, Self.setReparse, Self.reparse("a\\b", flags: 1)).status == .success)
        #expect(try await target(site, "L") == "a/b")
        #expect(try client.control(file, Self.getReparse, []).output == Self.reparse("a\\b", flags: 1))
        #expect(try client.query(file, 1, 6).information == number)
        let other = try client.open("l", Self.itself).handle
        #expect(try client.query(other, 1, 6).information == number)
        // Nothing is written to it any more, and it leads elsewhere when that is said again.
        #expect(try client.write(file, "more").status.isError)
        #expect(try client.read(file, 4).status.isError)
        let long = [String](repeating: String(repeating: "t", count: 200), count: 17)
        let told = Self.reparse(long.joined(separator: "\\"), flags: 1)
        #expect(try client.control(other, Self.setReparse, told).status == .success)
        #expect(try await target(site, "L") == long.joined(separator: "/"))
        #expect(try client.control(other, Self.setReparse, Self.reparse("c", flags: 1)).status == .success)
        #expect(try await target(site, "L") == "c")
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        #expect(try client.list(root).names == [".", "..", "L"])
        // FileDispositionInformation by the handle that it was made with.
        #expect(try client.set(file, 1, 13, [1]).status == .success)
        #expect(try client.close(file).status == .success)
        #expect(try client.close(other).status == .success)
        #expect(try client.list(root).names == [".", ".."])
        // A file with a second name stays one.
        let (volume, caller) = (site.volume, site.caller)
        let handle = try client.open("one", made).handle
        let twice = try await site.done {
            Array("one".utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }
        _ = try await site.done {
            Array("two".utf8).withUnsafeBytes { volume.link(caller, twice.file, in: volume.root, $0) }
        }
        #expect(
            try client.control(handle, Self.setReparse, Self.reparse("x", flags: 1)).status == .invalidParameter)
        #expect(try client.write(handle, "text").status == .success)
        try await site.close()
    }

    /// What is refused leaves all as it was.
    @Test func whatHasSomethingInItStays() async throws {
        let site = try await Site()
        let directory = try await site.make("d", type: .directory)
        _ = try await site.make("f", in: directory)
        let client = try Guest(ready: site.listener.address, dialect: 0x0302)
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        let link = Self.reparse("x", flags: 1)
        let full = try client.open("d", .init(access: 0x13_019F, options: 0x20_0001)).handle
        #expect(try client.control(full, Self.setReparse, link).status == .directoryNotEmpty)
        // A stream is something, too.
        let file = try client.open("s", .init(access: 0x13_019F, disposition: 2, options: 0x20_0000)).handle
        let stream = try client.open("s:more", .init(disposition: 2)).handle
        #expect(try client.write(stream, "text").status == .success)
        #expect(try client.control(file, Self.setReparse, link).status == .invalidParameter)
        // Also of a directory.
        let folder = try client.open("t", .init(access: 0x13_019F, disposition: 2, options: 0x20_0001)).handle
        #expect(try client.open("t:more", .init(disposition: 2)).status == .success)
        #expect(try client.control(folder, Self.setReparse, link).status == .invalidParameter)
        #expect(try client.open("t:more").status == .success)
        #expect(try client.list(root).names == [".", "..", "d", "s", "t"])
        #expect(try client.open("d\\f").status == .success)
        #expect(try client.open("s:more").status == .success)
        try await site.close()
    }
}

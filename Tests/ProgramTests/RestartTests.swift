import Foundation
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// What clients find again of the whole program after it was killed.
@Suite(.serialized) struct RestartTests {
    private static func client(_ port: UInt16, guid: UInt128) throws -> Guest {
        let guest = try Guest(.loopback(port: port), guid: guid)
        try #require(try guest.negotiate().status == .success)
        try #require(try guest.logOn(NTLMClient()).status == .success)
        try #require(try guest.connect("default").status == .success)
        return guest
    }

    @Test func handlesOfSMBAfterAKill() async throws {
        let folder = try Folder()
        let port = try freePort()
        let words = [
            "serve", "--nfs-port", "0", "--http-port", "0", "--admin-port", "0", "--smb-port", "\(port)", "--user",
            "Alice:password",
        ]
        var server = try Program(words, in: folder)
        try #require(await server.isReady(), "\(server.err)")
        var client = try Self.client(port, guid: 1)
        let opening = Guest.Opening(share: 0, disposition: 3, lease: (key: 5, state: 7))
        var handles: [SMB.FileHandle] = []
        for name in ["a", "b", "c"] {
            var mine = opening
            mine.lease?.key = UInt64(5 + handles.count)
            let opened = try client.open(name, mine.durable())
            try #require(opened.status == .success && opened.bytes[66] == 0xFF)
            handles.append(opened.handle)
        }
        let exclusive: UInt32 = 2 | 0x10
        #expect(try client.ask(.lock, Guest.lock(handles[0], count: 1, [(0, 4, exclusive)])).status == .success)
        #expect(try client.close(handles[2]).status == .success)
        server.signal(SIGKILL)
        #expect(await server.status() == -SIGKILL)

        server = try Program(words, in: folder)
        try #require(await server.isReady(), "\(server.err)")
        let other = try Self.client(port, guid: 2)
        let waits = other.send(.create, Guest.create("a", Guest.Opening()))
        #expect(try other.reply(to: waits, pending: true).status == .pending)
        client = try Self.client(port, guid: 1)
        for (index, name) in ["a", "b"].enumerated() {
            var mine = opening
            mine.lease?.key = UInt64(5 + index)
            let back = try client.open(name, mine.reconnecting(handles[index]))
            #expect(back.status == .success && back.handle == handles[index])
        }
        // The lock is the handle's own again: it can be given back, once.
        #expect(try client.ask(.lock, Guest.lock(handles[0], count: 1, [(0, 4, 4)])).status == .success)
        #expect(try client.ask(.lock, Guest.lock(handles[0], count: 1, [(0, 4, 4)])).status == .rangeNotLocked)
        #expect(try client.write(handles[0], "kept").status == .success)
        #expect(try client.close(handles[0]).status == .success)
        #expect(try other.reply(to: waits).status == .success)
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }

    /// One bit of what a file holds, turned over where it is stored: the check that an operator starts says whose it is.
    @Test func theCheckNamesTheFileOfATurnedBit() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try Program(
            [
                "serve", "--nfs-port", "0", "--http-port", "0", "--admin-port", "0", "--smb-port", "\(port)", "--user",
                "Alice:password",
            ], in: folder)
        try #require(await server.isReady(), "\(server.err)")
        let client = try Self.client(port, guid: 1)
        // Longer than what is kept in the tree.
        let whole = String(repeating: "sound-", count: 2_000)
        let marked = String(repeating: "marked", count: 2_000)
        for (name, text) in [("sound", whole), ("turned", marked)] {
            let opened = try client.open(name, Guest.Opening(disposition: 3))
            try #require(opened.status == .success)
            #expect(try client.write(opened.handle, text).status == .success)
            #expect(try client.close(opened.handle).status == .success)
        }
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
        let clean = try Program(["fsck", "default"], in: folder)
        #expect(await clean.status() == 0, "\(clean.out)\(clean.err)")

        let files = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
        var turned = 0
        for file in files where file.contains("/store/") {
            let path = folder.path + "/" + file
            guard var bytes = FileManager.default.contents(atPath: path),
                let place = bytes.range(of: Data("markedmarked".utf8))
            else { continue }
            bytes[place.lowerBound + 7] ^= 1
            try bytes.write(to: URL(fileURLWithPath: path))
            turned += 1
        }
        try #require(turned == 1, "\(files)")
        let check = try Program(["fsck", "default"], in: folder)
        #expect(await check.status() == 1)
        // What lies in the same block of checksums is told of as well.
        #expect(check.out.contains("/turned"), "\(check.out)\(check.err)")
    }
}

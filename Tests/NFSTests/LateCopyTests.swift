import NFS
import Namespace
import RPC
import Runtime
import Simulator
import TestSupport
import Testing

/// Changes that come once more, late, over a volume of the engine: the copy has the first answer, and does nothing.
@Suite struct LateCopyTests {
    /// What Linux sends behind an exclusive CREATE, and the like: all of it is done, the list kept in step.
    @Test func aFileWithAListIsChangedAsAWhole() throws {
        try LateClient.run { client in
            let named = PosixACL(
                owner: 7, users: [PosixACL.Named(id: 1001, digit: 7)], group: 5, mask: 7, other: 5)
            let volume = client.server.volume
            let set = volume.setPosixACL(client.caller, volume.root, access: .unchanged, passedOn: .list(named))
            guard case .done = set else { throw NFS3Status.serverFault }
            let how = NFS3CreateHow.exclusive(verifier: 0x1234_5678_9abc_def0)
            let file = try await client.made(client.create("x", how))
            func change(_ wanted: NFS3SetAttributes, guarded: NFS3Time? = nil) async throws -> NFS3Attributes {
                let message = client.message(.setAttributes, .setAttributes(client.setting(file, wanted, guarded)))
                let first = try await client.call(message, NFS3Results.SetAttributes.self)
                let copy = try await client.call(message, NFS3Results.SetAttributes.self)
                #expect(first.status == .ok && copy.status == .ok, "\(wanted): \(first.status) \(copy.status)")
                return try #require(copy.success?.after)
            }
            let time = NFS3Time(seconds: 1000, nanoseconds: 5)
            var found = try await change(
                NFS3SetAttributes(mode: 0o640, accessed: .clientTime(time), modified: .clientTime(time)))
            #expect(found.mode == 0o640 && found.accessed == time && found.modified == time)
            try await client.write(file, "0123456789")
            found = try await change(NFS3SetAttributes(mode: 0o660, size: 4))
            #expect(found.mode == 0o660 && found.size == 4)
            found = try await change(NFS3SetAttributes(mode: 0o600, uid: 7, gid: 8))
            #expect(found.mode == 0o600 && found.uid == 7 && found.gid == 8)
            found = try await change(NFS3SetAttributes(mode: 0o640, size: 2), guarded: found.changed)
            #expect(found.mode == 0o640 && found.size == 2)
            found = try await change(NFS3SetAttributes(size: 1), guarded: found.changed)
            #expect(found.size == 1)
            found = try await change(NFS3SetAttributes(mode: 0o644), guarded: found.changed)
            #expect(found.mode == 0o644)
            guard case .done(let lists, _) = volume.posixACL(client.caller, try client.file("x")) else {
                throw NFS3Status.noEntry
            }
            #expect(lists.access.users.map(\.id) == [1001] && lists.access.other == 4)
        }
    }

    @Test(
        arguments: [
            ("new", 0, false), ("longer", 5, false), ("there", 0, true), ("empty", 0, true), ("cut", 3, true),
        ] as [(String, UInt64, Bool)])
    func aLateCreateCutsNothing(_ name: String, _ size: UInt64, _ isThere: Bool) throws {
        try LateClient.run { client in
            if isThere {
                let file = try await client.made(client.create(name, .unchecked(NFS3SetAttributes(mode: 0o644))))
                if name != "empty" { try await client.write(file, "0123456789") }
            }
            let create = client.create(name, .unchecked(NFS3SetAttributes(mode: 0o644, size: size)))
            let first = try #require(try await client.call(create, NFS3Results.Create.self).success)
            #expect(first.attributes?.size == size)
            let file = Array(try #require(first.object).bytes)
            try await client.write(file, "written since")
            let copy = try #require(try await client.call(create, NFS3Results.Create.self).success)
            #expect(copy.object.map { Array($0.bytes) } == file && copy.attributes?.size == 13)
            #expect(try await client.content(file) == "written since")
        }
    }

    @Test func aLateCopyCountsNothing() throws {
        try LateClient.run { client in
            let volume = client.server.volume
            func limit(_ files: UInt64) async {
                let limit = QuotaLimit(hardBytes: 1000, hardFiles: files)
                volume.setQuotas([QuotaRecord(subject: .volume, limit: limit)], loop: client.host.loop)
                while volume.quota(.volume)?.isCounted != true { await client.host.loop.sleep(nanoseconds: 1_000_000) }
            }
            func usage() throws -> QuotaUsage { try #require(volume.quota(.volume)).usage }
            let old = try await client.made(client.create("old", .guarded(NFS3SetAttributes(mode: 0o644))))
            try await client.write(old, "0123456789")
            await limit(100)
            let before = try usage()
            #expect(before.bytes == 10)
            // The last one is the last that fits, and its copies have its answer.
            await limit(before.files + 5)
            let plain = NFS3SetAttributes(mode: 0o644)
            let requests: [(NFS3Procedure, NFS3Request)] = [
                (.create, .create(NFS3CreateArguments(place: client.name("file"), how: .guarded(plain)))),
                (
                    .makeDirectory,
                    .makeDirectory(NFS3MakeDirectoryArguments(place: client.name("directory"), attributes: plain))
                ),
                (
                    .symlink,
                    .symlink(
                        NFS3SymlinkArguments(
                            place: client.name("symlink"), attributes: plain, target: client.host.keep([1, 2])))
                ),
                (.makeNode, .makeNode(NFS3MakeNodeArguments(place: client.name("fifo"), node: .fifo(plain)))),
                (.link, .link(NFS3LinkArguments(file: client.handle(old), place: client.name("link")))),
            ]
            for (index, (procedure, request)) in requests.enumerated() {
                let message = client.message(procedure, request)
                for _ in 0..<3 { #expect(try await client.status(message) == .ok, "\(procedure)") }
                let now = try usage()
                #expect(now.files == before.files + UInt64(index) + 1, "\(procedure)")
                #expect(now.bytes == (index < 2 ? 10 : 12), "\(procedure)")
            }
            // Names that others have taken since are left to them.
            let removal = client.message(.remove, .remove(client.name("file")))
            #expect(try await client.status(removal) == .ok)
            let other = try await client.made(client.create("file", .guarded(plain)))
            try await client.write(other, "abc")
            let rename = client.message(
                .rename, .rename(NFS3RenameArguments(from: client.name("link"), to: client.name("moved"))))
            #expect(try await client.status(rename) == .ok)
            let counted = try usage()
            #expect(try await client.status(removal) == .ok)
            #expect(try await client.status(rename) == .ok)
            #expect(try usage() == counted && counted.bytes == 15)
            #expect(try await client.content(other) == "abc")
            // An owner and a size at once.
            let both = client.message(
                .setAttributes, .setAttributes(client.setting(old, NFS3SetAttributes(uid: 7, size: 4))))
            for _ in 0..<2 {
                let set = try await client.call(both, NFS3Results.SetAttributes.self)
                #expect(set.success?.after?.uid == 7 && set.success?.after?.size == 4)
            }
            #expect(try usage().bytes == counted.bytes - 6)
            // A copy grows nothing that is full by now.
            let growth = client.message(
                .setAttributes, .setAttributes(client.setting(old, NFS3SetAttributes(size: 900))))
            #expect(try await client.status(growth) == .ok)
            let cut = client.message(.setAttributes, .setAttributes(client.setting(old, NFS3SetAttributes(size: 0))))
            #expect(try await client.status(cut) == .ok)
            let filling = client.message(
                .setAttributes, .setAttributes(client.setting(other, NFS3SetAttributes(size: 900))))
            #expect(try await client.status(filling) == .ok)
            #expect(try await client.status(growth) == .ok)
            #expect(try await client.content(old).isEmpty)
        }
    }

    @Test func theServerTellsHowLongAFileMayBe() throws {
        try LateClient.run { client in
            let message = client.message(.fileSystemInformation, .fileSystemInformation(client.handle(client.root)))
            let told = try #require(
                try await client.call(message, NFS3Results.FileSystemInformation.self).success
            ).fileSizeMax
            let file = try await client.made(client.create("f", .guarded(NFS3SetAttributes(mode: 0o644))))
            for (size, status) in [(told, NFS3Status.ok), (told + 1, .fileTooBig)] {
                let set = client.setting(file, NFS3SetAttributes(size: size))
                #expect(try await client.status(client.message(.setAttributes, .setAttributes(set))) == status)
            }
        }
    }
}

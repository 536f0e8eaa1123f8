import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

/// What answers say of files, field by field, over a volume of the engine.
@Suite struct AttributeFieldTests {
    private static let plain = NFS3SetAttributes(mode: 0o644)

    /// A file or directory of which each change shows in its times, if not in its size.
    private struct Seen {
        let client: LateClient
        let handle: [UInt8]
        let before: NFS3Attributes

        init(_ client: LateClient, _ handle: [UInt8]) async throws {
            (self.client, self.handle) = (client, handle)
            before = try await client.attributes(handle)
            // No two changes have one time.
            await client.host.loop.sleep(nanoseconds: 1_000_000)
        }

        /// That an answer told what the file was like before its change, and what it is like now.
        /// `mayBeSilent`: of what takes several changes nobody knows what was before all of them.
        func check(
            _ data: NFS3WeakData?, changes: Bool = true, mayBeSilent: Bool = false, _ what: String
        ) async throws {
            let data = try #require(data, "\(what)")
            let after = try await client.attributes(handle)
            let was = NFS3WeakAttributes(size: before.size, modified: before.modified, changed: before.changed)
            #expect(data.before == was || data.before == nil && mayBeSilent, "\(what)")
            #expect(data.after == after, "\(what)")
            #expect((after.changed != before.changed) == changes, "\(what)")
        }
    }

    @Test func changesTellWhatWasBefore() throws {
        try LateClient.run { client in
            let root = client.root
            let home = try await client.made(
                client.message(
                    .makeDirectory,
                    .makeDirectory(NFS3MakeDirectoryArguments(place: client.name("home"), attributes: Self.plain))))
            let file = try await client.made(client.create("file", .guarded(Self.plain)))

            var seen = try await Seen(client, file)
            let write = NFS3WriteArguments(
                file: client.handle(file), offset: 0, count: 5, stability: .fileSync,
                data: client.host.keep([1, 2, 3, 4, 5]))
            let written = try await client.call(client.message(.write, .write(write)), NFS3Results.Write.self).success
            #expect(
                written?.count == 5 && written?.stability == .fileSync
                    && written?.verifier == client.server.volume.writeVerifier)
            try await seen.check(written?.file, "WRITE")

            seen = try await Seen(client, file)
            let commit = NFS3CommitArguments(file: client.handle(file), offset: 0, count: 0)
            let committed = try await client.call(client.message(.commit, .commit(commit)), NFS3Results.Commit.self)
                .success
            #expect(committed?.verifier == client.server.volume.writeVerifier)
            try await seen.check(committed?.file, changes: false, "COMMIT")

            for (wanted, mayBeSilent) in [
                (NFS3SetAttributes(mode: 0o600), false), (NFS3SetAttributes(size: 3), false),
                (NFS3SetAttributes(uid: 7, size: 2), true),
            ] {
                seen = try await Seen(client, file)
                let set = client.message(.setAttributes, .setAttributes(client.setting(file, wanted)))
                let changed = try await client.call(set, NFS3Results.SetAttributes.self).success
                try await seen.check(changed, mayBeSilent: mayBeSilent, "SETATTR \(wanted)")
            }

            let makings: [(String, NFS3Procedure, NFS3Request)] = [
                ("CREATE", .create, .create(NFS3CreateArguments(place: client.name("a"), how: .unchecked(Self.plain)))),
                (
                    "CREATE exclusive", .create,
                    .create(NFS3CreateArguments(place: client.name("b"), how: .exclusive(verifier: 9)))
                ),
                (
                    "MKDIR", .makeDirectory,
                    .makeDirectory(NFS3MakeDirectoryArguments(place: client.name("c"), attributes: Self.plain))
                ),
                (
                    "SYMLINK", .symlink,
                    .symlink(
                        NFS3SymlinkArguments(
                            place: client.name("d"), attributes: Self.plain, target: client.host.keep([97])))
                ),
                (
                    "MKNOD", .makeNode,
                    .makeNode(NFS3MakeNodeArguments(place: client.name("e"), node: .fifo(Self.plain)))
                ),
            ]
            for (what, procedure, request) in makings {
                seen = try await Seen(client, root)
                let made = try await client.call(client.message(procedure, request), NFS3Results.Create.self).success
                try await seen.check(made?.directory, what)
                let handle = try #require(made?.object.map { Array($0.bytes) }, "\(what)")
                #expect(try await made?.attributes == client.attributes(handle), "\(what)")
            }
            // A file that is there is left as it is, and so is its directory; one that is cut is another matter.
            seen = try await Seen(client, root)
            let again = try await client.call(client.create("a", .unchecked(Self.plain)), NFS3Results.Create.self)
                .success
            try await seen.check(again?.directory, changes: false, "CREATE of a file that is there")

            seen = try await Seen(client, home)
            let linking = try await Seen(client, file)
            let link = NFS3LinkArguments(file: client.handle(file), place: client.host.name(home, "l"))
            let linked = try await client.call(client.message(.link, .link(link)), NFS3Results.Link.self).success
            try await seen.check(linked?.directory, "LINK")
            #expect(try await linked?.attributes == client.attributes(file))
            #expect(linked?.attributes?.links == linking.before.links + 1)

            seen = try await Seen(client, root)
            let other = try await Seen(client, home)
            let rename = NFS3RenameArguments(from: client.name("a"), to: client.host.name(home, "z"))
            let renamed = try await client.call(client.message(.rename, .rename(rename)), NFS3Results.Rename.self)
                .success
            try await seen.check(renamed?.from, "RENAME, where from")
            try await other.check(renamed?.to, "RENAME, where to")
            // Both ends are one directory.
            seen = try await Seen(client, root)
            let within = NFS3RenameArguments(from: client.name("b"), to: client.name("bb"))
            let moved = try await client.call(client.message(.rename, .rename(within)), NFS3Results.Rename.self).success
            try await seen.check(moved?.from, "RENAME within, where from")
            try await seen.check(moved?.to, "RENAME within, where to")

            for (what, procedure, name) in [("REMOVE", NFS3Procedure.remove, "bb"), ("RMDIR", .removeDirectory, "c")] {
                seen = try await Seen(client, root)
                let place = client.name(name)
                let request = procedure == .remove ? NFS3Request.remove(place) : .removeDirectory(place)
                try await seen.check(
                    try await client.call(client.message(procedure, request), NFS3Results.Remove.self).success, what)
            }
        }
    }

    /// A refused change tells of files, too: they are what they were.
    @Test func refusalsTellOfFilesAsTheyAre() throws {
        try LateClient.run { client in
            let root = client.root
            let file = try await client.made(client.create("file", .guarded(Self.plain)))
            let now = try await client.attributes(root)
            func check(_ data: NFS3WeakData?, _ attributes: NFS3Attributes, _ what: String) throws {
                let data = try #require(data, "\(what)")
                #expect(data.after == attributes, "\(what)")
                let before = NFS3WeakAttributes(
                    size: attributes.size, modified: attributes.modified, changed: attributes.changed)
                #expect(data.before == before, "\(what)")
            }
            let create = try await client.call(client.create("file", .guarded(Self.plain)), NFS3Results.Create.self)
            guard case .failed(.exists, let made) = create else { throw NFS3Status.serverFault }
            try check(made, now, "CREATE")
            let removal = client.message(.remove, .remove(client.name("none")))
            guard case .failed(.noEntry, let removed) = try await client.call(removal, NFS3Results.Remove.self) else {
                throw NFS3Status.serverFault
            }
            try check(removed, now, "REMOVE")
            let rename = NFS3RenameArguments(from: client.name("none"), to: client.name("other"))
            guard
                case .failed(.noEntry, let renamed) = try await client.call(
                    client.message(.rename, .rename(rename)), NFS3Results.Rename.self)
            else { throw NFS3Status.serverFault }
            try check(renamed.from, now, "RENAME, where from")
            try check(renamed.to, now, "RENAME, where to")
            let link = NFS3LinkArguments(file: client.handle(file), place: client.name("file"))
            guard
                case .failed(.exists, let linked) = try await client.call(
                    client.message(.link, .link(link)), NFS3Results.Link.self)
            else { throw NFS3Status.serverFault }
            try check(linked.directory, now, "LINK")
            let known = try await client.attributes(file)
            #expect(linked.attributes == known)
            let set = client.setting(
                file, NFS3SetAttributes(mode: 0o600), NFS3Time(seconds: 1, nanoseconds: 0))
            guard
                case .failed(.notSynchronized, let kept) = try await client.call(
                    client.message(.setAttributes, .setAttributes(set)), NFS3Results.SetAttributes.self)
            else { throw NFS3Status.serverFault }
            try check(kept, known, "SETATTR")
        }
    }

    /// The numbers by which a client tells files and file systems apart.
    @Test func filesHaveNumbersOfTheirOwn() throws {
        try LateClient.run { client in
            let file = try await client.made(client.create("file", .guarded(Self.plain)))
            let other = try await client.made(client.create("other", .guarded(Self.plain)))
            let link = NFS3LinkArguments(file: client.handle(file), place: client.name("link"))
            #expect(try await client.status(client.message(.link, .link(link))) == .ok)
            let known = try await [client.attributes(file), client.attributes(other)]
            let root = try await client.attributes(client.root)
            #expect(Set((known + [root]).map(\.file)).count == 3)
            #expect(Set((known + [root]).map(\.fileSystem)).count == 1 && root.fileSystem != 0)
            let listing = NFS3ReadDirectoryPlusArguments(
                directory: client.handle(client.root), cookie: 0, verifier: 0, directoryCount: 8192, countMax: 8192)
            let page = try #require(
                try await client.call(
                    client.message(.readDirectoryPlus, .readDirectoryPlus(listing)), NFS3Results.ReadDirectoryPlus.self
                ).success)
            let entries = Dictionary(
                uniqueKeysWithValues: page.entries.map { (String(decoding: $0.name, as: UTF8.self), $0) })
            for (name, expected) in [
                (".", root), ("..", root), ("file", try await client.attributes(file)),
                ("link", try await client.attributes(file)), ("other", known[1]),
            ] {
                let entry = try #require(entries[name])
                #expect(entry.file == expected.file && entry.attributes == expected, "\(name)")
            }
            // A number is not given again.
            #expect(try await client.status(client.message(.remove, .remove(client.name("other")))) == .ok)
            let next = try await client.made(client.create("other", .guarded(Self.plain)))
            #expect(try await !Set(known.map(\.file)).contains(client.attributes(next).file))
        }
    }

    /// What `tar -S` and the like take for holes: a file that has bytes never says that it takes no space, flushed or not.
    @Test(arguments: [1, 511, 512, 5000, 200_000]) func bytesTakeSpaceBeforeTheyAreFlushed(_ count: Int) throws {
        try LateClient.run { client in
            let file = try await client.made(client.create("file", .guarded(Self.plain)))
            #expect(try await client.attributes(file).used == 0)
            let write = NFS3WriteArguments(
                file: client.handle(file), offset: 0, count: UInt32(count), stability: .unstable,
                data: client.host.keep([UInt8](repeating: 1, count: count)))
            let written = try await client.call(client.message(.write, .write(write)), NFS3Results.Write.self).success
            let least = UInt64(min(count, 512))
            #expect(try #require(written?.file.after).used >= least)
            #expect(try await client.attributes(file).used >= least)
            let found = try #require(
                try await client.call(client.message(.lookup, .lookup(client.name("file"))), NFS3Results.Lookup.self)
                    .success)
            #expect(try #require(found.attributes).used >= least)
            let commit = NFS3CommitArguments(file: client.handle(file), offset: 0, count: 0)
            #expect(try await client.status(client.message(.commit, .commit(commit))) == .ok)
            #expect(try await client.attributes(file).used >= UInt64(count))
            // A hole takes nothing.
            let growth = client.setting(file, NFS3SetAttributes(size: 100 << 20))
            #expect(try await client.status(client.message(.setAttributes, .setAttributes(growth))) == .ok)
            let grown = try await client.attributes(file)
            #expect(grown.size == 100 << 20 && (UInt64(count)..<(1 << 20)).contains(grown.used))
        }
    }
}

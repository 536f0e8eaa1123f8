import Bytes
import CShim
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing
import WireSamples

@Suite(.serialized) struct NFSServiceTests {
    private func name(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test func mountsAndLooks() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        #expect(root.bytes.count <= 64)
        let attributes = try #require(try client.attributes(root).success)
        #expect(attributes.type == .directory && attributes.mode == 0o1777 && attributes.file == 1)
        let file = try client.made(try client.create(root, "a"))
        let found = try #require(try client.lookup(root, "a").success)
        #expect(found.object.bytes.elementsEqual(file.bytes))
        #expect(try found.attributes == client.attributes(file).success)
        #expect(try found.directory == client.attributes(root).success)
        #expect(try client.lookup(root, "b").status == .noEntry)
        #expect(try client.lookup(file, "b").status == .notDirectory)
        #expect(try client.lookup(root, "").status == .noEntry)
        #expect(try client.lookup(root, String(repeating: "n", count: 256)).status == .nameTooLong)
        #expect(try client.lookup(root, String(repeating: "n", count: 255)).status == .noEntry)
        // A failure has the directory's attributes too.
        if case .failed(_, let post) = try client.lookup(root, "b") { #expect(post.attributes != nil) }
    }

    @Test func otherVersionsAndProceduresAreRefused() throws {
        let rig = try Rig()
        let client = try rig.client()
        for version: UInt32 in [2, 4] {
            let reply = client.peer.call(client.message(NFS3.program, version, 0, []))
            #expect(reply?.status == .programMismatch(low: 3, high: 3))
        }
        #expect(client.peer.call(client.message(NFS3.program, 3, 0, []))?.status == .success)
        #expect(client.peer.call(client.message(NFS3.program, 3, 22, []))?.status == .procedureUnavailable)
        for procedure in UInt32(1)...21 {
            let reply = client.peer.call(client.message(NFS3.program, 3, procedure, [0, 0]))
            #expect(reply?.status == .garbageArguments, "procedure \(procedure)")
        }
        // Nobody in particular is not enough; for the null procedure it is.
        let anonymous = RPCMessage(NFS3.program, 3, 1, encoded { NFS3Handle(client.keep([])).write(into: &$0) })
        #expect(client.peer.call(anonymous)?.status == .success)
        let root = try client.root()
        let weak = RPCMessage(NFS3.program, 3, 1, encoded { root.write(into: &$0) })
        #expect(client.peer.call(weak)?.status == .authError(.tooWeak))
    }

    @Test func handlesCanNotBeForgedAndLastOverRestarts() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let good = Array(root.bytes)
        for index in good.indices {
            for bit in [UInt8(1), 0x80] {
                var forged = good
                forged[index] ^= bit
                #expect(try client.attributes(NFS3Handle(client.keep(forged))).status == .badHandle)
            }
        }
        for count in [0, 1, 43] {
            #expect(try client.attributes(NFS3Handle(client.keep(Array(good.prefix(count))))).status == .badHandle)
        }
        #expect(try client.attributes(NFS3Handle(client.keep(good + [0]))).status == .badHandle)
        let long = client.keep([UInt8](repeating: 0, count: 64))
        #expect(try client.attributes(NFS3Handle(long)).status == .badHandle)
        let beyond = encoded { $0.opaque(client.keep([UInt8](repeating: 0, count: 65))) }
        #expect(client.peer.call(client.message(NFS3.program, 3, 1, beyond))?.status == .garbageArguments)
        // Another server of the same volume with the same key.
        let other = try Rig()
        let again = try other.client()
        #expect(try again.attributes(again.handle(root.bytes)).status == .ok)
        // Gone is stale, for ever.
        let file = try client.made(try client.create(root, "f"))
        #expect(try client.call(.remove, .remove(client.name(root, "f")), NFS3Results.Remove.self).status == .ok)
        #expect(try client.attributes(file).status == .stale)
        #expect(rig.context.exports.replace([]))
        #expect(try client.attributes(root).status == .stale)
    }

    @Test func createsInAllThreeWays() throws {
        let rig = try Rig()
        let client = try rig.client(uid: 500, gid: 600)
        let root = try client.root()
        let made = try #require(try client.create(root, "f").success)
        let attributes = try #require(made.attributes)
        #expect(attributes.uid == 500 && attributes.gid == 600 && attributes.mode == 0o644 && attributes.links == 1)
        #expect(made.directory.before != nil && made.directory.after != nil)
        #expect(try made.directory.after == client.attributes(root).success)
        let file = try client.made(.ok(made))
        #expect(try client.write(file, 0, [1, 2, 3]).status == .ok)
        // Unchecked: the same file, with or without its bytes.
        #expect(try client.made(try client.create(root, "f")).bytes.elementsEqual(file.bytes))
        #expect(try client.attributes(file).success?.size == 3)
        let cut = try client.create(root, "f", .unchecked(NFS3SetAttributes(size: 0)))
        #expect(cut.success?.attributes?.size == 0)
        #expect(try client.create(root, "f", .guarded(NFS3SetAttributes())).status == .exists)
        let sized = try client.create(root, "g", .guarded(NFS3SetAttributes(size: 9)))
        #expect(sized.success?.attributes?.size == 9)
        // Exclusive: the same verifier again is the same call again.
        let one = try client.made(try client.create(root, "x", .exclusive(verifier: 42)))
        #expect(try client.made(try client.create(root, "x", .exclusive(verifier: 42))).bytes.elementsEqual(one.bytes))
        #expect(try client.create(root, "x", .exclusive(verifier: 43)).status == .exists)
        for bad in ["", ".", "..", "a/b", "a\0b"] {
            let status = try client.create(root, bad).status
            #expect(status == .invalid, "\(bad)")
        }
        #expect(try client.create(root, String(repeating: "x", count: 256)).status == .nameTooLong)
        #expect(try client.create(root, String(repeating: "x", count: 255)).status == .ok)
        #expect(try client.create(file, "y").status == .notDirectory)
    }

    @Test func readsAndWritesOfAllSizes() throws {
        let rig = try Rig()
        let client = try rig.client()
        let file = try client.made(try client.create(try client.root(), "f"))
        let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
        let written = try #require(try client.write(file, 0, bytes).success)
        #expect(written.count == 1 << 20 && written.stability == .unstable && written.verifier == 77)
        #expect(written.file.after?.size == 1 << 20)
        for (offset, count) in [
            (0, 0), (0, 1), (3, 5), (100, 4096), (1, 32_768), (1, 32_769), (0, 1 << 20), (5, 999_999),
        ] {
            let read = try #require(try client.read(file, UInt64(offset), UInt32(count)).success)
            #expect(read.count == count && read.data.elementsEqual(bytes[offset..<(offset + count)]))
            #expect(read.isEnd == (offset + count == 1 << 20))
            #expect(read.attributes?.size == 1 << 20)
        }
        let tail = try #require(try client.read(file, (1 << 20) - 10, 1 << 20).success)
        #expect(tail.count == 10 && tail.isEnd)
        let behind = try #require(try client.read(file, 1 << 30, 100).success)
        #expect(behind.count == 0 && behind.isEnd)
        // More than is served at once is cut, not refused.
        #expect(try client.read(file, 0, .max).success?.count == 1 << 20)
        #expect(try client.read(file, .max, 1).status == .invalid)
        #expect(try client.write(file, .max - 1, [1]).status == .fileTooBig)
        #expect(try client.write(file, UInt64(Int64.max), [1]).status == .fileTooBig)
        #expect(try client.write(file, 0, [1], count: 2).status == .invalid)
        #expect(try client.write(file, 0, [9, 9], count: 1).success?.count == 1)
        #expect(try client.read(file, 0, 2).success?.data.elementsEqual([9, bytes[1]]) == true)
        let root = try client.root()
        #expect(try client.read(root, 0, 1).status == .isDirectory)
        #expect(try client.write(root, 0, [1]).status == .isDirectory)
        let tooMuch = NFS3WriteArguments(
            file: file, offset: 0, count: 0, stability: .unstable,
            data: client.keep([UInt8](repeating: 0, count: (1 << 20) + 1)))
        let reply = client.peer.call(client.message(NFS3.program, 3, 7, encoded { tooMuch.write(into: &$0) }))
        #expect(reply?.status == .garbageArguments)
    }

    @Test func stableWritesAndCommitWaitForTheirFlush() throws {
        let rig = try Rig()
        let client = try rig.client()
        let file = try client.made(try client.create(try client.root(), "f"))
        #expect(try client.write(file, 0, [1]).status == .ok)
        #expect(rig.files.with { $0.flushes } == 0)
        for stability in [NFS3Stability.dataSync, .fileSync] {
            #expect(try client.write(file, 0, [1], stability).success?.stability == .fileSync)
        }
        #expect(rig.files.with { $0.flushes } == 2)
        func commit() throws -> NFS3Results.Commit {
            try client.call(
                .commit, .commit(NFS3CommitArguments(file: file, offset: 0, count: 0)), NFS3Results.Commit.self)
        }
        let committed = try #require(try commit().success)
        #expect(committed.verifier == 77 && committed.file.after?.size == 1)
        #expect(rig.files.with { $0.flushes } == 3)
        // Not a word before it is safe.
        rig.files.with { $0.settled = 0 }
        let arguments = encoded { NFS3CommitArguments(file: file, offset: 0, count: 0).write(into: &$0) }
        client.peer.send(client.message(NFS3.program, 3, 21, arguments))
        #expect(client.peer.reply(within: 0.1) == nil)
        rig.files.settle()
        #expect(client.peer.reply()?.status == .success)
        // A flush that fails says so, and the verifier is another one.
        rig.files.with { $0.flushError = .noSpace }
        #expect(try commit().status == .noSpace)
        #expect(try client.write(file, 0, [1], .fileSync).status == .noSpace)
        rig.files.with { $0.flushError = nil }
        #expect(try client.write(file, 0, [1]).success?.verifier == 79)
        #expect(try commit().success?.verifier == 79)
    }

    @Test func changesAreAnsweredWhenTheyAreSafe() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        rig.files.with { $0.settled = 0 }
        let arguments = encoded {
            NFS3MakeDirectoryArguments(place: client.name(root, "d"), attributes: NFS3SetAttributes()).write(into: &$0)
        }
        client.peer.send(client.message(NFS3.program, 3, 9, arguments))
        #expect(client.peer.reply(within: 0.1) == nil)
        // Others are served meanwhile, on the same connection too.
        #expect(try client.attributes(root).status == .ok)
        rig.files.settle()
        let made = try client.results(client.peer.reply(), NFS3Results.Create.self)
        #expect(made.success?.attributes?.mode == 0o755)
        rig.files.with { $0.settled = 0 }
        client.peer.send(
            client.message(
                NFS3.program, 3, 9,
                encoded {
                    NFS3MakeDirectoryArguments(place: client.name(root, "e"), attributes: NFS3SetAttributes()).write(
                        into: &$0)
                }))
        #expect(client.peer.reply(within: 0.05) == nil)
        rig.files.settle(.offline)
        #expect(try client.results(client.peer.reply(), NFS3Results.Create.self).status == .inputOutput)
    }

    /// The change was made, and nobody can say that it is safe: the client learns what the files are like all the same.
    @Test func whatFailsToSettleTellsOfTheFiles() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let file = try client.made(try client.create(root, "f"))
        let home = try client.made(try client.makeDirectory(root, "d"))
        func unsettled<Result: XDRMessage>(
            _ procedure: NFS3Procedure, _ request: NFS3Request, _ type: Result.Type
        ) throws -> Result {
            rig.files.with { $0.settled = 0 }
            let arguments = encoded { request.write(into: &$0) }
            client.peer.send(client.message(NFS3.program, 3, procedure.rawValue, arguments))
            #expect(client.peer.reply(within: 0.05) == nil)
            rig.files.settle(.offline)
            let result = try client.results(client.peer.reply(), type)
            return result
        }
        func check(_ data: NFS3WeakData, _ object: NFS3Handle) throws {
            #expect(try data.before == nil && data.after == client.attributes(object).success)
        }
        let set = NFS3SetAttributesArguments(object: file, attributes: NFS3SetAttributes(mode: 0o600), guardTime: nil)
        guard
            case .failed(.inputOutput, let weak) = try unsettled(
                .setAttributes, .setAttributes(set), NFS3Results.SetAttributes.self)
        else { throw NFS3Status.serverFault }
        try check(weak, file)
        let plain = NFS3SetAttributes(mode: 0o644)
        let makings: [(NFS3Procedure, NFS3Request)] = [
            (.create, .create(NFS3CreateArguments(place: client.name(root, "c"), how: .guarded(plain)))),
            (
                .makeDirectory,
                .makeDirectory(NFS3MakeDirectoryArguments(place: client.name(root, "m"), attributes: plain))
            ),
            (
                .symlink,
                .symlink(
                    NFS3SymlinkArguments(place: client.name(root, "s"), attributes: plain, target: client.keep([1])))
            ),
            (.makeNode, .makeNode(NFS3MakeNodeArguments(place: client.name(root, "n"), node: .fifo(plain)))),
        ]
        for (procedure, request) in makings {
            guard case .failed(.inputOutput, let weak) = try unsettled(procedure, request, NFS3Results.Create.self)
            else {
                throw NFS3Status.serverFault
            }
            try check(weak, root)
        }
        let rename = NFS3RenameArguments(from: client.name(root, "c"), to: client.name(home, "e"))
        guard case .failed(.inputOutput, let both) = try unsettled(.rename, .rename(rename), NFS3Results.Rename.self)
        else {
            throw NFS3Status.serverFault
        }
        try check(both.from, root)
        try check(both.to, home)
        let link = NFS3LinkArguments(file: file, place: client.name(root, "l"))
        guard case .failed(.inputOutput, let linked) = try unsettled(.link, .link(link), NFS3Results.Link.self) else {
            throw NFS3Status.serverFault
        }
        #expect(try linked.attributes == client.attributes(file).success)
        try check(linked.directory, root)
        guard
            case .failed(.inputOutput, let removed) = try unsettled(
                .remove, .remove(client.name(root, "l")), NFS3Results.Remove.self)
        else { throw NFS3Status.serverFault }
        try check(removed, root)
        guard
            case .failed(.inputOutput, let gone) = try unsettled(
                .removeDirectory, .removeDirectory(client.name(root, "m")), NFS3Results.Remove.self)
        else { throw NFS3Status.serverFault }
        try check(gone, root)
    }

    @Test func attributesAreSetAndGuarded() throws {
        let rig = try Rig()
        let client = try rig.client()
        let file = try client.made(try client.create(try client.root(), "f"))
        let before = try #require(try client.attributes(file).success)
        let set = try client.set(
            file,
            NFS3SetAttributes(
                mode: 0o4750, uid: 7, gid: 8, accessed: .clientTime(NFS3Time(seconds: 5, nanoseconds: 6)),
                modified: .serverTime))
        let weak = try #require(set.success)
        #expect(weak.before?.changed == before.changed && weak.before?.size == 0)
        let after = try #require(weak.after)
        #expect(after.mode == 0o4750 && after.uid == 7 && after.gid == 8)
        #expect(after.accessed == NFS3Time(seconds: 5, nanoseconds: 6))
        #expect(after.modified == NFS3Time(seconds: 1_700_000_000, nanoseconds: 123_456_789))
        #expect(try after == client.attributes(file).success)
        // The guard is the time of the last change.
        #expect(
            try client.set(file, NFS3SetAttributes(mode: 0o600), guardTime: before.changed).status == .notSynchronized)
        #expect(try client.set(file, NFS3SetAttributes(size: 3), guardTime: before.changed).status == .notSynchronized)
        #expect(try client.attributes(file).success == after)
        #expect(try client.set(file, NFS3SetAttributes(mode: 0o600), guardTime: after.changed).status == .ok)
        #expect(try client.set(file, NFS3SetAttributes(mode: 0o640, size: 1000)).success?.after?.size == 1000)
        #expect(try client.attributes(file).success?.mode == 0o640)
        #expect(try client.read(file, 0, 2000).success?.count == 1000)
        #expect(try client.set(file, NFS3SetAttributes(size: .max)).status == .fileTooBig)
        let badTime = NFS3SetTime.clientTime(NFS3Time(seconds: 0, nanoseconds: 1_000_000_000))
        #expect(try client.set(file, NFS3SetAttributes(modified: badTime)).status == .invalid)
        #expect(try client.set(try client.root(), NFS3SetAttributes(size: 0)).status == .isDirectory)
        let stranger = try rig.client(uid: 99, gid: 99)
        #expect(try stranger.set(stranger.handle(file.bytes), NFS3SetAttributes(mode: 0o777)).status == .notOwner)
        #expect(try stranger.set(stranger.handle(file.bytes), NFS3SetAttributes(size: 0)).status == .access)
    }

    @Test func makesRemovesLinksAndRenames() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let directory = try client.made(try client.makeDirectory(root, "d"))
        let symbolic = NFS3SymlinkArguments(
            place: client.name(root, "s"), attributes: NFS3SetAttributes(), target: client.keep("d/target"))
        let symlink = try client.made(try client.call(.symlink, .symlink(symbolic), NFS3Results.Create.self))
        let target = try client.call(.readLink, .readLink(symlink), NFS3Results.ReadLink.self)
        #expect(target.success.map { name($0.target) } == "d/target")
        #expect(target.success?.attributes?.type == .symlink)
        #expect(try client.call(.readLink, .readLink(root), NFS3Results.ReadLink.self).status == .invalid)
        func node(_ place: String, _ node: NFS3Node) throws -> NFS3Results.Create {
            let arguments = NFS3MakeNodeArguments(place: client.name(root, place), node: node)
            return try client.call(.makeNode, .makeNode(arguments), NFS3Results.Create.self)
        }
        let plain = NFS3SetAttributes(mode: 0o600)
        let device = NFS3Device(major: 8, minor: 300)
        #expect(try node("fifo", .fifo(plain)).success?.attributes?.type == .fifo)
        #expect(try node("socket", .socket(plain)).success?.attributes?.type == .socket)
        #expect(try node("chr", .characterDevice(plain, device)).success?.attributes?.device == device)
        #expect(try node("blk", .blockDevice(plain, device)).success?.attributes?.type == .blockDevice)
        #expect(try node("dir", .other(.directory)).status == .badType)

        let file = try client.made(try client.create(root, "f"))
        func link(_ name: String) throws -> NFS3Results.Link {
            let arguments = NFS3LinkArguments(file: file, place: client.name(directory, name))
            return try client.call(.link, .link(arguments), NFS3Results.Link.self)
        }
        let linked = try #require(try link("hard").success)
        #expect(linked.attributes?.links == 2 && linked.directory.before != nil)
        #expect(try link("hard").status == .exists)
        #expect(try client.lookup(directory, "hard").success?.object.bytes.elementsEqual(file.bytes) == true)

        func rename(_ from: String, _ to: String) throws -> NFS3Results.Rename {
            let arguments = NFS3RenameArguments(from: client.name(root, from), to: client.name(directory, to))
            return try client.call(.rename, .rename(arguments), NFS3Results.Rename.self)
        }
        let renamed = try #require(try rename("f", "moved").success)
        #expect(try renamed.from.after == client.attributes(root).success)
        #expect(try renamed.to.after == client.attributes(directory).success)
        #expect(renamed.from.before != nil && renamed.to.before != nil)
        #expect(try rename("f", "moved").status == .noEntry)
        if case .failed(_, let weak) = try rename("f", "moved") {
            #expect(weak.from.after != nil && weak.to.after != nil)
        }
        #expect(try client.lookup(directory, "moved").status == .ok)

        func remove(_ name: String, _ directory: NFS3Handle, isDirectory: Bool) throws -> NFS3Results.Remove {
            isDirectory
                ? try client.call(
                    .removeDirectory, .removeDirectory(client.name(directory, name)), NFS3Results.Remove.self)
                : try client.call(.remove, .remove(client.name(directory, name)), NFS3Results.Remove.self)
        }
        #expect(try remove("d", root, isDirectory: false).status == .isDirectory)
        #expect(try remove("d", root, isDirectory: true).status == .notEmpty)
        #expect(try remove("moved", directory, isDirectory: true).status == .notDirectory)
        let removed = try #require(try remove("moved", directory, isDirectory: false).success)
        #expect(try removed.before != nil && removed.after == client.attributes(directory).success)
        #expect(try remove("moved", directory, isDirectory: false).status == .noEntry)
        #expect(try remove("hard", directory, isDirectory: false).status == .ok)
        #expect(try remove("d", root, isDirectory: true).status == .ok)
        #expect(try client.attributes(directory).status == .stale)
    }

    @Test func accessIsWhatTheModeSays() throws {
        let rig = try Rig()
        let owner = try rig.client(uid: 10, gid: 20)
        let root = try owner.root()
        let file = try owner.made(try owner.create(root, "f", .guarded(NFS3SetAttributes(mode: 0o751))))
        func access(
            _ client: NFSClient, _ handle: NFS3Handle, _ asked: NFS3.Access = NFS3.Access(rawValue: 0x3f)
        ) throws -> NFS3.Access? {
            let arguments = NFS3AccessArguments(object: client.handle(handle.bytes), access: asked)
            let found = try client.call(.access, .access(arguments), NFS3Results.Access.self).success
            #expect(try found?.attributes == client.attributes(client.handle(handle.bytes)).success)
            return found?.access
        }
        #expect(try access(owner, file) == [.read, .modify, .extend, .execute])
        #expect(try access(try rig.client(uid: 11, gid: 20), file) == [.read, .execute])
        #expect(try access(try rig.client(uid: 11, gid: 1, groups: [3, 20]), file) == [.read, .execute])
        #expect(try access(try rig.client(uid: 11, gid: 1), file) == [.execute])
        #expect(try access(try rig.client(), file) == [.read, .modify, .extend, .execute])
        #expect(try access(owner, root) == [.read, .lookup, .modify, .extend, .delete])
        // What was not asked is not answered, nor what is no right.
        for bit in 0..<8 as Range<UInt32> {
            let asked = NFS3.Access(rawValue: 1 << bit)
            #expect(try access(owner, file, asked) == asked.intersection([.read, .modify, .extend, .execute]))
            #expect(
                try access(owner, root, asked) == asked.intersection([.read, .lookup, .modify, .extend, .delete]))
        }
        // Who may look names up may not list them.
        let hidden = try owner.made(try owner.makeDirectory(root, "hidden"))
        #expect(try owner.set(hidden, NFS3SetAttributes(mode: 0o711)).status == .ok)
        let stranger = try rig.client(uid: 11, gid: 1)
        let listing = NFS3ReadDirectoryArguments(
            directory: stranger.handle(hidden.bytes), cookie: 0, verifier: 0, count: 4096)
        #expect(
            try stranger.call(.readDirectory, .readDirectory(listing), NFS3Results.ReadDirectory.self).status == .access
        )
        #expect(try stranger.lookup(stranger.handle(hidden.bytes), "x").status == .noEntry)
        // Who may list a directory and look nothing up in it sees it whole.
        #expect(try owner.set(hidden, NFS3SetAttributes(mode: 0o744)).status == .ok)
        let shown = try stranger.call(.readDirectory, .readDirectory(listing), NFS3Results.ReadDirectory.self)
        #expect(
            try shown.success?.entries.map(\.file) == [hidden, root].map { try owner.attributes($0).success?.file })
        #expect(try rig.client(uid: 11, gid: 1).read(file, 0, 1).status == .ok)
        #expect(try rig.client(uid: 11, gid: 1).write(file, 0, [1]).status == .access)
    }

    @Test func exportsSayWhoMayDoWhat() throws {
        let readOnly = try Rig { $0.isReadOnly = true }
        let client = try readOnly.client()
        let root = try client.root()
        #expect(try client.create(root, "f").status == .readOnly)
        let squashed = try Rig { $0.squash = .root }
        let rootClient = try squashed.client(groups: [5])
        let made = try #require(try rootClient.create(try rootClient.root(), "f").success?.attributes)
        #expect(made.uid == 65534 && made.gid == 65534)
        let user = try squashed.client(uid: 7, gid: 8)
        #expect(try user.create(try user.root(), "g").success?.attributes?.uid == 7)
        let all = try Rig {
            $0.squash = .all
            $0.anonymous = Credential(uid: 1234, gid: 5678)
        }
        let anybody = try all.client(uid: 7, gid: 8)
        #expect(try anybody.create(try anybody.root(), "g").success?.attributes?.uid == 1234)
        let elsewhere = try Rig { $0.hosts = Hosts("10.0.0.0/8")! }
        let stranger = try elsewhere.client()
        #expect(throws: NFS3Status.access) { try stranger.root() }
        // A handle that was got while it was allowed.
        let foreign = stranger.handle(try rootClient.root().bytes)
        #expect(try stranger.attributes(foreign).status == .access)
        let privileged = try Rig { $0.needsPrivilegedPort = true }
        #expect(throws: NFS3Status.access) { try privileged.client().root() }
        let kerberos = try Rig { $0.flavors = [6] }
        let weak = try kerberos.client()
        let call = weak.message(NFS3.program, 3, 1, encoded { foreign.write(into: &$0) })
        #expect(weak.peer.call(call)?.status == .authError(.tooWeak))
    }

    @Test func usersHaveTheirRightsAndExportsTheirWord() throws {
        let rig = try Rig(export: {
            $0.restricted = [7: .read, 8: []]
            $0.durability = .store
        })
        // Handles live as long as the client that got them.
        let client = try rig.client()
        let root = try client.root()
        let reader = try rig.client(uid: 7, gid: 7)
        #expect(try reader.attributes(reader.handle(root.bytes)).status == .ok)
        #expect(try reader.create(reader.handle(root.bytes), "f").status == .readOnly)
        let nobody = try rig.client(uid: 8, gid: 8)
        #expect(try nobody.attributes(nobody.handle(root.bytes)).status == .access)
        let other = try rig.client(uid: 9, gid: 9)
        #expect(try other.create(other.handle(root.bytes), "f").status == .ok)
        #expect(rig.files.with { $0.words } == [.store])
        // The same for data, whichever way it comes.
        let file = try other.made(try other.create(other.handle(root.bytes), "g"))
        #expect(try other.write(file, 0, [1], .fileSync).status == .ok)
        let commit = NFS3Request.commit(NFS3CommitArguments(file: file, offset: 0, count: 0))
        #expect(try other.call(.commit, commit, NFS3Results.Commit.self).status == .ok)
        #expect(rig.files.with { $0.words } == [.store, .store, .store, .store])
        let plain = try Rig()
        let anybody = try plain.client()
        #expect(try anybody.create(try anybody.root(), "f").status == .ok)
        #expect(plain.files.with { $0.words } == [.log])
    }

    @Test func listsOverManyCallsWithoutLossWhileEntriesComeAndGo() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        var expected = Set<String>()
        for index in 0..<700 {
            let name = "entry-\(index)" + String(repeating: "x", count: index % 40)
            #expect(try client.create(root, name).status == .ok)
            expected.insert(name)
        }
        for (isPlus, size) in [(false, UInt32(512)), (false, 8192), (true, 1024), (true, 32_768), (true, .max)] {
            var seen: [String] = []
            var cookie: UInt64 = 0, verifier: UInt64 = 0
            var isEnd = false
            var calls = 0
            while !isEnd {
                calls += 1
                if isPlus {
                    let arguments = NFS3ReadDirectoryPlusArguments(
                        directory: root, cookie: cookie, verifier: verifier, directoryCount: size, countMax: size)
                    let page = try #require(
                        try client.call(
                            .readDirectoryPlus, .readDirectoryPlus(arguments), NFS3Results.ReadDirectoryPlus.self
                        ).success)
                    for entry in page.entries {
                        seen.append(name(entry.name))
                        #expect(entry.attributes?.file == entry.file && entry.handle != nil)
                    }
                    let last = try #require(page.entries.last)
                    if calls == 1, let handle = last.handle {
                        #expect(try client.attributes(handle).success == last.attributes)
                    }
                    cookie = last.cookie
                    verifier = page.verifier
                    isEnd = page.isEnd
                } else {
                    let arguments = NFS3ReadDirectoryArguments(
                        directory: root, cookie: cookie, verifier: verifier, count: size)
                    let page = try #require(
                        try client.call(.readDirectory, .readDirectory(arguments), NFS3Results.ReadDirectory.self)
                            .success)
                    seen += page.entries.map { name($0.name) }
                    cookie = try #require(page.entries.last).cookie
                    verifier = page.verifier
                    isEnd = page.isEnd
                }
                // What comes and goes meanwhile does not move the others.
                if calls == 3 {
                    #expect(try client.create(root, "new").status == .ok)
                    let gone = client.name(root, "new")
                    #expect(try client.call(.remove, .remove(gone), NFS3Results.Remove.self).status == .ok)
                }
            }
            #expect(seen.prefix(2) == [".", ".."])
            #expect(seen.count == expected.count + 2 && Set(seen) == expected.union([".", ".."]))
            #expect(size > 30_000 || calls > 4)
        }
    }

    @Test func repliesOfListingsStayInTheirLimit() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        for index in 0..<50 { #expect(try client.create(root, "n\(index)").status == .ok) }
        for size in stride(from: UInt32(200), to: 2000, by: 52) {
            let plain = NFS3ReadDirectoryArguments(directory: root, cookie: 0, verifier: 0, count: size)
            let reply = client.peer.call(client.message(NFS3.program, 3, 16, encoded { plain.write(into: &$0) }))
            #expect(try #require(reply).results.count <= Int(size) + 4)
            let plus = NFS3ReadDirectoryPlusArguments(
                directory: root, cookie: 0, verifier: 0, directoryCount: size, countMax: size)
            let more = client.peer.call(client.message(NFS3.program, 3, 17, encoded { plus.write(into: &$0) }))
            #expect(try #require(more).results.count <= Int(size) + 4)
        }
        func list(_ cookie: UInt64, _ verifier: UInt64, _ count: UInt32) throws -> NFS3Results.ReadDirectory {
            let arguments = NFS3ReadDirectoryArguments(
                directory: root, cookie: cookie, verifier: verifier, count: count)
            return try client.call(.readDirectory, .readDirectory(arguments), NFS3Results.ReadDirectory.self)
        }
        #expect(try list(0, 0, 0).status == .tooSmall)
        #expect(try list(0, 0, 110).status == .tooSmall)
        #expect(try list(3, 12345, 4096).status == .badCookie)
        let verifier = try #require(try list(0, 0, 4096).success).verifier
        let end = try #require(try list(.max, verifier, 4096).success)
        #expect(end.entries.isEmpty && end.isEnd)
        let file = try client.made(try client.create(root, "f"))
        let wrong = NFS3ReadDirectoryArguments(directory: file, cookie: 0, verifier: 0, count: 4096)
        #expect(
            try client.call(.readDirectory, .readDirectory(wrong), NFS3Results.ReadDirectory.self).status
                == .notDirectory)
    }

    @Test func tellsWhatTheServerCan() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let information = try #require(
            try client.call(
                .fileSystemInformation, .fileSystemInformation(root), NFS3Results.FileSystemInformation.self
            ).success)
        #expect(information.readMax == 1 << 20 && information.writeMax == 1 << 20)
        #expect(information.properties.rawValue == 0x1b)
        // What offsets with a sign reach, as this file system says no other limit.
        #expect(information.fileSizeMax == UInt64(Int64.max))
        #expect(information.readPreferred == 1 << 20 && information.readMultiple == 4096)
        #expect(information.writePreferred == 1 << 20 && information.writeMultiple == 4096)
        #expect(information.directoryPreferred == 32 << 10)
        #expect(information.timeDelta == NFS3Time(seconds: 0, nanoseconds: 1))
        #expect(try information.attributes == client.attributes(root).success)
        let paths = try #require(
            try client.call(.pathConfiguration, .pathConfiguration(root), NFS3Results.PathConfiguration.self).success)
        #expect(paths.nameMax == 255 && paths.refusesLongNames && !paths.ignoresCase && paths.preservesCase)
        let space = try #require(
            try client.call(
                .fileSystemStatistics, .fileSystemStatistics(root), NFS3Results.FileSystemStatistics.self
            ).success)
        #expect(paths.linksMax == 65_000 && paths.restrictsOwners)
        #expect(try paths.attributes == client.attributes(root).success)
        #expect(space.bytes == 1 << 40 && space.bytesFree == 1 << 39 && space.bytesAvailable == 1 << 39)
        #expect(space.files == 1 << 20 && space.filesFree == 1 << 19 && space.filesAvailable == 1 << 19)
        #expect(try space.invariantSeconds == 0 && space.attributes == client.attributes(root).success)
    }

    /// Every procedure once more over a file system that has nothing in memory.
    @Test func whatIsLackingIsSupplied() throws {
        let rig = try Rig()
        let client = try rig.client()
        rig.files.with { $0.isCold = true }
        client.before = { rig.files.chill() }
        let root = try client.root()
        let file = try client.made(try client.create(root, "f"))
        #expect(try client.write(file, 0, [1, 2, 3, 4, 5]).status == .ok)
        #expect(try client.write(file, 5, [6], .fileSync).status == .ok)
        #expect(try client.read(file, 1, 3).success?.data.elementsEqual([2, 3, 4]) == true)
        #expect(try client.read(file, 0, 100_000).success?.data.elementsEqual([1, 2, 3, 4, 5, 6]) == true)
        #expect(try client.lookup(root, "f").status == .ok)
        #expect(try client.set(file, NFS3SetAttributes(mode: 0o600)).status == .ok)
        #expect(try client.set(file, NFS3SetAttributes(size: 2)).success?.after?.size == 2)
        #expect(try client.create(root, "f", .unchecked(NFS3SetAttributes(size: 0))).success?.attributes?.size == 0)
        #expect(try client.makeDirectory(root, "d").status == .ok)
        let listing = NFS3ReadDirectoryArguments(directory: root, cookie: 0, verifier: 0, count: 4096)
        let page = try client.call(.readDirectory, .readDirectory(listing), NFS3Results.ReadDirectory.self)
        #expect(page.success.map { $0.entries.map { name($0.name) } } == [".", "..", "f", "d"])
        #expect(
            try client.call(
                .commit, .commit(NFS3CommitArguments(file: file, offset: 0, count: 0)), NFS3Results.Commit.self
            )
            .status == .ok)
        #expect(try client.attributes(NFS3Handle(client.keep([1]))).status == .badHandle)
        #expect(rig.files.with { $0.lacks } > 20)
    }

    @Test func changesCarryATokenThatARepetitionHasToo() throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        func send(_ name: String, xid: UInt32, on peer: RPCPeer) {
            let arguments = NFS3MakeDirectoryArguments(place: client.name(root, name), attributes: NFS3SetAttributes())
            var message = RPCMessage(NFS3.program, 3, 9, xid: xid, encoded { arguments.write(into: &$0) })
            message.sign(uid: 0, gid: 0)
            _ = peer.call(message)
        }
        send("a", xid: 1, on: client.peer)
        #expect(
            try client.call(.removeDirectory, .removeDirectory(client.name(root, "a")), NFS3Results.Remove.self).status
                == .ok)
        // The same call over another connection, then another name, then another transaction.
        send("a", xid: 1, on: try RPCPeer(rig.listener.address))
        send("b", xid: 1, on: client.peer)
        send("c", xid: 2, on: client.peer)
        let tokens = rig.files.with { $0.tokens }
        #expect(tokens.count == 5 && tokens.allSatisfy { $0 != nil })
        #expect(tokens[0] == tokens[2])
        #expect(Set(tokens.compactMap { $0?.id }).count == 4)
        #expect(Set(tokens.compactMap { $0?.client }).count == 1)
    }

    @Test(arguments: 1...3) func garbageChangesNothing(_ seed: UInt64) async throws {
        let rig = try Rig()
        let client = try rig.client()
        let root = try client.root()
        let file = try client.made(try client.create(root, "f"))
        var random = SeededRandom(seed)
        let handles = [Array(root.bytes), Array(file.bytes)]
        for _ in 0..<1500 {
            var arguments = encoded { $0.opaque(client.keep(handles[Int.random(in: 0...1, using: &random)])) }
            arguments += random.bytes(4 * Int.random(in: 0...30, using: &random)).map { $0 & 3 == 0 ? $0 : 0 }
            let procedure = UInt32.random(in: 1...21, using: &random)
            let reply = client.peer.call(client.message(NFS3.program, 3, procedure, arguments))
            #expect(reply != nil)
        }
        #expect(try client.attributes(root).status == .ok)
        let fresh = try rig.client()
        #expect(try fresh.attributes(fresh.handle(root.bytes)).status == .ok)
    }
}

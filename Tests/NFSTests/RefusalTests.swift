import Bytes
import NFS
import Namespace
import RPC
import Runtime
import Simulator
import TestSupport
import Testing

/// Each kind of bad request, made to every procedure that it concerns, over a volume of the engine: the answer is the
/// protocol's own status, and nothing has changed.
@Suite struct RefusalTests {
    @Test func namesAndHandlesThatAreNone() throws {
        try Refusals.run { book in
            let long = String(repeating: "n", count: 256)
            let beyond = String(repeating: "n", count: 4097)
            for (name, status) in [
                ("", NFS3Status.invalid), (".", .invalid), ("..", .invalid), ("a/b", .invalid), ("a\0b", .invalid),
                (long, .nameTooLong), (String(repeating: "n", count: 4096), .nameTooLong),
            ] {
                for request in book.namings(book.root, name) {
                    var expected = status
                    switch request {
                    // What is not there is not there, whatever it is called; these two are there.
                    case .lookup: expected = status == .nameTooLong ? status : name.hasPrefix(".") ? .ok : .noEntry
                    case .remove, .removeDirectory, .rename:
                        if status == .invalid, !name.hasPrefix(".") { expected = .noEntry }
                    default: break
                    }
                    try await book.expect(
                        "a name of \(name.utf8.count) bytes, \(name.prefix(3))", request, [expected, status])
                }
            }
            for request in book.namings(book.root, beyond) { try await book.expectGarbage("a name beyond", request) }
            // A name where there is none to be looked for.
            for request in book.namings(book.file, "x") {
                try await book.expect("a file taken for a directory", request, [.notDirectory])
            }
            for index in [0, 3, 4, 8, 20, 30, 35, 36, 43] {
                var forged = book.file
                forged[index] ^= 1
                for request in book.all(forged) {
                    try await book.expect("a forged handle, byte \(index)", request, [.badHandle])
                }
            }
            for handle in [[], [1], [UInt8](repeating: 0, count: 44), [UInt8](repeating: 7, count: 64)] {
                // One that names no volume of here may have been good once.
                let status = handle.count == 44 ? NFS3Status.stale : .badHandle
                for request in book.all(handle) {
                    try await book.expect("a handle of \(handle.count) bytes", request, [status])
                }
            }
            for request in book.all([UInt8](repeating: 0, count: 65)) {
                try await book.expectGarbage("a handle beyond", request)
            }
            for request in book.all(book.gone) { try await book.expect("a stale handle", request, [.stale]) }
        }
    }

    @Test func versionsProceduresAndPrograms() throws {
        try Refusals.run { book in
            for version in [0, 1, 2, 4, 5, .max] as [UInt32] {
                let reply = try await book.call(RPCMessage(NFS3.program, version, 1, xid: book.next()))
                #expect(reply.status == .programMismatch(low: 3, high: 3))
            }
            for procedure in [22, 23, 1000, .max] as [UInt32] {
                let reply = try await book.call(RPCMessage(NFS3.program, 3, procedure, xid: book.next()))
                #expect(reply.status == .procedureUnavailable)
            }
            let unknown = try await book.call(RPCMessage(100_099, 1, 0, xid: book.next()))
            #expect(unknown.status == .programUnavailable)
            for (program, low, high) in [
                (Mount.program, 1, 3), (LockManager.program, 1, 4), (StatusMonitor.program, 1, 1),
            ] as [(UInt32, UInt32, UInt32)] {
                let reply = try await book.call(RPCMessage(program, 9, 0, xid: book.next()))
                #expect(reply.status == .programMismatch(low: low, high: high))
            }
            // Each request without its end, and with arguments of the wrong kind.
            for request in book.all(book.file) {
                guard case (let procedure, let whole)? = book.encoded(request) else { continue }
                for count in stride(from: 0, to: whole.count, by: 4) {
                    try await book.expectGarbage("\(procedure) of \(count) bytes", procedure, Array(whole[..<count]))
                }
            }
            try await book.unchanged("calls that are none")
        }
    }

    @Test func rights() throws {
        try Refusals.run { book in
            book.uid = 1001
            for request in book.namings(book.closed, "x") {
                try await book.expect("a directory of somebody else", request, [.access])
            }
            for request in book.namings(book.open, "x") {
                // It may be searched, so that what is not there is told.
                if case .lookup = request { continue }
                try await book.expect("a directory that may only be read", request, [.access, .noEntry, .notOwner])
            }
            let mode = NFS3SetAttributes(mode: 0o777)
            try await book.expect("a file of somebody else", .setAttributes(book.setting(book.file, mode)), [.notOwner])
            try await book.expect(
                "an owner is given away", .setAttributes(book.setting(book.own, NFS3SetAttributes(uid: 7))), [.notOwner]
            )
            try await book.expect(
                "a file that may not be written", .setAttributes(book.setting(book.file, NFS3SetAttributes(size: 1))),
                [.access])
            try await book.expect("a file that may not be written", .write(book.writing(book.file, [1])), [.access])
            try await book.expect("a file that may not be read", .read(book.reading(book.secret)), [.access])
            try await book.expect(
                "a directory that may not be read", .readDirectory(book.listing(book.closed)), [.access])
            let device = NFS3MakeNodeArguments(
                place: book.name(book.free, "x"), node: .blockDevice(mode, NFS3Device(major: 8, minor: 0)))
            try await book.expect("a device", .makeNode(device), [.notOwner])
            // In a sticky directory only the owner removes and renames.
            try await book.expect("sticky", .remove(book.name(book.free, "roots")), [.access, .notOwner])
            try await book.expect(
                "sticky",
                .rename(
                    NFS3RenameArguments(from: book.name(book.free, "roots"), to: book.name(book.free, "x"))),
                [.access, .notOwner])
        }
    }

    @Test func typesThatDoNotFit() throws {
        try Refusals.run { book in
            try await book.expect("reading a directory", .read(book.reading(book.root)), [.isDirectory])
            try await book.expect("writing a directory", .write(book.writing(book.root, [1])), [.isDirectory])
            try await book.expect("reading a link", .read(book.reading(book.link)), [.invalid])
            try await book.expect("a link of a file", .readLink(NFS3Handle(book.keep(book.file))), [.invalid])
            try await book.expect("listing a file", .readDirectory(book.listing(book.file)), [.notDirectory])
            try await book.expect("removing a directory", .remove(book.name(book.root, "open")), [.isDirectory])
            try await book.expect("removing a file", .removeDirectory(book.name(book.root, "file")), [.notDirectory])
            try await book.expect(
                "removing what is in use", .removeDirectory(book.name(book.root, "free")), [.notEmpty])
            try await book.expect(
                "linking a directory", .link(book.linking(book.open, "x")), [.isDirectory, .notOwner, .invalid])
            try await book.expect("linking over a file", .link(book.linking(book.file, "own")), [.exists])
            let into = NFS3RenameArguments(from: book.name(book.root, "free"), to: book.name(book.free, "x"))
            try await book.expect("a directory into itself", .rename(into), [.invalid])
            let over = NFS3RenameArguments(from: book.name(book.root, "file"), to: book.name(book.root, "free"))
            try await book.expect("a file over a directory", .rename(over), [.isDirectory, .exists])
            let under = NFS3RenameArguments(from: book.name(book.root, "open"), to: book.name(book.root, "file"))
            try await book.expect("a directory over a file", .rename(under), [.notDirectory, .exists])
            let full = NFS3RenameArguments(from: book.name(book.root, "open"), to: book.name(book.root, "free"))
            try await book.expect("a directory over one in use", .rename(full), [.notEmpty, .exists])
            for type in [NFS3FileType.regular, .directory, .symlink] {
                let node = NFS3MakeNodeArguments(place: book.name(book.root, "x"), node: .other(type))
                try await book.expect("a node of another kind", .makeNode(node), [.badType])
            }
            let bad = NFS3SetTime.clientTime(NFS3Time(seconds: 0, nanoseconds: 1_000_000_000))
            try await book.expect(
                "a time that is none", .setAttributes(book.setting(book.file, NFS3SetAttributes(modified: bad))),
                [.invalid])
            let stale = NFS3SetAttributesArguments(
                object: NFS3Handle(book.keep(book.file)), attributes: NFS3SetAttributes(mode: 0o600),
                guardTime: NFS3Time(seconds: 1, nanoseconds: 1))
            try await book.expect("a guard of another time", .setAttributes(stale), [.notSynchronized])
            for (offset, count) in [(UInt64(Int64.max), 1), (.max, 0), (.max - 3, 8)] {
                let data = [UInt8](repeating: 1, count: count)
                try await book.expect(
                    "beyond the end", .write(book.writing(book.file, data, at: offset)), [.fileTooBig, .invalid])
            }
            try await book.expect(
                "too long", .setAttributes(book.setting(book.file, NFS3SetAttributes(size: .max))), [.fileTooBig])
            let more = NFS3WriteArguments(
                file: NFS3Handle(book.keep(book.file)), offset: 0, count: 9, stability: .unstable,
                data: book.keep([1, 2]))
            try await book.expect("more than there is", .write(more), [.invalid])
            for (cookie, verifier) in [(5, 1), (1 << 40, 99)] as [(UInt64, UInt64)] {
                let listing = NFS3ReadDirectoryArguments(
                    directory: NFS3Handle(book.keep(book.root)), cookie: cookie, verifier: verifier, count: 4096)
                try await book.expect("a cookie of another directory", .readDirectory(listing), [.badCookie])
            }
            let small = NFS3ReadDirectoryArguments(
                directory: NFS3Handle(book.keep(book.root)), cookie: 0, verifier: 0, count: 16)
            try await book.expect("no room for an entry", .readDirectory(small), [.tooSmall])
        }
    }

    @Test func quotas() throws {
        try Refusals.run { book in
            let volume = book.server.volume
            let record = QuotaRecord(subject: .volume, limit: QuotaLimit(hardBytes: 40, hardFiles: 10))
            volume.setQuotas([record], loop: book.host.loop)
            while volume.quota(.volume)?.isCounted != true { await book.host.loop.sleep(nanoseconds: 1_000_000) }
            let bytes = [UInt8](repeating: 1, count: 64)
            for stability in [NFS3Stability.unstable, .fileSync] {
                try await book.expect("bytes", .write(book.writing(book.file, bytes, stability: stability)), [.quota])
            }
            try await book.expect(
                "a size", .setAttributes(book.setting(book.file, NFS3SetAttributes(size: 1 << 20))), [.quota])
            for request in book.makings(book.root, "x") { try await book.expect("files", request, [.quota]) }
            // Nothing of a change that is refused is done: no mode, no list, no owner, and no file without its length.
            let more = QuotaRecord(subject: .volume, limit: QuotaLimit(hardBytes: 40, hardFiles: 100))
            volume.setQuotas([more], loop: book.host.loop)
            while volume.quota(.volume)?.isCounted != true { await book.host.loop.sleep(nanoseconds: 1_000_000) }
            let long = NFS3SetAttributes(mode: 0o600, size: 1 << 20)
            for file in [book.file, book.listed] {
                try await book.expect("a mode and a size", .setAttributes(book.setting(file, long)), [.quota])
            }
            for how in [NFS3CreateHow.unchecked(long), .guarded(long)] {
                let making = NFS3CreateArguments(place: book.name(book.root, "x"), how: how)
                try await book.expect("a file with a length", .create(making), [.quota])
            }
            book.uid = 1001
            try await book.expect("bytes for a program", .write(book.writing(book.lent, bytes)), [.quota])
        }
    }

    @Test func readOnly() throws {
        try Refusals.run(isReadOnly: true) { book in
            for request in book.changes(book.root, "x", of: book.root) {
                try await book.expect("an export to be read", request, [.readOnly])
            }
        }
    }

    @Test func fullDisk() throws {
        try Refusals.run(diskBytes: 400 << 20) { book in
            let filler = try book.world.disk.open("filler", [.write, .create])
            try filler.allocate(book.world.disk.space().free - (20 << 20))
            try await book.settle()
            let bytes = [UInt8](repeating: 1, count: 4096)
            for stability in [NFS3Stability.unstable, .fileSync] {
                try await book.expect("bytes", .write(book.writing(book.file, bytes, stability: stability)), [.noSpace])
            }
            for request in book.makings(book.root, "x") { try await book.expect("files", request, [.noSpace]) }
            // A program stays one.
            book.uid = 1001
            try await book.expect("bytes for a program", .write(book.writing(book.lent, bytes)), [.noSpace])
            book.uid = 0
            // What makes room goes on.
            let removal = book.message(.remove(book.name(book.root, "own")))
            let reply = try await book.call(removal)
            #expect(try book.host.results(reply, NFS3Results.Remove.self).status == .ok)
        }
    }
}

/// A volume with a file of each kind that refusals need, and a client that compares it with what it was.
private final class Refusals: @unchecked Sendable {
    let server: SimulatedServer
    let host: SimulatedHost
    let world: World
    var uid: UInt32 = 0
    private(set) var root: [UInt8] = []
    private(set) var file: [UInt8] = []
    private(set) var own: [UInt8] = []
    private(set) var secret: [UInt8] = []
    private(set) var link: [UInt8] = []
    private(set) var open: [UInt8] = []
    private(set) var closed: [UInt8] = []
    /// Everybody's, sticky, with a file of root's.
    private(set) var free: [UInt8] = []
    private(set) var gone: [UInt8] = []
    /// Everybody's, with the set-user-ID bit; a file with a list.
    private(set) var lent: [UInt8] = []
    private(set) var listed: [UInt8] = []
    private var xid: UInt32 = 0
    private var before: [String] = []

    private init(_ server: SimulatedServer, _ host: SimulatedHost, _ world: World) {
        (self.server, self.host, self.world) = (server, host, world)
    }

    static func run(
        isReadOnly: Bool = false, diskBytes: UInt64 = 1 << 40,
        _ body: @escaping @Sendable (Refusals) async throws -> Void, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let simulation = Simulation(seed: 7, diskBytes: diskBytes)
        let host = SimulatedHost(simulation, "client", isStream: true)
        let done = simulation.perform { world -> Bool in
            do {
                let server = try await SimulatedServer(world)
                let book = Refusals(server, host, world)
                try await book.fill()
                if isReadOnly { book.makeReadOnly() }
                try await body(book)
            } catch { Issue.record("\(error)", sourceLocation: sourceLocation) }
            return true
        }
        #expect(done == true, "the program did not come to an end", sourceLocation: sourceLocation)
    }

    private func fill() async throws {
        root = try #require(try await host.root(xid: next()))
        func make(_ request: NFS3Request) async throws -> [UInt8] {
            let reply = try await call(message(request))
            return Array(try #require(try host.results(reply, NFS3Results.Create.self).success?.object).bytes)
        }
        func file(_ directory: [UInt8], _ name: String, mode: UInt32, uid: UInt32 = 0) async throws -> [UInt8] {
            try await make(
                .create(
                    NFS3CreateArguments(
                        place: self.name(directory, name), how: .guarded(NFS3SetAttributes(mode: mode, uid: uid)))))
        }
        func directory(_ name: String, mode: UInt32) async throws -> [UInt8] {
            try await make(
                .makeDirectory(
                    NFS3MakeDirectoryArguments(
                        place: self.name(root, name), attributes: NFS3SetAttributes(mode: mode))))
        }
        self.file = try await file(root, "file", mode: 0o644)
        own = try await file(root, "own", mode: 0o644, uid: 1001)
        secret = try await file(root, "secret", mode: 0o600)
        open = try await directory("open", mode: 0o755)
        closed = try await directory("closed", mode: 0o700)
        free = try await directory("free", mode: 0o1777)
        _ = try await file(free, "roots", mode: 0o644)
        link = try await make(
            .symlink(
                NFS3SymlinkArguments(
                    place: name(root, "link"), attributes: NFS3SetAttributes(), target: keep(Array("file".utf8)))))
        lent = try await file(root, "lent", mode: 0o4777)
        listed = try await file(root, "listed", mode: 0o644)
        try list("listed")
        gone = try await file(root, "gone", mode: 0o644)
        _ = try await call(message(.remove(name(root, "gone"))))
        _ = try await call(message(.write(writing(self.file, Array("0123456789".utf8), stability: .fileSync))))
        before = try await state()
    }

    private func list(_ name: String) throws {
        let volume = server.volume
        let caller = Caller(.root, Request(reader: host.loop.index, now: world.clock.wall()))
        let list = PosixACL(owner: 6, users: [PosixACL.Named(id: 1001, digit: 6)], group: 4, mask: 6, other: 4)
        guard
            case .done(let found, _) = Array(name.utf8).withUnsafeBytes({ volume.lookup(caller, in: volume.root, $0) }),
            case .done = volume.setPosixACL(caller, found.file, access: .list(list), passedOn: .unchanged)
        else { throw NFS3Status.serverFault }
    }

    private func makeReadOnly() {
        var export = server.context.exports.all[0]
        export.clients[0].isReadOnly = true
        #expect(server.context.exports.replace([export]))
    }

    /// Until the server has looked at its disk again.
    func settle() async throws { await host.loop.sleep(nanoseconds: 5_000_000_000) }

    // MARK: Requests

    func next() -> UInt32 {
        xid += 1
        return xid
    }

    func keep(_ bytes: [UInt8]) -> UnsafeRawBufferPointer { host.keep(bytes) }
    func name(_ directory: [UInt8], _ name: String) -> NFS3Name { host.name(directory, name) }
    private func handle(_ bytes: [UInt8]) -> NFS3Handle { NFS3Handle(keep(bytes)) }

    func setting(_ file: [UInt8], _ attributes: NFS3SetAttributes) -> NFS3SetAttributesArguments {
        NFS3SetAttributesArguments(object: handle(file), attributes: attributes, guardTime: nil)
    }

    func reading(_ file: [UInt8]) -> NFS3ReadArguments { NFS3ReadArguments(file: handle(file), offset: 0, count: 100) }

    func writing(
        _ file: [UInt8], _ bytes: [UInt8], at offset: UInt64 = 0, stability: NFS3Stability = .unstable
    ) -> NFS3WriteArguments {
        NFS3WriteArguments(
            file: handle(file), offset: offset, count: UInt32(bytes.count), stability: stability, data: keep(bytes))
    }

    func listing(_ directory: [UInt8]) -> NFS3ReadDirectoryArguments {
        NFS3ReadDirectoryArguments(directory: handle(directory), cookie: 0, verifier: 0, count: 4096)
    }

    func linking(_ file: [UInt8], _ name: String) -> NFS3LinkArguments {
        NFS3LinkArguments(file: handle(file), place: self.name(root, name))
    }

    /// What makes a file called `name`.
    func makings(_ directory: [UInt8], _ name: String) -> [NFS3Request] {
        let (place, plain) = (self.name(directory, name), NFS3SetAttributes(mode: 0o644))
        return [
            .create(NFS3CreateArguments(place: place, how: .unchecked(plain))),
            .create(NFS3CreateArguments(place: place, how: .guarded(plain))),
            .create(NFS3CreateArguments(place: place, how: .exclusive(verifier: 9))),
            .makeDirectory(NFS3MakeDirectoryArguments(place: place, attributes: plain)),
            .symlink(NFS3SymlinkArguments(place: place, attributes: plain, target: keep([1]))),
            .makeNode(NFS3MakeNodeArguments(place: place, node: .fifo(plain))),
        ]
    }

    /// What takes a name, in all its places.
    func namings(_ directory: [UInt8], _ name: String) -> [NFS3Request] {
        let (place, other) = (self.name(directory, name), self.name(root, "file"))
        return makings(directory, name) + [
            .lookup(place), .remove(place), .removeDirectory(place),
            .rename(NFS3RenameArguments(from: place, to: self.name(root, "new"))),
            .rename(NFS3RenameArguments(from: other, to: place)),
            .link(NFS3LinkArguments(file: handle(file), place: place)),
        ]
    }

    /// What changes something, were it allowed.
    func changes(_ directory: [UInt8], _ name: String, of root: [UInt8]) -> [NFS3Request] {
        makings(directory, name) + [
            .remove(self.name(root, "own")), .removeDirectory(self.name(root, "open")),
            .rename(NFS3RenameArguments(from: self.name(root, "own"), to: self.name(directory, name))),
            .link(NFS3LinkArguments(file: handle(file), place: self.name(directory, name))),
            .setAttributes(setting(file, NFS3SetAttributes(mode: 0o600))),
            .setAttributes(setting(file, NFS3SetAttributes(size: 3))), .write(writing(file, [9])),
            .write(writing(file, [9], stability: .fileSync)),
        ]
    }

    /// Every procedure with a handle where it takes one.
    func all(_ bytes: [UInt8]) -> [NFS3Request] {
        let own = handle(bytes)
        return [
            .getAttributes(own), .setAttributes(setting(bytes, NFS3SetAttributes(mode: 0o600))),
            .access(NFS3AccessArguments(object: own, access: [.read])), .readLink(own), .read(reading(bytes)),
            .write(writing(bytes, [1])), .readDirectory(listing(bytes)),
            .readDirectoryPlus(
                NFS3ReadDirectoryPlusArguments(
                    directory: own, cookie: 0, verifier: 0, directoryCount: 4096, countMax: 4096)),
            .fileSystemStatistics(own), .fileSystemInformation(own), .pathConfiguration(own),
            .commit(NFS3CommitArguments(file: own, offset: 0, count: 0)),
            .link(NFS3LinkArguments(file: own, place: name(root, "new"))),
        ] + namings(bytes, "x")
    }

    // MARK: Calling

    private static func procedure(_ request: NFS3Request) -> NFS3Procedure {
        switch request {
        case .null: .null
        case .getAttributes: .getAttributes
        case .setAttributes: .setAttributes
        case .lookup: .lookup
        case .access: .access
        case .readLink: .readLink
        case .read: .read
        case .write: .write
        case .create: .create
        case .makeDirectory: .makeDirectory
        case .symlink: .symlink
        case .makeNode: .makeNode
        case .remove: .remove
        case .removeDirectory: .removeDirectory
        case .rename: .rename
        case .link: .link
        case .readDirectory: .readDirectory
        case .readDirectoryPlus: .readDirectoryPlus
        case .fileSystemStatistics: .fileSystemStatistics
        case .fileSystemInformation: .fileSystemInformation
        case .pathConfiguration: .pathConfiguration
        case .commit: .commit
        }
    }

    func encoded(_ request: NFS3Request) -> (NFS3Procedure, [UInt8])? {
        (Self.procedure(request), TestSupport.encoded(capacity: 16_384) { request.write(into: &$0) })
    }

    func message(_ request: NFS3Request) -> RPCMessage {
        host.message(Self.procedure(request), request, xid: next(), uid: uid)
    }

    func call(_ message: RPCMessage) async throws -> RPCReply { try #require(await host.exchange(message)) }

    // MARK: Comparing

    func expect(
        _ what: String, _ request: NFS3Request, _ statuses: [NFS3Status],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let reply = try await call(message(request))
        let procedure = Self.procedure(request)
        let status = reply.results.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        #expect(
            reply.status == .success && statuses.contains { $0.rawValue == status },
            "\(what), \(procedure): \(reply.status) \(NFS3Status(rawValue: status).map { "\($0)" } ?? "?")",
            sourceLocation: sourceLocation)
        if status != 0 {
            // What was refused has changed nothing: before and after are one, and there wherever the handle leads to a file.
            let isFile = status != NFS3Status.badHandle.rawValue && status != NFS3Status.stale.rawValue
            for weak in try weakData(request, reply) {
                let after = weak.after.map {
                    NFS3WeakAttributes(size: $0.size, modified: $0.modified, changed: $0.changed)
                }
                #expect(weak.before == after && (after != nil || !isFile), "\(what), \(procedure)")
            }
        }
        try await unchanged("\(what), \(procedure)", sourceLocation: sourceLocation)
    }

    /// Of a failure, in the order of its results.
    private func weakData(_ request: NFS3Request, _ reply: RPCReply) throws -> [NFS3WeakData] {
        func failure<Success, Failure>(_ type: NFS3Result<Success, Failure>.Type) throws -> Failure {
            guard case .failed(_, let failure) = try host.results(reply, type) else { throw NFS3Status.ok }
            return failure
        }
        switch request {
        case .setAttributes: return [try failure(NFS3Results.SetAttributes.self)]
        case .write: return [try failure(NFS3Results.Write.self)]
        case .commit: return [try failure(NFS3Results.Commit.self)]
        case .create, .makeDirectory, .symlink, .makeNode: return [try failure(NFS3Results.Create.self)]
        case .remove, .removeDirectory: return [try failure(NFS3Results.Remove.self)]
        case .rename:
            let both = try failure(NFS3Results.Rename.self)
            // One of the two may be the handle that is none.
            return [both.from, both.to].filter { $0.after != nil || $0.before != nil }
        case .link: return [try failure(NFS3Results.Link.self).directory].filter { $0.after != nil || $0.before != nil }
        case .null, .getAttributes, .lookup, .access, .readLink, .read, .readDirectory, .readDirectoryPlus,
            .fileSystemStatistics, .fileSystemInformation, .pathConfiguration:
            return []
        }
    }

    func expectGarbage(_ what: String, _ request: NFS3Request) async throws {
        guard let (procedure, arguments) = encoded(request) else { return }
        try await expectGarbage(what, procedure, arguments)
        try await unchanged(what)
    }

    func expectGarbage(_ what: String, _ procedure: NFS3Procedure, _ arguments: [UInt8]) async throws {
        var call = RPCMessage(NFS3.program, 3, procedure.rawValue, xid: next(), arguments)
        call.sign(uid: uid, gid: uid)
        let reply = try await self.call(call)
        #expect(reply.status == .garbageArguments, "\(what), \(procedure)")
    }

    func unchanged(_ what: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let now = try await state()
        #expect(now == before, "\(what) has changed something", sourceLocation: sourceLocation)
    }

    /// Names, attributes and bytes of all, but for when they were read.
    private func state() async throws -> [String] {
        let asked = uid
        uid = 0
        defer { uid = asked }
        var lines: [String] = []
        for (path, directory) in [("", root), ("open/", open), ("closed/", closed), ("free/", free)]
        where !directory.isEmpty {
            let listing = NFS3ReadDirectoryPlusArguments(
                directory: handle(directory), cookie: 0, verifier: 0, directoryCount: 16_384, countMax: 32_768)
            let page = try #require(
                try host.results(
                    try await call(message(.readDirectoryPlus(listing))), NFS3Results.ReadDirectoryPlus.self
                ).success)
            for entry in page.entries {
                let name = String(decoding: entry.name, as: UTF8.self)
                var attributes = try #require(entry.attributes)
                attributes.accessed = NFS3Time(seconds: 0, nanoseconds: 0)
                lines.append("\(path)\(name) \(attributes)")
            }
        }
        guard !file.isEmpty else { return lines }
        let read = try host.results(try await call(message(.read(reading(file)))), NFS3Results.Read.self)
        lines.append("\(read.success.map { Array($0.data) } ?? [])")
        return lines
    }
}

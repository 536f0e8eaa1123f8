import Bytes
import Glibc
import NFS
import Namespace
import RPC
import Runtime
import TestSupport
import Testing

/// NFS, MOUNT and NLM of the program over UDP.
@Suite(.serialized) struct DatagramServiceTests {
    private func serve(_ folder: Folder, _ port: UInt16, _ words: [String] = []) async throws -> Program {
        let server = try Program(
            [
                "serve", "--nfs-port", "\(port)", "--admin-port", "\(try freePort())", "--smb-port", "0", "--http-port",
                "0",
            ] + words, in: folder)
        #expect(await server.isReady(), "\(server.err)")
        return server
    }

    private func client(_ port: UInt16) throws -> (NFSCalls, DatagramClient) {
        let socket = try DatagramClient(.loopback(port: port), from: .loopback(port: 0))
        return (NFSCalls { socket.call($0) }, socket)
    }

    private func end(_ server: Program) async {
        server.signal(SIGTERM)
        #expect(await server.status() == 0)
    }

    @Test func filesAndLocksAreServed() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port)
        let (client, _) = try client(port)
        for (program, versions) in [(NFS3.program, 3...3), (Mount.program, 1...3), (LockManager.program, 4...4)]
            as [(UInt32, ClosedRange<UInt32>)]
        {
            for version in versions {
                #expect(try client.reply(client.message(program, version, 0, [])).status == .success)
            }
        }
        #expect(try client.exports() == ["/default": ["localhost"]])
        let root = try client.root("/default")
        let file = Array(try #require(try client.create(root, "f").success?.object).bytes)
        let data = (0..<30_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        for stability in [NFS3Stability.unstable, .fileSync] {
            let write = NFS3WriteArguments(
                file: client.handle(file), offset: 0, count: UInt32(data.count), stability: stability,
                data: client.keep(data))
            let written = try client.call(.write, .write(write), NFS3Results.Write.self).success
            #expect(written?.count == UInt32(data.count) && written?.file.after?.size == UInt64(data.count))
        }
        // The same file as over a stream.
        let stream = NFSCalls(try RPCPeer(.loopback(port: port)), xid: 100_000)
        for calls in [client, stream] {
            let read = NFS3ReadArguments(file: calls.handle(file), offset: 0, count: 30_000)
            let got = try #require(try calls.call(.read, .read(read), NFS3Results.Read.self).success)
            #expect(got.isEnd && got.data.elementsEqual(data))
        }
        func lock(_ process: Int32, _ procedure: LockProcedure, by calls: NFSCalls) throws -> LockStatus {
            let cookie = calls.keep("cookie".utf8)
            let lock = LockDescription<LockWidth64>(
                caller: calls.keep("host".utf8), file: calls.handle(file).bytes, owner: calls.keep("\(process)".utf8),
                process: process, offset: 0, length: 0)
            let arguments =
                procedure == .unlock
                ? encoded { LockUnlockArguments(cookie: cookie, lock: lock).write(into: &$0) }
                : encoded {
                    LockArguments(
                        cookie: cookie, mayBlock: false, isExclusive: true, lock: lock, isReclaim: false, state: 0
                    ).write(into: &$0)
                }
            let reply = try calls.reply(calls.message(LockManager.program, 4, procedure.rawValue, arguments))
            let result = try calls.results(reply, LockResult.self)
            #expect(result.cookie.elementsEqual(cookie))
            return result.status
        }
        #expect(try lock(1, .lock, by: client) == .granted)
        #expect(try lock(2, .lock, by: stream) == .denied)
        #expect(try lock(1, .unlock, by: client) == .granted)
        #expect(try lock(2, .lock, by: stream) == .granted)
        await end(server)
    }

    /// A call that comes again, because its answer was lost or slow, has the answer that it had.
    @Test func repeatedCallsHaveTheirFirstAnswer() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port)
        let (client, socket) = try client(port)
        let root = try client.root("/default")
        let file = Array(try #require(try client.create(root, "file").success?.object).bytes)
        let known = try #require(
            try client.call(.getAttributes, .getAttributes(client.handle(file)), NFS3Results.GetAttributes.self).success
        )
        let plain = NFS3SetAttributes(mode: 0o644)
        let guarded = NFS3SetAttributesArguments(
            object: client.handle(file), attributes: NFS3SetAttributes(mode: 0o600), guardTime: known.changed)
        let changes: [(NFS3Procedure, NFS3Request, NFS3Status)] = [
            (.setAttributes, .setAttributes(guarded), .notSynchronized),
            (.create, .create(NFS3CreateArguments(place: client.name(root, "a"), how: .guarded(plain))), .exists),
            (
                .makeDirectory,
                .makeDirectory(NFS3MakeDirectoryArguments(place: client.name(root, "b"), attributes: plain)), .exists
            ),
            (
                .symlink,
                .symlink(
                    NFS3SymlinkArguments(place: client.name(root, "c"), attributes: plain, target: client.keep([97]))),
                .exists
            ),
            (.makeNode, .makeNode(NFS3MakeNodeArguments(place: client.name(root, "d"), node: .fifo(plain))), .exists),
            (.link, .link(NFS3LinkArguments(file: client.handle(file), place: client.name(root, "e"))), .exists),
            (.rename, .rename(NFS3RenameArguments(from: client.name(root, "a"), to: client.name(root, "f"))), .noEntry),
            (.remove, .remove(client.name(root, "f")), .noEntry),
            (.removeDirectory, .removeDirectory(client.name(root, "b")), .noEntry),
        ]
        func status(_ reply: RPCReply?) -> NFS3Status? {
            reply.flatMap { NFS3Status(rawValue: $0.results.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }) }
        }
        for (procedure, request, otherwise) in changes {
            let message = client.message(procedure, request)
            let first = try #require(socket.call(message), "\(procedure)")
            #expect(status(first) == .ok, "\(procedure)")
            for _ in 0..<3 {
                let copy = try #require(socket.call(message), "\(procedure)")
                #expect(copy.xid == first.xid && status(copy) == .ok, "\(procedure)")
                // What was made is named in both.
                if [.create, .makeDirectory, .symlink, .makeNode].contains(procedure) {
                    let made = try [first, copy].map {
                        Array(try #require(try client.results($0, NFS3Results.Create.self).success?.object).bytes)
                    }
                    #expect(made[0] == made[1], "\(procedure)")
                }
            }
            // Another call of the same words is another matter.
            #expect(try status(client.reply(client.message(procedure, request))) == otherwise, "\(procedure)")
        }
        // As many at once as a client sends that has lost patience.
        let message = client.message(
            .makeDirectory, .makeDirectory(NFS3MakeDirectoryArguments(place: client.name(root, "g"), attributes: plain))
        )
        for _ in 0..<20 { #expect(socket.send(message.bytes)) }
        for _ in 0..<20 { #expect(status(socket.receive().flatMap(RPCReply.init)) == .ok) }
        await end(server)
    }

    @Test func datagramsAreOfAllSizes() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port)
        let (client, socket) = try client(port)
        let root = try client.root("/default")
        let file = Array(try #require(try client.create(root, "f").success?.object).bytes)
        func write(_ count: Int) -> RPCMessage {
            let data = client.keep((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 13) })
            return client.message(
                .write,
                .write(
                    NFS3WriteArguments(
                        file: client.handle(file), offset: 0, count: UInt32(count), stability: .fileSync, data: data)))
        }
        // The longest call that a datagram of IPv4 has room for; a call's length is a multiple of four.
        let frame = write(0).bytes.count
        let most = DatagramSocket.bytesMax / 4 * 4 - frame
        let longest = write(most)
        #expect(longest.bytes.count == DatagramSocket.bytesMax / 4 * 4)
        let written = try client.results(try #require(socket.call(longest)), NFS3Results.Write.self).success
        #expect(written?.count == UInt32(most) && written?.file.after?.size == UInt64(most))
        #expect(!socket.send(write(most + 4).bytes))
        // Answers stay in their datagram, however much was asked for.
        for count in [UInt32(most), 65_536, 1 << 20, .max] {
            let read = NFS3ReadArguments(file: client.handle(file), offset: 0, count: count)
            let got = try #require(try client.call(.read, .read(read), NFS3Results.Read.self).success)
            #expect(got.count > 30_000 && got.count <= most && got.isEnd == (Int(got.count) == most))
            #expect(got.data.elementsEqual((0..<Int(got.count)).map { UInt8(truncatingIfNeeded: $0 &* 13) }))
        }
        let names = (0..<900).map { "\($0)" + String(repeating: "n", count: 100) }
        for name in names { #expect(try client.create(root, name).status == .ok) }
        var seen: Set<String> = []
        var (cookie, verifier, isEnd, pages) = (UInt64(0), UInt64(0), false, 0)
        while !isEnd, pages < 100 {
            let listing = NFS3ReadDirectoryPlusArguments(
                directory: client.handle(root), cookie: cookie, verifier: verifier, directoryCount: .max, countMax: .max
            )
            let page = try #require(
                try client.call(.readDirectoryPlus, .readDirectoryPlus(listing), NFS3Results.ReadDirectoryPlus.self)
                    .success)
            for entry in page.entries { seen.insert(String(decoding: entry.name, as: UTF8.self)) }
            (cookie, verifier, isEnd) = (try #require(page.entries.last).cookie, page.verifier, page.isEnd)
            pages += 1
        }
        #expect(pages > 1 && seen == Set(names + ["f", ".", ".."]))
        // Nobody is told of what is cut.
        #expect(socket.send(Array(longest.bytes.prefix(longest.bytes.count - 4))))
        #expect(socket.receive().flatMap(RPCReply.init)?.status == .garbageArguments)
        await end(server)
    }

    /// IPv6 carries a little more than this server takes: that is dropped, and others go on.
    @Test func longerDatagramsAreDropped() async throws {
        let folder = try Folder()
        let port = try freePort()
        let server = try await serve(folder, port, ["--address", "::1"])
        let loopback = SocketAddress.ipv6(0, 1, port: 0)
        let socket = try DatagramClient(.ipv6(0, 1, port: port), from: loopback)
        let client = NFSCalls { socket.call($0) }
        #expect(try client.exports().keys.contains("/default"))
        for count in [DatagramSocket.bytesMax, DatagramSocket.bytesMax + 1, DatagramSocket.bytesMax + 20] {
            // A call of the null procedure reads no further than its header.
            var message = client.message(NFS3.program, 3, 0, [])
            message.arguments = [UInt8](repeating: 0, count: count - message.bytes.count)
            let reply = socket.call(message, within: count > DatagramSocket.bytesMax ? 0.3 : 10)
            #expect((reply?.status == .success) == (count <= DatagramSocket.bytesMax), "\(count) bytes")
        }
        #expect(try client.reply(client.message(NFS3.program, 3, 0, [])).status == .success)
        await end(server)
    }
}

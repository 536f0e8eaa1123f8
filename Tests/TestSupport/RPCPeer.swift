import Bytes
import RPC
import Runtime

/// The bytes that `body` writes.
public func encoded(capacity: Int = 2 << 20, _ body: (inout Writer) -> Void) -> [UInt8] {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 8)
    defer { memory.deallocate() }
    var writer = Writer(memory)
    body(&writer)
    precondition(!writer.overflowed, "more than the test has room for")
    return [UInt8](writer.written)
}

/// A reply as a test looks at it.
public struct RPCReply: Sendable {
    public let xid: UInt32
    public let status: ReplyStatus
    public let verifier: [UInt8]
    public let results: [UInt8]

    public init?(_ record: [UInt8]) {
        let parsed = record.withUnsafeBytes { bytes -> RPCReply? in
            var reader = Reader(bytes)
            guard let header = try? ReplyHeader(reading: &reader) else { return nil }
            return RPCReply(
                xid: header.xid, status: header.status, verifier: Array(header.verifier.body),
                results: Array(bytes[reader.position...]))
        }
        guard let parsed else { return nil }
        self = parsed
    }

    private init(xid: UInt32, status: ReplyStatus, verifier: [UInt8], results: [UInt8]) {
        self.xid = xid
        self.status = status
        self.verifier = verifier
        self.results = results
    }
}

/// Calls as bytes, and a blocking client over a stream that sends them in any form.
public struct RPCMessage: Sendable {
    public var xid: UInt32 = 1
    public var program: UInt32
    public var version: UInt32
    public var procedure: UInt32
    public var flavor = AuthFlavor.none
    public var credential: [UInt8] = []
    public var verifier: (flavor: UInt32, body: [UInt8]) = (AuthFlavor.none, [])
    public var arguments: [UInt8] = []

    public init(_ program: UInt32, _ version: UInt32, _ procedure: UInt32, xid: UInt32 = 1, _ arguments: [UInt8] = []) {
        self.program = program
        self.version = version
        self.procedure = procedure
        self.xid = xid
        self.arguments = arguments
    }

    public mutating func sign(uid: UInt32, gid: UInt32, groups: [UInt32] = [], machine: String = "client") {
        flavor = AuthFlavor.system
        credential = encoded { writer in
            var machine = machine
            machine.withUTF8 { name in
                SystemCredential(
                    stamp: xid, machineName: UnsafeRawBufferPointer(name), uid: uid, gid: gid, groups: groups
                ).write(into: &writer)
            }
        }
    }

    /// The call without a record mark.
    public var bytes: [UInt8] {
        encoded { writer in
            credential.withUnsafeBytes { credential in
                verifier.body.withUnsafeBytes { body in
                    CallHeader(
                        xid: xid, program: program, version: version, procedure: procedure,
                        credential: Authenticator(flavor: flavor, body: credential),
                        verifier: Authenticator(flavor: verifier.flavor, body: body)
                    ).write(into: &writer)
                }
            }
            arguments.withUnsafeBytes { writer.bytes($0) }
        }
    }

    /// With a record mark, in fragments of at most `fragment` bytes.
    public func record(fragment: Int = .max) -> [UInt8] { Self.record(bytes, fragment: fragment) }

    public static func record(_ bytes: [UInt8], fragment: Int = .max) -> [UInt8] {
        var rest = bytes[...]
        var record: [UInt8] = []
        repeat {
            let piece = rest.prefix(fragment)
            rest = rest.dropFirst(fragment)
            record += encoded(capacity: 4) { $0.u32(RecordMark(length: piece.count, isLast: rest.isEmpty).word) }
            record += piece
        } while !rest.isEmpty
        return record
    }
}

/// A blocking client of an RPC server over one stream. One thread may send while another one receives.
public final class RPCPeer: @unchecked Sendable {
    public let peer: Peer
    private var unread: [UInt8] = []

    public init(_ address: SocketAddress, isPrivileged: Bool = false) throws {
        peer = try Peer(address, isPrivileged: isPrivileged)
    }

    @discardableResult
    public func send(_ message: RPCMessage) -> Int { peer.send(message.record()) }

    /// The next record; nil when the server ends or is silent.
    public func record(within seconds: Double = 10) -> [UInt8]? {
        guard fill(4, seconds) else { return nil }
        let mark = unread[..<4].reduce(0) { $0 << 8 | Int($1) }
        precondition(mark & 0x8000_0000 != 0, "our server sends records in one fragment")
        let length = mark & 0x7fff_ffff
        guard fill(4 + length, seconds) else { return nil }
        defer { unread.removeFirst(4 + length) }
        return Array(unread[4..<(4 + length)])
    }

    private func fill(_ count: Int, _ seconds: Double) -> Bool {
        let missing = count - unread.count
        if missing > 0 { unread += peer.receive(within: seconds) { $0.count >= missing } }
        return unread.count >= count
    }

    public func reply(within seconds: Double = 10) -> RPCReply? { record(within: seconds).flatMap(RPCReply.init) }

    public func call(_ message: RPCMessage) -> RPCReply? {
        send(message)
        return reply()
    }
}

import Bytes
import Runtime
import SMB
import TestSupport
import Testing

/// Bytes of a message, the least significant first.
struct Wire {
    var bytes: [UInt8] = []

    mutating func u8(_ value: UInt8) { bytes.append(value) }
    mutating func u16(_ value: UInt16) {
        for shift in [0, 8] { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    mutating func u32(_ value: UInt32) {
        for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    mutating func u64(_ value: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    mutating func handle(_ handle: FileHandle) {
        u64(handle.persistent)
        u64(handle.volatile)
    }
    mutating func zeros(_ count: Int) { bytes += [UInt8](repeating: 0, count: count) }
}

struct Reply {
    let header: Header
    /// From the header on.
    let bytes: [UInt8]

    var status: NTStatus { NTStatus(rawValue: header.status) }
    func u32(_ offset: Int) -> UInt32 {
        guard bytes.count >= offset + 4 else { return 0 }
        return (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) }
    }
    func u64(_ offset: Int) -> UInt64 { UInt64(u32(offset)) | UInt64(u32(offset + 4)) << 32 }
    var handle: FileHandle { FileHandle(persistent: u64(128), volatile: u64(136)) }
    /// As UTF-16, wherever it stands.
    func says(_ text: String) -> Bool {
        let wanted = Array(text.utf16).flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
        return bytes.indices.contains { bytes[$0...].starts(with: wanted) }
    }
}

/// A client that says what it is told to, in the dialect 2.1, as nobody in particular.
final class Guest {
    let peer: Peer
    let guid: UInt128
    var session: UInt64 = 0
    var tree: UInt32 = 0
    var nextMessage: UInt64 = 0
    private var buffer: [UInt8] = []
    /// What came while something else was waited for.
    private var waiting: [Reply] = []

    struct Silence: Error {}

    init(_ address: SocketAddress, guid: UInt128 = 1) throws {
        peer = try Peer(address)
        self.guid = guid
    }

    /// With a session and a tree.
    convenience init(ready address: SocketAddress, guid: UInt128 = 1) throws {
        try self.init(address, guid: guid)
        try #require(negotiate().status == .success)
        try #require(beginSession().status == .moreProcessingRequired)
        try #require(endSession().status == .success)
        try #require(connect("default").status == .success)
    }

    // MARK: Messages

    func element(_ command: Command, _ body: [UInt8], next: UInt32 = 0, credits: UInt16 = 64) -> [UInt8] {
        var wire = Wire()
        wire.bytes = [0xFE] + Array("SMB".utf8)
        wire.u16(64)
        wire.u16(1)
        wire.u32(0)
        wire.u16(command.rawValue)
        wire.u16(credits)
        wire.u32(0)
        wire.u32(next)
        wire.u64(nextMessage)
        wire.u32(0)
        wire.u32(tree)
        wire.u64(session)
        wire.zeros(16)
        nextMessage += 1
        return wire.bytes + body
    }

    func send(frame bytes: [UInt8]) {
        let count = bytes.count
        peer.send([0, UInt8(count >> 16), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF)] + bytes)
    }

    /// Its number.
    @discardableResult
    func send(_ command: Command, _ body: [UInt8]) -> UInt64 {
        send(frame: element(command, body))
        return nextMessage - 1
    }

    func ask(_ command: Command, _ body: [UInt8]) throws -> Reply { try reply(to: send(command, body)) }

    /// The answer to a message; a break has the number `.max`.
    func reply(to number: UInt64, within seconds: Double = 10, pending: Bool = false) throws -> Reply {
        while true {
            let found = waiting.firstIndex {
                $0.header.messageID == number && (pending || $0.status != .pending)
            }
            if let found { return waiting.remove(at: found) }
            guard let next = next(within: seconds) else { throw Silence() }
            waiting.append(next)
        }
    }

    /// Nil: the other side has ended, or says nothing.
    func next(within seconds: Double) -> Reply? {
        func length(_ bytes: [UInt8]) -> Int? {
            guard bytes.count >= 4 else { return nil }
            return 4 + (Int(bytes[1]) << 16 | Int(bytes[2]) << 8 | Int(bytes[3]))
        }
        buffer += peer.receive(within: seconds) { more in
            let all = buffer + more
            return length(all).map { all.count >= $0 } ?? false
        }
        guard let count = length(buffer), buffer.count >= count else { return nil }
        let bytes = Array(buffer[4..<count])
        buffer.removeFirst(count)
        let header = bytes.withUnsafeBytes { bytes -> Header? in
            var reader = Reader(bytes)
            return try? Header(reading: &reader)
        }
        return header.map { Reply(header: $0, bytes: bytes) }
    }

    // MARK: Requests

    func negotiate() throws -> Reply {
        var wire = Wire()
        wire.u16(36)
        wire.u16(1)
        wire.u16(1)
        wire.u16(0)
        wire.u32(0)
        wire.u64(UInt64(truncatingIfNeeded: guid))
        wire.u64(UInt64(truncatingIfNeeded: guid >> 64))
        wire.u64(0)
        wire.u16(0x0210)
        return try ask(.negotiate, wire.bytes)
    }

    private static func setup(_ token: [UInt8]) -> [UInt8] {
        var wire = Wire()
        wire.u16(25)
        wire.u8(0)
        wire.u8(1)
        wire.u32(0)
        wire.u32(0)
        wire.u16(88)
        wire.u16(UInt16(token.count))
        wire.u64(0)
        return wire.bytes + token
    }

    static var firstToken: [UInt8] {
        var wire = Wire()
        wire.bytes = Array("NTLMSSP".utf8) + [0]
        wire.u32(1)
        wire.u32(0x0000_0201)
        wire.zeros(16)
        return wire.bytes
    }

    func beginSession() throws -> Reply {
        let reply = try ask(.sessionSetup, Self.setup(Self.firstToken))
        session = reply.header.sessionID
        return reply
    }

    /// As nobody.
    func endSession() throws -> Reply {
        var wire = Wire()
        wire.bytes = Array("NTLMSSP".utf8) + [0]
        wire.u32(3)
        wire.zeros(6 * 8)
        wire.u32(0x0000_0201)
        return try ask(.sessionSetup, Self.setup(wire.bytes))
    }

    func connect(_ share: String) throws -> Reply {
        let path = Array("\\\\server\\\(share)".utf16)
        var wire = Wire()
        wire.u16(9)
        wire.u16(0)
        wire.u16(72)
        wire.u16(UInt16(path.count * 2))
        for unit in path { wire.u16(unit) }
        let reply = try ask(.treeConnect, wire.bytes)
        tree = reply.header.treeID
        return reply
    }

    struct Opening {
        var access: UInt32 = 0x12_019F
        var share: UInt32 = 7
        var disposition: UInt32 = 1
        var options: UInt32 = 0
        /// Of a lease: its key, and what is wanted.
        var lease: (key: UInt64, state: UInt32)?
    }

    static func create(_ name: String, _ opening: Opening) -> [UInt8] {
        let units = Array(name.utf16)
        var wire = Wire()
        wire.u16(57)
        wire.u8(0)
        wire.u8(opening.lease == nil ? 0 : 0xFF)
        wire.u32(2)
        wire.zeros(16)
        wire.u32(opening.access)
        wire.u32(0)
        wire.u32(opening.share)
        wire.u32(opening.disposition)
        wire.u32(opening.options)
        wire.u16(120)
        wire.u16(UInt16(units.count * 2))
        let padded = (units.count * 2 + 7) & ~7
        wire.u32(opening.lease == nil ? 0 : UInt32(120 + padded))
        wire.u32(opening.lease == nil ? 0 : 56)
        for unit in units { wire.u16(unit) }
        wire.zeros(padded - units.count * 2)
        guard let lease = opening.lease else {
            // There is always one byte.
            if units.isEmpty { wire.u8(0) }
            return wire.bytes
        }
        wire.u32(0)
        wire.u16(16)
        wire.u16(4)
        wire.u16(0)
        wire.u16(24)
        wire.u32(32)
        wire.bytes += Array("RqLs".utf8)
        wire.u32(0)
        wire.u64(lease.key)
        wire.u64(0)
        wire.u32(lease.state)
        wire.zeros(12)
        return wire.bytes
    }

    func open(_ name: String, _ opening: Opening = Opening()) throws -> Reply {
        try ask(.create, Self.create(name, opening))
    }

    func write(_ handle: FileHandle, _ text: String, at offset: UInt64 = 0) throws -> Reply {
        var wire = Wire()
        wire.u16(49)
        wire.u16(112)
        wire.u32(UInt32(text.utf8.count))
        wire.u64(offset)
        wire.handle(handle)
        wire.zeros(16)
        return try ask(.write, wire.bytes + Array(text.utf8))
    }

    static func lock(_ handle: FileHandle, count: UInt16, _ ranges: [(UInt64, UInt64, UInt32)]) -> [UInt8] {
        var wire = Wire()
        wire.u16(48)
        wire.u16(count)
        wire.u32(0)
        wire.handle(handle)
        for (offset, length, flags) in ranges {
            wire.u64(offset)
            wire.u64(length)
            wire.u32(flags)
            wire.u32(0)
        }
        return wire.bytes
    }

    func close(_ handle: FileHandle) throws -> Reply {
        var wire = Wire()
        wire.u16(24)
        wire.zeros(6)
        wire.handle(handle)
        return try ask(.close, wire.bytes)
    }

    /// Its number; the answer comes when something has happened.
    func watch(_ handle: FileHandle) -> UInt64 {
        var wire = Wire()
        wire.u16(32)
        wire.u16(0)
        wire.u32(4096)
        wire.handle(handle)
        wire.u32(0xFFF)
        wire.u32(0)
        return send(.changeNotify, wire.bytes)
    }

    func acknowledge(_ key: UInt64, _ state: UInt32) throws -> Reply {
        var wire = Wire()
        wire.u16(36)
        wire.zeros(6)
        wire.u64(key)
        wire.u64(0)
        wire.u32(state)
        wire.u64(0)
        return try ask(.oplockBreak, wire.bytes)
    }
}

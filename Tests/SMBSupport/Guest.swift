import Bytes
import Runtime
import SMB
import TestSupport

/// Bytes of a message, the least significant first.
package struct Wire {
    package var bytes: [UInt8] = []

    package init() {}

    package mutating func u8(_ value: UInt8) { bytes.append(value) }
    package mutating func u16(_ value: UInt16) {
        for shift in [0, 8] { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    package mutating func u32(_ value: UInt32) {
        for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    package mutating func u64(_ value: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    package mutating func handle(_ handle: FileHandle) {
        u64(handle.persistent)
        u64(handle.volatile)
    }
    package mutating func zeros(_ count: Int) { bytes += [UInt8](repeating: 0, count: count) }
}

package struct Reply {
    package let header: Header
    /// From the header on.
    package let bytes: [UInt8]

    package init(header: Header, bytes: [UInt8]) {
        self.header = header
        self.bytes = bytes
    }

    package var status: NTStatus { NTStatus(rawValue: header.status) }
    package func u32(_ offset: Int) -> UInt32 {
        guard bytes.count >= offset + 4 else { return 0 }
        return (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) }
    }
    package func u64(_ offset: Int) -> UInt64 { UInt64(u32(offset)) | UInt64(u32(offset + 4)) << 32 }
    package var handle: FileHandle { FileHandle(persistent: u64(128), volatile: u64(136)) }
    /// As UTF-16, wherever it stands.
    package func says(_ text: String) -> Bool {
        let wanted = Array(text.utf16).flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
        return bytes.indices.contains { bytes[$0...].starts(with: wanted) }
    }
}

/// A client that says what it is told to, in one dialect, as nobody in particular unless it logs on.
package final class Guest {
    package let peer: Peer
    package let guid: UInt128
    private let dialect: UInt16
    package var session: UInt64 = 0
    package var tree: UInt32 = 0
    package var nextMessage: UInt64 = 0
    private var buffer: [UInt8] = []
    /// What came while something else was waited for.
    private var waiting: [Reply] = []

    package struct Silence: Error {}
    package struct Refused: Error {}

    package init(_ address: SocketAddress, guid: UInt128 = 1, dialect: UInt16 = 0x0210) throws {
        peer = try Peer(address)
        self.guid = guid
        self.dialect = dialect
    }

    /// With a session and a tree.
    package convenience init(ready address: SocketAddress, guid: UInt128 = 1, dialect: UInt16 = 0x0210) throws {
        try self.init(address, guid: guid, dialect: dialect)
        guard try negotiate().status == .success, try beginSession().status == .moreProcessingRequired,
            try endSession().status == .success, try connect("default").status == .success
        else { throw Refused() }
    }

    // MARK: Messages

    package func element(_ command: Command, _ body: [UInt8], next: UInt32 = 0, credits: UInt16 = 64) -> [UInt8] {
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

    package func send(frame bytes: [UInt8]) {
        let count = bytes.count
        peer.send([0, UInt8(count >> 16), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF)] + bytes)
    }

    /// Its number.
    @discardableResult
    package func send(_ command: Command, _ body: [UInt8]) -> UInt64 {
        send(frame: element(command, body))
        return nextMessage - 1
    }

    package func ask(_ command: Command, _ body: [UInt8]) throws -> Reply { try reply(to: send(command, body)) }

    /// The answer to a message; a break has the number `.max`.
    package func reply(to number: UInt64, within seconds: Double = 10, pending: Bool = false) throws -> Reply {
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
    package func next(within seconds: Double) -> Reply? {
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

    package func negotiate() throws -> Reply {
        var wire = Wire()
        wire.u16(36)
        wire.u16(1)
        wire.u16(1)
        wire.u16(0)
        wire.u32(0)
        wire.u64(UInt64(truncatingIfNeeded: guid))
        wire.u64(UInt64(truncatingIfNeeded: guid >> 64))
        wire.u64(0)
        wire.u16(dialect)
        return try ask(.negotiate, wire.bytes)
    }

    static func setup(_ token: [UInt8]) -> [UInt8] {
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

    package static var firstToken: [UInt8] {
        var wire = Wire()
        wire.bytes = Array("NTLMSSP".utf8) + [0]
        wire.u32(1)
        wire.u32(0x0000_0201)
        wire.zeros(16)
        return wire.bytes
    }

    package func beginSession() throws -> Reply {
        let reply = try ask(.sessionSetup, Self.setup(Self.firstToken))
        session = reply.header.sessionID
        return reply
    }

    /// As nobody.
    package func endSession() throws -> Reply {
        var wire = Wire()
        wire.bytes = Array("NTLMSSP".utf8) + [0]
        wire.u32(3)
        wire.zeros(6 * 8)
        wire.u32(0x0000_0201)
        return try ask(.sessionSetup, Self.setup(wire.bytes))
    }

    /// As somebody who has a name.
    package func logOn(_ client: NTLMClient) throws -> Reply {
        var client = client
        let begun = try ask(.sessionSetup, Self.setup(NTLMClient.negotiate))
        session = begun.header.sessionID
        // The challenge is what lies behind the answer's own eight bytes.
        return try ask(.sessionSetup, Self.setup(client.answer(Array(begun.bytes.dropFirst(72)))))
    }

    package func connect(_ share: String) throws -> Reply {
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

    package struct Opening {
        package var access: UInt32
        package var share: UInt32
        package var disposition: UInt32
        package var options: UInt32
        /// Of a lease: its key, and what is wanted.
        package var lease: (key: UInt64, state: UInt32)?
        package var oplock: UInt8
        /// Others, by their names.
        package var contexts: [(name: [UInt8], data: [UInt8])]

        package init(
            access: UInt32 = 0x12_019F, share: UInt32 = 7, disposition: UInt32 = 1, options: UInt32 = 0,
            lease: (key: UInt64, state: UInt32)? = nil, oplock: UInt8 = 0,
            contexts: [(name: [UInt8], data: [UInt8])] = []
        ) {
            self.access = access
            self.share = share
            self.disposition = disposition
            self.options = options
            self.lease = lease
            self.oplock = oplock
            self.contexts = contexts
        }

        /// The same, to outlive its connection.
        package func durable() -> Opening {
            var opening = self
            opening.contexts.append((Array("DHnQ".utf8), [UInt8](repeating: 0, count: 16)))
            return opening
        }

        /// By a number of the client's.
        package func durable(_ guid: UInt64, milliseconds: UInt32 = 0) -> Opening {
            var opening = self
            var wire = Wire()
            wire.u32(milliseconds)
            wire.zeros(12)
            wire.u64(guid)
            wire.u64(0)
            opening.contexts.append((Array("DH2Q".utf8), wire.bytes))
            return opening
        }

        /// Of an application that may go on elsewhere.
        package func instance(_ id: UInt64) -> Opening {
            var opening = self
            var wire = Wire()
            wire.u16(20)
            wire.u16(0)
            wire.u64(id)
            wire.u64(0)
            let name: [UInt8] = [
                0x45, 0xBC, 0xA6, 0x6A, 0xEF, 0xA7, 0xF7, 0x4A, 0x90, 0x08, 0xFA, 0x46, 0x2E, 0x14, 0x4D, 0x74,
            ]
            opening.contexts.append((name, wire.bytes))
            return opening
        }

        /// For a handle that is there.
        package func reconnecting(_ handle: FileHandle, _ guid: UInt64? = nil) -> Opening {
            var opening = self
            var wire = Wire()
            wire.handle(handle)
            if let guid {
                wire.u64(guid)
                wire.u64(0)
                wire.u32(0)
            }
            opening.contexts.append((Array((guid == nil ? "DHnC" : "DH2C").utf8), wire.bytes))
            return opening
        }
    }

    package static func create(_ name: String, _ opening: Opening) -> [UInt8] {
        let units = Array(name.utf16)
        var contexts = opening.contexts
        if let lease = opening.lease {
            var wire = Wire()
            wire.u64(lease.key)
            wire.u64(0)
            wire.u32(lease.state)
            wire.zeros(12)
            contexts.append((Array("RqLs".utf8), wire.bytes))
        }
        var list = Wire()
        for (index, context) in contexts.enumerated() {
            let name = context.name + [UInt8](repeating: 0, count: -(context.name.count) & 7)
            let count = 16 + name.count + context.data.count
            let padded = (count + 7) & ~7
            let isLast = index == contexts.count - 1
            list.u32(isLast ? 0 : UInt32(padded))
            list.u16(16)
            list.u16(UInt16(context.name.count))
            list.u16(0)
            list.u16(UInt16(16 + name.count))
            list.u32(UInt32(context.data.count))
            list.bytes += name
            list.bytes += context.data
            if !isLast { list.zeros(padded - count) }
        }
        var wire = Wire()
        wire.u16(57)
        wire.u8(0)
        wire.u8(opening.lease == nil ? opening.oplock : 0xFF)
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
        wire.u32(contexts.isEmpty ? 0 : UInt32(120 + padded))
        wire.u32(UInt32(list.bytes.count))
        for unit in units { wire.u16(unit) }
        wire.zeros(padded - units.count * 2)
        // There is always one byte.
        if contexts.isEmpty, units.isEmpty { wire.u8(0) }
        return wire.bytes + list.bytes
    }

    package func open(_ name: String, _ opening: Opening = Opening()) throws -> Reply {
        try ask(.create, Self.create(name, opening))
    }

    package func write(_ handle: FileHandle, _ text: String, at offset: UInt64 = 0) throws -> Reply {
        try write(handle, Array(text.utf8), at: offset)
    }

    package func write(_ handle: FileHandle, _ bytes: [UInt8], at offset: UInt64 = 0) throws -> Reply {
        try ask(.write, Self.write(handle, bytes, at: offset))
    }

    package static func write(_ handle: FileHandle, _ bytes: [UInt8], at offset: UInt64 = 0) -> [UInt8] {
        var wire = Wire()
        wire.u16(49)
        wire.u16(112)
        wire.u32(UInt32(bytes.count))
        wire.u64(offset)
        wire.handle(handle)
        wire.zeros(16)
        return wire.bytes + bytes
    }

    package static func lock(_ handle: FileHandle, count: UInt16, _ ranges: [(UInt64, UInt64, UInt32)]) -> [UInt8] {
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

    package func close(_ handle: FileHandle) throws -> Reply {
        var wire = Wire()
        wire.u16(24)
        wire.zeros(6)
        wire.handle(handle)
        return try ask(.close, wire.bytes)
    }

    /// Its number; the answer comes when something has happened.
    package func watch(_ handle: FileHandle) -> UInt64 {
        var wire = Wire()
        wire.u16(32)
        wire.u16(0)
        wire.u32(4096)
        wire.handle(handle)
        wire.u32(0xFFF)
        wire.u32(0)
        return send(.changeNotify, wire.bytes)
    }

    package func acknowledge(_ key: UInt64, _ state: UInt32) throws -> Reply {
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

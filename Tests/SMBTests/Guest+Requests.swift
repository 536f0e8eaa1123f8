import SMB
import SMBSupport

/// Requests of which the tests here have more to say than others.
extension Guest {
    func query(
        _ handle: FileHandle, _ type: UInt8, _ level: UInt8, max: UInt32 = 4096, input: [UInt8] = [],
        additional: UInt32 = 0, flags: UInt32 = 0
    ) throws -> Reply {
        var wire = Wire()
        wire.u16(41)
        wire.u8(type)
        wire.u8(level)
        wire.u32(max)
        wire.u16(input.isEmpty ? 0 : 104)
        wire.u16(0)
        wire.u32(UInt32(input.count))
        wire.u32(additional)
        wire.u32(flags)
        wire.handle(handle)
        return try ask(.queryInfo, wire.bytes + input)
    }

    func read(_ handle: FileHandle, _ count: UInt32, at offset: UInt64 = 0) throws -> Reply {
        var wire = Wire()
        wire.u16(49)
        wire.u16(0)
        wire.u32(count)
        wire.u64(offset)
        wire.handle(handle)
        wire.zeros(17)
        return try ask(.read, wire.bytes)
    }

    func set(_ handle: FileHandle, _ type: UInt8, _ level: UInt8, _ data: [UInt8]) throws -> Reply {
        var wire = Wire()
        wire.u16(33)
        wire.u8(type)
        wire.u8(level)
        wire.u32(UInt32(data.count))
        wire.u16(96)
        wire.u16(0)
        wire.u32(0)
        wire.handle(handle)
        return try ask(.setInfo, wire.bytes + data)
    }

    func control(_ handle: FileHandle, _ code: UInt32, _ input: [UInt8], max: UInt32 = 4096) throws -> Reply {
        var wire = Wire()
        wire.u16(57)
        wire.u16(0)
        wire.u32(code)
        wire.handle(handle)
        wire.u32(120)
        wire.u32(UInt32(input.count))
        wire.u32(0)
        wire.u32(0)
        wire.u32(0)
        wire.u32(max)
        wire.u32(1)
        wire.u32(0)
        return try ask(.ioctl, wire.bytes + (input.isEmpty ? [0] : input))
    }

    func list(
        _ handle: FileHandle, _ pattern: String = "*", level: UInt8 = 12, restarts: Bool = true
    ) throws -> Reply {
        let units = Array(pattern.utf16)
        var wire = Wire()
        wire.u16(33)
        wire.u8(level)
        wire.u8(restarts ? 1 : 0)
        wire.u32(0)
        wire.handle(handle)
        wire.u16(96)
        wire.u16(UInt16(units.count * 2))
        wire.u32(8192)
        for unit in units { wire.u16(unit) }
        return try ask(.queryDirectory, wire.bytes)
    }

    func setup(_ token: [UInt8], previous: UInt64 = 0) throws -> Reply {
        var wire = Wire()
        wire.u16(25)
        wire.u8(0)
        wire.u8(1)
        wire.u32(0)
        wire.u32(0)
        wire.u16(88)
        wire.u16(UInt16(token.count))
        wire.u64(previous)
        let reply = try ask(.sessionSetup, wire.bytes + token)
        session = reply.header.sessionID
        return reply
    }
}

extension Reply {
    /// Of an answer whose part is named by offset and length in 16 and 32 bits, as those to queries are.
    var information: [UInt8] { Array(bytes.dropFirst(72).prefix(Int(u32(68)))) }
    /// Of a listing of names alone ([MS-FSCC] 2.4.33).
    var names: [String] {
        let all = information
        var found: [String] = []
        var start = 0
        func word(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(all[start + offset + $1]) << (8 * $1) } }
        while start + 12 <= all.count {
            let name = all[(start + 12)..<(start + 12 + word(8))]
            let units = stride(from: name.startIndex, to: name.endIndex, by: 2).map {
                UInt16(name[$0]) | UInt16(name[$0 + 1]) << 8
            }
            found.append(String(decoding: units, as: UTF16.self))
            guard word(0) > 0 else { break }
            start += word(0)
        }
        return found
    }
    /// Of a control's answer.
    var output: [UInt8] { Array(bytes.dropFirst(112).prefix(Int(u32(64 + 36)))) }
    /// Of an error, without its context.
    func explanation(isLatest: Bool) -> [UInt8] { Array(bytes.dropFirst(isLatest ? 80 : 72)) }
    /// Of a log-on.
    var token: [UInt8] {
        let word = Int(u32(64 + 4))
        return Array(bytes.dropFirst(word & 0xFFFF).prefix(word >> 16))
    }
}

import Bytes

/// [MS-SMB2] 2.2.13.2: what a CREATE says beyond its fixed part. Unknown ones are passed over, as the protocol wants it.
struct CreateContexts {
    static let countMax = 64
    static let dataMax = 64 << 10

    struct Lease: Equatable {
        var key: UInt128
        var state: UInt32
        var flags: UInt32
        var parent: UInt128
        var epoch: UInt16
        var isVersion2: Bool
        static let hasParent: UInt32 = 4
        static let isBreaking: UInt32 = 2
    }

    struct Durable: Equatable {
        var timeout: UInt32
        var flags: UInt32
        var guid: UInt128
        var isVersion2: Bool
    }

    struct Reconnect: Equatable {
        var file: FileHandle
        var guid: UInt128
        var flags: UInt32
        var isVersion2: Bool
    }

    /// What the answer is to say besides.
    struct Wishes: Sendable {
        var maximalAccess = false
        /// Not when the file was last changed then.
        var maximalAccessStamp: UInt64?
        var diskID = false
    }

    /// Contexts about durable handles.
    private var seen: Set<String> = []
    var attributes: UnsafeRawBufferPointer?
    var security: UnsafeRawBufferPointer?
    var durable: Durable?
    var reconnect: Reconnect?
    var allocation: UInt64?
    var timewarp: UInt64?
    var wishes = Wishes()
    var lease: Lease?
    var applicationInstance: UInt128?

    private static func name(_ text: StaticString) -> [UInt8] {
        Array(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    private static let instance: [UInt8] = [
        0x45, 0xBC, 0xA6, 0x6A, 0xEF, 0xA7, 0xF7, 0x4A, 0x90, 0x08, 0xFA, 0x46, 0x2E, 0x14, 0x4D, 0x74,
    ]

    init(reading bytes: UnsafeRawBufferPointer) throws(BytesError) {
        guard !bytes.isEmpty else { return }
        var start = 0
        for _ in 0..<Self.countMax {
            guard start <= bytes.count - 16 else { throw .truncated }
            let all = Reader(UnsafeRawBufferPointer(rebasing: bytes[start...]))
            var reader = all
            let next = Int(try reader.u32LE())
            let nameOffset = Int(try reader.u16LE())
            let nameBytes = Int(try reader.u16LE())
            try reader.skip(2)
            let dataOffset = Int(try reader.u16LE())
            let dataBytes = Int(try reader.u32LE())
            guard dataBytes <= Self.dataMax else { throw .tooLong }
            guard nameBytes >= 4 else { throw .malformed }
            guard next == 0 || next % 8 == 0 && next >= 16 + nameBytes else { throw .malformed }
            let limit = next == 0 ? bytes.count - start : next
            guard limit <= bytes.count - start, nameOffset + nameBytes <= limit,
                dataBytes == 0 || dataOffset >= nameOffset + nameBytes && dataOffset + dataBytes <= limit
            else { throw .truncated }
            let name = Array(bytes[(start + nameOffset)..<(start + nameOffset + nameBytes)])
            let data =
                dataBytes == 0
                ? UnsafeRawBufferPointer(rebasing: bytes.suffix(0))
                : UnsafeRawBufferPointer(rebasing: bytes[(start + dataOffset)..<(start + dataOffset + dataBytes)])
            try take(name, data)
            if next == 0 {
                try checkDurability()
                return
            }
            start += next
        }
        throw .tooLong
    }

    /// Ways to ask for a durable handle, or for an earlier one, go together only as the first version allows it.
    private func checkDurability() throws(BytesError) {
        if let reconnect {
            guard seen.isSubset(of: reconnect.isVersion2 ? ["DH2C"] : ["DHnC", "DHnQ"]) else { throw .malformed }
        } else {
            guard seen.count < 2 else { throw .malformed }
        }
    }

    private mutating func take(_ name: [UInt8], _ data: UnsafeRawBufferPointer) throws(BytesError) {
        var reader = Reader(data)
        if name.starts(with: Self.name("DH")), name.count == 4 { seen.insert(String(decoding: name, as: UTF8.self)) }
        switch name {
        case Self.name("ExtA"): attributes = data
        case Self.name("SecD"): security = data
        case Self.name("AlSi"): allocation = try reader.u64LE()
        case Self.name("MxAc"):
            wishes.maximalAccess = true
            if data.count >= 8 { wishes.maximalAccessStamp = try reader.u64LE() }
        case Self.name("TWrp"): timewarp = try reader.u64LE()
        case Self.name("QFid"): wishes.diskID = true
        case Self.name("DHnQ"): durable = Durable(timeout: 0, flags: 0, guid: 0, isVersion2: false)
        case Self.name("DHnC"):
            let handle = FileHandle(persistent: try reader.u64LE(), volatile: try reader.u64LE())
            reconnect = Reconnect(file: handle, guid: 0, flags: 0, isVersion2: false)
        case Self.name("DH2Q"):
            let timeout = try reader.u32LE()
            let flags = try reader.u32LE()
            try reader.skip(8)
            let guid = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
            durable = Durable(timeout: timeout, flags: flags, guid: guid, isVersion2: true)
        case Self.name("DH2C"):
            let handle = FileHandle(persistent: try reader.u64LE(), volatile: try reader.u64LE())
            let guid = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
            reconnect = Reconnect(file: handle, guid: guid, flags: try reader.u32LE(), isVersion2: true)
        case Self.name("RqLs"):
            guard data.count == 32 || data.count == 52 else { throw .malformed }
            let key = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
            var lease = Lease(key: key, state: try reader.u32LE(), flags: 0, parent: 0, epoch: 0, isVersion2: false)
            lease.flags = try reader.u32LE()
            try reader.skip(8)
            if data.count == 52 {
                lease.parent = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
                lease.epoch = try reader.u16LE()
                lease.isVersion2 = true
            }
            self.lease = lease
        case Self.instance:
            guard data.count == 20 else { throw .malformed }
            try reader.skip(4)
            applicationInstance = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
        default: return
        }
    }
}

/// The contexts of an answer, one behind the other.
struct CreateAnswer {
    private var contexts: [(name: StaticString, data: [UInt8])] = []

    mutating func add(_ name: StaticString, _ data: [UInt8]) { contexts.append((name, data)) }
    var isEmpty: Bool { contexts.isEmpty }

    /// From `header`, where the answer begins, offsets count; `place` has room for offset and length.
    func write(into writer: inout Writer, at place: Int) {
        guard !contexts.isEmpty else { return }
        let start = writer.position
        for (index, context) in contexts.enumerated() {
            let begin = writer.position
            let next = writer.reserve(4)
            writer.u16LE(16)
            writer.u16LE(4)
            writer.u16LE(0)
            writer.u16LE(context.data.isEmpty ? 0 : 24)
            writer.u32LE(UInt32(context.data.count))
            writer.bytes(UnsafeRawBufferPointer(start: context.name.utf8Start, count: 4))
            writer.u32LE(0)
            context.data.withUnsafeBytes { writer.bytes($0) }
            guard index < contexts.count - 1 else { continue }
            writer.zeros(-(writer.position - begin) & 7)
            writer.patch(u32LE: UInt32(writer.position - begin), at: next)
        }
        writer.patch(u32LE: UInt32(start), at: place)
        writer.patch(u32LE: UInt32(writer.position - start), at: place + 4)
    }
}

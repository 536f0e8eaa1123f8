import Bytes

/// What an open's volume keeps of its handle, for the time after a restart ([MS-SMB2] 3.3.1.10).
struct KeptHandle: Equatable, Sendable {
    private static let version: UInt8 = 2
    private static let userBytesMax = 1024
    private static let shareBytesMax = 1024
    static let sequencesMax = 64

    var volatile: UInt64
    /// The client's own number.
    var client: UInt128
    var user: String
    /// It comes back by this one alone.
    var share: String
    /// Nil: of the first version.
    var guid: UInt128?
    var mode: UInt32
    var lockSequences: [UInt32: UInt8] = [:]

    /// Nil: it is of nobody who could come back.
    var record: [UInt8]? {
        let name = Array(user.utf8)
        let share = Array(share.utf8)
        guard name.count <= Self.userBytesMax, share.count <= Self.shareBytesMax else { return nil }
        var data: [UInt8] = [Self.version]
        data.u64(volatile)
        data.u128(client)
        data.u16(UInt16(name.count))
        data += name
        data.u16(UInt16(share.count))
        data += share
        data.append(guid == nil ? 0 : 1)
        data.u128(guid ?? 0)
        data.u32(mode)
        let sequences = lockSequences.sorted { $0.key < $1.key }.prefix(Self.sequencesMax)
        data.append(UInt8(sequences.count))
        for (place, number) in sequences {
            data.u32(place)
            data.append(number)
        }
        return data
    }

    init(_ open: Open, user: String, client: UInt128, _ durability: Durability) {
        self.init(
            volatile: open.handle.volatile, client: client, user: user, share: open.tree.share.name,
            guid: durability.guid, mode: open.mode)
        lockSequences = open.lockSequences
    }

    init(volatile: UInt64, client: UInt128, user: String, share: String, guid: UInt128?, mode: UInt32) {
        self.volatile = volatile
        self.client = client
        self.user = user
        self.share = share
        self.guid = guid
        self.mode = mode
    }

    /// Nil: it was written by another program.
    init?(_ record: [UInt8]) {
        let read = record.withUnsafeBytes { bytes in
            Result { () throws(BytesError) in try KeptHandle(reading: bytes) }
        }
        guard case .success(let kept) = read else { return nil }
        self = kept
    }

    @_lifetime(reader: copy reader)
    private static func text(_ reader: inout Reader, limit: Int) throws(BytesError) -> String {
        let count = Int(try reader.u16LE())
        guard count <= limit, let text = String(validating: try reader.bytes(count).array(), as: UTF8.self) else {
            throw .malformed
        }
        return text
    }

    private init(reading bytes: UnsafeRawBufferPointer) throws(BytesError) {
        var reader = Reader(bytes)
        guard try reader.u8() == Self.version else { throw .malformed }
        volatile = try reader.u64LE()
        client = try reader.u128LE()
        user = try Self.text(&reader, limit: Self.userBytesMax)
        share = try Self.text(&reader, limit: Self.shareBytesMax)
        let hasGUID = try reader.u8() != 0
        let number = try reader.u128LE()
        guid = hasGUID ? number : nil
        mode = try reader.u32LE()
        let sequences = Int(try reader.u8())
        guard sequences <= Self.sequencesMax else { throw .malformed }
        for _ in 0..<sequences {
            let place = try reader.u32LE()
            lockSequences[place] = try reader.u8()
        }
        guard reader.isAtEnd else { throw .malformed }
    }
}

extension [UInt8] {
    fileprivate mutating func u128(_ value: UInt128) {
        u64(UInt64(truncatingIfNeeded: value))
        u64(UInt64(truncatingIfNeeded: value >> 64))
    }
}

extension Reader {
    fileprivate mutating func u128LE() throws(BytesError) -> UInt128 {
        UInt128(try u64LE()) | UInt128(try u64LE()) << 64
    }
}

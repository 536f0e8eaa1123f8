import Bytes

/// The messages of [MS-NLMP].
package enum NTLM {
    static let signature: [UInt8] = Array("NTLMSSP\0".utf8)
    package static let challengeBytes = 8
    static let proofBytes = 16
    /// Of a user's, a domain's, a host's name in UTF-16.
    static let nameBytesMax = 1024
    static let responseMax = 32 << 10
    /// Of a client's first message: it has room for two names and a version.
    package static let negotiateMax = 2 << 10

    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let unicode = Flags(rawValue: 0x1)
        package static let requestTarget = Flags(rawValue: 0x4)
        package static let sign = Flags(rawValue: 0x10)
        package static let seal = Flags(rawValue: 0x20)
        package static let ntlm = Flags(rawValue: 0x200)
        package static let anonymous = Flags(rawValue: 0x800)
        package static let alwaysSign = Flags(rawValue: 0x8000)
        package static let targetIsServer = Flags(rawValue: 0x2_0000)
        package static let extendedSecurity = Flags(rawValue: 0x8_0000)
        package static let targetInfo = Flags(rawValue: 0x80_0000)
        package static let version = Flags(rawValue: 0x200_0000)
        package static let key128 = Flags(rawValue: 0x2000_0000)
        package static let keyExchange = Flags(rawValue: 0x4000_0000)
        package static let key56 = Flags(rawValue: 0x8000_0000)
    }

    /// [MS-NLMP] 2.2.2.1, AvId.
    enum Pair {
        static let end: UInt16 = 0
        static let computer: UInt16 = 1
        static let domain: UInt16 = 2
        static let computerDNS: UInt16 = 3
        static let domainDNS: UInt16 = 4
        static let flags: UInt16 = 6
        static let timestamp: UInt16 = 7
        static let channelBindings: UInt16 = 10
        /// In `flags`: the client has added a proof over all three messages.
        static let hasProof: UInt32 = 2
    }

    /// [MS-NLMP] 2.2.1.1.
    package struct Negotiate: Equatable {
        package var flags: Flags

        package init(reading bytes: UnsafeRawBufferPointer) throws(BytesError) {
            var reader = Reader(bytes)
            try NTLM.begin(&reader, 1)
            flags = Flags(rawValue: try reader.u32LE())
        }
    }

    /// [MS-NLMP] 2.2.1.2.
    package struct Challenge {
        package var flags: Flags
        package var challenge: [UInt8]
        package var target: [UInt8]
        package var info: [UInt8]

        package func encoded() -> [UInt8] {
            var bytes = NTLM.signature
            bytes.u32(2)
            bytes.field(target.count, at: 56)
            bytes.u32(flags.rawValue)
            bytes += challenge
            bytes += [UInt8](repeating: 0, count: 8)
            bytes.field(info.count, at: 56 + target.count)
            // A version that says no more than that the current revision is spoken.
            bytes += [10, 0, 0, 0, 0, 0, 0, 15]
            return bytes + target + info
        }
    }

    /// [MS-NLMP] 2.2.1.3.
    package struct Authenticate {
        package var lmResponse: [UInt8]
        package var response: [UInt8]
        package var domain: [UInt8]
        package var user: [UInt8]
        package var encryptedKey: [UInt8]
        package var flags: Flags
        /// Where the proof lies in the message, if there is room for one before the first field's content.
        package var proof: [UInt8]?
        static let proofOffset = 72

        package init(reading bytes: UnsafeRawBufferPointer) throws(BytesError) {
            var reader = Reader(bytes)
            try NTLM.begin(&reader, 3)
            lmResponse = try NTLM.field(&reader, bytes, limit: NTLM.responseMax)
            response = try NTLM.field(&reader, bytes, limit: NTLM.responseMax)
            domain = try NTLM.field(&reader, bytes, limit: NTLM.nameBytesMax)
            user = try NTLM.field(&reader, bytes, limit: NTLM.nameBytesMax)
            _ = try NTLM.field(&reader, bytes, limit: NTLM.nameBytesMax)
            encryptedKey = try NTLM.field(&reader, bytes, limit: 64)
            flags = Flags(rawValue: try reader.u32LE())
            if bytes.count >= Self.proofOffset + NTLM.proofBytes {
                proof = Array(bytes[Self.proofOffset..<(Self.proofOffset + NTLM.proofBytes)])
            }
        }
    }

    @_lifetime(reader: copy reader)
    private static func begin(_ reader: inout Reader, _ type: UInt32) throws(BytesError) {
        guard try reader.bytes(8).array() == signature, try reader.u32LE() == type else { throw .malformed }
    }

    @_lifetime(reader: copy reader)
    private static func field(
        _ reader: inout Reader, _ bytes: UnsafeRawBufferPointer, limit: Int
    ) throws(BytesError) -> [UInt8] {
        let count = Int(try reader.u16LE())
        try reader.skip(2)
        let offset = Int(try reader.u32LE())
        guard count <= limit else { throw .tooLong }
        guard count > 0 else { return [] }
        guard offset <= bytes.count, count <= bytes.count - offset else { throw .truncated }
        return Array(bytes[offset..<(offset + count)])
    }

    /// The pairs of a target information; nil when it does not end as it should.
    package static func pairs(_ bytes: some Collection<UInt8>) -> [(id: UInt16, value: [UInt8])]? {
        var pairs: [(id: UInt16, value: [UInt8])] = []
        let bytes = Array(bytes)
        var at = 0
        while at + 4 <= bytes.count, pairs.count < 64 {
            let id = UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8
            let count = Int(bytes[at + 2]) | Int(bytes[at + 3]) << 8
            if id == Pair.end { return pairs }
            guard at + 4 + count <= bytes.count else { return nil }
            pairs.append((id, Array(bytes[(at + 4)..<(at + 4 + count)])))
            at += 4 + count
        }
        return nil
    }
}

extension [UInt8] {
    mutating func u16(_ value: UInt16) {
        append(UInt8(truncatingIfNeeded: value))
        append(UInt8(truncatingIfNeeded: value >> 8))
    }

    mutating func u32(_ value: UInt32) {
        u16(UInt16(truncatingIfNeeded: value))
        u16(UInt16(truncatingIfNeeded: value >> 16))
    }

    mutating func u64(_ value: UInt64) {
        u32(UInt32(truncatingIfNeeded: value))
        u32(UInt32(truncatingIfNeeded: value >> 32))
    }

    /// [MS-NLMP]'s length, allocated length, offset.
    fileprivate mutating func field(_ count: Int, at offset: Int) {
        u16(UInt16(count))
        u16(UInt16(count))
        u32(UInt32(offset))
    }

    mutating func pair(_ id: UInt16, _ value: [UInt8]) {
        u16(id)
        u16(UInt16(value.count))
        self += value
    }
}

/// A security identifier of Windows, in the form of the wire ([MS-DTYP] 2.4.2.2): revision, count, authority, and up
/// to 15 numbers.
public struct SID: Hashable, Sendable {
    public static let numbersMax = 15
    public static let bytesMax = 8 + 4 * numbersMax

    /// Always well-formed.
    public let bytes: [UInt8]

    public init?(authority: UInt64, _ numbers: [UInt32]) {
        guard authority < 1 << 48, numbers.count <= Self.numbersMax else { return nil }
        self.init(checked: authority, numbers)
    }

    private init(checked authority: UInt64, _ numbers: [UInt32]) {
        var bytes: [UInt8] = [1, UInt8(numbers.count)]
        for shift in stride(from: 40, through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: authority >> UInt64(shift)))
        }
        for number in numbers {
            for shift in stride(from: 0, through: 24, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: number >> UInt32(shift)))
            }
        }
        self.bytes = bytes
    }

    /// From the start of what a client sent; nil when that is no SID.
    public init?(reading bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 8, bytes[0] == 1, bytes[1] <= UInt8(Self.numbersMax) else { return nil }
        let size = 8 + 4 * Int(bytes[1])
        guard bytes.count >= size else { return nil }
        self.bytes = Array(bytes[..<size])
    }

    /// `S-1-5-21-...`, authorities of more than 32 bits in hexadecimal.
    public init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 3, parts.count <= 3 + Self.numbersMax, parts[0] == "S" || parts[0] == "s", parts[1] == "1"
        else { return nil }
        let isHexadecimal = parts[2].hasPrefix("0x") || parts[2].hasPrefix("0X")
        guard let authority = isHexadecimal ? UInt64(parts[2].dropFirst(2), radix: 16) : UInt64(parts[2]) else {
            return nil
        }
        var numbers: [UInt32] = []
        for part in parts[3...] {
            guard let number = UInt32(part) else { return nil }
            numbers.append(number)
        }
        self.init(authority: authority, numbers)
    }

    public var authority: UInt64 { bytes[2..<8].reduce(0) { $0 << 8 | UInt64($1) } }

    public var numbers: [UInt32] {
        (0..<Int(bytes[1])).map { index in
            let at = 8 + 4 * index
            return UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16 | UInt32(bytes[at + 3])
                << 24
        }
    }

    public static let everyone = SID(checked: 1, [0])
    public static let creatorOwner = SID(checked: 3, [0])
    public static let creatorGroup = SID(checked: 3, [1])
    /// Its entries say what the owner may do, in place of what he otherwise always may.
    public static let ownerRights = SID(checked: 3, [4])
    public static let authenticatedUsers = SID(checked: 5, [11])

    /// Of a uid that no user has.
    public static func unknownUser(_ uid: UInt32) -> SID { SID(checked: 22, [1, uid]) }
    /// Of a gid that no group has.
    public static func unknownGroup(_ gid: UInt32) -> SID { SID(checked: 22, [2, gid]) }
    static func domain(_ a: UInt32, _ b: UInt32, _ c: UInt32, _ rid: UInt32) -> SID {
        SID(checked: 5, [21, a, b, c, rid])
    }
}

extension SID: CustomStringConvertible {
    public var description: String {
        let authority = authority
        let text = authority < 1 << 32 ? "\(authority)" : "0x" + String(authority, radix: 16)
        return (["S-1", text] + numbers.map { "\($0)" }).joined(separator: "-")
    }
}

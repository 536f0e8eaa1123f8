/// Integers in groups of seven bits, lowest first, the high bit set on all groups but the last (LEB128). Each value
/// has exactly one form: equal records are equal bytes, and a checksum over them means something.
public enum Varint {
    /// The longest form of 64 bits.
    public static let lengthMax = 10

    /// How many bytes `value` takes.
    @inlinable
    public static func length(_ value: UInt64) -> Int {
        let bits = UInt64.bitWidth - (value | 1).leadingZeroBitCount
        return (bits + 6) / 7
    }

    /// Small numbers of either sign become small numbers without one.
    @inlinable
    public static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: (value << 1) ^ (value >> 63)) }

    @inlinable
    public static func unzigzag(_ value: UInt64) -> Int64 {
        Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }
}

extension Reader {
    /// Refuses forms longer than the value needs, and values beyond 64 bits.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func varint() throws(BytesError) -> UInt64 {
        let first = try u8()
        if first < 0x80 { return UInt64(first) }
        var value = UInt64(first & 0x7f)
        var shift: UInt64 = 7
        while true {
            let byte = try u8()
            // The tenth byte has room for one bit.
            if shift == 63, byte > 1 { throw .malformed }
            value |= UInt64(byte & 0x7f) &<< shift
            if byte < 0x80 {
                guard byte != 0 else { throw .malformed }
                return value
            }
            shift += 7
        }
    }

    /// A varint of either sign, in zigzag form.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func signedVarint() throws(BytesError) -> Int64 { Varint.unzigzag(try varint()) }

    /// A varint that counts things: at most `limit`.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func varint(limit: Int) throws(BytesError) -> Int {
        let value = try varint()
        guard let count = Int(exactly: value), count <= limit else { throw .tooLong }
        return count
    }
}

extension Writer {
    @inlinable
    public mutating func varint(_ value: UInt64) {
        var rest = value
        // One check for the whole, so that a value is written entirely or not at all.
        guard var place = claim(Varint.length(value)) else { return }
        while rest >= 0x80 {
            place.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
            place += 1
            rest >>= 7
        }
        place.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
    }

    @inlinable
    public mutating func signedVarint(_ value: Int64) { varint(Varint.zigzag(value)) }
}

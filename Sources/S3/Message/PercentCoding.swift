import Crypto

/// `%41` and back.
enum PercentCoding {
    /// Nil: a percent sign without two digits.
    static func decode(_ text: some Collection<UInt8>, plusIsSpace: Bool = false) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var index = text.startIndex
        while index != text.endIndex {
            let byte = text[index]
            index = text.index(after: index)
            if byte == UInt8(ascii: "+"), plusIsSpace {
                bytes.append(0x20)
                continue
            }
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard index != text.endIndex, let high = Hexadecimal.value(text[index]) else { return nil }
            index = text.index(after: index)
            guard index != text.endIndex, let low = Hexadecimal.value(text[index]) else { return nil }
            index = text.index(after: index)
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static let digits = Array("0123456789ABCDEF".utf8)

    /// All but unreserved characters (RFC 3986 2.3), as signatures want it.
    static func encode(_ bytes: some Sequence<UInt8>, keepsSlash: Bool, into text: inout [UInt8]) {
        for byte in bytes {
            if isUnreserved(byte) || (keepsSlash && byte == UInt8(ascii: "/")) {
                text.append(byte)
            } else {
                text.append(UInt8(ascii: "%"))
                text.append(digits[Int(byte >> 4)])
                text.append(digits[Int(byte & 15)])
            }
        }
    }

    static func encode(_ bytes: some Sequence<UInt8>, keepsSlash: Bool) -> [UInt8] {
        var text: [UInt8] = []
        encode(bytes, keepsSlash: keepsSlash, into: &text)
        return text
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e: true
        default: false
        }
    }
}

import XML

/// A page of a listing, as S3 writes it.
struct S3Listing {
    var entries: [(key: String, size: UInt64)] = []
    var isTruncated = false

    /// Nil: that is no listing.
    init?(_ bytes: [UInt8]) {
        guard let root = XMLElement(parsing: bytes), root.name == "ListBucketResult" else { return nil }
        isTruncated = root.text("IsTruncated") == "true"
        // XML can not say every name: stores escape them when they are asked to, and say that they did.
        let isEscaped = root.text("EncodingType") == "url"
        for item in root.all("Contents") {
            guard let key = item.text("Key"), let size = item.text("Size").flatMap({ UInt64($0) }) else { return nil }
            guard isEscaped else {
                entries.append((key, size))
                continue
            }
            guard let plain = Self.plain(key) else { return nil }
            entries.append((plain, size))
        }
    }

    /// Nil: an escape is none.
    private static func plain(_ key: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(key.utf8)[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(0x20)
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else {
                    return nil
                }
                bytes.append(high << 4 | low)
            default: bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}

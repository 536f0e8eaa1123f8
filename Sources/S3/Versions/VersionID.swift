/// Names a version of an object. Each has one of its own; the one that was made without versions, or by a file client, is
/// `null`.
package enum VersionID: Equatable, Sendable {
    case null
    case stamped(Stamp)

    /// When the version was made, and what tells it from others of that moment.
    package struct Stamp: Equatable, Sendable {
        /// Nanoseconds since 1970; rises from version to version of a key.
        package var time: UInt64
        package var salt: UInt64

        package init(time: UInt64, salt: UInt64) { (self.time, self.salt) = (time, salt) }

        /// The newest comes first in byte order.
        fileprivate var text: String { Self.digits(~time) + Self.digits(salt) }

        fileprivate static func digits(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.utf8.count) + text
        }

        package var bytes: [UInt8] {
            [time, salt].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * UInt64($0))) } }
        }

        package init?(_ bytes: [UInt8]) {
            guard bytes.count == 16 else { return nil }
            time = bytes[..<8].reduce(0) { $0 << 8 | UInt64($1) }
            salt = bytes[8...].reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    package var text: String {
        switch self {
        case .null: "null"
        case .stamped(let stamp): stamp.text
        }
    }

    /// Nil: it can be no version's.
    package init?(_ text: some StringProtocol) {
        if text == "null" {
            self = .null
            return
        }
        let digits = Array(text.utf8)
        guard digits.count == 32, let time = Self.number(digits[..<16]), let salt = Self.number(digits[16...]) else {
            return nil
        }
        self = .stamped(Stamp(time: ~time, salt: salt))
    }

    fileprivate static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: value = value << 4 | UInt64(digit - 0x30)
            case 0x61...0x66: value = value << 4 | UInt64(digit - 0x57)
            default: return nil
            }
        }
        return value
    }
}

/// Where a version lies below its bucket's shelf. In the byte order of these paths keys are in their own order, and of one
/// key the newest version comes first.
///
/// The key, with `.` and `/` and the byte 1 written so that the order stays and no slash is left, is cut into names; behind
/// it come two bytes 1, which are before all that another key can go on with, the time with its bits turned, the salt, and
/// `v`, or `m` for a mark that the object was deleted.
package struct ShelfPath: Equatable, Sendable {
    /// With what comes behind it a name stays below 255 bytes.
    package static let pieceBytes = 200
    private static let end: [UInt8] = [1, 1]
    private static let null = Array("null".utf8)

    package var key: [UInt8]
    package var id: VersionID
    package var time: UInt64
    package var isMark: Bool

    package init(key: [UInt8], id: VersionID, time: UInt64, isMark: Bool) {
        (self.key, self.id, self.time, self.isMark) = (key, id, time, isMark)
    }

    /// The beginning of the paths of all keys that begin so.
    package static func prefix(ofKeys prefix: [UInt8]) -> [UInt8] {
        var path: [UInt8] = []
        var count = 0
        func append(_ byte: UInt8) {
            if count > 0, count % pieceBytes == 0 { path.append(UInt8(ascii: "/")) }
            path.append(byte)
            count += 1
        }
        for byte in prefix {
            switch byte {
            case 1:
                append(1)
                append(2)
            case UInt8(ascii: "."):
                append(UInt8(ascii: "."))
                append(1)
            case UInt8(ascii: "/"):
                append(UInt8(ascii: "."))
                append(2)
            default: append(byte)
            }
        }
        return path
    }

    /// The beginning of the paths of all versions of a key.
    package static func prefix(ofVersionsOf key: [UInt8]) -> [UInt8] { prefix(ofKeys: key) + end }

    /// The beginning of the path of a version whose id tells its time.
    package static func prefix(of stamp: VersionID.Stamp, of key: [UInt8]) -> [UInt8] {
        prefix(ofVersionsOf: key) + Array(stamp.text.utf8)
    }

    package var bytes: [UInt8] {
        let salt: [UInt8] =
            switch id {
            case .null: Self.null
            case .stamped(let stamp): Array(VersionID.Stamp.digits(stamp.salt).utf8)
            }
        return Self.prefix(ofVersionsOf: key) + Array(VersionID.Stamp.digits(~time).utf8) + salt
            + [UInt8(ascii: isMark ? "m" : "v")]
    }

    /// Nil: it is not one of ours.
    package init?(_ path: UnsafeRawBufferPointer) {
        let bytes = path.filter { $0 != UInt8(ascii: "/") }
        guard let last = bytes.last, last == UInt8(ascii: "v") || last == UInt8(ascii: "m") else { return nil }
        isMark = last == UInt8(ascii: "m")
        let rest = bytes.dropLast()
        let width: Int
        if rest.suffix(4).elementsEqual(Self.null) { width = 20 } else { width = 32 }
        guard rest.count >= width + 2, rest.dropLast(width).suffix(2).elementsEqual(Self.end),
            let time = VersionID.number(rest.suffix(width).prefix(16))
        else { return nil }
        self.time = ~time
        if width == 20 {
            id = .null
        } else {
            guard let salt = VersionID.number(rest.suffix(16)) else { return nil }
            id = .stamped(VersionID.Stamp(time: ~time, salt: salt))
        }
        var key: [UInt8] = []
        var isEscaped: UInt8?
        for byte in rest.dropLast(width + 2) {
            if let first = isEscaped {
                switch (first, byte) {
                case (1, 2): key.append(1)
                case (UInt8(ascii: "."), 1): key.append(UInt8(ascii: "."))
                case (UInt8(ascii: "."), 2): key.append(UInt8(ascii: "/"))
                default: return nil
                }
                isEscaped = nil
            } else if byte == 1 || byte == UInt8(ascii: ".") {
                isEscaped = byte
            } else {
                key.append(byte)
            }
        }
        guard isEscaped == nil else { return nil }
        self.key = key
    }
}

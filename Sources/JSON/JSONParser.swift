/// Why a text is no JSON value that we take.
public struct JSONFault: Error, Equatable, Sendable {
    public let offset: Int
    public let reason: String
}

extension JSON {
    public static let depthMax = 16
    public static let valuesMax = 1 << 20

    public init(_ bytes: [UInt8]) throws(JSONFault) {
        var parser = JSONParser(bytes)
        self = try parser.parse()
    }
}

/// Reads one value and nothing behind it. A stack of its own in place of recursion, so that no text makes it fail.
private struct JSONParser {
    private let bytes: [UInt8]
    private var offset = 0
    private var values = 0

    /// What is open: an array, or an object that waits for the value of `name`.
    private struct Level {
        var isObject: Bool
        var items: [JSON] = []
        var members: [JSON.Member] = []
        var name = ""
    }

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func parse() throws(JSONFault) -> JSON {
        var levels: [Level] = []
        while true {
            var finished: JSON?
            skipSpace()
            switch peek {
            case UInt8(ascii: "["):
                try deepen(levels.count)
                if take("]") { finished = .array([]) } else { levels.append(Level(isObject: false)) }
            case UInt8(ascii: "{"):
                try deepen(levels.count)
                if take("}") {
                    finished = .object([])
                } else {
                    levels.append(Level(isObject: true, name: try name()))
                }
            default: finished = try scalar()
            }
            values += 1
            guard values <= JSON.valuesMax else { throw fault("too many values") }
            // Everything that this value completes.
            while let value = finished {
                guard var level = levels.popLast() else {
                    skipSpace()
                    guard offset == bytes.count else { throw fault("something behind the value") }
                    return value
                }
                finished = nil
                if level.isObject {
                    level.members.append(JSON.Member(level.name, value))
                    if take(",") {
                        level.name = try name()
                    } else if take("}") {
                        finished = .object(level.members)
                    } else {
                        throw fault("expected , or }")
                    }
                } else {
                    level.items.append(value)
                    if take("]") {
                        finished = .array(level.items)
                    } else if !take(",") {
                        throw fault("expected , or ]")
                    }
                }
                if finished == nil { levels.append(level) }
            }
        }
    }

    private mutating func deepen(_ levels: Int) throws(JSONFault) {
        guard levels < JSON.depthMax else { throw fault("nested too deeply") }
        offset += 1
    }

    private func fault(_ reason: String) -> JSONFault { JSONFault(offset: offset, reason: reason) }
    private var peek: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { offset += 1 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard let byte = peek, UInt32(byte) == character.value else { return false }
        offset += 1
        return true
    }

    private mutating func name() throws(JSONFault) -> String {
        skipSpace()
        guard peek == UInt8(ascii: "\"") else { throw fault("expected a member's name") }
        let name = try string()
        guard take(":") else { throw fault("expected :") }
        return name
    }

    private mutating func scalar() throws(JSONFault) -> JSON {
        switch peek {
        case UInt8(ascii: "\""): return .string(try string())
        case .some(UInt8(ascii: "-")), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return try number()
        default:
            for (word, value) in [("true", JSON.bool(true)), ("false", .bool(false)), ("null", .null)]
            where bytes[offset...].starts(with: word.utf8) {
                offset += word.utf8.count
                return value
            }
            throw fault("expected a value")
        }
    }

    private mutating func number() throws(JSONFault) -> JSON {
        let start = offset
        while let byte = peek, byte == UInt8(ascii: "-") || (0x30...0x39).contains(byte) { offset += 1 }
        let text = String(decoding: bytes[start..<offset], as: UTF8.self)
        if let next = peek, [0x2e, 0x65, 0x45].contains(next) { throw fault("only whole numbers are taken") }
        let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
        guard digits.count == 1 || !digits.hasPrefix("0") else { throw fault("a number begins with 0") }
        if let number = Int64(text) { return .integer(number) }
        if let number = UInt64(text) { return .unsigned(number) }
        throw fault("no number, or too large")
    }

    private mutating func string() throws(JSONFault) -> String {
        offset += 1
        var text: [UInt8] = []
        while let byte = peek {
            offset += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else { throw fault("not UTF-8") }
                return string
            case UInt8(ascii: "\\"): text += try escaped()
            case 0..<0x20: throw fault("a control character in a string")
            default: text.append(byte)
            }
        }
        throw fault("a string does not end")
    }

    private mutating func escaped() throws(JSONFault) -> [UInt8] {
        guard let byte = peek else { throw fault("a string does not end") }
        offset += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [8]
        case UInt8(ascii: "f"): return [12]
        case UInt8(ascii: "n"): return [10]
        case UInt8(ascii: "r"): return [13]
        case UInt8(ascii: "t"): return [9]
        case UInt8(ascii: "u"):
            var value = UInt32(try unit())
            if (0xd800..<0xdc00).contains(value) {
                guard bytes[offset...].starts(with: "\\u".utf8) else { throw fault("half a surrogate pair") }
                offset += 2
                let low = UInt32(try unit())
                guard (0xdc00..<0xe000).contains(low) else { throw fault("half a surrogate pair") }
                value = 0x10000 + (value - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(value) else { throw fault("half a surrogate pair") }
            return Array(String(Character(scalar)).utf8)
        default: throw fault("an unknown escape")
        }
    }

    private mutating func unit() throws(JSONFault) -> UInt16 {
        guard bytes.count - offset >= 4 else { throw fault("a string does not end") }
        let digits = bytes[offset..<offset + 4]
        guard digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
            let value = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw fault("four hexadecimal digits are expected") }
        offset += 4
        return value
    }
}

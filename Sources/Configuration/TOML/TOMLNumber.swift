/// TOML's grammar of numbers, narrower than what the standard library takes.
enum TOMLNumber {
    case integer(Int64)
    case float(Double)
    case tooLarge
    case invalid

    static func looksLikeDate(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return bytes.count >= 8 && bytes[4] == UInt8(ascii: "-") && bytes[7] == UInt8(ascii: "-")
            && bytes[..<4].allSatisfy(isDigit)
    }

    static func read(_ text: String) -> TOMLNumber {
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] where text.hasPrefix(prefix) {
            guard let digits = withoutUnderscores(text.dropFirst(2), { isDigit($0, radix) }) else { return .invalid }
            return Int64(digits, radix: radix).map(TOMLNumber.integer) ?? .tooLarge
        }
        var body = text[...]
        if body.hasPrefix("+") || body.hasPrefix("-") { body = body.dropFirst() }
        let exponentAt = body.firstIndex { $0 == "e" || $0 == "E" }
        let mantissa = body[..<(exponentAt ?? body.endIndex)]
        let parts = mantissa.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = withoutUnderscores(parts[0], { isDigit($0) }) else { return .invalid }
        // A leading zero would be octal elsewhere: refused.
        if whole.utf8.count > 1, whole.hasPrefix("0") { return .invalid }
        var number = (text.hasPrefix("-") ? "-" : "") + whole
        if parts.count == 1, exponentAt == nil { return Int64(number).map(TOMLNumber.integer) ?? .tooLarge }
        if parts.count == 2 {
            guard let fraction = withoutUnderscores(parts[1], { isDigit($0) }) else { return .invalid }
            number += "." + fraction
        }
        if let exponentAt {
            var exponent = body[body.index(after: exponentAt)...]
            number += "e"
            if exponent.hasPrefix("+") || exponent.hasPrefix("-") { number.append(exponent.removeFirst()) }
            guard let digits = withoutUnderscores(exponent, { isDigit($0) }) else { return .invalid }
            number += digits
        }
        return Double(number).map(TOMLNumber.float) ?? .invalid
    }

    /// The digits alone; nil when there are none, another character, or an underscore that is not between digits.
    private static func withoutUnderscores(_ text: Substring, _ isDigit: (UInt8) -> Bool) -> String? {
        var digits: [UInt8] = []
        var afterDigit = false
        for byte in text.utf8 {
            if byte == UInt8(ascii: "_") {
                guard afterDigit else { return nil }
                afterDigit = false
            } else {
                guard isDigit(byte) else { return nil }
                digits.append(byte)
                afterDigit = true
            }
        }
        return afterDigit ? String(decoding: digits, as: UTF8.self) : nil
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

    private static func isDigit(_ byte: UInt8, _ radix: Int) -> Bool {
        guard let value = Character(Unicode.Scalar(byte)).hexDigitValue else { return false }
        return value < radix
    }
}

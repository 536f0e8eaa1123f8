/// The text's smallest parts: spaces, comments, names, strings, numbers. Every look ahead is checked for the end.
struct TOMLScanner {
    private let bytes: [UInt8]
    private(set) var offset = 0

    init(_ bytes: [UInt8]) throws(TOMLError) {
        guard bytes.count <= TOMLDocument.bytesMax else {
            throw TOMLError(
                position: TOMLPosition(of: 0, in: []), message: "larger than \(TOMLDocument.bytesMax) bytes")
        }
        self.bytes = bytes
        if let bad = Self.firstInvalidUTF8(bytes) { throw failure("not valid UTF-8", at: bad) }
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { offset = 3 }
    }

    private static func firstInvalidUTF8(_ bytes: [UInt8]) -> Int? {
        if String(validating: bytes, as: UTF8.self) != nil { return nil }
        var offset = 0
        var iterator = bytes.makeIterator()
        var decoder = UTF8()
        while case .scalarValue(let scalar) = decoder.decode(&iterator) { offset += UTF8.width(scalar) }
        return offset
    }

    func position(of offset: Int) -> TOMLPosition { TOMLPosition(of: offset, in: bytes) }

    func failure(_ message: String, at offset: Int) -> TOMLError {
        TOMLError(position: position(of: offset), message: message)
    }

    // MARK: Single bytes

    var peek: UInt8? { offset < bytes.count ? bytes[offset] : nil }
    private func peek(_ ahead: Int) -> UInt8? { offset + ahead < bytes.count ? bytes[offset + ahead] : nil }

    mutating func advance() { offset = min(offset + 1, bytes.count) }

    mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: character) else { return false }
        offset += 1
        return true
    }

    mutating func expect(_ character: Unicode.Scalar, in place: String) throws(TOMLError) {
        if !take(character) { throw failure("expected '\(character)' in \(place), found \(found)", at: offset) }
    }

    private var found: String {
        guard let byte = peek else { return "the end of the file" }
        if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { return "the end of the line" }
        if byte < 0x20 || byte == 0x7f { return "a control character" }
        let rest = String(decoding: bytes[offset..<min(offset + 4, bytes.count)], as: UTF8.self)
        return "'\(rest.unicodeScalars.first.map(String.init) ?? "")'"
    }

    // MARK: Between values

    mutating func skipSpaces() {
        while let byte = peek, byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") { offset += 1 }
    }

    mutating func skipBlankLines() throws(TOMLError) {
        while true {
            skipSpaces()
            try skipComment()
            if !takeNewline() { return }
        }
    }

    mutating func endOfLine() throws(TOMLError) {
        skipSpaces()
        try skipComment()
        if peek != nil, !takeNewline() { throw failure("expected the end of the line, found \(found)", at: offset) }
    }

    private mutating func takeNewline() -> Bool {
        if peek == UInt8(ascii: "\r"), peek(1) == UInt8(ascii: "\n") { offset += 1 }
        return take("\n")
    }

    private mutating func skipComment() throws(TOMLError) {
        guard take("#") else { return }
        while let byte = peek, byte != UInt8(ascii: "\n") {
            if byte == UInt8(ascii: "\r"), peek(1) == UInt8(ascii: "\n") { return }
            if Self.isControl(byte) { throw failure("a control character in a comment", at: offset) }
            offset += 1
        }
    }

    private static func isControl(_ byte: UInt8) -> Bool {
        byte < 0x20 && byte != UInt8(ascii: "\t") || byte == 0x7f
    }

    // MARK: Names and strings

    mutating func simpleKey() throws(TOMLError) -> String {
        let start = offset
        if let byte = peek, byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
            if peek(1) == byte, peek(2) == byte { throw failure("a key can not be a multi-line string", at: start) }
            return try string()
        }
        while let byte = peek, Self.isBare(byte) { offset += 1 }
        if start == offset { throw failure("expected a key, found \(found)", at: offset) }
        return String(decoding: bytes[start..<offset], as: UTF8.self)
    }

    private static func isBare(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    mutating func string() throws(TOMLError) -> String {
        let start = offset
        guard let quote = peek else { throw failure("expected a string, found \(found)", at: start) }
        let multiline = peek(1) == quote && peek(2) == quote
        offset += multiline ? 3 : 1
        if multiline { _ = takeNewline() }
        var text: [UInt8] = []
        while let byte = peek {
            if byte == quote, try closes(quote, multiline, &text, start) {
                return String(decoding: text, as: UTF8.self)
            }
            if byte == quote { continue }
            if byte == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
                try escape(multiline, &text)
            } else if multiline, takeNewline() {
                text.append(UInt8(ascii: "\n"))
            } else if Self.isControl(byte) {
                if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { break }
                throw failure("a control character in a string; write it as an escape", at: offset)
            } else {
                text.append(byte)
                offset += 1
            }
        }
        throw failure("a string that never ends", at: start)
    }

    /// At a quote: whether it ends the string. Up to two quotes may stand before the three that end a long one.
    private mutating func closes(
        _ quote: UInt8, _ multiline: Bool, _ text: inout [UInt8], _ start: Int
    ) throws(TOMLError) -> Bool {
        guard multiline else {
            offset += 1
            return true
        }
        var run = 0
        while run < 6, peek(run) == quote { run += 1 }
        if run > 5 { throw failure("too many quotes", at: offset) }
        offset += run
        if run < 3 {
            text.append(contentsOf: repeatElement(quote, count: run))
            return false
        }
        text.append(contentsOf: repeatElement(quote, count: run - 3))
        return true
    }

    private mutating func escape(_ multiline: Bool, _ text: inout [UInt8]) throws(TOMLError) {
        let start = offset
        offset += 1
        guard let byte = peek else { return }
        offset += 1
        switch byte {
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "f"): text.append(0x0c)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): text.append(byte)
        case UInt8(ascii: "u"): try scalarEscape(4, start, &text)
        case UInt8(ascii: "U"): try scalarEscape(8, start, &text)
        default:
            // A backslash at a line's end swallows white space up to the next text.
            offset -= 1
            skipSpaces()
            guard multiline, takeNewline() else { throw failure("an unknown escape in a string", at: start) }
            repeat { skipSpaces() } while takeNewline()
        }
    }

    private mutating func scalarEscape(_ digits: Int, _ start: Int, _ text: inout [UInt8]) throws(TOMLError) {
        var value: UInt32 = 0
        for _ in 0..<digits {
            guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw failure("an escape needs \(digits) hexadecimal digits", at: start)
            }
            // Eight digits fill 32 bits exactly.
            value = value << 4 | UInt32(digit)
            offset += 1
        }
        guard let scalar = Unicode.Scalar(value) else { throw failure("an escape that is no character", at: start) }
        text.append(contentsOf: String(scalar).utf8)
    }

    // MARK: Numbers and booleans

    mutating func scalar() throws(TOMLError) -> TOMLNode.Value {
        let start = offset
        while let byte = peek, Self.isBare(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ".") {
            offset += 1
        }
        // Of a time: dates are recognised to be refused with a reason.
        let text = String(decoding: bytes[start..<offset], as: UTF8.self)
        switch text {
        case "": throw failure("expected a value, found \(found)", at: start)
        case "true": return .boolean(true)
        case "false": return .boolean(false)
        case "inf", "+inf": return .float(.infinity)
        case "-inf": return .float(-.infinity)
        case "nan", "+nan", "-nan": return .float(.nan)
        default: break
        }
        if peek == UInt8(ascii: ":") || TOMLNumber.looksLikeDate(text) {
            throw failure("a date or time; no key takes one", at: start)
        }
        switch TOMLNumber.read(text) {
        case .integer(let value): return .integer(value)
        case .float(let value): return .float(value)
        case .tooLarge: throw failure("'\(text)' does not fit into 64 bits", at: start)
        case .invalid: throw failure("'\(text)' is no value; is it a string without its quotes?", at: start)
        }
    }
}

/// XML on its way in: elements, their texts and their children. Attributes are read and dropped, prefixes too.
///
/// A strict parser of a small XML: no document types, so no entities beside the five; nothing that could grow.
package struct XMLElement: Sendable {
    package static let bytesMax = 4 << 20
    package static let depthMax = 12
    package static let elementsMax = 100_000
    package static let attributesMax = 16

    package var name: String
    /// Directly in the element, without the white space around it.
    package var text = ""
    package var children: [XMLElement] = []

    package init(name: String) { self.name = name }

    /// Nil: it is none.
    package init?(parsing bytes: [UInt8]) {
        guard bytes.count <= Self.bytesMax else { return nil }
        var parser = XMLParser(bytes)
        guard let root = parser.parse() else { return nil }
        self = root
    }

    package subscript(name: String) -> XMLElement? { children.first { $0.name == name } }
    package func all(_ name: String) -> [XMLElement] { children.filter { $0.name == name } }
    /// The text of a child; nil without one.
    package func text(_ name: String) -> String? { self[name]?.text }
}

private struct XMLParser {
    private let bytes: [UInt8]
    private var place = 0
    private var count = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private struct Open {
        var element: XMLElement
        /// As it was written, with its prefix.
        var tag: ArraySlice<UInt8>
        var text: [UInt8] = []
    }

    /// Nil: it is none.
    mutating func parse() -> XMLElement? {
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { place = 3 }
        skipSpace()
        if has("<?xml") {
            guard skip(past: "?>") else { return nil }
        }
        var stack: [Open] = []
        while true {
            if stack.isEmpty { skipSpace() }
            guard place < bytes.count else { return nil }
            guard bytes[place] == UInt8(ascii: "<") else {
                guard !stack.isEmpty, text(&stack[stack.count - 1].text) else { return nil }
                continue
            }
            if has("<!--") {
                guard comment() else { return nil }
            } else if has("<![CDATA[") {
                guard !stack.isEmpty, data(&stack[stack.count - 1].text) else { return nil }
            } else if has("</") {
                place += 2
                guard let tag = name(), let top = stack.popLast(), tag == top.tag else { return nil }
                skipSpace()
                guard take(UInt8(ascii: ">")), let done = Self.finished(top) else { return nil }
                guard !stack.isEmpty else { return end() ? done : nil }
                stack[stack.count - 1].element.children.append(done)
            } else {
                // Document types and instructions are not for us.
                place += 1
                guard let tag = name(), let isEmpty = attributes() else { return nil }
                count += 1
                guard count <= XMLElement.elementsMax, stack.count < XMLElement.depthMax else { return nil }
                let local = tag.split(separator: UInt8(ascii: ":")).last.map { String(decoding: $0, as: UTF8.self) }
                guard let local else { return nil }
                let open = Open(element: XMLElement(name: local), tag: tag)
                if isEmpty {
                    guard !stack.isEmpty else { return end() ? open.element : nil }
                    stack[stack.count - 1].element.children.append(open.element)
                } else {
                    stack.append(open)
                }
            }
        }
    }

    private static func finished(_ open: Open) -> XMLElement? {
        var element = open.element
        guard let text = String(validating: open.text, as: UTF8.self) else { return nil }
        // White space between elements means nothing; inside of a text alone it is the text's.
        element.text = element.children.isEmpty ? text : ""
        return element
    }

    /// Nothing but white space and comments may follow the root.
    private mutating func end() -> Bool {
        while true {
            skipSpace()
            if place == bytes.count { return true }
            guard has("<!--"), comment() else { return false }
        }
    }

    private func has(_ word: StaticString) -> Bool {
        word.withUTF8Buffer { bytes[place...].starts(with: $0) }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard place < bytes.count, bytes[place] == byte else { return false }
        place += 1
        return true
    }

    private mutating func skip(past word: StaticString) -> Bool {
        while place < bytes.count {
            if has(word) {
                place += word.utf8CodeUnitCount
                return true
            }
            place += 1
        }
        return false
    }

    private mutating func comment() -> Bool {
        place += 4
        return skip(past: "-->")
    }

    private mutating func data(_ text: inout [UInt8]) -> Bool {
        place += 9
        let start = place
        guard skip(past: "]]>") else { return false }
        text += bytes[start..<(place - 3)]
        return true
    }

    private mutating func skipSpace() {
        while place < bytes.count, Self.isSpace(bytes[place]) { place += 1 }
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 9 || byte == 10 || byte == 13 }

    private mutating func name() -> ArraySlice<UInt8>? {
        let start = place
        while place < bytes.count {
            switch bytes[place] {
            case 0x30...0x3a, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x80...0xff: place += 1
            default: return place > start && place - start <= 256 ? bytes[start..<place] : nil
            }
        }
        return nil
    }

    /// Whether the element ends with its tag.
    private mutating func attributes() -> Bool? {
        var seen = 0
        while true {
            let before = place
            skipSpace()
            if take(UInt8(ascii: ">")) { return false }
            if has("/>") {
                place += 2
                return true
            }
            seen += 1
            guard place > before, seen <= XMLElement.attributesMax, name() != nil else { return nil }
            skipSpace()
            guard take(UInt8(ascii: "=")) else { return nil }
            skipSpace()
            guard place < bytes.count, bytes[place] == UInt8(ascii: "\"") || bytes[place] == UInt8(ascii: "'") else {
                return nil
            }
            let quote = bytes[place]
            place += 1
            while place < bytes.count, bytes[place] != quote {
                guard bytes[place] != UInt8(ascii: "<") else { return nil }
                place += 1
            }
            guard take(quote) else { return nil }
        }
    }

    /// Up to the next tag.
    private mutating func text(_ text: inout [UInt8]) -> Bool {
        while place < bytes.count, bytes[place] != UInt8(ascii: "<") {
            guard bytes[place] == UInt8(ascii: "&") else {
                text.append(bytes[place])
                place += 1
                continue
            }
            guard reference(&text) else { return false }
        }
        return true
    }

    private mutating func reference(_ text: inout [UInt8]) -> Bool {
        guard let end = bytes[place...].prefix(12).firstIndex(of: UInt8(ascii: ";")) else { return false }
        let word = String(decoding: bytes[(place + 1)..<end], as: UTF8.self)
        place = end + 1
        switch word {
        case "amp": text.append(UInt8(ascii: "&"))
        case "lt": text.append(UInt8(ascii: "<"))
        case "gt": text.append(UInt8(ascii: ">"))
        case "quot": text.append(UInt8(ascii: "\""))
        case "apos": text.append(UInt8(ascii: "'"))
        default:
            guard word.hasPrefix("#") else { return false }
            let digits = word.dropFirst()
            let value =
                digits.hasPrefix("x") ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits, radix: 10)
            guard let value, let scalar = Unicode.Scalar(value), value >= 0x20 || [9, 10, 13].contains(value) else {
                return false
            }
            text += String(scalar).utf8
        }
        return true
    }
}

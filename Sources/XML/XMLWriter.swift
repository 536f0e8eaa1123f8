/// XML on its way out, escaped as it is written.
package struct XMLWriter {
    package private(set) var bytes = Array("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".utf8)

    package init() {}

    package static let namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

    /// A root element in the API's namespace.
    package mutating func root(_ name: StaticString, _ body: (inout XMLWriter) -> Void) {
        bytes += "<\(name) xmlns=\"\(Self.namespace)\">".utf8
        body(&self)
        close(name)
    }

    package mutating func element(_ name: StaticString, _ body: (inout XMLWriter) -> Void) {
        open(name)
        body(&self)
        close(name)
    }

    package mutating func element(_ name: StaticString, _ text: String) {
        open(name)
        append(text.utf8)
        close(name)
    }

    package mutating func element(_ name: StaticString, bytes text: some Collection<UInt8>) {
        open(name)
        append(text)
        close(name)
    }

    package mutating func element(_ name: StaticString, _ number: some BinaryInteger) {
        open(name)
        bytes += String(number).utf8
        close(name)
    }

    package mutating func element(_ name: StaticString, _ value: Bool) { element(name, value ? "true" : "false") }

    /// What is XML already.
    package mutating func raw(_ text: String) { bytes += text.utf8 }

    private mutating func open(_ name: StaticString) {
        bytes.append(UInt8(ascii: "<"))
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(UInt8(ascii: ">"))
    }

    private mutating func close(_ name: StaticString) {
        bytes.append(UInt8(ascii: "<"))
        bytes.append(UInt8(ascii: "/"))
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(UInt8(ascii: ">"))
    }

    /// Characters that XML 1.0 can not hold, in whatever form, become the sign for what is not shown.
    package mutating func append(_ text: some Collection<UInt8>) {
        if text.withContiguousStorageIfAvailable({ appendShown($0) }) == true { return }
        for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
            switch scalar {
            case "&": bytes += "&amp;".utf8
            case "<": bytes += "&lt;".utf8
            case ">": bytes += "&gt;".utf8
            case "\"": bytes += "&quot;".utf8
            case "\t", "\n", "\r": bytes += "&#\(scalar.value);".utf8
            case _ where scalar.value < 0x20 || scalar.value == 0xfffe || scalar.value == 0xffff:
                bytes += "\u{fffd}".utf8
            default: bytes += String(scalar).utf8
            }
        }
    }

    /// Most texts are signs of ASCII that are shown, of which a few are written otherwise. False: this one is not.
    private mutating func appendShown(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
        for byte in text where byte < 0x20 || byte >= 0x7f { return false }
        var start = 0
        for index in text.indices {
            let sign: StaticString
            switch text[index] {
            case UInt8(ascii: "&"): sign = "&amp;"
            case UInt8(ascii: "<"): sign = "&lt;"
            case UInt8(ascii: ">"): sign = "&gt;"
            case UInt8(ascii: "\""): sign = "&quot;"
            default: continue
            }
            bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start..<index]))
            sign.withUTF8Buffer { bytes.append(contentsOf: $0) }
            start = index + 1
        }
        bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start...]))
        return true
    }
}

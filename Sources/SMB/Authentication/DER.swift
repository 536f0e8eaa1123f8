/// Distinguished encoding as far as SPNEGO uses it: definite lengths, tags of one byte. Each level is read by its own
/// call, so no input can make it recurse.
struct DERReader {
    static let objectIdentifier: UInt8 = 0x06
    static let octetString: UInt8 = 0x04
    static let enumerated: UInt8 = 0x0A
    static let sequence: UInt8 = 0x30
    static func context(_ number: UInt8) -> UInt8 { 0xA0 | number }
    static let application0: UInt8 = 0x60

    private var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    var isAtEnd: Bool { rest.isEmpty }
    var tag: UInt8? { rest.first }

    /// The next element's tag, its content, and all of it. Nil: there is none that is whole.
    mutating func next() -> (tag: UInt8, content: UnsafeRawBufferPointer, whole: UnsafeRawBufferPointer)? {
        guard rest.count >= 2 else { return nil }
        let tag = rest[0]
        guard tag & 0x1F != 0x1F else { return nil }
        var length = Int(rest[1])
        var start = 2
        if length >= 0x80 {
            let count = length & 0x7F
            guard count >= 1, count <= 3, rest.count >= 2 + count else { return nil }
            length = 0
            for index in 0..<count { length = length << 8 | Int(rest[2 + index]) }
            start += count
        }
        guard length <= rest.count - start else { return nil }
        let whole = UnsafeRawBufferPointer(rebasing: rest[..<(start + length)])
        let content = UnsafeRawBufferPointer(rebasing: rest[start..<(start + length)])
        rest = UnsafeRawBufferPointer(rebasing: rest[(start + length)...])
        return (tag, content, whole)
    }

    /// The content of the next element if it has this tag.
    mutating func content(_ tag: UInt8) -> UnsafeRawBufferPointer? {
        guard self.tag == tag, let element = next() else { return nil }
        return element.content
    }
}

enum DERWriter {
    static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        let count = content.count
        precondition(count < 1 << 24, "a token is short")
        let length: [UInt8] =
            count < 0x80
            ? [UInt8(count)]
            : count < 0x100
                ? [0x81, UInt8(count)]
                : count < 0x1_0000
                    ? [0x82, UInt8(count >> 8), UInt8(count & 0xFF)]
                    : [0x83, UInt8(count >> 16), UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF)]
        return [tag] + length + content
    }
}

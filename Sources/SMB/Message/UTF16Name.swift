import Bytes

/// Names between UTF-16 of the wire and the bytes that a file system keeps.
///
/// What Windows does not allow in a name but others do is shown in a private range, as macOS and Linux clients do it for
/// themselves: `:` is U+F022, and so on. Half a surrogate pair is kept as three bytes, as UTF-8 would encode it if it
/// might. A byte that is no UTF-8 is shown in a range of its own. So each name can be named, and goes back to its bytes.
package enum UTF16Name {
    /// For text that is no file's name: nil when it is not well-formed.
    static func string(_ bytes: [UInt8]) -> String? { bytes.withUnsafeBytes { string($0) } }

    static func string(_ bytes: UnsafeRawBufferPointer) -> String? {
        guard bytes.count % 2 == 0 else { return nil }
        var units: [UInt16] = []
        units.reserveCapacity(bytes.count / 2)
        for index in stride(from: 0, to: bytes.count, by: 2) {
            units.append(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt16.self)))
        }
        return String(validating: units, as: UTF16.self)
    }

    static func bytes(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    }

    /// Letter by letter, as Windows does it.
    static func upper(_ text: String) -> String {
        var upper = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            let mapped = scalar.properties.uppercaseMapping.unicodeScalars
            upper.append(mapped.count == 1 ? mapped.first ?? scalar : scalar)
        }
        return String(upper)
    }

    // MARK: File names

    private static let privateBase: UInt16 = 0xF000
    /// Of bytes that are no UTF-8.
    private static let rawBase: UInt16 = 0xF700
    /// What Windows forbids besides control characters, and what stands for each.
    private static let mapped: [(character: UInt8, unit: UInt16)] = [
        (UInt8(ascii: "\""), 0xF020), (UInt8(ascii: "*"), 0xF021), (UInt8(ascii: ":"), 0xF022),
        (UInt8(ascii: "<"), 0xF023), (UInt8(ascii: ">"), 0xF024), (UInt8(ascii: "?"), 0xF025),
        (UInt8(ascii: "\\"), 0xF026), (UInt8(ascii: "|"), 0xF027),
    ]
    private static let trailingSpace: UInt16 = 0xF028
    private static let trailingPeriod: UInt16 = 0xF029

    /// Appends the bytes of the component in `units`. False: no file can have such a name.
    package static func append(component units: UnsafeBufferPointer<UInt16>, to bytes: inout [UInt8]) -> Bool {
        guard !units.isEmpty, units.count <= SMB2.componentUnitsMax else { return false }
        var index = 0
        while index < units.count {
            let unit = UInt16(littleEndian: units[index])
            index += 1
            switch unit {
            case 0..<0x20: return false
            case 0x20..<0x80:
                let character = UInt8(truncatingIfNeeded: unit)
                if character == UInt8(ascii: "/") || mapped.contains(where: { $0.character == character }) {
                    return false
                }
                bytes.append(character)
            case privateBase + 1..<privateBase + 0x20: bytes.append(UInt8(truncatingIfNeeded: unit - privateBase))
            case 0xF020...0xF027: bytes.append(mapped[Int(unit - 0xF020)].character)
            case trailingSpace where index == units.count: bytes.append(UInt8(ascii: " "))
            case trailingPeriod where index == units.count: bytes.append(UInt8(ascii: "."))
            case rawBase + 0x80...rawBase + 0xFF: bytes.append(UInt8(truncatingIfNeeded: unit - rawBase))
            case 0xD800..<0xDC00 where index < units.count:
                let low = UInt16(littleEndian: units[index])
                if 0xDC00..<0xE000 ~= low {
                    index += 1
                    append(0x10000 + (UInt32(unit) - 0xD800) << 10 + (UInt32(low) - 0xDC00), to: &bytes)
                } else {
                    append(UInt32(unit), to: &bytes)
                }
            default: append(UInt32(unit), to: &bytes)
            }
        }
        return true
    }

    private static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
        func tail(_ shift: UInt32) -> UInt8 { 0x80 | UInt8(truncatingIfNeeded: scalar >> shift) & 0x3F }
        switch scalar {
        case 0..<0x80: bytes.append(UInt8(scalar))
        case 0x80..<0x800:
            bytes.append(0xC0 | UInt8(scalar >> 6))
            bytes.append(tail(0))
        case 0x800..<0x10000:
            bytes.append(0xE0 | UInt8(scalar >> 12))
            bytes.append(tail(6))
            bytes.append(tail(0))
        default:
            bytes.append(0xF0 | UInt8(truncatingIfNeeded: scalar >> 18))
            bytes.append(tail(12))
            bytes.append(tail(6))
            bytes.append(tail(0))
        }
    }

    /// Shows a name's units one after the other.
    package static func units(of name: UnsafeRawBufferPointer, _ show: (UInt16) -> Void) {
        var index = 0
        while index < name.count {
            let byte = name[index]
            if byte < 0x80 {
                let isLast = index == name.count - 1
                if byte < 0x20 {
                    show(privateBase + UInt16(byte))
                } else if isLast, byte == UInt8(ascii: " ") {
                    show(trailingSpace)
                } else if isLast, byte == UInt8(ascii: "."), name.count > 2 || !isDots(name) {
                    show(trailingPeriod)
                } else if let entry = mapped.first(where: { $0.character == byte }) {
                    show(entry.unit)
                } else {
                    show(UInt16(byte))
                }
                index += 1
                continue
            }
            let (scalar, count) = scalar(name, index)
            if count == 0 {
                show(rawBase + UInt16(byte))
                index += 1
            } else if scalar < 0x10000 {
                show(UInt16(scalar))
                index += count
            } else {
                show(UInt16(0xD800 + (scalar - 0x10000) >> 10))
                show(UInt16(0xDC00 + (scalar - 0x10000) & 0x3FF))
                index += count
            }
        }
    }

    private static func isDots(_ name: UnsafeRawBufferPointer) -> Bool {
        name.allSatisfy { $0 == UInt8(ascii: ".") }
    }

    /// The scalar of two to four bytes at `index`; of none when it is malformed or in a longer form than it needs.
    private static func scalar(_ name: UnsafeRawBufferPointer, _ index: Int) -> (UInt32, Int) {
        let first = name[index]
        let (count, least): (Int, UInt32) =
            switch first {
            case 0xC2..<0xE0: (2, 0x80)
            case 0xE0..<0xF0: (3, 0x800)
            case 0xF0..<0xF5: (4, 0x10000)
            default: (0, 0)
            }
        guard count > 0, index + count <= name.count else { return (0, 0) }
        var scalar = UInt32(first) & (0x7F >> UInt32(count))
        for offset in 1..<count {
            let byte = name[index + offset]
            guard byte & 0xC0 == 0x80 else { return (0, 0) }
            scalar = scalar << 6 | UInt32(byte & 0x3F)
        }
        return scalar >= least && scalar < 0x11_0000 ? (scalar, count) : (0, 0)
    }

    /// Writes a name; answers its bytes.
    @discardableResult
    package static func write(_ name: UnsafeRawBufferPointer, into writer: inout Writer) -> Int {
        let start = writer.position
        // Nearly all names are plain.
        var isPlain = true
        for byte in name where byte >= 0x80 || byte < 0x20 || isSpecial[Int(byte)] { isPlain = false }
        if isPlain, let last = name.last, last != UInt8(ascii: " "), last != UInt8(ascii: ".") || isDots(name) {
            for byte in name { writer.u16LE(UInt16(byte)) }
            return writer.position - start
        }
        units(of: name) { writer.u16LE($0) }
        return writer.position - start
    }

    private static let isSpecial: [Bool] = (0..<256).map { byte in mapped.contains { Int($0.character) == byte } }
}

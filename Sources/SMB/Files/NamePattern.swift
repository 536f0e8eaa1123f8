import Bytes

/// A pattern of a listing ([MS-FSA] 2.1.4.4): `*`, `?`, and the three by which older programs' patterns are said.
package struct NamePattern: Equatable, Sendable {
    /// No name is longer.
    package static let unitsMax = 255

    private let units: [UInt16]
    /// As it came.
    let text: [UInt16]
    /// Matches everything.
    package let isAll: Bool
    /// Without wildcards it is a name.
    package let isName: Bool

    private static let star = UInt16(UInt8(ascii: "*"))
    private static let question = UInt16(UInt8(ascii: "?"))
    private static let dosStar = UInt16(UInt8(ascii: "<"))
    private static let dosQuestion = UInt16(UInt8(ascii: ">"))
    private static let dosDot = UInt16(UInt8(ascii: "\""))
    private static let dot = UInt16(UInt8(ascii: "."))

    package init(_ units: [UInt16]) {
        text = units
        self.units = units.map(Self.folded)
        isAll = units == [Self.star]
        isName = !units.contains {
            [Self.star, Self.question, Self.dosStar, Self.dosQuestion, Self.dosDot].contains($0)
        }
    }

    /// Nil: half a unit, or too long.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count % 2 == 0, bytes.count / 2 <= Self.unitsMax else { return nil }
        var units: [UInt16] = []
        for index in stride(from: 0, to: bytes.count, by: 2) {
            units.append(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt16.self)))
        }
        self.init(units)
    }

    /// How many names are looked at in one go: the longer the pattern, the fewer.
    var namesPerTurn: Int { max(16, 2048 / (1 + units.count / 8)) }

    private static func folded(_ unit: UInt16) -> UInt16 {
        if unit < 0x80 { return 0x61...0x7A ~= unit ? unit - 0x20 : unit }
        guard let scalar = Unicode.Scalar(unit) else { return unit }
        let mapped = scalar.properties.uppercaseMapping.unicodeScalars
        guard mapped.count == 1, let first = mapped.first, first.value < 0x10000 else { return unit }
        return UInt16(first.value)
    }

    package func matches(_ name: UnsafeRawBufferPointer) -> Bool {
        if isAll { return true }
        var text: [UInt16] = []
        text.reserveCapacity(name.count)
        UTF16Name.units(of: name) { text.append(Self.folded($0)) }
        return matches(text)
    }

    /// From the ends to the beginnings: `open[j]` says whether the pattern from `i` on matches the name from `j` on. So the
    /// work is bounded by both lengths, whatever a client sends.
    private func matches(_ name: [UInt16]) -> Bool {
        let lastDot = name.lastIndex(of: Self.dot) ?? -1
        var rest = [Bool](repeating: false, count: name.count + 1)
        rest[name.count] = true
        var open = rest
        for unit in units.reversed() {
            for j in stride(from: name.count, through: 0, by: -1) {
                let isEnd = j == name.count
                switch unit {
                case Self.star: open[j] = rest[j] || !isEnd && open[j + 1]
                case Self.question: open[j] = !isEnd && rest[j + 1]
                case Self.dosStar:
                    open[j] = rest[j] || !isEnd && (j == lastDot ? rest[j + 1] : open[j + 1])
                case Self.dosQuestion:
                    if isEnd {
                        open[j] = rest[j]
                    } else if name[j] == Self.dot {
                        open[j] = rest[j] || j + 1 == name.count && rest[j + 1]
                    } else {
                        open[j] = rest[j + 1]
                    }
                case Self.dosDot: open[j] = isEnd ? rest[j] : name[j] == Self.dot && rest[j + 1]
                default: open[j] = !isEnd && name[j] == unit && rest[j + 1]
                }
            }
            swap(&rest, &open)
        }
        return rest[0]
    }
}

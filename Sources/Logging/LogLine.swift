/// Builds one line in memory that is used again for the next. Whatever a value holds, a line stays one line: control
/// characters, also those that steer terminals, are escaped, and what is too long is cut.
struct LogLine {
    static let bytesMax = 8192
    private static let cutMark = Array("...".utf8)

    private(set) var bytes: [UInt8] = []
    private let format: LogFormat
    private var first = true

    init(_ format: LogFormat) {
        self.format = format
        bytes.reserveCapacity(Self.bytesMax)
    }

    mutating func begin() {
        bytes.removeAll(keepingCapacity: true)
        first = true
        if format == .json { bytes.append(UInt8(ascii: "{")) }
    }

    mutating func end() {
        if format == .json { bytes.append(UInt8(ascii: "}")) }
        bytes.append(UInt8(ascii: "\n"))
    }

    mutating func field(_ name: StaticString, _ value: LogField.Value) {
        // Room for the name, the quotes and the marks that close the line: past it, fields are left out whole.
        guard bytes.count + name.utf8CodeUnitCount + 64 < Self.bytesMax else { return }
        if !first { bytes.append(UInt8(ascii: format == .json ? "," : " ")) }
        first = false
        if format == .json {
            bytes.append(UInt8(ascii: "\""))
            append(name)
            append("\":")
        } else {
            append(name)
            bytes.append(UInt8(ascii: "="))
        }
        switch value {
        case .integer(let number): append(number)
        case .unsigned(let number): append(number)
        case .boolean(let value): append(value ? "true" : "false")
        case .text(let text): append(text: text)
        }
    }

    private mutating func append(_ text: StaticString) {
        text.withUTF8Buffer { bytes.append(contentsOf: $0) }
    }

    private mutating func append(_ number: some BinaryInteger) { bytes.append(contentsOf: String(number).utf8) }

    private mutating func append(text: String) {
        let bare = format == .logfmt && !text.isEmpty && text.utf8.allSatisfy(Self.isBare)
        if !bare { bytes.append(UInt8(ascii: "\"")) }
        for scalar in text.unicodeScalars {
            guard bytes.count + 32 < Self.bytesMax else {
                bytes.append(contentsOf: Self.cutMark)
                break
            }
            append(scalar)
        }
        if !bare { bytes.append(UInt8(ascii: "\"")) }
    }

    private mutating func append(_ scalar: Unicode.Scalar) {
        switch scalar {
        case "\"", "\\":
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(UInt8(truncatingIfNeeded: scalar.value))
        case "\n": append("\\n")
        case "\r": append("\\r")
        case "\t": append("\\t")
        // The rest of the control characters, and those that end lines or turn the direction of text around.
        case "\0"..."\u{1f}", "\u{7f}"..."\u{9f}", "\u{2028}"..."\u{202e}", "\u{2066}"..."\u{2069}":
            append("\\u")
            for shift in [12, 8, 4, 0] as [UInt32] {
                let digit = UInt8(truncatingIfNeeded: scalar.value >> shift & 15)
                bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
            }
        default: bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
        }
    }

    /// What logfmt needs no quotes for.
    private static func isBare(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
            UInt8(ascii: "/"), UInt8(ascii: ":"), UInt8(ascii: "@"), UInt8(ascii: "+"):
            true
        default: false
        }
    }
}

/// `2026-01-31T23:59:59.123Z` from nanoseconds since 1970. Any number gives a date; none traps.
func timestamp(_ nanoseconds: Int64) -> String {
    let milliseconds = floorDivide(nanoseconds, 1_000_000)
    let days = floorDivide(milliseconds, 86_400_000)
    let inDay = milliseconds - days * 86_400_000
    // Days are counted in years that begin in March, so that the leap day is a year's last (the usual algorithm for
    // the proleptic Gregorian calendar, in eras of 400 years).
    let shifted = days + 719_468
    let era = floorDivide(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let month = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * month + 2) / 5 + 1
    let civilMonth = month < 10 ? month + 3 : month - 9
    let year = yearOfEra + era * 400 + (civilMonth <= 2 ? 1 : 0)
    let time = "\(digits(inDay / 3_600_000, 2)):\(digits(inDay / 60_000 % 60, 2)):\(digits(inDay / 1000 % 60, 2))"
    return "\(digits(year, 4))-\(digits(civilMonth, 2))-\(digits(day, 2))T\(time).\(digits(inDay % 1000, 3))Z"
}

private func floorDivide(_ a: Int64, _ b: Int64) -> Int64 { a / b - (a % b < 0 ? 1 : 0) }

private func digits(_ value: Int64, _ width: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
}

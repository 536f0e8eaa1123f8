/// The forms of a time that object stores read and write.
package enum Timestamp {
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// `20130524T000000Z`: seconds since 1970.
    package static func basic(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        guard bytes.count == 16, bytes[8] == UInt8(ascii: "T"), bytes[15] == UInt8(ascii: "Z") else { return nil }
        return seconds(
            number(bytes[0..<4]), number(bytes[4..<6]), number(bytes[6..<8]), number(bytes[9..<11]),
            number(bytes[11..<13]), number(bytes[13..<15]))
    }

    /// `2013-05-24T00:00:00Z`, with or without a fraction; or a date alone.
    package static func extended(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 10, bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-") else { return nil }
        let date = (number(bytes[0..<4]), number(bytes[5..<7]), number(bytes[8..<10]))
        if bytes.count == 10 { return seconds(date.0, date.1, date.2, 0, 0, 0) }
        guard bytes.count >= 20, bytes[10] == UInt8(ascii: "T"), bytes[13] == UInt8(ascii: ":"),
            bytes[16] == UInt8(ascii: ":"), bytes.last == UInt8(ascii: "Z")
        else { return nil }
        let fraction = bytes[19..<(bytes.count - 1)]
        guard fraction.isEmpty || (fraction.first == UInt8(ascii: ".") && number(fraction.dropFirst()) != nil) else {
            return nil
        }
        return seconds(
            date.0, date.1, date.2, number(bytes[11..<13]), number(bytes[14..<16]), number(bytes[17..<19]))
    }

    /// `Fri, 24 May 2013 00:00:00 GMT`, or the same with `+0000`.
    package static func http(_ text: String) -> Int64? {
        let words = text.split(separator: " ")
        guard words.count == 6, words[0].utf8.count == 4, words[5] == "GMT" || words[5] == "+0000",
            let month = months.firstIndex(where: { $0 == words[2] })
        else { return nil }
        let time = words[4].split(separator: ":")
        guard time.count == 3, words[3].utf8.count == 4 else { return nil }
        return seconds(
            number(words[3].utf8), month + 1, number(words[1].utf8), number(time[0].utf8), number(time[1].utf8),
            number(time[2].utf8))
    }

    private static func number(_ digits: some Collection<UInt8>) -> Int? {
        guard !digits.isEmpty, digits.count <= 9 else { return nil }
        var value = 0
        for digit in digits {
            guard digit >= 0x30, digit <= 0x39 else { return nil }
            value = value * 10 + Int(digit - 0x30)
        }
        return value
    }

    private static func seconds(
        _ year: Int?, _ month: Int?, _ day: Int?, _ hour: Int?, _ minute: Int?, _ second: Int?
    ) -> Int64? {
        guard let year, let month, let day, let hour, let minute, let second, (1...12).contains(month),
            (1...31).contains(day), (0...23).contains(hour), (0...59).contains(minute), (0...60).contains(second)
        else { return nil }
        // Years begin in March, so that the leap day is the last.
        let years = month > 2 ? year : year - 1
        let era = (years >= 0 ? years : years - 399) / 400
        let inEra = years - era * 400
        let inYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let days = era * 146_097 + inEra * 365 + inEra / 4 - inEra / 100 + inYear - 719_468
        return Int64(days * 86_400 + hour * 3600 + minute * 60 + second)
    }

    private static func append(_ value: Int, _ width: Int, to text: inout [UInt8]) {
        var divisor = 1
        for _ in 1..<width { divisor *= 10 }
        while divisor > 0 {
            text.append(0x30 + UInt8(value / divisor % 10))
            divisor /= 10
        }
    }

    /// `2013-05-24T00:00:00.000Z`.
    package static func extended(nanoseconds: Int64) -> String { extended(CivilTime(nanoseconds: nanoseconds)) }
    package static func extended(seconds: Int64) -> String { extended(CivilTime(seconds: seconds)) }

    private static func extended(_ time: CivilTime) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(24)
        append(time.year, 4, to: &text)
        text.append(UInt8(ascii: "-"))
        append(time.month, 2, to: &text)
        text.append(UInt8(ascii: "-"))
        append(time.day, 2, to: &text)
        text.append(UInt8(ascii: "T"))
        append(time.hour, 2, to: &text)
        text.append(UInt8(ascii: ":"))
        append(time.minute, 2, to: &text)
        text.append(UInt8(ascii: ":"))
        append(time.second, 2, to: &text)
        // Whole seconds: what Last-Modified says, so that clients who compare both find them equal.
        text.append(contentsOf: ".000Z".utf8)
        return String(decoding: text, as: UTF8.self)
    }

    /// `20130524T000000Z`.
    package static func basic(seconds: Int64) -> String {
        extended(seconds: seconds).prefix(19).filter { $0 != "-" && $0 != ":" } + "Z"
    }

    /// `20130524`.
    package static func day(_ seconds: Int64) -> String { String(basic(seconds: seconds).prefix(8)) }
}

/// A number with a unit, as people write it: "64MiB", "10s". Without fractions, so that nothing is rounded.
public protocol Quantity: Comparable, Sendable, CustomStringConvertible {
    static var noun: String { get }
    /// Ascending; the first is the one that values are kept in.
    static var units: [(name: String, factor: UInt64)] { get }
    var amount: UInt64 { get }
    init(amount: UInt64)
}

extension Quantity {
    /// Nil when the text is no number with a unit, or too large.
    public init?(_ text: String) {
        let digits = text.utf8.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
        let rest = text.dropFirst(digits.count)
        let unit = rest.hasPrefix(" ") ? rest.dropFirst() : rest
        guard let number = UInt64(Substring(digits)), let factor = Self.units.first(where: { $0.name == unit })?.factor
        else { return nil }
        let (amount, overflow) = number.multipliedReportingOverflow(by: factor)
        if overflow { return nil }
        self.init(amount: amount)
    }

    public static func < (a: Self, b: Self) -> Bool { a.amount < b.amount }

    /// In the largest unit that leaves no fraction.
    public var description: String {
        let unit = Self.units.last { amount != 0 && amount % $0.factor == 0 } ?? Self.units[0]
        return "\(amount / unit.factor)\(unit.name)"
    }

    static var unitNames: String { units.map(\.name).joined(separator: ", ") }
}

public struct ByteSize: Quantity {
    public static let noun = "a size"
    public static let units: [(name: String, factor: UInt64)] = [
        ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("PiB", 1 << 50),
    ]
    public let bytes: UInt64
    public var amount: UInt64 { bytes }
    public init(amount: UInt64) { bytes = amount }

    static func mebi(_ count: UInt64) -> ByteSize { ByteSize(amount: count << 20) }
    static func gibi(_ count: UInt64) -> ByteSize { ByteSize(amount: count << 30) }
    static func tebi(_ count: UInt64) -> ByteSize { ByteSize(amount: count << 40) }
}

public struct TimeSpan: Quantity {
    public static let noun = "a duration"
    public static let units: [(name: String, factor: UInt64)] = [
        ("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
        ("h", 3_600_000_000_000), ("d", 86_400_000_000_000),
    ]
    public let nanoseconds: UInt64
    public var amount: UInt64 { nanoseconds }
    public init(amount: UInt64) { nanoseconds = amount }

    static func milliseconds(_ count: UInt64) -> TimeSpan { TimeSpan(amount: count * 1_000_000) }
    static func seconds(_ count: UInt64) -> TimeSpan { TimeSpan(amount: count * 1_000_000_000) }
}

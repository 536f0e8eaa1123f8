public enum LogLevel: UInt8, Sendable, CaseIterable, Comparable {
    case debug, info, warning, error, off

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }

    public init?(_ name: String) {
        guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = level
    }

    public var name: String {
        switch self {
        case .debug: "debug"
        case .info: "info"
        case .warning: "warning"
        case .error: "error"
        case .off: "off"
        }
    }
}

public enum LogFormat: String, Sendable, CaseIterable {
    /// `time=... level=info event="..." key=value`
    case logfmt
    /// One JSON object a line.
    case json
}

/// A name and a value of a log line. Values may hold anything a client sent: the logger escapes them.
public struct LogField: Sendable {
    public enum Value: Sendable {
        case text(String)
        case integer(Int64)
        case unsigned(UInt64)
        case boolean(Bool)
    }

    let name: StaticString
    let value: Value

    public init(_ name: StaticString, _ value: String) { (self.name, self.value) = (name, .text(value)) }
    public init(_ name: StaticString, _ value: Int) { (self.name, self.value) = (name, .integer(Int64(value))) }
    public init(_ name: StaticString, _ value: Int64) { (self.name, self.value) = (name, .integer(value)) }
    public init(_ name: StaticString, _ value: UInt64) { (self.name, self.value) = (name, .unsigned(value)) }
    public init(_ name: StaticString, _ value: Bool) { (self.name, self.value) = (name, .boolean(value)) }
    /// Errors and identifiers, by their description.
    public init(_ name: StaticString, describing value: any Sendable) {
        (self.name, self.value) = (name, .text(String(describing: value)))
    }
}

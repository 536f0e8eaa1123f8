/// A TOML 1.0 text, read: https://toml.io/en/v1.0.0. Dates and times are refused, because no key of ours takes one.
public struct TOMLDocument {
    public static let bytesMax = 1 << 20
    public static let nestingMax = 32
    public static let keysMax = 10_000

    public let root: TOMLTable
    private let bytes: [UInt8]

    public init(_ bytes: [UInt8]) throws(TOMLError) {
        var parser = try TOMLParser(bytes)
        root = try parser.document()
        self.bytes = bytes
    }

    /// Line and column of a byte, both from 1; columns count characters, not bytes.
    public func position(of offset: Int) -> TOMLPosition { TOMLPosition(of: offset, in: bytes) }
}

public struct TOMLPosition: Equatable, Sendable, CustomStringConvertible {
    public let line: Int
    public let column: Int

    init(of offset: Int, in bytes: [UInt8]) {
        let before = bytes[..<min(offset, bytes.count)]
        let lineStart = (before.lastIndex(of: UInt8(ascii: "\n")) ?? -1) + 1
        line = before.count { $0 == UInt8(ascii: "\n") } + 1
        // Bytes that continue a UTF-8 sequence start no character.
        column = before[lineStart...].count { $0 & 0xc0 != 0x80 } + 1
    }

    public var description: String { "\(line):\(column)" }
}

/// What makes a text no TOML, and where.
public struct TOMLError: Error, Equatable, Sendable {
    public let position: TOMLPosition
    public let message: String
}

/// A value, and the byte where it begins.
public struct TOMLNode {
    public enum Value {
        case string(String)
        case integer(Int64)
        case float(Double)
        case boolean(Bool)
        case array([TOMLNode])
        case table(TOMLTable)
    }

    public let value: Value
    public let offset: Int

    /// For messages: "expected a string, found an integer".
    public var kind: String {
        switch value {
        case .string: "a string"
        case .integer: "an integer"
        case .float: "a float"
        case .boolean: "a boolean"
        case .array: "an array"
        case .table: "a table"
        }
    }
}

/// Keys with their values, in the order of the text.
public final class TOMLTable {
    public struct Entry {
        public let key: String
        public let keyOffset: Int
        public fileprivate(set) var node: TOMLNode
    }

    /// How a table came to be decides what may still be added to it.
    enum Origin {
        /// Named on the way to another header: its own header may still come.
        case implied
        /// By its header, once.
        case header
        /// By a dotted key: only dotted keys of the same section add to it.
        case dotted
        /// `{ ... }`: complete.
        case inline
    }

    public private(set) var entries: [Entry] = []
    private var index: [String: Int] = [:]
    var origin: Origin
    /// Keys whose arrays grow by `[[header]]`, unlike arrays that are written out.
    var growing: Set<String> = []
    /// The header section that a dotted table belongs to.
    var section = 0

    init(_ origin: Origin) { self.origin = origin }

    public subscript(key: String) -> Entry? { index[key].map { entries[$0] } }

    func insert(_ key: String, at offset: Int, _ node: TOMLNode) {
        index[key] = entries.count
        entries.append(Entry(key: key, keyOffset: offset, node: node))
    }

    /// Adds a table to the array of `key`, without copying the array.
    func append(_ table: TOMLTable, to key: String, at offset: Int) {
        guard let place = index[key], case .array(var elements) = entries[place].node.value else { return }
        let first = entries[place].node.offset
        entries[place].node = TOMLNode(value: .boolean(false), offset: first)
        elements.append(TOMLNode(value: .table(table), offset: offset))
        entries[place].node = TOMLNode(value: .array(elements), offset: first)
    }
}

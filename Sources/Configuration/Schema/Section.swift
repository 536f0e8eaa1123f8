import Logging

/// One thing that is wrong with a configuration, and where: `proxyfs.toml:3:1: unknown key ...`.
public struct Issue: Error, Equatable, Sendable, CustomStringConvertible {
    /// File, line and column, or the option of the command line.
    public let place: String
    public let message: String

    public init(place: String, message: String) {
        self.place = place
        self.message = message
    }

    public var description: String { "\(place): \(message)" }
}

/// What is found while one file is read: all its issues, all keys that the program knows, and where each was set.
final class Findings {
    /// Beyond it, more messages help nobody.
    static let issuesMax = 50

    private let file: String
    private let document: TOMLDocument
    private(set) var issues: [Issue] = []
    /// Every key asked for, with its default as the file would say it.
    private(set) var known: [(path: String, standard: String)] = []
    private(set) var places: [String: String] = [:]

    init(file: String, document: TOMLDocument) {
        self.file = file
        self.document = document
    }

    func place(of offset: Int) -> String { "\(file):\(document.position(of: offset))" }

    func report(_ message: String, at offset: Int) {
        if issues.count < Self.issuesMax { issues.append(Issue(place: place(of: offset), message: message)) }
    }

    func note(_ path: String, standard: String) { known.append((path, standard)) }
    func set(_ path: String, at offset: Int) { places[path] = place(of: offset) }
}

/// A table of the file as the program expects it: each key is asked for once, with its type, bounds and default, and
/// `finish` reports what nobody asked for. A wrong value is reported and its default goes on, so that one run shows
/// everything that is wrong.
struct Section {
    let path: String
    let offset: Int
    private let table: TOMLTable
    private let findings: Findings
    private var asked: [String] = []

    init(_ table: TOMLTable, path: String = "", offset: Int = 0, _ findings: Findings) {
        self.table = table
        self.path = path
        self.offset = offset
        self.findings = findings
    }

    /// Where a key was set, for checks that concern several keys.
    func offset(of key: String) -> Int { table[key]?.node.offset ?? offset }
    func has(_ key: String) -> Bool { table[key] != nil }
    func report(_ message: String, at key: String) { findings.report("\(full(key)): \(message)", at: offset(of: key)) }
    var place: String { findings.place(of: offset) }

    private func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    private mutating func node(_ key: String, standard: String) -> TOMLNode? {
        asked.append(key)
        findings.note(full(key), standard: standard)
        guard let entry = table[key] else { return nil }
        findings.set(full(key), at: entry.node.offset)
        return entry.node
    }

    private func wrongType(_ key: String, _ node: TOMLNode, expected: String) {
        findings.report("\(full(key)): expected \(expected), found \(node.kind)", at: node.offset)
    }

    // MARK: Values

    mutating func string(_ key: String, default standard: String, lengthMax: Int = 4096) -> String {
        guard let node = node(key, standard: quoted(standard)) else { return standard }
        guard case .string(let text) = node.value else {
            wrongType(key, node, expected: "a string")
            return standard
        }
        guard !text.isEmpty, text.utf8.count <= lengthMax, !text.utf8.contains(0) else {
            report("must be 1 to \(lengthMax) bytes without NUL", at: key)
            return standard
        }
        return text
    }

    mutating func optionalString(_ key: String) -> String? {
        has(key)
            ? string(key, default: "")
            : {
                _ = node(key, standard: "(none)")
                return nil
            }()
    }

    mutating func boolean(_ key: String, default standard: Bool) -> Bool {
        guard let node = node(key, standard: "\(standard)") else { return standard }
        guard case .boolean(let value) = node.value else {
            wrongType(key, node, expected: "true or false")
            return standard
        }
        return value
    }

    mutating func integer<T: FixedWidthInteger>(_ key: String, default standard: T, in bounds: ClosedRange<T>) -> T {
        optionalInteger(key, in: bounds, standard: "\(standard)") ?? standard
    }

    mutating func optionalInteger<T: FixedWidthInteger>(
        _ key: String, in bounds: ClosedRange<T>, standard: String = "(none)"
    ) -> T? {
        guard let node = node(key, standard: standard) else { return nil }
        guard case .integer(let value) = node.value else {
            wrongType(key, node, expected: "an integer")
            return nil
        }
        guard let value = T(exactly: value), bounds.contains(value) else {
            report("\(value) is not in \(bounds.lowerBound) to \(bounds.upperBound)", at: key)
            return nil
        }
        return value
    }

    /// A number with a unit, as bytes or nanoseconds.
    mutating func quantity<Q: Quantity>(_ key: String, default standard: Q, in bounds: ClosedRange<Q>) -> Q {
        guard let node = node(key, standard: quoted(standard.description)) else { return standard }
        guard case .string(let text) = node.value else {
            wrongType(key, node, expected: "\(Q.noun) such as \"\(standard)\"")
            return standard
        }
        guard let value = Q(text) else {
            report("\(quoted(text)) is not \(Q.noun): a whole number and one of \(Q.unitNames)", at: key)
            return standard
        }
        guard bounds.contains(value) else {
            report("\(value) is not in \(bounds.lowerBound) to \(bounds.upperBound)", at: key)
            return standard
        }
        return value
    }

    /// One word of a few.
    mutating func word<W>(_ key: String, default standard: W, _ words: [(String, W)]) -> W where W: Equatable {
        let name = words.first { $0.1 == standard }?.0 ?? ""
        guard let node = node(key, standard: quoted(name)) else { return standard }
        guard case .string(let text) = node.value else {
            wrongType(key, node, expected: "a string")
            return standard
        }
        if let found = words.first(where: { $0.0 == text }) { return found.1 }
        let names = words.map(\.0)
        report("\(quoted(text)) is none of \(names.joined(separator: ", "))\(suggestion(text, names))", at: key)
        return standard
    }

    mutating func strings(_ key: String, default standard: [String], countMax: Int) -> [String] {
        let list = "[\(standard.map(quoted).joined(separator: ", "))]"
        guard let node = node(key, standard: list) else { return standard }
        guard case .array(let nodes) = node.value else {
            wrongType(key, node, expected: "an array of strings")
            return standard
        }
        guard nodes.count <= countMax else {
            report("has \(nodes.count) elements, \(countMax) at most", at: key)
            return standard
        }
        var result: [String] = []
        for element in nodes {
            guard case .string(let text) = element.value, !text.isEmpty else {
                findings.report("\(full(key)): expected strings, found \(element.kind)", at: element.offset)
                continue
            }
            result.append(text)
        }
        return result
    }

    // MARK: Tables in tables

    /// A section of its own; read with its defaults when the file has none.
    mutating func section(_ key: String, _ body: (inout Section) -> Void) {
        asked.append(key)
        var inner = Section(TOMLTable(.header), path: full(key), findings)
        if let entry = table[key] {
            if case .table(let table) = entry.node.value {
                inner = Section(table, path: full(key), offset: entry.node.offset, findings)
            } else {
                wrongType(key, entry.node, expected: "a table [\(full(key))]")
            }
        }
        body(&inner)
        inner.finish()
    }

    /// `[[key]]`, each of them.
    mutating func sections(_ key: String, countMax: Int, _ body: (inout Section) -> Void) {
        asked.append(key)
        guard let entry = table[key] else { return }
        guard case .array(let nodes) = entry.node.value else {
            return wrongType(key, entry.node, expected: "tables [[\(full(key))]]")
        }
        if nodes.count > countMax { report("\(nodes.count) tables, \(countMax) at most", at: key) }
        for node in nodes.prefix(countMax) {
            guard case .table(let table) = node.value else {
                wrongType(key, node, expected: "a table")
                continue
            }
            var inner = Section(table, path: full(key), offset: node.offset, findings)
            body(&inner)
            inner.finish()
        }
    }

    /// Reports what nobody asked for.
    func finish() {
        for entry in table.entries where !asked.contains(entry.key) {
            let place = path.isEmpty ? "" : " in [\(path)]"
            findings.report(
                "unknown key \(quoted(entry.key))\(place)\(suggestion(entry.key, asked))", at: entry.keyOffset)
        }
    }
}

/// Quotes a text for a message: escapes what would disturb a terminal.
func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"", "\\": result += "\\\(scalar)"
        case "\0"..."\u{1f}", "\u{7f}"..."\u{9f}": result += "\\u{\(String(scalar.value, radix: 16))}"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

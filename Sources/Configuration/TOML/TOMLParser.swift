/// Reads tables, keys and values. Recursion ends at `TOMLDocument.nestingMax`, whatever the text says.
struct TOMLParser {
    var scanner: TOMLScanner
    private var keys = 0
    private var section = 0

    init(_ bytes: [UInt8]) throws(TOMLError) { scanner = try TOMLScanner(bytes) }

    mutating func document() throws(TOMLError) -> TOMLTable {
        let root = TOMLTable(.header)
        var current = root
        while true {
            try scanner.skipBlankLines()
            guard let byte = scanner.peek else { return root }
            if byte == UInt8(ascii: "[") {
                section += 1
                current = try header(root)
            } else {
                try keyValue(current)
            }
            try scanner.endOfLine()
        }
    }

    // MARK: Headers

    private mutating func header(_ root: TOMLTable) throws(TOMLError) -> TOMLTable {
        let start = scanner.offset
        scanner.advance()
        let many = scanner.take("[")
        scanner.skipSpaces()
        let path = try key()
        scanner.skipSpaces()
        try scanner.expect("]", in: "the header")
        if many { try scanner.expect("]", in: "the header") }

        var table = root
        for part in path.dropLast() { table = try descend(table, part) }
        guard let last = path.last else { throw scanner.failure("a header needs a name", at: start) }
        return many ? try arrayElement(table, last, start) : try headerTable(table, last)
    }

    /// A table on the way to the one that a header names.
    private mutating func descend(_ table: TOMLTable, _ part: KeyPart) throws(TOMLError) -> TOMLTable {
        guard let entry = table[part.name] else { return try make(.implied, in: table, part) }
        switch entry.node.value {
        case .table(let next) where next.origin != .inline: return next
        case .array(let elements) where table.growing.contains(part.name):
            if case .table(let next)? = elements.last?.value { return next }
        default: break
        }
        throw scanner.failure("'\(part.name)' is \(entry.node.kind) that is complete already", at: part.offset)
    }

    private mutating func headerTable(_ table: TOMLTable, _ last: KeyPart) throws(TOMLError) -> TOMLTable {
        guard let entry = table[last.name] else { return try make(.header, in: table, last) }
        if case .table(let next) = entry.node.value, next.origin == .implied {
            next.origin = .header
            return next
        }
        throw duplicate(last, entry)
    }

    private mutating func arrayElement(
        _ table: TOMLTable, _ last: KeyPart, _ start: Int
    ) throws(TOMLError) -> TOMLTable {
        let element = TOMLTable(.header)
        if let entry = table[last.name] {
            guard table.growing.contains(last.name) else { throw duplicate(last, entry) }
        } else {
            table.insert(last.name, at: last.offset, TOMLNode(value: .array([]), offset: start))
            table.growing.insert(last.name)
        }
        try countKey(last)
        table.append(element, to: last.name, at: start)
        return element
    }

    private mutating func make(
        _ origin: TOMLTable.Origin, in table: TOMLTable, _ part: KeyPart
    ) throws(TOMLError) -> TOMLTable {
        try countKey(part)
        let made = TOMLTable(origin)
        made.section = section
        table.insert(part.name, at: part.offset, TOMLNode(value: .table(made), offset: part.offset))
        return made
    }

    private func duplicate(_ part: KeyPart, _ entry: TOMLTable.Entry) -> TOMLError {
        let line = scanner.position(of: entry.keyOffset).line
        return scanner.failure("'\(part.name)' was defined already, in line \(line)", at: part.offset)
    }

    private mutating func countKey(_ part: KeyPart) throws(TOMLError) {
        keys += 1
        guard keys <= TOMLDocument.keysMax else {
            throw scanner.failure("more than \(TOMLDocument.keysMax) keys", at: part.offset)
        }
    }

    // MARK: Keys and values

    private struct KeyPart {
        let name: String
        let offset: Int
    }

    private mutating func key() throws(TOMLError) -> [KeyPart] {
        var parts: [KeyPart] = []
        while true {
            let offset = scanner.offset
            parts.append(KeyPart(name: try scanner.simpleKey(), offset: offset))
            guard parts.count <= TOMLDocument.nestingMax else {
                throw scanner.failure("more than \(TOMLDocument.nestingMax) levels", at: offset)
            }
            scanner.skipSpaces()
            guard scanner.take(".") else { return parts }
            scanner.skipSpaces()
        }
    }

    private mutating func keyValue(_ table: TOMLTable, depth: Int = 0) throws(TOMLError) {
        let path = try key()
        scanner.skipSpaces()
        try scanner.expect("=", in: "a key's definition")
        scanner.skipSpaces()

        var target = table
        for part in path.dropLast() {
            if let entry = target[part.name] {
                guard case .table(let next) = entry.node.value, next.origin == .dotted, next.section == section else {
                    throw duplicate(part, entry)
                }
                target = next
            } else {
                target = try make(.dotted, in: target, part)
            }
        }
        guard let last = path.last else { return }
        if let entry = target[last.name] { throw duplicate(last, entry) }
        try countKey(last)
        let node = try value(depth: depth + path.count)
        target.insert(last.name, at: last.offset, node)
    }

    private mutating func value(depth: Int) throws(TOMLError) -> TOMLNode {
        let offset = scanner.offset
        guard let byte = scanner.peek else { throw scanner.failure("a value is missing", at: offset) }
        switch byte {
        case UInt8(ascii: "["), UInt8(ascii: "{"):
            guard depth < TOMLDocument.nestingMax else {
                throw scanner.failure("more than \(TOMLDocument.nestingMax) levels", at: offset)
            }
            scanner.advance()
            if byte == UInt8(ascii: "[") {
                return TOMLNode(value: .array(try array(depth: depth)), offset: offset)
            }
            return TOMLNode(value: .table(try inlineTable(depth: depth)), offset: offset)
        case UInt8(ascii: "\""), UInt8(ascii: "'"):
            return TOMLNode(value: .string(try scanner.string()), offset: offset)
        default:
            return TOMLNode(value: try scanner.scalar(), offset: offset)
        }
    }

    private mutating func array(depth: Int) throws(TOMLError) -> [TOMLNode] {
        var elements: [TOMLNode] = []
        while true {
            try scanner.skipBlankLines()
            if scanner.take("]") { return elements }
            elements.append(try value(depth: depth + 1))
            try scanner.skipBlankLines()
            if !scanner.take(",") {
                try scanner.expect("]", in: "the array")
                return elements
            }
        }
    }

    private mutating func inlineTable(depth: Int) throws(TOMLError) -> TOMLTable {
        let table = TOMLTable(.dotted)
        // Its dotted keys form a section of their own, so that nothing outside adds to them later.
        let outer = section
        section = -scanner.offset
        scanner.skipSpaces()
        if !scanner.take("}") {
            repeat {
                scanner.skipSpaces()
                try keyValue(table, depth: depth + 1)
                scanner.skipSpaces()
            } while scanner.take(",")
            try scanner.expect("}", in: "the inline table")
        }
        section = outer
        close(table)
        return table
    }

    private func close(_ table: TOMLTable) {
        table.origin = .inline
        for entry in table.entries {
            if case .table(let inner) = entry.node.value, inner.origin == .dotted { close(inner) }
        }
    }
}

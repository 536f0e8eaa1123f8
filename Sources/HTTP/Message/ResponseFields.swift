/// Header fields of an answer, encoded as they are added.
public struct ResponseFields: Sendable {
    private(set) var bytes: [UInt8] = []

    public init() {}

    /// Adds a field. False, and nothing added, when the value can not stand in a header: it may come from a client
    /// who tries to end the head early. Framing and connection are the server's own: never add those fields.
    @discardableResult
    public mutating func add(_ name: StaticString, _ value: String) -> Bool {
        guard value.utf8.allSatisfy(ASCII.isFieldContent) else { return false }
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        append(value)
        return true
    }

    /// The same for a name that is made at run time, as those of user metadata are.
    @discardableResult
    public mutating func add(name: String, _ value: String) -> Bool {
        guard !name.isEmpty, name.utf8.allSatisfy(ASCII.isToken), value.utf8.allSatisfy(ASCII.isFieldContent) else {
            return false
        }
        bytes.append(contentsOf: name.utf8)
        append(value)
        return true
    }

    /// The same for a value that need not be text.
    @discardableResult
    public mutating func add(name: String, bytes value: [UInt8]) -> Bool {
        guard !name.isEmpty, name.utf8.allSatisfy(ASCII.isToken), value.allSatisfy(ASCII.isFieldContent) else {
            return false
        }
        bytes.append(contentsOf: name.utf8)
        append(value)
        return true
    }

    private mutating func append(_ value: String) { append(value.utf8) }

    private mutating func append(_ value: some Collection<UInt8>) {
        bytes.append(contentsOf: ": ".utf8)
        bytes.append(contentsOf: value)
        bytes.append(contentsOf: "\r\n".utf8)
    }
}

extension ResponseFields {
    public init(contentType: StaticString) {
        self.init()
        add("content-type", contentType.description)
    }
}

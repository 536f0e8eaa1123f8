/// The parameters of a request, decoded, in their order.
struct S3Query: Sendable {
    struct Parameter: Sendable {
        var name: [UInt8]
        var value: [UInt8]
    }

    static let parametersMax = 256

    let parameters: [Parameter]

    init(_ text: String?) throws(S3Error) {
        var parameters: [Parameter] = []
        for part in (text ?? "").utf8.split(separator: UInt8(ascii: "&")) {
            guard parameters.count < Self.parametersMax else { throw S3Error(.invalidURI, "Too many parameters.") }
            let end = part.firstIndex(of: UInt8(ascii: "="))
            let rawValue = end.map { part[part.index(after: $0)...] } ?? part[part.endIndex...]
            guard let name = PercentCoding.decode(part[..<(end ?? part.endIndex)], plusIsSpace: true),
                let value = PercentCoding.decode(rawValue, plusIsSpace: true)
            else { throw S3Error(.invalidURI, "The query could not be decoded.") }
            parameters.append(Parameter(name: name, value: value))
        }
        self.parameters = parameters
    }

    func bytes(_ name: StaticString) -> [UInt8]? {
        name.withUTF8Buffer { name in parameters.first { $0.name.elementsEqual(name) }?.value }
    }

    subscript(name: StaticString) -> String? { bytes(name).map { String(decoding: $0, as: UTF8.self) } }

    func has(_ name: StaticString) -> Bool { bytes(name) != nil }

    /// A number that must be whole and not negative.
    func number(_ name: StaticString) throws(S3Error) -> Int? {
        guard let text = self[name], !text.isEmpty else { return nil }
        guard let value = Int(text), value >= 0, text.utf8.first != UInt8(ascii: "+") else {
            throw S3Error(
                .invalidArgument, "Provided \(name) not an integer or within integer range.",
                details: [("ArgumentName", "\(name)"), ("ArgumentValue", text)])
        }
        return value
    }
}

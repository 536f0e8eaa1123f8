import JSON

/// A command as it reaches a server, or this process itself when there is none: its words, and what was said with them.
struct ControlRequest: Equatable, Sendable {
    static let bytesMax = 1 << 20

    var command: String
    var arguments: JSON
    /// Lines that say how far it is come in front of the answer.
    var wantsProgress = false

    var json: JSON { ["command": .string(command), "arguments": arguments, "progress": .bool(wantsProgress)] }

    init(_ command: String, _ arguments: JSON, wantsProgress: Bool = false) {
        self.command = command
        self.arguments = arguments
        self.wantsProgress = wantsProgress
    }

    init(_ bytes: [UInt8]) throws(CommandFailure) {
        let json: JSON
        do throws(JSONFault) { json = try JSON(bytes) } catch {
            throw .misuse("the request is no JSON: \(error.reason) at byte \(error.offset)")
        }
        guard let command = json["command"]?.text, let arguments = json["arguments"], arguments.members != nil else {
            throw .misuse("a request is {\"command\": \"...\", \"arguments\": {...}}")
        }
        self.init(command, arguments, wantsProgress: json["progress"]?.bool ?? false)
    }
}

/// What a request came to, in the form of the wire.
enum ControlResponse {
    static func json(_ result: Result<JSON, CommandFailure>) -> JSON {
        switch result {
        case .success(let value): ["result": value]
        case .failure(let failure):
            ["error": ["status": .number(failure.status.rawValue), "message": .string(failure.message)]]
        }
    }

    static func result(_ bytes: [UInt8]) -> Result<JSON, CommandFailure>? {
        guard let json = try? JSON(bytes) else { return nil }
        if let value = json["result"] { return .success(value) }
        guard let error = json["error"], let message = error["message"]?.text else { return nil }
        let isMisuse = error["status"] == .number(ExitStatus.misuse.rawValue)
        return .failure(isMisuse ? .misuse(message) : .failure(message))
    }
}

/// Takes a request's arguments out one by one; what nobody asked for is refused, so that no word is passed over in
/// silence.
struct Arguments {
    private let members: [JSON.Member]
    private var taken: Set<String> = []
    /// For who asks how far it is.
    let meter: Meter

    init(_ json: JSON, _ meter: Meter) {
        members = json.members ?? []
        self.meter = meter
    }

    private mutating func value(_ name: String) -> JSON? {
        taken.insert(name)
        return members.first { $0.name == name }?.value
    }

    mutating func optional(_ name: String) throws(CommandFailure) -> String? {
        guard let value = value(name) else { return nil }
        guard let text = value.text else { throw .misuse("\(name) must be a text") }
        return text
    }

    mutating func text(_ name: String) throws(CommandFailure) -> String {
        guard let text = try optional(name), !text.isEmpty else { throw .misuse("\(name) is missing") }
        return text
    }

    mutating func number<Number: FixedWidthInteger>(_ name: String) throws(CommandFailure) -> Number? {
        guard let value = value(name) else { return nil }
        guard let number = value.unsigned.flatMap({ Number(exactly: $0) }) else {
            throw .misuse("\(name) must be a number up to \(Number.max)")
        }
        return number
    }

    mutating func flag(_ name: String) throws(CommandFailure) -> Bool? {
        guard let value = value(name) else { return nil }
        guard let flag = value.bool else { throw .misuse("\(name) must be true or false") }
        return flag
    }

    mutating func list(_ name: String) throws(CommandFailure) -> [String]? {
        guard let value = value(name) else { return nil }
        guard let items = value.array else { throw .misuse("\(name) must be a list") }
        var texts: [String] = []
        for item in items {
            guard let text = item.text else { throw .misuse("\(name) must be a list of texts") }
            texts.append(text)
        }
        return texts
    }

    func finish() throws(CommandFailure) {
        if let unknown = members.first(where: { !taken.contains($0.name) }) {
            throw .misuse("nothing is known of \"\(unknown.name)\" here")
        }
    }
}

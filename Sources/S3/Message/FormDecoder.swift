/// Takes a form apart that a browser sends (`multipart/form-data`, RFC 7578): fields, and the bytes of the field
/// `file`, which is the last one that counts. A plain state machine: it is shown bytes and tells the file's among
/// them.
package struct FormDecoder {
    package static let boundaryBytesMax = 70
    package static let headerBytesMax = 4 << 10
    package static let fieldsMax = 100
    package static let fieldBytesMax = 32 << 10

    private enum State { case preamble, afterBoundary, headers, field, file, complete }

    /// Two dashes and the boundary, behind a line's end.
    private let delimiter: [UInt8]
    private var state = State.preamble
    /// Bytes that may be the beginning of a delimiter, or of a line.
    private var held: [UInt8] = [13, 10]
    private var name = ""
    private var value: [UInt8] = []
    private var fieldBytes = 0
    private(set) var fields: [(name: String, value: String)] = []
    private(set) var fileName = ""
    private(set) var fileType: String?
    /// The file's bytes have begun: all fields that count are there.
    private(set) var hasFile = false

    /// From the request's content type; nil when that is no form, or has no boundary that could be one.
    package init?(contentType: String) {
        guard contentType.lowercased().hasPrefix("multipart/form-data") else { return nil }
        for part in contentType.split(separator: ";").dropFirst() {
            let text = part.drop { $0 == " " }
            guard text.lowercased().hasPrefix("boundary=") else { continue }
            var boundary = text.dropFirst(9)
            if boundary.first == "\"", boundary.last == "\"", boundary.utf8.count >= 2 {
                boundary = boundary.dropFirst().dropLast()
            }
            guard (1...Self.boundaryBytesMax).contains(boundary.utf8.count) else { return nil }
            delimiter = [13, 10, 0x2d, 0x2d] + Array(boundary.utf8)
            return
        }
        return nil
    }

    package var isComplete: Bool { if case .complete = state { true } else { false } }

    private static func fault(_ what: String) -> S3Error { S3Error(.malformedPOST, what) }

    package mutating func take(
        _ bytes: UnsafeRawBufferPointer, _ data: (UnsafeRawBufferPointer) throws(S3Error) -> Void
    ) throws(S3Error) {
        var rest = bytes[...]
        while !rest.isEmpty || !held.isEmpty {
            let before = (rest.count, held.count, state)
            try step(&rest, data)
            if rest.count == before.0, held.count == before.1, state == before.2 { return }
            if case .complete = state { return }
        }
    }

    private mutating func step(
        _ rest: inout Slice<UnsafeRawBufferPointer>, _ data: (UnsafeRawBufferPointer) throws(S3Error) -> Void
    ) throws(S3Error) {
        switch state {
        case .preamble, .field, .file: try content(&rest, data)
        case .afterBoundary:
            guard pull(&rest, upTo: 2) else { return }
            if held.starts(with: [0x2d, 0x2d]) {
                state = .complete
                held = []
            } else if held.starts(with: [13, 10]) {
                held.removeFirst(2)
                state = .headers
            } else {
                throw Self.fault("The body of your POST request is not well-formed multipart/form-data.")
            }
        case .headers: try headers(&rest)
        case .complete: rest = rest[rest.endIndex...]
        }
    }

    /// Whether so many bytes are held now.
    private mutating func pull(_ rest: inout Slice<UnsafeRawBufferPointer>, upTo count: Int) -> Bool {
        while held.count < count, let byte = rest.popFirst() { held.append(byte) }
        return held.count >= count
    }

    /// Everything up to the next delimiter. What is held is always the beginning of one.
    private mutating func content(
        _ rest: inout Slice<UnsafeRawBufferPointer>, _ data: (UnsafeRawBufferPointer) throws(S3Error) -> Void
    ) throws(S3Error) {
        if held.isEmpty {
            // Most bytes of a file are no line's end.
            let end = rest.firstIndex(of: 13) ?? rest.endIndex
            try emit(UnsafeRawBufferPointer(rebasing: rest[..<end]), data)
            rest = rest[end...]
            guard let byte = rest.popFirst() else { return }
            held = [byte]
        }
        while held.count < delimiter.count, delimiter.starts(with: held) {
            guard let byte = rest.popFirst() else { return }
            held.append(byte)
        }
        if held == delimiter {
            held = []
            try endContent()
            state = .afterBoundary
            return
        }
        // It was none: its first byte is content, and the rest may be the beginning of another one.
        let next = held.dropFirst().firstIndex(of: 13) ?? held.endIndex
        let content = Array(held[..<next])
        held.removeFirst(next)
        let result = content.withUnsafeBytes { bytes in
            Result { () throws(S3Error) in try emit(bytes, data) }
        }
        try result.get()
    }

    private mutating func emit(
        _ bytes: UnsafeRawBufferPointer, _ data: (UnsafeRawBufferPointer) throws(S3Error) -> Void
    ) throws(S3Error) {
        guard !bytes.isEmpty else { return }
        switch state {
        case .file: try data(bytes)
        case .field:
            fieldBytes += bytes.count
            guard fieldBytes <= Self.fieldBytesMax else {
                throw S3Error(.maxMessageLengthExceeded, "The fields of your form are too long.")
            }
            value.append(contentsOf: bytes)
        default: throw Self.fault("There is no form where the body begins.")
        }
    }

    private mutating func endContent() throws(S3Error) {
        guard case .field = state else { return }
        guard fields.count < Self.fieldsMax else { throw Self.fault("Your form has too many fields.") }
        // What follows the file does not count.
        if !hasFile { fields.append((name, String(decoding: value, as: UTF8.self))) }
        value = []
    }

    private mutating func headers(_ rest: inout Slice<UnsafeRawBufferPointer>) throws(S3Error) {
        while !Self.endsHeaders(held) {
            guard let byte = rest.popFirst() else { return }
            held.append(byte)
            guard held.count <= Self.headerBytesMax else { throw Self.fault("The head of a field is too long.") }
        }
        let lines = String(decoding: held, as: UTF8.self).split(separator: "\r\n")
        held = []
        var found: String?
        var file = ""
        var type: String?
        for line in lines {
            guard let colon = line.firstIndex(of: ":") else { throw Self.fault("The head of a field is malformed.") }
            let text = line[line.index(after: colon)...].drop { $0 == " " }
            switch line[..<colon].lowercased() {
            case "content-disposition":
                found = Self.parameter("name", of: text)
                file = Self.parameter("filename", of: text) ?? ""
            case "content-type": type = String(text)
            default: break
            }
        }
        guard let found else { throw Self.fault("A field has no name.") }
        if found == "file", !hasFile {
            // Browsers may send the whole path.
            fileName = file.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last.map(String.init) ?? ""
            fileType = type
            hasFile = true
            state = .file
        } else {
            name = found
            state = .field
        }
    }

    /// Asked for each byte: it must not look at all of them.
    private static func endsHeaders(_ bytes: [UInt8]) -> Bool {
        let count = bytes.count
        guard count >= 4 else { return bytes == [13, 10] }
        return bytes[count - 1] == 10 && bytes[count - 2] == 13 && bytes[count - 3] == 10 && bytes[count - 4] == 13
    }

    private static func parameter(_ name: String, of text: Substring) -> String? {
        for part in text.split(separator: ";").dropFirst() {
            let item = part.drop { $0 == " " }
            guard item.lowercased().hasPrefix(name + "=") else { continue }
            let value = item.dropFirst(name.count + 1)
            return value.first == "\"" ? String(value.dropFirst().prefix { $0 != "\"" }) : String(value)
        }
        return nil
    }
}

/// Reads a head that is complete: lines that each end with CR LF, without the empty one.
struct HeadParser {
    let limits: HTTPLimits

    func parse(_ bytes: UnsafeRawBufferPointer) throws(RequestFault) -> RequestHead {
        var lines = Lines(bytes)
        guard let first = lines.next() else { throw .requestLine }
        let (method, target, minorVersion) = try requestLine(first)

        var copy: [UInt8] = []
        copy.reserveCapacity(bytes.count - first.count)
        var places: [HeaderFields.Place] = []
        places.reserveCapacity(16)
        while let line = lines.next() {
            guard places.count < limits.fieldsMax else { throw .tooManyFields }
            if line[0] == ASCII.space || line[0] == ASCII.tab { throw .foldedField }
            let (name, value) = try Self.field(line)
            let start = UInt32(copy.count)
            for byte in name { copy.append(ASCII.lower(byte)) }
            copy.append(contentsOf: value)
            places.append(
                HeaderFields.Place(
                    nameStart: start, nameEnd: start + UInt32(name.count), valueStart: start + UInt32(name.count),
                    valueEnd: UInt32(copy.count)))
        }
        let fields = HeaderFields(bytes: copy, places: places)
        let parts = try Self.parts(of: target, method)
        let host = try Self.host(fields, minorVersion, authority: parts.authority)
        let framing = try Self.framing(fields, minorVersion)
        return RequestHead(
            method: method, target: target, path: parts.path, query: parts.query, host: host,
            minorVersion: minorVersion, fields: fields, framing: framing,
            expectsContinue: try Self.expectsContinue(fields, minorVersion, framing),
            keepsAlive: minorVersion == 1
                ? !fields.lists("close", in: "connection") : fields.lists("keep-alive", in: "connection"))
    }

    private struct Lines {
        private var rest: Slice<UnsafeRawBufferPointer>
        init(_ bytes: UnsafeRawBufferPointer) { rest = bytes[...] }

        /// Without its end. The caller has seen to it that each line has one and is not empty.
        mutating func next() -> UnsafeRawBufferPointer? {
            guard let feed = rest.firstIndex(of: ASCII.lineFeed) else { return nil }
            defer { rest = rest[(feed + 1)...] }
            return UnsafeRawBufferPointer(rebasing: rest[..<(feed - 1)])
        }
    }

    private func requestLine(_ line: UnsafeRawBufferPointer) throws(RequestFault) -> (Method, String, Int) {
        guard let firstSpace = line.firstIndex(of: ASCII.space), let lastSpace = line.lastIndex(of: ASCII.space),
            firstSpace < lastSpace
        else { throw .requestLine }
        let method = line[..<firstSpace]
        let target = line[(firstSpace + 1)..<lastSpace]
        let version = line[(lastSpace + 1)...]
        guard !method.isEmpty, method.count <= HTTPLimits.methodBytesMax, method.allSatisfy(ASCII.isToken) else {
            throw .method
        }
        guard !target.isEmpty else { throw .target }
        guard target.count <= limits.targetBytesMax else { throw .targetTooLong }
        // Bytes above ASCII should be escaped, but clients that do not are many and nothing is lost by them.
        guard target.allSatisfy({ $0 > 0x20 && $0 != 0x7f }) else { throw .target }
        guard version.count == 8, version.prefix(7).elementsEqual("HTTP/1.".utf8) else {
            throw version.starts(with: "HTTP/".utf8) ? .version : .requestLine
        }
        guard let minor = version.last, ASCII.isDigit(minor) else { throw .requestLine }
        // A later minor version is compatible by definition.
        return (
            Method(String(decoding: method, as: UTF8.self)), String(decoding: target, as: UTF8.self),
            minor == UInt8(ascii: "0") ? 0 : 1
        )
    }

    /// `name: value`, the value without the white space around it.
    static func field(
        _ line: UnsafeRawBufferPointer
    ) throws(RequestFault) -> (name: Slice<UnsafeRawBufferPointer>, value: Slice<UnsafeRawBufferPointer>) {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else { throw .fieldName }
        let name = line[..<colon]
        // White space before the colon is no token character: readers that skip it see another field than we.
        guard name.allSatisfy(ASCII.isToken) else { throw .fieldName }
        let value = ASCII.trimmed(line[(colon + 1)...])
        guard value.allSatisfy(ASCII.isFieldContent) else { throw .fieldValue }
        return (name, value)
    }

    private static func parts(
        of target: String, _ method: Method
    ) throws(RequestFault) -> (path: String, query: String?, authority: String?) {
        var rest = Substring(target)
        var authority: String?
        if method == .connect { throw .method }
        if rest == "*" {
            guard method == .options else { throw .target }
            return ("*", nil, nil)
        }
        if !rest.hasPrefix("/") {
            let scheme = rest.prefix { $0 != ":" }.lowercased()
            guard scheme == "http" || scheme == "https" else { throw .target }
            rest = rest.dropFirst(scheme.count)
            guard rest.hasPrefix("://") else { throw .target }
            rest = rest.dropFirst(3)
            let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
            authority = String(rest[..<end])
            guard end > rest.startIndex else { throw .target }
            rest = rest[end...]
        }
        guard let mark = rest.utf8.firstIndex(of: UInt8(ascii: "?")) else {
            return (rest.isEmpty ? "/" : String(rest), nil, authority)
        }
        let path = rest[..<mark]
        return (path.isEmpty ? "/" : String(path), String(rest[rest.utf8.index(after: mark)...]), authority)
    }

    private static func host(
        _ fields: HeaderFields, _ minorVersion: Int, authority: String?
    ) throws(RequestFault) -> String {
        guard let index = fields.index(of: "host") else {
            // Nobody would see that it was left out of what is signed.
            guard minorVersion == 0, authority == nil else { throw .host }
            return ""
        }
        guard fields.index(of: "host", from: index + 1) == nil else { throw .host }
        let host = fields.value(at: index)
        // No path, no user, no list: what a host and a port are made of.
        let isGood = host.utf8.allSatisfy { byte in
            byte > 0x20 && byte < 0x7f && !"/\\?#@,\"<>".utf8.contains(byte)
        }
        guard isGood else { throw .host }
        // Signatures are made over Host, and requests are routed by the other: two names are two requests.
        if let authority, authority.lowercased() != host.lowercased() { throw .host }
        return host
    }

    private static func framing(_ fields: HeaderFields, _ minorVersion: Int) throws(RequestFault) -> BodyFraming {
        let coding = fields.index(of: "transfer-encoding")
        let length = fields.index(of: "content-length")
        if let coding {
            if length != nil { throw .contentLengthWithTransferEncoding }
            // HTTP/1.0 knows no codings: a proxy of that age would have passed the field on unread.
            guard minorVersion == 1, fields.index(of: "transfer-encoding", from: coding + 1) == nil else {
                throw .transferEncoding
            }
            let value = fields.valueBytes(at: coding)
            if value.elementsEqual("chunked".utf8, by: { ASCII.lower($0) == $1 }) { return .chunked }
            // A known one in an odd form is an attempt; an unknown one is honest.
            let isOdd =
                value.isEmpty
                || value.map(ASCII.lower).split(separator: UInt8(ascii: ","))
                    .contains { ASCII.trimmed($0).starts(with: "chunked".utf8) }
            throw isOdd ? .transferEncoding : .unknownTransferEncoding
        }
        guard let length else { return .none }
        guard fields.index(of: "content-length", from: length + 1) == nil else { throw .severalContentLengths }
        let value = fields.valueBytes(at: length)
        guard !value.isEmpty, value.allSatisfy(ASCII.isDigit) else { throw .contentLength }
        var count: UInt64 = 0
        for byte in value {
            let (tens, overflow) = count.multipliedReportingOverflow(by: 10)
            guard !overflow else { throw .contentLength }
            let (sum, carry) = tens.addingReportingOverflow(UInt64(byte - 0x30))
            guard !carry else { throw .contentLength }
            count = sum
        }
        guard count <= UInt64(Int64.max) else { throw .contentLength }
        return .length(count)
    }

    private static func expectsContinue(
        _ fields: HeaderFields, _ minorVersion: Int, _ framing: BodyFraming
    ) throws(RequestFault) -> Bool {
        guard let index = fields.index(of: "expect") else { return false }
        let isContinue = fields.valueBytes(at: index).elementsEqual("100-continue".utf8) { ASCII.lower($0) == $1 }
        guard isContinue, fields.index(of: "expect", from: index + 1) == nil else { throw .expectation }
        // HTTP/1.0 clients do not know the answer; without a body there is nothing to wait for.
        return minorVersion == 1 && framing != .none && framing != .length(0)
    }
}

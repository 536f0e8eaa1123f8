/// A request's method: upper and lower case differ.
public struct Method: Hashable, Sendable, CustomStringConvertible {
    public let name: String

    public init(_ name: String) { self.name = name }

    public static let get = Method("GET")
    public static let head = Method("HEAD")
    public static let put = Method("PUT")
    public static let post = Method("POST")
    public static let delete = Method("DELETE")
    public static let options = Method("OPTIONS")
    public static let copy = Method("COPY")
    public static let connect = Method("CONNECT")

    public var description: String { name }
}

/// How a request's body ends.
public enum BodyFraming: Equatable, Sendable {
    case none
    case length(UInt64)
    case chunked
}

/// Everything of a request that comes before its body.
public struct RequestHead: Sendable {
    public let method: Method
    /// As it was sent, percent signs and all: signatures are made over it.
    public let target: String
    /// The target without authority and query.
    public let path: String
    /// What follows the first `?` of the target; nil without one.
    public let query: String?
    /// Whom the request is for: Host, and the same in an absolute target; empty for HTTP/1.0 without it.
    public let host: String
    /// 0 or 1.
    public let minorVersion: Int
    public let fields: HeaderFields
    public let framing: BodyFraming
    /// The client waits for `100 Continue` before it sends the body.
    public let expectsContinue: Bool
    /// Whether the client can do with another request on the connection.
    public let keepsAlive: Bool

    /// The same with one more field, whose name is in lower case. Nil: it can be none.
    public func adding(_ name: String, _ value: [UInt8]) -> RequestHead? {
        fields.adding(name, value).map { fields in
            RequestHead(
                method: method, target: target, path: path, query: query, host: host, minorVersion: minorVersion,
                fields: fields, framing: framing, expectsContinue: expectsContinue, keepsAlive: keepsAlive)
        }
    }
}

/// Header fields in the order in which they came, their bytes in one piece of memory.
public struct HeaderFields: Sendable {
    struct Place {
        var nameStart: UInt32
        var nameEnd: UInt32
        var valueStart: UInt32
        var valueEnd: UInt32
    }

    private let bytes: [UInt8]
    private let places: [Place]

    /// Names must be in lower case already.
    init(bytes: [UInt8], places: [Place]) {
        self.bytes = bytes
        self.places = places
    }

    public var count: Int { places.count }

    /// With one more. Nil: the value can not stand in a header. `name` is a field's, in lower case.
    func adding(_ name: String, _ value: [UInt8]) -> HeaderFields? {
        guard !name.isEmpty, name.utf8.allSatisfy(ASCII.isToken), value.allSatisfy(ASCII.isFieldContent) else {
            return nil
        }
        let (start, middle) = (UInt32(bytes.count), UInt32(bytes.count + name.utf8.count))
        let place = Place(
            nameStart: start, nameEnd: middle, valueStart: middle, valueEnd: middle + UInt32(value.count))
        return HeaderFields(bytes: bytes + name.utf8 + value, places: places + [place])
    }

    /// In lower case.
    public func name(at index: Int) -> String {
        String(decoding: bytes[Int(places[index].nameStart)..<Int(places[index].nameEnd)], as: UTF8.self)
    }

    /// `name` is in lower case.
    public func isNamed(_ name: StaticString, at index: Int) -> Bool {
        let place = places[index]
        return name.withUTF8Buffer { bytes[Int(place.nameStart)..<Int(place.nameEnd)].elementsEqual($0) }
    }

    /// Whether a name begins so; `prefix` is in lower case.
    public func hasPrefix(_ prefix: StaticString, at index: Int) -> Bool {
        let name = bytes[Int(places[index].nameStart)..<Int(places[index].nameEnd)]
        return prefix.withUTF8Buffer { name.starts(with: $0) }
    }

    public func value(at index: Int) -> String { String(decoding: valueBytes(at: index), as: UTF8.self) }

    /// As sent, without the white space around it. No control characters but tabs.
    public func valueBytes(at index: Int) -> ArraySlice<UInt8> {
        bytes[Int(places[index].valueStart)..<Int(places[index].valueEnd)]
    }

    /// Where a field of this name is, at or after `start`. `name` is in lower case.
    public func index(of name: String, from start: Int = 0) -> Int? {
        var name = name
        return name.withUTF8 { wanted in
            for index in start..<places.count {
                let place = places[index]
                if bytes[Int(place.nameStart)..<Int(place.nameEnd)].elementsEqual(wanted) { return index }
            }
            return nil
        }
    }

    /// The first value of this name, which is in lower case.
    public subscript(name: String) -> String? { index(of: name).map(value(at:)) }

    /// All values of this name, in their order.
    public func all(_ name: String) -> [String] {
        var values: [String] = []
        var start = 0
        while let index = index(of: name, from: start) {
            values.append(value(at: index))
            start = index + 1
        }
        return values
    }

    /// Whether a list field (`Connection`) has this element, in whatever case.
    public func lists(_ element: String, in name: String) -> Bool {
        all(name).contains { value in
            value.utf8.split(separator: UInt8(ascii: ",")).contains { part in
                ASCII.trimmed(part).elementsEqual(element.utf8) { ASCII.lower($0) == $1 }
            }
        }
    }
}

/// The character classes of RFC 9110.
enum ASCII {
    static let tab = UInt8(ascii: "\t"), space = UInt8(ascii: " ")
    static let carriageReturn: UInt8 = 13, lineFeed: UInt8 = 10

    @inline(__always)
    static func lower(_ byte: UInt8) -> UInt8 { byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte }

    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    static func hex(_ byte: UInt8) -> UInt64? {
        switch byte {
        case 0x30...0x39: UInt64(byte - 0x30)
        case 0x41...0x46: UInt64(byte - 0x41 + 10)
        case 0x61...0x66: UInt64(byte - 0x61 + 10)
        default: nil
        }
    }

    /// `tchar`.
    static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
        case 0x21, 0x23...0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e, 0x5f, 0x60, 0x7c, 0x7e: true
        default: false
        }
    }

    /// What may stand in a field's value: no control characters but tabs.
    @inline(__always)
    static func isFieldContent(_ byte: UInt8) -> Bool { byte == tab || (byte >= 0x20 && byte != 0x7f) }

    static func trimmed<Bytes: BidirectionalCollection<UInt8>>(_ bytes: Bytes) -> Bytes.SubSequence
    where Bytes.SubSequence: BidirectionalCollection {
        var rest = bytes[...]
        while let first = rest.first, first == tab || first == space { rest = rest.dropFirst() }
        while let last = rest.last, last == tab || last == space { rest = rest.dropLast() }
        return rest
    }
}

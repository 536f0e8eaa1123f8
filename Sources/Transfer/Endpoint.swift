/// Where a server is: `https://HOST[:PORT][/PATH]`.
public struct Endpoint: Equatable, Sendable, CustomStringConvertible {
    public let isSecure: Bool
    public let host: String
    /// Nil: the scheme's own.
    public let port: UInt16?
    /// Empty, or with a slash in front and none behind.
    public let path: String

    /// Nil: it is none that we take. One with a user's name in it has a secret where everybody looks.
    public init?(_ text: String) {
        guard let scheme = text.utf8.firstIndex(of: UInt8(ascii: ":")), text[scheme...].hasPrefix("://") else {
            return nil
        }
        switch text[..<scheme].lowercased() {
        case "http": isSecure = false
        case "https": isSecure = true
        default: return nil
        }
        let rest = text[text.index(scheme, offsetBy: 3)...]
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        var authority = rest[..<slash]
        var path = rest[slash...]
        while path.hasSuffix("/") { path.removeLast() }
        guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") })
        else {
            return nil
        }
        self.path = String(path)
        var number: UInt16?
        if let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") {
            guard let value = UInt16(authority[authority.index(after: colon)...]), value > 0 else { return nil }
            number = value == (isSecure ? 443 : 80) ? nil : value
            authority = authority[..<colon]
        }
        port = number
        let isNumeric = authority.hasPrefix("[") && authority.hasSuffix("]")
        let good = authority.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"): true
            case UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ":"): isNumeric
            default: false
            }
        }
        guard good, !authority.isEmpty else { return nil }
        host = authority.lowercased()
    }

    private init(isSecure: Bool, host: String, port: UInt16?, path: String) {
        (self.isSecure, self.host, self.port, self.path) = (isSecure, host, port, path)
    }

    /// What the field Host says.
    public var authority: String { port.map { "\(host):\($0)" } ?? host }
    public var base: String { "\(isSecure ? "https" : "http")://\(authority)" }
    public var description: String { base + path }

    /// The same with a name in front of the host's.
    public func below(_ label: String) -> Endpoint {
        Endpoint(isSecure: isSecure, host: "\(label).\(host)", port: port, path: path)
    }

    /// A text as a part of a path or of a query.
    public static func escape(_ text: String, keepsSlash: Bool = false) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        let digits = Array("0123456789ABCDEF".utf8)
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                bytes.append(byte)
            case UInt8(ascii: "/") where keepsSlash: bytes.append(byte)
            default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

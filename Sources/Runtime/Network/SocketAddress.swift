import CShim

/// Where a socket is bound or connected to.
public enum SocketAddress: Hashable, Sendable {
    /// The address as one number, most significant byte first on the wire: 127.0.0.1 is 0x7f000001.
    case ipv4(UInt32, port: UInt16)
    /// The two halves of the address as numbers, most significant byte first on the wire.
    case ipv6(UInt64, UInt64, port: UInt16, scope: UInt32 = 0)
    /// A path in the file system; empty for the unnamed end of a connection.
    case unix(String)

    /// The longest path that fits into a `sockaddr_un` with its terminating zero.
    public static let unixPathMax = 107

    public static func loopback(port: UInt16) -> SocketAddress { .ipv4(0x7f00_0001, port: port) }

    /// Reads a numeric IPv4 or IPv6 address; nil for anything else, host names included.
    public init?(numeric host: String, port: UInt16) {
        var raw = shim_address()
        guard shim_address_parse(host, &raw) == 0 else { return nil }
        raw.port = port
        self.init(raw)
    }

    public var port: UInt16? {
        switch self {
        case .ipv4(_, let port), .ipv6(_, _, let port, _): port
        case .unix: nil
        }
    }

    public func with(port: UInt16) -> SocketAddress {
        switch self {
        case .ipv4(let host, _): .ipv4(host, port: port)
        case .ipv6(let high, let low, _, let scope): .ipv6(high, low, port: port, scope: scope)
        case .unix: self
        }
    }

    public var isLoopback: Bool {
        switch self {
        case .ipv4(let host, _): host >> 24 == 127
        case .ipv6(let high, let low, _, _):
            (high == 0 && low == 1) || (high == 0 && low >> 24 == 0xffff_7f)
        case .unix: true
        }
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `host:port`, `[host]:port` or the path.
    public var description: String {
        switch self {
        case .ipv4(let host, let port):
            return "\(host >> 24).\(host >> 16 & 255).\(host >> 8 & 255).\(host & 255):\(port)"
        case .ipv6(_, _, let port, let scope):
            var raw = shim_address()
            guard store(into: &raw) else { return "[?]:\(port)" }
            return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
                guard let start = text.baseAddress, shim_address_format(&raw, start, 64) == 0 else {
                    return "[?]:\(port)"
                }
                let host = String(cString: start)
                return scope == 0 ? "[\(host)]:\(port)" : "[\(host)%\(scope)]:\(port)"
            }
        case .unix(let path): return path
        }
    }
}

extension SocketAddress {
    package init?(_ raw: shim_address) {
        let high = UInt64(bigEndian: raw.ip_high), low = UInt64(bigEndian: raw.ip_low)
        switch raw.family {
        case UInt16(SHIM_FAMILY_IPV4): self = .ipv4(UInt32(truncatingIfNeeded: high >> 32), port: raw.port)
        case UInt16(SHIM_FAMILY_IPV6): self = .ipv6(high, low, port: raw.port, scope: raw.scope)
        case UInt16(SHIM_FAMILY_UNIX):
            self = withUnsafeBytes(of: raw.path) { .unix(String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)) }
        default: return nil
        }
    }

    /// False when the path is too long, empty or has a zero in it.
    package func store(into raw: inout shim_address) -> Bool {
        raw = shim_address()
        switch self {
        case .ipv4(let host, let port):
            raw.family = UInt16(SHIM_FAMILY_IPV4)
            raw.port = port
            raw.ip_high = (UInt64(host) << 32).bigEndian
        case .ipv6(let high, let low, let port, let scope):
            raw.family = UInt16(SHIM_FAMILY_IPV6)
            raw.port = port
            raw.scope = scope
            raw.ip_high = high.bigEndian
            raw.ip_low = low.bigEndian
        case .unix(let path):
            let bytes = path.utf8
            guard !bytes.isEmpty, bytes.count <= Self.unixPathMax, !bytes.contains(0) else { return false }
            raw.family = UInt16(SHIM_FAMILY_UNIX)
            withUnsafeMutableBytes(of: &raw.path) { $0.copyBytes(from: bytes) }
        }
        return true
    }
}

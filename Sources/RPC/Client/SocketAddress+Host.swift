import Runtime

extension SocketAddress {
    /// An IPv4 address that came over a socket for both, as what it is.
    public var unmapped: SocketAddress {
        guard case .ipv6(0, let low, let port, _) = self, low >> 32 == 0xffff else { return self }
        return .ipv4(UInt32(truncatingIfNeeded: low), port: port)
    }

    /// As a number, without port and brackets.
    public var host: String {
        let text = description
        guard let colon = text.lastIndex(of: ":"), port != nil else { return text }
        return text[..<colon].filter { $0 != "[" && $0 != "]" }
    }
}

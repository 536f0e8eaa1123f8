import CShim
import Glibc
import Runtime

/// Addresses of hosts by name, and of a netgroup's hosts. Blocks: on a thread that may.
enum HostNames {
    /// One more is looked up, so that it shows.
    static let addressesMax = 1024

    /// This host's.
    static var own: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// `NAME` or `@NETGROUP`; empty when nobody knows it.
    static func addresses(_ name: String) -> [SocketAddress] {
        guard name.hasPrefix("@") else { return lookUp(name) }
        var found: [SocketAddress] = []
        for host in members(String(name.dropFirst())) where found.count <= addressesMax { found += lookUp(host) }
        return found
    }

    private static func lookUp(_ name: String) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = list
        while let item = next, found.count <= addressesMax {
            next = item.pointee.ai_next
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            guard
                getnameinfo(
                    item.pointee.ai_addr, item.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
                    == 0
            else { continue }
            let number = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if let address = SocketAddress(numeric: number, port: 0), !found.contains(address) { found.append(address) }
        }
        return found
    }

    private static func members(_ netgroup: String) -> [String] {
        guard setnetgrent(netgroup) == 1 else { return [] }
        defer { endnetgrent() }
        var names: [String] = []
        var host: UnsafeMutablePointer<CChar>?
        var user: UnsafeMutablePointer<CChar>?
        var domain: UnsafeMutablePointer<CChar>?
        while names.count <= addressesMax, getnetgrent(&host, &user, &domain) == 1 {
            // Without a host the entry is of users.
            if let host { names.append(String(cString: host)) }
        }
        return names
    }
}

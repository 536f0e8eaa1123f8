import CShim
import Runtime

/// Tells the host's rpcbind what is served where, for the clients that ask it instead of being told a port. Without one
/// everything works for the clients that know the port.
///
/// libtirpc talks to rpcbind in its versions 3 and 4 over its Unix socket; what it is told there it tells clients of
/// version 2, the portmapper's, too.
public struct Rpcbind: Sendable {
    public enum Transport: Sendable { case tcp, udp }

    public struct Entry: Hashable, Sendable {
        public var program: UInt32
        public var version: UInt32
        public var transport: Transport
        public var address: SocketAddress

        public init(program: UInt32, version: UInt32, transport: Transport, address: SocketAddress) {
            self.program = program
            self.version = version
            self.transport = transport
            self.address = address
        }

        /// Nil for addresses that rpcbind knows no transport for.
        package var name: String? {
            switch (transport, address) {
            case (.tcp, .ipv4): "tcp"
            case (.udp, .ipv4): "udp"
            case (.tcp, .ipv6): "tcp6"
            case (.udp, .ipv6): "udp6"
            case (_, .unix): nil
            }
        }

        /// RFC 5665 5.2.3.3 and 5.2.3.4: the host, then the two bytes of the port in decimal.
        package var universalAddress: String? {
            guard let port = address.port else { return nil }
            return "\(address.host).\(port >> 8).\(port & 255)"
        }
    }

    private let pool: any BlockingPool

    public init(pool: any BlockingPool) { self.pool = pool }

    /// Tells all; answers why the first that was refused was: `connectionRefused` means that there is no rpcbind.
    public func set(_ entries: [Entry], on loop: EventLoop) async -> Errno? {
        await each(entries, on: loop) { entry, name, address in
            shim_rpcbind_set(entry.program, entry.version, name, address)
        }
    }

    /// Takes all back.
    public func unset(_ entries: [Entry], on loop: EventLoop) async -> Errno? {
        await each(entries, on: loop) { entry, name, _ in
            shim_rpcbind_unset(entry.program, entry.version, name)
        }
    }

    private func each(
        _ entries: [Entry], on loop: EventLoop, _ call: @escaping @Sendable (Entry, String, String) -> Int32
    ) async -> Errno? {
        await pool.run(on: loop) {
            for entry in entries {
                guard let name = entry.name, let address = entry.universalAddress else { continue }
                let result = call(entry, name, address)
                if result < 0 { return Errno(-result) }
            }
            return nil
        }
    }
}

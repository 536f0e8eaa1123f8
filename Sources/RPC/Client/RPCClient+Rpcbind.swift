import Bytes
import Runtime

/// Asks other hosts' rpcbind (RFC 1833) where their programs are.
extension RPCClient {
    private static let program: UInt32 = 100_000
    private static let universalMax = 128

    /// The port of a program on a host; over UDP first, since that is the shorter way, and over TCP where UDP is not
    /// answered.
    public func port(
        of target: RPCTarget, over transport: Rpcbind.Transport, tries: Int = 2
    ) async throws(RPCClientError) -> UInt16 {
        do throws(RPCClientError) {
            return try await port(of: target, over: transport, asking: .udp, tries)
        } catch {
            guard error == .unreachable else { throw error }
            return try await port(of: target, over: transport, asking: .tcp, 1)
        }
    }

    public func port(
        of target: RPCTarget, over transport: Rpcbind.Transport, asking: Rpcbind.Transport, _ tries: Int = 1
    ) async throws(RPCClientError) -> UInt16 {
        let block = Block(capacity: 256)
        var writer = Writer(block.free)
        writer.u32(target.program)
        writer.u32(target.version)
        // The portmapper's version 2 is understood everywhere, but knows no IPv6.
        let isNarrow = if case .ipv4 = target.address { true } else { false }
        if isNarrow {
            writer.u32(transport == .tcp ? 6 : 17)
            writer.u32(0)
        } else {
            for text in [transport == .tcp ? "tcp6" : "udp6", "", ""] {
                Array(text.utf8).withUnsafeBytes { writer.opaque($0) }
            }
        }
        let rpcbind = RPCTarget(
            target.address.with(port: rpcbindPort), from: target.local, program: Self.program,
            version: isNarrow ? 2 : 4)
        let results = try await call(rpcbind, 3, over: asking, Array(writer.written), tries: tries)
        guard let port = results.withUnsafeBytes({ Self.port(answered: $0, isNarrow: isNarrow) }) else {
            throw .malformed
        }
        guard port != 0 else { throw .notRegistered }
        return port
    }

    private static func port(answered bytes: UnsafeRawBufferPointer, isNarrow: Bool) -> UInt16? {
        var reader = Reader(bytes)
        do throws(BytesError) {
            if isNarrow { return UInt16(exactly: try reader.u32()) ?? 0 }
            return port(universal: try reader.inPlace(limit: universalMax))
        } catch { return nil }
    }

    /// RFC 5665 5.2.3.4: the last two numbers of an address; 0 when there are none.
    static func port(universal: UnsafeRawBufferPointer) -> UInt16 {
        let parts = universal.split(separator: UInt8(ascii: ".")).suffix(2)
            .compactMap { UInt8(String(decoding: $0, as: UTF8.self)) }
        return parts.count == 2 ? UInt16(parts[0]) << 8 | UInt16(parts[1]) : 0
    }
}

import RPC
import Runtime
import Testing

@Suite struct RpcbindTests {
    @Test(
        arguments: [
            ("127.0.0.1", 2049, "tcp", "127.0.0.1.8.1"), ("0.0.0.0", 65535, "tcp", "0.0.0.0.255.255"),
            ("::", 2049, "tcp6", "::.8.1"), ("2001:db8::7", 111, "tcp6", "2001:db8::7.0.111"),
        ] as [(String, UInt16, String, String)])
    func addressesAreUniversal(_ host: String, _ port: UInt16, _ name: String, _ universal: String) throws {
        let address = try #require(SocketAddress(numeric: host, port: port))
        let entry = Rpcbind.Entry(program: 100_003, version: 3, transport: .tcp, address: address)
        #expect(entry.name == name && entry.universalAddress == universal)
        let datagrams = Rpcbind.Entry(program: 100_003, version: 3, transport: .udp, address: address)
        #expect(datagrams.name == "udp" + name.dropFirst(3))
    }
}

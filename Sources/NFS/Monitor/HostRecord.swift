import Bytes
import RPC
import Runtime

/// A host as a volume's settings keep it, for the day after a restart: whom to tell, and by which of our addresses.
///
///     version u32 (1) | name opaque | address text | our address text | state i32
struct HostRecord: Equatable {
    static let version: UInt32 = 1
    private static let textMax = 64

    var name: [UInt8]
    var address: SocketAddress
    var local: SocketAddress
    var state: Int32

    init(name: [UInt8], address: SocketAddress, local: SocketAddress, state: Int32) {
        self.name = name
        self.address = address
        self.local = local
        self.state = state
    }

    init(_ host: LockHosts.Host) {
        self.init(name: host.name, address: host.address, local: host.local, state: host.state)
    }

    var host: LockHosts.Host { LockHosts.Host(name: name, address: address, local: local, state: state) }

    /// Nil: it is damaged, or of a later version.
    init?(_ bytes: [UInt8]) {
        let read: HostRecord? = bytes.withUnsafeBytes { memory in
            var reader = Reader(memory)
            do throws(BytesError) {
                guard try reader.u32() == Self.version else { return nil }
                let name = Array(try reader.inPlace(limit: LockManager.nameMax))
                let address = String(decoding: try reader.inPlace(limit: Self.textMax), as: UTF8.self)
                let local = String(decoding: try reader.inPlace(limit: Self.textMax), as: UTF8.self)
                let state = try reader.i32()
                guard reader.isAtEnd, let address = SocketAddress(numeric: address, port: 0),
                    let local = SocketAddress(numeric: local, port: 0)
                else { return nil }
                return HostRecord(name: name, address: address, local: local, state: state)
            } catch { return nil }
        }
        guard let read else { return nil }
        self = read
    }

    var bytes: [UInt8] {
        let block = Block(capacity: 4 * 5 + LockManager.nameMax + 2 * Self.textMax + 16)
        var writer = Writer(block.free)
        writer.u32(Self.version)
        name.withUnsafeBytes { writer.opaque($0) }
        for address in [address, local] {
            Array(address.host.utf8.prefix(Self.textMax)).withUnsafeBytes { writer.opaque($0) }
        }
        writer.i32(state)
        return Array(writer.written)
    }
}

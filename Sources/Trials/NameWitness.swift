import Bytes
import Headhunter
import ObjectStore
import Runtime

/// Watches that no object of the trees, and no segment that comes as bytes, is ever written twice with different bytes, over all lives of a volume: a name
/// that comes again means that its number was not reserved before it was used. And that headers stay for as long as they are to be kept, by the clocks
/// of those who wrote them and of who deletes them.
final class NameWitness: StoreTransport {
    final class Names: @unchecked Sendable {
        private var checksums: [ObjectName: UInt32] = [:]
        private(set) var problems: [String] = []
        /// Headers of long ago that were deleted.
        private(set) var headersDeleted = 0
        /// The time of day at which each header was first sent, by its owner's clock.
        private var headers: [UInt64: Int64] = [:]
        private static let headersAt = Headhunter.headers(below: "v")
        /// A clock that counts from a header's coming goes a tenth faster, at the most.
        private static let tenths: Int64 = 11

        private static func header(_ name: ObjectName) -> UInt64? {
            guard name.text.hasPrefix(headersAt) else { return nil }
            return UInt64(name.text.dropFirst(headersAt.count), radix: 16)
        }

        func sent(_ name: ObjectName, at wall: Int64) {
            guard let number = Self.header(name), headers[number] == nil else { return }
            headers[number] = wall
        }

        func deletes(_ name: ObjectName, at wall: Int64, keeping keep: Int64) {
            guard keep > 0, let number = Self.header(name) else { return }
            headersDeleted += 1
            // Some header after it has been there for long enough.
            let isRipe = headers.contains { $0 > number && (wall - $1) * Self.tenths >= keep * (Self.tenths - 1) }
            if !isRipe { problems.append("\(name) was deleted before its time") }
        }

        func wrote(_ name: ObjectName, _ checksum: UInt32) {
            if let old = checksums.updateValue(checksum, forKey: name), old != checksum {
                problems.append("\(name) was written twice")
            }
        }
    }

    private let store: any StoreTransport
    private let names: Names
    private let clock: any WorldClock
    private let keep: UInt64

    init(_ store: any StoreTransport, _ names: Names, clock: any WorldClock, keep: UInt64) {
        self.store = store
        self.names = names
        self.clock = clock
        self.keep = keep
    }

    var capabilities: StoreCapabilities { store.capabilities }

    func perform(_ request: StoreRequest) async -> StoreReply {
        if case .object(let name, .put(.blocks(let blocks), .always)) = request.kind,
            name.text.contains("/meta/") || name.text.contains("/segment/")
        {
            var checksum = CRC32C()
            for block in blocks { checksum.update(block.bytes) }
            names.wrote(name, checksum.value)
        }
        switch request.kind {
        case .object(let name, .put): names.sent(name, at: clock.wall())
        case .object(let name, .delete): names.deletes(name, at: clock.wall(), keeping: Int64(clamping: keep))
        default: break
        }
        return await store.perform(request)
    }
}

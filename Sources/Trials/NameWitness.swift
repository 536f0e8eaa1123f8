import Bytes
import Headhunter
import ObjectStore
import Runtime

/// Watches that no object of the trees, and no segment that comes as bytes, is ever written twice with different bytes, over all lives of a volume: a name
/// that comes again means that its number was not reserved before it was used. And that headers stay for as long as they are to be kept, by the clocks
/// of those who wrote them and of who deletes them.
final class NameWitness: StoreTransport, @unchecked Sendable {
    final class Names: @unchecked Sendable {
        private var checksums: [ObjectName: UInt32] = [:]
        private(set) var problems: [String] = []
        /// Headers of long ago that were deleted.
        private(set) var headersDeleted = 0
        /// When each header was sent, by its owner's time of day and by the run's own clock: the earliest times, since who sent it may not have been who made it.
        private var headers: [UInt64: (wall: Int64, time: Int64)] = [:]
        private static let headersAt = Headhunter.headers(below: "v")
        /// A clock that counts from a header's coming goes a tenth faster, at the most.
        private static let tenths: Int64 = 11

        private static func header(_ name: ObjectName) -> UInt64? {
            guard name.text.hasPrefix(headersAt) else { return nil }
            return UInt64(name.text.dropFirst(headersAt.count), radix: 16)
        }

        func sent(_ name: ObjectName, at wall: Int64, _ time: Int64) {
            guard let number = Self.header(name) else { return }
            let before = headers[number] ?? (wall, time)
            headers[number] = (min(before.wall, wall), min(before.time, time))
        }

        /// `wall` is the latest that this host's clock would show, had it not been set back.
        func deletes(_ name: ObjectName, at wall: Int64, _ time: Int64, keeping keep: Int64) {
            guard keep > 0, let number = Self.header(name) else { return }
            headersDeleted += 1
            // Some header after it has been there for long enough.
            let isRipe = headers.contains { other, sent in
                other > number && max(wall - sent.wall, time - sent.time) * Self.tenths >= keep * (Self.tenths - 1)
            }
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
    private let clock: HostClock
    private let keep: UInt64
    /// How far the time of day was ahead of the run's own time, at the most.
    private var ahead = Int64.min

    /// Of the host with this clock.
    init(_ store: any StoreTransport, _ names: Names, clock: HostClock, keep: UInt64) {
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
        let (time, wall) = (Int64(clamping: clock.common.monotonic()), clock.wall())
        ahead = max(ahead, wall - time)
        switch request.kind {
        case .object(let name, .put): names.sent(name, at: wall, time)
        case .object(let name, .delete): names.deletes(name, at: time + ahead, time, keeping: Int64(clamping: keep))
        default: break
        }
        return await store.perform(request)
    }
}

import Bytes
import ObjectStore
import Runtime

/// Watches that no object of the trees, and no segment that comes as bytes, is ever written twice with different bytes, over all lives of a volume: a name
/// that comes again means that its number was not reserved before it was used.
final class NameWitness: StoreTransport {
    final class Names: @unchecked Sendable {
        private var checksums: [ObjectName: UInt32] = [:]
        private(set) var problems: [String] = []

        func wrote(_ name: ObjectName, _ checksum: UInt32) {
            if let old = checksums.updateValue(checksum, forKey: name), old != checksum {
                problems.append("\(name) was written twice")
            }
        }
    }

    private let store: any StoreTransport
    private let names: Names

    init(_ store: any StoreTransport, _ names: Names) {
        self.store = store
        self.names = names
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
        return await store.perform(request)
    }
}

import Bytes
import ObjectStore
import Runtime

/// A store on the simulated disk that goes wrong in every way that stores do, over all lives of a program; what has gone wrong is
/// counted.
public final class StoreTrouble: @unchecked Sendable {
    private let faults: StoreFaults
    public let isStale: Bool
    private let hasTokens: Bool
    private var transports: [FaultyTransport] = []
    private var tokens: [TokenStore] = []

    init(_ faults: StoreFaults, isStale: Bool, hasTokens: Bool) {
        (self.faults, self.isStale, self.hasTokens) = (faults, isStale, hasTokens)
    }

    /// All that a client has to live with. `isStale`: listings may be old ones, and of two that make a name both are told that
    /// they did; `hasTokens`: it has to be asked with tokens, which end.
    static func all(isStale: Bool, hasTokens: Bool) -> StoreTrouble {
        var faults = StoreFaults.default
        if isStale { faults.staleListing = 10 }
        return StoreTrouble(faults, isStale: isStale, hasTokens: hasTokens)
    }

    func wrap(_ store: any StoreTransport, _ world: World) -> any StoreTransport {
        var store: any StoreTransport = CopyingStore(store, world)
        if isStale { store = LastWriterStore(store, loop: world.loops[0], random: world.random) }
        if hasTokens {
            let asked = TokenStore(store, world)
            tokens.append(asked)
            store = asked
        }
        let transport = FaultyTransport(store, loop: world.loops[0], random: world.random, faults: faults)
        transports.append(transport)
        return transport
    }

    /// How often each kind of fault came.
    public var counts: [String: Int] {
        var sums: [String: Int] = [:]
        for counts in transports.map(\.counts) {
            for (kind, count) in [
                ("longDelay", counts.longDelays), ("lostRequest", counts.lostRequests),
                ("lostReply", counts.lostReplies),
                ("500", counts.failures), ("503", counts.unavailables), ("429", counts.throttles),
                ("202", counts.accepteds), ("409", counts.conflicts), ("hang", counts.hangs),
                ("cutBody", counts.cutBodies),
                ("staleListing", counts.staleListings),
            ] { sums[kind, default: 0] += count }
        }
        for counts in tokens.map(\.counts) {
            sums["401", default: 0] += counts.refused
            sums["token", default: 0] += counts.given
            sums["early", default: 0] += counts.early
        }
        return sums
    }
}

/// A store behind a network: it gets the bytes of a file, and can not take the file itself.
package final class CopyingStore: StoreTransport {
    private let store: any StoreTransport
    private let world: World

    package init(_ store: any StoreTransport, _ world: World) {
        self.store = store
        self.world = world
    }

    package var capabilities: StoreCapabilities {
        var capabilities = store.capabilities
        capabilities.adoptsFiles = false
        return capabilities
    }

    package func perform(_ request: StoreRequest) async -> StoreReply {
        guard case .object(let name, .put(let body, let condition)) = request.kind else {
            return await store.perform(request)
        }
        let path: String
        let size: UInt64
        switch body {
        case .blocks: return await store.perform(request)
        case .stream(let source, let size):
            let block = Block(capacity: Int(size))
            do throws(StoreError) {
                while let piece = try await source.piece(at: UInt64(block.count)) {
                    block.append(piece.bytes)
                    extendLifetime(piece)
                }
            } catch { return StoreReply(status: 500) }
            guard block.count == Int(size) else { return StoreReply(status: 500) }
            return await store.perform(StoreRequest(.object(name, .put(.blocks([block]), condition))))
        case .file(let itsPath, let itsSize): (path, size) = (itsPath, itsSize)
        }
        let block = Block(capacity: Int(size))
        let disk = world.disk
        do throws(Errno) {
            block.count = try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Int in
                let file = try disk.open(path, [])
                defer { file.close() }
                return try file.read(into: UnsafeMutableRawBufferPointer(start: block.base, count: Int(size)), at: 0)
            }
        } catch { return StoreReply(status: 500) }
        guard block.count == Int(size) else { return StoreReply(status: 500) }
        return await store.perform(StoreRequest(.object(name, .put(.blocks([block]), condition))))
    }
}

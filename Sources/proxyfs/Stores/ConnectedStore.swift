import Configuration
import Headhunter
import Metrics
import Namespace
import ObjectStore
import Runtime
import Transfer

/// The store elsewhere of one volume that is served.
final class ConnectedStore: Sendable {
    let description: Configuration.Store
    private let connection: StoreConnection
    let store: ObjectStore
    let prices: StorePrices
    private let loop: EventLoop

    /// `isReadOnly`: no request goes out that would change anything there.
    init(
        _ description: Configuration.Store, world: World, loop: EventLoop, isReadOnly: Bool = false
    ) throws(CommandFailure) {
        self.description = description
        self.loop = loop
        connection = try StoreConnection(description, world: world, loop: loop)
        store = connection.objectStore(world: world, loop: loop, isReadOnly: isReadOnly)
        let prices = description.prices
        self.prices = StorePrices(
            put: prices.put, get: prices.get, head: prices.head, delete: prices.delete, list: prices.list)
    }

    /// Asked before anything is promised; on the volume's loop. `creates`: what the store keeps beside the objects may be made.
    func connect(creates: Bool = true) -> @Sendable () async throws(HostingError) -> ObjectStore {
        { [self] () async throws(HostingError) in
            do throws(StoreProblem) {
                try await connection.verify(creates: creates)
                if creates { try await connection.probe() }
            } catch {
                throw .store("the store \(description.address): \(error)")
            }
            return store
        }
    }

    /// All objects of a volume that nobody has open, and no others that are below its prefix. The headers go last: what is left of a volume without its objects is
    /// told as damaged, and may be deleted again.
    func deleteAll(_ meter: Meter) async throws(StoreError) {
        let before = store.currentCounters.deletes
        var quiet = 0
        // One that shows for ever what has gone is not waited for.
        for _ in 0..<Self.listingsMax where quiet < (connection.listsConsistently ? 1 : Self.emptyListings) {
            let names = Array(try await store.names(prefix: HostedVolume.prefix + "/").reversed()).filter {
                !HostedVolume.lastNames.contains($0)
            }
            let count = UInt64(names.count)
            meter.follow("deleting objects at \(description.address)", unit: "objects") { [store] in
                (min(count, store.currentCounters.deletes &- before), count)
            }
            if names.isEmpty || connection.listsConsistently { quiet += 1 } else { quiet = 0 }
            try await delete(names)
            // A listing that lags may not show what was written last.
            if !connection.listsConsistently { await loop.sleep(nanoseconds: Self.listingPause) }
        }
        // Whose the objects are is known as long as there is one. By name: a listing may not show these.
        try await delete(HostedVolume.lastNames)
        try await connection.unmake()
    }

    /// Beside a volume that is open; on its loop.
    func collect() async { await connection.collect() }

    private static let deletionsMax = 16
    /// So many in a row that are empty, this far apart, end the deletion where listings lag.
    private static let emptyListings = 2
    private static let listingPause: UInt64 = 1_000_000_000
    private static let listingsMax = 30

    private func delete(_ names: [ObjectName]) async throws(StoreError) {
        let store = store
        for start in stride(from: 0, to: names.count, by: Self.deletionsMax) {
            let some = names[start..<min(start + Self.deletionsMax, names.count)]
            let failures = await withTaskGroup(of: StoreError?.self) { group in
                for name in some {
                    group.addTask {
                        do throws(StoreError) { try await store.delete(name) } catch { return error }
                        return nil
                    }
                }
                var failures: [StoreError] = []
                for await failure in group { if let failure { failures.append(failure) } }
                return failures
            }
            if let failure = failures.first { throw failure }
        }
    }

    func stop() {
        // Not waited for: this may be a loop.
        connection.end()
    }
}

extension MetricsRegistry {
    /// What the volumes' stores elsewhere were asked, and what that costs.
    func addStores(_ connected: @escaping @Sendable () -> [String: ConnectedStore]) {
        func each(_ samples: @escaping @Sendable (ObjectStore.Counters, ConnectedStore) -> [(Double, String)])
            -> @Sendable (StaticString) -> [Sample]
        {
            { label in
                connected().sorted { $0.key < $1.key }.flatMap { volume, store in
                    samples(store.store.currentCounters, store).map { value, word in
                        Sample(value, [("volume", volume)] + (word.isEmpty ? [] : [(label, word)]))
                    }
                }
            }
        }
        let requests = each { counters, _ in
            [
                (Double(counters.puts), "PUT"), (Double(counters.gets), "GET"), (Double(counters.heads), "HEAD"),
                (Double(counters.deletes), "DELETE"), (Double(counters.lists), "LIST"),
                (Double(counters.posts), "POST"), (Double(counters.tokens), "TOKEN"),
            ]
        }
        let bytes = each { counters, _ in [(Double(counters.bytesPut), "out"), (Double(counters.bytesGot), "in")] }
        let trouble = each { counters, _ in
            [
                (Double(counters.retries), "retry"), (Double(counters.timeouts), "timeout"),
                (Double(counters.hedges), "hedge"), (Double(counters.hedgesWon), "hedge_won"),
            ]
        }
        let dollars = each { counters, store in [(Double(store.prices.price(of: counters)) / 1e6, "")] }
        add("proxyfs_store_requests_total", .counter, "Requests to a volume's object store.") { requests("verb") }
        add("proxyfs_store_bytes_total", .counter, "Bytes of objects to and from it.") { bytes("direction") }
        add("proxyfs_store_events_total", .counter, "Requests that were repeated or given up.") { trouble("event") }
        add("proxyfs_store_dollars_total", .counter, "What the requests cost by the store's prices.") { dollars("") }
    }

    /// How far the volumes' stores lag behind what they hold.
    func addLags(_ volumes: @escaping @Sendable () -> [String: HostedVolume]) {
        func each(_ value: @escaping @Sendable (Headhunter.StoreLag) -> Double) -> @Sendable () -> [Sample] {
            {
                volumes().sorted { $0.key < $1.key }.map { name, hosted in
                    Sample(value(hosted.storeLag), [("volume", name)])
                }
            }
        }
        add(
            "proxyfs_store_lag_bytes", .gauge, "Data and log records that the store does not have yet.",
            each { Double($0.bytes) })
        add(
            "proxyfs_store_lag_seconds", .gauge, "The age of the oldest of them.", each { Double($0.nanoseconds) / 1e9 }
        )
        add(
            "proxyfs_store_shown_seconds", .gauge,
            "Of a volume that is only read: since when what is shown is known to be the newest state.",
            {
                volumes().sorted { $0.key < $1.key }.compactMap { name, hosted in
                    hosted.shown.map { Sample(Double($0.age) / 1e9, [("volume", name)]) }
                }
            })
        add(
            "proxyfs_store_trouble_seconds", .gauge,
            "Since when the store or the disk keeps the volume waiting; 0: not.",
            each { $0.trouble == nil ? 0 : max(Double($0.troubleNanoseconds) / 1e9, 1e-9) })
    }
}

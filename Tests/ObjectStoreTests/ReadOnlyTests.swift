import Bytes
import ObjectStore
import Runtime
import Simulator
import Testing

/// A store that is only read: what would change it does not get there.
struct ReadOnlyTests {
    @Test func nothingIsChanged() throws {
        let problem = Simulation(seed: 1).perform(for: 3_600_000_000_000) { world -> String in
            do {
                let memory = MemoryStore(world: world, loop: world.loops[0])
                let transport = ReadOnlyTransport(memory)
                let store = ObjectStore(transport, world: world, loop: world.loops[0])
                let open = ObjectStore(memory, world: world, loop: world.loops[0])
                let (old, new) = (name("old"), name("new"))
                try await open.put(old, .blocks([block("bytes")]))
                for condition in [PutCondition.always, .absent] {
                    do throws(StoreError) {
                        try await store.put(new, .blocks([block("x")]), condition: condition)
                        return "an object was made"
                    } catch { guard case .denied = error else { return "\(error)" } }
                }
                do throws(StoreError) {
                    try await store.delete(old)
                    return "an object was deleted"
                } catch { guard case .denied = error else { return "\(error)" } }
                guard transport.refused == 3, memory.objects.count == 1 else {
                    return "\(transport.refused) were refused"
                }
                let size = try await store.head(old)
                let names = try await store.names(prefix: "")
                let bytes = try await store.get(old)
                return size == 5 && names == [old] && bytes.count == 5 ? "" : "it is not read"
            } catch { return "\(error)" }
        }
        #expect(problem == "")
    }
}

import Namespace
import Runtime
import Simulator
import Testing

/// The table of lease keys against a dictionary.
@Suite struct LeaseMapTests {
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func agreesWithADictionary(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        var map = LeaseMap<UInt32>(seed: seed)
        var model: [LeaseKey: UInt32] = [:]
        for step in 0..<20_000 as Range<UInt32> {
            // Few clients and few keys, so that each is set, changed and taken away many times; at times most of them at once.
            let key = LeaseKey(client: UInt128(random.next() % 3), key: UInt128(random.next() % 700) << 64)
            let value = random.next() % (step % 4000 < 2000 ? 4 : 2) == 0 ? nil : step
            map[key] = value
            model[key] = value
            let other = LeaseKey(client: 1, key: UInt128(random.next() % 900) << 64)
            #expect(map[other] == model[other], "step \(step)")
            if step % 1000 == 0 { #expect(map.count == model.count) }
        }
        #expect(map.count == model.count && model.allSatisfy { map[$0.key] == $0.value })
        #expect(map.any.map { value in model.values.contains(value) } == true)
        for key in model.keys { map[key] = nil }
        #expect(map.count == 0 && map.any == nil)
        #expect(model.keys.allSatisfy { map[$0] == nil })
    }

    /// What takes its place is not what was there.
    @Test func aFreePlaceIsNobodys() {
        var map = LeaseMap<UInt32>(seed: 7)
        let (first, second) = (LeaseKey(client: 1, key: 1), LeaseKey(client: 1, key: 2))
        map[first] = 1
        map[first] = nil
        map[second] = 2
        #expect(map[first] == nil && map[second] == 2 && map.any == 2)
        // No key is taken for a place that stands empty.
        #expect(map[LeaseKey(client: 0, key: 0)] == nil)
    }
}

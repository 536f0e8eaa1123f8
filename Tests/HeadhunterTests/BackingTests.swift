import Headhunter
import Testing

/// Memory for nodes is asked for ahead of them, each part once, and never behind the end.
@Suite struct BackingTests {
    @Test func memoryIsAskedForAheadOfNodes() {
        let cache = NodeCache(budget: 96 << 20, epoch: 1)
        var asked: [Range<Int>] = []
        var made = 0
        while cache.reserve(1) {
            _ = cache.makeDirty(tree: 1)
            made += 1
            guard cache.wantsBacking else { continue }
            let backing = cache.takeBacking()
            backing.make()
            #expect(!cache.wantsBacking)
            asked.append(backing.frames)
        }
        #expect(made == cache.capacity)
        // A few nodes ask for nothing.
        #expect(asked[0].lowerBound * Page.size >= 1 << 20)
        #expect(zip(asked, asked.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
        #expect(asked.last?.upperBound == cache.capacity)
    }

    /// What was written there before stays.
    @Test func memoryThatIsInUseKeepsItsContent() {
        let cache = NodeCache(budget: 96 << 20, epoch: 1)
        var frames: [UInt32] = []
        while !cache.wantsBacking {
            #expect(cache.reserve(1))
            frames.append(cache.makeDirty(tree: 1))
        }
        for _ in 0..<200 {
            #expect(cache.reserve(1))
            let frame = cache.makeDirty(tree: 1)
            cache.page(frame).base.storeBytes(of: 0x5EED, as: UInt64.self)
            frames.append(frame)
        }
        cache.takeBacking().make()
        #expect(frames.suffix(200).allSatisfy { cache.page($0).base.load(as: UInt64.self) == 0x5EED })
    }
}

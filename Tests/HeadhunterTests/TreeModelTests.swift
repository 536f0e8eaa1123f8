import Headhunter
import Testing

/// A tree over a store of page images, driven by a seed beside a sorted array: every operation, checkpoints at any
/// moment and in steps, evictions, and a second look at each frozen version once it is stored.
struct TreeModelTests {
    @Test(arguments: [
        (seed: UInt64(1), keys: 300, steps: 40_000, long: false), (2, 5_000, 60_000, false),
        (3, 60, 30_000, true), (4, 3_000, 60_000, true), (5, 100_000, 60_000, false), (6, 0, 25_000, false),
        (7, 0, 5_000, true),
    ])
    func treeAgreesWithModel(_ load: (seed: UInt64, keys: Int, steps: Int, long: Bool)) {
        var rig = Rig(seed: load.seed, keys: load.keys, long: load.long)
        for step in 0..<load.steps {
            rig.step()
            if step % 5_000 == 4_999 { rig.compareAll() }
        }
        rig.finishCheckpoint()
        rig.compareAll()
        rig.deleteEverything()
        rig.compareAll()
        #expect(rig.deepest > 0 && rig.evictions > 0 && rig.checkpoints > 2)
    }

    @Test func risingKeysFillLeaves() {
        var rig = Rig(seed: 7, keys: 1, long: false)
        for number in 0..<20_000 { rig.put(key: bytes(of: number), value: Array(repeating: 7, count: 40)) }
        rig.compareAll()
        let leaves = rig.cache.dirtyCount
        let used = 20_000 * (8 + 40 + Page.slotSize + 2)
        #expect(leaves * Page.size < used * 5 / 4, "rising keys leave \(leaves) pages for \(used) bytes")
    }

    /// The half that stays gets a fence as long as its keys, and shares nothing with its first key that would make those shorter.
    @Test func risingKeysGetLongFences() {
        for filling in stride(from: 0, to: 1_000, by: 20) {
            var rig = Rig(seed: 8, keys: 1, long: false)
            rig.put(key: [0], value: Array(repeating: 7, count: filling))
            let beginning = [UInt8](repeating: 1, count: 900)
            for number in 0..<60 { rig.put(key: beginning + bytes(of: number), value: [1, 2, 3]) }
            rig.compareAll()
        }
    }

    /// Keys rise below one that is there already, and what lies above them is less than the next of them takes: they are as good as the
    /// last ones then.
    @Test func risingKeysBelowAShortOne() {
        for length in stride(from: 0, to: 3_000, by: 97) {
            var rig = Rig(seed: 9, keys: 1, long: false)
            rig.put(key: [255], value: [])
            for number in 0..<300 { rig.put(key: bytes(of: number), value: Array(repeating: 7, count: length)) }
            rig.compareAll()
        }
    }

    private func bytes(of number: Int) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * $0)) } }
}

private struct Rig {
    var random: SplitMix
    let cache: NodeCache
    let tree: Tree
    var model: [(key: [UInt8], value: [UInt8])] = []
    var stored: [NodeAddress: [UInt8]] = [:]
    var nextObject: UInt64 = 1
    let keys: Int
    let long: Bool
    var evictions = 0
    var checkpoints = 0
    var deepest = 0
    /// Nodes of the checkpoint under way, children before parents, and what the tree held when it began.
    var pending: [UInt32] = []
    var frozenRoot: ChildReference?
    var frozenModel: [(key: [UInt8], value: [UInt8])] = []
    var addresses: [UInt32: NodeAddress] = [:]

    init(seed: UInt64, keys: Int, long: Bool) {
        random = SplitMix(state: seed)
        cache = NodeCache(budget: 0, epoch: 1)
        tree = Tree(id: 1, cache: cache)
        self.keys = keys
        self.long = long
    }

    mutating func key() -> [UInt8] {
        if keys == 0 { return risingKey() }
        let number = Int(random.next() % UInt64(keys))
        var key = Array("dir\(number % 7)/\(number)".utf8)
        if long { key += Array(repeating: UInt8(number % 3), count: number * 37 % 900) }
        return key
    }

    /// Keys that rise in each of several places at once, as those of files do in their directories; now and then an
    /// earlier one.
    var tops: [Int] = Array(repeating: 0, count: 12)
    mutating func risingKey() -> [UInt8] {
        let group = Int(random.next() % UInt64(tops.count))
        tops[group] += 1
        let top = UInt64(tops[group])
        let number = random.next() % 4 == 0 ? random.next() % top : top
        var key = withUnsafeBytes(of: (UInt64(group) << 40).bigEndian) { Array($0) }
        key.append(UInt8(random.next() % 3))
        withUnsafeBytes(of: number.bigEndian) { key.append(contentsOf: $0) }
        if long { key += Array(repeating: 9, count: Int(number) * 31 % 700) }
        return key
    }

    mutating func step() {
        switch random.next() % 100 {
        case 0..<55:
            let size = long && random.next() % 10 == 0 ? Int(random.next() % 2_500) : Int(random.next() % 120)
            put(key: key(), value: (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) })
        case 55..<85: delete(key: key())
        case 85..<95: lookup(key: key())
        case 95..<99: scanSome()
        default:
            checkpointStep()
            // Asks for more than there is: all that may go, goes.
            if random.next() % 2 == 0 { _ = cache.reserve(cache.freeCount + cache.cleanCount) }
        }
    }

    // MARK: Operations on both

    mutating func ready(_ key: [UInt8], isDelete: Bool) {
        while true {
            var missing: [NodeAddress] = []
            expectNil(key.withUnsafeBytes { tree.prepare($0, isDelete: isDelete, missing: &missing) })
            if missing.isEmpty {
                if cache.reserve(NodeCache.framesPerChangeMax / 2) {
                    // Room may have been made at the cost of what was just found.
                    expectNil(key.withUnsafeBytes { tree.prepare($0, isDelete: isDelete, missing: &missing) })
                    if missing.isEmpty { return }
                } else {
                    finishCheckpoint()
                    beginCheckpoint()
                    finishCheckpoint()
                }
            }
            for address in missing { load(address) }
        }
    }

    mutating func load(_ address: NodeAddress) {
        if cache.find(address) != nil { return }
        if !cache.reserve(1) {
            finishCheckpoint()
            beginCheckpoint()
            finishCheckpoint()
            precondition(cache.reserve(1))
        }
        guard let image = stored[address] else {
            Issue.record("node \(address) is not stored")
            preconditionFailure()
        }
        evictions += 1
        let frame = cache.insertClean(address, tree: tree.id)
        image.withUnsafeBytes { cache.page(frame).base.copyMemory(from: $0.baseAddress!, byteCount: Page.size) }
    }

    func position(_ key: [UInt8]) -> (index: Int, found: Bool) {
        var low = 0
        var high = model.count
        while low < high {
            let middle = (low + high) / 2
            if model[middle].key.lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < model.count && model[low].key == key)
    }

    mutating func put(key: [UInt8], value: [UInt8]) {
        ready(key, isDelete: false)
        key.withUnsafeBytes { key in _ = value.withUnsafeBytes { tree.put(key, $0) } }
        if let root = cache.resolve(tree.root) { deepest = max(deepest, cache.page(root).level) }
        let (index, found) = position(key)
        if found { model[index].value = value } else { model.insert((key, value), at: index) }
    }

    mutating func delete(key: [UInt8]) {
        ready(key, isDelete: true)
        let did = key.withUnsafeBytes { tree.delete($0) }
        let (index, found) = position(key)
        #expect(did == found)
        if found { model.remove(at: index) }
    }

    mutating func lookup(key: [UInt8]) {
        let (index, found) = position(key)
        while true {
            switch key.withUnsafeBytes({ tree.get($0) }) {
            case .missing(let address): load(address)
            case .astray(let address): return expectNil(address)
            case .absent:
                #expect(!found)
                return
            case .found(let value):
                #expect(found && Array(value) == model[index].value)
                return
            }
        }
    }

    mutating func scanSome() {
        let start = key()
        let wanted = Int(random.next() % 400)
        let from = position(start).index
        let found = entries(from: start, limit: wanted)
        let expected = Array(model[from..<min(model.count, from + wanted)])
        let same = agree(found, expected)
        #expect(same)
    }

    mutating func entries(from start: [UInt8], limit: Int) -> [(key: [UInt8], value: [UInt8])] {
        var found: [(key: [UInt8], value: [UInt8])] = []
        var resume = start
        var next: [UInt8] = []
        while found.count < limit {
            let end = resume.withUnsafeBytes { from in
                tree.scan(from: from, budget: 64, resume: &next) { key, value in
                    if found.count == limit { return false }
                    found.append((Array(key), Array(value)))
                    return true
                }
            }
            swap(&resume, &next)
            switch end {
            case .done: return found
            case .more: continue
            case .missing(let address): load(address)
            case .astray(let address):
                expectNil(address)
                return found
            }
        }
        return found
    }

    mutating func compareAll() {
        let all = entries(from: [], limit: .max)
        #expect(all.count == model.count)
        let same = agree(all, model)
        #expect(same)
    }

    typealias Entry = (key: [UInt8], value: [UInt8])

    private func agree(_ a: [Entry], _ b: [Entry]) -> Bool {
        guard a.count == b.count else { return false }
        for index in a.indices where a[index].key != b[index].key || a[index].value != b[index].value { return false }
        return true
    }

    mutating func deleteEverything() {
        while let last = model.indices.last {
            delete(key: model[Int(random.next() % UInt64(last + 1))].key)
        }
        finishCheckpoint()
        lookup(key: key())
        #expect(cache.page(cache.resolve(tree.root)!).isLeaf || evictions > 0)
    }

    // MARK: Checkpoints

    mutating func checkpointStep() {
        if pending.isEmpty && frozenRoot == nil {
            beginCheckpoint()
        } else {
            finishCheckpoint()
        }
    }

    mutating func beginCheckpoint() {
        finishCheckpoint()
        _ = cache.freeze()
        cache.released.removeAll()
        frozenRoot = tree.root
        frozenModel = model
        addresses.removeAll()
        collect(tree.root)
    }

    private mutating func collect(_ reference: ChildReference) {
        guard !reference.isStored else { return }
        let page = cache.page(reference.frame)
        if !page.isLeaf { for index in 0..<page.count { collect(page.child(index)) } }
        pending.append(reference.frame)
    }

    mutating func finishCheckpoint() {
        guard let root = frozenRoot else { return }
        checkpoints += 1
        var lows: [UInt32: [UInt8]] = [:]
        for frame in pending {
            let page = cache.page(frame)
            var image = Array(UnsafeRawBufferPointer(start: page.base, count: Page.size))
            lows[frame] = Array(page.low)
            if !page.isLeaf {
                image.withUnsafeMutableBytes { copy in
                    let stored = Page(copy.baseAddress!)
                    for index in 0..<stored.count {
                        let child = stored.child(index)
                        if !child.isStored { stored.setChild(index, .stored(addresses[child.frame]!)) }
                    }
                }
            }
            let address = NodeAddress(object: nextObject, offset: 0, length: 1, checksum: 0, birth: 0)
            nextObject += 1
            addresses[frame] = address
            stored[address] = image
        }
        let levels = pending.map { cache.page($0).level }
        for frame in pending { cache.stored(frame, at: addresses[frame]!) }
        for (frame, level) in zip(pending, levels) where cache.info(frame).pointee.address == addresses[frame]! {
            guard cache.info(frame).pointee.state == .clean else { continue }
            lows[frame]!.withUnsafeBytes { tree.adopt(frame, addresses[frame]!, low: $0, level: level) }
            cache.unpin(frame)
        }
        let rootAddress = root.isStored ? root.address : addresses[root.frame]!
        checkFrozen(rootAddress)
        pending.removeAll()
        frozenRoot = nil
    }

    /// Reads the stored version by itself: it must hold exactly what the tree held when it was frozen.
    private func checkFrozen(_ root: NodeAddress) {
        var index = 0
        func walk(_ address: NodeAddress) {
            guard var image = stored[address] else {
                Issue.record("the checkpoint names a node that is not stored")
                return
            }
            image.withUnsafeMutableBytes { memory in
                let page = Page(memory.baseAddress!)
                var key = [UInt8](repeating: 0, count: Page.keyBytesMax)
                for entry in 0..<page.count {
                    if !page.isLeaf {
                        #expect(page.child(entry).isStored)
                        walk(page.child(entry).address)
                        continue
                    }
                    let length = key.withUnsafeMutableBytes { page.copyKey(entry, to: $0.baseAddress!) }
                    if index < frozenModel.count {
                        let expected = frozenModel[index]
                        if expected.key != Array(key[..<length]) || expected.value != Array(page.value(entry)) {
                            Issue.record("frozen entry \(index) differs")
                            return
                        }
                    }
                    index += 1
                }
            }
        }
        walk(root)
        #expect(index == frozenModel.count)
    }
}

/// Steele, Lea and Flood's generator: small, seedable, good enough to drive tests.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

private func expectNil(_ astray: NodeAddress?) { #expect(astray == nil, "a tree of our own leads astray") }

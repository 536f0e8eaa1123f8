import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// Nodes with right checksums that make no tree: they are told, and nobody walks on for ever or falls off a page.
struct AstrayTests {
    private static func address(_ object: UInt64) -> NodeAddress {
        NodeAddress(object: object, offset: 40, length: 100, checksum: 1, birth: 1)
    }

    private static func node(
        _ cache: NodeCache, _ object: UInt64, level: Int, low: String = "", high: String? = nil,
        _ entries: [(key: String, child: UInt64)]
    ) {
        let page = cache.page(cache.insertClean(address(object), tree: 1))
        let (low, high) = (Array(low.utf8), high.map { Array($0.utf8) })
        low.withUnsafeBytes { low in
            if let high {
                high.withUnsafeBytes { page.initialize(level: level, low: low, high: $0) }
            } else {
                page.initialize(level: level, low: low, high: nil)
            }
        }
        for (index, entry) in entries.enumerated() {
            let key = Array(entry.key.utf8)
            var value = [UInt8](repeating: 7, count: level == 0 ? 8 : ChildReference.size)
            if level > 0 {
                value.withUnsafeMutableBytes { bytes in
                    guard let base = bytes.baseAddress else { return }
                    ChildReference.stored(address(entry.child)).store(to: base)
                }
            }
            let done = key.withUnsafeBytes { key in
                value.withUnsafeBytes { page.insert(at: index, key: key, value: $0, scratch: cache.scratch) }
            }
            #expect(done)
        }
    }

    /// What look-ups, scans and changes of a key say; nil: they are content.
    private static func walk(_ tree: Tree, _ key: String) -> [String: NodeAddress?] {
        var found: [String: NodeAddress?] = [:]
        Array(key.utf8).withUnsafeBytes { key in
            if case .astray(let address) = tree.get(key) { found["get"] = address }
            if case .astray(let address) = tree.getAlone(key) { found["getAlone"] = address }
            var resume: [UInt8] = []
            if case .astray(let address) = tree.scan(from: key, budget: 1_000, resume: &resume, { _, _ in true }) {
                found["scan"] = address
            }
            for isDelete in [false, true] {
                var missing: [NodeAddress] = []
                if let address = tree.prepare(key, isDelete: isDelete, missing: &missing) { found["prepare"] = address }
            }
            _ = tree.find(9, 40, low: key, level: 0)
        }
        return found
    }

    @Test func nodesThatLeadToThemselves() {
        let cache = NodeCache(budget: 0, epoch: 1)
        Self.node(cache, 1, level: 1, [("", 1)])
        let found = Self.walk(Tree(id: 1, cache: cache, root: Self.address(1)), "key")
        #expect(
            found == [
                "get": Self.address(1), "getAlone": Self.address(1), "scan": Self.address(1),
                "prepare": Self.address(1),
            ])
    }

    @Test func nodesThatLeadRoundInACircle() {
        let cache = NodeCache(budget: 0, epoch: 1)
        Self.node(cache, 1, level: 3, [("", 2)])
        Self.node(cache, 2, level: 2, [("", 3)])
        Self.node(cache, 3, level: 1, [("", 2)])
        let found = Self.walk(Tree(id: 1, cache: cache, root: Self.address(1)), "key")
        #expect(found.keys.sorted() == ["get", "getAlone", "prepare", "scan"])
        #expect(found["get"] == Self.address(2))
    }

    /// A leaf in the place of another one: it holds no such keys, and what it holds may be longer than the key.
    @Test func leavesThatDoNotFitTheirPlace() {
        let cache = NodeCache(budget: 0, epoch: 1)
        Self.node(cache, 1, level: 1, [("", 2), ("m", 2), ("t", 3)])
        Self.node(cache, 2, level: 0, high: "m", [("a", 0), ("b", 0)])
        Self.node(cache, 3, level: 0, low: "aaaaaaaaaaaaaaaa1", high: "aaaaaaaaaaaaaaaa5", [("aaaaaaaaaaaaaaaa1x", 0)])
        let tree = Tree(id: 1, cache: cache, root: Self.address(1))
        #expect(Self.walk(tree, "a") == ["scan": Self.address(2)])
        #expect(Self.walk(tree, "n") == ["prepare": Self.address(2), "scan": Self.address(2)])
        #expect(Self.walk(tree, "u") == ["prepare": Self.address(3), "scan": Self.address(3)])
    }

    /// A root so high that nothing could be added to it.
    @Test func rootsThatAreTooHigh() {
        let cache = NodeCache(budget: 0, epoch: 1)
        for level in 0..<Tree.depthMax {
            Self.node(cache, UInt64(level + 1), level: level, level == 0 ? [("a", 0)] : [("", UInt64(level))])
        }
        let high = Tree(id: 1, cache: cache, root: Self.address(UInt64(Tree.depthMax)))
        #expect(Self.walk(high, "a") == ["prepare": Self.address(UInt64(Tree.depthMax))])
        let lower = Tree(id: 1, cache: cache, root: Self.address(UInt64(Tree.depthMax - 1)))
        #expect(Self.walk(lower, "a") == [:])
    }

    /// Four bytes of a node can be chosen such that it has any checksum, its own among them: whose child it is.
    private static func signed(_ node: [UInt8], at place: Int, _ checksum: UInt32) -> [UInt8] {
        func sum(_ bits: UInt32) -> UInt32 {
            var bytes = node
            withUnsafeBytes(of: bits.littleEndian) { bytes.replaceSubrange(place..<(place + 4), with: $0) }
            return bytes.withUnsafeBytes { CRC32C.of($0) }
        }
        // What each bit changes; then each bit of the checksum has one row that begins with it.
        var rows: [(sum: UInt32, bits: UInt32)] = (0..<32).map { (sum(1 << UInt32($0)) ^ sum(0), 1 << UInt32($0)) }
        var (rest, bits) = (checksum ^ sum(0), UInt32(0))
        for bit in (0..<32).map({ UInt32(1) << UInt32($0) }) {
            guard let index = rows.firstIndex(where: { $0.sum & bit != 0 }) else { continue }
            let row = rows.remove(at: index)
            for other in rows.indices where rows[other].sum & bit != 0 {
                rows[other] = (rows[other].sum ^ row.sum, rows[other].bits ^ row.bits)
            }
            if rest & bit != 0 { (rest, bits) = (rest ^ row.sum, bits ^ row.bits) }
        }
        var bytes = node
        withUnsafeBytes(of: bits.littleEndian) { bytes.replaceSubrange(place..<(place + 4), with: $0) }
        return bytes
    }

    /// Where the forged node lies, as a parent says it.
    private static func place(_ length: Int, _ checksum: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        withUnsafeBytes(of: UInt64(0x777).littleEndian) { bytes += $0 }
        for number in [40, UInt32(length), checksum] { withUnsafeBytes(of: number.littleEndian) { bytes += $0 } }
        return bytes + [UInt8](repeating: 0, count: 8)
    }

    /// Makes `node` the root of tree 1 of a volume that is closed.
    private static func forge(_ world: World, _ rig: StoreRig, _ node: [UInt8], _ checksum: UInt32) async throws
        -> String?
    {
        guard let name = ObjectName("v/meta/0000000000000777"),
            let newest = try await StoreRig.names(world, rig, "header").max()
        else { return "no names" }
        let block = Block(capacity: 40 + node.count)
        ([UInt8](repeating: 0, count: 40) + node).withUnsafeBytes { block.append($0) }
        try await StoreRig.objects(world, rig).put(name, .blocks([block]))
        try await StoreRig.patch(world, rig, newest) { bytes in
            for start in stride(from: 128, to: 128 + Int(bytes[88]) * 32, by: 32) where bytes[start] == 1 {
                bytes.replaceSubrange((start + 4)..<(start + 32), with: Self.place(node.count, checksum))
            }
            let sum = bytes.dropLast(4).withUnsafeBytes { CRC32C.of($0) }
            withUnsafeBytes(of: sum.littleEndian) { bytes.replaceSubrange((bytes.count - 4)..., with: $0) }
        }
        return nil
    }

    /// A volume whose root is a node, right in itself, of the later keys alone: the others are not told to be absent.
    @Test func aRootThatBeginsLate() throws {
        try StoreRig.run(seed: 72) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            for key in [1, 7] { _ = try await StoreRig.put(first, key, [1]) }
            try await first.close()
            // A leaf of tree 1 from key 5 on, with one entry.
            let low = withUnsafeBytes(of: UInt64(5).bigEndian) { [UInt8]($0) }
            let key = withUnsafeBytes(of: UInt64(7).bigEndian) { [UInt8]($0) }
            let node = [0, 0, 1, 0, 1, 0, 0, 0, 8] + low + [8, 1] + key + [1]
            let checksum = node.withUnsafeBytes { CRC32C.of($0) }
            if let wrong = try await Self.forge(world, rig, node, checksum) { return wrong }
            let second = try await StoreRig.open(world, rig)
            do throws(VolumeError) {
                let found = try await StoreRig.get(second, 1)
                return "key 1 is told to be \(found.map { "\($0)" } ?? "absent")"
            } catch {
                guard case .damaged(let why) = error, why.contains("meta/0000000000000777") else { return "\(error)" }
                return nil
            }
        }
    }

    /// A volume whose root says of itself that it is its own child: reading ends, and other trees are as good as before.
    @Test func aRootThatIsItsOwnChild() throws {
        try StoreRig.run(seed: 71) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            _ = try await StoreRig.put(first, 1, [1], tree: 1)
            _ = try await StoreRig.put(first, 1, [2], tree: 2)
            try await first.close()
            let checksum: UInt32 = 0x1234_5678
            // Level 1, no high fence, one entry, tree 1; an empty low fence; the entry's key is empty.
            let node = [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 28] + Self.place(39, checksum)
            let forged = Self.signed(node, at: 31, checksum)
            guard forged.withUnsafeBytes({ CRC32C.of($0) }) == checksum else { return "the forgery failed" }
            if let wrong = try await Self.forge(world, rig, forged, checksum) { return wrong }
            let second = try await StoreRig.open(world, rig)
            for change in [false, true] {
                do throws(VolumeError) {
                    if change {
                        _ = try await StoreRig.put(second, 1, [3])
                    } else {
                        _ = try await StoreRig.get(second, 1)
                    }
                    return "it was taken for a tree"
                } catch {
                    guard case .damaged(let why) = error, why.contains("meta/0000000000000777") else {
                        return "\(error)"
                    }
                }
            }
            let audit = try await StoreAudit.run(StoreRig.objects(world, rig), prefix: "v", readsData: true)
            guard audit.findings.contains(where: { $0.contains("meta/0000000000000777") && $0.contains("parent") })
            else {
                return "\(audit.findings)"
            }
            return try await StoreRig.get(second, 1, tree: 2) == [2] ? nil : "another tree can not be read"
        }
    }
}

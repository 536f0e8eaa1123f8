import Bytes
import ObjectStore
import Runtime

/// Whether all objects are there that a header names. Nodes of the segment table that another header has, too, and whose segments were
/// seen, are not read again: they are the same. Belongs to one loop.
final class Wholeness: @unchecked Sendable {
    enum Node {
        case inner([NodeAddress])
        /// Segments with live bytes.
        case leaf([UInt64])
    }

    /// What of a header was seen to be there.
    struct Seen {
        var objects: Set<UInt64> = []
        var table: [NodeAddress: Node] = [:]
    }

    private let store: ObjectStore
    private let prefix: String
    private let header: CheckpointHeader
    private let known: Seen
    private var seen = Seen()
    private var fresh: [UInt64] = []
    /// What was found to be missing.
    private(set) var missing: ObjectName?

    /// More objects than these are looked for by a listing first.
    private static let askedMax = 16
    /// The same where a listing shows what is gone.
    private static let askedWithoutListingMax = 1_024
    /// Leaves that are read side by side: a store may be far away.
    private static let readsMax = 16

    init(_ store: ObjectStore, _ prefix: String, _ header: CheckpointHeader, known: Seen = Seen()) {
        (self.store, self.prefix, self.header, self.known) = (store, prefix, header, known)
    }

    /// Throws `.damaged` with what is not.
    func require() async throws(VolumeError) -> Seen {
        seen.objects = Set(header.objects.map(\.number))
        try await require(seen.objects.subtracting(known.objects), ObjectNaming.metadata)
        if let root = header.trees.first(where: { $0.id == SystemTree.id })?.root {
            try await visit(root, nil, 0, below: Tree.depthMax)
        }
        if !fresh.isEmpty {
            var before: Set<UInt64> = []
            for (address, node) in known.table where seen.table[address] == nil {
                if case .leaf(let live) = node { before.formUnion(live) }
            }
            try await require(Set(fresh).subtracting(before), ObjectNaming.segment)
        }
        return seen
    }

    private func require(_ numbers: Set<UInt64>, _ kind: String) async throws(VolumeError) {
        var absent = numbers
        let limit = store.capabilities.listsConsistently ? Self.askedMax : Self.askedWithoutListingMax
        if absent.count > limit {
            do throws(StoreError) {
                for name in try await store.names(prefix: ObjectNaming.prefix(prefix, kind)) {
                    if let number = ObjectNaming.number(name, prefix, kind) { absent.remove(number) }
                }
            } catch { throw Headhunter.volumeError(error, "looking for what header \(header.number) names") }
        }
        // A listing may not show what is there.
        absent.subtract(try await Headhunter.stored(store, prefix, absent, kind: kind))
        guard let one = absent.min() else { return }
        throw lacks(ObjectNaming.name(prefix, kind, one))
    }

    private func lacks(_ name: ObjectName) -> VolumeError {
        missing = name
        return .damaged("\(name) of header \(header.number) is missing")
    }

    // MARK: The segment table

    private static let firstKey: [UInt8] = [SegmentTable.recordTag]
    private static let lastKey = [SegmentTable.recordTag] + [UInt8](repeating: .max, count: 8)

    /// A page's memory.
    private final class Memory: @unchecked Sendable {
        let page = Page(.allocate(byteCount: Page.size, alignment: 4096))
        deinit { page.base.deallocate() }
    }

    private func visit(
        _ address: NodeAddress, _ parent: Memory?, _ index: Int, below level: Int
    ) async throws(VolumeError) {
        if known.table[address] != nil { return keep(address) }
        let name = ObjectNaming.name(prefix, ObjectNaming.metadata, address.object)
        let start = UInt64(address.offset)
        let block: Block
        do throws(StoreError) {
            block = try await store.get(name, range: start..<(start + UInt64(address.length)))
        } catch {
            if error == .notFound { throw lacks(name) }
            throw Headhunter.volumeError(error, "reading \(name)")
        }
        let memory = Memory()
        defer { extendLifetime(memory) }
        let node = memory.page
        var tree: UInt32?
        if CRC32C.of(block.bytes) == address.checksum { tree = try? NodeCodec.decode(block.bytes, into: node) }
        extendLifetime(block)
        guard tree == SystemTree.id, node.level < level,
            parent.map({ node.fits(in: $0.page, at: index) }) ?? (node.low.count == 0 && node.high == nil)
        else {
            throw .damaged("\(name) at \(address.offset): not the metadata node that header \(header.number) means")
        }
        if node.isLeaf {
            let live = try live(node)
            seen.table[address] = .leaf(live)
            fresh += live
            return
        }
        let children =
            Self.firstKey.withUnsafeBytes { node.childIndex($0) }...Self.lastKey.withUnsafeBytes { node.childIndex($0) }
        seen.table[address] = .inner(children.map { node.child($0).address })
        let level = node.level
        var next = children.lowerBound
        while next <= children.upperBound {
            let last = min(children.upperBound, level == 1 ? next + Self.readsMax - 1 : next)
            let part = next...last
            next = last + 1
            guard part.count > 1 else {
                try await visit(node.child(part.lowerBound).address, memory, part.lowerBound, below: level)
                continue
            }
            let failure = await withTaskGroup(of: VolumeError?.self) { group -> VolumeError? in
                for child in part {
                    let address = node.child(child).address
                    group.addTask {
                        do throws(VolumeError) { try await self.visit(address, memory, child, below: level) } catch {
                            return error
                        }
                        return nil
                    }
                }
                var failure: VolumeError?
                for await one in group { failure = failure ?? one }
                return failure
            }
            if let failure { throw failure }
        }
    }

    /// With all below it.
    private func keep(_ address: NodeAddress) {
        guard let node = known.table[address] else { return }
        seen.table[address] = node
        if case .inner(let children) = node { for child in children { keep(child) } }
    }

    private func live(_ leaf: Page) throws(VolumeError) -> [UInt64] {
        var live: [UInt64] = []
        let isSound = withUnsafeTemporaryAllocation(byteCount: Page.keyBytesMax, alignment: 8) { memory in
            guard let base = memory.baseAddress else { return false }
            for index in 0..<leaf.count {
                let key = UnsafeRawBufferPointer(start: base, count: leaf.copyKey(index, to: base))
                guard key.first == SegmentTable.recordTag else { continue }
                let number = SegmentTable.segment(of: key)
                // Numbers of objects end long before.
                guard key.count == 9, number < CheckpointHeader.numberMax,
                    let record = SegmentTable.Record(UnsafeRawBufferPointer(leaf.value(index)))
                else { return false }
                if record.live > 0 { live.append(number) }
            }
            return true
        }
        guard isSound else { throw .damaged("the segment table of header \(header.number) makes no sense") }
        return live
    }
}

import Bytes
import ObjectStore
import Runtime

/// Keeps the number of metadata objects in proportion to the nodes that live in them.
///
/// An object stays while one of its nodes does, and each checkpoint makes another one. So those with the least in them are
/// read now and then, and what lives in them is stored anew with the next checkpoint: each node carries its tree and its
/// fences, so it can be found from the root. On the volume's loop.
extension Headhunter {
    /// Objects read for one checkpoint.
    private static let objectsRewrittenMax = 16
    /// Their nodes take this part of an object at the most.
    private static let rewrittenPart: UInt64 = 2
    /// On average an object is to be this part of a full one.
    private static let filledPart: UInt64 = 4
    /// Nodes looked at in one turn of the loop: most of an object's are dead, and an object has thousands.
    private static let nodesOfTurn = 64

    /// Objects that there may be whatever is in them, and more for what lives in them.
    private func hasTooManyObjects() -> Bool {
        let live = checkpoints.objects.values.reduce(0) { $0 + $1.live }
        let full = UInt64(max(options.metadataObjectBytes, 1)) / Self.filledPart
        return UInt64(checkpoints.objects.count) > UInt64(options.metadataObjectsMin) + live / max(full, 1)
    }

    /// Before a checkpoint begins. What can not be read now is left for later: nobody waits for this.
    func rewriteEmptiest() async {
        guard !standsStill, !checkpoints.isClosing, !checkpoints.isDraining, hasTooManyObjects() else { return }
        let movable = checkpoints.objects.values.filter { !checkpoints.unmovable.contains($0.number) }
        var bytes = UInt64(options.metadataObjectBytes) / Self.rewrittenPart
        var chosen: [CheckpointHeader.MetadataObject] = []
        for object in movable.sorted(by: { ($0.live, $0.number) < ($1.live, $1.number) }) {
            guard chosen.count < Self.objectsRewrittenMax, object.live <= bytes else { break }
            bytes -= object.live
            chosen.append(object)
        }
        // One alone would come back as one.
        guard chosen.count > 1 else { return }
        for object in chosen {
            do throws(VolumeError) {
                guard try await rewrite(object) else { return }
            } catch {
                // Whoever needs a node of it meets the same damage, and says so.
                if case .damaged = error { checkpoints.unmovable.insert(object.number) } else { return }
            }
        }
    }

    /// False: there is no room for more dirty nodes.
    private func rewrite(_ object: CheckpointHeader.MetadataObject) async throws(VolumeError) -> Bool {
        let name = objectName(ObjectNaming.metadata, object.number)
        let block: Block
        do throws(StoreError) { block = try await store.get(name) } catch {
            throw Self.volumeError(error, "reading \(name)")
        }
        defer { extendLifetime(block) }
        var place = NodePacker.headerSize
        var looked = 0
        while place < block.count {
            looked += 1
            if looked % Self.nodesOfTurn == 0 { await Task.yield() }
            let rest = UnsafeRawBufferPointer(rebasing: block.bytes[place...])
            guard let outline = NodeCodec.outline(rest), let offset = UInt32(exactly: place) else {
                throw .damaged("\(name) at \(place): not a metadata node")
            }
            let node = UnsafeRawBufferPointer(rebasing: rest[..<outline.size])
            var isDone = false
            while !isDone {
                switch try rewrite(object.number, offset, node, outline) {
                case .done: isDone = true
                case .missing(let address): try await load(Wanted(addresses: [address]))
                case .full: return false
                }
            }
            place += outline.size
        }
        return true
    }

    private enum Rewriting { case done, missing(NodeAddress), full }

    /// Makes one node dirty, if it lives; in one stretch inside the gate.
    private func rewrite(
        _ object: UInt64, _ offset: UInt32, _ node: UnsafeRawBufferPointer, _ outline: NodeCodec.Outline
    ) throws(VolumeError) -> Rewriting {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        guard Int(outline.tree) < trees.count, let tree = trees[Int(outline.tree)] else { return .done }
        let low = UnsafeRawBufferPointer(rebasing: node[outline.low])
        // Room first: making it may evict nodes of the way.
        guard cache.dirtyCount <= options.dirtyFramesSoft(of: cache.capacity),
            cache.reserve(tree.framesPerOperation + 1)
        else { return .full }
        switch tree.find(object, offset, low: low, level: outline.level) {
        case .nowhere: return .done
        case .missing(let address): return .missing(address)
        case .here(let address):
            guard Int(address.length) == node.count, CRC32C.of(node) == address.checksum else {
                throw .damaged("metadata object \(object) at \(offset): checksum of a metadata node does not match")
            }
            if cache.find(address) == nil {
                let page = Page(loadPage)
                var isNode = false
                do throws(NodeCodec.Malformed) {
                    _ = try NodeCodec.decode(node, into: page)
                    isNode = tree.leads(to: address, page)
                } catch {}
                guard isNode else { throw .damaged("metadata object \(object) at \(offset): not a metadata node") }
                let frame = cache.insertClean(address, tree: outline.tree)
                cache.page(frame).base.copyMemory(from: page.base, byteCount: Page.size)
            }
            tree.touch(low: low, level: outline.level)
            return .done
        }
    }
}

import Bytes
import ObjectStore
import Runtime
import Synchronization

/// Fetching nodes, and waiting for room. On the volume's loop.
extension Headhunter {
    func objectName(_ kind: String, _ number: UInt64) -> ObjectName {
        ObjectNaming.name(prefix, kind, number)
    }

    /// Fetches the nodes that reader `reader` met and did not find.
    public func load(for reader: Int) async throws(VolumeError) { try await load(wanted(by: reader)) }

    /// What reader `reader` met and did not find: asked where that reader is at home, fetched on the volume's loop.
    public func wanted(by reader: Int) -> Wanted { takeMissing(reader) }

    public func load(_ wanted: Wanted) async throws(VolumeError) {
        // What this one would read is another owner's by now, or may be.
        if hasNoOwner { throw .fenced }
        try await leased()
        if let address = wanted.astray {
            throw .damaged(
                "\(objectName(ObjectNaming.metadata, address.object)) at \(address.offset): the metadata node there is not "
                    + "where the tree needs one")
        }
        for address in wanted.addresses { try await load(address) }
    }

    /// One fetch for all that wait for a node.
    private func load(_ address: NodeAddress) async throws(VolumeError) {
        if let load = loading[address] {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                load.waiting.append(continuation)
            }
            if let failure = load.failure { throw failure }
            return
        }
        let load = NodeLoad()
        loading[address] = load
        do throws(VolumeError) {
            try await fetch(address)
        } catch {
            load.failure = error
        }
        loading[address] = nil
        for continuation in load.waiting { continuation.resume() }
        if let failure = load.failure { throw failure }
    }

    /// Times that a node may be asked for whose object no header names any more.
    private static let goneMax = 16

    /// Whether the trees have gone on without the node since somebody met its address: its object may be gone by then. Who
    /// asked looks again and meets other addresses, unless the trees lead to what no header names, again and again.
    private func hasMovedOn(_ address: NodeAddress) -> Bool {
        guard checkpoints.objects[address.object] == nil else { return false }
        if gone[address] == nil, gone.count >= 1_024 { gone.removeAll() }
        let times = gone[address, default: 0] + 1
        gone[address] = times
        return times <= Self.goneMax
    }

    private func fetch(_ address: NodeAddress) async throws(VolumeError) {
        if isResident(address) { return }
        let name = objectName(ObjectNaming.metadata, address.object)
        let range = UInt64(address.offset)..<(UInt64(address.offset) + UInt64(address.length))
        let block: Block
        do throws(StoreError) {
            block = try await store.get(name, range: range)
        } catch {
            if error == .notFound {
                if hasMovedOn(address) { return }
                if try await catchUp() { return }
            }
            throw Self.volumeError(error, "reading \(name)")
        }
        defer { extendLifetime(block) }
        guard CRC32C.of(block.bytes) == address.checksum else {
            throw .damaged("\(name) at \(address.offset): checksum of a metadata node does not match")
        }
        repeat {
            // Decoded outside of the gate; only the copy is made inside. The page is everybody's between two waits.
            let page = Page(loadPage)
            let tree: UInt32
            do throws(NodeCodec.Malformed) {
                tree = try NodeCodec.decode(block.bytes, into: page)
            } catch {
                throw .damaged("\(name) at \(address.offset): not a metadata node")
            }
            switch adopt(page, address, tree) {
            case .isIn: return
            case .isNotWanted:
                // Whoever still wants it plans again and finds its new place. One that is asked for at the same place all the same is
                // not what its parent says.
                refusals = refused == address ? refusals + 1 : 1
                refused = address
                guard refusals < Self.refusalsMax else {
                    throw .damaged("\(name) at \(address.offset): not the metadata node that was stored there")
                }
                return
            case .hasNoRoom: break
            }
            try await room()
        } while true
    }

    private var isLogFull: Bool {
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        return logIsFull
    }

    private var hasNoOwner: Bool {
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        return isFenced
    }

    private func isResident(_ address: NodeAddress) -> Bool {
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        return cache.find(address) != nil
    }

    private enum Adoption { case isIn, isNotWanted, hasNoRoom }
    /// So often in a row the same node may turn out not to be led to: its parent may leave the memory while it is read.
    private static let refusalsMax = 64

    private func adopt(_ page: Page, _ address: NodeAddress, _ tree: UInt32) -> Adoption {
        gate.enterWrite()
        defer { leaveChange() }
        if cache.find(address) != nil { return .isIn }
        guard Int(tree) < trees.count, let current = trees[Int(tree)],
            current.leads(to: address, page)
        else { return .isNotWanted }
        guard cache.reserve(1) else { return .hasNoRoom }
        // Making room may have taken a parent away; the node itself is as good as before.
        let frame = cache.insertClean(address, tree: tree)
        cache.page(frame).base.copyMemory(from: page.base, byteCount: Page.size)
        return .isIn
    }

    /// Waits until a checkpoint or the log's writer has made room.
    public func room() async throws(VolumeError) {
        try await leased()
        let wasTurnedAway = segments.takeRefusal()
        if isFrozen.load(ordering: .relaxed) {
            await withUnsafeContinuation { thawing.append($0) }
        } else if log.pendingBytes > HeadhunterOptions.logPendingMax {
            do throws(ReplayLog.Failure) {
                try await log.wait(for: log.last, .written)
            } catch {
                throw .readOnly("the replay log failed: \(error.cause)")
            }
        } else if segments.isFull {
            try await dataRoom()
        } else if wasTurnedAway {
            // Room came between the refusal and now: only a caller who is turned away again is in need of more.
            return
        } else if isLogFull {
            // While a recovered log drains, none of them makes the log shorter.
            try await checkpoint()
        } else {
            try await nextCheckpoint()
        }
    }

    static func volumeError(_ error: StoreError, _ what: String) -> VolumeError {
        switch error {
        case .notFound: .damaged("\(what): the object is missing")
        case .exists: .fenced
        case .badRange: .damaged("\(what): the object is too short")
        case .noSpace: .unavailable("\(what): no space left in the store")
        case .denied(let reason): .unavailable("\(what): \(reason)")
        case .unavailable(let reason): .unavailable("\(what): \(reason)")
        case .corrupt(let reason): .damaged("\(what): \(reason)")
        case .canceled: .closed
        }
    }
}

/// A node on its way from the store. On the volume's loop.
final class NodeLoad {
    var waiting: [UnsafeContinuation<Void, Never>] = []
    var failure: VolumeError?
}

/// Nodes that somebody needs.
public struct Wanted: Sendable {
    let addresses: [NodeAddress]
    /// Set: what is stored makes no tree there.
    var astray: NodeAddress?
}

/// How the objects of a volume are called.
enum ObjectNaming {
    static let header = "header"
    static let metadata = "meta"
    static let segment = "segment"
    static let boundary = "boundary"
    static let slot = "slot"

    static func prefix(_ prefix: String, _ kind: String) -> String { prefix + "/" + kind + "/" }

    static func name(_ prefix: String, _ kind: String, _ number: UInt64) -> ObjectName {
        let digits = String(number, radix: 16)
        let text = self.prefix(prefix, kind) + String(repeating: "0", count: 16 - digits.count) + digits
        guard let name = ObjectName(text) else { preconditionFailure("a volume's prefix was checked when it was made") }
        return name
    }

    static func number(_ name: ObjectName, _ prefix: String, _ kind: String) -> UInt64? {
        let start = self.prefix(prefix, kind)
        guard name.text.hasPrefix(start) else { return nil }
        return number(name.text.dropFirst(start.count))
    }

    /// What sixteen digits say.
    static func number(_ digits: Substring) -> UInt64? {
        // Digits only: the library's own reading takes a sign, too.
        let isNumber = digits.utf8.allSatisfy { 48...57 ~= $0 || 97...102 ~= $0 }
        guard digits.utf8.count == 16, isNumber, let number = UInt64(digits, radix: 16) else { return nil }
        // Others can put what they like into a store or a folder. No server gets as far.
        return number < CheckpointHeader.numberMax ? number : nil
    }
}

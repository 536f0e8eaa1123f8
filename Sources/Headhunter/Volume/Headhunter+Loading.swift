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
    public func wanted(by reader: Int) -> Wanted { Wanted(addresses: takeMissing(reader)) }

    public func load(_ wanted: Wanted) async throws(VolumeError) {
        for address in wanted.addresses { try await load(address) }
    }

    /// One fetch for all that wait for a node.
    private func load(_ address: NodeAddress) async throws(VolumeError) {
        if loading[address] != nil {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                loading[address]?.append(continuation)
            }
            if let failure = loadFailures[address] { throw failure }
            return
        }
        loading[address] = []
        loadFailures[address] = nil
        var failure: VolumeError?
        do throws(VolumeError) {
            try await fetch(address)
        } catch {
            failure = error
        }
        let waiting = loading.removeValue(forKey: address) ?? []
        if let failure {
            // Kept until the last of those who wait now has seen it; the next fetch forgets it.
            if !waiting.isEmpty { loadFailures[address] = failure }
            for continuation in waiting { continuation.resume() }
            throw failure
        }
        for continuation in waiting { continuation.resume() }
    }

    private func fetch(_ address: NodeAddress) async throws(VolumeError) {
        if isResident(address) { return }
        let name = objectName(ObjectNaming.metadata, address.object)
        let range = UInt64(address.offset)..<(UInt64(address.offset) + UInt64(address.length))
        let block: Block
        do throws(StoreError) {
            block = try await store.get(name, range: range)
        } catch {
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
            if adopt(page, address, tree) { return }
            try await room()
        } while true
    }

    private func isResident(_ address: NodeAddress) -> Bool {
        gate.enterRead(loop.index)
        defer { gate.leaveRead(loop.index) }
        return cache.find(address) != nil
    }

    private func adopt(_ page: Page, _ address: NodeAddress, _ tree: UInt32) -> Bool {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        if cache.find(address) != nil { return true }
        guard Int(tree) < trees.count, let current = trees[Int(tree)],
            current.leads(to: address, low: page.low, level: page.level)
        else { return true }
        guard cache.reserve(1) else { return false }
        // Making room may have taken a parent away; the node itself is as good as before.
        let frame = cache.insertClean(address, tree: tree)
        cache.page(frame).base.copyMemory(from: page.base, byteCount: Page.size)
        return true
    }

    /// Waits until a checkpoint or the log's writer has made room.
    public func room() async throws(VolumeError) {
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

/// Nodes that somebody needs.
public struct Wanted: Sendable {
    let addresses: [NodeAddress]
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
        let digits = name.text.dropFirst(start.count)
        return digits.utf8.count == 16 ? UInt64(digits, radix: 16) : nil
    }
}

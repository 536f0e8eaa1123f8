import Bytes
import ObjectStore
import Runtime

/// Reads what a volume has in its store and compares it with what its newest header says, whether the volume opens or not. It
/// changes nothing. On a loop of the caller's.
///
/// Every node of every tree is read from where its parent says; what is kept in memory is one way from a root to a leaf, a
/// number for each metadata object, and a record for each segment.
public final class StoreAudit {
    /// What is wrong, in words that name objects.
    public private(set) var findings: [String] = []
    public private(set) var count = 0
    /// What a crash leaves behind and the next start takes away.
    public private(set) var notes: [String] = []
    public static let findingsMax = 10_000

    private let store: ObjectStore
    private let prefix: String
    private var header: CheckpointHeader?
    private var live: [UInt64: UInt64] = [:]
    private var segments: [UInt64: Segment] = [:]
    private let page: UnsafeMutableRawPointer

    private struct Segment {
        var record: SegmentTable.Record?
        var isDead = false
        var isStaged = false
        /// Of its blocks, as far as they are known, by the index of their key.
        var checksums: [UInt16: [UInt32]] = [:]
    }

    private init(_ store: ObjectStore, _ prefix: String) {
        self.store = store
        self.prefix = prefix
        page = .allocate(byteCount: Page.size, alignment: 4096)
    }

    deinit { page.deallocate() }

    /// `readsData`: all bytes of all segments are compared with their checksums, those that no file has any more among them.
    public static func run(_ store: ObjectStore, prefix: String, readsData: Bool) async throws(StoreError) -> StoreAudit
    {
        let audit = StoreAudit(store, prefix)
        try await audit.readHeader()
        return try await audit.run(readsData: readsData)
    }

    /// By the header that the volume shows: of a copy the newest one may not be whole.
    public static func run(_ volume: Headhunter, readsData: Bool) async throws(StoreError) -> StoreAudit {
        let audit = StoreAudit(volume.store, volume.prefix)
        audit.header = volume.checkpoints.header
        return try await audit.run(readsData: readsData)
    }

    private func run(readsData: Bool) async throws(StoreError) -> StoreAudit {
        let audit = self
        guard let header = audit.header else { return audit }
        for (tree, root) in header.trees {
            if let root { try await audit.walk(tree, root) }
        }
        audit.compareLive(header)
        try await audit.compareNames(header)
        try await audit.compareSegments(header, readsData: readsData)
        return audit
    }

    private func report(_ what: String) {
        count += 1
        if findings.count < Self.findingsMax { findings.append(what) }
    }

    private func note(_ what: String) { if notes.count < Self.findingsMax { notes.append(what) } }

    // MARK: Headers

    /// The newest that can be read.
    private func readHeader() async throws(StoreError) {
        var numbers: [UInt64] = []
        for name in try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.header)) {
            if let number = ObjectNaming.number(name, prefix, ObjectNaming.header) { numbers.append(number) }
        }
        for number in numbers.sorted(by: >) {
            do throws(VolumeError) {
                header = try await Headhunter.readHeader(store, prefix, number)
                return
            } catch {
                switch error {
                case .damaged(let why), .unknownFormat(let why): report(why)
                default: report("\(error)")
                }
            }
        }
        report("there is no header that can be read: nothing else can be found without one")
    }

    // MARK: Trees

    private struct Step {
        var page: UnsafeMutableRawPointer
        var next = 0
    }

    /// Depth first; no deeper than levels go down.
    private func walk(_ tree: UInt32, _ root: NodeAddress) async throws(StoreError) {
        var way: [Step] = []
        defer { for step in way { step.page.deallocate() } }
        guard try await read(tree, root, parent: nil, index: 0) else { return }
        if !Page(page).isLeaf { way.append(keep()) }
        while let last = way.last {
            let parent = Page(last.page)
            guard last.next < parent.count else {
                way.removeLast().page.deallocate()
                continue
            }
            way[way.count - 1].next += 1
            guard try await read(tree, parent.child(last.next).address, parent: parent, index: last.next) else {
                continue
            }
            if !Page(page).isLeaf { way.append(keep()) }
        }
    }

    private func keep() -> Step {
        let copy = UnsafeMutableRawPointer.allocate(byteCount: Page.size, alignment: 4096)
        copy.copyMemory(from: page, byteCount: Page.size)
        return Step(page: copy)
    }

    /// Reads a node into the page. False: there is none that can be read.
    private func read(_ tree: UInt32, _ address: NodeAddress, parent: Page?, index: Int) async throws(StoreError)
        -> Bool
    {
        live[address.object, default: 0] += UInt64(address.length)
        let name = ObjectNaming.name(prefix, ObjectNaming.metadata, address.object)
        let place = "\(name) at \(address.offset)"
        let block: Block
        do throws(StoreError) {
            block = try await store.get(
                name, range: UInt64(address.offset)..<(UInt64(address.offset) + UInt64(address.length)))
        } catch {
            guard error == .notFound || error == .badRange else { throw error }
            report("\(place): the metadata node is missing")
            return false
        }
        defer { extendLifetime(block) }
        guard CRC32C.of(block.bytes) == address.checksum else {
            report("\(place): checksum of a metadata node does not match")
            return false
        }
        let node = Page(page)
        var found: UInt32?
        do throws(NodeCodec.Malformed) { found = try NodeCodec.decode(block.bytes, into: node) } catch {}
        let fits = parent.map { node.fits(in: $0, at: index) } ?? (node.low.count == 0 && node.high == nil)
        guard found == tree, fits else {
            report("\(place): not the metadata node that its parent says")
            return false
        }
        if tree == SystemTree.id, node.isLeaf { takeSystem(node) }
        return true
    }

    private func takeSystem(_ leaf: Page) {
        withUnsafeTemporaryAllocation(byteCount: Page.keyBytesMax, alignment: 8) { memory in
            guard let base = memory.baseAddress else { return }
            for index in 0..<leaf.count {
                let key = UnsafeRawBufferPointer(start: base, count: leaf.copyKey(index, to: base))
                let value = UnsafeRawBufferPointer(leaf.value(index))
                guard let tag = key.first, key.count >= 9, tag != SystemTree.noncesTag else { continue }
                let number = SegmentTable.segment(of: key)
                switch (tag, key.count) {
                case (SegmentTable.recordTag, 9):
                    segments[number, default: Segment()].record = SegmentTable.Record(value)
                    if SegmentTable.Record(value) == nil {
                        report("the segment table's record of segment \(number) makes no sense")
                    }
                case (SegmentTable.deadTag, 9): segments[number, default: Segment()].isDead = true
                case (SegmentTable.stagedTag, 9): segments[number, default: Segment()].isStaged = true
                case (SegmentTable.checksumsTag, 11) where value.count % 4 == 0:
                    let place = UInt16(key[9]) << 8 | UInt16(key[10])
                    segments[number, default: Segment()].checksums[place] = stride(from: 0, to: value.count, by: 4).map
                    {
                        UInt32(littleEndian: value.loadUnaligned(fromByteOffset: $0, as: UInt32.self))
                    }
                default: report("the segment table has a key with tag \(tag) and \(key.count) bytes")
                }
            }
        }
    }

    // MARK: Comparing

    private func compareLive(_ header: CheckpointHeader) {
        for object in header.objects {
            let counted = live.removeValue(forKey: object.number) ?? 0
            if counted != object.live {
                report(
                    "\(ObjectNaming.name(prefix, ObjectNaming.metadata, object.number)): the header says that \(object.live) "
                        + "of its bytes live, and the trees have \(counted)")
            }
        }
        for (object, counted) in live.sorted(by: { $0.key < $1.key }) {
            report(
                "\(ObjectNaming.name(prefix, ObjectNaming.metadata, object)): \(counted) of its bytes are in the trees, and no "
                    + "header lists it")
        }
    }

    /// Objects that nothing names.
    private func compareNames(_ header: CheckpointHeader) async throws(StoreError) {
        let metadata = Set(header.objects.map(\.number))
        let doomed = Set(header.doomed)
        let staged = Set(header.staged.map(\.segment))
        for (kind, doomedKind) in [
            (ObjectNaming.metadata, DoomedObject.Kind.metadata), (ObjectNaming.segment, .segment),
        ] {
            var after: String?
            repeat {
                let page = try await store.list(prefix: ObjectNaming.prefix(prefix, kind), after: after, limit: 1_000)
                for entry in page.entries {
                    guard let number = ObjectNaming.number(entry.name, prefix, kind) else {
                        report("\(entry.name): no server gives such a name")
                        continue
                    }
                    let isNamed =
                        doomedKind == .metadata
                        ? metadata.contains(number) : segments[number] != nil || staged.contains(number)
                    if isNamed || doomed.contains(DoomedObject(kind: doomedKind, number: number)) { continue }
                    // A log that goes on behind the header may name it, and what a crash left is taken away by the next start.
                    if header.log != 0 {
                        note("\(entry.name): named by no tree; a crash may have left it")
                    } else {
                        report("\(entry.name): nothing names this object")
                    }
                }
                after = page.isTruncated ? page.entries.last?.name.text : nil
            } while after != nil
        }
    }

    private static let partBytes: UInt64 = 8 << 20

    private func compareSegments(_ header: CheckpointHeader, readsData: Bool) async throws(StoreError) {
        for number in segments.keys.sorted() {
            guard let segment = segments[number], let record = segment.record else {
                report("segment \(number): the table has marks or checksums of it and no record")
                continue
            }
            let name = ObjectNaming.name(prefix, ObjectNaming.segment, number)
            guard record.size > 0 else {
                // Its checksums are in the log, and its bytes may be in the stage.
                if segment.isDead || !segment.isStaged { report("\(name): its marks in the table are wrong") }
                continue
            }
            if segment.isDead != (record.live == 0) || segment.isStaged {
                report("\(name): its marks in the table are wrong, \(record.live) bytes live")
            }
            guard let size = try await store.head(name) else {
                report("\(name): the object is missing, \(record.live) bytes of files are in it")
                continue
            }
            guard size == record.size || segment.isDead && size >= record.size else {
                report("\(name): it has \(size) bytes, and the table says \(record.size)")
                continue
            }
            if readsData { try await compareBytes(name, segment, record.size) }
        }
    }

    /// Every block, whether files have bytes in it or not.
    private func compareBytes(_ name: ObjectName, _ segment: Segment, _ size: UInt64) async throws(StoreError) {
        let block = UInt64(SegmentFormat.blockSize)
        var place: UInt64 = 0
        while place < size {
            let end = min(place + Self.partBytes, size)
            let bytes = try await store.get(name, range: place..<end)
            defer { extendLifetime(bytes) }
            var offset: UInt64 = 0
            while offset < end - place {
                let index = Int((place + offset) / block)
                let known = segment.checksums[UInt16(index / SegmentTable.checksumsPerKey)]
                let within = index % SegmentTable.checksumsPerKey
                let count = min(block, end - place - offset)
                let part = UnsafeRawBufferPointer(rebasing: bytes.bytes[Int(offset)..<Int(offset + count)])
                if let known, within < known.count {
                    if CRC32C.of(part) != known[within] {
                        report("\(name): checksum of the block at \(place + offset) does not match")
                    }
                } else {
                    report("\(name): the table has no checksum of the block at \(place + offset)")
                }
                offset += count
            }
            place = end
        }
    }
}

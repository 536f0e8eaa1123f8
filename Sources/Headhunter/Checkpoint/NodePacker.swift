import Bytes
import CShim

/// Walks the frozen nodes of a forest and packs them into metadata objects, children before their parents.
///
/// It reads frozen pages only, which nobody changes, so it holds no lock. It runs on a thread of the pool, one object
/// at a time; nothing else touches it.
///
/// A metadata object: magic u32 "PXMO", version u16, reserved u16, number u64, epoch u64, volume 16 bytes, then
/// nodes as `NodeCodec` writes them, back to back. Their addresses have offsets and checksums.
final class NodePacker: @unchecked Sendable {
    static let magic: UInt32 = 0x4F4D_5850
    static let version: UInt16 = 1
    static let headerSize = 40
    /// Behind so many the writers of the volume have the processor, if they wait for it.
    private static let nodesAtOnce = 32

    struct Stored {
        var frame: UInt32
        var address: NodeAddress
        var tree: UInt32
        var level: Int
    }

    private let cache: NodeCache
    private let volume: VolumeIdentity
    private let epoch: UInt64
    private let objectBytes: Int
    private var roots: [(id: UInt32, root: ChildReference)]
    private var stack: [(frame: UInt32, next: Int)] = []
    private var tree: UInt32 = 0
    private(set) var stored: [Stored] = []
    private var addresses: [UInt32: NodeAddress] = [:]

    init(
        cache: NodeCache, volume: VolumeIdentity, epoch: UInt64, objectBytes: Int,
        roots: [(id: UInt32, root: ChildReference)]
    ) {
        self.cache = cache
        self.volume = volume
        self.epoch = epoch
        self.objectBytes = objectBytes
        self.roots = roots.reversed()
    }

    /// The stored address of a frozen root, when all is packed.
    func address(of root: ChildReference) -> NodeAddress {
        if root.isStored { return root.address }
        guard let address = addresses[root.frame] else { preconditionFailure("a root was not packed") }
        return address
    }

    /// Whether there is anything left to pack.
    var isDone: Bool { stack.isEmpty && !roots.contains { !$0.root.isStored } }

    /// Packs the next object, which will have the name `number`.
    func next(number: UInt64, into block: Block) {
        let base = block.base
        base.storeBytes(of: Self.magic.littleEndian, as: UInt32.self)
        base.storeBytes(of: UInt32(Self.version).littleEndian, toByteOffset: 4, as: UInt32.self)
        base.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
        base.storeBytes(of: epoch.littleEndian, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: volume.high.littleEndian, toByteOffset: 24, as: UInt64.self)
        base.storeBytes(of: volume.low.littleEndian, toByteOffset: 32, as: UInt64.self)
        block.count = Self.headerSize
        while block.count + NodeCodec.sizeMax <= block.capacity, block.count < objectBytes {
            guard let frame = nextFrame() else { return }
            let page = cache.page(frame)
            let offset = block.count
            let size = NodeCodec.encode(page, tree: tree, into: base + offset) { child in
                guard let address = addresses[child] else { preconditionFailure("a child is packed before its parent") }
                return address
            }
            block.count += size
            let checksum = CRC32C.of(UnsafeRawBufferPointer(start: base + offset, count: size))
            let address = NodeAddress(
                object: number, offset: UInt32(offset), length: UInt32(size), checksum: checksum,
                birth: cache.info(frame).pointee.epoch)
            addresses[frame] = address
            stored.append(Stored(frame: frame, address: address, tree: tree, level: page.level))
            if stored.count % Self.nodesAtOnce == 0 { shim_thread_yield() }
        }
    }

    /// The next node in post-order whose children are all stored or packed.
    private func nextFrame() -> UInt32? {
        if stack.isEmpty {
            while let root = roots.popLast() {
                guard !root.root.isStored else { continue }
                tree = root.id
                stack.append((root.root.frame, 0))
                break
            }
        }
        while let top = stack.last {
            let page = cache.page(top.frame)
            var index = top.next
            var child: UInt32?
            if !page.isLeaf {
                while index < page.count {
                    let reference = page.child(index)
                    index += 1
                    if !reference.isStored {
                        child = reference.frame
                        break
                    }
                }
            }
            stack[stack.count - 1].next = index
            guard let child else {
                stack.removeLast()
                return top.frame
            }
            stack.append((child, 0))
        }
        return nil
    }
}

/// Where a node is stored: a byte range of one immutable object, with the checksum of those bytes and the epoch
/// in which the node was written (its birth: what a snapshot older than it can not see).
public struct NodeAddress: Hashable, Sendable {
    /// The nonce in the metadata object's name; 0 is never a nonce.
    public var object: UInt64
    public var offset: UInt32
    public var length: UInt32
    public var checksum: UInt32
    public var birth: UInt64

    public init(object: UInt64, offset: UInt32, length: UInt32, checksum: UInt32, birth: UInt64) {
        self.object = object
        self.offset = offset
        self.length = length
        self.checksum = checksum
        self.birth = birth
    }
}

/// How a parent (or a tree's root slot) names a child, in memory.
///
/// Either the child is stored: `address` is valid, and `frame` is a guess where it may be resident, checked
/// against the frame's own address before use. Or it was never stored: `address.object` is 0 and `frame` is where
/// it is; such a child is dirty, or was stored by a checkpoint that has not told its parent yet, and is never evicted.
package struct ChildReference: Equatable {
    package var address: NodeAddress
    package var frame: UInt32

    /// Bytes of a reference inside a page.
    package static let size = 32
    package static let noFrame: UInt32 = .max

    package static func memory(_ frame: UInt32) -> ChildReference {
        ChildReference(address: NodeAddress(object: 0, offset: 0, length: 0, checksum: 0, birth: 0), frame: frame)
    }

    package static func stored(_ address: NodeAddress, hint: UInt32 = noFrame) -> ChildReference {
        ChildReference(address: address, frame: hint)
    }

    package var isStored: Bool { address.object != 0 }

    package init(address: NodeAddress, frame: UInt32) {
        self.address = address
        self.frame = frame
    }

    @inline(__always)
    package init(loading pointer: UnsafeRawPointer) {
        address = NodeAddress(
            object: pointer.loadUnaligned(as: UInt64.self),
            offset: pointer.loadUnaligned(fromByteOffset: 8, as: UInt32.self),
            length: pointer.loadUnaligned(fromByteOffset: 12, as: UInt32.self),
            checksum: pointer.loadUnaligned(fromByteOffset: 16, as: UInt32.self),
            birth: pointer.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        frame = pointer.loadUnaligned(fromByteOffset: 20, as: UInt32.self)
    }

    @inline(__always)
    package func store(to pointer: UnsafeMutableRawPointer) {
        pointer.storeBytes(of: address.object, as: UInt64.self)
        pointer.storeBytes(of: address.offset, toByteOffset: 8, as: UInt32.self)
        pointer.storeBytes(of: address.length, toByteOffset: 12, as: UInt32.self)
        pointer.storeBytes(of: address.checksum, toByteOffset: 16, as: UInt32.self)
        pointer.storeBytes(of: frame, toByteOffset: 20, as: UInt32.self)
        pointer.storeBytes(of: address.birth, toByteOffset: 24, as: UInt64.self)
    }
}

/// Nodes that are to be stored anew although nothing of them changes.
extension Tree {
    package enum Place {
        /// The tree leads to the node; its address says what its bytes are.
        case here(NodeAddress)
        /// It does not: the node was changed, or is gone.
        case nowhere
        /// This node has to be in memory to tell.
        case missing(NodeAddress)
    }

    /// Whether the tree leads to the node of this level and low fence that is stored at a place of an object.
    package func find(_ object: UInt64, _ offset: UInt32, low: UnsafeRawBufferPointer, level: Int) -> Place {
        var reference = root
        var parent: Page?
        var index = 0
        while true {
            if reference.isStored, reference.address.object == object, reference.address.offset == offset {
                return .here(reference.address)
            }
            guard let frame = cache.resolve(reference) else { return .missing(reference.address) }
            let page = cache.page(frame)
            guard page.level > level, parent.map({ page.fits(in: $0, at: index) }) ?? true else { return .nowhere }
            parent = page
            index = page.childIndex(low)
            reference = page.child(index)
        }
    }

    /// Makes the way to a node dirty, and the node, so that the next checkpoint stores them anew. All of them are resident:
    /// `find` said so of the way.
    package func touch(low: UnsafeRawBufferPointer, level: Int) {
        guard let frame = cache.resolve(root) else { preconditionFailure("a root left the cache while it was used") }
        var writable = cache.writable(frame)
        root = .memory(writable)
        while cache.page(writable).level > level {
            let page = cache.page(writable)
            let index = page.childIndex(low)
            let reference = page.child(index)
            guard let child = cache.resolve(reference) else {
                preconditionFailure("a node left the cache while it was used")
            }
            writable = cache.writable(child)
            if reference.isStored || writable != child { page.setChild(index, .memory(writable)) }
        }
    }
}

/// As much of Namespace's files as handles have.
public struct FileID: Hashable, Sendable {
    public var subvolume: UInt32
    public var inode: UInt64
    public var generation: UInt64

    public init(subvolume: UInt32, inode: UInt64, generation: UInt64) {
        self.subvolume = subvolume
        self.inode = inode
        self.generation = generation
    }
}

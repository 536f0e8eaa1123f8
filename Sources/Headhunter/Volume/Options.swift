/// What an operator may set for a volume's metadata engine, with the defaults.
public struct HeadhunterOptions: Sendable {
    /// A checkpoint begins this long after the one before, if anything changed.
    public var checkpointNanoseconds: UInt64 = 10_000_000_000
    /// A segment goes to the store when it has this age, if no checkpoint sends it before.
    public var flushNanoseconds: UInt64 = 10_000_000_000
    /// A checkpoint also begins when the log has grown by this much.
    public var logBytesMax = 64 << 20
    /// What a header names stays for so long after another one has come, for readers elsewhere and for copies.
    public var keepNanoseconds: UInt64 = 0
    /// Memory for nodes: cached, dirty and frozen ones.
    public var cacheBytes = 256 << 20
    /// Numbers for object names are reserved in ranges of this size.
    public var nonceRange: UInt64 = 10_000
    /// Nodes are packed into metadata objects of about this size.
    public var metadataObjectBytes = 16 << 20

    /// Metadata objects that a volume may have whatever is in them; above that the emptiest are rewritten.
    public var metadataObjectsMin = 32

    /// A segment is sealed when it has this size ("max flush size"); at the latest a checkpoint seals it.
    public var flushBytes = 64 << 20
    /// Memory for data that has not been synced yet, and for what was written last.
    public var stageMemoryBytes = 96 << 20
    /// Data on the local disk that the store does not have yet; writers wait above that. At least two segments.
    public var stagedBytesMax = 4 << 30
    /// Memory for file data that was read, blocks of segments; at least 512 KiB.
    public var dataCacheBytes = 1 << 30
    /// Space of log files is reserved in steps of this size.
    public var logReserveBytes: UInt64 = 16 << 20
    /// So many bytes of log are written though nobody waits for them.
    public var logPushBytes = 1 << 20
    /// The log that counts is the one in the store: what is durable is there. The local one only keeps what was written
    /// over a restart of the process.
    public var logIsInStore = false
    /// Other hosts have the log's directory, too, and may still write to it when its lock has become ours: an owner claims the
    /// volume before it reads what is there, gives no name to a file or an object that an owner before may give, and takes no file away that another
    /// one may be reading.
    public var logIsShared = false
    /// Opens a volume whose log is elsewhere: only what is in the store counts, and its owner is fenced off.
    public var takesOver = false

    /// The owner says nothing that it has not looked for so long whether it still is the owner; 0: it keeps no lease.
    public var leaseNanoseconds: UInt64 = 0
    /// Who takes over waits for so much more than the lease of the owner before: clocks do not go alike.
    public var driftNanoseconds: UInt64 = 2_000_000_000

    /// Nothing is claimed and nothing is changed: what can be read is read, whatever is damaged beside it.
    public var isReadOnly = false
    /// ... but it is served: it keeps a lease, and looks for another owner, like one that writes.
    public var looksForOwner = false
    /// Reads what another server owns, or a copy: of the store alone, and whatever is newer as it comes.
    public var follows = false
    /// Between two looks for a newer state; 0: what was found first is what stays.
    public var followNanoseconds: UInt64 = 2_000_000_000

    public init() {}

    /// Dirty and frozen nodes may take three quarters of the cache; writers wait above that.
    func dirtyFramesMax(of capacity: Int) -> Int { capacity / 4 * 3 }
    /// A checkpoint begins when this much is dirty.
    func dirtyFramesSoft(of capacity: Int) -> Int { capacity / 3 }
    /// Bytes of records that no header covers; writers wait above that. A checkpoint begins long before, so this is for a
    /// store that is away. Short of space it is little: what is left of the disk is for checkpoints.
    func logUncoveredMax(isShortOfSpace: Bool) -> Int {
        isShortOfSpace ? min(Self.logWhenShort, 4 * logBytesMax) : 4 * logBytesMax
    }
    static let logWhenShort = 16 << 20
    /// Appended but not written to the disk yet: writers wait above that.
    static let logPendingMax = 64 << 20
}

/// Why a volume does not do what it was asked.
public enum VolumeError: Error, Equatable, Sendable {
    /// The log or the store failed for good, or something is damaged: the volume is read-only from here on.
    case readOnly(String)
    /// Another owner has taken the volume over: nothing that this one says counts any more.
    case fenced
    case closed
    case unavailable(String)
    /// What is stored is not what was written.
    case damaged(String)
    case noVolume
    /// The log is not where the volume was to be opened: what is only there would be lost.
    case logElsewhere
    /// Made by another version of this program.
    case unknownFormat(String)
}

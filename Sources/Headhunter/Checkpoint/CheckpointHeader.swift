import Bytes
import Glibc

/// The one object that makes a checkpoint true: everything else is reached from it.
///
/// Headers are numbered, over all owners, and made by create-if-absent: the highest number is the volume's state.
/// Little-endian:
/// ```
/// 0   magic     u32 "PXHD"     4  version u16      6  reserved u16
/// 8   features  u64            a reader that does not know one of them must not open the volume
/// 16  volume    16 bytes       random, made with the volume
/// 32  number    u64            of this header
/// 40  epoch     u64            of the owner; every owner has one of his own
/// 48  nonces    u64            numbers below it may have been used for object names
/// 56  logFirst  u64            the first log record that is not in the trees
/// 64  logDurable u64           a log record known to be durable when this was written
/// 72  treeEpoch u64            nodes changed after this checkpoint are born later
/// 80  wall      i64            nanoseconds since 1970, for people
/// 88  trees u32   92 objects u32   96 doomed u32   100 staged u32
/// 104 log       u64            names the directory that has the log; 0: there is nothing in a log that matters
/// 112 firstSlot u64            with feature 1: the first slot that may hold records from logFirst on
/// 120 slotsEnd  u64            records from this one on count only in slots of this epoch: those of owners before were cut
/// 128 trees:   id u32, then an address as in NodeCodec; object 0: an empty tree
///     objects: number u64, bytes u64, live bytes u64         of metadata objects
///     doomed:  kind u8, number u64                           objects to delete, until it is known to be done
///     staged:  segment u64, size u64, checksum u32           segments whose checksums only the log has
///     with feature 2: lease u64, nanoseconds that the owner may go on answering without a look; slotsEpoch u64: slotsEnd
///     holds for slots of epochs below it, in place of the header's own: this header claims the volume and says what the one before said
///     checksum u32
/// ```
struct CheckpointHeader: Equatable, Sendable {
    static let magic: UInt32 = 0x4448_5850
    static let version: UInt16 = 3
    /// Slots in the store hold the log, too.
    static let slotsFeature: UInt64 = 1
    /// The owner keeps a lease, or has claimed the volume and not read its log yet.
    static let claimFeature: UInt64 = 2
    /// Features that this program understands.
    static let featuresKnown: UInt64 = slotsFeature | claimFeature
    static let treesMax = 1 << 16
    /// Those without a node: a tree that has just been made. Each takes a frame of the cache from the beginning.
    static let emptyTreesMax = 64
    /// Numbers of any kind stay below it, and epochs below the other: what is counted on from there does not overflow.
    static let numberMax: UInt64 = 1 << 62
    static let epochMax: UInt64 = 1 << 30
    private static let fixedSize = 128
    private static let claimSize = 16
    /// Longer than any that can be asked for.
    static let leaseMax: UInt64 = 3_600_000_000_000

    struct MetadataObject: Equatable, Sendable {
        var number: UInt64
        var bytes: UInt64
        var live: UInt64
    }

    /// A segment that the trees name and that was in the store when the header was made, but whose checksums were not in the
    /// table yet: they are in the log, and who goes on without that log compares the object with this.
    struct StagedSegment: Equatable, Sendable {
        var segment: UInt64
        var size: UInt64
        /// CRC32C of the checksums of its blocks, little-endian.
        var checksum: UInt32
    }

    /// Those without a field of their own.
    var features: UInt64 = 0
    var volume: VolumeIdentity
    var number: UInt64
    var epoch: UInt64
    var nonces: UInt64
    var logFirst: UInt64
    var logDurable: UInt64
    var treeEpoch: UInt64
    var wall: Int64
    var log: UInt64
    var firstSlot: UInt64?
    var slotsEnd: UInt64
    /// Slots of epochs below it count up to `slotsEnd`.
    var slotsEpoch: UInt64
    /// Nanoseconds; 0: the owner keeps none.
    var lease: UInt64
    /// Nil: an empty tree.
    var trees: [(id: UInt32, root: NodeAddress?)]
    var objects: [MetadataObject]
    var doomed: [DoomedObject]
    var staged: [StagedSegment]

    static func == (a: CheckpointHeader, b: CheckpointHeader) -> Bool {
        a.features == b.features && a.volume == b.volume && a.number == b.number && a.epoch == b.epoch
            && a.nonces == b.nonces && a.logFirst == b.logFirst && a.logDurable == b.logDurable
            && a.treeEpoch == b.treeEpoch && a.wall == b.wall && a.log == b.log && a.firstSlot == b.firstSlot
            && a.slotsEnd == b.slotsEnd && a.slotsEpoch == b.slotsEpoch && a.lease == b.lease && a.objects == b.objects
            && a.doomed == b.doomed
            && a.staged == b.staged && a.trees.count == b.trees.count
            && zip(a.trees, b.trees).allSatisfy { $0.id == $1.id && $0.root == $1.root }
    }

    private var hasClaim: Bool { lease != 0 || slotsEpoch != epoch }

    func encoded() -> Block {
        let size =
            Self.fixedSize + (hasClaim ? Self.claimSize : 0) + trees.count * (4 + NodeCodec.addressSize) + objects.count
            * 24 + doomed.count * 9
            + staged.count * 20 + 4
        let block = Block(capacity: size)
        let base = block.base
        memset(base, 0, size)
        func put<Number: FixedWidthInteger>(_ value: Number, _ offset: Int) {
            base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Number.self)
        }
        put(Self.magic, 0)
        put(Self.version, 4)
        let slots = firstSlot == nil ? 0 : Self.slotsFeature
        put(features | slots | (hasClaim ? Self.claimFeature : 0), 8)
        put(volume.high, 16)
        put(volume.low, 24)
        put(number, 32)
        put(epoch, 40)
        put(nonces, 48)
        put(logFirst, 56)
        put(logDurable, 64)
        put(treeEpoch, 72)
        put(wall, 80)
        put(UInt32(trees.count), 88)
        put(UInt32(objects.count), 92)
        put(UInt32(doomed.count), 96)
        put(UInt32(staged.count), 100)
        put(log, 104)
        put(firstSlot ?? 0, 112)
        put(slotsEnd, 120)
        var place = Self.fixedSize
        for tree in trees {
            put(tree.id, place)
            if let root = tree.root { NodeCodec.store(root, to: base + place + 4) }
            place += 4 + NodeCodec.addressSize
        }
        for object in objects {
            put(object.number, place)
            put(object.bytes, place + 8)
            put(object.live, place + 16)
            place += 24
        }
        for object in doomed {
            put(object.kind.rawValue, place)
            put(object.number, place + 1)
            place += 9
        }
        for segment in staged {
            put(segment.segment, place)
            put(segment.size, place + 8)
            put(segment.checksum, place + 16)
            place += 20
        }
        if hasClaim {
            put(lease, place)
            put(slotsEpoch, place + 8)
            place += Self.claimSize
        }
        put(CRC32C.of(UnsafeRawBufferPointer(start: base, count: place)), place)
        block.count = place + 4
        return block
    }

    enum Malformed: Error, Equatable, Sendable {
        case notAHeader
        case checksum
        case version(UInt16)
        case features(UInt64)
    }

    init(
        volume: VolumeIdentity, number: UInt64, epoch: UInt64, nonces: UInt64, logFirst: UInt64, logDurable: UInt64,
        treeEpoch: UInt64, wall: Int64, log: UInt64 = 0, firstSlot: UInt64? = nil, slotsEnd: UInt64 = 0,
        trees: [(id: UInt32, root: NodeAddress?)], objects: [MetadataObject],
        doomed: [DoomedObject], staged: [StagedSegment] = [], lease: UInt64 = 0
    ) {
        self.volume = volume
        self.number = number
        self.epoch = epoch
        self.nonces = nonces
        self.logFirst = logFirst
        self.logDurable = logDurable
        self.treeEpoch = treeEpoch
        self.wall = wall
        self.log = log
        self.firstSlot = firstSlot
        self.slotsEnd = slotsEnd
        slotsEpoch = epoch
        self.lease = lease
        self.trees = trees
        self.objects = objects
        self.doomed = doomed
        self.staged = staged
    }

    init(reading bytes: UnsafeRawBufferPointer) throws(Malformed) {
        guard bytes.count >= Self.fixedSize + 4, let base = bytes.baseAddress else { throw .notAHeader }
        func get<Number: FixedWidthInteger>(_ offset: Int, _ type: Number.Type) -> Number {
            Number(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: type))
        }
        guard get(0, UInt32.self) == Self.magic else { throw .notAHeader }
        // A newer version may have another shape: it is named before anything else is looked at.
        guard get(4, UInt16.self) == Self.version else { throw .version(get(4, UInt16.self)) }
        let sum = CRC32C.of(UnsafeRawBufferPointer(start: base, count: bytes.count - 4))
        guard get(bytes.count - 4, UInt32.self) == sum else { throw .checksum }
        features = get(8, UInt64.self)
        guard features & ~Self.featuresKnown == 0 else { throw .features(features & ~Self.featuresKnown) }
        volume = VolumeIdentity(high: get(16, UInt64.self), low: get(24, UInt64.self))
        number = get(32, UInt64.self)
        epoch = get(40, UInt64.self)
        nonces = get(48, UInt64.self)
        logFirst = get(56, UInt64.self)
        logDurable = get(64, UInt64.self)
        treeEpoch = get(72, UInt64.self)
        wall = get(80, Int64.self)
        log = get(104, UInt64.self)
        firstSlot = features & Self.slotsFeature == 0 ? nil : get(112, UInt64.self)
        slotsEnd = get(120, UInt64.self)
        let claimSize = features & Self.claimFeature == 0 ? 0 : Self.claimSize
        features &= ~(Self.slotsFeature | Self.claimFeature)
        let treeCount = Int(get(88, UInt32.self))
        let objectCount = Int(get(92, UInt32.self))
        let doomedCount = Int(get(96, UInt32.self))
        let stagedCount = Int(get(100, UInt32.self))
        // The bytes that are here bound all lists.
        guard treeCount <= Self.treesMax,
            bytes.count == Self.fixedSize + treeCount * (4 + NodeCodec.addressSize) + objectCount * 24
                + doomedCount * 9 + stagedCount * 20 + claimSize + 4
        else { throw .notAHeader }
        lease = claimSize == 0 ? 0 : get(bytes.count - 4 - claimSize, UInt64.self)
        slotsEpoch = claimSize == 0 ? epoch : get(bytes.count - 4 - claimSize + 8, UInt64.self)
        // A checksum keeps nobody from writing a header of his own.
        guard epoch < Self.epochMax, slotsEpoch <= epoch, lease <= Self.leaseMax, logFirst > 0,
            [number, nonces, logFirst, logDurable, treeEpoch, firstSlot ?? 0, slotsEnd].allSatisfy({
                $0 < Self.numberMax
            })
        else { throw .notAHeader }
        var place = Self.fixedSize
        trees = []
        for _ in 0..<treeCount {
            let root = NodeCodec.loadAddress(base + place + 4)
            let id = get(place, UInt32.self)
            guard id < Self.treesMax, id > trees.last?.id ?? 0 || trees.isEmpty,
                root.length <= UInt32(NodeCodec.sizeMax)
            else { throw .notAHeader }
            trees.append((id, root.object == 0 ? nil : root))
            place += 4 + NodeCodec.addressSize
        }
        guard trees.count(where: { $0.root == nil }) <= Self.emptyTreesMax else { throw .notAHeader }
        objects = []
        for _ in 0..<objectCount {
            let object = MetadataObject(
                number: get(place, UInt64.self), bytes: get(place + 8, UInt64.self), live: get(place + 16, UInt64.self))
            guard object.live <= object.bytes, object.bytes < Self.numberMax, object.number < Self.numberMax else {
                throw .notAHeader
            }
            objects.append(object)
            place += 24
        }
        doomed = []
        for _ in 0..<doomedCount {
            guard let kind = DoomedObject.Kind(rawValue: get(place, UInt8.self)) else { throw .notAHeader }
            doomed.append(DoomedObject(kind: kind, number: get(place + 1, UInt64.self)))
            guard doomed[doomed.count - 1].number < Self.numberMax else { throw .notAHeader }
            place += 9
        }
        staged = []
        for _ in 0..<stagedCount {
            staged.append(
                StagedSegment(
                    segment: get(place, UInt64.self), size: get(place + 8, UInt64.self),
                    checksum: get(place + 16, UInt32.self)))
            place += 20
        }
    }
}

/// Names a volume for life; in headers, log files and file handles.
public struct VolumeIdentity: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// An object that nothing needs any more once the header that lists it is durable.
struct DoomedObject: Hashable, Sendable {
    enum Kind: UInt8, Sendable {
        case metadata = 0
        case segment = 1
    }
    var kind: Kind
    var number: UInt64
}

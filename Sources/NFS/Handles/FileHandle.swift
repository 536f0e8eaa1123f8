import Bytes
import Namespace

/// What an NFS handle holds. It is stable: it names the same file after a restart or on another server of the volume,
/// and it can not be guessed, because its last word is a hash of the others under a key that is kept with the volume.
///
///     export u32 | snapshot u32 | volume u64 | subvolume u32 | inode u64 | generation u64 | hash u64
struct FileHandle: Equatable, Sendable {
    static let bytes = 44
    private static let hashedBytes = 36

    /// The export that it was got through: it bounds what the handle may be used for.
    var export: UInt32
    /// 0: not in a snapshot.
    var snapshot: UInt32
    var volume: UInt64
    var file: FileID

    init(export: UInt32, snapshot: UInt32 = 0, volume: UInt64, file: FileID) {
        self.export = export
        self.snapshot = snapshot
        self.volume = volume
        self.file = file
    }

    /// What a handle says, which `isGenuine` has to bear out. Nil: not one of ours.
    @inline(__always)
    init?(claimed bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.bytes else { return nil }
        var reader = Reader(bytes)
        do throws(BytesError) {
            export = try reader.u32()
            snapshot = try reader.u32()
            volume = try reader.u64()
            let subvolume = try reader.u32()
            let inode = try reader.u64()
            file = FileID(subvolume: subvolume, inode: inode, generation: try reader.u64())
        } catch { return nil }
    }

    /// Whether the bytes of a handle were made under this key.
    @inline(__always)
    static func isGenuine(_ bytes: UnsafeRawBufferPointer, _ key: KeyedHash) -> Bool {
        guard bytes.count == Self.bytes else { return false }
        let hash = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: hashedBytes, as: UInt64.self))
        return hash == key(UnsafeRawBufferPointer(rebasing: bytes.prefix(hashedBytes)))
    }

    /// Which export the arguments of a call name, whose first word is a handle's length. Nil: none that could be.
    static func export(inArguments bytes: UnsafeRawBufferPointer) -> UInt32? {
        guard bytes.count >= 4 + Self.bytes else { return nil }
        return UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    }

    /// As an `nfs_fh3`, with its length.
    func write(into writer: inout Writer, _ key: KeyedHash) {
        writer.u32(UInt32(Self.bytes))
        guard let place = writer.space(Self.bytes) else { return }
        put(into: place, key)
    }

    func put(into place: UnsafeMutableRawBufferPointer, _ key: KeyedHash) {
        var writer = Writer(place)
        writer.u32(export)
        writer.u32(snapshot)
        writer.u64(volume)
        writer.u32(file.subvolume)
        writer.u64(file.inode)
        writer.u64(file.generation)
        writer.u64(key(writer.written))
    }
}

/// What handles are made under, in a form that can be kept.
public struct HandleKey: Sendable {
    static let bytes = 16
    private let first: UInt64
    private let second: UInt64

    public init(_ first: UInt64, _ second: UInt64) { (self.first, self.second) = (first, second) }

    /// Nil: not what `bytes` was.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.bytes else { return nil }
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(number(bytes[..<8]), number(bytes[8...]))
    }

    /// Big-endian.
    var bytes: [UInt8] {
        [first, second].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * UInt64($0))) } }
    }

    var hash: KeyedHash { KeyedHash(first, second) }

    /// Another one for each volume, from which this one can not be found.
    func key(ofVolume identity: UInt64) -> HandleKey {
        func half(_ number: UInt64) -> UInt64 { withUnsafeBytes(of: (identity.littleEndian, number)) { hash($0) } }
        return HandleKey(half(1), half(2))
    }
}

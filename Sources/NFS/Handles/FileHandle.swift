import Bytes
import Namespace

/// What an NFS handle holds. It is stable: it names the same file after a restart or on another server of the volume,
/// and it can not be guessed, because its last word is a keyed hash of the others.
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

    /// Nil: not one of ours.
    init?(_ bytes: UnsafeRawBufferPointer, _ key: KeyedHash) {
        guard bytes.count == Self.bytes else { return nil }
        var reader = Reader(bytes)
        do throws(BytesError) {
            export = try reader.u32()
            snapshot = try reader.u32()
            volume = try reader.u64()
            let subvolume = try reader.u32()
            let inode = try reader.u64()
            file = FileID(subvolume: subvolume, inode: inode, generation: try reader.u64())
            let hash = try reader.u64()
            guard hash == key(UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.hashedBytes))) else { return nil }
        } catch { return nil }
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

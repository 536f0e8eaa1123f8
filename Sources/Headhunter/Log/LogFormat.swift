/// The replay log on disk. All numbers are little-endian.
///
/// A log is a run of files named by rising sequence numbers. A file begins with one header block; batches follow,
/// each at a multiple of `alignment`, padded with zeros:
/// ```
/// 0  magic      u32   "PXLB"
/// 4  version    u16
/// 6  reserved   u16   0
/// 8  length     u32   bytes of records behind this header
/// 12 count      u32   records
/// 16 first      u64   number of the first record
/// 24 durable    u64   every record up to this number, and the data it names, was durable before this batch was written
/// 32 epoch      u64   the owner that wrote it
/// 40 sequence   u64   of the file: a batch left over in reused space is not taken for one of this file's
/// 48 chain      u32   the checksum of the batch before, over all files
/// 52 checksum   u32   CRC32C of this header up to here and of the records
/// 56 zero       u64
/// 64 records
/// ```
/// A batch without records is a mark: the log has come to rest, and this much is durable.
/// A record is a `WriteSet`'s bytes behind their length (varint). Record numbers rise by one and never repeat.
///
/// Invariants, and what they guard against:
/// - The chain makes a batch that is missing in the middle visible, as well as one from another run of the log.
/// - `durable` says how far the log is known to have been synced: a reader may cut off a torn tail above the highest
///   such number that it met, and must not cut anything at or below it, because replies were sent on its strength.
enum LogFormat {
    static let fileMagic: UInt32 = 0x464C_5850
    static let batchMagic: UInt32 = 0x424C_5850
    static let version: UInt16 = 1
    /// Small enough to waste little, and a sector: a batch header is never torn in itself.
    static let alignment = 512
    static let fileHeaderSize = 4096
    static let fileChecksumOffset = 56
    static let batchHeaderSize = 64
    /// Records of one batch, in bytes. A reader refuses more before it allocates.
    static let batchBytesMax = 8 << 20
}

/// Something in a subvolume that is not as the other records say.
public enum Difference: Equatable, Sendable {
    /// Live bytes of a segment: what its table says, and what the extents come to.
    case liveBytes(segment: UInt64, recorded: UInt64, counted: UInt64)
    case extentOutsideSegment(fork: UInt64, at: UInt64, segment: UInt64)
    case extentsOverlap(fork: UInt64, at: UInt64)
    case extentBehindEnd(inode: UInt64, at: UInt64)
    case allocated(inode: UInt64, recorded: UInt64, counted: UInt64)
    /// A fork with records that belongs to no file and is not to be reclaimed.
    case forkOfNobody(UInt64)
    case forkOfSeveral(UInt64)
    case linkCount(inode: UInt64, recorded: UInt32, counted: UInt32)
    case linkRecords(inode: UInt64, recorded: Int, counted: Int)
    /// No name counts a file's bytes, or the one that should does not lead to it.
    case homeless(inode: UInt64)
    /// Without a name, and not in the list of those.
    case lost(inode: UInt64)
    case orphanOfNothing(inode: UInt64)
    case entryOfNothing(directory: UInt64, cookie: UInt64, inode: UInt64)
    case entryType(directory: UInt64, cookie: UInt64)
    /// A name, cookie or folded name that lacks its fellows.
    case entryKeys(directory: UInt64, cookie: UInt64)
    case cookieNotGivenOut(directory: UInt64, cookie: UInt64)
    case directoryOfNothing(UInt64)
    case own(directory: UInt64, recorded: Totals, counted: Totals)
    case below(directory: UInt64, recorded: Totals, told: Totals)
    /// Has something to tell its parent and is not marked.
    case unsettledNotMarked(directory: UInt64)
    case inodeNotGivenOut(UInt64)
    case streams(inode: UInt64, recorded: UInt32, counted: UInt32)
    /// Bytes of all its streams.
    case streamBytes(inode: UInt64, recorded: UInt64, counted: UInt64)
    /// A stream that says that it is another file's than the one that names it.
    case streamOwner(inode: UInt64)
    case xattrBytes(inode: UInt64, recorded: UInt32, counted: UInt32)
    /// The sum over all settings is not what there is.
    case settings(recorded: UInt32, counted: UInt32)
    /// A setting lacks a part, or a part its setting.
    case settingParts(String)
    /// An entry leads to a file that does not know of this name.
    case nameUnknown(directory: UInt64, cookie: UInt64, inode: UInt64)
    /// A file has a stream that is not there.
    case streamOfNothing(inode: UInt64)
    /// A long extended attribute lacks a part, or a part its attribute.
    case attributeParts(fork: UInt64)
    /// The target of a symbolic link is not as long as it should be.
    case target(inode: UInt64)
    /// A client's remembered requests are not what its list says.
    case token(client: UInt64)
    case tokens(recorded: Int, counted: Int)
    /// A record that this program does not write.
    case record(String)
    /// From there on no records can be read: nothing behind them was compared.
    case unreadableRecords(String)
    /// Bytes of a file can not be read, or are not what was written.
    case unreadable(inode: UInt64, at: UInt64, why: String)
}

extension Difference {
    /// The file or directory that it is about, if it is about one.
    public var inode: UInt64? {
        switch self {
        case .extentBehindEnd(let inode, _), .allocated(let inode, _, _), .linkCount(let inode, _, _),
            .linkRecords(let inode, _, _), .homeless(let inode), .lost(let inode), .orphanOfNothing(let inode),
            .streams(let inode, _, _), .streamBytes(let inode, _, _), .streamOwner(let inode),
            .xattrBytes(let inode, _, _), .unreadable(let inode, _, _),
            .inodeNotGivenOut(let inode), .nameUnknown(_, _, let inode), .streamOfNothing(let inode),
            .target(let inode):
            inode
        case .entryOfNothing(let directory, _, _), .entryType(let directory, _), .entryKeys(let directory, _),
            .cookieNotGivenOut(let directory, _), .directoryOfNothing(let directory), .own(let directory, _, _),
            .below(let directory, _, _), .unsettledNotMarked(let directory):
            directory
        case .extentOutsideSegment(let fork, _, _), .extentsOverlap(let fork, _), .forkOfNobody(let fork),
            .forkOfSeveral(let fork), .attributeParts(let fork):
            // The first fork of a file has its number.
            fork < KeyLayout.forkNumbers ? fork : nil
        case .liveBytes, .settings, .settingParts, .token, .tokens, .record, .unreadableRecords: nil
        }
    }
}

/// Why an operation was refused, whatever protocol asked and whatever file system answered. It has changed nothing.
///
/// Each front end maps it to its own words in one exhaustive switch.
public enum FileError: Error, Equatable, Sendable {
    case noEntry
    case exists
    case notDirectory
    case isDirectory
    case notEmpty
    case nameTooLong
    /// Empty, `.`, `..`, or with a slash or a zero byte in it; or a name that the protocol can not express.
    case badName
    /// The file is gone; a handle to it never works again.
    case stale
    /// The credential lacks a right that somebody could give it.
    case accessDenied
    /// Only the owner, or only root, may do this.
    case notPermitted
    case readOnly
    case noSpace
    case quotaExceeded
    case fileTooBig
    /// A directory was to be moved into itself or below, or symbolic links go in a circle.
    case loop
    case tooDeep
    case tooManyLinks
    case noAttribute
    case attributeTooBig
    case tooManyAttributes
    case invalid
    /// Not for this type of file.
    case wrongType
    /// Between two file systems.
    case crossDevice
    /// Guarded by a time that is not the file's.
    case notSynchronized
    /// A listing's cookie means nothing any more.
    case badCookie
    /// Another open does not share what this one wants.
    case sharingViolation
    /// The name is about to go: it will with the last open that came by it.
    case deletePending
    /// Somebody's byte-range lock is in the way.
    case locked
    case deadlock
    /// Too many locks, opens or waiters of one client or on one file.
    case tooManyLocks
    /// Somebody holds a lease that is being broken, or a limit is reached: ask again in a while.
    case delay
    /// After a restart only what was held before may be claimed.
    case grace
    /// A request with this token was made before, with other content.
    case tokenReused
    case notSupported
    /// The volume does not take changes any more, or can not read what it holds; the operator's log says why.
    case inputOutput(String)
    /// The volume is closed or another server has it.
    case offline
}

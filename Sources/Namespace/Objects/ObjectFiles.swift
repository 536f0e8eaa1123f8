import Runtime

/// What the content of a file is, in the words of the object client who wrote it whole: its MD5 digest, or that of
/// several parts' digests. A file has one as long as its content is the very same; any other change of data takes it
/// away.
public struct ContentSeal: Hashable, Sendable {
    /// The digest's first eight bytes, the first one highest.
    public var high: UInt64
    public var low: UInt64
    /// 0: the content's own digest.
    public var parts: UInt32

    public init(high: UInt64, low: UInt64, parts: UInt32) {
        self.high = high
        self.low = low
        self.parts = parts
    }
}

/// What must be true of a name for a change to happen.
public enum ExpectedFile: Equatable, Sendable {
    case anything
    /// Else `.exists`.
    case nothing
    /// This file, not changed since; else `.stale`, or `.noEntry`.
    case file(FileID, change: UInt64)
    /// The same, and a lock that it has may go with it: who calls has looked at that, as it was then.
    case judged(FileID, change: UInt64)

    public var compared: (file: FileID, change: UInt64)? {
        switch self {
        case .anything, .nothing: nil
        case .file(let file, let change), .judged(let file, let change): (file, change)
        }
    }
}

/// An extended attribute with its value. Names beginning with `user.` are the clients'; those beginning with `proxyfs.`
/// are the server's own, and no file client sees them.
public struct ExtendedAttribute: Equatable, Sendable {
    public var name: [UInt8]
    public var value: [UInt8]

    public init(name: [UInt8], value: [UInt8]) {
        self.name = name
        self.value = value
    }

    public init(_ name: String, _ value: [UInt8]) { self.init(name: Array(name.utf8), value: value) }
}

/// What `place` did.
public struct PlacedFile: Sendable {
    public var file: Attributes
    /// What had the name before, as it is now.
    public var other: Attributes?
    public var directory: Changed

    public init(file: Attributes, other: Attributes?, directory: Changed) {
        self.file = file
        self.other = other
        self.directory = directory
    }
}

/// Everything below a directory.
public struct DirectoryTotals: Equatable, Sendable {
    public var files: UInt64
    public var directories: UInt64
    public var bytes: UInt64

    public init(files: UInt64, directories: UInt64, bytes: UInt64) {
        self.files = files
        self.directories = directories
        self.bytes = bytes
    }
}

/// The part of a file system that object protocols need beyond files: content that appears whole, listings by path.
/// A file system that has none answers `.notSupported`.
public protocol ObjectFiles {
    /// The longest content that `place` takes in one call, and how many attributes.
    var placeBytesMax: Int { get }
    var placeAttributesMax: Int { get }

    /// Makes a file with this content under a name, in the place of the one that has it, in one change.
    func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile>
    /// Makes a file that has no name and is open once: it goes with the last `close` unless it was placed.
    func createNameless(
        _ request: Request, near directory: FileID, _ new: NewFile, uid: UInt32, gid: UInt32
    ) -> Attempt<Attributes>
    /// Gives such a file its name. What was written to it must have been flushed, else it `.lacks` that.
    func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile>
    /// Lets a file without a name go on with the content of others, without a copy; nobody writes to them meanwhile.
    func join(_ sources: [FileID], to file: FileID, now: Int64) async throws(FileError) -> UInt64
    /// Lets a range of one file hold what a range of another one holds, without a copy.
    func clone(
        from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID, at targetOffset: UInt64,
        now: Int64
    ) async throws(FileError) -> UInt64

    /// The extended attributes whose names begin with one of `prefixes`, in byte order.
    func extendedAttributes(
        _ request: Request, _ file: FileID, prefixes: [[UInt8]]
    ) -> Attempt<[ExtendedAttribute]>
    /// Nil removes it; removing one that is not there is `.noAttribute`.
    func setExtendedAttribute(
        _ request: Request, _ file: FileID, _ name: UnsafeRawBufferPointer, _ value: [UInt8]?
    ) -> Attempt<Attributes>
    /// A directory that is there only because of what lies in it.
    func setImplied(_ request: Request, _ directory: FileID, _ isImplied: Bool) -> Attempt<Attributes>
    func createImplied(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, mode: UInt16, uid: UInt32,
        gid: UInt32
    ) -> Attempt<Created>

    /// Shows all that lies below a directory in the byte order of whole paths, from `start` on, directories with a
    /// slash at the end; answers the path to go on from, nil when that was all. May show fewer than there are.
    func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?>
    func totals(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals>
    /// The number of the last change that was made, by whomever.
    var newestChange: UInt64 { get }
    /// The same, of where this file is kept: with others' file systems mounted here it is not those that are waited for.
    func newestChange(at file: FileID) -> UInt64
}

extension ObjectFiles {
    public var placeBytesMax: Int { 0 }
    public var placeAttributesMax: Int { 0 }
    public var newestChange: UInt64 { 0 }
    public func newestChange(at file: FileID) -> UInt64 { newestChange }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> { .refused(.notSupported) }
    public func createNameless(
        _ request: Request, near directory: FileID, _ new: NewFile, uid: UInt32, gid: UInt32
    ) -> Attempt<Attributes> { .refused(.notSupported) }
    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> { .refused(.notSupported) }
    public func join(_ sources: [FileID], to file: FileID, now: Int64) async throws(FileError) -> UInt64 {
        throw .notSupported
    }
    public func clone(
        from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID, at targetOffset: UInt64,
        now: Int64
    ) async throws(FileError) -> UInt64 { throw .notSupported }
    public func extendedAttributes(
        _ request: Request, _ file: FileID, prefixes: [[UInt8]]
    ) -> Attempt<[ExtendedAttribute]> { .refused(.notSupported) }
    public func setExtendedAttribute(
        _ request: Request, _ file: FileID, _ name: UnsafeRawBufferPointer, _ value: [UInt8]?
    ) -> Attempt<Attributes> { .refused(.notSupported) }
    public func setImplied(_ request: Request, _ directory: FileID, _ isImplied: Bool) -> Attempt<Attributes> {
        .refused(.notSupported)
    }
    public func createImplied(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, mode: UInt16, uid: UInt32,
        gid: UInt32
    ) -> Attempt<Created> { .refused(.notSupported) }
    public func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?> { .refused(.notSupported) }
    public func totals(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        .refused(.notSupported)
    }
}

import Bytes
import Runtime

/// The call itself: who makes it is no matter of a file system's.
public struct Request: Sendable {
    /// The index of the loop that the caller runs on.
    public var reader: Int
    /// Nanoseconds since 1970.
    public var now: Int64
    /// Of a request that may come again.
    public var token: RequestToken?
    /// It was made before, as `isRepeated` said: it is answered, and nothing is done that quotas would not know of.
    var isRepeat = false

    public init(reader: Int, now: Int64, token: RequestToken? = nil) {
        self.reader = reader
        self.now = now
        self.token = token
    }

    /// Of something else that is done on its way.
    var asNew: Request { Request(reader: reader, now: now) }

    var asRepeat: Request {
        var request = self
        request.isRepeat = true
        return request
    }
}

/// Names a request that may come again: after a lost reply, a restart or a failover it gets its first answer.
public struct RequestToken: Hashable, Sendable {
    /// As `client(network:machine:name:)` makes it.
    public var client: UInt64
    public var id: UInt64
    /// Of the request's content: another request under the same id is refused.
    public var digest: UInt64

    public init(client: UInt64, id: UInt64, digest: UInt64) {
        self.client = client
        self.id = id
        self.digest = digest
    }

    /// The network is 16 bits of it, the machine the 16 below, and the rest is the machine's, whatever it calls its clients. Given are
    /// hashes of each.
    public static func client(network: UInt64, machine: UInt64, name: UInt64) -> UInt64 {
        (network >> 48) << 48 | (machine >> 48) << 32 | name >> 32
    }
}

/// What came of a call that never waits.
public enum Attempt<Value> {
    /// `number` is the change's place in the order of changes: promise nothing before `whenSettled(number)`. 0: nothing
    /// was changed.
    case done(Value, number: UInt64)
    case refused(FileError)
    /// Nothing was changed. `await supply(lack)`, then make the same call again.
    case lacks(Lack)
}

extension Attempt {
    @inlinable
    public init(_ halt: Halt) {
        switch halt {
        case .refused(let error): self = .refused(error)
        case .lacks(let lack): self = .lacks(lack)
        }
    }

    /// The value, or the way out of a composition of several calls.
    @inlinable
    public func get() throws(Halt) -> Value {
        switch self {
        case .done(let value, _): return value
        case .refused(let error): throw .refused(error)
        case .lacks(let lack): throw .lacks(lack)
        }
    }

    /// The same with the change's number.
    public func change() throws(Halt) -> UInt64 {
        switch self {
        case .done(_, let number): return number
        case .refused(let error): throw .refused(error)
        case .lacks(let lack): throw .lacks(lack)
        }
    }
}

/// Ends a composition of calls that never wait.
public enum Halt: Error {
    case refused(FileError)
    case lacks(Lack)
}

/// What a call that never waits did not find.
public struct Lack: Sendable {
    let supply: @Sendable () async throws(FileError) -> Void
    /// A client has to give up what it keeps: protocols that can tell their own client that it takes a while do so. The wait
    /// ends with its task.
    public let awaitsClient: Bool

    public init(awaitsClient: Bool = false, _ supply: @escaping @Sendable () async throws(FileError) -> Void) {
        self.awaitsClient = awaitsClient
        self.supply = supply
    }

    /// Fetches, flushes or waits for room, as the case may be. From any loop; the caller goes on where it was.
    public func supplied() async throws(FileError) { try await supply() }
}

/// Files and directories, with no word on who may do what: that is decided once, above, in `Volume`.
///
/// Calls that answer an `Attempt` never wait, may come from any loop, and may have to be made again after what they
/// lacked was supplied; what they were given they use only until they return. Asynchronous ones may be awaited on any
/// loop too.
public protocol FileSystem: ObjectFiles, VersionedFiles, AnyObject, Sendable {
    var root: FileID { get }

    // MARK: Looking

    func attributes(_ request: Request, _ file: FileID) -> Attempt<Attributes>
    /// `.` and `..` are answered, too; `..` of the root is the root.
    func lookup(_ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes>
    /// The same without regard to case; an exact match wins. `found` gets the name as it is stored.
    func lookupFolded(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes>
    func target(_ request: Request, of link: FileID) -> Attempt<[UInt8]>
    /// Shows entries after `cookie` (0: from the beginning), without `.` and `..`, until `visit` answers false, `limit` is
    /// reached or there are no more; answers whether there are no more. May show fewer than there are.
    func list(
        _ request: Request, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool>
    func space(_ request: Request) -> Attempt<Space>
    /// Where this file is kept.
    func space(_ request: Request, at file: FileID) -> Attempt<Space>
    /// How long a file may be where this one is kept.
    func fileBytesMax(at file: FileID) -> UInt64
    /// Whether a request with this token was made before: then it gets its first answer, whatever has become of its names.
    func isRepeated(_ request: Request) -> Attempt<Bool>
    /// All names below a directory and the bytes of files that have their first name there, with those of their streams and
    /// with what was written and not flushed. Exact if nobody changes anything meanwhile.
    func usage(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals>
    /// Shows files that have names, the root aside, in the order of their inodes' numbers, from behind `inode` on: at most
    /// `limit`. Answers the number up to which all have been shown; nil: there are no more.
    func files(_ request: Request, after inode: UInt64, limit: Int, _ visit: (Attributes) -> Void) -> Attempt<UInt64?>

    // MARK: Changing names and attributes

    func create(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, uid: UInt32,
        gid: UInt32, _ disposition: Disposition
    ) -> Attempt<Created>
    func remove(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed>
    func rename(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) -> Attempt<Renamed>
    func link(
        _ request: Request, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created>
    /// Lets an empty file with one name and no streams be a symbolic link from now on, or a link lead elsewhere: it stays the same file.
    func makeLink(_ request: Request, _ file: FileID, to target: [UInt8]) -> Attempt<Changed>
    /// Everything but the size.
    func setAttributes(_ request: Request, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed>

    // MARK: Data

    /// The file lives until as many `close`, whatever becomes of its names.
    func open(_ request: Request, _ file: FileID) -> Attempt<Attributes>
    func close(_ request: Request, _ file: FileID) -> Attempt<Void>
    /// Reads what is in memory; answers how many bytes there were. When it lacks something, `readAll` is the way.
    func read(
        _ request: Request, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int>
    /// The bytes of a long read where they lie, for who sends them as they are; nil: they are not all to be had that way.
    func lend(_ request: Request, _ file: FileID, at offset: UInt64, count: Int) -> Attempt<[BlockPart]?>
    func readAll(
        _ file: FileID, at offset: UInt64, into buffer: SendableBuffer
    ) async throws(FileError) -> Int
    /// Takes the bytes in; they are in the order of changes when they have been flushed.
    func write(
        _ request: Request, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Changed>
    /// What was written before the call is in the order of changes when this returns, at the number that it answers.
    func flush(_ file: FileID) async throws(FileError) -> UInt64
    /// Cuts the file or lets it end in a hole, and sets other attributes with it.
    func resize(
        _ request: Request, _ file: FileID, to size: UInt64, _ others: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64)

    /// Cuts the file to nothing, at once.
    func empty(_ request: Request, _ file: FileID) -> Attempt<Changed>

    // MARK: Access lists

    /// Nil: the mode says it all.
    func acl(_ request: Request, _ file: FileID) -> Attempt<ACL?>
    /// Sets the list and the mode that goes with it, in one change.
    func setACL(_ request: Request, _ file: FileID, _ acl: ACL?, mode: UInt16) -> Attempt<Changed>

    // MARK: Names of files

    /// The directory that has the file's first name, and that name; nil: it has none, or this is not known.
    func whereabouts(_ request: Request, of file: FileID) -> Attempt<Whereabouts?>

    // MARK: Settings

    /// What is kept with the file system beside its files: exports, shares, users, quotas. Names and values are bytes
    /// for whoever keeps them; a name is 1 to 255 bytes without a zero, a value 60 KiB at most.
    func setting(_ request: Request, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]?>
    /// Nil removes it, if it is there. One step in the order of changes, like every other change.
    func setSetting(_ request: Request, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?) -> Attempt<
        Void
    >
    /// Shows the names that begin with `prefix`, in byte order, behind `name` (empty: from the first on). Answers
    /// whether there may be more.
    func listSettings(
        _ request: Request, prefix: UnsafeRawBufferPointer, after name: UnsafeRawBufferPointer,
        _ visit: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Bool>

    // MARK: Streams, holes

    /// A named stream of a file or directory; it is read, written, resized, opened and closed like a file.
    func stream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes>
    /// Makes an empty one; refused as `.exists` when it is there.
    func createStream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes>
    func removeStream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void>
    /// Another name for a stream; `replaces`: the stream that has that name, spelled just so, goes.
    func renameStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool
    ) -> Attempt<Void>
    /// Streams whose names come after `name`, in byte order; none: there are no more.
    func streams(
        _ request: Request, of file: FileID, after name: UnsafeRawBufferPointer
    ) -> Attempt<[(name: [UInt8], stream: Attributes)]>
    /// The file that a stream goes with; nil: it is no stream.
    func owner(_ request: Request, ofStream file: FileID) -> Attempt<Attributes?>
    /// Bytes of all streams of a file, with what was written and not flushed. Exact if nobody changes them meanwhile.
    func streamBytes(_ request: Request, of file: FileID) -> Attempt<UInt64>
    /// Makes a range a hole; the size stays. Answers the change's number.
    func punch(
        _ request: Request, _ file: FileID, at offset: UInt64, length: UInt64
    ) async throws(FileError) -> UInt64
    /// Lets a range of `target` hold what a range of `source` holds, as far as that goes, without copying it. Ranges of one
    /// file must not overlap. Answers the change's number.
    func clone(
        _ request: Request, _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64
    ) async throws(FileError) -> UInt64
    /// The first byte from `offset` on that is data, or in a hole, of which the end of the file is one; `.noEntry`: there is
    /// none.
    func seek(_ request: Request, _ file: FileID, from offset: UInt64, data: Bool) -> Attempt<UInt64>

    // MARK: Others

    /// Kept where others change it beside this server: no lease is granted on it, no quota counts it, and who watches it is
    /// told what the file system tells.
    func isForeign(_ file: FileID) -> Bool
    /// From now on changes of what is observed are told here, on the first loop, those that were made by this server, too.
    /// Once, before anything is observed.
    func whenChanged(_ tell: @escaping @Sendable (ForeignChange) -> Void)
    /// Somebody wants to know of changes in a directory that is foreign, or in all below it, or does so no more.
    func observe(_ directory: FileID, isRecursive: Bool, isOn: Bool)

    /// The volume that is mounted here and has the file. `orFormer`: or was, and something of it may be open still.
    func guest(of file: FileID, orFormer: Bool) -> GuestVolume?
    /// All volumes that are mounted here, or were.
    var guests: [Volume] { get }

    // MARK: Promises

    /// Tells when change `number` and all before it are as safe as `durability` says: at once, before it returns, if
    /// they are already; on `loop` otherwise.
    func whenSettled(
        _ number: UInt64, _ durability: Durability, on loop: EventLoop, _ done: @escaping @Sendable (FileError?) -> Void
    )
    /// Another number after each start and after each flush that failed: what was written and not flushed may be lost.
    var writeVerifier: UInt64 { get }
}

/// A file system that knows modes only, and no names of its files.
extension FileSystem {
    public func empty(_ request: Request, _ file: FileID) -> Attempt<Changed> { .refused(.notSupported) }
    public func acl(_ request: Request, _ file: FileID) -> Attempt<ACL?> { .done(nil, number: 0) }
    public func setACL(_ request: Request, _ file: FileID, _ acl: ACL?, mode: UInt16) -> Attempt<Changed> {
        .refused(.notSupported)
    }
    public func whereabouts(_ request: Request, of file: FileID) -> Attempt<Whereabouts?> { .done(nil, number: 0) }
}

/// A file system that keeps no settings.
extension FileSystem {
    public func setting(_ request: Request, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]?> {
        .refused(.notSupported)
    }
    public func setSetting(
        _ request: Request, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
    ) -> Attempt<Void> { .refused(.notSupported) }
    public func listSettings(
        _ request: Request, prefix: UnsafeRawBufferPointer, after name: UnsafeRawBufferPointer,
        _ visit: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Bool> { .refused(.notSupported) }
}

/// Memory that stays in place and is nobody else's until an asynchronous call returns.
public struct SendableBuffer: @unchecked Sendable {
    public let bytes: UnsafeMutableRawBufferPointer
    public init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }
}

import Headhunter
import LogFS
import Runtime
import Synchronization

/// A subvolume of the engine as a `FileSystem`.
public final class LogFileSystem: FileSystem {
    let files: LogFS
    /// Of the identities of its files: another one in each volume, so that one may be mounted in another.
    let number: UInt32
    private let world: World
    /// Raised by each flush that failed, and by each change that did not become what was asked of it: what was written and not
    /// flushed may be lost.
    private let failures = Atomic<UInt64>(0)
    /// What the volume shows as its size when no quota says otherwise.
    public static let shownBytesDefault: UInt64 = 1 << 50
    /// The size that clients are shown; it limits nothing.
    let shownBytes: UInt64

    public init(_ files: LogFS, world: World, number: UInt32? = nil, shownBytes: UInt64 = shownBytesDefault) {
        self.files = files
        self.number = number ?? files.subvolume
        self.world = world
        self.shownBytes = shownBytes
    }

    public var root: FileID { outer(files.rootID) }

    // MARK: Translation

    func outer(_ id: LogFS::FileID) -> FileID {
        FileID(subvolume: number, inode: id.inode, generation: id.generation)
    }

    /// Nil: a file of another subvolume, which is not here.
    func inner(_ id: FileID) -> LogFS::FileID? {
        id.subvolume == number ? LogFS::FileID(inode: id.inode, generation: id.generation) : nil
    }

    func inner(_ request: Request) -> LogFS::Request {
        LogFS::Request(
            reader: request.reader, now: request.now,
            token: request.token.map { LogFS::RequestToken(client: $0.client, id: $0.id, digest: $0.digest) },
            isRepeat: request.isRepeat)
    }

    func outer(_ inode: Inode) -> Attributes { converted(inode) }

    /// Where it stands, for what is asked most: field by field, without a copy of the whole.
    @inline(__always)
    func converted(_ inode: Inode) -> Attributes {
        var attributes = Attributes(file: outer(inode.id), type: Self.outer(inode.type))
        attributes.mode = inode.mode
        attributes.links = inode.links
        attributes.uid = inode.uid
        attributes.gid = inode.gid
        attributes.size = inode.isDirectory ? Self.directorySize(inode.entries) : inode.size
        attributes.allocated = inode.isDirectory ? attributes.size : inode.allocated
        attributes.major = UInt32(truncatingIfNeeded: inode.device >> 32)
        attributes.minor = UInt32(truncatingIfNeeded: inode.device)
        attributes.accessed = inode.accessed
        attributes.modified = inode.modified
        attributes.changed = inode.changed
        attributes.shownChange = inode.shownChange
        attributes.born = inode.born
        attributes.change = inode.change
        attributes.dos = inode.attributes
        attributes.seal = inode.seal.map { ContentSeal(high: $0.high, low: $0.low, parts: $0.parts) }
        attributes.isImplied = inode.isImplied
        attributes.isShelved = inode.isShelved
        attributes.isLocked = inode.isLocked
        attributes.hasACL = inode.hasAccessList
        attributes.isStream = inode.isStream
        attributes.hasStreams = inode.hasStreams
        return attributes
    }

    /// Directories have no bytes; clients expect a size that grows with the entries.
    private static func directorySize(_ entries: UInt64) -> UInt64 { (entries / 64 + 1) * 4096 }

    static func outer(_ type: LogFS::FileType) -> FileType {
        switch type {
        case .file: .file
        case .directory: .directory
        case .symlink: .symlink
        case .fifo: .fifo
        case .socket: .socket
        case .characterDevice: .characterDevice
        case .blockDevice: .blockDevice
        }
    }

    static func inner(_ type: FileType) -> LogFS::FileType {
        switch type {
        case .file: .file
        case .directory: .directory
        case .symlink: .symlink
        case .fifo: .fifo
        case .socket: .socket
        case .characterDevice: .characterDevice
        case .blockDevice: .blockDevice
        }
    }

    static func outer(_ error: LogFS::FileError) -> FileError {
        switch error {
        case .noEntry: .noEntry
        case .exists: .exists
        case .notDirectory: .notDirectory
        case .isDirectory: .isDirectory
        case .notEmpty: .notEmpty
        case .nameTooLong: .nameTooLong
        case .badName: .badName
        case .stale: .stale
        case .noSpace: .noSpace
        case .fileTooBig: .fileTooBig
        case .loop: .loop
        case .tooDeep: .tooDeep
        case .tooManyLinks: .tooManyLinks
        case .noAttribute: .noAttribute
        case .attributeTooBig: .attributeTooBig
        case .tooManyAttributes: .tooManyAttributes
        case .noSetting: .noEntry
        case .settingTooBig: .attributeTooBig
        case .tooManySettings: .tooManyAttributes
        case .invalid: .invalid
        case .overtaken: .notSynchronized
        case .wrongType: .wrongType
        case .crossSubvolume: .crossDevice
        case .locked: .notPermitted
        case .tokenReused: .tokenReused
        // When it comes once more it is judged, and counted, as new.
        case .tokenForgotten: .delay
        }
    }

    static func outer(_ error: VolumeError) -> FileError {
        switch error {
        case .readOnly: .readOnly
        case .fenced, .closed, .noVolume, .logElsewhere: .offline
        case .unavailable(let why), .damaged(let why), .unknownFormat(let why): .inputOutput(why)
        }
    }

    static func outer(_ failure: Failure) -> FileError {
        switch failure {
        case .file(let error): outer(error)
        case .volume(let error): outer(error)
        }
    }

    /// The most of answers: of what was shown meanwhile.
    @inline(__always)
    func shown(_ attempt: LogFS::Attempt<Void>, _ attributes: Attributes, _ reader: Int) -> Attempt<Attributes> {
        if case .done(_, let number) = attempt { return .done(attributes, number: number) }
        return outer(attempt, reader) { attributes }
    }

    @inline(__always)
    func shown(_ attempt: LogFS::Attempt<Inode>, _ reader: Int) -> Attempt<Attributes> {
        if case .done(let inode, let number) = attempt { return .done(converted(inode), number: number) }
        return outer(attempt, reader) { outer($0) }
    }

    /// `file` is the one that a busy call was about.
    func outer<Inner, Value>(
        _ attempt: LogFS::Attempt<Inner>, _ reader: Int, _ file: LogFS::FileID? = nil, _ translate: (Inner) -> Value
    ) -> Attempt<Value> {
        switch attempt {
        case .done(let value, let number): return .done(translate(value), number: number)
        // Whoever made it from what he saw looks again.
        case .refused(.overtaken): return .lacks(Lack {})
        case .refused(let error): return .refused(Self.outer(error))
        case .failed(let error): return .refused(Self.outer(error))
        case .missing:
            let wanted = files.wanted(by: reader)
            return .lacks(lack { (files) async throws(Failure) in try await files.fetch(wanted) })
        case .full: return .lacks(lack { (files) async throws(Failure) in try await files.room() })
        case .busy:
            let inode = file?.inode ?? files.obstacle(of: reader)
            return .lacks(lack { (files) async throws(Failure) in try await files.makeRoom(for: inode) })
        }
    }

    /// The engine waits on its own loop; whoever asked goes on where it was.
    private func lack(_ supply: @escaping @Sendable (LogFS) async throws(Failure) -> Void) -> Lack {
        let files = files
        return Lack { () async throws(FileError) in
            try await self.onLoop { () async throws(Failure) in try await supply(files) }
        }
    }

    /// Runs a task on the engine's loop.
    func onLoop<Value: Sendable>(
        _ body: @escaping @Sendable () async throws(Failure) -> Value
    ) async throws(FileError) -> Value {
        let task = files.headhunter.loop.task { () async -> Result<Value, Failure> in
            do throws(Failure) { return .success(try await body()) } catch { return .failure(error) }
        }
        switch await task.value {
        case .success(let value): return value
        case .failure(let failure): throw Self.outer(failure)
        }
    }

    // MARK: Promises

    public func whenSettled(
        _ number: UInt64, _ durability: Durability, on loop: EventLoop, _ done: @escaping @Sendable (FileError?) -> Void
    ) {
        let told: @Sendable (VolumeError?) -> Void = { [self] error in
            if error != nil { flushFailed() }
            done(error.map { Self.outer($0) })
        }
        switch durability {
        case .memory: files.headhunter.whenCommitted(number, .written, on: loop, told)
        case .log: files.headhunter.whenCommitted(number, .durable, on: loop, told)
        case .store: files.headhunter.whenStored(number, on: loop, told)
        }
    }

    public var writeVerifier: UInt64 {
        // Each start has an epoch of its own; failures of one start are few.
        files.headhunter.epoch &* 0x9E37_79B9_7F4A_7C15 &+ failures.load(ordering: .acquiring)
    }

    func flushFailed() { failures.wrappingAdd(1, ordering: .releasing) }
}

extension Attributes {
    /// Whether the file has had one change since, and no other.
    func isNext(after before: Attributes) -> Bool { Inode.isNext(change, after: before.change) }
}

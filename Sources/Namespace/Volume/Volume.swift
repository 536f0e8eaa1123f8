import Runtime
import Synchronization

/// A file system as front ends see it: with access checks, and all that has to hold between protocols.
///
/// Every call is plain, synchronous code that never waits. When an answer `.lacks` something, the front end awaits
/// `lack.supplied()` in a task of its loop and makes the same call again. The few asynchronous calls work in steps.
public final class Volume: Sendable {
    public let name: String
    /// Tells the volumes of a server apart, for ever: file handles carry it.
    public let identity: UInt64
    public let fileSystem: any FileSystem
    let tree: MountTree?
    public let durability: Durability
    private let readOnly = Atomic(false)
    private let following = Atomic(false)
    /// Of the identities of its own files.
    let subvolume: UInt32
    let sharing: Sharing
    let meter: QuotaMeter
    let shelves = ShelfGate()
    /// Requests that take several steps.
    let running = RequestTurns()
    let loops: [EventLoop]
    /// By loop.
    private let glances: [DirectoryGlance]

    /// Volumes of one server share their `locks`, so that waits in a circle are found across them. `loops` are all those that
    /// calls come from.
    public init(
        _ name: String, identity: UInt64, _ fileSystem: any FileSystem, durability: Durability = .log,
        clock: any WorldClock = SystemClock(), random: any RandomSource = SystemRandom(), locks: ServerLocks? = nil,
        loops: [EventLoop] = []
    ) {
        self.name = name
        self.identity = identity
        self.fileSystem = fileSystem
        tree = fileSystem as? MountTree
        subvolume = fileSystem.root.subvolume
        self.durability = durability
        self.loops = loops
        meter = QuotaMeter(fileSystem, loops: loops)
        glances = loops.map { _ in DirectoryGlance() }
        sharing = Sharing(locks: locks ?? ServerLocks(clock: clock), clock: clock, random: random)
        fileSystem.whenChanged { [weak self] change in self?.tell(change) }
    }

    public var root: FileID { fileSystem.root }
    public var isReadOnly: Bool {
        get { readOnly.load(ordering: .relaxed) }
        set { readOnly.store(newValue, ordering: .relaxed) }
    }

    /// Its owner changes it without a word to anybody here: no lease is granted.
    public var follows: Bool {
        get { following.load(ordering: .relaxed) }
        set { following.store(newValue, ordering: .relaxed) }
    }

    /// One attempt made of several.
    @inline(__always)
    func attempt<Value>(_ body: () throws(Halt) -> Attempt<Value>) -> Attempt<Value> {
        do throws(Halt) { return try body() } catch { return Attempt(error) }
    }

    func attributes(_ caller: Caller, of file: FileID) throws(Halt) -> Attributes {
        try look(caller.request, at: file).get()
    }

    /// A directory that the caller may look names up in, and whatever else is wanted.
    func directory(_ caller: Caller, _ file: FileID, _ wanted: Rights) throws(Halt) -> Attributes {
        let directory = try attributes(caller, of: file)
        guard directory.type == .directory else { throw .refused(.notDirectory) }
        try require(wanted, caller, directory)
        return directory
    }

    /// The same for who looks a name up, and needs no more of the directory. Its rights are those of the last look if nothing has
    /// changed since. Others change what is foreign without a number. Answers the number of the newest change from before that; 0:
    /// changes have none here.
    @inline(__always)
    func requireLookup(_ caller: Caller, _ directory: FileID) throws(Halt) -> UInt64 {
        let reader = caller.request.reader
        guard !follows, glances.indices.contains(reader) else {
            _ = try self.directory(caller, directory, .execute)
            return 0
        }
        let newest = newestChangeHere
        if newest > 0, let security = glances[reader].look(directory, newest) {
            guard security.granted(.execute, to: caller.credential).contains(.execute) else {
                throw .refused(.accessDenied)
            }
            return newest
        }
        let found = try self.directory(caller, directory, .execute)
        if newest > 0, !found.hasACL, !fileSystem.isForeign(directory) {
            glances[reader].keep(directory, FileSecurity(found), newest)
        }
        return newest
    }

    /// Says how the file was before, if it is certain that nothing came between: its change counter went up by one.
    @inline(__always)
    func certain(_ before: Attributes, _ changed: inout Changed) {
        guard changed.before == nil, changed.after.isNext(after: before), changed.after.file == before.file else {
            return
        }
        changed.before = Fingerprint(before)
    }

    // MARK: Promises

    /// Calls `done` when the change is as safe as the volume promises, or as the way in does: an export, a share or a bucket
    /// may have a word of its own, also a weaker one.
    public func whenSettled(
        _ number: UInt64, _ word: Durability? = nil, on loop: EventLoop,
        _ done: @escaping @Sendable (FileError?) -> Void
    ) {
        if number == 0 { return done(nil) }
        fileSystem.whenSettled(number, word ?? durability, on: loop, done)
    }

    public var writeVerifier: UInt64 { fileSystem.writeVerifier }
}

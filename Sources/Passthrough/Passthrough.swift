import CShim
import Namespace
import Runtime

/// A directory of the host, and what lies below it, as a `FileSystem`: the files are the host's own, and others change them
/// meanwhile.
///
/// Invariants:
/// - A file is reached by names from the directory that was opened first, each time anew, no symbolic link followed: nothing
///   outside is ever touched, whatever others rename or replace. Only who has a file open keeps it where it goes.
/// - What was found is compared with what was meant (inode and the kernel's handle) before anything is done.
/// - What may have to wait for a disk is done by the pool; the calls themselves use what the kernel has in memory. Changes of
///   names and attributes are the exception: they are made at once, as the kernel makes them in memory, too.
public final class Passthrough: FileSystem {
    /// Why a directory can not be served.
    public enum Failure: Error, Equatable, Sendable {
        case host(Errno, doing: String)
    }

    static let opensMax = 8192
    /// What was fetched and waits to be asked for again.
    static let answersMax = 256
    /// So long an answer may wait for who asked: others change what is there, too.
    static let answerNanoseconds: UInt64 = 1_000_000_000
    static let outdatedMax = 3
    static let warmedMax = 4096
    /// Bytes written and not synced before writers wait for the disk.
    static let unsyncedBytesMax: UInt64 = 64 << 20
    /// How long a search that found nothing stands.
    static let searchNanoseconds: UInt64 = 10_000_000_000
    static let nameBytesMax = Int(SHIM_HOST_NAME_MAX)
    /// One call of the kernel's takes so much of a path.
    static let pathBytesMax = 3072
    /// Begins the names of files that are being made; no client sees them, or makes one.
    static let hidden = Array(".proxyfs-".utf8)

    /// How files are opened.
    static let reading = Int(SHIM_HOST_READ)
    static let writing = Int(SHIM_HOST_WRITE)
    static let listing = Int(SHIM_HOST_DIRECTORY)

    struct Open {
        var file: HostFile
        var count: Int
        var isWritable: Bool
    }

    struct State {
        var places: PlaceTable
        var opens: [FileID: Open] = [:]
        /// Paths that the kernel has been made to know.
        var warmed: Set<[UInt8]> = []
        var answers: [Question: Found] = [:]
        /// Questions whose answers were out of date when they were to be given, and how often.
        var outdated: [Question: Int] = [:]
        /// When the last search ended.
        var searched: UInt64?
        var isSearching = false
        var unsyncedBytes: UInt64 = 0
        var promises = PromiseTable()
        var requests = RequestTable()
        var failures: UInt64 = 0
    }

    let base: HostFile
    public let root: FileID
    public let path: String
    let subvolume: UInt32
    let device: UInt64
    let state: Guarded<State>
    /// Held while what is kept of a file is changed; by inode, around.
    let turns = (0..<64).map { _ in Guarded(()) }
    let running = RequestTurns()
    let world: World
    /// Where the pool's work ends.
    let loop: EventLoop
    let watcher: HostWatcher
    /// Files that a search remembers beside the one that it is for.
    let searchSeenMax: Int
    private let firstVerifier: UInt64

    /// Serves the directory at `path`; `subvolume` is in the identities of its files. Not on a loop that must not wait.
    public init(
        path: String, subvolume: UInt32, world: World, searchSeenMax: Int = 1 << 18
    ) throws(Failure) {
        func attempt<Value>(_ doing: String, _ body: () throws(HostError) -> Value) throws(Failure) -> Value {
            do throws(HostError) { return try body() } catch { throw .host(Errno(error.code), doing: doing) }
        }
        let base = try attempt("opening \(path)") { () throws(HostError) in try HostFile(shim_disk_root(path)) }
        let status = try attempt("looking at \(path)") { () throws(HostError) in try base.status() }
        // Without it there would be no way to keep to the directory.
        _ = try attempt("opening below \(path) by openat2") { () throws(HostError) in
            try base.open([], Int(SHIM_HOST_NAME)).reopen(Self.listing)
        }
        self.base = base
        self.path = path
        self.subvolume = subvolume
        self.searchSeenMax = searchSeenMax
        self.world = world
        loop = world.loops[0]
        device = status.device
        root = FileID(status, subvolume: subvolume)
        state = Guarded(State(places: PlaceTable(root: root)))
        firstVerifier = world.random.next()
        watcher = HostWatcher(world)
    }

    public var writeVerifier: UInt64 { firstVerifier &+ state.withLock { $0.failures } }
    public var newestChange: UInt64 { state.withLock { $0.promises.newest } }
    public func isForeign(_ file: FileID) -> Bool { true }

    // MARK: Waiting

    /// One of the calls that ask the host.
    func attempt<Value>(_ body: () throws(Halt) -> (Value, UInt64)) -> Attempt<Value> {
        do throws(Halt) {
            let (value, number) = try body()
            return .done(value, number: number)
        } catch {
            switch error {
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            }
        }
    }

    func look<Value>(_ body: () throws(Halt) -> Value) -> Attempt<Value> {
        attempt { () throws(Halt) in (try body(), 0) }
    }

    /// Done by the pool, for a call that is made again afterwards.
    func lack(_ work: @escaping @Sendable () -> Void) -> Halt {
        .lacks(
            Lack { [world, loop] () async throws(FileError) in
                await world.blocking.run(on: loop) { () throws(Never) in work() }
            })
    }

    /// The pool's work, for calls that wait.
    func blocking<Value: Sendable>(
        _ work: @escaping @Sendable () throws(Halt) -> Value
    ) async throws(FileError) -> Value {
        let result = await world.blocking.run(on: loop) { () throws(Never) -> Result<Value, FileError> in
            Self.settled(work)
        }
        return try result.get()
    }

    /// In the pool nothing lacks anything: what still does is gone.
    static func settled<Value>(_ work: () throws(Halt) -> Value) -> Result<Value, FileError> {
        do throws(Halt) { return .success(try work()) } catch {
            switch error {
            case .refused(let error): return .failure(error)
            case .lacks: return .failure(.stale)
            }
        }
    }

    /// What was found out for a question, and when that began.
    struct Found {
        var answer: Result<Answer, FileError>
        var number: UInt64
        var time: UInt64
    }

    /// What the pool has found out for this very question; else it does so now.
    ///
    /// Whoever asks sees every change whose reply went out before. So an answer that somebody else asked for and that changes
    /// have overtaken is not given: only, after some tries, when there is always a change under way.
    func answer(_ question: Question, _ find: @escaping @Sendable () throws(Halt) -> Answer) throws(Halt) -> Answer {
        let now = world.clock.monotonic()
        let found = state.withLock { state -> Result<Answer, FileError>? in
            guard let found = state.answers.removeValue(forKey: question) else { return nil }
            let isFresh = found.number == state.promises.newest && now &- found.time < Self.answerNanoseconds
            if isFresh || state.outdated[question] ?? 0 >= Self.outdatedMax {
                state.outdated[question] = nil
                return found.answer
            }
            if state.outdated.count >= Self.answersMax { state.outdated.removeAll() }
            state.outdated[question, default: 0] += 1
            return nil
        }
        if let found {
            do { return try found.get() } catch { throw .refused(error) }
        }
        throw lack { [state, world] in
            let number = state.withLock { $0.promises.newest }
            let answer = Self.settled(find)
            let time = world.clock.monotonic()
            state.withLock { state in
                // Who asked first may not come back: nobody's answer is kept for ever.
                if state.answers.count >= Self.answersMax { state.answers.removeAll() }
                state.answers[question] = Found(answer: answer, number: number, time: time)
            }
        }
    }

    enum Question: Hashable {
        case list(FileID, cookie: UInt64, attributes: Bool)
        case folded(FileID, [UInt8])
        case paths(FileID, from: [UInt8], prefix: [UInt8], limit: Int)
        case totals(FileID)
        case space
    }

    enum Answer: Sendable {
        case entries([Listed], isEnd: Bool)
        case name([UInt8])
        case paths([(path: [UInt8], file: Attributes)], next: [UInt8]?)
        case totals(DirectoryTotals)
        case space(Space)
    }

    struct Listed: Sendable {
        var name: [UInt8]
        var file: FileID
        var type: FileType
        var cookie: UInt64
        var attributes: Attributes?
    }
}

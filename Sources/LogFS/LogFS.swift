import Glibc
import Headhunter
import Runtime

/// Who asks, and when.
public struct Request: Sendable {
    /// The index of the loop that the caller runs on.
    public var reader: Int
    /// Nanoseconds since 1970, from the world's clock.
    public var now: Int64
    /// Of a request that may come again.
    public var token: RequestToken?
    /// Its caller has seen that it was made before: it is answered, or refused when it has been forgotten since.
    public var isRepeat: Bool

    @inlinable
    public init(reader: Int, now: Int64, token: RequestToken? = nil, isRepeat: Bool = false) {
        self.reader = reader
        self.now = now
        self.token = token
        self.isRepeat = isRepeat
    }
}

/// The files of one subvolume.
///
/// Calls that answer an `Attempt` never wait: they run over memory and complete, or change nothing and say what is
/// missing. They may come from any loop. The asynchronous forms wait for whatever it takes; they belong on the
/// volume's loop.
public final class LogFS: @unchecked Sendable {
    /// The root directory.
    public static let root: UInt64 = 2

    public let headhunter: Headhunter
    let clock: any WorldClock
    /// The subvolume's tree.
    public let subvolume: UInt32
    public let rootID: FileID
    let foldedHash: FoldedHash
    let options: LogFSOptions
    let files: FileTable
    private let scratches: [Scratch]
    private let writer: Writer
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    /// What calls that have to be made again would do twice, by reader; each is its loop's own.
    let memos: UnsafeMutableBufferPointer<Memo>
    struct Memo {
        var walk: SeekWalk?
        /// Content that is in a segment already.
        var appended: SegmentRange?
    }
    /// The files that calls were turned away for, by reader; each is its loop's own.
    private let obstacles: UnsafeMutableBufferPointer<UInt64>
    /// On the volume's loop.
    var housekeeping = Housekeeping()

    init(
        headhunter: Headhunter, clock: any WorldClock, subvolume: UInt32, record: SubvolumeRecord, root: FileID,
        loops: Int,
        options: LogFSOptions
    ) {
        self.headhunter = headhunter
        self.clock = clock
        self.subvolume = subvolume
        self.options = options
        rootID = root
        foldedHash = FoldedHash(record.foldKey)
        files = FileTable(bytesMax: options.dirtyBytesMax)
        scratches = (0..<loops).map { _ in Scratch() }
        writer = Writer(foldedHash: foldedHash, changeFloor: Inode.floor(ofEpoch: headhunter.epoch))
        _ = writer.totals.insert(Self.root, parent: TotalsTable.none)
        memos = .allocate(capacity: loops)
        memos.initialize(repeating: Memo())
        obstacles = .allocate(capacity: loops)
        obstacles.initialize(repeating: 0)
        lock = .allocate(capacity: 1)
        let result = pthread_mutex_init(lock, nil)
        precondition(result == 0)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
        memos.deinitialize()
        memos.deallocate()
        obstacles.deallocate()
        for scratch in scratches { scratch.deallocate() }
    }

    /// See `Inode.touch`.
    var changeFloor: UInt64 { Inode.floor(ofEpoch: headhunter.epoch) }

    // MARK: Reading

    @inline(__always)
    func read<Value>(_ reader: Int, _ body: (Reading) throws(Halt) -> Value) -> Attempt<Value> {
        let outcome = headhunter.read(reader) { (view) throws(Missing) -> Result<Value, Halt> in
            do throws(Halt) {
                return .success(try body(Reading(view: view, tree: subvolume, scratch: scratches[reader])))
            } catch {
                if case .missing(let missing) = error { throw missing }
                return .failure(error)
            }
        }
        switch outcome {
        case .success(let value): return .done(value, number: 0)
        case .failure(.refused(let refusal)): return .refused(refusal)
        case .failure(.damaged(let record)): return .failed(.damaged(record.text))
        case .failure(.missing), nil: return .missing
        }
    }

    // MARK: Changing

    /// Plans and applies a change. `plan` may run several times.
    @inline(__always)
    func change<Value>(
        _ reader: Int, isUrgent: Bool = false, _ plan: (Editing) throws(Halt) -> Value
    ) -> Attempt<Value> {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        let writer = writer
        writer.totals.trim()
        let attempt = headhunter.change(reader, isUrgent: isUrgent) {
            (change) throws(Missing) -> Result<Value, Halt> in
            writer.effects.removeAll(keepingCapacity: true)
            do throws(Halt) {
                return .success(
                    try plan(Editing(bare: change, tree: subvolume, scratch: writer.scratch, writer: writer)))
            } catch {
                if case .missing(let missing) = error { throw missing }
                change.abandon()
                return .failure(error)
            }
        }
        switch attempt {
        case .done(.success(let value), let number):
            writer.apply()
            if writer.totals.unsettledCount > TotalsTable.unsettledMax { settleSome(reader, writer) }
            // What was found done already may be somebody's change that is not durable yet, or the first answer of the
            // same request: it is when all is that was changed until now.
            return .done(value, number: number > 0 ? number : headhunter.log.last)
        case .done(.failure(.refused(let refusal)), _): return .refused(refusal)
        case .done(.failure(.damaged(let record)), _): return .failed(.damaged(record.text))
        case .done(.failure(.missing), _), .missing: return .missing
        case .full: return .full
        case .failed(let error): return .failed(error)
        }
    }

    /// Too many directories have something to tell: who changes something helps. Behind the lock. What is missing for it is left to
    /// the next one.
    private func settleSome(_ reader: Int, _ writer: Writer) {
        writer.effects.removeAll(keepingCapacity: true)
        let attempt = headhunter.change(reader) { (change) throws(Missing) -> Bool in
            writer.effects.removeAll(keepingCapacity: true)
            do throws(Halt) {
                _ = try Editing(bare: change, tree: subvolume, scratch: writer.scratch, writer: writer).settleSome()
                return true
            } catch {
                if case .missing(let missing) = error { throw missing }
                change.abandon()
                return false
            }
        }
        if case .done(true, _) = attempt { return writer.apply() }
        // Nobody fetches what lacked here: the reader's next attempt is not to take it for its own.
        headhunter.forgetMissing(reader)
    }

    /// Looks at or changes what is the writer's, between changes.
    func withWriter<Value>(_ body: (Writer) -> Value) -> Value {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return body(writer)
    }

    /// What the writer and the trees say at one and the same moment.
    func readWithWriter<Value>(
        _ reader: Int, _ body: (Reading, Writer) throws(Halt) -> Value
    ) -> Attempt<Value> {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        let writer = writer
        return read(reader) { (records) throws(Halt) in try body(records, writer) }
    }

    // MARK: Waiting

    /// Repeats a call, fetching and waiting as often as it takes. On the volume's loop.
    @discardableResult
    public func run<Value>(
        _ attempt: (_ reader: Int) -> Attempt<Value>
    ) async throws(Failure) -> (value: Value, number: UInt64) {
        let reader = headhunter.loop.index
        while true {
            switch attempt(reader) {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw .file(error)
            case .failed(let error): throw .volume(error)
            case .missing: try await load(for: reader)
            case .full: try await room()
            case .busy: try await clear(for: reader)
            }
        }
    }

    /// Fetches what `reader` met and did not find.
    public func load(for reader: Int) async throws(Failure) {
        do throws(VolumeError) { try await headhunter.load(for: reader) } catch { throw .volume(error) }
    }

    public func room() async throws(Failure) {
        do throws(VolumeError) { try await headhunter.room() } catch { throw .volume(error) }
    }

    /// Flushes the file for which `reader` was last turned away as busy. On the volume's loop.
    public func clear(for reader: Int) async throws(Failure) {
        if let inode = obstacle(of: reader) { try await flush(inode) } else { await Task.yield() }
    }

    /// The file for which `reader` was last turned away as busy. On that reader's loop, right after that call.
    public func obstacle(of reader: Int) -> UInt64? {
        let inode = obstacles[reader]
        obstacles[reader] = 0
        return inode == 0 ? nil : inode
    }

    /// The call has to wait until the file has been flushed.
    func busy<Value>(_ reader: Int, _ inode: UInt64) -> Attempt<Value> {
        obstacles[reader] = inode
        return .busy
    }
}

/// What an operator may set for the files of a volume.
public struct LogFSOptions: Sendable {
    /// Data that was written and not flushed, of all files of the subvolume.
    public var dirtyBytesMax = 64 << 20
    /// Sums move up, and what is written and not flushed is flushed, this often.
    public var housekeepingNanoseconds: UInt64 = 2_000_000_000

    public init() {}
}

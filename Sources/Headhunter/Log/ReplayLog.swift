import Bytes
import Glibc
import Runtime
import Synchronization

/// What a caller of the log waits for.
public enum LogLevel: UInt8, Sendable, Comparable {
    /// The operating system has it: it survives the process, not the machine.
    case written
    /// It was synced: it survives both.
    case durable

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }
}

/// The replay log's writer: many callers append and wait, one write and one sync carry all that wait.
///
/// Appending is memory only and ordered by the caller's lock. One batch run is in flight at a time; what arrives
/// meanwhile goes with the next. After a failed write or sync nothing is known of that file, so it is never touched
/// again: what was not durable is written once more, to a new file. If that fails too the log has failed for good,
/// and everybody who waits, or comes later, is told.
public final class ReplayLog: Sendable {
    public struct Failure: Error, Equatable, Sendable {
        public let cause: Errno
    }

    /// Bytes written but not synced, in `memory` durability: more than this is synced on the side. Their batches are kept until then.
    private static let unsyncedBytesMax = 8 << 20
    /// The disk begins to write after so many, so that a sync on the side is short: others wait for its end.
    private static let startBytes = 1 << 20

    /// How long the log rests before a mark.
    private static let markDelay: UInt64 = 2_000_000

    private struct Waiter {
        let number: UInt64
        let level: LogLevel
        let loop: EventLoop
        /// The loop knows that this is about to come.
        let isExpected: Bool
        let done: @Sendable (Failure?) -> Void
    }

    private struct Shared {
        var assembler: LogAssembler
        /// So much is written though nobody waits: who comes to wait, or meets the bound of what may be pending, finds little left.
        let pushBytes: Int
        /// The same records once more, for the store.
        var copies: LogAssembler?
        var waiters: [Waiter] = []
        var written: UInt64
        var durable: UInt64
        var isPumping = false
        /// The loop was asked to write what nobody waits for.
        var isPushed = false
        /// What the newest batch says to be durable.
        var marked: UInt64 = 0
        var failure: Failure?
        /// Sequence numbers of the files that exist, with the first record of each.
        var files: [(sequence: UInt64, first: UInt64)]
        var syncs: UInt64 = 0
        var recordsSynced: UInt64 = 0

        /// What is to be written for those who wait; `data` is durable up to there.
        mutating func next(_ data: UInt64) -> Run? {
            isPushed = false
            guard !waiters.isEmpty || assembler.pendingBytes >= pushBytes, failure == nil else { return nil }
            let known = min(data, durable)
            let sync = waiters.contains { $0.level == .durable }
            let batches = assembler.take()
            if !batches.isEmpty { marked = known }
            return Run(batches: batches, sync: sync, durable: known, waiters: waiters.count)
        }
    }

    /// Touched by the one batch run in flight only.
    private final class Writer: @unchecked Sendable {
        var file: (any DiskFile)?
        var sequence: UInt64
        var offset: UInt64 = 0
        var reserved: UInt64 = 0
        var chain: UInt32
        /// The chain behind the last batch that is durable: where a new file begins after a failure.
        var chainDurable: UInt32
        /// Files made since the log's loop was last told.
        var newFiles: [(sequence: UInt64, first: UInt64)] = []
        /// The file has no name of its own yet: its first record.
        var draftFirst: UInt64?
        /// The file's name, or an earlier file's content, has not been synced yet.
        var nameIsVolatile = false
        var unsyncedFile: (any DiskFile)?
        /// Batches since the last sync, to be written again if a sync fails.
        var unsynced: [LogBatch] = []
        var unsyncedBytes = 0
        /// Up to there it was written, if only with zeros.
        var cleared: UInt64 = 0
        /// Where the system was last asked to begin.
        var started: UInt64 = 0

        private static let few = 2
        private static let fewRunsMin = 8
        private var fewRuns = 0

        /// Whether no more than that wait for a write, not for a sync, and have for some time. More of them share what waking a thread costs: it
        /// is less than to wait awake beside a loop that has all of them to answer.
        func areFew(_ waiters: Int) -> Bool {
            fewRuns = waiters <= Self.few ? min(fewRuns + 1, Self.fewRunsMin) : 0
            return fewRuns == Self.fewRunsMin
        }

        init(sequence: UInt64, chain: UInt32) {
            self.sequence = sequence
            self.chain = chain
            chainDurable = chain
        }
    }

    /// Set before anybody waits. (A closure behind a generic lock would be wrapped once more at each look.)
    private final class Data: @unchecked Sendable {
        var durable: (@Sendable (_ last: UInt64) -> UInt64)?
    }

    /// Touched on the log's loop only.
    private final class OnLoop: @unchecked Sendable {
        var isMarkScheduled = false
    }

    private let world: World
    private let loop: EventLoop
    private let directory: String
    private let volume: VolumeIdentity
    private let epoch: UInt64
    /// Space is reserved in steps, so that most syncs change no metadata of the file.
    private let reserveStep: UInt64
    private let shared: Guarded<Shared>
    /// Somebody does: seen without the lock by the thread that lingers.
    private let hasWaiters = Atomic(false)
    private let writer: Writer
    private let onLoop = OnLoop()
    private let data = Data()

    /// `directory` exists. Files are numbered from `sequence` on, records from `next` on; `chain` is the checksum of
    /// the last batch that was recovered, and `files` what recovery found and checkpoints have yet to cut.
    public init(
        world: World, loop: EventLoop, directory: String, volume: VolumeIdentity, epoch: UInt64, sequence: UInt64,
        next: UInt64, chain: UInt32, files: [(sequence: UInt64, first: UInt64)], reserveBytes: UInt64, pushBytes: Int
    ) {
        self.world = world
        self.loop = loop
        self.directory = directory
        self.volume = volume
        self.epoch = epoch
        reserveStep = max(reserveBytes, UInt64(LogFormat.fileHeaderSize))
        shared = Guarded(
            Shared(
                assembler: LogAssembler(next: next), pushBytes: pushBytes, written: next - 1, durable: next - 1,
                files: files))
        writer = Writer(sequence: sequence - 1, chain: chain)
    }

    /// Of a file that is not whole yet; recovery removes it.
    static let draftSuffix = ".draft"

    static func fileName(_ sequence: UInt64) -> String {
        let digits = String(sequence, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + ".log"
    }

    // MARK: Appending

    /// Numbers a record. Calls are ordered by the caller's own lock: the order of the log is that of the changes.
    package func append(_ record: UnsafeRawBufferPointer) -> UInt64 {
        let (number, pushes) = shared.withLock { shared in
            if shared.copies != nil { _ = shared.copies?.append(record) }
            let number = shared.assembler.append(record)
            let pushes = shared.assembler.pendingBytes >= shared.pushBytes && !shared.isPumping && !shared.isPushed
            if pushes { shared.isPushed = true }
            return (number, pushes)
        }
        if pushes { loop.execute { self.push() } }
        return number
    }

    /// Later records go to a new file, and, with `copies`, are kept for the store; answers the number of the next one.
    package func beginFile(copies: Bool) -> UInt64 {
        shared.withLock { shared in
            shared.assembler.beginFile()
            if !copies {
                shared.copies = nil
            } else if shared.copies == nil {
                shared.copies = LogAssembler(next: shared.assembler.next)
            } else {
                shared.copies?.beginFile()
            }
            return shared.assembler.next
        }
    }

    /// What was kept for the store.
    func takeCopies() -> [LogBatch] { shared.withLock { $0.copies?.take() ?? [] } }
    /// Something is on its way to the disk.
    var isBusy: Bool { shared.withLock { $0.isPumping } }
    func dropCopies() { shared.withLock { $0.copies = nil } }
    var copiedBytes: Int { shared.withLock { $0.copies?.pendingBytes ?? 0 } }

    /// Bytes that are appended and not yet handed to the disk.
    package var pendingBytes: Int { shared.withLock { $0.assembler.pendingBytes } }
    /// The last record that was appended.
    public var last: UInt64 { shared.withLock { $0.assembler.next - 1 } }
    public var durable: UInt64 { shared.withLock { $0.durable } }
    public var failure: Failure? { shared.withLock { $0.failure } }
    /// How many syncs there were, and how many records they made durable.
    public var counters: (syncs: UInt64, records: UInt64) { shared.withLock { ($0.syncs, $0.recordsSynced) } }

    // MARK: Waiting

    /// Calls `done` on `loop` when record `number` and all before it have reached `level`.
    public func wait(
        for number: UInt64, _ level: LogLevel, on loop: EventLoop, _ done: @escaping @Sendable (Failure?) -> Void
    ) {
        enum Next { case wait, pump, now(Failure?) }
        let isExpected = level == .durable && loop.isCurrent
        let next = shared.withLock { shared -> Next in
            if (level == .durable ? shared.durable : shared.written) >= number { return .now(nil) }
            if let failure = shared.failure { return .now(failure) }
            shared.waiters.append(Waiter(number: number, level: level, loop: loop, isExpected: isExpected, done: done))
            hasWaiters.store(true, ordering: .releasing)
            if shared.isPumping { return .wait }
            shared.isPumping = true
            return .pump
        }
        if isExpected, case .now = next {} else if isExpected { loop.expect() }
        switch next {
        case .wait: break
        case .now(let failure): if loop.isCurrent { done(failure) } else { loop.execute { done(failure) } }
        // What takes no longer than a write takes those along who are still to come in this turn of the loop.
        case .pump: if self.loop.isCurrent, isExpected { pump() } else { self.loop.execute { self.pump() } }
        }
    }

    /// The same for tasks.
    public func wait(for number: UInt64, _ level: LogLevel) async throws(Failure) {
        let box = Mutex<Failure?>(nil)
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            wait(for: number, level, on: loop) { failure in
                box.withLock { $0 = failure }
                continuation.resume()
            }
        }
        if let failure = box.withLock({ $0 }) { throw failure }
    }

    /// `ask` answers up to which record the data is durable that records name, `last` being the newest record at that time. A batch
    /// must not say of a record that it was durable while its data was not. Before anybody waits.
    func setDataDurable(_ ask: @escaping @Sendable (_ last: UInt64) -> UInt64) { data.durable = ask }

    private func dataDurable() -> UInt64 {
        guard let ask = data.durable else { return .max }
        return ask(last)
    }

    /// Up to here everything is durable: records, and the data that they name.
    func confirmed() -> UInt64 {
        let data = dataDurable()
        return min(data, durable)
    }

    /// More has become durable while the log was at rest. On the log's loop.
    func mark() { markSoon() }

    /// When nobody waits, a mark is written, not synced, so that damage to the last records can be told from a write that
    /// was torn before anybody had an answer. Not at once: a caller who waits for each of its records would wait for
    /// the marks between them, too.
    private func markSoon() {
        guard !onLoop.isMarkScheduled else { return }
        onLoop.isMarkScheduled = true
        _ = loop.schedule(after: Self.markDelay) {
            self.onLoop.isMarkScheduled = false
            self.writeMark()
        }
    }

    private func writeMark() { if beginPumping() { pump(marking: true) } }

    private func push() { if beginPumping() { pump() } }

    /// False: somebody does already.
    private func beginPumping() -> Bool {
        shared.withLock { shared -> Bool in
            if shared.isPumping { return false }
            shared.isPumping = true
            return true
        }
    }

    // MARK: Writing

    private struct Run: Sendable {
        let batches: [LogBatch]
        let sync: Bool
        let durable: UInt64
        let waiters: Int
    }

    /// On the log's loop. Takes what there is and has it written; comes back when that is done.
    private func pump(marking: Bool = false) {
        let data = dataDurable()
        var wantsMark = false
        let run = shared.withLock { shared -> Run? in
            if let run = shared.next(data) { return run }
            let confirmed = min(data, shared.durable)
            if marking, shared.failure == nil, confirmed > shared.marked {
                // Records that nobody waits for say it as well as a mark does.
                let batches = shared.assembler.mark().map { [$0] } ?? shared.assembler.take()
                if !batches.isEmpty {
                    shared.marked = confirmed
                    return Run(batches: batches, sync: false, durable: confirmed, waiters: 0)
                }
            }
            shared.isPumping = false
            wantsMark = shared.failure == nil && confirmed > shared.marked && shared.assembler.canSay
            return nil
        }
        guard let run else {
            if wantsMark { markSoon() }
            return
        }
        world.blocking.submit({ self.work(run) }, then: { self.pump() }, on: loop)
    }

    /// A thread of the pool goes on by itself so many times: who waits for one sync has the next one begin with it, and
    /// other work has its turn.
    private static let runsMax = 64

    private func work(_ first: Run) {
        var run = first
        var count = 0
        while true {
            let result = write(run.batches, sync: run.sync, durable: run.durable)
            finish(run.batches, result)
            if run.sync, case .success = result { clearAhead() }
            count += 1
            guard count < Self.runsMax, run.waiters > 0, run.sync || writer.areFew(run.waiters) else { return }
            var next: Run?
            let hasNext = { () -> Bool in
                guard self.hasWaiters.load(ordering: .acquiring) else { return false }
                let data = self.dataDurable()
                next = self.shared.withLock { $0.next(data) }
                return next != nil
            }
            // Those who were told may want the next one very soon: waking a thread for that takes longer than waiting.
            world.blocking.linger(until: hasNext)
            guard let next else { return }
            run = next
        }
    }

    private struct Outcome: Sendable {
        /// Whether everything up to the last batch is synced.
        var synced: Bool
        var newFiles: [(sequence: UInt64, first: UInt64)]
        /// Batches that need not be written again.
        var recycled: [LogBatch]
    }

    /// On a thread of the pool. A failure is tried once more in a new file.
    private func write(_ batches: [LogBatch], sync: Bool, durable: UInt64) -> Result<Outcome, Failure> {
        let first = attempt(batches, sync: sync, durable: durable)
        guard case .failure = first else { return first }
        let again = writer.unsynced
        abandon()
        guard !again.isEmpty else { return first }
        return attempt(again, sync: true, durable: durable, isReplacement: true)
    }

    private func abandon() {
        writer.file?.close()
        writer.file = nil
        writer.unsyncedFile?.close()
        writer.unsyncedFile = nil
        writer.unsynced.removeAll()
        writer.unsyncedBytes = 0
        writer.chain = writer.chainDurable
    }

    /// A replacement holds records that may be in an earlier file already, of which somebody may have been told that they
    /// outlive the process. So it gets its name when it is whole: with it, it takes the earlier file's place.
    private func attempt(
        _ batches: [LogBatch], sync: Bool, durable: UInt64, isReplacement: Bool = false
    ) -> Result<Outcome, Failure> {
        // What is about to be written counts as not synced from here on, also when it fails half way.
        writer.unsynced.append(contentsOf: batches)
        var synced = false
        var recycled: [LogBatch] = []
        do throws(Errno) {
            var index = 0
            while index < batches.count {
                let batch = batches[index]
                if writer.file == nil || batch.beginsFile && !isReplacement {
                    try openFile(first: batch.first, isDraft: isReplacement)
                }
                // One write for all batches that go to the same file.
                var pieces: [UnsafeRawBufferPointer] = []
                var bytes = 0
                repeat {
                    let batch = batches[index]
                    writer.chain = LogFormat.finish(
                        batch, durable: durable, epoch: epoch, sequence: writer.sequence, chain: writer.chain)
                    pieces.append(batch.block.bytes)
                    bytes += batch.block.count
                    index += 1
                } while index < batches.count && (isReplacement || !batches[index].beginsFile)
                guard let file = writer.file else { preconditionFailure("a log file was opened above") }
                try reserve(file, upTo: writer.offset + UInt64(bytes))
                try file.write(pieces, at: writer.offset)
                writer.offset += UInt64(bytes)
                writer.unsyncedBytes += bytes
                if writer.offset - writer.started >= Self.startBytes {
                    file.startWriting(at: writer.started, Int(writer.offset - writer.started))
                    writer.started = writer.offset
                }
            }
            if sync || writer.unsyncedBytes > Self.unsyncedBytesMax || writer.unsynced.count >= LogAssembler.spareMax {
                try syncAll()
                synced = true
                swap(&recycled, &writer.unsynced)
            }
            let newFiles = writer.newFiles
            writer.newFiles.removeAll()
            return .success(Outcome(synced: synced, newFiles: newFiles, recycled: recycled))
        } catch {
            return .failure(Failure(cause: error))
        }
    }

    private func openFile(first: UInt64, isDraft: Bool) throws(Errno) {
        // An earlier file is synced before the next sync counts; only one can be waiting for that.
        try writer.unsyncedFile?.sync()
        writer.unsyncedFile?.close()
        writer.unsyncedFile = writer.file
        writer.file = nil
        writer.sequence += 1
        let path = directory + "/" + Self.fileName(writer.sequence)
        writer.draftFirst = isDraft ? first : nil
        if !isDraft { writer.newFiles.append((writer.sequence, first)) }
        let file = try world.disk.open(isDraft ? path + Self.draftSuffix : path, [.write, .create, .exclusive])
        let header = LogFormat.fileHeader(
            volume: volume, sequence: writer.sequence, first: first, epoch: epoch, chain: writer.chain)
        defer { extendLifetime(header) }
        try file.allocate(reserveStep)
        try file.write(header.bytes, at: 0)
        writer.reserved = reserveStep
        writer.offset = UInt64(header.count)
        writer.cleared = 0
        writer.started = 0
        writer.nameIsVolatile = true
        writer.file = file
    }

    private func reserve(_ file: any DiskFile, upTo end: UInt64) throws(Errno) {
        guard end > writer.reserved else { return }
        let wanted = (end + reserveStep) / reserveStep * reserveStep
        try file.allocate(wanted)
        writer.reserved = wanted
    }

    /// Zeros where the next records go. Of a place that was only reserved the file system has to note that it is written now, and a
    /// sync waits for that note as well.
    private func clearAhead() {
        guard let file = writer.file, writer.cleared < writer.offset + Self.clearBytes / 2 else { return }
        let start = max(writer.cleared, writer.offset)
        let count = min(Self.clearBytes, writer.reserved - start)
        guard count > 0 else { return }
        writer.cleared = start + count
        do throws(Errno) {
            try file.write(UnsafeRawBufferPointer(rebasing: Self.zeros.bytes.prefix(Int(count))), at: start)
            file.startWriting(at: start, Int(count))
        } catch {
            // Records go there all the same, and fail by themselves if they have to.
        }
    }

    private static let clearBytes: UInt64 = 256 << 10
    private static let zeros: Block = {
        let block = Block(capacity: Int(clearBytes))
        memset(block.base, 0, block.capacity)
        block.count = block.capacity
        return block
    }()

    private func syncAll() throws(Errno) {
        try writer.unsyncedFile?.sync()
        writer.unsyncedFile?.close()
        writer.unsyncedFile = nil
        try writer.file?.sync()
        if let first = writer.draftFirst {
            let path = directory + "/" + Self.fileName(writer.sequence)
            try world.disk.rename(path + Self.draftSuffix, to: path)
            writer.newFiles.append((writer.sequence, first))
            writer.draftFirst = nil
        }
        if writer.nameIsVolatile {
            try world.disk.syncDirectory(directory)
            writer.nameIsVolatile = false
        }
        writer.unsyncedBytes = 0
        writer.started = writer.offset
        writer.chainDurable = writer.chain
    }

    /// Tells those whose records have got there.
    private func finish(_ batches: [LogBatch], _ result: Result<Outcome, Failure>) {
        var ready: [Waiter] = []
        var failure: Failure?
        shared.withLock { shared in
            switch result {
            case .success(let outcome):
                shared.files.append(contentsOf: outcome.newFiles)
                if let last = batches.last { shared.written = max(shared.written, last.last) }
                if outcome.synced {
                    shared.syncs += 1
                    shared.recordsSynced += shared.written - shared.durable
                    shared.durable = shared.written
                    for batch in outcome.recycled { shared.assembler.recycle(batch) }
                }
            case .failure(let cause):
                failure = cause
                shared.failure = cause
            }
            var left: [Waiter] = []
            for waiter in shared.waiters {
                let reached = waiter.level == .durable ? shared.durable : shared.written
                if failure != nil || reached >= waiter.number { ready.append(waiter) } else { left.append(waiter) }
            }
            shared.waiters = left
            hasWaiters.store(!left.isEmpty, ordering: .releasing)
        }
        tell(ready, failure)
    }

    /// Each loop once, for all of its own.
    private func tell(_ ready: [Waiter], _ failure: Failure?) {
        var groups: [(loop: EventLoop, waiters: [Waiter])] = []
        for waiter in ready {
            if let index = groups.firstIndex(where: { $0.loop === waiter.loop }) {
                groups[index].waiters.append(waiter)
            } else {
                groups.append((waiter.loop, [waiter]))
            }
        }
        for (loop, waiters) in groups {
            loop.execute {
                for waiter in waiters {
                    if waiter.isExpected { loop.expectNoMore() }
                    waiter.done(failure)
                }
            }
        }
    }

    // MARK: Cutting

    /// Removes the files that hold only records below `number`: a checkpoint that covers them is durable.
    package func cut(below number: UInt64) async {
        let old = shared.withLock { shared -> [(sequence: UInt64, first: UInt64)] in
            var old: [(sequence: UInt64, first: UInt64)] = []
            // A file ends where any later one begins.
            while shared.files.dropFirst().contains(where: { $0.first <= number }) {
                old.append(shared.files.removeFirst())
            }
            return old
        }
        guard !old.isEmpty else { return }
        let disk = world.disk
        let directory = directory
        let sequences = old.map(\.sequence)
        let removed = await world.blocking.run(on: loop) { () throws(Never) -> Int in
            // Lowest first, so that what a crash leaves is a run without a gap.
            for (index, sequence) in sequences.enumerated() {
                do throws(Errno) { try disk.remove(directory + "/" + Self.fileName(sequence)) } catch {
                    // One that was never made is as good as gone.
                    guard error == .noEntry else { return index }
                }
            }
            return sequences.count
        }
        // What could not be removed now is cut with the next checkpoint.
        shared.withLock { $0.files.insert(contentsOf: old[removed...], at: 0) }
    }
}

extension LogFormat {
    /// ```
    /// 0 magic u32 "PXLF" | 4 version u16 | 6 zero u16 | 8 sequence u64 | 16 first u64 | 24 epoch u64
    /// 32 chain u32 | 36 zero u32 | 40 volume 16 bytes | 56 checksum u32 of the 56 bytes before
    /// ```
    static func fileHeader(
        volume: VolumeIdentity, sequence: UInt64, first: UInt64, epoch: UInt64, chain: UInt32
    ) -> Block {
        let block = Block(capacity: fileHeaderSize)
        let base = block.base
        base.initializeMemory(as: UInt8.self, repeating: 0, count: fileHeaderSize)
        base.storeBytes(of: fileMagic, as: UInt32.self)
        base.storeBytes(of: version, toByteOffset: 4, as: UInt16.self)
        base.storeBytes(of: sequence, toByteOffset: 8, as: UInt64.self)
        base.storeBytes(of: first, toByteOffset: 16, as: UInt64.self)
        base.storeBytes(of: epoch, toByteOffset: 24, as: UInt64.self)
        base.storeBytes(of: chain, toByteOffset: 32, as: UInt32.self)
        base.storeBytes(of: volume.high, toByteOffset: 40, as: UInt64.self)
        base.storeBytes(of: volume.low, toByteOffset: 48, as: UInt64.self)
        let checksum = CRC32C.of(UnsafeRawBufferPointer(start: base, count: fileChecksumOffset))
        base.storeBytes(of: checksum, toByteOffset: fileChecksumOffset, as: UInt32.self)
        block.count = fileHeaderSize
        return block
    }
}

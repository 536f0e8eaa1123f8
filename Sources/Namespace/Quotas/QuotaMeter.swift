import Runtime
import Synchronization

/// Counts what quotas count, and says no when one is full.
///
/// While a volume has quotas, each change that grows, shrinks or moves anything runs behind this guard: what it changed is
/// counted before the next one looks. What takes several steps is held: it reserves what it may grow by, and is
/// counted at its end by what the file is then. A volume without quotas pays one atomic look.
final class QuotaMeter: Sendable {
    /// A file without a name that is to become an object. It counts from the beginning, where it was made.
    struct Draft {
        /// The bucket's directory; nil: it is the server's own, and counts nowhere.
        var near: FileID?
        /// Of a part of an upload.
        var uploader: Owner?
        /// It has the content of these, which count until it takes their place.
        var parts: [FileID] = []
    }

    /// A part of an upload whose bytes are the object's by now.
    struct SpentPart {
        var bucket: FileID
        var size: UInt64
    }

    /// Users and groups whose files are being gone through, in the order of inodes.
    struct Count {
        var subjects: Set<QuotaSubject>
        /// Changes of files up to this one count.
        var reached: UInt64 = 0
    }

    struct State {
        let fileSystem: any FileSystem
        var table = QuotaTable()
        /// Limits that do not bind yet.
        var uncounted: Set<QuotaSubject> = []
        var count: Count?
        var isCounting = false
        /// Graces as the volume has them.
        var kept: [QuotaSubject: QuotaGrace] = [:]
        var isKeeping = false
        /// What `places` found.
        var placesAbove: [FileID: Places?] = [:]
        /// Files that grow or shrink in several steps: the bytes that have been counted, those of their streams among them.
        var held: [FileID: UInt64] = [:]
        var drafts: [FileID: Draft] = [:]
        var spent: [FileID: SpentPart] = [:]
        /// Sums are about to be taken: nothing new is held until they have been.
        var wantsQuiet = false
        var waiters: [UnsafeContinuation<Bool, Never>] = []

        init(_ fileSystem: any FileSystem) { self.fileSystem = fileSystem }
    }

    /// Directories whose places are remembered.
    static let placesAboveMax = 1 << 16

    private let flag = Atomic(false)
    private let draftCount = Atomic<Int>(0)
    /// Changes in steps that began when there was no quota.
    let unheld = Atomic<Int>(0)
    let state: Guarded<State>
    private let loops: [EventLoop]
    /// Where counting runs.
    private let place = Guarded<(clock: any WorldClock, loop: EventLoop)?>(nil)

    init(_ fileSystem: any FileSystem, loops: [EventLoop]) {
        state = Guarded(State(fileSystem))
        self.loops = loops
    }

    @inline(__always) var isOn: Bool { flag.load(ordering: .acquiring) }
    @inline(__always) var hasDrafts: Bool { draftCount.load(ordering: .acquiring) > 0 }

    func draft(_ request: Request, near directory: FileID) throws(Halt) -> Draft {
        try state.withLock { (state) throws(Halt) in try state.draft(request, near: directory) }
    }

    /// Drafts are known without quotas, too: one may come while they grow.
    func add(_ file: FileID, _ draft: Draft) {
        state.withLock { $0.drafts[file] = draft }
        draftCount.wrappingAdd(1, ordering: .acquiringAndReleasing)
    }

    func join(_ parts: [FileID], to file: FileID) { state.withLock { $0.drafts[file]?.parts = parts } }

    /// Behind the guard: it is an object now, or gone.
    func remove(_ file: FileID, _ state: inout State) -> Draft? {
        guard let draft = state.drafts.removeValue(forKey: file) else { return nil }
        draftCount.wrappingSubtract(1, ordering: .acquiringAndReleasing)
        return draft
    }

    /// Wakes whoever waits for something to be counted; each looks for himself.
    static func wake(_ state: inout State) -> [UnsafeContinuation<Bool, Never>] {
        defer { state.waiters.removeAll() }
        return state.waiters
    }

    /// Suspends until `isTrue` has been seen.
    func when(_ isTrue: @escaping @Sendable (State) -> Bool) async {
        var isSeen = false
        while !isSeen {
            isSeen = await withUnsafeContinuation { (continuation: UnsafeContinuation<Bool, Never>) in
                wait(continuation, isTrue)
            }
        }
    }

    private func wait(_ continuation: UnsafeContinuation<Bool, Never>, _ isTrue: (State) -> Bool) {
        let isSeen = state.withLock { state -> Bool in
            if isTrue(state) { return true }
            state.waiters.append(continuation)
            return false
        }
        if isSeen { continuation.resume(returning: true) }
    }

    // MARK: Limits

    /// Takes these for the volume's quotas. Answers whether some have to be counted.
    private func set(_ quotas: [QuotaRecord], now: UInt64) -> Bool {
        state.withLock { state in
            let wanted = Dictionary(quotas.map { ($0.subject, $0.limit) }) { $1 }
            for subject in Array(state.table.all.keys) where wanted[subject] == nil {
                state.table.remove(subject)
                state.uncounted.remove(subject)
                state.count?.subjects.remove(subject)
            }
            for (subject, limit) in wanted {
                if state.table[subject] == nil { state.uncounted.insert(subject) }
                if !state.table.setLimit(subject, limit, now: now) { state.uncounted.remove(subject) }
            }
            state.placesAbove.removeAll()
            flag.store(state.table.count > 0, ordering: .releasing)
            guard !state.uncounted.isEmpty, !state.isCounting else { return false }
            state.isCounting = true
            return true
        }
    }

    /// Takes these for the volume's quotas, and counts for new ones what there is; then they bind.
    func set(_ quotas: [QuotaRecord], clock: any WorldClock, loop: EventLoop) {
        place.withLock { $0 = (clock, loop) }
        if set(quotas, now: UInt64(clamping: clock.wall())) { loop.task { await self.count(clock, loop) } }
        // What is kept of quotas that are gone goes, too.
        change { _ in }
    }

    /// Makes a change behind the guard. What it lacks it says before anything has changed.
    func change<Value, Failure: Error>(_ body: (inout State) throws(Failure) -> Value) throws(Failure) -> Value {
        var waiters: [UnsafeContinuation<Bool, Never>] = []
        var mustCount = false
        var mustKeep = false
        defer {
            for waiter in waiters { waiter.resume(returning: false) }
            if mustCount, let (clock, loop) = place.withLock({ $0 }) {
                loop.task { await self.count(clock, loop) }
            }
            if mustKeep, let (clock, loop) = place.withLock({ $0 }) {
                loop.task { await self.keepGraces(clock, loop) }
            }
        }
        return try state.withLock { (state) throws(Failure) in
            defer {
                state.table.settle()
                if !state.waiters.isEmpty { waiters = Self.wake(&state) }
                if !state.uncounted.isEmpty, !state.isCounting {
                    state.isCounting = true
                    mustCount = true
                }
                if !state.table.graceChanges.isEmpty, !state.isKeeping {
                    state.isKeeping = true
                    mustKeep = true
                }
            }
            return try body(&state)
        }
    }

    // MARK: Counting

    /// Calls that were made again for want of something, before counting is put off.
    private static let filesPerStep = 128
    private static let pauseNanoseconds: UInt64 = 1_000_000

    private func count(_ clock: any WorldClock, _ loop: EventLoop) async {
        // Whoever looked at the flag before it was raised has finished, once every loop has begun another round.
        for other in loops {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                other.execute { continuation.resume() }
            }
        }
        while unheld.load(ordering: .acquiring) > 0 { await loop.sleep(nanoseconds: Self.pauseNanoseconds) }
        while true {
            let next = state.withLock { state -> [QuotaSubject] in
                if state.uncounted.isEmpty { state.isCounting = false }
                return Array(state.uncounted)
            }
            if next.isEmpty { return }
            let (sums, owners) = next.reduce(into: ([QuotaSubject](), Set<QuotaSubject>())) { parts, subject in
                switch subject {
                case .volume, .tree: parts.0.append(subject)
                case .user, .group: parts.1.insert(subject)
                }
            }
            for subject in next { await recall(subject, clock, loop) }
            for subject in sums { await sum(subject, clock, loop) }
            if !owners.isEmpty { await goThrough(owners, clock, loop) }
        }
    }

    /// What the file system says lies in a tree.
    private func sum(_ subject: QuotaSubject, _ clock: any WorldClock, _ loop: EventLoop) async {
        change { $0.wantsQuiet = true }
        var isDone = false
        while !isDone {
            await when { $0.held.isEmpty }
            let request = Request(reader: loop.index, now: clock.wall())
            let lack = state.withLock { state -> Lack? in
                guard state.held.isEmpty else { return nil }
                var directory = state.fileSystem.root
                if case .tree(let tree) = subject { directory = tree }
                do throws(Halt) {
                    let sums = try state.fileSystem.usage(request, below: directory).get()
                    var usage = QuotaUsage(bytes: sums.bytes, files: sums.files + sums.directories)
                    if directory == state.fileSystem.root {
                        let own = try state.fileSystem.ownTotals(request)
                        usage.bytes -= min(usage.bytes, own.bytes)
                        usage.files -= min(usage.files, own.files + own.directories)
                    }
                    usage.bytes += try state.bytesComing(request, below: directory)
                    let shelved = try state.shelved(request, below: directory)
                    usage.bytes += shelved.bytes
                    usage.files += shelved.files + shelved.directories
                    if state.uncounted.contains(subject) {
                        _ = state.table.setUsage(subject, usage, now: UInt64(clamping: request.now))
                    }
                } catch {
                    // Refused: the directory is gone.
                    if case .lacks(let lack) = error { return lack }
                }
                state.bind(subject)
                isDone = true
                return nil
            }
            await supply(lack, loop)
        }
        change { $0.wantsQuiet = false }
    }

    /// Files of users and groups, one after the other.
    private func goThrough(_ owners: Set<QuotaSubject>, _ clock: any WorldClock, _ loop: EventLoop) async {
        var hasBegun = false
        var isDone = false
        while !isDone {
            let request = Request(reader: loop.index, now: clock.wall())
            let lack = state.withLock { state -> Lack? in
                guard hasBegun else {
                    do throws(Halt) { try state.beginCount(request, owners) } catch {
                        if case .lacks(let lack) = error { return lack }
                    }
                    hasBegun = true
                    return nil
                }
                guard let count = state.count else {
                    isDone = true
                    return nil
                }
                if count.reached == .max {
                    // What is held has reserved nothing from those who were not counted yet.
                    guard state.held.isEmpty else {
                        return Lack { () async throws(FileError) in await self.when { $0.held.isEmpty } }
                    }
                    isDone = true
                    for subject in count.subjects { state.bind(subject) }
                    state.count = nil
                    return nil
                }
                var found: [Attributes] = []
                let attempt = state.fileSystem.files(request, after: count.reached, limit: Self.filesPerStep) {
                    found.append($0)
                }
                switch attempt {
                case .lacks(let lack): return lack
                case .refused: state.count?.reached = .max
                case .done(let next, _):
                    do throws(Halt) {
                        // All, before any is counted: the look may have to be taken again.
                        var counted: [(account: Account, bytes: UInt64)] = []
                        for file in found {
                            guard let account = try state.account(request, file) else { continue }
                            counted.append((account, try state.bytes(request, file)))
                        }
                        for (account, bytes) in counted { state.count(request, account, bytes) }
                    } catch {
                        if case .lacks(let lack) = error { return lack }
                    }
                    state.count?.reached = next ?? .max
                    if next == nil { state.wantsQuiet = true }
                }
                return nil
            }
            await supply(lack, loop)
        }
        change { $0.wantsQuiet = false }
    }

    func supply(_ lack: Lack?, _ loop: EventLoop) async {
        guard let lack else { return await Task.yield() }
        // A volume that can not be read now is asked again in a while.
        do throws(FileError) { try await lack.supplied() } catch {
            await loop.sleep(nanoseconds: 1000 * Self.pauseNanoseconds)
        }
    }

    // MARK: Showing

    func quota(_ subject: QuotaSubject) -> (quota: Quota, isCounted: Bool)? {
        state.withLock { state in
            state.table[subject].map { ($0, !state.uncounted.contains(subject)) }
        }
    }
}

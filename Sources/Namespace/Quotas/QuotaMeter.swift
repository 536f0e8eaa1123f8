import Runtime
import Synchronization

/// Counts what quotas count, and says no when one is full.
///
/// While a volume has quotas, each change that grows, shrinks or moves anything runs behind this guard: what it changed is
/// counted before the next one looks. What takes several steps is held: it reserves what it may grow by, and is
/// counted at its end by what the file is then. A volume without quotas pays one atomic look.
final class QuotaMeter: Sendable {
    /// A file that grows or shrinks in several steps: the size that has been counted.
    struct Held {
        var size: UInt64
        var holders: Int
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
        /// What `places` found.
        var placesAbove: [FileID: [QuotaSubject]?] = [:]
        var held: [FileID: Held] = [:]
        /// Sums are about to be taken: nothing new is held until they have been.
        var wantsQuiet = false
        var waiters: [UnsafeContinuation<Bool, Never>] = []

        init(_ fileSystem: any FileSystem) { self.fileSystem = fileSystem }
    }

    /// Directories whose places are remembered.
    static let placesAboveMax = 1 << 16

    private let flag = Atomic(false)
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
    }

    /// Makes a change behind the guard. What it lacks it says before anything has changed.
    func change<Value, Failure: Error>(_ body: (inout State) throws(Failure) -> Value) throws(Failure) -> Value {
        var waiters: [UnsafeContinuation<Bool, Never>] = []
        var mustCount = false
        defer {
            for waiter in waiters { waiter.resume(returning: false) }
            if mustCount, let (clock, loop) = place.withLock({ $0 }) {
                loop.task { await self.count(clock, loop) }
            }
        }
        return try state.withLock { (state) throws(Failure) in
            defer {
                if !state.waiters.isEmpty { waiters = Self.wake(&state) }
                if !state.uncounted.isEmpty, !state.isCounting {
                    state.isCounting = true
                    mustCount = true
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
                    if state.uncounted.contains(subject) {
                        _ = state.table.setUsage(subject, usage, now: UInt64(clamping: request.now))
                    }
                } catch {
                    // Refused: the directory is gone.
                    if case .lacks(let lack) = error { return lack }
                }
                state.uncounted.remove(subject)
                isDone = true
                return nil
            }
            await supply(lack, loop)
        }
        change { $0.wantsQuiet = false }
    }

    /// Files of users and groups, one after the other.
    private func goThrough(_ owners: Set<QuotaSubject>, _ clock: any WorldClock, _ loop: EventLoop) async {
        state.withLock { state in
            let there = owners.intersection(state.uncounted)
            for subject in there { _ = state.table.setUsage(subject, QuotaUsage(), now: 0) }
            state.count = Count(subjects: there)
        }
        var isDone = false
        while !isDone {
            let request = Request(reader: loop.index, now: clock.wall())
            let lack = state.withLock { state -> Lack? in
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
                    state.uncounted.subtract(count.subjects)
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
                    do throws(Halt) { found = try state.counting(request, found) } catch {
                        if case .lacks(let lack) = error { return lack }
                    }
                    for file in found {
                        let bytes = state.bytes(file)
                        for subject in [QuotaSubject.user(file.uid), .group(file.gid)]
                        where count.subjects.contains(subject) {
                            state.table.add([subject], bytes: bytes, files: 1, now: UInt64(clamping: request.now))
                        }
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

    private func supply(_ lack: Lack?, _ loop: EventLoop) async {
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

// MARK: - Rules

extension QuotaMeter.State {
    /// Bytes of a file that count.
    func bytes(_ file: Attributes) -> UInt64 {
        if file.type == .directory || file.links == 0 { return 0 }
        return held[file.file]?.size ?? file.size
    }

    /// The volume and the trees with quotas that a directory is in, itself one of them perhaps; nil: what lies there is the
    /// server's own and does not count.
    mutating func places(_ request: Request, _ directory: FileID) throws(Halt) -> [QuotaSubject]? {
        if let known = placesAbove[directory] { return known }
        var found: [QuotaSubject]? = [.volume]
        var place = directory
        while true {
            if table[.tree(place)] != nil { found?.append(.tree(place)) }
            guard place != fileSystem.root, let above = try fileSystem.whereabouts(request, of: place).get() else {
                break
            }
            if above.directory == fileSystem.root, above.name.withUnsafeBytes({ Volume.isOwn($0) }) {
                found = nil
                break
            }
            place = above.directory
        }
        if placesAbove.count >= QuotaMeter.placesAboveMax { placesAbove.removeAll() }
        placesAbove.updateValue(found, forKey: directory)
        return found
    }

    /// The same of a name in a directory.
    mutating func places(
        _ request: Request, _ directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> [QuotaSubject]? {
        if directory == fileSystem.root, Volume.isOwn(name) { return nil }
        return try places(request, directory)
    }

    /// The directory where the file's bytes count; nil: it has no name that would count.
    func home(_ request: Request, _ file: Attributes) throws(Halt) -> Whereabouts? {
        file.links == 0 ? nil : try fileSystem.whereabouts(request, of: file.file).get()
    }

    /// Those of some files that count.
    mutating func counting(_ request: Request, _ files: [Attributes]) throws(Halt) -> [Attributes] {
        var counting: [Attributes] = []
        for file in files {
            guard let home = try home(request, file),
                try home.name.withUnsafeBytes({ name in
                    Result { () throws(Halt) in try places(request, home.directory, name) }
                }).get() != nil
            else { continue }
            counting.append(file)
        }
        return counting
    }

    /// Refuses what a limit does not allow.
    func admit(_ request: Request, _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64) throws(Halt) {
        if bytes == 0, files == 0 { return }
        let binding = subjects.filter { !uncounted.contains($0) }
        guard table.refusal(binding, bytes: bytes, files: files, now: UInt64(clamping: request.now)) == nil else {
            throw .refused(.quotaExceeded)
        }
    }

    /// What has come or gone, of a file with this inode.
    mutating func add(
        _ request: Request, _ subjects: [QuotaSubject], of inode: UInt64, bytes: Int64, files: Int64
    ) {
        let now = UInt64(clamping: request.now)
        let counted = subjects.filter { subject in
            guard uncounted.contains(subject) else { return true }
            guard let count, count.subjects.contains(subject) else { return false }
            return inode <= count.reached
        }
        if bytes < 0 || files < 0 {
            _ = table.refund(
                counted, bytes: bytes < 0 ? bytes.magnitude : 0, files: files < 0 ? files.magnitude : 0, now: now)
        }
        if bytes > 0 || files > 0 {
            table.add(counted, bytes: UInt64(max(bytes, 0)), files: UInt64(max(files, 0)), now: now)
        }
    }

    /// The file has another size now.
    mutating func resized(_ request: Request, _ file: FileID, _ subjects: [QuotaSubject], from: UInt64, to: UInt64) {
        held[file]?.size = to
        add(request, subjects, of: file.inode, bytes: Int64(clamping: to) - Int64(clamping: from), files: 0)
    }

    func owners(_ file: Attributes) -> [QuotaSubject] { [.user(file.uid), .group(file.gid)] }

    /// A name went from a directory, perhaps with the file. `home`: where its bytes counted.
    mutating func lost(
        _ request: Request, _ file: Attributes, home: Whereabouts?, in directory: FileID,
        _ name: UnsafeRawBufferPointer, places: [QuotaSubject], left: Attributes
    ) {
        let bytes = Int64(clamping: bytes(file))
        let isHome = home?.directory == directory && home?.name.elementsEqual(name) == true
        let inode = file.file.inode
        add(request, places, of: inode, bytes: 0, files: -1)
        if left.links == 0 || file.type == .directory {
            add(request, places, of: inode, bytes: -bytes, files: 0)
            add(request, owners(file), of: inode, bytes: -bytes, files: -1)
            held[file.file]?.size = 0
            if file.type == .directory { placesAbove[file.file] = nil }
        } else if isHome {
            add(request, places, of: inode, bytes: -bytes, files: 0)
            do throws(Halt) {
                guard let home = try self.home(request, left) else { return }
                add(request, try self.places(request, home.directory) ?? [], of: inode, bytes: bytes, files: 0)
            } catch {
                // What is done is done: where the bytes count now is not known, so all trees are counted anew.
                for subject in table.all.keys { if case .tree = subject { uncounted.insert(subject) } }
                if table[.volume] != nil { uncounted.insert(.volume) }
            }
        }
    }
}

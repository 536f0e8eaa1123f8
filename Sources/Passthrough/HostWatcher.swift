import CShim
import Namespace
import Runtime

/// Which directories of the host are watched, for whom. No I/O.
struct WatchedDirectories {
    static let directoriesMax = 8192

    private struct Directory {
        var file: FileID
        /// Those who want to know of this directory alone.
        var observers = 0
        /// Directories above, or itself, of which all below is watched.
        var roots: Set<FileID> = []
    }

    private var byWatch: [Int32: Directory] = [:]
    private var byFile: [FileID: Int32] = [:]
    private var roots: [FileID: Int] = [:]
    /// Observers whom there was no room for: they take nobody's watch with them.
    private var refused: [FileID: Int] = [:]

    func isWatched(_ file: FileID) -> Bool { byFile[file] != nil }
    mutating func refuse(_ file: FileID) { refused[file, default: 0] += 1 }

    var count: Int { byWatch.count }
    var isFull: Bool { byWatch.count >= Self.directoriesMax }
    func file(of watch: Int32) -> FileID? { byWatch[watch]?.file }
    func roots(of watch: Int32) -> Set<FileID> { byWatch[watch]?.roots ?? [] }
    func isRoot(_ file: FileID) -> Bool { roots[file] != nil }

    /// True: all below it is to be watched from now on.
    mutating func addRoot(_ file: FileID) -> Bool {
        roots[file, default: 0] += 1
        return roots[file] == 1
    }

    mutating func add(_ watch: Int32, _ file: FileID, below root: FileID?) {
        var directory = byWatch[watch] ?? Directory(file: file)
        directory.file = file
        if let root { directory.roots.insert(root) } else { directory.observers += 1 }
        byWatch[watch] = directory
        byFile[file] = watch
    }

    /// Answers the watches that nobody needs any more.
    mutating func removeRoot(_ file: FileID) -> [Int32] {
        guard let count = roots[file] else { return [] }
        roots[file] = count > 1 ? count - 1 : nil
        guard count == 1 else { return [] }
        var idle: [Int32] = []
        for watch in Array(byWatch.keys) {
            byWatch[watch]?.roots.remove(file)
            if forgetIdle(watch) { idle.append(watch) }
        }
        return idle
    }

    mutating func remove(_ file: FileID) -> [Int32] {
        if let count = refused[file] {
            refused[file] = count > 1 ? count - 1 : nil
            return []
        }
        guard let watch = byFile[file] else { return [] }
        byWatch[watch]?.observers -= 1
        return forgetIdle(watch) ? [watch] : []
    }

    mutating func forget(_ watch: Int32) {
        guard let directory = byWatch.removeValue(forKey: watch) else { return }
        byFile[directory.file] = nil
    }

    private mutating func forgetIdle(_ watch: Int32) -> Bool {
        guard let directory = byWatch[watch], directory.observers <= 0, directory.roots.isEmpty else { return false }
        forget(watch)
        return true
    }
}

/// Tells of changes in directories of the host, by inotify.
///
/// Notices are read and looked into by the pool, one round at a time; each is told only if its directory still is where it can
/// be reached from the served one.
final class HostWatcher: Sendable {
    private struct State {
        var descriptor: Int32 = -1
        var directories = WatchedDirectories()
        var tell: (@Sendable (ForeignChange) -> Void)?
        var isReading = false
        /// What is to be watched and what no more, in the order in which it was said.
        var wishes: [Wish] = []
        var isObserving = false
    }

    private struct Wish {
        var directory: FileID
        var isRecursive: Bool
        var isOn: Bool
        /// When it was said, by the host's clock.
        var time: Int64
    }

    private let state = Guarded(State())
    private let world: World
    private let loop: EventLoop
    private static let blockBytes = 64 * 1024

    init(_ world: World) {
        self.world = world
        loop = world.loops[0]
    }

    deinit {
        let descriptor = state.withLock { $0.descriptor }
        guard descriptor >= 0 else { return }
        let loop = loop
        loop.execute {
            (loop as? EpollLoop)?.endReading(descriptor)
            shim_close(descriptor)
        }
    }

    var watched: Int { state.withLock { $0.directories.count } }

    func whenChanged(_ tell: @escaping @Sendable (ForeignChange) -> Void) { state.withLock { $0.tell = tell } }

    /// On the loop: who is told asks file systems, as nobody of the pool may.
    private func tell(_ change: ForeignChange) {
        guard let tell = state.withLock({ $0.tell }) else { return }
        loop.execute { tell(change) }
    }

    /// In the pool, one after the other: an end never overtakes its beginning.
    func observe(_ directory: FileID, isRecursive: Bool, isOn: Bool, _ host: Passthrough) {
        let wish = Wish(directory: directory, isRecursive: isRecursive, isOn: isOn, time: world.clock.wall())
        let begins = state.withLock { state in
            // What has not begun needs no end: so there are no more wishes than watches, however fast they come and go.
            let same = { (other: Wish) in other.directory == directory && other.isRecursive == isRecursive }
            if !isOn, let last = state.wishes.lastIndex(where: same), state.wishes[last].isOn {
                state.wishes.remove(at: last)
                return false
            }
            state.wishes.append(wish)
            defer { state.isObserving = true }
            return !state.isObserving
        }
        guard begins else { return }
        world.blocking.submit({ self.carryOut(host) }, then: {}, on: loop)
    }

    private func nextWish() -> Wish? {
        state.withLock { state in
            if state.wishes.isEmpty { state.isObserving = false }
            return state.wishes.isEmpty ? nil : state.wishes.removeFirst()
        }
    }

    private func carryOut(_ host: Passthrough) {
        while let wish = nextWish() {
            guard wish.isOn else {
                state.withLock { state in
                    let idle =
                        wish.isRecursive
                        ? state.directories.removeRoot(wish.directory) : state.directories.remove(wish.directory)
                    for watch in idle { shim_host_unwatch(state.descriptor, watch) }
                }
                continue
            }
            let isNew =
                !wish.isRecursive || state.withLock { $0.directories.addRoot(wish.directory) }
            guard begin(host) else {
                if !wish.isRecursive { state.withLock { $0.directories.refuse(wish.directory) } }
                tell(.overrun)
                continue
            }
            // What others changed before the watch was there is not known one by one.
            let since = wish.time - Self.clockNanoseconds
            let isLate =
                wish.isRecursive
                ? isNew && addAll(from: wish.directory, root: wish.directory, host, isNew: false, since: since)
                : add(wish.directory, below: nil, host, since: since)
            if isLate { tell(.overrun) }
        }
    }

    /// Times of files come from a clock that moves in steps.
    private static let clockNanoseconds: Int64 = 10_000_000

    /// False: the system has no notices to give.
    private func begin(_ host: Passthrough) -> Bool {
        let (descriptor, isNew) = state.withLock { state -> (Int32, Bool) in
            if state.descriptor >= 0 { return (state.descriptor, false) }
            state.descriptor = shim_host_watcher()
            return (state.descriptor, state.descriptor >= 0)
        }
        if isNew { arm(descriptor, host) }
        return descriptor >= 0
    }

    private func arm(_ descriptor: Int32, _ host: Passthrough) {
        loop.execute { [weak self, weak host, loop] in
            guard let loop = loop as? EpollLoop else { return }
            _ = loop.whenReadable(descriptor) {
                guard let self, let host else { return }
                self.read(host)
            }
        }
    }

    /// Answers whether the directory has changed since then.
    @discardableResult
    private func add(_ directory: FileID, below root: FileID?, _ host: Passthrough, since: Int64 = .max) -> Bool {
        func find() -> Passthrough.Named? {
            try? Passthrough.settled({ () throws(Halt) in try host.directory(directory, .waiting) }).get()
        }
        let found = find()
        let isAdded = state.withLock { state -> Bool in
            // Nobody wants it any more.
            if let root, !state.directories.isRoot(root) { return true }
            if let found, state.directories.isWatched(directory) || !state.directories.isFull {
                let watch = shim_host_watch(state.descriptor, found.file.descriptor)
                if watch >= 0 {
                    state.directories.add(watch, directory, below: root)
                    return true
                }
            }
            if root == nil { state.directories.refuse(directory) }
            // One that is gone is told of by the one above it.
            return found == nil
        }
        if !isAdded { tell(.overrun) }
        guard since < .max, found != nil, let now = find() else { return false }
        return now.status.changed >= since
    }

    /// The directory and all below it. What was in new ones before they were watched is told as new. Answers whether others have
    /// changed anything since then.
    @discardableResult
    private func addAll(
        from directory: FileID, root: FileID, _ host: Passthrough, isNew: Bool, since: Int64 = .max
    ) -> Bool {
        var open = [directory]
        var isLate = false
        while let next = open.popLast() {
            let (isWanted, isFull) = state.withLock { ($0.directories.isRoot(root), $0.directories.isFull) }
            guard isWanted else { return false }
            guard !isFull else {
                tell(.overrun)
                return false
            }
            if add(next, below: root, host, since: since) { isLate = true }
            try? host.forEachEntry(of: next) { (found, name) throws(Halt) in
                let type = FileType(mode: found.status.mode)
                host.see(found, in: next, name)
                if isNew { tell(.changed(.added, Self.names(type == .directory), directory: next, name: name)) }
                if found.status.changed >= since { isLate = true }
                if type == .directory { open.append(FileID(found.status, subvolume: host.subvolume)) }
            }
        }
        return isLate
    }

    private static func names(_ isDirectory: Bool) -> WatchFilter { isDirectory ? .directoryName : .fileName }

    // MARK: Notices

    /// On the loop.
    private func read(_ host: Passthrough) {
        let descriptor = state.withLock { state -> Int32? in
            if state.isReading { return nil }
            state.isReading = true
            return state.descriptor
        }
        guard let descriptor else { return }
        // Level triggered: the loop is not to be told again and again of what the pool is about to read.
        (loop as? EpollLoop)?.endReading(descriptor)
        world.blocking.submit(
            { self.readAll(descriptor, host) },
            then: {
                self.state.withLock { $0.isReading = false }
                self.arm(descriptor, host)
            }, on: loop)
    }

    /// The kernel tells the two halves of a renaming one after the other: the second may come after the first was read.
    private static let halfMilliseconds: Int32 = 20
    /// The pool's thread is everybody's: a half that comes with each of so many blocks is the last one waited for.
    private static let blocksMax = 4

    private func readAll(_ descriptor: Int32, _ host: Passthrough) {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.blockBytes, alignment: 16)
        defer { block.deallocate() }
        var left: Departure?
        for _ in 0..<Self.blocksMax {
            let wait = left == nil ? 0 : Self.halfMilliseconds
            let count = shim_host_events(descriptor, block.baseAddress, block.count, wait)
            guard count > 0 else { break }
            look(into: UnsafeRawBufferPointer(rebasing: block[..<count]), &left, host)
            if left == nil { break }
        }
        end(&left)
    }

    /// A name that left, until it is known whether it only moved within its directory.
    private struct Departure {
        let cookie: UInt32
        let directory: FileID
        let name: [UInt8]
        let isDirectory: Bool
    }

    private func end(_ left: inout Departure?) {
        if let gone = left {
            tell(.changed(.removed, Self.names(gone.isDirectory), directory: gone.directory, name: gone.name))
        }
        left = nil
    }

    private func look(into block: UnsafeRawBufferPointer, _ left: inout Departure?, _ host: Passthrough) {
        var offset = 0
        var event = shim_host_event()
        while shim_host_next_event(block.baseAddress, block.count, &offset, &event) == 1 {
            let what = Notice(rawValue: event.what)
            if what.contains(.overrun) {
                tell(.overrun)
                continue
            }
            guard let directory = state.withLock({ $0.directories.file(of: event.watch) }) else { continue }
            if what.contains(.ended) {
                state.withLock { $0.directories.forget(event.watch) }
                tell(.ended(directory))
                continue
            }
            let name = [UInt8](String.bytes(event.name))
            guard !name.isEmpty, !Passthrough.isHidden(name) else { continue }
            guard
                case .success(let home) = Passthrough.settled({ () throws(Halt) in
                    try host.directory(directory, .waiting)
                })
            else {
                // It was moved out of what is served.
                state.withLock { state in
                    shim_host_unwatch(state.descriptor, event.watch)
                    state.directories.forget(event.watch)
                }
                tell(.ended(directory))
                continue
            }
            let isDirectory = what.contains(.directory)
            let names = Self.names(isDirectory)
            if left?.cookie != event.cookie { end(&left) }
            if what.contains(.left) {
                left = Departure(
                    cookie: event.cookie, directory: directory, name: name, isDirectory: isDirectory)
            } else if what.contains(.came), let old = left, old.directory == directory {
                tell(.changed(.renamedFrom, names, directory: directory, name: old.name))
                tell(.changed(.renamedTo, names, directory: directory, name: name))
                left = nil
            } else {
                end(&left)
                let (action, filter) = what.news(names)
                tell(.changed(action, filter, directory: directory, name: name))
            }
            guard isDirectory, !what.isDisjoint(with: [.created, .came]) else { continue }
            // What comes below a root is watched from now on.
            for root in state.withLock({ $0.directories.roots(of: event.watch) }) {
                guard
                    case .success(let found?) = Passthrough.settled({ () throws(Halt) in
                        try host.child(name, of: home.file, .waiting)
                    }), FileType(mode: found.status.mode) == .directory
                else { continue }
                host.see(found, in: directory, name)
                addAll(
                    from: FileID(found.status, subvolume: host.subvolume), root: root, host,
                    isNew: what.contains(.created))
            }
        }
    }
}

/// What the kernel says has happened.
private struct Notice: OptionSet {
    let rawValue: UInt32
    static let overrun = Notice(rawValue: UInt32(SHIM_NOTICE_OVERRUN))
    static let ended = Notice(rawValue: UInt32(SHIM_NOTICE_ENDED))
    static let created = Notice(rawValue: UInt32(SHIM_NOTICE_CREATED))
    static let removed = Notice(rawValue: UInt32(SHIM_NOTICE_REMOVED))
    static let left = Notice(rawValue: UInt32(SHIM_NOTICE_LEFT))
    static let came = Notice(rawValue: UInt32(SHIM_NOTICE_CAME))
    static let written = Notice(rawValue: UInt32(SHIM_NOTICE_WRITTEN))
    static let directory = Notice(rawValue: UInt32(SHIM_NOTICE_DIRECTORY))

    func news(_ names: WatchFilter) -> (WatchAction, WatchFilter) {
        if !isDisjoint(with: [.created, .came]) { return (.added, names) }
        if contains(.removed) { return (.removed, names) }
        if contains(.written) { return (.modified, [.size, .lastWrite]) }
        return (.modified, [.attributes, .security, .lastAccess, .extendedAttributes])
    }
}

extension Passthrough {
    public func whenChanged(_ tell: @escaping @Sendable (ForeignChange) -> Void) { watcher.whenChanged(tell) }

    public func observe(_ directory: FileID, isRecursive: Bool, isOn: Bool) {
        watcher.observe(directory, isRecursive: isRecursive, isOn: isOn, self)
    }

    /// Directories that the kernel watches for somebody.
    public var watchedDirectories: Int { watcher.watched }
}

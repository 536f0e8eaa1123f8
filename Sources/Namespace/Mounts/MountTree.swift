import Runtime
import Synchronization

/// One tree of several file systems: one at the root, others mounted on directories of it, and of each other, while it is
/// used.
///
/// Every file's identity says by its subvolume which of them has it, so a handle leads to its file whatever is mounted where.
/// What is a file system of its own stays one: names do not move from one to another, nor do hard links. A tree without mounts
/// costs each call one atomic look.
public final class MountTree: FileSystem {
    public static let mountsMax = 64
    /// Mounts have numbers of their own, which are never used again: those of the engine's subvolumes are lower.
    public static let firstSubvolume: UInt32 = 1 << 31

    public struct Mount: Sendable {
        public let fileSystem: any FileSystem
        /// The directory that it is mounted on.
        public let covered: FileID
        public let isReadOnly: Bool
        /// What is seen in its place.
        public let root: FileID
        public let number: UInt32
        /// The root is a directory that this tree has anyway.
        public let isBind: Bool
        /// A volume of the server.
        public var guest: GuestVolume?
    }

    struct Leaving: Sendable {
        let fileSystem: any FileSystem
        let newest: UInt64
    }

    public enum Fault: Error, Equatable, Sendable {
        /// The directory is the root, or a mount's root, or is mounted on already.
        case inUse
        /// A mount of this number is there already, or the number is the engine's.
        case numberTaken
        case tooMany
        case notMounted
        /// Something is mounted below it.
        case hasMounts
        /// A directory would lie below itself.
        case circle
        /// The directory is another volume's, that is mounted here.
        case notOurs
        /// This volume is mounted in another one, which does not know of mounts in it.
        case isGuest
        /// The volume has mounts of its own, or is this one.
        case guestHasMounts
    }

    struct Table: Sendable {
        var bySubvolume: [UInt32: Mount] = [:]
        var byCovered: [FileID: UInt32] = [:]
        /// Volumes that were unmounted: what is open in them, or being opened, is still closed by this way.
        var former: [UInt32: GuestVolume] = [:]
        /// File systems that were unmounted with changes that may not be safe yet: who waits for those waits for them still.
        var leaving: [Leaving] = []
        /// How many volumes this one is mounted in.
        var hosts = 0
    }

    /// A change in a mounted file system has this in its number: numbers of several file systems have no order, so who waits for
    /// one waits for all that was changed by then.
    static let foreignNumber: UInt64 = 1 << 63

    let base: any FileSystem
    /// The base, where it is the engine.
    let engine: LogFileSystem?
    let loops: [EventLoop]
    private let baseSubvolume: UInt32
    let table = Guarded(Table())
    private let isUsed = Atomic(false)
    /// Whether a volume was ever mounted.
    private let hadGuests = Atomic(false)
    private var hasGuests: Bool { hadGuests.load(ordering: .acquiring) }
    private let verifier = Atomic<UInt64>(0)
    private let told = Guarded<(@Sendable (ForeignChange) -> Void)?>(nil)
    /// Held while a directory gets another place, by a name or by a bind: so no two of them together make a circle.
    let places = Guarded(())

    /// `loops` are all those that calls come from.
    public init(_ base: any FileSystem, loops: [EventLoop] = []) {
        self.base = base
        engine = base as? LogFileSystem
        self.loops = loops
        baseSubvolume = base.root.subvolume
    }

    public var root: FileID { base.root }
    @inline(__always) var hasMounts: Bool { isUsed.load(ordering: .acquiring) }

    /// Of this tree's own calls, which it makes wherever its caller runs at the moment.
    func ownRequest(_ now: Int64) -> Request {
        Request(reader: loops.first { $0.isCurrent }?.index ?? 0, now: now)
    }

    // MARK: Mounting

    /// What lies in the directory is covered until `unmount`. The file system's identities bear its own subvolume.
    public func mount(
        _ fileSystem: any FileSystem, on directory: FileID, isReadOnly: Bool = false
    ) throws(Fault) {
        let number = fileSystem.root.subvolume
        try table.withLock { table throws(Fault) in
            guard number >= Self.firstSubvolume, number != baseSubvolume, table.bySubvolume[number] == nil else {
                throw .numberTaken
            }
            guard table.bySubvolume.count < Self.mountsMax else { throw .tooMany }
            guard table.hosts == 0 else { throw .isGuest }
            // A mount of a root would hide the way to what is mounted there; so no mount ever lies below itself.
            try requireFree(directory, table)
            table.bySubvolume[number] = Mount(
                fileSystem: fileSystem, covered: directory, isReadOnly: isReadOnly, root: fileSystem.root,
                number: number, isBind: false)
            table.byCovered[directory] = number
            isUsed.store(true, ordering: .releasing)
        }
        // Clients send again what they have not seen safe: what is here now may not be what they wrote to.
        verifier.wrappingAdd(1, ordering: .relaxed)
        if let tell = told.withLock({ $0 }) { fileSystem.whenChanged(tell) }
    }

    /// The number of a volume's own file system. Two of one server may have the same, once in a thousand million times: then
    /// neither can be mounted in the other.
    public static func number(ofVolume identity: UInt64) -> UInt32 {
        max(2, UInt32(truncatingIfNeeded: identity ^ identity >> 32) & (firstSubvolume - 1))
    }

    /// Shows a directory of another volume, `tree` being that one's. A volume that is mounted somewhere has no mounts itself, so
    /// none is ever reached through itself.
    public func mount(
        _ volume: Volume, _ tree: MountTree, root shown: FileID, on directory: FileID, isReadOnly: Bool = false
    ) throws(Fault) {
        let number = volume.root.subvolume
        guard tree !== self else { throw .guestHasMounts }
        try tree.table.withLock { table throws(Fault) in
            guard !table.bySubvolume.values.contains(where: { !$0.isBind }) else { throw .guestHasMounts }
            table.hosts += 1
        }
        do throws(Fault) {
            try table.withLock { table throws(Fault) in
                guard number < Self.firstSubvolume, number != baseSubvolume, table.bySubvolume[number] == nil else {
                    throw .numberTaken
                }
                guard table.bySubvolume.count < Self.mountsMax else { throw .tooMany }
                guard table.hosts == 0 else { throw .isGuest }
                try requireFree(directory, table)
                let guest = GuestVolume(volume, root: shown, isReadOnly: isReadOnly, after: table.former[number])
                table.bySubvolume[number] = Mount(
                    fileSystem: volume.fileSystem, covered: directory, isReadOnly: isReadOnly, root: shown,
                    number: number, isBind: false, guest: guest)
                table.byCovered[directory] = number
                table.former[number] = nil
                isUsed.store(true, ordering: .releasing)
                hadGuests.store(true, ordering: .releasing)
            }
        } catch {
            tree.table.withLock { $0.hosts -= 1 }
            throw error
        }
        verifier.wrappingAdd(1, ordering: .relaxed)
    }

    /// The volume is closed: those that were mounted in it are free to be mounted elsewhere, and to have mounts.
    func releaseGuests() {
        for mount in mounts where mount.guest != nil {
            do throws(Fault) { try unmount(mount.number) } catch { preconditionFailure("a guest has no mounts") }
        }
    }

    /// Whether this volume is mounted in another one.
    public var isGuest: Bool { table.withLock { $0.hosts > 0 } }

    public func guest(of file: FileID, orFormer: Bool) -> GuestVolume? {
        guard hasGuests else { return nil }
        return table.withLock { table in
            table.bySubvolume[file.subvolume]?.guest ?? (orFormer ? table.former[file.subvolume] : nil)
        }
    }

    public var guests: [Volume] {
        guard hasGuests else { return [] }
        return table.withLock { table in
            table.bySubvolume.values.compactMap { $0.guest?.volume } + table.former.values.map(\.volume)
        }
    }

    private func requireFree(_ directory: FileID, _ table: Table) throws(Fault) {
        if table.bySubvolume[directory.subvolume]?.guest != nil { throw .notOurs }
        guard directory != root, table.byCovered[directory] == nil,
            directory.subvolume == baseSubvolume || table.bySubvolume[directory.subvolume] != nil,
            !table.bySubvolume.values.contains(where: { $0.root == directory })
        else { throw .inUse }
    }

    /// Shows a directory of this tree in another one's place, too, which is covered until `unmount`. Its files are the same
    /// files by both ways: one identity, one set of locks, share modes, leases and watches. `number` is like a mount's.
    public func bind(
        _ target: FileID, on directory: FileID, number: UInt32, _ request: Request
    ) -> Attempt<Fault?> {
        places.withLock { _ in
            let mount = Mount(
                fileSystem: base, covered: directory, isReadOnly: false, root: target, number: number, isBind: true)
            do throws(Halt) {
                guard try !hasCircle(request, mounts + [mount]) else { return .done(.circle, number: 0) }
            } catch {
                switch error {
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                }
            }
            do throws(Fault) {
                try table.withLock { table throws(Fault) in
                    guard number >= Self.firstSubvolume, table.bySubvolume[number] == nil else { throw .numberTaken }
                    guard table.bySubvolume.count < Self.mountsMax else { throw .tooMany }
                    try requireFree(directory, table)
                    if table.bySubvolume[target.subvolume]?.guest != nil { throw .notOurs }
                    // What is seen there would be something else.
                    guard target != root, table.byCovered[target] == nil else { throw .inUse }
                    table.bySubvolume[number] = mount
                    table.byCovered[directory] = number
                    isUsed.store(true, ordering: .releasing)
                }
            } catch { return .done(error, number: 0) }
            return .done(nil, number: 0)
        }
    }

    /// Handles of files in it are stale from now on, but for those of a bind.
    @discardableResult
    public func unmount(_ subvolume: UInt32) throws(Fault) -> any FileSystem {
        let mount = try table.withLock { table throws(Fault) -> Mount in
            guard let mount = table.bySubvolume[subvolume] else { throw .notMounted }
            guard mount.isBind || !table.byCovered.keys.contains(where: { $0.subvolume == subvolume }),
                mount.isBind
                    || !table.bySubvolume.values.contains(where: { $0.isBind && $0.root.subvolume == subvolume })
            else { throw .hasMounts }
            table.bySubvolume[subvolume] = nil
            table.byCovered[mount.covered] = nil
            if let guest = mount.guest { table.former[subvolume] = guest }
            if !mount.isBind {
                table.leaving.append(Leaving(fileSystem: mount.fileSystem, newest: mount.fileSystem.newestChange))
            }
            isUsed.store(!table.bySubvolume.isEmpty, ordering: .releasing)
            return mount
        }
        if let guest = mount.guest { (guest.volume.fileSystem as? MountTree)?.table.withLock { $0.hosts -= 1 } }
        if !mount.isBind {
            verifier.wrappingAdd(1, ordering: .relaxed)
            settleLeaving(mount.fileSystem)
        }
        return mount.fileSystem
    }

    /// What was changed there before the unmounting is waited for until it is as safe as it can be.
    private func settleLeaving(_ fileSystem: any FileSystem) {
        let newest = fileSystem.newestChange
        guard newest > 0, let loop = loops.first else {
            if newest == 0 { forget(fileSystem) }
            return
        }
        // One that has failed is waited for no longer either: all other mounts would wait for it for ever.
        fileSystem.whenSettled(newest, .store, on: loop) { [weak self] _ in self?.forget(fileSystem) }
    }

    private func forget(_ fileSystem: any FileSystem) {
        table.withLock { $0.leaving.removeAll { $0.fileSystem === fileSystem } }
    }

    public var mounts: [Mount] {
        table.withLock { $0.bySubvolume.values.sorted { $0.number < $1.number } }
    }

    /// File systems other than the one at the root.
    private var mounted: [any FileSystem] { mounts.filter { !$0.isBind }.map(\.fileSystem) }

    /// What is mounted on the directory.
    func mount(on directory: FileID) -> Mount? {
        guard hasMounts else { return nil }
        return table.withLock { table in table.byCovered[directory].flatMap { table.bySubvolume[$0] } }
    }

    func mount(_ subvolume: UInt32) -> Mount? {
        guard hasMounts else { return nil }
        return table.withLock { table in table.bySubvolume[subvolume].flatMap { $0.isBind ? nil : $0 } }
    }

    func isBound(_ directory: FileID) -> Bool {
        hasMounts && table.withLock { table in table.bySubvolume.values.contains { $0.isBind && $0.root == directory } }
    }

    // MARK: Ways

    @inline(__always)
    func isBase(_ file: FileID) -> Bool { file.subvolume == baseSubvolume }

    /// Who has the file; nil: nobody by now.
    @inline(__always)
    func home(_ file: FileID) -> (any FileSystem)? {
        isBase(file) || !hasMounts ? base : mount(file.subvolume)?.fileSystem
    }

    /// A call that changes nothing, or whose number does not matter.
    @inline(__always)
    func asked<Value>(
        _ file: FileID, _ call: (any FileSystem) -> Attempt<Value>
    ) -> Attempt<Value> {
        guard let home = home(file) else { return .refused(.stale) }
        return call(home)
    }

    /// A change.
    @inline(__always)
    func changed<Value>(
        _ file: FileID, _ call: (any FileSystem) -> Attempt<Value>
    ) -> Attempt<Value> {
        if isBase(file) || !hasMounts { return call(base) }
        guard let mount = mount(file.subvolume) else { return .refused(.stale) }
        guard !mount.isReadOnly else { return .refused(.readOnly) }
        let attempt = call(mount.fileSystem)
        guard case .done(let value, let number) = attempt, number > 0 else { return attempt }
        guard isThere(mount) else { return .refused(.stale) }
        return .done(value, number: number | Self.foreignNumber)
    }

    /// Whether a change that was made is waited for. Of one that was taken away in the middle of it nobody may say that it is safe.
    func isThere(_ mount: Mount) -> Bool {
        table.withLock { $0.bySubvolume[mount.number]?.fileSystem === mount.fileSystem }
    }

    func changing(
        _ file: FileID, _ call: (any FileSystem) async throws(FileError) -> UInt64
    ) async throws(FileError) -> UInt64 {
        if isBase(file) || !hasMounts { return try await call(base) }
        guard let mount = mount(file.subvolume) else { throw .stale }
        guard !mount.isReadOnly else { throw .readOnly }
        let number = try await call(mount.fileSystem)
        guard number > 0 else { return 0 }
        guard isThere(mount) else { throw .stale }
        return number | Self.foreignNumber
    }

    /// Whether the name leads to a directory that something is mounted on, or that is bound elsewhere.
    func leadsToMount(
        _ request: Request, _ directory: FileID, _ name: UnsafeRawBufferPointer, orBind: Bool = false
    ) throws(Halt) -> Bool {
        guard hasMounts, let home = home(directory) else { return false }
        switch home.lookup(request, in: directory, name) {
        case .done(let found, _):
            return found.type == .directory && (mount(on: found.file) != nil || orBind && isBound(found.file))
        case .refused: return false
        case .lacks(let lack): throw .lacks(lack)
        }
    }

    /// A directory that gets another place.
    struct Move {
        var directory: FileID
        var above: FileID
    }

    /// Whether somebody who goes down would come to where he was, if things moved so: a bind leads into what holds another one,
    /// and so on back to the first.
    func hasCircle(_ request: Request, _ all: [Mount], _ moves: [Move] = []) throws(Halt) -> Bool {
        guard all.contains(where: \.isBind) else { return false }
        // For each, those whose roots it lies below: the way down leads from them to it.
        var above: [[Int]] = []
        for mount in all {
            var indices: [Int] = []
            var place: FileID? = mount.covered
            var steps = 0
            while let here = place, steps < Volume.trailMax {
                for (index, other) in all.enumerated() where other.isBind && other.root == here {
                    indices.append(index)
                }
                steps += 1
                if let move = moves.first(where: { $0.directory == here }) {
                    place = move.above
                } else {
                    place = here == root ? nil : try whereabouts(request, of: here).get()?.directory
                }
            }
            above.append(indices)
        }
        // What lies below nothing that is left is no part of a circle.
        var left = Set(all.indices)
        while let free = left.first(where: { above[$0].allSatisfy { !left.contains($0) } }) { left.remove(free) }
        return !left.isEmpty
    }

    // MARK: Others

    /// A guest has its own quotas and versions: here its files are counted no more than those of others.
    public func isForeign(_ file: FileID) -> Bool {
        !isBase(file) && (guest(of: file, orFormer: false) != nil || home(file)?.isForeign(file) ?? true)
    }

    public func whenChanged(_ tell: @escaping @Sendable (ForeignChange) -> Void) {
        told.withLock { $0 = tell }
        base.whenChanged(tell)
        for mount in mounts where !mount.isBind && mount.guest == nil { mount.fileSystem.whenChanged(tell) }
    }

    public func observe(_ directory: FileID, isRecursive: Bool, isOn: Bool) {
        home(directory)?.observe(directory, isRecursive: isRecursive, isOn: isOn)
    }

    // MARK: Promises

    public var newestChange: UInt64 { hasMounts ? base.newestChange | Self.foreignNumber : base.newestChange }

    public func newestChange(at file: FileID) -> UInt64 { isBase(file) ? base.newestChange : newestChange }

    public var writeVerifier: UInt64 {
        guard hasMounts else { return base.writeVerifier &+ verifier.load(ordering: .relaxed) }
        return mounted.reduce(base.writeVerifier &+ verifier.load(ordering: .relaxed)) {
            $0 &* 31 &+ $1.writeVerifier
        }
    }

    public func whenSettled(
        _ number: UInt64, _ durability: Durability, on loop: EventLoop, _ done: @escaping @Sendable (FileError?) -> Void
    ) {
        guard number & Self.foreignNumber != 0 else { return base.whenSettled(number, durability, on: loop, done) }
        var all: [(fileSystem: any FileSystem, newest: UInt64)] = ([base] + mounted).map { ($0, $0.newestChange) }
        for left in table.withLock({ $0.leaving }) where !all.contains(where: { $0.fileSystem === left.fileSystem }) {
            all.append((left.fileSystem, left.newest))
        }
        // The last one tells, and tells of the first failure.
        let rest = Guarded<(count: Int, failure: FileError?)>((all.count, nil))
        for (fileSystem, newest) in all {
            fileSystem.whenSettled(newest, durability, on: loop) { failure in
                let last = rest.withLock { rest -> (isLast: Bool, failure: FileError?) in
                    rest.count -= 1
                    rest.failure = rest.failure ?? failure
                    return (rest.count == 0, rest.failure)
                }
                if last.isLast { done(last.failure) }
            }
        }
    }
}

import Headhunter
import LogFS
import ObjectStore
import Runtime

/// Why a volume can not be served.
public enum HostingError: Error, Sendable {
    /// Another process has it.
    case inUse
    case disk(Errno, doing: String)
    case volume(VolumeError)
    /// The store can not be used as it was described.
    case store(String)
}

/// A volume of the engine, opened from its folder and closed again. Its objects are in that folder too, unless a store
/// elsewhere is connected.
///
/// ```
/// NAME/lock    held while somebody has the volume
/// NAME/log     replay log and local stage
/// NAME/store   objects
/// ```
public final class HostedVolume: Sendable {
    public let volume: Volume
    /// What is mounted in it.
    public let tree: MountTree
    let headhunter: Headhunter
    let files: LogFS
    /// Kept: the system gives it up with the process, however that ends.
    private let lock: any DiskFile
    /// The freeze that is under way.
    let freezing = Guarded<Task<HostingError?, Never>?>(nil)

    private init(
        volume: Volume, tree: MountTree, headhunter: Headhunter, files: LogFS, lock: any DiskFile
    ) {
        self.volume = volume
        self.tree = tree
        self.headhunter = headhunter
        self.files = files
        self.lock = lock
    }

    /// What was found damaged when it was opened. If that was in its log, the volume can be read only.
    public var damage: [String] { headhunter.damage }
    public var isReadOnly: Bool { headhunter.isReadOnly }

    /// The loop that the volume's own work runs on.
    public var loop: EventLoop { headhunter.loop }

    /// Of the names of a volume's objects in its store.
    public static let prefix = "volume"
    /// The parts below it in which no two servers may make the same name.
    public static let decidedKinds = Headhunter.decidedKinds
    /// The object that says whose the others are.
    public static var lastNames: [ObjectName] { Headhunter.lastNames(prefix) }

    /// Whose the objects in the store are, and its newest header's number.
    public static func whose(_ store: ObjectStore) async throws(StoreError) -> (identity: String?, header: UInt64?) {
        try await Headhunter.whose(store, prefix)
    }
    public var whose: (identity: String, header: UInt64) { headhunter.whose }

    /// Of a volume that is another server's, or a copy: what is shown of it. From any thread.
    public var shown: Headhunter.Shown? { headhunter.shown }

    /// How far its store lags. From any thread.
    public var storeLag: Headhunter.StoreLag { headhunter.storeLag }

    /// Told what the trouble is when trouble with the store or the disk begins, and nil when it is over.
    public func whenTroubled(_ changed: @escaping @Sendable (String?) -> Void) { headhunter.whenTroubled(changed) }

    /// Opens the volume in `folder`, whose parent exists, and makes an empty one when there is none. On `loop`.
    ///
    /// `isServed`: its house is kept, and opens that clients may come back for exclude others from the beginning. Who checks a
    /// volume wants neither.
    public static func open(
        _ name: String, folder: String, durability: Durability, world: World, loop: EventLoop,
        locks: ServerLocks? = nil, options: HeadhunterOptions = HeadhunterOptions(), mayMake: Bool = true,
        isServed: Bool = true, shownBytes: UInt64 = LogFileSystem.shownBytesDefault,
        connect: (@Sendable () async throws(HostingError) -> ObjectStore)? = nil
    ) async throws(HostingError) -> HostedVolume {
        let disk = world.disk
        let locked: Result<any DiskFile, HostingError> = await world.blocking.run(on: loop) { () throws(Never) in
            do throws(Errno) {
                for path in [folder, folder + "/log"] {
                    do throws(Errno) { try disk.makeDirectory(path) } catch .exists {}
                }
                try disk.syncDirectory(folder)
                // The entry of the folder itself, which may be as new.
                try disk.syncDirectory(String(folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)]))
                let lock = try disk.open(folder + "/lock", [.write, .create])
                return try lock.tryLock() ? .success(lock) : .failure(.inUse)
            } catch {
                return .failure(.disk(error, doing: "making the folder \(folder)"))
            }
        }
        let lock = try locked.get()
        let store =
            if let connect { try await connect() } else { try await directory(folder, world: world, loop: loop) }
        let capabilities = store.capabilities
        guard options.follows || !options.logIsInStore || capabilities.decides else {
            throw .store(
                "a log in the store needs one that creates objects conditionally: proxyfs store check says more")
        }
        guard options.leaseNanoseconds == 0 || capabilities.decides else {
            throw .store(
                "a lease needs a store that creates objects conditionally, or an arbiter: without one it proves nothing"
            )
        }
        // A log without its volume means that this is not the place where the volume is.
        let place: Result<Bool, HostingError> = await world.blocking.run(on: loop) { () throws(Never) in
            do throws(Errno) { _ = try disk.status(folder + "/log/place") } catch {
                // Whoever can not look does not know that there is none.
                return error == .noEntry ? .success(true) : .failure(.disk(error, doing: "reading \(folder)/log/place"))
            }
            return .success(false)
        }
        let isNew = try place.get()
        do throws(VolumeError) {
            let headhunter: Headhunter
            do throws(VolumeError) {
                headhunter = try await Headhunter.open(
                    world: world, loop: loop, store: store, prefix: prefix, directory: folder + "/log", options: options
                )
            } catch .noVolume where isNew && mayMake {
                try await Headhunter.create(world: world, store: store, prefix: prefix)
                headhunter = try await Headhunter.open(
                    world: world, loop: loop, store: store, prefix: prefix, directory: folder + "/log", options: options
                )
            } catch .damaged where !options.isReadOnly && !options.follows {
                // What is not damaged can be read.
                var looking = options
                looking.isReadOnly = true
                looking.looksForOwner = isServed
                headhunter = try await Headhunter.open(
                    world: world, loop: loop, store: store, prefix: prefix, directory: folder + "/log", options: looking
                )
            }
            let files: LogFS
            do throws(Failure) {
                files = try await LogFS.open(headhunter, world: world, subvolume: 1)
            } catch {
                // What there is of it is not to go on behind a lock that was let go. A store that is away is not waited for.
                if case .volume(.unavailable) = error { headhunter.abandon() } else { try? await headhunter.close() }
                if options.follows, case .volume(.readOnly) = error {
                    throw VolumeError.unavailable("its owner has made it, and has not brought a file to the store yet")
                }
                throw Self.volumeError(error)
            }
            if options.follows {
                headhunter.whenMoved { [weak files] in await files?.moved() }
            } else if isServed {
                files.start()
            }
            let identity = headhunter.volume.high ^ headhunter.volume.low
            let tree = MountTree(
                LogFileSystem(
                    files, world: world, number: MountTree.number(ofVolume: identity), shownBytes: shownBytes),
                loops: world.loops)
            let volume = Volume(
                name, identity: identity,
                tree, durability: durability, clock: world.clock, random: world.random,
                locks: locks, loops: world.loops)
            volume.isReadOnly = headhunter.isReadOnly
            volume.follows = options.follows
            if isServed, !headhunter.isReadOnly {
                do throws(FileError) { try await volume.restoreOpens(on: loop) } catch {
                    headhunter.abandon()
                    try? await files.stop()
                    throw VolumeError.unavailable("what was open in it can not be read: \(error)")
                }
            }
            return HostedVolume(volume: volume, tree: tree, headhunter: headhunter, files: files, lock: lock)
        } catch { throw .volume(error) }
    }

    static func directory(
        _ folder: String, world: World, loop: EventLoop
    ) async throws(HostingError) -> ObjectStore {
        do throws(Errno) {
            let transport = try await DirectoryStore.open(world: world, loop: loop, root: folder + "/store")
            return ObjectStore(transport, world: world, loop: loop)
        } catch { throw .disk(error, doing: "opening the store \(folder)/store") }
    }

    static func volumeError(_ failure: Failure) -> VolumeError {
        switch failure {
        case .volume(let error): error
        case .file(let error): .damaged("opening the subvolume: \(error)")
        }
    }

    /// Brings everything to the store. Nobody calls the volume any more. On the volume's loop.
    public func close() async throws(HostingError) {
        headhunter.leaveService()
        headhunter.release()
        tree.releaseGuests()
        // A file that can not be flushed keeps none of the others from the store.
        var failure: HostingError?
        do throws(Failure) { try await files.stop() } catch { failure = .volume(Self.volumeError(error)) }
        do throws(VolumeError) { try await headhunter.close() } catch {
            // Before all else: whose it is.
            if failure == nil || error == .fenced { failure = .volume(error) }
        }
        if let failure { throw failure }
    }

    /// Calls `told` once, on the volume's loop, when another server has taken the volume over.
    public func whenOvertaken(_ told: @escaping @Sendable () -> Void) { headhunter.whenOvertaken(told) }

    /// Asks the store whether another server has it. On the volume's loop.
    public func confirm() async throws(HostingError) {
        do throws(VolumeError) { try await headhunter.confirm() } catch { throw .volume(error) }
    }

    /// Whether its lease holds; without one, or with one that holds, it is answered for.
    public var mayAnswer: Bool { headhunter.mayAnswer }
    /// It was taken over from a server that keeps no lease, and may be answering still.
    public var ownerBeforeMayAnswer: Bool { headhunter.ownerBeforeMayAnswer }

    /// Gives up what is another server's: nothing more is brought anywhere, and the folder is free when this returns. On the
    /// volume's loop.
    public func giveUp() async {
        headhunter.abandon()
        headhunter.release()
        tree.releaseGuests()
        // What can not be flushed any more is nobody's.
        try? await files.stop()
        await headhunter.settled()
        lock.close()
    }
}

import ObjectStore
import Runtime

/// What a reader of somebody else's volume knows. On the volume's loop.
struct Following {
    /// It goes on to newer states by itself.
    var isOn = false
    /// Segments below it were seen in the store.
    var segmentsFrom: UInt64 = 0
    var looks: UInt64 = 0
    /// Under way; true: another header is shown than before.
    var look: Task<Bool, Never>?
    /// Segments of which the header alone tells what they hold, being read.
    var settling: [UInt64: Task<VolumeError?, Never>] = [:]
    var trying = Trying()
    /// Told when another state is shown.
    var moved: (@Sendable () async -> Void)?
    /// It is being told, and whether there is something that it has not been told of.
    var isTelling = false
    var hasMoved = false
}

/// Reading a volume that another server owns, or a copy of one. On the volume's loop.
///
/// What is shown is what one header says whose objects are all there: a state that the owner had, and never an older one than before. Nothing
/// keeps the owner from deleting what that header names and newer ones do not: who meets this goes on to the newest one, and looks again.
extension Headhunter {
    /// Headers that are tried, from the newest one on.
    private static let headersMax = 16
    private static let opensMax = 4
    /// Every so many looks one goes beyond the next number: a listing tells of an owner that was faster.
    private static let farLook: UInt64 = 5
    /// More objects than these are looked for by a listing first.
    private static let askedMax = 16

    /// What is shown, and since when that is known.
    public struct Shown: Sendable {
        public var header: UInt64
        /// By the owner's clock, nanoseconds since 1970.
        public var made: Int64
        /// Since a look at the store that found nothing newer.
        public var age: UInt64
    }

    /// Nil: this is no reader of somebody else's volume. From any thread.
    public var shown: Shown? {
        guard var shown = shownHeader.withLock({ $0 }) else { return nil }
        let now = world.clock.monotonic()
        shown.age = now - min(shown.age, now)
        return shown
    }

    private func tellShown(_ header: CheckpointHeader, seen: UInt64) {
        shownHeader.withLock { $0 = Shown(header: header.number, made: header.wall, age: seen) }
    }

    /// Told, on the volume's loop, when what is shown is another state than before.
    public func whenMoved(_ moved: @escaping @Sendable () async -> Void) {
        following.moved = moved
        if following.hasMoved { tellMoved() }
    }

    /// Beside the looks: whoever is told reads of the new state, and may need a look himself.
    private func tellMoved() {
        following.hasMoved = true
        guard !following.isTelling, let moved = following.moved else { return }
        following.isTelling = true
        loop.task {
            while self.following.hasMoved {
                self.following.hasMoved = false
                await moved()
            }
            self.following.isTelling = false
        }
    }

    // MARK: Opening

    static func follow(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ options: HeadhunterOptions
    ) async throws(VolumeError) -> Headhunter {
        var options = options
        (options.isReadOnly, options.leaseNanoseconds) = (true, 0)
        var failure = VolumeError.noVolume
        for _ in 0..<opensMax {
            let start = world.clock.monotonic()
            for (number, name) in try await headers(store, prefix, from: 0) {
                do throws(VolumeError) {
                    let header = try await readHeader(store, prefix, number, name)
                    let headhunter = reader(world, loop, store, prefix, directory, options, header)
                    try await headhunter.requireWhole(besides: [:])
                    headhunter.tellShown(header, seen: start)
                    headhunter.following.isOn = options.followNanoseconds > 0
                    if headhunter.following.isOn { headhunter.followOn() }
                    return headhunter
                } catch {
                    // An owner deletes what it does not need; of a copy the rest may be on its way.
                    guard case .damaged = error else { throw error }
                    failure = error
                }
            }
            guard case .damaged = failure else { throw failure }
        }
        throw .unavailable("no header has all its objects: \(words(failure)); is this a copy that is not complete yet?")
    }

    private static func reader(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ options: HeadhunterOptions, _ header: CheckpointHeader
    ) -> Headhunter {
        // No change here has a number: whoever keeps what he has seen until the next one keeps nothing.
        let log = ReplayLog(
            world: world, loop: loop, directory: directory, volume: header.volume, epoch: header.epoch, sequence: 1,
            next: 1, chain: 0, files: [], reserveBytes: options.logReserveBytes)
        let headhunter = Headhunter(
            world: world, loop: loop, store: store, prefix: prefix, options: options, header: header, log: log,
            overlay: nil, logBytes: 0, stageDirectory: stageDirectory(directory), place: .max)
        let failure = VolumeError.readOnly("the volume is another server's, or a copy")
        headhunter.checkpoints.failure = failure
        headhunter.fail(failure)
        return headhunter
    }

    /// The newest headers from number `from` on, newest first. Behind an arbiter each is stored as `NAME.TOKEN`, and a copy of that store has no
    /// arbiter: of a number with several tokens nobody knows which one counts.
    private static func headers(
        _ store: ObjectStore, _ prefix: String, from first: UInt64
    ) async throws(VolumeError) -> [(number: UInt64, name: ObjectName)] {
        let start = ObjectNaming.prefix(prefix, ObjectNaming.header)
        var found: [UInt64: [ObjectName]] = [:]
        do throws(StoreError) {
            for name in try await store.names(prefix: start) {
                let parts = name.text.dropFirst(start.count).split(separator: ".", maxSplits: 1)
                guard let digits = parts.first, let number = ObjectNaming.number(digits), number >= first else {
                    continue
                }
                found[number, default: []].append(name)
            }
            if !store.capabilities.listsConsistently {
                var next = max(found.keys.max() ?? 0, first, 1)
                if let hint = try await hint(store, prefix), hint > next + 1 { next = hint - 1 }
                var misses = 0
                while misses < 2, next < CheckpointHeader.numberMax {
                    let name = ObjectNaming.name(prefix, ObjectNaming.header, next)
                    if try await store.head(name) != nil {
                        found[next] = [name]
                        misses = 0
                    } else {
                        misses += 1
                    }
                    next += 1
                }
            }
        } catch { throw volumeError(error, "looking for the volume \(prefix)") }
        return found.keys.sorted(by: >).prefix(headersMax).compactMap { number in
            guard let names = found[number], names.count == 1 else { return nil }
            return (number, names[0])
        }
    }

    // MARK: Whether all is there

    /// Throws `.damaged` with what is not. `known`: metadata objects that were seen.
    private func requireWhole(besides known: [UInt64: CheckpointHeader.MetadataObject]) async throws(VolumeError) {
        let metadata = checkpoints.header.objects.map(\.number).filter { known[$0] == nil }
        try await require(metadata, ObjectNaming.metadata)
        // Segments get rising numbers, and a header names all that were begun before the next one's first.
        var named: [UInt64] = []
        var from = following.segmentsFrom
        while true {
            let start = from
            let part = try await read { (view) throws(Missing) -> (named: [UInt64], last: UInt64)? in
                let found = try SegmentTable.marked(
                    view, SegmentTable.recordTag, from: start, limit: Self.segmentsSlice)
                guard let last = found.last else { return nil }
                var live: [UInt64] = []
                for segment in found {
                    if let record = try SegmentTable.read(view, segment), record.live > 0 { live.append(segment) }
                }
                return (live, last)
            }
            guard let part else { break }
            named += part.named
            // Numbers of objects end long before.
            guard part.last < CheckpointHeader.numberMax else {
                throw .damaged("header \(checkpoints.header.number) names segment \(part.last)")
            }
            from = part.last + 1
        }
        try await require(named, ObjectNaming.segment)
        following.segmentsFrom = from
    }

    private static let segmentsSlice = 64

    /// The newest header of a volume that is to be taken over, `found` or a later one. Who goes on from one that is not whole deletes what
    /// alone is: the objects of the header before.
    static func whole(
        _ world: World, _ loop: EventLoop, _ store: ObjectStore, _ prefix: String, _ directory: String,
        _ options: HeadhunterOptions, _ found: CheckpointHeader
    ) async throws(VolumeError) -> CheckpointHeader {
        var looking = options
        (looking.isReadOnly, looking.follows, looking.leaseNanoseconds) = (true, true, 0)
        (looking.cacheBytes, looking.dataCacheBytes) = (0, 0)
        var newest = found
        for _ in 0..<opensMax {
            let probe = reader(world, loop, store, prefix, directory, looking, newest)
            do throws(VolumeError) {
                try await probe.requireWhole(besides: [:])
                return newest
            } catch {
                guard case .damaged(let why) = error else { throw error }
                let before = newest.number
                newest = try await newestOf(store, prefix)
                // A live owner deletes what it does not need any more.
                guard newest.number == before else { continue }
                throw .unavailable(
                    "its newest header is not whole: \(why). Of a copy the rest may be on its way; read_only shows the newest state that is whole"
                )
            }
        }
        throw .unavailable("the owner of the volume \(prefix) goes on writing headers")
    }

    private func require(_ numbers: [UInt64], _ kind: String) async throws(VolumeError) {
        var absent = Set(numbers)
        if absent.count > Self.askedMax {
            do throws(StoreError) {
                for name in try await store.names(prefix: ObjectNaming.prefix(prefix, kind)) {
                    if let number = ObjectNaming.number(name, prefix, kind) { absent.remove(number) }
                }
            } catch { throw Self.volumeError(error, "looking for what header \(checkpoints.header.number) names") }
        }
        // A listing may not show what is there.
        absent.subtract(try await Self.stored(store, prefix, absent, kind: kind))
        guard let one = absent.min() else { return }
        throw .damaged("\(objectName(kind, one)) of header \(checkpoints.header.number) is missing")
    }

    // MARK: Going on

    private func followOn() {
        _ = loop.schedule(after: options.followNanoseconds) { [weak self] in
            guard let self, !self.checkpoints.isClosing else { return }
            self.loop.task {
                self.following.looks += 1
                _ = await self.goOn(isFar: self.following.looks % Self.farLook == 0)
                self.followOn()
            }
        }
    }

    /// Shows the newest state that there is, after something of the one that is shown was missing. True: it is another one.
    package func catchUp() async -> Bool {
        guard following.isOn else { return false }
        let before = checkpoints.header.number
        return await goOn(isFar: true) || checkpoints.header.number != before
    }

    private func goOn(isFar: Bool) async -> Bool {
        while let look = following.look {
            if await look.value { return true }
            // One that began before the question came may have looked too early.
            if !isFar { return false }
        }
        let look = loop.task { () async -> Bool in
            let hasMoved = await self.lookForNewer(isFar)
            self.following.look = nil
            return hasMoved
        }
        following.look = look
        return await look.value
    }

    private func lookForNewer(_ isFar: Bool) async -> Bool {
        do throws(VolumeError) {
            let hasMoved = try await showNewer(isFar)
            ease(&following.trying)
            return hasMoved
        } catch {
            // What was shown before stays.
            note(Self.words(error), &following.trying)
            return false
        }
    }

    private func showNewer(_ isFar: Bool) async throws(VolumeError) -> Bool {
        let start = world.clock.monotonic()
        let now = checkpoints.header
        if !isFar {
            do throws(StoreError) {
                guard try await store.head(objectName(ObjectNaming.header, now.number + 1)) != nil else { return false }
            } catch { throw Self.volumeError(error, "looking for a newer header") }
        }
        let found = try await Self.headers(store, prefix, from: now.number)
        if found.isEmpty, store.capabilities.listsConsistently {
            throw .unavailable("header \(now.number) is gone and there is no newer one: was the volume deleted?")
        }
        var failure: VolumeError?
        for (number, name) in found where number > now.number {
            do throws(VolumeError) {
                let header = try await Self.readHeader(store, prefix, number, name)
                guard header.volume == volume else { throw .unavailable("another volume was made in its place") }
                let probe = Self.reader(world, loop, store, prefix, stageDirectory, probing, header)
                probe.following.segmentsFrom = following.segmentsFrom
                try await probe.requireWhole(besides: checkpoints.objects)
                show(header)
                following.segmentsFrom = probe.following.segmentsFrom
                tellShown(header, seen: start)
                tellMoved()
                return true
            } catch {
                guard case .damaged = error else { throw error }
                failure = failure ?? error
            }
        }
        if let failure { throw .unavailable("header \(found[0].number) is not shown yet: \(Self.words(failure))") }
        tellShown(now, seen: start)
        return false
    }

    /// Of who reads a header's table of segments, and no more.
    private var probing: HeadhunterOptions {
        var options = options
        (options.cacheBytes, options.dataCacheBytes) = (0, 0)
        return options
    }

    /// All at once: whoever reads sees the one state or the other.
    private func show(_ header: CheckpointHeader) {
        gate.enterWrite()
        for case .some(let tree) in trees where !tree.root.isStored { cache.release(tree.root.frame) }
        // A frame that stays would be taken for a node that the trees lead to.
        cache.forgetClean()
        trees = []
        plant(header.trees)
        changes &+= 1
        gate.leaveWrite()
        checkpoints.header = header
        checkpoints.objects = [:]
        for object in header.objects { checkpoints.objects[object.number] = object }
        data.unsealed = data.unsealed.filter { entry in header.staged.contains { $0.segment == entry.key } }
        gone.removeAll()
    }

    // MARK: Segments whose sums are the header's

    /// Learns what such a segment holds before bytes of it are read.
    func settleStaged(_ segment: UInt64) async throws(VolumeError) {
        guard options.follows, data.unsealed[segment] == nil,
            let staged = checkpoints.header.staged.first(where: { $0.segment == segment })
        else { return }
        let isKnown = try await read { (view) throws(Missing) -> Bool in
            try SegmentTable.read(view, segment).map { $0.size > 0 } ?? false
        }
        guard !isKnown else { return }
        let task =
            following.settling[segment]
            ?? loop.task { () async -> VolumeError? in
                defer { self.following.settling[segment] = nil }
                do throws(VolumeError) { try await self.settle(segment, [], staged) } catch { return error }
                return nil
            }
        following.settling[segment] = task
        if let failure = await task.value { throw failure }
    }
}

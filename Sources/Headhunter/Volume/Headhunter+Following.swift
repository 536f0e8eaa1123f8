import ObjectStore
import Runtime

/// What a reader of somebody else's volume knows. On the volume's loop.
struct Following {
    enum Look: Sendable {
        /// Another header is shown than before.
        case moved
        case nothingNewer
        /// There is one, and not all that it names.
        case notWhole(VolumeError)
        case failed(VolumeError)
    }

    /// It goes on to newer states by itself.
    var isOn = false
    /// What of the header that is shown was seen in the store.
    var seen = Wholeness.Seen()
    /// Of newer headers, by their numbers, what was found to be missing.
    var missing: [UInt64: ObjectName] = [:]
    /// By the clock; those that somebody waits for come besides.
    var looks: UInt64 = 0
    /// Under way.
    var look: Task<Look, Never>?
    /// Looks that have begun, and whether the last of them went beyond the next number.
    var begun: UInt64 = 0
    var isFar = false
    /// Until the next one by the clock, while what is newer is not whole.
    var pause: UInt64 = 0
    /// Segments of which bytes are wrong, and no newer state was found: of the header that is shown. Believed for some time: the object of a
    /// copy may come, or come again, and a look may have failed.
    var wrong: [UInt64: (error: VolumeError, until: UInt64)] = [:]
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
    /// A copy may lack something for hours.
    private static let pauseMax: UInt64 = 16_000_000_000
    private static let wrongMax = 1_024
    private static let wrongNanoseconds: UInt64 = 16_000_000_000
    /// So long the store is not asked again for what is wrong after a look that failed.
    private static let failedNanoseconds: UInt64 = 2_000_000_000

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
                    let seen = try await Wholeness(store, prefix, header).require()
                    let headhunter = reader(world, loop, store, prefix, directory, options, header)
                    headhunter.following.seen = seen
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
            next: 1, chain: 0, files: [], reserveBytes: options.logReserveBytes, pushBytes: options.logPushBytes)
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

    /// The newest header of a volume that is to be taken over, `found` or a later one. Who goes on from one that is not whole deletes what
    /// alone is: the objects of the header before.
    static func whole(
        _ store: ObjectStore, _ prefix: String, _ found: CheckpointHeader
    ) async throws(VolumeError) -> CheckpointHeader {
        var newest = found
        for _ in 0..<opensMax {
            do throws(VolumeError) {
                _ = try await Wholeness(store, prefix, newest).require()
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

    // MARK: Going on

    private func followOn() {
        _ = loop.schedule(after: max(options.followNanoseconds, following.pause)) { [weak self] in
            guard let self, !self.checkpoints.isClosing else { return }
            self.loop.task {
                self.following.looks += 1
                switch await self.goOn(isFar: self.following.looks % Self.farLook == 0) {
                case .moved, .nothingNewer: self.following.pause = 0
                case .notWhole:
                    self.following.pause = min(
                        max(self.following.pause * 2, self.options.followNanoseconds), Self.pauseMax)
                case .failed: break
                }
                self.followOn()
            }
        }
    }

    /// Shows the newest state that there is, after something of the one that is shown was missing. True: it is another one.
    package func catchUp() async throws(VolumeError) -> Bool {
        guard following.isOn else { return false }
        let before = checkpoints.header.number
        let look = await goOn(isFar: true)
        if checkpoints.header.number != before { return true }
        switch look {
        case .moved: return true
        case .nothingNewer: return false
        // What is missing may be so because there is a newer state.
        case .notWhole(let why), .failed(let why): throw why
        }
    }

    /// Of those that ask at the same time one looks, and all are answered.
    private func goOn(isFar: Bool) async -> Following.Look {
        let asked = following.begun
        while let look = following.look {
            // One that began before the question came may have looked too early.
            let isAnswer = !isFar || following.begun > asked && following.isFar
            let answer = await look.value
            if case .moved = answer { return answer }
            if isAnswer { return answer }
        }
        following.begun += 1
        following.isFar = isFar
        let look = loop.task { () async -> Following.Look in
            let answer = await self.lookForNewer(isFar)
            self.following.look = nil
            return answer
        }
        following.look = look
        return await look.value
    }

    /// What was shown before stays when this fails.
    private func lookForNewer(_ isFar: Bool) async -> Following.Look {
        let look: Following.Look
        do throws(VolumeError) { look = try await showNewer(isFar) } catch { look = .failed(error) }
        switch look {
        case .moved, .nothingNewer: ease(&following.trying)
        case .notWhole(let why), .failed(let why): note(Self.words(why), &following.trying)
        }
        return look
    }

    private func showNewer(_ isFar: Bool) async throws(VolumeError) -> Following.Look {
        let start = world.clock.monotonic()
        let now = checkpoints.header
        if !isFar {
            do throws(StoreError) {
                guard try await store.head(objectName(ObjectNaming.header, now.number + 1)) != nil else {
                    return .nothingNewer
                }
            } catch { throw Self.volumeError(error, "looking for a newer header") }
        }
        let found = try await Self.headers(store, prefix, from: now.number)
        if found.isEmpty, store.capabilities.listsConsistently {
            throw .unavailable("header \(now.number) is gone and there is no newer one: was the volume deleted?")
        }
        var failure: VolumeError?
        following.missing = following.missing.filter { entry in found.contains { $0.number == entry.key } }
        for (number, name) in found where number > now.number {
            do throws(VolumeError) {
                // While this has not come there is no use in looking for the rest.
                if let missing = following.missing[number] {
                    let isThere: Bool
                    do throws(StoreError) { isThere = try await store.head(missing) != nil } catch {
                        throw Self.volumeError(error, "looking for \(missing)")
                    }
                    guard isThere else { throw .damaged("\(missing) of header \(number) is missing") }
                    following.missing[number] = nil
                }
                let header = try await Self.readHeader(store, prefix, number, name)
                guard header.volume == volume else { throw .unavailable("another volume was made in its place") }
                let look = Wholeness(store, prefix, header, known: following.seen)
                do throws(VolumeError) { following.seen = try await look.require() } catch {
                    following.missing[number] = look.missing
                    throw error
                }
                show(header)
                tellShown(header, seen: start)
                tellMoved()
                return .moved
            } catch {
                guard case .damaged = error else { throw error }
                failure = failure ?? error
            }
        }
        if let failure {
            return .notWhole(
                .unavailable("header \(found[0].number) is not shown yet: \(Self.words(failure))"))
        }
        tellShown(now, seen: start)
        return .nothingNewer
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
        following.wrong.removeAll()
    }

    /// After bytes of a segment were wrong, or missing, to who began when `header` was shown. True: another state is.
    func hasCaughtUp(
        _ segment: UInt64, _ error: VolumeError, since header: UInt64
    ) async throws(VolumeError) -> Bool {
        guard following.isOn else { return false }
        if checkpoints.header.number != header { return true }
        try judged(segment)
        do throws(VolumeError) {
            if try await catchUp() { return true }
            judge(segment, error, for: Self.wrongNanoseconds)
            return false
        } catch {
            // Nobody knows whether it is damaged, or deleted by its owner.
            judge(segment, error, for: Self.failedNanoseconds)
            throw error
        }
    }

    /// Each read of it would look again.
    private func judge(_ segment: UInt64, _ error: VolumeError, for time: UInt64) {
        let now = world.clock.monotonic()
        if following.wrong.count >= Self.wrongMax { following.wrong = following.wrong.filter { now < $0.value.until } }
        guard following.wrong.count < Self.wrongMax else { return }
        following.wrong[segment] = (error, now + time)
    }

    private func judged(_ segment: UInt64) throws(VolumeError) {
        guard let wrong = following.wrong[segment], world.clock.monotonic() < wrong.until else { return }
        throw wrong.error
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
        try judged(segment)
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

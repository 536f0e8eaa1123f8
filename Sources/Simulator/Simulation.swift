import Runtime

/// A world made from a seed: virtual time, one thread, every event in an order that the seed decides.
///
/// The program under test gets `world` and runs on its loop; tests drive it with `run`. Time passes only when nothing
/// is left to do at the present moment. After `crash()` nothing of the old incarnation runs again: its events are
/// dropped, its disk handles answer errors; `world` is then a new one over what the disk kept.
public final class Simulation: @unchecked Sendable {
    public let seed: UInt64
    public internal(set) var counts = FaultCounts()
    public var faults: FaultMix
    /// The disk calls of this run so far.
    public internal(set) var diskCalls = 0
    /// Those among them that make a file's bytes durable.
    public internal(set) var diskSyncs = 0
    /// A crash happens at the disk call with this number.
    public var crashAtDiskCall: Int?
    /// Those among them that change what is on the disk: a crash at another one leaves what a crash at the next of these
    /// leaves.
    public internal(set) var diskChanges = 0
    public var crashAtDiskChange: Int?

    private struct Event {
        var time: UInt64
        var order: UInt64
        var incarnation: Int
        var work: Work
    }
    enum Work {
        case closure(() -> Void)
        case job(UnownedJob, SimulatedLoop)
    }

    private var heap: [Event] = []
    private var nextOrder: UInt64 = 0
    private var nextTimer: UInt64 = 0
    /// Timers that have neither fired nor been canceled.
    private var timers: Set<UInt64> = []
    private(set) var now: UInt64 = 1_000_000_000
    var wallOffset: Int64 = 1_700_000_000_000_000_000
    private(set) var incarnation = 0
    private var traceHash: UInt64 = 0xCBF2_9CE4_8422_2325
    var scheduling: Generator
    var chance: Generator
    /// Of the network alone: traffic changes nothing of what the disk does.
    var traffic: Generator
    var entropy: Generator
    private var storage: DiskState
    public private(set) var world: World
    public private(set) var loop: SimulatedLoop
    private var fabric: SimulatedFabric
    public private(set) var hasCrashed = false
    /// Events of one `run` call: more means that the program spins.
    public static let eventsMax = 50_000_000

    public init(seed: UInt64, faults: FaultMix = .none, diskBytes: UInt64 = 1 << 40) {
        self.seed = seed
        self.faults = faults
        scheduling = Generator(seed: seed, stream: "scheduling")
        chance = Generator(seed: seed, stream: "faults")
        traffic = Generator(seed: seed, stream: "network")
        entropy = Generator(seed: seed, stream: "entropy")
        storage = DiskState(capacity: diskBytes)
        let parts = SimulatedParts()
        loop = parts.loop
        fabric = parts.fabric
        world = parts.world(disk: SimulatedDisk(state: storage, incarnation: 0))
        storage.simulation = self
        parts.bind(self, incarnation: 0)
    }

    /// A world of its own that begins with what is on the other one's disk, at the time that it is there. Nothing runs
    /// in it yet.
    public convenience init(copying other: Simulation, seed: UInt64, faults: FaultMix = .none) {
        self.init(seed: seed, faults: faults)
        now = other.now
        wallOffset = other.wallOffset
        storage.copy(other.storage)
    }

    deinit { storage.erase() }

    // MARK: Driving

    /// Runs until `condition` holds (true) or nothing is left to do, the time limit is reached or a crash happened.
    @discardableResult
    public func run(for nanoseconds: UInt64 = .max, until condition: () -> Bool = { false }) -> Bool {
        let limit = now.addingReportingOverflow(nanoseconds)
        let end = limit.overflow ? UInt64.max : limit.partialValue
        var events = 0
        while !condition() {
            if hasCrashed { return false }
            if loop.io.hasWork, heap.first.map({ $0.time > now }) ?? true {
                events += 1
                precondition(events < Self.eventsMax, "the simulated program does not come to rest (seed \(seed))")
                loop.io.settle()
                continue
            }
            guard let first = heap.first, first.time <= end else {
                if end != .max { now = max(now, end) }
                return condition()
            }
            events += 1
            precondition(events < Self.eventsMax, "the simulated program does not come to rest (seed \(seed))")
            let event = pop()
            guard event.incarnation == incarnation else { continue }
            now = max(now, event.time)
            trace(1, event.time, event.order)
            switch event.work {
            case .closure(let work): work()
            case .job(let job, let loop): loop.run(job)
            }
            loop.io.settle()
        }
        return true
    }

    /// Runs a task of the program to its end and answers what it answered; nil when the world crashed or stopped first.
    public func perform<Success: Sendable>(
        for nanoseconds: UInt64 = .max, _ body: @escaping @Sendable (World) async -> Success
    ) -> Success? {
        let box = Box<Success>()
        let world = world
        loop.task { box.value = await body(world) }
        run(for: nanoseconds) { box.value != nil }
        return box.value
    }

    private final class Box<Value>: @unchecked Sendable { var value: Value? }

    // MARK: Events

    func schedule(after nanoseconds: UInt64, incarnation: Int, _ work: Work) {
        guard incarnation == self.incarnation else { return }
        let time = now.addingReportingOverflow(nanoseconds)
        push(
            Event(
                time: time.overflow ? .max : time.partialValue, order: nextOrder, incarnation: incarnation, work: work))
        nextOrder += 1
    }

    /// Also while the old program runs out: its sleepers have to wake.
    func timer(after nanoseconds: UInt64, incarnation: Int, _ work: @escaping () -> Void) -> LoopTimer {
        nextTimer += 1
        let id = nextTimer
        timers.insert(id)
        schedule(
            after: nanoseconds, incarnation: incarnation,
            .closure { [weak self] in if self?.timers.remove(id) != nil { work() } })
        return LoopTimer(id: id)
    }

    func cancel(_ timer: LoopTimer) { timers.remove(timer.id) }

    private func push(_ event: Event) {
        heap.append(event)
        var index = heap.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            guard isBefore(heap[index], heap[parent]) else { break }
            heap.swapAt(index, parent)
            index = parent
        }
    }

    private func pop() -> Event {
        let first = heap[0]
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var index = 0
            while true {
                let left = 2 * index + 1
                guard left < heap.count else { break }
                let right = left + 1
                let child = right < heap.count && isBefore(heap[right], heap[left]) ? right : left
                guard isBefore(heap[child], heap[index]) else { break }
                heap.swapAt(child, index)
                index = child
            }
        }
        return first
    }

    private func isBefore(_ a: Event, _ b: Event) -> Bool {
        a.time != b.time ? a.time < b.time : a.order < b.order
    }

    // MARK: Trace

    /// Everything that happens goes into one number: the same seed must give the same.
    public var trace: UInt64 { traceHash }

    func trace(_ kind: UInt64, _ a: UInt64, _ b: UInt64 = 0) {
        for value in [kind, a, b] {
            traceHash = (traceHash ^ value) &* 0x0000_0100_0000_01B3
            traceHash ^= traceHash >> 31
        }
    }

    // MARK: Crashes

    /// Whether the program of this incarnation may still act on the world.
    func isLive(_ incarnation: Int) -> Bool { incarnation == self.incarnation && !hasCrashed }

    /// The power goes now. What runs at this moment is inside a call of the disk or outside of the program.
    public func crash() {
        guard !hasCrashed else { return }
        hasCrashed = true
        counts.crashes += 1
        trace(2, now)
        storage.losePower()
    }

    /// Power is back: a new world over what the disk kept.
    public func restart() {
        precondition(hasCrashed, "restart without a crash")
        bury()
        start()
    }

    /// The process ends (kill -9) and another one begins: the operating system keeps what was written.
    public func killAndRestart() {
        hasCrashed = true
        storage.closeAll()
        bury()
        start()
    }

    /// Steps that the ended program may take to its end.
    private static let burialEventsMax = 200_000

    /// Lets the old program's tasks run out, so that its memory goes: every call of its world fails, and its time flies.
    /// (Were it to stand still, what repeats itself would keep all that waits longer from ever waking.) The next
    /// program begins at the moment of the end.
    private func bury() {
        breakConnections()
        let end = now
        var events = 0
        while !heap.isEmpty, events < Self.burialEventsMax {
            events += 1
            let event = pop()
            now = max(now, event.time)
            switch event.work {
            case .closure(let work): work()
            case .job(let job, let loop): loop.run(job)
            }
            loop.io.settle()
        }
        breakConnections()
        heap.removeAll()
        now = end
        incarnation += 1
    }

    /// Passes in which handlers whose connections end may still use others.
    private static let burialPassesMax = 1000

    private func breakConnections() {
        fabric.breakAll()
        var passes = 0
        while loop.io.hasWork, passes < Self.burialPassesMax {
            passes += 1
            loop.io.settle()
            fabric.breakAll()
        }
    }

    // MARK: Hosts

    /// The network as another host of this run sees it. `world.network` is that of the host `server`. All hosts live
    /// and die with the program.
    public func network(of host: String) -> any Network { SimulatedNetwork(fabric, host: fabric.host(host)) }
    /// Where a host is reached by others.
    public func address(of host: String, port: UInt16) -> SocketAddress {
        SimulatedFabric.address(fabric.host(host), port)
    }
    /// Nothing passes between two hosts until `heal`.
    public func partition(_ a: String, _ b: String) { fabric.partition(fabric.host(a), fabric.host(b), until: .max) }
    public func heal(_ a: String, _ b: String) { fabric.heal(fabric.host(a), fabric.host(b)) }

    private func start() {
        timers.removeAll()
        hasCrashed = false
        crashAtDiskCall = nil
        crashAtDiskChange = nil
        let parts = SimulatedParts()
        loop = parts.loop
        fabric = parts.fabric
        world = parts.world(disk: SimulatedDisk(state: storage, incarnation: incarnation))
        parts.bind(self, incarnation: incarnation)
    }

    /// Sets the host's clock, forwards or backwards.
    public func jumpWallClock(by nanoseconds: Int64) { wallOffset += nanoseconds }

    /// Flips one bit of a file on the disk; false when there is no such byte.
    public func flipBit(of path: String, at offset: UInt64, bit: UInt8) -> Bool {
        storage.flipBit(path, offset, bit)
    }

    /// The files below a directory, by path, with their sizes.
    public func files(below path: String) -> [(path: String, size: UInt64)] { storage.files(below: path) }
    /// Removes a file behind the program's back.
    public func destroy(_ path: String) { storage.destroy(path) }
}

/// The pieces of one incarnation's world, made before the simulation that drives them is complete.
struct SimulatedParts {
    let loop = SimulatedLoop()
    private let clock = SimulatedClock()
    private let random = SimulatedRandom()
    private let pool = SimulatedPool()
    let fabric = SimulatedFabric()

    func world(disk: SimulatedDisk) -> World {
        let network = SimulatedNetwork(fabric, host: fabric.host("server"))
        return World(clock: clock, random: random, disk: disk, network: network, blocking: pool, loops: [loop])
    }

    func bind(_ simulation: Simulation, incarnation: Int) {
        loop.bind(simulation, incarnation)
        clock.simulation = simulation
        random.simulation = simulation
        pool.bind(simulation, incarnation)
        fabric.bind(simulation, incarnation)
    }
}

public final class SimulatedLoop: EventLoop, @unchecked Sendable {
    private weak var simulation: Simulation?
    private var incarnation = 0
    /// What the loop was told to expect and has not got.
    public private(set) var expected = 0

    func bind(_ simulation: Simulation, _ incarnation: Int) {
        self.simulation = simulation
        self.incarnation = incarnation
        expected = 0
    }

    override public func expect() { expected += 1 }
    override public func expectNoMore() {
        precondition(expected > 0, "what was not expected can not be over")
        expected -= 1
    }

    override public var index: Int { 0 }
    /// There is one thread, and it is everybody's.
    override public var isCurrent: Bool { true }
    override public var now: UInt64 { simulation?.now ?? 0 }

    override public func execute(_ work: @escaping @Sendable () -> Void) {
        simulation?.schedule(after: 0, incarnation: incarnation, .closure(work))
    }

    override public func schedule(after nanoseconds: UInt64, _ work: @escaping () -> Void) -> LoopTimer {
        simulation?.timer(after: nanoseconds, incarnation: incarnation, work) ?? LoopTimer(id: 0)
    }

    override public func cancel(_ timer: LoopTimer) { simulation?.cancel(timer) }

    override public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        // A job of an incarnation that has ended never runs: its task stays where it is for ever.
        simulation?.schedule(after: 0, incarnation: incarnation, .job(job, self))
    }

    func run(_ job: UnownedJob) { job.runSynchronously(on: asUnownedTaskExecutor()) }
}

final class SimulatedClock: WorldClock, @unchecked Sendable {
    weak var simulation: Simulation?
    func monotonic() -> UInt64 { simulation?.now ?? 0 }
    func wall() -> Int64 { (simulation?.wallOffset ?? 0) + Int64(clamping: simulation?.now ?? 0) }
}

final class SimulatedRandom: RandomSource, @unchecked Sendable {
    weak var simulation: Simulation?
    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        guard let simulation else { return }
        for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: simulation.entropy.next() >> 32) }
    }
}

/// Work of the pool happens whole, at a moment that chance picks, and is told at another one.
final class SimulatedPool: BlockingPool, @unchecked Sendable {
    private weak var simulation: Simulation?
    private var incarnation = 0

    func bind(_ simulation: Simulation, _ incarnation: Int) {
        self.simulation = simulation
        self.incarnation = incarnation
    }

    func submit(
        _ work: @escaping @Sendable () -> Void, then completion: @escaping @Sendable () -> Void, on loop: EventLoop
    ) {
        guard let simulation else { return }
        var delay = 1_000 + simulation.scheduling.below(UInt64(200_000))
        if simulation.chance.once(in: simulation.faults.longDelay) {
            simulation.counts.longDelays += 1
            delay += simulation.scheduling.below(UInt64(50_000_000))
        }
        if simulation.chance.once(in: simulation.faults.clockJump) {
            simulation.counts.clockJumps += 1
            let day: Int64 = 86_400_000_000_000
            simulation.jumpWallClock(by: Int64(simulation.chance.below(UInt64(2 * day))) - day)
        }
        let back = 500 + simulation.scheduling.below(UInt64(20_000))
        let incarnation = incarnation
        simulation.schedule(
            after: delay, incarnation: incarnation,
            .closure { [weak simulation] in
                work()
                simulation?.schedule(after: back, incarnation: incarnation, .closure(completion))
            })
    }

    /// No time goes by while work runs.
    func linger(until isThere: () -> Bool) { _ = isThere() }
}

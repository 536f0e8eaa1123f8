import CShim
import Synchronization

/// Threads for calls that block, with a bounded queue in front.
public final class ThreadPool: BlockingPool {
    public static let threadsDefault = 8
    public static let queueDefault = 1024

    private let core: Core
    private let threads = Guarded<[UInt64]>([])

    /// Starts the threads.
    public init(threads count: Int = threadsDefault, queue: Int = queueDefault) throws(Errno) {
        precondition(count > 0 && queue > 0, "a pool needs a thread and a place to wait")
        core = Core(threads: count, queueMax: queue)
        for index in 0..<count {
            var id: UInt64 = 0
            let context = Unmanaged.passRetained(core)
            let started = shim_thread_start(
                "blocking \(index)",
                { context in
                    guard let context else { return }
                    Unmanaged<Core>.fromOpaque(context).takeRetainedValue().run()
                }, context.toOpaque(), &id)
            guard started == 0 else {
                context.release()
                stop()
                throw Errno(-started)
            }
            let thread = id
            threads.withLock { $0.append(thread) }
        }
    }

    deinit { core.stop() }

    public func submit(
        _ work: @escaping @Sendable () -> Void, then completion: @escaping @Sendable () -> Void, on loop: EventLoop
    ) {
        core.submit(Core.Job(work: work, completion: completion, loop: loop))
    }

    public func linger(until isThere: () -> Bool) { core.linger(until: isThere) }

    /// Runs what was submitted, then ends the threads and waits for them. What comes later is dropped: a task of a loop
    /// that still wants something from the disk ends with its process, where it waits.
    public func stop() {
        core.stop()
        let ids = threads.withLock { ids in
            defer { ids = [] }
            return ids
        }
        for id in ids { shim_thread_join(id) }
    }

    /// Apart from the pool, so that threads do not keep a dropped pool alive. Guarded by the C monitor.
    private final class Core: @unchecked Sendable {
        struct Job {
            var work: @Sendable () -> Void
            var completion: @Sendable () -> Void
            var loop: EventLoop
        }

        private let monitor: OpaquePointer
        /// One for each job, and one for each thread in the end.
        private let work: OpaquePointer
        private let threads: Int
        private let queueMax: Int
        /// Jobs that no thread has taken, for those who only ask.
        private let queued = Atomic(0)
        private var queue: [Job?] = []
        private var head = 0
        private var isStopping = false
        /// Loops that wait for room.
        private var waiting = 0

        init(threads: Int, queueMax: Int) {
            guard let monitor = shim_monitor_create(), let work = shim_semaphore_create() else {
                preconditionFailure("no memory for a monitor")
            }
            self.monitor = monitor
            self.threads = threads
            self.work = work
            self.queueMax = queueMax
        }

        deinit {
            shim_semaphore_destroy(work)
            shim_monitor_destroy(monitor)
        }

        func submit(_ job: Job) {
            shim_monitor_enter(monitor)
            while queue.count - head >= queueMax, !isStopping {
                waiting += 1
                shim_monitor_wait_room(monitor)
                waiting -= 1
            }
            guard !isStopping else { return shim_monitor_exit(monitor) }
            queue.append(job)
            queued.add(1, ordering: .releasing)
            // Outside of the lock: a thread that is woken inside would only wait for it.
            shim_monitor_exit(monitor)
            shim_semaphore_post(work)
        }

        func stop() {
            shim_monitor_enter(monitor)
            isStopping = true
            shim_monitor_broadcast(monitor)
            shim_monitor_exit(monitor)
            for _ in 0..<threads { shim_semaphore_post(work) }
        }

        func run() {
            while let job = next() {
                job.work()
                job.loop.execute(job.completion)
                // A loop that waits for this processor waits for one job, not for all there are.
                if othersWait { shim_thread_yield() }
            }
        }

        // One thread at a time waits awake, and not for long: about as long as putting it to sleep and waking it takes.
        private static let lingerNanoseconds: UInt64 = 100_000
        private let isLingering = Atomic(false)
        /// Of the one that lingers.
        private var patience = Patience()

        private var othersWait: Bool { queued.load(ordering: .acquiring) > 0 }

        func linger(until isThere: () -> Bool) {
            guard !othersWait, !isThere() else { return }
            guard isLingering.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
                return
            }
            defer { isLingering.store(false, ordering: .releasing) }
            guard patience.pays() else { return }
            let end = shim_clock_monotonic() + Self.lingerNanoseconds
            repeat {
                shim_thread_yield()
                if isThere() { return patience.ended(inVain: false) }
                if othersWait { return }
            } while shim_clock_monotonic() < end
            patience.ended(inVain: true)
        }

        private func next() -> Job? {
            shim_semaphore_wait(work)
            shim_monitor_enter(monitor)
            defer { shim_monitor_exit(monitor) }
            // Whatever was submitted has been counted, so what finds nothing is the end.
            guard head < queue.count else { return nil }
            queued.subtract(1, ordering: .releasing)
            let job = queue[head]
            queue[head] = nil
            head += 1
            if head == queue.count {
                queue.removeAll(keepingCapacity: true)
                head = 0
            } else if head >= queueMax {
                queue.removeFirst(head)
                head = 0
            }
            // For each place that one of them may take: the first may not have run yet when the next place comes.
            if waiting > 0 { shim_monitor_signal_room(monitor) }
            return job
        }
    }
}

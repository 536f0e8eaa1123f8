import CShim

/// The machine's event loop: one thread that waits in epoll.
///
/// A round is: wait; serve what is ready; fire timers; run what was handed over; settle connections (one flush for
/// all that was written). Level triggered: a short read tells that the socket is empty, so no call is spent on
/// finding out; in the steady state a message costs the same calls as edge triggering, and nothing can be missed.
public final class EpollLoop: EventLoop, @unchecked Sendable {
    /// Jobs run in one round before sockets and timers have their turn.
    public static let jobsPerRound = 1024
    /// What they hand over in turn runs in the same round as long as it is younger than this: a task that waits for one thing after
    /// another costs one round then, and one that gives way to others after much work still does.
    private static let youngNanoseconds: UInt64 = 100_000

    private let position: Int
    private let epoll: Int32
    private let wake: Int32
    private let thread = Guarded<UInt64?>(nil)
    private let mailbox = Guarded(Mailbox())

    // Confined to the thread.
    @exclusivity(unchecked) private var clock: UInt64 = shim_clock_monotonic()
    @exclusivity(unchecked) private var timers = TimerQueue()
    @exclusivity(unchecked) private var sources: [Source] = []
    @exclusivity(unchecked) private var jobs: [LoopJob] = []
    @exclusivity(unchecked) private var nextJob = 0
    private let events = UnsafeMutablePointer<shim_event>.allocate(capacity: Int(SHIM_EVENTS_MAX))

    /// What other threads are about to hand over.
    @exclusivity(unchecked) private var expected = 0
    @exclusivity(unchecked) private var patience = Patience()
    private static let awakeNanoseconds: UInt64 = 250_000
    /// Where more wait, their number makes up for what waking costs.
    private static let awakeForMax = 4

    private struct Source {
        var generation: UInt32 = 0
        var source: EventSource?
    }

    private struct Mailbox {
        var jobs: [LoopJob] = []
        /// The thread waits, or is about to: whoever clears this writes to the eventfd, once.
        var isWaiting = false
        var isStopping = false
        var isStopped = false
    }

    /// Starts the thread.
    public init(index: Int) throws(Errno) {
        position = index
        epoll = shim_epoll_create()
        guard epoll >= 0 else { throw Errno(-epoll) }
        wake = shim_eventfd()
        guard wake >= 0 else {
            shim_close(epoll)
            throw Errno(-wake)
        }
        super.init()
        let added = shim_epoll_add(epoll, wake, UInt32(SHIM_READABLE), UInt64.max)
        guard added == 0 else { throw Errno(-added) }
        var id: UInt64 = 0
        let context = Unmanaged.passRetained(self)
        let started = shim_thread_start(
            "loop \(index)",
            { context in
                guard let context else { return }
                Unmanaged<EpollLoop>.fromOpaque(context).takeRetainedValue().run()
            }, context.toOpaque(), &id)
        guard started == 0 else {
            context.release()
            throw Errno(-started)
        }
        let thread = id
        self.thread.withLock { $0 = thread }
    }

    deinit {
        shim_close(epoll)
        shim_close(wake)
        events.deallocate()
    }

    public override var index: Int { position }
    public override var isCurrent: Bool { shim_thread_mark() == Unmanaged.passUnretained(self).toOpaque() }
    public override var now: UInt64 { clock }

    public override func execute(_ work: @escaping @Sendable () -> Void) { post(.closure(work)) }

    public override func enqueue(_ job: consuming ExecutorJob) { post(.job(UnownedJob(job))) }

    public override func expect() { expected += 1 }
    public override func expectNoMore() { expected -= 1 }

    private func post(_ job: LoopJob) {
        let mustWake = mailbox.withLock { box in
            // Another loop, or a thread of the pool, may not know yet that this one has ended.
            guard !box.isStopped else { return false }
            box.jobs.append(job)
            defer { box.isWaiting = false }
            return box.isWaiting
        }
        if mustWake { shim_eventfd_signal(wake) }
    }

    public override func schedule(after nanoseconds: UInt64, _ work: @escaping () -> Void) -> LoopTimer {
        precondition(isCurrent, "timers belong to their loop")
        let (deadline, overflow) = clock.addingReportingOverflow(nanoseconds)
        return timers.add(deadline: overflow ? .max : deadline, work)
    }

    public override func cancel(_ timer: LoopTimer) {
        precondition(isCurrent, "timers belong to their loop")
        timers.cancel(timer)
    }

    /// Closes all sockets (drain the listeners first), runs what has been handed over, and what that hands over in
    /// turn, then ends the thread and waits for it. Timers are not waited for. What is handed over later is dropped. Not on
    /// the loop. Idempotent.
    public func stop() {
        precondition(!isCurrent, "a loop can not wait for itself")
        let mustWake = mailbox.withLock { box in
            box.isStopping = true
            defer { box.isWaiting = false }
            return box.isWaiting
        }
        if mustWake { shim_eventfd_signal(wake) }
        thread.withLock { thread in
            if let id = thread { shim_thread_join(id) }
            thread = nil
        }
    }

    // MARK: Sockets

    /// Tells `source` when `fd` is ready. Answers 0 or a negative error. On the loop.
    func add(_ source: EventSource, fd: Int32, interest: UInt32) -> Int32 {
        let slot = Int(fd)
        while sources.count <= slot { sources.append(Source()) }
        let result = shim_epoll_add(epoll, fd, interest, UInt64(sources[slot].generation) << 32 | UInt64(slot))
        if result == 0 { sources[slot].source = source }
        return result
    }

    func change(fd: Int32, interest: UInt32) {
        let slot = Int(fd)
        _ = shim_epoll_change(epoll, fd, interest, UInt64(sources[slot].generation) << 32 | UInt64(slot))
    }

    /// The next use of the same number has another generation: events of this batch that are still to be served
    /// can not reach it.
    func remove(fd: Int32) {
        let slot = Int(fd)
        guard slot < sources.count, sources[slot].source != nil else { return }
        sources[slot].source = nil
        sources[slot].generation &+= 1
        _ = shim_epoll_remove(epoll, fd)
    }

    // MARK: The thread

    private func run() {
        shim_thread_set_mark(Unmanaged.passUnretained(self).toOpaque())
        while true {
            let early = waitAwake()
            let count = early > 0 ? early : shim_epoll_wait(epoll, events, waitTime())
            precondition(count >= 0, "epoll_wait fails only by a bug")
            clock = shim_clock_monotonic()
            counters.rounds.add(1)
            for index in 0..<Int(count) { serve(events[index]) }
            fireTimers()
            runJobs()
            io.settle()
            if isFinished { break }
        }
        timers = TimerQueue()
        shim_thread_set_mark(nil)
    }

    /// Waking an idle processor takes a third of the time of a good disk's sync. Answers how many events there are.
    private func waitAwake() -> Int32 {
        guard expected > 0, expected <= Self.awakeForMax, patience.pays() else { return 0 }
        let end = clock + Self.awakeNanoseconds
        repeat {
            let count = shim_epoll_wait(epoll, events, 0)
            if count != 0 { return count }
            if hasMail {
                patience.ended(inVain: false)
                return 0
            }
            shim_thread_yield()
        } while shim_clock_monotonic() < end
        patience.ended(inVain: true)
        return 0
    }

    private var hasMail: Bool {
        mailbox.withLock { !$0.jobs.isEmpty || $0.isStopping } || nextJob < jobs.count || io.hasWork
    }

    private func waitTime() -> Int32 {
        let mayWait = mailbox.withLock { box in
            box.isWaiting = box.jobs.isEmpty && nextJob == jobs.count && !io.hasWork && !box.isStopping
            return box.isWaiting
        }
        guard mayWait else { return 0 }
        guard let deadline = timers.nextDeadline else { return -1 }
        let now = shim_clock_monotonic()
        guard deadline > now else { return 0 }
        // Rounded up: waking before the deadline would only wait again.
        return Int32(min((deadline - now + 999_999) / 1_000_000, 3_600_000))
    }

    @inline(__always)
    private func serve(_ event: shim_event) {
        guard event.tag != UInt64.max else { return shim_eventfd_clear(wake) }
        let slot = Int(truncatingIfNeeded: event.tag & 0xffff_ffff)
        guard sources[slot].generation == UInt32(truncatingIfNeeded: event.tag >> 32) else { return }
        sources[slot].source?.ready(event.ready)
    }

    private func fireTimers() {
        // A timer made by a timer waits for the next round, however near its deadline is.
        var rest = timers.count
        while rest > 0, let work = timers.popDue(clock) {
            work()
            rest -= 1
        }
    }

    private func runJobs() {
        var rest = Self.jobsPerRound
        repeat {
            if nextJob == jobs.count {
                jobs.removeAll(keepingCapacity: true)
                nextJob = 0
                mailbox.withLock { box in
                    box.isWaiting = false
                    swap(&box.jobs, &jobs)
                }
            }
            let count = min(jobs.count - nextJob, rest)
            guard count > 0 else { return }
            counters.jobs.add(UInt64(count))
            run(upTo: nextJob + count)
            rest -= count
        } while rest > 0 && shim_clock_monotonic() &- clock < Self.youngNanoseconds
    }

    private func run(upTo end: Int) {
        while nextJob < end {
            let job = jobs[nextJob]
            jobs[nextJob] = .done
            nextJob += 1
            switch job {
            case .closure(let work): work()
            case .job(let job): job.runSynchronously(on: asUnownedTaskExecutor())
            case .done: break
            }
        }
    }

    private var isFinished: Bool {
        guard mailbox.withLock({ $0.isStopping }) else { return false }
        // In each round: what still runs may open new ones.
        for slot in sources.indices { sources[slot].source?.loopEnds() }
        guard nextJob == jobs.count, !io.hasWork else { return false }
        return mailbox.withLock { box in
            box.isStopped = box.jobs.isEmpty
            return box.isStopped
        }
    }
}

private enum LoopJob {
    case closure(@Sendable () -> Void)
    case job(UnownedJob)
    case done
}

/// What a loop calls when a descriptor is ready. The loop keeps it from `add` to `remove`.
class EventSource {
    func ready(_ events: UInt32) { preconditionFailure("EventSource is abstract") }
    /// The loop's thread ends: let go of the descriptor.
    func loopEnds() {}
}

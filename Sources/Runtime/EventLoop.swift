/// One thread that serves many connections: readiness, timers, work handed over by other threads, and tasks.
///
/// The class is abstract. `EpollLoop` is the real one; the Simulator has one whose time is virtual. Code that is
/// given an `EventLoop` can not tell which it has.
///
/// Everything that belongs to a loop (its connections, their handlers, timers) is touched on that loop only.
open class EventLoop: TaskExecutor, @unchecked Sendable {
    public init() {}

    /// Buffers, counters and the list of connections with work left at the end of a round. On the loop only.
    package final let io = LoopIO()
    public final var counters: LoopCounters { io.counters }

    /// Position in `World.loops`; per-loop counters and reader locks are indexed by it.
    open var index: Int { abstract() }
    /// Whether the caller runs on this loop.
    open var isCurrent: Bool { abstract() }
    /// The monotonic clock, read once for each round of the loop.
    open var now: UInt64 { abstract() }

    /// Runs `work` on the loop, later, in the order of the calls. Callable from any thread.
    open func execute(_ work: @escaping @Sendable () -> Void) { abstract() }

    /// Runs `work` once, `nanoseconds` from now. On the loop only.
    open func schedule(after nanoseconds: UInt64, _ work: @escaping () -> Void) -> LoopTimer { abstract() }

    /// On the loop only. Harmless when the timer has fired already.
    open func cancel(_ timer: LoopTimer) { abstract() }

    /// Swift's concurrency hands over jobs here. Callable from any thread.
    open func enqueue(_ job: consuming ExecutorJob) { abstract() }

    /// Another thread is about to hand something over that somebody waits for: a loop that has nothing else to do may wait awake for it, for
    /// a moment. On the loop only; an `expectNoMore` follows each.
    open func expect() {}
    open func expectNoMore() {}

    private func abstract() -> Never { preconditionFailure("EventLoop is abstract") }
}

/// Names a timer of one loop. A name is never used twice, so a late cancel hits nobody else's timer.
public struct LoopTimer: Hashable, Sendable {
    public let id: UInt64
    public init(id: UInt64) { self.id = id }
}

extension EventLoop {
    /// Runs a task whose every step is on this loop, child tasks included.
    @discardableResult
    public func task<Success: Sendable>(
        _ body: @escaping @Sendable () async throws -> Success
    ) -> Task<Success, any Error> {
        Task(executorPreference: self) { try await body() }
    }

    @discardableResult
    public func task<Success: Sendable>(_ body: @escaping @Sendable () async -> Success) -> Task<Success, Never> {
        Task(executorPreference: self) { await body() }
    }

    /// Suspends the calling task for at least `nanoseconds` of this loop's time. Not cancellable: callers that
    /// can be stopped sleep in short steps or schedule a timer themselves.
    public func sleep(nanoseconds: UInt64) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            execute { _ = self.schedule(after: nanoseconds) { continuation.resume() } }
        }
    }
}
